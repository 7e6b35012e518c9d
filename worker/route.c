#include "worker/route.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/xalloc.h"
#include "common/conf/conf.h"
#include "worker/context.h"

/* One host of smtp-hosts, or the whole domain. */
struct route_part {
	struct route_query *query;
	struct dns_query *dns; /* in flight */
	struct dns_route *answer;
	struct ip literal; /* or this, without a look-up */
	char *host;
	uint16_t port;
	uint32_t preference;
};

struct route_query {
	struct worker *w;
	route_cb *cb;
	void *arg;
	struct route_part *parts;
	size_t count, missing;
	bool cancelled, deferred;
};

static void query_free(struct route_query *q)
{
	for (size_t i = 0; i < q->count; i++) {
		dns_query_cancel(q->parts[i].dns);
		dns_route_free(q->parts[i].answer);
		free(q->parts[i].host);
	}
	free(q->parts);
	free(q);
}

void route_query_cancel(struct route_query *q)
{
	if (!q)
		return;
	q->cancelled = true;
	if (!q->deferred)
		query_free(q);
}

void route_free(struct route *r)
{
	if (!r)
		return;
	for (uint32_t i = 0; i < r->count; i++)
		free(r->targets[i].host);
	free(r->targets);
	free(r->text);
	free(r->resolver);
	free(r);
}

static void add_target(struct route *r, const char *host, const struct ip *ip, uint16_t port,
		       uint32_t preference)
{
	r->targets = xreallocarray(r->targets, r->count + 1, sizeof(*r->targets));
	r->targets[r->count++] = (struct route_target){
		.host = xstrdup(host), .ip = *ip, .port = port, .preference = preference};
}

static void replace(char **to, const char *text)
{
	free(*to);
	*to = xstrdup(text ? text : "");
}

/* The worst that a part without an address says; temporary trouble hides all else. */
static void add_failure(struct route *r, const struct dns_route *a, enum dns_status status)
{
	if (r->status == DNS_TEMPFAIL || r->status == DNS_LOOP)
		return;
	r->status = status;
	replace(&r->text, a->text);
	replace(&r->resolver, a->resolver);
}

/* 0/8, :: and mapped addresses may be this machine to connect(), 224/3 and ff00::/8 are nobody. */
static bool is_host(const struct ip *ip)
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
	static const uint8_t unspecified[16] = {0};

	if (ip->family == IP_V4)
		return ip->b[0] != 0 && ip->b[0] < 224;
	return ip->b[0] != 0xff && memcmp(ip->b, mapped, sizeof(mapped)) != 0 &&
	       memcmp(ip->b, unspecified, sizeof(unspecified)) != 0;
}

static void add_answer(struct route *r, const struct route_part *p)
{
	const struct dns_route *a = p->answer;
	enum dns_status missing = DNS_NO_HOST;
	uint32_t before = r->count;

	for (uint32_t i = 0; i < a->host_count; i++) {
		const struct dns_host *h = &a->hosts[i];

		if (h->status == DNS_TEMPFAIL || h->status == DNS_LOOP)
			missing = DNS_TEMPFAIL;
		for (uint32_t k = 0; k < h->addr_count; k++)
			if (is_host(&h->addrs[k]))
				add_target(r, h->name, &h->addrs[k], p->port,
					   p->preference << 16 | h->preference);
	}
	if (r->count == before)
		add_failure(r, a, a->status == DNS_OK ? missing : a->status);
}

/* Stable: the random order of equal ones stays. There are few. */
static void route_sort(struct route *r)
{
	for (uint32_t i = 1; i < r->count; i++) {
		struct route_target t = r->targets[i];
		uint32_t k = i;

		for (; k > 0 && r->targets[k - 1].preference > t.preference; k--)
			r->targets[k] = r->targets[k - 1];
		r->targets[k] = t;
	}
}

static void route_finish(struct route *r)
{
	route_sort(r);
	if (r->count) {
		uint32_t n = 0;

		r->status = DNS_OK;
		while (n < r->count && r->targets[n].preference == r->targets[0].preference)
			n++;
		r->first_group = n;
	}
	if (!r->text)
		r->text = xstrdup("");
	if (!r->resolver)
		r->resolver = xstrdup("");
}

static void query_finish(void *arg)
{
	struct route_query *q = arg;
	struct route *r;
	uint32_t ttl = 3600;

	if (q->cancelled) {
		query_free(q);
		return;
	}
	r = xcalloc(1, sizeof(*r));
	r->status = DNS_NO_HOST;
	for (size_t i = 0; i < q->count; i++) {
		const struct route_part *p = &q->parts[i];

		if (!p->answer) {
			add_target(r, p->host, &p->literal, p->port, p->preference << 16);
			continue;
		}
		add_answer(r, p);
		if (q->count == 1)
			r->implicit_mx = p->answer->implicit_mx;
		if (p->answer->ttl < ttl)
			ttl = p->answer->ttl;
	}
	route_finish(r);
	r->expires = loop_now(q->w->loop) + (ttl ? ttl : 1) * USEC_PER_SEC;
	q->cb(r, q->arg);
	query_free(q);
}

