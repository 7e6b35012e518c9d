#include "worker/site_parts.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/log.h"
#include "common/base/xalloc.h"
#include "common/conf/conf.h"
#include "worker/context.h"
#include "worker/hosts.h"
#include "worker/retry.h"
#include "worker/shared.h"
#include "worker/site.h"
#include "worker/trace.h"
#include "worker/verdict.h"

#define MINUTE (60 * USEC_PER_SEC)
#define TROUBLE_OLD (3600 * MSEC_PER_SEC)
#define LOOKUPS_LEAST 10 /* fewer say nothing of the resolvers */

struct sites {
	struct worker *w;
	/* look-ups of this minute and the one before: are resolvers to be believed? */
	struct {
		uint64_t ok, failed;
	} minute[2];
	usec_t minute_began;
	bool distrust;
};

struct sites *sites_new(struct worker *w)
{
	struct sites *ss = xcalloc(1, sizeof(*ss));

	ss->w = w;
	return ss;
}

void sites_free(struct sites *ss)
{
	free(ss);
}

/* A domain that has been in trouble for so long says nothing of resolvers: some always are. */
static bool is_old_trouble(const struct site *s)
{
	return s->since && loop_wall(s->w->loop) > s->since + TROUBLE_OLD;
}

static void lookup_count(struct sites *ss, bool failed)
{
	usec_t now = loop_now(ss->w->loop), age = now - ss->minute_began;
	uint64_t bad, all;
	bool distrust;

	if (age > MINUTE) {
		ss->minute[1] = ss->minute[0];
		if (age > 2 * MINUTE)
			memset(&ss->minute[1], 0, sizeof(ss->minute[1]));
		memset(&ss->minute[0], 0, sizeof(ss->minute[0]));
		ss->minute_began = now;
	}
	ss->minute[0].ok += !failed;
	ss->minute[0].failed += failed;
	bad = ss->minute[0].failed + ss->minute[1].failed;
	all = bad + ss->minute[0].ok + ss->minute[1].ok;
	distrust = all >= LOOKUPS_LEAST && bad * 5 > all;
	if (distrust && !ss->distrust)
		log_warn(NULL, "over 20% of DNS look-ups fail: no domain is declared dead",
			 LOG_U("failed", bad), LOG_U("lookups", all));
	ss->distrust = distrust;
}

static bool no_domain_ripe(const struct site *s)
{
	usec_t wait = s->set->bounce_upon_nxdomain;

	return s->no_domain_since && wait != USEC_INFINITY &&
	       loop_wall(s->w->loop) >= s->no_domain_since + wait / USEC_PER_MSEC;
}

/* A pattern may want it otherwise: then the mail waits, or another time, or bounces. */
static void site_fail_dns(struct site *s, struct outcome *o, msec_t delay)
{
	bool final = o->class == OUTCOME_BOUNCED;

	if (site_judged(s, o))
		return;
	if (final && o->class == OUTCOME_TRANSIENT)
		delay = retry_dns_delay(s->set);
	site_fail(s, o, NULL, delay, false);
}

static const char *no_domain_text(const struct route *r)
{
	return r->status == DNS_NXDOMAIN ? NO_DOMAIN_TEXT : NO_PLACE_TEXT;
}

/* The domain cannot take mail: believed when a second, fresh look-up says the same. */
static void site_no_domain(struct site *s, const struct route *r, bool confirmed)
{
	usec_t wait = s->set->bounce_upon_nxdomain;
	msec_t now = loop_wall(s->w->loop), delay = retry_dns_delay(s->set), left;
	struct outcome o;

	if (confirmed && !s->w->sites->distrust) {
		outcome_local(&o, LOCAL_NO_DOMAIN, "%s (DNS %s, twice)", no_domain_text(r),
			      dns_status_name(r->status));
		site_fail_dns(s, &o, 0);
		if (s->has_row && !site_in_retry(s)) {
			s->retry_at = 0;
			s->retry_position = 0;
			site_save(s);
		}
		return;
	}
	if (!s->no_domain_since || s->no_domain_status != r->status) {
		s->no_domain_since = now;
		s->no_domain_status = (uint8_t)r->status;
		free(s->no_domain_resolver);
		s->no_domain_resolver = xstrdup(r->resolver);
	}
	if (wait == 0 && !confirmed) {
		site_resolve(s);
		return;
	}
	if (wait != USEC_INFINITY) {
		left = s->no_domain_since + wait / USEC_PER_MSEC;
		if (left > now && left - now < delay)
			delay = left - now;
	}
	outcome_local(&o, LOCAL_NO_DOMAIN_YET, "%s (DNS %s)", no_domain_text(r),
		      dns_status_name(r->status));
	site_note(s, &o);
	site_fail_dns(s, &o, delay);
}

