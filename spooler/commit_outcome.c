/*
 * commit_outcome.c - what became of recipients: the reports of workers, applied.
 *
 * A report about something that is gone does nothing, so that a replay is harmless.
 */
#include "spooler/commit_private.h"

#include <inttypes.h>
#include <stdlib.h>

/* --- the message in question --- */

static void log_unreadable(uint64_t msgid, const char *what, int rc)
{
	log_error(NULL, "a row of the spool cannot be read; run sluice spool check",
		  LOG_S("row", what), LOG_U("msgid", msgid), LOG_S("error", err_text(rc)));
}

/* A row that cannot be read is treated as one that is not there: the rest of the mail goes on. */
static int gone_if_unreadable(uint64_t msgid, const char *what, int rc)
{
	if (rc != ERR_CORRUPT && rc != ERR_VERSION)
		return rc;
	log_unreadable(msgid, what, rc);
	return ERR_NOT_FOUND;
}

int subject_begin(struct commit *c, uint64_t msgid)
{
	struct spool_key k = key_u64(msgid);
	struct commit_subject *s = &c->subject;
	struct slice v;
	int rc = write_get(c->w, SPOOL_MESSAGE, &k, &v);

	s->loaded = s->changed = false;
	s->dsn_count = 0;
	if (rc < 0)
		return rc;
	buf_clear(&s->row);
	buf_add_slice(&s->row, v);
	rc = row_message_decode(buf_slice(&s->row), &s->m);
	if (rc < 0)
		return gone_if_unreadable(msgid, "message", rc);
	s->m.id = msgid;
	s->loaded = true;
	return 0;
}

int recipient_load(struct commit *c, uint64_t msgid, uint32_t rcpt, struct spool_recipient *ret,
		   struct commit_qent **ret_queue)
{
	struct spool_key k = key_recipient(msgid, rcpt);
	struct slice v;
	int rc = write_get(c->w, SPOOL_RECIPIENT, &k, &v);

	if (rc < 0)
		return rc;
	buf_clear(&c->row);
	buf_add_slice(&c->row, v);
	rc = row_recipient_decode(buf_slice(&c->row), ret);
	if (rc < 0)
		return gone_if_unreadable(msgid, "recipient", rc);
	ret->msgid = msgid;
	ret->rcpt = rcpt;
	*ret_queue = cache_queue_by_id(c, ret->queue);
	if (!*ret_queue)
		return gone_if_unreadable(msgid, "queue", ERR_CORRUPT);
	return 0;
}

int subject_recipient(struct commit *c, uint32_t rcpt, struct spool_recipient *ret,
		      struct commit_qent **ret_queue)
{
	return recipient_load(c, c->subject.m.id, rcpt, ret, ret_queue);
}

static int put_dsn(struct commit *c)
{
	struct commit_subject *s = &c->subject;
	struct spool_key k = key_u64(c->n.next_dsn);
	struct dsn_row row = {
		.msgid = s->m.id,
		.sender = s->m.sender,
		.dsn_envid = s->m.dsn_envid,
		.envid = s->m.envid,
		.job = s->m.job,
		.flags = s->m.flags,
		.received = s->m.received,
		.made = c->now,
		.vmta = slice_str(s->dsn_vmta),
		.source_mta = s->m.source_mta,
		.recipients = s->dsn,
		.recipient_count = s->dsn_count,
	};
	size_t want = dsn_original_size(&s->m, &row.full), got = 0;

	buf_clear(&c->original);
	if (want && spool_body_read(write_read(c->w), &s->m, 0, buf_reserve(&c->original, want),
				    want, &got) < 0)
		got = 0; /* the notification goes without it */
	c->original.n = got;
	row.full = row.full && got == want;
	row.original = buf_slice(&c->original);
	buf_clear(&c->value);
	dsn_row_encode(&row, &c->value);
	c->n.next_dsn++;
	c->result.dsn = true;
	return write_put(c->w, SPOOL_DSN, &k, buf_slice(&c->value));
}

static int remove_message(struct commit *c)
{
	const struct spool_message *m = &c->subject.m;
	struct spool_key k = key_u64(m->id);
	int rc = write_delete(c->w, SPOOL_MESSAGE, &k);

	if (rc == 0 && m->job.n) {
		struct spool_key job = key_job(m->job, m->id);

		rc = write_delete(c->w, SPOOL_JOB, &job);
	}
	if (m->body == SPOOL_BODY_BIG)
		commit_unlink_later(c, m->id);
	else if (rc == 0)
		rc = write_delete(c->w, SPOOL_BODY, &k);
	c->n.messages--;
	c->n.bytes -= m->size;
	return rc;
}

