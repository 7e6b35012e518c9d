#include <stdio.h>
#include <stdlib.h>

#include "common/base/xalloc.h"
#include "common/smtp/address.h"
#include "spooler/session_private.h"

struct session_command {
	const char *verb;
	enum session_step (*run)(struct session *s, struct slice arg);
	bool argument; /* may have one */
	bool hello; /* only after EHLO or HELO */
};

/* The name that a client gives: a domain or an address literal, or near enough to be harmless. */
static bool helo_valid(struct slice name)
{
	size_t i;

	if (name.n == 0 || name.n > ADDRESS_DOMAIN_MAX)
		return false;
	for (i = 0; i < name.n; i++) {
		char c = name.p[i];

		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
		      c == '.' || c == '-' || c == '_' || c == ':' || c == '[' || c == ']'))
			return false;
	}
	return true;
}

static bool take_hello(struct session *s, struct slice arg, bool esmtp)
{
	if (!helo_valid(arg))
		return false;
	session_mail_reset(s);
	session_adopt(s);
	free(s->helo);
	s->helo = slice_dup(arg);
	s->esmtp = esmtp;
	return true;
}

static enum session_step cmd_helo(struct session *s, struct slice arg)
{
	if (!take_hello(s, arg, false))
		return session_error(s,
				     "501 5.5.4 HELO needs your host name: HELO host.example.com");
	session_replyf(s, "250 %s", s->conf->host);
	return SESSION_COMMAND;
}

static enum session_step cmd_ehlo(struct session *s, struct slice arg)
{
	const struct conf_source *src;

	if (!take_hello(s, arg, true))
		return session_error(s,
				     "501 5.5.4 EHLO needs your host name: EHLO host.example.com");
	src = s->source;
	session_replyf(s, "250-%s", s->conf->host);
	session_reply(s, "250-PIPELINING");
	if (src->max_message_size == UINT64_MAX || src->max_message_size == 0)
		session_reply(s, "250-SIZE 0");
	else
		session_replyf(s, "250-SIZE %llu", (unsigned long long)src->max_message_size);
	session_reply(s, "250-8BITMIME");
	session_reply(s, "250-DSN");
	if (src->allow_chunking)
		session_reply(s, "250-CHUNKING");
	if (src->allow_smtputf8)
		session_reply(s, "250-SMTPUTF8");
	session_reply(s, "250 ENHANCEDSTATUSCODES");
	return SESSION_COMMAND;
}

static enum session_step cmd_data(struct session *s, struct slice arg ATTR_UNUSED)
{
	if (!s->mail)
		return session_error(s, "503 5.5.1 send MAIL and RCPT before DATA");
	if (s->mail->chunked)
		return session_error(s,
				     "503 5.5.1 this message was begun with BDAT; go on with BDAT "
				     "or send RSET");
	if (s->mail->m.recipient_count == 0)
		return session_error(s, "554 5.5.1 no valid recipients");
	session_reply(s, "354 end the message with a line that holds only a dot");
	return SESSION_DATA;
}

static bool parse_bdat(struct session *s, struct slice arg)
{
	struct slice number = arg, last = slice_of("", 0);
	ptrdiff_t at = slice_chr(arg, ' ');

	if (at >= 0) {
		number = slice_sub(arg, 0, (size_t)at);
		last = slice_trim(slice_from(arg, (size_t)at));
	}
	if (number.n > 18 || !slice_u64(number, &s->chunk_size))
		return false;
	s->chunk_last = last.n > 0;
	return last.n == 0 || slice_ieq_str(last, "LAST");
}

static enum session_step cmd_bdat(struct session *s, struct slice arg)
{
	if (!parse_bdat(s, arg)) {
		/* The octets of this chunk cannot be told from commands. */
		session_reply(s,
			      "501 5.5.4 say BDAT SIZE or BDAT SIZE LAST; closing the connection");
		return SESSION_CLOSE;
	}
	s->chunk_left = s->chunk_size;
	s->chunk_refused =
		!s->mail || s->mail->m.recipient_count == 0 || !s->source->allow_chunking;
	if (!s->chunk_refused)
		s->mail->chunked = true;
	return SESSION_CHUNK;
}

static enum session_step cmd_rset(struct session *s, struct slice arg ATTR_UNUSED)
{
	session_mail_reset(s);
	session_reply(s, "250 2.0.0 OK");
	return SESSION_COMMAND;
}

static enum session_step cmd_noop(struct session *s, struct slice arg ATTR_UNUSED)
{
	session_reply(s, "250 2.0.0 OK");
	return SESSION_COMMAND;
}

static enum session_step cmd_quit(struct session *s, struct slice arg ATTR_UNUSED)
{
	session_reply(s, "221 2.0.0 bye");
	return SESSION_CLOSE;
}

static enum session_step cmd_vrfy(struct session *s, struct slice arg)
{
	if (arg.n == 0)
		return session_error(s, "501 5.5.4 VRFY needs an address");
	session_reply(s, "252 2.0.0 addresses are not verified here; send mail to find out");
	return SESSION_COMMAND;
}

