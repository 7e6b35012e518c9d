/* links: common/base common/loop common/dns common/conf common/ipc common/shm tests/lib/testdns worker/resolver.c worker/resolver_main.c worker/resolver_packet.c worker/resolver_record.c worker/resolver_route.c worker/resolver_server.c worker/resolver_upstream.c */
#include <criterion/criterion.h>
#include <jansson.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/fd.h"
#include "common/base/log.h"
#include "common/base/xalloc.h"
#include "common/conf/conf.h"
#include "common/dns/dns.h"
#include "common/ipc/ipc.h"
#include "common/loop/stream.h"
#include "common/shm/shm.h"
#include "tests/lib/testdns/testdns.h"
#include "worker/resolver.h"

/* The test is master and a worker; the resolver is a child, as in the daemon. */
static char dir[] = "/tmp/sluice-process-XXXXXX";
static struct loop *l;
static struct loop_timer *watchdog;
static struct testdns *dns;
static struct shm *shm;
static struct ipc_reader reader;
static int control = -1, death = -1;
static pid_t child;

static void give_up(void *arg ATTR_UNUSED)
{
	panic("the test hangs");
}

/* A memfd with the merged configuration that asks this server. */
static int make_conf(const struct testdns *server)
{
	struct conf_messages msgs = {0};
	char path[64];
	struct slice merged;
	struct conf *c;
	FILE *f;
	int fd;

	(void)snprintf(path, sizeof(path), "%s/conf", dir);
	f = fopen(path, "w");
	fprintf(f,
		"[global]\nhost-name = mta.test\npostmaster = postmaster@mta.test\n"
		"spool-dir = %s\nruntime-dir = %s\nresolver = %s\ndns-timeout = 1s\n",
		dir, dir, testdns_name(server));
	fclose(f);
	c = conf_load(path, &msgs);
	if (!c)
		conf_messages_print(&msgs, stderr);
	cr_assert(c);
	conf_messages_done(&msgs);
	merged = conf_merged(c);
	fd = memfd_create("conf", MFD_CLOEXEC);
	cr_assert_eq(fd_write_all(fd, merged.p, merged.n), 0);
	conf_free(c);
	unlink(path);
	return fd;
}

/* Returns the type of the child's next message. */
static enum ipc_type receive(void)
{
	struct ipc_message m;
	int rc;

	while ((rc = ipc_recv(control, &reader, &m)) != 1) {
		cr_assert(rc < 0, "the resolver has gone");
		usleep(1000);
	}
	return m.type;
}

static void start(void)
{
	struct shm_config sc = {.max_workers = 1, .ring_size = 65536, .max_live_queues = 16};
	int pair[2], pipe_fds[2];
	struct heritage h = {.role = ROLE_RESOLVER};

	cr_assert(mkdtemp(dir));
	l = loop_new();
	watchdog = loop_timer_new(l, give_up, NULL);
	loop_timer_set(watchdog, 20 * USEC_PER_SEC);
	dns = testdns_new(l);
	shm = shm_new(&sc);
	cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair),
		     0);
	cr_assert_eq(pipe(pipe_fds), 0);
	h.conf_fd = make_conf(dns);
	h.shm = shm;
	h.control_fd = pair[1];
	h.death_fd = pipe_fds[0];
	child = fork();
	if (child == 0) {
		close(pair[0]);
		close(pipe_fds[1]);
		log_set_level(LOG_LEVEL_WARN);
		_exit(resolver_main(&h));
	}
	close(pair[1]);
	close(pipe_fds[0]);
	close(h.conf_fd);
	control = pair[0];
	death = pipe_fds[1];
	cr_assert_eq(receive(), IPC_READY);
}

static int wait_child(void)
{
	int status = -1;

	cr_assert_eq(waitpid(child, &status, 0), child);
	child = 0;
	return status;
}

static void finish(void)
{
	static const char *const names[] = {"resolver.sock", "dns.mdb", "dns.mdb-lock"};
	char path[64];

	if (child) {
		kill(child, SIGKILL);
		wait_child();
	}
	testdns_free(dns);
	loop_timer_free(watchdog);
	loop_free(l);
	shm_free(shm);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		(void)snprintf(path, sizeof(path), "%s/%s", dir, names[i]);
		unlink(path);
	}
	rmdir(dir);
}

TestSuite(resolver_process, .init = start, .fini = finish, .timeout = 40);

static struct dns_route *got;

static void on_route(struct dns_route *route, void *arg ATTR_UNUSED)
{
	dns_route_free(got);
	got = route;
	loop_stop(l);
}

static enum dns_status look(const char *domain)
{
	struct dns_client *c = dns_client_new(l, dir);

