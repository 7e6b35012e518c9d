/*
 * connection.h - one SMTP connection to one host: RFC 5321 client as a table of steps. Carries one
 * transaction after another (transaction.h) for its site.
 *
 * It keeps its site and its lease until it has closed and the peer has seen it: after QUIT, its reply and
 * EOF (at most 2 s), or 200 ms after an abortive close.
 */
#ifndef SLUICE_WORKER_CONNECTION_H
#define SLUICE_WORKER_CONNECTION_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "common/base/clock.h"
#include "common/base/ip.h"
#include "common/loop/stream.h"
#include "common/shm/limits.h"
#include "common/smtp/reply.h"
#include "worker/outcome.h"
#include "worker/slots.h"

#define CONNECTION_MAGIC 0x636f6e6eu

struct queue;
struct route_target;
struct site;
struct source;
struct transaction;
struct worker;

/* STEP(name, what it is doing, what a failure is named after, timeout of struct conf_domain) */
#define CONNECTION_STEPS(STEP)                                                            \
	STEP(connect, "connecting", PHASE_CONNECT, connect_timeout)                       \
	STEP(greeting, "waiting for the greeting", PHASE_GREETING, smtp_greeting_timeout) \
	STEP(ehlo, "EHLO", PHASE_EHLO, smtp_ehlo_timeout)                                 \
	STEP(helo, "HELO", PHASE_EHLO, smtp_ehlo_timeout)                                 \
	STEP(starttls, "STARTTLS", PHASE_STARTTLS, smtp_ehlo_timeout)                     \
	STEP(handshake, "TLS handshake", PHASE_STARTTLS, smtp_ehlo_timeout)               \
	STEP(ready, "ready", PHASE_MAIL, smtp_mail_timeout)                               \
	STEP(quit, "QUIT", PHASE_DOT, smtp_mail_timeout)                                  \
	STEP(gone, "closed", PHASE_DOT, smtp_mail_timeout)

enum connection_step {
#define STEP_ENUM(name, doing, phase, timeout) STEP_##name,
	CONNECTION_STEPS(STEP_ENUM)
#undef STEP_ENUM
		STEP_COUNT
};

enum { /* connection.offers */
       OFFER_PIPELINING = 1,
       OFFER_SIZE = 2,
       OFFER_8BITMIME = 4,
       OFFER_SMTPUTF8 = 8,
       OFFER_DSN = 16,
       OFFER_STARTTLS = 32,
       OFFER_ESMTP = 64, /* EHLO was taken */
};

struct connection {
	unsigned magic;
	struct worker *w;
	struct site *site;
	struct stream *stream;
	enum connection_step step;
	struct slots_hold hold; /* its places in caps */
	char *host; /* mail host's name */
	char *helo;
	struct ip ip, source_ip;
	uint16_t port;
	uint32_t offers; /* OFFER_*, without what the configuration ignores */
	uint64_t size_max; /* SIZE of the peer; 0 = none given */
	struct buf esmtp; /* extensions offered, comma-separated */
	struct reply reply;
	struct transaction *txn;
	uint32_t serving; /* queue that it is made for, or whose mail it carries now; 0: none */
	uint32_t served; /* the last one */
	bool require_tls;
	bool no_tls; /* it failed for want of TLS */
	bool was_ready; /* counted as such in its site */
	bool busy; /* did something since idle_since */
	bool connected; /* TCP is up */
	bool cut_off; /* before it had all its time (probe.h) */
	enum { PROBING_NOT, PROBING_UNTRIED, PROBING_FAILED } probing;
	bool probing_newest; /* before sites that have waited longer */
	TAILQ_ENTRY(connection) probe;
	bool rset_needed; /* the peer may still hold an open transaction */
	bool closing; /* no further transaction */
	bool timed_out; /* an answer did not come in time */
	bool pix; /* the greeting shows a Cisco PIX */
	uint32_t messages; /* transactions begun */
	uint32_t delivered;
	uint32_t errors; /* refused recipients */
	usec_t since, idle_since;
	usec_t paced_until; /* a rate lets no transaction begin before (paces.h) */
	struct loop_timer *timer; /* closing, and when idle */
	bool is_idle; /* slots_idle() */
	TAILQ_ENTRY(connection) idle;
	TAILQ_ENTRY(connection) link;
};

/* q: the queue whose turn it is; its demands on TLS are the connection's. */
void connection_open(struct site *s, const struct queue *q, const struct route_target *t,
		     const struct source *source, const struct slots_hold *hold);
/* From now on it carries mail of this queue. */
void connection_carries(struct connection *c, const struct queue *q);
/* Ready for a transaction; may still carry mail. */
bool connection_is_idle(const struct connection *c);
bool connection_is_open(const struct connection *c);
/* A ready connection of the site without a transaction, that waits for no rate; NULL if there is none. */
struct connection *connection_idle(struct site *s);
/* Begins the next transaction if there is mail for it; false: none begun. */
bool connection_work(struct connection *c);
/* What it is doing, for `show queue`. */
const char *connection_doing(const struct connection *c);

/* From its transaction: it has ended; its reply was the last one that is due. */
void connection_transaction_ended(struct connection *c);
/* From its transaction: no more replies can be expected. abort: what was sent must never look complete. */
void connection_give_up(struct connection *c, bool abort);
/* Waits this long for the next reply, and for output to move. */
void connection_timeouts(struct connection *c, usec_t read, usec_t write);
/* There is input behind the reply that was asked for, other than a 421 (the peer closes). */
bool connection_input_unasked(const struct connection *c);
/* Where it is, for records. */
struct site_place;
void connection_place(const struct connection *c, struct site_place *ret);
/* The process ends: frees it; its lease is given back by master. */
void connection_discard(struct connection *c);
/* Not ready yet, and others wait for its place: given up (probe.h). */
void connection_cut_off(struct connection *c);
/* Mail of a higher queue-priority waits: closed at once, in the middle of its message if that may be. */
void connection_interrupt(struct connection *c);
/* Somebody began to wait: an idle one that holds the place closes. */
void connection_look(struct connection *c);
/* Closes when it has nothing to do (stopping, reload). */
void connection_retire(struct connection *c);

#endif
