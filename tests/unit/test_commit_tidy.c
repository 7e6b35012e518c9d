/* links: common/base common/conf common/spool common/shm common/acct spooler/commit.c spooler/commit_*.c spooler/dsn_row.c */
#include "tests/unit/spool_fixture.h"

#include "spooler/commit_tidy.h"

#define DAY (24 * 3600 * MSEC_PER_SEC)
#define START (UINT64_C(20000) * DAY + 1000)

static struct fix f;
static struct shm_ring *ring;
static struct commit_tidy *tidy;

static void setup(void)
{
	clock_fake(USEC_PER_SEC, START);
	fix_init(&f);
	ring = fix_worker(&f, 0, "a", 1);
	tidy = commit_tidy_new(f.c);
}

static void teardown(void)
{
	commit_tidy_free(tidy);
	fix_check(&f);
	fix_done(&f);
	clock_real();
}

static void go_to(msec_t wall)
{
	clock_fake(USEC_PER_SEC + (wall - START) * USEC_PER_MSEC, wall);
}

static uint32_t queue_id(const char *domain)
{
	struct spool_read *r;
	uint32_t id = 0;

	cr_assert_eq(spool_read_begin(f.spool, &r), 0);
	(void)spool_queue_find(r, 1, slice_str(domain), &id);
	spool_read_end(r);
	return id;
}

/* All queues once; says whether there was something to do. */
static bool tidy_all(void)
{
	struct commit_job *j;
	struct intake_message *none = NULL;
	struct commit_result r;
	bool any = false;
	int i;

	for (i = 0; i < 10; i++) {
		j = commit_tidy_look(tidy);
		if (!j)
			continue;
		cr_assert_null(commit_tidy_look(tidy), "one at a time");
		any = true;
		cr_assert_eq(commit_batch(f.c, &none, &j, &r), 0);
		cr_assert_null(j);
	}
	return any;
}

static void deliver(uint64_t msgid)
{
	cr_assert(fix_report(ring, msgid, 0, OUTCOME_DELIVERED, 0));
	cr_assert_eq(fix_commit(&f, NULL), 0);
}

static void put_site(const char *name, uint8_t mode, msec_t retry_at)
{
	struct report_site s = {.name = slice_str(name),
				.queue = slice_str("x/a"),
				.mode = {.mode = mode},
				.since = clock_wall(),
				.retry_position = 2,
				.retry_at = retry_at,
				.text = slice_str("local: x"),
				.mx_name = slice_str(""),
				.when = clock_wall()};
	struct buf b = BUF_INIT;

	report_site_encode(&s, &b);
	cr_assert(ring_put(ring, REPORT_SITE, b.p, b.n));
	buf_done(&b);
	cr_assert_eq(fix_commit(&f, NULL), 0);
}

Test(tidy, queue_goes_a_day_after_its_last_mail_and_its_id_never_comes_again, .init = setup,
     .fini = teardown)
{
	struct report_wake wake = {.at = 5};
	struct report_reroute reroute = {.target = SLICE_LIT("b"), .why = SLICE_LIT("test")};
	struct buf b = BUF_INIT;
	uint32_t id;

	fix_put(&f, 1, "x.example", "a");
	wake.queue = reroute.queue = id = queue_id("x.example");
	report_reroute_encode(&reroute, &b);
	cr_assert(ring_put(ring, REPORT_REROUTE, b.p, b.n));
	buf_clear(&b);
	cr_assert_eq(fix_commit(&f, NULL), 0);
	go_to(START + DAY);
	deliver(1);
	go_to(START + 2 * DAY);
	cr_assert_not(tidy_all(), "the delivery was yesterday");
	cr_assert_eq(queue_id("x.example"), id);
	go_to(START + 3 * DAY);
	cr_assert(tidy_all());
	cr_assert_eq(queue_id("x.example"), 0);
	cr_assert_eq(fix_stat(&f).queues, 0);
	/* what a worker still says about it harms nobody */
	report_wake_encode(&wake, &b);
	cr_assert(ring_put(ring, REPORT_WAKE, b.p, b.n));
	buf_done(&b);
	fix_put(&f, 2, "x.example", "a");
	cr_assert_eq(f.bad, 0);
	cr_assert_gt(queue_id("x.example"), id);
	cr_assert_eq(fix_stat(&f).recipients, 1);
}

