/* links: common/base common/conf common/spool common/shm common/ipc common/smtp common/mail common/acct common/dns/route.c common/dns/wire.c spooler/commit.c spooler/commit_*.c spooler/dsn_row.c worker -worker/resolver.c -worker/resolver_main.c -worker/resolver_packet.c -worker/resolver_record.c -worker/resolver_route.c -worker/resolver_server.c -worker/resolver_upstream.c tests/replay/world.c tests/replay/mx.c tests/replay/fake_loop.c tests/replay/fake_stream.c tests/replay/fake_dns.c */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "tests/replay/mx.h"
#include "tests/replay/world.h"

#define LADDER "[domain *]\nretry-after = 5m,10m,15m,30m,1h\nbounce-after = 4d12h\nsmtp-port = 25\n"

static struct world x;
static struct mx mx;

static void start(const char *conf)
{
	memset(&mx, 0, sizeof(mx));
	world_new(&x, conf);
}

static void finish(void)
{
	world_check(&x);
	world_free(&x);
	mx_done(&mx);
}

/* Within a second (and the few milliseconds of the fake network). */
static void assert_at(usec_t is, usec_t want, const char *what, size_t i)
{
	cr_assert(is + USEC_PER_SEC >= want && is <= want + 2 * USEC_PER_SEC,
		  "%s %zu: at %.1f s, wanted %.1f s", what, i, (double)is / 1e6,
		  (double)want / 1e6);
}

Test(retry, a_dead_site_is_tried_by_the_ladder_until_the_mail_expires)
{
	static const unsigned first[] = {0, 5, 15, 30, 60, 120, 180, 240}; /* minutes */
	size_t i, n;

	start(LADDER);
	fake_dns_mx("dead.test", "10 mx.dead.test 198.51.100.1");
	fake_host("198.51.100.1", WORLD_PORT, FAKE_REFUSING, NULL, NULL);
	world_send(&x, "s@sender.test", "a@dead.test");
	world_run(&x, 5 * DAY);
	n = world_count(&x, 'q');
	/* five in the first hour, then one an hour until 108 h */
	cr_assert(n >= 4 + 107 && n <= 4 + 109, "%zu failures were recorded", n);
	for (i = 0; i < ARRAY_SIZE(first); i++)
		assert_at(world_nth(&x, 'q', i)->at, first[i] * MINUTE, "failure", i);
	cr_assert_eq(world_count(&x, 't'), 0, "a failure of the site is none of the recipient");
	cr_assert_eq(world_count(&x, 'b'), 1);
	assert_at(world_nth(&x, 'b', 0)->at, 4 * DAY + 12 * HOUR, "bounce", 0);
	cr_assert_eq(world_nth(&x, 'b', 0)->enhanced[0], 4);
	cr_assert_eq(world_nth(&x, 'b', 0)->enhanced[1], 4);
	cr_assert_eq(world_left(&x), 0);
	finish();
}

static const char *greylist(struct mx *m, enum mx_event what, unsigned c ATTR_UNUSED,
			    const char *line ATTR_UNUSED)
{
	return what == MX_RCPT && mx_count(m, MX_RCPT) <= 5 ? "450 4.2.0 greylisted" : NULL;
}

Test(retry, a_deferred_recipient_climbs_its_own_ladder)
{
	static const unsigned tries[] = {0, 5, 15, 30, 60, 120};
	size_t i;

	start(LADDER);
	mx.answer = greylist;
	mx_listen(&mx, "198.51.100.1", WORLD_PORT);
	fake_dns_mx("grey.test", "10 mx.grey.test 198.51.100.1");
	world_send(&x, "s@sender.test", "a@grey.test");
	world_run(&x, DAY);
	cr_assert_eq(world_count(&x, 't'), 5);
	cr_assert_eq(world_count(&x, 'q'), 0, "the site is well");
	cr_assert_eq(world_count(&x, 'd'), 1);
	cr_assert_eq(mx_count(&mx, MX_RCPT), 6);
	for (i = 0; i < ARRAY_SIZE(tries); i++)
		assert_at(mx_nth(&mx, MX_RCPT, i)->at, tries[i] * MINUTE, "try", i);
	cr_assert_eq(world_nth(&x, 'd', 0)->attempt, 6);
	cr_assert_str_eq(world_nth(&x, 't', 0)->text, "450 4.2.0 greylisted");
	finish();
}

