/* links: common/base common/loop common/dns tests/lib/testdns worker/resolver.c worker/resolver_packet.c worker/resolver_record.c worker/resolver_route.c worker/resolver_server.c worker/resolver_upstream.c */
#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/log.h"
#include "common/dns/dns.h"
#include "common/dns/wire.h"
#include "common/loop/loop.h"
#include "common/loop/stream.h"
#include "tests/lib/testdns/testdns.h"
#include "worker/resolver.h"

#define TIMEOUT (200 * USEC_PER_MSEC)

/*
 * The worker's directory holds only a link to the socket: one process must not open dns.mdb both as
 * writer and as reader.
 */
static char resolver_dir[] = "/tmp/sluice-resolver-XXXXXX";
static char worker_dir[] = "/tmp/sluice-worker-XXXXXX";
static struct loop *l;
static struct loop_timer *watchdog;
static struct testdns *one, *two;
static struct resolver *resolver;
static struct dns_client *client;

static void give_up(void *arg ATTR_UNUSED)
{
	panic("the test hangs");
}

static void file_in(const char *dir, const char *name, char *ret, size_t cap)
{
	(void)snprintf(ret, cap, "%s/%s", dir, name);
}

static void start_resolver_with(size_t servers, usec_t timeout)
{
	struct resolver_server s[2] = {{.port = testdns_port(one)}, {.port = testdns_port(two)}};
	struct resolver_conf c = {.servers = s,
				  .server_count = servers,
				  .timeout = timeout,
				  .negative_ttl_max = 3600 * USEC_PER_SEC};
	char *error = NULL;

	cr_assert(ip_parse(slice_str("127.0.0.1"), &s[0].ip));
	s[1].ip = s[0].ip;
	resolver = resolver_new(l, resolver_dir, &c, &error);
	cr_assert(resolver, "%s", error);
}

static void start_resolver(size_t servers)
{
	start_resolver_with(servers, TIMEOUT);
}

static void begin(void)
{
	char from[64], to[64];

	cr_assert(mkdtemp(resolver_dir));
	cr_assert(mkdtemp(worker_dir));
	file_in(resolver_dir, "resolver.sock", from, sizeof(from));
	file_in(worker_dir, "resolver.sock", to, sizeof(to));
	cr_assert_eq(symlink(from, to), 0);
	l = loop_new();
	watchdog = loop_timer_new(l, give_up, NULL);
	loop_timer_set(watchdog, 20 * USEC_PER_SEC);
	one = testdns_new(l);
	two = testdns_new(l);
	client = dns_client_new(l, worker_dir);
}

static void remove_dir(const char *dir)
{
	static const char *const names[] = {"resolver.sock", "dns.mdb", "dns.mdb-lock"};
	char path[64];

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		file_in(dir, names[i], path, sizeof(path));
		unlink(path);
	}
	rmdir(dir);
}

static void finish(void)
{
	dns_client_free(client);
	resolver_free(resolver);
	testdns_free(one);
	testdns_free(two);
	loop_timer_free(watchdog);
	loop_free(l);
	remove_dir(resolver_dir);
	remove_dir(worker_dir);
}

TestSuite(resolver, .init = begin, .fini = finish, .timeout = 40);

static struct dns_route *got;
static unsigned answers;

static void on_route(struct dns_route *route, void *arg ATTR_UNUSED)
{
	dns_route_free(got);
	got = route;
	answers++;
	loop_stop(l);
}

static const struct dns_route *look(const char *domain, unsigned flags, const char *avoid)
{
	unsigned before = answers;

	cr_assert(dns_lookup(client, slice_str(domain), flags, avoid, on_route, NULL));
	while (answers == before)
		loop_run(l);
	return got;
}

static void stop_now(void *arg ATTR_UNUSED)
{
	loop_stop(l);
}

static void run_for(usec_t t)
{
	struct loop_timer *timer = loop_timer_new(l, stop_now, NULL);

	loop_timer_set(timer, t);
	loop_run(l);
	loop_timer_free(timer);
}

/* "10 mx1.x.test 192.0.2.1,192.0.2.2; …" in order of the answer, addresses sorted by text. */
static int compare_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static const char *hosts_text(const struct dns_route *r)
{
	static char text[4096];
	size_t n = 0;

	text[0] = '\0';
	for (uint32_t i = 0; i < r->host_count; i++) {
		const struct dns_host *h = &r->hosts[i];
		char *addrs[64];

		n += (size_t)snprintf(text + n, sizeof(text) - n, "%s%u %s", i ? "; " : "",
				      h->preference, h->name);
		for (uint32_t k = 0; k < h->addr_count && k < 64; k++) {
			addrs[k] = malloc(IP_TEXT_MAX);
			(void)ip_text(&h->addrs[k], addrs[k]);
		}
		qsort(addrs, h->addr_count, sizeof(addrs[0]), compare_text);
		for (uint32_t k = 0; k < h->addr_count && k < 64; k++) {
			n += (size_t)snprintf(text + n, sizeof(text) - n, k ? ",%s" : " %s",
					      addrs[k]);
			free(addrs[k]);
		}
	}
	return text;
}

