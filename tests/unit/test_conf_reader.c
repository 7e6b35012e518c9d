/* links: common/base common/conf */
#include "tests/unit/conf_text.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "common/conf/private.h"

/* All items as "line word|text" lines; messages behind them. */
static char *items_text(const char *path)
{
	struct arena a = {NULL};
	struct conf_items items = {NULL, 0, 0};
	struct conf_messages m = {NULL, 0};
	struct buf b = BUF_INIT;
	char *messages;

	conf_read_file(path, &a, &items, &m);
	for (size_t i = 0; i < items.n; i++) {
		const struct conf_item *it = &items.v[i];

		buf_addf(&b, it->header ? "%u[%.*s]\n" : "%u %.*s|%.*s\n", it->at.line,
			 SLICE_ARG(it->header ? it->text : it->word), SLICE_ARG(it->text));
	}
	messages = messages_text(&m, path);
	buf_add_str(&b, messages);
	free(messages);
	conf_items_done(&items);
	conf_messages_done(&m);
	arena_done(&a);
	return buf_take(&b);
}

struct line_case {
	const char *label, *text, *want;
};

static const struct line_case line_cases[] = {
	{"empty file", "", ""},
	{"only comments", "# a\n; b\n  # c\n\n", ""},
	{"an entry", "[global]\nlog-level = info\n", "1[global]\n2 log-level|info\n"},
	{"no line break at the end", "[global]\nlog-level=info", "1[global]\n2 log-level|info\n"},
	{"CR LF", "[global]\r\nlog-level = info\r\n", "1[global]\n2 log-level|info\n"},
	{"byte order mark", "\xef\xbb\xbf[global]\n", "1[global]\n"},
	{"UTF-8 in a comment and a text",
	 "# gr\xc3\xbc\xc3\x9f\n[acct-file /a]\nuser-string = \xe2\x82\xac\n",
	 "2[acct-file /a]\n3 user-string|\xe2\x82\xac\n"},
	{"comment behind a value", "[global]\nmax-workers = 5 # five\n",
	 "1[global]\n2 max-workers|5\n"},
	{"'#' stays in a text", "[acct-file /a]\nuser-string = a #b\n",
	 "1[acct-file /a]\n2 user-string|a #b\n"},
	{"'=' in a value", "[acct-file /a]\nuser-string = a=b=c\n",
	 "1[acct-file /a]\n2 user-string|a=b=c\n"},
	{"empty section", "[smtp-listener 127.0.0.1:25]\n[global]\n",
	 "1[smtp-listener 127.0.0.1:25]\n2[global]\n"},
	/* headers */
	{"header with [*.]", "[domain [*.]rr.com]\n", "1[domain [*.]rr.com]\n"},
	{"header with a network and a virtual MTA", "[domain [10/8]/mta1]\n",
	 "1[domain [10/8]/mta1]\n"},
	{"header with an IPv6 address", "[smtp-listener [::1]:25]\n",
	 "1[smtp-listener [::1]:25]\n"},
	{"header with a command", "[acct-file |/usr/local/bin/etl --log x]\n",
	 "1[acct-file |/usr/local/bin/etl --log x]\n"},
	{"comment behind a header", "[source 0/0]   # all\n", "1[source 0/0]\n"},
	{"indented header", "  [global]\n", "1[global]\n"},
	{"header without ]", "[global\n", "T:1: error: a section header ends with ']'\n"},
	{"text behind a header", "[global] x\n",
	 "T:1: error: text after the ']' of a section header\n"},
	{"comment with ] behind a header", "[source 0/0] # see [x]\n",
	 "T:1: error: a section header ends at the last ']' of its line: a comment behind it must "
	 "not hold one\n"},
	{"] and # in a quoted name", "[acct-file \"/a ] # b\"]\n", "1[acct-file \"/a ] # b\"]\n"},
	{"header without a word", "[ ]\n", "T:1: error: a section header without a name\n"},
	/* continuations */
	{"indented line goes on", "[domain *]\nretry-after = 5m,\n\t10m,\n\t15m\n",
	 "1[domain *]\n2 retry-after|5m, 10m, 15m\n"},
	{"indented line of a text", "[acct-file /a]\nuser-string = a\n  b\n",
	 "1[acct-file /a]\n2 user-string|a b\n"},
	{"trailing comma of a list",
	 "[domain-macro]\nms = a.com,\nb.com, # two\nc.com\nx = y.com\n",
	 "1[domain-macro]\n2 ms|a.com, b.com, c.com\n5 x|y.com\n"},
	{"trailing comma of a text is text", "[acct-file /a]\nuser-string = a,\nrecords = d\n",
	 "1[acct-file /a]\n2 user-string|a,\n3 records|d\n"},
	{"list goes on with a pattern in brackets",
	 "[source 0/0]\nrelay-domain = a.com,\n[*.]b.com,\n[10/8]\n",
	 "1[source 0/0]\n2 relay-domain|a.com, [*.]b.com, [10/8]\n"},
	{"header ends a list with a trailing comma", "[domain-macro]\nms = a.com,\n[global]\n",
	 "1[domain-macro]\n2 ms|a.com,\n3[global]\n"},
	{"comments between continuations",
	 "[domain-macro]\nms = a.com, # one\n# whole line\n  b.com # two\n",
	 "1[domain-macro]\n2 ms|a.com, b.com\n"},
	{"blank line ends a value", "[domain-macro]\nms = a.com\n\n  x = b.com\n",
	 "1[domain-macro]\n2 ms|a.com\n4 x|b.com\n"},
	{"indented directives of equal depth",
	 "[domain *]\n    max-smtp-out = 2\n    retry-after = 5m\n",
	 "1[domain *]\n2 max-smtp-out|2\n3 retry-after|5m\n"},
	{"indented directive and a deeper line",
	 "[domain-macro]\n  a = b.com,\n    c.com\n  d = e.com\n",
	 "1[domain-macro]\n2 a|b.com, c.com\n4 d|e.com\n"},
	/* what is refused */
	{"no =", "[global]\nhost-name mta1\n",
	 "1[global]\nT:2: error: no '=' in this line: write host-name = VALUE\n"},
	{"no =, but a colon", "[domain *]\nmax-smtp-out: 3\n",
	 "1[domain *]\nT:2: error: no '=' in this line: write max-smtp-out = VALUE\n"},
	{"PowerMTA's form of what is not there",
	 "[global]\nhttp-mgmt-port 8080\nlog-file /l\n<spool /s>\n",
	 "1[global]\nT:2: error: http-mgmt-port is not supported by this version\n"
	 "T:3: error: log-file is refused: write log = FILE\n"
	 "T:4: error: <spool> is not a section: write spool-dir and min-free-space in [global]\n"},
	{"PowerMTA's blocks", "<domain *>\n",
	 "T:1: error: <domain …> is PowerMTA's form: write [domain …]\n"},
	{"no keyword", "[global]\n= 5\n", "1[global]\nT:2: error: no keyword before the '='\n"},
	{"entry before a header", "log-level = info\n[global]\n",
	 "2[global]\nT:1: error: log-level stands before the first section header\n"},
	{"control character", "[global]\nlog-level = a\x01\n",
	 "1[global]\nT:2: error: the line holds a control character\n"},
	{"Latin 1", "[global]\nlog-level = \xfc\n",
	 "1[global]\nT:2: error: the line is not UTF-8\n"},
	{"overlong UTF-8", "[global]\nlog-level = \xc0\xaf\n",
	 "1[global]\nT:2: error: the line is not UTF-8\n"},
	{"surrogate", "[global]\nlog-level = \xed\xa0\x80\n",
	 "1[global]\nT:2: error: the line is not UTF-8\n"},
	{"bad bytes in a continuation", "[domain-macro]\nms = a.com,\n  \xff\n  b.com\n",
	 "1[domain-macro]\n2 ms|a.com, b.com\nT:3: error: the line is not UTF-8\n"},
};

