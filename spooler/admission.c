#include "spooler/admission.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/log.h"
#include "common/base/xalloc.h"

#define MAP_RESERVE (UINT64_C(64) << 20) /* of the map, kept for outcomes; at most 1/16 of it */

#define LOOK_STEP (UINT64_C(16) << 20) /* new bytes after which limits are looked at again */
#define LOOK_SHARE 4 /* ... or this part of the room that was left */

struct admission {
	struct spool *spool;
	struct shm *shm;
	struct intake *intake;
	uint64_t max_size, min_free;
	uint64_t looked; /* live bytes at the last look */
	uint64_t step; /* more than `looked` by this: look again */
	bool known;
	const char *refusal; /* what sessions say; NULL: mail is welcome */
};

struct admission *admission_new(struct spool *spool, struct shm *shm, struct intake *in)
{
	struct admission *a = xcalloc(1, sizeof(*a));

	a->spool = spool;
	a->shm = shm;
	a->intake = in;
	a->step = LOOK_STEP;
	return a;
}

void admission_free(struct admission *a)
{
	free(a);
}

void admission_set_conf(struct admission *a, const struct conf *conf)
{
	a->max_size = conf_global(conf)->spool_max_size;
	a->min_free = conf_global(conf)->min_free_space;
	intake_set_memory_max(a->intake, conf_global(conf)->max_body_memory);
}

/* `have` is at least `need`; while mail is refused it must be 5 % more. */
static bool enough(const struct admission *a, uint64_t have, uint64_t need)
{
	return have >= need + (a->refusal ? need / 20 : 0);
}

static const char *decide(const struct admission *a, const struct spool_stat *st, uint64_t live,
			  char *why, size_t n)
{
	uint64_t disk = st->disk_free + st->reusable;
	uint64_t map = st->map_size - st->map_used + st->reusable;
	uint64_t reserve = st->map_size / 16 < MAP_RESERVE ? st->map_size / 16 : MAP_RESERVE;
	uint64_t max = a->max_size - (a->refusal ? a->max_size / 20 : 0);

	if (!enough(a, disk, a->min_free)) {
		snprintf(why, n, "disk: %" PRIu64 " MB free, min-free-space is %" PRIu64 " MB",
			 disk >> 20, a->min_free >> 20);
		return "disk: too little free space";
	}
	if (a->max_size != UINT64_MAX && live >= max) {
		snprintf(why, n, "spool: %" PRIu64 " MB, spool-max-size is %" PRIu64 " MB",
			 live >> 20, a->max_size >> 20);
		return "spool: full";
	}
	if (!enough(a, map, reserve)) {
		snprintf(why, n, "spool: %" PRIu64 " MB left in its map", map >> 20);
		return "spool: full";
	}
	return NULL;
}

/* How large a message may be now. */
static uint64_t room_left(const struct admission *a, const struct spool_stat *st, uint64_t live)
{
	uint64_t disk = st->disk_free + st->reusable;
	uint64_t map = st->map_size - st->map_used + st->reusable;
	uint64_t room = disk > a->min_free ? disk - a->min_free : 0;

	if (map < room)
		room = map;
	if (a->max_size != UINT64_MAX && (live >= a->max_size || a->max_size - live < room))
		room = live < a->max_size ? a->max_size - live : 0;
	return room;
}

/* A fast disk fills up in less than the second between two looks: nearer the limit they are closer. */
static uint64_t next_step(const struct admission *a, const struct spool_stat *st)
{
	uint64_t disk = st->disk_free + st->reusable;
	uint64_t room = disk > a->min_free ? disk - a->min_free : 0;

	return room / LOOK_SHARE < LOOK_STEP ? room / LOOK_SHARE : LOOK_STEP;
}

static void publish(struct admission *a, const char *refusal, const char *why)
{
	struct shm_signals *sig = shm_signals(a->shm);

	if (a->known && refusal == a->refusal && !refusal)
		return;
	if (refusal && (!a->refusal || !a->known))
		log_error(NULL, "new mail is refused", LOG_S("why", why));
	else if (!refusal && a->refusal)
		log_info(NULL, "new mail is accepted again");
	a->known = true;
	a->refusal = refusal;
	slice_copy(slice_str(refusal ? why : ""), sig->why_not, sizeof(sig->why_not));
	atomic_store(&sig->accepting, refusal ? 0 : 1);
	intake_set_refusal(a->intake, refusal);
}

void admission_look(struct admission *a, uint64_t live_bytes)
{
	struct spool_stat st;
	struct spool_read *r;
	char why[120] = "";
	int rc;

	a->looked = live_bytes;
	if (spool_read_begin(a->spool, &r) < 0)
		return;
	rc = spool_stat(r, &st);
	spool_read_end(r);
	if (rc < 0)
		return;
	a->step = next_step(a, &st);
	intake_set_room(a->intake, room_left(a, &st, live_bytes));
	publish(a, decide(a, &st, live_bytes, why, sizeof(why)), why);
}

void admission_moved(struct admission *a, uint64_t live_bytes)
{
	if (live_bytes >= a->looked + a->step ||
	    (!a->refusal && a->max_size != UINT64_MAX && live_bytes >= a->max_size))
		admission_look(a, live_bytes);
}
