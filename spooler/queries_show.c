/*
 * queries_show.c - what the spooler shows. Live numbers come from shared memory, names and states from
 * the spool: copied out in short transactions, printed after.
 */
#include <stdlib.h>

#include "common/base/err.h"
#include "common/base/xalloc.h"
#include "spooler/queries_private.h"

#define CHUNK 100 /* queues in one read transaction, a few rows each */

struct row {
	uint32_t id, vmta, flags, connections, in_hand;
	uint64_t recipients, bytes;
	msec_t not_before, first_due;
	msec_t expiry; /* of the first recipient; 0 = not known */
	char text[SHM_QUEUE_TEXT];
	char *name; /* domain/vmta */
	char *site_name; /* NAME.rollup/vmta, or NULL where the domain belongs to no provider */
	bool paused;
	struct spool_site site; /* reason is a copy in `reason` */
	char *reason;
};

struct rows {
	struct row *v;
	size_t n, cap;
};

static void rows_done(struct rows *rows)
{
	size_t i;

	for (i = 0; i < rows->n; i++) {
		free(rows->v[i].name);
		free(rows->v[i].site_name);
		free(rows->v[i].reason);
	}
	free(rows->v);
}

static void collect(struct query *y, struct rows *rows)
{
	struct shm_queue *q;
	uint32_t pos = 0;

	while ((q = shm_queue_next(y->q->shm, &pos)) != NULL) {
		struct row *row;

		if (atomic_load(&q->recipients) == 0)
			continue;
		if (rows->n == rows->cap) {
			rows->cap = rows->cap ? 2 * rows->cap : 256;
			rows->v = xreallocarray(rows->v, rows->cap, sizeof(*rows->v));
		}
		row = &rows->v[rows->n++];
		*row = (struct row){.id = atomic_load(&q->id),
				    .flags = atomic_load(&q->flags),
				    .connections = atomic_load(&q->connections),
				    .in_hand = atomic_load(&q->in_hand),
				    .recipients = atomic_load(&q->recipients),
				    .bytes = atomic_load(&q->bytes),
				    .not_before = atomic_load(&q->not_before),
				    .expiry = atomic_load(&q->next_expiry)};
		shm_queue_get_text(q, row->text);
	}
}

static void fill_row(struct spool_read *r, struct row *row)
{
	struct spool_queue q;
	struct spool_vmta m;

	if (spool_queue_get(r, row->id, &q) < 0 || spool_vmta_get(r, q.vmta, &m) < 0)
		return;
	row->vmta = q.vmta;
	row->paused = q.paused;
	row->name = xasprintf("%.*s/%.*s", SLICE_ARG(q.domain), SLICE_ARG(m.name));
	if (q.provider.n)
		row->site_name = xasprintf("%.*s/%.*s", SLICE_ARG(q.provider), SLICE_ARG(m.name));
	if ((q.provider.n == 0 || spool_site_get(r, q.vmta, q.provider, &row->site) < 0) &&
	    spool_site_get(r, q.vmta, q.domain, &row->site) < 0)
		row->site = (struct spool_site){.reason = slice_of("", 0)};
	row->reason = slice_dup(row->site.reason);
	row->expiry = due_expiry_first(r, row->id, row->expiry, &row->first_due);
}

/* Names and stored state. False: the spool cannot be read. */
static bool fill(struct query *y, struct rows *rows)
{
	size_t i, k;

	for (i = 0; i < rows->n; i = k) {
		struct spool_read *r;

		if (spool_read_begin(y->q->spool, &r) < 0)
			return false;
		for (k = i; k < rows->n && k < i + CHUNK; k++)
			fill_row(r, &rows->v[k]);
		spool_read_end(r);
	}
	return true;
}

static int by_recipients(const void *a, const void *b)
{
	const struct row *x = a, *y = b;

	return x->recipients < y->recipients ? 1 : x->recipients > y->recipients ? -1 : 0;
}

static int by_bytes(const void *a, const void *b)
{
	const struct row *x = a, *y = b;

	return x->bytes < y->bytes ? 1 : x->bytes > y->bytes ? -1 : 0;
}

