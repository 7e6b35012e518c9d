/*
 * committer.h - the committer thread: the only writer of the spool.
 *
 * It sleeps on the bell that sessions and workers ring, takes all that waits, and commits it
 * (commit.h). Once a second it frees the slots of dead readers and decides whether new mail is welcome.
 * While the disk is full, messages and orders are refused at once and outcomes are tried again every second; any
 * other failure of the spool ends the process.
 *
 * Start and stop from the main thread; committer_post() from any thread.
 */
#ifndef SLUICE_SPOOLER_COMMITTER_H
#define SLUICE_SPOOLER_COMMITTER_H

#include "spooler/commit.h"

struct committer;

struct committer_options {
	struct spool *spool;
	struct shm *shm;
	struct intake *intake; /* NULL: the committer makes its own (committer_intake()) */
	const struct conf *conf;
	uint64_t family;
	const int *bells;
	size_t bell_count;
	int bell; /* eventfd: sessions and workers */
	/* In the committer's thread; cheap. */
	void (*on_outbox)(void *arg); /* new rows for the accountant */
	void (*on_dsn)(void *arg); /* new rows for the DSN helper */
	void (*on_drained)(void *arg, uint32_t slot, uint32_t forkno);
	void (*on_bad_ring)(void *arg, uint32_t slot, uint32_t forkno, const char *why);
	void *arg;
};

/* Recovers the spool (rows of virtual MTAs, ring positions, big files without a row); does not start the thread. */
int committer_new(const struct committer_options *o, struct committer **ret,
		  char **ret_error) WARN_UNUSED;
void committer_start(struct committer *c);
struct intake *committer_intake(struct committer *c);
/* Before committer_start(), or from a job: the committer's thread only. */
struct commit *committer_engine(struct committer *c);
/* A job for the next transaction. Any thread. */
void committer_post(struct committer *c, struct commit_job *j);
/* Empties the ring of a worker that is gone, counts a crash for these messages, then calls on_drained. */
void committer_drain(struct committer *c, uint32_t slot, uint32_t forkno, const uint64_t *msgids,
		     size_t n);
/*
 * Returns when the committer uses the new configuration, and only that: the commit under way ends first, which
 * may take minutes. One call at a time, from a thread that may wait so long.
 */
void committer_set_conf(struct committer *c, const struct conf *conf);
/* All live counts are exact (some seconds after a start of a large spool). Any thread. */
bool committer_counted(const struct committer *c);
/* Commits what waits in the intake and in all rings, ends the thread. workers_gone: no worker runs any more. NULL is fine. */
void committer_stop(struct committer *c, bool workers_gone);
void committer_free(struct committer *c);

#endif
