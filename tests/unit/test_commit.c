/* links: common/base common/conf common/spool common/shm common/acct spooler/commit.c spooler/commit_*.c spooler/dsn_row.c */
#include "tests/unit/spool_fixture.h"

#include "common/base/rng.h"
#include "spooler/dsn_row.h"

static struct spool_wake_row first_wake(struct fix *f, uint32_t vmta)
{
	struct spool_wake_pos pos = {.started = false};
	struct spool_wake_row row = {.queue = 0};
	struct spool_read *r;

	cr_assert_eq(spool_read_begin(f->spool, &r), 0);
	(void)spool_wake_scan(r, vmta, UINT64_MAX, &pos, &row, 1);
	spool_read_end(r);
	return row;
}

static void ask_wake(struct shm_ring *ring, uint32_t queue, msec_t at)
{
	struct report_wake w = {.queue = queue, .at = at};
	struct buf b = BUF_INIT;

	report_wake_encode(&w, &b);
	cr_assert(ring_put(ring, REPORT_WAKE, b.p, b.n));
	buf_done(&b);
}

Test(commit, fresh_mail_is_read_in_commit_order)
{
	struct fix f;
	struct spool_fresh_pos pos = {.started = false};
	struct spool_fresh_row rows[8];
	struct spool_read *r;
	uint32_t vmta;
	size_t n;

	fix_init(&f);
	/* ids are given out at MAIL, so a later id may be committed first */
	fix_put(&f, 30, "x.example", "a");
	fix_put(&f, 10, "y.example", "a");
	fix_put(&f, 20, "x.example", "b");
	fix_put(&f, 5, "x.example", "a");
	cr_assert_eq(spool_read_begin(f.spool, &r), 0);
	cr_assert_eq(spool_vmta_find(r, slice_str("a"), &vmta), 0);
	n = spool_fresh_scan(r, vmta, SPOOL_CLASS_DEFAULT, &pos, rows, 2);
	cr_assert_eq(n, 2);
	cr_assert(rows[0].msgid == 30 && rows[1].msgid == 10);
	n = spool_fresh_scan(r, vmta, SPOOL_CLASS_DEFAULT, &pos, rows, 8);
	cr_assert(n == 1 && rows[0].msgid == 5);
	cr_assert_eq(spool_fresh_scan(r, vmta, SPOOL_CLASS_DEFAULT, &pos, rows, 8), 0);
	spool_read_end(r);
	/* mail that comes later is found from the same position */
	fix_put(&f, 40, "x.example", "a");
	cr_assert_eq(spool_read_begin(f.spool, &r), 0);
	n = spool_fresh_scan(r, vmta, SPOOL_CLASS_DEFAULT, &pos, rows, 8);
	cr_assert(n == 1 && rows[0].msgid == 40);
	spool_read_end(r);
	fix_check(&f);
	fix_done(&f);
}

Test(commit, delivered_recipient_leaves_nothing_but_its_record)
{
	struct fix f;
	struct shm_ring *ring;
	struct spool_stat st;
	uint64_t at;

	fix_init(&f);
	ring = fix_worker(&f, 0, "a", 1);
	fix_put(&f, 7, "x.example", "a");
	cr_assert(fix_report(ring, 7, 0, OUTCOME_DELIVERED, 0));
	at = ring_position(ring);
	cr_assert_lt(ring_committed(ring), at);
	cr_assert_eq(fix_commit(&f, NULL), 0);
	cr_assert_eq(ring_committed(ring), at);
	st = fix_stat(&f);
	cr_assert(st.messages == 0 && st.recipients == 0 && st.fresh == 0 && st.live_bytes == 0);
	cr_assert_eq(fix_records(&f, ACCT_DELIVERED), 1);
	cr_assert_null(shm_queue_find(f.shm, 1), "the slot of an empty queue goes back");
	fix_check(&f);
	fix_done(&f);
}

