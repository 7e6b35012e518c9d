#include "worker/tempo.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/xalloc.h"
#include "common/spool/site_mode.h"
#include "worker/connection.h"
#include "worker/context.h"
#include "worker/site.h"
#include "worker/sources.h"

#define SLOTS 12 /* of a minute */
#define SLOT_TIME (5 * USEC_PER_SEC)

struct tempo_source {
	struct ip ip;
	struct backoff b;
	uint32_t connections; /* at the first cut */
	uint32_t accepted[SLOTS]; /* of the slots that end with `slot` */
	usec_t slot; /* number of the newest one since the clock's beginning */
};

struct tempo {
	struct tempo_source *v;
	size_t n;
};

/* Where the kernel chooses the address there is one tempo for whatever it chooses. */
static const struct ip *key(const struct site *s, const struct ip *source)
{
	static const struct ip any = {.family = IP_NONE};

	if (worker_is_orphan(s->w) || s->w->vmta->smtp_source_host.n == 0)
		return &any;
	return source;
}

static struct tempo_source *find(const struct site *s, const struct ip *source)
{
	source = key(s, source);
	for (size_t i = 0; s->tempo && i < s->tempo->n; i++)
		if (ip_eq(&s->tempo->v[i].ip, source))
			return &s->tempo->v[i];
	return NULL;
}

static struct tempo_source *find_or_add(struct site *s, const struct ip *source)
{
	struct tempo_source *x = find(s, source);
	struct tempo *p = s->tempo;

	if (x)
		return x;
	if (!p)
		p = s->tempo = xcalloc(1, sizeof(*p));
	p->v = xreallocarray(p->v, p->n + 1, sizeof(*p->v));
	p->v[p->n] = (struct tempo_source){.ip = *key(s, source)};
	return &p->v[p->n++];
}

void tempo_free(struct site *s)
{
	if (!s->tempo)
		return;
	free(s->tempo->v);
	free(s->tempo);
	s->tempo = NULL;
}

/* --- what was accepted --- */

static usec_t slot_now(const struct site *s)
{
	return loop_now(s->w->loop) / SLOT_TIME;
}

static void turn(struct tempo_source *x, usec_t slot)
{
	if (slot - x->slot >= SLOTS)
		memset(x->accepted, 0, sizeof(x->accepted));
	for (usec_t i = x->slot + 1; i <= slot && slot - x->slot < SLOTS; i++)
		x->accepted[i % SLOTS] = 0;
	x->slot = slot;
}

void tempo_count(struct site *s, const struct ip *source, uint32_t recipients)
{
	struct tempo_source *x = find_or_add(s, source);

	turn(x, slot_now(s));
	x->accepted[x->slot % SLOTS] += recipients;
}

static uint64_t accepted(const struct site *s, const struct tempo_source *x)
{
	usec_t now = slot_now(s);
	uint64_t sum = 0;

	for (usec_t i = 0; i < SLOTS && i <= x->slot; i++)
		if (x->slot - i + SLOTS > now)
			sum += x->accepted[(x->slot - i) % SLOTS];
	return sum;
}

uint64_t tempo_accepted(const struct site *s)
{
	uint64_t sum = 0;

	for (size_t i = 0; s->tempo && i < s->tempo->n; i++)
		sum += accepted(s, &s->tempo->v[i]);
	return sum;
}

/* --- cuts --- */

static uint32_t connections_of(const struct site *s, const struct tempo_source *x)
{
	const struct connection *c;
	uint32_t n = 0;

	TAILQ_FOREACH(c, &s->connections, link)
		n += ip_eq(key(s, &c->source_ip), &x->ip);
	return n;
}

static void add_all_sources(struct site *s)
{
	static const struct ip any = {.family = IP_NONE};
	const struct conf_source_hosts *h = &s->w->vmta->smtp_source_host;

	for (size_t i = 0; i < h->n; i++)
		(void)find_or_add(s, &h->v[i].ip);
	if (h->n == 0)
		(void)find_or_add(s, &any);
}

/* Of a source that got nothing through: what others do on average. */
static uint64_t usual(const struct site *s)
{
	uint64_t n = 0;

	for (size_t i = 0; i < s->tempo->n; i++)
		n += accepted(s, &s->tempo->v[i]) > 0;
	return n ? tempo_accepted(s) / n : 0;
}

static void enter(struct site *s, struct tempo_source *x, const struct backoff_rule *r, msec_t from)
{
	uint64_t got = accepted(s, x);
	uint32_t open = connections_of(s, x);

	backoff_enter(&x->b, r, loop_wall(s->w->loop), got ? got : usual(s), from);
	x->connections = open / 2 ? open / 2 : 1;
}

void tempo_enter(struct site *s, const struct backoff_rule *r, msec_t from)
{
	if (worker_is_orphan(s->w))
		return;
	add_all_sources(s);
	for (size_t i = 0; i < s->tempo->n; i++)
		enter(s, &s->tempo->v[i], r, from);
}

