/*
 * commit_intake.c - messages into the spool.
 */
#include "spooler/commit_private.h"

#include <stdlib.h>

/* Where one recipient goes. */
struct placed {
	struct commit_qent *queue;
	const char *pool; /* or NULL */
	uint8_t class;
	bool discard;
};

static uint64_t memory_size(const struct intake_message *m)
{
	return m->big ? 0 : m->size;
}

/* All routes are looked at before anything is written: a message goes in whole or not at all. */
static int check_routes(struct commit *c, const struct intake_message *m)
{
	struct commit_route *route;
	uint32_t i;

	for (i = 0; i < m->recipient_count; i++) {
		int rc = cache_route(c, m->recipients[i].route, &route);

		if (rc < 0)
			return rc;
	}
	return 0;
}

/* queue-to: the queue of another name takes the mail. */
static int lead_on(struct commit *c, struct commit_vmta *v, const char *name,
		   struct commit_qent **ret)
{
	char *domain = slice_dup_lower(slice_str(name));
	int rc = cache_queue(c, v, slice_str(domain), ret);

	free(domain);
	return rc;
}

/* recipient-priority 75-100 is class 0, which is served first. */
static uint8_t class_of(uint64_t priority)
{
	return (uint8_t)(priority >= 75 ? 0 : priority >= 50 ? 1 : priority >= 25 ? 2 : 3);
}

/* As was set for the recipient's domain, wherever that is led, and the virtual MTA that takes it now. */
static int classify(struct commit *c, const struct intake_recipient *r, struct placed *at)
{
	struct commit_qent *own;
	int rc;

	at->class = r->class;
	if (r->class != INTAKE_CLASS_OF_SETTINGS)
		return 0;
	rc = cache_queue(c, at->queue->vmta, slice_str(r->domain), &own);
	if (rc == 0)
		at->class = class_of(own->settings->recipient_priority);
	return rc;
}

static int place(struct commit *c, const struct intake_recipient *r, struct placed *ret)
{
	struct commit_route *route;
	struct commit_vmta *v;
	const struct pool_wish wish = {.domain = slice_str(r->domain)};
	int rc = cache_route(c, r->route, &route);

	if (rc == 0)
		rc = cache_route_next(c, route, &wish, &v);
	if (rc == 0)
		rc = cache_queue(c, v, wish.domain, &ret->queue);
	if (rc == 0 && ret->queue->settings->queue_to)
		rc = lead_on(c, v, ret->queue->settings->queue_to, &ret->queue);
	if (rc == 0)
		rc = cold_choose(c, route, &ret->queue);
	if (rc == 0)
		rc = move_follow(c, &ret->queue);
	if (rc == 0)
		rc = classify(c, r, ret);
	if (rc < 0)
		return rc;
	ret->pool = route->pool ? route->name : NULL;
	ret->discard = ret->queue->settings->type == CONF_DOMAIN_DISCARD;
	return ret->discard ? 0 : cache_queue_need_id(c, ret->queue);
}

static struct spool_message message_row(const struct intake_message *m, uint32_t left)
{
	return (struct spool_message){
		.id = m->msgid,
		.sender = slice_str(m->sender),
		.size = m->size,
		.header_size = m->header_size,
		.received = m->received,
		.source_mta = slice_str(m->source_mta),
		.user = slice_str(m->user),
		.job = slice_str(m->job),
		.envid = slice_str(m->envid),
		.dsn_envid = slice_str(m->dsn_envid),
		.flags = m->flags,
		.recipients = m->recipient_count,
		.recipients_left = left,
		.body = m->big ? SPOOL_BODY_BIG : SPOOL_BODY_TABLE,
	};
}

static struct spool_recipient recipient_row(const struct intake_message *m, uint32_t i,
					    const struct placed *at)
{
	const struct intake_recipient *r = &m->recipients[i];
	usec_t age = at->queue->settings->bounce_after;

	return (struct spool_recipient){
		.msgid = m->msgid,
		.rcpt = i,
		.queue = at->queue->id,
		.address = slice_str(r->address),
		.orcpt = slice_str(r->orcpt),
		.pool = slice_str(at->pool),
		.notify = r->notify,
		.class = at->class,
		.job = spool_job_bucket(slice_str(m->job)),
		.expiry = age == USEC_INFINITY ? UINT64_MAX : m->received + age / USEC_PER_MSEC,
		.last_reply = slice_of("", 0),
	};
}

int discard_recipient(struct commit *c, const struct spool_recipient *r, struct commit_qent *q)
{
	bool bounce = q->settings->discard_as_bounce;
	struct acct_record a;

	record_fill(c, &a, bounce ? ACCT_BOUNCED : ACCT_DELIVERED, r, q);
	a.dsn_action = slice_str(bounce ? "failed" : "delivered");
	a.enhanced[0] = bounce ? 5 : 2;
	a.text = slice_str("local: discarded (type = discard)");
	a.dlv_type = slice_str("discard");
	if (bounce)
		c->ended_bounced++;
	else
		c->ended_delivered++;
	return record_wanted(q->settings, a.type) ? commit_outbox(c, &a) : 0;
}

