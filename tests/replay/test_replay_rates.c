/* links: common/base common/conf common/spool common/shm common/ipc common/smtp common/mail common/acct common/dns/route.c common/dns/wire.c spooler/commit.c spooler/commit_*.c spooler/dsn_row.c worker -worker/resolver.c -worker/resolver_main.c -worker/resolver_packet.c -worker/resolver_record.c -worker/resolver_route.c -worker/resolver_server.c -worker/resolver_upstream.c tests/replay/world.c tests/replay/mx.c tests/replay/fake_loop.c tests/replay/fake_stream.c tests/replay/fake_dns.c */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "common/shm/rates.h"
#include "tests/replay/mx.h"
#include "tests/replay/world.h"

#define SEC USEC_PER_SEC
#define DOMAIN "[domain *]\nsmtp-port = 25\nretry-after = 10m\n"

static struct world x;
static struct mx mx;

static void start(const char *conf)
{
	memset(&mx, 0, sizeof(mx));
	world_new(&x, conf);
	mx_listen(&mx, "198.51.100.1", WORLD_PORT);
	fake_dns_default("10 mx.paced.test 198.51.100.1");
}

static void finish(void)
{
	world_check(&x);
	world_free(&x);
	mx_done(&mx);
}

static void send_many(const char *domain, unsigned n)
{
	char rcpt[80];

	for (unsigned i = 0; i < n; i++) {
		snprintf(rcpt, sizeof(rcpt), "r%u@%s", i, domain);
		world_send(&x, "s@sender.test", rcpt);
	}
}

/* The most events of a kind that any window of this length holds; about: in their text. */
static size_t fullest(enum mx_event what, const char *about, usec_t per)
{
	usec_t *at = calloc(mx.entries + 1, sizeof(*at));
	size_t n = 0, from = 0, most = 0, i;

	for (i = 0; i < mx.entries; i++)
		if (mx.journal[i].what == what && strstr(mx.journal[i].text, about))
			at[n++] = mx.journal[i].at;
	for (i = 0; i < n; i++) {
		while (at[i] - at[from] >= per)
			from++;
		if (i - from + 1 > most)
			most = i - from + 1;
	}
	free(at);
	return most;
}

static size_t count(enum mx_event what, usec_t from, usec_t until)
{
	size_t n = 0;

	for (size_t i = 0; i < mx.entries; i++)
		n += mx.journal[i].what == what && mx.journal[i].at >= from &&
		     mx.journal[i].at < until;
	return n;
}

Test(rates, two_a_minute)
{
	start(DOMAIN "max-msg-rate = 2/m\n");
	send_many("paced.test", 1000);
	world_run(&x, 6 * HOUR);
	cr_assert_leq(fullest(MX_RCPT, "", MINUTE), 2);
	/* one each (60 s + 250 ms + 50 ms) / 2 */
	cr_assert_geq(mx_count(&mx, MX_RCPT), 6 * 119);
	cr_assert_eq(mx_count(&mx, MX_RCPT), mx.delivered);
	finish();
}

/* A long queue costs time: the sweep for expired mail walks through it each second. */
static void send_some(void *arg ATTR_UNUSED)
{
	send_many("paced.test", 192);
	fake_at(fake_elapsed() + HOUR, send_some, NULL);
}

Test(rates, two_hundred_an_hour_for_a_third_of_a_day)
{
	start(DOMAIN "max-msg-rate = 200/h\n");
	send_many("paced.test", 60);
	fake_at(0, send_some, NULL);
	world_run(&x, 8 * HOUR);
	cr_assert_leq(fullest(MX_RCPT, "", HOUR), 200);
	cr_assert_geq(mx_count(&mx, MX_RCPT), 8 * 190);
	finish();
}

