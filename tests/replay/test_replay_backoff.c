/* links: common/base common/conf common/spool common/shm common/ipc common/smtp common/mail common/acct common/dns/route.c common/dns/wire.c spooler/commit.c spooler/commit_*.c spooler/dsn_row.c worker -worker/resolver.c -worker/resolver_main.c -worker/resolver_packet.c -worker/resolver_record.c -worker/resolver_route.c -worker/resolver_server.c -worker/resolver_upstream.c tests/replay/world.c tests/replay/mx.c tests/replay/fake_loop.c tests/replay/fake_stream.c tests/replay/fake_dns.c */
/* Back-off and disabled sources: what they change, what ends them, and that nothing forgets them. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "tests/replay/mx.h"
#include "tests/replay/world.h"

static struct world x;
static struct mx mx;

static void start(const char *conf)
{
	memset(&mx, 0, sizeof(mx));
	world_new(&x, conf);
	mx_listen(&mx, "198.51.100.1", WORLD_PORT);
	fake_dns_mx("slow.test", "10 mx.slow.test 198.51.100.1");
}

static void finish(void)
{
	world_check(&x);
	world_free(&x);
	mx_done(&mx);
}

/* So many messages, so that the receiver shows how many connections are open at once. */
static void send_some(void *arg ATTR_UNUSED)
{
	mx.peak = mx.open;
	for (int i = 0; i < 40; i++)
		world_send(&x, "s@sender.test", "a@slow.test");
}

static void forget_peak(void *arg ATTR_UNUSED)
{
	mx.peak = mx.open;
}

static unsigned peak_from(usec_t at)
{
	fake_at(at, send_some, NULL);
	world_run(&x, at + MINUTE);
	return mx.peak;
}

static uint64_t notices(void)
{
	struct spool_read *r;
	struct spool_stat st;

	cr_assert_eq(spool_read_begin(x.spool, &r), 0);
	cr_assert_eq(spool_stat(r, &st), 0);
	spool_read_end(r);
	return st.dsns;
}

/* --- the mode --- */

#define TWIN "[domain *]\nmax-smtp-out = 4\nbackoff-max-smtp-out = 1\n"

Test(backoff, twin_holds_in_backoff_and_the_normal_value_behind_it)
{
	start(TWIN "backoff-to-normal-after = 10m\n");
	cr_assert_eq(peak_from(MINUTE), 4);
	world_order_at(&x, 5 * MINUTE, ORDER_BACKOFF, "slow.test/a", false);
	cr_assert_eq(peak_from(6 * MINUTE), 1);
	cr_assert_eq(peak_from(14 * MINUTE), 1);
	cr_assert_eq(peak_from(16 * MINUTE), 4);
	cr_assert_eq(world_left(&x), 0);
	finish();
}

Test(backoff, order_takes_it_back)
{
	start(TWIN);
	world_order_at(&x, MINUTE, ORDER_BACKOFF, "*/a", false);
	cr_assert_eq(peak_from(DAY), 1, "it has no end by itself");
	world_order_at(&x, DAY + 5 * MINUTE, ORDER_NORMAL, "slow.test/*", false);
	cr_assert_eq(peak_from(DAY + 6 * MINUTE), 4);
	cr_assert_eq(peak_from(2 * DAY), 4, "though */a still stands");
	finish();
}

Test(backoff, order_holds_for_a_queue_that_comes_later)
{
	start(TWIN "backoff-to-normal-after = 1h\n");
	world_order_at(&x, MINUTE, ORDER_BACKOFF, "*/a", false);
	cr_assert_eq(peak_from(50 * MINUTE), 1);
	cr_assert_eq(peak_from(62 * MINUTE), 4, "its time began with the order");
	finish();
}

Test(backoff, survives_a_kill)
{
	start(TWIN "backoff-to-normal-after = 1h\n");
	cr_assert_eq(peak_from(MINUTE), 4);
	world_order_at(&x, 5 * MINUTE, ORDER_BACKOFF, "slow.test/a", false);
	fake_at(5 * MINUTE + USEC_PER_SEC, send_some, NULL);
	world_run_and_kill(&x, 6 * MINUTE);
	cr_assert_eq(mx.peak, 1);
	cr_assert_eq(peak_from(20 * MINUTE), 1);
	world_restart_spooler(&x);
	cr_assert_eq(peak_from(50 * MINUTE), 1);
	cr_assert_eq(peak_from(66 * MINUTE), 4);
	finish();
}

