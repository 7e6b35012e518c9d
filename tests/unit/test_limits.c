/* links: common/base common/shm */
#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/err.h"
#include "common/shm/layout.h"
#include "common/shm/limits.h"
#include "common/shm/limits_table.h"

#define WORKERS 8
#define NOBODY 99

static int bells[WORKERS];

static struct shm *make(uint32_t max_limits, uint32_t max_leases)
{
	struct shm_config c = {.max_workers = WORKERS,
			       .ring_size = 65536,
			       .max_live_queues = 16,
			       .max_limits = max_limits,
			       .max_leases = max_leases};
	int i;

	for (i = 0; i < WORKERS; i++)
		bells[i] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	limits_set_bells(bells, WORKERS);
	return shm_new(&c);
}

static bool rang(int slot)
{
	uint64_t n;

	return read(bells[slot], &n, sizeof(n)) == sizeof(n);
}

static struct limit_want want(enum limit_kind kind, const char *name, uint32_t cap)
{
	return (struct limit_want){
		.kind = kind, .name = slice_str(name), .cap = cap, .conf_gen = 1};
}

static int take1(struct shm *s, uint32_t slot, const char *ip, uint32_t cap, lease_id *ret)
{
	struct limit_want w = want(LIMIT_IP, ip, cap);
	size_t blocking;

	return lease_take(s, slot, &w, 1, ret, &blocking);
}

static struct limit_info info(struct shm *s, const char *name)
{
	struct limit_info all[128];
	size_t pos = 0, n = limits_list(s, &pos, all, 128), i;

	for (i = 0; i < n; i++)
		if (strcmp(all[i].name, name) == 0)
			return all[i];
	cr_assert_fail("no entry %s", name);
	return all[0];
}

Test(limits, take_all_or_none)
{
	struct shm *s = make(64, 64);
	struct limit_want w[] = {want(LIMIT_TOTAL, "", 10), want(LIMIT_VMTA, "mta1", 10),
				 want(LIMIT_IP, "192.0.2.1", 1)};
	size_t blocking = NOBODY;
	lease_id a, b;

	cr_assert_eq(lease_take(s, 0, w, 3, &a, &blocking), 0);
	cr_assert_eq(lease_take(s, 1, w, 3, &b, &blocking), ERR_BUSY);
	cr_assert_eq(blocking, 2);
	cr_assert_eq(info(s, "mta1").in_use, 1);
	cr_assert_eq(info(s, "").in_use, 1);
	cr_assert_eq(info(s, "192.0.2.1").waiting, 1);
	cr_assert_eq(lease_take(s, 1, w, 3, &b, &blocking), ERR_BUSY);
	cr_assert_eq(info(s, "192.0.2.1").waiting, 1, "a worker waits once");
	lease_give(s, 0, a);
	cr_assert(rang(1) && !rang(0));
	cr_assert_eq(lease_take(s, 0, w, 3, &a, &blocking), ERR_BUSY,
		     "the slot is kept for worker 1");
	cr_assert_eq(lease_take(s, 1, w, 3, &b, &blocking), 0);
	cr_assert_eq(info(s, "192.0.2.1").waiting, 1);
	lease_give(s, 1, b);
	cr_assert(rang(0));
	shm_free(s);
}

Test(limits, serve_waiting_workers_in_order)
{
	struct shm *s = make(64, 64);
	lease_id l;
	int i, k;

	cr_assert_eq(take1(s, 0, "a", 1, &l), 0);
	for (i = 1; i < 5; i++)
		cr_assert_eq(take1(s, (uint32_t)i, "a", 1, &(lease_id){0}), ERR_BUSY);
	for (i = 1; i < 5; i++) {
		lease_give(s, (uint32_t)i - 1, l);
		for (k = 1; k < 5; k++)
			cr_assert_eq(rang(k), k == i, "turn %d, bell %d", i, k);
		cr_assert_eq(take1(s, (uint32_t)i, "a", 1, &l), 0);
	}
	shm_free(s);
}

