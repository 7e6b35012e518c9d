/*
 * commit_recount.c - live counts after a start: they are in shared memory only, so a walk in the
 * background counts what was there. Behind the walk's position, and above the newest message of the start,
 * the counts are kept as mail comes and goes; ahead of it a recipient that ends was never counted.
 */
#include "spooler/commit_private.h"

static void release_empty(struct commit *c)
{
	struct shm_queue *q;
	uint32_t pos = 0;

	while ((q = shm_queue_next(c->shm, &pos)) != NULL)
		if (atomic_load(&q->recipients) == 0)
			shm_queue_release(c->shm, atomic_load(&q->id));
}

void recount_start(struct commit *c)
{
	struct shm_queue *q;
	uint32_t pos = 0;

	while ((q = shm_queue_next(c->shm, &pos)) != NULL) {
		atomic_store(&q->recipients, 0);
		atomic_store(&q->bytes, 0);
	}
	c->count_until = c->n.last_msgid;
	c->counted = c->n.recipients == 0;
	if (c->counted)
		release_empty(c);
}

bool recount_has(const struct commit *c, uint64_t msgid, uint32_t rcpt)
{
	if (c->counted || msgid > c->count_until)
		return true;
	if (!c->count_started)
		return false;
	return msgid < c->count_msgid || (msgid == c->count_msgid && rcpt <= c->count_rcpt);
}

static void count_one(struct commit *c, uint32_t queue, uint64_t size)
{
	struct shm_queue *q = shm_queue_claim(c->shm, queue);

	if (!q)
		return; /* counts as full; the warning comes with its next mail */
	atomic_fetch_add_explicit(&q->recipients, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&q->bytes, size, memory_order_relaxed);
}

bool commit_recount(struct commit *c, size_t max)
{
	struct spool_message m = {.id = 0};
	struct spool_recipient rcpt;
	struct spool_read *r;
	bool found = false;
	int more = 1;

	if (c->counted || spool_read_begin(c->spool, &r) < 0)
		return c->counted;
	for (; max; max--) {
		uint64_t msgid = c->count_msgid;
		uint32_t number = c->count_rcpt;

		more = spool_recipient_next(r, &msgid, &number, &c->count_started, &rcpt);
		if (more == 0 || msgid > c->count_until) {
			more = 0;
			break;
		}
		if (more < 0 && msgid == c->count_msgid && number == c->count_rcpt) {
			more = 0; /* the table cannot be read on; spool check says why */
			break;
		}
		c->count_msgid = msgid;
		c->count_rcpt = number;
		if (m.id != msgid || !found)
			found = spool_message_get(r, msgid, &m) == 0;
		m.id = msgid;
		if (more > 0 && found)
			count_one(c, rcpt.queue, m.size);
	}
	spool_read_end(r);
	if (more == 0) {
		c->counted = true;
		release_empty(c);
	}
	return c->counted;
}

bool commit_counted(const struct commit *c)
{
	return c->counted;
}
