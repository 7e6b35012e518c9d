/*
 * control.h - one connection to the control socket: a request line in JSON, answer lines in JSON.
 * docs/control-protocol.md has the commands; the table in control.c says who may and who answers.
 */
#ifndef SLUICE_MASTER_CONTROL_H
#define SLUICE_MASTER_CONTROL_H

#include <jansson.h>

#include "master/master.h"

struct control;

/* One answer line; takes the reference. */
void control_write(struct control *c, json_t *line);

#endif
