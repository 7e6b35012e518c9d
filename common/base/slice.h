/*
 * slice.h - a borrowed piece of bytes, never assumed to end with NUL. Strings from the wire and from
 * the spool are slices; the owner of the bytes is named where the slice is made.
 */
#ifndef SLUICE_BASE_SLICE_H
#define SLUICE_BASE_SLICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "common/base/macros.h"

struct slice {
	const char *p;
	size_t n;
};

/* A slice of a string literal, usable in initialisers. */
#define SLICE_LIT(s)               \
	{                          \
		(s), sizeof(s) - 1 \
	}

static inline struct slice slice_of(const void *p, size_t n)
{
	return (struct slice){.p = p, .n = n};
}

/* NULL gives the empty slice. */
static inline struct slice slice_str(const char *s)
{
	return (struct slice){.p = s ? s : "", .n = s ? strlen(s) : 0};
}

bool slice_eq(struct slice a, struct slice b);
bool slice_eq_str(struct slice a, const char *s);
/* ASCII case-insensitive. */
bool slice_ieq(struct slice a, struct slice b);
bool slice_ieq_str(struct slice a, const char *s);
bool slice_istarts(struct slice a, const char *prefix);
bool slice_iends(struct slice a, const char *suffix);
/* Without leading and trailing space, tab, CR, LF. */
struct slice slice_trim(struct slice s);
/* Position of the first c, or -1. */
ptrdiff_t slice_chr(struct slice s, char c);
/* Position of the last c, or -1. */
ptrdiff_t slice_rchr(struct slice s, char c);
/* Bytes [from, from+n), cut to what is there. */
struct slice slice_sub(struct slice s, size_t from, size_t n);
static inline struct slice slice_from(struct slice s, size_t from)
{
	return slice_sub(s, from, s.n);
}
/*
 * Takes the part up to the next c from the front of *s and moves *s behind c. False when *s is
 * exhausted (p becomes NULL). "a,,b" gives "a", "", "b"; "" gives "" once.
 */
bool slice_next(struct slice *s, char c, struct slice *ret_part);
/* Decimal number, all digits, no sign, fits u64: true. */
bool slice_u64(struct slice s, uint64_t *ret);
/* A NUL-terminated copy on the heap; caller frees. */
char *slice_dup(struct slice s) __attribute__((returns_nonnull));
/* A lower-cased (ASCII) NUL-terminated copy on the heap; caller frees. */
char *slice_dup_lower(struct slice s) __attribute__((returns_nonnull));
/* Copies at most cap-1 bytes and a NUL; returns false if cut. */
bool slice_copy(struct slice s, char *to, size_t cap);

static inline char ascii_lower(char c)
{
	return (char)(c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c);
}
void str_lower(char *s);

#endif
