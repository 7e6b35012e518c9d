/*
 * stream.h - a buffered byte stream over TCP (or a unix socket), plain or TLS. Code above it never
 * sees EAGAIN or WANT_READ: plain and TLS sessions are one code path.
 *
 * Owned by one loop. Events come through one callback; the last line of a callback may be
 * stream_free(). After STREAM_EOF, STREAM_ERROR or STREAM_TIMEOUT no further events come and the
 * owner frees the stream. TCP_NODELAY is set; writes of one turn leave in one write.
 */
#ifndef SLUICE_LOOP_STREAM_H
#define SLUICE_LOOP_STREAM_H

#include <stdbool.h>
#include <stddef.h>

#include "common/base/clock.h"
#include "common/base/ip.h"
#include "common/base/slice.h"
#include "common/loop/loop.h"

struct stream;
struct stream_tls; /* a TLS context: server or client side, shared by many streams of a process */

enum stream_event {
	STREAM_CONNECTED, /* connect() succeeded (not for accepted streams) */
	STREAM_TLS_READY, /* handshake done */
	STREAM_DATA, /* there is (more) input: stream_input() */
	STREAM_DRAINED, /* after writing: output is at or below the low mark (default 0) */
	STREAM_EOF, /* peer closed its side */
	STREAM_ERROR, /* connect, I/O or TLS failure: stream_error() */
	STREAM_TIMEOUT /* the time set by stream_timeout() passed without progress of that kind */
};

typedef void stream_cb(struct stream *s, enum stream_event what, void *arg);

/* Wraps a connected socket (takes fd, made non-blocking). */
struct stream *stream_accepted(struct loop *l, int fd, stream_cb *cb, void *arg);
/* Begins to connect from source (family IP_NONE: kernel chooses) to dest:port. Never NULL: failure comes as STREAM_ERROR in a later turn. */
struct stream *stream_connect(struct loop *l, const struct ip *source, const struct ip *dest,
			      uint16_t port, stream_cb *cb, void *arg);
/* Begins to connect to a unix stream socket. */
struct stream *stream_connect_unix(struct loop *l, const char *path, stream_cb *cb, void *arg);

/* Input so far, contiguous; borrowed until the next call on this stream. */
struct slice stream_input(struct stream *s);
void stream_consume(struct stream *s, size_t n);
/*
 * Stops and restarts reading (back-pressure). Reading is on at first. When it is switched on with
 * input left over, STREAM_DATA comes once more. The read timeout rests meanwhile.
 */
void stream_pause_input(struct stream *s, bool pause);

void stream_write(struct stream *s, const void *p, size_t n);
void stream_write_slice(struct stream *s, struct slice text);
size_t stream_output_pending(const struct stream *s);
/* STREAM_DRAINED comes when pending output falls to at most n bytes. */
void stream_low_mark(struct stream *s, size_t n);

/*
 * Time without progress of this kind until STREAM_TIMEOUT; 0 = none. "read": since the call or the last
 * input; "write": while output is pending without any of it leaving; also bounds connect and handshake
 * (read timeout).
 */
void stream_timeout(struct stream *s, usec_t read, usec_t write);
/*
 * From now on input moves no deadline, and output moves one only when it begins anew (nothing was
 * pending): who sends or takes a byte now and then cannot hold the stream. stream_timeout() begins a
 * new time.
 */
void stream_strict_time(struct stream *s);

/* Contexts. cert/key PEM paths; NULL return with errors in *ret_error (heap, caller frees). */
struct stream_tls *stream_tls_server_new(const char *cert_file, const char *key_file,
					 char **ret_error);
/* Client without verification (opportunistic). Never fails except out of memory. */
struct stream_tls *stream_tls_client_new(void);
void stream_tls_free(struct stream_tls *t);
/*
 * Begins a handshake. Input that came before is discarded (RFC 3207, command injection). sni may be
 * NULL. Ends with STREAM_TLS_READY or STREAM_ERROR.
 */
void stream_start_tls(struct stream *s, struct stream_tls *t, const char *sni);
bool stream_is_tls(const struct stream *s);
/* "TLSv1.3" and cipher name; static or stream-owned; "" when plain. */
const char *stream_tls_protocol(const struct stream *s);
const char *stream_tls_cipher(const struct stream *s);

/* Text of the last error: "Connection refused", "TLS: …". Stream-owned, never NULL. */
const char *stream_error(const struct stream *s);
/* errno of the last system error, 0 for TLS trouble. */
int stream_errno(const struct stream *s);
/* Local and remote address once connected or accepted. */
bool stream_local(const struct stream *s, struct ip *ret_ip, uint16_t *ret_port);
bool stream_peer(const struct stream *s, struct ip *ret_ip, uint16_t *ret_port);
/*
 * The local address that the kernel would choose for connections to dest. False: there is no route.
 * Sends nothing.
 */
bool stream_source_for(const struct ip *dest, struct ip *ret);

/*
 * Shows every byte as the owner sees it, outside of TLS: out when it is written, in when it has come,
 * before the owner hears of it. NULL: no more. cb must not touch this stream.
 */
typedef void stream_tap_cb(void *arg, bool out, struct slice bytes);
void stream_tap(struct stream *s, stream_tap_cb *cb, void *arg);

/* Closes when pending output has left, at most `within`; the owner gets no more events. */
void stream_close_after_flush(struct stream *s, usec_t within);
/* Closes at once (RST when abort, so that a half-written transaction never looks complete). */
void stream_free(struct stream *s);
void stream_abort(struct stream *s);
/* Frees the stream but gives its plain socket to the caller; input not consumed and output not written are lost. */
int stream_release_fd(struct stream *s);

#endif
