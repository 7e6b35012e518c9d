/* links: common/base common/conf common/spool common/smtp common/acct common/dns/route.c common/dns/wire.c cli -cli/main.c */
#include "tests/unit/cli_fake.h"

/* A server that plays a script: each line that begins with "> " is sent, "< " must come. */
struct server {
	int listener;
	uint16_t port;
	const char *script;
	pthread_t thread;
	char wrong[400]; /* what came instead */
};

static bool read_line(int fd, char *to, size_t cap)
{
	size_t n = 0;

	while (n < cap - 1 && read(fd, to + n, 1) == 1)
		if (to[n++] == '\n')
			break;
	to[n] = '\0';
	return n > 0;
}

static void *serve(void *arg)
{
	struct server *s = arg;
	int fd = accept(s->listener, NULL, NULL);
	char *script = strdup(s->script), *rest = script, *line, got[4000], want[4000];

	while ((line = strsep(&rest, "\n")) && *line && !s->wrong[0]) {
		snprintf(want, sizeof(want), "%s\r\n", line + 2);
		if (line[0] == '>')
			cr_assert_eq(write(fd, want, strlen(want)), (ssize_t)strlen(want));
		else if (!read_line(fd, got, sizeof(got)) || strcmp(got, want) != 0)
			snprintf(s->wrong, sizeof(s->wrong), "%.190s instead of %.190s", got, want);
	}
	close(fd);
	free(script);
	return NULL;
}

static void server_start(struct server *s, const char *script)
{
	struct sockaddr_in sin = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(sin);

	memset(s, 0, sizeof(*s));
	s->script = script;
	s->listener = socket(AF_INET, SOCK_STREAM, 0);
	cr_assert_eq(bind(s->listener, (struct sockaddr *)&sin, sizeof(sin)), 0);
	cr_assert_eq(listen(s->listener, 1), 0);
	cr_assert_eq(getsockname(s->listener, (struct sockaddr *)&sin, &len), 0);
	s->port = ntohs(sin.sin_port);
	cr_assert_eq(pthread_create(&s->thread, NULL, serve, s), 0);
}

/* Runs inject with this message on standard input. */
static int inject(struct fake *f, struct server *s, const char *script, const char *message,
		  const char *line)
{
	FILE *in = tmpfile();
	int rc;

	fputs(message, in);
	rewind(in);
	cr_assert_geq(dup2(fileno(in), STDIN_FILENO), 0);
	fclose(in);
	server_start(s, script);
	fake_init(f, s->port);
	rc = fake_run(f, 0, line);
	pthread_join(s->thread, NULL);
	close(s->listener);
	return rc;
}

Test(cli_inject, sends_the_message_as_smtp_wants_it)
{
	static const char script[] =
		"> 220 mta.test ESMTP\n< EHLO mta.test\n> 250-mta.test\n> 250-8BITMIME\n"
		"> 250 SMTPUTF8\n< MAIL FROM:<me@a.test> BODY=8BITMIME\n> 250 2.1.0 ok\n"
		"< RCPT TO:<you@b.test>\n> 250 2.1.5 ok\n< DATA\n> 354 go\n"
		"< Subject: x\n< \n< ..dot\n< \xc3\xa4 last\n< .\n> 250 2.0.0 queued as 17\n< "
		"QUIT\n> 221 bye\n";
	struct server s;
	struct fake f;

	cr_assert_eq(inject(&f, &s, script, "Subject: x\r\n\n.dot\n\xc3\xa4 last",
			    "inject -f me@a.test <you@b.test>"),
		     CLI_DONE);
	cr_assert_str_eq(s.wrong, "");
	cr_assert_str_eq(f.out, "250 2.0.0 queued as 17 (1 recipient)\n");
	fake_done(&f);
}

Test(cli_inject, says_which_recipients_were_refused, .init = cr_redirect_stderr)
{
	static const char script[] =
		"> 220 x\n< EHLO mta.test\n> 250 x\n< MAIL FROM:<>\n> 250 ok\n"
		"< RCPT TO:<a@b.test>\n> 550 5.1.1 nobody\n< RCPT TO:<c@d.test>\n> 250 ok\n"
		"< DATA\n> 354 go\n< hello\n< .\n> 250 ok\n< QUIT\n> 221 bye\n";
	struct server s;
	struct fake f;
	json_t *doc;

	cr_assert_eq(inject(&f, &s, script, "hello\n", "--json inject -f <> a@b.test c@d.test"),
		     CLI_REFUSED);
	cr_assert_str_eq(s.wrong, "");
	cr_assert(strstr(fake_said(), "a@b.test: 550 5.1.1 nobody"));
	doc = json_loads(f.out, 0, NULL);
	cr_assert_eq(json_array_size(json_object_get(doc, "accepted")), 1);
	cr_assert_eq(json_array_size(json_object_get(doc, "refused")), 1);
	json_decref(doc);
	fake_done(&f);
}

Test(cli_inject, fails_as_the_server_does, .init = cr_redirect_stderr)
{
	static const struct {
		const char *script;
		int status;
		const char *says;
	} cases[] = {
		{"> 521 no mail here\n", CLI_REFUSED, "521 no mail here"},
		{"> 220 x\n< EHLO mta.test\n> 250 x\n< MAIL FROM:<a@b>\n> 452 4.3.1 spool full\n",
		 CLI_REFUSED, "452 4.3.1 spool full"},
		{"> 220 x\n< EHLO mta.test\n> 250 x\n< MAIL FROM:<a@b>\n> 250 ok\n< RCPT "
		 "TO:<c@d>\n> 550 no\n",
		 CLI_REFUSED, "no recipient was accepted"},
		{"> 220 x\n< EHLO mta.test\n> 250 x\n< MAIL FROM:<a@b>\n> 250 ok\n< RCPT "
		 "TO:<c@d>\n> 250 ok\n"
		 "< DATA\n> 354 go\n< hello\n< .\n> 451 4.3.0 later\n",
		 CLI_REFUSED, "451 4.3.0 later"},
		{"> 220 x\n< EHLO mta.test\n", CLI_NO_DAEMON,
		 "the message may not have been taken"},
		{"> hello\n", CLI_NO_DAEMON, "invalid input"},
	};
	struct server s;
	struct fake f;
	size_t k;

	for (k = 0; k < sizeof(cases) / sizeof(cases[0]); k++) {
		const char *said;

		cr_assert_eq(inject(&f, &s, cases[k].script, "hello\n", "inject -f a@b c@d"),
			     cases[k].status, "case %zu", k);
		said = fake_said();
		cr_assert(strstr(said, cases[k].says), "case %zu: %s", k, said);
		cr_assert_str_eq(f.out, "");
		fake_done(&f);
	}
}

Test(cli_inject, takes_no_address_that_is_a_command, .init = cr_redirect_stderr)
{
	struct fake f;

	fake_init(&f, 1);
	cr_assert_eq(fake_run(&f, 0, "inject -f a@b a@b>\r\nRSET"), CLI_USAGE);
	cr_assert_eq(fake_run(&f, 0, "inject -f <a@b\r\nRSET> a@b"), CLI_USAGE);
	cr_assert_eq(fake_run(&f, 0, "inject -f a@b <>"), CLI_USAGE);
	fake_done(&f);
}
