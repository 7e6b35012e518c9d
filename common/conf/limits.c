/* Caps with a pattern: which addresses or hosts they are for; and what a pool gives its members. */
#include <string.h>

#include "common/conf/pattern.h"
#include "common/conf/private.h"
#include "common/conf/values.h"

#define LIMIT_MAX 1000000

static bool cidr_same(const struct cidr *a, const struct cidr *b)
{
	return a->bits == b->bits && ip_eq(&a->ip, &b->ip);
}

static bool parse_count(struct conf_value_ctx *c, struct slice number, uint32_t *ret)
{
	uint64_t count;

	if (!slice_u64(number, &count)) {
		buf_addf(c->why, "'%.*s' is not a whole number: write %s", SLICE_ARG(number),
			 conf_type_rows[c->directive->type].text);
		return false;
	}
	if (count < 1 || count > LIMIT_MAX) {
		buf_addf(c->why, "%.*s is out of range: 1 to %d", SLICE_ARG(number), LIMIT_MAX);
		return false;
	}
	*ret = (uint32_t)count;
	return true;
}

/* "CIDR N", and what follows. */
static bool parse_ip_limit(struct conf_value_ctx *c, struct slice *s, struct conf_ip_limit *ret)
{
	struct slice cidr, number;

	if (!conf_word_next(s, &cidr) || !conf_word_next(s, &number) ||
	    !cidr_parse(cidr, &ret->cidr)) {
		buf_addf(c->why, "write %s, for example 192.0.2.0/24 10",
			 conf_type_rows[c->directive->type].text);
		return false;
	}
	return parse_count(c, number, &ret->n);
}

/* Appends it; one for the same addresses is replaced, with a remark. */
static void add_ip_limit(struct conf_value_ctx *c, const struct conf_ip_limits *old,
			 const struct conf_ip_limit *limit, struct conf_ip_limits *ret)
{
	size_t n = old ? old->n : 0;
	struct conf_ip_limit *v = arena_grow(c->arena, old ? old->v : NULL, n, 1, sizeof(*v));
	char text[CIDR_TEXT_MAX];

	for (size_t i = 0; i < n; i++) {
		if (v[i].per_source_ip != limit->per_source_ip ||
		    !cidr_same(&v[i].cidr, &limit->cidr))
			continue;
		buf_addf(c->remark, "%s has a limit of %u already, which this one replaces",
			 cidr_text(&limit->cidr, text), v[i].n);
		memmove(&v[i], &v[i + 1], (n - i - 1) * sizeof(*v));
		n--;
		break;
	}
	v[n++] = *limit;
	*ret = (struct conf_ip_limits){v, n};
}

bool conf_value_ip_limits(struct conf_value_ctx *c, struct slice s, const void *prev, void *ret)
{
	struct conf_ip_limit limit = {.n = 0};
	struct slice form;

	if (!parse_ip_limit(c, &s, &limit))
		return false;
	if (conf_word_next(&s, &form)) {
		limit.per_source_ip = slice_ieq_str(form, "per-source-ip");
		if (!limit.per_source_ip || slice_trim(s).n) {
			buf_addf(c->why, "'%.*s' after the number: only per-source-ip may follow",
				 SLICE_ARG(form));
			return false;
		}
	}
	add_ip_limit(c, prev, &limit, ret);
	return true;
}

bool conf_value_source_limits(struct conf_value_ctx *c, struct slice s, const void *prev, void *ret)
{
	struct conf_ip_limit limit = {.per_source_ip = true};

	if (!parse_ip_limit(c, &s, &limit))
		return false;
	if (slice_trim(s).n) {
		buf_addf(c->why, "'%.*s' after the number: write CIDR N, one a line",
			 SLICE_ARG(slice_trim(s)));
		return false;
	}
	add_ip_limit(c, prev, &limit, ret);
	return true;
}

bool conf_value_mx_limits(struct conf_value_ctx *c, struct slice s, const void *prev, void *ret)
{
	const struct conf_mx_limits *old = prev;
	size_t n = old ? old->n : 0;
	struct conf_mx_limit *v = arena_grow(c->arena, old ? old->v : NULL, n, 1, sizeof(*v));
	struct conf_pattern p;
	struct conf_mx_limit limit;
	struct slice pattern, number;

	if (!conf_word_next(&s, &pattern) || !conf_word_next(&s, &number) || slice_trim(s).n) {
		buf_add_str(c->why, "write MXPATTERN N, for example *.mail.example.com 10");
		return false;
	}
	if (!conf_pattern_parse(pattern, c->arena, &p, c->why))
		return false;
	if (p.kind == CONF_PATTERN_ADDRESS) {
		buf_addf(c->why,
			 "'%.*s' is not the name of a host: for addresses there is "
			 "ip-connection-limit",
			 SLICE_ARG(pattern));
		return false;
	}
	if (!parse_count(c, number, &limit.n))
		return false;
	if (pattern.p[pattern.n - 1] == '.')
		pattern.n--; /* names of hosts come without it */
	limit.pattern = arena_dup_lower(c->arena, pattern);
	for (size_t i = 0; i < n; i++) {
		if (strcmp(v[i].pattern, limit.pattern) != 0)
			continue;
		buf_addf(c->remark, "%s has a limit of %u already, which this one replaces",
			 limit.pattern, v[i].n);
		memmove(&v[i], &v[i + 1], (n - i - 1) * sizeof(*v));
		n--;
		break;
	}
	v[n++] = limit;
	*(struct conf_mx_limits *)ret = (struct conf_mx_limits){v, n};
	return true;
}

