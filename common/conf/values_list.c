/* Lists and structured values: addresses, hosts, patterns, record types and fields. */
#include <stdlib.h>
#include <string.h>

#include "common/acct/field.h"
#include "common/base/xalloc.h"
#include "common/conf/pattern.h"
#include "common/conf/values.h"

/* The elements of a list as they are found; freed by the caller. */
struct elements {
	struct slice *v;
	size_t n, cap;
};

static void elements_add(struct elements *e, struct slice s)
{
	if (e->n == e->cap) {
		e->cap = e->cap ? e->cap * 2 : 16;
		e->v = xreallocarray(e->v, e->cap, sizeof(*e->v));
	}
	e->v[e->n++] = s;
}

/* Splits at commas and takes quotes off; a trailing comma is allowed, an empty element is not. */
static bool split(struct conf_value_ctx *c, struct slice s, struct elements *e)
{
	struct slice part, plain;

	while (conf_list_next(&s, ',', &part)) {
		if (part.n == 0 && !s.p && e->n > 0)
			break;
		if (part.n == 0) {
			buf_add_str(c->why, "the list has an empty element");
			return false;
		}
		if (!conf_unquote(part, c->arena, &plain)) {
			buf_addf(c->why, "%.*s: a quoted element must end with its closing quote",
				 SLICE_ARG(part));
			return false;
		}
		if (part.p[0] != '"' && strpbrk(arena_dup(c->arena, part), " \t") &&
		    slice_chr(part, '\\') < 0) {
			buf_addf(c->why,
				 "'%.*s': a comma is missing between the elements of the list",
				 SLICE_ARG(part));
			return false;
		}
		elements_add(e, plain);
	}
	return true;
}

/* What is there and room for `more`. */
#define GROWN(c, old, more, type)                                                            \
	((type *)arena_grow((c)->arena, (old) ? (old)->v : NULL, (old) ? (old)->n : 0, more, \
			    sizeof(type)))

static bool is_header_name(struct slice s)
{
	for (size_t i = 0; i < s.n; i++)
		if (s.p[i] <= ' ' || s.p[i] > '~' || s.p[i] == ':')
			return false;
	return s.n > 0;
}

static bool is_address(struct slice s)
{
	ptrdiff_t at = slice_rchr(s, '@');
	struct ip ip;

	if (at <= 0)
		return false;
	for (size_t i = 0; i < s.n; i++)
		if (s.p[i] <= ' ' || s.p[i] > '~')
			return false;
	return conf_domain_valid(slice_from(s, (size_t)at + 1)) ||
	       conf_address_literal(slice_from(s, (size_t)at + 1), &ip);
}

static bool is_member_name(struct slice s)
{
	for (size_t i = 0; i < s.n; i++) {
		char ch = ascii_lower(s.p[i]);

		if (!((ch >= 'a' && ch <= 'z') || (ch >= '0' && ch <= '9') || strchr("._-{}", ch)))
			return false;
	}
	return s.n > 0;
}

static bool element_ok(struct conf_value_ctx *c, struct slice s)
{
	const char *what = NULL;

	if (c->directive->type == CONF_HEADERS && !is_header_name(s))
		what = "the name of a header";
	else if (c->directive->type == CONF_ADDRESSES && !is_address(s))
		what = "a mail address";
	else if (c->directive->type == CONF_NAMES && !is_member_name(s))
		what = "a name";
	if (what)
		buf_addf(c->why, "'%.*s' is not %s", SLICE_ARG(s), what);
	return !what;
}

bool conf_value_strings(struct conf_value_ctx *c, struct slice s, const void *prev, void *ret)
{
	const struct conf_strings *old = prev;
	struct elements e = {NULL, 0, 0};
	const char **v;
	size_t n = old ? old->n : 0;
	bool ok;

	ok = split(c, s, &e);
	v = GROWN(c, old, e.n, const char *);
	for (size_t i = 0; i < e.n && ok; i++) {
		ok = element_ok(c, e.v[i]);
		v[n++] = e.v[i].p;
	}
	free(e.v);
	if (ok)
		*(struct conf_strings *)ret = (struct conf_strings){v, n};
	return ok;
}

