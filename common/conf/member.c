/*
 * What applies to a domain that is rolled up: message directives come from the domain, then from
 * NAME.rollup, then from `*`; site directives from NAME.rollup; caps and rates that were set for the domain
 * itself hold inside the site, for it alone.
 */
#include <stdlib.h>
#include <string.h>

#include "common/base/xalloc.h"
#include "common/conf/private.h"

#define SCOPE (&conf_scopes[CONF_SCOPE_DOMAIN])

typedef const struct conf_slot *slots[CONF_DOMAIN_ROWS];

/* What was set for the domain by other patterns than `*`, where that is what applies to it alone. */
static void choose_own(const struct conf *c, struct slice domain, struct slice vmta, slots own)
{
	const struct conf_rules *rules[CONF_RULE_SCOPES];
	slots all = {NULL}, before;

	conf_rules_of(c, vmta, rules);
	memset(own, 0, sizeof(slots));
	for (size_t i = 0; i < CONF_RULE_SCOPES; i++) {
		memcpy(before, all, sizeof(slots));
		conf_choose_named(rules[i], domain, all);
		for (size_t k = 0; k < CONF_DOMAIN_ROWS; k++)
			if (!before[k] && all[k])
				own[k] = all[k];
		conf_choose_any(rules[i], all);
	}
}

static void choose_message(const struct conf *c, const struct conf_provider *p, struct slice domain,
			   struct slice vmta, slots ret)
{
	const struct conf_rules *rules[CONF_RULE_SCOPES];

	conf_rules_of(c, vmta, rules);
	for (size_t i = 0; i < CONF_RULE_SCOPES; i++) {
		conf_choose_named(rules[i], domain, ret);
		conf_choose_named(rules[i], slice_str(p->rollup), ret);
		conf_choose_any(rules[i], ret);
	}
}

/* For each directive what applies to a queue of the provider. */
static void choose_member(const struct conf *c, const struct conf_provider *p, struct slice domain,
			  struct slice vmta, slots ret)
{
	slots message = {NULL};

	choose_message(c, p, domain, vmta, message);
	conf_choose_all(c, slice_str(p->rollup), vmta, ret);
	for (size_t i = 0; i < CONF_DOMAIN_ROWS; i++)
		if (SCOPE->rows[i].kind == CONF_KIND_MESSAGE)
			ret[i] = message[i];
}

static size_t row_of(size_t offset)
{
	size_t i = 0;

	while (SCOPE->rows[i].offset != offset)
		i++;
	return i;
}
#define ROW(field) row_of(offsetof(struct conf_domain, field))

/* Set, and not only to take back what a wider section says. */
static bool says_something(const struct conf_slot *slot)
{
	return slot && strcmp(slot->text, "\"\"") != 0;
}

/* Held for a member domain alone, besides what holds for its site. */
static bool is_held_alone(const struct conf_directive *d)
{
	return d->offset == offsetof(struct conf_domain, max_smtp_out) ||
	       d->offset == offsetof(struct conf_domain, max_msg_rate) ||
	       d->offset == offsetof(struct conf_domain, max_connect_rate) ||
	       d->offset == offsetof(struct conf_domain, max_data_volume_rate);
}

static bool is_shadowed(const struct conf_directive *d)
{
	return d->kind == CONF_KIND_SITE && !is_held_alone(d);
}

void conf_rolled_for(const struct conf *c, const struct conf_provider *p, struct slice domain,
		     struct slice vmta, struct conf_rolled *ret)
{
	slots own;

	choose_own(c, domain, vmta, own);
	for (size_t i = 0; i < CONF_DOMAIN_ROWS; i++)
		if (!is_held_alone(&SCOPE->rows[i]))
			own[i] = NULL;
	*ret = (struct conf_rolled){.set = conf_queue_settings(c, p, domain, vmta),
				    .own = conf_intern(c, &c->domain_cache, SCOPE, own)};
	if (says_something(own[ROW(max_smtp_out)]))
		ret->max_smtp_out = ret->own->max_smtp_out;
}

