#include "spooler/dsn_build.h"

#include <stdio.h>

#include "common/acct/status.h"
#include "common/base/macros.h"
#include "common/mail/header.h"
#include "spooler/dsn_text.h"

#define TEXT_MAX 900 /* octets of one reply; a line of 998 holds it with its field name */

struct build {
	const struct dsn_build_options *o;
	const struct dsn_row *r;
	bool global; /* the original came with SMTPUTF8: the report may hold UTF-8 */
	bool failed, delayed;
	struct slice header; /* fields of the original, without the empty line */
	char boundary[48];
	struct buf value; /* of the field being made */
};

/* --- what happened, in words --- */

static const struct {
	const char *name; /* of the Action field */
	const char *lead; /* in front of its recipients */
} actions[] = {
	[DSN_FAILED] = {"failed", "Your message could not be delivered to:"},
	[DSN_DELAYED] = {"delayed",
			 "Your message has not been delivered yet, and it is still tried, to:"},
	[DSN_RELAYED] =
		{"relayed",
		 "Your message was handed to a mail system that confirms nothing further, for:"},
	[DSN_DELIVERED] = {"delivered", "Your message was delivered to:"},
};

static const char *const advice[ACCT_CATEGORY_COUNT] = {
	[ACCT_CATEGORY_BAD_CONFIGURATION] = "The two mail systems could not agree how to transfer "
					    "this message. Tell your postmaster.",
	[ACCT_CATEGORY_BAD_CONNECTION] =
		"The connection failed each time. Please send it again later.",
	[ACCT_CATEGORY_BAD_DOMAIN] = "The part of the address behind the @ does not exist or takes "
				     "no mail. Please check its spelling.",
	[ACCT_CATEGORY_BAD_MAILBOX] = "The address does not exist there. Please check its "
				      "spelling, or remove it from your lists.",
	[ACCT_CATEGORY_CONTENT_RELATED] = "The receiver does not take what the message holds. "
					  "Please send it in another form.",
	[ACCT_CATEGORY_INACTIVE_MAILBOX] =
		"The mailbox is not in use any more. Please reach the recipient in another way.",
	[ACCT_CATEGORY_INVALID_SENDER] =
		"The receiver does not accept your own address. Tell your postmaster.",
	[ACCT_CATEGORY_MESSAGE_EXPIRED] = "It was tried for as long as is usual. Please check the "
					  "address, and send it again later.",
	[ACCT_CATEGORY_NO_ANSWER_FROM_HOST] = "The receiving mail system did not answer. Please "
					      "check the address, and send it again later.",
	[ACCT_CATEGORY_OTHER] = "The text above is all that is known. It may help your postmaster.",
	[ACCT_CATEGORY_POLICY_RELATED] = "The receiver's rules do not allow this message. Your "
					 "postmaster can ask there with the text above.",
	[ACCT_CATEGORY_PROTOCOL_ERRORS] =
		"The two mail systems did not understand each other. Tell your postmaster.",
	[ACCT_CATEGORY_QUOTA_ISSUES] = "The mailbox is full. Please send it again later, or reach "
				       "the recipient in another way.",
	[ACCT_CATEGORY_RELAYING_ISSUES] = "The receiving system does not take mail for this "
					  "address. Please check the address.",
	[ACCT_CATEGORY_ROUTING_ERRORS] = "No way to the receiving system was found. Please check "
					 "the address, and send it again later.",
	[ACCT_CATEGORY_SPAM_RELATED] = "The receiver took the message for unwanted mail. Your "
				       "postmaster can ask there with the text above.",
	[ACCT_CATEGORY_VIRUS_RELATED] = "The receiver found dangerous content. Please check your "
					"computer and the attachments.",
};

/* A category of the operator's own says nothing here. */
static const char *advice_of(const struct build *b, const struct dsn_recipient *r)
{
	const char *name =
		acct_category_of(b->o->conf, ACCT_BOUNCED, r->code, r->enhanced, r->text);
	enum acct_category c = 0;

	while (c < ACCT_CATEGORY_COUNT && strcmp(name, acct_category_name(c)) != 0)
		c++;
	return advice[c < ACCT_CATEGORY_COUNT ? c : ACCT_CATEGORY_OTHER];
}

