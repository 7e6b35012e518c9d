/* links: common/base common/spool */
#include <criterion/criterion.h>

#include "common/spool/order.h"

Test(order, patterns)
{
	static const struct {
		const char *pattern, *text;
		bool match;
	} cases[] = {
		{"*", "", true},
		{"*/*", "gmail.com/mta1", true},
		{"gmail.com/*", "GMAIL.com/mta1", true},
		{"gmail.com/*", "xgmail.com/mta1", false},
		{"*/mta1", "gmail.com/mta1", true},
		{"*/mta1", "gmail.com/mta12", false},
		{"*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaac", false},
		{"a?c", "abc", true},
		{"a?c", "ac", false},
		{"", "x", false},
		{"abc", "ab", false},
		{"ab*", "ab", true},
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(cases); i++)
		cr_assert_eq(
			order_pattern_match(slice_str(cases[i].pattern), slice_str(cases[i].text)),
			cases[i].match, "%s on %s", cases[i].pattern, cases[i].text);
}

Test(order, filter_needs_every_given_field)
{
	struct order_filter f = {
		.queue = SLICE_LIT("a.com/*"), .job = SLICE_LIT("j1"), .received_before = 100};
	struct slice q = SLICE_LIT("a.com/v"), j = SLICE_LIT("j1"), none = SLICE_LIT("");

	cr_assert(order_filter_match(&f, q, j, none, none, none, 99));
	cr_assert_not(order_filter_match(&f, q, j, none, none, none, 100));
	cr_assert_not(order_filter_match(&f, q, none, none, none, none, 99));
	cr_assert_not(order_filter_match(&f, none, j, none, none, none, 99));
	f.job = none;
	cr_assert(order_filter_match(&f, q, none, none, none, none, 99));
	f.envid = slice_str("e7");
	cr_assert(order_filter_match(&f, q, none, none, none, f.envid, 99));
	cr_assert_not(order_filter_match(&f, q, none, none, none, none, 99));
}
