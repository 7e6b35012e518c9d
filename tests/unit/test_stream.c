/* links: common/base common/loop */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/base/buf.h"
#include "common/base/log.h"
#include "common/base/xalloc.h"
#include "common/loop/stream.h"
#include "common/loop/stream_private.h"

/* One end: collects what it gets and does what the test says. */
struct end {
	struct stream *s;
	char events[256]; /* one letter each, as in event_letter */
	struct buf got;
	bool free_at_end, keep_input, free_at_data;
	char stop_at; /* this event ends the loop */
	void (*on_data)(struct end *e);
	struct end *other;
	struct stream_tls *tls;
};

static const char event_letter[] = {
	[STREAM_CONNECTED] = 'C', [STREAM_TLS_READY] = 'S', [STREAM_DATA] = 'D',
	[STREAM_DRAINED] = 'w',	  [STREAM_EOF] = 'E',	    [STREAM_ERROR] = 'X',
	[STREAM_TIMEOUT] = 'T'};

static struct loop *l;
static struct end a, b;
static char dir[] = "/tmp/sluice-stream-XXXXXX";
static char cert[64], key[64];

static void give_up(void *arg ATTR_UNUSED)
{
	panic("the test hangs: a %s, b %s", a.events, b.events);
}

static struct loop_timer *watchdog;

static void begin(void)
{
	l = loop_new();
	watchdog = loop_timer_new(l, give_up, NULL);
	loop_timer_set(watchdog, 10 * USEC_PER_SEC);
	a = b = (struct end){0};
}

static void finish(void)
{
	stream_free(a.s);
	stream_free(b.s);
	buf_done(&a.got);
	buf_done(&b.got);
	loop_timer_free(watchdog);
	loop_free(l);
}

TestSuite(stream, .init = begin, .fini = finish, .timeout = 30);

static void take_input(struct end *e)
{
	struct slice in = stream_input(e->s);

	buf_add_slice(&e->got, in);
	stream_consume(e->s, in.n);
}

static void on_event(struct stream *s, enum stream_event what, void *arg)
{
	struct end *e = arg;
	size_t n = strlen(e->events);

	if (what != STREAM_DRAINED && n < sizeof(e->events) - 1 &&
	    !(what == STREAM_DATA && n && e->events[n - 1] == 'D'))
		e->events[n] = event_letter[what];
	cr_assert_eq(s, e->s);
	if (e->stop_at == event_letter[what])
		loop_stop(l);
	if (what == STREAM_DATA) {
		if (!e->keep_input)
			take_input(e);
		if (e->on_data)
			e->on_data(e);
		if (e->free_at_data) {
			stream_free(e->s);
			e->s = NULL;
		}
	}
	if (e->free_at_end &&
	    (what == STREAM_EOF || what == STREAM_ERROR || what == STREAM_TIMEOUT)) {
		stream_free(e->s);
		e->s = NULL;
	}
}

static void stop_now(void *arg ATTR_UNUSED)
{
	loop_stop(l);
}

static void run_for(usec_t t)
{
	struct loop_timer *timer = loop_timer_new(l, stop_now, NULL);

	loop_timer_set(timer, t);
	loop_run(l);
	loop_timer_free(timer);
}

static struct ip localhost(void)
{
	struct ip ip = {0};

	cr_assert(ip_parse(slice_str("127.0.0.1"), &ip));
	return ip;
}

static int listen_on(uint16_t *ret_port)
{
	struct sockaddr_in sin = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(sin);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	cr_assert_eq(bind(fd, (const struct sockaddr *)&sin, len), 0);
	cr_assert_eq(listen(fd, 16), 0);
	cr_assert_eq(getsockname(fd, (struct sockaddr *)&sin, &len), 0);
	*ret_port = ntohs(sin.sin_port);
	return fd;
}

/* a connects over TCP, b is the accepted side. */
static void connect_pair(void)
{
	struct ip dest = localhost();
	uint16_t port;
	int fd = listen_on(&port);

	a.stop_at = 'C';
	a.s = stream_connect(l, NULL, &dest, port, on_event, &a);
	loop_run(l);
	cr_assert_str_eq(a.events, "C");
	b.s = stream_accepted(l, accept(fd, NULL, NULL), on_event, &b);
	close(fd);
	a.events[0] = '\0';
	a.stop_at = 0;
	a.other = &b;
	b.other = &a;
}

static void write_str(struct end *e, const char *text)
{
	stream_write(e->s, text, strlen(text));
}

