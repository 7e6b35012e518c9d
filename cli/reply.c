/* check reply */
#include <stdlib.h>
#include <string.h>

#include "cli/groups.h"
#include "cli/place.h"
#include "cli/provider.h"
#include "cli/table.h"
#include "common/acct/status.h"
#include "common/conf/replies.h"
#include "common/smtp/reply.h"

static const struct {
	const char *name;
	enum conf_reply_place place;
	bool site; /* what is refused there is the connection, not mail */
} phases[] = {
	{"connect", CONF_AT_HOST, true},  {"dns", CONF_AT_NO_HOST, true},
	{"greeting", CONF_AT_HOST, true}, {"ehlo", CONF_AT_HOST, true},
	{"starttls", CONF_AT_HOST, true}, {"mail", CONF_AT_HOST, false},
	{"rcpt", CONF_AT_RCPT, false},	  {"data", CONF_AT_HOST, false},
	{"dot", CONF_AT_HOST, false},
};

/* A reply as the worker would see it. */
struct question {
	const struct conf *conf;
	struct provider provider; /* of the domain */
	const struct conf_domain *set;
	size_t phase;
	struct reply reply;
	struct slice subject, raw;
	uint16_t code; /* 0: our own text */
	struct conf_reply_hits hits;
	enum conf_disposition disposition; /* in effect */
};

static bool find_phase(const char *name, size_t *ret)
{
	for (size_t i = 0; i < ARRAY_SIZE(phases); i++)
		if (slice_ieq_str(slice_str(name), phases[i].name)) {
			*ret = i;
			return true;
		}
	return false;
}

/* "421-4.7.28 text" and several lines are taken as well; the last line ends the reply. */
static bool parse(struct question *q, const char *text)
{
	struct slice s = slice_trim(slice_str(text));
	ptrdiff_t last = slice_rchr(s, '\n');
	struct buf wire = BUF_INIT;
	size_t at = (size_t)(last + 1), used;
	bool ok;

	reply_init(&q->reply);
	if (slice_istarts(s, "local:")) {
		q->subject = s;
		q->raw = slice_str("");
		return true;
	}
	buf_add_slice(&wire, s);
	if (s.n > at + 3 && wire.p[at + 3] == '-')
		wire.p[at + 3] = ' ';
	buf_add_str(&wire, "\r\n");
	ok = reply_parse(&q->reply, buf_slice(&wire), &used) == 1;
	buf_done(&wire);
	if (!ok)
		return false;
	if (at == 0 && s.n > 3)
		q->reply.first.p[3] = s.p[3];
	q->code = q->reply.code;
	q->subject = buf_slice(&q->reply.text);
	q->raw = buf_slice(&q->reply.first);
	return true;
}

static void judge(struct question *q)
{
	const struct conf_pattern_lists *lists = &q->set->smtp_pattern_list;
	enum conf_disposition d;

	if (q->code && q->code < 400) {
		conf_replies_match_success(lists, q->subject, q->raw, NULL, &q->hits);
		return;
	}
	conf_replies_match(lists, q->subject, q->raw, NULL, &q->hits);
	d = q->hits.disposition ? q->hits.disposition->disposition : CONF_DISPOSITION_NONE;
	if (!d && q->code == 421 && q->set->smtp_421_means_mx_unavailable)
		d = CONF_SKIP_MX;
	q->disposition = conf_disposition_at(d, phases[q->phase].place, q->code);
}

static const char *by_code(const struct question *q)
{
	bool final = q->code >= 500;

	if (q->code && q->code < 400)
		return "the mail goes on";
	if (!phases[q->phase].site)
		return final ? "the mail bounces" : "the mail is tried again later";
	if (final && q->set->bounce_upon_5xx_greeting &&
	    strcmp(phases[q->phase].name, "greeting") == 0)
		return "the next mail host is tried; when none takes it, the mail bounces";
	return "the next mail host is tried; when none takes it, the queue waits";
}

static const char *what_happens(const struct question *q)
{
	switch (q->disposition) {
	case CONF_SKIP_MX:
		return "the mail goes to the next mail host at once";
	case CONF_BOUNCE_QUEUE:
		return "all mail of the queue bounces";
	case CONF_BOUNCE_RCPT:
		return "the recipient bounces at once";
	case CONF_RETRY_RCPT:
		return "the mail is tried again later";
	case CONF_DEFER_QUEUE:
		return "the queue waits, no recipient has failed";
	case CONF_DISPOSITION_NONE:
	case CONF_DISPOSITION_COUNT:
		break;
	}
	if (q->code >= 500 && (q->hits.source || q->hits.reroute))
		return "the mail is tried again later";
	return by_code(q);
}

static void add_match(json_t *to, const char *kind, const struct conf_reply *line, bool effect)
{
	if (!line)
		return;
	json_array_append_new(to, json_pack("{s:s, s:s, s:s, s:s, s:s, s:i, s:b}", "kind", kind,
					    "list", line->list, "pattern", line->pattern, "actions",
					    line->actions, "file", line->at.file, "line",
					    (int)line->at.line, "effect", effect));
}

