#include "worker/shared.h"

#include <stdlib.h>

#include "common/base/log.h"
#include "common/base/xalloc.h"
#include "common/conf/conf.h"
#include "common/spool/spool.h"
#include "worker/connection.h"
#include "worker/context.h"
#include "worker/mode.h"
#include "worker/notice.h"
#include "worker/pace_wants.h"
#include "worker/paces.h"
#include "worker/queue.h"
#include "worker/reroute.h"
#include "worker/site.h"
#include "worker/site_orders.h"
#include "worker/slots.h"
#include "worker/sources.h"
#include "worker/trace.h"
#include "worker/turn.h"
#include "worker/warmup.h"

/* Queues that are looked at for one connection; the next look goes on behind them. */
#define LOOK_AT_ONCE 64
/* What a connection may carry while mail for other hosts has no connection at all. */
#define FAIR_MESSAGES 20

/* Hosts that failed are left alone for this long while others work. */
#define ANOTHER_CHANCE (60 * USEC_PER_SEC)

struct shared {
	TAILQ_HEAD(, site) sites;
};

static struct shared *shared_of(struct worker *w)
{
	if (!w->shared) {
		w->shared = xcalloc(1, sizeof(*w->shared));
		TAILQ_INIT(&w->shared->sites);
	}
	return w->shared;
}

struct site *shared_find(struct worker *w, struct slice name)
{
	struct site *s;

	TAILQ_FOREACH(s, &shared_of(w)->sites, all)
		if (slice_ieq_str(name, s->name))
			return s;
	return NULL;
}

struct site *shared_get(struct worker *w, struct spool_read *r, const struct conf_provider *p)
{
	struct site *s = shared_find(w, slice_str(p->rollup));
	struct spool_read *own = NULL;

	if (s)
		return s;
	if (!r && spool_read_begin(w->spool, &own) == 0)
		r = own;
	s = site_new(w, r, p->rollup,
		     conf_domain_for(w->conf, slice_str(p->rollup), slice_str(w->vmta_name)), p);
	spool_read_end(own);
	TAILQ_INSERT_TAIL(&shared_of(w)->sites, s, all);
	if (s->unread)
		log_warn(NULL,
			 "the spool cannot be read: the mail of a provider waits until it can",
			 LOG_S("site", s->label));
	else
		site_orders_join(s);
	return s;
}

void shared_reconfigure(struct worker *w)
{
	struct site *s;

	TAILQ_FOREACH(s, &shared_of(w)->sites, all) {
		s->provider = conf_provider_find(w->conf, slice_str(s->name));
		s->told_shadowed = false;
		site_configure(
			s, conf_domain_for(w->conf, slice_str(s->name), slice_str(w->vmta_name)));
		warmup_configure(s);
		paces_reset(s);
	}
}

void shared_each(struct worker *w, void (*each)(struct site *s, void *arg), void *arg)
{
	struct site *s;

	TAILQ_FOREACH(s, &shared_of(w)->sites, all)
		each(s, arg);
}

static void forget(struct site *s)
{
	TAILQ_REMOVE(&s->w->shared->sites, s, all);
	site_free(s);
}

void shared_free_all(struct worker *w)
{
	struct site *s;

	while ((s = TAILQ_FIRST(&shared_of(w)->sites)))
		forget(s);
	free(w->shared);
	w->shared = NULL;
}

/* --- whose mail goes where --- */

static bool is_usable(const struct route_target *t, void *arg)
{
	return site_target_usable(arg, t);
}

/* A host of the queue that may be tried. */
static bool has_host(struct queue *q)
{
	return site_may_try_more(q->home) && route_has_next(q->home->route, is_usable, q);
}

/* Counts connections that are made for the queue or carry its mail now. */
static uint64_t serving(const struct site *s, const struct queue *q, const struct connection *but)
{
	const struct connection *c;
	uint64_t n = 0;

	TAILQ_FOREACH(c, &s->connections, link)
		n += c != but && c->serving == q->id;
	return n;
}

