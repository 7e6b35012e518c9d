#include "worker/transaction.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/err.h"
#include "common/base/log.h"
#include "common/base/xalloc.h"
#include "common/conf/conf.h"
#include "common/shm/limits.h"
#include "common/spool/spool.h"
#include "worker/connection.h"
#include "worker/context.h"
#include "worker/inhand.h"
#include "worker/judge.h"
#include "worker/mode.h"
#include "worker/post.h"
#include "worker/shared.h"
#include "worker/site.h"
#include "worker/trace.h"
#include "worker/transaction_parts.h"
#include "worker/warmup.h"

#define TRANSACTION_MAGIC 0x74786e20u
#define BODY_CHUNK 65536
/* How long a connection stays open for the next message of an address that is warmed up. */
#define WARMUP_PATIENCE (2 * USEC_PER_SEC)
#define KIN_MAX 64
#define KIN_MISSES 8
#define KIN_LOOKS 256 /* to each side */
#define OUT_OF_STEP "connection given up: replies out of step"
static void transaction_free(struct transaction *t)
{
	if (t->w->suspect == t)
		t->w->suspect = NULL;
	t->magic = 0;
	envelope_done(&t->env);
	free(t->rcpts);
	loop_defer_free(t->w->loop, t);
}

void transaction_discard(struct transaction *t)
{
	for (uint32_t i = 0; i < t->count; i++) {
		struct txn_rcpt *x = &t->rcpts[i];

		free(x->outcome);
		if (x->e.verdict != x->outcome)
			free(x->e.verdict);
	}
	transaction_free(t);
}

/* Reports what there is and lets go of all. The connection is still there. */
static void transaction_end(struct transaction *t)
{
	struct worker *w = t->w;
	struct connection *c = t->c;
	bool delivered =
		t->phase == PHASE_DOT && t->accepted && t->message.class == OUTCOME_DELIVERED;
	struct site *home = t->rcpts[0].e.item->queue->home;

	transaction_report(t);
	if (!delivered)
		paces_not_delivered(c->site, &t->paces);
	lease_set_message(w->shm, w->h->slot, c->hold.lease, 0);
	if (delivered) {
		c->delivered++;
		counter_add(w->counters, COUNTER_DELIVERED_MESSAGES, 1);
		counter_add(w->counters, COUNTER_DELIVERED_BYTES, t->offset);
		mode_delivered(c->site, &c->source_ip, t->accepted, t->started);
		site_delivered(c->site);
		if (home != c->site)
			site_delivered(home);
	}
	if (t->env.alone && t->sent)
		c->closing = true;
	transaction_free(t);
}

static void finish(struct transaction *t)
{
	struct connection *c = t->c;

	site_answered(c->site);
	transaction_end(t);
	connection_transaction_ended(c);
}

/* The connection is of no more use. A failure before anything was delivered speaks against the host. */
static void finish_lost(struct transaction *t, const struct outcome *o, bool abort,
			bool message_lost)
{
	struct connection *c = t->c;
	struct site *s = c->site;
	struct site_place at;
	bool host_failed = c->delivered == 0 && !t->settled && !mode_absorbs(s) &&
			   (transaction_any_again(t) || (message_lost && site_message_lost(s)));
	struct ip ip = c->ip;
	uint16_t port = c->port;
	char *host = xstrdup(c->host);

	connection_place(c, &at);
	at.mx_name = host;
	transaction_end(t);
	connection_give_up(c, abort);
	if (host_failed)
		site_target_failed(s, &ip, port, o, &at);
	else
		site_kick(s);
	free(host);
}

/* --- sending --- */

static void wait_for(struct transaction *t, enum outcome_phase phase)
{
	const struct conf_domain *set = t->c->site->set;

	t->phase = phase;
	switch (phase) {
	case PHASE_RCPT:
		connection_timeouts(t->c, set->smtp_rcpt_timeout, set->smtp_rcpt_timeout);
		break;
	case PHASE_DATA:
		connection_timeouts(t->c, set->smtp_data_timeout, set->smtp_data_timeout);
		break;
	case PHASE_BODY:
		connection_timeouts(t->c, 0, set->data_send_timeout);
		break;
	case PHASE_DOT:
		connection_timeouts(t->c, set->smtp_data_termination_timeout,
				    set->data_send_timeout);
		break;
	default:
		connection_timeouts(t->c, set->smtp_mail_timeout, set->smtp_mail_timeout);
		break;
	}
}

