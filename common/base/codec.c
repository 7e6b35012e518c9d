#include "common/base/codec.h"

void enc_u8(struct buf *b, uint8_t v)
{
	buf_add_char(b, (char)v);
}

void enc_u32(struct buf *b, uint32_t v)
{
	buf_add(b, &v, sizeof(v));
}

void enc_u64(struct buf *b, uint64_t v)
{
	buf_add(b, &v, sizeof(v));
}

void enc_var(struct buf *b, uint64_t v)
{
	char *p = buf_reserve(b, 10);
	size_t n = 0;

	while (v >= 0x80) {
		p[n++] = (char)(uint8_t)(v | 0x80);
		v >>= 7;
	}
	p[n++] = (char)(uint8_t)v;
	b->n += n;
}

void enc_bytes(struct buf *b, struct slice s)
{
	enc_var(b, s.n);
	buf_add_slice(b, s);
}

void enc_str(struct buf *b, const char *s)
{
	enc_bytes(b, slice_str(s));
}

static const uint8_t *take(struct dec *d, size_t n)
{
	const uint8_t *p = d->p;

	if (d->bad || (size_t)(d->end - d->p) < n) {
		d->bad = true;
		return NULL;
	}
	d->p += n;
	return p;
}

uint8_t dec_u8(struct dec *d)
{
	const uint8_t *p = take(d, 1);

	return p ? *p : 0;
}

uint32_t dec_u32(struct dec *d)
{
	const uint8_t *p = take(d, 4);
	uint32_t v = 0;

	if (p)
		memcpy(&v, p, 4);
	return v;
}

uint64_t dec_u64(struct dec *d)
{
	const uint8_t *p = take(d, 8);
	uint64_t v = 0;

	if (p)
		memcpy(&v, p, 8);
	return v;
}

uint64_t dec_var(struct dec *d)
{
	uint64_t v = 0;
	unsigned shift;

	for (shift = 0; shift < 64; shift += 7) {
		uint8_t c = dec_u8(d);

		if (shift == 63 && c > 1)
			break;
		v |= (uint64_t)(c & 0x7f) << shift;
		if (!(c & 0x80))
			return d->bad ? 0 : v;
	}
	d->bad = true;
	return 0;
}

uint32_t dec_var32(struct dec *d)
{
	uint64_t v = dec_var(d);

	if (v > UINT32_MAX) {
		d->bad = true;
		return 0;
	}
	return (uint32_t)v;
}

struct slice dec_bytes(struct dec *d)
{
	uint64_t n = dec_var(d);
	const uint8_t *p;

	if (d->bad || n > (uint64_t)(d->end - d->p)) {
		d->bad = true;
		return slice_of("", 0);
	}
	p = take(d, (size_t)n);
	return slice_of(p, (size_t)n);
}
