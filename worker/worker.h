/*
 * worker.h - the worker process: delivers the mail of one virtual MTA.
 *
 * Reads the spool, never writes it; its only way out is its outcome ring. See docs/architecture.md.
 */
#ifndef SLUICE_WORKER_WORKER_H
#define SLUICE_WORKER_WORKER_H

#include "common/base/heritage.h"

/* Runs until told to stop; returns the exit status. */
int worker_main(const struct heritage *h);

#endif
