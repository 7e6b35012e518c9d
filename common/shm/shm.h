/*
 * shm.h - the shared memory of a family of processes.
 *
 * Made by master (shm_new) before the first fork, mapped at the same address in every child, dies
 * with the family: a new master always makes a new one. No pointers inside, fixed sizes, C11 atomics.
 * Who writes what:
 *   worker slot: master (identity, state), its worker (heartbeat, counters, ring head)
 *   ring tail: the committer · queue slots: the committer (identity, counts), the owning worker (state)
 *   limits: any worker under one robust mutex (limits.h) · rate clocks: the same (rates.h)
 */
#ifndef SLUICE_SHM_SHM_H
#define SLUICE_SHM_SHM_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/base/clock.h"
#include "common/base/slice.h"

#define SHM_NAME_MAX 120 /* a virtual MTA's name with its NUL */

struct shm;

struct shm_config {
	uint32_t max_workers; /* worker slots, 1..65535 */
	uint64_t ring_size; /* bytes of each outcome ring, a power of two, >= 64 KiB */
	uint32_t max_live_queues; /* queue slots; rounded up to a power of two */
	uint32_t max_limits; /* entries of the limit table; 0 = 16384 */
	uint32_t max_leases; /* leases per worker; 0 = 4096 */
	uint32_t max_rates; /* rate clocks; 0 = 1048576 */
};

/* Never returns NULL; fatal() when memory cannot be had. Pages are touched only when used. */
struct shm *shm_new(const struct shm_config *c);
void shm_free(struct shm *s);
uint32_t shm_max_workers(const struct shm *s);
/* One more than the highest slot that shm_worker() was asked for: walk up to here, not to the maximum. */
uint32_t shm_workers_used(const struct shm *s);

/* --- counters: one row each; names are those of the CLI's and the metrics' --- */
#define COUNTER_LIST(X)                                                                       \
	X(RECEIVED_MESSAGES, "received_messages", "messages accepted (250 after the data)")   \
	X(RECEIVED_RECIPIENTS, "received_recipients", "recipients of accepted messages")      \
	X(RECEIVED_BYTES, "received_bytes", "bytes of accepted messages")                     \
	X(REFUSED_MESSAGES, "refused_messages", "messages refused at or after the data")      \
	X(CONNECTIONS_IN, "connections_in", "feeder connections since the start")             \
	X(CONNECTIONS_IN_OPEN, "connections_in_open", "feeder connections open now")          \
	X(DELIVERED_RECIPIENTS, "delivered_recipients", "recipients delivered")               \
	X(DELIVERED_MESSAGES, "delivered_messages", "transactions delivered")                 \
	X(DELIVERED_BYTES, "delivered_bytes", "bytes of delivered transactions")              \
	X(BOUNCED_RECIPIENTS, "bounced_recipients", "recipients bounced")                     \
	X(TRANSIENT_RECIPIENTS, "transient_recipients", "transient failures of recipients")   \
	X(CONNECTIONS_OUT, "connections_out", "connections opened to receivers")              \
	X(CONNECTIONS_OUT_OPEN, "connections_out_open", "connections to receivers open now")  \
	X(CONNECT_FAILURES, "connect_failures", "connections to receivers that failed")       \
	X(RECIPIENTS_IN_HAND, "recipients_in_hand", "recipients that workers hold in memory") \
	X(COMMITS, "commits", "spool transactions committed")                                 \
	X(COMMIT_MESSAGES, "commit_messages", "messages in these commits")                    \
	X(COMMIT_OUTCOMES, "commit_outcomes", "outcomes in these commits")                    \
	X(COMMIT_USEC, "commit_usec", "microseconds spent in these commits")                  \
	X(COMMIT_FAILURES, "commit_failures", "commits that failed and were tried again")     \
	X(QUEUED_RECIPIENTS, "queued_recipients", "recipients in the spool")                  \
	X(QUEUED_MESSAGES, "queued_messages", "messages in the spool")                        \
	X(QUEUED_BYTES, "queued_bytes", "bytes of messages in the spool")                     \
	X(ACCT_RECORDS, "acct_records", "accounting records written to files")                \
	X(ACCT_WAITING, "acct_waiting", "accounting records not yet in every file")           \
	X(DNS_QUERIES, "dns_queries", "questions sent to resolvers")                          \
	X(DNS_TIMEOUTS, "dns_timeouts", "questions that timed out")                           \
	X(DNS_FAILURES, "dns_failures", "look-ups that ended in a temporary failure")         \
	X(DNS_CACHED, "dns_cached", "answers in the cache")                                   \
	X(DNS_PENDING, "dns_pending", "look-ups in flight")                                   \
	X(DSN_SENT, "dsn_sent", "bounce messages made")

