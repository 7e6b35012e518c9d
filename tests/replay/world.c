#include "tests/replay/world.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/err.h"
#include "common/base/fd.h"
#include "common/base/rng.h"
#include "common/base/xalloc.h"
#include "common/ipc/ipc.h"
#include "common/shm/limits.h"
#include "common/spool/write.h"
#include "worker/worker.h"

/*
 * LMDB cannot be opened twice in a process, and here committer and worker are one: the linker sends
 * the worker's calls here (--wrap in the Makefile).
 */
static struct spool *shared_spool;

int __real_spool_open(const struct spool_options *o, struct spool **ret, char **ret_error);
int __wrap_spool_open(const struct spool_options *o, struct spool **ret, char **ret_error);
void __real_spool_close(struct spool *s);
void __wrap_spool_close(struct spool *s);

int __wrap_spool_open(const struct spool_options *o, struct spool **ret, char **ret_error)
{
	if (o->writer)
		return __real_spool_open(o, ret, ret_error);
	*ret = shared_spool;
	return 0;
}

void __wrap_spool_close(struct spool *s)
{
	if (s != shared_spool)
		__real_spool_close(s);
}

/*
 * What only happens when the committer works while the worker reads: a commit between two
 * instructions of the worker, before or behind the moment that its snapshot is from.
 */
static struct world *racing;
static bool in_read, failing, committing;

int __real_spool_read_begin(struct spool *s, struct spool_read **ret);
int __wrap_spool_read_begin(struct spool *s, struct spool_read **ret);
int __real_spool_write_commit(struct spool_write *w);
int __wrap_spool_write_commit(struct spool_write *w);

static bool commit_turn(void *arg);

static void race(void)
{
	if (racing && racing->race_percent && !in_read && rng_below(100) < racing->race_percent) {
		in_read = true;
		(void)commit_turn(racing);
		in_read = false;
	}
}

int __wrap_spool_read_begin(struct spool *s, struct spool_read **ret)
{
	int rc;

	if (racing && racing->fail_reads && !in_read && !committing)
		return ERR_IO;
	race();
	rc = __real_spool_read_begin(s, ret);
	if (rc == 0)
		race();
	return rc;
}

int __wrap_spool_write_commit(struct spool_write *w)
{
	if (!failing)
		return __real_spool_write_commit(w);
	spool_write_abort(w);
	return ERR_DISK_FULL;
}

static const char base_conf[] = "[global]\n"
				"host-name = sluice.test\n"
				"spool-dir = %s/spool\n"
				"runtime-dir = %s/run\n"
				"resolver = 127.0.0.53\n"
				"[virtual-mta %s]\n"
				"smtp-source-host = 192.0.2.1 a.sluice.test\n"
				"%s";

static void write_conf(struct world *x, const char *conf)
{
	char path[96];
	FILE *f;

	snprintf(path, sizeof(path), "%s/sluice.conf", x->dir);
	f = fopen(path, "w");
	cr_assert(f);
	fprintf(f, base_conf, x->dir, x->dir, x->vmta, conf);
	fclose(f);
}

static void load_conf(struct world *x)
{
	struct conf_messages msgs = {0};
	struct slice merged;
	char path[96];

	snprintf(path, sizeof(path), "%s/sluice.conf", x->dir);
	x->conf = conf_load(path, &msgs);
	if (!x->conf)
		conf_messages_print(&msgs, stderr);
	cr_assert(x->conf, "the test's configuration is not good");
	conf_messages_done(&msgs);
	merged = conf_merged(x->conf);
	snprintf(path, sizeof(path), "%s/merged", x->dir);
	x->h.conf_fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
	cr_assert(x->h.conf_fd >= 0);
	cr_assert_eq(fd_write_all(x->h.conf_fd, merged.p, merged.n), 0);
}

static void bad_report(void *arg ATTR_UNUSED, uint32_t slot ATTR_UNUSED,
		       uint32_t forkno ATTR_UNUSED, uint64_t position ATTR_UNUSED,
		       uint8_t type ATTR_UNUSED, struct slice payload ATTR_UNUSED, const char *why)
{
	cr_assert_fail("a report cannot be read: %s", why);
}

static void new_engine(struct world *x)
{
	const struct commit_options o = {.spool = x->spool,
					 .shm = x->shm,
					 .conf = x->conf,
					 .family = x->h.family,
					 .bells = x->bells,
					 .bell_count = 1,
					 .bad_report = bad_report};
	char *error = NULL;

	in_read = true;
	cr_assert_eq(commit_new(&o, &x->commit, &error), 0, "%s", error);
	cr_assert_eq(commit_vmtas(x->commit), 0);
	while (!commit_recount(x->commit, 1000))
		;
	in_read = false;
}

