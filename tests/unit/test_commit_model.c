/* links: common/base common/conf common/spool common/shm common/acct spooler/commit.c spooler/commit_*.c spooler/dsn_row.c */
#include "tests/unit/spool_fixture.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "common/base/rng.h"

/*
 * Random operations beside a model of what must be in the spool.
 */
#define MESSAGES 400
#define RCPTS 3

enum fate { NOT_THERE, FRESH, DUE, ENDED };

struct model {
	enum fate fate[MESSAGES + 1][RCPTS];
	msec_t due[MESSAGES + 1][RCPTS];
	uint32_t attempts[MESSAGES + 1][RCPTS];
	unsigned ended, tried;
};

static void model_put(struct fix *f, struct model *m, uint64_t id)
{
	static const char *const all_domains[] = {"a.example", "b.example", "c.example",
						  "d.example"};
	static const char *const all_routes[] = {"a", "b", "p"};
	const char *addresses[RCPTS], *domains[RCPTS], *routes[RCPTS];
	uint32_t n = 1 + rng_below(RCPTS), i;

	for (i = 0; i < n; i++) {
		addresses[i] = "user@x.example";
		domains[i] = all_domains[rng_below(4)];
		routes[i] = all_routes[rng_below(3)];
		m->fate[id][i] = FRESH;
	}
	cr_assert_eq(fix_commit(f, fix_message(f, id, "h: v\r\n\r\nbody", n, addresses, domains,
					       routes)),
		     0);
	cr_assert_eq(f->last_result, 0);
}

static void model_outcome(struct shm_ring *ring, struct model *m, uint64_t id, uint32_t i)
{
	enum outcome_class class = 1 + rng_below(3);
	msec_t due = clock_wall() + 1 + rng_below(100000);
	bool alive = m->fate[id][i] == FRESH || m->fate[id][i] == DUE;

	if (!fix_report(ring, id, i, class, due))
		return;
	if (!alive)
		return;
	m->attempts[id][i]++;
	if (class == OUTCOME_TRANSIENT) {
		m->fate[id][i] = DUE;
		m->due[id][i] = due;
		m->tried++;
	} else {
		m->fate[id][i] = ENDED;
		m->ended++;
	}
}

static void model_compare(struct fix *f, const struct model *m)
{
	struct spool_recipient r;
	uint64_t id, left = 0;
	uint32_t i;

	for (id = 1; id <= MESSAGES; id++)
		for (i = 0; i < RCPTS; i++) {
			bool alive = m->fate[id][i] == FRESH || m->fate[id][i] == DUE;

			left += alive;
			cr_assert_eq(fix_recipient(f, id, i, &r), alive, "%lu.%u", id, i);
			if (!alive)
				continue;
			cr_assert_eq(r.fresh, m->fate[id][i] == FRESH);
			cr_assert_eq(r.attempts, m->attempts[id][i]);
			if (!r.fresh)
				cr_assert_eq(r.due, m->due[id][i]);
		}
	cr_assert_eq(fix_stat(f).recipients, left);
	cr_assert_eq(fix_records(f, ACCT_DELIVERED) + fix_records(f, ACCT_BOUNCED), m->ended);
	cr_assert_eq(fix_records(f, ACCT_TRANSIENT), m->tried);
	fix_check(f);
}

Test(commit_model, random_operations_leave_what_the_model_says)
{
	static struct model m;
	struct fix f;
	struct shm_ring *rings[3];
	uint64_t next = 1;
	int step;

	rng_seed(4711);
	fix_init(&f);
	rings[0] = fix_worker(&f, 0, "a", 1);
	rings[1] = fix_worker(&f, 1, "b", 2);
	rings[2] = fix_worker(&f, 2, "c", 3);
	for (step = 0; step < 6000; step++) {
		uint32_t dice = rng_below(100);

		if (dice < 10 && next <= MESSAGES)
			model_put(&f, &m, next++);
		else if (dice < 80 && next > 1)
			/* one recipient always reports by the same worker: order counts */
			model_outcome(rings[(next / 7) % 3], &m, 1 + rng_below((uint32_t)next - 1),
				      rng_below(RCPTS));
		if (dice >= 80 || (next % 7) == 0)
			cr_assert_eq(fix_commit(&f, NULL), 0);
		if (dice == 99) {
			fix_close(&f);
			fix_open(&f);
		}
	}
	cr_assert_eq(fix_commit(&f, NULL), 0);
	model_compare(&f, &m);
	fix_done(&f);
}

