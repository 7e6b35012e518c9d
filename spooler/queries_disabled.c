/* queries_disabled.c - show disabled sources: those that replies have disabled, and those of operators. */
#include <stdlib.h>

#include "common/base/xalloc.h"
#include "spooler/queries_private.h"

#define CHUNK 500 /* rows in one read transaction */

static json_t *time_or_null(msec_t t)
{
	return t ? json_integer((json_int_t)t) : json_null();
}

static json_t *text_of(struct slice s)
{
	json_t *t = json_stringn(s.p ? s.p : "", s.n);

	return t ? t : json_string("?");
}

static void add_row(json_t *rows, struct slice queue, const struct site_disabled *x,
		    struct slice by)
{
	char ip[IP_TEXT_MAX];

	json_array_append_new(rows, json_pack("{s:s, s:o, s:I, s:o, s:o, s:o}", "source",
					      ip_text(&x->ip, ip), "queue", text_of(queue), "since",
					      (json_int_t)x->since, "until", time_or_null(x->until),
					      "by", text_of(by), "reason", text_of(x->why)));
}

/* An operator's stays until its time has passed or it is taken back. */
static void add_orders(json_t *rows, struct spool_read *r, msec_t now)
{
	struct site_disabled x;
	struct order o;
	uint64_t after = 0;

	while (spool_order_next(r, &after, &o) > 0) {
		if (o.kind != ORDER_DISABLE_SOURCE || (o.until && o.until <= now))
			continue;
		x = (struct site_disabled){
			.ip = o.source, .since = o.created, .until = o.until, .why = o.reason};
		add_row(rows, o.filter.queue, &x, o.who);
	}
}

static void add_site(json_t *rows, struct slice name, const struct spool_vmta *v,
		     const struct spool_site *site, struct slice pattern, msec_t now)
{
	struct slice list = site->mode.disabled;
	struct site_disabled x;
	char *queue = xasprintf("%.*s/%.*s", SLICE_ARG(name), SLICE_ARG(v->name));

	while (site_disabled_next(&list, &x))
		if ((!x.until || x.until > now) &&
		    (!pattern.n || order_pattern_match(pattern, slice_str(queue))))
			add_row(rows, slice_str(queue), &x, slice_str("reply"));
	free(queue);
}

/* Sites of one virtual MTA, a few in each read transaction. False: the spool cannot be read. */
static bool add_vmta(struct query *y, json_t *rows, const struct spool_vmta *v,
		     struct slice pattern, msec_t now)
{
	char *after = xstrdup("");
	int more = 1;

	while (more > 0 && !atomic_load(&y->q->stop)) {
		struct spool_read *r;

		if (spool_read_begin(y->q->spool, &r) < 0)
			break;
		for (int i = 0; i < CHUNK && more > 0; i++) {
			struct spool_site site;
			struct slice name;

			more = spool_site_next(r, v->id, slice_str(after), &name, &site);
			if (more <= 0)
				break;
			if (site.mode.disabled.n)
				add_site(rows, name, v, &site, pattern, now);
			free(after);
			after = slice_dup(name);
		}
		spool_read_end(r);
	}
	free(after);
	return more <= 0;
}

/* The next virtual MTA; *ret_name, to be freed, is what ret->name points to. */
static bool next_vmta(struct query *y, uint32_t *id, struct spool_vmta *ret, char **ret_name)
{
	struct spool_read *r;
	bool more;

	if (spool_read_begin(y->q->spool, &r) < 0)
		return false;
	more = spool_vmta_next(r, id, ret) > 0;
	if (more) {
		*ret_name = slice_dup(ret->name);
		ret->name = slice_str(*ret_name);
	}
	spool_read_end(r);
	return more;
}

void query_disabled(struct query *y, const json_t *args)
{
	char *pattern = arg_pattern(args, "pattern"), *name;
	json_t *rows = json_array();
	struct spool_vmta v;
	struct spool_read *r;
	uint32_t id = 0;
	bool ok = spool_read_begin(y->q->spool, &r) == 0;
	size_t i;

	if (ok) {
		add_orders(rows, r, clock_wall());
		spool_read_end(r);
	}
	while (ok && next_vmta(y, &id, &v, &name)) {
		ok = add_vmta(y, rows, &v, slice_str(pattern), clock_wall());
		free(name);
	}
	if (!ok)
		query_fail(y, "the spool cannot be read now: try again in a moment");
	for (i = 0; ok && i < json_array_size(rows); i++)
		query_data(y, json_incref(json_array_get(rows, i)));
	if (ok)
		query_succeed(y);
	json_decref(rows);
	free(pattern);
}
