/*
 * dns.h - what a worker asks the resolver process, and the answers.
 *
 * All DNS is done by the resolver process (worker/resolver*.c). A worker looks into dns.mdb (LMDB in
 * runtime-dir, written by the resolver alone) first; misses go over the resolver's unix socket
 * RUNTIME-DIR/resolver.sock. When the resolver is gone the client reconnects with delay and
 * cached answers still serve; a look-up that cannot be answered within its time ends as DNS_TEMPFAIL.
 *
 * A worker asks for routes, not records: one question gives the mail exchangers of a domain with
 * their addresses (RFC 5321 5.1, RFC 7505), so that one round trip is one decision.
 */
#ifndef SLUICE_DNS_DNS_H
#define SLUICE_DNS_DNS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/clock.h"
#include "common/base/ip.h"
#include "common/base/slice.h"
#include "common/loop/loop.h"

enum dns_status {
	DNS_OK, /* at least one mail host (some hosts may have no address) */
	DNS_NXDOMAIN, /* the domain does not exist */
	DNS_NULL_MX, /* RFC 7505 */
	DNS_NO_HOST, /* exists, but neither MX nor address; or no MX host has an address */
	DNS_TEMPFAIL, /* SERVFAIL, timeout, refused, malformed … : try again later */
	DNS_LOOP /* CNAME loop or chain too long (temporary for policy, said in text) */
};

struct dns_host {
	char *name; /* lower-case, no trailing dot; an address literal's text for literals */
	uint16_t preference;
	struct ip *addrs; /* A and AAAA, in random order per answer, families as they came */
	uint32_t addr_count;
	enum dns_status status; /* of its address look-up */
};

struct dns_route {
	enum dns_status status;
	bool implicit_mx; /* no MX record: the domain itself is the host (RFC 5321 5.1) */
	bool secure; /* AD bit on every answer used (for DANE later) */
	uint32_t ttl; /* seconds this answer may be used, at least 1 */
	char *text; /* for failures: "SERVFAIL from 127.0.0.1:53", "no answer in 5 s" …; else "" */
	char *resolver; /* who answered: "127.0.0.1:53" or "" */
	struct dns_host *hosts; /* by preference, equal preference in random order */
	uint32_t host_count;
};

void dns_route_free(struct dns_route *r); /* NULL is fine */
struct dns_route *dns_route_copy(const struct dns_route *r);
const char *dns_status_name(enum dns_status s); /* "ok", "nxdomain", "null-mx" … */

struct dns_client;
struct dns_query;

/* socket and cache path are in runtime_dir; nothing is opened before the first look-up. */
struct dns_client *dns_client_new(struct loop *l, const char *runtime_dir);
void dns_client_free(struct dns_client *c);

/*
 * Route of a mail domain (MX, CNAME followed, A/AAAA fall-back) or, with DNS_HOST_ONLY, the addresses
 * of one host name (for smtp-hosts). An address literal "[1.2.3.4]" or "[IPv6:…]" is answered at
 * once. The callback comes in a later turn, exactly once, with a route that the callee owns; not
 * after dns_query_cancel(). DNS_FRESH: do not use cached answers, and ask another resolver than the
 * one in avoid_resolver if there is one (confirmation of a death).
 */
#define DNS_HOST_ONLY 1
#define DNS_FRESH 2
typedef void dns_cb(struct dns_route *route, void *arg);
struct dns_query *dns_lookup(struct dns_client *c, struct slice domain, unsigned flags,
			     const char *avoid_resolver, dns_cb *cb, void *arg);
void dns_query_cancel(struct dns_query *q); /* NULL is fine */

#endif
