/* links: common/base */
#include <criterion/criterion.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>

#include "common/base/macros.h"
#include "common/base/regex.h"

static struct regex *make(const char *text)
{
	struct buf why = BUF_INIT;
	struct regex *r = regex_new(slice_str(text), &why);

	cr_assert_not_null(r, "%s: %s", text, buf_cstr(&why));
	buf_done(&why);
	return r;
}

Test(regex, matches_as_perl_does)
{
	static const struct {
		const char *regex, *subject;
		bool want;
	} cases[] = {
		{"too many", "421 Too Many connections", true},
		{"(?-i)TS03", "553 ts03 blocked", false},
		{"(?-i)TS03", "553 TS03 blocked", true},
		{"^452 4\\.2\\.2 ", "452 4.2.2 over quota", true},
		{"^452 4\\.2\\.2 ", "452 4x2.2 over quota", false},
		{"^4\\d\\d[- ](?!4\\.2)", "450 4.2.1 later", false},
		{"grüße", "550 GRÜSSE GRÜßE", true},
		{"\\x23CR", "deferred by #CR-IN", true},
		{"^$", "", true},
		{"x", "", false},
		{"b",
		 "a\xff"
		 "b",
		 true},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct regex *r = make(cases[i].regex);

		cr_expect_eq(regex_match(r, slice_str(cases[i].subject)) == REGEX_YES,
			     cases[i].want, "/%s/ on %s", cases[i].regex, cases[i].subject);
		regex_free(r);
	}
	regex_free(NULL);
}

Test(regex, a_bad_one_is_told_with_its_offset)
{
	static const struct {
		const char *regex, *want;
	} cases[] = {
		{"a(b", "at offset 3: missing closing parenthesis"},
		{"a[b", "at offset 3: missing terminating ] for character class"},
		{"*a", "at offset 0: quantifier does not follow a repeatable item"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct buf why = BUF_INIT;

		cr_expect_null(regex_new(slice_str(cases[i].regex), &why));
		cr_expect_str_eq(buf_cstr(&why), cases[i].want);
		buf_done(&why);
	}
}

/* Of this process, so that other tests on the machine do not count. */
static double cpu_seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void assert_bounded(const char *regex)
{
	struct regex *r = make(regex);
	char subject[500];
	double before = cpu_seconds();

	memset(subject, 'a', sizeof(subject));
	subject[sizeof(subject) - 1] = '!';
	cr_expect_eq(regex_match(r, slice_of(subject, sizeof(subject))), REGEX_GAVE_UP);
	for (int i = 0; i < 100; i++)
		cr_expect_eq(regex_match(r, slice_of(subject, sizeof(subject))),
			     REGEX_GAVE_UP_AGAIN);
	cr_expect_lt(cpu_seconds() - before, 2.0, "%s", regex);
	cr_expect_eq(regex_match(r, slice_str("aaaaaaaaaaaa")), REGEX_YES,
		     "short subjects still match");
	regex_free(r);
}

Test(regex, a_match_takes_bounded_time)
{
	assert_bounded("^(a+)+$");
	assert_bounded("^(a|aa)+$");
	assert_bounded("^(.*a){6}$");
}

#ifndef PR_SET_MDWE
#define PR_SET_MDWE 65
#define PR_MDWE_REFUSE_EXEC_GAIN 1
#endif

Test(regex, works_where_memory_cannot_be_made_executable)
{
	struct regex *r;

	if (getenv("SLUICE_VALGRIND"))
		cr_skip_test("valgrind itself needs such memory");
	r = make("over (quota|limit)");
	if (prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0L, 0L, 0L) != 0)
		cr_log_warn("no PR_SET_MDWE in this kernel: matched with what it allows");
	cr_assert_eq(regex_match(r, slice_str("452 Over Quota")), REGEX_YES);
	cr_assert_eq(regex_match(r, slice_str("452 over there")), REGEX_NO);
	regex_free(r);
}
