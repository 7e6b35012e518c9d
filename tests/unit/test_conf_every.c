/* links: common/base common/conf */
/*
 * Every directive of [domain], [virtual-mta] and [source] follows the same rules of precedence. The rows
 * of directives.h make the cases: each section here sets all of them, so that a new row is tested too.
 */
#include "tests/unit/conf_text.h"

#include "common/conf/private.h"

/* --- two values of each type --- */

/* Of types whose values are names, or have a form of their own. */
static const struct {
	enum conf_type type;
	const char *values[2];
} values_of_type[] = {
	{CONF_BOOL, {"yes", "no"}},
	{CONF_TIMES, {"7s", "8s,9s"}},
	{CONF_BOOL_TIME, {"1h", "2h"}},
	{CONF_RATE, {"11/h", "12/15m"}},
	{CONF_VOLUME_RATE, {"11M/h", "12M/15m"}},
	{CONF_IP_RATES, {"192.0.2.0/24 11/h", "198.51.100.0/24 12/h"}},
	{CONF_IP_VOLUME_RATES, {"192.0.2.0/24 11M/h", "198.51.100.0/24 12M/h"}},
	{CONF_SOURCE_LIMITS, {"192.0.2.0/24 11", "198.51.100.0/24 12"}},
	{CONF_SOURCE_HOSTS, {"192.0.2.1 one.test", "192.0.2.2 two.test"}},
	{CONF_HOST, {"relay0.test", "relay1.test"}},
	{CONF_HEADER, {"X-One", "X-Two"}},
	{CONF_HEADERS, {"X-One", "X-Two, X-Three"}},
	{CONF_ROUTE, {"v2", "v3"}},
	{CONF_NAMES, {"v2", "v3"}},
	{CONF_DATE_HEADER, {"yes", "override"}},
	{CONF_DOMAIN_TYPE, {"discard", "smtp"}},
	{CONF_PER_DAY, {"11/d", "12/d,13/d"}},
	{CONF_ADDRESSES, {"one@example.com", "two@example.com, three@example.com"}},
	{CONF_PATTERNS, {"one.test", "*.two.test"}},
	{CONF_SMTP_HOSTS, {"mx1.test", "mx2.test;mx3.test"}},
	{CONF_RECORDS, {"d", "b,t"}},
	{CONF_PATTERN_LISTS, {"one", "two"}},
	{CONF_SIZE_0, {"64K", "65K"}},
};

/* The k-th value (0, 1) of a directive; 2: that which clears it. */
static void add_value(struct buf *to, const struct conf_directive *d, unsigned k)
{
	if (k == 2) {
		buf_add_str(to, "\"\"");
		return;
	}
	for (size_t i = 0; i < ARRAY_SIZE(values_of_type); i++)
		if (values_of_type[i].type == d->type) {
			buf_add_str(to, values_of_type[i].values[k]);
			return;
		}
	switch (d->type) {
	case CONF_UINT:
		buf_addf(to, "%llu", (unsigned long long)(d->min + 1 + k));
		return;
	case CONF_PERCENT:
		buf_addf(to, "%llu%%", (unsigned long long)(d->min + 1 + k));
		return;
	case CONF_TIME:
		buf_addf(to, "%llus", (unsigned long long)(d->min / CONF_SEC + 1 + k));
		return;
	default:
		cr_assert_fail("%s: no values for type %s in this test", d->keywords,
			       conf_type_rows[d->type].name);
	}
}

/* --- sections that set every directive --- */

/* Some rows may not stand in some sections. */
typedef bool row_cb(const struct conf_directive *d);

struct text {
	struct buf b;
	unsigned line; /* of what is added next */
};

/* A section, and where it stands. */
struct body {
	const char *header; /* without brackets */
	const struct conf_scope *scope; /* whose rows it sets */
	unsigned value; /* which of their values */
	row_cb *leave_out; /* or NULL */
	unsigned line; /* of its first row */
};

static void add_text(struct text *t, const char *s)
{
	buf_add_str(&t->b, s);
	for (; *s; s++)
		t->line += *s == '\n';
}

static bool has_row(const struct body *b, const struct conf_directive *d)
{
	return !b->leave_out || !b->leave_out(d);
}