Test(limits, pass_a_slot_on_that_is_not_taken_in_50_ms)
{
	struct shm *s = make(64, 64);
	lease_id l;
	usec_t t = USEC_PER_SEC;
	int round;

	clock_fake(t, 0);
	cr_assert_eq(take1(s, 0, "a", 1, &l), 0);
	cr_assert_eq(take1(s, 1, "a", 1, &(lease_id){0}), ERR_BUSY);
	cr_assert_eq(take1(s, 2, "a", 1, &(lease_id){0}), ERR_BUSY);
	cr_assert_eq(limits_tick(s), USEC_INFINITY);
	lease_give(s, 0, l);
	cr_assert(rang(1) && !rang(2));
	cr_assert_eq(limits_tick(s), 50 * USEC_PER_MSEC);
	clock_fake(t += 49 * USEC_PER_MSEC, 0);
	cr_assert_eq(limits_tick(s), USEC_PER_MSEC);
	cr_assert_not(rang(2));
	clock_fake(t += USEC_PER_MSEC, 0);
	limits_tick(s);
	cr_assert(rang(2) && !rang(1));
	cr_assert_eq(take1(s, 1, "a", 1, &l), ERR_BUSY);
	cr_assert_eq(take1(s, 2, "a", 1, &l), 0);
	/* worker 1 still waits, and after three turns that it does not use no longer */
	lease_give(s, 2, l);
	for (round = 0; round < 2; round++) {
		cr_assert(rang(1));
		clock_fake(t += 50 * USEC_PER_MSEC, 0);
		limits_tick(s);
	}
	cr_assert_not(rang(1));
	cr_assert_eq(info(s, "a").waiting, 0);
	clock_real();
	shm_free(s);
}

static int take_as(struct shm *s, uint32_t slot, uint8_t priority, bool keeps, lease_id *ret)
{
	struct limit_want w = want(LIMIT_IP, "a", 1);
	size_t blocking;

	w.priority = priority;
	w.keeps = keeps;
	return lease_take(s, slot, &w, 1, ret, &blocking);
}

static void wait_as(struct shm *s, uint32_t slot, uint8_t priority)
{
	cr_assert_eq(take_as(s, slot, priority, false, &(lease_id){0}), ERR_BUSY);
}

Test(limits, serve_the_highest_priority_first_and_equals_in_turn)
{
	static const struct {
		uint32_t slot;
		uint8_t priority;
	} waits[] = {{1, 20}, {2, 50}, {3, 80}, {4, 50}, {5, 80}, {6, 20}, {6, 90}, {5, 10}},
	  turns[] = {{6, 90}, {3, 80}, {5, 80}, {2, 50}, {4, 50}, {1, 20}};
	struct shm *s = make(64, 64);
	uint32_t holder = 0;
	lease_id l;

	cr_assert_eq(take_as(s, 0, 50, false, &l), 0);
	for (size_t i = 0; i < sizeof(waits) / sizeof(waits[0]); i++)
		wait_as(s, waits[i].slot, waits[i].priority);
	for (size_t i = 0; i < sizeof(turns) / sizeof(turns[0]); i++) {
		lease_give(s, holder, l);
		holder = turns[i].slot;
		for (int k = 0; k < WORKERS; k++)
			cr_assert_eq(rang(k), k == (int)holder, "turn %zu, bell %d", i, k);
		cr_assert_eq(take_as(s, holder, turns[i].priority, false, &l), 0);
	}
	cr_assert_eq(info(s, "a").waiting, 0);
	shm_free(s);
}

