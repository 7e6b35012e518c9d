#include "worker/slots.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/base/err.h"
#include "common/base/log.h"
#include "common/base/xalloc.h"
#include "common/conf/conf.h"
#include "worker/context.h"
#include "worker/site.h"

#define TURNS_AT_ONCE 200
#define AGAIN_AFTER (50 * USEC_PER_MSEC) /* when no bell has come; limits also change by reload */

struct slots {
	struct worker *w;
	TAILQ_HEAD(, site) wanting;
	uint32_t wanting_count;
	struct loop_timer *again;
	bool pump_due;
	bool said_full;
};

static void on_again(void *arg)
{
	struct slots *sl = arg;

	slots_pump(sl->w);
}

struct slots *slots_new(struct worker *w)
{
	struct slots *sl = xcalloc(1, sizeof(*sl));

	sl->w = w;
	TAILQ_INIT(&sl->wanting);
	sl->again = loop_timer_new(w->loop, on_again, sl);
	return sl;
}

void slots_free(struct slots *sl)
{
	if (!sl)
		return;
	loop_timer_free(sl->again);
	free(sl);
}

void slots_want(struct site *s)
{
	struct slots *sl = s->w->slots;

	if (!s->wanting) {
		s->wanting = true;
		TAILQ_INSERT_TAIL(&sl->wanting, s, want);
		sl->wanting_count++;
	}
	slots_pump(s->w);
}

void slots_unwant(struct site *s)
{
	if (!s->wanting)
		return;
	s->wanting = false;
	TAILQ_REMOVE(&s->w->slots->wanting, s, want);
	s->w->slots->wanting_count--;
}

/* One site's turn: connects as often as it may, one connection each time it is its turn. */
static bool turn(struct slots *sl, struct site *s, bool *ret_everybody)
{
	TAILQ_REMOVE(&sl->wanting, s, want);
	TAILQ_INSERT_TAIL(&sl->wanting, s, want);
	if (!site_connect(s, ret_everybody))
		return false;
	if (s->query || !site_wants_connection(s))
		slots_unwant(s);
	return true;
}

static void pump(void *arg)
{
	struct slots *sl = arg;
	uint32_t most = sl->wanting_count < TURNS_AT_ONCE ? sl->wanting_count : TURNS_AT_ONCE;
	bool everybody = false, held = false;

	sl->pump_due = false;
	for (uint32_t i = 0; i < most && !everybody && !TAILQ_EMPTY(&sl->wanting); i++)
		held |= !turn(sl, TAILQ_FIRST(&sl->wanting), &everybody);
	if (TAILQ_EMPTY(&sl->wanting)) {
		limit_unwait_all(sl->w->shm, sl->w->h->slot);
		loop_timer_clear(sl->again);
		return;
	}
	if (!held)
		slots_pump(sl->w);
	else if (!loop_timer_pending(sl->again))
		loop_timer_set(sl->again, AGAIN_AFTER);
}

void slots_pump(struct worker *w)
{
	struct slots *sl = w->slots;

	if (sl->pump_due || TAILQ_EMPTY(&sl->wanting))
		return;
	sl->pump_due = true;
	loop_defer(w->loop, pump, sl);
}

struct wants {
	struct limit_want v[LEASE_ENTRIES];
	size_t n;
	char dest[IP_TEXT_MAX];
	char pair[2 * IP_TEXT_MAX];
};

static void want(struct wants *x, const struct worker *w, enum limit_kind kind, const char *name,
		 uint64_t cap)
{
	x->v[x->n++] = (struct limit_want){.kind = kind,
					   .name = slice_str(name),
					   .cap = (uint32_t)cap,
					   .conf_gen = w->conf_gen};
}

/* Whose cap a connection takes part in: by the host, or, where none has that, by its site. */
static const struct conf_provider *provider_of(const struct site *s, const char *host,
					       const struct ip *dest)
{
	const struct conf_provider *p = conf_provider_of_host(s->w->conf, slice_str(host), dest);

	return p ? p : s->provider;
}