void world_restart_spooler(struct world *x)
{
	commit_free(x->commit);
	new_engine(x);
}

void world_restart_all(struct world *x, bool clean)
{
	if (clean)
		cr_assert_eq(commit_finish(x->commit), 0);
	commit_free(x->commit);
	shm_free(x->shm);
	x->shm = shm_new(&world_shm);
	x->h.shm = x->shm;
	x->h.family++;
	x->h.forkno = 0;
	new_engine(x);
}

static void open_spool(struct world *x)
{
	char *error = NULL;
	char dir[80];

	snprintf(dir, sizeof(dir), "%s/spool", x->dir);
	cr_assert_eq(spool_open(&(struct spool_options){.dir = dir,
							.map_size = UINT64_C(1) << 30,
							.writer = true,
							.nosync = true},
				&x->spool, &error),
		     0, "%s", error);
	shared_spool = x->spool;
	new_engine(x);
}

struct shm_config world_shm = {.max_workers = 1, .ring_size = 1 << 20, .max_live_queues = 4096};

void world_new(struct world *x, const char *conf)
{
	setenv("TZ", "UTC", 1);
	memset(x, 0, sizeof(*x));
	log_set_level(getenv("REPLAY_DEBUG") ? LOG_LEVEL_DEBUG : LOG_LEVEL_ERROR);
	fake_time_start(WORLD_START);
	fake_net_reset();
	fake_dns_reset();
	rng_seed(1);
	snprintf(x->dir, sizeof(x->dir), "/tmp/sluice-replay-XXXXXX");
	cr_assert(mkdtemp(x->dir));
	x->bells[0] = eventfd(0, EFD_NONBLOCK);
	x->spooler_bell = eventfd(0, EFD_NONBLOCK);
	x->shm = shm_new(&world_shm);
	x->h = (struct heritage){.role = ROLE_WORKER,
				 .family = 77,
				 .vmta = "a",
				 .shm = x->shm,
				 .bells = x->bells,
				 .bell_count = 1,
				 .spooler_bell = x->spooler_bell,
				 .debug = true};
	limits_set_bells(x->bells, 1);
	x->vmta = x->route = "a";
	write_conf(x, conf);
	load_conf(x);
	open_spool(x);
	racing = x;
	x->msgids = WORLD_START * 1000;
}

void world_free(struct world *x)
{
	char command[128];

	racing = NULL;
	commit_free(x->commit);
	shared_spool = NULL;
	spool_close(x->spool);
	conf_free(x->conf);
	shm_free(x->shm);
	close(x->h.conf_fd);
	close(x->bells[0]);
	close(x->spooler_bell);
	free(x->records);
	free(x->refused);
	snprintf(command, sizeof(command), "rm -rf %s", x->dir);
	cr_assert_eq(system(command), 0);
	clock_real();
}

void world_reload(struct world *x, const char *conf)
{
	struct buf msg = BUF_INIT;
	struct conf *old = x->conf;

	close(x->h.conf_fd);
	write_conf(x, conf);
	load_conf(x);
	commit_set_conf(x->commit, x->conf);
	in_read = true;
	cr_assert_eq(commit_vmtas(x->commit), 0);
	in_read = false;
	conf_free(old);
	x->h.conf_gen = ++x->conf_gen; /* of workers to come */
	if (!x->running)
		return;
	ipc_begin(&msg, IPC_CONF);
	enc_var(&msg, x->conf_gen);
	cr_assert_eq(ipc_send(x->control[0], &msg, &x->h.conf_fd, 1), 0);
	buf_done(&msg);
}

/* --- mail in --- */

static void on_committed(struct intake_message *m)
{
	if (m->result < 0) {
		struct world *x = racing;

		cr_assert(failing, "a message was refused: %s", err_text(m->result));
		x->refused = xreallocarray(x->refused, x->refused_count + 1, sizeof(*x->refused));
		x->refused[x->refused_count++] = m->msgid;
	}
	buf_done(&m->body);
	for (uint32_t i = 0; i < m->recipient_count; i++) {
		free((void *)(uintptr_t)m->recipients[i].address);
		free((void *)(uintptr_t)m->recipients[i].domain);
	}
	free(m->recipients);
	free((void *)(uintptr_t)m->sender);
	free((void *)(uintptr_t)m->job);
	free(m);
}

static void add_recipient(struct intake_message *m, struct slice address, const char *route,
			  uint8_t class)
{
	struct intake_recipient *r;

	m->recipients = xreallocarray(m->recipients, m->recipient_count + 1, sizeof(*r));
	r = &m->recipients[m->recipient_count++];
	*r = (struct intake_recipient){.address = slice_dup(address),
				       .domain = slice_dup_lower(slice_from(
					       address, (size_t)slice_rchr(address, '@') + 1)),
				       .route = route,
				       .class = class};
}

