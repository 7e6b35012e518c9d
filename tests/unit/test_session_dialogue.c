/* links: common/base common/smtp common/mail common/conf/arena.c spooler/session.c spooler/session_accept.c spooler/session_body.c spooler/session_commands.c spooler/session_data.c spooler/session_dialogue.c spooler/session_envelope.c spooler/session_headers.c spooler/session_sync.c */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "common/base/err.h"
#include "tests/fuzz/fuzz_smtp_in.c"
#include "tests/fuzz/mutate.h"

#define HELLO "EHLO client.example\r\n"
#define ENVELOPE "MAIL FROM:<s@x.example>\r\nRCPT TO:<r@y.example>\r\n"
#define FOR_R "<s@x.example> to=r@y.example(y.example,{default},0,) job= envid= dsn=\n"

/*
 * Reply codes of a dialogue: the last line of each reply; "220" and the replies to EHLO included.
 */
static void codes(struct slice out, struct buf *ret)
{
	struct slice line;

	while (slice_next(&out, '\n', &line))
		if (line.n > 4 && line.p[3] == ' ')
			buf_addf(ret, "%s%.3s", ret->n ? " " : "", line.p);
}

struct talk {
	const char *label, *in;
	const char *codes;
	const char *says; /* somewhere in the replies; NULL: not looked at */
	const char *log; /* what the committer got */
};

static void talk(const struct talk *t, const struct conf *conf, size_t step)
{
	struct buf out = BUF_INIT, got = BUF_INIT;
	struct intake in;

	fake_intake(&in);
	session_feed(conf, &in, slice_str(t->in), step, &out);
	codes(buf_slice(&out), &got);
	cr_expect_str_eq(buf_cstr(&got), t->codes, "%s/%zu: %s\n%s", t->label, step, got.p,
			 buf_cstr(&out));
	if (t->says)
		cr_expect(strstr(buf_cstr(&out), t->says), "%s/%zu: %s", t->label, step, out.p);
	cr_expect_str_eq(buf_cstr(&in.log), t->log ? t->log : "", "%s/%zu: %s", t->label, step,
			 in.log.p);
	fake_intake_done(&in);
	buf_done(&out);
	buf_done(&got);
}

/* All at once (everything pipelined), byte by byte, and pieces between: the same result. */
static void talk_all(const struct talk *t, size_t n, const struct conf *conf)
{
	static const size_t steps[] = {0, 1, 2, 3, 7, 19};
	size_t i, k;

	for (i = 0; i < n; i++)
		for (k = 0; k < ARRAY_SIZE(steps); k++)
			talk(&t[i], conf, steps[k]);
}

static const struct talk order[] = {
	{"a message", HELLO ENVELOPE "DATA\r\nA: b\r\n\r\nbody\r\n.\r\nQUIT\r\n",
	 "220 250 250 250 354 250 221", "250 2.6.0 message received, id=4097", FOR_R},
	{"two messages", HELLO ENVELOPE "DATA\r\n.\r\n" ENVELOPE "DATA\r\nx\r\n.\r\nQUIT\r\n",
	 "220 250 250 250 354 250 250 250 354 250 221", NULL, FOR_R FOR_R},
	{"HELO", "HELO c\r\n" ENVELOPE "DATA\r\n.\r\n", "220 250 250 250 354 250", NULL, FOR_R},
	{"MAIL before EHLO", "MAIL FROM:<a@b.c>\r\n", "220 503", "send EHLO or HELO before MAIL",
	 NULL},
	{"RCPT before MAIL", HELLO "RCPT TO:<a@b.c>\r\n", "220 250 503", NULL, NULL},
	{"DATA before MAIL", HELLO "DATA\r\n", "220 250 503", NULL, NULL},
	{"DATA without recipients", HELLO "MAIL FROM:<>\r\nDATA\r\n", "220 250 250 554", NULL,
	 NULL},
	{"MAIL twice", HELLO "MAIL FROM:<>\r\nMAIL FROM:<>\r\n", "220 250 250 503", NULL, NULL},
	{"RSET", HELLO "MAIL FROM:<>\r\nRSET\r\nMAIL FROM:<>\r\n", "220 250 250 250 250", NULL,
	 NULL},
	{"EHLO resets", HELLO "MAIL FROM:<>\r\n" HELLO "MAIL FROM:<>\r\n", "220 250 250 250 250",
	 NULL, NULL},
	{"small commands", "NOOP\r\nNOOP x\r\nVRFY a\r\nHELP\r\nvrfy\r\nquit\r\n",
	 "220 250 250 252 214 501 221", NULL, NULL},
	{"not implemented", "EXPN x\r\nAUTH PLAIN\r\nSTARTTLS\r\n", "220 502 502 502", NULL, NULL},
	{"unknown", "FOO\r\n\r\nDATA\r\n", "220 500 500 503", NULL, NULL},
	{"argument where there is none", HELLO "DATA now\r\nQUIT now\r\n", "220 250 501 501", NULL,
	 NULL},
	{"EHLO without name", "EHLO\r\nEHLO a b\r\nEHLO a\tb\r\nHELO (x)\r\n",
	 "220 501 501 501 501", NULL, NULL},
	{"EHLO with a literal", "EHLO [192.0.2.1]\r\nEHLO [IPv6:::1]\r\n", "220 250 250", NULL,
	 NULL},
	{"a browser", "GET / HTTP/1.1\r\nMAIL FROM:<a@b.c>\r\n", "220 421", NULL, NULL},
	{"bare LF in a command", HELLO "NOOP\nNOOP\r\n", "220 250 500", "bare LF", NULL},
	{"bare CR in a command", HELLO "NOOP\rNOOP\r\nNOOP\r\n", "220 250 500", "bare CR", NULL},
	{"DATA with a bare LF hides nothing", HELLO ENVELOPE "DATA\nRSET\r\n" ENVELOPE,
	 "220 250 250 250 500", NULL, NULL},
	{"what follows QUIT", "QUIT\r\nNOOP\r\n", "220 221", NULL, NULL},
	{"cut in the middle", HELLO ENVELOPE "DATA\r\nhalf", "220 250 250 250 354", NULL, NULL},
	{"too many errors",
	 "A\r\nA\r\nA\r\nA\r\nA\r\nA\r\nA\r\nA\r\nA\r\nA\r\nA\r\nA\r\nA\r\nA\r\nA\r\nA\r\nA\r\nA\r"
	 "\n"
	 "A\r\nA\r\nNOOP\r\n",
	 "220 500 500 500 500 500 500 500 500 500 500 500 500 500 500 500 500 500 500 500 500 421",
	 "too many errors", NULL},
};

