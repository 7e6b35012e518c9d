/*
 * resolver_packet.h - DNS packets: questions made, answers judged. Built on ldns; nothing outside
 * of it sees ldns. An answer comes from strangers: whatever it holds ends in a bounded result.
 *
 * Names are text: lower-case, no trailing dot, "" is the root. A name from the wire with a label
 * that no host name has (control characters, spaces, dots, backslashes, 8-bit) is unusable.
 */
#ifndef SLUICE_WORKER_RESOLVER_PACKET_H
#define SLUICE_WORKER_RESOLVER_PACKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/buf.h"
#include "common/base/ip.h"
#include "common/base/slice.h"

#define PACKET_NAME_MAX 256 /* text and NUL */
#define PACKET_MX_MAX 100
#define PACKET_ADDRS_MAX 50
#define PACKET_CHAIN_MAX 8 /* CNAMEs in a row */

enum packet_type { PACKET_A = 1, PACKET_MX = 15, PACKET_AAAA = 28 };

enum packet_verdict {
	PACKET_DATA, /* at least one record of the type */
	PACKET_NODATA, /* the name exists, the type does not */
	PACKET_NXDOMAIN,
	PACKET_ALIAS, /* a CNAME whose target has to be asked for: see target */
	PACKET_LOOP, /* more than PACKET_CHAIN_MAX CNAMEs */
	PACKET_TRUNCATED, /* ask again over TCP */
	PACKET_FAILED /* the server says no: rcode */
};

struct packet_mx {
	char name[PACKET_NAME_MAX]; /* "" is the null MX */
	uint16_t preference;
};

struct packet_answer {
	enum packet_verdict verdict;
	uint8_t rcode;
	bool ad; /* the server has checked DNSSEC signatures */
	bool has_ttl; /* ttl is from records; for NODATA and NXDOMAIN from the SOA (RFC 2308) */
	uint32_t ttl; /* seconds, at most a week */
	unsigned chain; /* CNAMEs followed */
	char target[PACKET_NAME_MAX]; /* last name of the chain */
	char ignored[PACKET_NAME_MAX]; /* an unusable MX host or alias, for the text; else "" */
	struct packet_mx *mx;
	size_t mx_count;
	struct ip addrs[PACKET_ADDRS_MAX];
	size_t addr_count;
};

/* Can this text be asked for? Labels of 1-63 bytes, at most 253 in all, no unusable bytes. */
bool packet_name_ok(struct slice name);

/* Appends a question with RD and AD set; with EDNS0 (RFC 6891) of 1232 bytes if edns. */
void packet_build(struct buf *b, uint16_t id, const char *name, enum packet_type type, bool edns);

/*
 * Judges a packet as the answer to a question. ERR_INVALID: it does not belong to the question
 * (wrong id, not an answer, another name): wait on. ERR_CORRUPT: it does, but cannot be read. 0:
 * *ret is filled; free it with packet_answer_done().
 */
int packet_parse(const void *p, size_t n, uint16_t id, const char *name, enum packet_type type,
		 struct packet_answer *ret) __attribute__((warn_unused_result));
void packet_answer_done(struct packet_answer *a);

const char *packet_rcode_name(uint8_t rcode); /* "SERVFAIL" … */

#endif
