/* links: common/base spooler/dsn_row.c */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "common/base/err.h"
#include "spooler/dsn_row.h"

static void sample(struct buf *b)
{
	struct dsn_recipient rcpts[2] = {
		{.address = slice_str("a@x.example"),
		 .orcpt = slice_str("rfc822;b@x.example"),
		 .action = DSN_FAILED,
		 .enhanced = {5, 1, 1},
		 .code = 550,
		 .text = slice_str("550 5.1.1 no"),
		 .mx_name = slice_str("mx"),
		 .last_attempt = 7},
		{.address = slice_str("c@x.example"),
		 .action = DSN_DELAYED,
		 .will_retry_until = 99},
	};
	struct dsn_row r = {.msgid = 5,
			    .sender = slice_str("s@y.example"),
			    .dsn_envid = slice_str("E"),
			    .flags = SPOOL_MSG_RET_FULL,
			    .received = 1,
			    .made = 2,
			    .vmta = slice_str("mta1"),
			    .source_mta = slice_str("h (10.0.0.1)"),
			    .original = slice_str("Subject: x\r\n\r\n"),
			    .full = true,
			    .recipients = rcpts,
			    .recipient_count = 2};

	cr_assert(ip_parse(slice_str("2001:db8::1"), &rcpts[0].mx_ip));
	dsn_row_encode(&r, b);
}

Test(dsn_row, comes_back_as_it_was)
{
	struct buf b = BUF_INIT, again = BUF_INIT, scratch = BUF_INIT;
	struct dsn_row r;

	sample(&b);
	cr_assert_eq(dsn_row_decode(buf_slice(&b), &scratch, &r), 0);
	cr_assert_eq(r.recipient_count, 2);
	cr_assert(slice_eq_str(r.recipients[0].text, "550 5.1.1 no"));
	cr_assert_eq(r.recipients[0].mx_ip.family, IP_V6);
	cr_assert_eq(r.recipients[1].action, DSN_DELAYED);
	cr_assert_eq(r.recipients[1].will_retry_until, 99);
	cr_assert(r.full);
	dsn_row_encode(&r, &again);
	cr_assert(slice_eq(buf_slice(&b), buf_slice(&again)));
	buf_done(&b);
	buf_done(&again);
	buf_done(&scratch);
}

Test(dsn_row, mail_to_an_operator_is_told_apart)
{
	struct report_notice n = {.when = 9,
				  .to = slice_str("ops@y.example"),
				  .subject = slice_str("back-off of x/a"),
				  .text = slice_str("line\n"),
				  .left_out = 2},
			     n2;
	struct buf b = BUF_INIT, scratch = BUF_INIT;
	struct dsn_row r;

	sample(&b);
	cr_assert_not(dsn_notice_is(buf_slice(&b)));
	buf_clear(&b);
	cr_assert_not(dsn_notice_is(buf_slice(&b)));
	dsn_notice_encode(&n, &b);
	cr_assert(dsn_notice_is(buf_slice(&b)));
	cr_assert_eq(dsn_row_decode(buf_slice(&b), &scratch, &r), ERR_VERSION);
	cr_assert_eq(dsn_notice_decode(buf_slice(&b), &n2), 0);
	cr_assert(n2.when == 9 && slice_eq(n2.to, n.to) && slice_eq(n2.subject, n.subject) &&
		  slice_eq(n2.text, n.text) && n2.left_out == 2);
	for (size_t i = 1; i < b.n; i++)
		cr_assert_eq(dsn_notice_decode(slice_of(b.p, i), &n2), ERR_CORRUPT, "cut at %zu",
			     i);
	b.p[0]++;
	cr_assert_eq(dsn_notice_decode(buf_slice(&b), &n2), ERR_VERSION);
	buf_done(&b);
	buf_done(&scratch);
}

Test(dsn_row, damage_is_found_or_harmless)
{
	struct buf b = BUF_INIT, scratch = BUF_INIT;
	struct dsn_row r;

	sample(&b);
	for (size_t n = 0; n < b.n; n++)
		cr_assert_eq(dsn_row_decode(slice_of(b.p, n), &scratch, &r), ERR_CORRUPT,
			     "cut to %zu", n);
	for (size_t i = 1; i < b.n; i++) {
		for (unsigned bit = 0; bit < 8; bit++) {
			char *copy = malloc(b.n);

			cr_assert_not_null(copy);
			memcpy(copy, b.p, b.n);
			copy[i] = (char)(copy[i] ^ (1 << bit));
			if (dsn_row_decode(slice_of(copy, b.n), &scratch, &r) == 0)
				cr_assert(r.original.p >= copy &&
					  r.original.p + r.original.n <= copy + b.n);
			free(copy);
		}
	}
	b.p[0] = 9;
	cr_assert_eq(dsn_row_decode(buf_slice(&b), &scratch, &r), ERR_VERSION);
	buf_done(&b);
	buf_done(&scratch);
}

Test(dsn_wanted, by_notify_and_sender)
{
	static const struct {
		const char *sender;
		uint32_t flags;
		uint8_t notify;
		enum dsn_action action;
		bool wanted;
	} cases[] = {
		{"a@x", 0, 0, DSN_FAILED, true},
		{"", 0, 0, DSN_FAILED, false},
		{"", 0, SPOOL_NOTIFY_FAILURE, DSN_FAILED, false},
		{"a@x", SPOOL_MSG_IS_DSN, 0, DSN_FAILED, false},
		{"a@x", SPOOL_MSG_NO_DSN, SPOOL_NOTIFY_FAILURE, DSN_FAILED, false},
		{"a@x", 0, SPOOL_NOTIFY_NEVER, DSN_FAILED, false},
		{"a@x", 0, SPOOL_NOTIFY_SUCCESS, DSN_FAILED, false},
		{"a@x", 0, SPOOL_NOTIFY_SUCCESS | SPOOL_NOTIFY_FAILURE, DSN_FAILED, true},
		{"a@x", 0, 0, DSN_RELAYED, false},
		{"a@x", 0, SPOOL_NOTIFY_SUCCESS, DSN_RELAYED, true},
		{"a@x", 0, SPOOL_NOTIFY_SUCCESS, DSN_DELIVERED, true},
		{"a@x", 0, 0, DSN_DELAYED, false},
		{"a@x", 0, SPOOL_NOTIFY_DELAY, DSN_DELAYED, true},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct spool_message m = {.sender = slice_str(cases[i].sender),
					  .flags = cases[i].flags};
		struct spool_recipient r = {.notify = cases[i].notify};

		cr_expect_eq(dsn_wanted(&m, &r, cases[i].action), cases[i].wanted, "case %zu", i);
	}
}

Test(dsn_original, is_full_only_when_asked_for_and_small)
{
	struct spool_message m = {.size = 1000, .header_size = 300};
	bool full;

	cr_expect_eq(dsn_original_size(&m, &full), 300);
	cr_expect_not(full);
	m.flags = SPOOL_MSG_RET_FULL;
	cr_expect_eq(dsn_original_size(&m, &full), 1000);
	cr_expect(full);
	m.size = DSN_ORIGINAL_MAX + 1;
	cr_expect_eq(dsn_original_size(&m, &full), 300);
	cr_expect_not(full);
	m.header_size = DSN_ORIGINAL_MAX + 5;
	cr_expect_eq(dsn_original_size(&m, &full), DSN_ORIGINAL_MAX);
}
