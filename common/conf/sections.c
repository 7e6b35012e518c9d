/* Items to sections: names are declared first, so that a directive may name what comes later. */
#include <stdlib.h>

#include "common/base/xalloc.h"
#include "common/conf/lines.h"
#include "common/conf/private.h"
#include "common/conf/replies.h"
#include "common/conf/values.h"

void conf_ptrs_add(struct conf_ptrs *p, void *item)
{
	if (p->n == p->cap) {
		p->cap = p->cap ? p->cap * 2 : 16;
		p->v = xreallocarray(p->v, p->cap, sizeof(*p->v));
	}
	p->v[p->n++] = item;
}

/* The name by which sections are equal. */
static char *canonical(enum conf_scope_id scope, struct slice name)
{
	char text[CIDR_TEXT_MAX + 8];
	struct cidr cidr;
	struct ip ip;
	uint16_t port;

	if (scope == CONF_SCOPE_SOURCE && cidr_parse(name, &cidr))
		return xstrdup(cidr_text(&cidr, text));
	if (scope == CONF_SCOPE_LISTENER && ip_port_parse(name, &ip, &port))
		return xasprintf("%s %u", ip_text(&ip, text), port ? port : 25u);
	if (scope == CONF_SCOPE_ACCT_FILE)
		return slice_dup(name);
	return slice_dup_lower(name);
}

static char *section_key(enum conf_scope_id scope, struct slice name)
{
	char *canon = canonical(scope, name);
	char *key = xasprintf("%d %s", (int)scope, canon);

	free(canon);
	return key;
}

struct conf_section *conf_section_find(const struct conf *c, enum conf_scope_id scope,
				       struct slice name)
{
	char *key = section_key(scope, name);
	struct conf_section *s;

	HASH_FIND_STR(c->by_key, key, s);
	free(key);
	return s;
}

static void overlay_init(struct conf *c, struct conf_overlay *o, const struct conf_scope *scope)
{
	o->scope = scope;
	o->slots = arena_alloc(&c->arena, (scope->n + 1) * sizeof(*o->slots));
}

static struct conf_ptrs *list_of(struct conf *c, enum conf_scope_id scope)
{
	switch (scope) {
	case CONF_SCOPE_LISTENER:
		return &c->listeners;
	case CONF_SCOPE_SOURCE:
		return &c->sources;
	case CONF_SCOPE_VMTA:
		return &c->vmtas;
	case CONF_SCOPE_POOL:
		return &c->pools;
	case CONF_SCOPE_ACCT_FILE:
		return &c->acct_files;
	case CONF_SCOPE_PROVIDER:
		return &c->providers;
	case CONF_SCOPE_WARMUP:
		return &c->warmups;
	case CONF_SCOPE_PATTERN_LIST:
		return &c->pattern_lists;
	case CONF_SCOPE_CATEGORIES:
	case CONF_SCOPE_ROLLUP:
	case CONF_SCOPE_GLOBAL:
	case CONF_SCOPE_DOMAIN:
	case CONF_SCOPE_MACRO:
	case CONF_SCOPE_COUNT:
		break;
	}
	return NULL;
}

struct conf_section *conf_section_add(struct conf *c, enum conf_scope_id id, const char *name)
{
	const struct conf_scope *scope = &conf_scopes[id];
	struct conf_section *s = arena_alloc(&c->arena, sizeof(*s));
	struct slice word = conf_words_first(scope->words);
	char *key = section_key(id, slice_str(name));

	s->scope = scope;
	s->key = arena_dup(&c->arena, slice_str(key));
	free(key);
	s->name = arena_dup(&c->arena, slice_str(name));
	s->display = arena_printf(&c->arena, "[%.*s%s%s]", SLICE_ARG(word), *name ? " " : "", name);
	s->is_cidr = id == CONF_SCOPE_SOURCE && cidr_parse(slice_str(name), &s->cidr);
	overlay_init(c, &s->own, scope);
	if (id == CONF_SCOPE_VMTA)
		overlay_init(c, &s->domains, &conf_scopes[CONF_SCOPE_DOMAIN]);
	HASH_ADD_KEYPTR(hh, c->by_key, s->key, strlen(s->key), s);
	conf_ptrs_add(&c->sections, s);
	if (id == CONF_SCOPE_PATTERN_LIST) { /* domains refer to it before it is filled */
		s->pattern_list = arena_alloc(&c->arena, sizeof(*s->pattern_list));
		s->pattern_list->name = s->name;
	}
	if (list_of(c, id))
		conf_ptrs_add(list_of(c, id), s);
	return s;
}

