#include "common/shm/limits_table.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/err.h"
#include "common/base/fd.h"
#include "common/base/log.h"
#include "common/base/xalloc.h"
#include "common/shm/layout.h"

static const char *const kind_names[] = {
	[LIMIT_TOTAL] = "total",
	[LIMIT_VMTA] = "vmta",
	[LIMIT_POOL] = "pool",
	[LIMIT_PROVIDER] = "provider",
	[LIMIT_IP] = "ip",
	[LIMIT_IP_PAIR] = "ip-pair",
	[LIMIT_MX] = "mx",
	[LIMIT_SOURCE_IP] = "source-ip",
	[LIMIT_PROVIDER_SOURCE_IP] = "provider-source-ip",
};
static_assert(ARRAY_SIZE(kind_names) == LIMIT_KIND_COUNT, "each kind has a name");

/* Of this process, inherited over fork: descriptors have the same numbers in the whole family. */
static struct {
	int *fds;
	size_t n;
} bells;

const char *limit_kind_name(enum limit_kind k)
{
	return k < LIMIT_KIND_COUNT ? kind_names[k] : "unknown";
}

bool limit_kind_find(struct slice name, enum limit_kind *ret)
{
	int k;

	for (k = 0; k < LIMIT_KIND_COUNT; k++)
		if (slice_eq_str(name, kind_names[k]))
			break;
	*ret = (enum limit_kind)k;
	return k < LIMIT_KIND_COUNT;
}

void limits_set_bells(const int *fds, size_t n)
{
	free(bells.fds);
	bells.fds = n ? xmemdup(fds, n * sizeof(*fds)) : NULL;
	bells.n = n;
}

void limits_table_init(struct shm *s)
{
	struct limits_table *t = shm_at(s, s->limits_at);

	shm_mutex_init(&t->mutex);
}

/* --- entries --- */

static uint32_t hash_bytes(uint32_t h, const char *p, size_t n)
{
	while (n--)
		h = (h ^ (uint8_t)*p++) * UINT32_C(16777619);
	return h;
}

void limit_key_make(struct limit_key *k, enum limit_kind kind, struct slice name)
{
	invariant(kind < LIMIT_KIND_COUNT);
	k->kind = kind;
	if (name.n < LIMIT_NAME_MAX) {
		k->n = (uint16_t)name.n;
		memcpy(k->name, name.p, name.n);
	} else {
		/* the front for people, two independent hashes of it all for uniqueness */
		size_t keep = LIMIT_NAME_MAX - 1 - 17;

		memcpy(k->name, name.p, keep);
		snprintf(k->name + keep, sizeof(k->name) - keep, "#%08x%08x",
			 hash_bytes(UINT32_C(2166136261), name.p, name.n),
			 hash_bytes(UINT32_C(0x9747b28c), name.p, name.n));
		k->n = LIMIT_NAME_MAX - 1;
	}
	k->hash = hash_bytes(UINT32_C(2166136261) ^ (uint32_t)kind, k->name, k->n);
	k->hash ^= k->hash >> 15;
}

static uint32_t *entry_bucket(const struct limits *l, uint32_t hash)
{
	uint32_t *buckets = shm_at(l->s, l->s->limit_buckets_at);

	return &buckets[hash & (l->s->limit_buckets - 1)];
}

uint32_t entry_find(struct limits *l, const struct limit_key *k)
{
	uint32_t i = *entry_bucket(l, k->hash);

	for (; i; i = l->entries[i].chain) {
		const struct limit_entry *e = &l->entries[i];

		if (e->hash == k->hash && e->kind == k->kind && e->name_n == k->n &&
		    memcmp(e->name, k->name, k->n) == 0)
			break;
	}
	return i;
}

static void idle_remove(struct limits *l, uint32_t i)
{
	struct limit_entry *e = &l->entries[i];
	struct list_head *h = &l->t->idle;

	*(e->prev ? &l->entries[e->prev].next : &h->first) = e->next;
	*(e->next ? &l->entries[e->next].prev : &h->last) = e->prev;
	e->prev = e->next = 0;
	e->idle_since = 0;
}