static void wants_make(struct wants *x, const struct site *s, const char *host,
		       const struct ip *dest, const struct ip *source)
{
	const struct worker *w = s->w;
	const struct conf_provider *p = provider_of(s, host, dest);
	const struct conf_ip_limit *each = conf_ip_limit_for(w->conf, dest, false);
	const struct conf_ip_limit *pair = conf_ip_limit_for(w->conf, dest, true);
	char from[IP_TEXT_MAX];

	x->n = 0;
	ip_text(dest, x->dest);
	want(x, w, LIMIT_TOTAL, "", conf_global(w->conf)->total_max_smtp_out);
	if (w->vmta->max_smtp_out)
		want(x, w, LIMIT_VMTA, w->vmta_name, w->vmta->max_smtp_out);
	if (p && p->max_smtp_out)
		want(x, w, LIMIT_PROVIDER, p->name, p->max_smtp_out);
	if (each)
		want(x, w, LIMIT_IP, x->dest, each->n);
	if (pair) {
		snprintf(x->pair, sizeof(x->pair), "%s %s", ip_text(source, from), x->dest);
		want(x, w, LIMIT_IP_PAIR, x->pair, pair->n);
	}
}

static void each_want(const struct wants *x, void (*each)(const struct limit_want *, void *),
		      void *arg)
{
	for (size_t i = 0; i < x->n; i++)
		each(&x->v[i], arg);
}

void slots_limits(struct site *s, void (*each)(const struct limit_want *want, void *arg), void *arg)
{
	const struct conf_source_hosts *h;
	static const struct ip any = {.family = IP_NONE};
	struct wants x;

	if (worker_is_orphan(s->w))
		return;
	h = &s->w->vmta->smtp_source_host;
	if (!s->route || s->route->count == 0) {
		wants_make(&x, s, "", &any, &any);
		each_want(&x, each, arg);
		return;
	}
	for (uint32_t i = 0; i < s->route->count; i++) {
		const char *host = s->route->targets[i].host;
		const struct ip *to = &s->route->targets[i].ip;

		if (h->n == 0) {
			wants_make(&x, s, host, to, &any);
			each_want(&x, each, arg);
		}
		for (size_t k = 0; k < h->n; k++) {
			if (h->v[k].ip.family != to->family)
				continue;
			wants_make(&x, s, host, to, &h->v[k].ip);
			each_want(&x, each, arg);
		}
	}
}

static void say_held(struct site *s, const struct limit_want *by)
{
	struct queue *q;
	char text[SHM_QUEUE_TEXT];

	snprintf(text, sizeof(text), "limit %s%s%.*s (%u): until a connection that holds it closes",
		 limit_kind_name(by->kind), by->name.n ? " " : "", SLICE_ARG(by->name), by->cap);
	TAILQ_FOREACH(q, &s->queues, in_site)
		queue_set_limited(q, slice_str(text), false);
}

bool slots_take(struct site *s, const struct route_target *t, const struct ip *source,
		lease_id *ret, bool *ret_everybody)
{
	struct worker *w = s->w;
	struct wants x;
	size_t by = 0;
	int rc;

	wants_make(&x, s, t->host, &t->ip, source);
	rc = lease_take(w->shm, w->h->slot, x.v, x.n, ret, &by);
	if (rc == 0)
		return true;
	if (rc == ERR_BUSY) {
		*ret_everybody = x.v[by].kind == LIMIT_TOTAL || x.v[by].kind == LIMIT_VMTA;
		say_held(s, &x.v[by]);
		return false;
	}
	*ret_everybody = true;
	if (!w->slots->said_full)
		log_error(NULL, "the table of limits is full: connections wait",
			  LOG_S("why", err_text(rc)));
	w->slots->said_full = true;
	return false;
}

void slots_give(struct worker *w, lease_id lease)
{
	lease_give(w->shm, w->h->slot, lease);
	slots_pump(w);
}
