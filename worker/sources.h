/*
 * sources.h - which local address a site connects from: those of the virtual MTA in the target's
 * family, used in turn, without those that are disabled for the site.
 *
 * A source is disabled by a reply that says that the receiver does not want mail from this address;
 * that belongs to the site (site.disabled) and is stored in its row. Or an operator disables it
 * (site_orders.h). Used by the worker's one thread.
 */
#ifndef SLUICE_WORKER_SOURCES_H
#define SLUICE_WORKER_SOURCES_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/clock.h"
#include "common/base/ip.h"
#include "common/spool/site_mode.h"

struct site;

/* Disabled sources of a site; NULL: none. */
struct disabled;

/* A local address; family IP_NONE: the kernel chooses. */
struct source {
	struct ip ip;
	const char *host; /* EHLO name, owned by the configuration */
};

/* Whether the site can connect to addresses of this family. */
bool sources_has(const struct site *s, uint8_t family);
/* The next one of that family (sources_has()), one that has room for a connection if there is any. */
void sources_next(struct site *s, uint8_t family, struct source *ret);
/* This one, with its EHLO name; false: the virtual MTA has it not, or the site does not use it. */
bool sources_named(const struct site *s, const struct ip *source, struct source *ret);

/*
 * The site uses this address no more for so long (0: reenable-source-ip-after of the site;
 * USEC_INFINITY: until it is enabled); its connections
 * from there close after their transaction. why is a text for operators. Of one that already is
 * disabled, time and reason are new.
 */
void sources_disable(struct site *s, const struct ip *source, usec_t reenable_after,
		     const char *why);
/*
 * An operator has disabled it (site_orders.h): tells it, lets its connections close. until: wall, 0 = until
 * it is enabled.
 */
void sources_retire(struct site *s, const struct ip *source, msec_t until, const char *why);
/* False: no reply had disabled it. */
bool sources_enable(struct site *s, const struct ip *source, const char *why);
bool sources_is_disabled(const struct site *s, const struct ip *source);
/* The virtual MTA has addresses of this family (IP_NONE: any), and all of them are disabled. */
bool sources_all_disabled(const struct site *s, uint8_t family);
/* When the first of the disabled ones comes back by itself (wall), 0: none does. */
msec_t sources_next_enabled(const struct site *s);
/* Once a second: what time alone ends. */
void sources_tick(struct site *s);
/* As in the row of the site: struct site_disabled, one behind the other. */
void sources_encode(const struct site *s, struct buf *b);
void sources_load(struct site *s, struct slice list);
/* The i-th one that a reply has disabled; false: there are no more. The reason is borrowed. */
bool sources_disabled_at(const struct site *s, size_t i, struct site_disabled *ret);
/* The site goes away. */
void sources_free(struct site *s);

#endif
