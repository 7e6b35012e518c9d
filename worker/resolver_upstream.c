#include "worker/resolver_upstream.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/err.h"
#include "common/base/log.h"
#include "common/base/rng.h"
#include "common/base/xalloc.h"
#include "common/loop/stream.h"

#define TRIES 2
/* A question takes at most this many timeouts, however many resolvers there are. */
#define TIMEOUTS_MAX 4
#define DEAD_TIME (10 * USEC_PER_SEC)
/* How long a question keeps its place while others wait for one. */
#define PLACE_TIME (500 * USEC_PER_MSEC)
/* Tries in a row without an answer before the log tells; one packet may get lost. */
#define SILENCES_TOLD 2
#define TOLD_EVERY (60 * USEC_PER_SEC)
/* Packets that do not belong to the question; more are an attack or a broken server. */
#define STRAYS_MAX 100
#define PACKET_MAX 65535
#define RCODE_FORMERR 1
#define RCODE_NOTIMP 4

struct server {
	unsigned refs;
	struct ip ip;
	uint16_t port;
	char name[IP_TEXT_MAX + 8];
	usec_t last_answer;
	usec_t dead_until;
	unsigned silences; /* since its last answer */
	usec_t told_at;
	bool told; /* the log says that it is silent */
};

TAILQ_HEAD(question_list, question);

struct question {
	struct upstream *up;
	TAILQ_ENTRY(question) link; /* in waiting or asked */
	bool asked;
	char *name;
	enum packet_type type;
	char *avoid;
	upstream_cb *cb;
	void *arg;

	struct server *order[UPSTREAM_SERVERS_MAX];
	size_t count;
	unsigned refused; /* bit i: order[i] has given a definite no */
	size_t step; /* next try; order[step % count] */
	struct server *server; /* being asked */
	usec_t started, sent;

	uint16_t id;
	bool no_edns;
	unsigned strays;
	int fd;
	struct loop_io *io;
	struct stream *tcp;
	struct loop_timer *timer;
	bool given_up; /* the timer gives the failure */
	bool has_text; /* text holds a definite failure */
	char text[160];
};

struct upstream {
	struct loop *loop;
	struct resolver_stats *stats;
	struct server *servers[UPSTREAM_SERVERS_MAX];
	size_t server_count;
	size_t turn; /* whose turn it is */
	usec_t timeout;
	struct question_list waiting, asked;
	size_t waiting_count;
	size_t in_flight, in_flight_max;
	struct loop_timer *relief; /* the oldest question gives up its place then */
};

static void next_try(struct question *q);

/* ---- servers ---- */

static void server_unref(struct server *s)
{
	if (--s->refs == 0)
		free(s);
}

static struct server *server_new(const struct resolver_server *from)
{
	struct server *s = xcalloc(1, sizeof(*s));
	char text[IP_TEXT_MAX];

	s->refs = 1;
	s->ip = from->ip;
	s->port = from->port ? from->port : 53;
	(void)snprintf(s->name, sizeof(s->name), from->ip.family == IP_V6 ? "[%s]:%u" : "%s:%u",
		       ip_text(&from->ip, text), (unsigned)s->port);
	return s;
}

void upstream_configure(struct upstream *u, const struct resolver_server *servers, size_t n,
			usec_t timeout)
{
	for (size_t i = 0; i < u->server_count; i++)
		server_unref(u->servers[i]);
	u->server_count = n < UPSTREAM_SERVERS_MAX ? n : UPSTREAM_SERVERS_MAX;
	for (size_t i = 0; i < u->server_count; i++)
		u->servers[i] = server_new(&servers[i]);
	u->timeout = timeout;
}

/* Takes turns among those that are alive; then those that were silent lately. */
static void choose_order(struct question *q)
{
	struct upstream *u = q->up;
	usec_t now = loop_now(u->loop);
	size_t first = u->turn++;

	for (int dead = 0; dead < 2; dead++) {
		for (size_t i = 0; i < u->server_count; i++) {
			struct server *s = u->servers[(first + i) % u->server_count];

			if ((s->dead_until > now) != dead)
				continue;
			if (u->server_count > 1 && strcmp(s->name, q->avoid) == 0)
				continue;
			s->refs++;
			q->order[q->count++] = s;
		}
	}
}

