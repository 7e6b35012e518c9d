#include "spooler/commit_private.h"

#include <stdlib.h>
#include <unistd.h>

#include "common/base/fd.h"

void *commit_keep(struct commit *c, const void *p, size_t n)
{
	if (c->kept_count == c->kept_cap) {
		c->kept_cap = c->kept_cap ? 2 * c->kept_cap : 64;
		c->kept = xreallocarray(c->kept, c->kept_cap, sizeof(*c->kept));
	}
	return c->kept[c->kept_count++] = xmemdup(p, n ? n : 1);
}

struct slice commit_keep_slice(struct commit *c, struct slice s)
{
	return s.n ? slice_of(commit_keep(c, s.p, s.n), s.n) : slice_of("", 0);
}

void commit_unlink_later(struct commit *c, uint64_t msgid)
{
	if (c->unlink_count == c->unlink_cap) {
		c->unlink_cap = c->unlink_cap ? 2 * c->unlink_cap : 16;
		c->unlinks = xreallocarray(c->unlinks, c->unlink_cap, sizeof(*c->unlinks));
	}
	c->unlinks[c->unlink_count++] = msgid;
}

int commit_outbox(struct commit *c, const struct acct_record *r)
{
	struct spool_key k = key_u64(c->n.next_outbox++);

	buf_clear(&c->value);
	acct_record_encode(r, &c->value);
	c->result.outbox = true;
	return write_put(c->w, SPOOL_OUTBOX, &k, buf_slice(&c->value));
}

static int store_numbers(struct commit *c)
{
	struct spool_key k = key_name(slice_str(STATE_NUMBERS));

	buf_clear(&c->value);
	row_numbers_encode(&c->n, &c->value);
	return write_put(c->w, SPOOL_STATE, &k, buf_slice(&c->value));
}

static int load_numbers(struct commit *c)
{
	struct spool_read *r;
	struct slice v;
	int rc = spool_read_begin(c->spool, &r);

	if (rc < 0)
		return rc;
	rc = spool_state_get(r, slice_str(STATE_NUMBERS), &v);
	if (rc == 0)
		rc = row_numbers_decode(v, &c->n);
	else if (rc == ERR_NOT_FOUND)
		rc = 0;
	spool_read_end(r);
	return rc;
}

static void publish_numbers(struct commit *c)
{
	counter_set(c->counters, COUNTER_QUEUED_MESSAGES, c->n.messages);
	counter_set(c->counters, COUNTER_QUEUED_RECIPIENTS, c->n.recipients);
	counter_set(c->counters, COUNTER_QUEUED_BYTES, c->n.bytes);
	counter_set(c->counters, COUNTER_ACCT_WAITING, commit_last_outbox(c) - c->outbox_dropped);
}

static int txn_begin(struct commit *c)
{
	cache_trim(c);
	c->now = clock_wall();
	c->saved = c->n;
	c->result = (struct commit_result){.messages = 0};
	c->received_messages = c->received_recipients = c->received_bytes = 0;
	c->ended_delivered = c->ended_bounced = 0;
	return spool_write_begin(c->spool, &c->w);
}

static void txn_forget(struct commit *c)
{
	size_t i;

	for (i = 0; i < c->kept_count; i++)
		free(c->kept[i]);
	c->kept_count = 0;
	c->unlink_count = 0;
	c->subject.loaded = false;
	c->subject.dsn_count = 0;
	touch_forget(c);
}

static void txn_abort(struct commit *c)
{
	spool_write_abort(c->w);
	c->w = NULL;
	c->n = c->saved;
	rings_abort(c);
	commit_rates_abort(c);
	standing_abort(c);
	txn_forget(c);
	cache_forget(c);
	counter_add(c->counters, COUNTER_COMMIT_FAILURES, 1);
}

