/*
 * session.h - the SMTP server's threads: each has its own loop and accepts on all listeners.
 */
#ifndef SLUICE_SPOOLER_SESSION_H
#define SLUICE_SPOOLER_SESSION_H

#include "common/conf/conf.h"
#include "common/shm/shm.h"
#include "spooler/intake.h"

struct smtp_server;

struct smtp_server_options {
	struct intake *intake;
	struct shm_counters *counters;
	const struct conf *conf;
	const char *big_dir; /* SPOOL-DIR/big */
	const int *listeners; /* same order as conf_listener_at() */
	size_t listener_count;
	unsigned threads; /* >= 1 */
};

/* Starts the threads; they all listen when it returns. */
struct smtp_server *smtp_server_start(const struct smtp_server_options *o);
/*
 * New configuration and listeners (a complete new set; descriptors that left are closed). Running
 * sessions keep theirs until their next transaction. Returns when all threads have switched: the old conf
 * may be freed only when no session uses it, which smtp_server tells by calling conf_free() itself on the old one.
 */
void smtp_server_reload(struct smtp_server *s, const struct conf *conf, const int *listeners,
			size_t listener_count);
/*
 * On: new connections are answered with 421 4.3.2, sessions get it after their present transaction. Off:
 * as before. Returns at once.
 */
void smtp_server_drain(struct smtp_server *s, bool on);
/* Ends all sessions (those waiting for a commit get their reply first, within 5 s), joins the threads. */
void smtp_server_stop(struct smtp_server *s);
/* Open sessions now. */
unsigned smtp_server_sessions(const struct smtp_server *s);
/* Oldest heartbeat of its threads (usec_t, monotonic). */
usec_t smtp_server_heartbeat(const struct smtp_server *s);

#endif