static bool may_go(struct queue *q, const struct connection *c)
{
	if (q->parcels == 0 || queue_is_blocked(q))
		return false;
	return !q->own_max_smtp_out || serving(q->site, q, c) < q->own_max_smtp_out;
}

/* The queue's hosts are known; else they are being looked up. */
static bool has_route(struct queue *q)
{
	struct site *home = q->home;

	if (home->query)
		return false;
	if (home->route && home->route->expires > loop_now(q->w->loop))
		return true;
	site_resolve(home);
	return false;
}

static bool leads_to(struct queue *q, const struct connection *c)
{
	return c->require_tls == q->set->require_starttls &&
	       route_serves(q->home->route, &c->ip, c->port, is_usable, q);
}

static bool may_carry(struct queue *q, void *arg)
{
	const struct connection *c = arg;

	return may_go(q, c) && has_route(q) && leads_to(q, c);
}

bool shared_may_mix(const struct queue *q)
{
	return !q->own_max_smtp_out && !pace_has_own_rates(q);
}

bool shared_may_join(struct queue *q, const struct connection *c)
{
	return shared_may_mix(q) && !reroute_is_active(q) && may_go(q, c) && has_route(q) &&
	       leads_to(q, c);
}

struct parcel *shared_next(struct site *s, struct connection *c)
{
	struct parcel *p = turn_next_that(&s->turn, LOOK_AT_ONCE, may_carry, c);
	struct queue *last;

	if (p)
		return p;
	/* among many queues of other hosts, the one that it had mail of before */
	last = queue_find(s->w, c->served);
	return last && last->site == s && !paces_holds(last) && may_carry(last, c)
		       ? queue_first(last)
		       : NULL;
}

static bool is_served(const struct site *s, struct queue *q)
{
	const struct connection *c;

	TAILQ_FOREACH(c, &s->connections, link)
		if (connection_is_open(c) && (c->serving == q->id || leads_to(q, c)))
			return true;
	return false;
}

/* Has any other waiting queue a host that may still be tried, or may yet get one? */
static bool others_have_hosts(const struct site *s, const struct queue *but)
{
	struct queue *q;

	TAILQ_FOREACH(q, &s->queues, in_site) {
		if (q == but || q->parcels == 0 || queue_is_blocked(q))
			continue;
		if (!q->home->route || q->home->query || has_host(q))
			return true;
	}
	return false;
}

/* None of the queue's hosts is left. */
static void out_of_hosts(struct site *s, struct queue *q)
{
	bool alone = s->connecting || s->ready || others_have_hosts(s, q);

	site_out_of_targets(alone ? q->home : s, q->home);
}

struct pick {
	struct site *s;
	struct queue *served; /* one that connections go to already */
	struct queue *lost; /* one without a host that is left */
};

/* One that can go and has no connection yet. */
static bool needs_connection(struct queue *q, void *arg)
{
	struct pick *k = arg;

	if (!may_go(q, NULL) || !paces_may_connect_for(q) || !has_route(q))
		return false;
	if (!has_host(q)) {
		k->lost = q;
		return false;
	}
	if (!is_served(k->s, q))
		return true;
	if (!k->served)
		k->served = q;
	return false;
}

static bool is_traced(struct queue *q, void *arg)
{
	struct pick *k = arg;

	if (trace_queue(k->s) != q || !may_go(q, NULL) || !paces_may_connect_for(q) ||
	    !has_route(q))
		return false;
	if (!has_host(q))
		k->lost = q;
	return k->lost != q;
}

struct queue *shared_pick(struct site *s, struct route_target **ret)
{
	struct pick k = {.s = s};
	struct parcel *p =
		trace_wants(s) ? turn_next_that(&s->turn, UINT32_MAX, is_traced, &k) : NULL;
	struct queue *q;

