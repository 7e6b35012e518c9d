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

Test(conf_providers, names_of_queues_that_are_not_configured)
{
	static const struct {
		const char *domain, *vmta, *says;
	} cases[] = {
		{"gmail.test", "a", NULL},
		{"gmail.test", "", NULL},
		{"Google.Rollup", "a", NULL},
		{"gmail.test", "{default}", NULL},
		{"gogle.rollup", "a", "there is no such provider"},
		{"gmail.test", "b", "there is no such virtual MTA"},
		{"gmail.test", "p", "that is a pool"},
	};
	struct conf *c = load_good(L "[virtual-mta a]\n[virtual-mta-pool p]\nvirtual-mta = "
				     "a\n[provider google]\nmx = *.g.test\n");

	for (size_t k = 0; k < ARRAY_SIZE(cases); k++) {
		const char *says =
			conf_queue_fault(c, slice_str(cases[k].domain), slice_str(cases[k].vmta));

		cr_assert_eq(says == NULL, cases[k].says == NULL, "%s/%s", cases[k].domain,
			     cases[k].vmta);
		cr_assert(!says || strstr(says, cases[k].says), "%s", says);
	}
	conf_free(c);
}

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

/* --- what applies to a domain of a provider --- */

#define PROVIDER L "[provider p]\nmx = *.p.test\n"
#define VMTA "[virtual-mta v]\nsmtp-source-host = 192.0.2.1\n"

static struct conf_rolled rolled(const struct conf *c, const char *domain, const char *vmta)
{
	struct conf_rolled m;

	conf_rolled_for(c, conf_provider_at(c, 0), text(domain), text(vmta), &m);
	return m;
}

Test(conf_providers, message_directives_are_the_domains_and_site_directives_the_providers)
{
	struct conf *c =
		load_good(PROVIDER VMTA "[domain *]\nbounce-after = 1h\nretry-after = 1m\n"
					"[domain p.rollup]\nbounce-after = 2h\nretry-after = 2m\n"
					"[domain d.test]\nbounce-after = 3h\nretry-after = 3m\n");
	const struct conf_domain *own = rolled(c, "d.test", "v").set;
	const struct conf_domain *other = rolled(c, "e.test", "v").set;

	cr_assert_eq(own->bounce_after, 3 * CONF_HOUR);
	cr_assert_eq(own->retry_after.v[0], 2 * CONF_MIN);
	cr_assert_eq(other->bounce_after, 2 * CONF_HOUR);
	cr_assert_eq(other->retry_after.v[0], 2 * CONF_MIN);
	conf_free(c);
}

Test(conf_providers, the_scope_of_a_virtual_mta_comes_first_here_too)
{
	struct conf *c =
		load_good(PROVIDER VMTA "[domain */v]\nbounce-after = 1h\nretry-after = 1m\n"
					"[domain p.rollup]\nbounce-after = 2h\nretry-after = 2m\n"
					"[domain d.test]\nbounce-after = 3h\n"
					"[domain e.test/v]\nbounce-after = 4h\n");

	cr_assert_eq(rolled(c, "d.test", "v").set->bounce_after, CONF_HOUR);
	cr_assert_eq(rolled(c, "e.test", "v").set->bounce_after, 4 * CONF_HOUR);
	cr_assert_eq(rolled(c, "d.test", "v").set->retry_after.v[0], CONF_MIN);
	cr_assert_eq(rolled(c, "d.test", "").set->bounce_after, 3 * CONF_HOUR);
	conf_free(c);
}

Test(conf_providers, caps_and_rates_set_for_a_domain_hold_for_it_alone)
{
	struct conf *c = load_good(
		PROVIDER VMTA "[domain-macro]\nm = d.test, x.test\n"
			      "[domain *]\nmax-smtp-out = 7\n[domain p.rollup]\nmax-smtp-out = 50\n"
			      "[domain $m]\nmax-smtp-out = 2\nmax-msg-rate = 10/h\n"
			      "[domain */v]\nmax-msg-rate = 5/h\n");
	struct conf_rolled d = rolled(c, "d.test", ""), e = rolled(c, "e.test", "");

	cr_assert_eq(d.set->max_smtp_out, 50);
	cr_assert_eq(d.max_smtp_out, 2);
	cr_assert_eq(d.own->max_msg_rate.n, 10);
	cr_assert_eq(e.max_smtp_out, 0, "* is nothing of its own");
	cr_assert_eq(e.own->max_msg_rate.n, UINT64_MAX);
	d = rolled(c, "d.test", "v");
	cr_assert_eq(d.own->max_msg_rate.n, UINT64_MAX, "*/v hides what is said everywhere");
	cr_assert_eq(d.set->max_msg_rate.n, 5);
	conf_free(c);
}

