/*
 * The SMTP dialogue of the receiver: commands, replies by rule, transactions.
 */
#ifndef TESTS_LIB_RECEIVER_DIALOGUE_H
#define TESTS_LIB_RECEIVER_DIALOGUE_H

#include <strings.h>

#include "tests/lib/receiver/conn.h"

static struct rule_subject conn_subject(struct receiver *rc, struct conn *conn)
{
	if (conn->generation != rc->plan.generation || !conn->rule_hits) {
		free(conn->rule_hits);
		conn->rule_hits = need(calloc(rc->plan.rule_count + 1, sizeof(uint64_t)));
		conn->generation = rc->plan.generation;
		conn->body_rule = NULL;
	}
	return (struct rule_subject){
		.listen = conn->listen,
		.source = conn->source,
		.from = conn->from,
		.local = conn->local,
		.domain = conn->domain,
		.connection = conn->id,
		.connection_hits = conn->rule_hits,
	};
}

static void ehlo_lines(struct receiver *rc, struct conn *conn, struct text *out)
{
	const struct features *f = &conn->features;
	const char *name = rc->name ? rc->name : "receiver.test";

	text_printf(out, "250-%s\r\n", name);
	if (f->pipelining)
		text_puts(out, "250-PIPELINING\r\n");
	if (f->eightbit)
		text_puts(out, "250-8BITMIME\r\n");
	if (f->smtputf8)
		text_puts(out, "250-SMTPUTF8\r\n");
	if (f->dsn)
		text_puts(out, "250-DSN\r\n");
	if (f->enhanced)
		text_puts(out, "250-ENHANCEDSTATUSCODES\r\n");
	if (f->size == 0)
		text_puts(out, "250-SIZE\r\n");
	else if (f->size > 0)
		text_printf(out, "250-SIZE %lld\r\n", f->size);
	if (f->starttls && !conn->tls_on)
		text_puts(out, "250-STARTTLS\r\n");
	text_puts(out, "250 HELP\r\n");
}

static void usual_reply(struct receiver *rc, struct conn *conn, enum stage stage, struct text *out)
{
	const char *name = rc->name ? rc->name : "receiver.test";

	switch (stage) {
	case STAGE_CONNECT:
		text_printf(out, "220 %s ESMTP ready\r\n", name);
		break;
	case STAGE_EHLO:
		if (conn->features.ehlo)
			ehlo_lines(rc, conn, out);
		else
			text_puts(out, "502 5.5.1 EHLO is not known here\r\n");
		break;
	case STAGE_HELO:
		text_printf(out, "250 %s\r\n", name);
		break;
	case STAGE_MAIL:
		text_puts(out, "250 2.1.0 sender ok\r\n");
		break;
	case STAGE_RCPT:
		text_puts(out, "250 2.1.5 recipient ok\r\n");
		break;
	case STAGE_DATA:
		text_puts(out, conn->rcpt_count ? "354 go ahead\r\n"
						: "554 5.5.1 no valid recipients\r\n");
		break;
	case STAGE_DOT:
		text_printf(out, "250 2.0.0 accepted as T%zu\r\n", conn->tx);
		break;
	case STAGE_QUIT:
		text_puts(out, "221 2.0.0 bye\r\n");
		break;
	case STAGE_STARTTLS:
		text_puts(out, rc->tls && !conn->tls_on ? "220 2.0.0 go ahead\r\n"
							: "454 4.7.0 TLS not available\r\n");
		break;
	case STAGE_BODY:
	case STAGE_RSET:
	case STAGE_OTHER:
	case STAGE_COUNT:
		text_puts(out, "250 2.0.0 ok\r\n");
		break;
	}
}

static void rule_reply(struct rule *rule, struct text *out)
{
	const char *line = rule->reply, *end;

	if (rule->raw) {
		text_puts(out, rule->raw);
		return;
	}
	for (uint64_t i = 0; rule->repeat && i < rule->times; i++) {
		text_puts(out, rule->repeat);
		text_puts(out, "\r\n");
	}
	for (; line; line = end ? end + 1 : NULL) {
		end = strchr(line, '\n');
		text_add(out, line, end ? (size_t)(end - line) : strlen(line));
		text_puts(out, "\r\n");
	}
}

/* Counts deliveries by the first number in the local part. */
static void count_id(struct receiver *rc, const char *rcpt)
{
	size_t id;

	while (*rcpt && *rcpt != '@' && (*rcpt < '0' || *rcpt > '9'))
		rcpt++;
	if (*rcpt < '0' || *rcpt > '9')
		return;
	id = strtoull(rcpt, NULL, 10);
	if (id >= rc->id_count)
		return;
	if (rc->ids[id]++)
		rc->counters.duplicates++;
	else
		rc->counters.seen++;
}

