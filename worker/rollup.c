#include "worker/rollup.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/log.h"
#include "common/base/xalloc.h"
#include "common/conf/conf.h"
#include "common/dns/dns.h"
#include "common/conf/rollup_judge.h"
#include "worker/context.h"
#include "worker/events.h"
#include "worker/post.h"
#include "worker/queue.h"
#include "worker/shared.h"
#include "worker/site.h"

#define SECOND_LOOK (30 * USEC_PER_SEC) /* at most; also after a failed look-up */

struct rollup {
	const struct conf_provider *at; /* NULL: its own site */
	uint32_t conf_gen; /* that `at` and the settings are of */
	bool looks; /* only DNS tells */
	bool known; /* by name, by a look-up or by what was stored */
	usec_t expires; /* of the last answer */
	struct dns_route *answer; /* the last one that decided; NULL: none yet */
	struct dns_query *query;
	/* another answer than the one before, not yet believed */
	bool changed;
	const struct conf_provider *candidate;
	char *resolver; /* that gave it */
	char *stored; /* name in the queue's row, "" for none */
	bool report_due;
};

/* --- where a queue is --- */

static bool any_by_look_up(const struct conf *c)
{
	for (size_t i = 0; i < conf_provider_count(c); i++)
		if (conf_provider_at(c, i)->mx.n || conf_provider_at(c, i)->mx_ip.n)
			return true;
	return false;
}

static bool keeps_own_site(const struct queue *q)
{
	return conf_keeps_own_site(q->w->conf, slice_str(q->domain), slice_str(q->w->vmta_name));
}

/* Does only DNS tell? */
static bool needs_look_up(const struct queue *q)
{
	const struct conf *c = q->w->conf;

	return !worker_is_orphan(q->w) && any_by_look_up(c) && !keeps_own_site(q) &&
	       !conf_provider_of_domain(c, slice_str(q->domain));
}

static void store(struct queue *q)
{
	struct rollup *u = q->rollup;
	const char *name = u->at ? u->at->rollup : "";

	u->report_due = strcmp(name, u->stored) != 0;
	if (!u->report_due || !post_member(q->w->post, q->id, slice_str(name)))
		return;
	u->report_due = false;
	free(u->stored);
	u->stored = xstrdup(name);
	q->wake_position = post_position(q->w->post);
}

static void warn_shadowed(const struct queue *q)
{
	struct conf_setting s;
	char *keyword;

	if (q->site->told_shadowed ||
	    !conf_member_shadowed(q->w->conf, slice_str(q->domain), slice_str(q->w->vmta_name), &s))
		return;
	q->site->told_shadowed = true;
	keyword = slice_dup(slice_sub(slice_str(s.keyword), 0, strcspn(s.keyword, " ")));
	log_warn(NULL, "a setting of a domain has no effect: the domain belongs to a provider",
		 LOG_S("queue", q->name), LOG_S("site", q->site->name), LOG_S("directive", keyword),
		 LOG_S("section", s.section));
	free(keyword);
}

/* Settings and site as this provider (NULL: none) has them. r: an open read, or NULL. */
static void settle(struct queue *q, const struct conf_provider *p, struct spool_read *r)
{
	struct worker *w = q->w;
	struct slice domain = slice_str(q->domain), vmta = slice_str(w->vmta_name);
	struct conf_rolled m = {.own = NULL};

	q->rollup->at = p;
	q->rollup->conf_gen = w->conf_gen;
	if (p)
		conf_rolled_for(w->conf, p, domain, vmta, &m);
	else
		m.set = conf_domain_for(w->conf, domain, vmta);
	q->set = m.set;
	q->own = m.own;
	q->own_max_smtp_out = m.max_smtp_out;
	site_configure(q->home, q->set);
	site_move(q, p ? shared_get(w, r, p) : q->home);
	if (p)
		warn_shadowed(q);
	store(q);
}

static void forget_answer(struct rollup *u)
{
	dns_query_cancel(u->query);
	u->query = NULL;
	dns_route_free(u->answer);
	u->answer = NULL;
	u->changed = false;
	u->expires = 0;
}

