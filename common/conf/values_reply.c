/* Lines of [smtp-pattern-list] and [bounce-category-patterns], and the names of lists. */
#include <string.h>

#include "common/base/regex.h"
#include "common/conf/private.h"
#include "common/conf/replies.h"
#include "common/conf/values.h"

/* --- the regex in front --- */

/* Takes "/…/" from the front of *s. `pattern` is what stands between the slashes. */
static struct regex *take_regex(struct conf_value_ctx *c, struct slice *s, const char **ret_pattern)
{
	size_t n = conf_regex_length(*s);
	struct buf why = BUF_INIT;
	struct slice text;
	struct regex *r;

	if (s->n == 0 || s->p[0] != '/' || n < 2 || s->p[n - 1] != '/' ||
	    (n == s->n && s->p[n - 2] == '\\')) {
		buf_addf(c->why, "'%.*s' does not begin with a regex between slashes: write /…/ %s",
			 SLICE_ARG(*s), c->directive->type == CONF_REPLIES ? "ACTION" : "CATEGORY");
		return NULL;
	}
	text = slice_sub(*s, 1, n - 2);
	r = text.n ? regex_new(text, &why) : NULL;
	if (!text.n)
		buf_add_str(c->why, "an empty regex would match everything: write /./ if that is "
				    "meant");
	else if (!r)
		buf_addf(c->why, "/%.*s/ is not a regex: %s", SLICE_ARG(text), buf_cstr(&why));
	buf_done(&why);
	if (!r)
		return NULL;
	conf_ptrs_add(&c->conf->regexes, r);
	*ret_pattern = arena_dup(c->arena, text);
	*s = slice_trim(slice_from(*s, n));
	return r;
}

/* --- actions --- */

/* Another action of the same kind is there already. */
static bool twice(struct conf_value_ctx *c, const char *a, const char *b)
{
	buf_addf(c->why,
		 strcmp(a, b) == 0 ? "%s stands there twice" : "%s and %s exclude each other", a,
		 b);
	return false;
}

static bool mode_name(const struct conf_reply *r, const char **ret)
{
	*ret = r->mode == CONF_REPLY_BACKOFF ? "mode=backoff" : "mode=normal";
	return r->mode != CONF_REPLY_MODE_NONE;
}

static bool take_mode(struct conf_value_ctx *c, struct conf_reply *r, struct slice value)
{
	const char *old, *now;
	enum conf_reply_mode mode;

	if (slice_ieq_str(value, "backoff"))
		mode = CONF_REPLY_BACKOFF;
	else if (slice_ieq_str(value, "normal"))
		mode = CONF_REPLY_NORMAL;
	else {
		buf_addf(c->why, "mode=%.*s: write mode=normal or mode=backoff", SLICE_ARG(value));
		return false;
	}
	if (mode_name(r, &old)) {
		now = mode == CONF_REPLY_BACKOFF ? "mode=backoff" : "mode=normal";
		return twice(c, old, now);
	}
	r->mode = mode;
	return true;
}

/* A time of at least a second; never, where that makes sense. */
static bool take_time(struct conf_value_ctx *c, const char *name, struct slice value, bool never,
		      usec_t *to)
{
	usec_t t;

	if (*to)
		return twice(c, name, name);
	if (never && slice_ieq_str(value, "never")) {
		*to = USEC_INFINITY;
		return true;
	}
	if (!conf_parse_time(value, &t) || t < CONF_SEC || t > CONF_YEAR) {
		buf_addf(c->why, "%s=%.*s: write a time from 1s to 365d%s", name, SLICE_ARG(value),
			 never ? ", or never" : "");
		return false;
	}
	*to = t;
	return true;
}

static bool take_reroute(struct conf_value_ctx *c, struct conf_reply *r, struct slice value)
{
	const struct conf_section *s;

	if (r->reroute)
		return twice(c, "reroute", "reroute");
	s = conf_section_find(c->conf, CONF_SCOPE_VMTA, value);
	if (!s)
		s = conf_section_find(c->conf, CONF_SCOPE_POOL, value);
	if (!s) {
		buf_addf(c->why, "reroute: unknown virtual MTA or pool %.*s", SLICE_ARG(value));
		return false;
	}
	r->reroute = s->name;
	return true;
}

static bool take_disposition(struct conf_value_ctx *c, struct conf_reply *r,
			     enum conf_disposition d)
{
	if (r->disposition)
		return twice(c, conf_disposition_name(r->disposition), conf_disposition_name(d));
	r->disposition = d;
	return true;
}

