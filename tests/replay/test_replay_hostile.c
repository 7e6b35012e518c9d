/* links: common/base common/conf common/spool common/shm common/ipc common/smtp common/mail common/acct common/dns/route.c common/dns/wire.c spooler/commit.c spooler/commit_*.c spooler/dsn_row.c worker -worker/resolver.c -worker/resolver_main.c -worker/resolver_packet.c -worker/resolver_record.c -worker/resolver_route.c -worker/resolver_server.c -worker/resolver_upstream.c tests/replay/world.c tests/replay/mx.c tests/replay/fake_loop.c tests/replay/fake_stream.c tests/replay/fake_dns.c */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "tests/replay/mx.h"
#include "tests/replay/world.h"

static struct world x;
static struct mx mx, second;

/* The answers of both hosts; NULL: the usual. */
static const char *script[MX_CLOSE + 1];

static const char *by_script(struct mx *m ATTR_UNUSED, enum mx_event what, unsigned c ATTR_UNUSED,
			     const char *line ATTR_UNUSED)
{
	return script[what];
}

static void start(const char *conf)
{
	memset(&mx, 0, sizeof(mx));
	memset(&second, 0, sizeof(second));
	memset(script, 0, sizeof(script));
	world_new(&x, conf);
	mx.answer = second.answer = by_script;
	mx_listen(&mx, "198.51.100.1", WORLD_PORT);
	mx_listen(&second, "198.51.100.2", WORLD_PORT);
	fake_dns_mx("one.test", "10 mx.test 198.51.100.1");
	fake_dns_mx("two.test", "10 mx.test 198.51.100.1; 10 mx2.test 198.51.100.2");
	fake_dns_mx("other.test", "10 other.test 198.51.100.3");
}