static void expect(const char *domain, enum dns_status status, const char *hosts)
{
	const struct dns_route *r = look(domain, 0, NULL);

	cr_assert_eq(r->status, status, "%s: %s (%s)", domain, dns_status_name(r->status), r->text);
	cr_assert_str_eq(hosts_text(r), hosts);
	cr_assert((r->text[0] == '\0') == (status == DNS_OK), "%s: \"%s\"", domain, r->text);
	cr_assert_geq(r->ttl, 1);
}

static void add_plain(struct testdns *d, const char *domain)
{
	char host[128];

	(void)snprintf(host, sizeof(host), "10 mx.%s", domain);
	testdns_add(d, domain, TESTDNS_MX, 300, host);
	testdns_add(d, host + 3, TESTDNS_A, 300, "192.0.2.1");
}

Test(resolver, gives_hosts_by_preference_with_both_families)
{
	testdns_add(one, "a.test", TESTDNS_MX, 300, "20 mx2.a.test");
	testdns_add(one, "a.test", TESTDNS_MX, 300, "10 MX1.A.test");
	testdns_add(one, "mx1.a.test", TESTDNS_A, 300, "192.0.2.1");
	testdns_add(one, "mx1.a.test", TESTDNS_A, 300, "192.0.2.2");
	testdns_add(one, "mx1.a.test", TESTDNS_AAAA, 300, "2001:db8::1");
	testdns_add(one, "mx2.a.test", TESTDNS_A, 200, "192.0.2.3");
	start_resolver(1);
	expect("A.Test", DNS_OK,
	       "10 mx1.a.test 192.0.2.1,192.0.2.2,2001:db8::1; 20 mx2.a.test 192.0.2.3");
	cr_assert_str_eq(got->resolver, testdns_name(one));
	cr_assert(!got->secure);
	cr_assert(!got->implicit_mx);
	/* The missing AAAA of mx2 is the first to be asked for again. */
	cr_assert_leq(got->ttl, 60);
	cr_assert_geq(got->ttl, 58);
}

Test(resolver, domains_without_mx_are_their_own_host)
{
	testdns_add(one, "b.test", TESTDNS_A, 300, "192.0.2.7");
	start_resolver(1);
	expect("b.test", DNS_OK, "0 b.test 192.0.2.7");
	cr_assert(got->implicit_mx);
}

Test(resolver, null_mx_nxdomain_and_no_host_are_told_apart)
{
	testdns_add(one, "null.test", TESTDNS_MX, 300, "0 ");
	testdns_add(one, "txt.test", TESTDNS_TXT, 300, "nothing");
	testdns_add(one, "dangling.test", TESTDNS_MX, 300, "10 gone.test");
	testdns_add(one, "bad.test", TESTDNS_MX, 300, "10 zero.test");
	testdns_add(one, "zero.test", TESTDNS_A, 300, "0.0.0.0");
	start_resolver(1);
	expect("null.test", DNS_NULL_MX, "");
	expect("none.test", DNS_NXDOMAIN, "");
	expect("txt.test", DNS_NO_HOST, "0 txt.test");
	cr_assert_str_eq(got->text, "txt.test has neither MX nor address");
	expect("dangling.test", DNS_NO_HOST, "10 gone.test");
	cr_assert(strstr(got->text, "gone.test"), "%s", got->text);
	expect("bad.test", DNS_NO_HOST, "10 zero.test");
	cr_assert(strstr(got->text, "ignored 0.0.0.0"), "%s", got->text);
}

Test(resolver, null_mx_beside_real_ones_is_ignored)
{
	testdns_add(one, "c.test", TESTDNS_MX, 300, "0 ");
	testdns_add(one, "c.test", TESTDNS_MX, 300, "5 mx.c.test");
	testdns_add(one, "mx.c.test", TESTDNS_A, 300, "192.0.2.1");
	start_resolver(1);
	expect("c.test", DNS_OK, "5 mx.c.test 192.0.2.1");
}

Test(resolver, an_mx_that_is_an_address_is_no_host)
{
	testdns_add(one, "lit.test", TESTDNS_MX, 300, "10 192.0.2.9");
	start_resolver(1);
	expect("lit.test", DNS_NO_HOST, "");
	cr_assert(strstr(got->text, "192.0.2.9"), "%s", got->text);
}

Test(resolver, aliases_of_domains_and_of_hosts_are_followed)
{
	testdns_add(one, "www.d.test", TESTDNS_CNAME, 100, "alias.d.test");
	testdns_add(one, "alias.d.test", TESTDNS_CNAME, 100, "d.test");
	testdns_add(one, "d.test", TESTDNS_MX, 300, "10 mx.d.test");
	testdns_add(one, "mx.d.test", TESTDNS_CNAME, 300, "real.d.test");
	testdns_add(one, "real.d.test", TESTDNS_A, 300, "192.0.2.4");
	start_resolver(1);
	expect("www.d.test", DNS_OK, "10 mx.d.test 192.0.2.4");
}

