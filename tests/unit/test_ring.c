/* links: common/base common/shm */
#include <criterion/criterion.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/err.h"
#include "common/shm/layout.h"
#include "common/shm/shm.h"

static struct shm *make(void)
{
	struct shm_config c = {.max_workers = 2,
			       .ring_size = 65536,
			       .max_live_queues = 16,
			       .max_limits = 16,
			       .max_leases = 16};

	return shm_new(&c);
}

static char *raw(struct shm *s, uint64_t pos)
{
	return (char *)shm_at(s, s->ring_data_at) + pos;
}

Test(ring, gives_back_what_was_put_in_order)
{
	struct shm *s = make();
	struct shm_ring *r = shm_ring(s, 0);
	struct slice got;
	uint64_t pos = 0;
	uint8_t type;

	cr_assert_eq(ring_capacity(r), 65536);
	cr_assert_eq(ring_next(r, &pos, &type, &got), 0);
	cr_assert(ring_put(r, 7, "hello", 5));
	cr_assert(ring_put(r, 8, NULL, 0));
	cr_assert_eq(ring_next(r, &pos, &type, &got), 1);
	cr_assert(type == 7 && slice_eq_str(got, "hello"));
	cr_assert_eq(ring_next(r, &pos, &type, &got), 1);
	cr_assert(type == 8 && got.n == 0);
	cr_assert_eq(ring_next(r, &pos, &type, &got), 0);
	cr_assert_eq(pos, ring_position(r));
	cr_assert_eq(ring_committed(r), 0);
	ring_set_committed(r, pos);
	cr_assert_eq(ring_room(r), 65536);
	cr_assert_eq(ring_position(shm_ring(s, 1)), 0, "rings are apart");
	ring_reset(r);
	pos = 0;
	cr_assert_eq(ring_next(r, &pos, &type, &got), 0);
	shm_free(s);
}

Test(ring, refuses_what_has_no_room_and_keeps_the_promise_of_cost)
{
	static char big[65536];
	struct shm *s = make();
	struct shm_ring *r = shm_ring(s, 0);
	size_t n;

	cr_assert_not(ring_put(r, 1, big, sizeof(big)));
	cr_assert_eq(ring_position(r), 0, "a refused put changes nothing");
	/* from every offset of the lap: room for the cost is room for the record */
	for (n = 0; n < 3000; n += 37) {
		uint64_t left = 65536 - ring_position(r) % 65536;

		ring_set_committed(r, ring_position(r));
		cr_assert(ring_put(r, 1, big, left > 16 + n ? left - 16 - n / 16 * 16 : 0));
		while (ring_room(r) >= ring_cost(n))
			cr_assert(ring_put(r, 2, big, n), "room %lu, cost %lu",
				  (unsigned long)ring_room(r), (unsigned long)ring_cost(n));
	}
	shm_free(s);
}

Test(ring, tells_bad_records_from_good_ones)
{
	static const struct {
		const char *what;
		uint64_t at; /* byte of the ring that is hit: records are at 0, 32, 64 */
		int got[4];
	} cases[] = {
		{"length", 32, {1, ERR_CORRUPT, 0, 0}},
		{"type", 36, {1, ERR_CORRUPT, 0, 0}},
		{"checksum of the payload", 40, {1, ERR_CORRUPT, 0, 0}},
		{"checksum of the head", 44, {1, ERR_CORRUPT, 0, 0}},
		{"payload", 48, {1, ERR_CORRUPT, 1, 0}},
		{"first payload", 20, {ERR_CORRUPT, 1, 1, 0}},
		{"padding", 58, {1, 1, 1, 0}},
	};
	struct slice got;
	uint8_t type;
	size_t i, j;

	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct shm *s = make();
		struct shm_ring *r = shm_ring(s, 0);
		uint64_t pos = 0;

		for (j = 0; j < 3; j++)
			cr_assert(ring_put(r, 1, "0123456789", 10));
		*raw(s, cases[i].at) ^= 0x40;
		for (j = 0; j < 4; j++)
			cr_assert_eq(ring_next(r, &pos, &type, &got), cases[i].got[j],
				     "%s, record %zu", cases[i].what, j);
		cr_assert_eq(pos, ring_position(r), "the consumer can go on");
		shm_free(s);
	}
}

