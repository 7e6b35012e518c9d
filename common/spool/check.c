/*
 * check.c - spool_check(): does every row agree with the rows that it belongs to?
 *
 * The tables are walked in chunks, each in its own read transaction, so that a running daemon is not
 * held up. Every rule compares rows inside one transaction, hence a commit between two chunks cannot make a
 * false alarm; the totals are compared only when nothing was committed meanwhile.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include "common/base/hash.h"

#include "common/base/err.h"
#include "common/base/xalloc.h"
#include "common/spool/spool_private.h"
#include "common/spool/warmup.h"
#include "common/spool/write.h"

#define CHUNK 1000
#define CHUNK_USEC (100 * USEC_PER_MSEC)

/* Queues that have a wake row. */
struct woken {
	uint32_t queue;
	UT_hash_handle hh;
};

struct check {
	struct spool *spool;
	struct spool_read *r;
	void (*problem)(const char *text, void *arg);
	void *arg;
	long problems;
	struct woken *woken;
	uint64_t messages, recipients, bytes; /* seen */
};

static void complain(struct check *c, const char *fmt, ...) ATTR_PRINTF(2, 3);
static void complain(struct check *c, const char *fmt, ...)
{
	va_list ap;
	char *text;

	va_start(ap, fmt);
	text = xvasprintf(fmt, ap);
	va_end(ap);
	c->problems++;
	c->problem(text, c->arg);
	free(text);
}

static bool has_row(struct check *c, enum spool_table t, struct spool_key k)
{
	struct slice v;

	return read_get(c->r, t, &k, &v) == 0;
}

static uint32_t count_recipients(struct check *c, uint64_t msgid)
{
	struct spool_recipient rcpt;
	uint32_t from = 0, n = 0;

	while (spool_message_recipient(c->r, msgid, &from, &rcpt) != 0)
		n++;
	return n;
}

static void check_big(struct check *c, const struct spool_message *m)
{
	char path[4096];
	struct stat st;

	spool_big_path(c->spool, m->id, path, sizeof(path));
	if (stat(path, &st) < 0)
		complain(c, "message %" PRIu64 ": its body %s is missing", m->id, path);
	else if ((uint64_t)st.st_size != m->size)
		complain(c, "message %" PRIu64 ": %s has %" PRIu64 " bytes, not %" PRIu64, m->id,
			 path, (uint64_t)st.st_size, m->size);
}

static void check_body(struct check *c, const struct spool_message *m)
{
	struct spool_key k = key_u64(m->id);
	struct slice v;

	if (read_get(c->r, SPOOL_BODY, &k, &v) < 0)
		complain(c, "message %" PRIu64 ": its body is missing", m->id);
	else if (v.n != m->size)
		complain(c, "message %" PRIu64 ": its body has %zu bytes, not %" PRIu64, m->id, v.n,
			 m->size);
}

static void check_message(struct check *c, struct slice key, struct slice value)
{
	struct spool_message m = {.id = be64_get(key.p)};
	uint32_t n;
	int rc = row_message_decode(value, &m);

	if (rc < 0) {
		complain(c, "message %" PRIu64 ": %s", m.id, err_text(rc));
		return;
	}
	c->messages++;
	c->bytes += m.size;
	n = count_recipients(c, m.id);
	if (n != m.recipients_left || n == 0)
		complain(c, "message %" PRIu64 ": %" PRIu32 " recipients are left, not %" PRIu32,
			 m.id, n, m.recipients_left);
	if (m.body == SPOOL_BODY_BIG)
		check_big(c, &m);
	else
		check_body(c, &m);
	if (m.job.n && !has_row(c, SPOOL_JOB, key_job(m.job, m.id)))
		complain(c, "message %" PRIu64 ": not in the index of jobs", m.id);
}

static void check_fresh_of(struct check *c, const struct spool_recipient *r,
			   const struct spool_queue *q)
{
	struct spool_key k = key_fresh(q->vmta, r->class, r->arrival, r->rcpt);
	struct slice v;
	uint64_t msgid;
	uint32_t queue;

	if (read_get(c->r, SPOOL_FRESH, &k, &v) < 0)
		complain(c, "recipient %" PRIu64 ".%" PRIu32 ": not in table fresh", r->msgid,
			 r->rcpt);
	else if (row_fresh_decode(v, &queue, &msgid) < 0 || msgid != r->msgid || queue != r->queue)
		complain(c, "recipient %" PRIu64 ".%" PRIu32 ": its row in fresh is of another",
			 r->msgid, r->rcpt);
}

