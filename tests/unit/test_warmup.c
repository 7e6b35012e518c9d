/* links: common/base common/spool */
#include <criterion/criterion.h>

#include "common/base/err.h"
#include "common/base/localday.h"
#include "common/conf/conf.h"
#include "common/spool/warmup.h"

#define DAY 20779 /* 2026-11-22 */

static const uint64_t numbers[] = {50, 100, 200};
static const struct warmup_setting none;

static struct conf_warmup rules(void)
{
	return (struct conf_warmup){.name = "new",
				    .schedule = {numbers, 3},
				    .advance_if = {.transient = 50000, .policy = 5000}};
}

/* What a worker and the committer do with a day. */
static void use(struct warmup_row *row, uint64_t attempted, uint64_t transient, uint64_t policy)
{
	row->days[0].granted = attempted;
	warmup_count(row, warmup_today(row)->day, attempted, transient, policy);
}

static const struct {
	const char *label;
	uint64_t attempted, transient, policy, next;
	enum warmup_why why;
} days[] = {
	{"all well", 50, 0, 0, 100, WARMUP_ADVANCED},
	{"half of it", 25, 0, 0, 100, WARMUP_ADVANCED},
	{"less than half", 24, 0, 0, 50, WARMUP_FEW},
	{"nothing", 0, 0, 0, 50, WARMUP_FEW},
	{"just below the limit", 50, 2, 0, 100, WARMUP_ADVANCED},
	{"the limit itself", 40, 2, 0, 50, WARMUP_TRANSIENT},
	{"one for spam", 50, 0, 1, 50, WARMUP_POLICY},
	{"both", 50, 50, 50, 50, WARMUP_TRANSIENT},
};

Test(warmup, a_day_is_judged_by_what_became_of_its_mail)
{
	struct conf_warmup w = rules();

	for (size_t i = 0; i < ARRAY_SIZE(days); i++) {
		struct warmup_row row = {.count = 0};

		cr_assert(warmup_roll(&row, &w, &none, DAY));
		cr_assert_eq(warmup_today(&row)->number, 50);
		cr_assert_eq(warmup_today(&row)->why, WARMUP_FIRST);
		use(&row, days[i].attempted, days[i].transient, days[i].policy);
		cr_assert_not(warmup_roll(&row, &w, &none, DAY), "%s: the same day", days[i].label);
		cr_assert(warmup_roll(&row, &w, &none, DAY + 1));
		cr_assert_eq(warmup_today(&row)->number, days[i].next, "%s: %llu", days[i].label,
			     (unsigned long long)warmup_today(&row)->number);
		cr_assert_eq(warmup_today(&row)->why, days[i].why, "%s", days[i].label);
		cr_assert_eq(warmup_today(&row)->granted, 0);
		cr_assert_eq(row.days[1].attempted, days[i].attempted);
	}
}

Test(warmup, the_last_number_repeats_and_any_limit_may_be_left_out)
{
	struct warmup_row row = {.count = 0};
	struct conf_warmup w = rules();

	w.advance_if = (struct conf_advance_if){UINT32_MAX, UINT32_MAX};
	for (uint32_t day = 0; day < 20; day++) {
		warmup_roll(&row, &w, &none, DAY + day);
		cr_assert_eq(warmup_today(&row)->number, numbers[day < 2 ? day : 2]);
		use(&row, 200, 200, 200);
	}
	cr_assert_eq(warmup_today(&row)->why, WARMUP_LAST);
	cr_assert_eq(row.count, WARMUP_DAYS);
}

Test(warmup, days_without_mail_change_nothing_and_no_day_comes_back)
{
	struct warmup_row row = {.count = 0};
	struct conf_warmup w = rules();

	warmup_roll(&row, &w, &none, DAY);
	use(&row, 50, 0, 0);
	warmup_roll(&row, &w, &none, DAY + 30);
	cr_assert_eq(warmup_today(&row)->number, 100, "the day with mail has earned it");
	use(&row, 7, 0, 0);
	cr_assert_not(warmup_roll(&row, &w, &none, DAY + 5));
	cr_assert_eq(warmup_today(&row)->day, DAY + 30);
	cr_assert_eq(warmup_today(&row)->granted, 7);
	warmup_roll(&row, &w, &none, DAY + 60);
	cr_assert_eq(warmup_today(&row)->number, 100);
}

Test(warmup, begins_on_its_first_day_and_anew_on_a_later_one)
{
	struct warmup_row row = {.count = 0};
	struct conf_warmup w = rules();

	w.start = DAY + 2;
	cr_assert_not(warmup_roll(&row, &w, &none, DAY));
	cr_assert_eq(warmup_today(&row)->number, 0);
	warmup_roll(&row, &w, &none, DAY + 2);
	cr_assert_eq(warmup_today(&row)->number, 50);
	use(&row, 50, 0, 0);
	warmup_roll(&row, &w, &none, DAY + 3);
	cr_assert_eq(warmup_today(&row)->number, 100);
	use(&row, 100, 0, 0);
	w.start = DAY + 10;
	warmup_roll(&row, &w, &none, DAY + 5);
	cr_assert_eq(warmup_today(&row)->number, 0, "it has not begun again");
	warmup_roll(&row, &w, &none, DAY + 11);
	cr_assert_eq(warmup_today(&row)->number, 50);
}