static int store_message(struct commit *c)
{
	struct spool_key k = key_u64(c->subject.m.id);

	buf_clear(&c->value);
	row_message_encode(&c->subject.m, &c->value);
	return write_put(c->w, SPOOL_MESSAGE, &k, buf_slice(&c->value));
}

int subject_end(struct commit *c)
{
	struct commit_subject *s = &c->subject;
	int rc = 0;

	if (!s->loaded)
		return 0;
	if (s->dsn_count)
		rc = put_dsn(c);
	if (rc == 0 && s->changed)
		rc = s->m.recipients_left == 0 ? remove_message(c) : store_message(c);
	s->loaded = false;
	return rc;
}

/* --- one recipient --- */

int recipient_store(struct commit *c, const struct spool_recipient *r)
{
	struct spool_key k = key_recipient(r->msgid, r->rcpt);

	buf_clear(&c->value);
	row_recipient_encode(r, &c->value);
	return write_put(c->w, SPOOL_RECIPIENT, &k, buf_slice(&c->value));
}

int recipient_put_due(struct commit *c, struct spool_recipient *r, const struct commit_qent *q)
{
	struct spool_key k =
		key_due(q->id, spool_lane(r->class, r->job), r->due, r->msgid, r->rcpt);
	int rc;

	touch_due(c, q->id, q->vmta->id);
	r->fresh = false;
	rc = write_put(c->w, SPOOL_DUE, &k, slice_of("", 0));
	return rc < 0 ? rc : recipient_store(c, r);
}

int recipient_unplace(struct commit *c, const struct spool_recipient *r, struct commit_qent *q)
{
	struct spool_key k = key_fresh(q->vmta->id, r->class, r->arrival, r->rcpt);
	int rc;

	if (r->fresh) {
		rc = write_delete(c->w, SPOOL_FRESH, &k);
	} else {
		touch_due(c, q->id, q->vmta->id);
		k = key_due(q->id, spool_lane(r->class, r->job), r->due, r->msgid, r->rcpt);
		rc = write_delete(c->w, SPOOL_DUE, &k);
	}
	return rc == ERR_NOT_FOUND ? 0 : rc;
}

int recipient_remove(struct commit *c, const struct spool_recipient *r, struct commit_qent *q)
{
	struct spool_key k = key_recipient(r->msgid, r->rcpt);
	struct commit_touch *t = touch_queue(c, q->id, q->vmta->id);
	int rc = recipient_unplace(c, r, q);

	touch_count(c, t, r->msgid, r->rcpt, (int64_t)c->subject.m.size, -1);
	if (rc == 0)
		rc = write_delete(c->w, SPOOL_RECIPIENT, &k);
	if (c->subject.m.recipients_left)
		c->subject.m.recipients_left--;
	c->subject.changed = true;
	c->n.recipients--;
	return rc;
}

/*
 * Due no later than the expiry, so that the worker sees it then. One that is past it and was tried
 * nevertheless has a longer bounce-after today.
 */
static msec_t due_of(const struct commit *c, const struct spool_recipient *r, msec_t due)
{
	return r->expiry > c->now && r->expiry < due ? r->expiry : due;
}

int recipient_to_due(struct commit *c, struct spool_recipient *r, struct commit_qent *q, msec_t due)
{
	int rc = recipient_unplace(c, r, q);

	if (rc < 0)
		return rc;
	r->due = due_of(c, r, due);
	return recipient_put_due(c, r, q);
}

void subject_tell(struct commit *c, const struct spool_recipient *r, enum dsn_action action,
		  const struct report_outcome *o, struct slice mx_name, const struct ip *mx_ip)
{
	struct commit_subject *s = &c->subject;

	if (o->no_dsn || !dsn_wanted(&s->m, r, action))
		return;
	if (s->dsn_count == s->dsn_cap) {
		s->dsn_cap = s->dsn_cap ? 2 * s->dsn_cap : 8;
		s->dsn = xreallocarray(s->dsn, s->dsn_cap, sizeof(*s->dsn));
	}
	s->dsn[s->dsn_count] = (struct dsn_recipient){
		.address = commit_keep_slice(c, r->address),
		.orcpt = commit_keep_slice(c, r->orcpt),
		.action = action,
		.enhanced = {o->enhanced[0], o->enhanced[1], o->enhanced[2]},
		.code = o->code,
		.text = o->text,
		.mx_name = mx_name,
		.mx_ip = *mx_ip,
		.last_attempt = o->attempted ? c->now : r->last_attempt,
	};
	s->dsn_count++;
}

