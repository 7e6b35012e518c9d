/*
 * What applies to a queue: rules made from domain sections, and the choice among them.
 *
 * A rule is one pattern in one scope (everywhere, a virtual MTA, a pool), written or through a
 * macro. It is found by a key of one byte (kind and origin) and the domain or suffix, so that a
 * look-up costs a few probes for each label of the domain, however many rules there are.
 */
#include <stdlib.h>

#include "common/base/xalloc.h"
#include "common/conf/pattern.h"
#include "common/conf/private.h"
#include "common/conf/values.h"

/* First byte of a key. */
enum rule_key {
	RULE_EXACT = 'a',
	RULE_EXACT_MACRO,
	RULE_BELOW,
	RULE_AT_OR_BELOW,
	RULE_BELOW_MACRO,
	RULE_AT_OR_BELOW_MACRO,
	RULE_ANY,
	RULE_ANY_MACRO,
	RULE_ADDRESS,
	RULE_ADDRESS_MACRO,
};

struct rule {
	char *key;
	struct conf_pattern pattern;
	struct conf_ptrs overlays; /* of struct conf_overlay */
	UT_hash_handle hh;
};

struct conf_rules {
	char *name; /* lower-case; "" everywhere */
	struct rule *by_key;
	struct conf_ptrs addresses; /* of struct rule, most specific first */
	UT_hash_handle hh;
};

#define DOMAIN_SCOPE (&conf_scopes[CONF_SCOPE_DOMAIN])

static enum rule_key rule_kind(const struct conf_pattern *p)
{
	static const enum rule_key kinds[][2] = {
		[CONF_PATTERN_EXACT] = {RULE_EXACT, RULE_EXACT_MACRO},
		[CONF_PATTERN_BELOW] = {RULE_BELOW, RULE_BELOW_MACRO},
		[CONF_PATTERN_AT_OR_BELOW] = {RULE_AT_OR_BELOW, RULE_AT_OR_BELOW_MACRO},
		[CONF_PATTERN_ADDRESS] = {RULE_ADDRESS, RULE_ADDRESS_MACRO},
		[CONF_PATTERN_ANY] = {RULE_ANY, RULE_ANY_MACRO},
	};

	return kinds[p->kind][p->via_macro];
}

static char *rule_key(const struct conf_pattern *p)
{
	char cidr[CIDR_TEXT_MAX];

	if (p->kind == CONF_PATTERN_ANY)
		return xasprintf("%c", (int)rule_kind(p));
	if (p->kind == CONF_PATTERN_ADDRESS)
		return xasprintf("%c%s", (int)rule_kind(p), cidr_text(&p->cidr, cidr));
	return xasprintf("%c%.*s", (int)rule_kind(p), SLICE_ARG(p->domain));
}

static struct conf_rules *find_rules(const struct conf *c, struct slice name)
{
	char lower[256];
	struct conf_rules *r;

	if (!slice_copy(name, lower, sizeof(lower)))
		return NULL;
	str_lower(lower);
	HASH_FIND(hh, c->rules, lower, strlen(lower), r);
	return r;
}

static struct conf_rules *get_rules(struct conf *c, struct slice name)
{
	struct conf_rules *r = find_rules(c, name);

	if (!r) {
		r = xcalloc(1, sizeof(*r));
		r->name = slice_dup_lower(name);
		HASH_ADD_KEYPTR(hh, c->rules, r->name, strlen(r->name), r);
	}
	return r;
}

/* Is address rule a tried before b? */
static bool address_before(const struct rule *a, const struct rule *b)
{
	if (a->pattern.cidr.bits != b->pattern.cidr.bits)
		return a->pattern.cidr.bits > b->pattern.cidr.bits;
	if (a->pattern.cidr.ip.family != b->pattern.cidr.ip.family)
		return a->pattern.cidr.ip.family > b->pattern.cidr.ip.family;
	return !a->pattern.via_macro && b->pattern.via_macro;
}

static void add_address(struct conf_rules *rules, struct rule *r)
{
	size_t i;

	conf_ptrs_add(&rules->addresses, r);
	for (i = rules->addresses.n - 1; i > 0 && address_before(r, rules->addresses.v[i - 1]); i--)
		rules->addresses.v[i] = rules->addresses.v[i - 1];
	rules->addresses.v[i] = r;
}

