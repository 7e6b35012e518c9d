/*
 * place.h - where the daemon and its spool are, as the configuration says.
 *
 * A configuration with errors must not keep an operator from a running daemon: then the few directives
 * needed are read on their own.
 */
#ifndef SLUICE_CLI_PLACE_H
#define SLUICE_CLI_PLACE_H

#include "cli/cli.h"

struct place {
	char *control_socket;
	char *spool_dir;
};

/* 0, or CLI_REFUSED after saying why. place_done() in each case. */
int place_find(struct cli *cli, struct place *ret);
void place_done(struct place *p);

/* The whole configuration, loaded once; NULL after its errors went to standard error. */
const struct conf *cli_conf(struct cli *cli);
void cli_conf_done(struct cli *cli);

/* Of a configuration with errors: the directives that place_find() needs. For tests. */
void place_scan(FILE *conf, struct place *p, char **ret_runtime_dir);

#endif
