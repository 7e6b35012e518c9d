/* links: common/base common/conf common/spool common/shm common/ipc common/smtp common/mail common/acct common/dns/route.c common/dns/wire.c spooler/commit.c spooler/commit_*.c spooler/dsn_row.c worker -worker/resolver.c -worker/resolver_main.c -worker/resolver_packet.c -worker/resolver_record.c -worker/resolver_route.c -worker/resolver_server.c -worker/resolver_upstream.c tests/replay/world.c tests/replay/mx.c tests/replay/fake_loop.c tests/replay/fake_stream.c tests/replay/fake_dns.c */
/*
 * Mail that changes its virtual MTA: all of it, once, whatever dies on the way.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "tests/replay/mx.h"
#include "tests/replay/world.h"

#define BASE                                                            \
	"[virtual-mta b]\nsmtp-source-host = 192.0.2.2 b.sluice.test\n" \
	"[virtual-mta c]\nsmtp-source-host = 192.0.2.3 c.sluice.test\n" \
	"[domain *]\nretry-after = 1h\nmax-smtp-out = 1\n\n"
#define REROUTED(to) BASE "[domain there.test/a]\nreroute-to-virtual-mta = " to "\n"

static struct world x;
static struct mx mx;

static void start(const char *conf)
{
	memset(&mx, 0, sizeof(mx));
	world_new(&x, conf);
	mx_listen(&mx, "198.51.100.1", WORLD_PORT);
	fake_dns_mx("there.test", "10 mx.there.test 198.51.100.1");
}

static void finish(void)
{
	world_check(&x);
	world_free(&x);
	mx_done(&mx);
}

/* Recipients in the queue of this domain and virtual MTA. */
static size_t in_queue(const char *domain, const char *vmta)
{
	struct spool_recipient r;
	struct spool_read *read;
	uint64_t msgid = 0;
	uint32_t rcpt = 0, id, queue;
	bool started = false;
	size_t n = 0;

	cr_assert_eq(spool_read_begin(x.spool, &read), 0);
	if (spool_vmta_find(read, slice_str(vmta), &id) == 0 &&
	    spool_queue_find(read, id, slice_str(domain), &queue) == 0)
		while (spool_recipient_next(read, &msgid, &rcpt, &started, &r) > 0)
			n += r.queue == queue;
	spool_read_end(read);
	return n;
}

static void send_many(unsigned n)
{
	char to[64];

	for (unsigned i = 0; i < n; i++) {
		snprintf(to, sizeof(to), "r%u@there.test other%u@there.test", i, i);
		world_send(&x, "", to);
	}
}

static void refuse(bool on)
{
	if (on)
		fake_host("198.51.100.1", WORLD_PORT, FAKE_REFUSING, NULL, NULL);
	else
		mx_listen(&mx, "198.51.100.1", WORLD_PORT);
}

static const char plain[] = BASE, rerouted[] = REROUTED("b");

static void reload(void *arg)
{
	world_reload(&x, *(const char *const *)arg);
}

static void reload_at(usec_t at, const char *conf)
{
	static const char *next;

	next = conf;
	fake_at(at, reload, &next);
}

static void send_late(void *arg ATTR_UNUSED)
{
	world_send(&x, "", "late@there.test");
}

static void run_as(const char *vmta, usec_t for_usec)
{
	x.h.vmta = vmta;
	world_run(&x, fake_elapsed() + for_usec);
}

Test(reroute, takes_what_waits_and_what_is_new)
{
	start(BASE);
	refuse(true);
	send_many(1500);
	reload_at(MINUTE, rerouted);
	fake_at(3 * MINUTE, send_late, NULL);
	world_run(&x, 4 * MINUTE);
	cr_assert_eq(in_queue("there.test", "a"), 0);
	cr_assert_eq(in_queue("there.test", "b"), 3001);
	refuse(false);
	run_as("b", MINUTE);
	cr_assert_eq(world_count(&x, 'd'), 3001);
	cr_assert_eq(mx.delivered, 3001);
	cr_assert_str_eq(world_nth(&x, 'd', 0)->queue, "there.test/b");
	/* what was moved keeps its order; new mail is no deferred mail */
	cr_assert_str_eq(world_nth(&x, 'd', 0)->rcpt, "late@there.test");
	cr_assert_str_eq(world_nth(&x, 'd', 1)->rcpt, "r0@there.test");
	cr_assert_str_eq(world_nth(&x, 'd', 3000)->rcpt, "other1499@there.test");
	finish();
}

