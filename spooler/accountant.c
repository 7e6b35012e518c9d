#include "spooler/accountant.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "common/acct/record.h"
#include "common/base/buf.h"
#include "common/base/err.h"
#include "common/base/log.h"
#include "common/base/xalloc.h"
#include "spooler/accountant_file.h"
#include "spooler/accountant_finish.h"

#define BATCH 1000
#define READ_LONG (80 * USEC_PER_MSEC) /* a read ends after 100 ms, whatever is left */
#define PACE (100 * USEC_PER_MSEC) /* between rounds: one fdatasync then covers more lines */
#define TICK USEC_PER_SEC
#define COMPLAIN_EVERY (60 * USEC_PER_SEC)
#define DRAIN_WAITS 60 /* of DRAIN_STEP each: 3 s */
#define DRAIN_STEP (50 * USEC_PER_MSEC)

enum { EVENT_WAKE = 1, EVENT_COMMIT = 2, EVENT_RELOAD = 4, EVENT_STOP = 8 };

/* Name of a checkpoint that nobody needs any more. */
struct gone {
	char *name;
	uint64_t seq; /* its rows up to here are in its file */
	bool posted;
	struct gone *next;
};

struct accountant {
	unsigned magic;
#define ACCOUNTANT_MAGIC 0xacc07a27u
	struct accountant_source source;
	pthread_t thread;

	pthread_mutex_t lock; /* guards events and new_conf */
	pthread_cond_t changed;
	unsigned events;
	const struct conf *new_conf;

	_Atomic usec_t heartbeat;

	/* the thread's own */
	const struct conf *conf;
	struct out **outs;
	size_t out_count;
	struct gone *gone;
	struct finisher *finisher;
	struct accountant_commit commit;
	struct buf commit_text;
	struct accountant_state *states;
	bool commit_busy;
	uint64_t dropped; /* rows up to here were dropped */
	usec_t commit_retry_at, complain_at;
};

static const struct log_ctx ctx = {.object = "thread", .name = "accountant"};

/* --- events --- */

static void event_send(struct accountant *a, unsigned event)
{
	pthread_mutex_lock(&a->lock);
	a->events |= event;
	pthread_cond_broadcast(&a->changed);
	pthread_mutex_unlock(&a->lock);
}

static bool event_take(struct accountant *a, unsigned event)
{
	bool there;

	pthread_mutex_lock(&a->lock);
	there = a->events & event;
	a->events &= ~event;
	pthread_mutex_unlock(&a->lock);
	return there;
}

/* Waits for one of these events, at most for a time; takes none. */
static void event_wait(struct accountant *a, unsigned events, usec_t at_most)
{
	struct timespec until;
	uint64_t ns;

	clock_gettime(CLOCK_MONOTONIC, &until);
	ns = (uint64_t)until.tv_nsec + at_most % USEC_PER_SEC * 1000;
	until.tv_sec += (time_t)(at_most / USEC_PER_SEC + ns / 1000000000);
	until.tv_nsec = (long)(ns % 1000000000);
	pthread_mutex_lock(&a->lock);
	while (!(a->events & events))
		if (pthread_cond_timedwait(&a->changed, &a->lock, &until) == ETIMEDOUT)
			break;
	pthread_mutex_unlock(&a->lock);
}

/* True once a minute, so that lasting trouble does not fill the log. */
static bool may_complain(struct accountant *a, usec_t now)
{
	if (now < a->complain_at)
		return false;
	a->complain_at = now + COMPLAIN_EVERY;
	return true;
}

/* --- rows to files --- */

struct batch {
	struct accountant *a;
	uint64_t from; /* files at this sequence take part */
	bool stop;
	usec_t now;
};

static bool takes_part(const struct batch *b, const struct out *o)
{
	return o->written.seq == b->from && o->phase == OUT_OPEN && b->now >= o->retry_at;
}

