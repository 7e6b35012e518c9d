#include "master/master.h"

#include <errno.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/err.h"
#include "common/base/fd.h"
#include "common/base/xalloc.h"
#include "common/ipc/child.h"
#include "spooler/spooler.h"
#include "worker/resolver.h"
#include "worker/worker.h"

#define ORPHANED_EXIT_SEC 5 /* without master: all is over by then */

static int compare_int(const void *a, const void *b)
{
	int x = *(const int *)a, y = *(const int *)b;

	return (x > y) - (x < y);
}

/* Closes every descriptor above standard error that is not in keep (sorted). */
static void close_all_but(const int *keep, size_t n)
{
	unsigned from = STDERR_FILENO + 1;
	size_t i;

	for (i = 0; i < n; i++) {
		if (keep[i] < (int)from)
			continue;
		if (keep[i] > (int)from)
			(void)close_range(from, (unsigned)keep[i] - 1, 0);
		from = (unsigned)keep[i] + 1;
	}
	(void)close_range(from, ~0U, 0);
}

static void keep_only(const struct heritage *h, const struct master *m)
{
	int *keep = xcalloc(h->bell_count + h->listener_count + 8, sizeof(int));
	size_t n = 0, i;

	for (i = 0; i < h->bell_count; i++)
		keep[n++] = h->bells[i];
	for (i = 0; i < h->listener_count; i++)
		keep[n++] = h->listeners[i];
	keep[n++] = h->spooler_bell;
	keep[n++] = h->conf_fd;
	keep[n++] = h->control_fd;
	keep[n++] = h->death_fd;
	keep[n++] = m->lock_fd; /* both are held by the whole family */
	keep[n++] = m->spool_fd;
	if (log_fd() > STDERR_FILENO)
		keep[n++] = log_fd();
	qsort(keep, n, sizeof(int), compare_int);
	close_all_but(keep, n);
	free(keep);
}

static void reset_signals(void)
{
	static const int used[] = {SIGTERM, SIGINT, SIGHUP, SIGCHLD, SIGUSR1, SIGUSR2};
	sigset_t none;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(used); i++)
		(void)signal(used[i], SIG_DFL);
	/* these often reach the whole family at once; master alone decides what they mean */
	(void)signal(SIGINT, SIG_IGN);
	(void)signal(SIGTERM, SIG_IGN);
	(void)signal(SIGHUP, SIG_IGN);
	(void)signal(SIGPIPE, SIG_IGN);
	sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
}

static void become(const struct master *m, enum role role)
{
	bool spooler = role == ROLE_SPOOLER;
	const char *user = spooler ? m->spool_user : m->out_user;
	uid_t uid = spooler ? m->spool_uid : m->out_uid;
	gid_t gid = spooler ? m->spool_gid : m->out_gid;

	if (uid != 0) {
		if (initgroups(user, gid) < 0 || setresgid(gid, gid, gid) < 0 ||
		    setresuid(uid, uid, uid) < 0)
			fatal("cannot become user %s: %s", user, strerror(errno));
		if (setuid(0) == 0)
			panic("root could be taken back");
	}
	(void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	(void)prctl(PR_SET_DUMPABLE, 1, 0, 0, 0); /* a crash leaves a core */
}

static void run(struct child *c, int control_fd, pid_t master) ATTR_NORETURN;

static void run(struct child *c, int control_fd, pid_t master)
{
	struct master *m = c->m;
	int listeners[MASTER_LISTENERS_MAX];
	struct heritage h = {.role = c->role,
			     .family = m->family,
			     .forkno = c->forkno,
			     .slot = c->slot,
			     .vmta = c->vmta,
			     .orphan = c->orphan,
			     .shm = m->shm,
			     .conf_gen = m->conf_gen,
			     .conf_fd = m->conf_fd,
			     .control_fd = control_fd,
			     .death_fd = m->death_read,
			     .bells = m->bells,
			     .bell_count = shm_max_workers(m->shm),
			     .spooler_bell = m->spooler_bell,
			     .debug = m->debug};
	char name[16], who[SHM_NAME_MAX + 16];
	int status = 1;
	size_t i;

	reset_signals();
	log_set_program(role_name(c->role), c->vmta);
	if (c->role == ROLE_SPOOLER) {
		for (i = 0; i < m->listener_count; i++)
			listeners[i] = m->listeners[i].fd;
		h.listeners = listeners;
		h.listener_count = m->listener_count;
	}
	snprintf(name, sizeof(name), "%s", role_name(c->role));
	(void)prctl(PR_SET_NAME, name, 0, 0, 0);
	snprintf(who, sizeof(who), c->vmta ? "%s[%s]" : "%s", role_name(c->role), c->vmta);
	setup_lock_note(m, who);
	keep_only(&h, m);
	become(m, c->role);
	ipc_child_end_with(master, ORPHANED_EXIT_SEC);
	switch (c->role) {
	case ROLE_SPOOLER:
		status = spooler_main(&h);
		break;
	case ROLE_WORKER:
		status = worker_main(&h);
		break;
	case ROLE_RESOLVER:
		status = resolver_main(&h);
		break;
	case ROLE_MASTER:
		break;
	}
	exit(status);
}

int child_spawn(struct child *c)
{
	struct master *m = c->m;
	int fds[2];
	pid_t pid, master = getpid();

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) < 0)
		return ERR_SYS;
	c->forkno = ++m->forks;
	pid = fork();
	if (pid < 0) {
		close(fds[0]);
		close(fds[1]);
		return ERR_SYS;
	}
	if (pid == 0)
		run(c, fds[1], master);
	close(fds[1]);
	c->pid = pid;
	c->control_fd = fds[0];
	return 0;
}
