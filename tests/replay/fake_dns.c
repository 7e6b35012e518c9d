#include <stdlib.h>
#include <string.h>

#include "common/base/hash.h"
#include "common/base/log.h"
#include "common/base/xalloc.h"
#include "tests/replay/fake_net.h"

struct answer {
	char *domain;
	struct dns_route *route;
	unsigned lookups;
	UT_hash_handle hh;
};

static struct answer *answers; /* uthash, by domain in lower case */
static struct dns_route *otherwise;

struct dns_client {
	struct loop *l;
};

struct dns_query {
	struct dns_route *route;
	struct loop_timer *timer;
	dns_cb *cb;
	void *arg;
};

static struct answer *find(struct slice domain)
{
	char *lower = slice_dup_lower(domain);
	struct answer *a;

	HASH_FIND_STR(answers, lower, a);
	free(lower);
	return a;
}

static struct dns_route *route_new(enum dns_status status, const char *text)
{
	struct dns_route *r = xcalloc(1, sizeof(*r));

	r->status = status;
	r->ttl = 60;
	r->text = xstrdup(text);
	r->resolver = xstrdup("127.0.0.53:53");
	return r;
}

static void add_host(struct dns_route *r, uint16_t preference, struct slice name,
		     struct slice addrs)
{
	struct dns_host *h;
	struct slice one;

	r->hosts = xreallocarray(r->hosts, r->host_count + 1, sizeof(*r->hosts));
	h = &r->hosts[r->host_count++];
	*h = (struct dns_host){.name = slice_dup(name), .preference = preference};
	while (slice_next(&addrs, ',', &one)) {
		h->addrs = xreallocarray(h->addrs, h->addr_count + 1, sizeof(*h->addrs));
		if (!ip_parse(slice_trim(one), &h->addrs[h->addr_count++]))
			panic("fake DNS: \"%.*s\" is no address", SLICE_ARG(one));
	}
}

static struct dns_route *parse_hosts(const char *hosts)
{
	struct dns_route *r = route_new(DNS_OK, "");
	struct slice rest = slice_str(hosts), one;

	while (slice_next(&rest, ';', &one)) {
		struct slice preference, name;
		uint64_t v;

		one = slice_trim(one);
		if (!slice_next(&one, ' ', &preference) || !slice_next(&one, ' ', &name) ||
		    !slice_u64(preference, &v))
			panic("fake DNS: bad hosts \"%s\"", hosts);
		add_host(r, (uint16_t)v, name, one);
	}
	return r;
}

static void set(const char *domain, struct dns_route *route)
{
	struct answer *a = find(slice_str(domain));

	if (!a) {
		a = xcalloc(1, sizeof(*a));
		a->domain = slice_dup_lower(slice_str(domain));
		HASH_ADD_KEYPTR(hh, answers, a->domain, strlen(a->domain), a);
	}
	dns_route_free(a->route);
	a->route = route;
}

void fake_dns_mx(const char *domain, const char *hosts)
{
	set(domain, parse_hosts(hosts));
}

void fake_dns_address(const char *domain, const char *addrs)
{
	struct dns_route *r = route_new(*addrs ? DNS_OK : DNS_NO_HOST, "");

	r->implicit_mx = true;
	if (*addrs)
		add_host(r, 0, slice_str(domain), slice_str(addrs));
	set(domain, r);
}

void fake_dns_status(const char *domain, enum dns_status status, const char *text)
{
	set(domain, route_new(status, text));
}

void fake_dns_default(const char *hosts)
{
	dns_route_free(otherwise);
	otherwise = hosts ? parse_hosts(hosts) : NULL;
}

unsigned fake_dns_lookups(const char *domain)
{
	struct answer *a = find(slice_str(domain));

	return a ? a->lookups : 0;
}

void fake_dns_reset(void)
{
	struct answer *a, *next;

	HASH_ITER(hh, answers, a, next) {
		HASH_DEL(answers, a);
		dns_route_free(a->route);
		free(a->domain);
		free(a);
	}
	fake_dns_default(NULL);
}

/* --- dns.h, the client --- */

struct dns_client *dns_client_new(struct loop *l, const char *runtime_dir ATTR_UNUSED)
{
	struct dns_client *c = xcalloc(1, sizeof(*c));

	c->l = l;
	return c;
}

void dns_client_free(struct dns_client *c)
{
	free(c);
}

static void query_free(struct dns_query *q)
{
	loop_timer_free(q->timer);
	dns_route_free(q->route);
	free(q);
}

static void on_answer(void *arg)
{
	struct dns_query *q = arg;
	struct dns_route *route = q->route;

	q->route = NULL;
	q->cb(route, q->arg);
	query_free(q);
}

struct dns_query *dns_lookup(struct dns_client *c, struct slice domain, unsigned flags ATTR_UNUSED,
			     const char *avoid_resolver ATTR_UNUSED, dns_cb *cb, void *arg)
{
	struct dns_query *q = xcalloc(1, sizeof(*q));
	struct answer *a = find(domain);

	if (a)
		a->lookups++;
	q->cb = cb;
	q->arg = arg;
	q->route = a	       ? dns_route_copy(a->route)
		   : otherwise ? dns_route_copy(otherwise)
			       : route_new(DNS_NXDOMAIN, "no such domain");
	q->timer = loop_timer_new(c->l, on_answer, q);
	loop_timer_set(q->timer, USEC_PER_MSEC);
	return q;
}

void dns_query_cancel(struct dns_query *q)
{
	if (q)
		query_free(q);
}