static void on_row(void *arg, uint64_t seq, struct slice payload)
{
	struct batch *b = arg;
	struct acct_record rec;
	int rc;

	if (b->stop)
		return;
	rc = acct_record_decode(payload, &rec);
	if (rc == ERR_VERSION) {
		/* Written by a newer program: it must not be skipped. */
		b->stop = true;
		if (may_complain(b->a, b->now))
			log_error(&ctx,
				  "a newer version of Sluice wrote accounting records that this "
				  "one does "
				  "not know; they wait until it runs again",
				  LOG_U("seq", seq));
		return;
	}
	if (rc)
		log_error(&ctx, "an accounting record in the spool is damaged; it is left out",
			  LOG_U("seq", seq));
	for (size_t i = 0; i < b->a->out_count; i++)
		if (takes_part(b, b->a->outs[i]))
			out_add(b->a->outs[i], rc ? NULL : &rec, seq);
}

/* One batch of rows for all files that stand where o stands. True when there may be more. */
static bool batch_read(struct accountant *a, const struct out *o, usec_t now)
{
	struct batch b = {.a = a, .from = o->written.seq, .now = now};
	usec_t begun = clock_now();
	long n = a->source.read(a->source.arg, b.from, BATCH, on_row, &b);
	bool cut_short = clock_now() - begun >= READ_LONG;

	if (n < 0 && may_complain(a, now))
		log_error(&ctx, "cannot read accounting records from the spool; trying again",
			  LOG_S("error", err_text((int)n)));
	for (size_t i = 0; i < a->out_count; i++)
		if (takes_part(&b, a->outs[i]))
			out_flush(a->outs[i], now);
	return !b.stop && (n >= BATCH || (n > 0 && cut_short));
}

/*
 * Files that stand at the same row share a batch; one that was in trouble catches up by itself. A
 * file that wrote has moved on and stands elsewhere, so it is remembered who had a turn.
 */
static bool files_feed(struct accountant *a, usec_t now)
{
	bool more = false, *had = xcalloc(a->out_count + 1, sizeof(*had));

	for (size_t i = 0; i < a->out_count; i++) {
		uint64_t from = a->outs[i]->written.seq;

		if (had[i] || !out_ready(a->outs[i], now))
			continue;
		for (size_t k = i; k < a->out_count; k++)
			if (a->outs[k]->written.seq == from)
				had[k] = true;
		more |= batch_read(a, a->outs[i], now);
	}
	free(had);
	return more;
}

/* --- checkpoints --- */

static void on_commit_done(struct accountant_commit *c)
{
	struct accountant *a = container_of(c, struct accountant, commit);

	event_send(a, EVENT_COMMIT);
}

/* Rows up to here are in all files, or no file wants them. */
static uint64_t drop_point(struct accountant *a)
{
	uint64_t least = UINT64_MAX;

	if (!a->out_count)
		return a->source.last(a->source.arg);
	for (size_t i = 0; i < a->out_count; i++)
		if (a->outs[i]->synced.at.seq < least)
			least = a->outs[i]->synced.at.seq;
	return least;
}

/* Collects names and values in one buffer; slices are made when it no longer moves. */
static void states_collect(struct accountant *a, size_t max)
{
	size_t(*ends)[2] = xcalloc(max + 1, sizeof(*ends)), n = 0, at = 0;

	buf_clear(&a->commit_text);
	for (size_t i = 0; i < a->out_count; i++) {
		struct out *o = a->outs[i];

		o->posted = o->dirty;
		if (!o->dirty)
			continue;
		o->dirty = false;
		buf_add_slice(&a->commit_text, buf_slice(&o->name));
		ends[n][0] = a->commit_text.n;
		out_state_encode(o, &a->commit_text);
		ends[n++][1] = a->commit_text.n;
	}
	for (struct gone *g = a->gone; g; g = g->next) {
		g->posted = true;
		buf_add_str(&a->commit_text, g->name);
		ends[n][0] = ends[n][1] = a->commit_text.n;
		n++;
	}
	a->states = xreallocarray(a->states, n + 1, sizeof(*a->states));
	for (size_t i = 0; i < n; i++) {
		a->states[i].name = slice_of(a->commit_text.p + at, ends[i][0] - at);
		a->states[i].value =
			slice_of(a->commit_text.p + ends[i][0], ends[i][1] - ends[i][0]);
		at = ends[i][1];
	}
	free(ends);
	a->commit.states = a->states;
	a->commit.state_count = n;
}

