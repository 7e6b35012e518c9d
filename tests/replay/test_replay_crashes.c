/* links: common/base common/conf common/spool common/shm common/ipc common/smtp common/mail common/acct common/dns/route.c common/dns/wire.c spooler/commit.c spooler/commit_*.c spooler/dsn_row.c worker -worker/resolver.c -worker/resolver_main.c -worker/resolver_packet.c -worker/resolver_record.c -worker/resolver_route.c -worker/resolver_server.c -worker/resolver_upstream.c tests/replay/world.c tests/replay/mx.c tests/replay/fake_loop.c tests/replay/fake_stream.c tests/replay/fake_dns.c */
/* A message that kills workers: alone from the second death on, set aside for an hour from the third. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/xalloc.h"
#include "tests/replay/mx.h"
#include "tests/replay/world.h"

static struct world x;
static struct mx mx;

static void start(void)
{
	memset(&mx, 0, sizeof(mx));
	world_new(&x, "[domain *]\nmax-smtp-out = 1\nretry-after = 10m\n");
	mx_listen(&mx, "198.51.100.1", WORLD_PORT);
	fake_dns_default("10 mx.test 198.51.100.1");
}

static void finish(void)
{
	world_check(&x);
	cr_assert_eq(fake_open_connections(), 0);
	world_free(&x);
	mx_done(&mx);
}

/* What the committer does when it drains a worker that died with this message in hand. */
struct blame {
	struct commit_job job;
	uint64_t msgid;
};

static int run_blame(struct commit *c, struct spool_write *w, struct commit_job *j)
{
	return commit_count_crash(c, w, container_of(j, struct blame, job)->msgid);
}

static void blame_done(struct commit_job *j)
{
	free(container_of(j, struct blame, job));
}

static void blame(uint64_t msgid, unsigned times)
{
	while (times--) {
		struct blame *b = xcalloc(1, sizeof(*b));

		b->job = (struct commit_job){.run = run_blame, .done = blame_done, .next = x.jobs};
		b->msgid = msgid;
		x.jobs = &b->job;
	}
}

/* The i-th transaction that was ended with a dot. */
static const struct mx_entry *done(size_t i)
{
	return mx_nth(&mx, MX_DONE, i);
}

static bool is_of(const struct mx_entry *e, const char *rcpt)
{
	return strstr(e->text, rcpt) != NULL;
}

/* Five messages over one connection at a time, of which the third has killed so many workers. */
static uint64_t send_five(unsigned deaths)
{
	uint64_t third = 0;
	char rcpt[] = "r0@one.test";

	for (; rcpt[1] < '5'; rcpt[1]++) {
		uint64_t msgid = world_send(&x, "s@sender.test", rcpt);

		if (rcpt[1] == '2')
			third = msgid;
	}
	blame(third, deaths);
	return third;
}

Test(crashes, after_one_a_message_goes_as_any_other)
{
	start();
	send_five(1);
	world_run(&x, MINUTE);
	cr_expect_eq(world_count(&x, 'd'), 5);
	cr_expect_eq(mx.connections, 1);
	finish();
}

Test(crashes, after_two_nothing_else_goes_over_its_connection)
{
	size_t i, alone = 5;

	start();
	send_five(2);
	world_run(&x, MINUTE);
	cr_assert_eq(world_count(&x, 'd'), 5);
	cr_assert_eq(mx_count(&mx, MX_DONE), 5);
	for (i = 0; i < 5; i++)
		if (is_of(done(i), "r2@"))
			alone = i;
	cr_assert_lt(alone, 5);
	for (i = 0; i < 5; i++)
		cr_expect(i == alone || done(i)->connection != done(alone)->connection,
			  "%s shares its connection", done(i)->text);
	cr_expect_eq(mx.connections, 3, "one before, its own, one behind");
	finish();
}

