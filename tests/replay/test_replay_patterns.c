/* links: common/base common/conf common/spool common/shm common/ipc common/smtp common/mail common/acct common/dns/route.c common/dns/wire.c spooler/commit.c spooler/commit_*.c spooler/dsn_row.c worker -worker/resolver.c -worker/resolver_main.c -worker/resolver_packet.c -worker/resolver_record.c -worker/resolver_route.c -worker/resolver_server.c -worker/resolver_upstream.c tests/replay/world.c tests/replay/mx.c tests/replay/fake_loop.c tests/replay/fake_stream.c tests/replay/fake_dns.c */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/xalloc.h"
#include "tests/replay/mx.h"
#include "tests/replay/world.h"

#define DOMAIN "[domain *]\nretry-after = 10m\nsmtp-pattern-list = list\nmax-smtp-out = 1\n"
#define MX1 "198.51.100.1"
#define MX2 "198.51.100.2"

static struct world x;
static struct mx mx1, mx2;

/* Two mail hosts of one domain, mx2 only when mx1 will not do. */
static void start(const char *lines, const char *more)
{
	char *conf = xasprintf("[smtp-pattern-list list]\n%s\n" DOMAIN "%s\n", lines, more);

	memset(&mx1, 0, sizeof(mx1));
	memset(&mx2, 0, sizeof(mx2));
	world_new(&x, conf);
	free(conf);
	mx_listen(&mx1, MX1, WORLD_PORT);
	mx_listen(&mx2, MX2, WORLD_PORT);
	fake_dns_mx("x.test", "10 mx1.x.test " MX1 "; 20 mx2.x.test " MX2);
}

/* The same without PIPELINING, and with STARTTLS that both hosts offer. */
static void offer(const char *extensions)
{
	mx1.extensions = mx2.extensions = extensions;
}

static void finish(void)
{
	world_check(&x);
	world_free(&x);
	mx_done(&mx1);
	mx_done(&mx2);
}

/* mx1 says this at one point, for so many times; the second recipient is never refused. */
static enum mx_event at_event;
static const char *reply;
static unsigned times;

static const char *refuse(struct mx *m ATTR_UNUSED, enum mx_event what, unsigned c ATTR_UNUSED,
			  const char *line)
{
	if (what != at_event || !times || strstr(line, "good@"))
		return NULL;
	times--;
	return reply;
}

static void refuses(struct mx *m, enum mx_event what, const char *text, unsigned how_often)
{
	at_event = what;
	reply = text;
	times = how_often;
	m->answer = refuse;
}

static const struct {
	enum mx_event what;
	const char *name;
	bool whole; /* refuses all of a message, not one recipient */
} phases[] = {
	{MX_OPEN, "greeting", true}, {MX_EHLO, "EHLO", true}, {MX_MAIL, "MAIL", true},
	{MX_RCPT, "RCPT", false},    {MX_DATA, "DATA", true}, {MX_DONE, "dot", true},
};

static const char *const offers[] = {"PIPELINING 8BITMIME SIZE DSN", "SIZE"};

/* --- skip-mx --- */

Test(patterns, skip_mx_goes_to_the_next_host_at_once_in_every_phase)
{
	static const char *const replies[] = {"450 4.3.2 go elsewhere", "550 5.3.2 go elsewhere",
					      "421 4.3.2 go elsewhere"};

	for (size_t i = 0; i < ARRAY_SIZE(phases); i++)
		for (size_t k = 0; k < 2 * ARRAY_SIZE(replies); k++) {
			const char *text = replies[k / 2];

			start("reply = /go elsewhere/ skip-mx", "");
			offer(offers[k % 2]);
			refuses(&mx1, phases[i].what, text, 100);
			world_send(&x, "s@sender.test", "a@x.test");
			world_run(&x, 30 * USEC_PER_SEC);
			cr_expect_eq(world_count(&x, 'd'), 1, "%s %s", phases[i].name, text);
			cr_expect_eq(mx2.delivered, 1, "%s %s", phases[i].name, text);
			cr_expect_eq(world_count(&x, 't') + world_count(&x, 'b') +
					     world_count(&x, 'q'),
				     0, "%s %s: untouched", phases[i].name, text);
			finish();
		}
}

