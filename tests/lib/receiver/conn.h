/*
 * One SMTP connection: its life, its bytes in and out, its timer. The dialogue itself is in
 * dialogue.h. A connection that ended is freed at the end of the loop turn (reap).
 */
#ifndef TESTS_LIB_RECEIVER_CONN_H
#define TESTS_LIB_RECEIVER_CONN_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

#include <openssl/err.h>

#include "tests/lib/receiver/core.h"

enum conn_phase { CONN_COMMANDS, CONN_BODY, CONN_HANDSHAKE };
enum conn_after { AFTER_NOTHING, AFTER_CLOSE, AFTER_RESET, AFTER_TLS };

struct conn {
	struct watch watch;
	struct conn *next, **prev;
	size_t id;
	char listen[64], source[64];
	unsigned port, source_port;
	struct features features;
	struct tally *tallies[TALLY_KINDS];
	SSL *ssl;
	bool tls_on;
	enum conn_phase phase;
	enum conn_after after; /* once the output is written */
	struct text in, out;
	const char *endless; /* a line sent again whenever the output is empty */
	uint32_t events; /* what epoll watches for */

	bool paused; /* a delayed or withheld reply: input is not read */
	double due; /* monotonic; 0: no timer */
	size_t heap_at;
	struct text held; /* the reply that waits for the timer */
	struct rule *held_rule;
	unsigned held_generation;
	enum stage held_stage;
	bool held_default;
	unsigned drip_ms; /* output goes out byte by byte */

	uint64_t *rule_hits;
	unsigned generation;
	char helo[256];
	size_t tx; /* 0: none open */
	char from[512];
	struct text rcpts; /* accepted ones, each NUL-terminated */
	size_t rcpt_count;
	char local[256], domain[256]; /* of the RCPT in hand */
	struct body body;
	struct rule *body_rule;
	size_t messages;
};

static void conn_ready(struct receiver *rc, struct watch *watch, uint32_t events);
static void conn_input(struct receiver *rc, struct conn *conn);
static void reply_release(struct receiver *rc, struct conn *conn);

/* Timers */

static inline void timers_swap(struct timers *timers, size_t a, size_t b)
{
	struct conn *c = timers->heap[a];

	timers->heap[a] = timers->heap[b];
	timers->heap[b] = c;
	timers->heap[a]->heap_at = a;
	timers->heap[b]->heap_at = b;
}

static inline void timers_fix(struct timers *timers, size_t at)
{
	while (at && timers->heap[at]->due < timers->heap[(at - 1) / 2]->due) {
		timers_swap(timers, at, (at - 1) / 2);
		at = (at - 1) / 2;
	}
	for (;;) {
		size_t least = at;

		for (size_t kid = 2 * at + 1; kid <= 2 * at + 2 && kid < timers->n; kid++)
			if (timers->heap[kid]->due < timers->heap[least]->due)
				least = kid;
		if (least == at)
			return;
		timers_swap(timers, at, least);
		at = least;
	}
}

static inline void timer_stop(struct receiver *rc, struct conn *conn)
{
	struct timers *timers = &rc->timers;
	size_t at = conn->heap_at;

	if (conn->due == 0)
		return;
	conn->due = 0;
	timers->n--;
	if (at == timers->n)
		return;
	timers->heap[at] = timers->heap[timers->n];
	timers->heap[at]->heap_at = at;
	timers_fix(timers, at);
}

static inline void timer_start(struct receiver *rc, struct conn *conn, unsigned ms)
{
	struct timers *timers = &rc->timers;

	timer_stop(rc, conn);
	if (timers->n == timers->room) {
		timers->room = timers->room ? timers->room * 2 : 64;
		timers->heap = need(realloc(timers->heap, timers->room * sizeof(*timers->heap)));
	}
	conn->due = now_mono() + ms / 1e3;
	conn->heap_at = timers->n;
	timers->heap[timers->n++] = conn;
	timers_fix(timers, conn->heap_at);
}

