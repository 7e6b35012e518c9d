/* links: common/base common/mail */
#include <criterion/criterion.h>
#include <string.h>

#include "common/mail/scan.h"

struct scan_case {
	const char *label, *in;
	const char *message; /* what belongs to the message; NULL: no end is seen */
	enum mail_fault fault;
	uint64_t line;
};

static const struct scan_case cases[] = {
	{"empty message", ".\r\n", "", MAIL_FAULT_NONE, 0},
	{"one line", "a\r\n.\r\n", "a\r\n", MAIL_FAULT_NONE, 0},
	{"stuffed dot", "..a\r\n.\r\n", "..a\r\n", MAIL_FAULT_NONE, 0},
	{"lone stuffed dot", "..\r\n.\r\n", "..\r\n", MAIL_FAULT_NONE, 0},
	{"dot inside", "a.\r\n.b\r\n.\r\n", "a.\r\n.b\r\n", MAIL_FAULT_NONE, 0},
	{"empty lines", "\r\n\r\n.\r\n", "\r\n\r\n", MAIL_FAULT_NONE, 0},
	{"more behind the end", "a\r\n.\r\nQUIT\r\n", "a\r\n", MAIL_FAULT_NONE, 0},
	{"8 bit", "\xff\xc3\r\n.\r\n", "\xff\xc3\r\n", MAIL_FAULT_NONE, 0},
	{"no end", "a\r\n", NULL, MAIL_FAULT_NONE, 0},
	{"LF . LF", "a\n.\nb\r\n.\r\n", "a\n.\nb\r\n", MAIL_FAULT_BARE_LF, 1},
	{"LF . CRLF", "a\n.\r\nb\r\n.\r\n", "a\n.\r\nb\r\n", MAIL_FAULT_BARE_LF, 1},
	{"CRLF . LF", "a\r\n.\nb\r\n.\r\n", "a\r\n.\nb\r\n", MAIL_FAULT_BARE_LF, 2},
	{"CR . CR", "a\r.\rb\r\n.\r\n", "a\r.\rb\r\n", MAIL_FAULT_BARE_CR, 1},
	{"CR . CRLF", "a\r.\r\nb\r\n.\r\n", "a\r.\r\nb\r\n", MAIL_FAULT_BARE_CR, 1},
	{"CRLF . CR", "a\r\n.\rb\r\n.\r\n", "a\r\n.\rb\r\n", MAIL_FAULT_BARE_CR, 2},
	{"CR CRLF . CRLF is the end", "a\r\r\n.\r\n", "a\r\r\n", MAIL_FAULT_BARE_CR, 1},
	{"CRLF . CR CRLF", "a\r\n.\r\r\nb\r\n.\r\n", "a\r\n.\r\r\nb\r\n", MAIL_FAULT_BARE_CR, 2},
	{"LF at the start", "\n.\r\nb\r\n.\r\n", "\n.\r\nb\r\n", MAIL_FAULT_BARE_LF, 1},
	{"LF CR . LF CR", "a\n\r.\n\rb\r\n.\r\n", "a\n\r.\n\rb\r\n", MAIL_FAULT_BARE_LF, 1},
	{"LF CRLF . CRLF is the end", "a\n\r\n.\r\n", "a\n\r\n", MAIL_FAULT_BARE_LF, 1},
	{"CRLF . with space", "a\r\n. \r\n.\r\n", "a\r\n. \r\n", MAIL_FAULT_NONE, 0},
	{"tab before the dot", "a\r\n\t.\r\n.\r\n", "a\r\n\t.\r\n", MAIL_FAULT_NONE, 0},
};

/* Feeds in pieces of `step` bytes as a stream does: what is not taken comes again with more. */
static void run(const struct scan_case *c, size_t step)
{
	struct mail_scan s = {0};
	struct buf message = BUF_INIT, pending = BUF_INIT;
	size_t n = strlen(c->in), fed = 0;
	bool end = false;

	while (!end && fed < n) {
		size_t take = step < n - fed ? step : n - fed, used, skip;

		buf_add(&pending, c->in + fed, take);
		fed += take;
		used = mail_scan_data(&s, buf_slice(&pending), &end, &skip);
		buf_add(&message, pending.p, used);
		buf_consume(&pending, used + skip);
	}
	cr_expect(end == (c->message != NULL), "%s/%zu: end %d", c->label, step, end);
	cr_expect(s.fault == c->fault, "%s/%zu: fault %d", c->label, step, s.fault);
	if (c->fault)
		cr_expect(s.fault_line == c->line, "%s/%zu: line %llu", c->label, step,
			  (unsigned long long)s.fault_line);
	if (c->message)
		cr_expect(slice_eq_str(buf_slice(&message), c->message), "%s/%zu: \"%.*s\"",
			  c->label, step, SLICE_ARG(buf_slice(&message)));
	buf_done(&message);
	buf_done(&pending);
}