uint64_t world_send_as(struct world *x, const char *sender, const char *rcpts, const char *job,
		       uint8_t class, size_t body)
{
	struct intake_message *m = xcalloc(1, sizeof(*m)), **end = &x->mail;
	struct slice rest = slice_str(rcpts), one;
	size_t n;

	m->msgid = ++x->msgids;
	m->sender = xstrdup(sender);
	m->job = xstrdup(job);
	m->received = clock_wall();
	m->done = on_committed;
	buf_addf(&m->body, "Subject: %llu\r\n\r\n", (unsigned long long)m->msgid);
	m->header_size = (uint32_t)m->body.n;
	for (n = 0; n < body; n += 64)
		buf_add_str(&m->body,
			    "sixty-two letters of text that nobody reads, and a line's end.\r\n");
	m->size = m->body.n;
	while (slice_next(&rest, ' ', &one))
		add_recipient(m, one, x->route, class);
	while (*end)
		end = &(*end)->next;
	*end = m;
	return m->msgid;
}

uint64_t world_send(struct world *x, const char *sender, const char *rcpts)
{
	return world_send_as(x, sender, rcpts, "", SPOOL_CLASS_DEFAULT, 64);
}

/* --- records --- */

static void keep_record(struct world *x, const struct acct_record *r)
{
	struct world_record *k;

	if ((x->record_count & (x->record_count - 1)) == 0)
		x->records = xreallocarray(x->records, x->record_count ? 2 * x->record_count : 1,
					   sizeof(*k));
	k = &x->records[x->record_count++];
	memset(k, 0, sizeof(*k));
	k->at = fake_elapsed();
	k->type = (char)r->type;
	k->code = r->code;
	k->attempt = r->attempt;
	memcpy(k->enhanced, r->enhanced, sizeof(k->enhanced));
	slice_copy(r->rcpt, k->rcpt, sizeof(k->rcpt));
	slice_copy(r->text, k->text, sizeof(k->text));
	slice_copy(r->mx_name, k->mx, sizeof(k->mx));
	slice_copy(r->queue, k->queue, sizeof(k->queue));
	slice_copy(r->dsn_action, k->action, sizeof(k->action));
}

static void read_outbox(struct world *x)
{
	struct spool_read *r;
	struct slice row;

	cr_assert_eq(spool_read_begin(x->spool, &r), 0);
	while (spool_outbox_next(r, &x->outbox_seen, &row) == 1) {
		struct acct_record rec;

		cr_assert_eq(acct_record_decode(row, &rec), 0);
		keep_record(x, &rec);
	}
	spool_read_end(r);
}

size_t world_count(const struct world *x, char type)
{
	size_t i, n = 0;

	for (i = 0; i < x->record_count; i++)
		n += x->records[i].type == type;
	return n;
}

const struct world_record *world_nth(const struct world *x, char type, size_t i)
{
	size_t k;

	for (k = 0; k < x->record_count; k++)
		if (x->records[k].type == type && i-- == 0)
			return &x->records[k];
	cr_assert_fail("there are only %zu records of type %c", world_count(x, type), type);
	return NULL;
}

size_t world_count_rcpt(const struct world *x, char type, const char *rcpt)
{
	size_t i, n = 0;

	for (i = 0; i < x->record_count; i++)
		n += x->records[i].type == type && strcmp(x->records[i].rcpt, rcpt) == 0;
	return n;
}

uint64_t world_left(struct world *x)
{
	struct spool_read *r;
	struct spool_stat st;

	cr_assert_eq(spool_read_begin(x->spool, &r), 0);
	cr_assert_eq(spool_stat(r, &st), 0);
	spool_read_end(r);
	return st.recipients;
}

static void on_problem(const char *text, void *arg ATTR_UNUSED)
{
	cr_log_error("spool check: %s", text);
}

void world_check(struct world *x)
{
	cr_assert_eq(spool_check(x->spool, on_problem, NULL), 0);
}

/* --- running --- */

/* The committer's turn. */
static bool commit_turn(void *arg)
{
	struct world *x = arg;
	struct commit_result result = {0};
	int rc;

	if (fake_elapsed() < x->commit_next || (x->race_only && !in_read))
		return false;
	failing = x->fail_commits > 0;
	committing = true;
	rc = commit_batch(x->commit, &x->mail, &x->jobs, &result);
	cr_assert(rc == 0 || (failing && rc == ERR_DISK_FULL), "commit: %s", err_text(rc));
	if (rc < 0)
		x->fail_commits--;
	failing = false;
	x->commit_next = fake_elapsed() + x->commit_gap;
	if (!in_read)
		read_outbox(x);
	committing = false;
	return rc == 0 && result.wrote && !x->commit_gap;
}

