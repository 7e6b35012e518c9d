/*
 * heritage.h - all that a child process gets from master, filled before the fork.
 *
 * The child closes nothing itself: master has already closed what the role must not have. Strings
 * live as long as the process. LMDB is opened by the child, after the fork.
 */
#ifndef SLUICE_BASE_HERITAGE_H
#define SLUICE_BASE_HERITAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct shm; /* common/shm/shm.h */

enum role { ROLE_MASTER, ROLE_SPOOLER, ROLE_WORKER, ROLE_RESOLVER };

const char *role_name(enum role r); /* "master", "spooler", "worker", "resolver" */

struct heritage {
	enum role role;
	uint64_t family; /* random, made by master at its start */
	uint32_t forkno; /* counts all forks of this master; (family, forkno) = generation */
	uint32_t slot; /* workers: index of the worker slot in shared memory */
	const char *vmta; /* workers: name of the virtual MTA */
	bool orphan; /* workers: the virtual MTA left the configuration; only expire, move, delete */
	struct shm *shm; /* mapped shared memory */
	uint64_t
		conf_gen; /* generation of the configuration: 0 at master's start, grows with each reload */
	int conf_fd; /* sealed memfd with the merged configuration */
	int control_fd; /* unix seqpacket socket to master (common/ipc/ipc.h) */
	int death_fd; /* read end of the pipe that only master can write: EOF = master is gone */
	const int *bells; /* one eventfd for each worker slot, by slot */
	size_t bell_count;
	int spooler_bell; /* eventfd of the committer */
	const int *listeners; /* spooler: listening sockets, same order as conf_listener_at() */
	size_t listener_count;
	bool debug; /* --debug: foreground, all to stderr */
};

#endif
