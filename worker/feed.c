#include "worker/feed.h"

#include <stdlib.h>

#include "common/base/log.h"
#include "common/base/xalloc.h"
#include "common/spool/spool.h"
#include "worker/condemn.h"
#include "worker/context.h"
#include "worker/due.h"
#include "worker/inhand.h"
#include "worker/duties.h"
#include "worker/post.h"
#include "worker/queue.h"
#include "worker/reroute.h"
#include "worker/reselect.h"
#include "worker/site.h"
#include "worker/verdict.h"

#define FRESH_AT_ONCE 400
#define WAKE_AT_ONCE 200
#define AHEAD_ROWS 100 /* looked at for a message that is taken before its time */
#define DUE_AT_ONCE 400
#define PARK_BATCHES 64
#define PARK_ROOM \
	ring_cost(sizeof(struct report_park_item) + 96) /* in the ring, for a row that is parked */
#define WAKE_GAP (20 * USEC_PER_MSEC) /* between two walks over the wake table */
/* … of which some rows were passed over for want of room; and for each row, so that walks cost little */
#define WAKE_GAP_FULL USEC_PER_SEC
#define WAKE_GAP_ROW 20
#define POLL_BUSY (5 * USEC_PER_MSEC) /* while outcomes are not yet committed */
#define POLL_CALM (1 * USEC_PER_SEC) /* wall clock jumps, bells that were missed */

static const size_t class_rows[SPOOL_CLASSES] = {64, 32, 16, 8};

/* Recipients of one queue that go from fresh to due. */
struct park_batch {
	struct queue *queue;
	struct report_park_item *items;
	uint32_t n;
};

struct feed {
	struct worker *w;
	struct loop_timer *timer;
	bool run_due;
	bool again; /* a bound was hit: there is more */

	struct spool_fresh_pos fresh[SPOOL_CLASSES];
	bool fresh_more[SPOOL_CLASSES];

	struct spool_wake_pos wake;
	bool wake_pass; /* a walk over the wake table is wanted or under way */
	usec_t wake_walked; /* end of the last walk */
	uint64_t wake_rows; /* of this walk */
	bool wake_passed_over;
	usec_t wake_gap; /* before the next one */
	msec_t wake_next; /* first row that is not due yet */

	TAILQ_HEAD(, queue) refills;
	uint32_t refill_count;

	struct park_batch parks[PARK_BATCHES];
	uint32_t park_count;
	uint64_t park_room; /* kept in the ring for rows that are read now */
	struct queue **touched; /* got mail in this burst: their sites are kicked after it */
	uint32_t touched_count, touched_cap;
};

static void run(void *arg);

static void on_timer(void *arg)
{
	feed_wake(arg);
}

struct feed *feed_new(struct worker *w)
{
	struct feed *f = xcalloc(1, sizeof(*f));

	f->w = w;
	f->timer = loop_timer_new(w->loop, on_timer, f);
	f->wake_pass = true;
	TAILQ_INIT(&f->refills);
	return f;
}

void feed_free(struct feed *f)
{
	if (!f)
		return;
	loop_timer_free(f->timer);
	for (uint32_t i = 0; i < PARK_BATCHES; i++)
		free(f->parks[i].items);
	free(f->touched);
	free(f);
}

static void request(struct feed *f)
{
	if (f->run_due || !f->w->spool)
		return;
	f->run_due = true;
	loop_defer(f->w->loop, run, f);
}

void feed_wake(struct feed *f)
{
	for (int c = 0; c < SPOOL_CLASSES; c++)
		f->fresh_more[c] = true;
	f->wake_pass = true;
	request(f);
}

void feed_rewind(struct feed *f)
{
	f->wake = (struct spool_wake_pos){0};
	f->wake_pass = true;
	request(f);
}

static void refill_list(struct feed *f, struct queue *q)
{
	q->refill_listed = true;
	TAILQ_INSERT_TAIL(&f->refills, q, refill);
	f->refill_count++;
}

void feed_refill(struct feed *f, struct queue *q)
{
	if (q->refill_listed)
		return;
	refill_list(f, q);
	request(f);
}

static void refill_unlist(struct feed *f, struct queue *q)
{
	q->refill_listed = false;
	TAILQ_REMOVE(&f->refills, q, refill);
	f->refill_count--;
}

void feed_forget(struct feed *f, struct queue *q)
{
	if (q->refill_listed)
		refill_unlist(f, q);
}

/* --- taking recipients --- */

