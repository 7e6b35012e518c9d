#include "tests/lib/testdns/testdns.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/buf.h"
#include "common/base/log.h"
#include "common/base/xalloc.h"
#include "common/loop/stream.h"

struct rr {
	LIST_ENTRY(rr) link;
	char *name, *data;
	enum testdns_type type;
	uint32_t ttl;
};

struct habit {
	LIST_ENTRY(habit) link;
	char *name;
	enum testdns_mood mood;
	usec_t delay;
};

struct asked {
	LIST_ENTRY(asked) link;
	char name[256];
	unsigned type;
};

/* A reply that waits. */
struct later {
	LIST_ENTRY(later) link;
	struct testdns *d;
	struct loop_timer *timer;
	struct sockaddr_in to;
	struct buf packet;
};

struct tcp_client {
	LIST_ENTRY(tcp_client) link;
	struct testdns *d;
	struct stream *s;
};

struct testdns {
	struct loop *loop;
	int udp, tcp;
	struct loop_io *udp_io, *tcp_io;
	uint16_t port;
	char name[32];
	bool ad;
	uint32_t negative_ttl;
	enum testdns_mood mood;
	LIST_HEAD(, rr) rrs;
	LIST_HEAD(, habit) habits;
	LIST_HEAD(, asked) asked;
	LIST_HEAD(, later) laters;
	LIST_HEAD(, tcp_client) clients;
};

struct question {
	uint16_t id;
	char name[256];
	unsigned type;
	bool edns;
	size_t end; /* of the question section */
};

static void put16(struct buf *b, unsigned v)
{
	buf_add_char(b, (char)(v >> 8));
	buf_add_char(b, (char)(v & 0xff));
}

static void put32(struct buf *b, uint32_t v)
{
	put16(b, v >> 16);
	put16(b, v & 0xffff);
}

static void put_name(struct buf *b, const char *name)
{
	struct slice rest = slice_str(name), label;

	while (rest.n && slice_next(&rest, '.', &label)) {
		buf_add_char(b, (char)label.n);
		buf_add_slice(b, label);
	}
	buf_add_char(b, '\0');
}

static void put_rdata(struct buf *b, const struct rr *r)
{
	struct slice s = slice_str(r->data), pref;
	uint64_t n = 0;
	uint8_t bytes[16];

	switch (r->type) {
	case TESTDNS_A:
		invariant(inet_pton(AF_INET, r->data, bytes) == 1);
		buf_add(b, bytes, 4);
		break;
	case TESTDNS_AAAA:
		invariant(inet_pton(AF_INET6, r->data, bytes) == 1);
		buf_add(b, bytes, 16);
		break;
	case TESTDNS_CNAME:
		put_name(b, r->data);
		break;
	case TESTDNS_MX:
		slice_next(&s, ' ', &pref);
		invariant(slice_u64(pref, &n));
		put16(b, (unsigned)n);
		put_name(b, s.p ? r->data + pref.n + 1 : "");
		break;
	case TESTDNS_TXT:
		buf_add_char(b, (char)s.n);
		buf_add_slice(b, s);
		break;
	case TESTDNS_SOA:
		put_name(b, "ns.test");
		put_name(b, "root.test");
		for (int i = 0; i < 4; i++)
			put32(b, 1);
		put32(b, r->ttl);
		break;
	}
}

static void put_rr(struct buf *b, const char *owner, const struct rr *r)
{
	struct buf data = BUF_INIT;

	put_rdata(&data, r);
	put_name(b, owner);
	put16(b, r->type);
	put16(b, 1);
	put32(b, r->ttl);
	put16(b, (unsigned)data.n);
	buf_add_slice(b, buf_slice(&data));
	buf_done(&data);
}

static bool parse_question(const uint8_t *p, size_t n, struct question *q)
{
	size_t at = 12, out = 0;

	if (n < 12)
		return false;
	q->id = (uint16_t)(p[0] << 8 | p[1]);
	while (at < n && p[at]) {
		size_t len = p[at++];

		if (at + len > n || out + len + 2 > sizeof(q->name))
			return false;
		if (out)
			q->name[out++] = '.';
		memcpy(q->name + out, p + at, len);
		out += len;
		at += len;
	}
	q->name[out] = '\0';
	if (at + 5 > n)
		return false;
	q->type = (unsigned)(p[at + 1] << 8 | p[at + 2]);
	q->end = at + 5;
	q->edns = p[11] != 0;
	return true;
}

