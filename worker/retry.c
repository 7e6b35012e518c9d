#include "worker/retry.h"

#include "common/conf/conf.h"

#define RETRY_DEFAULT (10 * 60 * MSEC_PER_SEC)

static msec_t ladder(const struct conf_times *t, uint32_t position)
{
	if (t->n == 0)
		return RETRY_DEFAULT;
	return t->v[position < t->n ? position : t->n - 1] / USEC_PER_MSEC;
}

msec_t retry_site_delay(const struct conf_times *after, uint32_t position)
{
	return ladder(after, position);
}

msec_t retry_dns_delay(const struct conf_domain *set)
{
	return set->retry_after_dns_error / USEC_PER_MSEC;
}

msec_t retry_recipient_delay(const struct conf_domain *set, const struct conf_times *after,
			     uint32_t attempts)
{
	msec_t own = ladder(after, attempts ? attempts - 1 : 0);
	msec_t least = set->retry_recipients_after / USEC_PER_MSEC;

	return own > least ? own : least;
}

msec_t retry_expiry(const struct conf_domain *set, msec_t received)
{
	if (set->bounce_after == USEC_INFINITY)
		return UINT64_MAX;
	return received + set->bounce_after / USEC_PER_MSEC;
}
