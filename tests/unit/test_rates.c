/* links: common/base common/shm */
#include <criterion/criterion.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/err.h"
#include "common/base/macros.h"
#include "common/base/xalloc.h"
#include "common/shm/layout.h"
#include "common/shm/rates.h"
#include "common/shm/rates_table.h"

#define SEC USEC_PER_SEC
#define MIN (60 * SEC)
#define HOUR (60 * MIN)
#define DAY (24 * HOUR)
#define START (1000 * SEC)

static struct shm *shm_of(uint32_t max_rates)
{
	return shm_new(&(struct shm_config){.max_workers = 4,
					    .ring_size = 65536,
					    .max_live_queues = 16,
					    .max_rates = max_rates});
}

static struct rate_want want(enum rate_measure m, const char *name, uint64_t n, usec_t per,
			     uint64_t tokens)
{
	return (struct rate_want){.scope = RATE_QUEUE,
				  .measure = m,
				  .name = slice_str(name),
				  .n = n,
				  .per = per,
				  .tokens = tokens,
				  .conf_gen = 1};
}

/* --- what was taken, and whether a window held too much --- */

struct journal {
	struct {
		usec_t at;
		uint64_t tokens;
	} * v;
	size_t n, cap;
};

static void note(struct journal *j, usec_t at, uint64_t tokens)
{
	if (j->n == j->cap) {
		j->cap = j->cap ? 2 * j->cap : 256;
		j->v = xreallocarray(j->v, j->cap, sizeof(*j->v));
	}
	j->v[j->n].at = at;
	j->v[j->n++].tokens = tokens;
}

/* The most that any window of this length holds; entries are in order of time. */
static uint64_t fullest(const struct journal *j, usec_t per)
{
	uint64_t sum = 0, most = 0;
	size_t from = 0, i;

	for (i = 0; i < j->n; i++) {
		sum += j->v[i].tokens;
		while (j->v[i].at - j->v[from].at >= per)
			sum -= j->v[from++].tokens;
		if (sum > most)
			most = sum;
	}
	return most;
}

static uint64_t total(const struct journal *j)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < j->n; i++)
		sum += j->v[i].tokens;
	return sum;
}

/* --- one clock, virtual time --- */

struct rate_case {
	const char *label;
	enum rate_measure measure;
	uint64_t n;
	usec_t per;
	uint64_t largest; /* tokens of an action, at most */
};

static const struct rate_case cases[] = {
	{"1/d", RATE_MESSAGES, 1, DAY, 1},
	{"1/s", RATE_MESSAGES, 1, SEC, 1},
	{"2/m", RATE_MESSAGES, 2, MIN, 1},
	{"100/15m, transactions of any size", RATE_MESSAGES, 100, 15 * MIN, 5},
	{"200/h, single recipients", RATE_MESSAGES, 200, HOUR, 1},
	{"200/h, transactions of any size", RATE_MESSAGES, 200, HOUR, 10},
	{"39/m", RATE_MESSAGES, 39, MIN, 1},
	{"40/m", RATE_MESSAGES, 40, MIN, 2},
	{"100000/m", RATE_MESSAGES, 100000, MIN, 5000},
	{"3/10s connections", RATE_CONNECTS, 3, 10 * SEC, 1},
	{"1000/s connections", RATE_CONNECTS, 1000, SEC, 1},
	{"10M/m, small messages", RATE_BYTES, 10 << 20, MIN, 100 << 10},
	{"10M/m, messages of up to all of it", RATE_BYTES, 10 << 20, MIN, 10 << 20},
	{"1000/h bytes: all messages are big", RATE_BYTES, 1000, HOUR, 1000},
};