static void on_stop(void *arg)
{
	struct world *x = arg;
	struct buf msg = BUF_INIT;

	ipc_begin(&msg, IPC_STOP);
	enc_var(&msg, 30 * USEC_PER_SEC);
	cr_assert_eq(ipc_send(x->control[0], &msg, NULL, 0), 0);
	buf_done(&msg);
}

static void prepare(struct world *x)
{
	struct shm_worker *w = shm_worker(x->shm, 0);

	cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, x->control), 0);
	cr_assert_eq(pipe(x->death), 0);
	x->h.control_fd = x->control[1];
	x->h.death_fd = x->death[0];
	x->h.forkno++;
	ring_reset(shm_ring(x->shm, 0));
	slice_copy(slice_str(x->h.vmta), w->vmta, sizeof(w->vmta));
	atomic_store(&w->vmta_id, 0);
	atomic_store(&w->forkno, x->h.forkno);
	atomic_store(&w->state, SHM_WORKER_STARTING);
	atomic_store(&shm_signals(x->shm)->spooler_up, 1);
	fake_loop_hook(commit_turn, x);
	(void)commit_turn(x);
	x->running = true;
}

/* What master and spooler do when a worker is gone. */
static void bury(struct world *x)
{
	uint64_t msgids[64];

	x->running = false;
	atomic_store(&shm_worker(x->shm, 0)->state, SHM_WORKER_DEAD);
	do {
		x->commit_next = 0;
		x->race_only = false;
		(void)commit_turn(x);
	} while (!commit_slot_empty(x->commit, 0, x->h.forkno));
	commit_slot_drained(x->commit, 0, x->h.forkno);
	(void)limits_worker_dead(x->shm, 0, msgids, ARRAY_SIZE(msgids));
	close(x->control[0]);
	close(x->control[1]);
	close(x->death[0]);
	close(x->death[1]);
	fake_loop_hook(NULL, NULL);
}

void world_run(struct world *x, usec_t until)
{
	prepare(x);
	fake_at(until, on_stop, x);
	fake_loop_until(until + HOUR);
	cr_assert_eq(worker_main(&x->h), 0);
	bury(x);
}

/*
 * The loop returns in the middle of everything: worker_main() frees what it has, but writes no
 * report any more, since nobody turns its loop.
 */
void world_run_and_kill(struct world *x, usec_t until)
{
	prepare(x);
	fake_loop_until(until);
	(void)worker_main(&x->h);
	bury(x);
}

/* --- orders --- */

struct order_job {
	struct commit_job job;
	struct order order;
	char *queue, *target;
	struct world *x;
};

static void on_answer(void *arg ATTR_UNUSED, const struct commit_order_result *r)
{
	cr_assert_eq(r->rc, 0);
}

static int run_order(struct commit *c, struct spool_write *w, struct commit_job *j)
{
	struct order_job *o = (struct order_job *)j;
	int rc = commit_order_add(c, w, &o->order, on_answer, o->x);

	return rc;
}

static void order_done(struct commit_job *j)
{
	struct order_job *o = (struct order_job *)j;

	free(o->queue);
	free(o->target);
	free(o);
}

static void give_order(void *arg)
{
	struct order_job *o = arg;
	struct commit_job **end = &o->x->jobs;

	o->order.created = clock_wall();
	while (*end)
		end = &(*end)->next;
	*end = &o->job;
}

static struct order_job *order_at(struct world *x, usec_t at, enum order_kind kind,
				  const char *queue)
{
	struct order_job *o = xcalloc(1, sizeof(*o));

	o->x = x;
	o->queue = xstrdup(queue);
	o->order = (struct order){.kind = kind,
				  .filter.queue = slice_str(o->queue),
				  .no_spread = true,
				  .who = slice_str("replay")};
	o->job = (struct commit_job){.run = run_order, .done = order_done};
	fake_at(at, give_order, o);
	return o;
}

void world_order_at(struct world *x, usec_t at, enum order_kind kind, const char *queue,
		    bool retry_recipients)
{
	order_at(x, at, kind, queue)->order.retry_recipients = retry_recipients;
}

void world_move_at(struct world *x, usec_t at, const char *queue, const char *target)
{
	struct order_job *o = order_at(x, at, ORDER_MOVE, queue);

	o->target = xstrdup(target);
	o->order.target = slice_str(o->target);
}

void world_source_order_at(struct world *x, usec_t at, enum order_kind kind, const char *queue,
			   const char *source, msec_t until)
{
	struct order_job *o = order_at(x, at, kind, queue);

	o->order.until = until;
	cr_assert(ip_parse(slice_str(source), &o->order.source));
}