static void add_body(struct text *t, struct body *b)
{
	buf_addf(&t->b, "[%s]\n", b->header);
	b->line = ++t->line;
	for (size_t i = 0; i < b->scope->n; i++) {
		const struct conf_directive *d = &b->scope->rows[i];

		if (has_row(b, d)) {
			buf_addf(&t->b, "%.*s = ", SLICE_ARG(conf_words_first(d->keywords)));
			add_value(&t->b, d, b->value);
		}
		buf_add_char(&t->b, '\n');
		t->line++;
	}
}

static struct conf *load_of(struct text *t)
{
	struct conf *c = load_good(buf_cstr(&t->b));

	buf_done(&t->b);
	return c;
}

/* --- what holds --- */

/* For each directive of a scope, by row: the body that it must come from (NULL: the default). */
struct expected {
	const char *label;
	const struct conf *c;
	const struct conf_scope *scope;
	const struct body *const *from;
	const void *got; /* the effective struct */
	size_t shown; /* rows that were shown */
};

/* What was parsed for this row of the body. */
static const void *value_in(const struct conf *c, const struct body *b, size_t row)
{
	struct slice rest = slice_str(b->header), word;
	const struct conf_section *s;
	const struct conf_overlay *o;

	slice_next(&rest, ' ', &word);
	s = conf_section_find(c, conf_scope_find(word)->id, rest);
	cr_assert_not_null(s, "%s", b->header);
	o = s->scope == b->scope ? &s->own : &s->domains;
	cr_assert(o->scope == b->scope && o->slots[row], "%s", b->header);
	return o->slots[row]->value;
}

static void expect_fields(const struct expected *e)
{
	for (size_t i = 0; i < e->scope->n; i++) {
		const struct conf_directive *d = &e->scope->rows[i];
		const char *field = (const char *)e->got + d->offset;

		if (e->from[i])
			cr_expect_eq(memcmp(field, value_in(e->c, e->from[i], i),
					    conf_type_rows[d->type].size),
				     0, "%s: %s is not that of [%s]", e->label, d->keywords,
				     e->from[i]->header);
	}
}

static size_t row_named(const struct conf_scope *scope, const char *keyword)
{
	const struct conf_directive *d = conf_directive_find(scope, slice_str(keyword));

	cr_assert_not_null(d, "%s", keyword);
	return (size_t)(d - scope->rows);
}

static void expect_shown(const struct conf_setting *s, void *arg)
{
	struct expected *e = arg;
	size_t row = row_named(e->scope, s->keyword);
	const struct body *b = e->from[row];
	struct buf want = BUF_INIT, section = BUF_INIT;

	e->shown++;
	if (!b) {
		cr_expect(!s->section && !s->origin.line, "%s: %s comes from %s", e->label,
			  s->keyword, s->section);
		return;
	}
	add_value(&want, &e->scope->rows[row], b->value);
	buf_addf(&section, "[%s]", b->header);
	cr_expect_str_eq(s->value, buf_cstr(&want), "%s: %s is shown as %s", e->label, s->keyword,
			 s->value);
	cr_expect_eq(s->origin.line, b->line + row, "%s: %s is shown of line %u", e->label,
		     s->keyword, s->origin.line);
	cr_expect_str_eq(s->section, buf_cstr(&section), "%s: %s", e->label, s->keyword);
	buf_done(&want);
	buf_done(&section);
}

/* --- [domain] --- */

#define DOMAINS (&conf_scopes[CONF_SCOPE_DOMAIN])
#define BEFORE                                                                                 \
	"[virtual-mta v1]\n[virtual-mta v2]\nsmtp-source-host = 192.0.2.1\n[virtual-mta v3]\n" \
	"[virtual-mta-pool p]\nvirtual-mta = v1\n"                                             \
	"[smtp-pattern-list one]\nreply = /one/ skip-mx\n"                                     \
	"[smtp-pattern-list two]\nreply = /two/ skip-mx\n"                                     \
	"[domain-macro]\nexact = mx.ex.test\nbelow = *.ex.test\nat = [*.]ex.test\nany = *\n"   \
	"net = [10/8]\n"
