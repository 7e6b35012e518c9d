/* links: common/base common/conf */
#include "tests/unit/conf_text.h"

static uint32_t mx_limit(const struct conf *c, const char *host)
{
	const struct conf_mx_limit *l = conf_mx_limit_for(c, slice_str(host));

	return l ? l->n : 0;
}

Test(conf_limits, the_most_specific_pattern_of_a_mail_host_counts)
{
	static const struct {
		const char *host;
		uint32_t n;
	} cases[] = {
		{"mx1.mail.example.com", 5}, {"a.example.com", 4}, {"example.com", 3},
		{"MX.Example.com", 6},	     {"example.net", 1},   {"notexample.com", 1},
		{"x.mx.example.com", 4},
	};
	struct conf *c = load_good("[global]\n"
				   "mx-connection-limit = * 1\n"
				   "mx-connection-limit = [*.]example.com 3\n"
				   "mx-connection-limit = *.example.com 4\n"
				   "mx-connection-limit = *.mail.example.com 5\n"
				   "mx-connection-limit = mx.example.com 6\n");
	size_t i;

	for (i = 0; i < ARRAY_SIZE(cases); i++)
		cr_expect_eq(mx_limit(c, cases[i].host), cases[i].n, "%s: %u", cases[i].host,
			     mx_limit(c, cases[i].host));
	conf_free(c);
	c = load_good("[global]\nmx-connection-limit = *.example.com. 4\n");
	cr_expect_eq(mx_limit(c, "example.com"), 0);
	cr_expect_eq(mx_limit(c, "mx.example.com"), 4, "a final dot means the same host");
	conf_free(c);
}

Test(conf_limits, the_most_specific_network_of_a_local_address_counts)
{
	struct conf *c = load_good("[domain *]\n"
				   "source-ip-max-smtp-out = 10/8 3\n"
				   "source-ip-max-smtp-out = 10.1/16 4\n"
				   "source-ip-max-smtp-out = 10/8 2\n"
				   "[domain a.com]\n"
				   "max-smtp-out-per-source-ip = 0/0 9\n");
	const struct conf_ip_limits *all =
		&conf_domain_for(c, slice_str("b.com"), slice_str("v"))->source_ip_max_smtp_out;
	struct ip ip;

	cr_assert(ip_parse(slice_str("10.1.2.3"), &ip));
	cr_expect_eq(conf_source_limit_for(all, &ip)->n, 4);
	cr_assert(ip_parse(slice_str("10.2.2.3"), &ip));
	cr_expect_eq(conf_source_limit_for(all, &ip)->n, 2, "the later of two equal ones");
	cr_assert(ip_parse(slice_str("11.2.2.3"), &ip));
	cr_expect_null(conf_source_limit_for(all, &ip));
	all = &conf_domain_for(c, slice_str("a.com"), slice_str("v"))->source_ip_max_smtp_out;
	cr_assert(ip_parse(slice_str("2001:db8::1"), &ip));
	cr_expect_eq(conf_source_limit_for(all, &ip)->n, 9);
	conf_free(c);
}

Test(conf_limits, a_pool_gives_its_members_what_they_do_not_set)
{
	struct conf *c = load_good("[virtual-mta a]\nmax-smtp-out = 7\n"
				   "[virtual-mta b]\n[virtual-mta c]\n"
				   "[virtual-mta-pool p]\nvirtual-mta = a, b\n"
				   "max-smtp-out = 5\npool-max-smtp-out = 8\n"
				   "[virtual-mta-pool q]\nvirtual-mta = b\n");
	const struct conf_vmta *b = conf_vmta_find(c, slice_str("b"));

	cr_expect_eq(conf_vmta_find(c, slice_str("a"))->max_smtp_out, 7);
	cr_expect_eq(b->max_smtp_out, 5);
	cr_expect_eq(conf_vmta_find(c, slice_str("c"))->max_smtp_out, 0);
	cr_assert_eq(b->pool_count, 2);
	cr_expect_str_eq(b->pools[0]->name, "p");
	cr_expect_eq(b->pools[0]->max_smtp_out, 8);
	cr_expect_eq(b->pools[1]->max_smtp_out, 0);
	cr_expect_eq(conf_vmta_find(c, slice_str("c"))->pool_count, 0);
	conf_free(c);
}

Test(conf_limits, pools_that_say_different_things_to_one_member)
{
	char *messages;

	cr_expect_null(load_text("[virtual-mta a]\n[virtual-mta x]\n[virtual-mta y]\n"
				 "[virtual-mta z]\n"
				 "[virtual-mta-pool p]\nvirtual-mta = a\ncold-virtual-mta = x\n"
				 "cold-virtual-mta = z\n"
				 "[virtual-mta-pool q]\nvirtual-mta = a\ncold-virtual-mta = y\n"
				 "cold-virtual-mta = z\n",
				 &messages));
	cr_expect_not_null(strstr(messages, "virtual MTA a is also in [virtual-mta-pool p]"), "%s",
			   messages);
	free(messages);
}

Test(conf_limits, a_virtual_mta_may_be_in_few_pools_with_a_cap)
{
	struct buf text = BUF_INIT;
	char *messages;
	int i;

	buf_add_str(&text, "[virtual-mta a]\n");
	for (i = 0; i <= CONF_CAPPED_POOLS_MAX; i++)
		buf_addf(&text, "[virtual-mta-pool p%d]\nvirtual-mta = a\npool-max-smtp-out = 2\n",
			 i);
	cr_expect_null(load_text(buf_cstr(&text), &messages));
	cr_expect_not_null(strstr(messages, "in more than 4 pools with pool-max-smtp-out"), "%s",
			   messages);
	free(messages);
	buf_done(&text);
}
