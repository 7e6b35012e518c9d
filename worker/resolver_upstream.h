/*
 * resolver_upstream.h - sends one question to the resolvers of the operator until one of them
 * answers.
 *
 * UDP with a new socket (so a new random source port) and a new id for each try; TCP when the
 * answer is truncated. Resolvers take turns; one that is silent is put last for a while. Only
 * packets of the server that was asked, with the right id and question, are looked at.
 */
#ifndef SLUICE_WORKER_RESOLVER_UPSTREAM_H
#define SLUICE_WORKER_RESOLVER_UPSTREAM_H

#include "common/loop/loop.h"
#include "worker/resolver.h"
#include "worker/resolver_packet.h"

#define UPSTREAM_SERVERS_MAX 16

struct upstream;

struct upstream_result {
	const struct packet_answer *answer; /* NULL: nobody gave one */
	const char *server; /* "127.0.0.1:53": who answered, or who failed last */
	const char *text; /* why there is no answer, else "" */
};

/* What result points to lives during the call. Comes in a later turn than the question. */
typedef void upstream_cb(const struct upstream_result *result, void *arg);

/* in_flight_max: questions with a socket at one time; more wait their turn. stats is borrowed. */
struct upstream *upstream_new(struct loop *l, size_t in_flight_max, struct resolver_stats *stats);
/* Questions that are not answered are dropped without a call. */
void upstream_free(struct upstream *u);
/* Questions in flight keep the old servers. timeout: each server has this long, in two tries. */
void upstream_configure(struct upstream *u, const struct resolver_server *servers, size_t n,
			usec_t timeout);
/* name is copied. avoid: a server not to ask if there are others ("" or NULL: none). */
void upstream_ask(struct upstream *u, const char *name, enum packet_type type, const char *avoid,
		  upstream_cb *cb, void *arg);

#endif
