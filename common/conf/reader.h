/*
 * reader.h - the text of a configuration as a flat list of section headers and entries.
 *
 * inih tokenises, but cuts long lines and section names, glues indented lines and keeps no line
 * numbers. So this reader takes the text apart itself (lines, continuations, comments by the type of
 * the directive, the last ']' of a header, includes) and feeds ini_parse_stream() one short token for
 * each logical line, which comes back as the number of an item.
 *
 * The merged text, which travels to children, is written from the items and read by the same code:
 * "#@ LINE FLAGS FILE" lines say where the next line came from, each item is one line, and neither
 * includes nor continuation lines occur in it.
 */
#ifndef SLUICE_CONF_READER_H
#define SLUICE_CONF_READER_H

#include "common/base/buf.h"
#include "common/base/macros.h"
#include "common/conf/arena.h"
#include "common/conf/messages.h"

struct conf_scope;

struct conf_item {
	bool header;
	bool secret; /* the value came from ${ENV} or file: and is never shown */
	size_t reopens; /* header again after an include that had its own: 1 + its first item; else 0 */
	const struct conf_scope
		*scope; /* header: NULL if unknown; entry: of its section, or NULL */
	struct slice word; /* header: the section word; entry: the keyword */
	struct slice text; /* header: all between the brackets; entry: the value, as written */
	struct conf_origin at;
};

struct conf_items {
	struct conf_item *v; /* strings are in the arena, v on the heap */
	size_t n, cap;
};
void conf_items_done(struct conf_items *items);

#define CONF_INCLUDE_DEPTH 16
#define CONF_FILE_MAX ((size_t)256 << 20) /* bytes of one file */

/* Reads a file and its includes; what is wrong goes to msgs, the rest is still read. */
void conf_read_file(const char *path, struct arena *arena, struct conf_items *items,
		    struct conf_messages *msgs);
/* Reads text without includes and continuations; name (static) is that of its file in messages. */
void conf_read_text(struct slice text, const char *name, struct arena *arena,
		    struct conf_items *items, struct conf_messages *msgs);
/* Reads merged text. */
void conf_read_merged(struct slice merged, struct arena *arena, struct conf_items *items,
		      struct conf_messages *msgs);
/* Appends the items as merged text. */
void conf_write_merged(const struct conf_items *items, struct buf *to);

#endif
