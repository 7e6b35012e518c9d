/*
 * rollup.h - which provider the domain of a queue belongs to, and so which site its mail goes through.
 *
 * A named domain (`domains`) belongs without a look-up. Others are looked up: the first answer counts, a
 * different one later only when a second look-up, after min(TTL, 30 s) and by another resolver if there
 * is one, agrees; a failed look-up changes nothing. What a queue belonged to is kept in its row, so that
 * the same holds over a restart. Nothing is looked up where no provider is configured.
 */
#ifndef SLUICE_WORKER_ROLLUP_H
#define SLUICE_WORKER_ROLLUP_H

#include <stdbool.h>

#include "common/base/slice.h"

struct queue;
struct rollup; /* of one queue */
struct spool_read;

/* The queue, which is at its own site, gets its settings and goes to the site that it was at last, if that can still be. */
void rollup_begin(struct queue *q, struct spool_read *r, struct slice stored);
void rollup_end(struct queue *q);
/* Another generation of the configuration; no read transaction is open. */
void rollup_configure(struct queue *q);
/*
 * Whether mail may be sent: it is known where the queue belongs. If not, a look-up is under way, and
 * site_kick() follows.
 */
bool rollup_is_known(struct queue *q);
/* Once a second: look-ups that are due, and what could not be reported before. */
void rollup_tick(struct queue *q);
/* Nothing in flight, nothing unsaid: the queue may be forgotten. */
bool rollup_is_idle(const struct queue *q);

#endif
