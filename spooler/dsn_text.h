/*
 * dsn_text.h - texts from the wire made fit for the fields and the human part of a notification.
 * Pure.
 */
#ifndef SLUICE_SPOOLER_DSN_TEXT_H
#define SLUICE_SPOOLER_DSN_TEXT_H

#include <stdbool.h>

#include "common/base/buf.h"
#include "common/base/slice.h"

bool dsn_text_is_ascii(struct slice s);
/*
 * One line: control characters become spaces, at most max octets. utf8: valid UTF-8 stays, other
 * octets become "?"; else everything beyond ASCII does.
 */
void dsn_text_line(struct buf *b, struct slice s, size_t max, bool utf8);
/* xtext (RFC 3461 4) decoded, what is no xtext as it is; then as dsn_text_line(). */
void dsn_text_xtext(struct buf *b, struct slice s, bool utf8);
/* "name: value" with CRLF, folded at spaces where it passes 78 columns. */
void dsn_text_field(struct buf *b, const char *name, struct slice value);
/* Words wrapped at 76 columns, each line behind `indent`; CRLF. */
void dsn_text_wrap(struct buf *b, const char *indent, struct slice s);
/*
 * Whole lines of s (wire form); a line over 998 octets is folded. A last line without CRLF is left
 * out, unless it is the only one. *ret_long: a line was too long.
 */
void dsn_text_lines(struct buf *b, struct slice s, bool *ret_long);

#endif
