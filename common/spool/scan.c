/*
 * scan.c - reading ranges: what workers must load, and walks of whole tables.
 */
#include "common/base/err.h"
#include "common/spool/spool_private.h"

static bool has_prefix(struct slice key, const struct spool_key *prefix)
{
	return key.n >= prefix->n && memcmp(key.p, prefix->b, prefix->n) == 0;
}

/* A row that cannot be read is left out here; spool_check() reports it. */
size_t spool_fresh_scan(struct spool_read *r, uint32_t vmta, uint8_t class,
			struct spool_fresh_pos *pos, struct spool_fresh_row *ret, size_t max)
{
	struct spool_key from = key_fresh(vmta, class, pos->arrival, pos->rcpt), prefix = from;
	struct slice key, value;
	size_t n = 0;
	int more;

	prefix.n = 5;
	if (max == 0)
		return 0;
	if (!pos->started)
		from.n = prefix.n;
	more = read_seek(r, SPOOL_FRESH, &from, pos->started, &key, &value);
	while (more > 0 && key.n == KEY_FRESH_SIZE && has_prefix(key, &prefix)) {
		struct spool_fresh_row *row = &ret[n];

		pos->started = true;
		pos->arrival = be64_get(key.p + 5);
		pos->rcpt = be32_get(key.p + 13);
		if (row_fresh_decode(value, &row->queue, &row->msgid) == 0) {
			row->arrival = pos->arrival;
			row->rcpt = pos->rcpt;
			if (++n == max)
				break;
		}
		more = read_next(r, SPOOL_FRESH, &key, &value);
	}
	return n;
}

size_t spool_due_scan(struct spool_read *r, uint32_t queue, msec_t until, struct spool_due_pos *pos,
		      struct spool_due_row *ret, size_t max)
{
	struct spool_key from = key_due(queue, pos->due, pos->msgid, pos->rcpt), prefix = from;
	struct slice key, value;
	size_t n = 0;
	int more;

	prefix.n = 4;
	if (max == 0)
		return 0;
	if (!pos->started)
		from.n = prefix.n;
	more = read_seek(r, SPOOL_DUE, &from, pos->started, &key, &value);
	while (more > 0 && key.n == KEY_DUE_SIZE && has_prefix(key, &prefix)) {
		struct spool_due_row row = {.due = be64_get(key.p + 4),
					    .msgid = be64_get(key.p + 12),
					    .rcpt = be32_get(key.p + 20)};

		if (row.due > until)
			break;
		*pos = (struct spool_due_pos){row.due, row.msgid, row.rcpt, true};
		ret[n++] = row;
		if (n == max)
			break;
		more = read_next(r, SPOOL_DUE, &key, &value);
	}
	return n;
}

size_t spool_wake_scan(struct spool_read *r, uint32_t vmta, msec_t until,
		       struct spool_wake_pos *pos, struct spool_wake_row *ret, size_t max)
{
	struct spool_key from = key_wake(vmta, pos->at, pos->queue), prefix = from;
	struct slice key, value;
	size_t n = 0;
	int more;

	prefix.n = 4;
	if (max == 0)
		return 0;
	if (!pos->started)
		from.n = prefix.n;
	more = read_seek(r, SPOOL_WAKE, &from, pos->started, &key, &value);
	while (more > 0 && key.n == KEY_WAKE_SIZE && has_prefix(key, &prefix)) {
		struct spool_wake_row row = {.at = be64_get(key.p + 4),
					     .queue = be32_get(key.p + 12)};

		if (row.at > until)
			break;
		*pos = (struct spool_wake_pos){row.at, row.queue, true};
		ret[n++] = row;
		if (n == max)
			break;
		more = read_next(r, SPOOL_WAKE, &key, &value);
	}
	return n;
}

msec_t spool_wake_first(struct spool_read *r, uint32_t vmta)
{
	struct spool_wake_pos pos = {.started = false};
	struct spool_wake_row row;

	return spool_wake_scan(r, vmta, UINT64_MAX, &pos, &row, 1) ? row.at : UINT64_MAX;
}

int spool_message_next(struct spool_read *r, uint64_t *after, struct spool_message *ret)
{
	struct spool_key from = key_u64(*after);
	struct slice key, value;
	int more = read_seek(r, SPOOL_MESSAGE, &from, true, &key, &value);

	if (more <= 0)
		return more;
	if (key.n != 8)
		return ERR_CORRUPT;
	*after = ret->id = be64_get(key.p);
	more = row_message_decode(value, ret);
	return more < 0 ? more : 1;
}

static int recipient_row(struct slice key, struct slice value, struct spool_recipient *ret)
{
	int rc;

	ret->msgid = be64_get(key.p);
	ret->rcpt = be32_get(key.p + 8);
	rc = row_recipient_decode(value, ret);
	return rc < 0 ? rc : 1;
}

int spool_recipient_next(struct spool_read *r, uint64_t *after_msgid, uint32_t *after_rcpt,
			 bool *started, struct spool_recipient *ret)
{
	struct spool_key from = key_recipient(*after_msgid, *after_rcpt);
	struct slice key, value;
	int more;

	if (!*started)
		from.n = 0;
	more = read_seek(r, SPOOL_RECIPIENT, &from, *started, &key, &value);
	if (more <= 0)
		return more;
	if (key.n != KEY_RECIPIENT_SIZE)
		return ERR_CORRUPT;
	*after_msgid = be64_get(key.p);
	*after_rcpt = be32_get(key.p + 8);
	*started = true;
	return recipient_row(key, value, ret);
}

