/* spool check, spool stat; opening the spool */
#include <errno.h>
#include <grp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/groups.h"
#include "cli/place.h"
#include "cli/spool_open.h"
#include "cli/table.h"
#include "common/base/err.h"
#include "common/base/xalloc.h"
#include "common/spool/spool.h"

static int become_owner(const char *dir)
{
	char *data = xasprintf("%s/data.mdb", dir);
	struct stat st;
	int rc = 0;

	if (geteuid() == 0 && stat(data, &st) == 0 && st.st_uid != 0 &&
	    (setgroups(0, NULL) < 0 || setgid(st.st_gid) < 0 || setuid(st.st_uid) < 0))
		rc = cli_error(CLI_REFUSED, "cannot become the owner of %s: %s", data,
			       strerror(errno));
	free(data);
	return rc;
}

int cli_spool_open(struct cli *cli, struct spool **ret)
{
	struct spool_options o = {.map_size = cli->spool_map_size};
	char *error = NULL;
	struct place p;
	int err, rc = place_find(cli, &p);

	o.dir = p.spool_dir;
	if (rc == 0)
		rc = become_owner(p.spool_dir);
	if (rc == 0) {
		err = spool_open(&o, ret, &error);
		if (err)
			rc = cli_error(CLI_REFUSED, "%s", error ? error : err_text(err));
	}
	free(error);
	place_done(&p);
	return rc;
}

/* --- spool stat --- */

static const struct column stat_fields[] = {
	{"dir", "spool", COL_NAME},
	{"messages", "messages", COL_COUNT},
	{"recipients", "recipients", COL_COUNT},
	{"fresh", "never tried", COL_COUNT},
	{"due", "deferred or parked", COL_COUNT},
	{"queues", "queues", COL_COUNT},
	{"vmtas", "virtual MTAs", COL_COUNT},
	{"outbox", "accounting records waiting", COL_COUNT},
	{"dsns", "notifications waiting", COL_COUNT},
	{"orders", "orders and pauses", COL_COUNT},
	{"live_bytes", "bodies kB", COL_BYTES},
	{"map_used", "file kB", COL_BYTES},
	{"reusable", "of these free kB", COL_BYTES},
	{"map_size", "largest file kB", COL_BYTES},
	{"disk_free", "disk free kB", COL_BYTES},
	{"readers", "readers", COL_COUNT},
	{NULL, NULL, COL_TEXT},
};

static void print_stat(struct cli *cli, const json_t *stat)
{
	table_fields(cli, stat, stat_fields);
}

static json_t *stat_json(const char *dir, const struct spool_stat *s)
{
	const struct {
		const char *key;
		uint64_t value;
	} numbers[] = {
		{"map_size", s->map_size},
		{"map_used", s->map_used},
		{"reusable", s->reusable},
		{"live_bytes", s->live_bytes},
		{"disk_free", s->disk_free},
		{"messages", s->messages},
		{"recipients", s->recipients},
		{"fresh", s->fresh},
		{"due", s->due},
		{"queues", s->queues},
		{"vmtas", s->vmtas},
		{"outbox", s->outbox},
		{"dsns", s->dsns},
		{"orders", s->orders},
		{"readers", s->readers},
	};
	json_t *o = json_pack("{s:s}", "dir", dir);
	size_t k;

	for (k = 0; k < ARRAY_SIZE(numbers); k++)
		json_object_set_new(o, numbers[k].key, json_integer((json_int_t)numbers[k].value));
	return o;
}

int spool_stat_run(struct cli *cli, const struct invocation *i ATTR_UNUSED)
{
	struct spool_read *r = NULL;
	struct spool_stat stat;
	struct spool *s;
	json_t *o;
	int rc = cli_spool_open(cli, &s), err;

	if (rc)
		return rc;
	err = spool_read_begin(s, &r);
	if (!err)
		err = spool_stat(r, &stat);
	spool_read_end(r);
	if (err) {
		rc = cli_error(CLI_REFUSED, "%s: %s", spool_dir(s), err_text(err));
	} else {
		o = stat_json(spool_dir(s), &stat);
		cli_show_object(cli, o, print_stat);
		json_decref(o);
	}
	spool_close(s);
	return rc;
}

/* --- spool check --- */

static void on_problem(const char *text, void *arg)
{
	json_array_append_new(arg, json_string(text));
}

static void print_check(struct cli *cli, const json_t *result)
{
	const json_t *list = json_object_get(result, "list"), *text;
	size_t k;

	for (k = 0; (text = json_array_get(list, k)); k++)
		fprintf(cli->out, "%s\n", json_string_value(text));
	fprintf(cli->out, "%lld problem%s\n",
		json_integer_value(json_object_get(result, "problems")),
		json_array_size(list) == 1 ? "" : "s");
}

int spool_check_run(struct cli *cli, const struct invocation *i ATTR_UNUSED)
{
	json_t *list = json_array(), *o;
	struct spool *s;
	long problems;
	int rc = cli_spool_open(cli, &s);

	if (rc) {
		json_decref(list);
		return rc;
	}
	problems = spool_check(s, on_problem, list);
	if (problems < 0) {
		rc = cli_error(CLI_REFUSED, "%s: %s: the check could not end", spool_dir(s),
			       err_text((int)problems));
		json_decref(list);
	} else {
		o = json_pack("{s:I, s:o}", "problems", (json_int_t)problems, "list", list);
		cli_show_object(cli, o, print_check);
		json_decref(o);
		rc = problems ? CLI_REFUSED : CLI_DONE;
	}
	spool_close(s);
	return rc;
}