enum counter {
#define COUNTER_ENUM(id, name, help) COUNTER_##id,
	COUNTER_LIST(COUNTER_ENUM)
#undef COUNTER_ENUM
		COUNTER_COUNT
};

/* One block per process; only that process writes it (threads of the spooler may all add). */
struct shm_counters {
	_Atomic uint64_t v[COUNTER_COUNT];
};

static inline void counter_add(struct shm_counters *c, enum counter k, uint64_t n)
{
	atomic_fetch_add_explicit(&c->v[k], n, memory_order_relaxed);
}
static inline void counter_sub(struct shm_counters *c, enum counter k, uint64_t n)
{
	atomic_fetch_sub_explicit(&c->v[k], n, memory_order_relaxed);
}
static inline void counter_set(struct shm_counters *c, enum counter k, uint64_t n)
{
	atomic_store_explicit(&c->v[k], n, memory_order_relaxed);
}
const char *counter_name(enum counter k);
const char *counter_help(enum counter k);
struct shm_counters *shm_spooler_counters(struct shm *s);
struct shm_counters *shm_resolver_counters(struct shm *s);
/* Sum over spooler, resolver and all worker slots (dead ones keep their totals). */
uint64_t shm_counter_sum(const struct shm *s, enum counter k);

/* --- flags and numbers that processes watch --- */
struct shm_signals {
	_Atomic uint64_t
		order_seq; /* grows when an order or a pause changed in the spool: workers read them again */
	_Atomic uint64_t
		orders_asked_again; /* grows when a new spooler needs all answers to orders once more */
	_Atomic uint64_t commit_seq; /* grows with every commit */
	_Atomic uint32_t spooler_up; /* 1 while a spooler serves */
	_Atomic uint32_t accepting; /* 1 while new mail is accepted; else why_not is set */
	_Atomic uint64_t spooler_heartbeat; /* usec_t of the last loop turn */
	_Atomic uint64_t committer_heartbeat; /* ditto; and when the present commit began, or 0: */
	_Atomic uint64_t commit_began;
	_Atomic uint64_t resolver_heartbeat;
	char why_not[120]; /* "disk: 12 MB free, min-free-space is 64 MB" */
};
struct shm_signals *shm_signals(struct shm *s);

/* --- worker slots --- */
enum shm_worker_state {
	SHM_WORKER_FREE,
	SHM_WORKER_STARTING,
	SHM_WORKER_RUNNING,
	SHM_WORKER_DRAINING,
	SHM_WORKER_DEAD
};

struct shm_worker {
	char vmta[SHM_NAME_MAX]; /* written by master before the fork */
	_Atomic uint32_t
		vmta_id; /* of the spool; 0 until the worker has read it. The committer finds a worker's slot by it */
	_Atomic uint32_t state; /* enum shm_worker_state */
	_Atomic uint32_t forkno;
	_Atomic int32_t pid;
	_Atomic uint32_t orphan;
	_Atomic uint64_t max_smtp_out; /* worker: configured for the virtual MTA, 0 = no limit */
	_Atomic uint64_t heartbeat; /* usec_t */
	struct shm_counters counters;
};
struct shm_worker *shm_worker(struct shm *s, uint32_t slot);
/* Slot of the worker (starting, running or draining) by vmta_id, or -1. O(1) amortised: callers may cache. */
int32_t shm_worker_by_vmta(struct shm *s, uint32_t vmta_id);