Test(patterns, skip_mx_of_one_recipient_leaves_the_others_alone)
{
	start("reply = /elsewhere/ skip-mx", "");
	refuses(&mx1, MX_RCPT, "550 5.1.1 elsewhere", 100);
	world_send(&x, "s@sender.test", "bad@x.test good@x.test worse@x.test");
	world_run(&x, 30 * USEC_PER_SEC);
	cr_assert_eq(mx1.delivered, 1);
	cr_assert_eq(mx2.delivered, 2);
	cr_assert_eq(world_count(&x, 'd'), 3);
	finish();
}

Test(patterns, mail_that_every_host_sends_on_waits)
{
	start("reply = /elsewhere/ skip-mx", "");
	refuses(&mx1, MX_MAIL, "550 5.3.2 elsewhere", 100);
	mx2.answer = refuse;
	world_send(&x, "s@sender.test", "a@x.test");
	world_run(&x, 9 * MINUTE);
	cr_assert_eq(mx1.transactions, 1);
	cr_assert_eq(mx2.transactions, 1);
	cr_assert_eq(world_count(&x, 'q'), 1);
	cr_assert_eq(world_count(&x, 'b'), 0);
	world_run(&x, 11 * MINUTE);
	cr_assert_eq(mx1.transactions, 2, "after the retry time both are asked again");
	cr_assert_eq(mx2.transactions, 2);
	finish();
}

Test(patterns, a_421_means_the_next_host_where_told)
{
	for (size_t i = 0; i < ARRAY_SIZE(phases); i++) {
		start("", "smtp-421-means-mx-unavailable = yes\n");
		refuses(&mx1, phases[i].what, "421 4.3.2 shutting down", 100);
		world_send(&x, "s@sender.test", "a@x.test");
		world_run(&x, 30 * USEC_PER_SEC);
		cr_expect_eq(mx2.delivered, 1, "%s", phases[i].name);
		cr_expect_eq(world_count(&x, 't'), 0, "%s", phases[i].name);
		finish();
	}
	start("", "");
	refuses(&mx1, MX_DONE, "421 4.3.2 shutting down", 100);
	world_send(&x, "s@sender.test", "a@x.test");
	world_run(&x, 30 * USEC_PER_SEC);
	cr_expect_eq(mx2.connections, 0, "by default only its connection is over");
	cr_expect_eq(world_count(&x, 't'), 1);
	finish();
}

/* --- defer-queue --- */

Test(patterns, defer_queue_makes_the_site_wait_in_every_phase)
{
	static const char *const replies[] = {"450 4.7.0 slow down", "550 5.7.0 slow down",
					      "421 4.7.0 slow down"};

	for (size_t i = 0; i < ARRAY_SIZE(phases); i++)
		for (size_t k = 0; k < 2 * ARRAY_SIZE(replies); k++) {
			const char *text = replies[k / 2];

			start("reply = /slow down/ defer-queue=25m", "");
			offer(offers[k % 2]);
			refuses(&mx1, phases[i].what, text, 1);
			world_send(&x, "s@sender.test", "a@x.test");
			world_run(&x, 24 * MINUTE);
			cr_expect_eq(mx1.connections, 1, "%s %s", phases[i].name, text);
			cr_expect_eq(mx2.connections, 0, "%s %s", phases[i].name, text);
			cr_expect_eq(world_count(&x, 'q'), 1, "%s %s", phases[i].name, text);
			cr_expect_str_eq(world_nth(&x, 'q', 0)->text, text);
			cr_expect_eq(world_count(&x, 't') + world_count(&x, 'b'), 0,
				     "%s %s: the recipient has not failed", phases[i].name, text);
			world_run(&x, 26 * MINUTE);
			cr_expect_eq(world_count(&x, 'd'), 1, "%s %s", phases[i].name, text);
			finish();
		}
}

