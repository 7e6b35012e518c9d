#include "spooler/commit_tidy.h"

#include <stdlib.h>

#include "spooler/commit_private.h"

#define LOOKS 100 /* rows of the queue table at a time */
#define FRESH_LOOKS 500 /* fresh rows of a virtual MTA and class that are read to be sure */
#define QUIET_DAYS 1
#define DAY_MSEC (24 * 3600 * MSEC_PER_SEC)

struct commit_tidy {
	struct commit *c;
	struct commit_job job;
	bool under_way;
	uint32_t after; /* the walk: id of the last queue that was looked at */
	uint32_t ids[LOOKS];
	size_t n, removed; /* removed: the first so many of ids, in the transaction under way */
	/* queues with fresh mail, of the virtual MTA that was looked at last */
	uint32_t fresh_vmta;
	uint32_t fresh[FRESH_LOOKS * SPOOL_CLASSES];
	size_t fresh_count;
	bool fresh_all; /* there are no more than these */
};

struct commit_tidy *commit_tidy_new(struct commit *c)
{
	struct commit_tidy *t = xcalloc(1, sizeof(*t));

	t->c = c;
	return t;
}

void commit_tidy_free(struct commit_tidy *t)
{
	free(t);
}

/* Nothing that its site should remember: no back-off, no retry within the last day. */
static bool site_is_quiet(struct spool_read *r, const struct spool_queue *q)
{
	struct spool_site site;
	int rc = spool_site_get(r, q->vmta, q->domain, &site);

	return rc == ERR_NOT_FOUND || (rc == 0 && site_mode_is_plain(&site.mode) &&
				       site.retry_at + QUIET_DAYS * DAY_MSEC < clock_wall());
}

/* The mail of a queue that found no slot is not counted, but it is in the due table. */
static bool is_quiet(const struct commit *c, struct spool_read *r, const struct spool_queue *q)
{
	return q->day + QUIET_DAYS < commit_day(clock_wall()) && !shm_queue_find(c->shm, q->id) &&
	       site_is_quiet(r, q) && spool_due_first(r, q->id) == UINT64_MAX;
}

/* --- in the transaction --- */

static void load_fresh(struct commit_tidy *t, struct spool_read *r, uint32_t vmta)
{
	struct spool_fresh_row rows[FRESH_LOOKS];
	uint8_t class;
	size_t n, i;

	t->fresh_vmta = vmta;
	t->fresh_count = 0;
	t->fresh_all = true;
	for (class = 0; class < SPOOL_CLASSES; class ++) {
		struct spool_fresh_pos pos = {.started = false};

		n = spool_fresh_scan(r, vmta, class, &pos, rows, FRESH_LOOKS);
		t->fresh_all &= n < FRESH_LOOKS;
		for (i = 0; i < n; i++)
			t->fresh[t->fresh_count++] = rows[i].queue;
	}
}

/* Counts could be wrong; a queue that is removed with its mail in it would lose that. */
static bool has_no_fresh(struct commit_tidy *t, struct spool_read *r, const struct spool_queue *q)
{
	size_t i;

	if (t->fresh_vmta != q->vmta)
		load_fresh(t, r, q->vmta);
	for (i = 0; i < t->fresh_count; i++)
		if (t->fresh[i] == q->id)
			return false;
	return t->fresh_all;
}

static bool is_touched(const struct commit *c, uint32_t id)
{
	struct commit_touch *t;

	HASH_FIND(hh, c->touched, &id, sizeof(id), t);
	return t != NULL;
}

/* 1 = removed, 0 = not, or a negative err. */
static int drop_queue(struct commit_tidy *t, uint32_t id)
{
	struct commit *c = t->c;
	struct spool_key k = key_u32(id), name, reroute;
	struct spool_queue q;
	int rc = spool_queue_get(write_read(c->w), id, &q);

	if (rc < 0)
		return rc == ERR_NOT_FOUND ? 0 : rc;
	if (is_touched(c, id) || !is_quiet(c, write_read(c->w), &q) ||
	    !has_no_fresh(t, write_read(c->w), &q))
		return 0;
	q.domain = commit_keep_slice(c, q.domain);
	name = key_u32_name(q.vmta, q.domain);
	reroute = key_reroute(q.vmta, id);
	rc = write_delete(c->w, SPOOL_SITE, &name); /* the same key */
	if (rc == 0 || rc == ERR_NOT_FOUND) /* asked for again when mail comes again */
		rc = write_delete(c->w, SPOOL_REROUTE, &reroute);
	if (rc == 0 || rc == ERR_NOT_FOUND)
		rc = write_delete(c->w, SPOOL_QUEUE_NAME, &name);
	if (rc == 0)
		rc = write_delete(c->w, SPOOL_QUEUE, &k);
	return rc < 0 ? rc : 1;
}

static int run(struct commit *c, struct spool_write *w, struct commit_job *j)
{
	struct commit_tidy *t = container_of(j, struct commit_tidy, job);
	size_t i;

	invariant(w == c->w);
	t->fresh_vmta = 0;
	t->removed = 0;
	for (i = 0; i < t->n; i++) {
		uint32_t id = t->ids[i];
		int rc = drop_queue(t, id);

		if (rc < 0)
			return rc;
		if (rc > 0) { /* both stay in the list: a failed transaction is run again */
			t->ids[i] = t->ids[t->removed];
			t->ids[t->removed++] = id;
		}
	}
	return 0;
}

static void done(struct commit_job *j)
{
	struct commit_tidy *t = container_of(j, struct commit_tidy, job);
	size_t i;

	for (i = 0; i < t->removed; i++)
		cache_queue_drop(t->c, t->ids[i]);
	if (t->removed)
		log_debug(NULL, "queues without mail were removed", LOG_U("queues", t->removed));
	t->under_way = false;
}

/* --- outside --- */

struct commit_job *commit_tidy_look(struct commit_tidy *t)
{
	struct commit *c = t->c;
	struct spool_queue q;
	struct spool_read *r;
	int more = 1, i;

	if (t->under_way || !c->counted || spool_read_begin(c->spool, &r) < 0)
		return NULL;
	t->n = 0;
	for (i = 0; i < LOOKS && (more = spool_queue_next(r, &t->after, &q)) > 0; i++)
		if (is_quiet(c, r, &q))
			t->ids[t->n++] = q.id;
	spool_read_end(r);
	if (more <= 0)
		t->after = 0;
	if (t->n == 0)
		return NULL;
	t->under_way = true;
	t->job = (struct commit_job){.run = run, .done = done};
	return &t->job;
}
