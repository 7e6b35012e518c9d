/* links: common/base common/conf common/spool common/smtp common/acct common/dns/route.c common/dns/wire.c cli -cli/main.c */
#include "tests/unit/cli_fake.h"

#include "cli/text.h"

#define OK "{\"status\":\"success\"}\n"

Test(cli_remote, shows_rows_as_a_table_that_fits)
{
	static const char answer[] =
		"{\"data\":{\"queue\":\"gmail.com/"
		"a\",\"recipients\":1234567,\"bytes\":98765432,\"connections\":20,"
		"\"mode\":\"backoff\",\"paused\":false,\"next_retry\":null,\"next_expiry\":null,"
		"\"waiting_for\":\"\","
		"\"last_error\":\"421 4.7.28 \\u001b[31mtoo many\\u202e messages from your "
		"network, try again later\"}}\n"
		"{\"data\":{\"queue\":\"x.test/"
		"a\",\"recipients\":1,\"bytes\":1,\"connections\":0,\"mode\":\"normal\","
		"\"paused\":true,\"waiting_for\":\"paused\",\"last_error\":\"\"}}\n" OK;
	struct fake f;
	char *line, *rest;

	fake_init(&f, 2525);
	fake_answers(&f, answer);
	cr_assert_eq(fake_run(&f, 100, "show queues gmail.com --max 20"), CLI_DONE);
	cr_assert_str_eq(f.got, "{\"command\":\"show "
				"queues\",\"args\":{\"max\":20,\"pattern\":\"gmail.com/*\"}}\n");
	cr_assert(strstr(f.out, "gmail.com/a  1,234,567  98,766    20  backoff"), "%s", f.out);
	cr_assert(strstr(f.out, "x.test/a             1       1     0  normal   yes"), "%s", f.out);
	cr_assert(strstr(f.out, "421 4.7.28 ?"), "%s", f.out);
	cr_assert_null(strchr(f.out, '\033'), "a reply cannot steer the terminal");
	cr_assert_null(strstr(f.out, "\xe2\x80\xae"));
	for (rest = f.out; (line = strsep(&rest, "\n"));)
		cr_assert_leq(text_width(slice_str(line)), 100, "%s", line);
	fake_done(&f);
}

Test(cli_remote, leaves_out_whole_columns_of_a_narrow_terminal_rather_than_wrap)
{
	struct fake f;
	char *line, *rest;

	fake_init(&f, 2525);
	fake_answers(&f, "{\"data\":{\"vmta\":\"a\",\"recipients\":1234567890,\"bytes\":9876543210,"
			 "\"queues\":1000000,\"connections\":100000,\"in_hand\":200000,"
			 "\"state\":\"running\",\"pid\":4711,\"orphan\":true}}\n" OK);
	cr_assert_eq(fake_run(&f, 40, "show vmtas"), CLI_DONE);
	cr_assert(strstr(f.out, "1,234,567,890"), "%s", f.out);
	for (rest = f.out; (line = strsep(&rest, "\n"));)
		cr_assert_leq(text_width(slice_str(line)), 40, "%s", line);
	fake_done(&f);
}

Test(cli_remote, says_whether_a_reload_changed_anything)
{
	struct fake f;

	fake_init(&f, 2525);
	fake_answers(&f, "{\"data\":{\"dry_run\":true,\"generation\":1,\"notes\":\"f:1: warning: "
			 "w\\n\"}}\n" OK);
	cr_assert_eq(fake_run(&f, 0, "reload --dry-run"), CLI_DONE);
	cr_assert_str_eq(f.out,
			 "f:1: warning: w\nthe configuration is good; nothing was changed (dry "
			 "run)\n");
	fake_done(&f);
}

Test(cli_remote, cuts_nothing_where_there_is_no_terminal)
{
	char answer[2000], text[1001];
	struct fake f;

	memset(text, 'x', 1000);
	text[1000] = '\0';
	fake_init(&f, 2525);
	snprintf(answer, sizeof(answer),
		 "{\"data\":{\"queue\":\"q/a\",\"last_error\":\"%s\"}}\n" OK, text);
	fake_answers(&f, answer);
	cr_assert_eq(fake_run(&f, 0, "show queues"), CLI_DONE);
	cr_assert(strstr(f.out, text));
	fake_done(&f);
}

