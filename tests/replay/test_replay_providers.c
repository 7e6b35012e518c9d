/* links: common/base common/conf common/spool common/shm common/ipc common/smtp common/mail common/acct common/dns/route.c common/dns/wire.c spooler/commit.c spooler/commit_*.c spooler/dsn_row.c worker -worker/resolver.c -worker/resolver_main.c -worker/resolver_packet.c -worker/resolver_record.c -worker/resolver_route.c -worker/resolver_server.c -worker/resolver_upstream.c tests/replay/world.c tests/replay/mx.c tests/replay/fake_loop.c tests/replay/fake_stream.c tests/replay/fake_dns.c */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "tests/replay/mx.h"
#include "tests/replay/world.h"

/* big: in1.big.test and in2.big.test; other: its own host. Fake answers live for 60 s. */
#define BIG1 "10 in1.big.test 198.51.100.1"
#define BIG2 "10 in2.big.test 198.51.100.2"
#define OTHER "10 mx.other.test 198.51.100.3"
#define PROVIDER "[provider big]\nmx = *.big.test\n"
#define TTL MINUTE

static struct world x;
static struct mx big1, big2, other;

static void start(const char *conf)
{
	memset(&big1, 0, sizeof(big1));
	memset(&big2, 0, sizeof(big2));
	memset(&other, 0, sizeof(other));
	world_new(&x, conf);
	mx_listen(&big1, "198.51.100.1", WORLD_PORT);
	mx_listen(&big2, "198.51.100.2", WORLD_PORT);
	mx_listen(&other, "198.51.100.3", WORLD_PORT);
	fake_dns_default(BIG1);
}

static void finish(void)
{
	world_check(&x);
	cr_assert_eq(fake_open_connections(), 0);
	world_free(&x);
	mx_done(&big1);
	mx_done(&big2);
	mx_done(&other);
}

static void send_to(const char *domain, unsigned from, unsigned n)
{
	char rcpt[100];

	for (unsigned i = from; i < from + n; i++) {
		snprintf(rcpt, sizeof(rcpt), "r%u@%s", i, domain);
		world_send(&x, "s@sender.test", rcpt);
	}
}

/* Each of n recipients was delivered once, by the accounting and by what the hosts saw. */
static void assert_delivered(const char *domain, unsigned n)
{
	char rcpt[100];

	for (unsigned i = 0; i < n; i++) {
		snprintf(rcpt, sizeof(rcpt), "r%u@%s", i, domain);
		cr_assert_eq(world_count_rcpt(&x, 'd', rcpt), 1, "%s", rcpt);
	}
}

Test(providers, one_connection_carries_several_domains)
{
	char domain[32];

	start(PROVIDER "[domain big.rollup]\nmax-smtp-out = 1\n");
	for (unsigned i = 0; i < 20; i++) {
		snprintf(domain, sizeof(domain), "d%u.test", i);
		send_to(domain, 0, 2);
	}
	world_run(&x, MINUTE);
	cr_assert_eq(world_count(&x, 'd'), 40);
	cr_assert_eq(big1.delivered, 40);
	cr_assert_leq(big1.connections, 2);
	cr_assert_eq(big1.peak, 1);
	cr_assert_str_eq(world_nth(&x, 'd', 0)->queue, "big.rollup/a");
	cr_assert_eq(world_left(&x), 0);
	finish();
}

static void feed_two(void *arg ATTR_UNUSED)
{
	static unsigned n;

	send_to(n % 2 ? "one.test" : "two.test", n, 1);
	n++;
}

/* Not even when its hosts are looked up again, once a minute. */
Test(providers, mail_that_comes_one_by_one_needs_no_second_connection)
{
	start(PROVIDER "[domain big.rollup]\nconnection-idle-timeout = 5m\n");
	fake_latency(USEC_PER_SEC / 50);
	for (usec_t at = 0; at < 10 * MINUTE; at += USEC_PER_SEC)
		fake_at(at, feed_two, NULL);
	world_run(&x, 11 * MINUTE);
	cr_assert_eq(world_count(&x, 'd'), 600);
	cr_assert_eq(big1.connections, 1, "%u connections", big1.connections);
	finish();
}

Test(providers, without_one_every_domain_has_its_own_connection)
{
	start("");
	send_to("d1.test", 0, 2);
	send_to("d2.test", 0, 2);
	world_run(&x, MINUTE);
	cr_assert_geq(big1.connections, 2);
	cr_assert_str_eq(world_nth(&x, 'd', 0)->queue, "d1.test/a");
	finish();
}

