#include "worker/wants.h"

#include <stdio.h>

#include "common/base/log.h"
#include "common/conf/conf.h"
#include "worker/context.h"
#include "worker/queue.h"
#include "worker/site.h"

void wants_add(struct wants *x, const struct site *s, enum limit_kind kind, const char *name,
	       uint64_t cap)
{
	if (!cap)
		return;
	invariant(x->n < LEASE_ENTRIES);
	x->v[x->n++] = (struct limit_want){.kind = kind,
					   .name = slice_str(name),
					   .cap = cap < UINT32_MAX ? (uint32_t)cap : UINT32_MAX,
					   .conf_gen = s->w->conf_gen,
					   .priority = (uint8_t)s->set->queue_priority,
					   .keeps = !s->set->allow_priority_interruption};
}

/* [global] and the virtual MTA with its pools. */
static void add_senders(struct wants *x, const struct site *s)
{
	const struct conf_vmta *v = s->w->vmta;

	wants_add(x, s, LIMIT_TOTAL, "", conf_global(s->w->conf)->total_max_smtp_out);
	if (!v) /* it left the configuration; what is open still counts */
		return;
	wants_add(x, s, LIMIT_VMTA, s->w->vmta_name, v->max_smtp_out);
	for (size_t i = 0; i < v->pool_count; i++)
		wants_add(x, s, LIMIT_POOL, v->pools[i]->name, v->pools[i]->max_smtp_out);
}

/* Whose cap it takes part in: by the host, or, where none has that, by its site. */
static void add_provider(struct wants *x, const struct site *s, const struct wants_place *at)
{
	const struct conf_provider *p =
		conf_provider_of_host(s->w->conf, slice_str(at->host), at->dest);
	const struct conf_ip_limit *l;
	char from[IP_TEXT_MAX];

	if (!p)
		p = s->provider;
	if (!p)
		return;
	wants_add(x, s, LIMIT_PROVIDER, p->name, p->max_smtp_out);
	l = conf_source_limit_for(&p->source_ip_max_smtp_out, at->source);
	snprintf(x->provider, sizeof(x->provider), "%s %s", p->name, ip_text(at->source, from));
	wants_add(x, s, LIMIT_PROVIDER_SOURCE_IP, x->provider, l ? l->n : 0);
}

static void add_destination(struct wants *x, const struct site *s, const struct wants_place *at)
{
	const struct conf *c = s->w->conf;
	const struct conf_ip_limit *each = conf_ip_limit_for(c, at->dest, false);
	const struct conf_ip_limit *pair = conf_ip_limit_for(c, at->dest, true);
	const struct conf_mx_limit *mx = conf_mx_limit_for(c, slice_str(at->host));
	char from[IP_TEXT_MAX];

	ip_text(at->source, from);
	ip_text(at->dest, x->dest);
	snprintf(x->pair, sizeof(x->pair), "%s %s", from, x->dest);
	snprintf(x->mx, sizeof(x->mx), "%s %s", from, at->host);
	for (char *p = x->mx; *p; p++)
		*p = ascii_lower(*p);
	wants_add(x, s, LIMIT_IP, x->dest, each ? each->n : 0);
	wants_add(x, s, LIMIT_IP_PAIR, x->pair, pair ? pair->n : 0);
	wants_add(x, s, LIMIT_MX, x->mx, mx ? mx->n : 0);
}

static void add_source(struct wants *x, const struct site *s, const struct wants_place *at)
{
	const struct conf_ip_limit *l =
		conf_source_limit_for(&s->set->source_ip_max_smtp_out, at->source);
	char from[IP_TEXT_MAX];

	snprintf(x->source, sizeof(x->source), "%s %s", s->label, ip_text(at->source, from));
	wants_add(x, s, LIMIT_SOURCE_IP, x->source, l ? l->n : 0);
}

void wants_make(struct wants *x, const struct site *s, const struct wants_place *at)
{
	x->n = 0;
	add_senders(x, s);
	add_provider(x, s, at);
	add_destination(x, s, at);
	add_source(x, s, at);
}

/* --- what is shown --- */

static void each_want(const struct wants *x, void (*each)(const struct limit_want *, void *),
		      void *arg)
{
	for (size_t i = 0; i < x->n; i++)
		each(&x->v[i], arg);
}

void wants_of_queue(struct queue *q, void (*each)(const struct limit_want *want, void *arg),
		    void *arg)
{
	static const struct ip any = {.family = IP_NONE};
	struct wants_place at = {.host = "", .dest = &any, .source = &any};
	const struct route *route = q->home->route;
	const struct conf_source_hosts *h;
	struct site *s = q->site;
	struct wants x;

	if (worker_is_orphan(s->w))
		return;
	h = &s->w->vmta->smtp_source_host;
	if (!route || route->count == 0) {
		wants_make(&x, s, &at);
		each_want(&x, each, arg);
		return;
	}
	for (uint32_t i = 0; i < route->count; i++) {
		at.host = route->targets[i].host;
		at.dest = &route->targets[i].ip;
		at.source = &any;
		if (h->n == 0) {
			wants_make(&x, s, &at);
			each_want(&x, each, arg);
		}
		for (size_t k = 0; k < h->n; k++) {
			if (h->v[k].ip.family != at.dest->family)
				continue;
			at.source = &h->v[k].ip;
			wants_make(&x, s, &at);
			each_want(&x, each, arg);
		}
	}
}
