/* links: common/base common/conf */
#include <criterion/criterion.h>

#include "common/conf/values.h"
#include "tests/unit/conf_text.h"

static const struct conf_domain *domain_of(const struct conf *c, const char *name)
{
	return conf_domain_for(c, slice_str(name), slice_str("{default}"));
}

Test(conf_rates, volumes)
{
	static const struct {
		const char *text;
		uint64_t n; /* 0: refused */
		usec_t per;
	} cases[] = {
		{"10M/m", 10 << 20, CONF_MIN},
		{"512/s", 512, CONF_SEC},
		{"512b/s", 512, CONF_SEC},
		{"2g/15m", UINT64_C(2) << 30, 15 * CONF_MIN},
		{"1t/day", UINT64_C(1) << 40, CONF_DAY},
		{"unlimited", UINT64_MAX, CONF_SEC},
		{"10M", 0, 0},
		{"10Q/m", 0, 0},
		{"0M/m", 0, 0},
		{"M/m", 0, 0},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct conf_rate got = {0, 0};
		bool ok = conf_parse_volume_rate(slice_str(cases[i].text), &got);

		cr_expect_eq(ok, cases[i].n != 0, "%s", cases[i].text);
		if (ok) {
			cr_expect_eq(got.n, cases[i].n, "%s", cases[i].text);
			cr_expect_eq(got.per, cases[i].per, "%s", cases[i].text);
		}
	}
}

Test(conf_rates, texts_can_be_written)
{
	static const char *const rates[] = {"2/m", "200/h", "100/15m", "1/d", "unlimited", "7/90s"};
	static const char *const volumes[] = {"10M/m", "1000/h", "3K/15m", "2T/2d"};
	struct buf b = BUF_INIT;
	struct conf_rate r;

	for (size_t i = 0; i < ARRAY_SIZE(rates); i++) {
		cr_assert(conf_parse_rate(slice_str(rates[i]), &r));
		buf_clear(&b);
		conf_rate_text(&r, false, &b);
		cr_expect_str_eq(buf_cstr(&b), rates[i]);
	}
	for (size_t i = 0; i < ARRAY_SIZE(volumes); i++) {
		cr_assert(conf_parse_volume_rate(slice_str(volumes[i]), &r));
		buf_clear(&b);
		conf_rate_text(&r, true, &b);
		cr_expect_str_eq(buf_cstr(&b), volumes[i]);
	}
	buf_done(&b);
}

Test(conf_rates, the_most_specific_network_counts)
{
	static const struct {
		const char *ip;
		uint64_t n; /* 0: none */
	} cases[] = {
		{"192.0.2.7", 3},   {"192.0.2.8", 2}, {"198.51.100.1", 1},
		{"2001:db8::1", 1}, {"192.0.3.1", 0},
	};
	char *messages;
	struct conf *c = load_text("[global]\n[domain *]\n"
				   "source-ip-max-msg-rate = 0/0 1/h\n"
				   "source-ip-max-msg-rate = 192.0.2.0/24 2/h\n"
				   "source-ip-max-msg-rate = 192.0.2.7 3/h\n"
				   "source-ip-max-msg-rate = 192.0.3.0/24 unlimited\n",
				   &messages);

	cr_assert_not_null(c, "%s", messages);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const struct conf_rate *r;
		struct ip ip;

		cr_assert(ip_parse(slice_str(cases[i].ip), &ip));
		r = conf_ip_rate_for(&domain_of(c, "x.test")->source_ip_max_msg_rate, &ip);
		cr_expect_eq(r ? r->n : 0, cases[i].n, "%s", cases[i].ip);
	}
	conf_free(c);
	free(messages);
}

static void find_rate(const struct conf_setting *s, void *arg)
{
	if (strcmp(s->keyword, "max-msg-rate") == 0)
		*(char **)arg = xstrdup(s->value);
}

Test(conf_rates, per_hour_is_an_old_name)
{
	char *messages, *shown = NULL;
	struct conf *c = load_text("[global]\n[domain *]\nmax-msg-per-hour = 500\n", &messages);

	cr_assert_not_null(c);
	cr_expect_not_null(strstr(messages, "T:3: warning: max-msg-per-hour: is an old name: "
					    "write max-msg-rate = 500/h"),
			   "%s", messages);
	cr_expect_eq(domain_of(c, "x.test")->max_msg_rate.n, 500);
	cr_expect_eq(domain_of(c, "x.test")->max_msg_rate.per, CONF_HOUR);
	conf_show_settings(c, NULL, slice_str("x.test"), slice_str(""), find_rate, &shown);
	cr_expect_str_eq(shown, "500/h");
	free(shown);
	conf_free(c);
	free(messages);
}

Test(conf_rates, what_is_wrong_is_said)
{
	static const struct {
		const char *text, *want;
	} cases[] = {
		{"max-msg-rate = 100",
		 "'100' is not unlimited, or a rate such as 100/h or 100/15m"},
		{"max-msg-rate = 10M/h", "'10M/h' is not unlimited, or a rate"},
		{"max-data-volume-rate = fast", "'fast' is not unlimited, or bytes per time"},
		{"max-msg-per-hour = 10/h",
		 "'10/h' is not a whole number: write max-msg-rate = N/h"},
		{"source-ip-max-msg-rate = 100/h", "write CIDR RATE, one a line"},
		{"source-ip-max-msg-rate = 10/8 100", "'100' is not unlimited, or a rate"},
		{"source-ip-max-data-volume-rate = 10/8 5/h 6/h",
		 "write CIDR RATE, one a line, for example 192.0.2.0/24 10M/m"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char *text = xasprintf("[global]\n[domain *]\n%s\n", cases[i].text), *messages;
		struct conf *c = load_text(text, &messages);

		cr_expect_null(c, "%s", cases[i].text);
		cr_expect_not_null(strstr(messages, cases[i].want), "%s: %s", cases[i].text,
				   messages);
		conf_free(c);
		free(messages);
		free(text);
	}
}

Test(conf_rates, of_a_pool_are_those_of_its_members)
{
	char *messages;
	struct conf *c = load_text("[global]\n[virtual-mta a]\n[virtual-mta b]\n"
				   "max-msg-rate = 7/m\n"
				   "[virtual-mta-pool p]\nvirtual-mta = a, b\nmax-msg-rate = 5/m\n"
				   "pool-max-msg-rate = 9/m\n",
				   &messages);
	const struct conf_vmta *a, *b;

	cr_assert_not_null(c, "%s", messages);
	a = conf_vmta_find(c, slice_str("a"));
	b = conf_vmta_find(c, slice_str("b"));
	cr_expect_eq(a->max_msg_rate.n, 5);
	cr_expect_eq(b->max_msg_rate.n, 7);
	cr_expect_eq(a->pools[0]->max_msg_rate.n, 9);
	cr_expect(conf_rate_is_unlimited(&a->max_connect_rate));
	conf_free(c);
	free(messages);
}
