#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/log.h"
#include "common/base/xalloc.h"
#include "common/loop/stream.h"
#include "common/loop/stream_private.h"

struct stream_tls {
	SSL_CTX *ctx;
	bool server;
};

static struct stream_tls *tls_new(const SSL_METHOD *method, bool server)
{
	struct stream_tls *t = xcalloc(1, sizeof(*t));

	ERR_clear_error();
	t->ctx = SSL_CTX_new(method);
	if (!t->ctx)
		fatal("OpenSSL cannot make a TLS context: %s",
		      ERR_error_string(ERR_get_error(), NULL));
	t->server = server;
	SSL_CTX_set_mode(t->ctx, SSL_MODE_ENABLE_PARTIAL_WRITE |
					 SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
					 SSL_MODE_RELEASE_BUFFERS);
	/* Many mail servers close without close_notify; SMTP has its own end of everything. */
	SSL_CTX_set_options(t->ctx, SSL_OP_IGNORE_UNEXPECTED_EOF | SSL_OP_NO_RENEGOTIATION |
					    SSL_OP_NO_COMPRESSION);
	SSL_CTX_set_read_ahead(t->ctx, 1);
	return t;
}

static const char *first_reason(void)
{
	unsigned long e = ERR_get_error();
	const char *text = e ? ERR_reason_error_string(e) : NULL;

	/* System errors are in the queue with their errno as the reason. */
	if (!text && e && ERR_SYSTEM_ERROR(e))
		text = strerror((int)ERR_GET_REASON(e));
	ERR_clear_error();
	return text ? text : "unknown error";
}

