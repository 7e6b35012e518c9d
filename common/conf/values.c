#include "common/conf/values.h"

#include "common/base/log.h"
#include "common/conf/pattern.h"

bool conf_unquote(struct slice s, struct arena *a, struct slice *ret)
{
	bool quoted = s.n && s.p[0] == '"';
	char *to = arena_alloc(a, s.n + 1);
	size_t n = 0;

	for (size_t i = quoted; i < s.n; i++) {
		char c = s.p[i];

		if (c == '\\' && i + 1 < s.n && strchr(" \"$\\", s.p[i + 1])) {
			to[n++] = s.p[++i];
		} else if (c == '"' && quoted) {
			if (i + 1 != s.n)
				return false;
			*ret = slice_of(to, n);
			return true;
		} else {
			to[n++] = c;
		}
	}
	*ret = slice_of(to, n);
	return !quoted;
}

bool conf_list_next(struct slice *rest, char sep, struct slice *ret)
{
	bool quoted = false;
	size_t i;

	if (!rest->p)
		return false;
	for (i = 0; i < rest->n; i++) {
		char c = rest->p[i];

		if (c == '\\' && i + 1 < rest->n)
			i++;
		else if (c == '"')
			quoted = !quoted;
		else if (c == sep && !quoted)
			break;
	}
	if (i < rest->n) {
		*ret = slice_trim(slice_sub(*rest, 0, i));
		*rest = slice_from(*rest, i + 1);
	} else {
		*ret = slice_trim(*rest);
		*rest = slice_of(NULL, 0);
	}
	return true;
}

bool conf_word_next(struct slice *rest, struct slice *ret)
{
	size_t i = 0;

	*rest = slice_trim(*rest);
	if (rest->n == 0)
		return false;
	while (i < rest->n && rest->p[i] != ' ' && rest->p[i] != '\t')
		i++;
	*ret = slice_sub(*rest, 0, i);
	*rest = slice_from(*rest, i);
	return true;
}

/* Takes digits from the front of *s. */
static bool take_number(struct slice *s, uint64_t *ret)
{
	size_t i = 0;

	while (i < s->n && s->p[i] >= '0' && s->p[i] <= '9')
		i++;
	if (!slice_u64(slice_sub(*s, 0, i), ret))
		return false;
	*s = slice_from(*s, i);
	return true;
}

/* Takes letters from the front of *s. */
static struct slice take_letters(struct slice *s)
{
	struct slice word;
	size_t i = 0;

	while (i < s->n && ascii_lower(s->p[i]) >= 'a' && ascii_lower(s->p[i]) <= 'z')
		i++;
	word = slice_sub(*s, 0, i);
	*s = slice_from(*s, i);
	return word;
}

struct unit {
	const char *names;
	uint64_t n;
};

static const struct unit time_units[] = {
	{"w", 7 * CONF_DAY}, {"d", CONF_DAY}, {"h", CONF_HOUR},
	{"m", CONF_MIN},     {"s", CONF_SEC}, {"ms", CONF_MSEC},
};

bool conf_parse_time(struct slice s, usec_t *ret)
{
	usec_t total = 0, part;
	size_t next = 0;

	if (slice_eq_str(s, "0")) {
		*ret = 0;
		return true;
	}
	if (s.n == 0)
		return false;
	while (s.n) {
		struct slice unit;
		uint64_t n;

		if (!take_number(&s, &n))
			return false;
		unit = take_letters(&s);
		while (next < ARRAY_SIZE(time_units) &&
		       !slice_ieq_str(unit, time_units[next].names))
			next++;
		if (next == ARRAY_SIZE(time_units) ||
		    __builtin_mul_overflow(n, time_units[next].n, &part) ||
		    __builtin_add_overflow(total, part, &total) || total == USEC_INFINITY)
			return false;
		next++;
	}
	*ret = total;
	return true;
}

