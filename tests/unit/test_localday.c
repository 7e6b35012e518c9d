/* links: common/base */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <time.h>

#include "common/base/localday.h"

#define NOV_22 20779 /* 2026-11-22 */
#define NOON UINT64_C(1795348800000) /* of that day, UTC */
#define HOUR_MSEC (3600 * MSEC_PER_SEC)

static void zone(const char *tz)
{
	setenv("TZ", tz, 1);
	tzset();
}

Test(localday, is_that_of_the_zone)
{
	zone("UTC0");
	cr_assert_eq(localday_of(NOON), NOV_22);
	zone("East-14");
	cr_assert_eq(localday_of(NOON), NOV_22 + 1);
	zone("West12:30");
	cr_assert_eq(localday_of(NOON), NOV_22 - 1);
}

/* Every day begins where the day before ends, also where clocks are moved, and at midnight at that. */
Test(localday, begins_where_the_last_one_ends)
{
	static const char *const zones[] = {
		"UTC0", "CET-1CEST,M3.5.0,M10.5.0/3", "<-04>4<-03>,M9.1.6/24,M4.1.6/24",
		"AEST-10AEDT,M10.1.0,M4.1.0/3", "<+1245>-12:45<+1345>,M9.5.0/2:45,M4.1.0/3:45"};

	for (size_t i = 0; i < sizeof(zones) / sizeof(zones[0]); i++) {
		zone(zones[i]);
		for (uint32_t day = NOV_22 - 400; day < NOV_22 + 400; day++) {
			msec_t at = localday_start(day);

			cr_assert_eq(localday_of(at), day, "%s: day %u", zones[i], day);
			cr_assert_eq(localday_of(at - 1), day - 1, "%s: day %u", zones[i], day);
		}
	}
}

Test(localday, has_as_many_hours_as_the_clock_says)
{
	uint32_t spring, autumn;

	zone("CET-1CEST,M3.5.0,M10.5.0/3");
	cr_assert(localday_parse(slice_str("2026-03-29"), &spring));
	cr_assert(localday_parse(slice_str("2026-10-25"), &autumn));
	cr_assert_eq(localday_start(spring + 1) - localday_start(spring), 23 * HOUR_MSEC);
	cr_assert_eq(localday_start(autumn + 1) - localday_start(autumn), 25 * HOUR_MSEC);
}

Test(localday, reads_dates_and_nothing_else)
{
	static const char *const bad[] = {"",		"2026-1-2",   "2026-13-01", "2026-02-29",
					  "2026-00-10", "2026-01-00", "1969-12-31", "2026-11-22 ",
					  "22.11.2026", "2026/11/22", "+026-11-22"};
	char text[LOCALDAY_TEXT_MAX];
	uint32_t day;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		cr_assert_not(localday_parse(slice_str(bad[i]), &day), "%s", bad[i]);
	cr_assert(localday_parse(slice_str("2026-11-22"), &day));
	cr_assert_eq(day, NOV_22);
	cr_assert_str_eq(localday_text(day, text), "2026-11-22");
	cr_assert(localday_parse(slice_str("2028-02-29"), &day));
	cr_assert_str_eq(localday_text(day, text), "2028-02-29");
}