Test(patterns, defer_queue_without_a_time_climbs_the_ladder_once_for_all_connections)
{
	start("reply = /slow down/ defer-queue", "max-smtp-out = 5\nretry-after = 5m,20m\n");
	refuses(&mx1, MX_MAIL, "450 4.7.0 slow down", 100);
	for (int i = 0; i < 20; i++)
		world_send(&x, "s@sender.test", "a@x.test");
	world_run(&x, 4 * MINUTE);
	cr_assert_eq(world_count(&x, 'q'), 1, "%zu failures", world_count(&x, 'q'));
	world_run(&x, 6 * MINUTE);
	cr_assert_eq(world_count(&x, 'q'), 2, "after 5 m");
	world_run(&x, 24 * MINUTE);
	cr_assert_eq(world_count(&x, 'q'), 2);
	times = 0;
	world_run(&x, 26 * MINUTE);
	cr_assert_eq(world_count(&x, 'd'), 20, "20 m later");
	cr_assert_eq(world_nth(&x, 'd', 0)->attempt, 1);
	finish();
}

Test(patterns, a_delivery_under_way_does_not_end_a_deferral)
{
	start("reply = /slow down/ defer-queue=20m", "");
	refuses(&mx1, MX_RCPT, "450 4.7.0 slow down", 1);
	world_send(&x, "s@sender.test", "bad@x.test good@x.test");
	world_run(&x, 19 * MINUTE);
	cr_assert_eq(world_count_rcpt(&x, 'd', "good@x.test"), 1);
	cr_assert_eq(mx1.connections, 1);
	world_run(&x, 21 * MINUTE);
	cr_assert_eq(world_count_rcpt(&x, 'd', "bad@x.test"), 1);
	finish();
}

/* --- bounce-rcpt and retry-rcpt --- */

Test(patterns, a_4xx_to_rcpt_bounces_at_once_where_told)
{
	const struct world_record *b;

	start("reply = /^452 4\\.2\\.2 / bounce-rcpt", "");
	refuses(&mx1, MX_RCPT, "452 4.2.2 over quota", 100);
	world_send(&x, "s@sender.test", "good@x.test bad@x.test worse@x.test");
	world_run(&x, HOUR);
	cr_assert_eq(world_count(&x, 'd'), 1);
	cr_assert_eq(world_count(&x, 'b'), 2);
	cr_assert_eq(world_count(&x, 't'), 0);
	cr_assert_eq(mx_count(&mx1, MX_RCPT), 3, "no second attempt");
	b = world_nth(&x, 'b', 0);
	cr_assert_str_eq(b->text, "452 4.2.2 over quota (bounce-rcpt by pattern list list)");
	cr_assert_eq(b->code, 452);
	cr_assert_eq(memcmp(b->enhanced, "\4\2\2", 3), 0);
	finish();
}

Test(patterns, bounce_rcpt_has_its_meaning_only_at_rcpt)
{
	for (size_t i = 0; i < ARRAY_SIZE(phases); i++) {
		if (phases[i].what == MX_RCPT)
			continue;
		start("reply = /over quota/ bounce-rcpt", "");
		refuses(&mx1, phases[i].what, "452 4.2.2 over quota", 1);
		world_send(&x, "s@sender.test", "a@x.test");
		world_run(&x, HOUR);
		cr_expect_eq(world_count(&x, 'b'), 0, "%s", phases[i].name);
		cr_expect_eq(world_count(&x, 'd'), 1, "%s", phases[i].name);
		finish();
	}
}

