/*
 * address.h - mail addresses as SMTP writes them (RFC 5321 4.1.2, RFC 6531 3.3). Pure functions;
 * all slices given back are borrowed from the input.
 */
#ifndef SLUICE_SMTP_ADDRESS_H
#define SLUICE_SMTP_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>

#include "common/base/ip.h"
#include "common/base/macros.h"
#include "common/base/slice.h"

#define ADDRESS_LOCAL_MAX 256 /* RFC 5321 asks for 64; VERP needs more */
#define ADDRESS_DOMAIN_MAX 255
#define ADDRESS_DOMAIN_TEXT_MAX 256 /* a domain with its NUL */

struct address {
	struct slice local; /* as written, with quotes if it has them */
	struct slice domain; /* as written, "[…]" for a literal; empty: none given */
	bool utf8; /* holds bytes above 127 */
};

enum { ADDRESS_UTF8 = 1 }; /* bytes above 127 are allowed (SMTPUTF8) */

/*
 * "<a@b>", "<>", "<@x,@y:a@b>" (the source route is dropped), "<postmaster>" at the start of s;
 * *ret_used is what it took. White space inside is an error. Null path: empty local and domain.
 * Returns NULL, or what is wrong with it (static text).
 */
const char *address_parse_path(struct slice s, unsigned flags, struct address *ret,
			       size_t *ret_used) WARN_UNUSED;
/* The same without the brackets: all of s is local@domain or a local part alone. */
const char *address_parse(struct slice s, unsigned flags, struct address *ret) WARN_UNUSED;

/* A host name: labels of letters, digits, '-' and '_', no dot at the end. NULL or what is wrong. */
const char *domain_check(struct slice s, unsigned flags) WARN_UNUSED;
/* "[1.2.3.4]" or "[IPv6:…]". */
bool domain_literal_parse(struct slice s, struct ip *ret);
/*
 * The form that queues are named by: lower-case ASCII, labels beyond that as A-labels (idn.h), literals
 * as "[1.2.3.4]" or "[2001:db8::1]". ret holds ADDRESS_DOMAIN_TEXT_MAX bytes. s has passed the parser.
 * NULL, or what is wrong: no domain can be called that.
 */
const char *domain_canonical(struct slice s, char *ret) WARN_UNUSED;

#endif
