/*
 * intake.h - how mail gets to the committer: from SMTP sessions, from the DSN helper.
 *
 * A session thread fills a struct intake_message and posts it; the committer makes it durable
 * together with all that waits, and hands it back through the poster's completion queue. 250 is
 * sent only after that. The message belongs to the committer from intake_post() until done() runs.
 */
#ifndef SLUICE_SPOOLER_INTAKE_H
#define SLUICE_SPOOLER_INTAKE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/spool/spool.h"

#define INTAKE_CLASS_OF_SETTINGS UINT8_MAX /* as recipient-priority says */

struct intake_recipient {
	const char *address; /* without <>, domain lower-cased; memory of the message's arena */
	const char *domain; /* lower-case; "[1.2.3.4]" for literals: the queue's domain */
	const char *orcpt; /* or NULL */
	const char *route; /* name of the virtual MTA or pool */
	uint8_t notify;
	uint8_t class;
};

struct intake_message {
	/* envelope; strings are owned by the message (freed by the poster after done) */
	uint64_t msgid; /* from intake_next_msgid() */
	const char *sender, *source_mta, *user, *job, *envid, *dsn_envid; /* NULL = "" */
	uint32_t flags; /* SPOOL_MSG_* */
	msec_t received;
	struct intake_recipient *recipients;
	uint32_t recipient_count;
	/* body: in memory, or already synced in SPOOL-DIR/big/MSGID (big = true) */
	struct buf body;
	uint64_t size;
	uint32_t header_size;
	bool big;
	uint64_t dsn_row; /* made from this dsn row, which goes in the same transaction; 0 = none */
	/* result, set by the committer: 0, or ERR_DISK_FULL / ERR_MAP_FULL / ERR_IO: answer 452 4.3.1; ERR_NOT_FOUND: a route does not exist (any more): 451 4.3.5 */
	int result;
	void (*done)(
		struct intake_message
			*m); /* called in the committer thread: must only queue it back and ring */
	void *poster;
	struct intake_message *next; /* for whoever holds it */
};

struct intake;

/* Any thread. Never blocks for the disk. */
void intake_post(struct intake *in, struct intake_message *m);
/* Any thread. µs of wall time, never the same twice, never lower than what the spool has seen. */
uint64_t intake_next_msgid(struct intake *in);

/*
 * Admission: whether a message may begin now (MAIL). False: *ret_text is why ("disk: …"), answer 452 4.3.1. Cheap: reads what the
 * committer publishes once a second (spool-max-size, min-free-space with 5 % hysteresis, map).
 */
bool intake_admit(struct intake *in, const char **ret_text);
/* Whether a message of this many bytes (SIZE= of MAIL) would still fit into the spool; as fresh as the answer above. */
bool intake_has_room(struct intake *in, uint64_t bytes);
/* Budget for bodies in memory (max-body-memory): true when n more bytes fit; give them back with n negative. */
bool intake_memory(struct intake *in, int64_t n);

/* --- the committer's side --- */

/* bell: eventfd that intake_post() rings. first_msgid: all given out are above it. */
struct intake *intake_new(int bell, uint64_t above_msgid);
void intake_free(struct intake *in);
/* All messages that wait, in order; NULL: none. */
struct intake_message *intake_take(struct intake *in);
/* NULL: mail is welcome; else why not (static text). */
void intake_set_refusal(struct intake *in, const char *why);
void intake_set_memory_max(struct intake *in, uint64_t bytes);
/* For intake_has_room(). */
void intake_set_room(struct intake *in, uint64_t bytes);

#endif
