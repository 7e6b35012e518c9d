#include "master/master.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "common/base/err.h"
#include "common/base/xalloc.h"
#include "common/shm/limits.h"

#define RESPAWN_MIN (50 * USEC_PER_MSEC)
#define RESPAWN_MAX (10 * USEC_PER_SEC)
#define HEALTHY_AFTER (10 * USEC_PER_SEC)
#define LEASE_HOLD (200 * USEC_PER_MSEC)
#define SILENCE_MAX (30 * USEC_PER_SEC)
#define COMMIT_MAX (600 * USEC_PER_SEC)
#define STOP_GRACE (5 * USEC_PER_SEC)
#define DRAIN_AGAIN (10 * USEC_PER_SEC)
#define MSGIDS_MAX 4096
#define BLAMED_NAMED 10 /* in the log */

static void on_child_timer(void *arg);
static void stop_next(struct master *m);

const char *child_state_name(enum child_state s)
{
	static const char *const names[] = {"idle",	"starting", "running",
					    "stopping", "draining", "waiting"};

	return names[s];
}

const char *supervisor_child_name(const struct child *c)
{
	return c->vmta ? c->vmta : role_name(c->role);
}

static struct log_ctx child_log(const struct child *c)
{
	return (struct log_ctx){.object = role_name(c->role), .name = supervisor_child_name(c)};
}

static struct child *child_new(struct master *m, enum role role, const char *vmta)
{
	struct child *c = xcalloc(1, sizeof(*c));

	c->m = m;
	c->role = role;
	c->vmta = vmta ? xstrdup(vmta) : NULL;
	c->control_fd = -1;
	c->timer = loop_timer_new(m->loop, on_child_timer, c);
	LIST_INSERT_HEAD(&m->children, c, link);
	return c;
}

static void forget_blamed(struct child *c)
{
	free(c->blamed);
	c->blamed = NULL;
	c->blamed_count = 0;
}

static void child_free(struct child *c)
{
	if (c->role == ROLE_WORKER && c->m->by_slot[c->slot] == c) {
		c->m->by_slot[c->slot] = NULL;
		atomic_store(&shm_worker(c->m->shm, c->slot)->state, SHM_WORKER_FREE);
	}
	LIST_REMOVE(c, link);
	loop_timer_free(c->timer);
	forget_blamed(c);
	free(c->vmta);
	free(c);
}

static void close_control(struct child *c)
{
	if (c->control_fd < 0)
		return;
	loop_io_free(c->io);
	c->io = NULL;
	close(c->control_fd);
	c->control_fd = -1;
}

/*
 * Never waits: a child that hangs must not stop master. What finds its socket full is sent again (CONF,
 * DRAIN), said again by a new start (DRAIN_IN), or has a kill behind it (STOP).
 */
static bool send_to(struct child *c, const struct buf *msg, const int *fds, size_t n)
{
	return c->control_fd >= 0 && ipc_try_send(c->control_fd, msg, fds, n) == 0;
}

static void send_stop(struct child *c, usec_t within)
{
	struct buf msg = BUF_INIT;

	ipc_begin(&msg, IPC_STOP);
	enc_var(&msg, within);
	(void)send_to(c, &msg, NULL, 0);
	buf_done(&msg);
	c->state = CHILD_STOPPING;
	loop_timer_set(c->timer, within + STOP_GRACE);
}

static void send_drain(struct child *c, const uint64_t *msgids, size_t n)
{
	struct buf msg = BUF_INIT;
	size_t i;

	ipc_begin(&msg, IPC_DRAIN);
	enc_var(&msg, c->slot);
	enc_var(&msg, c->forkno);
	enc_var(&msg, n);
	for (i = 0; i < n; i++)
		enc_var(&msg, msgids[i]);
	(void)send_to(c->m->spooler, &msg, NULL, 0);
	buf_done(&msg);
}

void supervisor_send_conf(struct master *m, struct child *c)
{
	struct buf msg = BUF_INIT;
	int fds[IPC_FDS_MAX] = {m->conf_fd};
	size_t n = 1, i;

	ipc_begin(&msg, IPC_CONF);
	enc_var(&msg, m->conf_gen);
	if (c->role == ROLE_SPOOLER)
		for (i = 0; i < m->listener_count; i++)
			fds[n++] = m->listeners[i].fd;
	(void)send_to(c, &msg, fds, n);
	buf_done(&msg);
}

