/* links: common/base common/conf common/acct */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "common/acct/field.h"
#include "common/acct/layout.h"
#include "common/base/err.h"
#include "common/base/rng.h"
#include "common/base/xalloc.h"
#include "tests/unit/conf_text.h"

static struct acct_record sample(enum acct_type type)
{
	struct acct_record r = {
		.type = type,
		.time_logged = 1795311565999,
		.time_queued = 1795311560000,
		.orig = slice_str("from@b.example"),
		.rcpt = slice_str("to@D.Example"),
		.dsn_action = slice_str("failed"),
		.enhanced = {5, 1, 1},
		.code = 550,
		.text = slice_str("550 5.1.1 no such user, \"sorry\""),
		.mx_name = slice_str("mx.d.example"),
		.src_mta = slice_str("client (10.0.0.1)"),
		.dlv_type = slice_str("smtp"),
		.esmtp = slice_str("PIPELINING,SIZE"),
		.size = 1234,
		.vmta = slice_str("mta1"),
		.queue = slice_str("d.example/mta1"),
		.attempt = 2,
		.msgid = 42,
	};

	cr_assert(ip_parse(slice_str("192.0.2.1"), &r.mx_ip));
	cr_assert(ip_parse(slice_str("10.0.0.9"), &r.source_ip));
	return r;
}

static struct conf *conf; /* of each test's process */

static void free_conf(void)
{
	conf_free(conf);
}

static struct acct_layout *layout(unsigned types, bool json, bool iso)
{
	struct acct_layout_options o = {
		.types = types, .json = json, .iso_times = iso, .user_string = "us"};

	if (!conf) {
		conf = load_good("");
		atexit(free_conf);
	}
	o.conf = conf;
	return acct_layout_new(&o);
}

Test(acct_layout, default_columns_are_powermtas)
{
	struct acct_layout *l = layout(ACCT_IN_D | ACCT_IN_B, false, true);
	struct buf b = BUF_INIT;

	acct_layout_header(l, &b);
	cr_assert_str_eq(
		buf_cstr(&b),
		"type,timeLogged,timeQueued,orig,rcpt,orcpt,dsnAction,dsnStatus,dsnDiag,dsnMta,"
		"bounceCat,srcType,srcMta,dlvType,dlvSourceIp,dlvDestinationIp,dlvEsmtpAvailable,"
		"dlvSize,vmta,jobId,envId,queue,vmtaPool\n");
	buf_done(&b);
	acct_layout_free(l);
}

Test(acct_layout, writes_a_line_as_powermta_does)
{
	struct acct_layout *l = layout(ACCT_IN_DBT, false, true);
	struct acct_record r = sample(ACCT_BOUNCED);
	struct buf b = BUF_INIT;

	setenv("TZ", "UTC", 1);
	tzset();
	cr_assert(acct_layout_line(l, &r, 1, &b));
	cr_assert_str_eq(buf_cstr(&b), "b,2026-11-22 01:39:25+0000,2026-11-22 "
				       "01:39:20+0000,from@b.example,to@D.Example,,failed,"
				       "5.1.1 (bad destination mailbox address),"
				       "\"smtp;550 5.1.1 no such user, "
				       "\"\"sorry\"\"\",mx.d.example (192.0.2.1),bad-mailbox,smtp,"
				       "client "
				       "(10.0.0.1),smtp,10.0.0.9,192.0.2.1,\"PIPELINING,SIZE\","
				       "1234,mta1,,,d.example/mta1,\n");
	buf_done(&b);
	acct_layout_free(l);
}

