#include "worker/post.h"

#include <stdlib.h>

#include "common/base/fd.h"
#include "common/base/log.h"
#include "common/base/xalloc.h"
#include "worker/context.h"

struct post {
	struct worker *w;
	struct shm_ring *ring;
	struct buf b;
	uint64_t reserved;
	uint64_t margin; /* for reports without reservation */
	uint64_t waste; /* at the end of a lap, at most: the largest that is ever reserved */
	bool bell_due;
};

struct post *post_new(struct worker *w)
{
	struct post *p = xcalloc(1, sizeof(*p));

	p->w = w;
	p->ring = shm_ring(w->shm, w->h->slot);
	p->margin = p->waste = ring_capacity(p->ring) / 8;
	return p;
}

void post_free(struct post *p)
{
	if (!p)
		return;
	buf_done(&p->b);
	free(p);
}

uint64_t post_bound(const struct report_transaction *t, uint32_t n)
{
	return ring_record(report_transaction_bound(t, n));
}

/*
 * Behind the end of a lap the room is short by what was wasted there, until the committer has passed it.
 * Before that the head cannot come to the end of the next lap, so one waste is all that is ever needed.
 */
uint64_t post_room(const struct post *p)
{
	uint64_t room = ring_room(p->ring), taken = p->reserved + p->waste;

	return room > taken ? room - taken : 0;
}

bool post_reserve(struct post *p, uint64_t n)
{
	if (post_room(p) < n + p->margin)
		return false;
	p->reserved += n;
	return true;
}

void post_keep(struct post *p, uint64_t n)
{
	invariant(post_room(p) >= n);
	p->reserved += n;
}

void post_release(struct post *p, uint64_t n)
{
	invariant(p->reserved >= n);
	p->reserved -= n;
}

uint32_t post_max_recipients(const struct post *p)
{
	uint32_t n = 1;

	while (n < 65536 && post_bound(NULL, n * 2) <= p->waste)
		n *= 2;
	return n;
}

static void ring_bell(void *arg)
{
	struct post *p = arg;

	p->bell_due = false;
	bell_ring(p->w->h->spooler_bell);
}

static bool put(struct post *p, enum report_type type)
{
	if (!ring_put(p->ring, (uint8_t)type, p->b.p, p->b.n))
		return false;
	if (!p->bell_due) {
		p->bell_due = true;
		loop_defer(p->w->loop, ring_bell, p);
	}
	return true;
}

/* Without reservation: never into what others have reserved. */
static bool put_unreserved(struct post *p, enum report_type type)
{
	return post_room(p) >= ring_cost(p->b.n) && put(p, type);
}

void post_transaction(struct post *p, const struct report_transaction *t, uint64_t reserved)
{
	buf_clear(&p->b);
	report_transaction_encode(t, &p->b);
	if (ring_record(p->b.n) > reserved)
		panic("outcomes need %llu bytes of the ring, %llu are reserved",
		      (unsigned long long)ring_record(p->b.n), (unsigned long long)reserved);
	post_release(p, reserved);
	if (!put(p, REPORT_TRANSACTION))
		panic("no room in the ring in spite of a reservation");
}

bool post_site(struct post *p, const struct report_site *s)
{
	buf_clear(&p->b);
	report_site_encode(s, &p->b);
	return put_unreserved(p, REPORT_SITE);
}

bool post_park(struct post *p, const struct report_park *k)
{
	buf_clear(&p->b);
	report_park_encode(k, &p->b);
	return put_unreserved(p, REPORT_PARK);
}

bool post_wake(struct post *p, uint32_t queue, msec_t at)
{
	const struct report_wake wake = {.queue = queue, .at = at};

	buf_clear(&p->b);
	report_wake_encode(&wake, &p->b);
	return put_unreserved(p, REPORT_WAKE);
}

bool post_warmup(struct post *p, const struct report_warmup *r)
{
	buf_clear(&p->b);
	report_warmup_encode(r, &p->b);
	return put_unreserved(p, REPORT_WARMUP);
}

bool post_member(struct post *p, uint32_t queue, struct slice provider)
{
	const struct report_member m = {.queue = queue, .provider = provider};

	buf_clear(&p->b);
	report_member_encode(&m, &p->b);
	return put_unreserved(p, REPORT_MEMBER);
}

bool post_ack(struct post *p, const struct report_order_ack *a)
{
	buf_clear(&p->b);
	report_order_ack_encode(a, &p->b);
	return put_unreserved(p, REPORT_ORDER_ACK);
}

bool post_reroute(struct post *p, const struct report_reroute *r)
{
	buf_clear(&p->b);
	report_reroute_encode(r, &p->b);
	return put_unreserved(p, REPORT_REROUTE);
}

bool post_notice(struct post *p, const struct report_notice *n)
{
	buf_clear(&p->b);
	report_notice_encode(n, &p->b);
	return put_unreserved(p, REPORT_NOTICE);
}

bool post_move(struct post *p, const struct report_move *m)
{
	buf_clear(&p->b);
	report_move_encode(m, &p->b);
	return put_unreserved(p, REPORT_MOVE);
}

uint64_t post_position(const struct post *p)
{
	return ring_position(p->ring);
}

uint64_t post_committed(const struct post *p)
{
	return ring_committed(p->ring);
}

bool post_is_empty(const struct post *p)
{
	return post_committed(p) >= post_position(p);
}