/* queue-to must name a queue that has hosts and does not go on, whatever holds for all domains. */
#define RELAYS                                                                              \
	"[domain relay0.test, relay1.test, relay0.test/v1, relay1.test/v1, relay0.test/p, " \
	"relay1.test/p]\nsmtp-hosts = relay.test\nqueue-to = \"\"\n"

/* Of names and of address literals, the strongest first. */
static const char *const of_names[] = {
	"mx.ex.test", "$exact", "*.ex.test", "[*.]ex.test", "$below",
	"$at",	      "*.test", "[*.]test",  "*",	    "$any",
};
static const char *const of_literals[] = {"[10.1.2.3]", "[10.1/16]", "[10/8]", "$net",
					  "[0/0]",	"*",	     "$any"};
static const char *const scopes[] = {"/v1", "/p", ""};

/* Whole virtual MTAs have rows of the same name: in [virtual-mta] those are meant. */
static bool is_of_vmta(const struct conf_directive *d)
{
	return conf_directive_find(&conf_scopes[CONF_SCOPE_VMTA], conf_words_first(d->keywords));
}

static void expect_queue(const char *label, const struct conf *c, const char *domain,
			 const struct body *const *from)
{
	struct expected e = {.label = label, .c = c, .scope = DOMAINS, .from = from};

	e.got = conf_domain_for(c, slice_str(domain), slice_str("v1"));
	expect_fields(&e);
	conf_show_settings(c, NULL, slice_str(domain), slice_str("v1"), expect_shown, &e);
	cr_expect_eq(e.shown, DOMAINS->n);
}

/* Both in each order and with each value, and with the stronger one cleared. */
static void expect_stronger(const char *strong, const char *weak, const char *domain)
{
	for (unsigned value = 0; value < 3; value++) {
		struct body a = {.header = strong, .scope = DOMAINS, .value = value};
		struct body b = {.header = weak, .scope = DOMAINS, .value = value == 0};
		struct text t = {.b = BUF_INIT, .line = 1};
		const struct body *from[CONF_DOMAIN_ROWS];
		char *label = xasprintf("%s over %s, %u", strong, weak, value);
		struct conf *c;

		if (slice_istarts(slice_str(strong), "virtual-mta "))
			a.leave_out = is_of_vmta;
		for (size_t i = 0; i < DOMAINS->n; i++)
			from[i] = has_row(&a, &DOMAINS->rows[i]) ? &a : &b;
		add_text(&t, BEFORE);
		add_body(&t, value ? &b : &a);
		add_body(&t, value ? &a : &b);
		add_text(&t, RELAYS);
		c = load_of(&t);
		expect_queue(label, c, domain, from);
		conf_free(c);
		free(label);
	}
}

/* Each against the next weaker one: the order is then that of all. */
static void expect_order(const char *const *patterns, size_t n, const char *domain)
{
	char *before = NULL;

	for (size_t i = 0; i < ARRAY_SIZE(scopes) * n; i++) {
		char *header = xasprintf("domain %s%s", patterns[i % n], scopes[i / n]);

		if (before)
			expect_stronger(before, header, domain);
		free(before);
		before = header;
	}
	free(before);
}

Test(conf_every, domain_directives_of_names)
{
	expect_order(of_names, ARRAY_SIZE(of_names), "mx.ex.test");
}

Test(conf_every, domain_directives_of_address_literals)
{
	expect_order(of_literals, ARRAY_SIZE(of_literals), "[10.1.2.3]");
}

Test(conf_every, domain_directives_in_a_virtual_mta)
{
	expect_stronger("virtual-mta v1", "domain mx.ex.test/p", "mx.ex.test");
	expect_stronger("domain *.test/v1", "virtual-mta v1", "mx.ex.test");
}

/* --- domains of a provider --- */

#define PROVIDER "[provider pr]\ndomains = mx.ex.test\n"

/* What keeps a domain out of its provider. */
static bool is_of_own_site(const struct conf_directive *d)
{
	static const char *const names[] = {"type", "smtp-hosts", "queue-to", "disable-mx-rollup"};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (slice_eq_str(conf_words_first(d->keywords), names[i]))
			return true;
	return false;
}

