#include "common/mail/scan.h"

#include <string.h>

/* Positions of the next CR and LF; end where there is none. Looked up anew only when passed. */
struct ends {
	const char *cr, *lf, *end;
};

static const char *next_of(const char *known, const char *from, const char *end, int c)
{
	if (known && known >= from)
		return known;
	known = from < end ? memchr(from, c, (size_t)(end - from)) : NULL;
	return known ? known : end;
}

static void set_fault(struct mail_scan *s, enum mail_fault fault)
{
	if (s->fault)
		return;
	s->fault = fault;
	s->fault_line = s->line + 1;
}

/* The octets up to `to` belong to the present line. */
static void extend(struct mail_scan *s, const char **p, const char *to)
{
	size_t n = (size_t)(to - *p), length = s->length + n;

	*p = to;
	s->length = length > UINT32_MAX / 2 ? UINT32_MAX / 2 : (uint32_t)length;
	if (s->length > MAIL_LINE_MAX + (s->dotted ? 1U : 0U))
		set_fault(s, MAIL_FAULT_LONG_LINE);
}

static void finish_line(struct mail_scan *s)
{
	s->line++;
	s->length = 0;
	s->cr = s->dotted = false;
}

/*
 * Goes on in the present line from p; returns the place behind its CRLF, or the end. Every octet is
 * looked at a bounded number of times, whatever CRs and LFs there are.
 */
static const char *scan_line(struct mail_scan *s, const char *p, struct ends *e)
{
	if (s->length == 0 && p < e->end)
		s->dotted = *p == '.';
	while (p < e->end) {
		if (s->cr) {
			s->cr = false;
			if (*p == '\n') {
				extend(s, &p, p + 1);
				finish_line(s);
				return p;
			}
			set_fault(s, MAIL_FAULT_BARE_CR);
		}
		e->lf = next_of(e->lf, p, e->end, '\n');
		if (!e->cr || e->cr < p)
			e->cr = next_of(NULL, p, e->lf, '\r');
		if (e->cr < e->lf) {
			s->cr = true;
			extend(s, &p, e->cr + 1);
		} else if (e->lf < e->end) {
			set_fault(s, MAIL_FAULT_BARE_LF);
			extend(s, &p, e->lf + 1);
		} else {
			extend(s, &p, e->end);
		}
	}
	return p;
}

size_t mail_scan_data(struct mail_scan *s, struct slice in, bool *ret_end, size_t *ret_skip)
{
	struct ends e = {NULL, NULL, in.p + in.n};
	const char *p = in.p;

	*ret_end = false;
	*ret_skip = 0;
	while (p < e.end) {
		if (s->length == 0 && *p == '.') {
			size_t left = (size_t)(e.end - p);

			if (left < 3 && memcmp(p, ".\r", left) == 0)
				break;
			if (left >= 3 && p[1] == '\r' && p[2] == '\n') {
				*ret_end = true;
				*ret_skip = 3;
				break;
			}
		}
		p = scan_line(s, p, &e);
	}
	return (size_t)(p - in.p);
}

void mail_scan_chunk(struct mail_scan *s, struct slice in, struct buf *out)
{
	struct ends e = {NULL, NULL, in.p + in.n};
	const char *p = in.p, *run = in.p;

	while (p < e.end) {
		if (s->length == 0 && *p == '.' && out) {
			buf_add(out, run, (size_t)(p - run));
			buf_add_char(out, '.');
			run = p;
			/* The stuffed dot counts as in DATA, so that the same limit holds. */
			s->length = 1;
			s->dotted = true;
		}
		p = scan_line(s, p, &e);
	}
	if (out)
		buf_add(out, run, (size_t)(p - run));
}

void mail_scan_chunk_end(struct mail_scan *s, struct buf *out)
{
	if (s->length == 0)
		return;
	if (s->cr)
		set_fault(s, MAIL_FAULT_BARE_CR);
	finish_line(s);
	if (out)
		buf_add_str(out, "\r\n");
}
