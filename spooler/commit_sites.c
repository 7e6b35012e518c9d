/*
 * commit_sites.c - orders about the mode and the source addresses of sites: which of them stay, which
 * take the place of others, and what they do to the rows of sites that no worker has in memory. Workers
 * have answered by then: what they have in memory is in its row already.
 */
#include "spooler/commit_private.h"

#include <stdlib.h>

/* Orders of these two kinds are about one thing: the first says it, the second takes it back. */
static const enum order_kind pairs[][2] = {
	{ORDER_BACKOFF, ORDER_NORMAL},
	{ORDER_DISABLE_SOURCE, ORDER_ENABLE_SOURCE},
};

/* NULL: of none. */
static const enum order_kind *pair_of(enum order_kind kind)
{
	for (size_t i = 0; i < ARRAY_SIZE(pairs); i++)
		if (pairs[i][0] == kind || pairs[i][1] == kind)
			return pairs[i];
	return NULL;
}

static bool takes_back(enum order_kind kind)
{
	return kind == ORDER_NORMAL || kind == ORDER_ENABLE_SOURCE;
}

bool sites_order_stands(const struct order *o, bool ended)
{
	if (o->kind == ORDER_PAUSE || o->kind == ORDER_BACKOFF || o->kind == ORDER_DISABLE_SOURCE)
		return true;
	return takes_back(o->kind) && ended;
}

static bool same_thing(const struct order *a, const struct order *b)
{
	return pair_of(a->kind) == pair_of(b->kind) && ip_eq(&a->source, &b->source);
}

/* Something for it to take back, in other queues too. 1, 0, or a negative err. */
static int has_counterpart(struct commit *c, const struct order *o)
{
	struct spool_key k = key_u64(0);
	struct slice key, value;
	int more;

	while ((more = write_seek(c->w, SPOOL_ORDER, &k, true, &key, &value)) > 0) {
		struct order_row row;

		k = key_u64(be64_get(key.p));
		if (row_order_decode(value, &row) == 0 && pair_of(row.order.kind) &&
		    !takes_back(row.order.kind) && same_thing(&row.order, o))
			return 1;
	}
	return more;
}

bool sites_order_stays(struct commit *c, const struct order *o)
{
	if (takes_back(o->kind))
		return has_counterpart(c, o) != 0;
	return sites_order_stands(o, true);
}

static bool is_replaced(const struct commit *c, const struct order *old, const struct order *by)
{
	if (old->kind == ORDER_DISABLE_SOURCE && old->until && old->until <= c->now)
		return true; /* its time has passed */
	return pair_of(old->kind) && same_thing(old, by) &&
	       (slice_ieq(old->filter.queue, by->filter.queue) ||
		order_pattern_match(by->filter.queue, old->filter.queue));
}

int sites_order_replace(struct commit *c, const struct order *o, uint64_t *ret_removed)
{
	struct spool_key k = key_u64(0);
	struct slice key, value;
	int more;

	if (!pair_of(o->kind))
		return 0;
	while ((more = write_seek(c->w, SPOOL_ORDER, &k, true, &key, &value)) > 0) {
		struct order_row row;
		int rc;

		k = key_u64(be64_get(key.p));
		if (row_order_decode(value, &row) < 0 || !is_replaced(c, &row.order, o) ||
		    commit_order_is_pending(c, be64_get(key.p)))
			continue;
		*ret_removed += !takes_back(row.order.kind);
		rc = write_delete(c->w, SPOOL_ORDER, &k);
		if (rc < 0)
			return rc;
	}
	return more;
}

/* --- rows of sites --- */

static bool go_normal(struct spool_site *site, const struct order *o)
{
	struct site_mode *m = &site->mode;

	if (m->mode == SITE_NORMAL || m->since > o->created)
		return false;
	m->mode = SITE_NORMAL;
	m->since = o->created;
	m->until = 0;
	m->order = o->id;
	m->reason = m->tempos = slice_of("", 0);
	return true;
}

static bool waits_for_source(const struct spool_site *site)
{
	static const struct slice text = SLICE_LIT(SITE_ALL_DISABLED);

	return memmem(site->reason.p, site->reason.n, text.p, text.n) != NULL;
}

/* The disabled ones without this one, in c->original. */
static bool enable_source(struct commit *c, struct spool_site *site, const struct order *o)
{
	struct slice list = site->mode.disabled;
	struct site_disabled x;
	bool found = false;

	buf_clear(&c->original);
	while (site_disabled_next(&list, &x)) {
		if (ip_eq(&x.ip, &o->source) && x.since <= o->created)
			found = true;
		else
			site_disabled_encode(&x, &c->original);
	}
	site->mode.disabled = buf_slice(&c->original);
	if (site->retry_at && waits_for_source(site)) {
		site->retry_at = 0;
		found = true;
	}
	return found;
}

static bool change(struct commit *c, struct spool_site *site, const struct order *o)
{
	if (o->kind == ORDER_NORMAL)
		return go_normal(site, o);
	if (o->kind == ORDER_ENABLE_SOURCE)
		return enable_source(c, site, o);
	if (!site->retry_at)
		return false;
	site->retry_at = 0;
	return true;
}

int sites_order_apply(struct commit *c, const struct order *o, const struct spool_key *at,
		      struct spool_site *site)
{
	int rc;

	if (!change(c, site, o))
		return 0;
	buf_clear(&c->value);
	row_site_encode(site, &c->value);
	rc = write_put(c->w, SPOOL_SITE, at, buf_slice(&c->value));
	return rc < 0 ? rc : 1;
}
