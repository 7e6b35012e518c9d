#include "common/spool/quota_row.h"

#include <stdlib.h>

#include "common/base/codec.h"
#include "common/base/err.h"
#include "common/base/xalloc.h"
#include "common/spool/spool_private.h"

enum { POOL_VERSION = 2, COLD_VERSION = 1 }; /* a pool's row of version 1 was a single number */

void quota_member_encode(const struct quota_member *m, struct buf *b)
{
	enc_bytes(b, m->name);
	enc_var(b, m->share);
	enc_u64(b, (uint64_t)m->current);
	enc_var(b, m->count);
}

static void member_decode(struct dec *d, struct quota_member *ret)
{
	ret->name = dec_bytes(d);
	ret->share = dec_var(d);
	ret->current = (int64_t)dec_u64(d);
	ret->count = dec_var(d);
}

bool quota_member_next(struct slice *members, struct quota_member *ret)
{
	struct dec d = dec_of(members->p, members->n);

	if (members->n == 0)
		return false;
	member_decode(&d, ret);
	if (!dec_ok(&d))
		return false;
	*members = slice_from(*members, members->n - (size_t)(d.end - d.p));
	return true;
}

void quota_pool_encode(const struct quota_pool *p, struct buf *b)
{
	enc_u8(b, POOL_VERSION);
	enc_var(b, p->day);
	enc_var(b, p->turn);
	enc_var(b, p->used);
	enc_var(b, p->member_count);
	enc_bytes(b, p->members);
}

int quota_pool_decode(struct slice v, struct quota_pool *ret)
{
	struct quota_member m;
	struct slice rest;
	struct dec d;
	uint32_t n = 0;
	int rc = row_begin(&d, v, POOL_VERSION);

	if (rc < 0)
		return rc;
	ret->day = dec_var32(&d);
	ret->turn = dec_var32(&d);
	ret->used = dec_var(&d);
	ret->member_count = dec_var32(&d);
	ret->members = dec_bytes(&d);
	if (!dec_end(&d))
		return ERR_CORRUPT;
	rest = ret->members;
	while (quota_member_next(&rest, &m))
		n++;
	return rest.n == 0 && n == ret->member_count ? 0 : ERR_CORRUPT;
}

void quota_cold_encode(const struct quota_cold *x, struct buf *b)
{
	enc_u8(b, COLD_VERSION);
	enc_var(b, x->day);
	enc_var(b, x->step);
	enc_var(b, x->count);
}

int quota_cold_decode(struct slice v, struct quota_cold *ret)
{
	struct dec d;
	int rc = row_begin(&d, v, COLD_VERSION);

	if (rc < 0)
		return rc;
	ret->day = dec_var32(&d);
	ret->step = dec_var32(&d);
	ret->count = dec_var(&d);
	return dec_end(&d) ? 0 : ERR_CORRUPT;
}

static struct spool_key key_of(uint32_t vmta, const char *kind, struct slice name)
{
	char *lower = slice_dup_lower(name), *text = xasprintf("%s%s", kind, lower);
	struct spool_key k = key_quota(vmta, 0, slice_str(text));

	free(text);
	free(lower);
	return k;
}

struct spool_key quota_pool_key(const char *pool)
{
	return key_of(0, QUOTA_POOL, slice_str(pool));
}

struct spool_key quota_cold_key(uint32_t vmta, struct slice site)
{
	return key_of(vmta, QUOTA_COLD, site);
}

int quota_pool_get(struct spool_read *r, const char *pool, struct quota_pool *ret)
{
	struct spool_key k = quota_pool_key(pool);
	struct slice v;
	int rc = read_get(r, SPOOL_QUOTA, &k, &v);

	return rc < 0 ? rc : quota_pool_decode(v, ret);
}
