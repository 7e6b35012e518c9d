/* links: common/base common/conf */
#include "tests/unit/conf_text.h"

#include <pthread.h>

#include "common/conf/scope.h"

/* max-msg-per-connection tells which section won. */
static uint64_t winner(const struct conf *c, const char *domain, const char *vmta)
{
	return conf_domain_for(c, slice_str(domain), slice_str(vmta))->max_msg_per_connection;
}

#define VMTAS                                                               \
	"[virtual-mta v1]\n[virtual-mta v2]\n[virtual-mta v3]\n"            \
	"[virtual-mta-pool p]\nvirtual-mta = v1, v2\n"                      \
	"[domain-macro]\nms = hotmail.com, outlook.com\ntld = com, co.uk\n" \
	"wild = *.wild.com\nboth = [*.]wild.com\nouter = $ms, live.$tld\n"
#define SET(pattern, n) "[domain " pattern "]\nmax-msg-per-connection = " #n "\n"

struct rule_case {
	const char *label, *sections, *domain, *vmta;
	uint64_t want;
};

static const struct rule_case rule_cases[] = {
	/* one pattern: what it matches */
	{"exact matches", SET("a.com", 1), "a.com", "v1", 1},
	{"exact is not its subdomains", SET("a.com", 1), "b.a.com", "v1", 0},
	{"exact in any case", SET("A.CoM", 1), "a.com", "v1", 1},
	{"a trailing dot does not count", SET("a.com.", 1), "a.com", "v1", 1},
	{"*.d is subdomains", SET("*.a.com", 1), "x.a.com", "v1", 1},
	{"*.d is deep subdomains", SET("*.a.com", 1), "x.y.a.com", "v1", 1},
	{"*.d is not d", SET("*.a.com", 1), "a.com", "v1", 0},
	{"*.d ends at a label", SET("*.a.com", 1), "xa.com", "v1", 0},
	{"[*.]d is d", SET("[*.]rr.com", 1), "rr.com", "v1", 1},
	{"[*.]d is subdomains", SET("[*.]rr.com", 1), "x.rr.com", "v1", 1},
	{"[*.]d ends at a label", SET("[*.]rr.com", 1), "xrr.com", "v1", 0},
	{"* is everything", SET("*", 1), "a.com", "v1", 1},
	{"* is address literals too", SET("*", 1), "[10.1.2.3]", "v1", 1},
	{"[ip/mask]", SET("[10/8]", 1), "[10.1.2.3]", "v1", 1},
	{"[ip/mask] of another network", SET("[10/8]", 1), "[11.1.2.3]", "v1", 0},
	{"[ip] alone", SET("[10.1.2.3]", 1), "[10.1.2.3]", "v1", 1},
	{"[0/0] is every literal, v6 too", SET("[0/0]", 1), "[IPv6:::1]", "v1", 1},
	{"[0/0] is no domain", SET("[0/0]", 1), "a.com", "v1", 0},
	{"IPv6 network", SET("[2001:db8::/32]", 1), "[IPv6:2001:db8::5]", "v1", 1},
	/* inside a scope */
	{"exact over *.d", SET("*.com", 2) SET("a.com", 1), "a.com", "v1", 1},
	{"exact over [*.]d of itself", SET("[*.]a.com", 2) SET("a.com", 1), "a.com", "v1", 1},
	{"order does not matter", SET("a.com", 1) SET("[*.]a.com", 2), "a.com", "v1", 1},
	{"exact over exact through a macro", SET("hotmail.com", 1) SET("$ms", 2), "hotmail.com",
	 "v1", 1},
	{"exact through a macro over a wildcard", SET("[*.]hotmail.com", 2) SET("$ms", 1),
	 "hotmail.com", "v1", 1},
	{"longer suffix over shorter", SET("*.com", 2) SET("*.a.com", 1), "x.a.com", "v1", 1},
	{"longer [*.]d over shorter *.d", SET("*.com", 2) SET("[*.]a.com", 1), "x.a.com", "v1", 1},
	{"longer through a macro over shorter written", SET("*.com", 2) SET("$wild", 1),
	 "x.wild.com", "v1", 1},
	{"equal length: written over macro", SET("$wild", 2) SET("[*.]wild.com", 1), "x.wild.com",
	 "v1", 1},
	{"equal length: *.d over [*.]d", SET("[*.]wild.com", 2) SET("*.wild.com", 1), "x.wild.com",
	 "v1", 1},
	{"equal length through macros: *.d over [*.]d", SET("$both", 2) SET("$wild", 1),
	 "x.wild.com", "v1", 1},
	{"longer network over shorter", SET("[10/8]", 2) SET("[10.1/16]", 1), "[10.1.2.3]", "v1",
	 1},
	{"network over *", SET("*", 2) SET("[0/0]", 1), "[10.1.2.3]", "v1", 1},
	{"wildcard over *", SET("*", 2) SET("*.com", 1), "a.com", "v1", 1},
	/* macros */
	{"macro", SET("$ms", 1), "outlook.com", "v1", 1},
	{"macro inside a pattern", SET("yahoo.$tld", 1), "yahoo.co.uk", "v1", 1},
	{"macro behind a wildcard", SET("*.$ms", 1), "x.hotmail.com", "v1", 1},
	{"nested macro", SET("$outer", 1), "hotmail.com", "v1", 1},
	{"nested macro inside an element", SET("$outer", 1), "live.co.uk", "v1", 1},
	{"macros are not case-sensitive", SET("$MS", 1), "outlook.com", "v1", 1},
	{"macro followed by a dot", SET("$tld.example", 1), "co.uk.example", "v1", 1},
	/* scopes */
	{"the virtual MTA over everywhere", SET("a.com", 2) SET("a.com/v1", 1), "a.com", "v1", 1},
	{"* of the virtual MTA over exact everywhere", SET("a.com", 2) SET("*/v1", 1), "a.com",
	 "v1", 1},
	{"another virtual MTA is not meant", SET("a.com", 2) SET("*/v1", 1), "a.com", "v2", 2},
	{"the pool over everywhere", SET("a.com", 2) SET("*/p", 1), "a.com", "v2", 1},
	{"a virtual MTA outside the pool", SET("a.com", 2) SET("*/p", 1), "a.com", "v3", 2},
	{"the virtual MTA over its pool", SET("a.com/p", 2) SET("*/v1", 1), "a.com", "v1", 1},
	{"virtual MTAs are not case-sensitive", SET("*/V1", 1), "a.com", "v1", 1},
	{"in [virtual-mta] it is */NAME",
	 SET("a.com", 2) "[virtual-mta v1]\nmax-msg-per-connection = 1\n", "a.com", "v1", 1},
	{"{default} is a scope", SET("*/{default}", 1), "a.com", "{default}", 1},
	{"address literal with a virtual MTA", SET("[10/8]/v1", 1), "[10.1.2.3]", "v1", 1},
	{"an unknown virtual MTA has the global scope", SET("a.com", 1), "a.com", "gone", 1},
	{"no virtual MTA has the global scope", SET("a.com", 1) SET("a.com/v1", 2), "a.com", "", 1},
	/* headers */
	{"several patterns", SET("a.com, b.com", 1), "b.com", "v1", 1},
	{"each with its own virtual MTA", SET("a.com/v1, b.com/v2", 1), "b.com", "v2", 1},
	{"each with its own virtual MTA only", SET("a.com/v1, b.com/v2", 1), "b.com", "v1", 0},
	{"quoted pattern and name", SET("\"a.com\"/\"v1\"", 1), "a.com", "v1", 1},
	{"nothing set is the default", "", "a.com", "v1", 0},
	{"a set value may go back to the default", SET("*", 5) SET("a.com", 0), "a.com", "v1", 0},
	{"\"\" clears what a wider section set",
	 SET("*", 5) "[domain a.com]\nmax-msg-per-connection = \"\"\n", "a.com", "v1", 0},
};

