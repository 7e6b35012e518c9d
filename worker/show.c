#include "worker/show.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>

#include "common/base/log.h"
#include "common/base/xalloc.h"
#include "common/conf/conf.h"
#include "common/loop/stream.h"
#include "common/shm/limits.h"
#include "common/spool/spool.h"
#include "worker/connection.h"
#include "worker/context.h"
#include "worker/events.h"
#include "worker/hosts.h"
#include "worker/mode.h"
#include "worker/tempo.h"
#include "worker/queue.h"
#include "worker/reroute.h"
#include "worker/retry.h"
#include "worker/shared.h"
#include "worker/site.h"
#include "worker/slots.h"
#include "worker/sources.h"
#include "worker/wants.h"
#include "worker/trace.h"
#include "worker/warmup.h"

#define ANSWER_TIME (10 * USEC_PER_SEC)
#define LIMITS_OF 64 /* queues of a provider's site, which have the same hosts as a rule */
#define DUE_ROWS 100 /* deferred recipients that are looked at for when the first one expires */

static void on_stream(struct stream *s, enum stream_event what, void *arg)
{
	/* Input is off and the answer is written at the very end: nothing comes here. */
	(void)s;
	(void)what;
	(void)arg;
}

static void write_line(struct stream *s, json_t *line)
{
	char *text = json_dumps(line, JSON_COMPACT);

	if (!text)
		fatal("out of memory while answering a command");
	stream_write(s, text, strlen(text));
	stream_write(s, "\n", 1);
	free(text);
	json_decref(line);
}

/* Texts from the wire were made valid UTF-8 by the reply parser; others are our own. */
static json_t *text_or_empty(const char *s)
{
	json_t *t = json_string(s ? s : "");

	return t ? t : json_string("?");
}

static json_t *time_or_null(msec_t t)
{
	return t == 0 || t >= UINT64_MAX - 1 ? json_null() : json_integer((json_int_t)t);
}

static const char *target_state(const struct site *s, const struct route_target *t)
{
	if (!sources_has(s, t->ip.family))
		return warmup_holds(s) ? "warm-up" : "no source address";
	if (hosts_is_unreachable(s->w->hosts, &t->ip, t->port, 0))
		return "unreachable";
	if (t->skip_until > loop_now(s->w->loop))
		return "skipped";
	if (t->failed)
		return "failed";
	return hosts_has_no_tls(s->w->hosts, &t->ip, t->port) ? "TLS failed" : "ok";
}

static json_t *show_mx(const struct queue *q)
{
	const struct route *route = q->home->route;
	json_t *rows = json_array();
	char ip[IP_TEXT_MAX];

	for (uint32_t i = 0; route && i < route->count; i++) {
		const struct route_target *t = &route->targets[i];

		json_array_append_new(rows, json_pack("{s:i, s:o, s:s, s:s}", "preference",
						      (int)(t->preference & 0xffff), "host",
						      text_or_empty(t->host), "address",
						      ip_text(&t->ip, ip), "state",
						      target_state(q->site, t)));
	}
	return rows;
}

static json_t *show_replies(const struct site *s)
{
	json_t *rows = json_array();

	for (uint32_t i = 0; i < s->reply_count; i++)
		json_array_append_new(rows, json_pack("{s:o, s:I, s:o, s:o}", "text",
						      text_or_empty(s->replies[i].text), "count",
						      (json_int_t)s->replies[i].count, "last",
						      time_or_null(s->replies[i].last), "pattern",
						      text_or_empty(s->replies[i].pattern)));
	return rows;
}

static json_t *show_connections(const struct site *s)
{
	json_t *rows = json_array();
	const struct connection *c;
	char ip[IP_TEXT_MAX];

	TAILQ_FOREACH(c, &s->connections, link)
		json_array_append_new(
			rows, json_pack("{s:o, s:s, s:s, s:I}", "host", text_or_empty(c->host),
					"address", ip_text(&c->ip, ip), "doing",
					connection_doing(c), "messages", (json_int_t)c->messages));
	return rows;
}

