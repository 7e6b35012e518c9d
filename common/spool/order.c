#include "common/spool/order.h"

#include "common/base/buf.h"

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

static bool name_match(struct slice pattern, struct slice name, struct slice vmta)
{
	struct buf b = BUF_INIT;
	bool yes;

	buf_addf(&b, "%.*s/%.*s", SLICE_ARG(name), SLICE_ARG(vmta));
	yes = order_pattern_match(pattern, buf_slice(&b));
	buf_done(&b);
	return yes;
}

bool order_queue_match(struct slice pattern, const struct order_queue *q)
{
	return name_match(pattern, q->domain, q->vmta) ||
	       (q->provider.n && name_match(pattern, q->provider, q->vmta));
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

bool order_filter_match_queue(const struct order_filter *f, const struct order_queue *q,
			      struct slice job, struct slice sender, struct slice rcpt,
			      struct slice envid, msec_t received)
{
	struct order_filter rest = *f;

	rest.queue = slice_of("", 0);
	return (f->queue.n == 0 || order_queue_match(f->queue, q)) &&
	       order_filter_match(&rest, rest.queue, job, sender, rcpt, envid, received);
}
