#include "worker/hold.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/shm/limits.h"
#include "worker/context.h"
#include "worker/queue.h"
#include "worker/site.h"
#include "worker/trace.h"

static void set_all(struct site *s, const char *text, bool own)
{
	struct queue *q;

	SITE_EACH_QUEUE(q, s)
	queue_set_limited(q, slice_str(text), own);
	if (text[0])
		trace_held(s, text);
}

/* Behind the text, which may be cut for it. */
static void add_time(const struct site *s, usec_t opens, char *text)
{
	usec_t now = loop_now(s->w->loop);
	msec_t in = opens > now ? (opens - now) / USEC_PER_MSEC : 0;
	char when[CLOCK_TEXT_MAX], until[CLOCK_TEXT_MAX + 16];
	size_t n = strlen(text), room;

	clock_iso(loop_wall(s->w->loop) + in, when);
	snprintf(until, sizeof(until), ": until %s", when);
	room = SHM_QUEUE_TEXT - 1 - strlen(until);
	if (n > room)
		n = room;
	memcpy(text + n, until, strlen(until) + 1);
}

void hold_set(struct site *s, bool own, usec_t opens, const char *fmt, ...)
{
	char text[SHM_QUEUE_TEXT];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (opens && opens != USEC_INFINITY)
		add_time(s, opens, text);
	set_all(s, text, own);
}

void hold_by_cap(struct site *s, const struct limit_want *by)
{
	char text[SHM_QUEUE_TEXT];

	snprintf(text, sizeof(text), "limit %s%s%.*s (%u): until a connection that holds it closes",
		 limit_kind_name(by->kind), by->name.n ? " " : "",
		 (int)(by->name.n < 120 ? by->name.n : 120), by->name.p, by->cap);
	set_all(s, text, false);
}

void hold_clear(struct site *s)
{
	set_all(s, "", false);
}
