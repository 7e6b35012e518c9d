/*
 * stream_private.h - the inside of a stream, shared by stream.c (events, buffers), stream_connect.c
 * (sockets) and stream_tls.c (OpenSSL). Nobody else includes it.
 *
 * Output is kept until the end of the turn and leaves in one write. A callback is only called from
 * an event or from a deferred call, never from inside a function of stream.h. A stream that is
 * given up is `dead` at once; its memory stays until the end of the turn, so that code which called
 * back looks at `dead` afterwards.
 */
#ifndef SLUICE_LOOP_STREAM_PRIVATE_H
#define SLUICE_LOOP_STREAM_PRIVATE_H

#include <openssl/ssl.h>

#include "common/base/buf.h"
#include "common/loop/loop_private.h"
#include "common/loop/stream.h"

#define STREAM_MAGIC 0x73747265u

enum stream_state {
	STREAM_CONNECTING,
	STREAM_OPEN,
	STREAM_TLS_WAIT, /* output from before start_tls has to leave first */
	STREAM_HANDSHAKE,
	STREAM_BROKEN /* no I/O possible any more */
};

/* What one read or write came to. */
enum stream_io { STREAM_IO_OK, STREAM_IO_AGAIN, STREAM_IO_EOF, STREAM_IO_FAILED };

struct stream {
	unsigned magic;
	enum stream_state state;
	struct loop *loop;
	int fd; /* -1: the socket could not be made */
	struct event rd, wr;
	struct loop_timer *timer; /* made when first needed */
	usec_t timer_due;
	stream_cb *cb;
	void *arg;
	stream_tap_cb *tap;
	void *tap_arg;

	struct buf in, out;
	size_t in_head, out_head; /* consumed, or written */
	size_t low_mark;

	bool rd_on, wr_on;
	bool paused;
	bool mute; /* the last event is out */
	bool dead;
	bool closing; /* close_after_flush: nobody owns it but the loop */
	bool lingering; /* closing, all sent: waits for the peer's end */
	bool flush_queued, read_queued, report_queued;
	bool redeliver; /* unpaused with input left: one more STREAM_DATA */
	bool drained_owed; /* written since the last STREAM_DRAINED */
	bool out_blocked; /* the socket takes no more */
	bool out_failed; /* writing failed; input that came before is still delivered */
	bool in_ended; /* end_event is due once the input before it has been delivered */
	enum stream_event end_event;

	usec_t read_within, write_within; /* 0: no limit */
	usec_t read_since, write_since; /* last progress */
	bool strict_time; /* progress of the peer does not count */
	usec_t close_by;

	SSL *ssl;
	size_t plain_left; /* STREAM_TLS_WAIT: bytes of out that leave in the clear */
	bool tls_ready;
	bool tls_read_wants_write, tls_write_wants_read;

	struct ip peer_ip;
	uint16_t peer_port;
	int err;
	char error[192];
	struct loop_owned owned;
};

/* stream.c */
struct stream *stream_make(struct loop *l, stream_cb *cb, void *arg);
void stream_attach(struct stream *s, int fd);
/* Adjusts the watched events to the state. */
void stream_update(struct stream *s);
void stream_set_errno(struct stream *s, int err, const char *prefix);
/* Gives a terminal event now; only from an event or deferred context. */
void stream_end(struct stream *s, enum stream_event what);
void stream_emit(struct stream *s, enum stream_event what);
void stream_queue_flush(struct stream *s);
void stream_queue_read(struct stream *s);
void stream_discard_input(struct stream *s);
void stream_rearm(struct stream *s);

/* stream_connect.c: the non-blocking connect is through, or failed. */
void stream_connect_done(struct stream *s);

/* stream_tls.c */
enum stream_io stream_tls_read(struct stream *s, void *to, size_t n, size_t *ret_got);
enum stream_io stream_tls_write(struct stream *s, const void *p, size_t n, size_t *ret_put);
void stream_tls_handshake(struct stream *s);
/* Says goodbye (close_notify) if the session is in order. */
void stream_tls_goodbye(struct stream *s);

#endif
