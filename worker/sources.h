/*
 * sources.h - which local address a site connects from: those of the virtual MTA in the target's
 * family, used in turn, without those that are disabled for the site.
 *
 * A source is disabled by a reply that says that the receiver does not want mail from this address.
 * What is disabled belongs to the site (site.disabled); used by the worker's one thread.
 */
#ifndef SLUICE_WORKER_SOURCES_H
#define SLUICE_WORKER_SOURCES_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/clock.h"
#include "common/base/ip.h"

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
/* The next one of that family (sources_has()). */
void sources_next(struct site *s, uint8_t family, struct source *ret);

/*
 * The site uses this address no more for so long (USEC_INFINITY: until it is enabled); its connections
 * from there close after their transaction. why is a text for operators. Of one that already is
 * disabled, time and reason are new.
 */
void sources_disable(struct site *s, const struct ip *source, usec_t reenable_after,
		     const char *why);
/* False: it was not disabled. */
bool sources_enable(struct site *s, const struct ip *source, const char *why);
bool sources_is_disabled(const struct site *s, const struct ip *source);
/* Once a second: what time alone ends. */
void sources_tick(struct site *s);
/* The site goes away. */
void sources_free(struct site *s);

#endif
