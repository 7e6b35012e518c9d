/*
 * queries_change.c - what operators change: orders for the committer, and waiting until they are carried
 * out. A client that goes away changes nothing about that.
 */
#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "common/base/err.h"
#include "common/base/xalloc.h"
#include "spooler/queries_private.h"

#define WAIT_STEP_SEC 1
#define PROGRESS_EVERY (200 * USEC_PER_MSEC)
#define CHUNK 500

/* Between a query's thread and the committer's; freed by whoever lets go last. */
struct errand {
	struct commit_job job;
	struct order order;
	struct committer *committer;
	char *texts[7];
	pthread_mutex_t lock;
	pthread_cond_t changed;
	unsigned users;
	bool refused; /* there is nobody to move it to */
	bool stray; /* it names a virtual MTA that is not configured */
	bool answered, moved; /* the result is there; or how far it is */
	struct commit_order_result result;
};

static void errand_release(struct errand *e)
{
	unsigned users;
	size_t i;

	pthread_mutex_lock(&e->lock);
	users = --e->users;
	pthread_mutex_unlock(&e->lock);
	if (users)
		return;
	for (i = 0; i < ARRAY_SIZE(e->texts); i++)
		free(e->texts[i]);
	pthread_mutex_destroy(&e->lock);
	pthread_cond_destroy(&e->changed);
	free(e);
}

static void on_answer(void *arg, const struct commit_order_result *r)
{
	struct errand *e = arg;

	pthread_mutex_lock(&e->lock);
	e->result = *r;
	e->answered = !r->more;
	e->moved = r->more;
	pthread_cond_signal(&e->changed);
	pthread_mutex_unlock(&e->lock);
	if (!r->more)
		errand_release(e);
}

/* Of a pattern DOMAIN/VMTA: "" when that is a pattern, too. */
static struct slice vmta_of(struct slice pattern)
{
	ptrdiff_t slash = slice_rchr(pattern, '/');
	struct slice vmta = slice_from(pattern, (size_t)(slash + 1));

	return slice_chr(vmta, '*') < 0 && slice_chr(vmta, '?') < 0 ? vmta : slice_of("", 0);
}

static int run_errand(struct commit *engine, struct spool_write *w, struct commit_job *j)
{
	struct errand *e = container_of(j, struct errand, job);

	struct slice vmta = vmta_of(e->order.filter.queue);

	e->stray = vmta.n && !commit_has_vmta(engine, vmta);
	e->refused = e->order.kind == ORDER_MOVE && !commit_has_route(engine, e->order.target);
	return e->refused ? 0 : commit_order_add(engine, w, &e->order, on_answer, e);
}

/* The committer has let go of the job. */
static void errand_done(struct commit_job *j)
{
	static const struct commit_order_result unknown = {.rc = ERR_NOT_FOUND};
	struct errand *e = container_of(j, struct errand, job);

	if (e->refused)
		on_answer(e, &unknown);
}

static void errand_refuse(struct commit_job *j)
{
	static const struct commit_order_result full = {.rc = ERR_DISK_FULL};

	on_answer(container_of(j, struct errand, job), &full);
}

static struct slice keep(struct errand *e, size_t i, char *text)
{
	e->texts[i] = text;
	return slice_str(text);
}

static struct errand *errand_new(struct query *y, enum order_kind kind, const json_t *args)
{
	struct errand *e = xcalloc(1, sizeof(*e));
	uint64_t older = arg_number(args, "older_than") * MSEC_PER_SEC;
	msec_t now = clock_wall();

	e->job = (struct commit_job){
		.run = run_errand, .done = errand_done, .refuse = errand_refuse};
	e->committer = y->q->committer;
	pthread_mutex_init(&e->lock, NULL);
	pthread_cond_init(&e->changed, NULL);
	e->users = 1;
	e->order = (struct order){.kind = kind, .created = now};
	e->order.filter.queue = keep(e, 0, arg_pattern(args, "queue"));
	e->order.filter.job = keep(e, 1, xstrdup(arg_text(args, "job")));
	e->order.filter.sender = keep(e, 2, xstrdup(arg_text(args, "orig")));
	e->order.filter.rcpt = keep(e, 3, xstrdup(arg_text(args, "rcpt")));
	e->order.filter.envid = keep(e, 4, xstrdup(arg_text(args, "envid")));
	e->order.who = keep(e, 5, xasprintf("uid %u", y->uid));
	e->order.reason = keep(e, 6, xstrdup(arg_text(args, "reason")));
	if (older)
		e->order.filter.received_before = older < now ? now - older : 1;
	return e;
}

/* Waits until something has changed, or for a while. With the lock. */
static void wait_for_news(struct errand *e)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += WAIT_STEP_SEC;
	pthread_cond_timedwait(&e->changed, &e->lock, &until);
}