Test(retry, retry_recipients_after_is_the_least_wait)
{
	start("[domain *]\nretry-after = 5m,10m\nretry-recipients-after = 20m\n");
	mx.answer = greylist;
	mx_listen(&mx, "198.51.100.1", WORLD_PORT);
	fake_dns_mx("grey.test", "10 mx.grey.test 198.51.100.1");
	world_send(&x, "s@sender.test", "a@grey.test");
	world_run(&x, DAY);
	cr_assert_eq(mx_count(&mx, MX_RCPT), 6);
	for (size_t i = 0; i < 6; i++)
		assert_at(mx_nth(&mx, MX_RCPT, i)->at, i * 20 * MINUTE, "try", i);
	finish();
}

/* --- 421 --- */

#define ONE_AT_A_TIME "[domain *]\nretry-after = 10m,30m\nmax-smtp-out = 1\n"

/* Each connection gets 421 to the nth of these, until the time is over. */
static struct {
	enum mx_event at;
	unsigned nth;
	usec_t until;
} closing;

static const char *close_by_421(struct mx *m ATTR_UNUSED, enum mx_event what, unsigned c,
				const char *line ATTR_UNUSED)
{
	static unsigned connection, seen;

	if (connection != c) {
		connection = c;
		seen = 0;
	}
	if (what != closing.at || fake_elapsed() >= closing.until || ++seen < closing.nth)
		return NULL;
	return "421 4.7.0 not now";
}

static void start_closing(enum mx_event at, unsigned nth, usec_t until)
{
	start(ONE_AT_A_TIME);
	closing.at = at;
	closing.nth = nth;
	closing.until = until;
	mx.answer = close_by_421;
	mx_listen(&mx, "198.51.100.1", WORLD_PORT);
	fake_dns_mx("busy.test", "10 mx.busy.test 198.51.100.1");
	for (unsigned i = 0; i < 20; i++)
		world_send(&x, "s@sender.test", "a@busy.test");
}

Test(retry, a_421_on_a_connection_that_delivered_nothing_is_a_failure_of_the_site)
{
	static const struct {
		enum mx_event at;
		unsigned connections; /* before it waits */
	} cases[] = {{MX_OPEN, 1}, {MX_EHLO, 1}, {MX_MAIL, 1},
		     {MX_RCPT, 1}, {MX_DATA, 1}, {MX_DONE, 3}};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		start_closing(cases[i].at, 1, HOUR / 2);
		world_run(&x, 9 * MINUTE);
		cr_assert_eq(mx.connections, cases[i].connections, "event %d: %u connections",
			     cases[i].at, mx.connections);
		cr_assert_eq(world_count(&x, 'q'), 1, "event %d", cases[i].at);
		world_run(&x, 39 * MINUTE);
		cr_assert_eq(world_count(&x, 'q'), 2, "event %d", cases[i].at);
		assert_at(world_nth(&x, 'q', 1)->at, 10 * MINUTE, "failure", 1);
		world_run(&x, 4 * HOUR);
		cr_assert_eq(world_count(&x, 'd'), 20, "event %d", cases[i].at);
		finish();
	}
}

Test(retry, a_421_after_a_delivery_ends_the_connection_alone)
{
	static const enum mx_event points[] = {MX_MAIL, MX_RCPT, MX_DATA};

	for (size_t i = 0; i < ARRAY_SIZE(points); i++) {
		start_closing(points[i], 2, HOUR);
		world_run(&x, MINUTE);
		cr_assert_eq(world_count(&x, 'd'), 20, "event %d", points[i]);
		cr_assert_eq(world_count(&x, 'q') + world_count(&x, 't'), 0, "event %d", points[i]);
		cr_assert_leq(mx.connections, 20, "no more than deliveries");
		finish();
	}
}

Test(retry, a_421_to_a_message_after_a_delivery_defers_its_recipients_alone)
{
	start_closing(MX_DONE, 2, HOUR);
	world_run(&x, MINUTE);
	cr_assert_eq(world_count(&x, 'd'), 10);
	cr_assert_eq(world_count(&x, 't'), 10);
	cr_assert_eq(world_count(&x, 'q'), 0);
	finish();
}

/* --- */

static void come_up(void *arg ATTR_UNUSED)
{
	mx_listen(&mx, "198.51.100.1", WORLD_PORT);
}

static void go_down(void *arg ATTR_UNUSED)
{
	fake_host("198.51.100.1", WORLD_PORT, FAKE_REFUSING, NULL, NULL);
}

static void send_again(void *arg ATTR_UNUSED)
{
	world_send(&x, "s@sender.test", "again@flaky.test");
}

