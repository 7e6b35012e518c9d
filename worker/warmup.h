/*
 * warmup.h - the warm-up of source addresses at a site: how many recipients may be tried from each today,
 * and when the next.
 *
 * What a receiver may have seen is counted before it can have seen it: a worker asks the committer for
 * a part of the day's number (report_warmup) and uses it only when that is committed. So what the spool
 * says is never too small, whoever dies when; what a dead worker had asked for and not used is lost for
 * the day. One that stops in good order gives it back, as does a site that has nothing to do.
 *
 * An address whose day is used up is left out by sources.h; when that is so of all of them, the site
 * is held until the day ends: its queues are blocked like those of a site that waits for a retry.
 *
 * The state belongs to its site (site.warmup; NULL: none of its sources is warmed up there). Used by the
 * worker's one thread.
 */
#ifndef SLUICE_WORKER_WARMUP_H
#define SLUICE_WORKER_WARMUP_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/clock.h"
#include "common/base/ip.h"

struct site;
struct spool_read;
struct warmup;
struct warmups;
struct worker;

struct warmups *warmups_new(struct worker *w);
void warmups_free(struct warmups *ws);
/* The committer has committed: sites that asked for more may go on. */
void warmups_look(struct worker *w);

/* A site comes into memory. */
void warmup_load(struct site *s, struct spool_read *r);
/* A reload, another provider, or an operator's setting. */
void warmup_configure(struct site *s);
void warmup_free(struct site *s);
/* Once a second: a new day; what is not needed goes back. */
void warmup_tick(struct site *s);
/* Nothing begins any more: gives back what was asked for and is not needed. */
void warmup_settle(struct site *s);
/* Nothing that its row does not have. */
bool warmup_is_settled(const struct site *s);

/* Whether a connection from this address has something to do now, beside those that it has. */
bool warmup_allows(const struct site *s, const struct ip *source);
/* Whether one that is open has. */
bool warmup_is_ready(const struct site *s, const struct ip *source);
/* A connection from there is being opened: asks for what it will need. */
void warmup_expect(struct site *s, const struct ip *source);
/*
 * How many of `wanted` recipients may be tried from this address in one transaction now; 0: none yet.
 * *ret_wait is then for how long, about: 0 for a commit, USEC_INFINITY for the rest of the day.
 */
uint32_t warmup_room(struct site *s, const struct ip *source, uint32_t wanted, usec_t *ret_wait);
/* So many will be tried. Returns the local day that they count for; 0: they are not counted. */
uint32_t warmup_begun(struct site *s, const struct ip *source, uint32_t n);
/* They were not: the receiver wanted no transaction. */
void warmup_undo(struct site *s, const struct ip *source, uint32_t day, uint32_t n);

/* Wall time until which all its addresses are used up; 0: they are not. */
msec_t warmup_until(const struct site *s);
/* All addresses that it could use wait for their time, or for the next day. */
bool warmup_holds(const struct site *s);
/*
 * The virtual MTA or pool that takes the mail of the site now, since it would wait here: for the next day,
 * or for its turn; NULL: it stays. ret_why: a text for operators, until the next call.
 */
const char *warmup_overflow(const struct site *s, const char **ret_why);
/* Which one, how far it is, until when: at most SHM_QUEUE_TEXT bytes; "" when nothing is held. */
void warmup_hold_text(const struct site *s, char *ret);

#endif
