#include "worker/outcome.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/conf/conf.h"
#include "common/smtp/reply.h"

static const char *const phase_names[PHASE_COUNT] = {
	[PHASE_CONNECT] = "connect",   [PHASE_GREETING] = "the greeting",
	[PHASE_EHLO] = "EHLO",	       [PHASE_STARTTLS] = "STARTTLS",
	[PHASE_MAIL] = "MAIL FROM",    [PHASE_RCPT] = "RCPT TO",
	[PHASE_DATA] = "DATA",	       [PHASE_BODY] = "the message",
	[PHASE_DOT] = "the final dot",
};

/* What a refusal in each phase reaches, and a loss of the connection. */
static const struct {
	enum outcome_scope refused; /* 4xx or 5xx */
	enum outcome_scope lost;
} phase_scopes[PHASE_COUNT] = {
	[PHASE_CONNECT] = {SCOPE_SITE, SCOPE_SITE},
	[PHASE_GREETING] = {SCOPE_SITE, SCOPE_SITE},
	[PHASE_EHLO] = {SCOPE_SITE, SCOPE_SITE},
	[PHASE_STARTTLS] = {SCOPE_SITE, SCOPE_SITE},
	[PHASE_MAIL] = {SCOPE_MESSAGE, SCOPE_CONNECTION},
	[PHASE_RCPT] = {SCOPE_RECIPIENT, SCOPE_CONNECTION},
	[PHASE_DATA] = {SCOPE_MESSAGE, SCOPE_CONNECTION},
	/* Once the message is on its way, sending it again at once would go round in circles. */
	[PHASE_BODY] = {SCOPE_MESSAGE, SCOPE_MESSAGE},
	[PHASE_DOT] = {SCOPE_MESSAGE, SCOPE_MESSAGE},
};

static const struct {
	enum outcome_class class;
	enum outcome_scope scope;
	uint8_t enhanced[3];
} local_rows[LOCAL_COUNT] = {
	[LOCAL_DNS] = {OUTCOME_TRANSIENT, SCOPE_SITE, {4, 4, 3}},
	[LOCAL_NO_DOMAIN] = {OUTCOME_BOUNCED, SCOPE_SITE, {5, 1, 2}},
	[LOCAL_NO_DOMAIN_YET] = {OUTCOME_TRANSIENT, SCOPE_SITE, {4, 1, 2}},
	[LOCAL_NULL_MX] = {OUTCOME_BOUNCED, SCOPE_SITE, {5, 1, 10}},
	[LOCAL_NO_MX] = {OUTCOME_BOUNCED, SCOPE_MESSAGE, {5, 1, 2}},
	[LOCAL_NO_SOURCE] = {OUTCOME_TRANSIENT, SCOPE_SITE, {4, 3, 5}},
	[LOCAL_DISABLED] = {OUTCOME_TRANSIENT, SCOPE_SITE, {4, 3, 5}},
	[LOCAL_NO_TLS] = {OUTCOME_TRANSIENT, SCOPE_SITE, {4, 7, 0}},
	[LOCAL_TOO_BIG] = {OUTCOME_BOUNCED, SCOPE_MESSAGE, {5, 3, 4}},
	[LOCAL_NO_SMTPUTF8] = {OUTCOME_BOUNCED, SCOPE_MESSAGE, {5, 6, 7}},
	[LOCAL_EXPIRED] = {OUTCOME_BOUNCED, SCOPE_RECIPIENT, {4, 4, 7}},
	[LOCAL_SET_ASIDE] = {OUTCOME_TRANSIENT, SCOPE_MESSAGE, {4, 3, 0}},
};

const char *outcome_phase_name(enum outcome_phase p)
{
	return p < PHASE_COUNT ? phase_names[p] : "?";
}

static enum outcome_class class_of(uint16_t code)
{
	if (code >= 200 && code < 300)
		return OUTCOME_DELIVERED;
	return code >= 500 ? OUTCOME_BOUNCED : OUTCOME_TRANSIENT;
}

static bool is_site_phase(enum outcome_phase p)
{
	return phase_scopes[p].refused == SCOPE_SITE;
}

void outcome_from_reply(struct outcome *ret, enum outcome_phase phase, const struct reply *r,
			const struct conf_domain *set)
{
	*ret = (struct outcome){
		.class = class_of(r->code), .scope = phase_scopes[phase].refused, .code = r->code};
	memcpy(ret->enhanced, r->enhanced, sizeof(ret->enhanced));
	slice_copy(buf_slice(&r->text), ret->text, sizeof(ret->text));
	if (is_site_phase(phase)) {
		/* Only a refusal in the greeting speaks for the whole host; all else may pass. */
		bool final = phase == PHASE_GREETING && set->bounce_upon_5xx_greeting;

		if (ret->class != OUTCOME_BOUNCED || !final)
			ret->class = OUTCOME_TRANSIENT;
		return;
	}
	/* Says what the enhanced code would, where there is none. */
	if (phase == PHASE_RCPT && r->code == 553 && !ret->enhanced[0] &&
	    set->smtp_553_means_invalid_mailbox)
		memcpy(ret->enhanced, (uint8_t[3]){5, 1, 1}, sizeof(ret->enhanced));
	/* 421 closes the connection (RFC 5321 3.8); after the dot it is the message's reply too. */
	if (r->code == 421 && phase != PHASE_DOT)
		ret->scope = SCOPE_CONNECTION;
	/* A 2xx or 3xx where none belongs: the peer has lost count. */
	if (ret->class == OUTCOME_DELIVERED && phase != PHASE_DOT && phase != PHASE_RCPT)
		ret->class = OUTCOME_TRANSIENT;
}

static void set_text(struct outcome *o, const char *fmt, ...) ATTR_PRINTF(2, 3);
static void set_text(struct outcome *o, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(o->text, sizeof(o->text), fmt, ap);
	va_end(ap);
}

void outcome_from_loss(struct outcome *ret, enum outcome_phase phase, const char *what)
{
	*ret = (struct outcome){.class = OUTCOME_TRANSIENT,
				.scope = phase_scopes[phase].lost,
				.enhanced = {4, 4, 2}};
	switch (phase) {
	case PHASE_CONNECT:
		ret->enhanced[2] = 1;
		set_text(ret, "local: %s", what);
		break;
	case PHASE_DOT:
		set_text(ret, "local: %s after the final dot, may have been delivered", what);
		break;
	case PHASE_BODY:
		set_text(ret, "local: %s while sending the message", what);
		break;
	case PHASE_GREETING:
	case PHASE_EHLO:
	case PHASE_STARTTLS:
	case PHASE_MAIL:
	case PHASE_RCPT:
	case PHASE_DATA:
	case PHASE_COUNT:
		set_text(ret, "local: %s while waiting for the reply to %s", what,
			 outcome_phase_name(phase));
		break;
	}
	if (phase == PHASE_GREETING)
		set_text(ret, "local: %s while waiting for the greeting", what);
}

void outcome_local(struct outcome *ret, enum outcome_local what, const char *fmt, ...)
{
	va_list ap;
	int n;

	*ret = (struct outcome){.class = local_rows[what].class, .scope = local_rows[what].scope};
	memcpy(ret->enhanced, local_rows[what].enhanced, sizeof(ret->enhanced));
	n = snprintf(ret->text, sizeof(ret->text), "local: ");
	va_start(ap, fmt);
	vsnprintf(ret->text + n, sizeof(ret->text) - (size_t)n, fmt, ap);
	va_end(ap);
}
