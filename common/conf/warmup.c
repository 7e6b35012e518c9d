/* [warm-up] sections: which addresses they hold for, and what makes no sense. */
#include <stdlib.h>

#include "common/conf/private.h"

static struct conf_origin at_of(const struct conf_section *s, const char *keyword)
{
	size_t i = (size_t)(conf_directive_find(s->scope, slice_str(keyword)) - s->scope->rows);

	return s->own.slots[i] ? s->own.slots[i]->at : s->at;
}

static bool has_vmta(const struct conf_warmup *w, const struct conf_vmta *v)
{
	for (size_t i = 0; i < w->vmta_count; i++)
		if (w->vmtas[i] == v)
			return true;
	return false;
}

/* --- the virtual MTAs --- */

struct members {
	struct conf_warmup *w;
	const struct conf_vmta **v;
	size_t n;
};

static void member_add(struct members *m, const struct conf_vmta *v)
{
	for (size_t i = 0; i < m->n; i++)
		if (m->v[i] == v)
			return;
	m->v[m->n++] = v;
}

static void build_members(struct conf *c, const struct conf_section *s, struct conf_warmup *w,
			  struct conf_messages *msgs)
{
	struct conf_origin at = at_of(s, "virtual-mta");
	struct members m = {
		.v = arena_alloc(&c->arena, (c->vmtas.n + 1) * sizeof(struct conf_vmta *))};

	for (size_t i = 0; i < w->virtual_mta.n; i++) {
		struct slice name = slice_str(w->virtual_mta.v[i]);
		const struct conf_vmta *v = conf_vmta_find(c, name);
		const struct conf_pool *p = conf_pool_find(c, name);

		if (v)
			member_add(&m, v);
		for (size_t k = 0; p && k < p->member_count; k++)
			member_add(&m, p->members[k]);
		if (!v && !p)
			conf_error(msgs, at, "virtual-mta: unknown virtual MTA or pool %.*s",
				   SLICE_ARG(name));
	}
	if (w->virtual_mta.n == 0)
		conf_error(msgs, s->at, "%s warms up nothing: add virtual-mta = NAME", s->display);
	w->vmtas = m.v;
	w->vmta_count = m.n;
	for (size_t i = 0; i < m.n; i++)
		if (m.v[i]->smtp_source_host.n == 0)
			conf_error(msgs, at,
				   "virtual-mta: %s has no address of its own to warm up: add "
				   "smtp-source-host to it",
				   m.v[i]->name);
}

/* --- where the rest goes --- */

static void build_overflow(const struct conf *c, const struct conf_section *s,
			   struct conf_warmup *w, struct conf_messages *msgs)
{
	struct conf_origin at = at_of(s, "overflow");
	const struct conf_vmta *v;
	const struct conf_pool *p;

	if (slice_ieq_str(slice_str(w->overflow), "hold")) {
		w->overflow = NULL;
		return;
	}
	v = conf_vmta_find(c, slice_str(w->overflow));
	p = conf_pool_find(c, slice_str(w->overflow));
	if (!v && !p)
		conf_error(msgs, at, "overflow: unknown virtual MTA or pool %s", w->overflow);
	else if (v && has_vmta(w, v))
		conf_error(msgs, at, "overflow: %s is warmed up by %s itself", v->name, s->display);
	for (size_t i = 0; p && i < p->member_count; i++)
		if (has_vmta(w, p->members[i]))
			conf_error(msgs, at, "overflow: %s of pool %s is warmed up by %s itself",
				   p->members[i]->name, p->name, s->display);
}

static void build_provider(const struct conf *c, const struct conf_section *s,
			   struct conf_warmup *w, struct conf_messages *msgs)
{
	const struct conf_provider *p = conf_provider_find(c, slice_str(w->provider));

	if (p)
		w->provider = p->name;
	else if (strcmp(w->provider, "*") != 0)
		conf_error(msgs, at_of(s, "provider"),
			   "provider: unknown provider %s: there is no [provider %s]", w->provider,
			   w->provider);
}

static const struct conf_warmup *warmup_of(const struct conf *c, size_t i)
{
	return conf_warmup_at(c, i);
}

/* Does mail that leaves `from` by overflow get to `to`, at once or over others? */
static bool flows_to(const struct conf *c, const struct conf_warmup *from,
		     const struct conf_warmup *to, size_t left)
{
	const struct conf_vmta *one;
	const struct conf_pool *p;
	size_t n;

	if (!from->overflow || left == 0)
		return false;
	one = conf_vmta_find(c, slice_str(from->overflow));
	p = conf_pool_find(c, slice_str(from->overflow));
	n = one ? 1 : p ? p->member_count : 0;
	for (size_t i = 0; i < n; i++) {
		const struct conf_vmta *v = one ? one : p->members[i];

		for (size_t k = 0; k < c->warmups.n; k++) {
			const struct conf_warmup *w = warmup_of(c, k);

			if (has_vmta(w, v) && (w == to || flows_to(c, w, to, left - 1)))
				return true;
		}
	}
	return false;
}

