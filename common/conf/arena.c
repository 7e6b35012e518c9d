#include "common/conf/arena.h"

#include <stdalign.h>
#include <stdarg.h>
#include <stdlib.h>

#include "common/base/xalloc.h"

#define CHUNK_SIZE ((size_t)16384)

struct arena_chunk {
	struct arena_chunk *next;
	size_t used, cap;
	alignas(max_align_t) char data[];
};

void arena_done(struct arena *a)
{
	while (a->chunks) {
		struct arena_chunk *c = a->chunks;

		a->chunks = c->next;
		free(c);
	}
}

void *arena_alloc(struct arena *a, size_t n)
{
	struct arena_chunk *c = a->chunks;
	size_t align = alignof(max_align_t);
	char *p;

	n = (n + align - 1) / align * align;
	if (!c || c->cap - c->used < n) {
		size_t cap = n > CHUNK_SIZE ? n : CHUNK_SIZE;

		c = xmalloc(sizeof(*c) + cap);
		c->used = 0;
		c->cap = cap;
		c->next = a->chunks;
		a->chunks = c;
	}
	p = c->data + c->used;
	c->used += n;
	memset(p, 0, n);
	return p;
}

void *arena_copy(struct arena *a, const void *from, size_t n, size_t size)
{
	void *to = arena_alloc(a, n * size);

	if (n)
		memcpy(to, from, n * size);
	return to;
}

/* Elements that an array from arena_grow() with n elements has room for. */
static size_t room(size_t n)
{
	size_t cap = n ? 1 : 0;

	while (cap < n)
		cap *= 2;
	return cap;
}

void *arena_grow(struct arena *a, const void *from, size_t n, size_t more, size_t size)
{
	void *to;

	if (n && n + more <= room(n))
		return (void *)(uintptr_t)from;
	to = arena_alloc(a, room(n + more) * size);
	if (n)
		memcpy(to, from, n * size);
	return to;
}

char *arena_dup(struct arena *a, struct slice s)
{
	char *p = arena_alloc(a, s.n + 1);

	if (s.n)
		memcpy(p, s.p, s.n);
	return p;
}

char *arena_dup_lower(struct arena *a, struct slice s)
{
	char *p = arena_dup(a, s);

	str_lower(p);
	return p;
}

char *arena_printf(struct arena *a, const char *fmt, ...)
{
	va_list ap;
	char *heap, *p;

	va_start(ap, fmt);
	heap = xvasprintf(fmt, ap);
	va_end(ap);
	p = arena_dup(a, slice_str(heap));
	free(heap);
	return p;
}
