/* links: common/base common/conf common/spool common/shm common/acct spooler/commit.c spooler/commit_*.c spooler/dsn_row.c */
#include "tests/unit/spool_fixture.h"

#include "common/spool/order.h"

struct asked {
	struct commit_job job;
	struct order order;
	bool answered;
	unsigned progress; /* answers before the last one */
	struct commit_order_result r;
};

static void on_answer(void *arg, const struct commit_order_result *r)
{
	struct asked *a = arg;

	cr_assert_not(a->answered);
	cr_assert_geq(r->done, a->r.done);
	a->answered = !r->more;
	a->progress += r->more;
	a->r = *r;
}

static int run_ask(struct commit *c, struct spool_write *w, struct commit_job *j)
{
	struct asked *a = container_of(j, struct asked, job);

	return commit_order_add(c, w, &a->order, on_answer, a);
}

static void give(struct fix *f, struct asked *a)
{
	struct commit_job *jobs = &a->job;
	struct intake_message *none = NULL;
	struct commit_result r;

	a->job = (struct commit_job){.run = run_ask};
	a->order.created = clock_wall();
	do
		cr_assert_eq(commit_batch(f->c, &none, &jobs, &r), 0);
	while (r.more);
}

static void ack(struct shm_ring *ring, uint64_t id, const struct report_park_item *held, uint32_t n)
{
	struct report_order_ack a = {.order = id, .held = held, .held_count = n};
	struct buf b = BUF_INIT;

	report_order_ack_encode(&a, &b);
	cr_assert(ring_put(ring, REPORT_ORDER_ACK, b.p, b.n));
	buf_done(&b);
}

static uint64_t orders(struct fix *f, struct order *ret)
{
	struct spool_read *r;
	uint64_t after = 0, n = 0;

	cr_assert_eq(spool_read_begin(f->spool, &r), 0);
	while (spool_order_next(r, &after, ret) > 0)
		n++;
	ret->id = after;
	spool_read_end(r);
	return n;
}

static void put_many(struct fix *f, uint64_t from, uint64_t n, const char *domain,
		     const char *route, const char *job)
{
	struct intake_message *list = NULL, **end = &list;
	uint64_t i;

	for (i = 0; i < n; i++) {
		struct intake_message *m = fix_one(f, from + i, domain, route);

		m->job = job;
		m->received = clock_wall() - 10000;
		*end = m;
		end = &m->next;
	}
	cr_assert_eq(fix_commit(f, list), 0);
}

Test(orders, delete_waits_for_its_workers_and_spares_what_they_hold)
{
	struct fix f;
	struct asked a = {
		.order = {.kind = ORDER_DELETE, .filter = {.queue = SLICE_LIT("x.example/*")}}};
	struct report_park_item held = {3, 0};
	struct shm_ring *ra, *rb;
	struct spool_recipient r;
	struct order o;

	fix_init(&f);
	ra = fix_worker(&f, 0, "a", 1);
	rb = fix_worker(&f, 1, "b", 2);
	put_many(&f, 1, 1200, "x.example", "a", NULL);
	put_many(&f, 2001, 5, "y.example", "a", NULL);
	put_many(&f, 3001, 5, "x.example", "b", NULL);
	give(&f, &a);
	cr_assert_not(a.answered);
	cr_assert_eq(orders(&f, &o), 1);
	ack(ra, o.id, &held, 1);
	cr_assert_eq(fix_commit(&f, NULL), 0);
	cr_assert_not(a.answered, "the second worker has not answered");
	cr_assert_eq(fix_stat(&f).recipients, 1210);
	ack(rb, o.id, NULL, 0);
	cr_assert_eq(fix_commit(&f, NULL), 0);
	cr_assert(a.answered);
	cr_assert(a.r.done == 1204 && a.r.held == 1, "%lu %lu", a.r.done, a.r.held);
	cr_assert_eq(a.progress, 2, "after each 500");
	cr_assert_eq(fix_stat(&f).recipients, 6);
	cr_assert(fix_recipient(&f, 3, 0, &r));
	cr_assert_eq(fix_records(&f, ACCT_BOUNCED), 1204);
	cr_assert_eq(fix_stat(&f).dsns, 0);
	cr_assert_eq(orders(&f, &o), 0);
	fix_check(&f);
	fix_done(&f);
}

