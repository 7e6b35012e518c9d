#include "worker/events.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/xalloc.h"
#include "worker/context.h"

#define EVENTS_MAX 50
#define EVENTS_FEW 4 /* of a site, once the worker remembers this many: */
#define EVENTS_ALL 20000
#define EVENT_TEXT 201

struct events {
	uint32_t count, room;
	struct event v[]; /* the oldest first */
};

static void drop_oldest(struct worker *w, struct events *e)
{
	free(e->v[0].text);
	e->count--;
	w->event_count--;
	memmove(&e->v[0], &e->v[1], e->count * sizeof(e->v[0]));
}

static struct events *make_room(struct worker *w, struct events *e)
{
	uint32_t most = w->event_count < EVENTS_ALL ? EVENTS_MAX : EVENTS_FEW, room;

	while (e && e->count >= most)
		drop_oldest(w, e);
	if (e && e->count < e->room)
		return e;
	room = e ? 2 * e->room : EVENTS_FEW;
	room = room < EVENTS_MAX ? room : EVENTS_MAX;
	if (!e)
		e = xcalloc(1, sizeof(*e) + room * sizeof(e->v[0]));
	else
		e = xrealloc(e, sizeof(*e) + room * sizeof(e->v[0]));
	e->room = room;
	return e;
}

void events_add(struct worker *w, struct events **events, const char *fmt, ...)
{
	struct events *e = *events;
	char text[EVENT_TEXT];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (e && e->count && strcmp(e->v[e->count - 1].text, text) == 0) {
		e->v[e->count - 1].count++;
		e->v[e->count - 1].at = loop_wall(w->loop);
		return;
	}
	e = make_room(w, e);
	e->v[e->count++] =
		(struct event){.at = loop_wall(w->loop), .count = 1, .text = xstrdup(text)};
	w->event_count++;
	*events = e;
}

void events_free(struct worker *w, struct events **events)
{
	struct events *e = *events;

	while (e && e->count)
		drop_oldest(w, e);
	free(e);
	*events = NULL;
}

size_t events_count(const struct events *e)
{
	return e ? e->count : 0;
}

const struct event *events_at(const struct events *e, size_t i)
{
	return &e->v[i];
}
