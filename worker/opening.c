#include "worker/opening.h"

#include "common/loop/stream.h"
#include "worker/connection.h"
#include "worker/context.h"
#include "worker/paces.h"
#include "worker/queue.h"
#include "worker/site.h"
#include "worker/slots.h"
#include "worker/sources.h"
#include "worker/trace.h"
#include "worker/warmup.h"
#include "worker/wants.h"

/* Of each, so that a site with many costs no more. */
#define TRIES 4

/* The caps that had no room: the first one counts for the operator and for whose turn it is. */
struct attempt {
	struct wants first, other;
	const struct limit_want *by; /* in first */
	const char *why;
	bool paced; /* a rate lets none through: the site is kicked when it does */
};

static bool depends_on_source(enum limit_kind kind)
{
	return kind == LIMIT_IP_PAIR || kind == LIMIT_MX || kind == LIMIT_SOURCE_IP ||
	       kind == LIMIT_PROVIDER_SOURCE_IP;
}

static bool depends_on_target(enum limit_kind kind)
{
	return kind == LIMIT_IP || kind == LIMIT_IP_PAIR || kind == LIMIT_MX;
}

/* Where nobody names a source, the kernel would choose: the caps must know what. */
static void next_source(struct site *s, const struct route_target *t, struct source *ret)
{
	sources_next(s, t->ip.family, ret);
	if (ret->ip.family == IP_NONE)
		(void)stream_source_for(&t->ip, &ret->ip);
}

/* False: a rate holds all of them; the site waits for the one that is free first. */
static bool choose_source(struct site *s, const struct route_target *t, struct source *ret)
{
	size_t n = s->w->vmta->smtp_source_host.n;
	const struct ip *traced = trace_source(s);
	struct source first = {.host = NULL};
	usec_t first_at = USEC_INFINITY;

	if (traced && sources_named(s, traced, ret))
		return paces_may_open(s, t, &ret->ip);
	do {
		usec_t at;

		next_source(s, t, ret);
		at = paces_open_at(s, t, &ret->ip);
		if (!at)
			return true;
		if (at <= first_at) {
			first_at = at;
			first = *ret;
		}
	} while (n > 1 && --n);
	*ret = first;
	return paces_may_open(s, t, &first.ip);
}

/* With a place in all caps. */
static bool open_now(struct queue *q, const struct route_target *t, const struct source *source,
		     const struct wants *x, struct slots_hold *hold)
{
	struct site *s = q->site;

	if (!paces_open(q, t, &source->ip)) {
		slots_put_back(s->w, hold);
		return false;
	}
	warmup_expect(s, &source->ip);
	trace_caps(s, t, &source->ip, x);
	connection_open(s, q, t, source, hold);
	return true;
}

/* True: opened. Else *ret_by is what has no room, NULL for what no other choice can help. */
static bool try_one(struct queue *q, struct route_target *t, struct attempt *a,
		    const struct limit_want **ret_by)
{
	struct wants *x = a->by ? &a->other : &a->first;
	struct site *s = q->site;
	struct wants_place at = {.host = t->host, .dest = &t->ip};
	struct slots_hold hold;
	struct source source;

	if (!choose_source(s, t, &source)) {
		a->paced = true;
		*ret_by = NULL;
		return false;
	}
	at.source = &source.ip;
	wants_make(x, s, &at);
	if (slots_take(s, x, &hold, ret_by, &a->why)) {
		a->paced = !open_now(q, t, &source, x, &hold);
		*ret_by = NULL;
		return !a->paced;
	}
	if (!a->by)
		a->by = *ret_by;
	return false;
}

/* True: opened. */
static bool try_sources(struct queue *q, struct route_target *t, struct attempt *a,
			const struct limit_want **ret_by)
{
	size_t n = q->w->vmta->smtp_source_host.n;

	if (n > TRIES)
		n = TRIES;
	do {
		if (try_one(q, t, a, ret_by))
			return true;
	} while (*ret_by && depends_on_source((*ret_by)->kind) && n > 1 && --n);
	return false;
}

bool opening_try(struct queue *q, struct route_target *target,
		 bool (*usable)(const struct route_target *t, void *arg), bool *ret_everybody)
{
	struct route *route = q->home->route;
	uint32_t n = route->first_group < TRIES ? route->first_group : TRIES;
	struct attempt a = {.by = NULL, .why = NULL};
	const struct limit_want *by;
	struct route_target *t = target;

	for (;;) {
		if (try_sources(q, t, &a, &by))
			return true;
		if (!by || !depends_on_target(by->kind) || n < 2 || --n == 0)
			break;
		t = route_next(route, usable, q);
		if (!t || t->preference != target->preference || t == target)
			break;
	}
	if (a.paced)
		return true;
	if (a.by) {
		*ret_everybody = slots_held_by(q->site, a.by);
		return false;
	}
	slots_held_for(q->site, a.why);
	*ret_everybody = true;
	return false;
}