Test(providers, mail_goes_only_to_hosts_of_its_own_domain)
{
	start(PROVIDER "[domain big.rollup]\nmax-smtp-out = 1\n");
	fake_dns_mx("two.test", BIG2);
	fake_dns_mx("mixed.test", BIG1 "; " BIG2);
	send_to("one.test", 0, 100);
	send_to("two.test", 0, 100);
	world_run(&x, 5 * MINUTE);
	assert_delivered("one.test", 100);
	assert_delivered("two.test", 100);
	cr_assert_eq(big1.delivered, 100);
	cr_assert_eq(big2.delivered, 100);
	cr_assert_leq(big1.peak + big2.peak, 2);
	finish();
}

Test(providers, all_hosts_of_the_lowest_preference_must_belong)
{
	start(PROVIDER "mx-ip = 198.51.100.3/32\n");
	fake_dns_mx("in.test", BIG1 "; 20 mx.other.test 198.51.100.9");
	fake_dns_mx("out.test", BIG1 "; 10 mx.elsewhere.test 198.51.100.1");
	fake_dns_mx("by-ip.test", OTHER);
	fake_dns_mx("half-ip.test", "10 m.x.test 198.51.100.3,198.51.100.1");
	send_to("in.test", 0, 1);
	send_to("out.test", 0, 1);
	send_to("by-ip.test", 0, 1);
	send_to("half-ip.test", 0, 1);
	world_run(&x, MINUTE);
	cr_assert_eq(world_count(&x, 'd'), 4);
	for (size_t i = 0; i < 4; i++) {
		const struct world_record *r = world_nth(&x, 'd', i);
		bool in = strstr(r->rcpt, "@in.test") || strstr(r->rcpt, "@by-ip.test");

		cr_assert_eq(strcmp(r->queue, "big.rollup/a") == 0, in, "%s went through %s",
			     r->rcpt, r->queue);
	}
	finish();
}

Test(providers, what_is_set_for_a_domain_keeps_it_out)
{
	start(PROVIDER "[domain hosts.test]\nsmtp-hosts = [198.51.100.3]\n"
		       "[domain alone.test]\ndisable-mx-rollup = yes\n");
	send_to("hosts.test", 0, 1);
	send_to("alone.test", 0, 1);
	send_to("one.test", 0, 1);
	world_run(&x, MINUTE);
	cr_assert_eq(other.delivered, 1);
	for (size_t i = 0; i < 3; i++) {
		const struct world_record *r = world_nth(&x, 'd', i);

		cr_assert_eq(strcmp(r->queue, "big.rollup/a") == 0,
			     strstr(r->rcpt, "@one.test") != NULL, "%s", r->queue);
	}
	finish();
}

/* --- records that change --- */

static void move_away(void *arg ATTR_UNUSED)
{
	fake_dns_mx("d.test", OTHER);
}

static void move_back(void *arg ATTR_UNUSED)
{
	fake_dns_mx("d.test", BIG1);
}

static void break_dns(void *arg ATTR_UNUSED)
{
	fake_dns_status("d.test", DNS_TEMPFAIL, "SERVFAIL");
}

static unsigned fed;

static void feed(void *arg ATTR_UNUSED)
{
	send_to("d.test", fed++, 1);
}

/* A message every 5 s. */
static void feed_for(usec_t long_)
{
	fed = 0;
	for (usec_t at = 0; at < long_; at += 5 * USEC_PER_SEC)
		fake_at(at, feed, NULL);
}

/* The queue of the first delivery at or after `at`. */
static const char *queue_at(usec_t at)
{
	for (size_t i = 0; i < world_count(&x, 'd'); i++)
		if (world_nth(&x, 'd', i)->at >= at)
			return world_nth(&x, 'd', i)->queue;
	return "none";
}

Test(providers, a_domain_follows_its_records_within_two_lives_of_them)
{
	start(PROVIDER);
	feed_for(20 * MINUTE);
	fake_at(3 * MINUTE, move_away, NULL);
	fake_at(12 * MINUTE, move_back, NULL);
	world_run(&x, 25 * MINUTE);
	assert_delivered("d.test", fed);
	cr_assert_str_eq(queue_at(0), "big.rollup/a");
	cr_assert_str_eq(queue_at(3 * MINUTE + 2 * TTL), "d.test/a");
	cr_assert_str_eq(queue_at(11 * MINUTE), "d.test/a");
	cr_assert_str_eq(queue_at(12 * MINUTE + 2 * TTL), "big.rollup/a");
	cr_assert_eq(big1.delivered + other.delivered, fed, "nothing is sent twice");
	cr_assert_eq(world_left(&x), 0);
	finish();
}

