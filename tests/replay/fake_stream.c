#include "common/loop/stream.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "common/base/buf.h"
#include "common/base/log.h"
#include "common/base/xalloc.h"
#include "tests/replay/fake_net.h"

struct fake_host_entry {
	struct ip ip;
	uint16_t port;
	enum fake_host_state state;
	const struct fake_service *service;
	void *arg;
	SLIST_ENTRY(fake_host_entry) link;
};

#define BUCKETS 16384
SLIST_HEAD(fake_host_list, fake_host_entry);
static struct fake_host_list hosts[BUCKETS];
static usec_t latency = USEC_PER_MSEC;
static unsigned open_connections;

/* Bytes (or the end) on their way to the code under test. */
struct flight {
	struct fake_peer *peer;
	struct loop_timer *timer;
	struct buf data;
	bool end;
	TAILQ_ENTRY(flight) link;
};

struct fake_peer {
	struct stream *s; /* NULL: the code under test has closed it */
	struct fake_host_entry *host;
	struct ip source;
	void *state;
	bool fail_tls, tls, closed;
	usec_t last_arrival; /* order is kept */
	TAILQ_HEAD(, flight) flights;
};

struct stream {
	struct loop *l;
	stream_cb *cb;
	void *arg;
	stream_tap_cb *tap;
	void *tap_arg;
	struct fake_peer *peer;
	struct ip source, dest;
	uint16_t port;
	struct buf in, out;
	bool connected, paused, ended, dead, tls, flush_queued, data_owed, eof_owed, strict_time;
	usec_t read_timeout, write_timeout;
	struct loop_timer *timeout, *connecting;
	int err;
	const char *error;
	const char *sni_seen;
};

struct stream_tls {
	int unused;
};

void fake_latency(usec_t one_way)
{
	latency = one_way;
}

unsigned fake_open_connections(void)
{
	return open_connections;
}

void fake_net_reset(void)
{
	struct fake_host_entry *h;

	for (size_t i = 0; i < BUCKETS; i++) {
		while ((h = SLIST_FIRST(&hosts[i]))) {
			SLIST_REMOVE_HEAD(&hosts[i], link);
			free(h);
		}
	}
	latency = USEC_PER_MSEC;
	open_connections = 0;
}

static struct fake_host_list *bucket(const struct ip *ip)
{
	unsigned h = 0;

	for (size_t i = 0; i < sizeof(ip->b); i++)
		h = 31 * h + ip->b[i];
	return &hosts[h % BUCKETS];
}

static struct fake_host_entry *find_host(const struct ip *ip, uint16_t port)
{
	struct fake_host_entry *h;

	SLIST_FOREACH(h, bucket(ip), link)
		if (ip_eq(&h->ip, ip) && h->port == port)
			return h;
	return NULL;
}

void fake_host(const char *ip, uint16_t port, enum fake_host_state state,
	       const struct fake_service *service, void *arg)
{
	struct fake_host_entry *h;
	struct ip addr;

	if (!ip_parse(slice_str(ip), &addr))
		panic("fake_host: \"%s\" is no address", ip);
	h = find_host(&addr, port);
	if (!h) {
		h = xcalloc(1, sizeof(*h));
		SLIST_INSERT_HEAD(bucket(&addr), h, link);
	}
	h->ip = addr;
	h->port = port;
	h->state = state;
	if (!service)
		return; /* connections that are open go on */
	h->service = service;
	h->arg = arg;
}

/* --- the peer --- */

void *fake_peer_state(struct fake_peer *p)
{
	return p->state;
}

void fake_peer_set_state(struct fake_peer *p, void *state)
{
	p->state = state;
}

const struct ip *fake_peer_source(const struct fake_peer *p)
{
	return &p->source;
}

const struct ip *fake_peer_dest(const struct fake_peer *p)
{
	return &p->host->ip;
}

void fake_peer_fail_tls(struct fake_peer *p)
{
	p->fail_tls = true;
}

bool fake_peer_is_tls(const struct fake_peer *p)
{
	return p->tls;
}

static void emit(struct stream *s, enum stream_event what)
{
	if (!s->dead && !s->ended)
		s->cb(s, what, s->arg);
}

static void end(struct stream *s, enum stream_event what, int err, const char *text)
{
	if (s->dead || s->ended)
		return;
	s->err = err;
	s->error = text;
	loop_timer_clear(s->timeout);
	s->ended = true;
	s->cb(s, what, s->arg);
}

static void arm_timeout(struct stream *s)
{
	if (s->read_timeout)
		loop_timer_set(s->timeout, s->read_timeout);
	else
		loop_timer_clear(s->timeout);
}

static void flight_free(struct flight *f)
{
	TAILQ_REMOVE(&f->peer->flights, f, link);
	loop_timer_free(f->timer);
	buf_done(&f->data);
	free(f);
}