static inline int timers_wait_ms(const struct timers *timers)
{
	double left;

	if (!timers->n)
		return 200;
	left = timers->heap[0]->due - now_mono();
	return left <= 0 ? 0 : left > 0.2 ? 200 : (int)(left * 1e3) + 1;
}

/* Life */

static inline void conn_abort_tx(struct receiver *rc, struct conn *conn, const char *why)
{
	struct text *ev;

	if (!conn->tx)
		return;
	ev = journal_event(&rc->journal, "abort", conn->id);
	journal_number(ev, "tx", conn->tx);
	journal_number(ev, "size", conn->phase == CONN_BODY ? conn->body.size : 0);
	journal_text(ev, "why", why, strlen(why));
	journal_end(ev);
	rc->counters.aborted++;
	conn->tx = 0;
	conn->rcpts.n = conn->rcpt_count = 0;
}

/* `why`: who ended it and how. A reset (RST) instead of FIN where the rule says so. */
static void conn_close(struct receiver *rc, struct conn *conn, const char *why, bool reset)
{
	struct linger hard = {.l_onoff = 1};
	struct text *ev;

	if (conn->watch.dead)
		return;
	conn_abort_tx(rc, conn, why);
	ev = journal_event(&rc->journal, "close", conn->id);
	journal_text(ev, "why", why, strlen(why));
	journal_number(ev, "messages", conn->messages);
	journal_end(ev);
	if (reset)
		setsockopt(conn->watch.fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
	else if (conn->ssl && conn->tls_on)
		SSL_shutdown(conn->ssl);
	timer_stop(rc, conn);
	close(conn->watch.fd);
	for (int i = 0; i < TALLY_KINDS; i++)
		tally_move(conn->tallies[i], -1);
	rc->counters.open--;
	conn->watch.dead = true;
	*conn->prev = conn->next;
	if (conn->next)
		conn->next->prev = conn->prev;
	conn->next = rc->dead;
	rc->dead = conn;
}

static inline void reap(struct receiver *rc)
{
	while (rc->dead) {
		struct conn *conn = rc->dead;

		rc->dead = conn->next;
		SSL_free(conn->ssl);
		text_free(&conn->in);
		text_free(&conn->out);
		text_free(&conn->held);
		text_free(&conn->rcpts);
		body_free(&conn->body);
		free(conn->rule_hits);
		free(conn);
	}
}

/* Bytes */

static inline void conn_watch(struct receiver *rc, struct conn *conn)
{
	uint32_t events = 0;

	if (conn->watch.dead)
		return;
	if (!conn->paused && conn->after == AFTER_NOTHING)
		events |= EPOLLIN;
	else
		events |= EPOLLRDHUP;
	if ((conn->out.n || conn->endless) && !conn->drip_ms)
		events |= EPOLLOUT;
	if (events == conn->events)
		return;
	conn->events = events;
	watch_change(rc, &conn->watch, events);
}

static inline ssize_t conn_send(struct conn *conn, const char *p, size_t n)
{
	int sent;

	if (!conn->tls_on)
		return send(conn->watch.fd, p, n, MSG_NOSIGNAL);
	ERR_clear_error();
	sent = SSL_write(conn->ssl, p, n > 1 << 20 ? 1 << 20 : (int)n);
	if (sent > 0)
		return sent;
	errno = SSL_get_error(conn->ssl, sent) == SSL_ERROR_WANT_WRITE ? EAGAIN : EPIPE;
	return -1;
}

static inline void tls_begin(struct receiver *rc, struct conn *conn)
{
	conn->after = AFTER_NOTHING;
	conn->in.n = 0; /* what was pipelined after STARTTLS is not to be trusted */
	conn->phase = CONN_HANDSHAKE;
	conn->ssl = need(SSL_new(rc->tls));
	SSL_set_fd(conn->ssl, conn->watch.fd);
	SSL_set_accept_state(conn->ssl);
}

/* Writes what there is, then does what was to come after it. */
static void conn_flush(struct receiver *rc, struct conn *conn)
{
	while (!conn->watch.dead && conn->out.n) {
		size_t n = conn->drip_ms ? 1 : conn->out.n;
		ssize_t sent = conn_send(conn, conn->out.p, n);

		if (sent < 0 && (errno == EAGAIN || errno == EINTR))
			break;
		if (sent < 0) {
			conn_close(rc, conn, "peer gone while replying", false);
			return;
		}
		text_drop(&conn->out, (size_t)sent);
		if (conn->drip_ms && conn->out.n) {
			timer_start(rc, conn, conn->drip_ms);
			break;
		}
	}
	if (!conn->watch.dead && !conn->out.n) {
		conn->drip_ms = 0;
		if (conn->endless) {
			for (int i = 0; i < 64; i++)
				text_puts(&conn->out, conn->endless);
		} else if (conn->after == AFTER_CLOSE || conn->after == AFTER_RESET) {
			conn_close(rc, conn, "us", conn->after == AFTER_RESET);
		} else if (conn->after == AFTER_TLS) {
			tls_begin(rc, conn);
		}
	}
	conn_watch(rc, conn);
}

static void conn_handshake(struct receiver *rc, struct conn *conn)
{
	struct text *ev;
	int rv;

	ERR_clear_error();
	rv = SSL_do_handshake(conn->ssl);
	if (rv != 1) {
		int error = SSL_get_error(conn->ssl, rv);

		if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE)
			conn_close(rc, conn, "TLS handshake failed", false);
		return;
	}
	conn->tls_on = true;
	conn->phase = CONN_COMMANDS;
	conn->helo[0] = '\0';
	rc->counters.handshakes++;
	ev = journal_event(&rc->journal, "tls", conn->id);
	journal_text(ev, "protocol", SSL_get_version(conn->ssl),
		     strlen(SSL_get_version(conn->ssl)));
	journal_text(ev, "cipher", SSL_get_cipher(conn->ssl), strlen(SSL_get_cipher(conn->ssl)));
	if (SSL_get_servername(conn->ssl, TLSEXT_NAMETYPE_host_name))
		journal_text(ev, "sni", SSL_get_servername(conn->ssl, TLSEXT_NAMETYPE_host_name),
			     strlen(SSL_get_servername(conn->ssl, TLSEXT_NAMETYPE_host_name)));
	journal_end(ev);
}

