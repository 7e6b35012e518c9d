/* links: common/base common/conf common/acct */
#include <criterion/criterion.h>

#include "common/acct/record.h"
#include "common/acct/status.h"
#include "common/conf/replies.h"
#include "tests/unit/conf_text.h"
#include "common/base/err.h"

static struct acct_record full(void)
{
	struct acct_record r = {
		.type = ACCT_BOUNCED,
		.time_logged = 1795311565000,
		.time_queued = 1795311560000,
		.time_first_attempt = 1795311561000,
		.orig = slice_str("a@b.example"),
		.rcpt = slice_str("c@d.example"),
		.orcpt = slice_str("rfc822;c@d.example"),
		.dsn_action = slice_str("failed"),
		.enhanced = {5, 1, 255},
		.code = 550,
		.text = slice_str("550 5.1.1 no"),
		.mx_name = slice_str("mx.d.example"),
		.src_mta = slice_str("h (10.0.0.1)"),
		.dlv_type = slice_str("smtp"),
		.esmtp = slice_str("PIPELINING,SIZE"),
		.size = UINT64_MAX,
		.tls_protocol = slice_str("TLSv1.3"),
		.tls_cipher = slice_str("TLS_AES_256_GCM_SHA384"),
		.vmta = slice_str("mta1"),
		.pool = slice_str("pool1"),
		.job = slice_str("j"),
		.envid = slice_str("e"),
		.user = slice_str("u"),
		.queue = slice_str("d.example/mta1"),
		.attempt = 7,
		.msgid = 1795311560000001,
	};

	cr_assert(ip_parse(slice_str("2001:db8::1"), &r.mx_ip));
	cr_assert(ip_parse(slice_str("192.0.2.7"), &r.source_ip));
	return r;
}

Test(acct_record, comes_back_as_it_was)
{
	struct acct_record in = full(), out;
	struct buf b = BUF_INIT, again = BUF_INIT;

	acct_record_encode(&in, &b);
	cr_assert_eq(acct_record_decode(buf_slice(&b), &out), 0);
	cr_assert_eq(out.type, in.type);
	cr_assert_eq(out.time_queued, in.time_queued);
	cr_assert(slice_eq(out.rcpt, in.rcpt));
	cr_assert(slice_eq(out.queue, in.queue));
	cr_assert(ip_eq(&out.mx_ip, &in.mx_ip));
	cr_assert(ip_eq(&out.source_ip, &in.source_ip));
	cr_assert_eq(out.enhanced[2], 255);
	cr_assert_eq(out.size, UINT64_MAX);
	acct_record_encode(&out, &again);
	cr_assert(slice_eq(buf_slice(&b), buf_slice(&again)));
	buf_done(&b);
	buf_done(&again);
}

Test(acct_record, every_cut_and_every_addition_is_corrupt)
{
	struct acct_record in = full(), out;
	struct buf b = BUF_INIT;

	acct_record_encode(&in, &b);
	for (size_t n = 0; n < b.n; n++)
		cr_assert_eq(acct_record_decode(slice_of(b.p, n), &out), ERR_CORRUPT, "cut to %zu",
			     n);
	buf_add_char(&b, 'x');
	cr_assert_eq(acct_record_decode(buf_slice(&b), &out), ERR_CORRUPT);
	b.n--;
	b.p[0] = 99;
	cr_assert_eq(acct_record_decode(buf_slice(&b), &out), ERR_VERSION);
	b.p[0] = 1;
	b.p[1] = 'z';
	cr_assert_eq(acct_record_decode(buf_slice(&b), &out), ERR_CORRUPT);
	buf_done(&b);
}

Test(acct_record, damaged_bytes_never_read_past_the_end)
{
	struct acct_record in = full(), out;
	struct buf b = BUF_INIT;

	acct_record_encode(&in, &b);
	for (size_t i = 0; i < b.n; i++) {
		for (unsigned bit = 0; bit < 8; bit++) {
			char *copy = malloc(b.n);

			cr_assert_not_null(copy);
			memcpy(copy, b.p, b.n);
			copy[i] = (char)(copy[i] ^ (1 << bit));
			if (acct_record_decode(slice_of(copy, b.n), &out) == 0)
				cr_assert(out.text.p >= copy &&
					  out.text.p + out.text.n <= copy + b.n);
			free(copy);
		}
	}
	buf_done(&b);
}

Test(acct_status, knows_the_words_of_codes)
{
	cr_assert_str_eq(acct_status_text((const uint8_t[]){2, 0, 0}), "success");
	cr_assert_str_eq(acct_status_text((const uint8_t[]){5, 0, 0}), "undefined status");
	cr_assert_str_eq(acct_status_text((const uint8_t[]){5, 1, 1}),
			 "bad destination mailbox address");
	cr_assert_str_eq(acct_status_text((const uint8_t[]){4, 4, 7}), "delivery time expired");
	cr_assert_str_eq(acct_status_text((const uint8_t[]){5, 7, 99}),
			 "other or undefined security status");
	cr_assert_str_eq(acct_status_text((const uint8_t[]){5, 9, 9}), "undefined status");
}

