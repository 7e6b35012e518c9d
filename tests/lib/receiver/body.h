/*
 * The bytes after DATA: finds the end (CRLF . CRLF only), removes dot-stuffing, counts bare CR and
 * LF, digests the whole message and the part after the header.
 */
#ifndef TESTS_LIB_RECEIVER_BODY_H
#define TESTS_LIB_RECEIVER_BODY_H

#include <openssl/evp.h>

#include "tests/lib/receiver/text.h"

enum body_state { BODY_TEXT, BODY_CR, BODY_LINE, BODY_DOT, BODY_DOT_CR };

#define BODY_HEADER_MAX (64 * 1024)

struct body {
	enum body_state state;
	uint64_t size, body_size; /* un-stuffed bytes: all, after the header */
	uint64_t wire; /* bytes as they came */
	uint64_t bare_cr, bare_lf;
	int header_match; /* how much of CRLFCRLF has been seen; 4: in the body */
	struct text header;
	FILE *store;
	bool digest;
	EVP_MD_CTX *all, *part;
};

static inline void body_start(struct body *body, bool digest, FILE *store)
{
	body->state = BODY_LINE;
	body->size = body->body_size = body->wire = body->bare_cr = body->bare_lf = 0;
	body->header_match = 2; /* a message may begin with its blank line */
	body->header.n = 0;
	body->store = store;
	body->digest = digest;
	if (!digest)
		return;
	if (!body->all) {
		body->all = need(EVP_MD_CTX_new());
		body->part = need(EVP_MD_CTX_new());
	}
	if (EVP_DigestInit_ex(body->all, EVP_sha256(), NULL) != 1 ||
	    EVP_DigestInit_ex(body->part, EVP_sha256(), NULL) != 1)
		die("no SHA-256 here");
}

static inline void body_emit(struct body *body, const char *p, size_t n)
{
	static const char end[] = "\r\n\r\n";
	size_t i = 0;

	body->size += n;
	if (body->store && fwrite(p, 1, n, body->store) != n)
		die("cannot store a body: %s", strerror(errno));
	if (!body->digest)
		return;
	EVP_DigestUpdate(body->all, p, n);
	for (; i < n && body->header_match < 4; i++) {
		if (p[i] == end[body->header_match])
			body->header_match++;
		else
			body->header_match = p[i] == '\r';
	}
	if (i && body->header.n + i <= BODY_HEADER_MAX)
		text_add(&body->header, p, i);
	if (i < n) {
		body->body_size += n - i;
		EVP_DigestUpdate(body->part, p + i, n - i);
	}
}

/* Plain text up to the next CR; a bare LF in it does not end a line. */
static inline size_t body_span(struct body *body, const char *p, size_t n)
{
	const char *cr = memchr(p, '\r', n);
	size_t span = cr ? (size_t)(cr - p) : n;
	const char *at = p, *lf;

	while ((lf = memchr(at, '\n', span - (size_t)(at - p)))) {
		body->bare_lf++;
		at = lf + 1;
	}
	return span;
}

/* Takes bytes up to and including the end of the message. Returns how many; *ret_end says whether
 * the end was among them. Spans that need no change are handed on in one piece. */
static inline size_t body_feed(struct body *body, const char *p, size_t n, bool *ret_end)
{
	size_t i = 0, from = 0;

	*ret_end = false;
	while (i < n && !*ret_end) {
		switch (body->state) {
		case BODY_LINE:
			if (p[i] == '.') {
				body_emit(body, p + from, i - from);
				from = ++i;
				body->state = BODY_DOT;
				break;
			}
			body->state = BODY_TEXT;
			break;
		case BODY_DOT:
			body->state = p[i] == '\r' ? BODY_DOT_CR : BODY_TEXT;
			if (body->state == BODY_DOT_CR)
				from = ++i;
			break;
		case BODY_DOT_CR:
			if (p[i] == '\n') {
				from = ++i;
				*ret_end = true;
				break;
			}
			body_emit(body, "\r", 1);
			body->bare_cr++;
			body->state = BODY_TEXT;
			break;
		case BODY_CR:
			if (p[i] == '\n') {
				i++;
				body->state = BODY_LINE;
				break;
			}
			body->bare_cr++;
			body->state = BODY_TEXT;
			break;
		case BODY_TEXT:
			i += body_span(body, p + i, n - i);
			if (i < n) {
				i++;
				body->state = BODY_CR;
			}
			break;
		}
	}
	body_emit(body, p + from, i - from);
	body->wire += i;
	return i;
}

static inline void body_hex(EVP_MD_CTX *ctx, char hex[65])
{
	unsigned char md[EVP_MAX_MD_SIZE];
	unsigned n = 0;

	EVP_DigestFinal_ex(ctx, md, &n);
	for (unsigned i = 0; i < 32; i++)
		sprintf(hex + 2 * i, "%02x", md[i]);
}

static inline void body_free(struct body *body)
{
	EVP_MD_CTX_free(body->all);
	EVP_MD_CTX_free(body->part);
	text_free(&body->header);
	if (body->store)
		fclose(body->store);
}

#endif
