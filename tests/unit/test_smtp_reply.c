/* links: common/base common/smtp */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "common/base/err.h"
#include "common/smtp/reply.h"
#include "common/smtp/text.h"

struct good {
	const char *label, *in, *text;
	uint16_t code;
	uint8_t enhanced[3];
	uint32_t lines;
	const char *first;
};

static const struct good goods[] = {
	{"plain", "250 OK\r\n", "250 OK", 250, {0, 0, 0}, 1, "250 OK"},
	{"bare code", "250\r\n", "250", 250, {0, 0, 0}, 1, "250"},
	{"code and space", "354 \r\n", "354", 354, {0, 0, 0}, 1, "354 "},
	{"bare LF", "220 hi\n", "220 hi", 220, {0, 0, 0}, 1, "220 hi"},
	{"enhanced",
	 "550 5.1.1 No such user\r\n",
	 "550 5.1.1 No such user",
	 550,
	 {5, 1, 1},
	 1,
	 "550 5.1.1 No such user"},
	{"long enhanced",
	 "421-4.7.28 slow\r\n421 4.7.28 down\r\n",
	 "421 4.7.28 slow down",
	 421,
	 {4, 7, 28},
	 2,
	 "421-4.7.28 slow"},
	{"enhanced only on the last line",
	 "550-gone\r\n550 5.1.1 away\r\n",
	 "550 gone away",
	 550,
	 {5, 1, 1},
	 2,
	 "550-gone"},
	{"enhanced of another class is text",
	 "452 5.2.2 over quota\r\n",
	 "452 5.2.2 over quota",
	 452,
	 {0, 0, 0},
	 1,
	 "452 5.2.2 over quota"},
	{"enhanced above 255 is text",
	 "550 5.7.509 denied\r\n",
	 "550 5.7.509 denied",
	 550,
	 {0, 0, 0},
	 1,
	 "550 5.7.509 denied"},
	{"differing codes of one class",
	 "250-a\r\n251 b\r\n",
	 "251 a b",
	 251,
	 {0, 0, 0},
	 2,
	 "250-a"},
	{"empty continuation", "250-\r\n250 x\r\n", "250 x", 250, {0, 0, 0}, 2, "250-"},
	{"bare code ends a list", "250-SIZE\r\n250\r\n", "250 SIZE", 250, {0, 0, 0}, 2, "250-SIZE"},
	{"control characters",
	 "250 a\001b\tc\033d\r\n",
	 "250 a?b c?d",
	 250,
	 {0, 0, 0},
	 1,
	 "250 a?b c?d"},
	{"bad UTF-8",
	 "550 \xff\xc3(\xe2\x82\xac\r\n",
	 "550 ?\x3f(\xe2\x82\xac",
	 550,
	 {0, 0, 0},
	 1,
	 "550 ?\x3f(\xe2\x82\xac"},
	{"CR inside", "250 a\rb\r\n", "250 a?b", 250, {0, 0, 0}, 1, "250 a?b"},
};

static void check_good(const struct good *g, const struct reply *r)
{
	cr_expect(r->code == g->code, "%s: code %u", g->label, r->code);
	cr_expect(memcmp(r->enhanced, g->enhanced, 3) == 0, "%s: enhanced %u.%u.%u", g->label,
		  r->enhanced[0], r->enhanced[1], r->enhanced[2]);
	cr_expect(slice_eq_str(buf_slice(&r->text), g->text), "%s: text \"%.*s\"", g->label,
		  SLICE_ARG(buf_slice(&r->text)));
	cr_expect(slice_eq_str(buf_slice(&r->first), g->first), "%s: first \"%.*s\"", g->label,
		  SLICE_ARG(buf_slice(&r->first)));
	cr_expect(r->line_count == g->lines, "%s: %u lines", g->label, r->line_count);
}

Test(smtp_reply, parses_valid_replies)
{
	struct reply r;
	size_t i, used;

	reply_init(&r);
	for (i = 0; i < ARRAY_SIZE(goods); i++) {
		struct slice in = slice_str(goods[i].in);

		reply_reset(&r);
		cr_expect(reply_parse(&r, in, &used) == 1, "%s", goods[i].label);
		cr_expect(used == in.n, "%s: used %zu", goods[i].label, used);
		check_good(&goods[i], &r);
	}
	reply_done(&r);
}

/*
 * The caller keeps an unfinished line: every prefix of the input gives "more", the whole the same.
 */
Test(smtp_reply, gives_the_same_byte_by_byte)
{
	struct reply r;
	size_t i, used;

	reply_init(&r);
	for (i = 0; i < ARRAY_SIZE(goods); i++) {
		size_t n = strlen(goods[i].in), at = 0, have;
		int rc = 0;

		reply_reset(&r);
		for (have = 1; have <= n; have++) {
			cr_expect(rc == 0, "%s: complete too early", goods[i].label);
			rc = reply_parse(&r, slice_of(goods[i].in + at, have - at), &used);
			at += used;
		}
		cr_expect(rc == 1 && at == n, "%s: rc %d", goods[i].label, rc);
		check_good(&goods[i], &r);
	}
	reply_done(&r);
}