/* Two workers of high priority ask again whenever they have had a slot. */
Test(limits, serve_a_low_priority_now_and_then)
{
	struct shm *s = make(64, 64);
	uint32_t holder = 1, low = 0;
	lease_id l;

	cr_assert_eq(take_as(s, 1, 90, false, &l), 0);
	wait_as(s, 2, 90);
	wait_as(s, 0, 10);
	for (int turn = 0; turn < 90; turn++) {
		wait_as(s, holder, holder ? 90 : 10);
		lease_give(s, holder, l);
		for (holder = 0; holder < WORKERS && !rang((int)holder); holder++)
			;
		low += holder == 0;
		cr_assert_eq(take_as(s, holder, holder ? 90 : 10, false, &l), 0);
	}
	cr_assert(low >= 8 && low <= 11, "%u of 90", low);
	shm_free(s);
}

Test(limits, make_room_for_a_higher_priority_and_not_for_a_lower_one)
{
	static const struct {
		uint8_t holds, waits;
		bool keeps, idle, yields;
	} each[] = {
		{20, 80, false, false, true},  {20, 80, true, false, false},
		{20, 80, true, true, true},    {80, 20, false, true, true},
		{80, 20, false, false, false}, {50, 50, false, false, false},
	};

	for (size_t i = 0; i < sizeof(each) / sizeof(each[0]); i++) {
		struct shm *s = make(64, 64);
		lease_id l;

		cr_assert_eq(take_as(s, 0, each[i].holds, each[i].keeps, &l), 0);
		cr_assert_not(lease_should_yield(s, 0, l, each[i].idle, clock_now(), 1));
		wait_as(s, 1, each[i].waits);
		cr_expect_eq(lease_should_yield(s, 0, l, each[i].idle, clock_now(), 1),
			     each[i].yields, "case %zu", i);
		shm_free(s);
	}
}

Test(limits, holders_see_that_somebody_began_to_wait)
{
	struct shm *s = make(64, 64);
	uint64_t before = limits_waits(s);
	usec_t t = USEC_PER_SEC;
	lease_id l;

	clock_fake(t, 0);
	cr_assert_eq(take1(s, 0, "a", 1, &l), 0);
	cr_assert_eq(limits_waits(s), before);
	cr_assert_eq(take1(s, 1, "a", 1, &(lease_id){0}), ERR_BUSY);
	cr_assert_eq(limits_waits(s), before + 1);
	cr_assert_eq(take1(s, 1, "a", 1, &(lease_id){0}), ERR_BUSY);
	cr_assert_eq(limits_waits(s), before + 1, "it waits already");
	lease_give(s, 0, l);
	cr_assert_eq(limits_waits(s), before + 1);
	clock_fake(t += 50 * USEC_PER_MSEC, 0);
	limits_tick(s);
	cr_assert_eq(limits_waits(s), before + 2, "it did not take what was kept for it");
	clock_real();
	shm_free(s);
}

Test(limits, pass_on_what_was_kept_for_a_worker_that_is_blocked_elsewhere)
{
	struct shm *s = make(64, 64);
	struct limit_want both[] = {want(LIMIT_IP, "a", 1), want(LIMIT_IP, "b", 1)};
	lease_id a, b, got;
	size_t blocking;

	cr_assert_eq(take1(s, 0, "a", 1, &a), 0);
	cr_assert_eq(take1(s, 0, "b", 1, &b), 0);
	cr_assert_eq(lease_take(s, 1, both, 2, &got, &blocking), ERR_BUSY);
	cr_assert_eq(take1(s, 2, "a", 1, &got), ERR_BUSY);
	lease_give(s, 0, a);
	cr_assert(rang(1) && !rang(2));
	cr_assert_eq(lease_take(s, 1, both, 2, &got, &blocking), ERR_BUSY);
	cr_assert_eq(blocking, 1);
	cr_assert(rang(2), "a is free and worker 1 cannot use it");
	cr_assert_eq(take1(s, 2, "a", 1, &got), 0);
	shm_free(s);
}

