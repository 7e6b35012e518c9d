/*
 * The receiver's shared state: event sources, timers, journal.
 */
#ifndef TESTS_LIB_RECEIVER_CORE_H
#define TESTS_LIB_RECEIVER_CORE_H

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <openssl/ssl.h>

#include "tests/lib/receiver/body.h"
#include "tests/lib/receiver/rules.h"

struct receiver;
struct conn;

struct watch {
	void (*ready)(struct receiver *rc, struct watch *watch, uint32_t events);
	int fd;
	bool dead; /* closed in this turn; freed at its end */
};

struct listener {
	struct watch watch;
	char ip[64];
	unsigned port;
	struct listener *next;
};

struct timers { /* binary heap of connections by due time */
	struct conn **heap;
	size_t n, room;
};

struct journal {
	int fd;
	bool open;
	struct text text;
	double flushed;
};

struct client { /* of the control socket */
	struct watch watch;
	struct text in;
	json_t *waiting; /* the unanswered "wait", or NULL */
	struct client *next;
};

struct counters {
	uint64_t connections, refused, limited, open, mails, messages, rcpts, rejected, aborted;
	uint64_t bytes, handshakes, duplicates, seen;
	double first, last; /* wall times of the first and last accepted message */
};

struct receiver {
	int epoll;
	bool stop, no_digest;
	const char *name, *store;
	struct plan plan;
	struct listener *listeners;
	struct client *clients;
	struct conn *conns, *dead;
	struct timers timers;
	struct journal journal;
	struct counters counters;
	SSL_CTX *tls;
	uint8_t *ids; /* deliveries by the number in the local part */
	size_t id_count;
	size_t next_conn, next_tx;
};

static inline void watch_add(struct receiver *rc, struct watch *watch, uint32_t events)
{
	struct epoll_event ev = {.events = events, .data.ptr = watch};

	if (epoll_ctl(rc->epoll, EPOLL_CTL_ADD, watch->fd, &ev) < 0)
		die("epoll_ctl: %s", strerror(errno));
}

static inline void watch_change(struct receiver *rc, struct watch *watch, uint32_t events)
{
	struct epoll_event ev = {.events = events, .data.ptr = watch};

	if (epoll_ctl(rc->epoll, EPOLL_CTL_MOD, watch->fd, &ev) < 0)
		die("epoll_ctl: %s", strerror(errno));
}

static inline void journal_open(struct journal *journal, const char *path)
{
	journal->fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	if (journal->fd < 0)
		die("%s: %s", path, strerror(errno));
	journal->open = true;
}

static inline void journal_flush(struct journal *journal)
{
	size_t done = 0;

	while (done < journal->text.n) {
		ssize_t n = write(journal->fd, journal->text.p + done, journal->text.n - done);

		if (n < 0)
			die("cannot write the journal: %s", strerror(errno));
		done += (size_t)n;
	}
	journal->text.n = 0;
	journal->flushed = now_mono();
}

/* A reader of the file sees events at most about a second late without asking. */
static inline void journal_tick(struct journal *journal)
{
	if (journal->text.n > 1 << 16 || (journal->text.n && now_mono() - journal->flushed > 0.2))
		journal_flush(journal);
}

/* Starts an event; the caller adds members and ends with journal_end(). NULL without a journal. */
static inline struct text *journal_event(struct journal *journal, const char *event, size_t conn)
{
	if (!journal->open)
		return NULL;
	text_printf(&journal->text, "{\"t\":%.6f,\"ev\":\"%s\",\"c\":%zu", now_wall(), event, conn);
	return &journal->text;
}

static inline void journal_text(struct text *text, const char *name, const char *p, size_t n)
{
	if (!text)
		return;
	text_printf(text, ",\"%s\":", name);
	text_json(text, p, n);
}

static inline void journal_number(struct text *text, const char *name, uint64_t value)
{
	if (text)
		text_printf(text, ",\"%s\":%llu", name, (unsigned long long)value);
}

static inline void journal_end(struct text *text)
{
	if (text)
		text_puts(text, "}\n");
}

#endif