static void idle_append(struct limits *l, uint32_t i)
{
	struct limit_entry *e = &l->entries[i];
	struct list_head *h = &l->t->idle;

	e->prev = h->last;
	e->next = 0;
	*(h->last ? &l->entries[h->last].next : &h->first) = i;
	h->last = i;
	e->idle_since = l->now ? l->now : 1;
}

void entry_check_idle(struct limits *l, uint32_t i)
{
	struct limit_entry *e = &l->entries[i];

	if (e->shares && e->idle_since)
		idle_remove(l, i);
	else if (!e->shares && !e->idle_since)
		idle_append(l, i);
}

void entry_check_over(struct limits *l, uint32_t i)
{
	struct limit_entry *e = &l->entries[i];
	uint32_t over = e->in_use > e->cap;

	if (over == atomic_load_explicit(&e->over, memory_order_relaxed))
		return;
	atomic_store_explicit(&e->over, over, memory_order_relaxed);
	atomic_fetch_add_explicit(&l->t->over, over ? 1 : UINT32_MAX, memory_order_relaxed);
}

/* A place for a new entry: one that was idle for long, or a free one. 0: the table is full. */
static uint32_t entry_alloc(struct limits *l)
{
	struct limits_table *t = l->t;
	uint32_t i = t->idle.first, *p;

	if (i && l->now - l->entries[i].idle_since >= LIMIT_IDLE_USEC) {
		l->entries[i].used = 0;
		atomic_signal_fence(memory_order_seq_cst);
		idle_remove(l, i);
		for (p = entry_bucket(l, l->entries[i].hash); *p != i; p = &l->entries[*p].chain)
			;
		*p = l->entries[i].chain;
	} else if (t->entry_free) {
		i = t->entry_free;
		t->entry_free = l->entries[i].chain;
	} else {
		i = t->entry_high < l->s->max_limits ? ++t->entry_high : 0;
	}
	return i;
}

uint32_t entry_get(struct limits *l, const struct limit_key *k)
{
	uint32_t i = entry_find(l, k), *bucket = entry_bucket(l, k->hash);
	struct limit_entry *e;

	if (i) {
		/* young again, so that the next entry of this operation does not reuse it */
		if (l->entries[i].idle_since) {
			idle_remove(l, i);
			idle_append(l, i);
		}
		return i;
	}
	i = entry_alloc(l);
	if (!i)
		return 0;
	e = &l->entries[i];
	memset(e, 0, sizeof(*e));
	memcpy(e->name, k->name, k->n);
	e->name_n = k->n;
	e->kind = (uint8_t)k->kind;
	e->hash = k->hash;
	atomic_signal_fence(memory_order_seq_cst);
	e->used = 1;
	e->chain = *bucket;
	*bucket = i;
	idle_append(l, i);
	return i;
}

/* --- shares --- */

static uint32_t *share_bucket(const struct limits *l, uint32_t e, uint32_t slot)
{
	uint32_t *buckets = shm_at(l->s, l->s->share_buckets_at);
	uint32_t h = (e * UINT32_C(0x9e3779b1)) ^ (slot * UINT32_C(0x85ebca6b));

	return &buckets[(h ^ h >> 15) & (l->s->share_buckets - 1)];
}

uint32_t share_find(const struct limits *l, uint32_t e, uint32_t slot)
{
	uint32_t i = *share_bucket(l, e, slot);

	while (i && (l->shares[i].entry != e || l->shares[i].slot != slot))
		i = l->shares[i].chain;
	return i;
}

/* Into its bucket, its worker's list and its entry's count. */
static void share_link(struct limits *l, uint32_t i)
{
	struct limit_share *sh = &l->shares[i];
	struct limit_worker *w = &l->workers[sh->slot];
	uint32_t *bucket = share_bucket(l, sh->entry, sh->slot);

	sh->chain = *bucket;
	*bucket = i;
	sh->worker_prev = 0;
	sh->worker_next = w->shares;
	if (w->shares)
		l->shares[w->shares].worker_prev = i;
	w->shares = i;
	l->entries[sh->entry].shares++;
}

