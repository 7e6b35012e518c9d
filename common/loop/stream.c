#include "common/loop/stream.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/log.h"
#include "common/base/macros.h"
#include "common/base/xalloc.h"
#include "common/loop/stream_private.h"

/* Most that one stream reads before the others get their turn. */
#define READ_MAX 65536u
/* An empty buffer larger than this gives its memory back: idle connections are many. */
#define BUFFER_KEEP 8192u
/* How long a closed connection waits for the peer's end, so that no RST destroys the last bytes. */
#define LINGER_MAX (2 * USEC_PER_SEC)

static void stream_release(struct stream *s);
static void on_flush(void *arg);
static void on_read_again(void *arg);

static void on_event(evutil_socket_t fd, short what, void *arg);

struct stream *stream_make(struct loop *l, stream_cb *cb, void *arg)
{
	struct stream *s = xcalloc(1, sizeof(*s));

	s->magic = STREAM_MAGIC;
	s->state = STREAM_BROKEN;
	s->loop = l;
	s->fd = -1;
	s->cb = cb;
	s->arg = arg;
	s->read_since = s->write_since = loop_now(l);
	return s;
}

void stream_attach(struct stream *s, int fd)
{
	s->fd = fd;
	event_assign(&s->rd, loop_base(s->loop), fd, EV_READ | EV_PERSIST, on_event, s);
	event_assign(&s->wr, loop_base(s->loop), fd, EV_WRITE | EV_PERSIST, on_event, s);
}

static void switch_event(struct event *ev, bool *on, bool want)
{
	if (*on == want)
		return;
	*on = want;
	if (!want)
		event_del(ev);
	else if (event_add(ev, NULL) < 0)
		panic("cannot watch descriptor %d: %s", (int)event_get_fd(ev), strerror(errno));
}

static bool wants_input(const struct stream *s)
{
	if (s->lingering)
		return true;
	if (s->tls_write_wants_read)
		return true;
	return !s->paused && !s->mute && !s->in_ended;
}

void stream_update(struct stream *s)
{
	bool rd = false, wr = false;

	if (s->fd < 0)
		return;
	switch (s->state) {
	case STREAM_CONNECTING:
		wr = true;
		break;
	case STREAM_OPEN:
		rd = wants_input(s);
		wr = (s->out_blocked && !s->tls_write_wants_read) ||
		     (s->tls_read_wants_write && !s->paused && !s->mute);
		break;
	case STREAM_TLS_WAIT:
		wr = s->out_blocked;
		break;
	case STREAM_HANDSHAKE:
		wr = s->tls_read_wants_write;
		rd = !wr;
		break;
	case STREAM_BROKEN:
		break;
	}
	switch_event(&s->rd, &s->rd_on, rd);
	switch_event(&s->wr, &s->wr_on, wr);
}

void stream_set_errno(struct stream *s, int err, const char *prefix)
{
	s->err = err;
	if (prefix)
		(void)snprintf(s->error, sizeof(s->error), "%s: %s", prefix, strerror(err));
	else
		(void)snprintf(s->error, sizeof(s->error), "%s", strerror(err));
}

void stream_emit(struct stream *s, enum stream_event what)
{
	if (!s->dead && !s->mute)
		s->cb(s, what, s->arg);
}

static void drop_output(struct stream *s)
{
	buf_done(&s->out);
	s->out_head = 0;
	s->plain_left = 0;
	s->out_blocked = false;
}

void stream_end(struct stream *s, enum stream_event what)
{
	if (what == STREAM_ERROR) {
		s->state = STREAM_BROKEN;
		drop_output(s);
	}
	if (s->closing) {
		stream_release(s);
		return;
	}
	if (s->mute) {
		stream_update(s);
		return;
	}
	s->mute = true;
	stream_update(s);
	/* Output that is pending at EOF or timeout still leaves. */
	s->cb(s, what, s->arg);
}

/* ---- time ---- */

static usec_t read_deadline(const struct stream *s)
{
	if (s->read_within == 0 || (s->state == STREAM_OPEN && s->paused))
		return USEC_INFINITY;
	return s->read_since + s->read_within;
}

static usec_t write_deadline(const struct stream *s)
{
	if (s->write_within == 0 || stream_output_pending(s) == 0)
		return USEC_INFINITY;
	if (s->state != STREAM_OPEN && s->state != STREAM_TLS_WAIT)
		return USEC_INFINITY;
	return s->write_since + s->write_within;
}

static usec_t deadline(const struct stream *s)
{
	usec_t r, w;

	if (s->closing)
		return s->close_by;
	if (s->mute || s->state == STREAM_BROKEN)
		return USEC_INFINITY;
	r = read_deadline(s);
	w = write_deadline(s);
	return r < w ? r : w;
}

