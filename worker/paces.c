#include "worker/paces.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/err.h"
#include "common/base/log.h"
#include "common/base/xalloc.h"
#include "common/conf/conf.h"
#include "common/spool/spool.h"
#include "worker/connection.h"
#include "worker/context.h"
#include "worker/inhand.h"
#include "worker/mode.h"
#include "worker/pace_wants.h"
#include "worker/queue.h"
#include "worker/route.h"
#include "worker/site.h"
#include "worker/sources.h"

/* Between paced messages one connection is kept this long. */
#define KEEP_PACED (30 * USEC_PER_SEC)

struct paces {
	struct loop_timer *wake;
	usec_t wake_at;
	usec_t connect_until; /* no connection before this, by a rate */
	usec_t opened; /* the last connection; 0: none */
	usec_t queue_until; /* the first of its queues that waits for a clock of its own may go then */
	usec_t said_until; /* of why */
	char why[120];
};

/* One look at the clocks. */
struct look {
	struct site *s;
	struct pace_wants x;
	size_t by; /* the want that opens last … */
	usec_t open; /* … and when */
};

static void on_wake(void *arg)
{
	struct site *s;

	CAST_MAGIC(s, arg, SITE_MAGIC);
	s->paces->wake_at = 0;
	site_kick(s);
}

static struct paces *paces_of(struct site *s)
{
	if (!s->paces) {
		s->paces = xcalloc(1, sizeof(*s->paces));
		s->paces->wake = loop_timer_new(s->w->loop, on_wake, s);
	}
	return s->paces;
}

void paces_free(struct site *s)
{
	if (!s->paces)
		return;
	loop_timer_free(s->paces->wake);
	free(s->paces);
	s->paces = NULL;
}

static usec_t now_of(const struct site *s)
{
	return loop_now(s->w->loop);
}

/* Sites of all workers apart: an address is unique in its process. */
static uint64_t who(const struct site *s)
{
	return (uint64_t)(s->w->h->slot + 1) << 48 ^ (uint64_t)(uintptr_t)s;
}

static void wake_at(struct site *s, usec_t at)
{
	struct paces *p = paces_of(s);
	usec_t now = now_of(s);

	if (p->wake_at && p->wake_at <= at && p->wake_at > now)
		return;
	p->wake_at = at;
	loop_timer_set(p->wake, at > now ? at - now : 0);
}

static void say_full(struct site *s)
{
	static usec_t said; /* one loop, one thread */

	if (said && now_of(s) < said + 60 * USEC_PER_SEC)
		return;
	said = now_of(s);
	log_error(NULL, "the table of rate clocks is full: mail under rates waits",
		  LOG_S("queue", s->label));
}

/* A rate holds the site until look->open. */
static void wait_for(struct look *l, int rc)
{
	struct paces *p = paces_of(l->s);

	wake_at(l->s, l->open);
	p->said_until = l->open;
	if (rc == ERR_FULL) {
		say_full(l->s);
		snprintf(p->why, sizeof(p->why), "the table of rate clocks is full");
	} else {
		pace_want_text(&l->x, l->by, p->why, sizeof(p->why));
	}
}

static int ask(struct look *l)
{
	if (l->x.n == 0)
		return 0;
	return rates_ask(l->s->w->shm, l->x.v, l->x.n, who(l->s), now_of(l->s), &l->by, &l->open);
}

static int take(struct look *l, struct rate_ticket *ret)
{
	ret->n = 0;
	if (l->x.n == 0)
		return 0;
	return rates_take(l->s->w->shm, l->x.v, l->x.n, who(l->s), now_of(l->s), ret, &l->by,
			  &l->open);
}

/* --- connections --- */

static void connect_waits(struct look *l, int rc)
{
	wait_for(l, rc);
	paces_of(l->s)->connect_until = l->open;
}

/* A connection from here that could send at once. */
static void connect_wants(struct look *l, struct site *s, const struct pace_place *at)
{
	l->s = s;
	pace_wants_begin(&l->x, s, at);
	pace_wants_connect(&l->x, NULL);
	pace_wants_messages(&l->x, NULL, 1);
	pace_wants_bytes(&l->x, NULL, 1);
}