Test(providers, one_different_answer_moves_nothing)
{
	start(PROVIDER);
	feed_for(10 * MINUTE);
	/* a look-up a minute: the one after three minutes sees it, the second look does not */
	fake_at(3 * MINUTE - 10 * USEC_PER_SEC, move_away, NULL);
	fake_at(3 * MINUTE + 15 * USEC_PER_SEC, move_back, NULL);
	world_run(&x, 15 * MINUTE);
	assert_delivered("d.test", fed);
	for (size_t i = 0; i < world_count(&x, 'd'); i++)
		cr_assert_str_eq(world_nth(&x, 'd', i)->queue, "big.rollup/a");
	finish();
}

Test(providers, a_failed_look_up_changes_nothing)
{
	start(PROVIDER "[domain *]\nretry-after-dns-error = 10s\n");
	feed_for(10 * MINUTE);
	fake_at(3 * MINUTE, break_dns, NULL);
	fake_at(8 * MINUTE, move_back, NULL);
	world_run(&x, 15 * MINUTE);
	assert_delivered("d.test", fed);
	for (size_t i = 0; i < world_count(&x, 'd'); i++)
		cr_assert_str_eq(world_nth(&x, 'd', i)->queue, "big.rollup/a");
	finish();
}

Test(providers, what_a_domain_belonged_to_is_known_after_a_restart)
{
	start(PROVIDER "[domain *]\nretry-after-dns-error = 10s\n");
	send_to("d.test", 0, 1);
	world_run(&x, MINUTE);
	break_dns(NULL);
	send_to("d.test", 1, 1);
	fake_at(5 * MINUTE, move_back, NULL);
	world_run(&x, 10 * MINUTE);
	cr_assert_eq(world_count(&x, 'd'), 2);
	cr_assert_str_eq(world_nth(&x, 'd', 1)->queue, "big.rollup/a");
	finish();
}

Test(providers, a_reload_moves_at_once)
{
	start(PROVIDER);
	send_to("d.test", 0, 1);
	world_run(&x, MINUTE);
	world_reload(&x, "");
	send_to("d.test", 1, 1);
	world_run(&x, 2 * MINUTE);
	world_reload(&x, "[provider large]\ndomains = d.test\n");
	send_to("d.test", 2, 1);
	world_run(&x, 3 * MINUTE);
	cr_assert_str_eq(world_nth(&x, 'd', 0)->queue, "big.rollup/a");
	cr_assert_str_eq(world_nth(&x, 'd', 1)->queue, "d.test/a");
	cr_assert_str_eq(world_nth(&x, 'd', 2)->queue, "large.rollup/a");
	finish();
}

/* --- one site, but not one fate --- */

Test(providers, demands_on_tls_are_kept_apart)
{
	start(PROVIDER "[domain tls.test]\nrequire-starttls = yes\nbounce-after = 1h\n"
		       "[domain big.rollup]\nmax-smtp-out = 1\n");
	send_to("tls.test", 0, 3);
	send_to("one.test", 0, 20);
	world_run(&x, 30 * MINUTE);
	assert_delivered("one.test", 20);
	cr_assert_eq(big1.delivered, 20, "nothing in clear that must not be");
	world_run(&x, 3 * HOUR);
	cr_assert_eq(world_count(&x, 'b'), 3);
	finish();
}

Test(providers, a_dead_host_of_one_domain_holds_no_other)
{
	start(PROVIDER "[domain *]\nretry-after = 10m\n");
	fake_dns_mx("dead.test", "10 gone.big.test 198.51.100.77");
	send_to("dead.test", 0, 3);
	fake_at(0, feed, NULL);
	feed_for(5 * MINUTE);
	fake_dns_mx("d.test", BIG1);
	world_run(&x, 6 * MINUTE);
	assert_delivered("d.test", fed);
	for (size_t i = 0; i < world_count(&x, 'd'); i++)
		cr_assert_lt(world_nth(&x, 'd', i)->at, 5 * MINUTE);
	cr_assert_eq(world_left(&x), 3);
	cr_assert_str_eq(world_nth(&x, 'q', 0)->queue, "dead.test/a");
	finish();
}

