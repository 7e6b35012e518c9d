/*
 * cache_private.h - the layout of dns.mdb, shared by cache.c (reader) and cache_writer.c.
 *
 * Table "routes": dns_key() -> encoded route. Table "expiry": time of expiry (8 bytes, big-endian)
 * and the key of the route -> nothing; so the first row is what goes first.
 */
#ifndef SLUICE_DNS_CACHE_PRIVATE_H
#define SLUICE_DNS_CACHE_PRIVATE_H

#include <lmdb.h>

#include "common/dns/cache.h"

#define DNS_CACHE_ROUTES "routes"
#define DNS_CACHE_EXPIRY "expiry"

int dns_cache_fetch(MDB_txn *txn, MDB_dbi routes, struct slice domain, bool host_only, msec_t wall,
		    struct dns_route **ret) WARN_UNUSED;

#endif
