/* links: common/base common/conf common/spool common/acct */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "common/base/err.h"
#include "common/base/xalloc.h"
#include "common/spool/quota_row.h"

static void pool_row(struct buf *b)
{
	const struct quota_member m[] = {{SLICE_LIT("mta1"), 5, -7, 1000000},
					 {SLICE_LIT("mta2"), 1, 7, 0}};
	struct quota_pool p = {.day = 20779, .turn = 1, .used = 3, .member_count = 2};
	struct buf members = BUF_INIT;

	quota_member_encode(&m[0], &members);
	quota_member_encode(&m[1], &members);
	p.members = buf_slice(&members);
	buf_clear(b);
	quota_pool_encode(&p, b);
	buf_done(&members);
}

static void cold_row(struct buf *b)
{
	const struct quota_cold x = {.day = 20779, .step = 4, .count = 99};

	buf_clear(b);
	quota_cold_encode(&x, b);
}

static int pool_decode(struct slice v)
{
	struct quota_pool p;

	return quota_pool_decode(v, &p);
}

static int cold_decode(struct slice v)
{
	struct quota_cold x;

	return quota_cold_decode(v, &x);
}

Test(quota_row, comes_back_as_it_was)
{
	struct buf b = BUF_INIT;
	struct quota_member m;
	struct quota_pool p;
	struct quota_cold x;

	pool_row(&b);
	cr_assert_eq(quota_pool_decode(buf_slice(&b), &p), 0);
	cr_assert(p.day == 20779 && p.turn == 1 && p.used == 3 && p.member_count == 2);
	cr_assert(quota_member_next(&p.members, &m));
	cr_assert(slice_eq_str(m.name, "mta1") && m.share == 5 && m.current == -7 &&
		  m.count == 1000000);
	cr_assert(quota_member_next(&p.members, &m) && m.current == 7);
	cr_assert_not(quota_member_next(&p.members, &m));
	cold_row(&b);
	cr_assert_eq(quota_cold_decode(buf_slice(&b), &x), 0);
	cr_assert(x.day == 20779 && x.step == 4 && x.count == 99);
	buf_done(&b);
}

Test(quota_row, damage_is_an_error)
{
	static const struct {
		const char *label;
		void (*make)(struct buf *b);
		int (*decode)(struct slice v);
	} rows[] = {{"pool", pool_row, pool_decode}, {"cold", cold_row, cold_decode}};
	struct buf b = BUF_INIT;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		rows[i].make(&b);
		for (size_t n = 0; n < b.n; n++) {
			char *cut = xmemdup(b.p, n ? n : 1); /* the sanitizer sees reads beyond */

			cr_assert_eq(rows[i].decode(slice_of(cut, n)), ERR_CORRUPT, "%s cut at %zu",
				     rows[i].label, n);
			free(cut);
		}
		b.p[0]++;
		cr_assert_eq(rows[i].decode(buf_slice(&b)), ERR_VERSION, "%s", rows[i].label);
		b.p[0]--;
		buf_add_char(&b, 0);
		cr_assert_eq(rows[i].decode(buf_slice(&b)), ERR_CORRUPT, "%s", rows[i].label);
	}
	buf_done(&b);
}