/*
 * The committer's process is killed at random while two workers report; a new one goes on. In the end
 * every recipient has exactly one final record.
 */
#define KILL_MESSAGES 6000

static void committer_life(struct fix *f)
{
	fix_open(f);
	for (;;) {
		struct commit_job *jobs = NULL;
		struct intake_message *none = NULL;
		struct commit_result r;

		if (commit_batch(f->c, &none, &jobs, &r) < 0)
			_exit(3);
	}
}

static void count_records(struct fix *f, unsigned *final, unsigned *tried)
{
	struct acct_record a;
	struct spool_read *r;
	struct slice v;
	uint64_t after = 0;

	cr_assert_eq(spool_read_begin(f->spool, &r), 0);
	while (spool_outbox_next(r, &after, &v) > 0) {
		cr_assert_eq(acct_record_decode(v, &a), 0);
		cr_assert_leq(a.msgid, KILL_MESSAGES);
		if (a.type == ACCT_TRANSIENT)
			tried[a.msgid]++;
		else
			final[a.msgid]++;
	}
	spool_read_end(r);
}

static pid_t start_life(struct fix *f)
{
	pid_t pid = fork();

	cr_assert_geq(pid, 0);
	if (pid == 0)
		committer_life(f);
	return pid;
}

/* Reports about one message each time: first a deferral, then the end. False: the ring is full now. */
static bool produce(struct shm_ring *ring, uint64_t *next)
{
	uint64_t id = *next / 2 + 1;
	bool first = *next % 2 == 0;

	if (!fix_report(ring, id, 0, first ? OUTCOME_TRANSIENT : OUTCOME_DELIVERED,
			clock_wall() + 1000))
		return false;
	++*next;
	return true;
}

Test(commit_model, every_report_counts_once_over_kills, .timeout = 60)
{
	static unsigned final[KILL_MESSAGES + 1], tried[KILL_MESSAGES + 1];
	struct intake_message *list = NULL, **end = &list;
	struct fix f;
	struct shm_ring *ring;
	uint64_t next = 0, i;
	unsigned kills = 0;
	usec_t die;
	pid_t pid;

	fix_init(&f);
	ring = fix_worker(&f, 0, "a", 1);
	for (i = 1; i <= KILL_MESSAGES; i++) {
		*end = fix_one(&f, i, "x.example", "a");
		end = &(*end)->next;
	}
	cr_assert_eq(fix_commit(&f, list), 0);
	fix_close(&f); /* each process opens the spool itself */
	pid = start_life(&f);
	die = clock_now() + 5000;
	while (next < 2 * KILL_MESSAGES || ring_committed(ring) != ring_position(ring)) {
		if (next < 2 * KILL_MESSAGES && !produce(ring, &next))
			usleep(50);
		else if (next == 2 * KILL_MESSAGES)
			usleep(50);
		if (clock_now() < die)
			continue;
		kill(pid, SIGKILL);
		cr_assert_eq(waitpid(pid, NULL, 0), pid);
		kills++;
		pid = start_life(&f);
		die = clock_now() + 4000 + rng_below(12000);
	}
	kill(pid, SIGKILL);
	cr_assert_eq(waitpid(pid, NULL, 0), pid);
	cr_assert_gt(kills, 3, "%u kills", kills);
	fix_open(&f);
	count_records(&f, final, tried);
	for (i = 1; i <= KILL_MESSAGES; i++)
		cr_assert(final[i] == 1 && tried[i] == 1,
			  "message %lu: %u final, %u tried, %u kills", i, final[i], tried[i],
			  kills);
	cr_assert_eq(fix_stat(&f).recipients, 0);
	fix_check(&f);
	fix_done(&f);
}