Test(rates, a_hundred_a_quarter_counts_recipients)
{
	start(DOMAIN "max-msg-rate = 100/15m\n");
	for (unsigned i = 0; i < 150; i++)
		world_send(&x, "s@sender.test",
			   "a@paced.test b@paced.test c@paced.test d@paced.test e@paced.test "
			   "f@paced.test g@paced.test");
	world_run(&x, 2 * HOUR + 30 * MINUTE);
	cr_assert_leq(fullest(MX_RCPT, "", 15 * MINUTE), 100);
	cr_assert_geq(mx_count(&mx, MX_RCPT), 10 * 95);
	cr_assert_lt(mx_count(&mx, MX_MAIL), mx_count(&mx, MX_RCPT) / 2,
		     "a transaction takes several recipients where the rate lets it");
	finish();
}

static const char *refuse(struct mx *m ATTR_UNUSED, enum mx_event what, unsigned c ATTR_UNUSED,
			  const char *line ATTR_UNUSED)
{
	return what == MX_RCPT ? "550 5.1.1 nobody here" : NULL;
}

Test(rates, refused_recipients_count_too)
{
	start(DOMAIN "max-msg-rate = 60/m\n");
	mx.answer = refuse;
	send_many("paced.test", 500);
	world_run(&x, 20 * MINUTE);
	cr_assert_leq(fullest(MX_RCPT, "", MINUTE), 60);
	cr_assert_eq(world_count(&x, 'b'), 500);
	finish();
}

Test(rates, one_connection_is_kept_between_paced_messages)
{
	start(DOMAIN "max-msg-rate = 3/m\n");
	send_many("paced.test", 100);
	world_run(&x, 30 * MINUTE);
	cr_assert_geq(mx.delivered, 85);
	cr_assert_leq(mx.connections, 2);
	cr_assert_eq(mx.peak, 1);
	finish();
}

Test(rates, no_connection_is_kept_longer_than_half_a_minute)
{
	start(DOMAIN "max-msg-rate = 1/m\n");
	send_many("paced.test", 100);
	world_run(&x, 20 * MINUTE);
	cr_assert_geq(mx.delivered, 18);
	cr_assert_eq(mx.connections, mx.delivered);
	for (size_t i = 0; i < mx_count(&mx, MX_QUIT); i++)
		cr_assert_leq(mx_nth(&mx, MX_QUIT, i)->at, mx_nth(&mx, MX_DONE, i)->at + SEC);
	finish();
}

Test(rates, a_fast_rate_opens_the_connections_that_it_can_use)
{
	start(DOMAIN "max-msg-rate = 6000/m\nmax-smtp-out = 50\n");
	fake_latency(50 * USEC_PER_MSEC); /* a message takes 0.2 s, so 100 in a second need 20 */
	send_many("paced.test", 12500);
	world_run(&x, 2 * MINUTE);
	cr_assert_leq(fullest(MX_RCPT, "", MINUTE), 6000);
	cr_assert_geq(count(MX_RCPT, MINUTE, 2 * MINUTE), 5400);
	cr_assert_leq(mx.peak, 35);
	finish();
}

Test(rates, connections_have_a_rate_too)
{
	start(DOMAIN "max-connect-rate = 10/m\nmax-msg-per-connection = 3\n");
	send_many("paced.test", 1000);
	world_run(&x, 15 * MINUTE);
	cr_assert_leq(fullest(MX_OPEN, "", MINUTE), 10);
	cr_assert_geq(mx.connections, 145);
	cr_assert_geq(mx.delivered, 3 * 144);
	finish();
}

Test(rates, the_ramp_up_interval_lies_between_two_openings)
{
	start(DOMAIN "smtp-out-rampup-interval = 5s\nmax-smtp-out = 10\n");
	fake_latency(SEC);
	send_many("paced.test", 2000);
	world_run(&x, 2 * MINUTE);
	for (size_t i = 1; i < mx.connections; i++)
		cr_assert_geq(mx_nth(&mx, MX_OPEN, i)->at,
			      mx_nth(&mx, MX_OPEN, i - 1)->at + 5 * SEC);
	cr_assert_eq(mx.peak, 10);
	finish();
}

Test(rates, bytes_that_come_back_do_not_shorten_the_ramp_up_interval)
{
	start(DOMAIN
	      "smtp-out-rampup-interval = 5s\nmax-smtp-out = 10\nmax-data-volume-rate = 1G/m\n");
	fake_latency(SEC);
	mx.answer = refuse;
	send_many("paced.test", 500);
	world_run(&x, MINUTE);
	cr_assert_geq(mx.connections, 5);
	for (size_t i = 1; i < mx.connections; i++)
		cr_assert_geq(mx_nth(&mx, MX_OPEN, i)->at,
			      mx_nth(&mx, MX_OPEN, i - 1)->at + 5 * SEC);
	finish();
}

