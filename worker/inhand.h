/*
 * inhand.h - the recipients that this worker holds: what must not be read from the spool a second
 * time.
 *
 * An item is WAITING (in a parcel of its queue), OPEN (in a transaction) or DONE (its outcome is in
 * the ring). It leaves only when the committer has committed the ring beyond its outcome AND a read
 * transaction was begun after that was seen; otherwise an old snapshot would show it as due and it
 * would be sent twice. Forgetting a WAITING item is always safe: its row still says where it is.
 *
 * A parcel is the recipients of one message that wait in one queue; a transaction is made from one.
 */
#ifndef SLUICE_WORKER_INHAND_H
#define SLUICE_WORKER_INHAND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>
#include "common/base/hash.h"

#include "common/base/clock.h"

struct inhand;
struct lane;
struct queue;
struct worker;

enum item_state { ITEM_WAITING, ITEM_OPEN, ITEM_DONE };

struct item_key {
	uint64_t msgid;
	uint64_t rcpt;
};

struct item {
	struct item_key key;
	struct queue *queue;
	struct parcel *parcel; /* while WAITING in one; else NULL */
	uint64_t position; /* DONE: of its report in the ring */
	uint8_t state; /* enum item_state */
	bool fresh; /* its row is in table fresh, behind the cursor: must be parked to be seen again */
	uint8_t class; /* SPOOL_CLASSES, 0 the most urgent */
	uint8_t job; /* bucket of its job's name: jobs of one class take turns */
	char *leave; /* OPEN: where it goes when its transaction leaves it undelivered; NULL: nowhere */
	uint8_t strikes; /* connections lost under it before its message was sent */
	TAILQ_ENTRY(item) link; /* in the parcel, the transaction or the list of done ones */
	UT_hash_handle hh;
};
TAILQ_HEAD(item_list, item);

struct parcel_key {
	uint64_t msgid;
	uint64_t queue;
};

struct parcel {
	struct parcel_key key;
	struct queue *queue;
	struct lane *lane;
	struct item_list items; /* WAITING */
	uint32_t item_count;
	uint8_t class;
	TAILQ_ENTRY(parcel) link;
	UT_hash_handle hh;
};

struct inhand *inhand_new(struct worker *w);
void inhand_free(struct inhand *h);

struct item *inhand_find(struct inhand *h, uint64_t msgid, uint32_t rcpt);
/* A new WAITING item, not yet in any parcel; it must not be there. */
struct item *inhand_add(struct inhand *h, uint64_t msgid, uint32_t rcpt, struct queue *q,
			bool fresh);
/* WAITING and in no list: forgotten at once. */
void inhand_forget(struct inhand *h, struct item *it);
/* OPEN or WAITING, in no list: its outcome was put just now, behind `position`. */
void inhand_done(struct inhand *h, struct item *it, uint64_t position);
/*
 * A read transaction has been begun after post_committed() was seen to be `committed`: done items up to there
 * leave. Returns how many.
 */
size_t inhand_settle(struct inhand *h, uint64_t committed);
bool inhand_has_done(const struct inhand *h);
/* Ring position of the first done item, UINT64_MAX without one. */
uint64_t inhand_first_done(const struct inhand *h);

size_t inhand_count(const struct inhand *h);
/*
 * How many items of a class may wait in a queue now: what is free is shared, so that slow queues never
 * take all (a queue may hold at most a quarter of what is still free). At least 2, 0 when nothing is
 * free. Higher classes find room where lower ones have none. Queues whose host has not been reached have
 * half of the room, so that mail to dead domains never takes the place of mail that can go.
 */
size_t inhand_share(const struct inhand *h, const struct queue *q, uint8_t class);
/* No room for anybody. */
bool inhand_full(const struct inhand *h);
/* No room for queues that have not been reached (of the default class). */
bool inhand_unreached_full(const struct inhand *h);
/* The host of the queue's site has answered, or does not any more. */
void inhand_set_reached(struct inhand *h, struct queue *q, bool reached);

struct parcel *parcel_find(struct inhand *h, uint64_t msgid, struct queue *q);
struct parcel *parcel_add(struct inhand *h, uint64_t msgid, struct queue *q);
/* Empty and in no lane. */
void parcel_free(struct inhand *h, struct parcel *p);

#endif
