#include "worker/warmup.h"

#include <stdlib.h>

#include "common/base/err.h"
#include "common/base/localday.h"
#include "common/base/log.h"
#include "common/base/rng.h"
#include "common/base/xalloc.h"
#include "common/conf/conf.h"
#include "common/spool/report.h"
#include "common/spool/spool.h"
#include "worker/connection.h"
#include "worker/context.h"
#include "worker/duties.h"
#include "worker/events.h"
#include "worker/post.h"
#include "worker/site.h"
#include "worker/warmup_state.h"

/* What is asked for at a time: a part of the day's number, which is what a worker that dies loses. */
#define PART 32
#define PART_MAX 500
/* With an even pace, no transaction takes more than this part of the day's number. */
#define EVEN_PART 100
#define WARMUP_MAGIC 0x7761726du

struct warmups *warmups_new(struct worker *w)
{
	struct warmups *ws = xcalloc(1, sizeof(*ws));

	(void)w;
	TAILQ_INIT(&ws->waiting);
	return ws;
}

void warmups_free(struct warmups *ws)
{
	free(ws);
}

/* --- days --- */

static uint32_t today(struct worker *w)
{
	struct warmups *ws = w->warmups;
	msec_t now = loop_wall(w->loop);

	if (now < ws->begins || now >= ws->ends) {
		ws->today = localday_of(now);
		ws->begins = localday_start(ws->today);
		ws->ends = localday_start(ws->today + 1);
	}
	return ws->today;
}

msec_t warm_day_end(const struct warmup *m, const struct warm_source *x)
{
	const struct warmups *ws = m->s->w->warmups;
	uint32_t day = warmup_today(&x->row)->day;

	if (m->today < m->rules->start)
		return localday_start(m->rules->start);
	return day == ws->today ? ws->ends : localday_start(day + 1);
}

uint64_t warm_left(const struct warm_source *x)
{
	uint64_t number = warmup_today(&x->row)->number;

	return number > x->begun ? number - x->begun : 0;
}

/* Time to the next recipient, when the rest is spread evenly over the rest of the day. */
static usec_t interval(const struct warmup *m, const struct warm_source *x)
{
	msec_t end = warm_day_end(m, x), now = loop_wall(m->s->w->loop);
	uint64_t left = warm_left(x);

	return end > now && left ? (end - now) * USEC_PER_MSEC / left : 0;
}

bool warm_is_even(const struct warmup *m)
{
	return m->rules->pace == CONF_PACE_EVEN;
}

bool warm_is_time(const struct warmup *m, const struct warm_source *x)
{
	return !warm_is_even(m) || loop_now(m->s->w->loop) >= x->next_at;
}

static void set_timer(struct warmup *m)
{
	usec_t now = loop_now(m->s->w->loop), first = USEC_INFINITY;

	for (size_t i = 0; i < m->n; i++)
		if (warm_left(&m->v[i]) && m->v[i].next_at > now && m->v[i].next_at < first)
			first = m->v[i].next_at;
	if (warm_is_even(m) && first != USEC_INFINITY)
		loop_timer_set(m->timer, first - now);
	else
		loop_timer_clear(m->timer);
}

static void on_timer(void *arg)
{
	struct warmup *m;

	CAST_MAGIC(m, arg, WARMUP_MAGIC);
	set_timer(m);
	site_kick(m->s);
}

/* --- rows --- */

static struct warm_source *find(const struct site *s, const struct ip *ip)
{
	for (size_t i = 0; s->warmup && i < s->warmup->n; i++)
		if (ip_eq(&s->warmup->v[i].ip, ip))
			return &s->warmup->v[i];
	return NULL;
}

static void log_unreadable(const struct site *s, const struct ip *ip, int rc)
{
	char text[IP_TEXT_MAX];

	log_error(NULL,
		  "a row of the spool cannot be read; the warm-up begins anew; run sluice spool "
		  "check",
		  LOG_S("row", "quota"), LOG_S("queue", s->label),
		  LOG_S("source", ip_text(ip, text)), LOG_S("error", err_text(rc)));
}

