/* links: common/base common/shm */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/shm/layout.h"
#include "common/shm/shm.h"

static struct shm *make(uint32_t workers, uint32_t queues)
{
	struct shm_config c = {.max_workers = workers,
			       .ring_size = 65536,
			       .max_live_queues = queues,
			       .max_limits = 64,
			       .max_leases = 16};

	return shm_new(&c);
}

/* Pages of the mapping that exist, in any process. */
static size_t resident(struct shm *s)
{
	size_t pages = s->size / SHM_PAGE, n = 0, i;
	unsigned char *map = malloc(pages);

	cr_assert_eq(mincore(s, s->size, map), 0);
	for (i = 0; i < pages; i++)
		n += map[i] & 1;
	free(map);
	return n;
}

Test(shm, of_production_size_touches_almost_nothing)
{
	struct shm_config c = {
		.max_workers = 2048, .ring_size = UINT64_C(4) << 20, .max_live_queues = 1000000};
	struct shm *s = shm_new(&c);
	uint32_t i, pos = 0;

	cr_assert_gt(s->size, UINT64_C(8) << 30);
	for (i = 0; i < 2048; i++)
		(void)ring_room(shm_ring(s, i));
	cr_assert_null(shm_queue_next(s, &pos));
	cr_assert_null(shm_queue_find(s, 12345));
	cr_assert_eq(shm_counter_sum(s, COUNTER_COMMITS), 0);
	cr_assert_leq(resident(s), 150, "%zu pages", resident(s));
	shm_free(s);
}

Test(shm, counters_sum_over_processes)
{
	struct shm *s = make(8, 16);

	counter_add(shm_spooler_counters(s), COUNTER_DNS_QUERIES, 1);
	counter_add(shm_resolver_counters(s), COUNTER_DNS_QUERIES, 10);
	counter_add(&shm_worker(s, 7)->counters, COUNTER_DNS_QUERIES, 105);
	counter_sub(&shm_worker(s, 7)->counters, COUNTER_DNS_QUERIES, 5);
	counter_set(&shm_worker(s, 3)->counters, COUNTER_DNS_QUERIES, 1000);
	cr_assert_eq(shm_counter_sum(s, COUNTER_DNS_QUERIES), 1111);
	cr_assert_eq(shm_counter_sum(s, COUNTER_DSN_SENT), 0);
	cr_assert_str_eq(counter_name(COUNTER_DNS_QUERIES), "dns_queries");
	cr_assert_str_eq(counter_help(COUNTER_DSN_SENT), "bounce messages made");
	shm_free(s);
}

Test(shm, finds_the_living_worker_of_a_virtual_mta)
{
	struct shm *s = make(64, 16);
	struct shm_worker *w = shm_worker(s, 5), *w9;

	cr_assert_eq(shm_worker_by_vmta(s, 77), -1);
	atomic_store(&w->vmta_id, 77);
	cr_assert_eq(shm_worker_by_vmta(s, 77), -1, "a free slot is nobody");
	atomic_store(&w->state, SHM_WORKER_RUNNING);
	cr_assert_eq(shm_worker_by_vmta(s, 77), 5);
	cr_assert_eq(shm_worker_by_vmta(s, 0), -1);
	atomic_store(&w->state, SHM_WORKER_DEAD);
	cr_assert_eq(shm_worker_by_vmta(s, 77), -1);
	w9 = shm_worker(s, 9);
	atomic_store(&w9->vmta_id, 77);
	atomic_store(&w9->state, SHM_WORKER_DRAINING);
	cr_assert_eq(shm_worker_by_vmta(s, 77), 9);
	cr_assert_eq(shm_workers_used(s), 10);
	cr_assert_eq(shm_max_workers(s), 64);
	shm_free(s);
}

Test(shm, queues_are_found_until_released)
{
	struct shm *s = make(1, 1000);
	struct shm_queue *q = shm_queue_claim(s, 42);

	cr_assert_not_null(q);
	cr_assert_eq(atomic_load(&q->id), 42);
	cr_assert_eq(shm_queue_claim(s, 42), q);
	cr_assert_eq(shm_queue_find(s, 42), q);
	atomic_store(&q->recipients, 5);
	shm_queue_release(s, 42);
	cr_assert_null(shm_queue_find(s, 42));
	shm_queue_release(s, 42);
	cr_assert_eq(shm_live_queues(s), 0);
	q = shm_queue_claim(s, 42);
	cr_assert_eq(atomic_load(&q->recipients), 0, "a new queue starts empty");
	cr_assert_null(shm_queue_claim(s, 0));
	cr_assert_null(shm_queue_claim(s, UINT32_MAX));
	shm_free(s);
}