Test(warmup, follows_the_operator_and_a_schedule_that_changes)
{
	static const uint64_t longer[] = {10, 20, 30, 40};
	struct warmup_setting set = {.paused = true};
	struct warmup_row row = {.count = 0};
	struct conf_warmup w = rules();

	warmup_roll(&row, &w, &none, DAY);
	use(&row, 50, 0, 0);
	warmup_roll(&row, &w, &set, DAY + 1);
	cr_assert_eq(warmup_today(&row)->number, 50);
	cr_assert_eq(warmup_today(&row)->why, WARMUP_PAUSED);
	use(&row, 50, 0, 0);
	set = (struct warmup_setting){.seq = 7, .day = 3};
	cr_assert(warmup_roll(&row, &w, &set, DAY + 1), "at once");
	cr_assert_eq(warmup_today(&row)->number, 200);
	cr_assert_eq(warmup_today(&row)->granted, 50, "what was sent today counts");
	cr_assert_not(warmup_roll(&row, &w, &set, DAY + 1), "once");
	w.schedule = (struct conf_counts){longer, 4};
	cr_assert(warmup_roll(&row, &w, &set, DAY + 1));
	cr_assert_eq(warmup_today(&row)->number, 30);
	set = (struct warmup_setting){.seq = 8, .day = 99};
	warmup_roll(&row, &w, &set, DAY + 1);
	cr_assert_eq(warmup_today(&row)->number, 40, "the last one");
	/* of a clock that ran ahead */
	warmup_roll(&row, &w, &set, DAY + 1000);
	set.seq = 9;
	warmup_roll(&row, &w, &set, DAY + 2);
	cr_assert_eq(warmup_today(&row)->day, DAY + 2);
}

Test(warmup, the_committer_keeps_outcomes_and_the_newest_day)
{
	struct warmup_row row = {.count = 0};
	struct warmup_day d = {.day = DAY, .number = 50, .granted = 10};

	warmup_count(&row, DAY, 1, 1, 1); /* nobody asked for that day */
	cr_assert_eq(row.count, 0);
	warmup_take(&row, &d, 0);
	warmup_count(&row, DAY, 9, 2, 1);
	d.granted = 20;
	warmup_take(&row, &d, 0);
	cr_assert_eq(row.days[0].granted, 20);
	cr_assert_eq(row.days[0].attempted, 9);
	d.granted = 10; /* a worker gives back */
	warmup_take(&row, &d, 0);
	cr_assert_eq(row.days[0].granted, 10);
	d.day++;
	warmup_take(&row, &d, 0);
	cr_assert_eq(row.count, 2);
	warmup_count(&row, DAY, 1, 0, 0); /* one that lasted over midnight */
	cr_assert_eq(row.days[1].attempted, 10);
	cr_assert_eq(row.days[0].attempted, 0);
	d.day = DAY;
	d.granted = 1;
	warmup_take(&row, &d, 0);
	cr_assert_eq(row.days[0].day, DAY + 1, "no day comes back");
	warmup_take(&row, &d, 5);
	cr_assert_eq(row.days[0].day, DAY, "unless an operator says so");
}

Test(warmup, rows_come_back_as_they_were)
{
	struct warmup_row row = {.set = 3}, got;
	struct warmup_setting set = {.seq = 9, .day = 4, .paused = true}, got_set;
	struct buf b = BUF_INIT;

	for (uint32_t i = 0; i < WARMUP_DAYS + 2; i++) {
		struct warmup_day d = {.day = DAY + i,
				       .step = i,
				       .number = UINT64_MAX - i,
				       .granted = i,
				       .last = 1700000000000 + i,
				       .why = WARMUP_POLICY};

		warmup_take(&row, &d, 3);
		warmup_count(&row, DAY + i, 1000 + i, 100 + i, 10 + i);
	}
	warmup_row_encode(&row, &b);
	cr_assert_eq(warmup_row_decode(buf_slice(&b), &got), 0);
	cr_assert_eq(got.set, 3);
	cr_assert_eq(got.count, WARMUP_DAYS);
	for (size_t i = 0; i < WARMUP_DAYS; i++) {
		cr_assert_eq(got.days[i].day, row.days[i].day);
		cr_assert_eq(got.days[i].step, row.days[i].step);
		cr_assert_eq(got.days[i].number, row.days[i].number);
		cr_assert_eq(got.days[i].granted, row.days[i].granted);
		cr_assert_eq(got.days[i].last, row.days[i].last);
		cr_assert_eq(got.days[i].attempted, row.days[i].attempted);
		cr_assert_eq(got.days[i].transient, row.days[i].transient);
		cr_assert_eq(got.days[i].policy, row.days[i].policy);
		cr_assert_eq(got.days[i].why, row.days[i].why);
	}
	for (size_t n = 0; n < b.n; n++)
		cr_assert_lt(warmup_row_decode(slice_of(b.p, n), &got), 0, "cut to %zu", n);
	b.p[0] = 77;
	cr_assert_eq(warmup_row_decode(buf_slice(&b), &got), ERR_VERSION);
	buf_clear(&b);
	warmup_setting_encode(&set, &b);
	cr_assert_eq(warmup_setting_decode(buf_slice(&b), &got_set), 0);
	cr_assert(got_set.seq == 9 && got_set.day == 4 && got_set.paused);
	cr_assert_eq(warmup_setting_decode(slice_of(b.p, b.n - 1), &got_set), ERR_CORRUPT);
	buf_done(&b);
}
