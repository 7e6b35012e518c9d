#include "worker/reroute.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/log.h"
#include "common/base/xalloc.h"
#include "common/conf/conf.h"
#include "common/spool/spool.h"
#include "worker/context.h"
#include "worker/duties.h"
#include "worker/events.h"
#include "worker/feed.h"
#include "worker/inhand.h"
#include "worker/mode.h"
#include "worker/post.h"
#include "worker/queue.h"
#include "worker/site.h"
#include "worker/warmup.h"

#define REPLY_LASTS (10 * 60 * MSEC_PER_SEC)
#define MOVE_CHUNK 500 /* under way to the committer at a time, so that feeders never wait long */
#define QUEUES_PER_BURST 500
#define LOADS_PER_BURST 200
#define BY_SETTING "reroute-to-virtual-mta"
#define ASK_AGAIN (60 * USEC_PER_SEC) /* after a refusal */

enum state {
	UNSAID, /* the ring had no room: once more */
	ASKED, /* the committer has it before it */
	LEAVING, /* its mail goes */
	REFUSED, /* its mail stays */
};

struct rerouting {
	struct queue *q;
	char *target; /* NULL: only the reply's is left */
	char *why;
	enum state state;
	uint64_t position; /* ASKED: behind the report in the ring */
	usec_t ask_at; /* REFUSED: monotonic */
	struct spool_due_pos pos; /* LEAVING: in its range of table due */
	/* what a reply has asked for */
	char *reply_target, *reply_why;
	msec_t reply_until;
	TAILQ_ENTRY(rerouting) link;
};

struct reroutes {
	struct worker *w;
	TAILQ_HEAD(, rerouting) list;
	uint32_t count;
	uint64_t moved; /* ring position behind the last report of a move */
	bool loaded; /* all queues with a row were looked at with this configuration */
	uint32_t load_after, conf_gen;
};

struct reroutes *reroutes_new(struct worker *w)
{
	struct reroutes *x = xcalloc(1, sizeof(*x));

	x->w = w;
	TAILQ_INIT(&x->list);
	return x;
}

void reroutes_free(struct reroutes *x)
{
	free(x);
}

bool reroute_is_active(const struct queue *q)
{
	return q->reroute && q->reroute->target && q->reroute->state != REFUSED;
}

/* What the settings say is looked at again when mail comes, and with each configuration. */
bool reroute_keeps(const struct queue *q)
{
	const struct rerouting *x = q->reroute;

	return x && !(x->target && x->state == LEAVING && !x->reply_target &&
		      strcmp(x->why, BY_SETTING) == 0);
}

const char *reroute_target(const struct queue *q)
{
	return q->reroute && q->reroute->state == LEAVING ? q->reroute->target : NULL;
}

const char *reroute_why(const struct queue *q)
{
	return q->reroute ? q->reroute->why : NULL;
}

static struct rerouting *rerouting_of(struct queue *q)
{
	struct rerouting *x = q->reroute;

	if (x)
		return x;
	x = q->reroute = xcalloc(1, sizeof(*x));
	x->q = q;
	TAILQ_INSERT_TAIL(&q->w->reroutes->list, x, link);
	q->w->reroutes->count++;
	return x;
}

static void set_text(char **at, const char *text)
{
	char *old = *at;

	*at = text ? xstrdup(text) : NULL;
	free(old);
}

void reroute_forget(struct queue *q)
{
	struct rerouting *x = q->reroute;

	if (!x)
		return;
	TAILQ_REMOVE(&q->w->reroutes->list, x, link);
	q->w->reroutes->count--;
	free(x->target);
	free(x->why);
	free(x->reply_target);
	free(x->reply_why);
	free(x);
	q->reroute = NULL;
}

/* --- what should be --- */

/* A virtual MTA other than its own, or a pool with such a member. */
static bool leads_away(const struct queue *q, const char *target)
{
	const struct conf *c = q->w->conf;
	const struct conf_pool *pool = conf_pool_find(c, slice_str(target));
	const struct conf_vmta *v = conf_vmta_find(c, slice_str(target));
	size_t i;

	if (v)
		return v != q->w->vmta;
	for (i = 0; pool && i < pool->member_count; i++)
		if (pool->members[i] != q->w->vmta)
			return true;
	return false;
}