Test(reroute, ends_with_its_reason)
{
	start(REROUTED("b"));
	send_many(3);
	reload_at(MINUTE, plain);
	fake_at(2 * MINUTE, send_late, NULL);
	world_run(&x, 3 * MINUTE);
	cr_assert_eq(in_queue("there.test", "b"), 6);
	cr_assert_eq(world_count_rcpt(&x, 'd', "late@there.test"), 1);
	cr_assert_eq(mx.delivered, 1);
	finish();
}

/* The worker that has begun it is gone; so is the configuration that asked for it. */
Test(reroute, ends_also_when_the_queue_is_empty)
{
	start(REROUTED("b"));
	send_many(3);
	world_run(&x, MINUTE);
	world_reload(&x, BASE);
	fake_at(2 * MINUTE, send_late, NULL);
	run_as("a", 2 * MINUTE);
	cr_assert_eq(world_count_rcpt(&x, 'd', "late@there.test"), 1);
	finish();
}

Test(reroute, may_lead_on)
{
	start(REROUTED("b") "[domain there.test/b]\nreroute-to-virtual-mta = c\n");
	send_many(2);
	world_run(&x, MINUTE);
	cr_assert_eq(in_queue("there.test", "b"), 4, "b has not said so yet");
	run_as("b", MINUTE);
	cr_assert_eq(in_queue("there.test", "c"), 4);
	send_late(NULL);
	run_as("c", MINUTE);
	cr_assert_eq(mx.delivered, 5);
	cr_assert_eq(world_count_rcpt(&x, 'd', "late@there.test"), 1, "straight to the end");
	finish();
}

Test(reroute, that_would_come_back_is_refused)
{
	start(REROUTED("b") "[domain there.test/b]\nreroute-to-virtual-mta = c\n"
			    "[domain there.test/c]\nreroute-to-virtual-mta = a\n");
	send_many(2);
	world_run(&x, MINUTE);
	run_as("b", MINUTE);
	cr_assert_eq(in_queue("there.test", "c"), 4);
	run_as("c", 5 * MINUTE);
	cr_assert_eq(mx.delivered, 4, "the last one delivers");
	finish();
}

/* In each step of it: before and behind each commit of the first seconds. */
Test(reroute, loses_and_doubles_nothing_when_workers_die, .timeout = 300)
{
	for (unsigned kill = 0; kill < 40; kill++) {
		start(BASE);
		refuse(true);
		send_many(700);
		x.commit_gap = kill % 2 ? 30000 : 0;
		reload_at(MINUTE, rerouted);
		world_run_and_kill(&x, MINUTE + 1 + kill * 10000);
		if (kill % 3 == 0)
			world_restart_spooler(&x);
		x.commit_gap = 0;
		run_as("a", MINUTE);
		cr_assert_eq(in_queue("there.test", "b"), 1400, "kill %u", kill);
		refuse(false);
		run_as("b", MINUTE);
		cr_assert_eq(world_count(&x, 'd'), 1400, "kill %u", kill);
		cr_assert_eq(mx.delivered, 1400, "kill %u", kill);
		finish();
	}
}

Test(reroute, leaves_a_paused_queue_alone)
{
	start(REROUTED("b"));
	world_order_at(&x, 1, ORDER_PAUSE, "there.test/a", false);
	fake_at(MINUTE, send_late, NULL);
	world_order_at(&x, 3 * MINUTE, ORDER_RESUME, "there.test/a", false);
	world_run(&x, 2 * MINUTE);
	cr_assert_eq(in_queue("there.test", "a"), 1);
	run_as("a", 5 * MINUTE);
	cr_assert_eq(in_queue("there.test", "b"), 1);
	finish();
}

