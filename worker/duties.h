/*
 * duties.h - what operators want (common/spool/order.h): this worker reads all orders again when
 * order_seq has moved, obeys, and answers in its ring. It answers also what an earlier worker of this
 * virtual MTA may have answered: an answer is only news once.
 */
#ifndef SLUICE_WORKER_DUTIES_H
#define SLUICE_WORKER_DUTIES_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/slice.h"

struct duties;
struct order;
struct queue;
struct spool_message;
struct spool_queue;
struct spool_read;
struct worker;

struct duties *duties_new(struct worker *w);
void duties_free(struct duties *o);

/*
 * In a burst of reading: reads what is new, goes on with what takes longer. seq is duties_seq() as it
 * was before the read began: what changed since then may not be in it yet, and is read again.
 */
void duties_look(struct duties *o, struct spool_read *r, uint64_t seq);
uint64_t duties_seq(const struct duties *o);
/* The i-th of all orders that there are, by their ids; NULL: there are no more. */
const struct order *duties_order(const struct duties *o, size_t i);
/* Whether a queue is paused. */
bool duties_pause(const struct duties *o, struct slice queue);
/* A delete order is being carried out: what matches it must not be taken. */
/* The same for a queue that is not in memory. */
bool duties_pause_row(const struct duties *o, const struct spool_queue *q);
bool duties_deleting(const struct duties *o);
bool duties_delete_matches(const struct duties *o, struct spool_read *r, const struct queue *q,
			   const struct spool_message *m, uint32_t rcpt);

#endif
