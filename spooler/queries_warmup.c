/*
 * queries_warmup.c - show warmup, set warmup. The committer's thread, which has the configuration, looks
 * and changes; the query's thread asks it for a number of rows at a time.
 */
#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "common/base/err.h"
#include "common/base/localday.h"
#include "common/base/xalloc.h"
#include "spooler/queries_private.h"

#define WAIT_STEP_SEC 1

/* Between a query's thread and the committer's; freed by whoever lets go last. */
struct visit {
	struct commit_job job;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	unsigned users;
	bool done;

	/* show */
	struct commit_warmup_walk walk;
	struct spool_key from; /* of this part: a transaction that fails is run again */
	json_t *rows, *seen; /* seen: warm-up and address */
	int more;

	/* set */
	struct ip ip;
	struct commit_warmup_change change;
	struct warmup_setting set;
	char *refused;
};

static void visit_release(struct visit *v)
{
	unsigned users;

	pthread_mutex_lock(&v->lock);
	users = --v->users;
	pthread_mutex_unlock(&v->lock);
	if (users)
		return;
	json_decref(v->rows);
	json_decref(v->seen);
	free(v->refused);
	pthread_mutex_destroy(&v->lock);
	pthread_cond_destroy(&v->changed);
	free(v);
}

static void on_done(struct commit_job *j)
{
	struct visit *v = container_of(j, struct visit, job);

	pthread_mutex_lock(&v->lock);
	v->done = true;
	pthread_cond_signal(&v->changed);
	pthread_mutex_unlock(&v->lock);
	visit_release(v);
}

static struct visit *visit_new(int (*run)(struct commit *c, struct spool_write *w,
					  struct commit_job *j))
{
	struct visit *v = xcalloc(1, sizeof(*v));

	v->job = (struct commit_job){.run = run, .done = on_done};
	pthread_mutex_init(&v->lock, NULL);
	pthread_cond_init(&v->changed, NULL);
	v->users = 1;
	return v;
}

/* False: the spooler ends. */
static bool visit_go(struct query *y, struct visit *v)
{
	bool done;

	v->users++;
	v->done = false;
	committer_post(y->q->committer, &v->job);
	pthread_mutex_lock(&v->lock);
	while (!v->done && !atomic_load(&y->q->stop)) {
		struct timespec until;

		clock_gettime(CLOCK_REALTIME, &until);
		until.tv_sec += WAIT_STEP_SEC;
		pthread_cond_timedwait(&v->changed, &v->lock, &until);
	}
	done = v->done;
	pthread_mutex_unlock(&v->lock);
	if (!done)
		query_fail(y, "the daemon is stopping: ask again when it is back");
	return done;
}

/* --- show warmup --- */

static json_t *date_of(uint32_t day)
{
	char text[LOCALDAY_TEXT_MAX];

	return day ? json_string(localday_text(day, text)) : json_null();
}

static json_t *day_json(const struct warmup_day *d)
{
	return json_pack("{s:o, s:i, s:I, s:I, s:I, s:I, s:I, s:s}", "date", date_of(d->day), "day",
			 (int)d->step + 1, "number", (json_int_t)d->number, "used",
			 (json_int_t)d->granted, "attempted", (json_int_t)d->attempted, "transient",
			 (json_int_t)d->transient, "policy", (json_int_t)d->policy, "why",
			 warmup_why_text(d->why));
}

/* Days that are over, newest first: "100/100 48/50". */
static json_t *last_days(const struct warmup_row *row, json_t *days)
{
	struct buf b = BUF_INIT;
	json_t *text;

	for (size_t i = 1; i < row->count; i++) {
		const struct warmup_day *d = &row->days[i];

		json_array_append_new(days, day_json(d));
		buf_addf(&b, "%s%llu/%llu", b.n ? " " : "", (unsigned long long)d->attempted,
			 (unsigned long long)d->number);
	}
	text = json_string(buf_cstr(&b));
	buf_done(&b);
	return text;
}

