#include <errno.h>
#include <lmdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <unistd.h>

#include "common/base/codec.h"
#include "common/base/err.h"
#include "common/base/log.h"
#include "common/base/xalloc.h"
#include "common/dns/cache_private.h"
#include "common/dns/wire.h"

#define READERS_MAX 4096
/* Expired rows dropped per transaction: twice what is normally put, so the file cannot only grow.
 */
#define EVICT_PER_FLUSH 100
/* From this use of the file on, also rows go that have not expired. */
#define CROWDED_PERCENT 60
#define EXPIRY_KEY_MAX (8 + DNS_KEY_MAX)

struct put {
	STAILQ_ENTRY(put) link;
	char key[DNS_KEY_MAX];
	size_t key_size;
	msec_t expires;
	struct buf value;
};

struct dns_cache_writer {
	MDB_env *env;
	size_t size; /* of the map */
	MDB_dbi routes, expiry;
	STAILQ_HEAD(, put) puts;
	size_t put_count;
};

static int open_tables(struct dns_cache_writer *w)
{
	MDB_txn *txn;
	int rc = mdb_txn_begin(w->env, NULL, 0, &txn);

	if (rc != 0)
		return rc;
	rc = mdb_dbi_open(txn, DNS_CACHE_ROUTES, MDB_CREATE, &w->routes);
	if (rc == 0)
		rc = mdb_dbi_open(txn, DNS_CACHE_EXPIRY, MDB_CREATE, &w->expiry);
	if (rc != 0) {
		mdb_txn_abort(txn);
		return rc;
	}
	return mdb_txn_commit(txn);
}

static int open_writer(struct dns_cache_writer *w, const char *path, size_t size)
{
	int rc = mdb_env_create(&w->env);

	if (rc == 0)
		rc = mdb_env_set_mapsize(w->env, size);
	if (rc == 0)
		rc = mdb_env_set_maxdbs(w->env, 2);
	if (rc == 0)
		rc = mdb_env_set_maxreaders(w->env, READERS_MAX);
	if (rc == 0)
		rc = mdb_env_open(w->env, path, MDB_NOSYNC | MDB_NOTLS | MDB_NOSUBDIR, 0660);
	if (rc == 0)
		rc = open_tables(w);
	return rc;
}

struct dns_cache_writer *dns_cache_create(const char *runtime_dir, size_t size, char **ret_error)
{
	struct dns_cache_writer *w = xcalloc(1, sizeof(*w));
	char *path = xasprintf("%s/%s", runtime_dir, DNS_CACHE_FILE);
	char *lock = xasprintf("%s-lock", path);
	int rc = 0;

	STAILQ_INIT(&w->puts);
	w->size = size;
	/* Workers that still have the old file keep it until they see the new one. */
	if (unlink(path) < 0 && errno != ENOENT)
		rc = errno;
	if (rc == 0 && unlink(lock) < 0 && errno != ENOENT)
		rc = errno;
	if (rc == 0)
		rc = open_writer(w, path, size);
	if (rc != 0) {
		*ret_error = xasprintf("%s: %s", path, mdb_strerror(rc));
		dns_cache_close(w);
		w = NULL;
	}
	free(path);
	free(lock);
	return w;
}

static void drop_puts(struct dns_cache_writer *w)
{
	struct put *p;

	while ((p = STAILQ_FIRST(&w->puts))) {
		STAILQ_REMOVE_HEAD(&w->puts, link);
		buf_done(&p->value);
		free(p);
	}
	w->put_count = 0;
}

void dns_cache_close(struct dns_cache_writer *w)
{
	if (!w)
		return;
	drop_puts(w);
	if (w->env)
		mdb_env_close(w->env);
	free(w);
}

void dns_cache_put(struct dns_cache_writer *w, struct slice domain, bool host_only,
		   const struct dns_route *r, msec_t expires)
{
	struct put *p = xcalloc(1, sizeof(*p));

	p->key_size = dns_key(domain, host_only, p->key);
	if (p->key_size == 0) {
		free(p);
		return;
	}
	p->expires = expires;
	dns_route_encode(&p->value, r, expires);
	STAILQ_INSERT_TAIL(&w->puts, p, link);
	w->put_count++;
}

