/*
 * xalloc.h - allocation that cannot fail: out of memory ends the process with a log line, master
 * starts it again. Memory is freed with free().
 */
#ifndef SLUICE_BASE_XALLOC_H
#define SLUICE_BASE_XALLOC_H

#include <stdarg.h>
#include <stddef.h>

#include "common/base/macros.h"

void *xmalloc(size_t n) __attribute__((malloc, returns_nonnull));
void *xcalloc(size_t count, size_t n) __attribute__((malloc, returns_nonnull)); /* zeroed */
void *xrealloc(void *p, size_t n) __attribute__((returns_nonnull));
void *xreallocarray(void *p, size_t count, size_t n) __attribute__((returns_nonnull));
char *xstrdup(const char *s) __attribute__((malloc, returns_nonnull));
char *xstrndup(const char *s, size_t n) __attribute__((malloc, returns_nonnull));
void *xmemdup(const void *p, size_t n) __attribute__((malloc, returns_nonnull));
char *xasprintf(const char *fmt, ...) ATTR_PRINTF(1, 2) __attribute__((returns_nonnull));
char *xvasprintf(const char *fmt, va_list ap) ATTR_PRINTF(1, 0) __attribute__((returns_nonnull));

#endif
