/*
 * events.h - what happened to a site lately, for `show queue`: the last 50 things, the same thing twice
 * in a row counted. Where very many sites have something to tell, each keeps fewer, so that the memory
 * of a worker stays bounded. Belongs to its site; used by the worker's one thread.
 */
#ifndef SLUICE_WORKER_EVENTS_H
#define SLUICE_WORKER_EVENTS_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/clock.h"
#include "common/base/macros.h"

struct events; /* NULL: nothing happened */
struct worker;

struct event {
	msec_t at; /* wall; of the last time */
	uint32_t count; /* how often in a row */
	char *text;
};

/* Texts are cut to 200 bytes. Makes *events if need be. */
void events_add(struct worker *w, struct events **events, const char *fmt, ...) ATTR_PRINTF(3, 4);
/* NULL is fine; *events is NULL after it. */
void events_free(struct worker *w, struct events **events);
size_t events_count(const struct events *events);
/* Number 0 is the oldest. */
const struct event *events_at(const struct events *events, size_t i);

#endif