static void send_rcpt(struct transaction *t)
{
	struct slice all = buf_slice(&t->env.rcpts), line;
	ptrdiff_t lf = slice_chr(all, '\n');

	line = slice_sub(all, 0, lf < 0 ? all.n : (size_t)lf + 1);
	stream_write_slice(t->c->stream, line);
	buf_consume(&t->env.rcpts, line.n);
}

static void send_envelope(struct transaction *t)
{
	struct stream *s = t->c->stream;

	if (t->c->rset_needed) {
		stream_write(s, "RSET\r\n", 6);
		t->rset_pending = true;
		t->c->rset_needed = false;
	}
	stream_write_slice(s, buf_slice(&t->env.mail));
	if (t->pipelined) {
		stream_write_slice(s, buf_slice(&t->env.rcpts));
		stream_write(s, "DATA\r\n", 6);
	}
	wait_for(t, PHASE_MAIL);
}

static void body_unreadable(struct transaction *t, int rc)
{
	struct outcome o;

	log_error(NULL, "cannot read a message from the spool", LOG_U("msgid", t->msgid),
		  LOG_S("why", err_text(rc)));
	outcome_local(&o, LOCAL_SET_ASIDE, "cannot read the message from the spool: %s",
		      err_text(rc));
	transaction_decide_rest(t, &o);
	finish_lost(t, &o, true, false);
}

/* At most one chunk a turn, so that a big message delays nobody. */
static void send_body(struct transaction *t)
{
	static char chunk[BODY_CHUNK]; /* one loop, one thread */
	struct spool_read *r;
	size_t n = 0;
	int rc = spool_read_begin(t->w->spool, &r);

	if (rc == 0) {
		rc = spool_body_read(r, &t->env.message, t->offset, chunk, sizeof(chunk), &n);
		spool_read_end(r);
	}
	if (rc == 0 && n == 0 && t->offset < t->env.message.size)
		rc = ERR_CORRUPT;
	if (rc < 0) {
		body_unreadable(t, rc);
		return;
	}
	stream_write(t->c->stream, chunk, n);
	t->offset += n;
	if (n >= 2)
		memcpy(t->tail, chunk + n - 2, 2);
	else if (n == 1) {
		t->tail[0] = t->tail[1];
		t->tail[1] = chunk[0];
	}
	if (t->offset < t->env.message.size)
		return;
	if (t->offset && memcmp(t->tail, "\r\n", 2) != 0)
		stream_write(t->c->stream, "\r\n", 2);
	stream_write(t->c->stream, ".\r\n", 3);
	wait_for(t, PHASE_DOT);
}

void transaction_on_drained(struct transaction *t)
{
	if (t->phase == PHASE_BODY && t->body_begun)
		send_body(t);
}

/* --- replies, one function for each phase --- */

/*
 * What is decided reaches site, source and queues; the connection may be told to begin nothing more. x: it was said
 * of this recipient alone; NULL: of all.
 */
static void carry_out(struct transaction *t, const struct judgement *j, const struct txn_rcpt *x)
{
	const struct txn_rcpt *first = x ? x : t->rcpts;
	struct site_place at;

	invariant(first);
	t->c->closing |= j->leave;
	t->settled |= j->settled || judge_blames_source(j, t->c->site);
	connection_place(t->c, &at);
	judge_carry_out(j, t->c->site, &at, first->e.item->queue);
	for (uint32_t i = 1; !x && i < t->count; i++)
		if (t->rcpts[i].e.item->queue != t->rcpts[i - 1].e.item->queue)
			judge_reroute(j, t->rcpts[i].e.item->queue);
}

/* All that have no outcome yet get this one, or wait again. */
static void settle_rest(struct transaction *t, const struct judgement *j)
{
	if (j->again)
		transaction_put_back(t, &j->o);
	else
		transaction_decide_rest(t, &j->o);
	carry_out(t, j, NULL);
}

