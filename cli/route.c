/* check route: how a message would go, by the configuration and by what DNS says of its domain */
#include <stdlib.h>
#include <string.h>

#include "cli/groups.h"
#include "cli/place.h"
#include "cli/provider.h"
#include "cli/table.h"
#include "common/base/xalloc.h"
#include "common/conf/conf.h"

#define CLIENT_DEFAULT "127.0.0.1"

/* The message in question, and what was found out so far. */
struct route {
	struct cli *cli;
	const struct conf *conf;
	struct ip client;
	const char *listener_source; /* [source] of the first listener, or NULL */
	const struct conf_source *source;
	struct slice domain;
	const struct conf_vmta *vmta; /* NULL: refused */
	const struct conf_pool *pool; /* that it is chosen from, or NULL */
	const struct conf_provider *provider;
	char *site; /* "domain/vmta" or "NAME.rollup/vmta" */
	json_t *out;
};

static void put(struct route *r, const char *key, const char *text)
{
	json_object_set_new(r->out, key, text ? json_string(text) : json_null());
}

static json_t *setting_row(const struct conf_setting *s)
{
	return json_pack("{s:s, s:s, s:s?, s:s?, s:o}", "directive", s->keyword, "value", s->value,
			 "section", s->section, "file", s->origin.line ? s->origin.file : NULL,
			 "line", s->origin.line ? json_integer(s->origin.line) : json_null());
}

/* What somebody has set; defaults are in the reference. */
static void add_setting(const struct conf_setting *s, void *arg)
{
	if (s->origin.line)
		json_array_append_new(arg, setting_row(s));
}

/* --- the feeder --- */

static void check_source(struct route *r)
{
	json_t *rows = json_array();
	const struct conf_source *s;
	char domain[260];

	if (conf_listener_count(r->conf))
		r->listener_source = conf_listener_at(r->conf, 0)->source;
	s = r->source = conf_source_for(r->conf, &r->client, r->listener_source);
	conf_show_source(r->conf, &r->client, r->listener_source, add_setting, rows);
	json_object_set_new(r->out, "source_rules", rows);
	slice_copy(r->domain, domain, sizeof(domain));
	if (!s->smtp_service)
		put(r, "refused", "521: smtp-service is off for this client");
	else if (!s->always_allow_relaying &&
		 !conf_patterns_match(&s->relay_domain, slice_str(domain)))
		put(r, "refused",
		    "550: relaying is not allowed for this client and this domain "
		    "(always-allow-relaying, relay-domain)");
	else
		put(r, "refused", NULL);
}

/* --- the virtual MTA --- */

/* The value of the header if the source lets the feeder choose; NULL: it has not. */
static char *named_in_header(const struct route *r, const char *header)
{
	struct slice h = slice_str(header ? header : ""), name;
	ptrdiff_t colon = slice_chr(h, ':');

	if (colon < 0 || !r->source->process_x_virtual_mta)
		return NULL;
	name = slice_trim(slice_sub(h, 0, (size_t)colon));
	if (!slice_ieq_str(name, "X-Virtual-MTA"))
		return NULL;
	return slice_dup(slice_trim(slice_from(h, (size_t)colon + 1)));
}

static bool exists(const struct route *r, struct slice name)
{
	return conf_vmta_find(r->conf, name) || conf_pool_find(r->conf, name);
}

static const char *selection_name(int selection)
{
	switch ((enum conf_selection)selection) {
	case CONF_ROUND_ROBIN:
		return "round-robin";
	case CONF_WEIGHTED:
		return "weighted";
	case CONF_SEQUENTIAL:
		return "sequential";
	}
	return "unknown";
}

static void add_members(struct route *r)
{
	const struct conf_pool *p = r->pool;
	json_t *rows = json_array();

	for (size_t i = 0; i < p->member_count; i++)
		json_array_append_new(rows, json_pack("{s:s, s:I}", "vmta", p->members[i]->name,
						      "share", (json_int_t)p->shares[i]));
	json_object_set_new(r->out, "selection", json_string(selection_name(p->selection)));
	json_object_set_new(r->out, "members", rows);
}

/* Of a pool the member that --vmta names, or the first. */
static bool choose_vmta(struct route *r, struct slice name, const char *wanted)
{
	r->pool = conf_pool_find(r->conf, name);
	put(r, "pool", r->pool ? r->pool->name : NULL);
	if (!r->pool) {
		r->vmta = conf_vmta_find(r->conf, name);
		return true;
	}
	add_members(r);
	r->vmta = r->pool->members[0];
	for (size_t i = 0; wanted && i < r->pool->member_count; i++)
		if (slice_ieq_str(slice_str(wanted), r->pool->members[i]->name))
			r->vmta = r->pool->members[i];
	return !wanted || slice_ieq_str(slice_str(wanted), r->vmta->name);
}

