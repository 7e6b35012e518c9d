/*
 * queue.h - a queue: the mail of one domain through this worker's virtual MTA, as far as it is in
 * memory. The spool has all of it; here is a bounded list of what goes next.
 *
 * Each priority class has a list of its own, and room of its own in memory: when one overflows, new mail
 * of this class alone goes to the due table. Whose turn it is: turn.h. A queue that cannot run (paused,
 * or its site waits for a retry) holds no waiting items: they are given back, its bits in shared
 * memory are set, and its wake row is pushed back, so that it never stands in another's way.
 */
#ifndef SLUICE_WORKER_QUEUE_H
#define SLUICE_WORKER_QUEUE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include "common/base/hash.h"

#include "common/base/clock.h"
#include "common/base/slice.h"
#include "common/spool/spool.h"
#include "worker/inhand.h"

#define QUEUE_MAGIC 0x71756575u
#define WAKE_NEVER (UINT64_MAX - 1) /* of REPORT_WAKE: not before further notice */

struct conf_domain;
struct queues;
struct rerouting;
struct reselecting;
struct site;

/* Parcels of one job bucket in one class. */
struct lane {
	uint8_t job;
	uint32_t waiting; /* recipients */
	TAILQ_HEAD(, parcel) parcels;
	TAILQ_ENTRY(lane) link;
};
TAILQ_HEAD(lane_list, lane);

struct queue {
	unsigned magic;
	struct worker *w;
	uint32_t id;
	char *domain; /* lower-case */
	char *name; /* "domain/vmta" */
	const struct conf_domain
		*set; /* message directives are its own also while it is rolled up */
	const struct conf_domain
		*own; /* caps and rates for it alone inside a provider's site; NULL: not in one */
	uint64_t own_max_smtp_out; /* likewise; 0: none */
	struct site *site; /* where its mail goes through */
	struct site *home; /* of its domain: the same, or it is rolled up */
	struct rollup *rollup; /* rollup.h */
	TAILQ_ENTRY(queue) in_site;

	bool paused;
	usec_t paced_until; /* a rate that is its own alone holds it until then (paces.h) */
	usec_t connect_until; /* likewise, but only connections that would be made for it */
	uint8_t paced_by; /* enum rate_measure */
	uint8_t full; /* bits of classes whose list has overflowed: their new mail goes straight to the due table */
	bool reached; /* as its site; counted so in inhand.h */
	struct rerouting *reroute; /* reroute.h; NULL: its mail stays */
	struct reselecting *reselect; /* reselect.h; NULL: nobody leaves */
	uint32_t published; /* SHM_QUEUE_* as written to shared memory */
	bool limited; /* the limit is its text in shared memory */
	bool limited_own; /* one of its site, which only its own mail uses */
	uint32_t limited_by; /* hash of the text up to ": until" */
	uint32_t limited_text; /* of all of it */
	usec_t limited_since;

	uint32_t items; /* in hand, done ones too */
	uint32_t waiting; /* WAITING */
	uint32_t class_waiting[SPOOL_CLASSES];
	uint32_t parcels;
	struct lane_list lanes[SPOOL_CLASSES]; /* those with parcels */
	TAILQ_ENTRY(queue) in_turn[SPOOL_CLASSES]; /* of its site, for classes with parcels */

	uint8_t due_more; /* bits of classes of which the due table may have more that is due */
	bool refill_listed; /* in the feed's list of refills */
	struct due_pass *due; /* due.h */
	struct condemned *condemned; /* condemn.h */
	TAILQ_ENTRY(queue) refill;
	uint64_t wake_position; /* ring position behind the last push of its wake row */

	usec_t idle_since; /* USEC_INFINITY while in use */
	UT_hash_handle hh;
};

struct queues *queues_new(struct worker *w);
void queues_free(struct queues *qs);
/* In memory already, or NULL. */
struct queue *queue_find(struct worker *w, uint32_t id);
/* Loads it if need be; NULL if the spool has no such queue, or it belongs to another virtual MTA. */
struct queue *queue_get(struct worker *w, struct spool_read *r, uint32_t id);
void queues_each(struct worker *w, void (*each)(struct queue *q, void *arg), void *arg);
/* A new configuration or new pauses. */
void queues_reconfigure(struct worker *w);
/* Drops queues that have been idle for a while. */
void queues_tidy(struct worker *w);
/* Once a second: says which limits hold queues for long, each at most once a minute. */
void queues_report_limits(struct worker *w);

/* WAITING and in no list: joins the parcel of its message, at the end of its lane, or in front. */
void queue_put(struct queue *q, struct item *it, bool front);
/* Out of its parcel (which goes away when empty); the item stays in hand, WAITING. */
void queue_remove(struct queue *q, struct item *it);
/* Recipients of a job bucket that wait. */
uint32_t queue_lane_waiting(const struct queue *q, uint8_t class, uint8_t job);
/* Any parcel, the most urgent first; stays where it is. NULL when nothing waits. */
struct parcel *queue_first(struct queue *q);

/* Its mail goes through another site. */
void queue_site_changed(struct queue *q);

/* It may not run now. */
bool queue_is_blocked(const struct queue *q);
/* When mail that is put aside should come up again: now, or the retry time. */
msec_t queue_not_before(const struct queue *q);
/*
 * Gives back all that waits: what was fresh is parked until `due`, what was due is forgotten. False: no room in the
 * ring for all; call again.
 */
bool queue_give_back(struct queue *q, msec_t due);
/* Pushes the wake row of a blocked queue behind the time that it is blocked for; once per commit. */
void queue_push_wake(struct queue *q);
/* Reads more from the due table when there is room. */
void queue_want_due(struct queue *q);

/* Flags and not_before in shared memory. */
void queue_publish(struct queue *q);
void queue_set_text(struct queue *q, struct slice text);
/* A limit holds it (text), or no longer (empty). own: it is no limit that others share. */
void queue_set_limited(struct queue *q, struct slice text, bool own);
/* site_own_hold(), or a rate of this queue alone. */
void queue_own_hold(const struct queue *q, char *ret);

/* For inhand.c: the number of items has changed. */
void queue_item_added(struct queue *q);
void queue_item_gone(struct queue *q);

#endif