Test(commit, replayed_reports_do_nothing)
{
	struct fix f;
	struct shm_ring *ring;

	fix_init(&f);
	ring = fix_worker(&f, 0, "a", 1);
	fix_put(&f, 7, "x.example", "a");
	cr_assert(fix_report(ring, 7, 0, OUTCOME_DELIVERED, 0));
	cr_assert(fix_report(ring, 7, 0, OUTCOME_DELIVERED, 0));
	cr_assert(fix_report(ring, 7, 9, OUTCOME_BOUNCED, 0));
	cr_assert(fix_report(ring, 99, 0, OUTCOME_BOUNCED, 0));
	cr_assert_eq(fix_commit(&f, NULL), 0);
	cr_assert_eq(fix_records(&f, ACCT_DELIVERED), 1);
	cr_assert_eq(fix_records(&f, ACCT_BOUNCED), 0);
	fix_check(&f);
	fix_done(&f);
}

Test(commit, spooler_that_died_after_the_sync_goes_on_behind_it)
{
	struct fix f;
	struct shm_ring *ring;

	fix_init(&f);
	ring = fix_worker(&f, 0, "a", 1);
	fix_put(&f, 7, "x.example", "a");
	fix_put(&f, 8, "x.example", "a");
	cr_assert(fix_report(ring, 7, 0, OUTCOME_TRANSIENT, clock_wall() + 60000));
	cr_assert_eq(fix_commit(&f, NULL), 0);
	/* as if the process had died between the sync and the publication */
	ring_set_committed(ring, 0);
	fix_close(&f);
	fix_open(&f);
	cr_assert(fix_report(ring, 8, 0, OUTCOME_TRANSIENT, clock_wall() + 60000));
	cr_assert_eq(fix_commit(&f, NULL), 0);
	cr_assert_eq(ring_committed(ring), ring_position(ring));
	cr_assert_eq(fix_records(&f, ACCT_TRANSIENT), 2, "the first report counts once");
	fix_check(&f);
	fix_done(&f);
}

Test(commit, a_new_worker_in_a_slot_starts_at_zero)
{
	struct fix f;
	struct shm_ring *ring;

	fix_init(&f);
	ring = fix_worker(&f, 0, "a", 1);
	fix_put(&f, 7, "x.example", "a");
	fix_put(&f, 8, "x.example", "a");
	cr_assert(fix_report(ring, 7, 0, OUTCOME_DELIVERED, 0));
	cr_assert_eq(fix_commit(&f, NULL), 0);
	cr_assert(commit_slot_empty(f.c, 0, 1));
	commit_slot_drained(f.c, 0, 1);
	ring = fix_worker(&f, 0, "a", 2);
	cr_assert(fix_report(ring, 8, 0, OUTCOME_DELIVERED, 0));
	cr_assert_eq(fix_commit(&f, NULL), 0);
	cr_assert_eq(fix_stat(&f).recipients, 0);
	fix_done(&f);
}

Test(commit, an_end_that_is_said_twice_does_not_touch_the_next_worker)
{
	struct fix f;
	struct shm_ring *ring;

	fix_init(&f);
	ring = fix_worker(&f, 0, "a", 1);
	fix_put(&f, 7, "x.example", "a");
	commit_slot_drained(f.c, 0, 1);
	ring = fix_worker(&f, 0, "a", 2);
	cr_assert(fix_report(ring, 7, 0, OUTCOME_TRANSIENT, clock_wall() + 60000));
	cr_assert_eq(fix_commit(&f, NULL), 0);
	commit_slot_drained(f.c, 0, 1);
	cr_assert_eq(fix_commit(&f, NULL), 0);
	cr_assert_eq(fix_records(&f, ACCT_TRANSIENT), 1, "the report was read twice");
	cr_assert_eq(ring_committed(ring), ring_position(ring));
	fix_done(&f);
}

/* A new spooler does not know that the dead worker's ring was drained; master empties it meanwhile. */
Test(commit, a_ring_that_master_empties_is_left_alone)
{
	struct fix f;
	struct shm_ring *ring;

	fix_init(&f);
	ring = fix_worker(&f, 0, "a", 1);
	fix_put(&f, 7, "x.example", "a");
	cr_assert(fix_report(ring, 7, 0, OUTCOME_TRANSIENT, clock_wall() + 60000));
	cr_assert_eq(fix_commit(&f, NULL), 0);
	fix_close(&f);
	fix_open(&f);
	atomic_store(&shm_worker(f.shm, 0)->state, SHM_WORKER_FREE);
	ring_reset(ring);
	cr_assert_eq(fix_commit(&f, NULL), 0);
	cr_assert_eq(ring_committed(ring), 0);
	ring = fix_worker(&f, 0, "a", 2);
	cr_assert_eq(ring_room(ring), ring_capacity(ring), "the new worker has no room");
	cr_assert(fix_report(ring, 7, 0, OUTCOME_TRANSIENT, clock_wall() + 60000));
	cr_assert_eq(fix_commit(&f, NULL), 0);
	cr_assert_eq(fix_records(&f, ACCT_TRANSIENT), 2);
	fix_done(&f);
}

