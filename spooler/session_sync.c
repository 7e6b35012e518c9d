#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/err.h"
#include "common/base/xalloc.h"
#include "spooler/session_private.h"

/* A sync of 20 MB takes long; two threads keep a second message from waiting behind it. */
#define SYNC_THREADS 2

struct session_sync {
	struct intake *intake;
	int dir_fd;
	pthread_t threads[SYNC_THREADS];
	pthread_mutex_t lock;
	pthread_cond_t work;
	struct intake_message *first, **last; /* under lock */
	bool ending; /* under lock */
};

static int sync_result(int err)
{
	return err == ENOSPC || err == EDQUOT ? ERR_DISK_FULL : ERR_IO;
}

static void sync_one(struct session_sync *y, struct intake_message *m)
{
	struct session_mail *mail = container_of(m, struct session_mail, m);
	int fd = mail->big_fd;

	mail->big_fd = -1;
	if (fsync(fd) < 0 || fsync(y->dir_fd) < 0)
		m->result = sync_result(errno);
	if (close(fd) < 0 && errno != EINTR && m->result == 0)
		m->result = sync_result(errno);
	if (m->result)
		m->done(m);
	else
		intake_post(y->intake, m);
}

static void *sync_main(void *arg)
{
	struct session_sync *y = arg;

	pthread_mutex_lock(&y->lock);
	for (;;) {
		struct intake_message *m = y->first;

		if (m) {
			y->first = m->next;
			if (!y->first)
				y->last = &y->first;
			m->next = NULL;
			pthread_mutex_unlock(&y->lock);
			sync_one(y, m);
			pthread_mutex_lock(&y->lock);
		} else if (y->ending) {
			break;
		} else {
			pthread_cond_wait(&y->work, &y->lock);
		}
	}
	pthread_mutex_unlock(&y->lock);
	return NULL;
}

struct session_sync *session_sync_new(struct intake *intake, const char *dir)
{
	struct session_sync *y = xcalloc(1, sizeof(*y));
	int i, err;

	y->intake = intake;
	y->last = &y->first;
	y->dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (y->dir_fd < 0)
		fatal("%s: %s; big messages are kept there: it must be a directory of the spool",
		      dir, strerror(errno));
	pthread_mutex_init(&y->lock, NULL);
	pthread_cond_init(&y->work, NULL);
	for (i = 0; i < SYNC_THREADS; i++) {
		err = pthread_create(&y->threads[i], NULL, sync_main, y);
		if (err)
			fatal("cannot start a thread: %s", strerror(err));
	}
	return y;
}

void session_sync_free(struct session_sync *y)
{
	int i;

	if (!y)
		return;
	pthread_mutex_lock(&y->lock);
	y->ending = true;
	pthread_cond_broadcast(&y->work);
	pthread_mutex_unlock(&y->lock);
	for (i = 0; i < SYNC_THREADS; i++)
		pthread_join(y->threads[i], NULL);
	pthread_cond_destroy(&y->work);
	pthread_mutex_destroy(&y->lock);
	close(y->dir_fd);
	free(y);
}

void session_sync_post(struct session_sync *y, struct session_mail *mail)
{
	pthread_mutex_lock(&y->lock);
	mail->m.next = NULL;
	*y->last = &mail->m;
	y->last = &mail->m.next;
	pthread_cond_signal(&y->work);
	pthread_mutex_unlock(&y->lock);
}
