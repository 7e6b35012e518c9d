/*
 * status.h - the answer to `show status`: totals, what the last minute and hour brought, processes.
 */
#ifndef SLUICE_MASTER_STATUS_H
#define SLUICE_MASTER_STATUS_H

#include <jansson.h>

#include "master/master.h"

/* A new reference. */
json_t *status_json(struct master *m);

#endif