static bool hit(struct site *s, struct tempo_source *x, const struct backoff_rule *r, msec_t from)
{
	if (x->b.phase != BACKOFF_OFF)
		return backoff_hit(&x->b, r, loop_wall(s->w->loop), accepted(s, x), from);
	enter(s, x, r, from);
	return true;
}

bool tempo_hit(struct site *s, const struct backoff_rule *r, const struct ip *source, msec_t from)
{
	bool cut = false;

	if (worker_is_orphan(s->w))
		return false;
	if (source)
		return hit(s, find_or_add(s, source), r, from);
	add_all_sources(s);
	for (size_t i = 0; i < s->tempo->n; i++)
		cut |= hit(s, &s->tempo->v[i], r, from);
	return cut;
}

void tempo_recover(struct site *s, const struct backoff_rule *r)
{
	msec_t soon = loop_wall(s->w->loop) + r->interval;

	for (size_t i = 0; s->tempo && i < s->tempo->n; i++)
		if (s->tempo->v[i].b.next > soon)
			s->tempo->v[i].b.next = soon;
}

bool tempo_tick(struct site *s, const struct backoff_rule *r)
{
	msec_t now = loop_wall(s->w->loop);
	bool changed = false;

	for (size_t i = 0; s->tempo && i < s->tempo->n; i++) {
		struct tempo_source *x = &s->tempo->v[i];

		/* half of it counts: the minute also holds slower times */
		if (x->b.phase != BACKOFF_OFF)
			changed |=
				backoff_tick(&x->b, r, now, accepted(s, x) * 60 * 2 >= x->b.rate);
	}
	return changed;
}

bool tempo_is_over(const struct site *s)
{
	for (size_t i = 0; s->tempo && i < s->tempo->n; i++)
		if (s->tempo->v[i].b.phase != BACKOFF_OFF)
			return false;
	return true;
}

void tempo_end(struct site *s)
{
	for (size_t i = 0; s->tempo && i < s->tempo->n; i++)
		s->tempo->v[i].b = (struct backoff){.phase = BACKOFF_OFF};
}

/* --- what follows from it --- */

uint64_t tempo_rate(const struct site *s, const struct ip *source)
{
	const struct tempo_source *x = find(s, source);

	return x && x->b.phase != BACKOFF_OFF ? x->b.rate : BACKOFF_NO_LIMIT;
}

static uint64_t connections_now(const struct tempo_source *x, uint64_t most)
{
	uint64_t n;

	if (x->b.phase == BACKOFF_OFF || x->b.entry == 0)
		return most;
	n = (uint64_t)((double)x->connections * (double)x->b.rate / (double)x->b.entry);
	return n < 1 ? 1 : n > most ? most : n;
}

uint64_t tempo_connections(const struct site *s, const struct ip *source, uint64_t most)
{
	const struct tempo_source *x = find(s, source);

	return x ? connections_now(x, most) : most;
}

uint64_t tempo_all_connections(const struct site *s, uint64_t most)
{
	uint64_t sum = 0;

	if (!s->tempo || s->tempo->n == 0)
		return most;
	for (size_t i = 0; i < s->tempo->n; i++)
		if (!sources_is_disabled(s, &s->tempo->v[i].ip))
			sum += connections_now(&s->tempo->v[i], most);
	return sum < 1 ? 1 : sum > most ? most : sum;
}

bool tempo_at(const struct site *s, size_t i, struct tempo_info *ret)
{
	const struct tempo_source *x;

	if (!s->tempo || i >= s->tempo->n)
		return false;
	x = &s->tempo->v[i];
	*ret = (struct tempo_info){.ip = x->ip,
				   .accepted = accepted(s, x),
				   .rate = x->b.phase != BACKOFF_OFF ? x->b.rate : BACKOFF_NO_LIMIT,
				   .good = x->b.good};
	return true;
}

/* --- over restarts --- */

void tempo_encode(const struct site *s, struct buf *b)
{
	for (size_t i = 0; s->tempo && i < s->tempo->n; i++) {
		const struct tempo_source *x = &s->tempo->v[i];
		const struct site_tempo p = {
			.ip = x->ip,
			.phase = x->b.phase,
			.rate = x->b.rate,
			.entry = x->b.entry,
			.good = x->b.good,
			.cut = x->b.cut,
			.next = x->b.next,
			.step = x->b.step,
			.stay = x->b.stay,
			.patience = x->b.patience,
			.connections = x->connections,
		};

		if (x->b.phase != BACKOFF_OFF)
			site_tempo_encode(&p, b);
	}
}

void tempo_load(struct site *s, struct slice list)
{
	struct site_tempo p;

	while (site_tempo_next(&list, &p)) {
		struct tempo_source *x;

		if (p.phase > BACKOFF_TRY || p.rate == 0)
			continue;
		x = find_or_add(s, &p.ip);
		x->connections = p.connections;
		x->b = (struct backoff){.phase = p.phase,
					.rate = p.rate,
					.entry = p.entry,
					.good = p.good,
					.cut = p.cut,
					.next = p.next,
					.step = p.step,
					.stay = p.stay,
					.patience = p.patience};
	}
}
