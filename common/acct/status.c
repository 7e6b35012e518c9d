#include "common/acct/status.h"

#include <stdbool.h>
#include <stdlib.h>

#include "common/base/macros.h"

/*
 * One row for each subject and detail. A vague row is a code that receivers give for many reasons:
 * there the words of the reply say more than the code.
 */
struct status_row {
	uint8_t subject, detail;
	bool vague;
	enum acct_category category;
	const char *text;
};

/* clang-format off */
#define PRECISE false
#define VAGUE true
#define ROW(subject, detail, vague, category, text) {subject, detail, vague, ACCT_CATEGORY_##category, text}

static const struct status_row rows[] = { /* sorted by subject and detail */
	ROW(0, 0, VAGUE, OTHER, "undefined status"),
	ROW(1, 0, VAGUE, BAD_MAILBOX, "other address status"),
	ROW(1, 1, PRECISE, BAD_MAILBOX, "bad destination mailbox address"),
	ROW(1, 2, PRECISE, BAD_DOMAIN, "bad destination system address"),
	ROW(1, 3, PRECISE, BAD_MAILBOX, "bad destination mailbox address syntax"),
	ROW(1, 4, PRECISE, BAD_MAILBOX, "destination mailbox address ambiguous"),
	ROW(1, 5, PRECISE, OTHER, "destination address valid"),
	ROW(1, 6, PRECISE, BAD_MAILBOX, "destination mailbox has moved, no forwarding address"),
	ROW(1, 7, PRECISE, INVALID_SENDER, "bad sender's mailbox address syntax"),
	ROW(1, 8, PRECISE, INVALID_SENDER, "bad sender's system address"),
	ROW(1, 9, PRECISE, PROTOCOL_ERRORS, "message relayed to non-compliant mailer"),
	ROW(1, 10, PRECISE, BAD_DOMAIN, "recipient address has null MX"),
	ROW(2, 0, VAGUE, BAD_MAILBOX, "other or undefined mailbox status"),
	ROW(2, 1, PRECISE, INACTIVE_MAILBOX, "mailbox disabled, not accepting messages"),
	ROW(2, 2, PRECISE, QUOTA_ISSUES, "mailbox full"),
	ROW(2, 3, PRECISE, POLICY_RELATED, "message length exceeds administrative limit"),
	ROW(2, 4, PRECISE, BAD_MAILBOX, "mailing list expansion problem"),
	ROW(3, 0, VAGUE, OTHER, "other or undefined mail system status"),
	ROW(3, 1, PRECISE, QUOTA_ISSUES, "mail system full"),
	ROW(3, 2, VAGUE, POLICY_RELATED, "system not accepting network messages"),
	ROW(3, 3, PRECISE, BAD_CONFIGURATION, "system not capable of selected features"),
	ROW(3, 4, PRECISE, POLICY_RELATED, "message too big for system"),
	ROW(3, 5, PRECISE, BAD_CONFIGURATION, "system incorrectly configured"),
	ROW(3, 6, PRECISE, OTHER, "requested priority was changed"),
	ROW(4, 0, VAGUE, ROUTING_ERRORS, "other or undefined network or routing status"),
	ROW(4, 1, PRECISE, NO_ANSWER_FROM_HOST, "no answer from host"),
	ROW(4, 2, PRECISE, BAD_CONNECTION, "bad connection"),
	ROW(4, 3, PRECISE, ROUTING_ERRORS, "directory server failure"),
	ROW(4, 4, PRECISE, ROUTING_ERRORS, "unable to route"),
	ROW(4, 5, VAGUE, POLICY_RELATED, "mail system congestion"),
	ROW(4, 6, PRECISE, ROUTING_ERRORS, "routing loop detected"),
	ROW(4, 7, PRECISE, MESSAGE_EXPIRED, "delivery time expired"),
	ROW(5, 0, VAGUE, PROTOCOL_ERRORS, "other or undefined protocol status"),
	ROW(5, 1, VAGUE, PROTOCOL_ERRORS, "invalid command"),
	ROW(5, 2, PRECISE, PROTOCOL_ERRORS, "syntax error"),
	ROW(5, 3, VAGUE, PROTOCOL_ERRORS, "too many recipients"),
	ROW(5, 4, PRECISE, PROTOCOL_ERRORS, "invalid command arguments"),
	ROW(5, 5, PRECISE, PROTOCOL_ERRORS, "wrong protocol version"),
	ROW(5, 6, PRECISE, PROTOCOL_ERRORS, "authentication exchange line is too long"),
	ROW(6, 0, VAGUE, CONTENT_RELATED, "other or undefined media error"),
	ROW(6, 1, PRECISE, CONTENT_RELATED, "media not supported"),
	ROW(6, 2, PRECISE, CONTENT_RELATED, "conversion required and prohibited"),
	ROW(6, 3, PRECISE, CONTENT_RELATED, "conversion required but not supported"),
	ROW(6, 4, PRECISE, CONTENT_RELATED, "conversion with loss performed"),
	ROW(6, 5, PRECISE, CONTENT_RELATED, "conversion failed"),
	ROW(6, 6, PRECISE, CONTENT_RELATED, "message content not available"),
	ROW(6, 7, PRECISE, BAD_CONFIGURATION, "non-ASCII addresses not permitted"),
	ROW(6, 8, PRECISE, BAD_CONFIGURATION, "UTF-8 string reply is required, but not permitted"),
	ROW(6, 9, PRECISE, BAD_CONFIGURATION, "UTF-8 header cannot be transferred"),
	ROW(7, 0, VAGUE, POLICY_RELATED, "other or undefined security status"),
	ROW(7, 1, VAGUE, POLICY_RELATED, "delivery not authorized, message refused"),
	ROW(7, 2, PRECISE, POLICY_RELATED, "mailing list expansion prohibited"),
	ROW(7, 3, PRECISE, POLICY_RELATED, "security conversion required but not possible"),
	ROW(7, 4, PRECISE, POLICY_RELATED, "security features not supported"),
	ROW(7, 5, PRECISE, POLICY_RELATED, "cryptographic failure"),
	ROW(7, 6, PRECISE, POLICY_RELATED, "cryptographic algorithm not supported"),
	ROW(7, 7, PRECISE, POLICY_RELATED, "message integrity failure"),
	ROW(7, 8, PRECISE, POLICY_RELATED, "authentication credentials invalid"),
	ROW(7, 9, PRECISE, POLICY_RELATED, "authentication mechanism is too weak"),
	ROW(7, 10, PRECISE, POLICY_RELATED, "encryption needed"),
	ROW(7, 11, PRECISE, POLICY_RELATED, "encryption required for requested authentication mechanism"),
	ROW(7, 13, PRECISE, INACTIVE_MAILBOX, "user account disabled"),
	ROW(7, 14, PRECISE, RELAYING_ISSUES, "trust relationship required"),
	ROW(7, 15, PRECISE, POLICY_RELATED, "priority level is too low"),
	ROW(7, 16, PRECISE, POLICY_RELATED, "message is too big for the specified priority"),
	ROW(7, 17, PRECISE, BAD_MAILBOX, "mailbox owner has changed"),
	ROW(7, 18, PRECISE, BAD_DOMAIN, "domain owner has changed"),
	ROW(7, 19, PRECISE, POLICY_RELATED, "RRVS test cannot be completed"),
	ROW(7, 20, PRECISE, POLICY_RELATED, "no passing DKIM signature found"),
	ROW(7, 21, PRECISE, POLICY_RELATED, "no acceptable DKIM signature found"),
	ROW(7, 22, PRECISE, POLICY_RELATED, "no valid author-matched DKIM signature found"),
	ROW(7, 23, PRECISE, POLICY_RELATED, "SPF validation failed"),
	ROW(7, 24, PRECISE, POLICY_RELATED, "SPF validation error"),
	ROW(7, 25, PRECISE, POLICY_RELATED, "reverse DNS validation failed"),
	ROW(7, 26, PRECISE, POLICY_RELATED, "multiple authentication checks failed"),
	ROW(7, 27, PRECISE, INVALID_SENDER, "sender address has null MX"),
	ROW(7, 28, PRECISE, POLICY_RELATED, "mail flood detected"),
	ROW(7, 29, PRECISE, POLICY_RELATED, "ARC validation failure"),
	ROW(7, 30, PRECISE, POLICY_RELATED, "REQUIRETLS support required"),
};

