/* Rates: N per time, of recipients, connections or bytes; for all, or by local address. */
#include <string.h>

#include "common/base/macros.h"
#include "common/conf/arena.h"
#include "common/conf/scope.h"
#include "common/conf/values.h"

/* "h", "15m", "2 hours" without the space. */
static bool parse_window(struct slice s, usec_t *ret)
{
	static const struct {
		const char *names;
		usec_t n;
	} units[] = {
		{"s sec secs second seconds", CONF_SEC},
		{"m min mins minute minutes", CONF_MIN},
		{"h hr hrs hour hours", CONF_HOUR},
		{"d day days", CONF_DAY},
	};
	size_t digits = 0;
	uint64_t m = 1;

	while (digits < s.n && s.p[digits] >= '0' && s.p[digits] <= '9')
		digits++;
	if (digits && (!slice_u64(slice_sub(s, 0, digits), &m) || m == 0))
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(units); i++)
		if (conf_words_have(units[i].names, slice_from(s, digits)))
			return !__builtin_mul_overflow(m, units[i].n, ret);
	return false;
}

static bool parse(struct slice s, bool volume, struct conf_rate *ret)
{
	struct conf_rate r = {.n = UINT64_MAX, .per = CONF_SEC};
	ptrdiff_t slash = slice_chr(s, '/');
	struct slice n = slice_sub(s, 0, slash < 0 ? 0 : (size_t)slash);

	if (!slice_ieq_str(s, "unlimited") && !slice_eq_str(s, "0")) {
		if (slash < 0 || !(volume ? conf_parse_size(n, &r.n) : slice_u64(n, &r.n)) ||
		    r.n == 0 || r.n == UINT64_MAX ||
		    !parse_window(slice_from(s, (size_t)slash + 1), &r.per))
			return false;
	}
	*ret = r;
	return true;
}

bool conf_parse_rate(struct slice s, struct conf_rate *ret)
{
	return parse(s, false, ret);
}

bool conf_parse_volume_rate(struct slice s, struct conf_rate *ret)
{
	return parse(s, true, ret);
}

static bool is_volume(const struct conf_value_ctx *c)
{
	return c->directive->type == CONF_VOLUME_RATE || c->directive->type == CONF_IP_VOLUME_RATES;
}

/* max-msg-per-hour = N: PowerMTA's older way to write max-msg-rate = N/h. */
static bool is_per_hour(struct slice keyword)
{
	static const char end[] = "-per-hour";
	size_t n = sizeof(end) - 1;

	return keyword.n > n && slice_ieq_str(slice_from(keyword, keyword.n - n), end);
}

static bool take_per_hour(struct conf_value_ctx *c, struct slice s, struct conf_rate *ret)
{
	uint64_t n;

	if (!slice_u64(s, &n) || n == UINT64_MAX) {
		buf_addf(c->why, "'%.*s' is not a whole number: write %.*s = N/h", SLICE_ARG(s),
			 SLICE_ARG(conf_words_first(c->directive->keywords)));
		return false;
	}
	*ret = (struct conf_rate){.n = n ? n : UINT64_MAX, .per = CONF_HOUR};
	c->shown = n ? arena_printf(c->arena, "%llu/h", (unsigned long long)n) : "unlimited";
	buf_addf(c->remark, "is an old name: write %.*s = %s",
		 SLICE_ARG(conf_words_first(c->directive->keywords)), c->shown);
	return true;
}

static bool take_rate(struct conf_value_ctx *c, struct slice s, struct conf_rate *ret)
{
	if (!parse(s, is_volume(c), ret)) {
		buf_addf(c->why, "'%.*s' is not %s", (int)(s.n < 80 ? s.n : 80), s.p,
			 conf_type_rows[is_volume(c) ? CONF_VOLUME_RATE : CONF_RATE].text);
		return false;
	}
	if (slice_eq_str(s, "0"))
		buf_add_str(c->remark, "0 means unlimited: write unlimited to say so");
	return true;
}

bool conf_value_rate(struct conf_value_ctx *c, struct slice s, const void *prev, void *ret)
{
	(void)prev;
	return is_per_hour(c->keyword) ? take_per_hour(c, s, ret) : take_rate(c, s, ret);
}

bool conf_value_ip_rates(struct conf_value_ctx *c, struct slice s, const void *prev, void *ret)
{
	const struct conf_ip_rates *old = prev;
	size_t n = old ? old->n : 0;
	struct conf_ip_rate *v = arena_grow(c->arena, old ? old->v : NULL, n, 1, sizeof(*v)), r;
	struct slice cidr, rate;

	if (!conf_word_next(&s, &cidr) || !conf_word_next(&s, &rate) ||
	    !cidr_parse(cidr, &r.cidr) || slice_trim(s).n) {
		buf_addf(c->why, "write CIDR RATE, one a line, for example 192.0.2.0/24 %s",
			 is_volume(c) ? "10M/m" : "100/h");
		return false;
	}
	if (!take_rate(c, rate, &r.rate))
		return false;
	for (size_t i = 0; i < n; i++) {
		if (v[i].cidr.bits != r.cidr.bits || !ip_eq(&v[i].cidr.ip, &r.cidr.ip))
			continue;
		buf_addf(c->remark, "%.*s has a rate already, which this one replaces",
			 SLICE_ARG(cidr));
		memmove(&v[i], &v[i + 1], (n - i - 1) * sizeof(*v));
		n--;
		break;
	}
	v[n++] = r;
	*(struct conf_ip_rates *)ret = (struct conf_ip_rates){v, n};
	return true;
}

const struct conf_rate *conf_ip_rate_for(const struct conf_ip_rates *rates, const struct ip *source)
{
	const struct conf_ip_rate *best = NULL;

	for (size_t i = 0; i < rates->n; i++) {
		const struct conf_ip_rate *r = &rates->v[i];

		/* 0/0 is all of both families, so ::/0 is more specific */
		if (cidr_has(&r->cidr, source) &&
		    (!best || r->cidr.bits > best->cidr.bits ||
		     (r->cidr.bits == best->cidr.bits && r->cidr.ip.family == IP_V6)))
			best = r;
	}
	return best && !conf_rate_is_unlimited(&best->rate) ? &best->rate : NULL;
}

static const char *unit_text(usec_t per, uint64_t *ret_m)
{
	static const struct {
		usec_t n;
		const char *unit;
	} units[] = {{CONF_DAY, "d"}, {CONF_HOUR, "h"}, {CONF_MIN, "m"}, {CONF_SEC, "s"}};

	for (size_t i = 0; i < ARRAY_SIZE(units); i++) {
		*ret_m = per / units[i].n;
		if (per % units[i].n == 0 && *ret_m)
			return units[i].unit;
	}
	return "s";
}

void conf_rate_text(const struct conf_rate *r, bool volume, struct buf *to)
{
	static const char size[] = "\0KMGT";
	uint64_t m, n = r->n;
	const char *unit = unit_text(r->per, &m);
	size_t k = 0;

	if (conf_rate_is_unlimited(r)) {
		buf_add_str(to, "unlimited");
		return;
	}
	while (volume && n % 1024 == 0 && k < sizeof(size) - 2) {
		n /= 1024;
		k++;
	}
	buf_addf(to, "%llu%.1s/", (unsigned long long)n, &size[k]);
	if (m > 1)
		buf_addf(to, "%llu", (unsigned long long)m);
	buf_add_str(to, unit);
}
