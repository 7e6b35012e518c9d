/*
 * accountant_filter.h - queue-filter: whose records a file takes.
 *
 * A list of [!]DOMAIN/VMTA with * wildcards; without a slash: any virtual MTA. The first that
 * matches decides; a queue that none matches is treated contrary to the last one (if that begins
 * with "!", it is taken).
 */
#ifndef SLUICE_SPOOLER_ACCOUNTANT_FILTER_H
#define SLUICE_SPOOLER_ACCOUNTANT_FILTER_H

#include <stdbool.h>

#include "common/base/slice.h"
#include "common/conf/conf.h"

/* queue is "domain/vmta". An empty list takes all. */
bool accountant_filter_takes(const struct conf_strings *patterns, struct slice queue);

#endif
