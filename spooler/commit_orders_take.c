/*
 * commit_orders_take.c - delete and move: a walk over the table of recipients, or over a job's messages, in
 * chunks. What a worker holds in an open transaction is left alone.
 */
#include "spooler/commit_orders_private.h"

#define DELETED_TEXT "local: deleted by administrator"

static bool message_matches(const struct commit_order *o, const struct spool_message *m)
{
	struct order_filter f = o->o.filter;

	f.queue = f.rcpt = slice_of("", 0);
	return order_filter_match(&f, f.queue, m->job, m->sender, f.rcpt, m->envid, m->received);
}

struct order_queue orders_names_of(struct commit *c, struct commit_qent *q)
{
	return (struct order_queue){.domain = q->domain,
				    .provider = cache_queue_provider(c, q),
				    .vmta = slice_str(q->vmta->name)};
}

static bool recipient_matches(struct commit *c, const struct commit_order *o,
			      const struct spool_recipient *r, struct commit_qent *q)
{
	const struct spool_message *m = &c->subject.m;
	struct order_queue names;

	if (m->received > o->o.created) /* workers go on with what came later */
		return false;
	names = orders_names_of(c, q);
	return order_filter_match_queue(&o->o.filter, &names, m->job, m->sender, r->address,
					m->envid, m->received);
}

/* 1, or a negative err. */
static int delete_recipient(struct commit *c, const struct commit_order *o,
			    const struct spool_recipient *r, struct commit_qent *q)
{
	static const struct ip no_ip = {.family = IP_NONE};
	struct report_outcome outcome = {.text = slice_str(DELETED_TEXT), .enhanced = {5, 0, 0}};
	struct acct_record a;
	int rc = 0;

	if (!o->o.no_accounting && record_wanted(q->settings, ACCT_BOUNCED)) {
		record_fill(c, &a, ACCT_BOUNCED, r, q);
		a.dsn_action = slice_str("failed");
		memcpy(a.enhanced, outcome.enhanced, sizeof(a.enhanced));
		a.text = outcome.text;
		rc = commit_outbox(c, &a);
	}
	c->ended_bounced += !o->o.no_accounting;
	if (rc == 0 && o->o.dsn) {
		c->subject.dsn_vmta = q->vmta->name;
		subject_tell(c, r, DSN_FAILED, &outcome, slice_of("", 0), &no_ip);
	}
	if (rc == 0)
		rc = recipient_remove(c, r, q);
	return rc < 0 ? rc : 1;
}

/* What no worker holds is deleted or moved. */
static int take_recipient(struct commit *c, const struct commit_order *o, uint32_t rcpt,
			  unsigned *ret_rows)
{
	struct spool_recipient r;
	struct commit_qent *q;
	int rc = subject_recipient(c, rcpt, &r, &q);

	if (rc < 0)
		return rc == ERR_NOT_FOUND ? 0 : rc;
	if (!recipient_matches(c, o, &r, q) || orders_find_held(o, r.msgid, r.rcpt))
		return 0;
	rc = o->o.kind == ORDER_MOVE ? move_recipient(c, &r, q, o->o.target.p)
				     : delete_recipient(c, o, &r, q);
	*ret_rows += rc > 0;
	/* It stays, but its worker has forgotten it, and table fresh is not read twice. */
	if (rc == 0)
		rc = recipient_to_due(c, &r, q, r.fresh ? c->now : r.due);
	return rc < 0 ? rc : 0;
}

static bool has_wildcard(struct slice s)
{
	return slice_chr(s, '*') >= 0 || slice_chr(s, '?') >= 0;
}

/* The first recipient at or behind the position; messages of other jobs are jumped over by the index. */
static int next_recipient(struct commit *c, const struct commit_order *o, struct spool_key *at,
			  uint64_t *ret_msgid, uint32_t *ret_rcpt)
{
	struct slice job = o->o.filter.job, key, value;
	int more;

	if (job.n && !has_wildcard(job) && be32_get(at->b + 8) == 0) {
		uint64_t after = be64_get(at->b), msgid;

		after -= after > 0;
		more = spool_job_next(write_read(c->w), job, &after, &msgid);
		if (more <= 0)
			return more;
		if (msgid > be64_get(at->b))
			*at = key_recipient(msgid, 0);
	}
	more = write_seek(c->w, SPOOL_RECIPIENT, at, false, &key, &value);
	if (more <= 0)
		return more;
	if (key.n != KEY_RECIPIENT_SIZE)
		return ERR_CORRUPT;
	*ret_msgid = be64_get(key.p);
	*ret_rcpt = be32_get(key.p + 8);
	return 1;
}

/* Makes msgid the subject. 1 = it matches, 0 = none of its recipients can, negative err. */
static int enter_message(struct commit *c, const struct commit_order *o, uint64_t msgid)
{
	int rc;

	if (c->subject.loaded && c->subject.m.id == msgid)
		return 1;
	rc = subject_end(c);
	if (rc == 0)
		rc = subject_begin(c, msgid);
	if (rc < 0)
		return rc == ERR_NOT_FOUND ? 0 : rc;
	return message_matches(o, &c->subject.m);
}

int orders_take_chunk(struct commit *c, struct commit_order *o, struct chunk *k)
{
	int rc = 1;

	if (o->now.position.n != KEY_RECIPIENT_SIZE)
		o->now.position = key_recipient(0, 0);
	while (rc > 0 && k->rows < CHUNK_ROWS && k->looks < CHUNK_LOOKS) {
		uint64_t msgid;
		uint32_t rcpt;

		rc = next_recipient(c, o, &o->now.position, &msgid, &rcpt);
		if (rc <= 0)
			break;
		k->looks++;
		rc = enter_message(c, o, msgid);
		if (rc < 0)
			break;
		if (rc == 0) {
			o->now.position = key_recipient(msgid + 1, 0);
			rc = 1;
			continue;
		}
		o->now.position = key_recipient(msgid, rcpt + 1);
		rc = take_recipient(c, o, rcpt, &k->rows);
		rc = rc < 0 ? rc : 1;
	}
	if (rc >= 0) {
		int ended = subject_end(c);

		rc = ended < 0 ? ended : rc;
	}
	return rc;
}