Test(rates, bytes_have_a_rate_too)
{
	start(DOMAIN "max-data-volume-rate = 100K/m\n");
	for (unsigned i = 0; i < 300; i++)
		world_send_as(&x, "s@sender.test", "a@paced.test", "", SPOOL_CLASS_DEFAULT, 4000);
	world_run(&x, 10 * MINUTE);
	/* a message is a little more than 4,000 bytes, so 25 would be too many */
	cr_assert_leq(fullest(MX_DONE, "", MINUTE), 24);
	cr_assert_geq(mx.delivered, 210);
	finish();
}

Test(rates, what_was_not_delivered_does_not_count_as_bytes)
{
	start(DOMAIN "max-data-volume-rate = 100K/m\n");
	mx.answer = refuse;
	for (unsigned i = 0; i < 300; i++)
		world_send_as(&x, "s@sender.test", "a@paced.test", "", SPOOL_CLASS_DEFAULT, 4000);
	world_run(&x, MINUTE + 30 * SEC);
	cr_assert_eq(world_count(&x, 'b'), 300);
	finish();
}

Test(rates, a_message_larger_than_the_volume_goes_all_the_same)
{
	start(DOMAIN "max-data-volume-rate = 10K/m\n");
	world_send_as(&x, "s@sender.test", "a@paced.test", "", SPOOL_CLASS_DEFAULT, 40000);
	world_send_as(&x, "s@sender.test", "b@paced.test", "", SPOOL_CLASS_DEFAULT, 64);
	world_send_as(&x, "s@sender.test", "c@paced.test", "", SPOOL_CLASS_DEFAULT, 64);
	world_run(&x, 20 * MINUTE);
	cr_assert_eq(world_count(&x, 'd'), 3);
	cr_assert_str_eq(world_nth(&x, 'd', 0)->rcpt, "a@paced.test");
	cr_assert_geq(world_nth(&x, 'd', 1)->at, world_nth(&x, 'd', 0)->at + 4 * MINUTE - 6 * SEC);
	finish();
}

Test(rates, each_queue_has_its_own_and_the_virtual_mta_one_for_all)
{
	static const char *const domains[] = {"one.test", "two.test", "three.test"};

	start("max-msg-rate = 100/m\n" DOMAIN "max-msg-rate = 60/m\n");
	for (size_t i = 0; i < 3; i++)
		send_many(domains[i], 2000);
	world_run(&x, 20 * MINUTE);
	for (size_t i = 0; i < 3; i++) {
		cr_assert_leq(fullest(MX_RCPT, domains[i], MINUTE), 60);
		cr_assert_geq(fullest(MX_RCPT, domains[i], 20 * MINUTE), 500,
			      "%s has its share of 100/m", domains[i]);
	}
	cr_assert_leq(fullest(MX_RCPT, "", MINUTE), 100);
	cr_assert_geq(mx_count(&mx, MX_RCPT), 19 * 90);
	finish();
}

Test(rates, a_held_site_does_not_stop_others)
{
	start(DOMAIN "[domain slow.test]\nmax-msg-rate = 1/h\n");
	send_many("slow.test", 500);
	send_many("free.test", 500);
	world_run(&x, MINUTE);
	cr_assert_eq(mx.delivered, 500);
	cr_assert_leq(fullest(MX_RCPT, "slow.test", HOUR), 1);
	finish();
}

Test(rates, a_rate_by_local_address)
{
	start("smtp-source-host = 192.0.2.2 b.sluice.test\n" DOMAIN
	      "source-ip-max-msg-rate = 192.0.2.0/24 60/m\n"
	      "source-ip-max-msg-rate = 192.0.2.2 20/m\n");
	send_many("paced.test", 4000);
	world_run(&x, 20 * MINUTE);
	cr_assert_leq(fullest(MX_RCPT, "", MINUTE), 80);
	cr_assert_geq(mx.delivered, 19 * 74, "both are used: %u", mx.delivered);
	finish();
}

