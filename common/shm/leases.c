#include "common/shm/limits_table.h"

#include <string.h>

#include "common/base/err.h"
#include "common/base/log.h"
#include "common/shm/layout.h"

#define TURN_USEC (5 * USEC_PER_SEC)
#define TURN_MESSAGES 20

/* --- taking --- */

/* The cap of the highest configuration generation; two caps of one generation: the lower. */
static void entry_set_cap(struct limits *l, uint32_t i, const struct limit_want *w)
{
	struct limit_entry *e = &l->entries[i];
	bool raised = w->conf_gen > e->conf_gen && w->cap > e->cap;

	if (e->cap == 0 || w->conf_gen > e->conf_gen) {
		e->cap = w->cap;
		e->conf_gen = w->conf_gen;
	} else if (w->conf_gen == e->conf_gen && w->cap < e->cap) {
		e->cap = w->cap;
	}
	entry_check_over(l, i);
	if (raised)
		waiters_serve(l, i);
}

int entries_get(struct limits *l, const struct limit_key *keys, const struct limit_want *wants,
		size_t n, uint32_t *ret)
{
	size_t i, j;

	for (i = 0; i < n; i++) {
		ret[i] = entry_get(l, &keys[i]);
		if (!ret[i])
			return ERR_FULL;
		entry_set_cap(l, ret[i], &wants[i]);
		for (j = 0; j < i; j++)
			if (ret[j] == ret[i])
				break;
		if (j < i)
			ret[i] = 0;
	}
	return 0;
}

static bool has_room(const struct limits *l, uint32_t i, uint32_t slot)
{
	const struct limit_entry *e = &l->entries[i];
	uint32_t sh = share_find(l, i, slot);

	if (sh && l->shares[sh].reserved_until)
		return e->in_use < e->cap;
	return e->in_use + e->reserved < e->cap;
}

/* What was kept for this worker in the other entries goes on to who can use it. */
static void pass_on(struct limits *l, uint32_t slot, const uint32_t *entries, size_t n,
		    size_t blocking)
{
	size_t i;

	for (i = 0; i < n; i++) {
		uint32_t sh = entries[i] && i != blocking ? share_find(l, entries[i], slot) : 0;

		if (!sh || !l->shares[sh].reserved_until)
			continue;
		waiter_leave(l, sh);
		share_check_unused(l, sh);
		waiters_serve(l, entries[i]);
	}
}

static int wait_for(struct limits *l, uint32_t slot, const uint32_t *entries, size_t n,
		    size_t blocking, uint8_t priority)
{
	uint32_t sh = share_get(l, entries[blocking], slot);

	if (!sh)
		return ERR_FULL;
	waiter_join(l, sh, priority);
	pass_on(l, slot, entries, n, blocking);
	return ERR_BUSY;
}

static uint32_t lease_alloc(struct limits *l, uint32_t slot)
{
	struct limit_worker *w = &l->workers[slot];
	uint32_t id = w->lease_free;

	if (id)
		w->lease_free = lease_at(l->s, slot, id)->next_free;
	else if (w->lease_high < l->s->max_leases)
		id = ++w->lease_high;
	else
		return 0;
	w->lease_count++;
	return id;
}

/* Shares of all entries into the lease; ERR_FULL leaves nothing behind. */
static int lease_fill(struct limits *l, struct lease *lease, uint32_t slot, const uint32_t *entries,
		      size_t n)
{
	size_t i;

	lease->n = 0;
	for (i = 0; i < n; i++) {
		uint32_t sh = entries[i] ? share_get(l, entries[i], slot) : 0;

		if (entries[i] && !sh)
			break;
		if (sh)
			lease->shares[lease->n++] = sh;
	}
	if (i == n)
		return 0;
	while (lease->n > 0)
		share_check_unused(l, lease->shares[--lease->n]);
	return ERR_FULL;
}