/* --- moved by an operator --- */

Test(move, takes_all_that_matches_and_no_more)
{
	start(BASE);
	refuse(true);
	fake_host("198.51.100.2", WORLD_PORT, FAKE_REFUSING, NULL, NULL);
	fake_dns_mx("other.test", "10 mx.other.test 198.51.100.2");
	send_many(800);
	world_send(&x, "", "stays@other.test");
	world_move_at(&x, MINUTE, "there.test/*", "b");
	fake_at(2 * MINUTE, send_late, NULL);
	world_run(&x, 3 * MINUTE);
	cr_assert(!commit_orders_pending(x.commit));
	cr_assert_eq(in_queue("there.test", "b"), 1600);
	cr_assert_eq(in_queue("there.test", "a"), 1, "new mail is not meant");
	cr_assert_eq(in_queue("other.test", "a"), 1);
	refuse(false);
	run_as("b", MINUTE);
	cr_assert_eq(world_count(&x, 'd'), 1600);
	cr_assert_eq(mx.delivered, 1600);
	finish();
}

/* The order comes while the first body is on its way; every second message is deferred at its end. */
static const char *order_at_data(struct mx *m ATTR_UNUSED, enum mx_event what, unsigned connection,
				 const char *line ATTR_UNUSED)
{
	static bool given;

	if (what == MX_OPEN && connection == 1)
		given = false;
	if (what == MX_DATA && !given) {
		given = true;
		world_move_at(&x, fake_elapsed(), "*", "b");
	}
	return what == MX_DONE && connection % 2 ? "450 4.2.0 later" : NULL;
}

Test(move, what_is_in_flight_goes_after_the_others)
{
	start(BASE "max-smtp-out = 4\nmax-msg-per-connection = 1\n");
	mx.answer = order_at_data;
	for (int i = 0; i < 20; i++)
		world_send_as(&x, "", "r@there.test", "", SPOOL_CLASS_DEFAULT, 1000000);
	world_run(&x, 2 * MINUTE);
	cr_assert(!commit_orders_pending(x.commit));
	cr_assert_gt(world_count(&x, 't'), 0, "something was in flight");
	cr_assert_eq(in_queue("there.test", "a"), 0);
	cr_assert_eq(in_queue("there.test", "b"), 20 - world_count(&x, 'd'));
	mx.answer = NULL;
	run_as("b", MINUTE);
	cr_assert_eq(world_count(&x, 'd'), 20);
	cr_assert_eq(mx.delivered, 20);
	finish();
}

Test(move, loses_and_doubles_nothing_when_somebody_dies, .timeout = 300)
{
	for (unsigned kill = 0; kill < 30; kill++) {
		start(BASE);
		refuse(true);
		send_many(700);
		x.commit_gap = kill % 2 ? 30000 : 0;
		world_move_at(&x, MINUTE, "there.test/a", "b");
		world_run_and_kill(&x, MINUTE + 1 + kill * 5000);
		if (kill % 3 == 0)
			world_restart_spooler(&x);
		x.commit_gap = 0;
		run_as("a", MINUTE);
		cr_assert_eq(in_queue("there.test", "b"), 1400, "kill %u", kill);
		refuse(false);
		run_as("b", MINUTE);
		cr_assert_eq(world_count(&x, 'd'), 1400, "kill %u", kill);
		cr_assert_eq(mx.delivered, 1400, "kill %u", kill);
		finish();
	}
}

/* --- by what a receiver says --- */

static const char *throttled(struct mx *m ATTR_UNUSED, enum mx_event what,
			     unsigned connection ATTR_UNUSED, const char *line ATTR_UNUSED)
{
	return what == MX_RCPT ? "450 4.7.1 slow down" : NULL;
}

static void be_well(void *arg ATTR_UNUSED)
{
	mx.answer = NULL;
}

#define PATTERNS(actions) \
	BASE "smtp-pattern-list = here\n[smtp-pattern-list here]\nreply = /slow down/ " actions "\n"

