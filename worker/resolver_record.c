#include "worker/resolver_record.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "common/base/hash.h"
#include "common/base/log.h"
#include "common/base/xalloc.h"

/* Seconds for which a failure is remembered, so that a queue of mails does not ask once a mail. */
#define FAILURE_TTL 5
/* A negative answer without a SOA says nothing about its life (RFC 2308, 5). */
#define NO_SOA_TTL 5
#define KEY_MAX (PACKET_NAME_MAX + 2)

/* What is known. In uthash order of insertion, so the head is the oldest. */
struct entry {
	char key[KEY_MAX]; /* type, name */
	struct record *record;
	UT_hash_handle hh;
};

struct waiter {
	STAILQ_ENTRY(waiter) link;
	record_cb *cb;
	void *arg;
};

/* A question in flight, through all its CNAMEs. */
struct job {
	struct records *rs;
	char key[KEY_MAX];
	bool merged; /* in rs->jobs under key */
	UT_hash_handle hh;
	LIST_ENTRY(job) link; /* all jobs */
	char name[PACKET_NAME_MAX]; /* being asked now */
	enum packet_type type;
	char *avoid;
	unsigned chain;
	uint32_t ttl; /* of the CNAMEs so far */
	bool secure;
	STAILQ_HEAD(, waiter) waiters;
};

struct records {
	struct loop *loop;
	struct upstream *upstream;
	size_t max;
	uint32_t negative_max; /* seconds */
	struct entry *known;
	struct job *jobs;
	LIST_HEAD(, job) all_jobs;
};

/* ---- records ---- */

struct record *record_ref(struct record *r)
{
	r->refs++;
	return r;
}

void record_unref(struct record *r)
{
	if (!r || --r->refs > 0)
		return;
	free(r->text);
	free(r->server);
	free(r->mx);
	free(r->addrs);
	free(r);
}

static void make_key(const char *name, enum packet_type type, char *ret)
{
	(void)snprintf(ret, KEY_MAX, "%c%s", (char)('@' + (int)type), name);
}

static void forget(struct records *rs, struct entry *e)
{
	HASH_DEL(rs->known, e);
	record_unref(e->record);
	free(e);
}

static struct record *find(struct records *rs, const char *key)
{
	struct entry *e;

	HASH_FIND_STR(rs->known, key, e);
	if (!e)
		return NULL;
	if (e->record->expires <= loop_now(rs->loop)) {
		forget(rs, e);
		return NULL;
	}
	return e->record;
}

static void keep(struct records *rs, const char *key, struct record *r)
{
	struct entry *e;
	usec_t now = loop_now(rs->loop);

	HASH_FIND_STR(rs->known, key, e);
	if (e)
		forget(rs, e);
	e = xcalloc(1, sizeof(*e));
	memcpy(e->key, key, strlen(key) + 1);
	e->record = record_ref(r);
	HASH_ADD_STR(rs->known, key, e);
	/* Two for one: what has expired never piles up for long. */
	for (int i = 0; i < 2; i++) {
		struct entry *oldest = rs->known;

		if (HASH_COUNT(rs->known) > rs->max || oldest->record->expires <= now)
			forget(rs, oldest);
		else
			break;
		if (!rs->known)
			break;
	}
}

void records_forget(struct records *rs, const char *name)
{
	static const enum packet_type types[] = {PACKET_A, PACKET_MX, PACKET_AAAA};
	struct entry *e, *next;

	if (!name) {
		HASH_ITER(hh, rs->known, e, next)
			forget(rs, e);
		return;
	}
	for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
		char key[KEY_MAX];

		make_key(name, types[i], key);
		HASH_FIND_STR(rs->known, key, e);
		if (e)
			forget(rs, e);
	}
}

/* ---- from an answer to a record ---- */

static uint32_t clamp_ttl(const struct job *j, enum dns_status status, bool has_ttl, uint32_t ttl)
{
	uint32_t max = UINT32_MAX;

	switch (status) {
	case DNS_OK:
	case DNS_NULL_MX:
		break;
	case DNS_NXDOMAIN:
	case DNS_NO_HOST:
		max = j->rs->negative_max;
		if (!has_ttl)
			ttl = NO_SOA_TTL;
		break;
	case DNS_TEMPFAIL:
	case DNS_LOOP:
		max = ttl = FAILURE_TTL;
		break;
	}
	if (ttl > j->ttl)
		ttl = j->ttl;
	if (ttl > max)
		ttl = max;
	return ttl ? ttl : 1;
}

static struct record *make_record(struct job *j, enum dns_status status, bool has_ttl, uint32_t ttl,
				  char *text, const char *server)
{
	struct record *r = xcalloc(1, sizeof(*r));

	r->refs = 1;
	r->status = status;
	r->secure = j->secure;
	r->expires = loop_now(j->rs->loop) + clamp_ttl(j, status, has_ttl, ttl) * USEC_PER_SEC;
	r->text = text;
	r->server = xstrdup(server);
	return r;
}

static void job_free(struct job *j)
{
	struct waiter *w;

	while ((w = STAILQ_FIRST(&j->waiters))) {
		STAILQ_REMOVE_HEAD(&j->waiters, link);
		free(w);
	}
	if (j->merged)
		HASH_DEL(j->rs->jobs, j);
	LIST_REMOVE(j, link);
	free(j->avoid);
	free(j);
}

/* Takes r. Questions that the callbacks ask find it in memory, not this job. */
static void job_done(struct job *j, struct record *r)
{
	struct waiter *w;

	keep(j->rs, j->key, r);
	if (j->merged)
		HASH_DEL(j->rs->jobs, j);
	j->merged = false;
	STAILQ_FOREACH(w, &j->waiters, link)
		w->cb(r, w->arg);
	job_free(j);
	record_unref(r);
}

