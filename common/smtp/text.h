/*
 * text.h - makes text from the wire fit for logs, records and replies. Pure functions.
 */
#ifndef SLUICE_SMTP_TEXT_H
#define SLUICE_SMTP_TEXT_H

#include <stdbool.h>
#include <stddef.h>

#include "common/base/buf.h"
#include "common/base/slice.h"

/* Length of the valid UTF-8 sequence at p (1-4; no overlong forms, no surrogates), or 0. n > 0. */
size_t utf8_length(const char *p, size_t n);
bool utf8_valid(struct slice s);
bool ascii_only(struct slice s);
/*
 * Appends s to b until b holds max bytes: tabs become spaces, other control characters and bytes
 * that are no UTF-8 become '?'; no sequence is cut in the middle. False when something was left
 * out.
 */
bool text_add_safe(struct buf *b, struct slice s, size_t max);

#endif
