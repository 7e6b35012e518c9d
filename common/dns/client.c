#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "common/base/err.h"
#include "common/base/hash.h"
#include "common/base/log.h"
#include "common/base/xalloc.h"
#include "common/dns/cache.h"
#include "common/dns/dns.h"
#include "common/dns/route.h"
#include "common/dns/wire.h"
#include "common/loop/stream.h"

#define CLIENT_MAGIC 0x646e7363u
/* Questions at the resolver at one time; more wait here, so that one worker cannot fill it. */
#define IN_FLIGHT_MAX 10000
/* The resolver gives up long before; this is for a resolver that is gone. */
#define LOOKUP_TIME (30 * USEC_PER_SEC)
#define RECONNECT_MIN (50 * USEC_PER_MSEC)
#define RECONNECT_MAX (2 * USEC_PER_SEC)
#define CONNECT_TIME (5 * USEC_PER_SEC)

enum query_state {
	QUERY_WAITING, /* in client.waiting: not sent, too many in flight */
	QUERY_ASKED, /* in client.asked and client.by_id */
	QUERY_ANSWERED, /* has its route; the call is deferred */
	QUERY_CANCELLED /* the call is deferred and will only free it */
};

TAILQ_HEAD(query_list, dns_query);

struct dns_query {
	struct dns_client *client;
	enum query_state state;
	uint64_t id;
	TAILQ_ENTRY(dns_query) link; /* waiting, asked or answered */
	UT_hash_handle hh;
	unsigned flags;
	char *domain, *avoid;
	usec_t deadline;
	dns_cb *cb;
	void *arg;
	struct dns_route *route;
};

struct dns_client {
	unsigned magic;
	struct loop *loop;
	char *socket_path;
	struct dns_cache *cache;
	struct stream *stream; /* NULL: not connected, nor trying */
	bool connected;
	struct loop_timer *reconnect;
	usec_t reconnect_after;
	struct loop_timer *deadlines; /* of the oldest look-up */
	struct query_list waiting, asked, answered; /* each in order of age */
	struct dns_query *by_id; /* asked */
	uint32_t in_flight;
	uint64_t next_id;
};

static void client_connect(struct dns_client *c);

static void query_free(struct dns_query *q)
{
	dns_route_free(q->route);
	free(q->domain);
	free(q->avoid);
	free(q);
}

static void query_leave_list(struct dns_query *q)
{
	struct dns_client *c = q->client;

	switch (q->state) {
	case QUERY_WAITING:
		TAILQ_REMOVE(&c->waiting, q, link);
		break;
	case QUERY_ASKED:
		TAILQ_REMOVE(&c->asked, q, link);
		HASH_DEL(c->by_id, q);
		c->in_flight--;
		break;
	case QUERY_ANSWERED:
		TAILQ_REMOVE(&c->answered, q, link);
		break;
	case QUERY_CANCELLED:
		break;
	}
}

/* The call comes in a later turn than the look-up, whatever way the answer came. */
static void deliver(void *arg)
{
	struct dns_query *q = arg;
	struct dns_route *route = q->route;

	if (q->state == QUERY_CANCELLED) {
		query_free(q);
		return;
	}
	query_leave_list(q);
	q->state = QUERY_CANCELLED; /* its time is over */
	q->route = NULL;
	q->cb(route, q->arg);
	query_free(q);
}

static void query_answer(struct dns_query *q, struct dns_route *route)
{
	struct dns_client *c = q->client;

	dns_route_shuffle(route);
	q->route = route;
	query_leave_list(q);
	q->state = QUERY_ANSWERED;
	TAILQ_INSERT_TAIL(&c->answered, q, link);
	loop_defer(c->loop, deliver, q);
}

static void query_send(struct dns_query *q)
{
	struct buf b = BUF_INIT;
	struct dns_request r = {.id = q->id,
				.flags = q->flags,
				.domain = slice_str(q->domain),
				.avoid = slice_str(q->avoid)};

	dns_request_encode(&b, &r);
	stream_write(q->client->stream, b.p, b.n);
	buf_done(&b);
}

