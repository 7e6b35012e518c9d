/* links: common/base common/dns worker/resolver_packet.c common/loop */
/*
 * fuzz_dns.c - what comes from name servers (packet_parse) and over the resolver's socket (wire.h).
 *
 * The first byte of the input chooses; the rest is the packet or message. Packets get the right id, so
 * that the fuzzer does not have to guess it. As a program it changes good packets at random,
 * always the same way; for libFuzzer compile with -DFUZZ_LIBFUZZER -fsanitize=fuzzer,address.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/err.h"
#include "common/base/log.h"
#include "common/base/rng.h"
#include "common/base/xalloc.h"
#include "common/dns/route.h"
#include "common/dns/wire.h"
#include "worker/resolver_packet.h"

#define ID 0x1234
#define NAME "example.test"

static const enum packet_type types[] = {PACKET_A, PACKET_MX, PACKET_AAAA};

static void check_name(const char *name)
{
	invariant(memchr(name, '\0', PACKET_NAME_MAX));
	invariant(*name == '\0' || strlen(name) < PACKET_NAME_MAX);
}

static void try_packet(const uint8_t *data, size_t n, enum packet_type type)
{
	struct packet_answer a;
	uint8_t *p = xmalloc(n + 1);
	int rc;

	if (n)
		memcpy(p, data, n);
	if (n >= 2) {
		p[0] = ID >> 8;
		p[1] = ID & 0xff;
	}
	rc = packet_parse(p, n, ID, NAME, type, &a);
	invariant(rc == 0 || rc == ERR_INVALID || rc == ERR_CORRUPT);
	if (rc == 0) {
		check_name(a.target);
		check_name(a.ignored);
		invariant(a.mx_count <= PACKET_MX_MAX && a.addr_count <= PACKET_ADDRS_MAX);
		invariant(a.chain <= PACKET_CHAIN_MAX + 1);
		invariant(!a.has_ttl || a.ttl <= 7 * 86400);
		for (size_t i = 0; i < a.mx_count; i++)
			check_name(a.mx[i].name);
		packet_answer_done(&a);
	}
	free(p);
}

static void try_wire(struct slice in)
{
	struct dns_request q;
	struct dns_route *r;
	struct slice part;
	msec_t expires;
	uint64_t id;

	if (dns_frame(in, DNS_REPLY_MAX, &part) == 1)
		in = part;
	if (dns_request_decode(in, &q) == 0)
		invariant(q.domain.n <= in.n && q.avoid.n <= in.n);
	if (dns_reply_decode(in, &id, &part) == 0)
		in = part;
	if (dns_route_decode(in, 1000, &r, &expires) == 0) {
		struct buf b = BUF_INIT;

		/* What can be read can be written and is the same. */
		dns_route_encode(&b, r, expires);
		dns_route_shuffle(r);
		dns_route_free(dns_route_copy(r));
		dns_route_free(r);
		invariant(dns_route_decode(buf_slice(&b), 1000, &r, &expires) == 0);
		dns_route_free(r);
		buf_done(&b);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	if (n == 0)
		return 0;
	if (data[0] & 4)
		try_wire(slice_of(data + 1, n - 1));
	else
		try_packet(data + 1, n - 1, types[data[0] % 3]);
	return 0;
}

#ifndef FUZZ_LIBFUZZER

#define QUESTION(type) \
	"\x07"         \
	"example\x04"  \
	"test\x00\x00" type "\x00\x01"
#define RR(type, ttl, len) "\xc0\x0c\x00" type "\x00\x01" ttl "\x00" len
#define SEED(text)                     \
	{                              \
		text, sizeof(text) - 1 \
	}

