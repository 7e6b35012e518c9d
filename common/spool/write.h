/*
 * write.h - writing the spool: the committer thread of the spooler, and nobody else.
 *
 * One write transaction at a time; reads inside it (write_read()) see what it has written. Any
 * failure of a put or delete makes the transaction useless: abort it. After a failed commit nothing
 * of it is in the spool.
 */
#ifndef SLUICE_SPOOL_WRITE_H
#define SLUICE_SPOOL_WRITE_H

#include "common/spool/rows.h"
#include "common/spool/spool.h"
#include "common/spool/tables.h"

struct spool_write;

int spool_write_begin(struct spool *s, struct spool_write **ret) WARN_UNUSED;
/* Frees w either way. 0, or ERR_MAP_FULL, ERR_DISK_FULL, ERR_IO, ERR_SYS. */
int spool_write_commit(struct spool_write *w) WARN_UNUSED;
void spool_write_abort(struct spool_write *w); /* NULL is fine */
/* For the functions of spool.h. Slices got through it die at the next put or delete. */
struct spool_read *write_read(struct spool_write *w);

int write_put(struct spool_write *w, enum spool_table t, const struct spool_key *k,
	      struct slice v) WARN_UNUSED;
/* Room for a value of n bytes, to be filled before anything else is done. The key must be new. */
int write_reserve(struct spool_write *w, enum spool_table t, const struct spool_key *k, size_t n,
		  void **ret) WARN_UNUSED;
int write_get(struct spool_write *w, enum spool_table t, const struct spool_key *k,
	      struct slice *ret) WARN_UNUSED;
/* ERR_NOT_FOUND does no harm. */
int write_delete(struct spool_write *w, enum spool_table t, const struct spool_key *k) WARN_UNUSED;
/* First row with a key >= k (> k when `behind`): 1, 0 at the end, or a negative err. */
int write_seek(struct spool_write *w, enum spool_table t, const struct spool_key *k, bool behind,
	       struct slice *ret_key, struct slice *ret_value) WARN_UNUSED;

/* Frees reader slots of dead processes; returns how many. */
int spool_reader_check(struct spool *s);
/* Path of a big body: SPOOL-DIR/big/MSGID; ret holds n bytes. */
void spool_big_path(const struct spool *s, uint64_t msgid, char *ret, size_t n);

#endif
