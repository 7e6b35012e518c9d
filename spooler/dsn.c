#include "spooler/dsn.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include "common/base/buf.h"
#include "common/base/err.h"
#include "common/base/log.h"
#include "common/base/rng.h"
#include "common/base/xalloc.h"
#include "spooler/dsn_build.h"
#include "spooler/dsn_notice.h"
#include "spooler/dsn_row.h"

#define WINDOW 200 /* messages with the committer at a time */
#define RETRY_AFTER (5 * USEC_PER_SEC)
#define COMPLAIN_EVERY (60 * USEC_PER_SEC)
#define DEFAULT_ROUTE "{default}"

enum { EVENT_WAKE = 1, EVENT_DONE = 2, EVENT_STOP = 4 };

/* A notification from when it is made until the committer has taken it. */
struct notice {
	struct intake_message m;
	struct intake_recipient rcpt;
	struct notice *next;
};

struct dsn_helper {
	unsigned magic;
#define DSN_HELPER_MAGIC 0xd5a4e1f0u
	struct dsn_source source;
	pthread_t thread;

	pthread_mutex_t lock; /* guards events and done */
	pthread_cond_t changed;
	unsigned events;
	struct notice *done;

	pthread_mutex_t conf_lock; /* held while messages are made, and for a change */
	const struct conf *conf;

	_Atomic usec_t heartbeat;

	/* the thread's own */
	struct notice *made; /* of this window, not yet posted */
	size_t posted; /* with the committer */
	uint64_t after; /* rows up to here had their turn */
	uint64_t again; /* the lowest row that failed in this window, or UINT64_MAX */
	int error; /* why */
	usec_t complain_at;
	struct buf scratch;
};

static const struct log_ctx ctx = {.object = "thread", .name = "dsn"};

/* --- events --- */

static void event_send(struct dsn_helper *d, unsigned event)
{
	pthread_mutex_lock(&d->lock);
	d->events |= event;
	pthread_cond_signal(&d->changed);
	pthread_mutex_unlock(&d->lock);
}

/*
 * Waits for one of these events, at most for a time; takes them but STOP. Returns what there was.
 */
static unsigned event_wait(struct dsn_helper *d, unsigned events, usec_t at_most)
{
	struct timespec until;
	unsigned there;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += (time_t)(at_most / USEC_PER_SEC);
	pthread_mutex_lock(&d->lock);
	while (!(d->events & events))
		if (pthread_cond_timedwait(&d->changed, &d->lock, &until) == ETIMEDOUT)
			break;
	there = d->events & events;
	d->events &= ~(events & ~(unsigned)EVENT_STOP);
	pthread_mutex_unlock(&d->lock);
	return there;
}

/* --- messages --- */

static void notice_free(struct notice *n)
{
	free((char *)(uintptr_t)n->rcpt.address);
	free((char *)(uintptr_t)n->rcpt.domain);
	free((char *)(uintptr_t)n->rcpt.route);
	buf_done(&n->m.body);
	free(n);
}

/* In the committer's thread. */
static void on_done(struct intake_message *m)
{
	struct dsn_helper *d;
	struct notice *n = container_of(m, struct notice, m);

	CAST_MAGIC(d, m->poster, DSN_HELPER_MAGIC);
	pthread_mutex_lock(&d->lock);
	n->next = d->done;
	d->done = n;
	d->events |= EVENT_DONE;
	pthread_cond_signal(&d->changed);
	pthread_mutex_unlock(&d->lock);
}

/* The address of From: the first postmaster, or MAILER-DAEMON at this host. */
static char *from_address(const struct conf_global *g)
{
	if (g->postmaster.n && strchr(g->postmaster.v[0], '@'))
		return xstrdup(g->postmaster.v[0]);
	return xasprintf("%s@%s", g->postmaster.n ? g->postmaster.v[0] : "MAILER-DAEMON",
			 g->host_name);
}

static struct dsn_build_options options_now(struct dsn_helper *d, const char *from)
{
	return (struct dsn_build_options){.conf = d->conf,
					  .host = conf_global(d->conf)->host_name,
					  .from = from,
					  .msgid = d->source.next_msgid(d->source.arg),
					  .random = {rng_u64(), rng_u64()},
					  .now = clock_wall()};
}