static struct slice value_of(struct build *b)
{
	return buf_slice(&b->value);
}

static enum acct_type record_type(enum dsn_action a)
{
	return a == DSN_FAILED ? ACCT_BOUNCED : a == DSN_DELAYED ? ACCT_TRANSIENT : ACCT_DELIVERED;
}

static void status_of(const struct dsn_recipient *r, uint8_t ret[3])
{
	acct_status_effective(record_type(r->action), r->code, r->enhanced, ret);
}

/* The value is the text without the prefix of our own texts. */
static void reason_value(struct build *b, const struct dsn_recipient *r, bool utf8)
{
	struct slice text = r->text;

	if (!r->code && slice_istarts(text, "local:"))
		text = slice_trim(slice_from(text, strlen("local:")));
	dsn_text_line(&b->value, text, TEXT_MAX, utf8);
}

static void mta_value(struct build *b, const struct dsn_recipient *r)
{
	char ip[IP_TEXT_MAX];

	dsn_text_line(&b->value, r->mx_name, TEXT_MAX / 2, b->global);
	if (r->mx_ip.family != IP_NONE)
		buf_addf(&b->value, b->value.n ? " (%s)" : "[%s]", ip_text(&r->mx_ip, ip));
}

static void date_add(struct buf *out, const char *before, msec_t when)
{
	char date[CLOCK_TEXT_MAX];

	clock_rfc5322(when, date);
	buf_addf(out, "%s%s\r\n", before, date);
}

/* --- the header --- */

static const char *subject_of(const struct build *b)
{
	return b->failed    ? "Undelivered mail: your message did not reach all its recipients"
	       : b->delayed ? "Delayed mail: your message is still being delivered"
			    : "Delivery report: your message was passed on";
}

/* References of the original, so that a mail program shows both together (RFC 3834 3.1.5). */
static void references_add(struct build *b, struct buf *out)
{
	struct slice fields = b->header;
	struct mail_field f;

	while (mail_header_next(&fields, &f)) {
		if (!slice_ieq_str(f.name, "Message-ID"))
			continue;
		buf_clear(&b->value);
		mail_header_unfold(f.value, &b->value);
		if (!b->value.n || b->value.n > TEXT_MAX || !dsn_text_is_ascii(value_of(b)))
			return;
		dsn_text_field(out, "In-Reply-To", value_of(b));
		dsn_text_field(out, "References", value_of(b));
		return;
	}
}

static void header_add(struct build *b, struct buf *out, bool eight_bit)
{
	const struct dsn_build_options *o = b->o;

	mail_date_add(out, o->now);
	buf_addf(out, "From: Mail Delivery System <%s>\r\n", o->from);
	buf_add_str(out, "To: <");
	dsn_text_line(out, b->r->sender, TEXT_MAX, true);
	buf_add_str(out, ">\r\n");
	buf_addf(out, "Subject: %s\r\n", subject_of(b));
	mail_message_id_add(out, o->msgid, o->random[0], o->host);
	references_add(b, out);
	buf_add_str(out, "Auto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\n"
			 "Content-Type: multipart/report; report-type=");
	buf_addf(out, "%sdelivery-status;\r\n boundary=\"%s\"\r\n", b->global ? "global-" : "",
		 b->boundary);
	buf_addf(out, "Content-Transfer-Encoding: %s\r\n\r\n", eight_bit ? "8bit" : "7bit");
}

/* --- the part for people --- */

static void person_recipient(struct build *b, const struct dsn_recipient *r, struct buf *out)
{
	uint8_t e[3];

	buf_add_str(out, "\r\n  <");
	dsn_text_line(out, r->address, TEXT_MAX, true);
	buf_add_str(out, ">\r\n");
	buf_clear(&b->value);
	mta_value(b, r);
	if (r->code && b->value.n) {
		buf_add_str(out, "    The answer of ");
		buf_add_slice(out, value_of(b));
		buf_add_str(out, ":\r\n");
	} else if (r->text.n) {
		buf_add_str(out, "    Reason:\r\n");
	}
	buf_clear(&b->value);
	reason_value(b, r, true);
	dsn_text_wrap(out, "      ", value_of(b));
	status_of(r, e);
	buf_addf(out, "    Status: %u.%u.%u (%s)\r\n", e[0], e[1], e[2], acct_status_text(e));
	if (r->action == DSN_FAILED)
		dsn_text_wrap(out, "    ", slice_str(advice_of(b, r)));
	else if (r->action == DSN_DELAYED && r->will_retry_until)
		date_add(out, "    It is tried until ", r->will_retry_until);
}

