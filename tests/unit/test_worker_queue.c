/* links: common/base common/conf common/spool common/shm common/ipc common/smtp common/mail common/acct common/dns/route.c common/dns/wire.c worker -worker/resolver.c -worker/resolver_main.c -worker/resolver_packet.c -worker/resolver_record.c -worker/resolver_route.c -worker/resolver_server.c -worker/resolver_upstream.c tests/replay/fake_loop.c tests/replay/fake_stream.c tests/replay/fake_dns.c */
#include <criterion/criterion.h>
#include <stdio.h>

#include "common/base/xalloc.h"
#include "common/conf/conf.h"
#include "common/shm/shm.h"
#include "worker/context.h"
#include "worker/inhand.h"
#include "worker/queue.h"
#include "worker/site.h"

static struct worker w;
static struct shm_counters counters;
static struct site site;
static struct queue q;

static void setup(void)
{
	static struct heritage h;

	w.h = &h;
	w.loop = loop_new();
	w.shm = shm_new(
		&(struct shm_config){.max_workers = 1, .ring_size = 65536, .max_live_queues = 16});
	w.counters = &counters;
	w.inhand = inhand_new(&w);
	TAILQ_INIT(&site.queues);
	turn_init(&site.turn);
	q = (struct queue){.magic = QUEUE_MAGIC, .w = &w, .id = 7, .site = &site};
	for (int c = 0; c < SPOOL_CLASSES; c++)
		TAILQ_INIT(&q.lanes[c]);
}

static struct item *add(uint64_t msgid, uint32_t rcpt, uint8_t class, uint8_t job)
{
	struct item *it = inhand_add(w.inhand, msgid, rcpt, &q, true);

	it->class = class;
	it->job = job;
	queue_put(&q, it, false);
	return it;
}

/* Takes the next item as a transaction would; returns its message. */
static uint64_t next(void)
{
	struct parcel *p = turn_next(&site.turn);
	struct item *it;
	uint64_t msgid;

	if (!p)
		return 0;
	msgid = p->key.msgid;
	turn_used(&site.turn, p);
	it = TAILQ_FIRST(&p->items);
	queue_remove(&q, it);
	inhand_forget(w.inhand, it);
	return msgid;
}

Test(queue, recipients_of_one_message_wait_together, .init = setup)
{
	add(1, 0, 1, 0);
	add(2, 0, 1, 0);
	add(1, 1, 1, 0);
	cr_assert_eq(q.parcels, 2);
	cr_assert_eq(q.waiting, 3);
	cr_assert_eq(turn_next(&site.turn)->item_count, 2);
	cr_assert_eq(site.parcels, 2);
	cr_assert_eq(next(), 1);
	cr_assert_eq(next(), 1);
	cr_assert_eq(next(), 2);
	cr_assert_eq(next(), 0);
	cr_assert_eq(site.parcels, 0);
	cr_assert_eq(inhand_count(w.inhand), 0);
}

Test(queue, classes_share_eight_four_two_one, .init = setup)
{
	unsigned seen[SPOOL_CLASSES] = {0};

	for (uint8_t c = 0; c < SPOOL_CLASSES; c++)
		for (uint64_t i = 0; i < 100; i++)
			add(1000 * (uint64_t)(c + 1) + i, 0, c, 0);
	for (int i = 0; i < 30; i++)
		seen[next() / 1000 - 1]++;
	cr_assert_eq(seen[0], 16);
	cr_assert_eq(seen[1], 8);
	cr_assert_eq(seen[2], 4);
	cr_assert_eq(seen[3], 2);
}

Test(queue, a_lower_class_has_all_when_it_is_alone, .init = setup)
{
	for (uint64_t i = 1; i <= 5; i++)
		add(i, 0, 3, 0);
	for (uint64_t i = 1; i <= 5; i++)
		cr_assert_eq(next(), i);
}

Test(queue, jobs_of_one_class_take_turns, .init = setup)
{
	for (uint64_t i = 0; i < 100; i++)
		add(1000 + i, 0, 1, 1);
	add(2000, 0, 1, 2);
	add(2001, 0, 1, 2);
	cr_assert_eq(next(), 1000);
	cr_assert_eq(next(), 2000);
	cr_assert_eq(next(), 1001);
	cr_assert_eq(next(), 2001);
	cr_assert_eq(next(), 1002);
	cr_assert_eq(next(), 1003);
}