Test(cli_remote, prints_one_json_document)
{
	static const struct {
		const char *line, *answer, *expect;
	} cases[] = {
		{"show limits", OK, "[]"},
		{"show limits", "{\"data\":{\"kind\":\"ip\",\"cap\":2}}\n" OK,
		 "[{\"kind\":\"ip\",\"cap\":2}]"},
		{"show limits", "{\"data\":{\"a\":1}}\n{\"data\":{\"b\":2}}\n" OK,
		 "[{\"a\":1},{\"b\":2}]"},
		{"show queue x/a", "{\"data\":{\"mode\":\"normal\"}}\n" OK,
		 "{\"mode\":\"normal\"}"},
		{"delete --job x",
		 "{\"progress\":{\"deleted\":5}}\n{\"data\":{\"deleted\":7,\"in_flight\":1}}\n" OK,
		 "{\"deleted\":7,\"in_flight\":1}"},
		{"reload", OK, "{}"},
		{"show settings gmail.com", "{\"data\":{\"directive\":\"x\"}}\n" OK,
		 "[{\"directive\":\"x\"}]"},
	};
	struct fake f;
	size_t k;

	fake_init(&f, 2525);
	for (k = 0; k < sizeof(cases) / sizeof(cases[0]); k++) {
		char line[100], *got;
		json_t *doc;

		snprintf(line, sizeof(line), "--json %s", cases[k].line);
		fake_answers(&f, cases[k].answer);
		cr_assert_eq(fake_run(&f, 0, line), CLI_DONE, "%s", line);
		doc = json_loads(f.out, 0, NULL);
		cr_assert_not_null(doc, "%s: %s", line, f.out);
		got = json_dumps(doc, JSON_COMPACT);
		cr_assert_str_eq(got, cases[k].expect, "%s", line);
		free(got);
		json_decref(doc);
	}
	fake_done(&f);
}

Test(cli_remote, says_what_people_want_to_know)
{
	static const struct {
		const char *line, *answer, *expect;
	} cases[] = {
		{"delete --job x", "{\"data\":{\"deleted\":812344,\"in_flight\":37}}\n" OK,
		 "deleted 812,344; 37 in flight\n"},
		{"delete --job x --dry-run", "{\"data\":{\"would_delete\":3}}\n" OK,
		 "would delete 3\n"},
		{"schedule *",
		 "{\"data\":{\"queues\":154,\"matching\":3888,\"recipients\":5}}\n" OK,
		 "154 of 3,888 matching queues scheduled: 5 recipients\n"},
		{"schedule *", "{\"data\":{\"queues\":0,\"matching\":1,\"recipients\":0}}\n" OK,
		 "0 of 1 matching queues scheduled: 0 recipients\n"
		 "left as they are: recipients that are due within 5 minutes (--no-spread takes "
		 "them, "
		 "too), and those that\nwait because of their own reply (--retry-recipients)\n"},
		{"pause queue a/x", "{\"data\":{\"queues\":1,\"unknown_vmta\":\"x\"}}\n" OK,
		 "paused: queues with mail that match now: 1\n"
		 "the configuration has no virtual MTA x: see show vmtas\n"},
		{"set queue --mode=backoff a", "{\"data\":{\"queues\":0,\"later\":true}}\n" OK,
		 "mode set: queues with mail that match now: 0\nqueues that come later are meant, "
		 "too\n"},
		{"show queues", OK, "no queues\n"},
		{"clear dnscache *", "{\"data\":{\"cleared\":12}}\n" OK, "12 answers forgotten\n"},
		{"show version", "{\"data\":{\"version\":\"9.9\"}}\n" OK,
		 "sluice 0.1.0, daemon 9.9\n"},
		{"resolve x.test",
		 "{\"data\":{\"domain\":\"x.test\",\"status\":\"ok\",\"ttl\":300,\"hosts\":[{"
		 "\"preference\":10,"
		 "\"host\":\"mx.x.test\",\"status\":\"ok\",\"addresses\":[\"192.0.2.1\",\"::1\"]}]}"
		 "}\n" OK,
		 "domain              x.test\nstatus              ok\nvalid for           "
		 "5m\n\nmail hosts\n"
		 "PREF  HOST       STATUS  ADDRESSES\n  10  mx.x.test  ok      192.0.2.1, ::1\n"},
	};
	struct fake f;
	size_t k;

	fake_init(&f, 2525);
	for (k = 0; k < sizeof(cases) / sizeof(cases[0]); k++) {
		fake_answers(&f, cases[k].answer);
		cr_assert_eq(fake_run(&f, 80, cases[k].line), CLI_DONE, "%s", cases[k].line);
		cr_assert_str_eq(f.out, cases[k].expect, "%s: %s", cases[k].line, f.out);
	}
	fake_done(&f);
}