bool conf_parse_size(struct slice s, uint64_t *ret)
{
	static const struct unit units[] = {
		{"b", 1},
		{"k kb kib", CONF_KIB},
		{"m mb mib", CONF_MIB},
		{"g gb gib", CONF_GIB},
		{"t tb tib", UINT64_C(1024) * CONF_GIB},
	};
	struct slice unit;
	uint64_t n;

	if (!take_number(&s, &n))
		return false;
	unit = take_letters(&s);
	if (s.n)
		return false;
	if (unit.n == 0) {
		*ret = n;
		return n != UINT64_MAX;
	}
	for (size_t i = 0; i < ARRAY_SIZE(units); i++) {
		if (!conf_words_have(units[i].names, unit))
			continue;
		return !__builtin_mul_overflow(n, units[i].n, ret) && *ret != UINT64_MAX;
	}
	return false;
}

/* The standard text for a value that cannot be read. */
static bool not_a(struct conf_value_ctx *c, struct slice s)
{
	size_t shown = s.n < 80 ? s.n : 80;

	buf_addf(c->why, "'%.*s%s' is not %s", (int)shown, s.p, shown < s.n ? "…" : "",
		 conf_type_rows[c->directive->type].text);
	return false;
}

static bool out_of_range(struct conf_value_ctx *c, struct slice s)
{
	buf_addf(c->why, "%.*s is out of range: ", SLICE_ARG(s));
	conf_bounds_text(c->directive, c->why);
	return false;
}

static bool bounded(struct conf_value_ctx *c, struct slice s, uint64_t v, void *ret)
{
	if (v < c->directive->min || v > c->directive->max)
		return out_of_range(c, s);
	*(uint64_t *)ret = v;
	return true;
}

static bool parse_bool(struct conf_value_ctx *c, struct slice s, const void *prev, void *ret)
{
	bool yes = slice_ieq_str(s, "yes") || slice_ieq_str(s, "true");

	(void)prev;
	if (!yes && !slice_ieq_str(s, "no") && !slice_ieq_str(s, "false"))
		return not_a(c, s);
	*(bool *)ret = yes;
	return true;
}

/* Of limits, of which 0 is none; the other numbers from 0 have small bounds (priorities, counts). */
#define LIMIT_MAX 1000000

static bool parse_uint(struct conf_value_ctx *c, struct slice s, const void *prev, void *ret)
{
	uint64_t v;

	(void)prev;
	if (c->directive->min == 0 && c->directive->max >= LIMIT_MAX &&
	    slice_ieq_str(s, "unlimited")) {
		v = 0;
	} else if (!slice_u64(s, &v)) {
		not_a(c, s);
		buf_add_str(c->why, ": ");
		conf_bounds_text(c->directive, c->why);
		return false;
	}
	return bounded(c, s, v, ret);
}

static bool parse_percent(struct conf_value_ctx *c, struct slice s, const void *prev, void *ret)
{
	struct slice number = s;
	uint64_t v;

	(void)prev;
	if (s.n && s.p[s.n - 1] == '%')
		number = slice_trim(slice_sub(s, 0, s.n - 1));
	if (!slice_u64(number, &v))
		return not_a(c, s);
	return bounded(c, s, v, ret);
}

static bool is_never(const struct conf_value_ctx *c, struct slice s)
{
	return c->directive->max == CONF_NEVER &&
	       (slice_ieq_str(s, "never") || slice_ieq_str(s, "unlimited"));
}

static bool parse_time(struct conf_value_ctx *c, struct slice s, const void *prev, void *ret)
{
	usec_t v;
	uint64_t n;

	(void)prev;
	if (is_never(c, s)) {
		v = USEC_INFINITY;
	} else if (!conf_parse_time(s, &v)) {
		not_a(c, s);
		if (slice_u64(s, &n))
			buf_addf(c->why, ": a unit is missing");
		return false;
	}
	return bounded(c, s, v, ret);
}

