/*
 * commit_cache.c - rows that every message needs: virtual MTAs, queues, pools. Filled from the
 * spool, or made in the transaction under way. After a failed transaction everything is forgotten.
 */
#include "spooler/commit_private.h"

#include <stdlib.h>

static struct commit_vmta *vmta_add(struct commit *c, uint32_t id, struct slice name)
{
	struct commit_vmta *v = xcalloc(1, sizeof(*v));

	v->id = id;
	v->name = slice_dup(name);
	v->conf = conf_vmta_find(c->conf, name);
	HASH_ADD(by_id, c->vmta_by_id, id, sizeof(v->id), v);
	HASH_ADD_KEYPTR(by_name, c->vmta_by_name, v->name, strlen(v->name), v);
	return v;
}

static int vmta_make(struct commit *c, struct slice name, struct commit_vmta **ret)
{
	struct spool_vmta row = {.id = c->n.next_vmta++, .name = name};
	struct spool_key k = key_u32(row.id);
	int rc;

	buf_clear(&c->value);
	row_vmta_encode(&row, &c->value);
	rc = write_put(c->w, SPOOL_VMTA, &k, buf_slice(&c->value));
	c->result.wrote = true;
	if (rc == 0)
		*ret = vmta_add(c, row.id, name);
	return rc;
}

int cache_vmta_by_name(struct commit *c, struct slice name, struct commit_vmta **ret)
{
	struct commit_vmta *v;
	uint32_t id;
	int rc;

	HASH_FIND(by_name, c->vmta_by_name, name.p, name.n, v);
	if (v) {
		*ret = v;
		return 0;
	}
	rc = spool_vmta_find(write_read(c->w), name, &id);
	if (rc == ERR_NOT_FOUND)
		return vmta_make(c, name, ret);
	if (rc == 0)
		*ret = cache_vmta_by_id(c, id); /* its name may be written otherwise there */
	return rc == 0 && !*ret ? ERR_CORRUPT : rc;
}

struct commit_vmta *cache_vmta_by_id(struct commit *c, uint32_t id)
{
	struct spool_vmta row;
	struct commit_vmta *v;

	HASH_FIND(by_id, c->vmta_by_id, &id, sizeof(id), v);
	if (v)
		return v;
	if (spool_vmta_get(write_read(c->w), id, &row) < 0)
		return NULL;
	return vmta_add(c, id, row.name);
}

/* What applies to it now: of its provider, as far as that is known. */
static void queue_settle(struct commit *c, struct commit_qent *q)
{
	struct slice vmta = slice_str(q->vmta->name);
	struct slice said =
		conf_provider_count(c->conf) ? cache_queue_provider(c, q) : slice_str("");

	q->rolled = conf_provider_of_queue(c->conf, q->domain, vmta, said);
	q->settings = conf_queue_settings(c->conf, q->rolled, q->domain, vmta);
}

static struct commit_qent *queue_add(struct commit *c, struct commit_vmta *v, struct slice domain,
				     uint32_t id)
{
	size_t size = sizeof(v->id) + domain.n;
	struct commit_qent *q = xcalloc(1, sizeof(*q) + size);

	memcpy(q->key, &v->id, sizeof(v->id));
	if (domain.n)
		memcpy(q->key + sizeof(v->id), domain.p, domain.n);
	q->key_size = size;
	q->domain = slice_of(q->key + sizeof(v->id), domain.n);
	q->vmta = v;
	q->id = id;
	queue_settle(c, q);
	HASH_ADD_KEYPTR(by_name, c->queue_by_name, q->key, q->key_size, q);
	if (id)
		HASH_ADD(by_id, c->queue_by_id, id, sizeof(q->id), q);
	return q;
}

static struct commit_qent *queue_find(struct commit *c, const struct commit_vmta *v,
				      struct slice domain)
{
	char key[sizeof(v->id) + SPOOL_NAME_KEY_MAX];
	struct commit_qent *q;

