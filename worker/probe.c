#include "worker/probe.h"

#include <stdlib.h>

#include "common/base/xalloc.h"
#include "worker/connection.h"
#include "worker/context.h"
#include "worker/site.h"
#include "worker/slots.h"

#define LOOK (100 * USEC_PER_MSEC)
/*
 * The first time; a living host answers its first SYN within that, and greets within the other. What a
 * lost packet keeps from answering is tried again with four times as long.
 */
#define CONNECT_PATIENCE (500 * USEC_PER_MSEC)
#define GREETING_PATIENCE (30 * USEC_PER_SEC)
#define ASIDE (30 * MSEC_PER_SEC)
/* Of all places, while nobody waits for one whose hosts answer: untried sites; with those that failed. */
#define IDLE_UNTRIED_SHARE 2
#define IDLE_FAILED_SHARE 4
#define LUCK 1024
#define LUCK_GOOD (LUCK * 3 / 4)
#define DOUBLINGS 10 /* enough for every timeout */

struct probes {
	struct worker *w;
	TAILQ_HEAD(, connection) list; /* the oldest first */
	uint32_t count[2]; /* untried, failed */
	uint32_t newest; /* of the untried ones, those that were tried before older ones */
	usec_t ended, took; /* the last one */
	uint32_t luck; /* of LUCK: the share of the last few that became connections */
	struct loop_timer *timer;
};

static uint32_t shift(uint32_t n)
{
	return n < DOUBLINGS ? n : DOUBLINGS;
}

static usec_t patience(const struct connection *c)
{
	usec_t first = c->connected ? GREETING_PATIENCE : CONNECT_PATIENCE;

	return first << 2 * shift(c->site->put_aside + c->site->retry_position);
}

static void on_timer(void *arg)
{
	struct probes *p = arg;
	struct connection *c, *next;
	usec_t now = loop_now(p->w->loop);

	for (c = TAILQ_FIRST(&p->list); c && slots_all_wait(p->w); c = next) {
		next = TAILQ_NEXT(c, probe);
		if (now - c->since >= patience(c))
			connection_cut_off(c);
	}
	if (!TAILQ_EMPTY(&p->list))
		loop_timer_set(p->timer, LOOK);
}

struct probes *probes_new(struct worker *w)
{
	struct probes *p = xcalloc(1, sizeof(*p));

	p->w = w;
	TAILQ_INIT(&p->list);
	p->luck = LUCK;
	p->timer = loop_timer_new(w->loop, on_timer, p);
	return p;
}

void probes_free(struct probes *p)
{
	if (!p)
		return;
	loop_timer_free(p->timer);
	free(p);
}

void probe_begin(struct connection *c)
{
	struct probes *p = c->w->probes;

	if (c->site->reached)
		return;
	c->probing = c->site->failed_at ? PROBING_FAILED : PROBING_UNTRIED;
	p->count[c->probing == PROBING_FAILED]++;
	c->probing_newest = c->probing == PROBING_UNTRIED && slots_is_newer(c->site);
	p->newest += c->probing_newest;
	TAILQ_INSERT_TAIL(&p->list, c, probe);
	if (!loop_timer_pending(p->timer))
		loop_timer_set(p->timer, LOOK);
}

void probe_end(struct connection *c, bool ready)
{
	struct probes *p = c->w->probes;

	if (c->probing == PROBING_NOT)
		return;
	p->count[c->probing == PROBING_FAILED]--;
	p->newest -= c->probing_newest;
	TAILQ_REMOVE(&p->list, c, probe);
	c->probing = PROBING_NOT;
	p->ended = loop_now(c->w->loop);
	p->took = p->ended - c->since;
	p->luck = p->luck * 7 / 8 + (ready ? LUCK / 8 : 0);
}

bool probes_may(const struct probes *p, uint32_t places, uint32_t part, bool failed)
{
	uint32_t now = failed ? p->count[1] : p->count[0] + p->count[1];
	usec_t pause;

	if (p->luck >= LUCK_GOOD)
		return now <= places / 4;
	if (places >= part)
		return now < places / part;
	pause = p->took * (part - places) / (places ? places : 1);
	return now == 0 && loop_now(p->w->loop) >= p->ended + pause;
}

bool probes_want_oldest(const struct probes *p)
{
	return p->count[0] <= 2 * p->newest;
}

bool probe_may_begin(struct site *s)
{
	const struct probes *p = s->w->probes;
	uint64_t total = conf_global(s->w->conf)->total_max_smtp_out, n = s->w->vmta->max_smtp_out;
	bool own = n && n < total;
	struct limit_want by = {.kind = own ? LIMIT_VMTA : LIMIT_TOTAL,
				.name = slice_str(own ? s->w->vmta_name : ""),
				.conf_gen = s->w->conf_gen};
	uint32_t share;

	by.cap = (uint32_t)(own ? n : total);
	share = by.cap / (s->failed_at ? IDLE_FAILED_SHARE : IDLE_UNTRIED_SHARE) + 1;
	if (s->reached || p->count[0] + p->count[1] < share)
		return true;
	(void)slots_held_by(s, &by);
	return false;
}

msec_t probe_put_aside(struct site *s, msec_t ladder, bool *ret_counts)
{
	msec_t wait = ASIDE << shift(s->put_aside);

	*ret_counts = wait >= ladder;
	s->put_aside = *ret_counts ? 0 : s->put_aside + 1;
	return *ret_counts ? ladder : wait;
}
