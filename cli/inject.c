/* inject: one message over SMTP to the first listener of the configuration */
#include <errno.h>
#include <inttypes.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "cli/groups.h"
#include "cli/place.h"
#include "cli/table.h"
#include "cli/text.h"
#include "common/base/buf.h"
#include "common/base/err.h"
#include "common/base/fd.h"
#include "common/base/ip.h"
#include "common/base/xalloc.h"
#include "common/conf/conf.h"
#include "common/smtp/reply.h"

#define MESSAGE_MAX ((size_t)1 << 30)
#define TIMEOUT_SECONDS 300
/* The kernel accepts for a listener that nobody serves: the greeting tells. */
#define GREETING_SECONDS 20

struct smtp {
	int fd;
	struct buf in;
	struct reply reply;
	bool eightbit, utf8; /* offered */
};

/* --- talking --- */

/* Reads one reply; 0, ERR_CLOSED, ERR_TIMEOUT or ERR_INVALID. */
static int read_reply(struct smtp *s)
{
	size_t used;
	ssize_t n;
	int rc;

	reply_reset(&s->reply);
	for (;;) {
		rc = reply_parse(&s->reply, buf_slice(&s->in), &used);
		buf_consume(&s->in, used);
		if (rc != 0)
			return rc < 0 ? rc : 0;
		do
			n = recv(s->fd, buf_reserve(&s->in, 4096), 4096, 0);
		while (n < 0 && errno == EINTR);
		if (n <= 0)
			return n == 0 ? ERR_CLOSED : errno == EAGAIN ? ERR_TIMEOUT : ERR_SYS;
		s->in.n += (size_t)n;
	}
}

static int send_bytes(struct smtp *s, const char *p, size_t n)
{
	while (n) {
		ssize_t sent = send(s->fd, p, n, MSG_NOSIGNAL);

		if (sent < 0 && errno == EINTR)
			continue;
		if (sent < 0)
			return errno == EAGAIN ? ERR_TIMEOUT : ERR_CLOSED;
		p += sent;
		n -= (size_t)sent;
	}
	return 0;
}

/* Sends one command line and reads its reply; the class of the code (2 to 5), or an error. */
static int ask(struct smtp *s, const char *fmt, ...) ATTR_PRINTF(2, 3);
static int ask(struct smtp *s, const char *fmt, ...)
{
	struct buf line = BUF_INIT;
	va_list ap;
	int err;

	va_start(ap, fmt);
	buf_vaddf(&line, fmt, ap);
	va_end(ap);
	buf_add_str(&line, "\r\n");
	err = send_bytes(s, line.p, line.n);
	buf_done(&line);
	if (!err)
		err = read_reply(s);
	return err ? err : s->reply.code / 100;
}

/* --- the message --- */

/* Lines with CRLF, dots doubled, the final dot: what goes over the wire. */
static void to_wire(struct slice text, struct buf *wire)
{
	struct slice line;

	while (text.n) {
		ptrdiff_t eol = slice_chr(text, '\n');

		line = slice_sub(text, 0, eol < 0 ? text.n : (size_t)eol);
		text = slice_from(text, eol < 0 ? text.n : (size_t)eol + 1);
		if (line.n && line.p[line.n - 1] == '\r')
			line.n--;
		if (line.n && line.p[0] == '.')
			buf_add_char(wire, '.');
		buf_add_slice(wire, line);
		buf_add_str(wire, "\r\n");
	}
	buf_add_str(wire, ".\r\n");
}

static bool has_8bit(const char *p, size_t n)
{
	size_t i;

	for (i = 0; i < n; i++)
		if ((unsigned char)p[i] & 0x80)
			return true;
	return false;
}

/* A bare address for MAIL and RCPT: no line ends, no brackets. NULL: it is none. */
static char *bare_address(const char *text)
{
	struct slice s = slice_str(text);

	if (s.n >= 2 && s.p[0] == '<' && s.p[s.n - 1] == '>')
		s = slice_sub(s, 1, s.n - 2);
	return strcspn(text + (s.p - text), "\r\n<>") < s.n ? NULL : slice_dup(s);
}