static enum session_step cmd_help(struct session *s, struct slice arg ATTR_UNUSED)
{
	session_reply(s, "214-2.0.0 This is Sluice. Commands:");
	session_reply(s, "214 2.0.0 EHLO HELO MAIL RCPT DATA BDAT RSET NOOP VRFY HELP QUIT");
	return SESSION_COMMAND;
}

static enum session_step cmd_not_done(struct session *s, struct slice arg ATTR_UNUSED)
{
	return session_error(s, "502 5.5.1 this command is not implemented; see HELP");
}

/* A browser that was led here by a web page: whatever comes next is not from a mail client. */
static enum session_step cmd_web(struct session *s, struct slice arg ATTR_UNUSED)
{
	session_reply(s, "421 4.7.0 this is SMTP, not HTTP; closing the connection");
	return SESSION_CLOSE;
}

static const struct session_command commands[] = {
	{"MAIL", session_mail_command, true, true},
	{"RCPT", session_rcpt_command, true, true},
	{"DATA", cmd_data, false, true},
	{"BDAT", cmd_bdat, true, true},
	{"EHLO", cmd_ehlo, true, false},
	{"HELO", cmd_helo, true, false},
	{"RSET", cmd_rset, false, false},
	{"QUIT", cmd_quit, false, false},
	{"NOOP", cmd_noop, true, false},
	{"VRFY", cmd_vrfy, true, false},
	{"HELP", cmd_help, true, false},
	{"EXPN", cmd_not_done, true, false},
	{"TURN", cmd_not_done, true, false},
	{"ETRN", cmd_not_done, true, false},
	{"SEND", cmd_not_done, true, false},
	{"SOML", cmd_not_done, true, false},
	{"SAML", cmd_not_done, true, false},
	{"STARTTLS", cmd_not_done, true, false},
	{"AUTH", cmd_not_done, true, false},
	{"GET", cmd_web, true, false},
	{"POST", cmd_web, true, false},
	{"PUT", cmd_web, true, false},
	{"CONNECT", cmd_web, true, false},
	{"OPTIONS", cmd_web, true, false},
};

static const struct session_command *find_command(struct slice verb)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(commands); i++)
		if (slice_ieq_str(verb, commands[i].verb))
			return &commands[i];
	return NULL;
}

/* One complete line without its CRLF. */
static enum session_step run_line(struct session *s, struct slice line)
{
	const struct session_command *c;
	struct slice verb = line, arg = slice_of("", 0);
	ptrdiff_t at = slice_chr(line, ' ');

	log_debug(&s->log, "command", LOG_SL("line", line));
	if (at >= 0) {
		verb = slice_sub(line, 0, (size_t)at);
		arg = slice_trim(slice_from(line, (size_t)at));
	}
	c = find_command(verb);
	if (!c)
		return session_error(s, "500 5.5.1 command not recognized; see HELP");
	if (arg.n && !c->argument)
		return session_errorf(s, "501 5.5.4 %s takes no argument", c->verb);
	if (c->hello && !s->helo && c->run != cmd_bdat)
		return session_errorf(s, "503 5.5.1 send EHLO or HELO before %s", c->verb);
	return c->run(s, arg);
}

/* Nothing of what a client with wrong line ends sends can be trusted to be a command. */
static enum session_step refuse_line_end(struct session *s, const char *what)
{
	session_replyf(s,
		       "500 5.5.2 the command line has a bare %s; lines must end with CRLF; "
		       "closing the connection",
		       what);
	return SESSION_CLOSE;
}

/* Over-long: the rest of the line is skipped as it comes. */
static enum session_step skip_line(struct session *s, struct slice in, ptrdiff_t lf)
{
	s->skip_line = lf < 0;
	stream_consume(s->stream, lf < 0 ? in.n : (size_t)lf + 1);
	if (lf < 0)
		return SESSION_MORE;
	return session_error(s, "500 5.5.2 the command line is longer than 4096 octets");
}

enum session_step session_step_command(struct session *s)
{
	struct slice in = stream_input(s->stream), line;
	ptrdiff_t lf = slice_chr(in, '\n');
	enum session_step next;

	if (s->skip_line || lf > SESSION_COMMAND_MAX || (lf < 0 && in.n > SESSION_COMMAND_MAX))
		return in.n ? skip_line(s, in, lf) : SESSION_MORE;
	if (lf < 0)
		return SESSION_MORE;
	line = slice_sub(in, 0, (size_t)lf);
	if (line.n == 0 || line.p[line.n - 1] != '\r')
		return refuse_line_end(s, "LF");
	line.n--;
	if (slice_chr(line, '\r') >= 0)
		return refuse_line_end(s, "CR");
	next = run_line(s, line);
	stream_consume(s->stream, (size_t)lf + 1);
	if (next == SESSION_COMMAND && !s->mail && s->thread->draining) {
		session_reply(s, "421 4.3.2 this server is going down; try again later");
		return SESSION_CLOSE;
	}
	return next;
}
