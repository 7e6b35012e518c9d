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

static struct queue *first_running(struct turn *t, uint8_t class, unsigned looks, turn_cb *may,
				   void *arg)
{
	struct turn_list *list = &t->queues[class];
	struct queue *q, *next, *end = TAILQ_LAST(list, turn_list);

	for (q = TAILQ_FIRST(list); q && looks; q = q == end ? NULL : next) {
		next = TAILQ_NEXT(q, in_turn[class]);
		if (q->paused || paces_holds(q) || reroute_is_active(q))
			continue;
		if (!may || may(q, arg))
			return q;
		looks--;
		TAILQ_REMOVE(list, q, in_turn[class]);
		TAILQ_INSERT_TAIL(list, q, in_turn[class]);
	}
	return NULL;
}

struct parcel *turn_next_that(struct turn *t, unsigned looks, turn_cb *may, void *arg)
{
	for (int round = 0; round < 2; round++) {
		for (uint8_t c = 0; c < SPOOL_CLASSES; c++) {
			struct queue *q =
				t->credit[c] > 0 ? first_running(t, c, looks, may, arg) : NULL;

			if (q)
				return TAILQ_FIRST(&TAILQ_FIRST(&q->lanes[c])->parcels);
		}
		for (int c = 0; c < SPOOL_CLASSES; c++)
			t->credit[c] = class_share[c];
	}
	return NULL;
}

struct parcel *turn_next(struct turn *t)
{
	return turn_next_that(t, 1, NULL, NULL);
}

void turn_behind(struct turn *t, struct queue *q)
{
	turn_leave(t, q);
	turn_enter(t, q);
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
