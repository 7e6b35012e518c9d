/* links: common/base common/conf common/acct common/mail spooler/dsn_row.c spooler/dsn_build.c spooler/dsn_text.c */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "common/base/xalloc.h"
#include "spooler/dsn_build.h"
#include "spooler/dsn_text.h"
#include "tests/unit/conf_text.h"

#define HEADER "Received: from x\r\nMessage-ID: <orig@y.example>\r\nSubject: hello\r\n\r\n"

static struct dsn_recipient failed(void)
{
	struct dsn_recipient r = {.address = slice_str("bad@x.example"),
				  .action = DSN_FAILED,
				  .enhanced = {5, 1, 1},
				  .code = 550,
				  .text = slice_str("550 5.1.1 no such user"),
				  .mx_name = slice_str("mx.x.example"),
				  .last_attempt = 1795311565000};

	cr_assert(ip_parse(slice_str("192.0.2.1"), &r.mx_ip));
	return r;
}

static struct dsn_row row(const struct dsn_recipient *rcpts, uint32_t n)
{
	return (struct dsn_row){.msgid = 5,
				.sender = slice_str("s@y.example"),
				.received = 1795311560000,
				.vmta = slice_str("mta1"),
				.source_mta = slice_str("client.example (10.0.0.1)"),
				.original = slice_str(HEADER),
				.recipients = rcpts,
				.recipient_count = n};
}

static void build(const struct dsn_row *r, struct buf *out, uint32_t *ret_header,
		  uint32_t *ret_flags)
{
	struct conf *c = load_good("");
	struct dsn_build_options o = {.conf = c,
				      .host = "mail.y.example",
				      .from = "MAILER-DAEMON@mail.y.example",
				      .msgid = 77,
				      .random = {0x1122334455667788, 0x99aabbccddeeff00},
				      .now = 1795311570000};

	setenv("TZ", "UTC", 1);
	tzset();
	dsn_build(&o, r, out, ret_header, ret_flags);
	conf_free(c);
}

/* What the receiver sees: stuffed dots taken away. Lines are checked on the way. */
static void unstuff(struct slice s, struct buf *out)
{
	while (s.n) {
		const char *end = memmem(s.p, s.n, "\r\n", 2);
		struct slice line;

		cr_assert_not_null(end, "the text does not end with CRLF");
		line = slice_of(s.p, (size_t)(end - s.p));
		cr_assert_leq(line.n, 998);
		cr_assert_lt(slice_chr(line, '\n'), 0);
		cr_assert_lt(slice_chr(line, '\r'), 0);
		cr_assert(!line.n || line.p[0] != '.' || (line.n > 1 && line.p[1] == '.'),
			  "a line is not dot-stuffed");
		buf_add_slice(out, slice_from(line, line.n && line.p[0] == '.' ? 1 : 0));
		buf_add_str(out, "\r\n");
		s = slice_from(s, line.n + 2);
	}
}

/*
 * Runs `asserts` over the message as Python's email package reads it: m, person, status (list of
 * parts), original.
 */
static void parsed(const struct dsn_row *r, const char *asserts)
{
	static const char prelude[] =
		"import email, email.policy, email.utils, sys\n"
		"raw = open(sys.argv[1], 'rb').read()\n"
		"m = email.message_from_bytes(raw, policy=email.policy.default)\n"
		"for p in m.walk(): assert not p.defects, (p.get_content_type(), p.defects)\n"
		"assert m.get_content_type() == 'multipart/report'\n"
		"parts = list(m.iter_parts())\n"
		"assert len(parts) == 3, parts\n"
		"assert parts[1].get_content_subtype() == m.get_param('report-type')\n"
		"person = parts[0].get_content()\n"
		"if parts[1].get_content_type() == 'message/delivery-status':\n"
		"    status = parts[1].get_payload()\n"
		"else:\n"
		"    text = "
		"b''.join(raw.split(b'message/global-delivery-status')[1].split(b'\\r\\n\\r\\n', "
		"1)[1:]).split(b'\\r\\n--=_')[0]\n"
		"    status = [email.message_from_bytes(t, policy=email.policy.SMTPUTF8) for t in "
		"text.split(b'\\r\\n\\r\\n')]\n"
		"original = parts[2]\n"
		"assert m['Auto-Submitted'] == 'auto-replied' and m['MIME-Version'] == '1.0'\n"
		"assert email.utils.parsedate_to_datetime(m['Date']) and "
		"m['Message-ID'].endswith('@mail.y.example>')\n";
	char message[] = "/tmp/dsn-message-XXXXXX", script[] = "/tmp/dsn-script-XXXXXX";
	int fd = mkstemp(message), fds = mkstemp(script);
	struct buf wire = BUF_INIT, plain = BUF_INIT;
	uint32_t header, flags;
	FILE *f;
	char *command;

	cr_assert(fd >= 0 && fds >= 0);
	build(r, &wire, &header, &flags);
	cr_assert(memcmp(wire.p + header - 4, "\r\n\r\n", 4) == 0);
	cr_assert_not_null(memmem(wire.p, header, "\r\n\r\n", 4));
	cr_assert_eq((const char *)memmem(wire.p, wire.n, "\r\n\r\n", 4), wire.p + header - 4);
	cr_assert_eq(!(flags & SPOOL_MSG_8BITMIME), dsn_text_is_ascii(buf_slice(&wire)));
	cr_assert(flags & SPOOL_MSG_IS_DSN);
	unstuff(buf_slice(&wire), &plain);
	cr_assert_eq(write(fd, plain.p, plain.n), (ssize_t)plain.n);
	f = fdopen(fds, "w");
	fputs(prelude, f);
	fputs(asserts, f);
	fclose(f);
	close(fd);
	command = xasprintf("python3 %s %s", script, message);
	if (system(command) != 0)
		cr_assert_fail("%s\n%s", asserts, buf_cstr(&plain));
	free(command);
	unlink(message);
	unlink(script);
	buf_done(&wire);
	buf_done(&plain);
}