Test(session_dialogue, keeps_the_order_of_commands)
{
	struct conf conf = fake_conf();

	talk_all(order, ARRAY_SIZE(order), &conf);
}

#define MAIL HELLO "MAIL "
#define RCPT HELLO "MAIL FROM:<>\r\nRCPT "
static const struct talk envelope[] = {
	{"null sender", HELLO "MAIL FROM:<>\r\nRCPT TO:<r@y.example>\r\nDATA\r\n.\r\n",
	 "220 250 250 250 354 250", NULL,
	 "<> to=r@y.example(y.example,{default},0,) job= envid= dsn=\n"},
	{"spaces behind the colon", HELLO "MAIL FROM: <a@b.c>\r\nRCPT TO: <r@y.example>\r\n",
	 "220 250 250 250", NULL, NULL},
	{"domains become lower-case",
	 HELLO "mail from:<S@X.Example>\r\nrcpt to:<R@Y.Example>\r\nDATA\r\n.\r\n",
	 "220 250 250 250 354 250", NULL,
	 "<S@x.example> to=R@y.example(y.example,{default},0,) job= envid= dsn=\n"},
	{"source route, quotes, percent, literal",
	 HELLO "MAIL FROM:<@a.b,@c.d:s@x.example>\r\nRCPT TO:<\"a b\"@y.example>\r\n"
	       "RCPT TO:<u%h!k@y.example>\r\nRCPT TO:<a@[192.0.2.7]>\r\nDATA\r\n.\r\n",
	 "220 250 250 250 250 250 354 250", NULL,
	 "<s@x.example> to=\"a b\"@y.example(y.example,{default},0,)"
	 " to=u%h!k@y.example(y.example,{default},0,)"
	 " to=a@[192.0.2.7]([192.0.2.7],{default},0,) job= envid= dsn=\n"},
	{"addresses without a domain", HELLO "MAIL FROM:<root>\r\nRCPT TO:<joe>\r\nDATA\r\n.\r\n",
	 "220 250 250 250 354 250", NULL,
	 "<root@mta.example> to=joe@mta.example(mta.example,{default},0,) job= envid= dsn=\n"},
	{"no brackets", MAIL "FROM:a@b.c\r\n", "220 250 501", "5.1.7", NULL},
	{"no FROM", MAIL "<a@b.c>\r\n", "220 250 501", "5.5.4", NULL},
	{"trailing dot", MAIL "FROM:<a@b.c.>\r\n", "220 250 501", "5.1.7", NULL},
	{"empty recipient", RCPT "TO:<>\r\n", "220 250 250 501", "5.1.3", NULL},
	{"bad recipient", RCPT "TO:<a@b@c>\r\n", "220 250 250 501", "5.1.3", NULL},
	{"unknown parameter", MAIL "FROM:<> FOO=1\r\n", "220 250 555", "5.5.4", NULL},
	{"AUTH is not offered", MAIL "FROM:<> AUTH=<>\r\n", "220 250 555", NULL, NULL},
	{"unknown RCPT parameter", RCPT "TO:<a@b.c> SIZE=1\r\n", "220 250 250 555", NULL, NULL},
	{"glued parameter", MAIL "FROM:<>SIZE=1\r\n", "220 250 501", NULL, NULL},
	{"twice", MAIL "FROM:<> SIZE=1 size=2\r\n", "220 250 501", "given twice", NULL},
	{"SIZE", MAIL "FROM:<> SIZE=10\r\n", "220 250 250", NULL, NULL},
	{"bad SIZE", MAIL "FROM:<> SIZE=1x\r\n", "220 250 501", NULL, NULL},
	{"SIZE without value", MAIL "FROM:<> SIZE\r\n", "220 250 501", NULL, NULL},
	{"BODY", MAIL "FROM:<> BODY=8BITMIME\r\nRSET\r\nMAIL FROM:<> body=7bit\r\n",
	 "220 250 250 250 250", NULL, NULL},
	{"bad BODY", MAIL "FROM:<> BODY=BINARYMIME\r\n", "220 250 501", NULL, NULL},
	{"SMTPUTF8 takes no value", MAIL "FROM:<> SMTPUTF8=1\r\n", "220 250 501", NULL, NULL},
	{"UTF-8 address without SMTPUTF8", MAIL "FROM:<\xc3\xa9@b.c>\r\n", "220 250 553", "5.6.7",
	 NULL},
	{"UTF-8 recipient without SMTPUTF8", RCPT "TO:<\xc3\xa9@b.c>\r\n", "220 250 250 553",
	 "5.6.7", NULL},
	{"UTF-8",
	 MAIL "FROM:<\xc3\xa9@b.c> SMTPUTF8\r\nRCPT TO:<a@\xc3\xa9.example>\r\nDATA\r\n.\r\n",
	 "220 250 250 250 354 250", NULL,
	 "<\xc3\xa9@b.c> to=a@xn--9ca.example(xn--9ca.example,{default},0,) job= envid= "
	 "dsn=\n"},
	{"not UTF-8", MAIL "FROM:<\xff@b.c> SMTPUTF8\r\n", "220 250 501", NULL, NULL},
	{"DSN",
	 MAIL "FROM:<> RET=HDRS ENVID=a+20b\r\n"
	      "RCPT TO:<r@y.example> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;r@y.example\r\n"
	      "RCPT TO:<q@y.example> NOTIFY=NEVER\r\nDATA\r\n.\r\n",
	 "220 250 250 250 250 354 250", NULL,
	 "<> to=r@y.example(y.example,{default},10,rfc822;r@y.example)"
	 " to=q@y.example(y.example,{default},1,) job= envid=a b dsn=a+20b\n"},
	{"bad RET", MAIL "FROM:<> RET=ALL\r\n", "220 250 501", NULL, NULL},
	{"bad ENVID", MAIL "FROM:<> ENVID=a+0Ab\r\n", "220 250 501", NULL, NULL},
	{"bad NOTIFY", RCPT "TO:<a@b.c> NOTIFY=NEVER,DELAY\r\n", "220 250 250 501", NULL, NULL},
	{"bad ORCPT", RCPT "TO:<a@b.c> ORCPT=a@b.c\r\n", "220 250 250 501", NULL, NULL},
};