Test(conf_reader, lines)
{
	for (size_t i = 0; i < ARRAY_SIZE(line_cases); i++) {
		const struct line_case *k = &line_cases[i];
		char *path = text_file("lines", k->text, strlen(k->text));
		char *got = items_text(path);

		cr_expect_str_eq(got, k->want, "%s: got\n%s", k->label, got);
		free(got);
		free(path);
	}
}

Test(conf_reader, a_nul_byte_is_an_error_of_its_line)
{
	static const char text[] = "[global]\nlog-level = in\0fo\nmax-workers = 3\n";
	char *path = text_file("nul", text, sizeof(text) - 1), *got = items_text(path);

	cr_expect_str_eq(got,
			 "1[global]\n3 max-workers|3\nT:2: error: the line holds a NUL byte\n");
	free(got);
	free(path);
}

Test(conf_reader, long_lines_names_and_sections)
{
	struct buf b = BUF_INIT;
	char *messages;
	struct conf *c;
	const struct conf_patterns *p;

	/* 100 kB in one line, and inih's limits of 199 and 49 bytes left far behind */
	buf_add_str(&b, "[source 127.0.0.1]\nrelay-domain = first.com");
	while (b.n < 100000)
		buf_addf(&b, ", d%zu.example.com", b.n);
	buf_add_str(&b, ", last.com\n[domain ");
	for (int i = 0; i < 500; i++)
		buf_addf(&b, "a-long-name-of-a-domain-%d.example.com, ", i);
	buf_add_str(&b, "end.com]\nmax-smtp-out = 3\n");
	c = load_bytes(b.p, b.n, &messages);
	cr_assert_not_null(c, "%s", messages);
	p = &conf_source_for(c, &(struct ip){.family = IP_V4, .b = {127, 0, 0, 1}}, NULL)
		     ->relay_domain;
	cr_expect(conf_patterns_match(p, slice_str("first.com")));
	cr_expect(conf_patterns_match(p, slice_str("last.com")));
	cr_expect_not(conf_patterns_match(p, slice_str("other.com")));
	cr_expect_eq(conf_domain_for(c, slice_str("end.com"), slice_str(""))->max_smtp_out, 3);
	cr_expect_eq(conf_domain_for(c, slice_str("a-long-name-of-a-domain-499.example.com"),
				     slice_str(""))
			     ->max_smtp_out,
		     3);
	conf_free(c);
	free(messages);
	buf_done(&b);
}

