/*
 * scan.h - the octets of a message as they come in: true lines, the end of DATA, dot-stuffing.
 *
 * Strict: a line ends with CRLF and nothing else. A bare CR or a bare LF is remembered as a fault
 * and never ends a line, so that "\n.\r\n" and its relatives cannot end a message (SMTP smuggling):
 * the only end of DATA is CRLF.CRLF. Pure: no I/O, no memory of its own. One struct mail_scan per
 * message; it works on pieces of any size with the same result.
 */
#ifndef SLUICE_MAIL_SCAN_H
#define SLUICE_MAIL_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/buf.h"
#include "common/base/slice.h"

/* RFC 5321 4.5.3.1.6: a text line with its CRLF, without a stuffed dot. */
#define MAIL_LINE_MAX 1000

enum mail_fault { MAIL_FAULT_NONE, MAIL_FAULT_BARE_CR, MAIL_FAULT_BARE_LF, MAIL_FAULT_LONG_LINE };

struct mail_scan {
	enum mail_fault fault; /* the first one */
	uint64_t line; /* line now, from 0 */
	uint64_t fault_line; /* line of the fault, from 1 */
	/* private */
	uint32_t length; /* octets of the present line so far */
	bool dotted; /* the present line begins with a dot */
	bool cr; /* the last octet was a CR */
};

/* At the start of a line, behind a true CRLF? (Also before the first octet.) */
static inline bool mail_scan_at_line(const struct mail_scan *s)
{
	return s->length == 0;
}

/*
 * DATA: returns how many octets at the start of `in` belong to the message (in its dot-stuffed
 * form). With *ret_end they are followed by the end mark, which is *ret_skip octets long (".\r\n").
 * Octets that may be the start of the end mark are left for the next call.
 */
size_t mail_scan_data(struct mail_scan *s, struct slice in, bool *ret_end, size_t *ret_skip);

/* BDAT: appends `in`, dot-stuffed, to `out` (NULL: only scans). */
void mail_scan_chunk(struct mail_scan *s, struct slice in, struct buf *out);
/* BDAT: the end of the message. An unfinished last line gets its CRLF. */
void mail_scan_chunk_end(struct mail_scan *s, struct buf *out);

#endif