Test(backoff, delivery_ends_it_where_that_is_set)
{
	start(TWIN "backoff-to-normal-after-delivery = yes\n");
	cr_assert_eq(peak_from(MINUTE), 4);
	world_order_at(&x, 5 * MINUTE, ORDER_BACKOFF, "slow.test/a", false);
	fake_at(6 * MINUTE, send_some, NULL);
	cr_assert_eq(peak_from(8 * MINUTE), 4);
	finish();
}

static const char *greylist(struct mx *m, enum mx_event what, unsigned c ATTR_UNUSED,
			    const char *line ATTR_UNUSED)
{
	return what == MX_RCPT && mx_count(m, MX_RCPT) <= 3 ? "450 4.2.0 greylisted" : NULL;
}

Test(backoff, retry_times_are_those_of_backoff)
{
	start("[domain *]\nretry-after = 10m\nbackoff-retry-after = 20m,40m\nbackoff-max-smtp-out "
	      "= 20\n");
	mx.answer = greylist;
	world_order_at(&x, MINUTE, ORDER_BACKOFF, "slow.test/a", false);
	fake_at(MINUTE + USEC_PER_SEC, send_some, NULL);
	world_run(&x, 2 * MINUTE);
	cr_assert_eq(world_count(&x, 't'), 3);
	world_run(&x, 20 * MINUTE);
	cr_assert_eq(world_left(&x), 3);
	world_run(&x, 22 * MINUTE);
	cr_assert_eq(world_left(&x), 0);
	finish();
}

/* No connection is open when it begins: it goes on with one, and from there back in steps. */
Test(backoff, without_twins_connections_halve_and_come_back)
{
	unsigned peak;

	start("[domain *]\nmax-smtp-out = 8\n");
	fake_latency(20 * USEC_PER_MSEC);
	for (usec_t t = 0; t < 20; t++)
		fake_at(MINUTE + t * 2 * USEC_PER_SEC, send_some, NULL);
	world_order_at(&x, 2 * MINUTE, ORDER_BACKOFF, "slow.test/a", false);
	world_run(&x, 2 * MINUTE);
	cr_assert_eq(mx.peak, 8);
	cr_assert_eq(peak_from(2 * MINUTE + 5 * USEC_PER_SEC), 1);
	peak = peak_from(4 * MINUTE + 40 * USEC_PER_SEC);
	cr_assert(peak > 1 && peak < 8, "%u connections", peak);
	cr_assert_eq(peak_from(15 * MINUTE), 8, "normal again");
	finish();
}

static void one_notice(void *arg ATTR_UNUSED)
{
	cr_assert_eq(notices(), 1, "of the beginning");
}

static void two_notices(void *arg ATTR_UNUSED)
{
	cr_assert_eq(notices(), 2, "and of the end");
}

Test(backoff, one_mail_tells_of_it_and_the_next_comes_a_quarter_of_an_hour_later)
{
	start(TWIN "backoff-notify = ops@slow.test\nbackoff-to-normal-after = 1m\n");
	cr_assert_eq(peak_from(MINUTE), 4);
	world_order_at(&x, 3 * MINUTE, ORDER_BACKOFF, "slow.test/a", false);
	fake_at(3 * MINUTE, send_some, NULL);
	fake_at(17 * MINUTE, one_notice, NULL);
	fake_at(19 * MINUTE, two_notices, NULL);
	world_run(&x, 20 * MINUTE);
	cr_assert_eq(notices(), 2);
	finish();
}

Test(backoff, changes_within_a_quarter_of_an_hour_are_one_mail)
{
	start(TWIN
	      "backoff-notify = ops@slow.test, boss@slow.test\nbackoff-to-normal-after = 1m\n");
	fake_at(0, send_some, NULL);
	for (usec_t t = 1; t <= 4; t++)
		world_order_at(&x, t * 2 * MINUTE, ORDER_BACKOFF, "slow.test/a", false);
	fake_at(2 * MINUTE, send_some, NULL);
	world_run(&x, 20 * MINUTE);
	cr_assert_eq(notices(), 2 * 2);
	finish();
}

#define NOTIFY "backoff-notify = ops@slow.test\n"

static void take_twins_away(void *arg ATTR_UNUSED)
{
	world_reload(&x, "[domain *]\nmax-smtp-out = 4\n" NOTIFY);
}

Test(backoff, ends_by_itself_when_a_reload_takes_the_twins_away)
{
	start(TWIN NOTIFY);
	world_order_at(&x, MINUTE, ORDER_BACKOFF, "slow.test/a", false);
	cr_assert_eq(peak_from(2 * MINUTE), 1);
	fake_at(4 * MINUTE, take_twins_away, NULL);
	(void)peak_from(5 * MINUTE);
	(void)peak_from(HOUR);
	cr_assert_eq(notices(), 2, "of the beginning and of the end");
	finish();
}

