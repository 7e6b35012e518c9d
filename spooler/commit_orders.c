/*
 * commit_orders.c - orders of operators, carried out.
 *
 * An order becomes a row, the workers read it, stop taking what matches and answer with what they hold in
 * open transactions. Then everything else is changed in chunks, one chunk a transaction, its position
 * stored with it. After a start the workers are asked again; the work goes on where it was.
 */
#include "spooler/commit_orders_private.h"

#include <stdlib.h>

#include "common/base/fd.h"
#include "common/base/rng.h"

#define ALONE_ROWS 2000 /* made due in one that no feeder waits for */
#define SPREAD_MSEC (5 * 60 * MSEC_PER_SEC)

static struct slice own_text(struct commit_order *o, size_t i, struct slice s)
{
	o->texts[i] = slice_dup(s);
	return slice_of(o->texts[i], s.n);
}

static enum stage first_stage(enum order_kind kind)
{
	switch (kind) {
	case ORDER_DELETE:
	case ORDER_MOVE:
		return STAGE_TAKE;
	case ORDER_SCHEDULE:
		return STAGE_DUE;
	case ORDER_RESUME:
		return STAGE_WAKES;
	case ORDER_NORMAL:
	case ORDER_ENABLE_SOURCE:
		return STAGE_SITES;
	case ORDER_PAUSE:
	case ORDER_BACKOFF:
	case ORDER_DISABLE_SOURCE:
		break;
	}
	return STAGE_END;
}

static struct commit_order *order_new(const struct order *from)
{
	struct commit_order *o = xcalloc(1, sizeof(*o));

	o->o = *from;
	o->o.filter.queue = own_text(o, 0, from->filter.queue);
	o->o.filter.job = own_text(o, 1, from->filter.job);
	o->o.filter.sender = own_text(o, 2, from->filter.sender);
	o->o.filter.rcpt = own_text(o, 3, from->filter.rcpt);
	o->o.filter.envid = own_text(o, 4, from->filter.envid);
	o->o.who = own_text(o, 5, from->who);
	o->o.target = own_text(o, 6, from->target);
	o->o.reason = own_text(o, 7, from->reason);
	o->now.stage = first_stage(from->kind);
	o->saved = o->now;
	return o;
}

static void order_free(struct commit_order *o)
{
	struct held *h, *next;
	size_t i;

	HASH_ITER(hh, o->held, h, next) {
		HASH_DEL(o->held, h);
		free(h);
	}
	for (i = 0; i < ARRAY_SIZE(o->texts); i++)
		free(o->texts[i]);
	free(o->waits);
	free(o);
}

static void order_append(struct commit *c, struct commit_order *o)
{
	struct commit_order **end = &c->orders;

	while (*end)
		end = &(*end)->next;
	*end = o;
}

static int store_row(struct commit *c, const struct commit_order *o)
{
	struct order_row row = {.order = o->o,
				.step = (uint8_t)o->now.stage,
				.done = o->now.done,
				.held = HASH_COUNT(o->held),
				.position = slice_of(o->now.position.b, o->now.position.n)};
	struct spool_key k = key_u64(o->o.id);

	buf_clear(&c->value);
	row_order_encode(&row, &c->value);
	return write_put(c->w, SPOOL_ORDER, &k, buf_slice(&c->value));
}

static void orders_changed(struct commit *c)
{
	c->orders_changed = true;
	health_orders_changed(c);
}

/* --- at the start --- */

static struct commit_order *order_from_row(const struct order_row *row)
{
	struct commit_order *o = order_new(&row->order);

	if (row->step <= STAGE_END)
		o->now.stage = (enum stage)row->step;
	o->now.done = row->done;
	if (row->position.n <= sizeof(o->now.position.b)) {
		o->now.position.n = row->position.n;
		if (row->position.n)
			memcpy(o->now.position.b, row->position.p, row->position.n);
	}
	o->saved = o->now;
	o->stored = true;
	return o;
}