static void touch(struct feed *f, struct queue *q)
{
	if (f->touched_count && f->touched[f->touched_count - 1] == q)
		return;
	if (f->touched_count == f->touched_cap) {
		f->touched_cap = f->touched_cap ? 2 * f->touched_cap : 64;
		f->touched = xreallocarray(f->touched, f->touched_cap, sizeof(struct queue *));
	}
	f->touched[f->touched_count++] = q;
}

static void kick_touched(struct feed *f)
{
	for (uint32_t i = 0; i < f->touched_count; i++)
		site_kick(f->touched[i]->site);
	f->touched_count = 0;
}

/* Whether an order forbids to touch it; *ret_job is for its lane. */
static bool look_at(struct feed *f, struct spool_read *r, const struct queue *q, uint64_t msgid,
		    uint32_t rcpt, uint8_t *ret_job)
{
	struct spool_message m;

	*ret_job = 0;
	if (spool_message_get(r, msgid, &m) < 0)
		return false;
	*ret_job = spool_job_bucket(m.job);
	return !duties_deleting(f->w->duties) ||
	       !duties_delete_matches(f->w->duties, r, q, &m, rcpt);
}

/* False: it must not be taken now. */
static bool take(struct feed *f, struct spool_read *r, struct queue *q, uint64_t msgid,
		 uint32_t rcpt, uint8_t class, bool fresh)
{
	struct item *it;
	uint8_t job;

	if (!look_at(f, r, q, msgid, rcpt, &job))
		return false;
	it = inhand_add(f->w->inhand, msgid, rcpt, q, fresh);
	it->class = class;
	it->job = job;
	queue_put(q, it, false);
	touch(f, q);
	return true;
}

/* --- fresh --- */

/* Of what was kept: for rows that are parked now, or need not be. */
static void park_release(struct feed *f, uint64_t room)
{
	post_release(f->w->post, room);
	f->park_room -= room;
}

static void park_flush(struct feed *f)
{
	for (uint32_t i = 0; i < f->park_count; i++) {
		struct park_batch *b = &f->parks[i];
		const struct report_park k = {.queue = b->queue->id,
					      .due = queue_not_before(b->queue),
					      .items = b->items,
					      .item_count = b->n};

		park_release(f, b->n * PARK_ROOM);
		if (!post_park(f->w->post, &k)) /* room was kept before the scan */
			panic("no room in the ring for parked recipients");
		b->n = 0;
	}
	f->park_count = 0;
}

static void park(struct feed *f, struct queue *q, uint64_t msgid, uint32_t rcpt)
{
	struct park_batch *b = NULL;

	for (uint32_t i = 0; i < f->park_count && !b; i++)
		if (f->parks[i].queue == q)
			b = &f->parks[i];
	if (!b) {
		if (f->park_count == PARK_BATCHES)
			park_flush(f);
		b = &f->parks[f->park_count++];
		b->queue = q;
		if (!b->items)
			b->items = xcalloc(FRESH_AT_ONCE, sizeof(*b->items));
	}
	b->items[b->n++] = (struct report_park_item){.msgid = msgid, .rcpt = rcpt};
}

static void fresh_row(struct feed *f, struct spool_read *r, const struct spool_fresh_row *row,
		      uint8_t class)
{
	struct queue *q = queue_get(f->w, r, row->queue);

	if (!q) {
		log_error(NULL, "new mail for a queue that is not mine", LOG_U("queue", row->queue),
			  LOG_U("msgid", row->msgid));
		return;
	}
	if (inhand_find(f->w->inhand, row->msgid, row->rcpt))
		return;
	site_new_mail(q->site);
	if (q->home != q->site)
		site_new_mail(q->home);
	if (condemn_means(q, r, row->msgid, true)) {
		park(f, q, row->msgid, row->rcpt);
		return;
	}
	if (queue_is_blocked(q) || (q->full & 1u << class) ||
	    q->class_waiting[class] >= inhand_share(f->w->inhand, q, class)) {
		if (!queue_is_blocked(q)) {
			q->full |= (uint8_t)(1u << class);
			q->due_more |= (uint8_t)(1u << class);
		}
		queue_publish(q);
		park(f, q, row->msgid, row->rcpt);
		return;
	}
	/* the order that forbids it may have passed this message by already: it must be seen again */
	if (!take(f, r, q, row->msgid, row->rcpt, class, true))
		park(f, q, row->msgid, row->rcpt);
}

