#include "common/ipc/child.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "common/base/err.h"
#include "common/base/log.h"
#include "common/base/xalloc.h"

#define IPC_CHILD_MAGIC 0x69706363u
#define MESSAGES_PER_TURN 64

struct ipc_child {
	unsigned magic;
	int fd;
	const struct ipc_child_role *role;
	void *arg;
	struct loop_io *control, *death;
	bool gone;
	struct ipc_reader reader;
};

void ipc_child_tell(const struct ipc_child *c, const struct buf *m)
{
	if (ipc_send(c->fd, m, NULL, 0) < 0)
		log_debug(NULL, "master does not take messages");
}

void ipc_child_ready(const struct ipc_child *c)
{
	struct buf b = BUF_INIT;

	ipc_begin(&b, IPC_READY);
	ipc_child_tell(c, &b);
	buf_done(&b);
}

static void take_conf(struct ipc_child *c, struct ipc_message *m)
{
	uint64_t generation = dec_var(&m->payload);
	enum ipc_conf_answer answer = IPC_CONF_UNUSABLE;
	struct buf b = BUF_INIT;

	if (m->fd_count > 0 && dec_end(&m->payload))
		answer = c->role->conf(m, generation, c->arg);
	if (answer == IPC_CONF_LATER)
		return;
	if (answer == IPC_CONF_UNUSABLE)
		log_error(NULL, "cannot read the new configuration; the old one stays",
			  LOG_S("process", c->role->name), LOG_U("descriptors", m->fd_count));
	ipc_begin(&b, answer == IPC_CONF_TAKEN ? IPC_CONF_DONE : IPC_CONF_FAILED);
	enc_var(&b, generation);
	ipc_child_tell(c, &b);
	buf_done(&b);
}

static void on_message(struct ipc_child *c, struct ipc_message *m)
{
	switch (m->type) {
	case IPC_CONF:
		take_conf(c, m);
		break;
	case IPC_CONTROL:
		if (m->fd_count > 0)
			c->role->control(m, c->arg);
		break;
	case IPC_STOP:
		c->role->stop(dec_var(&m->payload), c->arg);
		break;
	case IPC_NONE:
	case IPC_CONF_DONE:
	case IPC_CONF_FAILED:
	case IPC_DRAIN_IN:
	case IPC_DRAIN:
	case IPC_DRAINED:
	case IPC_READY:
	case IPC_KILL_WORKER:
		if (!c->role->other || !c->role->other(m, c->arg))
			log_error(NULL, "master sent a message that is not for this process",
				  LOG_S("process", c->role->name),
				  LOG_S("message", ipc_name(m->type)));
		break;
	}
	for (size_t i = 0; i < m->fd_count; i++)
		if (m->fds[i] >= 0)
			close(m->fds[i]);
}

static void master_gone(struct ipc_child *c)
{
	if (c->gone)
		return;
	c->gone = true;
	loop_io_want(c->control, 0);
	loop_io_want(c->death, 0);
	c->role->gone(c->arg);
}

static void on_control(int what ATTR_UNUSED, void *arg)
{
	struct ipc_child *c;
	struct ipc_message m;

	CAST_MAGIC(c, arg, IPC_CHILD_MAGIC);
	for (int i = 0; i < MESSAGES_PER_TURN; i++) {
		int rc = ipc_recv(c->fd, &c->reader, &m);

		if (rc == ERR_BUSY)
			return;
		if (rc == 0) {
			master_gone(c);
			return;
		}
		if (rc < 0)
			panic("control message from master: %s", err_text(rc));
		on_message(c, &m);
	}
}

static void on_death(int what ATTR_UNUSED, void *arg)
{
	struct ipc_child *c;

	CAST_MAGIC(c, arg, IPC_CHILD_MAGIC);
	master_gone(c);
}

static unsigned seconds_left; /* from master's death on */

static void on_parent_died(int signo ATTR_UNUSED)
{
	(void)alarm(seconds_left);
}

void ipc_child_end_with(pid_t master, unsigned seconds)
{
	struct sigaction told = {.sa_handler = on_parent_died, .sa_flags = SA_RESTART};

	seconds_left = seconds;
	if (sigaction(SIGUSR1, &told, NULL) < 0 || prctl(PR_SET_PDEATHSIG, SIGUSR1, 0, 0, 0) < 0)
		fatal("cannot watch master: %s", strerror(errno));
	if (getppid() != master) /* it was quicker */
		(void)alarm(seconds);
}

struct ipc_child *ipc_child_new(struct loop *l, const struct heritage *h,
				const struct ipc_child_role *role, void *arg)
{
	struct ipc_child *c = xcalloc(1, sizeof(*c));

	c->magic = IPC_CHILD_MAGIC;
	c->fd = h->control_fd;
	c->role = role;
	c->arg = arg;
	c->control = loop_io_new(l, h->control_fd, LOOP_READ, on_control, c);
	c->death = loop_io_new(l, h->death_fd, LOOP_READ, on_death, c);
	return c;
}

void ipc_child_free(struct ipc_child *c)
{
	if (!c)
		return;
	loop_io_free(c->control);
	loop_io_free(c->death);
	c->magic = 0;
	free(c);
}