Test(stream, bytes_travel_both_ways)
{
	connect_pair();
	write_str(&a, "EHLO x\r\n");
	cr_assert_eq(stream_output_pending(a.s), 8);
	b.stop_at = 'D';
	loop_run(l);
	cr_assert_str_eq(buf_cstr(&b.got), "EHLO x\r\n");
	write_str(&b, "250 ok\r\n");
	a.stop_at = 'D';
	loop_run(l);
	cr_assert_str_eq(buf_cstr(&a.got), "250 ok\r\n");
	cr_assert_eq(stream_output_pending(a.s), 0);
	cr_assert(!stream_is_tls(a.s));
	cr_assert_str_eq(stream_tls_protocol(a.s), "");
}

Test(stream, addresses_of_both_sides_are_known)
{
	struct ip ip, peer;
	uint16_t local_port, peer_port;

	connect_pair();
	cr_assert(stream_local(a.s, &ip, &local_port));
	cr_assert(stream_peer(b.s, &peer, &peer_port));
	cr_assert(ip_eq(&ip, &peer));
	cr_assert_eq(local_port, peer_port);
}

Test(stream, connects_from_the_source_address)
{
	struct ip dest = localhost(), source, peer;
	uint16_t port;
	int fd = listen_on(&port);

	cr_assert(ip_parse(slice_str("127.0.0.77"), &source));
	a.stop_at = 'C';
	a.s = stream_connect(l, &source, &dest, port, on_event, &a);
	loop_run(l);
	b.s = stream_accepted(l, accept(fd, NULL, NULL), on_event, &b);
	cr_assert(stream_peer(b.s, &peer, NULL));
	cr_assert(ip_eq(&peer, &source));
	close(fd);
}

static void expect_connect_error(const struct ip *source, const struct ip *dest, uint16_t port,
				 int want)
{
	a.events[0] = '\0';
	a.stop_at = 'X';
	a.s = stream_connect(l, source, dest, port, on_event, &a);
	cr_assert_str_eq(a.events, "", "the error came inside stream_connect()");
	loop_run(l);
	cr_assert_str_eq(a.events, "X");
	cr_assert_eq(stream_errno(a.s), want, "got %s", stream_error(a.s));
	cr_assert(strstr(stream_error(a.s), strerror(want)));
	if (want == EADDRNOTAVAIL) /* which of several is missing on this machine */
		cr_assert(strstr(stream_error(a.s), "source address 203.0.113.9: "));
	stream_free(a.s);
	a.s = NULL;
}

Test(stream, connect_failures_come_as_events_with_errno)
{
	struct ip dest = localhost(), foreign, v6, none = {0};
	struct rlimit old, tight;
	uint16_t port;
	int fd = listen_on(&port);

	close(fd);
	cr_assert(ip_parse(slice_str("203.0.113.9"), &foreign));
	cr_assert(ip_parse(slice_str("::1"), &v6));
	expect_connect_error(NULL, &dest, port, ECONNREFUSED);
	expect_connect_error(&foreign, &dest, port, EADDRNOTAVAIL);
	expect_connect_error(NULL, &none, port, EAFNOSUPPORT);
	expect_connect_error(&v6, &dest, port, EAFNOSUPPORT);
	getrlimit(RLIMIT_NOFILE, &old);
	tight = old;
	tight.rlim_cur = 0;
	setrlimit(RLIMIT_NOFILE, &tight);
	expect_connect_error(NULL, &dest, port, EMFILE);
	setrlimit(RLIMIT_NOFILE, &old);
}

Test(stream, a_stream_freed_before_its_error_is_reported_stays_silent)
{
	struct ip none = {0};

	a.s = stream_connect(l, NULL, &none, 1, on_event, &a);
	stream_free(a.s);
	a.s = NULL;
	run_for(USEC_PER_MSEC);
	cr_assert_str_eq(a.events, "");
}

