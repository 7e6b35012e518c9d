/*
 * ip.h - IP addresses and networks, v4 and v6, by value. An IPv4 address is stored in the first four
 * bytes; the rest is zero, so that structs compare with memcmp.
 */
#ifndef SLUICE_BASE_IP_H
#define SLUICE_BASE_IP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "common/base/macros.h"
#include "common/base/slice.h"

enum ip_family { IP_NONE = 0, IP_V4 = 4, IP_V6 = 6 };

struct ip {
	uint8_t family; /* enum ip_family */
	uint8_t b[16];
};

struct cidr {
	struct ip ip;
	uint8_t bits;
};

#define IP_TEXT_MAX 48 /* "xxxx:…:xxxx" or "[…]:65535" and a NUL */

bool ip_parse(struct slice s, struct ip *ret);
/* ret holds IP_TEXT_MAX bytes; returns ret. IP_NONE gives "". */
const char *ip_text(const struct ip *ip, char *ret);
bool ip_eq(const struct ip *a, const struct ip *b);
int ip_cmp(const struct ip *a, const struct ip *b);
/* An IPv4-mapped IPv6 address becomes IPv4. */
void ip_from_sockaddr(const struct sockaddr *sa, struct ip *ret_ip, uint16_t *ret_port);
socklen_t ip_to_sockaddr(const struct ip *ip, uint16_t port, struct sockaddr_storage *ret);

/* "10/8", "0/0", "192.168.1/24", "::1", "2001:db8::/32"; host bits must be zero or are cleared. */
bool cidr_parse(struct slice s, struct cidr *ret);
bool cidr_has(const struct cidr *c, const struct ip *ip);
#define CIDR_TEXT_MAX (IP_TEXT_MAX + 4)
const char *cidr_text(const struct cidr *c, char *ret);

/* "127.0.0.1:25", "[::1]:25", "127.0.0.1" (port 0 = none given). */
bool ip_port_parse(struct slice s, struct ip *ret_ip, uint16_t *ret_port);

#endif