/* Takes as soon as the clock lets it, or after random pauses, until so many actions are done. */
static void play(struct shm *s, const struct rate_case *c, unsigned actions, bool pauses,
		 unsigned sharers, struct journal *j)
{
	usec_t now = START;

	while (actions > 0) {
		uint64_t k = 1 + (uint64_t)rand() % c->largest;
		struct rate_want w = want(c->measure, "a/b", c->n, c->per, k);
		struct rate_ticket t;
		size_t blocking = 9;
		usec_t open = 0;
		uint64_t who = 1 + (uint64_t)rand() % sharers;
		int rc = rates_take(s, &w, 1, who, now, &t, &blocking, &open);

		if (rc == 0) {
			note(j, now, k);
			actions--;
			now += pauses && rand() % 4 == 0 ? (usec_t)rand() % c->per : 0;
		} else {
			cr_assert_eq(rc, ERR_BUSY);
			cr_assert_eq(blocking, 0);
			cr_assert_gt(open, now);
			/* timers are late */
			now = open + (usec_t)rand() % (2 * USEC_PER_MSEC);
		}
	}
}

Test(rates, no_window_ever_holds_more_than_the_rate)
{
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const struct rate_case *c = &cases[i];

		for (unsigned round = 0; round < 6; round++) {
			struct journal j = {0};
			struct shm *s = shm_of(0);

			srand(round);
			play(s, c, 3000, round % 2, 1 + round % 3, &j);
			cr_assert_leq(fullest(&j, c->per), c->n, "%s: a window holds %llu",
				      c->label, (unsigned long long)fullest(&j, c->per));
			/* and where the receiver counts, everything may be later by up to s */
			for (size_t k = 0; k < j.n; k++)
				j.v[k].at += (usec_t)rand() %
					     (c->per / 10 < SEC / 4 ? c->per / 10 : SEC / 4);
			shm_free(s);
			free(j.v);
		}
	}
}

Test(rates, jitter_at_the_receiver_does_not_break_the_limit)
{
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const struct rate_case *c = &cases[i];
		usec_t spread = c->per / 10 < SEC / 4 ? c->per / 10 : SEC / 4;
		struct journal j = {0}, late = {0};
		struct shm *s = shm_of(0);
		usec_t last = 0;

		srand(7);
		play(s, c, 3000, true, 1, &j);
		for (size_t k = 0; k < j.n; k++) {
			usec_t at = j.v[k].at + (usec_t)rand() % spread;

			last = at > last ? at : last; /* one connection: in order */
			note(&late, last, j.v[k].tokens);
		}
		cr_assert_leq(fullest(&late, c->per), c->n, "%s", c->label);
		shm_free(s);
		free(j.v);
		free(late.v);
	}
}

Test(rates, the_rate_is_used)
{
	static const struct {
		const char *label;
		uint64_t n, k;
		usec_t per;
		double share; /* of N in T, at least */
	} of[] = {
		{"2/m", 2, 1, MIN, 0.99},
		{"39/m", 39, 1, MIN, 0.98},
		{"200/h", 200, 1, HOUR, 0.94},
		{"200/h tens", 200, 10, HOUR, 0.94},
		{"100/15m", 100, 1, 15 * MIN, 0.94},
		{"100000/m", 100000, 1, MIN, 0.92},
		{"6000/m", 6000, 20, MIN, 0.93},
	};

	for (size_t i = 0; i < ARRAY_SIZE(of); i++) {
		struct rate_case c = {of[i].label, RATE_MESSAGES, of[i].n, of[i].per, 1};
		struct journal j = {0};
		struct shm *s = shm_of(0);
		double share;

		c.largest = 1;
		srand(1);
		if (of[i].k > 1) {
			usec_t now = START, open;
			size_t b;
			struct rate_ticket t;

			for (unsigned a = 0; a < 1000; now = open) {
				struct rate_want w =
					want(RATE_MESSAGES, "a/b", of[i].n, of[i].per, of[i].k);

				open = now;
				if (rates_take(s, &w, 1, 1, now, &t, &b, &open) == 0) {
					note(&j, now, of[i].k);
					a++;
				}
			}
		} else {
			play(s, &c, of[i].n > 1000 ? 100000 : 2000, false, 1, &j);
		}
		share = (double)total(&j) * (double)of[i].per /
			((double)(j.v[j.n - 1].at - j.v[0].at) * (double)of[i].n);
		cr_assert_geq(share, of[i].share, "%s: %.3f", of[i].label, share);
		shm_free(s);
		free(j.v);
	}
}

