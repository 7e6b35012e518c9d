/* links: common/base common/conf common/spool common/shm common/ipc common/smtp common/mail common/acct common/dns/route.c common/dns/wire.c spooler/commit.c spooler/commit_*.c spooler/dsn_row.c worker -worker/resolver.c -worker/resolver_main.c -worker/resolver_packet.c -worker/resolver_record.c -worker/resolver_route.c -worker/resolver_server.c -worker/resolver_upstream.c tests/replay/world.c tests/replay/mx.c tests/replay/fake_loop.c tests/replay/fake_stream.c tests/replay/fake_dns.c */
/* Caps on connections as a receiver counts them, and whose turn it is when there is not enough for all. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/shm/limits.h"
#include "tests/replay/mx.h"
#include "tests/replay/world.h"

static struct world x;
static struct mx mx, second;
static usec_t counted_from; /* from here on no connection may be opened above the cap */
static unsigned cap, too_many;

static const char *count(struct mx *m, enum mx_event what, unsigned c ATTR_UNUSED,
			 const char *line ATTR_UNUSED)
{
	if (what == MX_OPEN && fake_elapsed() > counted_from && m->open > cap)
		too_many++;
	return NULL;
}

static void start(const char *conf)
{
	memset(&mx, 0, sizeof(mx));
	memset(&second, 0, sizeof(second));
	counted_from = USEC_INFINITY;
	cap = too_many = 0;
	mx.answer = count;
	world_new(&x, conf);
	mx_listen(&mx, "198.51.100.1", WORLD_PORT);
	mx_listen(&second, "198.51.100.2", WORLD_PORT);
	fake_dns_default("10 mx.test 198.51.100.1");
	fake_latency(10 * USEC_PER_MSEC);
}

static void finish(void)
{
	world_check(&x);
	cr_assert_eq(fake_open_connections(), 0);
	world_free(&x);
	mx_done(&mx);
	mx_done(&second);
	fake_latency(USEC_PER_MSEC);
}

static void send_many(unsigned n, const char *domain)
{
	char rcpt[100];
	unsigned i;

	for (i = 0; i < n; i++) {
		snprintf(rcpt, sizeof(rcpt), "r%u@%s", i, domain);
		world_send(&x, "s@sender.test", rcpt);
	}
}

/* --- a reload --- */

static const char *next_conf;

static void reload(void *arg ATTR_UNUSED)
{
	world_reload(&x, next_conf);
}

/* Connections of the mail host are counted from two seconds on, in which those above the cap have ended. */
static void introduce(const char *before, const char *after, unsigned n)
{
	start(before);
	cap = n;
	next_conf = after;
	counted_from = USEC_PER_SEC;
	fake_at(USEC_PER_SEC, reload, NULL);
	send_many(1000, "one.test");
	send_many(1000, "two.test");
	world_run(&x, 10 * MINUTE);
	cr_assert_eq(mx.delivered, 2000);
	cr_assert_gt(mx.peak, n, "before the reload there were more");
	cr_assert_eq(too_many, 0, "%u connections above %u after: %s", too_many, n, after);
	cr_assert_geq(mx_count(&mx, MX_OPEN), mx.peak + n, "and new ones after it");
	finish();
}

Test(limits, a_cap_that_a_reload_introduces_counts_what_was_opened_before_it)
{
	static const struct {
		const char *before, *after;
		unsigned n;
	} cases[] = {
		{"", "[global]\nip-connection-limit = 198.51.100/24 3\n", 3},
		{"", "[global]\nip-connection-limit = 198.51.100/24 3 per-source-ip\n", 3},
		{"[global]\nip-connection-limit = 198.51.100/24 30\n",
		 "[global]\nip-connection-limit = 198.51.100/24 30\n"
		 "ip-connection-limit = 198.51.100.1 4\n",
		 4},
		{"[global]\nip-connection-limit = 198.51.100/24 30\n",
		 "[global]\nip-connection-limit = 198.51.100/24 30\n"
		 "ip-connection-limit = 198.51.100.1 4 per-source-ip\n",
		 4},
		{"", "[global]\nmx-connection-limit = *.test 3\n", 3},
		{"", "[global]\ntotal-max-smtp-out = 5\n", 5},
		{"", "[virtual-mta a]\nmax-smtp-out = 5\n", 5},
		{"", "[virtual-mta-pool p]\nvirtual-mta = a\npool-max-smtp-out = 3\n", 3},
		{"", "[virtual-mta-pool p]\nvirtual-mta = a\nmax-smtp-out = 3\n", 3},
		{"", "[domain *]\nmax-smtp-out-per-source-ip = 192.0.2/24 2\n", 4},
		{"", "[domain *]\nmax-smtp-out = 2\n", 4},
		{"", "[provider p]\nmx = *.test\nmax-smtp-out = 3\n", 3},
		{"", "[provider p]\nmx = *.test\nsource-ip-max-smtp-out = 192.0.2/24 3\n", 3},
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		char before[200], after[300];

		snprintf(before, sizeof(before), "%s[domain *]\nmax-msg-per-connection = 20\n",
			 cases[i].before);
		snprintf(after, sizeof(after), "%s[domain *]\nmax-msg-per-connection = 20\n",
			 cases[i].after);
		introduce(before, after, cases[i].n);
	}
}