Test(dsn_build, a_failure_is_a_proper_report)
{
	struct dsn_recipient r = failed();
	struct dsn_row d = row(&r, 1);

	d.dsn_envid = slice_str("my+2Benv");
	r.orcpt = slice_str("rfc822;orig+40x.test");
	parsed(&d, "assert (m['To'].addresses[0].addr_spec, m['From'].addresses[0].addr_spec) == "
		   "('s@y.example', 'MAILER-DAEMON@mail.y.example'), (m['To'], m['From'])\n"
		   "assert m['In-Reply-To'] == '<orig@y.example>'\n"
		   "assert 'bad@x.example' in person and '550 5.1.1 no such user' in person and "
		   "'mx.x.example (192.0.2.1)' in person\n"
		   "assert 'check its spelling' in person\n"
		   "s, r = status\n"
		   "assert s['Reporting-MTA'] == 'dns; mail.y.example'\n"
		   "assert s['Original-Envelope-Id'] == 'my+env'\n"
		   "assert s['Received-From-MTA'] == 'dns; client.example (10.0.0.1)'\n"
		   "assert s['Arrival-Date'] == 'Sun, 22 Nov 2026 01:39:20 +0000'\n"
		   "assert r['Original-Recipient'] == 'rfc822;orig@x.test'\n"
		   "assert r['Final-Recipient'] == 'rfc822; bad@x.example'\n"
		   "assert r['Action'] == 'failed' and r['Status'] == '5.1.1'\n"
		   "assert r['Remote-MTA'] == 'dns; mx.x.example (192.0.2.1)'\n"
		   "assert r['Diagnostic-Code'] == 'smtp; 550 5.1.1 no such user'\n"
		   "assert r['Last-Attempt-Date'] == 'Sun, 22 Nov 2026 01:39:25 +0000'\n"
		   "assert original.get_content_type() == 'text/rfc822-headers'\n"
		   "assert 'Subject: hello' in original.get_content()\n");
}

Test(dsn_build, returns_the_whole_message_when_it_was_asked_for)
{
	struct dsn_recipient r = failed();
	struct dsn_row d = row(&r, 1);

	d.original = slice_str(HEADER "body\r\n..dots\r\n");
	d.full = true;
	parsed(&d, "assert original.get_content_type() == 'message/rfc822'\n"
		   "inner = original.get_content()\n"
		   "assert inner['Subject'] == 'hello'\n"
		   "assert inner.get_content().replace('\\r\\n', '\\n').strip() == 'body\\n.dots', "
		   "inner.get_content()\n");
	r.action = DSN_RELAYED;
	parsed(&d, "assert original.get_content_type() == 'text/rfc822-headers' and 'body' not in "
		   "original.get_content()\n"
		   "assert status[1]['Action'] == 'relayed'\n");
}

