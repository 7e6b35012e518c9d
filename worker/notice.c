#include "worker/notice.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/buf.h"
#include "common/base/xalloc.h"
#include "common/conf/conf.h"
#include "worker/context.h"
#include "worker/post.h"
#include "worker/site.h"

#define NOTICE_EVERY (15 * 60 * USEC_PER_SEC)
#define NOTICE_LINES 20 /* in one mail; what is more is counted */

struct notice_list {
	struct buf lines;
	unsigned count; /* of lines, also of those that are left out */
	usec_t sent; /* loop_now() */
	bool ever;
	size_t told; /* addresses that have this mail */
};

struct notices {
	struct notice_list of[NOTICE_KINDS];
};

static const struct conf_strings *addresses(const struct site *s, enum notice_kind kind)
{
	return kind == NOTICE_MODE ? &s->set->backoff_notify : &s->set->disabled_source_ip_notify;
}

static const char *const subjects[NOTICE_KINDS] = {
	[NOTICE_MODE] = "back-off of",
	[NOTICE_SOURCE] = "source addresses of",
};

void notice_add(struct site *s, enum notice_kind kind, const char *fmt, ...)
{
	char when[CLOCK_TEXT_MAX], line[400];
	struct notice_list *l;
	va_list ap;

	if (addresses(s, kind)->n == 0)
		return;
	if (!s->notices)
		s->notices = xcalloc(1, sizeof(*s->notices));
	l = &s->notices->of[kind];
	if (l->count++ < NOTICE_LINES) {
		va_start(ap, fmt);
		vsnprintf(line, sizeof(line), fmt, ap);
		va_end(ap);
		clock_iso(loop_wall(s->w->loop), when);
		buf_addf(&l->lines, "%s  %s\n", when, line);
	}
	notice_tick(s, false);
}

static void tell(struct site *s, enum notice_kind kind, struct notice_list *l)
{
	const struct conf_strings *to = addresses(s, kind);
	char subject[400];
	struct report_notice r = {.when = loop_wall(s->w->loop)};

	if (to->n == 0) { /* a reload */
		buf_clear(&l->lines);
		l->count = 0;
		return;
	}
	snprintf(subject, sizeof(subject), "%s %s", subjects[kind], s->label);
	r.subject = slice_str(subject);
	r.text = buf_slice(&l->lines);
	r.left_out = l->count > NOTICE_LINES ? l->count - NOTICE_LINES : 0;
	while (l->told < to->n) {
		r.to = slice_str(to->v[l->told]);
		if (!post_notice(s->w->post, &r))
			return; /* no room: the rest with the next tick */
		l->told++;
	}
	l->told = 0;
	buf_clear(&l->lines);
	l->count = 0;
	l->sent = loop_now(s->w->loop);
	l->ever = true;
}

static bool is_quiet(const struct site *s, const struct notice_list *l)
{
	return !l->ever || loop_now(s->w->loop) - l->sent >= NOTICE_EVERY;
}

void notice_tick(struct site *s, bool all)
{
	for (int k = 0; s->notices && k < NOTICE_KINDS; k++) {
		struct notice_list *l = &s->notices->of[k];

		if (l->count && (all || is_quiet(s, l)))
			tell(s, (enum notice_kind)k, l);
	}
}

bool notice_pending(const struct site *s)
{
	for (int k = 0; s->notices && k < NOTICE_KINDS; k++)
		if (s->notices->of[k].count || !is_quiet(s, &s->notices->of[k]))
			return true;
	return false;
}

void notice_free(struct site *s)
{
	if (!s->notices)
		return;
	for (int k = 0; k < NOTICE_KINDS; k++)
		buf_done(&s->notices->of[k].lines);
	free(s->notices);
	s->notices = NULL;
}