static const struct {
	const char *label, *in;
	int err;
	const char *says;
} bads[] = {
	{"no code", "hello\r\n", ERR_INVALID, "not an SMTP reply: \"hello\""},
	{"empty line", "\r\n", ERR_INVALID, "not an SMTP reply"},
	{"two digits", "25 ok\r\n", ERR_INVALID, "not an SMTP reply"},
	{"four digits", "2500 ok\r\n", ERR_INVALID, "not an SMTP reply"},
	{"code without separator", "250ok\r\n", ERR_INVALID, "not an SMTP reply"},
	{"class 1", "100 go on\r\n", ERR_INVALID, "not an SMTP reply"},
	{"class 6", "650 what\r\n", ERR_INVALID, "not an SMTP reply"},
	{"tab after the code", "250\tok\r\n", ERR_INVALID, "not an SMTP reply"},
	{"HTTP", "HTTP/1.1 400 Bad Request\r\n", ERR_INVALID, "HTTP/1.1"},
	{"contradicting codes", "250-fine\r\n550 not\r\n", ERR_INVALID, "contradicting"},
	{"continuation without code", "250-fine\r\nmore\r\n250 ok\r\n", ERR_INVALID, "\"more\""},
	{"control characters", "\033[2J\r\n", ERR_INVALID, "\"?[2J\""},
};

Test(smtp_reply, refuses_what_is_no_reply)
{
	struct reply r;
	size_t i, used;

	reply_init(&r);
	for (i = 0; i < ARRAY_SIZE(bads); i++) {
		int rc;

		reply_reset(&r);
		rc = reply_parse(&r, slice_str(bads[i].in), &used);
		cr_expect(rc == bads[i].err, "%s: rc %d", bads[i].label, rc);
		cr_expect(strstr(buf_cstr(&r.text), bads[i].says), "%s: \"%s\"", bads[i].label,
			  buf_cstr(&r.text));
		cr_expect(r.code == 0, "%s: code %u", bads[i].label, r.code);
	}
	reply_done(&r);
}

static int parse_lines(struct reply *r, size_t count, size_t line_bytes, bool end)
{
	struct buf b = BUF_INIT;
	size_t i, j, used;
	int rc;

	for (i = 0; i < count; i++) {
		buf_add_str(&b, end && i + 1 == count ? "250 " : "250-");
		for (j = 4; j < line_bytes - 2; j++)
			buf_add_char(&b, 'x');
		buf_add_str(&b, "\r\n");
	}
	reply_reset(r);
	rc = reply_parse(r, buf_slice(&b), &used);
	buf_done(&b);
	return rc;
}

Test(smtp_reply, holds_its_bounds)
{
	struct reply r;
	struct buf b = BUF_INIT;
	size_t used;

	reply_init(&r);
	cr_expect(parse_lines(&r, 200, 20, true) == 1);
	cr_expect(r.line_count == 200 && r.text.n == REPLY_TEXT_MAX);
	cr_expect(parse_lines(&r, 201, 20, true) == ERR_TOO_LONG);
	cr_expect(parse_lines(&r, 1, 8192, true) == 1);
	cr_expect(r.text.n == REPLY_TEXT_MAX);
	cr_expect(parse_lines(&r, 1, 8200, true) == ERR_TOO_LONG);
	cr_expect(parse_lines(&r, 9, 8000, true) == ERR_TOO_LONG, "more than 64 KiB");
	while (b.n <= REPLY_LINE_MAX)
		buf_add_str(&b, "250 unfinished ");
	reply_reset(&r);
	cr_expect(reply_parse(&r, buf_slice(&b), &used) == ERR_TOO_LONG && used == 0);
	buf_done(&b);
	reply_done(&r);
}

Test(smtp_reply, cuts_the_text_between_characters)
{
	struct buf b = BUF_INIT;
	struct reply r;
	size_t used, i;

	buf_add_str(&b, "550 x");
	for (i = 0; i < 300; i++)
		buf_add_str(&b, "\xc3\xa9");
	buf_add_str(&b, "\r\n");
	reply_init(&r);
	cr_assert(reply_parse(&r, buf_slice(&b), &used) == 1);
	cr_expect(r.text.n == 511, "%zu", r.text.n);
	cr_expect(utf8_valid(buf_slice(&r.text)));
	reply_done(&r);
	buf_done(&b);
}

Test(smtp_reply, leaves_the_next_reply_alone)
{
	struct slice in = slice_str("250 a\r\n250 b\r\n354 c\r\n");
	struct reply r;
	size_t used;

	reply_init(&r);
	cr_expect(reply_parse(&r, in, &used) == 1 && used == 7);
	cr_expect(slice_eq_str(buf_slice(&r.text), "250 a"));
	reply_reset(&r);
	in = slice_from(in, used);
	cr_expect(reply_parse(&r, in, &used) == 1 && used == 7);
	cr_expect(slice_eq_str(buf_slice(&r.text), "250 b"));
	reply_done(&r);
}

Test(smtp_reply, gives_the_lines_of_ehlo)
{
	struct reply r;
	struct slice line;
	size_t used;

	reply_init(&r);
	cr_assert(reply_parse(&r, slice_str("250-mx.example\r\n250-SIZE 100\r\n250 8BITMIME\r\n"),
			      &used) == 1);
	cr_expect(reply_line(&r, 0, &line) && slice_eq_str(line, "mx.example"));
	cr_expect(reply_line(&r, 1, &line) && slice_eq_str(line, "SIZE 100"));
	cr_expect(reply_line(&r, 2, &line) && slice_eq_str(line, "8BITMIME"));
	cr_expect(!reply_line(&r, 3, &line));
	reply_done(&r);
}

Test(smtp_text, knows_utf8)
{
	static const struct {
		const char *s;
		bool valid;
	} cases[] = {
		{"", true},
		{"abc", true},
		{"\xc3\xa9", true},
		{"\xe2\x82\xac", true},
		{"\xf0\x9f\x98\x80", true},
		{"\xc0\x80", false},
		{"\xe0\x80\x80", false},
		{"\xed\xa0\x80", false},
		{"\xf4\x90\x80\x80", false},
		{"\xc3", false},
		{"\x80", false},
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(cases); i++)
		cr_expect(utf8_valid(slice_str(cases[i].s)) == cases[i].valid, "case %zu", i);
}
