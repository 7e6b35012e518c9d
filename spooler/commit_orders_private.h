/*
 * commit_orders_private.h - an order under way, for the files that carry orders out. Nobody else includes it.
 *
 *     commit_orders.c       orders from their coming to their answer; schedule and resume
 *     commit_orders_take.c  delete and move
 */
#ifndef SLUICE_SPOOLER_COMMIT_ORDERS_PRIVATE_H
#define SLUICE_SPOOLER_COMMIT_ORDERS_PRIVATE_H

#include "spooler/commit_private.h"

#define CHUNK_ROWS 500 /* changed in one transaction */
#define CHUNK_LOOKS 5000 /* looked at in one transaction */

struct held {
	struct report_park_item item; /* with its padding zeroed: it is the key */
	UT_hash_handle hh;
};

struct wait {
	uint32_t slot, forkno;
	bool acked;
};

/* Parts of the work of an order, in this order. */
enum stage { STAGE_TAKE, STAGE_DUE, STAGE_SITES, STAGE_WAKES, STAGE_END };

/* What a transaction may move, and a failed one puts back. */
struct progress {
	enum stage stage;
	struct spool_key position;
	uint64_t done;
	uint64_t matching, queues; /* of a schedule */
	uint32_t last_matching, last_queue; /* counted last */
	bool finished;
};

struct commit_order {
	struct order o;
	char *texts[8]; /* that o's slices are in */
	bool stored; /* its row is committed */
	bool asked; /* workers have been told */
	struct wait *waits;
	size_t wait_count;
	struct held *held;
	uint64_t removed; /* pauses, by a resume */
	struct progress now, saved;
	void (*answer)(void *arg, const struct commit_order_result *r);
	void *arg;
	struct commit_order *next;
};

struct chunk {
	unsigned rows, looks;
};

/* A recipient in an open transaction, as its worker has answered; NULL: nobody holds it. */
struct held *orders_find_held(const struct commit_order *o, uint64_t msgid, uint32_t rcpt);

/* The names that patterns of queues are compared with; borrowed from q. */
struct order_queue orders_names_of(struct commit *c, struct commit_qent *q);
/* The next recipients that match and that nobody holds. 1 = there are more, 0 = done, negative err. */
int orders_take_chunk(struct commit *c, struct commit_order *o, struct chunk *k);

#endif
