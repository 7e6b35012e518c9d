/* links: common/base common/conf common/spool common/shm common/ipc common/smtp common/mail common/acct common/dns/route.c common/dns/wire.c worker -worker/resolver.c -worker/resolver_main.c -worker/resolver_packet.c -worker/resolver_record.c -worker/resolver_route.c -worker/resolver_server.c -worker/resolver_upstream.c tests/replay/fake_loop.c tests/replay/fake_stream.c tests/replay/fake_dns.c */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "common/shm/shm.h"
#include "worker/context.h"
#include "worker/post.h"

#define RING (64 * 1024)
#define OPEN 400

static struct worker w;
static struct ip ip6;
static struct report_outcome outcomes[64];
static char text[REPORT_TEXT_MAX];

static void setup(void)
{
	static struct heritage h;

	w.h = &h;
	w.loop = loop_new();
	w.shm = shm_new(
		&(struct shm_config){.max_workers = 1, .ring_size = RING, .max_live_queues = 16});
	w.post = post_new(&w);
	memset(text, 'x', sizeof(text));
	cr_assert(ip_parse(slice_str("2001:db8::1"), &ip6));
	for (size_t i = 0; i < 64; i++)
		outcomes[i] = (struct report_outcome){.rcpt = UINT32_MAX,
						      .queue = UINT32_MAX,
						      .class = OUTCOME_DELIVERED,
						      .code = UINT16_MAX,
						      .due = UINT64_MAX};
}

/* With numbers as long as they can be. */
static struct report_transaction transaction(uint32_t n)
{
	return (struct report_transaction){
		.msgid = UINT64_MAX,
		.mx_ip = ip6,
		.source_ip = ip6,
		.bytes = UINT64_MAX,
		.started = UINT64_MAX,
		.ended = UINT64_MAX,
		.warmup_day = UINT32_MAX,
		.site = slice_str("a.example"),
		.mx_name = slice_str("mx.a.example"),
		.esmtp = slice_str("PIPELINING,SIZE"),
		.tls_protocol = slice_str(""),
		.tls_cipher = slice_str(""),
		.outcomes = outcomes,
		.outcome_count = n,
	};
}

/* The committer takes what is there up to somewhere. */
static void commit_some(struct shm_ring *r)
{
	uint64_t from = ring_committed(r), to = ring_position(r);
	struct slice payload;
	uint64_t pos = from;
	uint8_t type;

	if (from == to)
		return;
	to = from + (uint64_t)rand() % (to - from + 1);
	while (pos < to && ring_next(r, &pos, &type, &payload) == 1)
		;
	ring_set_committed(r, pos);
}

static void end_one(uint32_t *open, uint32_t *count, bool wordy)
{
	uint32_t i = (uint32_t)rand() % *count, n = open[i];
	struct report_transaction t = transaction(n);
	size_t length = wordy ? sizeof(text) : 30;

	for (uint32_t k = 0; k < n; k++) /* no two alike, so each is stored */
		outcomes[k].text = slice_of(text, length - k);
	post_transaction(w.post, &t, post_bound(&t, n));
	open[i] = open[--*count];
}

/*
 * All the room is reserved, what needs no reservation takes what it may besides, and the committer stands
 * still until every transaction has ended: wherever in its lap the ring is, each finds its place.
 */
Test(worker_post, what_is_reserved_always_has_room, .init = setup)
{
	static uint32_t open[OPEN];
	struct shm_ring *r = shm_ring(w.shm, 0);
	uint32_t count = 0, most = 0, wakes = 0;

	srand(7);
	for (uint32_t round = 0; round < 2000; round++) {
		for (;;) {
			uint32_t n = rand() % 8 ? 1 : 1 + (uint32_t)rand() % 12;
			struct report_transaction t = transaction(n);

			cr_assert_lt(count, OPEN);
			if (!post_reserve(w.post, post_bound(&t, n)))
				break;
			open[count++] = n;
		}
		most = count > most ? count : most;
		while (post_wake(w.post, round, round))
			wakes++;
		while (count)
			end_one(open, &count, round % 4 != 0);
		commit_some(r);
	}
	cr_assert_gt(ring_position(r), 200 * RING, "many laps");
	cr_assert_gt(wakes, 1000);
	cr_assert_gt(most, RING * 3 / 4 / 1200, "%u at a time", most);
}

Test(worker_post, the_longest_transaction_leaves_room_for_others, .init = setup)
{
	uint32_t n = post_max_recipients(w.post);

	cr_assert_gt(n, 1);
	cr_assert(post_reserve(w.post, 2 * post_bound(NULL, n)));
	cr_assert(post_reserve(w.post, post_bound(NULL, 1)));
}
