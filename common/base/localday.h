/*
 * localday.h - days of the local time zone, as numbers: 1970-01-01 of the local calendar is 0.
 *
 * A day may have 23 or 25 hours, and may begin at another hour than 0. Pure functions of the wall time
 * and the time zone; any thread.
 */
#ifndef SLUICE_BASE_LOCALDAY_H
#define SLUICE_BASE_LOCALDAY_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/clock.h"
#include "common/base/slice.h"

#define LOCALDAY_TEXT_MAX 16

/* The local date at this time. */
uint32_t localday_of(msec_t wall);
/* The first moment of that day; of one that the local calendar leaves out, the first of the next. */
msec_t localday_start(uint32_t day);
/* "2026-11-22"; false: no such date. */
bool localday_parse(struct slice text, uint32_t *ret);
/* The same back; ret holds LOCALDAY_TEXT_MAX bytes. Returns ret. */
char *localday_text(uint32_t day, char *ret);

#endif
