/*
 * pace_wants.h - under which rates an action of a site falls, and how many tokens it takes of each.
 */
#ifndef SLUICE_WORKER_PACE_WANTS_H
#define SLUICE_WORKER_PACE_WANTS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/ip.h"
#include "common/conf/conf.h"
#include "common/shm/rates.h"

struct queue;
struct site;

/* Where a connection goes and comes from. */
struct pace_place {
	const char *host; /* of the MX record; NULL: not known yet */
	const struct ip *dest; /* likewise */
	const struct ip *source; /* likewise, or family IP_NONE */
};

/* Not to be copied while names are needed: they point into it. */
struct pace_wants {
	struct rate_want v[RATE_WANTS_MAX];
	size_t n;
	const struct site *s;
	const struct conf_provider *provider;
	const struct ip *source;
	char by_source[400], by_provider[400];
};

void pace_wants_begin(struct pace_wants *x, const struct site *s, const struct pace_place *at);
/* q: whose mail it is opened for, NULL: not known yet. */
void pace_wants_connect(struct pace_wants *x, const struct queue *q);
/* Likewise. Returns the most recipients that all of these rates let go at a time. */
uint64_t pace_wants_messages(struct pace_wants *x, const struct queue *q, uint64_t recipients);
/* Returns how many there are. */
size_t pace_wants_bytes(struct pace_wants *x, const struct queue *q, uint64_t bytes);
/* Of all so far. */
void pace_wants_tokens(struct pace_wants *x, uint64_t tokens);

/* Whether any rate can apply to mail of this site, or of this queue alone. */
bool pace_has_rates(const struct site *s);
bool pace_has_own_rates(const struct queue *q);
/* Whether some depend on the local address. */
bool pace_by_source(const struct site *s);

/* "max-msg-rate 100/h of virtual MTA mta1" */
void pace_want_text(const struct pace_wants *x, size_t i, char *ret, size_t size);

#endif
