#include "common/base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/err.h"

#define FD_MAX 16

static int change_flag(int fd, int get, int set, int flag, bool on)
{
	int flags = fcntl(fd, get);

	if (flags < 0 || fcntl(fd, set, on ? flags | flag : flags & ~flag) < 0)
		return ERR_SYS;
	return 0;
}

int fd_set_nonblock(int fd, bool on)
{
	return change_flag(fd, F_GETFL, F_SETFL, O_NONBLOCK, on);
}

int fd_set_cloexec(int fd, bool on)
{
	return change_flag(fd, F_GETFD, F_SETFD, FD_CLOEXEC, on);
}

int fd_write_all(int fd, const void *p, size_t n)
{
	const char *at = p;

	while (n) {
		ssize_t w = write(fd, at, n);

		if (w < 0 && errno == EINTR)
			continue;
		if (w < 0)
			return errno == ENOSPC || errno == EDQUOT ? ERR_DISK_FULL : ERR_SYS;
		at += w;
		n -= (size_t)w;
	}
	return 0;
}

int fd_read_all(int fd, size_t max, struct buf *b)
{
	for (;;) {
		size_t want = 65536;
		ssize_t r = read(fd, buf_reserve(b, want), want);

		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return ERR_SYS;
		if (r == 0)
			return 0;
		b->n += (size_t)r;
		if (b->n > max)
			return ERR_TOO_LONG;
	}
}

void bell_ring(int eventfd)
{
	uint64_t one = 1;
	ssize_t w = write(eventfd, &one, sizeof(one));

	(void)w; /* EAGAIN: it rings already */
}

void bell_quiet(int eventfd)
{
	uint64_t count;
	ssize_t r = read(eventfd, &count, sizeof(count));

	(void)r; /* EAGAIN: it did not ring */
}

int fd_send(int sock, const void *p, size_t n, const int *fds, size_t fd_count)
{
	union {
		char space[CMSG_SPACE(sizeof(int) * FD_MAX)];
		struct cmsghdr align;
	} control;
	struct iovec iov = {.iov_base = (void *)(uintptr_t)p, .iov_len = n};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	ssize_t w;

	if (fd_count > FD_MAX)
		return ERR_RANGE;
	if (fd_count) {
		struct cmsghdr *c;

		memset(&control, 0, sizeof(control));
		msg.msg_control = control.space;
		msg.msg_controllen = CMSG_SPACE(sizeof(int) * fd_count);
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int) * fd_count);
		memcpy(CMSG_DATA(c), fds, sizeof(int) * fd_count);
	}
	do
		w = sendmsg(sock, &msg, MSG_NOSIGNAL);
	while (w < 0 && errno == EINTR);
	return w == (ssize_t)n ? 0 : ERR_SYS;
}

static size_t take_fds(struct msghdr *msg, int *fds, size_t max)
{
	struct cmsghdr *c;
	size_t got = 0;

	for (c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
		size_t i, count;

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (i = 0; i < count; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
			if (got < max)
				fds[got++] = fd;
			else
				close(fd);
		}
	}
	return got;
}

long fd_recv(int sock, void *p, size_t n, int *fds, size_t *fd_count)
{
	union {
		char space[CMSG_SPACE(sizeof(int) * FD_MAX)];
		struct cmsghdr align;
	} control;
	struct iovec iov = {.iov_base = p, .iov_len = n};
	struct msghdr msg = {.msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = control.space,
			     .msg_controllen = sizeof(control.space)};
	ssize_t r;

	do
		r = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC);
	while (r < 0 && errno == EINTR);
	if (r < 0) {
		*fd_count = 0;
		return errno == EAGAIN || errno == EWOULDBLOCK ? ERR_BUSY : ERR_SYS;
	}
	*fd_count = take_fds(&msg, fds, *fd_count);
	return r;
}
