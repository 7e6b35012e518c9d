#include "worker/sweep.h"

#include <stdlib.h>

#include "common/base/log.h"
#include "common/base/xalloc.h"
#include "common/spool/spool.h"
#include "worker/context.h"
#include "worker/inhand.h"
#include "worker/retry.h"
#include "worker/site.h"
#include "worker/verdict.h"

#define ROWS_PER_RUN 1000
#define ROWS_AT_ONCE 100

struct sweep {
	struct worker *w;
	struct spool_wake_pos wake; /* behind the queue that is walked */
	uint32_t queue;             /* 0: the next one of the wake table */
	struct spool_due_pos due;
	const struct conf_domain *set;
};

struct sweep *sweep_new(struct worker *w)
{
	struct sweep *s = xcalloc(1, sizeof(*s));

	s->w = w;
	return s;
}

void sweep_free(struct sweep *s)
{
	free(s);
}

/* False: no further queue, the walk begins anew next time. */
static bool next_queue(struct sweep *s, struct spool_read *r)
{
	struct spool_wake_row row;
	struct spool_queue q;
	char *domain;

	s->queue = 0;
	s->due = (struct spool_due_pos){0};
	if (spool_wake_scan(r, s->w->vmta_id, UINT64_MAX, &s->wake, &row, 1) == 0) {
		s->wake = (struct spool_wake_pos){0};
		return false;
	}
	if (spool_queue_get(r, row.queue, &q) < 0)
		return true;
	s->queue = row.queue;
	domain = slice_dup(q.domain);
	s->set = conf_domain_for(s->w->conf, slice_str(domain), slice_str(s->w->vmta_name));
	free(domain);
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

	if (inhand_find(s->w->inhand, row->msgid, row->rcpt) ||
	    spool_message_get(r, row->msgid, &m) < 0 ||
	    retry_expiry(s->set, m.received) > loop_wall(s->w->loop))
		return;
	q = queue_get(s->w, r, s->queue);
	if (q && spool_recipient_get(r, row->msgid, row->rcpt, &x) == 0 &&
	    verdict_expired(q, &m, &x, &o))
		bounce(s, q, row, &o);
}

void sweep_run(struct sweep *s)
{
	struct spool_due_row rows[ROWS_AT_ONCE];
	size_t left = ROWS_PER_RUN;
	struct spool_read *r;

	if (!s->w->spool || !s->w->vmta_id || s->w->stopping || spool_read_begin(s->w->spool, &r) < 0)
		return;
	while (left) {
		size_t n;

		left--;
		if (!s->queue) {
			if (!next_queue(s, r))
				break;
			continue;
		}
		n = spool_due_scan(r, s->queue, UINT64_MAX, &s->due, rows,
				   left < ROWS_AT_ONCE ? left + 1 : ROWS_AT_ONCE);
		for (size_t i = 0; i < n; i++)
			look(s, r, &rows[i]);
		if (n < ROWS_AT_ONCE && left)
			s->queue = 0;
		left = left > n ? left - n : 0;
	}
	spool_read_end(r);
}
