/* links: common/base common/shm */
/*
 * Eight processes take and give leases on few entries, and are killed at any time, in the mutex and
 * out of it. A word for each entry, a byte in it for each process, says what is really held: its
 * sum, read in one load, never exceeds the cap.
 */
#include <criterion/criterion.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/err.h"
#include "common/shm/layout.h"
#include "common/shm/limits.h"
#include "common/shm/limits_table.h"

#define WORKERS 8
#define ENTRIES 6
#define STUCK_MSEC 1000

static const uint32_t caps[ENTRIES] = {1, 2, 3, 5, 2, 6};
static int bells[WORKERS];

struct shared {
	_Atomic uint64_t held[ENTRIES];
	_Atomic uint64_t takes, waits, too_many, stuck, full, adopted;
	_Atomic uint32_t stop;
};

static uint32_t bytes_sum(uint64_t v)
{
	uint32_t sum = 0;

	for (; v; v >>= 8)
		sum += v & 0xff;
	return sum;
}

/* One to three different entries in random order. */
static size_t choose(struct limit_want *w, int *which)
{
	static const char *const names[ENTRIES] = {"a", "b", "c", "d", "e", "f"};
	size_t n = 1 + (size_t)rand() % 3, i;
	int at = rand() % ENTRIES, step = rand() % 2 ? 1 : 5;

	for (i = 0; i < n; i++, at = (at + step) % ENTRIES) {
		which[i] = at;
		w[i] = (struct limit_want){.kind = LIMIT_IP,
					   .name = slice_str(names[at]),
					   .cap = caps[at],
					   .conf_gen = 1,
					   .priority = (uint8_t)(rand() % 3)};
	}
	return n;
}

static bool bell_wait(uint32_t slot)
{
	struct pollfd p = {.fd = bells[slot], .events = POLLIN};
	uint64_t n;

	if (poll(&p, 1, STUCK_MSEC) != 1)
		return false;
	return read(bells[slot], &n, sizeof(n)) == sizeof(n);
}

/* As after a reload: the lease leaves all entries but the first, and enters one that has room for all. */
static void adopt(struct shm *s, struct shared *sh, uint32_t slot, lease_id l,
		  const struct limit_want *w, const int *which, size_t n)
{
	const struct limit_want now[] = {
		w[0], {.kind = LIMIT_MX, .name = slice_str("new"), .cap = 1000, .conf_gen = 1}};
	size_t i;

	for (i = 1; i < n; i++)
		atomic_fetch_sub(&sh->held[which[i]], UINT64_C(1) << 8 * slot);
	if (lease_adopt(s, slot, l, now, 2) < 0)
		atomic_fetch_add(&sh->full, 1);
	atomic_fetch_add(&sh->adopted, 1);
}

static void hold(struct shm *s, struct shared *sh, uint32_t slot, lease_id l,
		 const struct limit_want *w, const int *which, size_t n)
{
	uint64_t mine = UINT64_C(1) << 8 * slot;
	usec_t until = clock_now() + (usec_t)(rand() % 300);
	size_t i;

	for (i = 0; i < n; i++) {
		uint64_t now = atomic_fetch_add(&sh->held[which[i]], mine) + mine;

		if (bytes_sum(now) > caps[which[i]])
			atomic_fetch_add(&sh->too_many, 1);
	}
	lease_set_message(s, slot, l, 1 + (uint64_t)slot);
	while (clock_now() < until)
		(void)lease_should_yield(s, slot, l, false, until, 0);
	if (rand() % 8 == 0) {
		adopt(s, sh, slot, l, w, which, n);
		n = 1;
	}
	for (i = 0; i < n; i++)
		atomic_fetch_sub(&sh->held[which[i]], mine);
	lease_give(s, slot, l);
}