Test(commit, transient_moves_to_due_no_later_than_expiry)
{
	struct fix f;
	struct shm_ring *ring;
	struct spool_recipient r;
	struct spool_wake_row wake;
	msec_t due = clock_wall() + 60000;

	fix_init(&f);
	ring = fix_worker(&f, 0, "a", 1);
	fix_put(&f, 7, "x.example", "a");
	fix_put(&f, 8, "x.example", "a");
	cr_assert(fix_report(ring, 7, 0, OUTCOME_TRANSIENT, due));
	cr_assert(fix_report(ring, 8, 0, OUTCOME_TRANSIENT, UINT64_MAX / 2));
	cr_assert_eq(fix_commit(&f, NULL), 0);
	cr_assert(fix_recipient(&f, 7, 0, &r));
	cr_assert(!r.fresh && r.due == due && r.attempts == 1 && r.first_attempt > 0);
	cr_assert(fix_recipient(&f, 8, 0, &r));
	cr_assert_eq(r.due, r.expiry);
	wake = first_wake(&f, 1);
	cr_assert(wake.queue == r.queue && wake.at == due);
	cr_assert_eq(fix_records(&f, ACCT_TRANSIENT), 2);
	fix_check(&f);
	fix_done(&f);
}

Test(commit, wake_row_is_the_later_of_first_due_and_what_was_asked)
{
	struct fix f;
	struct shm_ring *ring;
	msec_t now = clock_wall(), due = now + 60000;
	uint32_t queue;
	int again;

	fix_init(&f);
	ring = fix_worker(&f, 0, "a", 1);
	fix_put(&f, 7, "x.example", "a");
	fix_put(&f, 8, "x.example", "a");
	cr_assert(fix_report(ring, 7, 0, OUTCOME_TRANSIENT, due));
	cr_assert_eq(fix_commit(&f, NULL), 0);
	queue = first_wake(&f, 1).queue;
	ask_wake(ring, queue, due + 5000);
	cr_assert_eq(fix_commit(&f, NULL), 0);
	cr_assert_eq(first_wake(&f, 1).at, due + 5000);
	for (again = 0; again < 2; again++) {
		if (again) { /* what was asked survives a start */
			fix_close(&f);
			fix_open(&f);
		}
		cr_assert(fix_report(ring, 8, 0, OUTCOME_TRANSIENT, due - 1000));
		cr_assert_eq(fix_commit(&f, NULL), 0);
		cr_assert_eq(first_wake(&f, 1).at, due + 5000);
	}
	ask_wake(ring, queue, 0);
	cr_assert_eq(fix_commit(&f, NULL), 0);
	cr_assert_eq(first_wake(&f, 1).at, due - 1000);
	cr_assert(fix_report(ring, 8, 0, OUTCOME_DELIVERED, 0));
	cr_assert_eq(fix_commit(&f, NULL), 0);
	cr_assert_eq(first_wake(&f, 1).at, due);
	cr_assert(fix_report(ring, 7, 0, OUTCOME_DELIVERED, 0));
	cr_assert_eq(fix_commit(&f, NULL), 0);
	cr_assert_eq(first_wake(&f, 1).queue, 0, "no mail, no wake row");
	fix_check(&f);
	fix_done(&f);
}

Test(commit, mail_for_a_full_queue_goes_to_due)
{
	struct fix f;
	struct spool_recipient r;
	struct shm_queue *q;
	msec_t later = clock_wall() + 90000;

	fix_init(&f);
	fix_put(&f, 7, "x.example", "a");
	cr_assert(fix_recipient(&f, 7, 0, &r));
	cr_assert(r.fresh);
	q = shm_queue_find(f.shm, r.queue);
	cr_assert_not_null(q);
	atomic_store(&q->flags, SHM_QUEUE_FULL);
	atomic_store(&q->not_before, later);
	fix_put(&f, 8, "x.example", "a");
	cr_assert(fix_recipient(&f, 8, 0, &r));
	cr_assert(!r.fresh && r.due == later);
	cr_assert_eq(first_wake(&f, 1).at, later);
	cr_assert_eq(atomic_load(&q->recipients), 2);
	fix_check(&f);
	fix_done(&f);
}