Test(limits, connections_above_a_lowered_cap_close_with_their_message)
{
	size_t i;

	start("");
	next_conf = "[global]\nip-connection-limit = 198.51.100/24 3\n";
	fake_at(USEC_PER_SEC, reload, NULL);
	send_many(4000, "one.test");
	world_run(&x, 10 * MINUTE);
	cr_assert_eq(mx.delivered, 4000);
	cr_assert_eq(mx_count(&mx, MX_OPEN), 20, "the three that may stay do");
	for (i = 0; i < 17; i++)
		cr_assert_lt(mx_nth(&mx, MX_CLOSE, i)->at, 2 * USEC_PER_SEC);
	cr_assert_gt(mx_nth(&mx, MX_CLOSE, 17)->at, 3 * USEC_PER_SEC);
	finish();
}

Test(limits, a_cap_that_a_reload_takes_away_holds_nobody)
{
	start("[global]\nip-connection-limit = 198.51.100/24 1\n");
	next_conf = "";
	fake_at(USEC_PER_SEC, reload, NULL);
	send_many(1500, "one.test");
	world_run(&x, 10 * MINUTE);
	cr_assert_eq(mx.delivered, 1500);
	cr_assert_eq(mx.peak, 20);
	finish();
}

/* --- each cap --- */

Test(limits, each_cap_holds_and_is_used)
{
	static const struct {
		const char *conf;
		unsigned n;
	} cases[] = {
		{"[global]\nip-connection-limit = 198.51.100/24 3\n", 3},
		{"[global]\nip-connection-limit = 198.51.100/24 3 per-source-ip\n", 3},
		{"[global]\nip-connection-limit = 198.51.100/24 6\nmx-connection-limit = *.test "
		 "2\n",
		 2},
		{"[global]\ntotal-max-smtp-out = 4\n", 4},
		{"[virtual-mta a]\nmax-smtp-out = 5\n", 5},
		{"[virtual-mta-pool p]\nvirtual-mta = a\npool-max-smtp-out = 3\n", 3},
		{"[domain *]\nsource-ip-max-smtp-out = 0/0 3\n", 6},
		{"[provider p]\nmx = *.test\nmax-smtp-out = 3\n", 3},
		{"[provider p]\nmx = *.test\nsource-ip-max-smtp-out = 0/0 2\n", 2},
		/* the kernel chooses the source */
		{"[virtual-mta a]\nsmtp-source-host = \"\"\n[global]\nmx-connection-limit = * 2\n",
		 2},
		{"[virtual-mta a]\nsmtp-source-host = \"\"\n[domain *]\n"
		 "source-ip-max-smtp-out = 192.0.2.99 2\n",
		 4},
		{"[virtual-mta a]\nsmtp-source-host = \"\"\n[provider p]\nmx = *.test\n"
		 "source-ip-max-smtp-out = 192.0.2.96/28 2\n",
		 2},
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		start(cases[i].conf);
		send_many(400, "one.test");
		send_many(400, "two.test");
		world_run(&x, 10 * MINUTE);
		cr_assert_eq(mx.delivered, 800, "%s", cases[i].conf);
		cr_assert_eq(mx.peak, cases[i].n, "%u with %s", mx.peak, cases[i].conf);
		finish();
	}
}

Test(limits, where_one_host_or_source_is_full_an_equal_one_is_used)
{
	start("[global]\nmx-connection-limit = * 2\n"
	      "[virtual-mta a]\nsmtp-source-host = 192.0.2.2\n");
	fake_dns_mx("one.test", "10 mx1.test 198.51.100.1; 10 mx2.test 198.51.100.2");
	send_many(2000, "one.test");
	world_run(&x, 10 * MINUTE);
	cr_assert_eq(mx.delivered + second.delivered, 2000);
	cr_assert_eq(mx.peak, 4, "two from each address: %u", mx.peak);
	cr_assert_eq(second.peak, 4, "two from each address: %u", second.peak);
	finish();
}

Test(limits, a_host_that_is_full_does_not_make_way_for_a_worse_one)
{
	start("[global]\nip-connection-limit = 198.51.100.1 2\n");
	fake_dns_mx("one.test", "10 mx1.test 198.51.100.1; 20 mx2.test 198.51.100.2");
	send_many(500, "one.test");
	world_run(&x, 10 * MINUTE);
	cr_assert_eq(mx.delivered, 500);
	cr_assert_eq(mx.peak, 2);
	cr_assert_eq(second.connections, 0);
	finish();
}

