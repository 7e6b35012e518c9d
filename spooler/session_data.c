#include <stdarg.h>
#include <stdio.h>

#include "common/base/err.h"
#include "common/mail/header.h"
#include "spooler/session_private.h"

void session_mail_refuse(struct session_mail *mail, const char *fmt, ...)
{
	va_list ap;

	if (session_mail_refused(mail))
		return;
	va_start(ap, fmt);
	buf_vaddf(&mail->refusal, fmt, ap);
	va_end(ap);
}

/* Not in session_mail_refuse(): its callers may be looking at the memory. */
static void drop_refused(struct session_mail *mail)
{
	if (!session_mail_refused(mail))
		return;
	buf_done(&mail->head);
	session_body_drop(mail);
}

static void refuse_fault(struct session_mail *mail)
{
	unsigned long long line = mail->scan.fault_line;

	switch (mail->scan.fault) {
	case MAIL_FAULT_NONE:
		break;
	case MAIL_FAULT_BARE_CR:
		session_mail_refuse(mail,
				    "550 5.6.0 line %llu of the message has a bare CR; lines "
				    "must end with CRLF",
				    line);
		break;
	case MAIL_FAULT_BARE_LF:
		session_mail_refuse(mail,
				    "550 5.6.0 line %llu of the message has a bare LF; lines "
				    "must end with CRLF",
				    line);
		break;
	case MAIL_FAULT_LONG_LINE:
		session_mail_refuse(mail,
				    "554 5.6.0 line %llu of the message is longer than 998 "
				    "octets (RFC 5321 4.5.3.1.6); fold or encode it",
				    line);
		break;
	}
}

/* The limits that hold while the message comes in. */
static void check_limits(struct session *s)
{
	struct session_mail *mail = s->mail;
	uint64_t max = s->source->max_message_size;

	refuse_fault(mail);
	if (max && mail->received > max)
		session_mail_refuse(mail, "552 5.3.4 the message is larger than %llu octets",
				    (unsigned long long)max);
}

/* The header block is complete: what lies in `all` behind `body` belongs to the body. */
static void header_complete(struct session *s, struct slice all, size_t fields, size_t body)
{
	struct session_mail *mail = s->mail;
	struct slice rest = slice_from(all, body);

	mail->phase = MAIL_BODY;
	if (mail->declared_size && mail->declared_size <= SESSION_MEMORY_MAX / 2)
		(void)buf_reserve(&mail->m.body, mail->declared_size + 1024);
	else
		(void)buf_reserve(&mail->m.body, all.n + 1024);
	session_headers_apply(s, slice_sub(all, 0, fields));
	if (session_mail_refused(mail))
		return;
	buf_add_slice(&mail->m.body, rest);
	session_body_grown(mail);
}

static void header_try(struct session *s, struct slice all)
{
	struct session_mail *mail = s->mail;
	size_t fields, body;

	if (mail_header_find_end(all, &mail->head_scanned, &fields, &body) != MAIL_HEADER_MORE) {
		if (fields <= SESSION_HEADER_MAX)
			header_complete(s, all, fields, body);
	}
	if (mail->head_scanned > SESSION_HEADER_MAX)
		session_mail_refuse(mail, "554 5.6.0 the header block is larger than 256 KiB");
}

/* Octets of the message in their wire form. */
static void take_wire(struct session *s, struct slice data)
{
	struct session_mail *mail = s->mail;

	if (mail->phase == MAIL_BODY) {
		buf_add_slice(&mail->m.body, data);
		session_body_grown(mail);
		return;
	}
	if (mail->head.n == 0) {
		/* Mostly all of the header comes at once: no copy is needed to look at it. */
		header_try(s, data);
		if (mail->phase == MAIL_HEADER && !session_mail_refused(mail)) {
			buf_add_slice(&mail->head, data);
			session_body_grown(mail);
		}
		return;
	}
	buf_add_slice(&mail->head, data);
	header_try(s, buf_slice(&mail->head));
	if (mail->phase == MAIL_BODY)
		buf_done(&mail->head);
	session_body_grown(mail);
}

static enum session_step refuse_message(struct session *s)
{
	counter_add(s->thread->server->counters, COUNTER_REFUSED_MESSAGES, 1);
	session_reply(s, buf_cstr(&s->mail->refusal));
	session_mail_reset(s);
	return SESSION_COMMAND;
}

static void post(struct session *s)
{
	struct session_thread *t = s->thread;
	struct session_mail *mail = s->mail;

	pthread_mutex_lock(&t->lock);
	t->posted++;
	pthread_mutex_unlock(&t->lock);
	mail->m.next = NULL;
	mail->m.result = 0;
	if (mail->big)
		session_sync_post(t->server->sync, mail);
	else
		intake_post(t->server->intake, &mail->m);
}

