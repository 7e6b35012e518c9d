#include "worker/resolver_route.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "common/base/hash.h"
#include "common/base/log.h"
#include "common/base/xalloc.h"
#include "common/dns/route.h"
#include "common/dns/wire.h"

/* One of A and AAAA failed, the other one serves: asked again after this many seconds. */
#define HALF_FAILED_TTL 60
#define WEEK (7u * 86400)

struct waiter {
	STAILQ_ENTRY(waiter) link;
	routes_cb *cb;
	void *arg;
};

/* A host's two address questions. */
struct host {
	struct job *job;
	char name[PACKET_NAME_MAX];
	uint16_t preference;
	struct record *a, *aaaa;
};

/* One look-up in flight. */
struct job {
	struct routes *rs;
	char key[DNS_KEY_MAX + 1];
	bool merged;
	UT_hash_handle hh;
	LIST_ENTRY(job) link;
	char *domain;
	unsigned flags;
	char *avoid;
	struct record *mx; /* NULL with DNS_HOST_ONLY */
	bool implicit;
	struct host hosts[ROUTE_HOSTS_MAX];
	size_t host_count;
	unsigned open; /* questions without an answer, and 1 while asking */
	STAILQ_HEAD(, waiter) waiters;
};

struct routes {
	struct loop *loop;
	struct records *records;
	struct dns_cache_writer *cache;
	struct resolver_stats *stats;
	struct job *jobs;
	LIST_HEAD(, job) all_jobs;
	bool flush_queued;
	bool cache_failed; /* said so */
};

static void job_free(struct job *j)
{
	struct waiter *w;

	while ((w = STAILQ_FIRST(&j->waiters))) {
		STAILQ_REMOVE_HEAD(&j->waiters, link);
		free(w);
	}
	for (size_t i = 0; i < j->host_count; i++) {
		record_unref(j->hosts[i].a);
		record_unref(j->hosts[i].aaaa);
	}
	record_unref(j->mx);
	if (j->merged)
		HASH_DEL(j->rs->jobs, j);
	LIST_REMOVE(j, link);
	j->rs->stats->pending--;
	free(j->domain);
	free(j->avoid);
	free(j);
}

/* ---- the cache file ---- */

static void flush(void *arg)
{
	struct routes *rs = arg;

	rs->flush_queued = false;
	if (!rs->cache)
		return; /* given up meanwhile */
	if (dns_cache_flush(rs->cache, loop_wall(rs->loop)) == 0) {
		rs->cache_failed = false;
		return;
	}
	if (!rs->cache_failed)
		log_error(NULL, "cannot write the DNS cache; workers have to ask for every domain",
			  LOG_S("file", DNS_CACHE_FILE));
	rs->cache_failed = true;
}

static void store(struct job *j, const struct dns_route *r, msec_t expires)
{
	struct routes *rs = j->rs;

	dns_cache_put(rs->cache, slice_str(j->domain), j->flags & DNS_HOST_ONLY, r, expires);
	if (rs->flush_queued)
		return;
	rs->flush_queued = true;
	loop_defer(rs->loop, flush, rs);
}

/* ---- from records to a route ---- */

static enum dns_status worst_of(const struct record *a, const struct record *aaaa)
{
	if (a->status == DNS_TEMPFAIL || aaaa->status == DNS_TEMPFAIL)
		return DNS_TEMPFAIL;
	if (a->status == DNS_LOOP || aaaa->status == DNS_LOOP)
		return DNS_LOOP;
	if (a->status == DNS_NXDOMAIN && aaaa->status == DNS_NXDOMAIN)
		return DNS_NXDOMAIN;
	return DNS_NO_HOST;
}

static bool has_failed(const struct record *rec)
{
	return rec->status == DNS_TEMPFAIL || rec->status == DNS_LOOP;
}

/*
 * A failure beside answers that serve must not make every mail ask again, nor be forgotten for a
 * day: it bounds the route's life at HALF_FAILED_TTL instead of the few seconds of a failure.
 */