Test(dsn_build, names_all_recipients_and_each_outcome)
{
	struct dsn_recipient r[4] = {failed(), failed(), failed(), failed()};
	struct dsn_row d = row(r, 4);

	r[1].address = slice_str("late@x.example");
	r[1].action = DSN_DELAYED;
	r[1].will_retry_until = 1795398000000;
	r[2].address = slice_str("local@x.example");
	r[2].code = 0;
	r[2].enhanced[0] = 0;
	r[2].text = slice_str("local: no such domain");
	r[2].mx_name = slice_str("");
	r[2].mx_ip.family = IP_NONE;
	r[3].address = slice_str("done@x.example");
	r[3].action = DSN_RELAYED;
	r[3].text = slice_str("250 2.0.0 ok");
	r[3].code = 250;
	r[3].enhanced[0] = 0;
	parsed(&d,
	       "assert [p['Final-Recipient'] for p in status[1:]] == ['rfc822; ' + x + "
	       "'@x.example' for x in ('bad', 'late', 'local', 'done')]\n"
	       "assert [p['Action'] for p in status[1:]] == ['failed', 'delayed', 'failed', "
	       "'relayed']\n"
	       "assert status[2]['Will-Retry-Until'] == 'Mon, 23 Nov 2026 01:40:00 +0000'\n"
	       "assert status[3]['Status'] == '5.0.0' and status[3]['Remote-MTA'] is None\n"
	       "assert status[3]['Diagnostic-Code'] == 'x-sluice; no such domain'\n"
	       "assert status[4]['Status'] == '2.0.0'\n"
	       "assert person.index('local@') < person.index('late@') < person.index('done@')\n");
}

Test(dsn_build, hostile_replies_forge_nothing)
{
	struct dsn_recipient r = failed();
	struct dsn_row d = row(&r, 1);

	r.text = slice_str("550 bad\r\n\r\n--=_112233445566778899aabbccddeeff00\r\nAction: "
			   "delivered\x01\x1b[31m\xff\xc3\xa9 end");
	parsed(&d, "assert len(status) == 2 and status[1]['Action'] == 'failed'\n"
		   "assert status[1]['Diagnostic-Code'].endswith('end')\n"
		   "assert '\\u00e9' in person and '\\x1b' not in person\n");
}

Test(dsn_build, long_texts_stay_within_limits)
{
	struct dsn_recipient r = failed();
	struct dsn_row d = row(&r, 1);
	struct buf text = BUF_INIT, head = BUF_INIT;

	buf_add_str(&text, "550 ");
	for (size_t i = 0; i < 2000; i++)
		buf_add_char(&text, 'x');
	r.text = buf_slice(&text);
	buf_add_str(&head, "X-Long: ");
	for (size_t i = 0; i < 5000; i++)
		buf_add_char(&head, (char)('a' + i % 26));
	buf_add_str(&head, "\r\nSubject: behind\r\n\r\nbody\r\n");
	d.original = buf_slice(&head);
	d.full = true;
	parsed(&d, "assert original.get_content_type() == 'text/rfc822-headers'\n"
		   "assert 'Subject: behind' in original.get_content()\n"
		   "assert status[1]['Diagnostic-Code'].startswith('smtp; 550 xxx')\n");
	buf_clear(&text);
	buf_add_str(&text, "550");
	for (size_t i = 0; i < 100; i++)
		buf_addf(&text, " word%zu", i);
	r.text = buf_slice(&text);
	parsed(&d, "assert status[1]['Diagnostic-Code'] == 'smtp; 550 ' + ' '.join(f'word{i}' for "
		   "i in range(100))\n"
		   "assert max(len(l) for l in person.splitlines()) <= 80\n");
	buf_done(&text);
	buf_done(&head);
}

Test(dsn_build, a_header_cut_in_the_middle_ends_with_a_whole_line)
{
	struct dsn_recipient r = failed();
	struct dsn_row d = row(&r, 1);

	d.original = slice_str("Subject: whole\r\nX-Cut: ha");
	parsed(&d, "assert original.get_content().strip() == 'Subject: whole', "
		   "original.get_content()\n");
}

Test(dsn_build, mail_with_smtputf8_gets_a_global_report)
{
	struct dsn_recipient r = failed();
	struct dsn_row d = row(&r, 1);
	struct buf wire = BUF_INIT;
	uint32_t header, flags;

	r.address = slice_str("gr\xc3\xbc\xc3\x9f\x65@x.example");
	d.flags = SPOOL_MSG_SMTPUTF8;
	parsed(&d, "assert parts[1].get_content_type() == 'message/global-delivery-status'\n"
		   "assert original.get_content_type() == 'message/global-headers'\n"
		   "assert 'utf-8; gr\\u00fc\\u00dfe@x.example'.encode() in raw\n"
		   "assert status[1]['Action'] == 'failed'\n"
		   "assert 'gr\\u00fc\\u00dfe@x.example' in person\n");
	build(&d, &wire, &header, &flags);
	cr_assert_not(flags & SPOOL_MSG_SMTPUTF8);
	d.sender = slice_str("\xc3\xbc@y.example");
	buf_clear(&wire);
	build(&d, &wire, &header, &flags);
	cr_assert(flags & SPOOL_MSG_SMTPUTF8);
	buf_done(&wire);
	d = row(&r, 1);
	parsed(&d, "assert status[1]['Final-Recipient'] == 'utf-8; "
		   "gr\\\\x{FC}\\\\x{DF}e@x.example', status[1]['Final-Recipient']\n");
}
