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

const struct conf_source *conf_source_for(const struct conf *c, const struct ip *ip,
					  const char *name)
{
	const struct conf_slot *chosen[SOURCE_ROWS] = {NULL};
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
	return conf_intern(c, &c->source_cache, SOURCE_SCOPE, chosen);
}
