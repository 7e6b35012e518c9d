#include "common/dns/wire.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/err.h"
#include "common/base/xalloc.h"
#include "common/dns/route.h"

#define ROUTE_IMPLICIT 1u
#define ROUTE_SECURE 2u
/* More than any resolver of ours writes. */
#define HOSTS_MAX 1000
#define ADDRS_MAX 1000

static size_t frame_begin(struct buf *b)
{
	enc_u32(b, 0);
	return b->n;
}

static void frame_end(struct buf *b, size_t start)
{
	struct buf length = BUF_INIT;

	enc_u32(&length, (uint32_t)(b->n - start));
	memcpy(b->p + start - length.n, length.p, length.n);
	buf_done(&length);
}

int dns_frame(struct slice input, size_t max, struct slice *ret_body)
{
	struct dec d = dec_of(input.p, input.n);
	uint32_t n;

	if (input.n < 4)
		return 0;
	n = dec_u32(&d);
	if (n > max)
		return ERR_TOO_LONG;
	if (input.n - 4 < n)
		return 0;
	*ret_body = slice_of(input.p + 4, n);
	return 1;
}

void dns_request_encode(struct buf *b, const struct dns_request *q)
{
	size_t start = frame_begin(b);

	enc_u8(b, DNS_WIRE_VERSION);
	enc_var(b, q->id);
	enc_u8(b, (uint8_t)q->flags);
	enc_bytes(b, q->domain);
	enc_bytes(b, q->avoid);
	frame_end(b, start);
}

int dns_request_decode(struct slice body, struct dns_request *ret)
{
	struct dec d = dec_of(body.p, body.n);
	struct dns_request q;

	if (dec_u8(&d) != DNS_WIRE_VERSION)
		return ERR_VERSION;
	q.id = dec_var(&d);
	q.flags = dec_u8(&d);
	q.domain = dec_bytes(&d);
	q.avoid = dec_bytes(&d);
	if (!dec_end(&d))
		return ERR_CORRUPT;
	*ret = q;
	return 0;
}

void dns_reply_encode(struct buf *b, uint64_t id, struct slice route)
{
	size_t start = frame_begin(b);

	enc_u8(b, DNS_WIRE_VERSION);
	enc_var(b, id);
	enc_bytes(b, route);
	frame_end(b, start);
}

int dns_reply_decode(struct slice body, uint64_t *ret_id, struct slice *ret_route)
{
	struct dec d = dec_of(body.p, body.n);
	struct slice route;
	uint64_t id;

	if (dec_u8(&d) != DNS_WIRE_VERSION)
		return ERR_VERSION;
	id = dec_var(&d);
	route = dec_bytes(&d);
	if (!dec_end(&d))
		return ERR_CORRUPT;
	*ret_id = id;
	*ret_route = route;
	return 0;
}

static void encode_host(struct buf *b, const struct dns_host *h)
{
	enc_str(b, h->name);
	enc_var(b, h->preference);
	enc_u8(b, (uint8_t)h->status);
	enc_var(b, h->addr_count);
	for (uint32_t i = 0; i < h->addr_count; i++) {
		enc_u8(b, h->addrs[i].family);
		buf_add(b, h->addrs[i].b, h->addrs[i].family == IP_V4 ? 4 : 16);
	}
}

void dns_route_encode(struct buf *b, const struct dns_route *r, msec_t expires)
{
	enc_u8(b, DNS_WIRE_VERSION);
	enc_u64(b, expires);
	enc_u8(b, (uint8_t)r->status);
	enc_u8(b,
	       (uint8_t)((r->implicit_mx ? ROUTE_IMPLICIT : 0) | (r->secure ? ROUTE_SECURE : 0)));
	enc_str(b, r->text);
	enc_str(b, r->resolver);
	enc_var(b, r->host_count);
	for (uint32_t i = 0; i < r->host_count; i++)
		encode_host(b, &r->hosts[i]);
}

static bool decode_addr(struct dec *d, struct ip *ret)
{
	struct ip ip = {.family = dec_u8(d)};
	size_t n = ip.family == IP_V4 ? 4 : 16;

	if (ip.family != IP_V4 && ip.family != IP_V6)
		return false;
	for (size_t i = 0; i < n; i++)
		ip.b[i] = dec_u8(d);
	*ret = ip;
	return dec_ok(d);
}

static bool decode_host(struct dec *d, struct dns_route *r)
{
	struct slice name = dec_bytes(d);
	uint32_t preference = dec_var32(d), n;
	uint8_t status = dec_u8(d);
	struct dns_host *h;

	n = dec_var32(d);
	if (!dec_ok(d) || preference > UINT16_MAX || status > DNS_LOOP || n > ADDRS_MAX)
		return false;
	h = dns_route_add_host(r, name, (uint16_t)preference);
	h->status = (enum dns_status)status;
	for (uint32_t i = 0; i < n; i++) {
		struct ip ip;

		if (!decode_addr(d, &ip))
			return false;
		dns_host_add_addr(h, &ip);
	}
	return true;
}

static bool decode_hosts(struct dec *d, struct dns_route *r)
{
	uint32_t n = dec_var32(d);

	if (n > HOSTS_MAX)
		return false;
	for (uint32_t i = 0; i < n; i++)
		if (!decode_host(d, r))
			return false;
	return dec_end(d);
}

int dns_route_decode(struct slice bytes, msec_t now, struct dns_route **ret, msec_t *ret_expires)
{
	struct dec d = dec_of(bytes.p, bytes.n);
	struct dns_route *r;
	msec_t expires;
	uint8_t status, bits;

	if (dec_u8(&d) != DNS_WIRE_VERSION)
		return ERR_VERSION;
	expires = dec_u64(&d);
	status = dec_u8(&d);
	bits = dec_u8(&d);
	if (!dec_ok(&d) || status > DNS_LOOP)
		return ERR_CORRUPT;
	r = dns_route_new((enum dns_status)status, slice_dup(dec_bytes(&d)));
	r->implicit_mx = bits & ROUTE_IMPLICIT;
	r->secure = bits & ROUTE_SECURE;
	free(r->resolver);
	r->resolver = slice_dup(dec_bytes(&d));
	if (!decode_hosts(&d, r)) {
		dns_route_free(r);
		return ERR_CORRUPT;
	}
	if (expires > now + MSEC_PER_SEC)
		r->ttl = (uint32_t)((expires - now) / MSEC_PER_SEC);
	*ret = r;
	*ret_expires = expires;
	return 0;
}

size_t dns_key(struct slice domain, bool host_only, char *ret)
{
	if (domain.n == 0 || domain.n > DNS_NAME_TEXT_MAX)
		return 0;
	ret[0] = host_only ? 'h' : 'd';
	for (size_t i = 0; i < domain.n; i++)
		ret[i + 1] = ascii_lower(domain.p[i]);
	return domain.n + 1;
}
