/* links: common/base worker/backoff.c */
#include <criterion/criterion.h>
#include <string.h>

#include "common/base/macros.h"
#include "common/base/xalloc.h"
#include "worker/backoff.h"

#define SEC UINT64_C(1000)
#define MIN (60 * SEC)
#define HOUR (60 * MIN)

static const struct backoff_rule rule = {
	.reduce = 50,
	.step = 25,
	.hold = 15 * SEC,
	.interval = 30 * SEC,
	.floor = 60,
	.normal = BACKOFF_NO_LIMIT,
};

/* --- single steps --- */

Test(backoff, entry_cuts_to_a_share_of_the_last_minute)
{
	struct backoff b = {0};

	backoff_enter(&b, &rule, 100 * SEC, 600, 0);
	cr_assert_eq(b.rate, 300 * 60);
	cr_assert_eq(b.phase, BACKOFF_CUT);
	backoff_enter(&b, &rule, 100 * SEC, 0, 0);
	cr_assert_eq(b.rate, rule.floor, "nothing was accepted: the least rate there is");
}

Test(backoff, grows_each_interval_without_a_hit_until_it_is_over)
{
	struct backoff b = {0};
	msec_t now = 100 * SEC;
	unsigned steps = 0;

	backoff_enter(&b, &rule, now, 600, 0);
	cr_assert_not(backoff_tick(&b, &rule, now + 29 * SEC, true));
	cr_assert(backoff_tick(&b, &rule, now + 30 * SEC, false));
	cr_assert_eq(b.rate, 375 * 60);
	while (b.phase != BACKOFF_OFF && steps++ < 100)
		backoff_tick(&b, &rule, now += 30 * SEC, false);
	cr_assert(b.rate >= 4 * b.entry && steps <= 8, "%u steps", steps);
}

Test(backoff, is_over_at_the_configured_rate)
{
	struct backoff_rule r = rule;
	struct backoff b = {0};
	msec_t now = 0;

	r.normal = 350 * 60;
	backoff_enter(&b, &r, now, 600, 0);
	cr_assert_eq(b.phase, BACKOFF_CUT);
	backoff_tick(&b, &r, now + 30 * SEC, true);
	cr_assert_eq(b.phase, BACKOFF_OFF);
}

Test(backoff, hits_right_behind_a_cut_say_nothing_new)
{
	struct backoff b = {0};

	backoff_enter(&b, &rule, 100 * SEC, 600, 0);
	cr_assert_not(backoff_hit(&b, &rule, 114 * SEC, 600, 0));
	cr_assert(backoff_hit(&b, &rule, 115 * SEC, 600, 0));
	cr_assert_eq(b.rate, 150 * 60);
}

Test(backoff, never_falls_below_the_floor)
{
	struct backoff b = {0};
	msec_t now = 0;

	backoff_enter(&b, &rule, now, 10, 0);
	for (int i = 0; i < 100; i++)
		backoff_hit(&b, &rule, now += 20 * SEC, 0, 0);
	cr_assert_eq(b.rate, rule.floor);
}

Test(backoff, waits_with_recovery_as_long_as_it_is_told)
{
	struct backoff b = {0};

	backoff_enter(&b, &rule, 0, 600, HOUR);
	cr_assert_not(backoff_tick(&b, &rule, HOUR, true));
	cr_assert(backoff_tick(&b, &rule, HOUR + 30 * SEC, true));
}

