/*
 * A new configuration and the connections that are open: they count in what it wants of them before
 * anybody opens one more.
 */
#include "common/shm/limits_table.h"

#include "common/base/err.h"
#include "common/base/log.h"
#include "common/shm/layout.h"

static bool is_behind(const struct limits *l, uint32_t slot)
{
	return l->workers[slot].lease_count && l->workers[slot].conf_gen < l->t->conf_gen;
}

/* Does every lease count as the newest configuration wants? */
static bool all_adopted(struct limits *l)
{
	uint32_t i;

	if (is_behind(l, l->t->behind))
		return false;
	for (i = 0; i < l->s->max_workers; i++) {
		if (!is_behind(l, i))
			continue;
		l->t->behind = i;
		return false;
	}
	return true;
}

bool limits_may_take(struct limits *l, uint32_t conf_gen)
{
	struct limits_table *t = l->t;

	if (conf_gen < t->conf_gen)
		return false;
	if (t->settled_gen == t->conf_gen)
		return true;
	if (!all_adopted(l))
		return false;
	t->settled_gen = t->conf_gen;
	return true;
}

static bool has(const uint32_t *v, size_t n, uint32_t x)
{
	size_t i;

	for (i = 0; i < n; i++)
		if (v[i] == x)
			break;
	return i < n;
}

/* One share more: it is in the lease before it is counted, as recovery counts. */
static void adopt_share(struct limits *l, struct lease *lease, uint32_t i)
{
	struct limit_share *sh = &l->shares[i];
	bool yielding = atomic_load_explicit(&lease->state, memory_order_relaxed) == LEASE_YIELDING;

	lease->shares[lease->n] = i;
	atomic_signal_fence(memory_order_seq_cst);
	lease->n++;
	sh->held++;
	sh->yielding += yielding;
	l->entries[sh->entry].in_use++;
	l->entries[sh->entry].yielding += yielding;
	entry_check_over(l, sh->entry);
}

static void drop_share(struct limits *l, struct lease *lease, uint32_t at)
{
	uint32_t i = lease->shares[at];
	bool yielding = atomic_load_explicit(&lease->state, memory_order_relaxed) == LEASE_YIELDING;

	lease->shares[at] = lease->shares[lease->n - 1];
	atomic_signal_fence(memory_order_seq_cst);
	lease->n--;
	share_give_back(l, i, yielding);
}

/* Shares of all entries; ERR_FULL leaves none behind. */
static int shares_get(struct limits *l, uint32_t slot, const uint32_t *entries, size_t n,
		      uint32_t *ret, size_t *ret_n)
{
	size_t i, got = 0;

	for (i = 0; i < n; i++) {
		if (!entries[i])
			continue;
		ret[got] = share_get(l, entries[i], slot);
		if (!ret[got])
			break;
		got++;
	}
	*ret_n = got;
	if (i == n)
		return 0;
	while (got > 0)
		share_check_unused(l, ret[--got]);
	return ERR_FULL;
}

static int adopt_locked(struct limits *l, uint32_t slot, struct lease *lease,
			const struct limit_key *keys, const struct limit_want *wants, size_t n)
{
	uint32_t entries[LEASE_ENTRIES], shares[LEASE_ENTRIES], i;
	size_t count;
	int err = entries_get(l, keys, wants, n, entries);

	if (!err)
		err = shares_get(l, slot, entries, n, shares, &count);
	if (err)
		return err;
	lease_rank(lease, wants, n);
	for (i = lease->n; i > 0; i--)
		if (!has(shares, count, lease->shares[i - 1]))
			drop_share(l, lease, i - 1);
	for (i = 0; i < count; i++)
		if (!has(lease->shares, lease->n, shares[i]))
			adopt_share(l, lease, shares[i]);
	return 0;
}

int lease_adopt(struct shm *s, uint32_t slot, lease_id id, const struct limit_want *wants, size_t n)
{
	struct limit_key keys[LEASE_ENTRIES];
	struct lease *lease = lease_at(s, slot, id);
	struct limits l;
	size_t i;
	int err;

	invariant(n <= LEASE_ENTRIES && slot < s->max_workers && id >= 1 && id <= s->max_leases);
	invariant(atomic_load_explicit(&lease->state, memory_order_relaxed) != LEASE_FREE);
	for (i = 0; i < n; i++)
		limit_key_make(&keys[i], wants[i].kind, wants[i].name);
	limits_begin(&l, s);
	err = adopt_locked(&l, slot, lease, keys, wants, n);
	limits_end(&l);
	return err;
}

void limits_adopted(struct shm *s, uint32_t slot, uint32_t conf_gen)
{
	struct limits l;

	invariant(slot < s->max_workers);
	limits_begin(&l, s);
	l.workers[slot].conf_gen = conf_gen;
	if (conf_gen > l.t->conf_gen)
		l.t->conf_gen = conf_gen;
	limits_end(&l);
}
