/* Warnings: what is taken, but cannot have the effect that it was written for. */
#include "common/conf/pattern.h"
#include "common/conf/private.h"
#include "common/conf/replies.h"

static size_t row_of(const struct conf_scope *scope, const char *keyword)
{
	return (size_t)(conf_directive_find(scope, slice_str(keyword)) - scope->rows);
}

/* --- pattern lists that no domain names --- */

static bool names_list(const struct conf_overlay *domains, size_t row,
		       const struct conf_pattern_list *list)
{
	const struct conf_slot *slot = domains->scope ? domains->slots[row] : NULL;
	const struct conf_pattern_lists *all = slot ? slot->value : NULL;

	for (size_t i = 0; all && i < all->n; i++)
		if (all->v[i] == list)
			return true;
	return false;
}

static bool is_named(const struct conf *c, const struct conf_pattern_list *list)
{
	size_t row = row_of(&conf_scopes[CONF_SCOPE_DOMAIN], "smtp-pattern-list");

	for (size_t i = 0; i < c->sections.n; i++) {
		const struct conf_section *s = c->sections.v[i];
		bool of_domain = s->scope->id == CONF_SCOPE_DOMAIN;

		if (names_list(of_domain ? &s->own : &s->domains, row, list))
			return true;
	}
	return false;
}

static void check_pattern_lists(const struct conf *c, struct conf_messages *msgs)
{
	for (size_t i = 0; i < c->pattern_lists.n; i++) {
		const struct conf_section *s = c->pattern_lists.v[i];

		if (!is_named(c, s->pattern_list))
			conf_warning(msgs, s->at,
				     "%s has no effect: no domain names it: add smtp-pattern-list "
				     "= %s to a [domain]",
				     s->display, s->name);
	}
}

/* --- nobody may relay --- */

/* Is it a network, or named by a listener? */
static bool is_used(const struct conf *c, const struct conf_section *source)
{
	if (source->is_cidr)
		return true;
	for (size_t i = 0; i < c->listeners.n; i++) {
		const struct conf_listener *l = conf_listener_at(c, i);

		if (l && l->source && slice_ieq_str(slice_str(l->source), source->name))
			return true;
	}
	return false;
}

static bool lets_relay(const struct conf_section *source)
{
	const struct conf_slot *all =
		source->own.slots[row_of(source->scope, "always-allow-relaying")];
	const struct conf_slot *domains = source->own.slots[row_of(source->scope, "relay-domain")];

	return (all && *(const bool *)all->value) ||
	       (domains && ((const struct conf_patterns *)domains->value)->n);
}

static void check_relaying(const struct conf *c, struct conf_messages *msgs)
{
	const struct conf_section *first;

	if (c->listeners.n == 0)
		return;
	for (size_t i = 0; i < c->sources.n; i++)
		if (is_used(c, c->sources.v[i]) && lets_relay(c->sources.v[i]))
			return;
	first = c->listeners.v[0];
	conf_warning(msgs, first->at,
		     "no client may relay: every recipient will be refused: set "
		     "always-allow-relaying = yes in the [source] of your feeders");
}

/* --- providers whose hosts belong to an earlier one --- */

/* One that has all hosts of the pattern and stands before `before`, or NULL. */
static const struct conf_provider *has_all_of(const struct conf *c, size_t before,
					      const struct conf_pattern *pattern)
{
	char host[300];

	snprintf(host, sizeof(host), "%s%.*s", pattern->kind == CONF_PATTERN_EXACT ? "" : "any.",
		 SLICE_ARG(slice_sub(pattern->domain, 0, 255)));
	for (size_t i = 0; i < before; i++)
		if (conf_provider_has_host(conf_provider_at(c, i), slice_str(host)))
			return conf_provider_at(c, i);
	return NULL;
}

static void check_providers(const struct conf *c, struct conf_messages *msgs)
{
	for (size_t i = 1; i < conf_provider_count(c); i++) {
		const struct conf_provider *p = conf_provider_at(c, i);

		for (size_t k = 0; k < p->mx.n; k++) {
			const struct conf_pattern *m = &p->mx.v[k];
			const struct conf_provider *first = has_all_of(c, i, m);

			if (first)
				conf_warning(
					msgs, p->at,
					"[provider %s]: its hosts %s%.*s belong to [provider %s] "
					"of %s:%u, since that stands first: move this section "
					"before it, or add to that one",
					p->name, m->kind == CONF_PATTERN_EXACT ? "" : "*.",
					SLICE_ARG(m->domain), first->name, first->at.file,
					first->at.line);
		}
	}
}

void conf_check_unused(const struct conf *c, struct conf_messages *msgs)
{
	if (conf_messages_have_error(msgs))
		return;
	check_pattern_lists(c, msgs);
	check_relaying(c, msgs);
	check_providers(c, msgs);
}