/* --- sources --- */

#define TWO_SOURCES "[virtual-mta a]\nsmtp-source-host = 192.0.2.2 b.sluice.test\n"

static size_t connections_from(const char *source, usec_t since)
{
	struct ip ip;
	size_t n = 0;

	cr_assert(ip_parse(slice_str(source), &ip));
	for (size_t i = 0; i < mx_count(&mx, MX_OPEN); i++)
		n += mx_nth(&mx, MX_OPEN, i)->at >= since &&
		     ip_eq(&mx_nth(&mx, MX_OPEN, i)->source, &ip);
	return n;
}

Test(backoff, disabled_source_is_not_used_until_its_time_is_over)
{
	start(TWO_SOURCES);
	(void)peak_from(MINUTE);
	cr_assert(connections_from("192.0.2.1", 0) && connections_from("192.0.2.2", 0));
	world_source_order_at(&x, 5 * MINUTE, ORDER_DISABLE_SOURCE, "*/a", "192.0.2.1",
			      WORLD_START + HOUR / USEC_PER_MSEC);
	(void)peak_from(6 * MINUTE);
	world_run_and_kill(&x, 8 * MINUTE);
	(void)peak_from(50 * MINUTE);
	cr_assert_eq(connections_from("192.0.2.1", 6 * MINUTE), 0);
	cr_assert(connections_from("192.0.2.2", 6 * MINUTE));
	(void)peak_from(61 * MINUTE);
	cr_assert(connections_from("192.0.2.1", 61 * MINUTE));
	cr_assert_eq(world_left(&x), 0);
	finish();
}

Test(backoff, mail_waits_unharmed_when_all_sources_are_disabled)
{
	start(TWO_SOURCES "[domain *]\nretry-after = 5m\n");
	world_source_order_at(&x, MINUTE, ORDER_DISABLE_SOURCE, "slow.test/*", "192.0.2.1", 0);
	world_source_order_at(&x, MINUTE, ORDER_DISABLE_SOURCE, "*/a", "192.0.2.2", 0);
	fake_at(2 * MINUTE, send_some, NULL);
	world_run(&x, DAY);
	cr_assert_eq(mx_count(&mx, MX_OPEN), 0);
	cr_assert_eq(world_left(&x), 40);
	cr_assert_eq(world_count(&x, 't') + world_count(&x, 'b'), 0);
	cr_assert(world_count(&x, 'q') >= 1);
	cr_assert(strstr(world_nth(&x, 'q', 0)->text, "local: all source addresses are disabled"));
	/* of long before bounce-after: nobody was ever tried */
	world_source_order_at(&x, DAY + MINUTE, ORDER_ENABLE_SOURCE, "slow.test/*", "192.0.2.1", 0);
	world_run(&x, DAY + 2 * MINUTE);
	cr_assert_eq(world_left(&x), 0);
	cr_assert_eq(world_count(&x, 'd'), 40);
	cr_assert_eq(world_nth(&x, 'd', 0)->attempt, 1);
	cr_assert_eq(connections_from("192.0.2.2", 0), 0);
	finish();
}

Test(backoff, enabling_reaches_a_site_that_no_worker_has_in_memory)
{
	start("");
	world_source_order_at(&x, MINUTE, ORDER_DISABLE_SOURCE, "*/a", "192.0.2.1", 0);
	fake_at(2 * MINUTE, send_some, NULL);
	world_run(&x, 3 * MINUTE);
	cr_assert_eq(world_left(&x), 40);
	world_source_order_at(&x, 10 * MINUTE, ORDER_ENABLE_SOURCE, "*/*", "192.0.2.1", 0);
	world_run(&x, 11 * MINUTE);
	cr_assert_eq(world_left(&x), 0);
	finish();
}

Test(backoff, enabling_for_one_queue_leaves_the_others_alone)
{
	start("");
	fake_dns_mx("other.test", "10 mx.slow.test 198.51.100.1");
	world_source_order_at(&x, MINUTE, ORDER_DISABLE_SOURCE, "*/a", "192.0.2.1", 0);
	world_source_order_at(&x, 2 * MINUTE, ORDER_ENABLE_SOURCE, "other.test/a", "192.0.2.1", 0);
	world_run_and_kill(&x, 3 * MINUTE);
	fake_at(4 * MINUTE, send_some, NULL);
	world_send(&x, "s@sender.test", "b@other.test");
	world_run(&x, 10 * MINUTE);
	cr_assert_eq(world_left(&x), 40);
	cr_assert_eq(world_count_rcpt(&x, 'd', "b@other.test"), 1);
	finish();
}