static void say_day(const struct warmup *m, const struct warm_source *x)
{
	const struct warmup_day *d = warmup_today(&x->row);
	const char *why = warmup_why_text(d->why);
	char ip[IP_TEXT_MAX];

	if (d->number == 0)
		return;
	events_add(m->s->w, &m->s->events, "warm-up %s: day %u of %s: %llu%s%s", m->rules->name,
		   d->step + 1, ip_text(&x->ip, ip), (unsigned long long)d->number,
		   *why ? ", " : "", why);
}

/* When an even pace goes on that another process, or this site when it was in memory before, has begun. */
static usec_t goes_on_after(const struct warmup *m, const struct warm_source *x)
{
	msec_t now = loop_wall(m->s->w->loop), last = warmup_today(&x->row)->last;
	usec_t gap = interval(m, x), gone = now > last ? (now - last) * USEC_PER_MSEC : 0;

	return gap > gone ? gap - gone : 0;
}

/* A new day, or the first look at this one: what is in doubt counts as used. */
static void begin_day(const struct warmup *m, struct warm_source *x, bool was_here)
{
	uint64_t granted = warmup_today(&x->row)->granted;
	usec_t gap;

	x->begun = x->usable = granted;
	gap = interval(m, x);
	if (granted)
		gap = goes_on_after(m, x);
	else if (was_here) /* not all addresses at all sites at the stroke of midnight */
		gap = rng_u64() % (gap + 1);
	else
		gap = 0;
	x->next_at = loop_now(m->s->w->loop) + gap;
	say_day(m, x);
}

static void source_read(struct warmup *m, struct warm_source *x, struct spool_read *r)
{
	struct site *s = m->s;
	struct warmup_row row;
	struct warmup_setting set;
	uint32_t before = warmup_today(&x->row)->day;
	uint64_t granted = warmup_today(&x->row)->granted;
	int rc = spool_warmup_get(r, s->w->vmta_id, &x->ip, slice_str(s->name), &row);

	if (rc == 0)
		rc = spool_warmup_setting_get(r, &x->ip, &set);
	if (rc < 0) {
		log_unreadable(s, &x->ip, rc);
		row = (struct warmup_row){.count = 0};
		set = (struct warmup_setting){.seq = 0};
	}
	warmup_roll(&row, m->rules, &set, m->today);
	x->row = row;
	x->set = set;
	if (!before || warmup_today(&row)->day != before)
		begin_day(m, x, before != 0);
	else
		x->row.days[0].granted = granted; /* the spool may not have it yet */
}

static void read_all(struct warmup *m, struct spool_read *r)
{
	m->today = today(m->s->w);
	m->conf_gen = m->s->w->conf_gen;
	for (size_t i = 0; i < m->n; i++)
		source_read(m, &m->v[i], r);
	set_timer(m);
}

static void read_again(struct warmup *m)
{
	struct spool_read *r;
	uint64_t seq = duties_seq(m->s->w->duties); /* before what is read */

	if (spool_read_begin(m->s->w->spool, &r) < 0)
		return;
	m->orders_seen = seq;
	read_all(m, r);
	spool_read_end(r);
}

/* --- making --- */

static const struct conf_warmup *rules_of(const struct site *s)
{
	const char *provider = s->provider ? s->provider->name : NULL;

	return worker_is_orphan(s->w) ? NULL : conf_warmup_for(s->w->conf, s->w->vmta, provider);
}

/* The sources as they are configured; what is known of those that were there stays. */
static void take_sources(struct warmup *m)
{
	const struct conf_source_hosts *h = &m->s->w->vmta->smtp_source_host;
	struct warm_source *v = xcalloc(h->n, sizeof(*v));
	size_t n = 0;

	for (size_t i = 0; i < h->n; i++) {
		const struct warm_source *old = find(m->s, &h->v[i].ip);
		size_t k = 0;

		while (k < n && !ip_eq(&v[k].ip, &h->v[i].ip))
			k++;
		if (k < n)
			continue; /* named twice */
		if (old)
			v[n] = *old;
		v[n++].ip = h->v[i].ip;
	}
	free(m->v);
	m->v = v;
	m->n = n;
}