static int by_name(const void *a, const void *b)
{
	const struct row *x = a, *y = b;

	return strcmp(x->name ? x->name : "", y->name ? y->name : "");
}

static void sort_rows(struct rows *rows, const char *how)
{
	int (*cmp)(const void *a, const void *b) = strcmp(how, "name") == 0    ? by_name
						   : strcmp(how, "bytes") == 0 ? by_bytes
									       : by_recipients;

	if (rows->n)
		qsort(rows->v, rows->n, sizeof(*rows->v), cmp);
}

static msec_t next_retry(const struct row *row, msec_t now)
{
	if (row->site.retry_at > now)
		return row->site.retry_at;
	if (row->not_before > now && row->not_before < UINT64_MAX - 1)
		return row->not_before;
	return row->first_due > now ? row->first_due : 0;
}

static json_t *time_or_null(msec_t t)
{
	return t == 0 || t == UINT64_MAX ? json_null() : json_integer((json_int_t)t);
}

static json_t *waiting_for(const struct row *row, msec_t retry)
{
	char when[CLOCK_TEXT_MAX], text[CLOCK_TEXT_MAX + 16];

	if (row->paused || (row->flags & SHM_QUEUE_PAUSED))
		return json_string("paused");
	if (row->flags & SHM_QUEUE_LIMITED)
		return json_string(row->text);
	if (!retry)
		return json_string("");
	clock_iso(retry, when);
	snprintf(text, sizeof(text), "retry at %s", when);
	return json_string(text);
}

/* Text from the wire that is not UTF-8 shows with its odd bytes replaced. */
static json_t *any_text(const char *s)
{
	json_t *v = json_string(s);
	char *copy, *p;

	if (v)
		return v;
	copy = xstrdup(s);
	for (p = copy; *p; p++)
		if ((unsigned char)*p >= 0x80)
			*p = '?';
	v = json_string(copy);
	free(copy);
	return v;
}

/* Without the virtual MTA. */
static json_t *site_of(const struct row *row)
{
	const char *name = row->site_name ? row->site_name : row->name;
	char *site = slice_dup(slice_of(name, (size_t)(strrchr(name, '/') - name)));
	json_t *v = any_text(site);

	free(site);
	return v;
}

/* The live text is that of a limit while one holds the queue. */
static const char *last_error(const struct row *row)
{
	return row->flags & SHM_QUEUE_LIMITED || !row->text[0] ? row->reason : row->text;
}

static void show_queue(struct query *y, const struct row *row)
{
	msec_t retry = next_retry(row, clock_wall());
	json_t *o = json_pack(
		"{s:o, s:I, s:I, s:I, s:I, s:s, s:b, s:o, s:o, s:o, s:o}", "queue",
		any_text(row->name), "recipients", (json_int_t)row->recipients, "bytes",
		(json_int_t)row->bytes, "connections", (json_int_t)row->connections, "in_hand",
		(json_int_t)row->in_hand, "mode", row->site.mode.mode ? "backoff" : "normal",
		"paused", row->paused || (row->flags & SHM_QUEUE_PAUSED), "next_retry",
		time_or_null(retry), "next_expiry", time_or_null(row->expiry), "last_error",
		any_text(last_error(row)), "waiting_for", waiting_for(row, retry));

	if (!committer_counted(y->q->committer))
		json_object_set_new(o, "approximate", json_true());
	json_object_set_new(o, "site", site_of(row));
	query_data(y, o);
}

/* By its own name or by that of its provider's site. */
static bool is_meant(const struct row *row, struct slice pattern)
{
	return row->name &&
	       (order_pattern_match(pattern, slice_str(row->name)) ||
		(row->site_name && order_pattern_match(pattern, slice_str(row->site_name))));
}