/* Two sections say something about the same pattern: once for each pair of lines. */
static void warn_doubles(const struct conf_overlay *x, const struct conf_overlay *y,
			 struct conf_messages *msgs)
{
	for (size_t i = 0; i < DOMAIN_SCOPE->n; i++) {
		struct conf_slot *a = x->slots[i], *b = y->slots[i], *first = a;

		if (a && b && a->order > b->order) {
			a = b;
			b = first;
		}
		if (!a || !b || b->warned == a)
			continue;
		b->warned = a;
		conf_warning(msgs, b->at,
			     "%.*s is set again for the same domain: this replaces %s:%u",
			     SLICE_ARG(conf_words_first(DOMAIN_SCOPE->rows[i].keywords)),
			     a->at.file, a->at.line);
	}
}

static void add_rule(struct conf_rules *rules, const struct conf_pattern *p, struct conf_overlay *o,
		     struct conf_messages *msgs)
{
	char *key = rule_key(p);
	struct rule *r;

	HASH_FIND_STR(rules->by_key, key, r);
	if (!r) {
		r = xcalloc(1, sizeof(*r));
		r->key = key;
		r->pattern = *p;
		HASH_ADD_KEYPTR(hh, rules->by_key, r->key, strlen(r->key), r);
		if (p->kind == CONF_PATTERN_ADDRESS)
			add_address(rules, r);
	} else {
		free(key);
	}
	for (size_t i = 0; i < r->overlays.n; i++) {
		if (r->overlays.v[i] == o)
			return;
		warn_doubles(r->overlays.v[i], o, msgs);
	}
	conf_ptrs_add(&r->overlays, o);
}

/* "PATTERN/VMTA": splits at the last '/' outside brackets and quotes. */
static void split_vmta(struct slice text, struct slice *pattern, struct slice *vmta)
{
	bool quoted = false, bracket = false;
	size_t at = text.n;

	for (size_t i = 0; i < text.n; i++) {
		char ch = text.p[i];

		if (ch == '"')
			quoted = !quoted;
		else if (ch == '[' && !quoted)
			bracket = true;
		else if (ch == ']' && !quoted)
			bracket = false;
		else if (ch == '/' && !quoted && !bracket)
			at = i;
	}
	*pattern = slice_trim(slice_sub(text, 0, at));
	*vmta = at < text.n ? slice_trim(slice_from(text, at + 1)) : slice_of(NULL, 0);
}

/* The rules of the scope that a section element names; NULL: why says that there is none such. */
static struct conf_rules *scope_rules(struct conf *c, struct slice vmta, struct buf *why)
{
	if (!vmta.p)
		return get_rules(c, slice_str(""));
	if (!conf_unquote(vmta, &c->arena, &vmta) || vmta.n == 0) {
		buf_add_str(why, "a virtual MTA or pool must follow the '/'");
		return NULL;
	}
	if (!conf_section_find(c, CONF_SCOPE_VMTA, vmta) &&
	    !conf_section_find(c, CONF_SCOPE_POOL, vmta)) {
		buf_addf(why, "unknown virtual MTA or pool %.*s", SLICE_ARG(vmta));
		return NULL;
	}
	return get_rules(c, vmta);
}

/* One element of a [domain …] header. */
static bool add_element(struct conf *c, struct conf_overlay *o, struct slice element,
			struct buf *why, struct conf_messages *msgs)
{
	struct slice text, vmta, plain;
	struct conf_strings texts;
	struct conf_rules *rules;
	bool via_macro;

