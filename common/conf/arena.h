/*
 * arena.h - memory of one configuration generation, released in one call. Not thread-safe: after
 * loading, effective.c and source.c use it under their lock.
 */
#ifndef SLUICE_CONF_ARENA_H
#define SLUICE_CONF_ARENA_H

#include <stddef.h>

#include "common/base/macros.h"
#include "common/base/slice.h"

struct arena_chunk;
struct arena {
	struct arena_chunk *chunks; /* newest first */
};

void arena_done(struct arena *a);
/* n zeroed bytes, aligned for any type. */
void *arena_alloc(struct arena *a, size_t n) __attribute__((returns_nonnull));
/* A copy of n elements. */
void *arena_copy(struct arena *a, const void *from, size_t n, size_t size)
	__attribute__((returns_nonnull));
/*
 * An array that holds the n elements of `from` and room for `more`: `from` itself while it has room
 * (it must come from here, and its former holder must let go of it), else a copy of twice the size.
 */
void *arena_grow(struct arena *a, const void *from, size_t n, size_t more, size_t size)
	__attribute__((returns_nonnull));
/* NUL-terminated copies. */
char *arena_dup(struct arena *a, struct slice s) __attribute__((returns_nonnull));
char *arena_dup_lower(struct arena *a, struct slice s) __attribute__((returns_nonnull));
char *arena_printf(struct arena *a, const char *fmt, ...) ATTR_PRINTF(2, 3)
	__attribute__((returns_nonnull));

#endif