static void message_accepted(struct receiver *rc, struct conn *conn)
{
	const char *rcpt = conn->rcpts.p;

	rc->counters.messages++;
	rc->counters.rcpts += conn->rcpt_count;
	rc->counters.last = now_wall();
	if (rc->counters.first == 0)
		rc->counters.first = rc->counters.last;
	conn->messages++;
	for (int i = 0; i < TALLY_KINDS; i++)
		conn->tallies[i]->messages++;
	for (size_t i = 0; rc->ids && i < conn->rcpt_count; i++, rcpt += strlen(rcpt) + 1)
		count_id(rc, rcpt);
}

static void journal_dot(struct receiver *rc, struct conn *conn, const struct text *reply)
{
	struct text *ev = journal_event(&rc->journal, "dot", conn->id);
	struct body *body = &conn->body;
	char hex[65];

	if (!ev)
		return;
	journal_number(ev, "tx", conn->tx);
	journal_text(ev, "from", conn->from, strlen(conn->from));
	text_puts(ev, ",\"rcpts\":[");
	for (size_t i = 0, at = 0; i < conn->rcpt_count; i++) {
		const char *rcpt = conn->rcpts.p + at;

		text_puts(ev, i ? "," : "");
		text_json(ev, rcpt, strlen(rcpt));
		at += strlen(rcpt) + 1;
	}
	text_puts(ev, "]");
	journal_number(ev, "size", body->size);
	journal_number(ev, "bare_cr", body->bare_cr);
	journal_number(ev, "bare_lf", body->bare_lf);
	if (body->digest) {
		body_hex(body->all, hex);
		journal_text(ev, "sha256", hex, 64);
		body_hex(body->part, hex);
		journal_text(ev, "body_sha256", hex, 64);
		journal_number(ev, "body_size", body->body_size);
		journal_text(ev, "header", body->header.p ? body->header.p : "", body->header.n);
	}
	journal_text(ev, "reply", reply->p ? reply->p : "", reply->n);
	journal_end(ev);
}

static void transaction_end(struct conn *conn)
{
	if (conn->body.store)
		fclose(conn->body.store);
	conn->body.store = NULL;
	conn->tx = 0;
	conn->from[0] = '\0';
	conn->rcpts.n = conn->rcpt_count = 0;
	conn->phase = CONN_COMMANDS;
}

static void body_begin(struct receiver *rc, struct conn *conn)
{
	struct rule_subject subject;
	FILE *store = NULL;

	if (rc->store) {
		char path[4096];

		snprintf(path, sizeof(path), "%s/%zu.eml", rc->store, conn->tx);
		store = fopen(path, "w");
		if (!store)
			die("%s: %s", path, strerror(errno));
	}
	body_start(&conn->body, rc->journal.open && !rc->no_digest, store);
	conn->phase = CONN_BODY;
	subject = conn_subject(rc, conn);
	conn->body_rule = plan_match(&rc->plan, STAGE_BODY, &subject);
}

/* What a reply changes, at the moment it goes out: that is what the peer will believe. */
static void reply_effect(struct receiver *rc, struct conn *conn, enum stage stage,
			 const struct text *reply)
{
	char kind = reply->n ? reply->p[0] : '\0';
	char address[600];
	int n;

	switch (stage) {
	case STAGE_RCPT:
		if (kind != '2') {
			rc->counters.rejected++;
			break;
		}
		n = snprintf(address, sizeof(address), "%s%s%s", conn->local,
			     conn->domain[0] ? "@" : "", conn->domain);
		text_add(&conn->rcpts, address, (size_t)n + 1);
		conn->rcpt_count++;
		break;
	case STAGE_MAIL:
		if (kind != '2')
			conn_abort_tx(rc, conn, "sender refused");
		break;
	case STAGE_DATA:
		if (kind == '3')
			body_begin(rc, conn);
		break;
	case STAGE_DOT:
		journal_dot(rc, conn, reply);
		if (kind == '2')
			message_accepted(rc, conn);
		transaction_end(conn);
		break;
	case STAGE_STARTTLS:
		if (kind == '2')
			conn->after = AFTER_TLS;
		break;
	case STAGE_QUIT:
		conn->after = AFTER_CLOSE;
		break;
	case STAGE_CONNECT:
	case STAGE_EHLO:
	case STAGE_HELO:
	case STAGE_BODY:
	case STAGE_RSET:
	case STAGE_OTHER:
	case STAGE_COUNT:
		break;
	}
}

