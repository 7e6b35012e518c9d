#include "cli/place.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/xalloc.h"
#include "common/conf/conf.h"

#define RUNTIME_DIR_DEFAULT "/run/sluice"
#define SPOOL_DIR_DEFAULT "/var/spool/sluice"

static struct conf *load(struct cli *cli, bool say_errors)
{
	struct conf_messages msgs = {0};

	if (!cli->conf) {
		cli->conf = conf_load(cli->conf_path, &msgs);
		if (!cli->conf && say_errors)
			conf_messages_print(&msgs, stderr);
		conf_messages_done(&msgs);
	}
	return cli->conf;
}

const struct conf *cli_conf(struct cli *cli)
{
	return load(cli, true);
}

void cli_conf_done(struct cli *cli)
{
	conf_free(cli->conf);
	cli->conf = NULL;
}

/* "key = value  # comment" → the value, without quotes. */
static struct slice value_of(struct slice line)
{
	ptrdiff_t at = slice_chr(line, '='), end;
	struct slice v = slice_trim(slice_from(line, (size_t)at + 1));

	if (v.n > 1 && v.p[0] == '"') {
		end = slice_chr(slice_from(v, 1), '"');
		return end >= 0 ? slice_sub(v, 1, (size_t)end) : slice_from(v, 1);
	}
	for (end = 1; (size_t)end < v.n; end++)
		if ((v.p[end] == '#' || v.p[end] == ';') &&
		    (v.p[end - 1] == ' ' || v.p[end - 1] == '\t'))
			return slice_trim(slice_sub(v, 0, (size_t)end));
	return v;
}

static void scan_line(struct slice line, struct place *p, char **runtime_dir)
{
	const struct {
		const char *key;
		char **to;
	} wanted[] = {{"control-socket", &p->control_socket},
		      {"spool-dir", &p->spool_dir},
		      {"runtime-dir", runtime_dir}};
	ptrdiff_t eq = slice_chr(line, '=');
	size_t i;

	for (i = 0; eq > 0 && i < ARRAY_SIZE(wanted); i++) {
		if (!slice_ieq_str(slice_trim(slice_sub(line, 0, (size_t)eq)), wanted[i].key))
			continue;
		free(*wanted[i].to);
		*wanted[i].to = slice_dup(value_of(line));
	}
}

void place_scan(FILE *conf, struct place *p, char **ret_runtime_dir)
{
	bool global = false;
	char *text = NULL;
	size_t cap = 0;
	ssize_t n;

	while ((n = getline(&text, &cap, conf)) >= 0) {
		struct slice line = slice_trim(slice_of(text, (size_t)n));

		if (line.n && line.p[0] == '[')
			global = slice_istarts(line, "[global]");
		else if (global && line.n && line.p[0] != '#' && line.p[0] != ';')
			scan_line(line, p, ret_runtime_dir);
	}
	free(text);
}

static int scan_file(struct cli *cli, struct place *p, char **runtime_dir)
{
	FILE *f = fopen(cli->conf_path, "re");

	if (f) {
		place_scan(f, p, runtime_dir);
		fclose(f);
		return 0;
	}
	if (!cli->conf_given)
		return 0;
	return cli_error(CLI_REFUSED, "cannot read %s: %s", cli->conf_path, strerror(errno));
}

int place_find(struct cli *cli, struct place *ret)
{
	const struct conf *c = load(cli, false);
	char *runtime_dir = NULL;
	int err = 0;

	memset(ret, 0, sizeof(*ret));
	if (c) {
		const struct conf_global *g = conf_global(c);

		runtime_dir = xstrdup(g->runtime_dir);
		ret->spool_dir = xstrdup(g->spool_dir);
		if (g->control_socket)
			ret->control_socket = xstrdup(g->control_socket);
	} else {
		err = scan_file(cli, ret, &runtime_dir);
	}
	if (!ret->spool_dir)
		ret->spool_dir = xstrdup(SPOOL_DIR_DEFAULT);
	if (!ret->control_socket)
		ret->control_socket = xasprintf("%s/control.sock",
						runtime_dir ? runtime_dir : RUNTIME_DIR_DEFAULT);
	free(runtime_dir);
	return err;
}

void place_done(struct place *p)
{
	free(p->control_socket);
	free(p->spool_dir);
	memset(p, 0, sizeof(*p));
}
