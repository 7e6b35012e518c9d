/* show queues, queue, vmtas, limits, settings, paused, version */
#include <stdlib.h>
#include <string.h>

#include "cli/client.h"
#include "cli/groups.h"
#include "cli/place.h"
#include "cli/provider.h"
#include "cli/remote.h"
#include "cli/table.h"
#include "common/conf/conf.h"
#include "common/version.h"

const struct column show_queue_columns[] = {
	{"queue", "QUEUE", COL_NAME},
	{"recipients", "RCPT", COL_COUNT},
	{"bytes", "KB", COL_BYTES},
	{"connections", "CONN", COL_COUNT},
	{"mode", "MODE", COL_NAME},
	{"paused", "PAUSED", COL_YES},
	{"next_retry", "RETRY", COL_WHEN},
	{"next_expiry", "EXPIRES", COL_WHEN},
	{"waiting_for", "WAITS FOR", COL_TEXT},
	{"last_error", "LAST ERROR", COL_TEXT},
	{NULL, NULL, COL_TEXT},
};

const struct column show_vmta_columns[] = {
	{"vmta", "VMTA", COL_NAME},
	{"recipients", "RCPT", COL_COUNT},
	{"bytes", "KB", COL_BYTES},
	{"queues", "QUEUES", COL_COUNT},
	{"connections", "CONN", COL_COUNT},
	{"max_smtp_out", "MAX", COL_COUNT},
	{"in_hand", "IN HAND", COL_COUNT},
	{"state", "WORKER", COL_NAME},
	{"pid", "PID", COL_NAME},
	{"orphan", "ORPHAN", COL_YES},
	{NULL, NULL, COL_TEXT},
};

const struct column show_provider_columns[] = {
	{"provider", "PROVIDER", COL_NAME},
	{"recipients", "RCPT", COL_COUNT},
	{"bytes", "KB", COL_BYTES},
	{"queues", "QUEUES", COL_COUNT},
	{"connections", "CONN", COL_COUNT},
	{"in_hand", "IN HAND", COL_COUNT},
	{"retrying", "RETRYING", COL_COUNT},
	{"paused", "PAUSED", COL_COUNT},
	{NULL, NULL, COL_TEXT},
};

const struct column show_pool_columns[] = {
	{"pool", "POOL", COL_NAME},
	{"selection", "SELECTION", COL_NAME},
	{"member", "MEMBER", COL_NAME},
	{"share", "SHARE", COL_COUNT},
	{"recipients", "RCPT", COL_COUNT},
	{"next", "NEXT", COL_YES},
	{NULL, NULL, COL_TEXT},
};

const struct column show_limit_columns[] = {
	{"kind", "LIMIT", COL_NAME},	   {"name", "NAME", COL_TEXT},
	{"in_use", "IN USE", COL_COUNT},   {"cap", "CAP", COL_COUNT},
	{"waiting", "WAITING", COL_COUNT}, {NULL, NULL, COL_TEXT},
};

const struct column show_rate_columns[] = {
	{"of", "RATE OF", COL_NAME},   {"name", "NAME", COL_TEXT},   {"counts", "COUNTS", COL_NAME},
	{"rate", "AT MOST", COL_NAME}, {"opens", "OPENS", COL_WHEN}, {NULL, NULL, COL_TEXT},
};

const struct column show_setting_columns[] = {
	{"directive", "DIRECTIVE", COL_NAME},
	{"value", "VALUE", COL_TEXT},
	{"section", "SECTION", COL_TEXT},
	{"file", "FILE", COL_TEXT},
	{"line", "LINE", COL_COUNT},
	{"shadowed_by", "SHADOWED BY PROVIDER", COL_NAME},
	{NULL, NULL, COL_TEXT},
};

const struct column show_paused_columns[] = {
	{"queue", "QUEUES", COL_NAME}, {"job", "JOB", COL_NAME}, {"since", "SINCE", COL_TIME},
	{"by", "BY", COL_TEXT},	       {NULL, NULL, COL_TEXT},
};

