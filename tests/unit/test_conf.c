/* links: common/base common/conf */
#include "tests/unit/conf_text.h"

#include <glob.h>

#include "common/conf/scope.h"

static struct ip ip_of(const char *s)
{
	struct ip ip;

	cr_assert(ip_parse(slice_str(s), &ip));
	return ip;
}

/* max-message-hops tells which source won. */
static uint64_t hops(const struct conf *c, const char *ip, const char *name)
{
	struct ip a = ip_of(ip);

	return conf_source_for(c, &a, name)->max_message_hops;
}

Test(conf, by_ip_sources_merge_and_the_most_specific_wins)
{
	struct conf *c = load_good(
		"[source 127.0.0.1]\nsmtp-service = yes\nmax-message-hops = 4\n"
		"[source 0/0]\nsmtp-service = no\nmax-rcpt-per-message = 9\nmax-message-hops = 1\n"
		"[source 127/8]\nmax-message-hops = 3\nadd-date-header = override\n"
		"[source ::/0]\nmax-message-hops = 2\n");
	struct ip local = ip_of("127.0.0.1");
	const struct conf_source *s = conf_source_for(c, &local, NULL);

	cr_expect(s->smtp_service);
	cr_expect_eq(s->max_message_hops, 4);
	cr_expect_eq(s->add_date_header, CONF_DATE_OVERRIDE);
	cr_expect_eq(s->max_rcpt_per_message, 9);
	cr_expect_not(s->always_allow_relaying, "closed by default");
	cr_expect(s == conf_source_for(c, &local, NULL), "cached");
	cr_expect_eq(hops(c, "127.0.0.2", NULL), 3);
	cr_expect_eq(hops(c, "10.0.0.1", NULL), 1);
	cr_expect_eq(hops(c, "::1", NULL), 2,
		     "::/0 is more specific than 0/0, which is both families");
	cr_expect_eq(conf_source_for(c, &(struct ip){.family = IP_V6}, NULL)->max_rcpt_per_message,
		     9);
	conf_free(c);
}

Test(conf, a_named_source_applies_only_when_named_and_over_the_rest)
{
	struct conf *c = load_good("[source feed]\nmax-message-hops = 5\n"
				   "[source 0/0]\nmax-message-hops = 1\nmax-smtp-in = 3\n");
	struct ip a = ip_of("10.0.0.1");

	cr_expect_eq(hops(c, "10.0.0.1", NULL), 1);
	cr_expect_eq(hops(c, "10.0.0.1", "feed"), 5);
	cr_expect_eq(hops(c, "10.0.0.1", "FEED"), 5);
	cr_expect_eq(conf_source_for(c, &a, "feed")->max_smtp_in, 3);
	cr_expect_eq(hops(c, "10.0.0.1", "unknown"), 1);
	cr_expect_eq(hops(c, "10.0.0.1", "0/0"), 1, "a network is not a name");
	conf_free(c);
}

Test(conf, relay_domains_are_patterns_and_macros)
{
	struct conf *c =
		load_good("[domain-macro]\nours = a.com, *.b.com\n"
			  "[source 0/0]\nrelay-domain = $ours, [*.]c.com\nrelay-domain = d.com\n");
	struct ip a = ip_of("10.0.0.1");
	const struct conf_patterns *p = &conf_source_for(c, &a, NULL)->relay_domain;
	static const struct {
		const char *domain;
		bool want;
	} cases[] = {{"a.com", true}, {"x.a.com", false}, {"x.b.com", true}, {"b.com", false},
		     {"c.com", true}, {"x.c.com", true},  {"d.com", true},   {"e.com", false},
		     {"com", false},  {"", false}};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		cr_expect_eq(conf_patterns_match(p, slice_str(cases[i].domain)), cases[i].want,
			     "%s", cases[i].domain);
	conf_free(c);
}