static void on_mail(struct transaction *t, const struct reply *r)
{
	struct judgement j;

	if (r->code >= 200 && r->code < 300) {
		wait_for(t, PHASE_RCPT);
		if (!t->pipelined)
			send_rcpt(t);
		return;
	}
	judge_reply(&j, t->c->site, PHASE_MAIL, r);
	t->mail_refused = true;
	settle_rest(t, &j);
	if (!t->pipelined) {
		finish(t);
		return;
	}
	wait_for(t, PHASE_RCPT);
}

/* RFC 5321 4.5.3.1.10: enough recipients for one transaction, the rest goes again at once. */
static bool is_too_many(const struct transaction *t, const struct reply *r)
{
	bool says_so = r->enhanced[0] ? r->enhanced[1] == 5 && r->enhanced[2] == 3 : r->code == 452;

	return t->accepted > 0 && says_so;
}

static void next_rcpt(struct transaction *t)
{
	while (++t->next < t->count && t->rcpts[t->next].e.fate != FATE_SEND)
		;
}

static void on_rcpt_refused(struct transaction *t, struct txn_rcpt *x, const struct reply *r)
{
	struct judgement j;

	judge_reply(&j, t->c->site, PHASE_RCPT, r);
	if (j.o.class == OUTCOME_DELIVERED) /* 3xx: makes no sense here */
		j.o.class = OUTCOME_TRANSIENT;
	if (j.again || (!j.disposition && is_too_many(t, r))) {
		x->state = RCPT_AGAIN;
	} else {
		rcpt_decide(x, &j.o);
		t->c->errors++;
	}
	carry_out(t, &j, x);
}

static void on_rcpt(struct transaction *t, const struct reply *r)
{
	struct txn_rcpt *x = &t->rcpts[t->next];

	if (t->mail_refused) {
		if (r->code < 300) { /* a DATA behind that would send an empty message */
			transaction_on_loss(t, OUT_OF_STEP);
			return;
		}
	} else if (r->code < 300) {
		x->state = RCPT_ACCEPTED;
		t->accepted++;
	} else {
		on_rcpt_refused(t, x, r);
	}
	next_rcpt(t);
	if (t->next < t->count) {
		wait_for(t, PHASE_RCPT);
		if (!t->pipelined)
			send_rcpt(t);
		return;
	}
	if (!t->pipelined && !t->accepted) {
		t->c->rset_needed = true;
		finish(t);
		return;
	}
	wait_for(t, PHASE_DATA);
	if (!t->pipelined)
		stream_write(t->c->stream, "DATA\r\n", 6);
}

static void on_data(struct transaction *t, const struct reply *r)
{
	struct judgement j;

	if (r->code == 354 && t->accepted && !t->mail_refused) {
		t->body_begun = true;
		wait_for(t, PHASE_BODY);
		send_body(t);
		return;
	}
	if (r->code == 354 && t->mail_refused) {
		/* it may have taken the recipients, too: a dot would send them nothing but emptiness */
		finish_lost(t, &t->message, true, false);
		return;
	}
	if (r->code == 354) {
		t->empty = true;
		stream_write(t->c->stream, ".\r\n", 3);
		wait_for(t, PHASE_DOT);
		return;
	}
	if (!t->mail_refused) { /* else this only says that there is no transaction */
		if (t->accepted) { /* else it only says that there is no recipient */
			judge_reply(&j, t->c->site, PHASE_DATA, r);
			settle_rest(t, &j);
		}
		t->c->rset_needed = true;
	}
	finish(t);
}

/* A reply while the message is on its way: its answer, but the peer waits for a dot that must not come. */
static void on_body(struct transaction *t, const struct reply *r)
{
	struct judgement j;

	judge_reply(&j, t->c->site, PHASE_DOT, r);
	if (j.o.class == OUTCOME_DELIVERED)
		j.o.class = OUTCOME_TRANSIENT;
	settle_rest(t, &j);
	finish_lost(t, &j.o, true, false);
}

static void on_dot(struct transaction *t, const struct reply *r)
{
	struct judgement j = {.o = t->message};

	if (!t->empty) {
		judge_reply(&j, t->c->site, PHASE_DOT, r);
		settle_rest(t, &j);
	}
	if (r->code == 421)
		finish_lost(t, &j.o, false, !t->empty);
	else
		finish(t);
}

/* No reply but this one is due now. */
static bool is_last_due(const struct transaction *t)
{
	if (t->phase == PHASE_MAIL || t->phase == PHASE_RCPT)
		return !t->pipelined && !t->rset_pending;
	return t->phase == PHASE_DATA;
}