static void work(struct shm *s, struct shared *sh, uint32_t slot, unsigned seed)
{
	struct limit_want w[3];
	int which[3];
	size_t n, blocking;
	lease_id l;
	int rc;

	srand(seed);
	while (!atomic_load(&sh->stop)) {
		n = choose(w, which);
		while ((rc = lease_take(s, slot, w, n, &l, &blocking)) == ERR_BUSY) {
			atomic_fetch_add(&sh->waits, 1);
			if (rand() % 16 == 0) {
				limit_unwait_all(s, slot);
				break;
			}
			if (!bell_wait(slot) && !atomic_load(&sh->stop))
				atomic_fetch_add(&sh->stuck, 1);
		}
		if (rc == ERR_FULL)
			atomic_fetch_add(&sh->full, 1);
		if (rc == 0) {
			atomic_fetch_add(&sh->takes, 1);
			hold(s, sh, slot, l, w, which, n);
		}
	}
	_exit(0);
}

static pid_t start(struct shm *s, struct shared *sh, uint32_t slot)
{
	unsigned seed = (unsigned)rand();
	pid_t pid = fork();

	if (pid == 0)
		work(s, sh, slot, seed);
	return pid;
}

static void end(struct shm *s, struct shared *sh, uint32_t slot, pid_t pid)
{
	uint64_t ids[4];
	size_t n;
	int i;

	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	for (i = 0; i < ENTRIES; i++)
		atomic_fetch_and(&sh->held[i], ~(UINT64_C(0xff) << 8 * slot));
	n = limits_worker_dead(s, slot, ids, 4);
	cr_assert(n == 0 || (n == 1 && ids[0] == 1 + (uint64_t)slot));
}

static void check_empty(struct shm *s)
{
	struct limit_info all[64];
	size_t pos = 0, n = limits_list(s, &pos, all, 64), i;
	struct limits l;

	cr_assert_eq(n, ENTRIES + 1, "and the one that was adopted");
	for (i = 0; i < n; i++)
		cr_assert(all[i].in_use == 0 && all[i].waiting == 0, "%s: %u in use, %u waiting",
			  all[i].name, all[i].in_use, all[i].waiting);
	limits_begin(&l, s);
	for (i = 1; i <= ENTRIES + 1; i++)
		cr_assert(l.entries[i].shares == 0 && l.entries[i].reserved == 0 &&
			  l.entries[i].yielding == 0 && l.entries[i].over == 0);
	cr_assert_eq(atomic_load(&l.t->waiting), 0);
	cr_assert_eq(atomic_load(&l.t->over), 0);
	limits_end(&l);
}

Test(limits_stress, caps_hold_and_nobody_is_stuck_while_processes_are_killed, .timeout = 30)
{
	struct shm_config c = {.max_workers = WORKERS,
			       .ring_size = 65536,
			       .max_live_queues = 16,
			       .max_limits = 64,
			       .max_leases = 8};
	struct shared *sh =
		mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct shm *s = shm_new(&c);
	struct limits_table *t = shm_at(s, s->limits_at);
	pid_t pids[WORKERS];
	usec_t until = clock_now() + 2 * USEC_PER_SEC;
	uint32_t i;
	int kills = 0;

	srand(getenv("SEED") ? (unsigned)atoi(getenv("SEED")) : 1);
	for (i = 0; i < WORKERS; i++)
		bells[i] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	limits_set_bells(bells, WORKERS);
	for (i = 0; i < WORKERS; i++)
		pids[i] = start(s, sh, i);
	while (clock_now() < until) {
		usleep((useconds_t)(rand() % 4000));
		limits_tick(s);
		i = (uint32_t)rand() % WORKERS;
		end(s, sh, i, pids[i]);
		kills++;
		pids[i] = start(s, sh, i);
	}
	atomic_store(&sh->stop, 1);
	for (i = 0; i < WORKERS; i++)
		end(s, sh, i, pids[i]);
	printf("takes %lu, waits %lu, kills %d, in the mutex %lu\n", (unsigned long)sh->takes,
	       (unsigned long)sh->waits, kills, (unsigned long)t->recoveries);
	cr_assert_eq(atomic_load(&sh->too_many), 0, "%lu", (unsigned long)sh->too_many);
	cr_assert_eq(atomic_load(&sh->stuck), 0, "%lu", (unsigned long)sh->stuck);
	cr_assert_eq(atomic_load(&sh->full), 0);
	cr_assert_gt(atomic_load(&sh->takes), 200);
	cr_assert_gt(atomic_load(&sh->waits), 100);
	cr_assert_gt(atomic_load(&sh->adopted), 10);
	check_empty(s);
	shm_free(s);
}
