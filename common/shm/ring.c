/*
 * A record is a 16-byte head and the payload, padded to 16 bytes, never cut by the end of the ring:
 * where it does not fit, a skip record fills the rest of the lap. Positions only grow; position
 * modulo capacity is the place. The head of the ring moves in one store after everything is
 * written, so a producer that dies while writing leaves nothing to see. The checksum of the record's
 * head covers its position: what an earlier lap left there does not pass.
 */
#include "common/shm/layout.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <zlib.h>

#include "common/base/err.h"
#include "common/base/log.h"

#define RECORD_ALIGN 16

enum record_kind { RECORD_DATA = 0xD5, RECORD_SKIP = 0x5A };

struct record {
	uint32_t length; /* of the payload */
	uint8_t type;
	uint8_t kind;
	uint16_t zero;
	uint32_t payload_crc;
	uint32_t head_crc;
};

static_assert(sizeof(struct record) == RECORD_ALIGN, "records begin on their alignment");

static uint32_t crc_of(const void *p, size_t n)
{
	return (uint32_t)crc32_z(0, p, n);
}

static uint32_t head_crc(const struct record *h, uint64_t pos)
{
	uLong crc = crc32_z(0, (const Bytef *)h, offsetof(struct record, head_crc));

	return (uint32_t)crc32_z(crc, (const Bytef *)&pos, sizeof(pos));
}

uint64_t ring_record(size_t n)
{
	return (sizeof(struct record) + n + RECORD_ALIGN - 1) & ~(uint64_t)(RECORD_ALIGN - 1);
}

static char *data_at(const struct shm_ring *r, uint64_t pos)
{
	uint64_t from = atomic_load_explicit(&r->data_from, memory_order_relaxed);

	return (char *)((uintptr_t)r + from + (pos & (ring_capacity(r) - 1)));
}

/* Bytes from pos to the end of its lap. */
static uint64_t lap_left(const struct shm_ring *r, uint64_t pos)
{
	uint64_t cap = ring_capacity(r);

	return cap - (pos & (cap - 1));
}

uint64_t ring_cost(size_t n)
{
	return 2 * ring_record(n);
}

uint64_t ring_capacity(const struct shm_ring *r)
{
	return atomic_load_explicit(&r->capacity, memory_order_acquire);
}

uint64_t ring_position(const struct shm_ring *r)
{
	return atomic_load_explicit(&r->head, memory_order_acquire);
}

uint64_t ring_committed(const struct shm_ring *r)
{
	return atomic_load_explicit(&r->committed, memory_order_acquire);
}

uint64_t ring_room(const struct shm_ring *r)
{
	uint64_t used = ring_position(r) - ring_committed(r), cap = ring_capacity(r);

	return used < cap ? cap - used : 0;
}

static void record_write(struct shm_ring *r, uint64_t pos, enum record_kind kind, uint8_t type,
			 const void *p, size_t n)
{
	char *at = data_at(r, pos);
	struct record h = {.length = (uint32_t)n, .type = type, .kind = (uint8_t)kind};

	if (kind == RECORD_DATA) {
		h.payload_crc = crc_of(p, n);
		if (n)
			memcpy(at + sizeof(h), p, n);
	}
	h.head_crc = head_crc(&h, pos);
	memcpy(at, &h, sizeof(h));
}

bool ring_put(struct shm_ring *r, uint8_t type, const void *p, size_t n)
{
	uint64_t pos = ring_position(r), left = lap_left(r, pos), size = ring_record(n);
	uint64_t skip = size > left ? left : 0;

	if (n > ring_capacity(r) || skip + size > ring_room(r))
		return false;
	if (skip)
		record_write(r, pos, RECORD_SKIP, 0, NULL, skip - sizeof(struct record));
	record_write(r, pos + skip, RECORD_DATA, type, p, n);
	atomic_store_explicit(&r->head, pos + skip + size, memory_order_release);
	return true;
}

void ring_reset(struct shm_ring *r)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	uintptr_t from = (uintptr_t)data_at(r, 0), to = from + ring_capacity(r);

	atomic_store_explicit(&r->committed, 0, memory_order_relaxed);
	atomic_store_explicit(&r->head, 0, memory_order_release);
	/* old bytes fail the checksum anyway; this only gives the memory back */
	from = (from + page - 1) & ~(uintptr_t)(page - 1);
	to &= ~(uintptr_t)(page - 1);
	if (to > from && madvise((void *)from, to - from, MADV_REMOVE) < 0)
		return;
}

/* Sets everything up to the end of the lap aside: records begin anew there. */
static int bad_head(const struct shm_ring *r, uint64_t *pos, uint64_t avail, struct slice *ret)
{
	uint64_t left = lap_left(r, *pos), n = avail < left ? avail : left;

	*ret = slice_of(data_at(r, *pos), n);
	*pos += n;
	return ERR_CORRUPT;
}

int ring_next(struct shm_ring *r, uint64_t *pos, uint8_t *ret_type, struct slice *ret_payload)
{
	for (;;) {
		uint64_t head = ring_position(r), avail = head - *pos, size;
		struct record h;

		if (avail == 0)
			return 0;
		if (*pos % RECORD_ALIGN || avail > ring_capacity(r)) {
			/* nothing there can be trusted, not even where a record begins */
			*ret_payload = slice_of("", 0);
			*pos = head;
			return ERR_CORRUPT;
		}
		if (avail < sizeof(h))
			return bad_head(r, pos, avail, ret_payload);
		memcpy(&h, data_at(r, *pos), sizeof(h));
		size = ring_record(h.length);
		if (h.head_crc != head_crc(&h, *pos) || size > avail || size > lap_left(r, *pos) ||
		    (h.kind != RECORD_DATA && h.kind != RECORD_SKIP))
			return bad_head(r, pos, avail, ret_payload);
		*pos += size;
		if (h.kind == RECORD_SKIP)
			continue;
		*ret_type = h.type;
		*ret_payload = slice_of(data_at(r, *pos - size) + sizeof(h), h.length);
		return crc_of(ret_payload->p, h.length) == h.payload_crc ? 1 : ERR_CORRUPT;
	}
}

void ring_set_committed(struct shm_ring *r, uint64_t pos)
{
	atomic_store_explicit(&r->committed, pos, memory_order_release);
}
