#include "cli/remote.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/args.h"
#include "cli/client.h"
#include "cli/place.h"
#include "cli/table.h"
#include "cli/text.h"

struct answer {
	struct cli *cli;
	const struct command *cmd;
	struct table *table;
	json_t *object;
	bool progress; /* a line of it is on the terminal */
};

static void set_taken(json_t *args, const char *key, char *value)
{
	json_object_set_new(args, key, json_string(value));
	free(value);
}

json_t *remote_args(const struct invocation *i)
{
	const struct command *c = i->cmd;
	json_t *args = json_object();
	char *pattern = args_queue_pattern(i);
	enum option_id o;

	for (o = 0; o < OPTION_COUNT; o++)
		if (option_given(i, o) && o != OPTION_QUEUE && o != OPTION_VMTA)
			option_to_json(i, o, args);
	if (pattern)
		set_taken(args, "queue", pattern);
	if (c->arg_key && i->arg_count)
		set_taken(args, c->arg_key,
			  c->arg_is_pattern ? args_pattern(i->args[0]) : args_name(i->args[0]));
	if (c->arg2_key && i->arg_count > 1)
		set_taken(args, c->arg2_key, args_pattern(i->args[1]));
	return args;
}

/* Standard error is a terminal: a line that is written over. */
static void clear_progress(struct answer *a)
{
	if (a->progress)
		fputs("\r\033[K", stderr);
	a->progress = false;
}

static void on_progress(const json_t *progress, void *arg)
{
	struct answer *a = arg;
	struct buf b = BUF_INIT;
	json_t *all = (json_t *)(uintptr_t)progress;
	void *at;

	if (!isatty(STDERR_FILENO) || !json_is_object(progress))
		return;
	clear_progress(a);
	for (at = json_object_iter(all); at; at = json_object_iter_next(all, at)) {
		buf_addf(&b, "%s%s ", b.n ? ", " : "", json_object_iter_key(at));
		text_value(&b, json_object_iter_value(at), COL_COUNT);
	}
	fprintf(stderr, "%s…", buf_cstr(&b));
	a->progress = true;
	buf_done(&b);
}

static void on_data(const json_t *data, void *arg)
{
	struct answer *a = arg;

	clear_progress(a);
	if (a->table)
		table_add(a->table, data);
	else
		json_object_update(a->object, (json_t *)(uintptr_t)data);
}

static void show_answer(struct answer *a, int rc)
{
	clear_progress(a);
	if (a->table)
		/* a document that was begun is ended, an error says nothing of rows that are not there */
		rc == CLI_DONE || table_count(a->table) ? table_end(a->table)
							: table_drop(a->table);
	else if (rc == CLI_DONE)
		cli_show_object(a->cli, a->object, a->cmd->show);
	json_decref(a->object);
}

static int run(struct cli *cli, const struct invocation *i, json_t *more, bool may_be_down)
{
	struct answer a = {.cli = cli, .cmd = i->cmd, .object = json_object()};
	struct client_events events = {on_data, on_progress, &a};
	const char *name = i->cmd->remote ? i->cmd->remote : i->cmd->name;
	struct place p;
	char *error = NULL;
	json_t *args;
	int rc = place_find(cli, &p);

	if (rc == 0) {
		if (i->cmd->shape == SHAPE_ROWS)
			a.table = table_new(cli, i->cmd->columns, i->cmd->nothing);
		args = remote_args(i);
		json_object_update(args, more);
		rc = client_run(p.control_socket, name, args, &events, &error);
	}
	json_decref(more);
	show_answer(&a, rc);
	if (error && !(may_be_down && rc == CLI_NO_DAEMON))
		cli_error(rc, "%s", error);
	free(error);
	place_done(&p);
	return rc;
}

int remote_run(struct cli *cli, const struct invocation *i)
{
	return run(cli, i, NULL, false);
}

int remote_try(struct cli *cli, const struct invocation *i, json_t *more)
{
	return run(cli, i, more, true);
}
