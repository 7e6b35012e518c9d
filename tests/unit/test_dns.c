/* links: common/base common/loop common/dns */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/err.h"
#include "common/base/rng.h"
#include "common/base/xalloc.h"
#include "common/dns/cache.h"
#include "common/dns/route.h"
#include "common/dns/wire.h"

static struct ip ip_of(const char *text)
{
	struct ip ip;

	cr_assert(ip_parse(slice_str(text), &ip), "%s", text);
	return ip;
}

static struct dns_route *sample(void)
{
	struct dns_route *r = dns_route_new(DNS_OK, xstrdup("ignored something"));
	struct ip v4 = ip_of("192.0.2.1"), v6 = ip_of("2001:db8::1");
	struct dns_host *h;

	r->secure = true;
	r->ttl = 300;
	free(r->resolver);
	r->resolver = xstrdup("127.0.0.1:53");
	h = dns_route_add_host(r, slice_str("MX1.example"), 65535);
	h->status = DNS_TEMPFAIL;
	h = dns_route_add_host(r, slice_str("mx2.example"), 0);
	h->status = DNS_OK;
	dns_host_add_addr(h, &v4);
	dns_host_add_addr(h, &v6);
	return r;
}

static void expect_sample(const struct dns_route *r)
{
	struct ip v4 = ip_of("192.0.2.1"), v6 = ip_of("2001:db8::1");

	cr_assert_eq(r->status, DNS_OK);
	cr_assert(r->secure);
	cr_assert(!r->implicit_mx);
	cr_assert_str_eq(r->text, "ignored something");
	cr_assert_str_eq(r->resolver, "127.0.0.1:53");
	cr_assert_eq(r->host_count, 2);
	cr_assert_str_eq(r->hosts[0].name, "mx1.example");
	cr_assert_eq(r->hosts[0].preference, 65535);
	cr_assert_eq(r->hosts[0].status, DNS_TEMPFAIL);
	cr_assert_eq(r->hosts[0].addr_count, 0);
	cr_assert_eq(r->hosts[1].addr_count, 2);
	cr_assert(ip_eq(&r->hosts[1].addrs[0], &v4));
	cr_assert(ip_eq(&r->hosts[1].addrs[1], &v6));
}

Test(dns_route, copies_are_deep_and_equal)
{
	struct dns_route *r = sample(), *copy = dns_route_copy(r);

	dns_route_free(r);
	expect_sample(copy);
	cr_assert_eq(copy->ttl, 300);
	dns_route_free(copy);
	dns_route_free(NULL);
}

Test(dns_route, holds_many_hosts_and_addresses)
{
	struct dns_route *r = dns_route_new(DNS_OK, NULL);
	struct ip ip = ip_of("10.0.0.0");
	char name[16];

	for (unsigned i = 0; i < 100; i++) {
		struct dns_host *h;

		(void)snprintf(name, sizeof(name), "h%u", i);
		h = dns_route_add_host(r, slice_str(name), (uint16_t)(100 - i));
		for (unsigned k = 0; k <= i; k++) {
			ip.b[3] = (uint8_t)k;
			dns_host_add_addr(h, &ip);
		}
	}
	dns_route_shuffle(r);
	for (unsigned i = 0; i < 100; i++) {
		(void)snprintf(name, sizeof(name), "h%u", 99 - i);
		cr_assert_str_eq(r->hosts[i].name, name);
		cr_assert_eq(r->hosts[i].addr_count, 100 - i);
	}
	dns_route_free(r);
}

Test(dns_route, every_status_has_a_name)
{
	for (int i = DNS_OK; i <= DNS_LOOP; i++)
		cr_assert_str_neq(dns_status_name((enum dns_status)i), "?");
	cr_assert_str_eq(dns_status_name(DNS_NULL_MX), "null-mx");
}

