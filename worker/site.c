#include "worker/site.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/log.h"
#include "common/base/xalloc.h"
#include "common/conf/conf.h"
#include "common/spool/spool.h"
#include "worker/connection.h"
#include "worker/context.h"
#include "worker/events.h"
#include "worker/feed.h"
#include "worker/hold.h"
#include "worker/hosts.h"
#include "worker/inhand.h"
#include "worker/judge.h"
#include "worker/mode.h"
#include "worker/notice.h"
#include "worker/opening.h"
#include "worker/paces.h"
#include "worker/tempo.h"
#include "worker/post.h"
#include "worker/probe.h"
#include "worker/resume.h"
#include "worker/retry.h"
#include "worker/rollup.h"
#include "worker/shared.h"
#include "worker/site_orders.h"
#include "worker/site_parts.h"
#include "worker/slots.h"
#include "worker/sources.h"
#include "worker/trace.h"
#include "worker/verdict.h"
#include "worker/warmup.h"

/* How long no further connection is tried after a refusal while others work. */
#define HOLD_TIME (10 * USEC_PER_SEC)
/* retry-upon-new-mail: a stream of mail is no stream of attempts */
#define NEW_MAIL_GAP (10 * MSEC_PER_SEC)
#define SKIP_TIME (60 * USEC_PER_SEC)
/* How long it waits for a source that is disabled without an end, before it looks again. */
#define NO_SOURCE_LOOK (3600 * MSEC_PER_SEC)
/* Of a provider's site, that are tried in one turn while caps of single hosts hold them. */
#define QUEUES_AT_ONCE 4

/* --- making and forgetting --- */

static void site_load(struct site *s, struct spool_read *r)
{
	struct spool_site row;

	s->unread = false;
	if (!s->warmup) /* else it came with a reload: site_read() */
		warmup_load(s, r);
	if (spool_site_get(r, s->w->vmta_id, slice_str(s->name), &row) < 0)
		return;
	s->has_row = true;
	s->retry_position = row.retry_position;
	s->retry_at = row.retry_at;
	s->since = row.since;
	slice_copy(row.reason, s->last.text, sizeof(s->last.text));
	s->no_domain_status = strstr(s->last.text, NO_PLACE_TEXT) ? DNS_NO_HOST : DNS_NXDOMAIN;
	if (strstr(s->last.text, NO_DOMAIN_TEXT) || s->no_domain_status == DNS_NO_HOST)
		s->no_domain_since = row.since;
	s->no_source = strstr(s->last.text, SITE_ALL_DISABLED) != NULL;
	mode_load(s, &row.mode);
}

struct site *site_new(struct worker *w, struct spool_read *r, const char *name,
		      const struct conf_domain *set, const struct conf_provider *provider)
{
	struct site *s = xcalloc(1, sizeof(*s));

	s->magic = SITE_MAGIC;
	s->w = w;
	s->name = xstrdup(name);
	s->label = xasprintf("%s/%s", name, w->vmta_name);
	s->set = set;
	s->provider = provider;
	TAILQ_INIT(&s->queues);
	turn_init(&s->turn);
	TAILQ_INIT(&s->connections);
	s->resumed = resume_time(w, slice_str(s->label));
	s->unread = true;
	if (r)
		site_load(s, r);
	mode_tick(s); /* what time has ended while it was not in memory */
	sources_tick(s);
	return s;
}

void site_read(struct site *s)
{
	struct spool_read *r;
	struct queue *q;

	if (spool_read_begin(s->w->spool, &r) < 0)
		return;
	site_load(s, r);
	spool_read_end(r);
	warmup_configure(s); /* what a reload brought meanwhile could not be read either */
	site_orders_join(s);
	SITE_EACH_QUEUE(q, s)
	queue_site_changed(q);
	site_kick(s);
}