Test(limits, follow_the_newest_configuration)
{
	static const struct {
		const char *what;
		uint32_t cap, gen, expect;
	} steps[] = {
		{"first", 2, 1, 2},
		{"raised", 4, 2, 4},
		{"an old one says otherwise", 9, 1, 4},
		{"lowered", 1, 3, 1},
		{"same, higher", 5, 3, 1},
		{"same, lower", 1, 3, 1},
		{"raised again", 3, 4, 3},
	};
	struct shm *s = make(64, 64);
	lease_id l;
	size_t i, blocking;

	for (i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		struct limit_want w = want(LIMIT_MX, "mx", steps[i].cap);

		w.conf_gen = steps[i].gen;
		if (lease_take(s, 0, &w, 1, &l, &blocking) == 0)
			lease_give(s, 0, l);
		cr_assert_eq(info(s, "mx").cap, steps[i].expect, "%s: %u", steps[i].what,
			     info(s, "mx").cap);
	}
	shm_free(s);
}

Test(limits, a_raised_cap_rings_who_waits_and_a_lowered_one_drains)
{
	struct shm *s = make(64, 64);
	struct limit_want w = want(LIMIT_IP, "a", 1);
	lease_id l[4];
	size_t blocking;

	cr_assert_eq(take1(s, 0, "a", 1, &l[0]), 0);
	cr_assert_eq(take1(s, 1, "a", 1, &l[1]), ERR_BUSY);
	w.cap = 3;
	w.conf_gen = 2;
	cr_assert_eq(lease_take(s, 2, &w, 1, &l[2], &blocking), 0);
	cr_assert(rang(1));
	cr_assert_eq(take1(s, 1, "a", 1, &l[1]), 0);
	w.cap = 2;
	w.conf_gen = 3;
	cr_assert_eq(lease_take(s, 3, &w, 1, &l[3], &blocking), ERR_BUSY);
	lease_give(s, 0, l[0]);
	cr_assert_not(rang(3), "two are still in use and the cap is two");
	lease_give(s, 1, l[1]);
	cr_assert(rang(3));
	shm_free(s);
}

static struct limit_want want_of(uint32_t gen, enum limit_kind kind, const char *name, uint32_t cap)
{
	struct limit_want w = want(kind, name, cap);

	w.conf_gen = gen;
	return w;
}

Test(limits, a_new_cap_counts_what_was_opened_before_it)
{
	struct shm *s = make(64, 64);
	struct limit_want total = want_of(1, LIMIT_TOTAL, "", 100);
	struct limit_want now[] = {want_of(2, LIMIT_TOTAL, "", 100), want_of(2, LIMIT_IP, "a", 2)};
	lease_id old[3], l;
	size_t blocking;
	int i;

	limits_adopted(s, 0, 1);
	limits_adopted(s, 1, 1);
	for (i = 0; i < 3; i++)
		cr_assert_eq(lease_take(s, 0, &total, 1, &old[i], &blocking), 0);
	limits_adopted(s, 1, 2);
	cr_assert_eq(lease_take(s, 1, now, 2, &l, &blocking), ERR_BUSY);
	cr_assert_eq(blocking, LIMIT_RELOADING, "worker 0 does not yet know the new cap");
	cr_assert_eq(lease_take(s, 0, &total, 1, &l, &blocking), ERR_BUSY);
	cr_assert_eq(blocking, LIMIT_RELOADING, "and no longer goes by the old ones");
	for (i = 0; i < 3; i++)
		cr_assert_eq(lease_adopt(s, 0, old[i], now, 2), 0);
	cr_assert_eq(lease_take(s, 1, now, 2, &l, &blocking), ERR_BUSY);
	cr_assert_eq(blocking, LIMIT_RELOADING);
	limits_adopted(s, 0, 2);
	cr_assert_eq(lease_take(s, 1, now, 2, &l, &blocking), ERR_BUSY);
	cr_assert_eq(blocking, 1, "three are open, two are allowed");
	cr_assert_eq(info(s, "a").in_use, 3);
	cr_assert_eq(info(s, "").in_use, 3);
	lease_give(s, 0, old[0]);
	cr_assert_not(rang(1));
	lease_give(s, 0, old[1]);
	cr_assert(rang(1));
	cr_assert_eq(lease_take(s, 1, now, 2, &l, &blocking), 0);
	shm_free(s);
}