/* Words that receivers use, lower-case; the first that the reply holds decides. */
static const struct {
	const char *words;
	enum acct_category category;
} words[] = {
	{"virus", ACCT_CATEGORY_VIRUS_RELATED},
	{"malware", ACCT_CATEGORY_VIRUS_RELATED},
	{"infected", ACCT_CATEGORY_VIRUS_RELATED},
	{"spf ", ACCT_CATEGORY_POLICY_RELATED},
	{"dkim", ACCT_CATEGORY_POLICY_RELATED},
	{"dmarc", ACCT_CATEGORY_POLICY_RELATED},
	{"spamhaus", ACCT_CATEGORY_SPAM_RELATED},
	{"spamcop", ACCT_CATEGORY_SPAM_RELATED},
	{"blocklist", ACCT_CATEGORY_SPAM_RELATED},
	{"block list", ACCT_CATEGORY_SPAM_RELATED},
	{"blacklist", ACCT_CATEGORY_SPAM_RELATED},
	{"black list", ACCT_CATEGORY_SPAM_RELATED},
	{"rbl", ACCT_CATEGORY_SPAM_RELATED},
	{"dnsbl", ACCT_CATEGORY_SPAM_RELATED},
	{"spam", ACCT_CATEGORY_SPAM_RELATED},
	{"unsolicited", ACCT_CATEGORY_SPAM_RELATED},
	{"junk", ACCT_CATEGORY_SPAM_RELATED},
	{"bulk mail", ACCT_CATEGORY_SPAM_RELATED},
	{"over quota", ACCT_CATEGORY_QUOTA_ISSUES},
	{"overquota", ACCT_CATEGORY_QUOTA_ISSUES},
	{"quota exceeded", ACCT_CATEGORY_QUOTA_ISSUES},
	{"exceeded quota", ACCT_CATEGORY_QUOTA_ISSUES},
	{"exceeded storage", ACCT_CATEGORY_QUOTA_ISSUES},
	{"insufficient system storage", ACCT_CATEGORY_QUOTA_ISSUES},
	{"mailbox full", ACCT_CATEGORY_QUOTA_ISSUES},
	{"mailbox is full", ACCT_CATEGORY_QUOTA_ISSUES},
	{"inbox is full", ACCT_CATEGORY_QUOTA_ISSUES},
	{"inbox full", ACCT_CATEGORY_QUOTA_ISSUES},
	{"relaying", ACCT_CATEGORY_RELAYING_ISSUES},
	{"relay access", ACCT_CATEGORY_RELAYING_ISSUES},
	{"relay not permitted", ACCT_CATEGORY_RELAYING_ISSUES},
	{"unable to relay", ACCT_CATEGORY_RELAYING_ISSUES},
	{"not allowed to relay", ACCT_CATEGORY_RELAYING_ISSUES},
	{"account disabled", ACCT_CATEGORY_INACTIVE_MAILBOX},
	{"account is disabled", ACCT_CATEGORY_INACTIVE_MAILBOX},
	{"account has been disabled", ACCT_CATEGORY_INACTIVE_MAILBOX},
	{"mailbox disabled", ACCT_CATEGORY_INACTIVE_MAILBOX},
	{"mailbox is disabled", ACCT_CATEGORY_INACTIVE_MAILBOX},
	{"suspended", ACCT_CATEGORY_INACTIVE_MAILBOX},
	{"inactive", ACCT_CATEGORY_INACTIVE_MAILBOX},
	{"deactivated", ACCT_CATEGORY_INACTIVE_MAILBOX},
	{"sender address rejected", ACCT_CATEGORY_INVALID_SENDER},
	{"sender rejected", ACCT_CATEGORY_INVALID_SENDER},
	{"invalid sender", ACCT_CATEGORY_INVALID_SENDER},
	{"sender domain", ACCT_CATEGORY_INVALID_SENDER},
	{"sender verify failed", ACCT_CATEGORY_INVALID_SENDER},
	{"user unknown", ACCT_CATEGORY_BAD_MAILBOX},
	{"unknown user", ACCT_CATEGORY_BAD_MAILBOX},
	{"unknown recipient", ACCT_CATEGORY_BAD_MAILBOX},
	{"recipient unknown", ACCT_CATEGORY_BAD_MAILBOX},
	{"no such user", ACCT_CATEGORY_BAD_MAILBOX},
	{"no such recipient", ACCT_CATEGORY_BAD_MAILBOX},
	{"no such mailbox", ACCT_CATEGORY_BAD_MAILBOX},
	{"no mailbox", ACCT_CATEGORY_BAD_MAILBOX},
	{"does not exist", ACCT_CATEGORY_BAD_MAILBOX},
	{"doesn't exist", ACCT_CATEGORY_BAD_MAILBOX},
	{"doesn't have a", ACCT_CATEGORY_BAD_MAILBOX},
	{"mailbox unavailable", ACCT_CATEGORY_BAD_MAILBOX},
	{"mailbox not found", ACCT_CATEGORY_BAD_MAILBOX},
	{"user not found", ACCT_CATEGORY_BAD_MAILBOX},
	{"invalid recipient", ACCT_CATEGORY_BAD_MAILBOX},
	{"invalid mailbox", ACCT_CATEGORY_BAD_MAILBOX},
	{"unknown address", ACCT_CATEGORY_BAD_MAILBOX},
	{"address unknown", ACCT_CATEGORY_BAD_MAILBOX},
	{"recipient rejected", ACCT_CATEGORY_BAD_MAILBOX},
	{"recipient address rejected", ACCT_CATEGORY_BAD_MAILBOX},
	{"attachment", ACCT_CATEGORY_CONTENT_RELATED},
	{"content", ACCT_CATEGORY_CONTENT_RELATED},
	{"policy", ACCT_CATEGORY_POLICY_RELATED},
	{"blocked", ACCT_CATEGORY_POLICY_RELATED},
	{"rate limit", ACCT_CATEGORY_POLICY_RELATED},
	{"too many", ACCT_CATEGORY_POLICY_RELATED},
	{"reputation", ACCT_CATEGORY_POLICY_RELATED},
	{"greylist", ACCT_CATEGORY_POLICY_RELATED},
	{"reverse dns", ACCT_CATEGORY_POLICY_RELATED},
	{"access denied", ACCT_CATEGORY_POLICY_RELATED},
	{"host unknown", ACCT_CATEGORY_BAD_DOMAIN},
	{"domain not found", ACCT_CATEGORY_BAD_DOMAIN},
	{"no such domain", ACCT_CATEGORY_BAD_DOMAIN},
	{"loop", ACCT_CATEGORY_ROUTING_ERRORS},
};

