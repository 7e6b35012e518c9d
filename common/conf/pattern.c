#include "common/conf/pattern.h"

#define DOMAIN_MAX 253

bool conf_domain_valid(struct slice domain)
{
	struct slice rest = domain, label;

	if (domain.n == 0 || domain.n > DOMAIN_MAX)
		return false;
	while (slice_next(&rest, '.', &label)) {
		if (label.n == 0 || label.n > 63)
			return false;
		for (size_t i = 0; i < label.n; i++) {
			char c = ascii_lower(label.p[i]);

			if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' ||
			      c == '_'))
				return false;
		}
	}
	return true;
}

static bool has_non_ascii(struct slice s)
{
	for (size_t i = 0; i < s.n; i++)
		if ((unsigned char)s.p[i] >= 0x80)
			return true;
	return false;
}

static bool parse_address(struct slice text, struct conf_pattern *p, struct buf *why)
{
	struct slice in = slice_sub(text, 1, text.n - 2);

	if (slice_istarts(in, "ipv6:"))
		in = slice_from(in, 5);
	if (cidr_parse(in, &p->cidr))
		return true;
	buf_addf(why, "'%.*s' is neither an address pattern such as [192.0.2.0/24] nor [*.]domain",
		 SLICE_ARG(text));
	return false;
}

bool conf_pattern_parse(struct slice text, struct arena *a, struct conf_pattern *ret,
			struct buf *why)
{
	struct conf_pattern p = {.kind = CONF_PATTERN_EXACT};
	struct slice d = text;

	if (slice_eq_str(text, "*")) {
		p.kind = CONF_PATTERN_ANY;
	} else if (slice_istarts(text, "[*.]")) {
		p.kind = CONF_PATTERN_AT_OR_BELOW;
		d = slice_from(text, 4);
	} else if (slice_istarts(text, "*.")) {
		p.kind = CONF_PATTERN_BELOW;
		d = slice_from(text, 2);
	} else if (text.n > 2 && text.p[0] == '[' && text.p[text.n - 1] == ']') {
		p.kind = CONF_PATTERN_ADDRESS;
		if (!parse_address(text, &p, why))
			return false;
	}
	if (p.kind <= CONF_PATTERN_AT_OR_BELOW) {
		if (d.n && d.p[d.n - 1] == '.')
			d.n--;
		if (!conf_domain_valid(d)) {
			if (has_non_ascii(d))
				buf_addf(why,
					 "'%.*s' is not ASCII: write the xn-- form of the domain",
					 SLICE_ARG(text));
			else
				buf_addf(why,
					 "'%.*s' is not a domain pattern: *, example.com, "
					 "*.example.com, [*.]example.com or [192.0.2.0/24]",
					 SLICE_ARG(text));
			return false;
		}
	}
	p.domain = slice_of(arena_dup_lower(a, d), d.n);
	*ret = p;
	return true;
}

bool conf_address_literal(struct slice domain, struct ip *ret)
{
	struct slice in;

	if (domain.n < 3 || domain.p[0] != '[' || domain.p[domain.n - 1] != ']')
		return false;
	in = slice_sub(domain, 1, domain.n - 2);
	if (slice_istarts(in, "ipv6:"))
		in = slice_from(in, 5);
	return ip_parse(in, ret);
}

static bool is_below(struct slice domain, struct slice suffix)
{
	size_t at;

	if (domain.n <= suffix.n + 1)
		return false;
	at = domain.n - suffix.n;
	return domain.p[at - 1] == '.' && slice_eq(slice_from(domain, at), suffix);
}

bool conf_pattern_match(const struct conf_pattern *p, struct slice domain)
{
	struct ip ip;

	switch (p->kind) {
	case CONF_PATTERN_EXACT:
		return slice_eq(p->domain, domain);
	case CONF_PATTERN_BELOW:
		return is_below(domain, p->domain);
	case CONF_PATTERN_AT_OR_BELOW:
		return slice_eq(p->domain, domain) || is_below(domain, p->domain);
	case CONF_PATTERN_ADDRESS:
		return conf_address_literal(domain, &ip) && cidr_has(&p->cidr, &ip);
	case CONF_PATTERN_ANY:
		return true;
	}
	return false;
}