static void tell_silence(const struct upstream *u, struct server *s)
{
	usec_t now = loop_now(u->loop);
	unsigned others = 0;

	if (++s->silences < SILENCES_TOLD || s->told ||
	    (s->told_at && now < s->told_at + TOLD_EVERY))
		return;
	s->told = true;
	s->told_at = now;
	for (size_t i = 0; i < u->server_count; i++)
		others += u->servers[i] != s && u->servers[i]->dead_until <= now;
	if (others)
		log_warn(NULL, "a DNS resolver does not answer; the others are asked",
			 LOG_S("server", s->name), LOG_U("others", others));
	else
		log_error(NULL,
			  "no DNS resolver answers: mail to domains that are not in the cache "
			  "waits; see resolver in [global]",
			  LOG_S("server", s->name));
}

static void tell_answer(struct server *s)
{
	if (s->told)
		log_info(NULL, "the DNS resolver answers again", LOG_S("server", s->name));
	s->told = false;
	s->silences = 0;
}

/* Silent since it was asked: not just slow with this name while it answers others. */
static void suspect(struct question *q)
{
	struct upstream *u = q->up;

	if (q->server->last_answer >= q->sent)
		return;
	q->server->dead_until = loop_now(u->loop) + DEAD_TIME;
	tell_silence(u, q->server);
}

/* ---- the life of a question ---- */

static void stop_try(struct question *q)
{
	loop_io_free(q->io);
	q->io = NULL;
	if (q->fd >= 0)
		close(q->fd);
	q->fd = -1;
	stream_free(q->tcp);
	q->tcp = NULL;
	loop_timer_clear(q->timer);
}

static void question_free(struct question *q)
{
	stop_try(q);
	loop_timer_free(q->timer);
	for (size_t i = 0; i < q->count; i++)
		server_unref(q->order[i]);
	TAILQ_REMOVE(q->asked ? &q->up->asked : &q->up->waiting, q, link);
	if (q->asked)
		q->up->in_flight--;
	else
		q->up->waiting_count--;
	free(q->name);
	free(q->avoid);
	free(q);
}

static void describe_silence(struct question *q);

/* Never inside upstream_ask(): the timer calls back. */
static void give_up(struct question *q)
{
	stop_try(q);
	if (!q->has_text)
		describe_silence(q);
	q->given_up = true;
	loop_timer_set(q->timer, 0);
}

/*
 * Every place is taken and questions wait for one: those that have been silent for a while give theirs
 * up, the oldest first, so that domains whose servers are dead delay no others for long.
 */
static void relieve(struct upstream *u)
{
	usec_t now = loop_now(u->loop);
	size_t n = 0;
	struct question *q;

	TAILQ_FOREACH(q, &u->asked, link) {
		if (n++ >= u->waiting_count)
			return;
		if (q->given_up)
			continue;
		if (now < q->started + PLACE_TIME) {
			loop_timer_set(u->relief, q->started + PLACE_TIME - now);
			return;
		}
		give_up(q);
	}
}

static void on_relief(void *arg)
{
	relieve(arg);
}

static void ask_waiting(struct upstream *u)
{
	struct question *q;

	while (u->in_flight < u->in_flight_max && (q = TAILQ_FIRST(&u->waiting))) {
		TAILQ_REMOVE(&u->waiting, q, link);
		u->waiting_count--;
		TAILQ_INSERT_TAIL(&u->asked, q, link);
		q->asked = true;
		u->in_flight++;
		q->started = loop_now(u->loop);
		choose_order(q);
		next_try(q);
	}
	if (u->waiting_count && !loop_timer_pending(u->relief))
		relieve(u);
}

/* Gives the result; q is gone afterwards. */
static void finish(struct question *q, const struct packet_answer *answer)
{
	struct upstream *u = q->up;
	struct upstream_result r = {.answer = answer,
				    .server = q->server ? q->server->name : "",
				    .text = answer ? "" : q->text};

	stop_try(q);
	q->cb(&r, q->arg);
	question_free(q);
	ask_waiting(u);
}

