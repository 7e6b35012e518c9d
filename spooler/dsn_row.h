/*
 * dsn_row.h - one row of the table dsn: all that a delivery status notification is made from.
 *
 * Written by the committer, in the transaction that ends the recipients; read by the DSN helper
 * (dsn.h). Key: u64, never reused (the committer's counter, from 1). The row is deleted in the
 * transaction that takes in the message made from it.
 *
 * One row is about one message, and about recipients that ended (or are delayed) in one
 * transaction.
 */
#ifndef SLUICE_SPOOLER_DSN_ROW_H
#define SLUICE_SPOOLER_DSN_ROW_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/base/ip.h"
#include "common/base/macros.h"
#include "common/base/slice.h"
#include "common/spool/report.h"
#include "common/spool/spool.h"

enum dsn_action { DSN_FAILED = 1, DSN_DELAYED, DSN_RELAYED, DSN_DELIVERED };

/* The most of the original message that a row carries, bytes. */
#define DSN_ORIGINAL_MAX (64 * 1024)

struct dsn_recipient {
	struct slice address, orcpt; /* as in struct spool_recipient */
	enum dsn_action action;
	uint8_t enhanced[3]; /* 0.0.0: none given */
	uint16_t code; /* 0: our own text */
	struct slice text; /* reply with its code ("550 5.1.1 …"), or "local: …" */
	struct slice mx_name; /* "" for local outcomes */
	struct ip mx_ip;
	msec_t last_attempt; /* 0: none */
	msec_t will_retry_until; /* delayed only; 0: not known */
};

struct dsn_row {
	uint64_t msgid; /* of the original message */
	struct slice sender, dsn_envid, envid, job;
	uint32_t flags; /* SPOOL_MSG_* of the original */
	msec_t received, made; /* made: when the committer wrote the row */
	struct slice vmta; /* name: the notification leaves by the same virtual MTA */
	struct slice source_mta; /* feeder: Received-From-MTA */
	struct slice original; /* wire form, from its first byte; see dsn_original_size() */
	bool full; /* original is the whole message, not just the header */
	const struct dsn_recipient *recipients;
	uint32_t recipient_count;
};

void dsn_row_encode(const struct dsn_row *r, struct buf *b);
/*
 * Slices are borrowed from the payload, the recipients live in *scratch until its next use.
 * ERR_CORRUPT, ERR_VERSION.
 */
int dsn_row_decode(struct slice payload, struct buf *scratch, struct dsn_row *ret) WARN_UNUSED;

/*
 * A mail from us to an operator (worker/notice.h) lies in the same table; the first byte tells the two
 * apart. Slices are borrowed. ERR_CORRUPT, ERR_VERSION.
 */
void dsn_notice_encode(const struct report_notice *n, struct buf *b);
bool dsn_notice_is(struct slice payload);
int dsn_notice_decode(struct slice payload, struct report_notice *ret) WARN_UNUSED;

/*
 * Whether the sender is to be told about this recipient: never about mail with the null sender or
 * made by us, nor with suppress-local-dsn or NOTIFY=NEVER; failures unless NOTIFY names only
 * others; success (RFC 3461: to be given when relayed to a host without DSN, or discarded) and
 * delay only when asked for.
 */
bool dsn_wanted(const struct spool_message *m, const struct spool_recipient *r,
		enum dsn_action action);

/* How many bytes of the original's wire form go into the row, and whether that is all of it. */
size_t dsn_original_size(const struct spool_message *m, bool *ret_full);

#endif