/* 0 when a connection from one of its addresses may; else l is of the one that opens first. */
static int ask_sources(struct look *l, struct site *s)
{
	const struct conf_source_hosts *h = &s->w->vmta->smtp_source_host;
	struct pace_place at = {.source = NULL};
	const struct ip *best = NULL;
	usec_t first = USEC_INFINITY;

	if (pace_by_source(s)) {
		for (size_t i = 0; i < h->n; i++) {
			if (sources_is_disabled(s, &h->v[i].ip))
				continue;
			at.source = &h->v[i].ip;
			connect_wants(l, s, &at);
			if (ask(l) == 0)
				return 0;
			if (l->open < first) {
				first = l->open;
				best = at.source;
			}
		}
	}
	at.source = best;
	connect_wants(l, s, &at);
	return ask(l);
}

/* All its mail may be that of domains whose own clocks are closed. */
static bool only_held_queues(struct site *s)
{
	return s->paces && s->paces->queue_until > now_of(s) && !turn_next(&s->turn);
}

/* smtp-out-rampup-interval: the next connection not before this; 0: at once. */
static usec_t ramp_until(const struct site *s)
{
	const struct paces *p = s->paces;

	return p && p->opened ? p->opened + s->set->smtp_out_rampup_interval : 0;
}

static bool ramp_holds(struct site *s)
{
	usec_t until = ramp_until(s);

	if (until <= now_of(s))
		return false;
	wake_at(s, until);
	return true;
}

bool paces_may_connect(struct site *s)
{
	struct look l;
	usec_t now = now_of(s);
	int rc;

	if (ramp_holds(s) || (s->paces && s->paces->connect_until > now))
		return false;
	if (only_held_queues(s)) {
		wake_at(s, s->paces->queue_until);
		return false;
	}
	if (!pace_has_rates(s))
		return true;
	rc = ask_sources(&l, s);
	if (rc)
		connect_waits(&l, rc);
	return rc == 0;
}

static int ask_open(struct look *l, struct site *s, const struct route_target *t,
		    const struct ip *source)
{
	const struct pace_place at = {.host = t->host, .dest = &t->ip, .source = source};

	connect_wants(l, s, &at);
	return ask(l);
}

usec_t paces_open_at(struct site *s, const struct route_target *t, const struct ip *source)
{
	struct look l;

	return ask_open(&l, s, t, source) ? l.open : 0;
}

bool paces_may_open(struct site *s, const struct route_target *t, const struct ip *source)
{
	struct look l;
	int rc = ask_open(&l, s, t, source);

	if (rc)
		connect_waits(&l, rc);
	return rc == 0;
}

static void ramp_up(struct site *s)
{
	struct paces *p;

	if (!s->set->smtp_out_rampup_interval)
		return;
	p = paces_of(s);
	p->opened = now_of(s);
	p->said_until = ramp_until(s);
	snprintf(p->why, sizeof(p->why), "smtp-out-rampup-interval");
	wake_at(s, p->said_until);
}

/* By a clock of the queue's own; what it was taken for is in the look. */
static bool is_own(const struct look *l, int rc)
{
	return rc == ERR_BUSY && l->x.v[l->by].scope == RATE_MEMBER;
}

static void queue_connect_waits(struct queue *q, struct look *l)
{
	q->connect_until = l->open;
	wake_at(q->site, l->open);
}

/* A connection or a transaction goes: what holds another local address does not hold the site. */
static void goes(struct site *s)
{
	if (s->paces && s->paces->connect_until <= now_of(s) && ramp_until(s) <= now_of(s))
		s->paces->said_until = 0;
}

bool paces_may_connect_for(struct queue *q)
{
	const struct pace_place at = {.source = NULL};
	struct look l = {.s = q->site};
	int rc;

	if (!q->own || conf_rate_is_unlimited(&q->own->max_connect_rate))
		return true;
	if (q->connect_until > now_of(q->site)) {
		wake_at(q->site, q->connect_until);
		return false;
	}
	pace_wants_begin(&l.x, q->site, &at);
	pace_wants_connect(&l.x, q);
	rc = ask(&l);
	if (!is_own(&l, rc))
		return true;
	queue_connect_waits(q, &l);
	return false;
}