static void checkpoint_post(struct accountant *a, usec_t now)
{
	uint64_t drop = drop_point(a);
	size_t changed = 0;

	if (a->commit_busy || now < a->commit_retry_at)
		return;
	for (size_t i = 0; i < a->out_count; i++)
		changed += a->outs[i]->dirty;
	for (struct gone *g = a->gone; g; g = g->next)
		changed++;
	if (!changed && drop <= a->dropped)
		return;
	states_collect(a, changed);
	a->commit.drop_through = drop > a->dropped ? drop : 0;
	a->commit.result = 0;
	a->commit.done = on_commit_done;
	a->commit_busy = true;
	a->source.post(a->source.arg, &a->commit);
}

static void gone_free_posted(struct accountant *a, bool all)
{
	struct gone **p = &a->gone;

	while (*p) {
		struct gone *g = *p;

		if (!g->posted && !all) {
			p = &g->next;
			continue;
		}
		*p = g->next;
		free(g->name);
		free(g);
	}
}

static void commit_failed(struct accountant *a, usec_t now)
{
	a->commit_retry_at = now + TICK;
	for (size_t i = 0; i < a->out_count; i++)
		a->outs[i]->dirty |= a->outs[i]->posted;
	for (struct gone *g = a->gone; g; g = g->next)
		g->posted = false;
	if (may_complain(a, now))
		log_error(&ctx, "cannot store how far the accounting files are; trying again",
			  LOG_S("error", err_text(a->commit.result)));
}

static void commit_take(struct accountant *a)
{
	usec_t now = clock_now();
	bool finished = false;

	if (!a->commit_busy || !event_take(a, EVENT_COMMIT))
		return;
	a->commit_busy = false;
	if (a->commit.result) {
		commit_failed(a, now);
	} else {
		if (a->commit.drop_through)
			a->dropped = a->commit.drop_through;
		gone_free_posted(a, false);
		for (size_t i = 0; i < a->out_count; i++)
			if (a->outs[i]->posted && a->outs[i]->phase == OUT_BEGINNING)
				finished |= out_begun(a->outs[i], now);
	}
	for (size_t i = 0; i < a->out_count; i++)
		a->outs[i]->posted = false;
	if (finished)
		finisher_poke(a->finisher);
}

/* --- rounds --- */

/* True when there is more to do at once. */
static bool accountant_round(struct accountant *a)
{
	usec_t now = clock_now();
	bool more;

	atomic_store_explicit(&a->heartbeat, now, memory_order_relaxed);
	commit_take(a);
	for (size_t i = 0; i < a->out_count; i++)
		out_prepare(a->outs[i], now);
	more = files_feed(a, now);
	checkpoint_post(a, now);
	return more;
}

static bool any_beginning(const struct accountant *a)
{
	for (size_t i = 0; i < a->out_count; i++)
		if (a->outs[i]->phase == OUT_BEGINNING)
			return true;
	return false;
}

/* All that can be written up to this row is written and stored. */
static bool caught_up(const struct accountant *a, uint64_t target)
{
	usec_t now = clock_now();

	if (a->commit_busy || a->gone)
		return false;
	for (size_t i = 0; i < a->out_count; i++) {
		const struct out *o = a->outs[i];

		if (o->phase == OUT_CLOSED && now < o->retry_at)
			continue; /* in trouble: not waited for */
		if (o->phase != OUT_OPEN || o->dirty || o->synced.at.seq < target)
			return false;
	}
	return true;
}

static void drain(struct accountant *a)
{
	uint64_t target = a->source.last(a->source.arg);
	unsigned waits = 0;

	while (waits < DRAIN_WAITS) {
		if (accountant_round(a))
			continue;
		if (caught_up(a, target))
			return;
		event_wait(a, EVENT_COMMIT, DRAIN_STEP);
		waits++;
	}
}

/* --- configuration --- */