Test(patterns, a_421_to_rcpt_bounces_that_recipient_and_no_other)
{
	start("reply = /^421 4\\.2\\.2 / bounce-rcpt", "");
	refuses(&mx1, MX_RCPT, "421 4.2.2 over quota", 1);
	world_send(&x, "s@sender.test", "bad@x.test good@x.test");
	world_run(&x, HOUR);
	cr_assert_eq(world_count_rcpt(&x, 'b', "bad@x.test"), 1);
	cr_assert_eq(world_count_rcpt(&x, 'd', "good@x.test"), 1);
	finish();
}

Test(patterns, a_5xx_is_tried_again_where_told)
{
	for (size_t i = 0; i < ARRAY_SIZE(phases); i++) {
		start("reply = /block list/ retry-rcpt", "");
		refuses(&mx1, phases[i].what, "550 5.7.1 on our block list (S3140)", 1);
		mx2.answer = refuse;
		world_send(&x, "s@sender.test", "a@x.test");
		world_run(&x, 30 * MINUTE);
		cr_expect_eq(world_count(&x, 'b'), 0, "%s", phases[i].name);
		cr_expect_eq(world_count(&x, 'd'), 1, "%s", phases[i].name);
		if (i >= 2) { /* of a connection that was ready */
			cr_expect_eq(world_count(&x, 't'), 1, "%s", phases[i].name);
			cr_expect_eq(world_nth(&x, 't', 0)->enhanced[0], 4, "%s", phases[i].name);
		}
		finish();
	}
}

/* --- bounce-queue --- */

Test(patterns, bounce_queue_bounces_all_that_the_queue_has)
{
	size_t n;

	for (size_t i = 0; i < ARRAY_SIZE(phases); i++) {
		start("reply = /permanently deferred/ bounce-queue", "");
		fake_dns_mx("y.test", "10 mx.y.test " MX2);
		refuses(&mx1, MX_RCPT, "450 4.2.1 later", 30);
		for (int k = 0; k < 30; k++) /* these are deferred when the reply comes */
			world_send(&x, "s@sender.test", "a@x.test");
		world_run(&x, MINUTE);
		cr_expect_eq(n = world_count(&x, 't'), 30, "%zu", n);
		refuses(&mx1, phases[i].what, "421 4.7.0 permanently deferred", 1);
		for (int k = 0; k < 300; k++)
			world_send(&x, "s@sender.test", "b@x.test");
		world_send(&x, "s@sender.test", "c@y.test");
		world_run(&x, 2 * MINUTE);
		cr_expect_eq(world_count_rcpt(&x, 'd', "c@y.test"), 1, "others go on");
		cr_expect_eq(n = world_count(&x, 'b'), 330, "%s: %zu", phases[i].name, n);
		cr_expect_eq(mx1.delivered, 0, "%s", phases[i].name);
		cr_expect_not_null(strstr(world_nth(&x, 'b', 0)->text,
					  "permanently deferred (bounce-queue by pattern list"));
		world_send(&x, "s@sender.test", "later@x.test");
		world_run(&x, 3 * MINUTE);
		cr_expect_eq(world_count_rcpt(&x, 'd', "later@x.test"), 1,
			     "%s: what comes later is not meant", phases[i].name);
		finish();
	}
}

Test(patterns, a_look_up_that_fails_can_bounce_the_queue)
{
	start("reply = /^local: DNS .*refused by policy/ bounce-queue", "");
	fake_dns_status("gone.test", DNS_TEMPFAIL, "refused by policy");
	world_send(&x, "s@sender.test", "a@gone.test b@gone.test c@x.test");
	world_run(&x, MINUTE);
	cr_assert_eq(world_count_rcpt(&x, 'b', "a@gone.test"), 1);
	cr_assert_eq(world_count_rcpt(&x, 'b', "b@gone.test"), 1);
	cr_assert_eq(world_count_rcpt(&x, 'd', "c@x.test"), 1);
	finish();
}

