/*
 * loop_private.h - what loop.c and the stream files of this folder share. Nobody else includes it.
 */
#ifndef SLUICE_LOOP_LOOP_PRIVATE_H
#define SLUICE_LOOP_LOOP_PRIVATE_H

#include <event2/event.h>
#include <event2/event_struct.h>
#include <sys/queue.h>

#include "common/loop/loop.h"

/* An object without any owner but the loop, such as a stream that closes after its last bytes. */
struct loop_owned {
	LIST_ENTRY(loop_owned) link;
	void (*release)(struct loop_owned *self);
};

struct event_base *loop_base(struct loop *l);
/* loop_free() releases what is still owned then. */
void loop_own(struct loop *l, struct loop_owned *o);
void loop_disown(struct loop_owned *o);

#endif
