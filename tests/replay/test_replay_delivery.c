/* links: common/base common/conf common/spool common/shm common/ipc common/smtp common/mail common/acct common/dns/route.c common/dns/wire.c spooler/commit.c spooler/commit_*.c spooler/dsn_row.c worker -worker/resolver.c -worker/resolver_main.c -worker/resolver_packet.c -worker/resolver_record.c -worker/resolver_route.c -worker/resolver_server.c -worker/resolver_upstream.c tests/replay/world.c tests/replay/mx.c tests/replay/fake_loop.c tests/replay/fake_stream.c tests/replay/fake_dns.c */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "tests/replay/mx.h"
#include "tests/replay/world.h"

static struct world x;
static struct mx mx, second;

static void start(const char *conf)
{
	memset(&mx, 0, sizeof(mx));
	memset(&second, 0, sizeof(second));
	world_new(&x, conf);
	mx_listen(&mx, "198.51.100.1", WORLD_PORT);
	mx_listen(&second, "198.51.100.2", WORLD_PORT);
	fake_dns_default("10 mx.test 198.51.100.1");
}

static void finish(void)
{
	world_check(&x);
	cr_assert_eq(fake_open_connections(), 0);
	world_free(&x);
	mx_done(&mx);
	mx_done(&second);
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

/* Every one of n recipients has exactly one final record, and it is this one. */
static void assert_all(char type, unsigned n, const char *domain)
{
	char rcpt[100];
	unsigned i;

	for (i = 0; i < n; i++) {
		snprintf(rcpt, sizeof(rcpt), "r%u@%s", i, domain);
		cr_assert_eq(world_count_rcpt(&x, 'd', rcpt) + world_count_rcpt(&x, 'b', rcpt), 1,
			     "%s has %zu d and %zu b", rcpt, world_count_rcpt(&x, 'd', rcpt),
			     world_count_rcpt(&x, 'b', rcpt));
		cr_assert_eq(world_count_rcpt(&x, type, rcpt), 1, "%s", rcpt);
	}
	cr_assert_eq(world_left(&x), 0);
}

Test(delivery, mail_goes_out_once_and_is_accounted_once)
{
	start("");
	send_many(200, "one.test");
	world_run(&x, MINUTE);
	assert_all('d', 200, "one.test");
	cr_assert_eq(mx.delivered, 200);
	cr_assert_leq(mx.peak, 20, "max-smtp-out is 20 by default");
	cr_assert_str_eq(world_nth(&x, 'd', 0)->mx, "mx.test");
	cr_assert_str_eq(world_nth(&x, 'd', 0)->queue, "one.test/a");
	finish();
}

Test(delivery, connections_are_used_again_up_to_max_msg_per_connection)
{
	start("[domain *]\nmax-smtp-out = 1\nmax-msg-per-connection = 10\n");
	send_many(100, "one.test");
	world_run(&x, MINUTE);
	assert_all('d', 100, "one.test");
	cr_assert_eq(mx.connections, 10);
	cr_assert_eq(mx.peak, 1);
	finish();
}

Test(delivery, recipients_of_a_message_share_a_transaction)
{
	start("[domain *]\nmax-rcpt-per-message = 3\n");
	world_send(&x, "s@sender.test",
		   "r0@one.test r1@one.test r2@one.test r3@one.test r4@one.test r5@one.test "
		   "r6@one.test");
	world_run(&x, MINUTE);
	assert_all('d', 7, "one.test");
	cr_assert_eq(mx.transactions, 3);
	finish();
}

Test(delivery, max_smtp_out_is_the_most_connections_to_a_site)
{
	start("[domain *]\nmax-smtp-out = 3\n");
	send_many(300, "one.test");
	world_run(&x, MINUTE);
	assert_all('d', 300, "one.test");
	cr_assert_eq(mx.peak, 3);
	finish();
}

Test(delivery, the_next_host_is_tried_at_once)
{
	start("");
	fake_dns_mx("two.test", "10 dead.test 198.51.100.9; 20 mx2.test 198.51.100.2");
	send_many(5, "two.test");
	world_run(&x, MINUTE);
	assert_all('d', 5, "two.test");
	cr_assert_eq(second.delivered, 5);
	cr_assert_eq(world_count(&x, 'q'), 0);
	cr_assert_lt(world_nth(&x, 'd', 4)->at, 10 * USEC_PER_SEC);
	finish();
}

Test(delivery, a_silent_site_does_not_delay_others)
{
	unsigned i;

	start("[domain *]\nconnect-timeout = 2m\n");
	fake_host("198.51.100.7", WORLD_PORT, FAKE_SILENT, NULL, NULL);
	for (i = 0; i < 20; i++) {
		char domain[32], rcpt[40];

		snprintf(domain, sizeof(domain), "silent%u.test", i);
		snprintf(rcpt, sizeof(rcpt), "a@%s", domain);
		fake_dns_mx(domain, "10 silent.test 198.51.100.7");
		world_send(&x, "s@sender.test", rcpt);
	}
	send_many(50, "one.test");
	world_run(&x, 20 * USEC_PER_SEC);
	cr_assert_eq(world_count(&x, 'd'), 50);
	cr_assert_lt(world_nth(&x, 'd', 49)->at, 5 * USEC_PER_SEC);
	finish();
}

static const char *refuse_second(struct mx *m, enum mx_event what, unsigned c ATTR_UNUSED,
				 const char *line)
{
	if (what == MX_RCPT && strstr(line, "r1@"))
		return "550 5.1.1 no such user";
	if (what == MX_RCPT && strstr(line, "r2@") && mx_count(m, MX_RCPT) < 4)
		return "450 4.2.1 try later";
	return NULL;
}

Test(delivery, each_recipient_has_its_own_outcome)
{
	start("[domain *]\nretry-after = 5m\n");
	mx.answer = refuse_second;
	world_send(&x, "s@sender.test", "r0@one.test r1@one.test r2@one.test");
	world_run(&x, HOUR);
	cr_assert_eq(world_count_rcpt(&x, 'd', "r0@one.test"), 1);
	cr_assert_eq(world_count_rcpt(&x, 'b', "r1@one.test"), 1);
	cr_assert_eq(world_count_rcpt(&x, 't', "r2@one.test"), 1);
	cr_assert_eq(world_count_rcpt(&x, 'd', "r2@one.test"), 1);
	cr_assert_eq(world_left(&x), 0);
	finish();
}

/* Something happens once, at one point of the first dialogue; then all is well. */
static struct {
	enum mx_event at;
	const char *reply;
	bool done;
} trouble;

static const char *once(struct mx *m ATTR_UNUSED, enum mx_event what, unsigned c ATTR_UNUSED,
			const char *line ATTR_UNUSED)
{
	if (trouble.done || what != trouble.at)
		return NULL;
	trouble.done = true;
	return trouble.reply;
}

static void try_trouble(enum mx_event at, const char *reply)
{
	start("[domain *]\nretry-after = 1m\nmax-smtp-out = 1\n");
	trouble.at = at;
	trouble.reply = reply;
	trouble.done = false;
	mx.answer = once;
	send_many(5, "one.test");
	world_run(&x, 2 * HOUR);
	cr_assert(trouble.done, "event %d never came", at);
	assert_all('d', 5, "one.test");
	finish();
}

Test(delivery, a_421_at_any_point_loses_nothing)
{
	static const enum mx_event points[] = {MX_OPEN, MX_EHLO, MX_MAIL,
					       MX_RCPT, MX_DATA, MX_DONE};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(points); i++)
		try_trouble(points[i], "421 4.3.2 going away");
}