Test(dns_wire, routes_come_back_with_the_rest_of_their_life)
{
	static const struct {
		msec_t expires, now;
		uint32_t ttl;
	} cases[] = {{10000, 0, 10}, {10999, 1000, 9}, {10000, 9500, 1}, {10000, 20000, 1}};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct dns_route *r = sample();
		struct buf b = BUF_INIT;
		msec_t expires;

		dns_route_encode(&b, r, cases[i].expires);
		dns_route_free(r);
		cr_assert_eq(dns_route_decode(buf_slice(&b), cases[i].now, &r, &expires), 0);
		expect_sample(r);
		cr_assert_eq(expires, cases[i].expires);
		cr_assert_eq(r->ttl, cases[i].ttl);
		dns_route_free(r);
		buf_done(&b);
	}
}

Test(dns_wire, cut_or_foreign_routes_are_refused)
{
	struct dns_route *r = sample(), *back = NULL;
	struct buf b = BUF_INIT;
	msec_t expires;

	dns_route_encode(&b, r, 1);
	dns_route_free(r);
	for (size_t n = 0; n < b.n; n++)
		cr_assert_lt(dns_route_decode(slice_of(b.p, n), 0, &back, &expires), 0);
	buf_add_char(&b, 'x');
	cr_assert_eq(dns_route_decode(buf_slice(&b), 0, &back, &expires), ERR_CORRUPT);
	b.p[0] = DNS_WIRE_VERSION + 1;
	cr_assert_eq(dns_route_decode(buf_slice(&b), 0, &back, &expires), ERR_VERSION);
	cr_assert_null(back);
	buf_done(&b);
}

Test(dns_wire, requests_and_replies_travel_in_frames)
{
	struct dns_request q = {.id = 70000,
				.flags = DNS_FRESH,
				.domain = SLICE_LIT("example.com"),
				.avoid = SLICE_LIT("127.0.0.1:53")},
			   back;
	struct buf b = BUF_INIT;
	struct slice body, route;
	uint64_t id;

	dns_request_encode(&b, &q);
	for (size_t n = 0; n < b.n; n++)
		cr_assert_eq(dns_frame(slice_of(b.p, n), DNS_REQUEST_MAX, &body), 0);
	cr_assert_eq(dns_frame(buf_slice(&b), DNS_REQUEST_MAX, &body), 1);
	cr_assert_eq(body.n, b.n - 4);
	cr_assert_eq(dns_request_decode(body, &back), 0);
	cr_assert_eq(back.id, 70000);
	cr_assert_eq(back.flags, DNS_FRESH);
	cr_assert(slice_eq(back.domain, q.domain));
	cr_assert(slice_eq(back.avoid, q.avoid));
	cr_assert_eq(dns_frame(buf_slice(&b), 5, &body), ERR_TOO_LONG);
	buf_clear(&b);
	dns_reply_encode(&b, 5, slice_str("route"));
	cr_assert_eq(dns_frame(buf_slice(&b), DNS_REPLY_MAX, &body), 1);
	cr_assert_eq(dns_reply_decode(body, &id, &route), 0);
	cr_assert_eq(id, 5);
	cr_assert(slice_eq_str(route, "route"));
	cr_assert_lt(dns_reply_decode(slice_sub(body, 0, body.n - 1), &id, &route), 0);
	buf_done(&b);
}

Test(dns_wire, keys_ignore_case_and_tell_hosts_from_domains)
{
	char a[DNS_KEY_MAX], b[DNS_KEY_MAX], longest[256];

	cr_assert_eq(dns_key(slice_str("Example.COM"), false, a), 12);
	cr_assert_eq(dns_key(slice_str("example.com"), false, b), 12);
	cr_assert_eq(memcmp(a, b, 12), 0);
	(void)dns_key(slice_str("example.com"), true, b);
	cr_assert_neq(memcmp(a, b, 12), 0);
	memset(longest, 'x', sizeof(longest));
	cr_assert_eq(dns_key(slice_of(longest, 255), false, a), 256);
	cr_assert_eq(dns_key(slice_of(longest, 256), false, a), 0);
	cr_assert_eq(dns_key(slice_of(longest, 0), false, a), 0);
}

