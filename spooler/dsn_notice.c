#include "spooler/dsn_notice.h"

#include "common/mail/header.h"
#include "spooler/dsn_text.h"

#define LINE_MAX 900 /* octets */

static void body_add(const struct dsn_build_options *o, const struct report_notice *n,
		     struct buf *out)
{
	struct slice text = n->text, line;

	if (text.n && text.p[text.n - 1] == '\n')
		text.n--;
	buf_addf(out, "This is an automatic message of the mail system at %s.\r\n\r\n", o->host);
	while (slice_next(&text, '\n', &line)) {
		if (line.n && line.p[0] == '.')
			buf_add_char(out, '.');
		dsn_text_line(out, line, LINE_MAX, true);
		buf_add_str(out, "\r\n");
	}
	if (n->left_out)
		buf_addf(out, "and %u more\r\n", n->left_out);
}

void dsn_notice_build(const struct dsn_build_options *o, const struct report_notice *n,
		      struct buf *out, uint32_t *ret_header_size, uint32_t *ret_flags)
{
	size_t start = out->n;
	bool ascii = dsn_text_is_ascii(n->text);

	mail_date_add(out, o->now);
	buf_addf(out, "From: Mail Delivery System <%s>\r\n", o->from);
	buf_add_str(out, "To: <");
	dsn_text_line(out, n->to, LINE_MAX, true);
	buf_add_str(out, ">\r\nSubject: Sluice: ");
	dsn_text_line(out, n->subject, LINE_MAX, false);
	buf_add_str(out, "\r\n");
	mail_message_id_add(out, o->msgid, o->random[0], o->host);
	buf_addf(out,
		 "Auto-Submitted: auto-generated\r\nMIME-Version: 1.0\r\n"
		 "Content-Type: text/plain; charset=utf-8\r\n"
		 "Content-Transfer-Encoding: %s\r\n\r\n",
		 ascii ? "7bit" : "8bit");
	*ret_header_size = (uint32_t)(out->n - start);
	body_add(o, n, out);
	*ret_flags = SPOOL_MSG_IS_DSN | (ascii ? 0 : (uint32_t)SPOOL_MSG_8BITMIME) |
		     (dsn_text_is_ascii(n->to) ? 0 : (uint32_t)SPOOL_MSG_SMTPUTF8);
}
