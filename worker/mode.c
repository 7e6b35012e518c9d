#include "worker/mode.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/log.h"
#include "common/base/xalloc.h"
#include "worker/context.h"
#include "worker/events.h"
#include "worker/resume.h"
#include "worker/notice.h"
#include "worker/paces.h"
#include "worker/tempo.h"
#include "worker/site.h"
#include "worker/site_orders.h"
#include "worker/sources.h"

#define HOUR (3600 * USEC_PER_SEC)
#define TEMPO_WINDOW (9 * USEC_PER_SEC) /* in which a found rate is kept, where it is fast enough */
#define TEMPO_LEAST 20 /* recipients in such a window */

struct change {
	msec_t at;
	bool backoff;
	char *why;
};

struct mode {
	bool backoff;
	msec_t since; /* wall */
	msec_t until; /* wall; back to normal, or recovery begins; 0 = not by time */
	msec_t hit; /* wall; the last reason to be slower */
	char *why;
	uint64_t order;
	bool unsaved;
	struct change changes[MODE_CHANGES]; /* the oldest first */
	size_t change_count;
};

bool mode_is_backoff(const struct site *s)
{
	return s->mode && s->mode->backoff;
}

msec_t mode_since(const struct site *s)
{
	return s->mode ? s->mode->since : 0;
}

static struct mode *mode_of(struct site *s)
{
	if (!s->mode)
		s->mode = xcalloc(1, sizeof(*s->mode));
	return s->mode;
}

void mode_free(struct site *s)
{
	struct mode *m = s->mode;

	if (!m)
		return;
	for (size_t i = 0; i < m->change_count; i++)
		free(m->changes[i].why);
	free(m->why);
	free(m);
	s->mode = NULL;
}

/* --- settings --- */

/* No twin says what to do: it is found out. */
static bool finds_out(const struct site *s)
{
	const struct conf_domain *set = s->set;

	return set->backoff_max_smtp_out == 0 && set->backoff_max_msg_rate.n == 0 &&
	       set->backoff_max_connect_rate.n == 0 && set->backoff_max_data_volume_rate.n == 0;
}

/* At least 1: 0 would be no rate at all. */
static uint64_t per_hour(const struct conf_rate *r)
{
	double hourly;

	if (r->n == UINT64_MAX || r->per == 0)
		return BACKOFF_NO_LIMIT;
	hourly = (double)r->n * (double)HOUR / (double)r->per;
	return hourly < 1 ? 1 : (uint64_t)hourly;
}

static struct backoff_rule rule_of(const struct site *s)
{
	const struct conf_domain *set = s->set;

	return (struct backoff_rule){
		.reduce = (unsigned)set->backoff_reduce,
		.step = (unsigned)set->backoff_recover_step,
		.hold = set->backoff_hold / USEC_PER_MSEC,
		.interval = set->backoff_recover_interval / USEC_PER_MSEC,
		.floor = per_hour(&set->backoff_min_msg_rate),
		.normal = per_hour(&set->max_msg_rate),
	};
}

/* --- changes --- */

static void remember(struct mode *m, msec_t at, bool backoff, char *why)
{
	if (m->change_count == MODE_CHANGES) {
		free(m->changes[0].why);
		m->change_count--;
		memmove(&m->changes[0], &m->changes[1], m->change_count * sizeof(m->changes[0]));
	}
	m->changes[m->change_count++] = (struct change){at, backoff, why};
}

static const char *mode_name(bool backoff)
{
	return backoff ? "backoff" : "normal";
}

static void mode_change(struct site *s, bool backoff, const char *why)
{
	struct mode *m = mode_of(s);
	const char *name = mode_name(backoff);

	m->backoff = backoff;
	m->since = loop_wall(s->w->loop);
	remember(m, m->since, backoff, xstrdup(why));
	log_info(NULL, "the mode of a site has changed", LOG_S("queue", s->label),
		 LOG_S("mode", name), LOG_S("why", why));
	events_add(s->w, &s->events, "mode is %s: %s", name, why);
	paces_reset(s);
	notice_add(s, NOTICE_MODE, "%s is in mode %s: %s", s->label, name, why);
	site_save(s);
	m->unsaved = false;
}