static bool reply_holds(const struct queue *q)
{
	const struct rerouting *x = q->reroute;

	return x && x->reply_target &&
	       (x->reply_until > loop_wall(q->w->loop) || mode_is_backoff(q->site) ||
		site_lacks_source(q));
}

/* NULL: its mail stays. */
static const char *wanted(const struct queue *q, const char **ret_why)
{
	const struct conf_domain *set = q->site->set;

	if (q->paused || worker_is_orphan(q->w))
		return NULL;
	if (reply_holds(q) && leads_away(q, q->reroute->reply_target)) {
		*ret_why = q->reroute->reply_why;
		return q->reroute->reply_target;
	}
	if (mode_is_backoff(q->site) && set->backoff_reroute_to_virtual_mta &&
	    leads_away(q, set->backoff_reroute_to_virtual_mta)) {
		*ret_why = "backoff-reroute-to-virtual-mta";
		return set->backoff_reroute_to_virtual_mta;
	}
	if (set->reroute_to_virtual_mta && leads_away(q, set->reroute_to_virtual_mta)) {
		*ret_why = BY_SETTING;
		return set->reroute_to_virtual_mta;
	}
	return warmup_overflow(q->site, ret_why);
}

/* --- telling the committer --- */

static void say(struct queue *q)
{
	struct rerouting *x = q->reroute;
	bool reply = x->target && x->reply_target && strcmp(x->target, x->reply_target) == 0;
	const struct report_reroute r = {.queue = q->id,
					 .target = slice_str(x->target),
					 .until = reply ? x->reply_until : 0,
					 .why = slice_str(x->why)};

	x->state = UNSAID;
	if (!post_reroute(q->w->post, &r))
		return;
	x->state = ASKED;
	x->position = post_position(q->w->post);
	q->wake_position = x->position; /* it must be there before the queue may be forgotten */
}

static void begin(struct queue *q, const char *target, const char *why)
{
	struct rerouting *x = rerouting_of(q);

	set_text(&x->target, target);
	set_text(&x->why, why);
	x->pos = (struct spool_due_pos){0};
	say(q);
	queue_publish(q);
	(void)queue_give_back(q, loop_wall(q->w->loop));
	queue_push_wake(q);
}

/* The mail that is left, and new mail, go on from here. No connection is given work: a read may be under way. */
static void stay(struct queue *q)
{
	q->full = 0;
	queue_publish(q);
	(void)post_wake(q->w->post, q->id, 0); /* no room: the sweep sees to it */
	q->wake_position = post_position(q->w->post);
	queue_want_due(q);
}

static void end(struct queue *q)
{
	struct rerouting *x = q->reroute;
	bool was_active = reroute_is_active(q);
	char *target = x->target;

	if (x->state == LEAVING)
		log_info(NULL, "mail of a queue is no longer rerouted", LOG_S("queue", q->name),
			 LOG_S("target", target));
	events_add(q->w, &q->site->events, "mail goes through %s no longer", target);
	x->target = NULL;
	free(target);
	say(q);
	if (was_active)
		stay(q);
}

/* Nothing stands in the spool any more, and no reply counts: nothing to remember. */
static void drop_if_over(struct queue *q)
{
	struct rerouting *x = q->reroute;

	if (x->target || x->state == UNSAID || post_committed(q->w->post) < x->position)
		return;
	if (!reply_holds(q))
		reroute_forget(q);
}

static void set_reply(struct queue *q, const char *target, const char *why, msec_t until)
{
	struct rerouting *x = rerouting_of(q);

	set_text(&x->reply_target, target);
	set_text(&x->reply_why, why);
	x->reply_until = until;
}