const struct column show_disabled_columns[] = {
	{"source", "SOURCE", COL_NAME}, {"queue", "QUEUES", COL_NAME},
	{"since", "SINCE", COL_TIME},	{"until", "UNTIL", COL_TIME},
	{"by", "BY", COL_NAME},		{"reason", "REASON", COL_TEXT},
	{NULL, NULL, COL_TEXT},
};

const struct column show_warmup_columns[] = {
	{"ip", "IP", COL_NAME},
	{"site", "SITE", COL_NAME},
	{"warm_up", "WARM-UP", COL_NAME},
	{"day", "DAY", COL_COUNT},
	{"number", "NUMBER", COL_COUNT},
	{"used", "USED", COL_COUNT},
	{"left", "LEFT", COL_COUNT},
	{"attempted", "TRIED", COL_COUNT},
	{"transient", "TRANSIENT", COL_COUNT},
	{"policy", "POLICY", COL_COUNT},
	{"paused", "PAUSED", COL_YES},
	{"last_days", "LAST DAYS", COL_TEXT},
	{"why", "WHY", COL_TEXT},
	{NULL, NULL, COL_TEXT},
};

/* --- show queue --- */

/* Of a provider's site: more is in `show queues NAME.rollup/VMTA`. */
#define MEMBERS_SHOWN 100

static const struct column queue_fields[] = {
	{"queue", "queue", COL_NAME},
	{"site", "site", COL_NAME},
	{"queue_count", "queues with mail", COL_COUNT},
	{"mode", "mode", COL_NAME},
	{"mode_since", "mode since", COL_TIME},
	{"mode_until", "mode until", COL_TIME},
	{"mode_reason", "reason of the mode", COL_TEXT},
	{"since", "fails since", COL_TIME},
	{"reason", "with", COL_TEXT},
	{"paused", "paused", COL_YES},
	{"recipients", "recipients", COL_COUNT},
	{"bytes", "kB", COL_BYTES},
	{"in_hand", "in hand", COL_COUNT},
	{"connections", "connections", COL_COUNT},
	{"rerouted_to", "goes through", COL_NAME},
	{"rerouted_by", "by", COL_TEXT},
	{"retry_position", "failures in a row", COL_COUNT},
	{"next_retry", "next retry", COL_WHEN},
	{"next_expiry", "next expiry", COL_WHEN},
	{"waiting_for", "waits for", COL_TEXT},
	{"last_error", "last error", COL_TEXT},
	{NULL, NULL, COL_TEXT},
};

static const struct column mx_columns[] = {
	{"preference", "PREF", COL_COUNT},
	{"host", "MX", COL_NAME},
	{"address", "ADDRESS", COL_NAME},
	{"state", "STATE", COL_TEXT},
	{NULL, NULL, COL_TEXT},
};

static const struct column connection_columns[] = {
	{"host", "CONNECTED TO", COL_NAME},
	{"address", "ADDRESS", COL_NAME},
	{"messages", "MESSAGES", COL_COUNT},
	{"doing", "DOING", COL_TEXT},
	{NULL, NULL, COL_TEXT},
};

static const struct column error_columns[] = {
	{"count", "COUNT", COL_COUNT},	  {"last", "LAST", COL_TIME}, {"text", "REPLY", COL_TEXT},
	{"pattern", "PATTERN", COL_TEXT}, {NULL, NULL, COL_TEXT},
};

static const struct column event_columns[] = {
	{"at", "TIME", COL_TIME},
	{"count", "TIMES", COL_COUNT},
	{"text", "EVENT", COL_TEXT},
	{NULL, NULL, COL_TEXT},
};

static const struct column source_columns[] = {
	{"source", "SOURCE", COL_NAME},	   {"accepted", "LAST MINUTE", COL_COUNT},
	{"rate", "PER MINUTE", COL_TEXT},  {"good", "LAST GOOD", COL_TEXT},
	{"disabled", "DISABLED", COL_YES}, {NULL, NULL, COL_TEXT},
};

