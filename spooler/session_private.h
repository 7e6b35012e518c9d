/*
 * session_private.h - what the files of the SMTP server share. Nobody else includes it.
 *
 * session.c: server, threads, reload, drain, stop. session_accept.c: listeners, connection counts.
 * session_dialogue.c: one session's steps and replies. session_commands.c: the commands.
 * session_envelope.c: MAIL and RCPT. session_data.c: DATA, BDAT, the end of a message, the
 * committer's answer. session_headers.c: header rules, routing. session_body.c: where the body lies.
 * session_sync.c: fsync of big bodies in threads of their own.
 *
 * A session, its stream and its message belong to one session thread. A message that has been
 * posted belongs to the committer (or first to the sync threads) until it comes back through
 * session_thread.returned; a session that ends meanwhile leaves it behind with session == NULL.
 */
#ifndef SLUICE_SPOOLER_SESSION_PRIVATE_H
#define SLUICE_SPOOLER_SESSION_PRIVATE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "common/base/log.h"
#include "common/conf/arena.h"
#include "common/conf/conf.h"
#include "common/loop/loop.h"
#include "common/loop/stream.h"
#include "common/mail/scan.h"
#include "spooler/session.h"

#define SESSION_MAGIC 0x73657373u
#define SESSION_COMMAND_MAX 4096 /* RFC 5321 asks for 512; DSN and UTF-8 need more */
#define SESSION_ERRORS_MAX 20 /* then 421 */
#define SESSION_OUTPUT_MAX 65536 /* unread replies after which a client is not read */
#define SESSION_RCPT_MAX 1000000 /* where max-rcpt-per-message sets no limit */
#define SESSION_HEADER_MAX 262144 /* header block as it comes in */
#define SESSION_ENVELOPE_STEP 65536 /* recipients come this far without a look at the budget */
#define SESSION_MEMORY_MAX 262144 /* a longer body goes to a file */
#define SESSION_SPILL_SIZE 131072 /* written to that file at once */
#define SESSION_JOB_MAX 200 /* it is part of keys in the spool */
#define SESSION_ENVID_MAX 512
#define SESSION_STOP_WAIT (5 * USEC_PER_SEC)

/* A generation of the configuration with the sessions that use it. */
struct session_conf {
	atomic_uint refs;
	const struct conf *conf;
	const struct conf_global *global;
	const char *host; /* name of this server */
	char host_buffer[256];
	bool owned; /* freed with the last reference: it has been replaced */
};

struct session_thread;
struct session_sync;
struct session_listener_set {
	int *fds;
	size_t n;
};

struct smtp_server {
	struct intake *intake;
	struct shm_counters *counters;
	char *big_dir;
	struct session_sync *sync;
	struct session_thread *threads;
	unsigned thread_count;
	atomic_uint open; /* sessions */
	atomic_bool draining, stopping;
	/* under lock */
	pthread_mutex_t lock;
	pthread_cond_t switched;
	struct session_conf *conf;
	struct session_listener_set listeners;
	uint64_t generation;
	struct session_client *clients; /* open sessions by address */
	/* refused relaying is logged at most once a second */
	_Atomic usec_t relay_log_at;
	_Atomic uint64_t relay_quiet;
	/* refused connections: at most once a minute */
	_Atomic usec_t full_log_at;
	_Atomic uint64_t full_quiet;
};

struct session;
LIST_HEAD(session_list, session);
struct session_listener;

struct session_thread {
	struct smtp_server *server;
	pthread_t id;
	struct loop *loop;
	int bell; /* eventfd: messages came back, or the server wants something */
	struct loop_io *bell_io;
	struct loop_timer *beat, *accept_again, *end;
	struct session_conf *conf;
	struct session_listener *listeners;
	size_t listener_count;
	struct session_list sessions;
	_Atomic usec_t heartbeat;
	uint64_t generation; /* under server->lock */
	bool draining, stopping;
	bool accept_warned;
	pthread_mutex_t lock;
	struct intake_message *returned; /* under lock */
	unsigned posted; /* under lock: messages that have not come back */
};

/* STEP(name, function that takes input, timeout of [source] that bounds it) */
#define SESSION_STEP_LIST(STEP)                                   \
	STEP(COMMAND, session_step_command, smtp_command_timeout) \
	STEP(DATA, session_step_data, smtp_data_timeout)          \
	STEP(CHUNK, session_step_chunk, smtp_data_timeout)        \
	STEP(COMMIT, session_step_commit, smtp_command_timeout)

enum session_step {
#define SESSION_STEP_ENUM(name, run, timeout) SESSION_##name,
	SESSION_STEP_LIST(SESSION_STEP_ENUM)
#undef SESSION_STEP_ENUM
		SESSION_MORE, /* stay in this step and wait for input */
	SESSION_CLOSE /* replies leave, then the connection is closed */
};

enum mail_phase { MAIL_HEADER, MAIL_BODY };