static void add_row(const struct commit_warmup_state *s, void *arg)
{
	struct visit *v = arg;
	struct warmup_day first = {.number = s->rules->schedule.v[0]};
	const struct warmup_day *d = s->row.count ? &s->row.days[0] : &first;
	char ip[IP_TEXT_MAX], *key = xasprintf("%s %s", s->rules->name, ip_text(&s->ip, ip));
	json_t *row = day_json(d), *days = json_array();
	uint64_t left = d->number > d->granted ? d->number - d->granted : 0;

	if (s->site.n || !json_object_get(v->seen, key)) {
		json_object_set_new(row, "ip", json_string(ip));
		json_object_set_new(row, "vmta", json_string(s->vmta));
		json_object_set_new(row, "warm_up", json_string(s->rules->name));
		json_object_set_new(row, "provider", json_string(s->rules->provider));
		json_object_set_new(row, "site", json_stringn(s->site.p, s->site.n));
		json_object_set_new(row, "left", json_integer((json_int_t)left));
		json_object_set_new(row, "paused", json_boolean(s->set.paused));
		json_object_set_new(row, "last_days", last_days(&s->row, days));
		json_object_set(row, "days", days);
		json_array_append(v->rows, row);
	}
	json_object_set_new(v->seen, key, json_true());
	json_decref(days);
	json_decref(row);
	free(key);
}

static int run_show(struct commit *c, struct spool_write *w, struct commit_job *j)
{
	struct visit *v = container_of(j, struct visit, job);

	json_array_clear(v->rows);
	v->walk.after = v->from;
	v->more = commit_warmup_show(c, w, &v->walk);
	if (v->more == 0)
		commit_warmup_unused(c, &v->walk);
	return 0; /* a row that cannot be read is no reason to fail the transaction */
}

void query_warmup(struct query *y, const json_t *args ATTR_UNUSED)
{
	struct visit *v = visit_new(run_show);
	size_t i;

	v->from.n = 0;
	v->rows = json_array();
	v->seen = json_object();
	v->walk.each = add_row;
	v->walk.arg = v;
	v->more = 1;
	while (v->more > 0 && !y->cut && visit_go(y, v)) {
		for (i = 0; i < json_array_size(v->rows); i++)
			query_data(y, json_incref(json_array_get(v->rows, i)));
		v->from = v->walk.after;
	}
	if (v->more == 0)
		query_succeed(y);
	else if (v->more < 0)
		query_fail(y, "the spool cannot be read: run sluice spool check");
	visit_release(v);
}

/* --- set warmup --- */

static int run_set(struct commit *c, struct spool_write *w, struct commit_job *j)
{
	struct visit *v = container_of(j, struct visit, job);

	free(v->refused);
	return commit_warmup_set(c, w, &v->ip, &v->change, &v->set, &v->refused);
}

/* NULL: nothing is wrong. */
static const char *read_change(const json_t *args, struct visit *v)
{
	v->change = (struct commit_warmup_change){.day = arg_number(args, "day"),
						  .pause = arg_flag(args, "pause"),
						  .resume = arg_flag(args, "resume")};
	if (!ip_parse(slice_str(arg_text(args, "ip")), &v->ip))
		return "name a source address: set warmup 198.51.100.30 --day 3";
	if (json_object_get(args, "day") && v->change.day == 0)
		return "days are counted from 1";
	if (v->change.pause && v->change.resume)
		return "either pause or resume";
	if (!v->change.day && !v->change.pause && !v->change.resume)
		return "say what to set: --day, --pause or --resume";
	return NULL;
}

void query_set_warmup(struct query *y, const json_t *args)
{
	struct visit *v = visit_new(run_set);
	const char *wrong = read_change(args, v);

	if (wrong) {
		query_fail(y, wrong);
	} else if (visit_go(y, v)) {
		if (v->refused) {
			query_fail(y, v->refused);
		} else {
			query_data(y, json_pack("{s:I, s:b}", "day", (json_int_t)v->change.day,
						"paused", v->set.paused));
			query_succeed(y);
		}
	}
	visit_release(v);
}
