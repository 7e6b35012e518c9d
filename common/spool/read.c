#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "common/base/err.h"
#include "common/base/xalloc.h"
#include "common/spool/spool_private.h"
#include "common/spool/write.h"

int read_get(struct spool_read *r, enum spool_table t, const struct spool_key *k, struct slice *ret)
{
	MDB_val key = val_key(k), val;
	int rc = mdb_get(r->txn, r->spool->dbi[t], &key, &val);

	*ret = slice_of("", 0);
	if (rc)
		return spool_error(r->spool, rc);
	*ret = val_slice(val);
	return 0;
}

static int get_cursor(struct spool_read *r, enum spool_table t)
{
	int rc = 0;

	if (!r->cursor[t])
		rc = mdb_cursor_open(r->txn, r->spool->dbi[t], &r->cursor[t]);
	else if (r->stale[t])
		rc = mdb_cursor_renew(r->txn, r->cursor[t]);
	r->stale[t] = rc != 0;
	return spool_error(r->spool, rc);
}

static int cursor_result(struct spool_read *r, int rc, MDB_val key, MDB_val val,
			 struct slice *ret_key, struct slice *ret_value)
{
	if (rc == MDB_NOTFOUND)
		return 0;
	if (rc)
		return spool_error(r->spool, rc);
	*ret_key = val_slice(key);
	*ret_value = val_slice(val);
	return 1;
}

int read_seek(struct spool_read *r, enum spool_table t, const struct spool_key *k, bool behind,
	      struct slice *ret_key, struct slice *ret_value)
{
	MDB_val key = val_key(k), val;
	MDB_cursor *c;
	int rc = get_cursor(r, t);

	if (rc < 0)
		return rc;
	c = r->cursor[t];
	/* LMDB refuses an empty key. */
	rc = mdb_cursor_get(c, &key, &val, k->n ? MDB_SET_RANGE : MDB_FIRST);
	if (rc == 0 && behind && key.mv_size == k->n && memcmp(key.mv_data, k->b, k->n) == 0)
		rc = mdb_cursor_get(c, &key, &val, MDB_NEXT);
	return cursor_result(r, rc, key, val, ret_key, ret_value);
}

int read_next(struct spool_read *r, enum spool_table t, struct slice *ret_key,
	      struct slice *ret_value)
{
	MDB_val key, val;
	int rc = mdb_cursor_get(r->cursor[t], &key, &val, MDB_NEXT);

	return cursor_result(r, rc, key, val, ret_key, ret_value);
}

void read_reset(struct spool_read *r)
{
	size_t i;

	for (i = 0; i < SPOOL_TABLE_COUNT; i++) {
		if (!r->cursor[i])
			continue;
		if (r->write) {
			mdb_cursor_close(r->cursor[i]);
			r->cursor[i] = NULL;
		}
		r->stale[i] = true;
	}
	for (i = 0; i < r->pauses.n; i++)
		free(r->pauses.patterns[i]);
	free(r->pauses.patterns);
	r->pauses = (struct spool_pauses){.loaded = false};
}

static void load_pauses(struct spool_read *r)
{
	uint64_t after = 0;
	struct order o;

	r->pauses.loaded = true;
	while (spool_order_next(r, &after, &o) > 0) {
		if (o.kind != ORDER_PAUSE)
			continue;
		r->pauses.patterns = xreallocarray(r->pauses.patterns, r->pauses.n + 1,
						   sizeof(*r->pauses.patterns));
		r->pauses.patterns[r->pauses.n++] = slice_dup(o.filter.queue);
	}
}