/* ---- the cache file: the writer here, readers in children ---- */

static char dir[] = "/tmp/sluice-dns-XXXXXX";
static struct dns_cache_writer *w;

static void create(size_t size)
{
	char *error = NULL;

	w = dns_cache_create(dir, size, &error);
	cr_assert(w, "%s", error);
}

static void begin(void)
{
	cr_assert(mkdtemp(dir));
}

static void finish(void)
{
	char path[64];

	dns_cache_close(w);
	(void)snprintf(path, sizeof(path), "%s/%s", dir, DNS_CACHE_FILE);
	unlink(path);
	(void)snprintf(path, sizeof(path), "%s/%s-lock", dir, DNS_CACHE_FILE);
	unlink(path);
	rmdir(dir);
}

TestSuite(dns_cache, .init = begin, .fini = finish, .timeout = 30);

static void put(const char *domain, msec_t expires)
{
	struct dns_route *r = sample();

	dns_cache_put(w, slice_str(domain), false, r, expires);
	dns_route_free(r);
}

static bool has(const char *domain, msec_t now)
{
	struct dns_route *r;

	if (dns_cache_peek(w, slice_str(domain), false, now, &r) < 0)
		return false;
	expect_sample(r);
	dns_route_free(r);
	return true;
}

Test(dns_cache, gives_what_was_flushed_until_it_expires)
{
	struct dns_route *r;

	create(1 << 20);
	put("a.test", 5000);
	cr_assert(!has("a.test", 1000), "not flushed");
	cr_assert_eq(dns_cache_flush(w, 1000), 0);
	cr_assert(has("a.test", 1000));
	cr_assert(has("A.Test", 4999));
	cr_assert(!has("a.test", 5000));
	cr_assert(!has("b.test", 1000));
	cr_assert_eq(dns_cache_peek(w, slice_str("a.test"), true, 1000, &r), ERR_NOT_FOUND);
	cr_assert_eq(dns_cache_count(w), 1);
}

Test(dns_cache, a_newer_answer_replaces_the_older)
{
	create(1 << 20);
	put("a.test", 2000);
	put("a.test", 9000);
	cr_assert_eq(dns_cache_flush(w, 1000), 0);
	put("b.test", 9000);
	/* The row of the old expiry is gone: nothing is dropped in its name. */
	cr_assert_eq(dns_cache_flush(w, 3000), 0);
	cr_assert(has("a.test", 3000));
	cr_assert_eq(dns_cache_count(w), 2);
}

Test(dns_cache, expired_rows_are_dropped_while_others_are_written)
{
	char name[32];

	create(4 << 20);
	for (int i = 0; i < 500; i++) {
		(void)snprintf(name, sizeof(name), "d%d.test", i);
		put(name, 2000);
	}
	cr_assert_eq(dns_cache_flush(w, 1000), 0);
	cr_assert_eq(dns_cache_count(w), 500);
	for (int i = 0; i < 6; i++) {
		put("new.test", 9000);
		cr_assert_eq(dns_cache_flush(w, 3000), 0);
	}
	cr_assert_eq(dns_cache_count(w), 1);
	cr_assert(has("new.test", 3000));
}

Test(dns_cache, a_full_file_drops_what_expires_soonest)
{
	char name[32];
	size_t count, least = SIZE_MAX;

	create(2 << 20);
	for (int i = 0; i < 20000; i++) {
		(void)snprintf(name, sizeof(name), "d%d.test", i);
		put(name, 100000 + (msec_t)i);
		if (i % 50 != 49)
			continue;
		cr_assert_eq(dns_cache_flush(w, 1000), 0);
		count = dns_cache_count(w);
		if (i > 10000 && count < least)
			least = count;
	}
	cr_assert_gt(least, 3000, "it was emptied: %zu", least);
	cr_assert_lt(dns_cache_count(w), 20000);
	cr_assert(has("d19999.test", 1000));
	cr_assert(!has("d0.test", 1000));
}