Test(backoff, hit_while_growing_leads_close_to_the_last_good_rate)
{
	struct backoff b = {0};
	msec_t now = 0;

	backoff_enter(&b, &rule, now, 600, 0); /* 300/m, then 375, 468, 585 */
	for (int i = 0; i < 3; i++)
		backoff_tick(&b, &rule, now += 30 * SEC, true);
	cr_assert_eq(b.good, 468 * 60 + 45);
	cr_assert(backoff_hit(&b, &rule, now += 5 * SEC, 480, 0));
	cr_assert_eq(b.rate, 240 * 60);
	cr_assert_eq(b.good, 480 * 60, "so much was taken in the last minute");
	cr_assert(backoff_tick(&b, &rule, now += 15 * SEC, true));
	cr_assert_eq(b.phase, BACKOFF_STAY);
	cr_assert_eq(b.rate, 480 * 60 * 97 / 100);
	cr_assert(backoff_tick(&b, &rule, now += 30 * SEC, true));
	cr_assert_eq(b.rate, 480 * 60 * 97 / 100 * 105 / 100);
}

Test(backoff, interval_without_traffic_proves_nothing)
{
	struct backoff b = {0};
	msec_t now = 0;

	backoff_enter(&b, &rule, now, 600, 0);
	for (int i = 0; i < 4; i++)
		backoff_tick(&b, &rule, now += 30 * SEC, false);
	cr_assert_eq(b.good, 0);
	cr_assert_gt(b.rate, b.entry);
}

Test(backoff, steps_that_were_missed_are_made_up_for)
{
	struct backoff b = {0}, c = {0};

	backoff_enter(&b, &rule, 0, 600, 0);
	c = b;
	for (int i = 1; i <= 3; i++)
		backoff_tick(&b, &rule, (msec_t)i * 30 * SEC, false);
	backoff_tick(&c, &rule, 90 * SEC, false);
	cr_assert_eq(b.rate, c.rate);
	backoff_tick(&c, &rule, 24 * HOUR, false);
	cr_assert_eq(c.phase, BACKOFF_OFF);
}

/* --- against receivers --- */

enum model { FIXED, SLIDING, SLIDING_COUNTS_REFUSED, BUCKET, MODELS };
static const char *const model_names[MODELS] = {
	"fixed windows", "sliding window", "sliding window that counts what it refused", "bucket"};

#define WINDOW (10 * SEC)
#define RING 65536

/* Allows so many recipients in 10 s. */
struct receiver {
	enum model m;
	unsigned allow;
	msec_t begin; /* FIXED */
	unsigned n;
	msec_t ring[RING]; /* SLIDING */
	size_t head, tail;
	double tokens; /* BUCKET */
	msec_t last;
};

static bool fixed_takes(struct receiver *r, msec_t t)
{
	if (t - r->begin >= WINDOW) {
		r->begin = t / WINDOW * WINDOW;
		r->n = 0;
	}
	if (r->n == r->allow)
		return false;
	r->n++;
	return true;
}

static bool sliding_takes(struct receiver *r, msec_t t)
{
	bool ok;

	while (r->head != r->tail && r->ring[r->head % RING] + WINDOW <= t)
		r->head++;
	ok = r->tail - r->head < r->allow;
	if (ok || r->m == SLIDING_COUNTS_REFUSED)
		r->ring[r->tail++ % RING] = t;
	return ok;
}

static bool bucket_takes(struct receiver *r, msec_t t)
{
	r->tokens += (double)(t - r->last) * r->allow / (double)WINDOW;
	r->last = t;
	if (r->tokens > r->allow)
		r->tokens = r->allow;
	if (r->tokens < 1)
		return false;
	r->tokens--;
	return true;
}

static bool takes(struct receiver *r, msec_t t)
{
	switch (r->m) {
	case FIXED:
		return fixed_takes(r, t);
	case SLIDING:
	case SLIDING_COUNTS_REFUSED:
		return sliding_takes(r, t);
	case BUCKET:
	case MODELS:
		break;
	}
	return bucket_takes(r, t);
}

#define TICK 5
#define CONNECTIONS 20

/* A sender that always has mail: one recipient at a time on each of its connections. */
struct sender {
	struct backoff b;
	msec_t latency;
	unsigned percent; /* of the rate that it reaches */
	double clock; /* next may go, ms */
	struct {
		msec_t at;
		bool ok;
	} flight[CONNECTIONS];
	unsigned n;
	unsigned accepted[60];
	msec_t second[60];
	unsigned long tried, taken;
};