static size_t fresh_class(struct feed *f, struct spool_read *r, uint8_t class, size_t most)
{
	struct spool_fresh_row rows[64];
	size_t n;

	if (most > class_rows[class])
		most = class_rows[class];
	n = spool_fresh_scan(r, f->w->vmta_id, class, &f->fresh[class], rows, most);
	for (size_t i = 0; i < n; i++)
		fresh_row(f, r, &rows[i], class);
	f->fresh_more[class] = n == most;
	return n;
}

static bool fresh_seen(const struct feed *f)
{
	for (int c = 0; c < SPOOL_CLASSES; c++)
		if (f->fresh_more[c])
			return false;
	return true;
}

/* Parked rows need room in the ring, and what has been read must not be lost: so many, at most. */
static size_t fresh_allowed(const struct feed *f)
{
	uint64_t n = post_room(f->w->post) / PARK_ROOM;

	if (f->w->stopping)
		return 0;
	return n < FRESH_AT_ONCE ? (size_t)n : FRESH_AT_ONCE;
}

static void read_fresh(struct feed *f, struct spool_read *r)
{
	size_t left = fresh_allowed(f), got = 1;

	if (!left)
		return;
	f->park_room = left * PARK_ROOM;
	post_keep(f->w->post, f->park_room);
	while (left && got) {
		got = 0;
		for (uint8_t c = 0; c < SPOOL_CLASSES && left; c++) {
			size_t n = f->fresh_more[c] ? fresh_class(f, r, c, left) : 0;

			got += n;
			left -= n;
		}
	}
	park_flush(f);
	park_release(f, f->park_room);
	if (left == 0)
		f->again = true;
}

/* --- wake and due --- */

static void wake_row(struct feed *f, struct spool_read *r, const struct spool_wake_row *row)
{
	struct queue *q = queue_find(f->w, row->queue);

	/* Mail to hosts that nobody has reached yet waits where it is, and so does its queue. */
	if (inhand_unreached_full(f->w->inhand) && !(q && q->reached)) {
		f->wake_passed_over = true;
		return;
	}
	q = queue_get(f->w, r, row->queue);
	if (!q) {
		log_error(NULL, "deferred mail for a queue that is not mine",
			  LOG_U("queue", row->queue));
		return;
	}
	if (queue_is_blocked(q)) {
		queue_publish(q);
		queue_push_wake(q);
		return;
	}
	if (!q->due_more)
		queue_publish(q); /* the retry time may have come */
	q->due_more = DUE_ALL;
	feed_refill(f, q);
}

static void read_wake(struct feed *f, struct spool_read *r)
{
	struct spool_wake_row rows[WAKE_AT_ONCE];
	msec_t now = loop_wall(f->w->loop);
	size_t n;

	if (!f->wake_pass || f->w->stopping || inhand_full(f->w->inhand))
		return;
	if (f->wake.started == false && loop_now(f->w->loop) - f->wake_walked < f->wake_gap)
		return;
	n = spool_wake_scan(r, f->w->vmta_id, now, &f->wake, rows, WAKE_AT_ONCE);
	for (size_t i = 0; i < n; i++)
		wake_row(f, r, &rows[i]);
	f->wake_rows += n;
	if (n == WAKE_AT_ONCE) {
		f->again = true;
		return;
	}
	f->wake_gap = f->wake_passed_over ? WAKE_GAP_FULL + f->wake_rows * WAKE_GAP_ROW : WAKE_GAP;
	f->wake_rows = 0;
	f->wake_passed_over = false;
	f->wake_pass = false;
	f->wake_walked = loop_now(f->w->loop);
	f->wake = (struct spool_wake_pos){0};
}

static msec_t next_wake(struct feed *f, struct spool_read *r)
{
	struct spool_wake_pos pos = {
		.at = loop_wall(f->w->loop), .queue = UINT32_MAX, .started = true};
	struct spool_wake_row row;

	return spool_wake_scan(r, f->w->vmta_id, UINT64_MAX, &pos, &row, 1) ? row.at : UINT64_MAX;
}

/* Too old: it bounces now, without a connection. */
static bool expire(struct spool_read *r, struct queue *q, const struct spool_recipient *row)
{
	struct spool_message m;
	struct outcome o;
	struct item *it;

	if (spool_message_get(r, row->msgid, &m) < 0 || !verdict_expired(q, &m, row, &o))
		return false;
	it = inhand_add(q->w->inhand, row->msgid, row->rcpt, q, false);
	if (verdict_items(q->site, &it, 1, &o, 0))
		return true;
	inhand_forget(q->w->inhand, it);
	return false;
}

