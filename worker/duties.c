#include "worker/duties.h"

#include <stdlib.h>

#include "common/base/log.h"
#include "common/base/xalloc.h"
#include "common/spool/order.h"
#include "common/spool/spool.h"
#include "worker/connection.h"
#include "worker/context.h"
#include "worker/feed.h"
#include "worker/inhand.h"
#include "worker/post.h"
#include "worker/resume.h"
#include "worker/shared.h"
#include "worker/site.h"
#include "worker/site_orders.h"
#include "worker/transaction.h"

#define WALK_AT_ONCE 200

/* An order in our own memory. */
struct held_order {
	struct order o;
	char *texts[8]; /* of its slices */
};

struct duties {
	struct worker *w;
	uint64_t seen_seq;
	bool seen_any;
	uint64_t asked_again;
	struct held_order *v; /* all that are in the spool, by id */
	size_t n;
	uint64_t acked; /* highest id answered */
	/* a schedule or resume order walks over the wake table of queues that are not in memory */
	uint64_t walking; /* its id, 0 = none */
	struct spool_wake_pos walk;
	uint32_t roused; /* queues, by the walk */
};

struct duties *duties_new(struct worker *w)
{
	struct duties *o = xcalloc(1, sizeof(*o));

	o->w = w;
	return o;
}

static void held_done(struct duties *o)
{
	for (size_t i = 0; i < o->n; i++)
		for (size_t k = 0; k < ARRAY_SIZE(o->v[i].texts); k++)
			free(o->v[i].texts[k]);
	free(o->v);
	o->v = NULL;
	o->n = 0;
}

void duties_free(struct duties *o)
{
	if (!o)
		return;
	held_done(o);
	free(o);
}

static void hold(struct duties *o, const struct order *from)
{
	struct held_order h = {.o = *from};
	struct slice *fields[] = {&h.o.filter.queue, &h.o.filter.job,	&h.o.filter.sender,
				  &h.o.filter.rcpt,  &h.o.filter.envid, &h.o.target,
				  &h.o.who,	     &h.o.reason};

	for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
		h.texts[i] = slice_dup(*fields[i]);
		*fields[i] = slice_str(h.texts[i]);
	}
	o->v = xreallocarray(o->v, o->n + 1, sizeof(*o->v));
	o->v[o->n++] = h;
}

static bool queue_matches(const struct order *o, struct slice queue)
{
	return o->filter.queue.n == 0 || order_pattern_match(o->filter.queue, queue);
}

const struct order *duties_order(const struct duties *o, size_t i)
{
	return i < o->n ? &o->v[i].o : NULL;
}

/* Its own name, or that of the site that it is at. */
static bool is_meant(const struct order *o, const struct queue *q)
{
	return queue_matches(o, slice_str(q->name)) ||
	       (q->site != q->home && queue_matches(o, slice_str(q->site->label)));
}

bool duties_pause(const struct duties *o, struct slice queue)
{
	for (size_t i = 0; i < o->n; i++)
		if (o->v[i].o.kind == ORDER_PAUSE && queue_matches(&o->v[i].o, queue))
			return true;
	return false;
}

/* A queue that is not in memory. */
static bool row_matches(const struct duties *o, const struct order *order,
			const struct spool_queue *q)
{
	const struct order_queue names = {
		.domain = q->domain, .provider = q->provider, .vmta = slice_str(o->w->vmta_name)};

	return order->filter.queue.n == 0 || order_queue_match(order->filter.queue, &names);
}

bool duties_pause_row(const struct duties *o, const struct spool_queue *q)
{
	for (size_t i = 0; i < o->n; i++)
		if (o->v[i].o.kind == ORDER_PAUSE && row_matches(o, &o->v[i].o, q))
			return true;
	return false;
}

static bool takes_away(const struct order *o)
{
	return o->kind == ORDER_DELETE || o->kind == ORDER_MOVE;
}

bool duties_deleting(const struct duties *o)
{
	for (size_t i = 0; i < o->n; i++)
		if (takes_away(&o->v[i].o))
			return true;
	return false;
}

/* Mail that came after the order is not meant. */
static bool recipient_matches(const struct order *o, struct slice queue,
			      const struct spool_message *m, const struct spool_recipient *r)
{
	return m->received <= o->created && order_filter_match(&o->filter, queue, m->job, m->sender,
							       r->address, m->envid, m->received);
}

static bool matches(const struct order *o, struct spool_read *r, const struct queue *q,
		    const struct spool_message *m, uint32_t rcpt)
{
	struct spool_recipient row;
	struct slice name =
		slice_str(queue_matches(o, slice_str(q->name)) ? q->name : q->site->label);

	return is_meant(o, q) && spool_recipient_get(r, m->id, rcpt, &row) == 0 &&
	       recipient_matches(o, name, m, &row);
}

