#include "common/spool/rows.h"

#include "common/base/codec.h"
#include "common/base/err.h"

/* Versions written now. A reader that meets a higher one is older than the spool. */
enum {
	MESSAGE_VERSION = 1,
	RECIPIENT_VERSION = 3,
	FRESH_VERSION = 1,
	QUEUE_VERSION = 2,
	VMTA_VERSION = 1,
	SITE_VERSION = 2,
	REROUTE_VERSION = 1,
	NUMBER_VERSION = 1,
	ORDER_VERSION = 2,
	NUMBERS_VERSION = 1,
	RING_VERSION = 1,
	RATE_VERSION = 1,
};

int row_begin(struct dec *d, struct slice v, uint8_t version)
{
	uint8_t got;

	*d = dec_of(v.p, v.n);
	got = dec_u8(d);
	if (!dec_ok(d) || got == 0)
		return ERR_CORRUPT;
	return got == version ? 0 : ERR_VERSION;
}

static int finish(const struct dec *d)
{
	return dec_end(d) ? 0 : ERR_CORRUPT;
}

void row_message_encode(const struct spool_message *m, struct buf *b)
{
	enc_u8(b, MESSAGE_VERSION);
	enc_var(b, m->size);
	enc_var(b, m->header_size);
	enc_var(b, m->received);
	enc_var(b, m->flags);
	enc_var(b, m->recipients);
	enc_var(b, m->recipients_left);
	enc_var(b, m->crashes);
	enc_u8(b, (uint8_t)m->body);
	enc_bytes(b, m->sender);
	enc_bytes(b, m->source_mta);
	enc_bytes(b, m->user);
	enc_bytes(b, m->job);
	enc_bytes(b, m->envid);
	enc_bytes(b, m->dsn_envid);
}

int row_message_decode(struct slice v, struct spool_message *ret)
{
	struct dec d;
	uint8_t body;
	int rc = row_begin(&d, v, MESSAGE_VERSION);

	if (rc < 0)
		return rc;
	ret->size = dec_var(&d);
	ret->header_size = dec_var32(&d);
	ret->received = dec_var(&d);
	ret->flags = dec_var32(&d);
	ret->recipients = dec_var32(&d);
	ret->recipients_left = dec_var32(&d);
	ret->crashes = dec_var32(&d);
	body = dec_u8(&d);
	ret->sender = dec_bytes(&d);
	ret->source_mta = dec_bytes(&d);
	ret->user = dec_bytes(&d);
	ret->job = dec_bytes(&d);
	ret->envid = dec_bytes(&d);
	ret->dsn_envid = dec_bytes(&d);
	if (body > SPOOL_BODY_BIG || ret->header_size > ret->size)
		return ERR_CORRUPT;
	ret->body = (enum spool_body_where)body;
	return finish(&d);
}

void row_recipient_encode(const struct spool_recipient *r, struct buf *b)
{
	enc_u8(b, RECIPIENT_VERSION);
	enc_var(b, r->queue);
	enc_u8(b, r->fresh);
	enc_u8(b, spool_lane(r->class, r->job));
	enc_u8(b, r->notify);
	enc_var(b, r->arrival);
	enc_var(b, r->due);
	enc_var(b, r->attempts);
	enc_var(b, r->first_attempt);
	enc_var(b, r->last_attempt);
	enc_var(b, r->expiry);
	enc_var(b, r->reselected);
	enc_bytes(b, r->address);
	enc_bytes(b, r->orcpt);
	enc_bytes(b, r->pool);
	enc_bytes(b, r->last_reply);
}

int row_recipient_decode(struct slice v, struct spool_recipient *ret)
{
	struct dec d;
	uint8_t fresh, lane;
	int rc = row_begin(&d, v, RECIPIENT_VERSION);

	if (rc < 0)
		return rc;
	ret->queue = dec_var32(&d);
	fresh = dec_u8(&d);
	lane = dec_u8(&d);
	ret->class = spool_lane_class(lane);
	ret->job = lane % SPOOL_LANE_JOBS;
	ret->notify = dec_u8(&d);
	ret->arrival = dec_var(&d);
	ret->due = dec_var(&d);
	ret->attempts = dec_var32(&d);
	ret->first_attempt = dec_var(&d);
	ret->last_attempt = dec_var(&d);
	ret->expiry = dec_var(&d);
	ret->reselected = dec_var(&d);
	ret->address = dec_bytes(&d);
	ret->orcpt = dec_bytes(&d);
	ret->pool = dec_bytes(&d);
	ret->last_reply = dec_bytes(&d);
	if (fresh > 1)
		return ERR_CORRUPT;
	ret->fresh = fresh;
	return finish(&d);
}

void row_fresh_encode(uint32_t queue, uint64_t msgid, struct buf *b)
{
	enc_u8(b, FRESH_VERSION);
	enc_u32(b, queue);
	enc_u64(b, msgid);
}