static void check_recipient(struct check *c, struct slice key, struct slice value)
{
	struct spool_recipient r = {.msgid = be64_get(key.p), .rcpt = be32_get(key.p + 8)};
	struct spool_queue q;
	int rc = row_recipient_decode(value, &r);

	if (rc < 0) {
		complain(c, "recipient %" PRIu64 ".%" PRIu32 ": %s", r.msgid, r.rcpt, err_text(rc));
		return;
	}
	c->recipients++;
	if (!has_row(c, SPOOL_MESSAGE, key_u64(r.msgid)))
		complain(c, "recipient %" PRIu64 ".%" PRIu32 ": its message is missing", r.msgid,
			 r.rcpt);
	if (spool_queue_get(c->r, r.queue, &q) < 0)
		complain(c, "recipient %" PRIu64 ".%" PRIu32 ": its queue %" PRIu32 " is missing",
			 r.msgid, r.rcpt, r.queue);
	else if (r.fresh)
		check_fresh_of(c, &r, &q);
	else if (!has_row(c, SPOOL_DUE,
			  key_due(r.queue, spool_lane(r.class, r.job), r.due, r.msgid, r.rcpt)))
		complain(c, "recipient %" PRIu64 ".%" PRIu32 ": not in table due", r.msgid, r.rcpt);
}

static void check_fresh(struct check *c, struct slice key, struct slice value)
{
	uint64_t arrival = be64_get(key.p + 5), msgid;
	uint32_t queue, rcpt = be32_get(key.p + 13);
	struct spool_recipient r;

	if (row_fresh_decode(value, &queue, &msgid) < 0) {
		complain(c, "fresh row %" PRIu64 ".%" PRIu32 " cannot be read", arrival, rcpt);
		return;
	}
	if (spool_recipient_get(c->r, msgid, rcpt, &r) < 0)
		complain(c, "fresh row of %" PRIu64 ".%" PRIu32 " has no recipient", msgid, rcpt);
	else if (!r.fresh || r.arrival != arrival || r.class != (uint8_t)key.p[4])
		complain(c, "fresh row of %" PRIu64 ".%" PRIu32 " is not the recipient's", msgid,
			 rcpt);
}

static bool queue_is_woken(struct check *c, uint32_t queue)
{
	struct spool_wake_pos pos = {.started = false};
	struct spool_wake_row row;
	struct spool_queue q;

	if (spool_queue_get(c->r, queue, &q) < 0)
		return false;
	while (spool_wake_scan(c->r, q.vmta, UINT64_MAX, &pos, &row, 1))
		if (row.queue == queue)
			return true;
	return false;
}

static void check_due(struct check *c, struct slice key, struct slice value)
{
	uint32_t queue = be32_get(key.p), rcpt = be32_get(key.p + 21);
	uint64_t due = be64_get(key.p + 5), msgid = be64_get(key.p + 13);
	struct spool_recipient r;
	struct woken *w;

	(void)value;
	if (spool_recipient_get(c->r, msgid, rcpt, &r) < 0)
		complain(c, "due row of %" PRIu64 ".%" PRIu32 " has no recipient", msgid, rcpt);
	else if (r.fresh || r.due != due || r.queue != queue ||
		 spool_lane(r.class, r.job) != (uint8_t)key.p[4])
		complain(c, "due row of %" PRIu64 ".%" PRIu32 " is not the recipient's", msgid,
			 rcpt);
	HASH_FIND(hh, c->woken, &queue, sizeof(queue), w);
	if (w)
		return;
	if (!queue_is_woken(c, queue))
		complain(c, "queue %" PRIu32 " has due mail and no wake row", queue);
	w = xcalloc(1, sizeof(*w)); /* asked once */
	w->queue = queue;
	HASH_ADD(hh, c->woken, queue, sizeof(w->queue), w);
}