static const char *closed(struct mx *m ATTR_UNUSED, enum mx_event what, unsigned c ATTR_UNUSED,
			  const char *line ATTR_UNUSED)
{
	return what == MX_OPEN ? "421 4.3.2 not now" : NULL;
}

static void open_again(void *arg ATTR_UNUSED)
{
	big1.answer = NULL;
}

Test(providers, hosts_that_are_all_down_are_one_failure)
{
	start(PROVIDER "[domain *]\nretry-after = 10m\n");
	big1.answer = closed;
	fake_at(5 * MINUTE, open_again, NULL);
	send_to("one.test", 0, 3);
	send_to("two.test", 0, 3);
	world_run(&x, 20 * MINUTE);
	cr_assert_eq(world_count(&x, 'q'), 1);
	cr_assert_str_eq(world_nth(&x, 'q', 0)->queue, "big.rollup/a");
	assert_delivered("one.test", 3);
	assert_delivered("two.test", 3);
	cr_assert_geq(world_nth(&x, 'd', 0)->at, 10 * MINUTE);
	finish();
}

/* A pattern about DNS changes no mode, neither that of the provider nor one that nobody would see. */
Test(providers, what_dns_says_of_one_domain_changes_no_mode)
{
	struct spool_site row;
	struct spool_read *r;

	start("[provider big]\ndomains = one.test, d.test\n[smtp-pattern-list dns]\n"
	      "reply = /DNS tempfail/ mode=backoff\n[domain *]\nsmtp-pattern-list = dns\n");
	break_dns(NULL);
	send_to("d.test", 0, 1);
	send_to("one.test", 0, 1);
	world_run(&x, MINUTE);
	assert_delivered("one.test", 1);
	cr_assert_eq(spool_read_begin(x.spool, &r), 0);
	cr_assert_eq(spool_site_get(r, 1, slice_str("d.test"), &row), 0);
	cr_assert_eq(row.mode.mode, SITE_NORMAL);
	cr_assert_neq(row.retry_at, 0);
	spool_read_end(r);
	finish();
}

#define BOTH "[provider big]\ndomains = one.test, two.test\n"

static void reload_unreadable(void *arg ATTR_UNUSED)
{
	x.fail_reads = true;
	world_reload(&x, BOTH);
}

static void readable_again(void *arg ATTR_UNUSED)
{
	x.fail_reads = false;
}

/* A site that is waiting goes on waiting although what is known of it cannot be read at first. */
Test(providers, mail_waits_until_the_row_of_its_site_can_be_read)
{
	start(BOTH "[domain *]\nretry-after = 2h\n");
	big1.answer = closed;
	send_to("one.test", 0, 1);
	world_run(&x, MINUTE);
	cr_assert_eq(world_count(&x, 'q'), 1);
	big1.answer = NULL;
	world_reload(&x, "[domain *]\nmax-msg-rate = 1/10m\n");
	fake_latency(20 * USEC_PER_MSEC); /* it is read again before the first message is */
	send_to("two.test", 0, 3);
	fake_at(2 * MINUTE, reload_unreadable, NULL);
	fake_at(2 * MINUTE + 5 * USEC_PER_MSEC, readable_again, NULL);
	world_run(&x, 3 * HOUR);
	assert_delivered("one.test", 1);
	assert_delivered("two.test", 3);
	cr_assert_geq(world_nth(&x, 'd', 0)->at, 2 * HOUR);
	cr_assert_eq(world_left(&x), 0);
	finish();
}

static unsigned open_for_one, peak_for_one;

/* Counts transactions for one.test that are under way. */
static const char *slow(struct mx *m ATTR_UNUSED, enum mx_event what, unsigned c ATTR_UNUSED,
			const char *line)
{
	if (what == MX_RCPT && strstr(line, "@one.test") && ++open_for_one > peak_for_one)
		peak_for_one = open_for_one;
	if (what == MX_DONE && open_for_one)
		open_for_one--;
	return NULL;
}