Test(resolver, a_chain_that_the_server_cuts_off_is_asked_on)
{
	testdns_add(one, "cut.test", TESTDNS_CNAME, 100, "next.test");
	testdns_add(one, "next.test", TESTDNS_MX, 300, "10 mx.next.test");
	testdns_add(one, "mx.next.test", TESTDNS_A, 300, "192.0.2.5");
	testdns_set_mood(one, "cut.test", TESTDNS_ONE_CNAME);
	start_resolver(1);
	expect("cut.test", DNS_OK, "10 mx.next.test 192.0.2.5");
	cr_assert_eq(testdns_asked(one, "next.test", TESTDNS_MX), 1);
}

Test(resolver, alias_loops_end_whether_in_one_packet_or_many)
{
	testdns_add(one, "x.test", TESTDNS_CNAME, 100, "y.test");
	testdns_add(one, "y.test", TESTDNS_CNAME, 100, "x.test");
	testdns_add(one, "p.test", TESTDNS_CNAME, 100, "q.test");
	testdns_add(one, "q.test", TESTDNS_CNAME, 100, "p.test");
	testdns_set_mood(one, "p.test", TESTDNS_ONE_CNAME);
	testdns_set_mood(one, "q.test", TESTDNS_ONE_CNAME);
	start_resolver(1);
	expect("x.test", DNS_LOOP, "");
	expect("p.test", DNS_LOOP, "");
	cr_assert_leq(testdns_asked(one, NULL, 0), 12);
	cr_assert_leq(got->ttl, 5);
}

Test(resolver, truncated_answers_come_over_tcp)
{
	char mx[64];

	for (int i = 0; i < 30; i++) {
		(void)snprintf(mx, sizeof(mx), "%d mx%02d.big.test", i, i);
		testdns_add(one, "big.test", TESTDNS_MX, 300, mx);
		testdns_add(one, strchr(mx, ' ') + 1, TESTDNS_A, 300, "192.0.2.1");
	}
	testdns_set_mood(one, "big.test", TESTDNS_TRUNCATED);
	start_resolver(1);
	cr_assert_eq(look("big.test", 0, NULL)->status, DNS_OK);
	cr_assert_eq(got->host_count, 20, "of 30 hosts the best 20 are used");
	for (uint32_t i = 0; i < 20; i++)
		cr_assert_eq(got->hosts[i].preference, i);
	cr_assert_eq(testdns_asked(one, "big.test", 0), 2);
	cr_assert_eq(testdns_asked(one, "mx25.big.test", 0), 0);
}

Test(resolver, a_truncated_answer_without_tcp_is_a_temporary_failure)
{
	testdns_set_mood(one, "deaf.test", TESTDNS_TRUNCATED_DEAF);
	start_resolver(1);
	expect("deaf.test", DNS_TEMPFAIL, "");
	cr_assert(strstr(got->text, "TCP"), "%s", got->text);
}

Test(resolver, packets_with_a_wrong_id_are_passed_over)
{
	add_plain(one, "first.test");
	add_plain(one, "only.test");
	testdns_set_mood(one, "first.test", TESTDNS_WRONG_ID_FIRST);
	testdns_set_mood(one, "only.test", TESTDNS_WRONG_ID);
	start_resolver(1);
	expect("first.test", DNS_OK, "10 mx.first.test 192.0.2.1");
	expect("only.test", DNS_TEMPFAIL, "");
	cr_assert(strstr(got->text, "no answer from 127.0.0.1:"), "%s", got->text);
}

Test(resolver, answers_to_other_questions_are_passed_over)
{
	testdns_set_mood(one, "q.test", TESTDNS_WRONG_QUESTION);
	start_resolver(1);
	expect("q.test", DNS_TEMPFAIL, "");
}

Test(resolver, garbage_is_a_temporary_failure_that_names_the_server)
{
	testdns_set_mood(one, "noise.test", TESTDNS_GARBAGE);
	start_resolver(1);
	expect("noise.test", DNS_TEMPFAIL, "");
	cr_assert(strstr(got->text, "malformed answer from 127.0.0.1:"), "%s", got->text);
}

Test(resolver, servfail_is_asked_of_the_next_server)
{
	add_plain(two, "s.test");
	testdns_set_mood(one, NULL, TESTDNS_SERVFAIL);
	start_resolver(2);
	expect("s.test", DNS_OK, "10 mx.s.test 192.0.2.1");
	cr_assert_str_eq(got->resolver, testdns_name(two));
	testdns_set_mood(two, NULL, TESTDNS_REFUSED);
	cr_assert_eq(look("t.test", 0, NULL)->status, DNS_TEMPFAIL);
	cr_assert(strstr(got->text, "SERVFAIL from") || strstr(got->text, "REFUSED from"), "%s",
		  got->text);
	cr_assert_leq(got->ttl, 5);
}

