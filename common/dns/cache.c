#include "common/dns/cache.h"

#include <errno.h>
#include <lmdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/base/err.h"
#include "common/base/log.h"
#include "common/base/xalloc.h"
#include "common/dns/cache_private.h"
#include "common/dns/wire.h"

/* How often a reader looks whether the file is still the one it has open. */
#define CHECK_EVERY USEC_PER_SEC

struct dns_cache {
	char *path;
	MDB_env *env; /* NULL: not open */
	MDB_txn *txn; /* reset between look-ups */
	MDB_dbi routes;
	dev_t dev;
	ino_t ino;
	usec_t checked;
};

struct dns_cache *dns_cache_new(const char *runtime_dir)
{
	struct dns_cache *c = xcalloc(1, sizeof(*c));

	c->path = xasprintf("%s/%s", runtime_dir, DNS_CACHE_FILE);
	return c;
}

static void cache_shut(struct dns_cache *c)
{
	if (c->txn)
		mdb_txn_abort(c->txn);
	if (c->env)
		mdb_env_close(c->env);
	c->txn = NULL;
	c->env = NULL;
}

void dns_cache_free(struct dns_cache *c)
{
	if (!c)
		return;
	cache_shut(c);
	free(c->path);
	free(c);
}

static int open_env(struct dns_cache *c)
{
	int rc = mdb_env_create(&c->env);

	if (rc == 0)
		rc = mdb_env_set_maxdbs(c->env, 2);
	if (rc == 0)
		rc = mdb_env_open(c->env, c->path, MDB_RDONLY | MDB_NOTLS | MDB_NOSUBDIR, 0660);
	if (rc == 0)
		rc = mdb_txn_begin(c->env, NULL, MDB_RDONLY, &c->txn);
	if (rc == 0)
		rc = mdb_dbi_open(c->txn, DNS_CACHE_ROUTES, 0, &c->routes);
	if (rc == 0) {
		/* A handle opened in a reader outlives it only by a commit. */
		rc = mdb_txn_commit(c->txn);
		c->txn = NULL;
	}
	if (rc == 0)
		rc = mdb_txn_begin(c->env, NULL, MDB_RDONLY, &c->txn);
	if (rc == 0)
		mdb_txn_reset(c->txn);
	return rc;
}

/* The resolver makes a new file at each start; the old one lives on only for those who have it. */
static bool is_usable(struct dns_cache *c, usec_t now)
{
	struct stat st;

	if (c->checked && now - c->checked < CHECK_EVERY)
		return c->env != NULL;
	c->checked = now;
	if (stat(c->path, &st) < 0)
		return c->env != NULL;
	if (c->env && st.st_dev == c->dev && st.st_ino == c->ino)
		return true;
	cache_shut(c);
	c->dev = st.st_dev;
	c->ino = st.st_ino;
	if (open_env(c) != 0)
		cache_shut(c);
	return c->env != NULL;
}

int dns_cache_fetch(MDB_txn *txn, MDB_dbi routes, struct slice domain, bool host_only, msec_t wall,
		    struct dns_route **ret)
{
	char key[DNS_KEY_MAX];
	MDB_val k = {.mv_data = key, .mv_size = dns_key(domain, host_only, key)}, v;
	struct dns_route *r;
	msec_t expires;

	if (k.mv_size == 0 || mdb_get(txn, routes, &k, &v) != 0)
		return ERR_NOT_FOUND;
	if (dns_route_decode(slice_of(v.mv_data, v.mv_size), wall, &r, &expires) < 0)
		return ERR_NOT_FOUND;
	if (expires <= wall) {
		dns_route_free(r);
		return ERR_NOT_FOUND;
	}
	*ret = r;
	return 0;
}

int dns_cache_get(struct dns_cache *c, struct slice domain, bool host_only, usec_t now, msec_t wall,
		  struct dns_route **ret)
{
	int rc;

	if (!is_usable(c, now))
		return ERR_NOT_FOUND;
	if (mdb_txn_renew(c->txn) != 0) {
		/* For instance all reader slots taken by the dead: the resolver is asked instead. */
		cache_shut(c);
		return ERR_NOT_FOUND;
	}
	rc = dns_cache_fetch(c->txn, c->routes, domain, host_only, wall, ret);
	mdb_txn_reset(c->txn);
	return rc;
}
