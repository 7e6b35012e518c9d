#include "common/shm/rates_table.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/base/err.h"
#include "common/base/log.h"
#include "common/base/macros.h"
#include "common/shm/layout.h"

#define SWEEP_AT_ONCE 2048 /* entries that are looked at for reuse */
#define LOOK_AT_ONCE 1024 /* entries, holding the mutex */
#define OLD_ROW 1 /* of rate_entry.saved: there is a row, but it does not say what the clock says */

static const char *const scope_names[] = {
	[RATE_QUEUE] = "queue",
	[RATE_MEMBER] = "domain",
	[RATE_SOURCE_IP] = "source-ip",
	[RATE_VMTA] = "virtual-mta",
	[RATE_POOL] = "pool",
	[RATE_PROVIDER] = "provider",
	[RATE_PROVIDER_IP] = "provider source-ip",
	[RATE_BACKOFF] = "back-off",
};
static_assert(ARRAY_SIZE(scope_names) == RATE_SCOPE_COUNT, "each scope has a name");

/* One operation. */
struct rates {
	struct shm *s;
	struct rates_table *t;
	struct rate_entry *entries;
	uint64_t now; /* ns */
};

struct rate_key {
	enum rate_scope scope;
	enum rate_measure measure;
	uint32_t hash;
	uint16_t n;
	char name[RATE_NAME_MAX];
};

const char *rate_scope_name(enum rate_scope s)
{
	return s < RATE_SCOPE_COUNT ? scope_names[s] : "unknown";
}

/* --- numbers --- */

