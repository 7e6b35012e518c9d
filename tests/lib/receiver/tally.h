/*
 * Concurrency and volume per listening address, source address and pair of both: current, peak
 * and mean (an integral over time), and what was refused. A connection counts from accept() until
 * the receiver has closed its own descriptor, as a real server counts.
 */
#ifndef TESTS_LIB_RECEIVER_TALLY_H
#define TESTS_LIB_RECEIVER_TALLY_H

#include "tests/lib/receiver/text.h"

/* uthash's own hash function has fall-throughs that clang warns of. */
#define HASH_FUNCTION(key, size, hash) ((hash) = (unsigned)hash_bytes((const char *)(key), (size)))
#include <uthash.h>

enum tally_kind { TALLY_LISTEN, TALLY_SOURCE, TALLY_PAIR, TALLY_ALL, TALLY_KINDS };

static const char *const tally_kind_names[TALLY_KINDS] = {"listen", "source", "pair", "all"};

struct tally {
	char key[112]; /* kind letter, then the addresses */
	enum tally_kind kind;
	unsigned current, peak;
	uint64_t total, refused, messages;
	double area; /* connection-seconds since the mark */
	double marked, changed; /* monotonic seconds */
	UT_hash_handle hh;
};

static struct tally *tallies;

static inline struct tally *tally_get(enum tally_kind kind, const char *listen, const char *source)
{
	struct tally *t;
	char key[sizeof(t->key)];

	switch (kind) {
	case TALLY_LISTEN:
		snprintf(key, sizeof(key), "L%s", listen);
		break;
	case TALLY_SOURCE:
		snprintf(key, sizeof(key), "S%s", source);
		break;
	case TALLY_PAIR:
		snprintf(key, sizeof(key), "P%s %s", listen, source);
		break;
	case TALLY_ALL:
	case TALLY_KINDS:
		snprintf(key, sizeof(key), "A*");
		break;
	}
	HASH_FIND_STR(tallies, key, t);
	if (t)
		return t;
	t = need(calloc(1, sizeof(*t)));
	memcpy(t->key, key, sizeof(key));
	t->kind = kind;
	t->marked = t->changed = now_mono();
	HASH_ADD_STR(tallies, key, t);
	return t;
}

static inline void tally_move(struct tally *t, int by)
{
	double now = now_mono();

	t->area += t->current * (now - t->changed);
	t->changed = now;
	t->current = (unsigned)((int)t->current + by);
	if (by > 0)
		t->total++;
	if (t->current > t->peak)
		t->peak = t->current;
}

/* From here on peaks, means and counts are about what comes after. */
static inline void tally_mark(void)
{
	double now = now_mono();

	for (struct tally *t = tallies; t; t = t->hh.next) {
		t->peak = t->current;
		t->area = 0;
		t->total = t->refused = t->messages = 0;
		t->marked = t->changed = now;
	}
}

static inline void tally_report(struct text *out, enum tally_kind kind)
{
	double now = now_mono();
	bool first = true;

	text_printf(out, "\"%s\":{", tally_kind_names[kind]);
	for (struct tally *t = tallies; t; t = t->hh.next) {
		double area = t->area + t->current * (now - t->changed);
		double span = now - t->marked;

		if (t->kind != kind)
			continue;
		text_printf(out,
			    "%s\"%s\":{\"current\":%u,\"peak\":%u,\"mean\":%.3f,"
			    "\"total\":%llu,\"refused\":%llu,\"messages\":%llu}",
			    first ? "" : ",", t->key + 1, t->current, t->peak,
			    span > 0 ? area / span : 0.0, (unsigned long long)t->total,
			    (unsigned long long)t->refused, (unsigned long long)t->messages);
		first = false;
	}
	text_puts(out, "}");
}

#endif