/* What is not reached has less room (inhand.h) and fewer turns (slots.h), so that dead domains delay nobody. */
void site_set_reached(struct site *s, bool reached)
{
	struct queue *q;

	s->reached = reached;
	if (reached)
		s->put_aside = 0;
	TAILQ_FOREACH(q, &s->queues, in_site)
		inhand_set_reached(s->w->inhand, q, reached);
	slots_site_changed(s);
}

void site_free(struct site *s)
{
	struct connection *c;

	while ((c = TAILQ_FIRST(&s->connections)))
		connection_discard(c);
	slots_unwant(s);
	route_query_cancel(s->query);
	route_free(s->route);
	site_notes_free(s);
	events_free(s->w, &s->events);
	mode_free(s);
	paces_free(s);
	tempo_free(s);
	sources_free(s);
	warmup_free(s);
	notice_free(s);
	free(s->no_domain_resolver);
	free(s->last_mx);
	free(s->name);
	free(s->label);
	s->magic = 0;
	free(s);
}

void site_configure(struct site *s, const struct conf_domain *set)
{
	if (s->set == set)
		return;
	s->set = set;
	events_add(s->w, &s->events, "new settings by a reload");
	if (s->route)
		s->route->expires = 0;
}

bool site_is_idle(const struct site *s)
{
	return s->slots == 0 && !s->query && !s->wanting && s->parcels == 0 && !s->report_due &&
	       !s->trace && warmup_is_settled(s) && !notice_pending(s);
}

bool site_in_retry(const struct site *s)
{
	return s->retry_at > loop_wall(s->w->loop);
}

msec_t site_blocked_until(const struct site *s)
{
	msec_t retry = site_in_retry(s) ? s->retry_at : 0, day = warmup_until(s);

	return day > retry ? day : retry;
}

/* --- what it says to the operator and to the spool --- */

static void site_publish(struct site *s)
{
	struct queue *q;

	SITE_EACH_QUEUE(q, s)
	{
		queue_publish(q);
		if (site_in_retry(s))
			queue_set_text(q, slice_str(s->last.text));
	}
}

void site_publish_connections(struct site *s)
{
	struct queue *q;

	if (!s->of)
		return; /* shared_publish() */

	SITE_EACH_QUEUE(q, s)
	{
		struct shm_queue *x = shm_queue_find(s->w->shm, q->id);

		if (x)
			atomic_store_explicit(&x->connections, s->slots, memory_order_relaxed);
	}
}

static void site_report(struct site *s, bool record)
{
	static struct buf scratch; /* one thread */
	struct queue *q;
	struct report_site r = {
		.name = slice_str(s->name),
		.queue = slice_str(s->label),
		.record = record,
		.since = s->since,
		.retry_position = s->retry_position,
		.retry_at = s->retry_at,
		.text = slice_str(s->last.text),
		.mx_name = slice_str(s->last_mx),
		.mx_ip = s->last_mx_ip,
		.source_ip = s->last_source_ip,
		.when = s->tried ? s->tried : loop_wall(s->w->loop),
	};

	if (s->unread) { /* it would write over what it does not know */
		s->report_record |= record;
		s->report_due = true;
		return;
	}
	mode_fill(s, &scratch, &r.mode);
	r.clear = s->retry_at == 0 && s->retry_position == 0 && site_mode_is_plain(&r.mode);
	memcpy(r.enhanced, s->last.enhanced, sizeof(r.enhanced));
	s->report_record |= record;
	r.record = s->report_record;
	s->report_due = !post_site(s->w->post, &r);
	if (s->report_due)
		return;
	s->report_record = false;
	s->has_row = !r.clear;
	/* The row must be there before the site may be forgotten. */
	SITE_EACH_QUEUE(q, s)
	q->wake_position = post_position(s->w->post);
}

void site_save(struct site *s)
{
	site_report(s, false);
}

void site_report_again(struct site *s)
{
	if (s->report_due)
		site_report(s, false);
}

