#include "worker/trace.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/log.h"
#include "common/base/xalloc.h"
#include "common/conf/conf.h"
#include "common/loop/stream.h"
#include "common/shm/limits.h"
#include "common/spool/spool.h"
#include "worker/connection.h"
#include "worker/context.h"
#include "worker/feed.h"
#include "worker/mode.h"
#include "worker/paces.h"
#include "worker/queue.h"
#include "worker/route.h"
#include "worker/site.h"
#include "worker/slots.h"
#include "worker/sources.h"
#include "worker/transaction.h"
#include "worker/transaction_parts.h"
#include "worker/turn.h"
#include "worker/wants.h"

#define TRACE_MAGIC 0x74726163u
#define END_TIME (10 * USEC_PER_SEC)
#define ALIVE_EVERY (5 * USEC_PER_SEC)
#define LOOK_EVERY (200 * USEC_PER_MSEC) /* whether there is mail now */
#define WAIT_SECONDS 60 /* without a connection and without anything to tell */
#define LINE_MAX_SHOWN 1000
#define UNREAD_MAX \
	(4 << 20) /* what the operator has not read yet; more of the message is left out */

struct trace {
	unsigned magic;
	struct worker *w;
	struct site *site;
	struct queue *queue;
	struct connection *c; /* NULL: not yet open */
	struct stream *client;
	struct loop_timer *alive;
	struct ip source; /* IP_NONE: any */
	bool log_data;
	bool done; /* the outcome is known: only the end of the connection is missing */
	bool in_data; /* the message itself is being sent */
	uint64_t data_bytes;
	uint64_t looks;
	usec_t told; /* the last line */
	usec_t patience; /* from there, without a connection */
	struct buf out, in; /* lines that are not complete */
	char held[SHM_QUEUE_TEXT]; /* what was last said to be full */
};

/* --- telling --- */

static void send_line(struct trace *t, json_t *line)
{
	char *text = json_dumps(line, JSON_COMPACT);

	if (!text)
		fatal("out of memory while answering a command");
	stream_write(t->client, text, strlen(text));
	stream_write(t->client, "\n", 1);
	free(text);
	json_decref(line);
}

/* Bytes from the wire as text: what is not ASCII is shown as \xNN, so that it is what it is. */
static json_t *wire_text(struct slice s)
{
	struct buf b = BUF_INIT;
	json_t *text;

	for (size_t i = 0; i < s.n && i < LINE_MAX_SHOWN; i++) {
		unsigned char ch = (unsigned char)s.p[i];

		if (ch >= ' ' && ch < 0x7f)
			buf_add_char(&b, s.p[i]);
		else if (ch == '\t')
			buf_add_char(&b, ' ');
		else
			buf_addf(&b, "\\x%02x", ch);
	}
	if (s.n > LINE_MAX_SHOWN)
		buf_addf(&b, " … (%zu bytes)", s.n);
	text = json_string(buf_cstr(&b));
	buf_done(&b);
	return text;
}

static void tell(struct trace *t, const char *kind, json_t *text, json_t *more)
{
	json_t *o = more ? more : json_object();

	t->told = loop_now(t->w->loop);
	json_object_set_new(o, "at", json_integer((json_int_t)loop_wall(t->w->loop)));
	json_object_set_new(o, "kind", json_string(kind));
	json_object_set_new(o, "text", text ? text : json_string("?"));
	send_line(t, json_pack("{s:o}", "data", o));
}

static void vsay(struct trace *t, const char *kind, json_t *more, const char *fmt, va_list ap)
	ATTR_PRINTF(4, 0);
static void vsay(struct trace *t, const char *kind, json_t *more, const char *fmt, va_list ap)
{
	char *text = NULL;

	if (vasprintf(&text, fmt, ap) < 0)
		fatal("out of memory while answering a command");
	tell(t, kind, wire_text(slice_str(text)), more);
	free(text);
}

static void say(struct trace *t, const char *kind, const char *fmt, ...) ATTR_PRINTF(3, 4);
static void say(struct trace *t, const char *kind, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsay(t, kind, NULL, fmt, ap);
	va_end(ap);
}

static struct trace *of(const struct connection *c)
{
	return c->site->trace && c->site->trace->c == c ? c->site->trace : NULL;
}

