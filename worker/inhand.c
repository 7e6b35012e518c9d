#include "worker/inhand.h"

#include <stdlib.h>

#include "common/base/log.h"
#include "common/base/xalloc.h"
#include "common/shm/shm.h"
#include "worker/context.h"
#include "worker/queue.h"

#define INHAND_MAX 20000
#define CLASS_STEP 2000 /* each class has so much less than the one above it */
#define QUEUE_SHARE_MAX 1000

struct inhand {
	struct worker *w;
	struct item *items; /* uthash */
	struct parcel *parcels; /* uthash */
	struct item_list done; /* by position */
	size_t count;
	size_t unreached; /* of these, items of queues whose host has not been reached */
};

struct inhand *inhand_new(struct worker *w)
{
	struct inhand *h = xcalloc(1, sizeof(*h));

	h->w = w;
	TAILQ_INIT(&h->done);
	return h;
}

void inhand_free(struct inhand *h)
{
	struct item *it, *next_item;
	struct parcel *p, *next_parcel;

	if (!h)
		return;
	HASH_ITER(hh, h->items, it, next_item) {
		HASH_DEL(h->items, it);
		free(it->leave);
		free(it);
	}
	HASH_ITER(hh, h->parcels, p, next_parcel) {
		HASH_DEL(h->parcels, p);
		free(p);
	}
	free(h);
}

struct item *inhand_find(struct inhand *h, uint64_t msgid, uint32_t rcpt)
{
	const struct item_key key = {.msgid = msgid, .rcpt = rcpt};
	struct item *it;

	HASH_FIND(hh, h->items, &key, sizeof(key), it);
	return it;
}

struct item *inhand_add(struct inhand *h, uint64_t msgid, uint32_t rcpt, struct queue *q,
			bool fresh)
{
	struct item *it = xcalloc(1, sizeof(*it));

	it->key = (struct item_key){.msgid = msgid, .rcpt = rcpt};
	it->queue = q;
	it->fresh = fresh;
	it->state = ITEM_WAITING;
	HASH_ADD(hh, h->items, key, sizeof(it->key), it);
	h->count++;
	h->unreached += !q->reached;
	counter_set(h->w->counters, COUNTER_RECIPIENTS_IN_HAND, h->count);
	queue_item_added(q);
	return it;
}

static void item_drop(struct inhand *h, struct item *it)
{
	struct queue *q = it->queue;

	HASH_DEL(h->items, it);
	h->count--;
	h->unreached -= !q->reached;
	counter_set(h->w->counters, COUNTER_RECIPIENTS_IN_HAND, h->count);
	free(it->leave);
	free(it);
	queue_item_gone(q);
}

void inhand_forget(struct inhand *h, struct item *it)
{
	invariant(it->state == ITEM_WAITING);
	item_drop(h, it);
}

void inhand_done(struct inhand *h, struct item *it, uint64_t position)
{
	invariant(it->state != ITEM_DONE);
	it->state = ITEM_DONE;
	invariant(it->parcel == NULL);
	it->position = position;
	TAILQ_INSERT_TAIL(&h->done, it, link);
}

size_t inhand_settle(struct inhand *h, uint64_t committed)
{
	struct item *it;
	size_t n = 0;

	while ((it = TAILQ_FIRST(&h->done)) && it->position <= committed) {
		TAILQ_REMOVE(&h->done, it, link);
		item_drop(h, it);
		n++;
	}
	return n;
}

bool inhand_has_done(const struct inhand *h)
{
	return !TAILQ_EMPTY(&h->done);
}

uint64_t inhand_first_done(const struct inhand *h)
{
	const struct item *it = TAILQ_FIRST(&h->done);

	return it ? it->position : UINT64_MAX;
}

size_t inhand_count(const struct inhand *h)
{
	return h->count;
}

static size_t room(const struct inhand *h, bool reached, uint8_t class)
{
	size_t max = INHAND_MAX - (size_t) class * CLASS_STEP;
	size_t most = max / 2;

	if (h->count >= max || (!reached && h->unreached >= most))
		return 0;
	if (!reached && most - h->unreached < max - h->count)
		return most - h->unreached;
	return max - h->count;
}

size_t inhand_share(const struct inhand *h, const struct queue *q, uint8_t class)
{
	size_t share = room(h, q->reached, class);

	if (share == 0)
		return 0;
	share /= q->reached ? 4 : 8;
	if (share > QUEUE_SHARE_MAX)
		return QUEUE_SHARE_MAX;
	return share < 2 ? 2 : share;
}

bool inhand_full(const struct inhand *h)
{
	return room(h, true, 0) == 0;
}

bool inhand_unreached_full(const struct inhand *h)
{
	return room(h, false, SPOOL_CLASS_DEFAULT) == 0;
}

void inhand_set_reached(struct inhand *h, struct queue *q, bool reached)
{
	if (q->reached == reached)
		return;
	q->reached = reached;
	if (reached)
		h->unreached -= q->items;
	else
		h->unreached += q->items;
}

struct parcel *parcel_find(struct inhand *h, uint64_t msgid, struct queue *q)
{
	const struct parcel_key key = {.msgid = msgid, .queue = q->id};
	struct parcel *p;

	HASH_FIND(hh, h->parcels, &key, sizeof(key), p);
	return p;
}

struct parcel *parcel_add(struct inhand *h, uint64_t msgid, struct queue *q)
{
	struct parcel *p = xcalloc(1, sizeof(*p));

	p->key = (struct parcel_key){.msgid = msgid, .queue = q->id};
	p->queue = q;
	TAILQ_INIT(&p->items);
	HASH_ADD(hh, h->parcels, key, sizeof(p->key), p);
	return p;
}

void parcel_free(struct inhand *h, struct parcel *p)
{
	invariant(TAILQ_EMPTY(&p->items));
	HASH_DEL(h->parcels, p);
	free(p);
}
