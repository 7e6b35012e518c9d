#include "master/master.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/xalloc.h"
#include "common/shm/limits.h"
#include "common/version.h"

#define DEFAULT_CONF "/etc/sluice/sluice.conf"
#define TICK USEC_PER_SEC
#define SOCKET_LOOK (60 * USEC_PER_SEC)
#define LIMITS_BUSY (25 * USEC_PER_MSEC)
#define LIMITS_QUIET (100 * USEC_PER_MSEC)

static void usage(FILE *to)
{
	fputs("usage: sluiced [-c FILE] [--debug | --check | --version | --print-reference]\n"
	      "  -c FILE    configuration (default " DEFAULT_CONF ")\n"
	      "  --debug    everything to standard error, all processes as the present user\n"
	      "  --check    check the configuration and exit: 0 good, 1 errors\n"
	      "  --version  print the version and exit\n"
	      "  --print-reference  print all directives as Markdown and exit\n"
	      "  --print-manual     print the manual page sluice.conf(5) and exit\n"
	      "  --list-directives  print section and keyword of all directives and exit\n",
	      to);
}

static int check(const char *path)
{
	struct conf_messages msgs = {0};
	struct conf *conf = conf_load(path, &msgs);

	conf_messages_print(&msgs, stderr);
	conf_messages_done(&msgs);
	if (!conf)
		return 1;
	printf("%s: the configuration is good\n", path);
	conf_free(conf);
	return 0;
}

static void on_reload_done(const char *error ATTR_UNUSED, const char *notes ATTR_UNUSED,
			   void *arg ATTR_UNUSED)
{
	/* reload.c has logged it */
}

static void on_signal(int signo, void *arg)
{
	struct master *m = arg;

	switch (signo) {
	case SIGTERM:
	case SIGINT:
		supervisor_stop(m);
		break;
	case SIGHUP:
		reload_begin(m, false, on_reload_done, NULL);
		break;
	case SIGCHLD:
		supervisor_on_sigchld(m);
		break;
	}
}

/* Somebody cleans up /run: delivery goes on, but nobody can say anything to this daemon any more. */
static void check_socket(const struct master *m)
{
	static usec_t next;

	if (clock_now() < next)
		return;
	next = clock_now() + SOCKET_LOOK;
	if (access(conf_global(m->conf)->control_socket, F_OK) < 0 && errno == ENOENT)
		log_error(
			NULL,
			"the control socket is gone: commands do not reach this daemon until it is "
			"started again (SIGTERM stops it)",
			LOG_S("socket", conf_global(m->conf)->control_socket));
}

static void on_tick(void *arg)
{
	struct master *m = arg;

	supervisor_tick(m);
	check_socket(m);
	loop_timer_set(m->tick, TICK);
}

/* Slots reserved for a worker that does not take them pass on. */
static void on_limits(void *arg)
{
	struct master *m = arg;
	bool reserved = limits_tick(m->shm) != USEC_INFINITY;

	loop_timer_set(m->limits, reserved ? LIMITS_BUSY : LIMITS_QUIET);
}

static void on_control_connection(int what ATTR_UNUSED, void *arg)
{
	control_accept(arg);
}

static void watch_signals(struct master *m)
{
	static const int watched[] = {SIGTERM, SIGINT, SIGHUP, SIGCHLD};
	size_t i;

	(void)signal(SIGPIPE, SIG_IGN);
	for (i = 0; i < ARRAY_SIZE(watched); i++)
		m->signals[m->signal_count++] = loop_signal_new(m->loop, watched[i], on_signal, m);
}

static void load(struct master *m)
{
	struct conf_messages msgs = {0};

	m->conf = conf_load(m->conf_path, &msgs);
	conf_messages_print(&msgs, stderr);
	conf_messages_done(&msgs);
	if (!m->conf)
		exit(1);
}

static void open_listeners(struct master *m)
{
	char *error = NULL;

	if (setup_listeners(m->conf, NULL, 0, m->listeners, &m->listener_count, &error) < 0)
		fatal("%s", error);
	if (m->listener_count == 0)
		log_warn(NULL, "no [smtp-listener] is configured: no mail can come in");
}

static int serve(struct master *m)
{
	setup_log(m->conf, m->debug);
	setup_limits();
	setup_users(m);
	setup_directories(m);
	setup_lock(m);
	open_listeners(m);
	setup_check_sources(m->conf);
	setup_shared(m);
	setup_control_socket(m);
	setup_capabilities(m);
	m->loop = loop_new();
	m->started = clock_now();
	watch_signals(m);
	m->control_io =
		loop_io_new(m->loop, m->control_listener, LOOP_READ, on_control_connection, m);
	m->tick = loop_timer_new(m->loop, on_tick, m);
	loop_timer_set(m->tick, TICK);
	status_tick(m); /* what comes now counts for the first minute */
	m->limits = loop_timer_new(m->loop, on_limits, m);
	loop_timer_set(m->limits, LIMITS_QUIET);
	supervisor_start(m);
	loop_run(m->loop);
	(void)unlink(conf_global(m->conf)->control_socket);
	log_info(NULL, "stopped");
	return 0;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {{"config", required_argument, NULL, 'c'},
						{"debug", no_argument, NULL, 'd'},
						{"check", no_argument, NULL, 'k'},
						{"version", no_argument, NULL, 'v'},
						{"print-reference", no_argument, NULL, 'r'},
						{"print-manual", no_argument, NULL, 'm'},
						{"list-directives", no_argument, NULL, 'l'},
						{"help", no_argument, NULL, 'h'},
						{NULL, 0, NULL, 0}};
	static struct master m = {.magic = MASTER_MAGIC, .conf_path = DEFAULT_CONF};
	bool check_only = false;
	int opt;

	log_set_program("master", NULL);
	while ((opt = getopt_long(argc, argv, "c:h", options, NULL)) != -1) {
		switch (opt) {
		case 'c':
			m.conf_path = optarg;
			break;
		case 'd':
			m.debug = true;
			break;
		case 'k':
			check_only = true;
			break;
		case 'v':
			puts("sluiced " SLUICE_VERSION);
			return 0;
		case 'r':
			conf_print_reference(stdout);
			return 0;
		case 'm':
			conf_print_manual(stdout);
			return 0;
		case 'l':
			conf_print_directives(stdout);
			return 0;
		case 'h':
			usage(stdout);
			return 0;
		default:
			usage(stderr);
			return 2;
		}
	}
	if (optind < argc) {
		fprintf(stderr, "sluiced: \"%s\" is not an option\n", argv[optind]);
		usage(stderr);
		return 2;
	}
	if (check_only)
		return check(m.conf_path);
	LIST_INIT(&m.children);
	load(&m);
	return serve(&m);
}
