/*
 * client.h - one command over the control socket (docs/control-protocol.md).
 */
#ifndef SLUICE_CLI_CLIENT_H
#define SLUICE_CLI_CLIENT_H

#include "cli/cli.h"

struct client_events {
	void (*on_data)(const json_t *data, void *arg); /* each {"data":…} */
	void (*on_progress)(const json_t *progress, void *arg); /* may be NULL */
	void *arg;
};

/*
 * Sends the command (args is taken) and hands out the answer as it comes. CLI_DONE; CLI_REFUSED when the
 * daemon says no, with its message; CLI_NO_DAEMON when there is none or it goes silent. *ret_error (heap)
 * is set unless CLI_DONE.
 */
int client_run(const char *socket_path, const char *command, json_t *args,
	       const struct client_events *events, char **ret_error);

#endif