/* Pauses need nothing but their row; whoever gave the order is no longer waiting. */
int standing_load(struct commit *c)
{
	struct spool_read *r;
	struct order order;
	uint64_t after = 0;
	int rc = spool_read_begin(c->spool, &r);

	if (rc < 0)
		return rc;
	while ((rc = spool_order_next(r, &after, &order)) > 0) {
		struct order_row row;

		rc = spool_order_row_get(r, order.id, &row);
		if (rc < 0)
			break;
		if (sites_order_stands(&order, row.step == STAGE_END))
			continue;
		order_append(c, order_from_row(&row));
	}
	spool_read_end(r);
	c->orders_changed = c->ask_again = true;
	return rc;
}

/* --- taking an order --- */

/* Removes pauses with exactly this pattern, or all that it covers. */
static int drop_pauses(struct commit *c, struct slice pattern, bool exact, uint64_t *ret_removed)
{
	struct spool_key k = key_u64(0);
	struct slice key, value;
	int more;

	while ((more = write_seek(c->w, SPOOL_ORDER, &k, true, &key, &value)) > 0) {
		struct order_row row;
		struct slice has;
		int rc;

		k = key_u64(be64_get(key.p));
		if (row_order_decode(value, &row) < 0 || row.order.kind != ORDER_PAUSE)
			continue;
		has = row.order.filter.queue;
		if (exact ? !slice_ieq(has, pattern) : !order_pattern_match(pattern, has))
			continue;
		rc = write_delete(c->w, SPOOL_ORDER, &k);
		if (rc < 0)
			return rc;
		++*ret_removed;
	}
	return more;
}

static int resume(struct commit *c, struct commit_order *o)
{
	int rc = drop_pauses(c, o->o.filter.queue, true, &o->removed);

	if (rc == 0 && o->removed == 0)
		rc = drop_pauses(c, o->o.filter.queue, false, &o->removed);
	return rc;
}

int commit_order_add(struct commit *c, struct spool_write *w, const struct order *from,
		     void (*answer)(void *arg, const struct commit_order_result *r), void *arg)
{
	struct commit_order *o = order_new(from);
	int rc = 0;

	invariant(w == c->w);
	o->o.id = c->n.next_order++;
	o->answer = answer;
	o->arg = arg;
	if (from->kind == ORDER_RESUME)
		rc = resume(c, o);
	if (rc == 0)
		rc = sites_order_replace(c, from, &o->removed);
	if (rc == 0)
		rc = store_row(c, o);
	order_append(c, o);
	orders_changed(c);
	return rc;
}

void commit_order_forget(struct commit *c, void *arg)
{
	struct commit_order *o;

	for (o = c->orders; o; o = o->next)
		if (o->arg == arg)
			o->answer = NULL;
}

bool commit_order_is_pending(const struct commit *c, uint64_t id)
{
	const struct commit_order *o;

	for (o = c->orders; o; o = o->next)
		if (o->o.id == id)
			return true;
	return false;
}

bool commit_orders_pending(const struct commit *c)
{
	return c->orders != NULL;
}

/* --- the workers' answers --- */

/* The part of a queue pattern behind the last '/': virtual MTAs that it can mean. */
static bool may_concern(const struct commit_order *o, const char *vmta)
{
	struct slice p = o->o.filter.queue;
	ptrdiff_t at = slice_rchr(p, '/');

	return at < 0 || order_pattern_match(slice_from(p, (size_t)at + 1), slice_str(vmta));
}

static bool is_running(const struct shm_worker *w)
{
	uint32_t state = atomic_load(&w->state);

	return state != SHM_WORKER_FREE && state != SHM_WORKER_DEAD;
}

