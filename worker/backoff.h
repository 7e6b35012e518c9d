/*
 * backoff.h - how fast a receiver lets one source address go: a pure state machine over what was
 * accepted and what was refused (a "hit"), with the time passed in.
 *
 * It has no idea of the receiver's rule and finds the rate by trying. The first hit cuts the rate to a
 * share of what was accepted in the last minute. Without further hits the rate grows again. A hit while
 * it grows tells about where the allowance lies: the rate falls for a short time, then goes close to the
 * last rate that was good, stays there, and tries more in small steps that double. The longer the
 * allowance stays the same, the rarer it is tried.
 *
 * One for each source address of a site (mode.c); plain data, used by one thread, stored as it is in
 * the row of the site. Rates are recipients an hour, times are wall time in milliseconds.
 */
#ifndef SLUICE_WORKER_BACKOFF_H
#define SLUICE_WORKER_BACKOFF_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/clock.h"

#define BACKOFF_NO_LIMIT UINT64_MAX

/* From the settings. */
struct backoff_rule {
	unsigned reduce; /* percent that stays after a hit */
	unsigned step; /* percent that is added after an interval without a hit, at most */
	msec_t hold; /* hits so soon after a cut say nothing new */
	msec_t interval;
	uint64_t floor; /* no lower rate than this */
	uint64_t normal; /* configured rate: at this it is over; BACKOFF_NO_LIMIT */
};

enum backoff_phase {
	BACKOFF_OFF, /* nothing is cut */
	BACKOFF_CUT, /* just cut, no hit may tell anything yet */
	BACKOFF_STAY, /* close below the last good rate */
	BACKOFF_TRY /* growing */
};

struct backoff {
	uint8_t phase; /* enum backoff_phase */
	uint64_t rate; /* the cap now */
	uint64_t entry; /* after the first cut */
	uint64_t good; /* last rate without a hit; 0 = not known */
	msec_t cut; /* time of the last cut */
	msec_t next; /* time of the next step */
	uint32_t step; /* percent, of the next one */
	uint32_t stay; /* intervals left to stay */
	uint32_t patience; /* intervals to stay after the next cut */
};

/*
 * Cuts the rate for the first time. accepted: recipients of the last 60 s. Recovery begins at `from`, at
 * the soonest.
 */
void backoff_enter(struct backoff *b, const struct backoff_rule *r, msec_t now, uint64_t accepted,
		   msec_t from);
/* The receiver refused. True: the rate was cut. from as above. */
bool backoff_hit(struct backoff *b, const struct backoff_rule *r, msec_t now, uint64_t accepted,
		 msec_t from);
/*
 * Does the steps whose time has come. used: the traffic needed most of the rate in the last interval, so
 * that no hit means something. True: the rate has changed (phase BACKOFF_OFF: it is over).
 */
bool backoff_tick(struct backoff *b, const struct backoff_rule *r, msec_t now, bool used);

#endif
