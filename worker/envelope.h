/*
 * envelope.h - what a transaction needs of the spool: the message's properties, who still wants it, and the
 * commands. All is read in one short read transaction; nothing borrowed from it survives.
 */
#ifndef SLUICE_WORKER_ENVELOPE_H
#define SLUICE_WORKER_ENVELOPE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/buf.h"
#include "common/spool/spool.h"
#include "worker/outcome.h"

struct connection;
struct item;
struct spool_read;

/* What becomes of a recipient before anything is sent. */
enum envelope_fate {
	FATE_SEND,
	FATE_GONE, /* no such row any more, or of another queue: nothing is due from us */
	FATE_VERDICT /* outcome is decided */
};

struct envelope_rcpt {
	struct item *item;
	enum envelope_fate fate;
	uint32_t attempts; /* before this one */
	struct outcome *verdict; /* heap; FATE_VERDICT */
	msec_t verdict_due;
};

struct envelope {
	struct spool_message message; /* without its slices */
	struct buf mail; /* the MAIL command */
	struct buf rcpts; /* the RCPT commands of all FATE_SEND, in order */
	bool alone; /* workers died with it in hand: nothing else on its connection, no other such message */
};

/*
 * Fills e, and fate, attempts and verdict of each of n recipients. ERR_NOT_FOUND: the message is gone;
 * ERR_CORRUPT and others: it cannot be read. e is {0} or used before.
 */
int envelope_read(struct connection *c, struct spool_read *r, uint64_t msgid,
		  struct envelope_rcpt *rcpts, uint32_t n, struct envelope *e);
void envelope_done(struct envelope *e);

#endif
