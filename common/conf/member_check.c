/* Checks at load of what is said about domains of providers, and of queue-to. */
#include <stdlib.h>

#include "common/base/xalloc.h"
#include "common/conf/pattern.h"
#include "common/conf/private.h"
#include "common/conf/values.h"

#define SCOPE (&conf_scopes[CONF_SCOPE_DOMAIN])

static size_t row_of(const char *keyword)
{
	return (size_t)(conf_directive_find(SCOPE, slice_str(keyword)) - SCOPE->rows);
}

void conf_check_rollup_section(struct conf *c, struct slice domain, const struct conf_overlay *o,
			       struct conf_messages *msgs)
{
	/* What the spooler decides, when nobody has looked up the domain's hosts. */
	static const char *const at_reception[] = {"type", "discard-as-bounce", "queue-to",
						   "disable-mx-rollup", "recipient-priority"};
	struct slice name;

	if (!conf_rollup_name(domain, &name))
		return;
	for (size_t i = 0; i < ARRAY_SIZE(at_reception); i++) {
		const struct conf_slot *s = o->slots[row_of(at_reception[i])];

		if (s)
			conf_error(msgs, s->at,
				   "%s of %s: it is decided when mail comes in, before it is known "
				   "which domains belong to the provider: set it for the domains",
				   at_reception[i], s->section);
	}
	if (conf_section_find(c, CONF_SCOPE_PROVIDER, name))
		return;
	for (size_t i = 0; i < SCOPE->n; i++)
		if (o->slots[i]) {
			conf_error(msgs, o->slots[i]->at, "%s: there is no [provider %.*s]",
				   o->slots[i]->section, SLICE_ARG(name));
			return;
		}
}

struct check {
	struct conf *c;
	struct conf_messages *msgs;
	const struct conf_slot *told; /* last one that something was said of */
};

/* Does the virtual MTA look into this scope? */
static bool looks_into(const struct conf_section *v, struct slice scope)
{
	return scope.n == 0 || slice_ieq_str(scope, v->name) ||
	       (v->pool_of_rules && slice_ieq_str(scope, v->pool_of_rules->name));
}

static void check_queue_to(struct slice scope, const struct conf_overlay *o, struct check *k)
{
	const struct conf_slot *s = o->slots[row_of("queue-to")];
	const char *to = s ? *(const char *const *)s->value : NULL;
	struct conf *c = k->c;

	if (!to || s == k->told)
		return;
	for (size_t i = 0; i < c->vmtas.n; i++) {
		const struct conf_section *v = c->vmtas.v[i];
		char *domain = slice_dup_lower(slice_str(to));
		const struct conf_domain *d =
			conf_domain_for(c, slice_str(domain), slice_str(v->name));

		free(domain);
		if (!looks_into(v, scope) || (d->smtp_hosts.n && !d->queue_to))
			continue;
		k->told = s;
		if (d->queue_to)
			conf_error(k->msgs, s->at,
				   "queue-to: %s has queue-to itself: name the queue at its end",
				   to);
		else
			conf_error(k->msgs, s->at,
				   "queue-to: %s has no smtp-hosts for virtual MTA %s: add "
				   "[domain %s] with smtp-hosts",
				   to, v->name, to);
		return;
	}
}

/* A domain that a provider names is a member for certain. */
static void check_named(struct slice scope, const struct conf_pattern *p, struct check *k)
{
	const struct conf_provider *provider;
	struct slice vmta = slice_str(""), keyword;
	struct conf_setting s;

	if (p->kind != CONF_PATTERN_EXACT)
		return;
	provider = conf_provider_of_domain(k->c, p->domain);
	if (conf_section_find(k->c, CONF_SCOPE_VMTA, scope))
		vmta = scope;
	if (!provider || conf_keeps_own_site(k->c, p->domain, vmta) ||
	    !conf_member_shadowed(k->c, p->domain, vmta, &s))
		return;
	keyword = conf_words_first(s.keyword);
	conf_warning(k->msgs, s.origin,
		     "%.*s of %s has no effect for %.*s: the domain belongs to provider %s: set it "
		     "for %s",
		     SLICE_ARG(keyword), s.section, SLICE_ARG(p->domain), provider->name,
		     provider->rollup);
}

static void check_one(struct slice scope, const struct conf_pattern *p,
		      const struct conf_overlay *o, void *arg)
{
	struct check *k = arg;

	check_queue_to(scope, o, k);
	if (k->c->providers.n)
		check_named(scope, p, k);
}

void conf_check_members(struct conf *c, struct conf_messages *msgs)
{
	struct check k = {.c = c, .msgs = msgs};

	if (!conf_messages_have_error(msgs))
		conf_rules_each(c, check_one, &k);
}
