/* Which queues are at a site: they join, move with their domain's records, and leave. */
#include "worker/connection.h"
#include "worker/context.h"
#include "worker/inhand.h"
#include "worker/site.h"
#include "worker/site_orders.h"
#include "worker/slots.h"
#include "worker/trace.h"

static void attach(struct queue *q, struct site *s)
{
	TAILQ_INSERT_TAIL(&s->queues, q, in_site);
	s->w->members++;
	turn_enter(&s->turn, q);
	s->parcels += q->parcels;
	q->site = s;
	inhand_set_reached(s->w->inhand, q, s->reached);
}

static void detach(struct queue *q)
{
	TAILQ_REMOVE(&q->site->queues, q, in_site);
	q->w->members++;
	turn_leave(&q->site->turn, q);
	q->site->parcels -= q->parcels;
	q->site = NULL;
}

void site_join(struct worker *w, struct spool_read *r, struct queue *q)
{
	q->home = site_new(w, r, q->domain, q->set, NULL);
	q->home->of = q;
	attach(q, q->home);
	site_orders_join(q->home);
}

/* What an own site knew of hosts that its mail no longer goes to. */
static void site_retire(struct site *home)
{
	struct connection *c, *next;

	for (c = TAILQ_FIRST(&home->connections); c; c = next) {
		next = TAILQ_NEXT(c, link);
		connection_retire(c);
	}
	site_forget_retry(home);
}

void site_move(struct queue *q, struct site *to)
{
	struct site *from = q->site;

	if (from == to)
		return;
	trace_queue_gone(q);
	detach(q);
	attach(q, to);
	if (from->parcels == 0)
		slots_unwant(from);
	if (from == q->home)
		site_retire(from);
	queue_site_changed(q);
	site_kick(to);
}

struct site *site_serving(struct site *s)
{
	return s->of ? s->of->site : s;
}

void site_leave(struct queue *q)
{
	trace_queue_gone(q);
	detach(q);
	site_free(q->home);
	q->home = NULL;
}
