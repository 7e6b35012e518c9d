/* links: common/base common/conf */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "common/conf/values.h"
#include "common/conf/lines.h"

struct time_case {
	const char *label, *text;
	bool ok;
	usec_t want;
};

Test(conf_values, times)
{
	static const struct time_case cases[] = {
		{"zero needs no unit", "0", true, 0},
		{"seconds", "30s", true, 30 * CONF_SEC},
		{"every unit", "1w2d12h30m5s", true,
		 9 * CONF_DAY + 12 * CONF_HOUR + 30 * CONF_MIN + 5 * CONF_SEC},
		{"PowerMTA's bounce-after", "4d12h", true, 4 * CONF_DAY + 12 * CONF_HOUR},
		{"milliseconds", "250ms", true, 250 * CONF_MSEC},
		{"seconds and milliseconds", "1s500ms", true, 1500 * CONF_MSEC},
		{"upper case", "2H", true, 2 * CONF_HOUR},
		{"no unit", "30", false, 0},
		{"wrong order", "5s1m", false, 0},
		{"unit twice", "1m1m", false, 0},
		{"empty", "", false, 0},
		{"unit alone", "m", false, 0},
		{"negative", "-1s", false, 0},
		{"unknown unit", "1y", false, 0},
		{"space", "1h 5m", false, 0},
		{"overflow of the number", "99999999999999999999s", false, 0},
		{"overflow of the product", "9999999999999999w", false, 0},
		{"overflow of the sum", "18446744073709s551615ms", false, 0},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		usec_t got = 4711;
		bool ok = conf_parse_time(slice_str(cases[i].text), &got);

		cr_expect_eq(ok, cases[i].ok, "%s", cases[i].label);
		cr_expect_eq(got, ok ? cases[i].want : 4711, "%s", cases[i].label);
	}
}

Test(conf_values, sizes)
{
	static const struct {
		const char *text;
		bool ok;
		uint64_t want;
	} cases[] = {
		{"0", true, 0},
		{"512", true, 512},
		{"512b", true, 512},
		{"64K", true, 65536},
		{"64k", true, 65536},
		{"64kb", true, 65536},
		{"10M", true, 10 * CONF_MIB},
		{"2G", true, 2 * CONF_GIB},
		{"1T", true, 1024 * CONF_GIB},
		{"1TiB", true, 1024 * CONF_GIB},
		{"", false, 0},
		{"K", false, 0},
		{"1X", false, 0},
		{"1 M", false, 0},
		{"-1", false, 0},
		{"1.5M", false, 0},
		{"18446744073709551615", false, 0},
		{"99999999999T", false, 0},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		uint64_t got = 0;
		bool ok = conf_parse_size(slice_str(cases[i].text), &got);

		cr_expect_eq(ok, cases[i].ok, "%s", cases[i].text);
		if (ok)
			cr_expect_eq(got, cases[i].want, "%s", cases[i].text);
	}
}

Test(conf_values, rates)
{
	static const struct {
		const char *text;
		bool ok;
		uint64_t n;
		usec_t per;
	} cases[] = {
		{"unlimited", true, UINT64_MAX, CONF_SEC},
		{"0", true, UINT64_MAX, CONF_SEC},
		{"100/h", true, 100, CONF_HOUR},
		{"100/15m", true, 100, 15 * CONF_MIN},
		{"5/sec", true, 5, CONF_SEC},
		{"5/2hours", true, 5, 2 * CONF_HOUR},
		{"7/day", true, 7, CONF_DAY},
		{"7/DAY", true, 7, CONF_DAY},
		{"7/hr", true, 7, CONF_HOUR},
		{"7/min", true, 7, CONF_MIN},
		{"100", false, 0, 0},
		{"/h", false, 0, 0},
		{"100/", false, 0, 0},
		{"100/0h", false, 0, 0},
		{"100/week", false, 0, 0},
		{"100/h5", false, 0, 0},
		{"0/h", false, 0, 0},
		{"1/99999999999999d", false, 0, 0},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct conf_rate got = {0, 0};
		bool ok = conf_parse_rate(slice_str(cases[i].text), &got);

		cr_expect_eq(ok, cases[i].ok, "%s", cases[i].text);
		if (ok) {
			cr_expect_eq(got.n, cases[i].n, "%s", cases[i].text);
			cr_expect_eq(got.per, cases[i].per, "%s", cases[i].text);
		}
	}
}

Test(conf_values, quotes)
{
	static const struct {
		const char *text, *want; /* NULL: refused */
	} cases[] = {
		{"plain", "plain"},
		{"two words", "two words"},
		{"\"quoted # ; text\"", "quoted # ; text"},
		{"\"a \\\"b\\\" \\\\ c\"", "a \"b\" \\ c"},
		{"a\\ b\\$c", "a b$c"},
		{"a\\nb", "a\\nb"},
		{"5\" pipe", "5\" pipe"},
		{"\"\"", ""},
		{"\"open", NULL},
		{"\"closed\" and more", NULL},
		{"\"", NULL},
	};
	struct arena a = {NULL};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct slice got;
		bool ok = conf_unquote(slice_str(cases[i].text), &a, &got);

		cr_expect_eq(ok, cases[i].want != NULL, "%s", cases[i].text);
		if (ok && cases[i].want)
			cr_expect(slice_eq_str(got, cases[i].want), "%s: %.*s", cases[i].text,
				  SLICE_ARG(got));
	}
	arena_done(&a);
}

Test(conf_values, comments)
{
	static const struct {
		const char *text, *want;
		bool found;
	} cases[] = {
		{"20 # comment", "20", true},
		{"20 ; comment", "20", true},
		{"20\t#comment", "20", true},
		{" # only a comment", "", true},
		{"a#b", "a#b", false},
		{"a;b", "a;b", false},
		{"\"a # b\"", "\"a # b\"", false},
		{"\"a # b\" # c", "\"a # b\"", true},
		{"\"a \\\" # b\" # c", "\"a \\\" # b\"", true},
		{"a, b,   # c", "a, b,", true},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		bool found;
		struct slice got = conf_strip_comment(slice_str(cases[i].text), &found);

		cr_expect(slice_eq_str(got, cases[i].want), "%s: %.*s", cases[i].text,
			  SLICE_ARG(got));
		cr_expect_eq(found, cases[i].found, "%s", cases[i].text);
	}
}

Test(conf_values, every_default_parses_and_has_a_documented_row)
{
	struct arena a = {NULL};

	for (size_t i = 0; i < CONF_SCOPE_COUNT; i++) {
		for (size_t j = 0; j < conf_scopes[i].n; j++) {
			const struct conf_directive *d = &conf_scopes[i].rows[j];
			struct buf why = BUF_INIT, remark = BUF_INIT;
			struct conf_value_ctx ctx = {.arena = &a,
						     .directive = d,
						     .why = &why,
						     .remark = &remark,
						     .keyword = conf_words_first(d->keywords)};
			/* conf_value_default() panics on a bad row */
			void *value = arena_alloc(&a, conf_type_rows[d->type].size);

			conf_value_default(&ctx, value);
			cr_expect_gt(strlen(d->doc), 10, "%s", d->keywords);
			cr_expect(conf_directive_find(&conf_scopes[i],
						      conf_words_first(d->keywords)) == d,
				  "%s is in its scope twice", d->keywords);
			buf_done(&why);
			buf_done(&remark);
		}
	}
	arena_done(&a);
}
