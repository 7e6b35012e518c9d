#include "worker/reselect.h"

#include <stdlib.h>

#include "common/base/log.h"
#include "common/base/xalloc.h"
#include "common/conf/conf.h"
#include "common/spool/spool.h"
#include "worker/context.h"
#include "worker/events.h"
#include "worker/inhand.h"
#include "worker/mode.h"
#include "worker/post.h"
#include "worker/queue.h"
#include "worker/reroute.h"
#include "worker/site.h"
#include "worker/sources.h"

#define CHUNK 200 /* recipients looked at in a burst */
#define PASS_EVERY (10 * USEC_PER_SEC) /* for what came meanwhile */

struct reselecting {
	struct queue *q;
	/* of a pass: first what waits in memory, then its range of table due */
	uint32_t passed; /* so many of those in memory stay */
	struct spool_due_pos pos;
	usec_t next_pass; /* monotonic; 0: in the midst of one */
	TAILQ_ENTRY(reselecting) link;
};

struct reselects {
	struct worker *w;
	TAILQ_HEAD(, reselecting) list;
	uint64_t moved; /* ring position behind the last report */
};

struct reselects *reselects_new(struct worker *w)
{
	struct reselects *x = xcalloc(1, sizeof(*x));

	x->w = w;
	TAILQ_INIT(&x->list);
	return x;
}

void reselects_free(struct reselects *x)
{
	free(x);
}

bool reselect_keeps(const struct queue *q)
{
	return q->reselect != NULL;
}

void reselect_forget(struct queue *q)
{
	struct reselecting *x = q->reselect;

	if (!x)
		return;
	TAILQ_REMOVE(&q->w->reselects->list, x, link);
	free(x);
	q->reselect = NULL;
}

/* --- whether --- */

/* A pool of which this virtual MTA is one of several members lets recipients leave. */
static bool has_pool(const struct worker *w)
{
	for (size_t i = 0; i < conf_pool_count(w->conf); i++) {
		const struct conf_pool *p = conf_pool_at(w->conf, i);

		for (size_t k = 0; p->reselect && p->member_count > 1 && k < p->member_count; k++)
			if (p->members[k] == w->vmta)
				return true;
	}
	return false;
}

static bool is_ill(const struct site *s)
{
	const struct conf_source_hosts *h = &s->w->vmta->smtp_source_host;
	size_t i = 0;

	while (i < h->n && sources_is_disabled(s, &h->v[i].ip))
		i++;
	return mode_is_backoff(s) || (h->n && i == h->n);
}

void reselect_look(struct queue *q)
{
	struct reselecting *x = q->reselect;

	if (worker_is_orphan(q->w) || q->paused || reroute_is_active(q) || !is_ill(q->site) ||
	    !has_pool(q->w)) {
		reselect_forget(q);
		return;
	}
	if (x)
		return;
	x = q->reselect = xcalloc(1, sizeof(*x));
	x->q = q;
	TAILQ_INSERT_TAIL(&q->w->reselects->list, x, link);
	events_add(q->w, &q->site->events, "mail of pools looks for other members");
}

/* --- who --- */

struct chosen {
	struct report_park_item items[CHUNK];
	struct item *held[CHUNK];
	uint32_t n, looked;
	uint32_t skip; /* that an earlier burst has looked at */
};

static bool may_leave(const struct queue *q, struct spool_read *r, uint64_t msgid, uint32_t rcpt)
{
	const struct conf_pool *p;
	struct spool_recipient row;

	if (spool_recipient_get(r, msgid, rcpt, &row) < 0 || row.pool.n == 0)
		return false;
	p = conf_pool_find(q->w->conf, row.pool);
	return p && p->reselect && p->member_count > 1 &&
	       (!row.reselected ||
		row.reselected + p->reselect_interval / USEC_PER_MSEC <= loop_wall(q->w->loop));
}

static void choose(struct chosen *k, struct item *it)
{
	k->items[k->n] = (struct report_park_item){it->key.msgid, (uint32_t)it->key.rcpt};
	k->held[k->n++] = it;
}

static void look_in_parcel(struct queue *q, struct spool_read *r, struct parcel *p,
			   struct chosen *k)
{
	struct item *it;

	TAILQ_FOREACH(it, &p->items, link) {
		if (k->looked == CHUNK)
			return;
		if (k->skip) {
			k->skip--;
			continue;
		}
		k->looked++;
		if (may_leave(q, r, it->key.msgid, (uint32_t)it->key.rcpt))
			choose(k, it);
	}
}

/* Among those that wait in memory, the next ones first. One that moves up meanwhile is seen in the next pass. */
static void look_in_memory(struct queue *q, struct spool_read *r, struct chosen *k)
{
	struct parcel *p;
	struct lane *l;

	for (int c = 0; c < SPOOL_CLASSES; c++)
		TAILQ_FOREACH(l, &q->lanes[c], link)
			TAILQ_FOREACH(p, &l->parcels, link)
				look_in_parcel(q, r, p, k);
	for (uint32_t i = 0; i < k->n; i++)
		queue_remove(q, k->held[i]);
	q->reselect->passed += k->looked - k->n;
}

static void look_in_due(struct queue *q, struct spool_read *r, struct chosen *k)
{
	struct spool_due_row rows[CHUNK];
	uint32_t most = CHUNK - k->looked;
	size_t n = most ? spool_due_walk(r, q->id, &q->reselect->pos, rows, most) : 0;

	for (size_t i = 0; i < n; i++)
		if (!inhand_find(q->w->inhand, rows[i].msgid, rows[i].rcpt) &&
		    may_leave(q, r, rows[i].msgid, rows[i].rcpt))
			choose(k, inhand_add(q->w->inhand, rows[i].msgid, rows[i].rcpt, q, false));
	k->looked += (uint32_t)n;
	if (n < most) {
		q->reselect->passed = 0;
		q->reselect->pos = (struct spool_due_pos){0};
		q->reselect->next_pass = loop_now(q->w->loop) + PASS_EVERY;
	}
}

static void give_up(struct queue *q, const struct chosen *k)
{
	struct worker *w = q->w;
	const struct report_move m = {.queue = q->id,
				      .reselect = true,
				      .target = slice_str(""),
				      .items = k->items,
				      .item_count = k->n};

	if (k->n == 0)
		return;
	if (post_move(w->post, &m)) {
		for (uint32_t i = 0; i < k->n; i++)
			inhand_done(w->inhand, k->held[i], post_position(w->post));
		w->reselects->moved = post_position(w->post);
		return;
	}
	for (uint32_t i = 0; i < k->n; i++) /* no room in the ring: they stay for another pass */
		queue_put(q, k->held[i], false);
}

static void burst_queue(struct queue *q, struct spool_read *r)
{
	struct chosen k = {.skip = q->reselect->passed};

	if (q->reselect->next_pass > loop_now(q->w->loop))
		return;
	q->reselect->next_pass = 0;
	look_in_memory(q, r, &k);
	look_in_due(q, r, &k);
	give_up(q, &k);
}

void reselects_burst(struct reselects *x, struct spool_read *r)
{
	struct reselecting *first = TAILQ_FIRST(&x->list);

	if (!first || x->w->stopping || post_committed(x->w->post) < x->moved)
		return;
	TAILQ_REMOVE(&x->list, first, link);
	TAILQ_INSERT_TAIL(&x->list, first, link);
	burst_queue(first->q, r);
}