static const struct habit *find_habit(const struct testdns *d, const char *name)
{
	const struct habit *h;

	LIST_FOREACH(h, &d->habits, link)
		if (strcasecmp(h->name, name) == 0)
			return h;
	return NULL;
}

static const struct rr *find_rr(const struct testdns *d, const char *name, unsigned type)
{
	const struct rr *r;

	LIST_FOREACH(r, &d->rrs, link)
		if (strcasecmp(r->name, name) == 0 && (type == 0 || r->type == type))
			return r;
	return NULL;
}

struct sections {
	unsigned rcode, answers, authority;
	struct buf body;
};

static void answer_zone(const struct testdns *d, const struct question *q, enum testdns_mood mood,
			struct sections *s)
{
	const char *name = q->name;
	const struct rr *r;
	struct rr soa = {.type = TESTDNS_SOA, .ttl = d->negative_ttl};
	int chain = 0;
	bool any = false;

	while (chain < 12 && (r = find_rr(d, name, TESTDNS_CNAME))) {
		put_rr(&s->body, name, r);
		s->answers++;
		chain++;
		name = r->data;
		if (mood == TESTDNS_ONE_CNAME)
			return;
	}
	LIST_FOREACH(r, &d->rrs, link) {
		if (strcasecmp(r->name, name) != 0 || r->type != q->type)
			continue;
		put_rr(&s->body, name, r);
		s->answers++;
		any = true;
	}
	if (any || chain == 12)
		return;
	s->rcode = find_rr(d, name, 0) ? 0 : 3;
	if (mood == TESTDNS_NO_SOA)
		return;
	put_rr(&s->body, "test", &soa);
	s->authority++;
}

static void build(const struct testdns *d, const struct question *q, enum testdns_mood mood,
		  bool tcp, struct buf *b)
{
	struct sections s = {0};
	bool tc = (mood == TESTDNS_TRUNCATED || mood == TESTDNS_TRUNCATED_DEAF) && !tcp;
	const char *name = mood == TESTDNS_WRONG_QUESTION ? "other.test" : q->name;

	if (mood == TESTDNS_SERVFAIL)
		s.rcode = 2;
	else if (mood == TESTDNS_REFUSED)
		s.rcode = 5;
	else if (mood == TESTDNS_NO_EDNS && q->edns)
		s.rcode = 1;
	else if (!tc)
		answer_zone(d, q, mood, &s);
	put16(b, q->id);
	put16(b, 0x8180u | (tc ? 0x200u : 0) | (d->ad ? 0x20u : 0) | s.rcode);
	put16(b, 1);
	put16(b, s.answers);
	put16(b, s.authority);
	put16(b, 0);
	put_name(b, name);
	put16(b, q->type);
	put16(b, 1);
	if (mood == TESTDNS_GARBAGE) {
		b->p[7] = 9;
		buf_add(b, "\xc0\xff\x00\x01\xff\xff\xff", 7);
	} else {
		buf_add_slice(b, buf_slice(&s.body));
	}
	buf_done(&s.body);
}

static void send_udp(struct testdns *d, const struct sockaddr_in *to, const struct buf *packet)
{
	(void)sendto(d->udp, packet->p, packet->n, 0, (const struct sockaddr *)to, sizeof(*to));
}

static void later_free(struct later *w)
{
	LIST_REMOVE(w, link);
	loop_timer_free(w->timer);
	buf_done(&w->packet);
	free(w);
}

static void on_later(void *arg)
{
	struct later *w = arg;

	send_udp(w->d, &w->to, &w->packet);
	later_free(w);
}

static void send_after(struct testdns *d, const struct sockaddr_in *to, struct buf *packet,
		       usec_t delay)
{
	struct later *w;

	if (delay == 0) {
		send_udp(d, to, packet);
		buf_done(packet);
		return;
	}
	w = xcalloc(1, sizeof(*w));
	w->d = d;
	w->to = *to;
	w->packet = *packet;
	w->timer = loop_timer_new(d->loop, on_later, w);
	loop_timer_set(w->timer, delay);
	LIST_INSERT_HEAD(&d->laters, w, link);
}