static void person_part(struct build *b, struct buf *out)
{
	buf_addf(out, "This is an automatic message of the mail system at %s.\r\n", b->o->host);
	for (enum dsn_action a = DSN_FAILED; a <= DSN_DELIVERED; a++) {
		bool lead = false;

		for (uint32_t i = 0; i < b->r->recipient_count; i++) {
			if (b->r->recipients[i].action != a)
				continue;
			if (!lead)
				buf_addf(out, "\r\n%s\r\n", actions[a].lead);
			lead = true;
			person_recipient(b, &b->r->recipients[i], out);
		}
	}
	date_add(out, "\r\nYour message was received here on ", b->r->received);
	buf_add_str(
		out,
		"A report for programs and a copy of your message, or of its header, follow.\r\n");
	if (b->delayed)
		buf_add_str(out, "You need not do anything, and need not send it again.\r\n");
}

/* --- the part for programs --- */

static void status_message(struct build *b, struct buf *out)
{
	if (b->r->dsn_envid.n) {
		buf_clear(&b->value);
		dsn_text_xtext(&b->value, b->r->dsn_envid, false);
		dsn_text_field(out, "Original-Envelope-Id", value_of(b));
	}
	buf_addf(out, "Reporting-MTA: dns; %s\r\n", b->o->host);
	if (b->r->source_mta.n) {
		buf_clear(&b->value);
		buf_add_str(&b->value, "dns; ");
		dsn_text_line(&b->value, b->r->source_mta, TEXT_MAX, b->global);
		dsn_text_field(out, "Received-From-MTA", value_of(b));
	}
	date_add(out, "Arrival-Date: ", b->r->received);
}

/*
 * RFC 6533 3: an address beyond ASCII has the type utf-8; where the report must be ASCII, as
 * \x{HEX}.
 */
static void address_value(struct build *b, struct slice address)
{
	if (dsn_text_is_ascii(address) || b->global) {
		buf_add_str(&b->value, dsn_text_is_ascii(address) ? "rfc822; " : "utf-8; ");
		dsn_text_line(&b->value, address, TEXT_MAX, b->global);
		return;
	}
	buf_add_str(&b->value, "utf-8; ");
	for (size_t i = 0; i < address.n && b->value.n < TEXT_MAX;) {
		uint8_t c = (uint8_t)address.p[i];
		unsigned n = c < 0x80 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
		uint32_t point = n == 1 ? c : c & (0x7fu >> n);

		for (unsigned k = 1; k < n && i + k < address.n; k++)
			point = point << 6 | ((uint8_t)address.p[i + k] & 0x3f);
		if (n == 1 && c > 0x20 && c != '\\' && c != '+' && c != '=' && c != 0x7f)
			buf_add_char(&b->value, (char)c);
		else
			buf_addf(&b->value, "\\x{%X}", (unsigned)point);
		i += n;
	}
}

static void status_recipient(struct build *b, const struct dsn_recipient *r, struct buf *out)
{
	uint8_t e[3];

	buf_add_str(out, "\r\n");
	if (r->orcpt.n) {
		buf_clear(&b->value);
		dsn_text_xtext(&b->value, r->orcpt, b->global);
		dsn_text_field(out, "Original-Recipient", value_of(b));
	}
	buf_clear(&b->value);
	address_value(b, r->address);
	dsn_text_field(out, "Final-Recipient", value_of(b));
	status_of(r, e);
	buf_addf(out, "Action: %s\r\nStatus: %u.%u.%u\r\n", actions[r->action].name, e[0], e[1],
		 e[2]);
	buf_clear(&b->value);
	mta_value(b, r);
	if (b->value.n) {
		buf_add_str(out, "Remote-MTA: dns; ");
		buf_add_slice(out, value_of(b));
		buf_add_str(out, "\r\n");
	}
	buf_clear(&b->value);
	buf_add_str(&b->value, r->code ? "smtp; " : "x-sluice; ");
	reason_value(b, r, b->global);
	if (r->text.n)
		dsn_text_field(out, "Diagnostic-Code", value_of(b));
	if (r->last_attempt)
		date_add(out, "Last-Attempt-Date: ", r->last_attempt);
	if (r->action == DSN_DELAYED && r->will_retry_until)
		date_add(out, "Will-Retry-Until: ", r->will_retry_until);
}

