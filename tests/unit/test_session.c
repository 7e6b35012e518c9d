/* links: common/base common/loop common/smtp common/mail common/conf/arena.c spooler/session.c spooler/session_accept.c spooler/session_body.c spooler/session_commands.c spooler/session_data.c spooler/session_dialogue.c spooler/session_envelope.c spooler/session_headers.c spooler/session_sync.c */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <malloc.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "common/base/err.h"
#include "common/base/log.h"
#include "spooler/session.h"
#include "tests/unit/session_fake.h"

#define ENVELOPE "MAIL FROM:<s@x.example>\r\nRCPT TO:<r@y.example>\r\n"
#define MESSAGE ENVELOPE "DATA\r\nA: b\r\n\r\nbody\r\n.\r\n"

/* The server under test, over real sockets. */
struct rig {
	struct conf conf;
	struct intake intake;
	struct shm_counters counters;
	struct smtp_server *server;
	char dir[64];
	int listener;
	uint16_t port;
};

static int listen_here(uint16_t *ret_port)
{
	struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t n = sizeof(sa);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	cr_assert(fd >= 0 && bind(fd, (struct sockaddr *)(void *)&sa, sizeof(sa)) == 0 &&
		  listen(fd, 1024) == 0 &&
		  getsockname(fd, (struct sockaddr *)(void *)&sa, &n) == 0);
	*ret_port = ntohs(sa.sin_port);
	return fd;
}

static void rig_make(struct rig *r)
{
	memset(r, 0, sizeof(*r));
	log_set_level(LOG_LEVEL_ERROR);
	r->conf = fake_conf();
	fake_intake(&r->intake);
	(void)snprintf(r->dir, sizeof(r->dir), "/tmp/test_session.XXXXXX");
	cr_assert(mkdtemp(r->dir));
	r->intake.big_dir = r->dir;
	r->listener = listen_here(&r->port);
}

static void rig_start(struct rig *r)
{
	struct smtp_server_options o = {.intake = &r->intake,
					.counters = &r->counters,
					.conf = &r->conf,
					.big_dir = r->dir,
					.threads = 2,
					.listeners = &r->listener,
					.listener_count = 1};

	r->server = smtp_server_start(&o);
}

static unsigned files_in(const char *dir)
{
	DIR *d = opendir(dir);
	unsigned n = 0;

	cr_assert(d);
	while (readdir(d))
		n++;
	closedir(d);
	return n - 2;
}

static void rig_done(struct rig *r)
{
	if (r->server)
		smtp_server_stop(r->server);
	cr_expect(atomic_load(&r->counters.v[COUNTER_CONNECTIONS_IN_OPEN]) == 0);
	cr_expect(r->intake.memory == 0, "%lld octets of the budget are lost",
		  (long long)r->intake.memory);
	cr_expect(files_in(r->dir) == 0);
	close(r->listener);
	rmdir(r->dir);
	fake_intake_done(&r->intake);
}

/* ---- a client ---- */

static int client(uint16_t port)
{
	struct sockaddr_in sa = {.sin_family = AF_INET,
				 .sin_port = htons(port),
				 .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct timeval limit = {.tv_sec = 10};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;

	cr_assert(fd >= 0 && connect(fd, (struct sockaddr *)(void *)&sa, sizeof(sa)) == 0);
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	return fd;
}

static void say(int fd, const char *text)
{
	cr_assert(fd_write_all(fd, text, strlen(text)) == 0, "%s", strerror(errno));
}

/* Reads one line; "" at the end. */
static const char *hear(int fd)
{
	static char line[1000];
	size_t n = 0;

	while (n < sizeof(line) - 1) {
		ssize_t r = recv(fd, line + n, 1, 0);

		if (r <= 0)
			return "";
		if (line[n++] == '\n')
			break;
	}
	line[n] = '\0';
	return line;
}

/* The last line of the next reply begins so. */
static void expect_(int fd, const char *start, int at)
{
	const char *line;

	do {
		line = hear(fd);
	} while (strlen(line) > 3 && line[3] == '-');
	cr_expect(strncmp(line, start, strlen(start)) == 0, "line %d: \"%s\", not \"%s\"", at, line,
		  start);
}
#define expect(fd, start) expect_(fd, start, __LINE__)

static void expect_end_(int fd, int at)
{
	const char *line = hear(fd);

	cr_expect(*line == '\0', "line %d: \"%s\", not the end", at, line);
	close(fd);
}
#define expect_end(fd) expect_end_(fd, __LINE__)

static bool quiet(int fd, int ms)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	return poll(&p, 1, ms) == 0;
}