static void reply_tls(struct conn *conn, const struct rule *rule)
{
	static const char garbage[] = "\x16\x03\x01 this is not a handshake \r\n\r\n";

	if (conn->after != AFTER_TLS || rule->tls == TLS_START)
		return;
	conn->after = rule->tls == TLS_HANG ? AFTER_NOTHING : AFTER_CLOSE;
	if (rule->tls == TLS_HANG)
		conn->paused = true;
	if (rule->tls == TLS_GARBAGE)
		text_add(&conn->out, garbage, sizeof(garbage) - 1);
}

/* Puts the reply into the output and applies what the rule says about the connection. */
static void reply_send(struct receiver *rc, struct conn *conn, enum stage stage, struct rule *rule,
		       struct text *reply)
{
	struct text *ev;
	size_t n = reply->n;

	if (stage != STAGE_DOT) {
		ev = journal_event(&rc->journal, "reply", conn->id);
		journal_number(ev, "tx", conn->tx);
		journal_text(ev, "stage", stage_names[stage], strlen(stage_names[stage]));
		journal_text(ev, "reply", reply->p ? reply->p : "", n > 600 ? 600 : n);
		journal_end(ev);
	}
	if (rule && rule->cut >= 0 && (size_t)rule->cut < n)
		n = (size_t)rule->cut;
	text_add(&conn->out, reply->p, n);
	reply_effect(rc, conn, stage, reply);
	if (!rule)
		return;
	reply_tls(conn, rule);
	conn->drip_ms = rule->drip_ms;
	if (rule->repeat && !rule->times)
		conn->endless = rule->repeat;
	if (rule->close == CLOSE_AFTER || (rule->cut >= 0 && rule->close == CLOSE_NO))
		conn->after = AFTER_CLOSE;
	if (rule->close == CLOSE_RESET && (rule->reply || rule->raw || rule->cut >= 0))
		conn->after = AFTER_RESET;
}

/* After a delay: the rule may have gone with a new plan in the meantime. */
static void reply_release(struct receiver *rc, struct conn *conn)
{
	struct rule *rule = conn->held_generation == rc->plan.generation ? conn->held_rule : NULL;
	struct text reply = conn->held;
	enum stage stage = conn->held_stage;

	conn->held = (struct text){0};
	conn->held_stage = STAGE_COUNT;
	conn->paused = false;
	if (stage != STAGE_BODY)
		reply_send(rc, conn, stage, rule, &reply);
	text_free(&reply);
}

static void reply_hold(struct receiver *rc, struct conn *conn, enum stage stage, struct rule *rule,
		       struct text *reply)
{
	conn->held = *reply;
	conn->held_rule = rule;
	conn->held_generation = rc->plan.generation;
	conn->held_stage = stage;
	conn->paused = true;
	*reply = (struct text){0};
	timer_start(rc, conn, rule->delay_ms);
}

/* Decides and sends (or withholds) the reply to what is in hand. */
static void answer(struct receiver *rc, struct conn *conn, enum stage stage)
{
	static struct text usual;
	struct rule_subject subject;
	struct rule *rule = NULL;
	struct text reply = {0};

	if (rc->plan.rule_count) {
		subject = conn_subject(rc, conn);
		rule = plan_match(&rc->plan, stage, &subject);
	}
	if (!rule) {
		usual.n = 0;
		usual_reply(rc, conn, stage, &usual);
		reply_send(rc, conn, stage, NULL, &usual);
		return;
	}
	if (rule->hang) {
		conn->paused = true;
		return;
	}
	if (rule->close == CLOSE_BEFORE ||
	    (rule->close == CLOSE_RESET && !rule->reply && !rule->raw && rule->cut < 0)) {
		conn_close(rc, conn, "us", rule->close == CLOSE_RESET);
		return;
	}
	if (rule->reply || rule->raw)
		rule_reply(rule, &reply);
	else
		usual_reply(rc, conn, stage, &reply);
	if (rule->delay_ms)
		reply_hold(rc, conn, stage, rule, &reply);
	else
		reply_send(rc, conn, stage, rule, &reply);
	text_free(&reply);
}

static void answer_text(struct receiver *rc, struct conn *conn, const char *text)
{
	struct text *ev = journal_event(&rc->journal, "reply", conn->id);

	journal_text(ev, "reply", text, strlen(text));
	journal_end(ev);
	text_puts(&conn->out, text);
}

