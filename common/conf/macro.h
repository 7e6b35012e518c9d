/*
 * macro.h - [domain-macro]: names for lists of domains, used as $NAME inside patterns, also inside
 * other macros. Belongs to one load; the expansions are in its arena.
 */
#ifndef SLUICE_CONF_MACRO_H
#define SLUICE_CONF_MACRO_H

#include <stdbool.h>

#include "common/base/buf.h"
#include "common/base/slice.h"
#include "common/conf/arena.h"
#include "common/conf/conf.h"

struct conf_macro;
struct conf_macros {
	struct conf_macro *by_name; /* uthash */
	struct arena *arena;
	unsigned depth; /* of nested macros, while expanding */
};

#define CONF_EXPANSION_MAX ((size_t)1000000) /* texts that one pattern may become */
#define CONF_MACRO_DEPTH 64
#define CONF_PATTERN_MAX ((size_t)1024) /* bytes of a pattern */

void conf_macros_done(struct conf_macros *m);
/* Letters, digits, '_' and '-'. */
bool conf_macro_name_valid(struct slice name);
/*
 * Adds or replaces a macro; a name is case-insensitive. Returns where it was defined before, line 0 if
 * it was not.
 */
struct conf_origin conf_macro_set(struct conf_macros *m, struct slice name,
				  const struct conf_strings *elements, struct conf_origin at);
/*
 * The texts that a pattern stands for; ret->n == 1 and the text itself without a macro in it. False:
 * an unknown macro, a loop or too many, why says which.
 */
bool conf_macro_expand(struct conf_macros *m, struct slice text, struct conf_strings *ret,
		       struct buf *why);
/* Expands every macro; each(arg, at, why) is called for those that cannot be. */
void conf_macros_check(struct conf_macros *m,
		       void (*each)(void *arg, struct conf_origin at, const char *why), void *arg);

#endif
