/* Pools: their members and shares; the cold virtual MTAs of warm ones. */
#include "common/conf/private.h"
#include "common/conf/values.h"

static struct conf_origin place_of(const struct conf_section *s, const char *keyword)
{
	const struct conf_directive *d = conf_directive_find(s->scope, slice_str(keyword));
	const struct conf_slot *slot = s->own.slots[d - s->scope->rows];

	return slot ? slot->at : s->at;
}

/* NULL: reported. */
static const struct conf_vmta *named_vmta(const struct conf *c, struct conf_origin at,
					  const char *keyword, const char *name,
					  struct conf_messages *msgs)
{
	const struct conf_section *v = conf_section_find(c, CONF_SCOPE_VMTA, slice_str(name));
	const struct conf_section *pool = conf_section_find(c, CONF_SCOPE_POOL, slice_str(name));

	if (v)
		return v->vmta;
	conf_error(msgs, at, "%s: unknown virtual MTA %s%s", keyword, name,
		   pool ? ": it is a pool, and pools hold virtual MTAs" : "");
	return NULL;
}

/* --- members --- */

/* What the selection has no use for is an error, and what it needs and does not have. */
static uint64_t share_of(const struct conf_section *s, const struct conf_pool *p,
			 const struct conf_member *m, struct conf_messages *msgs)
{
	struct conf_origin at = place_of(s, "virtual-mta");

	if (m->share == CONF_SHARE_WEIGHT && p->selection != CONF_WEIGHTED)
		conf_error(msgs, at,
			   "virtual-mta: weight of %s has no meaning in %s: it needs "
			   "selection = weighted",
			   m->name, s->display);
	if (m->share == CONF_SHARE_COUNT && p->selection != CONF_SEQUENTIAL)
		conf_error(msgs, at,
			   "virtual-mta: count of %s has no meaning in %s: it needs "
			   "selection = sequential",
			   m->name, s->display);
	if (m->share != CONF_SHARE_COUNT && p->selection == CONF_SEQUENTIAL)
		conf_error(msgs, at,
			   "virtual-mta: %s has no count: write %s count N, so many "
			   "recipients before the next member",
			   m->name, m->name);
	return m->n;
}

static bool has_member(const struct conf_pool *p, const struct conf_vmta *v)
{
	for (size_t i = 0; i < p->member_count; i++)
		if (p->members[i] == v)
			return true;
	return false;
}

static void build_members(struct conf *c, struct conf_section *s, const struct conf_members *list,
			  struct conf_pool *p, struct conf_messages *msgs)
{
	const struct conf_vmta **members =
		arena_alloc(&c->arena, (list->n + 1) * sizeof(struct conf_vmta *));
	uint64_t *shares = arena_alloc(&c->arena, (list->n + 1) * sizeof(*shares));
	struct conf_origin at = place_of(s, "virtual-mta");

	p->members = members;
	p->shares = shares;
	for (size_t i = 0; i < list->n; i++) {
		const struct conf_member *m = &list->v[i];
		const struct conf_vmta *v = named_vmta(c, at, "virtual-mta", m->name, msgs);

		if (!v)
			continue;
		if (has_member(p, v)) {
			conf_warning(msgs, at, "virtual-mta: %s is in %s already", m->name,
				     s->display);
			continue;
		}
		shares[p->member_count] = share_of(s, p, m, msgs);
		members[p->member_count++] = v;
	}
	if (list->n == 0)
		conf_error(msgs, s->at, "%s has no member: add virtual-mta = NAME", s->display);
}

/* --- cold ones --- */

static struct conf_vmtas cold_list(struct conf *c, const struct conf_section *s,
				   const struct conf_strings *names, struct conf_messages *msgs)
{
	struct conf_origin at = place_of(s, "cold-virtual-mta");
	const struct conf_vmta **v =
		arena_alloc(&c->arena, (names->n + 1) * sizeof(struct conf_vmta *));
	size_t n = 0;

	for (size_t i = 0; i < names->n; i++) {
		const struct conf_vmta *cold =
			named_vmta(c, at, "cold-virtual-mta", names->v[i], msgs);

		if (cold && cold == s->vmta)
			conf_error(msgs, at, "cold-virtual-mta: %s is this virtual MTA itself",
				   names->v[i]);
		else if (cold)
			v[n++] = cold;
	}
	return (struct conf_vmtas){v, n};
}

