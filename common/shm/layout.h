/*
 * layout.h - how the shared memory is laid out. Private to common/shm.
 *
 * One mapping: header, worker slots, hints, ring heads, queue index, limit table, then the big sparse
 * arrays (queue slots, leases, ring data), each beginning on a page. Offsets count from the header.
 * Zeroed memory is the valid first state of everything behind the header: nothing is touched at the
 * start, so that what is not used costs nothing. Indices stored here are 1-based, 0 means none.
 */
#ifndef SLUICE_SHM_LAYOUT_H
#define SLUICE_SHM_LAYOUT_H

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

#include "common/shm/shm.h"

#define SHM_MAGIC UINT64_C(0x534c554943453031) /* "SLUICE01" */
#define SHM_LAYOUT_VERSION 2
#define SHM_CACHE_LINE 64
#define SHM_PAGE UINT64_C(4096)

#define SHM_WORKER_STRIDE ((sizeof(struct shm_worker) + 63) & ~(size_t)63)
#define SHM_QUEUE_STRIDE 256
#define SHM_QUEUE_GROUP_BITS 4 /* 16 queues with neighbouring ids lie in one page */
#define SHM_QUEUE_INDEX_PAGE_BITS 10 /* 1024 ids in one page of the index */
#define SHM_QUEUE_DELETED UINT32_MAX

struct shm {
	uint64_t magic;
	uint32_t version;
	uint32_t header_size;
	uint64_t size; /* of the whole mapping */

	uint32_t max_workers;
	uint32_t max_live_queues;
	uint32_t queue_slots; /* a power of two, more than max_live_queues */
	uint32_t max_limits;
	uint32_t max_leases;
	uint32_t max_shares;
	uint32_t limit_buckets; /* powers of two */
	uint32_t share_buckets;
	uint32_t max_rates;
	uint32_t rate_buckets;
	uint32_t hint_slots;
	uint64_t ring_size;

	uint64_t workers_at;
	uint64_t hints_at;
	uint64_t rings_at;
	uint64_t queue_pages_at; /* one byte for each page of the queue index: was it ever used */
	uint64_t queue_index_at;
	uint64_t limits_at;
	uint64_t limit_workers_at;
	uint64_t limit_buckets_at;
	uint64_t share_buckets_at;
	uint64_t limit_entries_at;
	uint64_t shares_at;
	uint64_t rates_at;
	uint64_t rate_buckets_at;
	uint64_t rate_entries_at;
	uint64_t queues_at;
	uint64_t leases_at;
	uint64_t ring_data_at;

	_Alignas(SHM_CACHE_LINE) _Atomic uint32_t
		workers_used; /* one more than the highest slot asked for */
	_Alignas(SHM_CACHE_LINE) _Atomic uint32_t live_queues; /* committer */
	_Alignas(SHM_CACHE_LINE) struct shm_signals signals;
	_Alignas(SHM_CACHE_LINE) struct shm_counters spooler;
	_Alignas(SHM_CACHE_LINE) struct shm_counters resolver;
};

/* Each position has a cache line with its only writer. */
struct shm_ring {
	_Atomic uint64_t capacity; /* written at the first use; then constant, as is data_from */
	_Atomic uint64_t data_from; /* bytes from here to the data */
	_Alignas(SHM_CACHE_LINE) _Atomic uint64_t head; /* producer: behind the last whole record */
	_Alignas(SHM_CACHE_LINE) _Atomic uint64_t committed; /* consumer */
};

static_assert(ATOMIC_LLONG_LOCK_FREE == 2, "64-bit atomics must be lock-free between processes");
static_assert(ATOMIC_INT_LOCK_FREE == 2, "32-bit atomics must be lock-free between processes");
static_assert(sizeof(_Atomic uint64_t) == 8 && sizeof(_Atomic uint32_t) == 4,
	      "atomics have no lock inside");
static_assert(sizeof(struct shm_queue) <= SHM_QUEUE_STRIDE, "a queue slot fits its stride");
static_assert(SHM_PAGE % SHM_QUEUE_STRIDE == 0, "queue slots do not straddle pages");
static_assert(SHM_QUEUE_STRIDE << SHM_QUEUE_GROUP_BITS == SHM_PAGE, "a group of queues is a page");
static_assert(sizeof(struct shm_ring) == (size_t)3 * SHM_CACHE_LINE, "ring head");
static_assert(sizeof(struct shm) % SHM_CACHE_LINE == 0, "header ends on a cache line");
static_assert(sizeof(struct shm_counters) == 8 * COUNTER_COUNT, "counters are dense");

/* The mapping is writable in every process; const in the interface says only who may ask. */
static inline void *shm_at(const struct shm *s, uint64_t offset)
{
	return (void *)((uintptr_t)s + offset);
}

/* One between processes; who locks it after a process died holding it gets EOWNERDEAD. */
void shm_mutex_init(pthread_mutex_t *m);
/* Gives the memory of whole pages inside [offset, offset+n) back; they read as zero afterwards. */
void shm_forget(struct shm *s, uint64_t offset, uint64_t n);

#endif