/* A reply that cannot belong to the command: whoever reads on reads the wrong ones. */
static bool is_out_of_step(const struct transaction *t, const struct reply *r)
{
	bool go_on = r->code >= 300 && r->code < 400;

	if (is_last_due(t) && connection_input_unasked(t->c))
		return true;
	if (t->phase == PHASE_DATA)
		return r->code < 300 || (go_on && r->code != 354);
	return go_on && t->phase != PHASE_BODY;
}

/* 421: what was not decided goes elsewhere; only a pattern may see more in it. */
static void on_421(struct transaction *t, const struct reply *r)
{
	struct txn_rcpt *x = t->next < t->count ? &t->rcpts[t->next] : NULL;
	struct judgement j;

	judge_reply(&j, t->c->site, t->phase, r);
	if (t->phase == PHASE_MAIL)
		warmup_undo(t->c->site, &t->c->source_ip, t->warmup_day, t->sent);
	if (j.disposition == CONF_BOUNCE_RCPT && x && x->state == RCPT_OPEN)
		rcpt_decide(x, &j.o);
	if (j.again) {
		transaction_put_back(t, &j.o);
	} else if (j.disposition == CONF_BOUNCE_QUEUE) {
		transaction_decide_rest(t, &j.o);
	} else {
		site_note(t->c->site, &j.o);
		j.o.class = OUTCOME_TRANSIENT;
		transaction_rest_again(t, &j.o);
	}
	carry_out(t, &j, NULL);
	finish_lost(t, &j.o, false, false);
}

void transaction_on_reply(struct transaction *t, const struct reply *r)
{
	static void (*const by_phase[PHASE_COUNT])(struct transaction *, const struct reply *) = {
		[PHASE_MAIL] = on_mail, [PHASE_RCPT] = on_rcpt, [PHASE_DATA] = on_data,
		[PHASE_BODY] = on_body, [PHASE_DOT] = on_dot,
	};

	/* The dot has not left: this cannot be its reply. */
	if (t->phase == PHASE_DOT && !t->empty && stream_output_pending(t->c->stream))
		t->phase = PHASE_BODY;
	if (r->code == 421 && t->phase != PHASE_DOT && t->phase != PHASE_BODY) {
		on_421(t, r);
		return;
	}
	if (is_out_of_step(t, r)) {
		transaction_on_loss(t, OUT_OF_STEP);
		return;
	}
	if (t->rset_pending) {
		t->rset_pending = false;
		wait_for(t, PHASE_MAIL);
		return;
	}
	by_phase[t->phase](t, r);
}

void transaction_on_loss(struct transaction *t, const char *what)
{
	const struct judge_loss loss = {
		.what = what, .timed_out = t->c->timed_out, .pix = t->c->pix};
	struct judgement j;

	judge_loss(&j, t->c->site, t->phase, &loss);
	if (j.again) {
		transaction_put_back(t, &j.o);
	} else if (j.o.scope == SCOPE_CONNECTION && j.disposition != CONF_BOUNCE_QUEUE) {
		site_note(t->c->site, &j.o);
		transaction_rest_again(t, &j.o);
	} else {
		transaction_decide_rest(t, &j.o);
	}
	carry_out(t, &j, NULL);
	finish_lost(t, &j.o, t->phase != PHASE_DOT, j.o.class != OUTCOME_DELIVERED);
}

void transaction_interrupt(struct transaction *t)
{
	struct connection *c = t->c;

	if (t->phase == PHASE_DOT)
		return;
	for (uint32_t i = 0; i < t->count; i++)
		if (t->rcpts[i].state == RCPT_OPEN || t->rcpts[i].state == RCPT_ACCEPTED)
			t->rcpts[i].state = RCPT_AGAIN;
	transaction_end(t);
	connection_give_up(c, true);
}

/* --- beginning --- */

/* Recipients of the message of a parcel that wait in other queues of the same site and can go with it. */
struct kin {
	struct item *items[KIN_MAX];
	uint32_t n;
};

/* A message's recipients are numbered. Where a few numbers in a row are not in hand, it is taken to have no more. */
static void look_along(const struct connection *c, const struct parcel *p, int step, uint32_t most,
		       struct kin *k)
{
	const struct queue *allowed = NULL;
	uint64_t rcpt = TAILQ_FIRST(&p->items)->key.rcpt + (uint64_t)step;
	uint32_t misses = 0;

