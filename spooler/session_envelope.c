#include <stdio.h>
#include <stdlib.h>

#include "common/base/xalloc.h"
#include "common/smtp/address.h"
#include "common/smtp/text.h"
#include "common/smtp/xtext.h"
#include "spooler/session_private.h"

#define RELAY_LOG_EVERY USEC_PER_SEC

/* A parameter of MAIL or RCPT: takes its value, returns NULL or the reply that refuses it. */
struct envelope_param {
	const char *keyword;
	bool value; /* must have one; must have none */
	const char *(*take)(struct session *s, struct intake_recipient *r, struct slice value);
};

void session_mail_free(struct session_mail *mail)
{
	if (!mail)
		return;
	buf_done(&mail->head);
	mail->envelope = 0;
	session_body_drop(mail);
	buf_done(&mail->refusal);
	free(mail->m.recipients);
	arena_done(&mail->arena);
	free(mail);
}

void session_mail_reset(struct session *s)
{
	session_mail_free(s->mail);
	s->mail = NULL;
}

/* ---- parameters ---- */

static const char *take_size(struct session *s, struct intake_recipient *r ATTR_UNUSED,
			     struct slice value)
{
	uint64_t max = s->source->max_message_size;

	if (value.n > 20 || !slice_u64(value, &s->mail->declared_size))
		return "501 5.5.4 SIZE is not a number";
	if (max && s->mail->declared_size > max)
		return "552 5.3.4 the message is larger than this server accepts; see SIZE in the "
		       "reply to EHLO";
	if (!intake_has_room(s->thread->server->intake, s->mail->declared_size))
		return "452 4.3.1 no room for a message of that size now; try again later";
	return NULL;
}

static const char *take_body(struct session *s, struct intake_recipient *r ATTR_UNUSED,
			     struct slice value)
{
	if (slice_ieq_str(value, "8BITMIME"))
		s->mail->m.flags |= SPOOL_MSG_8BITMIME;
	else if (!slice_ieq_str(value, "7BIT"))
		return "501 5.5.4 BODY is 7BIT or 8BITMIME";
	return NULL;
}

static const char *take_smtputf8(struct session *s, struct intake_recipient *r ATTR_UNUSED,
				 struct slice value ATTR_UNUSED)
{
	if (!s->source->allow_smtputf8)
		return "555 5.5.4 SMTPUTF8 is not offered here";
	s->mail->m.flags |= SPOOL_MSG_SMTPUTF8;
	return NULL;
}

static const char *take_ret(struct session *s, struct intake_recipient *r ATTR_UNUSED,
			    struct slice value)
{
	if (slice_ieq_str(value, "FULL"))
		s->mail->m.flags |= SPOOL_MSG_RET_FULL;
	else if (slice_ieq_str(value, "HDRS"))
		s->mail->m.flags |= SPOOL_MSG_RET_HDRS;
	else
		return "501 5.5.4 RET is FULL or HDRS";
	return NULL;
}

static const char *take_envid(struct session *s, struct intake_recipient *r ATTR_UNUSED,
			      struct slice value)
{
	struct buf plain = BUF_INIT;

	if (!dsn_envid_valid(value))
		return "501 5.5.4 ENVID is not xtext of printable characters, or is longer than "
		       "100 "
		       "octets";
	(void)xtext_decode(value, &plain);
	s->mail->m.dsn_envid = arena_dup(&s->mail->arena, value);
	s->mail->m.envid = arena_dup(&s->mail->arena, buf_slice(&plain));
	buf_done(&plain);
	return NULL;
}

static const char *take_notify(struct session *s ATTR_UNUSED, struct intake_recipient *r,
			       struct slice value)
{
	return dsn_notify_parse(value, &r->notify)
		       ? NULL
		       : "501 5.5.4 NOTIFY is NEVER or a list of SUCCESS, FAILURE, DELAY";
}

