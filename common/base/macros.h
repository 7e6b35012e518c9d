/*
 * macros.h - the few macros that every file may use.
 */
#ifndef SLUICE_BASE_MACROS_H
#define SLUICE_BASE_MACROS_H

#include <stddef.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

#define container_of(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

#define ATTR_PRINTF(f, a) __attribute__((format(printf, f, a)))
#define ATTR_NORETURN __attribute__((noreturn))
#define ATTR_UNUSED __attribute__((unused))
#define FALLTHROUGH __attribute__((fallthrough))
#define WARN_UNUSED __attribute__((warn_unused_result))

/* "PRISLICE": printf a slice as "%.*s", SLICE_ARG(s). */
#define SLICE_ARG(s) (int)(s).n, (s).p

#endif
