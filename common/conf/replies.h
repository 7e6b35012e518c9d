/*
 * replies.h - [smtp-pattern-list]: what replies of receivers, and our own texts about them, do to the
 * queue beyond what SMTP says; and [bounce-category-patterns]: the names that failures get in records.
 *
 * Lists belong to a struct conf. Matching is pure but for what a regex learns of itself (regex.h), so
 * any thread may match.
 */
#ifndef SLUICE_CONF_REPLIES_H
#define SLUICE_CONF_REPLIES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/base/slice.h"
#include "common/conf/conf.h"

struct regex;

/* A line's actions are of four kinds; the first line that matches decides for each kind of its own. */
enum conf_reply_mode { CONF_REPLY_MODE_NONE, CONF_REPLY_NORMAL, CONF_REPLY_BACKOFF };
enum conf_disposition {
	CONF_DISPOSITION_NONE,
	CONF_SKIP_MX,
	CONF_BOUNCE_QUEUE,
	CONF_BOUNCE_RCPT,
	CONF_RETRY_RCPT,
	CONF_DEFER_QUEUE,
	CONF_DISPOSITION_COUNT
};
const char *conf_disposition_name(enum conf_disposition d); /* "skip-mx" …; "" for none */

/* Where a reply comes, as far as dispositions care. */
enum conf_reply_place {
	CONF_AT_NO_HOST, /* DNS, no source address: nobody was asked */
	CONF_AT_HOST, /* connect to STARTTLS, and all that is neither of the others */
	CONF_AT_RCPT
};
/*
 * What of a disposition has an effect there: bounce-rcpt is for a 4xx to RCPT, and without a mail host
 * there is none to skip. code: 0 for our own texts.
 */
enum conf_disposition conf_disposition_at(enum conf_disposition d, enum conf_reply_place place,
					  uint16_t code);

/* reply = /regex/ action… */
struct conf_reply {
	struct regex *regex;
	const char *pattern; /* without its slashes */
	const char *actions; /* as written */
	const char *list;
	struct conf_origin at;
	enum conf_reply_mode mode;
	usec_t to_normal_after; /* mode backoff; 0: as the domain says; USEC_INFINITY: never */
	enum conf_disposition disposition;
	usec_t defer; /* defer-queue; 0: as retry-after says */
	bool disable_source;
	usec_t reenable_after; /* 0: as the domain says; USEC_INFINITY: never */
	const char *reroute; /* a virtual MTA or pool, or NULL */
};

/* [smtp-pattern-list NAME] */
struct conf_pattern_list {
	const char *name;
	struct conf_origin at;
	struct conf_replies replies;
};

/* The lines that decide, one for each kind; NULL: none matches. */
struct conf_reply_hits {
	const struct conf_reply *mode, *disposition, *source, *reroute;
};
/*
 * subject is one line: code, space, enhanced code, the texts of all lines; or our own text behind
 * "local: ". raw is the first line as it came ("421-4.7.28 …"), empty for none. False: no line matches.
 * gave_up (may be NULL) is called for a line whose regex needs more work than is allowed, once for each
 * line in the life of the configuration; such a line does not match.
 */
bool conf_replies_match(const struct conf_pattern_lists *lists, struct slice subject,
			struct slice raw, void (*gave_up)(const struct conf_reply *line),
			struct conf_reply_hits *ret);
/* The same, for a reply that grants what was asked: only lines with mode=normal are tried. */
bool conf_replies_match_success(const struct conf_pattern_lists *lists, struct slice subject,
				struct slice raw, void (*gave_up)(const struct conf_reply *line),
				struct conf_reply_hits *ret);

/* pattern = /regex/ category */
struct conf_category {
	struct regex *regex;
	const char *pattern; /* without its slashes */
	const char *category;
	struct conf_origin at;
};
/*
 * The first line that matches, the operator's before those that Sluice ships; NULL: none. subject:
 * "5.1.1 (bad destination mailbox address) smtp;550 5.1.1 no such user".
 */
const struct conf_category *conf_category_find(const struct conf *c, struct slice subject);

size_t conf_category_count(const struct conf *c);
const struct conf_category *conf_category_at(const struct conf *c, size_t i);

/* The lists of a configuration. */
size_t conf_pattern_list_count(const struct conf *c);
const struct conf_pattern_list *conf_pattern_list_at(const struct conf *c, size_t i);

#endif