uint32_t share_get(struct limits *l, uint32_t e, uint32_t slot)
{
	uint32_t i = share_find(l, e, slot);
	struct limit_share *sh;

	if (i)
		return i;
	i = l->t->share_free;
	if (i)
		l->t->share_free = l->shares[i].chain;
	else if (l->t->share_high < l->s->max_shares)
		i = ++l->t->share_high;
	else
		return 0;
	sh = &l->shares[i];
	memset(sh, 0, sizeof(*sh));
	sh->entry = e;
	sh->slot = slot;
	atomic_signal_fence(memory_order_seq_cst);
	sh->used = 1;
	share_link(l, i);
	entry_check_idle(l, e);
	return i;
}

static void share_free(struct limits *l, uint32_t i)
{
	l->shares[i].used = 0;
	l->shares[i].chain = l->t->share_free;
	l->t->share_free = i;
}

void share_check_unused(struct limits *l, uint32_t i)
{
	struct limit_share *sh = &l->shares[i];
	uint32_t *p = share_bucket(l, sh->entry, sh->slot);

	if (sh->held || sh->waiting)
		return;
	while (*p != i)
		p = &l->shares[*p].chain;
	*p = sh->chain;
	if (sh->worker_prev)
		l->shares[sh->worker_prev].worker_next = sh->worker_next;
	else
		l->workers[sh->slot].shares = sh->worker_next;
	if (sh->worker_next)
		l->shares[sh->worker_next].worker_prev = sh->worker_prev;
	l->entries[sh->entry].shares--;
	share_free(l, i);
	entry_check_idle(l, sh->entry);
}

/* --- the mutex, and what to do when its holder died --- */

struct lease *lease_at(const struct shm *s, uint32_t slot, uint32_t id)
{
	struct lease *all = shm_at(s, s->leases_at);

	return &all[(uint64_t)slot * (s->max_leases + UINT64_C(1)) + id];
}

static void recover_entries(struct limits *l)
{
	uint32_t i, *bucket;

	for (i = 1; i <= l->t->entry_high; i++) {
		struct limit_entry *e = &l->entries[i];

		e->in_use = e->reserved = e->yielding = e->shares = 0;
		e->prev = e->next = e->contended = 0;
		e->queue = (struct list_head){0, 0};
		e->idle_since = 0;
		atomic_store_explicit(&e->waiting, 0, memory_order_relaxed);
		atomic_store_explicit(&e->over, 0, memory_order_relaxed);
		bucket = e->used ? entry_bucket(l, e->hash) : &l->t->entry_free;
		e->chain = *bucket;
		*bucket = i;
	}
}

/* Counts what the living leases of a worker hold, and chains the free ones. */
static void recover_leases(struct limits *l, uint32_t slot)
{
	struct limit_worker *w = &l->workers[slot];
	uint32_t id, i;

	w->shares = w->lease_free = w->lease_count = 0;
	for (id = w->lease_high; id > 0; id--) {
		struct lease *lease = lease_at(l->s, slot, id);
		uint32_t state = atomic_load_explicit(&lease->state, memory_order_acquire);

		if (state == LEASE_FREE) {
			lease->next_free = w->lease_free;
			w->lease_free = id;
			continue;
		}
		w->lease_count++;
		for (i = 0; i < lease->n; i++) {
			l->shares[lease->shares[i]].held++;
			l->shares[lease->shares[i]].yielding += state == LEASE_YIELDING;
		}
	}
}

static void recover_shares(struct limits *l)
{
	uint32_t i;

	for (i = 1; i <= l->t->share_high; i++) {
		struct limit_share *sh = &l->shares[i];
		struct limit_entry *e = &l->entries[sh->entry];

		if (!sh->used || (!sh->held && !sh->waiting)) {
			share_free(l, i);
			continue;
		}
		share_link(l, i);
		e->in_use += sh->held;
		e->yielding += sh->yielding;
		if (sh->waiting)
			waiter_restore(l, i);
	}
}

