/*
 * Warnings: what `*` of a virtual MTA or pool says beats what is said globally about a domain, so a cap or
 * rate there may let more through than somebody meant for that domain.
 */
#include <stdlib.h>

#include "common/base/xalloc.h"
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

static bool is_starttls(const struct conf_directive *d)
{
	return slice_eq_str(conf_words_first(d->keywords), "require-starttls");
}

static bool is_looser(const struct conf_directive *d, const struct conf_slot *a,
		      const struct conf_slot *b)
{
	if (is_starttls(d))
		return !*(const bool *)a->value && *(const bool *)b->value;
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

static const struct conf_overlay *domain_overlay(const struct conf_section *s)
{
	return s->scope->id == CONF_SCOPE_DOMAIN ? &s->own : &s->domains;
}

static void warn(size_t row, const struct conf_slot *a, const struct conf_slot *b, size_t others,
		 struct conf_messages *msgs)
{
	char *text = conf_slot_text(SCOPE, row, b);
	char *more_text = others ? xasprintf(", and %zu more", others) : xstrdup("");

	conf_warning(msgs, a->at,
		     "%.*s of %s is looser than %s of %s (%s:%u)%s, which it hides for this "
		     "virtual MTA or pool",
		     SLICE_ARG(conf_words_first(SCOPE->rows[row].keywords)), a->section, text,
		     b->section, b->at.file, b->at.line, more_text);
	free(more_text);
	free(text);
}

/* Once for each line, whatever the number of domains: there may be many of both. */
static void check_row(const struct conf_ptrs *specific, size_t row, const struct conf_slot *a,
		      struct conf_messages *msgs)
{
	const struct conf_slot *first = NULL;
	size_t n = 0;

	for (size_t i = 0; i < specific->n; i++) {
		const struct conf_overlay *o = specific->v[i];
		const struct conf_slot *b = o->slots[row];

		if (!b || !is_looser(&SCOPE->rows[row], a, b))
			continue;
		if (n++ == 0)
			first = b;
	}
	if (first)
		warn(row, a, first, n - 1, msgs);
}

void conf_check_looser(const struct conf *c, struct conf_messages *msgs)
{
	struct conf_ptrs specific = {NULL, 0, 0};

	for (size_t i = 0; i < c->sections.n; i++) {
		const struct conf_overlay *o = domain_overlay(c->sections.v[i]);

		if (o->specific_global && o->set)
			conf_ptrs_add(&specific, (void *)(uintptr_t)o);
	}
	for (size_t i = 0; i < c->sections.n && specific.n; i++) {
		const struct conf_overlay *any = domain_overlay(c->sections.v[i]);

		for (size_t row = 0; any->any_of_vmta && any->set && row < SCOPE->n; row++) {
			const struct conf_directive *d = &SCOPE->rows[row];

			if (any->slots[row] && (is_cap(d) || is_starttls(d)))
				check_row(&specific, row, any->slots[row], msgs);
		}
	}
	free(specific.v);
}