enum action_name {
	ACTION_MODE,
	ACTION_TO_NORMAL,
	ACTION_SKIP,
	ACTION_BOUNCE_QUEUE,
	ACTION_BOUNCE_RCPT,
	ACTION_RETRY_RCPT,
	ACTION_DEFER,
	ACTION_DISABLE,
	ACTION_REENABLE,
	ACTION_REROUTE,
	ACTION_COUNT
};

static const struct {
	const char *name;
	enum { VALUE_NONE, VALUE_MAYBE, VALUE_NEEDED } value;
	enum conf_disposition disposition;
} actions[ACTION_COUNT] = {
	[ACTION_MODE] = {"mode", VALUE_NEEDED, CONF_DISPOSITION_NONE},
	[ACTION_TO_NORMAL] = {"backoff-to-normal-after", VALUE_NEEDED, CONF_DISPOSITION_NONE},
	[ACTION_SKIP] = {"skip-mx", VALUE_NONE, CONF_SKIP_MX},
	[ACTION_BOUNCE_QUEUE] = {"bounce-queue", VALUE_NONE, CONF_BOUNCE_QUEUE},
	[ACTION_BOUNCE_RCPT] = {"bounce-rcpt", VALUE_NONE, CONF_BOUNCE_RCPT},
	[ACTION_RETRY_RCPT] = {"retry-rcpt", VALUE_NONE, CONF_RETRY_RCPT},
	[ACTION_DEFER] = {"defer-queue", VALUE_MAYBE, CONF_DEFER_QUEUE},
	[ACTION_DISABLE] = {"disable-source-ip", VALUE_NONE, CONF_DISPOSITION_NONE},
	[ACTION_REENABLE] = {"reenable-after", VALUE_NEEDED, CONF_DISPOSITION_NONE},
	[ACTION_REROUTE] = {"reroute", VALUE_NEEDED, CONF_DISPOSITION_NONE},
};

const char *conf_disposition_name(enum conf_disposition d)
{
	for (size_t i = 0; d && i < ACTION_COUNT; i++)
		if (actions[i].disposition == d)
			return actions[i].name;
	return "";
}

static bool do_action(struct conf_value_ctx *c, struct conf_reply *r, enum action_name a,
		      struct slice value)
{
	switch (a) {
	case ACTION_MODE:
		return take_mode(c, r, value);
	case ACTION_TO_NORMAL:
		return take_time(c, actions[a].name, value, true, &r->to_normal_after);
	case ACTION_DISABLE:
		if (r->disable_source)
			return twice(c, actions[a].name, actions[a].name);
		r->disable_source = true;
		return true;
	case ACTION_REENABLE:
		return take_time(c, actions[a].name, value, true, &r->reenable_after);
	case ACTION_REROUTE:
		return take_reroute(c, r, value);
	case ACTION_DEFER:
		if (value.p && !take_time(c, actions[a].name, value, false, &r->defer))
			return false;
		break;
	case ACTION_SKIP:
	case ACTION_BOUNCE_QUEUE:
	case ACTION_BOUNCE_RCPT:
	case ACTION_RETRY_RCPT:
	case ACTION_COUNT:
		break;
	}
	return take_disposition(c, r, actions[a].disposition);
}

static bool take_action(struct conf_value_ctx *c, struct conf_reply *r, struct slice word)
{
	ptrdiff_t eq = slice_chr(word, '=');
	struct slice name = eq < 0 ? word : slice_sub(word, 0, (size_t)eq);
	struct slice value = eq < 0 ? slice_of(NULL, 0) : slice_from(word, (size_t)eq + 1);
	size_t a = 0;

	while (a < ACTION_COUNT && !slice_ieq_str(name, actions[a].name))
		a++;
	if (a == ACTION_COUNT) {
		buf_addf(c->why, "'%.*s' is not an action:", SLICE_ARG(word));
		for (a = 0; a < ACTION_COUNT; a++)
			buf_addf(c->why, "%s %s", a ? "," : "", actions[a].name);
		buf_add_str(c->why, " (a '/' inside the regex is written \\/)");
		return false;
	}
	if (eq < 0 ? actions[a].value == VALUE_NEEDED : actions[a].value == VALUE_NONE) {
		buf_addf(c->why, eq < 0 ? "%s needs a value: %s=…" : "%s takes no value",
			 actions[a].name, actions[a].name);
		return false;
	}
	return do_action(c, r, (enum action_name)a, value);
}

