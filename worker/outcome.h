/*
 * outcome.h - what each failure means: the one place where that is decided.
 *
 * The protocol code says only what happened (a reply in some phase, a lost connection, a DNS answer);
 * here it becomes an outcome with a class (what the recipient gets) and a scope (how far it reaches):
 *
 *     recipient   this recipient only
 *     message     all recipients of the transaction that have no outcome yet
 *     connection  the connection is of no more use; what was not decided is tried again elsewhere
 *     site        no host of the site can be used now; all of its mail waits (or bounces)
 */
#ifndef SLUICE_WORKER_OUTCOME_H
#define SLUICE_WORKER_OUTCOME_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/slice.h"
#include "common/spool/report.h"

enum outcome_scope { SCOPE_RECIPIENT, SCOPE_MESSAGE, SCOPE_CONNECTION, SCOPE_SITE };

struct outcome {
	enum outcome_class class;
	enum outcome_scope scope;
	uint16_t code; /* 0: our own text */
	uint8_t enhanced[3];
	char text[REPORT_TEXT_MAX + 1];
};

/* Where in the dialogue something happened. */
enum outcome_phase {
	PHASE_CONNECT,
	PHASE_GREETING,
	PHASE_EHLO,
	PHASE_STARTTLS,
	PHASE_MAIL,
	PHASE_RCPT,
	PHASE_DATA,
	PHASE_BODY, /* sending the message */
	PHASE_DOT,
	PHASE_COUNT
};
const char *outcome_phase_name(enum outcome_phase p); /* "MAIL FROM", "the final dot" … */

struct reply;
struct conf_domain;

/* A reply that is not the wanted one (or, at the final dot and RCPT, any reply). */
void outcome_from_reply(struct outcome *ret, enum outcome_phase phase, const struct reply *r,
			const struct conf_domain *set);
/* The connection broke or a timeout passed, what = "connection lost", "no reply within 5m" … */
void outcome_from_loss(struct outcome *ret, enum outcome_phase phase, const char *what);

/* Our own decisions, a table of {class, scope, enhanced code}. */
enum outcome_local {
	LOCAL_DNS, /* a look-up failed for now */
	LOCAL_NO_DOMAIN, /* confirmed twice */
	LOCAL_NO_DOMAIN_YET, /* said once */
	LOCAL_NULL_MX,
	LOCAL_NO_MX,
	LOCAL_NO_SOURCE,
	LOCAL_DISABLED, /* all sources are */
	LOCAL_NO_TLS,
	LOCAL_TOO_BIG,
	LOCAL_NO_SMTPUTF8,
	LOCAL_EXPIRED,
	LOCAL_SET_ASIDE,
	LOCAL_COUNT
};
/* text gets the prefix "local: ". */
void outcome_local(struct outcome *ret, enum outcome_local what, const char *fmt, ...)
	ATTR_PRINTF(3, 4);

#endif