/* Includes: files beside each other in the test's directory. */
static char *put(const char *name, const char *text)
{
	return text_file(name, text, strlen(text));
}

static void expect_items(const char *path, const char *want)
{
	char *dir = xstrndup(path, (size_t)(strrchr(path, '/') - path));
	struct buf b = BUF_INIT;
	char *got = items_text(path);

	buf_add_str(&b, got);
	replace_all(&b, dir, "D");
	cr_expect_str_eq(buf_cstr(&b), want, "got\n%s", buf_cstr(&b));
	buf_done(&b);
	free(got);
	free(dir);
}

Test(conf_reader, an_include_belongs_to_its_section_which_goes_on)
{
	free(put("inc1.conf", "max-smtp-out = 1\n[global]\nmax-workers = 2\n"));
	char *path = put("main.conf", "[domain *]\ninclude = inc1.conf\nretry-after = 3m\n");

	expect_items(path, "1[domain *]\n1 max-smtp-out|1\n2[global]\n3 max-workers|2\n"
			   "1[domain *]\n3 retry-after|3m\n");
	free(path);
}

Test(conf_reader, globs_sort_by_byte)
{
	free(put("g-b.inc", "[source 2]\n"));
	free(put("g-B.inc", "[source 1]\n"));
	free(put("g-a.inc", "max-workers = 3\n"));
	char *path = put("main.conf", "[global]\ninclude = \"g-*.inc\"  # quoted\n");

	expect_items(
		path,
		"1[global]\n1[source 1]\n1[global]\n1 max-workers|3\n1[source 2]\n1[global]\n");
	free(path);
}