static const char *take_orcpt(struct session *s, struct intake_recipient *r, struct slice value)
{
	if (!dsn_orcpt_valid(value, s->mail->m.flags & SPOOL_MSG_SMTPUTF8))
		return "501 5.5.4 ORCPT is not TYPE;XTEXT, or is longer than 500 octets";
	r->orcpt = arena_dup(&s->mail->arena, value);
	return NULL;
}

static const struct envelope_param mail_params[] = {
	{"SIZE", true, take_size}, {"BODY", true, take_body},	{"SMTPUTF8", false, take_smtputf8},
	{"RET", true, take_ret},   {"ENVID", true, take_envid}, {NULL, false, NULL},
};

static const struct envelope_param rcpt_params[] = {
	{"NOTIFY", true, take_notify},
	{"ORCPT", true, take_orcpt},
	{NULL, false, NULL},
};

static const char *take_param(struct session *s, struct intake_recipient *r, struct slice word,
			      const struct envelope_param *table, unsigned *seen)
{
	ptrdiff_t eq = slice_chr(word, '=');
	struct slice keyword = eq < 0 ? word : slice_sub(word, 0, (size_t)eq);
	struct slice value = eq < 0 ? slice_of("", 0) : slice_from(word, (size_t)eq + 1);
	unsigned i;

	for (i = 0; table[i].keyword; i++)
		if (slice_ieq_str(keyword, table[i].keyword))
			break;
	if (!table[i].keyword)
		return "555 5.5.4 unknown parameter; see the reply to EHLO for what is offered";
	if (*seen & 1u << i)
		return "501 5.5.4 a parameter was given twice";
	*seen |= 1u << i;
	if (table[i].value != (value.n > 0))
		return table[i].value ? "501 5.5.4 a parameter needs a value"
				      : "501 5.5.4 a parameter takes no value";
	return table[i].take(s, r, value);
}

static const char *take_params(struct session *s, struct intake_recipient *r, struct slice rest,
			       const struct envelope_param *table)
{
	struct slice word;
	unsigned seen = 0;

	if (rest.n && rest.p[0] != ' ')
		return "501 5.5.4 there must be a space behind the address";
	rest = slice_trim(rest);
	while (rest.n && slice_next(&rest, ' ', &word)) {
		const char *why = word.n ? take_param(s, r, word, table, &seen) : NULL;

		if (why)
			return why;
		if (!rest.p)
			break;
	}
	return NULL;
}

/* ---- addresses ---- */

/* "FROM:" or "TO:" is gone, and spaces that should not be behind it. */
static bool skip_word(struct slice *arg, const char *word)
{
	if (!slice_istarts(*arg, word))
		return false;
	*arg = slice_trim(slice_from(*arg, strlen(word)));
	return true;
}

static unsigned address_flags(const struct session *s)
{
	return s->source->allow_smtputf8 ? ADDRESS_UTF8 : 0;
}

static const char *qualifier(const struct session *s)
{
	const char *suffix = s->conf->global->domain_suffix;

	return suffix ? suffix : s->conf->host;
}

/* local@domain with the domain as domain_canonical() has it. NULL, or what is wrong with the domain. */
static const char *full_address(struct session *s, const struct address *a, const char **ret,
				const char **ret_domain)
{
	struct arena *arena = &s->mail->arena;
	struct slice domain = a->domain.n ? a->domain : slice_str(qualifier(s));
	char canonical[ADDRESS_DOMAIN_TEXT_MAX];
	const char *why = domain_canonical(domain, canonical);

	if (why)
		return why;
	if (ret_domain)
		*ret_domain = arena_dup(arena, slice_str(canonical));
	if (domain.p[0] == '[')
		*ret = arena_printf(arena, "%.*s@%.*s", SLICE_ARG(a->local), SLICE_ARG(domain));
	else
		*ret = arena_printf(arena, "%.*s@%s", SLICE_ARG(a->local), canonical);
	return NULL;
}

/* ---- MAIL ---- */

static struct session_mail *mail_new(struct session *s)
{
	struct session_mail *mail = xcalloc(1, sizeof(*mail));