/* Makes every count, chain and list again from leases and shares; may itself be killed and begun anew. */
static void limits_recover(struct limits *l)
{
	struct limits_table *t = l->t;
	uint32_t i;

	memset(shm_at(l->s, l->s->limit_buckets_at), 0, l->s->limit_buckets * sizeof(uint32_t));
	memset(shm_at(l->s, l->s->share_buckets_at), 0, l->s->share_buckets * sizeof(uint32_t));
	t->entry_free = t->share_free = 0;
	t->idle = t->contended = (struct list_head){0, 0};
	atomic_store_explicit(&t->waiting, 0, memory_order_relaxed);
	atomic_store_explicit(&t->over, 0, memory_order_relaxed);
	atomic_store_explicit(&t->next_expiry, 0, memory_order_relaxed);
	recover_entries(l);
	for (i = 1; i <= t->share_high; i++)
		l->shares[i].held = l->shares[i].yielding = 0;
	for (i = 0; i < l->s->max_workers; i++)
		recover_leases(l, i);
	recover_shares(l);
	for (i = 1; i <= t->entry_high; i++) {
		if (!l->entries[i].used)
			continue;
		entry_check_idle(l, i);
		entry_check_over(l, i);
		waiters_serve(l, i);
	}
	atomic_fetch_add_explicit(&t->recoveries, 1, memory_order_relaxed);
}

void limits_begin(struct limits *l, struct shm *s)
{
	uint64_t expiry;
	int rc;

	l->s = s;
	l->t = shm_at(s, s->limits_at);
	l->entries = shm_at(s, s->limit_entries_at);
	l->shares = shm_at(s, s->shares_at);
	l->workers = shm_at(s, s->limit_workers_at);
	l->bell_n = 0;
	l->now = clock_now();
	rc = pthread_mutex_lock(&l->t->mutex);
	if (rc == EOWNERDEAD) {
		limits_recover(l);
		rc = pthread_mutex_consistent(&l->t->mutex);
	}
	if (rc)
		panic("limits: cannot lock the table: %s", strerror(rc));
	expiry = atomic_load_explicit(&l->t->next_expiry, memory_order_relaxed);
	if (expiry && expiry <= l->now)
		waiters_expire(l);
}

void limits_end(struct limits *l)
{
	uint32_t i;

	pthread_mutex_unlock(&l->t->mutex);
	for (i = 0; i < l->bell_n; i++)
		if (l->bells[i] < bells.n)
			bell_ring(bells.fds[l->bells[i]]);
	if (l->bell_n == LIMIT_BELLS_MAX) {
		limits_begin(l, l->s);
		limits_end(l);
	}
}

/* --- the rest of the interface --- */

usec_t limits_tick(struct shm *s)
{
	struct limits_table *t = shm_at(s, s->limits_at);
	uint64_t expiry = atomic_load_explicit(&t->next_expiry, memory_order_relaxed);
	usec_t now = clock_now();
	struct limits l;

	if (expiry && expiry <= now) {
		limits_begin(&l, s);
		limits_end(&l);
		expiry = atomic_load_explicit(&t->next_expiry, memory_order_relaxed);
	}
	if (!expiry)
		return USEC_INFINITY;
	return expiry > now ? expiry - now : 0;
}

size_t limits_list(struct shm *s, size_t *pos, struct limit_info *ret, size_t max)
{
	struct limits l;
	size_t n = 0;

	limits_begin(&l, s);
	while (n < max && *pos < l.t->entry_high) {
		const struct limit_entry *e = &l.entries[++*pos];
		struct limit_info *info = &ret[n];

		if (!e->used)
			continue;
		info->kind = (enum limit_kind)e->kind;
		memcpy(info->name, e->name, e->name_n);
		info->name[e->name_n] = '\0';
		info->cap = e->cap;
		info->in_use = e->in_use;
		info->waiting = atomic_load_explicit(&e->waiting, memory_order_relaxed);
		n++;
	}
	limits_end(&l);
	return n;
}