static void status_part(struct build *b, struct buf *out)
{
	status_message(b, out);
	for (uint32_t i = 0; i < b->r->recipient_count; i++)
		status_recipient(b, &b->r->recipients[i], out);
}

/* --- the original --- */

/*
 * All of it only about a failure (RFC 3461 4.3) and when its lines are within limits; else its
 * header.
 */
static bool original_part(struct build *b, struct buf *out)
{
	bool too_long;

	if (b->r->full && b->failed) {
		dsn_text_lines(out, b->r->original, &too_long);
		if (!too_long)
			return true;
		buf_clear(out);
	}
	dsn_text_lines(out, b->header, &too_long);
	return false;
}

static void part_add(struct build *b, struct buf *out, const char *description, const char *type,
		     struct buf *text)
{
	buf_addf(out,
		 "--%s\r\nContent-Description: %s\r\nContent-Type: "
		 "%s\r\nContent-Transfer-Encoding: %s\r\n\r\n",
		 b->boundary, description, type,
		 dsn_text_is_ascii(buf_slice(text)) ? "7bit" : "8bit");
	buf_add_slice(out, buf_slice(text));
	buf_add_str(out, "\r\n");
	buf_done(text);
}

static void build_init(struct build *b, const struct dsn_build_options *o, const struct dsn_row *r)
{
	size_t scanned = 0, fields = r->original.n, body;

	*b = (struct build){.o = o, .r = r, .global = r->flags & SPOOL_MSG_SMTPUTF8};
	for (uint32_t i = 0; i < r->recipient_count; i++) {
		b->failed |= r->recipients[i].action == DSN_FAILED;
		b->delayed |= r->recipients[i].action == DSN_DELAYED;
	}
	b->delayed = b->delayed && !b->failed;
	if (mail_header_find_end(r->original, &scanned, &fields, &body) == MAIL_HEADER_MORE)
		fields = r->original.n;
	b->header = slice_sub(r->original, 0, fields);
	snprintf(b->boundary, sizeof(b->boundary), "=_%016llx%016llx",
		 (unsigned long long)o->random[0], (unsigned long long)o->random[1]);
}

void dsn_build(const struct dsn_build_options *o, const struct dsn_row *r, struct buf *out,
	       uint32_t *ret_header_size, uint32_t *ret_flags)
{
	struct buf person = BUF_INIT, status = BUF_INIT, original = BUF_INIT;
	const char *original_type;
	struct build b;
	size_t start = out->n;
	bool ascii, full;

	build_init(&b, o, r);
	person_part(&b, &person);
	status_part(&b, &status);
	full = original_part(&b, &original);
	if (full)
		original_type = b.global ? "message/global" : "message/rfc822";
	else
		original_type = b.global ? "message/global-headers" : "text/rfc822-headers";
	ascii = dsn_text_is_ascii(buf_slice(&person)) && dsn_text_is_ascii(buf_slice(&status)) &&
		dsn_text_is_ascii(buf_slice(&original));
	header_add(&b, out, !ascii);
	*ret_header_size = (uint32_t)(out->n - start);
	buf_add_str(out, "This is a report in MIME format.\r\n\r\n");
	part_add(&b, out, "what happened", "text/plain; charset=utf-8", &person);
	part_add(&b, out, "delivery status",
		 b.global ? "message/global-delivery-status" : "message/delivery-status", &status);
	part_add(&b, out, full ? "your message" : "header of your message", original_type,
		 &original);
	buf_addf(out, "--%s--\r\n", b.boundary);
	*ret_flags = SPOOL_MSG_IS_DSN | (ascii ? 0 : (uint32_t)SPOOL_MSG_8BITMIME) |
		     (dsn_text_is_ascii(r->sender) ? 0 : (uint32_t)SPOOL_MSG_SMTPUTF8);
	buf_done(&b.value);
}