Test(conf_providers, type_hosts_and_queue_to_keep_a_domain_out)
{
	struct conf *c =
		load_good(PROVIDER VMTA "[domain t.test]\ntype = smtp\n"
					"[domain h.test, relay.test]\nsmtp-hosts = h\n"
					"[domain q.test]\nqueue-to = relay.test\n"
					"[domain o.test]\ndisable-mx-rollup = yes\n"
					"[domain *]\ntype = smtp\n"
					"[domain p.rollup]\nsmtp-hosts = lookup-mx:x.test\n"
					"[domain */v]\nsmtp-hosts = relay\n");
	static const char *const out[] = {"t.test", "h.test", "q.test", "o.test"};

	for (size_t i = 0; i < ARRAY_SIZE(out); i++)
		cr_assert(conf_keeps_own_site(c, text(out[i]), text("")), "%s", out[i]);
	cr_assert_not(conf_keeps_own_site(c, text("d.test"), text("")));
	cr_assert(conf_keeps_own_site(c, text("d.test"), text("v")), "all goes to a relay");
	cr_assert_eq(rolled(c, "d.test", "").set->smtp_hosts.n, 1);
	conf_free(c);
}

struct shown {
	const char *keyword;
	unsigned rows, shadowed;
};

static void count_shown(const struct conf_setting *s, void *arg)
{
	struct shown *x = arg;

	if (strcmp(s->keyword, x->keyword) != 0)
		return;
	x->rows++;
	x->shadowed += s->shadowed_by && strcmp(s->shadowed_by, "p") == 0;
}

static struct shown shown_of(const struct conf *c, const char *keyword)
{
	struct shown x = {.keyword = keyword};

	conf_show_settings(c, conf_provider_at(c, 0), text("d.test"), text(""), count_shown, &x);
	return x;
}

Test(conf_providers, what_has_no_effect_is_warned_of_and_shown)
{
	char *messages;
	struct conf *c = load_text(L "[provider p]\ndomains = d.test\n"
				     "[domain d.test]\nmax-smtp-out = 2\nretry-after = 3m\n"
				     "bounce-after = 3h\n",
				   &messages);

	cr_assert_not_null(c, "%s", messages);
	cr_assert(strstr(messages, "T:6: warning: retry-after of [domain d.test] has no effect for "
				   "d.test: the domain belongs to provider p: set it for p.rollup"),
		  "%s", messages);
	cr_assert_null(strstr(messages, "bounce-after"));
	cr_assert(shown_of(c, "retry-after").shadowed == 1 && shown_of(c, "retry-after").rows == 2);
	cr_assert(shown_of(c, "max-smtp-out").shadowed == 0 &&
		  shown_of(c, "max-smtp-out").rows == 2);
	cr_assert(shown_of(c, "bounce-after").rows == 1);
	free(messages);
	conf_free(c);
}

static const struct {
	const char *label, *text, *want;
} rollup_errors[] = {
	{"no such provider", "[domain q.rollup]\nmax-smtp-out = 2\n",
	 "T:5: error: [domain q.rollup]: there is no [provider q]\n"},
	{"decided at reception", "[domain p.rollup]\ntype = discard\n",
	 "T:5: error: type of [domain p.rollup]: it is decided when mail comes in, before it is "
	 "known which domains belong to the provider: set it for the domains\n"},
	{"queue-to nowhere", "[domain a.test]\nqueue-to = b.test\n",
	 "T:5: error: queue-to: b.test has no smtp-hosts for virtual MTA {default}: add [domain "
	 "b.test] with smtp-hosts\n"},
	{"queue-to and on",
	 "[domain a.test]\nqueue-to = b.test\n[domain b.test]\nqueue-to = c.test\n"
	 "[domain c.test]\nsmtp-hosts = h\n",
	 "T:5: error: queue-to: b.test has queue-to itself: name the queue at its end\n"},
};

Test(conf_providers, what_leads_nowhere_is_told)
{
	for (size_t i = 0; i < ARRAY_SIZE(rollup_errors); i++) {
		char *all = xasprintf("%s%s", PROVIDER, rollup_errors[i].text), *messages;

		cr_assert_null(load_text(all, &messages), "%s", rollup_errors[i].label);
		cr_assert_str_eq(messages, rollup_errors[i].want, "%s", rollup_errors[i].label);
		free(messages);
		free(all);
	}
}