static int hello(uint16_t port)
{
	int fd = client(port);

	expect(fd, "220 mta.example");
	say(fd, "EHLO c.example\r\n");
	expect(fd, "250 ");
	return fd;
}

static void wait_sessions(struct rig *r, unsigned n)
{
	int i;

	for (i = 0; i < 500 && smtp_server_sessions(r->server) != n; i++)
		usleep(10000);
	cr_expect(smtp_server_sessions(r->server) == n, "%u sessions",
		  smtp_server_sessions(r->server));
}

Test(session, takes_messages_over_sockets)
{
	struct rig r;
	int fd;

	rig_make(&r);
	rig_start(&r);
	fd = client(r.port);
	say(fd, "EHLO c.example\r\n" MESSAGE MESSAGE "QUIT\r\n");
	expect(fd, "220 ");
	expect(fd, "250 ENHANCED");
	for (int i = 0; i < 2; i++) {
		expect(fd, "250 2.1.0");
		expect(fd, "250 2.1.5");
		expect(fd, "354 ");
		expect(fd, "250 2.6.0");
	}
	expect(fd, "221 ");
	expect_end(fd);
	cr_expect(r.intake.count == 2);
	cr_expect(atomic_load(&r.counters.v[COUNTER_CONNECTIONS_IN]) == 1);
	cr_expect(clock_now() - smtp_server_heartbeat(r.server) < 5 * USEC_PER_SEC);
	rig_done(&r);
}

Test(session, answers_only_after_the_commit)
{
	struct rig r;
	int fd;

	rig_make(&r);
	r.intake.hold = true;
	rig_start(&r);
	fd = hello(r.port);
	say(fd, MESSAGE "NOOP\r\n");
	expect(fd, "250 2.1.0");
	expect(fd, "250 2.1.5");
	expect(fd, "354 ");
	cr_expect(quiet(fd, 200), "no reply before the commit, not even to what is behind it");
	cr_expect(fake_release(&r.intake));
	expect(fd, "250 2.6.0");
	expect(fd, "250 2.0.0");
	close(fd);
	rig_done(&r);
}

static void add_lines(struct buf *b, size_t lines)
{
	size_t i;

	for (i = 0; i < lines; i++)
		buf_addf(b, "%s%zu is a line of a large message, with some text to fill it\r\n",
			 i % 10 ? "" : "..", i);
}

Test(session, keeps_big_messages_in_files)
{
	struct buf wire = BUF_INIT;
	struct rig r;
	int fd;

	rig_make(&r);
	r.conf.source.add_received_header = false;
	rig_start(&r);
	buf_add_str(&wire, "A: b\r\n\r\n");
	add_lines(&wire, 40000);
	fd = hello(r.port);
	say(fd, ENVELOPE "DATA\r\n");
	cr_assert(fd_write_all(fd, wire.p, wire.n) == 0);
	say(fd, ".\r\n");
	expect(fd, "250 ");
	expect(fd, "250 ");
	expect(fd, "354 ");
	expect(fd, "250 2.6.0");
	cr_expect(r.intake.big && slice_eq(buf_slice(&r.intake.body), buf_slice(&wire)));
	cr_expect(r.intake.memory == 0);

	/* Refused by the committer: the file goes. */
	r.intake.result = ERR_DISK_FULL;
	say(fd, ENVELOPE "DATA\r\n");
	cr_assert(fd_write_all(fd, wire.p, wire.n) == 0);
	say(fd, ".\r\n");
	expect(fd, "250 ");
	expect(fd, "250 ");
	expect(fd, "354 ");
	expect(fd, "452 4.3.1");
	cr_expect(files_in(r.dir) == 0);

	/* A bad line at the end, and a client that goes away in the middle: the same. */
	say(fd, ENVELOPE "DATA\r\n");
	cr_assert(fd_write_all(fd, wire.p, wire.n) == 0);
	say(fd, "bare\n\r\n.\r\n");
	expect(fd, "250 ");
	expect(fd, "250 ");
	expect(fd, "354 ");
	expect(fd, "550 5.6.0");
	say(fd, ENVELOPE "DATA\r\n");
	cr_assert(fd_write_all(fd, wire.p, wire.n) == 0);
	close(fd);
	wait_sessions(&r, 0);
	buf_done(&wire);
	rig_done(&r);
}

Test(session, limits_connections)
{
	struct rig r;
	int a, b;

	rig_make(&r);
	r.conf.global.total_max_smtp_in = 2;
	rig_start(&r);
	a = hello(r.port);
	b = hello(r.port);
	int c = client(r.port);
	expect(c, "421 4.7.0 too many connections;");
	expect_end(c);
	close(a);
	wait_sessions(&r, 1);
	a = hello(r.port);
	close(a);
	close(b);
	wait_sessions(&r, 0);
	rig_done(&r);
}