static int take(struct shm *s, const char *name, uint64_t n, usec_t per, uint64_t k, usec_t now,
		usec_t *ret_open)
{
	struct rate_want w = want(RATE_MESSAGES, name, n, per, k);
	struct rate_ticket t;
	size_t b;

	*ret_open = now;
	return rates_take(s, &w, 1, 1, now, &t, &b, ret_open);
}

Test(rates, a_new_clock_opens_one_interval_ahead)
{
	struct shm *s = shm_of(0);
	usec_t open;

	cr_assert_eq(take(s, "x", 2, MIN, 1, START, &open), ERR_BUSY);
	cr_assert_geq(open, START + 30 * SEC);
	cr_assert_leq(open, START + 31 * SEC);
	cr_assert_eq(take(s, "x", 2, MIN, 1, open - 1, &open), ERR_BUSY);
	cr_assert_eq(take(s, "x", 2, MIN, 1, open, &open), 0);
	cr_assert_eq(take(s, "x", 2, MIN, 1, open + 30 * SEC, &open), ERR_BUSY);
	shm_free(s);
}

Test(rates, a_message_larger_than_the_whole_allowance_goes_alone)
{
	struct rate_want small = want(RATE_BYTES, "v", 1000, MIN, 10);
	struct rate_want big = want(RATE_BYTES, "v", 1000, MIN, 5000);
	struct shm *s = shm_of(0);
	struct rate_ticket t;
	usec_t open, now = START + MIN;
	size_t b;

	cr_assert_eq(rates_ask(s, &small, 1, 1, START, &b, &open), ERR_BUSY);
	cr_assert_eq(rates_take(s, &small, 1, 1, now, &t, &b, &open), 0);
	cr_assert_eq(rates_take(s, &big, 1, 1, now, &t, &b, &open), ERR_BUSY);
	cr_assert_geq(open, now + MIN, "nothing is in the window before it");
	cr_assert_leq(open, now + MIN + 2 * SEC);
	/* it has the turn: a stream of small ones of others cannot keep it waiting for ever */
	cr_assert_eq(rates_take(s, &small, 1, 2, now + 30 * SEC, &t, &b, &now), ERR_BUSY);
	cr_assert_gt(now, open);
	cr_assert_eq(rates_take(s, &big, 1, 1, open, &t, &b, &now), 0);
	cr_assert_eq(rates_take(s, &small, 1, 2, open, &t, &b, &now), ERR_BUSY);
	cr_assert_geq(now, open + 5 * MIN, "its whole cost is behind it");
	shm_free(s);
}

Test(rates, all_clocks_of_an_action_are_moved_or_none)
{
	struct rate_want w[2] = {want(RATE_MESSAGES, "fast", 100, SEC, 1),
				 want(RATE_MESSAGES, "slow", 1, HOUR, 1)};
	struct shm *s = shm_of(0);
	struct rate_ticket t;
	struct rate_info before[4], after[4];
	size_t pos = 0, b;
	usec_t open, now = START + HOUR + MIN;

	cr_assert_eq(rates_ask(s, w, 2, 1, START, &b, &open), ERR_BUSY);
	cr_assert_eq(b, 1);
	cr_assert_eq(rates_take(s, w, 2, 1, now, &t, &b, &open), 0);
	cr_assert_eq(rates_list(s, &pos, before, 4), 2);
	cr_assert_eq(rates_take(s, w, 2, 1, now + SEC, &t, &b, &open), ERR_BUSY);
	cr_assert_eq(b, 1, "the one that opens last is named");
	pos = 0;
	cr_assert_eq(rates_list(s, &pos, after, 4), 2);
	for (size_t i = 0; i < 2; i++)
		cr_assert_eq(before[i].open, after[i].open, "%s was moved", before[i].name);
	/* who waits for the slow one does not keep the fast one from others */
	cr_assert_eq(rates_take(s, w, 1, 2, now + SEC, &t, &b, &open), 0);
	shm_free(s);
}

