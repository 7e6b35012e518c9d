/*
 * commit_cold.c - cold virtual MTAs: the first recipients of each local day go through them, so that their
 * addresses become known.
 *
 * So many for each cold virtual MTA and site a day as max-cold-virtual-mta-msg of the warm queue says for
 * the first, second … day; the one that had fewest is next. A day counts when it had such mail. Counts are
 * stored by the transaction that takes the mail (table quota).
 */
#include "spooler/commit_private.h"

#include <stdlib.h>

#include "common/base/localday.h"
#include "common/conf/settings.h"
#include "common/spool/quota_row.h"

#define CACHE_MAX 65536

struct commit_cold {
	struct quota_cold row;
	bool dirty;
	struct commit_cold *next_changed;
	UT_hash_handle hh;
	size_t key_size;
	uint8_t key[];
};

static int load(struct commit *c, const struct spool_key *k, struct commit_cold **ret)
{
	struct quota_cold row = {.day = 0};
	struct commit_cold *x;
	struct slice v;
	int rc = write_get(c->w, SPOOL_QUOTA, k, &v);

	if (rc == 0)
		rc = quota_cold_decode(v, &row);
	if (rc < 0 && rc != ERR_NOT_FOUND)
		return rc;
	x = xcalloc(1, sizeof(*x) + k->n);
	x->row = row;
	x->key_size = k->n;
	memcpy(x->key, k->b, k->n);
	HASH_ADD_KEYPTR(hh, c->colds, x->key, x->key_size, x);
	*ret = x;
	return 0;
}

static int count_of(struct commit *c, const struct commit_vmta *v, struct slice site,
		    struct commit_cold **ret)
{
	struct spool_key k = quota_cold_key(v->id, site);

	HASH_FIND(hh, c->colds, k.b, k.n, *ret);
	return *ret ? 0 : load(c, &k, ret);
}

/* The step that today is, whether it had mail yet or not. */
static uint32_t step_today(const struct commit_cold *x, uint32_t day)
{
	return day > x->row.day ? x->row.step + 1 : x->row.step;
}

static uint64_t count_today(const struct commit_cold *x, uint32_t day)
{
	return day > x->row.day ? 0 : x->row.count;
}

static uint64_t most_of(const struct conf_per_day *list, uint32_t step)
{
	return list->v[step < list->n ? step - 1 : list->n - 1];
}

static void count_one(struct commit *c, struct commit_cold *x, uint32_t day)
{
	if (day > x->row.day) { /* it never goes back */
		x->row.day = day;
		x->row.step++;
		x->row.count = 0;
	}
	x->row.count++;
	if (x->dirty)
		return;
	x->dirty = true;
	x->next_changed = c->cold_changed;
	c->cold_changed = x;
}

/* The one with room that took fewest today; *ret stays where none has any. */
static int choose(struct commit *c, const struct conf_vmtas *list, const struct commit_qent *warm,
		  struct slice site, const struct conf_per_day *most, struct commit_vmta **ret)
{
	uint32_t day = localday_of(c->now);
	struct commit_cold *best = NULL, *x = NULL;
	struct commit_vmta *v;
	size_t i;

	for (i = 0; i < list->n; i++) {
		int rc = cache_vmta_by_name(c, slice_str(list->v[i]->name), &v);

		if (rc == 0)
			rc = count_of(c, v, site, &x);
		if (rc)
			return rc;
		if (v == warm->vmta || count_today(x, day) >= most_of(most, step_today(x, day)) ||
		    (best && count_today(x, day) >= count_today(best, day)) ||
		    health_is_disabled(c, v, warm->domain))
			continue;
		best = x;
		*ret = v;
	}
	if (best)
		count_one(c, best, day);
	return 0;
}

static bool is_zero(const struct conf_per_day *list)
{
	size_t i = 0;

	while (i < list->n && list->v[i] == 0)
		i++;
	return i == list->n;
}

static const struct conf_vmtas *list_for(const struct commit_route *r, const struct commit_vmta *v)
{
	/* No names: nothing is set, or its own "" takes back what its pool says. */
	if (!v->conf || !v->conf->cold_virtual_mta.n)
		return NULL;
	if (v->conf->cold.n)
		return &v->conf->cold;
	return r->pool && r->pool->cold.n ? &r->pool->cold : NULL;
}

int cold_choose(struct commit *c, const struct commit_route *r, struct commit_qent **q)
{
	const struct conf_vmtas *list = list_for(r, (*q)->vmta);
	const struct conf_per_day *most = &(*q)->settings->max_cold_virtual_mta_msg;
	struct commit_vmta *v = (*q)->vmta;
	struct slice site;
	int rc;

	if (!list || is_zero(most))
		return 0;
	site = health_site(c, v, (*q)->domain);
	rc = choose(c, list, *q, site, most, &v);
	return rc < 0 || v == (*q)->vmta ? rc : cache_queue(c, v, (*q)->domain, q);
}

int cold_store(struct commit *c)
{
	struct commit_cold *x;
	int rc = 0;

	while (rc == 0 && (x = c->cold_changed)) {
		struct spool_key k;

		c->cold_changed = x->next_changed;
		x->dirty = false;
		k.n = x->key_size;
		memcpy(k.b, x->key, x->key_size);
		buf_clear(&c->value);
		quota_cold_encode(&x->row, &c->value);
		rc = write_put(c->w, SPOOL_QUOTA, &k, buf_slice(&c->value));
	}
	return rc;
}

void cold_forget(struct commit *c)
{
	struct commit_cold *x, *next;

	HASH_ITER(hh, c->colds, x, next) {
		HASH_DEL(c->colds, x);
		free(x);
	}
	c->cold_changed = NULL;
}

void cold_trim(struct commit *c)
{
	if (HASH_COUNT(c->colds) > CACHE_MAX)
		cold_forget(c);
}