Test(stream, connects_to_unix_sockets)
{
	struct sockaddr_un sun = {.sun_family = AF_UNIX};
	char longer[200];
	struct ip ip;
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	cr_assert(mkdtemp(dir));
	snprintf(sun.sun_path, sizeof(sun.sun_path), "%s/s", dir);
	cr_assert_eq(bind(fd, (const struct sockaddr *)&sun, sizeof(sun)), 0);
	listen(fd, 1);
	a.stop_at = 'C';
	a.s = stream_connect_unix(l, sun.sun_path, on_event, &a);
	loop_run(l);
	cr_assert_str_eq(a.events, "C");
	cr_assert(!stream_peer(a.s, &ip, NULL));
	cr_assert(!stream_local(a.s, &ip, NULL));
	stream_free(a.s);
	close(fd);
	unlink(sun.sun_path);
	memset(longer, 'x', sizeof(longer));
	longer[sizeof(longer) - 1] = '\0';
	a.events[0] = '\0';
	a.stop_at = 'X';
	a.s = stream_connect_unix(l, longer, on_event, &a);
	loop_run(l);
	cr_assert_eq(stream_errno(a.s), ENAMETOOLONG);
	rmdir(dir);
}

Test(stream, writes_of_one_turn_leave_in_one_write)
{
	char text[4096];
	int fds[2];

	/* Each write is one packet here. */
	cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, fds), 0);
	a.s = stream_accepted(l, fds[0], on_event, &a);
	for (int i = 0; i < 100; i++)
		write_str(&a, "RCPT TO:<a@b>\r\n");
	a.stop_at = 'w';
	loop_run(l);
	cr_assert_eq(recv(fds[1], text, sizeof(text), MSG_DONTWAIT), 1500);
	cr_assert_eq(recv(fds[1], text, sizeof(text), MSG_DONTWAIT), -1);
	close(fds[1]);
}

static void fill(struct end *e, size_t n)
{
	char *p = xmalloc(n);

	for (size_t i = 0; i < n; i++)
		p[i] = (char)(i * 31 + (i >> 12));
	stream_write(e->s, p, n);
	free(p);
}

static void check_filled(struct end *e, size_t n)
{
	cr_assert_eq(e->got.n, n);
	for (size_t i = 0; i < n; i++)
		if (e->got.p[i] != (char)(i * 31 + (i >> 12)))
			cr_assert_fail("byte %zu is wrong", i);
}

Test(stream, large_output_arrives_whole_and_drained_is_told)
{
	connect_pair();
	fill(&a, 8 << 20);
	stream_low_mark(a.s, 1 << 20);
	a.stop_at = 'w';
	loop_run(l);
	cr_assert_leq(stream_output_pending(a.s), 1 << 20);
	a.stop_at = 0;
	stream_close_after_flush(a.s, 5 * USEC_PER_SEC);
	a.s = NULL;
	b.stop_at = 'E';
	loop_run(l);
	check_filled(&b, 8 << 20);
	cr_assert_str_eq(b.events, "DE");
}

Test(stream, a_paused_stream_reads_nothing_until_it_goes_on)
{
	connect_pair();
	stream_pause_input(b.s, true);
	write_str(&a, "x");
	run_for(5 * USEC_PER_MSEC);
	cr_assert_str_eq(b.events, "");
	stream_pause_input(b.s, false);
	b.stop_at = 'D';
	loop_run(l);
	cr_assert_str_eq(buf_cstr(&b.got), "x");
}

static void pause_in_callback(struct end *e)
{
	stream_pause_input(e->s, true);
	loop_stop(l);
}

Test(stream, input_left_over_is_announced_again_when_reading_goes_on)
{
	connect_pair();
	b.keep_input = true;
	b.on_data = pause_in_callback;
	write_str(&a, "one two");
	loop_run(l);
	b.keep_input = false;
	b.on_data = NULL;
	b.stop_at = 'D';
	stream_pause_input(b.s, false);
	loop_run(l);
	cr_assert_str_eq(buf_cstr(&b.got), "one two");
}

Test(stream, input_is_consumed_piece_by_piece)
{
	connect_pair();
	b.keep_input = true;
	b.stop_at = 'D';
	write_str(&a, "abcdef");
	loop_run(l);
	stream_consume(b.s, 2);
	cr_assert(slice_eq_str(stream_input(b.s), "cdef"));
	write_str(&a, "gh");
	loop_run(l);
	cr_assert(slice_eq_str(stream_input(b.s), "cdefgh"));
	stream_consume(b.s, 6);
	cr_assert_eq(stream_input(b.s).n, 0);
}

