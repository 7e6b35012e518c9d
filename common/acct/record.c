#include "common/acct/record.h"

#include "common/base/codec.h"
#include "common/base/err.h"

/*
 * Version 1: version, type, then the fields in the order of the struct. A new field goes to the
 * end with a new version; a decoder takes every version that it knows.
 */
#define RECORD_VERSION 1

static void ip_encode(const struct ip *ip, struct buf *b)
{
	enc_u8(b, ip->family);
	if (ip->family == IP_V4)
		buf_add(b, ip->b, 4);
	else if (ip->family == IP_V6)
		buf_add(b, ip->b, 16);
}

static void ip_decode(struct dec *d, struct ip *ret)
{
	size_t n;

	*ret = (struct ip){.family = dec_u8(d)};
	switch (ret->family) {
	case IP_NONE:
		return;
	case IP_V4:
		n = 4;
		break;
	case IP_V6:
		n = 16;
		break;
	default:
		d->bad = true;
		return;
	}
	for (size_t i = 0; i < n; i++)
		ret->b[i] = dec_u8(d);
}

void acct_record_encode(const struct acct_record *r, struct buf *b)
{
	enc_u8(b, RECORD_VERSION);
	enc_u8(b, (uint8_t)r->type);
	enc_var(b, r->time_logged);
	enc_var(b, r->time_queued);
	enc_var(b, r->time_first_attempt);
	enc_bytes(b, r->orig);
	enc_bytes(b, r->rcpt);
	enc_bytes(b, r->orcpt);
	enc_bytes(b, r->dsn_action);
	buf_add(b, r->enhanced, sizeof(r->enhanced));
	enc_var(b, r->code);
	enc_bytes(b, r->text);
	enc_bytes(b, r->mx_name);
	ip_encode(&r->mx_ip, b);
	ip_encode(&r->source_ip, b);
	enc_bytes(b, r->src_mta);
	enc_bytes(b, r->dlv_type);
	enc_bytes(b, r->esmtp);
	enc_var(b, r->size);
	enc_bytes(b, r->tls_protocol);
	enc_bytes(b, r->tls_cipher);
	enc_bytes(b, r->vmta);
	enc_bytes(b, r->pool);
	enc_bytes(b, r->job);
	enc_bytes(b, r->envid);
	enc_bytes(b, r->user);
	enc_bytes(b, r->queue);
	enc_var(b, r->attempt);
	enc_var(b, r->msgid);
}

static bool type_known(uint8_t type)
{
	return type == ACCT_DELIVERED || type == ACCT_BOUNCED || type == ACCT_TRANSIENT ||
	       type == ACCT_QUEUE;
}

static void envelope_decode(struct dec *d, struct acct_record *r)
{
	r->time_logged = dec_var(d);
	r->time_queued = dec_var(d);
	r->time_first_attempt = dec_var(d);
	r->orig = dec_bytes(d);
	r->rcpt = dec_bytes(d);
	r->orcpt = dec_bytes(d);
}

static void outcome_decode(struct dec *d, struct acct_record *r)
{
	uint32_t code;

	r->dsn_action = dec_bytes(d);
	for (size_t i = 0; i < sizeof(r->enhanced); i++)
		r->enhanced[i] = dec_u8(d);
	code = dec_var32(d);
	if (code > UINT16_MAX)
		d->bad = true;
	r->code = (uint16_t)code;
	r->text = dec_bytes(d);
	r->mx_name = dec_bytes(d);
	ip_decode(d, &r->mx_ip);
	ip_decode(d, &r->source_ip);
}

int acct_record_decode(struct slice payload, struct acct_record *ret)
{
	struct dec d = dec_of(payload.p, payload.n);
	struct acct_record r = {0};
	uint8_t version = dec_u8(&d), type;

	if (dec_ok(&d) && version != RECORD_VERSION)
		return ERR_VERSION;
	type = dec_u8(&d);
	if (!dec_ok(&d) || !type_known(type))
		return ERR_CORRUPT;
	r.type = (enum acct_type)type;
	envelope_decode(&d, &r);
	outcome_decode(&d, &r);
	r.src_mta = dec_bytes(&d);
	r.dlv_type = dec_bytes(&d);
	r.esmtp = dec_bytes(&d);
	r.size = dec_var(&d);
	r.tls_protocol = dec_bytes(&d);
	r.tls_cipher = dec_bytes(&d);
	r.vmta = dec_bytes(&d);
	r.pool = dec_bytes(&d);
	r.job = dec_bytes(&d);
	r.envid = dec_bytes(&d);
	r.user = dec_bytes(&d);
	r.queue = dec_bytes(&d);
	r.attempt = dec_var32(&d);
	r.msgid = dec_var(&d);
	if (!dec_end(&d))
		return ERR_CORRUPT;
	*ret = r;
	return 0;
}
