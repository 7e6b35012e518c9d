#include "worker/queue.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/log.h"
#include "common/base/xalloc.h"
#include "common/conf/conf.h"
#include "worker/condemn.h"
#include "worker/context.h"
#include "worker/due.h"
#include "worker/events.h"
#include "worker/feed.h"
#include "worker/duties.h"
#include "worker/mode.h"
#include "worker/notice.h"
#include "worker/paces.h"
#include "worker/post.h"
#include "worker/reroute.h"
#include "worker/reselect.h"
#include "worker/rollup.h"
#include "worker/shared.h"
#include "worker/site.h"
#include "worker/warmup.h"
#include "worker/sources.h"

#define QUEUE_IDLE_KEEP (30 * USEC_PER_SEC)
#define PARK_CHUNK 512
#define HELD_LIMITS 32 /* of which the log speaks in a minute */
#define HELD_LONG (10 * USEC_PER_SEC)
#define HELD_EVERY (60 * USEC_PER_SEC)

/* A limit that holds queues, for the log. */
struct held {
	uint32_t by; /* of queue.limited_by; 0 = free */
	uint32_t queues; /* in this second */
	const struct queue *first;
	usec_t said; /* 0 = not yet */
};

struct queues {
	struct queue *by_id; /* uthash */
	struct held held[HELD_LIMITS];
};

struct queues *queues_new(struct worker *w)
{
	(void)w;
	return xcalloc(1, sizeof(struct queues));
}

static void queue_free(struct queue *q)
{
	struct lane *l;

	reroute_forget(q);
	reselect_forget(q);
	for (int c = 0; c < SPOOL_CLASSES; c++) {
		while ((l = TAILQ_FIRST(&q->lanes[c]))) {
			TAILQ_REMOVE(&q->lanes[c], l, link);
			free(l);
		}
	}
	due_begin_again(q);
	condemn_forget(q);
	free(q->domain);
	free(q->name);
	q->magic = 0;
	free(q);
}

void queues_free(struct queues *qs)
{
	struct queue *q, *next;

	if (!qs)
		return;
	HASH_ITER(hh, qs->by_id, q, next) {
		HASH_DEL(qs->by_id, q);
		rollup_end(q);
		site_leave(q);
		queue_free(q);
	}
	free(qs);
}

struct queue *queue_find(struct worker *w, uint32_t id)
{
	struct queue *q;

	HASH_FIND(hh, w->queues->by_id, &id, sizeof(id), q);
	return q;
}

/* By its own name or by that of its site. */
static bool is_paused(const struct queue *q)
{
	return duties_pause(q->w->duties, slice_str(q->name)) ||
	       (q->site != q->home && duties_pause(q->w->duties, slice_str(q->site->label)));
}

struct queue *queue_get(struct worker *w, struct spool_read *r, uint32_t id)
{
	struct queue *q = queue_find(w, id);
	struct spool_queue row;

	if (q)
		return q;
	if (spool_queue_get(r, id, &row) < 0 || row.vmta != w->vmta_id)
		return NULL;
	q = xcalloc(1, sizeof(*q));
	q->magic = QUEUE_MAGIC;
	q->w = w;
	q->id = id;
	q->domain = slice_dup(row.domain);
	q->name = xasprintf("%s/%s", q->domain, w->vmta_name);
	for (int c = 0; c < SPOOL_CLASSES; c++)
		TAILQ_INIT(&q->lanes[c]);
	q->idle_since = loop_now(w->loop);
	q->set = conf_domain_for(w->conf, slice_str(q->domain), slice_str(w->vmta_name));
	HASH_ADD(hh, w->queues->by_id, id, sizeof(q->id), q);
	site_join(w, r, q);
	rollup_begin(q, r, row.provider);
	q->paused = is_paused(q);
	reroute_load(q, r);
	queue_publish(q);
	return q;
}

void queues_each(struct worker *w, void (*each)(struct queue *q, void *arg), void *arg)
{
	struct queue *q, *next;

	HASH_ITER(hh, w->queues->by_id, q, next)
		each(q, arg);
}

/* What holds it may be another now. */
static void queue_look_again(struct queue *q)
{
	bool paused = is_paused(q);

	if (paused == q->paused) {
		reroute_look(q);
		return;
	}
	q->paused = paused;
	events_add(q->w, &q->site->events, paused ? "paused by an operator" : "resumed");
	if (paused) {
		queue_publish(q);
		(void)queue_give_back(q, loop_wall(q->w->loop));
		queue_push_wake(q);
	} else {
		q->full = 0;
		q->site->resumed = loop_now(q->w->loop);
		queue_publish(q);
		queue_want_due(q);
	}
	reroute_look(q);
}

