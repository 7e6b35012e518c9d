/*
 * order.h - what operators tell the workers, kept in the spool so that it survives any death.
 *
 * The committer writes an order row, raises shm order_seq and rings the workers it concerns; each
 * running worker reads all orders (and pauses) again, obeys, and answers with REPORT_ORDER_ACK in its ring. Only then does the
 * committer act (delete, move: in chunks, all but what workers hold in open transactions) and answer the
 * operator. Pauses stay as rows until resumed; other orders go when done.
 */
#ifndef SLUICE_SPOOL_ORDER_H
#define SLUICE_SPOOL_ORDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/clock.h"
#include "common/base/ip.h"
#include "common/base/slice.h"

enum order_kind {
	ORDER_PAUSE = 1, /* stays: no new transaction of matching queues */
	ORDER_RESUME, /* the pause rows of this pattern are gone; try again */
	ORDER_DELETE, /* take nothing that matches */
	ORDER_SCHEDULE, /* forget the retry wait of matching sites; due times were moved by the committer */
	ORDER_MOVE, /* take nothing that matches: it goes to another virtual MTA */
	/*
	 * Of those that stay, the last that matches decides; what takes back stays for as long as there is
	 * something that it takes back for some queues only.
	 */
	ORDER_BACKOFF, /* stays: matching sites go into back-off, once each */
	ORDER_NORMAL, /* matching sites go back to normal */
	ORDER_DISABLE_SOURCE, /* stays: matching sites do not use the source */
	ORDER_ENABLE_SOURCE /* … and do again, also when a reply had disabled it */
};

/* Which recipients. Empty slices match all. Patterns have '*' wildcards, case-insensitive. */
struct order_filter {
	struct slice queue; /* "domain/vmta" */
	struct slice job, sender, rcpt, envid;
	msec_t received_before; /* 0: any */
};

struct order {
	uint64_t id; /* grows; also the order of execution */
	enum order_kind kind;
	struct order_filter filter;
	msec_t created;
	bool retry_recipients, no_spread; /* schedule */
	bool dsn, no_accounting; /* delete */
	struct slice target; /* move: virtual MTA or pool */
	struct ip source; /* disable and enable source; else IP_NONE */
	msec_t until; /* disable source: 0 = until it is enabled */
	struct slice reason; /* of the operator; "" for none */
	struct slice who; /* "uid 0" */
};

/* '*' matches any run, '?' one; ASCII case-insensitive. */
bool order_pattern_match(struct slice pattern, struct slice text);
/* A queue by its names: "domain/vmta", and "provider/vmta" where provider (NAME.rollup) is not empty. */
struct order_queue {
	struct slice domain, provider, vmta;
};
/* Does a pattern of queues mean this one, by either name? */
bool order_queue_match(struct slice pattern, const struct order_queue *q);
/* As order_filter_match() below, by either name. */
bool order_filter_match_queue(const struct order_filter *f, const struct order_queue *q,
			      struct slice job, struct slice sender, struct slice rcpt,
			      struct slice envid, msec_t received);
/* queue is "domain/vmta". Empty job etc. of the recipient match only empty patterns or "*". */
bool order_filter_match(const struct order_filter *f, struct slice queue, struct slice job,
			struct slice sender, struct slice rcpt, struct slice envid,
			msec_t received);

struct spool_read;
/* Orders with id > *after, ascending; 1 = got one (slices borrowed from the read), 0 = no more, negative err. Pauses are among them. */
int spool_order_next(struct spool_read *r, uint64_t *after, struct order *ret);

#endif
