/* Values of warm-ups: a date, a schedule, limits for going on. */
#include <stdlib.h>

#include "common/base/localday.h"
#include "common/base/xalloc.h"
#include "common/conf/values.h"

#define COUNTS_MAX 366

static bool not_one(struct conf_value_ctx *c, struct slice s)
{
	buf_addf(c->why, "'%.*s' is not %s", (int)(s.n < 80 ? s.n : 80), s.p,
		 conf_type_rows[c->directive->type].text);
	return false;
}

bool conf_value_date(struct conf_value_ctx *c, struct slice s, const void *prev, void *ret)
{
	uint32_t day;

	(void)prev;
	if (!localday_parse(s, &day) || day == 0)
		return not_one(c, s);
	*(uint32_t *)ret = day;
	return true;
}

bool conf_value_counts(struct conf_value_ctx *c, struct slice s, const void *prev, void *ret)
{
	uint64_t v[COUNTS_MAX];
	size_t n = 0;
	struct slice part;

	(void)prev;
	while (conf_list_next(&s, ',', &part)) {
		if (part.n == 0 && !s.p && n)
			break; /* a trailing comma */
		if (n == COUNTS_MAX) {
			buf_addf(c->why, "more than %d numbers", COUNTS_MAX);
			return false;
		}
		if (!slice_u64(part, &v[n]))
			return not_one(c, part);
		if (v[n] < c->directive->min || v[n] > c->directive->max) {
			buf_addf(c->why, "%.*s is out of range: ", SLICE_ARG(part));
			conf_bounds_text(c->directive, c->why);
			return false;
		}
		if (n && v[n] < v[n - 1] && !c->remark->n)
			buf_addf(c->remark, "the schedule goes down from %llu to %llu",
				 (unsigned long long)v[n - 1], (unsigned long long)v[n]);
		n++;
	}
	*(struct conf_counts *)ret =
		(struct conf_counts){arena_copy(c->arena, v, n, sizeof(*v)), n};
	return true;
}

/* "5%", "0.5%": in millionths. */
static bool parse_share(struct slice s, uint32_t *ret)
{
	uint64_t whole, part = 0;
	ptrdiff_t dot;
	struct slice digits = slice_of("", 0);

	if (s.n < 2 || s.p[s.n - 1] != '%')
		return false;
	s = slice_trim(slice_sub(s, 0, s.n - 1));
	dot = slice_chr(s, '.');
	if (dot >= 0) {
		digits = slice_from(s, (size_t)dot + 1);
		s = slice_sub(s, 0, (size_t)dot);
		if (digits.n == 0 || digits.n > 4 || !slice_u64(digits, &part))
			return false;
	}
	for (size_t i = digits.n; i < 4; i++)
		part *= 10;
	if (!slice_u64(s, &whole) || whole > 100 || whole * 10000 + part > CONF_MILLION)
		return false;
	*ret = (uint32_t)(whole * 10000 + part);
	return true;
}

bool conf_value_advance_if(struct conf_value_ctx *c, struct slice s, const void *prev, void *ret)
{
	struct conf_advance_if a = {UINT32_MAX, UINT32_MAX};
	struct slice part;

	(void)prev;
	if (slice_ieq_str(s, "always"))
		s = slice_of(NULL, 0);
	while (conf_list_next(&s, ',', &part)) {
		ptrdiff_t at = slice_chr(part, '<');
		struct slice name = slice_trim(slice_sub(part, 0, at < 0 ? 0 : (size_t)at));
		uint32_t *to = slice_ieq_str(name, "transient") ? &a.transient
			       : slice_ieq_str(name, "policy")	? &a.policy
								: NULL;

		if (!to || *to != UINT32_MAX ||
		    !parse_share(slice_trim(slice_from(part, (size_t)at + 1)), to))
			return not_one(c, part);
		if (*to == 0) {
			buf_addf(c->why,
				 "'%.*s': no share is below 0, so the number would repeat "
				 "for ever",
				 SLICE_ARG(part));
			return false;
		}
	}
	*(struct conf_advance_if *)ret = a;
	return true;
}