void queue_site_changed(struct queue *q)
{
	if (!q->rollup || !queue_find(q->w, q->id))
		return;
	queue_set_limited(q, slice_str(""), false);
	queue_look_again(q);
	queue_publish(q);
	if (!queue_is_blocked(q))
		queue_want_due(q);
}

static void queue_reconfigure(struct queue *q, void *arg)
{
	(void)arg;
	rollup_configure(q);
	warmup_configure(q->home);
	paces_reset(q->home);
	queue_look_again(q);
}

void queues_reconfigure(struct worker *w)
{
	shared_reconfigure(w);
	queues_each(w, queue_reconfigure, NULL);
}

void queue_own_hold(const struct queue *q, char *ret)
{
	if (!paces_queue_why(q, ret, SHM_QUEUE_TEXT))
		site_own_hold(q->site, ret);
}

/* Limits in shared memory are set and cleared where they are met; here is what else may hold it. */
static void queue_look_why(struct queue *q)
{
	char text[SHM_QUEUE_TEXT];

	if (warmup_until(q->site) && !q->paused && !site_in_retry(q->site)) {
		warmup_hold_text(q->site, text);
		queue_set_limited(q, slice_str(text), true);
		return;
	}
	if (q->waiting == 0 || queue_is_blocked(q)) {
		queue_set_limited(q, slice_str(""), false);
		return;
	}
	queue_own_hold(q, text);
	if (text[0] || q->limited_own)
		queue_set_limited(q, slice_str(text), true);
}

static void queue_tidy(struct queue *q, void *arg)
{
	struct worker *w = q->w;
	usec_t now = *(const usec_t *)arg;

	rollup_tick(q);
	if (q->site == q->home) {
		mode_tick(q->site);
		sources_tick(q->site);
		notice_tick(q->site, false);
	}
	warmup_tick(q->home);
	site_report_again(q->home);
	reroute_look(q);
	reselect_look(q);
	if (queue_is_blocked(q) && q->waiting) { /* the ring was full */
		(void)queue_give_back(q, queue_not_before(q));
		queue_push_wake(q);
	}
	queue_publish(q);
	if (q->site == q->home)
		site_kick(q->site);
	queue_look_why(q);
	if (q->items || q->due_more || q->condemned || q->idle_since + QUEUE_IDLE_KEEP > now ||
	    post_committed(w->post) < q->wake_position || !site_is_idle(q->home) ||
	    !rollup_is_idle(q) || reroute_keeps(q) || reselect_keeps(q))
		return;
	HASH_DEL(w->queues->by_id, q);
	feed_forget(w->feed, q);
	rollup_end(q);
	site_leave(q);
	queue_free(q);
}

void queues_tidy(struct worker *w)
{
	usec_t now = loop_now(w->loop);

	queues_each(w, queue_tidy, &now);
	shared_tidy(w);
}

/* --- what is said of limits --- */

static struct held *held_find(struct queues *qs, uint32_t by, usec_t now)
{
	struct held *spare = NULL;

	for (size_t i = 0; i < HELD_LIMITS; i++) {
		struct held *h = &qs->held[i];

		if (h->by == by)
			return h;
		if (!h->by || (!h->queues && h->said && now - h->said >= HELD_EVERY))
			spare = h;
	}
	if (spare)
		*spare = (struct held){.by = by};
	return spare;
}

static void count_held(struct queue *q, void *arg)
{
	usec_t now = loop_now(q->w->loop);
	struct held *h;

	(void)arg;
	if (!q->limited || q->limited_own || now - q->limited_since < HELD_LONG)
		return;
	h = held_find(q->w->queues, q->limited_by, now);
	if (h && h->queues++ == 0)
		h->first = q;
}

static void say_held(struct worker *w, struct held *h)
{
	const struct shm_queue *live = shm_queue_find(w->shm, h->first->id);
	char text[SHM_QUEUE_TEXT] = "";

	if (live)
		shm_queue_get_text(live, text);
	log_info(NULL, "a limit holds mail", LOG_S("queue", h->first->name), LOG_S("limit", text),
		 LOG_U("seconds", (loop_now(w->loop) - h->first->limited_since) / USEC_PER_SEC),
		 LOG_U("queues", h->queues));
}

void queues_report_limits(struct worker *w)
{
	usec_t now = loop_now(w->loop);

	queues_each(w, count_held, NULL);
	for (size_t i = 0; i < HELD_LIMITS; i++) {
		struct held *h = &w->queues->held[i];

		if (h->queues && (!h->said || now - h->said >= HELD_EVERY)) {
			say_held(w, h);
			h->said = now;
		}
		h->queues = 0;
	}
}