static void ask_workers(struct commit *c, struct commit_order *o)
{
	uint32_t n = shm_workers_used(c->shm), slot;

	for (slot = 0; slot < n; slot++) {
		const struct shm_worker *w = shm_worker(c->shm, slot);
		uint32_t forkno = atomic_load(&w->forkno);

		/* one that died may still have reports in its ring: waited for until they are in */
		if (forkno == 0 || atomic_load(&w->state) == SHM_WORKER_FREE ||
		    !may_concern(o, w->vmta))
			continue;
		if (!is_running(w) && c->rings[slot].drained == forkno)
			continue;
		o->waits = xreallocarray(o->waits, o->wait_count + 1, sizeof(*o->waits));
		o->waits[o->wait_count++] = (struct wait){.slot = slot, .forkno = forkno};
	}
	o->asked = true;
}

static bool answered(struct commit *c, const struct wait *w)
{
	const struct shm_worker *worker = shm_worker(c->shm, w->slot);

	return w->acked || atomic_load(&worker->forkno) != w->forkno ||
	       atomic_load(&worker->state) == SHM_WORKER_FREE ||
	       c->rings[w->slot].drained == w->forkno;
}

static bool is_ready(struct commit *c, const struct commit_order *o)
{
	size_t i;

	if (!o->asked)
		return false;
	for (i = 0; i < o->wait_count; i++)
		if (!answered(c, &o->waits[i]))
			return false;
	return true;
}

struct held *orders_find_held(const struct commit_order *o, uint64_t msgid, uint32_t rcpt)
{
	struct report_park_item key;
	struct held *h;

	memset(&key, 0, sizeof(key));
	key.msgid = msgid;
	key.rcpt = rcpt;
	HASH_FIND(hh, o->held, &key, sizeof(key), h);
	return h;
}

static void add_held(struct commit_order *o, const struct report_park_item *item)
{
	struct held *h;

	if (orders_find_held(o, item->msgid, item->rcpt))
		return;
	h = xcalloc(1, sizeof(*h));
	h->item.msgid = item->msgid;
	h->item.rcpt = item->rcpt;
	HASH_ADD(hh, o->held, item, sizeof(h->item), h);
}

void standing_ack(struct commit *c, uint32_t slot, const struct report_order_ack *a)
{
	uint32_t forkno = atomic_load(&shm_worker(c->shm, slot)->forkno);
	struct commit_order *o;
	size_t i;

	for (o = c->orders; o; o = o->next) {
		if (o->o.id != a->order)
			continue;
		for (i = 0; i < a->held_count; i++)
			add_held(o, &a->held[i]);
		for (i = 0; i < o->wait_count; i++)
			if (o->waits[i].slot == slot && o->waits[i].forkno == forkno)
				o->waits[i].acked = true;
	}
}

/* --- schedule and resume --- */

static bool queue_matches(struct commit *c, const struct commit_order *o, struct commit_qent *q)
{
	const struct order_queue names = orders_names_of(c, q);

	return order_queue_match(o->o.filter.queue, &names);
}

/* Due soon already: also what this order has moved, so that it ends. */
static msec_t schedule_horizon(const struct commit_order *o)
{
	return o->o.created + (o->o.no_spread ? 0 : SPREAD_MSEC);
}

static int schedule_recipient(struct commit *c, struct commit_order *o, uint64_t msgid,
			      uint32_t rcpt, unsigned *ret_rows)
{
	msec_t due = o->o.created;
	struct spool_recipient r;
	struct commit_qent *q;
	int rc = recipient_load(c, msgid, rcpt, &r, &q);

	if (rc < 0)
		return rc == ERR_NOT_FOUND ? 0 : rc;
	/* one that was tried waits for its own retry */
	if (r.fresh || (r.attempts && !o->o.retry_recipients))
		return 0;
	if (!o->o.no_spread)
		due += rng_below((uint32_t)SPREAD_MSEC);
	++*ret_rows;
	if (o->now.last_queue != q->id)
		o->now.queues++;
	o->now.last_queue = q->id;
	return recipient_to_due(c, &r, q, due);
}

