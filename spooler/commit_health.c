/*
 * commit_health.c - what the committer knows of a virtual MTA at a destination: the site row that its worker
 * has stored. A domain that is rolled up by its MX is known as such from the time on that the worker of its
 * queue has said so; one that a provider names (`domains`) always. One whose settings let it keep its own
 * site never belongs to one.
 *
 * That sources are disabled is rare: which rows say so, and what operators have ordered, is kept in memory,
 * so that it costs no look-up for each recipient.
 */
#include "spooler/commit_private.h"

#include <stdlib.h>

#include "common/conf/settings.h"
#include "common/spool/order.h"
#include "common/spool/site_mode.h"

/* A site row with disabled sources. Key: virtual MTA u32 and name. */
struct commit_ill {
	UT_hash_handle hh;
	size_t key_size;
	char key[];
};

/* An operator's order that stands. */
struct commit_source_order {
	struct ip source;
	bool disables; /* else it takes that back */
	msec_t until; /* 0: until it is enabled */
	char *queue; /* pattern */
};

struct slice health_site(struct commit *c, struct commit_vmta *v, struct slice domain)
{
	struct commit_qent *q;

	if (cache_queue(c, v, domain, &q) == 0 && q->rolled)
		return slice_str(q->rolled->rollup);
	return domain;
}

static struct commit_ill *find(struct commit *c, const struct spool_key *k)
{
	struct commit_ill *x;

	HASH_FIND(hh, c->ill, k->b, k->n, x);
	return x;
}

static void add(struct commit *c, const struct spool_key *k)
{
	struct commit_ill *x;

	if (find(c, k))
		return;
	x = xcalloc(1, sizeof(*x) + k->n);
	memcpy(x->key, k->b, k->n);
	x->key_size = k->n;
	HASH_ADD_KEYPTR(hh, c->ill, x->key, x->key_size, x);
}

void health_orders_changed(struct commit *c)
{
	for (size_t i = 0; i < c->source_order_count; i++)
		free(c->source_orders[i].queue);
	free(c->source_orders);
	c->source_orders = NULL;
	c->source_order_count = 0;
	c->source_orders_known = false;
}

void health_forget(struct commit *c)
{
	struct commit_ill *x, *next;

	health_orders_changed(c);
	HASH_ITER(hh, c->ill, x, next) {
		HASH_DEL(c->ill, x);
		free(x);
	}
	c->ill_known = false;
}

void health_note(struct commit *c, const struct spool_key *k, bool disabled)
{
	struct commit_ill *x = find(c, k);

	if (disabled) {
		add(c, k);
	} else if (x) {
		HASH_DEL(c->ill, x);
		free(x);
	}
}

/* All site rows, once after a start or a transaction that failed. */
static void learn(struct commit *c)
{
	struct spool_key k = key_name(slice_of("", 0));
	struct slice key, value;
	struct spool_site site;

	c->ill_known = true;
	while (write_seek(c->w, SPOOL_SITE, &k, k.n > 0, &key, &value) > 0) {
		if (key.n > sizeof(k.b))
			return;
		k.n = key.n;
		memcpy(k.b, key.p, key.n);
		if (row_site_decode(value, &site) == 0 && site.mode.disabled.n)
			add(c, &k);
	}
}

static void learn_orders(struct commit *c)
{
	struct order o;
	uint64_t after = 0;

	c->source_orders_known = true;
	while (spool_order_next(write_read(c->w), &after, &o) > 0) {
		if (o.kind != ORDER_DISABLE_SOURCE && o.kind != ORDER_ENABLE_SOURCE)
			continue;
		c->source_orders = xreallocarray(c->source_orders, c->source_order_count + 1,
						 sizeof(*c->source_orders));
		c->source_orders[c->source_order_count++] =
			(struct commit_source_order){.source = o.source,
						     .disables = o.kind == ORDER_DISABLE_SOURCE,
						     .until = o.until,
						     .queue = slice_dup(o.filter.queue)};
	}
}

static bool is_over(const struct commit *c, msec_t until)
{
	return until && until <= c->now;
}

static bool by_reply(const struct commit *c, struct slice list, const struct ip *ip)
{
	struct site_disabled x;

	while (site_disabled_next(&list, &x))
		if (ip_eq(&x.ip, ip) && !is_over(c, x.until))
			return true;
	return false;
}

/* The last order that matches decides. */
static bool by_order(const struct commit *c, const struct order_queue *names, const struct ip *ip)
{
	bool disabled = false;

	for (size_t i = 0; i < c->source_order_count; i++) {
		const struct commit_source_order *o = &c->source_orders[i];

		if (ip_eq(&o->source, ip) && !is_over(c, o->until) &&
		    order_queue_match(slice_str(o->queue), names))
			disabled = o->disables;
	}
	return disabled;
}

bool health_all_well(struct commit *c)
{
	if (!c->ill_known)
		learn(c);
	if (!c->source_orders_known)
		learn_orders(c);
	return !c->ill && !c->source_order_count;
}

/* Those that replies have disabled. */
static struct slice disabled_list(struct commit *c, const struct commit_vmta *v, struct slice site)
{
	struct spool_key k = key_u32_name(v->id, site);
	struct spool_site row;

	if (!find(c, &k) || spool_site_get(write_read(c->w), v->id, site, &row) < 0)
		return slice_of("", 0);
	return row.mode.disabled;
}

bool health_is_disabled(struct commit *c, struct commit_vmta *v, struct slice domain)
{
	struct order_queue names = {.domain = domain, .vmta = slice_str(v->name)};
	size_t n = v->conf ? v->conf->smtp_source_host.n : 0, i;
	struct slice site, list;

	if (n == 0 || health_all_well(c))
		return false;
	site = health_site(c, v, domain);
	if (!slice_eq(site, domain))
		names.provider = site;
	list = disabled_list(c, v, site);
	for (i = 0; i < n; i++) {
		const struct ip *ip = &v->conf->smtp_source_host.v[i].ip;

		if (!by_reply(c, list, ip) && !by_order(c, &names, ip))
			return false;
	}
	return true;
}

static bool is_in(const struct conf_vmtas *list, const struct conf_vmta *v)
{
	for (size_t i = 0; i < list->n; i++)
		if (list->v[i] == v)
			return true;
	return false;
}

/* How much it takes is bounded so that receivers get to know it. */
static bool is_warming(const struct commit *c, const struct conf_vmta *v, struct slice site)
{
	const struct conf_provider *p =
		slice_iends(site, ".rollup") ? conf_provider_find(c->conf, site) : NULL;

	if (!v || conf_warmup_for(c->conf, v, p ? p->name : NULL))
		return true;
	for (size_t i = 0; i < conf_vmta_count(c->conf); i++)
		if (is_in(&conf_vmta_at(c->conf, i)->cold, v))
			return true;
	for (size_t i = 0; i < conf_pool_count(c->conf); i++)
		if (is_in(&conf_pool_at(c->conf, i)->cold, v))
			return true;
	return false;
}

bool health_is_poor(struct commit *c, struct commit_vmta *v, struct slice domain)
{
	struct slice name = health_site(c, v, domain);
	struct spool_site site;

	if (is_warming(c, v->conf, name))
		return true;
	return spool_site_get(write_read(c->w), v->id, name, &site) == 0 &&
	       site.mode.mode != SITE_NORMAL;
}