/* One read; 0 at the end, -1 when there is nothing now. */
static inline ssize_t conn_recv(struct conn *conn, char *p, size_t room)
{
	int n, error;

	if (!conn->tls_on)
		return recv(conn->watch.fd, p, room, 0);
	ERR_clear_error();
	n = SSL_read(conn->ssl, p, (int)room);
	if (n > 0)
		return n;
	error = SSL_get_error(conn->ssl, n);
	errno = EAGAIN;
	return error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE ? -1 : 0;
}

/* False when the connection has ended. */
static bool conn_fill(struct receiver *rc, struct conn *conn)
{
	enum { ROOM = 256 * 1024 };
	ssize_t n;

	do {
		text_room(&conn->in, ROOM);
		n = conn_recv(conn, conn->in.p + conn->in.n, ROOM);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return true;
		if (n <= 0) {
			conn_close(rc, conn, n < 0 ? "peer reset" : "peer", false);
			return false;
		}
		conn->in.n += (size_t)n;
		rc->counters.bytes += (uint64_t)n;
		conn_input(rc, conn);
	} while (!conn->watch.dead && !conn->paused && conn->tls_on && SSL_pending(conn->ssl));
	return !conn->watch.dead;
}

/* Idle connections by the ten thousand must not keep a buffer each: they borrow one to read. */
static void conn_read(struct receiver *rc, struct conn *conn)
{
	static struct text scratch;
	struct text used;
	bool alive;

	if (conn->in.n)
		text_add(&scratch, conn->in.p, conn->in.n);
	text_free(&conn->in);
	conn->in = scratch;
	scratch = (struct text){0};
	alive = conn_fill(rc, conn);
	used = conn->in;
	conn->in = (struct text){0};
	if (alive)
		text_add(&conn->in, used.p, used.n);
	used.n = 0;
	scratch = used;
	if (alive)
		conn_flush(rc, conn);
}

