/* links: common/base common/spool */
#include <criterion/criterion.h>

#include "common/base/err.h"
#include "common/base/rng.h"
#include "common/spool/report.h"

static struct slice lit(const char *s)
{
	return slice_str(s);
}

static struct report_transaction sample(struct report_outcome *o, uint32_t n)
{
	uint32_t i;

	for (i = 0; i < n; i++)
		o[i] = (struct report_outcome){.rcpt = i,
					       .queue = 7,
					       .class = OUTCOME_TRANSIENT,
					       .code = 451,
					       .enhanced = {4, 7, 1},
					       .text = lit("451 4.7.1 try later"),
					       .attempted = i % 2,
					       .relayed = i % 3 == 0,
					       .due = 1700000000123};
	return (struct report_transaction){.msgid = UINT64_C(0x1122334455667788),
					   .type = DLV_SMTP,
					   .site = lit("example.com/mta1"),
					   .mx_name = lit("mx.example.com"),
					   .mx_ip = {IP_V4, {10, 1, 2, 3}},
					   .source_ip = {IP_V6, {0xfe, 0x80}},
					   .tls_protocol = lit("TLSv1.3"),
					   .tls_cipher = lit("X"),
					   .esmtp = lit("PIPELINING,SIZE"),
					   .bytes = 12345,
					   .started = 1700000000000,
					   .ended = 1700000000500,
					   .warmup_day = 20779,
					   .outcomes = o,
					   .outcome_count = n};
}

Test(report, transaction_comes_back_as_it_was)
{
	struct report_outcome o[5];
	struct report_transaction t = sample(o, 5), got;
	struct buf b = BUF_INIT, scratch = BUF_INIT;
	uint32_t i;

	o[3].text = lit("550 5.1.1 no such user");
	o[3].class = OUTCOME_BOUNCED;
	report_transaction_encode(&t, &b);
	cr_assert_eq(report_transaction_decode(buf_slice(&b), &scratch, &got), 0);
	cr_assert_eq(got.msgid, t.msgid);
	cr_assert(slice_eq(got.site, t.site) && slice_eq(got.mx_name, t.mx_name));
	cr_assert(ip_eq(&got.mx_ip, &t.mx_ip) && ip_eq(&got.source_ip, &t.source_ip));
	cr_assert(slice_eq(got.esmtp, t.esmtp) && slice_eq(got.tls_protocol, t.tls_protocol));
	cr_assert_eq(got.bytes, t.bytes);
	cr_assert_eq(got.ended, t.ended);
	cr_assert_eq(got.warmup_day, t.warmup_day);
	cr_assert_eq(got.outcome_count, 5);
	for (i = 0; i < 5; i++) {
		cr_assert_eq(got.outcomes[i].rcpt, i);
		cr_assert_eq(got.outcomes[i].queue, 7);
		cr_assert_eq(got.outcomes[i].class, o[i].class);
		cr_assert_eq(got.outcomes[i].attempted, o[i].attempted);
		cr_assert_eq(got.outcomes[i].relayed, o[i].relayed);
		cr_assert_eq(got.outcomes[i].due, o[i].due);
		cr_assert_arr_eq(got.outcomes[i].enhanced, o[i].enhanced, 3);
		cr_assert(slice_eq(got.outcomes[i].text, o[i].text));
	}
	buf_done(&b);
	buf_done(&scratch);
}

Test(report, a_day_of_a_warm_up_comes_back_as_it_was)
{
	struct report_warmup w = {.site = lit("google.rollup"),
				  .source_ip = {IP_V4, {192, 0, 2, 1}},
				  .day = {.day = 20779,
					  .step = 3,
					  .number = 400,
					  .granted = 17,
					  .last = 1700000000123,
					  .why = WARMUP_TRANSIENT},
				  .set = 9},
			     got;
	struct buf b = BUF_INIT;

	report_warmup_encode(&w, &b);
	cr_assert_eq(report_warmup_decode(buf_slice(&b), &got), 0);
	cr_assert(slice_eq(got.site, w.site) && ip_eq(&got.source_ip, &w.source_ip));
	cr_assert(got.day.day == 20779 && got.day.step == 3 && got.day.number == 400);
	cr_assert(got.day.granted == 17 && got.day.last == 1700000000123);
	cr_assert(got.day.why == WARMUP_TRANSIENT && got.set == 9);
	for (size_t n = 0; n < b.n; n++)
		cr_assert_eq(report_warmup_decode(slice_of(b.p, n), &got), ERR_CORRUPT);
	buf_done(&b);
}