bool read_paused(struct spool_read *r, struct slice domain, uint32_t vmta)
{
	struct spool_vmta m;
	size_t i;

	if (!r->pauses.loaded)
		load_pauses(r);
	if (r->pauses.n == 0 || spool_vmta_get(r, vmta, &m) < 0)
		return false;
	buf_clear(&r->scratch);
	buf_add_slice(&r->scratch, domain);
	buf_add_char(&r->scratch, '/');
	buf_add_slice(&r->scratch, m.name);
	for (i = 0; i < r->pauses.n; i++)
		if (order_pattern_match(slice_str(r->pauses.patterns[i]), buf_slice(&r->scratch)))
			return true;
	return false;
}

int spool_message_get(struct spool_read *r, uint64_t msgid, struct spool_message *ret)
{
	struct spool_key k = key_u64(msgid);
	struct slice v;
	int rc = read_get(r, SPOOL_MESSAGE, &k, &v);

	if (rc < 0)
		return rc;
	ret->id = msgid;
	return row_message_decode(v, ret);
}

int spool_recipient_get(struct spool_read *r, uint64_t msgid, uint32_t rcpt,
			struct spool_recipient *ret)
{
	struct spool_key k = key_recipient(msgid, rcpt);
	struct slice v;
	int rc = read_get(r, SPOOL_RECIPIENT, &k, &v);

	if (rc < 0)
		return rc;
	ret->msgid = msgid;
	ret->rcpt = rcpt;
	return row_recipient_decode(v, ret);
}

int spool_queue_get(struct spool_read *r, uint32_t queue, struct spool_queue *ret)
{
	struct spool_key k = key_u32(queue);
	struct slice v;
	int rc = read_get(r, SPOOL_QUEUE, &k, &v);

	if (rc < 0)
		return rc;
	ret->id = queue;
	rc = row_queue_decode(v, ret);
	if (rc == 0)
		ret->paused = read_paused(r, ret->domain, ret->vmta);
	return rc;
}

int spool_vmta_get(struct spool_read *r, uint32_t vmta, struct spool_vmta *ret)
{
	struct spool_key k = key_u32(vmta);
	struct slice v;
	int rc = read_get(r, SPOOL_VMTA, &k, &v);

	if (rc < 0)
		return rc;
	ret->id = vmta;
	return row_vmta_decode(v, ret);
}

int spool_vmta_find(struct spool_read *r, struct slice name, uint32_t *ret_id)
{
	struct spool_vmta m;
	uint32_t after = 0;
	int rc;

	while ((rc = spool_vmta_next(r, &after, &m)) > 0)
		if (slice_ieq(m.name, name)) {
			*ret_id = m.id;
			return 0;
		}
	return rc < 0 ? rc : ERR_NOT_FOUND;
}

int spool_queue_find(struct spool_read *r, uint32_t vmta, struct slice domain, uint32_t *ret_id)
{
	struct spool_key k = key_u32_name(vmta, domain);
	uint64_t id;
	struct slice v;
	int rc = read_get(r, SPOOL_QUEUE_NAME, &k, &v);

	if (rc < 0)
		return rc;
	rc = row_number_decode(v, &id);
	if (rc < 0)
		return rc;
	*ret_id = (uint32_t)id;
	return 0;
}

int spool_site_get(struct spool_read *r, uint32_t vmta, struct slice name, struct spool_site *ret)
{
	struct spool_key k = key_u32_name(vmta, name);
	struct slice v;
	int rc = read_get(r, SPOOL_SITE, &k, &v);

	return rc < 0 ? rc : row_site_decode(v, ret);
}

int spool_order_row_get(struct spool_read *r, uint64_t id, struct order_row *ret)
{
	struct spool_key k = key_u64(id);
	struct slice v;
	int rc = read_get(r, SPOOL_ORDER, &k, &v);

	if (rc < 0)
		return rc;
	rc = row_order_decode(v, ret);
	ret->order.id = id;
	return rc;
}

int spool_state_get(struct spool_read *r, struct slice name, struct slice *ret)
{
	struct spool_key k = key_name(name);

	return read_get(r, SPOOL_STATE, &k, ret);
}

