/* The replies and failures that a site remembers for `show queue`. */
#include <stdlib.h>
#include <string.h>

#include "common/base/xalloc.h"
#include "common/conf/conf.h"
#include "worker/context.h"
#include "worker/events.h"
#include "worker/site.h"

static void reply_forget(struct site_reply *r)
{
	free(r->text);
	free(r->pattern);
}

void site_notes_free(struct site *s)
{
	for (uint32_t i = 0; i < s->reply_count; i++)
		reply_forget(&s->replies[i]);
	free(s->replies);
}

static void drop_oldest_reply(struct site *s)
{
	struct site_reply gone;
	uint32_t oldest = 0;

	for (uint32_t i = 1; i < s->reply_count; i++)
		if (s->replies[i].last < s->replies[oldest].last)
			oldest = i;
	gone = s->replies[oldest];
	s->reply_count--;
	memmove(&s->replies[oldest], &s->replies[oldest + 1],
		(s->reply_count - oldest) * sizeof(gone));
	reply_forget(&gone);
}

/* The entry of this text, in place of the oldest if it is new; NULL when none are to be kept. */
static struct site_reply *reply_of(struct site *s, const struct outcome *o)
{
	struct site_reply *r = NULL;

	for (uint32_t i = 0; i < s->reply_count && !r; i++)
		if (strcmp(s->replies[i].text, o->text) == 0)
			r = &s->replies[i];
	if (!r && s->set->max_events_recorded == 0)
		return NULL;
	while (!r && s->reply_count >= s->set->max_events_recorded)
		drop_oldest_reply(s);
	if (!r) {
		s->replies = xreallocarray(s->replies, s->reply_count + 1, sizeof(*s->replies));
		r = &s->replies[s->reply_count++];
		*r = (struct site_reply){.text = xstrdup(o->text)};
	}
	r->last = loop_wall(s->w->loop);
	return r;
}

void site_note(struct site *s, const struct outcome *o)
{
	struct site_reply *r = reply_of(s, o);

	if (r)
		r->count++;
}

void site_note_pattern(struct site *s, const struct outcome *o, const char *pattern)
{
	struct site_reply *r = reply_of(s, o);

	if (!r || (r->pattern && strcmp(r->pattern, pattern) == 0))
		return;
	free(r->pattern);
	r->pattern = xstrdup(pattern);
	events_add(s->w, &s->events, "%s matches %s", o->text, pattern);
}
