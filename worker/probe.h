/*
 * probe.h - attempts to connect to hosts that nobody has reached yet, or that failed last.
 *
 * They may come to nothing and hold places meanwhile, minutes each. So, while other sites of this worker
 * wait for a place (slots.h gives these attempts a sixteenth of the places then), one that is not answered
 * is cut off after a short time: its site is put aside for half a minute, and has four times as long the next
 * time. Nothing is counted as a failure by that, until being put aside would last longer than
 * retry-after.
 *
 * Part of its worker; one thread.
 */
#ifndef SLUICE_WORKER_PROBE_H
#define SLUICE_WORKER_PROBE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/clock.h"

struct connection;
struct probes;
struct site;
struct worker;

struct probes *probes_new(struct worker *w);
void probes_free(struct probes *p);

/* A connection was opened; does nothing if the hosts of its site answer. */
void probe_begin(struct connection *c);
/* It is ready, or (false) it fails or is closed. */
void probe_end(struct connection *c, bool ready);
/*
 * Whether there may be one more, if such attempts are to have 1/part of this many places; of less than
 * `part` places, 1/part of the time. While most of them succeed, a quarter of the places. failed: those of sites that failed last, else all.
 */
bool probes_may(const struct probes *p, uint32_t places, uint32_t part, bool failed);
/* Whether the next untried site should be the one that waits longest: the newest have as many attempts. */
bool probes_want_oldest(const struct probes *p);
/*
 * Also while nobody waits, such attempts have at most half of the places, a quarter where the site has
 * failed before, which takes longer: mail that can go may come any moment. True: the site may try; else it waits with those that the virtual MTA's cap, or the total, holds.
 */
bool probe_may_begin(struct site *s);
/*
 * How long a site waits that was cut off, or whose hosts others found dead just now: *ret_counts when that is as long
 * as the failure that it then is. `ladder`: its next step.
 */
msec_t probe_put_aside(struct site *s, msec_t ladder, bool *ret_counts);

#endif
