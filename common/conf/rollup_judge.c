#include "common/conf/rollup_judge.h"

#include "common/conf/conf.h"
#include "common/dns/dns.h"

static bool all_by_name(const struct conf_provider *p, const struct dns_route *a, uint16_t lowest)
{
	for (uint32_t i = 0; i < a->host_count; i++)
		if (a->hosts[i].preference == lowest &&
		    !conf_provider_has_host(p, slice_str(a->hosts[i].name)))
			return false;
	return p->mx.n > 0;
}

static bool all_by_address(const struct conf_provider *p, const struct dns_route *a,
			   uint16_t lowest, bool *ret_unknown)
{
	bool unknown = false;

	if (p->mx_ip.n == 0)
		return false;
	for (uint32_t i = 0; i < a->host_count; i++) {
		const struct dns_host *h = &a->hosts[i];

		if (h->preference != lowest)
			continue;
		for (uint32_t k = 0; k < h->addr_count; k++)
			if (!conf_provider_has_ip(p, &h->addrs[k]))
				return false;
		unknown |= h->addr_count == 0;
	}
	*ret_unknown |= unknown;
	return !unknown;
}

enum rollup_result rollup_judge(const struct conf *c, const struct dns_route *answer,
				const struct conf_provider **ret)
{
	uint16_t lowest = UINT16_MAX;
	bool unknown = false;

	*ret = NULL;
	if (answer->status == DNS_TEMPFAIL || answer->status == DNS_LOOP)
		return ROLLUP_UNKNOWN;
	if (answer->status != DNS_OK || answer->host_count == 0)
		return ROLLUP_NONE;
	for (uint32_t i = 0; i < answer->host_count; i++)
		if (answer->hosts[i].preference < lowest)
			lowest = answer->hosts[i].preference;
	for (size_t i = 0; i < conf_provider_count(c); i++) {
		const struct conf_provider *p = conf_provider_at(c, i);

		if (all_by_name(p, answer, lowest) || all_by_address(p, answer, lowest, &unknown)) {
			*ret = p;
			return ROLLUP_PROVIDER;
		}
	}
	return unknown ? ROLLUP_UNKNOWN : ROLLUP_NONE;
}
