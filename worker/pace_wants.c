#include "worker/pace_wants.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "common/base/buf.h"
#include "common/base/log.h"
#include "common/base/macros.h"
#include "worker/context.h"
#include "worker/mode.h"
#include "worker/queue.h"
#include "worker/site.h"

/* To connect, for recipients (and the pools), for bytes. */
static_assert(5 + 6 + CONF_CAPPED_POOLS_MAX + 3 <= RATE_WANTS_MAX, "all rates of an action fit");

static void add(struct pace_wants *x, enum rate_scope scope, enum rate_measure measure,
		const char *name, const struct conf_rate *rate, uint64_t tokens)
{
	if (!rate || conf_rate_is_unlimited(rate))
		return;
	invariant(x->n < RATE_WANTS_MAX);
	x->v[x->n++] = (struct rate_want){.scope = scope,
					  .measure = measure,
					  .name = slice_str(name),
					  .n = rate->n,
					  .per = rate->per,
					  .tokens = tokens,
					  .conf_gen = x->s->w->conf_gen};
}

/* Whose rates a connection falls under: by the host, or, where none has that, by its site. */
static const struct conf_provider *provider_of(const struct site *s, const struct pace_place *at)
{
	const struct conf_provider *p = NULL;

	if (at->host && conf_provider_count(s->w->conf))
		p = conf_provider_of_host(s->w->conf, slice_str(at->host), at->dest);
	return p ? p : s->provider;
}

void pace_wants_begin(struct pace_wants *x, const struct site *s, const struct pace_place *at)
{
	char ip[IP_TEXT_MAX];

	x->n = 0;
	x->s = s;
	x->provider = provider_of(s, at);
	x->source = at->source && at->source->family != IP_NONE ? at->source : NULL;
	if (!x->source)
		return;
	ip_text(x->source, ip);
	snprintf(x->by_source, sizeof(x->by_source), "%s %s", s->label, ip);
	if (x->provider)
		snprintf(x->by_provider, sizeof(x->by_provider), "%s %s", x->provider->name, ip);
}

/* What back-off has found for the address; where the system chooses it, for whatever it chooses. */
static void add_found(struct pace_wants *x, uint64_t recipients)
{
	static const struct ip any = {.family = IP_NONE};
	bool chosen = x->s->w->vmta->smtp_source_host.n > 0;
	struct conf_rate rate;

	if (chosen && !x->source)
		return;
	rate = mode_source_msg_rate(x->s, chosen ? x->source : &any);
	add(x, RATE_BACKOFF, RATE_MESSAGES, chosen ? x->by_source : x->s->label, &rate, recipients);
}

static const struct conf_rate *of_source(const struct pace_wants *x,
					 const struct conf_ip_rates *rates)
{
	return x->source && rates->n ? conf_ip_rate_for(rates, x->source) : NULL;
}

void pace_wants_connect(struct pace_wants *x, const struct queue *q)
{
	const struct site *s = x->s;
	const struct conf_vmta *v = s->w->vmta;
	struct conf_rate rate = mode_connect_rate(s);

	add(x, RATE_QUEUE, RATE_CONNECTS, s->label, &rate, 1);
	if (q && q->own)
		add(x, RATE_MEMBER, RATE_CONNECTS, q->name, &q->own->max_connect_rate, 1);
	add(x, RATE_SOURCE_IP, RATE_CONNECTS, x->by_source,
	    of_source(x, &s->set->source_ip_max_connect_rate), 1);
	add(x, RATE_VMTA, RATE_CONNECTS, s->w->vmta_name, &v->max_connect_rate, 1);
	if (x->provider)
		add(x, RATE_PROVIDER, RATE_CONNECTS, x->provider->name,
		    &x->provider->max_connect_rate, 1);
}

uint64_t pace_wants_messages(struct pace_wants *x, const struct queue *q, uint64_t recipients)
{
	const struct site *s = x->s;
	const struct conf_vmta *v = s->w->vmta;
	struct conf_rate rate = mode_msg_rate(s);
	uint64_t most = UINT32_MAX;
	size_t first = x->n;

	add(x, RATE_QUEUE, RATE_MESSAGES, s->label, &rate, recipients);
	if (q && q->own)
		add(x, RATE_MEMBER, RATE_MESSAGES, q->name, &q->own->max_msg_rate, recipients);
	add(x, RATE_SOURCE_IP, RATE_MESSAGES, x->by_source,
	    of_source(x, &s->set->source_ip_max_msg_rate), recipients);
	add_found(x, recipients);
	add(x, RATE_VMTA, RATE_MESSAGES, s->w->vmta_name, &v->max_msg_rate, recipients);
	for (size_t i = 0; i < v->pool_count; i++)
		add(x, RATE_POOL, RATE_MESSAGES, v->pools[i]->name, &v->pools[i]->max_msg_rate,
		    recipients);
	if (x->provider) {
		add(x, RATE_PROVIDER, RATE_MESSAGES, x->provider->name, &x->provider->max_msg_rate,
		    recipients);
		add(x, RATE_PROVIDER_IP, RATE_MESSAGES, x->by_provider,
		    of_source(x, &x->provider->source_ip_max_msg_rate), recipients);
	}
	for (size_t i = first; i < x->n; i++)
		if (rate_most(RATE_MESSAGES, x->v[i].n) < most)
			most = rate_most(RATE_MESSAGES, x->v[i].n);
	return most;
}