Test(resolver, never_falls_back_to_an_address_when_the_mx_question_failed)
{
	testdns_add(one, "f.test", TESTDNS_A, 300, "192.0.2.1");
	testdns_set_mood(one, "f.test", TESTDNS_SERVFAIL);
	start_resolver(1);
	expect("f.test", DNS_TEMPFAIL, "");
	cr_assert_eq(testdns_asked(one, "f.test", TESTDNS_A), 0);
}

Test(resolver, servers_without_edns_are_asked_without)
{
	add_plain(one, "old.test");
	testdns_set_mood(one, "old.test", TESTDNS_NO_EDNS);
	start_resolver(1);
	expect("old.test", DNS_OK, "10 mx.old.test 192.0.2.1");
	cr_assert_eq(testdns_asked(one, "old.test", 0), 2);
}

Test(resolver, a_silent_server_is_replaced_and_then_asked_last)
{
	char name[32];
	unsigned asked;

	testdns_set_mood(one, NULL, TESTDNS_SILENT);
	for (int i = 0; i < 8; i++) {
		(void)snprintf(name, sizeof(name), "d%d.test", i);
		add_plain(two, name);
	}
	start_resolver(2);
	/* After two questions both had their turn. */
	for (int i = 0; i < 2; i++) {
		(void)snprintf(name, sizeof(name), "d%d.test", i);
		cr_assert_eq(look(name, 0, NULL)->status, DNS_OK);
	}
	asked = testdns_asked(one, NULL, 0);
	cr_assert_gt(asked, 0);
	for (int i = 2; i < 8; i++) {
		(void)snprintf(name, sizeof(name), "d%d.test", i);
		cr_assert_eq(look(name, 0, NULL)->status, DNS_OK);
	}
	cr_assert_eq(testdns_asked(one, NULL, 0), asked);
}

Test(resolver, all_silent_is_a_temporary_failure_in_time)
{
	usec_t start = clock_now();
	struct resolver_stats st;

	testdns_set_mood(one, NULL, TESTDNS_SILENT);
	testdns_set_mood(two, NULL, TESTDNS_SILENT);
	start_resolver(2);
	expect("z.test", DNS_TEMPFAIL, "");
	cr_assert_leq(clock_now() - start, 5 * TIMEOUT);
	resolver_stats_get(resolver, &st);
	cr_assert_eq(st.queries, 4);
	cr_assert_eq(st.timeouts, 4);
	cr_assert_eq(st.tempfail, 1);
	cr_assert_eq(st.pending, 0);
	cr_assert_eq(st.cached, 1);
}

Test(resolver, answers_are_cached_and_equal_questions_merged)
{
	add_plain(one, "m.test");
	testdns_set_delay(one, "m.test", 20 * USEC_PER_MSEC);
	start_resolver(1);
	for (int i = 0; i < 50; i++)
		dns_lookup(client, slice_str("m.test"), 0, NULL, on_route, NULL);
	while (answers < 50)
		loop_run(l);
	cr_assert_eq(testdns_asked(one, "m.test", TESTDNS_MX), 1);
	cr_assert_eq(testdns_asked(one, NULL, 0), 3);
	expect("m.test", DNS_OK, "10 mx.m.test 192.0.2.1");
	cr_assert_eq(testdns_asked(one, NULL, 0), 3);
}

Test(resolver, addresses_of_a_shared_host_are_asked_once)
{
	testdns_add(one, "e1.test", TESTDNS_MX, 300, "10 shared.test");
	testdns_add(one, "e2.test", TESTDNS_MX, 300, "10 shared.test");
	testdns_add(one, "shared.test", TESTDNS_A, 300, "192.0.2.1");
	start_resolver(1);
	expect("e1.test", DNS_OK, "10 shared.test 192.0.2.1");
	expect("e2.test", DNS_OK, "10 shared.test 192.0.2.1");
	cr_assert_eq(testdns_asked(one, "shared.test", TESTDNS_A), 1);
}

Test(resolver, ttls_are_bounded_below_and_above)
{
	testdns_add(one, "short.test", TESTDNS_MX, 0, "10 mx.short.test");
	testdns_add(one, "mx.short.test", TESTDNS_A, 0, "192.0.2.1");
	testdns_add(one, "long.test", TESTDNS_MX, 0x7fffffff, "10 mx.long.test");
	testdns_add(one, "mx.long.test", TESTDNS_A, 0x7fffffff, "192.0.2.1");
	testdns_add(one, "mx.long.test", TESTDNS_AAAA, 0x7fffffff, "2001:db8::1");
	start_resolver(1);
	expect("short.test", DNS_OK, "10 mx.short.test 192.0.2.1");
	cr_assert_eq(got->ttl, 1);
	expect("long.test", DNS_OK, "10 mx.long.test 192.0.2.1,2001:db8::1");
	cr_assert_leq(got->ttl, 7 * 86400);
	cr_assert_geq(got->ttl, 7 * 86400 - 2);
}

