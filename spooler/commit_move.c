/*
 * commit_move.c - recipients that change their virtual MTA.
 *
 * Only a recipient's owner gives it away: a worker that reports a move will not touch it again, and an order moves
 * what no worker holds. The row in table reroute says where new mail of a queue goes meanwhile. Reroutes
 * may lead to further ones; one that would lead back is refused, so that mail never goes round.
 */
#include "spooler/commit_private.h"

#include <stdlib.h>

#define HOPS_MAX 16
#define AGAIN_MSEC (60 * MSEC_PER_SEC) /* mail that found no way out is looked at again */

/* The virtual MTAs on a way; mail comes to none twice. */
struct way {
	uint32_t seen[HOPS_MAX];
	unsigned n;
};

/* NULL: its mail stays. A queue without a row in the spool never had any. */
static int load_reroute(struct commit *c, struct commit_qent *q)
{
	struct spool_reroute row;
	int rc;

	if (q->reroute_known)
		return 0;
	rc = q->id ? spool_reroute_get(write_read(c->w), q->vmta->id, q->id, &row) : ERR_NOT_FOUND;
	if (rc == 0 && !row.loop)
		q->reroute = slice_dup(row.target);
	q->reroute_known = true;
	return rc == ERR_NOT_FOUND ? 0 : rc;
}

/* One step from a queue of this domain; ERR_NOT_FOUND: there is none that was not on the way yet. */
static int next_hop(struct commit *c, const char *target, struct slice domain, struct way *way,
		    struct commit_qent **ret)
{
	const struct pool_wish wish = {.domain = domain, .not_in = way->seen, .not_count = way->n};
	struct commit_route *route;
	struct commit_vmta *v = NULL;
	int rc = cache_route(c, target, &route);

	if (rc == 0)
		rc = cache_route_next(c, route, &wish, &v);
	return rc < 0 ? rc : cache_queue(c, v, domain, ret);
}

static int follow(struct commit *c, struct commit_qent **q, struct way *way)
{
	while (way->n < HOPS_MAX) {
		int rc = load_reroute(c, *q);

		way->seen[way->n++] = (*q)->vmta->id;
		if (rc < 0 || !(*q)->reroute)
			return rc;
		rc = next_hop(c, (*q)->reroute, (*q)->domain, way, q);
		if (rc <
		    0) /* its target has left the configuration: its worker will see that, too */
			return rc == ERR_NOT_FOUND ? 0 : rc;
	}
	return 0;
}

int move_follow(struct commit *c, struct commit_qent **q)
{
	struct way way = {.n = 0};

	return follow(c, q, &way);
}

/* --- a recipient --- */

/* Its place in table due of the other queue. Due since it came: so the order of arrival stays. */
static int put_moved(struct commit *c, struct spool_recipient *r, struct commit_qent *to)
{
	msec_t received = c->subject.m.received;

	r->queue = to->id;
	r->due = received < c->now ? received : c->now;
	return recipient_put_due(c, r, to);
}

/* 1, or a negative err. */
static int move_to(struct commit *c, struct spool_recipient *r, struct commit_qent *q,
		   struct commit_qent *to)
{
	int64_t size = (int64_t)c->subject.m.size;
	int rc;

	if (to->settings->type == CONF_DOMAIN_DISCARD) {
		rc = discard_recipient(c, r, to);
		if (rc == 0)
			rc = recipient_remove(c, r, q);
		return rc < 0 ? rc : 1;
	}
	rc = cache_queue_need_id(c, to);
	if (rc == 0)
		rc = recipient_unplace(c, r, q);
	if (rc < 0)
		return rc;
	if (recount_has(c, r->msgid, r->rcpt)) { /* else the recount finds it where it is then */
		touch_count(c, touch_queue(c, q->id, q->vmta->id), r->msgid, r->rcpt, size, -1);
		touch_count(c, touch_queue(c, to->id, to->vmta->id), r->msgid, r->rcpt, size, 1);
	}
	rc = put_moved(c, r, to);
	return rc < 0 ? rc : 1;
}

int move_recipient(struct commit *c, struct spool_recipient *r, struct commit_qent *q,
		   const char *target)
{
	struct way way = {.seen = {q->vmta->id}, .n = 1};
	struct commit_qent *to = q;
	int rc = next_hop(c, target, q->domain, &way, &to);

	if (rc == 0)
		rc = follow(c, &to, &way);
	if (rc < 0)
		return rc == ERR_NOT_FOUND ? 0 : rc;
	return move_to(c, r, q, to);
}

/* --- reports --- */

/* Makes msgid the subject. ERR_NOT_FOUND: it is gone. */
static int enter(struct commit *c, uint64_t msgid)
{
	int rc;

	if (c->subject.loaded && c->subject.m.id == msgid)
		return 0;
	rc = subject_end(c);
	return rc < 0 ? rc : subject_begin(c, msgid);
}

