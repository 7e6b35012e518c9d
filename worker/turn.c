#include "worker/turn.h"

#include "worker/inhand.h"
#include "worker/paces.h"
#include "worker/reroute.h"

static const int class_share[SPOOL_CLASSES] = {8, 4, 2, 1};

void turn_init(struct turn *t)
{
	for (int c = 0; c < SPOOL_CLASSES; c++) {
		TAILQ_INIT(&t->queues[c]);
		t->credit[c] = 0;
	}
}

void turn_add(struct turn *t, struct queue *q, uint8_t class)
{
	TAILQ_INSERT_TAIL(&t->queues[class], q, in_turn[class]);
}

void turn_remove(struct turn *t, struct queue *q, uint8_t class)
{
	TAILQ_REMOVE(&t->queues[class], q, in_turn[class]);
}

void turn_leave(struct turn *t, struct queue *q)
{
	for (uint8_t c = 0; c < SPOOL_CLASSES; c++)
		if (!TAILQ_EMPTY(&q->lanes[c]))
			turn_remove(t, q, c);
}

void turn_enter(struct turn *t, struct queue *q)
{
	for (uint8_t c = 0; c < SPOOL_CLASSES; c++)
		if (!TAILQ_EMPTY(&q->lanes[c]))
			turn_add(t, q, c);
}

static struct queue *first_running(const struct turn *t, int class)
{
	struct queue *q;

	TAILQ_FOREACH(q, &t->queues[class], in_turn[class])
		if (!q->paused && !paces_holds(q) && !reroute_is_active(q))
			return q;
	return NULL;
}

struct parcel *turn_next(struct turn *t)
{
	for (int round = 0; round < 2; round++) {
		for (int c = 0; c < SPOOL_CLASSES; c++) {
			struct queue *q = t->credit[c] > 0 ? first_running(t, c) : NULL;

			if (q)
				return TAILQ_FIRST(&TAILQ_FIRST(&q->lanes[c])->parcels);
		}
		for (int c = 0; c < SPOOL_CLASSES; c++)
			t->credit[c] = class_share[c];
	}
	return NULL;
}

void turn_used(struct turn *t, struct parcel *p)
{
	struct queue *q = p->queue;
	struct lane *l = p->lane;

	t->credit[p->class]--;
	TAILQ_REMOVE(&q->lanes[p->class], l, link);
	TAILQ_INSERT_TAIL(&q->lanes[p->class], l, link);
	turn_remove(t, q, p->class);
	turn_add(t, q, p->class);
}

uint8_t turn_best_class(const struct turn *t)
{
	uint8_t c = 0;

	while (c < SPOOL_CLASSES && TAILQ_EMPTY(&t->queues[c]))
		c++;
	return c;
}
