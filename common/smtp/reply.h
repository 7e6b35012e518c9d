/*
 * reply.h - the client side's parser of SMTP replies: bytes in, one struct reply out. Pure: no I/O,
 * no clock, no logging. The bytes come from hostile servers; every bound is here.
 *
 * The parser takes whole lines only; an unfinished line stays with the caller, who calls again with
 * it and what came since. A reply ends with its last line: bytes behind it belong to the next reply
 * and are not taken.
 *
 * Bounds: a line has at most REPLY_LINE_MAX bytes, a reply REPLY_LINES_MAX lines and
 * REPLY_TOTAL_MAX bytes. Lines may end with a bare LF (RFC 5321 says CRLF; there is nothing to
 * smuggle in this direction). Lines of one reply may differ in their code only within its first
 * digit; the last line's code counts.
 */
#ifndef SLUICE_SMTP_REPLY_H
#define SLUICE_SMTP_REPLY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/buf.h"
#include "common/base/slice.h"

#define REPLY_LINE_MAX 8192
#define REPLY_LINES_MAX 200
#define REPLY_TOTAL_MAX 65536
#define REPLY_TEXT_MAX 512

struct reply {
	uint16_t code; /* 200-599; 0: none yet, or not SMTP */
	uint8_t enhanced[3]; /* of the first line that has one; 0.0.0: none. RFC 2034 */
	/*
	 * One line: code, space, enhanced code if there is one, the texts of all lines joined by
	 * one space (a repeated enhanced code is left out). Control characters and bytes that are
	 * no UTF-8 are '?'. At most REPLY_TEXT_MAX bytes. After an error: what is wrong, without a
	 * code.
	 */
	struct buf text;
	struct buf
		first; /* the first line as it came ("421-4.7.28 …"), made safe in the same way */
	uint32_t line_count;

	/* private */
	struct buf lines; /* texts behind the codes, made safe, each with a LF */
	uint32_t total; /* bytes taken */
};

void reply_init(struct reply *r);
void reply_done(struct reply *r);
/* Ready for the next reply; memory is kept. */
void reply_reset(struct reply *r);

/*
 * Takes whole lines from the front of in; *ret_used tells how many bytes, whatever the result.
 * Returns 1: the reply is complete; 0: more input is needed; ERR_INVALID: this is not an SMTP
 * reply; ERR_TOO_LONG: it exceeds a bound. After an error only reply_reset() and reading r are
 * allowed, and the connection is of no more use.
 */
int reply_parse(struct reply *r, struct slice in, size_t *ret_used)
	__attribute__((warn_unused_result));

/* Text of line i behind the code ("SIZE 35882577"), borrowed from r; false when there is none. */
bool reply_line(const struct reply *r, uint32_t i, struct slice *ret);

/*
 * "4.7.28" at the start of s, followed by the end or white space: *ret_used counts it and the white
 * space. Class 2, 4 or 5; numbers to 255.
 */
bool reply_enhanced(struct slice s, uint8_t ret[3], size_t *ret_used);

#endif
