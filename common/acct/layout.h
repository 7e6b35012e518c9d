/*
 * layout.h - which columns a file has, and a record as a line of it: CSV (RFC 4180 quoting, UTF-8,
 * lines end with LF) or JSON lines.
 *
 * A layout belongs to one thread. Lines are always valid UTF-8: bytes of a text from the wire that
 * are not become U+FFFD, in CSV NUL too; everything else, line breaks included, comes back from a
 * strict parser as it was.
 */
#ifndef SLUICE_ACCT_LAYOUT_H
#define SLUICE_ACCT_LAYOUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/acct/record.h"
#include "common/base/buf.h"
#include "common/base/macros.h"

struct acct_layout;
struct conf;

struct acct_layout_options {
	unsigned types; /* ACCT_IN_* that the file takes */
	bool json;
	bool iso_times;
	const char *user_string; /* borrowed; NULL is "" */
	const struct conf *conf; /* borrowed: for bounceCat; NULL: it is "other" */
};

/* All types have their default columns. */
struct acct_layout *acct_layout_new(const struct acct_layout_options *o);
void acct_layout_free(struct acct_layout *l);

/*
 * The columns of one type, in this order: names, "*" (the defaults), "!name" (not that one). A
 * list that begins with "!name" begins with the defaults. A field that the type does not have is
 * left out (a list may be meant for all types). ERR_CONFIG: *ret_error (heap) says which name does
 * not exist.
 */
int acct_layout_select(struct acct_layout *l, enum acct_type type, const char *const *names,
		       size_t n, char **ret_error) WARN_UNUSED;

/*
 * The line that begins a file (CSV), or nothing (JSON). Two layouts with equal headers can share a
 * file.
 */
void acct_layout_header(struct acct_layout *l, struct buf *b);
/* Appends the line of a record; false, and nothing, when the file does not take its type. */
bool acct_layout_line(struct acct_layout *l, const struct acct_record *r, uint64_t seq,
		      struct buf *b);

#endif