/*
 * A reply to one domain of a provider has disabled the addresses for all of them: the mail of the others, which
 * nobody can answer now, goes where that of the first one goes. Whether there is such a one comes first: where
 * operators disable addresses the other question goes over all queues of the site.
 */
static void follow_others(struct queue *q)
{
	struct reroutes *all = q->w->reroutes;
	const struct rerouting *x;

	if (q->site == q->home || q->site->alone_at == loop_now(q->w->loop) || reply_holds(q))
		return;
	TAILQ_FOREACH(x, &all->list, link)
		if (x->q->site == q->site && reply_holds(x->q)) {
			if (site_lacks_source(q))
				set_reply(q, x->reply_target, x->reply_why, x->reply_until);
			return;
		}
	q->site->alone_at = loop_now(q->w->loop);
}

void reroute_look(struct queue *q)
{
	const char *why = NULL, *target;
	struct rerouting *x;

	follow_others(q);
	x = q->reroute;
	target = wanted(q, &why);

	if (target && (!x || !x->target || strcmp(x->target, target) != 0)) {
		begin(q, target, why);
	} else if (!target && x && x->target) {
		end(q);
	} else if (x && x->state == UNSAID) {
		say(q);
	} else if (x && x->state == REFUSED && loop_now(q->w->loop) >= x->ask_at) {
		say(q);
		queue_publish(q);
	} else if (x) {
		drop_if_over(q);
	}
}

void reroute_queue(struct queue *q, const char *target, const char *why)
{
	if (!leads_away(q, target))
		return;
	set_reply(q, target, why, loop_wall(q->w->loop) + REPLY_LASTS);
	reroute_look(q);
}

/* --- what an earlier worker has begun --- */

void reroute_load(struct queue *q, struct spool_read *r)
{
	struct spool_reroute row;
	struct rerouting *x;

	if (spool_reroute_get(r, q->w->vmta_id, q->id, &row) == 0) {
		x = rerouting_of(q);
		x->target = slice_dup(row.target);
		x->why = slice_dup(row.why);
		x->state = row.loop ? REFUSED : LEAVING;
		x->ask_at = loop_now(q->w->loop);
		if (row.until) {
			x->reply_target = slice_dup(row.target);
			x->reply_why = slice_dup(row.why);
			x->reply_until = row.until;
		}
	}
	reroute_look(q);
}

bool reroute_may_want(struct worker *w, struct spool_read *r, struct slice site)
{
	const struct conf_domain *set = conf_domain_for(w->conf, site, slice_str(w->vmta_name));
	struct spool_site row;

	if (worker_is_orphan(w))
		return false;
	if (set->reroute_to_virtual_mta)
		return true;
	return set->backoff_reroute_to_virtual_mta &&
	       spool_site_get(r, w->vmta_id, site, &row) == 0 && row.mode.mode != SITE_NORMAL;
}

/* Queues without mail, too: nobody else would end their reroutes. */
static void load_some(struct reroutes *x, struct spool_read *r)
{
	struct spool_reroute row;

	for (int i = 0; i < LOADS_PER_BURST; i++) {
		if (spool_reroute_next(r, x->w->vmta_id, &x->load_after, &row) <= 0) {
			x->loaded = true;
			return;
		}
		(void)queue_get(x->w, r, x->load_after);
	}
	feed_wake(x->w->feed);
}

/* --- the mail --- */

static void on_answer(struct queue *q, struct spool_read *r)
{
	struct rerouting *x = q->reroute;
	struct spool_reroute row;

	if (!x->target || spool_reroute_get(r, q->w->vmta_id, q->id, &row) < 0)
		return;
	if (row.loop) {
		x->state = REFUSED;
		x->ask_at = loop_now(q->w->loop) + ASK_AGAIN;
		events_add(q->w, &q->site->events,
			   "mail stays: it would come back from %s by other reroutes", x->target);
		stay(q);
		return;
	}
	x->state = LEAVING;
	log_info(NULL, "mail of a queue is rerouted", LOG_S("queue", q->name),
		 LOG_S("target", x->target), LOG_S("why", x->why));
	events_add(q->w, &q->site->events, "mail goes through %s: %s", x->target, x->why);
}

