#include "worker/envelope.h"

#include <stdio.h>

#include "common/base/log.h"
#include "common/base/rng.h"
#include "common/base/xalloc.h"
#include "common/conf/conf.h"
#include "worker/connection.h"
#include "worker/context.h"
#include "worker/inhand.h"
#include "worker/site.h"
#include "worker/verdict.h"

#define ALONE_FROM 2 /* crashes */
#define ASIDE_FROM 3
#define ASIDE_TIME (3600 * MSEC_PER_SEC)
#define TURN_TIME (59 * MSEC_PER_SEC)

static const struct {
	uint8_t bit;
	const char *name;
} notify_names[] = {
	{SPOOL_NOTIFY_NEVER, "NEVER"},
	{SPOOL_NOTIFY_SUCCESS, "SUCCESS"},
	{SPOOL_NOTIFY_FAILURE, "FAILURE"},
	{SPOOL_NOTIFY_DELAY, "DELAY"},
};

static void add_mail(const struct connection *c, const struct spool_message *m, struct buf *b)
{
	buf_add_str(b, "MAIL FROM:<");
	buf_add_slice(b, m->sender);
	buf_add_char(b, '>');
	if (c->offers & OFFER_SIZE)
		buf_addf(b, " SIZE=%llu", (unsigned long long)m->size);
	if ((m->flags & SPOOL_MSG_8BITMIME) && (c->offers & OFFER_8BITMIME))
		buf_add_str(b, " BODY=8BITMIME");
	if ((m->flags & SPOOL_MSG_SMTPUTF8) && (c->offers & OFFER_SMTPUTF8))
		buf_add_str(b, " SMTPUTF8");
	if (c->offers & OFFER_DSN) {
		if (m->flags & SPOOL_MSG_RET_FULL)
			buf_add_str(b, " RET=FULL");
		else if (m->flags & SPOOL_MSG_RET_HDRS)
			buf_add_str(b, " RET=HDRS");
		if (m->dsn_envid.n) {
			buf_add_str(b, " ENVID=");
			buf_add_slice(b, m->dsn_envid);
		}
	}
	buf_add_str(b, "\r\n");
}

static void add_rcpt(const struct connection *c, const struct spool_recipient *r, struct buf *b)
{
	bool first = true;

	buf_add_str(b, "RCPT TO:<");
	buf_add_slice(b, r->address);
	buf_add_char(b, '>');
	if (c->offers & OFFER_DSN) {
		for (size_t i = 0; i < ARRAY_SIZE(notify_names); i++) {
			if (!(r->notify & notify_names[i].bit))
				continue;
			buf_add_str(b, first ? " NOTIFY=" : ",");
			buf_add_str(b, notify_names[i].name);
			first = false;
		}
		if (r->orcpt.n) {
			buf_add_str(b, " ORCPT=");
			buf_add_slice(b, r->orcpt);
		}
	}
	buf_add_str(b, "\r\n");
}

static bool is_ascii(struct slice s)
{
	for (size_t i = 0; i < s.n; i++)
		if ((unsigned char)s.p[i] >= 0x80)
			return false;
	return true;
}

/* What is wrong with the whole message for this host; false: nothing. */
static bool message_verdict(const struct connection *c, const struct spool_message *m,
			    struct outcome *ret)
{
	if ((c->offers & OFFER_SIZE) && c->size_max && m->size > c->size_max) {
		outcome_local(ret, LOCAL_TOO_BIG,
			      "%s takes messages of at most %llu bytes, this one has %llu", c->host,
			      (unsigned long long)c->size_max, (unsigned long long)m->size);
		return true;
	}
	if ((m->flags & SPOOL_MSG_SMTPUTF8) && !(c->offers & OFFER_SMTPUTF8) &&
	    !is_ascii(m->sender)) {
		outcome_local(ret, LOCAL_NO_SMTPUTF8, "%s does not offer SMTPUTF8", c->host);
		return true;
	}
	return false;
}

/*
 * A message that killed workers waits an hour after each further death, and again where its last try was deferred
 * otherwise: between two tries lies an hour. And it waits, a minute at most, while another such message is in hand:
 * else those that were in hand beside the one to blame would be so at its next death, too.
 */
static bool is_set_aside(const struct connection *c, const struct spool_message *m,
			 const struct spool_recipient *r, struct outcome *ret, msec_t *ret_due)
{
	if (m->crashes < ALONE_FROM)
		return false;
	outcome_local(ret, LOCAL_SET_ASIDE, "set aside: %u workers died with it in hand",
		      m->crashes);
	if (m->crashes >= ASIDE_FROM && !slice_eq_str(r->last_reply, ret->text))
		*ret_due = loop_wall(c->w->loop) + ASIDE_TIME;
	else if (c->w->suspect)
		*ret_due = loop_wall(c->w->loop) + MSEC_PER_SEC + rng_below(TURN_TIME);
	else
		return false;
	return true;
}

static void decide(struct envelope_rcpt *x, const struct outcome *o, msec_t due)
{
	x->fate = FATE_VERDICT;
	x->verdict = xmemdup(o, sizeof(*o));
	x->verdict_due = due;
}

static void read_rcpt(struct connection *c, struct spool_read *r, const struct spool_message *m,
		      const struct outcome *all, struct envelope_rcpt *x, struct buf *rcpts)
{
	struct spool_recipient row;
	struct outcome o;
	msec_t due;

	x->fate = FATE_GONE;
	if (spool_recipient_get(r, x->item->key.msgid, (uint32_t)x->item->key.rcpt, &row) < 0 ||
	    row.queue != x->item->queue->id)
		return;
	x->attempts = row.attempts;
	if (all) {
		decide(x, all, 0);
	} else if (verdict_expired(x->item->queue, m, &row, &o)) {
		decide(x, &o, 0);
	} else if (is_set_aside(c, m, &row, &o, &due)) {
		decide(x, &o, due);
	} else if (!(c->offers & OFFER_SMTPUTF8) && !is_ascii(row.address)) {
		outcome_local(&o, LOCAL_NO_SMTPUTF8, "%s does not offer SMTPUTF8", c->host);
		decide(x, &o, 0);
	} else {
		x->fate = FATE_SEND;
		add_rcpt(c, &row, rcpts);
	}
}

int envelope_read(struct connection *c, struct spool_read *r, uint64_t msgid,
		  struct envelope_rcpt *rcpts, uint32_t n, struct envelope *e)
{
	struct spool_message m;
	struct outcome all;
	bool bad;
	int rc = spool_message_get(r, msgid, &m);

	if (rc < 0)
		return rc;
	buf_clear(&e->mail);
	buf_clear(&e->rcpts);
	e->alone = m.crashes >= ALONE_FROM;
	bad = message_verdict(c, &m, &all);
	add_mail(c, &m, &e->mail);
	for (uint32_t i = 0; i < n; i++)
		read_rcpt(c, r, &m, bad ? &all : NULL, &rcpts[i], &e->rcpts);
	e->message = m;
	e->message.sender = e->message.source_mta = e->message.user = e->message.job =
		e->message.envid = e->message.dsn_envid = slice_str("");
	return 0;
}

void envelope_done(struct envelope *e)
{
	buf_done(&e->mail);
	buf_done(&e->rcpts);
}