static void set_reason(struct site *s, const char *why, usec_t to_normal_after)
{
	struct mode *m = s->mode;
	usec_t after = to_normal_after ? to_normal_after : s->set->backoff_to_normal_after;

	if (m->why != why) {
		free(m->why);
		m->why = xstrdup(why);
	}
	m->hit = loop_wall(s->w->loop);
	m->until = after == USEC_INFINITY ? 0 : m->hit + after / USEC_PER_MSEC;
	m->unsaved = true;
}

void mode_enter_backoff(struct site *s, const char *why, const struct site_place *at,
			usec_t to_normal_after)
{
	struct backoff_rule r = rule_of(s);
	struct mode *m = mode_of(s);

	set_reason(s, why, to_normal_after);
	if (m->backoff) {
		if (finds_out(s))
			(void)tempo_hit(s, &r, at ? &at->source_ip : NULL, m->until);
		return;
	}
	if (finds_out(s))
		tempo_enter(s, &r, m->until);
	mode_change(s, true, why);
}

void mode_go_normal(struct site *s, const char *why)
{
	if (!mode_is_backoff(s))
		return;
	s->mode->until = 0;
	tempo_end(s);
	mode_change(s, false, why);
	site_kick(s);
}

void mode_delivered(struct site *s, const struct ip *source, uint32_t recipients, msec_t began)
{
	struct backoff_rule r = rule_of(s);
	struct mode *m = s->mode;

	tempo_count(s, source, recipients);
	if (!mode_is_backoff(s) || !s->set->backoff_to_normal_after_delivery || began < m->hit)
		return;
	if (!finds_out(s)) {
		mode_go_normal(s, "a delivery");
	} else if (m->until) {
		m->until = 0;
		m->unsaved = true;
		tempo_recover(s, &r);
	}
}

bool mode_finds_out(const struct site *s)
{
	return mode_is_backoff(s) && finds_out(s);
}

bool mode_absorbs(const struct site *s)
{
	return mode_finds_out(s) && tempo_accepted(s) > 0;
}

/* A reload may have brought twins, or taken them away: its cuts end, or begin. */
static void follow_twins(struct site *s)
{
	struct backoff_rule r = rule_of(s);
	bool cut = !tempo_is_over(s);

	if (cut == finds_out(s) || worker_is_orphan(s->w))
		return;
	if (cut)
		tempo_end(s);
	else
		tempo_enter(s, &r, s->mode->until);
	paces_reset(s);
	s->mode->unsaved = true;
	site_kick(s);
}

static void tick_backoff(struct site *s)
{
	struct backoff_rule r = rule_of(s);
	struct mode *m = s->mode;

	follow_twins(s);
	if (!finds_out(s)) {
		if (m->until && m->until <= loop_wall(s->w->loop))
			mode_go_normal(s, "the time for back-off has passed");
		return;
	}
	if (!tempo_tick(s, &r))
		return;
	m->unsaved = true;
	if (tempo_is_over(s))
		mode_go_normal(s, "the rate has recovered");
	else
		site_kick(s);
}

void mode_tick(struct site *s)
{
	if (mode_is_backoff(s))
		tick_backoff(s);
	if (s->mode && s->mode->unsaved) {
		s->mode->unsaved = false;
		site_save(s);
	}
}

/* --- what holds now --- */

uint64_t mode_full_smtp_out(const struct site *s)
{
	uint64_t most = s->set->max_smtp_out;

	if (mode_is_backoff(s) && s->set->backoff_max_smtp_out)
		most = s->set->backoff_max_smtp_out;
	else if (mode_is_backoff(s) && finds_out(s))
		most = tempo_all_connections(s, most);
	return most;
}

uint64_t mode_max_smtp_out(const struct site *s)
{
	return resume_share(s, mode_full_smtp_out(s));
}

uint64_t mode_source_max_smtp_out(const struct site *s, const struct ip *source)
{
	uint64_t all = mode_max_smtp_out(s);

	return mode_is_backoff(s) && finds_out(s) ? tempo_connections(s, source, all) : all;
}

const struct conf_times *mode_retry_after(const struct site *s)
{
	return mode_is_backoff(s) ? &s->set->backoff_retry_after : &s->set->retry_after;
}

/*
 * As a number in a window: short, so that what the receiver sees is even; with enough in it, so that a step of a
 * few percent is one.
 */