size_t pace_wants_bytes(struct pace_wants *x, const struct queue *q, uint64_t bytes)
{
	const struct site *s = x->s;
	struct conf_rate rate = mode_data_rate(s);
	size_t first = x->n;

	add(x, RATE_QUEUE, RATE_BYTES, s->label, &rate, bytes);
	if (q && q->own)
		add(x, RATE_MEMBER, RATE_BYTES, q->name, &q->own->max_data_volume_rate, bytes);
	add(x, RATE_SOURCE_IP, RATE_BYTES, x->by_source,
	    of_source(x, &s->set->source_ip_max_data_volume_rate), bytes);
	add(x, RATE_VMTA, RATE_BYTES, s->w->vmta_name, &s->w->vmta->max_data_volume_rate, bytes);
	return x->n - first;
}

void pace_wants_tokens(struct pace_wants *x, uint64_t tokens)
{
	for (size_t i = 0; i < x->n; i++)
		x->v[i].tokens = tokens;
}

/* --- whether there are any --- */

static bool has(const struct conf_rate *r)
{
	return !conf_rate_is_unlimited(r);
}

static bool any_provider(const struct conf *c)
{
	for (size_t i = 0; i < conf_provider_count(c); i++) {
		const struct conf_provider *p = conf_provider_at(c, i);

		if (has(&p->max_msg_rate) || has(&p->max_connect_rate) ||
		    p->source_ip_max_msg_rate.n)
			return true;
	}
	return false;
}

bool pace_has_rates(const struct site *s)
{
	const struct conf_vmta *v = s->w->vmta;
	struct conf_rate m = mode_msg_rate(s), c = mode_connect_rate(s), d = mode_data_rate(s);

	if (!v) /* an orphan delivers nothing */
		return false;
	if (has(&m) || has(&c) || has(&d) || pace_by_source(s) || has(&v->max_msg_rate) ||
	    has(&v->max_connect_rate) || has(&v->max_data_volume_rate))
		return true;
	for (size_t i = 0; i < v->pool_count; i++)
		if (has(&v->pools[i]->max_msg_rate))
			return true;
	return any_provider(s->w->conf);
}

bool pace_has_own_rates(const struct queue *q)
{
	return q->own && q->w->vmta &&
	       (has(&q->own->max_msg_rate) || has(&q->own->max_data_volume_rate));
}

bool pace_by_source(const struct site *s)
{
	const struct conf_domain *d = s->set;

	return mode_finds_out(s) || d->source_ip_max_msg_rate.n ||
	       d->source_ip_max_connect_rate.n || d->source_ip_max_data_volume_rate.n ||
	       (s->provider && s->provider->source_ip_max_msg_rate.n);
}

/* --- for people --- */

static const char *directive(const struct rate_want *w)
{
	static const char *const names[RATE_MEASURE_COUNT] = {
		[RATE_MESSAGES] = "max-msg-rate",
		[RATE_CONNECTS] = "max-connect-rate",
		[RATE_BYTES] = "max-data-volume-rate",
	};

	return names[w->measure];
}

/* What stands around the name of the rate, and whose it is when that is not the queue's own. */
static const struct {
	const char *prefix, *of;
} scopes[RATE_SCOPE_COUNT] = {
	[RATE_QUEUE] = {"", NULL},
	[RATE_MEMBER] = {"", "domain "},
	[RATE_SOURCE_IP] = {"source-ip-", ""},
	[RATE_VMTA] = {"", "virtual MTA "},
	[RATE_POOL] = {"pool-", "pool "},
	[RATE_PROVIDER] = {"", "provider "},
	[RATE_PROVIDER_IP] = {"source-ip-", "provider "},
	[RATE_BACKOFF] = {"back-off: ", ""},
};

void pace_want_text(const struct pace_wants *x, size_t i, char *ret, size_t size)
{
	const struct rate_want *w = &x->v[i];
	const struct conf_rate rate = {.n = w->n, .per = w->per};
	const char *of = scopes[w->scope].of;
	struct buf text = BUF_INIT;

	conf_rate_text(&rate, w->measure == RATE_BYTES, &text);
	snprintf(ret, size, "%s%s %s%s%s%.*s", scopes[w->scope].prefix, directive(w),
		 buf_cstr(&text), of ? " of " : "", of ? of : "", of ? (int)w->name.n : 0,
		 w->name.p);
	buf_done(&text);
}
