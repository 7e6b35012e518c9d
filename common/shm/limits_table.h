/*
 * limits_table.h - the tables behind limits.h. Private to common/shm and its tests.
 *
 * An entry is a limit. A share is one worker at one entry: it holds slots, or waits, or both; there
 * are as many shares as workers want the entry. A lease names the shares that a connection holds.
 * The truth is in leases and in what shares say of themselves (entry, slot, waiting, ticket): counts,
 * chains and lists are made again from that by limits_recover() when a process died holding the mutex.
 * So everything here is written in an order that a kill between any two stores leaves that truth whole.
 *
 * Indices are 1-based, 0 is none. An entry is on one list at most: idle (no share; oldest first, for
 * reuse) or contended (somebody waits).
 */
#ifndef SLUICE_SHM_LIMITS_TABLE_H
#define SLUICE_SHM_LIMITS_TABLE_H

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/base/clock.h"
#include "common/shm/limits.h"

#define LIMIT_RESERVE_USEC (50 * USEC_PER_MSEC)
#define LIMIT_IDLE_USEC (600 * USEC_PER_SEC)
#define LIMIT_MISSES_MAX 3 /* reservations left unused in a row: the worker does not want it */
#define LIMIT_PASSED_OVER_MAX 8 /* then the one that has waited longest is served */
#define LIMIT_BELLS_MAX 64 /* rung after one operation; more wait for the next */

struct list_head {
	uint32_t first, last;
};

struct limits_table {
	pthread_mutex_t mutex;
	_Alignas(64) _Atomic uint32_t waiting; /* shares that wait, all entries */
	_Atomic uint64_t waits; /* how often a share began to wait without a reservation */
	_Atomic uint32_t over; /* entries with more in use than their cap */
	uint32_t conf_gen; /* the newest configuration that a worker has adopted */
	uint32_t settled_gen; /* of that one all leases are known to have been adopted */
	uint32_t behind; /* slot of a worker that had not adopted it when last looked at */
	_Atomic uint64_t next_expiry; /* usec_t of the first reservation to expire; 0 = none */
	_Atomic uint64_t recoveries; /* how often a process died holding the mutex */
	uint64_t tickets; /* given to waiting shares: their order */
	uint32_t entry_high, entry_free; /* highest index ever used; head of the free ones */
	uint32_t share_high, share_free;
	struct list_head idle, contended;
};

struct limit_worker {
	uint32_t shares; /* first of its shares */
	uint32_t lease_free; /* first of its free leases */
	uint32_t lease_high;
	uint32_t lease_count; /* in use */
	uint32_t conf_gen; /* its leases count in what this configuration wants of them */
};

struct limit_entry {
	char name[LIMIT_NAME_MAX];
	uint16_t name_n;
	uint8_t kind;
	uint8_t used;
	uint32_t hash;
	uint32_t chain; /* next in its bucket, or next free */
	uint32_t cap, conf_gen;
	uint32_t in_use;
	uint32_t
		reserved; /* waiting shares that a free slot is kept for: always the first in the queue */
	uint32_t yielding; /* slots whose connection was told to close */
	uint32_t shares;
	uint32_t passed_over; /* so many in a row were served before one that has waited longer */
	_Atomic uint32_t waiting;
	struct list_head queue; /* of waiting shares, by priority and ticket */
	uint32_t prev, next; /* idle or contended */
	uint32_t contended; /* on that list */
	_Atomic uint32_t over; /* more in use than the cap: it was lowered, or is new */
	usec_t idle_since;
};

struct limit_share {
	uint32_t entry, slot;
	uint32_t chain; /* next in its bucket, or next free */
	uint32_t held, yielding;
	uint32_t worker_prev, worker_next;
	uint32_t queue_prev, queue_next;
	uint8_t used, waiting, missed;
	uint8_t priority; /* while it waits */
	uint64_t ticket;
	usec_t reserved_until; /* 0: no slot is kept for it */
};