Test(reroute, by_a_reply_lasts_for_ten_minutes)
{
	start(PATTERNS("reroute=b"));
	mx.answer = throttled;
	send_many(20);
	fake_at(MINUTE, send_late, NULL);
	fake_at(2 * MINUTE, be_well, NULL);
	fake_at(15 * MINUTE, send_late, NULL);
	world_run(&x, 20 * MINUTE);
	cr_assert_eq(in_queue("there.test", "b"), 41);
	cr_assert_eq(in_queue("there.test", "a"), 0);
	cr_assert_eq(world_count_rcpt(&x, 'd', "late@there.test"), 1, "the second");
	run_as("b", MINUTE);
	cr_assert_eq(world_count(&x, 'd'), 42);
	finish();
}

static void run_to(usec_t until, bool kill)
{
	if (kill)
		world_run_and_kill(&x, until);
	else
		world_run(&x, until);
}

/* A source address is disabled for half a day: its mail must not wait for it. */
static void reroute_without_source(const char *conf, bool kill)
{
	start(conf);
	mx.answer = throttled;
	send_many(20);
	run_to(20 * MINUTE, kill);
	send_late(NULL);
	run_to(11 * HOUR, kill);
	send_late(NULL);
	mx.answer = NULL;
	run_to(12 * HOUR - MINUTE, false);
	cr_assert_eq(in_queue("there.test", "b"), 42);
	cr_assert_eq(in_queue("there.test", "a"), 0);
	fake_at(12 * HOUR + MINUTE, send_late, NULL);
	world_run(&x, 13 * HOUR);
	cr_assert_eq(world_count_rcpt(&x, 'd', "late@there.test"), 1, "the source is back");
	cr_assert_eq(in_queue("there.test", "b"), 42);
	finish();
}

#define NO_SOURCE PATTERNS("disable-source-ip, reenable-after=12h, reroute=b")
#define OTHER_FAMILY "[virtual-mta a]\nsmtp-source-host = 2001:db8::1 a6.sluice.test\n"

Test(reroute, by_a_reply_lasts_as_long_as_no_source_is_left)
{
	reroute_without_source(NO_SOURCE, false);
}

Test(reroute, by_a_reply_lasts_as_long_as_no_source_is_left_whoever_dies)
{
	reroute_without_source(NO_SOURCE, true);
}

Test(reroute, by_a_reply_lasts_as_long_as_no_source_of_the_hosts_family_is_left)
{
	reroute_without_source(NO_SOURCE OTHER_FAMILY, false);
	reroute_without_source(NO_SOURCE OTHER_FAMILY, true);
}

static void tell_one_domain(bool kill)
{
	start(NO_SOURCE "[provider there]\nmx = mx.there.test\n");
	fake_dns_mx("too.test", "10 mx.there.test 198.51.100.1");
	mx.answer = throttled;
	send_many(1);
	run_to(MINUTE, kill);
	cr_assert_eq(in_queue("there.test", "b"), 2);
	world_send(&x, "", "x@too.test");
	run_to(2 * MINUTE, kill);
	world_send(&x, "", "y@too.test");
	run_to(HOUR, kill);
	world_send(&x, "", "z@too.test");
	mx.answer = NULL;
	run_to(2 * HOUR, false);
	cr_assert_eq(in_queue("too.test", "b"), 3);
	fake_at(12 * HOUR + MINUTE, send_late, NULL);
	world_run(&x, 13 * HOUR);
	cr_assert_eq(world_count_rcpt(&x, 'd', "late@there.test"), 1, "the source is back");
	finish();
}

Test(reroute, by_a_reply_without_a_source_is_of_all_domains_of_a_provider)
{
	tell_one_domain(false);
	tell_one_domain(true);
}

