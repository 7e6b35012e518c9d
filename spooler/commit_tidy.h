/*
 * commit_tidy.h - removes the rows of queues that had no mail for a day, at most 100 a second. A site that
 * still has something to remember (back-off, a retry within the last day) keeps its queue.
 *
 * No worker has to be asked: what it reports about a queue without a row is ignored, it drops queues that
 * are idle by itself, and ids are never used again. New mail for the domain makes a queue with a new id.
 *
 * To be used by the committer's thread only.
 */
#ifndef SLUICE_SPOOLER_COMMIT_TIDY_H
#define SLUICE_SPOOLER_COMMIT_TIDY_H

#include "spooler/commit.h"

struct commit_tidy;

struct commit_tidy *commit_tidy_new(struct commit *c);
/* NULL is fine. Its job must not be in any list. */
void commit_tidy_free(struct commit_tidy *t);
/*
 * Call once a second, outside a transaction: looks at the next 100 queues. A job for the next transaction,
 * which stays its own; NULL when there is nothing to remove, or the last one is still under way.
 */
struct commit_job *commit_tidy_look(struct commit_tidy *t);

#endif
