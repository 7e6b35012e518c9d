#include "common/base/clock.h"

#include <stdio.h>
#include <time.h>

static struct {
	bool on;
	usec_t mono;
	msec_t wall;
} fake;

usec_t clock_now(void)
{
	struct timespec ts;

	if (fake.on)
		return fake.mono;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (usec_t)ts.tv_sec * USEC_PER_SEC + (usec_t)ts.tv_nsec / 1000;
}

uint64_t clock_wall_usec(void)
{
	struct timespec ts;

	if (fake.on)
		return fake.wall * 1000;
	clock_gettime(CLOCK_REALTIME, &ts);
	return (uint64_t)ts.tv_sec * USEC_PER_SEC + (uint64_t)ts.tv_nsec / 1000;
}

msec_t clock_wall(void)
{
	return clock_wall_usec() / 1000;
}

void clock_fake(usec_t mono, msec_t wall)
{
	fake.on = true;
	fake.mono = mono;
	fake.wall = wall;
}

void clock_real(void)
{
	fake.on = false;
}

void clock_iso(msec_t wall, char *ret)
{
	time_t t = (time_t)(wall / 1000);
	struct tm tm;

	localtime_r(&t, &tm);
	strftime(ret, CLOCK_TEXT_MAX, "%Y-%m-%d %H:%M:%S%z", &tm);
}

void clock_rfc5322(msec_t wall, char *ret)
{
	static const char days[] = "SunMonTueWedThuFriSat";
	static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
	time_t t = (time_t)(wall / 1000);
	struct tm tm;
	long off;
	char sign;

	localtime_r(&t, &tm);
	off = tm.tm_gmtoff / 60;
	sign = off < 0 ? '-' : '+';
	off = off < 0 ? -off : off;
	snprintf(ret, CLOCK_TEXT_MAX, "%.3s, %02d %.3s %04d %02d:%02d:%02d %c%02ld%02ld",
		 days + 3 * tm.tm_wday, tm.tm_mday, months + 3 * tm.tm_mon, tm.tm_year + 1900,
		 tm.tm_hour, tm.tm_min, tm.tm_sec, sign, off / 60, off % 60);
}
