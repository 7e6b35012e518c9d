/*
 * tempo.h - how fast each source address of a site goes: what it got through in the last minute, and
 * what back-off makes of that (backoff.h). Receivers count by address, so each one has its own tempo.
 *
 * Only mode.c decides when a site has a tempo; here is the bookkeeping. Belongs to its site (site.tempo);
 * used by the worker's one thread.
 */
#ifndef SLUICE_WORKER_TEMPO_H
#define SLUICE_WORKER_TEMPO_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/buf.h"
#include "common/base/ip.h"
#include "common/base/slice.h"
#include "common/conf/conf.h"
#include "worker/backoff.h"

struct site;

/* Of a site; NULL: nothing was delivered lately, and nothing is cut. */
struct tempo;

/* Recipients got through from this source. */
void tempo_count(struct site *s, const struct ip *source, uint32_t recipients);
/* In the last 60 s, over all sources. */
uint64_t tempo_accepted(const struct site *s);

/* The first cut, of all sources. Recovery begins at `from`, at the soonest. */
void tempo_enter(struct site *s, const struct backoff_rule *r, msec_t from);
/* A refusal; source: of the one that it was said to, NULL: all. True: a rate was cut. */
bool tempo_hit(struct site *s, const struct backoff_rule *r, const struct ip *source, msec_t from);
/* Recovery may begin now. */
void tempo_recover(struct site *s, const struct backoff_rule *r);
/* Once a second. True: a rate has changed. */
bool tempo_tick(struct site *s, const struct backoff_rule *r);
/* No source is cut any more. */
bool tempo_is_over(const struct site *s);
/* Nothing is cut; what was counted stays. */
void tempo_end(struct site *s);

/* Recipients an hour, BACKOFF_NO_LIMIT where nothing is cut. */
uint64_t tempo_rate(const struct site *s, const struct ip *source);
/* Connections from this source; at most `most`. */
uint64_t tempo_connections(const struct site *s, const struct ip *source, uint64_t most);
/* Of all sources together. */
uint64_t tempo_all_connections(const struct site *s, uint64_t most);

struct tempo_info {
	struct ip ip;
	uint64_t accepted; /* in the last 60 s */
	uint64_t rate; /* BACKOFF_NO_LIMIT: none */
	uint64_t good; /* 0: not known */
};
/* False: there are no more than i. */
bool tempo_at(const struct site *s, size_t i, struct tempo_info *ret);

/* As in the row of the site: struct site_tempo, one behind the other. */
void tempo_encode(const struct site *s, struct buf *b);
void tempo_load(struct site *s, struct slice list);
void tempo_free(struct site *s);

#endif
