/*
 * sweep.h - mail that grows too old where nobody tries it: in paused queues, in queues that wait for a
 * retry, in orphaned virtual MTAs. At most 1,000 rows a second.
 */
#ifndef SLUICE_WORKER_SWEEP_H
#define SLUICE_WORKER_SWEEP_H

struct sweep;
struct worker;

struct sweep *sweep_new(struct worker *w);
void sweep_free(struct sweep *s);
/* Once a second. */
void sweep_run(struct sweep *s);

#endif
