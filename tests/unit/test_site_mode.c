/* links: common/base common/spool/site_mode.c */
#include <criterion/criterion.h>
#include <string.h>

#include "common/spool/site_mode.h"

static void same(const struct site_tempo *a, const struct site_tempo *b)
{
	cr_assert(ip_eq(&a->ip, &b->ip));
	cr_assert(a->phase == b->phase && a->rate == b->rate && a->entry == b->entry &&
		  a->good == b->good && a->cut == b->cut && a->next == b->next &&
		  a->step == b->step && a->stay == b->stay && a->patience == b->patience &&
		  a->connections == b->connections);
}

Test(site_mode, lists_come_back_as_they_were)
{
	struct site_tempo p[] = {{.ip = {IP_V4, {192, 0, 2, 1}},
				  .phase = 2,
				  .rate = 36000,
				  .entry = 18000,
				  .good = 40000,
				  .cut = 1,
				  .next = 2,
				  .step = 5,
				  .stay = 12,
				  .patience = 12,
				  .connections = 10},
				 {.ip = {IP_V6, {0x20, 1}}},
				 {.ip = {.family = IP_NONE}, .rate = UINT64_MAX}},
			  p2;
	struct site_disabled x = {.ip = {IP_V4, {192, 0, 2, 2}},
				  .since = 7,
				  .why = SLICE_LIT("550 blocked")},
			     x2;
	struct site_change c = {.at = 8, .mode = SITE_BACKOFF, .why = SLICE_LIT("421")}, c2;
	struct buf tempos = BUF_INIT, disabled = BUF_INIT, changes = BUF_INIT, all = BUF_INIT;
	struct site_mode m = {.mode = SITE_BACKOFF, .since = 3, .order = 12}, m2;
	struct dec d;

	for (size_t i = 0; i < ARRAY_SIZE(p); i++)
		site_tempo_encode(&p[i], &tempos);
	site_disabled_encode(&x, &disabled);
	site_change_encode(&c, &changes);
	site_change_encode(&c, &changes);
	m.tempos = buf_slice(&tempos);
	m.disabled = buf_slice(&disabled);
	m.changes = buf_slice(&changes);
	site_mode_encode(&m, &all);
	d = dec_of(all.p, all.n);
	site_mode_decode(&d, &m2);
	cr_assert(dec_end(&d));
	cr_assert(m2.mode == SITE_BACKOFF && m2.since == 3 && m2.order == 12);
	for (size_t i = 0; i < ARRAY_SIZE(p); i++) {
		cr_assert(site_tempo_next(&m2.tempos, &p2));
		same(&p2, &p[i]);
	}
	cr_assert_not(site_tempo_next(&m2.tempos, &p2));
	cr_assert(site_disabled_next(&m2.disabled, &x2));
	cr_assert(ip_eq(&x2.ip, &x.ip) && x2.since == 7 && x2.until == 0 &&
		  slice_eq(x2.why, x.why));
	cr_assert_not(site_disabled_next(&m2.disabled, &x2));
	cr_assert(site_change_next(&m2.changes, &c2) && site_change_next(&m2.changes, &c2));
	cr_assert(c2.at == 8 && c2.mode == SITE_BACKOFF && slice_eq(c2.why, c.why));
	cr_assert_not(site_change_next(&m2.changes, &c2));
	buf_done(&tempos);
	buf_done(&disabled);
	buf_done(&changes);
	buf_done(&all);
}

Test(site_mode, damaged_bytes_end_a_list_and_do_no_harm)
{
	struct site_tempo p = {.ip = {IP_V4, {192, 0, 2, 1}}, .rate = 1}, p2;
	struct site_mode m = {.mode = SITE_BACKOFF, .reason = SLICE_LIT("x")}, m2;
	struct buf b = BUF_INIT, all = BUF_INIT;

	site_tempo_encode(&p, &b);
	for (size_t n = 0; n < b.n; n++) {
		struct slice cut = slice_of(b.p, n);

		cr_assert_not(site_tempo_next(&cut, &p2), "%zu of %zu bytes", n, b.n);
		cr_assert_eq(cut.n, 0);
	}
	site_mode_encode(&m, &all);
	for (size_t n = 0; n < all.n; n++) {
		struct dec d = dec_of(all.p, n);

		site_mode_decode(&d, &m2);
		cr_assert_not(dec_end(&d));
	}
	((uint8_t *)all.p)[0] = 9;
	struct dec d = dec_of(all.p, all.n);

	site_mode_decode(&d, &m2);
	cr_assert_not(dec_ok(&d), "there is no such mode");
	buf_done(&b);
	buf_done(&all);
}

Test(site_mode, reasons_are_cut)
{
	char text[2 * SITE_WHY_MAX];
	struct site_disabled x = {.why = slice_of(text, sizeof(text))}, x2;
	struct buf b = BUF_INIT;
	struct slice list;

	memset(text, 'x', sizeof(text));
	site_disabled_encode(&x, &b);
	list = buf_slice(&b);
	cr_assert(site_disabled_next(&list, &x2));
	cr_assert_eq(x2.why.n, SITE_WHY_MAX);
	buf_done(&b);
}

Test(site_mode, what_differs_from_nothing_is_not_plain)
{
	struct site_mode m = {.since = 5, .reason = SLICE_LIT("was in back-off")};

	cr_assert(site_mode_is_plain(&m));
	m.order = 1;
	cr_assert_not(site_mode_is_plain(&m));
	m = (struct site_mode){.disabled = SLICE_LIT("x")};
	cr_assert_not(site_mode_is_plain(&m));
	m = (struct site_mode){.mode = SITE_BACKOFF};
	cr_assert_not(site_mode_is_plain(&m));
}