	for (int i = 0; i < KIN_LOOKS && rcpt <= UINT32_MAX; i++, rcpt += (uint64_t)step) {
		struct item *it = inhand_find(c->w->inhand, p->key.msgid, (uint32_t)rcpt);

		misses = it ? 0 : misses + 1;
		if (misses == KIN_MISSES || k->n == most)
			return;
		if (!it || !it->parcel || it->queue == p->queue || it->queue->site != c->site)
			continue;
		if (it->queue != allowed && !shared_may_join(it->queue, c))
			continue;
		allowed = it->queue;
		k->items[k->n++] = it;
	}
}

/* Those near its own: each transaction of a message with very many would look at all of them else. */
static void find_kin(const struct connection *c, const struct parcel *p, uint32_t most,
		     struct kin *ret)
{
	*ret = (struct kin){.n = 0};
	if (c->site->of || p->item_count >= most || !shared_may_mix(p->queue))
		return;
	most -= p->item_count;
	if (most > KIN_MAX)
		most = KIN_MAX;
	look_along(c, p, 1, most, ret);
	look_along(c, p, -1, most, ret);
}

/* Of recipients that one transaction of this site may have. */
static uint32_t most_recipients(const struct connection *c)
{
	uint64_t most = c->site->set->max_rcpt_per_message;
	uint32_t fits = post_max_recipients(c->w->post);

	return most == 0 || most > fits ? fits : (uint32_t)most;
}

/* Of n recipients, those that the warm-up of its address lets go now; with none for long it closes. */
static uint32_t warm_enough(struct connection *c, uint32_t n)
{
	usec_t wait;

	n = warmup_room(c->site, &c->source_ip, n, &wait);
	c->closing |= n == 0 && wait > WARMUP_PATIENCE;
	return n;
}

static void take_items(struct transaction *t, struct parcel *p, const struct kin *kin, uint32_t n)
{
	uint32_t own = p->item_count < n ? p->item_count : n;
	struct queue *q = p->queue;

	turn_used(&q->site->turn, p);
	connection_carries(t->c, q);
	t->msgid = p->key.msgid;
	t->rcpts = xcalloc(n, sizeof(*t->rcpts));
	t->count = n;
	for (uint32_t i = 0; i < n; i++) {
		/* p is gone with its last item */
		struct item *it = i < own ? TAILQ_FIRST(&p->items) : kin->items[i - own];

		invariant(it);
		queue_remove(it->queue, it);
		it->state = ITEM_OPEN;
		t->rcpts[i].e.item = it;
	}
}

/* From what the envelope says; returns how many are to be sent. */
static uint32_t apply_fates(struct transaction *t, struct envelope_rcpt *e)
{
	uint32_t sent = 0;

	for (uint32_t i = 0; i < t->count; i++) {
		struct txn_rcpt *x = &t->rcpts[i];

		x->e = e[i];
		switch (e[i].fate) {
		case FATE_SEND:
			sent++;
			break;
		case FATE_GONE:
			x->state = RCPT_GONE;
			break;
		case FATE_VERDICT:
			x->state = RCPT_DECIDED;
			x->outcome = e[i].verdict;
			break;
		}
	}
	return sent;
}

static void all_unreadable(struct transaction *t, int rc, struct envelope_rcpt *e)
{
	struct outcome o;

	if (rc != ERR_NOT_FOUND)
		log_error(NULL, "cannot read a message from the spool", LOG_U("msgid", t->msgid),
			  LOG_S("why", err_text(rc)));
	outcome_local(&o, LOCAL_SET_ASIDE, "cannot read the message from the spool: %s",
		      err_text(rc));
	for (uint32_t i = 0; i < t->count; i++) {
		e[i].fate = rc == ERR_NOT_FOUND ? FATE_GONE : FATE_VERDICT;
		if (rc == ERR_NOT_FOUND)
			continue;
		e[i].verdict = xmemdup(&o, sizeof(o));
		e[i].verdict_due = loop_wall(t->w->loop) + 3600 * MSEC_PER_SEC;
	}
}