Test(session, limits_connections_of_an_address)
{
	struct rig r;
	int a, b;

	rig_make(&r);
	r.conf.source.max_smtp_in = 1;
	rig_start(&r);
	a = hello(r.port);
	b = client(r.port);
	expect(b, "421 4.7.0 too many connections from your address");
	expect_end(b);
	close(a);
	wait_sessions(&r, 0);
	a = hello(r.port);
	close(a);
	rig_done(&r);
}

Test(session, turns_strangers_away)
{
	struct rig r;
	int fd;

	rig_make(&r);
	r.conf.source.smtp_service = false;
	rig_start(&r);
	fd = client(r.port);
	expect(fd, "521 5.3.2");
	expect_end(fd);
	rig_done(&r);
}

Test(session, ends_idle_sessions)
{
	struct rig r;
	int a, b;

	rig_make(&r);
	r.conf.source.smtp_command_timeout = USEC_PER_SEC / 4;
	r.conf.source.smtp_data_timeout = USEC_PER_SEC / 2;
	rig_start(&r);
	a = hello(r.port);
	b = hello(r.port);
	say(b, ENVELOPE "DATA\r\nhalf");
	expect(a, "421 4.4.2");
	expect_end(a);
	expect(b, "250 ");
	expect(b, "250 ");
	expect(b, "354 ");
	expect(b, "421 4.4.2");
	expect_end(b);
	cr_expect(r.intake.count == 0);
	rig_done(&r);
}

/* Replies that nobody reads stop the reading of commands; nothing is lost. */
Test(session, waits_for_a_client_that_does_not_read)
{
	enum { COUNT = 200000 };
	struct rig r;
	struct buf b = BUF_INIT;
	size_t sent = 0, heard = 0;
	int fd;

	rig_make(&r);
	rig_start(&r);
	fd = hello(r.port);
	while (b.n < COUNT * 6)
		buf_add_str(&b, "NOOP\r\n");
	/* A full window both ways: the server has stopped reading. */
	for (;;) {
		ssize_t n = send(fd, b.p + sent, b.n - sent, MSG_DONTWAIT);
		struct pollfd p = {.fd = fd, .events = POLLOUT};

		if (n > 0)
			sent += (size_t)n;
		else if (poll(&p, 1, 300) == 0)
			break;
		if (sent == b.n)
			break;
	}
	while (heard < (size_t)COUNT * 14) {
		char waste[65536];
		ssize_t n;

		if (sent < b.n && (n = send(fd, b.p + sent, b.n - sent, MSG_DONTWAIT)) > 0)
			sent += (size_t)n;
		n = recv(fd, waste, sizeof(waste), 0);
		cr_assert(n > 0, "%zu octets heard", heard);
		heard += (size_t)n;
	}
	cr_expect(heard == (size_t)COUNT * 14 && quiet(fd, 50));
	close(fd);
	buf_done(&b);
	rig_done(&r);
}

Test(session, switches_configuration_between_transactions)
{
	struct rig r;
	struct conf next;
	uint16_t port;
	int idle, busy, fds[2], fd;

	rig_make(&r);
	rig_start(&r);
	idle = hello(r.port);
	busy = hello(r.port);
	say(busy, ENVELOPE);
	expect(busy, "250 ");
	expect(busy, "250 ");
	next = fake_conf();
	next.source.max_rcpt_per_message = 1;
	fds[0] = r.listener;
	fds[1] = listen_here(&port);
	smtp_server_reload(r.server, &next, fds, 2);
	cr_expect(!r.conf.freed, "a transaction still uses it");
	say(idle, ENVELOPE "RCPT TO:<b@y.example>\r\n");
	expect(idle, "250 ");
	expect(idle, "250 ");
	expect(idle, "452 4.5.3");
	say(busy, "RCPT TO:<b@y.example>\r\nDATA\r\n.\r\n");
	expect(busy, "250 2.1.5");
	expect(busy, "354 ");
	expect(busy, "250 2.6.0");
	say(busy, ENVELOPE "RCPT TO:<b@y.example>\r\n");
	expect(busy, "250 ");
	expect(busy, "250 ");
	expect(busy, "452 4.5.3");
	cr_expect(r.conf.freed);
	fd = hello(port);
	close(fd);
	/* The first listener goes. */
	struct conf third = fake_conf();
	smtp_server_reload(r.server, &third, &fds[1], 1);
	fd = hello(port);
	close(fd);
	cr_expect(fcntl(r.listener, F_GETFD) < 0, "it was closed");
	close(idle);
	close(busy);
	smtp_server_stop(r.server);
	r.server = NULL;
	cr_expect(next.freed && !third.freed);
	r.listener = fds[1];
	rig_done(&r);
}

