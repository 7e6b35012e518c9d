/*
 * report.h - what a worker tells the committer through its outcome ring: the only way out of a worker.
 *
 * One ring record is one report: type byte and payload (encoding: report.c, versioned). The
 * committer applies each report exactly once, in ring order, in the transaction that also stores the
 * ring position.
 */
#ifndef SLUICE_SPOOL_REPORT_H
#define SLUICE_SPOOL_REPORT_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/base/ip.h"
#include "common/base/slice.h"
#include "common/spool/site_mode.h"
#include "common/spool/warmup.h"

enum report_type {
	REPORT_TRANSACTION = 1, /* outcomes of recipients of one message */
	REPORT_SITE, /* a connection or site failure, or a change of site state */
	REPORT_PARK, /* recipients that the worker gives back untried */
	REPORT_WAKE, /* when a queue wants to be looked at again */
	REPORT_ORDER_ACK, /* answer to an order */
	REPORT_REROUTE, /* a queue's mail goes elsewhere from now on, or no longer */
	REPORT_MOVE, /* recipients that the worker gives up: they get another owner */
	REPORT_WARMUP, /* a day of an address that is warmed up, as its site has it */
	REPORT_NOTICE, /* a mail from us to an operator */
	REPORT_MEMBER, /* the provider that a queue's domain belongs to */
};

enum outcome_class { OUTCOME_DELIVERED = 1, OUTCOME_BOUNCED, OUTCOME_TRANSIENT };

#define REPORT_TEXT_MAX 512 /* a reply is cut to this */

/* One recipient's end, or postponement. */
struct report_outcome {
	uint32_t rcpt;
	uint32_t queue;
	enum outcome_class class;
	uint16_t code; /* SMTP reply code; 0: our own text */
	uint8_t enhanced[3]; /* 0.0.0: none given */
	struct slice
		text; /* reply with its code ("550 5.1.1 …"), or "local: …" text; identical texts are stored once */
	bool attempted; /* counts as an attempt of the recipient */
	msec_t due; /* transient: next try (the committer takes the sooner of this and expiry) */
	bool relayed; /* delivered to a host without DSN: "relayed" DSN when NOTIFY=SUCCESS */
	bool no_dsn, no_accounting; /* deleted by the administrator with these options */
};

enum dlv_type { DLV_SMTP, DLV_DISCARD, DLV_LOCAL };

struct report_transaction {
	uint64_t msgid;
	enum dlv_type type;
	struct slice site; /* accounting field queue: "domain/vmta" or "x.rollup/vmta" */
	struct slice mx_name; /* "" for local outcomes */
	struct ip mx_ip, source_ip;
	struct slice tls_protocol, tls_cipher,
		esmtp; /* esmtp: extensions offered, comma-separated */
	uint64_t bytes; /* sent for this transaction */
	msec_t started, ended;
	uint32_t warmup_day; /* local day that it counts for in the warm-up of source_ip; 0: none */
	const struct report_outcome *outcomes;
	uint32_t outcome_count;
};

/* Failure (or recovery) of a site: one site row, one tq record, no recipient rows. */
struct report_site {
	struct slice name; /* row name: the domain, or "x.rollup" */
	struct slice queue; /* "name/vmta" for the tq record */
	bool clear; /* delete the row: all is well again */
	bool record; /* write a tq record */
	struct site_mode mode;
	msec_t since;
	uint32_t retry_position;
	msec_t retry_at;
	uint8_t enhanced[3];
	struct slice text; /* reply or "local: …" */
	struct slice mx_name;
	struct ip mx_ip, source_ip;
	msec_t when;
};

struct report_park_item {
	uint64_t msgid;
	uint32_t rcpt;
};
/* Moves from fresh to due (or changes due), attempts unchanged. */
struct report_park {
	uint32_t queue;
	msec_t due;
	const struct report_park_item *items;
	uint32_t item_count;
};

/* The queue's wake row moves to max(first due, at); UINT64_MAX-1 = not before further notice. */
struct report_wake {
	uint32_t queue;
	msec_t at;
};

struct report_order_ack {
	uint64_t order;
	const struct report_park_item *held; /* in open transactions now */
	uint32_t held_count;
};

/* New mail of the queue goes to `target` while its row stands; "" ends it. */
struct report_reroute {
	uint32_t queue;
	struct slice target; /* virtual MTA or pool */
	msec_t until; /* of a reply: then at the earliest; 0: until the worker says so */
	struct slice why;
};

/* Of one queue: the worker will not touch them again. They keep all but their queue, and are due at once. */
struct report_move {
	uint32_t queue;
	bool reselect; /* target is their pool: a better member of it, if there is one */
	struct slice target;
	const struct report_park_item *items;
	uint32_t item_count;
};

/*
 * How far the warm-up of a source address at a site is, with the recipients that may be tried from then on: they are,
 * at the earliest, when this is committed.
 */
struct report_warmup {
	struct slice site; /* row name */
	struct ip source_ip;
	struct warmup_day day; /* its outcomes are not looked at */
	uint64_t set; /* the operator's setting that it follows */
};

/* A mail to one address about what happened to a site. */
struct report_notice {
	msec_t when;
	struct slice to; /* address */
	struct slice subject, text; /* lines, each with its LF */
	uint32_t left_out; /* lines that the text does not have */
};

/* provider: NAME.rollup; "": to none. */
struct report_member {
	uint32_t queue;
	struct slice provider;
};

void report_transaction_encode(const struct report_transaction *t, struct buf *b);
void report_site_encode(const struct report_site *s, struct buf *b);
void report_park_encode(const struct report_park *p, struct buf *b);
void report_wake_encode(const struct report_wake *w, struct buf *b);
void report_member_encode(const struct report_member *m, struct buf *b);
void report_order_ack_encode(const struct report_order_ack *a, struct buf *b);
void report_reroute_encode(const struct report_reroute *r, struct buf *b);
void report_move_encode(const struct report_move *m, struct buf *b);
void report_warmup_encode(const struct report_warmup *w, struct buf *b);
void report_notice_encode(const struct report_notice *n, struct buf *b);

/*
 * Decoding: slices are borrowed from the payload; arrays live in *scratch until its next use. ERR_CORRUPT for anything but
 * exactly one report.
 */
int report_transaction_decode(struct slice payload, struct buf *scratch,
			      struct report_transaction *ret);
int report_site_decode(struct slice payload, struct report_site *ret);
int report_park_decode(struct slice payload, struct buf *scratch, struct report_park *ret);
int report_wake_decode(struct slice payload, struct report_wake *ret);
int report_member_decode(struct slice payload, struct report_member *ret);
int report_order_ack_decode(struct slice payload, struct buf *scratch,
			    struct report_order_ack *ret);
int report_reroute_decode(struct slice payload, struct report_reroute *ret);
int report_move_decode(struct slice payload, struct buf *scratch, struct report_move *ret);
int report_warmup_decode(struct slice payload, struct report_warmup *ret);
int report_notice_decode(struct slice payload, struct report_notice *ret);

/*
 * Most bytes that a report of t's names (site, MX, TLS, ESMTP) with n outcomes has, whatever its numbers and
 * texts: what is reserved before MAIL FROM. t = NULL: with the longest names.
 */
uint64_t report_transaction_bound(const struct report_transaction *t, uint32_t n);

#endif
