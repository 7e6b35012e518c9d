#include "common/smtp/text.h"

#include <stdint.h>

static bool is_tail(char c)
{
	return ((unsigned char)c & 0xc0) == 0x80;
}

/* Length by the lead byte, and the bounds of the second byte that rule out overlong forms. */
static size_t lead_length(unsigned char c, unsigned char *ret_low, unsigned char *ret_high)
{
	*ret_low = 0x80;
	*ret_high = 0xbf;
	if (c < 0x80)
		return 1;
	if (c >= 0xc2 && c <= 0xdf)
		return 2;
	if (c >= 0xe0 && c <= 0xef) {
		*ret_low = c == 0xe0 ? 0xa0 : 0x80;
		*ret_high = c == 0xed ? 0x9f : 0xbf;
		return 3;
	}
	if (c >= 0xf0 && c <= 0xf4) {
		*ret_low = c == 0xf0 ? 0x90 : 0x80;
		*ret_high = c == 0xf4 ? 0x8f : 0xbf;
		return 4;
	}
	return 0;
}

size_t utf8_length(const char *p, size_t n)
{
	unsigned char low, high;
	size_t len = lead_length((unsigned char)p[0], &low, &high);
	size_t i;

	if (len == 0 || len > n)
		return 0;
	if (len > 1 && ((unsigned char)p[1] < low || (unsigned char)p[1] > high))
		return 0;
	for (i = 2; i < len; i++)
		if (!is_tail(p[i]))
			return 0;
	return len;
}

bool utf8_valid(struct slice s)
{
	size_t len, i;

	for (i = 0; i < s.n; i += len) {
		len = utf8_length(s.p + i, s.n - i);
		if (len == 0)
			return false;
	}
	return true;
}

bool ascii_only(struct slice s)
{
	size_t i;

	for (i = 0; i < s.n; i++)
		if ((unsigned char)s.p[i] >= 0x80)
			return false;
	return true;
}

bool text_add_safe(struct buf *b, struct slice s, size_t max)
{
	size_t i = 0;

	while (i < s.n) {
		size_t len = utf8_length(s.p + i, s.n - i);
		unsigned char c = (unsigned char)s.p[i];

		if (b->n >= max || (len > 1 && len > max - b->n))
			return false;
		if (len > 1) {
			buf_add(b, s.p + i, len);
			i += len;
			continue;
		}
		if (c == '\t')
			c = ' ';
		else if (len == 0 || c < ' ' || c == 0x7f)
			c = '?';
		buf_add_char(b, (char)c);
		i++;
	}
	return true;
}
