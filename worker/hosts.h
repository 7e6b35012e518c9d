/*
 * hosts.h - what this worker remembers of remote hosts, whichever site found it out: addresses that
 * answered (an hour: mail to them is no risk), that did not answer (a minute, so that 100 queues do not all wait for the same connect timeout) and
 * hosts whose TLS handshake failed (an hour, in which opportunistic TLS is not tried).
 *
 * Bounded; what is forgotten early costs one more try, nothing else.
 */
#ifndef SLUICE_WORKER_HOSTS_H
#define SLUICE_WORKER_HOSTS_H

#include <stdbool.h>

#include "common/base/clock.h"
#include "common/base/ip.h"

struct hosts;
struct loop;

struct hosts *hosts_new(struct loop *l);
void hosts_free(struct hosts *h);

void hosts_unreachable(struct hosts *h, const struct ip *ip, uint16_t port, usec_t how_long);
/* Whether it has been unreachable lately, and that was found out later than `since`. */
bool hosts_is_unreachable(struct hosts *h, const struct ip *ip, uint16_t port, usec_t since);
/* It has answered. */
void hosts_reachable(struct hosts *h, const struct ip *ip, uint16_t port);
/* Whether it has answered within the last hour, after `since`, and not been unreachable after that. */
bool hosts_is_reached(struct hosts *h, const struct ip *ip, uint16_t port, usec_t since);
void hosts_no_tls(struct hosts *h, const struct ip *ip, uint16_t port);
bool hosts_has_no_tls(struct hosts *h, const struct ip *ip, uint16_t port);
/* Drops what has run out. */
void hosts_tidy(struct hosts *h);

#endif
