/*
 * sources.h - which local address a site connects from: those of the virtual MTA in the target's
 * family, used in turn.
 */
#ifndef SLUICE_WORKER_SOURCES_H
#define SLUICE_WORKER_SOURCES_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/ip.h"

struct site;

/* A local address; family IP_NONE: the kernel chooses. */
struct source {
	struct ip ip;
	const char *host; /* EHLO name, owned by the configuration */
};

/* Whether the site can connect to addresses of this family. */
bool sources_has(const struct site *s, uint8_t family);
/* The next one of that family (sources_has()). */
void sources_next(struct site *s, uint8_t family, struct source *ret);

#endif