Test(stream, data_comes_before_eof_and_a_half_closed_peer_still_gets_answers)
{
	char text[16] = "";
	int fds[2];

	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	b.s = stream_accepted(l, fds[0], on_event, &b);
	cr_assert_eq(write(fds[1], "QUIT", 4), 4);
	shutdown(fds[1], SHUT_WR);
	b.stop_at = 'E';
	loop_run(l);
	cr_assert_str_eq(b.events, "DE");
	cr_assert_str_eq(buf_cstr(&b.got), "QUIT");
	write_str(&b, "221 bye");
	stream_close_after_flush(b.s, USEC_PER_SEC);
	b.s = NULL;
	run_for(5 * USEC_PER_MSEC);
	cr_assert_eq(read(fds[1], text, sizeof(text) - 1), 7);
	cr_assert_str_eq(text, "221 bye");
	cr_assert_eq(read(fds[1], text, 1), 0);
	close(fds[1]);
}

Test(stream, the_last_reply_is_delivered_when_writing_fails)
{
	const struct linger rst = {.l_onoff = 1, .l_linger = 0};
	struct ip dest = localhost();
	uint16_t port;
	int fd, lfd = listen_on(&port);

	a.stop_at = 'C';
	a.s = stream_connect(l, NULL, &dest, port, on_event, &a);
	loop_run(l);
	fd = accept(lfd, NULL, NULL);
	cr_assert_eq(write(fd, "421 go away\r\n", 13), 13);
	usleep(2000);
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &rst, sizeof(rst));
	close(fd);
	close(lfd);
	write_str(&a, "EHLO\r\n");
	a.events[0] = '\0';
	a.stop_at = 'X';
	loop_run(l);
	cr_assert_str_eq(a.events, "DX");
	cr_assert_str_eq(buf_cstr(&a.got), "421 go away\r\n");
	cr_assert_neq(stream_errno(a.s), 0);
}

Test(stream, abort_resets_the_connection)
{
	connect_pair();
	write_str(&a, "half a transaction");
	stream_abort(a.s);
	a.s = NULL;
	b.stop_at = 'X';
	loop_run(l);
	cr_assert_str_eq(b.events, "X");
	cr_assert_eq(stream_errno(b.s), ECONNRESET);
	cr_assert_eq(b.got.n, 0);
}

Test(stream, may_be_freed_in_every_callback)
{
	connect_pair();
	b.free_at_data = true;
	a.free_at_end = true;
	a.stop_at = 'E';
	write_str(&a, "x");
	loop_run(l);
	cr_assert_null(a.s);
	cr_assert_null(b.s);
	cr_assert_str_eq(b.events, "D");
	cr_assert_str_eq(a.events, "E");
}

Test(stream, read_timeout_counts_from_the_last_input)
{
	usec_t start;

	connect_pair();
	start = clock_now();
	stream_timeout(b.s, 40 * USEC_PER_MSEC, 0);
	run_for(25 * USEC_PER_MSEC);
	write_str(&a, "x");
	b.stop_at = 'T';
	loop_run(l);
	cr_assert_str_eq(b.events, "DT");
	cr_assert_geq(clock_now() - start, 65 * USEC_PER_MSEC);
	cr_assert_eq(stream_errno(b.s), ETIMEDOUT);
}

Test(stream, strict_time_is_not_moved_by_a_peer_that_drips)
{
	usec_t start;

	connect_pair();
	stream_strict_time(b.s);
	start = clock_now();
	stream_timeout(b.s, 60 * USEC_PER_MSEC, 0);
	run_for(40 * USEC_PER_MSEC);
	write_str(&a, "x");
	b.stop_at = 'T';
	loop_run(l);
	cr_assert_str_eq(b.events, "DT");
	cr_assert_lt(clock_now() - start, 95 * USEC_PER_MSEC);
}

Test(stream, read_timeout_rests_while_input_is_paused)
{
	connect_pair();
	stream_timeout(b.s, 10 * USEC_PER_MSEC, 0);
	stream_pause_input(b.s, true);
	run_for(30 * USEC_PER_MSEC);
	cr_assert_str_eq(b.events, "");
	stream_pause_input(b.s, false);
	b.stop_at = 'T';
	loop_run(l);
	cr_assert_str_eq(b.events, "T");
}

Test(stream, write_timeout_counts_only_while_output_is_stuck)
{
	connect_pair();
	stream_timeout(a.s, 0, 30 * USEC_PER_MSEC);
	run_for(50 * USEC_PER_MSEC);
	cr_assert_str_eq(a.events, "");
	stream_pause_input(b.s, true);
	fill(&a, 32 << 20);
	a.stop_at = 'T';
	loop_run(l);
	cr_assert_str_eq(a.events, "T");
	cr_assert_gt(stream_output_pending(a.s), 0);
}

