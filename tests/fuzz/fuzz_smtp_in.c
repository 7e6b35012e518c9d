/*
 * fuzz_smtp_in.c - an SMTP session over a fake loop and stream: no sockets, no clock, no threads.
 *
 * session_feed() gives a session bytes in pieces and returns all that it answered. As a libFuzzer
 * program (clang -fsanitize=fuzzer,address -DSLUICE_LIBFUZZER) the first byte of the input chooses
 * the size of the pieces. Links: common/base common/smtp common/mail common/conf/arena.c and the
 * spooler/session*.c files.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/macros.h"
#include "spooler/session_private.h"
#include "tests/unit/session_fake.h"

struct stream {
	stream_cb *cb;
	void *arg;
	struct buf in, out;
	bool paused, gone;
};

struct loop {
	void *frees[8];
	size_t free_count;
};

static struct stream fake_stream;

struct stream *stream_accepted(struct loop *l ATTR_UNUSED, int fd ATTR_UNUSED, stream_cb *cb,
			       void *arg)
{
	fake_stream = (struct stream){.cb = cb, .arg = arg};
	return &fake_stream;
}
struct slice stream_input(struct stream *s)
{
	return buf_slice(&s->in);
}
void stream_consume(struct stream *s, size_t n)
{
	buf_consume(&s->in, n);
}
void stream_pause_input(struct stream *s, bool pause)
{
	s->paused = pause;
}
void stream_write(struct stream *s, const void *p, size_t n)
{
	invariant(!s->gone);
	buf_add(&s->out, p, n);
}
void stream_write_slice(struct stream *s, struct slice text)
{
	stream_write(s, text.p, text.n);
}
size_t stream_output_pending(const struct stream *s ATTR_UNUSED)
{
	return 0;
}
void stream_timeout(struct stream *s ATTR_UNUSED, usec_t read ATTR_UNUSED, usec_t write ATTR_UNUSED)
{
}
void stream_free(struct stream *s)
{
	s->gone = true;
}
void stream_close_after_flush(struct stream *s, usec_t within ATTR_UNUSED)
{
	s->gone = true;
}
const char *stream_error(const struct stream *s ATTR_UNUSED)
{
	return "fake";
}

/* The server's threads are not run here; these are for the linker only and must not be called. */
#define NOT_CALLED(ret, name, args)         \
	ret name args                       \
	{                                   \
		panic(#name " was called"); \
	}
NOT_CALLED(struct loop *, loop_new, (void))
NOT_CALLED(void, loop_free, (struct loop * l ATTR_UNUSED))
NOT_CALLED(void, loop_run, (struct loop * l ATTR_UNUSED))
NOT_CALLED(void, loop_stop, (struct loop * l ATTR_UNUSED))
NOT_CALLED(struct loop_timer *, loop_timer_new,
	   (struct loop * l ATTR_UNUSED, void (*cb)(void *arg) ATTR_UNUSED, void *arg ATTR_UNUSED))
NOT_CALLED(void, loop_timer_set, (struct loop_timer * t ATTR_UNUSED, usec_t after ATTR_UNUSED))
NOT_CALLED(void, loop_timer_clear, (struct loop_timer * t ATTR_UNUSED))
NOT_CALLED(void, loop_timer_free, (struct loop_timer * t ATTR_UNUSED))
NOT_CALLED(struct loop_io *, loop_io_new,
	   (struct loop * l ATTR_UNUSED, int fd ATTR_UNUSED, int what ATTR_UNUSED,
	    void (*cb)(int what, void *arg) ATTR_UNUSED, void *arg ATTR_UNUSED))
NOT_CALLED(void, loop_io_want, (struct loop_io * io ATTR_UNUSED, int what ATTR_UNUSED))
NOT_CALLED(void, loop_io_free, (struct loop_io * io ATTR_UNUSED))

usec_t loop_now(struct loop *l ATTR_UNUSED)
{
	return 1;
}
msec_t loop_wall(struct loop *l ATTR_UNUSED)
{
	return 1000;
}
void loop_defer_free(struct loop *l, void *heap_object)
{
	l->frees[l->free_count++] = heap_object;
}

/* Messages come back at once, as the thread would take them. */
static void take_back(struct session_thread *t)
{
	while (t->returned) {
		struct intake_message *m = t->returned;

		t->returned = m->next;
		t->posted--;
		session_mail_done(container_of(m, struct session_mail, m));
	}
}

static void deliver(struct session_thread *t)
{
	struct stream *s = &fake_stream;
	size_t before;

	do {
		before = s->in.n;
		if (!s->gone && !s->paused && s->in.n)
			s->cb(s, STREAM_DATA, s->arg);
		take_back(t);
	} while (!s->gone && s->in.n && (s->in.n != before));
}

/*
 * Feeds `in` to a new session in pieces of `step` bytes (0: all at once), then EOF. All that the
 * session wrote is appended to ret_out. The committer's state is in `intake`.
 */
static void session_feed(const struct conf *conf, struct intake *intake, struct slice in,
			 size_t step, struct buf *ret_out)
{
	static struct shm_counters counters;
	static char here[] = ".";
	struct session_conf c = {.conf = conf, .global = conf_global(conf), .host = "mta.example"};
	struct smtp_server server = {.intake = intake, .counters = &counters, .big_dir = here};
	struct loop loop = {.free_count = 0};
	struct session_thread t = {.server = &server, .loop = &loop, .conf = &c, .bell = -1};
	const struct ip ip = {.family = IP_V4, .b = {192, 0, 2, 1}};
	size_t at;

	atomic_init(&c.refs, 1000);
	atomic_init(&server.open, 1);
	pthread_mutex_init(&server.lock, NULL);
	pthread_mutex_init(&t.lock, NULL);
	LIST_INIT(&t.sessions);
	session_start(&t, -1, &ip, NULL);
	if (step == 0)
		step = in.n ? in.n : 1;
	for (at = 0; at < in.n && !fake_stream.gone; at += step) {
		buf_add_slice(&fake_stream.in, slice_sub(in, at, step));
		deliver(&t);
	}
	deliver(&t);
	if (!fake_stream.gone)
		fake_stream.cb(&fake_stream, STREAM_EOF, fake_stream.arg);
	invariant(LIST_EMPTY(&t.sessions) && t.posted == 0 && loop.free_count == 1);
	invariant(intake->memory == 0);
	free(loop.frees[0]);
	buf_add_slice(ret_out, buf_slice(&fake_stream.out));
	buf_done(&fake_stream.in);
	buf_done(&fake_stream.out);
	pthread_mutex_destroy(&t.lock);
	pthread_mutex_destroy(&server.lock);
}

static struct conf fuzz_conf(void)
{
	struct conf c = fake_conf();

	c.source.process_x_virtual_mta = c.source.process_x_job = c.source.process_x_envid = true;
	c.source.add_date_header = CONF_DATE_YES;
	c.source.add_message_id_header = true;
	/* Small enough that no file is needed. */
	c.source.max_message_size = 100000;
	return c;
}

#ifdef SLUICE_LIBFUZZER
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct conf conf = fuzz_conf();
	struct intake intake;
	struct buf out = BUF_INIT;

	if (n == 0)
		return 0;
	fake_intake(&intake);
	session_feed(&conf, &intake, slice_of(data + 1, n - 1), data[0], &out);
	invariant(out.n > 5 && memcmp(out.p, "220 ", 4) == 0);
	buf_done(&out);
	fake_intake_done(&intake);
	return 0;
}
#endif
