#include "spooler/sources.h"

#include <stdlib.h>

#include "common/base/err.h"
#include "common/base/xalloc.h"
#include "common/spool/write.h"

#define READ_USEC (100 * USEC_PER_MSEC)
#define DROP_ROWS 5000 /* a transaction */

typedef int next_row(struct spool_read *r, uint64_t *after, struct slice *ret);

static long read_rows(struct sources *s, next_row *next, uint64_t after, size_t max,
		      void (*row)(void *row_arg, uint64_t id, struct slice payload), void *row_arg)
{
	usec_t until = clock_now() + READ_USEC;
	struct spool_read *r;
	struct slice v;
	long n = 0;
	int rc = spool_read_begin(s->spool, &r);

	if (rc < 0)
		return rc;
	while ((size_t)n < max && clock_now() < until && (rc = next(r, &after, &v)) > 0) {
		row(row_arg, after, v);
		n++;
	}
	spool_read_end(r);
	return rc < 0 && n == 0 ? rc : n;
}

/* --- accountant --- */

static long outbox_read(void *arg, uint64_t after, size_t max,
			void (*row)(void *row_arg, uint64_t seq, struct slice payload),
			void *row_arg)
{
	return read_rows(arg, spool_outbox_next, after, max, row, row_arg);
}

static uint64_t outbox_last(void *arg)
{
	struct sources *s = arg;
	struct spool_numbers n = {.next_outbox = 1};
	struct spool_read *r;
	struct slice v;

	if (spool_read_begin(s->spool, &r) < 0)
		return 0;
	if (spool_state_get(r, slice_str(STATE_NUMBERS), &v) < 0 || row_numbers_decode(v, &n) < 0)
		n.next_outbox = 1;
	spool_read_end(r);
	return n.next_outbox - 1;
}

static int states_load(void *arg,
		       void (*each)(void *each_arg, struct slice name, struct slice value),
		       void *each_arg)
{
	struct sources *s = arg;
	struct slice prefix = slice_str(STATE_ACCOUNT), name = slice_of("", 0), v;
	struct spool_read *r;
	int rc = spool_read_begin(s->spool, &r);

	if (rc < 0)
		return rc;
	while ((rc = spool_state_next(r, prefix, name, &name, &v)) > 0)
		each(each_arg, slice_from(name, prefix.n), v);
	spool_read_end(r);
	return rc;
}

struct checkpoint {
	struct commit_job job;
	struct commit *engine;
	struct accountant_commit *c;
};

static int store_state(struct spool_write *w, const struct accountant_state *state)
{
	struct spool_key k = key_name(slice_str(STATE_ACCOUNT));
	int rc;

	spool_key_name(&k, state->name, ACCOUNTANT_NAME_MAX);
	if (state->value.n)
		return write_put(w, SPOOL_STATE, &k, state->value);
	rc = write_delete(w, SPOOL_STATE, &k);
	return rc == ERR_NOT_FOUND ? 0 : rc;
}

/* 1 = there are more. */
static int drop_rows(struct spool_write *w, uint64_t through)
{
	struct slice key, value;
	int n = 0;

	for (;;) {
		struct spool_key first = key_u64(0);
		int rc = write_seek(w, SPOOL_OUTBOX, &first, false, &key, &value);

		if (rc <= 0)
			return rc;
		first = key_u64(be64_get(key.p));
		if (be64_get(key.p) > through)
			return 0;
		if (n++ == DROP_ROWS)
			return 1;
		rc = write_delete(w, SPOOL_OUTBOX, &first);
		if (rc < 0)
			return rc;
	}
}

/* Run again, in part or whole, it does no harm. */
static int run_checkpoint(struct commit *engine, struct spool_write *w, struct commit_job *j)
{
	const struct accountant_commit *c = container_of(j, struct checkpoint, job)->c;
	size_t i;
	int rc = 0;

	(void)engine;
	for (i = 0; rc == 0 && i < c->state_count; i++)
		rc = store_state(w, &c->states[i]);
	return rc < 0 ? rc : drop_rows(w, c->drop_through);
}

static void checkpoint_done(struct commit_job *j)
{
	struct checkpoint *cp = container_of(j, struct checkpoint, job);

	commit_outbox_dropped(cp->engine, cp->c->drop_through);
	cp->c->result = 0;
	cp->c->done(cp->c);
	free(cp);
}

static void post_checkpoint(void *arg, struct accountant_commit *c)
{
	struct sources *s = arg;
	struct checkpoint *cp = xcalloc(1, sizeof(*cp));

	cp->job = (struct commit_job){.run = run_checkpoint, .done = checkpoint_done};
	cp->c = c;
	cp->engine = committer_engine(s->committer);
	committer_post(s->committer, &cp->job);
}

struct accountant_source sources_accountant(struct sources *s)
{
	return (struct accountant_source){.read = outbox_read,
					  .last = outbox_last,
					  .load = states_load,
					  .post = post_checkpoint,
					  .arg = s};
}

/* --- DSN helper --- */

static long dsn_read(void *arg, uint64_t after, size_t max,
		     void (*row)(void *row_arg, uint64_t id, struct slice payload), void *row_arg)
{
	return read_rows(arg, spool_dsn_next, after, max, row, row_arg);
}

struct dsn_drop {
	struct commit_job job;
	uint64_t id;
};

static int run_drop(struct commit *engine, struct spool_write *w, struct commit_job *j)
{
	struct spool_key k = key_u64(container_of(j, struct dsn_drop, job)->id);
	int rc = write_delete(w, SPOOL_DSN, &k);

	(void)engine;
	return rc == ERR_NOT_FOUND ? 0 : rc;
}

static void drop_done(struct commit_job *j)
{
	free(container_of(j, struct dsn_drop, job));
}

static void dsn_drop(void *arg, uint64_t id)
{
	struct sources *s = arg;
	struct dsn_drop *d = xcalloc(1, sizeof(*d));

	d->job = (struct commit_job){.run = run_drop, .done = drop_done};
	d->id = id;
	committer_post(s->committer, &d->job);
}

static void dsn_post(void *arg, struct intake_message *m)
{
	struct sources *s = arg;

	intake_post(committer_intake(s->committer), m);
}

static uint64_t dsn_next_msgid(void *arg)
{
	struct sources *s = arg;

	return intake_next_msgid(committer_intake(s->committer));
}

struct dsn_source sources_dsn(struct sources *s)
{
	return (struct dsn_source){.read = dsn_read,
				   .drop = dsn_drop,
				   .post = dsn_post,
				   .next_msgid = dsn_next_msgid,
				   .arg = s};
}
