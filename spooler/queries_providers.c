/* queries_providers.c - what waits for each provider, over all virtual MTAs. */
#include <stdlib.h>
#include <string.h>

#include "common/base/xalloc.h"
#include "common/shm/shm.h"
#include "common/spool/spool.h"
#include "spooler/queries_private.h"

#define CHUNK 100 /* queues in one read transaction */

/* Of its row; there are few. */
struct provider_row {
	char *site; /* NAME.rollup */
	uint64_t recipients, bytes, queues, connections, in_hand, retrying, paused;
};

struct provider_rows {
	struct provider_row *v;
	size_t n;
};

static struct provider_row *row_of(struct provider_rows *rows, struct slice site)
{
	for (size_t i = 0; i < rows->n; i++)
		if (slice_eq_str(site, rows->v[i].site))
			return &rows->v[i];
	rows->v = xreallocarray(rows->v, rows->n + 1, sizeof(*rows->v));
	rows->v[rows->n] = (struct provider_row){.site = slice_dup(site)};
	return &rows->v[rows->n++];
}

static void add_queue(struct spool_read *r, const struct shm_queue *x, struct provider_rows *rows)
{
	uint32_t flags = atomic_load(&x->flags);
	struct provider_row *p;
	struct spool_queue q;

	if (atomic_load(&x->recipients) == 0 || spool_queue_get(r, atomic_load(&x->id), &q) < 0 ||
	    q.provider.n == 0)
		return;
	p = row_of(rows, q.provider);
	p->recipients += atomic_load(&x->recipients);
	p->bytes += atomic_load(&x->bytes);
	p->connections += atomic_load(&x->connections);
	p->in_hand += atomic_load(&x->in_hand);
	p->queues++;
	p->retrying += (flags & SHM_QUEUE_RETRY) != 0;
	p->paused += (flags & SHM_QUEUE_PAUSED) != 0;
}

static bool add_up(struct query *y, struct provider_rows *rows)
{
	const struct shm_queue *x = NULL;
	uint32_t pos = 0;

	do {
		struct spool_read *r;

		if (spool_read_begin(y->q->spool, &r) < 0)
			return false;
		for (int i = 0; i < CHUNK && (x = shm_queue_next(y->q->shm, &pos)); i++)
			add_queue(r, x, rows);
		spool_read_end(r);
	} while (x);
	return true;
}

static int provider_by_recipients(const void *va, const void *vb)
{
	const struct provider_row *a = va, *b = vb;

	return (a->recipients < b->recipients) - (a->recipients > b->recipients);
}

static void show(struct query *y, const struct provider_row *p)
{
	size_t n = strlen(p->site) - strlen(".rollup");

	query_data(y,
		   json_pack("{s:s%, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "provider", p->site,
			     n, "site", p->site, "recipients", (json_int_t)p->recipients, "bytes",
			     (json_int_t)p->bytes, "queues", (json_int_t)p->queues, "connections",
			     (json_int_t)p->connections, "in_hand", (json_int_t)p->in_hand,
			     "retrying", (json_int_t)p->retrying, "paused", (json_int_t)p->paused));
}

void query_providers(struct query *y, const json_t *args)
{
	uint64_t max = arg_number(args, "max");
	struct provider_rows rows = {.n = 0};

	if (!add_up(y, &rows)) {
		query_fail(y, "the spool cannot be read now: try again in a moment");
	} else {
		if (rows.n)
			qsort(rows.v, rows.n, sizeof(*rows.v), provider_by_recipients);
		for (size_t i = 0; i < rows.n && (!max || i < max); i++)
			show(y, &rows.v[i]);
		query_succeed(y);
	}
	for (size_t i = 0; i < rows.n; i++)
		free(rows.v[i].site);
	free(rows.v);
}