static bool goes_to_due(struct commit *c, uint32_t queue, uint8_t class, msec_t *ret_due)
{
	struct shm_queue *q = shm_queue_claim(c->shm, queue);
	uint32_t full = SHM_QUEUE_FULL | 1u << (SHM_QUEUE_FULL_CLASS_SHIFT + class);
	msec_t not_before;

	*ret_due = c->now;
	if (!q)
		return true; /* no slot for it: counts as full */
	if (!(atomic_load_explicit(&q->flags, memory_order_relaxed) & full))
		return false;
	not_before = atomic_load_explicit(&q->not_before, memory_order_relaxed);
	if (not_before > c->now && not_before < NOT_BEFORE_NOTICE)
		*ret_due = not_before;
	return true;
}

static int put_fresh(struct commit *c, const struct spool_recipient *r, struct commit_qent *q)
{
	struct spool_key k = key_fresh(q->vmta->id, r->class, r->arrival, r->rcpt);

	buf_clear(&c->value);
	row_fresh_encode(r->queue, r->msgid, &c->value);
	q->vmta->ring = true;
	return write_put(c->w, SPOOL_FRESH, &k, buf_slice(&c->value));
}

static int put_recipient(struct commit *c, struct spool_recipient *r, struct commit_qent *q,
			 uint64_t arrival, uint64_t size)
{
	struct commit_touch *t = touch_queue(c, q->id, q->vmta->id);
	msec_t due;
	int rc;

	touch_count(c, t, r->msgid, r->rcpt, (int64_t)size, 1);
	r->arrival = arrival;
	if (goes_to_due(c, q->id, r->class, &due)) {
		r->due = due < r->expiry ? due : r->expiry;
		return recipient_put_due(c, r, q);
	}
	r->fresh = true;
	rc = put_fresh(c, r, q);
	return rc < 0 ? rc : recipient_store(c, r);
}

static int put_body(struct commit *c, const struct intake_message *m)
{
	struct spool_key k = key_u64(m->msgid);
	void *to;
	int rc;

	if (m->big)
		return 0;
	rc = write_reserve(c->w, SPOOL_BODY, &k, (size_t)m->size, &to);
	if (rc == 0 && m->size)
		memcpy(to, m->body.p, (size_t)m->size);
	return rc;
}

static int put_message(struct commit *c, const struct intake_message *m, uint32_t left)
{
	struct spool_message row = message_row(m, left);
	struct spool_key k = key_u64(m->msgid);
	int rc;

	buf_clear(&c->value);
	row_message_encode(&row, &c->value);
	rc = write_put(c->w, SPOOL_MESSAGE, &k, buf_slice(&c->value));
	if (rc == 0 && row.job.n) {
		struct spool_key job = key_job(row.job, m->msgid);

		rc = write_put(c->w, SPOOL_JOB, &job, slice_of("", 0));
	}
	if (rc == 0)
		rc = put_body(c, m);
	if (rc < 0)
		return rc;
	c->n.messages++;
	c->n.recipients += left;
	c->n.bytes += m->size;
	return 0;
}

static int put_recipients(struct commit *c, const struct intake_message *m, const struct placed *at,
			  uint32_t *ret_left)
{
	uint64_t arrival = c->n.next_arrival++;
	uint32_t i, left = 0;
	int rc = 0;

	c->subject.m = message_row(m, 0);
	for (i = 0; rc == 0 && i < m->recipient_count; i++) {
		struct spool_recipient r = recipient_row(m, i, &at[i]);

		if (at[i].discard) {
			rc = discard_recipient(c, &r, at[i].queue);
			continue;
		}
		rc = put_recipient(c, &r, at[i].queue, arrival, m->size);
		left++;
	}
	*ret_left = left;
	return rc;
}

static int insert(struct commit *c, const struct intake_message *m)
{
	struct placed *at = xmalloc((m->recipient_count + 1) * sizeof(*at));
	uint32_t i, left = 0;
	int rc = 0;

	for (i = 0; rc == 0 && i < m->recipient_count; i++)
		rc = place(c, &m->recipients[i], &at[i]);
	if (rc == 0)
		rc = put_recipients(c, m, at, &left);
	if (rc == 0 && left)
		rc = put_message(c, m, left);
	else if (rc == 0 && m->big)
		commit_unlink_later(c, m->msgid);
	if (rc == 0 && m->dsn_row) {
		struct spool_key k = key_u64(m->dsn_row);

		rc = write_delete(c->w, SPOOL_DSN, &k);
		if (rc == ERR_NOT_FOUND)
			rc = 0;
		counter_add(c->counters, COUNTER_DSN_SENT, 1);
	}
	free(at);
	if (m->msgid > c->n.last_msgid)
		c->n.last_msgid = m->msgid;
	return rc;
}

static void count_received(struct commit *c, const struct intake_message *m)
{
	c->result.wrote = true;
	c->result.messages++;
	if (m->dsn_row)
		return;
	c->received_messages++;
	c->received_recipients += m->recipient_count;
	c->received_bytes += m->size;
}

int intake_messages(struct commit *c, struct intake_message *list, struct intake_message **ret_rest)
{
	uint64_t bytes = 0;
	uint32_t messages = 0, recipients = 0;
	struct intake_message *m;
	int rc = 0;

	for (m = list; m && rc == 0; m = m->next) {
		bytes += memory_size(m);
		recipients += m->recipient_count;
		if (messages && (messages == COMMIT_MESSAGES || bytes > COMMIT_BYTES ||
				 recipients > COMMIT_RECIPIENTS))
			break;
		messages++;
		*ret_rest = m->next;
		m->result = check_routes(c, m);
		if (m->result == ERR_NOT_FOUND)
			continue;
		rc = m->result < 0 ? m->result : insert(c, m);
		if (rc == 0)
			count_received(c, m);
	}
	return rc;
}
