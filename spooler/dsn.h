/*
 * dsn.h - the DSN helper: a thread that makes delivery status notifications (RFC 3464) from the
 * rows of the table dsn and puts them into the spool as messages.
 *
 * Exactly once: the message is posted through intake_post() with dsn_row set, and the committer
 * deletes the row in the transaction that takes in the message. A message that the committer
 * refuses (disk full) is made again later. If the virtual MTA of the original is gone, the route
 * is {default}.
 *
 * Mails to operators (REPORT_NOTICE) are rows of the same table and go by {default}.
 *
 * A row that cannot become a message (corrupt, sender without a domain) is logged and dropped.
 *
 * Threads: dsn_start/reload/stop from the main thread, dsn_wake() from any; the source's callbacks
 * are called in the helper's thread. The committer must be running until dsn_stop() has returned.
 */
#ifndef SLUICE_SPOOLER_DSN_H
#define SLUICE_SPOOLER_DSN_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/clock.h"
#include "common/base/slice.h"
#include "common/conf/conf.h"
#include "spooler/intake.h"

struct dsn_helper;

struct dsn_source {
	/*
	 * Opens one read transaction and calls row() for rows of the table dsn with key > after,
	 * in order, until max rows, 100 ms or the end. Returns the number of rows or a negative
	 * err.
	 */
	long (*read)(void *arg, uint64_t after, size_t max,
		     void (*row)(void *row_arg, uint64_t id, struct slice payload), void *row_arg);
	/* Asks the committer to delete a row that cannot become a message. Returns at once. */
	void (*drop)(void *arg, uint64_t id);
	/* As intake_post() and intake_next_msgid(). */
	void (*post)(void *arg, struct intake_message *m);
	uint64_t (*next_msgid)(void *arg);
	void *arg;
};

struct dsn_options {
	const struct conf *conf; /* borrowed until dsn_reload() or dsn_stop() has returned */
	struct dsn_source source; /* copied */
};

struct dsn_helper *dsn_start(const struct dsn_options *o);
/* There may be new rows (after a commit that wrote some). Never blocks. */
void dsn_wake(struct dsn_helper *d);
void dsn_reload(struct dsn_helper *d, const struct conf *conf);
/* Waits for the message under way, ends the thread; rows that are left stay. NULL is fine. */
void dsn_stop(struct dsn_helper *d);
/* Last turn of its thread (monotonic). */
usec_t dsn_heartbeat(const struct dsn_helper *d);

#endif
