/*
 * notice.h - tells people by mail what happened to a site: at most one mail for each site, kind and
 * 15 minutes, with all that happened until then.
 *
 * The worker only says what and to whom (REPORT_NOTICE); the spooler makes the mail. Belongs to its site
 * (site.notices); used by the worker's one thread.
 */
#ifndef SLUICE_WORKER_NOTICE_H
#define SLUICE_WORKER_NOTICE_H

#include <stdbool.h>

#include "common/base/macros.h"

struct site;

/* Who is told is a setting for each kind. */
enum notice_kind {
	NOTICE_MODE, /* backoff-notify */
	NOTICE_SOURCE, /* disabled-source-ip-notify */
	NOTICE_KINDS
};

/* Of a site; NULL: there was nothing to tell. */
struct notices;

/* One line. Nobody to be told: does nothing. */
void notice_add(struct site *s, enum notice_kind kind, const char *fmt, ...) ATTR_PRINTF(3, 4);
/* Once a second, and when the worker stops (all: without waiting for the 15 minutes). */
void notice_tick(struct site *s, bool all);
/* Something waits to be told, or the 15 minutes of the last mail are not over. */
bool notice_pending(const struct site *s);
/* The site goes away. */
void notice_free(struct site *s);

#endif
