/* links: common/base */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/base/codec.h"
#include "common/base/err.h"
#include "common/base/fd.h"
#include "common/base/ip.h"
#include "common/base/log.h"
#include "common/base/rng.h"
#include "common/base/slice.h"
#include "common/base/xalloc.h"

Test(slice, splits_at_a_character)
{
	struct slice s = slice_str("a,,b"), part;

	cr_assert(slice_next(&s, ',', &part) && slice_eq_str(part, "a"));
	cr_assert(slice_next(&s, ',', &part) && part.n == 0);
	cr_assert(slice_next(&s, ',', &part) && slice_eq_str(part, "b"));
	cr_assert_not(slice_next(&s, ',', &part));
}

Test(slice, an_empty_text_has_one_empty_part)
{
	struct slice s = slice_str(""), part;

	cr_assert(slice_next(&s, ',', &part) && part.n == 0);
	cr_assert_not(slice_next(&s, ',', &part));
}

Test(slice, compares_without_case)
{
	cr_assert(slice_ieq_str(slice_str("GMail.COM"), "gmail.com"));
	cr_assert_not(slice_ieq_str(slice_str("gmail.co"), "gmail.com"));
	cr_assert(slice_istarts(slice_str("MAIL FROM:"), "mail from"));
	cr_assert(slice_iends(slice_str("mx.Google.com"), ".google.COM"));
	cr_assert_not(slice_iends(slice_str("x"), "longer"));
}

Test(slice, reads_numbers_and_refuses_the_rest)
{
	static const struct {
		const char *text;
		bool good;
		uint64_t value;
	} cases[] = {
		{"0", true, 0},
		{"18446744073709551615", true, UINT64_MAX},
		{"18446744073709551616", false, 0},
		{"", false, 0},
		{"-1", false, 0},
		{"1 ", false, 0},
		{"1x", false, 0},
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		uint64_t v = 7;
		bool good = slice_u64(slice_str(cases[i].text), &v);

		cr_assert_eq(good, cases[i].good, "\"%s\"", cases[i].text);
		cr_assert_eq(v, good ? cases[i].value : 7, "\"%s\"", cases[i].text);
	}
}

Test(slice, trims_and_cuts)
{
	char small[4];

	cr_assert(slice_eq_str(slice_trim(slice_str(" \t a b\r\n")), "a b"));
	cr_assert(slice_eq_str(slice_sub(slice_str("abc"), 1, 99), "bc"));
	cr_assert_eq(slice_sub(slice_str("abc"), 9, 1).n, 0);
	cr_assert_not(slice_copy(slice_str("abcdef"), small, sizeof(small)));
	cr_assert_str_eq(small, "abc");
}

Test(buf, grows_consumes_and_gives_away)
{
	struct buf b = BUF_INIT;
	char *s;
	int i;

	for (i = 0; i < 1000; i++)
		buf_addf(&b, "%d,", i);
	buf_consume(&b, 2);
	cr_assert(slice_istarts(buf_slice(&b), "1,2,3,"));
	s = buf_take(&b);
	cr_assert_eq(b.n, 0);
	cr_assert_eq(strlen(s), 3888);
	free(s);
	cr_assert_str_eq(buf_cstr(&b), "");
	buf_done(&b);
}

Test(codec, values_come_back)
{
	static const uint64_t values[] = {0,	     1, 127, 128, 300, UINT32_MAX, UINT64_MAX - 1,
					  UINT64_MAX};
	struct buf b = BUF_INIT;
	struct dec d;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(values); i++)
		enc_var(&b, values[i]);
	enc_u8(&b, 200);
	enc_u32(&b, 0xdeadbeef);
	enc_u64(&b, UINT64_C(0x0123456789abcdef));
	enc_str(&b, "text");
	d = dec_of(b.p, b.n);
	for (i = 0; i < ARRAY_SIZE(values); i++)
		cr_assert_eq(dec_var(&d), values[i]);
	cr_assert_eq(dec_u8(&d), 200);
	cr_assert_eq(dec_u32(&d), 0xdeadbeef);
	cr_assert_eq(dec_u64(&d), UINT64_C(0x0123456789abcdef));
	cr_assert(slice_eq_str(dec_bytes(&d), "text"));
	cr_assert(dec_end(&d));
	buf_done(&b);
}

Test(codec, a_short_input_goes_bad_and_stays_bad)
{
	struct buf b = BUF_INIT;
	size_t cut;

	enc_str(&b, "hello");
	enc_u64(&b, 5);
	for (cut = 0; cut < b.n; cut++) {
		struct dec d = dec_of(b.p, cut);

		(void)dec_bytes(&d);
		(void)dec_u64(&d);
		cr_assert_not(dec_ok(&d), "cut at %zu", cut);
		cr_assert_eq(dec_u32(&d), 0);
	}
	buf_done(&b);
}

