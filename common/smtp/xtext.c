#include "common/smtp/xtext.h"

#include "common/base/macros.h"
#include "common/smtp/text.h"

static const char digits[] = "0123456789ABCDEF";

static int hex_value(char c)
{
	const char *p = c ? strchr(digits, c) : NULL;

	return p ? (int)(p - digits) : -1;
}

/* One character at *i: its value, or -1. */
static int next_char(struct slice s, size_t *i)
{
	unsigned char c = (unsigned char)s.p[(*i)++];
	int high, low;

	if (c < '!' || c > '~' || c == '=')
		return -1;
	if (c != '+')
		return c;
	if (s.n - *i < 2)
		return -1;
	high = hex_value(s.p[*i]);
	low = hex_value(s.p[*i + 1]);
	*i += 2;
	return high < 0 || low < 0 ? -1 : high * 16 + low;
}

bool xtext_valid(struct slice s)
{
	size_t i = 0;

	while (i < s.n)
		if (next_char(s, &i) < 0)
			return false;
	return true;
}

bool xtext_decode(struct slice s, struct buf *b)
{
	size_t i = 0;

	if (!xtext_valid(s))
		return false;
	while (i < s.n)
		buf_add_char(b, (char)next_char(s, &i));
	return true;
}

void xtext_encode(struct slice s, struct buf *b)
{
	size_t i;

	for (i = 0; i < s.n; i++) {
		unsigned char c = (unsigned char)s.p[i];

		if (c < '!' || c > '~' || c == '=' || c == '+') {
			buf_add_char(b, '+');
			buf_add_char(b, digits[c / 16]);
			c = (unsigned char)digits[c % 16];
		}
		buf_add_char(b, (char)c);
	}
}

bool dsn_envid_valid(struct slice s)
{
	size_t i = 0;

	if (s.n == 0 || s.n > DSN_ENVID_MAX)
		return false;
	while (i < s.n) {
		int c = next_char(s, &i);

		if (c < ' ' || c > '~')
			return false;
	}
	return true;
}

/* RFC 6533: a utf-8 address may be plain UTF-8 with \x{…} escapes. */
static bool utf8_address_valid(struct slice s)
{
	size_t i;

	for (i = 0; i < s.n; i++) {
		unsigned char c = (unsigned char)s.p[i];

		if (c <= ' ' || c == 0x7f || c == '=')
			return false;
	}
	return utf8_valid(s);
}

bool dsn_orcpt_valid(struct slice s, bool utf8)
{
	ptrdiff_t at = slice_chr(s, ';');
	struct slice type, address;
	ptrdiff_t i;

	if (at <= 0 || s.n > DSN_ORCPT_MAX)
		return false;
	type = slice_sub(s, 0, (size_t)at);
	address = slice_from(s, (size_t)at + 1);
	for (i = 0; i < at; i++)
		if ((unsigned char)type.p[i] <= ' ' || (unsigned char)type.p[i] >= 0x7f ||
		    strchr("()<>@,:\\\"/[]?=+", type.p[i]))
			return false;
	if (address.n == 0)
		return false;
	if (slice_ieq_str(type, "utf-8"))
		return utf8_address_valid(address) && (utf8 || ascii_only(address));
	return xtext_valid(address);
}

bool dsn_notify_parse(struct slice s, uint8_t *ret)
{
	static const struct {
		const char *word;
		uint8_t bit;
	} words[] = {
		{"SUCCESS", DSN_SUCCESS},
		{"FAILURE", DSN_FAILURE},
		{"DELAY", DSN_DELAY},
	};
	struct slice word;
	uint8_t bits = 0;
	size_t i;

	if (slice_ieq_str(s, "NEVER")) {
		*ret = DSN_NEVER;
		return true;
	}
	while (slice_next(&s, ',', &word)) {
		for (i = 0; i < ARRAY_SIZE(words); i++)
			if (slice_ieq_str(word, words[i].word))
				break;
		if (i == ARRAY_SIZE(words))
			return false;
		bits |= words[i].bit;
	}
	*ret = bits;
	return true;
}
