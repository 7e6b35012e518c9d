#include "worker/condemn.h"

#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "common/base/xalloc.h"
#include "common/conf/conf.h"
#include "common/spool/spool.h"
#include "worker/context.h"
#include "worker/feed.h"
#include "worker/inhand.h"
#include "worker/outcome.h"
#include "worker/post.h"
#include "worker/queue.h"
#include "worker/site.h"
#include "worker/verdict.h"

#define ROWS_AT_ONCE 100
#define ROWS_PER_BURST 1000
#define QUEUES_AT_ONCE 100 /* condemned, before more of a provider's are loaded */
#define WAKES_PER_BURST 200
#define SEARCH_EVERY (10 * USEC_PER_SEC) /* receivers may say it of each message */

struct condemned {
	struct queue *queue;
	struct outcome o;
	msec_t at; /* mail received until then is meant */
	bool given_back; /* what waited in memory */
	uint64_t position; /* of the ring: all that was given back is in the spool behind it */
	struct spool_due_pos pos;
	bool walked;
	TAILQ_ENTRY(condemned) link;
};

/* A provider's site whose queues are looked for among those with deferred mail. */
struct search {
	char *name; /* NAME.rollup */
	struct outcome o;
	msec_t at;
	usec_t begin; /* monotonic: not before */
	bool again; /* it was said once more meanwhile */
	struct spool_wake_pos pos;
	TAILQ_ENTRY(search) link;
};

struct condemned_list {
	TAILQ_HEAD(, condemned) all;
	uint32_t count;
	TAILQ_HEAD(, search) searches;
};

struct condemned_list *condemned_list_new(void)
{
	struct condemned_list *l = xcalloc(1, sizeof(*l));

	TAILQ_INIT(&l->all);
	TAILQ_INIT(&l->searches);
	return l;
}

static void search_free(struct condemned_list *l, struct search *x)
{
	TAILQ_REMOVE(&l->searches, x, link);
	free(x->name);
	free(x);
}

void condemned_list_free(struct condemned_list *l)
{
	struct search *x;

	while ((x = TAILQ_FIRST(&l->searches)))
		search_free(l, x);
	free(l); /* queues have gone before */
}

void condemn_forget(struct queue *q)
{
	if (!q->condemned)
		return;
	TAILQ_REMOVE(&q->w->condemned->all, q->condemned, link);
	q->w->condemned->count--;
	free(q->condemned);
	q->condemned = NULL;
}

static void give_back(struct condemned *c)
{
	struct worker *w = c->queue->w;

	c->given_back = queue_give_back(c->queue, loop_wall(w->loop));
	c->position = post_position(w->post);
	c->pos = (struct spool_due_pos){.started = false};
	c->walked = false;
}

static void condemn_queue(struct queue *q, const struct outcome *o, msec_t at)
{
	struct worker *w = q->w;
	struct condemned *c = q->condemned;

	if (!c) {
		c = q->condemned = xcalloc(1, sizeof(*c));
		c->queue = q;
		TAILQ_INSERT_TAIL(&w->condemned->all, c, link);
		w->condemned->count++;
	}
	c->o = *o;
	if (at > c->at)
		c->at = at;
	give_back(c);
}

static void search_for(struct worker *w, const char *name, const struct outcome *o, msec_t at)
{
	struct search *x;

	TAILQ_FOREACH(x, &w->condemned->searches, link)
		if (strcmp(x->name, name) == 0)
			break;
	if (x) {
		x->again = true;
	} else {
		x = xcalloc(1, sizeof(*x));
		x->name = xstrdup(name);
		TAILQ_INSERT_TAIL(&w->condemned->searches, x, link);
	}
	x->o = *o;
	x->at = at;
}

void condemn_site(struct site *s, const struct outcome *o)
{
	msec_t now = loop_wall(s->w->loop);
	struct queue *q;

	SITE_EACH_QUEUE(q, s)
	condemn_queue(q, o, now);
	if (!s->of)
		search_for(s->w, s->name, o, now);
	feed_wake(s->w->feed);
}