static uint32_t read_envelope(struct transaction *t)
{
	struct envelope_rcpt *e = xcalloc(t->count, sizeof(*e));
	struct spool_read *r;
	uint32_t sent;
	int rc;

	for (uint32_t i = 0; i < t->count; i++)
		e[i].item = t->rcpts[i].e.item;
	rc = spool_read_begin(t->w->spool, &r);
	if (rc == 0) {
		rc = envelope_read(t->c, r, t->msgid, e, t->count, &t->env);
		spool_read_end(r);
	}
	if (rc < 0)
		all_unreadable(t, rc, e);
	sent = apply_fates(t, e);
	free(e);
	return sent;
}

/* One try; false: all of them got their outcome without the receiver. */
static bool begin(struct connection *c, struct parcel *p, const struct kin *kin, uint32_t n,
		  uint64_t reserved, const struct paces_ticket *paces)
{
	struct transaction *t = xcalloc(1, sizeof(*t));
	uint32_t sent;

	t->magic = TRANSACTION_MAGIC;
	t->c = c;
	t->w = c->w;
	t->reserved = reserved;
	t->paces = *paces;
	t->started = loop_wall(c->w->loop);
	t->phase = PHASE_MAIL;
	take_items(t, p, kin, n);
	lease_set_message(c->w->shm, c->w->h->slot, c->hold.lease,
			  t->msgid); /* from here it may be to blame */
	sent = read_envelope(t);
	if (sent == 0 || (t->env.alone && c->messages)) {
		bool alone = sent != 0;

		paces_sent(c->site, paces, 0);
		transaction_end(t);
		c->closing |= alone;
		return false;
	}
	paces_sent(c->site, paces, sent);
	if (sent == t->count) { /* nothing was decided here: one report will do */
		uint64_t one = transaction_bound(c, n);

		post_release(t->w->post, t->reserved - one);
		t->reserved = one;
	}
	c->txn = t;
	if (t->env.alone)
		c->w->suspect = t;
	t->warmup_day = warmup_begun(c->site, &c->source_ip, sent);
	t->sent = sent;
	t->pipelined = c->offers & OFFER_PIPELINING;
	t->next = UINT32_MAX;
	next_rcpt(t);
	trace_begun(t);
	send_envelope(t);
	return true;
}

enum transaction_start transaction_begin(struct connection *c)
{
	struct paces_ticket paces;
	struct parcel *p;

	while (!c->closing && paces_may_send(c) && (p = trace_next(c))) {
		struct kin kin;
		uint64_t bound;
		uint32_t n, most = most_recipients(c);

		find_kin(c, p, most, &kin);
		n = p->item_count + kin.n;
		n = warm_enough(c, n < most ? n : most);
		if (n == 0)
			break;
		if (!paces_take(c, p, &n, &paces))
			continue; /* its queue waits alone, or no clock is open any more */
		/* What the receiver says is one report, what is decided here another. */
		bound = transaction_bound(c, n) * (n > 1 ? 2 : 1);
		if (!post_reserve(c->w->post, bound)) {
			paces_sent(c->site, &paces, 0);
			return TRANSACTION_NO_ROOM;
		}
		if (begin(c, p, &kin, n, bound, &paces))
			return TRANSACTION_BEGUN;
	}
	return TRANSACTION_NOTHING;
}

/* --- what others ask --- */

uint64_t transaction_msgid(const struct transaction *t)
{
	return t->msgid;
}

bool transaction_awaits_final_reply(const struct transaction *t)
{
	return t->phase == PHASE_DOT;
}

bool transaction_has(const struct transaction *t, uint64_t msgid, uint32_t rcpt)
{
	if (msgid != t->msgid)
		return false;
	for (uint32_t i = 0; i < t->count; i++)
		if (t->rcpts[i].e.item->key.rcpt == rcpt)
			return true;
	return false;
}

const char *transaction_doing(const struct transaction *t)
{
	return outcome_phase_name(t->phase);
}

void transaction_each(const struct transaction *t,
		      void (*each)(uint64_t msgid, uint32_t rcpt, uint32_t queue, void *arg),
		      void *arg)
{
	for (uint32_t i = 0; i < t->count; i++)
		if (t->rcpts[i].e.fate == FATE_SEND)
			each(t->msgid, (uint32_t)t->rcpts[i].e.item->key.rcpt,
			     t->rcpts[i].e.item->queue->id, arg);
}
