#include <stdio.h>
#include <string.h>

#include "common/base/rng.h"
#include "common/mail/header.h"
#include "common/smtp/text.h"
#include "spooler/session_private.h"

/* What the walk over the fields finds out. */
struct header_walk {
	struct session *session;
	struct session_mail *mail;
	const struct conf_source *source;
	uint64_t hops;
	bool date, message_id, route, job, envid;
};

/* "PREFIX: example" becomes text of the message's arena; NULL when there is nothing or too much. */
static const char *field_text(struct header_walk *w, const struct mail_field *f, size_t max)
{
	struct buf b = BUF_INIT;
	const char *text = NULL;

	mail_header_unfold(f->value, &b);
	if (b.n && b.n <= max) {
		struct buf safe = BUF_INIT;

		(void)text_add_safe(&safe, buf_slice(&b), max);
		text = arena_dup(&w->mail->arena, buf_slice(&safe));
		buf_done(&safe);
	} else if (b.n > max) {
		session_mail_refuse(w->mail, "554 5.6.0 the header %.*s is longer than %zu octets",
				    SLICE_ARG(slice_sub(f->name, 0, 60)), max);
	}
	buf_done(&b);
	return text;
}

static bool route_exists(const struct conf *conf, struct slice name)
{
	return conf_vmta_find(conf, name) || conf_pool_find(conf, name);
}

static void take_route(struct header_walk *w, const struct mail_field *f)
{
	const char *name;

	if (w->route)
		return;
	w->route = true;
	name = field_text(w, f, SESSION_JOB_MAX);
	if (name && route_exists(w->session->conf->conf, slice_str(name)))
		w->mail->route = name;
	else if (w->source->reject_invalid_virtual_mta)
		session_mail_refuse(
			w->mail,
			"550 5.7.1 X-Virtual-MTA names \"%s\", which is no virtual MTA or "
			"pool of this server",
			name ? name : "");
}

/* Reads what the source lets the feeder say in headers; true: the field stays in the message. */
static bool take_special(struct header_walk *w, const struct mail_field *f)
{
	const struct conf_source *src = w->source;
	struct intake_message *m = &w->mail->m;

	if (src->process_x_virtual_mta && slice_ieq_str(f->name, "X-Virtual-MTA")) {
		take_route(w, f);
		return src->retain_x_virtual_mta;
	}
	if (src->process_x_job && slice_ieq_str(f->name, src->jobid_header)) {
		if (!w->job)
			m->job = field_text(w, f, SESSION_JOB_MAX);
		w->job = true;
		return src->retain_x_job;
	}
	if (src->process_x_envid && slice_ieq_str(f->name, "X-Envid")) {
		const char *envid = w->envid ? NULL : field_text(w, f, SESSION_ENVID_MAX);

		if (envid)
			m->envid = envid;
		w->envid = true;
		return false;
	}
	return true;
}

static bool listed(const struct conf_strings *list, struct slice name)
{
	size_t i;

	for (i = 0; i < list->n; i++)
		if (slice_ieq_str(name, list->v[i]))
			return true;
	return false;
}

/* True: the field stays in the message. */
static bool keep_field(struct header_walk *w, const struct mail_field *f)
{
	const struct conf_source *src = w->source;

	if (slice_ieq_str(f->name, "Received")) {
		w->hops++;
		if (src->remove_received_headers)
			return false;
	}
	if (!take_special(w, f) || listed(&src->remove_header, f->name))
		return false;
	if (slice_ieq_str(f->name, "Date")) {
		if (src->add_date_header == CONF_DATE_OVERRIDE)
			return false;
		w->date = true;
	}
	if (slice_ieq_str(f->name, "Message-ID"))
		w->message_id = true;
	return true;
}

static void add_received(struct session *s, struct buf *out)
{
	const struct session_mail *mail = s->mail;
	char id[17], ip[IP_TEXT_MAX + 8];
	struct mail_received r = {.by = s->conf->host, .id = id, .when = mail->m.received};

	(void)snprintf(id, sizeof(id), "%llu", (unsigned long long)mail->m.msgid);
	(void)snprintf(ip, sizeof(ip), "%s%s", s->ip.family == IP_V6 ? "IPv6:" : "", s->ip_name);
	if (!s->source->hide_message_source) {
		r.helo = s->helo;
		r.ip = ip;
	}
	if (mail->m.flags & SPOOL_MSG_SMTPUTF8)
		r.with = "UTF8SMTP";
	else
		r.with = s->esmtp ? "ESMTP" : "SMTP";
	if (mail->m.recipient_count == 1)
		r.rcpt = mail->m.recipients[0].address;
	mail_received_add(out, &r);
}

void session_headers_apply(struct session *s, struct slice fields)
{
	struct session_mail *mail = s->mail;
	struct header_walk w = {.session = s, .mail = mail, .source = s->source};
	struct buf *out = &mail->m.body;
	const char *run = fields.p;
	struct mail_field f;

	if (s->source->add_received_header)
		add_received(s, out);
	/* Fields that stay lie next to each other: they are copied in runs. */
	while (mail_header_next(&fields, &f)) {
		if (keep_field(&w, &f))
			continue;
		buf_add(out, run, (size_t)(f.raw.p - run));
		run = f.raw.p + f.raw.n;
	}
	buf_add(out, run, (size_t)(fields.p - run));
	if (s->source->add_date_header != CONF_DATE_NO && !w.date)
		mail_date_add(out, mail->m.received);
	if (s->source->add_message_id_header && !w.message_id)
		mail_message_id_add(out, mail->m.msgid, rng_u64(), s->conf->host);
	buf_add_str(out, "\r\n");
	mail->m.header_size = (uint32_t)out->n;
	if (w.hops > s->source->max_message_hops)
		session_mail_refuse(mail,
				    "554 5.4.6 too many hops: %llu Received headers, at most %llu; "
				    "the message is going in circles",
				    (unsigned long long)w.hops,
				    (unsigned long long)s->source->max_message_hops);
}

void session_route(struct session *s)
{
	struct session_mail *mail = s->mail;
	const struct conf *conf = s->conf->conf;
	const char *route = mail->route;
	uint32_t i;

	if (!route) {
		route = s->source->default_virtual_mta;
		if (!route || !route_exists(conf, slice_str(route)))
			route = "{default}";
		/* The message outlives the configuration. */
		route = arena_dup(&mail->arena, slice_str(route));
	}
	for (i = 0; i < mail->m.recipient_count; i++) {
		mail->m.recipients[i].route = route;
		mail->m.recipients[i].class = INTAKE_CLASS_OF_SETTINGS;
	}
}