bool supervisor_drain_in(struct master *m, bool on)
{
	struct buf msg = BUF_INIT;
	bool sent;

	ipc_begin(&msg, IPC_DRAIN_IN);
	enc_var(&msg, on);
	sent = send_to(m->spooler, &msg, NULL, 0);
	buf_done(&msg);
	return sent;
}

static void kill_child(struct child *c, int signo, bool by_us)
{
	c->killed_by_us = by_us;
	if (c->pid > 0)
		(void)kill(c->pid, signo);
}

/* --- messages from children --- */

static void read_orphans(struct ipc_message *msg, struct slice *orphans, size_t max, size_t *ret_n)
{
	uint64_t n = dec_var(&msg->payload), i;

	*ret_n = 0;
	for (i = 0; i < n && i < max && dec_ok(&msg->payload); i++)
		orphans[(*ret_n)++] = dec_bytes(&msg->payload);
}

static void announce_when_ready(struct master *m)
{
	struct child *c;

	if (m->announced)
		return;
	LIST_FOREACH(c, &m->children, link)
		if (c->state == CHILD_STARTING || c->state == CHILD_IDLE)
			return;
	m->announced = true;
	log_info(NULL, "ready", LOG_S("config", m->conf_path),
		 LOG_U("workers", conf_vmta_count(m->conf)));
	(void)sd_notify(0, "READY=1\nSTATUS=Delivering");
}

static void drain_all_dead(struct master *m)
{
	struct child *c;

	LIST_FOREACH(c, &m->children, link)
		if (c->state == CHILD_DRAINING && c->leases_given)
			send_drain(c, c->blamed, c->blamed_count);
}

#define ORPHANS_MAX 4096

static void on_ready(struct child *c, struct ipc_message *msg)
{
	static struct slice orphans[ORPHANS_MAX];
	struct master *m = c->m;
	size_t n = 0;

	if (c->state == CHILD_STARTING)
		c->state = CHILD_RUNNING;
	if (c->lost) {
		struct log_ctx log = child_log(c);

		log_info(&log, "started again", LOG_I("pid", c->pid));
		c->lost = false;
	}
	if (c->role == ROLE_SPOOLER) {
		read_orphans(msg, orphans, ORPHANS_MAX, &n);
		drain_all_dead(m);
		if (m->draining)
			supervisor_drain_in(m, true);
		if (!m->stopping)
			supervisor_want_workers(m, orphans, n);
	}
	reload_on_conf_done(m, c, orphans, n);
	if (m->stopping)
		stop_next(m);
	else
		announce_when_ready(m);
}

static void on_conf_done(struct child *c, struct ipc_message *msg)
{
	static struct slice orphans[ORPHANS_MAX];
	size_t n = 0;

	c->conf_gen = dec_var(&msg->payload);
	if (c->role == ROLE_SPOOLER)
		read_orphans(msg, orphans, ORPHANS_MAX, &n);
	reload_on_conf_done(c->m, c, orphans, n);
}

void supervisor_replace(struct child *c)
{
	if (c->pid <= 0 || c->state == CHILD_STOPPING)
		return;
	send_stop(c,
		  c->role == ROLE_WORKER ? conf_global(c->m->conf)->shutdown_timeout : STOP_GRACE);
}

/* Only a new process can do better: it is forked with the present configuration. */
static void on_conf_failed(struct child *c, struct ipc_message *msg)
{
	log_error(NULL, "a process cannot use the new configuration: it is started again",
		  LOG_S("child", supervisor_child_name(c)),
		  LOG_U("generation", dec_var(&msg->payload)));
	supervisor_replace(c);
	reload_on_conf_done(c->m, c, NULL, 0);
}

static void respawn(struct child *c)
{
	usec_t delay = RESPAWN_MIN << (c->failures < 8 ? c->failures : 8);

	c->state = CHILD_WAITING;
	loop_timer_set(c->timer, delay < RESPAWN_MAX ? delay : RESPAWN_MAX);
}

