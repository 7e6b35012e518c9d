/*
 * mx.h - a scripted SMTP receiver for replays: speaks enough ESMTP for a client, asks the test what to
 * answer, and keeps a journal with virtual times.
 */
#ifndef SLUICE_TESTS_REPLAY_MX_H
#define SLUICE_TESTS_REPLAY_MX_H

#include <stdbool.h>

#include "common/base/buf.h"
#include "common/base/clock.h"
#include "tests/replay/fake_net.h"

enum mx_event {
	MX_OPEN,
	MX_EHLO,
	MX_STARTTLS,
	MX_MAIL,
	MX_RCPT,
	MX_DATA,
	MX_DONE,
	MX_RSET,
	MX_QUIT,
	MX_CLOSE
};

struct mx_entry {
	usec_t at; /* fake_elapsed() */
	enum mx_event what;
	unsigned connection; /* from 1 */
	struct ip source; /* of the connection */
	char text[200]; /* the command line; for MX_DONE the recipients of the transaction */
	char reply[80];
};

struct mx {
	const char *
		extensions; /* EHLO keywords, space-separated; default "PIPELINING 8BITMIME SIZE DSN" */
	/*
	 * What to answer; NULL: the usual. "" closes without a reply, "421 …" is followed by a close. `line` is the command, or the body's
	 * size for MX_DONE. Connection numbers as in the journal.
	 */
	const char *(*answer)(struct mx *mx, enum mx_event what, unsigned connection,
			      const char *line);
	void *arg;
	unsigned open, peak, connections;
	struct ip source; /* of the connection that answer() is asked about */
	unsigned delivered; /* recipients whose transaction got 250 at the dot */
	unsigned transactions; /* MAIL commands */
	struct mx_entry *journal;
	size_t entries;
};

/* Puts mx behind ip:port. */
void mx_listen(struct mx *mx, const char *ip, uint16_t port);
void mx_done(struct mx *mx);
/* Entries of this kind; the i-th of them. */
size_t mx_count(const struct mx *mx, enum mx_event what);
const struct mx_entry *mx_nth(const struct mx *mx, enum mx_event what, size_t i);

#endif