static int check_vmta(struct route *r, const char *header, const char *wanted)
{
	char *named = named_in_header(r, header);
	const char *name = r->source->default_virtual_mta, *rule = "default-virtual-mta";
	bool chosen;

	if (named && exists(r, slice_str(named))) {
		name = named;
		rule = "X-Virtual-MTA";
	} else if (named && r->source->reject_invalid_virtual_mta) {
		put(r, "refused", "550: X-Virtual-MTA names no virtual MTA or pool");
		name = NULL;
	} else if (named) {
		rule = "default-virtual-mta (X-Virtual-MTA names none that exists)";
	}
	if (name && !exists(r, slice_str(name)))
		name = "{default}";
	put(r, "rule", name ? rule : NULL);
	chosen = !name || choose_vmta(r, slice_str(name), wanted);
	put(r, "virtual_mta", r->vmta ? r->vmta->name : NULL);
	free(named);
	return chosen ? 0
		      : cli_error(CLI_REFUSED, "%s is no member of the pool %s", wanted,
				  r->pool->name);
}

/* --- where to --- */

static void check_provider(struct route *r)
{
	struct provider found;

	provider_find(r->cli, r->conf, r->domain, slice_str(r->vmta->name), true, &found);
	r->provider = found.p;
	put(r, "provider_by", found.by);
	json_object_set(r->out, "hosts", found.hosts ? found.hosts : json_null());
	provider_done(&found);
	put(r, "provider", r->provider ? r->provider->name : NULL);
	r->site = r->provider ? xasprintf("%s.rollup/%s", r->provider->name, r->vmta->name)
			      : xasprintf("%.*s/%s", SLICE_ARG(r->domain), r->vmta->name);
	put(r, "site", r->site);
}

/* --- limits --- */

static void add_limit(json_t *rows, const char *kind, const char *name, uint64_t cap)
{
	if (cap)
		json_array_append_new(rows, json_pack("{s:s, s:s, s:I}", "kind", kind, "name", name,
						      "cap", (json_int_t)cap));
}

static void add_host_limits(const struct route *r, json_t *rows, const char *host,
			    const char *address)
{
	const struct conf_mx_limit *mx = conf_mx_limit_for(r->conf, slice_str(host));
	const struct conf_ip_limit *each, *pair;
	struct ip ip;

	if (!ip_parse(slice_str(address), &ip))
		return;
	each = conf_ip_limit_for(r->conf, &ip, false);
	pair = conf_ip_limit_for(r->conf, &ip, true);
	add_limit(rows, "ip", address, each ? each->n : 0);
	add_limit(rows, "ip-pair", address, pair ? pair->n : 0);
	add_limit(rows, "mx", host, mx ? mx->n : 0);
}

static void add_source_limits(const struct route *r, json_t *rows, const struct conf_domain *set)
{
	const struct conf_source_hosts *h = &r->vmta->smtp_source_host;
	const struct conf_ip_limit *l;
	char text[IP_TEXT_MAX];

	for (size_t i = 0; i < h->n; i++) {
		ip_text(&h->v[i].ip, text);
		l = conf_source_limit_for(&set->source_ip_max_smtp_out, &h->v[i].ip);
		add_limit(rows, "source-ip", text, l ? l->n : 0);
		l = r->provider ? conf_source_limit_for(&r->provider->source_ip_max_smtp_out,
							&h->v[i].ip)
				: NULL;
		add_limit(rows, "provider-source-ip", text, l ? l->n : 0);
	}
}

static void check_limits(struct route *r, const struct conf_domain *set)
{
	json_t *rows = json_array(), *host, *address;
	size_t i, k;

	add_limit(rows, "total", "", conf_global(r->conf)->total_max_smtp_out);
	add_limit(rows, "vmta", r->vmta->name, r->vmta->max_smtp_out);
	for (i = 0; i < r->vmta->pool_count; i++)
		add_limit(rows, "pool", r->vmta->pools[i]->name, r->vmta->pools[i]->max_smtp_out);
	if (r->provider)
		add_limit(rows, "provider", r->provider->name, r->provider->max_smtp_out);
	add_limit(rows, "queue", r->site, set->max_smtp_out);
	add_source_limits(r, rows, set);
	json_array_foreach(json_object_get(r->out, "hosts"), i, host)
	{
		const char *name = json_string_value(json_object_get(host, "host"));

		json_array_foreach(json_object_get(host, "addresses"), k, address)
		{
			add_host_limits(r, rows, name, json_string_value(address));
		}
	}
	json_object_set_new(r->out, "limits", rows);
}

