#include "common/loop/loop.h"

#include <poll.h>
#include <stdlib.h>
#include <sys/queue.h>

#include "common/base/log.h"
#include "common/base/xalloc.h"
#include "tests/replay/fake_net.h"

struct loop_timer {
	struct loop *l;
	void (*cb)(void *arg);
	void *arg;
	usec_t due;
	uint64_t order; /* of setting: equal times run in this order */
	size_t at; /* index in the heap; SIZE_MAX: not pending */
};

struct loop_io {
	int fd, what;
	void (*cb)(int what, void *arg);
	void *arg;
	bool dead;
	TAILQ_ENTRY(loop_io) link;
};

struct deferred {
	void (*cb)(void *arg);
	void *arg;
	STAILQ_ENTRY(deferred) link;
};

struct loop {
	struct loop_timer **heap;
	size_t n, cap;
	uint64_t orders;
	TAILQ_HEAD(, loop_io) ios;
	STAILQ_HEAD(, deferred) deferred;
	bool stop;
};

/* What a test does at a given time. */
struct appointment {
	usec_t at;
	void (*cb)(void *arg);
	void *arg;
	TAILQ_ENTRY(appointment) link;
};

static TAILQ_HEAD(, appointment) diary = TAILQ_HEAD_INITIALIZER(diary);

static struct {
	usec_t mono, start;
	int64_t wall_offset_ms; /* wall = mono / 1000 + offset */
	usec_t until;
	bool (*hook)(void *arg);
	void *hook_arg;
	bool (*cond)(void *arg);
	void *cond_arg;
} world;

static void show_clock(void)
{
	clock_fake(world.mono, (msec_t)((int64_t)(world.mono / 1000) + world.wall_offset_ms));
}

void fake_time_start(msec_t wall)
{
	struct appointment *a;

	while ((a = TAILQ_FIRST(&diary))) {
		TAILQ_REMOVE(&diary, a, link);
		free(a);
	}
	world.mono = world.start = 1000 * USEC_PER_SEC;
	world.wall_offset_ms = (int64_t)wall - (int64_t)(world.mono / 1000);
	world.until = USEC_INFINITY;
	world.hook = NULL;
	world.cond = NULL;
	show_clock();
}

usec_t fake_elapsed(void)
{
	return world.mono - world.start;
}

void fake_at(usec_t elapsed, void (*cb)(void *arg), void *arg)
{
	struct appointment *a = xcalloc(1, sizeof(*a)), *next;

	a->at = world.start + elapsed;
	a->cb = cb;
	a->arg = arg;
	TAILQ_FOREACH(next, &diary, link)
		if (next->at > a->at)
			break;
	if (next)
		TAILQ_INSERT_BEFORE(next, a, link);
	else
		TAILQ_INSERT_TAIL(&diary, a, link);
}

void fake_wall_jump(int64_t seconds)
{
	world.wall_offset_ms += seconds * 1000;
	show_clock();
}

void fake_loop_hook(bool (*hook)(void *arg), void *arg)
{
	world.hook = hook;
	world.hook_arg = arg;
}

void fake_loop_until(usec_t elapsed)
{
	world.until = world.start + elapsed;
}

void fake_loop_until_true(bool (*cond)(void *arg), void *arg)
{
	world.cond = cond;
	world.cond_arg = arg;
}

/* --- loop.h --- */

struct loop *loop_new(void)
{
	struct loop *l = xcalloc(1, sizeof(*l));

	TAILQ_INIT(&l->ios);
	STAILQ_INIT(&l->deferred);
	return l;
}

static bool run_deferred(struct loop *l)
{
	bool any = false;
	struct deferred *d;

	while ((d = STAILQ_FIRST(&l->deferred))) {
		STAILQ_REMOVE_HEAD(&l->deferred, link);
		d->cb(d->arg);
		free(d);
		any = true;
	}
	return any;
}

void loop_free(struct loop *l)
{
	struct loop_io *io;

	if (!l)
		return;
	run_deferred(l);
	while ((io = TAILQ_FIRST(&l->ios))) {
		TAILQ_REMOVE(&l->ios, io, link);
		free(io);
	}
	free(l->heap);
	free(l);
}

void loop_stop(struct loop *l)
{
	l->stop = true;
}

usec_t loop_now(struct loop *l ATTR_UNUSED)
{
	return world.mono;
}

msec_t loop_wall(struct loop *l ATTR_UNUSED)
{
	return clock_wall();
}

/* --- timers: a binary heap by (due, order) --- */

static bool before(const struct loop_timer *a, const struct loop_timer *b)
{
	return a->due != b->due ? a->due < b->due : a->order < b->order;
}

static void place(struct loop *l, size_t i, struct loop_timer *t)
{
	l->heap[i] = t;
	t->at = i;
}

static void sift_up(struct loop *l, size_t i)
{
	struct loop_timer *t = l->heap[i];

	for (; i > 0 && before(t, l->heap[(i - 1) / 2]); i = (i - 1) / 2)
		place(l, i, l->heap[(i - 1) / 2]);
	place(l, i, t);
}

static void sift_down(struct loop *l, size_t i)
{
	struct loop_timer *t = l->heap[i];

	for (;;) {
		size_t child = 2 * i + 1;

		if (child + 1 < l->n && before(l->heap[child + 1], l->heap[child]))
			child++;
		if (child >= l->n || !before(l->heap[child], t))
			break;
		place(l, i, l->heap[child]);
		i = child;
	}
	place(l, i, t);
}