/* As the configuration says now, from what is known of the domain. */
static void decide(struct queue *q, const struct conf_provider *last, struct spool_read *r)
{
	const struct conf *c = q->w->conf;
	const struct conf_provider *p = NULL;
	struct rollup *u = q->rollup;

	u->looks = needs_look_up(q);
	if (!u->looks) {
		forget_answer(u);
		u->known = true;
		if (!worker_is_orphan(q->w))
			p = conf_provider_of_domain(c, slice_str(q->domain));
		settle(q, p && keeps_own_site(q) ? NULL : p, r);
		return;
	}
	u->changed = false;
	if (u->answer && rollup_judge(c, u->answer, &p) != ROLLUP_UNKNOWN)
		last = p;
	u->known = u->answer || last;
	settle(q, last, r);
}

void rollup_begin(struct queue *q, struct spool_read *r, struct slice stored)
{
	struct rollup *u = q->rollup = xcalloc(1, sizeof(*u));

	u->stored = slice_dup(stored);
	decide(q, stored.n ? conf_provider_find(q->w->conf, stored) : NULL, r);
}

void rollup_end(struct queue *q)
{
	forget_answer(q->rollup);
	free(q->rollup->resolver);
	free(q->rollup->stored);
	free(q->rollup);
	q->rollup = NULL;
}

void rollup_configure(struct queue *q)
{
	struct rollup *u = q->rollup;

	if (u->conf_gen == q->w->conf_gen)
		return;
	decide(q, u->stored[0] ? conf_provider_find(q->w->conf, slice_str(u->stored)) : NULL, NULL);
}

/* --- look-ups --- */

static void move(struct queue *q, const struct conf_provider *p)
{
	const char *to = p ? p->rollup : q->domain;

	log_info(NULL, "a domain has moved with its MX records", LOG_S("queue", q->name),
		 LOG_S("from", q->site->name), LOG_S("to", to));
	events_add(q->w, &q->home->events, "moved from %s to %s: the MX records have changed",
		   q->site->name, to);
	settle(q, p, NULL);
}

static void take_answer(struct rollup *u, struct dns_route *a, usec_t now)
{
	dns_route_free(u->answer);
	u->answer = a;
	u->expires = now + (a->ttl ? a->ttl : 1) * USEC_PER_SEC;
	u->changed = false;
}

/* Not what it was: believed when the next look-up says the same. */
static void suspect(struct rollup *u, const struct conf_provider *p, const struct dns_route *a,
		    usec_t now)
{
	usec_t wait = (a->ttl ? a->ttl : 1) * USEC_PER_SEC;

	u->changed = true;
	u->candidate = p;
	free(u->resolver);
	u->resolver = xstrdup(a->resolver);
	u->expires = now + (wait < SECOND_LOOK ? wait : SECOND_LOOK);
}

static void on_answer(struct dns_route *a, void *arg)
{
	const struct conf_provider *p;
	struct queue *q;
	struct rollup *u;
	usec_t now;

	CAST_MAGIC(q, arg, QUEUE_MAGIC);
	u = q->rollup;
	u->query = NULL;
	now = loop_now(q->w->loop);
	if (rollup_judge(q->w->conf, a, &p) == ROLLUP_UNKNOWN) {
		u->expires = now + SECOND_LOOK;
		dns_route_free(a);
	} else if (!u->known || p == u->at || (u->changed && p == u->candidate)) {
		take_answer(u, a, now);
		if (u->known && p != u->at)
			move(q, p);
		else if (p != u->at)
			settle(q, p, NULL);
	} else {
		suspect(u, p, a, now);
		dns_route_free(a);
	}
	u->known = true;
	site_kick(q->site);
}

static void look_up(struct queue *q)
{
	struct rollup *u = q->rollup;

	if (!u->query)
		u->query = dns_lookup(q->w->dns, slice_str(q->domain), u->changed ? DNS_FRESH : 0,
				      u->changed ? u->resolver : NULL, on_answer, q);
}

bool rollup_is_known(struct queue *q)
{
	if (!q->rollup->known)
		look_up(q);
	return q->rollup->known;
}

void rollup_tick(struct queue *q)
{
	struct rollup *u = q->rollup;

	if (u->report_due)
		store(q);
	if (u->looks && u->known && !q->w->stopping && u->expires <= loop_now(q->w->loop))
		look_up(q);
}

bool rollup_is_idle(const struct queue *q)
{
	return !q->rollup->query && !q->rollup->report_due;
}