/* Appends what one element stands for. */
static bool add_patterns(struct conf_value_ctx *c, struct slice text, struct conf_patterns *list)
{
	struct conf_strings texts;
	struct conf_pattern *v;
	bool via_macro = slice_chr(text, '$') >= 0;

	if (!conf_macro_expand(c->macros, text, &texts, c->why))
		return false;
	v = GROWN(c, list, texts.n, struct conf_pattern);
	for (size_t i = 0; i < texts.n; i++) {
		struct conf_pattern *p = &v[list->n + i];

		if (!conf_pattern_parse(slice_str(texts.v[i]), c->arena, p, c->why))
			return false;
		p->via_macro = via_macro;
	}
	*list = (struct conf_patterns){v, list->n + texts.n};
	return true;
}

bool conf_value_patterns(struct conf_value_ctx *c, struct slice s, const void *prev, void *ret)
{
	struct conf_patterns list = {NULL, 0};
	struct elements e = {NULL, 0, 0};
	bool ok = split(c, s, &e);

	if (prev)
		list = *(const struct conf_patterns *)prev;
	for (size_t i = 0; i < e.n && ok; i++)
		ok = add_patterns(c, e.v[i], &list);
	free(e.v);
	if (ok)
		*(struct conf_patterns *)ret = list;
	return ok;
}

bool conf_value_ip_ports(struct conf_value_ctx *c, struct slice s, const void *prev, void *ret)
{
	const struct conf_ip_ports *old = prev;
	struct elements e = {NULL, 0, 0};
	struct conf_ip_port *v;
	size_t n = old ? old->n : 0;
	bool ok = split(c, s, &e);

	v = GROWN(c, old, e.n, struct conf_ip_port);
	for (size_t i = 0; i < e.n && ok; i++, n++) {
		ok = ip_port_parse(e.v[i], &v[n].ip, &v[n].port);
		if (!ok)
			buf_addf(c->why,
				 "'%.*s' is not an address such as 192.0.2.1, 192.0.2.1:53 or "
				 "[2001:db8::1]:53",
				 SLICE_ARG(e.v[i]));
		else if (v[n].port == 0)
			v[n].port = 53;
	}
	free(e.v);
	if (ok)
		*(struct conf_ip_ports *)ret = (struct conf_ip_ports){v, n};
	return ok;
}

bool conf_value_source_hosts(struct conf_value_ctx *c, struct slice s, const void *prev, void *ret)
{
	const struct conf_source_hosts *old = prev;
	struct conf_source_host *v;
	size_t first = old ? old->n : 0, n = first;
	struct slice word, rest = s;
	const char *host = NULL;

	v = GROWN(c, old, s.n / 2 + 1, struct conf_source_host);
	while (conf_word_next(&rest, &word)) {
		struct ip ip;

		if (host) {
			buf_addf(c->why, "'%.*s' after the host name: write IP HOST, one a line",
				 SLICE_ARG(word));
			return false;
		}
		if (ip_parse(word, &ip)) {
			v[n++] = (struct conf_source_host){.ip = ip, .host = NULL};
		} else if (n > first && conf_domain_valid(word)) {
			host = arena_dup(c->arena, word);
		} else {
			buf_addf(c->why, "'%.*s' is not %s", SLICE_ARG(word),
				 n > first ? "a host name" : "an IP address of this machine");
			return false;
		}
	}
	if (host && n - first > 1) {
		buf_addf(c->why,
			 "several addresses with one host name %s, but a PTR matches only one: "
			 "write IP HOST, one a line",
			 host);
		return false;
	}
	if (host)
		v[n - 1].host = host;
	*(struct conf_source_hosts *)ret = (struct conf_source_hosts){v, n};
	return true;
}