Test(resolver, negative_answers_live_as_long_as_their_soa_says)
{
	testdns_set_negative_ttl(one, 7200);
	start_resolver(1);
	expect("n1.test", DNS_NXDOMAIN, "");
	cr_assert_leq(got->ttl, 3600, "dns-negative-ttl-max");
	cr_assert_geq(got->ttl, 3598);
	testdns_set_mood(one, NULL, TESTDNS_NO_SOA);
	expect("n2.test", DNS_NXDOMAIN, "");
	cr_assert_leq(got->ttl, 5);
}

Test(resolver, expired_answers_are_asked_again)
{
	testdns_add(one, "g.test", TESTDNS_MX, 1, "10 mx.g.test");
	testdns_add(one, "mx.g.test", TESTDNS_A, 300, "192.0.2.1");
	start_resolver(1);
	expect("g.test", DNS_OK, "10 mx.g.test 192.0.2.1");
	testdns_remove(one, "g.test");
	testdns_add(one, "g.test", TESTDNS_MX, 1, "20 mx.g.test");
	run_for(1100 * USEC_PER_MSEC);
	expect("g.test", DNS_OK, "20 mx.g.test 192.0.2.1");
	cr_assert_eq(testdns_asked(one, "mx.g.test", TESTDNS_A), 1);
}

Test(resolver, a_fresh_look_goes_past_the_cache_and_the_named_server)
{
	add_plain(one, "h.test");
	add_plain(two, "h.test");
	start_resolver(2);
	for (int i = 0; i < 4; i++) {
		look("h.test", DNS_FRESH, testdns_name(one));
		cr_assert_eq(got->status, DNS_OK);
		cr_assert_str_eq(got->resolver, testdns_name(two));
	}
	cr_assert_eq(testdns_asked(one, NULL, 0), 0);
	cr_assert_eq(testdns_asked(two, "h.test", TESTDNS_MX), 4);
}

Test(resolver, avoiding_the_only_server_asks_it)
{
	add_plain(one, "i.test");
	start_resolver(1);
	cr_assert_eq(look("i.test", DNS_FRESH, testdns_name(one))->status, DNS_OK);
}

Test(resolver, addresses_of_one_host_name)
{
	testdns_add(one, "host.test", TESTDNS_A, 300, "192.0.2.8");
	testdns_add(one, "host.test", TESTDNS_MX, 300, "10 other.test");
	start_resolver(1);
	cr_assert_eq(look("host.test", DNS_HOST_ONLY, NULL)->status, DNS_OK);
	cr_assert_str_eq(hosts_text(got), "0 host.test 192.0.2.8");
	cr_assert_eq(testdns_asked(one, "host.test", TESTDNS_MX), 0);
	cr_assert_eq(look("nohost.test", DNS_HOST_ONLY, NULL)->status, DNS_NXDOMAIN);
}

Test(resolver, secure_only_when_every_answer_was_checked)
{
	add_plain(one, "j.test");
	testdns_add(one, "mx.j.test", TESTDNS_AAAA, 300, "2001:db8::1");
	testdns_set_ad(one, true);
	start_resolver(1);
	expect("j.test", DNS_OK, "10 mx.j.test 192.0.2.1,2001:db8::1");
	cr_assert(got->secure);
}

Test(resolver, a_failing_address_family_does_not_hide_the_other)
{
	testdns_add(one, "k.test", TESTDNS_MX, 300, "10 mx.k.test");
	testdns_add(one, "k.test", TESTDNS_MX, 300, "20 mx2.k.test");
	testdns_add(one, "mx.k.test", TESTDNS_A, 300, "192.0.2.1");
	testdns_set_mood(one, "mx2.k.test", TESTDNS_SERVFAIL);
	start_resolver(1);
	expect("k.test", DNS_OK, "10 mx.k.test 192.0.2.1; 20 mx2.k.test");
	cr_assert_eq(got->hosts[1].status, DNS_TEMPFAIL);
	cr_assert_leq(got->ttl, 60);
	cr_assert_geq(got->ttl, 6);
}

Test(resolver, a_slow_domain_does_not_delay_another)
{
	usec_t start;

	add_plain(one, "slow.test");
	testdns_set_delay(one, "slow.test", 90 * USEC_PER_MSEC);
	add_plain(one, "quick.test");
	start_resolver(1);
	dns_lookup(client, slice_str("slow.test"), 0, NULL, on_route, NULL);
	start = clock_now();
	dns_lookup(client, slice_str("quick.test"), 0, NULL, on_route, NULL);
	while (answers < 1)
		loop_run(l);
	cr_assert_str_eq(got->hosts[0].name, "mx.quick.test");
	cr_assert_lt(clock_now() - start, 80 * USEC_PER_MSEC);
	while (answers < 2)
		loop_run(l);
	cr_assert_eq(got->status, DNS_OK);
}

static bool alive;

