#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/base/fd.h"
#include "common/loop/stream.h"
#include "common/loop/stream_private.h"

static void set_nodelay(int fd)
{
	int on = 1;

	/* Fails on unix sockets, which know no delay. */
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

/* STREAM_ERROR must come in a later turn, after the caller has stored the stream. */
static void report_failure(void *arg)
{
	struct stream *s = arg;

	s->report_queued = false;
	if (!s->dead)
		stream_end(s, STREAM_ERROR);
}

static void fail_later(struct stream *s, const char *doing)
{
	stream_set_errno(s, errno, doing);
	s->state = STREAM_BROKEN;
	if (s->report_queued)
		return;
	s->report_queued = true;
	loop_defer(s->loop, report_failure, s);
}

static int bind_source(int fd, const struct ip *source)
{
	struct sockaddr_storage sa;
	socklen_t len = ip_to_sockaddr(source, 0, &sa);
	int on = 1;

	/* The port is chosen at connect(): one source can reach each destination 28,000 times. */
	(void)setsockopt(fd, SOL_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on));
	return bind(fd, (const struct sockaddr *)&sa, len);
}

static void fail_binding(struct stream *s, const struct ip *source)
{
	char doing[IP_TEXT_MAX + 40], text[IP_TEXT_MAX];
	int err = errno;

	snprintf(doing, sizeof(doing), "binding the source address %s", ip_text(source, text));
	errno = err;
	fail_later(s, doing);
}

static void begin_connect(struct stream *s, const struct sockaddr *sa, socklen_t len,
			  const struct ip *source)
{
	int fd = socket(sa->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0) {
		fail_later(s, "socket");
		return;
	}
	stream_attach(s, fd);
	set_nodelay(fd);
	if (source && source->family != IP_NONE && bind_source(fd, source) < 0) {
		fail_binding(s, source);
		return;
	}
	if (connect(fd, sa, len) < 0 && errno != EINPROGRESS) {
		fail_later(s, NULL);
		return;
	}
	/* Also when connected at once: the socket is writable, and the event comes in its turn. */
	s->state = STREAM_CONNECTING;
	stream_update(s);
}

struct stream *stream_connect(struct loop *l, const struct ip *source, const struct ip *dest,
			      uint16_t port, stream_cb *cb, void *arg)
{
	struct stream *s = stream_make(l, cb, arg);
	struct sockaddr_storage sa;
	socklen_t len = ip_to_sockaddr(dest, port, &sa);

	s->peer_ip = *dest;
	s->peer_port = port;
	if (len == 0) {
		errno = EAFNOSUPPORT;
		fail_later(s, NULL);
	} else {
		begin_connect(s, (const struct sockaddr *)&sa, len, source);
	}
	return s;
}

struct stream *stream_connect_unix(struct loop *l, const char *path, stream_cb *cb, void *arg)
{
	struct stream *s = stream_make(l, cb, arg);
	struct sockaddr_un sun = {.sun_family = AF_UNIX};
	size_t n = strlen(path);

	if (n >= sizeof(sun.sun_path)) {
		errno = ENAMETOOLONG;
		fail_later(s, path);
		return s;
	}
	memcpy(sun.sun_path, path, n + 1);
	begin_connect(s, (const struct sockaddr *)&sun,
		      (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n + 1), NULL);
	return s;
}

void stream_connect_done(struct stream *s)
{
	int err = 0;
	socklen_t len = sizeof(err);

	if (getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &err, &len) < 0)
		err = errno;
	if (err) {
		stream_set_errno(s, err, NULL);
		stream_end(s, STREAM_ERROR);
		return;
	}
	s->state = STREAM_OPEN;
	s->read_since = s->write_since = loop_now(s->loop);
	stream_update(s);
	if (stream_output_pending(s) || s->closing)
		stream_queue_flush(s);
	stream_emit(s, STREAM_CONNECTED);
}

struct stream *stream_accepted(struct loop *l, int fd, stream_cb *cb, void *arg)
{
	struct stream *s = stream_make(l, cb, arg);
	struct sockaddr_storage sa;
	socklen_t len = sizeof(sa);

	stream_attach(s, fd);
	if (fd_set_nonblock(fd, true) < 0) {
		fail_later(s, "fcntl");
		return s;
	}
	set_nodelay(fd);
	if (getpeername(fd, (struct sockaddr *)&sa, &len) == 0)
		ip_from_sockaddr((const struct sockaddr *)&sa, &s->peer_ip, &s->peer_port);
	s->state = STREAM_OPEN;
	stream_update(s);
	return s;
}

bool stream_source_for(const struct ip *dest, struct ip *ret)
{
	struct sockaddr_storage sa;
	socklen_t len = ip_to_sockaddr(dest, 9, &sa);
	struct ip ip = {.family = IP_NONE};
	uint16_t port;
	int fd;

	if (len == 0)
		return false;
	fd = socket(sa.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return false;
	if (connect(fd, (const struct sockaddr *)&sa, len) == 0) {
		len = sizeof(sa);
		if (getsockname(fd, (struct sockaddr *)&sa, &len) == 0)
			ip_from_sockaddr((const struct sockaddr *)&sa, &ip, &port);
	}
	close(fd);
	if (ip.family == IP_NONE)
		return false;
	*ret = ip;
	return true;
}

bool stream_local(const struct stream *s, struct ip *ret_ip, uint16_t *ret_port)
{
	struct sockaddr_storage sa;
	socklen_t len = sizeof(sa);
	struct ip ip;

	if (s->fd < 0 || getsockname(s->fd, (struct sockaddr *)&sa, &len) < 0)
		return false;
	ip_from_sockaddr((const struct sockaddr *)&sa, &ip, ret_port);
	*ret_ip = ip;
	return ip.family != IP_NONE;
}

bool stream_peer(const struct stream *s, struct ip *ret_ip, uint16_t *ret_port)
{
	if (s->peer_ip.family == IP_NONE)
		return false;
	*ret_ip = s->peer_ip;
	if (ret_port)
		*ret_port = s->peer_port;
	return true;
}