static bool wanted(const struct row *row, const json_t *args, struct slice pattern)
{
	const char *mode = arg_text(args, "mode");

	if (!row->name || (pattern.n && !is_meant(row, pattern)))
		return false;
	if (*mode && (strcmp(mode, "backoff") == 0) != (row->site.mode.mode != SITE_NORMAL))
		return false;
	if (arg_flag(args, "paused") && !row->paused && !(row->flags & SHM_QUEUE_PAUSED))
		return false;
	return !arg_flag(args, "errors") || *last_error(row);
}

static msec_t sooner(msec_t a, msec_t b)
{
	return a < b ? a : b;
}

void query_queues(struct query *y, const json_t *args)
{
	char *pattern = arg_pattern(args, "pattern");
	uint64_t max = arg_number(args, "max"), shown = 0;
	struct fresh_expiries *fresh = fresh_expiries_read(y);
	struct rows rows = {.n = 0};
	size_t i;

	collect(y, &rows);
	if (!fill(y, &rows)) {
		query_fail(y, "the spool cannot be read now: try again in a moment");
	} else {
		sort_rows(&rows, arg_text(args, "sort"));
		for (i = 0; i < rows.n && !y->cut && (!max || shown < max); i++)
			if (wanted(&rows.v[i], args, slice_str(pattern))) {
				rows.v[i].expiry = sooner(rows.v[i].expiry,
							  fresh_expiry_first(fresh, rows.v[i].id));
				show_queue(y, &rows.v[i]);
				shown++;
			}
		query_succeed(y);
	}
	rows_done(&rows);
	fresh_expiries_free(fresh);
	free(pattern);
}

uint64_t count_live_queues(struct query *y, struct slice pattern)
{
	struct rows rows = {.n = 0};
	uint64_t n = 0;
	size_t i;

	collect(y, &rows);
	if (fill(y, &rows))
		for (i = 0; i < rows.n; i++)
			n += is_meant(&rows.v[i], pattern);
	rows_done(&rows);
	return n;
}

/* --- virtual MTAs --- */

struct vmta_row {
	uint32_t id;
	char *name;
	uint64_t recipients, bytes, queues, connections, in_hand;
};

struct vmta_rows {
	struct vmta_row *v;
	size_t n;
};

static bool load_vmtas(struct query *y, struct vmta_rows *rows)
{
	struct spool_read *r;
	struct spool_vmta m;
	uint32_t after = 0;

	if (spool_read_begin(y->q->spool, &r) < 0)
		return false;
	while (spool_vmta_next(r, &after, &m) > 0) {
		rows->v = xreallocarray(rows->v, rows->n + 1, sizeof(*rows->v));
		rows->v[rows->n++] = (struct vmta_row){.id = m.id, .name = slice_dup(m.name)};
	}
	spool_read_end(r);
	return true;
}

/* Ids ascend. */
static struct vmta_row *find_vmta(const struct vmta_rows *rows, uint32_t id)
{
	size_t low = 0, high = rows->n;

	while (low < high) {
		size_t mid = (low + high) / 2;

		if (rows->v[mid].id < id)
			low = mid + 1;
		else
			high = mid;
	}
	return low < rows->n && rows->v[low].id == id ? &rows->v[low] : NULL;
}

static void add_up(const struct rows *queues, struct vmta_rows *rows)
{
	size_t i;

	for (i = 0; i < queues->n; i++) {
		const struct row *q = &queues->v[i];
		struct vmta_row *m = q->name ? find_vmta(rows, q->vmta) : NULL;

		if (!m)
			continue;
		m->recipients += q->recipients;
		m->bytes += q->bytes;
		m->queues++;
		m->connections += q->connections;
		m->in_hand += q->in_hand;
	}
}

static int vmta_by_recipients(const void *a, const void *b)
{
	const struct vmta_row *x = a, *y = b;

	return x->recipients < y->recipients ? 1 : x->recipients > y->recipients ? -1 : 0;
}

static int vmta_by_bytes(const void *a, const void *b)
{
	const struct vmta_row *x = a, *y = b;

	return x->bytes < y->bytes ? 1 : x->bytes > y->bytes ? -1 : 0;
}