/* --- TLS --- */

Test(patterns, a_refused_starttls_counts_where_a_line_says_so)
{
	static const struct {
		const char *lines, *more;
		unsigned mx1, mx2;
		size_t q;
	} cases[] = {
		{"", "", 1, 0, 0}, /* in clear */
		{"reply = /not now/ mode=backoff", "", 1, 0, 0},
		{"reply = /not now/ skip-mx", "", 0, 1, 0},
		{"reply = /not now/ skip-mx", "require-starttls = yes\n", 0, 1, 0},
		{"reply = /not now/ defer-queue=1h", "", 0, 0, 1},
		{"reply = /^local: TLS is required/ defer-queue=1h", "require-starttls = yes\n", 0,
		 0, 1},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		start(cases[i].lines, cases[i].more);
		offer("PIPELINING STARTTLS");
		refuses(&mx1, MX_STARTTLS, "454 4.7.0 TLS not now", 100);
		world_send(&x, "s@sender.test", "a@x.test");
		world_run(&x, 30 * MINUTE);
		cr_expect_eq(mx1.delivered, cases[i].mx1, "%zu", i);
		cr_expect_eq(mx2.delivered, cases[i].mx2, "%zu", i);
		cr_expect_eq(world_count(&x, 'q'), cases[i].q, "%zu", i);
		finish();
	}
}

/* --- sources and modes --- */

static const char *blocks_first_source(struct mx *m ATTR_UNUSED, enum mx_event what,
				       unsigned c ATTR_UNUSED, const char *line ATTR_UNUSED)
{
	/* the first source has odd numbers of connections as long as both are used */
	if (what == at_event && c == 1)
		return "550 5.7.1 part of their network is on our block list (S3140)";
	return NULL;
}

#define TWO_SOURCES "[virtual-mta a]\nsmtp-source-host = 192.0.2.2 a2.sluice.test\n"

Test(patterns, a_disabled_source_bounces_nothing_and_the_other_goes_on)
{
	static const char *const lines[] = {"reply = /S3140/ disable-source-ip,reenable-after=1h",
					    "reply = /S3140/ disable-source-ip,retry-rcpt"};
	size_t n;

	for (size_t k = 0; k < ARRAY_SIZE(lines); k++)
		for (size_t i = 0; i < ARRAY_SIZE(phases); i++) {
			start(lines[k], TWO_SOURCES);
			at_event = phases[i].what;
			mx1.answer = blocks_first_source;
			for (int m = 0; m < 20; m++)
				world_send(&x, "s@sender.test", "a@x.test");
			world_run(&x, 50 * MINUTE);
			cr_expect_eq(world_count(&x, 'b'), 0, "%s", phases[i].name);
			cr_expect_eq(n = world_count(&x, 'd'), 20, "%s: %zu delivered",
				     phases[i].name, n);
			cr_expect_eq(mx2.connections, 0, "%s: the host is not to blame",
				     phases[i].name);
			finish();
		}
}

Test(patterns, a_source_comes_back_after_its_time)
{
	start("reply = /S3140/ disable-source-ip, reenable-after=20m", "");
	refuses(&mx1, MX_RCPT, "550 5.7.1 block list (S3140)", 1);
	world_send(&x, "s@sender.test", "a@x.test");
	world_run(&x, 19 * MINUTE);
	cr_assert_eq(mx1.connections + mx2.connections, 1);
	world_run(&x, HOUR);
	cr_assert_eq(world_count(&x, 'd'), 1);
	finish();
}

