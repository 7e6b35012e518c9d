#include "worker/mode.h"

#include <stdlib.h>

#include "common/base/log.h"
#include "common/base/xalloc.h"
#include "worker/context.h"
#include "worker/events.h"
#include "worker/resume.h"
#include "worker/site.h"

struct mode {
	bool backoff;
	msec_t since; /* wall */
	msec_t until; /* wall; back to normal then, 0 = not by time */
	char *why;
};

bool mode_is_backoff(const struct site *s)
{
	return s->mode && s->mode->backoff;
}

static struct mode *mode_of(struct site *s)
{
	if (!s->mode)
		s->mode = xcalloc(1, sizeof(*s->mode));
	return s->mode;
}

void mode_free(struct site *s)
{
	if (!s->mode)
		return;
	free(s->mode->why);
	free(s->mode);
	s->mode = NULL;
}

static void mode_change(struct site *s, bool backoff, const char *why)
{
	struct mode *m = s->mode;
	const char *name = backoff ? "backoff" : "normal";

	m->backoff = backoff;
	m->since = loop_wall(s->w->loop);
	log_info(NULL, "mode of a site has changed", LOG_S("queue", s->label), LOG_S("mode", name),
		 LOG_S("why", why));
	events_add(s->w, &s->events, "mode is %s: %s", name, why);
}

void mode_enter_backoff(struct site *s, const char *why, const struct site_place *at,
			usec_t to_normal_after)
{
	struct mode *m = mode_of(s);
	bool timed = to_normal_after && to_normal_after != USEC_INFINITY;

	(void)at;
	free(m->why);
	m->why = xstrdup(why);
	m->until = timed ? loop_wall(s->w->loop) + to_normal_after / USEC_PER_MSEC : 0;
	if (!m->backoff)
		mode_change(s, true, why);
}

void mode_go_normal(struct site *s, const char *why)
{
	if (!mode_is_backoff(s))
		return;
	s->mode->until = 0;
	mode_change(s, false, why);
	site_kick(s);
}

void mode_tick(struct site *s)
{
	if (mode_is_backoff(s) && s->mode->until && s->mode->until <= loop_wall(s->w->loop))
		mode_go_normal(s, "its time in back-off has passed");
}

uint64_t mode_max_smtp_out(const struct site *s)
{
	return resume_share(s, s->set->max_smtp_out);
}

const struct conf_times *mode_retry_after(const struct site *s)
{
	return &s->set->retry_after;
}

struct conf_rate mode_msg_rate(const struct site *s)
{
	return s->set->max_msg_rate;
}

struct conf_rate mode_connect_rate(const struct site *s)
{
	return s->set->max_connect_rate;
}

struct conf_rate mode_data_rate(const struct site *s)
{
	return s->set->max_data_volume_rate;
}
