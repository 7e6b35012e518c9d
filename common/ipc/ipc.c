#include "common/ipc/ipc.h"

#include <errno.h>
#include <poll.h>

#include "common/base/err.h"
#include "common/base/fd.h"

const char *ipc_name(enum ipc_type t)
{
	switch (t) {
	case IPC_NONE:
		break;
#define IPC_NAME(name)   \
	case IPC_##name: \
		return #name;
		IPC_LIST(IPC_NAME)
#undef IPC_NAME
	}
	return "?";
}

void ipc_begin(struct buf *m, enum ipc_type type)
{
	buf_clear(m);
	enc_u8(m, (uint8_t)type);
}

int ipc_try_send(int fd, const struct buf *m, const int *fds, size_t fd_count)
{
	int rc;

	if (m->n > IPC_SIZE_MAX)
		return ERR_TOO_LONG;
	rc = fd_send(fd, m->p, m->n, fds, fd_count);
	return rc < 0 && (errno == EAGAIN || errno == EWOULDBLOCK) ? ERR_BUSY : rc;
}

int ipc_send(int fd, const struct buf *m, const int *fds, size_t fd_count)
{
	if (m->n > IPC_SIZE_MAX)
		return ERR_TOO_LONG;
	for (;;) {
		int rc = fd_send(fd, m->p, m->n, fds, fd_count);
		struct pollfd p = {.fd = fd, .events = POLLOUT};

		if (rc == 0 || (errno != EAGAIN && errno != EWOULDBLOCK))
			return rc;
		(void)poll(&p, 1, 1000);
	}
}

int ipc_recv(int fd, struct ipc_reader *r, struct ipc_message *ret)
{
	long n;

	*ret = (struct ipc_message){.fd_count = IPC_FDS_MAX};
	n = fd_recv(fd, r->packet, sizeof(r->packet), ret->fds, &ret->fd_count);
	if (n == ERR_BUSY)
		return ERR_BUSY;
	if (n <= 0)
		return 0;
	ret->payload = dec_of(r->packet, (size_t)n);
	ret->type = (enum ipc_type)dec_u8(&ret->payload);
	return ipc_name(ret->type)[0] == '?' ? ERR_CORRUPT : 1;
}
