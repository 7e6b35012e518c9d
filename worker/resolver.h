/*
 * resolver.h - the resolver process: all DNS of the daemon.
 *
 * Workers ask for routes (common/dns/dns.h) over RUNTIME-DIR/resolver.sock and read what is known
 * already from RUNTIME-DIR/dns.mdb, which only this process writes. Equal questions in flight are
 * merged; answers are kept by TTL, negative ones too (RFC 2308). It never touches the spool.
 *
 * Inside: resolver_main.c the process, resolver_server.c the socket, resolver_route.c mail routing
 * (RFC 5321 5.1), resolver_record.c single questions and their cache, resolver_upstream.c the
 * network, resolver_packet.c the packets.
 */
#ifndef SLUICE_WORKER_RESOLVER_H
#define SLUICE_WORKER_RESOLVER_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/clock.h"
#include "common/base/heritage.h"
#include "common/base/ip.h"
#include "common/base/slice.h"
#include "common/loop/loop.h"

/* Runs until master is gone or says stop; returns the exit status. */
int resolver_main(const struct heritage *h);

struct dns_route;
struct resolver;

struct resolver_server {
	struct ip ip;
	uint16_t port;
};

struct resolver_conf {
	const struct resolver_server *servers;
	size_t server_count; /* at least 1 */
	usec_t timeout;
	usec_t negative_ttl_max;
};

struct resolver_stats {
	uint64_t cached; /* routes in dns.mdb */
	uint64_t pending; /* routes being looked up */
	uint64_t queries; /* packets sent */
	uint64_t timeouts; /* of single tries */
	uint64_t servfail; /* SERVFAIL, REFUSED and the like */
	uint64_t tempfail; /* routes that ended as DNS_TEMPFAIL */
};

/* Opens the cache and the socket in runtime_dir. NULL with a reason (heap, caller frees). */
struct resolver *resolver_new(struct loop *l, const char *runtime_dir,
			      const struct resolver_conf *conf, char **ret_error);
void resolver_free(struct resolver *r);
/* Look-ups in flight go on with what they began with. */
void resolver_configure(struct resolver *r, const struct resolver_conf *conf);
void resolver_stats_get(struct resolver *r, struct resolver_stats *ret);

/*
 * What is known about a mail domain or literal, looked up if need be: {"domain", "status", "text",
 * "implicit_mx", "secure", "ttl", "resolver", "cached", "hosts": [{"preference", "host", "status",
 * "addresses": [text…]}…]}. The callback owns the object, not the route; it may come before
 * this returns.
 */
void resolver_describe(struct resolver *r, struct slice domain,
		       void (*cb)(json_t *answer, const struct dns_route *route, void *arg),
		       void *arg);
/* Forgets a domain with its mail hosts, or everything ("*"). Returns how many routes were dropped.
 */
size_t resolver_clear(struct resolver *r, struct slice domain);
/* Housekeeping, about every ten seconds. */
void resolver_tidy(struct resolver *r);

/* "nameserver" lines of a resolv.conf; returns how many, at most max. None or no file: 127.0.0.1.
 */
size_t resolver_read_resolv_conf(const char *path, struct resolver_server *ret, size_t max);

#endif
