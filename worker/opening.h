/*
 * opening.h - opening a connection: to which host, from which address, and with a place in every cap.
 */
#ifndef SLUICE_WORKER_OPENING_H
#define SLUICE_WORKER_OPENING_H

#include <stdbool.h>

#include "worker/route.h"

struct queue;

/*
 * Opens one for this queue, at its site. First comes target, then what is equal to it: hosts of the best preference (usable(),
 * which gets the queue, says which) and the sources of the site, until one of them has room in all caps. True: it was opened, or
 * a rate holds them all, and the site is kicked when that opens (paces.h). False: none has room, and the
 * site waits (slots.h); *ret_everybody: for what all sites of this worker wait for.
 */
bool opening_try(struct queue *q, struct route_target *target,
		 bool (*usable)(const struct route_target *t, void *arg), bool *ret_everybody);

#endif