/* --- turns --- */

static const char *late_rcpts;

static void send_late(void *arg ATTR_UNUSED)
{
	struct slice rest = slice_str(late_rcpts), one;

	while (slice_next(&rest, ' ', &one)) {
		char *rcpt = slice_dup(one);

		world_send(&x, "s@sender.test", rcpt);
		free(rcpt);
	}
}

static usec_t delivered_at(const char *rcpt)
{
	size_t i;

	for (i = 0; i < world_count(&x, 'd'); i++)
		if (strcmp(world_nth(&x, 'd', i)->rcpt, rcpt) == 0)
			return world_nth(&x, 'd', i)->at;
	cr_assert_fail("%s was not delivered", rcpt);
	return 0;
}

/* A message to another site comes while one with very many has all that the cap allows. */
static void beside(const char *conf, usec_t within)
{
	start(conf);
	late_rcpts = "a@small.test";
	fake_at(10 * USEC_PER_SEC, send_late, NULL);
	send_many(3000, "big.test");
	world_run(&x, 30 * MINUTE);
	cr_assert_eq(world_count(&x, 'd'), 3001);
	cr_assert_leq(delivered_at("a@small.test"), 10 * USEC_PER_SEC + within, "%s: %.1f s", conf,
		      (double)delivered_at("a@small.test") / USEC_PER_SEC - 10);
	cr_assert_gt(world_nth(&x, 'd', 3000)->at, 10 * USEC_PER_SEC + within, "%s", conf);
	finish();
}

Test(limits, a_small_site_is_served_beside_a_big_one)
{
	static const char *const confs[] = {
		"[virtual-mta a]\nmax-smtp-out = 1\n",
		"[virtual-mta a]\nmax-smtp-out = 3\n",
		"[global]\ntotal-max-smtp-out = 2\n",
		"[global]\nip-connection-limit = 198.51.100/24 1\n",
		"[global]\nmx-connection-limit = * 2\n",
		"[virtual-mta-pool p]\nvirtual-mta = a\npool-max-smtp-out = 3\n",
		"[provider p]\nmx = *.test\nmax-smtp-out = 1\n",
		"[provider p]\nmx = *.test\nsource-ip-max-smtp-out = 0/0 1\n",
	};
	size_t i;

	/* 20 messages of some 100 ms, or less when it has more than its share */
	for (i = 0; i < ARRAY_SIZE(confs); i++)
		beside(confs[i], 4 * USEC_PER_SEC);
}

static const char *slow_big(struct mx *m ATTR_UNUSED, enum mx_event what, unsigned c ATTR_UNUSED,
			    const char *line)
{
	if (what == MX_MAIL)
		fake_latency(USEC_PER_SEC);
	else if (what == MX_DONE && strstr(line, "small"))
		fake_latency(10 * USEC_PER_MSEC);
	return NULL;
}

Test(limits, a_slow_big_site_gives_way_after_five_seconds)
{
	start("[virtual-mta a]\nmax-smtp-out = 1\n");
	mx.answer = slow_big;
	late_rcpts = "a@small.test";
	fake_at(10 * USEC_PER_SEC, send_late, NULL);
	send_many(100, "big.test");
	world_run(&x, HOUR);
	cr_assert_eq(world_count(&x, 'd'), 101);
	/* the message under way, QUIT, and then its own */
	cr_assert_leq(delivered_at("a@small.test"), 30 * USEC_PER_SEC, "%.1f s",
		      (double)delivered_at("a@small.test") / USEC_PER_SEC);
	finish();
}

Test(limits, a_thousand_sites_share_what_is_there)
{
	char rcpt[64];
	unsigned i;

	start("[virtual-mta a]\nmax-smtp-out = 10\n");
	send_many(5000, "big.test");
	for (i = 0; i < 1000; i++) {
		snprintf(rcpt, sizeof(rcpt), "a@small%u.test", i);
		world_send(&x, "s@sender.test", rcpt);
	}
	world_run(&x, HOUR);
	cr_assert_eq(world_count(&x, 'd'), 6000);
	cr_assert_eq(mx.peak, 10);
	for (i = 0; i < 1000; i++) {
		snprintf(rcpt, sizeof(rcpt), "a@small%u.test", i);
		/* 1000 connections of one message, ten at a time, 0.3 s each, beside big ones */
		cr_assert_leq(delivered_at(rcpt), 70 * USEC_PER_SEC, "%s after %.1f s", rcpt,
			      (double)delivered_at(rcpt) / USEC_PER_SEC);
	}
	finish();
}

/* --- another worker --- */

static lease_id others[3];