/* The same for our own texts ("local: …"). */
static const struct {
	const char *words;
	enum acct_category category;
} local_words[] = {
	{"expired", ACCT_CATEGORY_MESSAGE_EXPIRED},
	{"too old", ACCT_CATEGORY_MESSAGE_EXPIRED},
	{"no such domain", ACCT_CATEGORY_BAD_DOMAIN},
	{"does not exist", ACCT_CATEGORY_BAD_DOMAIN},
	{"nxdomain", ACCT_CATEGORY_BAD_DOMAIN},
	{"null mx", ACCT_CATEGORY_BAD_DOMAIN},
	{"no mx", ACCT_CATEGORY_BAD_DOMAIN},
	{"no source address", ACCT_CATEGORY_BAD_CONFIGURATION},
	{"tls", ACCT_CATEGORY_POLICY_RELATED},
	{"dns", ACCT_CATEGORY_ROUTING_ERRORS},
	{"unreachable", ACCT_CATEGORY_ROUTING_ERRORS},
	{"no route", ACCT_CATEGORY_ROUTING_ERRORS},
	{"loop", ACCT_CATEGORY_ROUTING_ERRORS},
	{"refused", ACCT_CATEGORY_NO_ANSWER_FROM_HOST},
	{"timed out", ACCT_CATEGORY_NO_ANSWER_FROM_HOST},
	{"timeout", ACCT_CATEGORY_NO_ANSWER_FROM_HOST},
	{"no answer", ACCT_CATEGORY_NO_ANSWER_FROM_HOST},
	{"closed", ACCT_CATEGORY_BAD_CONNECTION},
	{"reset", ACCT_CATEGORY_BAD_CONNECTION},
	{"lost", ACCT_CATEGORY_BAD_CONNECTION},
	{"protocol", ACCT_CATEGORY_PROTOCOL_ERRORS},
	{"too long", ACCT_CATEGORY_PROTOCOL_ERRORS},
	{"smtputf8", ACCT_CATEGORY_BAD_CONFIGURATION},
};

