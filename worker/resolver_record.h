/*
 * resolver_record.h - answers to single questions (name, type): CNAMEs followed, kept in memory by
 * TTL, equal questions in flight merged.
 */
#ifndef SLUICE_WORKER_RESOLVER_RECORD_H
#define SLUICE_WORKER_RESOLVER_RECORD_H

#include "common/dns/dns.h"
#include "worker/resolver_packet.h"
#include "worker/resolver_upstream.h"

struct record {
	unsigned refs;
	enum dns_status status; /* DNS_OK, DNS_NO_HOST (no such type), DNS_NXDOMAIN, DNS_TEMPFAIL,
				   DNS_LOOP */
	bool secure;
	usec_t expires; /* by loop_now() */
	char *text; /* why not, or what was ignored; "" */
	char *server; /* who answered */
	struct packet_mx *mx;
	size_t mx_count;
	struct ip *addrs;
	size_t addr_count;
};

struct records;

/* At most max records are kept; the oldest go first. upstream is borrowed. */
struct records *records_new(struct loop *l, struct upstream *upstream, size_t max);
void records_free(struct records *rs); /* questions in flight are dropped without a call */
void records_configure(struct records *rs, usec_t negative_ttl_max);

/*
 * Asks; the callback gets a record that lives during the call (record_ref() to keep it), at once
 * when it is known, else later. fresh: not from memory, and by another server than avoid.
 */
typedef void record_cb(struct record *r, void *arg);
void records_ask(struct records *rs, const char *name, enum packet_type type, bool fresh,
		 const char *avoid, record_cb *cb, void *arg);
/* Forgets what is known about a name; NULL: everything. */
void records_forget(struct records *rs, const char *name);

struct record *record_ref(struct record *r);
void record_unref(struct record *r); /* NULL is fine */

#endif
