/*
 * wants.h - which caps on concurrent connections a connection counts in, and how high they are now.
 *
 * A connection is named by its site, the mail host and address that it goes to, and the local address
 * that it comes from. All caps but the site's own number of connections (mode.h) are in shared memory.
 */
#ifndef SLUICE_WORKER_WANTS_H
#define SLUICE_WORKER_WANTS_H

#include "common/base/ip.h"
#include "common/shm/limits.h"

#define WANTS_HOST_MAX 256

struct queue;
struct site;

struct wants_place {
	const char *host; /* of the MX record */
	const struct ip *dest, *source; /* family IP_NONE: not known (yet) */
};

/* Not to be copied: names point into it. */
struct wants {
	struct limit_want v[LEASE_ENTRIES];
	size_t n;
	char dest[IP_TEXT_MAX];
	char pair[2 * IP_TEXT_MAX];
	char provider[WANTS_HOST_MAX + IP_TEXT_MAX];
	char mx[IP_TEXT_MAX + WANTS_HOST_MAX];
	char source[2 * WANTS_HOST_MAX + IP_TEXT_MAX];
};

/* From the configuration that the worker has now. */
void wants_make(struct wants *x, const struct site *s, const struct wants_place *at);
/* One more; cap 0 adds none. The name lives as long as x. For whoever knows further caps of a connection. */
void wants_add(struct wants *x, const struct site *s, enum limit_kind kind, const char *name,
	       uint64_t cap);
/*
 * The limits in shared memory that a connection for the queue may need: for each of its addresses and the
 * sources that can reach it; the same one may come more than once. The want lives during the call.
 */
void wants_of_queue(struct queue *q, void (*each)(const struct limit_want *want, void *arg),
		    void *arg);

#endif