static void on_drained(struct master *m, struct ipc_message *msg)
{
	uint64_t slot = dec_var(&msg->payload), forkno = dec_var(&msg->payload);
	struct child *c = slot < shm_max_workers(m->shm) ? m->by_slot[slot] : NULL;

	if (!c || c->state != CHILD_DRAINING || c->forkno != forkno)
		return;
	loop_timer_clear(c->timer);
	forget_blamed(c);
	if (m->stopping) {
		c->state = CHILD_IDLE;
		stop_next(m);
	} else if (c->leaving) {
		child_free(c);
	} else {
		respawn(c);
	}
}

static void on_kill_worker(struct master *m, struct ipc_message *msg)
{
	uint64_t slot = dec_var(&msg->payload), forkno = dec_var(&msg->payload);
	struct slice why = dec_bytes(&msg->payload);
	struct child *c = slot < shm_max_workers(m->shm) ? m->by_slot[slot] : NULL;

	if (!c || c->forkno != forkno || c->pid <= 0)
		return;
	log_error(NULL, "a worker's outcome ring is corrupt; it is started again",
		  LOG_S("worker", supervisor_child_name(c)), LOG_SL("why", why));
	kill_child(c, SIGKILL, true);
}

static void on_message(struct child *c, struct ipc_message *msg)
{
	size_t i;

	switch (msg->type) {
	case IPC_READY:
		on_ready(c, msg);
		break;
	case IPC_CONF_DONE:
		on_conf_done(c, msg);
		break;
	case IPC_CONF_FAILED:
		on_conf_failed(c, msg);
		break;
	case IPC_DRAINED:
		if (c->role == ROLE_SPOOLER)
			on_drained(c->m, msg);
		break;
	case IPC_KILL_WORKER:
		if (c->role == ROLE_SPOOLER)
			on_kill_worker(c->m, msg);
		break;
	case IPC_NONE:
	case IPC_CONF:
	case IPC_CONTROL:
	case IPC_STOP:
	case IPC_DRAIN_IN:
	case IPC_DRAIN:
		log_error(NULL, "a child sent a message that is not its own",
			  LOG_S("child", supervisor_child_name(c)),
			  LOG_S("message", ipc_name(msg->type)));
		break;
	}
	for (i = 0; i < msg->fd_count; i++)
		close(msg->fds[i]);
}

static void on_control_io(int what ATTR_UNUSED, void *arg)
{
	struct child *c = arg;
	struct ipc_message msg;
	unsigned turns;

	for (turns = 0; turns < 64 && c->control_fd >= 0; turns++) {
		int rc = ipc_recv(c->control_fd, &c->m->reader, &msg);

		if (rc == ERR_BUSY)
			return;
		if (rc != 1) {
			/* gone or talking nonsense: its exit tells the rest */
			close_control(c);
			if (rc < 0)
				kill_child(c, SIGKILL, true);
			return;
		}
		on_message(c, &msg);
	}
}

/* --- start --- */

static void start_child(struct child *c)
{
	struct master *m = c->m;
	struct log_ctx log = child_log(c);

	if (c->role == ROLE_WORKER) {
		struct shm_worker *w = shm_worker(m->shm, c->slot);

		/* and while the slot is free it does not look at all */
		atomic_store(&w->state, SHM_WORKER_FREE);
		slice_copy(slice_str(c->vmta), w->vmta, sizeof(w->vmta));
		atomic_store(&w->vmta_id, 0);
		atomic_store(&w->orphan, c->orphan);
		atomic_store(&w->heartbeat, clock_now());
		/* the committer takes a new generation for an empty ring: it must be one by then */
		ring_reset(shm_ring(m->shm, c->slot));
		atomic_store(&w->forkno, m->forks + 1);
		atomic_store(&w->state, SHM_WORKER_STARTING);
	} else if (c->role == ROLE_SPOOLER) {
		atomic_store(&shm_signals(m->shm)->spooler_heartbeat, clock_now());
		atomic_store(&shm_signals(m->shm)->commit_began, 0);
	} else {
		atomic_store(&shm_signals(m->shm)->resolver_heartbeat, clock_now());
	}
	c->killed_by_us = false;
	c->started = clock_now();
	if (child_spawn(c) < 0) {
		log_error(&log, "cannot fork; trying again", LOG_S("error", strerror(errno)));
		c->failures++;
		respawn(c);
		return;
	}
	c->state = CHILD_STARTING;
	c->conf_gen = m->conf_gen; /* of the memfd that it was forked with */
	c->io = loop_io_new(m->loop, c->control_fd, LOOP_READ, on_control_io, c);
	if (c->role == ROLE_WORKER)
		atomic_store(&shm_worker(m->shm, c->slot)->pid, c->pid);
	log_debug(&log, "started", LOG_I("pid", c->pid));
}