static void check_settings(struct route *r)
{
	struct slice site = slice_str(r->site), vmta = slice_str(r->vmta->name);
	struct slice domain = slice_sub(site, 0, (size_t)slice_rchr(site, '/'));
	json_t *rows = json_array();

	conf_show_settings(r->conf, r->provider, r->domain, vmta, add_setting, rows);
	check_limits(r, conf_domain_for(r->conf, domain, vmta));
	json_object_set_new(r->out, "settings", rows);
}

static void add_addresses(struct route *r)
{
	const struct conf_source_hosts *h = &r->vmta->smtp_source_host;
	json_t *rows = json_array();
	char text[IP_TEXT_MAX];

	for (size_t i = 0; i < h->n; i++)
		json_array_append_new(rows,
				      json_pack("{s:s, s:s}", "address", ip_text(&h->v[i].ip, text),
						"helo", h->v[i].host));
	json_object_set_new(r->out, "source_addresses", rows);
}

/* --- for people --- */

static const struct column route_fields[] = {
	{"refused", "refused", COL_TEXT},
	{"virtual_mta", "virtual MTA", COL_NAME},
	{"rule", "by", COL_TEXT},
	{"pool", "pool", COL_NAME},
	{"selection", "selection", COL_NAME},
	{"queue", "queue", COL_NAME},
	{"provider", "provider", COL_NAME},
	{"provider_by", "provider by", COL_TEXT},
	{"site", "limits and retries of", COL_NAME},
	{NULL, NULL, COL_TEXT},
};
static const struct column member_columns[] = {
	{"vmta", "MEMBER", COL_NAME}, {"share", "SHARE", COL_COUNT}, {NULL, NULL, COL_TEXT}};
static const struct column address_columns[] = {
	{"address", "FROM ADDRESS", COL_NAME}, {"helo", "EHLO", COL_NAME}, {NULL, NULL, COL_TEXT}};
static const struct column limit_columns[] = {{"kind", "LIMIT", COL_NAME},
					      {"name", "NAME", COL_TEXT},
					      {"cap", "CAP", COL_COUNT},
					      {NULL, NULL, COL_TEXT}};

static void print_route(struct cli *cli, const json_t *r)
{
	table_fields(cli, r, route_fields);
	table_inside(cli, "the client's rules", json_object_get(r, "source_rules"),
		     show_setting_columns);
	table_inside(cli, "members", json_object_get(r, "members"), member_columns);
	table_inside(cli, "addresses", json_object_get(r, "source_addresses"), address_columns);
	table_inside(cli, "limits", json_object_get(r, "limits"), limit_columns);
	table_inside(cli, "settings", json_object_get(r, "settings"), show_setting_columns);
}

static int check(struct route *r, const struct invocation *i)
{
	int rc;

	check_source(r);
	rc = check_vmta(r, i->text[OPTION_HEADER], i->text[OPTION_VMTA]);
	if (rc || !r->vmta)
		return rc;
	json_object_set_new(r->out, "queue",
			    json_sprintf("%.*s/%s", SLICE_ARG(r->domain), r->vmta->name));
	add_addresses(r);
	check_provider(r);
	check_settings(r);
	return 0;
}

int route_check_run(struct cli *cli, const struct invocation *i)
{
	const char *client = i->text[OPTION_CLIENT] ? i->text[OPTION_CLIENT] : CLIENT_DEFAULT;
	const char *rcpt = i->text[OPTION_RCPT] ? i->text[OPTION_RCPT] : "";
	const char *at = strrchr(rcpt, '@');
	struct route r = {.cli = cli, .conf = cli_conf(cli)};
	char *domain;
	int rc;

	if (!r.conf)
		return CLI_REFUSED;
	if (!at || !at[1])
		return cli_error(CLI_USAGE, "-r %s: not an address: -r user@example.com", rcpt);
	if (!ip_parse(slice_str(client), &r.client))
		return cli_error(CLI_USAGE, "--client %s: not an IP address", client);
	domain = slice_dup_lower(slice_str(at + 1));
	r.domain = slice_str(domain);
	r.out = json_object();
	put(&r, "client", client);
	put(&r, "from", i->text[OPTION_FROM]);
	put(&r, "rcpt", rcpt);
	rc = check(&r, i);
	if (rc == 0)
		cli_show_object(cli, r.out, print_route);
	if (rc == 0 && !json_is_null(json_object_get(r.out, "refused")))
		rc = CLI_REFUSED;
	json_decref(r.out);
	free(r.site);
	free(domain);
	return rc;
}