bool conf_plain_name(struct slice name)
{
	for (size_t i = 0; i < name.n; i++) {
		char ch = ascii_lower(name.p[i]);

		if (!((ch >= 'a' && ch <= 'z') || (ch >= '0' && ch <= '9') || strchr("._-", ch)))
			return false;
	}
	return name.n > 0 && name.n <= 255;
}

/* What is wrong with the name of a virtual MTA, pool, source or listener; false: nothing. */
static bool bad_name(const struct conf *c, enum conf_scope_id scope, struct slice name,
		     struct buf *why)
{
	enum conf_scope_id other = scope == CONF_SCOPE_VMTA ? CONF_SCOPE_POOL : CONF_SCOPE_VMTA;
	struct cidr cidr;
	struct ip ip;
	uint16_t port;
	bool vmta_or_pool = scope == CONF_SCOPE_VMTA || scope == CONF_SCOPE_POOL;

	if (scope == CONF_SCOPE_LISTENER && !ip_port_parse(name, &ip, &port))
		buf_addf(why,
			 "'%.*s' is not an address to listen on: write IP:PORT, for example "
			 "[smtp-listener 127.0.0.1:2525]",
			 SLICE_ARG(name));
	else if (scope == CONF_SCOPE_SOURCE &&
		 (slice_ieq_str(name, "{auth}") || slice_ieq_str(name, "{pickup}")))
		buf_addf(why, "[source %.*s] is not supported by this version", SLICE_ARG(name));
	else if (scope == CONF_SCOPE_SOURCE && !cidr_parse(name, &cidr) && !conf_plain_name(name))
		buf_addf(why,
			 "'%.*s' is neither a network such as 10/8 nor a name of letters, digits, "
			 "'.', '_' and '-'",
			 SLICE_ARG(name));
	else if ((scope == CONF_SCOPE_PROVIDER || scope == CONF_SCOPE_WARMUP) &&
		 !conf_plain_name(name))
		buf_addf(why, "'%.*s' is not a name of letters, digits, '.', '_' and '-'",
			 SLICE_ARG(name));
	else if (scope == CONF_SCOPE_ACCT_FILE && name.n && name.p[0] == '|')
		buf_add_str(why, "accounting records to a program (|COMMAND) are not supported by "
				 "this version: write a file");
	else if (scope == CONF_SCOPE_PATTERN_LIST && !conf_plain_name(name))
		buf_addf(why, "'%.*s' is not a name of letters, digits, '.', '_' and '-'",
			 SLICE_ARG(name));
	else if (vmta_or_pool && !conf_plain_name(name) &&
		 !(scope == CONF_SCOPE_VMTA && slice_ieq_str(name, "{default}")))
		buf_addf(why, "'%.*s' is not a name of letters, digits, '.', '_' and '-'",
			 SLICE_ARG(name));
	else if (vmta_or_pool && conf_section_find(c, other, name))
		buf_addf(why,
			 "there is a %s of this name already (%s:%u): virtual MTAs and pools share "
			 "one name space",
			 other == CONF_SCOPE_POOL ? "pool" : "virtual MTA",
			 conf_section_find(c, other, name)->at.file,
			 conf_section_find(c, other, name)->at.line);
	return why->n > 0;
}

static void unknown_section(const struct conf_item *it, struct conf_messages *msgs)
{
	struct slice near = conf_nearest_scope(it->word);
	struct buf why = BUF_INIT;

	if (conf_known_name(it->word, true, &why))
		conf_error(msgs, it->at, "[%.*s] %s", SLICE_ARG(it->word), buf_cstr(&why));
	else if (near.n)
		conf_error(msgs, it->at, "unknown section [%.*s]: did you mean [%.*s]?",
			   SLICE_ARG(it->word), SLICE_ARG(near));
	else
		conf_error(msgs, it->at, "unknown section [%.*s]", SLICE_ARG(it->word));
	buf_done(&why);
}

/* The section that a header opens; NULL: reported. */
static struct conf_section *open_section(struct conf *c, const struct conf_item *it,
					 struct conf_messages *msgs)
{
	struct slice name = slice_trim(slice_from(it->text, it->word.n));
	struct conf_section *s;
	struct buf why = BUF_INIT;

	if (!it->scope) {
		unknown_section(it, msgs);
		return NULL;
	}
	if (it->scope->has_name && !name.n)
		buf_addf(&why, "[%.*s] needs a name: [%.*s %s]", SLICE_ARG(it->word),
			 SLICE_ARG(it->word), it->scope->name_text);
	else if (!it->scope->has_name && name.n)
		buf_addf(&why, "[%.*s] has no name", SLICE_ARG(it->word));
	else if (it->scope->id != CONF_SCOPE_DOMAIN && !conf_unquote(name, &c->arena, &name))
		buf_add_str(&why, "a quoted name must end with its closing quote");
	else
		bad_name(c, it->scope->id, name, &why);
	if (why.n) {
		conf_error(msgs, it->at, "%s", buf_cstr(&why));
		buf_done(&why);
		return NULL;
	}
	s = conf_section_find(c, it->scope->id, name);
	if (!s) {
		s = conf_section_add(c, it->scope->id, arena_dup(&c->arena, name));
		s->at = it->at;
	}
	return s;
}