bool duties_delete_matches(const struct duties *o, struct spool_read *r, const struct queue *q,
			   const struct spool_message *m, uint32_t rcpt)
{
	for (size_t i = 0; i < o->n; i++)
		if (takes_away(&o->v[i].o) && matches(&o->v[i].o, r, q, m, rcpt))
			return true;
	return false;
}

/* --- delete --- */

struct deletion {
	struct worker *w;
	const struct order *o;
	struct spool_read *r;
	struct inhand *inhand;
	struct report_park_item *held;
	uint32_t held_count;
	bool no_room; /* in the ring: all of it once more, later */
};

/* When its transaction leaves it, it goes after the others. */
static void mark_leaving(const struct deletion *d, uint64_t msgid, uint32_t rcpt)
{
	struct item *it = inhand_find(d->inhand, msgid, rcpt);
	struct spool_message m;

	if (!it || spool_message_get(d->r, msgid, &m) < 0 ||
	    !matches(d->o, d->r, it->queue, &m, rcpt))
		return;
	free(it->leave);
	it->leave = slice_dup(d->o->target);
}

static void held_item(uint64_t msgid, uint32_t rcpt, uint32_t queue, void *arg)
{
	struct deletion *d = arg;
	const struct queue *q = queue_find(d->w, queue);

	if (!q || !is_meant(d->o, q))
		return;
	if (d->o->kind == ORDER_MOVE)
		mark_leaving(d, msgid, rcpt);
	d->held = xreallocarray(d->held, d->held_count + 1, sizeof(*d->held));
	d->held[d->held_count++] = (struct report_park_item){.msgid = msgid, .rcpt = rcpt};
}

/* What is in transactions, also of a site that the queue has left. */
static void hold_site(struct site *s, void *arg)
{
	struct connection *c;

	TAILQ_FOREACH(c, &s->connections, link)
		if (c->txn)
			transaction_each(c->txn, held_item, arg);
}

/*
 * What the queue matches only by the name of its provider may be of another one by the time that the
 * committer comes to it. Then it stays, and table fresh is not read twice: so it goes to the due table first.
 */
static bool put_in_due(const struct deletion *d, struct queue *q, struct item *it)
{
	const struct report_park_item row = {it->key.msgid, (uint32_t)it->key.rcpt};
	const struct report_park report = {
		.queue = q->id, .due = loop_wall(d->w->loop), .items = &row, .item_count = 1};

	if (!it->fresh || queue_matches(d->o, slice_str(q->name)))
		return true;
	return post_park(d->w->post, &report);
}

static void forget_matching(struct queue *q, struct parcel *p, struct deletion *d)
{
	struct spool_message m;
	struct item *it, *next;

	if (spool_message_get(d->r, p->key.msgid, &m) < 0)
		return;
	for (it = TAILQ_FIRST(&p->items); it; it = next) {
		next = TAILQ_NEXT(it, link); /* p itself goes away with its last item */
		if (!matches(d->o, d->r, q, &m, (uint32_t)it->key.rcpt))
			continue;
		if (!put_in_due(d, q, it)) {
			d->no_room = true;
			return;
		}
		queue_remove(q, it);
		inhand_forget(q->w->inhand, it);
	}
}

static void delete_in_lanes(struct queue *q, struct lane_list *lanes, struct deletion *d)
{
	struct lane *l, *next_lane;

	for (l = TAILQ_FIRST(lanes); l; l = next_lane) {
		struct parcel *p, *next;

		next_lane = TAILQ_NEXT(l, link);
		for (p = TAILQ_FIRST(&l->parcels); p; p = next) {
			next = TAILQ_NEXT(p, link);
			forget_matching(q, p, d);
		}
	}
}

static void delete_in_queue(struct queue *q, void *arg)
{
	struct deletion *d = arg;

	if (is_meant(d->o, q))
		for (int c = 0; c < SPOOL_CLASSES; c++)
			delete_in_lanes(q, &q->lanes[c], d);
	hold_site(q->home, d);
}

static bool obey_delete(struct duties *o, struct spool_read *r, const struct order *order)
{
	struct deletion d = {.w = o->w, .o = order, .r = r, .inhand = o->w->inhand};
	struct report_order_ack ack = {.order = order->id};
	bool ok;

	queues_each(o->w, delete_in_queue, &d);
	shared_each(o->w, hold_site, &d);
	ack.held = d.held;
	ack.held_count = d.held_count;
	ok = !d.no_room && post_ack(o->w->post, &ack);
	free(d.held);
	return ok;
}

/* --- schedule and resume --- */

/* The stored retry of a site is over. False: no room in the ring. */
static bool rouse_site(struct duties *o, struct spool_read *r, struct slice site_name)
{
	char *name = slice_dup(site_name), *label = xasprintf("%s/%s", name, o->w->vmta_name);
	struct spool_site site;
	bool ok = true;

	if (spool_site_get(r, o->w->vmta_id, slice_str(name), &site) == 0 && site.retry_at) {
		const struct report_site now = {
			.name = slice_str(name),
			.queue = slice_str(label),
			.mode = site.mode,
			.since = site.since,
			.retry_position = site.retry_position,
			.retry_at = 0,
			.text = site.reason,
			.mx_name = slice_str(""),
			.when = loop_wall(o->w->loop),
		};

		ok = post_site(o->w->post, &now);
	}
	free(label);
	free(name);
	return ok;
}