void trace_note(const struct connection *c, const char *kind, const char *fmt, ...)
{
	struct trace *t = of(c);
	va_list ap;

	if (!t)
		return;
	va_start(ap, fmt);
	vsay(t, kind, NULL, fmt, ap);
	va_end(ap);
}

/* --- the end --- */

static void let_go(struct trace *t)
{
	if (t->c && t->c->stream)
		stream_tap(t->c->stream, NULL, NULL);
	t->c = NULL;
	buf_clear(&t->out);
	buf_clear(&t->in);
	t->in_data = false;
}

static void trace_free(struct trace *t)
{
	let_go(t);
	t->site->trace = NULL;
	paces_ask_again(t->site); /* not only from the address that was asked for */
	loop_timer_free(t->alive);
	buf_done(&t->out);
	buf_done(&t->in);
	t->magic = 0;
	loop_defer_free(t->w->loop, t);
}

/* error NULL: it has told all. */
static void trace_end(struct trace *t, const char *error)
{
	struct stream *client = t->client;

	if (error)
		send_line(t, json_pack("{s:s, s:s}", "status", "error", "message", error));
	else
		send_line(t, json_pack("{s:s}", "status", "success"));
	trace_free(t);
	stream_close_after_flush(client, END_TIME);
}

static void on_client(struct stream *s, enum stream_event what, void *arg)
{
	struct trace *t;

	CAST_MAGIC(t, arg, TRACE_MAGIC);
	if (what == STREAM_DATA || what == STREAM_DRAINED) {
		stream_consume(s, stream_input(s).n);
		return;
	}
	trace_free(t); /* the operator has left */
	stream_free(s);
}

/* Something waits that can go, if need be before its time. */
static bool take_ahead(struct trace *t)
{
	if (t->queue->parcels || queue_is_blocked(t->queue))
		return t->queue->parcels > 0;
	if (!feed_take_ahead(t->w->feed, t->queue))
		return false;
	say(t, "site", "no message is due: the one that would be first is taken now");
	return true;
}

/* A rate or a warm-up that lets nothing through now. */
static void tell_hold(struct trace *t)
{
	char text[SHM_QUEUE_TEXT] = "";

	queue_own_hold(t->queue, text);
	if (text[0])
		trace_held(t->site, text);
}

static void on_alive(void *arg)
{
	struct trace *t;

	CAST_MAGIC(t, arg, TRACE_MAGIC);
	if (++t->looks % (ALIVE_EVERY / LOOK_EVERY) == 0)
		send_line(t, json_pack("{s:{}}", "progress"));
	loop_timer_set(t->alive, LOOK_EVERY);
	tell_hold(t);
	if (t->done || t->c)
		return;
	if (loop_now(t->w->loop) - t->told >= t->patience) {
		trace_end(t, "nothing has moved: sluice show queue says what it waits for, "
			     "--wait waits longer");
		return;
	}
	(void)take_ahead(t);
	site_kick(t->site);
}

/* --- the dialogue --- */

static void dialogue_line(struct trace *t, bool out, struct slice line)
{
	if (line.n && line.p[line.n - 1] == '\r')
		line.n--;
	if (!out || !t->in_data) {
		tell(t, out ? "sent" : "received", wire_text(line), NULL);
		return;
	}
	if (slice_eq_str(line, ".")) {
		if (!t->log_data)
			say(t, "data", "%llu bytes of the message (--log-data shows them)",
			    (unsigned long long)t->data_bytes);
		t->in_data = false;
		tell(t, "sent", wire_text(line), NULL);
		return;
	}
	t->data_bytes += line.n + 2;
	if (t->log_data && stream_output_pending(t->client) < UNREAD_MAX)
		tell(t, "data", wire_text(line), NULL);
}

static void on_bytes(void *arg, bool out, struct slice bytes)
{
	struct trace *t;
	struct buf *b;
	ptrdiff_t lf;

	CAST_MAGIC(t, arg, TRACE_MAGIC);
	b = out ? &t->out : &t->in;
	while ((lf = slice_chr(bytes, '\n')) >= 0) {
		buf_add(b, bytes.p, (size_t)lf);
		dialogue_line(t, out, buf_slice(b));
		buf_clear(b);
		bytes = slice_from(bytes, (size_t)lf + 1);
	}
	buf_add(b, bytes.p, bytes.n);
}

