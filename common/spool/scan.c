/*
 * scan.c - reading ranges: what workers must load, and walks of whole tables.
 */
#include "common/base/err.h"
#include "common/spool/spool_private.h"

static bool has_prefix(struct slice key, const struct spool_key *prefix)
{
	return key.n >= prefix->n && memcmp(key.p, prefix->b, prefix->n) == 0;
}

uint8_t spool_job_bucket(struct slice job)
{
	uint32_t h = 2166136261u;

	for (size_t i = 0; i < job.n; i++)
		h = (h ^ (uint8_t)job.p[i]) * 16777619u;
	return job.n ? (uint8_t)(1 + h % (SPOOL_LANE_JOBS - 1)) : 0;
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

/* prefix: bytes of the key that all rows have in common. */
static size_t due_scan(struct spool_read *r, struct spool_key from, size_t prefix_n, msec_t until,
		       struct spool_due_pos *pos, struct spool_due_row *ret, size_t max)
{
	struct spool_key prefix = from;
	struct slice key, value;
	size_t n = 0;
	int more;

	prefix.n = prefix_n;
	if (max == 0)
		return 0;
	if (!pos->started)
		from.n = prefix.n;
	more = read_seek(r, SPOOL_DUE, &from, pos->started, &key, &value);
	while (more > 0 && key.n == KEY_DUE_SIZE && has_prefix(key, &prefix)) {
		struct spool_due_row row = {.due = be64_get(key.p + 5),
					    .msgid = be64_get(key.p + 13),
					    .rcpt = be32_get(key.p + 21)};

		if (row.due > until)
			break;
		*pos = (struct spool_due_pos){.due = row.due,
					      .msgid = row.msgid,
					      .rcpt = row.rcpt,
					      .lane = (uint8_t)key.p[4],
					      .started = true};
		ret[n++] = row;
		if (n == max)
			break;
		more = read_next(r, SPOOL_DUE, &key, &value);
	}
	return n;
}

size_t spool_due_scan(struct spool_read *r, uint32_t queue, uint8_t lane, msec_t until,
		      struct spool_due_pos *pos, struct spool_due_row *ret, size_t max)
{
	return due_scan(r, key_due(queue, lane, pos->due, pos->msgid, pos->rcpt), 5, until, pos,
			ret, max);
}

size_t spool_due_walk(struct spool_read *r, uint32_t queue, struct spool_due_pos *pos,
		      struct spool_due_row *ret, size_t max)
{
	return due_scan(r, key_due(queue, pos->lane, pos->due, pos->msgid, pos->rcpt), 4,
			UINT64_MAX, pos, ret, max);
}

bool spool_due_lane(struct spool_read *r, uint32_t queue, uint8_t *lane, msec_t *ret_due)
{
	struct spool_key from = key_due(queue, *lane, 0, 0, 0), prefix = from;
	struct slice key, value;

	prefix.n = 4;
	from.n = 5;
	if (read_seek(r, SPOOL_DUE, &from, false, &key, &value) <= 0 || key.n != KEY_DUE_SIZE ||
	    !has_prefix(key, &prefix))
		return false;
	*lane = (uint8_t)key.p[4];
	*ret_due = be64_get(key.p + 5);
	return true;
}

msec_t spool_due_first(struct spool_read *r, uint32_t queue)
{
	msec_t first = UINT64_MAX, due;
	uint8_t lane = 0;

	while (spool_due_lane(r, queue, &lane, &due)) {
		if (due < first)
			first = due;
		if (lane == UINT8_MAX)
			break;
		lane++;
	}
	return first;
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

int spool_reroute_get(struct spool_read *r, uint32_t vmta, uint32_t queue,
		      struct spool_reroute *ret)
{
	struct spool_key k = key_reroute(vmta, queue);
	struct slice v;
	int rc = read_get(r, SPOOL_REROUTE, &k, &v);

	return rc < 0 ? rc : row_reroute_decode(v, ret);
}

int spool_reroute_next(struct spool_read *r, uint32_t vmta, uint32_t *after,
		       struct spool_reroute *ret)
{
	struct spool_key from = key_reroute(vmta, *after);
	struct slice key, value;
	int more = read_seek(r, SPOOL_REROUTE, &from, true, &key, &value);

	if (more <= 0)
		return more;
	if (key.n != from.n)
		return ERR_CORRUPT;
	if (be32_get(key.p) != vmta)
		return 0;
	*after = be32_get(key.p + 4);
	more = row_reroute_decode(value, ret);
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
