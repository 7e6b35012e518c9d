#include "common/shm/layout.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/base/log.h"
#include "common/shm/limits_table.h"
#include "common/shm/rates_table.h"

#define DEFAULT_LIMITS 16384
#define DEFAULT_LEASES 4096
#define DEFAULT_RATES 1048576
#define MIN_SHARES 65536
#define MIN_RING (UINT64_C(64) << 10)

static const struct {
	const char *name, *help;
} counters[] = {
#define COUNTER_ROW(id, name, help) {name, help},
	COUNTER_LIST(COUNTER_ROW)
#undef COUNTER_ROW
};

static uint32_t pow2_at_least(uint64_t n)
{
	uint32_t p = 16;

	while (p < n)
		p *= 2;
	return p;
}

/* Takes n bytes of the layout, beginning on a multiple of align; returns where. */
static uint64_t place(uint64_t *end, uint64_t n, uint64_t align)
{
	uint64_t at = (*end + align - 1) & ~(align - 1);

	*end = at + n;
	return at;
}

static void config_check(const struct shm_config *c)
{
	if (c->max_workers < 1 || c->max_workers > 65535)
		fatal("shared memory: max-workers is %" PRIu32 ", give 1 to 65535", c->max_workers);
	if (c->ring_size < MIN_RING || (c->ring_size & (c->ring_size - 1)) ||
	    c->ring_size > UINT64_C(1) << 31)
		fatal("shared memory: outcome-ring-size is %" PRIu64
		      ", give a power of two from 64K to 2G",
		      c->ring_size);
	if (c->max_live_queues < 1 || c->max_live_queues > UINT32_C(1) << 28)
		fatal("shared memory: max-live-queues is %" PRIu32 ", give 1 to 268435456",
		      c->max_live_queues);
	if (c->max_limits > UINT32_C(1) << 24 || c->max_leases > UINT32_C(1) << 24 ||
	    c->max_rates > UINT32_C(1) << 24)
		fatal("shared memory: more than 16 M limits, leases or rates asked for");
}

static void layout_sizes(struct shm *s, const struct shm_config *c)
{
	s->magic = SHM_MAGIC;
	s->version = SHM_LAYOUT_VERSION;
	s->header_size = sizeof(*s);
	s->max_workers = c->max_workers;
	s->ring_size = c->ring_size;
	s->max_live_queues = c->max_live_queues;
	s->queue_slots = pow2_at_least((uint64_t)c->max_live_queues + c->max_live_queues / 7 + 1);
	s->max_limits = c->max_limits ? c->max_limits : DEFAULT_LIMITS;
	s->max_leases = c->max_leases ? c->max_leases : DEFAULT_LEASES;
	s->max_shares = s->max_limits > MIN_SHARES / 4 ? 4 * s->max_limits : MIN_SHARES;
	s->limit_buckets = pow2_at_least(s->max_limits);
	s->share_buckets = pow2_at_least(s->max_shares);
	s->max_rates = c->max_rates ? c->max_rates : DEFAULT_RATES;
	s->rate_buckets = pow2_at_least(s->max_rates);
	s->hint_slots = pow2_at_least(2 * (uint64_t)s->max_workers);
}

static void layout_offsets(struct shm *s)
{
	const uint64_t line = SHM_CACHE_LINE;
	const uint64_t workers = s->max_workers, queues = s->queue_slots;
	uint64_t end = sizeof(*s);

	s->workers_at = place(&end, workers * SHM_WORKER_STRIDE, line);
	s->hints_at = place(&end, s->hint_slots * sizeof(uint32_t), line);
	s->rings_at = place(&end, workers * sizeof(struct shm_ring), line);
	s->queue_pages_at = place(&end, (queues >> SHM_QUEUE_INDEX_PAGE_BITS) + 1, line);
	s->limits_at = place(&end, sizeof(struct limits_table), line);
	s->limit_workers_at = place(&end, workers * sizeof(struct limit_worker), line);
	s->rates_at = place(&end, sizeof(struct rates_table), line);
	s->queue_index_at = place(&end, queues * sizeof(uint32_t), SHM_PAGE);
	s->limit_buckets_at = place(&end, s->limit_buckets * sizeof(uint32_t), SHM_PAGE);
	s->share_buckets_at = place(&end, s->share_buckets * sizeof(uint32_t), SHM_PAGE);
	s->limit_entries_at =
		place(&end, (s->max_limits + UINT64_C(1)) * sizeof(struct limit_entry), SHM_PAGE);
	s->shares_at =
		place(&end, (s->max_shares + UINT64_C(1)) * sizeof(struct limit_share), SHM_PAGE);
	s->rate_buckets_at = place(&end, s->rate_buckets * sizeof(uint32_t), SHM_PAGE);
	s->rate_entries_at =
		place(&end, (s->max_rates + UINT64_C(1)) * sizeof(struct rate_entry), SHM_PAGE);
	s->queues_at = place(&end, queues * SHM_QUEUE_STRIDE, SHM_PAGE);
	s->leases_at = place(&end, workers * (s->max_leases + UINT64_C(1)) * sizeof(struct lease),
			     SHM_PAGE);
	s->ring_data_at = place(&end, workers * s->ring_size, SHM_PAGE);
	s->size = place(&end, 0, SHM_PAGE);
}