void trace_reply_code(struct connection *c, unsigned code)
{
	struct trace *t = of(c);

	if (!t || code != 354)
		return;
	t->in_data = true;
	t->data_bytes = 0;
}

/* --- what is decided --- */

void trace_route(struct site *s, const struct route *r)
{
	struct trace *t = s->trace;
	json_t *hosts, *more;
	char ip[IP_TEXT_MAX];
	struct buf b = BUF_INIT;

	if (!t)
		return;
	hosts = json_array();
	for (uint32_t i = 0; i < r->count; i++) {
		const struct route_target *x = &r->targets[i];
		unsigned preference = x->preference & 0xffff;

		json_array_append_new(hosts,
				      json_pack("{s:i, s:s, s:s}", "preference", (int)preference,
						"host", x->host, "address", ip_text(&x->ip, ip)));
		buf_addf(&b, "%s%u %s [%s]", b.n ? ", " : "", preference, x->host, ip);
	}
	more = json_pack("{s:s, s:s, s:b, s:o}", "status", dns_status_name(r->status), "resolver",
			 r->resolver ? r->resolver : "", "implicit_mx", r->implicit_mx, "hosts",
			 hosts);
	if (r->count == 0)
		buf_addf(&b, "%s: %s", dns_status_name(r->status), r->text ? r->text : "");
	else if (r->implicit_mx)
		buf_add_str(&b, " (no MX: the domain itself)");
	tell(t, "dns", wire_text(buf_slice(&b)), more);
	buf_done(&b);
}

static void add_cap(const struct limit_want *want, json_t *rows, struct buf *b)
{
	char name[LIMIT_NAME_MAX];
	const char *kind = want->kind < LIMIT_KIND_COUNT ? limit_kind_name(want->kind) : "queue";

	slice_copy(want->name, name, sizeof(name));
	json_array_append_new(rows, json_pack("{s:s, s:s, s:i}", "kind", kind, "name", name, "cap",
					      (int)want->cap));
	buf_addf(b, "%s%s%s%s %u", b->n ? ", " : "", kind, name[0] ? " " : "", name, want->cap);
}

void trace_caps(struct site *s, const struct route_target *to, const struct ip *source,
		const struct wants *x)
{
	struct trace *t = s->trace;
	char ip[IP_TEXT_MAX], from[IP_TEXT_MAX];
	struct buf b = BUF_INIT;
	json_t *rows;

	if (!t || t->c)
		return;
	rows = json_array();
	add_cap(&(struct limit_want){.kind = LIMIT_KIND_COUNT,
				     .name = slice_str(s->label),
				     .cap = (uint32_t)mode_max_smtp_out(s)},
		rows, &b);
	for (size_t i = 0; i < x->n; i++)
		add_cap(&x->v[i], rows, &b);
	buf_addf(&b, ": a place in each for [%s] from %s", ip_text(&to->ip, ip),
		 source->family == IP_NONE ? "any address" : ip_text(source, from));
	tell(t, "limits", wire_text(buf_slice(&b)),
	     json_pack("{s:b, s:o}", "taken", 1, "limits", rows));
	t->held[0] = '\0';
	buf_done(&b);
}

void trace_held(struct site *s, const char *text)
{
	struct trace *t = s->trace;
	size_t what = strcspn(text, ":"); /* behind it a time, that may move */

	if (!t || t->done || (strncmp(t->held, text, what) == 0 && t->held[what] == '\0'))
		return;
	tell(t, "limits", wire_text(slice_str(text)), json_pack("{s:b}", "taken", 0));
	slice_copy(slice_of(text, what), t->held, sizeof(t->held));
}

bool trace_wants(const struct site *s)
{
	return s->trace && !s->trace->c && !s->trace->done && s->trace->queue->parcels;
}

const struct queue *trace_queue(const struct site *s)
{
	return s->trace ? s->trace->queue : NULL;
}

struct site *trace_place(struct site *s)
{
	struct site *by = site_serving(s);

	return s->of && by != s && trace_queue(by) == s->of ? by : s;
}

const struct ip *trace_source(const struct site *s)
{
	return trace_wants(s) && s->trace->source.family != IP_NONE ? &s->trace->source : NULL;
}

struct parcel *trace_next(struct connection *c)
{
	struct site *s = c->site;
	struct trace *t = s->trace;

