/*
 * commit.h - the engine of the committer: what goes into one write transaction of the spool.
 *
 * First the reports that wait in the workers' rings (at most 5,000 outcomes, round robin over the
 * slots), then messages (at most 500, 5,000 recipients or 8 MB; a larger one alone), then other work
 * (checkpoints, orders). The positions in the rings are stored in the same transaction: a report is
 * applied exactly once, whatever dies. After the sync: ring positions are published, messages handed
 * back, the workers that got mail rung.
 *
 * If anything fails, nothing of the transaction is in the spool, no position has moved, and the
 * messages are handed back with the error.
 *
 * The engine has no thread, no sleep and no clock of its own (clock.h): the committer thread runs it, and
 * replay tests do. All functions must be called by one thread.
 */
#ifndef SLUICE_SPOOLER_COMMIT_H
#define SLUICE_SPOOLER_COMMIT_H

#include "common/base/macros.h"
#include "common/conf/conf.h"
#include "common/shm/shm.h"
#include "common/spool/order.h"
#include "common/spool/spool.h"
#include "common/spool/warmup.h"
#include "spooler/accountant.h"
#include "spooler/intake.h"

struct commit;
struct spool_write;

#define COMMIT_OUTCOMES 5000
#define COMMIT_MESSAGES 500
#define COMMIT_RECIPIENTS 5000
#define COMMIT_BYTES (UINT64_C(8) << 20)

struct commit_options {
	struct spool *spool; /* opened for writing */
	struct shm *shm;
	const struct conf *conf; /* until commit_set_conf() */
	uint64_t family; /* of this master: ring positions of others are forgotten */
	const int *bells; /* eventfd by worker slot; may be NULL in tests */
	size_t bell_count;
	/*
	 * A record of a worker's ring cannot be read: keep it, say so, have the worker restarted. The record is
	 * skipped in the transaction under way.
	 */
	void (*bad_report)(void *arg, uint32_t slot, uint32_t forkno, uint64_t position,
			   uint8_t type, struct slice payload, const char *why);
	void *arg;
};

/* Reads the state of the spool. 0 or a negative err: *ret_error (heap) says what. */
int commit_new(const struct commit_options *o, struct commit **ret, char **ret_error) WARN_UNUSED;
void commit_free(struct commit *c);

/* Work of others inside the next transaction. */
struct commit_job {
	/* 0 = done, 1 = done in part: again in the next transaction, negative err = the transaction fails. */
	int (*run)(struct commit *c, struct spool_write *w, struct commit_job *j);
	/* After the sync that ended it (0). */
	void (*done)(struct commit_job *j);
	/* In its place while there is no room to write it; NULL: it waits for room. */
	void (*refuse)(struct commit_job *j);
	struct commit_job *next;
};

struct commit_result {
	unsigned messages, outcomes, reports;
	bool wrote; /* there was something to commit */
	bool outbox, dsn; /* rows for the accountant, for the DSN helper */
	bool more; /* a bound was reached: come again at once */
};

/*
 * One transaction. Takes messages from the front of *messages and runs all *jobs (both lists move). 0, or ERR_DISK_FULL, ERR_MAP_FULL:
 * nothing happened but that the messages of this batch were refused; other errors: the spool cannot be
 * used, end the process. Jobs stay in the list until they are done.
 */
int commit_batch(struct commit *c, struct intake_message **messages, struct commit_job **jobs,
		 struct commit_result *ret) WARN_UNUSED;

/* All that lies in this worker's ring has been applied (in a job: by the transaction under way). */
bool commit_slot_empty(struct commit *c, uint32_t slot, uint32_t forkno);
/* The ring of a dead worker is not looked at again until its slot has another generation. */
void commit_slot_drained(struct commit *c, uint32_t slot, uint32_t forkno);
/* Adds 1 to the crashes of this message: a worker died with it in hand. From a job. */
int commit_count_crash(struct commit *c, struct spool_write *w, uint64_t msgid);

