/*
 * verdict.h - outcomes that are decided without asking the receiver: expired, no such domain, deleted
 * and the like. One report for each message.
 */
#ifndef SLUICE_WORKER_VERDICT_H
#define SLUICE_WORKER_VERDICT_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/clock.h"
#include "worker/outcome.h"

struct item;
struct item_list;
struct parcel;
struct queue;
struct site;
struct spool_message;
struct spool_read;
struct spool_recipient;
struct worker;

/*
 * The same outcome for n items of one message, in no list; they become done. False: no room in the
 * ring, nothing has changed.
 */
bool verdict_items(struct site *s, struct item *const *items, uint32_t n, const struct outcome *o,
		   msec_t due);
/* All that waits in the site's queues. False: no room for all. */
bool verdict_waiting(struct site *s, const struct outcome *o);
/*
 * Whether a recipient is too old and may bounce for it: it had an attempt since the start of this
 * run (or the last jump of the clock), or so did its site. *ret says what it gets.
 */
bool verdict_expired(const struct queue *q, const struct spool_message *m,
		     const struct spool_recipient *r, struct outcome *ret);
/* Expired ones among what waits in the site's queues bounce now. */
void verdict_expire_waiting(struct site *s);

#endif
