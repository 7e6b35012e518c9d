/* links: common/base common/smtp worker/outcome.c */
#include <criterion/criterion.h>
#include <string.h>

#include "common/conf/conf.h"
#include "common/smtp/reply.h"
#include "worker/outcome.h"

static struct outcome judge(enum outcome_phase phase, const char *wire, bool bounce_5xx_greeting)
{
	struct conf_domain set = {.bounce_upon_5xx_greeting = bounce_5xx_greeting};
	struct outcome o;
	struct reply r;
	size_t used;

	reply_init(&r);
	cr_assert_eq(reply_parse(&r, slice_str(wire), &used), 1, "%s", wire);
	outcome_from_reply(&o, phase, &r, &set);
	reply_done(&r);
	return o;
}

Test(outcome, a_reply_reaches_as_far_as_its_phase_says)
{
	static const struct {
		enum outcome_phase phase;
		const char *wire;
		enum outcome_class class;
		enum outcome_scope scope;
	} cases[] = {
		{PHASE_GREETING, "554 no service\r\n", OUTCOME_BOUNCED, SCOPE_SITE},
		{PHASE_GREETING, "421 too many\r\n", OUTCOME_TRANSIENT, SCOPE_SITE},
		{PHASE_EHLO, "550 go away\r\n", OUTCOME_TRANSIENT, SCOPE_SITE},
		{PHASE_STARTTLS, "454 not now\r\n", OUTCOME_TRANSIENT, SCOPE_SITE},
		{PHASE_MAIL, "550 bad sender\r\n", OUTCOME_BOUNCED, SCOPE_MESSAGE},
		{PHASE_MAIL, "451 later\r\n", OUTCOME_TRANSIENT, SCOPE_MESSAGE},
		{PHASE_MAIL, "421 closing\r\n", OUTCOME_TRANSIENT, SCOPE_CONNECTION},
		{PHASE_RCPT, "250 fine\r\n", OUTCOME_DELIVERED, SCOPE_RECIPIENT},
		{PHASE_RCPT, "550 5.1.1 who\r\n", OUTCOME_BOUNCED, SCOPE_RECIPIENT},
		{PHASE_RCPT, "450 4.2.1 full\r\n", OUTCOME_TRANSIENT, SCOPE_RECIPIENT},
		{PHASE_RCPT, "421 closing\r\n", OUTCOME_TRANSIENT, SCOPE_CONNECTION},
		{PHASE_DATA, "554 no valid recipients\r\n", OUTCOME_BOUNCED, SCOPE_MESSAGE},
		{PHASE_DATA, "250 what\r\n", OUTCOME_TRANSIENT, SCOPE_MESSAGE},
		{PHASE_DOT, "250 ok\r\n", OUTCOME_DELIVERED, SCOPE_MESSAGE},
		{PHASE_DOT, "354 go on\r\n", OUTCOME_TRANSIENT, SCOPE_MESSAGE},
		{PHASE_DOT, "554 5.7.1 spam\r\n", OUTCOME_BOUNCED, SCOPE_MESSAGE},
		{PHASE_DOT, "421 busy\r\n", OUTCOME_TRANSIENT, SCOPE_MESSAGE},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct outcome o = judge(cases[i].phase, cases[i].wire, true);

		cr_expect_eq(o.class, cases[i].class, "%s", cases[i].wire);
		cr_expect_eq(o.scope, cases[i].scope, "%s", cases[i].wire);
	}
}

Test(outcome, a_refusing_greeting_bounces_only_where_told)
{
	cr_assert_eq(judge(PHASE_GREETING, "554 no\r\n", false).class, OUTCOME_TRANSIENT);
}

Test(outcome, a_reply_keeps_code_status_and_text)
{
	struct outcome o = judge(PHASE_RCPT, "550-5.1.1 no such\r\n550 5.1.1 user\r\n", true);

	cr_assert_eq(o.code, 550);
	cr_assert_eq(memcmp(o.enhanced, "\5\1\1", 3), 0);
	cr_assert_str_eq(o.text, "550 5.1.1 no such user");
}

Test(outcome, a_lost_connection_speaks_against_what_was_under_way)
{
	static const struct {
		enum outcome_phase phase;
		enum outcome_scope scope;
		const char *text;
	} cases[] = {
		{PHASE_CONNECT, SCOPE_SITE, "local: gone"},
		{PHASE_GREETING, SCOPE_SITE, "local: gone while waiting for the greeting"},
		{PHASE_RCPT, SCOPE_CONNECTION,
		 "local: gone while waiting for the reply to RCPT TO"},
		{PHASE_BODY, SCOPE_MESSAGE, "local: gone while sending the message"},
		{PHASE_DOT, SCOPE_MESSAGE,
		 "local: gone after the final dot, may have been delivered"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct outcome o;

		outcome_from_loss(&o, cases[i].phase, "gone");
		cr_expect_eq(o.class, OUTCOME_TRANSIENT);
		cr_expect_eq(o.scope, cases[i].scope);
		cr_expect_eq(o.code, 0);
		cr_expect_str_eq(o.text, cases[i].text);
	}
}

Test(outcome, our_own_texts_begin_with_local_and_are_cut)
{
	char longer[2 * REPORT_TEXT_MAX];
	struct outcome o;

	memset(longer, 'x', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = '\0';
	outcome_local(&o, LOCAL_NULL_MX, "%s", longer);
	cr_assert_eq(strncmp(o.text, "local: xxx", 10), 0);
	cr_assert_eq(strlen(o.text), REPORT_TEXT_MAX);
	cr_assert_eq(o.class, OUTCOME_BOUNCED);
	cr_assert_eq(memcmp(o.enhanced, "\5\1\12", 3), 0);
}