/* Tells the client how far it is. The lock is let go for that. */
static void report_progress(struct query *y, struct errand *e, usec_t *said)
{
	const char *what = e->order.kind == ORDER_DELETE ? "deleted"
			   : e->order.kind == ORDER_MOVE ? "moved"
							 : "recipients";
	json_int_t done = (json_int_t)e->result.done;

	if (*said && clock_now() < *said + PROGRESS_EVERY)
		return;
	*said = clock_now();
	e->moved = false;
	pthread_mutex_unlock(&e->lock);
	query_line(y, json_pack("{s:{s:I}}", "progress", what, done));
	pthread_mutex_lock(&e->lock);
}

/* False: it is not carried out, and the client knows: the spool is full, or the spooler ends. */
static bool give_order(struct query *y, struct errand *e, struct commit_order_result *ret)
{
	bool answered;
	usec_t said = 0;

	e->users++;
	committer_post(e->committer, &e->job);
	pthread_mutex_lock(&e->lock);
	while (!e->answered && !atomic_load(&y->q->stop)) {
		wait_for_news(e);
		if (e->moved && !e->answered)
			report_progress(y, e, &said);
	}
	answered = e->answered;
	*ret = e->result;
	pthread_mutex_unlock(&e->lock);
	if (!answered)
		query_fail(y, "the daemon is stopping; the order is stored and goes on at its next "
			      "start");
	else if (ret->rc == ERR_DISK_FULL)
		query_fail(y,
			   "the spool has no room to store this order: nothing was changed; free "
			   "disk space (see show status), then give it again");
	return answered && ret->rc != ERR_DISK_FULL;
}

static bool needs_queue(struct query *y, const struct errand *e)
{
	if (e->order.filter.queue.n)
		return true;
	query_fail(y, "name the queues: DOMAIN/VMTA, * stands for any characters");
	return false;
}

/* How many queues it concerns now, and whether there can be any: the answer to what holds for later ones, too. */
static void answer_order(struct query *y, const struct errand *e)
{
	struct slice queue = e->order.filter.queue, vmta = vmta_of(queue);
	enum order_kind kind = e->order.kind;
	bool later = kind == ORDER_PAUSE || kind == ORDER_BACKOFF || kind == ORDER_DISABLE_SOURCE;
	json_t *data = json_pack("{s:I, s:b}", "queues", (json_int_t)count_live_queues(y, queue),
				 "later", later);

	if (e->stray)
		json_object_set_new(data, "unknown_vmta", json_stringn(vmta.p, vmta.n));
	query_data(y, data);
	query_succeed(y);
}

void query_pause(struct query *y, const json_t *args)
{
	struct errand *e = errand_new(y, ORDER_PAUSE, args);
	struct commit_order_result r;

	if (needs_queue(y, e) && give_order(y, e, &r))
		answer_order(y, e);
	errand_release(e);
}

void query_resume(struct query *y, const json_t *args)
{
	struct errand *e = errand_new(y, ORDER_RESUME, args);
	struct commit_order_result r;

	if (needs_queue(y, e) && give_order(y, e, &r)) {
		if (r.removed == 0) {
			query_fail(y,
				   "no stored pause has that pattern or is covered by it: see show "
				   "paused");
		} else {
			answer_order(y, e);
		}
	}
	errand_release(e);
}

void query_schedule(struct query *y, const json_t *args)
{
	struct errand *e = errand_new(y, ORDER_SCHEDULE, args);
	struct commit_order_result r;

	e->order.retry_recipients = arg_flag(args, "retry_recipients");
	e->order.no_spread = arg_flag(args, "no_spread");
	if (needs_queue(y, e) && give_order(y, e, &r)) {
		query_data(y,
			   json_pack("{s:I, s:I, s:I}", "queues", (json_int_t)r.queues, "matching",
				     (json_int_t)r.matching, "recipients", (json_int_t)r.done));
		query_succeed(y);
	}
	errand_release(e);
}

/* --- mode and sources of sites --- */

static void give_and_count(struct query *y, struct errand *e)
{
	struct commit_order_result r;

	if (needs_queue(y, e) && give_order(y, e, &r))
		answer_order(y, e);
}

void query_set_queue(struct query *y, const json_t *args)
{
	const char *mode = arg_text(args, "mode");
	bool backoff = strcmp(mode, "backoff") == 0;
	struct errand *e;

	if (!backoff && strcmp(mode, "normal") != 0) {
		query_fail(y, "say which mode: normal or backoff");
		return;
	}
	e = errand_new(y, backoff ? ORDER_BACKOFF : ORDER_NORMAL, args);
	give_and_count(y, e);
	errand_release(e);
}

