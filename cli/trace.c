/* trace: one delivery, line by line while it happens */
#include <stdlib.h>
#include <string.h>

#include "cli/client.h"
#include "cli/groups.h"
#include "cli/place.h"
#include "cli/remote.h"
#include "cli/text.h"
#include "common/base/clock.h"

struct shown {
	struct cli *cli;
	msec_t began; /* the first line; 0: none yet */
};

/* What the peer says and hears stands out as in a dialogue. */
static const char *mark(const char *kind)
{
	if (strcmp(kind, "sent") == 0)
		return ">";
	if (strcmp(kind, "received") == 0)
		return "<";
	return strcmp(kind, "data") == 0 ? "|" : kind;
}

static void print_line(struct shown *s, const json_t *data)
{
	const char *kind = json_string_value(json_object_get(data, "kind"));
	const char *text = json_string_value(json_object_get(data, "text"));
	msec_t at = (msec_t)json_integer_value(json_object_get(data, "at")), since;
	struct buf b = BUF_INIT;

	if (!s->began)
		s->began = at;
	since = at > s->began ? at - s->began : 0;
	text_safe(&b, slice_str(text ? text : ""));
	fprintf(s->cli->out, "%3llu.%03llu %-9s %s\n", (unsigned long long)(since / MSEC_PER_SEC),
		(unsigned long long)(since % MSEC_PER_SEC), mark(kind ? kind : "?"), buf_cstr(&b));
	buf_done(&b);
}

static void on_data(const json_t *data, void *arg)
{
	struct shown *s = arg;

	if (s->cli->json) {
		json_dumpf(data, s->cli->out, JSON_COMPACT);
		fputc('\n', s->cli->out);
	} else {
		print_line(s, data);
	}
	fflush(s->cli->out); /* it is watched while it happens */
}

int trace_run(struct cli *cli, const struct invocation *i)
{
	struct shown s = {.cli = cli};
	struct client_events events = {.on_data = on_data, .arg = &s};
	const char *slash = strrchr(i->args[0], '/');
	char *error = NULL;
	struct place p;
	int rc;

	if (!slash || slash == i->args[0] || !slash[1] || strchr(i->args[0], '*'))
		return cli_error(CLI_USAGE,
				 "name one queue as DOMAIN/VMTA: see sluice show queues");
	rc = place_find(cli, &p);
	if (rc == 0)
		rc = client_run(p.control_socket, "trace", remote_args(i), &events, &error);
	if (error)
		cli_error(rc, "%s", error);
	free(error);
	place_done(&p);
	return rc;
}
