/*
 * shared.h - the sites of providers: one for each provider that mail waits for, with many queues. Which of
 * them a connection is made for, and whose mail it may carry.
 *
 * A connection carries mail of any domain of the site that has the connected address and port among its own
 * hosts of the best preference that can be used (RFC 5321 5.1), and whose demands on TLS are those that the
 * connection was made with. Each queue keeps its own site as `home`: its look-ups, and failures that are
 * its alone (its domain does not exist, none of its hosts answers while others of the provider do).
 */
#ifndef SLUICE_WORKER_SHARED_H
#define SLUICE_WORKER_SHARED_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/clock.h"
#include "common/base/ip.h"
#include "common/base/slice.h"

struct conf_provider;
struct connection;
struct outcome;
struct parcel;
struct queue;
struct route_target;
struct site;
struct spool_read;
struct worker;

/* The provider's site of this worker, made if need be. r: the read that is open, or NULL if none is. */
struct site *shared_get(struct worker *w, struct spool_read *r, const struct conf_provider *p);
/* By its name "x.rollup"; NULL: not in memory. */
struct site *shared_find(struct worker *w, struct slice name);
/* A new configuration: before its queues get theirs. */
void shared_reconfigure(struct worker *w);
/* Once a second: time passes for each; those without queues and connections are forgotten. */
void shared_tidy(struct worker *w);
void shared_each(struct worker *w, void (*each)(struct site *s, void *arg), void *arg);
void shared_free_all(struct worker *w);

/*
 * The queue whose turn it is to get a connection, and a host for it; NULL: none can go now (look-ups may be
 * under way). A queue whose hosts have all failed is dealt with on the way.
 */
struct queue *shared_pick(struct site *s, struct route_target **ret);
/* The next parcel that this connection may carry now; NULL if there is none. */
struct parcel *shared_next(struct site *s, struct connection *c);
/*
 * Whether recipients of the queue may be in one transaction with those of others: not where a cap or a rate
 * is held for it alone. join: and may go over this connection now.
 */
bool shared_may_mix(const struct queue *q);
bool shared_may_join(struct queue *q, const struct connection *c);
/* Gives its idle connections work. */
void shared_work(struct site *s);
/* A host has failed: for all queues that have it, or only for those that demand TLS. */
void shared_target_failed(struct site *s, const struct ip *ip, uint16_t port, bool tls_only);
/* No queue uses this host until then (monotonic). */
void shared_skip(struct site *s, const struct ip *ip, uint16_t port, usec_t until);
/* All hosts have another chance. */
void shared_forget_failures(struct site *s);
/* In shared memory a queue has the connections that had its mail last, or are made for it. */
void shared_publish(struct site *s, uint32_t queue);
/* Does a ready connection go there? */
bool shared_is_connected(const struct site *s, const struct ip *ip, uint16_t port);
/*
 * Mail waits for hosts that no connection goes to while all that the site may have are taken: this one
 * should make room. True once for each time that it is found.
 */
bool shared_should_yield(struct site *s, bool idle, uint32_t messages);

#endif