Test(conf, global_settings_and_what_is_derived)
{
	struct conf *c =
		load_good("[global]\nhost-name = mta1.example.com\npostmaster = a@b.com, c@d.com\n"
			  "postmaster = e@f.com\nname-server = 192.0.2.1, [2001:db8::1]:5353\n"
			  "runtime-dir = /tmp/run\nlog = /tmp/log\nlog-level = "
			  "debug\nspool-max-size = 10G\n");
	const struct conf_global *g = conf_global(c);

	cr_expect_str_eq(g->host_name, "mta1.example.com");
	cr_expect_str_eq(g->domain_suffix, "mta1.example.com");
	cr_expect_str_eq(g->control_socket, "/tmp/run/control.sock");
	cr_expect_str_eq(g->log, "/tmp/log");
	cr_expect_eq(g->log_level, LOG_LEVEL_DEBUG);
	cr_expect_eq(g->postmaster.n, 3);
	cr_expect_str_eq(g->postmaster.v[2], "e@f.com");
	cr_expect_eq(g->resolver.n, 2);
	cr_expect_eq(g->resolver.v[0].port, 53);
	cr_expect_eq(g->resolver.v[1].port, 5353);
	cr_expect_eq(g->spool_max_size, 10 * CONF_GIB);
	cr_expect_null(g->user);
	cr_expect_eq(g->outcome_ring_size, 4 * CONF_MIB);
	conf_free(c);
	c = load_good("");
	g = conf_global(c);
	cr_expect_gt(strlen(g->host_name), 0);
	cr_expect_eq(g->total_max_smtp_out, 1200);
	cr_expect_eq(g->spool_max_size, UINT64_MAX);
	cr_expect_str_eq(g->control_socket, "/run/sluice/control.sock");
	cr_expect_eq(g->resolver.n, 0);
	conf_free(c);
}

Test(conf, ip_connection_limits_by_form_and_specificity)
{
	struct conf *c = load_good(
		"[global]\nip-connection-limit = 10/8 5\nip-connection-limit = 10.1/16 6 # c\n"
		"ip-connection-limit = 10/8 7 per-source-ip\n");
	static const struct {
		const char *ip;
		bool pair;
		uint32_t want; /* 0: none */
	} cases[] = {{"10.2.0.1", false, 5},
		     {"10.1.0.1", false, 6},
		     {"10.1.0.1", true, 7},
		     {"11.0.0.1", false, 0},
		     {"::1", false, 0}};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct ip a = ip_of(cases[i].ip);
		const struct conf_ip_limit *l = conf_ip_limit_for(c, &a, cases[i].pair);

		cr_expect_eq(l ? l->n : 0, cases[i].want, "%s", cases[i].ip);
	}
	conf_free(c);
}

/* "10.0.0.1=host 10.0.0.2=host" */
static void expect_hosts(const struct conf *c, const char *vmta, const char *want)
{
	const struct conf_vmta *v = conf_vmta_find(c, slice_str(vmta));
	struct buf b = BUF_INIT;
	char text[IP_TEXT_MAX];

	cr_assert_not_null(v, "%s", vmta);
	for (size_t i = 0; i < v->smtp_source_host.n; i++)
		buf_addf(&b, "%s%s=%s", i ? " " : "", ip_text(&v->smtp_source_host.v[i].ip, text),
			 v->smtp_source_host.v[i].host);
	cr_expect_str_eq(buf_cstr(&b), want, "%s: %s", vmta, buf_cstr(&b));
	buf_done(&b);
}

Test(conf, virtual_mtas_and_their_addresses)
{
	struct conf *c = load_good(
		"[global]\nhost-name = g.example.com\nsmtp-source-host = 10.9.9.9\n"
		"[virtual-mta one]\nsmtp-source-host = 10.0.0.1 a.example.com # one\n"
		"smtp-source-ip = 10.0.0.2\nmax-smtp-out = 7\n"
		"[virtual-mta several]\nsmtp-source-host = 10.0.0.3 10.0.0.4 2001:db8::1\n"
		"helo-domain = s.example.com\n[virtual-mta none]\n[virtual-mta named]\nhost-name = "
		"n.example.com\n"
		"[virtual-mta cleared]\nsmtp-source-host = \"\"\n[virtual-mta "
		"net]\nsmtp-source-host = 127.0.0.1/32 n.example.com\n"
		"[virtual-mta one]\nmax-smtp-out = unlimited\n");

	expect_hosts(c, "one", "10.0.0.1=a.example.com 10.0.0.2=g.example.com");
	expect_hosts(c, "ONE", "10.0.0.1=a.example.com 10.0.0.2=g.example.com");
	expect_hosts(c, "several",
		     "10.0.0.3=s.example.com 10.0.0.4=s.example.com 2001:db8::1=s.example.com");
	expect_hosts(c, "none", "10.9.9.9=g.example.com");
	expect_hosts(c, "named", "10.9.9.9=n.example.com");
	expect_hosts(c, "cleared", "");
	expect_hosts(c, "net", "127.0.0.1=n.example.com");
	expect_hosts(c, "{default}", "10.9.9.9=g.example.com");
	cr_expect_eq(conf_vmta_find(c, slice_str("one"))->max_smtp_out, 0);
	cr_expect_eq(conf_vmta_count(c), 7);
	cr_expect_str_eq(conf_vmta_at(c, 0)->name, "one");
	cr_expect_str_eq(conf_vmta_at(c, 6)->name, "{default}");
	cr_expect_eq(conf_vmta_at(c, 6)->index, 6);
	cr_expect_null(conf_vmta_find(c, slice_str("gone")));
	conf_free(c);
}