static void make(struct site *s, const struct conf_warmup *rules)
{
	struct warmup *m = xcalloc(1, sizeof(*m));

	m->magic = WARMUP_MAGIC;
	m->s = s;
	m->rules = rules;
	m->timer = loop_timer_new(s->w->loop, on_timer, m);
	s->warmup = m;
	take_sources(m);
}

void warmup_load(struct site *s, struct spool_read *r)
{
	const struct conf_warmup *rules = rules_of(s);

	if (!rules)
		return;
	make(s, rules);
	read_all(s->warmup, r);
}

static void wait_no_more(struct warmup *m)
{
	if (m->waiting)
		TAILQ_REMOVE(&m->s->w->warmups->waiting, m, link);
	m->waiting = false;
}

void warmup_free(struct site *s)
{
	struct warmup *m = s->warmup;

	if (!m)
		return;
	wait_no_more(m);
	loop_timer_free(m->timer);
	free(m->v);
	m->magic = 0;
	free(m);
	s->warmup = NULL;
}

/* What waited for the next day need not. */
static void release(struct site *s)
{
	struct queue *q;

	TAILQ_FOREACH(q, &s->queues, in_site) {
		queue_publish(q);
		queue_want_due(q);
		(void)post_wake(s->w->post, q->id, 0); /* no room: the sweep sees to it */
	}
}

static void configure(struct site *s)
{
	const struct conf_warmup *rules = rules_of(s);

	if (!rules) {
		warmup_settle(s);
		warmup_free(s);
		return;
	}
	if (!s->warmup)
		make(s, rules);
	else if (s->warmup->rules == rules && s->warmup->conf_gen == s->w->conf_gen &&
		 s->warmup->orders_seen == duties_seq(s->w->duties))
		return; /* another queue of the site was here before */
	s->warmup->rules = rules;
	take_sources(s->warmup);
	read_again(s->warmup);
}

void warmup_configure(struct site *s)
{
	bool held = warmup_until(s) != 0;

	configure(s);
	if (held && !warmup_until(s))
		release(s);
}

/* --- asking --- */

static void wait_for_commit(struct warmup *m)
{
	if (!m->waiting)
		TAILQ_INSERT_TAIL(&m->s->w->warmups->waiting, m, link);
	m->waiting = true;
}

/* The day with so many recipients granted goes into the ring. */
static void say(struct warmup *m, struct warm_source *x, uint64_t granted)
{
	struct report_warmup r = {.site = slice_str(m->s->name), .source_ip = x->ip};

	x->row.days[0].granted = granted;
	r.day = x->row.days[0];
	r.set = x->row.set;
	x->unsaid = !post_warmup(m->s->w->post, &r);
	x->position = post_position(m->s->w->post);
	wait_for_commit(m);
}

static bool is_on_its_way(const struct warmup *m, const struct warm_source *x)
{
	return x->unsaid || x->position > post_committed(m->s->w->post);
}

static void ask(struct warmup *m, struct warm_source *x, uint64_t wanted)
{
	uint64_t number = warmup_today(&x->row)->number, part = number / PART;
	uint64_t upto;

	if (part > PART_MAX)
		part = PART_MAX;
	if (warm_is_even(m) || part < wanted)
		part = wanted;
	upto = part < warm_left(x) ? x->begun + part : number;
	if (is_on_its_way(m, x) || upto <= x->usable)
		return;
	x->row.days[0].last = loop_wall(m->s->w->loop);
	say(m, x, upto);
}

/* False: there is nothing to wait for any more. */
static bool look(struct warmup *m)
{
	bool more = false;

	for (size_t i = 0; i < m->n; i++) {
		struct warm_source *x = &m->v[i];

		if (x->unsaid)
			say(m, x, x->row.days[0].granted);
		if (is_on_its_way(m, x))
			more = true;
		else if (x->row.count)
			x->usable = x->row.days[0].granted;
	}
	return more;
}