bool record_wanted(const struct conf_domain *settings, enum acct_type type)
{
	unsigned off = settings ? settings->disable_acct_records : 0;

	switch (type) {
	case ACCT_DELIVERED:
		return !(off & 1u << CONF_RECORD_D);
	case ACCT_BOUNCED:
		return !(off & 1u << CONF_RECORD_B);
	case ACCT_TRANSIENT:
		return !(off & 1u << CONF_RECORD_T);
	case ACCT_QUEUE:
		return !(off & 1u << CONF_RECORD_TQ);
	}
	return true;
}

void record_fill(struct commit *c, struct acct_record *a, enum acct_type type,
		 const struct spool_recipient *r, const struct commit_qent *q)
{
	const struct spool_message *m = &c->subject.m;

	buf_clear(&c->original);
	buf_add_slice(&c->original, q->domain);
	buf_add_char(&c->original, '/');
	buf_add_str(&c->original, q->vmta->name);
	*a = (struct acct_record){
		.type = type,
		.time_logged = c->now,
		.time_queued = m->received,
		.time_first_attempt = r->first_attempt,
		.orig = m->sender,
		.rcpt = r->address,
		.orcpt = r->orcpt,
		.src_mta = m->source_mta,
		.vmta = slice_str(q->vmta->name),
		.pool = r->pool,
		.job = m->job,
		.envid = m->envid,
		.user = m->user,
		.queue = buf_slice(&c->original),
		.attempt = r->attempts,
		.msgid = m->id,
	};
}

static const char *const delivery_types[] = {
	[DLV_SMTP] = "smtp",
	[DLV_DISCARD] = "discard",
	[DLV_LOCAL] = "",
};

static int put_record(struct commit *c, const struct report_transaction *t,
		      const struct report_outcome *o, const struct spool_recipient *r,
		      const struct commit_qent *q)
{
	static const enum acct_type types[] = {
		[OUTCOME_DELIVERED] = ACCT_DELIVERED,
		[OUTCOME_BOUNCED] = ACCT_BOUNCED,
		[OUTCOME_TRANSIENT] = ACCT_TRANSIENT,
	};
	static const char *const actions[] = {
		[OUTCOME_BOUNCED] = "failed",
		[OUTCOME_TRANSIENT] = "delayed",
	};
	struct acct_record a;

	if (o->no_accounting || !record_wanted(q->settings, types[o->class]))
		return 0;
	record_fill(c, &a, types[o->class], r, q);
	a.dsn_action = slice_str(o->class == OUTCOME_DELIVERED
					 ? (t->type == DLV_SMTP ? "relayed" : "delivered")
					 : actions[o->class]);
	memcpy(a.enhanced, o->enhanced, sizeof(a.enhanced));
	a.code = o->code;
	a.text = o->text;
	a.mx_name = t->mx_name;
	a.mx_ip = t->mx_ip;
	a.source_ip = t->source_ip;
	a.dlv_type = slice_str(delivery_types[t->type]);
	a.esmtp = t->esmtp;
	a.size = t->bytes;
	a.tls_protocol = t->tls_protocol;
	a.tls_cipher = t->tls_cipher;
	if (t->site.n)
		a.queue = t->site;
	return commit_outbox(c, &a);
}

static void count_attempt(const struct report_transaction *t, const struct report_outcome *o,
			  struct spool_recipient *r)
{
	if (!o->attempted)
		return;
	r->attempts++;
	r->last_attempt = t->started;
	if (!r->first_attempt)
		r->first_attempt = t->started;
}

static int postpone(struct commit *c, const struct report_transaction *t,
		    const struct report_outcome *o, struct spool_recipient *r,
		    struct commit_qent *q)
{
	int rc = o->text.n ? put_record(c, t, o, r, q) : 0;

	if (o->text.n)
		r->last_reply = o->text;
	return rc < 0 ? rc : recipient_to_due(c, r, q, o->due);
}

static int end(struct commit *c, const struct report_transaction *t, const struct report_outcome *o,
	       const struct spool_recipient *r, struct commit_qent *q)
{
	int rc = put_record(c, t, o, r, q);

	if (o->class == OUTCOME_BOUNCED)
		subject_tell(c, r, DSN_FAILED, o, t->mx_name, &t->mx_ip);
	else if (o->relayed)
		subject_tell(c, r, DSN_RELAYED, o, t->mx_name, &t->mx_ip);
	return rc < 0 ? rc : recipient_remove(c, r, q);
}