static void on_alive(struct dns_route *route, void *arg ATTR_UNUSED)
{
	alive = route->status == DNS_OK;
	dns_route_free(route);
	loop_stop(l);
}

/* 100 places, three times as many domains without an answer before the one that has one. */
Test(resolver, silent_domains_do_not_keep_every_place)
{
	const struct rlimit few = {.rlim_cur = 1100, .rlim_max = 1100};
	usec_t start;
	char name[32];

	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &few), 0);
	add_plain(one, "alive.test");
	start_resolver_with(1, 8 * USEC_PER_SEC);
	for (int i = 0; i < 300; i++) {
		(void)snprintf(name, sizeof(name), "dead%d.test", i);
		testdns_set_mood(one, name, TESTDNS_SILENT);
		dns_lookup(client, slice_str(name), 0, NULL, on_route, NULL);
	}
	dns_lookup(client, slice_str("alive.test"), 0, NULL, on_alive, NULL);
	start = clock_now();
	while (!alive)
		loop_run(l);
	cr_assert_lt(clock_now() - start, 4 * USEC_PER_SEC, "and not 24 s");
}

Test(resolver, equal_preference_comes_in_random_order_also_from_the_cache)
{
	unsigned first[3] = {0};

	testdns_add(one, "r.test", TESTDNS_MX, 300, "10 m0.test");
	testdns_add(one, "r.test", TESTDNS_MX, 300, "10 m1.test");
	testdns_add(one, "r.test", TESTDNS_MX, 300, "10 m2.test");
	for (int i = 0; i < 3; i++)
		testdns_add(one, (const char *[]){"m0.test", "m1.test", "m2.test"}[i], TESTDNS_A,
			    300, "192.0.2.1");
	start_resolver(1);
	for (int i = 0; i < 90; i++)
		first[look("r.test", 0, NULL)->hosts[0].name[1] - '0']++;
	for (int i = 0; i < 3; i++)
		cr_assert_gt(first[i], 5, "host %d came first %u times of 90", i, first[i]);
	cr_assert_eq(testdns_asked(one, "r.test", 0), 1);
}

Test(resolver, many_look_ups_at_once_are_all_answered)
{
	char name[32];

	/* Longer than usual: the test's own server answers all of them in this loop. */
	start_resolver_with(1, 10 * USEC_PER_SEC);
	for (int i = 0; i < 3000; i++) {
		(void)snprintf(name, sizeof(name), "bulk%d.test", i);
		dns_lookup(client, slice_str(name), 0, NULL, on_route, NULL);
	}
	while (answers < 3000)
		loop_run(l);
	cr_assert_eq(got->status, DNS_NXDOMAIN, "%s", got->text);
}

Test(resolver, names_that_cannot_exist_are_not_asked_for)
{
	static const char *const bad[] = {"a..test", "-\x01.test", "x y.test", ".test",
					  "a\\b.test"};
	char label[80], longest[300];

	start_resolver(1);
	memset(label, 'x', 64);
	memcpy(label + 64, ".test", 6);
	memset(longest, 'y', sizeof(longest));
	longest[299] = '\0';
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		expect(bad[i], DNS_NXDOMAIN, "");
	expect(label, DNS_NXDOMAIN, "");
	expect(longest, DNS_NXDOMAIN, "");
	expect("", DNS_NXDOMAIN, "");
	cr_assert_eq(dns_lookup(client, slice_of("a\0.test", 7), 0, NULL, on_route, NULL) == NULL,
		     false);
	loop_run(l);
	cr_assert_eq(got->status, DNS_NXDOMAIN);
	cr_assert_eq(testdns_asked(one, NULL, 0), 0);
}

Test(resolver, a_trailing_dot_makes_no_difference)
{
	add_plain(one, "dot.test");
	start_resolver(1);
	expect("dot.test.", DNS_OK, "10 mx.dot.test 192.0.2.1");
}

/* ---- the socket ---- */

static unsigned replies;
static bool closed;

static void on_raw(struct stream *s, enum stream_event what, void *arg ATTR_UNUSED)
{
	struct slice body;

	if (what == STREAM_DATA) {
		while (dns_frame(stream_input(s), DNS_REPLY_MAX, &body) == 1) {
			stream_consume(s, body.n + 4);
			replies++;
		}
		loop_stop(l);
	} else if (what == STREAM_EOF || what == STREAM_ERROR) {
		closed = true;
		loop_stop(l);
	}
}

static struct stream *connect_raw(void)
{
	char path[64];

	file_in(resolver_dir, "resolver.sock", path, sizeof(path));
	return stream_connect_unix(l, path, on_raw, NULL);
}