static void on_timer(void *arg)
{
	struct stream *s = arg;
	usec_t due = deadline(s);

	if (due > loop_now(s->loop)) {
		stream_rearm(s);
		return;
	}
	if (s->closing) {
		stream_release(s);
		return;
	}
	stream_set_errno(s, ETIMEDOUT, NULL);
	stream_end(s, STREAM_TIMEOUT);
}

/*
 * Progress moves a deadline away without touching the timer; a timer that fires too early sets
 * itself again. So the timer only moves when a deadline comes nearer.
 */
void stream_rearm(struct stream *s)
{
	usec_t due = deadline(s), now;

	if (due == USEC_INFINITY)
		return;
	if (!s->timer)
		s->timer = loop_timer_new(s->loop, on_timer, s);
	if (loop_timer_pending(s->timer) && s->timer_due <= due)
		return;
	now = loop_now(s->loop);
	s->timer_due = due;
	loop_timer_set(s->timer, due > now ? due - now : 0);
}

void stream_timeout(struct stream *s, usec_t read, usec_t write)
{
	s->read_within = read;
	s->write_within = write;
	s->read_since = s->write_since = loop_now(s->loop);
	stream_rearm(s);
}

void stream_strict_time(struct stream *s)
{
	s->strict_time = true;
}

/* ---- input ---- */

static void trim(struct buf *b, size_t *head)
{
	if (*head == b->n) {
		*head = 0;
		if (b->cap > BUFFER_KEEP)
			buf_done(b);
		else
			buf_clear(b);
	} else if (*head >= READ_MAX && *head >= b->n / 2) {
		buf_consume(b, *head);
		*head = 0;
	}
}

struct slice stream_input(struct stream *s)
{
	return s->in.n ? slice_of(s->in.p + s->in_head, s->in.n - s->in_head) : slice_of("", 0);
}

void stream_consume(struct stream *s, size_t n)
{
	invariant(n <= s->in.n - s->in_head);
	s->in_head += n;
	trim(&s->in, &s->in_head);
}

void stream_discard_input(struct stream *s)
{
	s->in_head = s->in.n;
	trim(&s->in, &s->in_head);
}

void stream_queue_read(struct stream *s)
{
	if (s->read_queued || s->dead)
		return;
	s->read_queued = true;
	loop_defer(s->loop, on_read_again, s);
}

void stream_pause_input(struct stream *s, bool pause)
{
	if (s->paused == pause)
		return;
	s->paused = pause;
	stream_update(s);
	if (pause)
		return;
	s->read_since = loop_now(s->loop);
	stream_rearm(s);
	if (stream_input(s).n)
		s->redeliver = true;
	if (s->redeliver || s->ssl || s->in_ended || s->out_failed)
		stream_queue_read(s);
}

static enum stream_io plain_read(struct stream *s, void *to, size_t n, size_t *ret_got)
{
	ssize_t r;

	*ret_got = 0;
	do {
		r = recv(s->fd, to, n, 0);
	} while (r < 0 && errno == EINTR);
	if (r > 0) {
		*ret_got = (size_t)r;
		return STREAM_IO_OK;
	}
	if (r == 0)
		return STREAM_IO_EOF;
	if (errno == EAGAIN)
		return STREAM_IO_AGAIN;
	stream_set_errno(s, errno, NULL);
	return STREAM_IO_FAILED;
}

/* Fills the input buffer; *ret_more: the budget was used up and there may be more. */
static enum stream_io fill_input(struct stream *s, size_t *ret_total)
{
	static _Thread_local char scratch[READ_MAX];
	enum stream_io io;
	size_t got;

	*ret_total = 0;
	do {
		io = s->ssl ? stream_tls_read(s, scratch, sizeof(scratch), &got)
			    : plain_read(s, scratch, sizeof(scratch), &got);
		if (got) {
			if (s->in_head && s->in_head >= s->in.n / 2) {
				buf_consume(&s->in, s->in_head);
				s->in_head = 0;
			}
			buf_add(&s->in, scratch, got);
			if (s->tap)
				s->tap(s->tap_arg, false, slice_of(scratch, got));
		}
		*ret_total += got;
	} while (io == STREAM_IO_OK && s->ssl && *ret_total < READ_MAX);
	return io;
}

/* A text set by a failed write must survive the reads that follow it. */
static enum stream_io fill_after_failed_write(struct stream *s, size_t *ret_total)
{
	char kept[sizeof(s->error)];
	int kept_err = s->err;
	enum stream_io io;

	memcpy(kept, s->error, sizeof(kept));
	io = fill_input(s, ret_total);
	memcpy(s->error, kept, sizeof(kept));
	s->err = kept_err;
	return io == STREAM_IO_OK ? STREAM_IO_OK : STREAM_IO_FAILED;
}

