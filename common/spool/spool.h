/*
 * spool.h - the durable spool: one LMDB environment in SPOOL-DIR, big bodies in SPOOL-DIR/big/.
 *
 * Written by the committer thread of the spooler alone (write.h), with LMDB's default, synced
 * durability; read by workers, the accountant, the CLI (this header). Keys are big-endian, so that
 * order is meaning; values are versioned byte encodings (rows.h, docs/spool-format.md). No DUPSORT, no
 * WRITEMAP. Open after fork, once in a process.
 *
 * Readers: a read transaction pins old pages, so it never lives across a return to the event loop,
 * nor over 100 ms or 1,000 rows. spool_read_begin()/spool_read_end() bracket one burst of reading;
 * every slice and struct given out is borrowed from the map and dies at spool_read_end().
 */
#ifndef SLUICE_SPOOL_SPOOL_H
#define SLUICE_SPOOL_SPOOL_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/clock.h"
#include "common/base/slice.h"
#include "common/spool/site_mode.h"

struct spool;

struct spool_options {
	const char *dir;
	uint64_t map_size; /* bytes; 0 = 1 TiB. Tests: 1 GiB (valgrind refuses more than 32 GiB) */
	bool writer; /* the spooler: makes directory and tables, checks the schema version */
	bool nosync; /* tests that prove logic, not durability */
};

/*
 * 0, or ERR_NOT_FOUND (no spool there; reader only), ERR_VERSION, ERR_PERM, ERR_FULL (no reader
 * slot), ERR_SYS/ERR_IO; *ret_error (heap, may be NULL) says what and what to do.
 */
int spool_open(const struct spool_options *o, struct spool **ret, char **ret_error)
	__attribute__((warn_unused_result));
void spool_close(struct spool *s);
const char *spool_dir(const struct spool *s);

/* Priority classes: recipient-priority 0-24, 25-49, 50-74, 75-100 → 3, 2, 1, 0. Read 8:4:2:1. */
#define SPOOL_CLASSES 4
#define SPOOL_CLASS_DEFAULT 1

/*
 * Lanes: a class and, inside it, a bucket of job names (0: no job), so that jobs take turns also where
 * their mail lies in table due.
 */
#define SPOOL_LANE_JOBS 64
uint8_t spool_job_bucket(struct slice job);
static inline uint8_t spool_lane(uint8_t class, uint8_t bucket)
{
	return (uint8_t)(class * SPOOL_LANE_JOBS + bucket);
}
static inline uint8_t spool_lane_class(uint8_t lane)
{
	return lane / SPOOL_LANE_JOBS;
}

enum spool_body_where { SPOOL_BODY_TABLE, SPOOL_BODY_BIG };

enum { /* spool_message.flags */
       SPOOL_MSG_8BITMIME = 1,
       SPOOL_MSG_SMTPUTF8 = 2,
       SPOOL_MSG_NO_DSN = 4, /* suppress-local-dsn */
       SPOOL_MSG_RET_FULL = 8, /* DSN RET=FULL; neither: system default (headers) */
       SPOOL_MSG_RET_HDRS = 16,
       SPOOL_MSG_IS_DSN = 32, /* made by us: sender is null */
};

struct spool_message {
	uint64_t id; /* msgid, never reused */
	struct slice sender; /* without <>; "" is the null sender */
	uint64_t size; /* bytes of the wire form (CRLF, dot-stuffed, without the final dot) */
	uint32_t header_size; /* of these, header with its empty line */
	msec_t received;
	struct slice source_mta; /* "helo-name (ip)" of the feeder */
	struct slice user; /* AUTH user or "" */
	struct slice job, envid; /* X-Job, X-Envid (or the MAIL ENVID= when there is no header) */
	struct slice dsn_envid; /* RFC 3461 ENVID, as received (xtext) */
	uint32_t flags;
	uint32_t recipients; /* at reception */
	uint32_t recipients_left;
	uint32_t crashes; /* workers that died with it in hand */
	enum spool_body_where body;
};

enum { /* spool_recipient.notify, RFC 3461; 0: not given */
       SPOOL_NOTIFY_NEVER = 1,
       SPOOL_NOTIFY_SUCCESS = 2,
       SPOOL_NOTIFY_FAILURE = 4,
       SPOOL_NOTIFY_DELAY = 8,
};

