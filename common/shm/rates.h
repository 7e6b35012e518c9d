/*
 * rates.h - how much per time, over all worker processes: a table of rate clocks.
 *
 * Each limit has one 64-bit clock: the time (monotonic ns) from which the next action may be. An action
 * of k tokens moves it on by k intervals of (T + s + l) / (N - b + 1), where N per T is the rate, b the
 * most tokens of one usual action (rate_most()), s = min(T/10, 250 ms) so that N also holds where the
 * receiver counts, and l = min(T/100, 50 ms) the lateness of a timer that may be caught up. So no window
 * of length T ever holds more than N tokens. An action of more than b tokens (a big message under a limit
 * of bytes) also has to find the clock open for as long as its tokens above b last; one of more than N
 * goes alone: nothing in the window before it, and its whole cost behind it.
 *
 * A clock that nobody knew opens one interval ahead. Those over 10 s are kept in the spool
 * (spooler/commit_rates.c): see rates_load().
 *
 * One process-shared robust mutex guards the table; it is never held over a system call. All clocks of
 * an action are moved together or not at all. Who finds a clock closed stands in line for it: when it
 * opens, the first has 50 ms to come before the next may take, so that workers that share it take turns.
 */
#ifndef SLUICE_SHM_RATES_H
#define SLUICE_SHM_RATES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/clock.h"
#include "common/base/slice.h"
#include "common/shm/shm.h"

enum rate_scope {
	RATE_QUEUE, /* "queue/vmta", or a site of a provider */
	RATE_MEMBER, /* "domain/vmta": one domain inside a site of a provider */
	RATE_SOURCE_IP, /* "queue/vmta address" */
	RATE_VMTA,
	RATE_POOL,
	RATE_PROVIDER,
	RATE_PROVIDER_IP, /* "provider address" */
	RATE_BACKOFF, /* "queue/vmta address": what back-off has found */
	RATE_SCOPE_COUNT
};
enum rate_measure { RATE_MESSAGES, RATE_CONNECTS, RATE_BYTES, RATE_MEASURE_COUNT };

#define RATE_NAME_MAX 160
#define RATE_WANTS_MAX 20
#define RATE_KEEP_OVER (10 * USEC_PER_SEC) /* windows longer than this survive a restart */

struct rate_want {
	enum rate_scope scope;
	enum rate_measure measure;
	struct slice name; /* longer ones are hashed by the callee */
	uint64_t n; /* tokens, >= 1 … */
	usec_t per; /* … in any time of this length, >= 1 */
	uint64_t tokens; /* that the action takes, >= 1 */
	uint32_t conf_gen; /* configuration generation: the highest one's rate holds */
};

/* What was taken, for rates_give_back(). */
struct rate_ticket {
	uint32_t n;
	struct {
		uint32_t entry;
		uint64_t clock; /* as it was left */
		uint64_t tokens;
	} v[RATE_WANTS_MAX];
};

/* The most tokens that a usual action takes: b. Recipients of a transaction are to be cut to this. */
uint64_t rate_most(enum rate_measure m, uint64_t n);

/*
 * Takes the tokens of all wants (n <= RATE_WANTS_MAX) at `now` (clock_now()), or of none. 0; or ERR_BUSY with
 * *ret_blocking = index of the want that opens last and *ret_open = when (try again then); or ERR_FULL: no room
 * for another clock (fails closed; *ret_open = when to try again). `who` tells sites of all workers apart.
 */
int rates_take(struct shm *s, const struct rate_want *wants, size_t n, uint64_t who, usec_t now,
	       struct rate_ticket *ret, size_t *ret_blocking, usec_t *ret_open)
	__attribute__((warn_unused_result));
/* Whether rates_take() would be 0 now, with the same answers; moves nothing, but stands in line. */
int rates_ask(struct shm *s, const struct rate_want *wants, size_t n, uint64_t who, usec_t now,
	      size_t *ret_blocking, usec_t *ret_open) __attribute__((warn_unused_result));
/*
 * Of the i-th want of the ticket only so many tokens were used. The clock moves back only if nobody has taken
 * of it since.
 */
void rates_give_back(struct shm *s, const struct rate_ticket *t, size_t i, uint64_t used);

/* --- over restarts: for the committer --- */

struct rate_row {
	uint32_t entry;
	enum rate_scope scope;
	enum rate_measure measure;
	char name[RATE_NAME_MAX]; /* NUL-terminated */
	uint64_t n;
	usec_t per;
	uint64_t clock; /* ns */
	bool remove; /* it has passed: its row may go */
};
/*
 * Once in the life of the shared memory, before any worker runs: false = another has done it. now = clock_now().
 * unclean: what happened in the seconds before the end is not known: a clock without a row that is still
 * closed opens as if the most had been taken at this moment.
 */
bool rates_begin(struct shm *s, bool unclean, usec_t now);
/* A kept clock that opens `ahead` ns after now. */
void rates_load(struct shm *s, const struct rate_row *r, uint64_t ahead, usec_t now);
/* Grows with each move of a clock that is to be kept. */
uint64_t rates_moves(const struct shm *s);
/*
 * Clocks that are not as their row says, from *pos (0 first) on; at most max. 0: the end. They count as written.
 * A clock that is still closed must not be opened earlier than its row says.
 */
size_t rates_unsaved(struct shm *s, uint32_t *pos, struct rate_row *ret, size_t max, usec_t now);
/* But it was not written. */
void rates_not_saved(struct shm *s, const struct rate_row *r);

/* --- for people and tests --- */
struct rate_info {
	enum rate_scope scope;
	enum rate_measure measure;
	char name[RATE_NAME_MAX];
	uint64_t n;
	usec_t per;
	usec_t open; /* clock_now() when it opens */
};
/* Copies up to max entries in table order, from *pos (0 first); returns how many. */
size_t rates_list(struct shm *s, size_t *pos, struct rate_info *ret, size_t max);
const char *rate_scope_name(enum rate_scope s); /* "queue", "virtual-mta" … */

#endif