Test(cli_remote, shows_the_status)
{
	static const char answer[] = "{\"data\":{\"version\":\"0.1.0\",\"host\":\"mta.test\","
				     "\"uptime\":93784,\"generation\":1,"
				     "\"accepting\":false,\"why_not\":\"disk: 12 MB "
				     "free\",\"traffic\":{\"in\":{\"messages\":{\"total\":1000,"
				     "\"last_hour\":10,\"top_hour\":20,\"last_minute\":1,\"top_"
				     "minute\":2}}},\"counters\":{"
				     "\"connections_in_open\":3},\"spool\":{\"dir\":\"/"
				     "s\",\"recipients\":12345},\"processes\":["
				     "{\"role\":\"worker\",\"slot\":0,\"vmta\":\"a\",\"pid\":77,"
				     "\"state\":\"running\",\"orphan\":false}]}}\n" OK;
	static const char *const expect[] = {"1d2h", "NEW MAIL IS NOT ACCEPTED: disk: 12 MB free",
					     "in, messages  1,000         10", "12,345",
					     "worker   a     77   running"};
	struct fake f;
	size_t k;

	fake_init(&f, 2525);
	fake_answers(&f, answer);
	cr_assert_eq(fake_run(&f, 80, "show status"), CLI_DONE);
	for (k = 0; k < sizeof(expect) / sizeof(expect[0]); k++)
		cr_assert(strstr(f.out, expect[k]), "%s in %s", expect[k], f.out);
	fake_done(&f);
}

Test(cli_remote, exits_as_the_daemon_says, .init = cr_redirect_stderr)
{
	static const struct {
		const char *line, *answer;
		int status;
		const char *says;
	} cases[] = {
		{"show queue x/a",
		 "{\"status\":\"error\",\"message\":\"there is no such queue\"}\n", CLI_REFUSED,
		 "sluice: there is no such queue\n"},
		{"reload", "{\"status\":\"error\",\"message\":\"f:1: error: a\\nf:2: error: b\"}\n",
		 CLI_REFUSED, "sluice: f:1: error: a\nf:2: error: b\n"},
		{"show queues", "{\"data\":{\"queue\":\"x/a\"}}\n", CLI_NO_DAEMON,
		 "before its answer was complete"},
		{"show queues", "", CLI_NO_DAEMON, "before its answer was complete"},
		{"show queues", "what?\n", CLI_REFUSED, "of the same version"},
		{"show queue x", NULL, CLI_USAGE, "name one queue as DOMAIN/VMTA"},
		{"show queue */a", NULL, CLI_USAGE, "for patterns"},
		{"show queues", NULL, CLI_NO_DAEMON, "is sluiced running"},
	};
	struct fake f;
	size_t k;

	fake_init(&f, 2525);
	for (k = 0; k < sizeof(cases) / sizeof(cases[0]); k++) {
		const char *said;

		unlink(f.socket);
		if (cases[k].answer)
			fake_answers(&f, cases[k].answer);
		cr_assert_eq(fake_run(&f, 80, cases[k].line), cases[k].status, "%s", cases[k].line);
		said = fake_said();
		cr_assert(strstr(said, cases[k].says), "%s: %s", cases[k].line, said);
	}
	fake_done(&f);
}

Test(cli_remote, shows_settings_of_the_file_when_the_daemon_is_down)
{
	struct fake f;
	json_t *doc, *row;
	size_t k;
	bool found = false;

	fake_init(&f, 2525);
	cr_assert_eq(fake_run(&f, 0, "--json show settings gmail.com/a"), CLI_DONE);
	doc = json_loads(f.out, 0, NULL);
	cr_assert_not_null(doc);
	json_array_foreach(doc, k, row)
	{
		if (strcmp(json_string_value(json_object_get(row, "directive")), "max-smtp-out"))
			continue;
		found = true;
		cr_assert_str_eq(json_string_value(json_object_get(row, "value")), "7");
		cr_assert_str_eq(json_string_value(json_object_get(row, "file")), f.conf);
	}
	cr_assert(found);
	json_decref(doc);
	fake_done(&f);
}

Test(cli_remote, checks_a_configuration, .init = cr_redirect_stderr)
{
	struct fake f;
	FILE *c;
	json_t *doc;

	fake_init(&f, 2525);
	cr_assert_eq(fake_run(&f, 0, "check config"), CLI_DONE);
	cr_assert(strstr(f.out, ": 0 errors, "), "%s", f.out);
	c = fopen(f.conf, "a");
	fputs("frobnicate = 3\n", c);
	fclose(c);
	(void)fake_said();
	cr_assert_eq(fake_run(&f, 0, "check config"), CLI_REFUSED);
	cr_assert(strstr(fake_said(), "frobnicate"));
	cr_assert_eq(fake_run(&f, 0, "--json check config"), CLI_REFUSED);
	doc = json_loads(f.out, 0, NULL);
	cr_assert_eq(json_integer_value(json_object_get(doc, "errors")), 1);
	json_decref(doc);
	/* and the daemon is still found */
	fake_answers(&f, "{\"status\":\"error\",\"message\":\"f:13: error: unknown\"}\n");
	cr_assert_eq(fake_run(&f, 0, "reload"), CLI_REFUSED);
	cr_assert(strstr(fake_said(), "f:13"));
	fake_done(&f);
}
