/* links: common/base common/conf common/spool common/shm common/acct spooler/commit.c spooler/commit_*.c spooler/dsn_row.c */
#include "common/base/localday.h"
#include "common/spool/warmup.h"
#include "tests/unit/spool_fixture.h"

static struct fix f;
static struct shm_ring *ring;
static struct ip ip;

static void start(void)
{
	fix_init(&f);
	cr_assert_eq(commit_vmtas(f.c), 0);
	ring = fix_worker(&f, 0, "a", 1);
	cr_assert(ip_parse(slice_str("192.0.2.1"), &ip));
}

static void reserve(const char *site, uint32_t day, uint64_t granted)
{
	const struct report_warmup r = {.site = slice_str(site),
					.source_ip = ip,
					.day = {.day = day, .number = 50, .granted = granted}};
	struct buf b = BUF_INIT;

	report_warmup_encode(&r, &b);
	cr_assert(ring_put(ring, REPORT_WARMUP, b.p, b.n));
	buf_done(&b);
	cr_assert_eq(fix_commit(&f, NULL), 0);
}

static struct warmup_row row_of(const char *site)
{
	struct warmup_row row;
	struct spool_read *r;
	uint32_t id;

	cr_assert_eq(spool_read_begin(f.spool, &r), 0);
	cr_assert_eq(spool_vmta_find(r, slice_str("a"), &id), 0);
	cr_assert_eq(spool_warmup_get(r, id, &ip, slice_str(site), &row), 0);
	spool_read_end(r);
	return row;
}

static void outcome(const char *site, uint32_t day, enum outcome_class class, const char *text)
{
	struct report_outcome o[2] = {
		{.class = class, .code = 550, .text = slice_str(text), .attempted = true},
		{.class = OUTCOME_DELIVERED,
		 .code = 250,
		 .text = slice_str("250 ok"),
		 .attempted = true}};
	struct report_transaction t = {.msgid = 77, /* gone already: it was tried all the same */
				       .site = slice_str(site),
				       .source_ip = ip,
				       .warmup_day = day,
				       .outcomes = o,
				       .outcome_count = 2};
	struct buf b = BUF_INIT;

	report_transaction_encode(&t, &b);
	cr_assert(ring_put(ring, REPORT_TRANSACTION, b.p, b.n));
	buf_done(&b);
	cr_assert_eq(fix_commit(&f, NULL), 0);
}

Test(commit_warmup, outcomes_are_counted_for_the_day_of_their_transaction)
{
	uint32_t today = localday_of(clock_wall());
	struct warmup_row row;

	start();
	reserve("d.test", today - 1, 10);
	outcome("d.test/a", today - 1, OUTCOME_TRANSIENT, "451 4.7.1 later");
	reserve("d.test", today, 4);
	outcome("d.test/a", today - 1, OUTCOME_BOUNCED, "550 5.7.1 looks like spam");
	outcome("d.test/a", today, OUTCOME_BOUNCED, "550 5.1.1 no such user");
	row = row_of("d.test");
	cr_assert_eq(row.count, 2);
	cr_assert(row.days[0].granted == 4 && row.days[0].attempted == 2);
	cr_assert(row.days[0].transient == 0 && row.days[0].policy == 0);
	cr_assert(row.days[1].granted == 10 && row.days[1].attempted == 4);
	cr_assert(row.days[1].transient == 1 && row.days[1].policy == 1);
	fix_check(&f);
	fix_done(&f);
}

Test(commit_warmup, rows_without_mail_for_90_days_go)
{
	uint32_t today = localday_of(clock_wall());

	start();
	reserve("old.test", today - 91, 1);
	reserve("young.test", today - 90, 1);
	for (int i = 0; i < 10; i++)
		reserve("d.test", today, 1);
	cr_assert_eq(row_of("old.test").count, 0);
	cr_assert_eq(row_of("young.test").count, 1);
	cr_assert_eq(row_of("d.test").count, 1);
	fix_check(&f);
	fix_done(&f);
}