Test(stream, a_close_that_cannot_flush_ends_in_time)
{
	usec_t start;

	connect_pair();
	stream_pause_input(b.s, true);
	fill(&a, 32 << 20);
	stream_close_after_flush(a.s, 20 * USEC_PER_MSEC);
	a.s = NULL;
	start = clock_now();
	run_for(40 * USEC_PER_MSEC);
	b.stop_at = 'E';
	stream_pause_input(b.s, false);
	loop_run(l);
	cr_assert_lt(b.got.n, 32 << 20);
	cr_assert_lt(clock_now() - start, 5 * USEC_PER_SEC);
}

Test(stream, closing_streams_are_released_with_the_loop)
{
	connect_pair();
	fill(&a, 32 << 20);
	stream_close_after_flush(a.s, 60 * USEC_PER_SEC);
	a.s = NULL;
}

Test(stream, gives_its_socket_to_the_caller)
{
	char text[8] = "";
	int fd;

	connect_pair();
	fd = stream_release_fd(b.s);
	b.s = NULL;
	write_str(&a, "hello");
	run_for(5 * USEC_PER_MSEC);
	cr_assert_eq(read(fd, text, sizeof(text)), 5);
	cr_assert_str_eq(text, "hello");
	cr_assert_str_eq(b.events, "");
	close(fd);
}

/* ---- TLS ---- */

static void make_certificate(void)
{
	EVP_PKEY *pkey = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
	X509 *x = X509_new();
	FILE *f;

	cr_assert(mkdtemp(dir));
	snprintf(cert, sizeof(cert), "%s/cert", dir);
	snprintf(key, sizeof(key), "%s/key", dir);
	ASN1_INTEGER_set(X509_get_serialNumber(x), 1);
	X509_gmtime_adj(X509_getm_notBefore(x), -3600);
	X509_gmtime_adj(X509_getm_notAfter(x), 3600);
	X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_ASC,
				   (const unsigned char *)"mx.test", -1, -1, 0);
	X509_set_issuer_name(x, X509_get_subject_name(x));
	X509_set_pubkey(x, pkey);
	cr_assert_gt(X509_sign(x, pkey, EVP_sha256()), 0);
	f = fopen(cert, "w");
	PEM_write_X509(f, x);
	fclose(f);
	f = fopen(key, "w");
	PEM_write_PrivateKey(f, pkey, NULL, NULL, 0, NULL, NULL);
	fclose(f);
	X509_free(x);
	EVP_PKEY_free(pkey);
}

static void begin_tls(void)
{
	char *error = NULL;

	begin();
	make_certificate();
	connect_pair();
	a.tls = stream_tls_client_new();
	b.tls = stream_tls_server_new(cert, key, &error);
	cr_assert(b.tls, "%s", error);
}

static void finish_tls(void)
{
	stream_tls_free(a.tls);
	stream_tls_free(b.tls);
	unlink(cert);
	unlink(key);
	rmdir(dir);
	finish();
}

TestSuite(stream_tls, .init = begin_tls, .fini = finish_tls, .timeout = 30);

/* b answers STARTTLS in the clear and begins; a begins when it has the answer. */
static void server_starts_tls(struct end *e)
{
	e->on_data = NULL;
	write_str(e, "220 go\r\n");
	stream_start_tls(e->s, e->tls, NULL);
	write_str(e, "after");
}

static void client_starts_tls(struct end *e)
{
	e->on_data = NULL;
	stream_start_tls(e->s, e->tls, "mx.test");
}

static void handshake(void)
{
	b.on_data = server_starts_tls;
	a.on_data = client_starts_tls;
	a.stop_at = 'S';
	write_str(&a, "STARTTLS\r\n");
	loop_run(l);
	a.stop_at = 0;
}

Test(stream_tls, starttls_keeps_the_clear_answer_clear_and_encrypts_the_rest)
{
	handshake();
	cr_assert_str_eq(buf_cstr(&a.got), "220 go\r\n");
	a.stop_at = 'D';
	loop_run(l);
	cr_assert_str_eq(buf_cstr(&a.got), "220 go\r\nafter");
	cr_assert(stream_is_tls(a.s));
	cr_assert_str_eq(stream_tls_protocol(a.s), "TLSv1.3");
	cr_assert_neq(stream_tls_cipher(a.s)[0], '\0');
	write_str(&a, "EHLO again\r\n");
	b.stop_at = 'D';
	loop_run(l);
	cr_assert_str_eq(buf_cstr(&b.got), "STARTTLS\r\nEHLO again\r\n");
}

