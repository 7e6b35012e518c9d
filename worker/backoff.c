#include "worker/backoff.h"

#define PER_HOUR 60 /* of what was counted in a minute */
#define NEAR 97 /* percent of the last good rate that recovery goes to at once */
#define FIRST_STEP 5 /* percent, above the last good rate */
#define PATIENCE_MAX 12
#define OVER 4 /* times the rate at entry, where none is configured: over */

static uint64_t percent(uint64_t v, uint64_t p)
{
	return v > UINT64_MAX / p ? v : v * p / 100;
}

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static uint64_t most(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

static void cut(struct backoff *b, const struct backoff_rule *r, msec_t now, uint64_t to,
		msec_t from)
{
	b->rate = most(least(to, r->normal), r->floor);
	b->phase = BACKOFF_CUT;
	b->cut = now;
	b->next = most(now, from) + (b->good ? r->hold : r->interval);
}

void backoff_enter(struct backoff *b, const struct backoff_rule *r, msec_t now, uint64_t accepted,
		   msec_t from)
{
	*b = (struct backoff){.step = r->step, .patience = 1};
	cut(b, r, now, percent(accepted * PER_HOUR, r->reduce), from);
	b->entry = b->rate;
}

/* What is left of the belief in a good rate when there was a hit at the present one. */
static void doubt(struct backoff *b, uint64_t accepted)
{
	uint64_t seen = accepted * PER_HOUR;
	bool known = b->good > 0;

	/* as often as the allowance was found where it had been, the longer it is believed in */
	if (known && b->rate <= percent(b->good, 115) && b->rate >= percent(b->good, 100))
		b->patience = (uint32_t)least(2 * b->patience, PATIENCE_MAX);
	else
		b->patience = 1;
	b->good = most(b->good, seen);
	b->good = most(least(b->good, percent(b->rate, NEAR)), 1);
}

bool backoff_hit(struct backoff *b, const struct backoff_rule *r, msec_t now, uint64_t accepted,
		 msec_t from)
{
	uint64_t seen = accepted * PER_HOUR;

	if (b->phase == BACKOFF_OFF) {
		backoff_enter(b, r, now, accepted, from);
		return true;
	}
	if (now < b->cut + r->hold)
		return false;
	if (b->phase != BACKOFF_CUT || b->good)
		doubt(b, accepted);
	cut(b, r, now, percent(least(b->rate, seen), r->reduce), from);
	return true;
}

static bool is_over(const struct backoff *b, const struct backoff_rule *r)
{
	if (r->normal != BACKOFF_NO_LIMIT)
		return b->rate >= r->normal;
	return b->rate >= OVER * most(b->entry, b->good);
}

static void grow(struct backoff *b, const struct backoff_rule *r)
{
	b->rate = most(percent(b->rate, 100 + b->step), b->rate + 1);
	b->step = (uint32_t)least(2 * b->step, r->step);
	b->phase = BACKOFF_TRY;
}

static void step(struct backoff *b, const struct backoff_rule *r, bool used)
{
	if (b->phase == BACKOFF_CUT && b->good) {
		b->rate = most(b->rate, percent(b->good, NEAR));
		b->phase = BACKOFF_STAY;
		b->stay = b->patience;
		b->step = FIRST_STEP;
		return;
	}
	if (b->phase == BACKOFF_TRY && used)
		b->good = most(b->rate, 1);
	if (b->phase == BACKOFF_STAY && b->stay-- > 1)
		return;
	grow(b, r);
}

bool backoff_tick(struct backoff *b, const struct backoff_rule *r, msec_t now, bool used)
{
	uint64_t before = b->rate;

	while (b->phase != BACKOFF_OFF && b->next <= now) {
		step(b, r, used);
		b->next += r->interval;
		if (is_over(b, r))
			b->phase = BACKOFF_OFF;
	}
	return b->phase == BACKOFF_OFF ? before != 0 : b->rate != before;
}
