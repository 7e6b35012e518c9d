#include "worker/resolver_packet.h"

#include <ldns/ldns.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/err.h"
#include "common/base/log.h"
#include "common/base/xalloc.h"

#define TTL_MAX (7u * 86400)
#define EDNS_SIZE 1232
#define HEADER_SIZE 12
#define WIRE_NAME_MAX 255

static bool byte_ok(unsigned char c)
{
	return c > 0x20 && c < 0x7f && c != '\\' && c != '.';
}

bool packet_name_ok(struct slice name)
{
	struct slice label;

	if (name.n == 0 || name.n > 253)
		return false;
	while (slice_next(&name, '.', &label)) {
		if (label.n == 0 || label.n > 63)
			return false;
		for (size_t i = 0; i < label.n; i++)
			if (!byte_ok((unsigned char)label.p[i]))
				return false;
	}
	return true;
}

/* Text, checked by packet_name_ok(), to labels; returns the size. */
static size_t name_to_wire(const char *name, uint8_t *ret)
{
	struct slice rest = slice_str(name), label;
	size_t n = 0;

	while (slice_next(&rest, '.', &label)) {
		invariant(label.n > 0 && label.n < 64 && n + label.n + 2 <= WIRE_NAME_MAX);
		ret[n++] = (uint8_t)label.n;
		memcpy(ret + n, label.p, label.n);
		n += label.n;
	}
	ret[n++] = 0;
	return n;
}

/* Labels to text; false when unusable. ret holds PACKET_NAME_MAX bytes. */
static bool name_from_wire(const ldns_rdf *rdf, char *ret)
{
	const uint8_t *p = ldns_rdf_data(rdf);
	size_t size = ldns_rdf_size(rdf), at = 0, n = 0;

	ret[0] = '\0';
	if (ldns_rdf_get_type(rdf) != LDNS_RDF_TYPE_DNAME)
		return false;
	while (at < size && p[at] != 0) {
		size_t len = p[at++];

		if (len > 63 || at + len > size || n + len + 1 >= PACKET_NAME_MAX)
			return false;
		if (n)
			ret[n++] = '.';
		for (size_t i = 0; i < len; i++) {
			if (!byte_ok(p[at + i]))
				return false;
			ret[n++] = ascii_lower((char)p[at + i]);
		}
		ret[n] = '\0';
		at += len;
	}
	return true;
}

void packet_build(struct buf *b, uint16_t id, const char *name, enum packet_type type, bool edns)
{
	uint8_t wire_name[WIRE_NAME_MAX], *wire = NULL;
	size_t n = name_to_wire(name, wire_name), size;
	ldns_rdf *rdf = ldns_rdf_new_frm_data(LDNS_RDF_TYPE_DNAME, n, wire_name);
	ldns_pkt *pkt =
		ldns_pkt_query_new(rdf, (ldns_rr_type)type, LDNS_RR_CLASS_IN, LDNS_RD | LDNS_AD);

	if (!pkt)
		fatal("out of memory while making a DNS question");
	ldns_pkt_set_id(pkt, id);
	if (edns)
		ldns_pkt_set_edns_udp_size(pkt, EDNS_SIZE);
	if (ldns_pkt2wire(&wire, pkt, &size) != LDNS_STATUS_OK)
		panic("cannot encode the question for \"%s\"", name);
	buf_add(b, wire, size);
	free(wire);
	ldns_pkt_free(pkt);
}

/* ---- answers ---- */

static void lower_ttl(struct packet_answer *a, uint32_t ttl)
{
	if (ttl > INT32_MAX)
		ttl = 0; /* RFC 2181, 8 */
	if (ttl > TTL_MAX)
		ttl = TTL_MAX;
	if (!a->has_ttl || ttl < a->ttl)
		a->ttl = ttl;
	a->has_ttl = true;
}

static bool is_for(const ldns_rr *rr, const char *owner, ldns_rr_type type)
{
	char name[PACKET_NAME_MAX];

	return ldns_rr_get_type(rr) == type && ldns_rr_get_class(rr) == LDNS_RR_CLASS_IN &&
	       name_from_wire(ldns_rr_owner(rr), name) && strcmp(name, owner) == 0;
}