/* One message to two domains of a provider, which go in one transaction; the receiver says this of it. */
static void tell_both(const char *(*answer)(struct mx *, enum mx_event, unsigned, const char *))
{
	start(PATTERNS("reroute=b") "[provider there]\nmx = mx.there.test\n");
	fake_dns_mx("too.test", "10 mx.there.test 198.51.100.1");
	world_send(&x, "", "known@there.test");
	world_send(&x, "", "known@too.test");
	world_run(&x, MINUTE);
	cr_assert_eq(mx.delivered, 2);
	mx.answer = answer;
	world_send(&x, "", "one@there.test two@too.test");
	world_run(&x, 2 * MINUTE);
	cr_assert_eq(mx_count(&mx, MX_MAIL), 3);
}

static const char *throttles_the_second(struct mx *m ATTR_UNUSED, enum mx_event what,
					unsigned connection ATTR_UNUSED, const char *line)
{
	return what == MX_RCPT && strstr(line, "too.test") ? "450 4.7.1 slow down" : NULL;
}

Test(reroute, by_a_reply_to_one_recipient_is_of_the_queue_of_that_one)
{
	tell_both(throttles_the_second);
	cr_expect_eq(world_count_rcpt(&x, 'd', "one@there.test"), 1);
	cr_expect_eq(in_queue("too.test", "b"), 1);
	world_send(&x, "", "late@there.test");
	mx.answer = NULL;
	world_run(&x, 3 * MINUTE);
	cr_expect_eq(world_count_rcpt(&x, 'd', "late@there.test"), 1);
	finish();
}

static const char *throttles_the_message(struct mx *m ATTR_UNUSED, enum mx_event what,
					 unsigned connection ATTR_UNUSED,
					 const char *line ATTR_UNUSED)
{
	return what == MX_MAIL ? "450 4.7.1 slow down" : NULL;
}

Test(reroute, by_a_reply_to_a_message_is_of_the_queues_of_all_its_recipients)
{
	tell_both(throttles_the_message);
	cr_expect_eq(in_queue("there.test", "b"), 1);
	cr_expect_eq(in_queue("too.test", "b"), 1);
	finish();
}

#define PADDING "and please read the page on sending to us before you try again. "

static const char *throttled_at_length(struct mx *m ATTR_UNUSED, enum mx_event what,
				       unsigned connection ATTR_UNUSED,
				       const char *line ATTR_UNUSED)
{
	return what == MX_RCPT ? "450 4.7.1 slow down " PADDING PADDING PADDING PADDING : NULL;
}

#define NEW_QUEUES 400

static void send_to_new_queues(void *arg ATTR_UNUSED)
{
	char to[64];

	for (unsigned i = 0; i < NEW_QUEUES; i++) {
		snprintf(to, sizeof(to), "x@d%u.there.test", i);
		world_send(&x, "", to);
	}
}

/* Mail for many new queues that all begin to be rerouted when it is read. */
Test(reroute, of_many_queues_at_once_leaves_room_in_the_ring_for_what_is_parked)
{
	const struct shm_config was = world_shm;
	char domain[32];

	world_shm.ring_size = 1 << 16;
	start(NO_SOURCE "[provider there]\ndomains = [*.]there.test\n");
	fake_dns_default("10 mx.there.test 198.51.100.1");
	mx.answer = throttled_at_length;
	send_many(1);
	fake_at(MINUTE, send_to_new_queues, NULL);
	world_run(&x, 10 * MINUTE);
	for (unsigned i = 0; i < NEW_QUEUES; i++) {
		snprintf(domain, sizeof(domain), "d%u.there.test", i);
		cr_assert_eq(in_queue(domain, "b"), 1, "%s", domain);
	}
	finish();
	world_shm = was;
}

Test(reroute, by_a_reply_ends_though_one_of_several_sources_is_disabled)
{
	start(PATTERNS("disable-source-ip, reenable-after=12h, reroute=b") "[virtual-mta a]\n"
									   "smtp-source-host = "
									   "192.0.2.9 "
									   "a9.sluice.test\n");
	mx.answer = throttled;
	send_many(1);
	fake_at(5 * MINUTE, be_well, NULL);
	fake_at(15 * MINUTE, send_late, NULL);
	world_run(&x, 20 * MINUTE);
	cr_assert_eq(in_queue("there.test", "b"), 2);
	cr_assert_eq(world_count_rcpt(&x, 'd', "late@there.test"), 1);
	finish();
}