static void finish(void)
{
	world_check(&x);
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

Test(hostile, a_reply_that_comes_before_the_dot_delivers_nothing)
{
	start("[domain *]\nretry-after = 10m\n");
	script[MX_DATA] = "354 go\r\n250 2.0.0 taken, whatever it may be";
	script[MX_DONE] = "554 5.7.1 no";
	send_many(3, "one.test");
	world_run(&x, MINUTE);
	cr_assert_eq(mx.delivered, 0);
	cr_assert_eq(world_count(&x, 'd'), 0);
	cr_assert_eq(world_count(&x, 'b'), 0, "a 554 that was never seen");
	finish();
}

Test(hostile, replies_that_nobody_asked_for_do_not_make_it_connect_again_and_again)
{
	static const struct {
		enum mx_event at;
		const char *reply;
	} tries[] = {
		{MX_OPEN, "220 mx.test\r\n250 mx.test"},
		{MX_OPEN, "220 mx.test\r\n250 mx.test\r\n250 ok\r\n250 ok\r\n354 go\r\n250 ok"},
		{MX_EHLO, "250 mx.test\r\n250 again"},
		{MX_EHLO, "250-mx.test\r\n250 PIPELINING\r\n250 ok\r\n250 ok\r\n354 go\r\n250 ok"},
		{MX_EHLO, "500 what\r\n250 mx.test"},
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(tries); i++) {
		start("[domain *]\nretry-after = 10m\n");
		script[tries[i].at] = tries[i].reply;
		send_many(20, "one.test");
		world_run(&x, 5 * MINUTE);
		cr_expect_leq(mx.connections, 20, "try %zu: %u connections in 5 minutes", i,
			      mx.connections);
		cr_expect_eq(world_count(&x, 'd'), 0, "try %zu", i);
		finish();
	}
}

/* Both hosts of a domain take the connection and drop the mail: they get their rest. */
Test(hostile, hosts_that_lose_every_connection_are_not_tried_in_turns_without_end)
{
	static const enum mx_event points[] = {MX_MAIL, MX_RCPT, MX_DATA, MX_DONE};
	static const char *const replies[] = {"", "421 4.3.2 no", "354 go"};
	size_t i, k;

	for (i = 0; i < ARRAY_SIZE(points); i++) {
		for (k = 0; k < ARRAY_SIZE(replies); k++) {
			/* those are a right answer, or one of many refusals on one connection */
			if ((points[i] == MX_DATA && *replies[k] == '3') ||
			    (points[i] == MX_DONE && *replies[k] == '4'))
				continue;
			start("[domain *]\nretry-after = 10m\n");
			script[points[i]] = replies[k];
			send_many(200, "two.test");
			world_run(&x, 5 * MINUTE);
			cr_expect_leq(mx.connections + second.connections, 30,
				      "event %d, \"%s\": %u + %u connections in 5 minutes",
				      points[i], replies[k], mx.connections, second.connections);
			finish();
		}
	}
}

Test(hostile, a_refused_recipient_is_not_taken_for_the_answer_to_data)
{
	start("[domain *]\nretry-after = 10m\n");
	script[MX_MAIL] = "250 ok\r\n250 ok, as I said";
	script[MX_RCPT] = "550 5.1.1 unknown";
	world_send(&x, "s@sender.test", "r0@one.test");
	world_run(&x, MINUTE);
	cr_assert_eq(world_count(&x, 'd'), 0);
	finish();
}

Test(hostile, a_transaction_that_was_refused_sends_no_empty_message)
{
	start("[domain *]\nretry-after = 10m\n");
	script[MX_MAIL] = "451 4.3.0 not now";
	script[MX_RCPT] = "250 ok";
	script[MX_DATA] = "354 go";
	send_many(2, "one.test");
	world_run(&x, MINUTE);
	cr_assert_eq(mx_count(&mx, MX_DONE), 0);
	cr_assert_eq(world_count(&x, 't'), 2);
	finish();
}

/* --- one byte every four minutes --- */

struct drip {
	const char *at; /* after this command */
	usec_t closed;
};

static void drip_open(struct fake_peer *p, void *arg)
{
	struct drip *d = arg;

	d->closed = 0;
	if (strcmp(d->at, "connect") != 0)
		fake_peer_send(p, "220 drip.test\r\n");
	else
		for (unsigned i = 1; i < 300; i++)
			fake_peer_send_after(p, "2", (usec_t)i * MINUTE);
}

static void drip_data(struct fake_peer *p, struct slice data, void *arg)
{
	const struct drip *d = arg;

	if (!slice_istarts(data, d->at)) {
		fake_peer_send(p, slice_istarts(data, "DATA") ? "354 go\r\n" : "250 ok\r\n");
		return;
	}
	for (unsigned i = 0; i < 300; i++)
		fake_peer_send_after(p,
				     i % 40 == 39 ? "x\r\n250-"
				     : i	  ? "x"
						  : "250-",
				     (usec_t)i * MINUTE);
}

static void drip_close(struct fake_peer *p ATTR_UNUSED, bool aborted ATTR_UNUSED, void *arg)
{
	struct drip *d = arg;

	d->closed = fake_elapsed();
}

static const struct fake_service dripping = {
	.on_open = drip_open, .on_data = drip_data, .on_close = drip_close};

Test(hostile, a_reply_that_drips_in_does_not_hold_a_connection_for_days)
{
	static const char *const points[] = {"connect", "EHLO", "MAIL", "RCPT", "DATA"};
	struct drip d;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(points); i++) {
		start("[domain *]\nretry-after = 10h\nbounce-after = 4d\n");
		fake_host("198.51.100.3", WORLD_PORT, FAKE_LISTENING, &dripping, &d);
		d.at = points[i];
		send_many(1, "other.test");
		world_run(&x, 4 * HOUR);
		cr_expect(d.closed && d.closed <= 20 * MINUTE, "%s: closed after %.0f s", points[i],
			  (double)d.closed / 1e6);
		finish();
	}
}

/* --- a DNS that gives other hosts each time, all of them silent --- */

static void move_on(void *arg ATTR_UNUSED)
{
	static unsigned n;
	char mxs[80];

	n++;
	snprintf(mxs, sizeof(mxs), "10 mx.test 198.51.100.%u; 10 mx2.test 198.51.100.%u",
		 10 + n % 100, 120 + n % 100);
	fake_dns_mx("moving.test", mxs);
	fake_at(fake_elapsed() + MINUTE, move_on, NULL);
}