static void connections_hold_text(const struct site *s, char *ret)
{
	unsigned long long now = mode_max_smtp_out(s), full = mode_full_smtp_out(s);
	usec_t until = resume_until(s, full);
	char when[CLOCK_TEXT_MAX];

	if (!until) {
		snprintf(ret, SHM_QUEUE_TEXT,
			 "max-smtp-out of the queue (%llu): until one of its connections is free",
			 now);
		return;
	}
	clock_iso(loop_wall(s->w->loop) + (until - loop_now(s->w->loop)) / USEC_PER_MSEC, when);
	snprintf(ret, SHM_QUEUE_TEXT,
		 "max-smtp-out of the queue, resumed (%llu of %llu): resume-ramp until %s", now,
		 full, when);
}

void site_own_hold(const struct site *s, char *ret)
{
	usec_t now = loop_now(s->w->loop);

	warmup_hold_text(s, ret);
	if (*ret)
		return;
	if (s->unread)
		snprintf(ret, SHM_QUEUE_TEXT,
			 "the spool, which cannot be read now: tried again each second");
	else if (s->query)
		snprintf(ret, SHM_QUEUE_TEXT, "a DNS look-up");
	else if (paces_why(s, ret, SHM_QUEUE_TEXT))
		return;
	else if (s->slots >= mode_max_smtp_out(s))
		connections_hold_text(s, ret);
	else if (s->ready && now < s->hold_until)
		snprintf(ret, SHM_QUEUE_TEXT,
			 "a connection was refused: the others go on, a new one is tried in %u s",
			 (unsigned)((s->hold_until - now) / USEC_PER_SEC) + 1);
}

/* --- failures --- */

/* For the operator, who asks later what has happened. */
static void site_tell_failure(struct site *s, const struct outcome *o, msec_t delay)
{
	char when[CLOCK_TEXT_MAX];

	if (o->class == OUTCOME_BOUNCED) {
		events_add(s->w, &s->events, "waiting mail bounces: %s", o->text);
		return;
	}
	clock_iso(loop_wall(s->w->loop) + delay, when);
	events_add(s->w, &s->events, "waits until %s: %s", when, o->text);
}

static void site_remember(struct site *s, const struct outcome *o, const struct site_place *at)
{
	s->last = *o;
	free(s->last_mx);
	s->last_mx = xstrdup(at && at->mx_name ? at->mx_name : "");
	s->last_mx_ip = at ? at->mx_ip : (struct ip){0};
	s->last_source_ip = at ? at->source_ip : (struct ip){0};
}

static void site_forget_failures(struct site *s)
{
	if (!s->of) {
		shared_forget_failures(s);
		return;
	}
	s->failures = 0;
	if (s->route)
		route_reset(s->route);
}

void site_remember_from(struct site *s, const struct site *from)
{
	const struct site_place at = {.mx_name = from->last_mx,
				      .mx_ip = from->last_mx_ip,
				      .source_ip = from->last_source_ip};

	site_remember(s, &from->last, &at);
}

static void site_put_aside(struct site *s)
{
	struct queue *q;

	SITE_EACH_QUEUE(q, s)
	{
		(void)queue_give_back(q, queue_not_before(q));
		queue_push_wake(q);
	}
}

void site_fail(struct site *s, const struct outcome *o, const struct site_place *at, msec_t delay,
	       bool counts)
{
	msec_t now = loop_wall(s->w->loop);

	site_remember(s, o, at);
	site_tell_failure(s, o, delay);
	s->no_source = strstr(o->text, SITE_ALL_DISABLED) != NULL;
	if (!s->no_source) /* that is no attempt: nobody expires for it */
		s->tried = now;
	s->failed_at = loop_now(s->w->loop);
	site_forget_failures(s);
	site_set_reached(s, false);
	if (s->route)
		route_unskip(s->route);
	trace_site_failed(trace_place(s), o, now + delay);
	if (o->class == OUTCOME_BOUNCED) {
		(void)verdict_waiting(s, o);
		return;
	}
	if (!s->since || !s->has_row)
		s->since = now;
	if (s->no_domain_since)
		s->since = s->no_domain_since;
	s->retry_at = now + delay;
	if (counts)
		s->retry_position++;
	log_debug(NULL, "site waits", LOG_S("queue", s->label), LOG_U("ms", delay),
		  LOG_S("reason", o->text));
	site_publish(s);
	verdict_expire_waiting(s);
	site_report(s, true);
	site_put_aside(s);
}

