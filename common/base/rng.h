/*
 * rng.h - randomness from getrandom(2), buffered per thread; tests may seed a repeatable sequence.
 */
#ifndef SLUICE_BASE_RNG_H
#define SLUICE_BASE_RNG_H

#include <stddef.h>
#include <stdint.h>

uint64_t rng_u64(void);
/* Evenly 0..n-1; n > 0. */
uint32_t rng_below(uint32_t n);
void rng_bytes(void *p, size_t n);
/* Tests only: a repeatable sequence from now on, in this thread. */
void rng_seed(uint64_t seed);

#endif