Test(commit, a_queue_that_is_full_for_one_class_takes_the_others_fresh)
{
	struct fix f;
	struct spool_recipient r;
	struct shm_queue *q;

	fix_init(&f);
	fix_put(&f, 7, "x.example", "a");
	cr_assert(fix_recipient(&f, 7, 0, &r));
	q = shm_queue_find(f.shm, r.queue);
	atomic_store(&q->flags, 1u << (SHM_QUEUE_FULL_CLASS_SHIFT + 3));
	fix_put(&f, 8, "x.example", "a");
	cr_assert(fix_recipient(&f, 8, 0, &r));
	cr_assert(r.fresh);
	atomic_store(&q->flags, 1u << (SHM_QUEUE_FULL_CLASS_SHIFT + r.class));
	fix_put(&f, 9, "x.example", "a");
	cr_assert(fix_recipient(&f, 9, 0, &r));
	cr_assert_not(r.fresh);
	fix_check(&f);
	fix_done(&f);
}

Test(commit, parked_recipients_keep_their_attempts)
{
	struct fix f;
	struct report_park_item items[] = {{7, 0}, {8, 0}, {99, 0}};
	struct report_park p = {.due = clock_wall() + 1000, .items = items, .item_count = 3};
	struct shm_ring *ring;
	struct spool_recipient r;
	struct buf b = BUF_INIT;

	fix_init(&f);
	ring = fix_worker(&f, 0, "a", 1);
	fix_put(&f, 7, "x.example", "a");
	fix_put(&f, 8, "x.example", "a");
	cr_assert(fix_recipient(&f, 7, 0, &r));
	p.queue = r.queue;
	report_park_encode(&p, &b);
	cr_assert(ring_put(ring, REPORT_PARK, b.p, b.n));
	buf_done(&b);
	cr_assert_eq(fix_commit(&f, NULL), 0);
	cr_assert(fix_recipient(&f, 8, 0, &r));
	cr_assert(!r.fresh && r.attempts == 0 && r.due == p.due);
	cr_assert_eq(fix_stat(&f).fresh, 0);
	cr_assert_eq(fix_records(&f, ACCT_TRANSIENT), 0);
	fix_check(&f);
	fix_done(&f);
}

Test(commit, pool_turns_are_exact_over_a_crash)
{
	struct fix f;
	struct spool_read *r;
	struct spool_queue q;
	uint32_t counts[4] = {0}, after = 0;
	uint64_t i;

	fix_init(&f);
	for (i = 1; i <= 30; i++) {
		fix_put(&f, i, "x.example", "p");
		if (i % 7 == 0) {
			fix_close(&f);
			fix_open(&f);
		}
	}
	cr_assert_eq(spool_read_begin(f.spool, &r), 0);
	while (spool_queue_next(r, &after, &q) > 0) {
		struct spool_fresh_pos pos = {.started = false};
		struct spool_fresh_row rows[32];

		counts[q.vmta] =
			(uint32_t)spool_fresh_scan(r, q.vmta, SPOOL_CLASS_DEFAULT, &pos, rows, 32);
	}
	spool_read_end(r);
	cr_assert(counts[1] == 10 && counts[2] == 10 && counts[3] == 10, "%u %u %u", counts[1],
		  counts[2], counts[3]);
	fix_done(&f);
}

Test(commit, discarded_recipients_are_accounted_and_never_stored)
{
	static const char *const addresses[] = {"a@gone.example", "b@lost.example", "c@x.example"};
	static const char *const domains[] = {"gone.example", "lost.example", "x.example"};
	static const char *const routes[] = {"a", "a", "a"};
	struct fix f;

	fix_init(&f);
	cr_assert_eq(
		fix_commit(&f, fix_message(&f, 5, "h: v\r\n\r\nx", 2, addresses, domains, routes)),
		0);
	cr_assert_eq(fix_stat(&f).messages, 0);
	cr_assert(fix_records(&f, ACCT_DELIVERED) == 1 && fix_records(&f, ACCT_BOUNCED) == 1);
	cr_assert_eq(
		fix_commit(&f, fix_message(&f, 6, "h: v\r\n\r\nx", 3, addresses, domains, routes)),
		0);
	cr_assert(fix_stat(&f).messages == 1 && fix_stat(&f).recipients == 1);
	fix_check(&f);
	fix_done(&f);
}

