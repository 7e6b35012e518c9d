/*
 * Growing byte buffers, JSON escaping and small helpers of the test receiver.
 * Used by tests/lib/receiver.c only. Nothing here survives out of memory: it is a test tool.
 */
#ifndef TESTS_LIB_RECEIVER_TEXT_H
#define TESTS_LIB_RECEIVER_TEXT_H

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

__attribute__((noreturn, format(printf, 1, 2))) static inline void die(const char *format, ...)
{
	va_list ap;

	fputs("receiver: ", stderr);
	va_start(ap, format);
	vfprintf(stderr, format, ap);
	va_end(ap);
	fputc('\n', stderr);
	exit(1);
}

static inline void *need(void *p)
{
	if (!p)
		die("out of memory");
	return p;
}

/* Wall time in seconds: journal times are compared with those of other processes. */
static inline double now_wall(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static inline double now_mono(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

struct text {
	char *p;
	size_t n, room;
};

static inline void text_room(struct text *text, size_t more)
{
	if (text->n + more <= text->room)
		return;
	text->room = (text->n + more) * 2;
	text->p = need(realloc(text->p, text->room));
}

static inline void text_add(struct text *text, const void *p, size_t n)
{
	if (!n)
		return;
	text_room(text, n);
	memcpy(text->p + text->n, p, n);
	text->n += n;
}

static inline void text_puts(struct text *text, const char *s)
{
	text_add(text, s, strlen(s));
}

__attribute__((format(printf, 2, 3))) static inline void text_printf(struct text *text,
								     const char *format, ...)
{
	va_list ap;
	int n;

	text_room(text, 512);
	va_start(ap, format);
	n = vsnprintf(text->p + text->n, 512, format, ap);
	va_end(ap);
	if (n > 0)
		text->n += (size_t)n < 512 ? (size_t)n : 511;
}

/* Appends a JSON string. Bytes above 127 that are not UTF-8 would break a reader: all of them
 * are written as \u00XX, so a reader gets the bytes back by encoding as latin-1. */
static inline void text_json(struct text *text, const char *p, size_t n)
{
	text_room(text, n * 6 + 2);
	text->p[text->n++] = '"';
	for (size_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)p[i];

		if (c == '"' || c == '\\') {
			text->p[text->n++] = '\\';
			text->p[text->n++] = (char)c;
		} else if (c < 0x20 || c >= 0x7f) {
			text->n += (size_t)sprintf(text->p + text->n, "\\u%04x", (unsigned)c);
		} else {
			text->p[text->n++] = (char)c;
		}
	}
	text->p[text->n++] = '"';
}

static inline void text_drop(struct text *text, size_t n)
{
	text->n -= n;
	if (text->n)
		memmove(text->p, text->p + n, text->n);
}

static inline void text_free(struct text *text)
{
	free(text->p);
	*text = (struct text){0};
}

static inline uint64_t hash_bytes(const char *p, size_t n)
{
	uint64_t h = 14695981039346656037ULL;

	for (size_t i = 0; i < n; i++)
		h = (h ^ (unsigned char)p[i]) * 1099511628211ULL;
	h ^= h >> 33;
	h *= 0xff51afd7ed558ccdULL;
	return h ^ h >> 33;
}

/* A set of 64-bit hashes, for "once per recipient". */
struct seen {
	uint64_t *slots;
	size_t room, used;
};

static inline bool seen_add(struct seen *seen, uint64_t hash)
{
	size_t i;

	hash |= 1;
	if (seen->used * 2 >= seen->room) {
		struct seen bigger = {.room = seen->room ? seen->room * 2 : 1024};

		bigger.slots = need(calloc(bigger.room, sizeof(uint64_t)));
		for (i = 0; i < seen->room; i++)
			if (seen->slots[i])
				seen_add(&bigger, seen->slots[i]);
		free(seen->slots);
		*seen = bigger;
	}
	for (i = hash % seen->room; seen->slots[i]; i = (i + 1) % seen->room)
		if (seen->slots[i] == hash)
			return false;
	seen->slots[i] = hash;
	seen->used++;
	return true;
}

static inline void seen_free(struct seen *seen)
{
	free(seen->slots);
	*seen = (struct seen){0};
}

#endif