Test(retry, a_delivery_resets_the_ladder_of_the_site)
{
	start(LADDER);
	fake_dns_mx("flaky.test", "10 mx.flaky.test 198.51.100.1");
	go_down(NULL);
	world_send(&x, "s@sender.test", "a@flaky.test");
	fake_at(20 * MINUTE, come_up, NULL); /* the try at 30 m succeeds */
	fake_at(40 * MINUTE, go_down, NULL);
	fake_at(40 * MINUTE, send_again, NULL); /* fails at once: 5 m, 10 m … again */
	world_run(&x, 2 * HOUR);
	cr_assert_eq(world_count(&x, 'd'), 1);
	assert_at(world_nth(&x, 'd', 0)->at, 30 * MINUTE, "delivery", 0);
	cr_assert_geq(world_count(&x, 'q'), 6);
	assert_at(world_nth(&x, 'q', 3)->at, 40 * MINUTE, "failure", 3);
	assert_at(world_nth(&x, 'q', 4)->at, 45 * MINUTE, "failure", 4);
	assert_at(world_nth(&x, 'q', 5)->at, 55 * MINUTE, "failure", 5);
	cr_assert_eq(world_left(&x), 1);
	finish();
}

Test(retry, the_position_in_the_ladder_survives_a_restart)
{
	start(LADDER);
	fake_dns_mx("dead.test", "10 mx.dead.test 198.51.100.1");
	fake_host("198.51.100.1", WORLD_PORT, FAKE_REFUSING, NULL, NULL);
	world_send(&x, "s@sender.test", "a@dead.test");
	world_run(&x, 20 * MINUTE); /* tries at 0, 5, 15 */
	world_run_and_kill(&x, 40 * MINUTE);
	world_run(&x, 3 * HOUR);
	cr_assert_geq(world_count(&x, 'q'), 6);
	assert_at(world_nth(&x, 'q', 3)->at, 30 * MINUTE, "failure", 3);
	assert_at(world_nth(&x, 'q', 4)->at, 60 * MINUTE, "failure", 4);
	assert_at(world_nth(&x, 'q', 5)->at, 120 * MINUTE, "failure", 5);
	finish();
}

Test(retry, a_domain_without_mx_is_tried_for_its_time_and_then_bounced)
{
	start("[domain *]\nretry-after = 10m\nbounce-upon-no-mx = 1h\n");
	fake_dns_address("nomx.test", "198.51.100.1");
	fake_host("198.51.100.1", WORLD_PORT, FAKE_REFUSING, NULL, NULL);
	world_send(&x, "s@sender.test", "a@nomx.test");
	world_run(&x, DAY);
	cr_assert_eq(world_count(&x, 'b'), 1);
	cr_assert(world_nth(&x, 'b', 0)->at >= HOUR &&
			  world_nth(&x, 'b', 0)->at <= HOUR + 10 * MINUTE,
		  "bounced at %.0f s", (double)world_nth(&x, 'b', 0)->at / 1e6);
	finish();
}

Test(retry, a_domain_without_mx_that_listens_gets_its_mail)
{
	start("[domain *]\nbounce-upon-no-mx = 1h\n");
	fake_dns_address("nomx.test", "198.51.100.1");
	mx_listen(&mx, "198.51.100.1", WORLD_PORT);
	world_send(&x, "s@sender.test", "a@nomx.test");
	world_run(&x, MINUTE);
	cr_assert_eq(world_count(&x, 'd'), 1);
	finish();
}

Test(retry, bounce_upon_no_mx_can_be_at_once)
{
	start("[domain *]\nbounce-upon-no-mx = yes\n");
	fake_dns_address("nomx.test", "198.51.100.1");
	mx_listen(&mx, "198.51.100.1", WORLD_PORT);
	world_send(&x, "s@sender.test", "a@nomx.test");
	world_run(&x, MINUTE);
	cr_assert_eq(world_count(&x, 'b'), 1);
	cr_assert_eq(mx.connections, 0);
	finish();
}

static const struct world_record *bounce_of_no_address(const char *no_mx)
{
	char conf[120];

	snprintf(conf, sizeof(conf), "[domain *]\nbounce-upon-no-mx = %s\nbounce-after = 3h\n",
		 no_mx);
	start(conf);
	fake_dns_address("none.test", "");
	world_send(&x, "s@sender.test", "a@none.test");
	world_run(&x, 4 * HOUR);
	cr_assert_eq(world_count(&x, 'b'), 1);
	return world_nth(&x, 'b', 0);
}