/* Moves look-ups that wait for room into flight; sends them if there is a connection. */
static void ask_more(struct dns_client *c)
{
	struct dns_query *q;

	while (c->in_flight < IN_FLIGHT_MAX && (q = TAILQ_FIRST(&c->waiting))) {
		TAILQ_REMOVE(&c->waiting, q, link);
		q->state = QUERY_ASKED;
		TAILQ_INSERT_TAIL(&c->asked, q, link);
		HASH_ADD(hh, c->by_id, id, sizeof(q->id), q);
		c->in_flight++;
		if (c->connected)
			query_send(q);
	}
	if (c->in_flight && !c->stream && !loop_timer_pending(c->reconnect))
		client_connect(c);
}

/* ---- time ---- */

static struct dns_query *oldest(struct dns_client *c)
{
	struct dns_query *a = TAILQ_FIRST(&c->asked), *w = TAILQ_FIRST(&c->waiting);

	if (a && w)
		return a->deadline <= w->deadline ? a : w;
	return a ? a : w;
}

static void arm_deadlines(struct dns_client *c)
{
	struct dns_query *q = oldest(c);
	usec_t now = loop_now(c->loop);

	if (q && !loop_timer_pending(c->deadlines))
		loop_timer_set(c->deadlines, q->deadline > now ? q->deadline - now : 0);
}

static void on_deadline(void *arg)
{
	struct dns_client *c;
	struct dns_query *q;

	CAST_MAGIC(c, arg, CLIENT_MAGIC);
	while ((q = oldest(c)) && q->deadline <= loop_now(c->loop))
		query_answer(q, dns_route_new(DNS_TEMPFAIL,
					      xasprintf("no answer from the resolver process in "
							"%u s",
							(unsigned)(LOOKUP_TIME / USEC_PER_SEC))));
	ask_more(c);
	arm_deadlines(c);
}

/* ---- connection ---- */

static void connection_lost(struct dns_client *c)
{
	stream_free(c->stream);
	c->stream = NULL;
	c->connected = false;
	if (!c->in_flight)
		return; /* the next look-up connects */
	loop_timer_set(c->reconnect, c->reconnect_after);
	c->reconnect_after *= 2;
	if (c->reconnect_after > RECONNECT_MAX)
		c->reconnect_after = RECONNECT_MAX;
}

static void on_reply(struct dns_client *c, uint64_t id, struct slice bytes)
{
	struct dns_query *q;
	struct dns_route *r;
	msec_t expires;

	HASH_FIND(hh, c->by_id, &id, sizeof(id), q);
	if (!q)
		return; /* cancelled, or too late */
	if (dns_route_decode(bytes, loop_wall(c->loop), &r, &expires) < 0)
		r = dns_route_new(DNS_TEMPFAIL,
				  xstrdup("the resolver process sent what is not an answer"));
	query_answer(q, r);
}

/* False when the peer does not speak our language. */
static bool take_replies(struct dns_client *c)
{
	struct slice body, route;
	uint64_t id;
	int rc;

	while ((rc = dns_frame(stream_input(c->stream), DNS_REPLY_MAX, &body)) == 1) {
		if (dns_reply_decode(body, &id, &route) < 0)
			return false;
		on_reply(c, id, route);
		stream_consume(c->stream, body.n + 4);
	}
	return rc == 0;
}

static void on_connected(struct dns_client *c)
{
	struct dns_query *q;

	c->connected = true;
	stream_timeout(c->stream, 0, 0);
	TAILQ_FOREACH(q, &c->asked, link)
		query_send(q);
}

static void on_stream(struct stream *s ATTR_UNUSED, enum stream_event what, void *arg)
{
	struct dns_client *c;

	CAST_MAGIC(c, arg, CLIENT_MAGIC);
	switch (what) {
	case STREAM_CONNECTED:
		on_connected(c);
		break;
	case STREAM_DATA:
		if (!take_replies(c)) {
			connection_lost(c);
			break;
		}
		c->reconnect_after = RECONNECT_MIN;
		ask_more(c);
		break;
	case STREAM_EOF:
	case STREAM_ERROR:
	case STREAM_TIMEOUT:
		log_debug(NULL, "resolver connection lost", LOG_S("why", stream_error(c->stream)));
		connection_lost(c);
		break;
	case STREAM_DRAINED:
	case STREAM_TLS_READY:
		break;
	}
}