static uint64_t last_minute(const struct sender *s, msec_t t)
{
	uint64_t n = 0;

	for (size_t i = 0; i < 60; i++)
		if (s->accepted[i] && s->second[i] + 60 > t / SEC)
			n += s->accepted[i];
	return n;
}

static double gap(const struct sender *s)
{
	return (double)HOUR / ((double)s->b.rate * s->percent / 100);
}

static void answered(struct sender *s, msec_t t, bool ok)
{
	size_t i = t / SEC % 60;

	if (!ok) {
		if (backoff_hit(&s->b, &rule, t, last_minute(s, t), 0))
			s->clock = (double)t + gap(s);
		return;
	}
	if (s->second[i] != t / SEC)
		s->accepted[i] = 0;
	s->second[i] = t / SEC;
	s->accepted[i]++;
}

static void tick(struct sender *s, struct receiver *r, msec_t t)
{
	for (unsigned i = 0; i < s->n;) {
		bool ok = s->flight[i].ok;

		if (s->flight[i].at > t) {
			i++;
			continue;
		}
		s->flight[i] = s->flight[--s->n];
		answered(s, t, ok);
	}
	backoff_tick(&s->b, &rule, t, last_minute(s, t) * 60 * 2 >= s->b.rate);
	while (s->n < CONNECTIONS && (s->b.phase == BACKOFF_OFF || s->clock <= (double)t)) {
		bool ok = takes(r, t);

		if (s->b.phase != BACKOFF_OFF)
			s->clock += gap(s);
		s->flight[s->n].at = t + s->latency;
		s->flight[s->n++].ok = ok;
		s->tried++;
		s->taken += ok;
	}
}

static void check_level(struct sender *s, struct receiver *r, msec_t begin, msec_t length)
{
	double used, refused;

	for (msec_t t = begin; t < begin + length; t += TICK) {
		if (t == begin + 15 * MIN)
			s->tried = s->taken = 0;
		tick(s, r, t);
	}
	used = 100.0 * (double)s->taken /
	       ((double)r->allow * (double)(length - 15 * MIN) / (double)WINDOW);
	refused = 100.0 * (double)(s->tried - s->taken) / (double)s->tried;
	cr_expect(used >= 85.0, "%s, %u in 10 s, latency %u, level of %u s: %.1f%% used",
		  model_names[r->m], r->allow, (unsigned)s->latency, (unsigned)(length / SEC),
		  used);
	cr_expect(refused < 1.0, "%s, %u in 10 s, latency %u, level of %u s: %.2f%% refused",
		  model_names[r->m], r->allow, (unsigned)s->latency, (unsigned)(length / SEC),
		  refused);
}

static void run_levels(enum model m, msec_t latency, unsigned percent, msec_t length)
{
	static const unsigned levels[] = {100, 40, 200, 100};
	struct receiver *r = xcalloc(1, sizeof(*r));
	struct sender *s = xcalloc(1, sizeof(*s));

	r->m = m;
	s->latency = latency;
	s->percent = percent;
	for (size_t i = 0; i < ARRAY_SIZE(levels); i++) {
		r->allow = levels[i];
		check_level(s, r, WINDOW + i * length, length);
	}
	free(s);
	free(r);
}

Test(backoff, uses_what_each_receiver_allows_and_is_hardly_refused)
{
	static const msec_t latency[] = {10, 100, 400}, length[] = {20 * MIN, 27 * MIN};

	for (int m = 0; m < MODELS; m++)
		for (size_t i = 0; i < ARRAY_SIZE(latency); i++)
			for (size_t k = 0; k < ARRAY_SIZE(length); k++)
				run_levels((enum model)m, latency[i], k ? 92 : 100, length[k]);
}