static void lease_count(struct limits *l, const struct lease *lease)
{
	uint32_t i;

	for (i = 0; i < lease->n; i++) {
		struct limit_share *sh = &l->shares[lease->shares[i]];

		sh->held++;
		l->entries[sh->entry].in_use++;
		waiter_leave(l, lease->shares[i]);
	}
}

static void lease_push_free(struct limits *l, uint32_t slot, uint32_t id)
{
	struct limit_worker *w = &l->workers[slot];

	lease_at(l->s, slot, id)->next_free = w->lease_free;
	w->lease_free = id;
	w->lease_count--;
}

void lease_rank(struct lease *lease, const struct limit_want *wants, size_t n)
{
	lease->priority = n ? wants[0].priority : 0;
	lease->keeps = n && wants[0].keeps;
}

static int take_locked(struct limits *l, uint32_t slot, const struct limit_key *keys,
		       const struct limit_want *wants, size_t n, lease_id *ret_lease,
		       size_t *ret_blocking)
{
	uint32_t entries[LEASE_ENTRIES], id;
	struct lease *lease;
	size_t i;
	int err;

	if (n && !limits_may_take(l, wants[0].conf_gen)) {
		*ret_blocking = LIMIT_RELOADING;
		return ERR_BUSY;
	}
	err = entries_get(l, keys, wants, n, entries);
	if (err)
		return err;
	for (i = 0; i < n; i++) {
		if (entries[i] && !has_room(l, entries[i], slot)) {
			*ret_blocking = i;
			return wait_for(l, slot, entries, n, i, wants[i].priority);
		}
	}
	id = lease_alloc(l, slot);
	if (!id)
		return ERR_FULL;
	lease = lease_at(l->s, slot, id);
	err = lease_fill(l, lease, slot, entries, n);
	if (err) {
		lease_push_free(l, slot, id);
		return err;
	}
	lease_rank(lease, wants, n);
	atomic_store_explicit(&lease->msgid, 0, memory_order_relaxed);
	atomic_store_explicit(&lease->state, LEASE_USED, memory_order_release);
	lease_count(l, lease);
	*ret_lease = id;
	return 0;
}

int lease_take(struct shm *s, uint32_t slot, const struct limit_want *wants, size_t n,
	       lease_id *ret_lease, size_t *ret_blocking)
{
	struct limit_key keys[LEASE_ENTRIES];
	struct limits l;
	size_t i;
	int err;

	invariant(n <= LEASE_ENTRIES && slot < s->max_workers);
	for (i = 0; i < n; i++)
		limit_key_make(&keys[i], wants[i].kind, wants[i].name);
	limits_begin(&l, s);
	err = take_locked(&l, slot, keys, wants, n, ret_lease, ret_blocking);
	limits_end(&l);
	return err;
}

/* --- giving back --- */

void share_give_back(struct limits *l, uint32_t i, bool yielding)
{
	struct limit_share *sh = &l->shares[i];
	struct limit_entry *e = &l->entries[sh->entry];

	sh->held--;
	sh->yielding -= yielding;
	e->in_use--;
	e->yielding -= yielding;
	entry_check_over(l, sh->entry);
	waiters_serve(l, sh->entry);
	share_check_unused(l, i);
}

static void lease_release(struct limits *l, uint32_t slot, uint32_t id)
{
	struct lease *lease = lease_at(l->s, slot, id);
	bool yielding = atomic_load_explicit(&lease->state, memory_order_relaxed) == LEASE_YIELDING;
	uint32_t i;

	atomic_store_explicit(&lease->state, LEASE_FREE, memory_order_release);
	for (i = 0; i < lease->n; i++)
		share_give_back(l, lease->shares[i], yielding);
	atomic_store_explicit(&lease->msgid, 0, memory_order_relaxed);
	lease_push_free(l, slot, id);
}

static struct lease *own_lease(struct shm *s, uint32_t slot, lease_id id)
{
	struct lease *lease;