Test(limits, a_dead_worker_and_one_without_connections_hold_no_reload_up)
{
	struct shm *s = make(64, 64);
	struct limit_want w1 = want_of(1, LIMIT_IP, "a", 5), w2 = want_of(2, LIMIT_IP, "a", 5);
	lease_id l;
	size_t blocking;
	uint64_t ids[4];

	limits_adopted(s, 0, 1);
	limits_adopted(s, 1, 1);
	cr_assert_eq(lease_take(s, 0, &w1, 1, &l, &blocking), 0);
	limits_adopted(s, 2, 2);
	cr_assert_eq(lease_take(s, 2, &w2, 1, &l, &blocking), ERR_BUSY);
	limits_worker_dead(s, 0, ids, 4);
	cr_assert_eq(lease_take(s, 2, &w2, 1, &l, &blocking), 0);
	cr_assert_eq(lease_take(s, 1, &w1, 1, &l, &blocking), ERR_BUSY,
		     "a worker that still has to adopt it opens none");
	shm_free(s);
}

Test(limits, an_adopted_lease_leaves_what_is_no_longer_wanted)
{
	struct shm *s = make(64, 64);
	struct limit_want old[] = {want_of(1, LIMIT_IP, "a", 1), want_of(1, LIMIT_MX, "b", 1),
				   want_of(1, LIMIT_POOL, "c", 1)};
	struct limit_want now[] = {want_of(2, LIMIT_PROVIDER, "d", 1),
				   want_of(2, LIMIT_MX, "b", 1)};
	lease_id l;
	size_t blocking;

	cr_assert_eq(lease_take(s, 0, old, 3, &l, &blocking), 0);
	cr_assert_eq(take1(s, 1, "a", 1, &(lease_id){0}), ERR_BUSY);
	cr_assert_eq(lease_adopt(s, 0, l, now, 2), 0);
	cr_assert(rang(1), "the place in a is free");
	cr_assert_eq(info(s, "a").in_use, 0);
	cr_assert_eq(info(s, "b").in_use, 1);
	cr_assert_eq(info(s, "c").in_use, 0);
	cr_assert_eq(info(s, "d").in_use, 1);
	lease_give(s, 0, l);
	cr_assert_eq(info(s, "b").in_use, 0);
	cr_assert_eq(info(s, "d").in_use, 0);
	shm_free(s);
}

Test(limits, connections_above_a_lowered_cap_close_as_they_end_a_message)
{
	struct shm *s = make(64, 64);
	struct limit_want low = want_of(2, LIMIT_IP, "a", 2);
	lease_id l[5];
	usec_t now = clock_now();
	int i, yes = 0;

	for (i = 0; i < 5; i++)
		cr_assert_eq(take1(s, 0, "a", 5, &l[i]), 0);
	cr_assert_not(lease_should_yield(s, 0, l[0], false, now, 1));
	for (i = 0; i < 5; i++)
		cr_assert_eq(lease_adopt(s, 0, l[i], &low, 1), 0);
	for (i = 0; i < 5; i++)
		yes += lease_should_yield(s, 0, l[i], false, now, 1);
	cr_assert_eq(yes, 3, "%d", yes);
	for (i = 0; i < 3; i++)
		lease_give(s, 0, l[i]);
	cr_assert_not(lease_should_yield(s, 0, l[4], false, now, 1));
	shm_free(s);
}