Test(ring, does_not_take_an_old_lap_for_a_new_one)
{
	static char data[1008];
	struct shm *s = make();
	struct shm_ring *r = shm_ring(s, 0);
	struct slice got;
	uint64_t pos = 0;
	uint8_t type;

	while (ring_put(r, 1, data, sizeof(data)))
		;
	pos = ring_position(r);
	ring_set_committed(r, pos);
	/* the head moved on over bytes that nobody wrote in this lap */
	atomic_store(&r->head, pos + 65536 / 2);
	cr_assert_eq(ring_next(r, &pos, &type, &got), ERR_CORRUPT);
	shm_free(s);
}

Test(ring, refuses_positions_that_cannot_be)
{
	struct shm *s = make();
	struct shm_ring *r = shm_ring(s, 0);
	struct slice got;
	uint64_t pos = 4096;
	uint8_t type;

	cr_assert(ring_put(r, 1, "x", 1));
	cr_assert_eq(ring_next(r, &pos, &type, &got), ERR_CORRUPT);
	cr_assert_eq(pos, ring_position(r));
	pos = 1;
	cr_assert_eq(ring_next(r, &pos, &type, &got), ERR_CORRUPT);
	shm_free(s);
}

/* --- a producer that is killed at any time --- */

struct shared {
	_Atomic uint64_t put; /* records whose ring_put() returned */
};

static size_t length_of(uint64_t seq)
{
	return 8 + (size_t)(seq * UINT64_C(2654435761) >> 7) % 1500;
}

static void fill(char *p, uint64_t seq, size_t n)
{
	memcpy(p, &seq, 8);
	memset(p + 8, (int)(seq & 0xff), n - 8);
}

static void produce(struct shm *s, struct shared *sh, uint64_t seq)
{
	struct shm_ring *r = shm_ring(s, 0);
	char p[2048];

	for (;; seq++) {
		size_t n = length_of(seq);

		fill(p, seq, n);
		while (!ring_put(r, (uint8_t)seq, p, n))
			usleep(20);
		atomic_store(&sh->put, seq + 1);
	}
}

/* Reads all there is; returns the next sequence number wanted. */
static uint64_t consume(struct shm_ring *r, uint64_t *pos, uint64_t want)
{
	char p[2048];
	struct slice got;
	uint8_t type;
	int rc;

	while ((rc = ring_next(r, pos, &type, &got)) == 1) {
		fill(p, want, length_of(want));
		cr_assert_eq(got.n, length_of(want), "record %lu", (unsigned long)want);
		cr_assert_eq(memcmp(got.p, p, got.n), 0, "record %lu", (unsigned long)want);
		cr_assert_eq(type, (uint8_t)want);
		want++;
		if (want % 3 == 0)
			ring_set_committed(r, *pos);
	}
	cr_assert_eq(rc, 0);
	ring_set_committed(r, *pos);
	return want;
}

Test(ring, loses_and_doubles_nothing_when_producers_are_killed, .timeout = 20)
{
	struct shared *sh =
		mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct shm *s = make();
	uint64_t pos = 0, want = 0, put;
	usec_t end = clock_now() + USEC_PER_SEC;
	int kills = 0;

	srand(7);
	while (clock_now() < end || pos / 65536 <= 5) {
		usec_t until = clock_now() + (usec_t)(rand() % 5000);
		uint64_t least = want + (uint64_t)(rand() % 100); /* also where all is slow */
		pid_t pid;

		/* the last one may have been killed before it counted its last record */
		atomic_store(&sh->put, want);
		pid = fork();
		if (pid == 0)
			produce(s, sh, want);
		while (clock_now() < until || want < least)
			want = consume(shm_ring(s, 0), &pos, want);
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		kills++;
		want = consume(shm_ring(s, 0), &pos, want);
		put = atomic_load(&sh->put);
		cr_assert(want == put || want == put + 1, "consumed %lu, put %lu",
			  (unsigned long)want, (unsigned long)put);
	}
	cr_assert_gt(kills, 20);
	shm_free(s);
}
