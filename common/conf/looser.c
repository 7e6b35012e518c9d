/*
 * Warnings: what `*` of a virtual MTA or pool says beats what is said globally about a domain, so a cap or
 * rate there may let more through than somebody meant for that domain.
 */
#include <stdlib.h>

#include "common/conf/private.h"

#define SCOPE (&conf_scopes[CONF_SCOPE_DOMAIN])

/* The numbers of these are upper limits. */
static bool is_cap(const struct conf_directive *d)
{
	static const char *const fronts[] = {"max-", "backoff-max-", "source-ip-max-"};

	for (size_t i = 0; i < ARRAY_SIZE(fronts); i++)
		if (slice_istarts(slice_str(d->keywords), fronts[i]))
			return true;
	return false;
}

/* Both are set; more connections or messages are looser, 0 is no limit. */
static bool more(const struct conf_directive *d, uint64_t a, uint64_t b)
{
	/* a twin that was cleared is found out: there is nothing to compare */
	if (!*d->def && (!a || !b))
		return false;
	return (a ? a : UINT64_MAX) > (b ? b : UINT64_MAX);
}

static bool faster(const struct conf_rate *a, const struct conf_rate *b)
{
	if (!a->per || !b->per || conf_rate_is_unlimited(b))
		return false; /* a twin that was cleared; nothing is faster */
	return conf_rate_is_unlimited(a) ||
	       (unsigned __int128)a->n * b->per > (unsigned __int128)b->n * a->per;
}

/* Is there a network of b whose addresses have a higher limit in a, or none? */
static bool more_by_source(const struct conf_ip_limits *a, const struct conf_ip_limits *b)
{
	for (size_t i = 0; i < b->n; i++) {
		const struct conf_ip_limit *l = conf_source_limit_for(a, &b->v[i].cidr.ip);

		if (!l || l->n > b->v[i].n)
			return true;
	}
	return false;
}

static bool faster_by_source(const struct conf_ip_rates *a, const struct conf_ip_rates *b)
{
	for (size_t i = 0; i < b->n; i++) {
		const struct conf_rate *r = conf_ip_rate_for(a, &b->v[i].cidr.ip);

		if (!conf_rate_is_unlimited(&b->v[i].rate) && (!r || faster(r, &b->v[i].rate)))
			return true;
	}
	return false;
}

static bool is_looser(const struct conf_directive *d, const struct conf_slot *a,
		      const struct conf_slot *b)
{
	if (slice_eq_str(conf_words_first(d->keywords), "require-starttls"))
		return !*(const bool *)a->value && *(const bool *)b->value;
	if (!is_cap(d))
		return false;
	switch (d->type) {
	case CONF_UINT:
		return more(d, *(const uint64_t *)a->value, *(const uint64_t *)b->value);
	case CONF_RATE:
	case CONF_VOLUME_RATE:
		return faster(a->value, b->value);
	case CONF_SOURCE_LIMITS:
		return more_by_source(a->value, b->value);
	case CONF_IP_RATES:
	case CONF_IP_VOLUME_RATES:
		return faster_by_source(a->value, b->value);
	default:
		return false;
	}
}

static void warn_looser(const struct conf_overlay *any, const struct conf_overlay *specific,
			struct conf_messages *msgs)
{
	for (size_t i = 0; i < SCOPE->n; i++) {
		const struct conf_directive *d = &SCOPE->rows[i];
		const struct conf_slot *a = any->slots[i], *b = specific->slots[i];
		char *text;

		if (!a || !b || !is_looser(d, a, b))
			continue;
		text = conf_slot_text(SCOPE, i, b);
		conf_warning(msgs, a->at,
			     "%.*s of %s is looser than %s of %s (%s:%u), which it hides for this "
			     "virtual MTA or pool",
			     SLICE_ARG(conf_words_first(d->keywords)), a->section, text, b->section,
			     b->at.file, b->at.line);
		free(text);
	}
}

static const struct conf_overlay *domain_overlay(const struct conf_section *s)
{
	return s->scope->id == CONF_SCOPE_DOMAIN ? &s->own : &s->domains;
}

void conf_check_looser(const struct conf *c, struct conf_messages *msgs)
{
	for (size_t i = 0; i < c->sections.n; i++) {
		const struct conf_overlay *any = domain_overlay(c->sections.v[i]);

		if (!any->any_of_vmta || !any->set)
			continue;
		for (size_t j = 0; j < c->sections.n; j++) {
			const struct conf_overlay *o = domain_overlay(c->sections.v[j]);

			if (o->specific_global && o->set)
				warn_looser(any, o, msgs);
		}
	}
}
