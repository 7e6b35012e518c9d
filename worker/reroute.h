/*
 * reroute.h - mail of a queue that goes through another virtual MTA.
 *
 * Asked for by a reply (reroute_queue()), by backoff-reroute-to-virtual-mta while its site is in back-off,
 * or by reroute-to-virtual-mta. The worker tells the committer, which sends new mail there from then on
 * or refuses (the mail would come back), and writes that down: table reroute. Then the worker
 * gives all that the queue has to the committer, a bounded number of recipients at a time: what it has
 * reported as given away it never touches again, and what is in an open transaction ends there or comes
 * back and goes after the others. So a recipient has one owner at every instant, whatever dies.
 *
 * Belongs to the worker's one thread.
 */
#ifndef SLUICE_WORKER_REROUTE_H
#define SLUICE_WORKER_REROUTE_H

#include <stdbool.h>

#include "common/base/slice.h"

struct queue;
struct reroutes;
struct rerouting; /* of a queue; NULL: its mail stays */
struct spool_read;
struct worker;

struct reroutes *reroutes_new(struct worker *w);
void reroutes_free(struct reroutes *x);

/*
 * A reply says so: what the queue has goes through `target` (a virtual MTA or pool), and so does new mail for
 * ten minutes, or as long as the site is in back-off or has no source left; then the queue is tried again.
 * Without a source the same holds for the other domains of a provider. why is a text for operators. A target
 * that the configuration does not have, or that is the queue's own, does nothing.
 */
void reroute_queue(struct queue *q, const char *target, const char *why);
/* No transaction of the queue may begin: its mail is leaving, or is about to. */
bool reroute_is_active(const struct queue *q);
/* The queue must stay in memory, so that its reroute ends when its reason does. */
bool reroute_keeps(const struct queue *q);
/* What holds now: after loading, with new settings, a new mode, and once a second. */
void reroute_look(struct queue *q);
/* The queue was just loaded: what an earlier worker has begun. */
void reroute_load(struct queue *q, struct spool_read *r);
/* Whether a queue that is not in memory should be loaded for its reroute; site: the name of its site. */
bool reroute_may_want(struct worker *w, struct spool_read *r, struct slice site);
/* The queue goes away. */
void reroute_forget(struct queue *q);

struct item;
/*
 * An order to move it came while it was OPEN, and its transaction leaves it undelivered (in no list; its
 * outcome, if it has one, was put before): it goes, and is done. False: no room in the ring; it stays.
 */
bool reroute_leave(struct item *it);

/* In a burst of reading: takes up what the committer says, gives away what is next. */
void reroutes_burst(struct reroutes *x, struct spool_read *r);

/* Where the mail goes; NULL: it stays. */
const char *reroute_target(const struct queue *q);
const char *reroute_why(const struct queue *q);

#endif