Test(report, transaction_never_exceeds_its_bound)
{
	static char texts[300][REPORT_TEXT_MAX + 100];
	struct report_outcome o[300];
	struct report_transaction t = sample(o, 300), got;
	struct buf b = BUF_INIT, scratch = BUF_INIT;
	char name[1000];
	uint32_t n;
	size_t i;

	memset(name, 'x', sizeof(name));
	t.site = t.mx_name = t.esmtp = t.tls_cipher = t.tls_protocol = slice_of(name, sizeof(name));
	t.msgid = t.bytes = t.started = t.ended = UINT64_MAX;
	for (i = 0; i < 300; i++) {
		memset(texts[i], 'a' + (int)(i % 26), sizeof(texts[i]));
		o[i].text = slice_of(texts[i], sizeof(texts[i]));
		o[i].rcpt = o[i].queue = UINT32_MAX;
		o[i].due = UINT64_MAX;
		o[i].code = UINT16_MAX;
	}
	for (n = 1; n <= 300; n += n < 13 ? 1 : 13) {
		t.outcome_count = n;
		buf_clear(&b);
		report_transaction_encode(&t, &b);
		cr_assert_leq(b.n, report_transaction_bound(&t, n), "%u outcomes: %zu", n, b.n);
		cr_assert_leq(report_transaction_bound(&t, n), report_transaction_bound(NULL, n));
		cr_assert_leq(report_transaction_bound(&t, n), b.n + 100 + n * 24,
			      "%u outcomes: more is kept than they can need", n);
		cr_assert_eq(report_transaction_decode(buf_slice(&b), &scratch, &got), 0);
		cr_assert_eq(got.outcome_count, n);
		cr_assert_geq(got.outcomes[n - 1].text.n, 100);
	}
	buf_done(&b);
	buf_done(&scratch);
}

Test(report, others_come_back_as_they_were)
{
	struct report_park_item items[] = {{1, 2}, {UINT64_MAX, UINT32_MAX}};
	struct report_site s = {.name = lit("x.rollup"),
				.queue = lit("x.rollup/v"),
				.record = true,
				.mode = {.mode = SITE_BACKOFF,
					 .since = 4,
					 .reason = SLICE_LIT("421 slow down")},
				.since = 5,
				.retry_position = 3,
				.retry_at = 99,
				.enhanced = {4, 4, 1},
				.text = lit("local: refused"),
				.mx_name = lit("mx"),
				.mx_ip = {IP_V4, {1, 2, 3, 4}},
				.when = 77},
			   s2;
	struct report_park p = {.queue = 4, .due = 123, .items = items, .item_count = 2}, p2;
	struct report_wake w = {.queue = 9, .at = UINT64_MAX - 1}, w2;
	struct report_order_ack a = {.order = 12, .held = items, .held_count = 2}, a2;
	struct report_reroute r = {.queue = 3, .target = lit("p"), .until = 8, .why = lit("w")}, r2;
	struct report_move m = {.queue = 5,
				.reselect = true,
				.target = lit("pool"),
				.items = items,
				.item_count = 2},
			   m2;
	struct report_notice n = {.when = 6,
				  .to = lit("ops@x"),
				  .subject = lit("s"),
				  .text = lit("t\n"),
				  .left_out = 3},
			     n2;
	struct report_member b1 = {.queue = 6, .provider = lit("x.rollup")}, b2;
	struct buf b = BUF_INIT, scratch = BUF_INIT;

	report_member_encode(&b1, &b);
	cr_assert_eq(report_member_decode(buf_slice(&b), &b2), 0);
	cr_assert(b2.queue == 6 && slice_eq(b2.provider, b1.provider));
	buf_clear(&b);
	report_site_encode(&s, &b);
	cr_assert_eq(report_site_decode(buf_slice(&b), &s2), 0);
	cr_assert(slice_eq(s2.name, s.name) && slice_eq(s2.queue, s.queue) &&
		  slice_eq(s2.text, s.text));
	cr_assert(s2.mode.mode == SITE_BACKOFF && s2.mode.since == 4 &&
		  slice_eq(s2.mode.reason, s.mode.reason));
	cr_assert(s2.record && !s2.clear && s2.retry_at == 99 && s2.retry_position == 3 &&
		  s2.when == 77);
	buf_clear(&b);
	report_park_encode(&p, &b);
	cr_assert_eq(report_park_decode(buf_slice(&b), &scratch, &p2), 0);
	cr_assert(p2.queue == 4 && p2.due == 123 && p2.item_count == 2);
	cr_assert(p2.items[1].msgid == UINT64_MAX && p2.items[1].rcpt == UINT32_MAX);
	buf_clear(&b);
	report_wake_encode(&w, &b);
	cr_assert_eq(report_wake_decode(buf_slice(&b), &w2), 0);
	cr_assert(w2.queue == 9 && w2.at == UINT64_MAX - 1);
	buf_clear(&b);
	report_order_ack_encode(&a, &b);
	cr_assert_eq(report_order_ack_decode(buf_slice(&b), &scratch, &a2), 0);
	cr_assert(a2.order == 12 && a2.held_count == 2 && a2.held[0].rcpt == 2);
	buf_clear(&b);
	report_reroute_encode(&r, &b);
	cr_assert_eq(report_reroute_decode(buf_slice(&b), &r2), 0);
	cr_assert(r2.queue == 3 && slice_eq(r2.target, r.target) && r2.until == 8 &&
		  slice_eq(r2.why, r.why));
	buf_clear(&b);
	report_move_encode(&m, &b);
	cr_assert_eq(report_move_decode(buf_slice(&b), &scratch, &m2), 0);
	cr_assert(m2.queue == 5 && m2.reselect && slice_eq(m2.target, m.target) &&
		  m2.item_count == 2 && m2.items[0].rcpt == 2);
	buf_clear(&b);
	report_notice_encode(&n, &b);
	cr_assert_eq(report_notice_decode(buf_slice(&b), &n2), 0);
	cr_assert(n2.when == 6 && slice_eq(n2.to, n.to) && slice_eq(n2.subject, n.subject) &&
		  slice_eq(n2.text, n.text) && n2.left_out == 3);
	buf_done(&b);
	buf_done(&scratch);
}