	if (!t || t->done)
		return t && t->c == c ? NULL : site_next(s, c);
	if (t->c == c)
		return site_in_retry(s) || t->queue->paused ? NULL : queue_first(t->queue);
	/* the last one is left for the connection that is to be traced */
	return t->queue->parcels == 1 && s->parcels == 1 ? NULL : site_next(s, c);
}

void trace_connection(struct connection *c)
{
	struct trace *t = c->site->trace;
	char ip[IP_TEXT_MAX], from[IP_TEXT_MAX];

	if (!trace_wants(c->site))
		return;
	t->c = c;
	stream_tap(c->stream, on_bytes, t);
	ip_text(&c->ip, ip);
	ip_text(&c->source_ip, from);
	tell(t, "connect",
	     json_sprintf("%s [%s] port %u from %s as %s", c->host, ip, c->port,
			  from[0] ? from : "any address", c->helo),
	     json_pack("{s:s, s:s, s:i, s:s, s:s}", "host", c->host, "address", ip, "port",
		       (int)c->port, "source", from, "helo", c->helo));
}

void trace_connected(struct connection *c)
{
	char from[IP_TEXT_MAX];

	trace_note(c, "connected", "from %s", ip_text(&c->source_ip, from));
}

void trace_tls(struct connection *c)
{
	struct trace *t = of(c);

	if (!t)
		return;
	tell(t, "tls",
	     json_sprintf("%s %s; the certificate is not verified", stream_tls_protocol(c->stream),
			  stream_tls_cipher(c->stream)),
	     json_pack("{s:s, s:s, s:b}", "protocol", stream_tls_protocol(c->stream), "cipher",
		       stream_tls_cipher(c->stream), "verified", 0));
}

void trace_begun(struct transaction *x)
{
	struct trace *t = of(x->c);

	if (!t)
		return;
	tell(t, "message",
	     json_sprintf("%016llx, %llu bytes, %u recipient%s, %s", (unsigned long long)x->msgid,
			  (unsigned long long)x->env.message.size, x->count,
			  x->count == 1 ? "" : "s",
			  x->pipelined ? "with PIPELINING" : "without PIPELINING"),
	     json_pack("{s:I, s:I, s:i}", "msgid", (json_int_t)x->msgid, "bytes",
		       (json_int_t)x->env.message.size, "recipients", (int)x->count));
}

static const char *class_name(enum outcome_class class)
{
	switch (class) {
	case OUTCOME_DELIVERED:
		return "delivered";
	case OUTCOME_BOUNCED:
		return "bounced";
	case OUTCOME_TRANSIENT:
		return "transient";
	}
	return "unknown";
}

static void tell_outcome(struct trace *t, const struct outcome *o, struct item_key key)
{
	struct spool_recipient row = {.address = slice_of("", 0)};
	struct spool_read *r;
	json_t *rcpt = NULL;
	struct buf b = BUF_INIT;

	if (spool_read_begin(t->w->spool, &r) == 0) {
		if (spool_recipient_get(r, key.msgid, (uint32_t)key.rcpt, &row) < 0)
			row.address = slice_of("", 0);
		rcpt = wire_text(row.address);
		buf_addf(&b, "%.*s %s: %s", SLICE_ARG(row.address), class_name(o->class), o->text);
		spool_read_end(r);
	}
	tell(t, "outcome", wire_text(buf_slice(&b)),
	     json_pack("{s:o, s:s, s:i}", "rcpt", rcpt ? rcpt : json_string(""), "class",
		       class_name(o->class), "code", (int)o->code));
	buf_done(&b);
}

void trace_outcomes(const struct transaction *x)
{
	struct trace *t = of(x->c);

	if (!t)
		return;
	for (uint32_t i = 0; i < x->count; i++) {
		const struct txn_rcpt *r = &x->rcpts[i];

		if (r->state != RCPT_DECIDED)
			continue;
		tell_outcome(t, r->outcome ? r->outcome : &x->message, r->e.item->key);
		t->done = true;
	}
	if (t->done)
		x->c->closing = true;
}

void trace_failed(struct connection *c, const char *why)
{
	struct trace *t = of(c);

	if (!t)
		return;
	say(t, "failed", "%s", why);
	let_go(t);
	if (t->done)
		trace_end(t, NULL);
}

