/*
 * judge.h - what is done about a reply or a failure: what outcome.h says of it by SMTP alone, changed by
 * the settings and the pattern lists of the site. The one place where that is decided; the protocol
 * code says what happened, asks, and obeys.
 *
 * Two steps, because the connection has to be in order before its site changes under it: judge_…()
 * decides and changes nothing, judge_carry_out() does to site, queue and source what lines of pattern
 * lists say. Both in the same turn of the loop: a judgement points into the configuration.
 */
#ifndef SLUICE_WORKER_JUDGE_H
#define SLUICE_WORKER_JUDGE_H

#include <stdbool.h>

#include "common/conf/replies.h"
#include "worker/outcome.h"

struct queue;
struct reply;
struct site;
struct site_place;

struct judgement {
	struct outcome o; /* what those whom it reaches get */
	bool again; /* but they wait again, untouched: not they are to blame */
	bool leave; /* the connection begins no further transaction */
	bool settled; /* judge_carry_out() decides for the site: no other host is tried now */
	enum conf_disposition disposition; /* in effect */
	struct conf_reply_hits hits;
};

/* A reply that is not the wanted one, or any at RCPT and the final dot. */
void judge_reply(struct judgement *ret, const struct site *s, enum outcome_phase phase,
		 const struct reply *r);
/* The connection broke, or (timed_out) an answer did not come; pix: a Cisco PIX is in between. */
struct judge_loss {
	const char *what; /* "connection lost", "no reply within 5m" … */
	bool timed_out, pix;
};
void judge_loss(struct judgement *ret, const struct site *s, enum outcome_phase phase,
		const struct judge_loss *loss);
/* Something of our own about the site: DNS, no source address, TLS. */
void judge_local(struct judgement *ret, const struct site *s, const struct outcome *o);
/* A reply that grants what was asked may end a back-off. */
void judge_granted(struct site *s, const struct reply *r);

/*
 * q: of the recipients whom it is about; NULL: all of the site. The site may be waiting for a retry
 * afterwards, sources may be disabled, idle connections may be closing.
 */
void judge_carry_out(const struct judgement *j, struct site *s, const struct site_place *at,
		     struct queue *q);
/* A reply about recipients of several queues: only what it says of the way of their mail, for another queue. */
void judge_reroute(const struct judgement *j, struct queue *q);
/* What is behind a site failure was the source, which is not used any more: other sources may do. */
bool judge_blames_source(const struct judgement *j, const struct site *s);

#endif