static void on_answer(struct dns_route *answer, void *arg)
{
	struct route_part *p = arg;

	p->dns = NULL;
	p->answer = answer;
	if (--p->query->missing == 0)
		query_finish(p->query);
}

static void part_begin(struct route_query *q, struct route_part *p, const char *name, bool is_host,
		       unsigned flags, const char *avoid)
{
	p->query = q;
	p->host = xstrdup(name);
	if (is_host && ip_parse(slice_str(name), &p->literal))
		return;
	q->missing++;
	p->dns = dns_lookup(q->w->dns, slice_str(name), flags | (is_host ? DNS_HOST_ONLY : 0),
			    avoid, on_answer, p);
}

struct route_query *route_lookup(struct worker *w, const char *domain,
				 const struct conf_domain *set, unsigned flags, const char *avoid,
				 route_cb *cb, void *arg)
{
	struct route_query *q = xcalloc(1, sizeof(*q));
	const struct conf_smtp_hosts *hosts = &set->smtp_hosts;
	uint16_t port = (uint16_t)set->default_smtp_port;

	q->w = w;
	q->cb = cb;
	q->arg = arg;
	q->count = hosts->n ? hosts->n : 1;
	q->parts = xcalloc(q->count, sizeof(*q->parts));
	if (hosts->n == 0) {
		q->parts[0].port = port;
		part_begin(q, &q->parts[0], domain, false, flags, avoid);
	}
	for (size_t i = 0; i < hosts->n; i++) {
		q->parts[i].port = hosts->v[i].port ? hosts->v[i].port : port;
		q->parts[i].preference = hosts->v[i].preference;
		part_begin(q, &q->parts[i], hosts->v[i].host, !hosts->v[i].lookup_mx, flags, avoid);
	}
	if (q->missing == 0) {
		q->deferred = true;
		loop_defer(w->loop, query_finish, q);
	}
	return q;
}

struct route_target *route_next(struct route *r,
				bool (*usable)(const struct route_target *t, void *arg), void *arg)
{
	uint32_t turn = r->first_group ? r->turn++ % r->first_group : 0;

	for (uint32_t i = 0; i < r->count; i++) {
		uint32_t at = i < r->first_group ? (turn + i) % r->first_group : i;
		struct route_target *t = &r->targets[at];

		if (!t->failed && usable(t, arg))
			return t;
	}
	return NULL;
}

void route_reset(struct route *r)
{
	for (uint32_t i = 0; i < r->count; i++)
		r->targets[i].failed = false;
}

bool route_mark_failed(struct route *r, const struct ip *ip, uint16_t port)
{
	bool found = false, fresh = false;

	for (uint32_t i = 0; i < r->count; i++) {
		struct route_target *t = &r->targets[i];

		if (!ip_eq(&t->ip, ip) || t->port != port)
			continue;
		found = true;
		fresh |= !t->failed;
		t->failed = true;
	}
	return fresh || !found;
}

void route_skip(struct route *r, const struct ip *ip, uint16_t port, usec_t until)
{
	for (uint32_t i = 0; i < r->count; i++)
		if (ip_eq(&r->targets[i].ip, ip) && r->targets[i].port == port)
			r->targets[i].skip_until = until;
}

void route_unskip(struct route *r)
{
	for (uint32_t i = 0; i < r->count; i++)
		r->targets[i].skip_until = 0;
}

void route_keep_failed(struct route *r, const struct route *old)
{
	for (uint32_t i = 0; i < old->count; i++) {
		const struct route_target *t = &old->targets[i];

		if (t->failed)
			(void)route_mark_failed(r, &t->ip, t->port);
		if (t->skip_until)
			route_skip(r, &t->ip, t->port, t->skip_until);
	}
}

bool route_has(const struct route *r, const struct ip *ip, uint16_t port)
{
	for (uint32_t i = 0; i < r->count; i++)
		if (ip_eq(&r->targets[i].ip, ip) && r->targets[i].port == port)
			return true;
	return false;
}

bool route_has_next(const struct route *r, bool (*usable)(const struct route_target *t, void *arg),
		    void *arg)
{
	for (uint32_t i = 0; i < r->count; i++)
		if (!r->targets[i].failed && usable(&r->targets[i], arg))
			return true;
	return false;
}

bool route_serves(const struct route *r, const struct ip *ip, uint16_t port,
		  bool (*usable)(const struct route_target *t, void *arg), void *arg)
{
	/* Targets are in the order of preference. */
	for (uint32_t i = 0, best = UINT32_MAX; i < r->count; i++) {
		const struct route_target *t = &r->targets[i];

		if (t->preference > best)
			return false;
		if (ip_eq(&t->ip, ip) && t->port == port)
			return true;
		if (!t->failed && usable(t, arg))
			best = t->preference;
	}
	return false;
}