	mail->session = s;
	mail->big_fd = -1;
	mail->m.poster = s->thread;
	mail->m.done = session_mail_returned;
	mail->m.msgid = intake_next_msgid(s->thread->server->intake);
	mail->m.received = loop_wall(s->thread->loop);
	if (s->source->suppress_local_dsn)
		mail->m.flags |= SPOOL_MSG_NO_DSN;
	mail->m.source_mta = arena_printf(&mail->arena, "%s (%s)", s->helo, s->ip_name);
	return mail;
}

/* NULL, or the reply that refuses this MAIL; s->mail is made before and thrown away then. */
static const char *take_mail(struct session *s, struct slice arg)
{
	static _Thread_local char reply[300];
	struct address a;
	const char *why;
	size_t used;

	why = address_parse_path(arg, address_flags(s), &a, &used);
	if (why) {
		(void)snprintf(reply, sizeof(reply), "501 5.1.7 bad sender address: %s", why);
		return reply;
	}
	why = take_params(s, NULL, slice_from(arg, used), mail_params);
	if (why)
		return why;
	if (a.utf8 && !(s->mail->m.flags & SPOOL_MSG_SMTPUTF8))
		return "553 5.6.7 the address is not ASCII: give SMTPUTF8 behind MAIL FROM";
	s->mail->m.sender = "";
	why = a.local.n ? full_address(s, &a, &s->mail->m.sender, NULL) : NULL;
	if (why) {
		(void)snprintf(reply, sizeof(reply), "501 5.1.7 bad sender address: %s", why);
		return reply;
	}
	return NULL;
}

enum session_step session_mail_command(struct session *s, struct slice arg)
{
	const char *why = NULL;

	if (s->mail)
		return session_error(
			s, "503 5.5.1 there is a transaction already; end it or send RSET");
	if (!skip_word(&arg, "FROM:"))
		return session_error(s, "501 5.5.4 say MAIL FROM:<address>");
	session_adopt(s);
	if (!intake_admit(s->thread->server->intake, &why)) {
		session_replyf(s, "452 4.3.1 no room for mail now (%s); try again later",
			       why ? why : "spool");
		return SESSION_COMMAND;
	}
	s->mail = mail_new(s);
	why = take_mail(s, arg);
	if (why && why[0] == '4') { /* not the feeder's fault */
		session_mail_reset(s);
		session_reply(s, why);
		return SESSION_COMMAND;
	}
	if (why) {
		session_mail_reset(s);
		return session_error(s, why);
	}
	session_reply(s, "250 2.1.0 sender OK");
	return SESSION_COMMAND;
}

/* ---- RCPT ---- */

static void log_relaying(struct session *s, const struct intake_recipient *r)
{
	struct smtp_server *server = s->thread->server;
	usec_t now = loop_now(s->thread->loop), due = atomic_load(&server->relay_log_at);

	if (now < due ||
	    !atomic_compare_exchange_strong(&server->relay_log_at, &due, now + RELAY_LOG_EVERY)) {
		atomic_fetch_add(&server->relay_quiet, 1);
		return;
	}
	log_info(&s->log, "relaying refused", LOG_S("rcpt", r->address),
		 LOG_S("sender", s->mail->m.sender),
		 LOG_U("not_shown_before", atomic_exchange(&server->relay_quiet, 0)));
}

static bool may_relay(const struct session *s, const char *domain)
{
	return s->source->always_allow_relaying ||
	       conf_patterns_match(&s->source->relay_domain, slice_str(domain));
}

/* The addresses that every server must have (RFC 5321 4.5.1, RFC 2142). */
static bool is_postmaster(const struct session *s, const struct address *a)
{
	if (a->domain.n && !slice_ieq_str(a->domain, s->conf->host))
		return false;
	return slice_ieq_str(a->local, "postmaster") || slice_ieq_str(a->local, "abuse");
}