static void read_some(struct stream *s)
{
	enum stream_io io = STREAM_IO_AGAIN;
	bool deliver = s->redeliver;
	size_t total = 0;

	if (s->dead || s->mute || s->paused || s->state != STREAM_OPEN)
		return;
	s->redeliver = false;
	if (!s->in_ended)
		io = s->out_failed ? fill_after_failed_write(s, &total) : fill_input(s, &total);
	if (io == STREAM_IO_EOF || io == STREAM_IO_FAILED) {
		s->in_ended = true;
		s->end_event = io == STREAM_IO_EOF ? STREAM_EOF : STREAM_ERROR;
	} else if (io == STREAM_IO_OK && (s->ssl || s->out_failed)) {
		stream_queue_read(s);
	}
	if (total && !s->strict_time)
		s->read_since = loop_now(s->loop);
	stream_update(s);
	if (total || (deliver && stream_input(s).n))
		stream_emit(s, STREAM_DATA);
	if (s->in_ended && !s->dead && !s->mute && !s->paused)
		stream_end(s, s->end_event);
}

static void on_read_again(void *arg)
{
	struct stream *s = arg;

	s->read_queued = false;
	read_some(s);
}

/* ---- output ---- */

size_t stream_output_pending(const struct stream *s)
{
	return s->out.n - s->out_head;
}

void stream_queue_flush(struct stream *s)
{
	if (s->flush_queued || s->dead)
		return;
	s->flush_queued = true;
	loop_defer(s->loop, on_flush, s);
}

void stream_tap(struct stream *s, stream_tap_cb *cb, void *arg)
{
	s->tap = cb;
	s->tap_arg = arg;
}

void stream_write(struct stream *s, const void *p, size_t n)
{
	invariant(s->magic == STREAM_MAGIC && !s->dead);
	if (n == 0 || s->out_failed || (s->state == STREAM_BROKEN))
		return;
	trim(&s->out, &s->out_head);
	if (stream_output_pending(s) == 0)
		s->write_since = loop_now(s->loop);
	buf_add(&s->out, p, n);
	if (s->tap)
		s->tap(s->tap_arg, true, slice_of(p, n));
	s->drained_owed = true;
	if (!s->out_blocked)
		stream_queue_flush(s);
}

void stream_write_slice(struct stream *s, struct slice text)
{
	stream_write(s, text.p, text.n);
}

void stream_low_mark(struct stream *s, size_t n)
{
	s->low_mark = n;
	if (s->drained_owed && stream_output_pending(s) <= n)
		stream_queue_flush(s);
}

static enum stream_io plain_write(struct stream *s, const void *p, size_t n, size_t *ret_put)
{
	ssize_t r;

	*ret_put = 0;
	do {
		r = send(s->fd, p, n, MSG_NOSIGNAL);
	} while (r < 0 && errno == EINTR);
	if (r >= 0) {
		*ret_put = (size_t)r;
		return STREAM_IO_OK;
	}
	if (errno == EAGAIN)
		return STREAM_IO_AGAIN;
	stream_set_errno(s, errno, NULL);
	return STREAM_IO_FAILED;
}

/* Writes until all is out or the socket takes no more. */
static enum stream_io push_output(struct stream *s)
{
	enum stream_io io = STREAM_IO_OK;
	size_t put, n;

	while (io == STREAM_IO_OK && (n = stream_output_pending(s)) > 0) {
		const char *p = s->out.p + s->out_head;

		if (s->state == STREAM_TLS_WAIT) {
			if (s->plain_left == 0)
				break;
			io = plain_write(s, p, s->plain_left, &put);
			s->plain_left -= put;
		} else if (s->ssl) {
			io = stream_tls_write(s, p, n, &put);
		} else {
			io = plain_write(s, p, n, &put);
		}
		if (put) {
			s->out_head += put;
			if (!s->strict_time)
				s->write_since = loop_now(s->loop);
		}
	}
	trim(&s->out, &s->out_head);
	s->out_blocked = io == STREAM_IO_AGAIN;
	return io;
}

/*
 * The peer may have said why it goes away (421 …): what it sent is delivered before the error, as
 * far as the owner listens.
 */
static void write_failed(struct stream *s)
{
	s->out_failed = true;
	drop_output(s);
	if (s->closing || s->mute || s->paused || s->state != STREAM_OPEN)
		stream_end(s, STREAM_ERROR);
	else
		stream_queue_read(s);
}

static void finish_close(struct stream *s)
{
	usec_t linger = loop_now(s->loop) + LINGER_MAX;

	stream_tls_goodbye(s);
	if (s->state != STREAM_OPEN || s->in_ended || shutdown(s->fd, SHUT_WR) < 0) {
		stream_release(s);
		return;
	}
	s->lingering = true;
	s->tls_read_wants_write = s->tls_write_wants_read = false;
	if (linger < s->close_by)
		s->close_by = linger;
	stream_update(s);
	stream_rearm(s);
}