/* All but body, flags and route. */
static void notice_fill(struct dsn_helper *d, struct notice *n, const struct dsn_build_options *o,
			struct slice to, uint64_t id)
{
	n->m.msgid = o->msgid;
	n->m.received = o->now;
	n->m.size = n->m.body.n;
	n->m.dsn_row = id;
	n->m.done = on_done;
	n->m.poster = d;
	n->m.recipients = &n->rcpt;
	n->m.recipient_count = 1;
	n->rcpt.address = slice_dup(to);
	n->rcpt.domain = slice_dup_lower(slice_from(to, (size_t)slice_rchr(to, '@') + 1));
	n->rcpt.notify = SPOOL_NOTIFY_NEVER;
	n->rcpt.class = SPOOL_CLASS_DEFAULT;
}

static struct notice *notice_make(struct dsn_helper *d, const struct dsn_row *r, uint64_t id)
{
	struct notice *n = xcalloc(1, sizeof(*n));
	char *from = from_address(conf_global(d->conf));
	struct dsn_build_options o = options_now(d, from);

	dsn_build(&o, r, &n->m.body, &n->m.header_size, &n->m.flags);
	free(from);
	notice_fill(d, n, &o, r->sender, id);
	/* From the same virtual MTA as the original: an address that this sender is known by. */
	n->rcpt.route =
		conf_vmta_find(d->conf, r->vmta) ? slice_dup(r->vmta) : xstrdup(DEFAULT_ROUTE);
	return n;
}

static struct notice *notice_to_operator(struct dsn_helper *d, const struct report_notice *r,
					 uint64_t id)
{
	struct notice *n = xcalloc(1, sizeof(*n));
	char *from = from_address(conf_global(d->conf));
	struct dsn_build_options o = options_now(d, from);

	dsn_notice_build(&o, r, &n->m.body, &n->m.header_size, &n->m.flags);
	free(from);
	notice_fill(d, n, &o, r->to, id);
	n->rcpt.route = xstrdup(DEFAULT_ROUTE);
	return n;
}

static const char *notice_fault(int rc, const struct report_notice *r)
{
	ptrdiff_t at;

	if (rc)
		return "its row in the spool is damaged";
	at = slice_rchr(r->to, '@');
	return at < 0 || (size_t)at + 1 == r->to.n ? "its address has no domain" : NULL;
}

static const char *row_fault(int rc, const struct dsn_row *r)
{
	ptrdiff_t at;

	if (rc)
		return "its row in the spool is damaged";
	at = slice_rchr(r->sender, '@');
	if (at < 0 || (size_t)at + 1 == r->sender.n)
		return "the sender's address has no domain";
	return r->flags & SPOOL_MSG_IS_DSN ? "the message was a notification itself" : NULL;
}

static void row_unknown(uint64_t id)
{
	log_error(&ctx,
		  "a newer version of Sluice wrote a notification that this one does not know; it "
		  "waits until that runs again",
		  LOG_U("row", id));
}

static void row_drop(struct dsn_helper *d, uint64_t id, const char *fault)
{
	log_error(&ctx, "a notification cannot be sent; it is dropped", LOG_U("row", id),
		  LOG_S("reason", fault));
	d->source.drop(d->source.arg, id);
}

static void made_add(struct dsn_helper *d, struct notice *n)
{
	n->next = d->made;
	d->made = n;
}

/* A mail to an operator. */
static void on_notice_row(struct dsn_helper *d, uint64_t id, struct slice payload)
{
	struct report_notice r;
	int rc = dsn_notice_decode(payload, &r);
	const char *fault;

	if (rc == ERR_VERSION) {
		row_unknown(id);
		return;
	}
	fault = notice_fault(rc, &r);
	if (fault)
		row_drop(d, id, fault);
	else
		made_add(d, notice_to_operator(d, &r, id));
}

static void on_row(void *arg, uint64_t id, struct slice payload)
{
	struct dsn_helper *d = arg;
	struct dsn_row r;
	const char *fault;
	int rc;

	d->after = id;
	if (dsn_notice_is(payload)) {
		on_notice_row(d, id, payload);
		return;
	}
	rc = dsn_row_decode(payload, &d->scratch, &r);
	if (rc == ERR_VERSION) {
		row_unknown(id);
		return;
	}
	fault = row_fault(rc, &r);
	if (fault)
		row_drop(d, id, fault);
	else
		made_add(d, notice_make(d, &r, id));
}

/* --- windows --- */

static void made_post(struct dsn_helper *d)
{
	while (d->made) {
		struct notice *n = d->made;

		d->made = n->next;
		d->posted++;
		d->source.post(d->source.arg, &n->m);
	}
}