Test(codec, a_length_beyond_the_end_is_refused)
{
	static const uint8_t bad[] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
				      0xff, 0xff, 0xff, 0x01, 'a'};
	static const uint8_t overlong[] = {0x80, 0x80, 0x80, 0x80, 0x80,
					   0x80, 0x80, 0x80, 0x80, 0x02};
	struct dec d = dec_of(bad, sizeof(bad));

	cr_assert_eq(dec_bytes(&d).n, 0);
	cr_assert_not(dec_ok(&d));
	d = dec_of(overlong, sizeof(overlong));
	(void)dec_var(&d);
	cr_assert_not(dec_ok(&d));
}

Test(codec, big_endian_keys_sort_like_numbers)
{
	char a[8], b[8];

	be64_put(a, 255);
	be64_put(b, 256);
	cr_assert_lt(memcmp(a, b, 8), 0);
	cr_assert_eq(be64_get(b), 256);
	be32_put(a, 70000);
	cr_assert_eq(be32_get(a), 70000);
}

Test(ip, parses_and_prints)
{
	static const char *const good[] = {"127.0.0.1", "::1", "2001:db8::25", "255.255.255.255"};
	static const char *const bad[] = {"",	      "1.2.3", "1.2.3.4.5", "256.1.1.1",
					  "1.2.3.4 ", "x",     ":::"};
	char text[IP_TEXT_MAX];
	struct ip ip;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(good); i++) {
		cr_assert(ip_parse(slice_str(good[i]), &ip), "%s", good[i]);
		cr_assert_str_eq(ip_text(&ip, text), good[i]);
	}
	for (i = 0; i < ARRAY_SIZE(bad); i++)
		cr_assert_not(ip_parse(slice_str(bad[i]), &ip), "%s", bad[i]);
}

Test(cidr, holds_its_addresses)
{
	static const struct {
		const char *cidr, *ip;
		bool has;
	} cases[] = {
		{"0/0", "1.2.3.4", true},
		{"0/0", "2001:db8::1", true},
		{"10/8", "10.255.0.1", true},
		{"10/8", "11.0.0.1", false},
		{"192.168.1/24", "192.168.1.77", true},
		{"62.149.128.0/25", "62.149.128.127", true},
		{"62.149.128.0/25", "62.149.128.128", false},
		{"127.0.0.1", "127.0.0.1", true},
		{"127.0.0.1", "127.0.0.2", false},
		{"2001:db8::/33", "2001:db8:7fff::1", true},
		{"2001:db8::/33", "2001:db8:8000::1", false},
		{"::/0", "1.2.3.4", false},
	};
	static const char *const bad[] = {"10/33", "10", "1.2.3.4/",  "::1/129",
					  "300/8", "/8", "1.2.3.4/-1"};
	struct cidr c;
	struct ip ip;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		cr_assert(cidr_parse(slice_str(cases[i].cidr), &c), "%s", cases[i].cidr);
		cr_assert(ip_parse(slice_str(cases[i].ip), &ip));
		cr_assert_eq(cidr_has(&c, &ip), cases[i].has, "%s in %s", cases[i].ip,
			     cases[i].cidr);
	}
	for (i = 0; i < ARRAY_SIZE(bad); i++)
		cr_assert_not(cidr_parse(slice_str(bad[i]), &c), "%s", bad[i]);
}

Test(ip, takes_ports_where_they_are_written)
{
	static const struct {
		const char *text;
		bool good;
		uint16_t port;
	} cases[] = {
		{"127.0.0.1:2525", true, 2525},
		{"127.0.0.1", true, 0},
		{"[::1]:25", true, 25},
		{"::1", true, 0},
		{"[::1]", true, 0},
		{"127.0.0.1:", false, 0},
		{"127.0.0.1:0", false, 0},
		{"127.0.0.1:65536", false, 0},
		{"[::1", false, 0},
		{"[::1]25", false, 0},
	};
	struct ip ip;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		uint16_t port = 0;
		bool good = ip_port_parse(slice_str(cases[i].text), &ip, &port);

		cr_assert_eq(good, cases[i].good, "%s", cases[i].text);
		if (good)
			cr_assert_eq(port, cases[i].port, "%s", cases[i].text);
	}
}

