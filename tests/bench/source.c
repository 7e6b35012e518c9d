/*
 * A feeder for benchmarks and ledger tests: keeps C SMTP connections, sends N messages, each with a
 * number in its recipients' local parts, and says how long it took until the last 250.
 *
 *   source --to IP:PORT --messages N [--connections C] [--per-connection M] [--size BYTES|mix]
 *          [--domains D] [--domain PATTERN] [--rcpts R] [--first-id I] [--vmtas K] [--no-pipelining]
 *          [--from ADDRESS] [--log FILE] [--retry SECONDS] [--rate N] [--from-ip IP]
 *
 * Message i goes to mI@PATTERN, the %d of PATTERN (d%d.test) being I modulo D; with R recipients
 * to mI.0@ … mI.R-1@, in R domains that follow each other. --vmtas K adds X-Virtual-MTA: vJ, J being
 * I modulo K. --size mix: 95 % of 1-64 KiB log-uniform, 4.9 % to 1 MiB, 0.1 % of 20 MB.
 * --log writes one line a message, "ID STATUS TIME SIZE SHA256 REPLY", when its fate at the server
 * is known: ok, refused, or unknown (the connection ended after the final dot without a reply;
 * such a message is not sent again). SHA-256 is of the body without the header. --retry goes on
 * connecting for so long when the server is away, and sends again what was certainly not accepted.
 * Prints one JSON object at the end. Exit status 0 when every message was accepted.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <openssl/evp.h>

enum { POOL_SIZE = 32 << 20, LINE_LENGTH = 72, OUT_MAX = 256 * 1024 };

enum phase {
	PHASE_IDLE,
	PHASE_CONNECT,
	PHASE_GREETING,
	PHASE_EHLO,
	PHASE_ENVELOPE,
	PHASE_BODY,
	PHASE_REPLY,
	PHASE_QUIT
};

struct bytes {
	char *p;
	size_t n, room;
};

struct conn {
	int fd;
	enum phase phase;
	bool pipelining;
	uint64_t id; /* message in hand, or none */
	bool has_message;
	unsigned sent; /* messages over this connection */
	unsigned expected; /* replies still to come for the envelope */
	unsigned step; /* envelope commands already sent, without pipelining */
	bool refused; /* a reply of the envelope was not 2xx/354 */
	struct bytes head, out; /* what is to be written: out, then the body from the pool */
	const char *body;
	size_t body_left;
	char in[4096];
	size_t in_n;
	char reply[256];
	char bad[256]; /* the first refusal of the envelope */
	double wait_until; /* PHASE_IDLE: when to connect again */
};

struct message {
	size_t size;
	const char *body;
};

static struct {
	struct sockaddr_in to, from;
	bool has_from;
	uint64_t messages, first_id, next, done, ok, refused, unknown, deferred, connects;
	unsigned connections, per_connection, domains, rcpts, vmtas;
	size_t size;
	bool mix, no_pipelining;
	const char *domain, *sender;
	FILE *log;
	double retry, rate, start, last_ok, away_since;
	uint64_t *again; /* messages to be sent again */
	size_t again_n, again_room;
	uint64_t bytes;
	char *pool;
	int epoll;
	struct conn *conns;
} src;

__attribute__((noreturn, format(printf, 1, 2))) static void die(const char *format, ...)
{
	va_list ap;

	fputs("source: ", stderr);
	va_start(ap, format);
	vfprintf(stderr, format, ap);
	va_end(ap);
	fputc('\n', stderr);
	exit(1);
}

static void *need(void *p)
{
	if (!p)
		die("out of memory");
	return p;
}

