/*
 * fake_net.h - a world without sockets and without real time, for replay tests.
 *
 * fake_loop.c and fake_stream.c have the functions of common/loop/loop.h and stream.h; fake_dns.c those
 * of the client in common/dns/dns.h. Code under test is linked against these instead. Time only moves when nothing is left to do: to
 * the next timer. So a retry schedule of days runs in milliseconds, and always the same way.
 */
#ifndef SLUICE_TESTS_REPLAY_FAKE_NET_H
#define SLUICE_TESTS_REPLAY_FAKE_NET_H

#include <stdbool.h>

#include "common/base/clock.h"
#include "common/base/ip.h"
#include "common/base/slice.h"
#include "common/dns/dns.h"
#include "common/loop/loop.h"

/* --- time and loop --- */

/* Sets both clocks; to be called first in each test. */
void fake_time_start(msec_t wall);
/* Microseconds since fake_time_start(). */
usec_t fake_elapsed(void);
/* Wall time jumps by this many seconds, monotonic time does not. */
void fake_wall_jump(int64_t seconds);
/* Runs after every turn of every loop (the committer of the world); true = it did something. */
void fake_loop_hook(bool (*hook)(void *arg), void *arg);
/* Calls cb at this time (fake_elapsed()), between two turns of the loop. */
void fake_at(usec_t elapsed, void (*cb)(void *arg), void *arg);
/* loop_run() returns once this much time has passed since fake_time_start(). */
void fake_loop_until(usec_t elapsed);
/* … or when this says so (asked after each turn); NULL: never. */
void fake_loop_until_true(bool (*cond)(void *arg), void *arg);

/* --- the other side of a connection --- */

struct fake_peer;

struct fake_service {
	void (*on_open)(struct fake_peer *p, void *arg);
	void (*on_data)(struct fake_peer *p, struct slice data, void *arg);
	void (*on_close)(struct fake_peer *p, bool aborted, void *arg); /* by the code under test */
};

enum fake_host_state {
	FAKE_LISTENING,
	FAKE_REFUSING,
	FAKE_SILENT /* connects hang until the time-out */
};

/* ip:port is in this state; service and arg for FAKE_LISTENING (borrowed). Addresses never named refuse. */
void fake_host(const char *ip, uint16_t port, enum fake_host_state state,
	       const struct fake_service *service, void *arg);
/* One-way delay of all connections from now on (default 1 ms). */
void fake_latency(usec_t one_way);

void *fake_peer_state(struct fake_peer *p);
void fake_peer_set_state(struct fake_peer *p, void *state);
const struct ip *fake_peer_source(const struct fake_peer *p); /* IP_NONE: not bound */
const struct ip *fake_peer_dest(const struct fake_peer *p);
void fake_peer_send(struct fake_peer *p, const char *text);
void fake_peer_send_after(struct fake_peer *p, const char *text, usec_t delay);
void fake_peer_close(struct fake_peer *p); /* after what was sent */
/* The next STARTTLS handshake on this connection fails (default: succeeds). */
void fake_peer_fail_tls(struct fake_peer *p);
bool fake_peer_is_tls(const struct fake_peer *p);
/* Connections open now, at all hosts. */
unsigned fake_open_connections(void);
void fake_net_reset(void);

/* --- DNS --- */

/* domain has these mail hosts: "10 mx1.example 192.0.2.1,192.0.2.2; 20 mx2.example" (this one without an address). */
void fake_dns_mx(const char *domain, const char *hosts);
/* No MX, but addresses: "192.0.2.1"; or none: "". */
void fake_dns_address(const char *domain, const char *addrs);
void fake_dns_status(const char *domain, enum dns_status status, const char *text);
/* Every domain not named has this answer: same forms, NULL = NXDOMAIN. */
void fake_dns_default(const char *hosts);
unsigned fake_dns_lookups(const char *domain);
void fake_dns_reset(void);

#endif