/* Last resort. */
static const struct {
	uint16_t code;
	enum acct_category category;
} codes[] = {
	{421, ACCT_CATEGORY_POLICY_RELATED},
	{450, ACCT_CATEGORY_POLICY_RELATED},
	{452, ACCT_CATEGORY_QUOTA_ISSUES},
	{500, ACCT_CATEGORY_PROTOCOL_ERRORS},
	{501, ACCT_CATEGORY_PROTOCOL_ERRORS},
	{502, ACCT_CATEGORY_PROTOCOL_ERRORS},
	{503, ACCT_CATEGORY_PROTOCOL_ERRORS},
	{504, ACCT_CATEGORY_PROTOCOL_ERRORS},
	{530, ACCT_CATEGORY_POLICY_RELATED},
	{535, ACCT_CATEGORY_POLICY_RELATED},
	{550, ACCT_CATEGORY_BAD_MAILBOX},
	{551, ACCT_CATEGORY_BAD_MAILBOX},
	{552, ACCT_CATEGORY_QUOTA_ISSUES},
	{553, ACCT_CATEGORY_BAD_MAILBOX},
	{554, ACCT_CATEGORY_POLICY_RELATED},
	{555, ACCT_CATEGORY_PROTOCOL_ERRORS},
	{556, ACCT_CATEGORY_BAD_DOMAIN},
};
/* clang-format on */