Test(session_dialogue, checks_the_envelope)
{
	struct conf conf = fake_conf();

	talk_all(envelope, ARRAY_SIZE(envelope), &conf);
}

#define SECOND \
	"MAIL FROM:<evil@x.example>\r\nRCPT TO:<victim@y.example>\r\nDATA\r\n\r\nevil\r\n.\r\n"
#define SMUGGLE(end) HELLO ENVELOPE "DATA\r\nA: b\r\n\r\nbody" end SECOND "QUIT\r\n"
static const struct talk smuggling[] = {
	{"LF . LF", SMUGGLE("\n.\n"), "220 250 250 250 354 550 221", "5.6.0", NULL},
	{"LF . CRLF", SMUGGLE("\n.\r\n"), "220 250 250 250 354 550 221", "bare LF", NULL},
	{"CRLF . LF", SMUGGLE("\r\n.\n"), "220 250 250 250 354 550 221", "bare LF", NULL},
	{"CRLF . CR", SMUGGLE("\r\n.\r"), "220 250 250 250 354 550 221", "bare CR", NULL},
	{"CR . CR", SMUGGLE("\r.\r"), "220 250 250 250 354 550 221", "bare CR", NULL},
	{"CR . CRLF", SMUGGLE("\r.\r\n"), "220 250 250 250 354 550 221", "bare CR", NULL},
	{"CR . LF", SMUGGLE("\r.\n"), "220 250 250 250 354 550 221", "bare CR", NULL},
	{"CRLF . CR CRLF", SMUGGLE("\r\n.\r\r\n"), "220 250 250 250 354 550 221", "bare CR", NULL},
	{"LF CR . LF CR", SMUGGLE("\n\r.\n\r"), "220 250 250 250 354 550 221", "bare LF", NULL},
	{"CRLF space . CRLF", SMUGGLE("\r\n .\r\n"), "220 250 250 250 354 250 221", NULL, FOR_R},
	{"CRLF .. CRLF", SMUGGLE("\r\n..\r\n"), "220 250 250 250 354 250 221", NULL, FOR_R},
	{"true end", SMUGGLE("\r\n.\r\n"), "220 250 250 250 354 250 250 250 354 250 221", NULL,
	 FOR_R "<evil@x.example> to=victim@y.example(y.example,{default},0,) job= envid= dsn=\n"},
	{"bare LF in BDAT", HELLO ENVELOPE "BDAT 4 LAST\r\na\nb\rNOOP\r\n",
	 "220 250 250 250 550 250", "bare LF", NULL},
};