static void unlink_big(struct commit *c)
{
	char path[4096];
	size_t i;

	for (i = 0; i < c->unlink_count; i++) {
		spool_big_path(c->spool, c->unlinks[i], path, sizeof(path));
		(void)unlink(path); /* one that stays is removed at the next start */
	}
}

static void ring_vmtas(struct commit *c)
{
	struct commit_vmta *v, *next;

	HASH_ITER(by_id, c->vmta_by_id, v, next) {
		int32_t slot;

		if (!v->ring)
			continue;
		v->ring = false;
		slot = shm_worker_by_vmta(c->shm, v->id);
		if (slot >= 0 && (size_t)slot < c->o.bell_count)
			bell_ring(c->o.bells[slot]);
	}
}

static void count_commit(struct commit *c, usec_t took)
{
	struct shm_counters *n = c->counters;

	counter_add(n, COUNTER_COMMITS, 1);
	counter_add(n, COUNTER_COMMIT_MESSAGES, c->result.messages);
	counter_add(n, COUNTER_COMMIT_OUTCOMES, c->result.outcomes);
	counter_add(n, COUNTER_COMMIT_USEC, took);
	counter_add(n, COUNTER_RECEIVED_MESSAGES, c->received_messages);
	counter_add(n, COUNTER_RECEIVED_RECIPIENTS, c->received_recipients);
	counter_add(n, COUNTER_RECEIVED_BYTES, c->received_bytes);
	counter_add(n, COUNTER_DELIVERED_RECIPIENTS, c->ended_delivered);
	counter_add(n, COUNTER_BOUNCED_RECIPIENTS, c->ended_bounced);
	publish_numbers(c);
	atomic_fetch_add(&shm_signals(c->shm)->commit_seq, 1);
}

/* Everything that may be seen only once it is durable. */
static void txn_publish(struct commit *c, usec_t began)
{
	wake_publish(c);
	rings_publish(c);
	commit_rates_publish(c);
	unlink_big(c);
	txn_forget(c);
	count_commit(c, clock_now() - began);
	ring_vmtas(c);
	standing_publish(c);
}

/* Stores what was gathered in memory, and syncs. */
static int txn_commit(struct commit *c)
{
	usec_t began = clock_now();
	struct spool_write *w;
	int rc = wake_store(c);

	if (rc == 0)
		rc = cache_store_turns(c);
	if (rc == 0)
		rc = rings_store(c);
	if (rc == 0)
		rc = commit_rates_store(c);
	if (rc == 0)
		rc = store_numbers(c);
	if (rc < 0)
		return rc;
	w = c->w;
	c->w = NULL;
	rc = spool_write_commit(w);
	if (rc == 0)
		txn_publish(c, began);
	return rc;
}

static int run_jobs(struct commit *c, struct commit_job *jobs, struct commit_job **ret_done,
		    struct commit_job **ret_left)
{
	struct commit_job **done = ret_done, **left = ret_left, *j, *next;

	for (j = jobs; j; j = next) {
		int rc = j->run(c, c->w, j);

		next = j->next;
		if (rc < 0)
			return rc;
		if (rc == 0) {
			*done = j;
			done = &j->next;
		} else {
			*left = j;
			left = &j->next;
			c->result.more = true;
		}
		c->result.wrote = true;
	}
	*done = *left = NULL;
	return 0;
}

/* Messages are handed back in the order of their arrival. */
static void hand_back(struct intake_message *list, const struct intake_message *end, int rc)
{
	while (list != end) {
		struct intake_message *next = list->next;

		list->next = NULL;
		if (rc < 0)
			list->result = rc;
		list->done(list);
		list = next;
	}
}

static void finish_jobs(struct commit_job *list)
{
	while (list) {
		struct commit_job *next = list->next;

		list->next = NULL;
		if (list->done)
			list->done(list);
		list = next;
	}
}

/* Runs the jobs on a copy of their order, so that a failed transaction leaves the list as it was. */
static int batch_jobs(struct commit *c, struct commit_job **jobs, struct commit_job **ret_done,
		      struct commit_job **ret_left)
{
	struct commit_job *j, **order = NULL;
	size_t n = 0, i;
	int rc;

