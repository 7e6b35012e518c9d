/* links: common/base common/conf common/spool common/shm common/ipc common/smtp common/mail common/acct common/dns/route.c common/dns/wire.c spooler/commit.c spooler/commit_*.c spooler/dsn_row.c worker -worker/resolver.c -worker/resolver_main.c -worker/resolver_packet.c -worker/resolver_record.c -worker/resolver_route.c -worker/resolver_server.c -worker/resolver_upstream.c tests/replay/world.c tests/replay/mx.c tests/replay/fake_loop.c tests/replay/fake_stream.c tests/replay/fake_dns.c */
/* Retries over days, and over the deaths of all who remember them. */
#include <criterion/criterion.h>
#include <string.h>

#include "tests/replay/mx.h"
#include "tests/replay/world.h"

#define LADDER                                                          \
	"[domain *]\nretry-after = 5m,10m,15m,30m,1h\nsmtp-port = 25\n" \
	"bounce-after = 4d12h\n"

static struct world x;
static struct mx mx, grey;

static void start(const char *conf)
{
	memset(&mx, 0, sizeof(mx));
	memset(&grey, 0, sizeof(grey));
	world_new(&x, conf);
	fake_dns_mx("dead.test", "10 mx.dead.test 198.51.100.1");
	fake_dns_mx("grey.test", "10 mx.grey.test 198.51.100.2");
}

static void finish(void)
{
	world_check(&x);
	world_free(&x);
	mx_done(&mx);
	mx_done(&grey);
}

static void assert_at(usec_t is, usec_t want, const char *what, size_t i)
{
	cr_assert(is + USEC_PER_SEC >= want && is <= want + 2 * USEC_PER_SEC,
		  "%s %zu: at %.1f s, wanted %.1f s", what, i, (double)is / 1e6,
		  (double)want / 1e6);
}

static const char *busy(struct mx *m ATTR_UNUSED, enum mx_event what, unsigned c ATTR_UNUSED,
			const char *line ATTR_UNUSED)
{
	return what == MX_OPEN ? "421 4.3.2 busy" : NULL;
}

static const char *greylist(struct mx *m ATTR_UNUSED, enum mx_event what, unsigned c ATTR_UNUSED,
			    const char *line ATTR_UNUSED)
{
	return what == MX_RCPT ? "450 4.2.0 greylisted" : NULL;
}

static void listen_both(void)
{
	mx.answer = busy;
	grey.answer = greylist;
	mx_listen(&mx, "198.51.100.1", WORLD_PORT);
	mx_listen(&grey, "198.51.100.2", WORLD_PORT);
}

/* Minutes of attempt i: 0, 5, 15, 30, 60, then every hour. */
static usec_t minute_of(size_t i)
{
	static const unsigned first[] = {0, 5, 15, 30};

	return i < 4 ? first[i] : (i - 3) * 60;
}

static void assert_ladder(const struct mx *m, enum mx_event what, const char *name)
{
	size_t n = mx_count(m, what);

	cr_assert_eq(n, 4 + 107, "%s: %zu attempts in 108 hours", name, n);
	for (size_t i = 0; i < n; i++)
		assert_at(mx_nth(m, what, i)->at, minute_of(i) * MINUTE, name, i);
}

static void assert_ended(void)
{
	cr_assert_eq(world_count(&x, 'b'), 2);
	for (size_t i = 0; i < 2; i++)
		assert_at(world_nth(&x, 'b', i)->at, 4 * DAY + 12 * HOUR, "bounce", i);
	cr_assert_eq(world_count_rcpt(&x, 't', "b@grey.test"), 111);
	cr_assert_eq(world_count_rcpt(&x, 't', "a@dead.test"), 0);
	cr_assert_eq(world_count(&x, 'q'), 111);
	cr_assert_eq(world_left(&x), 0);
}

static void send_both(void)
{
	world_send(&x, "s@sender.test", "a@dead.test");
	world_send(&x, "s@sender.test", "b@grey.test");
}