static bool parse_times(struct conf_value_ctx *c, struct slice s, const void *prev, void *ret)
{
	usec_t v[30];
	size_t n = 0;
	struct slice part;

	(void)prev;
	while (conf_list_next(&s, ',', &part)) {
		if (n == ARRAY_SIZE(v)) {
			buf_addf(c->why, "more than %zu times", ARRAY_SIZE(v));
			return false;
		}
		if (!parse_time(c, part, NULL, &v[n]))
			return false;
		n++;
	}
	*(struct conf_times *)ret = (struct conf_times){arena_copy(c->arena, v, n, sizeof(*v)), n};
	return true;
}

static bool parse_bool_time(struct conf_value_ctx *c, struct slice s, const void *prev, void *ret)
{
	usec_t v;

	(void)prev;
	if (slice_ieq_str(s, "yes") || slice_ieq_str(s, "true"))
		v = 0;
	else if (slice_ieq_str(s, "no") || slice_ieq_str(s, "false"))
		v = CONF_TIME_NO;
	else if (slice_ieq_str(s, "never"))
		v = USEC_INFINITY;
	else if (!conf_parse_time(s, &v))
		return not_a(c, s);
	*(usec_t *)ret = v;
	return true;
}

static bool parse_size(struct conf_value_ctx *c, struct slice s, const void *prev, void *ret)
{
	enum conf_type type = c->directive->type;
	uint64_t v;

	(void)prev;
	if (is_never(c, s))
		v = UINT64_MAX;
	else if (!conf_parse_size(s, &v))
		return not_a(c, s);
	if (type == CONF_SIZE_0 && v == 0)
		v = UINT64_MAX;
	if (type == CONF_SIZE_POW2 && (v & (v - 1)) != 0)
		return not_a(c, s);
	return bounded(c, s, v, ret);
}

static bool keep(struct conf_value_ctx *c, struct slice s, void *ret)
{
	*(const char **)ret = arena_dup(c->arena, s);
	return true;
}

static bool parse_string(struct conf_value_ctx *c, struct slice s, const void *prev, void *ret)
{
	(void)prev;
	return keep(c, s, ret);
}

static bool parse_path(struct conf_value_ctx *c, struct slice s, const void *prev, void *ret)
{
	(void)prev;
	if (c->directive->type == CONF_LOG &&
	    (slice_ieq_str(s, "stderr") || slice_ieq_str(s, "journald")))
		*(const char **)ret = arena_dup_lower(c->arena, s);
	else if (s.n && s.p[0] == '/')
		*(const char **)ret = arena_dup(c->arena, s);
	else
		return not_a(c, s);
	return true;
}

/* Visible ASCII but no quotes, commas and slashes. */
static bool is_name(struct slice s)
{
	for (size_t i = 0; i < s.n; i++)
		if (s.p[i] <= ' ' || s.p[i] > '~' || strchr("\",/", s.p[i]))
			return false;
	return s.n > 0;
}

static bool parse_name(struct conf_value_ctx *c, struct slice s, const void *prev, void *ret)
{
	(void)prev;
	if (c->directive->type == CONF_ROUTE && slice_ieq_str(s, "by-smtp-source-ip")) {
		buf_add_str(c->why, "by-smtp-source-ip is not supported by this version");
		return false;
	}
	return is_name(s) ? keep(c, s, ret) : not_a(c, s);
}

static bool parse_host(struct conf_value_ctx *c, struct slice s, const void *prev, void *ret)
{
	struct ip ip;

	(void)prev;
	if (!conf_domain_valid(s) && !conf_address_literal(s, &ip))
		return not_a(c, s);
	return keep(c, s, ret);
}

static bool parse_header(struct conf_value_ctx *c, struct slice s, const void *prev, void *ret)
{
	(void)prev;
	return is_name(s) && slice_chr(s, ':') < 0 ? keep(c, s, ret) : not_a(c, s);
}

struct choice {
	enum conf_type type;
	const char *word;
	int value;
};