void site_target_failed(struct site *s, const struct ip *ip, uint16_t port, const struct outcome *o,
			const struct site_place *at)
{
	char text[IP_TEXT_MAX];

	site_note(s, o);
	events_add(s->w, &s->events, "%s [%s] failed: %s", at->mx_name, ip_text(ip, text), o->text);
	if (s->of ? s->ready > 0 : shared_is_connected(s, ip, port)) {
		s->hold_until = loop_now(s->w->loop) + HOLD_TIME;
		return;
	}
	site_remember(s, o, at);
	if (!s->of)
		shared_target_failed(s, ip, port, at->tls_only);
	else
		s->failures += !s->route || route_mark_failed(s->route, ip, port);
	site_want(s);
}

void site_skip_host(struct site *s, const struct outcome *o, const struct site_place *at)
{
	usec_t until = loop_now(s->w->loop) + SKIP_TIME;
	char text[IP_TEXT_MAX];

	events_add(s->w, &s->events, "%s [%s] is skipped: %s", at->mx_name,
		   ip_text(&at->mx_ip, text), o->text);
	site_remember(s, o, at);
	if (!s->of) {
		shared_target_failed(s, &at->mx_ip, at->mx_port, false);
		shared_skip(s, &at->mx_ip, at->mx_port, until);
	} else {
		s->failures += !s->route || route_mark_failed(s->route, &at->mx_ip, at->mx_port);
		if (s->route)
			route_skip(s->route, &at->mx_ip, at->mx_port, until);
	}
	site_want(s);
}

/* What is said of the site by DNS or by us: true when a pattern has decided it. */
bool site_judged(struct site *s, struct outcome *o)
{
	static const struct site_place nowhere = {.mx_name = ""};
	struct judgement j;

	judge_local(&j, s, o);
	judge_carry_out(&j, s, &nowhere, NULL);
	*o = j.o;
	return j.settled;
}

/* Nothing is wrong with its hosts, nor with its mail: it waits until a source may be used again. */
static void site_wait_for_source(struct site *s)
{
	msec_t now = loop_wall(s->w->loop), at = sources_next_enabled(site_serving(s));
	msec_t delay = NO_SOURCE_LOOK;
	struct outcome o;

	if (at && at < now + delay)
		delay = at > now ? at - now : 1;
	outcome_local(&o, LOCAL_DISABLED, SITE_ALL_DISABLED);
	site_fail(s, &o, NULL, delay, false);
}

bool site_lacks_source(const struct queue *q)
{
	const struct route *r = q->home->route;
	bool disabled = false;

	if (!r)
		return sources_all_disabled(q->site, IP_V4) || sources_all_disabled(q->site, IP_V6);
	for (uint32_t i = 0; i < r->count; i++) {
		if (sources_has(q->site, r->targets[i].ip.family))
			return false;
		disabled |= sources_all_disabled(q->site, r->targets[i].ip.family);
	}
	return disabled;
}

