/* links: common/base common/conf common/spool common/smtp common/acct common/dns/route.c common/dns/wire.c cli -cli/main.c */
#include <criterion/criterion.h>
#include <criterion/redirect.h>
#include <stdlib.h>
#include <string.h>

#include "cli/args.h"
#include "cli/groups.h"
#include "cli/place.h"
#include "cli/remote.h"

#define WORDS_MAX 12

/* Splits line at blanks; "''" is the empty word. */
static int parse(const char *line, struct cli *cli, struct invocation *i, char *copy)
{
	char *argv[WORDS_MAX + 1] = {NULL};
	int argc = 0;
	char *p = copy;

	snprintf(copy, 400, "sluice %s", line);
	while (p && argc < WORDS_MAX) {
		char *word = strsep(&p, " ");

		if (*word)
			argv[argc++] = strcmp(word, "''") == 0 ? word + 2 : word;
	}
	return args_parse(argc, argv, cli, i);
}

Test(cli_args, find_the_command_and_make_its_request)
{
	static const struct {
		const char *line, *name, *request;
	} cases[] = {
		{"show status", "show status", "{}"},
		{"sh stat", "show status", "{}"},
		{"SHOW STATUS", "show status", "{}"},
		{"show queue gmail.com/a", "show queue", "{\"queue\":\"gmail.com/a\"}"},
		{"show queues", "show queues", "{}"},
		{"show queues gmail.com --max=20 --sort by", "show queues",
		 "{\"sort\":\"bytes\",\"max\":20,\"pattern\":\"gmail.com/*\"}"},
		{"show queues */a --mode back --errors", "show queues",
		 "{\"mode\":\"backoff\",\"errors\":true,\"pattern\":\"*/a\"}"},
		{"del --job x --older-than 1h30m --dry", "delete",
		 "{\"job\":\"x\",\"older_than\":5400,\"dry_run\":true}"},
		{"delete --jobid x --vmta a", "delete", "{\"job\":\"x\",\"queue\":\"*/a\"}"},
		{"delete --queue gmail.com --vmta a", "delete", "{\"queue\":\"gmail.com/a\"}"},
		{"delete --queue gmail.com", "delete", "{\"queue\":\"gmail.com/*\"}"},
		{"pa q *", "pause queue", "{\"queue\":\"*/*\"}"},
		{"set queue --mode=back gmail.com", "set queue",
		 "{\"mode\":\"backoff\",\"queue\":\"gmail.com/*\"}"},
		{"disable source 192.0.2.1 */a --reenable-after 12h --reason x", "disable source",
		 "{\"reenable_after\":43200,\"reason\":\"x\",\"source\":\"192.0.2.1\",\"queue\":\"*"
		 "/a\"}"},
		{"enable source 2001:db8::1 gmail.com", "enable source",
		 "{\"source\":\"2001:db8::1\",\"queue\":\"gmail.com/*\"}"},
		{"show dis so", "show disabled sources", "{}"},
		{"schedule --no-spread -- -x/a", "schedule",
		 "{\"no_spread\":true,\"queue\":\"-x/a\"}"},
		{"resolve Example.com", "resolve", "{\"domain\":\"Example.com\"}"},
		{"clear dns *", "clear dnscache", "{\"domain\":\"*\"}"},
		{"set warm 192.0.2.1 --day 3 --pause", "set warmup",
		 "{\"day\":3,\"pause\":true,\"ip\":\"192.0.2.1\"}"},
		{"reload --dry-run", "reload", "{\"dry_run\":true}"},
		{"inject -f a@b c@d e@f", "inject", "{\"from\":\"a@b\"}"},
	};
	size_t k;

	for (k = 0; k < sizeof(cases) / sizeof(cases[0]); k++) {
		struct cli cli = {0};
		struct invocation i;
		char copy[400], *got;
		json_t *args;

		cr_assert_eq(parse(cases[k].line, &cli, &i, copy), 0, "%s", cases[k].line);
		cr_assert_str_eq(i.cmd->name, cases[k].name, "%s", cases[k].line);
		args = remote_args(&i);
		got = json_dumps(args, JSON_COMPACT);
		cr_assert_str_eq(got, cases[k].request, "%s: %s", cases[k].line, got);
		free(got);
		json_decref(args);
		invocation_done(&i);
	}
}

Test(cli_args, options_of_the_program_may_stand_anywhere)
{
	static const char *const lines[] = {"-c f --json show queue x/y",
					    "show -c f queue x/y --json",
					    "show queue x/y --json -c f"};
	size_t k;

	for (k = 0; k < 3; k++) {
		struct cli cli = {0};
		struct invocation i;
		char copy[400];

		cr_assert_eq(parse(lines[k], &cli, &i, copy), 0, "%s", lines[k]);
		cr_assert(cli.json && cli.conf_given);
		cr_assert_str_eq(cli.conf_path, "f");
		cr_assert(i.arg_count == 1 && strcmp(i.args[0], "x/y") == 0);
		invocation_done(&i);
	}
}