Test(delivery, a_connection_lost_at_any_point_loses_nothing)
{
	static const enum mx_event points[] = {MX_OPEN, MX_EHLO, MX_MAIL, MX_RCPT,
					       MX_DATA, MX_DONE, MX_QUIT};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(points); i++)
		try_trouble(points[i], "");
}

Test(delivery, garbage_at_any_point_loses_nothing)
{
	static const enum mx_event points[] = {MX_OPEN, MX_EHLO, MX_MAIL,
					       MX_RCPT, MX_DATA, MX_DONE};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(points); i++)
		try_trouble(points[i], "\x01 what is this?");
}

static const char *lose_dot(struct mx *m, enum mx_event what, unsigned c ATTR_UNUSED,
			    const char *line ATTR_UNUSED)
{
	return what == MX_DONE && mx_count(m, MX_DONE) == 1 ? "" : NULL;
}

Test(delivery, a_loss_after_the_final_dot_says_that_it_may_have_been_delivered)
{
	start("[domain *]\nretry-after = 1m\n");
	mx.answer = lose_dot;
	send_many(1, "one.test");
	world_run(&x, HOUR);
	assert_all('d', 1, "one.test");
	cr_assert_eq(world_count(&x, 't'), 1);
	cr_assert(strstr(world_nth(&x, 't', 0)->text, "may have been delivered"), "%s",
		  world_nth(&x, 't', 0)->text);
	finish();
}

static const char *always_5xx(struct mx *m ATTR_UNUSED, enum mx_event what, unsigned c ATTR_UNUSED,
			      const char *line ATTR_UNUSED)
{
	return what == trouble.at ? trouble.reply : NULL;
}

Test(delivery, a_5xx_to_a_message_bounces_all_of_its_recipients)
{
	static const enum mx_event points[] = {MX_MAIL, MX_DATA, MX_DONE};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(points); i++) {
		start("");
		trouble.at = points[i];
		trouble.reply = "554 5.7.1 no";
		mx.answer = always_5xx;
		world_send(&x, "s@sender.test", "r0@one.test r1@one.test");
		world_run(&x, MINUTE);
		assert_all('b', 2, "one.test");
		cr_assert_str_eq(world_nth(&x, 'b', 0)->text, "554 5.7.1 no");
		finish();
	}
}

static void fail_handshake(struct fake_peer *p, void *arg ATTR_UNUSED)
{
	fake_peer_fail_tls(p);
	fake_peer_send(p, "220 tls.test ESMTP\r\n");
}

