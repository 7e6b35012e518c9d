#include "common/base/err.h"

const char *err_text(int err)
{
	switch (err) {
	case 0:
		return "no error";
#define ERR_CASE(name, text) \
	case name:           \
		return text;
		ERR_LIST(ERR_CASE)
#undef ERR_CASE
	}
	return "unknown error";
}
