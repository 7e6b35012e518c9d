/*
 * remote.h - commands that the daemon answers, as their rows say.
 */
#ifndef SLUICE_CLI_REMOTE_H
#define SLUICE_CLI_REMOTE_H

#include "cli/cli.h"

/* Sends the command, shows the answer; the run function of remote commands. */
int remote_run(struct cli *cli, const struct invocation *i);
/*
 * The same without a word when the daemon is not reachable: for commands that have another way then. more:
 * arguments besides, or NULL; taken.
 */
int remote_try(struct cli *cli, const struct invocation *i, json_t *more);

/* args of the request that the invocation makes; a new reference. */
json_t *remote_args(const struct invocation *i);

#endif