static double now(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static uint64_t scramble(uint64_t x)
{
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ULL;
	x = (x ^ x >> 27) * 0x94d049bb133111ebULL;
	return x ^ x >> 31;
}

static void add(struct bytes *b, const void *p, size_t n)
{
	if (b->n + n > b->room) {
		b->room = (b->n + n) * 2;
		b->p = need(realloc(b->p, b->room));
	}
	memcpy(b->p + b->n, p, n);
	b->n += n;
}

__attribute__((format(printf, 2, 3))) static void addf(struct bytes *b, const char *format, ...)
{
	char text[1024];
	va_list ap;
	int n;

	va_start(ap, format);
	n = vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	add(b, text, n < (int)sizeof(text) ? (size_t)n : sizeof(text) - 1);
}

/* Text in lines of 74 bytes, some beginning with (stuffed) dots; bodies are pieces of it that begin
 * and end at line boundaries. */
static void pool_fill(void)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyz0123456789 +/=.,";
	uint64_t x = 88172645463325252ULL;

	src.pool = need(malloc(POOL_SIZE));
	for (size_t i = 0; i < POOL_SIZE; i++) {
		size_t column = i % (LINE_LENGTH + 2);

		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		if (column >= LINE_LENGTH)
			src.pool[i] = column == LINE_LENGTH ? '\r' : '\n';
		else
			src.pool[i] = letters[x % (sizeof(letters) - 1)];
		if (column == 0 && x % 16 == 0)
			src.pool[i] = '.';
	}
	/* Every line that begins with a dot begins with two: that is the stuffing. */
	for (size_t i = 0; i + LINE_LENGTH + 2 <= POOL_SIZE; i += LINE_LENGTH + 2)
		if (src.pool[i] == '.')
			src.pool[i + 1] = '.';
}

/* Log-uniform from `least` over `doublings` doublings (linear inside each); v in [0, 1). */
static size_t spread(size_t least, unsigned doublings, double v)
{
	unsigned whole = (unsigned)(v * doublings);
	double part = v * doublings - whole;

	return (size_t)((double)(least << whole) * (1 + part));
}

static size_t mixed_size(uint64_t id)
{
	double u = (double)(scramble(id * 2 + 1) >> 11) / 9007199254740992.0;
	double v = (double)(scramble(id * 2 + 2) >> 11) / 9007199254740992.0;

	if (u < 0.95)
		return spread(1024, 6, v);
	if (u < 0.999)
		return spread(65536, 4, v);
	return 20000000;
}

static struct message message_of(uint64_t id)
{
	size_t line = LINE_LENGTH + 2, size = src.mix ? mixed_size(id) : src.size;
	size_t lines = size / line ? size / line : 1;
	size_t last = POOL_SIZE / line - lines;

	return (struct message){
		.size = lines * line,
		.body = src.pool + (scramble(id) % (last + 1)) * line,
	};
}

/* The digest of the body as a receiver sees it: without the stuffed dots. */
static void digest_hex(const struct message *m, char hex[65])
{
	unsigned char md[EVP_MAX_MD_SIZE];
	EVP_MD_CTX *ctx = need(EVP_MD_CTX_new());
	size_t line = LINE_LENGTH + 2;

	EVP_DigestInit_ex(ctx, EVP_sha256(), NULL);
	for (size_t at = 0; at < m->size; at += line) {
		size_t skip = m->body[at] == '.';

		EVP_DigestUpdate(ctx, m->body + at + skip, line - skip);
	}
	EVP_DigestFinal_ex(ctx, md, NULL);
	EVP_MD_CTX_free(ctx);
	for (int i = 0; i < 32; i++)
		sprintf(hex + 2 * i, "%02x", md[i]);
}

static void log_fate(uint64_t id, const char *status, const char *reply)
{
	struct message m;
	char hex[65];

	if (!src.log)
		return;
	m = message_of(id);
	digest_hex(&m, hex);
	fprintf(src.log, "%llu %s %.6f %zu %s %s\n", (unsigned long long)id, status,
		now(CLOCK_REALTIME), m.size, hex, reply);
	fflush(src.log);
}

static void send_again(uint64_t id)
{
	if (src.again_n == src.again_room) {
		src.again_room = src.again_room ? src.again_room * 2 : 256;
		src.again = need(realloc(src.again, src.again_room * sizeof(*src.again)));
	}
	src.again[src.again_n++] = id;
	src.deferred++;
}

