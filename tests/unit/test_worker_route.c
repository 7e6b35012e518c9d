/* links: common/base common/conf common/spool common/shm common/ipc common/smtp common/mail common/acct common/dns/route.c common/dns/wire.c worker -worker/resolver.c -worker/resolver_main.c -worker/resolver_packet.c -worker/resolver_record.c -worker/resolver_route.c -worker/resolver_server.c -worker/resolver_upstream.c tests/replay/fake_loop.c tests/replay/fake_stream.c tests/replay/fake_dns.c */
#include <criterion/criterion.h>

#include "tests/replay/fake_net.h"
#include "worker/context.h"
#include "worker/route.h"

static struct worker w;
static struct route *got;
static unsigned answers;

static void on_route(struct route *r, void *arg)
{
	(void)arg;
	answers++;
	route_free(got);
	got = r;
}

static void setup(void)
{
	fake_time_start(1000000);
	fake_dns_reset();
	w.loop = loop_new();
	w.dns = dns_client_new(w.loop, "/nonexistent");
}

static void teardown(void)
{
	route_free(got);
	dns_client_free(w.dns);
	loop_free(w.loop);
}

static struct route *look_up(const char *domain, const struct conf_domain *set)
{
	answers = 0;
	cr_assert(route_lookup(&w, domain, set, 0, NULL, on_route, NULL));
	cr_assert_eq(answers, 0, "the answer came before the call returned");
	fake_loop_until(fake_elapsed() + 10 * USEC_PER_SEC);
	loop_run(w.loop);
	cr_assert_eq(answers, 1);
	return got;
}

static bool any(const struct route_target *t, void *arg)
{
	(void)t;
	(void)arg;
	return true;
}

static bool only_v6(const struct route_target *t, void *arg)
{
	(void)arg;
	return t->ip.family == IP_V6;
}

Test(route, hosts_come_by_preference_and_equal_ones_take_turns, .init = setup, .fini = teardown)
{
	struct conf_domain set = {.default_smtp_port = 25};
	struct route *r;
	const struct route_target *a, *b;

	fake_dns_mx("x.test", "20 far.test 192.0.2.9; 10 a.test 192.0.2.1; 10 b.test 192.0.2.2");
	r = look_up("x.test", &set);
	cr_assert_eq(r->status, DNS_OK);
	cr_assert_eq(r->count, 3);
	cr_assert_eq(r->first_group, 2);
	cr_assert_str_eq(r->targets[2].host, "far.test");
	a = route_next(r, any, NULL);
	b = route_next(r, any, NULL);
	cr_assert_neq(a, b);
	cr_assert_eq(route_next(r, any, NULL), a);
}

Test(route, a_failed_target_is_passed_over_until_the_round_ends, .init = setup, .fini = teardown)
{
	struct conf_domain set = {.default_smtp_port = 25};
	struct route *r;

	fake_dns_mx("x.test", "10 a.test 192.0.2.1; 20 b.test 192.0.2.2");
	r = look_up("x.test", &set);
	route_next(r, any, NULL)->failed = true;
	cr_assert_str_eq(route_next(r, any, NULL)->host, "b.test");
	route_next(r, any, NULL)->failed = true;
	cr_assert_null(route_next(r, any, NULL));
	route_reset(r);
	cr_assert_str_eq(route_next(r, any, NULL)->host, "a.test");
}

Test(route, families_that_cannot_be_used_are_passed_over, .init = setup, .fini = teardown)
{
	struct conf_domain set = {.default_smtp_port = 25};
	struct route *r;

	fake_dns_mx("x.test", "10 a.test 192.0.2.1; 20 b.test 2001:db8::1");
	r = look_up("x.test", &set);
	cr_assert_str_eq(route_next(r, only_v6, NULL)->host, "b.test");
}

Test(route, smtp_hosts_take_the_place_of_dns, .init = setup, .fini = teardown)
{
	static const struct conf_smtp_host hosts[] = {
		{.host = "192.0.2.7", .port = 2525, .preference = 0},
		{.host = "relay.test", .preference = 1},
		{.host = "y.test", .preference = 2, .lookup_mx = true},
	};
	struct conf_domain set = {.default_smtp_port = 26, .smtp_hosts = {.v = hosts, .n = 3}};
	struct route *r;

	fake_dns_mx("relay.test", "0 relay.test 192.0.2.8");
	fake_dns_mx("y.test", "10 mx.y.test 192.0.2.9");
	r = look_up("x.test", &set);
	cr_assert_eq(r->count, 3);
	cr_assert_eq(r->first_group, 1);
	cr_assert_eq(r->targets[0].port, 2525);
	cr_assert_eq(r->targets[1].port, 26);
	cr_assert_str_eq(r->targets[2].host, "mx.y.test");
	cr_assert_eq(fake_dns_lookups("x.test"), 0);
}

Test(route, a_literal_alone_is_answered_in_a_later_turn, .init = setup, .fini = teardown)
{
	static const struct conf_smtp_host host = {.host = "192.0.2.7"};
	struct conf_domain set = {.default_smtp_port = 26, .smtp_hosts = {.v = &host, .n = 1}};

	cr_assert_eq(look_up("x.test", &set)->count, 1);
}

Test(route, failures_keep_status_and_text, .init = setup, .fini = teardown)
{
	struct conf_domain set = {.default_smtp_port = 25};
	struct route *r;

	fake_dns_status("bad.test", DNS_TEMPFAIL, "SERVFAIL from 192.0.2.53");
	r = look_up("bad.test", &set);
	cr_assert_eq(r->status, DNS_TEMPFAIL);
	cr_assert_str_eq(r->text, "SERVFAIL from 192.0.2.53");
	fake_dns_status("null.test", DNS_NULL_MX, "");
	cr_assert_eq(look_up("null.test", &set)->status, DNS_NULL_MX);
}

Test(route, a_cancelled_lookup_never_answers, .init = setup, .fini = teardown)
{
	static const struct conf_smtp_host host = {.host = "192.0.2.7"};
	struct conf_domain fixed = {.smtp_hosts = {.v = &host, .n = 1}}, dns = {0};

	fake_dns_mx("x.test", "10 a.test 192.0.2.1");
	answers = 0;
	route_query_cancel(route_lookup(&w, "x.test", &fixed, 0, NULL, on_route, NULL));
	route_query_cancel(route_lookup(&w, "x.test", &dns, 0, NULL, on_route, NULL));
	fake_loop_until(fake_elapsed() + 10 * USEC_PER_SEC);
	loop_run(w.loop);
	cr_assert_eq(answers, 0);
}