static struct out *out_find(const struct accountant *a, struct slice name)
{
	for (size_t i = 0; i < a->out_count; i++)
		if (slice_eq(buf_slice(&a->outs[i]->name), name))
			return a->outs[i];
	return NULL;
}

static void gone_add(struct accountant *a, struct slice name, uint64_t seq)
{
	struct gone *g = xcalloc(1, sizeof(*g));

	g->name = slice_dup(name);
	g->seq = seq;
	g->next = a->gone;
	a->gone = g;
}

/* The name is in use again: its checkpoint must not be deleted any more. */
static void gone_forget(struct accountant *a, struct slice name)
{
	struct gone **p = &a->gone;

	while (*p && !slice_eq_str(name, (*p)->name))
		p = &(*p)->next;
	if (*p) {
		struct gone *g = *p;

		*p = g->next;
		free(g->name);
		free(g);
	}
}

/*
 * A file that is new takes over where the slowest of those that left had come to: a changed path
 * loses no record. None left: `otherwise`.
 */
static uint64_t start_of_new(const struct accountant *a, uint64_t otherwise)
{
	uint64_t least = UINT64_MAX;

	for (const struct gone *g = a->gone; g; g = g->next)
		if (g->seq < least)
			least = g->seq;
	return least == UINT64_MAX ? otherwise : least;
}

static void on_state(void *arg, struct slice name, struct slice value)
{
	struct accountant *a = arg;
	struct out_state s = {0};
	struct out *o = out_find(a, name);
	int rc = value.n ? out_state_decode(value, &s) : ERR_CORRUPT;

	if (rc)
		log_error(&ctx,
			  "the stored position of an accounting file cannot be read; a new file is "
			  "begun",
			  LOG_SL("file", name), LOG_S("error", err_text(rc)));
	else if (o)
		out_restore(o, &s);
	if (!o)
		gone_add(a, name, s.at.seq);
}

static void outs_make(struct accountant *a)
{
	a->out_count = conf_acct_file_count(a->conf);
	a->outs = xcalloc(a->out_count + 1, sizeof(*a->outs));
	for (size_t i = 0; i < a->out_count; i++)
		a->outs[i] = out_new(conf_acct_file_at(a->conf, i));
}

/* False: told to stop before the spool could be read. */
static bool states_load(struct accountant *a)
{
	int rc;

	while ((rc = a->source.load(a->source.arg, on_state, a))) {
		gone_free_posted(a, true);
		log_error(
			&ctx,
			"cannot read from the spool how far the accounting files are; trying again",
			LOG_S("error", err_text(rc)));
		event_wait(a, EVENT_STOP, TICK);
		atomic_store_explicit(&a->heartbeat, clock_now(), memory_order_relaxed);
		pthread_mutex_lock(&a->lock);
		rc = a->events & EVENT_STOP;
		pthread_mutex_unlock(&a->lock);
		if (rc)
			return false;
	}
	for (size_t i = 0; i < a->out_count; i++) {
		struct out_state begin = {.at.seq = start_of_new(a, 0)};

		if (!a->outs[i]->synced.at.inode)
			out_restore(a->outs[i], &begin);
	}
	return true;
}

static struct out *out_keep(struct accountant *a, struct out **old, size_t n,
			    const struct conf_acct_file *c)
{
	struct out *o;

	for (size_t i = 0; i < n; i++) {
		if (!old[i] || strcmp(old[i]->path, c->path) != 0)
			continue;
		o = old[i];
		old[i] = NULL;
		out_configure(o, c);
		return o;
	}
	o = out_new(c);
	gone_forget(a, buf_slice(&o->name));
	return o;
}

static void outs_replace(struct accountant *a, const struct conf *conf)
{
	struct out **old = a->outs;
	size_t n = a->out_count;
	struct out_state begin = {0};

	a->conf = conf;
	a->out_count = conf_acct_file_count(conf);
	a->outs = xcalloc(a->out_count + 1, sizeof(struct out *));
	for (size_t i = 0; i < a->out_count; i++)
		a->outs[i] = out_keep(a, old, n, conf_acct_file_at(conf, i));
	for (size_t i = 0; i < n; i++) {
		if (!old[i])
			continue;
		gone_add(a, buf_slice(&old[i]->name), old[i]->synced.at.seq);
		out_free(old[i]);
	}
	free(old);
	begin.at.seq = start_of_new(a, a->source.last(a->source.arg));
	for (size_t i = 0; i < a->out_count; i++)
		if (a->outs[i]->phase == OUT_CLOSED && !a->outs[i]->synced.at.inode)
			out_restore(a->outs[i], &begin);
}