/* --- the waiting list --- */

static struct lane *lane_of(struct queue *q, uint8_t class, uint8_t job)
{
	struct lane *l;

	TAILQ_FOREACH(l, &q->lanes[class], link)
		if (l->job == job)
			return l;
	l = xcalloc(1, sizeof(*l));
	l->job = job;
	TAILQ_INIT(&l->parcels);
	TAILQ_INSERT_TAIL(&q->lanes[class], l, link);
	return l;
}

void queue_put(struct queue *q, struct item *it, bool front)
{
	struct inhand *h = q->w->inhand;
	struct parcel *p = parcel_find(h, it->key.msgid, q);

	if (!p) {
		p = parcel_add(h, it->key.msgid, q);
		if (TAILQ_EMPTY(&q->lanes[it->class]))
			turn_add(&q->site->turn, q, it->class);
		p->lane = lane_of(q, it->class, it->job);
		p->class = it->class;
		if (front)
			TAILQ_INSERT_HEAD(&p->lane->parcels, p, link);
		else
			TAILQ_INSERT_TAIL(&p->lane->parcels, p, link);
		q->parcels++;
		q->site->parcels++;
	}
	it->state = ITEM_WAITING;
	it->parcel = p;
	TAILQ_INSERT_TAIL(&p->items, it, link);
	p->item_count++;
	q->waiting++;
	q->class_waiting[p->class]++;
	p->lane->waiting++;
}

static void parcel_drop(struct queue *q, struct parcel *p)
{
	struct lane *l = p->lane;

	TAILQ_REMOVE(&l->parcels, p, link);
	if (TAILQ_EMPTY(&l->parcels)) {
		TAILQ_REMOVE(&q->lanes[p->class], l, link);
		free(l);
	}
	if (TAILQ_EMPTY(&q->lanes[p->class]))
		turn_remove(&q->site->turn, q, p->class);
	q->parcels--;
	q->site->parcels--;
	parcel_free(q->w->inhand, p);
}

void queue_remove(struct queue *q, struct item *it)
{
	struct parcel *p = it->parcel;
	uint8_t lane;

	invariant(p && it->state == ITEM_WAITING);
	lane = spool_lane(p->class, p->lane->job);
	TAILQ_REMOVE(&p->items, it, link);
	it->parcel = NULL;
	p->item_count--;
	q->waiting--;
	q->class_waiting[p->class]--;
	p->lane->waiting--;
	if (p->item_count == 0)
		parcel_drop(q, p);
	if ((q->due_more & 1u << spool_lane_class(lane)) && !q->refill_listed &&
	    due_lane_has_room(q, lane))
		feed_refill(q->w->feed, q);
}

uint32_t queue_lane_waiting(const struct queue *q, uint8_t class, uint8_t job)
{
	const struct lane *l;

	TAILQ_FOREACH(l, &q->lanes[class], link)
		if (l->job == job)
			return l->waiting;
	return 0;
}

struct parcel *queue_first(struct queue *q)
{
	for (int c = 0; c < SPOOL_CLASSES; c++)
		if (!TAILQ_EMPTY(&q->lanes[c]))
			return TAILQ_FIRST(&TAILQ_FIRST(&q->lanes[c])->parcels);
	return NULL;
}

/* --- blocked queues --- */

/* When the later of its two sites wants it tried again; 0: neither is in retry. */
static msec_t retry_at(const struct queue *q)
{
	msec_t at = site_in_retry(q->site) ? q->site->retry_at : 0;

	return site_in_retry(q->home) && q->home->retry_at > at ? q->home->retry_at : at;
}

/* The same, or until the addresses of its site may be used again. */
static msec_t blocked_until(const struct queue *q)
{
	msec_t retry = retry_at(q), day = warmup_until(q->site);

	return day > retry ? day : retry;
}

bool queue_is_blocked(const struct queue *q)
{
	return q->paused || blocked_until(q) || worker_is_orphan(q->w) || reroute_is_active(q);
}

/* With retry-upon-new-mail the feed must see new mail, and what waits does so in its wake row alone. */
static bool waits_for_new_mail(const struct queue *q)
{
	return q->site->set->retry_upon_new_mail && retry_at(q) && !q->site->no_source &&
	       !q->paused && !worker_is_orphan(q->w) && !reroute_is_active(q) &&
	       !warmup_until(q->site);
}

/* Until when new mail should not come up; 0: now. What a warm-up holds is due: its wake row alone waits. */
static msec_t full_until(const struct queue *q)
{
	bool retry = !q->site->set->retry_upon_new_mail && !q->site->no_source;

	return retry ? retry_at(q) : 0;
}