Test(resolver, a_worker_that_asks_more_than_it_reads_is_slowed_down_not_forgotten)
{
	const unsigned count = 100000;
	struct buf b = BUF_INIT;
	struct stream *s;

	start_resolver(1);
	s = connect_raw();
	for (unsigned i = 0; i < count; i++) {
		struct dns_request q = {.id = i, .domain = SLICE_LIT("[192.0.2.1]")};

		dns_request_encode(&b, &q);
	}
	stream_write(s, b.p, b.n);
	stream_pause_input(s, true);
	run_for(100 * USEC_PER_MSEC);
	cr_assert_gt(stream_output_pending(s), 0, "the resolver read everything");
	stream_pause_input(s, false);
	while (replies < count)
		loop_run(l);
	cr_assert_eq(replies, count);
	stream_free(s);
	buf_done(&b);
}

Test(resolver, a_client_that_talks_nonsense_is_closed_and_others_go_on)
{
	struct stream *s;

	add_plain(one, "sane.test");
	start_resolver(1);
	s = connect_raw();
	stream_write(s, "GET / HTTP/1.0\r\n\r\n", 18);
	while (!closed)
		loop_run(l);
	stream_free(s);
	closed = false;
	s = connect_raw();
	stream_write(s, "\x03\x00\x00\x00\x01\x01\x00", 7);
	while (!closed)
		loop_run(l);
	stream_free(s);
	expect("sane.test", DNS_OK, "10 mx.sane.test 192.0.2.1");
}

Test(resolver, answers_for_a_worker_that_has_gone_are_dropped)
{
	struct dns_request q = {.id = 1, .domain = SLICE_LIT("gone.test")};
	struct buf b = BUF_INIT;
	struct stream *s;

	add_plain(one, "gone.test");
	testdns_set_delay(one, "gone.test", 30 * USEC_PER_MSEC);
	start_resolver(1);
	s = connect_raw();
	dns_request_encode(&b, &q);
	stream_write(s, b.p, b.n);
	run_for(10 * USEC_PER_MSEC);
	stream_free(s);
	run_for(60 * USEC_PER_MSEC);
	buf_done(&b);
	expect("gone.test", DNS_OK, "10 mx.gone.test 192.0.2.1");
	cr_assert_eq(testdns_asked(one, "gone.test", TESTDNS_MX), 1);
}

/* ---- the client and a resolver that comes and goes ---- */

Test(resolver, literals_need_no_resolver)
{
	expect("[192.0.2.33]", DNS_OK, "0 [192.0.2.33] 192.0.2.33");
	expect("[IPv6:2001:DB8::5]", DNS_OK, "0 [ipv6:2001:db8::5] 2001:db8::5");
	expect("[2001:db8::5]", DNS_NXDOMAIN, "");
	expect("[300.1.1.1]", DNS_NXDOMAIN, "");
	expect("[192.0.2.33", DNS_NXDOMAIN, "");
}

Test(resolver, a_look_up_waits_for_a_resolver_that_starts_later)
{
	add_plain(one, "late.test");
	dns_lookup(client, slice_str("late.test"), 0, NULL, on_route, NULL);
	run_for(30 * USEC_PER_MSEC);
	cr_assert_eq(answers, 0);
	start_resolver(1);
	while (answers < 1)
		loop_run(l);
	cr_assert_eq(got->status, DNS_OK);
}

Test(resolver, questions_are_sent_again_to_a_new_resolver)
{
	add_plain(one, "again.test");
	testdns_set_mood(one, NULL, TESTDNS_SILENT);
	start_resolver(1);
	dns_lookup(client, slice_str("again.test"), 0, NULL, on_route, NULL);
	run_for(30 * USEC_PER_MSEC);
	resolver_free(resolver);
	testdns_set_mood(one, NULL, TESTDNS_NORMAL);
	start_resolver(1);
	while (answers < 1)
		loop_run(l);
	cr_assert_eq(got->status, DNS_OK);
}

Test(resolver, cancelled_look_ups_stay_silent)
{
	struct dns_query *asked, *known;

	add_plain(one, "cancel.test");
	start_resolver(1);
	asked = dns_lookup(client, slice_str("cancel.test"), 0, NULL, on_route, NULL);
	known = dns_lookup(client, slice_str("[192.0.2.1]"), 0, NULL, on_route, NULL);
	dns_query_cancel(asked);
	dns_query_cancel(known);
	dns_query_cancel(NULL);
	run_for(30 * USEC_PER_MSEC);
	cr_assert_eq(answers, 0);
	asked = dns_lookup(client, slice_str("cancel.test"), 0, NULL, on_route, NULL);
	cr_assert(asked);
	dns_client_free(client);
	client = NULL;
	run_for(30 * USEC_PER_MSEC);
	cr_assert_eq(answers, 0);
}

/* ---- for the operator ---- */

static json_t *described;

static void on_described(json_t *answer, const struct dns_route *route ATTR_UNUSED,
			 void *arg ATTR_UNUSED)
{
	json_decref(described);
	described = answer;
	loop_stop(l);
}

static const char *described_text(const char *key)
{
	return json_string_value(json_object_get(described, key));
}