Test(queue, what_comes_back_goes_to_the_front, .init = setup)
{
	struct item *it = inhand_add(w.inhand, 9, 0, &q, true);

	add(1, 0, 1, 0);
	it->class = 1;
	queue_put(&q, it, true);
	cr_assert_eq(next(), 9);
}

Test(inhand, an_item_leaves_only_when_its_position_is_committed, .init = setup)
{
	struct item *a = add(1, 0, 1, 0), *b = add(2, 0, 1, 0);

	queue_remove(&q, a);
	queue_remove(&q, b);
	inhand_done(w.inhand, a, 100);
	inhand_done(w.inhand, b, 200);
	cr_assert_eq(inhand_first_done(w.inhand), 100);
	cr_assert_eq(inhand_settle(w.inhand, 99), 0);
	cr_assert(inhand_find(w.inhand, 1, 0));
	cr_assert_eq(inhand_settle(w.inhand, 100), 1);
	cr_assert_not(inhand_find(w.inhand, 1, 0));
	cr_assert(inhand_find(w.inhand, 2, 0));
	cr_assert_eq(inhand_settle(w.inhand, 1000), 1);
	cr_assert_not(inhand_has_done(w.inhand));
}

Test(inhand, what_is_free_is_shared_so_that_no_queue_takes_all, .init = setup)
{
	size_t before = inhand_share(w.inhand, &q, 0), n = 0;

	inhand_set_reached(w.inhand, &q, true);
	while (inhand_share(w.inhand, &q, 0) > 0) {
		cr_assert_leq(inhand_share(w.inhand, &q, 0), before);
		before = inhand_share(w.inhand, &q, 0);
		inhand_add(w.inhand, ++n, 0, &q, true);
		cr_assert_lt(n, 100000);
	}
	cr_assert_eq(inhand_count(w.inhand), n);
	cr_assert(inhand_full(w.inhand));
}

Test(inhand, higher_classes_find_room_where_lower_ones_have_none, .init = setup)
{
	inhand_set_reached(w.inhand, &q, true);
	for (uint8_t c = SPOOL_CLASSES; c-- > 0;) {
		static uint64_t n;

		cr_assert_gt(inhand_share(w.inhand, &q, c), 0, "class %u", c);
		while (inhand_share(w.inhand, &q, c) > 0)
			inhand_add(w.inhand, ++n, 0, &q, true);
	}
}

Test(inhand, queues_that_are_not_reached_leave_half_of_the_room, .init = setup)
{
	struct queue other = q;
	uint64_t n = 0;

	other.reached = true;
	while (inhand_share(w.inhand, &q, 1) > 0)
		inhand_add(w.inhand, ++n, 0, &q, true);
	cr_assert(inhand_unreached_full(w.inhand));
	cr_assert_geq(inhand_share(w.inhand, &other, 1), 1000);
	inhand_set_reached(w.inhand, &q, true); /* it has answered */
	cr_assert_not(inhand_unreached_full(w.inhand));
	inhand_set_reached(w.inhand, &q, false);
	cr_assert(inhand_unreached_full(w.inhand));
}

Test(site, remembers_as_many_replies_as_it_is_told, .init = setup)
{
	struct conf_domain set = {.max_events_recorded = 2};
	struct outcome o = {.class = OUTCOME_TRANSIENT};

	site.w = &w;
	site.set = &set;
	for (int i = 0; i < 5; i++) {
		snprintf(o.text, sizeof(o.text), "450 reply %d", i / 2);
		site_note(&site, &o);
	}
	cr_assert_eq(site.reply_count, 2);
	cr_assert_eq(site.replies[0].count + site.replies[1].count, 3);
	set.max_events_recorded = 1;
	site_note(&site, &o);
	cr_assert_eq(site.reply_count, 2, "one that is known only counts");
	snprintf(o.text, sizeof(o.text), "450 new");
	site_note(&site, &o);
	cr_assert_eq(site.reply_count, 1);
	cr_assert_str_eq(site.replies[0].text, "450 new");
}
