/* delete, schedule, pause, resume, reload, drain, shutdown: what they say */
#include "cli/groups.h"
#include "cli/remote.h"
#include "cli/text.h"

/* A line with counts: "%" stands for the next of keys. */
static void print_counts(struct cli *cli, const json_t *result, const char *form,
			 const char *const *keys)
{
	struct buf b = BUF_INIT;

	for (; *form; form++) {
		if (*form == '%')
			text_value(&b, json_object_get(result, *keys++), COL_COUNT);
		else
			buf_add_char(&b, *form);
	}
	fprintf(cli->out, "%s\n", buf_cstr(&b));
	buf_done(&b);
}

/* What an order holds for now; its form has one "%". */
static void print_queues(struct cli *cli, const json_t *result, const char *form)
{
	static const char *const keys[] = {"queues"};
	const char *unknown = json_string_value(json_object_get(result, "unknown_vmta"));

	print_counts(cli, result, form, keys);
	if (json_is_true(json_object_get(result, "later")))
		fputs("queues that come later are meant, too\n", cli->out);
	if (unknown)
		fprintf(cli->out, "the configuration has no virtual MTA %s: see show vmtas\n",
			unknown);
}

void change_print_delete(struct cli *cli, const json_t *result)
{
	static const char *const done[] = {"deleted", "in_flight"}, *const dry[] = {"would_delete"};

	if (json_object_get(result, "would_delete"))
		print_counts(cli, result, "would delete %", dry);
	else
		print_counts(cli, result, "deleted %; % in flight", done);
}

void change_print_move(struct cli *cli, const json_t *result)
{
	static const char *const done[] = {"moved", "in_flight"}, *const dry[] = {"would_move"};

	if (json_object_get(result, "would_move"))
		print_counts(cli, result, "would move %", dry);
	else
		print_counts(cli, result, "moved %; % in flight", done);
}

void change_print_reset_pool(struct cli *cli, const json_t *result)
{
	fprintf(cli->out, "pool %s begins anew\n",
		json_string_value(json_object_get(result, "pool")));
}

void change_print_schedule(struct cli *cli, const json_t *result)
{
	static const char *const keys[] = {"queues", "matching", "recipients"};

	print_counts(cli, result, "% of % matching queues scheduled: % recipients", keys);
	if (json_integer_value(json_object_get(result, "matching")) &&
	    !json_integer_value(json_object_get(result, "recipients")))
		fputs("left as they are: recipients that are due within 5 minutes (--no-spread "
		      "takes "
		      "them, too), and those that\nwait because of their own reply "
		      "(--retry-recipients)\n",
		      cli->out);
}

void change_print_pause(struct cli *cli, const json_t *result)
{
	print_queues(cli, result, "paused: queues with mail that match now: %");
}

void change_print_resume(struct cli *cli, const json_t *result)
{
	print_queues(cli, result, "resumed: queues with mail that match now: %");
}

int change_set_queue_run(struct cli *cli, const struct invocation *i)
{
	if (!option_given(i, OPTION_MODE))
		return cli_error(CLI_USAGE, "say which mode: --mode=normal or --mode=backoff");
	return remote_run(cli, i);
}

void change_print_set_queue(struct cli *cli, const json_t *result)
{
	print_queues(cli, result, "mode set: queues with mail that match now: %");
}

void change_print_disable(struct cli *cli, const json_t *result)
{
	print_queues(cli, result, "disabled: queues with mail that match now: %");
}

void change_print_enable(struct cli *cli, const json_t *result)
{
	print_queues(cli, result, "enabled: queues with mail that match now: %");
}

void change_print_reload(struct cli *cli, const json_t *result)
{
	const char *notes = json_string_value(json_object_get(result, "notes"));

	fputs(notes ? notes : "", cli->out);
	fputs(json_is_true(json_object_get(result, "dry_run"))
		      ? "the configuration is good; nothing was changed (dry run)\n"
		      : "reloaded: all processes have the new configuration\n",
	      cli->out);
}

void change_print_warmup(struct cli *cli, const json_t *result)
{
	static const char *const keys[] = {"day"};

	if (json_integer_value(json_object_get(result, "day")))
		print_counts(cli, result, "the warm-up goes on with day %", keys);
	fputs(json_is_true(json_object_get(result, "paused"))
		      ? "paused: the next days have the number of this one\n"
		      : "the next days follow the schedule\n",
	      cli->out);
}

void change_print_drain(struct cli *cli, const json_t *result ATTR_UNUSED)
{
	fputs("done: see show status\n", cli->out);
}

void change_print_shutdown(struct cli *cli, const json_t *result ATTR_UNUSED)
{
	fputs("the server stops\n", cli->out);
}