bool conf_keeps_own_site(const struct conf *c, struct slice domain, struct slice vmta)
{
	const struct conf_domain *d = conf_domain_for(c, domain, vmta);
	slots own;

	if (d->disable_mx_rollup || d->type != CONF_DOMAIN_SMTP || d->smtp_hosts.n || d->queue_to)
		return true;
	choose_own(c, domain, vmta, own);
	return says_something(own[ROW(type)]) || says_something(own[ROW(smtp_hosts)]) ||
	       says_something(own[ROW(queue_to)]);
}

const struct conf_domain *conf_queue_settings(const struct conf *c, const struct conf_provider *p,
					      struct slice domain, struct slice vmta)
{
	slots set = {NULL};

	if (!p)
		return conf_domain_for(c, domain, vmta);
	choose_member(c, p, domain, vmta, set);
	return conf_intern(c, &c->domain_cache, SCOPE, set);
}

const struct conf_provider *conf_provider_of_queue(const struct conf *c, struct slice domain,
						   struct slice vmta, struct slice stored)
{
	const struct conf_provider *p = conf_provider_of_domain(c, domain);

	if (!p && stored.n) {
		p = conf_provider_find(c, stored);
		if (p && !p->mx.n && !p->mx_ip.n) /* by look-ups no more */
			p = NULL;
	}
	/* one that left the configuration delivers nothing: its queues have no site but their own */
	return p && conf_vmta_find(c, vmta) && !conf_keeps_own_site(c, domain, vmta) ? p : NULL;
}

bool conf_member_shadowed(const struct conf *c, struct slice domain, struct slice vmta,
			  struct conf_setting *ret)
{
	slots own;

	choose_own(c, domain, vmta, own);
	for (size_t i = 0; i < CONF_DOMAIN_ROWS; i++)
		if (own[i] && is_shadowed(&SCOPE->rows[i])) {
			*ret = (struct conf_setting){.keyword = SCOPE->rows[i].keywords,
						     .value = own[i]->secret ? "***" : own[i]->text,
						     .origin = own[i]->at,
						     .section = own[i]->section};
			return true;
		}
	return false;
}

/* --- show settings --- */

static int by_keyword(const void *va, const void *vb)
{
	const struct conf_directive *const *a = va, *const *b = vb;

	return strcmp((*a)->keywords, (*b)->keywords);
}

static void show_one(const struct conf_directive *d, const struct conf_slot *slot,
		     const struct conf_provider *shadow,
		     void (*each)(const struct conf_setting *s, void *arg), void *arg)
{
	char *keyword = slice_dup(conf_words_first(d->keywords));
	char *text = slot ? conf_slot_text(SCOPE, (size_t)(d - SCOPE->rows), slot) : NULL;
	const struct conf_setting s = {
		.keyword = keyword,
		.value = text	   ? text
			 : *d->def ? d->def
				   : "\"\"",
		.origin = slot ? slot->at : (struct conf_origin){NULL, 0},
		.section = slot ? slot->section : NULL,
		.shadowed_by = shadow ? shadow->name : NULL,
	};

	each(&s, arg);
	free(text);
	free(keyword);
}

void conf_show_settings(const struct conf *c, const struct conf_provider *p, struct slice domain,
			struct slice vmta, void (*each)(const struct conf_setting *s, void *arg),
			void *arg)
{
	const struct conf_directive *sorted[CONF_DOMAIN_ROWS];
	slots chosen = {NULL}, own = {NULL};

	if (p && conf_keeps_own_site(c, domain, vmta))
		p = NULL;
	if (p) {
		choose_member(c, p, domain, vmta, chosen);
		choose_own(c, domain, vmta, own);
	} else {
		conf_choose_all(c, domain, vmta, chosen);
	}
	for (size_t i = 0; i < CONF_DOMAIN_ROWS; i++)
		sorted[i] = &SCOPE->rows[i];
	qsort(sorted, CONF_DOMAIN_ROWS, sizeof(*sorted), by_keyword);
	for (size_t i = 0; i < CONF_DOMAIN_ROWS; i++) {
		size_t row = (size_t)(sorted[i] - SCOPE->rows);

		show_one(sorted[i], chosen[row], NULL, each, arg);
		if (own[row] && own[row] != chosen[row] && sorted[i]->kind == CONF_KIND_SITE)
			show_one(sorted[i], own[row], is_shadowed(sorted[i]) ? p : NULL, each, arg);
	}
}