	memcpy(key, &v->id, sizeof(v->id));
	if (domain.n)
		memcpy(key + sizeof(v->id), domain.p, domain.n);
	HASH_FIND(by_name, c->queue_by_name, key, sizeof(v->id) + domain.n, q);
	return q;
}

int cache_queue(struct commit *c, struct commit_vmta *v, struct slice domain,
		struct commit_qent **ret)
{
	struct commit_qent *q;
	uint32_t id = 0;
	int rc;

	domain = slice_sub(domain, 0, SPOOL_NAME_KEY_MAX);
	q = queue_find(c, v, domain);
	if (!q) {
		rc = spool_queue_find(write_read(c->w), v->id, domain, &id);
		if (rc < 0 && rc != ERR_NOT_FOUND)
			return rc;
		q = queue_add(c, v, domain, id);
	}
	*ret = q;
	return 0;
}

int cache_queue_need_id(struct commit *c, struct commit_qent *q)
{
	struct spool_queue row = {.id = c->n.next_queue,
				  .vmta = q->vmta->id,
				  .domain = q->domain,
				  .day = commit_day(c->now)};
	struct spool_key k = key_u32(row.id), name = key_u32_name(row.vmta, q->domain);
	int rc;

	if (q->id)
		return 0;
	buf_clear(&c->value);
	row_queue_encode(&row, &c->value);
	rc = write_put(c->w, SPOOL_QUEUE, &k, buf_slice(&c->value));
	if (rc < 0)
		return rc;
	buf_clear(&c->value);
	row_number_encode(row.id, &c->value);
	rc = write_put(c->w, SPOOL_QUEUE_NAME, &name, buf_slice(&c->value));
	if (rc < 0)
		return rc;
	c->result.wrote = true;
	c->n.next_queue++;
	q->id = row.id;
	q->day = row.day;
	HASH_ADD(by_id, c->queue_by_id, id, sizeof(q->id), q);
	return 0;
}

struct commit_qent *cache_queue_by_id(struct commit *c, uint32_t id)
{
	struct spool_queue row;
	struct commit_vmta *v;
	struct commit_qent *q;
	struct spool_key k = key_u32(id);
	struct slice value;

	HASH_FIND(by_id, c->queue_by_id, &id, sizeof(id), q);
	if (q)
		return q;
	if (write_get(c->w, SPOOL_QUEUE, &k, &value) < 0 || row_queue_decode(value, &row) < 0)
		return NULL;
	v = cache_vmta_by_id(c, row.vmta);
	return v ? queue_add(c, v, row.domain, id) : NULL;
}

int cache_queue_stamp(struct commit *c, uint32_t id)
{
	struct commit_qent *q = cache_queue_by_id(c, id);
	struct spool_key k = key_u32(id);
	uint32_t today = commit_day(c->now);
	struct spool_queue row;
	int rc;

	if (!q || q->day == today)
		return 0;
	rc = spool_queue_get(write_read(c->w), id, &row);
	if (rc < 0)
		return rc;
	q->day = today;
	if (row.day == today)
		return 0;
	row.day = today;
	buf_clear(&c->value);
	row_queue_encode(&row, &c->value);
	return write_put(c->w, SPOOL_QUEUE, &k, buf_slice(&c->value));
}

struct slice cache_queue_provider(struct commit *c, struct commit_qent *q)
{
	struct spool_queue row;

	if (!q->provider && q->id && spool_queue_get(write_read(c->w), q->id, &row) == 0)
		q->provider = slice_dup(row.provider);
	return slice_str(q->provider ? q->provider : "");
}