static const struct column change_columns[] = {
	{"at", "AT", COL_TIME},
	{"mode", "MODE", COL_NAME},
	{"why", "WHY", COL_TEXT},
	{NULL, NULL, COL_TEXT},
};

void show_queue_print(struct cli *cli, const json_t *q)
{
	table_fields(cli, q, queue_fields);
	table_inside(cli, "hosts", json_object_get(q, "mx"), mx_columns);
	table_inside(cli, "connections", json_object_get(q, "connection_list"), connection_columns);
	table_inside(cli, "sources", json_object_get(q, "sources"), source_columns);
	table_inside(cli, "mode changes", json_object_get(q, "mode_changes"), change_columns);
	table_inside(cli, "limits", json_object_get(q, "limits"), show_limit_columns);
	table_inside(cli, "replies", json_object_get(q, "errors"), error_columns);
	table_inside(cli, "events", json_object_get(q, "events"), event_columns);
	table_inside(cli, "queues", json_object_get(q, "queues"), show_queue_columns);
}

static void on_site(const json_t *data, void *arg)
{
	json_object_update(arg, (json_t *)(uintptr_t)data);
}

static void count_up(json_t *site, const json_t *member, const char *key)
{
	json_int_t n = json_integer_value(json_object_get(site, key));

	json_object_set_new(site, key,
			    json_integer(n + json_integer_value(json_object_get(member, key))));
}

/* Those with most mail come first. */
static void on_member(const json_t *row, void *arg)
{
	json_t *site = arg, *shown = json_object_get(site, "queues");
	json_int_t n = json_integer_value(json_object_get(site, "queue_count"));

	json_object_set_new(site, "queue_count", json_integer(n + 1));
	count_up(site, row, "recipients");
	count_up(site, row, "bytes");
	if (json_array_size(shown) < MEMBERS_SHOWN)
		json_array_append(shown, (json_t *)(uintptr_t)row);
}

static int ask_site(const char *socket, const struct invocation *i, json_t *site, char **ret_error)
{
	struct client_events whole = {.on_data = on_site, .arg = site};
	struct client_events members = {.on_data = on_member, .arg = site};
	int rc = client_run(socket, "show queue", remote_args(i), &whole, ret_error);

	if (rc != CLI_DONE)
		return rc;
	json_object_set_new(site, "recipients", json_integer(0));
	json_object_set_new(site, "bytes", json_integer(0));
	json_object_set_new(site, "queue_count", json_integer(0));
	json_object_set_new(site, "queues", json_array());
	return client_run(socket, "show queues", json_pack("{s:s}", "pattern", i->args[0]),
			  &members, ret_error);
}

/* The worker knows the site, the spooler all the queues that are at it. */
static int show_site(struct cli *cli, const struct invocation *i)
{
	json_t *site = json_object();
	char *error = NULL;
	struct place p;
	int rc = place_find(cli, &p);

	if (rc == 0)
		rc = ask_site(p.control_socket, i, site, &error);
	if (rc == CLI_DONE)
		cli_show_object(cli, site, show_queue_print);
	else if (error)
		cli_error(rc, "%s", error);
	json_decref(site);
	free(error);
	place_done(&p);
	return rc;
}

int show_queue_run(struct cli *cli, const struct invocation *i)
{
	const char *slash = strrchr(i->args[0], '/');

	if (!slash || slash == i->args[0] || !slash[1] || strchr(i->args[0], '*'))
		return cli_error(CLI_USAGE,
				 "name one queue as DOMAIN/VMTA; for patterns: sluice show queues");
	if (slice_iends(slice_of(i->args[0], (size_t)(slash - i->args[0])), ".rollup"))
		return show_site(cli, i);
	return remote_run(cli, i);
}

/* --- show settings --- */

