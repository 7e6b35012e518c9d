/*
 * mode.h - what a site may do now: its caps, rates and retry times, as configured or as its mode says.
 *
 * Whoever needs one of these values asks here; nobody reads them from the settings.
 */
#ifndef SLUICE_WORKER_MODE_H
#define SLUICE_WORKER_MODE_H

#include <stdint.h>

#include "common/conf/conf.h"

struct site;

/* Connections of the site. */
uint64_t mode_max_smtp_out(const struct site *s);
/* Times to wait after the first, second … failure. */
const struct conf_times *mode_retry_after(const struct site *s);

#endif