Test(conf_domains, what_applies_to_a_queue)
{
	for (size_t i = 0; i < ARRAY_SIZE(rule_cases); i++) {
		const struct rule_case *k = &rule_cases[i];
		char *text = xasprintf(VMTAS "%s", k->sections);
		struct conf *c = load_good(text);

		cr_expect_eq(winner(c, k->domain, k->vmta), k->want, "%s: %llu", k->label,
			     (unsigned long long)winner(c, k->domain, k->vmta));
		conf_free(c);
		free(text);
	}
}

Test(conf_domains, each_directive_is_chosen_separately)
{
	struct conf *c = load_good(VMTAS "[domain *]\nmax-smtp-out = 2\nretry-after = 5m,10m\n"
					 "bounce-after = 1d\n[domain $ms]\nmax-smtp-out = 7\n"
					 "[domain */v1]\nbounce-after = 2d\n");
	const struct conf_domain *d = conf_domain_for(c, slice_str("outlook.com"), slice_str("v1"));

	cr_expect_eq(d->max_smtp_out, 7);
	cr_expect_eq(d->retry_after.n, 2);
	cr_expect_eq(d->retry_after.v[1], 10 * CONF_MIN);
	cr_expect_eq(d->bounce_after, 2 * CONF_DAY);
	cr_expect_eq(d->default_smtp_port, 25);
	cr_expect_eq(d->bounce_upon_no_mx, CONF_TIME_NO);
	conf_free(c);
}

