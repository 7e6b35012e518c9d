/*
 * cli.h - the command `sluice`: what all its files share.
 *
 * A command is one row in commands.c. Most are remote: the row says what to ask (docs/control-protocol.md)
 * and how to show the answer; the others have a function. Nothing here changes the spool or the
 * daemon but through the control socket.
 *
 * Exit status: 0 done, 1 refused or not found, 2 usage, 3 daemon not reachable. Errors go to standard
 * error, one line that says what to do.
 */
#ifndef SLUICE_CLI_CLI_H
#define SLUICE_CLI_CLI_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "common/base/macros.h"
#include "common/base/slice.h"

enum cli_exit { CLI_DONE, CLI_REFUSED, CLI_USAGE, CLI_NO_DAEMON };

#define CLI_CONF_DEFAULT "/etc/sluice/sluice.conf"

struct conf;

struct cli {
	const char *conf_path;
	bool conf_given; /* by -c: then a file that cannot be read is an error */
	bool json;
	bool color;
	int width; /* of the terminal; 0: output is no terminal */
	FILE *out;
	struct conf *conf; /* loaded at the first use; NULL: not yet, or it cannot be */
	uint64_t spool_map_size; /* 0: as the daemon's; tests under valgrind need a small one */
};

/* --- options: X(ID, "name alias…", TYPE, "key in the request", "ARGUMENT", "documentation") --- */
#define OPTION_LIST(X)                                                                             \
	X(QUEUE, "queue", TEXT, "queue", "P", "recipients of the queues P: gmail.com/*, */mta1")   \
	X(VMTA, "vmta", TEXT, "vmta", "V", "recipients of the virtual MTA V")                      \
	X(JOB, "job jobid", TEXT, "job", "J", "recipients of the job J")                           \
	X(ORIG, "orig", TEXT, "orig", "ADDRESS", "messages from this sender")                      \
	X(RCPT, "rcpt", TEXT, "rcpt", "ADDRESS", "this recipient")                                 \
	X(ENVID, "envid", TEXT, "envid", "ID", "messages with this envelope id")                   \
	X(OLDER, "older-than", TIME, "older_than", "TIME", "received longer ago than TIME: 2d12h") \
	X(DRY_RUN, "dry-run", FLAG, "dry_run", "", "only say what would be done")                  \
	X(DSN, "dsn", FLAG, "dsn", "", "notify the senders")                                       \
	X(NO_ACCT, "no-accounting", FLAG, "no_accounting", "", "write no accounting records")      \
	X(RETRY_RCPT, "retry-recipients", FLAG, "retry_recipients", "",                            \
	  "also recipients that wait because of their own transient reply")                        \
	X(NO_SPREAD, "no-spread", FLAG, "no_spread", "", "all at once, not spread over time")      \
	X(MODE, "mode", MODE, "mode", "MODE", "normal or backoff")                                 \
	X(REENABLE, "reenable-after", TIME, "reenable_after", "TIME",                              \
	  "until then: 12h; else until it is enabled")                                             \
	X(REASON, "reason", TEXT, "reason", "TEXT", "shown with it")                               \
	X(PAUSED, "paused", FLAG, "paused", "", "only paused queues")                              \
	X(ERRORS, "errors", FLAG, "errors", "", "only queues with an error")                       \
	X(SORT, "sort", SORT, "sort", "BY", "by recipients, bytes or name")                        \
	X(MAX, "max maxitems", NUMBER, "max", "N", "at most N rows; 0: all")                       \
	X(DAY, "day", NUMBER, "day", "N", "go on with day N of the schedule")                      \
	X(PAUSE, "pause", FLAG, "pause", "", "the next days repeat the number of this one")        \
	X(RESUME, "resume", FLAG, "resume", "", "the next days follow the schedule again")         \
	X(OFF, "off", FLAG, "off", "", "accept new mail again")                                    \
	X(TO_VMTA, "to-vmta", TEXT, "to_vmta", "VMTA", "virtual MTA or pool that takes them")      \
	X(FROM, "from", TEXT, "from", "ADDRESS", "sender; <> for the null sender")                 \
	X(PHASE, "phase", TEXT, "phase", "PHASE",                                                  \
	  "connect, dns, greeting, ehlo, starttls, mail, rcpt (if not given), data or dot")        \
	X(CONTENT, "content", FLAG, "content", "", "print the message itself")                     \
	X(SOURCE_IP, "source-ip", TEXT, "source_ip", "IP", "from this local address")              \
	X(LOG_DATA, "log-data", FLAG, "log_data", "", "show the message itself, too")              \
	X(WAIT, "wait", TIME, "wait", "TIME", "for so long without anything to tell: 5m; else 1m") \
	X(CLIENT, "client", TEXT, "client", "IP", "address of the feeder")                         \
	X(HEADER, "header", TEXT, "header", "'X: y'", "a header of the message")                   \
	X(MAN, "man", FLAG, "man", "", "print the manual page")

