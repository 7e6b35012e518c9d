/* links: common/base common/conf common/spool common/shm common/ipc common/smtp common/mail common/acct common/dns/route.c common/dns/wire.c spooler/commit.c spooler/commit_*.c spooler/dsn_row.c worker -worker/resolver.c -worker/resolver_main.c -worker/resolver_packet.c -worker/resolver_record.c -worker/resolver_route.c -worker/resolver_server.c -worker/resolver_upstream.c tests/replay/world.c tests/replay/mx.c tests/replay/fake_loop.c tests/replay/fake_stream.c tests/replay/fake_dns.c */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "common/shm/limits.h"
#include "tests/replay/mx.h"
#include "tests/replay/world.h"

/* One connection, two round trips of 50 ms for each message: ten messages a second. */
#define SLOW "[domain *]\nmax-smtp-out = 1\nretry-after = 10m\nsmtp-port = 25\n"
#define BULK 3000
#define URGENT 100

static struct world x;
static struct mx mx;

static void start(const char *conf)
{
	memset(&mx, 0, sizeof(mx));
	world_new(&x, conf);
	fake_latency(50 * USEC_PER_MSEC);
	fake_dns_mx("slow.test", "10 mx.slow.test 198.51.100.1");
}

static void finish(void)
{
	world_check(&x);
	world_free(&x);
	mx_done(&mx);
}

static void send_many(const char *who, unsigned n, const char *job, uint8_t class)
{
	char rcpt[64];

	for (unsigned i = 0; i < n; i++) {
		snprintf(rcpt, sizeof(rcpt), "%s%u@slow.test", who, i);
		world_send_as(&x, "s@sender.test", rcpt, job, class, 64);
	}
}

static void send_urgent(void *arg ATTR_UNUSED)
{
	send_many("urgent", URGENT, "alerts", 0);
}

static size_t delivered_until(const char *who, usec_t from, usec_t until)
{
	size_t n = 0;

	for (size_t i = 0; i < x.record_count; i++) {
		const struct world_record *r = &x.records[i];

		n += r->type == 'd' && strncmp(r->rcpt, who, strlen(who)) == 0 && r->at >= from &&
		     r->at < until;
	}
	return n;
}

Test(priority, urgent_mail_passes_a_full_queue)
{
	start(SLOW);
	mx_listen(&mx, "198.51.100.1", WORLD_PORT);
	send_many("bulk", BULK, "news", 1);
	fake_at(MINUTE, send_urgent, NULL);
	world_run(&x, 100 * USEC_PER_SEC);
	cr_assert_eq(delivered_until("urgent", MINUTE, 90 * USEC_PER_SEC), URGENT);
	cr_assert_geq(delivered_until("bulk", MINUTE, 90 * USEC_PER_SEC), 50, "bulk still moves");
	finish();
}

/* 100 messages of class 0 beside class 3: 8 of 9 turns are theirs. */
Test(priority, classes_share_by_eight_to_one)
{
	usec_t until = MINUTE + 10 * USEC_PER_SEC;

	start(SLOW);
	mx_listen(&mx, "198.51.100.1", WORLD_PORT);
	send_many("bulk", BULK, "news", 3);
	fake_at(MINUTE, send_urgent, NULL);
	world_run(&x, 2 * MINUTE);
	cr_assert_geq(delivered_until("urgent", MINUTE, until), 80);
	cr_assert_geq(delivered_until("bulk", MINUTE, until), 8);
	cr_assert_leq(delivered_until("bulk", MINUTE, until), 14);
	finish();
}

static void come_up(void *arg ATTR_UNUSED)
{
	mx_listen(&mx, "198.51.100.1", WORLD_PORT);
}

Test(priority, urgent_mail_passes_bulk_that_waited_for_a_retry)
{
	start(SLOW);
	fake_host("198.51.100.1", WORLD_PORT, FAKE_REFUSING, NULL, NULL);
	send_many("bulk", BULK, "news", 2);
	fake_at(MINUTE, send_urgent, NULL);
	fake_at(5 * MINUTE, come_up, NULL);
	world_run(&x, 12 * MINUTE);
	cr_assert_eq(delivered_until("urgent", 10 * MINUTE, 10 * MINUTE + 30 * USEC_PER_SEC),
		     URGENT);
	cr_assert_geq(delivered_until("bulk", 10 * MINUTE, 10 * MINUTE + 30 * USEC_PER_SEC), 50);
	finish();
}