static int big_read(struct spool_read *r, const struct spool_message *m, uint64_t offset, void *to,
		    size_t n, size_t *ret_n)
{
	char *path = xasprintf("%s/big/%llu", r->spool->dir, (unsigned long long)m->id);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t got = 0;
	int rc = 0;

	free(path);
	if (fd < 0)
		return errno == ENOENT ? ERR_NOT_FOUND : ERR_IO;
	while (got < n) {
		ssize_t k = pread(fd, (char *)to + got, n - got, (off_t)(offset + got));

		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0) {
			rc = k < 0 ? ERR_IO : ERR_CORRUPT;
			break;
		}
		got += (size_t)k;
	}
	close(fd);
	if (rc == 0)
		*ret_n = got;
	return rc;
}

int spool_body_read(struct spool_read *r, const struct spool_message *m, uint64_t offset, void *to,
		    size_t n, size_t *ret_n)
{
	struct spool_key k = key_u64(m->id);
	struct slice v = {NULL, 0};
	int rc;

	if (offset >= m->size) {
		*ret_n = 0;
		return 0;
	}
	if (n > m->size - offset)
		n = (size_t)(m->size - offset);
	if (m->body == SPOOL_BODY_BIG)
		return big_read(r, m, offset, to, n, ret_n);
	rc = read_get(r, SPOOL_BODY, &k, &v);
	if (rc < 0)
		return rc;
	if (v.n != m->size)
		return ERR_CORRUPT;
	memcpy(to, v.p + offset, n);
	*ret_n = n;
	return 0;
}

/* Free pages are recorded in LMDB's own table 0: each value begins with how many it lists. */
static uint64_t free_pages(struct spool_read *r)
{
	MDB_cursor *c;
	MDB_val k, v;
	uint64_t total = 0;
	size_t n;

	if (mdb_cursor_open(r->txn, 0, &c))
		return 0;
	while (mdb_cursor_get(c, &k, &v, MDB_NEXT) == 0) {
		if (v.mv_size < sizeof(n))
			continue;
		memcpy(&n, v.mv_data, sizeof(n));
		total += n;
	}
	mdb_cursor_close(c);
	return total;
}

static uint64_t count_rows(struct spool_read *r, enum spool_table t)
{
	MDB_stat st;

	return mdb_stat(r->txn, r->spool->dbi[t], &st) ? 0 : st.ms_entries;
}

int spool_stat(struct spool_read *r, struct spool_stat *ret)
{
	struct spool *s = r->spool;
	struct spool_numbers numbers;
	struct statvfs vfs;
	MDB_envinfo info;
	MDB_stat st;
	struct slice v;

	if (mdb_env_info(s->env, &info) || mdb_env_stat(s->env, &st))
		return ERR_SYS;
	*ret = (struct spool_stat){
		.map_size = info.me_mapsize,
		.map_used = (info.me_last_pgno + 1) * (uint64_t)st.ms_psize,
		.reusable = free_pages(r) * st.ms_psize,
		.messages = count_rows(r, SPOOL_MESSAGE),
		.recipients = count_rows(r, SPOOL_RECIPIENT),
		.fresh = count_rows(r, SPOOL_FRESH),
		.due = count_rows(r, SPOOL_DUE),
		.queues = count_rows(r, SPOOL_QUEUE),
		.vmtas = count_rows(r, SPOOL_VMTA),
		.outbox = count_rows(r, SPOOL_OUTBOX),
		.dsns = count_rows(r, SPOOL_DSN),
		.orders = count_rows(r, SPOOL_ORDER),
		.readers = info.me_numreaders,
	};
	if (spool_state_get(r, slice_str(STATE_NUMBERS), &v) == 0 &&
	    row_numbers_decode(v, &numbers) == 0)
		ret->live_bytes = numbers.bytes;
	if (statvfs(s->dir, &vfs) == 0)
		ret->disk_free = (uint64_t)vfs.f_bavail * vfs.f_frsize;
	return 0;
}