enum option_id {
#define OPTION_ENUM(id, names, type, key, arg, doc) OPTION_##id,
	OPTION_LIST(OPTION_ENUM)
#undef OPTION_ENUM
		OPTION_COUNT
};
#define OPT(id) (UINT64_C(1) << OPTION_##id)
#define OPTS_FILTER \
	(OPT(QUEUE) | OPT(VMTA) | OPT(JOB) | OPT(ORIG) | OPT(RCPT) | OPT(ENVID) | OPT(OLDER))

struct command;

/* A command as it was typed. Strings are those of argv. */
struct invocation {
	const struct command *cmd; /* NULL: none given */
	bool help;
	uint64_t given; /* OPT() bits */
	const char *text[OPTION_COUNT];
	uint64_t number[OPTION_COUNT]; /* NUMBER, TIME (seconds) */
	const char **args; /* what is neither option nor part of the name; heap */
	size_t arg_count;
};

static inline bool option_given(const struct invocation *i, enum option_id o)
{
	return i->given >> o & 1;
}

/* --- how an answer is shown --- */
enum column_kind {
	COL_TEXT, /* cut to fit a terminal */
	COL_NAME, /* not cut while there is a COL_TEXT to cut */
	COL_COUNT, /* 1,234,567 */
	COL_BYTES, /* in kB */
	COL_TIME, /* ms: local date and time */
	COL_WHEN, /* ms: "in 5m", "3h ago" */
	COL_SPAN, /* seconds: 1d2h */
	COL_YES /* yes or nothing */
};

struct column {
	const char *key; /* in the row */
	const char *title; /* NULL ends the list */
	enum column_kind kind;
};

enum shape { SHAPE_ROWS, SHAPE_OBJECT, SHAPE_NONE };

struct command {
	const char *name; /* "show queues" */
	const char *args; /* for the usage line */
	const char *doc; /* one line */
	const char *example; /* behind "sluice " */
	uint64_t options; /* OPT() bits that it takes */
	uint64_t filters; /* of these one at least is required; 0: none */
	size_t args_min, args_max;
	int (*run)(struct cli *cli, const struct invocation *i);
	/* remote commands only: */
	const char *remote; /* name in the protocol when it is not the own */
	const char *arg_key; /* where the first argument goes in the request */
	const char *arg2_key; /* the same for the second one, which is a pattern of queues */
	bool arg_is_pattern; /* of queues: "gmail.com" becomes "gmail.com/" and a star */
	enum shape shape;
	const struct column *columns; /* SHAPE_ROWS */
	const char *nothing; /* SHAPE_ROWS: said when there is none */
	void (*show)(struct cli *, const json_t *); /* SHAPE_OBJECT: for people */
};

extern const struct command cli_commands[];
extern const size_t cli_command_count;

/* "sluice: " and the text on standard error; returns status. */
int cli_error(int status, const char *fmt, ...) ATTR_PRINTF(2, 3);
/* The one result of a command: JSON, or show() for people. */
void cli_show_object(struct cli *cli, const json_t *object,
		     void (*show)(struct cli *, const json_t *));

#endif
