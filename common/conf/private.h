/*
 * private.h - what is inside a struct conf; for common/conf only.
 *
 * A section of the file becomes a struct conf_section with overlays: for each directive of a scope a
 * slot, or NULL where it is not set. Everything effective is made from overlays, most specific first,
 * and the defaults.
 */
#ifndef SLUICE_CONF_PRIVATE_H
#define SLUICE_CONF_PRIVATE_H

#include <pthread.h>

#include "common/base/buf.h"
#include "common/base/hash.h"
#include "common/conf/arena.h"
#include "common/conf/conf.h"
#include "common/conf/macro.h"
#include "common/conf/messages.h"
#include "common/conf/reader.h"
#include "common/conf/scope.h"

/* One directive as it was set at one place. */
struct conf_slot {
	const void *value; /* of the C type of the directive */
	const char *text; /* as written, secrets resolved */
	const char *section; /* "[domain gmail.com]" */
	struct conf_origin at;
	bool secret;
	const struct conf_slot *warned; /* the double that was reported already */
	const struct conf_slot *before; /* the line that this one adds to, or NULL */
	size_t order; /* among all that are set: the later is greater */
};

struct conf_overlay {
	const struct conf_scope *scope;
	struct conf_slot **slots; /* scope->n; NULL: not set */
	size_t set; /* how many are */
	bool any_of_vmta; /* holds for every domain of a virtual MTA or pool */
	bool specific_global; /* holds for a pattern other than *, whatever the virtual MTA */
};

struct conf_section {
	const struct conf_scope *scope;
	const char *key; /* scope and canonical name: equal sections merge */
	const char *name; /* as written */
	const char *display; /* "[source 10/8]" */
	struct conf_origin at;
	struct conf_overlay own;
	struct conf_overlay domains; /* virtual-mta: its domain directives; else unused */
	struct cidr cidr; /* source: when is_cidr */
	bool is_cidr;
	struct conf_listener *listener;
	struct conf_vmta *vmta;
	struct conf_pool *pool;
	struct conf_acct_file *acct_file;
	struct conf_provider *provider;
	struct conf_warmup *warmup;
	struct conf_pattern_list *pattern_list; /* smtp-pattern-list: from the beginning */
	const struct conf_section
		*pool_of_rules; /* virtual-mta: its pool that has domain sections */
	UT_hash_handle hh;
};

/* A list of pointers on the heap. */
struct conf_ptrs {
	void **v;
	size_t n, cap;
};
void conf_ptrs_add(struct conf_ptrs *p, void *item);

struct conf_interned; /* effective settings by the slots that they are made of */
struct conf_rules; /* domain patterns of one scope: everywhere, a virtual MTA, a pool */

struct conf {
	struct arena arena;
	struct conf_macros macros;
	struct buf merged;
	struct conf_section *by_key; /* uthash of all sections */
	struct conf_ptrs sections; /* of struct conf_section, in file order */
	struct conf_ptrs listeners, vmtas, pools, sources, acct_files, providers, warmups,
		pattern_lists; /* likewise, by scope */
	struct conf_ptrs regexes; /* of struct regex: they have memory of their own */
	struct conf_categories categories;
	size_t slots; /* made so far */
	struct conf_global global;
	struct conf_ip_limits ip_limits; /* most specific first */
	struct conf_rules *rules; /* uthash by name of virtual MTA or pool, "" everywhere */
	pthread_mutex_t lock; /* of what follows, and of the arena after loading */
	struct conf_interned *domain_cache, *source_cache; /* uthash */
};

/* sections.c: items to sections and slots. */
void conf_build_sections(struct conf *c, const struct conf_items *items,
			 struct conf_messages *msgs);
struct conf_section *conf_section_find(const struct conf *c, enum conf_scope_id scope,
				       struct slice name);
/* Adds a section that the file does not hold ({default}). */
struct conf_section *conf_section_add(struct conf *c, enum conf_scope_id scope, const char *name);

/* Letters, digits, '.', '_' and '-', at most 255. */
bool conf_plain_name(struct slice name);

/* build.c: sections to listeners, virtual MTAs, pools, files, global settings. */
void conf_build_effective(struct conf *c, struct conf_messages *msgs);

/* provider.c */
/* A line of [mx-rollup-list] names a provider: its section is there from then on. */
void conf_rollup_declare(struct conf *c, const struct conf_item *it);
void conf_build_providers(struct conf *c, struct conf_messages *msgs);
/*
 * limits.c: what a pool means for its members: they know it, and what they do not set themselves under a
 * keyword that both have is the pool's.
 */
