/*
 * beats.h - whether the spooler's threads still turn. One that does not stops the heartbeat of the process, and
 * master starts it again after its 30 s.
 *
 * Not watched: the threads that only sync bodies or compress full files. They hold nobody up but those who wait
 * for them, and what they can hang in, a disk, a new process would hang in, too.
 */
#ifndef SLUICE_SPOOLER_BEATS_H
#define SLUICE_SPOOLER_BEATS_H

#include "common/base/clock.h"

struct beats {
	usec_t sessions; /* when the slowest of the session threads last turned */
	usec_t committer, accountant, dsn;
	usec_t commit_began; /* 0: none is under way. Master itself watches how long it takes */
};

/*
 * The name of a thread that has been silent for longer than it can be at work, and *ret_silent; NULL: all turn.
 * Sessions never wait: 20 s. The committer reads a thousand rows between commits: 2 min. Accountant and DSN
 * helper read, write and sync files, which a slow disk may draw out as it does a commit: 10 min.
 */
const char *beats_stopped(const struct beats *b, usec_t now, usec_t *ret_silent);

#endif