/* --- limits --- */

struct shown_limits {
	struct limit_info *v;
	size_t n;
};

static struct limit_info *find_limit(const struct shown_limits *l, enum limit_kind kind,
				     struct slice name)
{
	for (size_t i = 0; i < l->n; i++)
		if (l->v[i].kind == kind && slice_eq_str(name, l->v[i].name))
			return &l->v[i];
	return NULL;
}

static void add_want(const struct limit_want *want, void *arg)
{
	struct shown_limits *l = arg;
	struct limit_info *x;

	if (find_limit(l, want->kind, want->name))
		return;
	l->v = xreallocarray(l->v, l->n + 1, sizeof(*l->v));
	x = &l->v[l->n++];
	*x = (struct limit_info){.kind = want->kind, .cap = want->cap};
	slice_copy(want->name, x->name, sizeof(x->name));
}

/* What is not in the table is not in use; the configured cap is what counts from the next connection on. */
static void add_use(const struct worker *w, const struct shown_limits *shown)
{
	struct limit_info l[64], *x;
	size_t pos = 0, n;

	while ((n = limits_list(w->shm, &pos, l, ARRAY_SIZE(l))))
		for (size_t i = 0; i < n; i++) {
			x = find_limit(shown, l[i].kind, slice_str(l[i].name));
			if (!x)
				continue;
			x->in_use = l[i].in_use;
			x->waiting = l[i].waiting;
		}
}

static json_t *limit_row(const char *kind, const char *name, uint64_t in_use, uint64_t cap,
			 uint64_t waiting)
{
	return json_pack("{s:s, s:o, s:I, s:I, s:I}", "kind", kind, "name", text_or_empty(name),
			 "in_use", (json_int_t)in_use, "cap", (json_int_t)cap, "waiting",
			 (json_int_t)waiting);
}

/* q: of that site, or NULL: those of the site's queues that are in memory. */
static json_t *show_limits(const struct site *s, struct queue *q)
{
	struct shown_limits l = {.n = 0};
	json_t *rows = json_array();
	unsigned looked_at = 0;

	json_array_append_new(rows,
			      limit_row("queue", s->label, s->slots, mode_max_smtp_out(s), 0));
	if (q)
		wants_of_queue(q, add_want, &l);
	else
		TAILQ_FOREACH(q, &s->queues, in_site)
			if (looked_at++ < LIMITS_OF)
				wants_of_queue(q, add_want, &l);
	add_use(s->w, &l);
	for (size_t i = 0; i < l.n; i++)
		json_array_append_new(rows, limit_row(limit_kind_name(l.v[i].kind), l.v[i].name,
						      l.v[i].in_use, l.v[i].cap, l.v[i].waiting));
	free(l.v);
	return rows;
}

/* --- mode and sources --- */

static json_t *rate_or_null(uint64_t hourly)
{
	return hourly == BACKOFF_NO_LIMIT || hourly == 0 ? json_null()
							 : json_real((double)hourly / 60);
}

/* How each source goes: rates are recipients a minute. */
static json_t *show_tempos(const struct site *s)
{
	json_t *rows = json_array();
	struct tempo_info p;
	char ip[IP_TEXT_MAX];

	for (size_t i = 0; tempo_at(s, i, &p); i++)
		json_array_append_new(rows,
				      json_pack("{s:s, s:I, s:o, s:o, s:b}", "source",
						p.ip.family == IP_NONE ? "" : ip_text(&p.ip, ip),
						"accepted", (json_int_t)p.accepted, "rate",
						rate_or_null(p.rate), "good", rate_or_null(p.good),
						"disabled", sources_is_disabled(s, &p.ip)));
	return rows;
}

static json_t *show_changes(const struct site *s)
{
	json_t *rows = json_array();
	struct site_change c;

	for (size_t i = 0; mode_change_at(s, i, &c); i++)
		json_array_append_new(rows,
				      json_pack("{s:o, s:s, s:o}", "at", time_or_null(c.at), "mode",
						c.mode == SITE_BACKOFF ? "backoff" : "normal",
						"why", text_or_empty(c.why.p)));
	return rows;
}