static const char *defer_first(struct mx *m ATTR_UNUSED, enum mx_event what, unsigned c ATTR_UNUSED,
			       const char *line ATTR_UNUSED)
{
	return what == MX_RCPT && fake_elapsed() < 5 * MINUTE ? "450 4.7.1 not now" : NULL;
}

static void send_bulk(void *arg ATTR_UNUSED)
{
	send_many("bulk", 500, "news", 1);
}

/* Each message has its own time; those of both classes have come when the receiver takes mail again. */
Test(priority, urgent_mail_passes_bulk_that_was_deferred)
{
	usec_t last;

	start("[domain *]\nmax-smtp-out = 1\nretry-after = 4m\n");
	mx.answer = defer_first;
	mx_listen(&mx, "198.51.100.1", WORLD_PORT);
	send_bulk(NULL);
	fake_at(100 * USEC_PER_SEC, send_urgent, NULL);
	world_run(&x, 10 * MINUTE);
	cr_assert_eq(delivered_until("urgent", 0, 10 * MINUTE), URGENT);
	for (size_t i = 0; i < x.record_count; i++)
		if (x.records[i].type == 'd' && strncmp(x.records[i].rcpt, "urgent", 6) == 0)
			last = x.records[i].at;
	cr_assert_leq(last, 100 * USEC_PER_SEC + 4 * MINUTE + 30 * USEC_PER_SEC);
	finish();
}

static void send_small_job(void *arg ATTR_UNUSED)
{
	send_many("small", 50, "receipts", 1);
}

Test(priority, a_small_job_is_not_behind_a_big_one)
{
	usec_t until = MINUTE + 12 * USEC_PER_SEC;

	start(SLOW);
	mx_listen(&mx, "198.51.100.1", WORLD_PORT);
	send_many("big", BULK, "news", 1);
	fake_at(MINUTE, send_small_job, NULL);
	world_run(&x, 80 * USEC_PER_SEC);
	cr_assert_eq(delivered_until("small", MINUTE, until), 50);
	cr_assert_geq(delivered_until("big", MINUTE, until), 50, "they take turns");
	finish();
}

Test(priority, nothing_is_lost_when_the_worker_is_killed_with_a_full_queue)
{
	start(SLOW);
	mx_listen(&mx, "198.51.100.1", WORLD_PORT);
	send_many("bulk", 1500, "news", 2);
	fake_at(20 * USEC_PER_SEC, send_urgent, NULL);
	world_run_and_kill(&x, 25 * USEC_PER_SEC);
	world_run(&x, 5 * MINUTE);
	cr_assert_geq(world_count(&x, 'd'), 1500 + URGENT);
	cr_assert_eq(world_left(&x), 0);
	finish();
}

/* --- queue-priority --- */

#define TWO_QUEUES                                                              \
	"max-smtp-out = 2\n[domain *]\nmax-smtp-out = 2\nqueue-priority = 20\n" \
	"[domain high.test]\ndelivery-priority = 80\n"

static void start_two(const char *conf)
{
	start(conf);
	mx_listen(&mx, "198.51.100.1", WORLD_PORT);
	fake_dns_mx("high.test", "10 mx.high.test 198.51.100.1");
	fake_dns_mx("other.test", "10 mx.other.test 198.51.100.1");
}

static void send_high(void *arg ATTR_UNUSED)
{
	world_send(&x, "s@sender.test", "high@high.test");
}

static usec_t high_at(void)
{
	for (size_t i = 0; i < x.record_count; i++)
		if (x.records[i].type == 'd' && strcmp(x.records[i].rcpt, "high@high.test") == 0)
			return x.records[i].at;
	cr_assert_fail("the message of high priority was not delivered");
	return 0;
}

/* Both places are taken by a queue with mail for minutes: it gives way behind its message. */
Test(priority, a_queue_of_higher_priority_interrupts_a_lower_one)
{
	start_two(TWO_QUEUES);
	send_many("bulk", 500, "news", 1);
	fake_at(MINUTE / 6, send_high, NULL);
	world_run(&x, 5 * MINUTE);
	cr_assert_leq(high_at(), MINUTE / 6 + 1500 * USEC_PER_MSEC);
	cr_assert_eq(world_count(&x, 'd'), 501);
	cr_assert_eq(world_count(&x, 't'), 0);
	finish();
}