/* "host", "host:port", "[ip]", "[ip]:port", "[IPv6:…]:port", "lookup-mx:domain". */
static bool parse_smtp_host(struct conf_value_ctx *c, struct slice s, struct conf_smtp_host *ret)
{
	struct conf_smtp_host h = {.host = NULL};
	ptrdiff_t colon = slice_rchr(s, ':'), close = slice_rchr(s, ']');
	struct slice name = s;
	struct ip ip;
	uint64_t port;

	if (slice_istarts(s, "lookup-mx:")) {
		h.lookup_mx = true;
		name = slice_from(s, 10);
	} else if (colon > close && slice_u64(slice_from(s, (size_t)colon + 1), &port) &&
		   port > 0 && port < 65536) {
		h.port = (uint16_t)port;
		name = slice_sub(s, 0, (size_t)colon);
	}
	if (!h.lookup_mx && conf_address_literal(name, &ip)) {
		char text[IP_TEXT_MAX];

		h.host = arena_dup(c->arena, slice_str(ip_text(&ip, text)));
	} else if (conf_domain_valid(name)) {
		h.host = arena_dup_lower(c->arena, name);
	} else {
		buf_addf(c->why,
			 "'%.*s' is not a host: write mx.example.com, mx.example.com:2525, "
			 "[192.0.2.1]:25 or lookup-mx:example.com",
			 SLICE_ARG(s));
		return false;
	}
	*ret = h;
	return true;
}

bool conf_value_smtp_hosts(struct conf_value_ctx *c, struct slice s, const void *prev, void *ret)
{
	struct conf_smtp_host *v = arena_alloc(c->arena, (s.n + 1) * sizeof(*v));
	struct slice group, part;
	uint16_t preference = 0;
	size_t n = 0;

	(void)prev;
	while (slice_next(&s, ';', &group)) {
		if (preference == UINT16_MAX)
			break;
		preference++;
		while (slice_next(&group, ',', &part)) {
			if (slice_trim(part).n == 0 && !group.p && n > 0)
				break; /* a trailing comma or semicolon */
			if (!parse_smtp_host(c, slice_trim(part), &v[n]))
				return false;
			v[n++].preference = preference;
		}
	}
	*(struct conf_smtp_hosts *)ret = (struct conf_smtp_hosts){v, n};
	return true;
}

static const struct {
	const char *names; /* PowerMTA's short and long one */
	int record; /* -1: not in this version */
} record_names[] = {
	{"d delivery delivered", CONF_RECORD_D},
	{"b bounce bounced", CONF_RECORD_B},
	{"t tran transient", CONF_RECORD_T},
	{"tq tranq transient-queue", CONF_RECORD_TQ},
	{"r receipt received", -1},
	{"rb rbounce remote-bounce", -1},
	{"rs rstatus remote-status", -1},
	{"f feedback-loop", -1},
};

static bool parse_record(struct conf_value_ctx *c, struct slice s, unsigned *ret)
{
	for (size_t i = 0; i < ARRAY_SIZE(record_names); i++) {
		if (!conf_words_have(record_names[i].names, s))
			continue;
		if (record_names[i].record < 0) {
			buf_addf(c->why, "records of type %.*s are not supported by this version",
				 SLICE_ARG(s));
			return false;
		}
		*ret = (unsigned)record_names[i].record;
		return true;
	}
	buf_addf(c->why, "'%.*s' is not a type of record: d, b, t, tq", SLICE_ARG(s));
	return false;
}

bool conf_value_records(struct conf_value_ctx *c, struct slice s, const void *prev, void *ret)
{
	unsigned set = 0, record;
	struct slice part;

	(void)prev;
	while (conf_list_next(&s, ',', &part)) {
		if (part.n == 0 && !s.p && set)
			break;
		if (!parse_record(c, part, &record))
			return false;
		set |= 1u << record;
	}
	*(unsigned *)ret = set;
	return true;
}

static const struct {
	const char *name;
	unsigned types; /* ACCT_IN_* */
} field_names[] = {
#define FIELD_NAME(id, name, types, when, kind, doc) {name, types},
	ACCT_FIELDS(FIELD_NAME)
#undef FIELD_NAME
};

