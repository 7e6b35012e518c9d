#include "common/loop/loop.h"

#include <errno.h>
#include <event2/event.h>
#include <event2/event_struct.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/log.h"
#include "common/base/macros.h"
#include "common/base/xalloc.h"
#include "common/loop/loop_private.h"

#define LOOP_MAGIC 0x6c6f6f70u
/* Rounds of deferred calls before the descriptors get their turn again. */
#define LOOP_DEFER_ROUNDS 16
/* libevent reads a coarse clock and may fire this much too early. */
#define LOOP_CLOCK_SLACK (20 * USEC_PER_MSEC)

struct deferred {
	void (*cb)(void *arg);
	void *arg;
};

/* Two vectors: one is filled while the other one runs. */
struct deferred_list {
	struct deferred *v;
	size_t n, cap;
};

struct loop {
	unsigned magic;
	struct event_base *base;
	bool stop;
	bool in_turn;
	bool now_valid, wall_valid; /* cached values below belong to the present turn */
	usec_t now;
	msec_t wall;
	struct deferred_list calls, calls_running;
	struct deferred_list frees, frees_running;
	LIST_HEAD(, loop_owned) owned;
};

struct loop_timer {
	struct loop *loop;
	struct event ev;
	usec_t due; /* by loop_now() */
	void (*cb)(void *arg);
	void *arg;
};

struct loop_io {
	struct loop *loop;
	struct event read, write;
	int what;
	void (*cb)(int what, void *arg);
	void *arg;
};

struct loop_signal {
	struct event ev;
	void (*cb)(int signo, void *arg);
	void *arg;
};

struct loop *loop_new(void)
{
	struct loop *l = xcalloc(1, sizeof(*l));

	l->magic = LOOP_MAGIC;
	l->base = event_base_new();
	if (!l->base)
		fatal("cannot make an event loop: %s", strerror(errno));
	LIST_INIT(&l->owned);
	/* A peer that goes away is an error of that stream, not the end of the process. */
	signal(SIGPIPE, SIG_IGN);
	return l;
}

static void deferred_list_done(struct deferred_list *d)
{
	free(d->v);
	*d = (struct deferred_list){0};
}

static void release_all(struct deferred_list *d)
{
	for (size_t i = 0; i < d->n; i++)
		free(d->v[i].arg);
	d->n = 0;
}

void loop_free(struct loop *l)
{
	struct loop_owned *o;

	if (!l)
		return;
	invariant(l->magic == LOOP_MAGIC && !l->in_turn);
	while ((o = LIST_FIRST(&l->owned)))
		o->release(o);
	release_all(&l->frees);
	deferred_list_done(&l->calls);
	deferred_list_done(&l->calls_running);
	deferred_list_done(&l->frees);
	deferred_list_done(&l->frees_running);
	event_base_free(l->base);
	l->magic = 0;
	free(l);
}

void loop_abandon(struct loop *l)
{
	/* The kernel's event set is shared with the parent until libevent makes its own. */
	if (event_reinit(l->base) < 0)
		fatal("cannot leave the event loop of the parent process");
	event_base_free(l->base);
	l->magic = 0;
}

static void defer_to(struct deferred_list *d, void (*cb)(void *arg), void *arg)
{
	if (d->n == d->cap) {
		d->cap = d->cap ? d->cap * 2 : 16;
		d->v = xreallocarray(d->v, d->cap, sizeof(*d->v));
	}
	d->v[d->n++] = (struct deferred){cb, arg};
}

void loop_defer(struct loop *l, void (*cb)(void *arg), void *arg)
{
	defer_to(&l->calls, cb, arg);
}

void loop_defer_free(struct loop *l, void *heap_object)
{
	if (heap_object)
		defer_to(&l->frees, NULL, heap_object);
}

static void swap_lists(struct deferred_list *a, struct deferred_list *b)
{
	struct deferred_list t = *a;

	*a = *b;
	*b = t;
}

/*
 * A round takes the calls and the frees that were asked for before it began, runs the calls, then
 * frees: a call that was deferred before its object was given up still finds the memory.
 */
static void run_deferred(struct loop *l)
{
	for (int round = 0; round < LOOP_DEFER_ROUNDS && (l->calls.n || l->frees.n); round++) {
		swap_lists(&l->calls, &l->calls_running);
		swap_lists(&l->frees, &l->frees_running);
		for (size_t i = 0; i < l->calls_running.n; i++)
			l->calls_running.v[i].cb(l->calls_running.v[i].arg);
		l->calls_running.n = 0;
		release_all(&l->frees_running);
	}
}

static void forget_time(struct loop *l)
{
	l->now_valid = false;
	l->wall_valid = false;
}

static void loop_turn(struct loop *l)
{
	int flags = EVLOOP_ONCE | EVLOOP_NO_EXIT_ON_EMPTY;

	/* What does not fit into the rounds of this turn goes on after a look at the descriptors.
	 */
	if (l->calls.n || l->frees.n)
		flags = EVLOOP_NONBLOCK;
	forget_time(l);
	if (event_base_loop(l->base, flags) < 0)
		panic("event loop: %s", strerror(errno));
	run_deferred(l);
}