Test(rates, tokens_that_were_not_used_come_back_unless_others_took_since)
{
	struct rate_want w = want(RATE_MESSAGES, "x", 400, MIN, 20);
	struct shm *s = shm_of(0);
	struct rate_ticket t, u;
	usec_t open, first, now = START + MIN;
	size_t b;

	cr_assert_eq(rates_ask(s, &w, 1, 1, START, &b, &open), ERR_BUSY);
	cr_assert_eq(rates_take(s, &w, 1, 1, now, &t, &b, &open), 0);
	cr_assert_eq(rates_ask(s, &w, 1, 1, now, &b, &first), ERR_BUSY);
	rates_give_back(s, &t, 0, 5);
	cr_assert_eq(rates_ask(s, &w, 1, 1, now, &b, &open), ERR_BUSY);
	cr_assert_leq(open - now, (first - now) / 4 + 100 * USEC_PER_MSEC);
	cr_assert_eq(rates_take(s, &w, 1, 1, open, &u, &b, &first), 0);
	rates_give_back(s, &t, 0, 0);
	cr_assert_eq(rates_ask(s, &w, 1, 1, open, &b, &now), ERR_BUSY);
	cr_assert_geq(now - open, 2 * SEC, "what the other took stays taken");
	shm_free(s);
}

Test(rates, two_that_share_a_clock_take_turns)
{
	struct rate_want w = want(RATE_MESSAGES, "shared", 60, MIN, 1);
	struct shm *s = shm_of(0);
	unsigned got[3] = {0};
	usec_t wake[3] = {START, START, START}, now = START, open;
	struct rate_ticket t;
	size_t b;

	/* the first is quicker at any time, and asks again at once */
	while (now < START + 30 * MIN) {
		unsigned who = wake[0] <= wake[1] && wake[0] <= wake[2] ? 0
			       : wake[1] <= wake[2]			? 1
									: 2;

		now = wake[who];
		if (rates_take(s, &w, 1, who + 1, now, &t, &b, &open) == 0) {
			got[who]++;
			wake[who] = now + 1;
		} else {
			wake[who] = open + 10 * who;
		}
	}
	for (unsigned i = 0; i < 3; i++)
		cr_assert_geq(got[i], 400, "%u got %u of 1800", i, got[i]);
	shm_free(s);
}

Test(rates, who_has_the_turn_and_does_not_come_stops_nobody_for_long)
{
	struct shm *s = shm_of(0);
	struct rate_want w = want(RATE_MESSAGES, "x", 60, MIN, 1);
	struct rate_ticket t;
	usec_t open, other;
	size_t b;

	cr_assert_eq(rates_ask(s, &w, 1, 1, START, &b, &open), ERR_BUSY);
	cr_assert_eq(rates_take(s, &w, 1, 2, open, &t, &b, &other), ERR_BUSY);
	cr_assert_leq(other, open + 50 * USEC_PER_MSEC);
	cr_assert_eq(rates_take(s, &w, 1, 2, other, &t, &b, &other), 0);
	shm_free(s);
}

Test(rates, a_changed_rate_holds_at_once)
{
	struct shm *s = shm_of(0);
	usec_t open, now = START + 2 * DAY;

	cr_assert_eq(take(s, "x", 1, DAY, 1, START, &open), ERR_BUSY);
	cr_assert_eq(take(s, "x", 1, DAY, 1, now, &open), 0);
	cr_assert_eq(take(s, "x", 1, DAY, 1, now, &open), ERR_BUSY);
	cr_assert_geq(open, now + DAY);
	/* 1/d to 60/m: what is left of a day's interval is one of a second */
	cr_assert_eq(take(s, "x", 60, MIN, 1, now, &open), ERR_BUSY);
	cr_assert_leq(open, now + 2 * SEC);
	cr_assert_eq(take(s, "x", 60, MIN, 1, open, &open), 0);
	/* and back: the next is a day after the first one under it */
	now = open + 5 * SEC;
	cr_assert_eq(take(s, "x", 1, DAY, 1, now, &open), 0);
	cr_assert_eq(take(s, "x", 1, DAY, 1, now + SEC, &open), ERR_BUSY);
	cr_assert_geq(open, now + DAY);
	shm_free(s);
}

