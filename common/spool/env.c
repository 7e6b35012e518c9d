#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "common/base/err.h"
#include "common/base/xalloc.h"
#include "common/spool/spool_private.h"
#include "common/spool/write.h"

#define MAP_SIZE_DEFAULT (UINT64_C(1) << 40)
#define MAX_READERS 4096
#define DIR_MODE 0750
#define DATA_MODE 0640
#define LOCK_MODE 0660
#define NEARLY_FULL \
	(UINT64_C(16) << 20) /* free bytes below which an EIO of LMDB means a full disk */

static const char *const table_names[] = {
#define SPOOL_TABLE_NAME(id, name) name,
	SPOOL_TABLES(SPOOL_TABLE_NAME)
#undef SPOOL_TABLE_NAME
};

const char *spool_dir(const struct spool *s)
{
	return s->dir;
}

void spool_big_path(const struct spool *s, uint64_t msgid, char *ret, size_t n)
{
	snprintf(ret, n, "%s/big/%llu", s->dir, (unsigned long long)msgid);
}

static bool disk_nearly_full(const struct spool *s)
{
	struct statvfs v;

	return statvfs(s->dir, &v) == 0 && (uint64_t)v.f_bavail * v.f_frsize < NEARLY_FULL;
}

/* LMDB reports a short write, which is what a full disk gives it, as EIO. */
int spool_error(struct spool *s, int rc)
{
	switch (rc) {
	case 0:
		return 0;
	case MDB_NOTFOUND:
		return ERR_NOT_FOUND;
	case MDB_MAP_FULL:
		return ERR_MAP_FULL;
	case MDB_READERS_FULL:
		return ERR_FULL;
	case MDB_VERSION_MISMATCH:
		return ERR_VERSION;
	case MDB_INVALID:
	case MDB_CORRUPTED:
	case MDB_PAGE_NOTFOUND:
		return ERR_CORRUPT;
	case EACCES:
	case EPERM:
		return ERR_PERM;
	case ENOENT:
		return ERR_NOT_FOUND;
	case ENOSPC:
	case EDQUOT:
	case EFBIG:
		return ERR_DISK_FULL;
	case EIO:
		return disk_nearly_full(s) ? ERR_DISK_FULL : ERR_IO;
	default:
		return ERR_SYS;
	}
}

static int make_dirs(const char *dir)
{
	char *big = xasprintf("%s/big", dir);
	int rc = 0;

	if ((mkdir(dir, DIR_MODE) < 0 && errno != EEXIST) ||
	    (mkdir(big, DIR_MODE) < 0 && errno != EEXIST))
		rc = errno;
	free(big);
	return rc;
}

/* Readers of another user share the lock table, so its file needs another mode than the data. */
static int set_modes(const char *dir)
{
	char *data = xasprintf("%s/data.mdb", dir);
	char *lock = xasprintf("%s/lock.mdb", dir);
	int rc = 0;

	if (chmod(data, DATA_MODE) < 0 || chmod(lock, LOCK_MODE) < 0)
		rc = errno;
	free(data);
	free(lock);
	return rc;
}

static int check_schema(struct spool *s, MDB_txn *txn)
{
	MDB_val k = val_of(STATE_SCHEMA, strlen(STATE_SCHEMA)), v;
	struct buf b = BUF_INIT;
	uint64_t version;
	int rc = mdb_get(txn, s->dbi[SPOOL_STATE], &k, &v);

	if (rc == 0) {
		if (row_number_decode(val_slice(v), &version) < 0)
			return ERR_CORRUPT;
		return version == SPOOL_SCHEMA_VERSION ? 0 : ERR_VERSION;
	}
	if (rc != MDB_NOTFOUND || !s->writer)
		return spool_error(s, rc);
	row_number_encode(SPOOL_SCHEMA_VERSION, &b);
	v = val_of(b.p, b.n);
	rc = mdb_put(txn, s->dbi[SPOOL_STATE], &k, &v, 0);
	buf_done(&b);
	return spool_error(s, rc);
}

static int open_tables(struct spool *s)
{
	unsigned flags = s->writer ? MDB_CREATE : 0;
	MDB_txn *txn;
	size_t i;
	int rc = mdb_txn_begin(s->env, NULL, s->writer ? 0 : MDB_RDONLY, &txn);

	if (rc)
		return spool_error(s, rc);
	for (i = 0; i < SPOOL_TABLE_COUNT; i++) {
		rc = mdb_dbi_open(txn, table_names[i], flags, &s->dbi[i]);
		if (rc) {
			mdb_txn_abort(txn);
			return spool_error(s, rc);
		}
	}
	rc = check_schema(s, txn);
	if (rc < 0) {
		mdb_txn_abort(txn);
		return rc;
	}
	return spool_error(s, mdb_txn_commit(txn));
}

/* On a read-only file system LMDB reads without any lock, and the writer recycles pages under it. */
static int check_reader_slot(struct spool *s)
{
	MDB_envinfo info;
	MDB_txn *txn;
	int rc = mdb_txn_begin(s->env, NULL, MDB_RDONLY, &txn);

	if (rc)
		return spool_error(s, rc);
	rc = mdb_env_info(s->env, &info);
	mdb_txn_abort(txn);
	return rc || info.me_numreaders == 0 ? ERR_PERM : 0;
}

