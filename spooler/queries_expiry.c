/*
 * queries_expiry.c - when the first recipient of a queue expires, as far as that is cheap to know.
 *
 * Of deferred recipients: few are looked at here; of many the worker's sweep publishes it. Of fresh
 * ones the first of each queue, oldest first, among the first rows of their virtual MTA.
 */
#include <stdlib.h>

#include "common/base/hash.h"
#include "common/base/xalloc.h"
#include "spooler/queries_private.h"

#define FRESH_ROWS 500 /* of one virtual MTA and class, in one read transaction */
#define DUE_ROWS 8

struct fresh_expiry {
	uint32_t queue;
	msec_t at;
	UT_hash_handle hh;
};

struct fresh_expiries {
	struct fresh_expiry *by_queue;
};

static msec_t expiry_of(struct spool_read *r, uint64_t msgid, uint32_t rcpt)
{
	struct spool_recipient row;

	return spool_recipient_get(r, msgid, rcpt, &row) < 0 ? UINT64_MAX : row.expiry;
}

static void note(struct fresh_expiries *f, struct spool_read *r, const struct spool_fresh_row *row)
{
	struct fresh_expiry *e;

	HASH_FIND(hh, f->by_queue, &row->queue, sizeof(row->queue), e);
	if (e)
		return;
	e = xcalloc(1, sizeof(*e));
	e->queue = row->queue;
	e->at = expiry_of(r, row->msgid, row->rcpt);
	HASH_ADD(hh, f->by_queue, queue, sizeof(e->queue), e);
}

/* False: the spool cannot be read. */
static bool read_class(struct query *y, struct fresh_expiries *f, uint32_t vmta, uint8_t class)
{
	struct spool_fresh_pos pos = {.started = false};
	struct spool_fresh_row rows[FRESH_ROWS];
	struct spool_read *r;
	size_t n, i;

	if (spool_read_begin(y->q->spool, &r) < 0)
		return false;
	n = spool_fresh_scan(r, vmta, class, &pos, rows, FRESH_ROWS);
	for (i = 0; i < n; i++)
		note(f, r, &rows[i]);
	spool_read_end(r);
	return true;
}

static int next_vmta(struct query *y, uint32_t *id)
{
	struct spool_read *r;
	struct spool_vmta m;
	int more;

	if (spool_read_begin(y->q->spool, &r) < 0)
		return 0;
	more = spool_vmta_next(r, id, &m);
	spool_read_end(r);
	return more;
}

struct fresh_expiries *fresh_expiries_read(struct query *y)
{
	struct fresh_expiries *f = xcalloc(1, sizeof(*f));
	uint32_t vmta = 0;
	uint8_t class;

	while (next_vmta(y, &vmta) > 0)
		for (class = 0; class < SPOOL_CLASSES; class ++)
			if (!read_class(y, f, vmta, class))
				return f;
	return f;
}

void fresh_expiries_free(struct fresh_expiries *f)
{
	struct fresh_expiry *e, *next;

	if (!f)
		return;
	HASH_ITER(hh, f->by_queue, e, next) {
		HASH_DEL(f->by_queue, e);
		free(e);
	}
	free(f);
}

msec_t fresh_expiry_first(const struct fresh_expiries *f, uint32_t queue)
{
	struct fresh_expiry *e;

	HASH_FIND(hh, f->by_queue, &queue, sizeof(queue), e);
	return e ? e->at : UINT64_MAX;
}

msec_t due_expiry_first(struct spool_read *r, uint32_t queue, msec_t published,
			msec_t *ret_first_due)
{
	struct spool_due_pos pos = {.started = false};
	struct spool_due_row rows[DUE_ROWS + 1];
	size_t n = spool_due_walk(r, queue, &pos, rows, DUE_ROWS + 1), i;
	msec_t first = UINT64_MAX;

	*ret_first_due = n ? spool_due_first(r, queue) : 0;
	if (n > DUE_ROWS)
		return published ? published : UINT64_MAX;
	for (i = 0; i < n; i++) {
		msec_t at = expiry_of(r, rows[i].msgid, rows[i].rcpt);

		first = at < first ? at : first;
	}
	return first;
}
