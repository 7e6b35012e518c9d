#include "worker/transaction_parts.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/xalloc.h"
#include "common/conf/conf.h"
#include "common/spool/spool.h"
#include "worker/connection.h"
#include "worker/context.h"
#include "worker/inhand.h"
#include "worker/mode.h"
#include "worker/post.h"
#include "worker/reroute.h"
#include "worker/retry.h"
#include "worker/site.h"
#include "worker/trace.h"

/* Connections lost under a recipient, before its message was sent, that are not its fault. */
#define STRIKES_MAX 2

void rcpt_decide(struct txn_rcpt *x, const struct outcome *o)
{
	x->state = RCPT_DECIDED;
	x->outcome = xmemdup(o, sizeof(*o));
}

void transaction_decide_rest(struct transaction *t, const struct outcome *o)
{
	t->message = *o;
	for (uint32_t i = 0; i < t->count; i++)
		if (t->rcpts[i].state == RCPT_OPEN || t->rcpts[i].state == RCPT_ACCEPTED)
			t->rcpts[i].state = RCPT_DECIDED;
}

void transaction_put_back(struct transaction *t, const struct outcome *o)
{
	t->message = *o;
	for (uint32_t i = 0; i < t->count; i++)
		if (t->rcpts[i].state == RCPT_OPEN || t->rcpts[i].state == RCPT_ACCEPTED)
			t->rcpts[i].state = RCPT_AGAIN;
}

void transaction_rest_again(struct transaction *t, const struct outcome *o)
{
	for (uint32_t i = 0; i < t->count; i++) {
		struct txn_rcpt *x = &t->rcpts[i];

		if (x->state != RCPT_OPEN && x->state != RCPT_ACCEPTED)
			continue;
		if (x->e.item->strikes++ < STRIKES_MAX)
			x->state = RCPT_AGAIN;
		else
			rcpt_decide(x, o);
	}
}

bool transaction_any_again(const struct transaction *t)
{
	for (uint32_t i = 0; i < t->count; i++)
		if (t->rcpts[i].state == RCPT_AGAIN)
			return true;
	return false;
}

static void fill_outcome(const struct transaction *t, const struct txn_rcpt *x, msec_t now,
			 struct report_outcome *ret)
{
	const struct outcome *o = x->outcome ? x->outcome : &t->message;
	bool ours = x->e.fate == FATE_VERDICT;

	*ret = (struct report_outcome){
		.rcpt = (uint32_t)x->e.item->key.rcpt,
		.queue = x->e.item->queue->id,
		.class = o->class,
		.code = o->code,
		.text = slice_str(o->text),
		.attempted = !ours,
		.relayed = o->class == OUTCOME_DELIVERED && !(t->c->offers & OFFER_DSN),
	};
	memcpy(ret->enhanced, o->enhanced, sizeof(ret->enhanced));
	if (o->class != OUTCOME_TRANSIENT)
		return;
	ret->due =
		ours ? x->e.verdict_due
		     : now + retry_recipient_delay(x->e.item->queue->set,
						   mode_retry_after(t->c->site), x->e.attempts + 1);
}

static void count_outcome(struct worker *w, enum outcome_class class)
{
	static const enum counter by_class[] = {
		[OUTCOME_DELIVERED] = COUNTER_DELIVERED_RECIPIENTS,
		[OUTCOME_BOUNCED] = COUNTER_BOUNCED_RECIPIENTS,
		[OUTCOME_TRANSIENT] = COUNTER_TRANSIENT_RECIPIENTS,
	};

	counter_add(w->counters, by_class[class], 1);
}

/* Outcomes of one kind (decided here, or by the receiver) go into one report. */
static uint32_t collect(struct transaction *t, bool ours, struct report_outcome *ret)
{
	msec_t now = loop_wall(t->w->loop);
	uint32_t n = 0;

	for (uint32_t i = 0; i < t->count; i++) {
		const struct txn_rcpt *x = &t->rcpts[i];

		if (x->state != RCPT_DECIDED || (x->e.fate == FATE_VERDICT) != ours)
			continue;
		fill_outcome(t, x, now, &ret[n]);
		count_outcome(t->w, ret[n].class);
		n++;
	}
	return n;
}

