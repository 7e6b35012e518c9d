#include "common/spool/write.h"

#include <stdlib.h>

#include "common/base/err.h"
#include "common/base/xalloc.h"
#include "common/spool/spool_private.h"

struct spool_write {
	struct spool_read read;
};

struct spool_read *write_read(struct spool_write *w)
{
	return &w->read;
}

int spool_write_begin(struct spool *s, struct spool_write **ret)
{
	struct spool_write *w = xcalloc(1, sizeof(*w));
	int rc;

	w->read.spool = s;
	w->read.write = true;
	rc = mdb_txn_begin(s->env, NULL, 0, &w->read.txn);
	if (rc) {
		free(w);
		return spool_error(s, rc);
	}
	*ret = w;
	return 0;
}

static void release(struct spool_write *w)
{
	buf_done(&w->read.scratch);
	free(w);
}

int spool_write_commit(struct spool_write *w)
{
	struct spool *s = w->read.spool;
	int rc;

	read_reset(&w->read);
	rc = mdb_txn_commit(w->read.txn);
	release(w);
	return spool_error(s, rc);
}

void spool_write_abort(struct spool_write *w)
{
	if (!w)
		return;
	read_reset(&w->read);
	mdb_txn_abort(w->read.txn);
	release(w);
}

int write_put(struct spool_write *w, enum spool_table t, const struct spool_key *k, struct slice v)
{
	MDB_val key = val_key(k), val = val_of(v.p, v.n);

	return spool_error(w->read.spool,
			   mdb_put(w->read.txn, w->read.spool->dbi[t], &key, &val, 0));
}

int write_reserve(struct spool_write *w, enum spool_table t, const struct spool_key *k, size_t n,
		  void **ret)
{
	MDB_val key = val_key(k), val = {.mv_size = n, .mv_data = NULL};
	int rc = mdb_put(w->read.txn, w->read.spool->dbi[t], &key, &val,
			 MDB_RESERVE | MDB_NOOVERWRITE);

	if (rc == MDB_KEYEXIST)
		return ERR_EXISTS;
	*ret = val.mv_data;
	return spool_error(w->read.spool, rc);
}

int write_get(struct spool_write *w, enum spool_table t, const struct spool_key *k,
	      struct slice *ret)
{
	return read_get(&w->read, t, k, ret);
}

int write_delete(struct spool_write *w, enum spool_table t, const struct spool_key *k)
{
	MDB_val key = val_key(k);

	return spool_error(w->read.spool, mdb_del(w->read.txn, w->read.spool->dbi[t], &key, NULL));
}

int write_seek(struct spool_write *w, enum spool_table t, const struct spool_key *k, bool behind,
	       struct slice *ret_key, struct slice *ret_value)
{
	return read_seek(&w->read, t, k, behind, ret_key, ret_value);
}