struct loop_timer *loop_timer_new(struct loop *l, void (*cb)(void *arg), void *arg)
{
	struct loop_timer *t = xcalloc(1, sizeof(*t));

	t->l = l;
	t->cb = cb;
	t->arg = arg;
	t->at = SIZE_MAX;
	return t;
}

void loop_timer_clear(struct loop_timer *t)
{
	struct loop *l = t->l;
	struct loop_timer *last;
	size_t i = t->at;

	if (i == SIZE_MAX)
		return;
	t->at = SIZE_MAX;
	last = l->heap[--l->n];
	if (last == t)
		return;
	place(l, i, last);
	sift_up(l, i);
	sift_down(l, last->at);
}

void loop_timer_set(struct loop_timer *t, usec_t after)
{
	struct loop *l = t->l;

	loop_timer_clear(t);
	t->due = world.mono + after;
	t->order = ++l->orders;
	if (l->n == l->cap) {
		l->cap = l->cap ? l->cap * 2 : 64;
		l->heap = xreallocarray(l->heap, l->cap, sizeof(*l->heap));
	}
	place(l, l->n++, t);
	sift_up(l, t->at);
}

bool loop_timer_pending(const struct loop_timer *t)
{
	return t->at != SIZE_MAX;
}

void loop_timer_free(struct loop_timer *t)
{
	if (!t)
		return;
	loop_timer_clear(t);
	free(t);
}

/* --- descriptors: real ones (bells, control), polled without waiting --- */

struct loop_io *loop_io_new(struct loop *l, int fd, int what, void (*cb)(int what, void *arg),
			    void *arg)
{
	struct loop_io *io = xcalloc(1, sizeof(*io));

	io->fd = fd;
	io->what = what;
	io->cb = cb;
	io->arg = arg;
	TAILQ_INSERT_TAIL(&l->ios, io, link);
	return io;
}

void loop_io_want(struct loop_io *io, int what)
{
	io->what = what;
}

void loop_io_free(struct loop_io *io)
{
	if (io)
		io->dead = true; /* swept by the loop */
}

static bool poll_ios(struct loop *l)
{
	struct loop_io *io, *next;
	bool any = false;

	for (io = TAILQ_FIRST(&l->ios); io; io = next) {
		struct pollfd p = {.fd = io->fd,
				   .events = (short)((io->what & LOOP_READ ? POLLIN : 0) |
						     (io->what & LOOP_WRITE ? POLLOUT : 0))};

		if (!io->dead && io->what && poll(&p, 1, 0) > 0) {
			io->cb((p.revents & ~POLLOUT ? LOOP_READ : 0) |
				       (p.revents & POLLOUT ? LOOP_WRITE : 0),
			       io->arg);
			any = true;
		}
		next = TAILQ_NEXT(io, link);
		if (io->dead) {
			TAILQ_REMOVE(&l->ios, io, link);
			free(io);
		}
	}
	return any;
}

struct loop_signal {
	int signo;
};

struct loop_signal *loop_signal_new(struct loop *l ATTR_UNUSED, int signo,
				    void (*cb)(int signo, void *arg) ATTR_UNUSED,
				    void *arg ATTR_UNUSED)
{
	struct loop_signal *s = xcalloc(1, sizeof(*s));

	s->signo = signo;
	return s;
}

void loop_signal_free(struct loop_signal *s)
{
	free(s);
}

void loop_defer(struct loop *l, void (*cb)(void *arg), void *arg)
{
	struct deferred *d = xcalloc(1, sizeof(*d));

	d->cb = cb;
	d->arg = arg;
	STAILQ_INSERT_TAIL(&l->deferred, d, link);
}

void loop_defer_free(struct loop *l, void *heap_object)
{
	loop_defer(l, free, heap_object);
}

/* --- running --- */

static bool run_due(struct loop *l)
{
	bool any = false;

	while (l->n && l->heap[0]->due <= world.mono && !l->stop) {
		struct loop_timer *t = l->heap[0];

		loop_timer_clear(t);
		t->cb(t->arg);
		any = true;
		run_deferred(l);
	}
	return any;
}

static bool keep_appointments(void)
{
	struct appointment *a = TAILQ_FIRST(&diary);

	if (!a || a->at > world.mono)
		return false;
	TAILQ_REMOVE(&diary, a, link);
	a->cb(a->arg);
	free(a);
	return true;
}

/* When something is to happen next: a timer, an appointment, or the end. */
static usec_t next_time(const struct loop *l)
{
	usec_t at = world.until;

	if (l->n && l->heap[0]->due < at)
		at = l->heap[0]->due;
	if (!TAILQ_EMPTY(&diary) && TAILQ_FIRST(&diary)->at < at)
		at = TAILQ_FIRST(&diary)->at;
	return at;
}

static bool over(const struct loop *l)
{
	return l->stop || world.mono >= world.until || (world.cond && world.cond(world.cond_arg));
}

void loop_run(struct loop *l)
{
	l->stop = false;
	while (!over(l)) {
		bool busy = run_deferred(l);

		busy |= poll_ios(l);
		busy |= run_due(l);
		busy |= keep_appointments();
		if (world.hook)
			busy |= world.hook(world.hook_arg);
		if (busy)
			continue;
		if (next_time(l) == USEC_INFINITY)
			return; /* nothing will ever happen again */
		world.mono = next_time(l);
		show_clock();
	}
	run_deferred(l);
}
