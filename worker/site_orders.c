#include "worker/site_orders.h"

#include <stdlib.h>

#include "common/base/xalloc.h"
#include "worker/connection.h"
#include "worker/context.h"
#include "worker/duties.h"
#include "worker/mode.h"
#include "worker/queue.h"
#include "worker/site.h"
#include "worker/sources.h"

#define NEWS (60 * MSEC_PER_SEC)

static bool matches_queue(const struct order *o, const struct site *s)
{
	const struct queue *q;

	TAILQ_FOREACH(q, &s->queues, in_site)
		if (order_pattern_match(o->filter.queue, slice_str(q->name)))
			return true;
	return false;
}

/* Asked for each target of each queue, of which a provider's site may have thousands: the last answer is kept. */
static bool matches(const struct order *o, const struct site *s)
{
	struct worker *w = s->w;

	if (order_pattern_match(o->filter.queue, slice_str(s->label)))
		return true;
	if (w->order_matched.site != s || w->order_matched.order != o->id ||
	    w->order_matched.members != w->members) {
		w->order_matched.yes = matches_queue(o, s);
		w->order_matched.site = s;
		w->order_matched.order = o->id;
		w->order_matched.members = w->members;
	}
	return w->order_matched.yes;
}

/* Who and, if they said so, why. */
static char *who_and_why(const struct order *o, const char *what)
{
	if (o->reason.n)
		return xasprintf("%s by %.*s: %.*s", what, SLICE_ARG(o->who), SLICE_ARG(o->reason));
	return xasprintf("%s by %.*s", what, SLICE_ARG(o->who));
}

/* --- mode --- */

static bool is_about_mode(const struct order *o)
{
	return o->kind == ORDER_BACKOFF || o->kind == ORDER_NORMAL;
}

bool site_orders_about_mode(const struct worker *w)
{
	const struct order *o;

	for (size_t i = 0; (o = duties_order(w->duties, i)); i++)
		if (is_about_mode(o))
			return true;
	return false;
}

/* The time that back-off lasts began with the order, also for a site that comes later. */
static void obey_backoff(struct site *s, const struct order *o)
{
	usec_t after = s->set->backoff_to_normal_after;
	msec_t now = loop_wall(s->w->loop);
	msec_t age = now > o->created ? now - o->created : 0;
	char *why;

	if (after != USEC_INFINITY) {
		if (after / USEC_PER_MSEC <= age)
			return;
		after -= age * USEC_PER_MSEC;
	}
	why = who_and_why(o, "ordered");
	mode_enter_backoff(s, why, NULL, after);
	free(why);
}

static void obey_mode(struct site *s, const struct order *o)
{
	char *why;

	if (o->id <= mode_order(s))
		return;
	if (o->kind == ORDER_BACKOFF) {
		obey_backoff(s, o);
	} else if (mode_is_backoff(s) && mode_since(s) <= o->created) {
		why = who_and_why(o, "ordered");
		mode_go_normal(s, why);
		free(why);
	}
	mode_set_order(s, o->id);
}

void site_orders_join(struct site *s)
{
	const struct order *o, *last = NULL;

	for (size_t i = 0; (o = duties_order(s->w->duties, i)); i++)
		if (is_about_mode(o) && matches(o, s))
			last = o;
	if (last)
		obey_mode(s, last);
}

/* --- sources --- */

/* The order that decides, or NULL. */
static const struct order *about_source(const struct site *s, const struct ip *source)
{
	const struct order *o, *last = NULL;
	msec_t now = loop_wall(s->w->loop);

	for (size_t i = 0; (o = duties_order(s->w->duties, i)); i++) {
		if (o->kind != ORDER_DISABLE_SOURCE && o->kind != ORDER_ENABLE_SOURCE)
			continue;
		if ((o->until && o->until <= now) || !ip_eq(&o->source, source) || !matches(o, s))
			continue;
		last = o;
	}
	return last;
}

bool site_orders_disable(const struct site *s, const struct ip *source, struct site_disabled *ret)
{
	const struct order *o = about_source(s, source);

	if (!o || o->kind != ORDER_DISABLE_SOURCE)
		return false;
	if (ret)
		*ret = (struct site_disabled){.ip = o->source,
					      .since = o->created,
					      .until = o->until,
					      .why = o->reason.n ? o->reason : o->who};
	return true;
}

msec_t site_orders_next_enabled(const struct site *s)
{
	const struct order *o;
	msec_t first = 0;

	for (size_t i = 0; (o = duties_order(s->w->duties, i)); i++)
		if (o->kind == ORDER_DISABLE_SOURCE && o->until && (!first || o->until < first) &&
		    matches(o, s))
			first = o->until;
	return first;
}

static void obey_enable(struct site *s, const struct order *o)
{
	struct site_disabled x;
	char *why;

	for (size_t i = 0; sources_disabled_at(s, i, &x); i++) {
		if (!ip_eq(&x.ip, &o->source) || x.since > o->created)
			continue;
		why = who_and_why(o, "enabled");
		(void)sources_enable(s, &o->source, why);
		free(why);
		return;
	}
	site_has_source(s);
}

static void obey_disable(struct site *s, const struct order *o)
{
	char *why;

	/* A new worker or spooler has all orders read again: that is no news. */
	if (o->created + NEWS < loop_wall(s->w->loop) || !site_orders_disable(s, &o->source, NULL))
		return;
	why = who_and_why(o, "disabled");
	sources_retire(s, &o->source, o->until, why);
	free(why);
}

/* --- a new order --- */

static void obey(struct queue *q, void *arg)
{
	const struct order *o = arg;
	struct site *s = q->site;

	if (q != TAILQ_FIRST(&s->queues) || !matches(o, s)) /* each site once */
		return;
	if (s->unread) /* all orders again when it is read */
		return;
	if (is_about_mode(o))
		obey_mode(s, o);
	else if (o->kind == ORDER_DISABLE_SOURCE)
		obey_disable(s, o);
	else
		obey_enable(s, o);
}

void site_orders_obey(struct worker *w, const struct order *o)
{
	struct order copy = *o; /* queues_each() wants a plain pointer; the order is only read */

	queues_each(w, obey, &copy);
}
