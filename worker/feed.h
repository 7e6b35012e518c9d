/*
 * feed.h - reads the spool: new mail from table fresh in the order of its arrival (four classes, 8:4:2:1),
 * deferred mail from the due table of each queue that the wake table names.
 *
 * One burst = one short read transaction, at most 1,000 rows; it begins by letting go of recipients
 * whose outcomes are committed. Cursors over fresh only go forward: what is read there and cannot be
 * held is parked. The wake table drives all waiting: nothing here grows with the number of queues.
 */
#ifndef SLUICE_WORKER_FEED_H
#define SLUICE_WORKER_FEED_H

#include <stdbool.h>

struct feed;
struct queue;
struct worker;

struct feed *feed_new(struct worker *w);
void feed_free(struct feed *f);

/* The bell rang: there may be new mail, or room in the ring. Reads in a deferred call. */
void feed_wake(struct feed *f);
/* The queue may have more in its due table. */
void feed_refill(struct feed *f, struct queue *q);
/* It goes away. */
void feed_forget(struct feed *f, struct queue *q);
/*
 * Takes the message of the queue that is due first, though its time may not have come: somebody wants to see
 * it go. False: there is none but what is in hand.
 */
bool feed_take_ahead(struct feed *f, struct queue *q);
/* Walk the wake table again from its start (orders have moved rows). */
void feed_rewind(struct feed *f);

#endif
