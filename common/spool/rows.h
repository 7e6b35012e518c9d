/*
 * rows.h - the values of the spool's tables as bytes.
 *
 * Every value starts with the version of its encoding; a reader knows all versions ever written.
 * Encoders append to a buf; decoders borrow slices from the value and return ERR_CORRUPT (does not
 * end where it should) or ERR_VERSION. Decoders do not set what the key says (ids).
 */
#ifndef SLUICE_SPOOL_ROWS_H
#define SLUICE_SPOOL_ROWS_H

#include "common/base/buf.h"
#include "common/spool/order.h"
#include "common/spool/spool.h"

struct dec;

/* Opens a value for decoding, behind its version: 0, ERR_CORRUPT, or ERR_VERSION for another one than this. */
int row_begin(struct dec *d, struct slice v, uint8_t version) WARN_UNUSED;
void row_message_encode(const struct spool_message *m, struct buf *b);
int row_message_decode(struct slice v, struct spool_message *ret) WARN_UNUSED;
void row_recipient_encode(const struct spool_recipient *r, struct buf *b);
int row_recipient_decode(struct slice v, struct spool_recipient *ret) WARN_UNUSED;
void row_fresh_encode(uint32_t queue, uint64_t msgid, struct buf *b);
int row_fresh_decode(struct slice v, uint32_t *ret_queue, uint64_t *ret_msgid) WARN_UNUSED;
void row_queue_encode(const struct spool_queue *q, struct buf *b);
int row_queue_decode(struct slice v, struct spool_queue *ret) WARN_UNUSED;
void row_vmta_encode(const struct spool_vmta *m, struct buf *b);
int row_vmta_decode(struct slice v, struct spool_vmta *ret) WARN_UNUSED;
void row_site_encode(const struct spool_site *s, struct buf *b);
int row_site_decode(struct slice v, struct spool_site *ret) WARN_UNUSED;
void row_reroute_encode(const struct spool_reroute *r, struct buf *b);
int row_reroute_decode(struct slice v, struct spool_reroute *ret) WARN_UNUSED;
/* One number: queue-name (queue id), quota (count), schema version. */
void row_number_encode(uint64_t v, struct buf *b);
int row_number_decode(struct slice v, uint64_t *ret) WARN_UNUSED;

/* An order with how far the committer has carried it out. */
struct order_row {
	struct order order;
	uint8_t step; /* 0: waits for the workers' answers; 1: being carried out */
	uint64_t done, held; /* recipients changed; in flight when the workers answered */
	struct slice position; /* key behind which to go on */
};
void row_order_encode(const struct order_row *o, struct buf *b);
int row_order_decode(struct slice v, struct order_row *ret) WARN_UNUSED;

/* 0, ERR_NOT_FOUND, ERR_CORRUPT, ERR_VERSION; slices borrowed from the read. */
int spool_order_row_get(struct spool_read *r, uint64_t id, struct order_row *ret) WARN_UNUSED;

/* The numbers that every transaction may move: one row of state. */
struct spool_numbers {
	uint64_t next_arrival, next_outbox, next_dsn, next_order;
	uint32_t next_queue, next_vmta;
	uint64_t last_msgid; /* largest ever committed */
	uint64_t messages, recipients, bytes; /* in the spool */
};
void row_numbers_encode(const struct spool_numbers *n, struct buf *b);
int row_numbers_decode(struct slice v, struct spool_numbers *ret) WARN_UNUSED;

/* Position in a worker's outcome ring: what lies before it has been applied. */
struct spool_ring_position {
	uint64_t family;
	uint32_t forkno;
	uint64_t position;
};
void row_ring_encode(const struct spool_ring_position *p, struct buf *b);
int row_ring_decode(struct slice v, struct spool_ring_position *ret) WARN_UNUSED;

/* A rate clock (common/shm/rates.h) that was closed when it was written. */
struct spool_rate {
	uint64_t n; /* tokens … */
	usec_t per; /* … in any time of this length */
	uint64_t boot; /* of the machine */
	usec_t now; /* monotonic, when it was written */
	msec_t wall; /* likewise */
	uint64_t ahead; /* ns from then on until it opens */
};
void row_rate_encode(const struct spool_rate *r, struct buf *b);
int row_rate_decode(struct slice v, struct spool_rate *ret) WARN_UNUSED;

#define STATE_SCHEMA "schema"
#define STATE_NUMBERS "numbers"
#define STATE_RING "ring:" /* and the slot as u32, big-endian */
#define STATE_RATE "rate:" /* a letter each for scope and measure, and the name */
#define STATE_RATES "rates" /* 1: the last run ended with all clocks written; else 0 */
#define STATE_ACCOUNT "acct:" /* and the name of a checkpoint of the accountant */

#endif
