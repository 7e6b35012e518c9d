/*
 * main.c - the spooler process: starts its threads, speaks with master, ends in the right order.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/err.h"
#include "common/base/log.h"
#include "common/base/xalloc.h"
#include "common/ipc/child.h"
#include "common/loop/loop.h"
#include "spooler/beats.h"
#include "spooler/committer.h"
#include "spooler/queries.h"
#include "spooler/session.h"
#include "spooler/sources.h"
#include "spooler/spooler.h"

#define BEAT (1 * USEC_PER_SEC)
#define WORKERS_LEAVE (2500 * USEC_PER_MSEC)
#define LEAVE_STEP 20000 /* us */
#define SESSION_THREADS_MAX 8

struct spooler {
	const struct heritage *h;
	struct loop *loop;
	struct ipc_child *master;
	struct loop_timer *beat;

	const struct conf *conf; /* of the start */
	char *big_dir;

	struct spool *spool;
	struct committer *committer;
	struct sources sources;
	struct accountant *accountant;
	struct dsn_helper *dsn;
	struct smtp_server *server;
	struct queries *queries;
	struct change *change; /* the last one that master asked for, or NULL */
	bool orphaned; /* master is gone */
	bool said_stopped; /* that a thread hangs */
};

/*
 * A new configuration. The committer takes it between two commits, of which one may take minutes; the others
 * must not use it before. So a thread of its own waits for them, while the main thread goes on.
 */
struct change {
	struct spooler *s;
	const struct conf *conf;
	uint64_t generation;
	int *listeners;
	size_t listener_count;
	pthread_t thread;
	_Atomic bool over; /* all use it */
};

/* --- what the committer's thread tells --- */

static void on_outbox(void *arg)
{
	accountant_wake(((struct spooler *)arg)->accountant);
}

static void on_dsn(void *arg)
{
	dsn_wake(((struct spooler *)arg)->dsn);
}

static void on_drained(void *arg, uint32_t slot, uint32_t forkno)
{
	struct spooler *s = arg;
	struct buf msg = BUF_INIT;

	ipc_begin(&msg, IPC_DRAINED);
	enc_var(&msg, slot);
	enc_var(&msg, forkno);
	ipc_child_tell(s->master, &msg);
	buf_done(&msg);
}

static void on_bad_ring(void *arg, uint32_t slot, uint32_t forkno, const char *why)
{
	struct spooler *s = arg;
	struct buf msg = BUF_INIT;

	ipc_begin(&msg, IPC_KILL_WORKER);
	enc_var(&msg, slot);
	enc_var(&msg, forkno);
	enc_str(&msg, why);
	ipc_child_tell(s->master, &msg);
	buf_done(&msg);
}

/* --- start --- */

static const struct conf *read_conf(int fd)
{
	struct conf_messages messages = {.n = 0};
	const struct conf *conf = conf_read_fd(fd, &messages);

	if (!conf)
		log_error(NULL, "the configuration from master cannot be parsed",
			  LOG_S("error", messages.n ? messages.v[0].text : "nothing in it"));
	conf_messages_done(&messages);
	return conf;
}

static unsigned session_threads(const struct conf *conf)
{
	uint64_t n = conf_global(conf)->session_threads;
	long cpus;

	if (n)
		return (unsigned)n;
	cpus = sysconf(_SC_NPROCESSORS_ONLN);
	return cpus < 1 ? 1 : cpus > SESSION_THREADS_MAX ? SESSION_THREADS_MAX : (unsigned)cpus;
}

static void start_server(struct spooler *s)
{
	struct smtp_server_options o = {.intake = committer_intake(s->committer),
					.counters = shm_spooler_counters(s->h->shm),
					.conf = s->conf,
					.big_dir = s->big_dir,
					.listeners = s->h->listeners,
					.listener_count = s->h->listener_count,
					.threads = session_threads(s->conf)};

	s->server = smtp_server_start(&o);
}

static void open_spool(struct spooler *s)
{
	struct spool_options o = {.dir = conf_global(s->conf)->spool_dir, .writer = true};
	char *error = NULL;

	if (spool_open(&o, &s->spool, &error) < 0)
		fatal("%s", error);
	s->big_dir = xasprintf("%s/big", o.dir);
}

static void start_committer(struct spooler *s)
{
	struct committer_options o = {.spool = s->spool,
				      .shm = s->h->shm,
				      .conf = s->conf,
				      .family = s->h->family,
				      .bells = s->h->bells,
				      .bell_count = s->h->bell_count,
				      .bell = s->h->spooler_bell,
				      .on_outbox = on_outbox,
				      .on_dsn = on_dsn,
				      .on_drained = on_drained,
				      .on_bad_ring = on_bad_ring,
				      .arg = s};
	char *error = NULL;

	if (committer_new(&o, &s->committer, &error) < 0)
		fatal("%s", error);
}