Test(conf, default_may_be_configured_and_stays_where_it_is)
{
	struct conf *c = load_good("[virtual-mta {default}]\nmax-smtp-out = 3\n[virtual-mta a]\n");

	cr_expect_eq(conf_vmta_count(c), 2);
	cr_expect_str_eq(conf_vmta_at(c, 0)->name, "{default}");
	cr_expect_eq(conf_vmta_at(c, 0)->max_smtp_out, 3);
	conf_free(c);
}

Test(conf, pools_and_listeners_and_files)
{
	struct conf *c = load_good(
		"[virtual-mta a]\n[virtual-mta-pool p]\nvirtual-mta = b, a\nvirtual-mta = "
		"{default}\n"
		"[virtual-mta b]\n[source feed]\n[smtp-listener 127.0.0.1:2525]\nsource = feed\n"
		"[listener [::1]:26]\n[smtp-listener 127.0.0.2]\n"
		"[acct-file /var/log/a.csv]\nrecords = d, b, t, tq\nmove-interval = 1h\nfields = "
		"rcpt, !vmta\n"
		"record-fields = tq queue\nmax-size = 1M\ndelete-after = never\ncompress = gzip\n"
		"[acct-file named]\npath = /b\nformat = json\nqueue-filter = !a.com/*, */v\n");
	const struct conf_pool *p = conf_pool_find(c, slice_str("P"));
	const struct conf_acct_file *f = conf_acct_file_at(c, 0);

	cr_assert_not_null(p);
	cr_expect_eq(p->member_count, 3);
	cr_expect_str_eq(p->members[0]->name, "b");
	cr_expect_str_eq(p->members[2]->name, "{default}");
	cr_expect_eq(conf_pool_count(c), 1);
	cr_expect_eq(conf_listener_count(c), 3);
	cr_expect_str_eq(conf_listener_at(c, 0)->source, "feed");
	cr_expect_null(conf_listener_at(c, 1)->source);
	cr_expect_eq(conf_listener_at(c, 1)->ip.family, IP_V6);
	cr_expect_eq(conf_listener_at(c, 2)->port, 25);
	cr_expect_eq(conf_acct_file_count(c), 2);
	cr_expect_eq(f->records, 15u);
	cr_expect_eq(f->move_interval, CONF_HOUR);
	cr_expect_eq(f->delete_after, USEC_INFINITY);
	cr_expect_eq(f->compress, CONF_COMPRESS_GZIP);
	cr_expect_eq(f->record_fields.of[CONF_RECORD_D].n, 2);
	cr_expect_str_eq(f->record_fields.of[CONF_RECORD_B].v[1], "!vmta");
	cr_expect_eq(f->record_fields.of[CONF_RECORD_TQ].n, 1);
	cr_expect_str_eq(conf_acct_file_at(c, 1)->path, "/b");
	cr_expect_eq(conf_acct_file_at(c, 1)->records, 3u, "d,b is the default");
	cr_expect_eq(conf_acct_file_at(c, 1)->format, CONF_ACCT_JSON);
	cr_expect_eq(conf_acct_file_at(c, 1)->queue_filter.n, 2);
	conf_free(c);
}