static const struct limit_want other_want = {
	.kind = LIMIT_IP, .name = {"198.51.100.1", 12}, .cap = 3, .conf_gen = 0};

static void other_takes(void *arg ATTR_UNUSED)
{
	size_t i, by;

	for (i = 0; i < 3; i++)
		cr_assert_eq(lease_take(x.shm, 1, &other_want, 1, &others[i], &by), 0);
}

static void other_gives(void *arg ATTR_UNUSED)
{
	lease_give(x.shm, 1, others[0]);
}

Test(limits, a_slot_that_another_worker_gives_back_is_used_at_once)
{
	const struct shm_config was = world_shm;

	world_shm.max_workers = 2;
	start("[global]\nip-connection-limit = 198.51.100/24 3\n");
	other_takes(NULL);
	fake_at(5 * USEC_PER_SEC, other_gives, NULL);
	send_many(10, "one.test");
	world_run(&x, MINUTE);
	cr_assert_eq(mx.delivered, 10);
	cr_assert_eq(mx.peak, 1);
	cr_assert_geq(mx_nth(&mx, MX_OPEN, 0)->at, 5 * USEC_PER_SEC);
	cr_assert_leq(mx_nth(&mx, MX_OPEN, 0)->at, 5 * USEC_PER_SEC + 70 * USEC_PER_MSEC, "%.3f",
		      (double)mx_nth(&mx, MX_OPEN, 0)->at / USEC_PER_SEC);
	world_shm = was;
	finish();
}

static bool other_has_got;

static void other_asks(void *arg ATTR_UNUSED)
{
	size_t by;

	if (lease_take(x.shm, 1, &other_want, 1, &others[0], &by) == 0)
		other_has_got = true;
	else
		fake_at(fake_elapsed() + 20 * USEC_PER_MSEC, other_asks, NULL);
}

Test(limits, a_busy_worker_gives_way_to_another)
{
	const struct shm_config was = world_shm;

	world_shm.max_workers = 2;
	other_has_got = false;
	start("[global]\nip-connection-limit = 198.51.100/24 3\n");
	fake_at(2 * USEC_PER_SEC, other_asks, NULL);
	send_many(500, "one.test");
	world_run(&x, 4 * USEC_PER_SEC);
	cr_assert(other_has_got);
	world_shm = was;
	finish();
}

/* --- a place that is held by an idle connection --- */

#define IDLE_FOR_LONG "[domain *]\nconnection-idle-timeout = 30s\n"
#define AT_ONCE (50 * USEC_PER_MSEC)

static usec_t other_got_at;

static void other_watches(void *arg)
{
	size_t by;

	if (lease_take(x.shm, 1, &other_want, 1, &others[2], &by) == 0)
		other_got_at = fake_elapsed();
	else
		fake_at(fake_elapsed() + USEC_PER_MSEC, other_watches, arg);
}

static void other_takes_two(void *arg ATTR_UNUSED)
{
	size_t i, by;

	for (i = 0; i < 2; i++)
		cr_assert_eq(lease_take(x.shm, 1, &other_want, 1, &others[i], &by), 0);
}

Test(limits, an_idle_connection_makes_room_for_another_worker_at_once)
{
	const struct shm_config was = world_shm;

	world_shm.max_workers = 2;
	for (usec_t at = 3 * USEC_PER_SEC; at < 20 * USEC_PER_SEC; at += 3137 * USEC_PER_MSEC) {
		other_got_at = 0;
		start("[global]\nip-connection-limit = 198.51.100/24 3\n" IDLE_FOR_LONG);
		send_many(1, "one.test");
		fake_at(USEC_PER_SEC, other_takes_two, NULL);
		fake_at(at, other_watches, NULL);
		world_run(&x, 25 * USEC_PER_SEC);
		cr_expect(other_got_at >= at && other_got_at <= at + AT_ONCE, "after %.3f s",
			  ((double)other_got_at - (double)at) / USEC_PER_SEC);
		finish();
	}
	world_shm = was;
}

static void send_other(void *arg ATTR_UNUSED)
{
	send_many(1, "two.test");
}

Test(limits, an_idle_connection_makes_room_for_another_queue_at_once)
{
	for (usec_t at = 3 * USEC_PER_SEC; at < 20 * USEC_PER_SEC; at += 3137 * USEC_PER_MSEC) {
		start("max-smtp-out = 1\n" IDLE_FOR_LONG);
		send_many(1, "one.test");
		fake_at(at, send_other, NULL);
		world_run(&x, 25 * USEC_PER_SEC);
		cr_assert_eq(mx.connections, 2);
		cr_expect_leq(mx_nth(&mx, MX_OPEN, 1)->at, at + AT_ONCE, "after %.3f s",
			      (double)(mx_nth(&mx, MX_OPEN, 1)->at - at) / USEC_PER_SEC);
		finish();
	}
}
