/*
 * accountant_file.h - one accounting file as the accountant's thread sees it.
 *
 * Positions: *written* is where the next line goes; *synced* is the last position after an
 * fdatasync. A checkpoint holds the synced one. After any trouble the file goes back to the synced
 * position: the rows behind it are still in the outbox, because they are dropped only when a
 * checkpoint with their sequence is stored.
 *
 * A new file is begun in three steps, so that a crash between them neither loses nor doubles a
 * line: PATH.next is made with its header and synced; a checkpoint that names PATH.next's inode is
 * stored; then PATH is renamed to its dated name and PATH.next to PATH. At a start the stored
 * inode says which of these had happened.
 */
#ifndef SLUICE_SPOOLER_ACCOUNTANT_FILE_H
#define SLUICE_SPOOLER_ACCOUNTANT_FILE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/acct/layout.h"
#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/conf/conf.h"

enum out_phase {
	OUT_CLOSED, /* not opened yet, or closed after trouble */
	OUT_BEGINNING, /* PATH.next is ready; waits for its checkpoint */
	OUT_OPEN
};

struct out_position {
	uint64_t inode; /* 0: no file yet */
	uint64_t offset;
	uint64_t seq; /* all rows up to here are in the file, or not for it */
};

/* A checkpoint's value. */
struct out_state {
	struct out_position at;
	uint64_t header_hash; /* columns: a file goes on only with the same */
	msec_t begun; /* when the file was begun: its date */
	unsigned day, counter; /* next free counter of that day, so that names are not used again */
};

struct out {
	const struct conf_acct_file *conf; /* of the present configuration */
	char *path;
	struct log_ctx log;
	struct buf name; /* of its checkpoint */
	struct acct_layout *layout;
	struct buf header;
	uint64_t header_hash;
	enum out_phase phase;
	int fd, next_fd; /* -1: none */
	struct out_state synced;
	struct out_state next; /* BEGINNING: what the checkpoint says */
	struct out_position written;
	struct buf lines; /* of this round, not yet written */
	uint64_t lines_seq; /* sequence of the last row looked at in this round */
	bool full; /* takes no more rows in this round: max-size */
	bool dirty; /* synced differs from what was posted last */
	bool posted; /* the checkpoint under way holds this file */
	usec_t retry_at, complain_at;
};

struct out *out_new(const struct conf_acct_file *conf);
void out_free(struct out *o);
/*
 * A new configuration of the same path: columns, filter and so on; a file with other columns is
 * ended soon.
 */
void out_configure(struct out *o, const struct conf_acct_file *conf);

/* ERR_CORRUPT, ERR_VERSION. */
int out_state_decode(struct slice value, struct out_state *ret) WARN_UNUSED;
/*
 * Before the first out_prepare(): what was stored. A state with only at.seq: a new file that
 * begins behind that row.
 */
void out_restore(struct out *o, const struct out_state *s);
/* The present checkpoint (that of PATH.next while BEGINNING), appended. */
void out_state_encode(const struct out *o, struct buf *b);

/*
 * Opens, or begins a new file where one is due; called in each round. Logs trouble once a minute;
 * then retry_at says when to try again.
 */
void out_prepare(struct out *o, usec_t now);
/*
 * The checkpoint of PATH.next is stored: the renames. True when a file was finished (poke the
 * finisher).
 */
bool out_begun(struct out *o, usec_t now);
/* Takes rows now? */
bool out_ready(const struct out *o, usec_t now);
/*
 * Adds the line of a row (rec NULL: only moves on). False when it takes no more rows in this
 * round.
 */
bool out_add(struct out *o, const struct acct_record *rec, uint64_t seq);
/* Writes and syncs what was added in this round. */
void out_flush(struct out *o, usec_t now);

#endif
