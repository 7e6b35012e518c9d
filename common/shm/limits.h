/*
 * limits.h - caps on concurrent connections over all worker processes, and who holds what.
 *
 * One process-shared robust mutex guards the table; it is never held over a system call, except
 * that doorbells are rung after it is released. Each worker has an array of leases, one per
 * connection; "in use" of an entry is a cache of the leases: when a worker dies (or dies holding the
 * mutex, EOWNERDEAD) it is recounted from the living ones. Taking is all or none.
 *
 * The rule that a slot is given back only when the peer has seen the end of the connection is the
 * caller's: lease_give() after 221 and EOF, or 200 ms after an abortive close.
 */
#ifndef SLUICE_SHM_LIMITS_H
#define SLUICE_SHM_LIMITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/clock.h"
#include "common/base/slice.h"
#include "common/shm/shm.h"

enum limit_kind {
	LIMIT_TOTAL, /* name "" */
	LIMIT_VMTA, /* virtual MTA */
	LIMIT_POOL,
	LIMIT_PROVIDER,
	LIMIT_IP, /* destination address as text */
	LIMIT_IP_PAIR, /* "source destination" */
	LIMIT_MX, /* "source host" */
	LIMIT_SOURCE_IP, /* "site source" */
	LIMIT_PROVIDER_SOURCE_IP, /* "provider source" */
	LIMIT_KIND_COUNT
};
const char *limit_kind_name(enum limit_kind k); /* "total", "vmta", "ip" … */
bool limit_kind_find(struct slice name, enum limit_kind *ret);

#define LIMIT_NAME_MAX 200
#define LEASE_ENTRIES 12
#define LIMIT_RELOADING SIZE_MAX /* as *ret_blocking: a new configuration is on its way */

struct limit_want {
	enum limit_kind kind;
	struct slice
		name; /* at most LIMIT_NAME_MAX-1 bytes; longer names are hashed by the callee */
	uint32_t cap; /* >= 1 */
	uint32_t
		conf_gen; /* configuration generation: the highest one's cap wins (of one: the lower cap); a lowered cap drains */
	uint8_t priority; /* queue-priority of who wants it, the same in all wants of a lease */
	bool keeps; /* allow-priority-interruption = no: makes no room for a higher priority */
};

typedef uint32_t lease_id;
#define LEASE_NONE UINT32_MAX

/*
 * Takes a slot in each wanted limit (n <= LEASE_ENTRIES) for worker `slot`. 0 and *ret_lease; or
 * ERR_BUSY with *ret_blocking = index of the first want that has no room: the worker is then queued as a
 * waiter of that entry (once) and its bell will ring when a slot is free and reserved for it (for 50 ms);
 * or ERR_FULL: table or lease array full (fails closed): nobody rings then, try again later, and say so.
 * The worker waits for one slot of the entry however often it asks; having got one it asks again for the
 * next. Of those that wait the highest priority comes first, equal ones in turn, and now and then who has waited longest.
 * A worker waits with the highest priority that it asked with since it last got a slot there. Slots that were reserved for it in the other wants go to who waits behind it. A worker that does
 * not use a reservation three times in a row (50 ms each) no longer waits.
 * ERR_BUSY with *ret_blocking = LIMIT_RELOADING: not all workers have adopted the newest configuration
 * (limits_adopted()), or this one has not; nobody rings then.
 */
int lease_take(struct shm *s, uint32_t slot, const struct limit_want *wants, size_t n,
	       lease_id *ret_lease, size_t *ret_blocking) __attribute__((warn_unused_result));
/* Gives all slots of the lease back; waiters' bells ring. */
void lease_give(struct shm *s, uint32_t slot, lease_id lease);
/*
 * A worker has a new configuration: the lease counts from now on in what these wants name and in
 * nothing else, even where that is above a cap (the connection is open; lease_should_yield() then
 * has connections close until it no longer is). ERR_FULL: the lease counts where it did before.
 */
int lease_adopt(struct shm *s, uint32_t slot, lease_id lease, const struct limit_want *wants,
		size_t n) __attribute__((warn_unused_result));
/*
 * All leases of this worker count as its configuration of this generation wants. While a worker with
 * leases has not come so far, nobody opens connections: a cap that a reload introduces counts what was
 * opened before it, so that it is not passed. A worker says so once at its start, too.
 */
void limits_adopted(struct shm *s, uint32_t slot, uint32_t conf_gen);
/* The message in hand on this connection, 0 for none: read when the worker dies. */
void lease_set_message(struct shm *s, uint32_t slot, lease_id lease, uint64_t msgid);
/*
 * Whether this connection should close now so that another worker gets a turn (true: close it, it
 * counts as leaving): one that waits with a higher priority, or an equal one whose turn it is. idle = no message in
 * hand and none ready for it. `since` is when the connection opened, `messages` how many it carried. Cheap when nobody waits (no mutex).
 */
bool lease_should_yield(struct shm *s, uint32_t slot, lease_id lease, bool idle, usec_t since,
			uint32_t messages);
/*
 * Another number whenever somebody began to wait for a place since: what is idle then asks
 * lease_should_yield(). One atomic load.
 */
uint64_t limits_waits(struct shm *s);
/* The worker no longer wants anything of this limit: leaves the waiting list. */
void limit_unwait(struct shm *s, uint32_t slot, enum limit_kind kind, struct slice name);
/*
 * Passes on slots that were reserved for longer than 50 ms and not taken, and returns the µs until
 * that is due again (USEC_INFINITY: nothing reserved). Every other call here does the same in
 * passing; master calls it on a timer of 25 ms while it returns less than USEC_INFINITY (else every
 * 100 ms), so that a worker that hangs or died on its way to ring a bell stops nobody.
 * Nothing reserved costs one atomic load.
 */
usec_t limits_tick(struct shm *s);
/* Leaves all waiting lists. */
void limit_unwait_all(struct shm *s, uint32_t slot);

/*
 * Master, after a worker's death (200 ms later, before its successor connects): gives its leases back.
 * msgids in hand (at most max) are written to ret_msgids. Returns how many.
 */
size_t limits_worker_dead(struct shm *s, uint32_t slot, uint64_t *ret_msgids, size_t max);
/* Master, before the first fork: the bells (one eventfd per worker slot) that lease_give() rings. */
void limits_set_bells(const int *bells, size_t n);

struct limit_info {
	enum limit_kind kind;
	char name[LIMIT_NAME_MAX];
	uint32_t cap, in_use, waiting;
};
/* Copies up to max entries in table order, from *pos (0 first); returns how many. */
size_t limits_list(struct shm *s, size_t *pos, struct limit_info *ret, size_t max);

#endif