/* Addresses that no mail server can have would make us talk to ourselves or to everybody. */
static bool addr_ok(const struct ip *ip)
{
	static const uint8_t zero[16], mapped[12] = {[10] = 0xff, [11] = 0xff};

	if (ip->family == IP_V4)
		return ip->b[0] != 0 && ip->b[0] < 224;
	return memcmp(ip->b, zero, 16) != 0 && ip->b[0] != 0xff && memcmp(ip->b, mapped, 12) != 0;
}

static void take_addr(struct packet_answer *a, const ldns_rr *rr)
{
	const ldns_rdf *rdf = ldns_rr_rdf(rr, 0);
	bool v4 = ldns_rr_get_type(rr) == LDNS_RR_TYPE_A;
	struct ip ip = {.family = v4 ? IP_V4 : IP_V6};

	if (!rdf || ldns_rdf_size(rdf) != (v4 ? 4 : 16))
		return;
	memcpy(ip.b, ldns_rdf_data(rdf), v4 ? 4 : 16);
	lower_ttl(a, ldns_rr_ttl(rr));
	if (!addr_ok(&ip)) {
		(void)ip_text(&ip, a->ignored);
		return;
	}
	for (size_t i = 0; i < a->addr_count; i++)
		if (ip_eq(&a->addrs[i], &ip))
			return;
	if (a->addr_count < PACKET_ADDRS_MAX)
		a->addrs[a->addr_count++] = ip;
}

static void add_mx(struct packet_answer *a, const char *name, uint16_t preference)
{
	for (size_t i = 0; i < a->mx_count; i++) {
		if (strcmp(a->mx[i].name, name) != 0)
			continue;
		if (preference < a->mx[i].preference)
			a->mx[i].preference = preference;
		return;
	}
	if (a->mx_count == PACKET_MX_MAX)
		return;
	if (!a->mx)
		a->mx = xcalloc(PACKET_MX_MAX, sizeof(*a->mx));
	a->mx[a->mx_count].preference = preference;
	(void)slice_copy(slice_str(name), a->mx[a->mx_count].name, PACKET_NAME_MAX);
	a->mx_count++;
}

static void take_mx(struct packet_answer *a, const ldns_rr *rr)
{
	const ldns_rdf *pref = ldns_rr_rdf(rr, 0), *host = ldns_rr_rdf(rr, 1);
	char name[PACKET_NAME_MAX];
	struct ip ip;

	if (!pref || !host || ldns_rdf_size(pref) != 2)
		return;
	lower_ttl(a, ldns_rr_ttl(rr));
	if (!name_from_wire(host, name)) {
		(void)slice_copy(slice_str("a name that no host has"), a->ignored, PACKET_NAME_MAX);
		return;
	}
	/* RFC 5321 5.1: a domain name, not an address. */
	if (ip_parse(slice_str(name), &ip) || name[0] == '[') {
		(void)slice_copy(slice_str(name), a->ignored, PACKET_NAME_MAX);
		return;
	}
	add_mx(a, name, ldns_rdf2native_int16(pref));
}

static const ldns_rr *find_alias(const ldns_rr_list *answers, const char *owner)
{
	for (size_t i = 0; i < ldns_rr_list_rr_count(answers); i++) {
		const ldns_rr *rr = ldns_rr_list_rr(answers, i);

		if (is_for(rr, owner, LDNS_RR_TYPE_CNAME) && ldns_rr_rdf(rr, 0))
			return rr;
	}
	return NULL;
}

/* Goes along the CNAMEs that the packet has; a->target is the last name. False: stop with verdict.
 */
static bool follow_chain(struct packet_answer *a, const ldns_rr_list *answers)
{
	const ldns_rr *rr;

	while ((rr = find_alias(answers, a->target))) {
		lower_ttl(a, ldns_rr_ttl(rr));
		if (++a->chain > PACKET_CHAIN_MAX) {
			a->verdict = PACKET_LOOP;
			return false;
		}
		if (!name_from_wire(ldns_rr_rdf(rr, 0), a->target) || a->target[0] == '\0') {
			(void)slice_copy(slice_str("an alias to a name that no host has"),
					 a->ignored, PACKET_NAME_MAX);
			a->verdict = PACKET_NODATA;
			return false;
		}
	}
	return true;
}

static bool take_data(struct packet_answer *a, const ldns_rr_list *answers, enum packet_type type)
{
	bool any = false;

	for (size_t i = 0; i < ldns_rr_list_rr_count(answers); i++) {
		const ldns_rr *rr = ldns_rr_list_rr(answers, i);

		if (!is_for(rr, a->target, (ldns_rr_type)type))
			continue;
		any = true;
		if (type == PACKET_MX)
			take_mx(a, rr);
		else
			take_addr(a, rr);
	}
	return any;
}