int row_fresh_decode(struct slice v, uint32_t *ret_queue, uint64_t *ret_msgid)
{
	struct dec d;
	int rc = row_begin(&d, v, FRESH_VERSION);

	if (rc < 0)
		return rc;
	*ret_queue = dec_u32(&d);
	*ret_msgid = dec_u64(&d);
	return finish(&d);
}

void row_queue_encode(const struct spool_queue *q, struct buf *b)
{
	enc_u8(b, QUEUE_VERSION);
	enc_var(b, q->vmta);
	enc_bytes(b, q->domain);
	enc_var(b, q->day);
	enc_bytes(b, q->provider);
}

int row_queue_decode(struct slice v, struct spool_queue *ret)
{
	struct dec d;
	int rc = row_begin(&d, v, QUEUE_VERSION);

	if (rc < 0)
		return rc;
	ret->vmta = dec_var32(&d);
	ret->domain = dec_bytes(&d);
	ret->day = dec_var32(&d);
	ret->provider = dec_bytes(&d);
	ret->paused = false;
	return finish(&d);
}

void row_vmta_encode(const struct spool_vmta *m, struct buf *b)
{
	enc_u8(b, VMTA_VERSION);
	enc_bytes(b, m->name);
}

int row_vmta_decode(struct slice v, struct spool_vmta *ret)
{
	struct dec d;
	int rc = row_begin(&d, v, VMTA_VERSION);

	if (rc < 0)
		return rc;
	ret->name = dec_bytes(&d);
	return finish(&d);
}

void row_site_encode(const struct spool_site *s, struct buf *b)
{
	enc_u8(b, SITE_VERSION);
	site_mode_encode(&s->mode, b);
	enc_var(b, s->since);
	enc_var(b, s->retry_position);
	enc_var(b, s->retry_at);
	enc_bytes(b, s->reason);
}

int row_site_decode(struct slice v, struct spool_site *ret)
{
	struct dec d;
	int rc = row_begin(&d, v, SITE_VERSION);

	if (rc < 0)
		return rc;
	site_mode_decode(&d, &ret->mode);
	ret->since = dec_var(&d);
	ret->retry_position = dec_var32(&d);
	ret->retry_at = dec_var(&d);
	ret->reason = dec_bytes(&d);
	return finish(&d);
}

void row_reroute_encode(const struct spool_reroute *r, struct buf *b)
{
	enc_u8(b, REROUTE_VERSION);
	enc_u8(b, r->loop);
	enc_var(b, r->since);
	enc_var(b, r->until);
	enc_bytes(b, r->target);
	enc_bytes(b, r->why);
}

int row_reroute_decode(struct slice v, struct spool_reroute *ret)
{
	struct dec d;
	uint8_t loop;
	int rc = row_begin(&d, v, REROUTE_VERSION);

	if (rc < 0)
		return rc;
	loop = dec_u8(&d);
	ret->loop = loop;
	ret->since = dec_var(&d);
	ret->until = dec_var(&d);
	ret->target = dec_bytes(&d);
	ret->why = dec_bytes(&d);
	return loop > 1 ? ERR_CORRUPT : finish(&d);
}

void row_number_encode(uint64_t v, struct buf *b)
{
	enc_u8(b, NUMBER_VERSION);
	enc_var(b, v);
}

int row_number_decode(struct slice v, uint64_t *ret)
{
	struct dec d;
	int rc = row_begin(&d, v, NUMBER_VERSION);

	if (rc < 0)
		return rc;
	*ret = dec_var(&d);
	return finish(&d);
}

enum { /* flags of an order row */
       ORDER_RETRY_RECIPIENTS = 1,
       ORDER_NO_SPREAD = 2,
       ORDER_DSN = 4,
       ORDER_NO_ACCOUNTING = 8,
};

void row_order_encode(const struct order_row *r, struct buf *b)
{
	const struct order *o = &r->order;

	enc_u8(b, ORDER_VERSION);
	enc_u8(b, (uint8_t)o->kind);
	enc_u8(b, (uint8_t)((o->retry_recipients ? ORDER_RETRY_RECIPIENTS : 0) |
			    (o->no_spread ? ORDER_NO_SPREAD : 0) | (o->dsn ? ORDER_DSN : 0) |
			    (o->no_accounting ? ORDER_NO_ACCOUNTING : 0)));
	enc_var(b, o->created);
	enc_var(b, o->filter.received_before);
	enc_bytes(b, o->filter.queue);
	enc_bytes(b, o->filter.job);
	enc_bytes(b, o->filter.sender);
	enc_bytes(b, o->filter.rcpt);
	enc_bytes(b, o->filter.envid);
	enc_bytes(b, o->who);
	enc_bytes(b, o->target);
	enc_bytes(b, slice_of(o->source.b, o->source.family == IP_V4   ? 4
					   : o->source.family == IP_V6 ? 16
								       : 0));
	enc_var(b, o->until);
	enc_bytes(b, o->reason);
	enc_u8(b, r->step);
	enc_var(b, r->done);
	enc_var(b, r->held);
	enc_bytes(b, r->position);
}