Test(conf_domains, equal_outcomes_are_one_struct)
{
	struct conf *c = load_good(VMTAS "[domain $ms]\nmax-smtp-out = 7\n");
	const struct conf_domain *a = conf_domain_for(c, slice_str("outlook.com"), slice_str("v1"));

	cr_expect(a == conf_domain_for(c, slice_str("hotmail.com"), slice_str("v2")));
	cr_expect(a == conf_domain_for(c, slice_str("hotmail.com"), slice_str("")));
	cr_expect(a != conf_domain_for(c, slice_str("other.com"), slice_str("v1")));
	cr_expect(conf_domain_for(c, slice_str("x.com"), slice_str("")) ==
		  conf_domain_for(c, slice_str("y.com"), slice_str("")));
	conf_free(c);
}

Test(conf_domains, domains_of_any_length_and_bytes)
{
	struct conf *c = load_good(SET("*", 3) SET("*.com", 1));
	char longest[256], longer[70000];

	memset(longest, 'a', sizeof(longest));
	memcpy(longest + 251, ".com", 4);
	memset(longer, 'b', sizeof(longer));
	cr_expect_eq(
		conf_domain_for(c, slice_of(longest, 255), slice_str(""))->max_msg_per_connection,
		1);
	cr_expect_eq(conf_domain_for(c, slice_of(longer, sizeof(longer)), slice_str(""))
			     ->max_msg_per_connection,
		     3);
	cr_expect_eq(conf_domain_for(c, slice_of("\0\xff.com", 6), slice_str(""))
			     ->max_msg_per_connection,
		     1);
	cr_expect_eq(conf_domain_for(c, slice_str(""), slice_str(""))->max_msg_per_connection, 3);
	cr_expect_eq(conf_domain_for(c, slice_str("..."), slice_str(""))->max_msg_per_connection,
		     3);
	cr_expect_eq(conf_domain_for(c, slice_str("a"), slice_of(longer, sizeof(longer)))
			     ->max_msg_per_connection,
		     3);
	conf_free(c);
}

struct shown {
	const char *keyword;
	struct buf line;
	size_t count;
	char *last;
};

static void show(const struct conf_setting *s, void *arg)
{
	struct shown *w = arg;

	w->count++;
	cr_expect(!w->last || strcmp(w->last, s->keyword) < 0, "not in order: %s", s->keyword);
	free(w->last);
	w->last = xstrdup(s->keyword);
	if (strcmp(s->keyword, w->keyword) == 0)
		buf_addf(&w->line, "%s line %u %s", s->value, s->origin.line,
			 s->section ? s->section : "(default)");
}