struct spool_recipient {
	uint64_t msgid;
	uint32_t rcpt; /* number inside the message, from 0 */
	uint32_t queue; /* queue id */
	struct slice address; /* without <> */
	struct slice orcpt; /* RFC 3461, as received; "" */
	struct slice pool; /* virtual MTA pool it was routed to, or "" */
	uint8_t notify;
	uint8_t class;
	uint8_t job; /* spool_job_bucket() of its message's job */
	bool fresh; /* in table fresh (never tried or parked), else in due */
	uint64_t arrival; /* its key in fresh */
	msec_t due; /* its key in due */
	uint32_t attempts;
	msec_t first_attempt, last_attempt; /* 0: none */
	struct slice last_reply;
	msec_t reselected; /* when it was last looked for a better member of its pool; 0: never */
	msec_t expiry; /* received + bounce-after at reception; the worker uses the present setting */
};

struct spool_queue {
	uint32_t id, vmta;
	struct slice domain; /* lower-case */
	struct slice provider; /* NAME.rollup that its domain belonged to at last, or "" */
	uint32_t day; /* when it last had mail, in days since 1970 (UTC) */
	bool paused;
};

struct spool_vmta {
	uint32_t id;
	struct slice name;
};

/* State of a site (domain or provider under one virtual MTA) that survives restarts. */
struct spool_site {
	struct site_mode mode;
	msec_t since; /* first failure of the present series */
	uint32_t retry_position; /* index into retry-after of the next failure */
	msec_t retry_at; /* 0: not in retry */
	struct slice reason; /* last error */
};

/* Mail of a queue goes through another virtual MTA. */
struct spool_reroute {
	bool loop; /* refused: it would come back */
	struct slice target; /* virtual MTA or pool */
	msec_t since;
	msec_t until; /* of a reply: then at the earliest; 0: as long as its worker says */
	struct slice why;
};

/* --- reading --- */
struct spool_read;

/* Begins (or renews) a read transaction of this thread; never two at a time in a thread. */
int spool_read_begin(struct spool *s, struct spool_read **ret) __attribute__((warn_unused_result));
void spool_read_end(struct spool_read *r); /* NULL is fine */

/* 0, ERR_NOT_FOUND, ERR_CORRUPT, ERR_VERSION. */
int spool_message_get(struct spool_read *r, uint64_t msgid, struct spool_message *ret);
int spool_recipient_get(struct spool_read *r, uint64_t msgid, uint32_t rcpt,
			struct spool_recipient *ret);
int spool_queue_get(struct spool_read *r, uint32_t queue, struct spool_queue *ret);
int spool_vmta_get(struct spool_read *r, uint32_t vmta, struct spool_vmta *ret);
/* Case does not matter, as in the configuration: one that is written otherwise keeps its mail. */
int spool_vmta_find(struct spool_read *r, struct slice name, uint32_t *ret_id);
int spool_queue_find(struct spool_read *r, uint32_t vmta, struct slice domain, uint32_t *ret_id);
int spool_site_get(struct spool_read *r, uint32_t vmta, struct slice name, struct spool_site *ret);

/*
 * Copies up to n bytes of the body (wire form) from offset to `to`; *ret_n is 0 at the end. A big body is
 * read from its file; a short file is ERR_CORRUPT.
 */
int spool_body_read(struct spool_read *r, const struct spool_message *m, uint64_t offset, void *to,
		    size_t n, size_t *ret_n);

/* Scans copy out plain values, at most max rows, from behind *pos (zeroed = from the start), and move *pos. */
struct spool_fresh_row {
	uint64_t arrival, msgid;
	uint32_t rcpt, queue;
};
struct spool_fresh_pos {
	uint64_t arrival;
	uint32_t rcpt;
	bool started;
};
size_t spool_fresh_scan(struct spool_read *r, uint32_t vmta, uint8_t class,
			struct spool_fresh_pos *pos, struct spool_fresh_row *ret, size_t max);

struct spool_due_row {
	msec_t due;
	uint64_t msgid;
	uint32_t rcpt;
};
struct spool_due_pos {
	msec_t due;
	uint64_t msgid;
	uint32_t rcpt;
	uint8_t lane; /* where spool_due_walk() is */
	bool started;
};
/* Of one lane of a queue, in order of due time, up to and including `until`. */
size_t spool_due_scan(struct spool_read *r, uint32_t queue, uint8_t lane, msec_t until,
		      struct spool_due_pos *pos, struct spool_due_row *ret, size_t max);
/* All of a queue, lane after lane. */
size_t spool_due_walk(struct spool_read *r, uint32_t queue, struct spool_due_pos *pos,
		      struct spool_due_row *ret, size_t max);