Test(acct_layout, every_field_has_its_value)
{
	static const struct {
		const char *name, *value;
	} cases[] = {
		{"type", "b"},
		{"timeLogged", "2026-11-22 01:39:25+0000"},
		{"timeQueued", "2026-11-22 01:39:20+0000"},
		{"totalSecondsQueued", "5"},
		{"timeFirstAttempt", "2026-11-22 01:39:21+0000"},
		{"orig", "from@b.example"},
		{"rcpt", "to@D.Example"},
		{"orcpt", "rfc822;old@d.example"},
		{"dsnAction", "failed"},
		{"dsnStatus", "5.1.1 (bad destination mailbox address)"},
		{"dsnDiag", "smtp;550 5.1.1 nobody"},
		{"dsnMta", "mx.d.example (192.0.2.1)"},
		{"bounceCat", "bad-mailbox"},
		{"srcType", "smtp"},
		{"srcMta", "client (10.0.0.1)"},
		{"dlvType", "smtp"},
		{"dlvSourceIp", "10.0.0.9"},
		{"dlvDestinationIp", "192.0.2.1"},
		{"dlvEsmtpAvailable", "SIZE"},
		{"dlvSize", "1234"},
		{"dlvTlsProtocol", "TLSv1.3"},
		{"dlvTlsCipher", "TLS_AES_256_GCM_SHA384"},
		{"vmta", "mta1"},
		{"vmtaPool", "pool1"},
		{"jobId", "news17"},
		{"envId", "e7"},
		{"queue", "d.example/mta1"},
		{"userString", "us"},
	};
	struct acct_record r = sample(ACCT_BOUNCED);

	setenv("TZ", "UTC", 1);
	tzset();
	r.time_first_attempt = 1795311561000;
	r.orcpt = slice_str("rfc822;old@d.example");
	r.text = slice_str("550 5.1.1 nobody");
	r.esmtp = slice_str("SIZE");
	r.tls_protocol = slice_str("TLSv1.3");
	r.tls_cipher = slice_str("TLS_AES_256_GCM_SHA384");
	r.pool = slice_str("pool1");
	r.job = slice_str("news17");
	r.envid = slice_str("e7");
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct acct_layout *l = layout(ACCT_IN_B, false, true);
		bool type = strcmp(cases[i].name, "type") == 0; /* in each line */
		struct buf line = BUF_INIT, want = BUF_INIT;
		char *error = NULL;

		cr_assert_eq(acct_layout_select(l, ACCT_BOUNCED, &cases[i].name, 1, &error), 0);
		cr_assert(acct_layout_line(l, &r, 1, &line));
		buf_addf(&want, type ? "%s\n" : "b,%s\n", cases[i].value);
		cr_expect_str_eq(buf_cstr(&line), buf_cstr(&want), "%s", cases[i].name);
		buf_done(&line);
		buf_done(&want);
		acct_layout_free(l);
	}
}

Test(acct_layout, takes_only_its_types)
{
	struct acct_layout *l = layout(ACCT_IN_D, false, true);
	struct acct_record r = sample(ACCT_BOUNCED);
	struct buf b = BUF_INIT;

	cr_assert_not(acct_layout_line(l, &r, 1, &b));
	cr_assert_eq(b.n, 0);
	acct_layout_free(l);
	buf_done(&b);
}

