/*
 * trace.h - one delivery told to an operator while it happens: `sluice trace QUEUE`.
 *
 * The site gets one connection more, made for the trace (in all caps, like any other), and the next
 * message of the queue goes over it. Whatever was decided on the way and every line of the dialogue goes to
 * the control connection; the trace ends with the outcome, when the site gives up, or when the operator
 * leaves. One trace at a time for each site, which points to it; the rest of the site goes on as usual.
 */
#ifndef SLUICE_WORKER_TRACE_H
#define SLUICE_WORKER_TRACE_H

#include <stdbool.h>

#include <jansson.h>

#include "common/base/clock.h"
#include "common/base/ip.h"
#include "common/base/macros.h"

struct connection;
struct limit_want;
struct outcome;
struct parcel;
struct queue;
struct route;
struct route_target;
struct site;
struct trace;
struct transaction;
struct wants;
struct worker;

/*
 * Takes the control connection; args are those of the command. q: the queue, NULL when there is none of that
 * name.
 */
void trace_answer(struct worker *w, struct queue *q, int fd, const json_t *args);

/* Whose mail is traced at this site; NULL: nobody's. */
const struct queue *trace_queue(const struct site *s);
/* Where the trace is that wants to know of a domain's own site: there, or at the provider's that it is rolled up in. */
struct site *trace_place(struct site *s);
/* The site needs a connection for its trace now. */
bool trace_wants(const struct site *s);
/* From the site's trace, which may be NULL: what the next connection has to be made from; NULL: any address. */
const struct ip *trace_source(const struct site *s);
/* The next parcel for this connection, whether it is the traced one or not. */
struct parcel *trace_next(struct connection *c);

/* What happens, by those whose decision it is. Nothing is done without a trace of the site. */
void trace_route(struct site *s, const struct route *r);
void trace_caps(struct site *s, const struct route_target *to, const struct ip *source,
		const struct wants *x);
void trace_held(struct site *s,
		const char *text); /* a cap or a rate lets nothing through: hold.h */
void trace_connection(struct connection *c); /* opened: it is the traced one if one is wanted */
void trace_note(const struct connection *c, const char *kind, const char *fmt, ...)
	ATTR_PRINTF(3, 4);
void trace_connected(struct connection *c);
void trace_tls(struct connection *c);
void trace_reply_code(struct connection *c, unsigned code); /* of a reply that was understood */
void trace_begun(struct transaction *t);
void trace_outcomes(const struct transaction *t);
/* This connection is of no more use; the site may make another one. */
void trace_failed(struct connection *c, const char *why);
void trace_closed(struct connection *c);
/* The site waits until a time, or what waits in it bounces (until 0). */
void trace_site_failed(struct site *s, const struct outcome *o, msec_t until);
/* The queue leaves its site, or memory. */
void trace_queue_gone(struct queue *q);

#endif