static usec_t last_of(const char *who)
{
	usec_t last = 0;

	for (size_t i = 0; i < x.record_count; i++)
		if (x.records[i].type == 'd' && strncmp(x.records[i].rcpt, who, strlen(who)) == 0)
			last = x.records[i].at;
	return last;
}

/* It keeps its connections as long as it has mail: 500 messages over two, 0.2 s each. */
Test(priority, a_queue_may_be_kept_from_interruption)
{
	start_two(TWO_QUEUES
		  "[domain slow.test]\ndelivery-priority = 20\nallow-priority-interruption = no\n");
	send_many("bulk", 500, "news", 1);
	fake_at(MINUTE / 6, send_high, NULL);
	world_run(&x, 5 * MINUTE);
	cr_assert_geq(high_at(), last_of("bulk"));
	finish();
}

/* --- three levels, and caps that are not the virtual MTA's --- */

#define IP_CAP "[global]\nip-connection-limit = 0/0 2\n[domain *]\nmax-smtp-out = 2\n"
#define THREE_QUEUES                                                        \
	IP_CAP "[domain low.test]\nqueue-priority = 20\nmax-smtp-out = 1\n" \
	       "[domain high.test]\nqueue-priority = 80\n"

static void start_three(const char *conf, const char *low_mx)
{
	start_two(conf);
	mx_listen(&mx, "198.51.100.2", WORLD_PORT);
	fake_dns_mx("low.test", low_mx);
}

static void send_low(unsigned n)
{
	char rcpt[64];

	for (unsigned i = 0; i < n; i++) {
		snprintf(rcpt, sizeof(rcpt), "low%u@low.test", i);
		world_send(&x, "s@sender.test", rcpt);
	}
}

/* The lowest holds nothing of the cap that has no room. */
Test(priority, a_still_lower_queue_elsewhere_does_not_hold_it_up)
{
	start_three(THREE_QUEUES, "10 mx.low.test 198.51.100.2");
	send_low(500);
	send_many("bulk", 500, "news", 1);
	fake_at(MINUTE / 6, send_high, NULL);
	world_run(&x, 5 * MINUTE);
	cr_assert_leq(high_at(), MINUTE / 6 + 1500 * USEC_PER_MSEC);
	cr_assert_eq(world_count(&x, 'd'), 1001);
	finish();
}

/* Each has one of the two places. */
Test(priority, the_lowest_of_three_makes_room)
{
	start_three(THREE_QUEUES
		    "[domain slow.test]\nmax-smtp-out = 1\n[domain high.test]\nmax-smtp-out = 1\n",
		    "10 mx.low.test 198.51.100.1");
	send_low(500);
	send_many("bulk", 500, "news", 1);
	for (unsigned i = 0; i < 40; i++)
		fake_at(MINUTE / 6, send_high, NULL);
	world_run(&x, 5 * MINUTE);
	cr_assert_leq(high_at(), MINUTE / 6 + 1500 * USEC_PER_MSEC);
	cr_assert_geq(delivered_until("bulk", MINUTE / 6, MINUTE / 6 + 3 * USEC_PER_SEC), 25,
		      "the middle one goes on");
	cr_assert_leq(delivered_until("low", MINUTE / 6, MINUTE / 6 + 3 * USEC_PER_SEC), 5);
	finish();
}

/* The lowest may not be interrupted: the one above it makes room. */
Test(priority, the_next_makes_room_when_the_lowest_need_not)
{
	start_three(THREE_QUEUES "[domain slow.test]\nmax-smtp-out = 1\n"
				 "[domain low.test]\nallow-priority-interruption = no\n",
		    "10 mx.low.test 198.51.100.1");
	send_low(500);
	send_many("bulk", 500, "news", 1);
	fake_at(MINUTE / 6, send_high, NULL);
	world_run(&x, 5 * MINUTE);
	cr_assert_leq(high_at(), MINUTE / 6 + 1500 * USEC_PER_MSEC);
	cr_assert_geq(delivered_until("low", MINUTE / 6, MINUTE / 6 + 3 * USEC_PER_SEC), 25,
		      "it goes on");
	finish();
}

