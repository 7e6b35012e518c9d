/*
 * reselect.h - recipients leave a virtual MTA whose site is in back-off, or has all sources disabled, for a
 * better member of their pool (reselect = backoff).
 *
 * The worker says whose turn it could be: recipients of such a pool that were not looked at within
 * reselect-interval. The committer knows the other members, chooses, and moves them or notes that there
 * was none. The queue goes on meanwhile with what stays. Belongs to the worker's one thread.
 */
#ifndef SLUICE_WORKER_RESELECT_H
#define SLUICE_WORKER_RESELECT_H

#include <stdbool.h>

struct queue;
struct reselecting; /* of a queue; NULL: nobody leaves */
struct reselects;
struct spool_read;
struct worker;

struct reselects *reselects_new(struct worker *w);
void reselects_free(struct reselects *x);

/* Once a second: whether recipients should look elsewhere. */
void reselect_look(struct queue *q);
/* The queue must stay in memory for it. */
bool reselect_keeps(const struct queue *q);
/* The queue goes away. */
void reselect_forget(struct queue *q);
/* In a burst of reading: the next ones. */
void reselects_burst(struct reselects *x, struct spool_read *r);

#endif