Test(backoff, backoff_begins_when_all_sources_are_disabled_where_that_is_set)
{
	start("[domain *]\nbackoff-upon-all-sources-disabled = yes\nbackoff-notify = "
	      "ops@slow.test\n"
	      "disabled-source-ip-notify = ops@slow.test\n");
	fake_at(MINUTE, send_some, NULL);
	world_source_order_at(&x, MINUTE + 5 * USEC_PER_SEC, ORDER_DISABLE_SOURCE, "*/a",
			      "192.0.2.1", 0);
	world_run(&x, 2 * MINUTE);
	cr_assert_eq(notices(), 2, "one of the source, one of the mode");
	finish();
}

/* --- rates --- */

static void send_many(void *arg)
{
	for (size_t i = *(const size_t *)arg; i--;)
		world_send(&x, "s@sender.test", "a@slow.test");
}

static size_t between(enum mx_event what, usec_t from, usec_t until)
{
	size_t n = 0;

	for (size_t i = 0; i < mx.entries; i++)
		n += mx.journal[i].what == what && mx.journal[i].at >= from &&
		     mx.journal[i].at < until;
	return n;
}

/* In back-off from the second minute on; so many messages come in the third one. */
static void run_twin(const char *conf, size_t n)
{
	static size_t many;

	many = n;
	start(conf);
	world_order_at(&x, MINUTE, ORDER_BACKOFF, "*/a", false);
	fake_at(2 * MINUTE, send_many, &many);
	world_run(&x, 20 * MINUTE);
	cr_assert_eq(world_left(&x), 0, "the normal rate has no limit");
}

static void assert_message_twin(const char *conf)
{
	run_twin(conf, 600);
	cr_assert(between(MX_MAIL, 2 * MINUTE, 3 * MINUTE) <= 60);
	cr_assert(between(MX_MAIL, 3 * MINUTE, 4 * MINUTE) <= 60);
	cr_assert(between(MX_MAIL, 3 * MINUTE, 4 * MINUTE) >= 50);
	finish();
}

Test(backoff, twin_of_the_message_rate_holds)
{
	assert_message_twin(
		"[domain *]\nbackoff-max-msg-rate = 60/m\nbackoff-to-normal-after = 5m\n");
}

Test(backoff, twin_of_the_message_rate_by_the_hour_holds)
{
	assert_message_twin(
		"[domain *]\nbackoff-max-msg-per-hour = 3600\nbackoff-to-normal-after = 5m\n");
}

static void assert_connection_twin(const char *conf)
{
	run_twin(conf, 60);
	cr_assert(between(MX_OPEN, 3 * MINUTE, 4 * MINUTE) <= 6);
	cr_assert(between(MX_OPEN, 3 * MINUTE, 4 * MINUTE) >= 5);
	finish();
}

Test(backoff, twin_of_the_connection_rate_holds)
{
	assert_connection_twin("[domain *]\nbackoff-max-connect-rate = 6/m\n"
			       "backoff-to-normal-after = 5m\nmax-msg-per-connection = 1\n");
}

Test(backoff, twin_of_the_connection_rate_holds_by_its_older_name)
{
	assert_connection_twin("[domain *]\nbackoff-max-conn-rate = 6/m\n"
			       "backoff-to-normal-after = 5m\nmax-msg-per-connection = 1\n");
}

Test(backoff, twin_of_the_data_rate_holds)
{
	run_twin("[domain *]\nbackoff-max-data-volume-rate = 2K/m\n"
		 "backoff-to-normal-after = 5m\n",
		 100);
	/* a message of this world has between 50 and 200 bytes */
	cr_assert(between(MX_DONE, 3 * MINUTE, 4 * MINUTE) <= 40);
	cr_assert(between(MX_DONE, 3 * MINUTE, 4 * MINUTE) >= 5);
	finish();
}

/* --- the allowance of a receiver is found --- */

/* Answers 421 or 4xx to what is above `allow` recipients in 10 s and source address. */
static struct {
	unsigned allow;
	bool close; /* 421 at MAIL, else 450 at RCPT */
	struct {
		msec_t window;
		unsigned n;
	} of[2]; /* by the last byte of the source, 1 and 2 */
	/* in the last quarter of each level */
	usec_t measured_from;
	unsigned long tried, taken[2];
} throttle;

