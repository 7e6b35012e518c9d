/* links: common/base common/conf common/spool common/shm common/acct spooler/commit.c spooler/commit_*.c spooler/dsn_row.c */
#include "tests/unit/spool_fixture.h"

#include "common/shm/rates.h"
#include "spooler/commit_private.h"

#define SEC USEC_PER_SEC
#define HOUR (3600 * SEC)

static usec_t now;
static msec_t wall;

static void pass(usec_t t)
{
	now += t;
	wall += t / USEC_PER_MSEC;
	clock_fake(now, wall);
}

static void begin(struct fix *f)
{
	now = 5000 * SEC;
	wall = UINT64_C(1795305600000);
	clock_fake(now, wall);
	fix_init(f);
	cr_assert_eq(commit_vmtas(f->c), 0);
}

/* A new family in new shared memory. */
static void restart(struct fix *f, bool clean)
{
	const struct shm_config sc = {
		.max_workers = 8, .ring_size = 65536, .max_live_queues = 1024};

	if (clean)
		cr_assert_eq(commit_finish(f->c), 0);
	fix_close(f);
	shm_free(f->shm);
	f->shm = shm_new(&sc);
	fix_open(f);
	cr_assert_eq(commit_vmtas(f->c), 0);
}

static void turn(struct fix *f)
{
	struct intake_message *none = NULL;
	struct commit_job *jobs = NULL;
	struct commit_result r;

	cr_assert_eq(commit_batch(f->c, &none, &jobs, &r), 0);
}

static int take(struct fix *f, const char *name, uint64_t n, usec_t per, usec_t *ret_open)
{
	struct rate_want w = {.scope = RATE_VMTA,
			      .measure = RATE_MESSAGES,
			      .name = slice_str(name),
			      .n = n,
			      .per = per,
			      .tokens = 1,
			      .conf_gen = 1};
	struct rate_ticket t;
	size_t by;

	*ret_open = now;
	return rates_take(f->shm, &w, 1, 1, now, &t, &by, ret_open);
}

static size_t rows(struct fix *f)
{
	struct slice prefix = slice_str(STATE_RATE), name = slice_of("", 0), v;
	struct spool_read *r;
	size_t n = 0;

	cr_assert_eq(spool_read_begin(f->spool, &r), 0);
	while (spool_state_next(r, prefix, name, &name, &v) > 0)
		n++;
	spool_read_end(r);
	return n;
}

/* One an hour, taken now; returns when it opens again. */
static usec_t used_clock(struct fix *f)
{
	usec_t open;

	cr_assert_eq(take(f, "x", 1, HOUR, &open), ERR_BUSY);
	pass(open - now);
	cr_assert_eq(take(f, "x", 1, HOUR, &open), 0);
	cr_assert_eq(take(f, "x", 1, HOUR, &open), ERR_BUSY);
	return open;
}

Test(commit_rates, a_moved_clock_is_written_within_a_second)
{
	struct fix f;

	begin(&f);
	used_clock(&f);
	turn(&f);
	cr_assert_eq(rows(&f), 1);
	fix_done(&f);
}

Test(commit_rates, a_clean_end_keeps_clocks_exactly)
{
	struct fix f;
	usec_t was, open;

	begin(&f);
	was = used_clock(&f);
	pass(600 * SEC);
	restart(&f, true);
	cr_assert_eq(take(&f, "x", 1, HOUR, &open), ERR_BUSY);
	cr_assert_eq(open, was);
	pass(was - now);
	cr_assert_eq(take(&f, "x", 1, HOUR, &open), 0);
	fix_done(&f);
}

Test(commit_rates, a_kill_keeps_what_was_written)
{
	struct fix f;
	usec_t was, open;

	begin(&f);
	was = used_clock(&f);
	turn(&f);
	pass(600 * SEC);
	restart(&f, false);
	cr_assert_eq(take(&f, "x", 1, HOUR, &open), ERR_BUSY);
	cr_assert_eq(open, was, "closed all the time: nothing can have been taken");
	fix_done(&f);
}