enum lease_state { LEASE_FREE, LEASE_USED, LEASE_YIELDING };

struct lease {
	_Atomic uint8_t state; /* enum lease_state; written last when taken, first when given */
	uint8_t n;
	uint8_t priority;
	bool keeps; /* its place, when a higher priority waits */
	uint32_t next_free;
	_Atomic uint64_t msgid;
	uint32_t shares[LEASE_ENTRIES];
};

static_assert(sizeof(struct lease) <= 64, "a lease is a cache line at most");
static_assert(sizeof(struct limit_share) <= 64, "a share is a cache line at most");
static_assert(LIMIT_NAME_MAX % 8 == 0, "the numbers behind a name are aligned");

/* One operation: where the tables are, what time it is, whose bells to ring at its end. */
struct limits {
	struct shm *s;
	struct limits_table *t;
	struct limit_entry *entries;
	struct limit_share *shares;
	struct limit_worker *workers;
	usec_t now;
	uint32_t bells[LIMIT_BELLS_MAX];
	uint32_t bell_n;
};

struct limit_key {
	enum limit_kind kind;
	uint32_t hash;
	uint16_t n;
	char name[LIMIT_NAME_MAX];
};

void limits_table_init(struct shm *s);

/* Takes the mutex (recovering when its holder died); now is set; expired reservations are passed on. */
void limits_begin(struct limits *l, struct shm *s);
/* Releases the mutex, then rings the bells. */
void limits_end(struct limits *l);

void limit_key_make(struct limit_key *k, enum limit_kind kind, struct slice name);
/* 0 when there is none. */
uint32_t entry_find(struct limits *l, const struct limit_key *k);
/* Finds or makes; 0 when the table is full. */
uint32_t entry_get(struct limits *l, const struct limit_key *k);
/* On the idle list when it has no share, off it otherwise. */
void entry_check_idle(struct limits *l, uint32_t e);

uint32_t share_find(const struct limits *l, uint32_t e, uint32_t slot);
/* Finds or makes; 0 when the table is full. */
uint32_t share_get(struct limits *l, uint32_t e, uint32_t slot);
/* Frees it when it neither holds nor waits. */
void share_check_unused(struct limits *l, uint32_t sh);
/* Takes one lease off it and lets who waits have the place. */
void share_give_back(struct limits *l, uint32_t sh, bool yielding);
/* After a change of what is in use or of the cap. */
void entry_check_over(struct limits *l, uint32_t e);
/* Entries of all wants into ret, with their caps; a want that names the entry of an earlier one again gets 0. */
int entries_get(struct limits *l, const struct limit_key *keys, const struct limit_want *wants,
		size_t n, uint32_t *ret);

/* --- a new configuration (limits_reload.c) --- */
/* Whether a worker of this configuration may take leases now. */
bool limits_may_take(struct limits *l, uint32_t conf_gen);

/* --- waiting (waiters.c) --- */
/* Joins the queue of its entry; when it waits already, its priority may rise. */
void waiter_join(struct limits *l, uint32_t sh, uint8_t priority);
/* Leaves it with its reservation; call waiters_serve() when a slot may have become free. */
void waiter_leave(struct limits *l, uint32_t sh);
/* Puts back a waiting share by its priority and ticket: for recovery. */
void waiter_restore(struct limits *l, uint32_t sh);
/* Reserves what is free for the first in the queue and notes their bells. */
void waiters_serve(struct limits *l, uint32_t e);
/* Passes on what was reserved and not taken in time. */
void waiters_expire(struct limits *l);
/* The first waiting share that has no reservation, or 0. */
uint32_t waiter_first(const struct limits *l, uint32_t e);
/* Waiting shares without a reservation. */
uint32_t waiters_unserved(const struct limit_entry *e);

/* The priority of the lease is that of the wants. */
void lease_rank(struct lease *lease, const struct limit_want *wants, size_t n);
struct lease *lease_at(const struct shm *s, uint32_t slot, uint32_t id);

#endif