static void on_arrival(void *arg)
{
	struct flight *f = arg;
	struct stream *s = f->peer->s;
	bool is_end = f->end;

	if (s && !is_end)
		buf_add(&s->in, f->data.p, f->data.n);
	if (s && !is_end && s->tap)
		s->tap(s->tap_arg, false, buf_slice(&f->data));
	flight_free(f);
	if (!s)
		return;
	if (s->paused) {
		s->data_owed |= !is_end;
		s->eof_owed |= is_end;
		return;
	}
	if (!s->strict_time)
		arm_timeout(s);
	if (is_end)
		end(s, STREAM_EOF, 0, "");
	else
		emit(s, STREAM_DATA);
}

static void launch(struct fake_peer *p, const char *text, bool is_end, usec_t delay)
{
	usec_t now, at;
	struct flight *f;

	if (!p->s || p->closed)
		return;
	now = loop_now(p->s->l);
	at = now + latency + delay;
	if (at < p->last_arrival)
		at = p->last_arrival;
	p->last_arrival = at;
	f = xcalloc(1, sizeof(*f));
	f->peer = p;
	f->end = is_end;
	if (text)
		buf_add_str(&f->data, text);
	f->timer = loop_timer_new(p->s->l, on_arrival, f);
	TAILQ_INSERT_TAIL(&p->flights, f, link);
	loop_timer_set(f->timer, at - now);
}

void fake_peer_send(struct fake_peer *p, const char *text)
{
	launch(p, text, false, 0);
}

void fake_peer_send_after(struct fake_peer *p, const char *text, usec_t delay)
{
	launch(p, text, false, delay);
}

void fake_peer_close(struct fake_peer *p)
{
	launch(p, NULL, true, 0);
	p->closed = true;
}

static void peer_free(struct fake_peer *p, bool aborted)
{
	struct flight *f;

	open_connections--;
	p->s = NULL;
	while ((f = TAILQ_FIRST(&p->flights)))
		flight_free(f);
	if (p->host->service->on_close)
		p->host->service->on_close(p, aborted, p->host->arg);
	free(p);
}

/* --- stream.h --- */

static void on_timeout(void *arg)
{
	end(arg, STREAM_TIMEOUT, ETIMEDOUT, "Connection timed out");
}

static void on_connected(void *arg)
{
	struct stream *s = arg;
	struct fake_host_entry *h = find_host(&s->dest, s->port);
	struct fake_peer *p;

	if (!h || h->state == FAKE_REFUSING) {
		end(s, STREAM_ERROR, ECONNREFUSED, "Connection refused");
		return;
	}
	if (h->state == FAKE_SILENT)
		return;
	p = xcalloc(1, sizeof(*p));
	TAILQ_INIT(&p->flights);
	p->s = s;
	p->host = h;
	p->source = s->source;
	s->peer = p;
	s->connected = true;
	open_connections++;
	arm_timeout(s);
	emit(s, STREAM_CONNECTED);
	if (!s->dead && h->service->on_open)
		h->service->on_open(p, h->arg);
}

struct stream *stream_connect(struct loop *l, const struct ip *source, const struct ip *dest,
			      uint16_t port, stream_cb *cb, void *arg)
{
	struct stream *s = xcalloc(1, sizeof(*s));

	s->l = l;
	s->cb = cb;
	s->arg = arg;
	s->dest = *dest;
	s->port = port;
	s->error = "";
	if (source)
		s->source = *source;
	s->timeout = loop_timer_new(l, on_timeout, s);
	s->connecting = loop_timer_new(l, on_connected, s);
	loop_timer_set(s->connecting, latency);
	return s;
}

struct stream *stream_accepted(struct loop *l ATTR_UNUSED, int fd ATTR_UNUSED,
			       stream_cb *cb ATTR_UNUSED, void *arg ATTR_UNUSED)
{
	panic("a replay accepts no connections");
}

struct stream *stream_connect_unix(struct loop *l ATTR_UNUSED, const char *path ATTR_UNUSED,
				   stream_cb *cb ATTR_UNUSED, void *arg ATTR_UNUSED)
{
	panic("a replay has no unix sockets");
}

struct slice stream_input(struct stream *s)
{
	return buf_slice(&s->in);
}

void stream_consume(struct stream *s, size_t n)
{
	buf_consume(&s->in, n);
}

static void on_unpaused(void *arg)
{
	struct stream *s = arg;

	if (s->dead || s->paused)
		return;
	if (s->data_owed) {
		s->data_owed = false;
		emit(s, STREAM_DATA);
	}
	if (!s->dead && s->eof_owed && !s->paused)
		end(s, STREAM_EOF, 0, "");
}

void stream_pause_input(struct stream *s, bool pause)
{
	s->paused = pause;
	if (!pause && (s->data_owed || s->eof_owed))
		loop_defer(s->l, on_unpaused, s);
}