bool paces_open(struct queue *q, const struct route_target *t, const struct ip *source)
{
	struct site *s = q->site;
	const struct pace_place at = {.host = t->host, .dest = &t->ip, .source = source};
	struct look l = {.s = s};
	struct rate_ticket ticket;
	int rc;

	pace_wants_begin(&l.x, s, &at);
	pace_wants_connect(&l.x, q);
	rc = take(&l, &ticket);
	if (is_own(&l, rc)) {
		queue_connect_waits(q, &l);
		return false;
	}
	if (rc) {
		connect_waits(&l, rc);
		return false;
	}
	goes(s);
	ramp_up(s);
	return true;
}

/* --- transactions --- */

static void place_of(const struct connection *c, struct pace_place *ret)
{
	*ret = (struct pace_place){.host = c->host, .dest = &c->ip, .source = &c->source_ip};
}

bool paces_may_send(struct connection *c)
{
	struct look l = {.s = c->site};
	struct pace_place at;
	int rc;

	if (c->paced_until > now_of(c->site))
		return false;
	if (!pace_has_rates(c->site))
		return true;
	place_of(c, &at);
	pace_wants_begin(&l.x, c->site, &at);
	pace_wants_messages(&l.x, NULL, 1);
	pace_wants_bytes(&l.x, NULL, 1);
	rc = ask(&l);
	if (rc) {
		c->paced_until = l.open;
		wait_for(&l, rc);
		return false;
	}
	goes(c->site);
	return true;
}

/* As it lies in the spool; headers that go in or out at delivery are a small difference. */
static uint64_t message_size(struct worker *w, uint64_t msgid)
{
	struct spool_message m = {.size = 1};
	struct spool_read *r;

	if (spool_read_begin(w->spool, &r) < 0)
		return 1;
	if (spool_message_get(r, msgid, &m) < 0 || m.size == 0)
		m.size = 1;
	spool_read_end(r);
	return m.size;
}

static void queue_waits(struct queue *q, struct look *l)
{
	struct paces *p = paces_of(l->s);
	usec_t now = now_of(l->s);

	q->paced_until = l->open;
	q->paced_by = (uint8_t)l->x.v[l->by].measure;
	if (p->queue_until <= now || l->open < p->queue_until)
		p->queue_until = l->open;
	wake_at(l->s, l->open);
}

bool paces_take(struct connection *c, const struct parcel *p, uint32_t *n, struct paces_ticket *ret)
{
	struct look l = {.s = c->site};
	struct pace_place at;
	uint64_t most;
	int rc;

	ret->t.n = 0;
	ret->messages = 0;
	if (!pace_has_rates(c->site) && !pace_has_own_rates(p->queue))
		return true;
	place_of(c, &at);
	pace_wants_begin(&l.x, c->site, &at);
	most = pace_wants_messages(&l.x, p->queue, 1);
	if (*n > most)
		*n = (uint32_t)most;
	pace_wants_tokens(&l.x, *n);
	ret->messages = (uint32_t)l.x.n;
	if (pace_wants_bytes(&l.x, p->queue, 1)) {
		uint64_t size = message_size(c->w, p->key.msgid);

		for (size_t i = ret->messages; i < l.x.n; i++)
			l.x.v[i].tokens = size;
	}
	rc = take(&l, &ret->t);
	if (rc == 0)
		return true;
	if (is_own(&l, rc)) {
		queue_waits(p->queue, &l);
	} else {
		c->paced_until = l.open;
		wait_for(&l, rc);
	}
	return false;
}

/* What came back may let others go that wait for it. */
static void came_back(struct site *s)
{
	struct connection *c;

	TAILQ_FOREACH(c, &s->connections, link)
		c->paced_until = 0;
	if (s->paces)
		s->paces->connect_until = 0;
}