/* A worker may start only while a spooler serves: it has made the rows of the virtual MTA. */
static bool may_start(const struct child *c)
{
	return c->role != ROLE_WORKER || c->m->spooler->state == CHILD_RUNNING;
}

struct child *supervisor_worker(struct master *m, struct slice vmta)
{
	struct child *c;

	LIST_FOREACH(c, &m->children, link)
		if (c->role == ROLE_WORKER && slice_ieq_str(vmta, c->vmta))
			return c;
	return NULL;
}

static int64_t free_slot(struct master *m)
{
	uint32_t i;

	for (i = 0; i < shm_max_workers(m->shm); i++)
		if (!m->by_slot[i])
			return i;
	return -1;
}

static void want_worker(struct master *m, struct slice vmta, bool orphan)
{
	struct child *c = supervisor_worker(m, vmta);
	char *name;
	int64_t slot;

	if (c) {
		/* came back, or left: its process changes its ways only by a new start */
		if (c->orphan != orphan &&
		    (c->state == CHILD_RUNNING || c->state == CHILD_STARTING))
			send_stop(c, conf_global(m->conf)->shutdown_timeout);
		c->orphan = orphan;
		c->leaving = false;
		if (c->state == CHILD_IDLE && may_start(c))
			start_child(c);
		return;
	}
	slot = free_slot(m);
	if (slot < 0) {
		log_error(NULL, "no room for another worker: raise max-workers and restart",
			  LOG_SL("vmta", vmta));
		return;
	}
	name = slice_dup(vmta);
	c = child_new(m, ROLE_WORKER, name);
	free(name);
	c->slot = (uint32_t)slot;
	c->orphan = orphan;
	m->by_slot[slot] = c;
	if (may_start(c))
		start_child(c);
}

static bool is_named(const struct slice *names, size_t n, const char *vmta)
{
	size_t i;

	for (i = 0; i < n; i++)
		if (slice_ieq_str(names[i], vmta))
			return true;
	return false;
}

void supervisor_want_workers(struct master *m, const struct slice *orphans, size_t orphan_count)
{
	struct child *c, *next;
	size_t i;

	for (i = 0; i < conf_vmta_count(m->conf); i++)
		want_worker(m, slice_str(conf_vmta_at(m->conf, i)->name), false);
	for (i = 0; i < orphan_count; i++)
		if (!conf_vmta_find(m->conf, orphans[i])) {
			log_warn(NULL,
				 "a virtual MTA is not configured but has mail: it will only "
				 "expire; configure it again, move or delete its mail",
				 LOG_SL("vmta", orphans[i]));
			want_worker(m, orphans[i], true);
		}
	for (c = LIST_FIRST(&m->children); c; c = next) {
		next = LIST_NEXT(c, link);
		if (c->role != ROLE_WORKER || conf_vmta_find(m->conf, slice_str(c->vmta)) ||
		    is_named(orphans, orphan_count, c->vmta))
			continue;
		c->leaving = true;
		if (c->pid > 0 && c->state != CHILD_STOPPING)
			send_stop(c, conf_global(m->conf)->shutdown_timeout);
		else if (c->pid == 0 && c->state != CHILD_DRAINING)
			child_free(c);
	}
}

void supervisor_start(struct master *m)
{
	m->resolver = child_new(m, ROLE_RESOLVER, NULL);
	m->spooler = child_new(m, ROLE_SPOOLER, NULL);
	start_child(m->resolver);
	start_child(m->spooler);
}

/* --- deaths --- */

/* Says which messages are to blame: the first of them, there may be thousands. */
static void log_blamed(const struct child *c)
{
	struct log_ctx log = child_log(c);
	struct buf ids = BUF_INIT;
	size_t i;

	for (i = 0; i < c->blamed_count && i < BLAMED_NAMED; i++)
		buf_addf(&ids, "%s%llu", i ? " " : "", (unsigned long long)c->blamed[i]);
	log_warn(&log, "died with messages in hand: their crashes are counted",
		 LOG_U("messages", c->blamed_count), LOG_S("msgids", buf_cstr(&ids)));
	buf_done(&ids);
}