	invariant(slot < s->max_workers && id >= 1 && id <= s->max_leases);
	lease = lease_at(s, slot, id);
	invariant(atomic_load_explicit(&lease->state, memory_order_relaxed) != LEASE_FREE);
	return lease;
}

void lease_give(struct shm *s, uint32_t slot, lease_id id)
{
	struct limits l;

	(void)own_lease(s, slot, id);
	limits_begin(&l, s);
	lease_release(&l, slot, id);
	limits_end(&l);
}

void lease_set_message(struct shm *s, uint32_t slot, lease_id id, uint64_t msgid)
{
	atomic_store_explicit(&own_lease(s, slot, id)->msgid, msgid, memory_order_relaxed);
}

/* --- giving way --- */

/* Slots that a share keeps when the connections that were told to close have closed. */
static uint32_t share_keeps(const struct limits *l, uint32_t i)
{
	return l->shares[i].held - l->shares[i].yielding;
}

/* The first of others that waits without a reservation; 0: none does. */
static uint32_t other_waiter(const struct limits *l, uint32_t e, uint32_t slot)
{
	uint32_t first = waiter_first(l, e);

	return first && l->shares[first].slot == slot ? l->shares[first].queue_next : first;
}

/* Among equals: who holds more than its share, or has had its turn. */
static bool turn_is_over(const struct limits *l, uint32_t i, usec_t age, uint32_t messages)
{
	const struct limit_share *sh = &l->shares[i];
	const struct limit_entry *e = &l->entries[sh->entry];
	uint32_t first = waiter_first(l, sh->entry), fair = (e->cap + e->shares - 1) / e->shares;

	if (l->shares[first].slot != sh->slot && share_keeps(l, i) > fair &&
	    share_keeps(l, first) + 1 <= share_keeps(l, i) - 1)
		return true;
	return e->cap < e->shares && (age >= TURN_USEC || messages >= TURN_MESSAGES);
}

static bool share_yields(const struct limits *l, const struct lease *lease, uint32_t i, bool idle,
			 usec_t age, uint32_t messages)
{
	const struct limit_share *sh = &l->shares[i];
	const struct limit_entry *e = &l->entries[sh->entry];
	uint32_t unserved = waiters_unserved(e), other;

	if (e->in_use - e->yielding > e->cap)
		return true;
	if (!unserved)
		return false;
	if (idle)
		return true;
	/* one connection on its way out for each that waits is enough */
	other = e->yielding < unserved ? other_waiter(l, sh->entry, sh->slot) : 0;
	if (!other || l->shares[other].priority < lease->priority)
		return false;
	if (l->shares[other].priority > lease->priority)
		return !lease->keeps;
	return turn_is_over(l, i, age, messages);
}

/* Without the mutex: nobody but this worker changes its lease, and a late answer does no harm. */
static bool lease_contended(struct shm *s, const struct lease *lease)
{
	const struct limit_entry *entries = shm_at(s, s->limit_entries_at);
	const struct limit_share *shares = shm_at(s, s->shares_at);
	uint32_t i;

	for (i = 0; i < lease->n; i++) {
		const struct limit_entry *e = &entries[shares[lease->shares[i]].entry];

		if (atomic_load_explicit(&e->waiting, memory_order_relaxed) ||
		    atomic_load_explicit(&e->over, memory_order_relaxed))
			return true;
	}
	return false;
}

static bool yield_locked(struct limits *l, struct lease *lease, bool idle, usec_t since,
			 uint32_t messages)
{
	usec_t age = l->now > since ? l->now - since : 0;
	uint32_t i;

	for (i = 0; i < lease->n; i++)
		if (share_yields(l, lease, lease->shares[i], idle, age, messages))
			break;
	if (i == lease->n)
		return false;
	atomic_store_explicit(&lease->state, LEASE_YIELDING, memory_order_release);
	for (i = 0; i < lease->n; i++) {
		l->shares[lease->shares[i]].yielding++;
		l->entries[l->shares[lease->shares[i]].entry].yielding++;
	}
	return true;
}

