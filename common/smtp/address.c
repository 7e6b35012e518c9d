#include "common/smtp/address.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "common/base/idn.h"
#include "common/smtp/text.h"

static bool is_alnum(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

/* RFC 5322 atext without the bytes above 127. */
static bool is_atext(char c)
{
	return is_alnum(c) || (c && strchr("!#$%&'*+-/=?^_`{|}~", c));
}

static bool is_high(char c)
{
	return (unsigned char)c >= 0x80;
}

/* Local part at the start of s as a quoted string; 0 if it is not one. */
static size_t quoted_length(struct slice s, unsigned flags)
{
	size_t i;

	for (i = 1; i < s.n; i++) {
		unsigned char c = (unsigned char)s.p[i];

		if (c == '"')
			return i + 1;
		if (c == '\\') {
			if (++i >= s.n)
				return 0;
			c = (unsigned char)s.p[i];
		}
		if (c < ' ' || c == 0x7f || (c >= 0x80 && !(flags & ADDRESS_UTF8)))
			return 0;
	}
	return 0;
}

static size_t atoms_length(struct slice s, unsigned flags)
{
	size_t i;

	for (i = 0; i < s.n; i++)
		if (!is_atext(s.p[i]) && s.p[i] != '.' &&
		    !(is_high(s.p[i]) && (flags & ADDRESS_UTF8)))
			break;
	return i;
}

static const char *parse_local(struct slice s, unsigned flags, struct slice *ret)
{
	size_t n;

	if (s.n && s.p[0] == '"') {
		n = quoted_length(s, flags);
		if (n == 0)
			return "the quoted local part is malformed";
	} else {
		n = atoms_length(s, flags);
		if (n < s.n && is_high(s.p[n]))
			return "the local part is not ASCII: SMTPUTF8 is needed";
		if (n == 0)
			return "the local part is empty or begins with a character that must be "
			       "quoted";
		if (s.p[0] == '.' || s.p[n - 1] == '.' || memmem(s.p, n, "..", 2))
			return "the local part has a dot at its start or end, or two in a row";
	}
	if (n > ADDRESS_LOCAL_MAX)
		return "the local part is longer than 256 octets";
	*ret = slice_sub(s, 0, n);
	return NULL;
}

static const char *check_label(struct slice label, unsigned flags)
{
	size_t i;

	if (label.n == 0)
		return "the domain has an empty label or a dot at its start or end";
	if (label.n > 63 && ascii_only(label))
		return "the domain has a label of more than 63 octets";
	if (label.p[0] == '-' || label.p[label.n - 1] == '-')
		return "a label of the domain begins or ends with '-'";
	for (i = 0; i < label.n; i++) {
		char c = label.p[i];

		if (is_high(c) && !(flags & ADDRESS_UTF8))
			return "the domain is not ASCII: SMTPUTF8 is needed";
		if (!is_alnum(c) && c != '-' && c != '_' && !is_high(c))
			return "the domain has a character that is not allowed there";
	}
	return NULL;
}

const char *domain_check(struct slice s, unsigned flags)
{
	struct slice rest = s, label;

	if (s.n == 0)
		return "the domain is empty";
	if (s.n > ADDRESS_DOMAIN_MAX)
		return "the domain is longer than 255 octets";
	while (slice_next(&rest, '.', &label)) {
		const char *why = check_label(label, flags);

		if (why)
			return why;
	}
	return utf8_valid(s) ? NULL : "the domain is not valid UTF-8";
}

bool domain_literal_parse(struct slice s, struct ip *ret)
{
	struct slice inner;

	if (s.n < 3 || s.p[0] != '[' || s.p[s.n - 1] != ']')
		return false;
	inner = slice_sub(s, 1, s.n - 2);
	if (slice_istarts(inner, "IPv6:"))
		return ip_parse(slice_from(inner, 5), ret) && ret->family == IP_V6;
	return ip_parse(inner, ret) && ret->family == IP_V4;
}

static const char *parse_domain(struct slice s, unsigned flags)
{
	struct ip ip;

	if (s.n && s.p[0] == '[')
		return domain_literal_parse(s, &ip) ? NULL : "the address literal is malformed";
	return domain_check(s, flags);
}

const char *domain_canonical(struct slice s, char *ret)
{
	char text[IP_TEXT_MAX];
	struct ip ip;

	static_assert(ADDRESS_DOMAIN_TEXT_MAX >= IDN_TEXT_MAX, "a converted domain fits");
	if (domain_literal_parse(s, &ip)) {
		(void)snprintf(ret, ADDRESS_DOMAIN_TEXT_MAX, "[%s]", ip_text(&ip, text));
		return NULL;
	}
	if (!idn_to_ascii(s, ret) || domain_check(slice_str(ret), 0))
		return "the domain has a character or a form that international domain names "
		       "cannot have";
	return NULL;
}

const char *address_parse(struct slice s, unsigned flags, struct address *ret)
{
	struct address a = {.domain = slice_of("", 0)};
	const char *why = parse_local(s, flags, &a.local);

	if (why)
		return why;
	if (a.local.n < s.n) {
		if (s.p[a.local.n] != '@')
			return "the local part has a character that must be quoted";
		a.domain = slice_from(s, a.local.n + 1);
		why = parse_domain(a.domain, flags);
		if (why)
			return why;
	}
	if (!utf8_valid(a.local))
		return "the local part is not valid UTF-8";
	a.utf8 = !ascii_only(s);
	*ret = a;
	return NULL;
}

/* Where the path's '>' is: quotes may hide one. */
static ptrdiff_t path_end(struct slice s)
{
	bool quoted = false;
	size_t i;

	for (i = 1; i < s.n; i++) {
		if (quoted && s.p[i] == '\\')
			i++;
		else if (s.p[i] == '"')
			quoted = !quoted;
		else if (s.p[i] == '>' && !quoted)
			return (ptrdiff_t)i;
	}
	return -1;
}

/*
 * "@a,@b:" at the start; the length of it, or 0 if malformed. RFC 5321 F.2: accepted and ignored.
 */
static size_t route_length(struct slice s, unsigned flags)
{
	ptrdiff_t colon = slice_chr(s, ':');
	struct slice rest, hop;

	if (colon < 0)
		return 0;
	rest = slice_sub(s, 0, (size_t)colon);
	while (slice_next(&rest, ',', &hop))
		if (hop.n < 2 || hop.p[0] != '@' || domain_check(slice_from(hop, 1), flags))
			return 0;
	return (size_t)colon + 1;
}

const char *address_parse_path(struct slice s, unsigned flags, struct address *ret,
			       size_t *ret_used)
{
	ptrdiff_t end = s.n && s.p[0] == '<' ? path_end(s) : -1;
	struct slice inner;
	const char *why;

	if (s.n == 0 || s.p[0] != '<')
		return "the address must be in angle brackets";
	if (end < 0)
		return "the closing angle bracket is missing";
	inner = slice_sub(s, 1, (size_t)end - 1);
	if (inner.n && inner.p[0] == '@') {
		size_t n = route_length(inner, flags);

		if (n == 0)
			return "the source route is malformed";
		inner = slice_from(inner, n);
		if (inner.n == 0)
			return "there is no address behind the source route";
	}
	if (inner.n == 0) {
		*ret = (struct address){.local = slice_of("", 0), .domain = slice_of("", 0)};
	} else {
		why = address_parse(inner, flags, ret);
		if (why)
			return why;
	}
	*ret_used = (size_t)end + 1;
	return NULL;
}
