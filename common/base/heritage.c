#include "common/base/heritage.h"

const char *role_name(enum role r)
{
	switch (r) {
	case ROLE_MASTER:
		return "master";
	case ROLE_SPOOLER:
		return "spooler";
	case ROLE_WORKER:
		return "worker";
	case ROLE_RESOLVER:
		return "resolver";
	}
	return "?";
}
