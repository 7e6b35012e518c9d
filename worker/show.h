/*
 * show.h - answers of a worker on the control socket (docs/control-protocol.md): `show queue`.
 */
#ifndef SLUICE_WORKER_SHOW_H
#define SLUICE_WORKER_SHOW_H

#include "common/base/slice.h"

struct worker;

/* Takes the connection; line is the request. */
void show_answer(struct worker *w, int fd, struct slice line);

#endif