Test(reroute, by_a_reply_in_back_off_lasts_as_long_whoever_dies)
{
	start(PATTERNS("mode=backoff, backoff-to-normal-after=2h, reroute=b") "[domain "
									      "there.test/"
									      "a]\nbackoff-max-"
									      "smtp-out = 1\n");
	mx.answer = throttled;
	send_many(20);
	for (unsigned i = 1; i < 6; i++)
		world_run_and_kill(&x, i * 15 * MINUTE);
	send_late(NULL);
	mx.answer = NULL;
	fake_at(3 * HOUR, send_late, NULL);
	world_run(&x, 4 * HOUR);
	cr_assert_eq(in_queue("there.test", "b"), 41);
	cr_assert_eq(world_count_rcpt(&x, 'd', "late@there.test"), 1, "back to normal");
	finish();
}

static void reroute_in_backoff(bool with_kills)
{
	start(PATTERNS("mode=backoff, backoff-to-normal-after=30m") "[domain "
								    "there.test/"
								    "a]\nbackoff-reroute-to-"
								    "virtual-mta = b\n");
	mx.answer = throttled;
	send_many(20);
	fake_at(10 * MINUTE, send_late, NULL);
	fake_at(20 * MINUTE, be_well, NULL);
	for (unsigned i = 1; with_kills && i < 20; i++)
		world_run_and_kill(&x, i * MINUTE + i * 777000);
	fake_at(40 * MINUTE, send_late, NULL);
	world_run(&x, 45 * MINUTE);
	cr_assert_eq(in_queue("there.test", "b"), 41);
	cr_assert_eq(world_count_rcpt(&x, 'd', "late@there.test"), 1, "back to normal");
	run_as("b", MINUTE);
	cr_assert_eq(world_count(&x, 'd'), 42);
	cr_assert_eq(mx.delivered, 42);
	finish();
}

Test(reroute, lasts_as_long_as_back_off)
{
	reroute_in_backoff(false);
}

Test(reroute, lasts_as_long_as_back_off_whoever_dies)
{
	reroute_in_backoff(true);
}

Test(reselect, leaves_a_virtual_mta_in_back_off_once)
{
	start(PATTERNS(
		"mode=backoff, backoff-to-normal-after=3h") "[virtual-mta-pool p]\nvirtual-mta = "
							    "a, b\nreselect = backoff\n"
							    "[domain there.test/a]\nretry-after = "
							    "1m\n");
	mx.answer = throttled;
	x.route = "p";
	send_many(10);
	x.route = "a";
	world_send(&x, "", "stays@there.test");
	world_run(&x, 5 * MINUTE);
	cr_assert_eq(in_queue("there.test", "a"), 1, "chosen by name: it stays");
	cr_assert_eq(in_queue("there.test", "b"), 20);
	run_as("b", 5 * MINUTE);
	cr_assert_eq(in_queue("there.test", "b"), 20, "the other one is no better");
	mx.answer = NULL;
	run_as("b", 2 * HOUR);
	run_as("a", MINUTE);
	cr_assert_eq(world_count(&x, 'd'), 21);
	finish();
}

/* In memory, where each class has room for 1000, and in the spool. */
Test(reselect, finds_those_behind_many_that_stay)
{
	start(PATTERNS("mode=backoff, backoff-to-normal-after=3h") "[virtual-mta-pool p]\n"
								   "virtual-mta = a, b\n"
								   "reselect = backoff\n"
								   "[domain there.test/a]\n"
								   "backoff-max-msg-rate = 1/h\n");
	mx.answer = throttled;
	x.route = "a";
	send_many(800);
	x.route = "p";
	send_many(20);
	world_run(&x, 3 * MINUTE);
	cr_assert_eq(in_queue("there.test", "a"), 1600);
	cr_assert_eq(in_queue("there.test", "b"), 40);
	finish();
}