static void add_recipient(struct session_mail *mail, const struct intake_recipient *r)
{
	struct intake_message *m = &mail->m;

	if (m->recipient_count == mail->recipient_room) {
		mail->recipient_room = mail->recipient_room ? mail->recipient_room * 2 : 1;
		m->recipients =
			xreallocarray(m->recipients, mail->recipient_room, sizeof(*m->recipients));
	}
	m->recipients[m->recipient_count++] = *r;
	mail->envelope += (int64_t)(sizeof(*r) + strlen(r->address) + strlen(r->domain) +
				    (r->orcpt ? strlen(r->orcpt) : 0));
}

/* Mail to postmaster goes to whom the configuration names. */
static void add_postmasters(struct session *s, struct intake_recipient *r)
{
	const struct conf_strings *list = &s->conf->global->postmaster;
	size_t i;

	for (i = 0; i < list->n; i++) {
		struct address a;

		if (address_parse(slice_str(list->v[i]), ADDRESS_UTF8, &a) ||
		    full_address(s, &a, &r->address, &r->domain))
			continue;
		add_recipient(s->mail, r);
	}
	if (list->n == 0)
		add_recipient(s->mail, r);
}

static uint64_t rcpt_max(const struct session *s)
{
	uint64_t max = s->source->max_rcpt_per_message;

	return max && max < SESSION_RCPT_MAX ? max : SESSION_RCPT_MAX;
}

/* A feeder that may relay has bad addresses in its lists: they are no errors of its software. */
static enum session_step refuse_rcpt(struct session *s, const char *why)
{
	if (!s->source->always_allow_relaying)
		return session_errorf(s, "501 5.1.3 bad recipient address: %s", why);
	session_replyf(s, "501 5.1.3 bad recipient address: %s", why);
	return SESSION_COMMAND;
}

static enum session_step accept_rcpt(struct session *s, const struct address *a,
				     struct intake_recipient *r)
{
	bool local = is_postmaster(s, a);
	const char *why = full_address(s, a, &r->address, &r->domain);
	uint32_t before = s->mail->m.recipient_count;

	if (why)
		return refuse_rcpt(s, why);
	if (local && (a->domain.n == 0 || s->conf->global->postmaster.n)) {
		add_postmasters(s, r);
	} else if (!may_relay(s, r->domain)) {
		log_relaying(s, r);
		return session_error(s,
				     "550 5.7.1 relaying is not allowed for you and this domain");
	} else {
		add_recipient(s->mail, r);
	}
	if (!session_envelope_fits(s->mail)) {
		s->mail->m.recipient_count = before;
		session_reply(s, "452 4.3.1 too many messages are being received; try again later");
		return SESSION_COMMAND;
	}
	session_reply(s, "250 2.1.5 recipient OK");
	return SESSION_COMMAND;
}

enum session_step session_rcpt_command(struct session *s, struct slice arg)
{
	struct intake_recipient r = {0};
	struct address a;
	const char *why;
	size_t used;

	if (!s->mail)
		return session_error(s, "503 5.5.1 send MAIL before RCPT");
	if (s->mail->chunked)
		return session_error(s, "503 5.5.1 no RCPT once BDAT has begun");
	if (!skip_word(&arg, "TO:"))
		return session_error(s, "501 5.5.4 say RCPT TO:<address>");
	why = address_parse_path(arg, address_flags(s), &a, &used);
	if (!why && a.local.n == 0)
		why = "the address is empty";
	if (why)
		return refuse_rcpt(s, why);
	why = take_params(s, &r, slice_from(arg, used), rcpt_params);
	if (why)
		return session_error(s, why);
	if (a.utf8 && !(s->mail->m.flags & SPOOL_MSG_SMTPUTF8))
		return session_error(s, "553 5.6.7 the address is not ASCII: give SMTPUTF8 behind "
					"MAIL FROM");
	if (s->mail->m.recipient_count >= rcpt_max(s)) {
		session_replyf(s,
			       "452 4.5.3 too many recipients: at most %llu in a message; send the "
			       "others in another one",
			       (unsigned long long)rcpt_max(s));
		return SESSION_COMMAND;
	}
	return accept_rcpt(s, &a, &r);
}