Test(report, every_cut_and_every_extra_byte_is_corrupt)
{
	struct report_outcome o[3];
	struct report_transaction t = sample(o, 3), got;
	struct buf b = BUF_INIT, scratch = BUF_INIT;
	size_t n;

	report_transaction_encode(&t, &b);
	for (n = 0; n < b.n; n++) {
		char *cut = malloc(n + 1);

		memcpy(cut, b.p, n);
		cr_assert_eq(report_transaction_decode(slice_of(cut, n), &scratch, &got),
			     ERR_CORRUPT, "cut at %zu", n);
		free(cut);
	}
	buf_add_char(&b, 0);
	cr_assert_eq(report_transaction_decode(buf_slice(&b), &scratch, &got), ERR_CORRUPT);
	buf_done(&b);
	buf_done(&scratch);
}

Test(report, random_damage_never_reads_outside)
{
	struct report_outcome o[4];
	struct report_transaction t = sample(o, 4), got;
	struct report_park park;
	struct report_move move;
	struct report_reroute reroute;
	struct report_site site;
	struct report_notice notice;
	struct buf b = BUF_INIT, scratch = BUF_INIT;
	int i;

	rng_seed(1);
	report_transaction_encode(&t, &b);
	for (i = 0; i < 20000; i++) {
		char *copy = malloc(b.n);

		memcpy(copy, b.p, b.n);
		copy[rng_below((uint32_t)b.n)] = (char)rng_below(256);
		copy[rng_below((uint32_t)b.n)] = (char)rng_below(256);
		(void)report_transaction_decode(slice_of(copy, b.n), &scratch, &got);
		(void)report_park_decode(slice_of(copy, b.n), &scratch, &park);
		(void)report_site_decode(slice_of(copy, b.n), &site);
		(void)report_move_decode(slice_of(copy, b.n), &scratch, &move);
		(void)report_reroute_decode(slice_of(copy, b.n), &reroute);
		(void)report_notice_decode(slice_of(copy, b.n), &notice);
		free(copy);
	}
	buf_done(&b);
	buf_done(&scratch);
}
