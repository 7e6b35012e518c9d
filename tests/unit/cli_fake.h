/*
 * cli_fake.h - for tests of the command: a folder with a configuration, and peers in threads that play
 * the daemon.
 */
#ifndef SLUICE_TESTS_CLI_FAKE_H
#define SLUICE_TESTS_CLI_FAKE_H

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <criterion/redirect.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "cli/args.h"
#include "cli/cli.h"
#include "cli/place.h"

struct fake {
	char dir[64], conf[128], socket[100];
	int listener;
	uint16_t port; /* of the SMTP listener in the configuration */
	pthread_t thread;
	bool running;
	const char *answer; /* of the fake daemon */
	char got[70000];
	/* what the command printed */
	char *out;
	size_t out_n;
};

static inline void fake_init(struct fake *f, uint16_t port)
{
	FILE *c;

	memset(f, 0, sizeof(*f));
	f->port = port;
	strcpy(f->dir, "/tmp/sluice-cli-XXXXXX");
	cr_assert_not_null(mkdtemp(f->dir));
	snprintf(f->conf, sizeof(f->conf), "%s/sluice.conf", f->dir);
	snprintf(f->socket, sizeof(f->socket), "%s/control.sock", f->dir);
	c = fopen(f->conf, "w");
	cr_assert_not_null(c);
	fprintf(c,
		"[global]\nhost-name = mta.test\npostmaster = p@mta.test\nruntime-dir = %s\n"
		"spool-dir = %s\n[smtp-listener 127.0.0.1:%u]\n[source 127.0.0.1]\n"
		"always-allow-relaying = yes\n[virtual-mta a]\nsmtp-source-host = 127.0.0.1 "
		"a.mta.test\n"
		"[domain gmail.com/a]\nmax-smtp-out = 7\n",
		f->dir, f->dir, port);
	fclose(c);
}

static inline void *fake_daemon(void *arg)
{
	struct fake *f = arg;
	int fd = accept(f->listener, NULL, NULL);
	size_t n = 0;

	while (fd >= 0 && n < sizeof(f->got) - 1 && !memchr(f->got, '\n', n)) {
		ssize_t r = read(fd, f->got + n, sizeof(f->got) - 1 - n);

		if (r <= 0)
			break;
		n += (size_t)r;
	}
	f->got[n] = '\0';
	if (write(fd, f->answer, strlen(f->answer)) < 0)
		f->got[0] = '!';
	close(fd);
	return NULL;
}

/* The next connection to the control socket gets this answer. */
static inline void fake_answers(struct fake *f, const char *answer)
{
	struct sockaddr_un sun = {.sun_family = AF_UNIX};

	snprintf(sun.sun_path, sizeof(sun.sun_path), "%s", f->socket);
	unlink(f->socket);
	f->answer = answer;
	f->listener = socket(AF_UNIX, SOCK_STREAM, 0);
	cr_assert_eq(bind(f->listener, (struct sockaddr *)&sun, sizeof(sun)), 0);
	cr_assert_eq(listen(f->listener, 1), 0);
	cr_assert_eq(pthread_create(&f->thread, NULL, fake_daemon, f), 0);
	f->running = true;
}

static inline void fake_join(struct fake *f)
{
	if (!f->running)
		return;
	pthread_join(f->thread, NULL);
	close(f->listener);
	f->running = false;
}

/* Runs the command as main() would; what it printed is in f->out. Words are split at blanks. */
static inline int fake_run(struct fake *f, int width, const char *line)
{
	struct cli cli = {.width = width, .spool_map_size = UINT64_C(1) << 30};
	struct invocation i;
	char *argv[40] = {NULL}, copy[1000], *p = copy;
	int argc = 0, rc;

	free(f->out);
	f->out = NULL;
	cli.out = open_memstream(&f->out, &f->out_n);
	snprintf(copy, sizeof(copy), "sluice -c %s %s", f->conf, line);
	while (p && argc < 39)
		argv[argc++] = strsep(&p, " ");
	rc = args_parse(argc, argv, &cli, &i);
	if (rc == 0)
		rc = i.cmd->run(&cli, &i);
	invocation_done(&i);
	cli_conf_done(&cli);
	fclose(cli.out);
	fake_join(f);
	return rc;
}

static inline void fake_done(struct fake *f)
{
	char cmd[128];

	fake_join(f);
	free(f->out);
	snprintf(cmd, sizeof(cmd), "rm -rf %s", f->dir);
	cr_assert_eq(system(cmd), 0);
}

/* What went to standard error since the last call; the test redirects it. */
static inline const char *fake_said(void)
{
	static char said[4000];
	FILE *err = cr_get_redirected_stderr();
	size_t n;

	fflush(stderr);
	clearerr(err);
	n = fread(said, 1, sizeof(said) - 1, err);
	said[n] = '\0';
	return said;
}

#endif
