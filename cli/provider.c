#include "cli/provider.h"

#include <stdlib.h>

#include "cli/client.h"
#include "cli/place.h"
#include "common/base/xalloc.h"
#include "common/conf/conf.h"
#include "common/dns/dns.h"
#include "common/conf/rollup_judge.h"

static void on_answer(const json_t *data, void *arg)
{
	json_object_update(arg, (json_t *)(uintptr_t)data);
}

json_t *provider_ask(struct cli *cli, struct slice domain)
{
	json_t *answer = json_object();
	struct client_events events = {.on_data = on_answer, .arg = answer};
	char *error = NULL;
	struct place p;
	int rc = CLI_REFUSED;

	if (domain.n == 0 || slice_iends(domain, ".rollup")) {
		json_decref(answer);
		return NULL;
	}
	rc = place_find(cli, &p);
	if (rc == 0)
		rc = client_run(p.control_socket, "resolve",
				json_pack("{s:o}", "domain", json_stringn(domain.p, domain.n)),
				&events, &error);
	if (rc != CLI_DONE) {
		json_decref(answer);
		answer = NULL;
	}
	free(error);
	place_done(&p);
	return answer;
}

/* The same as the daemon got it. */
static enum dns_status status_of(const json_t *answer)
{
	const char *name = json_string_value(json_object_get(answer, "status"));

	for (int s = DNS_OK; s <= DNS_LOOP; s++)
		if (name && slice_eq_str(slice_str(name), dns_status_name((enum dns_status)s)))
			return (enum dns_status)s;
	return DNS_TEMPFAIL;
}

static void take_host(struct dns_host *to, const json_t *row)
{
	const char *name = json_string_value(json_object_get(row, "host"));
	json_t *addresses = json_object_get(row, "addresses"), *one;
	size_t i;

	to->name = xstrdup(name ? name : "");
	to->preference = (uint16_t)json_integer_value(json_object_get(row, "preference"));
	to->addrs = xcalloc(json_array_size(addresses) + 1, sizeof(*to->addrs));
	json_array_foreach(addresses, i, one)
	{
		const char *text = json_string_value(one);

		if (text && ip_parse(slice_str(text), &to->addrs[to->addr_count]))
			to->addr_count++;
	}
}

static struct dns_route *route_of(const json_t *answer)
{
	struct dns_route *r = xcalloc(1, sizeof(*r));
	json_t *hosts = json_object_get(answer, "hosts"), *row;
	size_t i;

	r->status = status_of(answer);
	r->text = xstrdup("");
	r->resolver = xstrdup("");
	r->hosts = xcalloc(json_array_size(hosts) + 1, sizeof(*r->hosts));
	json_array_foreach(hosts, i, row)
	{
		take_host(&r->hosts[r->host_count++], row);
	}
	return r;
}

static void judge(const struct conf *conf, const json_t *answer, struct provider *ret)
{
	struct dns_route *r = route_of(answer);

	switch (rollup_judge(conf, r, &ret->p)) {
	case ROLLUP_PROVIDER:
		ret->by = "mx";
		break;
	case ROLLUP_NONE:
		break;
	case ROLLUP_UNKNOWN:
		ret->unknown = true;
		ret->by = "not known: the look-up has failed";
		break;
	}
	dns_route_free(r);
}

void provider_find(struct cli *cli, const struct conf *conf, struct slice domain, struct slice vmta,
		   bool hosts, struct provider *ret)
{
	const struct conf_provider *named = conf_provider_of_domain(conf, domain);
	bool any = conf_provider_count(conf) > 0 && !slice_iends(domain, ".rollup");
	bool own = any && conf_keeps_own_site(conf, domain, vmta);
	json_t *answer = NULL;

	*ret = (struct provider){.p = NULL};
	if (hosts || (any && !own && !named))
		answer = provider_ask(cli, domain);
	if (own) {
		ret->by = "none: it is its own site by what is set for the domain";
	} else if (named) {
		ret->p = named;
		ret->by = "domains";
	} else if (any && answer) {
		judge(conf, answer, ret);
	} else if (any) {
		ret->unknown = true;
		ret->by = "not known: the daemon that would look up the hosts is not reachable";
	}
	ret->hosts = json_incref(json_object_get(answer, "hosts"));
	json_decref(answer);
}

void provider_done(struct provider *p)
{
	json_decref(p->hosts);
}