Test(orders, worker_that_dies_has_answered_once_its_ring_is_drained)
{
	struct fix f;
	struct asked a = {.order = {.kind = ORDER_DELETE,
				    .filter = {.job = SLICE_LIT("j1")},
				    .no_accounting = true,
				    .dsn = true}};
	struct shm_ring *ring;

	fix_init(&f);
	ring = fix_worker(&f, 0, "a", 1);
	put_many(&f, 1, 20, "x.example", "a", "j1");
	put_many(&f, 101, 20, "x.example", "a", "j2");
	give(&f, &a);
	cr_assert_not(a.answered);
	atomic_store(&shm_worker(f.shm, 0)->state, SHM_WORKER_DEAD);
	cr_assert(fix_report(ring, 1, 0, OUTCOME_DELIVERED, 0));
	cr_assert_eq(fix_commit(&f, NULL), 0);
	cr_assert_not(a.answered);
	commit_slot_drained(f.c, 0, 1);
	cr_assert_eq(fix_commit(&f, NULL), 0);
	cr_assert(a.answered && a.r.done == 19);
	cr_assert_eq(fix_records(&f, ACCT_BOUNCED), 0);
	cr_assert_eq(fix_stat(&f).dsns, 19);
	cr_assert_eq(fix_stat(&f).recipients, 20);
	fix_check(&f);
	fix_done(&f);
}

Test(orders, delete_goes_on_after_a_death)
{
	struct fix f;
	struct asked a = {.order = {.kind = ORDER_DELETE, .filter = {.queue = SLICE_LIT("*")}}};
	struct commit_job *jobs = &a.job;
	struct intake_message *none = NULL;
	struct commit_result r;
	int i;

	fix_init(&f);
	put_many(&f, 1, 2000, "x.example", "a", NULL);
	a.job = (struct commit_job){.run = run_ask};
	a.order.created = clock_wall();
	for (i = 0; i < 3; i++)
		cr_assert_eq(commit_batch(f.c, &none, &jobs, &r), 0);
	cr_assert_not(a.answered);
	cr_assert_eq(fix_stat(&f).recipients, 1000);
	fix_close(&f);
	fix_open(&f);
	cr_assert(commit_orders_pending(f.c));
	while (commit_orders_pending(f.c))
		cr_assert_eq(commit_batch(f.c, &none, &jobs, &r), 0);
	cr_assert_eq(fix_stat(&f).recipients, 0);
	cr_assert_eq(fix_records(&f, ACCT_BOUNCED), 2000);
	fix_check(&f);
	fix_done(&f);
}

static void defer(struct shm_ring *ring, uint64_t msgid, msec_t due, bool attempted)
{
	struct report_outcome o = {.class = OUTCOME_TRANSIENT, .attempted = attempted, .due = due};
	struct report_transaction t = {.msgid = msgid, .outcomes = &o, .outcome_count = 1};
	struct buf b = BUF_INIT;

	report_transaction_encode(&t, &b);
	cr_assert(ring_put(ring, REPORT_TRANSACTION, b.p, b.n));
	buf_done(&b);
}