Test(patterns, blocked_sources_bounce_none_of_many)
{
	start("reply = /S3140/ disable-source-ip, retry-rcpt", "");
	refuses(&mx1, MX_RCPT, "550 5.7.1 block list (S3140)", 1000000);
	mx2.answer = refuse;
	for (int i = 0; i < 100; i++)
		world_send(&x, "s@sender.test",
			   "a@x.test b@x.test c@x.test d@x.test e@x.test f@x.test g@x.test "
			   "h@x.test i@x.test j@x.test");
	world_run(&x, 3 * HOUR);
	cr_assert_eq(world_count(&x, 'b'), 0);
	cr_assert_eq(world_left(&x), 1000);
	cr_assert_lt(mx1.transactions + mx2.transactions, 5, "the only source is disabled");
	finish();
}

static const char *slow_then_fine(struct mx *m ATTR_UNUSED, enum mx_event what,
				  unsigned c ATTR_UNUSED, const char *line ATTR_UNUSED)
{
	if (what != MX_RCPT)
		return NULL;
	return fake_elapsed() < 5 * MINUTE ? "451 4.7.0 temporarily deferred" : "250 2.1.5 welcome";
}

/* A mode shows in what belongs to it: the retry times. */
Test(patterns, modes_come_and_go_with_replies)
{
	start("reply = /temporarily deferred/ mode=backoff\nreply = /welcome/ mode=normal",
	      "backoff-retry-after = 7m\nretry-recipients-after = 1s\n");
	mx1.answer = slow_then_fine;
	world_send(&x, "s@sender.test", "a@x.test");
	world_run(&x, 8 * MINUTE);
	cr_assert_eq(mx_count(&mx1, MX_RCPT), 2);
	cr_assert_geq(mx_nth(&mx1, MX_RCPT, 1)->at, 7 * MINUTE);
	cr_assert_eq(world_count(&x, 'd'), 1);
	refuses(&mx1, MX_RCPT, "450 4.2.0 greylisted", 1);
	world_send(&x, "s@sender.test", "b@x.test");
	world_run(&x, 17 * MINUTE);
	cr_assert_eq(world_count(&x, 'd'), 1, "10 m again, not 7");
	world_run(&x, 19 * MINUTE);
	cr_assert_eq(world_count(&x, 'd'), 2);
	finish();
}

/* --- our own texts --- */

Test(patterns, own_texts_match_with_local_in_front)
{
	start("reply = /^local: .*refused/ defer-queue=40m", "");
	fake_host(MX1, WORLD_PORT, FAKE_REFUSING, NULL, NULL);
	world_send(&x, "s@sender.test", "a@x.test");
	world_run(&x, 39 * MINUTE);
	cr_assert_eq(mx2.connections, 0, "deferred, not tried elsewhere");
	cr_assert_eq(world_count(&x, 'q'), 1);
	finish();
	start("reply = /^local: DNS .*SERVFAIL/ defer-queue=40m", "retry-after-dns-error = 1m\n");
	fake_dns_status("servfail.test", DNS_TEMPFAIL, "SERVFAIL from 127.0.0.53:53");
	world_send(&x, "s@sender.test", "a@servfail.test");
	world_run(&x, 39 * MINUTE);
	cr_assert_eq(world_count(&x, 'q'), 1);
	finish();
	start("reply = /^local: .*null MX/ retry-rcpt\nreply = /^local: .*closed/ skip-mx", "");
	fake_dns_status("null.test", DNS_NULL_MX, "");
	refuses(&mx1, MX_RCPT, "", 1);
	world_send(&x, "s@sender.test", "a@null.test a@x.test");
	world_run(&x, HOUR);
	cr_assert_eq(world_count(&x, 'b'), 0, "a null MX is not final where told");
	cr_assert_eq(mx2.delivered, 1, "a lost connection sends the mail on");
	finish();
}

/* A receiver that hangs up two seconds after a message. */
static void idle_open(struct fake_peer *p, void *arg ATTR_UNUSED)
{
	fake_peer_send(p, "220 mx.test\r\n");
}

