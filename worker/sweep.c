#include "worker/sweep.h"

#include <stdlib.h>

#include "common/base/log.h"
#include "common/base/xalloc.h"
#include "common/spool/spool.h"
#include "worker/context.h"
#include "worker/duties.h"
#include "worker/inhand.h"
#include "worker/post.h"
#include "worker/reroute.h"
#include "worker/retry.h"
#include "worker/site.h"
#include "worker/verdict.h"

#define ROWS_PER_RUN 1000
#define ROWS_AT_ONCE 100
#define WAKES_PER_RUN 200

struct sweep {
	struct worker *w;
	struct spool_wake_pos wake; /* behind the queue that is walked */
	uint32_t queue; /* 0: the next one of the wake table */
	struct spool_due_pos due;
	const struct conf_domain *set;
	msec_t first_expiry; /* of the queue, as far as it was walked */
	uint32_t conf_gen; /* that set is from */
	struct spool_wake_pos late; /* of the walk over queues that nothing wakes in time */
};

struct sweep *sweep_new(struct worker *w)
{
	struct sweep *s = xcalloc(1, sizeof(*s));

	s->w = w;
	/* what an earlier worker put off for ever, as an orphan does, comes first */
	s->late =
		(struct spool_wake_pos){.at = WAKE_NEVER - 1, .queue = UINT32_MAX, .started = true};
	return s;
}

void sweep_free(struct sweep *s)
{
	free(s);
}

/* False: no further queue, the walk begins anew next time. */
static bool next_queue(struct sweep *s, struct spool_read *r)
{
	struct slice vmta = slice_str(s->w->vmta_name);
	const struct conf_provider *p;
	struct spool_wake_row row;
	struct spool_queue q;

	s->queue = 0;
	s->due = (struct spool_due_pos){0};
	s->first_expiry = UINT64_MAX;
	if (spool_wake_scan(r, s->w->vmta_id, UINT64_MAX, &s->wake, &row, 1) == 0) {
		s->wake = (struct spool_wake_pos){0};
		return false;
	}
	if (spool_queue_get(r, row.queue, &q) < 0)
		return true;
	s->queue = row.queue;
	p = conf_provider_of_queue(s->w->conf, q.domain, vmta, q.provider);
	s->set = conf_queue_settings(s->w->conf, p, q.domain, vmta);
	if (!queue_find(s->w, row.queue) &&
	    reroute_may_want(s->w, r, q.provider.n ? q.provider : q.domain))
		(void)queue_get(s->w, r, row.queue);
	return true;
}

static void bounce(struct sweep *s, struct queue *q, const struct spool_due_row *row,
		   const struct outcome *o)
{
	struct item *it = inhand_add(s->w->inhand, row->msgid, row->rcpt, q, false);

	if (!verdict_items(q->site, &it, 1, o, 0))
		inhand_forget(s->w->inhand, it);
}

static void look(struct sweep *s, struct spool_read *r, const struct spool_due_row *row)
{
	struct spool_message m;
	struct spool_recipient x;
	struct outcome o;
	struct queue *q;
	msec_t expiry;

	if (spool_message_get(r, row->msgid, &m) < 0)
		return;
	expiry = retry_expiry(s->set, m.received);
	if (expiry < s->first_expiry)
		s->first_expiry = expiry;
	if (expiry > loop_wall(s->w->loop) || inhand_find(s->w->inhand, row->msgid, row->rcpt))
		return;
	q = queue_get(s->w, r, s->queue);
	if (q && spool_recipient_get(r, row->msgid, row->rcpt, &x) == 0 &&
	    verdict_expired(q, &m, &x, &o))
		bounce(s, q, row, &o);
}

/* The whole queue was walked. */
static void publish_expiry(const struct sweep *s)
{
	struct shm_queue *q = shm_queue_find(s->w->shm, s->queue);

	if (q)
		atomic_store_explicit(&q->next_expiry,
				      s->first_expiry == UINT64_MAX ? 0 : s->first_expiry,
				      memory_order_relaxed);
}

/* --- wake rows that are later than they have to be --- */

/* Nothing holds the queue back, as far as the spool or this worker knows. */
static bool may_run(struct worker *w, struct spool_read *r, uint32_t queue)
{
	const struct queue *q = queue_find(w, queue);
	struct spool_queue row;
	struct spool_site site;

	if (q)
		return !queue_is_blocked(q) && post_committed(w->post) >= q->wake_position;
	if (spool_queue_get(r, queue, &row) < 0)
		return false;
	for (int i = 0; i < 2; i++) {
		struct slice name = i == 0 ? row.domain : row.provider;

		if (name.n && spool_site_get(r, w->vmta_id, name, &site) == 0 &&
		    site.retry_at > loop_wall(w->loop))
			return false;
	}
	return !duties_pause_row(w->duties, &row);
}

/*
 * A blocked queue's wake row is pushed back. Whoever did that may not be there any more to undo it: a
 * site that was well sooner, an orphan whose virtual MTA is configured again. Such a row goes back to
 * where the first mail is due.
 */
static void look_late(struct sweep *s, struct spool_read *r, const struct spool_wake_row *row)
{
	if (row->at <= loop_wall(s->w->loop) || !may_run(s->w, r, row->queue) ||
	    spool_due_first(r, row->queue) >= row->at)
		return;
	(void)post_wake(s->w->post, row->queue, 0); /* no room: next time */
}

static void run_late(struct sweep *s, struct spool_read *r)
{
	struct spool_wake_row rows[WAKES_PER_RUN];
	size_t n;

	if (worker_is_orphan(s->w))
		return;
	n = spool_wake_scan(r, s->w->vmta_id, UINT64_MAX, &s->late, rows, WAKES_PER_RUN);
	for (size_t i = 0; i < n; i++)
		look_late(s, r, &rows[i]);
	if (n < WAKES_PER_RUN)
		s->late = (struct spool_wake_pos){0};
}

void sweep_run(struct sweep *s)
{
	struct spool_due_row rows[ROWS_AT_ONCE];
	size_t left = ROWS_PER_RUN;
	struct spool_read *r;

	if (!s->w->spool || !s->w->vmta_id || s->w->stopping ||
	    spool_read_begin(s->w->spool, &r) < 0)
		return;
	run_late(s, r);
	if (s->conf_gen != s->w->conf_gen) /* its settings are gone */
		s->queue = 0;
	s->conf_gen = s->w->conf_gen;
	while (left) {
		size_t n;

		left--;
		if (!s->queue) {
			if (!next_queue(s, r))
				break;
			continue;
		}
		n = spool_due_walk(r, s->queue, &s->due, rows,
				   left < ROWS_AT_ONCE ? left + 1 : ROWS_AT_ONCE);
		for (size_t i = 0; i < n; i++)
			look(s, r, &rows[i]);
		if (n < ROWS_AT_ONCE && left) {
			publish_expiry(s);
			s->queue = 0;
		}
		left = left > n ? left - n : 0;
	}
	spool_read_end(r);
}
