/*
 * retry.h - how long to wait. Pure functions over the configured ladders.
 *
 * A failure of a site waits the i-th retry-after, i counted per site and reset by a delivery; DNS
 * failures wait retry-after-dns-error and leave i as it is. A transient reply to a recipient waits
 * the longer of the k-th retry-after, k its own attempts, and retry-recipients-after.
 */
#ifndef SLUICE_WORKER_RETRY_H
#define SLUICE_WORKER_RETRY_H

#include <stdint.h>

#include "common/base/clock.h"

struct conf_domain;
struct conf_times;

/* Milliseconds after the failure number `position` (from 0) of a site. */
msec_t retry_site_delay(const struct conf_times *after, uint32_t position);
msec_t retry_dns_delay(const struct conf_domain *set);
/*
 * After a recipient's transient reply: the step of `after`, or retry-recipients-after if that is longer. attempts counts
 * this one, so it is at least 1.
 */
msec_t retry_recipient_delay(const struct conf_domain *set, const struct conf_times *after,
			     uint32_t attempts);
/* When mail received then is too old; UINT64_MAX = never. */
msec_t retry_expiry(const struct conf_domain *set, msec_t received);

#endif