Test(dns_cache, a_burst_larger_than_the_file_does_no_harm)
{
	char name[32];

	create(256 << 10);
	for (int i = 0; i < 4000; i++) {
		(void)snprintf(name, sizeof(name), "d%d.test", i);
		put(name, 100000);
	}
	cr_assert_eq(dns_cache_flush(w, 1000), 0);
	put("after.test", 100000);
	cr_assert_eq(dns_cache_flush(w, 1000), 0);
	cr_assert(has("after.test", 1000));
}

Test(dns_cache, clears_one_domain_or_all)
{
	struct dns_route *r = sample();

	create(1 << 20);
	put("a.test", 5000);
	put("b.test", 5000);
	dns_cache_put(w, slice_str("a.test"), true, r, 5000);
	dns_route_free(r);
	cr_assert_eq(dns_cache_flush(w, 1000), 0);
	cr_assert_eq(dns_cache_clear(w, slice_str("A.test")), 2);
	cr_assert(!has("a.test", 1000));
	cr_assert(has("b.test", 1000));
	cr_assert_eq(dns_cache_clear(w, slice_of("", 0)), 1);
	cr_assert(!has("b.test", 1000));
	put("c.test", 5000);
	cr_assert_eq(dns_cache_flush(w, 1000), 0);
	cr_assert(has("c.test", 1000));
}

Test(dns_cache, a_missing_directory_is_named_in_the_error)
{
	char *error = NULL;

	cr_assert_null(dns_cache_create("/nonexistent/run", 1 << 20, &error));
	cr_assert(strstr(error, "/nonexistent/run/dns.mdb"), "%s", error);
	free(error);
}

/* What a worker sees: one letter for each step, '+' found, '-' not. */
static void read_as_worker(int from, int to)
{
	struct dns_cache *c = dns_cache_new(dir);
	struct dns_route *r;
	usec_t now = USEC_PER_SEC;
	char step;

	while (read(from, &step, 1) == 1) {
		char answer = '-';

		now += 2 * USEC_PER_SEC;
		if (dns_cache_get(c, slice_str("a.test"), false, now, 1000, &r) == 0) {
			answer = '+';
			dns_route_free(r);
		}
		if (write(to, &answer, 1) != 1)
			break;
	}
	dns_cache_free(c);
	_exit(0);
}

static int to_worker[2], from_worker[2];

static char ask_worker(void)
{
	char c = '?';

	cr_assert_eq(write(to_worker[1], "x", 1), 1);
	cr_assert_eq(read(from_worker[0], &c, 1), 1);
	return c;
}

Test(dns_cache, readers_find_the_file_lose_it_and_find_the_next)
{
	pid_t pid;
	int status;

	cr_assert_eq(pipe(to_worker), 0);
	cr_assert_eq(pipe(from_worker), 0);
	pid = fork();
	if (pid == 0) {
		close(to_worker[1]);
		read_as_worker(to_worker[0], from_worker[1]);
	}
	cr_assert_eq(ask_worker(), '-', "no file");
	create(1 << 20);
	cr_assert_eq(ask_worker(), '-', "empty file");
	put("a.test", 5000);
	cr_assert_eq(dns_cache_flush(w, 1000), 0);
	cr_assert_eq(ask_worker(), '+');
	cr_assert_eq(ask_worker(), '+');
	dns_cache_close(w);
	cr_assert_eq(ask_worker(), '+', "the resolver is dead, its answers live");
	create(1 << 20);
	cr_assert_eq(ask_worker(), '-', "a new file");
	put("a.test", 5000);
	cr_assert_eq(dns_cache_flush(w, 1000), 0);
	cr_assert_eq(ask_worker(), '+');
	close(to_worker[1]);
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_assert_eq(status, 0);
	dns_cache_check_readers(w);
}