static const struct {
	const char *alias, *name;
} field_aliases[] = {
#define FIELD_ALIAS(alias, name) {alias, name},
	ACCT_FIELD_ALIASES(FIELD_ALIAS)
#undef FIELD_ALIAS
};

/* The set of record types (1u << type) that have a field; 0: there is no such field. */
static unsigned field_types(struct slice name)
{
	static const unsigned bits[CONF_RECORD_COUNT] = {
		[CONF_RECORD_D] = ACCT_IN_D,
		[CONF_RECORD_B] = ACCT_IN_B,
		[CONF_RECORD_T] = ACCT_IN_T,
		[CONF_RECORD_TQ] = ACCT_IN_TQ,
	};
	unsigned set = 0;

	for (size_t i = 0; i < ARRAY_SIZE(field_aliases); i++)
		if (slice_ieq_str(name, field_aliases[i].alias))
			name = slice_str(field_aliases[i].name);
	for (size_t i = 0; i < ARRAY_SIZE(field_names); i++)
		for (unsigned r = 0; r < CONF_RECORD_COUNT; r++)
			if (slice_ieq_str(name, field_names[i].name) &&
			    field_names[i].types & bits[r])
				set |= 1u << r;
	return set;
}

/* One element of a list of fields: *, NAME or !NAME. */
static bool field_ok(struct conf_value_ctx *c, struct slice s, bool all, unsigned record)
{
	struct slice name = s.n && s.p[0] == '!' ? slice_from(s, 1) : s;
	unsigned types = field_types(name);

	if (slice_eq_str(s, "*") || (types && (all || types & 1u << record)))
		return true;
	if (slice_istarts(name, "header_"))
		buf_addf(c->why, "%.*s: fields for headers are not supported by this version",
			 SLICE_ARG(name));
	else if (types)
		buf_addf(c->why, "records of this type have no field %.*s", SLICE_ARG(name));
	else
		buf_addf(c->why, "unknown field %.*s", SLICE_ARG(name));
	return false;
}

bool conf_value_record_fields(struct conf_value_ctx *c, struct slice s, const void *prev, void *ret)
{
	struct conf_record_fields f = {{{NULL, 0}}};
	bool all = slice_ieq_str(c->keyword, "fields");
	struct elements e = {NULL, 0, 0};
	struct slice type;
	unsigned record = 0;
	const char **v;
	bool ok;

	if (prev)
		f = *(const struct conf_record_fields *)prev;
	if (!all && (!conf_word_next(&s, &type) || !parse_record(c, type, &record)))
		return false;
	ok = split(c, slice_trim(s), &e);
	v = arena_alloc(c->arena, (e.n + 1) * sizeof(*v));
	for (size_t i = 0; i < e.n && ok; i++) {
		ok = field_ok(c, e.v[i], all, record);
		v[i] = e.v[i].p;
	}
	for (unsigned i = 0; i < CONF_RECORD_COUNT; i++)
		if (all || i == record)
			f.of[i] = (struct conf_strings){v, e.n};
	free(e.v);
	if (ok)
		*(struct conf_record_fields *)ret = f;
	return ok;
}

bool conf_value_queue_filter(struct conf_value_ctx *c, struct slice s, const void *prev, void *ret)
{
	struct conf_strings list;

	if (!conf_value_strings(c, s, prev, &list))
		return false;
	for (size_t i = 0; i < list.n; i++) {
		struct slice f = slice_str(list.v[i]);

		if (f.n && f.p[0] == '!')
			f = slice_from(f, 1);
		if (f.n == 0 || slice_rchr(f, '/') <= 0 || f.p[f.n - 1] == '/') {
			buf_addf(c->why,
				 "'%s' is not a queue: write [!]DOMAIN/VMTA, * is a wildcard",
				 list.v[i]);
			return false;
		}
	}
	*(struct conf_strings *)ret = list;
	return true;
}
