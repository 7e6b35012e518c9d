/*
 * transaction_parts.h - the inside of a transaction: its recipients, what became of each, and the report
 * of it to the ring (transaction_report.c). Private to transaction.c, which leads the dialogue.
 */
#ifndef SLUICE_WORKER_TRANSACTION_PARTS_H
#define SLUICE_WORKER_TRANSACTION_PARTS_H

#include <stdbool.h>
#include <stdint.h>

#include "worker/envelope.h"
#include "worker/outcome.h"
#include "worker/paces.h"

struct connection;
struct worker;

enum rcpt_state {
	RCPT_OPEN, /* no outcome yet */
	RCPT_ACCEPTED, /* 2xx: what becomes of the message is its outcome */
	RCPT_DECIDED, /* outcome */
	RCPT_AGAIN, /* untouched: waits again */
	RCPT_GONE /* nothing is due from us */
};

struct txn_rcpt {
	struct envelope_rcpt e;
	enum rcpt_state state;
	struct outcome *outcome; /* own, heap; NULL: that of the message */
	bool leaves; /* at the end: an order moves it */
};

struct transaction {
	unsigned magic;
	struct connection *c;
	struct worker *w;
	struct envelope env;
	uint64_t msgid;
	struct txn_rcpt *rcpts;
	uint32_t count;
	uint32_t next; /* recipient whose reply comes next */
	uint32_t accepted;
	uint32_t sent; /* recipients that the receiver is told of */
	uint32_t warmup_day; /* that they count for; 0: none */
	enum outcome_phase phase;
	bool pipelined;
	bool rset_pending; /* a reply to RSET comes first */
	bool mail_refused; /* what else was pipelined will be refused, too */
	bool empty; /* DATA was taken though no recipient was: a lone dot ends it */
	bool body_begun;
	bool settled; /* a pattern has decided what becomes of host and site */
	uint64_t offset; /* of the body */
	char tail[2]; /* its last bytes so far */
	uint64_t reserved; /* of the ring */
	struct paces_ticket paces; /* what it took of rates */
	msec_t started;
	struct outcome message; /* of all accepted ones, once decided */
};

/* Room in the ring for a report with n recipients of what goes over c. */
uint64_t transaction_bound(const struct connection *c, uint32_t n);
/* This one gets an outcome of its own. */
void rcpt_decide(struct txn_rcpt *x, const struct outcome *o);
/* All that have no outcome of their own get this one. */
void transaction_decide_rest(struct transaction *t, const struct outcome *o);
/* They wait again, untouched: it is the outcome of none of them. */
void transaction_put_back(struct transaction *t, const struct outcome *o);
/* They wait again, untouched; one that has lost several connections gets the outcome. */
void transaction_rest_again(struct transaction *t, const struct outcome *o);
bool transaction_any_again(const struct transaction *t);
/* Tells operators and the ring what there is and lets go of all items. The room that is left goes back. */
void transaction_report(struct transaction *t);

#endif
