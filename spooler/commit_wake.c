/*
 * commit_wake.c - the queues that a transaction touches: their wake rows and their live counts.
 *
 * A queue with rows in table due has exactly one wake row, at max(first due time, the time that its
 * worker asked for). Where that row is now is kept in memory (wake_map): the row's key holds the time. Both the
 * map and the live counts in shared memory change only after the commit.
 */
#include "spooler/commit_private.h"

#include <inttypes.h>
#include <stdlib.h>

#define NO_WAKE UINT64_MAX
#define WAKE_MAP_MIN 1024
#define SLOT_WARNING_MSEC (60 * MSEC_PER_SEC)

/* --- the map --- */

static size_t wake_home(const struct wake_map *m, uint32_t queue)
{
	return (size_t)(queue * UINT32_C(2654435761)) & (m->size - 1);
}

static struct wake_entry *wake_at(struct wake_map *m, uint32_t queue)
{
	size_t i;

	if (!m->size)
		return NULL;
	for (i = wake_home(m, queue); m->v[i].queue; i = (i + 1) & (m->size - 1))
		if (m->v[i].queue == queue)
			return &m->v[i];
	return NULL;
}

static struct wake_entry *wake_insert(struct wake_map *m, struct wake_entry e)
{
	size_t i = wake_home(m, e.queue);

	while (m->v[i].queue && m->v[i].queue != e.queue)
		i = (i + 1) & (m->size - 1);
	if (!m->v[i].queue)
		m->used++;
	m->v[i] = e;
	return &m->v[i];
}

static void wake_grow(struct wake_map *m)
{
	struct wake_map bigger = {.size = m->size ? 2 * m->size : WAKE_MAP_MIN};
	size_t i;

	bigger.v = xcalloc(bigger.size, sizeof(*bigger.v));
	for (i = 0; i < m->size; i++)
		if (m->v[i].queue)
			wake_insert(&bigger, m->v[i]);
	free(m->v);
	*m = bigger;
}

static void wake_set(struct wake_map *m, struct wake_entry e)
{
	if (4 * (m->used + 1) > 3 * m->size)
		wake_grow(m);
	wake_insert(m, e);
}

/* What stands behind in the same run moves up, so that no marks are needed. */
static void wake_remove(struct wake_map *m, uint32_t queue)
{
	struct wake_entry *e = wake_at(m, queue);
	size_t i;

	if (!e)
		return;
	i = (size_t)(e - m->v);
	m->v[i].queue = 0;
	m->used--;
	for (i = (i + 1) & (m->size - 1); m->v[i].queue; i = (i + 1) & (m->size - 1)) {
		struct wake_entry moved = m->v[i];

		m->v[i].queue = 0;
		m->used--;
		wake_insert(m, moved);
	}
}

void wake_map_done(struct wake_map *m)
{
	free(m->v);
	*m = (struct wake_map){.size = 0};
}

/* --- at the start --- */

#define LOAD_CHUNK 1000

static int load_vmta(struct commit *c, uint32_t vmta)
{
	struct spool_wake_pos pos = {.started = false};
	struct spool_wake_row rows[LOAD_CHUNK];
	struct spool_read *r;
	size_t n, i;

	do {
		int rc = spool_read_begin(c->spool, &r);

		if (rc < 0)
			return rc;
		n = spool_wake_scan(r, vmta, UINT64_MAX, &pos, rows, LOAD_CHUNK);
		spool_read_end(r);
		for (i = 0; i < n; i++)
			wake_set(&c->wakes, (struct wake_entry){.queue = rows[i].queue,
								.guess = true,
								.at = rows[i].at});
	} while (n == LOAD_CHUNK);
	return 0;
}

int wake_load(struct commit *c)
{
	struct spool_vmta m;
	uint32_t after = 0;
	int rc = 0, more;

	do {
		struct spool_read *r;

		rc = spool_read_begin(c->spool, &r);
		if (rc < 0)
			return rc;
		more = spool_vmta_next(r, &after, &m);
		spool_read_end(r);
		if (more > 0)
			rc = load_vmta(c, after);
	} while (rc == 0 && more > 0);
	return rc < 0 ? rc : more;
}

/* --- touching --- */

static msec_t first_due(struct commit *c, uint32_t queue)
{
	return spool_due_first(write_read(c->w), queue);
}

struct commit_touch *touch_queue(struct commit *c, uint32_t queue, uint32_t vmta)
{
	struct commit_touch *t;

	HASH_FIND(hh, c->touched, &queue, sizeof(queue), t);
	if (t)
		return t;
	t = xcalloc(1, sizeof(*t));
	t->queue = queue;
	t->vmta = vmta;
	HASH_ADD(hh, c->touched, queue, sizeof(t->queue), t);
	return t;
}

