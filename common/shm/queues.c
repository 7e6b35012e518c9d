/*
 * Queue slots: an index of ids with open addressing (linear probing) and, at the same place, the
 * slot. The hash keeps 16 neighbouring ids together: ids are given out one after the other, so the
 * queues of one sending lie in few pages. The committer is the only writer of the index; readers
 * take no lock. A deleted id stays as a mark while something behind it may have been pushed on by
 * it; marks at the end of a run become free again.
 */
#include "common/shm/layout.h"

#include <string.h>

#include "common/base/log.h"

#define TEXT_TRIES 100

static _Atomic uint32_t *index_at(const struct shm *s, uint32_t at)
{
	return (_Atomic uint32_t *)shm_at(s, s->queue_index_at) + at;
}

static _Atomic uint8_t *index_page(const struct shm *s, uint32_t at)
{
	return (_Atomic uint8_t *)shm_at(s, s->queue_pages_at) + (at >> SHM_QUEUE_INDEX_PAGE_BITS);
}

/* The id at this place; does not touch a page of the index that was never written. */
static uint32_t index_id(const struct shm *s, uint32_t at)
{
	if (!atomic_load_explicit(index_page(s, at), memory_order_acquire))
		return 0;
	return atomic_load_explicit(index_at(s, at), memory_order_acquire);
}

static void index_set(struct shm *s, uint32_t at, uint32_t id)
{
	atomic_store_explicit(index_at(s, at), id, memory_order_release);
	atomic_store_explicit(index_page(s, at), 1, memory_order_release);
}

static struct shm_queue *queue_at(const struct shm *s, uint32_t at)
{
	return shm_at(s, s->queues_at + (uint64_t)at * SHM_QUEUE_STRIDE);
}

static uint32_t home_of(const struct shm *s, uint32_t id)
{
	uint32_t group = id >> SHM_QUEUE_GROUP_BITS;

	group = (group ^ group >> 16) * UINT32_C(0x45d9f3b);
	group = (group ^ group >> 16) * UINT32_C(0x45d9f3b);
	group ^= group >> 16;
	return (group << SHM_QUEUE_GROUP_BITS | (id & ((1U << SHM_QUEUE_GROUP_BITS) - 1))) &
	       (s->queue_slots - 1);
}

static bool id_valid(uint32_t id)
{
	return id != 0 && id != SHM_QUEUE_DELETED;
}

/* Where the id is: true. Else false and *ret_free is where it may go (queue_slots: nowhere). */
static bool probe(const struct shm *s, uint32_t id, uint32_t *ret_at, uint32_t *ret_free)
{
	uint32_t mask = s->queue_slots - 1, at = home_of(s, id), i;

	*ret_free = s->queue_slots;
	for (i = 0; i <= mask; i++, at = (at + 1) & mask) {
		uint32_t here = index_id(s, at);

		if (here == id) {
			*ret_at = at;
			return true;
		}
		if (!id_valid(here) && *ret_free == s->queue_slots)
			*ret_free = at;
		if (here == 0)
			break;
	}
	return false;
}

struct shm_queue *shm_queue_find(struct shm *s, uint32_t id)
{
	uint32_t at, unused;

	return id_valid(id) && probe(s, id, &at, &unused) ? queue_at(s, at) : NULL;
}

struct shm_queue *shm_queue_claim(struct shm *s, uint32_t id)
{
	struct shm_queue *q;
	uint32_t at, free_at;

	if (!id_valid(id))
		return NULL;
	if (probe(s, id, &at, &free_at))
		return queue_at(s, at);
	if (free_at == s->queue_slots ||
	    atomic_load_explicit(&s->live_queues, memory_order_relaxed) >= s->max_live_queues)
		return NULL;
	q = queue_at(s, free_at);
	memset(q, 0, sizeof(*q));
	atomic_store_explicit(&q->id, id, memory_order_release);
	index_set(s, free_at, id);
	atomic_fetch_add_explicit(&s->live_queues, 1, memory_order_relaxed);
	return q;
}

/* Marks at the end of a run push nothing on any more. */
static void clear_marks(struct shm *s, uint32_t at)
{
	uint32_t mask = s->queue_slots - 1;

	if (index_id(s, (at + 1) & mask) != 0)
		return;
	while (index_id(s, at) == SHM_QUEUE_DELETED) {
		index_set(s, at, 0);
		at = (at - 1) & mask;
	}
}

/* Gives the memory of the slot's page back when no queue is left in it. */
static void forget_page(struct shm *s, uint32_t at)
{
	uint32_t n = 1U << SHM_QUEUE_GROUP_BITS, first = at & ~(n - 1), i;

	for (i = 0; i < n; i++)
		if (id_valid(index_id(s, first + i)))
			return;
	shm_forget(s, s->queues_at + (uint64_t)first * SHM_QUEUE_STRIDE, SHM_PAGE);
}

void shm_queue_release(struct shm *s, uint32_t id)
{
	uint32_t at, unused;

	if (!id_valid(id) || !probe(s, id, &at, &unused))
		return;
	index_set(s, at, SHM_QUEUE_DELETED);
	atomic_store_explicit(&queue_at(s, at)->id, SHM_QUEUE_DELETED, memory_order_release);
	atomic_fetch_sub_explicit(&s->live_queues, 1, memory_order_relaxed);
	clear_marks(s, at);
	forget_page(s, at);
}

uint32_t shm_live_queues(const struct shm *s)
{
	return atomic_load_explicit(&s->live_queues, memory_order_relaxed);
}

struct shm_queue *shm_queue_next(struct shm *s, uint32_t *pos)
{
	const uint32_t page = 1U << SHM_QUEUE_INDEX_PAGE_BITS;

	while (*pos < s->queue_slots) {
		uint32_t at = *pos;

		if (!atomic_load_explicit(index_page(s, at), memory_order_acquire)) {
			*pos = (at | (page - 1)) + 1;
			continue;
		}
		*pos = at + 1;
		if (id_valid(index_id(s, at)))
			return queue_at(s, at);
	}
	return NULL;
}

void shm_queue_set_text(struct shm_queue *q, struct slice text)
{
	size_t n = text.n < SHM_QUEUE_TEXT ? text.n : SHM_QUEUE_TEXT - 1, i;
	/* odd already when the last writer died while writing */
	uint32_t v = atomic_load_explicit(&q->version, memory_order_relaxed) | 1;

	atomic_store_explicit(&q->version, v, memory_order_relaxed);
	atomic_thread_fence(memory_order_release);
	for (i = 0; i < n; i++)
		__atomic_store_n(&q->text[i], text.p[i], __ATOMIC_RELAXED);
	__atomic_store_n(&q->text[n], '\0', __ATOMIC_RELAXED);
	atomic_store_explicit(&q->version, v + 1, memory_order_release);
}

static void text_copy(const struct shm_queue *q, char *ret)
{
	size_t i;

	for (i = 0; i < SHM_QUEUE_TEXT - 1; i++) {
		ret[i] = __atomic_load_n(&q->text[i], __ATOMIC_RELAXED);
		if (!ret[i])
			return;
	}
	ret[i] = '\0';
}

void shm_queue_get_text(const struct shm_queue *q, char *ret)
{
	int tries;

	/* a writer that died leaves the version odd: then take what is there */
	for (tries = 0; tries < TEXT_TRIES; tries++) {
		uint32_t v = atomic_load_explicit(&q->version, memory_order_acquire);

		text_copy(q, ret);
		atomic_thread_fence(memory_order_acquire);
		if (!(v & 1) && atomic_load_explicit(&q->version, memory_order_relaxed) == v)
			return;
	}
}
