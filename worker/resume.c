#include "worker/resume.h"

#include <stdlib.h>

#include "common/base/rng.h"
#include "common/base/xalloc.h"
#include "common/spool/order.h"
#include "worker/context.h"
#include "worker/site.h"

#define KEPT 32 /* orders; the oldest is forgotten */
#define AT_ONCE 100 /* queues of an order that begin at once */

struct resumes {
	struct {
		char *pattern; /* NULL: none */
		usec_t at;
	} v[KEPT];
	size_t next;
};

struct resumes *resumes_new(void)
{
	return xcalloc(1, sizeof(struct resumes));
}

void resumes_free(struct resumes *r)
{
	for (size_t i = 0; r && i < KEPT; i++)
		free(r->v[i].pattern);
	free(r);
}

void resume_note(struct worker *w, struct slice pattern)
{
	struct resumes *r = w->resumes;
	size_t i = r->next++ % KEPT;

	free(r->v[i].pattern);
	r->v[i].pattern = slice_dup(pattern);
	r->v[i].at = loop_now(w->loop);
}

static usec_t ramp(const struct worker *w)
{
	return conf_global(w->conf)->resume_ramp;
}

usec_t resume_time(const struct worker *w, struct slice queue)
{
	const struct resumes *r = w->resumes;
	usec_t now = loop_now(w->loop), last = 0;

	for (size_t i = 0; i < KEPT; i++)
		if (r->v[i].pattern && r->v[i].at > last && now - r->v[i].at < ramp(w) &&
		    order_pattern_match(slice_str(r->v[i].pattern), queue))
			last = r->v[i].at;
	return last;
}

usec_t resume_until(const struct site *s, uint64_t most)
{
	usec_t until;

	if (!s->resumed || most <= 1)
		return 0;
	until = s->resumed + ramp(s->w);
	return loop_now(s->w->loop) < until ? until : 0;
}

uint64_t resume_share(const struct site *s, uint64_t most)
{
	usec_t passed = loop_now(s->w->loop) - s->resumed;

	if (!resume_until(s, most))
		return most;
	return 1 + (most - 1) * passed / ramp(s->w);
}

msec_t resume_begin(const struct worker *w, uint32_t n)
{
	msec_t span = ramp(w) / USEC_PER_MSEC;

	if (n < AT_ONCE || span == 0)
		return 0;
	return loop_wall(w->loop) + rng_below((uint32_t)span);
}