/* What only all actions of a line together show. */
static bool check_actions(struct conf_value_ctx *c, const struct conf_reply *r)
{
	if (r->to_normal_after && r->mode != CONF_REPLY_BACKOFF)
		buf_add_str(c->why, "backoff-to-normal-after without mode=backoff");
	else if (r->reenable_after && !r->disable_source)
		buf_add_str(c->why, "reenable-after without disable-source-ip");
	else if (!r->mode && !r->disposition && !r->disable_source && !r->reroute)
		buf_add_str(c->why, "no action behind the regex");
	else
		return true;
	return false;
}

/* Actions are separated by commas, white space or both. */
static bool take_actions(struct conf_value_ctx *c, struct conf_reply *r, struct slice s)
{
	bool comma = true;

	for (;;) {
		size_t n = 0;

		while (s.n && (s.p[0] == ' ' || s.p[0] == '\t' || s.p[0] == ',')) {
			if (s.p[0] == ',' && comma) {
				buf_add_str(c->why, "an action is missing before a comma");
				return false;
			}
			comma |= s.p[0] == ',';
			s = slice_from(s, 1);
		}
		while (n < s.n && s.p[n] != ' ' && s.p[n] != '\t' && s.p[n] != ',')
			n++;
		if (n == 0)
			return check_actions(c, r);
		if (!take_action(c, r, slice_sub(s, 0, n)))
			return false;
		comma = false;
		s = slice_from(s, n);
	}
}

bool conf_value_replies(struct conf_value_ctx *c, struct slice s, const void *prev, void *ret)
{
	const struct conf_replies *old = prev;
	struct conf_reply r = {.list = c->section->name, .at = c->at}, *v;
	size_t n = old ? old->n : 0;

	r.regex = take_regex(c, &s, &r.pattern);
	if (!r.regex || !take_actions(c, &r, s))
		return false;
	r.actions = arena_dup(c->arena, s);
	v = arena_grow(c->arena, old ? old->v : NULL, n, 1, sizeof(*v));
	v[n] = r;
	*(struct conf_replies *)ret = (struct conf_replies){v, n + 1};
	return true;
}

/* --- names of lists --- */

bool conf_value_pattern_lists(struct conf_value_ctx *c, struct slice s, const void *prev, void *ret)
{
	const struct conf_pattern_list **v =
		arena_alloc(c->arena, (s.n + 1) * sizeof(struct conf_pattern_list *));
	struct slice part;
	size_t n = 0;

	(void)prev;
	while (conf_list_next(&s, ',', &part)) {
		const struct conf_section *l;

		if (part.n == 0 && !s.p && n)
			break;
		l = conf_section_find(c->conf, CONF_SCOPE_PATTERN_LIST, part);
		if (!l) {
			buf_addf(c->why,
				 "unknown list '%.*s': there is no [smtp-pattern-list %.*s]",
				 SLICE_ARG(part), SLICE_ARG(part));
			return false;
		}
		v[n++] = l->pattern_list;
	}
	*(struct conf_pattern_lists *)ret = (struct conf_pattern_lists){v, n};
	return true;
}

/* --- categories --- */

static bool is_category(struct slice s)
{
	for (size_t i = 0; i < s.n; i++) {
		char ch = ascii_lower(s.p[i]);

		if (!((ch >= 'a' && ch <= 'z') || (ch >= '0' && ch <= '9') || ch == '-' ||
		      ch == '_'))
			return false;
	}
	return s.n > 0 && s.n <= 64;
}

bool conf_value_categories(struct conf_value_ctx *c, struct slice s, const void *prev, void *ret)
{
	const struct conf_categories *old = prev;
	struct conf_category x = {.at = c->at}, *v;
	size_t n = old ? old->n : 0;

	x.regex = take_regex(c, &s, &x.pattern);
	if (!x.regex)
		return false;
	if (!is_category(s)) {
		buf_addf(c->why,
			 "'%.*s' behind the regex is not a category: letters, digits, '-' and '_' "
			 "(a '/' inside the regex is written \\/)",
			 SLICE_ARG(s));
		return false;
	}
	x.category = arena_dup_lower(c->arena, s);
	v = arena_grow(c->arena, old ? old->v : NULL, n, 1, sizeof(*v));
	v[n] = x;
	*(struct conf_categories *)ret = (struct conf_categories){v, n + 1};
	return true;
}
