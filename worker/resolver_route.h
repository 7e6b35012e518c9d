/*
 * resolver_route.h - from a mail domain to its hosts and addresses (RFC 5321 5.1, RFC 7505), by
 * single questions (resolver_record.h). Results go into dns.mdb; equal look-ups in flight are
 * merged.
 */
#ifndef SLUICE_WORKER_RESOLVER_ROUTE_H
#define SLUICE_WORKER_RESOLVER_ROUTE_H

#include "common/dns/cache.h"
#include "common/dns/dns.h"
#include "worker/resolver_record.h"

/* Mail hosts of one domain that are used, best preference first. */
#define ROUTE_HOSTS_MAX 20

struct routes;

/* records, cache and stats are borrowed. */
struct routes *routes_new(struct loop *l, struct records *records, struct dns_cache_writer *cache,
			  struct resolver_stats *stats);
void routes_free(struct routes *rs); /* look-ups in flight are dropped without a call */

/* The route lives during the call; expires: wall time. May come at once. flags as dns_lookup(). */
typedef void routes_cb(const struct dns_route *route, msec_t expires, void *arg);
void routes_ask(struct routes *rs, struct slice domain, unsigned flags, const char *avoid,
		routes_cb *cb, void *arg);
/* Forgets a domain, its records and those of its hosts; empty: everything. Returns routes dropped.
 */
size_t routes_forget(struct routes *rs, struct slice domain);

#endif