static void idle_data(struct fake_peer *p, struct slice data, void *arg)
{
	unsigned *connections = arg;

	if (slice_istarts(data, "EHLO")) {
		++*connections;
		fake_peer_send(p, "250 mx.test\r\n");
	} else if (slice_istarts(data, "DATA")) {
		fake_peer_send(p, "354 go\r\n");
	} else if (slice_istarts(data, "MAIL") || slice_istarts(data, "RCPT")) {
		fake_peer_send(p, "250 ok\r\n");
	} else {
		fake_peer_send(p, "250 queued\r\n");
		fake_peer_send_after(p, "421 4.7.0 too many idle connections\r\n",
				     2 * USEC_PER_SEC);
	}
}

Test(patterns, a_421_on_an_idle_connection_counts_too)
{
	static const struct fake_service service = {.on_open = idle_open, .on_data = idle_data};
	unsigned connections = 0;

	start("reply = /too many idle/ defer-queue=30m", "connection-idle-timeout = 5m\n");
	fake_host(MX1, WORLD_PORT, FAKE_LISTENING, &service, &connections);
	world_send(&x, "s@sender.test", "a@x.test");
	world_run(&x, 10 * USEC_PER_SEC);
	cr_assert_eq(world_count(&x, 'd'), 1);
	cr_assert_eq(world_count(&x, 'q'), 1);
	cr_assert_str_eq(world_nth(&x, 'q', 0)->text, "421 4.7.0 too many idle connections");
	world_send(&x, "s@sender.test", "b@x.test");
	world_run(&x, 29 * MINUTE);
	cr_assert_eq(connections, 1);
	world_run(&x, 31 * MINUTE);
	cr_assert_eq(connections, 2);
	finish();
}

/* --- directives about losses and texts --- */

static const char *silent_at_dot(struct mx *m ATTR_UNUSED, enum mx_event what,
				 unsigned c ATTR_UNUSED, const char *line ATTR_UNUSED)
{
	return what == MX_DONE && m->transactions == 1 ? "" : NULL;
}

static void lose_at_dot(const char *more, const char *greeting)
{
	start("", more);
	if (greeting)
		refuses(&mx1, MX_OPEN, greeting, 1);
	else
		mx1.answer = silent_at_dot;
}

Test(patterns, a_transfer_that_fails_bounces_where_told)
{
	lose_at_dot("", NULL);
	world_send(&x, "s@sender.test", "a@x.test");
	world_run(&x, 30 * MINUTE);
	cr_assert_eq(world_count(&x, 't'), 1);
	cr_assert_eq(world_count(&x, 'd'), 1);
	finish();
	lose_at_dot("bounce-upon-transfer-failure = yes\n", NULL);
	world_send(&x, "s@sender.test", "a@x.test");
	world_run(&x, 30 * MINUTE);
	cr_assert_eq(world_count(&x, 'b'), 1);
	cr_assert_eq(mx1.transactions, 1);
	finish();
	lose_at_dot("bounce-upon-pix-transfer-failure = yes\n", NULL);
	world_send(&x, "s@sender.test", "a@x.test");
	world_run(&x, 30 * MINUTE);
	cr_assert_eq(world_count(&x, 'b'), 0, "no PIX is there");
	finish();
}

static const char *pix_that_hangs_up(struct mx *m ATTR_UNUSED, enum mx_event what,
				     unsigned c ATTR_UNUSED, const char *line ATTR_UNUSED)
{
	if (what == MX_OPEN)
		return "220 ************0*2";
	return what == MX_DONE ? "" : NULL;
}

Test(patterns, a_transfer_through_a_pix_bounces_where_told)
{
	start("", "bounce-upon-pix-transfer-failure = yes\n");
	mx1.answer = pix_that_hangs_up;
	world_send(&x, "s@sender.test", "a@x.test");
	world_run(&x, 30 * MINUTE);
	cr_assert_eq(world_count(&x, 'b'), 1);
	finish();
}