/* The first byte chooses as in LLVMFuzzerTestOneInput(). */
static const struct {
	const char *p;
	size_t n;
} seeds[] = {
	/* one A */
	SEED("\x00\x12\x34\x81\x80\x00\x01\x00\x01\x00\x00\x00\x00" QUESTION("\x01")
		     RR("\x01", "\x00\x00\x01\x00", "\x04") "\xc0\x00\x02\x01"),
	/* two MX, one of them null, compressed */
	SEED("\x01\x12\x34\x81\xa0\x00\x01\x00\x02\x00\x00\x00\x00" QUESTION("\x0f")
		     RR("\x0f", "\x00\x00\x01\x00", "\x09") "\x00\x0a\x03mx1\xc0\x0c\x00" RR(
			     "\x0f", "\xff\xff\xff\xff", "\x03") "\x00\x00\x00"),
	/* MX to a compressed name */
	SEED("\x01\x12\x34\x81\xa0\x00\x01\x00\x01\x00\x00\x00\x00" QUESTION("\x0f")
		     RR("\x0f", "\x00\x00\x01\x00", "\x08") "\x00\x0a\x03mx1\xc0\x0c"),
	/* CNAME to itself, AAAA */
	SEED("\x02\x12\x34\x81\x80\x00\x01\x00\x02\x00\x00\x00\x00" QUESTION("\x1c")
		     RR("\x05", "\x00\x00\x01\x00", "\x02") "\xc0\x0c" RR(
			     "\x1c", "\x00\x00\x01\x00", "\x10") "0123456789abcdef"),
	/* a name that points to itself */
	SEED("\x00\x12\x34\x81\x80\x00\x01\x00\x01\x00\x00\x00\x00" QUESTION(
		"\x01") "\xc0\x1e\x00\x01\x00\x01\x00\x00\x00\x01\x00\x04\x01\x02\x03\x04"),
	/* NXDOMAIN with SOA and EDNS */
	SEED("\x00\x12\x34\x81\x83\x00\x01\x00\x00\x00\x01\x00\x01" QUESTION("\x01")
		     RR("\x06", "\x00\x00\x0e\x10",
			"\x18") "\xc0\x0c\xc0\x0c\x00\x00\x00\x01\x00\x00\x00\x01\x00\x00\x00\x01"
				"\x00\x00\x00\x01\x00\x00\x00\x3c"
				"\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x00"),
	/* truncated, refused, empty */
	SEED("\x00\x12\x34\x83\x80\x00\x01\x00\x00\x00\x00\x00\x00" QUESTION("\x01")),
	SEED("\x00\x12\x34\x81\x85\x00\x00\x00\x00\x00\x00\x00\x00"),
	SEED("\x00"),
	/* a request and a route */
	SEED("\x04\x01\x05\x00\x0c"
	     "example.test\x00"),
	SEED("\x04\x01\x00\x10\x00\x00\x00\x00\x00\x00\x00\x03\x00\x00\x01\x02mx\x0a\x00\x01\x04"
	     "\xc0\x00\x02\x01"),
};

static void expect_seed(size_t i, enum packet_verdict want)
{
	struct packet_answer a;
	enum packet_type type = types[(uint8_t)seeds[i].p[0] % 3];
	int rc = packet_parse(seeds[i].p + 1, seeds[i].n - 1, ID, NAME, type, &a);

	if (rc != 0 || a.verdict != want)
		panic("seed %zu: %d, verdict %d", i, rc, rc ? -1 : (int)a.verdict);
	packet_answer_done(&a);
}

/* The seeds must be good, or changing them finds nothing. */
static void check_seeds(void)
{
	expect_seed(0, PACKET_DATA);
	expect_seed(2, PACKET_DATA);
	expect_seed(3, PACKET_LOOP);
	expect_seed(5, PACKET_NXDOMAIN);
	expect_seed(6, PACKET_TRUNCATED);
	expect_seed(7, PACKET_FAILED);
}

static void mutate(uint8_t *p, size_t *n, size_t cap)
{
	uint32_t changes = 1 + rng_below(6);

	for (uint32_t i = 0; i < changes; i++) {
		size_t at = *n ? rng_below((uint32_t)*n) : 0, len;

		switch (rng_below(5)) {
		case 0:
			p[at] = (uint8_t)rng_u64();
			break;
		case 1:
			p[at] ^= (uint8_t)(1u << rng_below(8));
			break;
		case 2:
			*n = at + 1;
			break;
		case 3: /* a piece again, at the end */
			len = rng_below(40);
			if (at + len <= *n && *n + len <= cap) {
				memmove(p + *n, p + at, len);
				*n += len;
			}
			break;
		default:
			p[at] = (uint8_t[]){0, 0xff, 0xc0, 0x7f, 0x3f, 12}[rng_below(6)];
			break;
		}
	}
}

int main(int argc, char **argv)
{
	uint32_t rounds = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : 20000;
	uint8_t p[2048];

	rng_seed(1);
	check_seeds();
	for (size_t i = 0; i < ARRAY_SIZE(seeds); i++)
		LLVMFuzzerTestOneInput((const uint8_t *)seeds[i].p, seeds[i].n);
	for (uint32_t i = 0; i < rounds; i++) {
		size_t k = rng_below(ARRAY_SIZE(seeds)), n = seeds[k].n;

		memcpy(p, seeds[k].p, n);
		mutate(p + 1, &n, sizeof(p) - 100);
		LLVMFuzzerTestOneInput(p, n);
	}
	printf("fuzz_dns: %u inputs\n", (unsigned)(rounds + ARRAY_SIZE(seeds)));
	return 0;
}

#endif