static void check_wake(struct check *c, struct slice key, struct slice value)
{
	uint32_t vmta = be32_get(key.p), queue = be32_get(key.p + 12);
	uint64_t at = be64_get(key.p + 4);
	msec_t due = spool_due_first(c->r, queue);
	struct spool_queue q;
	struct woken *w;

	(void)value;
	if (spool_queue_get(c->r, queue, &q) < 0 || q.vmta != vmta)
		complain(c, "wake row of queue %" PRIu32 ", which is not of virtual MTA %" PRIu32,
			 queue, vmta);
	if (due == UINT64_MAX)
		complain(c, "wake row of queue %" PRIu32 ", which has no due mail", queue);
	else if (at < due)
		complain(c, "queue %" PRIu32 " wakes before its first mail is due", queue);
	HASH_FIND(hh, c->woken, &queue, sizeof(queue), w);
	if (w)
		return;
	w = xcalloc(1, sizeof(*w));
	w->queue = queue;
	HASH_ADD(hh, c->woken, queue, sizeof(w->queue), w);
}

static void check_queue(struct check *c, struct slice key, struct slice value)
{
	struct spool_queue q = {.id = be32_get(key.p)};
	uint32_t found;
	int rc = row_queue_decode(value, &q);

	if (rc < 0)
		complain(c, "queue %" PRIu32 ": %s", q.id, err_text(rc));
	else if (!has_row(c, SPOOL_VMTA, key_u32(q.vmta)))
		complain(c, "queue %" PRIu32 ": its virtual MTA %" PRIu32 " is missing", q.id,
			 q.vmta);
	else if (spool_queue_find(c->r, q.vmta, q.domain, &found) < 0 || found != q.id)
		complain(c, "queue %" PRIu32 " (%.*s): the index of names has another", q.id,
			 SLICE_ARG(q.domain));
}

static void check_queue_name(struct check *c, struct slice key, struct slice value)
{
	uint64_t id;

	if (key.n < 4 || row_number_decode(value, &id) < 0 ||
	    !has_row(c, SPOOL_QUEUE, key_u32((uint32_t)id)))
		complain(c, "the index of queue names has a row without a queue");
}

static void check_job(struct check *c, struct slice key, struct slice value)
{
	uint64_t msgid = be64_get(key.p + key.n - 8);
	struct slice job = slice_sub(key, 0, key.n - 9);
	struct spool_message m;

	(void)value;
	if (spool_message_get(c->r, msgid, &m) < 0)
		complain(c, "job %.*s: message %" PRIu64 " is missing", SLICE_ARG(job), msgid);
	else if (!slice_eq(slice_sub(m.job, 0, SPOOL_JOB_KEY_MAX), job))
		complain(c, "job %.*s: message %" PRIu64 " is of another job", SLICE_ARG(job),
			 msgid);
}

static void check_body_row(struct check *c, struct slice key, struct slice value)
{
	uint64_t msgid = be64_get(key.p);

	(void)value;
	if (!has_row(c, SPOOL_MESSAGE, key_u64(msgid)))
		complain(c, "body %" PRIu64 " has no message", msgid);
}

static void check_site(struct check *c, struct slice key, struct slice value)
{
	struct spool_site s;
	int rc = row_site_decode(value, &s);

	if (rc < 0)
		complain(c, "site %.*s: %s", SLICE_ARG(slice_from(key, 4)), err_text(rc));
}

static void check_reroute(struct check *c, struct slice key, struct slice value)
{
	uint32_t vmta = be32_get(key.p), queue = be32_get(key.p + 4);
	struct spool_reroute x;
	struct spool_queue q;
	int rc = row_reroute_decode(value, &x);

	if (rc < 0)
		complain(c, "reroute of queue %" PRIu32 ": %s", queue, err_text(rc));
	else if (spool_queue_get(c->r, queue, &q) < 0 || q.vmta != vmta)
		complain(c, "reroute of queue %" PRIu32 ", which is not of virtual MTA %" PRIu32,
			 queue, vmta);
}

static void check_quota(struct check *c, struct slice key, struct slice value)
{
	int rc = warmup_check(key, value);

	if (rc < 0)
		complain(c, "%.*s: %s", SLICE_ARG(slice_from(key, 8)), err_text(rc));
}

static void check_order(struct check *c, struct slice key, struct slice value)
{
	struct order_row o;
	int rc = row_order_decode(value, &o);

	if (rc < 0)
		complain(c, "order %" PRIu64 ": %s", be64_get(key.p), err_text(rc));
}

