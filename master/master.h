/*
 * master.h - the master process: reads the configuration, makes shared memory, opens listeners,
 * forks the others and keeps them running, reloads, serves the control socket.
 *
 * Master does no mail, no DNS, no TLS and no LMDB. Signals set events of one loop; all decisions
 * are taken in that loop. One struct master in the process.
 *
 *   main.c       command line, order of the start
 *   setup.c      directories, the family lock, listeners, users, capabilities
 *   child.c      fork one child, what it keeps
 *   supervisor.c what happens when a process starts, answers, dies, hangs, or all must stop
 *   reload.c     a new configuration beside the old one
 *   control.c    the control socket: who may, which command, who answers
 *   status.c     the answers that master gives itself
 */
#ifndef SLUICE_MASTER_MASTER_H
#define SLUICE_MASTER_MASTER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>
#include <unistd.h>

#include "common/base/heritage.h"
#include "common/conf/conf.h"
#include "common/ipc/ipc.h"
#include "common/loop/loop.h"
#include "common/shm/shm.h"

#define MASTER_LISTENERS_MAX (IPC_FDS_MAX - 1)
#define COMMIT_SLOW (5 * USEC_PER_SEC) /* from here on a commit is worth a word */

/* A process that master keeps, or wants to keep, running. */
enum child_state {
	CHILD_IDLE, /* no process; not wanted (yet) */
	CHILD_STARTING, /* forked, not READY */
	CHILD_RUNNING, /* READY was received */
	CHILD_STOPPING, /* told to stop; its exit is no crash */
	CHILD_DRAINING, /* a worker is gone; the spooler empties its ring */
	CHILD_WAITING /* gone; the timer forks the successor */
};

struct master;

struct child {
	struct master *m;
	enum role role;
	uint32_t slot; /* workers */
	char *vmta; /* workers; owned */
	bool orphan; /* workers: the configuration no longer names vmta */
	bool leaving; /* workers: no successor */
	enum child_state state;
	pid_t pid; /* 0: no process */
	uint32_t forkno; /* of the present or last process */
	int control_fd; /* our end; -1: none */
	struct loop_io *io;
	struct loop_timer *timer; /* successor, or the grace of a kill */
	usec_t started; /* monotonic */
	unsigned failures; /* quick deaths in a row */
	bool lost; /* its last process ended without being told to: say when it is back */
	bool leases_given; /* CHILD_DRAINING: the spooler has been asked */
	uint64_t *
		blamed; /* messages that its last process had in hand when it failed; until it is drained */
	size_t blamed_count;
	bool killed_by_us; /* a signal that we sent ends it: no message is blamed */
	uint64_t conf_gen; /* last CONF_DONE */
	LIST_ENTRY(child) link;
};

struct listener {
	struct ip ip;
	uint16_t port;
	int fd;
};

/* One sample of the totals a second ago, a minute ago … : status.c */
struct history;

struct master {
	unsigned magic;
	struct loop *loop;
	const char *conf_path;
	bool debug;
	struct conf *conf;
	uint64_t conf_gen;
	int conf_fd; /* sealed memfd of the present generation */
	struct shm *shm;
	uint64_t family;
	uint32_t forks;
	int lock_fd, spool_fd; /* locked: the lock file, the spool's directory */
	int death_read, death_write;
	int *bells;
	int spooler_bell;
	struct listener listeners[MASTER_LISTENERS_MAX];
	size_t listener_count;
	int control_listener;
	struct loop_io *control_io;
	struct child *spooler, *resolver;
	LIST_HEAD(, child) children; /* all, workers too */
	struct child **by_slot;
	bool announced; /* "ready" was logged */
	bool stopping;
	bool draining;
	usec_t started;
	struct loop_timer *tick, *limits;
	struct history *history;
	struct reload *reload; /* in progress, or NULL */
	struct ipc_reader reader;
	struct loop_signal *signals[8];
	size_t signal_count;
	/* who the children become; 0 = as we are */
	uid_t spool_uid, out_uid;
	gid_t spool_gid, out_gid;
	char spool_user[64], out_user[64];
};

#define MASTER_MAGIC 0x6d617374

/* setup.c: each ends the process with a message when the environment cannot be used. */
void setup_limits(void);
void setup_users(struct master *m);
void setup_directories(struct master *m);
void setup_lock(struct master *m);
/* Adds a line "role pid" to the lock file, so that the next master can name who lives. */
void setup_lock_note(const struct master *m, const char *who);
void setup_shared(struct master *m);
void setup_control_socket(struct master *m);
void setup_capabilities(const struct master *m);
/*
 * Opens what conf listens on, taking over descriptors of `old` (same address and port). 0, or ERR_SYS
 * with *ret_error (heap) and nothing kept open that was not before.
 */
int setup_listeners(const struct conf *conf, const struct listener *old, size_t old_count,
		    struct listener *ret, size_t *ret_count, char **ret_error) WARN_UNUSED;
/* Warns of source addresses that this machine does not have (yet). */
void setup_check_sources(const struct conf *conf);
/* A sealed memfd with the merged text. */
int setup_conf_fd(const struct conf *conf);
/* Sends log lines of the whole family where the configuration says; before the first fork. */
void setup_log(const struct conf *conf, bool debug);

/* child.c: forks. In the child it never returns. 0 or ERR_SYS. */
int child_spawn(struct child *c) WARN_UNUSED;

/* supervisor.c */
void supervisor_start(struct master *m);
void supervisor_on_sigchld(struct master *m);
/* Once a second: silent processes, slow commits, the watchdog, rates of the status. */
void supervisor_tick(struct master *m);
/* Forks workers for all virtual MTAs of the configuration and the named orphans that have none. */
void supervisor_want_workers(struct master *m, const struct slice *orphans, size_t orphan_count);
/* Orderly stop: workers, then the spooler, then the resolver; ends the loop. */
void supervisor_stop(struct master *m);
void supervisor_send_conf(struct master *m, struct child *c);
/* Tells the spooler to refuse new mail, or to take it again. False: it could not be told now. */
bool supervisor_drain_in(struct master *m, bool on);
/* The process ends in good order and another takes its place, with the present configuration. */
void supervisor_replace(struct child *c);
const char *supervisor_child_name(const struct child *c);
struct child *supervisor_worker(struct master *m, struct slice vmta); /* or NULL */
const char *child_state_name(enum child_state s);

/*
 * reload.c: done(error, notes, arg), error NULL on success; notes: warnings, one a line, or "". Both
 * are borrowed.
 */
typedef void reload_done(const char *error, const char *notes, void *arg);
void reload_begin(struct master *m, bool dry_run, reload_done *done, void *arg);
/* Once a second: asks children again that have not answered, then replaces them. */
void reload_tick(struct master *m);
/* From the supervisor: a child has switched, or is gone. */
void reload_on_conf_done(struct master *m, struct child *c, const struct slice *orphans,
			 size_t orphan_count);

/* control.c: takes one connection from the control socket */
void control_accept(struct master *m);

/* status.c */
void status_tick(struct master *m); /* once a second */

#endif