Test(session_dialogue, lets_no_message_be_smuggled)
{
	struct conf conf = fake_conf();

	talk_all(smuggling, ARRAY_SIZE(smuggling), &conf);
}

static const struct talk chunking[] = {
	{"one chunk", HELLO ENVELOPE "BDAT 12 LAST\r\nA: b\r\n\r\nxy\r\nQUIT\r\n",
	 "220 250 250 250 250 221", NULL, FOR_R},
	{"three chunks", HELLO ENVELOPE "BDAT 3\r\nA: BDAT 5\r\nb\r\n\r\nBDAT 2 last\r\nxyQUIT\r\n",
	 "220 250 250 250 250 250 250 221", "3 octets received", FOR_R},
	{"empty last chunk", HELLO ENVELOPE "BDAT 3\r\nabcBDAT 0 LAST\r\nQUIT\r\n",
	 "220 250 250 250 250 250 221", NULL, FOR_R},
	{"nothing at all", HELLO ENVELOPE "BDAT 0 LAST\r\nQUIT\r\n", "220 250 250 250 250 221",
	 NULL, FOR_R},
	{"the end mark of DATA inside", HELLO ENVELOPE "BDAT 9 LAST\r\nx\r\n.\r\ny\r\nQUIT\r\n",
	 "220 250 250 250 250 221", NULL, FOR_R},
	{"commands inside", HELLO ENVELOPE "BDAT 6 LAST\r\nQUIT\r\nNOOP\r\n",
	 "220 250 250 250 250 250", NULL, FOR_R},
	{"without recipients", HELLO "MAIL FROM:<>\r\nBDAT 6 LAST\r\nQUIT\r\nNOOP\r\n",
	 "220 250 250 503 250", NULL, NULL},
	{"without MAIL", HELLO "BDAT 6\r\nQUIT\r\nNOOP\r\n", "220 250 503 250", NULL, NULL},
	{"DATA in between", HELLO ENVELOPE "BDAT 1\r\nxDATA\r\nBDAT 0 LAST\r\n",
	 "220 250 250 250 250 503 250", NULL, FOR_R},
	{"RCPT in between", HELLO ENVELOPE "BDAT 1\r\nxRCPT TO:<a@b.c>\r\nRSET\r\n",
	 "220 250 250 250 250 503 250", NULL, NULL},
	{"bad size", HELLO ENVELOPE "BDAT x LAST\r\nNOOP\r\n", "220 250 250 250 501", NULL, NULL},
	{"bad size outside of a transaction", HELLO "BDAT abc\r\nNOOP\r\n", "220 250 501", NULL,
	 NULL},
	{"bad word", HELLO ENVELOPE "BDAT 1 FIRST\r\nNOOP\r\n", "220 250 250 250 501", NULL, NULL},
	{"CR at the very end", HELLO ENVELOPE "BDAT 2 LAST\r\na\rNOOP\r\n",
	 "220 250 250 250 550 250", NULL, NULL},
};

Test(session_dialogue, takes_chunks)
{
	struct conf conf = fake_conf();

	talk_all(chunking, ARRAY_SIZE(chunking), &conf);
}

