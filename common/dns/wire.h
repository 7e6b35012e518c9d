/*
 * wire.h - bytes between resolver and workers, and in dns.mdb (versioned; both sides are of one
 * build, but a file or a peer may be from the one before).
 *
 * On the socket a frame is its length (4 bytes, little-endian) and a body. Request body: version,
 * id, flags, domain, resolver to avoid. Reply body: version, id, route. A cached value is a route.
 */
#ifndef SLUICE_DNS_WIRE_H
#define SLUICE_DNS_WIRE_H

#include "common/base/buf.h"
#include "common/base/codec.h"
#include "common/dns/dns.h"

#define DNS_WIRE_VERSION 1
#define DNS_NAME_TEXT_MAX 255 /* of a domain in a request; longer ones do not exist */
#define DNS_REQUEST_MAX 1024 /* body */
#define DNS_REPLY_MAX 262144 /* body */

struct dns_request {
	uint64_t id;
	unsigned flags; /* DNS_HOST_ONLY, DNS_FRESH */
	struct slice domain;
	struct slice avoid; /* may be empty */
};

void dns_request_encode(struct buf *b, const struct dns_request *q); /* appends a frame */
int dns_request_decode(struct slice body, struct dns_request *ret) WARN_UNUSED;

/* expires: wall time until which the route may be used. */
void dns_route_encode(struct buf *b, const struct dns_route *r, msec_t expires);
/*
 * The new route has the rest of its life as ttl (at least 1). Expired is not an error here:
 * *ret_expires tells. ERR_VERSION, ERR_CORRUPT.
 */
int dns_route_decode(struct slice bytes, msec_t now, struct dns_route **ret,
		     msec_t *ret_expires) WARN_UNUSED;

/* Frame of a reply whose route is encoded already. */
void dns_reply_encode(struct buf *b, uint64_t id, struct slice route);
int dns_reply_decode(struct slice body, uint64_t *ret_id, struct slice *ret_route) WARN_UNUSED;

/* The first frame of input: 1 and its body, 0 when it is not complete, ERR_TOO_LONG over max. */
int dns_frame(struct slice input, size_t max, struct slice *ret_body) WARN_UNUSED;

/* Key in dns.mdb; ret holds DNS_KEY_MAX bytes. 0 when the domain is too long for a key. */
#define DNS_KEY_MAX (DNS_NAME_TEXT_MAX + 1)
size_t dns_key(struct slice domain, bool host_only, char *ret);

#endif
