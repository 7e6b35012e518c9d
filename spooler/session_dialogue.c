#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/xalloc.h"
#include "spooler/session_private.h"

/* How long the last reply has to leave. */
#define CLOSE_WITHIN (5 * USEC_PER_SEC)
#define REPLY_SIZE 1024

static enum session_step (*const step_run[])(struct session *s) = {
#define STEP_RUN(name, run, timeout) [SESSION_##name] = run,
	SESSION_STEP_LIST(STEP_RUN)
#undef STEP_RUN
};

static const char *const step_names[] = {
#define STEP_NAME(name, run, timeout) [SESSION_##name] = #name,
	SESSION_STEP_LIST(STEP_NAME)
#undef STEP_NAME
		[SESSION_MORE] = "MORE",
	[SESSION_CLOSE] = "CLOSE",
};

static usec_t step_timeout(const struct session *s)
{
	switch (s->step) {
#define STEP_TIMEOUT(name, run, timeout) \
	case SESSION_##name:             \
		return s->source->timeout;
		SESSION_STEP_LIST(STEP_TIMEOUT)
#undef STEP_TIMEOUT
	case SESSION_MORE:
	case SESSION_CLOSE:
		break;
	}
	return s->source->smtp_command_timeout;
}

static void apply_timeout(struct session *s)
{
	usec_t t = step_timeout(s);

	if (t == s->timeout)
		return;
	s->timeout = t;
	stream_timeout(s->stream, t, t);
}

void session_reply(struct session *s, const char *line)
{
	log_debug(&s->log, "reply", LOG_S("text", line));
	stream_write(s->stream, line, strlen(line));
	stream_write(s->stream, "\r\n", 2);
}

void session_replyf(struct session *s, const char *fmt, ...)
{
	char line[REPLY_SIZE];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	session_reply(s, line);
}

static enum session_step count_error(struct session *s)
{
	if (++s->errors < SESSION_ERRORS_MAX)
		return SESSION_COMMAND;
	session_reply(s, "421 4.7.0 too many errors in this session; closing the connection");
	return SESSION_CLOSE;
}

enum session_step session_error(struct session *s, const char *line)
{
	session_reply(s, line);
	return count_error(s);
}

enum session_step session_errorf(struct session *s, const char *fmt, ...)
{
	char line[REPLY_SIZE];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	session_reply(s, line);
	return count_error(s);
}

/* The stream is gone or goes by itself; all else ends here. */
static void session_release(struct session *s)
{
	struct session_thread *t = s->thread;

	if (s->step == SESSION_COMMIT && s->mail)
		s->mail->session = NULL;
	else
		session_mail_free(s->mail);
	s->mail = NULL;
	LIST_REMOVE(s, link);
	session_client_gone(t->server, &s->ip);
	counter_sub(t->server->counters, COUNTER_CONNECTIONS_IN_OPEN, 1);
	atomic_fetch_sub(&t->server->open, 1);
	session_conf_unref(s->conf);
	free(s->helo);
	free(s->source_name);
	s->magic = 0;
	loop_defer_free(t->loop, s);
}

void session_free(struct session *s)
{
	stream_free(s->stream);
	session_release(s);
}

/* What has been written still leaves. */
static void session_end(struct session *s)
{
	stream_close_after_flush(s->stream, CLOSE_WITHIN);
	session_release(s);
}

bool session_shut(struct session *s, const char *line)
{
	if (s->step == SESSION_COMMIT)
		return false;
	session_reply(s, line);
	session_end(s);
	return true;
}

void session_set_step(struct session *s, enum session_step next)
{
	log_debug(&s->log, "step", LOG_S("from", step_names[s->step]),
		  LOG_S("to", step_names[next]));
	s->step = next;
	s->log.doing = step_names[next];
	apply_timeout(s);
}

/* The one driver: runs steps until one needs input, the committer, or the client's attention. */
void session_run(struct session *s)
{
	for (;;) {
		enum session_step next;

		if (stream_output_pending(s->stream) > SESSION_OUTPUT_MAX) {
			s->output_full = true;
			stream_pause_input(s->stream, true);
			return;
		}
		next = step_run[s->step](s);
		if (next == SESSION_MORE)
			return;
		if (next == SESSION_CLOSE) {
			session_end(s);
			return;
		}
		if (next != s->step)
			session_set_step(s, next);
		if (next == SESSION_COMMIT) {
			stream_pause_input(s->stream, true);
			return;
		}
	}
}

static void on_drained(struct session *s)
{
	if (!s->output_full || s->step == SESSION_COMMIT)
		return;
	s->output_full = false;
	stream_pause_input(s->stream, false);
}

static void on_stream(struct stream *stream ATTR_UNUSED, enum stream_event what, void *arg)
{
	struct session *s;

	CAST_MAGIC(s, arg, SESSION_MAGIC);
	switch (what) {
	case STREAM_DATA:
		if (s->step != SESSION_COMMIT && !s->output_full)
			session_run(s);
		break;
	case STREAM_DRAINED:
		on_drained(s);
		break;
	case STREAM_EOF:
		log_debug(&s->log, "client closed the connection");
		session_free(s);
		break;
	case STREAM_ERROR:
		log_debug(&s->log, "connection lost", LOG_S("error", stream_error(s->stream)));
		session_free(s);
		break;
	case STREAM_TIMEOUT:
		log_debug(&s->log, "client is idle");
		session_reply(s, "421 4.4.2 idle for too long; closing the connection");
		session_end(s);
		break;
	case STREAM_CONNECTED:
	case STREAM_TLS_READY:
		break;
	}
}

static void use_conf(struct session *s, struct session_conf *c)
{
	session_conf_ref(c);
	session_conf_unref(s->conf);
	s->conf = c;
	s->source = conf_source_for(c->conf, &s->ip, s->source_name);
}

void session_adopt(struct session *s)
{
	if (s->mail || s->step != SESSION_COMMAND || s->conf == s->thread->conf)
		return;
	use_conf(s, s->thread->conf);
	apply_timeout(s);
}

void session_start(struct session_thread *t, int fd, const struct ip *ip, const char *source_name)
{
	struct session *s = xcalloc(1, sizeof(*s));

	s->magic = SESSION_MAGIC;
	s->thread = t;
	s->ip = *ip;
	(void)ip_text(ip, s->ip_name);
	s->source_name = source_name ? xstrdup(source_name) : NULL;
	s->log = (struct log_ctx){.object = "session", .name = s->ip_name};
	s->step = SESSION_COMMAND;
	use_conf(s, t->conf);
	s->stream = stream_accepted(t->loop, fd, on_stream, s);
	LIST_INSERT_HEAD(&t->sessions, s, link);
	counter_add(t->server->counters, COUNTER_CONNECTIONS_IN, 1);
	counter_add(t->server->counters, COUNTER_CONNECTIONS_IN_OPEN, 1);
	apply_timeout(s);
	session_replyf(s, "220 %s ESMTP Sluice", s->conf->host);
}
