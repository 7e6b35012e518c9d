#include "worker/sources.h"

#include <stdlib.h>

#include "common/base/log.h"
#include "common/base/xalloc.h"
#include "common/conf/conf.h"
#include "worker/connection.h"
#include "worker/context.h"
#include "worker/events.h"
#include "worker/mode.h"
#include "worker/notice.h"
#include "worker/site.h"
#include "worker/site_orders.h"
#include "worker/warmup.h"

struct disabled_source {
	struct ip ip;
	msec_t since; /* wall */
	msec_t until; /* wall; 0 = until it is enabled */
	char *why;
};

struct disabled {
	struct disabled_source *v;
	size_t n;
};

static struct disabled_source *find(const struct site *s, const struct ip *source)
{
	for (size_t i = 0; s->disabled && i < s->disabled->n; i++)
		if (ip_eq(&s->disabled->v[i].ip, source))
			return &s->disabled->v[i];
	return NULL;
}

bool sources_is_disabled(const struct site *s, const struct ip *source)
{
	return find(s, source) || site_orders_disable(s, source, NULL);
}

static bool usable(const struct site *s, const struct conf_source_host *x, uint8_t family)
{
	return x->ip.family == family && !sources_is_disabled(s, &x->ip) &&
	       warmup_allows(s, &x->ip);
}

bool sources_has(const struct site *s, uint8_t family)
{
	const struct conf_source_hosts *h = &s->w->vmta->smtp_source_host;

	for (size_t i = 0; i < h->n; i++)
		if (usable(s, &h->v[i], family))
			return true;
	return h->n == 0 && !s->disabled; /* whatever the kernel chooses */
}

static uint64_t connections_from(const struct site *s, const struct ip *source)
{
	const struct connection *c;
	uint64_t n = 0;

	TAILQ_FOREACH(c, &s->connections, link)
		n += ip_eq(&c->source_ip, source);
	return n;
}

static bool has_room(const struct site *s, const struct ip *source)
{
	return connections_from(s, source) < mode_source_max_smtp_out(s, source);
}

void sources_next(struct site *s, uint8_t family, struct source *ret)
{
	const struct conf_source_hosts *h = &s->w->vmta->smtp_source_host;
	bool found = false;

	*ret = (struct source){.host = s->w->vmta->host_name};
	for (size_t i = 0; i < h->n; i++) {
		const struct conf_source_host *x = &h->v[s->source_turn++ % h->n];

		if (!usable(s, x, family))
			continue;
		if (!found)
			*ret = (struct source){.ip = x->ip, .host = x->host};
		found = true;
		if (has_room(s, &x->ip)) {
			*ret = (struct source){.ip = x->ip, .host = x->host};
			return;
		}
	}
}

bool sources_named(const struct site *s, const struct ip *source, struct source *ret)
{
	const struct conf_source_hosts *h = &s->w->vmta->smtp_source_host;

	for (size_t i = 0; i < h->n; i++) {
		if (!ip_eq(&h->v[i].ip, source) || !usable(s, &h->v[i], source->family))
			continue;
		*ret = (struct source){.ip = h->v[i].ip, .host = h->v[i].host};
		return true;
	}
	return false;
}

/* --- disabled ones --- */

static void retire_connections(struct site *s, const struct ip *source)
{
	struct connection *c, *next;

	for (c = TAILQ_FIRST(&s->connections); c; c = next) {
		next = TAILQ_NEXT(c, link);
		if (ip_eq(&c->source_ip, source))
			connection_retire(c);
	}
}

static struct disabled_source *add(struct site *s, const struct ip *source)
{
	struct disabled *d = s->disabled;

	if (!d)
		d = s->disabled = xcalloc(1, sizeof(*d));
	d->v = xreallocarray(d->v, d->n + 1, sizeof(*d->v));
	d->v[d->n] = (struct disabled_source){.ip = *source, .since = loop_wall(s->w->loop)};
	return &d->v[d->n++];
}

bool sources_all_disabled(const struct site *s, uint8_t family)
{
	const struct conf_source_hosts *h = &s->w->vmta->smtp_source_host;
	size_t n = 0;

	for (size_t i = 0; i < h->n; i++) {
		if (family != IP_NONE && h->v[i].ip.family != family)
			continue;
		if (!sources_is_disabled(s, &h->v[i].ip))
			return false;
		n++;
	}
	return n || (h->n == 0 && s->disabled);
}