	if (!p)
		p = turn_next_that(&s->turn, LOOK_AT_ONCE, needs_connection, &k);
	q = p ? p->queue : k.served;

	if (k.lost) {
		out_of_hosts(s, k.lost);
		if (site_in_retry(s))
			q = NULL;
	}
	s->stuck = !q && !k.lost; /* another one may be lost, too */
	if (q)
		*ret = route_next(q->home->route, is_usable, q);
	return q;
}

/* --- connections --- */

void shared_work(struct site *s)
{
	struct connection *c, *next;

	for (c = TAILQ_FIRST(&s->connections); c && s->parcels; c = next) {
		next = TAILQ_NEXT(c, link);
		if (connection_is_idle(c) && !paces_waits(c) && warmup_is_ready(s, &c->source_ip) &&
		    shared_next(s, c))
			(void)connection_work(c);
	}
}

void shared_target_failed(struct site *s, const struct ip *ip, uint16_t port, bool tls_only)
{
	struct queue *q;

	s->failures++;
	s->marked_at = loop_now(s->w->loop);
	TAILQ_FOREACH(q, &s->queues, in_site)
		if ((!tls_only || q->set->require_starttls) && q->home->route &&
		    route_has(q->home->route, ip, port) &&
		    route_mark_failed(q->home->route, ip, port)) {
			q->home->failures++;
			site_remember_from(q->home, s);
		}
}

void shared_skip(struct site *s, const struct ip *ip, uint16_t port, usec_t until)
{
	struct queue *q;

	TAILQ_FOREACH(q, &s->queues, in_site)
		if (q->home->route)
			route_skip(q->home->route, ip, port, until);
}

void shared_forget_failures(struct site *s)
{
	struct queue *q;

	if (!s->failures)
		return;
	s->failures = 0;
	TAILQ_FOREACH(q, &s->queues, in_site) {
		q->home->failures = 0;
		if (q->home->route)
			route_reset(q->home->route);
	}
}

void shared_publish(struct site *s, uint32_t queue)
{
	struct shm_queue *x = shm_queue_find(s->w->shm, queue);
	const struct connection *c;
	uint32_t n = 0;

	TAILQ_FOREACH(c, &s->connections, link)
		n += c->served == queue;
	if (x)
		atomic_store_explicit(&x->connections, n, memory_order_relaxed);
}

bool shared_is_connected(const struct site *s, const struct ip *ip, uint16_t port)
{
	const struct connection *c;

	TAILQ_FOREACH(c, &s->connections, link)
		if (c->was_ready && ip_eq(&c->ip, ip) && c->port == port)
			return true;
	return false;
}

static bool has_no_connection(struct queue *q, void *arg)
{
	return may_go(q, NULL) && has_route(q) && has_host(q) && !is_served(arg, q);
}

bool shared_should_yield(struct site *s, bool idle, uint32_t messages)
{
	if (!s->crowded || (!idle && messages < FAIR_MESSAGES))
		return false;
	s->crowded = false;
	return true;
}

void shared_tidy(struct worker *w)
{
	struct site *s, *next;

	for (s = TAILQ_FIRST(&shared_of(w)->sites); s; s = next) {
		next = TAILQ_NEXT(s, all);
		if (TAILQ_EMPTY(&s->queues) && site_is_idle(s)) {
			forget(s);
			continue;
		}
		if (s->unread)
			site_read(s);
		if (s->unread)
			continue;
		mode_tick(s);
		sources_tick(s);
		warmup_tick(s);
		notice_tick(s, false);
		site_report_again(s);
		if (s->failures && loop_now(w->loop) - s->marked_at > ANOTHER_CHANCE)
			shared_forget_failures(s);
		s->crowded = s->parcels && !site_in_retry(s) && s->slots >= mode_max_smtp_out(s) &&
			     turn_next_that(&s->turn, LOOK_AT_ONCE, has_no_connection, s);
		site_kick(s);
	}
}