static char held[SHM_QUEUE_TEXT];

/* Of the one queue that there is. */
static void read_hold(void *arg ATTR_UNUSED)
{
	uint32_t pos = 0;

	shm_queue_get_text(shm_queue_next(x.shm, &pos), held);
}

#define TWO_SOURCES "smtp-source-host = 192.0.2.2 b.sluice.test\n" DOMAIN

static size_t opened_from(uint8_t last_byte, usec_t from, usec_t until)
{
	size_t n = 0;

	for (size_t i = 0; i < mx.entries; i++)
		n += mx.journal[i].what == MX_OPEN && mx.journal[i].source.b[3] == last_byte &&
		     mx.journal[i].at >= from && mx.journal[i].at < until;
	return n;
}

Test(rates, a_local_address_that_has_to_wait_does_not_hold_the_others)
{
	static const char *const closed[] = {
		"source-ip-max-msg-rate = 192.0.2.2 1/h\n",
		"source-ip-max-connect-rate = 192.0.2.2 1/h\n",
		"source-ip-max-data-volume-rate = 192.0.2.1 1K/h\n",
	};

	for (size_t i = 0; i < sizeof(closed) / sizeof(closed[0]); i++) {
		char conf[300];

		snprintf(conf, sizeof(conf),
			 TWO_SOURCES "max-smtp-out = 2\nmax-msg-per-connection = 1\n%s", closed[i]);
		start(conf);
		fake_latency(100 * USEC_PER_MSEC);
		send_many("paced.test", 600);
		held[0] = '\0';
		fake_at(MINUTE, read_hold, NULL);
		world_run(&x, 10 * MINUTE);
		cr_expect_geq(mx.delivered, 599, "%s: %u", closed[i], mx.delivered);
		cr_expect_eq(mx.peak, 2, "%s: %u", closed[i], mx.peak);
		cr_expect(!strstr(held, "rate"), "%s: %s", closed[i], held);
		finish();
	}
}

/* The first to open decides, whichever was asked last. */
Test(rates, of_two_local_addresses_that_wait_the_first_to_open_ends_it)
{
	for (int i = 0; i < 2; i++) {
		char conf[300];

		snprintf(conf, sizeof(conf),
			 TWO_SOURCES
			 "max-msg-per-connection = 1\nsource-ip-max-msg-rate = 192.0.2.%d 1/h\n"
			 "source-ip-max-msg-rate = 192.0.2.%d 6/m\n",
			 1 + i, 2 - i);
		start(conf);
		send_many("paced.test", 300);
		world_run(&x, 10 * MINUTE);
		cr_expect_geq(mx.delivered, 50, "%u", mx.delivered);
		cr_expect_leq(fullest(MX_RCPT, "", MINUTE), 7);
		finish();
	}
}

static const char *refuse_one_source(struct mx *m, enum mx_event what, unsigned c ATTR_UNUSED,
				     const char *line ATTR_UNUSED)
{
	bool cut = m->source.b[3] == 2 && fake_elapsed() >= 5 * MINUTE;

	return what == MX_RCPT && cut ? "450 4.7.28 too many recipients" : NULL;
}

Test(rates, back_off_of_one_local_address_does_not_hold_the_others)
{
	start(TWO_SOURCES "max-smtp-out = 4\nmax-msg-per-connection = 1\n"
			  "backoff-min-msg-rate = 1/h\nsmtp-pattern-list = slow\n"
			  "[smtp-pattern-list slow]\nreply = /too many/ mode=backoff\n");
	fake_latency(100 * USEC_PER_MSEC);
	mx.answer = refuse_one_source;
	send_many("paced.test", 6000);
	world_run(&x, 20 * MINUTE);
	cr_expect_geq(opened_from(1, 10 * MINUTE, 15 * MINUTE), 1800, "%zu",
		      opened_from(1, 10 * MINUTE, 15 * MINUTE));
	finish();
}

