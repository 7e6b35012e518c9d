#include "worker/sources.h"

#include <stdlib.h>

#include "common/base/log.h"
#include "common/base/xalloc.h"
#include "common/conf/conf.h"
#include "worker/connection.h"
#include "worker/context.h"
#include "worker/events.h"
#include "worker/site.h"
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
	return find(s, source) != NULL;
}

static bool usable(const struct site *s, const struct conf_source_host *x, uint8_t family)
{
	return x->ip.family == family && !find(s, &x->ip) && warmup_allows(s, &x->ip);
}

bool sources_has(const struct site *s, uint8_t family)
{
	const struct conf_source_hosts *h = &s->w->vmta->smtp_source_host;

	for (size_t i = 0; i < h->n; i++)
		if (usable(s, &h->v[i], family))
			return true;
	return h->n == 0;
}

void sources_next(struct site *s, uint8_t family, struct source *ret)
{
	const struct conf_source_hosts *h = &s->w->vmta->smtp_source_host;

	*ret = (struct source){.host = s->w->vmta->host_name};
	for (size_t i = 0; i < h->n; i++) {
		const struct conf_source_host *x = &h->v[s->source_turn++ % h->n];

		if (usable(s, x, family)) {
			*ret = (struct source){.ip = x->ip, .host = x->host};
			return;
		}
	}
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

void sources_disable(struct site *s, const struct ip *source, usec_t reenable_after,
		     const char *why)
{
	struct disabled_source *x = find(s, source);
	msec_t now = loop_wall(s->w->loop);
	char text[IP_TEXT_MAX];

	if (!x) {
		x = add(s, source);
		log_info(NULL, "a source address is disabled for a site", LOG_S("queue", s->label),
			 LOG_S("source", ip_text(source, text)), LOG_S("why", why));
		events_add(s->w, &s->events, "source %s is disabled: %s", ip_text(source, text),
			   why);
	}
	free(x->why);
	x->why = xstrdup(why);
	x->until = reenable_after == USEC_INFINITY ? 0 : now + reenable_after / USEC_PER_MSEC;
	retire_connections(s, source);
}

bool sources_enable(struct site *s, const struct ip *source, const char *why)
{
	struct disabled_source *x = find(s, source);
	char text[IP_TEXT_MAX];

	if (!x)
		return false;
	log_info(NULL, "a source address is enabled again for a site", LOG_S("queue", s->label),
		 LOG_S("source", ip_text(source, text)), LOG_S("why", why));
	events_add(s->w, &s->events, "source %s is enabled again: %s", ip_text(source, text), why);
	free(x->why);
	*x = s->disabled->v[--s->disabled->n];
	if (s->disabled->n == 0)
		sources_free(s);
	site_kick(s);
	return true;
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
