#include "spooler/dsn_row.h"

#include "common/base/codec.h"
#include "common/base/err.h"

#define ROW_VERSION 1
#define NOTICE 0x80 /* in the first byte */
#define NOTICE_VERSION (NOTICE + 1)

static void ip_encode(const struct ip *ip, struct buf *b)
{
	enc_bytes(b, slice_of(ip->b, ip->family == IP_V4 ? 4 : ip->family == IP_V6 ? 16 : 0));
}

static void ip_decode(struct dec *d, struct ip *ret)
{
	struct slice s = dec_bytes(d);

	*ret = (struct ip){.family = s.n == 4 ? IP_V4 : s.n == 16 ? IP_V6 : IP_NONE};
	if (s.n && ret->family == IP_NONE)
		d->bad = true;
	else if (s.n)
		memcpy(ret->b, s.p, s.n);
}

static void recipient_encode(const struct dsn_recipient *r, struct buf *b)
{
	enc_bytes(b, r->address);
	enc_bytes(b, r->orcpt);
	enc_u8(b, (uint8_t)r->action);
	buf_add(b, r->enhanced, sizeof(r->enhanced));
	enc_var(b, r->code);
	enc_bytes(b, r->text);
	enc_bytes(b, r->mx_name);
	ip_encode(&r->mx_ip, b);
	enc_var(b, r->last_attempt);
	enc_var(b, r->will_retry_until);
}

static void recipient_decode(struct dec *d, struct dsn_recipient *r)
{
	uint8_t action;
	uint32_t code;

	r->address = dec_bytes(d);
	r->orcpt = dec_bytes(d);
	action = dec_u8(d);
	if (action < DSN_FAILED || action > DSN_DELIVERED)
		d->bad = true;
	r->action = (enum dsn_action)action;
	for (size_t i = 0; i < sizeof(r->enhanced); i++)
		r->enhanced[i] = dec_u8(d);
	code = dec_var32(d);
	if (code > UINT16_MAX)
		d->bad = true;
	r->code = (uint16_t)code;
	r->text = dec_bytes(d);
	r->mx_name = dec_bytes(d);
	ip_decode(d, &r->mx_ip);
	r->last_attempt = dec_var(d);
	r->will_retry_until = dec_var(d);
}

void dsn_row_encode(const struct dsn_row *r, struct buf *b)
{
	enc_u8(b, ROW_VERSION);
	enc_var(b, r->msgid);
	enc_bytes(b, r->sender);
	enc_bytes(b, r->dsn_envid);
	enc_bytes(b, r->envid);
	enc_bytes(b, r->job);
	enc_var(b, r->flags);
	enc_var(b, r->received);
	enc_var(b, r->made);
	enc_bytes(b, r->vmta);
	enc_bytes(b, r->source_mta);
	enc_bytes(b, r->original);
	enc_u8(b, r->full);
	enc_var(b, r->recipient_count);
	for (uint32_t i = 0; i < r->recipient_count; i++)
		recipient_encode(&r->recipients[i], b);
}

static void message_decode(struct dec *d, struct dsn_row *r)
{
	r->msgid = dec_var(d);
	r->sender = dec_bytes(d);
	r->dsn_envid = dec_bytes(d);
	r->envid = dec_bytes(d);
	r->job = dec_bytes(d);
	r->flags = dec_var32(d);
	r->received = dec_var(d);
	r->made = dec_var(d);
	r->vmta = dec_bytes(d);
	r->source_mta = dec_bytes(d);
	r->original = dec_bytes(d);
	r->full = dec_u8(d);
	r->recipient_count = dec_var32(d);
}

int dsn_row_decode(struct slice payload, struct buf *scratch, struct dsn_row *ret)
{
	struct dec d = dec_of(payload.p, payload.n);
	struct dsn_row r = {0};
	uint8_t version = dec_u8(&d);

	if (dec_ok(&d) && version != ROW_VERSION)
		return ERR_VERSION;
	message_decode(&d, &r);
	/* A recipient takes at least 12 bytes: a damaged count does not ask for memory. */
	if (!dec_ok(&d) || !r.recipient_count || r.recipient_count > payload.n / 12)
		return ERR_CORRUPT;
	buf_clear(scratch);
	for (uint32_t i = 0; i < r.recipient_count; i++) {
		struct dsn_recipient rcpt = {0};

		recipient_decode(&d, &rcpt);
		buf_add(scratch, &rcpt, sizeof(rcpt));
	}
	if (!dec_end(&d))
		return ERR_CORRUPT;
	r.recipients = (const struct dsn_recipient *)(const void *)scratch->p;
	*ret = r;
	return 0;
}

void dsn_notice_encode(const struct report_notice *n, struct buf *b)
{
	enc_u8(b, NOTICE_VERSION);
	enc_var(b, n->when);
	enc_bytes(b, n->to);
	enc_bytes(b, n->subject);
	enc_bytes(b, n->text);
	enc_var(b, n->left_out);
}

bool dsn_notice_is(struct slice payload)
{
	return payload.n && ((uint8_t)payload.p[0] & NOTICE);
}

int dsn_notice_decode(struct slice payload, struct report_notice *ret)
{
	struct dec d = dec_of(payload.p, payload.n);
	struct report_notice n;
	uint8_t version = dec_u8(&d);

	if (dec_ok(&d) && version != NOTICE_VERSION)
		return ERR_VERSION;
	n.when = dec_var(&d);
	n.to = dec_bytes(&d);
	n.subject = dec_bytes(&d);
	n.text = dec_bytes(&d);
	n.left_out = dec_var32(&d);
	if (!dec_end(&d))
		return ERR_CORRUPT;
	*ret = n;
	return 0;
}

bool dsn_wanted(const struct spool_message *m, const struct spool_recipient *r,
		enum dsn_action action)
{
	if (!m->sender.n || (m->flags & (SPOOL_MSG_IS_DSN | SPOOL_MSG_NO_DSN)) ||
	    (r->notify & SPOOL_NOTIFY_NEVER))
		return false;
	switch (action) {
	case DSN_FAILED:
		return !r->notify || (r->notify & SPOOL_NOTIFY_FAILURE);
	case DSN_DELAYED:
		return r->notify & SPOOL_NOTIFY_DELAY;
	case DSN_RELAYED:
	case DSN_DELIVERED:
		return r->notify & SPOOL_NOTIFY_SUCCESS;
	}
	return false;
}

size_t dsn_original_size(const struct spool_message *m, bool *ret_full)
{
	*ret_full = (m->flags & SPOOL_MSG_RET_FULL) && m->size <= DSN_ORIGINAL_MAX;
	if (*ret_full)
		return (size_t)m->size;
	return m->header_size < DSN_ORIGINAL_MAX ? m->header_size : DSN_ORIGINAL_MAX;
}