static char *default_sender(const struct conf *c)
{
	const struct passwd *pw = getpwuid(getuid());

	return xasprintf("%s@%s", pw ? pw->pw_name : "root", conf_global(c)->host_name);
}

/* --- the connection --- */

static void set_patience(const struct smtp *s, time_t seconds)
{
	struct timeval patience = {.tv_sec = seconds};

	(void)!setsockopt(s->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	(void)!setsockopt(s->fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
}

static int connect_listener(const struct conf *c, struct smtp *s, char **ret_name)
{
	const struct conf_listener *l = conf_listener_at(c, 0);
	struct sockaddr_storage ss;
	char text[IP_TEXT_MAX];
	struct ip ip = l->ip;
	socklen_t len;

	/* a listener on any address also listens on this one */
	ip_text(&ip, text);
	if (strcmp(text, "0.0.0.0") == 0)
		(void)!ip_parse(slice_str("127.0.0.1"), &ip);
	else if (strcmp(text, "::") == 0)
		(void)!ip_parse(slice_str("::1"), &ip);
	ip_text(&ip, text);
	*ret_name = xasprintf("%s port %u", text, l->port);
	len = ip_to_sockaddr(&ip, l->port, &ss);
	s->fd = socket(ss.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (s->fd < 0)
		return ERR_SYS;
	set_patience(s, GREETING_SECONDS);
	return connect(s->fd, (struct sockaddr *)&ss, len) < 0 ? ERR_SYS : 0;
}

static int hello(struct smtp *s, const char *name)
{
	struct slice line;
	uint32_t k;
	int rc = read_reply(s);

	if (rc || s->reply.code / 100 != 2)
		return rc ? rc : ERR_REFUSED;
	set_patience(s, TIMEOUT_SECONDS);
	rc = ask(s, "EHLO %s", name);
	if (rc != 2)
		return rc < 0 ? rc : ERR_REFUSED;
	for (k = 1; reply_line(&s->reply, k, &line); k++) {
		s->eightbit = s->eightbit || slice_ieq_str(line, "8BITMIME");
		s->utf8 = s->utf8 || slice_ieq_str(line, "SMTPUTF8");
	}
	return 0;
}

static json_t *reply_text(const struct smtp *s)
{
	return json_stringn(s->reply.text.p ? s->reply.text.p : "", s->reply.text.n);
}

/* MAIL, then each RCPT: who was taken and who was not goes into result. */
static int envelope(struct smtp *s, const char *from, const struct invocation *i, bool eightbit,
		    json_t *result)
{
	json_t *accepted = json_object_get(result, "accepted"),
	       *refused = json_object_get(result, "refused");
	bool utf8 = has_8bit(from, strlen(from));
	size_t k;
	int rc;

	for (k = 0; k < i->arg_count; k++)
		utf8 = utf8 || has_8bit(i->args[k], strlen(i->args[k]));
	rc = ask(s, "MAIL FROM:<%s>%s%s", from, eightbit && s->eightbit ? " BODY=8BITMIME" : "",
		 utf8 && s->utf8 ? " SMTPUTF8" : "");
	if (rc != 2)
		return rc < 0 ? rc : ERR_REFUSED;
	for (k = 0; k < i->arg_count; k++) {
		char *rcpt = bare_address(i->args[k]);

		rc = ask(s, "RCPT TO:<%s>", rcpt);
		if (rc == 2)
			json_array_append_new(accepted, json_string(rcpt));
		else if (rc > 0)
			json_array_append_new(refused, json_pack("{s:s, s:o}", "rcpt", rcpt,
								 "reply", reply_text(s)));
		free(rcpt);
		if (rc < 0)
			return rc;
	}
	return json_array_size(accepted) ? 0 : ERR_REFUSED;
}

static int transaction(struct smtp *s, const struct conf *c, const char *from,
		       const struct invocation *i, const struct buf *wire, json_t *result)
{
	int rc = hello(s, conf_global(c)->host_name);

	if (!rc)
		rc = envelope(s, from, i, has_8bit(wire->p, wire->n), result);
	if (rc)
		return rc;
	rc = ask(s, "DATA");
	if (rc != 3)
		return rc < 0 ? rc : ERR_REFUSED;
	rc = send_bytes(s, wire->p, wire->n);
	if (!rc)
		rc = read_reply(s);
	if (!rc && s->reply.code / 100 != 2)
		rc = ERR_REFUSED;
	if (!rc) {
		json_object_set_new(result, "reply", reply_text(s));
		(void)!ask(s, "QUIT");
	}
	return rc;
}

/* --- the command --- */

static void print_result(struct cli *cli, const json_t *result)
{
	const json_t *accepted = json_object_get(result, "accepted");
	struct buf b = BUF_INIT;

	text_value(&b, json_object_get(result, "reply"), COL_TEXT);
	fprintf(cli->out, "%s (%zu recipient%s)\n", buf_cstr(&b), json_array_size(accepted),
		json_array_size(accepted) == 1 ? "" : "s");
	buf_done(&b);
}

static int say_failure(int err, const struct smtp *s, const char *name, const json_t *result)
{
	if (err == ERR_SYS)
		return cli_error(CLI_NO_DAEMON,
				 "%s: %s: is sluiced running, with the same configuration?", name,
				 strerror(errno));
	if (err != ERR_REFUSED)
		return cli_error(CLI_NO_DAEMON, "%s: %s: the message may not have been taken", name,
				 err_text(err));
	if (json_array_size(json_object_get(result, "refused")))
		return cli_error(CLI_REFUSED, "no recipient was accepted");
	return cli_error(CLI_REFUSED, "%s: %.*s", name, (int)s->reply.text.n, s->reply.text.p);
}

static void say_refused(const json_t *result)
{
	const json_t *refused = json_object_get(result, "refused"), *row;
	size_t k;

	for (k = 0; (row = json_array_get(refused, k)); k++)
		cli_error(CLI_REFUSED, "%s: %s", json_string_value(json_object_get(row, "rcpt")),
			  json_string_value(json_object_get(row, "reply")));
}

static int inject(struct cli *cli, const struct conf *c, const struct invocation *i,
		  const char *from, const struct buf *wire)
{
	json_t *result = json_pack("{s:n, s:[], s:[]}", "reply", "accepted", "refused");
	struct smtp s = {.fd = -1};
	char *name = NULL;
	int rc, err;

	reply_init(&s.reply);
	err = connect_listener(c, &s, &name);
	if (!err)
		err = transaction(&s, c, from, i, wire, result);
	say_refused(result);
	rc = err ? say_failure(err, &s, name, result) : CLI_DONE;
	if (!err) {
		cli_show_object(cli, result, print_result);
		rc = json_array_size(json_object_get(result, "refused")) ? CLI_REFUSED : CLI_DONE;
	}
	if (s.fd >= 0)
		close(s.fd);
	reply_done(&s.reply);
	buf_done(&s.in);
	free(name);
	json_decref(result);
	return rc;
}

static int check_addresses(const struct invocation *i)
{
	size_t k;

	for (k = 0; k < i->arg_count; k++) {
		char *a = bare_address(i->args[k]);
		bool bad = !a || !*a;

		free(a);
		if (bad)
			return cli_error(CLI_USAGE, "%s: this is no address", i->args[k]);
	}
	return 0;
}

int inject_run(struct cli *cli, const struct invocation *i)
{
	struct buf text = BUF_INIT, wire = BUF_INIT;
	const struct conf *c = cli_conf(cli);
	char *from;
	int rc = check_addresses(i);

	if (rc)
		return rc;
	if (!c)
		return CLI_REFUSED;
	if (conf_listener_count(c) == 0)
		return cli_error(CLI_REFUSED, "%s has no [smtp-listener]", cli->conf_path);
	from = option_given(i, OPTION_FROM) ? bare_address(i->text[OPTION_FROM])
					    : default_sender(c);
	if (!from)
		return cli_error(CLI_USAGE, "%s: this is no address", i->text[OPTION_FROM]);
	rc = fd_read_all(STDIN_FILENO, MESSAGE_MAX, &text);
	if (rc) {
		rc = cli_error(CLI_REFUSED, "standard input: %s", err_text(rc));
	} else {
		to_wire(buf_slice(&text), &wire);
		rc = inject(cli, c, i, from, &wire);
	}
	buf_done(&text);
	buf_done(&wire);
	free(from);
	return rc;
}