Test(crashes, after_three_it_is_set_aside_for_an_hour_and_tried_alone)
{
	start();
	send_five(3);
	world_run(&x, HOUR - MINUTE);
	cr_assert_eq(world_count(&x, 'd'), 4, "the others go at once");
	cr_assert_eq(world_count_rcpt(&x, 't', "r2@one.test"), 1);
	cr_expect_str_eq(world_nth(&x, 't', 0)->text,
			 "local: set aside: 3 workers died with it in hand");
	world_run(&x, HOUR + MINUTE);
	cr_assert_eq(world_count_rcpt(&x, 'd', "r2@one.test"), 1);
	cr_expect_eq(world_count(&x, 't'), 1);
	cr_expect_geq(done(4)->at, HOUR);
	cr_expect_neq(done(4)->connection, done(3)->connection);
	finish();
}

/* Each further death is an hour more. */
Test(crashes, the_fourth_sets_it_aside_again)
{
	uint64_t msgid;

	start();
	msgid = send_five(3);
	world_run(&x, HOUR - MINUTE);
	blame(msgid, 1);
	world_run(&x, 2 * HOUR - MINUTE);
	cr_assert_eq(world_count(&x, 'd'), 4);
	cr_assert_eq(world_count(&x, 't'), 2);
	cr_expect_str_eq(world_nth(&x, 't', 1)->text,
			 "local: set aside: 4 workers died with it in hand");
	world_run(&x, 2 * HOUR + MINUTE);
	cr_expect_eq(world_count_rcpt(&x, 'd', "r2@one.test"), 1);
	finish();
}

static const char *greylist(struct mx *m, enum mx_event what, unsigned c ATTR_UNUSED,
			    const char *line)
{
	return what == MX_RCPT && strstr(line, "r2@") && m->delivered == 4 &&
			       fake_elapsed() < HOUR + 5 * MINUTE
		       ? "450 4.2.0 greylisted"
		       : NULL;
}

/* What the receiver says may be retried sooner, but between its tries lies an hour: each may kill again. */
Test(crashes, a_deferred_one_has_an_hour_between_its_tries)
{
	start();
	mx.answer = greylist;
	send_five(3);
	world_run(&x, 2 * HOUR + 9 * MINUTE);
	cr_assert_eq(world_count(&x, 't'), 3, "set aside, 450 after an hour, set aside");
	cr_expect_eq(world_nth(&x, 't', 1)->code, 450);
	cr_expect_eq(world_count(&x, 'd'), 4);
	world_run(&x, 2 * HOUR + 15 * MINUTE);
	cr_expect_eq(world_count_rcpt(&x, 'd', "r2@one.test"), 1);
	finish();
}

static unsigned in_hand, most;

static const char *count_in_hand(struct mx *m ATTR_UNUSED, enum mx_event what,
				 unsigned c ATTR_UNUSED, const char *line ATTR_UNUSED)
{
	if (what == MX_MAIL && ++in_hand > most)
		most = in_hand;
	if (what == MX_DONE)
		in_hand--;
	return NULL;
}

/* They were in hand at the same deaths. Only one can be to blame, and it must not take the others with it. */
static void send_suspects(unsigned deaths)
{
	char rcpt[] = "a@0.test";

	in_hand = most = 0;
	mx.answer = count_in_hand;
	for (; rcpt[2] < '5'; rcpt[2]++)
		blame(world_send(&x, "s@sender.test", rcpt), deaths);
}

Test(crashes, only_one_that_workers_died_with_is_in_hand)
{
	start();
	send_suspects(2);
	world_send(&x, "s@sender.test", "a@other.test");
	world_run(&x, USEC_PER_SEC);
	cr_expect_eq(world_count(&x, 'd'), 2, "one of them and the other mail go at once");
	world_run(&x, 5 * MINUTE);
	cr_expect_eq(world_count(&x, 'd'), 6);
	cr_expect_leq(most, 2, "one of them, and the other mail");
	finish();
}

Test(crashes, those_set_aside_together_have_their_turns_after_the_hour)
{
	start();
	send_suspects(3);
	world_run(&x, HOUR - MINUTE);
	cr_expect_eq(world_count(&x, 'd'), 0);
	world_run(&x, HOUR + 10 * MINUTE);
	cr_expect_eq(world_count(&x, 'd'), 5);
	cr_expect_eq(most, 1);
	finish();
}