Test(limits, fail_closed_when_full_and_reuse_what_was_idle_for_ten_minutes)
{
	struct shm *s = make(4, 64);
	lease_id l, keep;
	char name[2] = "a";

	clock_fake(USEC_PER_SEC, 0);
	cr_assert_eq(take1(s, 0, "held", 1, &keep), 0);
	for (; name[0] < 'd'; name[0]++) {
		cr_assert_eq(take1(s, 0, name, 1, &l), 0);
		lease_give(s, 0, l);
	}
	cr_assert_eq(take1(s, 0, "x", 1, &l), ERR_FULL);
	cr_assert_eq(take1(s, 0, "a", 1, &l), 0, "known entries go on");
	lease_give(s, 0, l);
	clock_fake(601 * USEC_PER_SEC, 0);
	cr_assert_eq(take1(s, 0, "b", 1, &l), 0);
	cr_assert_eq(take1(s, 0, "x", 1, &l), 0);
	cr_assert_eq(take1(s, 0, "y", 1, &l), 0);
	cr_assert_eq(take1(s, 0, "z", 1, &l), ERR_FULL);
	cr_assert_eq(info(s, "held").in_use, 1);
	clock_real();
	shm_free(s);
}

Test(limits, fail_closed_when_a_worker_has_no_lease_left)
{
	struct shm *s = make(64, 2);
	lease_id l[3];

	cr_assert_eq(take1(s, 0, "a", 10, &l[0]), 0);
	cr_assert_eq(take1(s, 0, "a", 10, &l[1]), 0);
	cr_assert_eq(take1(s, 0, "a", 10, &l[2]), ERR_FULL);
	cr_assert_eq(take1(s, 1, "a", 10, &l[2]), 0);
	cr_assert_eq(info(s, "a").in_use, 3);
	lease_give(s, 0, l[0]);
	cr_assert_eq(take1(s, 0, "a", 10, &l[0]), 0);
	shm_free(s);
}

Test(limits, keep_long_names_apart)
{
	struct shm *s = make(64, 64);
	char a[300], b[300];
	lease_id l;

	memset(a, 'x', sizeof(a));
	a[299] = '\0';
	memcpy(b, a, sizeof(a));
	b[298] = 'y';
	cr_assert_eq(take1(s, 0, a, 1, &l), 0);
	cr_assert_eq(take1(s, 0, b, 1, &l), 0);
	cr_assert_eq(take1(s, 0, a, 1, &l), ERR_BUSY);
	shm_free(s);
}

Test(limits, count_an_entry_that_is_wanted_twice_once)
{
	struct shm *s = make(64, 64);
	struct limit_want w[] = {want(LIMIT_IP, "a", 1), want(LIMIT_IP, "a", 1)};
	lease_id l;
	size_t blocking;

	cr_assert_eq(lease_take(s, 0, w, 2, &l, &blocking), 0);
	cr_assert_eq(info(s, "a").in_use, 1);
	lease_give(s, 0, l);
	cr_assert_eq(info(s, "a").in_use, 0);
	shm_free(s);
}

Test(limits, give_back_all_of_a_dead_worker)
{
	struct shm *s = make(64, 64);
	uint64_t ids[8];
	lease_id l;
	int i;

	for (i = 0; i < 4; i++) {
		cr_assert_eq(take1(s, 3, "a", 4, &l), 0);
		lease_set_message(s, 3, l, i == 0 ? 0 : (uint64_t)(100 + i / 2));
	}
	cr_assert_eq(take1(s, 3, "b", 1, &l), 0);
	cr_assert_eq(take1(s, 4, "b", 1, &l), ERR_BUSY);
	cr_assert_eq(take1(s, 5, "a", 4, &l), ERR_BUSY);
	cr_assert_eq(take1(s, 3, "a", 4, &l), ERR_BUSY);
	cr_assert_eq(limits_worker_dead(s, 3, ids, 8), 2, "100 and 101");
	cr_assert(ids[0] + ids[1] == 201);
	cr_assert(rang(4) && rang(5));
	cr_assert(info(s, "a").in_use == 0 && info(s, "a").waiting == 1);
	cr_assert_eq(limits_worker_dead(s, 3, ids, 8), 0);
	cr_assert_eq(take1(s, 3, "a", 4, &l), 0, "its successor starts anew");
	shm_free(s);
}

