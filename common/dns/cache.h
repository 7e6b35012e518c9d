/*
 * cache.h - RUNTIME-DIR/dns.mdb: answers that workers may use without asking. LMDB, unsynced, made
 * anew by each resolver process, which is its only writer; values as in wire.h.
 *
 * A process has either a writer or readers, never both on one file (LMDB). Readers find out by
 * themselves that the file was replaced. No transaction outlives a call.
 */
#ifndef SLUICE_DNS_CACHE_H
#define SLUICE_DNS_CACHE_H

#include <stddef.h>

#include "common/base/macros.h"
#include "common/dns/dns.h"

#define DNS_CACHE_FILE "dns.mdb"

/* --- workers --- */

struct dns_cache;

/* Nothing is opened before the first look-up. */
struct dns_cache *dns_cache_new(const char *runtime_dir);
void dns_cache_free(struct dns_cache *c);
/* 0 and a route that the caller owns, or ERR_NOT_FOUND (not there, expired, no cache file). */
int dns_cache_get(struct dns_cache *c, struct slice domain, bool host_only, usec_t now, msec_t wall,
		  struct dns_route **ret) WARN_UNUSED;

/* --- the resolver --- */

struct dns_cache_writer;

/*
 * Makes the file anew, at most `size` bytes. NULL with a reason in *ret_error (heap, caller frees).
 * The directory must exist.
 */
struct dns_cache_writer *dns_cache_create(const char *runtime_dir, size_t size, char **ret_error);
void dns_cache_close(struct dns_cache_writer *w);
/* Takes note of a route; it is visible after dns_cache_flush(). */
void dns_cache_put(struct dns_cache_writer *w, struct slice domain, bool host_only,
		   const struct dns_route *r, msec_t expires);
/*
 * Writes what was put since the last time in one transaction and drops some of what has expired;
 * when the file gets full, what expires soonest goes first. ERR_IO: nothing was written.
 */
int dns_cache_flush(struct dns_cache_writer *w, msec_t wall) WARN_UNUSED;
/* As dns_cache_get(), of what has been flushed. */
int dns_cache_peek(struct dns_cache_writer *w, struct slice domain, bool host_only, msec_t wall,
		   struct dns_route **ret) WARN_UNUSED;
/* Drops both answers about a domain; an empty domain: all. Returns how many there were. */
size_t dns_cache_clear(struct dns_cache_writer *w, struct slice domain);
size_t dns_cache_count(struct dns_cache_writer *w);
/* Gives back the reader slots of processes that died. */
void dns_cache_check_readers(struct dns_cache_writer *w);

#endif
