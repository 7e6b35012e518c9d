#include "worker/judge.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/log.h"
#include "common/base/xalloc.h"
#include "common/smtp/reply.h"
#include "worker/condemn.h"
#include "worker/context.h"
#include "worker/events.h"
#include "worker/mode.h"
#include "worker/reroute.h"
#include "worker/retry.h"
#include "worker/site.h"
#include "worker/sources.h"

static void gave_up(const struct conf_reply *line)
{
	log_warn(
		NULL,
		"a pattern takes too long on a reply and is taken as not matching: make it simpler",
		LOG_S("file", line->at.file), LOG_U("line", line->at.line),
		LOG_S("pattern", line->pattern));
}

/* --- deciding --- */

/* A refusal for good becomes one for now. */
static void soften(struct outcome *o)
{
	if (o->class != OUTCOME_BOUNCED)
		return;
	o->class = OUTCOME_TRANSIENT;
	o->enhanced[0] = 4; /* of a code that was not given: 4.0.0 */
}

/* The record says that it bounces because of a line. */
static void harden(struct outcome *o, const struct conf_reply *line)
{
	char why[96];
	size_t n = strlen(o->text), room;

	snprintf(why, sizeof(why), " (%s by pattern list %.48s)",
		 conf_disposition_name(line->disposition), line->list);
	room = REPORT_TEXT_MAX - strlen(why);
	o->class = OUTCOME_BOUNCED;
	snprintf(o->text + (n < room ? n : room), strlen(why) + 1, "%s", why);
}

static enum conf_disposition in_effect(const struct judgement *j, const struct site *s,
				       enum conf_reply_place place)
{
	const struct conf_reply *line = j->hits.disposition;
	enum conf_disposition d = line ? line->disposition : CONF_DISPOSITION_NONE;

	if (!line && j->o.code == 421 && s->set->smtp_421_means_mx_unavailable)
		d = CONF_SKIP_MX;
	return conf_disposition_at(d, place, j->o.code);
}

static void decide(struct judgement *j, const struct site *s, enum conf_reply_place place)
{
	j->disposition = in_effect(j, s, place);
	switch (j->disposition) {
	case CONF_SKIP_MX:
	case CONF_DEFER_QUEUE:
		soften(&j->o);
		j->again = j->leave = j->settled = true;
		break;
	case CONF_BOUNCE_QUEUE:
		harden(&j->o, j->hits.disposition);
		j->leave = j->settled = true;
		break;
	case CONF_BOUNCE_RCPT:
		harden(&j->o, j->hits.disposition);
		break;
	case CONF_RETRY_RCPT:
		soften(&j->o);
		break;
	case CONF_DISPOSITION_NONE:
	case CONF_DISPOSITION_COUNT:
		/* The source is to blame, or the mail goes another way. */
		if (j->hits.source || j->hits.reroute)
			soften(&j->o);
		break;
	}
}

/* replace-smtp-421-service-response: what records and notifications show. */
static void scrub_421(struct outcome *o, const struct reply *r)
{
	if (r->enhanced[0])
		snprintf(o->text, sizeof(o->text), "421 %u.%u.%u service unavailable",
			 r->enhanced[0], r->enhanced[1], r->enhanced[2]);
	else
		snprintf(o->text, sizeof(o->text), "421 service unavailable");
}

void judge_reply(struct judgement *ret, const struct site *s, enum outcome_phase phase,
		 const struct reply *r)
{
	*ret = (struct judgement){.again = false};
	outcome_from_reply(&ret->o, phase, r, s->set);
	if (r->code == 421 && s->set->replace_smtp_421_service_response)
		scrub_421(&ret->o, r);
	if (r->code < 400)
		return;
	conf_replies_match(&s->set->smtp_pattern_list, buf_slice(&r->text), buf_slice(&r->first),
			   gave_up, &ret->hits);
	decide(ret, s, phase == PHASE_RCPT ? CONF_AT_RCPT : CONF_AT_HOST);
}

/* What the settings say of a message that was lost on its way. */
static void decide_transfer(struct outcome *o, const struct site *s, enum outcome_phase phase,
			    const struct judge_loss *loss)
{
	const struct conf_domain *set = s->set;

	if (phase == PHASE_DOT && loss->timed_out &&
	    set->assume_delivery_upon_data_termination_timeout) {
		o->class = OUTCOME_DELIVERED;
		memcpy(o->enhanced, (uint8_t[3]){2, 0, 0}, sizeof(o->enhanced));
		snprintf(o->text, sizeof(o->text),
			 "local: %s after the final dot: taken as delivered", loss->what);
	} else if (set->bounce_upon_transfer_failure ||
		   (loss->pix && set->bounce_upon_pix_transfer_failure)) {
		o->class = OUTCOME_BOUNCED;
	}
}

void judge_loss(struct judgement *ret, const struct site *s, enum outcome_phase phase,
		const struct judge_loss *loss)
{
	bool transfer = phase == PHASE_BODY || phase == PHASE_DOT;

	*ret = (struct judgement){.again = false};
	outcome_from_loss(&ret->o, phase, loss->what);
	if (s->w->stopping) /* it was us */
		return;
	if (transfer)
		decide_transfer(&ret->o, s, phase, loss);
	if (ret->o.class == OUTCOME_DELIVERED)
		return;
	conf_replies_match(&s->set->smtp_pattern_list, slice_str(ret->o.text), slice_str(""),
			   gave_up, &ret->hits);
	decide(ret, s, CONF_AT_HOST);
	if (transfer) /* it may have arrived: not at once again */
		ret->again = false;
}

