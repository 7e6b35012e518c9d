#include "common/base/roff.h"

void roff_text(FILE *to, const char *s)
{
	if (*s == '.' || *s == '\'')
		fputs("\\&", to);
	for (; *s; s++) {
		if (*s == '-')
			fputs("\\-", to);
		else if (*s == '\\')
			fputs("\\e", to);
		else
			fputc(*s, to);
	}
}

void roff_line(FILE *to, const char *before, const char *s, const char *after)
{
	fputs(before, to);
	roff_text(to, s);
	fputs(after, to);
}
