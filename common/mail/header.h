/*
 * header.h - the header block of a message in wire form (RFC 5322 2.2): where it ends, its fields,
 * and making new fields. Pure; slices given back are borrowed from the input.
 */
#ifndef SLUICE_MAIL_HEADER_H
#define SLUICE_MAIL_HEADER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/base/slice.h"

enum mail_header_end {
	MAIL_HEADER_MORE, /* not seen yet */
	MAIL_HEADER_EMPTY_LINE,
	MAIL_HEADER_NO_FIELD /* a line that is no field: the body begins without an empty line */
};

/*
 * Looks for the end of the header block, going on at *scanned (0 at first; moved to the start of
 * the first line that was not complete). *ret_fields is the length of the fields, *ret_body where
 * the body begins: behind the empty line, or at the line that is no field. Lines end with CRLF.
 */
enum mail_header_end mail_header_find_end(struct slice in, size_t *scanned, size_t *ret_fields,
					  size_t *ret_body);

struct mail_field {
	struct slice name; /* without white space and colon */
	struct slice value; /* behind the colon, untrimmed, with its folds, without the last CRLF */
	struct slice raw; /* all of it with the last CRLF */
};
/* Takes the next field from the front of *fields; false at the end. */
bool mail_header_next(struct slice *fields, struct mail_field *ret);

/* Appends a field's value, unfolded (each CRLF dropped), without white space around it. */
void mail_header_unfold(struct slice value, struct buf *b);

/* "Received:" of RFC 5321 4.4. NULL members are left out. */
struct mail_received {
	const char *helo,
		*ip; /* of the client; both or none. ip as in an address literal, without [] */
	const char *by;
	const char *with; /* "ESMTP" … */
	const char *id;
	const char *rcpt; /* the only recipient */
	msec_t when;
};
void mail_received_add(struct buf *b, const struct mail_received *r);
/* "Date: …\r\n" */
void mail_date_add(struct buf *b, msec_t when);
/* "Message-ID: <ID.RANDOM@HOST>\r\n" */
void mail_message_id_add(struct buf *b, uint64_t id, uint64_t random, const char *host);

#endif