static void build_pool(struct conf *c, struct conf_section *s, struct conf_messages *msgs)
{
	struct conf_pool *p = arena_alloc(&c->arena, sizeof(*p));
	struct conf_pool_fields f;

	conf_fill(&c->arena, s->scope, (const struct conf_slot *const *)s->own.slots, &f);
	p->name = s->name;
	p->selection = f.selection;
	p->daily = f.reset_count == CONF_RESET_DAILY;
	p->reselect = f.reselect == CONF_RESELECT_BACKOFF;
	p->reselect_interval = f.reselect_interval;
	build_members(c, s, &f.virtual_mta, p, msgs);
	p->cold = cold_list(c, s, &f.cold_virtual_mta, msgs);
	p->max_smtp_out = f.pool_max_smtp_out;
	p->max_msg_rate = f.pool_max_msg_rate;
	s->pool = p;
	conf_pool_to_members(c, s, msgs);
}

/* --- numbers a day that nothing uses --- */

static bool pool_gives_cold(const struct conf_pool *p, const struct conf_vmta *v)
{
	return p->cold.n && (!v || has_member(p, v));
}

/* Has the virtual MTA, or the pool, or one of all (an empty name) cold ones? */
static bool has_cold(const struct conf *c, struct slice name)
{
	const struct conf_vmta *v = conf_vmta_find(c, name);
	const struct conf_pool *p = conf_pool_find(c, name);

	for (size_t i = 0; i < conf_vmta_count(c); i++) {
		const struct conf_vmta *x = conf_vmta_at(c, i);

		if (x->cold.n && (name.n == 0 || x == v || (p && has_member(p, x))))
			return true;
	}
	for (size_t i = 0; i < conf_pool_count(c); i++) {
		const struct conf_pool *x = conf_pool_at(c, i);

		if (name.n == 0 || v ? pool_gives_cold(x, v) : p && x == p && p->cold.n)
			return true;
	}
	return false;
}

static void warn_no_cold(const struct conf *c, const struct conf_slot *slot, struct slice name,
			 struct conf_messages *msgs)
{
	if (has_cold(c, name))
		return;
	conf_warning(
		msgs, slot->at,
		"max-cold-virtual-mta-msg has no effect without cold-virtual-mta in "
		"[virtual-mta] or [virtual-mta-pool]; to warm an address up without a warm one "
		"beside it, see [warm-up]");
}

static const struct conf_slot *numbers_of(const struct conf_overlay *o)
{
	const struct conf_scope *scope = &conf_scopes[CONF_SCOPE_DOMAIN];
	const struct conf_directive *d =
		conf_directive_find(scope, slice_str("max-cold-virtual-mta-msg"));
	const struct conf_slot *slot = o->slots ? o->slots[d - scope->rows] : NULL;
	const struct conf_per_day *list = slot ? slot->value : NULL;

	for (size_t i = 0; list && i < list->n; i++)
		if (list->v[i])
			return slot;
	return NULL;
}

static void check_numbers(const struct conf *c, const struct conf_section *s,
			  struct conf_messages *msgs)
{
	bool of_domain = s->scope->id == CONF_SCOPE_DOMAIN;
	const struct conf_slot *slot = numbers_of(of_domain ? &s->own : &s->domains);
	struct slice rest = slice_str(s->name), element;
	ptrdiff_t slash, close;

	if (!slot)
		return;
	if (!of_domain) {
		warn_no_cold(c, slot, slice_str(s->name), msgs);
		return;
	}
	while (conf_list_next(&rest, ',', &element)) {
		slash = slice_rchr(element, '/');
		close = slice_rchr(element, ']');
		warn_no_cold(c, slot,
			     slash > close ? slice_from(element, (size_t)slash + 1)
					   : slice_of("", 0),
			     msgs);
	}
}

void conf_build_pools(struct conf *c, struct conf_messages *msgs)
{
	for (size_t i = 0; i < c->vmtas.n; i++) {
		struct conf_section *s = c->vmtas.v[i];

		s->vmta->cold = cold_list(c, s, &s->vmta->cold_virtual_mta, msgs);
	}
	for (size_t i = 0; i < c->pools.n; i++)
		build_pool(c, c->pools.v[i], msgs);
	for (size_t i = 0; i < c->sections.n; i++) {
		const struct conf_section *s = c->sections.v[i];

		if (s->scope->id == CONF_SCOPE_DOMAIN || s->scope->id == CONF_SCOPE_VMTA)
			check_numbers(c, s, msgs);
	}
}