static void fill_names(const struct connection *c, bool ours, struct report_transaction *ret)
{
	bool tls = !ours && c->stream && stream_is_tls(c->stream);

	ret->site = slice_str(c->site->label);
	ret->mx_name = slice_str(ours ? "" : c->host);
	ret->esmtp = ours ? slice_str("") : buf_slice(&c->esmtp);
	ret->tls_protocol = slice_str(tls ? stream_tls_protocol(c->stream) : "");
	ret->tls_cipher = slice_str(tls ? stream_tls_cipher(c->stream) : "");
}

static void report_fill(const struct transaction *t, bool ours, struct report_transaction *ret)
{
	const struct connection *c = t->c;

	*ret = (struct report_transaction){
		.msgid = t->msgid,
		.type = ours ? DLV_LOCAL : DLV_SMTP,
		.started = t->started,
		.ended = loop_wall(t->w->loop),
	};
	fill_names(c, ours, ret);
	if (ours)
		return;
	ret->mx_ip = c->ip;
	ret->source_ip = c->source_ip;
	ret->warmup_day = t->warmup_day;
	ret->bytes = t->offset;
}

uint64_t transaction_bound(const struct connection *c, uint32_t n)
{
	struct report_transaction names;

	fill_names(c, false, &names);
	return post_bound(&names, n);
}

static void report(struct transaction *t, bool ours)
{
	struct report_outcome *o = xcalloc(t->count, sizeof(*o));
	struct report_transaction r;
	uint64_t bound;

	report_fill(t, ours, &r);
	r.outcomes = o;
	r.outcome_count = collect(t, ours, o);
	if (r.outcome_count) {
		bound = transaction_bound(t->c, r.outcome_count);
		t->reserved -= bound;
		post_transaction(t->w->post, &r, bound);
	}
	free(o);
}

static bool is_undelivered(const struct transaction *t, const struct txn_rcpt *x)
{
	const struct outcome *o = x->outcome ? x->outcome : &t->message;

	return x->state != RCPT_GONE && (x->state != RCPT_DECIDED || o->class == OUTCOME_TRANSIENT);
}

/* Items leave the transaction: moved on, done, waiting again, or forgotten. */
static void dismiss_item(struct transaction *t, const struct txn_rcpt *x, uint64_t position)
{
	struct inhand *h = t->w->inhand;
	struct item *it = x->e.item;

	switch (x->state) {
	case RCPT_DECIDED:
		inhand_done(h, it, position);
		break;
	case RCPT_OPEN:
	case RCPT_ACCEPTED:
	case RCPT_AGAIN:
		queue_put(it->queue, it, true);
		break;
	case RCPT_GONE:
		it->state = ITEM_WAITING;
		inhand_forget(h, it);
		break;
	}
}

static void dismiss(struct transaction *t)
{
	uint64_t position = post_position(t->w->post);

	/* those that an order moves come last: what is done is in the order of the ring */
	for (uint32_t i = t->count; i-- > 0;)
		if (!t->rcpts[i].e.item->leave)
			dismiss_item(t, &t->rcpts[i], position);
		else
			t->rcpts[i].leaves = true;
	for (uint32_t i = t->count; i-- > 0;) {
		struct txn_rcpt *x = &t->rcpts[i];

		if (x->leaves && !(is_undelivered(t, x) && reroute_leave(x->e.item)))
			dismiss_item(t, x, post_position(t->w->post));
		free(x->outcome);
		if (x->e.verdict != x->outcome)
			free(x->e.verdict);
	}
}

/* For operators: the replies of the site, the last error of each queue. */
static void note_replies(struct transaction *t)
{
	bool said = false;

	for (uint32_t i = 0; i < t->count; i++) {
		const struct txn_rcpt *x = &t->rcpts[i];
		const struct outcome *o = x->outcome ? x->outcome : &t->message;

		if (x->state != RCPT_DECIDED || o->class == OUTCOME_DELIVERED)
			continue;
		queue_set_text(x->e.item->queue, slice_str(o->text));
		if (x->outcome || !said)
			site_note(t->c->site, o);
		said |= !x->outcome;
	}
}

void transaction_report(struct transaction *t)
{
	trace_outcomes(t);
	note_replies(t);
	report(t, false);
	report(t, true);
	post_release(t->w->post, t->reserved);
	dismiss(t);
}
