/*
 * commit_rings.c - what the workers reported: read in ring order, applied, positions stored with it.
 */
#include "spooler/commit_private.h"

#include <stdlib.h>

#include "common/base/fd.h"

#define TURN_OUTCOMES 256 /* of one ring before the next has its turn */

static struct spool_key ring_key(uint32_t slot)
{
	struct spool_key k = key_name(slice_str(STATE_RING));

	spool_key_u32(&k, slot);
	return k;
}

static int forget_positions(struct commit *c, const struct spool_key *keys, size_t n)
{
	struct spool_write *w;
	size_t i;
	int rc;

	if (n == 0)
		return 0;
	rc = spool_write_begin(c->spool, &w);
	if (rc < 0)
		return rc;
	for (i = 0; rc == 0 && i < n; i++)
		rc = write_delete(w, SPOOL_STATE, &keys[i]);
	if (rc < 0) {
		spool_write_abort(w);
		return rc;
	}
	return spool_write_commit(w);
}

/*
 * A spooler died between a commit and saying so. No worker starts while there is none: the ring that is
 * there is the one that the position belongs to, or its forkno is another.
 */
static void repair_committed(struct commit *c, uint32_t slot)
{
	const struct commit_ring *at = &c->rings[slot];
	struct shm_ring *ring = shm_ring(c->shm, slot);

	if (atomic_load(&shm_worker(c->shm, slot)->forkno) == at->forkno &&
	    ring_position(ring) >= at->committed && ring_committed(ring) < at->committed)
		ring_set_committed(ring, at->committed);
}

/* Positions of other families mean nothing any more: their rings died with them. */
int rings_load(struct commit *c)
{
	uint32_t slots = shm_max_workers(c->shm);
	struct spool_key *old = NULL;
	struct slice prefix = slice_str(STATE_RING), name = slice_of("", 0), v;
	struct spool_read *r;
	size_t old_count = 0;
	int rc = spool_read_begin(c->spool, &r);

	if (rc < 0)
		return rc;
	c->rings = xcalloc(slots, sizeof(*c->rings));
	while ((rc = spool_state_next(r, prefix, name, &name, &v)) > 0) {
		struct spool_ring_position p;
		uint32_t slot = name.n == prefix.n + 4 ? be32_get(name.p + prefix.n) : UINT32_MAX;

		if (slot < slots && row_ring_decode(v, &p) == 0 && p.family == c->o.family) {
			c->rings[slot] = (struct commit_ring){.known = true,
							      .forkno = p.forkno,
							      .committed = p.position,
							      .next = p.position};
			repair_committed(c, slot);
			continue;
		}
		old = xreallocarray(old, old_count + 1, sizeof(*old));
		old[old_count++] = key_name(name);
	}
	spool_read_end(r);
	if (rc == 0)
		rc = forget_positions(c, old, old_count);
	free(old);
	return rc;
}

/* The ring of a slot in use, and how far it has been applied; NULL: nothing to read there. */
static struct shm_ring *ring_of(struct commit *c, uint32_t slot, struct commit_ring **ret)
{
	struct shm_worker *w = shm_worker(c->shm, slot);
	uint32_t forkno = atomic_load(&w->forkno);
	struct commit_ring *at = &c->rings[slot];
	struct shm_ring *ring;

	if (forkno == 0 || at->drained == forkno || atomic_load(&w->state) == SHM_WORKER_FREE)
		return NULL;
	ring = shm_ring(c->shm, slot);
	if (!at->known || at->forkno != forkno)
		*at = (struct commit_ring){.known = true, .forkno = forkno};
	*ret = at;
	return ring;
}

static struct commit_vmta *vmta_of_slot(struct commit *c, uint32_t slot)
{
	const struct shm_worker *w = shm_worker(c->shm, slot);
	struct commit_vmta *v = NULL;

	if (cache_vmta_by_name(c, slice_str(w->vmta), &v) < 0)
		return NULL;
	return v;
}

/* ERR_CORRUPT: the report cannot be read; other errors fail the transaction. */
static int apply(struct commit *c, uint32_t slot, uint8_t type, struct slice payload)
{
	union {
		struct report_transaction transaction;
		struct report_site site;
		struct report_park park;
		struct report_wake wake;
		struct report_order_ack ack;
		struct report_reroute reroute;
		struct report_move move;
		struct report_warmup warmup;
		struct report_notice notice;
		struct report_member member;
	} u;
	struct commit_vmta *v;
	int rc;

	switch (type) {
	case REPORT_TRANSACTION:
		rc = report_transaction_decode(payload, &c->scratch, &u.transaction);
		if (rc < 0)
			return rc;
		c->result.outcomes += u.transaction.outcome_count;
		v = u.transaction.warmup_day ? vmta_of_slot(c, slot) : NULL;
		rc = v ? count_warmup(c, v, &u.transaction) : 0;
		return rc < 0 ? rc : apply_transaction(c, &u.transaction);
	case REPORT_SITE:
		rc = report_site_decode(payload, &u.site);
		v = vmta_of_slot(c, slot);
		return rc < 0 ? rc : v ? apply_site(c, v, &u.site) : ERR_SYS;
	case REPORT_PARK:
		rc = report_park_decode(payload, &c->scratch, &u.park);
		if (rc < 0)
			return rc;
		c->result.outcomes += u.park.item_count;
		return apply_park(c, &u.park);
	case REPORT_WAKE:
		rc = report_wake_decode(payload, &u.wake);
		return rc < 0 ? rc : apply_wake(c, &u.wake);
	case REPORT_MEMBER:
		rc = report_member_decode(payload, &u.member);
		return rc < 0 ? rc : apply_member(c, &u.member);
	case REPORT_ORDER_ACK:
		rc = report_order_ack_decode(payload, &c->scratch, &u.ack);
		if (rc == 0)
			standing_ack(c, slot, &u.ack);
		return rc;
	case REPORT_REROUTE:
		rc = report_reroute_decode(payload, &u.reroute);
		return rc < 0 ? rc : apply_reroute(c, &u.reroute);
	case REPORT_MOVE:
		rc = report_move_decode(payload, &c->scratch, &u.move);
		if (rc < 0)
			return rc;
		c->result.outcomes += u.move.item_count;
		return apply_move(c, &u.move);
	case REPORT_WARMUP:
		rc = report_warmup_decode(payload, &u.warmup);
		v = vmta_of_slot(c, slot);
		return rc < 0 ? rc : v ? apply_warmup(c, v, &u.warmup) : ERR_SYS;
	case REPORT_NOTICE:
		rc = report_notice_decode(payload, &u.notice);
		return rc < 0 ? rc : apply_notice(c, &u.notice);
	default:
		return ERR_CORRUPT;
	}
}