static const char *on_throttle(struct mx *m, enum mx_event what, unsigned c ATTR_UNUSED,
			       const char *line ATTR_UNUSED)
{
	const struct mx_entry *e = &m->journal[m->entries - 1];
	bool measured = fake_elapsed() >= throttle.measured_from;
	msec_t window = fake_elapsed() / (10 * USEC_PER_SEC);
	size_t i = e->source.b[3] == 2;

	if (what != (throttle.close ? MX_MAIL : MX_RCPT))
		return NULL;
	if (throttle.of[i].window != window) {
		throttle.of[i].window = window;
		throttle.of[i].n = 0;
	}
	throttle.tried += measured;
	if (throttle.of[i].n == throttle.allow)
		return throttle.close ? "421 4.7.28 too many recipients, slow down"
				      : "450 4.7.28 too many recipients, slow down";
	throttle.of[i].n++;
	throttle.taken[i] += measured;
	return NULL;
}

/* There is always mail; the journal of what is over is not needed. */
static void refill(void *arg ATTR_UNUSED)
{
	uint64_t left = world_left(&x);

	mx.entries = 0;
	for (uint64_t n = left; n < 2500; n++)
		world_send(&x, "s@sender.test", "a@slow.test");
	fake_at(fake_elapsed() + 30 * USEC_PER_SEC, refill, NULL);
}

static void check_level(unsigned allow, usec_t from, unsigned sources)
{
	usec_t measured = 10 * MINUTE;
	double full;

	throttle.allow = allow;
	throttle.measured_from = from + 15 * MINUTE;
	throttle.tried = throttle.taken[0] = throttle.taken[1] = 0;
	world_run(&x, throttle.measured_from + measured);
	full = (double)allow * (double)measured / (10.0 * USEC_PER_SEC);
	for (unsigned i = 0; i < sources; i++)
		cr_expect((double)throttle.taken[i] >= 0.85 * full,
			  "%u in 10 s, source %u: %.1f%% used", allow, i,
			  100.0 * (double)throttle.taken[i] / full);
	cr_expect(throttle.tried - throttle.taken[0] - throttle.taken[1] < throttle.tried / 100,
		  "%u in 10 s: %lu of %lu were refused", allow,
		  throttle.tried - throttle.taken[0] - throttle.taken[1], throttle.tried);
}

#define ONE_PATTERN                                                        \
	"[domain *]\nsmtp-pattern-list = slow\n[smtp-pattern-list slow]\n" \
	"reply = /too many recipients/ mode=backoff\n"

static void find_allowance(const char *conf, bool close, unsigned sources)
{
	memset(&throttle, 0, sizeof(throttle));
	throttle.close = close;
	start(conf);
	fake_latency(20 * USEC_PER_MSEC);
	mx.answer = on_throttle;
	fake_at(0, refill, NULL);
	check_level(100, 0, sources);
	check_level(40, 25 * MINUTE, sources);
	check_level(200, 50 * MINUTE, sources);
	world_free(&x);
	mx_done(&mx);
}

Test(backoff, allowance_is_found_and_used, .timeout = 120)
{
	find_allowance(ONE_PATTERN, false, 1);
}

Test(backoff, allowance_is_found_also_where_connections_are_closed, .timeout = 120)
{
	find_allowance(ONE_PATTERN, true, 1);
}

Test(backoff, each_source_has_an_allowance_of_its_own, .timeout = 120)
{
	find_allowance(TWO_SOURCES ONE_PATTERN, false, 2);
}

/* Half an hour of mail waits when back-off ends. */
Test(backoff, its_end_releases_no_burst)
{
	static size_t many = 3000;

	start("[domain *]\nmax-msg-rate = 600/m\nbackoff-max-msg-rate = 12/m\n"
	      "backoff-to-normal-after = 10m\nmax-smtp-out = 3\n");
	world_order_at(&x, MINUTE, ORDER_BACKOFF, "*/a", false);
	fake_at(2 * MINUTE, send_many, &many);
	fake_at(10 * MINUTE, forget_peak, NULL);
	world_run(&x, 14 * MINUTE);
	cr_assert(between(MX_MAIL, 9 * MINUTE, 10 * MINUTE) <= 12);
	for (usec_t t = 10 * MINUTE; t < 13 * MINUTE; t += USEC_PER_SEC)
		cr_assert(between(MX_MAIL, t, t + 6 * USEC_PER_SEC) <= 61, "%zu messages in 6 s",
			  between(MX_MAIL, t, t + 6 * USEC_PER_SEC));
	cr_assert(between(MX_MAIL, 12 * MINUTE, 13 * MINUTE) > 500);
	cr_assert_leq(mx.peak, 3);
	finish();
}
