#include "cli/cli.h"

#include <stdarg.h>
#include <string.h>

#include "cli/text.h"

int cli_error(int status, const char *fmt, ...)
{
	struct buf said = BUF_INIT;
	va_list ap;

	va_start(ap, fmt);
	buf_vaddf(&said, fmt, ap);
	va_end(ap);
	/* lines of a parser stay lines; all else that a peer said is made harmless */
	fputs("sluice: ", stderr);
	for (struct slice all = buf_slice(&said), line; slice_next(&all, '\n', &line);) {
		struct buf safe = BUF_INIT;

		text_safe(&safe, line);
		fprintf(stderr, "%s\n", buf_cstr(&safe));
		buf_done(&safe);
	}
	buf_done(&said);
	return status;
}

void cli_show_object(struct cli *cli, const json_t *object,
		     void (*show)(struct cli *, const json_t *))
{
	if (cli->json) {
		json_dumpf(object, cli->out, JSON_INDENT(2));
		fputc('\n', cli->out);
	} else if (show) {
		show(cli, object);
	}
}
