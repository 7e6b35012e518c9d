/*
 * resume.h - queues that an operator resumed come back by and by (resume-ramp), so that what was held for
 * hours is no burst for its receivers.
 *
 * A site begins with one connection and has all that it may after resume-ramp; where an order resumes
 * very many queues, they begin at different times. Remembered in memory only: after a restart of the
 * worker nothing is held back any more.
 */
#ifndef SLUICE_WORKER_RESUME_H
#define SLUICE_WORKER_RESUME_H

#include <stdint.h>

#include "common/base/clock.h"
#include "common/base/slice.h"

struct resumes;
struct site;
struct worker;

struct resumes *resumes_new(void);
void resumes_free(struct resumes *r);

/* An order resumed queues of this pattern now. */
void resume_note(struct worker *w, struct slice pattern);
/* When this queue was last resumed, monotonic; 0: not within resume-ramp. */
usec_t resume_time(const struct worker *w, struct slice queue);
/* How many of `most` connections the site may have now; at least 1. */
uint64_t resume_share(const struct site *s, uint64_t most);
/* Until when that is less than all, monotonic; 0: it is all. */
usec_t resume_until(const struct site *s, uint64_t most);
/* When a queue that is not in memory begins, the n-th of its order: wall time. */
msec_t resume_begin(const struct worker *w, uint32_t n);

#endif