static void watch(struct conn *c, bool writing)
{
	struct epoll_event ev = {
		.events = EPOLLIN | (writing ? (uint32_t)EPOLLOUT : 0u),
		.data.ptr = c,
	};

	if (epoll_ctl(src.epoll, EPOLL_CTL_MOD, c->fd, &ev) < 0)
		die("epoll_ctl: %s", strerror(errno));
}

static void conn_open(struct conn *c)
{
	struct epoll_event ev = {.events = EPOLLIN | EPOLLOUT, .data.ptr = c};
	int one = 1;

	c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (c->fd < 0)
		die("socket: %s", strerror(errno));
	setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (src.has_from && bind(c->fd, (struct sockaddr *)&src.from, sizeof(src.from)) < 0)
		die("--from-ip: %s", strerror(errno));
	if (connect(c->fd, (struct sockaddr *)&src.to, sizeof(src.to)) < 0 && errno != EINPROGRESS)
		die("connect: %s", strerror(errno));
	c->phase = PHASE_CONNECT;
	c->sent = 0;
	c->in_n = 0;
	c->out.n = 0;
	c->body_left = 0;
	src.connects++;
	if (epoll_ctl(src.epoll, EPOLL_CTL_ADD, c->fd, &ev) < 0)
		die("epoll_ctl: %s", strerror(errno));
}

/* The connection is gone; what it had in hand is unknown once the whole body had been written. */
static void conn_lost(struct conn *c)
{
	bool served = c->phase > PHASE_EHLO;

	if (c->has_message) {
		if (c->phase == PHASE_REPLY) {
			src.unknown++;
			src.done++;
			log_fate(c->id, "unknown", "-");
		} else {
			send_again(c->id);
		}
		c->has_message = false;
	}
	close(c->fd);
	c->fd = -1;
	if (served)
		src.away_since = 0;
	else if (src.away_since == 0)
		src.away_since = now(CLOCK_MONOTONIC);
	if (!served && now(CLOCK_MONOTONIC) - src.away_since > src.retry)
		die("the server cannot be reached");
	c->phase = PHASE_IDLE;
	c->wait_until = now(CLOCK_MONOTONIC) + (served ? 0 : 0.05);
}

static void flush_out(struct conn *c)
{
	while (c->out.n || c->body_left) {
		bool from_out = c->out.n > 0;
		const char *p = from_out ? c->out.p : c->body;
		size_t n = from_out ? c->out.n : c->body_left;
		ssize_t sent =
			send(c->fd, p, n, MSG_NOSIGNAL | (from_out && c->body_left ? MSG_MORE : 0));

		if (sent < 0 && errno == EAGAIN) {
			watch(c, true);
			return;
		}
		if (sent < 0) {
			conn_lost(c);
			return;
		}
		if (from_out) {
			c->out.n -= (size_t)sent;
			memmove(c->out.p, c->out.p + sent, c->out.n);
		} else {
			c->body += sent;
			c->body_left -= (size_t)sent;
		}
		if (!c->out.n && !c->body_left && c->phase == PHASE_BODY) {
			c->phase = PHASE_REPLY;
			add(&c->out, ".\r\n", 3);
		}
	}
	watch(c, false);
}

