/* links: common/base common/conf */
#include "tests/unit/conf_text.h"

#define L "[smtp-listener 127.0.0.1:2525]\n"

static struct slice text(const char *s)
{
	return slice_str(s);
}

Test(conf_providers, hosts_networks_and_domains_of_a_section)
{
	struct conf *c = load_good(L "[domain-macro]\nours = one.test, two.test\n"
				     "[provider Google]\n"
				     "mx = *.google.com, *.googlemail.com\nmx = gmr-smtp-in.test\n"
				     "mx-ip = 192.0.2.0/24,\n  2001:db8::/32\n"
				     "domains = $ours, [*.]three.test\nmax-smtp-out = 100\n");
	const struct conf_provider *p = conf_provider_at(c, 0);
	struct ip ip;

	cr_assert_eq(conf_provider_count(c), 1);
	cr_assert_str_eq(p->name, "Google");
	cr_assert_str_eq(p->rollup, "google.rollup");
	cr_assert_eq(p->max_smtp_out, 100);
	cr_assert(conf_provider_has_host(p, text("aspmx.l.google.com")));
	cr_assert(conf_provider_has_host(p, text("gmr-smtp-in.test")));
	cr_assert_not(conf_provider_has_host(p, text("google.com")), "*. is what is below");
	cr_assert_not(conf_provider_has_host(p, text("mx.google.com.evil.test")));
	cr_assert(ip_parse(text("192.0.2.7"), &ip) && conf_provider_has_ip(p, &ip));
	cr_assert(ip_parse(text("2001:db8::7"), &ip) && conf_provider_has_ip(p, &ip));
	cr_assert(ip_parse(text("192.0.3.7"), &ip) && !conf_provider_has_ip(p, &ip));
	cr_assert_eq(conf_provider_of_domain(c, text("two.test")), p);
	cr_assert_eq(conf_provider_of_domain(c, text("x.three.test")), p);
	cr_assert_null(conf_provider_of_domain(c, text("four.test")));
	cr_assert_eq(conf_provider_find(c, text("GOOGLE")), p);
	cr_assert_eq(conf_provider_find(c, text("google.Rollup")), p);
	cr_assert_null(conf_provider_find(c, text("other.rollup")));
	conf_free(c);
}

Test(conf_providers, the_first_to_appear_wins_however_it_is_written)
{
	struct conf *c = load_good(L "[mx-rollup-list]\nmx = *.a.test b.rollup\n"
				     "[provider c]\nmx = *.a.test, *.c.test\n"
				     "[mx-rollup-list]\nmx = *.d.test c.rollup\n"
				     "mx = mx.e.test b.rollup rollup-by-ip\n");
	const struct ip none = {.family = IP_NONE};

	cr_assert_eq(conf_provider_count(c), 2);
	cr_assert_str_eq(conf_provider_at(c, 0)->name, "b");
	cr_assert_str_eq(conf_provider_of_host(c, text("m.a.test"), &none)->name, "b");
	cr_assert_str_eq(conf_provider_of_host(c, text("m.c.test"), &none)->name, "c");
	cr_assert_str_eq(conf_provider_of_host(c, text("m.d.test"), &none)->name, "c");
	cr_assert_str_eq(conf_provider_of_host(c, text("mx.e.test"), &none)->name, "b");
	cr_assert_null(conf_provider_of_host(c, text("m.f.test"), &none));
	conf_free(c);
}

static const struct {
	const char *label, *text, *want;
} errors[] = {
	{"nothing in it", "[provider p]\nmax-smtp-out = 3\n",
	 "T:2: error: [provider p] holds no domain: add mx = HOSTS, mx-ip = NETWORKS or domains = "
	 "LIST\n"},
	{"not a name", "[provider a/b]\nmx = m.test\n",
	 "T:2: error: 'a/b' is not a name of letters, digits, '.', '_' and '-'\n"},
	{"not a network", "[provider p]\nmx-ip = 10.0.0.0/8, x\nmx = m.test\n",
	 "T:3: error: mx-ip: 'x' is not a network such as 192.0.2.0/24\n"},
	{"not a host", "[provider p]\nmx = a..b\n", NULL},
	{"a list line without a name", "[mx-rollup-list]\nmx = *.google.com\n",
	 "T:3: error: mx: write HOST NAME.rollup, for example *.google.com google.rollup\n"},
	{"a list line with another name", "[mx-rollup-list]\nmx = *.google.com google\n",
	 "T:3: error: mx: write HOST NAME.rollup, for example *.google.com google.rollup\n"},
	{"a list line with more", "[mx-rollup-list]\nmx = *.google.com google.rollup x\n",
	 "T:3: error: mx: 'x' after NAME.rollup: nothing may follow\n"},
};

Test(conf_providers, what_is_wrong_is_told)
{
	for (size_t i = 0; i < ARRAY_SIZE(errors); i++) {
		char *all = xasprintf("%s%s", L, errors[i].text), *messages;

		cr_assert_null(load_text(all, &messages), "%s", errors[i].label);
		if (errors[i].want)
			cr_assert_str_eq(messages, errors[i].want, "%s", errors[i].label);
		else
			cr_assert(strstr(messages, "T:3: error: mx: "), "%s: %s", errors[i].label,
				  messages);
		free(messages);
		free(all);
	}
}

Test(conf_providers, rollup_by_ip_is_taken_with_a_remark)
{
	char *messages;
	struct conf *c =
		load_text(L "[mx-rollup-list]\nmx = *.a.test a.rollup rollup-by-ip\n", &messages);

	cr_assert_not_null(c);
	cr_assert(strstr(messages, "T:3: warning: mx: rollup-by-ip is not needed"), "%s", messages);
	free(messages);
	conf_free(c);
}