struct stream_tls *stream_tls_server_new(const char *cert_file, const char *key_file,
					 char **ret_error)
{
	struct stream_tls *t = tls_new(TLS_server_method(), true);
	const char *doing;

	SSL_CTX_set_min_proto_version(t->ctx, TLS1_2_VERSION);
	SSL_CTX_set_options(t->ctx, SSL_OP_CIPHER_SERVER_PREFERENCE);
	SSL_CTX_set_session_cache_mode(t->ctx, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_num_tickets(t->ctx, 1);
	if (SSL_CTX_use_certificate_chain_file(t->ctx, cert_file) != 1)
		doing = "cannot use the certificate";
	else if (SSL_CTX_use_PrivateKey_file(t->ctx, key_file, SSL_FILETYPE_PEM) != 1)
		doing = "cannot use the private key";
	else if (SSL_CTX_check_private_key(t->ctx) != 1)
		doing = "the private key does not belong to the certificate";
	else
		return t;
	*ret_error = xasprintf("%s (certificate %s, key %s): %s", doing, cert_file, key_file,
			       first_reason());
	stream_tls_free(t);
	return NULL;
}

struct stream_tls *stream_tls_client_new(void)
{
	struct stream_tls *t = tls_new(TLS_client_method(), false);

	/*
	 * Opportunistic and unauthenticated: the alternative to weak encryption is none (RFC 7435),
	 * so old servers are taken as they are.
	 */
	SSL_CTX_set_security_level(t->ctx, 0);
	SSL_CTX_set_min_proto_version(t->ctx, TLS1_VERSION);
	SSL_CTX_set_options(t->ctx, SSL_OP_LEGACY_SERVER_CONNECT);
	SSL_CTX_set_verify(t->ctx, SSL_VERIFY_NONE, NULL);
	SSL_CTX_set_session_cache_mode(t->ctx, SSL_SESS_CACHE_OFF);
	return t;
}

void stream_tls_free(struct stream_tls *t)
{
	if (!t)
		return;
	SSL_CTX_free(t->ctx);
	free(t);
}

static void set_tls_error(struct stream *s, const char *text)
{
	s->err = 0;
	(void)snprintf(s->error, sizeof(s->error), "TLS: %s", text);
}

/* After a failed OpenSSL call: what it means; the error text is set for STREAM_IO_FAILED. */
static enum stream_io judge(struct stream *s, int result, int saved_errno, bool *ret_wants_write)
{
	*ret_wants_write = false;
	switch (SSL_get_error(s->ssl, result)) {
	case SSL_ERROR_WANT_READ:
		return STREAM_IO_AGAIN;
	case SSL_ERROR_WANT_WRITE:
		*ret_wants_write = true;
		return STREAM_IO_AGAIN;
	case SSL_ERROR_ZERO_RETURN:
		return STREAM_IO_EOF;
	case SSL_ERROR_SYSCALL:
		if (ERR_peek_error() == 0 && saved_errno == 0)
			return STREAM_IO_EOF;
		if (saved_errno != 0)
			stream_set_errno(s, saved_errno, "TLS");
		else
			set_tls_error(s, first_reason());
		ERR_clear_error();
		return STREAM_IO_FAILED;
	default:
		set_tls_error(s, first_reason());
		return STREAM_IO_FAILED;
	}
}

enum stream_io stream_tls_read(struct stream *s, void *to, size_t n, size_t *ret_got)
{
	enum stream_io io;
	int r;

	*ret_got = 0;
	ERR_clear_error();
	errno = 0;
	r = SSL_read_ex(s->ssl, to, n, ret_got);
	if (r == 1) {
		s->tls_read_wants_write = false;
		return STREAM_IO_OK;
	}
	io = judge(s, r, errno, &s->tls_read_wants_write);
	return io;
}

enum stream_io stream_tls_write(struct stream *s, const void *p, size_t n, size_t *ret_put)
{
	bool wants_write;
	enum stream_io io;
	int r;

	*ret_put = 0;
	ERR_clear_error();
	errno = 0;
	r = SSL_write_ex(s->ssl, p, n, ret_put);
	if (r == 1) {
		s->tls_write_wants_read = false;
		return STREAM_IO_OK;
	}
	io = judge(s, r, errno, &wants_write);
	s->tls_write_wants_read = io == STREAM_IO_AGAIN && !wants_write;
	if (io == STREAM_IO_EOF) {
		set_tls_error(s, "peer has closed the session");
		io = STREAM_IO_FAILED;
	}
	return io;
}

void stream_tls_handshake(struct stream *s)
{
	bool wants_write;
	enum stream_io io;
	int r;

	ERR_clear_error();
	errno = 0;
	r = SSL_do_handshake(s->ssl);
	if (r == 1) {
		s->tls_ready = true;
		s->state = STREAM_OPEN;
		s->out_blocked = s->tls_read_wants_write = false;
		s->read_since = s->write_since = loop_now(s->loop);
		stream_update(s);
		/* OpenSSL may hold bytes that the socket no longer announces. */
		stream_queue_read(s);
		stream_queue_flush(s);
		stream_emit(s, STREAM_TLS_READY);
		return;
	}
	io = judge(s, r, errno, &wants_write);
	if (io == STREAM_IO_AGAIN) {
		s->tls_read_wants_write = wants_write;
		stream_update(s);
		return;
	}
	if (io == STREAM_IO_EOF)
		set_tls_error(s, "peer closed the connection during the handshake");
	stream_end(s, STREAM_ERROR);
}

void stream_tls_goodbye(struct stream *s)
{
	if (!s->ssl || !s->tls_ready || s->state == STREAM_BROKEN || s->out_failed)
		return;
	ERR_clear_error();
	(void)SSL_shutdown(s->ssl);
	ERR_clear_error();
}

static void set_sni(SSL *ssl, const char *sni)
{
	char host[256]; /* a copy, since OpenSSL's macro casts const away */
	struct ip ip;

	/* RFC 6066: no addresses. */
	if (!sni || !*sni || *sni == '[' || ip_parse(slice_str(sni), &ip))
		return;
	if (slice_copy(slice_str(sni), host, sizeof(host)))
		(void)SSL_set_tlsext_host_name(ssl, host);
}

void stream_start_tls(struct stream *s, struct stream_tls *t, const char *sni)
{
	invariant(s->magic == STREAM_MAGIC && !s->dead && !s->ssl);
	if (s->mute || s->state != STREAM_OPEN)
		return;
	stream_discard_input(s);
	s->ssl = SSL_new(t->ctx);
	if (!s->ssl || SSL_set_fd(s->ssl, s->fd) != 1)
		fatal("OpenSSL cannot make a TLS session: %s", first_reason());
	if (t->server) {
		SSL_set_accept_state(s->ssl);
	} else {
		SSL_set_connect_state(s->ssl);
		set_sni(s->ssl, sni);
	}
	s->plain_left = stream_output_pending(s);
	s->state = s->plain_left ? STREAM_TLS_WAIT : STREAM_HANDSHAKE;
	s->read_since = loop_now(s->loop);
	stream_update(s);
	stream_rearm(s);
	stream_queue_flush(s);
}

bool stream_is_tls(const struct stream *s)
{
	return s->tls_ready;
}

const char *stream_tls_protocol(const struct stream *s)
{
	return s->tls_ready ? SSL_get_version(s->ssl) : "";
}

const char *stream_tls_cipher(const struct stream *s)
{
	return s->tls_ready ? SSL_get_cipher_name(s->ssl) : "";
}
