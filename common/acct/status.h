/*
 * status.h - enhanced status codes in words, and the category of a bounce.
 *
 * Pure functions over tables and patterns; any thread.
 */
#ifndef SLUICE_ACCT_STATUS_H
#define SLUICE_ACCT_STATUS_H

#include <stdint.h>

#include "common/acct/record.h"
#include "common/base/buf.h"
#include "common/base/slice.h"

/*
 * What x.SUBJECT.DETAIL means (RFC 3463 and the IANA registry): "bad destination mailbox address".
 * Static.
 */
const char *acct_status_text(const uint8_t enhanced[3]);

/*
 * The code to show for an outcome: the one given, else the one that the reply code or the type of
 * the record implies (550 without a code: 5.0.0).
 */
void acct_status_effective(enum acct_type type, uint16_t code, const uint8_t given[3],
			   uint8_t ret[3]);

/* "5.1.1 (bad destination mailbox address)", "smtp;550 …" or "x-sluice;local: …", appended. */
void acct_status_add(const uint8_t enhanced[3], struct buf *to);
void acct_diag_add(struct slice text, struct buf *to);

/* The categories that Sluice's own patterns give (etc/bounce-categories.conf), in alphabetical order. */
#define ACCT_CATEGORIES(X)                            \
	X(BAD_CONFIGURATION, "bad-configuration")     \
	X(BAD_CONNECTION, "bad-connection")           \
	X(BAD_DOMAIN, "bad-domain")                   \
	X(BAD_MAILBOX, "bad-mailbox")                 \
	X(CONTENT_RELATED, "content-related")         \
	X(INACTIVE_MAILBOX, "inactive-mailbox")       \
	X(INVALID_SENDER, "invalid-sender")           \
	X(MESSAGE_EXPIRED, "message-expired")         \
	X(NO_ANSWER_FROM_HOST, "no-answer-from-host") \
	X(OTHER, "other")                             \
	X(POLICY_RELATED, "policy-related")           \
	X(PROTOCOL_ERRORS, "protocol-errors")         \
	X(QUOTA_ISSUES, "quota-issues")               \
	X(RELAYING_ISSUES, "relaying-issues")         \
	X(ROUTING_ERRORS, "routing-errors")           \
	X(SPAM_RELATED, "spam-related")               \
	X(VIRUS_RELATED, "virus-related")

enum acct_category {
#define ACCT_CATEGORY_ENUM(id, name) ACCT_CATEGORY_##id,
	ACCT_CATEGORIES(ACCT_CATEGORY_ENUM)
#undef ACCT_CATEGORY_ENUM
		ACCT_CATEGORY_COUNT
};

const char *acct_category_name(enum acct_category c);

struct conf;
struct conf_category;
/*
 * The category of a bounce or delay by [bounce-category-patterns] of a configuration, which owns the
 * name: the first line that matches what records hold of it, "other" if none does.
 */
const char *acct_category_of(const struct conf *c, enum acct_type type, uint16_t code,
			     const uint8_t enhanced[3], struct slice text);
/* The line behind it; NULL: none. */
const struct conf_category *acct_category_line(const struct conf *c, enum acct_type type,
					       uint16_t code, const uint8_t enhanced[3],
					       struct slice text);

#endif