Test(patterns, a_553_without_a_code_is_a_bad_mailbox_unless_told_otherwise)
{
	static const struct {
		const char *conf, *reply;
		uint8_t subject;
	} cases[] = {
		{"", "553 sorry", 1},
		{"smtp-553-means-invalid-mailbox = no\n", "553 sorry", 0},
		{"", "553 5.7.1 sorry", 7},
		{"", "550 sorry", 0},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		start("", cases[i].conf);
		refuses(&mx1, MX_RCPT, cases[i].reply, 1);
		world_send(&x, "s@sender.test", "a@x.test");
		world_run(&x, MINUTE);
		cr_expect_eq(world_count(&x, 'b'), 1);
		cr_expect_eq(world_nth(&x, 'b', 0)->enhanced[1], cases[i].subject, "%zu", i);
		finish();
	}
}

Test(patterns, the_text_of_a_421_is_hidden_where_told_and_patterns_see_it)
{
	start("reply = /you are evil/ defer-queue=20m",
	      "replace-smtp-421-service-response = yes\n");
	refuses(&mx1, MX_MAIL, "421 4.7.0 a@x.test: you are evil", 1);
	world_send(&x, "s@sender.test", "a@x.test");
	world_run(&x, 15 * MINUTE);
	cr_assert_eq(world_count(&x, 'q'), 1);
	cr_assert_str_eq(world_nth(&x, 'q', 0)->text, "421 4.7.0 service unavailable");
	cr_assert_eq(mx1.connections, 1);
	finish();
}

static const char *hangs_at_dot(struct mx *m ATTR_UNUSED, enum mx_event what,
				unsigned c ATTR_UNUSED, const char *line ATTR_UNUSED)
{
	return what == MX_DONE ? "250-and" : NULL; /* a reply that does not end */
}

Test(patterns, silence_after_the_dot_is_a_delivery_where_told)
{
	for (size_t told = 0; told < 2; told++) {
		start("", told ? "assume-delivery-upon-data-termination-timeout = yes\n" : "");
		mx1.answer = hangs_at_dot;
		world_send(&x, "s@sender.test", "a@x.test");
		world_run(&x, 15 * MINUTE);
		cr_assert_eq(world_count(&x, 'd'), told);
		cr_assert_eq(world_count(&x, 't'), 1 - told);
		if (told)
			cr_assert_not_null(
				strstr(world_nth(&x, 'd', 0)->text, "taken as delivered"));
		finish();
	}
}

/* --- many at once --- */

Test(patterns, several_connections_that_hear_the_same_skip_one_host)
{
	start("reply = /elsewhere/ skip-mx", "max-smtp-out = 8\n");
	refuses(&mx1, MX_RCPT, "451 4.3.0 elsewhere", 1000000);
	for (int i = 0; i < 200; i++)
		world_send(&x, "s@sender.test", "a@x.test b@x.test");
	world_run(&x, 50 * USEC_PER_SEC);
	cr_assert_eq(mx2.delivered, 400);
	cr_assert_leq(mx1.transactions, 8, "%u transactions at the host to skip", mx1.transactions);
	cr_assert_eq(world_count(&x, 't'), 0);
	finish();
}

Test(patterns, a_queue_that_is_larger_than_ring_and_memory_bounces_all)
{
	const struct shm_config was = world_shm;

	world_shm.ring_size = 1 << 16;
	start("reply = /permanently deferred/ bounce-queue", "max-smtp-out = 4\n");
	refuses(&mx1, MX_MAIL, "550 5.7.1 permanently deferred", 4);
	for (int i = 0; i < 3000; i++)
		world_send(&x, "s@sender.test", "a@x.test b@x.test");
	world_run(&x, 5 * MINUTE);
	cr_assert_eq(world_left(&x), 0);
	cr_assert_eq(mx1.delivered, 0, "%u delivered", mx1.delivered);
	cr_assert_eq(world_count(&x, 'b'), 6000);
	finish();
	world_shm = was;
}