static enum testdns_mood mood_for(const struct testdns *d, const char *name, usec_t *ret_delay)
{
	const struct habit *h = find_habit(d, name);

	*ret_delay = h ? h->delay : 0;
	return d->mood != TESTDNS_NORMAL ? d->mood : h ? h->mood : TESTDNS_NORMAL;
}

static void note_question(struct testdns *d, const struct question *q)
{
	struct asked *a = xcalloc(1, sizeof(*a));

	memcpy(a->name, q->name, sizeof(a->name));
	a->type = q->type;
	LIST_INSERT_HEAD(&d->asked, a, link);
}

static void on_udp(int what ATTR_UNUSED, void *arg)
{
	struct testdns *d = arg;
	uint8_t packet[4096];
	struct sockaddr_in from;
	socklen_t len = sizeof(from);
	struct buf b = BUF_INIT;
	struct question q;
	enum testdns_mood mood;
	usec_t delay;
	ssize_t n = recvfrom(d->udp, packet, sizeof(packet), MSG_DONTWAIT, (struct sockaddr *)&from,
			     &len);

	if (n < 0 || !parse_question(packet, (size_t)n, &q))
		return;
	note_question(d, &q);
	mood = mood_for(d, q.name, &delay);
	if (mood == TESTDNS_SILENT)
		return;
	if (mood == TESTDNS_WRONG_ID_FIRST || mood == TESTDNS_WRONG_ID) {
		build(d, &q, TESTDNS_SERVFAIL, false, &b);
		b.p[0] = (char)(b.p[0] ^ 0x55);
		send_udp(d, &from, &b);
		buf_done(&b);
		if (mood == TESTDNS_WRONG_ID)
			return;
	}
	build(d, &q, mood, false, &b);
	send_after(d, &from, &b, delay);
}

static void on_tcp_client(struct stream *s, enum stream_event what, void *arg)
{
	struct tcp_client *c = arg;
	struct slice in = what == STREAM_DATA ? stream_input(s) : slice_of("", 0);
	const uint8_t *p = (const uint8_t *)in.p;
	struct question q;
	struct buf b = BUF_INIT;
	char length[2];
	usec_t delay;

	if (in.n > 2 && in.n - 2 >= (size_t)(p[0] << 8 | p[1]) &&
	    parse_question(p + 2, in.n - 2, &q)) {
		note_question(c->d, &q);
		build(c->d, &q, mood_for(c->d, q.name, &delay), true, &b);
		length[0] = (char)(b.n >> 8);
		length[1] = (char)(b.n & 0xff);
		/* In pieces, as a network may do it. */
		stream_write(s, length, 1);
		stream_write(s, length + 1, 1);
		stream_write(s, b.p, b.n);
		stream_consume(s, in.n);
		buf_done(&b);
	}
	if (what == STREAM_EOF || what == STREAM_ERROR) {
		LIST_REMOVE(c, link);
		stream_free(s);
		free(c);
	}
}

static void on_tcp(int what ATTR_UNUSED, void *arg)
{
	struct testdns *d = arg;
	int fd = accept(d->tcp, NULL, NULL);
	struct tcp_client *c;
	const struct habit *h;

	LIST_FOREACH(h, &d->habits, link) {
		if (h->mood == TESTDNS_TRUNCATED_DEAF) {
			close(fd);
			return;
		}
	}
	c = xcalloc(1, sizeof(*c));
	c->d = d;
	c->s = stream_accepted(d->loop, fd, on_tcp_client, c);
	LIST_INSERT_HEAD(&d->clients, c, link);
}

