#include "spooler/dsn_text.h"

#define FOLD_AT 76
#define LINE_MAX_OCTETS 990 /* of 998: room for the space of a fold and a stuffed dot */

bool dsn_text_is_ascii(struct slice s)
{
	for (size_t i = 0; i < s.n; i++)
		if ((uint8_t)s.p[i] >= 0x80)
			return false;
	return true;
}

/* Length of a valid UTF-8 sequence beyond ASCII, or 0. */
static size_t utf8_length(const uint8_t *p, size_t n)
{
	size_t length = p[0] >= 0xc2 && p[0] < 0xe0   ? 2
			: (p[0] & 0xf0) == 0xe0	      ? 3
			: p[0] >= 0xf0 && p[0] < 0xf5 ? 4
						      : 0;

	if (!length || length > n)
		return 0;
	if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) ||
	    (p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f))
		return 0;
	for (size_t i = 1; i < length; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	return length;
}

void dsn_text_line(struct buf *b, struct slice s, size_t max, bool utf8)
{
	const uint8_t *p = (const uint8_t *)s.p;
	size_t i = 0;

	if (s.n > max)
		s.n = max;
	while (i < s.n) {
		size_t n = utf8 && p[i] >= 0x80 ? utf8_length(p + i, s.n - i) : 0;

		if (n)
			buf_add(b, p + i, n);
		else if (p[i] >= 0x80)
			buf_add_char(b, '?');
		else
			buf_add_char(b, p[i] < 0x20 || p[i] == 0x7f ? ' ' : (char)p[i]);
		i += n ? n : 1;
	}
}

static int hex_value(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

void dsn_text_xtext(struct buf *b, struct slice s, bool utf8)
{
	struct buf plain = BUF_INIT;

	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] == '+' && i + 2 < s.n && hex_value(s.p[i + 1]) >= 0 &&
		    hex_value(s.p[i + 2]) >= 0) {
			buf_add_char(&plain,
				     (char)(hex_value(s.p[i + 1]) * 16 + hex_value(s.p[i + 2])));
			i += 2;
		} else {
			buf_add_char(&plain, s.p[i]);
		}
	}
	dsn_text_line(b, buf_slice(&plain), 900, utf8);
	buf_done(&plain);
}

void dsn_text_field(struct buf *b, const char *name, struct slice value)
{
	size_t column = strlen(name) + 2;

	buf_add_str(b, name);
	buf_add_str(b, ": ");
	for (size_t i = 0; i < value.n; i++, column++) {
		struct slice rest = slice_from(value, i + 1);
		ptrdiff_t word = slice_chr(rest, ' ');

		/*
		 * The space stays, so that unfolding gives the same text; a fold of spaces alone
		 * is no fold.
		 */
		if (value.p[i] == ' ' && i && rest.n && rest.p[0] != ' ' &&
		    column + 1 + (word < 0 ? rest.n : (size_t)word) > FOLD_AT) {
			buf_add_str(b, "\r\n");
			column = 0;
		}
		buf_add_char(b, value.p[i]);
	}
	buf_add_str(b, "\r\n");
}

void dsn_text_wrap(struct buf *b, const char *indent, struct slice s)
{
	size_t left = strlen(indent), column = 0;
	struct slice word;

	while (slice_next(&s, ' ', &word)) {
		if (!word.n)
			continue;
		if (column && column + 1 + word.n > FOLD_AT) {
			buf_add_str(b, "\r\n");
			column = 0;
		}
		buf_add_str(b, column ? " " : indent);
		column += (column ? 1 : left) + word.n;
		buf_add_slice(b, word);
	}
	if (column)
		buf_add_str(b, "\r\n");
}

static void long_line(struct buf *b, struct slice line)
{
	while (line.n > LINE_MAX_OCTETS) {
		buf_add(b, line.p, LINE_MAX_OCTETS);
		buf_add_str(b, "\r\n ");
		line = slice_from(line, LINE_MAX_OCTETS);
	}
	buf_add_slice(b, line);
}

void dsn_text_lines(struct buf *b, struct slice s, bool *ret_long)
{
	bool any = false;

	*ret_long = false;
	while (s.n) {
		const char *end = memmem(s.p, s.n, "\r\n", 2);
		struct slice line = slice_sub(s, 0, end ? (size_t)(end - s.p) : s.n);

		if (!end && any)
			return;
		any = true;
		*ret_long |= line.n > LINE_MAX_OCTETS + 8;
		if (line.n > LINE_MAX_OCTETS + 8)
			long_line(b, line);
		else
			buf_add_slice(b, line);
		buf_add_str(b, "\r\n");
		s = slice_from(s, line.n + 2);
	}
}