static void use_record(struct dns_route *r, struct routes *rs, const struct record *rec)
{
	usec_t now = loop_now(rs->loop);
	usec_t left = rec->expires > now ? (rec->expires - now) / USEC_PER_SEC : 0;

	if (r->status == DNS_OK && has_failed(rec))
		left = HALF_FAILED_TTL;
	if (left < r->ttl)
		r->ttl = left ? (uint32_t)left : 1;
	if (!rec->secure)
		r->secure = false;
}

static void add_host(struct dns_route *r, const struct host *from)
{
	struct dns_host *h = dns_route_add_host(r, slice_str(from->name), from->preference);
	size_t i;

	for (i = 0; i < from->a->addr_count; i++)
		dns_host_add_addr(h, &from->a->addrs[i]);
	for (i = 0; i < from->aaaa->addr_count; i++)
		dns_host_add_addr(h, &from->aaaa->addrs[i]);
	h->status = h->addr_count ? DNS_OK : worst_of(from->a, from->aaaa);
}

static enum dns_status status_of_hosts(const struct job *j, const struct dns_route *r)
{
	bool tempfail = false, loop = false;

	for (uint32_t i = 0; i < r->host_count; i++) {
		if (r->hosts[i].status == DNS_OK)
			return DNS_OK;
		tempfail = tempfail || r->hosts[i].status == DNS_TEMPFAIL;
		loop = loop || r->hosts[i].status == DNS_LOOP;
	}
	if (tempfail)
		return DNS_TEMPFAIL;
	if (loop)
		return DNS_LOOP;
	/* A host that was asked for by name; a domain without MX did exist when its MX was asked
	 * for. */
	if ((j->flags & DNS_HOST_ONLY) && r->hosts[0].status == DNS_NXDOMAIN)
		return DNS_NXDOMAIN;
	return DNS_NO_HOST;
}

/* The first thing that the records of the hosts have to say. */
static const char *host_text(const struct job *j, enum dns_status status, const char **ret_name)
{
	for (size_t i = 0; i < j->host_count; i++) {
		const struct record *both[] = {j->hosts[i].a, j->hosts[i].aaaa};

		for (size_t k = 0; k < ARRAY_SIZE(both); k++) {
			if (!both[k]->text[0])
				continue;
			if (status != DNS_NO_HOST && both[k]->status != status)
				continue;
			*ret_name = j->hosts[i].name;
			return both[k]->text;
		}
	}
	return NULL;
}

static char *failure_text(const struct job *j, enum dns_status status)
{
	const char *name = NULL, *why = host_text(j, status, &name);
	struct buf b = BUF_INIT;

	if (status == DNS_OK)
		return xstrdup("");
	if (status != DNS_NO_HOST)
		return xasprintf("%s: %s", name ? name : j->domain, why ? why : "");
	if (j->flags & DNS_HOST_ONLY)
		buf_addf(&b, "%s has no address", j->domain);
	else if (j->implicit)
		buf_addf(&b, "%s has neither MX nor address", j->domain);
	else
		buf_addf(&b, "no mail host of %s has an address", j->domain);
	if (why)
		buf_addf(&b, " (%s: %s)", name, why);
	return buf_take(&b);
}

static struct dns_route *route_of_hosts(struct job *j)
{
	struct dns_route *r = dns_route_new(DNS_OK, NULL);
	const struct record *said = j->mx ? j->mx : j->hosts[0].a;

	r->ttl = WEEK;
	r->secure = true;
	r->implicit_mx = j->implicit;
	for (size_t i = 0; i < j->host_count; i++)
		add_host(r, &j->hosts[i]);
	r->status = status_of_hosts(j, r);
	free(r->text);
	r->text = failure_text(j, r->status);
	free(r->resolver);
	r->resolver = xstrdup(said->server);
	if (j->mx)
		use_record(r, j->rs, j->mx);
	for (size_t i = 0; i < j->host_count; i++) {
		use_record(r, j->rs, j->hosts[i].a);
		use_record(r, j->rs, j->hosts[i].aaaa);
	}
	return r;
}

