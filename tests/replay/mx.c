#include "tests/replay/mx.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/xalloc.h"

struct session {
	unsigned number;
	struct ip source;
	struct buf in;
	bool in_data, gone, mail;
	unsigned accepted; /* recipients of this transaction */
	size_t body;
	char rcpts[200];
};

static struct mx_entry *note(struct mx *mx, const struct session *s, enum mx_event what,
			     struct slice line)
{
	struct mx_entry *e;

	if ((mx->entries & (mx->entries - 1)) == 0)
		mx->journal = xreallocarray(mx->journal, mx->entries ? 2 * mx->entries : 1,
					    sizeof(*mx->journal));
	e = &mx->journal[mx->entries++];
	*e = (struct mx_entry){
		.at = fake_elapsed(), .what = what, .connection = s->number, .source = s->source};
	slice_copy(line, e->text, sizeof(e->text));
	return e;
}

/* Notes the event and answers; returns the first digit of the reply, '\0' when the connection ended. */
static char answer(struct fake_peer *p, struct mx *mx, enum mx_event what, struct slice line,
		   const char *usual)
{
	struct session *s = fake_peer_state(p);
	struct mx_entry *e = note(mx, s, what, line);
	const char *text;
	char full[400];

	mx->source = *fake_peer_source(p);
	text = mx->answer ? mx->answer(mx, what, s->number, e->text) : NULL;
	if (!text)
		text = usual;
	snprintf(mx->journal[mx->entries - 1].reply, sizeof(e->reply), "%s", text);
	if (*text) {
		snprintf(full, sizeof(full), "%s\r\n", text);
		fake_peer_send(p, full);
	}
	if (*text == '\0' || strncmp(text, "421", 3) == 0) {
		s->gone = true;
		fake_peer_close(p);
		return '\0';
	}
	return *text;
}

static void send_ehlo(struct fake_peer *p, struct mx *mx)
{
	struct slice rest = slice_str(mx->extensions ? mx->extensions
						     : "PIPELINING 8BITMIME SIZE DSN"),
		     word;
	struct buf b = BUF_INIT;

	buf_add_str(&b, "250-mx.test\r\n");
	while (slice_next(&rest, ' ', &word))
		buf_addf(&b, "250%c%.*s\r\n", rest.p ? '-' : ' ', SLICE_ARG(word));
	fake_peer_send(p, buf_cstr(&b));
	buf_done(&b);
}

static void on_ehlo(struct fake_peer *p, struct mx *mx, struct slice line)
{
	struct session *s = fake_peer_state(p);
	const char *text;

	note(mx, s, MX_EHLO, line);
	text = mx->answer ? mx->answer(mx, MX_EHLO, s->number, "") : NULL;
	if (!text) {
		send_ehlo(p, mx);
		return;
	}
	mx->entries--;
	(void)answer(p, mx, MX_EHLO, line, text);
}

static void on_rcpt(struct fake_peer *p, struct mx *mx, struct slice line)
{
	struct session *s = fake_peer_state(p);

	if (answer(p, mx, MX_RCPT, line, s->mail ? "250 2.1.5 ok" : "503 5.5.1 MAIL first") ==
		    '2' &&
	    s->mail) {
		size_t n = strlen(s->rcpts);

		s->accepted++;
		snprintf(s->rcpts + n, sizeof(s->rcpts) - n, "%.*s ",
			 SLICE_ARG(slice_from(line, 8)));
	}
}

static void on_dot(struct fake_peer *p, struct mx *mx)
{
	struct session *s = fake_peer_state(p);

	s->in_data = s->mail = false;
	if (answer(p, mx, MX_DONE, slice_str(s->rcpts), "250 2.0.0 queued") == '2')
		mx->delivered += s->accepted;
}

static void on_command(struct fake_peer *p, struct mx *mx, struct slice line)
{
	struct session *s = fake_peer_state(p);

	if (slice_istarts(line, "EHLO") || slice_istarts(line, "HELO")) {
		on_ehlo(p, mx, line);
	} else if (slice_istarts(line, "STARTTLS")) {
		(void)answer(p, mx, MX_STARTTLS, line, "220 2.0.0 go");
	} else if (slice_istarts(line, "MAIL")) {
		s->accepted = 0;
		s->rcpts[0] = '\0';
		mx->transactions++;
		s->mail = answer(p, mx, MX_MAIL, line, "250 2.1.0 ok") == '2';
	} else if (slice_istarts(line, "RCPT")) {
		on_rcpt(p, mx, line);
	} else if (slice_istarts(line, "DATA")) {
		const char *usual = s->accepted ? "354 go" : "554 5.5.1 no valid recipients";

		if (answer(p, mx, MX_DATA, line, usual) == '3')
			s->in_data = true;
	} else if (slice_istarts(line, "RSET")) {
		(void)answer(p, mx, MX_RSET, line, "250 2.0.0 ok");
	} else if (slice_istarts(line, "QUIT")) {
		(void)answer(p, mx, MX_QUIT, line, "221 2.0.0 bye");
		fake_peer_close(p);
		s->gone = true;
	} else {
		fake_peer_send(p, "500 5.5.2 what?\r\n");
	}
}

static void on_open(struct fake_peer *p, void *arg)
{
	struct mx *mx = arg;
	struct session *s = xcalloc(1, sizeof(*s));

	s->number = ++mx->connections;
	s->source = *fake_peer_source(p);
	fake_peer_set_state(p, s);
	if (++mx->open > mx->peak)
		mx->peak = mx->open;
	(void)answer(p, mx, MX_OPEN, slice_str(""), "220 mx.test ESMTP");
}

static void on_line(struct fake_peer *p, struct mx *mx, struct slice line)
{
	struct session *s = fake_peer_state(p);

	if (!s->in_data)
		on_command(p, mx, line);
	else if (slice_eq_str(line, "."))
		on_dot(p, mx);
	else
		s->body += line.n + 2;
}

static void on_data(struct fake_peer *p, struct slice data, void *arg)
{
	struct session *s = fake_peer_state(p);
	size_t done = 0;
	ptrdiff_t eol;

	buf_add_slice(&s->in, data);
	while (!s->gone && (eol = slice_chr(slice_from(buf_slice(&s->in), done), '\n')) >= 0) {
		struct slice line = slice_sub(buf_slice(&s->in), done, (size_t)eol);

		done += (size_t)eol + 1;
		on_line(p, arg, slice_trim(line));
	}
	buf_consume(&s->in, done);
}

static void on_close(struct fake_peer *p, bool aborted, void *arg)
{
	struct mx *mx = arg;
	struct session *s = fake_peer_state(p);

	note(mx, s, MX_CLOSE, slice_str(aborted ? "aborted" : ""));
	mx->open--;
	buf_done(&s->in);
	free(s);
}

void mx_listen(struct mx *mx, const char *ip, uint16_t port)
{
	static const struct fake_service service = {
		.on_open = on_open, .on_data = on_data, .on_close = on_close};

	fake_host(ip, port, FAKE_LISTENING, &service, mx);
}

void mx_done(struct mx *mx)
{
	free(mx->journal);
	mx->journal = NULL;
	mx->entries = 0;
}

size_t mx_count(const struct mx *mx, enum mx_event what)
{
	size_t i, n = 0;

	for (i = 0; i < mx->entries; i++)
		n += mx->journal[i].what == what;
	return n;
}

const struct mx_entry *mx_nth(const struct mx *mx, enum mx_event what, size_t i)
{
	size_t k;

	for (k = 0; k < mx->entries; k++)
		if (mx->journal[k].what == what && i-- == 0)
			return &mx->journal[k];
	return NULL;
}
