/*
 * hash.h - uthash with a hash function that both compilers take without a warning: the default one
 * falls through the cases of a switch, which clang reports at every use.
 */
#ifndef SLUICE_BASE_HASH_H
#define SLUICE_BASE_HASH_H

#define HASH_FUNCTION(keyptr, keylen, hashv) HASH_FNV(keyptr, keylen, hashv)
#include <uthash.h>

#endif