/* Those, and what is decided before it is known which domains belong to the provider. */
static bool is_not_of_rollup(const struct conf_directive *d)
{
	struct slice keyword = conf_words_first(d->keywords);

	return is_of_own_site(d) || slice_eq_str(keyword, "discard-as-bounce") ||
	       slice_eq_str(keyword, "recipient-priority");
}

static bool is_held_alone(const struct conf_directive *d)
{
	struct slice keyword = conf_words_first(d->keywords);

	return slice_eq_str(keyword, "max-smtp-out") || slice_eq_str(keyword, "max-msg-rate") ||
	       slice_eq_str(keyword, "max-connect-rate") ||
	       slice_eq_str(keyword, "max-data-volume-rate");
}

static bool is_of_domain(const struct body *b)
{
	return strncmp(b->header, "domain mx.", 10) == 0;
}

static bool holds_for_member(const struct body *b, const struct conf_directive *d)
{
	return has_row(b, d) && (d->kind == CONF_KIND_MESSAGE || !is_of_domain(b));
}

/* Rows of a member: what holds for its site, then what was set for it alone. */
struct expected_member {
	struct expected site, own;
	const struct conf_directive *last;
};

static void expect_shown_of_member(const struct conf_setting *s, void *arg)
{
	struct expected_member *e = arg;
	const struct conf_directive *d = &DOMAINS->rows[row_named(DOMAINS, s->keyword)];

	if (d != e->last) {
		cr_expect_null(s->shadowed_by);
		expect_shown(s, &e->site);
	} else {
		cr_expect_eq(s->shadowed_by != NULL, !is_held_alone(d), "%s", d->keywords);
		expect_shown(s, &e->own);
	}
	e->last = d;
}

/* Caps and rates of the domain alone: those of its own section, or none. */
static void expect_own(const char *label, const struct conf_rolled *m, const struct body *a)
{
	size_t cap = row_named(DOMAINS, "max-smtp-out");

	if (!is_of_domain(a) || a->value == 2) {
		cr_expect_eq(m->max_smtp_out, 0, "%s", label);
		cr_expect(conf_rate_is_unlimited(&m->own->max_msg_rate), "%s", label);
		cr_expect(conf_rate_is_unlimited(&m->own->max_connect_rate), "%s", label);
		cr_expect(conf_rate_is_unlimited(&m->own->max_data_volume_rate), "%s", label);
		return;
	}
	cr_expect_eq(m->max_smtp_out, DOMAINS->rows[cap].min + 1 + a->value, "%s", label);
	cr_expect_eq(m->own->max_msg_rate.n, a->value ? 12 : 11, "%s", label);
	cr_expect_eq(m->own->max_connect_rate.n, a->value ? 12 : 11, "%s", label);
	cr_expect_eq(m->own->max_data_volume_rate.n, (a->value ? 12 : 11) * CONF_MIB, "%s", label);
}

static void expect_member(const char *label, const struct conf *c, const struct body *a,
			  const struct body *b)
{
	const struct body *from[CONF_DOMAIN_ROWS] = {NULL}, *own[CONF_DOMAIN_ROWS] = {NULL};
	struct expected_member e = {
		.site = {.label = label, .c = c, .scope = DOMAINS, .from = from},
		.own = {.label = label, .c = c, .scope = DOMAINS, .from = own},
	};
	const struct conf_provider *p = conf_provider_at(c, 0);
	size_t alone = 0;
	struct conf_rolled m;

	for (size_t i = 0; i < DOMAINS->n; i++) {
		const struct conf_directive *d = &DOMAINS->rows[i];

		from[i] = holds_for_member(a, d) ? a : holds_for_member(b, d) ? b : NULL;
		own[i] = is_of_domain(a) ? a : NULL;
		alone += own[i] && d->kind == CONF_KIND_SITE;
	}
	conf_rolled_for(c, p, slice_str("mx.ex.test"), slice_str("v1"), &m);
	e.site.got = m.set;
	expect_fields(&e.site);
	expect_own(label, &m, a);
	conf_show_settings(c, p, slice_str("mx.ex.test"), slice_str("v1"), expect_shown_of_member,
			   &e);
	cr_expect_eq(e.site.shown, DOMAINS->n, "%s", label);
	cr_expect_eq(e.own.shown, alone, "%s: %zu rows", label, e.own.shown);
}