/* The path between <> (or the bare word) of MAIL and RCPT; *ret_args is what follows. */
static void take_path(const char *p, size_t n, char *path, size_t room, const char **ret_args)
{
	const char *end = p + n, *start;

	while (p < end && *p == ' ')
		p++;
	start = p;
	if (p < end && *p == '<') {
		bool quoted = false;

		for (start = ++p; p < end && (quoted || *p != '>'); p++)
			if (*p == '"')
				quoted = !quoted;
	} else {
		while (p < end && *p != ' ')
			p++;
	}
	snprintf(path, room, "%.*s", (int)(p - start), start);
	if (p < end && *p == '>')
		p++;
	while (p < end && *p == ' ')
		p++;
	*ret_args = p;
}

static void on_mail(struct receiver *rc, struct conn *conn, const char *p, size_t n)
{
	struct text *ev;
	const char *args;

	if (conn->tx) {
		answer_text(rc, conn, "503 5.5.1 nested MAIL\r\n");
		return;
	}
	take_path(p, n, conn->from, sizeof(conn->from), &args);
	conn->tx = ++rc->next_tx;
	rc->counters.mails++;
	ev = journal_event(&rc->journal, "mail", conn->id);
	journal_number(ev, "tx", conn->tx);
	journal_text(ev, "from", conn->from, strlen(conn->from));
	journal_text(ev, "args", args, (size_t)(p + n - args));
	journal_end(ev);
	if (plan_limit(&rc->plan, LIMIT_MESSAGE, conn->listen, conn->source)) {
		rc->counters.limited++;
		answer_text(rc, conn, "450 4.7.1 message rate exceeded\r\n");
		conn_abort_tx(rc, conn, "rate");
		return;
	}
	answer(rc, conn, STAGE_MAIL);
}

static void rcpt_in_hand(struct conn *conn, const char *rcpt)
{
	const char *at = strrchr(rcpt, '@');

	snprintf(conn->local, sizeof(conn->local), "%.*s", at ? (int)(at - rcpt) : 255, rcpt);
	snprintf(conn->domain, sizeof(conn->domain), "%.255s", at ? at + 1 : "");
}

static void on_rcpt(struct receiver *rc, struct conn *conn, const char *p, size_t n)
{
	char path[600];
	const char *args;
	struct text *ev;

	if (!conn->tx) {
		answer_text(rc, conn, "503 5.5.1 MAIL first\r\n");
		return;
	}
	take_path(p, n, path, sizeof(path), &args);
	rcpt_in_hand(conn, path);
	ev = journal_event(&rc->journal, "rcpt", conn->id);
	journal_number(ev, "tx", conn->tx);
	journal_text(ev, "rcpt", path, strlen(path));
	journal_text(ev, "args", args, (size_t)(p + n - args));
	journal_end(ev);
	if (plan_limit(&rc->plan, LIMIT_RCPT, conn->listen, conn->source)) {
		rc->counters.limited++;
		answer_text(rc, conn, "450 4.7.1 recipient rate exceeded\r\n");
		return;
	}
	answer(rc, conn, STAGE_RCPT);
}

static void on_hello(struct receiver *rc, struct conn *conn, enum stage stage, const char *p,
		     size_t n)
{
	const char *proto = stage == STAGE_EHLO ? "EHLO" : "HELO";
	struct text *ev = journal_event(&rc->journal, "ehlo", conn->id);

	conn_abort_tx(rc, conn, "EHLO");
	snprintf(conn->helo, sizeof(conn->helo), "%.*s", (int)n, p);
	journal_text(ev, "name", p, n);
	journal_text(ev, "proto", proto, 4);
	journal_end(ev);
	answer(rc, conn, stage);
}

static void on_data(struct receiver *rc, struct conn *conn)
{
	struct text *ev;

	if (!conn->tx) {
		answer_text(rc, conn, "503 5.5.1 MAIL first\r\n");
		return;
	}
	ev = journal_event(&rc->journal, "data", conn->id);
	journal_number(ev, "tx", conn->tx);
	journal_end(ev);
	conn->local[0] = conn->domain[0] = '\0';
	if (conn->rcpt_count) {
		/* Rules of stages data, body and dot may match on the first recipient. */
		rcpt_in_hand(conn, conn->rcpts.p);
	}
	answer(rc, conn, STAGE_DATA);
}

