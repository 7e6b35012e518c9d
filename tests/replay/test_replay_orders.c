/* links: common/base common/conf common/spool common/shm common/ipc common/smtp common/mail common/acct common/dns/route.c common/dns/wire.c spooler/commit.c spooler/commit_*.c spooler/dsn_row.c worker -worker/resolver.c -worker/resolver_main.c -worker/resolver_packet.c -worker/resolver_record.c -worker/resolver_route.c -worker/resolver_server.c -worker/resolver_upstream.c tests/replay/world.c tests/replay/mx.c tests/replay/fake_loop.c tests/replay/fake_stream.c tests/replay/fake_dns.c */
/*
 * Orders and owners that change while mail is on its way: nothing may be left that nobody wakes.
 */
#include <criterion/criterion.h>
#include <string.h>

#include "tests/replay/mx.h"
#include "tests/replay/world.h"

#define CONF "[domain *]\nretry-after = 5m\nbounce-after = 4d12h\n"

static struct world x;
static struct mx mx;

static void start(void)
{
	memset(&mx, 0, sizeof(mx));
	world_new(&x, CONF);
	mx_listen(&mx, "198.51.100.1", WORLD_PORT);
	fake_dns_mx("there.test", "10 mx.there.test 198.51.100.1");
}

static void finish(void)
{
	cr_assert(!commit_orders_pending(x.commit), "an order is never carried out");
	world_check(&x);
	world_free(&x);
	mx_done(&mx);
}

static void send_one(void *arg ATTR_UNUSED)
{
	world_send(&x, "", "a@there.test");
}

Test(orders, mail_of_an_orphan_goes_out_when_its_virtual_mta_is_back)
{
	start();
	x.h.orphan = true;
	send_one(NULL);
	fake_at(2 * MINUTE, send_one, NULL);
	world_run(&x, 10 * MINUTE);
	cr_assert_eq(world_left(&x), 2);
	x.h.orphan = false;
	world_run(&x, 11 * MINUTE);
	cr_assert_eq(world_count(&x, 'd'), 2);
	finish();
}

static void race(void *arg ATTR_UNUSED)
{
	x.race_percent = 50;
	x.race_only = true;
}

/*
 * Commits lie between the worker's snapshot and its look at the sequence of orders, half of the time:
 * it must not take an order for read that its snapshot does not have.
 */
Test(orders, an_order_that_is_committed_while_the_worker_reads_is_obeyed)
{
	start();
	fake_at(1, race, NULL);
	for (int i = 1; i < 50; i++)
		world_order_at(&x, (usec_t)i * MINUTE, i % 2 ? ORDER_PAUSE : ORDER_RESUME,
			       "there.test/a", false);
	fake_at(49 * MINUTE + 10 * USEC_PER_SEC, send_one, NULL);
	world_run(&x, HOUR);
	cr_assert_eq(world_count(&x, 'd'), 0, "the queue is paused");
	cr_assert_eq(world_left(&x), 1);
	finish();
}

static void new_spooler(void *arg ATTR_UNUSED)
{
	world_restart_spooler(&x);
}

static void slow(void *arg ATTR_UNUSED)
{
	x.commit_gap = 2 * USEC_PER_SEC;
}

static void many(void)
{
	fake_host("198.51.100.9", WORLD_PORT, FAKE_REFUSING, NULL, NULL);
	fake_dns_mx("dead.test", "10 mx.dead.test 198.51.100.9");
	for (int i = 0; i < 1200; i++)
		world_send(&x, "", "b@dead.test");
}

/* The worker has answered the order, the spooler that knew it dies before all the work is done. */
Test(orders, a_new_spooler_gets_the_answers_again)
{
	start();
	many();
	fake_at(MINUTE - 1, slow, NULL);
	world_order_at(&x, MINUTE, ORDER_DELETE, "*", false);
	/* commits: 1:02 the order, 1:04 the answer and the first chunk */
	fake_at(MINUTE + 5 * USEC_PER_SEC, new_spooler, NULL);
	world_run(&x, 5 * MINUTE);
	cr_assert_eq(world_count(&x, 'b'), 1200);
	finish();
}

/*
 * A message that began before a delete order and is committed while the order is carried out: the walk
 * may have passed it by. It is deleted or delivered.
 */
static void send_old(void *arg ATTR_UNUSED)
{
	struct intake_message *m;

	world_send(&x, "", "late@there.test");
	for (m = x.mail; m->next; m = m->next)
		;
	m->received -= 10 * MSEC_PER_SEC;
	m->msgid -= 1000000;
}

Test(orders, a_slow_message_is_not_forgotten_by_a_delete)
{
	start();
	many();
	fake_at(MINUTE - 1, slow, NULL);
	world_order_at(&x, MINUTE, ORDER_DELETE, "*", false);
	for (int i = 0; i < 12; i++)
		fake_at(MINUTE + (usec_t)i * USEC_PER_SEC, send_old, NULL);
	world_run(&x, HOUR);
	cr_assert_eq(world_left(&x), 0, "%llu recipients are stuck",
		     (unsigned long long)world_left(&x));
	cr_assert_eq(world_count(&x, 'd') + world_count(&x, 'b'), 1212);
	finish();
}

/* Mail that comes after a delete order is not meant, also while it is carried out. */
static void send_new(void *arg ATTR_UNUSED)
{
	world_send(&x, "", "new@there.test");
}

Test(orders, a_delete_leaves_what_came_later)
{
	start();
	many();
	fake_at(MINUTE - 1, slow, NULL);
	world_order_at(&x, MINUTE, ORDER_DELETE, "*", false);
	for (int i = 1; i < 12; i++)
		fake_at(MINUTE + (usec_t)i * USEC_PER_SEC, send_new, NULL);
	world_run(&x, HOUR);
	cr_assert_eq(world_left(&x), 0);
	cr_assert_eq(world_count_rcpt(&x, 'd', "new@there.test"), 11);
	cr_assert_eq(mx.delivered, 11);
	finish();
}

/* Names of virtual MTAs are the same in any case: so is their mail. */
Test(orders, a_virtual_mta_that_is_written_otherwise_keeps_its_mail)
{
	start();
	fake_host("198.51.100.9", WORLD_PORT, FAKE_REFUSING, NULL, NULL);
	fake_dns_mx("there.test", "10 mx.there.test 198.51.100.9");
	send_one(NULL);
	world_run(&x, 6 * MINUTE);
	fake_dns_mx("there.test", "10 mx.there.test 198.51.100.1");
	x.vmta = "A";
	world_reload(&x, CONF);
	x.h.vmta = "A";
	send_one(NULL);
	world_run(&x, HOUR);
	cr_assert_eq(world_count(&x, 'd'), 2);
	finish();
}