Test(orders, schedule_moves_parked_recipients_and_clears_the_site)
{
	struct fix f;
	struct asked a = {.order = {.kind = ORDER_SCHEDULE,
				    .no_spread = true,
				    .filter = {.queue = SLICE_LIT("x.example/*")}}};
	struct report_site site = {.name = SLICE_LIT("x.example"),
				   .queue = SLICE_LIT("x.example/a"),
				   .record = true,
				   .retry_at = clock_wall() + 3600000,
				   .text = SLICE_LIT("local: refused")};
	msec_t later = clock_wall() + 3600000;
	struct shm_ring *ring;
	struct spool_recipient r;
	struct spool_site s;
	struct spool_read *read;
	struct buf b = BUF_INIT;
	struct order o;

	fix_init(&f);
	ring = fix_worker(&f, 0, "a", 1);
	put_many(&f, 1, 3, "x.example", "a", NULL);
	put_many(&f, 11, 1, "y.example", "a", NULL);
	defer(ring, 1, later, false);
	defer(ring, 2, later, true);
	defer(ring, 11, later, false);
	report_site_encode(&site, &b);
	cr_assert(ring_put(ring, REPORT_SITE, b.p, b.n));
	buf_done(&b);
	cr_assert_eq(fix_commit(&f, NULL), 0);
	cr_assert_eq(fix_records(&f, ACCT_QUEUE), 1);
	give(&f, &a);
	cr_assert_eq(orders(&f, &o), 1);
	ack(ring, o.id, NULL, 0);
	cr_assert_eq(fix_commit(&f, NULL), 0);
	cr_assert(a.answered && a.r.done == 1 && a.r.matching == 1 && a.r.queues == 1);
	cr_assert(fix_recipient(&f, 1, 0, &r));
	cr_assert_leq(r.due, clock_wall());
	cr_assert(fix_recipient(&f, 2, 0, &r));
	cr_assert_eq(r.due, later, "waits for its own retry");
	cr_assert(fix_recipient(&f, 11, 0, &r));
	cr_assert_eq(r.due, later, "another queue");
	cr_assert_eq(spool_read_begin(f.spool, &read), 0);
	cr_assert_eq(spool_site_get(read, 1, slice_str("x.example"), &s), 0);
	cr_assert_eq(s.retry_at, 0);
	spool_read_end(read);
	fix_check(&f);
	/* with --retry-recipients the other one too, spread over five minutes */
	a = (struct asked){.order = {.kind = ORDER_SCHEDULE,
				     .retry_recipients = true,
				     .filter = {.queue = SLICE_LIT("x.example/*")}}};
	give(&f, &a);
	(void)orders(&f, &o);
	ack(ring, o.id, NULL, 0);
	cr_assert_eq(fix_commit(&f, NULL), 0);
	cr_assert(a.answered && a.r.done == 1);
	cr_assert(fix_recipient(&f, 2, 0, &r));
	cr_assert(r.due >= a.order.created && r.due < a.order.created + 300000);
	fix_check(&f);
	fix_done(&f);
}

Test(orders, pause_stays_until_resumed)
{
	struct fix f;
	struct asked a = {
		.order = {.kind = ORDER_PAUSE, .filter = {.queue = SLICE_LIT("x.example/*")}}};
	struct asked b = {.order = {.kind = ORDER_RESUME, .filter = {.queue = SLICE_LIT("*/*")}}};
	struct shm_ring *ring;
	struct spool_read *r;
	struct spool_queue q;
	struct spool_wake_row row;
	struct order o;
	struct report_wake w = {.at = UINT64_MAX - 1};
	struct buf buf = BUF_INIT;

	fix_init(&f);
	ring = fix_worker(&f, 0, "a", 1);
	put_many(&f, 1, 1, "x.example", "a", NULL);
	defer(ring, 1, clock_wall() + 1000, false);
	w.queue = 1;
	give(&f, &a);
	cr_assert_eq(orders(&f, &o), 1);
	ack(ring, o.id, NULL, 0);
	report_wake_encode(&w, &buf);
	cr_assert(ring_put(ring, REPORT_WAKE, buf.p, buf.n));
	buf_done(&buf);
	cr_assert_eq(fix_commit(&f, NULL), 0);
	cr_assert(a.answered);
	fix_close(&f);
	fix_open(&f);
	cr_assert_eq(spool_read_begin(f.spool, &r), 0);
	cr_assert_eq(spool_queue_get(r, 1, &q), 0);
	cr_assert(q.paused);
	cr_assert_eq(spool_wake_first(r, 1), UINT64_MAX - 1);
	spool_read_end(r);
	cr_assert_not(commit_orders_pending(f.c));
	give(&f, &b);
	(void)orders(&f, &o);
	ack(ring, o.id, NULL, 0);
	cr_assert_eq(fix_commit(&f, NULL), 0);
	cr_assert(b.answered && b.r.removed == 1);
	cr_assert_eq(orders(&f, &o), 0);
	cr_assert_eq(spool_read_begin(f.spool, &r), 0);
	cr_assert_eq(spool_queue_get(r, 1, &q), 0);
	cr_assert_not(q.paused);
	{
		struct spool_wake_pos pos = {.started = false};

		cr_assert_eq(spool_wake_scan(r, 1, clock_wall() + 2000, &pos, &row, 1), 1,
			     "wakes when its mail is due again");
	}
	spool_read_end(r);
	fix_check(&f);
	fix_done(&f);
}