static void reload_faster(void *arg ATTR_UNUSED)
{
	world_reload(&x, DOMAIN "max-msg-rate = 120/m\n");
}

static void reload_slower(void *arg ATTR_UNUSED)
{
	world_reload(&x, DOMAIN "max-msg-rate = 2/m\n");
}

Test(rates, a_reload_changes_the_rate_at_once)
{
	start(DOMAIN "max-msg-rate = 1/h\n");
	send_many("paced.test", 3000);
	fake_at(90 * MINUTE, reload_faster, NULL);
	fake_at(100 * MINUTE, reload_slower, NULL);
	world_run(&x, 120 * MINUTE);
	cr_assert_eq(count(MX_RCPT, 0, 90 * MINUTE), 1);
	cr_assert_geq(count(MX_RCPT, 90 * MINUTE, 100 * MINUTE), 1100);
	cr_assert_leq(fullest(MX_RCPT, "", MINUTE), 120);
	cr_assert_leq(count(MX_RCPT, 100 * MINUTE, 120 * MINUTE), 41);
	cr_assert_geq(count(MX_RCPT, 100 * MINUTE, 120 * MINUTE), 38);
	finish();
}

static void reload_vmta(void *arg ATTR_UNUSED)
{
	world_reload(&x, "max-msg-rate = 600/m\n" DOMAIN);
}

Test(rates, a_reload_wakes_who_sleeps_for_the_rate_of_the_virtual_mta)
{
	start("max-msg-rate = 1/d\n" DOMAIN);
	send_many("paced.test", 100);
	fake_at(MINUTE, reload_vmta, NULL);
	world_run(&x, 2 * MINUTE);
	cr_assert_eq(mx.delivered, 100);
	finish();
}

Test(rates, a_paced_connection_gives_way_to_who_waits_for_its_place)
{
	start("max-smtp-out = 1\n" DOMAIN "[domain slow.test]\nmax-msg-rate = 6/m\n");
	send_many("slow.test", 100);
	world_run(&x, 30 * SEC);
	cr_assert_geq(mx.delivered, 2);
	send_many("free.test", 500);
	world_run(&x, 10 * MINUTE);
	/* free.test is ready within seconds, and slow.test has all that its rate gives */
	cr_assert_geq(fullest(MX_RCPT, "free.test", 15 * SEC), 500);
	cr_assert_leq(fullest(MX_RCPT, "slow.test", MINUTE), 6);
	cr_assert_geq(fullest(MX_RCPT, "slow.test", 10 * MINUTE), 55);
	cr_assert_eq(mx.peak, 1);
	finish();
}

static unsigned turns;

static bool count_turn(void *arg ATTR_UNUSED)
{
	turns++;
	return false;
}

Test(rates, who_sleeps_does_not_turn)
{
	start(DOMAIN "max-msg-rate = 1/h\n");
	send_many("paced.test", 500);
	fake_loop_until_true(count_turn, NULL);
	turns = 0;
	world_run(&x, 50 * MINUTE);
	/* what happens anyway, every second */
	cr_assert_leq(turns, 50 * 60 * 4, "%u turns", turns);
	fake_loop_until_true(NULL, NULL);
	finish();
}

Test(rates, a_killed_worker_leaves_its_clocks)
{
	start(DOMAIN "max-msg-rate = 2/m\n");
	send_many("paced.test", 1000);
	for (unsigned i = 1; i <= 200; i++)
		world_run_and_kill(&x, i * 20 * SEC);
	world_run(&x, 2 * HOUR);
	cr_assert_leq(fullest(MX_RCPT, "", MINUTE), 2);
	cr_assert_geq(mx_count(&mx, MX_RCPT), 150);
	finish();
}

/* Everything dies again and again; between two lives some time passes. */
static void live_and_die(const char *conf, usec_t per, usec_t life, bool clean)
{
	usec_t now = 0;

	start(conf);
	send_many("paced.test", per >= HOUR && !clean ? 900 : 700);
	for (unsigned i = 0; i < (clean ? 40 : 25); i++) {
		now += life / 2 + (usec_t)rand() % life;
		if (clean)
			world_run(&x, now);
		else
			world_run_and_kill(&x, now);
		now = fake_elapsed();
		world_restart_all(&x, clean);
	}
	world_run(&x, now + 2 * per);
}

