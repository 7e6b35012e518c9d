/*
 * regex.h - the regular expressions that operators write: Perl's (PCRE2), case-insensitive, compiled
 * once, with a bound on the work of each match, so that none can hold up who asks.
 *
 * Where the system lets it, an expression is translated to machine code at its first match; where it
 * does not (a sandbox without executable memory) it is interpreted. Any thread may match.
 */
#ifndef SLUICE_BASE_REGEX_H
#define SLUICE_BASE_REGEX_H

#include <stdbool.h>

#include "common/base/buf.h"
#include "common/base/slice.h"

struct regex;

enum regex_result {
	REGEX_NO,
	REGEX_YES,
	REGEX_GAVE_UP, /* no match within the bound: for the first time, warn of it */
	REGEX_GAVE_UP_AGAIN
};

/* NULL: `why` says what is wrong and at which offset (bytes, from 0) of the text. */
struct regex *regex_new(struct slice text, struct buf *why);
void regex_free(struct regex *r); /* NULL is fine */
/*
 * Does it match somewhere in the subject? Bytes that are no UTF-8 match nothing. One that has given up
 * gets a smaller bound from then on.
 */
enum regex_result regex_match(struct regex *r, struct slice subject);

#endif
