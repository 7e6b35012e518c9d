/* What a warm-up makes wait, until when, and what goes elsewhere instead. */
#include <stdio.h>
#include <string.h>

#include "common/base/localday.h"
#include "worker/connection.h"
#include "worker/context.h"
#include "worker/site.h"
#include "worker/sources.h"
#include "worker/warmup_state.h"

/* Mail that would wait longer for its turn goes to where the overflow is. */
#define OVERFLOW_WAIT (60 * USEC_PER_SEC)
#define ROLLUP ".rollup" /* of the names of providers' sites */

msec_t warmup_until(const struct site *s)
{
	const struct warmup *m = s->warmup;
	msec_t first = 0;

	for (size_t i = 0; m && i < m->n; i++) {
		const struct warm_source *x = &m->v[i];
		msec_t end;

		if (sources_is_disabled(s, &x->ip))
			continue;
		if (warm_left(x))
			return 0;
		end = warm_day_end(m, x);
		if (!first || end < first)
			first = end;
	}
	return first > loop_wall(s->w->loop) ? first : 0;
}

/* How long what waits, and one more, would wait for its turn; 0: not at all. */
static usec_t expected_wait(const struct warmup *m)
{
	usec_t now = loop_now(m->s->w->loop), first = USEC_INFINITY;
	uint64_t number = 0;
	msec_t end = 0;

	for (size_t i = 0; i < m->n; i++) {
		const struct warm_source *x = &m->v[i];

		if (!warm_left(x) || sources_is_disabled(m->s, &x->ip))
			continue;
		number += warm_left(x);
		end = warm_day_end(m, x);
		if (x->next_at <= now)
			return 0;
		if (x->next_at - now < first)
			first = x->next_at - now;
	}
	if (number == 0 || end <= loop_wall(m->s->w->loop))
		return 0;
	return first + m->s->parcels * ((end - loop_wall(m->s->w->loop)) * USEC_PER_MSEC / number);
}

const char *warmup_overflow(const struct site *s, const char **ret_why)
{
	struct warmup *m = s->warmup;
	usec_t wait;

	if (!m || !m->rules->overflow)
		return NULL;
	if (warmup_until(s)) {
		m->overflows = true;
		*ret_why = "the warm-up has used up its day";
		return m->rules->overflow;
	}
	wait = warm_is_even(m) ? expected_wait(m) : 0;
	m->overflows = wait > OVERFLOW_WAIT || (m->overflows && wait);
	*ret_why = "the warm-up spreads its number over the day";
	return m->overflows ? m->rules->overflow : NULL;
}

static bool is_target_family(const struct site *s, uint8_t family)
{
	for (uint32_t i = 0; s->route && i < s->route->count; i++)
		if (s->route->targets[i].ip.family == family)
			return true;
	return !s->route;
}

/* Connections that will take the next messages as soon as they may: when the committer has committed. */
static uint32_t ready_soon(const struct site *s)
{
	const struct connection *c;
	uint32_t n = 0;

	TAILQ_FOREACH(c, &s->connections, link)
		n += warm_is_free(c) && warmup_is_ready(s, &c->source_ip);
	return n;
}

bool warmup_holds(const struct site *s)
{
	const struct warmup *m = s->warmup;
	bool any = false;

	if (m && ready_soon(s) >= s->parcels)
		return true;
	for (size_t i = 0; m && i < m->n; i++) {
		const struct warm_source *x = &m->v[i];

		if (sources_is_disabled(s, &x->ip) || !is_target_family(s, x->ip.family))
			continue;
		if (warmup_allows(s, &x->ip))
			return false;
		any = true;
	}
	return any;
}

static msec_t goes_on_at(const struct warmup *m, const struct warm_source *x)
{
	usec_t now = loop_now(m->s->w->loop);

	if (!warm_left(x))
		return warm_day_end(m, x);
	return loop_wall(m->s->w->loop) +
	       (x->next_at > now ? (x->next_at - now) / USEC_PER_MSEC : 0);
}

static void text_of(const struct warmup *m, const struct warm_source *x, char *ret)
{
	const struct warmup_day *d = warmup_today(&x->row);
	char ip[IP_TEXT_MAX], when[CLOCK_TEXT_MAX], start[LOCALDAY_TEXT_MAX];
	struct slice site = slice_str(m->s->name);

	if (slice_iends(site, ROLLUP))
		site.n -= strlen(ROLLUP);
	clock_iso(goes_on_at(m, x), when);
	if (m->today < m->rules->start)
		snprintf(ret, SHM_QUEUE_TEXT, "warm-up %s: starts on %s", m->rules->name,
			 localday_text(m->rules->start, start));
	else /* of the time, hours and minutes */
		snprintf(ret, SHM_QUEUE_TEXT,
			 "warm-up %s: day %u, %llu of %llu to %.*s from %s, until %.5s",
			 m->rules->name, d->step + 1, (unsigned long long)x->begun,
			 (unsigned long long)d->number, SLICE_ARG(site), ip_text(&x->ip, ip),
			 when + 11);
}

void warmup_hold_text(const struct site *s, char *ret)
{
	const struct warmup *m = s->warmup;
	const struct warm_source *first = NULL;

	*ret = '\0';
	if (!m || !warmup_holds(s))
		return;
	/* the one that goes on first */
	for (size_t i = 0; i < m->n; i++) {
		const struct warm_source *x = &m->v[i];

		if (sources_is_disabled(s, &x->ip) || !is_target_family(s, x->ip.family))
			continue;
		if (!first || (warm_left(x) && (!warm_left(first) || x->next_at < first->next_at)))
			first = x;
	}
	if (first && (!warm_left(first) || !warm_is_time(m, first)))
		text_of(m, first, ret);
}
