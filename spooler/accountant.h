/*
 * accountant.h - the accountant thread of the spooler: outbox rows to lines of accounting files.
 *
 * The committer puts one row for each record into the table outbox (key: sequence, from 1 upwards
 * in commit order; value: acct_record_encode()) and calls accountant_wake() after the commit. The
 * accountant reads rows, appends lines to each configured file, syncs the files and then posts a
 * struct accountant_commit: what to store in the table state and up to where rows may be dropped.
 * Each line is in its file exactly once over a kill at any instant, because at its start the
 * accountant truncates a file to the stored offset.
 *
 * The accountant never writes the spool and never blocks the committer. A file that cannot be
 * written keeps its rows in the outbox and is tried again every second; the other files go on.
 * Without any configured file the rows are dropped as they come.
 *
 * Threads: accountant_start/reload/stop from the main thread; accountant_wake() and the done
 * callback from the committer; everything else happens in the accountant's own thread (compression
 * in a second one).
 */
#ifndef SLUICE_SPOOLER_ACCOUNTANT_H
#define SLUICE_SPOOLER_ACCOUNTANT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/clock.h"
#include "common/base/macros.h"
#include "common/base/slice.h"
#include "common/conf/conf.h"

struct accountant;

/*
 * One row of the table state to store: key "acct:" + name, value opaque; an empty value deletes
 * the row.
 */
struct accountant_state {
	struct slice name, value;
};

/* Keys of LMDB end at 511 bytes; names are never longer than this. */
#define ACCOUNTANT_NAME_MAX 400

/*
 * A checkpoint. The committer stores all states and drops outbox rows with sequence <=
 * drop_through, in that order of importance: the states must be stored in one transaction, the
 * rows may go in the same one or, when they are many, in later ones (at most 5,000 a transaction
 * keeps commits short). After the sync of the states it sets result and calls done(). At most one
 * is under way at a time.
 */
struct accountant_commit {
	const struct accountant_state *states;
	size_t state_count;
	uint64_t drop_through; /* 0: drop nothing */
	int result; /* set by the committer: 0 or a negative err: the accountant posts again */
	/* In the committer's thread; cheap, never blocks. */
	void (*done)(struct accountant_commit *c);
	struct accountant_commit *next; /* for whoever holds it */
};

/*
 * The spool as the accountant sees it. All are called in the accountant's thread only; arg is
 * theirs.
 */
struct accountant_source {
	/*
	 * Opens one read transaction and calls row() for the outbox rows with sequence > after, in
	 * order, until max rows, 100 ms or the end. row() copies what it needs and does not block.
	 * Returns the number of rows or a negative err.
	 */
	long (*read)(void *arg, uint64_t after, size_t max,
		     void (*row)(void *row_arg, uint64_t seq, struct slice payload), void *row_arg);
	/*
	 * Highest sequence in the outbox, 0 when it is empty; or the sequence counter of the
	 * committed state.
	 */
	uint64_t (*last)(void *arg);
	/*
	 * Calls each() for every row of the table state whose key begins with "acct:" (name:
	 * without that). 0 or a negative err.
	 */
	int (*load)(void *arg, void (*each)(void *each_arg, struct slice name, struct slice value),
		    void *each_arg);
	/*
	 * Hands a checkpoint to the committer and returns at once; c belongs to the committer
	 * until c->done().
	 */
	void (*post)(void *arg, struct accountant_commit *c);
	void *arg;
};

struct accountant_options {
	/* Borrowed until accountant_reload() or accountant_stop() has returned. */
	const struct conf *conf;
	struct accountant_source source; /* copied */
};

/* Starts the thread. Never fails for an unusable file: that is logged and tried again. */
struct accountant *accountant_start(const struct accountant_options *o);
/* Any thread, any time: there may be new outbox rows. Never blocks. */
void accountant_wake(struct accountant *a);
/*
 * New configuration; returns when the thread has switched and the old conf is no longer used.
 * Files that left get the rows committed before, unless they cannot be written.
 */
void accountant_reload(struct accountant *a, const struct conf *conf);
/*
 * Writes what is in the outbox now (at most 3 s), waits for the last checkpoint, ends the threads.
 * The committer must still be running. NULL is fine.
 */
void accountant_stop(struct accountant *a);
/*
 * Last turn of its thread (monotonic), for the heartbeat; while a file write blocks it stands
 * still.
 */
usec_t accountant_heartbeat(const struct accountant *a);

#endif