Test(limits, leave_the_waiting_lists)
{
	struct shm *s = make(64, 64);
	lease_id l;

	cr_assert_eq(take1(s, 0, "a", 1, &l), 0);
	cr_assert_eq(take1(s, 1, "a", 1, &(lease_id){0}), ERR_BUSY);
	cr_assert_eq(take1(s, 2, "a", 1, &(lease_id){0}), ERR_BUSY);
	lease_give(s, 0, l);
	cr_assert(rang(1));
	limit_unwait(s, 1, LIMIT_IP, slice_str("a"));
	cr_assert(rang(2), "the slot goes on at once");
	limit_unwait_all(s, 2);
	cr_assert_eq(info(s, "a").waiting, 0);
	limit_unwait(s, 2, LIMIT_IP, slice_str("a"));
	cr_assert_eq(take1(s, 0, "a", 1, &l), 0);
	shm_free(s);
}

/* --- giving way --- */

/* Worker 0 holds `mine`, worker 1 `other`, which waits if other_waits; worker 2 waits if third. */
static bool yields(uint32_t cap, int mine, int other, bool other_waits, bool third, bool self,
		   bool idle, usec_t age, uint32_t messages)
{
	struct shm *s = make(64, 64);
	lease_id first = 0, l;
	bool yes;
	int i;

	clock_fake(100 * USEC_PER_SEC, 0);
	for (i = 0; i < mine; i++)
		cr_assert_eq(take1(s, 0, "a", cap, i ? &l : &first), 0);
	for (i = 0; i < other; i++)
		cr_assert_eq(take1(s, 1, "a", cap, &l), 0);
	if (self)
		cr_assert_eq(take1(s, 0, "a", cap, &l), ERR_BUSY);
	if (other_waits)
		cr_assert_eq(take1(s, 1, "a", cap, &l), ERR_BUSY);
	if (third)
		cr_assert_eq(take1(s, 2, "a", cap, &l), ERR_BUSY);
	yes = lease_should_yield(s, 0, first, idle, 100 * USEC_PER_SEC - age, messages);
	clock_real();
	shm_free(s);
	for (i = 0; i < WORKERS; i++)
		close(bells[i]);
	return yes;
}

Test(limits, connections_yield_by_the_rules)
{
	static const struct {
		const char *what;
		uint32_t cap;
		int mine, other;
		bool other_waits, third, self, idle;
		uint64_t sec;
		uint32_t messages;
		bool expect;
	} cases[] = {
		{"idle, nobody waits", 3, 3, 0, false, false, false, true, 60, 100, false},
		{"idle, somebody waits", 3, 3, 0, true, false, false, true, 0, 0, true},
		{"idle, another site of this worker waits", 3, 3, 0, false, false, true, true, 0, 0,
		 true},
		{"busy, another site of this worker waits", 3, 3, 0, false, false, true, false, 60,
		 100, false},
		{"more than its share", 4, 4, 0, true, false, false, false, 0, 0, true},
		{"more than its share, the waiting one has one", 4, 3, 1, true, false, false, false,
		 0, 0, true},
		{"its share", 4, 2, 2, true, false, false, false, 60, 100, false},
		{"less than its share", 4, 1, 3, true, false, false, false, 60, 100, false},
		{"odd cap, one more than the other", 3, 2, 1, true, false, false, false, 60, 100,
		 false},
		{"odd cap, all of it", 3, 3, 0, true, false, false, false, 0, 0, true},
		{"cap 1 of two, at once", 1, 1, 0, true, false, false, false, 4, 19, false},
		{"cap 1 of two, after 5 s", 1, 1, 0, true, false, false, false, 5, 0, true},
		{"cap 1 of two, after 20 messages", 1, 1, 0, true, false, false, false, 0, 20,
		 true},
		{"cap 2 of three, has both", 2, 2, 0, true, true, false, false, 0, 0, true},
		{"cap 2 of two, one each", 2, 1, 1, true, false, false, false, 60, 100, false},
		{"cap 2 of three, one each", 2, 1, 1, false, true, false, false, 5, 0, true},
	};
	size_t i;

	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		cr_assert_eq(yields(cases[i].cap, cases[i].mine, cases[i].other,
				    cases[i].other_waits, cases[i].third, cases[i].self,
				    cases[i].idle, cases[i].sec * USEC_PER_SEC, cases[i].messages),
			     cases[i].expect, "%s", cases[i].what);
}

