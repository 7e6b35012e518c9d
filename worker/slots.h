/*
 * slots.h - whose turn it is to connect, and the caps in shared memory.
 *
 * A site that wants a connection and is held by a cap waits with the other sites of this worker that
 * the cap holds: those of the highest queue-priority first, among them those without any connection, each list in the order in which they came.
 * Sites whose host nobody has reached (yet) have a small share of the places, probe.h; half of it is for
 * those that came last, so that living ones need not wait until many silent ones have been tried.
 * Only the first of each list asks again, so nobody waits behind a cap that is not its own, and the cost
 * does not grow with the number of sites that wait. When a slot is free elsewhere, the worker's bell
 * rings: slots_pump().
 *
 * Between workers lease_should_yield() says who gives way; between the sites of one worker it is
 * slots_should_yield(), by the same rules.
 */
#ifndef SLUICE_WORKER_SLOTS_H
#define SLUICE_WORKER_SLOTS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "common/base/clock.h"
#include "common/base/ip.h"
#include "common/shm/limits.h"

struct connection;
struct queue;
struct site;
struct slots;
struct wants;
struct worker;

/* A cap as this worker sees it: what it holds of it and which of its sites wait for it. */
struct cap;

/* The sites of one queue-priority that wait for a cap, and the connections that may make room in it for a higher one. */
struct level;

/* A connection among these. */
struct slots_rank {
	struct connection *c;
	struct level *level; /* NULL: it is not */
	TAILQ_ENTRY(slots_rank) link;
};

/* What a connection holds. */
struct slots_hold {
	lease_id lease;
	uint8_t n;
	bool leaving; /* it was told to make room for another site of this worker */
	struct cap *caps[LEASE_ENTRIES];
	struct slots_rank ranks[LEASE_ENTRIES]; /* in each of them */
};

struct slots *slots_new(struct worker *w);
void slots_free(struct slots *sl);

void slots_want(struct site *s);
void slots_unwant(struct site *s);
/* Its number of connections has changed: with none it comes before others. */
void slots_site_changed(struct site *s);
/* Sites of this worker wait for a cap that holds all of them. */
bool slots_all_wait(const struct worker *w);
/* Gives turns, in a deferred call; from anywhere. */
void slots_pump(struct worker *w);
/*
 * A new configuration is in w->conf and in the sites: open connections count in the caps that it has
 * for them, and all who wait ask again. Also once at the start.
 */
void slots_adopt(struct worker *w);

/*
 * A place in each of these. False: there is none; *ret_by is the one that has no room, or NULL when it is
 * another reason, which *ret_why names, and which holds all sites of this worker.
 */
bool slots_take(struct site *s, const struct wants *x, struct slots_hold *ret,
		const struct limit_want **ret_by, const char **ret_why);
/* The site waits for room in this one. True: all sites of this worker do. */
bool slots_held_by(struct site *s, const struct limit_want *by);
/* Others of its kind have waited longer. */
bool slots_is_newer(const struct site *s);
/* The site waits for something in shared memory that is no cap. */
void slots_held_for(struct site *s, const char *why);
/* A connection was made with it; from now on others may have it make room. */
void slots_opened(struct connection *c);
/* No connection was made with it. */
void slots_put_back(struct worker *w, struct slots_hold *h);
/* The peer has seen the end of the connection, and its site no longer counts it. */
void slots_give(struct connection *c);
/* The process ends: its lease is given back by master. */
void slots_discard(struct connection *c);
/* It has no mail: it is asked soon when somebody begins to wait (connection_look()). */
void slots_idle(struct connection *c);
void slots_busy(struct connection *c);
/* Should this connection close, so that another worker or another site has its turn? */
bool slots_should_yield(struct connection *c, bool idle);

#endif