static void expect_stronger_for_member(const struct body *strong, const struct body *weak)
{
	for (unsigned value = 0; value < 3; value++) {
		struct body a = *strong, b = *weak;
		struct text t = {.b = BUF_INIT, .line = 1};
		char *label = xasprintf("%s over %s, %u", a.header, b.header, value);
		struct conf *c;

		a.value = value;
		b.value = value == 0;
		add_text(&t, BEFORE PROVIDER);
		add_body(&t, value ? &b : &a);
		add_body(&t, value ? &a : &b);
		c = load_of(&t);
		expect_member(label, c, &a, &b);
		conf_free(c);
		free(label);
	}
}

Test(conf_every, domain_directives_of_a_member_of_a_provider)
{
	static const char *const headers[] = {
		"domain mx.ex.test/v1", "domain pr.rollup/v1", "domain */v1",
		"domain mx.ex.test/p",	"domain pr.rollup/p",  "domain */p",
		"domain mx.ex.test",	"domain pr.rollup",    "domain *",
	};
	struct body bodies[ARRAY_SIZE(headers)];

	for (size_t i = 0; i < ARRAY_SIZE(headers); i++)
		bodies[i] =
			(struct body){.header = headers[i],
				      .scope = DOMAINS,
				      .leave_out = strstr(headers[i], "rollup") ? is_not_of_rollup
										: is_of_own_site};
	for (size_t i = 0; i + 1 < ARRAY_SIZE(bodies); i++)
		expect_stronger_for_member(&bodies[i], &bodies[i + 1]);
}

static bool is_no_host(const struct conf_directive *d)
{
	return !slice_eq_str(conf_words_first(d->keywords), "smtp-hosts");
}
static bool is_no_type(const struct conf_directive *d)
{
	return !slice_eq_str(conf_words_first(d->keywords), "type");
}
static bool is_no_queue_to(const struct conf_directive *d)
{
	return !slice_eq_str(conf_words_first(d->keywords), "queue-to");
}

Test(conf_every, what_keeps_a_domain_out_of_its_provider_until_it_is_cleared)
{
	static row_cb *const rows[] = {is_no_host, is_no_type, is_no_queue_to};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		for (unsigned value = 0; value < 3; value++) {
			struct body b = {.header = "domain mx.ex.test",
					 .scope = DOMAINS,
					 .value = value,
					 .leave_out = rows[i]};
			struct text t = {.b = BUF_INIT, .line = 1};
			struct conf *c;

			add_text(&t, BEFORE PROVIDER RELAYS);
			add_body(&t, &b);
			c = load_of(&t);
			cr_expect_eq(
				conf_keeps_own_site(c, slice_str("mx.ex.test"), slice_str("v1")),
				value < 2, "%zu, %u", i, value);
			conf_free(c);
		}
}

/* --- [virtual-mta] --- */

#define VMTAS (&conf_scopes[CONF_SCOPE_VMTA])
#define POOLS (&conf_scopes[CONF_SCOPE_POOL])

/* Directives that a virtual MTA takes from its pool. */
static bool is_not_of_pool(const struct conf_directive *d)
{
	const struct conf_directive *o = conf_directive_find(POOLS, conf_words_first(d->keywords));

	return !o || o->type != d->type;
}
static bool is_not_for_members(const struct conf_directive *d)
{
	const struct conf_directive *o = conf_directive_find(VMTAS, conf_words_first(d->keywords));

	return !o || o->type != d->type;
}

/* The virtual MTA has what this body says, be it its own or its pool's. */
static void expect_inherited(const struct conf *c, const char *vmta, const struct body *b)
{
	const char *v = (const char *)conf_vmta_find(c, slice_str(vmta));
	size_t rows = 0;

	cr_assert_not_null(v);
	for (size_t i = 0; i < VMTAS->n; i++) {
		const struct conf_directive *d = &VMTAS->rows[i];
		const void *value;
		char *word;

		if (is_not_of_pool(d))
			continue;
		word = slice_dup(conf_words_first(d->keywords));
		value = value_in(c, b, row_named(b->scope, word));
		cr_expect_eq(memcmp(v + d->offset, value, conf_type_rows[d->type].size), 0,
			     "%s of %s is not that of [%s]", word, vmta, b->header);
		free(word);
		rows++;
	}
	cr_expect_geq(rows, 5);
}

