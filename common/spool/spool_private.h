/*
 * spool_private.h - what the files of common/spool share: the environment, a read transaction with
 * its cursors, and the mapping of LMDB's errors. Nobody outside common/spool includes it.
 */
#ifndef SLUICE_SPOOL_PRIVATE_H
#define SLUICE_SPOOL_PRIVATE_H

#include <lmdb.h>
#include <pthread.h>

#include "common/base/buf.h"
#include "common/spool/rows.h"
#include "common/spool/spool.h"
#include "common/spool/tables.h"

struct spool_pauses {
	bool loaded;
	char **patterns;
	size_t n;
};

struct spool_read {
	struct spool *spool;
	MDB_txn *txn;
	bool write; /* inside a write transaction: cursors die with it */
	MDB_cursor *cursor[SPOOL_TABLE_COUNT];
	bool stale[SPOOL_TABLE_COUNT]; /* the cursor belongs to an earlier transaction */
	struct spool_pauses pauses;
	struct buf scratch; /* domain/vmta for matching pauses */
	struct spool_read *next_idle;
};

struct spool {
	MDB_env *env;
	MDB_dbi dbi[SPOOL_TABLE_COUNT];
	bool writer;
	char *dir;
	pthread_mutex_t lock; /* of idle */
	struct spool_read *idle;
};

/* Maps an LMDB result to enum err; MDB_NOTFOUND is ERR_NOT_FOUND. */
int spool_error(struct spool *s, int rc);

static inline MDB_val val_of(const void *p, size_t n)
{
	union {
		const void *in;
		void *out;
	} u = {.in = p};

	return (MDB_val){.mv_size = n, .mv_data = u.out};
}
static inline MDB_val val_key(const struct spool_key *k)
{
	return val_of(k->b, k->n);
}
static inline struct slice val_slice(MDB_val v)
{
	return slice_of(v.mv_data, v.mv_size);
}

/* Value of one key: 0 or ERR_NOT_FOUND. */
int read_get(struct spool_read *r, enum spool_table t, const struct spool_key *k,
	     struct slice *ret);
/*
 * First row with a key >= k (or > k when `behind`): 1 and key and value, 0 at the end of the table. The next
 * call of read_next() goes on from there.
 */
int read_seek(struct spool_read *r, enum spool_table t, const struct spool_key *k, bool behind,
	      struct slice *ret_key, struct slice *ret_value);
int read_next(struct spool_read *r, enum spool_table t, struct slice *ret_key,
	      struct slice *ret_value);
/* Closes the cursors, or marks them for renewal; forgets the pauses. */
void read_reset(struct spool_read *r);
bool read_paused(struct spool_read *r, struct slice domain, uint32_t vmta);

#endif