Test(shm, queue_table_refuses_when_full_and_takes_again)
{
	struct shm *s = make(1, 1000);
	uint32_t id, pos = 0, n = 0;

	for (id = 1; id <= 1000; id++)
		cr_assert_not_null(shm_queue_claim(s, id * 7919));
	cr_assert_null(shm_queue_claim(s, 5));
	cr_assert_not_null(shm_queue_claim(s, 7919), "a queue that has a slot keeps it");
	while (shm_queue_next(s, &pos))
		n++;
	cr_assert_eq(n, 1000);
	shm_queue_release(s, 7919 * 500);
	cr_assert_not_null(shm_queue_claim(s, 5));
	cr_assert_eq(shm_live_queues(s), 1000);
	shm_free(s);
}

/* Against a plain array, over more ids than the table has places. */
Test(shm, queues_come_and_go_without_losing_one)
{
	enum { IDS = 5000, ROUNDS = 40000 };
	static bool live[IDS + 1];
	struct shm *s = make(1, 1000);
	uint32_t i, id, pos, n = 0, seen = 0, seed = 1, marks = 0;
	struct shm_queue *q;

	for (i = 0; i < ROUNDS; i++) {
		seed = seed * 1103515245 + 12345;
		id = seed / 65536 % IDS + 1;
		if (live[id]) {
			shm_queue_release(s, id);
			live[id] = false;
			n--;
		} else if (n < 900) {
			cr_assert_not_null(shm_queue_claim(s, id));
			live[id] = true;
			n++;
		}
	}
	for (id = 1; id <= IDS; id++) {
		q = shm_queue_find(s, id);
		cr_assert_eq(q != NULL, live[id], "queue %u", id);
		cr_assert(!q || atomic_load(&q->id) == id);
	}
	for (pos = 0; shm_queue_next(s, &pos);)
		seen++;
	cr_assert_eq(seen, n);
	for (id = 1; id <= IDS; id++)
		shm_queue_release(s, id);
	for (i = 0; i < s->queue_slots; i++)
		marks += ((_Atomic uint32_t *)shm_at(s, s->queue_index_at))[i] != 0;
	cr_assert_eq(marks, 0, "%u marks left in an empty table", marks);
	shm_free(s);
}

Test(shm, memory_of_queues_follows_the_living_ones)
{
	struct shm *s = make(1, 1000000);
	size_t before = resident(s);
	uint32_t id;

	for (id = 1; id <= 16000; id++)
		atomic_store(&shm_queue_claim(s, id)->recipients, 1);
	/* 16,000 of 256 bytes are 1,000 pages; the index has 2,048 at most */
	cr_assert_lt(resident(s) - before, 1001 + 1000 + 60, "%zu pages", resident(s) - before);
	for (id = 1; id <= 16000; id++)
		shm_queue_release(s, id);
	cr_assert_lt(resident(s) - before, 1000 + 60, "%zu pages", resident(s) - before);
	shm_free(s);
}

Test(shm, queue_text_is_cut_and_replaced)
{
	struct shm *s = make(1, 16);
	struct shm_queue *q = shm_queue_claim(s, 1);
	char got[SHM_QUEUE_TEXT], big[300];

	memset(big, 'x', sizeof(big));
	shm_queue_get_text(q, got);
	cr_assert_str_eq(got, "");
	shm_queue_set_text(q, slice_of(big, sizeof(big)));
	shm_queue_get_text(q, got);
	cr_assert_eq(strlen(got), SHM_QUEUE_TEXT - 1);
	shm_queue_set_text(q, slice_str("limit ip 192.0.2.1: 20 of 20"));
	shm_queue_get_text(q, got);
	cr_assert_str_eq(got, "limit ip 192.0.2.1: 20 of 20");
	/* a writer died in the middle: readers do not hang, the next writer repairs */
	atomic_fetch_or(&q->version, 1);
	shm_queue_get_text(q, got);
	shm_queue_set_text(q, slice_str("ok"));
	cr_assert_eq(atomic_load(&q->version) & 1, 0);
	shm_queue_get_text(q, got);
	cr_assert_str_eq(got, "ok");
	shm_free(s);
}
