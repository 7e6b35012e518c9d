/*
 * context.h - what all modules of one worker share: one struct worker per process (per test: as many
 * as wanted). Each module has its own part behind its own pointer; nobody reaches into another's.
 *
 * One thread. No module uses sockets, clocks or threads of its own: time and I/O come from
 * common/loop, DNS from common/dns, so that tests can put fakes in their place.
 */
#ifndef SLUICE_WORKER_CONTEXT_H
#define SLUICE_WORKER_CONTEXT_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/clock.h"
#include "common/base/heritage.h"
#include "common/conf/conf.h"
#include "common/loop/loop.h"
#include "common/shm/shm.h"

#define WORKER_MAGIC 0x776f726bu

struct dns_client;
struct probes;
struct resumes;
struct spool;
struct stream_tls;

struct worker {
	unsigned magic;
	const struct heritage *h;
	struct loop *loop;
	struct spool *spool; /* NULL until the spooler has made it */
	struct dns_client *dns;
	struct stream_tls *tls; /* client side, no verification */
	struct conf *conf;
	uint32_t conf_gen;
	const struct conf_vmta *vmta; /* NULL: left the configuration (orphan) */
	const char *vmta_name;
	uint32_t vmta_id; /* of the spool; 0 until known */
	struct shm *shm;
	struct shm_worker *slot;
	struct shm_counters *counters;
	usec_t epoch; /* start of this run, or the last jump of the wall clock: */
	msec_t epoch_wall; /* nobody expires before one attempt since then */
	bool stopping; /* no new transaction, no new connection */
	/* the one under way whose message workers died with, or NULL */
	const struct transaction *suspect;
	uint32_t event_count; /* that all sites remember (events.h) */

	struct post *post;
	struct inhand *inhand;
	struct queues *queues;
	struct sites *sites;
	struct shared *shared;
	struct feed *feed;
	struct slots *slots;
	struct probes *probes;
	struct hosts *hosts;
	struct duties *duties;
	uint64_t members; /* counts changes of which queues are at which site */
	struct {
		const struct site *site;
		uint64_t order, members;
		bool yes;
	} order_matched; /* the last look over the queues of a provider's site (site_orders.c) */
	struct resumes *resumes;
	struct sweep *sweep;
	struct reroutes *reroutes;
	struct reselects *reselects;
	struct warmups *warmups;
	struct condemned_list *condemned;
};

/* An orphan delivers nothing: it only expires mail and obeys orders. */
static inline bool worker_is_orphan(const struct worker *w)
{
	return w->vmta == NULL || w->h->orphan;
}

#endif
