/*
 * Effective settings. Two queues with the same outcome share one struct: the key is the slots that
 * were chosen, one for each directive, NULL for the default.
 */
#include <stdlib.h>

#include "common/base/xalloc.h"
#include "common/conf/private.h"
#include "common/conf/values.h"

struct conf_interned {
	const void *value;
	UT_hash_handle hh;
	const struct conf_slot *chosen[]; /* the key */
};

void conf_choose(const struct conf_overlay *overlay, const struct conf_slot **chosen)
{
	if (!overlay->set)
		return;
	for (size_t i = 0; i < overlay->scope->n; i++)
		if (!chosen[i])
			chosen[i] = overlay->slots[i];
}

char *conf_slot_text(const struct conf_scope *scope, size_t row, const struct conf_slot *slot)
{
	const char *between = conf_type_rows[scope->rows[row].type].list ? ", " : "; ";
	struct conf_ptrs lines = {NULL, 0, 0};
	struct buf b = BUF_INIT;
	bool secret = false;

	for (const struct conf_slot *s = slot; s; s = s->before) {
		conf_ptrs_add(&lines, (void *)(uintptr_t)s->text);
		secret |= s->secret;
	}
	for (size_t i = lines.n; i-- > 0 && !secret;)
		buf_addf(&b, "%s%s", b.n ? between : "", (const char *)lines.v[i]);
	if (secret)
		buf_add_str(&b, "***");
	buf_add_char(&b, '\0');
	free(lines.v);
	return buf_take(&b);
}

static void fill_default(struct arena *a, const struct conf_directive *d, void *ret)
{
	struct buf why = BUF_INIT, remark = BUF_INIT;
	struct conf_value_ctx ctx = {.arena = a,
				     .directive = d,
				     .why = &why,
				     .remark = &remark,
				     .keyword = conf_words_first(d->keywords)};

	conf_value_default(&ctx, ret);
	buf_done(&why);
	buf_done(&remark);
}

void conf_fill(struct arena *a, const struct conf_scope *scope,
	       const struct conf_slot *const *chosen, void *ret)
{
	char *base = ret;

	for (size_t i = 0; i < scope->n; i++) {
		const struct conf_directive *d = &scope->rows[i];

		if (chosen[i])
			memcpy(base + d->offset, chosen[i]->value, conf_type_rows[d->type].size);
		else
			fill_default(a, d, base + d->offset);
	}
}

const void *conf_intern(const struct conf *c, struct conf_interned *const *cache,
			const struct conf_scope *scope, const struct conf_slot *const *chosen)
{
	/* The cache is the one part of a generation that changes; see conf.h. */
	struct conf *m = (struct conf *)(uintptr_t)c;
	struct conf_interned **head = (struct conf_interned **)(uintptr_t)cache, *it;
	size_t size = scope->n * sizeof(*chosen);
	void *value;

	pthread_mutex_lock(&m->lock);
	HASH_FIND(hh, *head, chosen, size, it);
	if (!it) {
		it = xcalloc(1, sizeof(*it) + size);
		memcpy(it->chosen, chosen, size);
		value = arena_alloc(&m->arena, scope->size);
		conf_fill(&m->arena, scope, chosen, value);
		it->value = value;
		HASH_ADD(hh, *head, chosen, size, it);
	}
	pthread_mutex_unlock(&m->lock);
	return it->value;
}

void conf_interned_done(struct conf_interned **cache)
{
	while (*cache) {
		struct conf_interned *it = *cache;

		HASH_DEL(*cache, it);
		free(it);
	}
}
