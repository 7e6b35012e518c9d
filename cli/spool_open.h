/*
 * spool_open.h - the spool for commands that read it themselves.
 */
#ifndef SLUICE_CLI_SPOOL_OPEN_H
#define SLUICE_CLI_SPOOL_OPEN_H

#include "cli/cli.h"

struct spool;

/*
 * Opens the spool that the configuration names, for reading. Root becomes the owner of the spool
 * first, so that what LMDB may create belongs to it. CLI_DONE, or CLI_REFUSED after saying why.
 */
int cli_spool_open(struct cli *cli, struct spool **ret);

#endif