Test(session, drains)
{
	struct rig r;
	int idle, busy;

	rig_make(&r);
	rig_start(&r);
	idle = hello(r.port);
	busy = hello(r.port);
	say(busy, ENVELOPE);
	expect(busy, "250 ");
	expect(busy, "250 ");
	smtp_server_drain(r.server, true);
	expect(idle, "421 4.3.2");
	expect_end(idle);
	cr_expect(quiet(busy, 100));
	say(busy, "DATA\r\n.\r\n" ENVELOPE);
	expect(busy, "354 ");
	expect(busy, "250 2.6.0");
	expect(busy, "421 4.3.2");
	expect_end(busy);
	wait_sessions(&r, 0);
	cr_expect(r.intake.count == 1);
	rig_done(&r);
}

static void *release_later(void *arg)
{
	usleep(300000);
	(void)fake_release(arg);
	return NULL;
}

Test(session, answers_what_is_committed_before_it_stops)
{
	struct rig r;
	pthread_t helper;
	int waiting, idle;

	rig_make(&r);
	r.intake.hold = true;
	rig_start(&r);
	waiting = hello(r.port);
	idle = hello(r.port);
	say(waiting, MESSAGE);
	expect(waiting, "250 ");
	expect(waiting, "250 ");
	expect(waiting, "354 ");
	cr_expect(quiet(waiting, 50));
	pthread_create(&helper, NULL, release_later, &r.intake);
	smtp_server_stop(r.server);
	r.server = NULL;
	pthread_join(helper, NULL);
	expect(idle, "421 4.3.2");
	expect_end(idle);
	expect(waiting, "250 2.6.0");
	expect(waiting, "421 4.3.2");
	expect_end(waiting);
	rig_done(&r);
}

/* The client is gone when the commit is done: the message counts all the same. */
Test(session, survives_a_client_that_leaves_during_the_commit)
{
	struct linger rst = {.l_onoff = 1, .l_linger = 0};
	struct rig r;
	int fd;

	rig_make(&r);
	r.intake.hold = true;
	rig_start(&r);
	fd = hello(r.port);
	say(fd, MESSAGE);
	expect(fd, "250 ");
	expect(fd, "250 ");
	expect(fd, "354 ");
	cr_expect(quiet(fd, 50));
	(void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &rst, sizeof(rst));
	close(fd);
	usleep(100000);
	cr_expect(fake_release(&r.intake));
	wait_sessions(&r, 0);
	rig_done(&r);
}

Test(session, recovers_when_descriptors_run_out)
{
	struct rlimit before, low;
	struct rig r;
	int a, b, top;

	if (getenv("SLUICE_VALGRIND"))
		cr_skip_test("valgrind keeps descriptors of its own beyond the limit");
	rig_make(&r);
	rig_start(&r);
	a = hello(r.port);
	/* Room for the client's end of the next connection, none for the server's. */
	top = dup(0);
	close(top);
	getrlimit(RLIMIT_NOFILE, &before);
	low = before;
	low.rlim_cur = (rlim_t)top + 1;
	setrlimit(RLIMIT_NOFILE, &low);
	b = client(r.port);
	cr_expect(quiet(b, 300), "there is no descriptor for it");
	setrlimit(RLIMIT_NOFILE, &before);
	expect(b, "220 ");
	say(a, "NOOP\r\n");
	expect(a, "250 ");
	close(a);
	close(b);
	rig_done(&r);
}

/* 10,000 idle feeders have to cost less than 150 MB: at most 15 KB each, kernel memory aside. */
Test(session, costs_little_when_idle)
{
	enum { COUNT = 400 };
	static int fds[COUNT];
	size_t before, after;
	struct rig r;
	int i;

	rig_make(&r);
	r.conf.global.total_max_smtp_in = 10000;
	rig_start(&r);
	fds[0] = hello(r.port);
	before = mallinfo2().uordblks + mallinfo2().hblkhd;
	for (i = 1; i < COUNT; i++) {
		fds[i] = hello(r.port);
		say(fds[i], MESSAGE);
		expect(fds[i], "250 ");
		expect(fds[i], "250 ");
		expect(fds[i], "354 ");
		expect(fds[i], "250 ");
	}
	after = mallinfo2().uordblks + mallinfo2().hblkhd;
	cr_expect((after - before) / COUNT < 8000, "%zu octets each", (after - before) / COUNT);
	for (i = 0; i < COUNT; i++)
		close(fds[i]);
	wait_sessions(&r, 0);
	rig_done(&r);
}