static void tls_talk(struct fake_peer *p, struct slice data, void *arg)
{
	unsigned *clear = arg;

	if (slice_istarts(data, "EHLO"))
		fake_peer_send(p, "250-tls.test\r\n250 STARTTLS\r\n");
	else if (slice_istarts(data, "STARTTLS"))
		fake_peer_send(p, "220 go\r\n");
	else if (slice_istarts(data, "DATA"))
		fake_peer_send(p, "354 go\r\n");
	else if (slice_istarts(data, "QUIT"))
		fake_peer_close(p);
	else
		fake_peer_send(p, "250 ok\r\n");
	if (slice_istarts(data, "MAIL") && !fake_peer_is_tls(p))
		++*clear;
}

static const struct fake_service bad_tls = {.on_open = fail_handshake, .on_data = tls_talk};

Test(delivery, a_failed_handshake_is_followed_by_clear_text_at_once)
{
	unsigned clear = 0;

	start("");
	fake_host("198.51.100.5", WORLD_PORT, FAKE_LISTENING, &bad_tls, &clear);
	fake_dns_mx("tls.test", "10 mx.tls.test 198.51.100.5");
	send_many(3, "tls.test");
	world_run(&x, MINUTE);
	assert_all('d', 3, "tls.test");
	cr_assert_eq(clear, 3);
	cr_assert_eq(world_count(&x, 't') + world_count(&x, 'q'), 0);
	finish();
}

Test(delivery, required_starttls_never_falls_back)
{
	unsigned clear = 0;

	start("[domain *]\nrequire-starttls = yes\nretry-after = 10m\nbounce-after = 1d\n");
	fake_host("198.51.100.5", WORLD_PORT, FAKE_LISTENING, &bad_tls, &clear);
	fake_dns_mx("tls.test", "10 mx.tls.test 198.51.100.5");
	send_many(1, "tls.test");
	world_run(&x, HOUR);
	cr_assert_eq(world_count(&x, 'd'), 0);
	cr_assert_eq(clear, 0);
	cr_assert_geq(world_count(&x, 'q') + world_count(&x, 't'), 5);
	cr_assert_eq(world_left(&x), 1);
	finish();
}

Test(delivery, urgent_mail_overtakes_bulk)
{
	unsigned i;
	size_t k, last = 0;

	start("[domain *]\nmax-smtp-out = 1\n");
	for (i = 0; i < 400; i++)
		world_send_as(&x, "s@sender.test", "bulk@one.test", "bulk", 2, 64);
	for (i = 0; i < 10; i++)
		world_send_as(&x, "s@sender.test", "urgent@one.test", "alarm", 0, 64);
	world_run(&x, MINUTE);
	cr_assert_eq(world_count(&x, 'd'), 410);
	for (k = 0; k < 410; k++)
		if (strcmp(world_nth(&x, 'd', k)->rcpt, "urgent@one.test") == 0)
			last = k;
	cr_assert_lt(last, 100, "the last urgent one was number %zu", last);
	finish();
}

Test(delivery, kills_lose_nothing_and_double_only_open_transactions)
{
	unsigned i;

	start("[domain *]\nmax-smtp-out = 4\nretry-after = 1m\n");
	send_many(300, "one.test");
	for (i = 1; i <= 12; i++)
		world_run_and_kill(&x, i * 7 * USEC_PER_MSEC);
	world_run(&x, HOUR);
	assert_all('d', 300, "one.test");
	cr_assert_geq(mx.delivered, 300);
	cr_assert_leq(mx.delivered, 300 + 12 * 4, "more than was open at the kills came twice");
	finish();
}

Test(delivery, a_queue_longer_than_the_workers_list_drains)
{
	start("[domain *]\nmax-smtp-out = 8\n");
	send_many(5000, "one.test");
	world_run(&x, 10 * MINUTE);
	assert_all('d', 5000, "one.test");
	cr_assert_eq(mx.delivered, 5000);
	finish();
}

Test(delivery, a_big_body_arrives_whole)
{
	start("");
	world_send_as(&x, "s@sender.test", "r0@one.test", "", 1, 3 << 20);
	world_run(&x, MINUTE);
	assert_all('d', 1, "one.test");
	finish();
}

static const char *refuses_mail_only(struct mx *m ATTR_UNUSED, enum mx_event what,
				     unsigned c ATTR_UNUSED, const char *line ATTR_UNUSED)
{
	switch (what) {
	case MX_MAIL:
		return "450 4.3.0 not now";
	case MX_RCPT:
		return "250 2.1.5 ok";
	case MX_DATA:
		return "354 go";
	default:
		return NULL;
	}
}

Test(delivery, no_empty_message_is_sent_when_data_is_taken_after_a_refused_mail)
{
	start("");
	mx.answer = refuses_mail_only;
	mx_listen(&mx, "198.51.100.1", WORLD_PORT);
	fake_dns_mx("odd.test", "10 mx.odd.test 198.51.100.1");
	world_send(&x, "s@sender.test", "a@odd.test");
	world_run(&x, MINUTE);
	cr_assert_eq(world_count(&x, 't'), 1);
	cr_assert_eq(mx_count(&mx, MX_DONE), 0);
	cr_assert_eq(world_left(&x), 1);
	finish();
}