int spool_message_recipient(struct spool_read *r, uint64_t msgid, uint32_t *from,
			    struct spool_recipient *ret)
{
	struct spool_key k = key_recipient(msgid, *from);
	struct slice key, value;
	int more = read_seek(r, SPOOL_RECIPIENT, &k, false, &key, &value);

	if (more <= 0)
		return more;
	if (key.n != KEY_RECIPIENT_SIZE)
		return ERR_CORRUPT;
	if (be64_get(key.p) != msgid)
		return 0;
	*from = be32_get(key.p + 8) + 1;
	return recipient_row(key, value, ret);
}

int spool_queue_next(struct spool_read *r, uint32_t *after, struct spool_queue *ret)
{
	struct spool_key from = key_u32(*after);
	struct slice key, value;
	int more = read_seek(r, SPOOL_QUEUE, &from, true, &key, &value);

	if (more <= 0)
		return more;
	if (key.n != 4)
		return ERR_CORRUPT;
	*after = ret->id = be32_get(key.p);
	more = row_queue_decode(value, ret);
	if (more < 0)
		return more;
	ret->paused = read_paused(r, ret->domain, ret->vmta);
	return 1;
}

int spool_vmta_next(struct spool_read *r, uint32_t *after, struct spool_vmta *ret)
{
	struct spool_key from = key_u32(*after);
	struct slice key, value;
	int more = read_seek(r, SPOOL_VMTA, &from, true, &key, &value);

	if (more <= 0)
		return more;
	if (key.n != 4)
		return ERR_CORRUPT;
	*after = ret->id = be32_get(key.p);
	more = row_vmta_decode(value, ret);
	return more < 0 ? more : 1;
}

int spool_job_next(struct spool_read *r, struct slice job, uint64_t *after, uint64_t *ret_msgid)
{
	struct spool_key from = key_job(job, *after), prefix = from;
	struct slice key, value;
	int more = read_seek(r, SPOOL_JOB, &from, true, &key, &value);

	prefix.n -= 8;
	while (more > 0 && key.n == prefix.n + 8 && has_prefix(key, &prefix)) {
		struct spool_message m;

		*after = be64_get(key.p + prefix.n);
		if (job.n <= SPOOL_JOB_KEY_MAX ||
		    (spool_message_get(r, *after, &m) == 0 && slice_eq(m.job, job))) {
			*ret_msgid = *after;
			return 1;
		}
		more = read_next(r, SPOOL_JOB, &key, &value);
	}
	return more < 0 ? more : 0;
}

int spool_site_next(struct spool_read *r, uint32_t vmta, struct slice after, struct slice *ret_name,
		    struct spool_site *ret)
{
	struct spool_key from = key_u32_name(vmta, after);
	struct slice key, value;
	int more = read_seek(r, SPOOL_SITE, &from, after.n > 0, &key, &value);

	if (more <= 0)
		return more;
	if (key.n < 4)
		return ERR_CORRUPT;
	if (be32_get(key.p) != vmta)
		return 0;
	*ret_name = slice_from(key, 4);
	more = row_site_decode(value, ret);
	return more < 0 ? more : 1;
}

/* Tables with a number as key, whose values mean nothing to common/. */
static int numbered_next(struct spool_read *r, enum spool_table t, uint64_t *after,
			 struct slice *ret)
{
	struct spool_key from = key_u64(*after);
	struct slice key;
	int more = read_seek(r, t, &from, true, &key, ret);

	if (more <= 0)
		return more;
	if (key.n != 8)
		return ERR_CORRUPT;
	*after = be64_get(key.p);
	return 1;
}

int spool_outbox_next(struct spool_read *r, uint64_t *after, struct slice *ret_record)
{
	return numbered_next(r, SPOOL_OUTBOX, after, ret_record);
}

int spool_dsn_next(struct spool_read *r, uint64_t *after, struct slice *ret_row)
{
	return numbered_next(r, SPOOL_DSN, after, ret_row);
}

int spool_state_next(struct spool_read *r, struct slice prefix, struct slice after,
		     struct slice *ret_name, struct slice *ret)
{
	struct spool_key p = key_name(prefix), from = after.n ? key_name(after) : p;
	struct slice key;
	int more = read_seek(r, SPOOL_STATE, &from, after.n > 0, &key, ret);

	if (more <= 0)
		return more;
	if (!has_prefix(key, &p))
		return 0;
	*ret_name = key;
	return 1;
}

int spool_order_next(struct spool_read *r, uint64_t *after, struct order *ret)
{
	struct spool_key from = key_u64(*after);
	struct order_row row;
	struct slice key, value;
	int more = read_seek(r, SPOOL_ORDER, &from, true, &key, &value);

	if (more <= 0)
		return more;
	if (key.n != 8)
		return ERR_CORRUPT;
	more = row_order_decode(value, &row);
	if (more < 0)
		return more;
	*ret = row.order;
	*after = ret->id = be64_get(key.p);
	return 1;
}