/* [domain-macro] lines. */
static void take_macros(struct conf *c, const struct conf_items *items, struct conf_messages *msgs)
{
	static const struct conf_directive row = {
		.keywords = "domain-macro", .type = CONF_LIST, .def = ""};

	for (size_t i = 0; i < items->n; i++) {
		const struct conf_item *it = &items->v[i];
		struct buf why = BUF_INIT, remark = BUF_INIT;
		struct conf_value_ctx ctx = {.arena = &c->arena,
					     .directive = &row,
					     .keyword = it->word,
					     .why = &why,
					     .remark = &remark};
		struct conf_strings list;
		struct conf_origin before;

		if (it->header || !it->scope || it->scope->id != CONF_SCOPE_MACRO)
			continue;
		if (!conf_macro_name_valid(it->word)) {
			conf_error(
				msgs, it->at,
				"'%.*s' is not the name of a macro: letters, digits, '_' and '-'",
				SLICE_ARG(it->word));
		} else if (!conf_value_parse(&ctx, it->text, NULL, &list)) {
			conf_error(msgs, it->at, "%.*s: %s", SLICE_ARG(it->word), buf_cstr(&why));
		} else {
			before = conf_macro_set(&c->macros, it->word, &list, it->at);
			if (before.line)
				conf_warning(msgs, it->at, "macro %.*s replaces the one of %s:%u",
					     SLICE_ARG(it->word), before.file, before.line);
		}
		buf_done(&why);
		buf_done(&remark);
	}
}

/* Names the scopes that have this directive; empty if none has. */
static void scopes_with(struct slice keyword, struct buf *to)
{
	for (size_t i = 0; i < CONF_SCOPE_COUNT; i++) {
		if (!conf_directive_find(&conf_scopes[i], keyword))
			continue;
		buf_addf(to, "%s[%.*s]", to->n ? " or " : "",
			 SLICE_ARG(conf_words_first(conf_scopes[i].words)));
	}
}

static void unknown_directive(const struct conf_item *it, struct conf_messages *msgs)
{
	struct slice section = conf_words_first(it->scope->words);
	struct slice near = conf_nearest_keyword(it->scope, it->word);
	struct buf text = BUF_INIT;

	scopes_with(it->word, &text);
	if (conf_later_here(it->scope->id, it->word))
		conf_error(msgs, it->at, "%.*s in [%.*s] is not supported by this version",
			   SLICE_ARG(it->word), SLICE_ARG(section));
	else if (text.n)
		conf_error(msgs, it->at, "%.*s has no meaning in [%.*s]: it belongs in %s",
			   SLICE_ARG(it->word), SLICE_ARG(section), buf_cstr(&text));
	else if (conf_known_name(it->word, false, &text))
		conf_error(msgs, it->at, "%.*s %s", SLICE_ARG(it->word), buf_cstr(&text));
	else if (near.n)
		conf_error(msgs, it->at, "unknown directive %.*s in [%.*s]: did you mean %.*s?",
			   SLICE_ARG(it->word), SLICE_ARG(section), SLICE_ARG(near));
	else
		conf_error(msgs, it->at, "unknown directive %.*s in [%.*s]", SLICE_ARG(it->word),
			   SLICE_ARG(section));
	buf_done(&text);
}

/* Names that a value refers to must exist; all sections are known by now. */
static void check_reference(const struct conf *c, const struct conf_directive *d,
			    const struct conf_item *it, const void *value,
			    struct conf_messages *msgs)
{
	struct slice name;

	if (d->type == CONF_ROUTE) {
		name = slice_str(*(const char *const *)value);
		if (name.n && !slice_ieq_str(name, "{default}") &&
		    !conf_section_find(c, CONF_SCOPE_VMTA, name) &&
		    !conf_section_find(c, CONF_SCOPE_POOL, name))
			conf_error(msgs, it->at, "%.*s: unknown virtual MTA or pool %.*s",
				   SLICE_ARG(it->word), SLICE_ARG(name));
	} else if (it->scope->id == CONF_SCOPE_LISTENER && *(const char *const *)value) {
		name = slice_str(*(const char *const *)value);
		if (!conf_section_find(c, CONF_SCOPE_SOURCE, name))
			conf_error(msgs, it->at,
				   "%.*s: unknown source %.*s: there is no [source %.*s]",
				   SLICE_ARG(it->word), SLICE_ARG(name), SLICE_ARG(name));
	}
}

