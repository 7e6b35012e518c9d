/* What applies to a client: by-IP sources, the most specific first, under the named one. */
#include <stdlib.h>

#include "common/base/xalloc.h"
#include "common/conf/private.h"

#define SOURCE_SCOPE (&conf_scopes[CONF_SCOPE_SOURCE])
#define S_COUNT(field, keywords, type, def, min, max, kind, doc) +1
enum { SOURCE_ROWS = 0 CONF_SOURCE_DIRECTIVES(S_COUNT) };
#undef S_COUNT

/* Rank of a network among those that hold an address: 0/0 holds both families, after all others. */
static unsigned rank(const struct cidr *c)
{
	if (c->bits == 0 && c->ip.family == IP_V4)
		return 0;
	return 1u + c->bits;
}

/* For each directive the slot that applies, NULL for the default. */
static void choose(const struct conf *c, const struct ip *ip, const char *name,
		   const struct conf_slot **chosen)
{
	const struct conf_section *named =
		name ? conf_section_find(c, CONF_SCOPE_SOURCE, slice_str(name)) : NULL;
	unsigned below = UINT32_MAX;

	if (named && !named->is_cidr)
		conf_choose(&named->own, chosen);
	/* Equal networks are one section, so each rank that holds ip occurs once. */
	for (;;) {
		const struct conf_section *best = NULL;

		for (size_t i = 0; i < c->sources.n; i++) {
			const struct conf_section *s = c->sources.v[i];

			if (s->is_cidr && rank(&s->cidr) < below && cidr_has(&s->cidr, ip) &&
			    (!best || rank(&s->cidr) > rank(&best->cidr)))
				best = s;
		}
		if (!best)
			break;
		conf_choose(&best->own, chosen);
		below = rank(&best->cidr);
	}
}

const struct conf_source *conf_source_for(const struct conf *c, const struct ip *ip,
					  const char *name)
{
	const struct conf_slot *chosen[SOURCE_ROWS] = {NULL};

	choose(c, ip, name, chosen);
	return conf_intern(c, &c->source_cache, SOURCE_SCOPE, chosen);
}

void conf_show_source(const struct conf *c, const struct ip *ip, const char *name,
		      void (*each)(const struct conf_setting *s, void *arg), void *arg)
{
	const struct conf_slot *chosen[SOURCE_ROWS] = {NULL};

	choose(c, ip, name, chosen);
	for (size_t i = 0; i < SOURCE_ROWS; i++) {
		const struct conf_directive *d = &SOURCE_SCOPE->rows[i];
		const struct conf_slot *slot = chosen[i];
		char *keyword = slice_dup(conf_words_first(d->keywords));
		char *text = slot ? conf_slot_text(SOURCE_SCOPE, i, slot) : NULL;
		struct conf_setting s = {.keyword = keyword, .value = *d->def ? d->def : "\"\""};

		if (slot) {
			s.value = text;
			s.origin = slot->at;
			s.section = slot->section;
		}
		each(&s, arg);
		free(text);
		free(keyword);
	}
}