/* --- outcome rings: worker → committer, single producer, single consumer --- */
struct shm_ring; /* inside shm */
struct shm_ring *shm_ring(struct shm *s, uint32_t slot);

/* Producer. Bytes that one record of n payload bytes takes in the ring. */
uint64_t ring_record(size_t n);
/*
 * The same with what may be left empty before it at the end of a lap: at most twice the record. That waste is
 * there once a lap, so who reserves room for many records needs ring_record() for each and, once, the largest.
 */
uint64_t ring_cost(size_t n);
/* Free bytes now. */
uint64_t ring_room(const struct shm_ring *r);
uint64_t ring_capacity(const struct shm_ring *r);
/* Appends one record {type, payload}; false when there is no room (reserve with ring_room() before). */
bool ring_put(struct shm_ring *r, uint8_t type, const void *p, size_t n)
	__attribute__((warn_unused_result));
/* Position behind the last record put: what was put is consumed when ring_committed() >= it. */
uint64_t ring_position(const struct shm_ring *r);
uint64_t ring_committed(const struct shm_ring *r);
/* A new worker in an emptied slot starts at 0. Only when both sides are quiet. */
void ring_reset(struct shm_ring *r);

/*
 * Consumer. Reads the record at *pos and moves *pos behind it. 1 = got one, 0 = none, ERR_CORRUPT = bad
 * length or CRC (ret_payload: what is there, for the bad-outcomes file). *pos moves on in that case too:
 * behind the record when only its payload is bad, else to the end of the lap or of what was put (no record
 * is cut by the end of a lap), so the consumer may go on. ret_payload points into the ring and is good
 * until ring_set_committed().
 */
int ring_next(struct shm_ring *r, uint64_t *pos, uint8_t *ret_type, struct slice *ret_payload);
/* The consumer has committed everything before pos. */
void ring_set_committed(struct shm_ring *r, uint64_t pos);

/* --- live queues --- */
#define SHM_QUEUE_TEXT 200
enum {
	SHM_QUEUE_FULL = 1, /* new recipients go straight to the due table … */
	SHM_QUEUE_RETRY = 2, /* its site waits for a retry */
	SHM_QUEUE_PAUSED = 4,
	SHM_QUEUE_LIMITED = 8, /* has mail, but a limit holds it: see text */
	SHM_QUEUE_FULL_CLASS_SHIFT = 8, /* … or those of class 0..3, a bit each from here on */
};
struct shm_queue {
	_Atomic uint32_t id; /* 0 = free, UINT32_MAX = deleted */
	_Atomic uint32_t flags; /* worker */
	_Atomic uint64_t recipients; /* committer: in fresh and due */
	_Atomic uint64_t bytes; /* committer: message bytes, counted for each recipient */
	_Atomic uint64_t
		not_before; /* worker: wall ms; due time for recipients that go straight to due. 0 = now */
	_Atomic uint64_t
		next_expiry; /* worker: wall ms when the first deferred recipient expires; 0 = not known */
	_Atomic uint32_t connections; /* worker */
	_Atomic uint32_t in_hand; /* worker */
	_Atomic uint32_t version; /* seqlock of text */
	char text[SHM_QUEUE_TEXT]; /* worker: last error, or the limit that holds it */
};
/*
 * The slot of a queue, or NULL when it has none. Any process. The committer may release a slot at any
 * time: look it up again for each use, or check that q->id is still the queue's.
 */
struct shm_queue *shm_queue_find(struct shm *s, uint32_t id);
/* Committer only: finds or makes; NULL when the table is full. */
struct shm_queue *shm_queue_claim(struct shm *s, uint32_t id);
/* Committer only. */
void shm_queue_release(struct shm *s, uint32_t id);
void shm_queue_set_text(struct shm_queue *q, struct slice text);
/* ret holds SHM_QUEUE_TEXT bytes. */
void shm_queue_get_text(const struct shm_queue *q, char *ret);
/* How many slots are taken. */
uint32_t shm_live_queues(const struct shm *s);
/* Walk: *pos from 0; NULL at the end. */
struct shm_queue *shm_queue_next(struct shm *s, uint32_t *pos);

#endif