static const struct talk relaying[] = {
	{"refused", HELLO "MAIL FROM:<>\r\nRCPT TO:<a@b.c>\r\nDATA\r\n", "220 250 250 550 554",
	 "5.7.1", NULL},
	{"relay-domain", HELLO "MAIL FROM:<>\r\nRCPT TO:<a@Relay.Example>\r\n", "220 250 250 250",
	 NULL, NULL},
	{"percent is no way around", HELLO "MAIL FROM:<>\r\nRCPT TO:<a%relay.example@b.c>\r\n",
	 "220 250 250 550", NULL, NULL},
	{"nor a source route", HELLO "MAIL FROM:<>\r\nRCPT TO:<@relay.example:a@b.c>\r\n",
	 "220 250 250 550", NULL, NULL},
	{"postmaster", HELLO "MAIL FROM:<>\r\nRCPT TO:<Postmaster>\r\nDATA\r\n.\r\n",
	 "220 250 250 250 354 250", NULL,
	 "<> to=admin@corp.example(corp.example,{default},0,) job= envid= dsn=\n"},
	{"abuse", HELLO "MAIL FROM:<>\r\nRCPT TO:<abuse@mta.example>\r\nDATA\r\n.\r\n",
	 "220 250 250 250 354 250", NULL,
	 "<> to=admin@corp.example(corp.example,{default},0,) job= envid= dsn=\n"},
	{"somebody here", HELLO "MAIL FROM:<>\r\nRCPT TO:<joe>\r\n", "220 250 250 550", NULL, NULL},
};

Test(session_dialogue, relays_only_where_it_may)
{
	static const char *const admin[] = {"admin@corp.example"};
	struct conf conf = fake_conf();

	log_set_level(LOG_LEVEL_WARN);
	conf.source.always_allow_relaying = false;
	conf.global.postmaster = (struct conf_strings){admin, 1};
	talk_all(relaying, ARRAY_SIZE(relaying), &conf);
}

static const struct talk limits[] = {
	{"SIZE", HELLO "MAIL FROM:<> SIZE=101\r\n", "220 250 552", "5.3.4", NULL},
	{"larger than it said",
	 HELLO ENVELOPE
	 "DATA\r\n0123456789012345678901234567890123456789012345678901234567890123456789\r\n"
	 "0123456789012345678901234567890123456789\r\n.\r\nNOOP\r\n",
	 "220 250 250 250 354 552 250", "5.3.4", NULL},
	{"recipients", HELLO ENVELOPE "RCPT TO:<b@y.example>\r\nRCPT TO:<c@y.example>\r\n",
	 "220 250 250 250 250 452", "4.5.3", NULL},
	{"hops",
	 HELLO ENVELOPE
	 "DATA\r\nReceived: a\r\nReceived: b\r\n c\r\nreceived: d\r\n\r\n.\r\nNOOP\r\n",
	 "220 250 250 250 354 554 250", "5.4.6", NULL},
	{"enough hops", HELLO ENVELOPE "DATA\r\nReceived: a\r\nReceived: b\r\n c\r\n\r\n.\r\n",
	 "220 250 250 250 354 250", NULL, FOR_R},
	{"no SMTPUTF8", HELLO "MAIL FROM:<> SMTPUTF8\r\n", "220 250 555", NULL, NULL},
	{"no CHUNKING", HELLO ENVELOPE "BDAT 2 LAST\r\nabNOOP\r\n", "220 250 250 250 503 250", NULL,
	 NULL},
	{"no UTF-8 address", HELLO "MAIL FROM:<\xc3\xa9@b.c>\r\n", "220 250 501", NULL, NULL},
};

Test(session_dialogue, holds_limits)
{
	struct conf conf = fake_conf();

	conf.source.max_message_size = 100;
	conf.source.max_message_hops = 2;
	conf.source.max_rcpt_per_message = 2;
	conf.source.allow_smtputf8 = conf.source.allow_chunking = false;
	talk_all(limits, ARRAY_SIZE(limits), &conf);
}

static const struct talk routes[] = {
	{"virtual MTA",
	 HELLO ENVELOPE "DATA\r\nX-Virtual-MTA: mta1\r\nX-Job: J 1\r\nX-Envid: e\r\n\r\n.\r\n",
	 "220 250 250 250 354 250", NULL,
	 "<s@x.example> to=r@y.example(y.example,mta1,0,) job=J 1 envid=e dsn=\n"},
	{"pool", HELLO ENVELOPE "DATA\r\nx-virtual-mta:\r\n pool1 \r\n\r\n.\r\n",
	 "220 250 250 250 354 250", NULL,
	 "<s@x.example> to=r@y.example(y.example,pool1,0,) job= envid= dsn=\n"},
	{"unknown", HELLO ENVELOPE "DATA\r\nX-Virtual-MTA: nix\r\n\r\n.\r\nNOOP\r\n",
	 "220 250 250 250 354 550 250", "names \"nix\"", NULL},
	{"empty", HELLO ENVELOPE "DATA\r\nX-Virtual-MTA:\r\n\r\n.\r\n", "220 250 250 250 354 550",
	 NULL, NULL},
	{"first one counts",
	 HELLO ENVELOPE "DATA\r\nX-Virtual-MTA: mta1\r\nX-Virtual-MTA: nix\r\n\r\n.\r\n",
	 "220 250 250 250 354 250", NULL,
	 "<s@x.example> to=r@y.example(y.example,mta1,0,) job= envid= dsn=\n"},
	{"none", HELLO ENVELOPE "DATA\r\n\r\n.\r\n", "220 250 250 250 354 250", NULL,
	 "<s@x.example> to=r@y.example(y.example,pool1,0,) job= envid= dsn=\n"},
	{"not in the body", HELLO ENVELOPE "DATA\r\nA: b\r\n\r\nX-Virtual-MTA: nix\r\n.\r\n",
	 "220 250 250 250 354 250", NULL,
	 "<s@x.example> to=r@y.example(y.example,pool1,0,) job= envid= dsn=\n"},
};

