/*
 * clock.h - time.
 *
 * usec_t is monotonic microseconds: timers, rates, durations. msec wall time (msec_t, Unix epoch) is
 * what is stored. Tests may take over both with clock_fake(); the code never calls time(2) itself.
 */
#ifndef SLUICE_BASE_CLOCK_H
#define SLUICE_BASE_CLOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint64_t usec_t; /* monotonic, or a duration */
typedef uint64_t msec_t; /* wall time, Unix epoch */

#define USEC_PER_MSEC UINT64_C(1000)
#define USEC_PER_SEC UINT64_C(1000000)
#define MSEC_PER_SEC UINT64_C(1000)
#define USEC_INFINITY UINT64_MAX

/* CLOCK_MONOTONIC in µs, read now. */
usec_t clock_now(void);
/* Wall time in ms, read now. */
msec_t clock_wall(void);
/* Wall time in µs, read now (for message ids). */
uint64_t clock_wall_usec(void);

/* From now on both clocks stand still at these values until clock_fake() or clock_real(). */
void clock_fake(usec_t mono, msec_t wall);
void clock_real(void);

#define CLOCK_TEXT_MAX 96
/* "2026-11-22 01:39:25+0000" in local time (as in PowerMTA accounting files); ret holds CLOCK_TEXT_MAX bytes. */
void clock_iso(msec_t wall, char *ret);
/* RFC 5322 date-time: "Sun, 22 Nov 2026 01:39:25 +0000", local time. */
void clock_rfc5322(msec_t wall, char *ret);

#endif
