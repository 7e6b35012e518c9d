/* sluice: the operators' command. */
#include <locale.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "cli/args.h"
#include "cli/groups.h"
#include "cli/place.h"
#include "common/base/log.h"

#define MIN_WIDTH 40

static int terminal_width(void)
{
	struct winsize w;

	if (!isatty(STDOUT_FILENO))
		return 0;
	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) < 0 || w.ws_col == 0)
		return 80;
	return w.ws_col < MIN_WIDTH ? MIN_WIDTH : w.ws_col;
}

/* What went to standard output counts as done only when it has arrived. */
static int flush_output(int rc)
{
	if ((fflush(stdout) != 0 || ferror(stdout)) && rc == CLI_DONE)
		return cli_error(CLI_REFUSED, "cannot write the answer to standard output");
	return rc;
}

int main(int argc, char **argv)
{
	const char *no_color = getenv("NO_COLOR");
	struct cli cli = {.conf_path = CLI_CONF_DEFAULT, .out = stdout};
	struct invocation i;
	int rc;

	setlocale(LC_CTYPE, "");
	signal(SIGPIPE, SIG_DFL);
	log_set_program("sluice", NULL);
	log_set_level(LOG_LEVEL_ERROR);
	cli.width = terminal_width();
	cli.color = cli.width > 0 && !(no_color && *no_color);
	rc = args_parse(argc, argv, &cli, &i);
	if (rc == 0 && !i.cmd && i.help)
		help_all(stdout);
	else if (rc == 0 && !i.cmd)
		rc = cli_error(CLI_USAGE, "name a command: sluice help");
	else if (rc == 0 && i.help)
		help_command(stdout, i.cmd);
	else if (rc == 0)
		rc = i.cmd->run(&cli, &i);
	invocation_done(&i);
	cli_conf_done(&cli);
	return flush_output(rc);
}