Test(rates, an_older_configuration_changes_nothing)
{
	struct rate_want old = want(RATE_MESSAGES, "x", 1000, MIN, 1);
	struct rate_want new = want(RATE_MESSAGES, "x", 1, MIN, 1);
	struct shm *s = shm_of(0);
	struct rate_ticket t;
	usec_t open, now = START + 2 * MIN;
	size_t b;

	new.conf_gen = 2;
	cr_assert_eq(rates_ask(s, &new, 1, 1, START, &b, &open), ERR_BUSY);
	cr_assert_eq(rates_take(s, &new, 1, 1, now, &t, &b, &open), 0);
	cr_assert_eq(rates_take(s, &old, 1, 1, now + SEC, &t, &b, &open), ERR_BUSY);
	cr_assert_geq(open, now + MIN);
	shm_free(s);
}

Test(rates, a_full_table_fails_closed_and_forgets_only_what_is_idle)
{
	struct shm *s = shm_of(16);
	usec_t open, now = START;
	char name[16];

	for (unsigned i = 0; i < 16; i++) {
		snprintf(name, sizeof(name), "%u", i);
		cr_assert_eq(take(s, name, i == 3 ? 1 : 60, i == 3 ? DAY : MIN, 1, now, &open),
			     ERR_BUSY);
	}
	cr_assert_eq(take(s, "one more", 60, MIN, 1, now, &open), ERR_FULL);
	cr_assert_gt(open, now);
	cr_assert_eq(take(s, "one more", 60, MIN, 1, now + 9 * MIN, &open), ERR_FULL);
	now += 11 * MIN;
	for (unsigned i = 0; i < 15; i++) {
		snprintf(name, sizeof(name), "new %u", i);
		cr_assert_eq(take(s, name, 60, MIN, 1, now, &open), ERR_BUSY, "%u", i);
		cr_assert_geq(open, now + SEC, "as new as the first time");
	}
	cr_assert_eq(take(s, "and one", 60, MIN, 1, now, &open), ERR_FULL,
		     "3, closed for a day, is not forgotten");
	cr_assert_eq(take(s, "3", 1, DAY, 1, now, &open), ERR_BUSY);
	cr_assert_leq(open, START + DAY + MIN);
	shm_free(s);
}

Test(rates, long_names_are_told_apart)
{
	struct shm *s = shm_of(0);
	struct rate_info info[4];
	char a[400], b[400];
	usec_t open;
	size_t pos = 0;

	memset(a, 'x', sizeof(a) - 1);
	a[399] = '\0';
	memcpy(b, a, sizeof(b));
	b[398] = 'y';
	cr_assert_eq(take(s, a, 1, MIN, 1, START, &open), ERR_BUSY);
	cr_assert_eq(take(s, b, 1, MIN, 1, START + MIN, &open), ERR_BUSY);
	cr_assert_eq(take(s, a, 1, MIN, 1, START + 2 * MIN, &open), 0);
	cr_assert_eq(rates_list(s, &pos, info, 4), 2);
	shm_free(s);
}

/* --- several processes --- */

struct shared {
	_Atomic uint64_t n;
	_Atomic uint32_t stop;
	struct {
		_Atomic uint64_t at, tokens;
	} v[200000];
};