static const struct choice choices[] = {
	{CONF_SELECTION, "round-robin", CONF_ROUND_ROBIN},
	{CONF_SELECTION, "weighted", CONF_WEIGHTED},
	{CONF_SELECTION, "sequential", CONF_SEQUENTIAL},
	{CONF_RESET_COUNT, "never", CONF_RESET_NEVER},
	{CONF_RESET_COUNT, "daily", CONF_RESET_DAILY},
	{CONF_RESELECT, "never", CONF_RESELECT_NEVER},
	{CONF_RESELECT, "backoff", CONF_RESELECT_BACKOFF},
	{CONF_LOG_LEVEL, "error", LOG_LEVEL_ERROR},
	{CONF_LOG_LEVEL, "warn", LOG_LEVEL_WARN},
	{CONF_LOG_LEVEL, "info", LOG_LEVEL_INFO},
	{CONF_LOG_LEVEL, "debug", LOG_LEVEL_DEBUG},
	{CONF_DATE_HEADER, "no", CONF_DATE_NO},
	{CONF_DATE_HEADER, "false", CONF_DATE_NO},
	{CONF_DATE_HEADER, "yes", CONF_DATE_YES},
	{CONF_DATE_HEADER, "true", CONF_DATE_YES},
	{CONF_DATE_HEADER, "override", CONF_DATE_OVERRIDE},
	{CONF_DOMAIN_TYPE, "smtp", CONF_DOMAIN_SMTP},
	{CONF_DOMAIN_TYPE, "discard", CONF_DOMAIN_DISCARD},
	{CONF_ACCT_FORMAT, "csv", CONF_ACCT_CSV},
	{CONF_ACCT_FORMAT, "json", CONF_ACCT_JSON},
	{CONF_PACE, "even", CONF_PACE_EVEN},
	{CONF_PACE, "none", CONF_PACE_NONE},
	{CONF_COMPRESS, "none", CONF_COMPRESS_NONE},
	{CONF_COMPRESS, "gzip", CONF_COMPRESS_GZIP},
	{CONF_COMPRESS, "zstd", CONF_COMPRESS_ZSTD},
};

static bool parse_choice(struct conf_value_ctx *c, struct slice s, const void *prev, void *ret)
{
	static const char *const later[] = {"pipe", "file", "http-delivery"};

	(void)prev;
	for (size_t i = 0; i < ARRAY_SIZE(choices); i++)
		if (choices[i].type == c->directive->type && slice_ieq_str(s, choices[i].word)) {
			*(int *)ret = choices[i].value;
			return true;
		}
	for (size_t i = 0; c->directive->type == CONF_DOMAIN_TYPE && i < ARRAY_SIZE(later); i++)
		if (slice_ieq_str(s, later[i])) {
			buf_addf(c->why, "%s is not supported by this version", later[i]);
			return false;
		}
	return not_a(c, s);
}

struct type_parser {
	conf_value_parser *parse;
	bool whole; /* takes the text as written, quotes inside */
	bool adds_up; /* several lines add up */
};

