/*
 * queries.h - the control commands that the spooler answers (docs/control-protocol.md): queues, virtual
 * MTAs, pauses, delete, schedule.
 *
 * Each connection has its own thread, so that a slow client blocks nothing; too many at once are
 * turned away. Reads come from the spool in short transactions; changes are orders to the committer.
 */
#ifndef SLUICE_SPOOLER_QUERIES_H
#define SLUICE_SPOOLER_QUERIES_H

#include "spooler/committer.h"

struct queries;

struct queries *queries_new(struct spool *spool, struct shm *shm, struct committer *committer);
/* Takes fd. request: the line of the client, JSON, checked by master for rights. */
void queries_run(struct queries *q, int fd, struct slice request, uint32_t uid);
/* Cuts off those that run; returns when the last has ended. NULL is fine. */
void queries_free(struct queries *q);

#endif
