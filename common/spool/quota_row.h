/*
 * quota_row.h - the values of table quota: whose turn it is in a pool and how many went through each member;
 * how many recipients a cold virtual MTA took today.
 *
 * Written by the committer in the transaction that takes the mail, so that counts are exact over any
 * crash. Days are local ones (base/localday.h) and never go back.
 */
#ifndef SLUICE_SPOOL_QUOTA_ROW_H
#define SLUICE_SPOOL_QUOTA_ROW_H

#include "common/base/buf.h"
#include "common/spool/tables.h"

struct spool_read;

/* Key: virtual MTA 0, day 0, "pool:" and the name of the pool in lower case. */
#define QUOTA_POOL "pool:"
/* Key: the cold virtual MTA, day 0, "cold:" and the site. */
#define QUOTA_COLD "cold:"

struct quota_member {
	struct slice name;
	uint64_t share; /* weight or count that `current` is for */
	int64_t current; /* weighted: the larger, the sooner */
	uint64_t count; /* recipients so far */
};

struct quota_pool {
	uint32_t day; /* that the counts are of; 0: of all days */
	uint32_t turn; /* index of the member whose turn it is */
	uint64_t used; /* sequential: recipients of this turn so far */
	struct slice members; /* of struct quota_member, encoded */
	uint32_t member_count;
};

struct quota_cold {
	uint32_t day; /* that count is of */
	uint32_t step; /* first, second … day that had mail, from 1 */
	uint64_t count; /* recipients on that day */
};

void quota_member_encode(const struct quota_member *m, struct buf *b);
/* Takes the first one off; false: there is none. */
bool quota_member_next(struct slice *members, struct quota_member *ret);
void quota_pool_encode(const struct quota_pool *p, struct buf *b);
/* 0, ERR_CORRUPT or ERR_VERSION; slices are borrowed. */
int quota_pool_decode(struct slice v, struct quota_pool *ret) WARN_UNUSED;
void quota_cold_encode(const struct quota_cold *x, struct buf *b);
int quota_cold_decode(struct slice v, struct quota_cold *ret) WARN_UNUSED;

struct spool_key quota_pool_key(const char *pool);
struct spool_key quota_cold_key(uint32_t vmta, struct slice site);
/* 0, ERR_NOT_FOUND, ERR_CORRUPT, ERR_VERSION; slices are borrowed from the read. */
int quota_pool_get(struct spool_read *r, const char *pool, struct quota_pool *ret) WARN_UNUSED;

#endif