static int row_cmp(const void *key, const void *row)
{
	const uint8_t *enhanced = key;
	const struct status_row *r = row;

	return enhanced[1] != r->subject ? enhanced[1] - r->subject : enhanced[2] - r->detail;
}

/* The row of the code, else the one of its subject (x.7.99 is x.7.0), else 0.0. */
static const struct status_row *row_find(const uint8_t enhanced[3])
{
	uint8_t subject[3] = {enhanced[0], enhanced[1], 0};
	const struct status_row *r;

	r = bsearch(enhanced, rows, ARRAY_SIZE(rows), sizeof(rows[0]), row_cmp);
	if (!r)
		r = bsearch(subject, rows, ARRAY_SIZE(rows), sizeof(rows[0]), row_cmp);
	return r ? r : &rows[0];
}

const char *acct_status_text(const uint8_t enhanced[3])
{
	if (enhanced[0] == 2 && enhanced[1] == 0 && enhanced[2] == 0)
		return "success";
	return row_find(enhanced)->text;
}

void acct_status_effective(enum acct_type type, uint16_t code, const uint8_t given[3],
			   uint8_t ret[3])
{
	memcpy(ret, given, 3);
	if (ret[0])
		return;
	ret[1] = ret[2] = 0;
	if (code >= 200 && code < 600)
		ret[0] = (uint8_t)(code / 100);
	else
		ret[0] = type == ACCT_DELIVERED ? 2 : type == ACCT_BOUNCED ? 5 : 4;
}

static const char *const category_names[] = {
#define ACCT_CATEGORY_NAME(id, name) name,
	ACCT_CATEGORIES(ACCT_CATEGORY_NAME)
#undef ACCT_CATEGORY_NAME
};

const char *acct_category_name(enum acct_category c)
{
	return c < ACCT_CATEGORY_COUNT ? category_names[c] : "other";
}

/* Replies are cut to 512 bytes; of a longer text only the beginning counts. */
#define WORDS_MAX 1024

#define FIND_WORDS(table, lower, n, ret)                                              \
	for (size_t i_ = 0; i_ < ARRAY_SIZE(table); i_++)                             \
		if (memmem(lower, n, (table)[i_].words, strlen((table)[i_].words))) { \
			*(ret) = (table)[i_].category;                                \
			return true;                                                  \
		}

static bool category_by_words(struct slice text, enum acct_category *ret)
{
	char lower[WORDS_MAX];
	size_t n = text.n < sizeof(lower) ? text.n : sizeof(lower);

	for (size_t i = 0; i < n; i++)
		lower[i] = ascii_lower(text.p[i]);
	if (slice_istarts(text, "local:")) {
		FIND_WORDS(local_words, lower, n, ret);
	} else {
		FIND_WORDS(words, lower, n, ret);
	}
	return false;
}

enum acct_category acct_category_of(const uint8_t enhanced[3], uint16_t code, struct slice text)
{
	const struct status_row *r = row_find(enhanced);
	enum acct_category c;

	if (enhanced[0] && !r->vague)
		return r->category;
	if (category_by_words(text, &c))
		return c;
	if (r->category != ACCT_CATEGORY_OTHER)
		return r->category;
	for (size_t i = 0; i < ARRAY_SIZE(codes); i++)
		if (codes[i].code == code)
			return codes[i].category;
	return ACCT_CATEGORY_OTHER;
}
