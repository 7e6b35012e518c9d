/* links: common/base common/conf common/spool common/shm common/ipc common/smtp common/mail common/acct common/dns/route.c common/dns/wire.c worker -worker/resolver.c -worker/resolver_main.c -worker/resolver_packet.c -worker/resolver_record.c -worker/resolver_route.c -worker/resolver_server.c -worker/resolver_upstream.c tests/replay/fake_loop.c tests/replay/fake_stream.c tests/replay/fake_dns.c */
#include <criterion/criterion.h>
#include <string.h>

#include "common/shm/shm.h"
#include "tests/replay/fake_net.h"
#include "worker/context.h"
#include "worker/duties.h"
#include "worker/post.h"
#include "worker/site.h"
#include "worker/sources.h"

#define NOW UINT64_C(1795305600000)
#define HOUR (3600 * USEC_PER_SEC)

static const struct ip one = {IP_V4, {192, 0, 2, 1}}, two = {IP_V4, {192, 0, 2, 2}};
static struct conf_source_host hosts[] = {{.host = "a.test"}, {.host = "b.test"}};
static struct conf_vmta vmta = {.name = "a"};
static struct conf_domain set = {.max_smtp_out = 20, .reenable_source_ip_after = HOUR};
static struct shm_counters counters;
static struct heritage h;
static struct worker w;
static struct queue q;
static struct site s;
static char name[] = "x.test", label[] = "x.test/a";

static void setup(void)
{
	fake_time_start(NOW);
	hosts[0].ip = one;
	hosts[1].ip = two;
	vmta.smtp_source_host.v = hosts;
	vmta.smtp_source_host.n = 2;
	w = (struct worker){.h = &h, .vmta = &vmta, .vmta_name = "a", .counters = &counters};
	w.loop = loop_new();
	w.shm = shm_new(
		&(struct shm_config){.max_workers = 1, .ring_size = 65536, .max_live_queues = 16});
	w.post = post_new(&w);
	w.duties = duties_new(&w);
	q = (struct queue){.magic = QUEUE_MAGIC, .w = &w, .id = 7, .site = &s};
	s = (struct site){.magic = SITE_MAGIC, .w = &w, .name = name, .label = label, .set = &set};
	TAILQ_INIT(&s.queues);
	TAILQ_INIT(&s.connections);
	TAILQ_INSERT_TAIL(&s.queues, &q, in_site);
}

static char next(void)
{
	struct source x;

	sources_next(&s, IP_V4, &x);
	return x.host[0];
}

Test(sources, take_turns, .init = setup)
{
	char first = next();

	cr_assert_neq(next(), first);
	cr_assert_eq(next(), first);
	cr_assert(sources_has(&s, IP_V4));
	cr_assert_not(sources_has(&s, IP_V6));
}

Test(sources, disabled_one_is_left_out, .init = setup)
{
	sources_disable(&s, &one, USEC_INFINITY, "550 blocked");
	for (int i = 0; i < 4; i++)
		cr_assert_eq(next(), 'b');
	cr_assert(sources_has(&s, IP_V4) && !sources_all_disabled(&s, IP_V4));
	sources_disable(&s, &two, USEC_INFINITY, "550 blocked");
	cr_assert(!sources_has(&s, IP_V4) && sources_all_disabled(&s, IP_V4));
	cr_assert_not(sources_all_disabled(&s, IP_V6), "there are none");
	cr_assert_eq(sources_next_enabled(&s), 0);
	cr_assert(sources_enable(&s, &one, "test"));
	cr_assert_not(sources_enable(&s, &one, "test"));
	cr_assert_eq(next(), 'a');
}

Test(sources, comes_back_after_the_time_of_the_reply_or_else_that_of_the_setting, .init = setup)
{
	struct site_disabled x;

	sources_disable(&s, &one, 0, "550 blocked");
	cr_assert(sources_disabled_at(&s, 0, &x));
	cr_assert_eq(x.until, NOW + HOUR / USEC_PER_MSEC);
	sources_disable(&s, &one, 2 * HOUR, "550 blocked again");
	cr_assert(sources_disabled_at(&s, 0, &x));
	cr_assert_eq(x.until, NOW + 2 * HOUR / USEC_PER_MSEC);
	cr_assert(slice_eq_str(x.why, "550 blocked again"));
	cr_assert_not(sources_disabled_at(&s, 1, &x), "it is there once");
	cr_assert_eq(sources_next_enabled(&s), x.until);
}

Test(sources, come_back_from_the_row_as_they_were, .init = setup)
{
	struct buf b = BUF_INIT;
	struct site_disabled x;

	sources_disable(&s, &one, USEC_INFINITY, "550 blocked");
	sources_encode(&s, &b);
	sources_free(&s);
	cr_assert_not(sources_is_disabled(&s, &one));
	sources_load(&s, buf_slice(&b));
	cr_assert(sources_is_disabled(&s, &one) && !sources_is_disabled(&s, &two));
	cr_assert(sources_disabled_at(&s, 0, &x));
	cr_assert(x.until == 0 && x.since == NOW && slice_eq_str(x.why, "550 blocked"));
	buf_done(&b);
}