static void *map_pages(uint64_t size)
{
	int fd = memfd_create("sluice", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	void *p;

	if (fd < 0)
		fatal("shared memory: memfd_create: %s", strerror(errno));
	if (ftruncate(fd, (off_t)size) < 0)
		fatal("shared memory: cannot make %" PRIu64 " MiB: %s", size >> 20,
		      strerror(errno));
	/* nobody can pull pages from under the family */
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		fatal("shared memory: cannot seal the size: %s", strerror(errno));
	p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
	if (p == MAP_FAILED)
		fatal("shared memory: cannot map %" PRIu64 " MiB: %s; lower max-workers, "
		      "outcome-ring-size or max-live-queues",
		      size >> 20, strerror(errno));
	close(fd);
	return p;
}

struct shm *shm_new(const struct shm_config *c)
{
	struct shm plan, *s;

	config_check(c);
	memset(&plan, 0, sizeof(plan));
	layout_sizes(&plan, c);
	layout_offsets(&plan);
	s = map_pages(plan.size);
	memcpy(s, &plan, sizeof(plan));
	limits_table_init(s);
	rates_table_init(s);
	return s;
}

void shm_free(struct shm *s)
{
	if (!s)
		return;
	invariant(s->magic == SHM_MAGIC && s->version == SHM_LAYOUT_VERSION);
	munmap(s, s->size);
}

void shm_mutex_init(pthread_mutex_t *m)
{
	pthread_mutexattr_t a;

	if (pthread_mutexattr_init(&a) ||
	    pthread_mutexattr_setpshared(&a, PTHREAD_PROCESS_SHARED) ||
	    pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST) || pthread_mutex_init(m, &a))
		fatal("shared memory: this system has no robust mutexes between processes");
	pthread_mutexattr_destroy(&a);
}

void shm_forget(struct shm *s, uint64_t offset, uint64_t n)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	uint64_t from = (offset + page - 1) & ~(page - 1), to = (offset + n) & ~(page - 1);

	/* memory that cannot be given back is only memory: zero it, the meaning stays */
	if (to > from && madvise(shm_at(s, from), to - from, MADV_REMOVE) < 0)
		memset(shm_at(s, from), 0, to - from);
}

uint32_t shm_max_workers(const struct shm *s)
{
	return s->max_workers;
}

uint32_t shm_workers_used(const struct shm *s)
{
	return atomic_load_explicit(&s->workers_used, memory_order_acquire);
}

struct shm_counters *shm_spooler_counters(struct shm *s)
{
	return &s->spooler;
}

struct shm_counters *shm_resolver_counters(struct shm *s)
{
	return &s->resolver;
}

struct shm_signals *shm_signals(struct shm *s)
{
	return &s->signals;
}

const char *counter_name(enum counter k)
{
	return k < COUNTER_COUNT ? counters[k].name : "unknown";
}

const char *counter_help(enum counter k)
{
	return k < COUNTER_COUNT ? counters[k].help : "";
}

static struct shm_worker *worker_at(const struct shm *s, uint32_t slot)
{
	return shm_at(s, s->workers_at + (uint64_t)slot * SHM_WORKER_STRIDE);
}

uint64_t shm_counter_sum(const struct shm *s, enum counter k)
{
	uint64_t sum = atomic_load_explicit(&s->spooler.v[k], memory_order_relaxed) +
		       atomic_load_explicit(&s->resolver.v[k], memory_order_relaxed);
	uint32_t i, n = shm_workers_used(s);

	for (i = 0; i < n; i++)
		sum += atomic_load_explicit(&worker_at(s, i)->counters.v[k], memory_order_relaxed);
	return sum;
}

struct shm_worker *shm_worker(struct shm *s, uint32_t slot)
{
	uint32_t used = shm_workers_used(s);

	invariant(slot < s->max_workers);
	while (used <= slot &&
	       !atomic_compare_exchange_weak_explicit(&s->workers_used, &used, slot + 1,
						      memory_order_acq_rel, memory_order_acquire))
		;
	return worker_at(s, slot);
}

static bool worker_serves(const struct shm *s, uint32_t slot, uint32_t vmta_id)
{
	struct shm_worker *w = worker_at(s, slot);

	if (atomic_load_explicit(&w->vmta_id, memory_order_acquire) != vmta_id)
		return false;
	switch ((enum shm_worker_state)atomic_load_explicit(&w->state, memory_order_acquire)) {
	case SHM_WORKER_STARTING:
	case SHM_WORKER_RUNNING:
	case SHM_WORKER_DRAINING:
		return true;
	case SHM_WORKER_FREE:
	case SHM_WORKER_DEAD:
		break;
	}
	return false;
}

int32_t shm_worker_by_vmta(struct shm *s, uint32_t vmta_id)
{
	_Atomic uint32_t *hints = shm_at(s, s->hints_at);
	_Atomic uint32_t *hint = &hints[vmta_id & (s->hint_slots - 1)];
	uint32_t n = shm_workers_used(s), i;

	if (vmta_id == 0)
		return -1;
	/* the hint is the slot plus one; a wrong one costs a walk over the slots */
	i = atomic_load_explicit(hint, memory_order_relaxed);
	if (i > 0 && i <= n && worker_serves(s, i - 1, vmta_id))
		return (int32_t)(i - 1);
	for (i = 0; i < n; i++) {
		if (worker_serves(s, i, vmta_id)) {
			atomic_store_explicit(hint, i + 1, memory_order_relaxed);
			return (int32_t)i;
		}
	}
	return -1;
}

struct shm_ring *shm_ring(struct shm *s, uint32_t slot)
{
	struct shm_ring *r;

	invariant(slot < s->max_workers);
	r = shm_at(s, s->rings_at + slot * sizeof(*r));
	if (atomic_load_explicit(&r->capacity, memory_order_acquire) == 0) {
		/* every process would write the same */
		atomic_store_explicit(&r->data_from,
				      s->ring_data_at + slot * s->ring_size -
					      (s->rings_at + slot * sizeof(*r)),
				      memory_order_relaxed);
		atomic_store_explicit(&r->capacity, s->ring_size, memory_order_release);
	}
	return r;
}