void judge_local(struct judgement *ret, const struct site *s, const struct outcome *o)
{
	*ret = (struct judgement){.o = *o};
	conf_replies_match(&s->set->smtp_pattern_list, slice_str(o->text), slice_str(""), gave_up,
			   &ret->hits);
	decide(ret, s, CONF_AT_NO_HOST);
}

/* --- carrying out --- */

/* "common (sluice.conf:12) mode=backoff: 421 4.7.28 …"; caller frees. */
static char *why_of(const struct conf_reply *line, const struct outcome *o)
{
	return xasprintf("pattern list %s (%s:%u): %s", line->list, line->at.file, line->at.line,
			 o->text);
}

static void carry_mode(const struct conf_reply *line, const struct outcome *o, struct site *s,
		       const struct site_place *at)
{
	char *why = why_of(line, o);

	if (site_serving(s) != s) /* what befalls one domain alone says nothing of its provider */
		events_add(s->w, &s->events, "the mode of %s stays as it is: %s",
			   site_serving(s)->label, why);
	else if (line->mode == CONF_REPLY_BACKOFF)
		mode_enter_backoff(s, why, at, line->to_normal_after);
	else
		mode_go_normal(s, why);
	free(why);
}

static void carry_source(const struct conf_reply *line, const struct outcome *o, struct site *s,
			 const struct site_place *at)
{
	char *why;

	if (at->source_ip.family == IP_NONE)
		return; /* there was no connection */
	why = why_of(line, o);
	sources_disable(s, &at->source_ip, line->reenable_after, why);
	free(why);
}

/* Several connections may hear the same: it is one failure of the site. */
static void defer(struct site *s, const struct judgement *j, const struct site_place *at)
{
	const struct conf_reply *line = j->hits.disposition;
	msec_t now = loop_wall(s->w->loop);
	msec_t delay = line && line->defer
			       ? line->defer / USEC_PER_MSEC
			       : retry_site_delay(mode_retry_after(s), s->retry_position);
	bool again = site_in_retry(s);

	if (again && (!line || !line->defer || now + delay <= s->retry_at))
		return;
	site_fail(s, &j->o, at, delay, !again);
}

static void condemn(struct site *s, const struct judgement *j)
{
	log_warn(NULL, "all mail of a queue bounces by a pattern", LOG_S("queue", s->label),
		 LOG_S("reply", j->o.text));
	events_add(s->w, &s->events, "all mail bounces: %s", j->o.text);
	condemn_site(s, &j->o);
}

static void carry_disposition(const struct judgement *j, struct site *s,
			      const struct site_place *at)
{
	if (j->disposition == CONF_SKIP_MX)
		site_skip_host(s, &j->o, at);
	else if (j->disposition == CONF_DEFER_QUEUE)
		defer(s, j, at);
	else if (j->disposition == CONF_BOUNCE_QUEUE)
		condemn(s, j);
}

/* For `show queue`: the line behind each action, and the reply itself when no record will tell it. */
static void note(const struct judgement *j, struct site *s)
{
	const struct conf_reply *lines[] = {j->hits.disposition, j->hits.mode, j->hits.source,
					    j->hits.reroute};
	struct buf b = BUF_INIT;

	if (j->again)
		site_note(s, &j->o);
	for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
		bool told = false;

		for (size_t k = 0; k < i; k++)
			told |= lines[k] == lines[i];
		if (!lines[i] || told)
			continue;
		buf_addf(&b, "%s%s /%s/ %s (%s:%u)", b.n ? "; " : "", lines[i]->list,
			 lines[i]->pattern, lines[i]->actions, lines[i]->at.file,
			 lines[i]->at.line);
	}
	if (b.n)
		site_note_pattern(s, &j->o, buf_cstr(&b));
	buf_done(&b);
}

void judge_reroute(const struct judgement *j, struct queue *q)
{
	const struct conf_reply *line = j->hits.reroute;
	char *why;

	if (!line)
		return;
	why = why_of(line, &j->o);
	reroute_queue(q, line->reroute, why);
	free(why);
}

static void reroute_all(const struct judgement *j, struct site *s)
{
	struct queue *q;

	if (!j->hits.reroute)
		return;
	SITE_EACH_QUEUE(q, s)
	judge_reroute(j, q);
}

void judge_carry_out(const struct judgement *j, struct site *s, const struct site_place *at,
		     struct queue *q)
{
	const struct conf_reply_hits *h = &j->hits;

	if (!j->disposition && !h->disposition && !h->mode && !h->source && !h->reroute)
		return;
	note(j, s);
	if (h->mode)
		carry_mode(h->mode, &j->o, s, at);
	if (h->source)
		carry_source(h->source, &j->o, s, at);
	if (q)
		judge_reroute(j, q);
	else
		reroute_all(j, s);
	carry_disposition(j, s, at);
}

bool judge_blames_source(const struct judgement *j, const struct site *s)
{
	return j->hits.source && s->w->vmta && s->w->vmta->smtp_source_host.n;
}

void judge_granted(struct site *s, const struct reply *r)
{
	struct judgement j = {.again = false};

	if (!mode_is_backoff(s) ||
	    !conf_replies_match_success(&s->set->smtp_pattern_list, buf_slice(&r->text),
					buf_slice(&r->first), gave_up, &j.hits))
		return;
	slice_copy(buf_slice(&r->text), j.o.text, sizeof(j.o.text));
	carry_mode(j.hits.mode, &j.o, s, NULL);
}
