/*
 * slots.h - whose turn it is to connect, and the limits in shared memory.
 *
 * Sites that want a connection stand in one list and get their turn round robin. A site that a limit
 * holds goes to the end; nobody waits behind it unless the limit is one that holds everybody (total,
 * virtual MTA). When a slot is free elsewhere, the worker's bell rings: slots_pump().
 */
#ifndef SLUICE_WORKER_SLOTS_H
#define SLUICE_WORKER_SLOTS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/clock.h"
#include "common/base/ip.h"
#include "common/shm/limits.h"

struct route_target;
struct site;
struct slots;
struct worker;

struct slots *slots_new(struct worker *w);
void slots_free(struct slots *sl);

void slots_want(struct site *s);
void slots_unwant(struct site *s);
/* Gives turns, in a deferred call; from anywhere. */
void slots_pump(struct worker *w);

/*
 * The limits in shared memory that a connection of the site may need: for each of its addresses and the
 * sources that can reach it; the same one may come more than once. The want lives during the call.
 */
void slots_limits(struct site *s, void (*each)(const struct limit_want *want, void *arg),
		  void *arg);
/* A place in every limit that applies. False: held; *ret_everybody: by one that holds all sites of this worker. */
bool slots_take(struct site *s, const struct route_target *t, const struct ip *source,
		lease_id *ret, bool *ret_everybody);
/* The peer has seen the end of the connection. */
void slots_give(struct worker *w, lease_id lease);

#endif