int apply_member(struct commit *c, const struct report_member *m)
{
	struct commit_qent *q = cache_queue_by_id(c, m->queue);
	struct spool_key k = key_u32(m->queue);
	struct spool_queue row;
	int rc;

	if (!q)
		return 0;
	rc = spool_queue_get(write_read(c->w), m->queue, &row);
	if (rc < 0)
		return rc == ERR_NOT_FOUND ? 0 : rc;
	free(q->provider);
	q->provider = slice_dup(m->provider);
	queue_settle(c, q);
	row.provider = m->provider;
	buf_clear(&c->value);
	row_queue_encode(&row, &c->value);
	return write_put(c->w, SPOOL_QUEUE, &k, buf_slice(&c->value));
}

static void queue_free(struct commit_qent *q)
{
	free(q->provider);
	free(q->reroute);
	free(q);
}

void cache_queue_drop(struct commit *c, uint32_t id)
{
	struct commit_qent *q;

	HASH_FIND(by_id, c->queue_by_id, &id, sizeof(id), q);
	if (!q)
		return;
	HASH_DELETE(by_id, c->queue_by_id, q);
	HASH_DELETE(by_name, c->queue_by_name, q);
	queue_free(q);
}

int cache_route(struct commit *c, const char *name, struct commit_route **ret)
{
	const struct conf_pool *pool;
	struct commit_vmta *v = NULL;
	struct commit_route *r;
	int rc;

	HASH_FIND_STR(c->routes, name, r);
	if (r) {
		*ret = r;
		return 0;
	}
	pool = conf_pool_find(c->conf, slice_str(name));
	if (pool && strcmp(pool->name, name) != 0) /* one of its spellings has the turn */
		return cache_route(c, pool->name, ret);
	if (pool && pool->member_count == 0)
		return ERR_NOT_FOUND;
	if (!pool) {
		if (!conf_vmta_find(c->conf, slice_str(name)))
			return ERR_NOT_FOUND;
		rc = cache_vmta_by_name(c, slice_str(name), &v);
		if (rc < 0)
			return rc;
	}
	r = xcalloc(1, sizeof(*r));
	r->name = xstrdup(name);
	r->pool = pool;
	r->vmta = v;
	HASH_ADD_KEYPTR(hh, c->routes, r->name, strlen(r->name), r);
	*ret = r;
	return 0;
}

int cache_route_next(struct commit *c, struct commit_route *r, const struct pool_wish *wish,
		     struct commit_vmta **ret)
{
	unsigned i;

	if (r->pool)
		return pool_pick(c, r, wish, ret);
	for (i = 0; i < wish->not_count; i++)
		if (wish->not_in[i] == r->vmta->id)
			return ERR_NOT_FOUND;
	*ret = r->vmta;
	return 0;
}

int cache_store_turns(struct commit *c)
{
	struct commit_route *r, *next;
	int rc;

	HASH_ITER(hh, c->routes, r, next) {
		rc = pool_store(c, r->state);
		if (rc < 0)
			return rc;
	}
	return cold_store(c);
}

static void forget_queues(struct commit *c)
{
	struct commit_qent *q, *next;

	HASH_CLEAR(by_id, c->queue_by_id);
	HASH_ITER(by_name, c->queue_by_name, q, next) {
		HASH_DELETE(by_name, c->queue_by_name, q);
		queue_free(q);
	}
}

void cache_forget_routes(struct commit *c)
{
	struct commit_route *r, *next;

	HASH_ITER(hh, c->routes, r, next) {
		HASH_DEL(c->routes, r);
		pool_free(r->state);
		free(r->name);
		free(r);
	}
}

void cache_trim(struct commit *c)
{
	if (HASH_CNT(by_name, c->queue_by_name) > QUEUE_CACHE_MAX)
		forget_queues(c);
	cold_trim(c);
}

void cache_forget(struct commit *c)
{
	struct commit_vmta *v, *next;

	cache_forget_routes(c);
	cold_forget(c);
	health_forget(c);
	forget_queues(c);
	HASH_CLEAR(by_id, c->vmta_by_id);
	HASH_ITER(by_name, c->vmta_by_name, v, next) {
		HASH_DELETE(by_name, c->vmta_by_name, v);
		free(v->name);
		free(v);
	}
}
