#include "common/base/slice.h"

#include "common/base/xalloc.h"

bool slice_eq(struct slice a, struct slice b)
{
	return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

bool slice_eq_str(struct slice a, const char *s)
{
	return slice_eq(a, slice_str(s));
}

bool slice_ieq(struct slice a, struct slice b)
{
	size_t i;

	if (a.n != b.n)
		return false;
	for (i = 0; i < a.n; i++)
		if (ascii_lower(a.p[i]) != ascii_lower(b.p[i]))
			return false;
	return true;
}

bool slice_ieq_str(struct slice a, const char *s)
{
	return slice_ieq(a, slice_str(s));
}

bool slice_istarts(struct slice a, const char *prefix)
{
	size_t n = strlen(prefix);

	return a.n >= n && slice_ieq(slice_sub(a, 0, n), slice_of(prefix, n));
}

bool slice_iends(struct slice a, const char *suffix)
{
	size_t n = strlen(suffix);

	return a.n >= n && slice_ieq(slice_from(a, a.n - n), slice_of(suffix, n));
}

static bool is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

struct slice slice_trim(struct slice s)
{
	while (s.n && is_space(s.p[0])) {
		s.p++;
		s.n--;
	}
	while (s.n && is_space(s.p[s.n - 1]))
		s.n--;
	return s;
}

ptrdiff_t slice_chr(struct slice s, char c)
{
	const char *p = s.n ? memchr(s.p, c, s.n) : NULL;

	return p ? p - s.p : -1;
}

ptrdiff_t slice_rchr(struct slice s, char c)
{
	const char *p = s.n ? memrchr(s.p, c, s.n) : NULL;

	return p ? p - s.p : -1;
}

struct slice slice_sub(struct slice s, size_t from, size_t n)
{
	if (from > s.n)
		from = s.n;
	if (n > s.n - from)
		n = s.n - from;
	return slice_of(s.p + from, n);
}

bool slice_next(struct slice *s, char c, struct slice *ret_part)
{
	ptrdiff_t at;

	if (!s->p)
		return false;
	at = slice_chr(*s, c);
	if (at < 0) {
		*ret_part = *s;
		*s = slice_of(NULL, 0);
	} else {
		*ret_part = slice_sub(*s, 0, (size_t)at);
		*s = slice_from(*s, (size_t)at + 1);
	}
	return true;
}

bool slice_u64(struct slice s, uint64_t *ret)
{
	uint64_t v = 0;
	size_t i;

	if (s.n == 0)
		return false;
	for (i = 0; i < s.n; i++) {
		if (s.p[i] < '0' || s.p[i] > '9')
			return false;
		if (__builtin_mul_overflow(v, 10U, &v) ||
		    __builtin_add_overflow(v, (uint64_t)(s.p[i] - '0'), &v))
			return false;
	}
	*ret = v;
	return true;
}

char *slice_dup(struct slice s)
{
	char *p = xmalloc(s.n + 1);

	if (s.n)
		memcpy(p, s.p, s.n);
	p[s.n] = '\0';
	return p;
}

char *slice_dup_lower(struct slice s)
{
	char *p = slice_dup(s);

	str_lower(p);
	return p;
}

bool slice_copy(struct slice s, char *to, size_t cap)
{
	size_t n = s.n < cap ? s.n : cap - 1;

	if (n)
		memcpy(to, s.p, n);
	to[n] = '\0';
	return n == s.n;
}

void str_lower(char *s)
{
	for (; *s; s++)
		*s = ascii_lower(*s);
}