Test(rates, a_restart_forgets_no_clock)
{
	live_and_die(DOMAIN "max-msg-rate = 200/h\n", HOUR, 3 * MINUTE, true);
	cr_assert_leq(fullest(MX_RCPT, "", HOUR), 200);
	cr_assert_geq(mx_count(&mx, MX_RCPT), 3 * 170, "restarts cost little: %zu",
		      mx_count(&mx, MX_RCPT));
	finish();
}

Test(rates, no_window_holds_more_when_all_processes_are_killed)
{
	static const struct {
		const char *conf;
		size_t n;
		usec_t per, life;
	} of[] = {
		{DOMAIN "max-msg-rate = 2/m\n", 2, MINUTE, 20 * SEC},
		{DOMAIN "max-msg-rate = 200/h\n", 200, HOUR, 10 * MINUTE},
		{DOMAIN "max-msg-rate = 100/15m\n", 100, 15 * MINUTE, MINUTE},
		{DOMAIN "max-msg-rate = 5/10s\n", 5, 10 * SEC, 4 * SEC},
		{"max-msg-rate = 100/m\n" DOMAIN, 100, MINUTE, 10 * SEC},
	};

	for (size_t i = 0; i < sizeof(of) / sizeof(of[0]); i++) {
		live_and_die(of[i].conf, of[i].per, of[i].life, false);
		cr_expect_leq(fullest(MX_RCPT, "", of[i].per), of[i].n, "%s: %zu", of[i].conf,
			      fullest(MX_RCPT, "", of[i].per));
		cr_expect_geq(mx_count(&mx, MX_RCPT), 2 * of[i].n - 2, "%s: %zu", of[i].conf,
			      mx_count(&mx, MX_RCPT));
		finish();
	}
}

static void send_urgent(void *arg ATTR_UNUSED)
{
	for (unsigned i = 0; i < 60; i++)
		world_send_as(&x, "s@sender.test", "urgent@paced.test", "alerts", 0, 64);
}

Test(rates, tokens_go_to_what_is_urgent_when_the_clock_opens)
{
	size_t urgent = 0;

	start(DOMAIN "max-msg-rate = 60/m\n");
	for (unsigned i = 0; i < 2000; i++)
		world_send_as(&x, "s@sender.test", "bulk@paced.test", "news", 3, 64);
	fake_at(5 * MINUTE, send_urgent, NULL);
	world_run(&x, 7 * MINUTE);
	for (size_t i = 0; i < x.record_count; i++)
		urgent += x.records[i].type == 'd' && strstr(x.records[i].rcpt, "urgent") &&
			  x.records[i].at < 5 * MINUTE + 75 * SEC;
	cr_assert_eq(urgent, 60, "%zu in 75 s", urgent);
	cr_assert_geq(count(MX_RCPT, 5 * MINUTE, 5 * MINUTE + 75 * SEC), 66, "bulk still moves");
	finish();
}

Test(rates, a_domain_of_a_provider_has_its_own_inside_the_site)
{
	start(DOMAIN "[provider big]\nmx = *.paced.test\n"
		     "[domain big.rollup]\nmax-msg-rate = 60/m\n"
		     "[domain small.test]\nmax-msg-rate = 6/m\n"
		     "[domain bytes.test]\nmax-data-volume-rate = 90K/m\n");
	send_many("small.test", 200);
	for (unsigned i = 0; i < 200; i++)
		world_send_as(&x, "s@sender.test", "a@bytes.test", "", SPOOL_CLASS_DEFAULT, 4000);
	send_many("other.test", 800);
	world_run(&x, 10 * MINUTE);
	cr_expect_leq(fullest(MX_RCPT, "", MINUTE), 60);
	cr_expect_geq(mx_count(&mx, MX_RCPT), 9 * 54);
	cr_expect_leq(fullest(MX_RCPT, "small.test", MINUTE), 6);
	cr_expect_geq(fullest(MX_RCPT, "small.test", 10 * MINUTE), 50);
	cr_expect_leq(fullest(MX_RCPT, "bytes.test", MINUTE), 22);
	cr_expect_geq(fullest(MX_RCPT, "bytes.test", 10 * MINUTE), 150);
	cr_expect_leq(mx.connections, 30, "the connections are shared: %u", mx.connections);
	finish();
}