bool condemn_means(struct queue *q, struct spool_read *r, uint64_t msgid, bool fresh)
{
	struct condemned *c = q->condemned;
	struct spool_message m;

	if (!c || spool_message_get(r, msgid, &m) < 0 || m.received > c->at)
		return false;
	if (fresh) /* it is parked in a moment: the walk comes by once more */
		c->given_back = false;
	return true;
}

/* False: no room in the ring. */
static bool bounce(const struct condemned *c, uint64_t msgid, uint32_t rcpt)
{
	struct inhand *h = c->queue->w->inhand;
	struct item *it = inhand_add(h, msgid, rcpt, c->queue, false);

	if (verdict_items(c->queue->site, &it, 1, &c->o, 0))
		return true;
	inhand_forget(h, it);
	return false;
}

/* Rows of the due table, until the ring is full or it is enough for one burst. */
static void walk(struct condemned *c, struct spool_read *r, size_t *left)
{
	struct queue *q = c->queue;
	struct spool_due_row rows[ROWS_AT_ONCE];

	while (*left) {
		struct spool_due_pos before = c->pos;
		size_t n = spool_due_walk(r, q->id, &c->pos, rows, ROWS_AT_ONCE);

		for (size_t i = 0; i < n; i++) {
			if (inhand_find(q->w->inhand, rows[i].msgid, rows[i].rcpt) ||
			    !condemn_means(q, r, rows[i].msgid, false) ||
			    bounce(c, rows[i].msgid, rows[i].rcpt))
				continue;
			c->pos = before; /* what went is in hand now and is passed over */
			return;
		}
		if (n < ROWS_AT_ONCE) {
			c->walked = true;
			return;
		}
		*left = *left > n ? *left - n : 0;
	}
}

static bool is_of(struct worker *w, const char *provider, const struct spool_queue *row)
{
	const struct conf_provider *p = conf_provider_of_queue(
		w->conf, row->domain, slice_str(w->vmta_name), row->provider);

	return p && strcmp(p->rollup, provider) == 0;
}

static void search_row(struct worker *w, struct spool_read *r, const struct search *x,
		       uint32_t queue)
{
	struct spool_queue row;
	struct queue *q;

	if (spool_queue_get(r, queue, &row) < 0 || !is_of(w, x->name, &row))
		return;
	q = queue_get(w, r, queue);
	if (q && !q->condemned && strcmp(q->site->name, x->name) == 0)
		condemn_queue(q, &x->o, x->at);
}

static void search_over(struct condemned_list *l, struct search *x, usec_t now)
{
	if (!x->again) {
		search_free(l, x);
		return;
	}
	x->again = false;
	x->pos = (struct spool_wake_pos){0};
	x->begin = now + SEARCH_EVERY;
}

/* True: there is more to do at once. */
static bool search_some(struct worker *w, struct spool_read *r, struct search *x)
{
	struct condemned_list *l = w->condemned;
	struct spool_wake_row row;

	if (x->begin > loop_now(w->loop))
		return false;
	for (int i = 0; i < WAKES_PER_BURST && l->count < QUEUES_AT_ONCE; i++) {
		if (spool_wake_scan(r, w->vmta_id, UINT64_MAX, &x->pos, &row, 1) == 0) {
			search_over(l, x, loop_now(w->loop));
			return false;
		}
		search_row(w, r, x, row.queue);
	}
	return l->count < QUEUES_AT_ONCE;
}

bool condemn_burst(struct worker *w, struct spool_read *r, bool fresh_seen)
{
	size_t left = ROWS_PER_BURST;
	struct condemned *c, *next;
	struct search *x, *then;
	bool more = false;

	for (c = TAILQ_FIRST(&w->condemned->all); c; c = next) {
		next = TAILQ_NEXT(c, link);
		if (!c->given_back)
			give_back(c);
		else if (!c->walked && post_committed(w->post) >= c->position && left)
			walk(c, r, &left);
		else if (c->walked && fresh_seen)
			condemn_forget(c->queue);
	}
	for (x = TAILQ_FIRST(&w->condemned->searches); x && !w->stopping; x = then) {
		then = TAILQ_NEXT(x, link);
		more |= search_some(w, r, x);
	}
	return more || left == 0;
}