Test(providers, a_cap_set_for_a_domain_holds_inside_the_site)
{
	start(PROVIDER "[domain one.test]\nmax-smtp-out = 1\n"
		       "[domain big.rollup]\nmax-smtp-out = 5\n");
	fake_latency(50 * USEC_PER_MSEC);
	big1.answer = slow;
	open_for_one = peak_for_one = 0;
	send_to("one.test", 0, 30);
	world_run(&x, MINUTE);
	fake_latency(USEC_PER_MSEC);
	assert_delivered("one.test", 30);
	cr_assert_eq(peak_for_one, 1);
	cr_assert_eq(big1.peak, 1);
	finish();
}

Test(providers, a_pause_of_the_site_holds_its_domains)
{
	start(PROVIDER);
	send_to("one.test", 0, 1);
	world_order_at(&x, 10 * USEC_PER_SEC, ORDER_PAUSE, "big.rollup/*", false);
	world_run(&x, MINUTE);
	cr_assert_eq(world_count(&x, 'd'), 1);
	send_to("one.test", 1, 1);
	send_to("new.test", 0, 1);
	fake_dns_mx("free.test", OTHER);
	send_to("free.test", 0, 1);
	world_run(&x, 2 * MINUTE);
	cr_assert_eq(world_count(&x, 'd'), 2);
	cr_assert_eq(other.delivered, 1);
	world_order_at(&x, 2 * MINUTE + 1, ORDER_RESUME, "big.rollup/*", false);
	world_run(&x, 20 * MINUTE);
	cr_assert_eq(world_count(&x, 'd'), 4);
	finish();
}

#define MANY "a@one.test b@one.test c@two.test d@three.test e@other.test f@held.test g@capped.test"

static void send_many(void *arg ATTR_UNUSED)
{
	world_send(&x, "s@sender.test", MANY);
}

/* What a domain is held by for itself keeps it apart; so do other hosts. */
Test(providers, one_transaction_takes_all_recipients_of_a_message_at_the_site)
{
	static const char *const known[] = {"one.test", "two.test", "three.test", "held.test",
					    "capped.test"};
	size_t mails, rcpts;

	start(PROVIDER
	      "[domain big.rollup]\nmax-smtp-out = 3\n[domain capped.test]\nmax-smtp-out = 1\n");
	fake_dns_mx("other.test", OTHER);
	for (size_t i = 0; i < ARRAY_SIZE(known); i++)
		send_to(known[i], 0, 1);
	world_order_at(&x, 20 * USEC_PER_SEC, ORDER_PAUSE, "held.test/a", false);
	fake_at(30 * USEC_PER_SEC, send_many, NULL);
	world_run(&x, 25 * USEC_PER_SEC);
	mails = mx_count(&big1, MX_MAIL);
	rcpts = mx_count(&big1, MX_RCPT);
	cr_assert_eq(rcpts, 5);
	world_run(&x, 50 * USEC_PER_SEC);
	cr_expect_eq(mx_count(&big1, MX_MAIL) - mails, 2,
		     "one, and one for what has a cap of its own");
	cr_expect_eq(mx_count(&big1, MX_RCPT) - rcpts, 5);
	cr_expect_eq(mx_count(&other, MX_RCPT), 1);
	cr_assert_eq(world_count(&x, 'd'), 5 + 6);
	cr_expect_str_eq(world_nth(&x, 'd', 5)->queue, "big.rollup/a");
	cr_assert_eq(world_left(&x), 1, "of the paused one");
	finish();
}

/* Also those whose numbers are high, when the first have gone and are no more in hand. */
Test(providers, a_message_with_many_recipients_goes_in_as_few_transactions_as_may_be)
{
	char to[1000] = "", domain[32];
	size_t mails, n = 0;

	start(PROVIDER "[domain big.rollup]\nmax-smtp-out = 1\nmax-rcpt-per-message = 10\n");
	for (unsigned i = 0; i < 10; i++) {
		snprintf(domain, sizeof(domain), "d%u.test", i);
		send_to(domain, 0, 1);
		n += (size_t)snprintf(to + n, sizeof(to) - n, "%sa@%s b@%s c@%s", i ? " " : "",
				      domain, domain, domain);
	}
	world_run(&x, 20 * USEC_PER_SEC);
	mails = mx_count(&big1, MX_MAIL);
	world_send(&x, "s@sender.test", to);
	world_run(&x, 50 * USEC_PER_SEC);
	cr_assert_eq(world_count(&x, 'd'), 10 + 30);
	cr_expect_eq(mx_count(&big1, MX_MAIL) - mails, 3);
	finish();
}