static struct conf_rate as_rate(uint64_t hourly)
{
	uint64_t n = (uint64_t)((double)hourly * (double)TEMPO_WINDOW / (double)HOUR);

	if (n < TEMPO_LEAST)
		n = TEMPO_LEAST;
	return (struct conf_rate){.n = n,
				  .per = (usec_t)((double)n * (double)HOUR / (double)hourly)};
}

struct conf_rate mode_source_msg_rate(const struct site *s, const struct ip *source)
{
	uint64_t hourly = mode_is_backoff(s) ? tempo_rate(s, source) : BACKOFF_NO_LIMIT;

	if (hourly == BACKOFF_NO_LIMIT)
		return (struct conf_rate){.n = UINT64_MAX, .per = USEC_PER_SEC};
	return as_rate(hourly);
}

/* --- for people --- */

bool mode_change_at(const struct site *s, size_t i, struct site_change *ret)
{
	const struct change *c;

	if (!s->mode || i >= s->mode->change_count)
		return false;
	c = &s->mode->changes[i];
	*ret = (struct site_change){.at = c->at,
				    .mode = c->backoff ? SITE_BACKOFF : SITE_NORMAL,
				    .why = slice_str(c->why)};
	return true;
}

void mode_describe(const struct site *s, msec_t *ret_since, msec_t *ret_until, const char **ret_why)
{
	const struct mode *m = s->mode;

	*ret_since = m ? m->since : 0;
	*ret_until = m && m->backoff ? m->until : 0;
	*ret_why = m && m->backoff && m->why ? m->why : "";
}

/* --- over restarts --- */

void mode_fill(const struct site *s, struct buf *scratch, struct site_mode *ret)
{
	const struct mode *m = s->mode;
	struct site_change c;
	size_t tempos, disabled;

	buf_clear(scratch);
	tempo_encode(s, scratch);
	tempos = scratch->n;
	sources_encode(s, scratch);
	disabled = scratch->n - tempos;
	for (size_t i = 0; mode_change_at(s, i, &c); i++)
		site_change_encode(&c, scratch);
	*ret = (struct site_mode){
		.mode = mode_is_backoff(s) ? SITE_BACKOFF : SITE_NORMAL,
		.since = m ? m->since : 0,
		.until = m ? m->until : 0,
		.reason = slice_str(mode_is_backoff(s) && m->why ? m->why : ""),
		.order = m && site_orders_about_mode(s->w) ? m->order : 0,
		.tempos = slice_sub(buf_slice(scratch), 0, tempos),
		.disabled = slice_sub(buf_slice(scratch), tempos, disabled),
		.changes = slice_from(buf_slice(scratch), tempos + disabled),
	};
}

void mode_load(struct site *s, const struct site_mode *from)
{
	struct slice changes = from->changes;
	struct site_change c;
	struct mode *m;

	tempo_load(s, from->tempos);
	sources_load(s, from->disabled);
	if (from->mode == SITE_NORMAL && from->order == 0 && from->since == 0)
		return;
	m = mode_of(s);
	m->backoff = from->mode == SITE_BACKOFF;
	m->since = m->hit = from->since;
	m->until = from->until;
	m->why = slice_dup(from->reason);
	m->order = from->order;
	while (site_change_next(&changes, &c))
		remember(m, c.at, c.mode == SITE_BACKOFF, slice_dup(c.why));
}

uint64_t mode_order(const struct site *s)
{
	return s->mode ? s->mode->order : 0;
}

void mode_set_order(struct site *s, uint64_t order)
{
	mode_of(s)->order = order;
	s->mode->unsaved = true;
}

/* The twin, where there is one, in back-off. */
static struct conf_rate twin(const struct site *s, const struct conf_rate *normal,
			     const struct conf_rate *backoff)
{
	return mode_is_backoff(s) && backoff->n ? *backoff : *normal;
}

struct conf_rate mode_msg_rate(const struct site *s)
{
	return twin(s, &s->set->max_msg_rate, &s->set->backoff_max_msg_rate);
}

struct conf_rate mode_connect_rate(const struct site *s)
{
	return twin(s, &s->set->max_connect_rate, &s->set->backoff_max_connect_rate);
}

struct conf_rate mode_data_rate(const struct site *s)
{
	return twin(s, &s->set->max_data_volume_rate, &s->set->backoff_max_data_volume_rate);
}