/* A stop, two crashes of the worker, one of them just before a try, and a new spooler. */
Test(ladder, four_days_of_retries_are_exact_over_restarts_and_crashes)
{
	start(LADDER);
	listen_both();
	send_both();
	world_run_and_kill(&x, 14 * MINUTE + 59 * USEC_PER_SEC);
	world_run(&x, DAY + 7 * MINUTE);
	world_run_and_kill(&x, 2 * DAY + 17 * MINUTE);
	world_restart_spooler(&x);
	world_run(&x, 3 * DAY + 3 * MINUTE);
	world_run(&x, 5 * DAY);
	assert_ladder(&mx, MX_OPEN, "site");
	assert_ladder(&grey, MX_RCPT, "recipient");
	assert_ended();
	finish();
}

/* The site's time and the recipient's own: the later one counts. */
static const char *grey_then_busy(struct mx *m, enum mx_event what, unsigned c ATTR_UNUSED,
				  const char *line ATTR_UNUSED)
{
	if (what == MX_RCPT && mx_count(m, MX_RCPT) == 1)
		return "450 4.2.0 greylisted";
	if (what == MX_OPEN && fake_elapsed() > MINUTE && fake_elapsed() < 12 * MINUTE)
		return "421 4.3.2 busy";
	return NULL;
}

static void send_second(void *arg ATTR_UNUSED)
{
	world_send(&x, "s@sender.test", "second@grey.test");
}

Test(ladder, due_is_the_later_of_the_site_and_the_recipient)
{
	start(LADDER "max-smtp-out = 1\n");
	grey.answer = grey_then_busy;
	mx_listen(&grey, "198.51.100.2", WORLD_PORT);
	world_send(&x, "s@sender.test", "b@grey.test"); /* 450: its own time is 5 m */
	fake_at(2 * MINUTE, send_second,
		NULL); /* fails at connect: the site waits until 7 m, then 17 m */
	world_run(&x, HOUR);
	cr_assert_eq(mx_count(&grey, MX_OPEN), 4);
	assert_at(mx_nth(&grey, MX_OPEN, 1)->at, 2 * MINUTE, "open", 1);
	assert_at(mx_nth(&grey, MX_OPEN, 2)->at, 7 * MINUTE, "open", 2);
	assert_at(mx_nth(&grey, MX_OPEN, 3)->at, 17 * MINUTE, "open", 3);
	cr_assert_eq(world_count(&x, 'd'), 2);
	finish();
}

static void come_up(void *arg ATTR_UNUSED)
{
	mx.answer = NULL;
}

static void send_again(void *arg ATTR_UNUSED)
{
	world_send(&x, "s@sender.test", "new@dead.test");
}

Test(ladder, new_mail_waits_for_the_retry_of_its_site)
{
	start("[domain *]\nretry-after = 1h\nmax-smtp-out = 1\n");
	mx.answer = busy;
	mx_listen(&mx, "198.51.100.1", WORLD_PORT);
	world_send(&x, "s@sender.test", "a@dead.test");
	fake_at(5 * MINUTE, come_up, NULL);
	fake_at(10 * MINUTE, send_again, NULL);
	world_run(&x, 2 * HOUR);
	cr_assert_eq(mx_count(&mx, MX_OPEN), 2);
	for (size_t i = 0; i < 2; i++)
		assert_at(world_nth(&x, 'd', i)->at, HOUR, "delivery", i);
	finish();
}

