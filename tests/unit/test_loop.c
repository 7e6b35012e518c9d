/* links: common/base common/loop */
#include <criterion/criterion.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/fd.h"
#include "common/base/xalloc.h"
#include "common/loop/loop.h"

static struct loop *the_loop;
static char trace[64];
static int count;

/* A one-letter string that may travel as void *. */
static char *text(char c)
{
	static char all[128][2];

	all[(unsigned char)c & 127][0] = c;
	return all[(unsigned char)c & 127];
}

static void make_loop(void)
{
	the_loop = loop_new();
	trace[0] = '\0';
	count = 0;
}

static void free_loop(void)
{
	loop_free(the_loop);
}

TestSuite(loop, .init = make_loop, .fini = free_loop, .timeout = 20);

static void note(void *arg)
{
	strcat(trace, arg);
}

static void stop(void *arg)
{
	if (arg)
		note(arg);
	loop_stop(the_loop);
}

Test(loop, timers_fire_in_order_of_time_and_never_early)
{
	struct loop_timer *a = loop_timer_new(the_loop, note, text('a'));
	struct loop_timer *b = loop_timer_new(the_loop, note, text('b'));
	struct loop_timer *c = loop_timer_new(the_loop, stop, text('c'));
	usec_t start = clock_now();

	loop_timer_set(c, 30 * USEC_PER_MSEC);
	loop_timer_set(b, 20 * USEC_PER_MSEC);
	loop_timer_set(a, 1 * USEC_PER_MSEC);
	cr_assert(loop_timer_pending(a));
	loop_run(the_loop);
	cr_assert_str_eq(trace, "abc");
	cr_assert_geq(clock_now() - start, 30 * USEC_PER_MSEC);
	cr_assert(!loop_timer_pending(a));
	loop_timer_free(a);
	loop_timer_free(b);
	loop_timer_free(c);
	loop_timer_free(NULL);
}

Test(loop, setting_a_timer_again_moves_it_and_clearing_stops_it)
{
	struct loop_timer *a = loop_timer_new(the_loop, note, text('a'));
	struct loop_timer *b = loop_timer_new(the_loop, note, text('b'));
	struct loop_timer *c = loop_timer_new(the_loop, stop, text('c'));

	loop_timer_set(a, 5 * USEC_PER_MSEC);
	loop_timer_set(a, 60 * USEC_PER_SEC);
	loop_timer_set(b, 5 * USEC_PER_MSEC);
	loop_timer_clear(b);
	loop_timer_set(c, 20 * USEC_PER_MSEC);
	loop_run(the_loop);
	cr_assert_str_eq(trace, "c");
	cr_assert(loop_timer_pending(a));
	cr_assert(!loop_timer_pending(b));
	loop_timer_set(a, USEC_INFINITY);
	cr_assert(loop_timer_pending(a));
	loop_timer_free(a);
	loop_timer_free(b);
	loop_timer_free(c);
}

static struct loop_timer *self_freeing;

static void free_myself(void *arg ATTR_UNUSED)
{
	loop_timer_free(self_freeing);
	loop_stop(the_loop);
}

Test(loop, a_timer_may_be_freed_in_its_callback)
{
	self_freeing = loop_timer_new(the_loop, free_myself, NULL);
	loop_timer_set(self_freeing, 0);
	loop_run(the_loop);
}

static void nested(void *arg ATTR_UNUSED)
{
	note(text('n'));
	loop_defer(the_loop, stop, text('s'));
}

Test(loop, deferred_calls_run_in_order_and_may_defer_more)
{
	loop_defer(the_loop, note, text('1'));
	loop_defer(the_loop, nested, NULL);
	loop_defer(the_loop, note, text('2'));
	loop_run(the_loop);
	cr_assert_str_eq(trace, "1n2s");
}

static void use_object(void *arg)
{
	int *object = arg;

	count += *object;
	loop_stop(the_loop);
}

Test(loop, a_call_deferred_before_the_free_still_finds_the_object)
{
	int *object = xmalloc(sizeof(*object));

	*object = 7;
	loop_defer(the_loop, use_object, object);
	loop_defer_free(the_loop, object);
	loop_defer_free(the_loop, NULL);
	loop_run(the_loop);
	cr_assert_eq(count, 7);
}

