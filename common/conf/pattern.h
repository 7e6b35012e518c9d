/*
 * pattern.h - one domain pattern: *, exact, *.d, [*.]d, [ip/mask].
 */
#ifndef SLUICE_CONF_PATTERN_H
#define SLUICE_CONF_PATTERN_H

#include <stdbool.h>

#include "common/base/buf.h"
#include "common/base/ip.h"
#include "common/base/slice.h"
#include "common/conf/arena.h"

enum conf_pattern_kind {
	CONF_PATTERN_EXACT, /* example.com */
	CONF_PATTERN_BELOW, /* *.example.com: subdomains only */
	CONF_PATTERN_AT_OR_BELOW, /* [*.]example.com: it and its subdomains */
	CONF_PATTERN_ADDRESS, /* [192.0.2.0/24]: address literals */
	CONF_PATTERN_ANY, /* * */
};

struct conf_pattern {
	enum conf_pattern_kind kind;
	bool via_macro; /* came from a $macro */
	struct slice
		domain; /* lower-case, without "*." or "[*.]"; of the text for ADDRESS and ANY */
	struct cidr cidr; /* ADDRESS */
};

/* Parses one pattern without macros. False: why says what is wrong. */
bool conf_pattern_parse(struct slice text, struct arena *a, struct conf_pattern *ret,
			struct buf *why);
/* domain is lower-case; an address literal is "[1.2.3.4]" or "[IPv6:…]". */
bool conf_pattern_match(const struct conf_pattern *p, struct slice domain);
/* The address of an address literal. */
bool conf_address_literal(struct slice domain, struct ip *ret);
/* Letters, digits, '-', '_' and '.', no empty labels, at most 253 bytes. */
bool conf_domain_valid(struct slice domain);

#endif
