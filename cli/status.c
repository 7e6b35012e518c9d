/* show status, for people */
#include <string.h>

#include "cli/groups.h"
#include "cli/table.h"
#include "cli/text.h"

static const struct column server_fields[] = {
	{"host", "host", COL_NAME},	{"version", "version", COL_NAME},
	{"uptime", "up for", COL_SPAN}, {"generation", "reloads", COL_COUNT},
	{NULL, NULL, COL_TEXT},
};

static const struct column spool_fields[] = {
	{"dir", "spool", COL_NAME},
	{"recipients", "recipients", COL_COUNT},
	{"messages", "messages", COL_COUNT},
	{"live_bytes", "kB", COL_BYTES},
	{"disk_free", "disk free kB", COL_BYTES},
	{NULL, NULL, COL_TEXT},
};

static const struct column counter_fields[] = {
	{"connections_in_open", "connections in", COL_COUNT},
	{"connections_out_open", "connections out", COL_COUNT},
	{"connect_failures", "connects failed", COL_COUNT},
	{"bounced_recipients", "bounced", COL_COUNT},
	{"transient_recipients", "transient failures", COL_COUNT},
	{"refused_messages", "refused messages", COL_COUNT},
	{"recipients_in_hand", "in workers' hands", COL_COUNT},
	{"acct_waiting", "accounting waiting", COL_COUNT},
	{"dns_cached", "DNS cached", COL_COUNT},
	{"dns_pending", "DNS pending", COL_COUNT},
	{"dns_failures", "DNS failures", COL_COUNT},
	{NULL, NULL, COL_TEXT},
};

static const struct column traffic_columns[] = {
	{"what", "TRAFFIC", COL_NAME},
	{"total", "TOTAL", COL_COUNT},
	{"last_hour", "LAST HOUR", COL_COUNT},
	{"top_hour", "TOP/HOUR", COL_COUNT},
	{"last_minute", "LAST MIN", COL_COUNT},
	{"top_minute", "TOP/MIN", COL_COUNT},
	{NULL, NULL, COL_TEXT},
};

static const struct column process_columns[] = {
	{"role", "PROCESS", COL_NAME}, {"vmta", "VMTA", COL_NAME},    {"pid", "PID", COL_NAME},
	{"state", "STATE", COL_NAME},  {"orphan", "ORPHAN", COL_YES}, {NULL, NULL, COL_TEXT},
};

/* {"in":{"messages":{…}}} → rows {"what":"in messages", …} */
static json_t *traffic_rows(const json_t *traffic)
{
	static const char *const ways[] = {"in", "out"}, *const units[] = {"recipients", "messages",
									   "bytes"};
	json_t *rows = json_array();
	size_t w, u;

	for (w = 0; w < ARRAY_SIZE(ways); w++) {
		for (u = 0; u < ARRAY_SIZE(units); u++) {
			json_t *row = json_copy(
				json_object_get(json_object_get(traffic, ways[w]), units[u]));

			if (!row)
				continue;
			json_object_set_new(row, "what", json_sprintf("%s, %s", ways[w], units[u]));
			json_array_append_new(rows, row);
		}
	}
	return rows;
}

static void print_accepting(struct cli *cli, const json_t *status)
{
	struct buf why = BUF_INIT;

	text_value(&why, json_object_get(status, "why_not"), COL_TEXT);
	if (json_is_true(json_object_get(status, "accepting")))
		fputs("new mail is accepted\n", cli->out);
	else
		fprintf(cli->out, "%sNEW MAIL IS NOT ACCEPTED: %s%s\n",
			cli->color ? "\033[1;31m" : "", buf_cstr(&why),
			cli->color ? "\033[0m" : "");
	buf_done(&why);
}

void status_print(struct cli *cli, const json_t *status)
{
	json_t *traffic = traffic_rows(json_object_get(status, "traffic"));

	table_fields(cli, status, server_fields);
	print_accepting(cli, status);
	table_inside(cli, "", traffic, traffic_columns);
	fputc('\n', cli->out);
	table_fields(cli, json_object_get(status, "spool"), spool_fields);
	fputc('\n', cli->out);
	table_fields(cli, json_object_get(status, "counters"), counter_fields);
	table_inside(cli, "", json_object_get(status, "processes"), process_columns);
	json_decref(traffic);
}
