/*
 * Listening sockets: ranges of loopback addresses, opened and closed while the receiver runs (a
 * closed one is a dead host: connection refused).
 */
#ifndef TESTS_LIB_RECEIVER_LISTEN_H
#define TESTS_LIB_RECEIVER_LISTEN_H

#include "tests/lib/receiver/dialogue.h"

static void listener_accept(struct receiver *rc, struct listener *listener, int fd,
			    const struct sockaddr_storage *peer)
{
	const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)(const void *)peer;
	const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)peer;
	struct limit *limit;
	struct conn *conn;
	struct text *ev;
	char source[64];
	unsigned port;
	int one = 1;

	if (peer->ss_family == AF_INET6) {
		inet_ntop(AF_INET6, &in6->sin6_addr, source, sizeof(source));
		port = ntohs(in6->sin6_port);
	} else {
		inet_ntop(AF_INET, &in->sin_addr, source, sizeof(source));
		port = ntohs(in->sin_port);
	}
	limit = plan_limit(&rc->plan, LIMIT_CONNECTIONS, listener->ip, source);
	if (!limit)
		limit = plan_limit(&rc->plan, LIMIT_CONNECT, listener->ip, source);
	if (limit) {
		conn_refuse(rc, listener, fd, source, limit);
		return;
	}
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	conn = conn_new(rc, listener, fd, source, port);
	ev = journal_event(&rc->journal, "conn", conn->id);
	journal_text(ev, "listen", conn->listen, strlen(conn->listen));
	journal_number(ev, "port", conn->port);
	journal_text(ev, "source", source, strlen(source));
	journal_number(ev, "source_port", port);
	journal_end(ev);
	answer(rc, conn, STAGE_CONNECT);
	if (!conn->watch.dead)
		conn_flush(rc, conn);
}

static void listener_ready(struct receiver *rc, struct watch *watch, uint32_t events)
{
	struct listener *listener = (struct listener *)(void *)watch;

	(void)events;
	for (int i = 0; i < 64; i++) {
		struct sockaddr_storage peer;
		socklen_t size = sizeof(peer);
		int fd = accept4(watch->fd, (struct sockaddr *)&peer, &size,
				 SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd < 0)
			return;
		listener_accept(rc, listener, fd, &peer);
	}
}

static void listener_open(struct receiver *rc, const char *ip, unsigned port)
{
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
	bool v6 = strchr(ip, ':') != NULL;
	struct listener *listener = need(calloc(1, sizeof(*listener)));
	int fd = socket(v6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int one = 1, rv;

	if (fd < 0 || inet_pton(v6 ? AF_INET6 : AF_INET, ip,
				v6 ? (void *)&in6.sin6_addr : (void *)&in.sin_addr) != 1)
		die("cannot listen on '%s'", ip);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	rv = v6 ? bind(fd, (struct sockaddr *)&in6, sizeof(in6))
		: bind(fd, (struct sockaddr *)&in, sizeof(in));
	if (rv < 0 || listen(fd, 4096) < 0)
		die("%s port %u: %s", ip, port, strerror(errno));
	listener->watch = (struct watch){.ready = listener_ready, .fd = fd};
	snprintf(listener->ip, sizeof(listener->ip), "%s", ip);
	listener->port = port;
	listener->next = rc->listeners;
	rc->listeners = listener;
	watch_add(rc, &listener->watch, EPOLLIN);
}

/* Closes every listener of that address (glob). The struct stays: events may still name it. */
static size_t listener_close(struct receiver *rc, const char *ip)
{
	size_t closed = 0;

	for (struct listener *l = rc->listeners; l; l = l->next) {
		if (l->watch.dead || !glob_match(ip, l->ip))
			continue;
		close(l->watch.fd);
		l->watch.dead = true;
		closed++;
	}
	return closed;
}

/* ADDRESS:PORT, ADDRESS-ADDRESS:PORT (IPv4) or [ADDRESS]:PORT */
static void listen_range(struct receiver *rc, const char *spec)
{
	const char *colon = strrchr(spec, ':'), *dash;
	struct in_addr first, last;
	char from[64], to[64], ip[64];
	unsigned port;

	if (!colon || colon == spec)
		die("--listen %s: expected ADDRESS:PORT", spec);
	port = (unsigned)strtoul(colon + 1, NULL, 10);
	if (*spec == '[') {
		snprintf(from, sizeof(from), "%.*s", (int)(colon - spec - 2), spec + 1);
		listener_open(rc, from, port);
		return;
	}
	dash = memchr(spec, '-', (size_t)(colon - spec));
	snprintf(from, sizeof(from), "%.*s", (int)((dash ? dash : colon) - spec), spec);
	snprintf(to, sizeof(to), "%.*s", dash ? (int)(colon - dash - 1) : (int)(colon - spec),
		 dash ? dash + 1 : spec);
	if (inet_pton(AF_INET, from, &first) != 1 || inet_pton(AF_INET, to, &last) != 1)
		die("--listen %s: not a range of IPv4 addresses", spec);
	for (uint32_t a = ntohl(first.s_addr); a <= ntohl(last.s_addr); a++) {
		struct in_addr one = {.s_addr = htonl(a)};

		inet_ntop(AF_INET, &one, ip, sizeof(ip));
		listener_open(rc, ip, port);
	}
}

#endif