msec_t queue_not_before(const struct queue *q)
{
	bool free = q->paused || reroute_is_active(q);
	msec_t until = free ? 0 : full_until(q);

	return until ? until : loop_wall(q->w->loop);
}

struct parking {
	struct report_park_item items[PARK_CHUNK];
	struct item *held[PARK_CHUNK];
	uint32_t n;
};

/* The first waiting items, fresh ones into the report, others forgotten at once. */
static bool park_some(struct queue *q, msec_t due, struct parking *k)
{
	const struct report_park report = {.queue = q->id, .due = due, .items = k->items};
	struct report_park full = report;
	struct parcel *p;

	k->n = 0;
	while (k->n < PARK_CHUNK && (p = queue_first(q))) {
		struct item *it = TAILQ_FIRST(&p->items);

		queue_remove(q, it);
		if (!it->fresh) {
			inhand_forget(q->w->inhand, it);
			continue;
		}
		k->items[k->n] = (struct report_park_item){it->key.msgid, (uint32_t)it->key.rcpt};
		k->held[k->n++] = it;
	}
	full.item_count = k->n;
	if (k->n && !post_park(q->w->post, &full)) {
		for (uint32_t i = 0; i < k->n; i++)
			queue_put(q, k->held[i], false);
		return false;
	}
	for (uint32_t i = 0; i < k->n; i++)
		inhand_done(q->w->inhand, k->held[i], post_position(q->w->post));
	return true;
}

bool queue_give_back(struct queue *q, msec_t due)
{
	struct parking k;

	while (q->waiting)
		if (!park_some(q, due, &k))
			return false;
	return true;
}

void queue_push_wake(struct queue *q)
{
	struct worker *w = q->w;
	bool forever = q->paused || worker_is_orphan(w) || reroute_is_active(q);

	q->due_more = 0;
	due_begin_again(q);
	if (post_committed(w->post) < q->wake_position)
		return;
	if (post_wake(w->post, q->id, forever ? WAKE_NEVER : blocked_until(q)))
		q->wake_position = post_position(w->post);
}

void queue_want_due(struct queue *q)
{
	q->due_more = DUE_ALL;
	due_begin_again(q);
	feed_refill(q->w->feed, q);
}

/* --- shared memory --- */

void queue_publish(struct queue *q)
{
	struct shm_queue *s = shm_queue_find(q->w->shm, q->id);
	msec_t retry = retry_at(q);
	uint32_t flags = 0;

	if (!s)
		return;
	if (queue_is_blocked(q) && !waits_for_new_mail(q))
		flags |= SHM_QUEUE_FULL;
	flags |= (uint32_t)q->full << SHM_QUEUE_FULL_CLASS_SHIFT;
	if (retry)
		flags |= SHM_QUEUE_RETRY;
	if (q->paused)
		flags |= SHM_QUEUE_PAUSED;
	if (q->limited)
		flags |= SHM_QUEUE_LIMITED;
	atomic_store(&s->not_before, full_until(q));
	atomic_store(&s->flags, flags);
	q->published = flags;
}

void queue_set_text(struct queue *q, struct slice text)
{
	struct shm_queue *s = shm_queue_find(q->w->shm, q->id);

	if (s)
		shm_queue_set_text(s, text);
}

void queue_set_limited(struct queue *q, struct slice text, bool own)
{
	const char *until = text.n ? memmem(text.p, text.n, ": until", 7) : NULL;
	size_t name = until ? (size_t)(until - text.p) : text.n;
	bool limited = text.n > 0;
	uint32_t by = 0, all = 0;

	if (limited) {
		HASH_FNV(text.p, name, by);
		HASH_FNV(text.p, text.n, all);
	}
	if (limited == q->limited && all == q->limited_text && own == q->limited_own)
		return;
	if (!q->limited || by != q->limited_by)
		q->limited_since = loop_now(q->w->loop);
	q->limited = limited;
	q->limited_own = own;
	q->limited_by = by;
	q->limited_text = all;
	queue_set_text(q, text);
	queue_publish(q);
}

static void queue_publish_items(const struct queue *q)
{
	struct shm_queue *s = shm_queue_find(q->w->shm, q->id);

	if (s)
		atomic_store_explicit(&s->in_hand, q->items, memory_order_relaxed);
}

void queue_item_added(struct queue *q)
{
	q->items++;
	q->idle_since = USEC_INFINITY;
	queue_publish_items(q);
}

void queue_item_gone(struct queue *q)
{
	q->items--;
	if (q->items == 0)
		q->idle_since = loop_now(q->w->loop);
	queue_publish_items(q);
}