/* The time is read before the take: the taker acts then or later. */
static void taker(struct shm *s, struct shared *sh, unsigned me, uint64_t n, usec_t per)
{
	unsigned most = (unsigned)rate_most(RATE_MESSAGES, n);

	srand(me);
	while (!atomic_load(&sh->stop)) {
		uint64_t k = 1 + (uint64_t)rand() % most;
		struct rate_want w[2] = {want(RATE_MESSAGES, "p", n, per, k),
					 want(RATE_MESSAGES, me % 2 ? "q" : "r", n, per, k)};
		usec_t now = clock_now(), open;
		struct rate_ticket t;
		size_t b;

		if (rates_take(s, w, 2, me + 1, now, &t, &b, &open) == 0) {
			uint64_t at = atomic_fetch_add(&sh->n, 1);

			if (at < ARRAY_SIZE(sh->v)) {
				atomic_store(&sh->v[at].tokens, k);
				atomic_store(&sh->v[at].at, now);
			}
		} else if (rand() % 8 == 0) {
			usleep(open > now && open - now < 2000 ? (unsigned)(open - now) : 500);
		}
	}
	_exit(0);
}

static int by_time(const void *a, const void *b)
{
	usec_t x = *(const usec_t *)a, y = *(const usec_t *)b;

	return x < y ? -1 : x > y;
}

#define TAKERS 6