static int open_env(struct spool *s, const struct spool_options *o)
{
	unsigned flags = MDB_NOTLS;
	int rc;

	if (o->writer && (rc = make_dirs(o->dir)) != 0)
		return rc == EACCES || rc == EPERM ? ERR_PERM : ERR_SYS;
	rc = mdb_env_create(&s->env);
	if (rc)
		return spool_error(s, rc);
	mdb_env_set_mapsize(s->env, o->map_size ? o->map_size : MAP_SIZE_DEFAULT);
	mdb_env_set_maxdbs(s->env, SPOOL_TABLE_COUNT);
	mdb_env_set_maxreaders(s->env, MAX_READERS);
	if (!o->writer)
		flags |= MDB_RDONLY;
	if (o->nosync)
		flags |= MDB_NOSYNC;
	rc = mdb_env_open(s->env, o->dir, flags, DATA_MODE);
	if (rc == 0 && o->writer)
		rc = set_modes(o->dir);
	if (rc)
		return spool_error(s, rc);
	rc = open_tables(s);
	return rc < 0 ? rc : check_reader_slot(s);
}

static char *open_error(const struct spool_options *o, int rc, int saved_errno)
{
	switch (rc) {
	case ERR_NOT_FOUND:
		return xasprintf("%s: no spool here; sluiced makes it at its first start (see "
				 "spool-dir)",
				 o->dir);
	case ERR_VERSION:
		return xasprintf("%s: the spool was written by another version of sluice; use that "
				 "version, or drain the spool with it first",
				 o->dir);
	case ERR_PERM:
		return xasprintf(
			"%s: permission denied, or a read-only file system; %s", o->dir,
			o->writer ? "all in it must belong to the user of the spooler (chown -R)"
				  : "the user needs write access to lock.mdb (be root or in "
				    "group sluice)");
	case ERR_FULL:
		return xasprintf("%s: all %d reader slots are taken; too many processes read the "
				 "spool",
				 o->dir, MAX_READERS);
	case ERR_DISK_FULL:
		return xasprintf("%s: disk is full; make room", o->dir);
	case ERR_CORRUPT:
		return xasprintf(
			"%s: the spool is damaged (data.mdb): keep a copy of it, then put back a "
			"good one, or move the directory away to start with an empty spool",
			o->dir);
	default:
		return xasprintf("%s: cannot open the spool: %s (%s)", o->dir, err_text(rc),
				 strerror(saved_errno));
	}
}

int spool_open(const struct spool_options *o, struct spool **ret, char **ret_error)
{
	struct spool *s = xcalloc(1, sizeof(*s));
	int rc, saved;

	s->dir = xstrdup(o->dir);
	s->writer = o->writer;
	pthread_mutex_init(&s->lock, NULL);
	rc = open_env(s, o);
	saved = errno;
	if (rc < 0) {
		if (ret_error)
			*ret_error = open_error(o, rc, saved);
		spool_close(s);
		return rc;
	}
	*ret = s;
	return 0;
}

static void read_free(struct spool_read *r)
{
	size_t i;

	for (i = 0; i < SPOOL_TABLE_COUNT; i++)
		if (r->cursor[i])
			mdb_cursor_close(r->cursor[i]);
	mdb_txn_abort(r->txn);
	buf_done(&r->scratch);
	free(r);
}

void spool_close(struct spool *s)
{
	if (!s)
		return;
	while (s->idle) {
		struct spool_read *r = s->idle;

		s->idle = r->next_idle;
		read_free(r);
	}
	if (s->env)
		mdb_env_close(s->env);
	pthread_mutex_destroy(&s->lock);
	free(s->dir);
	free(s);
}

static struct spool_read *take_idle(struct spool *s)
{
	struct spool_read *r;

	pthread_mutex_lock(&s->lock);
	r = s->idle;
	if (r)
		s->idle = r->next_idle;
	pthread_mutex_unlock(&s->lock);
	return r;
}

int spool_read_begin(struct spool *s, struct spool_read **ret)
{
	struct spool_read *r = take_idle(s);
	int rc;

	if (r) {
		rc = mdb_txn_renew(r->txn);
		if (rc) {
			read_free(r);
			return spool_error(s, rc);
		}
	} else {
		r = xcalloc(1, sizeof(*r));
		r->spool = s;
		rc = mdb_txn_begin(s->env, NULL, MDB_RDONLY, &r->txn);
		if (rc) {
			free(r);
			return spool_error(s, rc);
		}
	}
	*ret = r;
	return 0;
}

void spool_read_end(struct spool_read *r)
{
	struct spool *s;

	if (!r)
		return;
	s = r->spool;
	read_reset(r);
	mdb_txn_reset(r->txn);
	pthread_mutex_lock(&s->lock);
	r->next_idle = s->idle;
	s->idle = r;
	pthread_mutex_unlock(&s->lock);
}

int spool_reader_check(struct spool *s)
{
	int dead = 0;

	return mdb_reader_check(s->env, &dead) == 0 ? dead : 0;
}