Test(commit, unknown_route_is_refused_and_nothing_of_it_stays)
{
	struct fix f;

	fix_init(&f);
	cr_assert_eq(fix_commit(&f, fix_one(&f, 5, "x.example", "nobody")), 0);
	cr_assert(f.done == 1 && f.last_result == ERR_NOT_FOUND);
	cr_assert_eq(fix_stat(&f).messages, 0);
	fix_check(&f);
	fix_done(&f);
}

Test(commit, full_map_refuses_mail_and_keeps_outcomes)
{
	struct fix f;
	struct shm_ring *ring;
	char *body = xmalloc(200001);
	const char *address = "u@x.example", *domain = "x.example", *route = "a";
	uint64_t id = 1;
	int rc = 0;

	memset(body, 'x', 200000);
	body[200000] = 0;
	fix_init_size(&f, 4 << 20);
	ring = fix_worker(&f, 0, "a", 1);
	while (rc == 0 && id < 100)
		rc = fix_commit(&f, fix_message(&f, id++, body, 1, &address, &domain, &route));
	cr_assert_eq(rc, ERR_MAP_FULL, "%s", err_text(rc));
	cr_assert_eq(f.last_result, ERR_MAP_FULL);
	fix_check(&f);
	/* the report comes with mail that does not fit: the mail is refused, the report stays in the ring */
	cr_assert(fix_report(ring, 1, 0, OUTCOME_DELIVERED, 0));
	rc = fix_commit(&f, fix_message(&f, id++, body, 1, &address, &domain, &route));
	if (rc < 0) {
		cr_assert_eq(ring_committed(ring), 0);
		cr_assert_eq(fix_commit(&f, NULL), 0);
	}
	cr_assert_eq(ring_committed(ring), ring_position(ring));
	cr_assert_eq(fix_records(&f, ACCT_DELIVERED), 1);
	for (id = 2; id < 6; id++)
		cr_assert(fix_report(ring, id, 0, OUTCOME_DELIVERED, 0));
	cr_assert_eq(fix_commit(&f, NULL), 0);
	id = 1000;
	/* the freed pages take mail again, after the transactions that LMDB keeps them for */
	cr_assert_eq(fix_commit(&f, fix_one(&f, id++, domain, route)), 0);
	cr_assert_eq(fix_commit(&f, fix_one(&f, id++, domain, route)), 0);
	cr_assert_eq(fix_commit(&f, fix_message(&f, id++, body, 1, &address, &domain, &route)), 0);
	fix_check(&f);
	fix_done(&f);
	free(body);
}

Test(commit, bounce_leaves_a_dsn_row_with_the_headers)
{
	struct fix f;
	struct shm_ring *ring;
	struct intake_message *m;
	struct dsn_row row;
	struct spool_read *r;
	struct slice v;
	struct buf scratch = BUF_INIT;
	uint64_t after = 0;

	fix_init(&f);
	ring = fix_worker(&f, 0, "a", 1);
	m = fix_one(&f, 7, "x.example", "a");
	m->header_size = 14;
	cr_assert_eq(fix_commit(&f, m), 0);
	cr_assert(fix_report(ring, 7, 0, OUTCOME_BOUNCED, 0));
	cr_assert_eq(fix_commit(&f, NULL), 0);
	cr_assert_eq(spool_read_begin(f.spool, &r), 0);
	cr_assert_eq(spool_dsn_next(r, &after, &v), 1);
	cr_assert_eq(dsn_row_decode(v, &scratch, &row), 0);
	cr_assert(slice_eq_str(row.sender, "from@sender.example") && row.recipient_count == 1);
	cr_assert(slice_eq_str(row.original, "Subject: x\r\n\r\n"));
	cr_assert(slice_eq_str(row.vmta, "a"));
	cr_assert(slice_eq_str(row.recipients[0].address, "user@example"));
	spool_read_end(r);
	buf_done(&scratch);
	/* the notification goes in with the deletion of the row */
	m = fix_one(&f, 9, "x.example", "a");
	m->sender = "";
	m->flags = SPOOL_MSG_IS_DSN;
	m->dsn_row = after;
	cr_assert_eq(fix_commit(&f, m), 0);
	cr_assert_eq(fix_stat(&f).dsns, 0);
	cr_assert(fix_report(ring, 9, 0, OUTCOME_BOUNCED, 0));
	cr_assert_eq(fix_commit(&f, NULL), 0);
	cr_assert_eq(fix_stat(&f).dsns, 0, "no bounce of a bounce");
	fix_check(&f);
	fix_done(&f);
}

