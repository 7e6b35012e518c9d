/*
 * Who waits for a slot, and for whom a free one is kept. Invariant after each operation: while
 * somebody waits without a reservation, every slot below the cap is in use or reserved.
 */
#include "common/shm/limits_table.h"

#include <string.h>

#include "common/shm/layout.h"

uint32_t waiters_unserved(const struct limit_entry *e)
{
	return atomic_load_explicit(&e->waiting, memory_order_relaxed) - e->reserved;
}

static void contended_update(struct limits *l, uint32_t i)
{
	struct limit_entry *e = &l->entries[i];
	struct list_head *h = &l->t->contended;

	if (e->queue.first && !e->contended) {
		e->prev = h->last;
		e->next = 0;
		*(h->last ? &l->entries[h->last].next : &h->first) = i;
		h->last = i;
		e->contended = 1;
	} else if (!e->queue.first && e->contended) {
		*(e->prev ? &l->entries[e->prev].next : &h->first) = e->next;
		*(e->next ? &l->entries[e->next].prev : &h->last) = e->prev;
		e->prev = e->next = 0;
		e->contended = 0;
	}
}

/* Behind `after`, or in front of all when that is 0. */
static void queue_insert(struct limits *l, uint32_t i, uint32_t after)
{
	struct limit_share *sh = &l->shares[i];
	struct list_head *q = &l->entries[sh->entry].queue;

	sh->queue_prev = after;
	sh->queue_next = after ? l->shares[after].queue_next : q->first;
	*(after ? &l->shares[after].queue_next : &q->first) = i;
	*(sh->queue_next ? &l->shares[sh->queue_next].queue_prev : &q->last) = i;
}

static void queue_remove(struct limits *l, uint32_t i)
{
	struct limit_share *sh = &l->shares[i];
	struct list_head *q = &l->entries[sh->entry].queue;

	*(sh->queue_prev ? &l->shares[sh->queue_prev].queue_next : &q->first) = sh->queue_next;
	*(sh->queue_next ? &l->shares[sh->queue_next].queue_prev : &q->last) = sh->queue_prev;
	sh->queue_prev = sh->queue_next = 0;
}

static void count_waiting(struct limits *l, struct limit_entry *e, uint32_t delta)
{
	atomic_fetch_add_explicit(&e->waiting, delta, memory_order_relaxed);
	atomic_fetch_add_explicit(&l->t->waiting, delta, memory_order_relaxed);
}

/* Seen only behind what it tells of. */
static void tell_holders(struct limits *l)
{
	atomic_fetch_add_explicit(&l->t->waits, 1, memory_order_release);
}

static void reservation_drop(struct limits *l, struct limit_share *sh)
{
	if (!sh->reserved_until)
		return;
	sh->reserved_until = 0;
	l->entries[sh->entry].reserved--;
}

static bool comes_before(const struct limit_share *a, const struct limit_share *b)
{
	return a->priority > b->priority || (a->priority == b->priority && a->ticket < b->ticket);
}

/* Into the queue, behind all that a slot is kept for. */
static void queue_join(struct limits *l, uint32_t i)
{
	const struct limit_share *sh = &l->shares[i];
	uint32_t after = l->entries[sh->entry].queue.last;

	while (after && !l->shares[after].reserved_until && comes_before(sh, &l->shares[after]))
		after = l->shares[after].queue_prev;
	queue_insert(l, i, after);
}

static void waiter_rise(struct limits *l, uint32_t i, uint8_t priority)
{
	struct limit_share *sh = &l->shares[i];

	if (sh->priority >= priority)
		return;
	sh->priority = priority;
	if (sh->reserved_until)
		return;
	queue_remove(l, i);
	queue_join(l, i);
}

void waiter_join(struct limits *l, uint32_t i, uint8_t priority)
{
	struct limit_share *sh = &l->shares[i];

	if (sh->waiting) {
		waiter_rise(l, i, priority);
		return;
	}
	sh->ticket = ++l->t->tickets;
	sh->priority = priority;
	sh->missed = 0;
	sh->waiting = 1;
	count_waiting(l, &l->entries[sh->entry], 1);
	queue_join(l, i);
	contended_update(l, sh->entry);
	tell_holders(l);
}