static void keep_then_start(struct end *e)
{
	e->keep_input = false;
	server_starts_tls(e);
}

Test(stream_tls, commands_injected_before_the_handshake_are_thrown_away)
{
	b.keep_input = true;
	b.on_data = keep_then_start;
	a.on_data = client_starts_tls;
	a.stop_at = 'S';
	write_str(&a, "STARTTLS\r\nMAIL FROM:<evil>\r\n");
	loop_run(l);
	a.stop_at = 0;
	write_str(&a, "NOOP\r\n");
	b.stop_at = 'D';
	loop_run(l);
	cr_assert_str_eq(buf_cstr(&b.got), "NOOP\r\n");
}

Test(stream_tls, large_output_arrives_whole)
{
	handshake();
	run_for(5 * USEC_PER_MSEC);
	buf_clear(&b.got);
	fill(&a, 3 << 20);
	stream_close_after_flush(a.s, 5 * USEC_PER_SEC);
	a.s = NULL;
	b.stop_at = 'E';
	loop_run(l);
	check_filled(&b, 3 << 20);
}

Test(stream_tls, input_held_back_by_a_pause_comes_when_reading_goes_on)
{
	handshake();
	run_for(5 * USEC_PER_MSEC);
	buf_clear(&b.got);
	fill(&a, 300000);
	stream_pause_input(b.s, true);
	run_for(5 * USEC_PER_MSEC);
	cr_assert_eq(b.got.n, 0);
	stream_pause_input(b.s, false);
	while (b.got.n < 300000) {
		b.stop_at = 'D';
		loop_run(l);
		stream_pause_input(b.s, true);
		stream_pause_input(b.s, false);
	}
	check_filled(&b, 300000);
}

Test(stream_tls, an_end_without_close_notify_is_an_eof_after_the_data)
{
	handshake();
	run_for(5 * USEC_PER_MSEC);
	buf_clear(&b.got);
	stream_pause_input(b.s, true);
	write_str(&a, "last words");
	run_for(2 * USEC_PER_MSEC);
	shutdown(a.s->fd, SHUT_WR);
	stream_pause_input(b.s, false);
	b.stop_at = 'E';
	loop_run(l);
	cr_assert_str_eq(buf_cstr(&b.got), "last words");
	cr_assert_eq(b.events[strlen(b.events) - 1], 'E');
}

static void answer_garbage(struct end *e)
{
	write_str(e, "500 what?\r\n");
}

Test(stream_tls, a_failed_handshake_says_why)
{
	b.on_data = answer_garbage;
	stream_start_tls(a.s, a.tls, "mx.test");
	a.stop_at = 'X';
	loop_run(l);
	cr_assert_str_eq(a.events, "X");
	cr_assert_eq(stream_errno(a.s), 0);
	cr_assert(slice_istarts(slice_str(stream_error(a.s)), "TLS: "), "%s", stream_error(a.s));
	cr_assert(strlen(stream_error(a.s)) > 8);
}

static void hang_up(struct end *e)
{
	stream_free(e->s);
	e->s = NULL;
}

Test(stream_tls, a_peer_that_hangs_up_in_the_handshake_is_an_error)
{
	b.on_data = hang_up;
	stream_start_tls(a.s, a.tls, "mx.test");
	a.stop_at = 'X';
	loop_run(l);
	cr_assert_str_eq(a.events, "X");
	cr_assert_neq(stream_error(a.s)[0], '\0');
}

Test(stream_tls, the_read_timeout_bounds_the_handshake)
{
	stream_start_tls(a.s, a.tls, NULL);
	stream_timeout(a.s, 20 * USEC_PER_MSEC, 0);
	a.stop_at = 'T';
	loop_run(l);
	cr_assert_str_eq(a.events, "T");
}

Test(stream_tls, a_bad_certificate_file_is_named_in_the_error)
{
	char *error = NULL;

	cr_assert_null(stream_tls_server_new("/nonexistent/cert", key, &error));
	cr_assert(strstr(error, "/nonexistent/cert"));
	cr_assert(strstr(error, "No such file"), "%s", error);
	free(error);
	error = NULL;
	cr_assert_null(stream_tls_server_new(cert, cert, &error));
	cr_assert(strstr(error, "private key"), "%s", error);
	free(error);
}