Test(limits, no_more_busy_connections_yield_than_workers_wait)
{
	struct shm *s = make(64, 64);
	lease_id mine[10], l;
	usec_t now = clock_now();
	int i, yes = 0;

	for (i = 0; i < 10; i++)
		cr_assert_eq(take1(s, 0, "a", 10, &mine[i]), 0);
	cr_assert_eq(take1(s, 1, "a", 10, &l), ERR_BUSY);
	for (i = 0; i < 10; i++)
		yes += lease_should_yield(s, 0, mine[i], false, now, 0);
	cr_assert_eq(yes, 1);
	cr_assert(lease_should_yield(s, 0, mine[0], false, now, 0), "what was told stays told");
	lease_give(s, 0, mine[0]);
	cr_assert_not(lease_should_yield(s, 0, mine[1], false, now, 0), "a slot is on its way");
	cr_assert_eq(take1(s, 1, "a", 10, &l), 0);
	cr_assert_eq(take1(s, 1, "a", 10, &l), ERR_BUSY);
	cr_assert(lease_should_yield(s, 0, mine[1], false, now, 0));
	shm_free(s);
}

/* --- a process that dies holding the mutex --- */

Test(limits, are_counted_anew_when_their_keeper_died)
{
	struct shm *s = make(64, 64);
	lease_id mine[3], l;
	pid_t pid;
	int i;

	for (i = 0; i < 3; i++)
		cr_assert_eq(take1(s, 0, "a", 5, &mine[i]), 0);
	cr_assert_eq(take1(s, 1, "b", 1, &l), 0);
	for (i = 5; i > 1; i--)
		cr_assert_eq(take1(s, (uint32_t)i, "b", 1, &l), ERR_BUSY);
	pid = fork();
	if (pid == 0) {
		struct limits t;
		uint32_t k;

		cr_assert_eq(take1(s, 6, "a", 5, &l), 0);
		limits_begin(&t, s);
		for (k = 1; k <= t.t->entry_high; k++) {
			t.entries[k].in_use = 77;
			t.entries[k].shares = 1;
			t.entries[k].queue.first = 0;
			t.entries[k].chain = k;
		}
		t.t->share_free = 1;
		memset(shm_at(s, s->share_buckets_at), 0xff, 64);
		kill(getpid(), SIGKILL);
	}
	waitpid(pid, NULL, 0);
	cr_assert_eq(info(s, "a").in_use, 4);
	cr_assert(info(s, "b").in_use == 1 && info(s, "b").waiting == 4);
	limits_worker_dead(s, 6, NULL, 0);
	cr_assert_eq(info(s, "a").in_use, 3);
	limits_worker_dead(s, 1, NULL, 0);
	cr_assert(rang(5) && !rang(4), "the order of waiting is kept");
	for (i = 0; i < 3; i++)
		lease_give(s, 0, mine[i]);
	cr_assert_eq(info(s, "a").in_use, 0);
	shm_free(s);
}