static void on_flush(void *arg)
{
	struct stream *s = arg;
	struct buf out = s->out;

	s->flush_queued = false;
	s->out = (struct buf)BUF_INIT;
	if (!s->dead && s->peer && s->peer->host->service->on_data)
		s->peer->host->service->on_data(s->peer, buf_slice(&out), s->peer->host->arg);
	buf_done(&out);
	if (!s->dead)
		emit(s, STREAM_DRAINED);
}

void stream_tap(struct stream *s, stream_tap_cb *cb, void *arg)
{
	s->tap = cb;
	s->tap_arg = arg;
}

void stream_write(struct stream *s, const void *p, size_t n)
{
	buf_add(&s->out, p, n);
	if (s->tap)
		s->tap(s->tap_arg, true, slice_of(p, n));
	if (s->flush_queued)
		return;
	s->flush_queued = true;
	loop_defer(s->l, on_flush, s);
}

void stream_write_slice(struct stream *s, struct slice text)
{
	stream_write(s, text.p, text.n);
}

size_t stream_output_pending(const struct stream *s)
{
	return s->out.n;
}

void stream_low_mark(struct stream *s ATTR_UNUSED, size_t n ATTR_UNUSED)
{
	/* all output leaves at the end of the turn */
}

void stream_timeout(struct stream *s, usec_t read, usec_t write)
{
	s->read_timeout = read;
	s->write_timeout = write;
	arm_timeout(s);
}

void stream_strict_time(struct stream *s)
{
	s->strict_time = true;
}

struct stream_tls *stream_tls_client_new(void)
{
	return xcalloc(1, sizeof(struct stream_tls));
}

struct stream_tls *stream_tls_server_new(const char *cert_file ATTR_UNUSED,
					 const char *key_file ATTR_UNUSED, char **ret_error)
{
	*ret_error = xstrdup("a replay has no TLS server");
	return NULL;
}

void stream_tls_free(struct stream_tls *t)
{
	free(t);
}

static void on_handshake(void *arg)
{
	struct stream *s = arg;

	if (s->dead || !s->peer)
		return;
	if (s->peer->fail_tls) {
		end(s, STREAM_ERROR, 0, "TLS: handshake failure");
		return;
	}
	s->tls = s->peer->tls = true;
	emit(s, STREAM_TLS_READY);
}

void stream_start_tls(struct stream *s, struct stream_tls *t ATTR_UNUSED,
		      const char *sni ATTR_UNUSED)
{
	buf_clear(&s->in);
	loop_defer(s->l, on_handshake, s);
}

bool stream_is_tls(const struct stream *s)
{
	return s->tls;
}

const char *stream_tls_protocol(const struct stream *s)
{
	return s->tls ? "TLSv1.3" : "";
}

const char *stream_tls_cipher(const struct stream *s)
{
	return s->tls ? "TLS_AES_256_GCM_SHA384" : "";
}

const char *stream_error(const struct stream *s)
{
	return s->error;
}

int stream_errno(const struct stream *s)
{
	return s->err;
}

bool stream_source_for(const struct ip *dest, struct ip *ret)
{
	return ip_parse(slice_str(dest->family == IP_V6 ? "2001:db8::99" : "192.0.2.99"), ret);
}

bool stream_local(const struct stream *s, struct ip *ret_ip, uint16_t *ret_port)
{
	*ret_ip = s->source;
	if (ret_port)
		*ret_port = 40000;
	return s->connected;
}

bool stream_peer(const struct stream *s, struct ip *ret_ip, uint16_t *ret_port)
{
	*ret_ip = s->dest;
	if (ret_port)
		*ret_port = s->port;
	return s->connected;
}

static void release(void *arg)
{
	struct stream *s = arg;

	buf_done(&s->in);
	buf_done(&s->out);
	free(s);
}

static void close_stream(struct stream *s, bool abort)
{
	if (!s || s->dead)
		return;
	s->dead = true;
	loop_timer_free(s->timeout);
	loop_timer_free(s->connecting);
	s->timeout = s->connecting = NULL;
	if (s->peer) {
		/* what was written before an orderly close still arrives */
		if (!abort && s->out.n && s->peer->host->service->on_data)
			s->peer->host->service->on_data(s->peer, buf_slice(&s->out),
							s->peer->host->arg);
		peer_free(s->peer, abort);
		s->peer = NULL;
	}
	loop_defer(s->l, release, s);
}

void stream_close_after_flush(struct stream *s, usec_t within ATTR_UNUSED)
{
	close_stream(s, false);
}

void stream_free(struct stream *s)
{
	close_stream(s, false);
}

void stream_abort(struct stream *s)
{
	close_stream(s, true);
}

int stream_release_fd(struct stream *s ATTR_UNUSED)
{
	panic("a replay has no descriptors");
}