void conf_pool_to_members(struct conf *c, struct conf_section *pool, struct conf_messages *msgs);
/* warmup.c: warm-ups, once there are virtual MTAs, pools and providers. */
void conf_build_warmups(struct conf *c, struct conf_messages *msgs);

/* pool.c: members of pools, cold virtual MTAs. All virtual MTAs are there. */
void conf_build_pools(struct conf *c, struct conf_messages *msgs);

/* domains.c: domain sections to rules; conf_domain_for(). */
void conf_build_rules(struct conf *c, struct conf_messages *msgs);
void conf_rules_done(struct conf *c);
/* looser.c: `*` of a virtual MTA that allows more than what is said globally about a domain. */
void conf_check_looser(const struct conf *c, struct conf_messages *msgs);
/* unused.c: pattern lists that no domain names; a server that would refuse every recipient. */
void conf_check_unused(const struct conf *c, struct conf_messages *msgs);
/* Calls each() for every pattern in every scope (name of a virtual MTA or pool, "" everywhere). */
struct conf_pattern;
typedef void conf_overlay_cb(struct slice scope, const struct conf_pattern *p,
			     const struct conf_overlay *o, void *arg);
void conf_rules_each(const struct conf *c, conf_overlay_cb *each, void *arg);

/* member_check.c */
/* A section of this domain: if it is NAME.rollup, is there such a provider, and does it hold what may stand there? */
void conf_check_rollup_section(struct conf *c, struct slice domain, const struct conf_overlay *o,
			       struct conf_messages *msgs);
/* Where queue-to leads, and what is set in vain for domains that providers name. */
void conf_check_members(struct conf *c, struct conf_messages *msgs);

#define CONF_COUNT_ROW(field, keywords, type, def, min, max, kind, doc) +1
enum { CONF_DOMAIN_ROWS = 0 CONF_DOMAIN_DIRECTIVES(CONF_COUNT_ROW) };
#undef CONF_COUNT_ROW
/* Scopes that a queue looks in: its virtual MTA, that one's pool, everywhere. */
#define CONF_RULE_SCOPES 3
/* Those of a virtual MTA in their order; NULL: no rules there. */
void conf_rules_of(const struct conf *c, struct slice vmta,
		   const struct conf_rules *ret[CONF_RULE_SCOPES]);
/* Take from rules what `chosen` (CONF_DOMAIN_ROWS slots) does not have yet: those that name a domain, then *. */
void conf_choose_named(const struct conf_rules *rules, struct slice domain,
		       const struct conf_slot **chosen);
void conf_choose_any(const struct conf_rules *rules, const struct conf_slot **chosen);
/* All scopes: what applies to a queue that is rolled up nowhere. */
void conf_choose_all(const struct conf *c, struct slice domain, struct slice vmta,
		     const struct conf_slot **chosen);

/* intern.c: chosen slots to a struct. */
/* Takes from overlay what `chosen` (scope->n slots) does not have yet. */
void conf_choose(const struct conf_overlay *overlay, const struct conf_slot **chosen);
/* All lines that add up as one text; "***" if one of them is a secret. The caller frees it. */
char *conf_slot_text(const struct conf_scope *scope, size_t row, const struct conf_slot *slot);
/* Fills a scope's struct from chosen slots and defaults. */
void conf_fill(struct arena *a, const struct conf_scope *scope,
	       const struct conf_slot *const *chosen, void *ret);
/* The struct for chosen slots, from *cache or new; the caller does not hold c->lock. */
const void *conf_intern(const struct conf *c, struct conf_interned *const *cache,
			const struct conf_scope *scope, const struct conf_slot *const *chosen);
void conf_interned_done(struct conf_interned **cache);

/* resolve.c: ${ENV}, file:PATH and the local addresses of smtp-source-host, once, in master. */
void conf_resolve_items(struct conf_items *items, struct arena *a, struct conf_messages *msgs);

/* shipped.c: appends what stands behind every configuration. */
void conf_read_shipped(struct arena *arena, struct conf_items *items, struct conf_messages *msgs);

/* known.c */
/*
 * Says in `to` why a directive (or a section: keyword is its word, section is true) that PowerMTA or a
 * later Sluice has is not taken; false if the name is not known at all.
 */
bool conf_known_name(struct slice name, bool section, struct buf *to);
/* Does a later version take this directive, which other sections have, in this section too? */
bool conf_later_here(enum conf_scope_id scope, struct slice name);

#endif