	split_vmta(element, &text, &vmta);
	if (text.n == 0 || !conf_unquote(text, &c->arena, &plain)) {
		buf_addf(why, "'%.*s' is not a domain pattern", SLICE_ARG(element));
		return false;
	}
	rules = scope_rules(c, vmta, why);
	if (!rules || !conf_macro_expand(&c->macros, plain, &texts, why))
		return false;
	via_macro = slice_chr(plain, '$') >= 0;
	for (size_t i = 0; i < texts.n; i++) {
		struct conf_pattern p;

		if (!conf_pattern_parse(slice_str(texts.v[i]), &c->arena, &p, why))
			return false;
		p.via_macro = via_macro;
		if (p.kind == CONF_PATTERN_EXACT)
			conf_check_rollup_section(c, p.domain, o, msgs);
		add_rule(rules, &p, o, msgs);
		if (p.kind == CONF_PATTERN_ANY && vmta.p)
			o->any_of_vmta = true;
		if (p.kind != CONF_PATTERN_ANY && !vmta.p)
			o->specific_global = true;
	}
	return true;
}

static void add_section(struct conf *c, struct conf_section *s, struct conf_messages *msgs)
{
	struct slice rest = slice_str(s->name), element;
	struct buf why = BUF_INIT;

	while (conf_list_next(&rest, ',', &element))
		if (!add_element(c, &s->own, element, &why, msgs)) {
			conf_error(msgs, s->at, "[domain]: %s", buf_cstr(&why));
			buf_clear(&why);
		}
	buf_done(&why);
}

/* The pool whose domain sections a virtual MTA inherits: at most one may have any. */
static void link_pools(struct conf *c, struct conf_messages *msgs)
{
	for (size_t i = 0; i < c->pools.n; i++) {
		struct conf_section *pool = c->pools.v[i];

		if (!find_rules(c, slice_str(pool->name)))
			continue;
		for (size_t j = 0; j < pool->pool->member_count; j++) {
			struct conf_section *v = c->vmtas.v[pool->pool->members[j]->index];

			if (v->pool_of_rules)
				conf_error(msgs, pool->at,
					   "virtual MTA %s is in the pools %s and %s, which both "
					   "have domain sections: only one may",
					   v->name, v->pool_of_rules->name, pool->name);
			else
				v->pool_of_rules = pool;
		}
	}
}

void conf_rules_each(const struct conf *c, conf_overlay_cb *each, void *arg)
{
	for (const struct conf_rules *rules = c->rules; rules; rules = rules->hh.next)
		for (const struct rule *r = rules->by_key; r; r = r->hh.next)
			for (size_t i = 0; i < r->overlays.n; i++)
				each(slice_str(rules->name), &r->pattern, r->overlays.v[i], arg);
}

void conf_build_rules(struct conf *c, struct conf_messages *msgs)
{
	static const struct conf_pattern any = {.kind = CONF_PATTERN_ANY, .domain = {"*", 1}};

	for (size_t i = 0; i < c->sections.n; i++) {
		struct conf_section *s = c->sections.v[i];

		if (s->scope->id == CONF_SCOPE_DOMAIN) {
			add_section(c, s, msgs);
		} else if (s->scope->id == CONF_SCOPE_VMTA && s->domains.set) {
			s->domains.any_of_vmta = true;
			add_rule(get_rules(c, slice_str(s->name)), &any, &s->domains, msgs);
		}
	}
	link_pools(c, msgs);
	conf_check_looser(c, msgs);
	conf_check_members(c, msgs);
}

static void rules_free(struct conf_rules *rules)
{
	while (rules->by_key) {
		struct rule *r = rules->by_key;

		HASH_DEL(rules->by_key, r);
		free(r->overlays.v);
		free(r->key);
		free(r);
	}
	free(rules->addresses.v);
	free(rules->name);
	free(rules);
}

void conf_rules_done(struct conf *c)
{
	while (c->rules) {
		struct conf_rules *rules = c->rules;

		HASH_DEL(c->rules, rules);
		rules_free(rules);
	}
}

/* The later line wins, in whichever of the sections it stands: one may go on behind another. */
static void choose_rule(const struct rule *r, const struct conf_slot **chosen)
{
	const struct conf_slot *here[CONF_DOMAIN_ROWS] = {NULL};

	if (r->overlays.n == 1) {
		conf_choose(r->overlays.v[0], chosen);
		return;
	}
	for (size_t k = 0; k < r->overlays.n; k++) {
		const struct conf_overlay *o = r->overlays.v[k];

		for (size_t i = 0; i < CONF_DOMAIN_ROWS; i++)
			if (o->slots[i] && (!here[i] || o->slots[i]->order > here[i]->order))
				here[i] = o->slots[i];
	}
	for (size_t i = 0; i < CONF_DOMAIN_ROWS; i++)
		if (!chosen[i])
			chosen[i] = here[i];
}

