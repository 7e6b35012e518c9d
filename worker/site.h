/*
 * site.h - a destination as the network sees it: the queues that share connections, limits, back-off
 * and retry state. A queue is its own site; where domains are rolled up by provider, several queues
 * join one site (site_join() is the place that decides).
 *
 * All that can be slow, dead or unresolvable is state of one site; nothing global waits behind it.
 */
#ifndef SLUICE_WORKER_SITE_H
#define SLUICE_WORKER_SITE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "common/base/clock.h"
#include "common/base/ip.h"
#include "worker/outcome.h"
#include "worker/queue.h"
#include "worker/route.h"
#include "worker/turn.h"

#define SITE_MAGIC 0x73697465u
/* So many messages lost in a row, each with its connection, speak against the host. */
#define SITE_LOST_MAX 3

struct conf_provider;
struct connection;
struct events;
struct spool_read;

/* A reply or failure seen lately, for `show queue`. */
struct site_reply {
	char *text;
	char *pattern; /* lines of pattern lists that matched it, NULL for none */
	uint64_t count;
	msec_t last;
};

/* Where something happened: for records. */
struct site_place {
	const char *mx_name; /* "" for none */
	struct ip mx_ip, source_ip;
	uint16_t mx_port;
	bool tls_only; /* only mail that demands TLS cannot go there */
};

struct site {
	unsigned magic;
	struct worker *w;
	char *name; /* of its row: the domain, or NAME.rollup */
	char *label; /* "name/vmta" */
	struct queue *of; /* whose domain it is; NULL: a provider's site (shared.h) */
	const struct conf_domain *set;
	const struct conf_provider *provider; /* whose domains it rolls up; NULL: one domain */
	TAILQ_HEAD(, queue) queues; /* none while `of` is rolled up */
	struct turn turn; /* of those with mail */
	uint32_t parcels; /* waiting in its queues */

	/* where to; of a provider's site: each queue's own site knows */
	struct route *route;
	struct route_query *query;
	uint32_t source_turn;

	/* failures */
	msec_t retry_at; /* wall; 0 = not in retry */
	uint32_t retry_position; /* index into retry-after of the next failure */
	msec_t since; /* first failure of the present series */
	msec_t tried; /* last failure in this run; 0 = none */
	msec_t no_domain_since; /* DNS first said that the domain cannot take mail; 0 = not */
	uint8_t no_domain_status; /* enum dns_status: how it said so */
	char *no_domain_resolver;
	bool no_mx; /* as DNS last said: addresses only, or not even those */
	bool no_source; /* it waits because all its source addresses are disabled */
	bool has_row; /* of the spool */
	bool unread; /* what is stored of it could not be read yet: it sends nothing and writes nothing */
	bool report_due; /* its row could not be written for want of ring room */
	bool report_record;
	struct outcome last; /* failure */
	struct ip last_mx_ip, last_source_ip;
	char *last_mx;
	bool reached; /* a host of it has answered, and it has not failed since */
	usec_t failed_at; /* monotonic; 0 = not in this run */
	uint32_t put_aside; /* how often in a row, without having been tried to the end */
	bool cut_off; /* in the present round of tries: a target had not its whole time */
	usec_t resumed; /* by an operator (resume.h); 0: not lately */
	usec_t hold_until; /* others are connected: no more for a while */
	uint32_t failures; /* of targets, since one answered */
	usec_t marked_at; /* a provider's: the last of them */
	bool stuck; /* a provider's: no queue of it can go anywhere, until something changes */
	bool crowded; /* a provider's: see shared_should_yield() */
	bool told_shadowed; /* a provider's: that something set for a domain has no effect */
	usec_t alone_at; /* a provider's: none of its queues was rerouted by a reply then (reroute.c) */
	TAILQ_ENTRY(site) all; /* a provider's */
	uint32_t lost; /* messages in a row, each with a connection that took none */

	/* connections: slots = all that hold a lease, closing ones too */
	TAILQ_HEAD(, connection) connections;
	uint32_t slots, connecting, ready;
	bool wanting; /* in the list of sites that want a connection */
	TAILQ_ENTRY(site) want;
	struct cap *held_by; /* slots.c: it waits for room in this one; NULL: not yet asked */
	int want_list;
	struct level *want_level; /* with held_by */
	uint32_t leaving; /* slots.c: connections that were told to make room for other sites */

	struct paces *paces; /* paces.h; NULL: it never had to wait for a rate */
	struct mode *mode; /* mode.h; NULL: normal */
	struct tempo *tempo; /* tempo.h; NULL: nothing was delivered lately */
	struct disabled *disabled; /* sources.h; NULL: none */
	struct warmup *warmup; /* warmup.h; NULL: none */
	struct notices *notices; /* notice.h; NULL: nothing was told */

	struct site_reply *replies; /* at most max-events-recorded */
	uint32_t reply_count;
	struct events *events;
	struct trace *trace; /* trace.h; NULL: none */
};

