/* check config */
#include "cli/groups.h"
#include "common/conf/conf.h"

static json_t *message_row(const struct conf_message *m)
{
	return json_pack("{s:s, s:s?, s:i, s:s}", "level",
			 m->level == LOG_LEVEL_ERROR ? "error" : "warning", "file", m->at.file,
			 "line", (int)m->at.line, "text", m->text);
}

static json_t *report(const struct conf_messages *msgs, bool loaded)
{
	json_t *list = json_array();
	int errors = 0;
	size_t k;

	for (k = 0; k < msgs->n; k++) {
		errors += msgs->v[k].level == LOG_LEVEL_ERROR;
		json_array_append_new(list, message_row(&msgs->v[k]));
	}
	if (!loaded && errors == 0)
		errors = 1;
	return json_pack("{s:i, s:i, s:o}", "errors", errors, "warnings",
			 (int)msgs->n - (errors < (int)msgs->n ? errors : (int)msgs->n), "messages",
			 list);
}

static void print_report(struct cli *cli, const json_t *r)
{
	int errors = (int)json_integer_value(json_object_get(r, "errors")),
	    warnings = (int)json_integer_value(json_object_get(r, "warnings"));

	fprintf(cli->out, "%s: %d error%s, %d warning%s\n", cli->conf_path, errors,
		errors == 1 ? "" : "s", warnings, warnings == 1 ? "" : "s");
}

int config_check_run(struct cli *cli, const struct invocation *i)
{
	struct conf_messages msgs = {0};
	struct conf *c;
	json_t *r;

	if (i->arg_count)
		cli->conf_path = i->args[0];
	c = conf_load(cli->conf_path, &msgs);
	r = report(&msgs, c != NULL);
	if (!cli->json)
		conf_messages_print(&msgs, stderr);
	cli_show_object(cli, r, print_report);
	json_decref(r);
	conf_messages_done(&msgs);
	conf_free(c);
	return c ? CLI_DONE : CLI_REFUSED;
}