Test(acct_status, is_implied_by_reply_code_and_type)
{
	static const uint8_t none[3] = {0, 0, 0}, given[3] = {5, 2, 2};
	uint8_t e[3];

	acct_status_effective(ACCT_BOUNCED, 550, none, e);
	cr_assert(e[0] == 5 && e[1] == 0 && e[2] == 0);
	acct_status_effective(ACCT_DELIVERED, 0, none, e);
	cr_assert_eq(e[0], 2);
	acct_status_effective(ACCT_TRANSIENT, 0, none, e);
	cr_assert_eq(e[0], 4);
	acct_status_effective(ACCT_BOUNCED, 550, given, e);
	cr_assert(e[0] == 5 && e[1] == 2 && e[2] == 2);
}

Test(acct_category, of_well_known_replies)
{
	static const struct {
		const char *text;
		uint8_t enhanced[3];
		uint16_t code;
		const char *category;
	} cases[] = {
		{"550 5.1.1 The email account that you tried to reach does not exist.",
		 {5, 1, 1},
		 550,
		 "bad-mailbox"},
		{"552 5.2.2 The email account that you tried to reach is over quota.",
		 {5, 2, 2},
		 552,
		 "quota-issues"},
		{"550 5.7.1 Message rejected as spam by Content Filtering.",
		 {5, 7, 1},
		 550,
		 "spam-related"},
		{"550 5.7.1 Service unavailable, Client host [192.0.2.1] blocked using Spamhaus.",
		 {5, 7, 1},
		 550,
		 "spam-related"},
		{"550-5.7.26 This mail is unauthenticated", {5, 7, 26}, 550, "policy-related"},
		{"554 5.7.1 <x@y>: Relay access denied", {5, 7, 1}, 554, "relaying-issues"},
		{"554 Message contains a virus", {0, 0, 0}, 554, "virus-related"},
		{"550 User unknown", {0, 0, 0}, 550, "bad-mailbox"},
		{"550 Requested action not taken", {0, 0, 0}, 550, "bad-mailbox"},
		{"500 what?", {0, 0, 0}, 500, "protocol-errors"},
		{"550 5.2.1 disabled", {5, 2, 1}, 550, "inactive-mailbox"},
		{"local: message expired after 4d12h", {5, 4, 7}, 0, "message-expired"},
		{"local: connection refused", {0, 0, 0}, 0, "no-answer-from-host"},
		{"local: no such domain", {5, 1, 2}, 0, "bad-domain"},
		{"local: connection lost after DATA", {4, 4, 2}, 0, "bad-connection"},
		{"local: deleted by administrator", {0, 0, 0}, 0, "other"},
	};

	struct conf *c = load_good("[smtp-listener 127.0.0.1:25]\n");

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const char *is = acct_category_of(c, ACCT_BOUNCED, cases[i].code, cases[i].enhanced,
						  slice_str(cases[i].text));

		cr_expect_str_eq(is, cases[i].category, "%s: %s", cases[i].text, is);
	}
	conf_free(c);
}

Test(acct_category, an_operators_lines_come_before_those_that_are_shipped)
{
	static const uint8_t no_user[3] = {5, 1, 1}, none[3] = {0, 0, 0};
	struct conf *c = load_good("[smtp-listener 127.0.0.1:25]\n[bounce-category-patterns]\n"
				   "pattern = /^5\\.1\\.1 .*smtp;550 .*gone fishing/ My-Holidays\n"
				   "pattern /x-sluice;.*deleted/ admin\n");
	struct slice text = slice_str("550 5.1.1 gone fishing");
	const struct conf_category *line = acct_category_line(c, ACCT_BOUNCED, 550, no_user, text);

	cr_expect_str_eq(line->category, "my-holidays");
	cr_expect_eq(line->at.line, 3);
	cr_expect_str_eq(acct_category_of(c, ACCT_BOUNCED, 550, no_user, slice_str("550 no")),
			 "bad-mailbox");
	cr_expect_str_eq(acct_category_of(c, ACCT_BOUNCED, 0, none,
					  slice_str("local: deleted by administrator")),
			 "admin");
	conf_free(c);
}

/* The reference lists these names. */
Test(acct_category, shipped_lines_give_the_names_of_the_table)
{
	struct conf *c = load_good("[smtp-listener 127.0.0.1:25]\n");
	unsigned seen = 0;

	for (size_t i = 0; i < conf_category_count(c); i++) {
		const struct conf_category *x = conf_category_at(c, i);
		unsigned k = 0;

		while (k < ACCT_CATEGORY_COUNT &&
		       strcmp(x->category, acct_category_name((enum acct_category)k)) != 0)
			k++;
		cr_expect_lt(k, ACCT_CATEGORY_COUNT, "%s", x->category);
		seen |= 1u << k;
	}
	cr_expect_eq(seen, (1u << ACCT_CATEGORY_COUNT) - 1);
	conf_free(c);
}
