/*
 * idn.h - international domain names (IDNA 2008, RFC 5891, with the mapping of UTS 46). One form is used
 * inside: lower-case ASCII with A-labels ("xn--…"), so that both ways to write a name mean the same
 * queue, section and look-up. Pure functions; any process may call them.
 */
#ifndef SLUICE_BASE_IDN_H
#define SLUICE_BASE_IDN_H

#include <stdbool.h>

#include "common/base/slice.h"

#define IDN_TEXT_MAX 256 /* a domain with its NUL */

/*
 * The domain in lower case with A-labels; ASCII ones are only put in lower case, '_' and "*" may be in
 * them. ret holds IDN_TEXT_MAX bytes. False: it has characters that no domain may have, or is too
 * long; ret is not touched.
 */
bool idn_to_ascii(struct slice domain, char *ret);

#endif
