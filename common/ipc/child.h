/*
 * child.h - a child's side of the control socket: listens to master and to the pipe that tells of
 * master's death, hands each message to its role, and answers what every role answers the same way.
 *
 * One in a process, used in its loop's thread (ipc_child_tell(): any thread). Descriptors that come with a message are closed after the call
 * unless the role has taken them and set them to -1.
 */
#ifndef SLUICE_IPC_CHILD_H
#define SLUICE_IPC_CHILD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/base/clock.h"
#include "common/base/heritage.h"
#include "common/ipc/ipc.h"
#include "common/loop/loop.h"

enum ipc_conf_answer {
	IPC_CONF_TAKEN, /* in use */
	IPC_CONF_LATER, /* in use; the role sends CONF_DONE itself */
	IPC_CONF_UNUSABLE /* the old one stays; master replaces this process */
};

struct ipc_child_role {
	const char *name; /* for log lines */
	enum ipc_conf_answer (*conf)(struct ipc_message *m, uint64_t generation, void *arg);
	void (*control)(struct ipc_message *m, void *arg);
	void (*stop)(usec_t within, void *arg);
	void (*gone)(void *arg); /* master is gone; called once */
	bool (*other)(struct ipc_message *m, void *arg); /* may be NULL; false: not for this role */
};

struct ipc_child;

/*
 * From now on this process is killed (SIGALRM) when it is still there so many seconds after its parent died,
 * whatever it does: one that hangs would hold the lock of the family. After the last change of user, which
 * ends it. Takes SIGUSR1 and the alarm of this process.
 */
void ipc_child_end_with(pid_t master, unsigned seconds);

struct ipc_child *ipc_child_new(struct loop *l, const struct heritage *h,
				const struct ipc_child_role *role, void *arg);
void ipc_child_free(struct ipc_child *c); /* NULL is fine */
/* Sends a message; that master is gone shows otherwise. */
void ipc_child_tell(const struct ipc_child *c, const struct buf *m);
/* Sends READY without a payload. */
void ipc_child_ready(const struct ipc_child *c);

#endif