static int apply_outcome(struct commit *c, const struct report_transaction *t,
			 const struct report_outcome *o)
{
	struct spool_recipient r;
	struct commit_qent *q;
	int rc = subject_recipient(c, o->rcpt, &r, &q);

	if (rc == ERR_NOT_FOUND) {
		log_debug(NULL, "outcome of a recipient that has ended", LOG_U("msgid", t->msgid),
			  LOG_U("recipient", o->rcpt));
		return 0;
	}
	if (rc < 0)
		return rc;
	if (!c->subject.dsn_count)
		c->subject.dsn_vmta = q->vmta->name;
	count_attempt(t, o, &r);
	return o->class == OUTCOME_TRANSIENT ? postpone(c, t, o, &r, q) : end(c, t, o, &r, q);
}

int apply_transaction(struct commit *c, const struct report_transaction *t)
{
	uint32_t i;
	int rc = subject_begin(c, t->msgid);

	if (rc == ERR_NOT_FOUND) {
		log_debug(NULL, "outcome of a message that has ended", LOG_U("msgid", t->msgid));
		return 0;
	}
	for (i = 0; rc == 0 && i < t->outcome_count; i++)
		rc = apply_outcome(c, t, &t->outcomes[i]);
	return rc < 0 ? rc : subject_end(c);
}

/* --- what is not about recipients --- */

static int put_site_record(struct commit *c, const struct commit_vmta *v,
			   const struct report_site *s)
{
	struct acct_record a = {
		.type = ACCT_QUEUE,
		.time_logged = s->when ? s->when : c->now,
		.text = s->text,
		.enhanced = {s->enhanced[0], s->enhanced[1], s->enhanced[2]},
		.mx_name = s->mx_name,
		.mx_ip = s->mx_ip,
		.source_ip = s->source_ip,
		.dlv_type = slice_str("smtp"),
		.vmta = slice_str(v->name),
		.queue = s->queue,
	};

	return record_wanted(conf_domain_for(c->conf, s->name, slice_str(v->name)), ACCT_QUEUE)
		       ? commit_outbox(c, &a)
		       : 0;
}

int apply_site(struct commit *c, struct commit_vmta *v, const struct report_site *s)
{
	struct spool_key k = key_u32_name(v->id, s->name);
	struct spool_site row = {.mode = s->mode,
				 .since = s->since,
				 .retry_position = s->retry_position,
				 .retry_at = s->retry_at,
				 .reason = s->text};
	int rc;

	if (s->clear) {
		rc = write_delete(c->w, SPOOL_SITE, &k);
		if (rc == ERR_NOT_FOUND)
			rc = 0;
	} else {
		buf_clear(&c->value);
		row_site_encode(&row, &c->value);
		rc = write_put(c->w, SPOOL_SITE, &k, buf_slice(&c->value));
	}
	health_note(c, &k, !s->clear && s->mode.disabled.n);
	return rc == 0 && s->record ? put_site_record(c, v, s) : rc;
}

int apply_park(struct commit *c, const struct report_park *p)
{
	uint32_t i;

	for (i = 0; i < p->item_count; i++) {
		struct spool_recipient r;
		struct commit_qent *q;
		int rc = recipient_load(c, p->items[i].msgid, p->items[i].rcpt, &r, &q);

		/* gone, or it has another owner by now */
		if (rc == ERR_NOT_FOUND || (rc == 0 && r.queue != p->queue))
			continue;
		if (rc == 0)
			rc = recipient_to_due(c, &r, q, p->due);
		if (rc < 0)
			return rc;
	}
	return 0;
}

int apply_notice(struct commit *c, const struct report_notice *n)
{
	struct spool_key k = key_u64(c->n.next_dsn);

	buf_clear(&c->value);
	dsn_notice_encode(n, &c->value);
	c->n.next_dsn++;
	c->result.dsn = true;
	return write_put(c->w, SPOOL_DSN, &k, buf_slice(&c->value));
}

int apply_wake(struct commit *c, const struct report_wake *k)
{
	struct commit_qent *q = cache_queue_by_id(c, k->queue);

	if (q)
		touch_due(c, q->id, q->vmta->id)->asked = k->at;
	return 0;
}