static void client_connect(struct dns_client *c)
{
	c->stream = stream_connect_unix(c->loop, c->socket_path, on_stream, c);
	stream_timeout(c->stream, CONNECT_TIME, 0);
}

static void on_reconnect(void *arg)
{
	struct dns_client *c;

	CAST_MAGIC(c, arg, CLIENT_MAGIC);
	if (!c->stream && c->in_flight)
		client_connect(c);
}

/* ---- public ---- */

struct dns_client *dns_client_new(struct loop *l, const char *runtime_dir)
{
	struct dns_client *c = xcalloc(1, sizeof(*c));

	c->magic = CLIENT_MAGIC;
	c->loop = l;
	c->socket_path = xasprintf("%s/resolver.sock", runtime_dir);
	c->cache = dns_cache_new(runtime_dir);
	c->reconnect = loop_timer_new(l, on_reconnect, c);
	c->reconnect_after = RECONNECT_MIN;
	c->deadlines = loop_timer_new(l, on_deadline, c);
	TAILQ_INIT(&c->waiting);
	TAILQ_INIT(&c->asked);
	TAILQ_INIT(&c->answered);
	return c;
}

static void cancel_all(struct query_list *list)
{
	struct dns_query *q;

	while ((q = TAILQ_FIRST(list)))
		dns_query_cancel(q); /* NOLINT(clang-analyzer-unix.Malloc): it unlinks itself */
}

void dns_client_free(struct dns_client *c)
{
	if (!c)
		return;
	cancel_all(&c->waiting);
	cancel_all(&c->asked);
	cancel_all(&c->answered);
	stream_free(c->stream);
	loop_timer_free(c->reconnect);
	loop_timer_free(c->deadlines);
	dns_cache_free(c->cache);
	free(c->socket_path);
	c->magic = 0;
	free(c);
}

static struct dns_route *answer_at_once(struct dns_client *c, struct slice domain, unsigned flags)
{
	struct dns_route *r = dns_route_literal(domain);

	if (r)
		return r;
	if (domain.n == 0 || domain.n > DNS_NAME_TEXT_MAX)
		return dns_route_new(DNS_NXDOMAIN, xstrdup("not a domain name"));
	if (flags & DNS_FRESH)
		return NULL;
	if (dns_cache_get(c->cache, domain, flags & DNS_HOST_ONLY, loop_now(c->loop),
			  loop_wall(c->loop), &r) == 0)
		return r;
	return NULL;
}

struct dns_query *dns_lookup(struct dns_client *c, struct slice domain, unsigned flags,
			     const char *avoid_resolver, dns_cb *cb, void *arg)
{
	struct dns_query *q = xcalloc(1, sizeof(*q));
	struct dns_route *r;

	if (domain.n > 1 && domain.p[domain.n - 1] == '.')
		domain.n--;
	q->client = c;
	q->id = ++c->next_id;
	q->flags = flags;
	/* A NUL inside would end the name early and give the answer for another one. */
	q->domain = memchr(domain.p, '\0', domain.n) ? xstrdup("") : slice_dup_lower(domain);
	q->avoid = xstrdup(avoid_resolver ? avoid_resolver : "");
	q->deadline = loop_now(c->loop) + LOOKUP_TIME;
	q->cb = cb;
	q->arg = arg;
	q->state = QUERY_WAITING;
	TAILQ_INSERT_TAIL(&c->waiting, q, link);
	r = answer_at_once(c, slice_str(q->domain), flags);
	if (r) {
		query_answer(q, r);
		return q;
	}
	ask_more(c);
	arm_deadlines(c);
	return q;
}

void dns_query_cancel(struct dns_query *q)
{
	bool called_later;

	if (!q)
		return;
	invariant(q->state != QUERY_CANCELLED);
	called_later = q->state == QUERY_ANSWERED;
	query_leave_list(q);
	q->state = QUERY_CANCELLED;
	if (!called_later)
		query_free(q);
}