static void on_setting(const struct conf_setting *s, void *arg)
{
	json_t *row = json_pack("{s:s, s:s, s:s?, s:s?, s:o, s:s?}", "directive", s->keyword,
				"value", s->value, "section", s->section, "file",
				s->origin.line ? s->origin.file : NULL, "line",
				s->origin.line ? json_integer(s->origin.line) : json_null(),
				"shadowed_by", s->shadowed_by);

	table_add(arg, row);
	json_decref(row);
}

static void split_queue(const struct invocation *i, struct slice *ret_domain,
			struct slice *ret_vmta)
{
	struct slice queue = slice_str(i->args[0]);
	ptrdiff_t slash = slice_rchr(queue, '/');

	*ret_domain = slash < 0 ? queue : slice_sub(queue, 0, (size_t)slash);
	*ret_vmta = slash < 0 ? slice_of(NULL, 0) : slice_from(queue, (size_t)slash + 1);
}

/* What has been found of the provider, beside the table. */
static void say_provider(struct cli *cli, const char *name, const char *by)
{
	if (cli->json || !by)
		return;
	if (name)
		fprintf(stderr, "of the provider %s, by %s\n", name,
			strcmp(by, "mx") == 0 ? "its mail hosts" : by);
	else
		fprintf(stderr, "provider %s\n", by);
}

static int settings_from_file(struct cli *cli, const struct invocation *i)
{
	const struct conf *c = cli_conf(cli);
	struct slice domain, vmta;
	struct provider found;
	const char *fault;
	struct table *t;

	if (!c)
		return CLI_REFUSED;
	split_queue(i, &domain, &vmta);
	fault = conf_queue_fault(c, domain, vmta);
	if (fault)
		return cli_error(CLI_REFUSED, "%s", fault);
	provider_find(cli, c, domain, vmta, false, &found);
	t = table_new(cli, show_setting_columns, NULL);
	conf_show_settings(c, found.p, domain, vmta, on_setting, t);
	table_end(t);
	say_provider(cli, found.p ? found.p->name : NULL, found.by);
	provider_done(&found);
	return CLI_DONE;
}

/* Whether one may be found by its mail hosts: if not, nobody is asked. */
static bool has_providers(struct cli *cli)
{
	struct place p;

	place_find(cli, &p);
	place_done(&p);
	return !cli->conf || conf_provider_count(cli->conf) > 0;
}

/* The daemon's settings, and its word for which provider the mail hosts are of. */
int show_settings_run(struct cli *cli, const struct invocation *i)
{
	struct slice domain, vmta;
	json_t *known;
	const char *name, *by;
	int rc;

	split_queue(i, &domain, &vmta);
	known = has_providers(cli) ? provider_ask(cli, domain) : NULL;
	name = json_string_value(json_object_get(known, "provider"));
	by = json_string_value(json_object_get(known, "provider_by"));
	rc = remote_try(cli, i, name ? json_pack("{s:s}", "provider", name) : NULL);
	if (rc == CLI_DONE)
		say_provider(cli, name, by);
	json_decref(known);
	return rc == CLI_NO_DAEMON ? settings_from_file(cli, i) : rc;
}

/* --- show version --- */

static void on_version(const json_t *data, void *arg)
{
	json_object_set((json_t *)arg, "daemon", json_object_get(data, "version"));
}

static void print_version(struct cli *cli, const json_t *v)
{
	const char *d = json_string_value(json_object_get(v, "daemon"));

	fprintf(cli->out, "sluice %s, daemon %s\n",
		json_string_value(json_object_get(v, "version")), d ? d : "not reachable");
}

int show_version_run(struct cli *cli, const struct invocation *i ATTR_UNUSED)
{
	json_t *v = json_pack("{s:s, s:n}", "version", SLUICE_VERSION, "daemon");
	struct client_events events = {.on_data = on_version, .arg = v};
	char *error = NULL;
	struct place p;

	if (place_find(cli, &p) == 0)
		(void)client_run(p.control_socket, "show version", json_object(), &events, &error);
	cli_show_object(cli, v, print_version);
	json_decref(v);
	free(error);
	place_done(&p);
	return CLI_DONE;
}