static void describe_silence(struct question *q)
{
	struct buf b = BUF_INIT;

	buf_add_str(&b, "no answer from ");
	for (size_t i = 0; i < q->count && i < 3; i++)
		buf_addf(&b, i ? ", %s" : "%s", q->order[i]->name);
	buf_addf(&b, " in %.1f s",
		 (double)(loop_now(q->up->loop) - q->started) / (double)USEC_PER_SEC);
	(void)slice_copy(buf_slice(&b), q->text, sizeof(q->text));
	buf_done(&b);
}

static void note_failure(struct question *q, const char *what)
{
	(void)snprintf(q->text, sizeof(q->text), "%s from %s", what, q->server->name);
	q->has_text = true;
}

/* The server will not do better the second time. */
static void server_refuses(struct question *q, const char *what)
{
	note_failure(q, what);
	for (size_t i = 0; i < q->count; i++)
		if (q->order[i] == q->server)
			q->refused |= 1u << i;
	next_try(q);
}

static void ask_tcp(struct question *q);

static void on_refusal(struct question *q, uint8_t rcode)
{
	q->up->stats->servfail++;
	if (!q->no_edns && (rcode == RCODE_FORMERR || rcode == RCODE_NOTIMP)) {
		/* An old server that does not know EDNS: the same one again, without. */
		q->no_edns = true;
		q->step--;
		next_try(q);
		return;
	}
	server_refuses(q, packet_rcode_name(rcode));
}

/* A packet that belongs to the question, over UDP or TCP. Takes a; q may be gone afterwards. */
static void on_answer(struct question *q, struct packet_answer *a)
{
	q->server->last_answer = loop_now(q->up->loop);
	q->server->dead_until = 0;
	tell_answer(q->server);
	if (a->verdict == PACKET_TRUNCATED) {
		if (q->tcp)
			server_refuses(q, "truncated answer over TCP");
		else
			ask_tcp(q);
	} else if (a->verdict == PACKET_FAILED) {
		on_refusal(q, a->rcode);
	} else {
		finish(q, a);
	}
	packet_answer_done(a);
}

/* 1: handled, q may be gone; 0: does not belong to the question. */
static int take_packet(struct question *q, const void *p, size_t n)
{
	struct packet_answer a;
	int rc = packet_parse(p, n, q->id, q->name, q->type, &a);

	if (rc == ERR_INVALID)
		return 0;
	if (rc < 0)
		server_refuses(q, "malformed answer");
	else
		on_answer(q, &a);
	return 1;
}

/* ---- UDP ---- */

static void on_udp(int what ATTR_UNUSED, void *arg)
{
	static char packet[PACKET_MAX];
	struct question *q = arg;

	for (;;) {
		ssize_t n = recv(q->fd, packet, sizeof(packet), 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n < 0) {
			/* Nobody listens there. */
			suspect(q);
			note_failure(q, strerror(errno));
			next_try(q);
			return;
		}
		if (take_packet(q, packet, (size_t)n))
			return;
		if (++q->strays > STRAYS_MAX) {
			server_refuses(q, "only packets that were not asked for");
			return;
		}
	}
}