/* To a better member of its pool; where there is none now, it stays and is not asked again soon. 1, or a negative err. */
static int reselect(struct commit *c, struct spool_recipient *r, struct commit_qent *q)
{
	struct way way = {.seen = {q->vmta->id}, .n = 1};
	const struct pool_wish wish = {
		.domain = q->domain, .not_in = way.seen, .not_count = 1, .better = true};
	char *pool = slice_dup(r->pool);
	struct commit_route *route;
	struct commit_qent *to = q;
	struct commit_vmta *v = NULL;
	int rc = cache_route(c, pool, &route);

	free(pool);
	if (rc == 0 && (!route->pool || !route->pool->reselect))
		return 1; /* no longer */
	if (rc == 0 && r->reselected &&
	    c->now < r->reselected + route->pool->reselect_interval / USEC_PER_MSEC)
		return 1;
	r->reselected = c->now;
	if (rc == 0)
		rc = pool_pick(c, route, &wish, &v);
	if (rc == 0)
		rc = cache_queue(c, v, q->domain, &to);
	if (rc == 0)
		rc = follow(c, &to, &way);
	if (rc < 0 && rc != ERR_NOT_FOUND)
		return rc;
	if (rc == 0 && to != q)
		return move_to(c, r, q, to);
	rc = recipient_to_due(c, r, q, r->fresh ? c->now : r->due);
	return rc < 0 ? rc : 1;
}

static int move_item(struct commit *c, const struct report_move *m, const char *target,
		     const struct report_park_item *item)
{
	struct spool_recipient r;
	struct commit_qent *q;
	int rc = enter(c, item->msgid);

	if (rc == 0)
		rc = subject_recipient(c, item->rcpt, &r, &q);
	/* gone, or it has another owner by now */
	if (rc == ERR_NOT_FOUND || (rc == 0 && r.queue != m->queue))
		return 0;
	if (rc == 0)
		rc = m->reselect ? reselect(c, &r, q) : move_recipient(c, &r, q, target);
	/* there is no way out now: not at once again, or nobody had rest */
	if (rc == 0)
		rc = recipient_to_due(c, &r, q, c->now + AGAIN_MSEC);
	return rc;
}

int apply_move(struct commit *c, const struct report_move *m)
{
	char *target = slice_dup(m->target);
	uint32_t i;
	int rc = 0;

	for (i = 0; rc >= 0 && i < m->item_count; i++)
		rc = move_item(c, m, target, &m->items[i]);
	free(target);
	return rc < 0 ? rc : subject_end(c);
}

/* Whether every way from `target` comes back to q's virtual MTA. */
static int leads_back(struct commit *c, const char *target, const struct commit_qent *q,
		      unsigned depth)
{
	struct commit_route *route;
	size_t i, n;
	int rc = cache_route(c, target, &route);

	if (rc < 0 || depth == HOPS_MAX)
		return rc == ERR_NOT_FOUND ? 0 : rc < 0 ? rc : 1;
	n = route->pool ? route->pool->member_count : 1;
	for (i = 0; i < n; i++) {
		struct commit_vmta *v = route->vmta;
		struct commit_qent *next;

		if (route->pool)
			rc = cache_vmta_by_name(c, slice_str(route->pool->members[i]->name), &v);
		if (rc == 0 && v == q->vmta)
			continue;
		if (rc == 0)
			rc = cache_queue(c, v, q->domain, &next);
		if (rc == 0)
			rc = load_reroute(c, next);
		if (rc == 0)
			rc = next->reroute ? leads_back(c, next->reroute, q, depth + 1) : 0;
		if (rc <= 0)
			return rc;
	}
	return 1;
}

static void say_loop(const struct commit_qent *q, struct slice target)
{
	log_warn(NULL,
		 "mail is not rerouted: by the reroutes of other virtual MTAs it would come back",
		 LOG_SL("domain", q->domain), LOG_S("vmta", q->vmta->name),
		 LOG_SL("target", target));
}

static int put_reroute(struct commit *c, const struct commit_qent *q,
		       const struct report_reroute *r, bool loop)
{
	struct spool_key k = key_reroute(q->vmta->id, q->id);
	struct spool_reroute row = {.since = c->now}, old = {.loop = false};
	bool same = spool_reroute_get(write_read(c->w), q->vmta->id, q->id, &old) == 0 &&
		    slice_eq(old.target, r->target);

	if (same)
		row.since = old.since;
	if (loop && !(same && old.loop))
		say_loop(q, r->target);
	row.loop = loop;
	row.target = r->target;
	row.until = r->until;
	row.why = r->why;
	buf_clear(&c->value);
	row_reroute_encode(&row, &c->value);
	return write_put(c->w, SPOOL_REROUTE, &k, buf_slice(&c->value));
}

static int end_reroute(struct commit *c, const struct commit_qent *q)
{
	struct spool_key k = key_reroute(q->vmta->id, q->id);
	int rc = write_delete(c->w, SPOOL_REROUTE, &k);

	return rc == ERR_NOT_FOUND ? 0 : rc;
}

int apply_reroute(struct commit *c, const struct report_reroute *r)
{
	struct commit_qent *q = cache_queue_by_id(c, r->queue);
	char *target;
	int rc, loop;

	if (!q)
		return 0;
	free(q->reroute);
	q->reroute = NULL;
	q->reroute_known = true;
	if (r->target.n == 0)
		return end_reroute(c, q);
	target = slice_dup(r->target);
	loop = leads_back(c, target, q, 0);
	rc = loop < 0 ? loop : put_reroute(c, q, r, loop);
	if (rc == 0 && !loop)
		q->reroute = target;
	else
		free(target);
	return rc;
}
