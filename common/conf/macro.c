#include "common/conf/macro.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/hash.h"
#include "common/base/xalloc.h"

enum macro_state { MACRO_RAW, MACRO_EXPANDING, MACRO_DONE, MACRO_BROKEN };

struct conf_macro {
	const char *name;
	struct conf_strings elements; /* as written */
	struct conf_strings texts; /* MACRO_DONE */
	struct conf_origin at;
	enum macro_state state;
	UT_hash_handle hh;
};

/* A list that is being built. */
struct texts {
	const char **v;
	size_t n, cap;
};

static void texts_add(struct texts *t, const char *s)
{
	if (t->n == t->cap) {
		t->cap = t->cap ? t->cap * 2 : 16;
		t->v = xreallocarray(t->v, t->cap, sizeof(*t->v));
	}
	t->v[t->n++] = s;
}

static bool is_name_char(char c)
{
	c = ascii_lower(c);
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
}

bool conf_macro_name_valid(struct slice name)
{
	for (size_t i = 0; i < name.n; i++)
		if (!is_name_char(name.p[i]))
			return false;
	return name.n > 0;
}

void conf_macros_done(struct conf_macros *m)
{
	while (m->by_name) {
		struct conf_macro *it = m->by_name;

		HASH_DEL(m->by_name, it);
		free(it);
	}
}

static struct conf_macro *find(struct conf_macros *m, struct slice name)
{
	char *lower = slice_dup_lower(name);
	struct conf_macro *it;

	HASH_FIND(hh, m->by_name, lower, name.n, it);
	free(lower);
	return it;
}

struct conf_origin conf_macro_set(struct conf_macros *m, struct slice name,
				  const struct conf_strings *elements, struct conf_origin at)
{
	struct conf_macro *it = find(m, name);
	struct conf_origin before = {NULL, 0};

	if (it) {
		before = it->at;
	} else {
		it = xcalloc(1, sizeof(*it));
		it->name = arena_dup_lower(m->arena, name);
		HASH_ADD_KEYPTR(hh, m->by_name, it->name, name.n, it);
	}
	it->elements = *elements;
	it->at = at;
	return before;
}

static bool expand_into(struct conf_macros *m, struct slice text, struct texts *out,
			struct buf *why);

static bool expand_macro(struct conf_macros *m, struct conf_macro *it, struct buf *why)
{
	struct texts out = {NULL, 0, 0};
	bool ok = true;

	if (it->state == MACRO_DONE)
		return true;
	if (it->state == MACRO_EXPANDING) {
		buf_addf(why, "macro loop: $%s contains itself", it->name);
		return false;
	}
	if (it->state == MACRO_BROKEN) {
		buf_addf(why, "macro $%s cannot be expanded", it->name);
		return false;
	}
	if (m->depth >= CONF_MACRO_DEPTH) {
		buf_addf(why, "macros nest deeper than %d levels at $%s", CONF_MACRO_DEPTH,
			 it->name);
		return false;
	}
	it->state = MACRO_EXPANDING;
	m->depth++;
	for (size_t i = 0; i < it->elements.n && ok; i++)
		ok = expand_into(m, slice_str(it->elements.v[i]), &out, why);
	m->depth--;
	it->state = ok ? MACRO_DONE : MACRO_BROKEN;
	if (ok)
		it->texts = (struct conf_strings){
			arena_copy(m->arena, out.v, out.n, sizeof(*out.v)), out.n};
	free(out.v);
	return ok;
}

/* The first $name of the text; false if there is none. */
static bool find_reference(struct slice text, size_t *ret_at, struct slice *ret_name)
{
	ptrdiff_t at = slice_chr(text, '$');
	size_t end;

	if (at < 0)
		return false;
	end = (size_t)at + 1;
	while (end < text.n && is_name_char(text.p[end]))
		end++;
	*ret_at = (size_t)at;
	*ret_name = slice_sub(text, (size_t)at + 1, end - (size_t)at - 1);
	return true;
}

/*
 * A name may be followed by more letters only behind a dot, but "-" is legal in both: the longest
 * known macro wins, so that $tld-x finds $tld where there is no $tld-x.
 */
static struct conf_macro *find_longest(struct conf_macros *m, struct slice *name)
{
	struct slice whole = *name;

	for (;;) {
		struct conf_macro *it = find(m, *name);
		ptrdiff_t dash;

		if (it)
			return it;
		dash = slice_rchr(*name, '-');
		if (dash <= 0) {
			*name = whole;
			return NULL;
		}
		name->n = (size_t)dash;
	}
}

static bool expand_into(struct conf_macros *m, struct slice text, struct texts *out,
			struct buf *why)
{
	struct conf_macro *it;
	struct slice name;
	size_t at;

	if (text.n > CONF_PATTERN_MAX) {
		buf_addf(why, "a pattern of more than %zu bytes", CONF_PATTERN_MAX);
		return false;
	}
	if (!find_reference(text, &at, &name)) {
		if (out->n >= CONF_EXPANSION_MAX) {
			buf_addf(why, "macros make more than %zu patterns of this",
				 CONF_EXPANSION_MAX);
			return false;
		}
		texts_add(out, arena_dup(m->arena, text));
		return true;
	}
	it = find_longest(m, &name);
	if (!it) {
		buf_addf(why, "unknown macro $%.*s: define it in [domain-macro]", SLICE_ARG(name));
		return false;
	}
	if (!expand_macro(m, it, why))
		return false;
	for (size_t i = 0; i < it->texts.n; i++) {
		char *whole = xasprintf("%.*s%s%.*s", (int)at, text.p, it->texts.v[i],
					SLICE_ARG(slice_from(text, at + 1 + name.n)));
		bool ok = expand_into(m, slice_str(whole), out, why);

		free(whole);
		if (!ok)
			return false;
	}
	return true;
}

bool conf_macro_expand(struct conf_macros *m, struct slice text, struct conf_strings *ret,
		       struct buf *why)
{
	struct texts out = {NULL, 0, 0};
	bool ok = expand_into(m, text, &out, why);

	if (ok)
		*ret = (struct conf_strings){arena_copy(m->arena, out.v, out.n, sizeof(*out.v)),
					     out.n};
	free(out.v);
	return ok;
}

void conf_macros_check(struct conf_macros *m,
		       void (*each)(void *arg, struct conf_origin at, const char *why), void *arg)
{
	for (struct conf_macro *it = m->by_name; it; it = it->hh.next) {
		struct buf why = BUF_INIT;

		if (it->state == MACRO_RAW && !expand_macro(m, it, &why))
			each(arg, it->at, buf_cstr(&why));
		buf_done(&why);
	}
}
