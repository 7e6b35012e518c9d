/*
 * buf.h - a growing byte buffer that owns its memory. Starts as {0}; buf_done() frees.
 */
#ifndef SLUICE_BASE_BUF_H
#define SLUICE_BASE_BUF_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/macros.h"
#include "common/base/slice.h"

struct buf {
	char *p;
	size_t n; /* bytes in use */
	size_t cap; /* bytes allocated */
};

#define BUF_INIT           \
	{                  \
		NULL, 0, 0 \
	}

void buf_done(struct buf *b); /* frees; b is {0} afterwards */
void buf_clear(struct buf *b); /* length 0, memory kept */
/* Makes room for n more bytes and returns where they go; b->n is not changed. */
char *buf_reserve(struct buf *b, size_t n) __attribute__((returns_nonnull));
void buf_add(struct buf *b, const void *p, size_t n);
void buf_add_slice(struct buf *b, struct slice s);
void buf_add_str(struct buf *b, const char *s);
void buf_add_char(struct buf *b, char c);
void buf_addf(struct buf *b, const char *fmt, ...) ATTR_PRINTF(2, 3);
void buf_vaddf(struct buf *b, const char *fmt, va_list ap) ATTR_PRINTF(2, 0);
/* Drops n bytes from the front (n <= b->n). */
void buf_consume(struct buf *b, size_t n);
static inline struct slice buf_slice(const struct buf *b)
{
	return slice_of(b->p ? b->p : "", b->n);
}
/* The bytes as a C string (a NUL is kept behind them, not counted); valid until the next change. */
const char *buf_cstr(struct buf *b) __attribute__((returns_nonnull));
/* Gives the memory (NUL-terminated) to the caller, who frees it; b is {0} afterwards. */
char *buf_take(struct buf *b) __attribute__((returns_nonnull));

#endif
