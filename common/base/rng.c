#include "common/base/rng.h"

#include <stdbool.h>
#include <string.h>
#include <sys/random.h>

#include "common/base/log.h"

static __thread struct {
	uint64_t word[32];
	unsigned left;
	bool seeded;
	uint64_t state;
} pool;

/* splitmix64: only for repeatable tests. */
static uint64_t seeded_next(void)
{
	uint64_t z = (pool.state += UINT64_C(0x9e3779b97f4a7c15));

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

uint64_t rng_u64(void)
{
	if (pool.seeded)
		return seeded_next();
	if (pool.left == 0) {
		/* 256 bytes: never short, never interrupted (getrandom(2)) */
		if (getrandom(pool.word, sizeof(pool.word), 0) != (ssize_t)sizeof(pool.word))
			fatal("getrandom failed");
		pool.left = sizeof(pool.word) / sizeof(pool.word[0]);
	}
	return pool.word[--pool.left];
}

uint32_t rng_below(uint32_t n)
{
	return (uint32_t)(((rng_u64() >> 32) * n) >> 32);
}

void rng_bytes(void *p, size_t n)
{
	char *to = p;

	while (n) {
		uint64_t v = rng_u64();
		size_t k = n < sizeof(v) ? n : sizeof(v);

		memcpy(to, &v, k);
		to += k;
		n -= k;
	}
}

void rng_seed(uint64_t seed)
{
	pool.seeded = true;
	pool.state = seed;
}