/* There are no hosts: what the answer to the MX question means by itself. */
static struct dns_route *route_of_mx(struct job *j)
{
	struct record *mx = j->mx;
	struct dns_route *r = dns_route_new(mx->status, xstrdup(mx->text));

	if (mx->status == DNS_OK && mx->mx_count) {
		r->status = DNS_NULL_MX;
		free(r->text);
		r->text = xasprintf("%s accepts no mail (null MX)", j->domain);
	} else if (mx->status == DNS_OK) {
		r->status = DNS_NO_HOST;
		free(r->text);
		r->text = xasprintf("no MX of %s is a host name: %s", j->domain, mx->text);
	}
	free(r->resolver);
	r->resolver = xstrdup(mx->server);
	r->ttl = WEEK;
	r->secure = true;
	use_record(r, j->rs, mx);
	return r;
}

static void answer(struct job *j, const struct dns_route *r)
{
	msec_t expires = loop_wall(j->rs->loop) + (msec_t)r->ttl * MSEC_PER_SEC;
	struct waiter *w;

	if (r->status == DNS_TEMPFAIL)
		j->rs->stats->tempfail++;
	store(j, r, expires);
	if (j->merged)
		HASH_DEL(j->rs->jobs, j);
	j->merged = false;
	STAILQ_FOREACH(w, &j->waiters, link)
		w->cb(r, expires, w->arg);
}

static void job_done(struct job *j)
{
	struct dns_route *r = j->host_count ? route_of_hosts(j) : route_of_mx(j);

	answer(j, r);
	dns_route_free(r);
	job_free(j);
}

/* ---- asking ---- */

static void question_done(struct job *j)
{
	if (--j->open == 0)
		job_done(j);
}

static void on_a(struct record *r, void *arg)
{
	struct host *h = arg;

	h->a = record_ref(r);
	question_done(h->job);
}

static void on_aaaa(struct record *r, void *arg)
{
	struct host *h = arg;

	h->aaaa = record_ref(r);
	question_done(h->job);
}

static void add_job_host(struct job *j, const char *name, uint16_t preference)
{
	struct host *h = &j->hosts[j->host_count++];

	h->job = j;
	h->preference = preference;
	(void)slice_copy(slice_str(name), h->name, sizeof(h->name));
}

/* All hosts at once. The caller holds one count of j->open. */
static void ask_addresses(struct job *j)
{
	bool fresh = j->flags & DNS_FRESH;

	for (size_t i = 0; i < j->host_count; i++) {
		struct host *h = &j->hosts[i];

		j->open += 2;
		records_ask(j->rs->records, h->name, PACKET_A, fresh, j->avoid, on_a, h);
		records_ask(j->rs->records, h->name, PACKET_AAAA, fresh, j->avoid, on_aaaa, h);
	}
}

static int compare_mx(const void *a, const void *b)
{
	const struct packet_mx *x = a, *y = b;

	return (x->preference > y->preference) - (x->preference < y->preference);
}

/* Names that are hosts; none of them for the null MX (RFC 7505). */
static void choose_hosts(struct job *j)
{
	struct packet_mx *mx;
	size_t n = j->mx->mx_count;

	if (n == 0)
		return;
	mx = xmemdup(j->mx->mx, n * sizeof(*mx));
	qsort(mx, n, sizeof(*mx), compare_mx);
	for (size_t i = 0; i < n && j->host_count < ROUTE_HOSTS_MAX; i++)
		if (packet_name_ok(slice_str(mx[i].name)))
			add_job_host(j, mx[i].name, mx[i].preference);
	free(mx);
}

static void on_mx(struct record *r, void *arg)
{
	struct job *j = arg;

	j->mx = record_ref(r);
	if (r->status == DNS_OK) {
		choose_hosts(j);
	} else if (r->status == DNS_NO_HOST) {
		/* RFC 5321 5.1: the domain itself, as if it were its MX with preference 0. */
		j->implicit = true;
		add_job_host(j, j->domain, 0);
	}
	ask_addresses(j);
	question_done(j);
}