int row_order_decode(struct slice v, struct order_row *ret)
{
	struct order *o = &ret->order;
	struct dec d;
	uint8_t kind, flags;
	struct slice source;
	int rc = row_begin(&d, v, ORDER_VERSION);

	if (rc < 0)
		return rc;
	kind = dec_u8(&d);
	flags = dec_u8(&d);
	o->created = dec_var(&d);
	o->filter.received_before = dec_var(&d);
	o->filter.queue = dec_bytes(&d);
	o->filter.job = dec_bytes(&d);
	o->filter.sender = dec_bytes(&d);
	o->filter.rcpt = dec_bytes(&d);
	o->filter.envid = dec_bytes(&d);
	o->who = dec_bytes(&d);
	o->target = dec_bytes(&d);
	source = dec_bytes(&d);
	o->until = dec_var(&d);
	o->reason = dec_bytes(&d);
	ret->step = dec_u8(&d);
	ret->done = dec_var(&d);
	ret->held = dec_var(&d);
	ret->position = dec_bytes(&d);
	if (kind < ORDER_PAUSE || kind > ORDER_ENABLE_SOURCE ||
	    (source.n && source.n != 4 && source.n != 16))
		return ERR_CORRUPT;
	o->source = (struct ip){.family = source.n == 4 ? IP_V4 : source.n == 16 ? IP_V6 : IP_NONE};
	if (source.n)
		memcpy(o->source.b, source.p, source.n);
	o->kind = (enum order_kind)kind;
	o->retry_recipients = flags & ORDER_RETRY_RECIPIENTS;
	o->no_spread = flags & ORDER_NO_SPREAD;
	o->dsn = flags & ORDER_DSN;
	o->no_accounting = flags & ORDER_NO_ACCOUNTING;
	return finish(&d);
}

void row_numbers_encode(const struct spool_numbers *n, struct buf *b)
{
	enc_u8(b, NUMBERS_VERSION);
	enc_u64(b, n->next_arrival);
	enc_u64(b, n->next_outbox);
	enc_u64(b, n->next_dsn);
	enc_u64(b, n->next_order);
	enc_u32(b, n->next_queue);
	enc_u32(b, n->next_vmta);
	enc_u64(b, n->last_msgid);
	enc_u64(b, n->messages);
	enc_u64(b, n->recipients);
	enc_u64(b, n->bytes);
}

int row_numbers_decode(struct slice v, struct spool_numbers *ret)
{
	struct dec d;
	int rc = row_begin(&d, v, NUMBERS_VERSION);

	if (rc < 0)
		return rc;
	ret->next_arrival = dec_u64(&d);
	ret->next_outbox = dec_u64(&d);
	ret->next_dsn = dec_u64(&d);
	ret->next_order = dec_u64(&d);
	ret->next_queue = dec_u32(&d);
	ret->next_vmta = dec_u32(&d);
	ret->last_msgid = dec_u64(&d);
	ret->messages = dec_u64(&d);
	ret->recipients = dec_u64(&d);
	ret->bytes = dec_u64(&d);
	return finish(&d);
}

void row_ring_encode(const struct spool_ring_position *p, struct buf *b)
{
	enc_u8(b, RING_VERSION);
	enc_u64(b, p->family);
	enc_u32(b, p->forkno);
	enc_u64(b, p->position);
}

int row_ring_decode(struct slice v, struct spool_ring_position *ret)
{
	struct dec d;
	int rc = row_begin(&d, v, RING_VERSION);

	if (rc < 0)
		return rc;
	ret->family = dec_u64(&d);
	ret->forkno = dec_u32(&d);
	ret->position = dec_u64(&d);
	return finish(&d);
}

void row_rate_encode(const struct spool_rate *r, struct buf *b)
{
	enc_u8(b, RATE_VERSION);
	enc_var(b, r->n);
	enc_var(b, r->per);
	enc_u64(b, r->boot);
	enc_var(b, r->now);
	enc_var(b, r->wall);
	enc_var(b, r->ahead);
}

int row_rate_decode(struct slice v, struct spool_rate *ret)
{
	struct dec d;
	int rc = row_begin(&d, v, RATE_VERSION);

	if (rc < 0)
		return rc;
	ret->n = dec_var(&d);
	ret->per = dec_var(&d);
	ret->boot = dec_u64(&d);
	ret->now = dec_var(&d);
	ret->wall = dec_var(&d);
	ret->ahead = dec_var(&d);
	return finish(&d);
}