static void flush(struct stream *s)
{
	if (s->state == STREAM_CONNECTING || s->state == STREAM_BROKEN || s->out_failed)
		return;
	if (s->state != STREAM_HANDSHAKE && push_output(s) == STREAM_IO_FAILED) {
		write_failed(s);
		return;
	}
	if (s->state == STREAM_TLS_WAIT && s->plain_left == 0)
		s->state = STREAM_HANDSHAKE;
	if (s->state == STREAM_HANDSHAKE) {
		stream_tls_handshake(s);
		return;
	}
	stream_update(s);
	if (s->closing) {
		if (stream_output_pending(s) == 0 && !s->lingering)
			finish_close(s);
		return;
	}
	if (stream_output_pending(s))
		stream_rearm(s);
	if (s->drained_owed && stream_output_pending(s) <= s->low_mark) {
		s->drained_owed = false;
		stream_emit(s, STREAM_DRAINED);
	}
}

static void on_flush(void *arg)
{
	struct stream *s = arg;

	s->flush_queued = false;
	if (!s->dead)
		flush(s);
}

/* Lingering: what still comes is thrown away until the peer closes too. */
static void discard_some(struct stream *s)
{
	char waste[4096];
	size_t got;
	enum stream_io io;
	int rounds = 16;

	do {
		io = plain_read(s, waste, sizeof(waste), &got);
	} while (io == STREAM_IO_OK && --rounds > 0);
	if (io == STREAM_IO_EOF || io == STREAM_IO_FAILED)
		stream_release(s);
}

static void on_open_event(struct stream *s, short what)
{
	bool read = what & EV_READ, write = what & EV_WRITE;

	if (s->lingering) {
		discard_some(s);
		return;
	}
	if ((write && s->out_blocked) || (read && s->tls_write_wants_read))
		flush(s);
	if (s->dead || s->state != STREAM_OPEN)
		return;
	if (read || (write && s->tls_read_wants_write))
		read_some(s);
}

static void on_event(evutil_socket_t fd ATTR_UNUSED, short what, void *arg)
{
	struct stream *s;

	CAST_MAGIC(s, arg, STREAM_MAGIC);
	switch (s->state) {
	case STREAM_CONNECTING:
		stream_connect_done(s);
		break;
	case STREAM_OPEN:
		on_open_event(s, what);
		break;
	case STREAM_TLS_WAIT:
	case STREAM_HANDSHAKE:
		flush(s);
		break;
	case STREAM_BROKEN:
		break;
	}
}

/* ---- the end ---- */

const char *stream_error(const struct stream *s)
{
	return s->error;
}

int stream_errno(const struct stream *s)
{
	return s->err;
}

static void stream_release(struct stream *s)
{
	invariant(s->magic == STREAM_MAGIC && !s->dead);
	if (s->closing)
		loop_disown(&s->owned);
	s->dead = s->mute = true;
	s->state = STREAM_BROKEN;
	stream_update(s);
	loop_timer_free(s->timer);
	s->timer = NULL;
	SSL_free(s->ssl);
	s->ssl = NULL;
	s->tls_ready = false;
	if (s->fd >= 0)
		close(s->fd);
	s->fd = -1;
	buf_done(&s->in);
	s->in_head = 0;
	drop_output(s);
	loop_defer_free(s->loop, s);
}

void stream_free(struct stream *s)
{
	if (!s)
		return;
	invariant(!s->closing);
	stream_tls_goodbye(s);
	stream_release(s);
}

void stream_abort(struct stream *s)
{
	const struct linger rst = {.l_onoff = 1, .l_linger = 0};

	if (!s)
		return;
	invariant(!s->closing);
	if (s->fd >= 0)
		(void)setsockopt(s->fd, SOL_SOCKET, SO_LINGER, &rst, sizeof(rst));
	stream_release(s);
}

int stream_release_fd(struct stream *s)
{
	int fd = s->fd;

	invariant(!s->closing && !s->ssl);
	s->mute = true;
	s->state = STREAM_BROKEN;
	stream_update(s);
	s->fd = -1;
	stream_release(s);
	return fd;
}

static void release_owned(struct loop_owned *o)
{
	stream_release(container_of(o, struct stream, owned));
}

void stream_close_after_flush(struct stream *s, usec_t within)
{
	if (!s)
		return;
	invariant(s->magic == STREAM_MAGIC && !s->dead && !s->closing);
	if (s->state == STREAM_BROKEN || s->out_failed) {
		stream_release(s);
		return;
	}
	s->closing = s->mute = true;
	s->close_by = loop_now(s->loop) + within;
	s->owned.release = release_owned;
	loop_own(s->loop, &s->owned);
	stream_discard_input(s);
	stream_update(s);
	stream_rearm(s);
	stream_queue_flush(s);
}
