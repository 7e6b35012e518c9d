/*
 * queries_pools.c - show pools, reset pool: the committer has the turns and counts, so it is asked in a job
 * of its own.
 */
#include <stdlib.h>
#include <time.h>

#include "common/base/err.h"
#include "common/base/xalloc.h"
#include "spooler/queries_private.h"

#define WAIT_STEP_SEC 1

/* Between a query's thread and the committer's; freed by whoever lets go last. */
struct inquiry {
	struct commit_job job;
	char *reset; /* name of the pool; NULL: show them */
	json_t *rows;
	int rc;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	unsigned users;
	bool answered;
};

static struct inquiry *inquiry_new(const char *reset)
{
	struct inquiry *x = xcalloc(1, sizeof(*x));

	x->reset = reset ? xstrdup(reset) : NULL;
	x->rows = json_array();
	x->users = 2;
	pthread_mutex_init(&x->lock, NULL);
	pthread_cond_init(&x->changed, NULL);
	return x;
}

static void inquiry_release(struct inquiry *x)
{
	unsigned users;

	pthread_mutex_lock(&x->lock);
	users = --x->users;
	pthread_mutex_unlock(&x->lock);
	if (users)
		return;
	json_decref(x->rows);
	free(x->reset);
	pthread_mutex_destroy(&x->lock);
	pthread_cond_destroy(&x->changed);
	free(x);
}

static void add_row(const struct commit_pool_row *row, void *arg)
{
	struct inquiry *x = arg;
	bool turn = strcmp(row->selection, "round-robin") != 0;

	json_array_append_new(
		x->rows, json_pack("{s:s, s:s, s:s, s:s, s:o, s:I, s:b, s:I}", "pool", row->pool,
				   "selection", row->selection, "reset_count",
				   row->daily ? "daily" : "never", "member", row->member, "share",
				   turn ? json_integer((json_int_t)row->share) : json_null(),
				   "recipients", (json_int_t)row->recipients, "next", row->next,
				   "used", (json_int_t)row->used));
}

static int run(struct commit *engine, struct spool_write *w, struct commit_job *j)
{
	struct inquiry *x = container_of(j, struct inquiry, job);

	json_array_clear(x->rows); /* a transaction that failed is run again */
	x->rc = x->reset ? commit_pool_reset(engine, w, slice_str(x->reset))
			 : commit_pools_show(engine, w, add_row, x);
	return x->rc == ERR_NOT_FOUND ? 0 : x->rc;
}

static void done(struct commit_job *j)
{
	struct inquiry *x = container_of(j, struct inquiry, job);

	pthread_mutex_lock(&x->lock);
	x->answered = true;
	pthread_cond_signal(&x->changed);
	pthread_mutex_unlock(&x->lock);
	inquiry_release(x);
}

/* False: the spooler ends before it was answered. */
static bool ask(struct query *y, struct inquiry *x)
{
	bool answered;

	x->job = (struct commit_job){.run = run, .done = done};
	committer_post(y->q->committer, &x->job);
	pthread_mutex_lock(&x->lock);
	while (!x->answered && !atomic_load(&y->q->stop)) {
		struct timespec until;

		clock_gettime(CLOCK_REALTIME, &until);
		until.tv_sec += WAIT_STEP_SEC;
		pthread_cond_timedwait(&x->changed, &x->lock, &until);
	}
	answered = x->answered;
	pthread_mutex_unlock(&x->lock);
	if (!answered)
		query_fail(y, "the daemon is stopping");
	return answered;
}

void query_pools(struct query *y, const json_t *args)
{
	struct inquiry *x = inquiry_new(NULL);
	size_t i;

	(void)args;
	if (ask(y, x)) {
		for (i = 0; i < json_array_size(x->rows); i++)
			query_data(y, json_incref(json_array_get(x->rows, i)));
		query_succeed(y);
	}
	inquiry_release(x);
}

void query_reset_pool(struct query *y, const json_t *args)
{
	struct inquiry *x = inquiry_new(arg_text(args, "pool"));

	if (ask(y, x)) {
		if (x->rc == ERR_NOT_FOUND) {
			query_fail(y, "there is no such pool: see show pools");
		} else {
			query_data(y, json_pack("{s:s}", "pool", x->reset));
			query_succeed(y);
		}
	}
	inquiry_release(x);
}
