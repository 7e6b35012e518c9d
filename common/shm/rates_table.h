/*
 * rates_table.h - the table behind rates.h. Private to common/shm and its tests.
 *
 * The truth is in the entries (used, key, clock): chains are made again from that when a process died
 * holding the mutex. So an entry is filled before it is marked as used, and a clock is one store.
 * Indices are 1-based, 0 is none.
 */
#ifndef SLUICE_SHM_RATES_TABLE_H
#define SLUICE_SHM_RATES_TABLE_H

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

#include "common/base/clock.h"
#include "common/shm/rates.h"

#define RATE_NSEC UINT64_C(1000) /* in a µs */
#define RATE_IDLE_NSEC (600 * USEC_PER_SEC * RATE_NSEC)
#define RATE_TURN_NSEC (50 * USEC_PER_MSEC * RATE_NSEC)
#define RATE_WAITERS 7 /* in line; more are as quick as they are */
#define RATE_ROW_STAYS_NSEC (60 * USEC_PER_SEC * RATE_NSEC) /* after its clock has passed */
#define RATE_COST_MAX (UINT64_C(1) << 60) /* ns: no clock is further ahead (36 years) */

struct rates_table {
	pthread_mutex_t mutex;
	uint32_t high, free; /* highest index ever used; head of the free ones */
	uint32_t begun; /* rates_begin() was called */
	uint32_t unclean;
	uint64_t began; /* ns */
	uint32_t swept; /* up to here idle entries were looked for */
	_Alignas(64) _Atomic uint64_t moves;
};

struct rate_entry {
	char name[RATE_NAME_MAX];
	uint16_t name_n;
	uint8_t scope, measure;
	uint8_t used;
	uint8_t loaded; /* from the spool, after an unclean end, and not yet asked for */
	uint32_t hash;
	uint32_t chain; /* next in its bucket, or next free */
	uint32_t conf_gen;
	uint64_t n;
	uint64_t per; /* µs */
	_Atomic uint64_t clock; /* ns */
	uint64_t saved; /* clock as its row says; 0 = no row; 1 = not that */
	uint64_t asked; /* ns: last use, for reuse */
	uint64_t waiting[RATE_WAITERS]; /* who found it closed, first come first served */
	uint64_t turn_until; /* ns: until then only the first of them may take */
	uint32_t waiters;
};
static_assert(sizeof(struct rate_entry) % 8 == 0, "entries are aligned in their array");

void rates_table_init(struct shm *s);

/* What k tokens move a clock of this rate on by, in ns. */
uint64_t rate_cost(enum rate_measure m, uint64_t n, usec_t per, uint64_t k);

#endif