/* A text type where "a #b" may have been meant to hold a comment. */
static void check_hash(enum conf_type type, const struct conf_item *it, struct conf_messages *msgs)
{
	bool comment;

	if (conf_type_rows[type].comments || it->secret)
		return;
	conf_strip_comment(it->text, &comment);
	if (comment)
		conf_warning(msgs, it->at,
			     "%.*s: what follows the space and '#' or ';' is part of the value: "
			     "put it in quotes if that is meant, else remove it",
			     SLICE_ARG(it->word));
}

static void report_value(const struct conf_item *it, const struct conf_directive *d,
			 struct buf *why, struct conf_messages *msgs)
{
	if (it->secret)
		conf_error(msgs, it->at, "%.*s: the value (not shown) is not %s",
			   SLICE_ARG(it->word), conf_type_rows[d->type].text);
	else
		conf_error(msgs, it->at, "%.*s: %s", SLICE_ARG(it->word), buf_cstr(why));
}

static bool is_clear(const struct conf_slot *slot)
{
	return strcmp(slot->text, "\"\"") == 0;
}

static void set_slot(struct conf *c, struct conf_section *s, struct conf_overlay *o,
		     const struct conf_directive *d, const struct conf_item *it,
		     struct conf_messages *msgs)
{
	struct conf_slot **at = &o->slots[d - o->scope->rows], *slot;
	struct buf why = BUF_INIT, remark = BUF_INIT;
	struct conf_value_ctx ctx = {.arena = &c->arena,
				     .macros = &c->macros,
				     .conf = c,
				     .section = s,
				     .at = it->at,
				     .directive = d,
				     .keyword = it->word,
				     .why = &why,
				     .remark = &remark};
	void *value = arena_alloc(&c->arena, conf_type_rows[d->type].size);
	bool adds_up = conf_type_adds_up(d->type);

	check_hash(d->type, it, msgs);
	if (!conf_value_parse(&ctx, it->text, *at && adds_up ? (*at)->value : NULL, value)) {
		report_value(it, d, &why, msgs);
	} else {
		if (*at && !adds_up)
			conf_warning(msgs, it->at, "%.*s is set again: this replaces %s:%u",
				     SLICE_ARG(it->word), (*at)->at.file, (*at)->at.line);
		if (remark.n)
			conf_warning(msgs, it->at, "%.*s: %s", SLICE_ARG(it->word),
				     buf_cstr(&remark));
		check_reference(c, d, it, value, msgs);
		slot = arena_alloc(&c->arena, sizeof(*slot));
		*slot = (struct conf_slot){.value = value,
					   .text = ctx.shown ? ctx.shown : it->text.p,
					   .at = it->at,
					   .section = s->display,
					   .secret = it->secret,
					   .order = c->slots++};
		if (!*at)
			o->set++;
		else if (adds_up && !is_clear(*at) && !is_clear(slot))
			slot->before = *at;
		*at = slot;
	}
	buf_done(&why);
	buf_done(&remark);
}

static void take_entry(struct conf *c, struct conf_section *s, const struct conf_item *it,
		       struct conf_messages *msgs)
{
	struct conf_overlay *o = &s->own;
	const struct conf_directive *d = conf_directive_find(s->scope, it->word);

	if (!d && s->scope->id == CONF_SCOPE_VMTA) {
		o = &s->domains;
		d = conf_directive_find(o->scope, it->word);
	}
	if (d)
		set_slot(c, s, o, d, it, msgs);
	else
		unknown_directive(it, msgs);
}

static void macro_broken(void *arg, struct conf_origin at, const char *why)
{
	conf_error(arg, at, "%s", why);
}

void conf_build_sections(struct conf *c, const struct conf_items *items, struct conf_messages *msgs)
{
	struct conf_section **of = xcalloc(items->n + 1, sizeof(*of)), *s = NULL;

	take_macros(c, items, msgs);
	conf_macros_check(&c->macros, macro_broken, msgs);
	for (size_t i = 0; i < items->n; i++)
		if (items->v[i].header)
			of[i] = items->v[i].reopens ? of[items->v[i].reopens - 1]
						    : open_section(c, &items->v[i], msgs);
		else if (items->v[i].scope && items->v[i].scope->id == CONF_SCOPE_ROLLUP)
			conf_rollup_declare(c, &items->v[i]);
	for (size_t i = 0; i < items->n; i++) {
		const struct conf_item *it = &items->v[i];

		if (it->header)
			s = of[i];
		else if (s && it->scope && it->scope->id != CONF_SCOPE_MACRO)
			take_entry(c, s, it, msgs);
	}
	free(of);
}