static const char *slow_data(struct mx *m ATTR_UNUSED, enum mx_event what, unsigned c ATTR_UNUSED,
			     const char *line)
{
	if (what == MX_MAIL && strstr(line, "big@"))
		fake_latency(MINUTE);
	else if (what == MX_RCPT)
		fake_latency(10 * USEC_PER_MSEC);
	return NULL;
}

/* A minute passes before the reply to MAIL: with -during-transfer the message makes room, and is sent again. */
static void during_transfer(const char *conf, bool interrupted)
{
	start_two(conf);
	mx.answer = slow_data;
	world_send(&x, "big@sender.test", "big@slow.test");
	fake_at(10 * USEC_PER_SEC, send_high, NULL);
	world_run(&x, 10 * MINUTE);
	cr_assert_eq(world_count(&x, 'd'), 2, "%zu", world_count(&x, 'd'));
	cr_assert_eq(world_count(&x, 't'), 0, "being interrupted is no attempt");
	cr_assert_eq(high_at() < 40 * USEC_PER_SEC, interrupted, "at %.1f s",
		     (double)high_at() / 1e6);
	finish();
}

Test(priority, a_transfer_is_interrupted_where_that_is_allowed)
{
#define ONE                                                                     \
	"max-smtp-out = 1\n[domain *]\nmax-smtp-out = 2\nqueue-priority = 20\n" \
	"[domain high.test]\nqueue-priority = 80\n"
#define DURING "[domain slow.test]\nallow-priority-interruption-during-transfer = yes\n"
	during_transfer(ONE DURING, true);
	during_transfer(ONE, false);
}

Test(priority, a_transfer_is_interrupted_for_the_cap_of_an_address)
{
#define ONE_AT_IP                                                               \
	"[global]\nip-connection-limit = 0/0 1\n[domain *]\nmax-smtp-out = 2\n" \
	"[domain high.test]\nqueue-priority = 80\n"
	during_transfer(ONE_AT_IP DURING, true);
	during_transfer(ONE_AT_IP, false);
}

/* The lowest is busy with one message for a minute: the next does not wait for that, but has its turn before. */
Test(priority, a_lowest_that_is_slow_does_not_keep_the_others_from_making_room)
{
	start_three(THREE_QUEUES "[domain slow.test]\nmax-smtp-out = 1\n",
		    "10 mx.low.test 198.51.100.1");
	mx.answer = slow_data;
	world_send(&x, "big@sender.test", "low@low.test");
	for (unsigned i = 0; i < 4; i++)
		fake_at(USEC_PER_SEC, send_bulk, NULL);
	fake_at(10 * USEC_PER_SEC, send_high, NULL);
	world_run(&x, 5 * MINUTE);
	cr_assert_leq(high_at(), 16 * USEC_PER_SEC);
	finish();
}

/* --- between virtual MTAs --- */

static struct limit_want other_want = {.kind = LIMIT_IP, .name = {"198.51.100.1", 12}, .cap = 2};
static usec_t other_got_at, bulk_went_at;

/* The worker of another one wants a connection to the same address. */
static void other_asks(void *arg)
{
	lease_id lease;
	size_t by;

	if (lease_take(x.shm, 1, &other_want, 1, &lease, &by) == 0)
		other_got_at = fake_elapsed();
	else
		fake_at(fake_elapsed() + 10 * USEC_PER_MSEC, other_asks, arg);
}

static void ask_as_other(const char *conf, uint8_t priority)
{
	other_want.priority = priority;
	other_got_at = 0;
	start_two(conf);
	send_many("bulk", 500, "news", 1);
	fake_at(2 * USEC_PER_SEC, other_asks, NULL);
	world_run(&x, 5 * MINUTE);
	cr_assert_eq(world_count(&x, 'd'), 500);
	cr_assert(other_got_at);
	bulk_went_at = last_of("bulk");
	finish();
}

Test(priority, it_holds_between_virtual_mtas)
{
	const struct shm_config was = world_shm;

	world_shm.max_workers = 2;
	ask_as_other(IP_CAP, 80);
	cr_expect_leq(other_got_at, 2 * USEC_PER_SEC + 500 * USEC_PER_MSEC);
	ask_as_other(IP_CAP "allow-priority-interruption = no\n", 80);
	cr_expect_geq(other_got_at, bulk_went_at);
	ask_as_other(IP_CAP, 20);
	cr_expect_geq(other_got_at, bulk_went_at);
	world_shm = was;
}