static void due_row(struct spool_read *r, struct queue *q, const struct spool_due_row *row,
		    uint8_t lane, void *arg)
{
	struct spool_recipient x;

	if (condemn_means(q, r, row->msgid, false) ||
	    spool_recipient_get(r, row->msgid, row->rcpt, &x) < 0 || expire(r, q, &x))
		return;
	(void)take(arg, r, q, row->msgid, row->rcpt, spool_lane_class(lane), false);
}

/* One helping from the due table. Returns rows read. */
static size_t due_queue(struct feed *f, struct spool_read *r, struct queue *q)
{
	uint8_t full = q->full;
	bool more;
	size_t n = due_helping(r, q, due_row, f, &more);

	if (q->full != full)
		queue_publish(q);
	if (more && !q->refill_listed)
		refill_list(f, q);
	return n;
}

/* The lane whose first row is due first. False: the queue has no deferred mail. */
static bool first_lane(struct spool_read *r, const struct queue *q, uint8_t *ret)
{
	msec_t first = UINT64_MAX, due;
	bool found = false;
	uint8_t at = 0;

	for (unsigned lane = 0; lane <= UINT8_MAX; lane = at + 1u) {
		at = (uint8_t)lane;
		if (!spool_due_lane(r, q->id, &at, &due))
			break;
		if (due < first) {
			first = due;
			*ret = at;
			found = true;
		}
	}
	return found;
}

bool feed_take_ahead(struct feed *f, struct queue *q)
{
	struct spool_due_pos pos = {.started = false};
	struct spool_due_row rows[AHEAD_ROWS];
	struct spool_read *r;
	uint64_t msgid = 0;
	uint8_t lane = 0;
	size_t n = 0;

	if (spool_read_begin(f->w->spool, &r) < 0)
		return false;
	if (first_lane(r, q, &lane))
		n = spool_due_scan(r, q->id, lane, UINT64_MAX, &pos, rows, AHEAD_ROWS);
	for (size_t i = 0; i < n; i++) {
		if (inhand_find(f->w->inhand, rows[i].msgid, rows[i].rcpt) ||
		    (msgid && rows[i].msgid != msgid))
			continue;
		if (take(f, r, q, rows[i].msgid, rows[i].rcpt, spool_lane_class(lane), false))
			msgid = rows[i].msgid;
	}
	spool_read_end(r);
	return msgid != 0;
}

static void read_due(struct feed *f, struct spool_read *r)
{
	size_t left = DUE_AT_ONCE;
	uint32_t turns = f->refill_count;
	struct queue *q;

	while (left && turns-- && (q = TAILQ_FIRST(&f->refills))) {
		size_t n;

		refill_unlist(f, q);
		if (queue_is_blocked(q)) {
			q->due_more = 0;
			due_begin_again(q);
			continue;
		}
		n = due_queue(f, r, q);
		left = left > n ? left - n : 0;
	}
	f->again |= f->refill_count > 0;
}

/* --- one burst --- */

static void set_timer(struct feed *f)
{
	msec_t now = loop_wall(f->w->loop);
	usec_t wait = POLL_CALM;

	if (inhand_has_done(f->w->inhand))
		wait = POLL_BUSY;
	else if (f->wake_pass)
		wait = f->wake_gap < POLL_CALM ? f->wake_gap : POLL_CALM;
	if (f->wake_next <= now)
		wait = wait < USEC_PER_MSEC ? wait : USEC_PER_MSEC;
	else if (f->wake_next - now < wait / USEC_PER_MSEC)
		wait = (f->wake_next - now) * USEC_PER_MSEC;
	loop_timer_set(f->timer, wait);
}

static void run(void *arg)
{
	struct feed *f = arg;
	struct worker *w = f->w;
	uint64_t committed = post_committed(w->post), seq = duties_seq(w->duties);
	struct spool_read *r;

	f->run_due = false;
	f->again = false;
	if (spool_read_begin(w->spool, &r) < 0) {
		loop_timer_set(f->timer, POLL_CALM);
		return;
	}
	inhand_settle(w->inhand, committed);
	duties_look(w->duties, r, seq);
	read_fresh(f, r);
	f->again |= condemn_burst(w, r, fresh_seen(f));
	read_wake(f, r);
	read_due(f, r);
	reroutes_burst(w->reroutes, r);
	reselects_burst(w->reselects, r);
	f->wake_next = next_wake(f, r);
	spool_read_end(r);
	kick_touched(f);
	if (f->again)
		request(f);
	set_timer(f);
}