Test(conf_every, virtual_mta_directives_over_those_of_its_pool)
{
	for (unsigned value = 0; value < 3; value++) {
		struct body pool = {.header = "virtual-mta-pool p",
				    .scope = POOLS,
				    .value = value == 0,
				    .leave_out = is_not_for_members};
		struct body own = {.header = "virtual-mta v1", .scope = VMTAS, .value = value};
		struct text t = {.b = BUF_INIT, .line = 1};
		struct conf *c;

		add_text(&t, BEFORE "[virtual-mta-pool p]\nvirtual-mta = v4\n[virtual-mta v4]\n");
		add_body(&t, value ? &pool : &own);
		add_body(&t, value ? &own : &pool);
		c = load_of(&t);
		expect_inherited(c, "v1", &own);
		expect_inherited(c, "v4", &pool);
		conf_free(c);
	}
}

static void expect_host(const struct conf *c, const char *vmta, const char *address,
			const char *ehlo, const char *name)
{
	const struct conf_vmta *v = conf_vmta_find(c, slice_str(vmta));
	struct ip ip;

	cr_expect_str_eq(v->host_name, name);
	cr_expect_eq(v->smtp_source_host.n, address != NULL, "%s", vmta);
	if (!address || v->smtp_source_host.n != 1)
		return;
	cr_assert(ip_parse(slice_str(address), &ip));
	cr_expect(ip_eq(&v->smtp_source_host.v[0].ip, &ip), "%s", vmta);
	cr_expect_str_eq(v->smtp_source_host.v[0].host, ehlo, "%s", vmta);
}

Test(conf_every, virtual_mta_directives_over_global_ones)
{
	struct conf *c =
		load_good("[virtual-mta none]\n"
			  "[virtual-mta own]\nsmtp-source-host = 192.0.2.2\n"
			  "host-name = own.test\n"
			  "[virtual-mta named]\nsmtp-source-host = 192.0.2.3 n.test\n"
			  "[virtual-mta name]\nhost-name = name.test\n"
			  "[virtual-mta cleared]\nsmtp-source-host = \"\"\n"
			  "host-name = \"\"\n"
			  "[global]\nsmtp-source-host = 192.0.2.1\nhost-name = all.test\n");

	expect_host(c, "none", "192.0.2.1", "all.test", "all.test");
	expect_host(c, "own", "192.0.2.2", "own.test", "own.test");
	expect_host(c, "named", "192.0.2.3", "n.test", "all.test");
	expect_host(c, "name", "192.0.2.1", "name.test", "name.test");
	expect_host(c, "cleared", NULL, NULL, "all.test");
	conf_free(c);
}

/* --- [source] --- */

#define SOURCES (&conf_scopes[CONF_SCOPE_SOURCE])

Test(conf_every, source_directives)
{
	static const char *const order[] = {"source named", "source 10.1.2.3", "source 10.1/16",
					    "source 10/8",  "source 0/0",      NULL};
	struct ip ip;

	cr_assert(ip_parse(slice_str("10.1.2.3"), &ip));
	for (size_t i = 0; order[i + 1]; i++)
		for (unsigned value = 0; value < 3; value++) {
			struct body a = {.header = order[i], .scope = SOURCES, .value = value};
			struct body b = {
				.header = order[i + 1], .scope = SOURCES, .value = value == 0};
			const struct body *from[64];
			struct expected e = {.label = order[i], .scope = SOURCES, .from = from};
			struct text t = {.b = BUF_INIT, .line = 1};
			struct conf *c;

			cr_assert_leq(SOURCES->n, ARRAY_SIZE(from));
			for (size_t k = 0; k < SOURCES->n; k++)
				from[k] = &a;
			add_text(&t, "[virtual-mta v2]\n[virtual-mta v3]\n");
			add_body(&t, value ? &b : &a);
			add_body(&t, value ? &a : &b);
			e.c = c = load_of(&t);
			e.got = conf_source_for(c, &ip, "named");
			expect_fields(&e);
			conf_show_source(c, &ip, "named", expect_shown, &e);
			cr_expect_eq(e.shown, SOURCES->n);
			conf_free(c);
		}
}