struct commit_touch *touch_due(struct commit *c, uint32_t queue, uint32_t vmta)
{
	struct commit_touch *t = touch_queue(c, queue, vmta);
	struct wake_entry *e;

	if (t->due)
		return t;
	t->due = true;
	e = wake_at(&c->wakes, queue);
	t->old_at = e ? e->at : NO_WAKE;
	t->old_asked = e ? e->asked : 0;
	if (e && e->guess) /* later than the first mail only because somebody asked for it */
		t->old_asked = e->at > first_due(c, queue) ? e->at : 0;
	t->asked = t->old_asked;
	return t;
}

void touch_count(struct commit *c, struct commit_touch *t, uint64_t msgid, uint32_t rcpt,
		 int64_t bytes, int sign)
{
	if (sign < 0 && !recount_has(c, msgid, rcpt))
		return;
	t->recipients += sign;
	t->bytes += sign * bytes;
}

/* --- before the commit --- */

static int move_wake(struct commit *c, struct commit_touch *t)
{
	struct spool_key old = key_wake(t->vmta, t->old_at, t->queue);
	struct spool_key new = key_wake(t->vmta, t->at, t->queue);
	int rc = 0;

	if (t->at == t->old_at)
		return 0;
	if (t->old_at != NO_WAKE)
		rc = write_delete(c->w, SPOOL_WAKE, &old);
	if (rc == 0 && t->at != NO_WAKE)
		rc = write_put(c->w, SPOOL_WAKE, &new, slice_of("", 0));
	return rc;
}

int wake_store(struct commit *c)
{
	struct commit_touch *t, *next;

	HASH_ITER(hh, c->touched, t, next) {
		struct commit_vmta *v;
		msec_t first;
		int rc = t->recipients ? cache_queue_stamp(c, t->queue) : 0;

		if (rc < 0)
			return rc;
		if (!t->due)
			continue;
		first = first_due(c, t->queue);
		t->at = first == NO_WAKE ? NO_WAKE : first > t->asked ? first : t->asked;
		rc = move_wake(c, t);
		if (rc < 0)
			return rc;
		v = t->at != t->old_at ? cache_vmta_by_id(c, t->vmta) : NULL;
		if (v)
			v->ring = true;
	}
	return 0;
}

/* --- after the commit --- */

static void warn_no_slot(struct commit *c, uint32_t queue)
{
	if (c->slots_warned && c->now < c->slots_warned + SLOT_WARNING_MSEC)
		return;
	c->slots_warned = c->now;
	log_warn(NULL,
		 "no slot for the live counts of a queue; its mail goes through the due "
		 "table (raise max-live-queues)",
		 LOG_U("queue", queue));
}

static uint64_t moved(uint64_t v, int64_t by)
{
	return by < 0 && (uint64_t)-by > v ? 0 : v + (uint64_t)by;
}

static void publish_count(struct commit *c, const struct commit_touch *t)
{
	struct shm_queue *q = shm_queue_claim(c->shm, t->queue);
	uint64_t n;

	if (!q) {
		warn_no_slot(c, t->queue);
		return;
	}
	n = moved(atomic_load_explicit(&q->recipients, memory_order_relaxed), t->recipients);
	atomic_store_explicit(&q->recipients, n, memory_order_relaxed);
	atomic_store_explicit(
		&q->bytes,
		n ? moved(atomic_load_explicit(&q->bytes, memory_order_relaxed), t->bytes) : 0,
		memory_order_relaxed);
	if (n == 0 && c->counted)
		shm_queue_release(c->shm, t->queue);
}

void wake_publish(struct commit *c)
{
	struct commit_touch *t, *next;

	HASH_ITER(hh, c->touched, t, next) {
		if (t->due && t->at == NO_WAKE)
			wake_remove(&c->wakes, t->queue);
		else if (t->due)
			wake_set(&c->wakes, (struct wake_entry){.queue = t->queue,
								.at = t->at,
								.asked = t->asked});
		if (t->recipients || t->bytes)
			publish_count(c, t);
	}
}

/* A slot that was taken for mail of a transaction that failed goes back. */
static void give_slot_back(struct commit *c, uint32_t queue)
{
	struct shm_queue *q = c->counted ? shm_queue_find(c->shm, queue) : NULL;

	if (q && atomic_load_explicit(&q->recipients, memory_order_relaxed) == 0)
		shm_queue_release(c->shm, queue);
}

void touch_forget(struct commit *c)
{
	struct commit_touch *t, *next;

	HASH_ITER(hh, c->touched, t, next) {
		give_slot_back(c, t->queue);
		HASH_DEL(c->touched, t);
		free(t);
	}
}