Test(conf_reader, includes_that_fail)
{
	free(put("loop.conf", "include = loop.conf\n"));
	free(put("twin-a.conf", "include = twin-b.conf\n"));
	free(put("twin-b.conf", "include = twin-a.conf\n"));
	char *path = put("main.conf", "[global]\ninclude = none-*.conf\ninclude = -none-*.conf\n"
				      "include = missing\ninclude =\ninclude = .\n"
				      "include = loop.conf\ninclude = twin-a.conf\n");

	expect_items(path, "1[global]\n"
			   "T:2: error: include: no file matches D/none-*.conf (include = "
			   "-D/none-*.conf allows that)\n"
			   "T:4: error: include: no file matches D/missing (include = -D/missing "
			   "allows that)\n"
			   "T:5: error: include: name a file, for example include = conf.d/*.conf\n"
			   "T:6: error: cannot read D/.: it is a directory (write D/./*.conf)\n"
			   "D/loop.conf:1: error: include loop: D/loop.conf includes itself\n"
			   "D/twin-b.conf:1: error: include loop: D/twin-a.conf includes itself\n");
	free(path);
}

Test(conf_reader, sixteen_levels_of_includes)
{
	char *path = NULL;

	for (int levels = 16; levels <= 17; levels++) {
		for (int i = levels - 1; i >= 0; i--) {
			char *name = xasprintf("level%d.conf", i);
			char *text = i == levels - 1 ? xstrdup("[global]\n")
						     : xasprintf("include = level%d.conf\n", i + 1);

			free(path);
			path = text_file(name, text, strlen(text));
			free(name);
			free(text);
		}
		expect_items(path,
			     levels == 16
				     ? "1[global]\n"
				     : "D/level15.conf:1: error: include: more than 16 levels\n");
	}
	free(path);
}

Test(conf_reader, a_missing_file_and_a_directory)
{
	char *messages;
	struct conf_messages m;

	cr_expect_null(conf_load("/nonexistent/sluice.conf", &m));
	messages = messages_text(&m, NULL);
	cr_expect_str_eq(
		messages,
		"error: cannot read /nonexistent/sluice.conf: No such file or directory\n");
	free(messages);
	conf_messages_done(&m);
	cr_expect_null(conf_load("/tmp", &m));
	cr_expect_eq(m.n > 0, true);
	conf_messages_done(&m);
}

Test(conf_reader, merged_text_says_the_same_and_keeps_places)
{
	static const char text[] =
		"[global]\nhost-name = mta.example.com # c\n\n[domain-macro]\nms = a.com,\n  "
		"b.com\n"
		"[acct-file \"/a ] # b\"]\nuser-string = \"x # y\"\n[domain [*.]c.com, $ms]\n"
		"retry-after = 5m,\n10m\n[smtp-listener [::1]:2525]\n";
	struct conf *c = load_good(text), *d, *e;
	struct conf_messages m;
	const struct conf_domain *set;
	char *path;
	int fd;

	d = conf_parse_merged(conf_merged(c), &m);
	cr_assert_not_null(d);
	conf_messages_done(&m);
	cr_expect(slice_eq(conf_merged(c), conf_merged(d)));
	set = conf_domain_for(d, slice_str("b.com"), slice_str(""));
	cr_expect_eq(set->retry_after.n, 2);
	cr_expect_str_eq(conf_acct_file_at(d, 0)->path, "/a ] # b");
	cr_expect_str_eq(conf_acct_file_at(d, 0)->user_string, "x # y");
	cr_expect_eq(conf_acct_file_at(d, 0)->at.line, 7);
	cr_expect_eq(conf_listener_at(d, 0)->at.line, 12);
	cr_expect_eq(conf_listener_at(d, 0)->port, 2525);
	path = text_file("merged", conf_merged(c).p, conf_merged(c).n);
	fd = open(path, O_RDONLY);
	cr_assert_eq(lseek(fd, 10, SEEK_SET), 10);
	e = conf_read_fd(fd, &m);
	cr_assert_not_null(e);
	conf_messages_done(&m);
	cr_expect_str_eq(conf_global(e)->host_name, "mta.example.com");
	cr_expect_null(conf_read_fd(-1, &m));
	cr_expect_eq(m.n, 1);
	conf_messages_done(&m);
	close(fd);
	free(path);
	conf_free(c);
	conf_free(d);
	conf_free(e);
}