Test(commit, bad_record_is_set_aside_and_the_next_one_counts)
{
	struct fix f;
	struct shm_ring *ring;

	fix_init(&f);
	ring = fix_worker(&f, 0, "a", 1);
	fix_put(&f, 7, "x.example", "a");
	cr_assert(ring_put(ring, REPORT_TRANSACTION, "nonsense", 8));
	cr_assert(ring_put(ring, 99, "", 0));
	cr_assert(fix_report(ring, 7, 0, OUTCOME_DELIVERED, 0));
	cr_assert_eq(fix_commit(&f, NULL), 0);
	cr_assert_eq(f.bad, 2);
	cr_assert_eq(fix_stat(&f).recipients, 0);
	cr_assert_eq(ring_committed(ring), ring_position(ring));
	fix_done(&f);
}

Test(commit, positions_of_another_family_are_forgotten)
{
	struct fix f;
	struct shm_ring *ring;
	struct spool_read *r;
	struct slice name, v;

	fix_init(&f);
	ring = fix_worker(&f, 0, "a", 1);
	fix_put(&f, 7, "x.example", "a");
	cr_assert(fix_report(ring, 7, 0, OUTCOME_DELIVERED, 0));
	cr_assert_eq(fix_commit(&f, NULL), 0);
	commit_free(f.c);
	{
		struct commit_options o = {
			.spool = f.spool, .shm = f.shm, .conf = f.conf, .family = FIX_FAMILY + 1};
		char *error;

		cr_assert_eq(commit_new(&o, &f.c, &error), 0);
	}
	cr_assert_eq(spool_read_begin(f.spool, &r), 0);
	cr_assert_eq(spool_state_next(r, slice_str(STATE_RING), slice_of("", 0), &name, &v), 0);
	spool_read_end(r);
	fix_done(&f);
}

Test(commit, live_counts_are_exact_after_a_recount_with_mail_coming_and_going)
{
	struct fix f;
	struct shm_ring *ring;
	struct shm_queue *q;
	uint64_t i;

	fix_init(&f);
	ring = fix_worker(&f, 0, "a", 1);
	for (i = 1; i <= 100; i++)
		fix_put(&f, i, "x.example", "a");
	fix_close(&f);
	fix_open(&f);
	cr_assert_not(commit_counted(f.c));
	cr_assert_not(commit_recount(f.c, 50));
	cr_assert(fix_report(ring, 10, 0, OUTCOME_DELIVERED, 0)); /* counted already */
	cr_assert(fix_report(ring, 90, 0, OUTCOME_DELIVERED, 0)); /* not yet */
	cr_assert_eq(fix_commit(&f, fix_one(&f, 101, "x.example", "a")), 0);
	while (!commit_recount(f.c, 7))
		;
	q = shm_queue_find(f.shm, 1);
	cr_assert_not_null(q);
	cr_assert_eq(atomic_load(&q->recipients), 99);
	cr_assert_eq(atomic_load(&q->bytes), 99 * 20);
	fix_done(&f);
}

Test(commit, orphans_are_virtual_mtas_with_mail_that_left)
{
	static const char without[] = "[global]\nhost-name = m.example\n[virtual-mta a]\n"
				      "smtp-source-host = 127.0.0.1 a.example\n";
	struct fix f;
	struct conf *conf;
	char *messages, **names = NULL;

	fix_init(&f);
	fix_put(&f, 1, "x.example", "b");
	conf = load_bytes(without, strlen(without), &messages);
	cr_assert_not_null(conf, "%s", messages);
	free(messages);
	commit_set_conf(f.c, conf);
	cr_assert_eq(commit_orphans(f.c, &names), 1);
	cr_assert_str_eq(names[0], "b");
	free(names[0]);
	free(names);
	conf_free(f.conf);
	f.conf = conf;
	fix_done(&f);
}