static void tell_disabled(struct site *s, const struct ip *ip, msec_t until, const char *why)
{
	char text[IP_TEXT_MAX], when[CLOCK_TEXT_MAX] = "it is enabled";

	if (until)
		clock_iso(until, when);
	ip_text(ip, text);
	log_info(NULL, "a source address is disabled for a site", LOG_S("queue", s->label),
		 LOG_S("source", text), LOG_S("until", when), LOG_S("why", why));
	events_add(s->w, &s->events, "source %s is disabled until %s: %s", text, when, why);
	notice_add(s, NOTICE_SOURCE, "%s is no longer used for %s, until %s: %s", text, s->label,
		   when, why);
}

void sources_retire(struct site *s, const struct ip *source, msec_t until, const char *why)
{
	tell_disabled(s, source, until, why);
	retire_connections(s, source);
	if (s->set->backoff_upon_all_sources_disabled && !worker_is_orphan(s->w) &&
	    sources_all_disabled(s, IP_NONE))
		mode_enter_backoff(s, "all source addresses are disabled", NULL, 0);
}

void sources_disable(struct site *s, const struct ip *source, usec_t reenable_after,
		     const char *why)
{
	usec_t after = reenable_after ? reenable_after : s->set->reenable_source_ip_after;
	struct disabled_source *x = find(s, source);
	msec_t now = loop_wall(s->w->loop);
	bool is_new = !x;

	if (!x)
		x = add(s, source);
	free(x->why);
	x->why = xstrdup(why);
	x->until = after == USEC_INFINITY ? 0 : now + after / USEC_PER_MSEC;
	site_save(s);
	if (is_new)
		sources_retire(s, source, x->until, why);
}

bool sources_enable(struct site *s, const struct ip *source, const char *why)
{
	struct disabled_source *x = find(s, source);
	char text[IP_TEXT_MAX];

	if (!x)
		return false;
	ip_text(source, text);
	log_info(NULL, "a source address is enabled again for a site", LOG_S("queue", s->label),
		 LOG_S("source", text), LOG_S("why", why));
	events_add(s->w, &s->events, "source %s is enabled again: %s", text, why);
	notice_add(s, NOTICE_SOURCE, "%s is used for %s again: %s", text, s->label, why);
	free(x->why);
	*x = s->disabled->v[--s->disabled->n];
	if (s->disabled->n == 0)
		sources_free(s);
	site_save(s);
	site_has_source(s);
	return true;
}

msec_t sources_next_enabled(const struct site *s)
{
	msec_t first = site_orders_next_enabled(s);

	for (size_t i = 0; s->disabled && i < s->disabled->n; i++) {
		msec_t until = s->disabled->v[i].until;

		if (until && (!first || until < first))
			first = until;
	}
	return first;
}

void sources_tick(struct site *s)
{
	msec_t now = loop_wall(s->w->loop);
	size_t i = 0;

	while (s->disabled && i < s->disabled->n) {
		struct ip ip = s->disabled->v[i].ip;
		msec_t until = s->disabled->v[i].until;

		if (!until || until > now || !sources_enable(s, &ip, "its time has passed"))
			i++;
	}
}

void sources_free(struct site *s)
{
	if (!s->disabled)
		return;
	for (size_t i = 0; i < s->disabled->n; i++)
		free(s->disabled->v[i].why);
	free(s->disabled->v);
	free(s->disabled);
	s->disabled = NULL;
}

bool sources_disabled_at(const struct site *s, size_t i, struct site_disabled *ret)
{
	const struct disabled_source *x;

	if (!s->disabled || i >= s->disabled->n)
		return false;
	x = &s->disabled->v[i];
	*ret = (struct site_disabled){
		.ip = x->ip, .since = x->since, .until = x->until, .why = slice_str(x->why)};
	return true;
}

void sources_encode(const struct site *s, struct buf *b)
{
	struct site_disabled x;

	for (size_t i = 0; sources_disabled_at(s, i, &x); i++)
		site_disabled_encode(&x, b);
}

void sources_load(struct site *s, struct slice list)
{
	struct site_disabled row;

	while (site_disabled_next(&list, &row)) {
		struct disabled_source *x = add(s, &row.ip);

		x->since = row.since;
		x->until = row.until;
		x->why = slice_dup(row.why);
	}
}