static void reload_apply(struct accountant *a)
{
	const struct conf *conf;

	drain(a);
	pthread_mutex_lock(&a->lock);
	conf = a->new_conf;
	pthread_mutex_unlock(&a->lock);
	outs_replace(a, conf);
	finisher_reload(a->finisher, conf);
	pthread_mutex_lock(&a->lock);
	a->new_conf = NULL;
	pthread_cond_broadcast(&a->changed);
	pthread_mutex_unlock(&a->lock);
}

/* --- thread --- */

static void run_until_stop(struct accountant *a)
{
	unsigned urgent;
	usec_t begun;

	for (;;) {
		begun = clock_now();
		if (event_take(a, EVENT_RELOAD))
			reload_apply(a);
		if (event_take(a, EVENT_STOP))
			return;
		event_take(a, EVENT_WAKE);
		if (accountant_round(a))
			continue;
		urgent = EVENT_STOP | EVENT_RELOAD | (any_beginning(a) ? EVENT_COMMIT : 0);
		begun = clock_now() - begun;
		event_wait(a, urgent, begun < PACE ? PACE - begun : 0);
		event_wait(a, EVENT_WAKE | EVENT_COMMIT | EVENT_STOP | EVENT_RELOAD, TICK);
	}
}

static void *accountant_run(void *arg)
{
	struct accountant *a;

	CAST_MAGIC(a, arg, ACCOUNTANT_MAGIC);
	outs_make(a);
	if (!states_load(a))
		return NULL;
	run_until_stop(a);
	drain(a);
	return NULL;
}

struct accountant *accountant_start(const struct accountant_options *o)
{
	struct accountant *a = xcalloc(1, sizeof(*a));
	pthread_condattr_t attr;
	int rc;

	a->magic = ACCOUNTANT_MAGIC;
	a->source = o->source;
	a->conf = o->conf;
	pthread_mutex_init(&a->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&a->changed, &attr);
	pthread_condattr_destroy(&attr);
	atomic_store(&a->heartbeat, clock_now());
	a->finisher = finisher_start(o->conf);
	rc = pthread_create(&a->thread, NULL, accountant_run, a);
	if (rc)
		fatal("cannot start a thread: %s", strerror(rc));
	return a;
}

void accountant_wake(struct accountant *a)
{
	event_send(a, EVENT_WAKE);
}

void accountant_reload(struct accountant *a, const struct conf *conf)
{
	pthread_mutex_lock(&a->lock);
	a->new_conf = conf;
	a->events |= EVENT_RELOAD;
	pthread_cond_broadcast(&a->changed);
	while (a->new_conf)
		pthread_cond_wait(&a->changed, &a->lock);
	pthread_mutex_unlock(&a->lock);
}

void accountant_stop(struct accountant *a)
{
	if (!a)
		return;
	event_send(a, EVENT_STOP);
	pthread_join(a->thread, NULL);
	finisher_stop(a->finisher);
	for (size_t i = 0; i < a->out_count; i++)
		out_free(a->outs[i]);
	free(a->outs);
	a->outs = NULL;
	a->out_count = 0;
	gone_free_posted(a, true);
	if (a->commit_busy) {
		/* The committer still holds it and will call done(): this must not be freed. */
		log_error(&ctx, "the last position of the accounting files was not stored; the "
				"next start repeats it");
		return;
	}
	buf_done(&a->commit_text);
	free(a->states);
	pthread_mutex_destroy(&a->lock);
	pthread_cond_destroy(&a->changed);
	free(a);
}

usec_t accountant_heartbeat(const struct accountant *a)
{
	return atomic_load_explicit(&a->heartbeat, memory_order_relaxed);
}
