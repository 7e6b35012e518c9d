#include "worker/resolver.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "common/base/log.h"
#include "common/base/xalloc.h"
#include "common/dns/cache.h"
#include "worker/resolver_record.h"
#include "worker/resolver_route.h"
#include "worker/resolver_server.h"
#include "worker/resolver_upstream.h"

/* The file in RUNTIME-DIR (tmpfs) never grows over this; about half a million domains. */
#define CACHE_SIZE ((size_t)256 << 20)
#define RECORDS_MAX 200000
/* Questions with a socket at one time, if the process may have that many descriptors. */
#define IN_FLIGHT_MAX 16384
#define IN_FLIGHT_MIN 100
/* Descriptors for everything else: workers, cache, log. */
#define DESCRIPTORS_KEPT 1000

struct resolver {
	struct resolver_stats stats;
	struct upstream *upstream;
	struct records *records;
	struct dns_cache_writer *cache;
	struct routes *routes;
	struct resolver_server_socket *server;
};

static size_t in_flight_max(void)
{
	struct rlimit rl;

	if (getrlimit(RLIMIT_NOFILE, &rl) < 0)
		return IN_FLIGHT_MIN;
	if (rl.rlim_cur < rl.rlim_max) {
		rl.rlim_cur = rl.rlim_max;
		if (setrlimit(RLIMIT_NOFILE, &rl) < 0)
			(void)getrlimit(RLIMIT_NOFILE, &rl);
	}
	if (rl.rlim_cur < DESCRIPTORS_KEPT + IN_FLIGHT_MIN)
		return IN_FLIGHT_MIN;
	if (rl.rlim_cur > DESCRIPTORS_KEPT + IN_FLIGHT_MAX)
		return IN_FLIGHT_MAX;
	return (size_t)rl.rlim_cur - DESCRIPTORS_KEPT;
}

struct resolver *resolver_new(struct loop *l, const char *runtime_dir,
			      const struct resolver_conf *conf, char **ret_error)
{
	struct resolver *r = xcalloc(1, sizeof(*r));

	r->cache = dns_cache_create(runtime_dir, CACHE_SIZE, ret_error);
	if (!r->cache) {
		resolver_free(r);
		return NULL;
	}
	r->upstream = upstream_new(l, in_flight_max(), &r->stats);
	r->records = records_new(l, r->upstream, RECORDS_MAX);
	r->routes = routes_new(l, r->records, r->cache, &r->stats);
	resolver_configure(r, conf);
	r->server = resolver_listen(l, runtime_dir, r->routes, ret_error);
	if (!r->server) {
		resolver_free(r);
		return NULL;
	}
	return r;
}

/* From the network upwards, so that nothing calls into what is gone. */
void resolver_free(struct resolver *r)
{
	if (!r)
		return;
	upstream_free(r->upstream);
	records_free(r->records);
	routes_free(r->routes);
	resolver_unlisten(r->server);
	dns_cache_close(r->cache);
	free(r);
}

void resolver_configure(struct resolver *r, const struct resolver_conf *conf)
{
	invariant(conf->server_count > 0);
	upstream_configure(r->upstream, conf->servers, conf->server_count, conf->timeout);
	records_configure(r->records, conf->negative_ttl_max);
}

void resolver_stats_get(struct resolver *r, struct resolver_stats *ret)
{
	*ret = r->stats;
	ret->cached = dns_cache_count(r->cache);
}

void resolver_tidy(struct resolver *r)
{
	dns_cache_check_readers(r->cache);
}

/* ---- for the operator ---- */

struct describe {
	char *domain;
	bool *known; /* set when the answer comes before the question returns; NULL afterwards */
	void (*cb)(json_t *answer, const struct dns_route *route, void *arg);
	void *arg;
};

static json_t *describe_host(const struct dns_host *h)
{
	json_t *addresses = json_array();
	char text[IP_TEXT_MAX];

	for (uint32_t i = 0; i < h->addr_count; i++)
		json_array_append_new(addresses, json_string(ip_text(&h->addrs[i], text)));
	return json_pack("{s:i, s:s, s:s, s:o}", "preference", (int)h->preference, "host", h->name,
			 "status", dns_status_name(h->status), "addresses", addresses);
}

static void on_described(const struct dns_route *route, msec_t expires ATTR_UNUSED, void *arg)
{
	struct describe *d = arg;
	json_t *hosts = json_array(), *answer;

	for (uint32_t i = 0; i < route->host_count; i++)
		json_array_append_new(hosts, describe_host(&route->hosts[i]));
	if (d->known)
		*d->known = true;
	answer = json_pack("{s:s, s:s, s:s, s:b, s:b, s:I, s:s, s:b, s:o}", "domain", d->domain,
			   "status", dns_status_name(route->status), "text", route->text,
			   "implicit_mx", (int)route->implicit_mx, "secure",
			   (int)(route->secure && route->status == DNS_OK), "ttl",
			   (json_int_t)route->ttl, "resolver", route->resolver, "cached",
			   (int)(d->known != NULL), "hosts", hosts);
	/* A name that is not UTF-8 cannot be in a JSON string, nor in DNS. */
	if (!answer)
		answer = json_pack("{s:s, s:s, s:s, s:[]}", "domain", "", "status",
				   dns_status_name(DNS_NXDOMAIN), "text", "not a domain name",
				   "hosts");
	d->cb(answer, route, d->arg);
	free(d->domain);
	free(d);
}

/* "EXAMPLE.com." as workers ask for it: "example.com"; heap. */
static char *normalize(struct slice domain)
{
	if (domain.n > 1 && domain.p[domain.n - 1] == '.')
		domain.n--;
	return slice_dup_lower(domain);
}

void resolver_describe(struct resolver *r, struct slice domain,
		       void (*cb)(json_t *answer, const struct dns_route *route, void *arg),
		       void *arg)
{
	struct describe *d = xcalloc(1, sizeof(*d));
	bool known = false;

	d->domain = normalize(domain);
	d->known = &known;
	d->cb = cb;
	d->arg = arg;
	routes_ask(r->routes, slice_str(d->domain), 0, NULL, on_described, d);
	if (!known)
		d->known = NULL;
}

size_t resolver_clear(struct resolver *r, struct slice domain)
{
	char *name = slice_eq_str(domain, "*") ? xstrdup("") : normalize(domain);
	size_t n = routes_forget(r->routes, slice_str(name));

	free(name);
	return n;
}

/* ---- /etc/resolv.conf ---- */

static bool parse_nameserver(struct slice line, struct resolver_server *ret)
{
	struct slice rest;

	if (!slice_istarts(line, "nameserver"))
		return false;
	rest = slice_from(line, strlen("nameserver"));
	if (rest.n == 0 || (rest.p[0] != ' ' && rest.p[0] != '\t'))
		return false;
	ret->port = 53;
	return ip_parse(slice_trim(rest), &ret->ip);
}

size_t resolver_read_resolv_conf(const char *path, struct resolver_server *ret, size_t max)
{
	FILE *f = fopen(path, "re");
	char line[512];
	size_t n = 0;

	while (f && n < max && fgets(line, sizeof(line), f))
		if (parse_nameserver(slice_trim(slice_str(line)), &ret[n]))
			n++;
	if (f)
		fclose(f);
	if (n == 0 && max > 0) {
		/* As the C library does it. */
		ret[0].port = 53;
		(void)ip_parse(slice_str("127.0.0.1"), &ret[0].ip);
		n = 1;
	}
	return n;
}