static MDB_val expiry_key(msec_t expires, const MDB_val *key, char *room)
{
	be64_put(room, expires);
	memcpy(room + 8, key->mv_data, key->mv_size);
	return (MDB_val){.mv_data = room, .mv_size = 8 + key->mv_size};
}

/* Removes the row of `expiry` that belongs to the present value of a key. */
static int del_expiry_of(struct dns_cache_writer *w, MDB_txn *txn, MDB_val *key)
{
	char room[EXPIRY_KEY_MAX];
	MDB_val old, e;
	struct dec d;
	int rc = mdb_get(txn, w->routes, key, &old);

	if (rc != 0)
		return rc;
	d = dec_of(old.mv_data, old.mv_size);
	(void)dec_u8(&d);
	e = expiry_key(dec_u64(&d), key, room);
	rc = mdb_del(txn, w->expiry, &e, NULL);
	return rc == MDB_NOTFOUND ? 0 : rc;
}

static int write_put(struct dns_cache_writer *w, MDB_txn *txn, struct put *p)
{
	char room[EXPIRY_KEY_MAX];
	MDB_val key = {.mv_data = p->key, .mv_size = p->key_size};
	MDB_val value = {.mv_data = p->value.p, .mv_size = p->value.n};
	MDB_val e, none = {.mv_data = NULL, .mv_size = 0};
	int rc = del_expiry_of(w, txn, &key);

	if (rc != 0 && rc != MDB_NOTFOUND)
		return rc;
	e = expiry_key(p->expires, &key, room);
	rc = mdb_put(txn, w->routes, &key, &value, 0);
	return rc == 0 ? mdb_put(txn, w->expiry, &e, &none, 0) : rc;
}

/* Drops up to max rows, soonest expiry first, only those expired by `until`. */
static int evict(struct dns_cache_writer *w, MDB_txn *txn, msec_t until, size_t max)
{
	MDB_cursor *cur;
	MDB_val e, v, key;
	int rc = mdb_cursor_open(txn, w->expiry, &cur);

	if (rc != 0)
		return rc;
	while (max-- > 0 && (rc = mdb_cursor_get(cur, &e, &v, MDB_FIRST)) == 0) {
		char copy[DNS_KEY_MAX];

		if (e.mv_size <= 8 || e.mv_size > EXPIRY_KEY_MAX || be64_get(e.mv_data) > until)
			break;
		key.mv_size = e.mv_size - 8;
		memcpy(copy, (const char *)e.mv_data + 8, key.mv_size);
		key.mv_data = copy;
		rc = mdb_cursor_del(cur, 0);
		if (rc == 0)
			rc = mdb_del(txn, w->routes, &key, NULL);
		if (rc != 0 && rc != MDB_NOTFOUND)
			break;
	}
	mdb_cursor_close(cur);
	return rc == MDB_NOTFOUND ? 0 : rc;
}

/*
 * LMDB copies what it changes and gives pages back two transactions later, so a file that is filled
 * to the brim can neither be written nor emptied.
 */
static bool is_crowded(struct dns_cache_writer *w, MDB_txn *txn)
{
	MDB_stat routes = {0}, expiry = {0};
	size_t pages;

	if (mdb_stat(txn, w->routes, &routes) != 0 || mdb_stat(txn, w->expiry, &expiry) != 0)
		return false;
	pages = routes.ms_branch_pages + routes.ms_leaf_pages + routes.ms_overflow_pages +
		expiry.ms_branch_pages + expiry.ms_leaf_pages + expiry.ms_overflow_pages;
	return pages * routes.ms_psize > w->size / 100 * CROWDED_PERCENT;
}