/* --- which one applies --- */

const struct conf_ip_limit *conf_source_limit_for(const struct conf_ip_limits *limits,
						  const struct ip *source)
{
	const struct conf_ip_limit *best = NULL;

	for (size_t i = 0; i < limits->n; i++) {
		const struct conf_ip_limit *l = &limits->v[i];

		/* 0/0 is all of both families, so ::/0 is more specific */
		if (cidr_has(&l->cidr, source) &&
		    (!best || l->cidr.bits > best->cidr.bits ||
		     (l->cidr.bits == best->cidr.bits && l->cidr.ip.family == IP_V6)))
			best = l;
	}
	return best;
}

/* How specific the pattern is for this host; 0: it does not match. */
static size_t mx_match(const char *pattern, struct slice host)
{
	struct slice p = slice_str(pattern), suffix;
	bool or_at = slice_istarts(p, "[*.]");

	if (slice_eq_str(p, "*"))
		return 1;
	if (!or_at && !slice_istarts(p, "*."))
		return slice_ieq(p, host) ? SIZE_MAX : 0;
	suffix = slice_from(p, or_at ? 4 : 2);
	if (or_at && slice_ieq(suffix, host))
		return 2 * suffix.n;
	if (host.n <= suffix.n + 1 || host.p[host.n - suffix.n - 1] != '.' ||
	    !slice_ieq(slice_from(host, host.n - suffix.n), suffix))
		return 0;
	return 2 * suffix.n + !or_at;
}

const struct conf_mx_limit *conf_mx_limit_for(const struct conf *c, struct slice host)
{
	const struct conf_mx_limits *all = &conf_global(c)->mx_connection_limit;
	const struct conf_mx_limit *best = NULL;
	size_t most = 0;

	for (size_t i = 0; i < all->n; i++) {
		size_t match = mx_match(all->v[i].pattern, host);

		if (match > most) {
			most = match;
			best = &all->v[i];
		}
	}
	return best;
}

/* --- pools --- */

static bool same_text(const struct conf_slot *a, const struct conf_slot *b)
{
	while (a && b && strcmp(a->text, b->text) == 0) {
		a = a->before;
		b = b->before;
	}
	return !a && !b;
}

/* The virtual MTA takes what the pool says of a directive that it does not set itself. */
static void inherit(struct conf_section *v, const struct conf_section *pool, size_t row,
		    struct conf_messages *msgs)
{
	const struct conf_directive *d = &pool->scope->rows[row];
	struct slice keyword = conf_words_first(d->keywords);
	const struct conf_directive *to = conf_directive_find(v->scope, keyword);
	struct conf_slot *slot = pool->own.slots[row], **at;

	if (!slot || !to || to->type != d->type)
		return;
	at = &v->own.slots[to - v->scope->rows];
	if (*at && (*at)->section == v->display)
		return;
	if (*at && !same_text(*at, slot)) {
		conf_error(msgs, slot->at,
			   "%.*s: virtual MTA %s is also in %s, which says %s (%s:%u): set %.*s in "
			   "%s",
			   SLICE_ARG(keyword), v->name, (*at)->section,
			   (*at)->secret ? "***" : (*at)->text, (*at)->at.file, (*at)->at.line,
			   SLICE_ARG(keyword), v->display);
		return;
	}
	*at = slot;
	memcpy((char *)v->vmta + to->offset, slot->value, conf_type_rows[to->type].size);
}

/* It has a limit of its own over its members. */
static bool is_capped(const struct conf_pool *p)
{
	return p->max_smtp_out > 0 || !conf_rate_is_unlimited(&p->max_msg_rate);
}

static size_t capped_pools(const struct conf_vmta *v)
{
	size_t n = 0;

	for (size_t i = 0; i < v->pool_count; i++)
		n += is_capped(v->pools[i]);
	return n;
}

void conf_pool_to_members(struct conf *c, struct conf_section *pool, struct conf_messages *msgs)
{
	const struct conf_pool *p = pool->pool;

	for (size_t i = 0; i < p->member_count; i++) {
		struct conf_section *v =
			conf_section_find(c, CONF_SCOPE_VMTA, slice_str(p->members[i]->name));
		const struct conf_pool **pools = arena_grow(&c->arena, v->vmta->pools,
							    v->vmta->pool_count, 1, sizeof(*pools));

		pools[v->vmta->pool_count++] = p;
		v->vmta->pools = pools;
		for (size_t row = 0; row < pool->scope->n; row++)
			inherit(v, pool, row, msgs);
		if (is_capped(p) && capped_pools(v->vmta) > CONF_CAPPED_POOLS_MAX)
			conf_error(
				msgs, pool->at,
				"virtual MTA %s is in more than %d pools with pool-max-smtp-out or "
				"pool-max-msg-rate",
				v->name, CONF_CAPPED_POOLS_MAX);
	}
}
