/*
 * args.h - from argv to a command: unique prefixes of words and options, checked against its row.
 */
#ifndef SLUICE_CLI_ARGS_H
#define SLUICE_CLI_ARGS_H

#include "cli/cli.h"

/*
 * Fills cli's conf_path and json, and *ret. 0, or CLI_USAGE after saying what is wrong. Options may
 * stand anywhere; "--" ends them. invocation_done() in each case.
 */
int args_parse(int argc, char **argv, struct cli *cli, struct invocation *ret);
void invocation_done(struct invocation *i);

/* "1w2d12h30m5s", or "0": as in the configuration, no other number goes without its unit. */
bool args_time(const char *text, uint64_t *ret_seconds);

struct option_row {
	const char *names; /* separated by spaces; the first is shown */
	const char *key;
	const char *arg; /* "" for flags */
	const char *doc;
};
const struct option_row *option_row(enum option_id id);
/* Sets the option's value in a request. */
void option_to_json(const struct invocation *i, enum option_id id, json_t *args);

/* "queue" with the pattern made of --queue and --vmta, heap; NULL when neither is given. */
char *args_queue_pattern(const struct invocation *i);
/* "gmail.com" becomes "gmail.com" with "/" and a star; heap. */
char *args_pattern(const char *queue);
/* A domain, or DOMAIN/VMTA, with A-labels in the domain; heap. */
char *args_name(const char *name);

#endif