Test(retry, a_domain_with_neither_mx_nor_address_bounces_when_bounce_upon_no_mx_says)
{
	const struct {
		const char *no_mx;
		usec_t at;
		uint8_t detail; /* of 5.1.2, 4.4.7 */
	} cases[] = {{"yes", 0, 2}, {"1h", HOUR, 2}, {"never", 3 * HOUR, 7}, {"no", 5 * MINUTE, 2}};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const struct world_record *b = bounce_of_no_address(cases[i].no_mx);

		assert_at(b->at, cases[i].at, cases[i].no_mx, i);
		cr_assert_eq(b->enhanced[2], cases[i].detail, "%s: %s", cases[i].no_mx, b->text);
		finish();
	}
}

static void get_address(void *arg ATTR_UNUSED)
{
	fake_dns_mx("bare.test", "10 mx.bare.test 198.51.100.1");
}

Test(retry, mail_hosts_without_an_address_are_waited_for)
{
	start("[domain *]\nbounce-upon-no-mx = 1h\n");
	mx_listen(&mx, "198.51.100.1", WORLD_PORT);
	fake_dns_mx("bare.test", "10 mx.bare.test");
	fake_at(5 * HOUR, get_address, NULL);
	world_send(&x, "s@sender.test", "a@bare.test");
	world_run(&x, 6 * HOUR);
	cr_assert_eq(world_count(&x, 'b'), 0);
	cr_assert_eq(world_count(&x, 'd'), 1);
	cr_assert_leq(world_nth(&x, 'd', 0)->at, 5 * HOUR + 2 * MINUTE);
	finish();
}

Test(retry, mail_hosts_that_never_get_an_address_end_with_bounce_after)
{
	start("[domain *]\nbounce-after = 3h\n");
	fake_dns_mx("bare.test", "10 mx.bare.test");
	world_send(&x, "s@sender.test", "a@bare.test");
	world_run(&x, 4 * HOUR);
	cr_assert_eq(world_count(&x, 'b'), 1);
	assert_at(world_nth(&x, 'b', 0)->at, 3 * HOUR, "bounce", 0);
	finish();
}

Test(retry, hosts_that_the_operator_names_are_waited_for)
{
	start("[domain *]\nsmtp-hosts = gone.test\nbounce-after = 3h\n");
	fake_dns_status("gone.test", DNS_NXDOMAIN, "");
	world_send(&x, "s@sender.test", "a@any.test");
	world_run(&x, 4 * HOUR);
	cr_assert_eq(world_count(&x, 'b'), 1);
	assert_at(world_nth(&x, 'b', 0)->at, 3 * HOUR, "bounce", 0);
	finish();
}

Test(retry, a_null_mx_bounces_at_once)
{
	const struct world_record *b;

	start(LADDER);
	fake_dns_status("null.test", DNS_NULL_MX, "");
	world_send(&x, "s@sender.test", "a@null.test");
	world_run(&x, MINUTE);
	b = world_nth(&x, 'b', 0);
	cr_assert_eq(b->enhanced[0], 5);
	cr_assert_eq(b->enhanced[1], 1);
	cr_assert_eq(b->enhanced[2], 10);
	finish();
}

Test(retry, a_domain_that_does_not_exist_bounces_when_asked_again)
{
	start("[domain *]\nbounce-upon-nxdomain = 5m\nretry-after-dns-error = 1m\n");
	fake_dns_status("typo.test", DNS_NXDOMAIN, "");
	world_send(&x, "s@sender.test", "a@typo.test");
	world_run(&x, HOUR);
	cr_assert_eq(world_count(&x, 'b'), 1);
	cr_assert(world_nth(&x, 'b', 0)->at >= 5 * MINUTE &&
		  world_nth(&x, 'b', 0)->at <= 7 * MINUTE);
	cr_assert_geq(fake_dns_lookups("typo.test"), 2);
	cr_assert_eq(world_nth(&x, 'b', 0)->enhanced[2], 2);
	finish();
}

static void appear(void *arg ATTR_UNUSED)
{
	fake_dns_mx("typo.test", "10 mx.typo.test 198.51.100.1");
}