Test(cli_args, refuse_what_is_not_understood, .init = cr_redirect_stderr)
{
	static const struct {
		const char *line, *says;
	} cases[] = {
		{"frob", "there is no command \"frob\""},
		{"show", "may be: show status"},
		{"show q", "may be: show queues, show queue"},
		{"show nothing", "\"show\" may be"},
		{"pause x", "\"pause\" may be: pause queue"},
		{"show queue", "something is missing: sluice show queue DOMAIN/VMTA"},
		{"show status x", "too many arguments"},
		{"show status --max 1", "no option --max"},
		{"show queues --max", "needs a value"},
		{"show queues --max many", "--max N"},
		{"show queues --mode odd", "--mode MODE"},
		{"list --older-than 5x", "--older-than TIME"},
		{"delete --older-than 5", "5: a unit is missing: 5s, 5m, 5h or 5d"},
		{"list --older-than 5m3d", "--older-than TIME"},
		{"list --o x", "more than one"},
		{"list --queue ''", "--queue P"},
		{"delete", "say which"},
		{"delete --dsn", "say which"},
		{"delete --queue a/b --vmta c", "leave --vmta out"},
		{"delete --dsn=yes --job x", "takes no value"},
		{"show queues -x", "there is no option -x"},
		{"-c", "-c needs"},
		{"--max 1 list", "name a command first"},
		{"inject -f", "-f needs"},
	};
	size_t k;

	for (k = 0; k < sizeof(cases) / sizeof(cases[0]); k++) {
		struct cli cli = {0};
		struct invocation i;
		char copy[400], said[1000] = "";
		FILE *err = cr_get_redirected_stderr();
		size_t n;

		cr_assert_eq(parse(cases[k].line, &cli, &i, copy), CLI_USAGE, "%s", cases[k].line);
		fflush(stderr);
		n = fread(said, 1, sizeof(said) - 1, err);
		said[n] = '\0';
		clearerr(err);
		cr_assert(strstr(said, cases[k].says), "%s: %s", cases[k].line, said);
		cr_assert(strchr(said, '\n') == said + n - 1, "one line: %s", said);
		invocation_done(&i);
	}
}

Test(cli_args, times_are_read)
{
	static const struct {
		const char *text;
		bool good;
		uint64_t seconds;
	} cases[] = {
		{"0", true, 0},	      {"90s", true, 90},
		{"90", false, 0},     {"1w2d3h4m5s", true, 788645},
		{"2D", true, 172800}, {"", false, 0},
		{"m", false, 0},      {"1h1h", false, 0},
		{"5m 3s", false, 0},  {"-5m", false, 0},
		{"1h30", false, 0},   {"99999999999h", false, 0},
	};
	size_t k;

	for (k = 0; k < sizeof(cases) / sizeof(cases[0]); k++) {
		uint64_t got = 7;

		cr_assert_eq(args_time(cases[k].text, &got), cases[k].good, "%s", cases[k].text);
		if (cases[k].good)
			cr_assert_eq(got, cases[k].seconds, "%s: %lu", cases[k].text,
				     (unsigned long)got);
	}
}

/* The table itself: what the rows promise holds. */
Test(cli_args, every_command_has_help_and_an_example_that_parses)
{
	size_t k;

	for (k = 0; k < cli_command_count; k++) {
		const struct command *c = &cli_commands[k];
		struct cli cli = {0};
		struct invocation i;
		char copy[400], line[300];
		char *p = line;
		const char *e;

		for (e = c->example; *e && strncmp(e, " <", 2) != 0; e++)
			if (*e != '\'')
				*p++ = *e;
		*p = '\0';
		cr_assert_eq(parse(line, &cli, &i, copy), 0, "%s", c->example);
		cr_assert_eq(i.cmd, c, "%s", c->example);
		cr_assert(c->run && *c->doc);
		cr_assert(c->run != remote_run || c->shape != SHAPE_ROWS || c->columns, "%s",
			  c->name);
		invocation_done(&i);
		snprintf(line, sizeof(line), "%s -h", c->name);
		cr_assert_eq(parse(line, &cli, &i, copy), 0, "%s", line);
		cr_assert(i.help);
		invocation_done(&i);
	}
}

Test(cli_args, the_manual_page_in_the_repository_is_the_present_one)
{
	char made[65536], kept[65536];
	FILE *m = fmemopen(made, sizeof(made), "w"), *f = fopen("docs/man/sluice.1", "r");
	size_t n;

	cr_assert(m && f, "run from the top of the repository");
	help_man(m);
	fclose(m);
	n = fread(kept, 1, sizeof(kept) - 1, f);
	kept[n] = '\0';
	fclose(f);
	cr_assert_str_eq(kept, made, "docs/man/sluice.1 is stale: run make docs");
}

Test(cli_args, a_broken_configuration_still_says_where_the_daemon_is)
{
	static char text[] = "# control-socket = /no\n"
			     "[virtual-mta a]\nruntime-dir = /no\n"
			     "[ global ]\nbroken\n[Global]\n"
			     "  Runtime-Dir = \"/run/my sluice\"  # where\n"
			     "nonsense = 1\nspool-dir=/var/x   ; here\n"
			     "[source 0/0]\nspool-dir = /no\n";
	FILE *f = fmemopen(text, sizeof(text) - 1, "r");
	struct place p = {NULL, NULL};
	char *runtime = NULL;

	place_scan(f, &p, &runtime);
	fclose(f);
	cr_assert_str_eq(runtime, "/run/my sluice");
	cr_assert_str_eq(p.spool_dir, "/var/x");
	cr_assert_null(p.control_socket);
	free(runtime);
	place_done(&p);
}