Test(conf, smtp_hosts)
{
	static const struct {
		const char *text, *want;
	} cases[] = {
		{"mx1.example.com", "1 mx1.example.com"},
		{"MX1.example.com:2525", "1 mx1.example.com:2525"},
		{"a.com,b.com;[192.0.2.1]:26;c.com", "1 a.com 1 b.com 2 192.0.2.1:26 3 c.com"},
		{"[IPv6:2001:db8::1]:26, [::1]", "1 2001:db8::1:26 1 ::1"},
		{"lookup-mx:example.com", "1 mx of example.com"},
		{"a.com; b.com;", "1 a.com 2 b.com"},
		{"a.com,\n b.com", "1 a.com 1 b.com"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char *text = xasprintf("[domain *]\nsmtp-hosts = %s\n", cases[i].text);
		struct conf *c = load_good(text);
		const struct conf_smtp_hosts *h =
			&conf_domain_for(c, slice_str("x"), slice_str(""))->smtp_hosts;
		struct buf b = BUF_INIT;

		for (size_t j = 0; j < h->n; j++) {
			buf_addf(&b, "%s%u %s%s", j ? " " : "", h->v[j].preference,
				 h->v[j].lookup_mx ? "mx of " : "", h->v[j].host);
			if (h->v[j].port)
				buf_addf(&b, ":%u", h->v[j].port);
		}
		cr_expect_str_eq(buf_cstr(&b), cases[i].want, "%s: %s", cases[i].text,
				 buf_cstr(&b));
		buf_done(&b);
		conf_free(c);
		free(text);
	}
}

Test(conf, domain_values)
{
	struct conf *c = load_good(
		"[domain a.com]\nbounce-upon-no-mx = true\n[domain b.com]\nbounce-upon-no-mx = 1h\n"
		"[domain c.com]\nbounce-upon-no-mx = never\nbounce-upon-nxdomain = never\ntype = "
		"DISCARD\n");
	const struct conf_domain *d = conf_domain_for(c, slice_str("a.com"), slice_str(""));

	cr_expect_eq(d->bounce_upon_no_mx, 0);
	cr_expect_eq(d->bounce_upon_nxdomain, 5 * CONF_MIN);
	cr_expect_eq(d->type, CONF_DOMAIN_SMTP);
	cr_expect_eq(d->retry_after.n, 1);
	cr_expect_eq(conf_domain_for(c, slice_str("b.com"), slice_str(""))->bounce_upon_no_mx,
		     CONF_HOUR);
	d = conf_domain_for(c, slice_str("c.com"), slice_str(""));
	cr_expect_eq(d->bounce_upon_no_mx, USEC_INFINITY);
	cr_expect_eq(d->bounce_upon_nxdomain, USEC_INFINITY);
	cr_expect_eq(d->type, CONF_DOMAIN_DISCARD);
	conf_free(c);
}

Test(conf, secrets_are_resolved_once_and_kept)
{
	static const char odd[] = "  p\"a\\s$s # x  \n";
	char *path = text_file("secret", odd, sizeof(odd) - 1);
	char *text = xasprintf("[acct-file /a]\nuser-string = file:%s\n[acct-file /b]\nuser-string "
			       "= \"<${SLUICE_T}>\"\n"
			       "[acct-file /c]\nuser-string = a\"${SLUICE_T}\\${X}\n[domain "
			       "*]\nmax-smtp-out = ${SLUICE_N}\n",
			       path);
	struct conf_messages m;
	struct conf *c, *d;

	setenv("SLUICE_T", "q\"u # \\o", 1);
	setenv("SLUICE_N", "17", 1);
	c = load_good(text);
	unsetenv("SLUICE_T");
	unsetenv("SLUICE_N");
	unlink(path);
	d = conf_parse_merged(conf_merged(c), &m);
	cr_assert_not_null(d, "a child needs neither the file nor the environment");
	conf_messages_done(&m);
	cr_expect_str_eq(conf_acct_file_at(d, 0)->user_string, "p\"a\\s$s # x");
	cr_expect_str_eq(conf_acct_file_at(d, 1)->user_string, "<q\"u # \\o>");
	cr_expect_str_eq(conf_acct_file_at(d, 2)->user_string, "a\"q\"u # \\o${X}");
	cr_expect_eq(conf_domain_for(d, slice_str("x"), slice_str(""))->max_smtp_out, 17);
	conf_free(c);
	conf_free(d);
	free(text);
	free(path);
}

static void find_secret(const struct conf_setting *s, void *arg)
{
	if (strcmp(s->keyword, "max-smtp-out") == 0)
		*(bool *)arg = strcmp(s->value, "***") == 0;
	cr_expect_null(strstr(s->value, "4711"), "%s shows a secret", s->keyword);
}

Test(conf, secrets_are_never_shown)
{
	struct conf_messages m;
	struct conf *c, *d;
	bool hidden = false;

	setenv("SLUICE_N", "4711", 1);
	c = load_good("[domain *]\nmax-smtp-out = ${SLUICE_N}\n");
	d = conf_parse_merged(conf_merged(c), &m);
	conf_messages_done(&m);
	conf_show_settings(d, NULL, slice_str("x"), slice_str(""), find_secret, &hidden);
	cr_expect(hidden);
	conf_free(c);
	conf_free(d);
}

Test(conf, a_file_that_is_no_secret)
{
	static const char two_lines[] = "one\ntwo\n";
	char *path = text_file("lines", two_lines, sizeof(two_lines) - 1), *messages;
	char *text = xasprintf("[acct-file /a]\nuser-string = file:%s\n", path);

	cr_expect_null(load_text(text, &messages));
	cr_expect(strstr(messages, "does not hold one line of text"), "%s", messages);
	free(messages);
	free(text);
	free(path);
}

static void count_keyword(const char *keyword, void *arg)
{
	struct buf *b = arg;

	buf_addf(b, "%s ", keyword);
}

Test(conf, what_needs_a_new_start_is_named)
{
	struct conf *a = load_good("[global]\nuser = nobody\nmax-workers = 5\nlog-level = debug\n");
	struct conf *b = load_good("[global]\nuser = nobody\nmax-workers = 6\nspool-dir = /x\n");
	struct buf names = BUF_INIT;

	cr_expect_eq(conf_restart_needed(a, b, count_keyword, &names), 2);
	cr_expect_str_eq(buf_cstr(&names), "spool-dir max-workers ");
	buf_clear(&names);
	cr_expect_eq(conf_restart_needed(a, a, count_keyword, &names), 0);
	buf_done(&names);
	conf_free(a);
	conf_free(b);
}

Test(conf, reference_and_list_have_every_directive)
{
	char *reference = NULL, *list = NULL;
	size_t n = 0;
	FILE *f = open_memstream(&reference, &n);

	conf_print_reference(f);
	fclose(f);
	f = open_memstream(&list, &n);
	conf_print_directives(f);
	fclose(f);
	for (size_t i = 0; i < CONF_SCOPE_COUNT; i++) {
		for (size_t j = 0; j < conf_scopes[i].n; j++) {
			struct slice rest = slice_str(conf_scopes[i].rows[j].keywords), word;

			while (slice_next(&rest, ' ', &word)) {
				char *cell = xasprintf("`%.*s`", SLICE_ARG(word));
				char *line =
					xasprintf("%.*s %.*s\n",
						  SLICE_ARG(conf_words_first(conf_scopes[i].words)),
						  SLICE_ARG(word));

				cr_expect(strstr(reference, cell), "%s", cell);
				cr_expect(strstr(list, line), "%s", line);
				free(cell);
				free(line);
			}
		}
	}
	free(reference);
	free(list);
}

/* Every configuration that is shipped loads without a word; a part for includes has no listener. */
Test(conf, shipped_configurations_are_good)
{
	static const char part[] =
		"warning: no [smtp-listener IP:PORT]: no mail is taken in over SMTP\n";
	glob_t g;

	cr_assert_eq(glob("etc/*.conf", 0, NULL, &g), 0);
	cr_assert_eq(glob("etc/examples/*.conf", GLOB_APPEND, NULL, &g), 0);
	cr_expect_geq(g.gl_pathc, 5);
	for (size_t i = 0; i < g.gl_pathc; i++) {
		struct conf_messages m;
		struct conf *c = conf_load(g.gl_pathv[i], &m);
		char *messages = messages_text(&m, NULL);

		cr_expect_not_null(c, "%s", g.gl_pathv[i]);
		if (conf_listener_count(c) == 0)
			cr_expect_str_eq(messages, part, "%s", messages);
		else
			cr_expect_str_empty(messages, "%s", messages);
		conf_messages_done(&m);
		free(messages);
		conf_free(c);
	}
	globfree(&g);
}
