/*
 * mode.h - what a site may do now: its caps, rates and retry times, as configured or as its mode says.
 *
 * A site is in normal mode or in back-off. Whoever needs one of these values asks here; nobody reads
 * them from the settings. In back-off the backoff-* twins hold. Where none of those for connections and
 * rates is set, each source address goes as fast as it is found that the receiver allows (tempo.h), and
 * back-off ends when that is as fast as in normal mode.
 *
 * The mode belongs to its site (site.mode) and is stored in its row; used by the worker's one thread.
 */
#ifndef SLUICE_WORKER_MODE_H
#define SLUICE_WORKER_MODE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/base/ip.h"
#include "common/conf/conf.h"
#include "common/spool/site_mode.h"

struct site;
struct site_place;

#define MODE_CHANGES 10

/* Of a site, NULL: normal, and always was. */
struct mode;

/*
 * Something said that the site is to be slower: a reply that matches a pattern, an operator, no source
 * left. why is a text for operators (which pattern, the reply); at: where it was said, NULL for
 * nowhere. After to_normal_after the site goes back to normal; 0: after backoff-to-normal-after;
 * USEC_INFINITY: never by time. Of a site that already is in back-off, the reason and the time are new,
 * and its rate is cut again.
 */
void mode_enter_backoff(struct site *s, const char *why, const struct site_place *at,
			usec_t to_normal_after);
/* Does nothing for a site in normal mode. */
void mode_go_normal(struct site *s, const char *why);
bool mode_is_backoff(const struct site *s);
/* The last change (wall); 0: none. */
msec_t mode_since(const struct site *s);
/* Recipients were delivered from this source, in a transaction that began then (wall time). */
void mode_delivered(struct site *s, const struct ip *source, uint32_t recipients, msec_t began);
/* In back-off each source address has a rate that is found out. */
bool mode_finds_out(const struct site *s);
/*
 * A refusal of this kind is answered by going slower, not by leaving the host alone: the site is in
 * back-off, finds its rate by trying, and got something through in the last minute.
 */
bool mode_absorbs(const struct site *s);

/* Connections of the site: now, and as soon as resume-ramp has passed. */
uint64_t mode_max_smtp_out(const struct site *s);
uint64_t mode_full_smtp_out(const struct site *s);
/* Recipients, connections, bytes per time. */
struct conf_rate mode_msg_rate(const struct site *s);
struct conf_rate mode_connect_rate(const struct site *s);
struct conf_rate mode_data_rate(const struct site *s);
/* Of these, from this source. */
uint64_t mode_source_max_smtp_out(const struct site *s, const struct ip *source);
/* Times to wait after the first, second … failure. */
const struct conf_times *mode_retry_after(const struct site *s);
/* Recipients from this source, in any time; n is UINT64_MAX where only the rates of the site hold. */
struct conf_rate mode_source_msg_rate(const struct site *s, const struct ip *source);

/* For show queue: the last changes, the oldest first. False: there are no more than i. */
bool mode_change_at(const struct site *s, size_t i, struct site_change *ret);
/* Since when, until when (0: not by time), why; 0 and "" of a site that never changed. */
void mode_describe(const struct site *s, msec_t *ret_since, msec_t *ret_until,
		   const char **ret_why);

/* Once a second: what time alone ends; what has changed is stored. */
void mode_tick(struct site *s);
/* For its row: slices are of the site or of *scratch. */
void mode_fill(const struct site *s, struct buf *scratch, struct site_mode *ret);
/* From its row; the site is as it was, and what time has ended meanwhile ends with the next tick. */
void mode_load(struct site *s, const struct site_mode *from);
/* The last order about its mode that it obeyed. */
uint64_t mode_order(const struct site *s);
void mode_set_order(struct site *s, uint64_t order);
/* The site goes away. */
void mode_free(struct site *s);

#endif