/* A queue that is not in memory: its site row and wake row are all there is. */
static bool rouse_row(struct duties *o, struct spool_read *r, const struct order *order,
		      const struct spool_wake_row *row)
{
	struct spool_queue q;

	if (spool_queue_get(r, row->queue, &q) < 0 || !row_matches(o, order, &q) ||
	    duties_pause_row(o, &q))
		return true;
	if (order->kind == ORDER_SCHEDULE &&
	    (!rouse_site(o, r, q.domain) || (q.provider.n && !rouse_site(o, r, q.provider))))
		return false;
	if (!post_wake(o->w->post, row->queue,
		       order->kind == ORDER_RESUME ? resume_begin(o->w, o->roused) : 0))
		return false;
	o->roused++;
	return true;
}

static void rouse_queue(struct queue *q, void *arg)
{
	const struct order *order = arg;

	if (order->kind != ORDER_SCHEDULE || !is_meant(order, q) || q->paused)
		return;
	site_schedule(q->home);
	if (q->site != q->home)
		site_schedule(q->site);
	queue_want_due(q);
}

static void walk_begin(struct duties *o, const struct order *order)
{
	/* queues_each() wants a plain pointer; the order is only read. */
	struct order copy = *order;

	if (order->kind == ORDER_RESUME)
		resume_note(o->w, order->filter.queue);
	o->walking = order->id;
	o->roused = 0;
	o->walk = (struct spool_wake_pos){.queue = UINT32_MAX, .started = true};
	o->walk.at = order->kind == ORDER_RESUME ? WAKE_NEVER - 1 : loop_wall(o->w->loop);
	queues_each(o->w, rouse_queue, &copy);
}

/* True when done and answered. */
static bool walk_on(struct duties *o, struct spool_read *r, const struct order *order)
{
	const struct report_order_ack ack = {.order = order->id};
	struct spool_wake_row rows[WALK_AT_ONCE];
	struct spool_wake_pos before = o->walk;
	size_t n = spool_wake_scan(r, o->w->vmta_id, UINT64_MAX, &o->walk, rows, WALK_AT_ONCE);

	for (size_t i = 0; i < n; i++)
		if (!rouse_row(o, r, order, &rows[i])) {
			o->walk = before;
			return false;
		}
	if (n == WALK_AT_ONCE || !post_ack(o->w->post, &ack))
		return false;
	o->walking = 0;
	feed_rewind(o->w->feed);
	return true;
}

static bool obey(struct duties *o, struct spool_read *r, const struct order *order)
{
	const struct report_order_ack ack = {.order = order->id};

	switch (order->kind) {
	case ORDER_PAUSE:
		return post_ack(o->w->post, &ack);
	case ORDER_BACKOFF:
	case ORDER_NORMAL:
	case ORDER_DISABLE_SOURCE:
	case ORDER_ENABLE_SOURCE:
		site_orders_obey(o->w, order);
		return post_ack(o->w->post, &ack);
	case ORDER_DELETE:
	case ORDER_MOVE:
		return obey_delete(o, r, order);
	case ORDER_RESUME:
	case ORDER_SCHEDULE:
		if (o->walking != order->id)
			walk_begin(o, order);
		return walk_on(o, r, order);
	}
	log_error(NULL, "an order that I do not know", LOG_U("kind", order->kind));
	return true;
}

static void read_all(struct duties *o, struct spool_read *r)
{
	struct order order;
	uint64_t after = 0;

	held_done(o);
	while (spool_order_next(r, &after, &order) == 1)
		hold(o, &order);
	queues_reconfigure(o->w);
}

uint64_t duties_seq(const struct duties *o)
{
	return atomic_load(&shm_signals(o->w->shm)->order_seq);
}

/* A new spooler does not know who has answered. */
static void forget_answers(struct duties *o)
{
	uint64_t again = atomic_load(&shm_signals(o->w->shm)->orders_asked_again);

	if (again == o->asked_again)
		return;
	o->asked_again = again;
	o->acked = 0;
	o->walking = 0;
}

void duties_look(struct duties *o, struct spool_read *r, uint64_t seq)
{
	if (!o->seen_any || duties_seq(o) != o->seen_seq) {
		o->seen_any = true;
		o->seen_seq = seq;
		forget_answers(o);
		read_all(o, r);
	}
	for (size_t i = 0; i < o->n; i++) {
		if (o->v[i].o.id <= o->acked)
			continue;
		if (!obey(o, r, &o->v[i].o)) {
			feed_wake(o->w->feed); /* more in the next burst */
			return;
		}
		o->acked = o->v[i].o.id;
	}
}
