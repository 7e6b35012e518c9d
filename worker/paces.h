/*
 * paces.h - rates: when a site may open its next connection and begin its next transaction, and with
 * how many recipients.
 *
 * A rate is a clock in shared memory (common/shm/rates.h). Before an action all clocks that it falls
 * under are asked: those of the site, of a domain that has rates of its own inside it, of the local
 * address, the virtual MTA, its pools and the provider. They are taken together or not at all, and before the
 * mail is chosen: what is most urgent when a clock opens goes then. A site whose clocks are
 * closed sleeps until they open: nothing polls. Its connections go on waiting only as paces_keep() says.
 *
 * Used by the worker's one thread; struct paces belongs to its site.
 */
#ifndef SLUICE_WORKER_PACES_H
#define SLUICE_WORKER_PACES_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/clock.h"
#include "common/base/ip.h"
#include "common/shm/rates.h"

struct connection;
struct parcel;
struct queue;
struct route_target;
struct site;
struct transaction;

/* Of a site; NULL: it never had to wait. */
struct paces;

/* What a transaction took of clocks. */
struct paces_ticket {
	struct rate_ticket t;
	uint32_t messages; /* so many of its wants count recipients, the others bytes */
};

/* --- connections --- */

/* Whether the clocks let the site open a connection and use it now. False: it is kicked when they do. */
bool paces_may_connect(struct site *s);
/* When they let it open one to this host from this local address; 0: now. */
usec_t paces_open_at(struct site *s, const struct route_target *t, const struct ip *source);
/* The same; false: the site waits until then. */
bool paces_may_open(struct site *s, const struct route_target *t, const struct ip *source);
/* The rate of a provider's member for connections that are made for its mail; others may carry it all the same. */
bool paces_may_connect_for(struct queue *q);
/* Takes the token of a connection for the queue; false: somebody else did. */
bool paces_open(struct queue *q, const struct route_target *t, const struct ip *source);

/* --- transactions --- */

/* Whether a transaction may begin on this connection now. False: the site is kicked when it may. */
bool paces_may_send(struct connection *c);
/*
 * Takes tokens for *n recipients of the parcel, or fewer (*n), which go over this connection now. False: not
 * now. Either this connection waits (paces_waits()), or the parcel's queue alone does: another one may go.
 */
bool paces_take(struct connection *c, const struct parcel *p, uint32_t *n,
		struct paces_ticket *ret);
/* Of the recipients taken, only so many are sent; what is left comes back. */
void paces_sent(struct site *s, const struct paces_ticket *t, uint32_t recipients);
/* The message was not delivered: its bytes come back. */
void paces_not_delivered(struct site *s, const struct paces_ticket *t);

/* This queue alone has to wait. */
bool paces_holds(const struct queue *q);
/* A clock stands before the connection's next transaction. */
bool paces_waits(const struct connection *c);
/* How long the connection is kept without mail that can go, given what is configured. */
usec_t paces_keep(const struct connection *c, usec_t configured);

/* --- the site --- */

/* Writes why the site waits ("max-msg-rate 100/h: until 2026-11-22 12:03:07+0000"); false: it does not wait for a rate. */
bool paces_why(const struct site *s, char *ret, size_t size);
/* The same of this queue alone, by a rate of its own inside the site. */
bool paces_queue_why(const struct queue *q, char *ret, size_t size);
/* There may be a local address more to connect from: who waits to open a connection asks again. */
void paces_ask_again(struct site *s);
/* Another configuration or mode: all clocks are asked again. */
void paces_reset(struct site *s);
/* The site goes away. */
void paces_free(struct site *s);

#endif