/* The first lane from *lane on that has rows, and when its first one is due. False: none. */
bool spool_due_lane(struct spool_read *r, uint32_t queue, uint8_t *lane, msec_t *ret_due);
/* When the first row of a queue is due, UINT64_MAX without one. One look for each lane in use. */
msec_t spool_due_first(struct spool_read *r, uint32_t queue);

struct spool_wake_row {
	msec_t at;
	uint32_t queue;
};
struct spool_wake_pos {
	msec_t at;
	uint32_t queue;
	bool started;
};
/* Queues of a virtual MTA that have due mail, earliest first, up to and including `until`. */
size_t spool_wake_scan(struct spool_read *r, uint32_t vmta, msec_t until,
		       struct spool_wake_pos *pos, struct spool_wake_row *ret, size_t max);
/* Time of the first wake row, or UINT64_MAX. */
msec_t spool_wake_first(struct spool_read *r, uint32_t vmta);

/* --- what the accountant and the DSN helper read --- */

/* Accounting records not yet in every file, behind *after (0 first): record = acct_record_encode() bytes. 1 = a row, 0 = end. */
int spool_outbox_next(struct spool_read *r, uint64_t *after, struct slice *ret_record);

/* Notifications to be made (spooler/dsn_row.h), behind *after (0 first). 1 = a row, 0 = end. */
int spool_dsn_next(struct spool_read *r, uint64_t *after, struct slice *ret_row);

/* A named row of table state (rows.h: STATE_*). 0 or ERR_NOT_FOUND. */
int spool_state_get(struct spool_read *r, struct slice name, struct slice *ret);
/* Walks state rows whose name begins with prefix; *name is the last name seen (copied by the caller), "" first. 1 = a row, 0 = end. */
int spool_state_next(struct spool_read *r, struct slice prefix, struct slice after,
		     struct slice *ret_name, struct slice *ret);

/* Walks of whole tables for the CLI and checks, by key; *after is the last key seen, 0 first. 1 = a row, 0 = end. */
int spool_message_next(struct spool_read *r, uint64_t *after, struct spool_message *ret);
int spool_recipient_next(struct spool_read *r, uint64_t *after_msgid, uint32_t *after_rcpt,
			 bool *started, struct spool_recipient *ret);
int spool_queue_next(struct spool_read *r, uint32_t *after, struct spool_queue *ret);
int spool_vmta_next(struct spool_read *r, uint32_t *after, struct spool_vmta *ret);
/* Recipients of one message, from number *from on; moves *from behind the one returned. 1 = a row, 0 = end. */
int spool_message_recipient(struct spool_read *r, uint64_t msgid, uint32_t *from,
			    struct spool_recipient *ret);
/* Messages of a job (exact), behind *after. 1 = a row, 0 = end. */
int spool_job_next(struct spool_read *r, struct slice job, uint64_t *after, uint64_t *ret_msgid);
/* Sites of a virtual MTA with stored state, behind name `after` ("" first; the caller keeps a copy). 1 = a row, 0 = end. */
int spool_site_next(struct spool_read *r, uint32_t vmta, struct slice after, struct slice *ret_name,
		    struct spool_site *ret);

int spool_reroute_get(struct spool_read *r, uint32_t vmta, uint32_t queue,
		      struct spool_reroute *ret);
/* Queues of a virtual MTA whose mail goes elsewhere, behind *after (0 first). 1 = a row, 0 = end. */
int spool_reroute_next(struct spool_read *r, uint32_t vmta, uint32_t *after,
		       struct spool_reroute *ret);

/* Numbers for `spool stat` and admission. */
struct spool_stat {
	uint64_t map_size, map_used; /* bytes; used = highest page */
	uint64_t reusable; /* bytes of free pages inside */
	uint64_t live_bytes; /* bodies + big files, from table state */
	uint64_t messages, recipients, fresh, due, queues, vmtas, outbox, dsns, orders;
	uint64_t disk_free; /* statvfs f_bavail */
	uint32_t readers;
};
int spool_stat(struct spool_read *r, struct spool_stat *ret);

/*
 * `spool check`: walks all tables in chunks and calls `problem` for each inconsistency (recipient
 * without message, fresh/due/wake/job row without recipient and the reverse, counts, missing bodies
 * or big files, unknown queue, codec failures). Returns the number of problems, or a negative err.
 */
long spool_check(struct spool *s, void (*problem)(const char *text, void *arg), void *arg);

#endif
