#include "worker/resolver_server.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/base/err.h"
#include "common/base/log.h"
#include "common/base/xalloc.h"
#include "common/dns/wire.h"
#include "common/loop/stream.h"

#define SERVER_MAGIC 0x72737276u
/* A worker with more open requests than this is read again when half of them are answered. */
#define OPEN_MAX 16384
#define OUTPUT_MAX (1u << 20)
/* After a failed accept (no descriptors left). */
#define ACCEPT_PAUSE (100 * USEC_PER_MSEC)

struct client {
	struct resolver_server_socket *server;
	LIST_ENTRY(client) link;
	struct stream *stream;
	bool paused;
	size_t open;
	LIST_HEAD(, request) requests;
};

/* A request in flight. Outlives its client. */
struct request {
	LIST_ENTRY(request) link; /* of its client, or of the server's orphans */
	struct client *client; /* NULL: the worker has gone */
	uint64_t id;
};

struct resolver_server_socket {
	unsigned magic;
	struct loop *loop;
	struct routes *routes;
	int fd;
	char *path;
	struct loop_io *io;
	struct loop_timer *resume;
	LIST_HEAD(, client) clients;
	LIST_HEAD(, request) orphans;
};

static void take_requests(struct client *c);

static void client_free(struct client *c)
{
	struct request *q;

	while ((q = LIST_FIRST(&c->requests))) {
		LIST_REMOVE(q, link);
		q->client = NULL;
		LIST_INSERT_HEAD(&c->server->orphans, q, link);
	}
	LIST_REMOVE(c, link);
	stream_free(c->stream);
	loop_defer_free(c->server->loop, c);
}

static void resume(void *arg)
{
	struct client *c = arg;

	if (!c->stream || !c->paused || c->open > OPEN_MAX / 2 ||
	    stream_output_pending(c->stream) > OUTPUT_MAX / 2)
		return;
	c->paused = false;
	/* What is left in the buffer comes as STREAM_DATA again. */
	stream_pause_input(c->stream, false);
}

static void on_route(const struct dns_route *route, msec_t expires, void *arg)
{
	struct request *q = arg;
	struct client *c = q->client;
	struct buf bytes = BUF_INIT, frame = BUF_INIT;

	LIST_REMOVE(q, link);
	if (c) {
		dns_route_encode(&bytes, route, expires);
		dns_reply_encode(&frame, q->id, buf_slice(&bytes));
		stream_write(c->stream, frame.p, frame.n);
		buf_done(&bytes);
		buf_done(&frame);
		c->open--;
		resume(c);
	}
	free(q);
}

static int take_request(struct client *c, struct slice body)
{
	struct dns_request r;
	struct request *q;
	char *avoid;
	int rc = dns_request_decode(body, &r);

	if (rc < 0)
		return rc;
	q = xcalloc(1, sizeof(*q));
	q->client = c;
	q->id = r.id;
	LIST_INSERT_HEAD(&c->requests, q, link);
	c->open++;
	avoid = slice_dup(r.avoid);
	routes_ask(c->server->routes, r.domain, r.flags & (DNS_HOST_ONLY | DNS_FRESH), avoid,
		   on_route, q);
	free(avoid);
	return 0;
}

static void take_requests(struct client *c)
{
	struct slice body;
	int rc = 0;

	while (!c->paused &&
	       (rc = dns_frame(stream_input(c->stream), DNS_REQUEST_MAX, &body)) == 1) {
		rc = take_request(c, body);
		if (rc < 0)
			break;
		stream_consume(c->stream, body.n + 4);
		if (c->open >= OPEN_MAX || stream_output_pending(c->stream) >= OUTPUT_MAX) {
			c->paused = true;
			stream_pause_input(c->stream, true);
		}
	}
	if (rc < 0) {
		log_error(NULL, "a worker sent what is not a DNS request; connection closed",
			  LOG_S("why", err_text(rc)));
		client_free(c);
	}
}

static void on_client(struct stream *s ATTR_UNUSED, enum stream_event what, void *arg)
{
	struct client *c = arg;

	switch (what) {
	case STREAM_DATA:
		take_requests(c);
		break;
	case STREAM_DRAINED:
		resume(c);
		break;
	case STREAM_EOF:
	case STREAM_ERROR:
	case STREAM_TIMEOUT:
		client_free(c);
		break;
	case STREAM_CONNECTED:
	case STREAM_TLS_READY:
		break;
	}
}

static void on_accept(int what ATTR_UNUSED, void *arg)
{
	struct resolver_server_socket *s;
	struct client *c;
	int fd;

	CAST_MAGIC(s, arg, SERVER_MAGIC);
	fd = accept4(s->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd < 0) {
		if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
			loop_io_want(s->io, 0);
			loop_timer_set(s->resume, ACCEPT_PAUSE);
		}
		return;
	}
	c = xcalloc(1, sizeof(*c));
	c->server = s;
	LIST_INIT(&c->requests);
	LIST_INSERT_HEAD(&s->clients, c, link);
	c->stream = stream_accepted(s->loop, fd, on_client, c);
}

static void on_resume(void *arg)
{
	struct resolver_server_socket *s;

	CAST_MAGIC(s, arg, SERVER_MAGIC);
	loop_io_want(s->io, LOOP_READ);
}

/* 0 or an errno. */
static int open_socket(struct resolver_server_socket *s)
{
	struct sockaddr_un sun = {.sun_family = AF_UNIX};

	if (strlen(s->path) >= sizeof(sun.sun_path))
		return ENAMETOOLONG;
	memcpy(sun.sun_path, s->path, strlen(s->path) + 1);
	s->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (s->fd < 0)
		return errno;
	if (unlink(s->path) < 0 && errno != ENOENT)
		return errno;
	if (bind(s->fd, (const struct sockaddr *)&sun, sizeof(sun)) < 0 ||
	    chmod(s->path, 0660) < 0 || listen(s->fd, 512) < 0)
		return errno;
	return 0;
}

struct resolver_server_socket *resolver_listen(struct loop *l, const char *runtime_dir,
					       struct routes *routes, char **ret_error)
{
	struct resolver_server_socket *s = xcalloc(1, sizeof(*s));
	int err;

	s->magic = SERVER_MAGIC;
	s->loop = l;
	s->routes = routes;
	s->fd = -1;
	s->path = xasprintf("%s/%s", runtime_dir, RESOLVER_SOCKET);
	LIST_INIT(&s->clients);
	LIST_INIT(&s->orphans);
	err = open_socket(s);
	if (err) {
		*ret_error = xasprintf("cannot listen on %s: %s", s->path, strerror(err));
		resolver_unlisten(s);
		return NULL;
	}
	s->io = loop_io_new(l, s->fd, LOOP_READ, on_accept, s);
	s->resume = loop_timer_new(l, on_resume, s);
	return s;
}

void resolver_unlisten(struct resolver_server_socket *s)
{
	struct client *c;
	struct request *q;

	if (!s)
		return;
	while ((c = LIST_FIRST(&s->clients)))
		client_free(c);
	while ((q = LIST_FIRST(&s->orphans))) {
		LIST_REMOVE(q, link);
		free(q);
	}
	loop_io_free(s->io);
	loop_timer_free(s->resume);
	if (s->fd >= 0)
		close(s->fd);
	free(s->path);
	s->magic = 0;
	free(s);
}
