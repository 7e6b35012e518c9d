#include "worker/connection.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/log.h"
#include "common/base/xalloc.h"
#include "common/conf/conf.h"
#include "worker/context.h"
#include "worker/events.h"
#include "worker/hosts.h"
#include "worker/paces.h"
#include "worker/judge.h"
#include "worker/probe.h"
#include "worker/shared.h"
#include "worker/site.h"
#include "worker/slots.h"
#include "worker/sources.h"
#include "worker/trace.h"
#include "worker/transaction.h"
#include "worker/warmup.h"

#define QUIT_TIME (2 * USEC_PER_SEC)
#define ABORT_TIME (200 * USEC_PER_MSEC)
#define UNREACHABLE_TIME (60 * USEC_PER_SEC)
#define CUT_OFF_TIME (20 * USEC_PER_SEC) /* of those that were cut off */
/* Even without connection-idle-timeout mail of the next commit finds the connection. */
#define IDLE_LEAST (100 * USEC_PER_MSEC)
/* How often an idle one looks whether it has to go; when somebody begins to wait it is asked at once. */
#define IDLE_LOOK (20 * USEC_PER_MSEC)
/* … the longer it has been idle, the more rarely */
#define IDLE_LOOK_MOST (500 * USEC_PER_MSEC)

static const struct {
	const char *name, *doing;
	enum outcome_phase phase;
	size_t timeout; /* offset in struct conf_domain */
} steps[STEP_COUNT] = {
#define STEP_ROW(name, doing, phase, timeout) \
	[STEP_##name] = {#name, doing, phase, offsetof(struct conf_domain, timeout)},
	CONNECTION_STEPS(STEP_ROW)
#undef STEP_ROW
};

static const struct {
	const char *keyword;
	uint32_t offer;
} offers[] = {
	{"PIPELINING", OFFER_PIPELINING}, {"SIZE", OFFER_SIZE}, {"8BITMIME", OFFER_8BITMIME},
	{"SMTPUTF8", OFFER_SMTPUTF8},	  {"DSN", OFFER_DSN},	{"STARTTLS", OFFER_STARTTLS},
};

static usec_t step_timeout(const struct connection *c, enum connection_step step)
{
	usec_t t;

	memcpy(&t, (const char *)c->site->set + steps[step].timeout, sizeof(t));
	return t;
}

static void go(struct connection *c, enum connection_step to)
{
	const struct log_ctx log = {.object = "connection", .name = c->site->label};

	log_debug(&log, "step", LOG_S("host", c->host), LOG_S("from", steps[c->step].name),
		  LOG_S("to", steps[to].name));
	c->step = to;
	if (to < STEP_ready)
		stream_timeout(c->stream, step_timeout(c, to), step_timeout(c, to));
}

void connection_timeouts(struct connection *c, usec_t read, usec_t write)
{
	stream_timeout(c->stream, read, write);
}

void connection_place(const struct connection *c, struct site_place *ret)
{
	ret->mx_name = c->host;
	ret->mx_ip = c->ip;
	ret->source_ip = c->source_ip;
	ret->mx_port = c->port;
	ret->tls_only = c->no_tls;
}

const char *connection_doing(const struct connection *c)
{
	return c->txn ? transaction_doing(c->txn) : steps[c->step].doing;
}

bool connection_input_unasked(const struct connection *c)
{
	struct slice in = stream_input(c->stream);

	return in.n && memcmp(in.p, "421", in.n < 3 ? in.n : 3) != 0;
}

/* --- the end --- */

static void connection_release(struct connection *c)
{
	trace_closed(c);
	probe_end(c, false);
	TAILQ_REMOVE(&c->site->connections, c, link);
	loop_timer_free(c->timer);
	reply_done(&c->reply);
	buf_done(&c->esmtp);
	free(c->host);
	free(c->helo);
	c->magic = 0;
	loop_defer_free(c->w->loop, c);
}

void connection_discard(struct connection *c)
{
	if (c->txn)
		transaction_discard(c->txn);
	if (c->stream)
		stream_abort(c->stream);
	slots_discard(c);
	connection_release(c);
}

/* How many connections the mail of a queue has now. */
static void publish(struct site *s, uint32_t queue)
{
	if (s->of)
		site_publish_connections(s);
	else
		shared_publish(s, queue);
}

void connection_carries(struct connection *c, const struct queue *q)
{
	uint32_t before = c->served;

	c->serving = c->served = q->id;
	if (before == q->id || c->site->of)
		return;
	publish(c->site, before);
	publish(c->site, q->id);
}

static void connection_free(struct connection *c)
{
	struct site *s = c->site;
	char ip[IP_TEXT_MAX];

	if (c->messages)
		events_add(c->w, &s->events, "connection to %s [%s] closed after %u message%s",
			   c->host, ip_text(&c->ip, ip), c->messages, c->messages == 1 ? "" : "s");
	s->slots--;
	counter_sub(c->w->counters, COUNTER_CONNECTIONS_OUT_OPEN, 1);
	slots_give(c);
	connection_release(c);
	publish(s, c->served);
	paces_ask_again(s);
	site_kick(s);
}

static void not_ready_any_more(struct connection *c)
{
	slots_busy(c);
	probe_end(c, false);
	if (c->was_ready)
		c->site->ready--;
	else if (c->step < STEP_ready)
		c->site->connecting--;
	c->was_ready = false;
}

/* No more I/O. The lease stays until the peer must have seen the end. */
static void connection_end(struct connection *c, bool abort, usec_t after)
{
	invariant(!c->txn);
	if (c->step == STEP_gone)
		return;
	not_ready_any_more(c);
	go(c, STEP_gone);
	if (abort)
		stream_abort(c->stream);
	else
		stream_free(c->stream);
	c->stream = NULL;
	if (after)
		loop_timer_set(c->timer, after);
	else
		connection_free(c);
}

static void say_quit(struct connection *c)
{
	not_ready_any_more(c);
	go(c, STEP_quit);
	stream_write(c->stream, "QUIT\r\n", 6);
	stream_timeout(c->stream, 0, 0);
	loop_timer_set(c->timer, QUIT_TIME);
}

void connection_give_up(struct connection *c, bool abort)
{
	c->txn = NULL;
	c->closing = true;
	connection_end(c, abort, ABORT_TIME);
}

/* --- before it is ready --- */

/* The site tries another target, or the same one from another source, or does as a pattern says. */
static void tell_site(struct connection *c, const struct judgement *j)
{
	struct site_place at;

	connection_place(c, &at);
	judge_carry_out(j, c->site, &at, NULL);
	if (j->settled)
		return;
	if (judge_blames_source(j, c->site))
		site_connection_again(c->site);
	else
		site_target_failed(c->site, &c->ip, c->port, &j->o, &at);
}

/* This target will not do. polite: the peer is there and gets a QUIT. */
static void connection_failed(struct connection *c, const struct judgement *j, bool polite)
{
	counter_add(c->w->counters, COUNTER_CONNECT_FAILURES, 1);
	trace_failed(c, j->o.text);
	if (polite) {
		say_quit(c);
		tell_site(c, j);
		return;
	}
	not_ready_any_more(c);
	go(c, STEP_gone);
	stream_free(c->stream);
	c->stream = NULL;
	tell_site(c, j);
	/* One that is cut off may be answered just now. */
	if (c->connected || c->cut_off)
		loop_timer_set(c->timer, ABORT_TIME);
	else
		connection_free(c);
}

static void failed_by_reply(struct connection *c)
{
	struct judgement j;

	judge_reply(&j, c->site, steps[c->step].phase, &c->reply);
	connection_failed(c, &j, c->reply.code != 421);
}

/*
 * The peer refuses what can be done without. True: a pattern says more of it than that, and the
 * connection is over.
 */
static bool refusal_ends_it(struct connection *c)
{
	struct site_place at;
	struct judgement j;

	judge_reply(&j, c->site, steps[c->step].phase, &c->reply);
	if (j.settled || j.hits.source) {
		connection_failed(c, &j, true);
		return true;
	}
	connection_place(c, &at);
	judge_carry_out(&j, c->site, &at, NULL);
	return c->step == STEP_gone;
}

static void failed_for_tls(struct connection *c, const char *why, bool polite)
{
	struct judgement j;
	struct outcome o;

	c->no_tls = true;
	outcome_local(&o, LOCAL_NO_TLS, "TLS is required: %s", why);
	judge_local(&j, c->site, &o);
	connection_failed(c, &j, polite);
}

static enum connection_step send_ehlo(struct connection *c)
{
	char line[300];
	int n = snprintf(line, sizeof(line), "EHLO %.255s\r\n", c->helo);

	stream_write(c->stream, line, (size_t)n);
	return STEP_ehlo;
}

static enum connection_step become_ready(struct connection *c)
{
	struct site *s = c->site;
	char ip[IP_TEXT_MAX];

	events_add(c->w, &s->events, "connected to %s [%s]%s", c->host, ip_text(&c->ip, ip),
		   stream_is_tls(c->stream) ? " with TLS" : "");
	probe_end(c, true);
	s->connecting--;
	s->ready++;
	c->was_ready = true;
	c->idle_since = loop_now(c->w->loop);
	return STEP_ready;
}

/* What it hides of the greeting it replaces by asterisks. */
static bool shows_pix(const struct reply *r)
{
	size_t asterisks = 0;

	for (size_t i = 0; i < r->text.n; i++)
		asterisks += r->text.p[i] == '*';
	return asterisks >= 10;
}

static enum connection_step on_greeting(struct connection *c)
{
	if (c->reply.code != 220) {
		failed_by_reply(c);
		return STEP_gone;
	}
	c->pix = shows_pix(&c->reply);
	return send_ehlo(c);
}

static void read_offer(struct connection *c, struct slice line)
{
	struct slice word;

	if (!slice_next(&line, ' ', &word) || word.n == 0)
		return;
	if (c->esmtp.n + word.n < 400) {
		if (c->esmtp.n)
			buf_add_char(&c->esmtp, ',');
		buf_add_slice(&c->esmtp, word);
	}
	for (size_t i = 0; i < ARRAY_SIZE(offers); i++)
		if (slice_ieq_str(word, offers[i].keyword))
			c->offers |= offers[i].offer;
	if (slice_ieq_str(word, "SIZE") && !slice_u64(slice_trim(line), &c->size_max))
		c->size_max = 0;
}

static void read_offers(struct connection *c)
{
	const struct conf_domain *set = c->site->set;
	struct slice line;

	c->offers = OFFER_ESMTP;
	c->size_max = 0;
	buf_clear(&c->esmtp);
	for (uint32_t i = 1; reply_line(&c->reply, i, &line); i++)
		read_offer(c, line);
	if (set->ignore_8bitmime)
		c->offers &= ~(uint32_t)OFFER_8BITMIME;
	if (set->ignore_pipelining)
		c->offers &= ~(uint32_t)OFFER_PIPELINING;
	if (set->ignore_dsn)
		c->offers &= ~(uint32_t)OFFER_DSN;
}

static bool tls_wanted(const struct connection *c)
{
	const struct conf_domain *set = c->site->set;

	if (stream_is_tls(c->stream) || !(c->offers & OFFER_STARTTLS))
		return false;
	if (c->require_tls)
		return true;
	return set->use_starttls && !hosts_has_no_tls(c->w->hosts, &c->ip, c->port);
}

static enum connection_step on_ehlo(struct connection *c)
{
	bool need = c->require_tls && !stream_is_tls(c->stream);
	char line[300];
	int n;

	if (c->reply.code == 421 || (c->reply.code >= 400 && c->reply.code < 500)) {
		failed_by_reply(c);
		return STEP_gone;
	}
	if (c->reply.code != 250 && refusal_ends_it(c))
		return STEP_gone;
	if (c->reply.code != 250 && !need) {
		n = snprintf(line, sizeof(line), "HELO %.255s\r\n", c->helo);
		stream_write(c->stream, line, (size_t)n);
		return STEP_helo;
	}
	if (c->reply.code == 250)
		read_offers(c);
	if (tls_wanted(c)) {
		stream_write(c->stream, "STARTTLS\r\n", 10);
		return STEP_starttls;
	}
	if (need) {
		failed_for_tls(c, "STARTTLS is not offered", true);
		return STEP_gone;
	}
	return become_ready(c);
}

static enum connection_step on_helo(struct connection *c)
{
	if (c->reply.code != 250) {
		failed_by_reply(c);
		return STEP_gone;
	}
	return become_ready(c);
}

static enum connection_step on_starttls(struct connection *c)
{
	if (c->reply.code == 220) {
		stream_start_tls(c->stream, c->w->tls, c->host);
		return STEP_handshake;
	}
	if (c->reply.code == 421) {
		failed_by_reply(c);
		return STEP_gone;
	}
	if (refusal_ends_it(c))
		return STEP_gone;
	if (c->require_tls) {
		failed_for_tls(c, buf_cstr(&c->reply.text), true);
		return STEP_gone;
	}
	return become_ready(c);
}

/* The handshake failed: without the demand for TLS, again in clear at once. */
static void handshake_failed(struct connection *c, const char *why)
{
	struct site *s = c->site;

	if (c->require_tls) {
		failed_for_tls(c, why, false);
		return;
	}
	hosts_no_tls(c->w->hosts, &c->ip, c->port);
	trace_failed(c, why);
	log_debug(NULL, "TLS handshake failed, again in clear", LOG_S("host", c->host),
		  LOG_S("why", why));
	connection_end(c, true, ABORT_TIME);
	site_connection_again(s);
}

/* --- work --- */

static bool yields(struct connection *c, bool idle)
{
	if (!c->site->of && shared_should_yield(c->site, idle, c->messages))
		return true;
	return site_is_over(c->site) || slots_should_yield(c, idle);
}

static void become_waiting(struct connection *c)
{
	if (c->busy)
		c->idle_since = loop_now(c->w->loop);
	c->busy = false;
	c->serving = 0;
	stream_timeout(c->stream, 0, 0);
}

static void become_idle(struct connection *c)
{
	become_waiting(c);
	if (c->closing || yields(c, true)) {
		say_quit(c);
		return;
	}
	slots_idle(c);
	loop_timer_set(c->timer, IDLE_LOOK);
}

/* The committer is behind: no other mail could use its place any sooner, so it stays. */
static void wait_for_room(struct connection *c)
{
	become_waiting(c);
	if (c->closing || site_is_over(c->site))
		say_quit(c);
	else
		loop_timer_set(c->timer, IDLE_LOOK);
}

bool connection_work(struct connection *c)
{
	uint64_t most = c->site->set->max_msg_per_connection;
	enum transaction_start start;

	if (c->step != STEP_ready || c->txn || c->closing)
		return false;
	slots_busy(c);
	/* Input that nobody asked for: replies could no more be told apart. */
	if (c->w->stopping || (most && c->messages >= most) || stream_input(c->stream).n ||
	    (c->messages && yields(c, false)))
		c->closing = true;
	start = c->closing ? TRANSACTION_NOTHING : transaction_begin(c);
	if (start == TRANSACTION_BEGUN) {
		c->messages++;
		c->busy = true;
		loop_timer_clear(c->timer);
		return true;
	}
	if (c->step != STEP_ready)
		return false;
	if (start == TRANSACTION_NO_ROOM)
		wait_for_room(c);
	else
		become_idle(c);
	return false;
}

void connection_transaction_ended(struct connection *c)
{
	uint64_t most = c->site->set->max_errors_per_connection;

	c->txn = NULL;
	c->serving = 0;
	if (most && c->errors >= most)
		c->closing = true;
	connection_work(c);
	if (c->closing && c->step == STEP_ready && !c->txn)
		become_idle(c);
}

bool connection_is_idle(const struct connection *c)
{
	return c->step == STEP_ready && !c->txn && !c->closing;
}

void connection_look(struct connection *c)
{
	if (yields(c, true))
		say_quit(c);
}

bool connection_is_open(const struct connection *c)
{
	return c->step <= STEP_ready && !c->closing;
}

struct connection *connection_idle(struct site *s)
{
	struct connection *c;

	TAILQ_FOREACH(c, &s->connections, link)
		if (connection_is_idle(c) && c->paced_until <= loop_now(c->w->loop) &&
		    warmup_is_ready(s, &c->source_ip))
			return c;
	return NULL;
}

void connection_retire(struct connection *c)
{
	c->closing = true;
	if (c->step < STEP_ready)
		connection_end(c, true, c->connected ? ABORT_TIME : 0);
	else if (c->step == STEP_ready && !c->txn)
		become_idle(c);
}

static void on_timer(void *arg)
{
	struct connection *c;
	usec_t keep, idle, look;

	CAST_MAGIC(c, arg, CONNECTION_MAGIC);
	if (c->step == STEP_gone) {
		connection_free(c);
		return;
	}
	if (c->step == STEP_quit) {
		connection_end(c, true, ABORT_TIME);
		return;
	}
	if (c->step != STEP_ready || c->txn)
		return;
	if (!c->closing && !paces_waits(c) &&
	    site_has_work(c->site, c)) { /* there was no room in the ring */
		connection_work(c);
		return;
	}
	keep = paces_keep(c, c->site->set->connection_idle_timeout);
	if (keep < IDLE_LEAST)
		keep = IDLE_LEAST;
	idle = loop_now(c->w->loop) - c->idle_since;
	look = idle / 8;
	if (look < IDLE_LOOK)
		look = IDLE_LOOK;
	if (look > IDLE_LOOK_MOST)
		look = IDLE_LOOK_MOST;
	if (idle >= keep || yields(c, true))
		say_quit(c);
	else
		loop_timer_set(c->timer, keep - idle < look ? keep - idle : look);
}

/* --- replies and events --- */

static void on_unasked(struct connection *c)
{
	struct site_place at;
	struct judgement j;

	/* 421 or nonsense while idle: the peer closes, nothing is lost by it. */
	judge_reply(&j, c->site, PHASE_MAIL, &c->reply);
	if (!j.again)
		site_note(c->site, &j.o);
	connection_end(c, false, ABORT_TIME);
	connection_place(c, &at);
	judge_carry_out(&j, c->site, &at, NULL);
}

static void connection_lost(struct connection *c, const char *what);

static void on_reply(struct connection *c)
{
	static enum connection_step (*const by_step[STEP_COUNT])(struct connection *) = {
		[STEP_greeting] = on_greeting,
		[STEP_ehlo] = on_ehlo,
		[STEP_helo] = on_helo,
		[STEP_starttls] = on_starttls,
	};
	enum connection_step next;

	trace_reply_code(c, c->reply.code);
	if (c->step < STEP_ready && c->step != STEP_starttls && connection_input_unasked(c)) {
		connection_lost(c, "connection given up: replies that were not asked for");
		return;
	}
	if (c->reply.code < 400 && (c->txn || c->step < STEP_ready))
		judge_granted(c->site, &c->reply);
	if (c->step == STEP_ready && c->txn) {
		transaction_on_reply(c->txn, &c->reply);
		return;
	}
	if (c->step == STEP_ready) {
		on_unasked(c);
		return;
	}
	if (!by_step[c->step])
		return; /* the reply to QUIT: EOF follows */
	next = by_step[c->step](c);
	if (next == STEP_gone)
		return; /* it has failed and looks after itself */
	go(c, next);
	if (next == STEP_ready) {
		stream_timeout(c->stream, 0, 0);
		site_connection_ready(c->site);
		if (c->step == STEP_ready && !c->txn)
			connection_work(c);
	}
}

static void connection_lost(struct connection *c, const char *what)
{
	const struct judge_loss loss = {.what = what, .timed_out = c->timed_out};
	struct judgement j;

	if (c->step == STEP_quit) {
		connection_end(c, false, 0);
		return;
	}
	if (c->txn) {
		events_add(c->w, &c->site->events, "connection to %s lost while %s: %s", c->host,
			   transaction_doing(c->txn), what);
		transaction_on_loss(c->txn, what);
		trace_failed(c, what);
		return;
	}
	if (c->step == STEP_ready) {
		connection_end(c, false, 0);
		return;
	}
	/* In TLS 1.3 a server's refusal comes when the client already is through. */
	if (c->step == STEP_handshake || (c->step == STEP_ehlo && stream_is_tls(c->stream))) {
		handshake_failed(c, what);
		return;
	}
	judge_loss(&j, c->site, steps[c->step].phase, &loss);
	connection_failed(c, &j, false);
}

static void on_data(struct connection *c)
{
	int rc = 1;

	while (rc == 1 && c->stream) {
		size_t used = 0;
		struct slice in = stream_input(c->stream);

		if (in.n == 0)
			return;
		rc = reply_parse(&c->reply, in, &used);
		stream_consume(c->stream, used);
		if (rc < 0) {
			connection_lost(c, "the peer does not speak SMTP: connection closed");
			return;
		}
		if (rc == 1) {
			on_reply(c);
			reply_reset(&c->reply);
		}
	}
}

static void on_connected(struct connection *c)
{
	struct ip ip;
	uint16_t port;

	c->connected = true;
	hosts_reachable(c->w->hosts, &c->ip, c->port);
	if (stream_local(c->stream, &ip, &port))
		c->source_ip = ip;
	trace_connected(c);
	go(c, STEP_greeting);
}

static void on_timeout(struct connection *c)
{
	char what[64];
	usec_t t = step_timeout(c, c->step);

	c->timed_out = true;
	if (c->step == STEP_connect) {
		hosts_unreachable(c->w->hosts, &c->ip, c->port, UNREACHABLE_TIME);
		snprintf(what, sizeof(what), "connection timed out after %u s",
			 (unsigned)(t / USEC_PER_SEC));
	} else {
		snprintf(what, sizeof(what), "no answer in time");
	}
	connection_lost(c, what);
}

void connection_cut_off(struct connection *c)
{
	char what[96];

	snprintf(what, sizeof(what),
		 "no answer within %.1f s, and other mail waits for a connection",
		 (double)(loop_now(c->w->loop) - c->since) / (double)USEC_PER_SEC);
	c->cut_off = c->site->cut_off = true;
	if (c->step == STEP_connect)
		hosts_unreachable(c->w->hosts, &c->ip, c->port, CUT_OFF_TIME);
	connection_lost(c, what);
}

void connection_interrupt(struct connection *c)
{
	if (c->txn) {
		transaction_interrupt(c->txn);
		return;
	}
	connection_retire(c);
}

static void on_error(struct connection *c)
{
	char what[256];

	snprintf(what, sizeof(what), "%s", stream_error(c->stream));
	connection_lost(c, what);
}

static void on_stream(struct stream *stream, enum stream_event what, void *arg)
{
	struct connection *c;

	(void)stream;
	CAST_MAGIC(c, arg, CONNECTION_MAGIC);
	switch (what) {
	case STREAM_CONNECTED:
		on_connected(c);
		break;
	case STREAM_TLS_READY:
		trace_tls(c);
		/* RFC 3207 4.2: what was said before does not count. */
		c->offers = 0;
		c->size_max = 0;
		buf_clear(&c->esmtp);
		go(c, send_ehlo(c));
		break;
	case STREAM_DATA:
		on_data(c);
		break;
	case STREAM_DRAINED:
		if (c->txn)
			transaction_on_drained(c->txn);
		break;
	case STREAM_EOF:
		connection_lost(c, "connection closed by the peer");
		break;
	case STREAM_ERROR:
		on_error(c);
		break;
	case STREAM_TIMEOUT:
		on_timeout(c);
		break;
	}
}

void connection_open(struct site *s, const struct queue *q, const struct route_target *t,
		     const struct source *source, const struct slots_hold *hold)
{
	struct connection *c = xcalloc(1, sizeof(*c));

	c->magic = CONNECTION_MAGIC;
	c->w = s->w;
	c->site = s;
	c->serving = c->served = q->id;
	c->require_tls = q->set->require_starttls;
	c->hold = *hold;
	c->host = xstrdup(t->host);
	c->helo = xstrdup(source->host ? source->host : "localhost");
	c->ip = t->ip;
	c->port = t->port;
	c->source_ip = source->ip;
	slots_opened(c);
	c->since = loop_now(s->w->loop);
	reply_init(&c->reply);
	c->timer = loop_timer_new(s->w->loop, on_timer, c);
	TAILQ_INSERT_TAIL(&s->connections, c, link);
	s->slots++;
	s->connecting++;
	counter_add(s->w->counters, COUNTER_CONNECTIONS_OUT, 1);
	counter_add(s->w->counters, COUNTER_CONNECTIONS_OUT_OPEN, 1);
	c->stream = stream_connect(s->w->loop, &c->source_ip, &c->ip, c->port, on_stream, c);
	trace_connection(c);
	stream_strict_time(c->stream); /* RFC 5321 4.5.3.2: times are those of whole replies */
	c->step = STEP_connect;
	stream_timeout(c->stream, step_timeout(c, STEP_connect), 0);
	probe_begin(c);
	publish(s, c->served);
}