Test(session_dialogue, chooses_the_route)
{
	struct conf conf = fake_conf();

	conf.source.process_x_virtual_mta = conf.source.process_x_job = true;
	conf.source.process_x_envid = true;
	conf.source.default_virtual_mta = "pool1";
	talk_all(routes, ARRAY_SIZE(routes), &conf);
}

struct message_case {
	const char *label, *data; /* behind DATA, without the end mark */
	void (*set)(struct conf_source *src);
	const char *body; /* what is kept; @R stands for the Received header up to its date */
	uint32_t header; /* its size without Received; 0: not looked at */
};

static void set_nothing(struct conf_source *src)
{
	src->add_received_header = false;
}
static void set_remove(struct conf_source *src)
{
	static const char *const names[] = {"X-Secret", "Bcc"};

	set_nothing(src);
	src->remove_header = (struct conf_strings){names, 2};
	src->remove_received_headers = true;
}
static void set_process(struct conf_source *src)
{
	set_nothing(src);
	src->process_x_virtual_mta = src->process_x_job = true;
	src->retain_x_job = true;
}

static const struct message_case messages[] = {
	{"untouched", "A: b\r\nX-Job: 7\r\n\r\nbody\r\n..dot\r\n", set_nothing,
	 "A: b\r\nX-Job: 7\r\n\r\nbody\r\n..dot\r\n", 18},
	{"no header", "\r\nbody\r\n", set_nothing, "\r\nbody\r\n", 2},
	{"nothing", "", set_nothing, "\r\n", 2},
	{"only header", "A: b\r\n", set_nothing, "A: b\r\n\r\n", 8},
	{"no separation", "A: b\r\nbody text\r\n", set_nothing, "A: b\r\n\r\nbody text\r\n", 8},
	{"only text", "body text\r\n", set_nothing, "\r\nbody text\r\n", 2},
	{"removed", "Received: x\r\n y\r\nA: b\r\nBCC: u\r\n\tv\r\nx-secret: s\r\nC: d\r\n\r\n",
	 set_remove, "A: b\r\nC: d\r\n\r\n", 14},
	{"processed", "X-Virtual-MTA: mta1\r\nX-Job: 7\r\nA: b\r\n\r\n", set_process,
	 "X-Job: 7\r\nA: b\r\n\r\n", 18},
	{"folds and 8 bit stay", "S: \xff\r\n \t x\r\n\r\n\x80\r\n", set_nothing,
	 "S: \xff\r\n \t x\r\n\r\n\x80\r\n", 14},
};

Test(session_dialogue, keeps_what_it_should_of_a_message)
{
	size_t i, step;

	for (i = 0; i < ARRAY_SIZE(messages); i++)
		for (step = 0; step < 6; step++) {
			struct conf conf = fake_conf();
			struct buf in = BUF_INIT, out = BUF_INIT;
			struct intake intake;

			messages[i].set(&conf.source);
			fake_intake(&intake);
			buf_addf(&in, "%sDATA\r\n%s.\r\n", HELLO ENVELOPE, messages[i].data);
			session_feed(&conf, &intake, buf_slice(&in), step, &out);
			cr_expect(intake.count == 1, "%s: %s", messages[i].label, buf_cstr(&out));
			cr_expect(slice_eq_str(buf_slice(&intake.body), messages[i].body),
				  "%s/%zu: \"%s\"", messages[i].label, step,
				  buf_cstr(&intake.body));
			cr_expect(intake.header_size == messages[i].header, "%s: %u",
				  messages[i].label, intake.header_size);
			fake_intake_done(&intake);
			buf_done(&in);
			buf_done(&out);
		}
}

