#include "common/base/idn.h"

#include <stdlib.h>
#include <string.h>

#include <idn2.h>

static bool is_ascii(struct slice s)
{
	size_t i;

	for (i = 0; i < s.n; i++)
		if ((unsigned char)s.p[i] >= 0x80)
			return false;
	return true;
}

bool idn_to_ascii(struct slice domain, char *ret)
{
	uint8_t *ascii = NULL;
	char *copy;
	size_t n = 0;

	if (is_ascii(domain)) {
		if (domain.n >= IDN_TEXT_MAX)
			return false;
		(void)slice_copy(domain, ret, IDN_TEXT_MAX);
		str_lower(ret);
		return true;
	}
	if (domain.n == 0 || memchr(domain.p, '\0', domain.n))
		return false;
	copy = slice_dup(domain);
	if (idn2_lookup_u8((const uint8_t *)copy, &ascii, IDN2_NFC_INPUT | IDN2_NONTRANSITIONAL) ==
	    IDN2_OK)
		n = strlen((const char *)ascii);
	free(copy);
	if (n > 0 && n < IDN_TEXT_MAX) {
		memcpy(ret, ascii, n + 1);
		str_lower(ret);
	}
	idn2_free(ascii);
	return n > 0 && n < IDN_TEXT_MAX;
}
