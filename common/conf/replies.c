#include "common/conf/replies.h"

#include "common/base/regex.h"
#include "common/conf/private.h"

/* What a match of one line needs to know. */
struct attempt {
	struct slice subject, raw;
	void (*gave_up)(const struct conf_reply *line);
};

/* Of a reply of one line both are the same. */
static struct attempt attempt_of(struct slice subject, struct slice raw,
				 void (*gave_up)(const struct conf_reply *line))
{
	return (struct attempt){subject, slice_eq(subject, raw) ? slice_str("") : raw, gave_up};
}

static bool try_regex(const struct conf_reply *line, struct slice s, const struct attempt *a)
{
	enum regex_result rc = regex_match(line->regex, s);

	if (rc == REGEX_GAVE_UP && a->gave_up)
		a->gave_up(line);
	return rc == REGEX_YES;
}

static bool line_matches(const struct conf_reply *line, const struct attempt *a)
{
	return try_regex(line, a->subject, a) || (a->raw.n && try_regex(line, a->raw, a));
}

enum conf_disposition conf_disposition_at(enum conf_disposition d, enum conf_reply_place place,
					  uint16_t code)
{
	if (d == CONF_BOUNCE_RCPT && (place != CONF_AT_RCPT || code < 400 || code >= 500))
		return CONF_DISPOSITION_NONE;
	return d == CONF_SKIP_MX && place == CONF_AT_NO_HOST ? CONF_DISPOSITION_NONE : d;
}

/* Does the line decide anything that is still open? */
static bool line_wanted(const struct conf_reply *line, const struct conf_reply_hits *h)
{
	return (line->mode && !h->mode) || (line->disposition && !h->disposition) ||
	       (line->disable_source && !h->source) || (line->reroute && !h->reroute);
}

static void line_hits(const struct conf_reply *line, struct conf_reply_hits *h)
{
	if (line->mode && !h->mode)
		h->mode = line;
	if (line->disposition && !h->disposition)
		h->disposition = line;
	if (line->disable_source && !h->source)
		h->source = line;
	if (line->reroute && !h->reroute)
		h->reroute = line;
}

bool conf_replies_match(const struct conf_pattern_lists *lists, struct slice subject,
			struct slice raw, void (*gave_up)(const struct conf_reply *line),
			struct conf_reply_hits *ret)
{
	const struct attempt a = attempt_of(subject, raw, gave_up);
	bool any = false;

	*ret = (struct conf_reply_hits){.mode = NULL};
	for (size_t i = 0; i < lists->n; i++) {
		const struct conf_replies *r = &lists->v[i]->replies;

		for (size_t j = 0; j < r->n; j++) {
			if (!line_wanted(&r->v[j], ret) || !line_matches(&r->v[j], &a))
				continue;
			line_hits(&r->v[j], ret);
			any = true;
		}
	}
	return any;
}

bool conf_replies_match_success(const struct conf_pattern_lists *lists, struct slice subject,
				struct slice raw, void (*gave_up)(const struct conf_reply *line),
				struct conf_reply_hits *ret)
{
	const struct attempt a = attempt_of(subject, raw, gave_up);

	*ret = (struct conf_reply_hits){.mode = NULL};
	for (size_t i = 0; i < lists->n && !ret->mode; i++) {
		const struct conf_replies *r = &lists->v[i]->replies;

		for (size_t j = 0; j < r->n && !ret->mode; j++)
			if (r->v[j].mode == CONF_REPLY_NORMAL && line_matches(&r->v[j], &a))
				ret->mode = &r->v[j];
	}
	return ret->mode != NULL;
}

const struct conf_category *conf_category_find(const struct conf *c, struct slice subject)
{
	for (size_t i = 0; i < c->categories.n; i++)
		if (regex_match(c->categories.v[i].regex, subject) == REGEX_YES)
			return &c->categories.v[i];
	return NULL;
}

size_t conf_category_count(const struct conf *c)
{
	return c->categories.n;
}

const struct conf_category *conf_category_at(const struct conf *c, size_t i)
{
	return &c->categories.v[i];
}

size_t conf_pattern_list_count(const struct conf *c)
{
	return c->pattern_lists.n;
}

const struct conf_pattern_list *conf_pattern_list_at(const struct conf *c, size_t i)
{
	const struct conf_section *s = c->pattern_lists.v[i];

	return s->pattern_list;
}
