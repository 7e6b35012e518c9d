/*
 * sources.h - the spool as the accountant and the DSN helper see it: reads of theirs are answered from
 * the spool, writes become jobs of the committer.
 */
#ifndef SLUICE_SPOOLER_SOURCES_H
#define SLUICE_SPOOLER_SOURCES_H

#include "spooler/accountant.h"
#include "spooler/committer.h"
#include "spooler/dsn.h"

struct sources {
	struct spool *spool;
	struct committer *committer;
};

/* s must live as long as the helper that uses it. */
struct accountant_source sources_accountant(struct sources *s);
struct dsn_source sources_dsn(struct sources *s);

#endif