void paces_sent(struct site *s, const struct paces_ticket *t, uint32_t recipients)
{
	uint32_t i;

	for (i = 0; i < t->messages && i < t->t.n; i++)
		rates_give_back(s->w->shm, &t->t, i, recipients);
	if (recipients == 0)
		paces_not_delivered(s, t);
}

void paces_not_delivered(struct site *s, const struct paces_ticket *t)
{
	uint32_t i;

	for (i = t->messages; i < t->t.n; i++)
		rates_give_back(s->w->shm, &t->t, i, 0);
	if (t->messages < t->t.n)
		came_back(s);
}

bool paces_holds(const struct queue *q)
{
	return q->paced_until && q->paced_until > loop_now(q->w->loop);
}

bool paces_waits(const struct connection *c)
{
	return c->paced_until > now_of(c->site);
}

/* When mail that waits for a clock can go over it; 0: none does. */
static usec_t next_use(const struct connection *c)
{
	const struct paces *p = c->site->paces;

	if (paces_waits(c))
		return c->paced_until;
	return p && p->queue_until > now_of(c->site) ? p->queue_until : 0;
}

/* The one that is kept; where addresses have rates of their own, one for each. */
static bool is_first_waiting(const struct connection *c)
{
	bool by_source = pace_by_source(c->site);
	const struct connection *o;

	TAILQ_FOREACH(o, &c->site->connections, link)
		if (o->step == STEP_ready && !o->txn && !o->closing && next_use(o) &&
		    (!by_source || ip_eq(&o->source_ip, &c->source_ip)))
			return o == c;
	return false;
}

usec_t paces_keep(const struct connection *c, usec_t configured)
{
	usec_t use = next_use(c);

	if (configured >= KEEP_PACED || c->site->parcels == 0 || !use)
		return configured;
	if (use > c->idle_since + KEEP_PACED || !is_first_waiting(c))
		return configured;
	return KEEP_PACED;
}

/* --- the site --- */

static void until(const struct site *s, const char *why, usec_t at, char *ret, size_t size)
{
	char when[CLOCK_TEXT_MAX];

	clock_iso(loop_wall(s->w->loop) + (at - now_of(s)) / USEC_PER_MSEC, when);
	snprintf(ret, size, "%s: until %s", why, when);
}

bool paces_why(const struct site *s, char *ret, size_t size)
{
	const struct paces *p = s->paces;

	if (!p || p->said_until <= now_of(s))
		return false;
	until(s, p->why, p->said_until, ret, size);
	return true;
}

/* The text of its own rate of this kind. */
static void own_rate_text(const struct queue *q, enum rate_measure of, char *ret, size_t size)
{
	const struct pace_place at = {.source = NULL};
	struct pace_wants x;

	pace_wants_begin(&x, q->site, &at);
	pace_wants_connect(&x, q);
	pace_wants_messages(&x, q, 1);
	pace_wants_bytes(&x, q, 1);
	ret[0] = '\0';
	for (size_t i = 0; i < x.n; i++)
		if (x.v[i].scope == RATE_MEMBER && x.v[i].measure == of)
			pace_want_text(&x, i, ret, size);
}

bool paces_queue_why(const struct queue *q, char *ret, size_t size)
{
	bool held = paces_holds(q);
	char why[SHM_QUEUE_TEXT / 2];

	if (!held && q->connect_until <= now_of(q->site))
		return false;
	own_rate_text(q, held ? q->paced_by : RATE_CONNECTS, why, sizeof(why));
	until(q->site, why, held ? q->paced_until : q->connect_until, ret, size);
	return true;
}

void paces_ask_again(struct site *s)
{
	if (s->paces && pace_by_source(s))
		s->paces->connect_until = 0;
}

void paces_reset(struct site *s)
{
	struct queue *q;

	if (!s->paces)
		return;
	came_back(s);
	s->paces->queue_until = s->paces->said_until = 0;
	SITE_EACH_QUEUE(q, s)
	q->paced_until = q->connect_until = 0;
	wake_at(s, now_of(s));
}