Test(acct_layout, selects_columns)
{
	static const struct {
		const char *names[4];
		size_t n;
		const char *header;
	} cases[] = {
		{{"time", "rcpt"}, 2, "type,timeLogged,rcpt\n"},
		{{"rcpt", "type", "RCPT", "domain"}, 4, "type,rcpt,domain\n"},
		{{"seq", "*", "!dsnDiag"}, 3, NULL},
		{{"status", "dsn-status", "size", "attempt"},
		 4,
		 "type,dsnAction,dsnStatus,dlvSize,attempt\n"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct acct_layout *l = layout(ACCT_IN_D, false, true);
		struct buf b = BUF_INIT;
		char *error = NULL;

		cr_assert_eq(
			acct_layout_select(l, ACCT_DELIVERED, cases[i].names, cases[i].n, &error),
			0);
		acct_layout_header(l, &b);
		if (cases[i].header)
			cr_expect_str_eq(buf_cstr(&b), cases[i].header);
		else
			cr_expect(slice_istarts(buf_slice(&b), "type,seq,timeLogged,") &&
				  !strstr(buf_cstr(&b), "dsnDiag"));
		buf_done(&b);
		acct_layout_free(l);
	}
}

Test(acct_layout, names_an_unknown_field)
{
	static const char *const names[] = {"rcpt", "recipent"};
	struct acct_layout *l = layout(ACCT_IN_D, false, true);
	char *error = NULL;

	cr_assert_eq(acct_layout_select(l, ACCT_DELIVERED, names, 2, &error), ERR_CONFIG);
	cr_assert_not_null(strstr(error, "recipent"));
	free(error);
	acct_layout_free(l);
}

Test(acct_layout, types_share_the_union_and_leave_foreign_columns_empty)
{
	static const char *const d[] = {"rcpt"}, *const tq[] = {"queue", "rcpt"};
	struct acct_layout *l = layout(ACCT_IN_D | ACCT_IN_TQ, false, false);
	struct acct_record r = sample(ACCT_DELIVERED), q = sample(ACCT_QUEUE);
	struct buf b = BUF_INIT;
	char *error = NULL;

	cr_assert_eq(acct_layout_select(l, ACCT_DELIVERED, d, 1, &error), 0);
	cr_assert_eq(acct_layout_select(l, ACCT_QUEUE, tq, 2, &error), 0);
	acct_layout_header(l, &b);
	acct_layout_line(l, &r, 1, &b);
	acct_layout_line(l, &q, 2, &b);
	cr_assert_str_eq(buf_cstr(&b), "type,rcpt,queue\nd,to@D.Example,\ntq,,d.example/mta1\n");
	buf_done(&b);
	acct_layout_free(l);
}

Test(acct_layout, times_are_seconds_when_wanted)
{
	static const char *const names[] = {"timeLogged", "totalSecondsQueued", "timeFirstAttempt"};
	struct acct_layout *l = layout(ACCT_IN_D, false, false);
	struct acct_record r = sample(ACCT_DELIVERED);
	struct buf b = BUF_INIT;
	char *error = NULL;

	cr_assert_eq(acct_layout_select(l, ACCT_DELIVERED, names, 3, &error), 0);
	acct_layout_line(l, &r, 1, &b);
	cr_assert_str_eq(buf_cstr(&b), "d,1795311565,5,\n");
	buf_done(&b);
	acct_layout_free(l);
}

/* --- nasty texts, read back by Python's csv (strict) and json --- */

static const char script[] =
	"import csv, json, sys\n"
	"want = [bytes.fromhex(l.strip()).decode('utf-8', 'strict') for l in open(sys.argv[3])]\n"
	"rows = list(csv.reader(open(sys.argv[1], newline='', encoding='utf-8', errors='strict'), "
	"strict=True))\n"
	"lines = open(sys.argv[2], newline='', encoding='utf-8').read().split('\\n')[:-1]\n"
	"assert rows[0] == ['type', 'orig', 'dsnDiag', 'seq'], rows[0]\n"
	"assert len(rows) - 1 == len(lines) == len(want), (len(rows), len(lines), len(want))\n"
	"for i, (row, line, text) in enumerate(zip(rows[1:], lines, want)):\n"
	"    o = json.loads(line)\n"
	"    assert row == ['d', text.replace('\\0', '\\ufffd'), 'smtp;' + text.replace('\\0', "
	"'\\ufffd'), str(i)], (i, row, text)\n"
	"    assert o == {'type': 'd', 'orig': text, 'dsnDiag': 'smtp;' + text, 'seq': i}, (i, "
	"o)\n";

static const char *const pieces[] = {"\"", "\"\"", ",",	   "\r\n", "\n",       "\r",
				     "\t", "a",	   " ",	   "\x01", "\x1b[31m", "\x7f",
				     "\\", "é",	   "日本", "😀",	   "\\u0000",  "550 5.1.1",
				     ";",  "'",	   "=1+1", "{",	   "}"};

static FILE *temp(char *path)
{
	int fd = mkstemp(path);

	cr_assert_geq(fd, 0);
	return fdopen(fd, "w");
}

static void put_hex(struct slice s, FILE *f)
{
	for (size_t i = 0; i < s.n; i++)
		fprintf(f, "%02x", (unsigned)(uint8_t)s.p[i]);
	fputc('\n', f);
}

static void nasty_text(struct buf *b, size_t i)
{
	buf_clear(b);
	for (size_t k = rng_below(12); i && k; k--) {
		size_t which = rng_below(ARRAY_SIZE(pieces) + 1);

		if (which == ARRAY_SIZE(pieces))
			buf_add_char(b, '\0');
		else
			buf_add_str(b, pieces[which]);
	}
	/* A text of our own keeps the reply in the form "smtp;…" also where it is empty. */
	if (!b->n)
		buf_add_str(b, "x");
}

Test(acct_layout, nasty_texts_come_back_from_independent_parsers)
{
	static const char *const names[] = {"orig", "dsnDiag", "seq"};
	char csv[] = "/tmp/acct-csv-XXXXXX", json[] = "/tmp/acct-json-XXXXXX",
	     hex[] = "/tmp/acct-hex-XXXXXX", py[] = "/tmp/acct-py-XXXXXX";
	FILE *fc = temp(csv), *fj = temp(json), *fh = temp(hex), *fp = temp(py);
	struct acct_layout *lc = layout(ACCT_IN_D, false, true),
			   *lj = layout(ACCT_IN_D, true, true);
	struct acct_record r = sample(ACCT_DELIVERED);
	struct buf text = BUF_INIT, b = BUF_INIT;
	char *error = NULL, *command;

	rng_seed(7);
	cr_assert_eq(acct_layout_select(lc, ACCT_DELIVERED, names, 3, &error), 0);
	cr_assert_eq(acct_layout_select(lj, ACCT_DELIVERED, names, 3, &error), 0);
	acct_layout_header(lc, &b);
	fwrite(b.p, 1, b.n, fc);
	for (size_t i = 0; i < 2000; i++) {
		nasty_text(&text, i);
		put_hex(buf_slice(&text), fh);
		r.orig = r.text = buf_slice(&text);
		buf_clear(&b);
		acct_layout_line(lc, &r, i, &b);
		fwrite(b.p, 1, b.n, fc);
		buf_clear(&b);
		acct_layout_line(lj, &r, i, &b);
		fwrite(b.p, 1, b.n, fj);
	}
	fputs(script, fp);
	fclose(fc), fclose(fj), fclose(fh), fclose(fp);
	command = xasprintf("python3 %s %s %s %s", py, csv, json, hex);
	cr_assert_eq(system(command), 0, "%s", command);
	free(command);
	unlink(csv), unlink(json), unlink(hex), unlink(py);
	buf_done(&text);
	buf_done(&b);
	acct_layout_free(lc);
	acct_layout_free(lj);
}

Test(acct_layout, broken_utf8_becomes_the_replacement_character)
{
	static const char *const names[] = {"orig"};
	static const struct {
		const char *in, *out;
	} cases[] = {
		{"a\xffz", "d,a\xef\xbf\xbdz\n"},
		{"\xc3", "d,\xef\xbf\xbd\n"},
		{"\xc0\xaf", "d,\xef\xbf\xbd\xef\xbf\xbd\n"},
		{"\xed\xa0\x80", "d,\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\n"},
		{"\xf4\x90\x80\x80", "d,\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\n"},
		{"\xe2\x82\xac", "d,\xe2\x82\xac\n"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct acct_layout *l = layout(ACCT_IN_D, false, true);
		struct acct_record r = sample(ACCT_DELIVERED);
		struct buf b = BUF_INIT;
		char *error = NULL;

		r.orig = slice_str(cases[i].in);
		cr_assert_eq(acct_layout_select(l, ACCT_DELIVERED, names, 1, &error), 0);
		acct_layout_line(l, &r, 1, &b);
		cr_expect_str_eq(buf_cstr(&b), cases[i].out);
		buf_done(&b);
		acct_layout_free(l);
	}
}

static void assert_cheap(const char *what, struct acct_record r)
{
	struct acct_layout *l = layout(ACCT_IN_ALL, false, true);
	struct buf b = BUF_INIT;
	clock_t start = clock();
	double took;

	for (size_t i = 0; i < 100000; i++) {
		if (b.n > 1000000)
			buf_clear(&b);
		r.time_logged += 3;
		acct_layout_line(l, &r, i, &b);
	}
	took = (double)(clock() - start) / CLOCKS_PER_SEC * 1e6;
	/* of CPU: typical is 1 to 2 µs, and 10 where all patterns of categories are tried */
	cr_assert_lt(took, 5000000, "%.0f µs for 100,000 records", took);
	fprintf(stderr, "layout: %.2f µs a record, %s\n", took / 1e5, what);
	buf_done(&b);
	acct_layout_free(l);
}

Test(acct_layout, costs_few_microseconds_a_record)
{
	struct acct_record r = sample(ACCT_DELIVERED);

	assert_cheap("delivered", r);
	r = sample(ACCT_BOUNCED);
	assert_cheap("bounced with a precise status", r);
	r.code = 554;
	memset(r.enhanced, 0, sizeof(r.enhanced));
	r.text = slice_str("554 a text that has none of the words that receivers use, so that each "
			   "pattern is tried before its code says what it may mean");
	assert_cheap("bounced, all patterns tried", r);
}