Test(ladder, retry_upon_new_mail_has_the_whole_queue_tried)
{
	start("[domain *]\nretry-after = 1h\nretry-upon-new-mail = yes\n");
	mx.answer = busy;
	mx_listen(&mx, "198.51.100.1", WORLD_PORT);
	world_send(&x, "s@sender.test", "a@dead.test");
	fake_at(3 * USEC_PER_SEC, send_again, NULL); /* not so soon: at 10 s */
	fake_at(5 * MINUTE, come_up, NULL);
	fake_at(10 * MINUTE, send_again, NULL);
	world_run(&x, 2 * HOUR);
	cr_assert_eq(world_count(&x, 'd'), 3);
	for (size_t i = 0; i < 3; i++)
		assert_at(world_nth(&x, 'd', i)->at, 10 * MINUTE, "delivery", i);
	assert_at(mx_nth(&mx, MX_OPEN, 1)->at, 10 * USEC_PER_SEC, "open", 1);
	cr_assert_eq(world_count(&x, 'q'), 2);
	finish();
}

Test(ladder, connection_attempts_are_bounded)
{
	start("[domain *]\nretry-after = 1h\nmx-connection-attempts = 3\n");
	mx.answer = busy;
	for (int i = 1; i <= 5; i++)
		mx_listen(&mx,
			  (const char *[]){"198.51.100.11", "198.51.100.12", "198.51.100.13",
					   "198.51.100.14", "198.51.100.15"}[i - 1],
			  WORLD_PORT);
	fake_dns_mx("many.test", "10 mx.many.test 198.51.100.11,198.51.100.12,198.51.100.13,"
				 "198.51.100.14,198.51.100.15");
	world_send(&x, "s@sender.test", "a@many.test");
	world_run(&x, 30 * MINUTE);
	cr_assert_eq(mx_count(&mx, MX_OPEN), 3);
	cr_assert_eq(world_count(&x, 'q'), 1);
	finish();
}

Test(ladder, records_that_are_disabled_are_not_written)
{
	start("[domain *]\nretry-after = 10m\nbounce-after = 30m\n"
	      "[domain grey.test]\ndisable-acct-records = t\n"
	      "[domain dead.test]\ndisable-acct-records = tq,b\n");
	listen_both();
	send_both();
	world_run(&x, HOUR);
	cr_assert_eq(world_count(&x, 't'), 0);
	cr_assert_eq(world_count(&x, 'q'), 0);
	cr_assert_eq(world_count(&x, 'b'), 1);
	cr_assert_eq(world_count_rcpt(&x, 'b', "b@grey.test"), 1);
	cr_assert_eq(world_left(&x), 0);
	finish();
}

/* --- the end of a pause --- */

static void send_held(void *arg ATTR_UNUSED)
{
	for (int i = 0; i < 2000; i++)
		world_send(&x, "s@sender.test", "a@dead.test");
}

static unsigned peak_until(const struct mx *m, usec_t until)
{
	unsigned open = 0, peak = 0;

	for (size_t i = 0; i < m->entries && m->journal[i].at < until; i++) {
		open += m->journal[i].what == MX_OPEN;
		open -= m->journal[i].what == MX_CLOSE && open;
		peak = open > peak ? open : peak;
	}
	return peak;
}

Test(ladder, a_resumed_queue_comes_back_by_and_by)
{
	start("[domain *]\nmax-smtp-out = 20\n[global]\nresume-ramp = 5m\n");
	fake_latency(2 * USEC_PER_SEC);
	mx_listen(&mx, "198.51.100.1", WORLD_PORT);
	world_order_at(&x, 0, ORDER_PAUSE, "dead.test/*", false);
	fake_at(MINUTE, send_held, NULL);
	world_order_at(&x, HOUR, ORDER_RESUME, "dead.test/*", false);
	world_run(&x, 2 * HOUR);
	cr_assert_eq(world_count(&x, 'd'), 2000);
	cr_assert_leq(peak_until(&mx, HOUR + MINUTE), 5);
	cr_assert_geq(peak_until(&mx, HOUR + MINUTE), 3);
	cr_assert_leq(peak_until(&mx, HOUR + 3 * MINUTE), 13);
	cr_assert_geq(mx.peak, 18);
	cr_assert_leq(mx.peak, 20);
	finish();
}
