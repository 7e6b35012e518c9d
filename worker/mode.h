/*
 * mode.h - what a site may do now: its caps, rates and retry times, as configured or as its mode says.
 *
 * A site is in normal mode or in back-off. Whoever needs one of these values asks here; nobody reads
 * them from the settings. The mode belongs to its site (site.mode); used by the worker's one thread.
 */
#ifndef SLUICE_WORKER_MODE_H
#define SLUICE_WORKER_MODE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/clock.h"
#include "common/conf/conf.h"

struct site;
struct site_place;

/* Of a site, NULL: normal, and always was. */
struct mode;

/*
 * Something said that the site is to be slower: a reply that matches a pattern, an operator, no source
 * left. why is a text for operators (which pattern, the reply); at: where it was said, NULL for
 * nowhere. After to_normal_after the site goes back to normal; 0: after backoff-to-normal-after;
 * USEC_INFINITY: never by time. Of a site that already is in back-off, the reason and the time are new.
 */
void mode_enter_backoff(struct site *s, const char *why, const struct site_place *at,
			usec_t to_normal_after);
/* Does nothing for a site in normal mode. */
void mode_go_normal(struct site *s, const char *why);
bool mode_is_backoff(const struct site *s);
/* Once a second: what time alone ends. */
void mode_tick(struct site *s);
/* The site goes away. */
void mode_free(struct site *s);

/* Connections of the site. */
uint64_t mode_max_smtp_out(const struct site *s);
/* Recipients, connections, bytes per time. */
struct conf_rate mode_msg_rate(const struct site *s);
struct conf_rate mode_connect_rate(const struct site *s);
struct conf_rate mode_data_rate(const struct site *s);
/* Times to wait after the first, second … failure. */
const struct conf_times *mode_retry_after(const struct site *s);

#endif