/*
 * 200 ms after a worker's death its peers have seen the end of its connections: the leases go back.
 * The messages that it had in hand are blamed when it died by itself.
 */
static void worker_is_gone(struct child *c)
{
	static uint64_t msgids[MSGIDS_MAX];
	size_t n = limits_worker_dead(c->m->shm, c->slot, msgids, MSGIDS_MAX);

	forget_blamed(c);
	if (n && !c->killed_by_us) {
		c->blamed = xmemdup(msgids, n * sizeof(msgids[0]));
		c->blamed_count = n;
		log_blamed(c);
	}
	c->leases_given = true;
	/* without a spooler nobody takes it: the next one gets it when it is ready */
	send_drain(c, c->blamed, c->blamed_count);
	loop_timer_set(c->timer, DRAIN_AGAIN);
}

/* A worker without a successor is mail that stands still: in case a message was lost, once more. */
static void on_drain_slow(struct child *c)
{
	send_drain(c, NULL, 0);
	loop_timer_set(c->timer, DRAIN_AGAIN);
}

static void on_child_timer(void *arg)
{
	struct child *c = arg;

	switch (c->state) {
	case CHILD_WAITING:
		if (c->m->stopping)
			c->state = CHILD_IDLE;
		else if (may_start(c))
			start_child(c);
		else
			loop_timer_set(c->timer, RESPAWN_MIN);
		break;
	case CHILD_DRAINING:
		if (c->leases_given)
			on_drain_slow(c);
		else
			worker_is_gone(c);
		break;
	case CHILD_STOPPING:
	case CHILD_STARTING:
	case CHILD_RUNNING:
		log_warn(NULL, "a process does not stop; it is killed",
			 LOG_S("child", supervisor_child_name(c)), LOG_I("pid", c->pid));
		kill_child(c, SIGKILL, true);
		break;
	case CHILD_IDLE:
		break;
	}
}

static void log_exit(const struct child *c, int status)
{
	struct log_ctx log = child_log(c);

	if (WIFSIGNALED(status))
		log_warn(&log, "died by a signal", LOG_I("pid", c->pid),
			 LOG_S("signal", sigabbrev_np(WTERMSIG(status))));
	else if (WEXITSTATUS(status) != 0)
		log_warn(&log, "exited", LOG_I("pid", c->pid),
			 LOG_I("status", WEXITSTATUS(status)));
	else
		log_debug(&log, "exited", LOG_I("pid", c->pid), LOG_I("status", 0));
}

/* Signals that a message in hand may have caused; a SIGKILL comes from outside (see decisions/). */
static bool is_fault(int status)
{
	if (!WIFSIGNALED(status))
		return false;
	switch (WTERMSIG(status)) {
	case SIGSEGV:
	case SIGBUS:
	case SIGABRT:
	case SIGILL:
	case SIGFPE:
	case SIGSYS:
	case SIGTRAP:
		return true;
	}
	return false;
}

static void on_exit_of(struct child *c, int status)
{
	struct master *m = c->m;
	bool orderly = c->state == CHILD_STOPPING && WIFEXITED(status) && WEXITSTATUS(status) == 0;

	log_exit(c, status);
	c->lost = !orderly;
	c->pid = 0;
	close_control(c);
	loop_timer_clear(c->timer);
	c->failures = orderly || clock_now() - c->started > HEALTHY_AFTER ? 0 : c->failures + 1;
	if (!is_fault(status))
		c->killed_by_us = true;
	switch (c->role) {
	case ROLE_WORKER:
		atomic_store(&shm_worker(m->shm, c->slot)->state, SHM_WORKER_DEAD);
		atomic_store(&shm_worker(m->shm, c->slot)->pid, 0);
		c->state = CHILD_DRAINING;
		c->leases_given = false;
		loop_timer_set(c->timer, LEASE_HOLD);
		break;
	case ROLE_SPOOLER:
		atomic_store(&shm_signals(m->shm)->spooler_up, 0);
		FALLTHROUGH;
	case ROLE_RESOLVER:
		if (m->stopping)
			c->state = CHILD_IDLE;
		else
			respawn(c);
		break;
	case ROLE_MASTER:
		break;
	}
	reload_on_conf_done(m, c, NULL, 0); /* do not wait for the dead */
	if (m->stopping)
		stop_next(m);
}