static const struct type_parser parsers[CONF_TYPE_COUNT] = {
	[CONF_BOOL] = {parse_bool, false, false},
	[CONF_UINT] = {parse_uint, false, false},
	[CONF_PERCENT] = {parse_percent, false, false},
	[CONF_TIME] = {parse_time, false, false},
	[CONF_TIMES] = {parse_times, false, false},
	[CONF_BOOL_TIME] = {parse_bool_time, false, false},
	[CONF_SIZE] = {parse_size, false, false},
	[CONF_SIZE_0] = {parse_size, false, false},
	[CONF_SIZE_POW2] = {parse_size, false, false},
	[CONF_RATE] = {conf_value_rate, false, false},
	[CONF_VOLUME_RATE] = {conf_value_rate, false, false},
	[CONF_IP_RATES] = {conf_value_ip_rates, false, true},
	[CONF_IP_VOLUME_RATES] = {conf_value_ip_rates, false, true},
	[CONF_STRING] = {parse_string, false, false},
	[CONF_PATH] = {parse_path, false, false},
	[CONF_LOG] = {parse_path, false, false},
	[CONF_NAME] = {parse_name, false, false},
	[CONF_HOST] = {parse_host, false, false},
	[CONF_HEADER] = {parse_header, false, false},
	[CONF_ROUTE] = {parse_name, false, false},
	[CONF_LOG_LEVEL] = {parse_choice, false, false},
	[CONF_DATE_HEADER] = {parse_choice, false, false},
	[CONF_DOMAIN_TYPE] = {parse_choice, false, false},
	[CONF_ACCT_FORMAT] = {parse_choice, false, false},
	[CONF_COMPRESS] = {parse_choice, false, false},
	[CONF_PACE] = {parse_choice, false, false},
	[CONF_DATE] = {conf_value_date, false, false},
	[CONF_COUNTS] = {conf_value_counts, false, false},
	[CONF_ADVANCE_IF] = {conf_value_advance_if, false, false},
	[CONF_LIST] = {conf_value_strings, true, false},
	[CONF_MEMBERS] = {conf_value_members, true, true},
	[CONF_SELECTION] = {parse_choice, false, false},
	[CONF_RESET_COUNT] = {parse_choice, false, false},
	[CONF_RESELECT] = {parse_choice, false, false},
	[CONF_PER_DAY] = {conf_value_per_day, false, false},
	[CONF_NAMES] = {conf_value_strings, true, true},
	[CONF_ADDRESSES] = {conf_value_strings, true, true},
	[CONF_HEADERS] = {conf_value_strings, true, true},
	[CONF_PATTERNS] = {conf_value_patterns, true, true},
	[CONF_IP_PORTS] = {conf_value_ip_ports, true, true},
	[CONF_IP_LIMITS] = {conf_value_ip_limits, false, true},
	[CONF_CIDRS] = {conf_value_cidrs, true, true},
	[CONF_ROLLUPS] = {conf_value_rollups, false, true},
	[CONF_SOURCE_LIMITS] = {conf_value_source_limits, false, true},
	[CONF_MX_LIMITS] = {conf_value_mx_limits, false, true},
	[CONF_SOURCE_HOSTS] = {conf_value_source_hosts, false, true},
	[CONF_SMTP_HOSTS] = {conf_value_smtp_hosts, false, false},
	[CONF_RECORDS] = {conf_value_records, false, false},
	[CONF_RECORD_FIELDS] = {conf_value_record_fields, true, true},
	[CONF_REPLIES] = {conf_value_replies, true, true},
	[CONF_PATTERN_LISTS] = {conf_value_pattern_lists, true, false},
	[CONF_CATEGORIES] = {conf_value_categories, true, true},
	[CONF_QUEUE_FILTER] = {conf_value_queue_filter, true, true},
};

bool conf_type_adds_up(enum conf_type type)
{
	return parsers[type].adds_up;
}

bool conf_value_parse(struct conf_value_ctx *ctx, struct slice text, const void *prev, void *ret)
{
	const struct type_parser *p = &parsers[ctx->directive->type];

	if (text.n == 0) {
		buf_add_str(ctx->why, "no value (\"\" stands for the default)");
		return false;
	}
	if (slice_eq_str(text, "\"\"")) {
		conf_value_default(ctx, ret);
		return true;
	}
	if (!p->whole && !conf_unquote(text, ctx->arena, &text)) {
		buf_add_str(ctx->why, "a quoted value must end with its closing quote");
		return false;
	}
	return p->parse(ctx, text, prev, ret);
}

void conf_value_default(struct conf_value_ctx *ctx, void *ret)
{
	enum conf_type type = ctx->directive->type;

	memset(ret, 0, conf_type_rows[type].size);
	if (!*ctx->directive->def)
		return;
	if (!parsers[type].parse(ctx, slice_str(ctx->directive->def), NULL, ret))
		panic("bad default of %s: %s", ctx->directive->keywords, buf_cstr(ctx->why));
}
