/*
 * post.h - the worker's outgoing post: reports go into its outcome ring, the only way out.
 *
 * Room is reserved before a transaction begins, so that no outcome is ever without a place. The
 * committer's bell is rung once per turn of the loop, whatever the number of reports.
 */
#ifndef SLUICE_WORKER_POST_H
#define SLUICE_WORKER_POST_H

#include <stdbool.h>
#include <stdint.h>

#include "common/spool/report.h"

struct post;
struct worker;

struct post *post_new(struct worker *w);
void post_free(struct post *p);

/* What a transaction report of t's names with n recipients takes of the ring at most. */
uint64_t post_bound(const struct report_transaction *t, uint32_t n);
/* Sets n bytes aside; false when the ring has no room now. */
bool post_reserve(struct post *p, uint64_t n);
/* The same of what post_room() has just said to be there, for reports that come without reservation but must fit. */
void post_keep(struct post *p, uint64_t n);
void post_release(struct post *p, uint64_t n);
/* Room that nobody has reserved, without what the end of a lap may waste. */
uint64_t post_room(const struct post *p);
/* Most recipients that one transaction report may ever hold, at least 1. */
uint32_t post_max_recipients(const struct post *p);

/* The report takes its place out of `reserved` bytes, all of which are given back. */
void post_transaction(struct post *p, const struct report_transaction *t, uint64_t reserved);
/*
 * Reports without reservation: they keep a margin of the ring that reservations never touch. False:
 * no room now, try again when the committer has caught up.
 */
bool post_site(struct post *p, const struct report_site *s);
bool post_park(struct post *p, const struct report_park *k);
bool post_wake(struct post *p, uint32_t queue, msec_t at);
bool post_warmup(struct post *p, const struct report_warmup *r);
bool post_member(struct post *p, uint32_t queue, struct slice provider);
bool post_ack(struct post *p, const struct report_order_ack *a);
bool post_reroute(struct post *p, const struct report_reroute *r);
bool post_notice(struct post *p, const struct report_notice *n);
bool post_move(struct post *p, const struct report_move *m);

/* Position behind the last report. */
uint64_t post_position(const struct post *p);
/* What the committer has committed so far. */
uint64_t post_committed(const struct post *p);
/* Everything put is committed. */
bool post_is_empty(const struct post *p);

#endif