void supervisor_on_sigchld(struct master *m)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		struct child *c;

		LIST_FOREACH(c, &m->children, link)
			if (c->pid == pid)
				break;
		if (c)
			on_exit_of(c, status);
	}
}

/* --- silence --- */

static void abort_silent(struct child *c, usec_t silent, const char *what)
{
	struct log_ctx log = child_log(c);

	log_error(&log, what, LOG_I("pid", c->pid), LOG_U("silent_s", silent / USEC_PER_SEC));
	kill_child(c, SIGABRT, true);
	loop_timer_set(c->timer, STOP_GRACE); /* then SIGKILL */
}

static void check_one(struct child *c, usec_t last)
{
	usec_t now = clock_now(), since = last > c->started ? last : c->started;

	if (c->pid <= 0 || loop_timer_pending(c->timer) || now < since)
		return;
	if (now - since > SILENCE_MAX)
		abort_silent(c, now - since, "hangs: it is aborted and started again");
}

static void check_commit(struct master *m)
{
	usec_t began = atomic_load(&shm_signals(m->shm)->commit_began), now = clock_now();

	if (began == 0 || m->spooler->pid <= 0 || now < began + COMMIT_SLOW)
		return;
	log_warn(NULL, "a commit takes long: is the disk slow?",
		 LOG_U("seconds", (now - began) / USEC_PER_SEC));
	if (now > began + COMMIT_MAX && !loop_timer_pending(m->spooler->timer))
		abort_silent(m->spooler, now - began, "a commit does not end");
}

static void supervisor_check(struct master *m)
{
	struct shm_signals *s = shm_signals(m->shm);
	struct child *c;

	LIST_FOREACH(c, &m->children, link) {
		switch (c->role) {
		case ROLE_WORKER:
			check_one(c, atomic_load(&shm_worker(m->shm, c->slot)->heartbeat));
			break;
		case ROLE_SPOOLER:
			check_one(c, atomic_load(&s->spooler_heartbeat));
			break;
		case ROLE_RESOLVER:
			check_one(c, atomic_load(&s->resolver_heartbeat));
			break;
		case ROLE_MASTER:
			break;
		}
	}
	check_commit(m);
	reload_tick(m);
	if (m->announced)
		(void)sd_notify(0, "WATCHDOG=1");
}

void supervisor_tick(struct master *m)
{
	supervisor_check(m);
	status_tick(m);
}

/* --- stop --- */

static unsigned workers_left(struct master *m)
{
	struct child *c;
	unsigned n = 0;

	LIST_FOREACH(c, &m->children, link)
		if (c->role == ROLE_WORKER && c->state != CHILD_IDLE && c->state != CHILD_WAITING)
			n++;
	return n;
}

/* Workers first, while the spooler still takes their outcomes; then the spooler; then the resolver. */
static void stop_next(struct master *m)
{
	struct child *c;

	if (m->spooler->pid > 0) {
		LIST_FOREACH(c, &m->children, link)
			if (c->role == ROLE_WORKER && c->pid > 0 && c->state != CHILD_STOPPING)
				send_stop(c, conf_global(m->conf)->shutdown_timeout);
		if (workers_left(m) > 0)
			return;
		if (m->spooler->state != CHILD_STOPPING)
			send_stop(m->spooler, STOP_GRACE);
		return;
	}
	/* without a spooler the rings cannot be emptied; the next start finds that mail again */
	LIST_FOREACH(c, &m->children, link) {
		if (c->pid > 0 && c->state != CHILD_STOPPING)
			send_stop(c, c->role == ROLE_WORKER ? conf_global(m->conf)->shutdown_timeout
							    : STOP_GRACE);
	}
	LIST_FOREACH(c, &m->children, link)
		if (c->pid > 0)
			return;
	loop_stop(m->loop);
}

void supervisor_stop(struct master *m)
{
	if (m->stopping)
		return;
	m->stopping = true;
	log_info(NULL, "stopping");
	(void)sd_notify(0, "STOPPING=1");
	(void)supervisor_drain_in(m, true);
	stop_next(m);
}