/* One message through a configuration; its stored form must hold `has` and not `lacks`. */
static void check_stored(const struct conf *conf, const char *data, const char *has,
			 const char *lacks)
{
	struct buf in = BUF_INIT, out = BUF_INIT;
	struct intake intake;

	fake_intake(&intake);
	buf_addf(&in, "%sDATA\r\n%s.\r\n", HELLO ENVELOPE, data);
	session_feed(conf, &intake, buf_slice(&in), 0, &out);
	cr_expect(intake.count == 1);
	cr_expect(strstr(buf_cstr(&intake.body), has), "no \"%s\": %s", has, intake.body.p);
	if (lacks)
		cr_expect(!strstr(intake.body.p, lacks), "\"%s\": %s", lacks, intake.body.p);
	fake_intake_done(&intake);
	buf_done(&in);
	buf_done(&out);
}

Test(session_dialogue, adds_headers)
{
	struct conf conf = fake_conf();

	check_stored(&conf, "A: b\r\n\r\n",
		     "Received: from client.example ([192.0.2.1])\r\n"
		     "\tby mta.example (Sluice) with ESMTP id 4097\r\n\tfor <r@y.example>;\r\n\t",
		     "Message-ID");
	conf.source.hide_message_source = true;
	check_stored(&conf, "A: b\r\n\r\n",
		     "Received: by mta.example (Sluice) with ESMTP id 4097\r\n", "client.example");
	conf.source.add_date_header = CONF_DATE_YES;
	conf.source.add_message_id_header = true;
	check_stored(&conf, "A: b\r\n\r\nbody\r\n", "A: b\r\nDate: Thu, 01 Jan 1970", NULL);
	check_stored(&conf, "A: b\r\n\r\nbody\r\n", "\r\nMessage-ID: <1001.", NULL);
	check_stored(&conf, "date: mine\r\nmessage-id: <m>\r\n\r\n",
		     "date: mine\r\nmessage-id: <m>\r\n\r\n", "Date:");
	conf.source.add_date_header = CONF_DATE_OVERRIDE;
	check_stored(&conf, "date: mine\r\nA: b\r\n\r\n", "A: b\r\nDate: Thu, 01 Jan 1970", "mine");
	check_stored(&conf, "text only\r\n", "@mta.example>\r\n\r\ntext only\r\n", NULL);
}

Test(session_dialogue, stuffs_the_dots_of_chunks)
{
	struct conf conf = fake_conf();
	struct buf out = BUF_INIT;
	struct intake in;
	size_t step;

	conf.source.add_received_header = false;
	for (step = 0; step < 8; step++) {
		fake_intake(&in);
		session_feed(&conf, &in,
			     slice_str(HELLO ENVELOPE "BDAT 8\r\nA: b\r\n\r\nBDAT 4\r\n.x\r\n"
						      "BDAT 4 LAST\r\n.\r\n."),
			     step, &out);
		cr_expect_str_eq(buf_cstr(&in.body), "A: b\r\n\r\n..x\r\n..\r\n..\r\n");
		fake_intake_done(&in);
	}
	buf_done(&out);
}

Test(session_dialogue, says_what_the_committer_says)
{
	static const struct {
		int result;
		const char *reply;
	} cases[] = {
		{0, "250 2.6.0"},
		{ERR_DISK_FULL, "452 4.3.1"},
		{ERR_MAP_FULL, "452 4.3.1"},
		{ERR_NOT_FOUND, "451 4.3.5"},
		{ERR_IO, "452 4.3.1"},
	};
	struct conf conf = fake_conf();
	size_t i;

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		struct buf out = BUF_INIT;
		struct intake in;

		fake_intake(&in);
		in.result = cases[i].result;
		session_feed(&conf, &in, slice_str(HELLO ENVELOPE "DATA\r\n.\r\n"), 0, &out);
		cr_expect(strstr(buf_cstr(&out), cases[i].reply), "%s", out.p);
		cr_expect(in.count == (cases[i].result == 0));
		fake_intake_done(&in);
		buf_done(&out);
	}
}

Test(session_dialogue, refuses_mail_without_room)
{
	struct conf conf = fake_conf();
	struct buf out = BUF_INIT;
	struct intake in;

	fake_intake(&in);
	in.no_room = "disk: 1 MB left";
	session_feed(&conf, &in, slice_str(HELLO ENVELOPE), 0, &out);
	cr_expect(strstr(buf_cstr(&out), "452 4.3.1 no room for mail now (disk: 1 MB left)"), "%s",
		  out.p);
	buf_clear(&out);
	in.no_room = NULL;
	in.budget = 500;
	session_feed(&conf, &in, slice_str(HELLO ENVELOPE "DATA\r\nx\r\n.\r\nNOOP\r\n"), 0, &out);
	cr_expect(strstr(buf_cstr(&out), "452 4.3.1 too many messages are being received"), "%s",
		  out.p);
	cr_expect(in.count == 0);
	fake_intake_done(&in);
	buf_done(&out);
}