void loop_run(struct loop *l)
{
	invariant(l->magic == LOOP_MAGIC && !l->in_turn);
	l->in_turn = true;
	forget_time(l);
	run_deferred(l);
	while (!l->stop)
		loop_turn(l);
	l->stop = false;
	l->in_turn = false;
}

void loop_stop(struct loop *l)
{
	l->stop = true;
}

usec_t loop_now(struct loop *l)
{
	if (!l->in_turn)
		return clock_now();
	if (!l->now_valid) {
		l->now = clock_now();
		l->now_valid = true;
	}
	return l->now;
}

msec_t loop_wall(struct loop *l)
{
	if (!l->in_turn)
		return clock_wall();
	if (!l->wall_valid) {
		l->wall = clock_wall();
		l->wall_valid = true;
	}
	return l->wall;
}

struct event_base *loop_base(struct loop *l)
{
	return l->base;
}

void loop_own(struct loop *l, struct loop_owned *o)
{
	LIST_INSERT_HEAD(&l->owned, o, link);
}

void loop_disown(struct loop_owned *o)
{
	LIST_REMOVE(o, link);
}

static void timer_add(struct loop_timer *t, usec_t after)
{
	struct timeval tv = {.tv_sec = (time_t)(after / USEC_PER_SEC),
			     .tv_usec = (suseconds_t)(after % USEC_PER_SEC)};

	event_add(&t->ev, &tv);
}

static void timer_on_event(evutil_socket_t fd ATTR_UNUSED, short what ATTR_UNUSED, void *arg)
{
	struct loop_timer *t = arg;
	usec_t now = loop_now(t->loop);

	if (now < t->due && t->due - now <= LOOP_CLOCK_SLACK)
		timer_add(t, t->due - now);
	else
		t->cb(t->arg);
}

struct loop_timer *loop_timer_new(struct loop *l, void (*cb)(void *arg), void *arg)
{
	struct loop_timer *t = xcalloc(1, sizeof(*t));

	t->loop = l;
	t->cb = cb;
	t->arg = arg;
	event_assign(&t->ev, l->base, -1, 0, timer_on_event, t);
	return t;
}

void loop_timer_set(struct loop_timer *t, usec_t after)
{
	/* Longer than this never comes; libevent would overflow. */
	const usec_t longest = UINT64_C(10) * 365 * 86400 * USEC_PER_SEC;

	if (after > longest)
		after = longest;
	t->due = loop_now(t->loop) + after;
	timer_add(t, after);
}

void loop_timer_clear(struct loop_timer *t)
{
	event_del(&t->ev);
}

bool loop_timer_pending(const struct loop_timer *t)
{
	return event_pending(&t->ev, EV_TIMEOUT, NULL) != 0;
}

void loop_timer_free(struct loop_timer *t)
{
	if (!t)
		return;
	event_del(&t->ev);
	free(t);
}

static void io_on_event(evutil_socket_t fd ATTR_UNUSED, short what, void *arg)
{
	struct loop_io *io = arg;

	io->cb((what & EV_READ ? LOOP_READ : 0) | (what & EV_WRITE ? LOOP_WRITE : 0), io->arg);
}

struct loop_io *loop_io_new(struct loop *l, int fd, int what, void (*cb)(int what, void *arg),
			    void *arg)
{
	struct loop_io *io = xcalloc(1, sizeof(*io));

	io->loop = l;
	io->cb = cb;
	io->arg = arg;
	event_assign(&io->read, l->base, fd, EV_READ | EV_PERSIST, io_on_event, io);
	event_assign(&io->write, l->base, fd, EV_WRITE | EV_PERSIST, io_on_event, io);
	loop_io_want(io, what);
	return io;
}

static void io_switch(struct event *ev, bool was, bool on)
{
	if (was == on)
		return;
	if (!on)
		event_del(ev);
	else if (event_add(ev, NULL) < 0)
		panic("cannot watch descriptor %d: %s", (int)event_get_fd(ev), strerror(errno));
}

void loop_io_want(struct loop_io *io, int what)
{
	io_switch(&io->read, io->what & LOOP_READ, what & LOOP_READ);
	io_switch(&io->write, io->what & LOOP_WRITE, what & LOOP_WRITE);
	io->what = what;
}

void loop_io_free(struct loop_io *io)
{
	if (!io)
		return;
	loop_io_want(io, 0);
	free(io);
}

static void signal_on_event(evutil_socket_t signo, short what ATTR_UNUSED, void *arg)
{
	struct loop_signal *s = arg;

	s->cb((int)signo, s->arg);
}

struct loop_signal *loop_signal_new(struct loop *l, int signo, void (*cb)(int signo, void *arg),
				    void *arg)
{
	struct loop_signal *s = xcalloc(1, sizeof(*s));

	s->cb = cb;
	s->arg = arg;
	event_assign(&s->ev, l->base, signo, EV_SIGNAL | EV_PERSIST, signal_on_event, s);
	if (event_add(&s->ev, NULL) < 0)
		panic("cannot catch signal %d: %s", signo, strerror(errno));
	return s;
}

void loop_signal_free(struct loop_signal *s)
{
	if (!s)
		return;
	event_del(&s->ev);
	free(s);
}
