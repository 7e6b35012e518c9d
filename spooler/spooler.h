/*
 * spooler.h - the spooler process: SMTP in, the committer, the accountant.
 *
 * Threads: main (control socket, orders, DSN building may be a helper thread), session threads (one
 * loop each), committer (the only writer of the spool), accountant (files).
 */
#ifndef SLUICE_SPOOLER_SPOOLER_H
#define SLUICE_SPOOLER_SPOOLER_H

#include "common/base/heritage.h"

/* Runs until told to stop; returns the exit status. */
int spooler_main(const struct heritage *h);

#endif