Test(tidy, queues_with_mail_stay, .init = setup, .fini = teardown)
{
	fix_put(&f, 1, "fresh.example", "a");
	fix_put(&f, 2, "due.example", "a");
	cr_assert(fix_report(ring, 2, 0, OUTCOME_TRANSIENT, START + 10 * DAY));
	cr_assert_eq(fix_commit(&f, NULL), 0);
	go_to(START + 5 * DAY);
	cr_assert_not(tidy_all());
	cr_assert(queue_id("fresh.example") && queue_id("due.example"));
	/* also when the live counts are wrong */
	shm_queue_release(f.shm, queue_id("fresh.example"));
	shm_queue_release(f.shm, queue_id("due.example"));
	(void)tidy_all();
	cr_assert(queue_id("fresh.example") && queue_id("due.example"));
}

Test(tidy, goes_on_after_a_queue_has_found_no_slot, .init = setup, .fini = teardown)
{
	uint32_t other = UINT32_C(1) << 20, until = other + 2048, id;

	for (id = other; id < until; id++)
		(void)shm_queue_claim(f.shm, id);
	fix_put(&f, 1, "x.example", "a");
	fix_put(&f, 2, "full.example", "a");
	cr_assert_null(shm_queue_find(f.shm, queue_id("x.example")));
	for (id = other; id < until; id++)
		shm_queue_release(f.shm, id);
	deliver(1);
	go_to(START + 3 * DAY);
	cr_assert(tidy_all());
	cr_assert_eq(queue_id("x.example"), 0);
	cr_assert_neq(queue_id("full.example"), 0, "its mail is in no count, but it has some");
}

Test(tidy, mail_that_comes_in_the_same_transaction_keeps_its_queue, .init = setup, .fini = teardown)
{
	struct intake_message *m;
	struct commit_result r;
	struct commit_job *j;
	uint32_t id;

	fix_put(&f, 1, "x.example", "a");
	id = queue_id("x.example");
	deliver(1);
	go_to(START + 5 * DAY);
	j = commit_tidy_look(tidy);
	cr_assert_not_null(j);
	m = fix_one(&f, 2, "x.example", "a");
	cr_assert_eq(commit_batch(f.c, &m, &j, &r), 0);
	cr_assert_eq(queue_id("x.example"), id);
	go_to(START + 6 * DAY);
	deliver(2);
	cr_assert_not(tidy_all());
}

Test(tidy, sites_with_something_to_remember_keep_their_queue, .init = setup, .fini = teardown)
{
	fix_put(&f, 1, "backoff.example", "a");
	fix_put(&f, 2, "retry.example", "a");
	deliver(1);
	deliver(2);
	put_site("backoff.example", 1, 0);
	put_site("retry.example", 0, START + 2 * DAY);
	go_to(START + 2 * DAY + 1);
	cr_assert_not(tidy_all());
	cr_assert(queue_id("backoff.example") && queue_id("retry.example"));
	go_to(START + 4 * DAY);
	cr_assert(tidy_all());
	cr_assert(queue_id("backoff.example") && !queue_id("retry.example"));
}

Test(tidy, many_queues_go_bit_by_bit_also_after_a_restart, .init = setup, .fini = teardown)
{
	char domain[32];
	uint64_t i;

	for (i = 1; i <= 250; i++) {
		snprintf(domain, sizeof(domain), "d%lu.example", (unsigned long)i);
		fix_put(&f, i, domain, "a");
		deliver(i);
	}
	commit_tidy_free(tidy);
	fix_close(&f);
	go_to(START + 3 * DAY);
	fix_open(&f);
	tidy = commit_tidy_new(f.c);
	cr_assert(tidy_all());
	cr_assert_eq(fix_stat(&f).queues, 0);
}