static void add_mode(json_t *o, const struct site *s)
{
	bool retry = site_in_retry(s);
	msec_t since, until;
	const char *why;

	mode_describe(s, &since, &until, &why);
	json_object_set_new(o, "mode", json_string(mode_is_backoff(s) ? "backoff" : "normal"));
	json_object_set_new(o, "mode_since", time_or_null(since));
	json_object_set_new(o, "mode_until", time_or_null(until));
	json_object_set_new(o, "mode_reason", text_or_empty(why));
	json_object_set_new(o, "since", time_or_null(s->since));
	json_object_set_new(o, "reason", retry ? text_or_empty(s->last.text) : json_string(""));
	json_object_set_new(o, "sources", show_tempos(s));
	json_object_set_new(o, "mode_changes", show_changes(s));
}

static json_t *show_events(const struct site *s)
{
	json_t *rows = json_array();

	for (size_t i = 0; i < events_count(s->events); i++) {
		const struct event *e = events_at(s->events, i);

		json_array_append_new(rows, json_pack("{s:o, s:o, s:I}", "at", time_or_null(e->at),
						      "text", text_or_empty(e->text), "count",
						      (json_int_t)e->count));
	}
	return rows;
}

/* --- times --- */

static msec_t expiry_of(const struct queue *q, struct spool_read *r, uint64_t msgid)
{
	struct spool_message m;

	return spool_message_get(r, msgid, &m) < 0 ? UINT64_MAX : retry_expiry(q->set, m.received);
}

static msec_t sooner(msec_t a, msec_t b)
{
	return a < b ? a : b;
}

/* Lists are in the order of arrival: the first parcel of each is the oldest. */
static msec_t waiting_expiry(const struct queue *q, struct spool_read *r)
{
	msec_t first = UINT64_MAX;
	const struct lane *l;

	for (int c = 0; c < SPOOL_CLASSES; c++)
		TAILQ_FOREACH(l, &q->lanes[c], link)
			first = sooner(first, expiry_of(q, r, TAILQ_FIRST(&l->parcels)->key.msgid));
	return first;
}

/* Of deferred recipients; of more than a few the sweep knows it. */
static msec_t deferred_expiry(const struct queue *q, struct spool_read *r, msec_t *ret_first_due)
{
	const struct shm_queue *live = shm_queue_find(q->w->shm, q->id);
	struct spool_due_pos pos = {.started = false};
	struct spool_due_row rows[DUE_ROWS];
	size_t n = spool_due_walk(r, q->id, &pos, rows, DUE_ROWS);
	msec_t first = live ? atomic_load(&live->next_expiry) : 0;

	*ret_first_due = n ? spool_due_first(r, q->id) : 0;
	if (n == DUE_ROWS)
		return first ? first : UINT64_MAX;
	first = UINT64_MAX;
	for (size_t i = 0; i < n; i++)
		first = sooner(first, expiry_of(q, r, rows[i].msgid));
	return first;
}

/* When mail of the queue goes or ends without further events: null when it may go now. */
static void add_times(json_t *o, const struct queue *q, msec_t *ret_next_retry)
{
	msec_t due = 0, expiry = UINT64_MAX, now = loop_wall(q->w->loop);
	struct spool_read *r;

	if (spool_read_begin(q->w->spool, &r) == 0) {
		expiry = sooner(deferred_expiry(q, r, &due), waiting_expiry(q, r));
		spool_read_end(r);
	}
	if (site_blocked_until(q->site))
		due = site_blocked_until(q->site);
	*ret_next_retry = due > now ? due : 0;
	json_object_set_new(o, "next_retry", time_or_null(*ret_next_retry));
	json_object_set_new(o, "next_expiry", time_or_null(expiry));
}