static json_t *text_json(struct slice s)
{
	json_t *t = json_stringn(s.p, s.n);

	return t ? t : json_string("?");
}

static json_t *answer(const struct question *q, const char *queue)
{
	bool granted = q->code && q->code < 400;
	const struct conf_category *c = granted ? NULL
						: acct_category_line(q->conf, ACCT_BOUNCED, q->code,
								     q->reply.enhanced, q->subject);
	json_t *matches = json_array(), *o;

	add_match(matches, "mode", q->hits.mode, true);
	add_match(matches, "disposition", q->hits.disposition, q->disposition);
	add_match(matches, "source", q->hits.source, phases[q->phase].place != CONF_AT_NO_HOST);
	add_match(matches, "reroute", q->hits.reroute, true);
	o = json_pack("{s:s, s:s, s:o, s:o, s:s, s:s, s:s}", "queue", queue, "phase",
		      phases[q->phase].name, "subject", text_json(q->subject), "matches", matches,
		      "disposition", conf_disposition_name(q->disposition), "result",
		      what_happens(q), "category",
		      c		? c->category
		      : granted ? "success"
				: acct_category_name(ACCT_CATEGORY_OTHER));
	json_object_set_new(o, "provider",
			    q->provider.p ? json_string(q->provider.p->name) : json_null());
	json_object_set_new(o, "provider_by",
			    q->provider.by ? json_string(q->provider.by) : json_null());
	json_object_set_new(o, "category_pattern", json_string(c ? c->pattern : ""));
	json_object_set_new(o, "category_file", c ? json_string(c->at.file) : json_null());
	json_object_set_new(o, "category_line", c ? json_integer(c->at.line) : json_null());
	return o;
}

static void print(struct cli *cli, const json_t *o)
{
	static const struct column fields[] = {
		{"subject", "reply", COL_TEXT},	      {"phase", "at", COL_NAME},
		{"provider", "provider", COL_NAME},   {"provider_by", "provider by", COL_TEXT},
		{"result", "result", COL_TEXT},	      {"category", "category", COL_NAME},
		{"category_pattern", "by", COL_TEXT}, {NULL, NULL, COL_TEXT},
	};
	static const struct column columns[] = {
		{"kind", "KIND", COL_NAME},	  {"list", "LIST", COL_NAME},
		{"actions", "ACTIONS", COL_TEXT}, {"effect", "EFFECT HERE", COL_YES},
		{"pattern", "PATTERN", COL_TEXT}, {"file", "FILE", COL_TEXT},
		{"line", "LINE", COL_COUNT},	  {NULL, NULL, COL_TEXT},
	};

	table_fields(cli, o, fields);
	table_inside(cli, "lines that match", json_object_get(o, "matches"), columns);
}

static int refuse(const char *text)
{
	return cli_error(
		CLI_USAGE,
		"'%s' is not a reply: write it with its code as the receiver says it, or a "
		"text of Sluice's own with \"local:\" in front",
		text);
}

static int show(struct cli *cli, struct question *q, const char *queue)
{
	const char *slash = strrchr(queue, '/');
	struct slice name = slash ? slice_of(queue, (size_t)(slash - queue)) : slice_str(queue);
	struct slice vmta = slice_str(slash ? slash + 1 : "");
	const char *fault = conf_queue_fault(q->conf, name, vmta);
	char *domain;
	json_t *o;

	if (fault)
		return cli_error(CLI_REFUSED, "%s", fault);
	domain = slice_dup_lower(name);
	provider_find(cli, q->conf, slice_str(domain), vmta, false, &q->provider);
	q->set = conf_queue_settings(q->conf, q->provider.p, slice_str(domain), vmta);
	judge(q);
	o = answer(q, queue);
	cli_show_object(cli, o, print);
	json_decref(o);
	provider_done(&q->provider);
	free(domain);
	return CLI_DONE;
}

int reply_check_run(struct cli *cli, const struct invocation *i)
{
	const char *phase = option_given(i, OPTION_PHASE) ? i->text[OPTION_PHASE] : "rcpt";
	struct question q = {.code = 0};
	struct buf text = BUF_INIT;
	int status;

	if (!find_phase(phase, &q.phase))
		return cli_error(CLI_USAGE,
				 "no phase %s: connect, dns, greeting, ehlo, starttls, mail, rcpt, "
				 "data or dot",
				 phase);
	q.conf = cli_conf(cli);
	if (!q.conf)
		return CLI_REFUSED;
	for (size_t k = 1; k < i->arg_count; k++)
		buf_addf(&text, "%s%s", k > 1 ? " " : "", i->args[k]);
	status = parse(&q, buf_cstr(&text)) ? show(cli, &q, i->args[0]) : refuse(buf_cstr(&text));
	reply_done(&q.reply);
	buf_done(&text);
	return status;
}
