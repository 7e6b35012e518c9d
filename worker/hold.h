/*
 * hold.h - what `show queues`, `show queue` and the log say of a site whose mail has to wait for a limit:
 * which one, and when it opens.
 *
 * Whoever makes a site wait says so here, with the same words each time it is asked: the log counts
 * from the first time, and speaks of a limit once a minute.
 */
#ifndef SLUICE_WORKER_HOLD_H
#define SLUICE_WORKER_HOLD_H

#include <stdbool.h>

#include "common/base/clock.h"
#include "common/base/macros.h"

struct limit_want;
struct site;

/*
 * This holds the site: "max-msg-rate 100/h", for example. own: it is no limit that others share (such
 * ones are shown, but not logged). opens: monotonic time at which it lets something go, 0 or
 * USEC_INFINITY if that is not known; it is put behind the text.
 */
void hold_set(struct site *s, bool own, usec_t opens, const char *fmt, ...) ATTR_PRINTF(4, 5);
/* A cap on connections that has no room. */
void hold_by_cap(struct site *s, const struct limit_want *by);
/* Nothing does any more. */
void hold_clear(struct site *s);

#endif