/* All of the message is here. */
static enum session_step finish(struct session *s)
{
	struct session_mail *mail = s->mail;

	check_limits(s);
	if (!session_mail_refused(mail) && mail->phase == MAIL_HEADER)
		header_complete(s, buf_slice(&mail->head), mail->head.n, mail->head.n);
	session_body_end(mail);
	if (session_mail_refused(mail))
		return refuse_message(s);
	buf_done(&mail->head);
	session_route(s);
	post(s);
	return SESSION_COMMIT;
}

enum session_step session_step_data(struct session *s)
{
	struct session_mail *mail = s->mail;
	struct slice in = stream_input(s->stream);
	size_t used, skip;
	bool end;

	if (in.n == 0)
		return SESSION_MORE;
	used = mail_scan_data(&mail->scan, in, &end, &skip);
	mail->received += used;
	check_limits(s);
	if (used && !session_mail_refused(mail))
		take_wire(s, slice_sub(in, 0, used));
	drop_refused(mail);
	stream_consume(s->stream, used + skip);
	return end ? finish(s) : SESSION_MORE;
}

/* Part of a chunk: stuffed straight to where it goes. */
static void take_chunk(struct session *s, struct slice in)
{
	struct session_mail *mail = s->mail;
	bool refused = session_mail_refused(mail);
	struct buf *out = mail->phase == MAIL_BODY ? &mail->m.body : &mail->head;

	mail->received += in.n;
	mail_scan_chunk(&mail->scan, in, refused ? NULL : out);
	check_limits(s);
	if (session_mail_refused(mail))
		return;
	if (mail->phase == MAIL_BODY) {
		session_body_grown(mail);
		return;
	}
	header_try(s, buf_slice(&mail->head));
	if (mail->phase == MAIL_BODY)
		buf_done(&mail->head);
	session_body_grown(mail);
}

static enum session_step finish_chunk(struct session *s)
{
	struct session_mail *mail = s->mail;

	if (s->chunk_refused) {
		session_mail_reset(s);
		return session_error(s,
				     "503 5.5.1 BDAT needs MAIL, an accepted RCPT, and CHUNKING in "
				     "the reply to EHLO");
	}
	if (s->chunk_last) {
		bool refused = session_mail_refused(mail);

		mail_scan_chunk_end(&mail->scan, refused		    ? NULL
						 : mail->phase == MAIL_BODY ? &mail->m.body
									    : &mail->head);
		if (mail->phase == MAIL_BODY)
			session_body_grown(mail);
		else if (!refused && mail->head.n)
			header_try(s, buf_slice(&mail->head));
		return finish(s);
	}
	if (session_mail_refused(mail))
		session_reply(s, buf_cstr(&mail->refusal));
	else
		session_replyf(s, "250 2.0.0 %llu octets received",
			       (unsigned long long)s->chunk_size);
	return SESSION_COMMAND;
}

enum session_step session_step_chunk(struct session *s)
{
	struct slice in = stream_input(s->stream);

	if (in.n > s->chunk_left)
		in.n = (size_t)s->chunk_left;
	if (in.n && !s->chunk_refused) {
		take_chunk(s, in);
		drop_refused(s->mail);
	}
	stream_consume(s->stream, in.n);
	s->chunk_left -= in.n;
	return s->chunk_left ? SESSION_MORE : finish_chunk(s);
}

/* Input is paused: nothing runs here until the committer has answered. */
enum session_step session_step_commit(struct session *s ATTR_UNUSED)
{
	return SESSION_MORE;
}

static void answer(struct session *s, const struct intake_message *m)
{
	switch (m->result) {
	case 0:
		session_replyf(s, "250 2.6.0 message received, id=%llu",
			       (unsigned long long)m->msgid);
		break;
	case ERR_NOT_FOUND:
		session_reply(s, "451 4.3.5 the configuration has changed meanwhile; try again");
		break;
	default:
		session_reply(s, "452 4.3.1 the message cannot be stored now; try again later");
		break;
	}
}

void session_mail_done(struct session_mail *mail)
{
	struct session_thread *t = mail->m.poster;
	struct session *s = mail->session;
	int result = mail->m.result;

	if (result == 0) {
		mail->big = false; /* the file is the spool's now */
	} else {
		counter_add(t->server->counters, COUNTER_REFUSED_MESSAGES, 1);
	}
	if (s) {
		answer(s, &mail->m);
		s->mail = NULL;
		s->errors = result == 0 ? 0 : s->errors;
	}
	session_mail_free(mail);
	if (!s)
		return;
	session_set_step(s, SESSION_COMMAND);
	session_adopt(s);
	if (t->draining || t->stopping) {
		(void)session_shut(s, "421 4.3.2 this server is going down; try again later");
		return;
	}
	s->output_full = false;
	stream_pause_input(s->stream, false);
}