/* Its mail waits for another answer: until bounce-after, or as bounce-upon-no-mx says. */
static void site_no_answer(struct site *s, const struct route *r)
{
	struct outcome o;

	outcome_local(&o, LOCAL_DNS, "DNS %s: %s", dns_status_name(r->status), r->text);
	site_note(s, &o);
	site_fail_dns(s, &o, retry_dns_delay(s->set));
}

static void site_domain_exists(struct site *s, const struct route *r)
{
	s->no_mx = r->implicit_mx;
	s->no_domain_since = 0;
	free(s->no_domain_resolver);
	s->no_domain_resolver = NULL;
}

/* It exists, but nowhere could mail for it go, and nobody has said how long to wait for that. */
static bool has_no_place(const struct site *s, const struct route *r)
{
	return r->implicit_mx && !s->set->smtp_hosts.n && s->set->bounce_upon_no_mx == CONF_TIME_NO;
}

/* Other sites have reached one of its hosts lately, and since its own last failure. */
static bool hosts_are_known(const struct site *s)
{
	for (uint32_t i = 0; i < s->route->count; i++) {
		const struct route_target *t = &s->route->targets[i];

		if (hosts_is_reached(s->w->hosts, &t->ip, t->port, s->failed_at))
			return true;
	}
	return false;
}

static void site_on_answer(struct site *s, struct route *r, bool fresh)
{
	struct outcome o;
	bool failed;

	trace_route(trace_place(s), r);
	failed = r->status == DNS_TEMPFAIL || r->status == DNS_LOOP;
	if (!failed || !is_old_trouble(s))
		lookup_count(s->w->sites, failed);
	switch (r->status) {
	case DNS_OK:
		if (s->route) /* a short TTL is no fresh start */
			route_keep_failed(r, s->route);
		route_free(s->route);
		s->route = r;
		site_domain_exists(s, r);
		if (!s->reached && hosts_are_known(s))
			site_set_reached(s, true);
		if (s->no_mx)
			verdict_expire_waiting(s);
		/* of a provider's: first to an idle connection, which waits for the look-up, too */
		site_kick(site_serving(s));
		return;
	case DNS_NXDOMAIN:
		if (s->set->smtp_hosts.n) /* says nothing of the domain */
			site_no_answer(s, r);
		else
			site_no_domain(s, r, fresh && s->no_domain_status == r->status);
		break;
	case DNS_NULL_MX:
		outcome_local(&o, LOCAL_NULL_MX, "the domain accepts no mail (null MX)");
		site_fail_dns(s, &o, 0);
		break;
	case DNS_NO_HOST:
		if (has_no_place(s, r)) {
			site_no_domain(s, r, fresh && s->no_domain_status == r->status);
			break;
		}
		site_domain_exists(s, r);
		site_no_answer(s, r);
		break;
	case DNS_TEMPFAIL:
	case DNS_LOOP:
		site_no_answer(s, r);
		break;
	}
	route_free(r);
}

static void on_fresh_route(struct route *r, void *arg)
{
	struct site *s;

	CAST_MAGIC(s, arg, SITE_MAGIC);
	s->query = NULL;
	site_on_answer(s, r, true);
}

static void on_route(struct route *r, void *arg)
{
	struct site *s;

	CAST_MAGIC(s, arg, SITE_MAGIC);
	s->query = NULL;
	site_on_answer(s, r, false);
}

void site_resolve(struct site *s)
{
	bool fresh = no_domain_ripe(s);

	s->query = route_lookup(s->w, s->name, s->set, fresh ? DNS_FRESH : 0,
				fresh ? s->no_domain_resolver : NULL,
				fresh ? on_fresh_route : on_route, s);
}
