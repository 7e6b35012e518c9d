/* links: common/base common/mail */
#include <criterion/criterion.h>
#include <string.h>

#include "common/mail/header.h"

static const struct {
	const char *label, *in;
	enum mail_header_end end;
	size_t fields, body;
} cases[] = {
	{"usual", "A: b\r\n\r\nbody\r\n", MAIL_HEADER_EMPTY_LINE, 6, 8},
	{"no header", "\r\nbody\r\n", MAIL_HEADER_EMPTY_LINE, 0, 2},
	{"folded", "A: b\r\n c\r\n\td\r\n\r\nx", MAIL_HEADER_EMPTY_LINE, 14, 16},
	{"fold with only white space", "A: b\r\n \r\n\r\n", MAIL_HEADER_EMPTY_LINE, 9, 11},
	{"no separation", "A: b\r\nplain text\r\n", MAIL_HEADER_NO_FIELD, 6, 6},
	{"text from the start", "plain text\r\n", MAIL_HEADER_NO_FIELD, 0, 0},
	{"begins with white space", " A: b\r\n\r\n", MAIL_HEADER_NO_FIELD, 0, 0},
	{"space before the colon", "A : b\r\n\r\n", MAIL_HEADER_EMPTY_LINE, 7, 9},
	{"8-bit name", "\xc3\xa9: b\r\n", MAIL_HEADER_NO_FIELD, 0, 0},
	{"empty name", ": b\r\n", MAIL_HEADER_NO_FIELD, 0, 0},
	{"mbox line", "From a@b Mon Jan  1 10:00\r\nA: b\r\n", MAIL_HEADER_NO_FIELD, 0, 0},
	{"unfinished", "A: b\r\nC: d", MAIL_HEADER_MORE, 6, 0},
	{"nothing", "", MAIL_HEADER_MORE, 0, 0},
};

Test(mail_header, finds_where_it_ends)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		size_t scanned = 0, fields = 0, body = 0;
		struct slice in = slice_str(cases[i].in);
		enum mail_header_end end = mail_header_find_end(in, &scanned, &fields, &body);

		cr_expect(end == cases[i].end, "%s: %d", cases[i].label, end);
		if (end == MAIL_HEADER_MORE)
			cr_expect(scanned == cases[i].fields, "%s", cases[i].label);
		else
			cr_expect(fields == cases[i].fields && body == cases[i].body, "%s: %zu %zu",
				  cases[i].label, fields, body);
	}
}

Test(mail_header, finds_the_same_end_byte_by_byte)
{
	size_t i, n;

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		size_t scanned = 0, fields = 0, body = 0, len = strlen(cases[i].in);
		enum mail_header_end end = MAIL_HEADER_MORE;

		for (n = 1; n <= len && end == MAIL_HEADER_MORE; n++)
			end = mail_header_find_end(slice_of(cases[i].in, n), &scanned, &fields,
						   &body);
		cr_expect(end == cases[i].end, "%s", cases[i].label);
		if (end != MAIL_HEADER_MORE)
			cr_expect(fields == cases[i].fields && body == cases[i].body, "%s",
				  cases[i].label);
	}
}

Test(mail_header, walks_the_fields)
{
	struct slice rest = slice_str("A: b\r\nLong : c\r\n  d\r\n\te \r\nX:\r\n");
	struct mail_field f;
	struct buf b = BUF_INIT;

	cr_assert(mail_header_next(&rest, &f));
	cr_expect(slice_eq_str(f.name, "A") && slice_eq_str(f.value, " b"));
	cr_expect(slice_eq_str(f.raw, "A: b\r\n"));
	cr_assert(mail_header_next(&rest, &f));
	cr_expect(slice_eq_str(f.name, "Long"));
	cr_expect(slice_eq_str(f.raw, "Long : c\r\n  d\r\n\te \r\n"));
	mail_header_unfold(f.value, &b);
	cr_expect(slice_eq_str(buf_slice(&b), "c  d\te"), "\"%s\"", buf_cstr(&b));
	cr_assert(mail_header_next(&rest, &f));
	cr_expect(slice_eq_str(f.name, "X") && f.value.n == 0);
	cr_expect(!mail_header_next(&rest, &f));
	buf_done(&b);
}

Test(mail_header, makes_received)
{
	struct mail_received r = {.helo = "client.example",
				  .ip = "192.0.2.1",
				  .by = "mta.example",
				  .with = "ESMTP",
				  .id = "abc",
				  .rcpt = "u@d.example",
				  .when = 0};
	struct buf b = BUF_INIT;

	mail_received_add(&b, &r);
	cr_expect(slice_istarts(buf_slice(&b), "Received: from client.example ([192.0.2.1])\r\n"
					       "\tby mta.example (Sluice) with ESMTP id abc\r\n"
					       "\tfor <u@d.example>;\r\n\t"),
		  "%s", buf_cstr(&b));
	cr_expect(strstr(buf_cstr(&b), " 1970 ") && b.p[b.n - 1] == '\n');
	buf_clear(&b);
	r.helo = r.ip = r.rcpt = NULL;
	mail_received_add(&b, &r);
	cr_expect(slice_istarts(buf_slice(&b),
				"Received: by mta.example (Sluice) with ESMTP id abc;\r\n\t"),
		  "%s", buf_cstr(&b));
	buf_done(&b);
}

Test(mail_header, makes_date_and_message_id)
{
	struct buf b = BUF_INIT;

	mail_message_id_add(&b, 0xabc, 0x12, "mta.example");
	cr_expect(slice_eq_str(buf_slice(&b), "Message-ID: <abc.12@mta.example>\r\n"));
	buf_clear(&b);
	mail_date_add(&b, 0);
	cr_expect(strncmp(buf_cstr(&b), "Date: ", 6) == 0 && strstr(b.p, "1970"));
	buf_done(&b);
}