/* Connections that are made for its mail; those of others carry some of it, too. */
Test(rates, a_domain_of_a_provider_has_its_own_rate_of_connections)
{
	start(DOMAIN "[provider big]\nmx = *.paced.test\n"
		     "[domain big.rollup]\nmax-msg-per-connection = 1\n"
		     "[domain small.test]\nmax-connect-rate = 6/m\n");
	send_many("small.test", 100);
	fake_at(4 * MINUTE + 3 * SEC, read_hold, NULL);
	world_run(&x, 5 * MINUTE);
	cr_expect_leq(fullest(MX_OPEN, "", MINUTE), 6);
	cr_expect_geq(fullest(MX_OPEN, "", 5 * MINUTE), 27);
	cr_expect_geq(mx_count(&mx, MX_RCPT), 27);
	cr_expect(slice_istarts(slice_str(held),
				"max-connect-rate 6/m of domain small.test/a: until 20"),
		  "%s", held);
	send_many("other.test", 100);
	world_run(&x, 6 * MINUTE);
	cr_expect_eq(fullest(MX_RCPT, "other.test", 1 * MINUTE), 100, "others are not held");
	finish();
}

/* --- each directive --- */

#define BIG "[provider big]\nmx = *.paced.test\n"
#define POOL "[virtual-mta-pool p]\nvirtual-mta = a\n"

static const struct {
	const char *conf; /* goes on in [virtual-mta a] */
	enum mx_event what;
	size_t most,
		least; /* in ten minutes at 30 a minute: recipients, connections, messages of 4 KB */
} each[] = {
	{DOMAIN "max-msg-rate = 30/m\n", MX_RCPT, 30, 270},
	{DOMAIN "max-msg-per-hour = 1800\n", MX_RCPT, 35, 270},
	{DOMAIN "max-connect-rate = 30/m\n", MX_OPEN, 30, 270},
	{DOMAIN "max-conn-rate = 30/m\n", MX_OPEN, 30, 270},
	{DOMAIN "max-data-volume-rate = 125K/m\n", MX_DONE, 30, 250},
	{DOMAIN "source-ip-max-msg-rate = 192.0.2.0/24 30/m\n", MX_RCPT, 30, 270},
	{DOMAIN "source-ip-max-connect-rate = 192.0.2.0/24 30/m\n", MX_OPEN, 30, 270},
	{DOMAIN "source-ip-max-data-volume-rate = 0/0 125K/m\n", MX_DONE, 30, 250},
	{"max-msg-rate = 30/m\n" DOMAIN, MX_RCPT, 30, 270},
	{"max-smtp-msg-rate = 30/m\n" DOMAIN, MX_RCPT, 30, 270},
	{"max-msg-per-hour = 1800\n" DOMAIN, MX_RCPT, 35, 270},
	{"max-connect-rate = 30/m\n" DOMAIN, MX_OPEN, 30, 270},
	{"max-conn-rate = 30/m\n" DOMAIN, MX_OPEN, 30, 270},
	{"max-data-volume-rate = 125K/m\n" DOMAIN, MX_DONE, 30, 250},
	{"max-smtp-data-volume-rate = 125K/m\n" DOMAIN, MX_DONE, 30, 250},
	{POOL "max-msg-rate = 30/m\n" DOMAIN, MX_RCPT, 30, 270},
	{POOL "max-smtp-msg-rate = 30/m\n" DOMAIN, MX_RCPT, 30, 270},
	{POOL "max-msg-per-hour = 1800\n" DOMAIN, MX_RCPT, 35, 270},
	{POOL "max-connect-rate = 30/m\n" DOMAIN, MX_OPEN, 30, 270},
	{POOL "max-conn-rate = 30/m\n" DOMAIN, MX_OPEN, 30, 270},
	{POOL "max-data-volume-rate = 125K/m\n" DOMAIN, MX_DONE, 30, 250},
	{POOL "max-smtp-data-volume-rate = 125K/m\n" DOMAIN, MX_DONE, 30, 250},
	{POOL "pool-max-msg-rate = 30/m\n" DOMAIN, MX_RCPT, 30, 270},
	{BIG "max-msg-rate = 30/m\n" DOMAIN, MX_RCPT, 30, 270},
	{BIG "max-msg-per-hour = 1800\n" DOMAIN, MX_RCPT, 35, 270},
	{BIG "max-connect-rate = 30/m\n" DOMAIN, MX_OPEN, 30, 270},
	{BIG "max-conn-rate = 30/m\n" DOMAIN, MX_OPEN, 30, 270},
	{BIG "source-ip-max-msg-rate = 192.0.2.1 30/m\n" DOMAIN, MX_RCPT, 30, 270},
};