/* next_retry: 0 when mail may go now. */
static json_t *waiting_for(const struct queue *q, msec_t next_retry)
{
	char text[SHM_QUEUE_TEXT] = "", when[CLOCK_TEXT_MAX];
	const struct shm_queue *live = shm_queue_find(q->w->shm, q->id);

	if (q->paused)
		return json_string("paused");
	if ((q->waiting || warmup_until(q->site)) && !site_in_retry(q->site)) {
		queue_own_hold(q, text);
		if (!text[0] && q->limited && live)
			shm_queue_get_text(live, text);
		return text_or_empty(text);
	}
	if (!next_retry)
		return json_string("");
	clock_iso(next_retry, when);
	return json_sprintf("retry at %s", when);
}

static void add_live(json_t *o, const struct queue *q)
{
	const struct shm_queue *live = shm_queue_find(q->w->shm, q->id);

	json_object_set_new(o, "recipients",
			    json_integer(live ? (json_int_t)atomic_load(&live->recipients) : 0));
	json_object_set_new(o, "bytes",
			    json_integer(live ? (json_int_t)atomic_load(&live->bytes) : 0));
}

/* Of the site, or else the last reply that was not as wished. */
static const char *last_error(const struct site *s)
{
	const struct site_reply *last = NULL;

	for (uint32_t i = 0; i < s->reply_count; i++)
		if (!last || s->replies[i].last > last->last)
			last = &s->replies[i];
	return s->last.text[0] || !last ? s->last.text : last->text;
}

static void add_lists(json_t *o, const struct site *s, struct queue *q)
{
	json_object_set_new(o, "limits", show_limits(s, q));
	json_object_set_new(o, "errors", show_replies(s));
	json_object_set_new(o, "events", show_events(s));
	json_object_set_new(o, "connection_list", show_connections(s));
}

static json_t *describe(struct queue *q)
{
	struct site *s = q->site;
	msec_t next_retry;
	json_t *o = json_object();

	json_object_set_new(o, "queue", text_or_empty(q->name));
	add_live(o, q);
	json_object_set_new(o, "connections", json_integer((json_int_t)s->slots));
	json_object_set_new(o, "in_hand", json_integer((json_int_t)q->items));
	json_object_set_new(o, "paused", json_boolean(q->paused));
	add_mode(o, s);
	add_times(o, q, &next_retry);
	json_object_set_new(o, "last_error", text_or_empty(last_error(s)));
	json_object_set_new(o, "waiting_for", waiting_for(q, next_retry));
	json_object_set_new(o, "site", text_or_empty(s->name));
	json_object_set_new(o, "rerouted_to", text_or_empty(reroute_target(q)));
	json_object_set_new(o, "rerouted_by", text_or_empty(reroute_why(q)));
	json_object_set_new(o, "retry_position", json_integer((json_int_t)s->retry_position));
	json_object_set_new(o, "mx", show_mx(q));
	add_lists(o, s, q);
	return o;
}

/* --- a provider's site --- */

static json_t *site_waiting_for(const struct site *s, msec_t until)
{
	char text[SHM_QUEUE_TEXT] = "", when[CLOCK_TEXT_MAX];
	const struct queue *q;

	if (until && !warmup_until(s)) {
		clock_iso(until, when);
		return json_sprintf("retry at %s", when);
	}
	site_own_hold(s, text);
	TAILQ_FOREACH(q, &s->queues, in_site) {
		const struct shm_queue *live = shm_queue_find(s->w->shm, q->id);

		if (text[0])
			break;
		if (q->limited && live)
			shm_queue_get_text(live, text);
	}
	return text_or_empty(s->parcels || warmup_until(s) ? text : "");
}