Test(commit_rates, what_a_kill_hides_is_taken_for_used)
{
	struct fix f;
	usec_t open, was;

	begin(&f);
	was = used_clock(&f); /* never written */
	pass(10 * SEC);
	restart(&f, false);
	cr_assert_eq(take(&f, "x", 1, HOUR, &open), ERR_BUSY);
	cr_assert_geq(open, was);
	/* ten recipients at once may have gone in the last moment */
	cr_assert_eq(take(&f, "y", 200, HOUR, &open), ERR_BUSY);
	cr_assert_geq(open, now + 10 * HOUR / 191);
	pass(10 * SEC);
	cr_assert_eq(take(&f, "z", 200, HOUR, &was), ERR_BUSY);
	cr_assert_eq(was, open, "at the start, not later");
	fix_done(&f);
}

Test(commit_rates, a_spooler_that_begins_again_changes_no_clock)
{
	struct fix f;
	usec_t open, was;

	begin(&f);
	was = used_clock(&f);
	turn(&f);
	cr_assert_eq(take(&f, "x", 60, 60 * SEC, &was), ERR_BUSY); /* a reload */
	fix_close(&f);
	fix_open(&f);
	cr_assert_eq(take(&f, "x", 60, 60 * SEC, &open), ERR_BUSY);
	cr_assert_eq(open, was);
	fix_done(&f);
}

Test(commit_rates, rows_of_clocks_that_have_passed_go)
{
	struct fix f;

	begin(&f);
	pass(used_clock(&f) - now - 10 * SEC);
	turn(&f);
	cr_assert_eq(rows(&f), 1);
	pass(120 * SEC);
	cr_assert_eq(commit_vmtas(f.c), 0);
	cr_assert_eq(rows(&f), 0);
	fix_done(&f);
}

Test(commit_rates, another_rate_after_a_restart_counts_in_tokens)
{
	struct fix f;
	usec_t open;

	begin(&f);
	used_clock(&f);
	restart(&f, true);
	cr_assert_eq(take(&f, "x", 60, 60 * SEC, &open), ERR_BUSY);
	cr_assert_leq(open, now + 2 * SEC);
	fix_done(&f);
}

Test(commit_rates, how_far_ahead_a_kept_clock_is)
{
	const struct spool_rate r = {.n = 1,
				     .per = HOUR,
				     .boot = 7,
				     .now = 1000 * SEC,
				     .wall = 1000000,
				     .ahead = 600 * UINT64_C(1000000000)};
	static const struct {
		const char *label;
		uint64_t boot;
		usec_t now;
		msec_t wall;
		uint64_t seconds;
	} cases[] = {
		{"at once", 7, 1000 * SEC, 1000000, 600},
		{"later", 7, 1100 * SEC, 1100000, 500},
		{"passed", 7, 1700 * SEC, 1700000, 0},
		{"the wall clock has jumped on", 7, 1100 * SEC, 99000000, 500},
		{"and back", 7, 1100 * SEC, 5, 500},
		{"another boot", 8, 20 * SEC, 1100001, 500},
		{"another boot, the wall clock is behind", 8, 20 * SEC, 5, 600},
		{"another boot, long ago", 8, 9000 * SEC, 9000000, 0},
		{"the monotonic clock of another namespace", 7, 20 * SEC, 1100001, 500},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		cr_expect_eq(commit_rate_ahead(&r, cases[i].boot, cases[i].now, cases[i].wall),
			     cases[i].seconds * UINT64_C(1000000000), "%s", cases[i].label);
}

Test(commit_rates, rows_are_read_as_written)
{
	const struct spool_rate r = {.n = UINT64_C(1) << 40,
				     .per = 15 * 60 * SEC,
				     .boot = UINT64_MAX - 5,
				     .now = 12345678901,
				     .wall = UINT64_C(1795305600123),
				     .ahead = UINT64_C(86400) * 1000000000};
	struct buf b = BUF_INIT;
	struct spool_rate got;

	row_rate_encode(&r, &b);
	cr_assert_eq(row_rate_decode(buf_slice(&b), &got), 0);
	cr_expect(got.n == r.n && got.per == r.per && got.boot == r.boot && got.now == r.now &&
		  got.wall == r.wall && got.ahead == r.ahead);
	for (size_t n = 0; n < b.n; n++)
		cr_expect_lt(row_rate_decode(slice_of(b.p, n), &got), 0, "%zu bytes", n);
	buf_add_char(&b, 'x');
	cr_expect_eq(row_rate_decode(buf_slice(&b), &got), ERR_CORRUPT);
	b.p[0] = 99;
	cr_expect_eq(row_rate_decode(buf_slice(&b), &got), ERR_VERSION);
	buf_done(&b);
}