bool lease_should_yield(struct shm *s, uint32_t slot, lease_id id, bool idle, usec_t since,
			uint32_t messages)
{
	struct limits_table *t = shm_at(s, s->limits_at);
	struct lease *lease = own_lease(s, slot, id);
	struct limits l;
	bool yes;

	if (atomic_load_explicit(&lease->state, memory_order_relaxed) == LEASE_YIELDING)
		return true;
	if (!atomic_load_explicit(&t->waiting, memory_order_relaxed) &&
	    !atomic_load_explicit(&t->over, memory_order_relaxed))
		return false;
	if (!lease_contended(s, lease))
		return false;
	limits_begin(&l, s);
	yes = yield_locked(&l, lease, idle, since, messages);
	limits_end(&l);
	return yes;
}

uint64_t limits_waits(struct shm *s)
{
	struct limits_table *t = shm_at(s, s->limits_at);

	return atomic_load_explicit(&t->waits, memory_order_acquire);
}

/* --- no longer waiting --- */

static void unwait(struct limits *l, uint32_t sh)
{
	uint32_t e = l->shares[sh].entry;

	waiter_leave(l, sh);
	share_check_unused(l, sh);
	waiters_serve(l, e);
}

void limit_unwait(struct shm *s, uint32_t slot, enum limit_kind kind, struct slice name)
{
	struct limits_table *t = shm_at(s, s->limits_at);
	struct limit_key k;
	struct limits l;
	uint32_t e, sh;

	if (!atomic_load_explicit(&t->waiting, memory_order_relaxed))
		return;
	limit_key_make(&k, kind, name);
	limits_begin(&l, s);
	e = entry_find(&l, &k);
	sh = e ? share_find(&l, e, slot) : 0;
	if (sh && l.shares[sh].waiting)
		unwait(&l, sh);
	limits_end(&l);
}

static void unwait_all(struct limits *l, uint32_t slot)
{
	uint32_t sh, next;

	for (sh = l->workers[slot].shares; sh; sh = next) {
		next = l->shares[sh].worker_next;
		if (l->shares[sh].waiting)
			unwait(l, sh);
	}
}

void limit_unwait_all(struct shm *s, uint32_t slot)
{
	struct limits_table *t = shm_at(s, s->limits_at);
	struct limits l;

	if (!atomic_load_explicit(&t->waiting, memory_order_relaxed))
		return;
	limits_begin(&l, s);
	unwait_all(&l, slot);
	limits_end(&l);
}

static bool seen(const uint64_t *ids, size_t n, uint64_t id)
{
	size_t i;

	for (i = 0; i < n; i++)
		if (ids[i] == id)
			return true;
	return false;
}

size_t limits_worker_dead(struct shm *s, uint32_t slot, uint64_t *ret_msgids, size_t max)
{
	struct limits l;
	uint32_t id, high;
	size_t n = 0;

	invariant(slot < s->max_workers);
	limits_begin(&l, s);
	unwait_all(&l, slot);
	high = l.workers[slot].lease_high;
	for (id = 1; id <= high; id++) {
		struct lease *lease = lease_at(s, slot, id);
		uint64_t msgid = atomic_load_explicit(&lease->msgid, memory_order_relaxed);

		if (atomic_load_explicit(&lease->state, memory_order_relaxed) == LEASE_FREE)
			continue;
		if (msgid && n < max && !seen(ret_msgids, n, msgid))
			ret_msgids[n++] = msgid;
		lease_release(&l, slot, id);
	}
	/* a kill between taking a lease off the chain and using it may have lost it: begin anew */
	l.workers[slot].lease_high = 0;
	l.workers[slot].lease_free = 0;
	l.workers[slot].lease_count = 0;
	l.workers[slot].conf_gen = 0;
	limits_end(&l);
	return n;
}
