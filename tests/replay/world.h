/*
 * world.h - one worker, one committer and a real spool in virtual time.
 *
 * The worker is worker_main() of one virtual MTA, over the fakes of fake_net.h; the committer is the
 * engine of spooler/commit.h, run after each turn. What it writes into the outbox is kept as records.
 */
#ifndef SLUICE_TESTS_REPLAY_WORLD_H
#define SLUICE_TESTS_REPLAY_WORLD_H

#include "common/acct/record.h"
#include "common/base/heritage.h"
#include "common/conf/conf.h"
#include "common/shm/shm.h"
#include "common/spool/spool.h"
#include "spooler/commit.h"
#include "tests/replay/fake_net.h"

#define WORLD_PORT 25
#define WORLD_START UINT64_C(1795305600000) /* 2026-11-22 00:00 UTC */
#define MINUTE (60 * USEC_PER_SEC)
#define HOUR (60 * MINUTE)
#define DAY (24 * HOUR)

struct world_record {
	usec_t at; /* fake_elapsed() when it was committed */
	char type; /* d b t q */
	char rcpt[120], text[520], mx[80], queue[120], action[16];
	uint16_t code;
	uint8_t enhanced[3];
	uint32_t attempt;
};

struct world {
	char dir[64];
	struct conf *conf;
	struct spool *spool;
	struct commit *commit;
	struct shm *shm;
	struct heritage h;
	int control[2], death[2], bells[2], spooler_bell;
	struct commit_job *jobs;
	struct intake_message *mail;
	struct world_record *records;
	size_t record_count;
	uint64_t outbox_seen;
	uint64_t msgids;
	uint64_t conf_gen;
	bool running; /* a worker */
	const char *route; /* of new mail: "a" */
	const char *vmta; /* how the configuration writes its name */

	/* a committer that is not always there; zero: it runs after each turn and never fails */
	usec_t commit_gap, commit_next; /* at least this much between two commits */
	unsigned fail_commits; /* so many of the next ones find the disk full */
	bool fail_reads; /* the worker cannot begin to read the spool */
	unsigned
		race_percent; /* of the worker's reads: a commit just before or behind their begin */
	bool race_only; /* and no other commits */
	uint64_t *refused; /* messages without a 250 */
	size_t refused_count;
};

/* Of worlds to come. */
extern struct shm_config world_shm;

/*
 * A new world: virtual MTA "a" from 192.0.2.1, domain defaults, and `conf` behind that (more sections). Time starts at WORLD_START.
 */
void world_new(struct world *x, const char *conf);
void world_free(struct world *x);

/* One message to space-separated recipients; committed before the next turn. Returns its id. */
uint64_t world_send(struct world *x, const char *sender, const char *rcpts);
/* With job and priority class, and a body of this many bytes. */
uint64_t world_send_as(struct world *x, const char *sender, const char *rcpts, const char *job,
		       uint8_t class, size_t body);

/* Starts a worker process's life, until fake_elapsed() is this; the worker then stops as on SIGTERM. */
void world_run(struct world *x, usec_t until);
/* The same, but the worker vanishes as with SIGKILL: its ring is drained, a next run is its successor. */
void world_run_and_kill(struct world *x, usec_t until);

/* The spooler dies and its successor begins, while a worker runs or between two runs. */
void world_restart_spooler(struct world *x);

/*
 * All processes end between two runs, and a new family begins in new shared memory. clean: as on SIGTERM, else as
 * with SIGKILL.
 */
void world_restart_all(struct world *x, bool clean);

/* A reload: committer and worker (if one runs) switch to this. */
void world_reload(struct world *x, const char *conf);

/* An order of the operator, given at a time while a run is under way. */
void world_order_at(struct world *x, usec_t at, enum order_kind kind, const char *queue,
		    bool retry_recipients);

/* A move of what matches the pattern to a virtual MTA or pool. */
void world_move_at(struct world *x, usec_t at, const char *queue, const char *target);
/* Disables or enables a source address; until: wall, 0 = until it is enabled. */
void world_source_order_at(struct world *x, usec_t at, enum order_kind kind, const char *queue,
			   const char *source, msec_t until);

size_t world_count(const struct world *x, char type);
const struct world_record *world_nth(const struct world *x, char type, size_t i);
/* Records of a recipient of this type. */
size_t world_count_rcpt(const struct world *x, char type, const char *rcpt);
/* Recipients that are in the spool now. */
uint64_t world_left(struct world *x);
/* spool_check() finds nothing. */
void world_check(struct world *x);

#endif
