/*
 * scope.h - the rows of directives.h as tables: sections, their directives, and look-ups by name.
 *
 * Constant data; no state.
 */
#ifndef SLUICE_CONF_SCOPE_H
#define SLUICE_CONF_SCOPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/buf.h"
#include "common/base/slice.h"
#include "common/conf/conf.h"

enum conf_kind { CONF_KIND_RELOAD, CONF_KIND_RESTART, CONF_KIND_SITE, CONF_KIND_MESSAGE };

struct conf_directive {
	const char *keywords; /* first the one that is shown, then aliases, by single spaces */
	enum conf_type type;
	const char *def;
	uint64_t min, max;
	enum conf_kind kind;
	const char *doc;
	size_t offset; /* of the field in the scope's struct */
};

struct conf_type_row {
	const char *name;
	size_t size;
	bool comments; /* white space and # or ; begins a comment */
	bool list; /* goes on after a trailing comma */
	const char *text;
};
extern const struct conf_type_row conf_type_rows[CONF_TYPE_COUNT];

enum conf_scope_id {
	CONF_SCOPE_GLOBAL,
	CONF_SCOPE_LISTENER,
	CONF_SCOPE_SOURCE,
	CONF_SCOPE_VMTA,
	CONF_SCOPE_POOL,
	CONF_SCOPE_DOMAIN,
	CONF_SCOPE_MACRO, /* has no directives: every name is one */
	CONF_SCOPE_ACCT_FILE,
	CONF_SCOPE_PROVIDER,
	CONF_SCOPE_ROLLUP,
	CONF_SCOPE_WARMUP,
	CONF_SCOPE_PATTERN_LIST,
	CONF_SCOPE_CATEGORIES,
	CONF_SCOPE_COUNT
};

struct conf_scope {
	enum conf_scope_id id;
	const char *words; /* of the section header, aliases by single spaces */
	bool has_name; /* [word NAME] */
	const char *name_text;
	const char *doc;
	const struct conf_directive *rows;
	size_t n;
	size_t size; /* of the struct; 0: none */
};
extern const struct conf_scope conf_scopes[CONF_SCOPE_COUNT];

/* [smtp-listener] has no public struct of its own rows. */
struct conf_listener_fields {
	const char *source;
};
/* [mx-rollup-list] likewise. */
struct conf_rollup_fields {
	struct conf_rollups mx;
};
#define CONF_POOL_FIELD(field, keyword, type, def, min, max, kind, doc) conf_ctype_##type field;
/* [virtual-mta-pool] likewise. */
struct conf_pool_fields {
	CONF_POOL_DIRECTIVES(CONF_POOL_FIELD)
};

/* [smtp-pattern-list] and [bounce-category-patterns] likewise. */
struct conf_pattern_list_fields {
	struct conf_replies reply;
};
struct conf_category_fields {
	struct conf_categories pattern;
};

/* Scope of a section word; NULL if unknown. */
const struct conf_scope *conf_scope_find(struct slice word);
/* Row of a keyword or alias in a scope; NULL if it has none. */
const struct conf_directive *conf_directive_find(const struct conf_scope *scope,
						 struct slice keyword);
/* Is `name` one of the space-separated words (ASCII case-insensitive)? */
bool conf_words_have(const char *words, struct slice name);
/* The first of the words. */
struct slice conf_words_first(const char *words);
/*
 * The type of the value of `keyword` in a section; false if it is unknown there. Knows that domain
 * directives may stand in [virtual-mta] and that every line of [domain-macro] is a list.
 */
bool conf_type_of(const struct conf_scope *scope, struct slice keyword, enum conf_type *ret);

/* Do values of this type begin with a /regex/, which may hold what begins comments elsewhere? */
bool conf_type_is_regex(enum conf_type type);
/* The /regex/ at the start of s, with its slashes; all of s if it does not end in it. */
size_t conf_regex_length(struct slice s);

/* "1 to 65535", "64K or more, or unlimited"; nothing for types without bounds. */
void conf_bounds_text(const struct conf_directive *d, struct buf *to);

/* Nearest keyword of a scope or nearest section word; empty if nothing is near. */
struct slice conf_nearest_keyword(const struct conf_scope *scope, struct slice keyword);
struct slice conf_nearest_scope(struct slice word);

#endif
