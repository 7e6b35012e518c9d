/*
 * tidy.h - what clang-tidy sees instead of the bodies of uthash's macros and of TAILQ_REMOVE: it
 * cannot follow their pointers, so it would report that freed elements are still in the table.
 * Included before everything else by `make tidy`, never by the build.
 */
#ifndef SLUICE_TESTS_TIDY_H
#define SLUICE_TESTS_TIDY_H

#include <stddef.h>
#include <sys/queue.h>

#include "common/base/hash.h"

void *tidy_with(void *head, void *element);
void *tidy_without(void *head, const void *element);
void *tidy_find(void *head, const void *key, size_t length);
void tidy_unlink(void *head, const void *element);

#undef HASH_ADD
#undef HASH_ADD_KEYPTR
#undef HASH_ADD_STR
#undef HASH_CLEAR
#undef HASH_DEL
#undef HASH_DELETE
#undef HASH_FIND
#undef HASH_FIND_STR
#undef TAILQ_REMOVE
#define HASH_ADD(hh, head, field, length, add) ((head) = tidy_with(head, add))
#define HASH_ADD_KEYPTR(hh, head, key, length, add) ((head) = tidy_with(head, add))
#define HASH_ADD_STR(head, field, add) ((head) = tidy_with(head, add))
#define HASH_CLEAR(hh, head) ((head) = NULL)
#define HASH_DEL(head, del) ((head) = tidy_without(head, del))
#define HASH_DELETE(hh, head, del) ((head) = tidy_without(head, del))
#define HASH_FIND(hh, head, key, length, out) ((out) = tidy_find(head, key, length))
#define HASH_FIND_STR(head, key, out) ((out) = tidy_find(head, key, 0))
#define TAILQ_REMOVE(head, element, field) tidy_unlink(head, element)

#endif
