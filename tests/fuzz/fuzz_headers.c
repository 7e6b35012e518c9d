/*
 * fuzz_headers.c - message lines, header blocks and addresses against any bytes.
 * Links: common/base common/mail common/smtp.
 */
#include <stdint.h>
#include <string.h>

#include "common/base/log.h"
#include "common/mail/header.h"
#include "common/mail/scan.h"
#include "common/smtp/address.h"

/* DATA in pieces: what belongs to the message, and whether its end was seen. */
static bool scan_pieces(struct slice in, size_t step, struct mail_scan *s, struct buf *ret)
{
	struct buf pending = BUF_INIT;
	bool end = false;
	size_t at, used, skip;

	*s = (struct mail_scan){0};
	for (at = 0; at < in.n && !end; at += step) {
		buf_add_slice(&pending, slice_sub(in, at, step));
		used = mail_scan_data(s, buf_slice(&pending), &end, &skip);
		invariant(used + skip <= pending.n && (end || pending.n - used < 3));
		buf_add(ret, pending.p, used);
		buf_consume(&pending, used + skip);
	}
	buf_done(&pending);
	return end;
}

static void fuzz_data(struct slice in, size_t step)
{
	struct buf whole = BUF_INIT, pieces = BUF_INIT;
	struct mail_scan a, b;
	bool end = scan_pieces(in, in.n ? in.n : 1, &a, &whole);

	invariant(end == scan_pieces(in, step, &b, &pieces));
	invariant(slice_eq(buf_slice(&whole), buf_slice(&pieces)));
	invariant(a.fault == b.fault && a.fault_line == b.fault_line);
	if (end) {
		/* The only end is CRLF.CRLF, and it is the first one. */
		const char *mark = memmem(whole.p, whole.n, "\r\n.\r\n", 5);

		invariant(!mark && (whole.n == 0 || whole.p[whole.n - 1] == '\n'));
	}
	buf_done(&whole);
	buf_done(&pieces);
}

/* What BDAT stuffs goes through DATA as it is, and ends where it should. */
static void fuzz_chunk(struct slice in, size_t step)
{
	struct buf wire = BUF_INIT, back = BUF_INIT;
	struct mail_scan s = {0}, t;
	size_t at;

	for (at = 0; at < in.n; at += step)
		mail_scan_chunk(&s, slice_sub(in, at, step), &wire);
	mail_scan_chunk_end(&s, &wire);
	if (s.fault == MAIL_FAULT_NONE) {
		buf_add_str(&wire, ".\r\n");
		invariant(scan_pieces(buf_slice(&wire), wire.n, &t, &back));
		invariant(t.fault == MAIL_FAULT_NONE && back.n + 3 == wire.n);
	}
	buf_done(&wire);
	buf_done(&back);
}

static void fuzz_block(struct slice in)
{
	size_t scanned = 0, fields = 0, body = 0, sum = 0;
	struct slice rest;
	struct mail_field f;
	struct buf b = BUF_INIT;

	if (mail_header_find_end(in, &scanned, &fields, &body) == MAIL_HEADER_MORE)
		fields = body = scanned;
	invariant(fields <= body && body <= in.n);
	rest = slice_sub(in, 0, fields);
	while (mail_header_next(&rest, &f)) {
		invariant(f.raw.p == in.p + sum && f.raw.n > 0 && f.name.n > 0);
		invariant(f.value.p >= f.raw.p && f.value.n < f.raw.n);
		sum += f.raw.n;
		buf_clear(&b);
		mail_header_unfold(f.value, &b);
		invariant(slice_chr(buf_slice(&b), '\n') < 0 && slice_chr(buf_slice(&b), '\r') < 0);
	}
	invariant(sum == fields);
	buf_done(&b);
}

static void fuzz_address(struct slice in, unsigned flags)
{
	char canonical[ADDRESS_DOMAIN_TEXT_MAX];
	struct address a;
	size_t used, i;

	if (address_parse_path(in, flags, &a, &used))
		return;
	invariant(used <= in.n && a.local.n <= ADDRESS_LOCAL_MAX &&
		  a.domain.n <= ADDRESS_DOMAIN_MAX);
	for (i = 0; i < a.local.n; i++)
		invariant((unsigned char)a.local.p[i] >= ' ' && a.local.p[i] != 0x7f);
	if (a.domain.n && !domain_canonical(a.domain, canonical)) {
		for (i = 0; canonical[i]; i++)
			invariant((unsigned char)canonical[i] > ' ' && canonical[i] != '/' &&
				  canonical[i] != '@');
	}
}

static void fuzz_headers(struct slice in, size_t step)
{
	if (step == 0)
		step = 1;
	fuzz_data(in, step);
	fuzz_chunk(in, step);
	fuzz_block(in);
	fuzz_address(in, step & 1 ? ADDRESS_UTF8 : 0);
}

#ifdef SLUICE_LIBFUZZER
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	if (n)
		fuzz_headers(slice_of(data + 1, n - 1), data[0]);
	return 0;
}
#endif
