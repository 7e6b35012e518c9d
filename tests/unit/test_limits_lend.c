/* links: common/base common/shm */
#include <criterion/criterion.h>

#include "common/base/err.h"
#include "common/shm/limits.h"

#define LOCAL (1u << LIMIT_TOTAL | 1u << LIMIT_VMTA)

static struct shm *s;
static struct limit_want wants[3];

static void setup(void)
{
	static const struct {
		enum limit_kind kind;
		const char *name;
		uint32_t cap;
	} rows[] = {{LIMIT_TOTAL, "", 2}, {LIMIT_VMTA, "mta1", 1}, {LIMIT_IP, "192.0.2.1", 2}};

	s = shm_new(
		&(struct shm_config){.max_workers = 2, .ring_size = 65536, .max_live_queues = 16});
	for (size_t i = 0; i < 3; i++)
		wants[i] = (struct limit_want){.kind = rows[i].kind,
					       .name = slice_str(rows[i].name),
					       .cap = rows[i].cap,
					       .conf_gen = 1};
}

static void teardown(void)
{
	shm_free(s);
}

TestSuite(lend, .init = setup, .fini = teardown);

static uint32_t in_use(enum limit_kind kind)
{
	struct limit_info all[8];
	size_t pos = 0, n = limits_list(s, &pos, all, 8);

	for (size_t i = 0; i < n; i++)
		if (all[i].kind == kind)
			return all[i].in_use;
	return 0;
}

static int take(lease_id *ret)
{
	size_t by;

	return lease_take(s, 0, wants, 3, ret, &by);
}

Test(lend, others_use_what_was_lent_and_it_is_taken_again_when_it_is_free)
{
	lease_id a, b;

	cr_assert_eq(take(&a), 0);
	cr_assert_eq(take(&b), ERR_BUSY);
	lease_lend(s, 0, a, LOCAL);
	cr_assert_eq(in_use(LIMIT_TOTAL), 0);
	cr_assert_eq(in_use(LIMIT_VMTA), 0);
	cr_assert_eq(in_use(LIMIT_IP), 1, "the receiver may see it");
	cr_assert_eq(take(&b), 0);
	cr_assert_eq(lease_extend(s, 0, a, wants, 3), ERR_BUSY);
	cr_assert_eq(in_use(LIMIT_TOTAL), 1, "nothing of it was taken");
	lease_give(s, 0, b);
	cr_assert_eq(lease_extend(s, 0, a, wants, 3), 0);
	cr_assert_eq(in_use(LIMIT_TOTAL), 1);
	cr_assert_eq(in_use(LIMIT_VMTA), 1);
	cr_assert_eq(in_use(LIMIT_IP), 1, "not counted twice");
	lease_give(s, 0, a);
	for (int k = 0; k < LIMIT_KIND_COUNT; k++)
		cr_assert_eq(in_use((enum limit_kind)k), 0);
}

Test(lend, a_lease_that_was_lent_goes_back_whole)
{
	uint64_t msgid;
	lease_id a;

	cr_assert_eq(take(&a), 0);
	lease_lend(s, 0, a, LOCAL);
	lease_give(s, 0, a);
	cr_assert_eq(take(&a), 0);
	lease_lend(s, 0, a, LOCAL);
	cr_assert_eq(limits_worker_dead(s, 0, &msgid, 1), 0);
	for (int k = 0; k < LIMIT_KIND_COUNT; k++)
		cr_assert_eq(in_use((enum limit_kind)k), 0);
	cr_assert_eq(take(&a), 0);
}

Test(lend, what_waits_rings_when_a_place_is_lent)
{
	size_t by;
	lease_id a, b;

	cr_assert_eq(take(&a), 0);
	cr_assert_eq(lease_take(s, 1, wants, 3, &b, &by), ERR_BUSY);
	lease_lend(s, 0, a, LOCAL);
	cr_assert_eq(lease_take(s, 0, wants, 3, &b, &by), ERR_BUSY, "it is kept for worker 1");
	cr_assert_eq(lease_take(s, 1, wants, 3, &b, &by), 0);
}