static int due_chunk(struct commit *c, struct commit_order *o, struct chunk *k)
{
	msec_t horizon = schedule_horizon(o);
	unsigned most = c->result.messages ? CHUNK_ROWS : ALONE_ROWS;
	uint32_t last = 0;
	bool matches = false;

	if (o->now.position.n != KEY_DUE_SIZE)
		o->now.position = key_due(0, 0, 0, 0, 0);
	while (k->rows < most && k->looks++ < CHUNK_LOOKS) {
		struct spool_key *at = &o->now.position;
		struct slice key, value;
		struct commit_qent *q;
		uint32_t queue;
		int rc = write_seek(c->w, SPOOL_DUE, at, true, &key, &value);

		if (rc <= 0)
			return rc;
		queue = be32_get(key.p);
		if (queue != last) {
			q = cache_queue_by_id(c, queue);
			matches = q && queue_matches(c, o, q);
			last = queue;
			if (matches && o->now.last_matching != queue)
				o->now.matching++;
			if (matches)
				o->now.last_matching = queue;
		}
		if (!matches) {
			*at = key_due(queue, UINT8_MAX, UINT64_MAX, UINT64_MAX, UINT32_MAX);
			continue;
		}
		*at = key_due(queue, (uint8_t)key.p[4], be64_get(key.p + 5), be64_get(key.p + 13),
			      be32_get(key.p + 21));
		if (be64_get(key.p + 5) <= horizon)
			continue;
		rc = schedule_recipient(c, o, be64_get(at->b + 13), be32_get(at->b + 21), &k->rows);
		if (rc < 0)
			return rc;
	}
	return 1;
}

static bool site_matches(struct commit *c, const struct commit_order *o, struct slice key)
{
	struct commit_vmta *v = cache_vmta_by_id(c, be32_get(key.p));

	if (!v)
		return false;
	buf_clear(&c->original);
	buf_add_slice(&c->original, slice_from(key, 4));
	buf_add_char(&c->original, '/');
	buf_add_str(&c->original, v->name);
	return order_pattern_match(o->o.filter.queue, buf_slice(&c->original));
}

static int site_chunk(struct commit *c, struct commit_order *o, struct chunk *k)
{
	while (k->rows < CHUNK_ROWS && k->looks++ < CHUNK_LOOKS) {
		struct spool_key *at = &o->now.position;
		struct spool_site site;
		struct slice key, value;
		int rc = write_seek(c->w, SPOOL_SITE, at, at->n > 0, &key, &value);

		if (rc <= 0)
			return rc;
		if (key.n < 4 || key.n > sizeof(at->b))
			return ERR_CORRUPT;
		at->n = key.n;
		memcpy(at->b, key.p, key.n);
		key = slice_of(at->b, at->n);
		if (row_site_decode(value, &site) < 0 || !site_matches(c, o, key))
			continue;
		rc = sites_order_apply(c, &o->o, at, &site);
		k->rows += rc > 0;
		if (rc < 0)
			return rc;
	}
	return 1;
}

/* What workers asked for is forgotten: a queue wakes when its first mail is due. */
static int wake_chunk(struct commit *c, struct commit_order *o, struct chunk *k)
{
	while (k->rows < CHUNK_ROWS && k->looks++ < CHUNK_LOOKS) {
		struct spool_key *at = &o->now.position;
		struct commit_qent *q;
		struct slice key, value;
		int rc = write_seek(c->w, SPOOL_WAKE, at, at->n > 0, &key, &value);

		if (rc <= 0)
			return rc;
		if (key.n != KEY_WAKE_SIZE)
			return ERR_CORRUPT;
		*at = key_wake(be32_get(key.p), be64_get(key.p + 4), be32_get(key.p + 12));
		q = cache_queue_by_id(c, be32_get(at->b + 12));
		if (!q || !queue_matches(c, o, q))
			continue;
		k->rows++;
		touch_due(c, q->id, q->vmta->id)->asked = 0;
		q->vmta->ring = true;
	}
	return 1;
}