Test(retry, a_domain_that_comes_back_in_time_gets_its_mail)
{
	start("[domain *]\nbounce-upon-nxdomain = 5m\nretry-after-dns-error = 1m\n");
	mx_listen(&mx, "198.51.100.1", WORLD_PORT);
	fake_dns_status("typo.test", DNS_NXDOMAIN, "");
	fake_at(3 * MINUTE, appear, NULL);
	world_send(&x, "s@sender.test", "a@typo.test");
	world_run(&x, HOUR);
	cr_assert_eq(world_count(&x, 'd'), 1);
	cr_assert_eq(world_count(&x, 'b'), 0);
	finish();
}

static void exist_without_address(void *arg ATTR_UNUSED)
{
	fake_dns_address("typo.test", "");
}

static void vanish(void *arg ATTR_UNUSED)
{
	fake_dns_status("typo.test", DNS_NXDOMAIN, "");
}

Test(retry, an_answer_that_the_domain_exists_starts_its_five_minutes_anew)
{
	start("[domain *]\nbounce-upon-nxdomain = 5m\nretry-after-dns-error = 1m\n");
	vanish(NULL);
	fake_at(3 * MINUTE + 30 * USEC_PER_SEC, exist_without_address, NULL);
	fake_at(4 * MINUTE + 30 * USEC_PER_SEC, vanish, NULL);
	world_send(&x, "s@sender.test", "a@typo.test");
	world_run(&x, HOUR);
	cr_assert_eq(world_count(&x, 'b'), 1);
	assert_at(world_nth(&x, 'b', 0)->at, 10 * MINUTE, "bounce", 0);
	finish();
}

Test(retry, a_dns_failure_never_bounces_before_the_mail_expires)
{
	start("[domain *]\nretry-after-dns-error = 10m\nbounce-after = 1d\n");
	fake_dns_status("servfail.test", DNS_TEMPFAIL, "SERVFAIL from 127.0.0.53:53");
	world_send(&x, "s@sender.test", "a@servfail.test");
	world_run(&x, 2 * DAY);
	cr_assert_eq(world_count(&x, 'b'), 1);
	assert_at(world_nth(&x, 'b', 0)->at, DAY, "bounce", 0);
	cr_assert_geq(world_count(&x, 'q'), 140);
	finish();
}

Test(retry, mail_expires_in_a_paused_queue_too)
{
	start("[domain *]\nbounce-after = 1d\n");
	mx_listen(&mx, "198.51.100.1", WORLD_PORT);
	fake_dns_mx("held.test", "10 mx.held.test 198.51.100.1");
	world_order_at(&x, 0, ORDER_PAUSE, "held.test/*", false);
	fake_at(10 * MINUTE, send_again, NULL);
	world_send(&x, "s@sender.test", "a@flaky.test");
	fake_dns_mx("flaky.test", "10 mx.held.test 198.51.100.1");
	world_run(&x, 5 * MINUTE);
	world_send(&x, "s@sender.test", "a@held.test");
	world_run(&x, 2 * DAY);
	cr_assert_eq(world_count_rcpt(&x, 'd', "a@flaky.test"), 1);
	cr_assert_eq(world_count_rcpt(&x, 'd', "again@flaky.test"), 1);
	cr_assert_eq(world_count_rcpt(&x, 'b', "a@held.test"), 1);
	cr_assert_eq(world_left(&x), 0);
	finish();
}

Test(retry, schedule_brings_the_next_try_forward)
{
	start(LADDER);
	fake_dns_mx("flaky.test", "10 mx.flaky.test 198.51.100.1");
	go_down(NULL);
	world_send(&x, "s@sender.test", "a@flaky.test");
	fake_at(32 * MINUTE, come_up, NULL);
	world_order_at(&x, 40 * MINUTE, ORDER_SCHEDULE, "flaky.test/*", false);
	world_run(&x, 2 * HOUR);
	cr_assert_eq(world_count(&x, 'd'), 1);
	assert_at(world_nth(&x, 'd', 0)->at, 40 * MINUTE, "delivery", 0);
	finish();
}

static void jump(void *arg ATTR_UNUSED)
{
	fake_wall_jump(10 * 86400);
}

Test(retry, a_jump_of_the_wall_clock_bounces_nobody_untried)
{
	start(LADDER);
	fake_dns_mx("flaky.test", "10 mx.flaky.test 198.51.100.1");
	go_down(NULL);
	world_send(&x, "s@sender.test", "a@flaky.test");
	fake_at(2 * MINUTE, come_up, NULL);
	fake_at(3 * MINUTE, jump, NULL);
	world_run(&x, HOUR);
	cr_assert_eq(world_count(&x, 'b'), 0, "it was bounced for an age that it does not have");
	cr_assert_eq(world_count(&x, 'd'), 1);
	finish();
}
