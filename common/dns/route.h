/*
 * route.h - making and ordering routes: for the resolver and the client; others see only dns.h.
 */
#ifndef SLUICE_DNS_ROUTE_H
#define SLUICE_DNS_ROUTE_H

#include "common/dns/dns.h"

/* Takes text (heap); NULL is "". */
struct dns_route *dns_route_new(enum dns_status status, char *text);
/* Appends a host without addresses; name is copied. The pointer lives until the next host. */
struct dns_host *dns_route_add_host(struct dns_route *r, struct slice name, uint16_t preference);
void dns_host_add_addr(struct dns_host *h, const struct ip *ip);
/* Sorts hosts by preference, equal ones in a new random order; shuffles the addresses of each. */
void dns_route_shuffle(struct dns_route *r);

/*
 * "[192.0.2.1]", "[IPv6:2001:db8::1]" (RFC 5321 4.1.3): a route to that address. Something else in
 * brackets: DNS_NXDOMAIN with text. NULL when domain is no literal.
 */
struct dns_route *dns_route_literal(struct slice domain);

#endif