/* Taken into the spool, or posted again by {default}, or left for later. */
static void notice_end(struct dsn_helper *d, struct notice *n)
{
	if (n->m.result == ERR_NOT_FOUND && strcmp(n->rcpt.route, DEFAULT_ROUTE) != 0) {
		free((char *)(uintptr_t)n->rcpt.route);
		n->rcpt.route = xstrdup(DEFAULT_ROUTE);
		n->m.result = 0;
		d->source.post(d->source.arg, &n->m);
		return;
	}
	if (n->m.result && n->m.dsn_row < d->again) {
		d->again = n->m.dsn_row;
		d->error = n->m.result;
	}
	d->posted--;
	notice_free(n);
}

/* Until the committer has given back all of the window. */
static void posted_wait(struct dsn_helper *d)
{
	while (d->posted) {
		struct notice *done;

		event_wait(d, EVENT_DONE, USEC_PER_SEC);
		atomic_store_explicit(&d->heartbeat, clock_now(), memory_order_relaxed);
		pthread_mutex_lock(&d->lock);
		done = d->done;
		d->done = NULL;
		pthread_mutex_unlock(&d->lock);
		while (done) {
			struct notice *next = done->next;

			notice_end(d, done);
			done = next;
		}
	}
}

/* Once a minute, so that a full disk does not fill the log. */
static void complain(struct dsn_helper *d)
{
	usec_t now = clock_now();

	if (now < d->complain_at)
		return;
	d->complain_at = now + COMPLAIN_EVERY;
	log_error(&ctx, "delivery status notifications cannot be put into the spool; trying again",
		  LOG_S("error", err_text(d->error)));
}

/* True when there may be more rows; *ret_failed: some have to be tried again later. */
static bool window_run(struct dsn_helper *d, bool *ret_failed)
{
	long n;

	d->again = UINT64_MAX;
	d->error = 0;
	pthread_mutex_lock(&d->conf_lock);
	n = d->source.read(d->source.arg, d->after, WINDOW, on_row, d);
	pthread_mutex_unlock(&d->conf_lock);
	made_post(d);
	posted_wait(d);
	if (n < 0)
		d->error = (int)n;
	if (d->again != UINT64_MAX)
		d->after = d->again - 1;
	if (d->error)
		complain(d);
	*ret_failed = d->error != 0;
	return n > 0;
}

static void *dsn_run(void *arg)
{
	struct dsn_helper *d;
	unsigned there = 0;

	CAST_MAGIC(d, arg, DSN_HELPER_MAGIC);
	while (!(there & EVENT_STOP)) {
		bool failed = false, more;

		atomic_store_explicit(&d->heartbeat, clock_now(), memory_order_relaxed);
		more = window_run(d, &failed);
		if (failed)
			there = event_wait(d, EVENT_STOP, RETRY_AFTER);
		else if (more)
			there = event_wait(d, EVENT_STOP, 0);
		else
			there = event_wait(d, EVENT_WAKE | EVENT_STOP, 10 * USEC_PER_SEC);
	}
	return NULL;
}

/* --- life --- */

struct dsn_helper *dsn_start(const struct dsn_options *o)
{
	struct dsn_helper *d = xcalloc(1, sizeof(*d));
	pthread_condattr_t attr;
	int rc;

	d->magic = DSN_HELPER_MAGIC;
	d->source = o->source;
	d->conf = o->conf;
	pthread_mutex_init(&d->lock, NULL);
	pthread_mutex_init(&d->conf_lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&d->changed, &attr);
	pthread_condattr_destroy(&attr);
	atomic_store(&d->heartbeat, clock_now());
	rc = pthread_create(&d->thread, NULL, dsn_run, d);
	if (rc)
		fatal("cannot start a thread: %s", strerror(rc));
	return d;
}

void dsn_wake(struct dsn_helper *d)
{
	event_send(d, EVENT_WAKE);
}

void dsn_reload(struct dsn_helper *d, const struct conf *conf)
{
	pthread_mutex_lock(&d->conf_lock);
	d->conf = conf;
	pthread_mutex_unlock(&d->conf_lock);
}

void dsn_stop(struct dsn_helper *d)
{
	if (!d)
		return;
	event_send(d, EVENT_STOP);
	pthread_join(d->thread, NULL);
	buf_done(&d->scratch);
	pthread_mutex_destroy(&d->lock);
	pthread_mutex_destroy(&d->conf_lock);
	pthread_cond_destroy(&d->changed);
	free(d);
}

usec_t dsn_heartbeat(const struct dsn_helper *d)
{
	return atomic_load_explicit(&d->heartbeat, memory_order_relaxed);
}