/* Some port that is free for both; false: the one for UDP was taken for TCP. */
static bool bind_both(struct testdns *d)
{
	struct sockaddr_in sin = {.sin_family = AF_INET};
	socklen_t len = sizeof(sin);
	int size = 4 << 20, on = 1;

	sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	d->udp = socket(AF_INET, SOCK_DGRAM, 0);
	d->tcp = socket(AF_INET, SOCK_STREAM, 0);
	(void)setsockopt(d->udp, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
	(void)setsockopt(d->tcp, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	invariant(bind(d->udp, (const struct sockaddr *)&sin, len) == 0);
	invariant(getsockname(d->udp, (struct sockaddr *)&sin, &len) == 0);
	d->port = ntohs(sin.sin_port);
	if (bind(d->tcp, (const struct sockaddr *)&sin, len) == 0 && listen(d->tcp, 16) == 0)
		return true;
	close(d->udp);
	close(d->tcp);
	return false;
}

struct testdns *testdns_new(struct loop *l)
{
	struct testdns *d = xcalloc(1, sizeof(*d));
	int tries = 100;

	d->loop = l;
	d->negative_ttl = 60;
	while (!bind_both(d))
		invariant(--tries > 0);
	(void)snprintf(d->name, sizeof(d->name), "127.0.0.1:%u", (unsigned)d->port);
	d->udp_io = loop_io_new(l, d->udp, LOOP_READ, on_udp, d);
	d->tcp_io = loop_io_new(l, d->tcp, LOOP_READ, on_tcp, d);
	return d;
}

static void rr_free(struct rr *r)
{
	LIST_REMOVE(r, link);
	free(r->name);
	free(r->data);
	free(r);
}

void testdns_free(struct testdns *d)
{
	struct habit *h;
	struct asked *a;
	struct tcp_client *c;

	if (!d)
		return;
	while (LIST_FIRST(&d->rrs))
		rr_free(LIST_FIRST(&d->rrs));
	while ((h = LIST_FIRST(&d->habits))) {
		LIST_REMOVE(h, link);
		free(h->name);
		free(h);
	}
	while ((a = LIST_FIRST(&d->asked))) {
		LIST_REMOVE(a, link);
		free(a);
	}
	while (LIST_FIRST(&d->laters))
		later_free(LIST_FIRST(&d->laters));
	while ((c = LIST_FIRST(&d->clients))) {
		LIST_REMOVE(c, link);
		stream_free(c->s);
		free(c);
	}
	loop_io_free(d->udp_io);
	loop_io_free(d->tcp_io);
	close(d->udp);
	close(d->tcp);
	free(d);
}

uint16_t testdns_port(const struct testdns *d)
{
	return d->port;
}

const char *testdns_name(const struct testdns *d)
{
	return d->name;
}

void testdns_add(struct testdns *d, const char *name, enum testdns_type type, uint32_t ttl,
		 const char *data)
{
	struct rr *r = xcalloc(1, sizeof(*r));

	r->name = xstrdup(name);
	r->data = xstrdup(data);
	r->type = type;
	r->ttl = ttl;
	LIST_INSERT_HEAD(&d->rrs, r, link);
}

void testdns_remove(struct testdns *d, const char *name)
{
	struct rr *r, *next;

	for (r = LIST_FIRST(&d->rrs); r; r = next) {
		next = LIST_NEXT(r, link);
		if (strcasecmp(r->name, name) == 0)
			rr_free(r);
	}
}

static struct habit *make_habit(struct testdns *d, const char *name)
{
	struct habit *h;

	LIST_FOREACH(h, &d->habits, link)
		if (strcasecmp(h->name, name) == 0)
			return h;
	h = xcalloc(1, sizeof(*h));
	h->name = xstrdup(name);
	LIST_INSERT_HEAD(&d->habits, h, link);
	return h;
}

void testdns_set_mood(struct testdns *d, const char *name, enum testdns_mood mood)
{
	if (name)
		make_habit(d, name)->mood = mood;
	else
		d->mood = mood;
}

void testdns_set_delay(struct testdns *d, const char *name, usec_t delay)
{
	make_habit(d, name)->delay = delay;
}

void testdns_set_ad(struct testdns *d, bool ad)
{
	d->ad = ad;
}

void testdns_set_negative_ttl(struct testdns *d, uint32_t ttl)
{
	d->negative_ttl = ttl;
}

unsigned testdns_asked(const struct testdns *d, const char *name, unsigned type)
{
	const struct asked *a;
	unsigned n = 0;

	LIST_FOREACH(a, &d->asked, link)
		if ((!name || strcasecmp(a->name, name) == 0) && (type == 0 || a->type == type))
			n++;
	return n;
}