static void conn_ready(struct receiver *rc, struct watch *watch, uint32_t events)
{
	struct conn *conn = (struct conn *)(void *)watch;

	if (conn->phase == CONN_HANDSHAKE) {
		conn_handshake(rc, conn);
		if (!conn->watch.dead && conn->tls_on)
			conn_read(rc, conn);
		return;
	}
	if (events & (EPOLLHUP | EPOLLERR) || (events & EPOLLRDHUP && !(events & EPOLLIN))) {
		conn_close(rc, conn, events & EPOLLERR ? "peer reset" : "peer", false);
		return;
	}
	if (events & EPOLLOUT)
		conn_flush(rc, conn);
	if (!conn->watch.dead && events & EPOLLIN && !conn->paused && conn->after == AFTER_NOTHING)
		conn_read(rc, conn);
}

static inline void timers_run(struct receiver *rc)
{
	double now = now_mono();

	while (rc->timers.n && rc->timers.heap[0]->due <= now) {
		struct conn *conn = rc->timers.heap[0];

		timer_stop(rc, conn);
		if (conn->held_stage != STAGE_COUNT)
			reply_release(rc, conn);
		if (!conn->watch.dead && conn->after == AFTER_NOTHING && !conn->paused)
			conn_input(rc, conn);
		if (!conn->watch.dead)
			conn_flush(rc, conn);
	}
}

/* Accepting */

static struct conn *conn_new(struct receiver *rc, struct listener *listener, int fd,
			     const char *source, unsigned source_port)
{
	struct conn *conn = need(calloc(1, sizeof(*conn)));

	conn->watch = (struct watch){.ready = conn_ready, .fd = fd};
	conn->id = ++rc->next_conn;
	snprintf(conn->listen, sizeof(conn->listen), "%s", listener->ip);
	snprintf(conn->source, sizeof(conn->source), "%s", source);
	conn->port = listener->port;
	conn->source_port = source_port;
	conn->features = plan_features(&rc->plan, conn->listen);
	conn->held_stage = STAGE_COUNT;
	for (int i = 0; i < TALLY_KINDS; i++) {
		conn->tallies[i] = tally_get((enum tally_kind)i, conn->listen, conn->source);
		tally_move(conn->tallies[i], 1);
	}
	conn->next = rc->conns;
	conn->prev = &rc->conns;
	if (rc->conns)
		rc->conns->prev = &conn->next;
	rc->conns = conn;
	rc->counters.open++;
	rc->counters.connections++;
	conn->events = EPOLLIN;
	watch_add(rc, &conn->watch, EPOLLIN);
	return conn;
}

static void conn_refuse(struct receiver *rc, struct listener *listener, int fd, const char *source,
			const struct limit *limit)
{
	struct linger hard = {.l_onoff = 1};
	struct text *ev = journal_event(&rc->journal, "refused", ++rc->next_conn);
	char line[600];
	int n;

	journal_text(ev, "listen", listener->ip, strlen(listener->ip));
	journal_text(ev, "source", source, strlen(source));
	journal_text(ev, "reply", limit->reply, strlen(limit->reply));
	journal_end(ev);
	rc->counters.refused++;
	for (int i = 0; i < TALLY_KINDS; i++)
		tally_get((enum tally_kind)i, listener->ip, source)->refused++;
	if (limit->reset) {
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
	} else {
		n = snprintf(line, sizeof(line), "%s\r\n", limit->reply);
		if (send(fd, line, (size_t)n, MSG_NOSIGNAL) < 0)
			errno = 0; /* the peer went first */
		shutdown(fd, SHUT_WR);
	}
	close(fd);
}

#endif
