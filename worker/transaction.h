/*
 * transaction.h - one message to some of its recipients over one connection: MAIL, RCPT, DATA (in one
 * write where the peer does PIPELINING), the message, the final dot.
 *
 * Room for its outcomes is reserved in the ring before MAIL FROM; when it ends, each recipient has got an
 * outcome or waits again. It never holds a whole body: it knows message and offset, and reads at most
 * 64 KiB a turn in a new read transaction.
 */
#ifndef SLUICE_WORKER_TRANSACTION_H
#define SLUICE_WORKER_TRANSACTION_H

#include <stdbool.h>
#include <stdint.h>

#include "worker/outcome.h"

struct connection;
struct reply;
struct transaction;

enum transaction_start {
	TRANSACTION_BEGUN,
	TRANSACTION_NOTHING, /* no mail that can go now */
	TRANSACTION_NO_ROOM /* the ring is full: later */
};
/* Takes the next parcel of the connection's site. */
/*
 * The connection is needed for other mail: what has no outcome yet is tried again, and that is no attempt. Behind
 * the final dot it does nothing. The connection is given up.
 */
void transaction_interrupt(struct transaction *t);
enum transaction_start transaction_begin(struct connection *c);
/* A reply has come. The transaction may end (connection_transaction_ended(), or _give_up()). */
void transaction_on_reply(struct transaction *t, const struct reply *r);
/* Output has left: more of the message. */
void transaction_on_drained(struct transaction *t);
/* The connection is gone; what = "connection lost", "no reply within 5m". */
void transaction_on_loss(struct transaction *t, const char *what);

/* The process ends: frees it without a word. */
void transaction_discard(struct transaction *t);

uint64_t transaction_msgid(const struct transaction *t);
/* All is sent: only the reply to the final dot is missing. */
bool transaction_awaits_final_reply(const struct transaction *t);
/* Whether this recipient is in it. */
bool transaction_has(const struct transaction *t, uint64_t msgid, uint32_t rcpt);
const char *transaction_doing(const struct transaction *t);
/* Calls each for its recipients (orders: what is held). */
void transaction_each(const struct transaction *t,
		      void (*each)(uint64_t msgid, uint32_t rcpt, uint32_t queue, void *arg),
		      void *arg);

#endif