static void check_circle(const struct conf *c, const struct conf_warmup *w,
			 const struct conf_section *s, struct conf_messages *msgs)
{
	if (flows_to(c, w, w, c->warmups.n))
		conf_error(msgs, at_of(s, "overflow"),
			   "overflow: mail would come back: %s goes on to where %s is from",
			   w->overflow, s->display);
}

/* --- two for one --- */

static bool same_provider(const struct conf_warmup *a, const struct conf_warmup *b)
{
	return slice_ieq(slice_str(a->provider), slice_str(b->provider));
}

static void check_double(const struct conf_section *s, const struct conf_section *before,
			 struct conf_messages *msgs)
{
	const struct conf_warmup *w = s->warmup, *o = before->warmup;

	for (size_t i = 0; same_provider(w, o) && i < w->vmta_count; i++)
		if (has_vmta(o, w->vmtas[i]))
			conf_error(msgs, at_of(s, "virtual-mta"),
				   "virtual-mta: %s is warmed up for provider %s by %s (%s:%u) "
				   "already",
				   w->vmtas[i]->name, w->provider, before->display, before->at.file,
				   before->at.line);
}

static bool has_address(const struct conf_vmta *v, const struct ip *ip)
{
	for (size_t i = 0; i < v->smtp_source_host.n; i++)
		if (ip_eq(&v->smtp_source_host.v[i].ip, ip))
			return true;
	return false;
}

/* What another virtual MTA sends from an address is not counted. */
static void check_addresses(const struct conf *c, const struct conf_section *s,
			    struct conf_messages *msgs)
{
	const struct conf_warmup *w = s->warmup;
	char text[IP_TEXT_MAX];

	for (size_t i = 0; i < w->vmta_count; i++)
		for (size_t k = 0; k < w->vmtas[i]->smtp_source_host.n; k++) {
			const struct ip *ip = &w->vmtas[i]->smtp_source_host.v[k].ip;

			for (size_t j = 0; j < conf_vmta_count(c); j++) {
				const struct conf_vmta *o = conf_vmta_at(c, j);

				if (o != w->vmtas[i] && o->at.line && has_address(o, ip))
					conf_error(msgs, at_of(s, "virtual-mta"),
						   "virtual-mta: %s of %s is an address of %s, "
						   "too: an address that is warmed up belongs to "
						   "one virtual MTA",
						   ip_text(ip, text), w->vmtas[i]->name, o->name);
			}
		}
}

void conf_build_warmups(struct conf *c, struct conf_messages *msgs)
{
	for (size_t i = 0; i < c->warmups.n; i++) {
		struct conf_section *s = c->warmups.v[i];
		struct conf_warmup *w = arena_alloc(&c->arena, sizeof(*w));

		conf_fill(&c->arena, s->scope, (const struct conf_slot *const *)s->own.slots, w);
		w->name = s->name;
		w->at = s->at;
		s->warmup = w;
		build_members(c, s, w, msgs);
		build_overflow(c, s, w, msgs);
		if (w->schedule.n == 0)
			conf_error(msgs, s->at, "%s has no schedule: add schedule = 50,100,200",
				   s->display);
		build_provider(c, s, w, msgs);
		for (size_t k = 0; k < i; k++)
			check_double(s, c->warmups.v[k], msgs);
		check_addresses(c, s, msgs);
	}
	for (size_t i = 0; i < c->warmups.n; i++)
		check_circle(c, warmup_of(c, i), c->warmups.v[i], msgs);
}

/* --- for others --- */

size_t conf_warmup_count(const struct conf *c)
{
	return c->warmups.n;
}

const struct conf_warmup *conf_warmup_at(const struct conf *c, size_t i)
{
	return ((const struct conf_section *)c->warmups.v[i])->warmup;
}

const struct conf_warmup *conf_warmup_for(const struct conf *c, const struct conf_vmta *vmta,
					  const char *provider)
{
	const struct conf_warmup *all = NULL;

	for (size_t i = 0; i < c->warmups.n; i++) {
		const struct conf_warmup *w = warmup_of(c, i);

		if (!has_vmta(w, vmta))
			continue;
		if (strcmp(w->provider, "*") == 0)
			all = w;
		else if (provider && slice_ieq(slice_str(w->provider), slice_str(provider)))
			return w;
	}
	return all;
}