static void choose_key(const struct conf_rules *rules, const char *key, size_t n,
		       const struct conf_slot **chosen)
{
	struct rule *r;

	HASH_FIND(hh, rules->by_key, key, n, r);
	if (r)
		choose_rule(r, chosen);
}

/* Exact and wildcard rules, the longest suffix first. */
static void choose_by_name(const struct conf_rules *rules, struct slice domain,
			   const struct conf_slot **chosen)
{
	static const enum rule_key exact[] = {RULE_EXACT, RULE_EXACT_MACRO};
	static const enum rule_key wild[] = {RULE_BELOW, RULE_AT_OR_BELOW, RULE_BELOW_MACRO,
					     RULE_AT_OR_BELOW_MACRO};
	char key[1 + 256];
	size_t at = 1, end = domain.n + 1;

	/* No pattern is longer; RFC 1035 allows no longer domain either. */
	if (domain.n > 255)
		return;
	memcpy(key + 1, domain.p, domain.n);
	for (size_t i = 0; i < ARRAY_SIZE(exact); i++) {
		key[0] = (char)exact[i];
		choose_key(rules, key, end, chosen);
	}
	while (at < end) {
		const char *dot;

		for (size_t i = 0; i < ARRAY_SIZE(wild); i++) {
			bool below = wild[i] == RULE_BELOW || wild[i] == RULE_BELOW_MACRO;

			if (at == 1 && below)
				continue; /* *.d is not d */
			key[at - 1] = (char)wild[i];
			choose_key(rules, key + at - 1, end - at + 1, chosen);
		}
		dot = memchr(key + at, '.', end - at);
		if (!dot)
			return;
		at = (size_t)(dot - key) + 1;
	}
}

void conf_choose_named(const struct conf_rules *rules, struct slice domain,
		       const struct conf_slot **chosen)
{
	struct ip ip;

	if (!rules)
		return;
	if (!conf_address_literal(domain, &ip)) {
		choose_by_name(rules, domain, chosen);
		return;
	}
	for (size_t i = 0; i < rules->addresses.n; i++) {
		const struct rule *r = rules->addresses.v[i];

		if (cidr_has(&r->pattern.cidr, &ip))
			choose_rule(r, chosen);
	}
}

void conf_choose_any(const struct conf_rules *rules, const struct conf_slot **chosen)
{
	static const enum rule_key any[] = {RULE_ANY, RULE_ANY_MACRO};

	if (!rules)
		return;
	for (size_t i = 0; i < ARRAY_SIZE(any); i++) {
		char key = (char)any[i];

		choose_key(rules, &key, 1, chosen);
	}
}

void conf_rules_of(const struct conf *c, struct slice vmta,
		   const struct conf_rules *ret[CONF_RULE_SCOPES])
{
	const struct conf_section *v = vmta.n ? conf_section_find(c, CONF_SCOPE_VMTA, vmta) : NULL;

	ret[0] = v ? find_rules(c, vmta) : NULL;
	ret[1] = v && v->pool_of_rules ? find_rules(c, slice_str(v->pool_of_rules->name)) : NULL;
	ret[2] = find_rules(c, slice_str(""));
}

void conf_choose_all(const struct conf *c, struct slice domain, struct slice vmta,
		     const struct conf_slot **chosen)
{
	const struct conf_rules *rules[CONF_RULE_SCOPES];

	conf_rules_of(c, vmta, rules);
	for (size_t i = 0; i < CONF_RULE_SCOPES; i++) {
		conf_choose_named(rules[i], domain, chosen);
		conf_choose_any(rules[i], chosen);
	}
}

const struct conf_domain *conf_domain_for(const struct conf *c, struct slice domain,
					  struct slice vmta)
{
	const struct conf_slot *chosen[CONF_DOMAIN_ROWS] = {NULL};

	conf_choose_all(c, domain, vmta, chosen);
	return conf_intern(c, &c->domain_cache, DOMAIN_SCOPE, chosen);
}
