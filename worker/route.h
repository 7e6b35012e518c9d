/*
 * route.h - where the mail of a domain can go: its hosts' addresses in the order in which they are
 * tried, from DNS (MX, RFC 5321 5.1) or from smtp-hosts.
 */
#ifndef SLUICE_WORKER_ROUTE_H
#define SLUICE_WORKER_ROUTE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/clock.h"
#include "common/base/ip.h"
#include "common/dns/dns.h"

struct conf_domain;
struct worker;

struct route_target {
	char *host; /* name of the mail host, for EHLO's peer, TLS and records */
	struct ip ip;
	uint16_t port;
	uint32_t preference; /* lower first */
	bool failed; /* in the present round of tries */
	usec_t skip_until; /* a reply says that another host is to be used */
};

struct route {
	enum dns_status status; /* DNS_OK: there is at least one target */
	char *text; /* why not */
	char *resolver; /* who answered, "" */
	struct route_target *targets;
	uint32_t count;
	uint32_t first_group; /* targets of the lowest preference */
	uint32_t turn; /* equal ones take turns */
	bool implicit_mx;
	usec_t expires; /* monotonic */
};

struct route_query;
typedef void route_cb(struct route *route, void *arg);

/*
 * Looks up the route. The callback comes in a later turn, once, with a route that the callee owns;
 * not after route_query_cancel(). flags: DNS_FRESH as in dns_lookup().
 */
struct route_query *route_lookup(struct worker *w, const char *domain,
				 const struct conf_domain *set, unsigned flags, const char *avoid,
				 route_cb *cb, void *arg);
void route_query_cancel(struct route_query *q); /* NULL is fine */
void route_free(struct route *r); /* NULL is fine */

/* The next target that has not failed in this round and passes usable(); NULL when none is left. */
struct route_target *route_next(struct route *r,
				bool (*usable)(const struct route_target *t, void *arg), void *arg);
/* Is there one? */
bool route_has_next(const struct route *r, bool (*usable)(const struct route_target *t, void *arg),
		    void *arg);
/* Is this one of its targets? */
bool route_has(const struct route *r, const struct ip *ip, uint16_t port);
/* … and may a connection that goes there carry the mail: is there no target of a better preference to be tried first? */
bool route_serves(const struct route *r, const struct ip *ip, uint16_t port,
		  bool (*usable)(const struct route_target *t, void *arg), void *arg);
/* A new round. */
void route_reset(struct route *r);
/* Not before then (monotonic), whatever round it is. */
void route_skip(struct route *r, const struct ip *ip, uint16_t port, usec_t until);
void route_unskip(struct route *r);
/* Not again in this round. True: it was not marked before, or is none of these targets. */
bool route_mark_failed(struct route *r, const struct ip *ip, uint16_t port);
/* What had failed or is skipped in the answer before is so in this one, too. */
void route_keep_failed(struct route *r, const struct route *old);

#endif
