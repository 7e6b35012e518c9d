#include "common/smtp/reply.h"

#include <string.h>

#include "common/base/err.h"
#include "common/smtp/text.h"

#define SNIPPET_MAX 80

void reply_init(struct reply *r)
{
	memset(r, 0, sizeof(*r));
}

void reply_done(struct reply *r)
{
	if (!r)
		return;
	buf_done(&r->text);
	buf_done(&r->first);
	buf_done(&r->lines);
}

void reply_reset(struct reply *r)
{
	r->code = 0;
	memset(r->enhanced, 0, sizeof(r->enhanced));
	buf_clear(&r->text);
	buf_clear(&r->first);
	buf_clear(&r->lines);
	r->line_count = 0;
	r->total = 0;
}

static int fail(struct reply *r, int err, const char *why, struct slice line)
{
	r->code = 0;
	memset(r->enhanced, 0, sizeof(r->enhanced));
	buf_clear(&r->text);
	buf_add_str(&r->text, why);
	if (line.n) {
		buf_add_str(&r->text, ": \"");
		if (!text_add_safe(&r->text, line, r->text.n + SNIPPET_MAX))
			buf_add_str(&r->text, "...");
		buf_add_char(&r->text, '"');
	}
	return err;
}

static bool enhanced_number(struct slice s, size_t *at, unsigned *ret)
{
	unsigned v = 0;
	size_t from = *at;

	while (*at < s.n && s.p[*at] >= '0' && s.p[*at] <= '9' && *at - from < 3)
		v = v * 10 + (unsigned)(s.p[(*at)++] - '0');
	*ret = v;
	return *at > from && v <= UINT8_MAX;
}

bool reply_enhanced(struct slice s, uint8_t ret[3], size_t *ret_used)
{
	unsigned v[3];
	size_t at = 0;
	int i;

	for (i = 0; i < 3; i++) {
		if (i && (at >= s.n || s.p[at++] != '.'))
			return false;
		if (!enhanced_number(s, &at, &v[i]))
			return false;
	}
	if ((v[0] != 2 && v[0] != 4 && v[0] != 5) ||
	    (at < s.n && s.p[at] != ' ' && s.p[at] != '\t'))
		return false;
	while (at < s.n && (s.p[at] == ' ' || s.p[at] == '\t'))
		at++;
	for (i = 0; i < 3; i++)
		ret[i] = (uint8_t)v[i];
	*ret_used = at;
	return true;
}

/* "250", "250 text" or "250-text". */
static bool split_line(struct slice line, uint16_t *ret_code, bool *ret_last,
		       struct slice *ret_text)
{
	size_t i;

	if (line.n < 3 || line.p[0] < '2' || line.p[0] > '5')
		return false;
	for (i = 1; i < 3; i++)
		if (line.p[i] < '0' || line.p[i] > '9')
			return false;
	if (line.n > 3 && line.p[3] != ' ' && line.p[3] != '-')
		return false;
	*ret_code =
		(uint16_t)((line.p[0] - '0') * 100 + (line.p[1] - '0') * 10 + (line.p[2] - '0'));
	*ret_last = line.n == 3 || line.p[3] == ' ';
	*ret_text = slice_trim(slice_from(line, 4));
	return true;
}

/* The text for one subject line is put together as the lines come; the code goes in at the end. */
static void add_text(struct reply *r, uint16_t code, struct slice text)
{
	uint8_t enhanced[3];
	size_t used;

	if (reply_enhanced(text, enhanced, &used) && enhanced[0] == code / 100) {
		if (r->enhanced[0] == 0)
			memcpy(r->enhanced, enhanced, sizeof(enhanced));
		if (r->line_count > 1 && memcmp(r->enhanced, enhanced, sizeof(enhanced)) == 0)
			text = slice_from(text, used);
	}
	if (text.n == 0)
		return;
	if (r->text.n < REPLY_TEXT_MAX)
		buf_add_char(&r->text, ' ');
	(void)text_add_safe(&r->text, text, REPLY_TEXT_MAX);
}

static int take_line(struct reply *r, struct slice line)
{
	struct slice text;
	uint16_t code;
	bool last;

	if (r->line_count == REPLY_LINES_MAX)
		return fail(r, ERR_TOO_LONG, "reply of more than 200 lines", slice_of("", 0));
	if (!split_line(line, &code, &last, &text))
		return fail(r, ERR_INVALID, "not an SMTP reply", line);
	if (r->line_count && code / 100 != r->code / 100)
		return fail(r, ERR_INVALID, "lines of one reply have contradicting codes", line);
	r->line_count++;
	r->code = code;
	if (r->line_count == 1) {
		(void)text_add_safe(&r->first, line, REPLY_TEXT_MAX);
		buf_add_str(&r->text, "000");
	}
	add_text(r, code, text);
	(void)text_add_safe(&r->lines, text, (size_t)REPLY_TOTAL_MAX * 2);
	buf_add_char(&r->lines, '\n');
	if (!last)
		return 0;
	r->text.p[0] = (char)('0' + code / 100);
	r->text.p[1] = (char)('0' + code / 10 % 10);
	r->text.p[2] = (char)('0' + code % 10);
	return 1;
}

int reply_parse(struct reply *r, struct slice in, size_t *ret_used)
{
	*ret_used = 0;
	for (;;) {
		struct slice rest = slice_from(in, *ret_used), line;
		ptrdiff_t at = slice_chr(rest, '\n');
		int rc;

		if (at > REPLY_LINE_MAX || (at < 0 && rest.n > REPLY_LINE_MAX))
			return fail(r, ERR_TOO_LONG, "reply line of more than 8192 bytes", rest);
		if (at < 0)
			return 0;
		line = slice_sub(rest, 0, (size_t)at);
		if (line.n && line.p[line.n - 1] == '\r')
			line.n--;
		*ret_used += (size_t)at + 1;
		r->total += (uint32_t)at + 1;
		if (r->total > REPLY_TOTAL_MAX)
			return fail(r, ERR_TOO_LONG, "reply of more than 65536 bytes",
				    slice_of("", 0));
		rc = take_line(r, line);
		if (rc)
			return rc;
	}
}

bool reply_line(const struct reply *r, uint32_t i, struct slice *ret)
{
	struct slice rest = buf_slice(&r->lines);

	if (i >= r->line_count)
		return false;
	do {
		if (!slice_next(&rest, '\n', ret))
			return false;
	} while (i-- > 0);
	return true;
}