static void job_start(struct job *j)
{
	bool fresh = j->flags & DNS_FRESH;

	j->open = 1;
	if (j->flags & DNS_HOST_ONLY) {
		add_job_host(j, j->domain, 0);
		ask_addresses(j);
		question_done(j);
		return;
	}
	records_ask(j->rs->records, j->domain, PACKET_MX, fresh, j->avoid, on_mx, j);
}

/* ---- public ---- */

struct routes *routes_new(struct loop *l, struct records *records, struct dns_cache_writer *cache,
			  struct resolver_stats *stats)
{
	struct routes *rs = xcalloc(1, sizeof(*rs));

	rs->loop = l;
	rs->records = records;
	rs->cache = cache;
	rs->stats = stats;
	LIST_INIT(&rs->all_jobs);
	return rs;
}

void routes_free(struct routes *rs)
{
	struct job *j;

	if (!rs)
		return;
	while ((j = LIST_FIRST(&rs->all_jobs)))
		job_free(j);
	/* A flush may be deferred still; it comes before the memory goes. */
	rs->cache = NULL;
	loop_defer_free(rs->loop, rs);
}

static struct job *job_new(struct routes *rs, struct slice domain, unsigned flags,
			   const char *avoid)
{
	struct job *j = xcalloc(1, sizeof(*j));

	j->rs = rs;
	(void)dns_key(domain, flags & DNS_HOST_ONLY, j->key);
	j->domain = slice_dup_lower(domain);
	j->flags = flags;
	j->avoid = xstrdup(avoid ? avoid : "");
	STAILQ_INIT(&j->waiters);
	LIST_INSERT_HEAD(&rs->all_jobs, j, link);
	rs->stats->pending++;
	j->merged = !(flags & DNS_FRESH);
	if (j->merged)
		HASH_ADD_STR(rs->jobs, key, j);
	return j;
}

static void add_waiter(struct job *j, routes_cb *cb, void *arg)
{
	struct waiter *w = xcalloc(1, sizeof(*w));

	w->cb = cb;
	w->arg = arg;
	STAILQ_INSERT_TAIL(&j->waiters, w, link);
}

/* What needs no question: literals, names that cannot be, what the cache has. */
static struct dns_route *known_route(struct routes *rs, struct slice domain, unsigned flags)
{
	struct dns_route *r = dns_route_literal(domain);

	if (r)
		return r;
	if (!packet_name_ok(domain))
		return dns_route_new(DNS_NXDOMAIN, xstrdup("not a domain name"));
	if (!(flags & DNS_FRESH) &&
	    dns_cache_peek(rs->cache, domain, flags & DNS_HOST_ONLY, loop_wall(rs->loop), &r) == 0)
		return r;
	return NULL;
}

void routes_ask(struct routes *rs, struct slice domain, unsigned flags, const char *avoid,
		routes_cb *cb, void *arg)
{
	struct dns_route *r = known_route(rs, domain, flags);
	char key[DNS_KEY_MAX + 1] = "";
	struct job *j = NULL;

	if (r) {
		cb(r, loop_wall(rs->loop) + (msec_t)r->ttl * MSEC_PER_SEC, arg);
		dns_route_free(r);
		return;
	}
	(void)dns_key(domain, flags & DNS_HOST_ONLY, key);
	if (!(flags & DNS_FRESH))
		HASH_FIND_STR(rs->jobs, key, j);
	if (j) {
		add_waiter(j, cb, arg);
		return;
	}
	j = job_new(rs, domain, flags, avoid);
	add_waiter(j, cb, arg);
	job_start(j);
}

size_t routes_forget(struct routes *rs, struct slice domain)
{
	struct dns_route *r;
	char *name;

	if (domain.n == 0) {
		records_forget(rs->records, NULL);
		return dns_cache_clear(rs->cache, domain);
	}
	if (dns_cache_peek(rs->cache, domain, false, loop_wall(rs->loop), &r) == 0) {
		for (uint32_t i = 0; i < r->host_count; i++)
			records_forget(rs->records, r->hosts[i].name);
		dns_route_free(r);
	}
	name = slice_dup_lower(domain);
	records_forget(rs->records, name);
	free(name);
	return dns_cache_clear(rs->cache, domain);
}
