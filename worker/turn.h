/*
 * turn.h - whose turn it is inside a site: four priority classes share 8:4:2:1, over all queues of the
 * site; inside a class queues take turns, inside a queue its jobs.
 *
 * A queue stands in the list of each class of which it has parcels. Part of its site, one thread.
 */
#ifndef SLUICE_WORKER_TURN_H
#define SLUICE_WORKER_TURN_H

#include <sys/queue.h>

#include "common/spool/spool.h"
#include "worker/queue.h"

struct parcel;

TAILQ_HEAD(turn_list, queue);

struct turn {
	struct turn_list queues[SPOOL_CLASSES]; /* the first is the next to be asked */
	int credit[SPOOL_CLASSES];
};

void turn_init(struct turn *t);
/* The queue has got its first parcel of this class, or has no more. */
void turn_add(struct turn *t, struct queue *q, uint8_t class);
void turn_remove(struct turn *t, struct queue *q, uint8_t class);
/* The queue, with all that it has, goes to another site or away. */
void turn_leave(struct turn *t, struct queue *q);
void turn_enter(struct turn *t, struct queue *q);
/* The parcel whose turn it is among queues that neither are paused nor wait for a rate of their own; stays where it is. NULL: none. */
struct parcel *turn_next(struct turn *t);
/*
 * The same among queues of which may() says yes. At most so many are asked in each class; those that say no
 * go behind the others, so that the next call asks others. may() changes nothing in turns.
 */
typedef bool turn_cb(struct queue *q, void *arg);
struct parcel *turn_next_that(struct turn *t, unsigned looks, turn_cb *may, void *arg);
/* The queue has its turn when all others had theirs. */
void turn_behind(struct turn *t, struct queue *q);
/* It was used: its lane, queue and class have had their turn. */
void turn_used(struct turn *t, struct parcel *p);
/* The most urgent class that has a parcel, SPOOL_CLASSES without one. */
uint8_t turn_best_class(const struct turn *t);

#endif
