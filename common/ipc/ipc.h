/*
 * ipc.h - messages between master and its children, over a unix seqpacket socket pair for each child
 * (heritage.control_fd). One packet is one message; descriptors travel with it.
 *
 * The list below is the whole protocol: name, direction, payload (codec.h: str = enc_bytes, var =
 * enc_var), descriptors.
 */
#ifndef SLUICE_IPC_IPC_H
#define SLUICE_IPC_IPC_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/buf.h"
#include "common/base/codec.h"
#include "common/base/slice.h"

/*  name          direction          payload                         descriptors                       */
#define IPC_LIST(X)                                                                                    \
	/* new configuration. Answer: CONF_DONE, or CONF_FAILED: master replaces the child */          \
	X(CONF) /* master > child   var generation                  memfd [, listeners…: spooler] */ \
	X(CONF_FAILED) /* child > master var generation */                                             \
	X(CONF_DONE) /* child > master   var generation, [spooler: var n, str orphan…] */            \
	/* a control connection with its request line (JSON), to be answered by the child */           \
	X(CONTROL) /* master > child   str json, var uid                connection */                  \
	/* stop: no new work, finish what is in hand within the time, exit 0 */                        \
	X(STOP) /* master > child   var usec */                                                        \
	/* spooler only: refuse new mail (421), go on with all else */                                 \
	X(DRAIN_IN) /* master > child   var 1 drain, 0 accept again */                                 \
	/* a worker is gone: empty its ring, commit, count the crash for these messages */             \
	X(DRAIN) /* master > spooler var slot, var forkno, var n, var msgid… */                      \
	X(DRAINED) /* spooler > master var slot, var forkno */                                         \
	/* the spooler serves; virtual MTAs with mail that the configuration does not name */          \
	X(READY) /* child > master   [spooler: var n, str orphan…] */                                \
	/* the ring of this worker is corrupt: kill it */                                              \
	X(KILL_WORKER) /* spooler > master var slot, var forkno, str why */

enum ipc_type {
	IPC_NONE = 0,
#define IPC_ENUM(name) IPC_##name,
	IPC_LIST(IPC_ENUM)
#undef IPC_ENUM
};

#define IPC_FDS_MAX 16
#define IPC_SIZE_MAX 131072

struct ipc_message {
	enum ipc_type type;
	struct dec payload; /* cursor over the payload: valid until the next receive */
	int fds[IPC_FDS_MAX];
	size_t fd_count; /* owned by the receiver */
};

/* A message under construction; payload by enc_*(&m, …). */
void ipc_begin(struct buf *m, enum ipc_type type);
/* Sends m; blocks while the socket is full (it never is for long). ERR_SYS when the peer is gone. */
int ipc_send(int fd, const struct buf *m, const int *fds, size_t fd_count)
	__attribute__((warn_unused_result));
/* The same without waiting: ERR_BUSY when the socket is full. */
int ipc_try_send(int fd, const struct buf *m, const int *fds, size_t fd_count)
	__attribute__((warn_unused_result));

struct ipc_reader {
	char packet[IPC_SIZE_MAX];
};
/*
 * Receives one message. 1 = got it, 0 = the peer is gone, ERR_BUSY = nothing there now,
 * ERR_CORRUPT = not a message (a bug).
 */
int ipc_recv(int fd, struct ipc_reader *r, struct ipc_message *ret);
const char *ipc_name(enum ipc_type t);

#endif