Test(conf_domains, settings_name_their_origin)
{
	static const struct {
		const char *keyword, *want;
	} cases[] = {
		{"max-smtp-out", "7 line 15 [domain $ms]"},
		{"retry-after", "5m,10m line 13 [domain *]"},
		{"bounce-after", "2d line 17 [domain */v1]"},
		{"type", "smtp line 0 (default)"},
		{"smtp-hosts", "\"\" line 0 (default)"},
	};
	struct conf *c = load_good(VMTAS "[domain *]\nretry-after = 5m,10m # twice\n[domain $ms]\n"
					 "max-smtp-out = 7\n[domain */v1]\nbounce-after = 2d\n");

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct shown w = {.keyword = cases[i].keyword};

		conf_show_settings(c, NULL, slice_str("outlook.com"), slice_str("v1"), show, &w);
		cr_expect_str_eq(buf_cstr(&w.line), cases[i].want);
		cr_expect_eq(w.count, conf_scopes[CONF_SCOPE_DOMAIN].n);
		buf_done(&w.line);
		free(w.last);
	}
	conf_free(c);
}

Test(conf_domains, lines_that_add_up_are_shown_together)
{
	static const struct {
		const char *keyword, *want;
	} cases[] = {
		{"source-ip-max-smtp-out", "10/8 3; 10.1/16 4 line 3 [domain *]"},
		{"backoff-notify", "b@x.com, c@x.com line 7 [domain *]"},
		{"disabled-source-ip-notify", "*** line 9 [domain *]"},
	};
	struct conf *c;

	setenv("SLUICE_TEST_SECRET", "a@x.com", 1);
	c = load_good("[domain *]\nsource-ip-max-smtp-out = 10/8 3\n"
		      "source-ip-max-smtp-out = 10.1/16 4\n"
		      "backoff-notify = a@x.com\nbackoff-notify = \"\"\n"
		      "backoff-notify = b@x.com\nbackoff-notify = c@x.com\n"
		      "disabled-source-ip-notify = ${SLUICE_TEST_SECRET}\n"
		      "disabled-source-ip-notify = b@x.com\n");
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct shown w = {.keyword = cases[i].keyword};

		conf_show_settings(c, NULL, slice_str("x.com"), slice_str(""), show, &w);
		cr_expect_str_eq(buf_cstr(&w.line), cases[i].want, "%s", buf_cstr(&w.line));
		buf_done(&w.line);
		free(w.last);
	}
	conf_free(c);
}

Test(conf_domains, of_two_sections_for_one_domain_the_later_line_wins)
{
	char *messages;
	struct conf *c =
		load_text(SET("a.com, b.com", 1) SET("a.com", 2) "[domain a.com, b.com]\n"
								 "max-smtp-out = 4\n"
								 "max-msg-per-connection = 3\n",
			  &messages);

	cr_assert_not_null(c);
	cr_expect_eq(winner(c, "a.com", ""), 3);
	cr_expect_not_null(strstr(messages, "T:7: warning: max-msg-per-connection is set again for "
					    "the same domain: this replaces T:4"),
			   "%s", messages);
	free(messages);
	conf_free(c);
}

/* Several session threads ask at the same time. */
static void *ask(void *arg)
{
	const struct conf *c = arg;

	for (int i = 0; i < 2000; i++) {
		char name[32];
		struct ip ip = {.family = IP_V4, .b = {10, 0, 0, (uint8_t)i}};

		snprintf(name, sizeof(name), "d%d.com", i % 40);
		cr_assert_eq(
			conf_domain_for(c, slice_str(name), slice_str(""))->max_msg_per_connection,
			i % 40 < 20 ? (uint64_t)(i % 40 + 1) : 0);
		cr_assert_eq(conf_source_for(c, &ip, NULL)->max_message_hops,
			     (i & 0xff) < 128 ? 7 : 100);
	}
	return NULL;
}

Test(conf_domains, threads_share_a_generation)
{
	struct buf text = BUF_INIT;
	pthread_t t[4];
	struct conf *c;

	for (int i = 0; i < 20; i++)
		buf_addf(&text, "[domain d%d.com]\nmax-msg-per-connection = %d\n", i, i + 1);
	buf_add_str(&text, "[source 10.0.0.0/25]\nmax-message-hops = 7\n");
	c = load_good(buf_cstr(&text));
	for (size_t i = 0; i < ARRAY_SIZE(t); i++)
		cr_assert_eq(pthread_create(&t[i], NULL, ask, c), 0);
	for (size_t i = 0; i < ARRAY_SIZE(t); i++)
		pthread_join(t[i], NULL);
	conf_free(c);
	buf_done(&text);
}
