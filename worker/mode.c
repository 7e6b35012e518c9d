#include "worker/mode.h"

#include "worker/site.h"

uint64_t mode_max_smtp_out(const struct site *s)
{
	return s->set->max_smtp_out;
}

const struct conf_times *mode_retry_after(const struct site *s)
{
	return &s->set->retry_after;
}
