#include "spooler/queries_private.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "common/base/fd.h"
#include "common/base/log.h"
#include "common/base/xalloc.h"

#define QUERIES_MAX 32
#define WRITE_SEC 10 /* a client that does not read for so long is cut off */

/* --- answers --- */

void query_line(struct query *y, json_t *line)
{
	char *text = json_dumps(line, JSON_COMPACT);
	struct buf b = BUF_INIT;

	json_decref(line);
	if (text && !y->cut) {
		buf_add_str(&b, text);
		buf_add_char(&b, '\n');
		if (fd_write_all(y->fd, b.p, b.n) < 0)
			y->cut = true;
		buf_done(&b);
	}
	free(text);
}

void query_data(struct query *y, json_t *data)
{
	query_line(y, json_pack("{s:o}", "data", data));
}

void query_succeed(struct query *y)
{
	query_line(y, json_pack("{s:s}", "status", "success"));
}

void query_fail(struct query *y, const char *message)
{
	query_line(y, json_pack("{s:s, s:s}", "status", "error", "message", message));
}

/* --- arguments --- */

const char *arg_text(const json_t *args, const char *key)
{
	const char *s = json_string_value(json_object_get(args, key));

	return s ? s : "";
}

bool arg_flag(const json_t *args, const char *key)
{
	return json_is_true(json_object_get(args, key));
}

uint64_t arg_number(const json_t *args, const char *key)
{
	json_int_t n = json_integer_value(json_object_get(args, key));

	return n > 0 ? (uint64_t)n : 0;
}

char *arg_pattern(const json_t *args, const char *key)
{
	const char *s = arg_text(args, key);

	return *s && !strchr(s, '/') ? xasprintf("%s/*", s) : xstrdup(s);
}

/* --- commands --- */

static const struct {
	const char *name;
	void (*run)(struct query *y, const json_t *args);
} commands[] = {
	{"show queues", query_queues},
	{"show vmtas", query_vmtas},
	{"show providers", query_providers},
	{"show paused", query_paused},
	{"pause queue", query_pause},
	{"resume queue", query_resume},
	{"delete", query_delete},
	{"schedule", query_schedule},
	{"set queue", query_set_queue},
	{"disable source", query_disable_source},
	{"enable source", query_enable_source},
	{"show disabled sources", query_disabled},
	{"move", query_move},
	{"show pools", query_pools},
	{"reset pool", query_reset_pool},
	{"show warmup", query_warmup},
	{"set warmup", query_set_warmup},
};

static void answer(struct query *y)
{
	json_t *request = json_loads(y->request, 0, NULL);
	const char *name = json_string_value(json_object_get(request, "command"));
	size_t i;

	for (i = 0; name && i < ARRAY_SIZE(commands); i++)
		if (strcmp(commands[i].name, name) == 0)
			break;
	if (!name || i == ARRAY_SIZE(commands))
		query_fail(y,
			   "the spooler does not know that command: are sluice and sluiced of the "
			   "same version?");
	else
		commands[i].run(y, json_object_get(request, "args"));
	json_decref(request);
}

static void query_free(struct query *y)
{
	close(y->fd);
	free(y->request);
	free(y);
}

static void *run(void *arg)
{
	struct query *y = arg;
	struct queries *q = y->q;

	answer(y);
	pthread_mutex_lock(&q->lock);
	LIST_REMOVE(y, link);
	q->running--;
	query_free(y);
	pthread_cond_broadcast(&q->ended);
	pthread_mutex_unlock(&q->lock);
	return NULL;
}

static int start_thread(struct query *y)
{
	pthread_attr_t attr;
	sigset_t all, before;
	pthread_t thread;
	int rc;

	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	rc = pthread_create(&thread, &attr, run, y);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attr);
	return rc;
}

static void prepare(int fd)
{
	struct timeval t = {.tv_sec = WRITE_SEC};

	if (fd_set_nonblock(fd, false) < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof(t)) < 0)
		log_debug(NULL, "control connection", LOG_S("error", strerror(errno)));
}

void queries_run(struct queries *q, int fd, struct slice request, uint32_t uid)
{
	struct query *y = xcalloc(1, sizeof(*y));
	bool room;

	y->q = q;
	y->fd = fd;
	y->uid = uid;
	y->request = slice_dup(request);
	prepare(fd);
	pthread_mutex_lock(&q->lock);
	room = q->running < QUERIES_MAX;
	if (room) {
		q->running++;
		LIST_INSERT_HEAD(&q->list, y, link);
	}
	pthread_mutex_unlock(&q->lock);
	if (!room) {
		query_fail(y, "too many commands at a time: try again in a moment");
		query_free(y);
		return;
	}
	if (start_thread(y))
		run(y); /* without a thread: here and now */
}

struct queries *queries_new(struct spool *spool, struct shm *shm, struct committer *committer)
{
	struct queries *q = xcalloc(1, sizeof(*q));

	q->spool = spool;
	q->shm = shm;
	q->committer = committer;
	pthread_mutex_init(&q->lock, NULL);
	pthread_cond_init(&q->ended, NULL);
	LIST_INIT(&q->list);
	return q;
}

void queries_free(struct queries *q)
{
	struct query *y;

	if (!q)
		return;
	atomic_store(&q->stop, true);
	pthread_mutex_lock(&q->lock);
	LIST_FOREACH(y, &q->list, link)
		shutdown(y->fd, SHUT_RDWR);
	while (q->running)
		pthread_cond_wait(&q->ended, &q->lock);
	pthread_mutex_unlock(&q->lock);
	pthread_mutex_destroy(&q->lock);
	pthread_cond_destroy(&q->ended);
	free(q);
}
