#include "worker/verdict.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/log.h"
#include "common/base/xalloc.h"
#include "common/conf/conf.h"
#include "common/spool/spool.h"
#include "worker/context.h"
#include "worker/inhand.h"
#include "worker/post.h"
#include "worker/retry.h"
#include "worker/site.h"

#define AT_ONCE 1000
/* Orphans, paused and blocked queues have no attempts: they wait this long after the start. */
#define PATIENCE (15 * 60 * USEC_PER_SEC)

bool verdict_items(struct site *s, struct item *const *items, uint32_t n, const struct outcome *o,
		   msec_t due)
{
	struct worker *w = s->w;
	struct report_outcome *out;
	struct report_transaction r = {
		.msgid = items[0]->key.msgid,
		.type = DLV_LOCAL,
		.site = slice_str(s->label),
		.mx_name = slice_str(""),
		.tls_protocol = slice_str(""),
		.tls_cipher = slice_str(""),
		.esmtp = slice_str(""),
		.started = loop_wall(w->loop),
		.ended = loop_wall(w->loop),
		.outcome_count = n,
	};

	if (!post_reserve(w->post, post_bound(&r, n)))
		return false;
	out = xcalloc(n, sizeof(*out));
	for (uint32_t i = 0; i < n; i++) {
		out[i] = (struct report_outcome){
			.rcpt = (uint32_t)items[i]->key.rcpt,
			.queue = items[i]->queue->id,
			.class = o->class,
			.code = o->code,
			.text = slice_str(o->text),
			.due = due,
		};
		memcpy(out[i].enhanced, o->enhanced, sizeof(out[i].enhanced));
	}
	r.outcomes = out;
	post_transaction(w->post, &r, post_bound(&r, n));
	for (uint32_t i = 0; i < n; i++)
		inhand_done(w->inhand, items[i], post_position(w->post));
	counter_add(w->counters,
		    o->class == OUTCOME_BOUNCED ? COUNTER_BOUNCED_RECIPIENTS
						: COUNTER_TRANSIENT_RECIPIENTS,
		    n);
	free(out);
	return true;
}

static bool verdict_parcel(struct site *s, struct queue *q, struct parcel *p,
			   const struct outcome *o)
{
	struct item *items[AT_ONCE];
	uint32_t most = post_max_recipients(s->w->post);
	uint32_t n = 0, want = p->item_count;

	if (most > AT_ONCE)
		most = AT_ONCE;
	if (want > most)
		want = most;
	invariant(want > 0);
	do {
		items[n] = TAILQ_FIRST(&p->items);
		queue_remove(q, items[n]);
	} while (++n < want);
	if (verdict_items(s, items, n, o, 0))
		return true;
	for (uint32_t i = 0; i < n; i++)
		queue_put(q, items[i], true);
	return false;
}

bool verdict_waiting(struct site *s, const struct outcome *o)
{
	struct queue *q;
	struct parcel *p;

	SITE_EACH_QUEUE(q, s)
	{
		while ((p = queue_first(q)))
			if (!verdict_parcel(s, q, p, o))
				return false;
	}
	return true;
}

static bool had_a_chance(const struct queue *q, const struct spool_recipient *r)
{
	const struct worker *w = q->w;

	if (r->last_attempt >= w->epoch_wall || q->site->tried >= w->epoch_wall ||
	    q->home->tried >= w->epoch_wall)
		return true;
	return queue_is_blocked(q) && loop_now(w->loop) >= w->epoch + PATIENCE;
}

/* bounce-upon-no-mx: the site is known to have no MX record; when its mail is given up. */
static msec_t no_mx_expiry(const struct queue *q, msec_t received)
{
	const struct site *s = q->home;
	usec_t no_mx = s->set->bounce_upon_no_mx;

	if (!s->no_mx || s->set->smtp_hosts.n || no_mx >= CONF_TIME_NO)
		return UINT64_MAX;
	return received + no_mx / USEC_PER_MSEC;
}

static bool is_of_age(const struct queue *q, msec_t received)
{
	msec_t now = loop_wall(q->w->loop);

	return retry_expiry(q->set, received) <= now || no_mx_expiry(q, received) <= now;
}

bool verdict_expired(const struct queue *q, const struct spool_message *m,
		     const struct spool_recipient *r, struct outcome *ret)
{
	msec_t now = loop_wall(q->w->loop);
	struct slice last = r->last_reply;

	/* bounce-upon-no-mx = yes needs no attempt */
	if (no_mx_expiry(q, m->received) <= now &&
	    (q->set->bounce_upon_no_mx == 0 || had_a_chance(q, r))) {
		outcome_local(ret, LOCAL_NO_MX, "the domain has no MX record%s",
			      q->site->tried || q->home->tried
				      ? ", and no address that takes the mail"
				      : "");
		return true;
	}
	if (retry_expiry(q->set, m->received) > now || !had_a_chance(q, r))
		return false;
	if (last.n == 0)
		last = slice_str((q->home->last.text[0] ? q->home : q->site)->last.text);
	if (slice_istarts(last, "local: "))
		last = slice_from(last, 7);
	outcome_local(ret, LOCAL_EXPIRED, "message expired after %llu s in the queue%s%.*s",
		      (unsigned long long)((loop_wall(q->w->loop) - m->received) / MSEC_PER_SEC),
		      last.n ? "; last: " : "", SLICE_ARG(slice_sub(last, 0, 400)));
	return true;
}

static void expire_parcel(struct spool_read *r, struct queue *q, struct parcel *p)
{
	struct item *it, *next;
	struct spool_message m;

	if (spool_message_get(r, p->key.msgid, &m) < 0 || !is_of_age(q, m.received))
		return;
	for (it = TAILQ_FIRST(&p->items); it; it = next) { /* p goes away with its last item */
		struct spool_recipient row;
		struct outcome o;

		next = TAILQ_NEXT(it, link);
		if (spool_recipient_get(r, it->key.msgid, (uint32_t)it->key.rcpt, &row) < 0 ||
		    !verdict_expired(q, &m, &row, &o))
			continue;
		queue_remove(q, it);
		if (verdict_items(q->site, &it, 1, &o, 0))
			continue;
		queue_put(q, it, false); /* no room: another time */
		return;
	}
}

static void expire_lane(struct spool_read *r, struct queue *q, struct lane *l)
{
	struct parcel *p, *next;

	for (p = TAILQ_FIRST(&l->parcels); p; p = next) { /* l goes away with its last parcel */
		next = TAILQ_NEXT(p, link);
		expire_parcel(r, q, p);
	}
}

void verdict_expire_waiting(struct site *s)
{
	struct spool_read *r;
	struct queue *q;

	if (spool_read_begin(s->w->spool, &r) < 0)
		return;
	SITE_EACH_QUEUE(q, s)
	{
		for (int c = 0; c < SPOOL_CLASSES; c++) {
			struct lane *l, *next;

			for (l = TAILQ_FIRST(&q->lanes[c]); l; l = next) {
				next = TAILQ_NEXT(l, link);
				expire_lane(r, q, l);
			}
		}
	}
	spool_read_end(r);
}