	dns_lookup(c, slice_str(domain), 0, NULL, on_route, NULL);
	loop_run(l);
	dns_client_free(c);
	return got->status;
}

static void send_message(struct buf *m, const int *fds, size_t n)
{
	cr_assert_eq(ipc_send(control, m, fds, n), 0);
	buf_done(m);
}

static void expect_end(void)
{
	int status = wait_child();

	cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %d", status);
}

Test(resolver_process, serves_until_master_says_stop)
{
	struct buf m = BUF_INIT;

	testdns_add(dns, "a.test", TESTDNS_A, 300, "192.0.2.1");
	cr_assert_eq(look("a.test"), DNS_OK);
	ipc_begin(&m, IPC_STOP);
	enc_var(&m, USEC_PER_SEC);
	send_message(&m, NULL, 0);
	expect_end();
}

Test(resolver_process, ends_when_master_is_gone)
{
	close(death);
	expect_end();
}

Test(resolver_process, takes_a_new_configuration)
{
	struct testdns *other = testdns_new(l);
	struct buf m = BUF_INIT;
	int fd = make_conf(other);

	testdns_add(other, "b.test", TESTDNS_A, 300, "192.0.2.1");
	ipc_begin(&m, IPC_CONF);
	enc_var(&m, 2);
	send_message(&m, &fd, 1);
	close(fd);
	cr_assert_eq(receive(), IPC_CONF_DONE);
	cr_assert_eq(look("b.test"), DNS_OK);
	cr_assert_str_eq(got->resolver, testdns_name(other));
	testdns_free(other);
}

struct answer {
	struct buf text;
	bool done;
};

static void on_answer(struct stream *s, enum stream_event what, void *arg)
{
	struct answer *a = arg;
	struct slice in = stream_input(s);

	buf_add_slice(&a->text, in);
	stream_consume(s, in.n);
	if (what == STREAM_EOF) {
		a->done = true;
		loop_stop(l);
	}
}

/* Hands over a connection with a request as master does; returns all that was answered. */
static const char *command(const char *request)
{
	static struct answer a;
	struct buf m = BUF_INIT;
	struct stream *s;
	int pair[2];

	buf_clear(&a.text);
	a.done = false;
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	ipc_begin(&m, IPC_CONTROL);
	enc_str(&m, request);
	enc_var(&m, 0);
	send_message(&m, &pair[1], 1);
	close(pair[1]);
	s = stream_accepted(l, pair[0], on_answer, &a);
	while (!a.done)
		loop_run(l);
	stream_free(s);
	return buf_cstr(&a.text);
}

Test(resolver_process, answers_commands_on_connections_of_the_control_socket)
{
	static const struct {
		const char *request, *answer;
	} cases[] = {
		{"{\"command\":\"resolve\",\"args\":{\"domain\":\"c.test\"}}",
		 "\"addresses\":[\"192.0.2.9\"]"},
		{"{\"command\":\"resolve\",\"args\":{\"domain\":\"none.test\"}}",
		 "\"status\":\"nxdomain\""},
		{"{\"command\":\"clear dnscache\",\"args\":{\"domain\":\"*\"}}",
		 "{\"data\":{\"cleared\":2}}\n{\"status\":\"success\"}\n"},
		{"{\"command\":\"resolve\"}", "{\"status\":\"error\",\"message\":\"name a domain"},
		{"{\"command\":\"dance\",\"args\":{\"domain\":\"c.test\"}}",
		 "\"status\":\"error\""},
		{"[1", "{\"status\":\"error\",\"message\":\"the request is not a JSON object\"}"},
	};

	testdns_add(dns, "c.test", TESTDNS_A, 300, "192.0.2.9");
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const char *text = command(cases[i].request);

		cr_assert(strstr(text, cases[i].answer), "%s: %s", cases[i].request, text);
	}
}

static void stop_now(void *arg ATTR_UNUSED)
{
	loop_stop(l);
}

Test(resolver_process, counts_in_shared_memory)
{
	struct loop_timer *t = loop_timer_new(l, stop_now, NULL);
	struct shm_counters *c = shm_resolver_counters(shm);

	cr_assert_gt(atomic_load(&shm_signals(shm)->resolver_heartbeat), 0);
	cr_assert_eq(look("gone.test"), DNS_NXDOMAIN);
	loop_timer_set(t, 1500 * USEC_PER_MSEC);
	loop_run(l);
	loop_timer_free(t);
	cr_assert_eq(atomic_load(&c->v[COUNTER_DNS_QUERIES]), 1);
	cr_assert_eq(atomic_load(&c->v[COUNTER_DNS_CACHED]), 1);
	cr_assert_eq(atomic_load(&c->v[COUNTER_DNS_PENDING]), 0);
}