Test(ip, survives_the_way_through_a_sockaddr)
{
	static const char *const texts[] = {"192.0.2.9", "2001:db8::9"};
	struct sockaddr_storage sa;
	struct ip ip, back;
	uint16_t port;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(texts); i++) {
		cr_assert(ip_parse(slice_str(texts[i]), &ip));
		cr_assert_gt(ip_to_sockaddr(&ip, 25, &sa), 0);
		ip_from_sockaddr((struct sockaddr *)&sa, &back, &port);
		cr_assert(ip_eq(&ip, &back));
		cr_assert_eq(port, 25);
	}
}

static char *logged(void (*say)(void))
{
	struct buf b = BUF_INIT;
	int fds[2];

	cr_assert_eq(pipe(fds), 0);
	log_set_fd(fds[1]);
	log_set_journal(true);
	log_set_program("test", "one");
	say();
	log_set_fd(-1);
	close(fds[1]);
	cr_assert_eq(fd_read_all(fds[0], 1 << 16, &b), 0);
	close(fds[0]);
	return buf_take(&b);
}

static void say_nasty(void)
{
	struct log_ctx ctx = {.object = "queue", .name = "a.example/mta1", .doing = "STARTTLS"};

	log_info(&ctx, "two words", LOG_S("reply", "550 no\r\n\"quoted\" \\"), LOG_U("n", 7),
		 LOG_I("i", -7));
	log_debug(&ctx, "not shown at this level");
}

Test(log, a_text_from_the_wire_cannot_forge_a_line)
{
	char *line = logged(say_nasty);

	cr_assert_str_eq(line, "<6>info test[one] queue=a.example/mta1 msg=\"two words\" "
			       "reply=\"550 no\\x0d\\x0a\\\"quoted\\\" \\\\\" n=7 i=-7 "
			       "doing=STARTTLS\n");
	free(line);
}

static void say_long(void)
{
	char *text = xmalloc(100001);

	memset(text, 'a', 100000);
	text[100000] = '\0';
	log_info(NULL, text);
	free(text);
}

Test(log, a_line_has_a_bounded_length)
{
	char *line = logged(say_long);

	cr_assert_leq(strlen(line), 4096);
	cr_assert_eq(line[strlen(line) - 1], '\n');
	free(line);
}

Test(clock, prints_times)
{
	char text[CLOCK_TEXT_MAX];

	setenv("TZ", "UTC", 1);
	tzset();
	clock_iso(UINT64_C(1795311565123), text);
	cr_assert_str_eq(text, "2026-11-22 01:39:25+0000");
	clock_rfc5322(UINT64_C(1795311565123), text);
	cr_assert_str_eq(text, "Sun, 22 Nov 2026 01:39:25 +0000");
	setenv("TZ", "EST5", 1);
	tzset();
	clock_rfc5322(UINT64_C(1795311565123), text);
	cr_assert_str_eq(text, "Sat, 21 Nov 2026 20:39:25 -0500");
}

Test(clock, stands_still_when_faked)
{
	clock_fake(5, 7);
	cr_assert_eq(clock_now(), 5);
	cr_assert_eq(clock_wall(), 7);
	clock_real();
	cr_assert_gt(clock_wall(), UINT64_C(1500000000000));
}

Test(rng, stays_in_its_bounds_and_repeats_when_seeded)
{
	uint64_t first;
	int i;

	for (i = 0; i < 1000; i++)
		cr_assert_lt(rng_below(3), 3);
	rng_seed(42);
	first = rng_u64();
	rng_seed(42);
	cr_assert_eq(rng_u64(), first);
}

Test(fd, descriptors_travel_with_a_message)
{
	int pair[2], pipes[2], got[4];
	size_t n = ARRAY_SIZE(got);
	char text[8] = "";

	cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
	cr_assert_eq(pipe(pipes), 0);
	cr_assert_eq(fd_send(pair[0], "hey", 3, &pipes[1], 1), 0);
	cr_assert_eq(fd_recv(pair[1], text, sizeof(text), got, &n), 3);
	cr_assert_eq(n, 1);
	cr_assert_str_eq(text, "hey");
	cr_assert_eq(fd_write_all(got[0], "x", 1), 0);
	cr_assert_eq(read(pipes[0], text, 1), 1);
	cr_assert(fcntl(got[0], F_GETFD) & FD_CLOEXEC);
}

Test(err, has_a_text_for_every_code)
{
	int e;

	for (e = ERR_FIRST_ + 1; e < ERR_END_; e++)
		cr_assert_str_neq(err_text(e), "unknown error");
	cr_assert_str_eq(err_text(-1), "unknown error");
	cr_assert_str_eq(err_text(0), "no error");
}
