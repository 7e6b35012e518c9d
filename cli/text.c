#include "cli/text.h"

#include <inttypes.h>
#include <string.h>

void text_count(struct buf *b, int64_t n)
{
	char digits[32];
	int len = snprintf(digits, sizeof(digits), "%" PRIu64, n < 0 ? -(uint64_t)n : (uint64_t)n),
	    i;

	if (n < 0)
		buf_add_char(b, '-');
	for (i = 0; i < len; i++) {
		if (i > 0 && (len - i) % 3 == 0)
			buf_add_char(b, ',');
		buf_add_char(b, digits[i]);
	}
}

void text_span(struct buf *b, uint64_t seconds)
{
	static const struct {
		char unit;
		uint64_t seconds;
	} units[] = {{'w', 604800}, {'d', 86400}, {'h', 3600}, {'m', 60}, {'s', 1}};
	size_t u = 0, shown;

	while (u < ARRAY_SIZE(units) - 1 && seconds < units[u].seconds)
		u++;
	for (shown = 0; shown < 2 && u < ARRAY_SIZE(units); shown++, u++) {
		uint64_t n = seconds / units[u].seconds;

		if (n || !shown)
			buf_addf(b, "%" PRIu64 "%c", n, units[u].unit);
		seconds %= units[u].seconds;
	}
}

void text_time(struct buf *b, msec_t when)
{
	char text[CLOCK_TEXT_MAX];

	clock_iso(when, text);
	buf_add(b, text, strlen("2026-11-22 01:39:25")); /* local, so without the zone */
}

void text_when(struct buf *b, msec_t when, msec_t now)
{
	if (when / 1000 == now / 1000) {
		buf_add_str(b, "now");
	} else if (when > now) {
		buf_add_str(b, "in ");
		text_span(b, (when - now) / 1000);
	} else {
		text_span(b, (now - when) / 1000);
		buf_add_str(b, " ago");
	}
}

void text_size(struct buf *b, uint64_t bytes)
{
	static const char *const units[] = {"kB", "MB", "GB", "TB", "PB", "EB"};
	double n = (double)bytes / 1000;
	size_t u = 0;

	if (bytes < 1000) {
		buf_addf(b, "%" PRIu64 " B", bytes);
		return;
	}
	while (n >= 999.95 && u < ARRAY_SIZE(units) - 1) {
		n /= 1000;
		u++;
	}
	buf_addf(b, "%.1f %s", n, units[u]);
}

/* Length of the UTF-8 sequence at the front of s, its code point in *ret; 0: broken. */
static size_t utf8_one(struct slice s, uint32_t *ret)
{
	static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
	unsigned char c = (unsigned char)s.p[0];
	size_t n = c < 0x80 ? 1 : c >= 0xf0 && c < 0xf5 ? 4 : c >= 0xe0 ? 3 : c >= 0xc2 ? 2 : 0, i;

	if (n == 0 || n > s.n || c >= 0xf5)
		return 0;
	*ret = n == 1 ? c : c & (0xffU >> (n + 1));
	for (i = 1; i < n; i++) {
		if (((unsigned char)s.p[i] & 0xc0) != 0x80)
			return 0;
		*ret = *ret << 6 | ((unsigned char)s.p[i] & 0x3f);
	}
	return *ret < least[n] || (*ret >= 0xd800 && *ret < 0xe000) ? 0 : n;
}

/* Control characters, and those that turn the direction of text. */
static bool harmful(uint32_t c)
{
	return c < 0x20 || (c >= 0x7f && c < 0xa0) || (c >= 0x200b && c <= 0x200f) ||
	       (c >= 0x2028 && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069) || c == 0xfeff;
}

void text_safe(struct buf *b, struct slice s)
{
	uint32_t c;

	while (s.n) {
		size_t n = utf8_one(s, &c);

		if (n && !harmful(c))
			buf_add(b, s.p, n);
		else
			buf_add_char(b, '?');
		s = slice_from(s, n ? n : 1);
	}
}

size_t text_width(struct slice s)
{
	size_t n = 0, i;

	for (i = 0; i < s.n; i++)
		n += ((unsigned char)s.p[i] & 0xc0) != 0x80;
	return n;
}

struct slice text_cut(struct slice s, size_t n)
{
	size_t i = 0, seen = 0;

	for (; i < s.n; i++)
		if (((unsigned char)s.p[i] & 0xc0) != 0x80 && seen++ == n)
			break;
	return slice_sub(s, 0, i);
}

static void number_value(struct buf *b, int64_t n, enum column_kind kind)
{
	switch (kind) {
	case COL_COUNT:
		text_count(b, n);
		break;
	case COL_BYTES:
		text_count(b, (n + 999) / 1000);
		break;
	case COL_TIME:
		text_time(b, (msec_t)n);
		break;
	case COL_WHEN:
		text_when(b, (msec_t)n, clock_wall());
		break;
	case COL_SPAN:
		text_span(b, (uint64_t)n);
		break;
	case COL_TEXT:
	case COL_NAME:
	case COL_YES:
		buf_addf(b, "%" PRId64, n);
		break;
	}
}

void text_value(struct buf *b, const json_t *v, enum column_kind kind)
{
	const json_t *item;
	size_t i;

	switch (json_typeof(v ? v : json_null())) {
	case JSON_STRING:
		text_safe(b, slice_of(json_string_value(v), json_string_length(v)));
		break;
	case JSON_INTEGER:
		number_value(b, json_integer_value(v), kind);
		break;
	case JSON_REAL:
		buf_addf(b, "%.1f", json_real_value(v));
		break;
	case JSON_TRUE:
		buf_add_str(b, "yes");
		break;
	case JSON_FALSE:
		buf_add_str(b, kind == COL_YES ? "" : "no");
		break;
	case JSON_ARRAY:
		for (i = 0; (item = json_array_get(v, i)); i++) {
			buf_add_str(b, i ? ", " : "");
			text_value(b, item, kind);
		}
		break;
	case JSON_OBJECT:
	case JSON_NULL:
		break;
	}
}
