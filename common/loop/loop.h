/*
 * loop.h - the event loop of a process or thread. A narrow house over libevent; no other folder
 * includes <event2/…>. Tests replace loop.c and stream.c by a fake with the same functions
 * (tests/replay/fake_loop.c): no wall clock, no sockets.
 *
 * One struct loop per thread, made and used in that thread; only loop_bell_ring() may be called from
 * others. Callbacks run to completion; they never re-enter the loop. An object that must go away in
 * a callback is freed with loop_defer_free(), which runs at the end of the turn.
 */
#ifndef SLUICE_LOOP_LOOP_H
#define SLUICE_LOOP_LOOP_H

#include <stdbool.h>

#include "common/base/clock.h"

struct loop;
struct loop_timer;
struct loop_io;
struct loop_signal;

struct loop *loop_new(void);
void loop_free(struct loop *l);
/*
 * In a forked child: leaves the parent's loop without touching the parent's events. The structs that
 * hang on it stay allocated and must not be used any more.
 */
void loop_abandon(struct loop *l);
void loop_run(struct loop *l); /* until loop_stop() */
void loop_stop(struct loop *l); /* after the present turn */

/* Monotonic time, cached per turn. */
usec_t loop_now(struct loop *l);
/* Wall time, cached per turn. */
msec_t loop_wall(struct loop *l);

/* One-shot timers; set again from the callback for a period. Setting moves a pending timer. */
struct loop_timer *loop_timer_new(struct loop *l, void (*cb)(void *arg), void *arg);
void loop_timer_set(struct loop_timer *t, usec_t after);
void loop_timer_clear(struct loop_timer *t);
bool loop_timer_pending(const struct loop_timer *t);
void loop_timer_free(struct loop_timer *t); /* NULL is fine */

/* Descriptors, level-triggered, persistent. The loop does not own fd. */
#define LOOP_READ 1
#define LOOP_WRITE 2
struct loop_io *loop_io_new(struct loop *l, int fd, int what, void (*cb)(int what, void *arg),
			    void *arg);
void loop_io_want(struct loop_io *io, int what); /* 0: off */
void loop_io_free(struct loop_io *io);

struct loop_signal *loop_signal_new(struct loop *l, int signo, void (*cb)(int signo, void *arg),
				    void *arg);
void loop_signal_free(struct loop_signal *s);

/* Runs cb once at the end of the present turn (or at the start of the next, from outside). */
void loop_defer(struct loop *l, void (*cb)(void *arg), void *arg);
void loop_defer_free(struct loop *l, void *heap_object); /* free() at the end of the turn */

#endif
