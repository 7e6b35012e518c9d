#include "common/base/ip.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

bool ip_parse(struct slice s, struct ip *ret)
{
	char text[IP_TEXT_MAX];
	struct ip ip = {0};

	if (s.n == 0 || s.n >= sizeof(text))
		return false;
	slice_copy(s, text, sizeof(text));
	if (strlen(text) != s.n)
		return false;
	if (inet_pton(AF_INET, text, ip.b) == 1)
		ip.family = IP_V4;
	else if (inet_pton(AF_INET6, text, ip.b) == 1)
		ip.family = IP_V6;
	else
		return false;
	*ret = ip;
	return true;
}

const char *ip_text(const struct ip *ip, char *ret)
{
	ret[0] = '\0';
	if (ip->family == IP_V4)
		inet_ntop(AF_INET, ip->b, ret, IP_TEXT_MAX);
	else if (ip->family == IP_V6)
		inet_ntop(AF_INET6, ip->b, ret, IP_TEXT_MAX);
	return ret;
}

int ip_cmp(const struct ip *a, const struct ip *b)
{
	return memcmp(a, b, sizeof(*a));
}

bool ip_eq(const struct ip *a, const struct ip *b)
{
	return ip_cmp(a, b) == 0;
}

void ip_from_sockaddr(const struct sockaddr *sa, struct ip *ret_ip, uint16_t *ret_port)
{
	static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
	struct ip ip = {0};
	uint16_t port = 0;

	if (sa->sa_family == AF_INET) {
		struct sockaddr_in in;

		memcpy(&in, sa, sizeof(in));
		ip.family = IP_V4;
		memcpy(ip.b, &in.sin_addr, 4);
		port = ntohs(in.sin_port);
	} else if (sa->sa_family == AF_INET6) {
		struct sockaddr_in6 in6;

		memcpy(&in6, sa, sizeof(in6));
		port = ntohs(in6.sin6_port);
		if (memcmp(&in6.sin6_addr, mapped, sizeof(mapped)) == 0) {
			ip.family = IP_V4;
			memcpy(ip.b, (const uint8_t *)&in6.sin6_addr + 12, 4);
		} else {
			ip.family = IP_V6;
			memcpy(ip.b, &in6.sin6_addr, 16);
		}
	}
	*ret_ip = ip;
	if (ret_port)
		*ret_port = port;
}

socklen_t ip_to_sockaddr(const struct ip *ip, uint16_t port, struct sockaddr_storage *ret)
{
	memset(ret, 0, sizeof(*ret));
	if (ip->family == IP_V4) {
		struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port)};

		memcpy(&in.sin_addr, ip->b, 4);
		memcpy(ret, &in, sizeof(in));
		return sizeof(in);
	}
	if (ip->family == IP_V6) {
		struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};

		memcpy(&in6.sin6_addr, ip->b, 16);
		memcpy(ret, &in6, sizeof(in6));
		return sizeof(in6);
	}
	return 0;
}

/* "10/8" and "192.168.1/24": the missing octets are zero. */
static bool parse_short_v4(struct slice s, struct ip *ret)
{
	struct ip ip = {.family = IP_V4};
	struct slice part;
	unsigned i = 0;

	while (slice_next(&s, '.', &part)) {
		uint64_t v;

		if (i == 4 || part.n > 3 || !slice_u64(part, &v) || v > 255)
			return false;
		ip.b[i++] = (uint8_t)v;
	}
	*ret = ip;
	return i > 0;
}

static void clear_host_bits(struct cidr *c)
{
	unsigned i, total = c->ip.family == IP_V4 ? 32 : 128;

	for (i = c->bits; i < total; i++)
		c->ip.b[i / 8] = (uint8_t)(c->ip.b[i / 8] & ~(0x80U >> (i % 8)));
}

bool cidr_parse(struct slice s, struct cidr *ret)
{
	ptrdiff_t slash = slice_chr(s, '/');
	struct slice addr = slash < 0 ? s : slice_sub(s, 0, (size_t)slash);
	struct cidr c;
	uint64_t bits;

	if (!ip_parse(addr, &c.ip)) {
		if (slash < 0 || !parse_short_v4(addr, &c.ip))
			return false;
	}
	bits = c.ip.family == IP_V4 ? 32 : 128;
	if (slash >= 0) {
		uint64_t given;

		if (!slice_u64(slice_from(s, (size_t)slash + 1), &given) || given > bits)
			return false;
		bits = given;
	}
	c.bits = (uint8_t)bits;
	clear_host_bits(&c);
	*ret = c;
	return true;
}

bool cidr_has(const struct cidr *c, const struct ip *ip)
{
	unsigned whole = c->bits / 8, rest = c->bits % 8;
	uint8_t mask = (uint8_t)(0xff00U >> rest);

	/* 0/0 is every address of both families, as in PowerMTA */
	if (c->bits == 0 && c->ip.family == IP_V4)
		return ip->family != IP_NONE;
	if (c->ip.family != ip->family || memcmp(c->ip.b, ip->b, whole) != 0)
		return false;
	return rest == 0 || ((c->ip.b[whole] ^ ip->b[whole]) & mask) == 0;
}

const char *cidr_text(const struct cidr *c, char *ret)
{
	char ip[IP_TEXT_MAX];

	snprintf(ret, CIDR_TEXT_MAX, "%s/%u", ip_text(&c->ip, ip), c->bits);
	return ret;
}

bool ip_port_parse(struct slice s, struct ip *ret_ip, uint16_t *ret_port)
{
	struct slice addr = s, port = slice_of(NULL, 0);
	uint64_t v = 0;
	struct ip ip;

	if (s.n && s.p[0] == '[') {
		ptrdiff_t close = slice_chr(s, ']');

		if (close < 0)
			return false;
		addr = slice_sub(s, 1, (size_t)close - 1);
		s = slice_from(s, (size_t)close + 1);
		if (s.n && s.p[0] != ':')
			return false;
		if (s.n)
			port = slice_from(s, 1);
	} else if (slice_chr(s, ':') >= 0 && slice_chr(s, ':') == slice_rchr(s, ':')) {
		size_t colon = (size_t)slice_chr(s, ':');

		addr = slice_sub(s, 0, colon);
		port = slice_from(s, colon + 1);
	}
	if (!ip_parse(addr, &ip))
		return false;
	if (port.p && (!slice_u64(port, &v) || v == 0 || v > 65535))
		return false;
	*ret_ip = ip;
	*ret_port = (uint16_t)v;
	return true;
}