Test(mail_scan, finds_only_the_true_end)
{
	size_t i, step;

	for (i = 0; i < ARRAY_SIZE(cases); i++)
		for (step = 1; step < 24; step++)
			run(&cases[i], step);
}

static enum mail_fault fault_of_line(size_t octets, bool dotted, bool chunk)
{
	struct mail_scan s = {0};
	struct buf b = BUF_INIT;
	size_t skip;
	bool end;

	if (dotted)
		buf_add_str(&b, chunk ? "." : "..");
	while (b.n < octets + (dotted && !chunk ? 1U : 0U))
		buf_add_char(&b, 'x');
	buf_add_str(&b, "\r\n");
	if (chunk)
		mail_scan_chunk(&s, buf_slice(&b), NULL);
	else
		(void)mail_scan_data(&s, buf_slice(&b), &end, &skip);
	buf_done(&b);
	return s.fault;
}

Test(mail_scan, allows_998_octets_in_a_line)
{
	int chunk;

	for (chunk = 0; chunk < 2; chunk++) {
		cr_expect(fault_of_line(998, false, chunk) == MAIL_FAULT_NONE);
		cr_expect(fault_of_line(999, false, chunk) == MAIL_FAULT_LONG_LINE);
		cr_expect(fault_of_line(998, true, chunk) == MAIL_FAULT_NONE);
	}
	cr_expect(fault_of_line(999, true, false) == MAIL_FAULT_LONG_LINE);
}

static const struct {
	const char *label, *in, *out;
	enum mail_fault fault;
} chunks[] = {
	{"nothing", "", "", MAIL_FAULT_NONE},
	{"plain", "a\r\nb\r\n", "a\r\nb\r\n", MAIL_FAULT_NONE},
	{"unfinished line", "a", "a\r\n", MAIL_FAULT_NONE},
	{"dots are stuffed", ".\r\n..\r\na.\r\n.x\r\n", "..\r\n...\r\na.\r\n..x\r\n",
	 MAIL_FAULT_NONE},
	{"the end mark of DATA is text", "a\r\n.\r\nb\r\n", "a\r\n..\r\nb\r\n", MAIL_FAULT_NONE},
	{"lone dot", ".", "..\r\n", MAIL_FAULT_NONE},
	{"bare LF", "a\nb\r\n", NULL, MAIL_FAULT_BARE_LF},
	{"bare CR", "a\rb\r\n", NULL, MAIL_FAULT_BARE_CR},
	{"CR at the end", "a\r", NULL, MAIL_FAULT_BARE_CR},
};

Test(mail_scan, stuffs_chunks)
{
	size_t i, step, at;

	for (i = 0; i < ARRAY_SIZE(chunks); i++)
		for (step = 1; step < 8; step++) {
			struct slice in = slice_str(chunks[i].in);
			struct mail_scan s = {0};
			struct buf out = BUF_INIT;

			for (at = 0; at < in.n; at += step)
				mail_scan_chunk(&s, slice_sub(in, at, step), &out);
			mail_scan_chunk_end(&s, &out);
			cr_expect(s.fault == chunks[i].fault, "%s: %d", chunks[i].label, s.fault);
			if (chunks[i].out)
				cr_expect(slice_eq_str(buf_slice(&out), chunks[i].out),
					  "%s: \"%.*s\"", chunks[i].label,
					  SLICE_ARG(buf_slice(&out)));
			buf_done(&out);
		}
}

/* 1 MiB of CRs or LFs in one piece: linear, so this is instant. */
Test(mail_scan, stays_linear_over_hostile_input, .timeout = 5)
{
	struct buf b = BUF_INIT;
	struct mail_scan s;
	size_t skip, i;
	bool end;

	for (i = 0; i < (1U << 20); i++)
		buf_add_char(&b, '\r');
	s = (struct mail_scan){0};
	cr_expect(mail_scan_data(&s, buf_slice(&b), &end, &skip) == b.n);
	cr_expect(s.fault == MAIL_FAULT_BARE_CR);
	memset(b.p, '\n', b.n);
	s = (struct mail_scan){0};
	cr_expect(mail_scan_data(&s, buf_slice(&b), &end, &skip) == b.n);
	cr_expect(s.fault == MAIL_FAULT_BARE_LF);
	buf_done(&b);
}
