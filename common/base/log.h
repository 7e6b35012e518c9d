/*
 * log.h - the one way to say something to the operator.
 *
 * A line is: time level program[slot] object-prefix msg="…" key=value… ; values are quoted when they
 * hold anything but letters, digits and ._:/@+-<>,= ; control characters are escaped, so that no text
 * from the wire can forge a line. Levels: error (somebody must act), warn, info (state changes),
 * debug. No line per message at info. Thread-safe: a line is one write(2).
 *
 * Three kinds of trouble: panic() is for a bug (abort, core, master starts the process again);
 * fatal() for an environment that cannot be used (message, exit 1); everything expected is a return
 * value. common/ does not log above debug.
 *
 * The arguments after the message are key, format, value triples made with the LOG_* macros:
 *
 *     log_info(&session->log, "client connected", LOG_S("client", name), LOG_U("port", port));
 */
#ifndef SLUICE_BASE_LOG_H
#define SLUICE_BASE_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/macros.h"
#include "common/base/slice.h"

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

/* What an object puts in front of each of its lines. Borrowed strings; may be NULL. */
struct log_ctx {
	const char *object; /* "session", "queue", "connection" … */
	const char *name; /* "gmail.com/mta1", a message id … */
	const char *doing; /* what it is doing now: "STARTTLS"; may change any time */
};

enum log_field_kind { LOG_FIELD_STR, LOG_FIELD_SLICE, LOG_FIELD_U64, LOG_FIELD_I64 };

struct log_field {
	const char *key; /* NULL ends the list */
	enum log_field_kind kind;
	struct slice s;
	uint64_t u;
	int64_t i;
};

#define LOG_S(k, v) ((struct log_field){.key = (k), .kind = LOG_FIELD_STR, .s = slice_str(v)})
#define LOG_SL(k, v) ((struct log_field){.key = (k), .kind = LOG_FIELD_SLICE, .s = (v)})
#define LOG_U(k, v) ((struct log_field){.key = (k), .kind = LOG_FIELD_U64, .u = (uint64_t)(v)})
#define LOG_I(k, v) ((struct log_field){.key = (k), .kind = LOG_FIELD_I64, .i = (int64_t)(v)})
#define LOG_END_ ((struct log_field){.key = NULL})

/* The first field is the message. */
void log_line(enum log_level level, const struct log_ctx *ctx, const struct log_field *fields);

#define LOG_AT_(level, ctx, msg, ...)                                                         \
	do {                                                                                  \
		if (log_enabled(level))                                                       \
			log_line(level, ctx,                                                  \
				 (const struct log_field[]){LOG_S("msg", msg), ##__VA_ARGS__, \
							    LOG_END_});                       \
	} while (0)
#define log_error(ctx, ...) LOG_AT_(LOG_LEVEL_ERROR, ctx, __VA_ARGS__)
#define log_warn(ctx, ...) LOG_AT_(LOG_LEVEL_WARN, ctx, __VA_ARGS__)
#define log_info(ctx, ...) LOG_AT_(LOG_LEVEL_INFO, ctx, __VA_ARGS__)
#define log_debug(ctx, ...) LOG_AT_(LOG_LEVEL_DEBUG, ctx, __VA_ARGS__)

bool log_enabled(enum log_level level);

/* Name of this program and, for a worker, its virtual MTA; copied. */
void log_set_program(const char *program, const char *instance);
void log_set_level(enum log_level level);
/* -1: standard error (default); else a descriptor that log lines are written to. */
void log_set_fd(int fd);
int log_fd(void);
/* True: lines begin with <N> priorities for journald and carry no time. */
void log_set_journal(bool on);
/* "error", "warn", "info", "debug" → level; false if none of them. */
bool log_level_parse(struct slice s, enum log_level *ret);

void panic(const char *fmt, ...) ATTR_PRINTF(1, 2) ATTR_NORETURN;
void fatal(const char *fmt, ...) ATTR_PRINTF(1, 2) ATTR_NORETURN;

/* A panic with place and text when cond does not hold: states an invariant. */
#define invariant(cond)                                                                         \
	do {                                                                                    \
		if (!(cond))                                                                    \
			panic("%s:%d: invariant does not hold: %s", __FILE__, __LINE__, #cond); \
	} while (0)

/*
 * A long-lived struct that travels through void * starts with `unsigned magic`; CAST_MAGIC checks it.
 */
#define CAST_MAGIC(to, from, magic_value)                                        \
	do {                                                                     \
		(to) = (from);                                                   \
		if (!(to) || (to)->magic != (magic_value))                       \
			panic("%s:%d: not a " #magic_value, __FILE__, __LINE__); \
	} while (0)

#endif