static int write_all(struct dns_cache_writer *w, msec_t wall)
{
	struct put *p;
	MDB_txn *txn;
	int rc = mdb_txn_begin(w->env, NULL, 0, &txn);

	if (rc != 0)
		return rc;
	/* First, so that the pages of the expired serve the new ones soon. */
	rc = evict(w, txn, is_crowded(w, txn) ? UINT64_MAX : wall,
		   EVICT_PER_FLUSH + 2 * w->put_count);
	STAILQ_FOREACH(p, &w->puts, link)
		if (rc == 0)
			rc = write_put(w, txn, p);
	if (rc != 0) {
		mdb_txn_abort(txn);
		return rc;
	}
	return mdb_txn_commit(txn);
}

static int evict_an_eighth(struct dns_cache_writer *w)
{
	MDB_txn *txn;
	int rc = mdb_txn_begin(w->env, NULL, 0, &txn);

	if (rc != 0)
		return rc;
	rc = evict(w, txn, UINT64_MAX, dns_cache_count(w) / 8 + 1);
	if (rc != 0) {
		mdb_txn_abort(txn);
		return rc;
	}
	return mdb_txn_commit(txn);
}

static int empty_all(struct dns_cache_writer *w)
{
	MDB_txn *txn;
	int rc = mdb_txn_begin(w->env, NULL, 0, &txn);

	if (rc != 0)
		return rc;
	rc = mdb_drop(txn, w->routes, 0);
	if (rc == 0)
		rc = mdb_drop(txn, w->expiry, 0);
	if (rc != 0) {
		mdb_txn_abort(txn);
		return rc;
	}
	return mdb_txn_commit(txn);
}

int dns_cache_flush(struct dns_cache_writer *w, msec_t wall)
{
	int rc = write_all(w, wall);

	/* Freed pages serve again two transactions later, once no reader sees them. */
	for (int i = 0; i < 3 && rc == MDB_MAP_FULL; i++) {
		rc = evict_an_eighth(w);
		if (rc == 0)
			rc = write_all(w, wall);
	}
	drop_puts(w);
	if (rc == MDB_MAP_FULL)
		rc = empty_all(w);
	return rc == 0 ? 0 : ERR_IO;
}

int dns_cache_peek(struct dns_cache_writer *w, struct slice domain, bool host_only, msec_t wall,
		   struct dns_route **ret)
{
	MDB_txn *txn;
	int rc;

	if (mdb_txn_begin(w->env, NULL, MDB_RDONLY, &txn) != 0)
		return ERR_NOT_FOUND;
	rc = dns_cache_fetch(txn, w->routes, domain, host_only, wall, ret);
	mdb_txn_abort(txn);
	return rc;
}

static size_t del_route(struct dns_cache_writer *w, MDB_txn *txn, struct slice domain,
			bool host_only)
{
	char room[DNS_KEY_MAX];
	MDB_val key = {.mv_data = room, .mv_size = dns_key(domain, host_only, room)};

	if (key.mv_size == 0 || del_expiry_of(w, txn, &key) != 0)
		return 0;
	return mdb_del(txn, w->routes, &key, NULL) == 0 ? 1 : 0;
}

size_t dns_cache_clear(struct dns_cache_writer *w, struct slice domain)
{
	MDB_txn *txn;
	size_t n = dns_cache_count(w);

	drop_puts(w);
	if (domain.n == 0)
		return empty_all(w) == 0 ? n : 0;
	if (mdb_txn_begin(w->env, NULL, 0, &txn) != 0)
		return 0;
	n = del_route(w, txn, domain, false) + del_route(w, txn, domain, true);
	return mdb_txn_commit(txn) == 0 ? n : 0;
}

size_t dns_cache_count(struct dns_cache_writer *w)
{
	MDB_stat st = {0};
	MDB_txn *txn;

	/* LMDB allows a reader beside the writer of the same thread with MDB_NOTLS. */
	if (mdb_txn_begin(w->env, NULL, MDB_RDONLY, &txn) != 0)
		return 0;
	(void)mdb_stat(txn, w->routes, &st);
	mdb_txn_abort(txn);
	return st.ms_entries;
}

void dns_cache_check_readers(struct dns_cache_writer *w)
{
	int dead;

	(void)mdb_reader_check(w->env, &dead);
}