static int vmta_by_name(const void *a, const void *b)
{
	return strcmp(((const struct vmta_row *)a)->name, ((const struct vmta_row *)b)->name);
}

/* By name, because a worker that has just started has not yet looked up its id. */
static struct shm_worker *worker_of(struct query *y, const char *name)
{
	uint32_t n = shm_workers_used(y->q->shm), i;

	for (i = 0; i < n; i++) {
		struct shm_worker *w = shm_worker(y->q->shm, i);

		if (atomic_load(&w->state) != SHM_WORKER_FREE && strcmp(w->vmta, name) == 0)
			return w;
	}
	return NULL;
}

static void show_vmta(struct query *y, const struct vmta_row *m)
{
	static const char *const states[] = {
		[SHM_WORKER_FREE] = "none",	  [SHM_WORKER_STARTING] = "starting",
		[SHM_WORKER_RUNNING] = "running", [SHM_WORKER_DRAINING] = "draining",
		[SHM_WORKER_DEAD] = "dead",
	};
	struct shm_worker *w = worker_of(y, m->name);
	uint32_t state = w ? atomic_load(&w->state) : SHM_WORKER_FREE;
	uint64_t cap = w ? atomic_load(&w->max_smtp_out) : 0;

	if (!w && m->recipients == 0)
		return; /* left the configuration and is empty */
	query_data(y, json_pack("{s:s, s:I, s:I, s:I, s:I, s:o, s:I, s:s, s:i, s:b}", "vmta",
				m->name, "recipients", (json_int_t)m->recipients, "bytes",
				(json_int_t)m->bytes, "queues", (json_int_t)m->queues,
				"connections", (json_int_t)m->connections, "max_smtp_out",
				cap ? json_integer((json_int_t)cap) : json_null(), "in_hand",
				(json_int_t)m->in_hand, "state",
				state < ARRAY_SIZE(states) ? states[state] : "none", "pid",
				w ? (int)atomic_load(&w->pid) : 0, "orphan",
				w ? atomic_load(&w->orphan) != 0 : true));
}

void query_vmtas(struct query *y, const json_t *args)
{
	const char *sort = arg_text(args, "sort");
	uint64_t max = arg_number(args, "max");
	struct vmta_rows rows = {.n = 0};
	struct rows queues = {.n = 0};
	size_t i;

	collect(y, &queues);
	if (!fill(y, &queues) || !load_vmtas(y, &rows)) {
		query_fail(y, "the spool cannot be read now: try again in a moment");
	} else {
		add_up(&queues, &rows);
		if (rows.n)
			qsort(rows.v, rows.n, sizeof(*rows.v),
			      strcmp(sort, "name") == 0	   ? vmta_by_name
			      : strcmp(sort, "bytes") == 0 ? vmta_by_bytes
							   : vmta_by_recipients);
		for (i = 0; i < rows.n && (!max || i < max); i++)
			show_vmta(y, &rows.v[i]);
		query_succeed(y);
	}
	for (i = 0; i < rows.n; i++)
		free(rows.v[i].name);
	free(rows.v);
	rows_done(&queues);
}

void query_paused(struct query *y, const json_t *args)
{
	json_t *list = json_array();
	struct spool_read *r;
	struct order o;
	uint64_t after = 0;
	size_t i;

	(void)args;
	if (spool_read_begin(y->q->spool, &r) < 0) {
		query_fail(y, "the spool cannot be read now: try again in a moment");
		json_decref(list);
		return;
	}
	while (spool_order_next(r, &after, &o) > 0)
		if (o.kind == ORDER_PAUSE)
			json_array_append_new(list, json_pack("{s:s%, s:s%, s:I, s:s%}", "queue",
							      o.filter.queue.p, o.filter.queue.n,
							      "job", o.filter.job.p, o.filter.job.n,
							      "since", (json_int_t)o.created, "by",
							      o.who.p, o.who.n));
	spool_read_end(r);
	for (i = 0; i < json_array_size(list); i++)
		query_data(y, json_incref(json_array_get(list, i)));
	json_decref(list);
	query_succeed(y);
}