Test(loop, what_was_given_up_outside_is_freed_with_the_loop)
{
	loop_defer_free(the_loop, xmalloc(100));
}

static void defer_again(void *arg)
{
	count++;
	loop_defer(the_loop, defer_again, arg);
}

Test(loop, a_call_that_defers_itself_for_ever_does_not_starve_timers)
{
	struct loop_timer *t = loop_timer_new(the_loop, stop, text('t'));

	loop_timer_set(t, 2 * USEC_PER_MSEC);
	loop_defer(the_loop, defer_again, NULL);
	loop_run(the_loop);
	cr_assert_str_eq(trace, "t");
	cr_assert_gt(count, 1);
	loop_timer_free(t);
}

static int pipe_fds[2];
static struct loop_io *pipe_io;

static void on_pipe(int what, void *arg)
{
	char c;

	cr_assert_eq(what, LOOP_READ);
	cr_assert_eq(read(pipe_fds[0], &c, 1), 1);
	note(arg);
	if (++count == 3) {
		loop_io_free(pipe_io);
		loop_stop(the_loop);
	}
}

Test(loop, descriptors_are_level_triggered_and_may_be_freed_in_the_callback)
{
	cr_assert_eq(pipe(pipe_fds), 0);
	cr_assert_eq(write(pipe_fds[1], "abc", 3), 3);
	pipe_io = loop_io_new(the_loop, pipe_fds[0], LOOP_READ, on_pipe, text('r'));
	loop_run(the_loop);
	cr_assert_str_eq(trace, "rrr");
	close(pipe_fds[0]);
	close(pipe_fds[1]);
}

static void on_any(int what, void *arg ATTR_UNUSED)
{
	count |= what;
	loop_stop(the_loop);
}

Test(loop, only_wanted_directions_are_reported)
{
	struct loop_timer *t = loop_timer_new(the_loop, stop, text('t'));
	struct loop_io *io;

	cr_assert_eq(pipe(pipe_fds), 0);
	io = loop_io_new(the_loop, pipe_fds[1], 0, on_any, NULL);
	loop_timer_set(t, USEC_PER_MSEC);
	loop_run(the_loop);
	cr_assert_str_eq(trace, "t");
	cr_assert_eq(count, 0);
	loop_io_want(io, LOOP_WRITE);
	loop_run(the_loop);
	cr_assert_eq(count, LOOP_WRITE);
	loop_io_free(io);
	loop_timer_free(t);
	close(pipe_fds[0]);
	close(pipe_fds[1]);
}

static void on_signal(int signo, void *arg ATTR_UNUSED)
{
	count = signo;
	loop_stop(the_loop);
}

Test(loop, signals_arrive_as_events)
{
	struct loop_signal *s = loop_signal_new(the_loop, SIGUSR1, on_signal, NULL);

	kill(getpid(), SIGUSR1);
	loop_run(the_loop);
	cr_assert_eq(count, SIGUSR1);
	loop_signal_free(s);
}

static usec_t seen[2];

static void look_twice(void *arg ATTR_UNUSED)
{
	seen[0] = loop_now(the_loop);
	usleep(3000);
	seen[1] = loop_now(the_loop);
	loop_stop(the_loop);
}

Test(loop, time_stands_still_within_a_turn_and_goes_on_outside)
{
	usec_t before = loop_now(the_loop);

	usleep(1000);
	cr_assert_gt(loop_now(the_loop), before);
	loop_defer(the_loop, look_twice, NULL);
	loop_run(the_loop);
	cr_assert_eq(seen[0], seen[1]);
	cr_assert_gt(loop_now(the_loop), seen[1]);
	cr_assert_gt(loop_wall(the_loop), 1600000000000u);
}

Test(loop, a_child_leaves_the_loop_of_its_parent_unharmed)
{
	int status, bell = eventfd(0, EFD_NONBLOCK);
	static struct loop_io *io; /* static: the child leaves it behind, which is no leak */
	pid_t pid;

	io = loop_io_new(the_loop, bell, LOOP_READ, on_any, NULL);
	pid = fork();
	if (pid == 0) {
		loop_abandon(the_loop);
		_exit(0);
	}
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_assert_eq(status, 0);
	bell_ring(bell);
	loop_run(the_loop);
	cr_assert_eq(count, LOOP_READ);
	loop_io_free(io);
	close(bell);
}
