/*
 * lines.h - the text of one configuration file as logical lines: physical lines are counted and
 * checked (UTF-8, no control characters), comments and blank lines dropped, continuations joined.
 */
#ifndef SLUICE_CONF_LINES_H
#define SLUICE_CONF_LINES_H

#include <stdbool.h>

#include "common/base/buf.h"
#include "common/base/slice.h"
#include "common/conf/messages.h"

struct conf_scope;

enum conf_line_kind { CONF_LINE_END, CONF_LINE_HEADER, CONF_LINE_ENTRY, CONF_LINE_BAD };

struct conf_lines {
	struct slice rest; /* not yet read */
	struct conf_origin at; /* file, and the last physical line read */
	bool merged; /* marker lines count, continuations do not */
	bool marked; /* merged: `mark` is where the next line came from */
	bool secret; /* merged: and its value is secret */
	struct conf_origin mark;
	const struct conf_scope
		*scope; /* of the current section, for the types of values; or NULL */
	struct arena *arena;
	struct conf_messages *msgs;
	struct buf joined; /* a value from several lines */
};

struct conf_line {
	struct slice word; /* header: section word; entry: keyword */
	struct slice text; /* header: all between the brackets; entry: value without comment */
	struct conf_origin at;
	bool secret;
};

void conf_lines_init(struct conf_lines *l, struct slice text, const char *file, bool merged,
		     struct arena *arena, struct conf_messages *msgs);
void conf_lines_done(struct conf_lines *l);
/* The next logical line; slices are valid until the next call. CONF_LINE_BAD: reported, go on. */
enum conf_line_kind conf_lines_next(struct conf_lines *l, struct conf_line *ret);

/*
 * The value without what a comment (white space and # or ; outside quotes) begins, trimmed.
 * *ret_found says whether there was one.
 */
struct slice conf_strip_comment(struct slice value, bool *ret_found);

#endif
