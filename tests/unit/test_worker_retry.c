/* links: common/base worker/retry.c */
#include <criterion/criterion.h>

#include "common/conf/conf.h"
#include "worker/retry.h"

#define MIN_USEC (60 * USEC_PER_SEC)
#define MIN_MSEC (60 * MSEC_PER_SEC)

static const usec_t steps[] = {5 * MIN_USEC, 10 * MIN_USEC, 60 * MIN_USEC};

static struct conf_domain settings(usec_t recipients_after)
{
	return (struct conf_domain){.retry_after = {.v = steps, .n = 3},
				    .retry_recipients_after = recipients_after,
				    .retry_after_dns_error = MIN_USEC,
				    .bounce_after = 2 * MIN_USEC};
}

Test(retry, a_site_climbs_the_ladder_and_stays_on_its_last_step)
{
	struct conf_domain set = settings(0);

	cr_assert_eq(retry_site_delay(&set.retry_after, 0), 5 * MIN_MSEC);
	cr_assert_eq(retry_site_delay(&set.retry_after, 1), 10 * MIN_MSEC);
	cr_assert_eq(retry_site_delay(&set.retry_after, 2), 60 * MIN_MSEC);
	cr_assert_eq(retry_site_delay(&set.retry_after, 1000), 60 * MIN_MSEC);
	cr_assert_eq(retry_dns_delay(&set), MIN_MSEC);
}

Test(retry, a_recipient_waits_the_longer_of_its_step_and_the_least_time)
{
	struct conf_domain none = settings(0), least = settings(30 * MIN_USEC);

	cr_assert_eq(retry_recipient_delay(&none, &none.retry_after, 1), 5 * MIN_MSEC);
	cr_assert_eq(retry_recipient_delay(&none, &none.retry_after, 2), 10 * MIN_MSEC);
	cr_assert_eq(retry_recipient_delay(&least, &least.retry_after, 1), 30 * MIN_MSEC);
	cr_assert_eq(retry_recipient_delay(&least, &least.retry_after, 3), 60 * MIN_MSEC);
}

Test(retry, mail_expires_by_the_present_setting)
{
	struct conf_domain set = settings(0);

	cr_assert_eq(retry_expiry(&set, 1000), 1000 + 2 * MIN_MSEC);
	set.bounce_after = USEC_INFINITY;
	cr_assert_eq(retry_expiry(&set, 1000), UINT64_MAX);
}