static void rcpt_line(struct bytes *b, uint64_t id, unsigned i)
{
	char domain[256];

	/* The one %d of --domain is checked when options are read. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	snprintf(domain, sizeof(domain), src.domain, (int)((id + i) % src.domains));
#pragma GCC diagnostic pop
	if (src.rcpts == 1)
		addf(b, "RCPT TO:<m%llu@%s>\r\n", (unsigned long long)id, domain);
	else
		addf(b, "RCPT TO:<m%llu.%u@%s>\r\n", (unsigned long long)id, i, domain);
}

static void envelope_step(struct conn *c, unsigned step)
{
	if (step == 0)
		addf(&c->out, "MAIL FROM:<%s>\r\n", src.sender);
	else if (step <= src.rcpts)
		rcpt_line(&c->out, c->id, step - 1);
	else
		add(&c->out, "DATA\r\n", 6);
}

static bool next_message(uint64_t *ret_id)
{
	if (src.again_n) {
		*ret_id = src.again[--src.again_n];
		return true;
	}
	if (src.next >= src.messages)
		return false;
	if (src.rate > 0 && (double)src.next > (now(CLOCK_MONOTONIC) - src.start) * src.rate)
		return false;
	*ret_id = src.first_id + src.next++;
	return true;
}

static void conn_quit(struct conn *c)
{
	c->phase = PHASE_QUIT;
	add(&c->out, "QUIT\r\n", 6);
}

/* Begins the next message, or ends the connection when there is none or it has had its share. */
static void begin_message(struct conn *c)
{
	unsigned steps = src.rcpts + 2;

	if (c->sent && c->sent >= src.per_connection) {
		conn_quit(c);
		return;
	}
	if (!next_message(&c->id)) {
		if (src.next >= src.messages && !src.again_n)
			conn_quit(c);
		else
			c->phase = PHASE_ENVELOPE; /* paced: serve() comes back */
		return;
	}
	c->has_message = true;
	c->refused = false;
	c->sent++;
	c->phase = PHASE_ENVELOPE;
	c->expected = steps;
	c->step = 0;
	do
		envelope_step(c, c->step++);
	while (c->pipelining && c->step < steps);
}

static void send_body(struct conn *c)
{
	struct message m = message_of(c->id);

	addf(&c->out, "From: <%s>\r\nSubject: message %llu\r\nMessage-ID: <%llu@source.test>\r\n",
	     src.sender, (unsigned long long)c->id, (unsigned long long)c->id);
	if (src.vmtas)
		addf(&c->out, "X-Virtual-MTA: v%llu\r\n", (unsigned long long)(c->id % src.vmtas));
	add(&c->out, "\r\n", 2);
	src.bytes += m.size;
	c->phase = PHASE_BODY;
	if (m.size < OUT_MAX) { /* with its dot in one write */
		add(&c->out, m.body, m.size);
		add(&c->out, ".\r\n", 3);
		c->phase = PHASE_REPLY;
		return;
	}
	c->body = m.body;
	c->body_left = m.size;
}

static void message_refused(struct conn *c)
{
	const char *reply = c->refused ? c->bad : c->reply;

	c->has_message = false;
	if (reply[0] == '4' && src.retry > 0) {
		send_again(c->id);
	} else {
		src.refused++;
		src.done++;
		log_fate(c->id, "refused", reply);
	}
}

static void on_envelope_reply(struct conn *c, char kind)
{
	c->expected--;
	if (kind != '2' && kind != '3' && !c->refused) {
		c->refused = true;
		memcpy(c->bad, c->reply, sizeof(c->bad));
	}
	if (c->expected && c->refused && !c->pipelining) {
		message_refused(c);
		add(&c->out, "RSET\r\n", 6);
		c->phase = PHASE_EHLO; /* the reply to RSET leads on, as that to EHLO */
		return;
	}
	if (c->expected) {
		if (!c->pipelining)
			envelope_step(c, c->step++);
		return;
	}
	if (kind == '3' && !c->refused) {
		send_body(c);
		return;
	}
	if (kind == '3') { /* some recipients refused: end the data with nothing in it */
		conn_lost(c);
		return;
	}
	message_refused(c);
	add(&c->out, "RSET\r\n", 6);
	c->phase = PHASE_EHLO;
}

static void on_reply(struct conn *c)
{
	char kind = c->reply[0];

	switch (c->phase) {
	case PHASE_GREETING:
		if (kind != '2') {
			conn_lost(c);
			return;
		}
		addf(&c->out, "EHLO source.test\r\n");
		c->phase = PHASE_EHLO;
		c->pipelining = false;
		break;
	case PHASE_EHLO:
		begin_message(c);
		break;
	case PHASE_ENVELOPE:
		if (strncmp(c->reply, "421", 3) == 0) {
			conn_lost(c);
			return;
		}
		if (c->has_message)
			on_envelope_reply(c, kind);
		break;
	case PHASE_REPLY:
		if (kind == '2') {
			src.ok++;
			src.done++;
			src.last_ok = now(CLOCK_MONOTONIC);
			c->has_message = false;
			log_fate(c->id, "ok", c->reply);
		} else {
			message_refused(c);
		}
		begin_message(c);
		break;
	case PHASE_QUIT:
		conn_lost(c);
		return;
	case PHASE_BODY: /* a reply inside the body: the server has given up */
	case PHASE_IDLE:
	case PHASE_CONNECT:
		conn_lost(c);
		return;
	}
	flush_out(c);
}

static void on_line(struct conn *c, const char *line, size_t n)
{
	if (c->phase == PHASE_EHLO && n >= 14 && memcmp(line + 4, "PIPELINING", 10) == 0)
		c->pipelining = !src.no_pipelining;
	if (n >= 4 && line[3] == '-')
		return;
	snprintf(c->reply, sizeof(c->reply), "%.*s", (int)n, line);
	on_reply(c);
}

static void on_readable(struct conn *c)
{
	ssize_t n = recv(c->fd, c->in + c->in_n, sizeof(c->in) - c->in_n, 0);
	char *lf;

	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0) {
		conn_lost(c);
		return;
	}
	c->in_n += (size_t)n;
	while (c->fd >= 0 && c->in_n && (lf = memchr(c->in, '\n', c->in_n))) {
		size_t used = (size_t)(lf - c->in) + 1;
		size_t length = used >= 2 && lf[-1] == '\r' ? used - 2 : used - 1;
		char line[sizeof(c->in)];

		memcpy(line, c->in, length);
		c->in_n -= used;
		memmove(c->in, c->in + used, c->in_n);
		on_line(c, line, length);
	}
	if (c->in_n == sizeof(c->in))
		die("a reply line of over %zu bytes", sizeof(c->in));
}