/* Each recipient has its own fate and its own retry. */
static const char *refuse_some(struct mx *m ATTR_UNUSED, enum mx_event what, unsigned c ATTR_UNUSED,
			       const char *line)
{
	if (what == MX_RCPT && strstr(line, "c@two.test"))
		return "550 5.1.1 nobody here";
	if (what == MX_RCPT && strstr(line, "d@three.test"))
		return "450 4.2.0 later";
	return NULL;
}

Test(providers, recipients_of_several_domains_in_one_transaction_have_their_own_outcomes)
{
	start(PROVIDER "[domain big.rollup]\nretry-after = 10m\n");
	send_to("one.test", 0, 1);
	send_to("two.test", 0, 1);
	send_to("three.test", 0, 1);
	world_run(&x, 10 * USEC_PER_SEC);
	big1.answer = refuse_some;
	world_send(&x, "s@sender.test", "a@one.test c@two.test d@three.test");
	world_run(&x, MINUTE);
	cr_assert_eq(mx_count(&big1, MX_MAIL), 3 + 1);
	cr_assert_eq(world_count_rcpt(&x, 'd', "a@one.test"), 1);
	cr_assert_eq(world_count_rcpt(&x, 'b', "c@two.test"), 1);
	cr_assert_eq(world_count_rcpt(&x, 't', "d@three.test"), 1);
	big1.answer = NULL;
	world_run(&x, 15 * MINUTE);
	cr_assert_eq(world_count_rcpt(&x, 'd', "d@three.test"), 1);
	finish();
}

Test(providers, mail_in_a_paused_queue_expires_as_the_provider_says)
{
	start(PROVIDER "[domain *]\nbounce-after = 2d\n[domain big.rollup]\nbounce-after = 1h\n");
	send_to("one.test", 0, 1);
	world_order_at(&x, 10 * USEC_PER_SEC, ORDER_PAUSE, "one.test/*", false);
	world_run(&x, MINUTE);
	send_to("one.test", 1, 1);
	world_run(&x, 30 * MINUTE);
	cr_assert_eq(world_count(&x, 'b'), 0);
	world_run(&x, 3 * HOUR);
	cr_assert_eq(world_count_rcpt(&x, 'b', "r1@one.test"), 1);
	cr_assert_eq(world_left(&x), 0);
	finish();
}

/* --- bounce-queue --- */

static const char *says_later(struct mx *m ATTR_UNUSED, enum mx_event what,
			      unsigned connection ATTR_UNUSED, const char *line ATTR_UNUSED)
{
	return what == MX_RCPT ? "450 4.2.1 later" : NULL;
}

static const char *says_never(struct mx *m, enum mx_event what, unsigned connection ATTR_UNUSED,
			      const char *line ATTR_UNUSED)
{
	return what == MX_RCPT && mx_count(m, MX_MAIL) ? "550 5.7.1 never" : NULL;
}

/* Domains whose mail waits for a retry, and which no worker has in memory any more. */
static void bounce_all(bool kill, unsigned domains)
{
	char domain[32];

	start(PROVIDER "[provider else]\nmx = *.other.test\n[domain *]\nretry-after = 1h\n"
		       "smtp-pattern-list = l\n[domain alone.test]\ndisable-mx-rollup = yes\n"
		       "[smtp-pattern-list l]\nreply = /never/ bounce-queue\n");
	big1.answer = other.answer = says_later;
	fake_dns_mx("elsewhere.test", OTHER);
	for (unsigned i = 0; i < domains; i++) {
		snprintf(domain, sizeof(domain), "d%u.test", i);
		send_to(domain, 0, 3);
	}
	send_to("alone.test", 0, 3);
	send_to("elsewhere.test", 0, 3);
	world_run(&x, 2 * MINUTE);
	cr_assert_eq(world_count(&x, 't'), 3 * domains + 6);
	if (kill)
		world_run_and_kill(&x, 3 * MINUTE);
	big1.answer = says_never;
	send_to("one.test", 0, 1);
	world_run(&x, 4 * MINUTE);
	cr_assert_eq(world_count(&x, 'b'), 3 * domains + 1, "%zu", world_count(&x, 'b'));
	cr_assert_eq(world_left(&x), 6, "of another provider, of a site of its own");
	finish();
}

Test(providers, bounce_queue_is_of_domains_whose_mail_only_waits_too)
{
	bounce_all(false, 5);
	bounce_all(true, 300);
}
