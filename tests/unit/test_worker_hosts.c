/* links: common/base tests/replay/fake_loop.c worker/hosts.c */
#include <criterion/criterion.h>

#include "tests/replay/fake_net.h"
#include "worker/hosts.h"

static struct loop *loop;
static struct hosts *hosts;
static struct ip one, two;

static void setup(void)
{
	fake_time_start(1000000);
	loop = loop_new();
	hosts = hosts_new(loop);
	cr_assert(ip_parse(slice_str("192.0.2.1"), &one));
	cr_assert(ip_parse(slice_str("2001:db8::1"), &two));
}

static void teardown(void)
{
	hosts_free(hosts);
	loop_free(loop);
}

static void pass(usec_t t)
{
	fake_loop_until(fake_elapsed() + t);
	loop_run(loop);
}

Test(hosts, an_unreachable_address_is_remembered_for_its_time, .init = setup, .fini = teardown)
{
	hosts_unreachable(hosts, &one, 25, 60 * USEC_PER_SEC);
	cr_assert(hosts_is_unreachable(hosts, &one, 25, 0));
	cr_assert_not(hosts_is_unreachable(hosts, &one, 26, 0));
	cr_assert_not(hosts_is_unreachable(hosts, &two, 25, 0));
	pass(59 * USEC_PER_SEC);
	cr_assert(hosts_is_unreachable(hosts, &one, 25, 0));
	pass(2 * USEC_PER_SEC);
	cr_assert_not(hosts_is_unreachable(hosts, &one, 25, 0));
}

Test(hosts, who_has_tried_later_does_not_believe_it, .init = setup, .fini = teardown)
{
	pass(USEC_PER_SEC);
	hosts_unreachable(hosts, &one, 25, 60 * USEC_PER_SEC);
	cr_assert(hosts_is_unreachable(hosts, &one, 25, loop_now(loop) - 1));
	cr_assert_not(hosts_is_unreachable(hosts, &one, 25, loop_now(loop)));
}

Test(hosts, one_that_answered_is_known_for_an_hour, .init = setup, .fini = teardown)
{
	usec_t before = loop_now(loop) - 1;

	hosts_reachable(hosts, &one, 25);
	cr_assert(hosts_is_reached(hosts, &one, 25, before));
	cr_assert_not(hosts_is_reached(hosts, &one, 25, loop_now(loop)), "it failed since");
	cr_assert_not(hosts_is_reached(hosts, &two, 25, before));
	hosts_tidy(hosts);
	cr_assert(hosts_is_reached(hosts, &one, 25, before));
	hosts_unreachable(hosts, &one, 25, USEC_PER_SEC);
	cr_assert_not(hosts_is_reached(hosts, &one, 25, before));
	hosts_reachable(hosts, &one, 25);
	pass(3601 * USEC_PER_SEC);
	cr_assert_not(hosts_is_reached(hosts, &one, 25, before));
}

Test(hosts, an_answer_clears_the_memory, .init = setup, .fini = teardown)
{
	hosts_unreachable(hosts, &two, 25, 60 * USEC_PER_SEC);
	hosts_reachable(hosts, &two, 25);
	cr_assert_not(hosts_is_unreachable(hosts, &two, 25, 0));
}

Test(hosts, failed_tls_is_remembered_for_an_hour_and_outlives_tidying, .init = setup,
     .fini = teardown)
{
	hosts_no_tls(hosts, &one, 25);
	hosts_unreachable(hosts, &one, 25, USEC_PER_SEC);
	pass(1800 * USEC_PER_SEC);
	hosts_tidy(hosts);
	cr_assert(hosts_has_no_tls(hosts, &one, 25));
	cr_assert_not(hosts_is_unreachable(hosts, &one, 25, 0));
	pass(1801 * USEC_PER_SEC);
	hosts_tidy(hosts);
	cr_assert_not(hosts_has_no_tls(hosts, &one, 25));
}

Test(hosts, the_memory_is_bounded, .init = setup, .fini = teardown)
{
	for (unsigned i = 0; i < 51000; i++) {
		struct ip ip = {.family = IP_V4,
				.b = {10, (uint8_t)(i >> 16), (uint8_t)(i >> 8), (uint8_t)i}};

		hosts_unreachable(hosts, &ip, 25, 60 * USEC_PER_SEC);
	}
	struct ip first = {.family = IP_V4, .b = {10, 0, 0, 0}};
	struct ip last = {.family = IP_V4, .b = {10, 0, 50999 >> 8, 50999 & 255}};

	cr_assert_not(hosts_is_unreachable(hosts, &first, 25, 0));
	cr_assert(hosts_is_unreachable(hosts, &last, 25, 0));
}