static void start_helpers(struct spooler *s)
{
	struct accountant_options ao = {.conf = s->conf};
	struct dsn_options dso = {.conf = s->conf};

	s->sources = (struct sources){.spool = s->spool, .committer = s->committer};
	ao.source = sources_accountant(&s->sources);
	dso.source = sources_dsn(&s->sources);
	s->accountant = accountant_start(&ao);
	s->dsn = dsn_start(&dso);
	s->queries = queries_new(s->spool, s->h->shm, s->committer);
}

/* --- talking with master --- */

static void add_orphans(struct spooler *s, struct buf *msg, char **names, size_t n)
{
	size_t i;

	(void)s;
	enc_var(msg, n);
	for (i = 0; i < n; i++) {
		enc_str(msg, names[i]);
		free(names[i]);
	}
	free(names);
}

/* The orphans are looked up in the committer's thread, where the engine lives. */
struct orphan_job {
	struct commit_job job;
	struct spooler *s;
	enum ipc_type type;
	uint64_t generation;
};

static int run_orphans(struct commit *engine, struct spool_write *w, struct commit_job *j)
{
	(void)engine;
	(void)w;
	(void)j;
	return 0;
}

static void orphans_done(struct commit_job *j)
{
	struct orphan_job *o = container_of(j, struct orphan_job, job);
	struct buf msg = BUF_INIT;
	char **names = NULL;
	size_t n = commit_orphans(committer_engine(o->s->committer), &names);

	ipc_begin(&msg, o->type);
	if (o->type == IPC_CONF_DONE)
		enc_var(&msg, o->generation);
	add_orphans(o->s, &msg, names, n);
	ipc_child_tell(o->s->master, &msg);
	buf_done(&msg);
	free(o);
}

static void answer_with_orphans(struct spooler *s, enum ipc_type type, uint64_t generation)
{
	struct orphan_job *o = xcalloc(1, sizeof(*o));

	o->job = (struct commit_job){.run = run_orphans, .done = orphans_done};
	o->s = s;
	o->type = type;
	o->generation = generation;
	committer_post(s->committer, &o->job);
}

/* smtp_server_reload() frees the old configuration, so it comes last. */
static void *run_change(void *arg)
{
	struct change *g = arg;
	struct spooler *s = g->s;

	committer_set_conf(s->committer, g->conf);
	accountant_reload(s->accountant, g->conf);
	dsn_reload(s->dsn, g->conf);
	smtp_server_reload(s->server, g->conf, g->listeners, g->listener_count);
	answer_with_orphans(s, IPC_CONF_DONE, g->generation);
	atomic_store(&g->over, true);
	return NULL;
}

/* Waits for it, if there is one. */
static void end_change(struct spooler *s)
{
	if (!s->change)
		return;
	pthread_join(s->change->thread, NULL);
	free(s->change->listeners);
	free(s->change);
	s->change = NULL;
}

static void begin_change(struct spooler *s, const struct conf *conf, uint64_t generation,
			 const int *listeners, size_t n)
{
	struct change *g = xcalloc(1, sizeof(*g));
	int rc;

	g->s = s;
	g->conf = conf;
	g->generation = generation;
	g->listeners = xmemdup(listeners, (n ? n : 1) * sizeof(*listeners));
	g->listener_count = n;
	s->change = g;
	log_set_level((enum log_level)conf_global(conf)->log_level);
	rc = pthread_create(&g->thread, NULL, run_change, g);
	if (rc)
		fatal("cannot start a thread: %s", strerror(rc));
}

static enum ipc_conf_answer on_conf(struct ipc_message *m, uint64_t generation, void *arg)
{
	struct spooler *s = arg;
	const struct conf *conf;
	size_t i;

	if (s->change &&
	    !atomic_load(&s->change->over)) /* master asks again: the answer will come */
		return s->change->generation == generation ? IPC_CONF_LATER : IPC_CONF_UNUSABLE;
	conf = read_conf(m->fds[0]);
	if (!conf)
		return IPC_CONF_UNUSABLE;
	end_change(s);
	begin_change(s, conf, generation, m->fds + 1, m->fd_count - 1);
	for (i = 1; i < m->fd_count; i++)
		m->fds[i] = -1;
	return IPC_CONF_LATER;
}

static void on_command(struct ipc_message *m, void *arg)
{
	struct spooler *s = arg;
	struct slice request = dec_bytes(&m->payload);
	uint64_t uid = dec_var(&m->payload);

	if (!dec_end(&m->payload))
		return;
	queries_run(s->queries, m->fds[0], request, (uint32_t)uid);
	m->fds[0] = -1;
}

