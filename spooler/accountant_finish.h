/*
 * accountant_finish.h - what happens to a file of records that is full: compression, move-to,
 * delete-after.
 *
 * The accountant renames a full file PATH to STEM-DATE-NNNN.EXT.finishing. The finisher, a thread
 * of its own, looks for such files, compresses them to .tmp, syncs, renames to the final name (in
 * move-to where that is set), syncs the directory and removes the .finishing file. All is found
 * again by name after a crash; a failure is logged and tried again a minute later.
 */
#ifndef SLUICE_SPOOLER_ACCOUNTANT_FINISH_H
#define SLUICE_SPOOLER_ACCOUNTANT_FINISH_H

#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/base/macros.h"
#include "common/conf/conf.h"

struct finisher;

#define FINISH_SUFFIX ".finishing"

/* "/d/acct.csv" is dir "/d", stem "acct", ext ".csv" (maybe ""). Heap; finish_name_done() frees. */
struct finish_name {
	char *dir, *stem, *ext;
};
void finish_name_init(struct finish_name *n, const char *path);
void finish_name_done(struct finish_name *n);

/* The local date as 20261122. */
unsigned finish_day(msec_t wall);
/*
 * Renames path to the first free name of that day whose counter is >= *counter and moves *counter
 * behind it. The directory is synced. Pokes nobody.
 */
int finish_rename(const char *path, const char *move_to, unsigned day,
		  unsigned *counter) WARN_UNUSED;

struct finisher *finisher_start(const struct conf *conf);
/*
 * The settings are copied. Files that left the configuration are still finished, but no longer
 * deleted.
 */
void finisher_reload(struct finisher *f, const struct conf *conf);
/* Look now: there is a new file. Any thread. */
void finisher_poke(struct finisher *f);
/*
 * Gives up what is under way (it is found again at the next start), ends the thread. NULL is fine.
 */
void finisher_stop(struct finisher *f);

#endif
