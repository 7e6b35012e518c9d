/*
 * site_mode.h - what a site's row remembers of its mode: back-off and why, how fast each source address
 * may go, which addresses are disabled.
 *
 * Lists are kept encoded, one item behind the other; the readers take them off the front. Used by
 * workers (who decide it), the committer (who stores it) and whoever shows it.
 */
#ifndef SLUICE_SPOOL_SITE_MODE_H
#define SLUICE_SPOOL_SITE_MODE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/base/codec.h"
#include "common/base/ip.h"
#include "common/base/slice.h"
#include "common/base/macros.h"

#define SITE_WHY_MAX 300 /* bytes of a reason that are stored */

/* The reason of a site that waits for a source address: its retry is over when it has one. */
#define SITE_ALL_DISABLED "all source addresses are disabled for this site"

enum { SITE_NORMAL, SITE_BACKOFF };

struct site_mode {
	uint8_t mode; /* SITE_* */
	msec_t since; /* the last change; 0: never changed */
	msec_t until; /* back-off ends (or begins to) by itself; 0: not by time */
	struct slice reason; /* of the mode: pattern, reply, operator */
	uint64_t order; /* the last order about the mode that was obeyed */
	struct slice tempos; /* of struct site_tempo */
	struct slice disabled; /* of struct site_disabled */
	struct slice changes; /* of struct site_change, the oldest first */
};

/* How fast a source address may go: worker/backoff.h says what the numbers mean. */
struct site_tempo {
	struct ip ip; /* IP_NONE: whatever the kernel chooses */
	uint8_t phase;
	uint64_t rate, entry, good; /* recipients an hour */
	msec_t cut, next;
	uint32_t step, stay, patience;
	uint32_t connections;
};

struct site_disabled {
	struct ip ip;
	msec_t since, until; /* until 0: until it is enabled */
	struct slice why;
};

struct site_change {
	msec_t at;
	uint8_t mode;
	struct slice why;
};

void site_mode_encode(const struct site_mode *m, struct buf *b);
/* Slices are borrowed; the cursor goes bad for what no encoder writes. */
void site_mode_decode(struct dec *d, struct site_mode *ret);

/* Reasons are cut. */
void site_tempo_encode(const struct site_tempo *p, struct buf *b);
void site_disabled_encode(const struct site_disabled *x, struct buf *b);
void site_change_encode(const struct site_change *c, struct buf *b);
/* Takes the first item off the list; false: there is none (left that can be read). */
bool site_tempo_next(struct slice *list, struct site_tempo *ret);
bool site_disabled_next(struct slice *list, struct site_disabled *ret);
bool site_change_next(struct slice *list, struct site_change *ret);

/* There is nothing to remember. */
static inline bool site_mode_is_plain(const struct site_mode *m)
{
	return m->mode == SITE_NORMAL && m->order == 0 && m->tempos.n == 0 && m->disabled.n == 0;
}

#endif
