/*
 * orders.h - what operators want (common/spool/order.h): this worker reads all orders again when
 * order_seq has moved, obeys, and answers in its ring. It answers also what an earlier worker of this
 * virtual MTA may have answered: an answer is only news once.
 */
#ifndef SLUICE_WORKER_ORDERS_H
#define SLUICE_WORKER_ORDERS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/slice.h"

struct orders;
struct queue;
struct spool_message;
struct spool_read;
struct worker;

struct orders *orders_new(struct worker *w);
void orders_free(struct orders *o);

/* In a burst of reading: reads what is new, goes on with what takes longer. */
void orders_look(struct orders *o, struct spool_read *r);
/* Whether a queue is paused. */
bool orders_pause(const struct orders *o, struct slice queue);
/* A delete order is being carried out: what matches it must not be taken. */
bool orders_deleting(const struct orders *o);
bool orders_delete_matches(const struct orders *o, struct spool_read *r, const struct queue *q,
			   const struct spool_message *m, uint32_t rcpt);

#endif