void warmups_look(struct worker *w)
{
	struct warmup *m, *next;

	for (m = TAILQ_FIRST(&w->warmups->waiting); m; m = next) {
		struct site *s = m->s;

		next = TAILQ_NEXT(m, link);
		if (!look(m))
			wait_no_more(m);
		site_kick(s);
	}
}

static bool has_unused(const struct warm_source *x)
{
	return x->row.count && x->row.days[0].granted > x->begun;
}

void warmup_settle(struct site *s)
{
	struct warmup *m = s->warmup;

	for (size_t i = 0; m && i < m->n; i++) {
		struct warm_source *x = &m->v[i];

		if (!has_unused(x))
			continue;
		x->usable = x->begun;
		say(m, x, x->begun);
	}
}

bool warmup_is_settled(const struct site *s)
{
	const struct warmup *m = s->warmup;

	for (size_t i = 0; m && i < m->n; i++)
		if (has_unused(&m->v[i]) || is_on_its_way(m, &m->v[i]))
			return false;
	/* a site that is held stays: nothing else would say so to operators, and to new mail */
	return warmup_until(s) == 0;
}

void warmup_tick(struct site *s)
{
	struct warmup *m = s->warmup;

	if (!m)
		return;
	if (today(s->w) != m->today)
		read_again(m);
	if (s->parcels == 0 && s->slots == 0)
		warmup_settle(s);
}

/* --- whether and how many --- */

bool warm_is_free(const struct connection *c)
{
	return c->step <= STEP_ready && !c->txn && !c->closing;
}

bool warmup_is_ready(const struct site *s, const struct ip *source)
{
	const struct warm_source *x = find(s, source);

	return !x || (warm_left(x) && warm_is_time(s->warmup, x));
}

bool warmup_allows(const struct site *s, const struct ip *source)
{
	const struct warm_source *x = find(s, source);
	const struct connection *c;
	uint64_t used = 0; /* by connections that have not begun yet */

	if (!x)
		return true;
	TAILQ_FOREACH(c, &s->connections, link)
		used += ip_eq(&c->source_ip, source) && warm_is_free(c);
	return warm_left(x) > used && warm_is_time(s->warmup, x) &&
	       !(warm_is_even(s->warmup) && used);
}

static uint64_t most_at_once(const struct warmup *m, const struct warm_source *x, uint64_t wanted)
{
	uint64_t part = warmup_today(&x->row)->number / EVEN_PART;

	if (warm_is_even(m) && wanted > part)
		wanted = part ? part : 1;
	return wanted < warm_left(x) ? wanted : warm_left(x);
}

void warmup_expect(struct site *s, const struct ip *source)
{
	struct warm_source *x = find(s, source);

	if (x && warm_left(x) && x->usable <= x->begun)
		ask(s->warmup, x, 1);
}

uint32_t warmup_room(struct site *s, const struct ip *source, uint32_t wanted, usec_t *ret_wait)
{
	struct warm_source *x = find(s, source);
	usec_t now = loop_now(s->w->loop);
	uint64_t n;

	*ret_wait = 0;
	if (!x)
		return wanted;
	if (!warm_left(x)) {
		*ret_wait = USEC_INFINITY;
		return 0;
	}
	if (!warm_is_time(s->warmup, x)) {
		*ret_wait = x->next_at - now;
		return 0;
	}
	n = most_at_once(s->warmup, x, wanted);
	if (x->usable - x->begun >= n)
		return (uint32_t)n;
	ask(s->warmup, x, n);
	return 0;
}

uint32_t warmup_begun(struct site *s, const struct ip *source, uint32_t n)
{
	struct warm_source *x = find(s, source);

	if (!x)
		return 0;
	x->next_at = loop_now(s->w->loop) + n * interval(s->warmup, x);
	x->begun += n;
	set_timer(s->warmup);
	return warmup_today(&x->row)->day;
}

void warmup_undo(struct site *s, const struct ip *source, uint32_t day, uint32_t n)
{
	struct warm_source *x = find(s, source);

	if (x && day && warmup_today(&x->row)->day == day && x->begun >= n)
		x->begun -= n;
}