/* RFC 2308, 5: a negative answer lives min(TTL of the SOA, its MINIMUM). */
static bool take_soa(struct packet_answer *a, const ldns_rr_list *authority)
{
	for (size_t i = 0; i < ldns_rr_list_rr_count(authority); i++) {
		const ldns_rr *rr = ldns_rr_list_rr(authority, i);
		const ldns_rdf *minimum;

		if (ldns_rr_get_type(rr) != LDNS_RR_TYPE_SOA || ldns_rr_rd_count(rr) != 7)
			continue;
		minimum = ldns_rr_rdf(rr, 6);
		if (ldns_rdf_size(minimum) != 4)
			continue;
		lower_ttl(a, ldns_rr_ttl(rr));
		lower_ttl(a, ldns_rdf2native_int32(minimum));
		return true;
	}
	return false;
}

static void judge(struct packet_answer *a, const ldns_pkt *pkt, enum packet_type type)
{
	const ldns_rr_list *answers = ldns_pkt_answer(pkt);
	bool soa;

	if (!follow_chain(a, answers))
		return;
	if (a->rcode == LDNS_RCODE_NOERROR && take_data(a, answers, type)) {
		a->verdict = PACKET_DATA;
		return;
	}
	soa = take_soa(a, ldns_pkt_authority(pkt));
	if (a->rcode == LDNS_RCODE_NXDOMAIN)
		a->verdict = PACKET_NXDOMAIN;
	else if (a->chain && !soa)
		a->verdict = PACKET_ALIAS; /* the server stopped halfway */
	else
		a->verdict = PACKET_NODATA;
	if (!soa && a->verdict != PACKET_ALIAS)
		a->has_ttl = false;
}

static bool question_matches(const ldns_pkt *pkt, const char *name, enum packet_type type,
			     bool failed)
{
	const ldns_rr_list *list = ldns_pkt_question(pkt);

	/* Servers that refuse may leave the question out. */
	if (ldns_rr_list_rr_count(list) == 0)
		return failed;
	return ldns_rr_list_rr_count(list) == 1 &&
	       is_for(ldns_rr_list_rr(list, 0), name, (ldns_rr_type)type);
}

/* Fields of the header, before the rest is trusted to a parser. */
static bool header_matches(const uint8_t *p, size_t n, uint16_t id)
{
	return n >= HEADER_SIZE && ((p[0] << 8) | p[1]) == id && (p[2] & 0x80) != 0 &&
	       ((p[2] >> 3) & 15) == 0;
}

int packet_parse(const void *data, size_t n, uint16_t id, const char *name, enum packet_type type,
		 struct packet_answer *ret)
{
	const uint8_t *p = data;
	struct packet_answer a = {0};
	ldns_pkt *pkt = NULL;

	if (!header_matches(p, n, id))
		return ERR_INVALID;
	a.rcode = p[3] & 15;
	a.ad = p[3] & 0x20;
	(void)slice_copy(slice_str(name), a.target, sizeof(a.target));
	if (p[2] & 2) {
		a.verdict = PACKET_TRUNCATED;
		*ret = a;
		return 0;
	}
	if (ldns_wire2pkt(&pkt, p, n) != LDNS_STATUS_OK)
		return ERR_CORRUPT;
	a.verdict = PACKET_FAILED;
	if (!question_matches(pkt, name, type,
			      a.rcode != LDNS_RCODE_NOERROR && a.rcode != LDNS_RCODE_NXDOMAIN)) {
		ldns_pkt_free(pkt);
		return ERR_INVALID;
	}
	if (a.rcode == LDNS_RCODE_NOERROR || a.rcode == LDNS_RCODE_NXDOMAIN)
		judge(&a, pkt, type);
	ldns_pkt_free(pkt);
	*ret = a;
	return 0;
}

void packet_answer_done(struct packet_answer *a)
{
	free(a->mx);
	a->mx = NULL;
	a->mx_count = 0;
}

const char *packet_rcode_name(uint8_t rcode)
{
	static const char *const names[] = {"NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN",
					    "NOTIMP",  "REFUSED", "YXDOMAIN", "YXRRSET",
					    "NXRRSET", "NOTAUTH", "NOTZONE"};

	return rcode < ARRAY_SIZE(names) ? names[rcode] : "an unknown error code";
}