/* Wake comes before due: it fills the set of queues that due asks. */
static const struct rule {
	enum spool_table table;
	size_t key_size; /* 0: at least 9 */
	void (*row)(struct check *c, struct slice key, struct slice value);
} rules[] = {
	{SPOOL_QUEUE, 4, check_queue},
	{SPOOL_QUEUE_NAME, 0, check_queue_name},
	{SPOOL_MESSAGE, 8, check_message},
	{SPOOL_BODY, 8, check_body_row},
	{SPOOL_RECIPIENT, KEY_RECIPIENT_SIZE, check_recipient},
	{SPOOL_FRESH, KEY_FRESH_SIZE, check_fresh},
	{SPOOL_WAKE, KEY_WAKE_SIZE, check_wake},
	{SPOOL_DUE, KEY_DUE_SIZE, check_due},
	{SPOOL_JOB, 0, check_job},
	{SPOOL_SITE, 0, check_site},
	{SPOOL_REROUTE, 8, check_reroute},
	{SPOOL_ORDER, 8, check_order},
	{SPOOL_QUOTA, 0, check_quota},
};

static bool key_fits(const struct rule *rule, struct slice key)
{
	if (rule->key_size)
		return key.n == rule->key_size;
	return key.n >= (rule->table == SPOOL_JOB ? 9 : 4);
}

/* One chunk behind *pos. 1 = there may be more, 0 = done, negative err. */
static int check_chunk(struct check *c, const struct rule *rule, struct spool_key *pos)
{
	usec_t until = clock_now() + CHUNK_USEC;
	struct slice key, value;
	int more, n = 0;
	int rc = spool_read_begin(c->spool, &c->r);

	if (rc < 0)
		return rc;
	for (;;) {
		/* The rules move no cursor of their own table but through a seek. */
		more = read_seek(c->r, rule->table, pos, pos->n > 0, &key, &value);
		if (more <= 0 || key.n > sizeof(pos->b))
			break;
		pos->n = key.n;
		memcpy(pos->b, key.p, key.n);
		if (key_fits(rule, key))
			rule->row(c, slice_of(pos->b, pos->n), value);
		else
			complain(c, "a key of %zu bytes in table %d", key.n, (int)rule->table);
		if (++n == CHUNK || clock_now() > until)
			break;
	}
	spool_read_end(c->r);
	return more;
}

static int committed(struct spool *s, struct spool_stat *ret_stat, uint64_t *ret_txn)
{
	struct spool_read *r;
	int rc = spool_read_begin(s, &r);

	if (rc < 0)
		return rc;
	*ret_txn = mdb_txn_id(r->txn);
	rc = spool_stat(r, ret_stat);
	spool_read_end(r);
	return rc;
}

static void check_totals(struct check *c, const struct spool_stat *st)
{
	if (st->live_bytes != c->bytes)
		complain(c, "live bytes are %" PRIu64 ", not %" PRIu64, c->bytes, st->live_bytes);
	if (st->fresh + st->due != c->recipients)
		complain(c, "%" PRIu64 " rows in fresh and due for %" PRIu64 " recipients",
			 st->fresh + st->due, c->recipients);
}

static void forget(struct check *c)
{
	struct woken *w, *next;

	HASH_ITER(hh, c->woken, w, next) {
		HASH_DEL(c->woken, w);
		free(w);
	}
}

long spool_check(struct spool *s, void (*problem)(const char *text, void *arg), void *arg)
{
	struct check c = {.spool = s, .problem = problem, .arg = arg};
	struct spool_stat before, after;
	uint64_t txn_before, txn_after;
	size_t i;
	int rc = committed(s, &before, &txn_before);

	for (i = 0; rc == 0 && i < ARRAY_SIZE(rules); i++) {
		struct spool_key pos;

		pos.n = 0;
		while ((rc = check_chunk(&c, &rules[i], &pos)) > 0)
			;
	}
	if (rc == 0)
		rc = committed(s, &after, &txn_after);
	if (rc == 0 && txn_before == txn_after)
		check_totals(&c, &after);
	forget(&c);
	return rc < 0 ? rc : c.problems;
}