void trace_closed(struct connection *c)
{
	struct trace *t = of(c);

	if (!t)
		return;
	say(t, "closed", "after %u message%s", c->messages, c->messages == 1 ? "" : "s");
	t->c = NULL;
	if (t->done)
		trace_end(t, NULL);
	else
		let_go(t);
}

void trace_site_failed(struct site *s, const struct outcome *o, msec_t until)
{
	struct trace *t = s->trace;
	char when[CLOCK_TEXT_MAX];

	if (!t)
		return;
	clock_iso(until, when);
	if (o->class == OUTCOME_BOUNCED)
		say(t, "outcome", "what waits bounces: %s", o->text);
	else
		say(t, "outcome", "the site waits until %s: %s", when, o->text);
	t->done = true;
	if (!t->c)
		trace_end(t, NULL);
}

void trace_queue_gone(struct queue *q)
{
	struct trace *t = q->site->trace;

	if (t && t->queue == q)
		trace_end(t, t->done ? NULL : "the queue has no mail any more, or has moved");
}

/* --- beginning --- */

static const char *why_not(const struct worker *w, const struct queue *q, const json_t *args,
			   struct ip *ret_source)
{
	const char *source = json_string_value(json_object_get(args, "source_ip"));
	struct source named;
	const struct shm_queue *live = q ? shm_queue_find(w->shm, q->id) : NULL;

	*ret_source = (struct ip){.family = IP_NONE};
	if (!q)
		return "there is no such queue: see show queues";
	if (w->stopping || worker_is_orphan(w))
		return "the virtual MTA of this queue delivers nothing now";
	if (q->paused)
		return "the queue is paused: sluice resume queue";
	if (q->site->trace)
		return "a delivery of this site is being traced already";
	if (!live || atomic_load(&live->recipients) == 0)
		return "there is no mail in this queue";
	if (source && *source && !ip_parse(slice_str(source), ret_source))
		return "--source-ip is not an IP address";
	if (ret_source->family != IP_NONE && !sources_named(q->site, ret_source, &named))
		return "the virtual MTA has no such smtp-source-host, or it is disabled for the "
		       "site";
	return NULL;
}

/* Room for one connection more. */
static void make_room(struct site *s)
{
	struct connection *c, *spare = connection_idle(s);

	if (s->slots < mode_max_smtp_out(s))
		return;
	TAILQ_FOREACH(c, &s->connections, link)
		if (!spare && !c->closing)
			spare = c;
	if (spare)
		connection_retire(spare);
}

static void begin(struct trace *t)
{
	struct site *s = t->site;
	char when[CLOCK_TEXT_MAX];

	say(t, "site", "%s, %s mode, %u of at most %llu connections, %u message%s ready", s->label,
	    mode_is_backoff(s) ? "back-off" : "normal", s->slots,
	    (unsigned long long)mode_max_smtp_out(s), t->queue->parcels,
	    t->queue->parcels == 1 ? "" : "s");
	if (site_in_retry(s)) {
		clock_iso(s->retry_at, when);
		say(t, "site", "waited for a retry until %s: it is brought forward", when);
		site_schedule(s);
	}
	if (!take_ahead(t))
		say(t, "site", "all messages are under way: waiting for the next one");
	if (s->route)
		s->route->expires = 0; /* so that the answer of DNS is seen */
	make_room(s);
	site_kick(s);
	loop_timer_set(t->alive, LOOK_EVERY);
}

void trace_answer(struct worker *w, struct queue *q, int fd, const json_t *args)
{
	struct trace *t = xcalloc(1, sizeof(*t));
	const json_t *wait = json_object_get(args, "wait");
	struct ip source;
	const char *error = why_not(w, q, args, &source);

	t->magic = TRACE_MAGIC;
	t->w = w;
	t->client = stream_accepted(w->loop, fd, on_client, t);
	if (error) {
		send_line(t, json_pack("{s:s, s:s}", "status", "error", "message", error));
		stream_close_after_flush(t->client, END_TIME);
		free(t);
		return;
	}
	t->queue = q;
	t->site = q->site;
	t->source = source;
	t->patience = (wait ? (usec_t)json_integer_value(wait) : WAIT_SECONDS) * USEC_PER_SEC;
	t->log_data = json_is_true(json_object_get(args, "log_data"));
	t->alive = loop_timer_new(w->loop, on_alive, t);
	t->site->trace = t;
	begin(t);
}