Test(rates, each_directive_holds_and_is_used)
{
	for (size_t i = 0; i < sizeof(each) / sizeof(each[0]); i++) {
		char conf[400];

		snprintf(conf, sizeof(conf), "%s[domain *]\nmax-msg-per-connection = 1\n",
			 each[i].conf);
		start(conf);
		for (unsigned k = 0; k < 400; k++)
			world_send_as(&x, "s@sender.test", "a@paced.test", "", SPOOL_CLASS_DEFAULT,
				      4000);
		world_run(&x, 10 * MINUTE);
		cr_expect_leq(fullest(each[i].what, "", MINUTE), each[i].most, "%s: %zu",
			      each[i].conf, fullest(each[i].what, "", MINUTE));
		cr_expect_geq(mx_count(&mx, each[i].what), each[i].least, "%s: %zu", each[i].conf,
			      mx_count(&mx, each[i].what));
		finish();
	}
}

/* --- other workers --- */

static struct rival {
	usec_t at[20000];
	size_t n;
} rival;

/* Another worker at the same provider, which takes what it can get. */
static void rival_turn(void *arg)
{
	struct rate_want w = {.scope = RATE_PROVIDER,
			      .measure = RATE_MESSAGES,
			      .name = slice_str("big"),
			      .n = 60,
			      .per = MINUTE,
			      .tokens = 1 + rival.n % 3};
	struct rate_ticket t;
	usec_t open = clock_now();
	size_t by;

	if (rates_take(x.shm, &w, 1, 99, clock_now(), &t, &by, &open) == 0)
		for (uint64_t i = 0; i < w.tokens; i++)
			rival.at[rival.n++] = fake_elapsed();
	fake_at(fake_elapsed() + (open > clock_now() ? open - clock_now() : 1000), rival_turn, arg);
}

static size_t fullest_with_rival(usec_t per)
{
	size_t n = mx_count(&mx, MX_RCPT), a = 0, b = 0, from = 0, most = 0;
	usec_t *at = calloc(n + rival.n, sizeof(*at));

	for (size_t i = 0; i < n + rival.n; i++) {
		bool ours = b == rival.n || (a < n && mx_nth(&mx, MX_RCPT, a)->at < rival.at[b]);

		at[i] = ours ? mx_nth(&mx, MX_RCPT, a++)->at : rival.at[b++];
		while (at[i] - at[from] >= per)
			from++;
		if (i - from + 1 > most)
			most = i - from + 1;
	}
	free(at);
	return most;
}

Test(rates, a_provider_has_one_for_all_virtual_mtas)
{
	start(DOMAIN "[provider big]\nmx = *.paced.test\nmax-msg-rate = 60/m\n");
	rival.n = 0;
	fake_at(MINUTE, rival_turn, NULL);
	send_many("one.test", 1000);
	send_many("two.test", 1000);
	world_run(&x, 20 * MINUTE);
	cr_assert_leq(fullest_with_rival(MINUTE), 60);
	cr_assert_geq(rival.n + mx.delivered, 19 * 52, "%zu + %u", rival.n, mx.delivered);
	cr_assert_geq(mx.delivered, 300, "ours: %u", mx.delivered);
	cr_assert_geq(rival.n, 300, "theirs: %zu", rival.n);
	finish();
}