Test(hostile, hosts_that_move_while_they_fail_are_given_their_rest)
{
	struct drip d = {.at = "connect"};

	start("[domain *]\nretry-after = 10m\nbounce-after = 1d\n");
	for (unsigned i = 10; i < 220; i++) {
		char ip[20];

		snprintf(ip, sizeof(ip), "198.51.100.%u", i);
		fake_host(ip, WORLD_PORT, FAKE_LISTENING, &dripping, &d);
	}
	move_on(NULL);
	send_many(10, "moving.test");
	world_run(&x, 2 * HOUR);
	/* two connections of 5 minutes, 10 minutes of rest */
	cr_assert(world_count(&x, 'q') >= 5 && world_count(&x, 'q') <= 7, "%zu failures",
		  world_count(&x, 'q'));
	finish();
}

/* --- what was said before TLS counts no more behind it --- */

static void tls_open(struct fake_peer *p, void *arg ATTR_UNUSED)
{
	fake_peer_send(p, "220 tls.test ESMTP\r\n");
}

static void tls_talk(struct fake_peer *p, struct slice data, void *arg)
{
	unsigned *parameters = arg;

	if (slice_istarts(data, "EHLO"))
		fake_peer_send(p, fake_peer_is_tls(p) ? "502 what?\r\n"
						      : "250-tls.test\r\n250-PIPELINING\r\n"
							"250-SIZE 1\r\n250-8BITMIME\r\n250-DSN\r\n"
							"250 STARTTLS\r\n");
	else if (slice_istarts(data, "STARTTLS"))
		fake_peer_send(p, "220 go\r\n250 injected\r\n");
	else if (slice_istarts(data, "DATA"))
		fake_peer_send(p, "354 go\r\n");
	else if (slice_istarts(data, "QUIT"))
		fake_peer_close(p);
	else
		fake_peer_send(p, "250 ok\r\n");
	if (slice_istarts(data, "MAIL") && slice_chr(data, '=') >= 0)
		++*parameters;
}

Test(hostile, offers_from_before_tls_are_forgotten)
{
	static const struct fake_service tls = {.on_open = tls_open, .on_data = tls_talk};
	unsigned parameters = 0;

	start("");
	fake_host("198.51.100.3", WORLD_PORT, FAKE_LISTENING, &tls, &parameters);
	send_many(1, "other.test");
	world_run(&x, MINUTE);
	cr_assert_eq(parameters, 0);
	cr_assert_eq(world_count(&x, 'd'), 1, "SIZE 1 was not said in TLS");
	finish();
}

static void tls_regret(struct fake_peer *p, struct slice data, void *arg)
{
	if (slice_istarts(data, "EHLO") && fake_peer_is_tls(p))
		fake_peer_close(p);
	else
		tls_talk(p, data, arg);
}

/* In TLS 1.3 the client is through when the server finds what it does not like. */
Test(hostile, a_server_that_leaves_behind_the_handshake_gets_its_mail_in_clear)
{
	static const struct fake_service regret = {.on_open = tls_open, .on_data = tls_regret};
	unsigned parameters = 0;

	start("[domain regret.test]\nmax-smtp-out = 1\n[domain strict.test]\nrequire-starttls = "
	      "yes\n");
	fake_host("198.51.100.3", WORLD_PORT, FAKE_LISTENING, &regret, &parameters);
	fake_host("198.51.100.4", WORLD_PORT, FAKE_LISTENING, &regret, &parameters);
	fake_dns_mx("regret.test", "10 mx.test 198.51.100.3");
	fake_dns_mx("strict.test", "10 mx.test 198.51.100.4");
	world_send(&x, "s@sender.test", "a@regret.test");
	world_send(&x, "s@sender.test", "a@strict.test");
	world_run(&x, MINUTE);
	/* SIZE 1 is offered in clear: to have come so far is enough */
	cr_assert_eq(world_count_rcpt(&x, 'b', "a@regret.test"), 1);
	cr_assert_eq(world_count_rcpt(&x, 'b', "a@strict.test"), 0);
	cr_assert_eq(world_count_rcpt(&x, 'd', "a@strict.test"), 0);
	cr_assert_eq(world_left(&x), 1);
	finish();
}