static void source_order(struct query *y, enum order_kind kind, const json_t *args)
{
	uint64_t after = arg_number(args, "reenable_after");
	struct errand *e = errand_new(y, kind, args);

	if (!ip_parse(slice_str(arg_text(args, "source")), &e->order.source)) {
		query_fail(y, "name the source by its IP address");
	} else {
		if (after && kind == ORDER_DISABLE_SOURCE)
			e->order.until = e->order.created + after * MSEC_PER_SEC;
		give_and_count(y, e);
	}
	errand_release(e);
}

void query_disable_source(struct query *y, const json_t *args)
{
	source_order(y, ORDER_DISABLE_SOURCE, args);
}

void query_enable_source(struct query *y, const json_t *args)
{
	source_order(y, ORDER_ENABLE_SOURCE, args);
}

/* --- delete and move --- */

/* Recipients of one message that the filter takes, but those that are where they should go. */
static uint64_t count_message(struct spool_read *r, const struct order_filter *f,
			      struct slice not_vmta, const struct spool_message *m)
{
	struct spool_recipient rcpt;
	struct order_queue names;
	struct spool_queue q;
	struct spool_vmta v;
	uint32_t from = 0;
	uint64_t n = 0;

	while (spool_message_recipient(r, m->id, &from, &rcpt) > 0) {
		if (spool_queue_get(r, rcpt.queue, &q) < 0 || spool_vmta_get(r, q.vmta, &v) < 0)
			continue;
		if (slice_ieq(v.name, not_vmta))
			continue;
		names = (struct order_queue){q.domain, q.provider, v.name};
		n += order_filter_match_queue(f, &names, m->job, m->sender, rcpt.address, m->envid,
					      m->received);
	}
	return n;
}

static bool count_matches(struct query *y, const struct order_filter *f, struct slice not_vmta,
			  uint64_t *ret)
{
	struct spool_message m;
	uint64_t after = 0;
	int more = 1, i;

	*ret = 0;
	while (more != 0 && !atomic_load(&y->q->stop)) {
		struct spool_read *r;

		if (spool_read_begin(y->q->spool, &r) < 0)
			break;
		for (i = 0; i < CHUNK && (more = spool_message_next(r, &after, &m)) != 0; i++)
			if (more > 0)
				*ret += count_message(r, f, not_vmta, &m);
		spool_read_end(r);
	}
	return more == 0;
}

static void dry_run(struct query *y, const struct errand *e, const char *key)
{
	uint64_t n;

	if (!count_matches(y, &e->order.filter, e->order.target, &n)) {
		query_fail(y, "the spool cannot be read now: try again in a moment");
		return;
	}
	query_data(y, json_pack("{s:I}", key, (json_int_t)n));
	query_succeed(y);
}

static bool has_filter(const struct order_filter *f)
{
	return f->queue.n || f->job.n || f->sender.n || f->rcpt.n || f->envid.n ||
	       f->received_before;
}

void query_delete(struct query *y, const json_t *args)
{
	struct errand *e = errand_new(y, ORDER_DELETE, args);
	struct commit_order_result r;

	e->order.dsn = arg_flag(args, "dsn");
	e->order.no_accounting = arg_flag(args, "no_accounting");
	if (!has_filter(&e->order.filter)) {
		query_fail(y, "say what to delete: at least one filter, such as queue or job");
	} else if (arg_flag(args, "dry_run")) {
		dry_run(y, e, "would_delete");
	} else {
		/* mail that comes after the command is not meant */
		if (!e->order.filter.received_before)
			e->order.filter.received_before = e->order.created + 1;
		if (give_order(y, e, &r)) {
			query_data(y, json_pack("{s:I, s:I}", "deleted", (json_int_t)r.done,
						"in_flight", (json_int_t)r.held));
			query_succeed(y);
		}
	}
	errand_release(e);
}

static void move(struct query *y, struct errand *e)
{
	struct commit_order_result r;

	/* mail that comes after the command is not meant */
	if (!e->order.filter.received_before)
		e->order.filter.received_before = e->order.created + 1;
	if (!give_order(y, e, &r))
		return;
	if (r.rc == ERR_NOT_FOUND) {
		query_fail(y, "there is no such virtual MTA or pool: see show vmtas, show pools");
		return;
	}
	query_data(y, json_pack("{s:I, s:I}", "moved", (json_int_t)r.done, "in_flight",
				(json_int_t)r.held));
	query_succeed(y);
}

void query_move(struct query *y, const json_t *args)
{
	struct errand *e = errand_new(y, ORDER_MOVE, args);

	e->order.target = keep(e, 6, xstrdup(arg_text(args, "to_vmta")));
	if (!has_filter(&e->order.filter))
		query_fail(y, "say what to move: at least one filter, such as queue or job");
	else if (e->order.target.n == 0)
		query_fail(y, "say where to: --to-vmta and a virtual MTA or pool");
	else if (arg_flag(args, "dry_run"))
		dry_run(y, e, "would_move");
	else
		move(y, e);
	errand_release(e);
}