/* --- a transaction's share --- */

static const struct {
	int (*run)(struct commit *c, struct commit_order *o, struct chunk *k);
	bool counts; /* rows are recipients: they go into the answer */
	enum stage next;
} stages[] = {
	[STAGE_TAKE] = {orders_take_chunk, true, STAGE_END},
	[STAGE_DUE] = {due_chunk, true, STAGE_SITES},
	[STAGE_SITES] = {site_chunk, false, STAGE_WAKES},
	[STAGE_WAKES] = {wake_chunk, false, STAGE_END},
};

static int finish_order(struct commit *c, struct commit_order *o)
{
	struct spool_key k = key_u64(o->o.id);

	o->now.finished = true;
	orders_changed(c);
	if (sites_order_stays(c, &o->o))
		return store_row(c, o);
	return write_delete(c->w, SPOOL_ORDER, &k);
}

static int run_order(struct commit *c, struct commit_order *o)
{
	struct chunk k = {.rows = 0};
	int rc = 1;

	c->result.wrote = true;
	if (o->now.stage != STAGE_END) {
		rc = stages[o->now.stage].run(c, o, &k);
		if (rc < 0)
			return rc;
		if (stages[o->now.stage].counts)
			o->now.done += k.rows;
		if (rc == 0) {
			o->now.stage = stages[o->now.stage].next;
			o->now.position.n = 0;
		}
	}
	if (o->now.stage == STAGE_END)
		return finish_order(c, o);
	c->result.more = true;
	return store_row(c, o);
}

/* One chunk of the first order whose workers have all answered. */
int standing_run(struct commit *c)
{
	struct commit_order *o;

	for (o = c->orders; o; o = o->next)
		if (o->stored && is_ready(c, o))
			return run_order(c, o);
	return 0;
}

bool standing_ready(struct commit *c)
{
	const struct commit_order *o;

	for (o = c->orders; o; o = o->next)
		if (o->stored && is_ready(c, o))
			return true;
	return false;
}

static void tell_workers(struct commit *c)
{
	uint32_t n = shm_workers_used(c->shm), slot;

	atomic_fetch_add(&shm_signals(c->shm)->order_seq, 1);
	for (slot = 0; slot < n && slot < c->o.bell_count; slot++)
		if (is_running(shm_worker(c->shm, slot)))
			bell_ring(c->o.bells[slot]);
}

static void answer_order(struct commit_order *o, bool more)
{
	struct commit_order_result r = {.more = more,
					.done = o->now.done,
					.held = HASH_COUNT(o->held),
					.matching = o->now.matching,
					.queues = o->now.queues,
					.removed = o->removed};

	if (o->answer)
		o->answer(o->arg, &r);
}

void standing_publish(struct commit *c)
{
	struct commit_order **at = &c->orders;

	while (*at) {
		struct commit_order *o = *at;

		bool moved = o->now.done != o->saved.done;

		o->stored = true;
		o->saved = o->now;
		if (!o->asked)
			ask_workers(c, o);
		if (!o->now.finished) {
			if (moved)
				answer_order(o, true);
			at = &o->next;
			continue;
		}
		*at = o->next;
		answer_order(o, false);
		order_free(o);
	}
	if (c->ask_again)
		atomic_fetch_add(&shm_signals(c->shm)->orders_asked_again, 1);
	if (c->orders_changed)
		tell_workers(c);
	c->orders_changed = c->ask_again = false;
}

void standing_abort(struct commit *c)
{
	struct commit_order **at = &c->orders;

	while (*at) {
		struct commit_order *o = *at;

		if (o->stored) {
			o->now = o->saved;
			at = &o->next;
			continue;
		}
		*at = o->next; /* the job that brought it runs again */
		order_free(o);
	}
}

void standing_free(struct commit *c)
{
	while (c->orders) {
		struct commit_order *o = c->orders;

		c->orders = o->next;
		order_free(o);
	}
}