static void on_event(struct conn *c, uint32_t events)
{
	if (c->fd < 0)
		return;
	if (c->phase == PHASE_CONNECT) {
		int error = 0;
		socklen_t size = sizeof(error);

		getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &size);
		if (error) {
			conn_lost(c);
			return;
		}
		c->phase = PHASE_GREETING;
		watch(c, false);
	}
	if (events & EPOLLOUT)
		flush_out(c);
	if (c->fd >= 0 && events & (EPOLLIN | EPOLLHUP | EPOLLERR))
		on_readable(c);
}

static void idle_conns(void)
{
	double t = now(CLOCK_MONOTONIC);

	for (unsigned i = 0; i < src.connections; i++) {
		struct conn *c = &src.conns[i];
		bool work = src.next < src.messages || src.again_n;

		if (c->phase == PHASE_IDLE && work && c->wait_until <= t) {
			conn_open(c);
		} else if (c->phase == PHASE_ENVELOPE && !c->has_message) {
			begin_message(c);
			flush_out(c);
		}
	}
}

static void serve(void)
{
	struct epoll_event events[256];
	double looked = 0;

	src.start = now(CLOCK_MONOTONIC);
	while (src.done < src.messages) {
		int n;

		/* Looking at every connection each turn would cost with many of them. */
		if (now(CLOCK_MONOTONIC) - looked > 0.002) {
			idle_conns();
			looked = now(CLOCK_MONOTONIC);
		}
		n = epoll_wait(src.epoll, events, 256, 5);
		for (int i = 0; i < n; i++)
			on_event(events[i].data.ptr, events[i].events);
	}
}

static void report(void)
{
	double took = src.last_ok - src.start;

	printf("{\"messages\":%llu,\"accepted\":%llu,\"refused\":%llu,\"unknown\":%llu,"
	       "\"sent_again\":%llu,\"connections\":%llu,\"bytes\":%llu,\"seconds\":%.6f,"
	       "\"started\":%.6f,\"rate\":%.1f}\n",
	       (unsigned long long)src.messages, (unsigned long long)src.ok,
	       (unsigned long long)src.refused, (unsigned long long)src.unknown,
	       (unsigned long long)src.deferred, (unsigned long long)src.connects,
	       (unsigned long long)src.bytes, took,
	       now(CLOCK_REALTIME) - (now(CLOCK_MONOTONIC) - src.start),
	       took > 0 ? (double)src.ok / took : 0.0);
}