struct sites *sites_new(struct worker *w);
void sites_free(struct sites *ss);

/* A site without queues; its row is read (r: NULL if it cannot be: then see site_read()). name is copied. */
struct site *site_new(struct worker *w, struct spool_read *r, const char *name,
		      const struct conf_domain *set, const struct conf_provider *provider);
void site_free(struct site *s);
/* Of one that is unread: tries again, and goes on with what is stored. */
void site_read(struct site *s);
/* The queue gets its own site, its home, and joins it. */
void site_join(struct worker *w, struct spool_read *r, struct queue *q);
/* From now on its mail goes through that site. What is in a transaction ends where it is. */
void site_move(struct queue *q, struct site *to);
/* The queue is forgotten, and its home with it. */
void site_leave(struct queue *q);
/*
 * The queues that what happens to this site happens to: those that are at it, and, of a domain's own site,
 * its queue even while that is rolled up.
 */
#define SITE_EACH_QUEUE(q, s)                                          \
	for ((q) = (s)->of ? (s)->of : TAILQ_FIRST(&(s)->queues); (q); \
	     (q) = (s)->of ? NULL : TAILQ_NEXT((q), in_site))
/* Where the mail of a domain's own site goes through: that site, or its provider's. */
struct site *site_serving(struct site *s);
/* New settings; connections that are open go on under them. */
void site_configure(struct site *s, const struct conf_domain *set);
/* No connections, no look-up, nothing unsaid: may be forgotten. */
bool site_is_idle(const struct site *s);
bool site_in_retry(const struct site *s);
/* Wall time before which none of its mail may go: a retry, a warm-up whose day is used up; 0: now. */
msec_t site_blocked_until(const struct site *s);

/* There is mail, or a connection has become free: put them together, or ask for a connection. */
void site_kick(struct site *s);
/* The next parcel that the connection may carry, NULL when nothing can go. The caller takes items from it at once. */
struct parcel *site_next(struct site *s, struct connection *c);
/* Is there any? */
bool site_has_work(struct site *s, struct connection *c);
bool site_wants_connection(struct site *s);
/* Time to open a connection; for slots.c, which has the turn. True: opened or nothing more to do; false: a limit holds it. */
bool site_connect(struct site *s, bool *ret_everybody);

/* More connections than it may have (now). */
bool site_is_over(const struct site *s);
/* For shared.c: a look-up of the domain's hosts; whether a host may be tried; none of home's is left, so s fails. */
void site_resolve(struct site *home);
bool site_target_usable(const struct queue *q, const struct route_target *t);
bool site_may_try_more(const struct site *home);
void site_out_of_targets(struct site *s, struct site *home);
/* The last failure of one site is that of another, too. */
void site_remember_from(struct site *s, const struct site *from);

/* Reported by its connections. */
void site_connection_ready(struct site *s);
/* A transaction was answered to its end: hosts that failed get another chance. */
void site_answered(struct site *s);
/* A message went lost with a connection that had taken none; true: that was one too many. */
bool site_message_lost(struct site *s);
/* Before it was ready, or before it did anything useful: the target has failed, all others are tried first. */
void site_target_failed(struct site *s, const struct ip *ip, uint16_t port, const struct outcome *o,
			const struct site_place *at);
/* An opportunistic handshake failed or so: the same target again, without counting. */
void site_connection_again(struct site *s);
void site_delivered(struct site *s);
void site_note(struct site *s, const struct outcome *o);
/* Which lines of pattern lists matched it. */
void site_note_pattern(struct site *s, const struct outcome *o, const char *pattern);
void site_notes_free(struct site *s);
/* A reply says that the next mail host is to be used: this one is not, for a minute or until nobody is left. */
void site_skip_host(struct site *s, const struct outcome *o, const struct site_place *at);

/* Nothing can be done for its mail now: it waits as long as the ladder says, or bounces. */
void site_fail(struct site *s, const struct outcome *o, const struct site_place *at, msec_t delay,
	       bool counts);
/* New mail has come for it: with retry-upon-new-mail its retry is brought forward. */
void site_new_mail(struct site *s);
/* What it knew of failures means nothing any more. */
void site_forget_retry(struct site *s);
/* The operator wants it tried now. */
void site_schedule(struct site *s);
/*
 * No host of the queue can be connected to, as source addresses are disabled. As long as its hosts are not known,
 * those of one family are enough.
 */
bool site_lacks_source(const struct queue *q);
/* It has a source address again. */
void site_has_source(struct site *s);
/*
 * What of its own, other than a limit in shared memory, keeps its waiting mail from more connections now.
 * Writes "" or a text of at most SHM_QUEUE_TEXT bytes.
 */
void site_own_hold(const struct site *s, char *ret);
/* The number of connections of a domain's own site in shared memory. */
void site_publish_connections(struct site *s);
/* Its state has changed: writes its row. */
void site_save(struct site *s);
/* Writes what could not be written before. */
void site_report_again(struct site *s);

#endif
