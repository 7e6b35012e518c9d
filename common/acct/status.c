#include "common/acct/status.h"

#include <stdlib.h>

#include "common/base/macros.h"
#include "common/conf/replies.h"

struct status_row {
	uint8_t subject, detail;
	const char *text;
};

/* clang-format off */
#define ROW(subject, detail, text) {subject, detail, text}

static const struct status_row rows[] = { /* sorted by subject and detail */
	ROW(0, 0, "undefined status"),
	ROW(1, 0, "other address status"),
	ROW(1, 1, "bad destination mailbox address"),
	ROW(1, 2, "bad destination system address"),
	ROW(1, 3, "bad destination mailbox address syntax"),
	ROW(1, 4, "destination mailbox address ambiguous"),
	ROW(1, 5, "destination address valid"),
	ROW(1, 6, "destination mailbox has moved, no forwarding address"),
	ROW(1, 7, "bad sender's mailbox address syntax"),
	ROW(1, 8, "bad sender's system address"),
	ROW(1, 9, "message relayed to non-compliant mailer"),
	ROW(1, 10, "recipient address has null MX"),
	ROW(2, 0, "other or undefined mailbox status"),
	ROW(2, 1, "mailbox disabled, not accepting messages"),
	ROW(2, 2, "mailbox full"),
	ROW(2, 3, "message length exceeds administrative limit"),
	ROW(2, 4, "mailing list expansion problem"),
	ROW(3, 0, "other or undefined mail system status"),
	ROW(3, 1, "mail system full"),
	ROW(3, 2, "system not accepting network messages"),
	ROW(3, 3, "system not capable of selected features"),
	ROW(3, 4, "message too big for system"),
	ROW(3, 5, "system incorrectly configured"),
	ROW(3, 6, "requested priority was changed"),
	ROW(4, 0, "other or undefined network or routing status"),
	ROW(4, 1, "no answer from host"),
	ROW(4, 2, "bad connection"),
	ROW(4, 3, "directory server failure"),
	ROW(4, 4, "unable to route"),
	ROW(4, 5, "mail system congestion"),
	ROW(4, 6, "routing loop detected"),
	ROW(4, 7, "delivery time expired"),
	ROW(5, 0, "other or undefined protocol status"),
	ROW(5, 1, "invalid command"),
	ROW(5, 2, "syntax error"),
	ROW(5, 3, "too many recipients"),
	ROW(5, 4, "invalid command arguments"),
	ROW(5, 5, "wrong protocol version"),
	ROW(5, 6, "authentication exchange line is too long"),
	ROW(6, 0, "other or undefined media error"),
	ROW(6, 1, "media not supported"),
	ROW(6, 2, "conversion required and prohibited"),
	ROW(6, 3, "conversion required but not supported"),
	ROW(6, 4, "conversion with loss performed"),
	ROW(6, 5, "conversion failed"),
	ROW(6, 6, "message content not available"),
	ROW(6, 7, "non-ASCII addresses not permitted"),
	ROW(6, 8, "UTF-8 string reply is required, but not permitted"),
	ROW(6, 9, "UTF-8 header cannot be transferred"),
	ROW(7, 0, "other or undefined security status"),
	ROW(7, 1, "delivery not authorized, message refused"),
	ROW(7, 2, "mailing list expansion prohibited"),
	ROW(7, 3, "security conversion required but not possible"),
	ROW(7, 4, "security features not supported"),
	ROW(7, 5, "cryptographic failure"),
	ROW(7, 6, "cryptographic algorithm not supported"),
	ROW(7, 7, "message integrity failure"),
	ROW(7, 8, "authentication credentials invalid"),
	ROW(7, 9, "authentication mechanism is too weak"),
	ROW(7, 10, "encryption needed"),
	ROW(7, 11, "encryption required for requested authentication mechanism"),
	ROW(7, 13, "user account disabled"),
	ROW(7, 14, "trust relationship required"),
	ROW(7, 15, "priority level is too low"),
	ROW(7, 16, "message is too big for the specified priority"),
	ROW(7, 17, "mailbox owner has changed"),
	ROW(7, 18, "domain owner has changed"),
	ROW(7, 19, "RRVS test cannot be completed"),
	ROW(7, 20, "no passing DKIM signature found"),
	ROW(7, 21, "no acceptable DKIM signature found"),
	ROW(7, 22, "no valid author-matched DKIM signature found"),
	ROW(7, 23, "SPF validation failed"),
	ROW(7, 24, "SPF validation error"),
	ROW(7, 25, "reverse DNS validation failed"),
	ROW(7, 26, "multiple authentication checks failed"),
	ROW(7, 27, "sender address has null MX"),
	ROW(7, 28, "mail flood detected"),
	ROW(7, 29, "ARC validation failure"),
	ROW(7, 30, "REQUIRETLS support required"),
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

static void add_number(struct buf *to, uint8_t n)
{
	if (n >= 100)
		buf_add_char(to, (char)('0' + n / 100));
	if (n >= 10)
		buf_add_char(to, (char)('0' + n / 10 % 10));
	buf_add_char(to, (char)('0' + n % 10));
}

void acct_status_add(const uint8_t e[3], struct buf *to)
{
	for (size_t i = 0; i < 3; i++) {
		if (i)
			buf_add_char(to, '.');
		add_number(to, e[i]);
	}
	buf_add_str(to, " (");
	buf_add_str(to, acct_status_text(e));
	buf_add_char(to, ')');
}

void acct_diag_add(struct slice text, struct buf *to)
{
	if (!text.n)
		return;
	/* our own texts are no replies of a receiver */
	buf_add_str(to, slice_istarts(text, "local: ") ? "x-sluice;" : "smtp;");
	buf_add_slice(to, text);
}

const struct conf_category *acct_category_line(const struct conf *c, enum acct_type type,
					       uint16_t code, const uint8_t enhanced[3],
					       struct slice text)
{
	const struct conf_category *found;
	struct buf subject = BUF_INIT;
	uint8_t e[3];

	acct_status_effective(type, code, enhanced, e);
	acct_status_add(e, &subject);
	buf_add_char(&subject, ' ');
	acct_diag_add(text, &subject);
	found = conf_category_find(c, buf_slice(&subject));
	buf_done(&subject);
	return found;
}

const char *acct_category_of(const struct conf *c, enum acct_type type, uint16_t code,
			     const uint8_t enhanced[3], struct slice text)
{
	const struct conf_category *line = acct_category_line(c, type, code, enhanced, text);

	return line ? line->category : acct_category_name(ACCT_CATEGORY_OTHER);
}