static void address(const char *text, struct sockaddr_in *in)
{
	const char *colon = strrchr(text, ':');
	char ip[64];

	snprintf(ip, sizeof(ip), "%.*s", colon ? (int)(colon - text) : (int)strlen(text), text);
	in->sin_family = AF_INET;
	in->sin_port = htons((uint16_t)(colon ? atoi(colon + 1) : 0));
	if (inet_pton(AF_INET, ip, &in->sin_addr) != 1)
		die("'%s' is no IPv4 address", text);
}

static void take_option(int c, const char *text)
{
	switch (c) {
	case 't':
		address(text, &src.to);
		break;
	case 'i':
		address(text, &src.from);
		src.has_from = true;
		break;
	case 'n':
		src.messages = strtoull(text, NULL, 10);
		break;
	case 'f':
		src.first_id = strtoull(text, NULL, 10);
		break;
	case 'c':
		src.connections = (unsigned)atoi(text);
		break;
	case 'm':
		src.per_connection = (unsigned)atoi(text);
		break;
	case 's':
		src.mix = strcmp(text, "mix") == 0;
		src.size = strtoull(text, NULL, 10);
		break;
	case 'd':
		src.domains = (unsigned)atoi(text);
		break;
	case 'D':
		src.domain = text;
		break;
	case 'r':
		src.rcpts = (unsigned)atoi(text);
		break;
	case 'v':
		src.vmtas = (unsigned)atoi(text);
		break;
	case 'p':
		src.no_pipelining = true;
		break;
	case 'F':
		src.sender = text;
		break;
	case 'l':
		src.log = fopen(text, "a");
		if (!src.log)
			die("%s: %s", text, strerror(errno));
		break;
	case 'R':
		src.retry = atof(text);
		break;
	case 'q':
		src.rate = atof(text);
		break;
	default:
		die("unknown option; see the head of tests/bench/source.c");
	}
}

static void parse(int argc, char **argv)
{
	static const struct option options[] = {
		{"to", required_argument, NULL, 't'},
		{"messages", required_argument, NULL, 'n'},
		{"connections", required_argument, NULL, 'c'},
		{"per-connection", required_argument, NULL, 'm'},
		{"size", required_argument, NULL, 's'},
		{"domains", required_argument, NULL, 'd'},
		{"domain", required_argument, NULL, 'D'},
		{"rcpts", required_argument, NULL, 'r'},
		{"first-id", required_argument, NULL, 'f'},
		{"vmtas", required_argument, NULL, 'v'},
		{"no-pipelining", no_argument, NULL, 'p'},
		{"from", required_argument, NULL, 'F'},
		{"log", required_argument, NULL, 'l'},
		{"retry", required_argument, NULL, 'R'},
		{"rate", required_argument, NULL, 'q'},
		{"from-ip", required_argument, NULL, 'i'},
		{NULL, 0, NULL, 0},
	};
	const char *percent;
	int c;

	src.connections = 20;
	src.per_connection = 100;
	src.size = 4096;
	src.domains = src.rcpts = 1;
	src.domain = "d%d.test";
	src.sender = "sender@source.test";
	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1)
		take_option(c, optarg);
	percent = strchr(src.domain, '%');
	if (percent && (percent[1] != 'd' || strchr(percent + 1, '%')))
		die("--domain may hold one %%d and no other %%");
	if (!src.to.sin_port || !src.messages || !src.connections || !src.domains || !src.rcpts ||
	    src.size > 20000000)
		die("usage: source --to IP:PORT --messages N [...]; see the head of source.c");
}

int main(int argc, char **argv)
{
	struct rlimit files;

	signal(SIGPIPE, SIG_IGN);
	parse(argc, argv);
	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	pool_fill();
	src.epoll = epoll_create1(EPOLL_CLOEXEC);
	src.conns = need(calloc(src.connections, sizeof(*src.conns)));
	for (unsigned i = 0; i < src.connections; i++)
		src.conns[i].fd = -1;
	serve();
	report();
	return src.ok == src.messages ? 0 : 3;
}