void waiter_leave(struct limits *l, uint32_t i)
{
	struct limit_share *sh = &l->shares[i];

	if (!sh->waiting)
		return;
	sh->waiting = 0;
	reservation_drop(l, sh);
	count_waiting(l, &l->entries[sh->entry], UINT32_MAX); /* minus one */
	queue_remove(l, i);
	contended_update(l, sh->entry);
}

void waiter_restore(struct limits *l, uint32_t i)
{
	struct limit_share *sh = &l->shares[i];

	sh->reserved_until = 0;
	count_waiting(l, &l->entries[sh->entry], 1);
	queue_join(l, i);
	contended_update(l, sh->entry);
}

uint32_t waiter_first(const struct limits *l, uint32_t e)
{
	uint32_t i = l->entries[e].queue.first;

	while (i && l->shares[i].reserved_until)
		i = l->shares[i].queue_next;
	return i;
}

static void expiry_at_most(struct limits *l, usec_t at)
{
	uint64_t old = atomic_load_explicit(&l->t->next_expiry, memory_order_relaxed);

	if (!old || at < old)
		atomic_store_explicit(&l->t->next_expiry, at, memory_order_relaxed);
}

static uint32_t longest_waiting(const struct limits *l, uint32_t from)
{
	uint32_t oldest = from, i;

	for (i = from; i; i = l->shares[i].queue_next)
		if (l->shares[i].ticket < l->shares[oldest].ticket)
			oldest = i;
	return oldest;
}

/* Whose turn it is: the first, unless one behind it was passed over too often; that one then is the first. */
static uint32_t next_served(struct limits *l, uint32_t first)
{
	struct limit_entry *e = &l->entries[l->shares[first].entry];
	uint32_t oldest;

	if (l->shares[e->queue.last].priority == l->shares[first].priority)
		return first;
	oldest = longest_waiting(l, first);
	if (oldest != first && e->passed_over++ < LIMIT_PASSED_OVER_MAX)
		return first;
	e->passed_over = 0;
	if (oldest != first) {
		uint32_t after = l->shares[first].queue_prev;

		queue_remove(l, oldest);
		queue_insert(l, oldest, after);
	}
	return oldest;
}

void waiters_serve(struct limits *l, uint32_t i)
{
	struct limit_entry *e = &l->entries[i];
	uint32_t sh = waiter_first(l, i);

	while (sh && e->in_use + e->reserved < e->cap) {
		if (l->bell_n == LIMIT_BELLS_MAX) {
			expiry_at_most(l, l->now ? l->now : 1); /* the next operation goes on */
			return;
		}
		sh = next_served(l, sh);
		l->shares[sh].reserved_until = l->now + LIMIT_RESERVE_USEC;
		e->reserved++;
		expiry_at_most(l, l->now + LIMIT_RESERVE_USEC);
		l->bells[l->bell_n++] = l->shares[sh].slot;
		sh = l->shares[sh].queue_next;
	}
}

/* The first in the queue left its slot unused: to the end with it, or out after some times. */
static void waiter_missed(struct limits *l, uint32_t i)
{
	struct limit_share *sh = &l->shares[i];

	if (++sh->missed >= LIMIT_MISSES_MAX) {
		waiter_leave(l, i);
		share_check_unused(l, i);
		return;
	}
	reservation_drop(l, sh);
	sh->ticket = ++l->t->tickets;
	queue_remove(l, i);
	queue_join(l, i);
	tell_holders(l);
}

void waiters_expire(struct limits *l)
{
	uint32_t i, next, sh;

	atomic_store_explicit(&l->t->next_expiry, 0, memory_order_relaxed);
	for (i = l->t->contended.first; i; i = next) {
		next = l->entries[i].next;
		while ((sh = l->entries[i].queue.first) && l->shares[sh].reserved_until &&
		       l->shares[sh].reserved_until <= l->now)
			waiter_missed(l, sh);
		if (sh && l->shares[sh].reserved_until)
			expiry_at_most(l, l->shares[sh].reserved_until);
		waiters_serve(l, i);
	}
}
