/*
 * mutate.h - the short, repeatable form of a fuzzer: mutations of seeds from a fixed random
 * sequence. The long form is libFuzzer: clang -fsanitize=fuzzer,address -DSLUICE_LIBFUZZER
 * tests/fuzz/fuzz_X.c …
 */
#ifndef SLUICE_TESTS_FUZZ_MUTATE_H
#define SLUICE_TESTS_FUZZ_MUTATE_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/buf.h"

static inline uint64_t mutate_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

/* One change: an octet, a cut, an inserted word, or a piece given twice. */
static inline void mutate_once(struct buf *b, uint64_t *rnd, const char *const *words, size_t count)
{
	size_t at = mutate_random(rnd) % (b->n ? b->n : 1), n;
	struct buf tail = BUF_INIT;

	if (b->n == 0)
		return;
	buf_add(&tail, b->p + at, b->n - at);
	switch (mutate_random(rnd) % 4) {
	case 0:
		b->p[at] = (char)mutate_random(rnd);
		break;
	case 1:
		b->n = at;
		break;
	case 2:
		b->n = at;
		buf_add_str(b, words[mutate_random(rnd) % count]);
		buf_add_slice(b, buf_slice(&tail));
		break;
	default:
		n = mutate_random(rnd) % tail.n;
		buf_add_slice(b, slice_sub(buf_slice(&tail), 0, n));
		break;
	}
	buf_done(&tail);
}

static inline void mutate(struct buf *b, uint64_t *rnd, const char *const *words, size_t count)
{
	size_t n = 1 + mutate_random(rnd) % 4;

	while (n-- > 0)
		mutate_once(b, rnd, words, count);
}

#endif
