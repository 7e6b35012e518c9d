/*
 * A scriptable SMTP receiver for tests and benchmarks: listens on many loopback addresses, obeys
 * or breaks the protocol as rules say (receiver/rules.h), and keeps a journal, one JSON
 * line an event, of everything it saw. One thread, one process; never a model for real servers.
 *
 *   receiver --listen 127.0.1.1-127.0.1.100:2525 --control SOCKET [--rules FILE]
 *            [--journal FILE] [--store DIR] [--cert FILE --key FILE] [--ids N] [--name NAME]
 *            [--no-digest] [--stdin]
 *
 * Prints "ready" on stdout when it listens; with --stdin it ends when its stdin does.
 */
#include <getopt.h>
#include <signal.h>
#include <sys/resource.h>

#include "tests/lib/receiver/control.h"

static const struct option options[] = {
	{"listen", required_argument, NULL, 'l'}, {"control", required_argument, NULL, 'c'},
	{"rules", required_argument, NULL, 'r'},  {"journal", required_argument, NULL, 'j'},
	{"store", required_argument, NULL, 's'},  {"cert", required_argument, NULL, 'C'},
	{"key", required_argument, NULL, 'K'},	  {"ids", required_argument, NULL, 'i'},
	{"name", required_argument, NULL, 'n'},	  {"no-digest", no_argument, NULL, 'd'},
	{"stdin", no_argument, NULL, 'e'},	  {NULL, 0, NULL, 0},
};

static void rules_file(struct receiver *rc, const char *path)
{
	json_error_t error;
	json_t *json = json_load_file(path, 0, &error);
	const char *member;

	if (!json)
		die("%s:%d: %s", path, error.line, error.text);
	if (!plan_load(&rc->plan, json, &member))
		die("%s: \"%s\" is unknown or has no such value", path, member);
	json_decref(json);
}

static void tls_setup(struct receiver *rc, const char *cert, const char *key)
{
	rc->tls = need(SSL_CTX_new(TLS_server_method()));
	if (SSL_CTX_use_certificate_chain_file(rc->tls, cert) != 1 ||
	    SSL_CTX_use_PrivateKey_file(rc->tls, key ? key : cert, SSL_FILETYPE_PEM) != 1)
		die("cannot load %s as certificate and key", cert);
	SSL_CTX_set_mode(rc->tls,
			 SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
}

static void parse(struct receiver *rc, int argc, char **argv)
{
	const char *cert = NULL, *key = NULL, *control = NULL;
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 'l':
			listen_range(rc, optarg);
			break;
		case 'c':
			control = optarg;
			break;
		case 'r':
			rules_file(rc, optarg);
			break;
		case 'j':
			journal_open(&rc->journal, optarg);
			break;
		case 's':
			rc->store = optarg;
			break;
		case 'C':
			cert = optarg;
			break;
		case 'K':
			key = optarg;
			break;
		case 'i':
			rc->id_count = strtoull(optarg, NULL, 10);
			rc->ids = need(calloc(rc->id_count + 1, 1));
			break;
		case 'n':
			rc->name = optarg;
			break;
		case 'd':
			rc->no_digest = true;
			break;
		case 'e':
			watch_stdin(rc);
			break;
		default:
			die("unknown option; see the head of tests/lib/receiver.c");
		}
	}
	if (optind != argc || !rc->listeners)
		die("usage: receiver --listen ADDRESS[-ADDRESS]:PORT --control SOCKET [...]");
	if (cert)
		tls_setup(rc, cert, key);
	if (control)
		control_listen(rc, control);
}

static volatile sig_atomic_t stop;

static void on_signal(int sig)
{
	(void)sig;
	stop = 1;
}

static void serve(struct receiver *rc)
{
	struct epoll_event events[512];

	while (!stop && !rc->stop) {
		int n = epoll_wait(rc->epoll, events, 512, timers_wait_ms(&rc->timers));

		if (n < 0 && errno != EINTR)
			die("epoll_wait: %s", strerror(errno));
		for (int i = 0; i < n; i++) {
			struct watch *watch = events[i].data.ptr;

			if (!watch->dead)
				watch->ready(rc, watch, events[i].events);
		}
		timers_run(rc);
		reap(rc);
		control_answer_waiters(rc);
		journal_tick(&rc->journal);
	}
	journal_flush(&rc->journal);
}

int main(int argc, char **argv)
{
	static struct receiver rc;
	struct rlimit files;

	signal(SIGPIPE, SIG_IGN);
	signal(SIGTERM, on_signal);
	signal(SIGINT, on_signal);
	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	rc.epoll = epoll_create1(EPOLL_CLOEXEC);
	if (rc.epoll < 0)
		die("epoll_create1: %s", strerror(errno));
	parse(&rc, argc, argv);
	puts("ready");
	fflush(stdout);
	serve(&rc);
	return 0;
}
