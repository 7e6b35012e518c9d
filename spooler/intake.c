#include "spooler/intake.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "common/base/fd.h"
#include "common/base/xalloc.h"

struct intake {
	pthread_mutex_t lock; /* of the list */
	struct intake_message *first, **last;
	int bell;
	_Atomic uint64_t msgid; /* the last one given out */
	_Atomic int64_t memory; /* bytes of bodies held */
	_Atomic uint64_t memory_max;
	_Atomic uint64_t room; /* bytes that still fit into the spool */
	_Atomic(const char *) refusal;
};

struct intake *intake_new(int bell, uint64_t above_msgid)
{
	struct intake *in = xcalloc(1, sizeof(*in));

	pthread_mutex_init(&in->lock, NULL);
	in->last = &in->first;
	in->bell = bell;
	in->msgid = above_msgid;
	in->memory_max = UINT64_MAX;
	in->room = UINT64_MAX;
	return in;
}

void intake_free(struct intake *in)
{
	if (!in)
		return;
	pthread_mutex_destroy(&in->lock);
	free(in);
}

void intake_post(struct intake *in, struct intake_message *m)
{
	m->next = NULL;
	pthread_mutex_lock(&in->lock);
	*in->last = m;
	in->last = &m->next;
	pthread_mutex_unlock(&in->lock);
	bell_ring(in->bell);
}

struct intake_message *intake_take(struct intake *in)
{
	struct intake_message *list;

	pthread_mutex_lock(&in->lock);
	list = in->first;
	in->first = NULL;
	in->last = &in->first;
	pthread_mutex_unlock(&in->lock);
	return list;
}

uint64_t intake_next_msgid(struct intake *in)
{
	uint64_t now = clock_wall_usec(), last = atomic_load(&in->msgid), next;

	do
		next = now > last ? now : last + 1;
	while (!atomic_compare_exchange_weak(&in->msgid, &last, next));
	return next;
}

bool intake_admit(struct intake *in, const char **ret_text)
{
	const char *why = atomic_load(&in->refusal);

	if (why)
		*ret_text = why;
	return !why;
}

bool intake_has_room(struct intake *in, uint64_t bytes)
{
	return bytes <= atomic_load(&in->room);
}

void intake_set_room(struct intake *in, uint64_t bytes)
{
	atomic_store(&in->room, bytes);
}

bool intake_memory(struct intake *in, int64_t n)
{
	int64_t before = atomic_fetch_add(&in->memory, n);

	if (n <= 0 || (uint64_t)(before + n) <= atomic_load(&in->memory_max))
		return true;
	atomic_fetch_sub(&in->memory, n);
	return false;
}

void intake_set_refusal(struct intake *in, const char *why)
{
	atomic_store(&in->refusal, why);
}

void intake_set_memory_max(struct intake *in, uint64_t bytes)
{
	atomic_store(&in->memory_max, bytes < INT64_MAX ? bytes : INT64_MAX);
}