/* Every target was tried, or cannot be tried. */
void site_out_of_targets(struct site *s, struct site *home)
{
	struct site *by = site_serving(home);
	char *mx = xstrdup(home->last_mx ? home->last_mx : "");
	struct site_place place = {
		.mx_name = mx, .mx_ip = home->last_mx_ip, .source_ip = home->last_source_ip};
	bool tried = home->failures > 0, sources = false, counts = true, cut = s->cut_off;
	msec_t delay;
	struct outcome o;

	for (uint32_t i = 0; i < home->route->count; i++) {
		tried |= home->route->targets[i].failed || home->route->targets[i].skip_until;
		sources |= sources_has(by, home->route->targets[i].ip.family);
	}
	if (!s->ready && !s->connecting && site_lacks_source(home->of)) {
		free(mx);
		site_wait_for_source(s);
		return;
	}
	if (s->ready || s->connecting) { /* others still work on it */
		site_forget_failures(s);
		s->hold_until = loop_now(s->w->loop) + HOLD_TIME;
		free(mx);
		return;
	}
	tried &= home->last.text[0] != '\0';
	if (tried)
		o = home->last;
	else if (!sources)
		outcome_local(&o, LOCAL_NO_SOURCE,
			      "no source address in the family of any mail host");
	else
		outcome_from_loss(&o, PHASE_CONNECT,
				  "no mail host answered within the last minute");
	if (!tried)
		place = (struct site_place){.mx_name = ""};
	s->cut_off = false;
	if (!tried && site_judged(s, &o)) {
		free(mx);
		return;
	}
	delay = retry_site_delay(mode_retry_after(by), s->retry_position);
	if (o.class != OUTCOME_BOUNCED && (cut || (!tried && sources)))
		delay = probe_put_aside(s, delay, &counts);
	site_fail(s, &o, &place, delay, counts);
	free(mx);
}

void site_delivered(struct site *s)
{
	bool was = s->retry_position || s->retry_at || s->since;

	if (!was || site_in_retry(s)) /* what was sent before it was deferred proves nothing */
		return;
	events_add(s->w, &s->events, "delivers again after %u failure%s", s->retry_position,
		   s->retry_position == 1 ? "" : "s");
	s->retry_position = 0;
	s->retry_at = 0;
	s->since = 0;
	s->last.text[0] = '\0';
	site_report(s, false);
	site_publish(s);
}

void site_forget_retry(struct site *s)
{
	s->hold_until = 0;
	if (!s->retry_at && !s->retry_position)
		return;
	s->retry_at = 0;
	s->retry_position = 0;
	s->since = 0;
	site_report(s, false);
}

static void site_retry_now(struct site *s)
{
	struct queue *q;

	s->retry_at = 0;
	s->no_source = false;
	s->hold_until = 0;
	site_forget_failures(s);
	site_report(s, false);
	SITE_EACH_QUEUE(q, s)
	{
		queue_publish(q);
		queue_want_due(q);
	}
}

void site_new_mail(struct site *s)
{
	msec_t now = loop_wall(s->w->loop), at = s->tried + NEW_MAIL_GAP;
	struct queue *q;

	if (!s->set->retry_upon_new_mail || !site_in_retry(s) || s->no_source || at >= s->retry_at)
		return;
	events_add(s->w, &s->events, "the retry was brought forward by new mail");
	s->retry_at = at > now ? at : now;
	site_report(s, false);
	SITE_EACH_QUEUE(q, s)
	{
		queue_publish(q);
		if (post_wake(s->w->post, q->id, s->retry_at))
			q->wake_position = post_position(s->w->post);
	}
}

void site_schedule(struct site *s)
{
	if (s->retry_at == 0)
		return;
	events_add(s->w, &s->events, "the retry was brought forward by an operator");
	site_retry_now(s);
}

void site_has_source(struct site *s)
{
	paces_ask_again(s);
	if (s->no_source && s->retry_at)
		site_retry_now(s);
	else
		site_kick(s);
}

/* --- connections and mail --- */

/* Something has changed: its turn will show what can be done. */
void site_want(struct site *s)
{
	s->stuck = false;
	if (s->parcels)
		slots_want(s);
}

bool site_target_usable(const struct queue *q, const struct route_target *t)
{
	const struct ip *source = trace_queue(q->site) == q ? trace_source(q->site) : NULL;
	usec_t failed =
		q->site->failed_at > q->home->failed_at ? q->site->failed_at : q->home->failed_at;

	if (!sources_has(q->site, t->ip.family) || t->skip_until > loop_now(q->w->loop) ||
	    (source && source->family != t->ip.family))
		return false;
	/* A site whose own retry time has come finds out for itself, unless another one has just done so. */
	return !hosts_is_unreachable(q->w->hosts, &t->ip, t->port, failed);
}