static void race_of_processes(uint64_t n, usec_t per, usec_t length, bool kills)
{
	struct shared *sh =
		mmap(NULL, sizeof(*sh), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct shm *s = shm_of(0);
	struct journal j = {0};
	pid_t pid[TAKERS];
	usec_t until;

	cr_assert_neq(sh, MAP_FAILED);
	for (unsigned i = 0; i < TAKERS; i++)
		if ((pid[i] = fork()) == 0)
			taker(s, sh, i, n, per);
	for (until = clock_now() + length; clock_now() < until;) {
		unsigned i = (unsigned)rand() % TAKERS;

		usleep(kills ? 3000 : 50000);
		if (!kills)
			continue;
		kill(pid[i], SIGKILL);
		waitpid(pid[i], NULL, 0);
		if ((pid[i] = fork()) == 0)
			taker(s, sh, i, n, per);
	}
	atomic_store(&sh->stop, 1);
	for (unsigned i = 0; i < TAKERS; i++)
		waitpid(pid[i], NULL, 0);
	cr_assert_lt(atomic_load(&sh->n), ARRAY_SIZE(sh->v));
	for (uint64_t i = 0; i < atomic_load(&sh->n); i++)
		if (atomic_load(&sh->v[i].at)) /* killed in between: nothing was done with it */
			note(&j, atomic_load(&sh->v[i].at), atomic_load(&sh->v[i].tokens));
	qsort(j.v, j.n, sizeof(*j.v), by_time);
	cr_assert_leq(fullest(&j, per), n, "%llu in a window, %zu actions",
		      (unsigned long long)fullest(&j, per), j.n);
	cr_assert_geq(total(&j) * per, n * length / 2, "only %llu tokens were taken",
		      (unsigned long long)total(&j));
	free(j.v);
	shm_free(s);
	munmap(sh, sizeof(*sh));
}

Test(rates, several_processes_share_a_clock, .timeout = 60)
{
	race_of_processes(2000, 100 * USEC_PER_MSEC, SEC, false);
	race_of_processes(50, 200 * USEC_PER_MSEC, SEC, false);
}

Test(rates, a_process_that_is_killed_in_the_table_harms_nobody, .timeout = 60)
{
	race_of_processes(20000, 100 * USEC_PER_MSEC, SEC, true);
}

/* --- over restarts --- */

static size_t unsaved(struct shm *s, struct rate_row *rows, size_t max, usec_t now)
{
	uint32_t pos = 0;

	return rates_unsaved(s, &pos, rows, max, now);
}

Test(rates, clocks_of_long_windows_are_kept)
{
	struct shm *s = shm_of(0), *next;
	struct rate_row rows[4];
	usec_t open, was;
	uint64_t moves;

	cr_assert(rates_begin(s, false, START));
	cr_assert_not(rates_begin(s, true, START), "only the first one counts");
	moves = rates_moves(s);
	cr_assert_eq(take(s, "short", 100, 10 * SEC, 1, START, &open), ERR_BUSY);
	cr_assert_eq(take(s, "short", 100, 10 * SEC, 1, START + MIN, &open), 0);
	cr_assert_eq(rates_moves(s), moves);
	cr_assert_eq(unsaved(s, rows, 4, START + MIN), 0);
	cr_assert_eq(take(s, "long", 1, HOUR, 1, START, &open), ERR_BUSY);
	cr_assert_eq(take(s, "long", 1, HOUR, 1, START + 2 * HOUR, &open), 0);
	cr_assert_gt(rates_moves(s), moves);
	cr_assert_eq(unsaved(s, rows, 4, START + 2 * HOUR), 1);
	cr_assert_str_eq(rows[0].name, "long");
	cr_assert_not(rows[0].remove);
	cr_assert_eq(unsaved(s, rows + 1, 3, START + 2 * HOUR), 0, "it is written");
	rates_not_saved(s, &rows[0]);
	cr_assert_eq(unsaved(s, rows, 4, START + 2 * HOUR), 1, "it was not");
	cr_assert_eq(take(s, "long", 1, HOUR, 1, START + 2 * HOUR, &was), ERR_BUSY);

	next = shm_of(0);
	rates_begin(next, false, START + 2 * HOUR + MIN);
	rates_load(next, &rows[0], rows[0].clock - (START + 2 * HOUR + MIN) * RATE_NSEC,
		   START + 2 * HOUR + MIN);
	cr_assert_eq(take(next, "long", 1, HOUR, 1, START + 2 * HOUR + MIN, &open), ERR_BUSY);
	cr_assert_eq(open, was);
	/* passed for a minute: the row goes */
	cr_assert_eq(unsaved(next, rows, 4, was + SEC), 0);
	cr_assert_eq(unsaved(next, rows, 4, was + 2 * MIN), 1);
	cr_assert(rows[0].remove);
	cr_assert_eq(unsaved(next, rows, 4, was + 3 * MIN), 0);
	shm_free(s);
	shm_free(next);
}

/*
 * Runs that end at any moment, their last snapshot some actions old: whatever rows say, no window over
 * several runs holds too much.
 */
static void crash_runs(const struct rate_case *c, unsigned seed)
{
	struct rate_row rows[4], fresh[4];
	size_t kept = 0, b;
	struct journal j = {0};
	usec_t now = START, open;
	struct rate_ticket t;
	uint64_t clock_at = 0; /* of the snapshot */

	srand(seed);
	for (unsigned run = 0; run < 300; run++) {
		struct shm *s = shm_of(0);
		unsigned actions = (unsigned)rand() % 40;

		rates_begin(s, run > 0, now);
		if (kept)
			rates_load(s, &rows[0],
				   clock_at > now * RATE_NSEC ? clock_at - now * RATE_NSEC : 0,
				   now);
		for (unsigned i = 0; i < actions; i++) {
			uint64_t k = 1 + (uint64_t)rand() % c->largest;
			struct rate_want w = want(c->measure, "a/b", c->n, c->per, k);

			if (rates_take(s, &w, 1, 1, now, &t, &b, &open) == 0) {
				note(&j, now, k);
				if (rand() % 5 == 0)
					rates_give_back(s, &t, 0, k);
			} else
				now = open;
			if (rand() % 3 == 0 && unsaved(s, fresh, 4, now) == 1) {
				rows[0] = fresh[0];
				kept = !rows[0].remove;
				clock_at = rows[0].clock;
			}
		}
		now += (usec_t)rand() % (c->per / 8);
		shm_free(s);
	}
	cr_assert_leq(fullest(&j, c->per), c->n, "%s: %llu in a window", c->label,
		      (unsigned long long)fullest(&j, c->per));
	cr_assert_gt(j.n, 100);
	free(j.v);
}

Test(rates, no_window_over_runs_that_were_killed_holds_more_either)
{
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		for (unsigned seed = 0; seed < 4; seed++)
			crash_runs(&cases[i], seed);
}