static struct record *record_of_data(struct job *j, const struct upstream_result *res)
{
	const struct packet_answer *a = res->answer;
	struct record *r;

	r = make_record(j, DNS_OK, true, a->ttl,
			a->ignored[0] ? xasprintf("ignored %s", a->ignored) : xstrdup(""),
			res->server);
	if (a->mx_count)
		r->mx = xmemdup(a->mx, a->mx_count * sizeof(*a->mx));
	if (a->addr_count)
		r->addrs = xmemdup(a->addrs, a->addr_count * sizeof(*a->addrs));
	r->mx_count = a->mx_count;
	r->addr_count = a->addr_count;
	return r;
}

static struct record *record_of_loop(struct job *j, const struct upstream_result *res)
{
	return make_record(j, DNS_LOOP, false, 0,
			   xasprintf("more than %d aliases (CNAME) in a row, at %s",
				     PACKET_CHAIN_MAX, res->answer->target),
			   res->server);
}

static void on_result(const struct upstream_result *res, void *arg);

static void ask_alias(struct job *j, const char *target)
{
	(void)slice_copy(slice_str(target), j->name, sizeof(j->name));
	upstream_ask(j->rs->upstream, j->name, j->type, j->avoid, on_result, j);
}

static struct record *record_of_answer(struct job *j, const struct upstream_result *res)
{
	const struct packet_answer *a = res->answer;

	switch (a->verdict) {
	case PACKET_DATA:
		return record_of_data(j, res);
	case PACKET_NODATA:
		return make_record(j, DNS_NO_HOST, a->has_ttl, a->ttl,
				   a->ignored[0] ? xasprintf("ignored %s", a->ignored)
						 : xstrdup(""),
				   res->server);
	case PACKET_NXDOMAIN:
		return make_record(j, DNS_NXDOMAIN, a->has_ttl, a->ttl,
				   xasprintf("NXDOMAIN from %s", res->server), res->server);
	case PACKET_ALIAS:
	case PACKET_LOOP:
	case PACKET_TRUNCATED:
	case PACKET_FAILED:
		break;
	}
	return record_of_loop(j, res);
}

static void on_result(const struct upstream_result *res, void *arg)
{
	struct job *j = arg;
	const struct packet_answer *a = res->answer;

	if (!a) {
		job_done(j,
			 make_record(j, DNS_TEMPFAIL, false, 0, xstrdup(res->text), res->server));
		return;
	}
	j->secure = j->secure && a->ad;
	j->chain += a->chain;
	if (j->chain > PACKET_CHAIN_MAX) {
		job_done(j, record_of_loop(j, res));
	} else if (a->verdict == PACKET_ALIAS) {
		if (a->ttl < j->ttl)
			j->ttl = a->ttl;
		ask_alias(j, a->target);
	} else {
		job_done(j, record_of_answer(j, res));
	}
}

/* ---- public ---- */

struct records *records_new(struct loop *l, struct upstream *upstream, size_t max)
{
	struct records *rs = xcalloc(1, sizeof(*rs));

	rs->loop = l;
	rs->upstream = upstream;
	rs->max = max;
	rs->negative_max = 3600;
	LIST_INIT(&rs->all_jobs);
	return rs;
}

void records_free(struct records *rs)
{
	struct job *j;

	if (!rs)
		return;
	while ((j = LIST_FIRST(&rs->all_jobs)))
		job_free(j); /* NOLINT(clang-analyzer-unix.Malloc): it unlinks itself */
	records_forget(rs, NULL);
	free(rs);
}

void records_configure(struct records *rs, usec_t negative_ttl_max)
{
	usec_t seconds = negative_ttl_max / USEC_PER_SEC;

	rs->negative_max = seconds < UINT32_MAX ? (uint32_t)seconds : UINT32_MAX;
}

static void add_waiter(struct job *j, record_cb *cb, void *arg)
{
	struct waiter *w = xcalloc(1, sizeof(*w));

	w->cb = cb;
	w->arg = arg;
	STAILQ_INSERT_TAIL(&j->waiters, w, link);
}

static struct job *job_new(struct records *rs, const char *key, enum packet_type type, bool fresh,
			   const char *avoid)
{
	struct job *j = xcalloc(1, sizeof(*j));

	j->rs = rs;
	memcpy(j->key, key, strlen(key) + 1);
	(void)slice_copy(slice_str(key + 1), j->name, sizeof(j->name));
	j->type = type;
	j->avoid = xstrdup(fresh && avoid ? avoid : "");
	j->ttl = UINT32_MAX;
	j->secure = true;
	STAILQ_INIT(&j->waiters);
	LIST_INSERT_HEAD(&rs->all_jobs, j, link);
	j->merged = !fresh;
	if (j->merged)
		HASH_ADD_STR(rs->jobs, key, j);
	return j;
}

void records_ask(struct records *rs, const char *name, enum packet_type type, bool fresh,
		 const char *avoid, record_cb *cb, void *arg)
{
	char key[KEY_MAX];
	struct record *r;
	struct job *j = NULL;

	make_key(name, type, key);
	r = fresh ? NULL : find(rs, key);
	if (r) {
		record_ref(r);
		cb(r, arg);
		record_unref(r);
		return;
	}
	if (!fresh)
		HASH_FIND_STR(rs->jobs, key, j);
	if (j) {
		add_waiter(j, cb, arg);
		return;
	}
	j = job_new(rs, key, type, fresh, avoid);
	add_waiter(j, cb, arg);
	upstream_ask(rs->upstream, j->name, type, j->avoid, on_result, j);
}
