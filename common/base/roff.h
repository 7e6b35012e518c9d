/*
 * roff.h - text for manual pages (man(7)).
 */
#ifndef SLUICE_BASE_ROFF_H
#define SLUICE_BASE_ROFF_H

#include <stdio.h>

/* '-' as one that may be copied; a line of text never begins like a request. */
void roff_text(FILE *to, const char *s);
/* before and after are roff already. */
void roff_line(FILE *to, const char *before, const char *s, const char *after);

#endif