/* --- enough recipients, for ever --- */

Test(hostile, a_452_to_every_recipient_defers_them)
{
	start("[domain *]\nretry-after = 10m\nmax-rcpt-per-message = 10\n");
	script[MX_RCPT] = "452 4.5.3 too many recipients";
	world_send(&x, "s@sender.test", "a@one.test b@one.test c@one.test");
	world_run(&x, 5 * MINUTE);
	cr_assert_eq(world_count(&x, 't'), 3);
	cr_assert_leq(mx_count(&mx, MX_RCPT), 3);
	finish();
}

static const char *one_rcpt(struct mx *m, enum mx_event what, unsigned c ATTR_UNUSED,
			    const char *line ATTR_UNUSED)
{
	static unsigned in_transaction;

	(void)m;
	if (what == MX_MAIL)
		in_transaction = 0;
	if (what == MX_DONE)
		return "451 4.3.0 and not that one, either";
	return what == MX_RCPT && in_transaction++ ? "452 4.5.3 too many recipients" : NULL;
}

Test(hostile, a_452_after_each_first_recipient_and_a_refusal_ends)
{
	start("[domain *]\nretry-after = 10m\n");
	mx.answer = one_rcpt;
	world_send(&x, "s@sender.test", "a@one.test b@one.test c@one.test d@one.test");
	world_run(&x, 5 * MINUTE);
	cr_assert_eq(world_count(&x, 't'), 4);
	cr_assert_leq(mx_count(&mx, MX_MAIL), 4);
	finish();
}

/* What the second recipient of a transaction hears, and all that come alone. */
static const char *to_second;

static const char *second_rcpt(struct mx *m ATTR_UNUSED, enum mx_event what, unsigned c ATTR_UNUSED,
			       const char *line ATTR_UNUSED)
{
	static unsigned in_transaction;

	if (what == MX_MAIL)
		in_transaction = 0;
	return what == MX_RCPT && in_transaction++ ? to_second : NULL;
}

static void two_recipients(const char *reply)
{
	start("[domain *]\nretry-after = 10m\n");
	to_second = reply;
	mx.answer = second_rcpt;
	world_send(&x, "s@sender.test", "a@one.test b@one.test");
	world_run(&x, 20 * MINUTE);
	cr_assert_eq(world_count(&x, 'd'), 2, "%s", reply);
	cr_assert_eq(world_count(&x, 'b'), 0, "%s", reply);
	cr_assert_eq(mx_count(&mx, MX_MAIL), 2, "%s", reply);
}

Test(hostile, a_452_for_too_many_recipients_sends_the_rest_at_once)
{
	static const char *const replies[] = {
		"452 too many recipients", "452 4.5.3 too many recipients",
		"451 4.5.3 too many recipients", "552 5.5.3 too many recipients"};

	for (size_t i = 0; i < ARRAY_SIZE(replies); i++) {
		two_recipients(replies[i]);
		cr_assert_eq(world_count(&x, 't'), 0, "%s", replies[i]);
		cr_assert_lt(world_nth(&x, 'd', 1)->at, MINUTE, "%s", replies[i]);
		finish();
	}
}

Test(hostile, a_452_that_says_something_else_defers_its_recipient)
{
	static const char *const replies[] = {"452 4.2.2 over quota",
					      "452 4.3.1 insufficient system storage"};

	for (size_t i = 0; i < ARRAY_SIZE(replies); i++) {
		two_recipients(replies[i]);
		cr_assert_eq(world_count(&x, 't'), 1, "%s", replies[i]);
		cr_assert_str_eq(world_nth(&x, 't', 0)->text, replies[i]);
		cr_assert_geq(mx_nth(&mx, MX_RCPT, 2)->at, 10 * MINUTE, "%s", replies[i]);
		finish();
	}
}