static void feed_lines(struct buf *b, size_t octets, const char *line)
{
	while (octets > 0) {
		size_t n = strlen(line);

		buf_add_str(b, line);
		octets = octets > n ? octets - n : 0;
	}
}

Test(session_dialogue, bounds_header_and_lines)
{
	struct conf conf = fake_conf();
	struct buf in = BUF_INIT, out = BUF_INIT;
	struct intake intake;

	fake_intake(&intake);
	buf_add_str(&in, HELLO ENVELOPE "DATA\r\n");
	feed_lines(&in, 300 * 1024, "A: 012345678901234567890123456789\r\n");
	buf_add_str(&in, "\r\n.\r\n" ENVELOPE "DATA\r\n");
	feed_lines(&in, 999, "x");
	buf_add_str(&in, "\r\n.\r\nNOOP ");
	feed_lines(&in, 5000, "x");
	buf_add_str(&in, "\r\nQUIT\r\n");
	session_feed(&conf, &intake, buf_slice(&in), 4000, &out);
	cr_expect(strstr(buf_cstr(&out), "554 5.6.0 the header block is larger"), "%s", out.p);
	cr_expect(strstr(out.p, "554 5.6.0 line 1 of the message is longer than 998"), "%s", out.p);
	cr_expect(strstr(out.p, "500 5.5.2 the command line is longer than 4096"), "%s", out.p);
	cr_expect(strstr(out.p, "221 "), "%s", out.p);
	cr_expect(intake.count == 0);
	fake_intake_done(&intake);
	buf_done(&in);
	buf_done(&out);
}

/* ---- a short run of the fuzzer: mutations of real dialogues, the same each time ---- */

static const char *const words[] = {"\r\n",	 "\n",
				    "\r",	 ".",
				    "\r\n.\r\n", "BDAT 5 LAST\r\n",
				    "DATA\r\n",	 "RSET\r\n",
				    ENVELOPE,	 "<",
				    ">",	 "\"",
				    "\\",	 ":",
				    " ",	 "=",
				    "+",	 "[IPv6:",
				    "\xff",	 "\xc3\xa9",
				    "SMTPUTF8",	 "99999999999999999999"};

/* A message with two faults is refused for the one that was seen first: 5xx is all that counts. */
static void coarse(struct buf *replies)
{
	struct slice rest = slice_str(buf_cstr(replies)), line;
	struct buf b = BUF_INIT;

	while (slice_next(&rest, '\n', &line))
		buf_add_slice(&b, line.n && line.p[0] == '5' ? slice_str("5") : line);
	buf_done(replies);
	*replies = b;
}

/* Whatever comes, the pieces that it comes in make no difference. */
static void fuzz_once(struct slice data, size_t step)
{
	struct conf conf = fuzz_conf();
	struct buf whole = BUF_INIT, pieces = BUF_INIT;
	struct intake a, b;

	conf.source.add_message_id_header = false;
	fake_intake(&a);
	fake_intake(&b);
	session_feed(&conf, &a, data, 0, &whole);
	session_feed(&conf, &b, data, step, &pieces);
	coarse(&whole);
	coarse(&pieces);
	cr_expect(slice_eq(buf_slice(&whole), buf_slice(&pieces)),
		  "step %zu, input:\n%.*s\n---\n%s\n---\n%s", step, SLICE_ARG(data),
		  buf_cstr(&whole), buf_cstr(&pieces));
	cr_expect(slice_eq(buf_slice(&a.log), buf_slice(&b.log)));
	cr_expect(slice_eq(buf_slice(&a.body), buf_slice(&b.body)));
	fake_intake_done(&a);
	fake_intake_done(&b);
	buf_done(&whole);
	buf_done(&pieces);
}

Test(session_dialogue, survives_mutated_dialogues, .timeout = 60)
{
	static const struct {
		const struct talk *v;
		size_t n;
	} sets[] = {
		{order, ARRAY_SIZE(order)},	    {envelope, ARRAY_SIZE(envelope)},
		{smuggling, ARRAY_SIZE(smuggling)}, {chunking, ARRAY_SIZE(chunking)},
		{routes, ARRAY_SIZE(routes)},
	};
	uint64_t rnd = 0x5106ce;
	int i;

	for (i = 0; i < 4000; i++) {
		size_t set = mutate_random(&rnd) % ARRAY_SIZE(sets);
		const struct talk *t = &sets[set].v[mutate_random(&rnd) % sets[set].n];
		struct buf b = BUF_INIT;

		buf_add_str(&b, t->in);
		mutate(&b, &rnd, words, ARRAY_SIZE(words));
		fuzz_once(buf_slice(&b), 1 + mutate_random(&rnd) % 9);
		buf_done(&b);
	}
}
