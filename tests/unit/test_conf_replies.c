/* links: common/base common/conf */
#include "common/conf/replies.h"
#include "tests/unit/conf_text.h"

#define L "[smtp-listener 127.0.0.1:2525]\n[virtual-mta v]\n[virtual-mta-pool p]\nvirtual-mta = v\n"
#define LIST(lines) L "[smtp-pattern-list a]\n" lines "\n[domain *]\nsmtp-pattern-list = a\n"

/* --- what a line may say --- */

Test(replies, bad_lines_are_told_with_their_place)
{
	static const struct {
		const char *line, *want;
	} cases[] = {
		{"reply = /a(/ skip-mx",
		 "reply: /a(/ is not a regex: at offset 2: missing closing parenthesis"},
		{"reply = skip-mx", "reply: 'skip-mx' does not begin with a regex between slashes: "
				    "write /…/ ACTION"},
		{"reply = /abc skip-mx", "reply: '/abc skip-mx' does not begin with a regex "
					 "between slashes: write /…/ ACTION"},
		{"reply = // skip-mx",
		 "reply: an empty regex would match everything: write /./ if that is meant"},
		{"reply = /a/", "reply: no action behind the regex"},
		{"reply = /a/ skip-mx,, mode=backoff",
		 "reply: an action is missing before a comma"},
		{"reply = /a/ , skip-mx", "reply: an action is missing before a comma"},
		{"reply = /a/ mode=slow", "reply: mode=slow: write mode=normal or mode=backoff"},
		{"reply = /a/ mode=backoff mode=normal",
		 "reply: mode=backoff and mode=normal exclude each other"},
		{"reply = /a/ mode=normal,mode=normal", "reply: mode=normal stands there twice"},
		{"reply = /a/ skip-mx,bounce-queue",
		 "reply: skip-mx and bounce-queue exclude each other"},
		{"reply = /a/ defer-queue bounce-rcpt",
		 "reply: defer-queue and bounce-rcpt exclude each other"},
		{"reply = /a/ reenable-after=1h",
		 "reply: reenable-after without disable-source-ip"},
		{"reply = /a/ disable-source-ip,reenable-after=1h,reenable-after=2h",
		 "reply: reenable-after stands there twice"},
		{"reply = /a/ mode=normal backoff-to-normal-after=1h",
		 "reply: backoff-to-normal-after without mode=backoff"},
		{"reply = /a/ defer-queue=soon",
		 "reply: defer-queue=soon: write a time from 1s to 365d"},
		{"reply = /a/ disable-source-ip reenable-after=0",
		 "reply: reenable-after=0: write a time from 1s to 365d, or never"},
		{"reply = /a/ reroute=nowhere",
		 "reply: reroute: unknown virtual MTA or pool nowhere"},
		{"reply = /a/ reroute", "reply: reroute needs a value: reroute=…"},
		{"reply = /a/ skip-mx=1", "reply: skip-mx takes no value"},
		{"reply = /see http://x/ skip-mx",
		 "reply: '/x/' is not an action: mode, backoff-to-normal-after, skip-mx, "
		 "bounce-queue, bounce-rcpt, retry-rcpt, defer-queue, disable-source-ip, "
		 "reenable-after, reroute (a '/' inside the regex is written \\/)"},
		{"/a/ skip-mx",
		 "no keyword before the regex: write reply = /…/ ACTION or pattern = /…/ CATEGORY"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char *text = xasprintf(L "[smtp-pattern-list a]\n%s\n", cases[i].line), *messages;
		char *want = xasprintf("T:6: error: %s\n", cases[i].want);

		cr_expect_null(load_text(text, &messages), "%s", cases[i].line);
		cr_expect_str_eq(messages, want);
		free(messages);
		free(want);
		free(text);
	}
}

Test(replies, names_of_lists_must_exist)
{
	char *messages;

	cr_assert_null(load_text(L "[domain *]\nsmtp-pattern-list = a, b\n[smtp-pattern-list a]\n",
				 &messages));
	cr_assert_str_eq(messages, "T:6: error: smtp-pattern-list: unknown list 'b': there is no "
				   "[smtp-pattern-list b]\n");
	free(messages);
	cr_assert_null(load_text(L "[smtp-pattern-list a b]\n", &messages));
	cr_assert_not_null(strstr(messages, "'a b' is not a name of letters"));
	free(messages);
}

/* --- what they do --- */

static struct conf_reply_hits match(const struct conf *c, const char *subject, const char *raw)
{
	const struct conf_domain *d = conf_domain_for(c, slice_str("x.test"), slice_str("v"));
	struct conf_reply_hits h;

	conf_replies_match(&d->smtp_pattern_list, slice_str(subject), slice_str(raw), NULL, &h);
	return h;
}

static unsigned line_of(const struct conf_reply *r)
{
	return r ? r->at.line : 0;
}

static const char one_of_each[] = LIST(
	"reply = /first/ mode=backoff,backoff-to-normal-after=2h  # why\n"
	"reply = /every # thing/ defer-queue=10m, disable-source-ip, reenable-after=never ; why\n"
	"reply = /every/ mode=normal skip-mx reroute=P\n"
	"reply = /(?-i)CASE/ bounce-rcpt\n"
	"reply /power=mta \\/ \\\\/ mode=backoff,retry-rcpt\n"
	"reply = /^421-4\\.7\\.28 / bounce-queue\n"
	"reply = /^local: .*timed out/ skip-mx\n"
	"reply = /goes on\n"
	"  # a comment\n"
	"  here/\n"
	"  mode=backoff, # and\n"
	"  defer-queue");

Test(replies, the_first_line_of_each_kind_decides)
{
	struct conf *c = load_good(one_of_each);
	struct conf_reply_hits h = match(c, "450 first of every # thing", "");

	cr_expect_eq(line_of(h.mode), 6);
	cr_expect_eq(line_of(h.disposition), 7);
	cr_expect_eq(line_of(h.source), 7);
	cr_expect_eq(line_of(h.reroute), 8);
	cr_expect_eq(h.mode->mode, CONF_REPLY_BACKOFF);
	cr_expect_eq(h.mode->to_normal_after, 7200 * USEC_PER_SEC);
	cr_expect_eq(h.disposition->disposition, CONF_DEFER_QUEUE);
	cr_expect_eq(h.disposition->defer, 600 * USEC_PER_SEC);
	cr_expect_eq(h.source->reenable_after, USEC_INFINITY);
	cr_expect_str_eq(h.reroute->reroute, "p");
	cr_expect_str_eq(h.reroute->list, "a");
	cr_expect_str_eq(h.disposition->pattern, "every # thing");
	cr_expect_str_eq(h.disposition->actions,
			 "defer-queue=10m, disable-source-ip, reenable-after=never");
	h = match(c, "450 nothing of that", "");
	cr_expect(!h.mode && !h.disposition && !h.source && !h.reroute);
	conf_free(c);
}

Test(replies, subjects_are_the_joined_line_and_the_raw_first_one)
{
	struct conf *c = load_good(one_of_each);

	cr_expect_eq(line_of(match(c, "550 case", "550 case").disposition), 0);
	cr_expect_eq(line_of(match(c, "550 CASE", "550 CASE").disposition), 9);
	cr_expect_eq(line_of(match(c, "550 power=mta / \\", "").disposition), 10);
	cr_expect_eq(match(c, "550 power=mta / \\", "").disposition->disposition, CONF_RETRY_RCPT);
	cr_expect_eq(line_of(match(c, "421 4.7.28 a b", "421-4.7.28 a").disposition), 11);
	cr_expect_eq(line_of(match(c, "421 4.7.28 a b", "").disposition), 0);
	cr_expect_eq(line_of(match(c, "local: connection timed out", "").disposition), 12);
	cr_expect_eq(line_of(match(c, "451 it goes on here", "").disposition), 13);
	cr_expect_eq(line_of(match(c, "451 it goes on here", "").mode), 13);
	conf_free(c);
}

Test(replies, several_lists_are_tried_in_the_order_of_their_names)
{
	struct conf *c = load_good(L "[smtp-pattern-list a]\nreply = /x/ skip-mx\n"
				     "[smtp-pattern-list b]\nreply = /x/ defer-queue mode=backoff\n"
				     "[smtp-pattern-list A]\nreply = /y/ bounce-rcpt\n"
				     "[domain *]\nsmtp-pattern-list = b, a\n"
				     "[domain x.test/v]\nsmtp-pattern-list = a, b\n"
				     "[domain none.test]\nsmtp-pattern-list = \"\"\n");
	const struct conf_domain *d = conf_domain_for(c, slice_str("other.test"), slice_str("v"));
	struct conf_reply_hits h = match(c, "450 x", "");

	cr_expect_eq(h.disposition->disposition, CONF_SKIP_MX);
	cr_expect_eq(line_of(h.mode), 8);
	cr_expect_eq(match(c, "450 y", "").disposition->disposition, CONF_BOUNCE_RCPT);
	conf_replies_match(&d->smtp_pattern_list, slice_str("450 x"), slice_str(""), NULL, &h);
	cr_expect_eq(h.disposition->disposition, CONF_DEFER_QUEUE);
	d = conf_domain_for(c, slice_str("none.test"), slice_str("v"));
	cr_expect_eq(d->smtp_pattern_list.n, 0);
	cr_expect_eq(conf_pattern_list_count(c), 2);
	cr_expect_str_eq(conf_pattern_list_at(c, 1)->name, "b");
	conf_free(c);
}

Test(replies, what_is_granted_can_only_end_a_back_off)
{
	struct conf *c = load_good(LIST("reply = /ok/ mode=backoff, skip-mx\n"
					"reply = /ok/ mode=normal, bounce-queue\n"));
	const struct conf_domain *d = conf_domain_for(c, slice_str("x.test"), slice_str("v"));
	struct conf_reply_hits h;

	cr_assert(conf_replies_match_success(&d->smtp_pattern_list, slice_str("250 OK"),
					     slice_str(""), NULL, &h));
	cr_expect_eq(line_of(h.mode), 7);
	cr_expect_null(h.disposition);
	cr_expect_not(conf_replies_match_success(&d->smtp_pattern_list, slice_str("250 fine"),
						 slice_str(""), NULL, &h));
	conf_free(c);
}

static unsigned warned_line, warnings;

static void on_gave_up(const struct conf_reply *line)
{
	warned_line = line->at.line;
	warnings++;
}

Test(replies, a_regex_that_takes_too_long_is_warned_of_once_and_does_not_match)
{
	struct conf *c = load_good(LIST("reply = /^450 (a+)+$/ bounce-queue\n"
					"reply = /aaa/ defer-queue\n"));
	const struct conf_domain *d = conf_domain_for(c, slice_str("x.test"), slice_str("v"));
	struct conf_reply_hits h;
	char subject[400];

	memset(subject, 'a', sizeof(subject));
	memcpy(subject, "450 ", 4);
	subject[sizeof(subject) - 1] = '!';
	for (int i = 0; i < 3; i++) {
		conf_replies_match(&d->smtp_pattern_list, slice_of(subject, sizeof(subject)),
				   slice_str(""), on_gave_up, &h);
		cr_expect_eq(h.disposition->disposition, CONF_DEFER_QUEUE);
	}
	cr_expect_eq(warnings, 1);
	cr_expect_eq(warned_line, 6);
	conf_free(c);
}

Test(replies, the_merged_text_says_the_same)
{
	char *text = xasprintf("%s[source 0/0]\nalways-allow-relaying = yes\n", one_of_each);
	struct conf *c = load_good(text), *again;
	struct conf_messages m;

	free(text);
	again = conf_parse_merged(conf_merged(c), &m);
	cr_assert_not_null(again);
	cr_assert_eq(m.n, 0);
	for (int i = 0; i < 2; i++) {
		const struct conf *x = i ? again : c;

		cr_expect_eq(line_of(match(x, "450 every # thing", "").disposition), 7);
		cr_expect_eq(line_of(match(x, "550 power=mta / \\", "").mode), 10);
		cr_expect_eq(line_of(match(x, "451 it goes on here", "").mode), 13);
	}
	conf_messages_done(&m);
	conf_free(again);
	conf_free(c);
}

Test(replies, a_list_may_be_in_files_of_its_own)
{
	static const char part[] = "reply = /included/ skip-mx\n";
	char *path = text_file("part.conf", part, strlen(part));
	struct conf *c = load_good(LIST("reply = /before/ skip-mx\ninclude = part.conf\n"
					"reply = /after/ skip-mx\n"));

	cr_expect_not_null(match(c, "450 included", "").disposition);
	cr_expect_not_null(match(c, "450 after", "").disposition);
	conf_free(c);
	free(path);
}