static bool target_usable(const struct route_target *t, void *arg)
{
	return site_target_usable(arg, t);
}

bool site_may_try_more(const struct site *home)
{
	/* An answer that is another one each time ends, too. */
	return home->failures < home->route->count &&
	       home->failures < home->set->mx_connection_attempts;
}

bool site_wants_connection(struct site *s)
{
	if (s->w->stopping || s->stuck || s->unread || s->parcels == 0 || site_in_retry(s) ||
	    worker_is_orphan(s->w))
		return false;
	if (s->slots >= mode_max_smtp_out(s) || warmup_holds(s))
		return false;
	if (trace_wants(s))
		return paces_may_connect(s);
	if (s->connecting > s->ready || s->connecting >= s->parcels)
		return false; /* first see how those do */
	if (s->of && !rollup_is_known(s->of))
		return false;
	if (s->ready > 0 && loop_now(s->w->loop) < s->hold_until)
		return false;
	return paces_may_connect(s);
}

/* Whose turn it is, and where to. NULL: nothing can be done now; a look-up may be under way. */
static struct queue *site_pick(struct site *s, struct route_target **ret)
{
	struct queue *q = s->of;

	if (!q)
		return shared_pick(s, ret);
	if (s->query)
		return NULL;
	if (!s->route || s->route->expires <= loop_now(s->w->loop)) {
		site_resolve(s);
		return NULL;
	}
	*ret = site_may_try_more(s) ? route_next(s->route, target_usable, q) : NULL;
	if (*ret)
		return q;
	site_out_of_targets(s, s);
	return NULL;
}

bool site_connect(struct site *s, bool *ret_everybody)
{
	struct route_target *t;
	struct queue *q;
	bool opened = true;

	*ret_everybody = false;
	for (int i = 0; i < QUEUES_AT_ONCE; i++) {
		q = site_wants_connection(s) ? site_pick(s, &t) : NULL;
		if (!q)
			return opened;
		if (!probe_may_begin(s))
			return false;
		opened = opening_try(q, t, target_usable, ret_everybody);
		if (opened || *ret_everybody || s->of)
			return opened;
		/* A cap of this host: mail for others may go. */
		turn_behind(&s->turn, q);
	}
	return false;
}

bool site_is_over(const struct site *s)
{
	return s->ready + s->connecting > mode_max_smtp_out(s);
}

struct parcel *site_next(struct site *s, struct connection *c)
{
	if (s->parcels == 0 || site_in_retry(s))
		return NULL;
	return s->of ? turn_next(&s->turn) : shared_next(s, c);
}

bool site_has_work(struct site *s, struct connection *c)
{
	return s->of ? s->parcels > 0 : site_next(s, c) != NULL;
}

void site_kick(struct site *s)
{
	struct connection *c;

	s->stuck = false;
	if (s->parcels == 0 || s->w->stopping || worker_is_orphan(s->w) || site_in_retry(s))
		return;
	if (!s->of)
		shared_work(s);
	while (s->of && s->parcels && (c = connection_idle(s)) && connection_work(c))
		;
	if (site_wants_connection(s))
		slots_want(s);
}

void site_answered(struct site *s)
{
	s->lost = 0;
	site_forget_failures(s);
}

bool site_message_lost(struct site *s)
{
	if (++s->lost < SITE_LOST_MAX)
		return false;
	s->lost = 0;
	return true;
}

void site_connection_ready(struct site *s)
{
	site_set_reached(s, true);
	if (s->retry_at && !site_in_retry(s)) {
		s->retry_at = 0;
		site_publish(s);
	}
	if (!s->held_by)
		hold_clear(s);
	site_kick(s);
}

void site_connection_again(struct site *s)
{
	site_want(s);
}
