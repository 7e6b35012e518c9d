#include "worker/condemn.h"

#include <stdlib.h>
#include <sys/queue.h>

#include "common/base/xalloc.h"
#include "common/spool/spool.h"
#include "worker/context.h"
#include "worker/feed.h"
#include "worker/inhand.h"
#include "worker/outcome.h"
#include "worker/post.h"
#include "worker/queue.h"
#include "worker/verdict.h"

#define ROWS_AT_ONCE 100
#define ROWS_PER_BURST 1000

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

struct condemned_list {
	TAILQ_HEAD(, condemned) all;
};

struct condemned_list *condemned_list_new(void)
{
	struct condemned_list *l = xcalloc(1, sizeof(*l));

	TAILQ_INIT(&l->all);
	return l;
}

void condemned_list_free(struct condemned_list *l)
{
	free(l); /* queues have gone before */
}

void condemn_forget(struct queue *q)
{
	if (!q->condemned)
		return;
	TAILQ_REMOVE(&q->w->condemned->all, q->condemned, link);
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

void condemn_queue(struct queue *q, const struct outcome *o)
{
	struct worker *w = q->w;
	struct condemned *c = q->condemned;

	if (!c) {
		c = q->condemned = xcalloc(1, sizeof(*c));
		c->queue = q;
		TAILQ_INSERT_TAIL(&w->condemned->all, c, link);
	}
	c->o = *o;
	c->at = loop_wall(w->loop);
	give_back(c);
	feed_wake(w->feed);
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

bool condemn_burst(struct worker *w, struct spool_read *r, bool fresh_seen)
{
	size_t left = ROWS_PER_BURST;
	struct condemned *c, *next;

	for (c = TAILQ_FIRST(&w->condemned->all); c; c = next) {
		next = TAILQ_NEXT(c, link);
		if (!c->given_back)
			give_back(c);
		else if (!c->walked && post_committed(w->post) >= c->position && left)
			walk(c, r, &left);
		else if (c->walked && fresh_seen)
			condemn_forget(c->queue);
	}
	return left == 0;
}