/* An order that deletes or moves it has the first say. */
static bool is_ordered(struct queue *q, struct spool_read *r, const struct spool_due_row *row)
{
	struct spool_message m;

	return duties_deleting(q->w->duties) && spool_message_get(r, row->msgid, &m) == 0 &&
	       duties_delete_matches(q->w->duties, r, q, &m, row->rcpt);
}

struct leaving {
	struct report_park_item items[MOVE_CHUNK];
	struct item *held[MOVE_CHUNK];
	uint32_t n;
};

static void pick(struct queue *q, struct spool_read *r, struct leaving *k, uint32_t most)
{
	struct spool_due_row rows[MOVE_CHUNK];
	size_t n = spool_due_walk(r, q->id, &q->reroute->pos, rows, most);

	k->n = 0;
	for (size_t i = 0; i < n; i++) {
		if (inhand_find(q->w->inhand, rows[i].msgid, rows[i].rcpt) ||
		    is_ordered(q, r, &rows[i]))
			continue;
		k->held[k->n] = inhand_add(q->w->inhand, rows[i].msgid, rows[i].rcpt, q, false);
		k->items[k->n++] = (struct report_park_item){rows[i].msgid, rows[i].rcpt};
	}
	if (n < most) /* from the start: what comes in stands anywhere */
		q->reroute->pos = (struct spool_due_pos){0};
}

static uint32_t give_away(struct queue *q, struct spool_read *r, uint32_t most)
{
	struct worker *w = q->w;
	struct spool_due_pos before = q->reroute->pos;
	struct leaving k;
	struct report_move m = {
		.queue = q->id, .target = slice_str(q->reroute->target), .items = k.items};

	pick(q, r, &k, most);
	m.item_count = k.n;
	if (k.n && !post_move(w->post, &m)) {
		for (uint32_t i = 0; i < k.n; i++)
			inhand_forget(w->inhand, k.held[i]);
		q->reroute->pos = before;
		return most;
	}
	for (uint32_t i = 0; i < k.n; i++)
		inhand_done(w->inhand, k.held[i], post_position(w->post));
	if (k.n)
		w->reroutes->moved = post_position(w->post);
	return k.n;
}

bool reroute_leave(struct item *it)
{
	struct worker *w = it->queue->w;
	const struct report_park_item item = {it->key.msgid, (uint32_t)it->key.rcpt};
	const struct report_move m = {.queue = it->queue->id,
				      .target = slice_str(it->leave),
				      .items = &item,
				      .item_count = 1};

	if (!post_move(w->post, &m))
		return false;
	inhand_done(w->inhand, it, post_position(w->post));
	return true;
}

static void burst_queue(struct rerouting *x, struct spool_read *r, uint32_t *left)
{
	struct queue *q = x->q;

	if (x->state == ASKED && post_committed(q->w->post) >= x->position)
		on_answer(q, r);
	if (x->state != LEAVING || !x->target || *left == 0)
		return;
	if (q->waiting) /* came back from a transaction */
		(void)queue_give_back(q, loop_wall(q->w->loop));
	*left -= give_away(q, r, *left);
}

void reroutes_burst(struct reroutes *x, struct spool_read *r)
{
	uint32_t left = post_committed(x->w->post) >= x->moved ? MOVE_CHUNK : 0;
	uint32_t turns = x->count < QUEUES_PER_BURST ? x->count : QUEUES_PER_BURST;
	struct rerouting *q;

	if (x->conf_gen != x->w->conf_gen) { /* another one may want other things */
		x->conf_gen = x->w->conf_gen;
		x->loaded = false;
		x->load_after = 0;
	}
	if (!x->loaded)
		load_some(x, r);
	if (x->w->stopping)
		return;
	while (turns-- && (q = TAILQ_FIRST(&x->list))) {
		TAILQ_REMOVE(&x->list, q, link);
		TAILQ_INSERT_TAIL(&x->list, q, link);
		burst_queue(q, r, &left);
	}
}
