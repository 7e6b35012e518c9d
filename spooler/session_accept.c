#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/hash.h"
#include "common/base/xalloc.h"
#include "spooler/session_private.h"

/* Accepted at once by one thread, before the others get their chance. */
#define ACCEPT_BATCH 8
/* How long nothing is accepted when there are no descriptors left. */
#define ACCEPT_PAUSE USEC_PER_SEC
#define FULL_LOG_EVERY (60 * USEC_PER_SEC)

struct session_listener {
	struct session_thread *thread;
	int fd;
	struct loop_io *io;
	const char *source; /* of thread->conf */
};

/* Open sessions of one address, over all threads; under server->lock. */
struct session_client {
	struct ip ip;
	unsigned open;
	UT_hash_handle hh;
};

/* False: the address has `max` already (0: no limit). */
static bool client_take(struct smtp_server *server, const struct ip *ip, uint64_t max)
{
	struct session_client *c;
	bool ok;

	pthread_mutex_lock(&server->lock);
	HASH_FIND(hh, server->clients, ip, sizeof(*ip), c);
	if (!c) {
		c = xcalloc(1, sizeof(*c));
		c->ip = *ip;
		HASH_ADD(hh, server->clients, ip, sizeof(c->ip), c);
	}
	ok = max == 0 || c->open < max;
	if (ok)
		c->open++;
	pthread_mutex_unlock(&server->lock);
	return ok;
}

void session_client_gone(struct smtp_server *server, const struct ip *ip)
{
	struct session_client *c;

	pthread_mutex_lock(&server->lock);
	HASH_FIND(hh, server->clients, ip, sizeof(*ip), c);
	if (c && --c->open == 0) {
		HASH_DEL(server->clients, c);
		free(c);
	}
	pthread_mutex_unlock(&server->lock);
}

/* A new socket's buffer takes one line; who does not read it gets nothing. */
static void turn_away(int fd, const struct ip *ip, const char *line)
{
	char text[IP_TEXT_MAX];

	log_debug(NULL, "client turned away", LOG_S("client", ip_text(ip, text)),
		  LOG_S("reply", line));
	(void)send(fd, line, strlen(line), MSG_NOSIGNAL | MSG_DONTWAIT);
	(void)shutdown(fd, SHUT_WR);
	close(fd);
}

/* Feeders see only a 421; whoever runs this must know which directive to raise. */
static void log_full(struct session_thread *t, const struct ip *ip, const char *directive,
		     uint64_t max)
{
	struct smtp_server *server = t->server;
	usec_t now = loop_now(t->loop), due = atomic_load(&server->full_log_at);
	char text[IP_TEXT_MAX];

	if (now < due ||
	    !atomic_compare_exchange_strong(&server->full_log_at, &due, now + FULL_LOG_EVERY)) {
		atomic_fetch_add(&server->full_quiet, 1);
		return;
	}
	log_warn(NULL, "connections of clients are refused: a limit is reached",
		 LOG_S("directive", directive), LOG_U("limit", max),
		 LOG_S("client", ip_text(ip, text)),
		 LOG_U("not_shown_before", atomic_exchange(&server->full_quiet, 0)));
}

static void admit(struct session_listener *listener, int fd, const struct ip *ip)
{
	struct session_thread *t = listener->thread;
	struct smtp_server *server = t->server;
	const struct conf_source *src = conf_source_for(t->conf->conf, ip, listener->source);

	if (atomic_load(&server->draining)) {
		turn_away(fd, ip,
			  "421 4.3.2 this server takes no new mail now; try again later\r\n");
		return;
	}
	if (!src->smtp_service) {
		turn_away(fd, ip, "521 5.3.2 this server takes no mail from your address\r\n");
		return;
	}
	if (atomic_fetch_add(&server->open, 1) >= t->conf->global->total_max_smtp_in) {
		atomic_fetch_sub(&server->open, 1);
		log_full(t, ip, "total-max-smtp-in", t->conf->global->total_max_smtp_in);
		turn_away(fd, ip, "421 4.7.0 too many connections; try again later\r\n");
		return;
	}
	if (!client_take(server, ip, src->max_smtp_in)) {
		atomic_fetch_sub(&server->open, 1);
		log_full(t, ip, "max-smtp-in", src->max_smtp_in);
		turn_away(fd, ip,
			  "421 4.7.0 too many connections from your address; try again "
			  "later\r\n");
		return;
	}
	session_start(t, fd, ip, listener->source);
}

static void pause_accepting(struct session_thread *t, int err)
{
	size_t i;

	if (!t->accept_warned)
		log_warn(NULL,
			 "cannot accept connections, trying again each second; raise the limit "
			 "of open files or lower total-max-smtp-in",
			 LOG_S("error", strerror(err)));
	t->accept_warned = true;
	for (i = 0; i < t->listener_count; i++)
		loop_io_want(t->listeners[i].io, 0);
	loop_timer_set(t->accept_again, ACCEPT_PAUSE);
}

static bool is_shortage(int err)
{
	return err == EMFILE || err == ENFILE || err == ENOBUFS || err == ENOMEM;
}

static void on_listener(int what ATTR_UNUSED, void *arg)
{
	struct session_listener *listener = arg;
	int i;

	for (i = 0; i < ACCEPT_BATCH; i++) {
		struct sockaddr_storage sa;
		socklen_t n = sizeof(sa);
		struct ip ip = {0};
		uint16_t port;
		int fd = accept4(listener->fd, (struct sockaddr *)(void *)&sa, &n,
				 SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd < 0) {
			if (is_shortage(errno))
				pause_accepting(listener->thread, errno);
			return;
		}
		listener->thread->accept_warned = false;
		ip_from_sockaddr((struct sockaddr *)(void *)&sa, &ip, &port);
		admit(listener, fd, &ip);
	}
}

void session_listen_stop(struct session_thread *t)
{
	size_t i;

	loop_timer_clear(t->accept_again);
	for (i = 0; i < t->listener_count; i++)
		loop_io_free(t->listeners[i].io);
	free(t->listeners);
	t->listeners = NULL;
	t->listener_count = 0;
}

void session_listen(struct session_thread *t, const struct session_listener_set *set)
{
	size_t i, named = conf_listener_count(t->conf->conf);

	session_listen_stop(t);
	t->listeners = xcalloc(set->n ? set->n : 1, sizeof(*t->listeners));
	t->listener_count = set->n;
	for (i = 0; i < set->n; i++) {
		struct session_listener *l = &t->listeners[i];

		l->thread = t;
		l->fd = set->fds[i];
		l->source = i < named ? conf_listener_at(t->conf->conf, i)->source : NULL;
		l->io = loop_io_new(t->loop, l->fd, LOOP_READ, on_listener, l);
	}
}
