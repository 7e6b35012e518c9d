#include "common/conf/scope.h"

#include <stdlib.h>

#include "common/base/macros.h"
#include "common/base/xalloc.h"

const struct conf_type_row conf_type_rows[CONF_TYPE_COUNT] = {
#define TYPE_ROW(type, ctype, comments, list, text) \
	[CONF_##type] = {#type, sizeof(conf_ctype_##type), comments, list, text},
	CONF_TYPES(TYPE_ROW)
#undef TYPE_ROW
};

#define DIRECTIVE_ROW(field, keywords, type, def, min, max, kind, doc) \
	{keywords, CONF_##type,	     def, min,                         \
	 max,	   CONF_KIND_##kind, doc, offsetof(struct ROW_STRUCT, field)},

#define ROW_STRUCT conf_global
static const struct conf_directive global_rows[] = {CONF_GLOBAL_DIRECTIVES(DIRECTIVE_ROW)};
#undef ROW_STRUCT
#define ROW_STRUCT conf_listener_fields
static const struct conf_directive listener_rows[] = {CONF_LISTENER_DIRECTIVES(DIRECTIVE_ROW)};
#undef ROW_STRUCT
#define ROW_STRUCT conf_source
static const struct conf_directive source_rows[] = {CONF_SOURCE_DIRECTIVES(DIRECTIVE_ROW)};
#undef ROW_STRUCT
#define ROW_STRUCT conf_vmta
static const struct conf_directive vmta_rows[] = {CONF_VMTA_DIRECTIVES(DIRECTIVE_ROW)};
#undef ROW_STRUCT
#define ROW_STRUCT conf_pool_fields
static const struct conf_directive pool_rows[] = {CONF_POOL_DIRECTIVES(DIRECTIVE_ROW)};
#undef ROW_STRUCT
#define ROW_STRUCT conf_domain
static const struct conf_directive domain_rows[] = {CONF_DOMAIN_DIRECTIVES(DIRECTIVE_ROW)};
#undef ROW_STRUCT
#define ROW_STRUCT conf_warmup
static const struct conf_directive warmup_rows[] = {CONF_WARMUP_DIRECTIVES(DIRECTIVE_ROW)};
#undef ROW_STRUCT
#define ROW_STRUCT conf_acct_file
static const struct conf_directive acct_file_rows[] = {CONF_ACCT_FILE_DIRECTIVES(DIRECTIVE_ROW)};
#undef ROW_STRUCT
#define ROW_STRUCT conf_pattern_list_fields
static const struct conf_directive pattern_list_rows[] = {
	CONF_PATTERN_LIST_DIRECTIVES(DIRECTIVE_ROW)};
#undef ROW_STRUCT
#define ROW_STRUCT conf_category_fields
static const struct conf_directive category_rows[] = {CONF_CATEGORY_DIRECTIVES(DIRECTIVE_ROW)};
#undef ROW_STRUCT

#define ROW_STRUCT conf_provider
static const struct conf_directive provider_rows[] = {CONF_PROVIDER_DIRECTIVES(DIRECTIVE_ROW)};
#undef ROW_STRUCT
#define ROW_STRUCT conf_rollup_fields
static const struct conf_directive rollup_rows[] = {CONF_ROLLUP_DIRECTIVES(DIRECTIVE_ROW)};
#undef ROW_STRUCT

#define ROWS(rows) rows, ARRAY_SIZE(rows)

const struct conf_scope conf_scopes[CONF_SCOPE_COUNT] = {
	{CONF_SCOPE_GLOBAL, "global", false, "", "The whole server", ROWS(global_rows),
	 sizeof(struct conf_global)},
	{CONF_SCOPE_LISTENER, "smtp-listener listener", true, "IP:PORT",
	 "An address and port where mail is taken in", ROWS(listener_rows),
	 sizeof(struct conf_listener_fields)},
	{CONF_SCOPE_SOURCE, "source", true, "CIDR or NAME",
	 "What clients may do and what is done to their mail", ROWS(source_rows),
	 sizeof(struct conf_source)},
	{CONF_SCOPE_VMTA, "virtual-mta", true, "NAME",
	 "Local addresses that mail is sent from; any directive of [domain] here means [domain "
	 "*/NAME]",
	 ROWS(vmta_rows), sizeof(struct conf_vmta)},
	{CONF_SCOPE_POOL, "virtual-mta-pool", true, "NAME", "Virtual MTAs that are used in turn",
	 ROWS(pool_rows), sizeof(struct conf_pool_fields)},
	{CONF_SCOPE_DOMAIN, "domain", true, "PATTERN, PATTERN/VMTA or PATTERN/POOL",
	 "How mail to domains is delivered", ROWS(domain_rows), sizeof(struct conf_domain)},
	{CONF_SCOPE_MACRO, "domain-macro", false, "",
	 "NAME = LIST: names for lists of domains, used as $NAME in patterns", NULL, 0, 0},
	{CONF_SCOPE_ACCT_FILE, "acct-file", true, "PATH or NAME", "A file of accounting records",
	 ROWS(acct_file_rows), sizeof(struct conf_acct_file)},
	{CONF_SCOPE_PROVIDER, "provider", true, "NAME",
	 "Domains whose mail goes to the same hosts: they share limits, back-off and connections "
	 "as "
	 "the site NAME.rollup of each virtual MTA",
	 ROWS(provider_rows), sizeof(struct conf_provider)},
	{CONF_SCOPE_ROLLUP, "mx-rollup-list", false, "",
	 "Host patterns of providers as PowerMTA writes them", ROWS(rollup_rows),
	 sizeof(struct conf_rollup_fields)},
	{CONF_SCOPE_WARMUP, "warm-up", true, "NAME",
	 "New addresses that send a little more every day", ROWS(warmup_rows),
	 sizeof(struct conf_warmup)},
	{CONF_SCOPE_PATTERN_LIST, "smtp-pattern-list", true, "NAME",
	 "What replies of receivers do beyond what SMTP says; smtp-pattern-list of [domain] names "
	 "it",
	 ROWS(pattern_list_rows), sizeof(struct conf_pattern_list_fields)},
	{CONF_SCOPE_CATEGORIES, "bounce-category-patterns", false, "",
	 "Categories of failures in accounting records (bounceCat)", ROWS(category_rows),
	 sizeof(struct conf_category_fields)},
};

bool conf_words_have(const char *words, struct slice name)
{
	struct slice rest = slice_str(words), word;

	while (slice_next(&rest, ' ', &word))
		if (slice_ieq(word, name))
			return true;
	return false;
}

struct slice conf_words_first(const char *words)
{
	struct slice rest = slice_str(words), word = rest;

	if (!slice_next(&rest, ' ', &word))
		return slice_str("");
	return word;
}

const struct conf_scope *conf_scope_find(struct slice word)
{
	for (size_t i = 0; i < CONF_SCOPE_COUNT; i++)
		if (conf_words_have(conf_scopes[i].words, word))
			return &conf_scopes[i];
	return NULL;
}

const struct conf_directive *conf_directive_find(const struct conf_scope *scope,
						 struct slice keyword)
{
	for (size_t i = 0; i < scope->n; i++)
		if (conf_words_have(scope->rows[i].keywords, keyword))
			return &scope->rows[i];
	return NULL;
}

bool conf_type_of(const struct conf_scope *scope, struct slice keyword, enum conf_type *ret)
{
	const struct conf_directive *d;

	if (scope->id == CONF_SCOPE_MACRO) {
		*ret = CONF_LIST;
		return true;
	}
	d = conf_directive_find(scope, keyword);
	if (!d && scope->id == CONF_SCOPE_VMTA)
		d = conf_directive_find(&conf_scopes[CONF_SCOPE_DOMAIN], keyword);
	if (!d)
		return false;
	*ret = d->type;
	return true;
}

bool conf_type_is_regex(enum conf_type type)
{
	return type == CONF_REPLIES || type == CONF_CATEGORIES;
}

size_t conf_regex_length(struct slice s)
{
	for (size_t i = 1; i < s.n; i++) {
		if (s.p[i] == '\\')
			i++;
		else if (s.p[i] == '/')
			return i + 1;
	}
	return s.n;
}

struct bound_unit {
	uint64_t n;
	const char *unit;
};
static const struct bound_unit time_bounds[] = {
	{CONF_DAY, "d"}, {CONF_HOUR, "h"}, {CONF_MIN, "m"}, {CONF_SEC, "s"}, {CONF_MSEC, "ms"}};
static const struct bound_unit size_bounds[] = {
	{CONF_GIB, "G"}, {CONF_MIB, "M"}, {CONF_KIB, "K"}, {1, ""}};
static const struct bound_unit plain_bounds[] = {{1, ""}};
static const struct bound_unit percent_bounds[] = {{1, "%"}};

static const struct {
	enum conf_type type;
	const struct bound_unit *units;
	size_t n;
	const char *unbounded;
} bounded_types[] = {
	{CONF_UINT, plain_bounds, ARRAY_SIZE(plain_bounds), ""},
	{CONF_PERCENT, percent_bounds, ARRAY_SIZE(percent_bounds), ""},
	{CONF_TIME, time_bounds, ARRAY_SIZE(time_bounds), "never"},
	{CONF_TIMES, time_bounds, ARRAY_SIZE(time_bounds), ""},
	{CONF_COUNTS, plain_bounds, ARRAY_SIZE(plain_bounds), ""},
	{CONF_SIZE, size_bounds, ARRAY_SIZE(size_bounds), "unlimited"},
	{CONF_SIZE_POW2, size_bounds, ARRAY_SIZE(size_bounds), ""},
};

static void add_bound(struct buf *to, uint64_t v, const struct bound_unit *units, size_t n)
{
	size_t i = 0;

	while (i + 1 < n && (v == 0 || v % units[i].n != 0))
		i++;
	if (v == 0)
		buf_add_char(to, '0');
	else
		buf_addf(to, "%llu%s", (unsigned long long)(v / units[i].n), units[i].unit);
}

void conf_bounds_text(const struct conf_directive *d, struct buf *to)
{
	size_t i = 0;

	while (i < ARRAY_SIZE(bounded_types) && bounded_types[i].type != d->type)
		i++;
	if (i == ARRAY_SIZE(bounded_types))
		return;
	add_bound(to, d->min, bounded_types[i].units, bounded_types[i].n);
	if (d->max == CONF_NEVER) {
		buf_addf(to, " or more, or %s", bounded_types[i].unbounded);
	} else if (d->max == CONF_NEVER - 1) {
		buf_add_str(to, " or more");
	} else {
		buf_add_str(to, " to ");
		add_bound(to, d->max, bounded_types[i].units, bounded_types[i].n);
	}
}

/* Edit distance with neighbours swapped counted once; names are short. */
#define NAME_MAX_NEAR 48
static size_t distance(struct slice a, struct slice b)
{
	size_t d[3][NAME_MAX_NEAR + 1];

	if (a.n > NAME_MAX_NEAR || b.n > NAME_MAX_NEAR)
		return SIZE_MAX;
	for (size_t j = 0; j <= b.n; j++)
		d[0][j] = j;
	for (size_t i = 1; i <= a.n; i++) {
		size_t *row = d[i % 3], *up = d[(i - 1) % 3], *up2 = d[(i + 1) % 3];

		row[0] = i;
		for (size_t j = 1; j <= b.n; j++) {
			char ca = ascii_lower(a.p[i - 1]), cb = ascii_lower(b.p[j - 1]);
			size_t best = up[j - 1] + (ca != cb);

			if (up[j] + 1 < best)
				best = up[j] + 1;
			if (row[j - 1] + 1 < best)
				best = row[j - 1] + 1;
			if (i > 1 && j > 1 && ca == ascii_lower(b.p[j - 2]) &&
			    ascii_lower(a.p[i - 2]) == cb && up2[j - 2] + 1 < best)
				best = up2[j - 2] + 1;
			row[j] = best;
		}
	}
	return d[a.n % 3][b.n];
}

struct nearest {
	struct slice wanted, name;
	size_t d;
};

static void nearest_try(struct nearest *n, const char *words)
{
	struct slice rest = slice_str(words), word;

	while (slice_next(&rest, ' ', &word)) {
		size_t d = distance(n->wanted, word);

		if (d < n->d) {
			n->d = d;
			n->name = word;
		}
	}
}

static struct slice nearest_result(const struct nearest *n)
{
	size_t limit = n->wanted.n / 3;

	return n->d <= (limit < 2 ? 2 : limit) ? n->name : slice_str("");
}

struct slice conf_nearest_keyword(const struct conf_scope *scope, struct slice keyword)
{
	struct nearest n = {.wanted = keyword, .name = slice_str(""), .d = SIZE_MAX};

	for (size_t i = 0; i < scope->n; i++)
		nearest_try(&n, scope->rows[i].keywords);
	if (scope->id == CONF_SCOPE_VMTA)
		for (size_t i = 0; i < ARRAY_SIZE(domain_rows); i++)
			nearest_try(&n, domain_rows[i].keywords);
	return nearest_result(&n);
}

struct slice conf_nearest_scope(struct slice word)
{
	struct nearest n = {.wanted = word, .name = slice_str(""), .d = SIZE_MAX};

	for (size_t i = 0; i < CONF_SCOPE_COUNT; i++)
		nearest_try(&n, conf_scopes[i].words);
	return nearest_result(&n);
}
