/*
 * fuzz_reply.c - the parser of SMTP replies against any bytes, whole and in pieces.
 * Links: common/base common/smtp.
 */
#include <stdint.h>
#include <string.h>

#include "common/base/log.h"
#include "common/smtp/reply.h"
#include "common/smtp/text.h"

static void check_text(struct slice s)
{
	size_t i;

	invariant(s.n <= REPLY_TEXT_MAX && utf8_valid(s));
	for (i = 0; i < s.n; i++)
		invariant((unsigned char)s.p[i] >= ' ' && s.p[i] != 0x7f);
}

static int parse_pieces(struct reply *r, struct slice in, size_t step, size_t *ret_used)
{
	size_t have = 0, used;
	int rc = 0;

	*ret_used = 0;
	while (rc == 0 && have < in.n) {
		have += step < in.n - have ? step : in.n - have;
		rc = reply_parse(r, slice_sub(in, *ret_used, have - *ret_used), &used);
		*ret_used += used;
		invariant(*ret_used <= have);
	}
	return rc;
}

static void fuzz_reply(struct slice in, size_t step)
{
	struct reply whole, pieces;
	struct slice line;
	size_t used_whole, used_pieces;
	uint32_t i;
	int rc;

	reply_init(&whole);
	reply_init(&pieces);
	rc = reply_parse(&whole, in, &used_whole);
	invariant(rc == parse_pieces(&pieces, in, step ? step : 1, &used_pieces));
	invariant(used_whole == used_pieces);
	if (rc == 1) {
		invariant(whole.code >= 200 && whole.code <= 599 && whole.line_count > 0);
		check_text(buf_slice(&whole.text));
		check_text(buf_slice(&whole.first));
		for (i = 0; i < whole.line_count; i++)
			invariant(reply_line(&whole, i, &line) && slice_chr(line, '\n') < 0);
		invariant(!reply_line(&whole, whole.line_count, &line));
	} else if (rc < 0) {
		invariant(whole.code == 0 && whole.text.n > 0);
		check_text(buf_slice(&whole.text));
	}
	invariant(rc == 0 || slice_eq(buf_slice(&whole.text), buf_slice(&pieces.text)));
	reply_done(&whole);
	reply_done(&pieces);
}

#ifdef SLUICE_LIBFUZZER
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	if (n)
		fuzz_reply(slice_of(data + 1, n - 1), data[0]);
	return 0;
}
#endif