/* 0 or -1 with errno. */
static int send_udp(struct question *q)
{
	struct sockaddr_storage sa;
	socklen_t len = ip_to_sockaddr(&q->server->ip, q->server->port, &sa);
	struct buf b = BUF_INIT;
	ssize_t n;

	q->fd = socket(sa.ss_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	/* Connected: the kernel chooses a random port and drops what others send. */
	if (q->fd < 0 || connect(q->fd, (const struct sockaddr *)&sa, len) < 0)
		return -1;
	packet_build(&b, q->id, q->name, q->type, !q->no_edns);
	n = send(q->fd, b.p, b.n, MSG_NOSIGNAL);
	buf_done(&b);
	if (n < 0)
		return -1;
	q->io = loop_io_new(q->up->loop, q->fd, LOOP_READ, on_udp, q);
	return 0;
}

static usec_t try_time(const struct question *q)
{
	return q->up->timeout / TRIES;
}

/* Asks the next server in order, or gives up; q may be gone afterwards. */
static void next_try(struct question *q)
{
	struct upstream *u = q->up;
	usec_t end = q->started + TIMEOUTS_MAX * u->timeout;

	stop_try(q);
	while (q->step < TRIES * q->count && loop_now(u->loop) < end) {
		size_t i = q->step++ % q->count;

		if (q->refused & (1u << i))
			continue;
		q->server = q->order[i];
		q->id = (uint16_t)rng_u64();
		q->strays = 0;
		q->sent = loop_now(u->loop);
		u->stats->queries++;
		if (send_udp(q) == 0) {
			loop_timer_set(q->timer, try_time(q));
			return;
		}
		note_failure(q, strerror(errno));
		stop_try(q);
	}
	give_up(q);
}

static void on_timer(void *arg)
{
	struct question *q = arg;

	if (q->given_up) {
		finish(q, NULL);
		return;
	}
	q->up->stats->timeouts++;
	suspect(q);
	next_try(q);
}

/* ---- TCP ---- */

static void send_tcp(struct question *q)
{
	struct buf b = BUF_INIT;
	uint8_t length[2];

	packet_build(&b, q->id, q->name, q->type, !q->no_edns);
	length[0] = (uint8_t)(b.n >> 8);
	length[1] = (uint8_t)(b.n & 0xff);
	stream_write(q->tcp, length, 2);
	stream_write(q->tcp, b.p, b.n);
	buf_done(&b);
}

static void take_tcp(struct question *q)
{
	struct slice in = stream_input(q->tcp);
	const uint8_t *p = (const uint8_t *)in.p;
	size_t n;

	if (in.n < 2)
		return;
	n = (size_t)(p[0] << 8 | p[1]);
	if (in.n - 2 < n)
		return;
	if (!take_packet(q, p + 2, n))
		server_refuses(q, "an answer over TCP to another question");
}

static void on_tcp(struct stream *s, enum stream_event what, void *arg)
{
	struct question *q = arg;
	char why[128];

	switch (what) {
	case STREAM_CONNECTED:
		send_tcp(q);
		break;
	case STREAM_DATA:
		take_tcp(q);
		break;
	case STREAM_EOF:
		server_refuses(q, "TCP connection closed without an answer");
		break;
	case STREAM_ERROR:
		(void)snprintf(why, sizeof(why), "truncated answer, and over TCP: %s",
			       stream_error(s));
		server_refuses(q, why);
		break;
	case STREAM_TIMEOUT:
	case STREAM_DRAINED:
	case STREAM_TLS_READY:
		break;
	}
}

static void ask_tcp(struct question *q)
{
	stop_try(q);
	q->id = (uint16_t)rng_u64();
	q->sent = loop_now(q->up->loop);
	q->up->stats->queries++;
	q->tcp = stream_connect(q->up->loop, NULL, &q->server->ip, q->server->port, on_tcp, q);
	loop_timer_set(q->timer, try_time(q));
}

/* ---- public ---- */

struct upstream *upstream_new(struct loop *l, size_t in_flight_max, struct resolver_stats *stats)
{
	struct upstream *u = xcalloc(1, sizeof(*u));

	u->loop = l;
	u->stats = stats;
	u->in_flight_max = in_flight_max;
	u->turn = rng_below(1000);
	u->relief = loop_timer_new(l, on_relief, u);
	TAILQ_INIT(&u->waiting);
	TAILQ_INIT(&u->asked);
	return u;
}

void upstream_free(struct upstream *u)
{
	struct question *q;

	if (!u)
		return;
	while ((q = TAILQ_FIRST(&u->waiting)) || (q = TAILQ_FIRST(&u->asked)))
		question_free(q); /* NOLINT(clang-analyzer-unix.Malloc): it unlinks itself */
	for (size_t i = 0; i < u->server_count; i++)
		server_unref(u->servers[i]);
	loop_timer_free(u->relief);
	free(u);
}

void upstream_ask(struct upstream *u, const char *name, enum packet_type type, const char *avoid,
		  upstream_cb *cb, void *arg)
{
	struct question *q = xcalloc(1, sizeof(*q));

	q->up = u;
	q->name = xstrdup(name);
	q->type = type;
	q->avoid = xstrdup(avoid ? avoid : "");
	q->cb = cb;
	q->arg = arg;
	q->fd = -1;
	q->timer = loop_timer_new(u->loop, on_timer, q);
	TAILQ_INSERT_TAIL(&u->waiting, q, link);
	u->waiting_count++;
	ask_waiting(u);
}
