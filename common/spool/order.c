#include "common/spool/order.h"

/* Linear: on a mismatch only the last '*' can take more. */
bool order_pattern_match(struct slice pattern, struct slice text)
{
	size_t p = 0, t = 0, star = SIZE_MAX, mark = 0;

	while (t < text.n) {
		if (p < pattern.n && pattern.p[p] == '*') {
			star = p++;
			mark = t;
		} else if (p < pattern.n && (pattern.p[p] == '?' ||
					     ascii_lower(pattern.p[p]) == ascii_lower(text.p[t]))) {
			p++;
			t++;
		} else if (star != SIZE_MAX) {
			p = star + 1;
			t = ++mark;
		} else {
			return false;
		}
	}
	while (p < pattern.n && pattern.p[p] == '*')
		p++;
	return p == pattern.n;
}

static bool field_match(struct slice pattern, struct slice text)
{
	return pattern.n == 0 || order_pattern_match(pattern, text);
}

bool order_filter_match(const struct order_filter *f, struct slice queue, struct slice job,
			struct slice sender, struct slice rcpt, struct slice envid, msec_t received)
{
	return field_match(f->queue, queue) && field_match(f->job, job) &&
	       field_match(f->sender, sender) && field_match(f->rcpt, rcpt) &&
	       field_match(f->envid, envid) &&
	       (f->received_before == 0 || received < f->received_before);
}