/* How much mail there is, the spooler knows: it can look at all its queues. */
static json_t *describe_site(const struct site *s)
{
	msec_t until = site_blocked_until(s);
	const struct queue *q;
	json_int_t items = 0;
	json_t *o = json_object();

	TAILQ_FOREACH(q, &s->queues, in_site)
		items += q->items;
	json_object_set_new(o, "queue", text_or_empty(s->label));
	json_object_set_new(o, "site", text_or_empty(s->name));
	json_object_set_new(o, "provider", text_or_empty(s->provider->name));
	json_object_set_new(o, "connections", json_integer((json_int_t)s->slots));
	json_object_set_new(o, "in_hand", json_integer(items));
	add_mode(o, s);
	json_object_set_new(o, "next_retry", time_or_null(until));
	json_object_set_new(o, "last_error", text_or_empty(last_error(s)));
	json_object_set_new(o, "waiting_for", site_waiting_for(s, until));
	json_object_set_new(o, "retry_position", json_integer((json_int_t)s->retry_position));
	add_lists(o, s, NULL);
	return o;
}

/* Of "NAME.rollup/VMTA", loaded if need be, so that its stored state shows. NULL: it is no such name. */
static struct site *find_site(struct worker *w, const char *name)
{
	const char *slash = strrchr(name, '/');
	const struct conf_provider *p;
	struct slice site;

	if (!slash || worker_is_orphan(w) || !slice_ieq_str(slice_str(slash + 1), w->vmta_name))
		return NULL;
	site = slice_of(name, (size_t)(slash - name));
	p = slice_iends(site, ".rollup") ? conf_provider_find(w->conf, site) : NULL;
	return p ? shared_get(w, NULL, p) : NULL;
}

/* By its name; a queue that is not in memory is loaded, so that its stored state shows. */
static struct queue *find(struct worker *w, const char *name)
{
	const char *slash = strrchr(name, '/');
	struct queue *q = NULL;
	struct spool_read *r;
	char *domain;
	uint32_t id;

	if (!slash || !w->vmta_id || spool_read_begin(w->spool, &r) < 0)
		return NULL;
	domain = slice_dup_lower(slice_of(name, (size_t)(slash - name)));
	if (slice_ieq_str(slice_str(slash + 1), w->vmta_name) &&
	    spool_queue_find(r, w->vmta_id, slice_str(domain), &id) == 0)
		q = queue_get(w, r, id);
	spool_read_end(r);
	free(domain);
	return q;
}

static void answer(struct worker *w, struct stream *s, const json_t *request)
{
	const char *command = json_string_value(json_object_get(request, "command"));
	const json_t *args = json_object_get(request, "args");
	const char *name = json_string_value(json_object_get(args, "queue"));
	struct site *site;
	struct queue *q;

	if (!command || strcmp(command, "show queue") != 0 || !name) {
		write_line(s, json_pack("{s:s, s:s}", "status", "error", "message",
					"name a queue: show queue DOMAIN/VMTA"));
		return;
	}
	site = find_site(w, name);
	q = site ? NULL : find(w, name);
	if (!q && !site) {
		write_line(s, json_pack("{s:s, s:s}", "status", "error", "message",
					"there is no such queue: see show queues"));
		return;
	}
	if (site && site->unread) {
		write_line(s, json_pack("{s:s, s:s}", "status", "error", "message",
					"the spool cannot be read now: try again in a moment"));
		return;
	}
	write_line(s, json_pack("{s:o}", "data", q ? describe(q) : describe_site(site)));
	write_line(s, json_pack("{s:s}", "status", "success"));
}

static bool is_trace(struct worker *w, int fd, const json_t *request)
{
	const char *command = json_string_value(json_object_get(request, "command"));
	const json_t *args = json_object_get(request, "args");
	const char *name = json_string_value(json_object_get(args, "queue"));

	if (!command || strcmp(command, "trace") != 0)
		return false;
	trace_answer(w, name ? find(w, name) : NULL, fd, args);
	return true;
}

void show_answer(struct worker *w, int fd, struct slice line)
{
	json_t *request = json_loadb(line.p, line.n, 0, NULL);
	struct stream *s;

	if (is_trace(w, fd, request)) {
		json_decref(request);
		return;
	}
	s = stream_accepted(w->loop, fd, on_stream, NULL);
	stream_pause_input(s, true);
	answer(w, s, request);
	json_decref(request);
	stream_close_after_flush(s, ANSWER_TIME);
}