static void on_drain(struct spooler *s, struct ipc_message *m)
{
	uint32_t slot = dec_var32(&m->payload), forkno = dec_var32(&m->payload);
	uint64_t n = dec_var(&m->payload), i, *msgids;

	if (!dec_ok(&m->payload) || n > IPC_SIZE_MAX || slot >= shm_max_workers(s->h->shm))
		return;
	msgids = xmalloc((size_t)(n + 1) * sizeof(*msgids));
	for (i = 0; i < n; i++)
		msgids[i] = dec_var(&m->payload);
	if (dec_end(&m->payload))
		committer_drain(s->committer, slot, forkno, msgids, (size_t)n);
	free(msgids);
}

static bool on_other(struct ipc_message *m, void *arg)
{
	struct spooler *s = arg;

	if (m->type == IPC_DRAIN)
		on_drain(s, m);
	else if (m->type == IPC_DRAIN_IN)
		smtp_server_drain(s->server, dec_var(&m->payload) != 0);
	else
		return false;
	return true;
}

static void on_stop(usec_t within, void *arg)
{
	struct spooler *s = arg;

	(void)within;
	loop_stop(s->loop);
}

/* All must be over soon: it has 5 s (ipc_child_end_with()). */
static void on_master_gone(void *arg)
{
	struct spooler *s = arg;

	log_warn(NULL, "master is gone: committing what was reported, then leaving");
	s->orphaned = true;
	loop_stop(s->loop);
}

static const struct ipc_child_role role = {.name = "spooler",
					   .conf = on_conf,
					   .control = on_command,
					   .stop = on_stop,
					   .gone = on_master_gone,
					   .other = on_other};

/* A thread that hangs counts as a spooler that hangs. */
static bool all_turn(struct spooler *s)
{
	struct shm_signals *sig = shm_signals(s->h->shm);
	/* before the committer's heartbeat: a commit that ends between the two has set that */
	usec_t commit_began = atomic_load(&sig->commit_began), silent;
	const struct beats b = {.commit_began = commit_began,
				.committer = atomic_load(&sig->committer_heartbeat),
				.sessions = smtp_server_heartbeat(s->server),
				.accountant = accountant_heartbeat(s->accountant),
				.dsn = dsn_heartbeat(s->dsn)};
	const char *stopped = beats_stopped(&b, clock_now(), &silent);

	if (stopped && !s->said_stopped)
		log_error(NULL, "a thread hangs", LOG_S("thread", stopped),
			  LOG_U("silent_s", silent / USEC_PER_SEC));
	s->said_stopped = stopped != NULL;
	return !stopped;
}

static void on_beat(void *arg)
{
	struct spooler *s = arg;

	if (all_turn(s))
		atomic_store(&shm_signals(s->h->shm)->spooler_heartbeat, clock_now());
	loop_timer_set(s->beat, BEAT);
}

/* --- end --- */

static bool workers_alive(const struct spooler *s)
{
	uint32_t n = shm_workers_used(s->h->shm), i;

	for (i = 0; i < n; i++) {
		const struct shm_worker *w = shm_worker(s->h->shm, i);
		pid_t pid = atomic_load(&w->pid);

		if (atomic_load(&w->state) != SHM_WORKER_FREE && pid > 0 &&
		    (kill(pid, 0) == 0 || errno == EPERM))
			return true;
	}
	return false;
}

/* What workers still report while they leave is committed: else it would be sent twice. */
static void wait_for_workers(const struct spooler *s)
{
	usec_t until = clock_now() + WORKERS_LEAVE;

	while (workers_alive(s) && clock_now() < until)
		usleep(LEAVE_STEP);
}

/* Sessions first: those that wait for a commit get their reply. Then what the rings and the outbox hold. */
static void stop_all(struct spooler *s)
{
	atomic_store(&shm_signals(s->h->shm)->spooler_up, 0);
	end_change(s);
	smtp_server_stop(s->server);
	dsn_stop(s->dsn);
	queries_free(s->queries);
	if (s->orphaned)
		wait_for_workers(s);
	accountant_stop(s->accountant);
	committer_stop(s->committer, !workers_alive(s));
	committer_free(s->committer);
	spool_close(s->spool);
}

static void block_signals(void)
{
	signal(SIGPIPE, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	signal(SIGINT, SIG_IGN); /* of a terminal: master decides */
}

int spooler_main(const struct heritage *h)
{
	struct spooler *s = xcalloc(1, sizeof(*s));

	s->h = h;
	block_signals();
	s->conf = read_conf(h->conf_fd);
	if (!s->conf)
		return 1;
	log_set_level((enum log_level)conf_global(s->conf)->log_level);
	s->loop = loop_new();
	s->master = ipc_child_new(s->loop, h, &role, s);
	open_spool(s);
	start_committer(s);
	start_helpers(s);
	committer_start(s->committer);
	start_server(s);
	s->beat = loop_timer_new(s->loop, on_beat, s);
	on_beat(s);
	atomic_store(&shm_signals(h->shm)->spooler_up, 1);
	answer_with_orphans(s, IPC_READY, 0);
	loop_run(s->loop);
	stop_all(s);
	return 0;
}