	for (j = *jobs; j; j = j->next)
		n++;
	order = xmalloc((n + 1) * sizeof(struct commit_job *));
	for (j = *jobs, i = 0; j; j = j->next)
		order[i++] = j;
	rc = run_jobs(c, *jobs, ret_done, ret_left);
	if (rc < 0) {
		for (i = 0; i < n; i++)
			order[i]->next = i + 1 < n ? order[i + 1] : NULL;
		*ret_done = *ret_left = NULL;
	}
	free(order);
	return rc;
}

/* Puts lists that run_jobs() has parted together again. */
static struct commit_job *join(struct commit_job *a, struct commit_job *b)
{
	struct commit_job **end = &a;

	while (*end)
		end = &(*end)->next;
	*end = b;
	return a;
}

int commit_batch(struct commit *c, struct intake_message **messages, struct commit_job **jobs,
		 struct commit_result *ret)
{
	struct intake_message *rest = *messages, *first = *messages;
	struct commit_job *done = NULL, *left = NULL;
	bool parted = false;
	int rc = txn_begin(c);

	if (rc == 0)
		rc = rings_collect(c);
	if (rc == 0)
		rc = intake_messages(c, first, &rest);
	if (rc == 0)
		rc = standing_run(c);
	if (rc == 0) {
		rc = batch_jobs(c, jobs, &done, &left);
		parted = rc == 0;
	}
	if (rc == 0 && !c->result.wrote && !commit_rates_due(c)) {
		spool_write_abort(c->w);
		c->w = NULL;
		txn_forget(c);
		rings_publish(c);
		if (c->orders_changed) /* after a start: workers must be asked again */
			standing_publish(c);
	} else if (rc == 0) {
		rc = txn_commit(c);
	}
	*messages = rest;
	if (rc < 0) {
		txn_abort(c);
		if (parted)
			*jobs = join(done, left);
		hand_back(first, rest, rc);
		return rc;
	}
	*jobs = left;
	*ret = c->result;
	ret->more = ret->more || rest || standing_ready(c);
	hand_back(first, rest, 0);
	finish_jobs(done);
	return 0;
}

int commit_count_crash(struct commit *c, struct spool_write *w, uint64_t msgid)
{
	struct spool_key k = key_u64(msgid);
	struct spool_message m;
	int rc = spool_message_get(write_read(w), msgid, &m);

	if (rc < 0)
		return rc == ERR_NOT_FOUND ? 0 : rc;
	m.crashes++;
	buf_clear(&c->value);
	row_message_encode(&m, &c->value);
	return write_put(w, SPOOL_MESSAGE, &k, buf_slice(&c->value));
}

int commit_vmtas(struct commit *c)
{
	size_t i, n = conf_vmta_count(c->conf);
	int rc = txn_begin(c);

	for (i = 0; rc == 0 && i < n; i++) {
		struct commit_vmta *v;

		rc = cache_vmta_by_name(c, slice_str(conf_vmta_at(c->conf, i)->name), &v);
	}
	if (rc == 0)
		rc = txn_commit(c);
	if (rc < 0)
		txn_abort(c);
	return rc;
}

int commit_finish(struct commit *c)
{
	int rc = txn_begin(c);

	if (rc == 0)
		rc = commit_rates_close(c);
	if (rc == 0)
		rc = txn_commit(c);
	if (rc < 0)
		txn_abort(c);
	return rc;
}

void commit_set_conf(struct commit *c, const struct conf *conf)
{
	c->conf = conf;
	cache_forget(c);
}

