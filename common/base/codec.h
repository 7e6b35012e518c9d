/*
 * codec.h - explicit byte encodings: big-endian for keys (order is meaning), little-endian fixed and
 * varint for values and messages. A reader is a cursor that goes bad at the first short read and then
 * returns zeros: check dec_ok()/dec_end() once at the end.
 */
#ifndef SLUICE_BASE_CODEC_H
#define SLUICE_BASE_CODEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/buf.h"
#include "common/base/slice.h"

static inline void be32_put(void *to, uint32_t v)
{
	v = __builtin_bswap32(v);
	memcpy(to, &v, 4);
}
static inline void be64_put(void *to, uint64_t v)
{
	v = __builtin_bswap64(v);
	memcpy(to, &v, 8);
}
static inline uint32_t be32_get(const void *from)
{
	uint32_t v;

	memcpy(&v, from, 4);
	return __builtin_bswap32(v);
}
static inline uint64_t be64_get(const void *from)
{
	uint64_t v;

	memcpy(&v, from, 8);
	return __builtin_bswap64(v);
}

/* Writers append to a buf. */
void enc_u8(struct buf *b, uint8_t v);
void enc_u32(struct buf *b, uint32_t v); /* fixed, little-endian */
void enc_u64(struct buf *b, uint64_t v); /* fixed, little-endian */
void enc_var(struct buf *b, uint64_t v); /* LEB128 */
void enc_bytes(struct buf *b, struct slice s); /* varint length, bytes */
void enc_str(struct buf *b, const char *s); /* as enc_bytes; NULL is "" */

struct dec {
	const uint8_t *p, *end;
	bool bad;
};

static inline struct dec dec_of(const void *p, size_t n)
{
	return (struct dec){.p = p, .end = (const uint8_t *)p + n, .bad = false};
}
uint8_t dec_u8(struct dec *d);
uint32_t dec_u32(struct dec *d);
uint64_t dec_u64(struct dec *d);
uint64_t dec_var(struct dec *d);
uint32_t dec_var32(struct dec *d); /* bad when it does not fit */
struct slice dec_bytes(struct dec *d); /* borrowed from the input */
static inline bool dec_ok(const struct dec *d)
{
	return !d->bad;
}
/* All read and nothing left. */
static inline bool dec_end(const struct dec *d)
{
	return !d->bad && d->p == d->end;
}

#endif
