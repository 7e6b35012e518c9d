#include "worker/due.h"

#include <stdlib.h>

#include "common/base/xalloc.h"
#include "common/spool/spool.h"
#include "worker/context.h"
#include "worker/inhand.h"
#include "worker/queue.h"

#define LANE_ROWS 50 /* of one lane, before the next one has its turn */
#define LANE_LEAST 32 /* so many of each job have room while there is any */
#define HELPING 100

struct due_lane {
	uint8_t lane;
	bool done; /* all that is due was seen, or it has to wait for room */
	struct spool_due_pos pos;
};

struct due_pass {
	uint8_t left; /* bits of classes of which something has no room */
	size_t n;
	size_t turn;
	struct due_lane v[];
};

void due_begin_again(struct queue *q)
{
	free(q->due);
	q->due = NULL;
}

static uint8_t bit(uint8_t lane)
{
	return (uint8_t)(1u << spool_lane_class(lane));
}

static bool room(const struct queue *q, uint8_t lane, size_t share, size_t least)
{
	uint8_t class = spool_lane_class(lane);

	return q->class_waiting[class] < share ||
	       (share && queue_lane_waiting(q, class, lane % SPOOL_LANE_JOBS) < least);
}

static size_t share_of(const struct queue *q, uint8_t lane)
{
	return inhand_share(q->w->inhand, q, spool_lane_class(lane));
}

bool due_lane_has_room(const struct queue *q, uint8_t lane)
{
	return room(q, lane, share_of(q, lane) / 2 + share_of(q, lane) % 2, LANE_LEAST / 2);
}

/* Lanes with mail that is due now and that have room. */
static struct due_pass *pass_begin(struct spool_read *r, const struct queue *q)
{
	struct due_pass *p = xcalloc(1, sizeof(*p));
	msec_t now = loop_wall(q->w->loop), due;
	uint8_t at = 0;

	for (unsigned lane = 0; lane <= UINT8_MAX; lane = at + 1u) {
		at = (uint8_t)lane;
		if (!spool_due_lane(r, q->id, &at, &due))
			break;
		if (due > now)
			continue;
		if (!due_lane_has_room(q, at)) {
			p->left |= bit(at);
			continue;
		}
		p = xrealloc(p, sizeof(*p) + (p->n + 1) * sizeof(p->v[0]));
		p->v[p->n++] = (struct due_lane){.lane = at};
	}
	return p;
}

static size_t lane_helping(struct spool_read *r, struct queue *q, struct due_lane *l,
			   due_row_cb *row, void *arg)
{
	struct spool_due_row rows[LANE_ROWS];
	size_t n =
		spool_due_scan(r, q->id, l->lane, loop_wall(q->w->loop), &l->pos, rows, LANE_ROWS);

	for (size_t i = 0; i < n; i++) {
		if (inhand_find(q->w->inhand, rows[i].msgid, rows[i].rcpt))
			continue;
		if (!room(q, l->lane, share_of(q, l->lane), LANE_LEAST)) {
			q->due->left |= bit(l->lane);
			l->done = true;
			return n;
		}
		row(r, q, &rows[i], l->lane, arg);
	}
	l->done = n < LANE_ROWS;
	return n;
}

static struct due_lane *next_lane(struct due_pass *p)
{
	for (size_t i = 0; i < p->n; i++) {
		struct due_lane *l = &p->v[p->turn++ % p->n];

		if (!l->done)
			return l;
	}
	return NULL;
}

size_t due_helping(struct spool_read *r, struct queue *q, due_row_cb *row, void *arg,
		   bool *ret_more)
{
	struct due_lane *l = NULL;
	size_t n = 0;

	if (!q->due)
		q->due = pass_begin(r, q);
	while (n < HELPING && (l = next_lane(q->due)))
		n += lane_helping(r, q, l, row, arg);
	*ret_more = l != NULL;
	if (!l) {
		q->due_more = q->full = q->due->left;
		due_begin_again(q);
	}
	return n ? n : 1;
}
