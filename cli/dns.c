/* resolve, clear dnscache */
#include "cli/groups.h"
#include "cli/table.h"
#include "cli/text.h"

static const struct column route_fields[] = {
	{"domain", "domain", COL_NAME},
	{"status", "status", COL_NAME},
	{"text", "reason", COL_TEXT},
	{"provider", "provider", COL_NAME},
	{"provider_by", "provider by", COL_TEXT},
	{"implicit_mx", "no MX, host itself", COL_YES},
	{"secure", "DNSSEC", COL_YES},
	{"ttl", "valid for", COL_SPAN},
	{"resolver", "answered by", COL_NAME},
	{"cached", "from the cache", COL_YES},
	{NULL, NULL, COL_TEXT},
};

static const struct column host_columns[] = {
	{"preference", "PREF", COL_COUNT},
	{"host", "HOST", COL_NAME},
	{"status", "STATUS", COL_NAME},
	{"addresses", "ADDRESSES", COL_TEXT},
	{NULL, NULL, COL_TEXT},
};

void dns_print_route(struct cli *cli, const json_t *route)
{
	table_fields(cli, route, route_fields);
	table_inside(cli, "mail hosts", json_object_get(route, "hosts"), host_columns);
}

void dns_print_cleared(struct cli *cli, const json_t *result)
{
	struct buf b = BUF_INIT;

	text_value(&b, json_object_get(result, "cleared"), COL_COUNT);
	fprintf(cli->out, "%s answers forgotten\n", buf_cstr(&b));
	buf_done(&b);
}