Test(resolver, describes_a_domain)
{
	const json_t *host;

	add_plain(one, "o.test");
	start_resolver(1);
	resolver_describe(resolver, slice_str("O.test."), on_described, NULL);
	loop_run(l);
	cr_assert_str_eq(described_text("domain"), "o.test");
	cr_assert_str_eq(described_text("status"), "ok");
	cr_assert_str_eq(described_text("resolver"), testdns_name(one));
	cr_assert(json_is_false(json_object_get(described, "cached")));
	host = json_array_get(json_object_get(described, "hosts"), 0);
	cr_assert_str_eq(json_string_value(json_object_get(host, "host")), "mx.o.test");
	cr_assert_eq(json_integer_value(json_object_get(host, "preference")), 10);
	cr_assert_str_eq(json_string_value(json_array_get(json_object_get(host, "addresses"), 0)),
			 "192.0.2.1");
	run_for(USEC_PER_MSEC);
	resolver_describe(resolver, slice_str("o.test"), on_described, NULL);
	cr_assert(json_is_true(json_object_get(described, "cached")));
	resolver_describe(resolver, slice_str("\xff\xfe"), on_described, NULL);
	cr_assert_str_eq(described_text("status"), "nxdomain");
	json_decref(described);
}

Test(resolver, clearing_forgets_a_domain_with_its_hosts_or_all)
{
	add_plain(one, "c1.test");
	add_plain(one, "c2.test");
	start_resolver(1);
	look("c1.test", 0, NULL);
	look("c2.test", 0, NULL);
	run_for(USEC_PER_MSEC);
	cr_assert_eq(resolver_clear(resolver, slice_str("C1.test")), 1);
	cr_assert_eq(resolver_clear(resolver, slice_str("unknown.test")), 0);
	look("c1.test", 0, NULL);
	look("c2.test", 0, NULL);
	cr_assert_eq(testdns_asked(one, "c1.test", TESTDNS_MX), 2);
	cr_assert_eq(testdns_asked(one, "mx.c1.test", TESTDNS_A), 2);
	cr_assert_eq(testdns_asked(one, "c2.test", TESTDNS_MX), 1);
	run_for(USEC_PER_MSEC);
	cr_assert_eq(resolver_clear(resolver, slice_str("*")), 2);
	look("c2.test", 0, NULL);
	cr_assert_eq(testdns_asked(one, "c2.test", TESTDNS_MX), 2);
	cr_assert_eq(testdns_asked(one, "mx.c2.test", TESTDNS_A), 2);
}

Test(resolver, reads_nameservers_of_resolv_conf)
{
	struct resolver_server s[4];
	char path[64], text[IP_TEXT_MAX];
	FILE *f;

	file_in(worker_dir, "resolv.conf", path, sizeof(path));
	f = fopen(path, "w");
	fputs("# nameserver 192.0.2.1\nsearch x\nnameserver 192.0.2.2\nnameserver\t2001:db8::53\n"
	      "nameservers 192.0.2.4\nnameserver fe80::1%eth0\n",
	      f);
	fclose(f);
	cr_assert_eq(resolver_read_resolv_conf(path, s, 4), 2);
	cr_assert_str_eq(ip_text(&s[0].ip, text), "192.0.2.2");
	cr_assert_str_eq(ip_text(&s[1].ip, text), "2001:db8::53");
	cr_assert_eq(s[1].port, 53);
	unlink(path);
	cr_assert_eq(resolver_read_resolv_conf(path, s, 4), 1);
	cr_assert_str_eq(ip_text(&s[0].ip, text), "127.0.0.1");
}

/* ---- with a resolver in another process, workers read its cache ---- */

static pid_t resolver_pid;

static void fork_resolver(void)
{
	resolver_pid = fork();
	cr_assert_geq(resolver_pid, 0);
	if (resolver_pid > 0)
		return;
	loop_abandon(l);
	l = loop_new();
	one = testdns_new(l);
	two = testdns_new(l);
	add_plain(one, "cache.test");
	start_resolver(1);
	loop_run(l);
	_exit(0);
}

static void kill_resolver(void)
{
	kill(resolver_pid, SIGKILL);
	cr_assert_eq(waitpid(resolver_pid, NULL, 0), resolver_pid);
}

Test(resolver, workers_use_the_cache_file_also_while_the_resolver_is_dead)
{
	fork_resolver();
	dns_client_free(client);
	client = dns_client_new(l, resolver_dir);
	expect("cache.test", DNS_OK, "10 mx.cache.test 192.0.2.1");
	/* A reader looks for the file once a second. */
	run_for(1100 * USEC_PER_MSEC);
	expect("cache.test", DNS_OK, "10 mx.cache.test 192.0.2.1");
	kill_resolver();
	expect("cache.test", DNS_OK, "10 mx.cache.test 192.0.2.1");
	fork_resolver();
	run_for(1100 * USEC_PER_MSEC);
	expect("none.test", DNS_NXDOMAIN, "");
	expect("cache.test", DNS_OK, "10 mx.cache.test 192.0.2.1");
	kill_resolver();
}