/* A transaction, from MAIL until its reply has been sent. */
struct session_mail {
	struct intake_message m; /* m.poster is the thread */
	struct session *session; /* NULL: it went away while the message was with the committer */
	struct arena arena; /* strings of m and its recipients */
	size_t recipient_room;
	uint64_t declared_size;
	uint64_t received; /* octets of the message so far */
	struct mail_scan scan;
	enum mail_phase phase;
	bool chunked; /* BDAT has begun */
	struct buf head; /* header block that is not complete yet */
	size_t head_scanned;
	struct buf refusal; /* reply that the message gets at its end, "" = none so far */
	const char *route; /* from X-Virtual-MTA; NULL: the default */
	int64_t envelope; /* octets of the recipients, more or less */
	int64_t charged; /* octets taken from max-body-memory */
	int big_fd; /* file of a big body, -1: none */
	bool big;
	uint64_t spilled; /* octets in it */
};

struct session {
	unsigned magic;
	LIST_ENTRY(session) link;
	struct session_thread *thread;
	struct stream *stream;
	struct session_conf *conf;
	const struct conf_source *source; /* of conf */
	char *source_name; /* of the listener, or NULL */
	struct ip ip;
	char ip_name[IP_TEXT_MAX];
	struct log_ctx log;
	enum session_step step;
	usec_t timeout;
	char *helo; /* NULL: no EHLO or HELO yet */
	bool esmtp;
	bool skip_line; /* the rest of an over-long command line */
	bool output_full; /* input is paused until the client has read its replies */
	unsigned errors;
	uint64_t chunk_left;
	uint64_t chunk_size;
	bool chunk_last;
	bool chunk_refused; /* BDAT out of order: its octets are swallowed, then 503 */
	struct session_mail *mail;
};

/* session.c */
void session_conf_ref(struct session_conf *c);
void session_conf_unref(struct session_conf *c); /* NULL is fine */
/* Takes ownership back from the committer; called by m.done in any thread. */
void session_mail_returned(struct intake_message *m);

/* session_accept.c */
void session_listen(struct session_thread *t, const struct session_listener_set *set);
void session_listen_stop(struct session_thread *t);
void session_client_gone(struct smtp_server *server, const struct ip *ip);

/* session_dialogue.c */
void session_start(struct session_thread *t, int fd, const struct ip *ip, const char *source_name);
/* Moves an idle session to the thread's present configuration. */
void session_adopt(struct session *s);
/* 421 and away, unless a message is with the committer. False: it has to wait. */
bool session_shut(struct session *s, const char *line);
/* Ends a session now. */
void session_free(struct session *s);
void session_run(struct session *s);
void session_set_step(struct session *s, enum session_step next);
/* One reply line without its CRLF. */
void session_reply(struct session *s, const char *line);
void session_replyf(struct session *s, const char *fmt, ...) ATTR_PRINTF(2, 3);
/*
 * A reply that counts as an error of the client; the next step: COMMAND, or CLOSE after too many.
 */
enum session_step session_error(struct session *s, const char *line);
enum session_step session_errorf(struct session *s, const char *fmt, ...) ATTR_PRINTF(2, 3);

/* session_commands.c */
enum session_step session_step_command(struct session *s);

/* session_envelope.c */
enum session_step session_mail_command(struct session *s, struct slice arg);
enum session_step session_rcpt_command(struct session *s, struct slice arg);
void session_mail_free(struct session_mail *mail); /* NULL is fine */
void session_mail_reset(struct session *s);

/* session_data.c */
enum session_step session_step_data(struct session *s);
enum session_step session_step_chunk(struct session *s);
enum session_step session_step_commit(struct session *s);
/* The committer's answer. */
void session_mail_done(struct session_mail *mail);
/* The message will be refused with this reply; the first one counts. */
void session_mail_refuse(struct session_mail *mail, const char *fmt, ...) ATTR_PRINTF(2, 3);
static inline bool session_mail_refused(const struct session_mail *mail)
{
	return mail->refusal.n > 0;
}

/* session_headers.c: writes the rewritten header block with its empty line to m.body. */
void session_headers_apply(struct session *s, struct slice fields);
/* Route of each recipient. */
void session_route(struct session *s);

/* session_body.c */
/* Recipients were added: false when the budget has no room for them. */
bool session_envelope_fits(struct session_mail *mail);
/* Octets were added to m.body: budget, file. May refuse the message. */
void session_body_grown(struct session_mail *mail);
/* Writes the rest of a big body. */
void session_body_end(struct session_mail *mail);
/* Frees memory and file of a body that nobody wants. */
void session_body_drop(struct session_mail *mail);
/* Frees the memory; the file, if any, now belongs to the spool. */
void session_body_release(struct session_mail *mail);

/* session_sync.c */
struct session_sync *session_sync_new(struct intake *intake, const char *dir);
/* Waits for what is under way, ends the threads. */
void session_sync_free(struct session_sync *y);
/*
 * fsyncs the message's file and the directory, then posts the message, or gives it back with an
 * error.
 */
void session_sync_post(struct session_sync *y, struct session_mail *mail);

#endif
