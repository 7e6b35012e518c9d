#include "common/dns/route.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/macros.h"
#include "common/base/rng.h"
#include "common/base/xalloc.h"

/* Nothing stored about a literal ever changes. */
#define LITERAL_TTL 86400

struct dns_route *dns_route_new(enum dns_status status, char *text)
{
	struct dns_route *r = xcalloc(1, sizeof(*r));

	r->status = status;
	r->ttl = 1;
	r->text = text ? text : xstrdup("");
	r->resolver = xstrdup("");
	return r;
}

void dns_route_free(struct dns_route *r)
{
	if (!r)
		return;
	for (uint32_t i = 0; i < r->host_count; i++) {
		free(r->hosts[i].name);
		free(r->hosts[i].addrs);
	}
	free(r->hosts);
	free(r->text);
	free(r->resolver);
	free(r);
}

struct dns_host *dns_route_add_host(struct dns_route *r, struct slice name, uint16_t preference)
{
	struct dns_host *h;

	/* Grows at 0, 4, 8, 16 … */
	if ((r->host_count & (r->host_count - 1)) == 0 &&
	    (r->host_count == 0 || r->host_count >= 4))
		r->hosts = xreallocarray(r->hosts, r->host_count ? r->host_count * 2 : 4,
					 sizeof(*r->hosts));
	h = &r->hosts[r->host_count++];
	*h = (struct dns_host){
		.name = slice_dup_lower(name), .preference = preference, .status = DNS_NO_HOST};
	return h;
}

void dns_host_add_addr(struct dns_host *h, const struct ip *ip)
{
	if ((h->addr_count & (h->addr_count - 1)) == 0)
		h->addrs = xreallocarray(h->addrs, h->addr_count ? h->addr_count * 2 : 1,
					 sizeof(*h->addrs));
	h->addrs[h->addr_count++] = *ip;
}

struct dns_route *dns_route_copy(const struct dns_route *r)
{
	struct dns_route *copy = dns_route_new(r->status, xstrdup(r->text));

	copy->implicit_mx = r->implicit_mx;
	copy->secure = r->secure;
	copy->ttl = r->ttl;
	free(copy->resolver);
	copy->resolver = xstrdup(r->resolver);
	for (uint32_t i = 0; i < r->host_count; i++) {
		const struct dns_host *from = &r->hosts[i];
		struct dns_host *to =
			dns_route_add_host(copy, slice_str(from->name), from->preference);

		to->status = from->status;
		for (uint32_t k = 0; k < from->addr_count; k++)
			dns_host_add_addr(to, &from->addrs[k]);
	}
	return copy;
}

static void shuffle_addrs(struct dns_host *h)
{
	for (uint32_t i = h->addr_count; i > 1; i--) {
		uint32_t k = rng_below(i);
		struct ip t = h->addrs[k];

		h->addrs[k] = h->addrs[i - 1];
		h->addrs[i - 1] = t;
	}
}

static int compare_preference(const void *a, const void *b)
{
	const struct dns_host *x = a, *y = b;

	return (x->preference > y->preference) - (x->preference < y->preference);
}

void dns_route_shuffle(struct dns_route *r)
{
	uint32_t from = 0, to;

	if (r->host_count > 1)
		qsort(r->hosts, r->host_count, sizeof(*r->hosts), compare_preference);
	for (; from < r->host_count; from = to) {
		for (to = from;
		     to < r->host_count && r->hosts[to].preference == r->hosts[from].preference;)
			to++;
		for (uint32_t i = to; i > from + 1; i--) {
			uint32_t k = from + rng_below(i - from);
			struct dns_host t = r->hosts[k];

			r->hosts[k] = r->hosts[i - 1];
			r->hosts[i - 1] = t;
		}
	}
	for (uint32_t i = 0; i < r->host_count; i++)
		shuffle_addrs(&r->hosts[i]);
}

struct dns_route *dns_route_literal(struct slice domain)
{
	struct dns_route *r;
	struct dns_host *h;
	struct slice inner;
	struct ip ip = {0};
	bool ok;

	if (domain.n == 0 || domain.p[0] != '[')
		return NULL;
	inner = slice_sub(domain, 1, domain.n - 1);
	ok = inner.n > 0 && inner.p[inner.n - 1] == ']';
	if (ok)
		inner.n--;
	if (ok && slice_istarts(inner, "IPv6:"))
		ok = ip_parse(slice_from(inner, 5), &ip) && ip.family == IP_V6;
	else
		ok = ok && ip_parse(inner, &ip) && ip.family == IP_V4;
	if (!ok)
		return dns_route_new(DNS_NXDOMAIN,
				     xasprintf("\"%.*s\" is not an address literal",
					       (int)(domain.n < 100 ? domain.n : 100), domain.p));
	r = dns_route_new(DNS_OK, NULL);
	r->ttl = LITERAL_TTL;
	h = dns_route_add_host(r, domain, 0);
	h->status = DNS_OK;
	dns_host_add_addr(h, &ip);
	return r;
}

const char *dns_status_name(enum dns_status s)
{
	switch (s) {
	case DNS_OK:
		return "ok";
	case DNS_NXDOMAIN:
		return "nxdomain";
	case DNS_NULL_MX:
		return "null-mx";
	case DNS_NO_HOST:
		return "no-host";
	case DNS_TEMPFAIL:
		return "tempfail";
	case DNS_LOOP:
		return "loop";
	}
	return "?";
}
