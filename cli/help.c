/* help, and the manual page: from the tables */
#include <string.h>

#include "cli/args.h"
#include "cli/groups.h"
#include "cli/text.h"
#include "common/base/roff.h"
#include "common/version.h"

static const char exit_words[] =
	"Exit status: 0 done, 1 refused or not found, 2 usage, 3 daemon not reachable.";

static const struct {
	const char *option, *doc;
} globals[] = {
	{"-c FILE", "configuration, default " CLI_CONF_DEFAULT},
	{"--json", "print one JSON document"},
	{"-h", "help for the command, with an example"},
};

static int name_width(const char *names)
{
	return (int)strcspn(names, " ");
}

static void print_options(FILE *to, uint64_t options)
{
	enum option_id o;

	for (o = 0; o < OPTION_COUNT; o++) {
		const struct option_row *r = option_row(o);
		int n = name_width(r->names);

		if (options >> o & 1)
			fprintf(to, "  --%.*s %-*s %s\n", n, r->names, n < 22 ? 22 - n : 1, r->arg,
				r->doc);
	}
}

void help_command(FILE *to, const struct command *c)
{
	fprintf(to, "sluice %s%s%s%s\n%s.\n", c->name, *c->args ? " " : "", c->args,
		c->options ? " [options]" : "", c->doc);
	if (c->options) {
		fputc('\n', to);
		print_options(to, c->options);
	}
	fprintf(to, "\nExample: sluice %s\n", c->example);
}

void help_all(FILE *to)
{
	size_t k;

	fputs("sluice [-c FILE] [--json] COMMAND [arguments]\n\n", to);
	for (k = 0; k < cli_command_count; k++) {
		const struct command *c = &cli_commands[k];
		int used = (int)(text_width(slice_str(c->name)) + text_width(slice_str(c->args)));

		fprintf(to, "  %s %s%*s %s\n", c->name, c->args, used < 31 ? 31 - used : 1, "",
			c->doc);
	}
	fputs("\nCommands and options may be shortened while they stay unique. "
	      "sluice COMMAND -h: options and an example.\n",
	      to);
	fprintf(to, "%s\n", exit_words);
}

/* --- the manual page --- */

static void man_option(FILE *to, const struct option_row *r)
{
	char name[64];

	snprintf(name, sizeof(name), "--%.*s%s%s", name_width(r->names), r->names,
		 *r->arg ? " " : "", r->arg);
	roff_line(to, ".TP\n.B ", name, "\n");
	roff_line(to, "", r->doc, ".\n");
}

static void man_command(FILE *to, const struct command *c)
{
	enum option_id o;

	roff_line(to, ".SS ", c->name, "");
	roff_line(to, *c->args ? " " : "", c->args, "\n");
	roff_line(to, "", c->doc, ".\n");
	for (o = 0; o < OPTION_COUNT; o++)
		if (c->options >> o & 1)
			man_option(to, option_row(o));
	roff_line(to, ".PP\nExample:\n.RS\n.B sluice ", c->example, "\n.RE\n");
}

void help_man(FILE *to)
{
	size_t k;

	fputs(".\\\" made by: sluice help --man\n.TH SLUICE 1 \"\" \"Sluice " SLUICE_VERSION
	      "\"\n.SH NAME\n"
	      "sluice \\- look at and steer the outbound mail server Sluice\n.SH SYNOPSIS\n"
	      ".B sluice\n[\\-c FILE] [\\-\\-json] COMMAND [arguments]\n.SH DESCRIPTION\n"
	      "Asks the running daemon over its control socket, and reads the spool where the "
	      "daemon is not\n"
	      "needed, which root and the members of group sluice may do. Words of commands and "
	      "options may be shortened while they stay unique.\n"
	      "A queue is DOMAIN/VMTA; in patterns * stands for any characters.\n.SH OPTIONS\n",
	      to);
	for (k = 0; k < ARRAY_SIZE(globals); k++) {
		roff_line(to, ".TP\n.B ", globals[k].option, "\n");
		roff_line(to, "", globals[k].doc, ".\n");
	}
	fputs(".SH COMMANDS\n", to);
	for (k = 0; k < cli_command_count; k++)
		man_command(to, &cli_commands[k]);
	fprintf(to, ".SH EXIT STATUS\n%s\n.SH SEE ALSO\n.BR sluice.conf (5),\n.BR sluiced (8)\n",
		exit_words);
}

int help_run(struct cli *cli, const struct invocation *i)
{
	struct invocation of;
	char *argv[5] = {NULL};
	size_t k;
	int rc;

	if (option_given(i, OPTION_MAN)) {
		help_man(cli->out);
		return CLI_DONE;
	}
	if (i->arg_count == 0) {
		help_all(cli->out);
		return CLI_DONE;
	}
	argv[0] = (char *)(uintptr_t) "sluice";
	for (k = 0; k < i->arg_count && k < 3; k++)
		argv[k + 1] = (char *)(uintptr_t)i->args[k];
	argv[k + 1] = (char *)(uintptr_t) "-h";
	rc = args_parse((int)k + 2, argv, cli, &of);
	if (rc == 0)
		help_command(cli->out, of.cmd);
	invocation_done(&of);
	return rc;
}
