/*
 * text.h - numbers and times for people, and text from the wire made harmless for a terminal.
 */
#ifndef SLUICE_CLI_TEXT_H
#define SLUICE_CLI_TEXT_H

#include <stdint.h>

#include "cli/cli.h"
#include "common/base/buf.h"
#include "common/base/clock.h"

/* "1,234,567" */
void text_count(struct buf *b, int64_t n);
/* "1w2d", "2d3h", "3h10m", "5m", "12s": the two largest units. */
void text_span(struct buf *b, uint64_t seconds);
/* "2026-11-22 01:39:25", local time. */
void text_time(struct buf *b, msec_t when);
/* "in 5m", "3h ago", "now". */
void text_when(struct buf *b, msec_t when, msec_t now);
/* "12.3 GB": 1000 to a unit. */
void text_size(struct buf *b, uint64_t bytes);
/* UTF-8 with control characters, broken sequences and direction marks as '?'. */
void text_safe(struct buf *b, struct slice s);
/* Characters of UTF-8 text. */
size_t text_width(struct slice s);
/* The front of s that has at most n characters. */
struct slice text_cut(struct slice s, size_t n);
/* A value as text for people by kind; null and missing values are "". */
void text_value(struct buf *b, const json_t *v, enum column_kind kind);

#endif