static bool vmta_has_mail(struct spool_read *r, uint32_t vmta)
{
	struct spool_fresh_row row;
	uint8_t class;

	if (spool_wake_first(r, vmta) != UINT64_MAX)
		return true;
	for (class = 0; class < SPOOL_CLASSES; class ++) {
		struct spool_fresh_pos pos = {.started = false};

		if (spool_fresh_scan(r, vmta, class, &pos, &row, 1))
			return true;
	}
	return false;
}

size_t commit_orphans(struct commit *c, char ***ret)
{
	struct spool_read *r;
	struct spool_vmta m;
	uint32_t after = 0;
	char **v = NULL;
	size_t n = 0;

	if (spool_read_begin(c->spool, &r) < 0)
		return 0;
	while (spool_vmta_next(r, &after, &m) > 0) {
		if (conf_vmta_find(c->conf, m.name) || !vmta_has_mail(r, m.id))
			continue;
		v = xreallocarray(v, n + 1, sizeof(*v));
		v[n++] = slice_dup(m.name);
	}
	spool_read_end(r);
	*ret = v;
	return n;
}

uint64_t commit_last_msgid(const struct commit *c)
{
	return c->n.last_msgid;
}

uint64_t commit_last_outbox(const struct commit *c)
{
	return c->n.next_outbox - 1;
}

uint64_t commit_live_bytes(const struct commit *c)
{
	return c->n.bytes;
}

struct spool *commit_spool(struct commit *c)
{
	return c->spool;
}

void commit_outbox_dropped(struct commit *c, uint64_t through)
{
	if (through <= c->outbox_dropped)
		return;
	counter_add(c->counters, COUNTER_ACCT_RECORDS, through - c->outbox_dropped);
	c->outbox_dropped = through;
	publish_numbers(c);
}

/* How far accounting is: the rows before the first one that is left are in their files. */
static int load_outbox(struct commit *c)
{
	struct spool_read *r;
	struct slice record;
	uint64_t first = 0;
	int rc = spool_read_begin(c->spool, &r);

	if (rc < 0)
		return rc;
	rc = spool_outbox_next(r, &first, &record);
	spool_read_end(r);
	if (rc >= 0)
		c->outbox_dropped = rc > 0 ? first - 1 : commit_last_outbox(c);
	return rc < 0 ? rc : 0;
}

static int recover(struct commit *c)
{
	int rc = load_numbers(c);

	if (rc == 0)
		rc = load_outbox(c);
	if (rc == 0)
		rc = wake_load(c);
	if (rc == 0)
		rc = rings_load(c);
	if (rc == 0)
		rc = commit_rates_load(c);
	if (rc == 0)
		rc = standing_load(c);
	return rc;
}

int commit_new(const struct commit_options *o, struct commit **ret, char **ret_error)
{
	struct commit *c = xcalloc(1, sizeof(*c));
	int rc;

	c->o = *o;
	c->spool = o->spool;
	c->shm = o->shm;
	c->conf = o->conf;
	c->counters = shm_spooler_counters(o->shm);
	c->n = (struct spool_numbers){.next_arrival = 1,
				      .next_outbox = 1,
				      .next_dsn = 1,
				      .next_order = 1,
				      .next_queue = 1,
				      .next_vmta = 1};
	rc = recover(c);
	if (rc < 0) {
		*ret_error = xasprintf("%s: the spool cannot be read: %s; keep a copy and run "
				       "sluice spool check",
				       spool_dir(o->spool), err_text(rc));
		commit_free(c);
		return rc;
	}
	recount_start(c);
	publish_numbers(c);
	*ret = c;
	return 0;
}

void commit_free(struct commit *c)
{
	if (!c)
		return;
	standing_free(c);
	txn_forget(c);
	cache_forget(c);
	wake_map_done(&c->wakes);
	buf_done(&c->value);
	buf_done(&c->row);
	buf_done(&c->scratch);
	buf_done(&c->original);
	buf_done(&c->subject.row);
	free(c->subject.dsn);
	free(c->kept);
	free(c->unlinks);
	free(c->rings);
	free(c->rates.rows);
	free(c);
}
