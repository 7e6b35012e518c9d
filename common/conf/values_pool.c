/* Values of pools and of the numbers a day. */
#include "common/base/xalloc.h"
#include "common/conf/settings.h"
#include "common/conf/values.h"

#define SHARE_MAX 1000000000
#define DAYS_MAX 366

static bool parse_number(struct slice s, uint64_t max, uint64_t *ret)
{
	uint64_t v;

	if (!slice_u64(s, &v) || v > max)
		return false;
	*ret = v;
	return true;
}

/* "NAME", "NAME weight N", "NAME count N" */
static bool parse_member(struct conf_value_ctx *c, struct slice s, struct conf_member *ret)
{
	struct slice rest = s, name, share, number, more;

	*ret = (struct conf_member){.share = CONF_SHARE_NONE, .n = 1};
	if (!conf_word_next(&rest, &name) || !conf_unquote(name, c->arena, &name))
		return false;
	ret->name = arena_dup(c->arena, name);
	if (!conf_word_next(&rest, &share))
		return true;
	if (slice_ieq_str(share, "weight"))
		ret->share = CONF_SHARE_WEIGHT;
	else if (slice_ieq_str(share, "count"))
		ret->share = CONF_SHARE_COUNT;
	else
		return false;
	return conf_word_next(&rest, &number) && parse_number(number, SHARE_MAX, &ret->n) &&
	       ret->n > 0 && !conf_word_next(&rest, &more);
}

bool conf_value_members(struct conf_value_ctx *c, struct slice s, const void *prev, void *ret)
{
	const struct conf_members *old = prev;
	size_t n = old ? old->n : 0;
	struct conf_member *v =
		arena_grow(c->arena, old ? old->v : NULL, n, s.n / 2 + 1, sizeof(*v));
	struct slice part;

	while (conf_list_next(&s, ',', &part)) {
		if (part.n == 0 && !s.p)
			break; /* a trailing comma */
		if (!parse_member(c, part, &v[n])) {
			buf_addf(c->why, "'%.*s' is not NAME [weight N | count N], N from 1 to %d",
				 SLICE_ARG(part), SHARE_MAX);
			return false;
		}
		n++;
	}
	*(struct conf_members *)ret = (struct conf_members){v, n};
	return true;
}

/* "N/d"; also "N/day" and "N/1d". */
static bool parse_per_day(struct slice s, uint64_t *ret)
{
	static const char *const units[] = {"d", "day", "1d", "1day"};
	ptrdiff_t slash = slice_chr(s, '/');
	size_t i;

	if (slash <= 0 || !parse_number(slice_sub(s, 0, (size_t)slash), SHARE_MAX, ret))
		return false;
	for (i = 0; i < ARRAY_SIZE(units); i++)
		if (slice_ieq_str(slice_from(s, (size_t)slash + 1), units[i]))
			return true;
	return false;
}

bool conf_value_per_day(struct conf_value_ctx *c, struct slice s, const void *prev, void *ret)
{
	uint64_t v[DAYS_MAX];
	struct slice part;
	size_t n = 0;

	(void)prev;
	while (conf_list_next(&s, ',', &part)) {
		if (part.n == 0 && !s.p && n)
			break; /* a trailing comma */
		if (n == DAYS_MAX) {
			buf_addf(c->why, "more than %d days", DAYS_MAX);
			return false;
		}
		if (!parse_per_day(part, &v[n++])) {
			buf_addf(c->why, "'%.*s' is not a number a day such as 1000/d",
				 SLICE_ARG(part));
			return false;
		}
	}
	*(struct conf_per_day *)ret =
		(struct conf_per_day){arena_copy(c->arena, v, n, sizeof(*v)), n};
	return true;
}