static uint64_t max_u64(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

uint64_t rate_most(enum rate_measure m, uint64_t n)
{
	return m == RATE_CONNECTS || n < 40 ? 1 : n / 20;
}

static uint64_t late_max(usec_t per)
{
	usec_t l = per / 100;

	return (l < 50 * USEC_PER_MSEC ? l : 50 * USEC_PER_MSEC) * RATE_NSEC;
}

uint64_t rate_cost(enum rate_measure m, uint64_t n, usec_t per, uint64_t k)
{
	usec_t spread = per / 10 < 250 * USEC_PER_MSEC ? per / 10 : 250 * USEC_PER_MSEC;
	uint64_t parts = n - rate_most(m, n) + 1;
	unsigned __int128 window = (unsigned __int128)(per + spread) * RATE_NSEC + late_max(per);
	unsigned __int128 cost;

	if (k == 0)
		return 0;
	if (window > RATE_COST_MAX)
		window = RATE_COST_MAX;
	cost = (window * k + parts - 1) / parts;
	return cost < RATE_COST_MAX ? (uint64_t)cost : RATE_COST_MAX;
}

/* What an action of more tokens than usual has to find open before it, in ns. */
static uint64_t lead(enum rate_measure m, uint64_t n, usec_t per, uint64_t k)
{
	uint64_t most = rate_most(m, n);

	if (k > n)
		k = n;
	return k > most ? rate_cost(m, n, per, k - most) : 0;
}

/* --- the table --- */

void rates_table_init(struct shm *s)
{
	struct rates_table *t = shm_at(s, s->rates_at);

	shm_mutex_init(&t->mutex);
}

static uint64_t hash_bytes(uint64_t h, const char *p, size_t n)
{
	while (n--)
		h = (h ^ (uint8_t)*p++) * UINT64_C(0x100000001b3);
	return h;
}

static void key_make(struct rate_key *k, enum rate_scope scope, enum rate_measure measure,
		     struct slice name)
{
	uint64_t h = hash_bytes(UINT64_C(0xcbf29ce484222325), name.p, name.n);

	invariant(scope < RATE_SCOPE_COUNT && measure < RATE_MEASURE_COUNT);
	k->scope = scope;
	k->measure = measure;
	if (name.n < RATE_NAME_MAX) {
		k->n = (uint16_t)name.n;
		memcpy(k->name, name.p, name.n);
	} else {
		/* the front for people, a hash of it all for uniqueness */
		size_t keep = RATE_NAME_MAX - 1 - 17;

		memcpy(k->name, name.p, keep);
		snprintf(k->name + keep, sizeof(k->name) - keep, "#%016llx", (unsigned long long)h);
		k->n = RATE_NAME_MAX - 1;
	}
	h = hash_bytes(h, (const char[]){(char)scope, (char)measure}, 2);
	k->hash = (uint32_t)(h ^ h >> 32);
}

static uint32_t *bucket_of(const struct rates *r, uint32_t hash)
{
	uint32_t *buckets = shm_at(r->s, r->s->rate_buckets_at);

	return &buckets[hash & (r->s->rate_buckets - 1)];
}

/* A process died holding the mutex: the chains are made again. */
static void recover(struct rates *r)
{
	memset(shm_at(r->s, r->s->rate_buckets_at), 0, r->s->rate_buckets * sizeof(uint32_t));
	r->t->free = 0;
	for (uint32_t i = 1; i <= r->t->high; i++) {
		struct rate_entry *e = &r->entries[i];
		uint32_t *head = e->used ? bucket_of(r, e->hash) : &r->t->free;

		e->chain = *head;
		*head = i;
	}
}

static void lock(struct rates *r, struct shm *s, usec_t now)
{
	int rc;

	r->s = s;
	r->t = shm_at(s, s->rates_at);
	r->entries = shm_at(s, s->rate_entries_at);
	r->now = now * RATE_NSEC;
	rc = pthread_mutex_lock(&r->t->mutex);
	if (rc == EOWNERDEAD) {
		recover(r);
		rc = pthread_mutex_consistent(&r->t->mutex);
	}
	if (rc)
		panic("rates: cannot lock the table: %s", strerror(rc));
}

static void unlock(struct rates *r)
{
	pthread_mutex_unlock(&r->t->mutex);
}

static uint64_t clock_of(const struct rate_entry *e)
{
	return atomic_load_explicit(&e->clock, memory_order_relaxed);
}

static void clock_set(struct rate_entry *e, uint64_t clock)
{
	atomic_store_explicit(&e->clock, clock, memory_order_relaxed);
}

static uint32_t find(const struct rates *r, const struct rate_key *k)
{
	uint32_t i = *bucket_of(r, k->hash);

	for (; i; i = r->entries[i].chain) {
		const struct rate_entry *e = &r->entries[i];

		if (e->hash == k->hash && e->scope == k->scope && e->measure == k->measure &&
		    e->name_n == k->n && memcmp(e->name, k->name, k->n) == 0)
			break;
	}
	return i;
}

/* Nothing would change if it were made again: it is open, and no row of the spool says more. */
static bool is_idle(const struct rates *r, const struct rate_entry *e)
{
	return e->used && !e->saved && e->asked + RATE_IDLE_NSEC <= r->now &&
	       clock_of(e) + RATE_IDLE_NSEC <= r->now;
}

static void entry_free(struct rates *r, uint32_t i)
{
	uint32_t *p = bucket_of(r, r->entries[i].hash);

	r->entries[i].used = 0;
	atomic_signal_fence(memory_order_seq_cst);
	while (*p != i)
		p = &r->entries[*p].chain;
	*p = r->entries[i].chain;
	r->entries[i].chain = r->t->free;
	r->t->free = i;
}

/* A part of the full table each time, so that nobody waits long for the mutex. */
static void sweep(struct rates *r)
{
	for (uint32_t n = 0; n < SWEEP_AT_ONCE && n < r->t->high; n++) {
		r->t->swept = r->t->swept % r->t->high + 1;
		if (is_idle(r, &r->entries[r->t->swept]))
			entry_free(r, r->t->swept);
	}
}

static uint32_t alloc(struct rates *r)
{
	uint32_t i = r->t->free;

	if (!i && r->t->high < r->s->max_rates)
		return ++r->t->high;
	if (!i) {
		sweep(r);
		i = r->t->free;
	}
	if (i)
		r->t->free = r->entries[i].chain;
	return i;
}

static uint32_t make(struct rates *r, const struct rate_key *k, uint64_t n, usec_t per,
		     uint64_t clock)
{
	uint32_t i = alloc(r), *bucket = bucket_of(r, k->hash);
	struct rate_entry *e;

	if (!i)
		return 0;
	e = &r->entries[i];
	memset(e, 0, sizeof(*e));
	memcpy(e->name, k->name, k->n);
	e->name_n = k->n;
	e->scope = (uint8_t)k->scope;
	e->measure = (uint8_t)k->measure;
	e->hash = k->hash;
	e->n = n;
	e->per = per;
	e->asked = r->now;
	clock_set(e, clock);
	atomic_signal_fence(memory_order_seq_cst);
	e->used = 1;
	e->chain = *bucket;
	*bucket = i;
	return i;
}

/* --- a clock and what is wanted of it --- */

/*
 * The end of the last run left no trace of this clock's last action: as if it had taken the most in the
 * moment when this run began. Windows that are not kept are short; for them no end is clean.
 */
static uint64_t unknown_until(const struct rates *r, enum rate_measure m, uint64_t n, usec_t per)
{
	uint64_t most = m == RATE_BYTES ? n : rate_most(m, n);

	if (!r->t->begun || (!r->t->unclean && per > RATE_KEEP_OVER))
		return 0;
	return r->t->began + rate_cost(m, n, per, most);
}

/*
 * Another rate than before (a reload, a mode): what is still to be waited for is counted in tokens, when
 * they now last less long; else nothing changes but the tokens to come.
 */
static void rescale(struct rates *r, struct rate_entry *e, const struct rate_want *w)
{
	uint64_t clock = clock_of(e), ahead = clock > r->now ? clock - r->now : 0;
	uint64_t old = rate_cost(w->measure, e->n, e->per, 1);
	uint64_t new = rate_cost(w->measure, w->n, w->per, 1);

	if (ahead && new < old)
		clock = r->now + (uint64_t)((unsigned __int128)ahead * new / old) + 1;
	e->n = w->n;
	e->per = w->per;
	if (e->loaded)
		clock = max_u64(clock, unknown_until(r, w->measure, w->n, w->per));
	clock_set(e, clock);
	e->turn_until = max_u64(r->now, clock) + RATE_TURN_NSEC;
}

/* 0: the table is full. */
static uint32_t entry_for(struct rates *r, const struct rate_want *w, const struct rate_key *k)
{
	uint32_t i = find(r, k);
	struct rate_entry *e;

	if (!i) {
		uint64_t clock = max_u64(r->now + rate_cost(w->measure, w->n, w->per, 1),
					 unknown_until(r, w->measure, w->n, w->per));

		i = make(r, k, w->n, w->per, clock);
		if (i)
			r->entries[i].conf_gen = w->conf_gen;
		return i;
	}
	e = &r->entries[i];
	if (w->conf_gen >= e->conf_gen && (e->n != w->n || e->per != w->per))
		rescale(r, e, w);
	if (w->conf_gen > e->conf_gen)
		e->conf_gen = w->conf_gen;
	e->loaded = 0;
	e->asked = r->now;
	return i;
}

/* --- who is next --- */

static uint32_t place_of(const struct rate_entry *e, uint64_t who)
{
	uint32_t i = 0;

	while (i < e->waiters && e->waiting[i] != who)
		i++;
	return i;
}

static void leave(const struct rates *r, struct rate_entry *e, uint32_t place)
{
	if (place >= e->waiters)
		return;
	e->waiters--;
	memmove(&e->waiting[place], &e->waiting[place + 1],
		(e->waiters - place) * sizeof(e->waiting[0]));
	if (place == 0)
		e->turn_until = max_u64(r->now, clock_of(e)) + RATE_TURN_NSEC;
}

/* In line, if there is room; `open`: when it could take if it were the first. */
static void join(struct rate_entry *e, uint64_t open, uint64_t who)
{
	uint32_t place = place_of(e, who);

	if (place == e->waiters && place < RATE_WAITERS)
		e->waiting[e->waiters++] = who;
	if (place == 0)
		e->turn_until = open + RATE_TURN_NSEC;
}

/* When `who` may take this, in ns. */
static uint64_t opens(const struct rates *r, struct rate_entry *e, uint64_t tokens, uint64_t who)
{
	uint64_t at = clock_of(e) + lead(e->measure, e->n, e->per, tokens), turn;
	uint32_t place;

	while (e->waiters && e->turn_until <= r->now)
		leave(r, e, 0); /* did not come */
	place = place_of(e, who);
	if (place == 0)
		return at;
	turn = e->turn_until - RATE_TURN_NSEC;
	if (turn <= r->now) /* the first is a little late */
		return max_u64(at, e->turn_until);
	/* as if those before it took one token each: rather too early than too late for its turn */
	return max_u64(at, turn + place * rate_cost(e->measure, e->n, e->per, 1));
}

static int look(struct rates *r, const struct rate_want *wants, size_t n, uint64_t who,
		uint32_t *ret_entries, size_t *ret_blocking, usec_t *ret_open)
{
	uint64_t last = 0;
	size_t i, by = 0;

	for (i = 0; i < n; i++) {
		struct rate_key k;
		uint64_t at;

		key_make(&k, wants[i].scope, wants[i].measure, wants[i].name);
		ret_entries[i] = entry_for(r, &wants[i], &k);
		if (!ret_entries[i]) {
			*ret_blocking = i;
			*ret_open = r->now / RATE_NSEC + USEC_PER_SEC;
			return ERR_FULL;
		}
		at = opens(r, &r->entries[ret_entries[i]], wants[i].tokens, who);
		if (at > last) {
			last = at;
			by = i;
		}
	}
	if (last <= r->now)
		return 0;
	join(&r->entries[ret_entries[by]], last, who);
	*ret_blocking = by;
	*ret_open = (last + RATE_NSEC - 1) / RATE_NSEC;
	return ERR_BUSY;
}

static void count_move(struct rates *r, const struct rate_entry *e)
{
	if (e->per > RATE_KEEP_OVER)
		atomic_fetch_add_explicit(&r->t->moves, 1, memory_order_relaxed);
}

static void move(struct rates *r, struct rate_entry *e, uint64_t tokens, uint64_t who)
{
	uint64_t late = late_max(e->per), since = r->now > late ? r->now - late : 0;

	clock_set(e, max_u64(clock_of(e), since) + rate_cost(e->measure, e->n, e->per, tokens));
	leave(r, e, place_of(e, who));
	count_move(r, e);
}

int rates_take(struct shm *s, const struct rate_want *wants, size_t n, uint64_t who, usec_t now,
	       struct rate_ticket *ret, size_t *ret_blocking, usec_t *ret_open)
{
	uint32_t entries[RATE_WANTS_MAX];
	struct rates r;
	int rc;

	invariant(n <= RATE_WANTS_MAX);
	lock(&r, s, now);
	rc = look(&r, wants, n, who, entries, ret_blocking, ret_open);
	for (size_t i = 0; rc == 0 && i < n; i++) {
		struct rate_entry *e = &r.entries[entries[i]];

		move(&r, e, wants[i].tokens, who);
		ret->v[i].entry = entries[i];
		ret->v[i].clock = clock_of(e);
		ret->v[i].tokens = wants[i].tokens;
		ret->n = (uint32_t)i + 1;
	}
	if (rc == 0 && n == 0)
		ret->n = 0;
	unlock(&r);
	return rc;
}

int rates_ask(struct shm *s, const struct rate_want *wants, size_t n, uint64_t who, usec_t now,
	      size_t *ret_blocking, usec_t *ret_open)
{
	uint32_t entries[RATE_WANTS_MAX];
	struct rates r;
	int rc;

	invariant(n <= RATE_WANTS_MAX);
	lock(&r, s, now);
	rc = look(&r, wants, n, who, entries, ret_blocking, ret_open);
	unlock(&r);
	return rc;
}

/*
 * Not below what a row of the spool says: there, a clock that is closed stands for nothing taken since.
 */
void rates_give_back(struct shm *s, const struct rate_ticket *t, size_t i, uint64_t used)
{
	struct rate_entry *e;
	struct rates r;
	uint64_t clock;

	if (i >= t->n || used >= t->v[i].tokens)
		return;
	lock(&r, s, 0);
	e = &r.entries[t->v[i].entry];
	if (e->used && clock_of(e) == t->v[i].clock) {
		clock = clock_of(e) - rate_cost(e->measure, e->n, e->per, t->v[i].tokens) +
			rate_cost(e->measure, e->n, e->per, used);
		clock_set(e, max_u64(clock, e->saved));
		e->turn_until = clock_of(e) + RATE_TURN_NSEC;
		count_move(&r, e);
	}
	unlock(&r);
}

/* --- over restarts --- */

bool rates_begin(struct shm *s, bool unclean, usec_t now)
{
	struct rates r;
	bool first;

	lock(&r, s, now);
	first = !r.t->begun;
	if (first) {
		r.t->begun = 1;
		r.t->unclean = unclean;
		r.t->began = r.now;
	}
	unlock(&r);
	return first;
}

void rates_load(struct shm *s, const struct rate_row *row, uint64_t ahead, usec_t now)
{
	struct rate_key k;
	struct rates r;
	uint64_t clock;
	uint32_t i;

	if (ahead > RATE_COST_MAX)
		ahead = RATE_COST_MAX;
	key_make(&k, row->scope, row->measure, slice_str(row->name));
	lock(&r, s, now);
	clock = r.now + ahead;
	/* one that is still closed was closed all the time: nothing can have been taken since */
	if (ahead == 0)
		clock = max_u64(clock, unknown_until(&r, row->measure, row->n, row->per));
	i = find(&r, &k);
	if (!i && (i = make(&r, &k, row->n, row->per, clock))) {
		r.entries[i].loaded = 1;
		r.entries[i].saved = OLD_ROW;
		atomic_fetch_add_explicit(&r.t->moves, 1, memory_order_relaxed);
	}
	unlock(&r);
}

uint64_t rates_moves(const struct shm *s)
{
	const struct rates_table *t = shm_at(s, s->rates_at);

	return atomic_load_explicit(&t->moves, memory_order_relaxed);
}

static void row_of(const struct rate_entry *e, uint32_t i, struct rate_row *ret)
{
	ret->entry = i;
	ret->scope = (enum rate_scope)e->scope;
	ret->measure = (enum rate_measure)e->measure;
	memcpy(ret->name, e->name, e->name_n);
	ret->name[e->name_n] = '\0';
	ret->n = e->n;
	ret->per = e->per;
	ret->clock = clock_of(e);
}

/* Rows of clocks that have passed say nothing: they go after a while. */
static bool wants_row(const struct rates *r, const struct rate_entry *e)
{
	uint64_t clock = clock_of(e);

	if (!e->used)
		return false;
	if (clock <= r->now)
		return e->saved && clock + RATE_ROW_STAYS_NSEC <= r->now;
	return e->per > RATE_KEEP_OVER && clock != e->saved;
}

/* The row says what the clock says from now on, as far as the caller gets it written. */
static void collect(const struct rates *r, uint32_t i, struct rate_row *ret)
{
	struct rate_entry *e = &r->entries[i];

	row_of(e, i, ret);
	ret->remove = clock_of(e) <= r->now;
	e->saved = ret->remove ? 0 : ret->clock;
}

size_t rates_unsaved(struct shm *s, uint32_t *pos, struct rate_row *ret, size_t max, usec_t now)
{
	struct rates r;
	size_t n = 0;
	uint32_t end;
	bool more = true;

	while (more && n < max) {
		lock(&r, s, now);
		end = r.t->high - *pos < LOOK_AT_ONCE ? r.t->high : *pos + LOOK_AT_ONCE;
		while (n < max && *pos < end)
			if (wants_row(&r, &r.entries[++*pos]))
				collect(&r, *pos, &ret[n++]);
		more = *pos < r.t->high;
		unlock(&r);
	}
	return n;
}

void rates_not_saved(struct shm *s, const struct rate_row *row)
{
	struct rates r;

	lock(&r, s, 0);
	r.entries[row->entry].saved = OLD_ROW;
	atomic_fetch_add_explicit(&r.t->moves, 1, memory_order_relaxed);
	unlock(&r);
}

size_t rates_list(struct shm *s, size_t *pos, struct rate_info *ret, size_t max)
{
	struct rates r;
	size_t n = 0;

	lock(&r, s, 0);
	while (n < max && *pos < r.t->high) {
		const struct rate_entry *e = &r.entries[++*pos];
		struct rate_row row;

		if (!e->used)
			continue;
		row_of(e, 0, &row);
		ret[n] = (struct rate_info){.scope = row.scope,
					    .measure = row.measure,
					    .n = row.n,
					    .per = row.per,
					    .open = row.clock / RATE_NSEC};
		memcpy(ret[n++].name, row.name, sizeof(row.name));
	}
	unlock(&r);
	return n;
}