/* Gives every virtual MTA of the configuration a row. Call after commit_new() and commit_set_conf(). */
int commit_vmtas(struct commit *c) WARN_UNUSED;
/* The last transaction of a run, when no worker runs any more: the next start knows that nothing was left to write. */
int commit_finish(struct commit *c) WARN_UNUSED;
void commit_set_conf(struct commit *c, const struct conf *conf);
/* Names of virtual MTAs that have mail and are not configured; n strings on the heap, to be freed. */
size_t commit_orphans(struct commit *c, char ***ret);

/* Whether a virtual MTA of this name is configured; the same or a pool. */
bool commit_has_vmta(const struct commit *c, struct slice name);
bool commit_has_route(const struct commit *c, struct slice name);
/* A member of a pool; texts until the callback returns. */
struct commit_pool_row {
	const char *pool, *selection, *member;
	bool daily; /* reset-count */
	uint64_t share; /* weight or count; 1 for round robin */
	uint64_t recipients; /* so far */
	uint64_t used; /* sequential: of the present turn */
	bool next; /* takes the next recipient, unless its sources are disabled */
};
/* All of the configuration. In the transaction under way (from a job). */
int commit_pools_show(struct commit *c, struct spool_write *w,
		      void (*each)(const struct commit_pool_row *row, void *arg), void *arg);
/* A pool's counts and turns begin anew. Likewise. ERR_NOT_FOUND: there is no such pool. */
int commit_pool_reset(struct commit *c, struct spool_write *w, struct slice pool);

/* --- warm-ups (commit_warmup.c), from a job --- */

struct commit_warmup_change {
	uint64_t day; /* of the schedule from now on; 0: as it is */
	bool pause, resume;
};
/* *ret_refused (heap): why nothing was changed; NULL: *ret_set is what holds now. */
int commit_warmup_set(struct commit *c, struct spool_write *w, const struct ip *ip,
		      const struct commit_warmup_change *change, struct warmup_setting *ret_set,
		      char **ret_refused) WARN_UNUSED;

/* An address at a site, as it is today. */
struct commit_warmup_state {
	const struct conf_warmup *rules;
	const char *vmta;
	struct ip ip;
	struct slice site; /* "": none yet */
	struct warmup_row row;
	struct warmup_setting set;
};
struct commit_warmup_walk {
	struct spool_key after; /* n == 0: from the first one */
	void (*each)(const struct commit_warmup_state *s, void *arg);
	void *arg;
};
#define COMMIT_WARMUP_ROWS 200
/* The next rows, at most COMMIT_WARMUP_ROWS. 1 = there may be more, 0 = that was the last, or an error. */
int commit_warmup_show(struct commit *c, struct spool_write *w,
		       struct commit_warmup_walk *walk) WARN_UNUSED;
/* All addresses that a warm-up is configured for, whether they have rows or not. */
void commit_warmup_unused(struct commit *c, struct commit_warmup_walk *walk);

/* Counts live recipients after a start, at most max rows; true when all are counted. */
bool commit_recount(struct commit *c, size_t max);
bool commit_counted(const struct commit *c);

/* Largest msgid that the spool has seen. */
uint64_t commit_last_msgid(const struct commit *c);
uint64_t commit_last_outbox(const struct commit *c);
/* After the sync that dropped the outbox up to here (0: nothing): for the counters. */
void commit_outbox_dropped(struct commit *c, uint64_t through);
uint64_t commit_live_bytes(const struct commit *c);
struct spool *commit_spool(struct commit *c);

/* --- orders (commit_orders.c) --- */

struct commit_order_result {
	int rc; /* 0 or a negative err */
	uint64_t done, held; /* recipients changed; in flight */
	uint64_t matching,
		queues; /* schedule: queues with deferred mail that match; of these, changed ones */
	uint64_t removed; /* resume: pauses */
	bool more; /* only how far it is: there is another answer to come */
};
/*
 * Takes an order in the transaction under way (call from a job). `answer` is called with `more` while it goes
 * on, after commits that changed something, and once without when it has been carried out; it must be
 * cheap. Its strings are copied.
 */
int commit_order_add(struct commit *c, struct spool_write *w, const struct order *o,
		     void (*answer)(void *arg, const struct commit_order_result *r), void *arg);
/* Somebody who waited for an answer is gone. */
void commit_order_forget(struct commit *c, void *arg);
/* Orders that wait for workers or have work left. */
bool commit_orders_pending(const struct commit *c);

#endif
