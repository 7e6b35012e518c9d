#include "common/mail/header.h"

#include <string.h>

static bool is_wsp(char c)
{
	return c == ' ' || c == '\t';
}

/*
 * Length of the field name at the start of a line, 0 if it is no field. *ret_colon: where ':' is.
 */
static size_t name_length(struct slice line, size_t *ret_colon)
{
	size_t n = 0, i;

	while (n < line.n && line.p[n] > ' ' && line.p[n] < 0x7f && line.p[n] != ':')
		n++;
	for (i = n; i < line.n && is_wsp(line.p[i]); i++)
		;
	if (n == 0 || i >= line.n || line.p[i] != ':')
		return 0;
	*ret_colon = i;
	return n;
}

enum mail_header_end mail_header_find_end(struct slice in, size_t *scanned, size_t *ret_fields,
					  size_t *ret_body)
{
	size_t colon;

	for (;;) {
		struct slice rest = slice_from(in, *scanned), line;
		ptrdiff_t lf = slice_chr(rest, '\n');

		if (lf < 0)
			return MAIL_HEADER_MORE;
		line = slice_sub(rest, 0, (size_t)lf + 1);
		*ret_fields = *scanned;
		if (line.n == 2 && line.p[0] == '\r') {
			*ret_body = *scanned + 2;
			return MAIL_HEADER_EMPTY_LINE;
		}
		if (!(is_wsp(line.p[0]) && *scanned > 0) && name_length(line, &colon) == 0) {
			*ret_body = *scanned;
			return MAIL_HEADER_NO_FIELD;
		}
		*scanned += line.n;
	}
}

bool mail_header_next(struct slice *fields, struct mail_field *ret)
{
	size_t end = 0, colon = 0;

	if (fields->n == 0)
		return false;
	do {
		ptrdiff_t lf = slice_chr(slice_from(*fields, end), '\n');

		end = lf < 0 ? fields->n : end + (size_t)lf + 1;
	} while (end < fields->n && is_wsp(fields->p[end]));
	ret->raw = slice_sub(*fields, 0, end);
	ret->name = slice_sub(ret->raw, 0, name_length(ret->raw, &colon));
	ret->value = slice_from(ret->raw, ret->name.n ? colon + 1 : 0);
	while (ret->value.n &&
	       (ret->value.p[ret->value.n - 1] == '\n' || ret->value.p[ret->value.n - 1] == '\r'))
		ret->value.n--;
	*fields = slice_from(*fields, end);
	return true;
}

void mail_header_unfold(struct slice value, struct buf *b)
{
	size_t i;

	value = slice_trim(value);
	for (i = 0; i < value.n; i++)
		if (value.p[i] != '\r' && value.p[i] != '\n')
			buf_add_char(b, value.p[i]);
}

void mail_received_add(struct buf *b, const struct mail_received *r)
{
	char date[CLOCK_TEXT_MAX];

	clock_rfc5322(r->when, date);
	buf_add_str(b, "Received: ");
	if (r->helo && r->ip)
		buf_addf(b, "from %s ([%s])\r\n\t", r->helo, r->ip);
	buf_addf(b, "by %s (Sluice)", r->by);
	if (r->with)
		buf_addf(b, " with %s", r->with);
	if (r->id)
		buf_addf(b, " id %s", r->id);
	if (r->rcpt)
		buf_addf(b, "\r\n\tfor <%s>", r->rcpt);
	buf_addf(b, ";\r\n\t%s\r\n", date);
}

void mail_date_add(struct buf *b, msec_t when)
{
	char date[CLOCK_TEXT_MAX];

	clock_rfc5322(when, date);
	buf_addf(b, "Date: %s\r\n", date);
}

void mail_message_id_add(struct buf *b, uint64_t id, uint64_t random, const char *host)
{
	buf_addf(b, "Message-ID: <%llx.%llx@%s>\r\n", (unsigned long long)id,
		 (unsigned long long)random, host);
}