static void command(struct receiver *rc, struct conn *conn, const char *p, size_t n)
{
	static const char mail[] = "MAIL FROM:", rcpt[] = "RCPT TO:";

	if (n >= sizeof(mail) - 1 && strncasecmp(p, mail, sizeof(mail) - 1) == 0) {
		on_mail(rc, conn, p + sizeof(mail) - 1, n - sizeof(mail) + 1);
	} else if (n >= sizeof(rcpt) - 1 && strncasecmp(p, rcpt, sizeof(rcpt) - 1) == 0) {
		on_rcpt(rc, conn, p + sizeof(rcpt) - 1, n - sizeof(rcpt) + 1);
	} else if (n == 4 && strncasecmp(p, "DATA", 4) == 0) {
		on_data(rc, conn);
	} else if (n >= 5 && strncasecmp(p, "EHLO ", 5) == 0) {
		on_hello(rc, conn, STAGE_EHLO, p + 5, n - 5);
	} else if (n >= 5 && strncasecmp(p, "HELO ", 5) == 0) {
		on_hello(rc, conn, STAGE_HELO, p + 5, n - 5);
	} else if (n == 4 && strncasecmp(p, "QUIT", 4) == 0) {
		answer(rc, conn, STAGE_QUIT);
	} else if (n == 4 && strncasecmp(p, "RSET", 4) == 0) {
		conn_abort_tx(rc, conn, "RSET");
		answer(rc, conn, STAGE_RSET);
	} else if (n == 8 && strncasecmp(p, "STARTTLS", 8) == 0) {
		answer(rc, conn, STAGE_STARTTLS);
	} else if (n >= 4 && strncasecmp(p, "NOOP", 4) == 0) {
		answer(rc, conn, STAGE_OTHER);
	} else {
		struct text *ev = journal_event(&rc->journal, "unknown", conn->id);

		journal_text(ev, "line", p, n > 500 ? 500 : n);
		journal_end(ev);
		text_puts(&conn->out, "500 5.5.2 not understood\r\n");
	}
}

/* A rule of stage body fires once its amount of the message has come in. */
static bool body_trouble(struct receiver *rc, struct conn *conn)
{
	struct rule *rule = conn->body_rule;

	if (!rule || conn->generation != rc->plan.generation || conn->body.wire < rule->after_bytes)
		return false;
	conn->body_rule = NULL;
	if (rule->reply) {
		rule_reply(rule, &conn->out);
		conn_abort_tx(rc, conn, "reply inside the body");
		conn->phase = CONN_COMMANDS;
		conn->after = AFTER_CLOSE;
		return true;
	}
	if (rule->hang) {
		conn->paused = true;
	} else if (rule->delay_ms) {
		struct text none = {0};

		reply_hold(rc, conn, STAGE_BODY, rule, &none);
	} else {
		conn_close(rc, conn, "us", rule->close == CLOSE_RESET);
	}
	return true;
}

static size_t body_input(struct receiver *rc, struct conn *conn, const char *p, size_t n)
{
	size_t used;
	bool end;

	if (conn->body_rule && n > conn->body_rule->after_bytes - conn->body.wire &&
	    conn->body_rule->after_bytes > conn->body.wire)
		n = conn->body_rule->after_bytes - conn->body.wire;
	used = body_feed(&conn->body, p, n, &end);
	if (body_trouble(rc, conn) || !end)
		return used;
	answer(rc, conn, STAGE_DOT);
	return used;
}

static size_t line_input(struct receiver *rc, struct conn *conn, const char *p, size_t n)
{
	const char *lf = memchr(p, '\n', n);
	size_t length;

	if (!lf) {
		if (n > 1 << 20)
			conn_close(rc, conn, "line of over 1 MiB", false);
		return 0;
	}
	length = (size_t)(lf - p);
	if (length && p[length - 1] == '\r') {
		command(rc, conn, p, length - 1);
	} else {
		struct text *ev = journal_event(&rc->journal, "bare_lf", conn->id);

		journal_end(ev);
		text_puts(&conn->out, "500 5.5.2 bare LF\r\n");
	}
	return (size_t)(lf - p) + 1;
}

static void conn_input(struct receiver *rc, struct conn *conn)
{
	size_t at = 0;

	while (at < conn->in.n && !conn->watch.dead && !conn->paused &&
	       conn->after == AFTER_NOTHING && conn->phase != CONN_HANDSHAKE) {
		const char *p = conn->in.p + at;
		size_t n = conn->in.n - at;
		size_t used = conn->phase == CONN_BODY ? body_input(rc, conn, p, n)
						       : line_input(rc, conn, p, n);

		if (!used)
			break;
		at += used;
	}
	if (!conn->watch.dead)
		text_drop(&conn->in, at < conn->in.n ? at : conn->in.n);
}

#endif