/* Master has emptied the slot, or has given it to a new worker: what was read in its ring is nothing. */
static bool is_over(struct commit *c, uint32_t slot, const struct commit_ring *at)
{
	const struct shm_worker *w = shm_worker(c->shm, slot);

	return atomic_load(&w->state) == SHM_WORKER_FREE || atomic_load(&w->forkno) != at->forkno;
}

/* Applies at most TURN_OUTCOMES outcomes of a ring. 1 = there is more, 0 = empty, negative err. */
static int collect_ring(struct commit *c, uint32_t slot, struct shm_ring *ring,
			struct commit_ring *at)
{
	unsigned until = c->result.outcomes + TURN_OUTCOMES, reports = 0;

	while (c->result.outcomes < until && reports++ < TURN_OUTCOMES) {
		struct slice payload;
		uint64_t before = at->next;
		uint8_t type = 0;
		int rc = ring_next(ring, &at->next, &type, &payload);

		if (rc == ERR_CORRUPT && is_over(c, slot, at)) {
			at->next = before;
			return 0;
		}
		if (rc == 0)
			return 0;
		c->result.wrote = true;
		c->result.reports++;
		if (rc == 1)
			rc = apply(c, slot, type, payload);
		if (rc == ERR_CORRUPT && c->o.bad_report)
			c->o.bad_report(c->o.arg, slot, at->forkno, before, type, payload,
					"a record cannot be read");
		else if (rc < 0 && rc != ERR_CORRUPT)
			return rc;
	}
	return 1;
}

int rings_collect(struct commit *c)
{
	uint32_t n = shm_workers_used(c->shm), i;
	bool more = true;

	while (more && c->result.outcomes < COMMIT_OUTCOMES &&
	       c->result.reports < COMMIT_OUTCOMES) {
		more = false;
		for (i = 0; i < n; i++) {
			uint32_t slot = (c->ring_turn + i) % n;
			struct commit_ring *at;
			struct shm_ring *ring = ring_of(c, slot, &at);
			int rc = ring ? collect_ring(c, slot, ring, at) : 0;

			if (rc < 0)
				return rc;
			more |= rc > 0;
			if (c->result.outcomes >= COMMIT_OUTCOMES)
				break;
		}
		c->ring_turn = n ? (c->ring_turn + 1) % n : 0;
	}
	c->result.more = more;
	return 0;
}

int rings_store(struct commit *c)
{
	uint32_t n = shm_workers_used(c->shm), slot;

	for (slot = 0; slot < n; slot++) {
		struct commit_ring *at = &c->rings[slot];
		struct spool_ring_position p = {c->o.family, at->forkno, at->next};
		struct spool_key k = ring_key(slot);
		int rc;

		if (!at->known || at->next == at->committed)
			continue;
		buf_clear(&c->value);
		row_ring_encode(&p, &c->value);
		rc = write_put(c->w, SPOOL_STATE, &k, buf_slice(&c->value));
		if (rc < 0)
			return rc;
	}
	return 0;
}

void rings_publish(struct commit *c)
{
	uint32_t n = shm_workers_used(c->shm), slot;

	for (slot = 0; slot < n; slot++) {
		struct commit_ring *at = &c->rings[slot];

		if (!at->known || at->next == at->committed)
			continue;
		at->committed = at->next;
		ring_set_committed(shm_ring(c->shm, slot), at->committed);
		if (slot < c->o.bell_count)
			bell_ring(c->o.bells[slot]);
	}
}

void rings_abort(struct commit *c)
{
	uint32_t n = shm_max_workers(c->shm), slot;

	for (slot = 0; slot < n; slot++)
		c->rings[slot].next = c->rings[slot].committed;
}

bool commit_slot_empty(struct commit *c, uint32_t slot, uint32_t forkno)
{
	struct commit_ring *at;
	struct shm_ring *ring;

	if (slot >= shm_max_workers(c->shm) ||
	    atomic_load(&shm_worker(c->shm, slot)->forkno) != forkno)
		return true;
	ring = ring_of(c, slot, &at);
	return !ring || at->next == ring_position(ring);
}

void commit_slot_drained(struct commit *c, uint32_t slot, uint32_t forkno)
{
	struct commit_ring *at = &c->rings[slot];

	/* an answer that was asked for twice: the slot has its next worker already */
	if (slot >= shm_max_workers(c->shm) ||
	    atomic_load(&shm_worker(c->shm, slot)->forkno) != forkno)
		return;
	if (!at->known || at->forkno != forkno)
		*at = (struct commit_ring){.known = true, .forkno = forkno};
	at->drained = forkno;
}
