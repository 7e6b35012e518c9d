/*
 * record.h - one accounting record: what the committer puts into the outbox, what the accountant
 * turns into lines of files. Lines are made from the outbox row alone.
 *
 * Times are kept absolute; only the formatter subtracts.
 */
#ifndef SLUICE_ACCT_RECORD_H
#define SLUICE_ACCT_RECORD_H

#include <stdint.h>

#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/base/ip.h"
#include "common/base/slice.h"

enum acct_type {
	ACCT_DELIVERED = 'd',
	ACCT_BOUNCED = 'b',
	ACCT_TRANSIENT = 't',
	ACCT_QUEUE = 'q' /* "tq" */
};

struct acct_record {
	enum acct_type type;
	msec_t time_logged, time_queued, time_first_attempt;
	struct slice orig, rcpt, orcpt;
	struct slice dsn_action; /* relayed, delivered, failed, delayed */
	uint8_t enhanced[3];
	uint16_t code;
	struct slice text; /* the reply ("550 5.1.1 …") or our own text ("local: …") */
	struct slice mx_name;
	struct ip mx_ip, source_ip;
	struct slice src_mta; /* "helo (ip)" */
	struct slice dlv_type; /* smtp, discard */
	struct slice esmtp;
	uint64_t size; /* dlvSize */
	struct slice tls_protocol, tls_cipher;
	struct slice vmta, pool, job, envid, user;
	struct slice queue; /* domain/vmta, or x.rollup/vmta */
	uint32_t attempt;
	uint64_t msgid;
};

void acct_record_encode(const struct acct_record *r, struct buf *b);
/* Slices are borrowed from the payload. ERR_CORRUPT, ERR_VERSION. */
int acct_record_decode(struct slice payload, struct acct_record *ret);

#endif
