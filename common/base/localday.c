#include "common/base/localday.h"

#include <stdio.h>
#include <time.h>

#define DAY_SEC 86400
/* Local time is at most so far from UTC; all that is needed is that it is too much. */
#define ZONE_SEC (26 * 3600)

uint32_t localday_of(msec_t wall)
{
	time_t t = (time_t)(wall / MSEC_PER_SEC);
	struct tm tm;

	localtime_r(&t, &tm);
	t += tm.tm_gmtoff;
	return t < 0 ? 0 : (uint32_t)(t / DAY_SEC);
}

msec_t localday_start(uint32_t day)
{
	uint64_t utc = (uint64_t)day * DAY_SEC;
	uint64_t low = utc > ZONE_SEC ? utc - ZONE_SEC : 0, high = utc + ZONE_SEC;

	while (low < high) {
		uint64_t mid = low + (high - low) / 2;

		if (localday_of(mid * MSEC_PER_SEC) < day)
			low = mid + 1;
		else
			high = mid;
	}
	return low * MSEC_PER_SEC;
}

bool localday_parse(struct slice text, uint32_t *ret)
{
	uint64_t year, month, day;
	struct tm tm = {.tm_isdst = 0};
	time_t t;

	if (text.n != 10 || text.p[4] != '-' || text.p[7] != '-' ||
	    !slice_u64(slice_sub(text, 0, 4), &year) || !slice_u64(slice_sub(text, 5, 2), &month) ||
	    !slice_u64(slice_from(text, 8), &day) || year < 1970)
		return false;
	tm.tm_year = (int)year - 1900;
	tm.tm_mon = (int)month - 1;
	tm.tm_mday = (int)day;
	t = timegm(&tm); /* moves a day that the month does not have into the next */
	if (t < 0 || tm.tm_mon != (int)month - 1 || tm.tm_mday != (int)day)
		return false;
	*ret = (uint32_t)(t / DAY_SEC);
	return true;
}

char *localday_text(uint32_t day, char *ret)
{
	time_t t = (time_t)day * DAY_SEC;
	struct tm tm;

	gmtime_r(&t, &tm);
	strftime(ret, LOCALDAY_TEXT_MAX, "%Y-%m-%d", &tm);
	return ret;
}
