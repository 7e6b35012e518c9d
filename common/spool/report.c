#include "common/spool/report.h"

#include "common/base/codec.h"
#include "common/base/err.h"

#define REPORT_VERSION 1

/* What a transaction report takes at most: see report_transaction_bound(). */
#define TRANSACTION_FIXED 128 /* numbers, addresses, times, lengths of names */
#define TEXT_AREA 1024 /* for texts, shared by the outcomes of a transaction */
#define OUTCOME_TEXT 128 /* of text that every outcome may have besides */
#define OUTCOME_FIXED 32 /* without its text */
#define NAME_MAX_STORED 300 /* of site and MX names and the ESMTP list */
#define TLS_NAME_MAX 64

enum { /* flags of an outcome */
       OUTCOME_ATTEMPTED = 1,
       OUTCOME_RELAYED = 2,
       OUTCOME_NO_DSN = 4,
       OUTCOME_NO_ACCOUNTING = 8,
       OUTCOME_SAME_TEXT = 16, /* as the outcome before */
};

static int begin(struct dec *d, struct slice payload)
{
	uint8_t version;

	*d = dec_of(payload.p, payload.n);
	version = dec_u8(d);
	return dec_ok(d) && version == REPORT_VERSION ? 0 : ERR_CORRUPT;
}

static int finish(const struct dec *d)
{
	return dec_end(d) ? 0 : ERR_CORRUPT;
}

static void enc_cut(struct buf *b, struct slice s, size_t max)
{
	enc_bytes(b, slice_sub(s, 0, max));
}

static void enc_ip(struct buf *b, const struct ip *ip)
{
	enc_u8(b, ip->family);
	if (ip->family == IP_V4)
		buf_add(b, ip->b, 4);
	else if (ip->family == IP_V6)
		buf_add(b, ip->b, 16);
}

static void dec_ip(struct dec *d, struct ip *ret)
{
	size_t i, n;

	*ret = (struct ip){.family = dec_u8(d)};
	if (ret->family != IP_NONE && ret->family != IP_V4 && ret->family != IP_V6)
		d->bad = true;
	n = ret->family == IP_V4 ? 4 : ret->family == IP_V6 ? 16 : 0;
	for (i = 0; i < n; i++)
		ret->b[i] = dec_u8(d);
}

static void enc_enhanced(struct buf *b, const uint8_t *e)
{
	buf_add(b, e, 3);
}

static void dec_enhanced(struct dec *d, uint8_t *e)
{
	e[0] = dec_u8(d);
	e[1] = dec_u8(d);
	e[2] = dec_u8(d);
}

/* `room` is what this text may take; texts that are equal to the one before take none. */
static void outcome_encode(const struct report_outcome *o, const struct report_outcome *before,
			   size_t *room, struct buf *b)
{
	bool same = before && slice_eq(o->text, before->text);
	struct slice text =
		slice_sub(o->text, 0, *room < REPORT_TEXT_MAX ? *room : REPORT_TEXT_MAX);

	enc_var(b, o->rcpt);
	enc_var(b, o->queue);
	enc_u8(b, (uint8_t)o->class);
	enc_var(b, o->code);
	enc_enhanced(b, o->enhanced);
	enc_u8(b, (uint8_t)((o->attempted ? OUTCOME_ATTEMPTED : 0) |
			    (o->relayed ? OUTCOME_RELAYED : 0) | (o->no_dsn ? OUTCOME_NO_DSN : 0) |
			    (o->no_accounting ? OUTCOME_NO_ACCOUNTING : 0) |
			    (same ? OUTCOME_SAME_TEXT : 0)));
	enc_var(b, o->due);
	if (same)
		return;
	enc_bytes(b, text);
	*room -= text.n;
}

static void outcome_decode(struct dec *d, const struct report_outcome *before,
			   struct report_outcome *ret)
{
	uint8_t class, flags;

	ret->rcpt = dec_var32(d);
	ret->queue = dec_var32(d);
	class = dec_u8(d);
	ret->code = (uint16_t)dec_var32(d);
	dec_enhanced(d, ret->enhanced);
	flags = dec_u8(d);
	ret->due = dec_var(d);
	if (class < OUTCOME_DELIVERED || class > OUTCOME_TRANSIENT)
		d->bad = true;
	ret->class = (enum outcome_class) class;
	ret->attempted = flags & OUTCOME_ATTEMPTED;
	ret->relayed = flags & OUTCOME_RELAYED;
	ret->no_dsn = flags & OUTCOME_NO_DSN;
	ret->no_accounting = flags & OUTCOME_NO_ACCOUNTING;
	if (!(flags & OUTCOME_SAME_TEXT))
		ret->text = dec_bytes(d);
	else if (before)
		ret->text = before->text;
	else
		d->bad = true;
}

void report_transaction_encode(const struct report_transaction *t, struct buf *b)
{
	size_t room = TEXT_AREA;
	uint32_t i;

	enc_u8(b, REPORT_VERSION);
	enc_u64(b, t->msgid);
	enc_u8(b, (uint8_t)t->type);
	enc_cut(b, t->site, NAME_MAX_STORED);
	enc_cut(b, t->mx_name, NAME_MAX_STORED);
	enc_ip(b, &t->mx_ip);
	enc_ip(b, &t->source_ip);
	enc_cut(b, t->tls_protocol, TLS_NAME_MAX);
	enc_cut(b, t->tls_cipher, TLS_NAME_MAX);
	enc_cut(b, t->esmtp, NAME_MAX_STORED);
	enc_var(b, t->bytes);
	enc_var(b, t->started);
	enc_var(b, t->ended);
	enc_var(b, t->warmup_day);
	enc_var(b, t->outcome_count);
	for (i = 0; i < t->outcome_count; i++) {
		room += OUTCOME_TEXT;
		outcome_encode(&t->outcomes[i], i ? &t->outcomes[i - 1] : NULL, &room, b);
	}
}

/* Room for n structs at the start of scratch; n is bounded by what is left to read. */
static void *array_room(struct dec *d, struct buf *scratch, uint32_t n, size_t size, size_t min)
{
	if (!dec_ok(d) || n > (size_t)(d->end - d->p) / min) {
		d->bad = true;
		n = 0;
	}
	buf_clear(scratch);
	return buf_reserve(scratch, ((size_t)n + 1) * size);
}

int report_transaction_decode(struct slice payload, struct buf *scratch,
			      struct report_transaction *ret)
{
	struct report_outcome *o;
	struct dec d;
	uint8_t type;
	uint32_t i;
	int rc = begin(&d, payload);

	if (rc < 0)
		return rc;
	ret->msgid = dec_u64(&d);
	type = dec_u8(&d);
	ret->site = dec_bytes(&d);
	ret->mx_name = dec_bytes(&d);
	dec_ip(&d, &ret->mx_ip);
	dec_ip(&d, &ret->source_ip);
	ret->tls_protocol = dec_bytes(&d);
	ret->tls_cipher = dec_bytes(&d);
	ret->esmtp = dec_bytes(&d);
	ret->bytes = dec_var(&d);
	ret->started = dec_var(&d);
	ret->ended = dec_var(&d);
	ret->warmup_day = dec_var32(&d);
	ret->outcome_count = dec_var32(&d);
	if (type > DLV_LOCAL)
		return ERR_CORRUPT;
	ret->type = (enum dlv_type)type;
	o = array_room(&d, scratch, ret->outcome_count, sizeof(*o), 9);
	for (i = 0; !d.bad && i < ret->outcome_count; i++)
		outcome_decode(&d, i ? &o[i - 1] : NULL, &o[i]);
	ret->outcomes = o;
	return finish(&d);
}

enum { SITE_CLEAR = 1, SITE_RECORD = 2 };

void report_site_encode(const struct report_site *s, struct buf *b)
{
	enc_u8(b, REPORT_VERSION);
	enc_cut(b, s->name, NAME_MAX_STORED);
	enc_cut(b, s->queue, 2 * NAME_MAX_STORED);
	enc_u8(b, (uint8_t)((s->clear ? SITE_CLEAR : 0) | (s->record ? SITE_RECORD : 0)));
	site_mode_encode(&s->mode, b);
	enc_var(b, s->since);
	enc_var(b, s->retry_position);
	enc_var(b, s->retry_at);
	enc_enhanced(b, s->enhanced);
	enc_cut(b, s->text, REPORT_TEXT_MAX);
	enc_cut(b, s->mx_name, NAME_MAX_STORED);
	enc_ip(b, &s->mx_ip);
	enc_ip(b, &s->source_ip);
	enc_var(b, s->when);
}

int report_site_decode(struct slice payload, struct report_site *ret)
{
	struct dec d;
	uint8_t flags;
	int rc = begin(&d, payload);

	if (rc < 0)
		return rc;
	ret->name = dec_bytes(&d);
	ret->queue = dec_bytes(&d);
	flags = dec_u8(&d);
	ret->clear = flags & SITE_CLEAR;
	ret->record = flags & SITE_RECORD;
	site_mode_decode(&d, &ret->mode);
	ret->since = dec_var(&d);
	ret->retry_position = dec_var32(&d);
	ret->retry_at = dec_var(&d);
	dec_enhanced(&d, ret->enhanced);
	ret->text = dec_bytes(&d);
	ret->mx_name = dec_bytes(&d);
	dec_ip(&d, &ret->mx_ip);
	dec_ip(&d, &ret->source_ip);
	ret->when = dec_var(&d);
	return finish(&d);
}

static void items_encode(const struct report_park_item *items, uint32_t n, struct buf *b)
{
	uint32_t i;

	enc_var(b, n);
	for (i = 0; i < n; i++) {
		enc_u64(b, items[i].msgid);
		enc_var(b, items[i].rcpt);
	}
}

static const struct report_park_item *items_decode(struct dec *d, struct buf *scratch,
						   uint32_t *ret_n)
{
	struct report_park_item *items;
	uint32_t i, n = dec_var32(d);

	items = array_room(d, scratch, n, sizeof(*items), 9);
	for (i = 0; !d->bad && i < n; i++) {
		items[i].msgid = dec_u64(d);
		items[i].rcpt = dec_var32(d);
	}
	*ret_n = n;
	return items;
}

void report_park_encode(const struct report_park *p, struct buf *b)
{
	enc_u8(b, REPORT_VERSION);
	enc_var(b, p->queue);
	enc_var(b, p->due);
	items_encode(p->items, p->item_count, b);
}

int report_park_decode(struct slice payload, struct buf *scratch, struct report_park *ret)
{
	struct dec d;
	int rc = begin(&d, payload);

	if (rc < 0)
		return rc;
	ret->queue = dec_var32(&d);
	ret->due = dec_var(&d);
	ret->items = items_decode(&d, scratch, &ret->item_count);
	return finish(&d);
}

void report_wake_encode(const struct report_wake *w, struct buf *b)
{
	enc_u8(b, REPORT_VERSION);
	enc_var(b, w->queue);
	enc_var(b, w->at);
}

int report_wake_decode(struct slice payload, struct report_wake *ret)
{
	struct dec d;
	int rc = begin(&d, payload);

	if (rc < 0)
		return rc;
	ret->queue = dec_var32(&d);
	ret->at = dec_var(&d);
	return finish(&d);
}

void report_member_encode(const struct report_member *m, struct buf *b)
{
	enc_u8(b, REPORT_VERSION);
	enc_var(b, m->queue);
	enc_cut(b, m->provider, NAME_MAX_STORED);
}

int report_member_decode(struct slice payload, struct report_member *ret)
{
	struct dec d;
	int rc = begin(&d, payload);

	if (rc < 0)
		return rc;
	ret->queue = dec_var32(&d);
	ret->provider = dec_bytes(&d);
	return finish(&d);
}

void report_order_ack_encode(const struct report_order_ack *a, struct buf *b)
{
	enc_u8(b, REPORT_VERSION);
	enc_var(b, a->order);
	items_encode(a->held, a->held_count, b);
}

int report_order_ack_decode(struct slice payload, struct buf *scratch, struct report_order_ack *ret)
{
	struct dec d;
	int rc = begin(&d, payload);

	if (rc < 0)
		return rc;
	ret->order = dec_var(&d);
	ret->held = items_decode(&d, scratch, &ret->held_count);
	return finish(&d);
}

void report_reroute_encode(const struct report_reroute *r, struct buf *b)
{
	enc_u8(b, REPORT_VERSION);
	enc_var(b, r->queue);
	enc_cut(b, r->target, NAME_MAX_STORED);
	enc_var(b, r->until);
	enc_cut(b, r->why, REPORT_TEXT_MAX);
}

int report_reroute_decode(struct slice payload, struct report_reroute *ret)
{
	struct dec d;
	int rc = begin(&d, payload);

	if (rc < 0)
		return rc;
	ret->queue = dec_var32(&d);
	ret->target = dec_bytes(&d);
	ret->until = dec_var(&d);
	ret->why = dec_bytes(&d);
	return finish(&d);
}

void report_move_encode(const struct report_move *m, struct buf *b)
{
	enc_u8(b, REPORT_VERSION);
	enc_var(b, m->queue);
	enc_u8(b, m->reselect);
	enc_cut(b, m->target, NAME_MAX_STORED);
	items_encode(m->items, m->item_count, b);
}

int report_move_decode(struct slice payload, struct buf *scratch, struct report_move *ret)
{
	struct dec d;
	uint8_t reselect;
	int rc = begin(&d, payload);

	if (rc < 0)
		return rc;
	ret->queue = dec_var32(&d);
	reselect = dec_u8(&d);
	ret->reselect = reselect;
	ret->target = dec_bytes(&d);
	ret->items = items_decode(&d, scratch, &ret->item_count);
	return reselect > 1 ? ERR_CORRUPT : finish(&d);
}

void report_warmup_encode(const struct report_warmup *w, struct buf *b)
{
	enc_u8(b, REPORT_VERSION);
	enc_cut(b, w->site, NAME_MAX_STORED);
	enc_ip(b, &w->source_ip);
	enc_var(b, w->day.day);
	enc_var(b, w->day.step);
	enc_var(b, w->day.number);
	enc_var(b, w->day.granted);
	enc_var(b, w->day.last);
	enc_u8(b, (uint8_t)w->day.why);
	enc_var(b, w->set);
}

int report_warmup_decode(struct slice payload, struct report_warmup *ret)
{
	struct dec d;
	uint8_t why;
	int rc = begin(&d, payload);

	if (rc < 0)
		return rc;
	*ret = (struct report_warmup){.site = dec_bytes(&d)};
	dec_ip(&d, &ret->source_ip);
	ret->day.day = dec_var32(&d);
	ret->day.step = dec_var32(&d);
	ret->day.number = dec_var(&d);
	ret->day.granted = dec_var(&d);
	ret->day.last = dec_var(&d);
	why = dec_u8(&d);
	ret->set = dec_var(&d);
	if (why >= WARMUP_WHY_COUNT)
		return ERR_CORRUPT;
	ret->day.why = (enum warmup_why)why;
	return finish(&d);
}

static uint64_t stored(struct slice name, uint64_t most)
{
	return name.n < most ? name.n : most;
}

uint64_t report_transaction_bound(const struct report_transaction *t, uint32_t n)
{
	uint64_t names = 3 * NAME_MAX_STORED + 2 * TLS_NAME_MAX;
	uint64_t texts = TEXT_AREA + (uint64_t)n * OUTCOME_TEXT;

	if (t)
		names = stored(t->site, NAME_MAX_STORED) + stored(t->mx_name, NAME_MAX_STORED) +
			stored(t->esmtp, NAME_MAX_STORED) + stored(t->tls_protocol, TLS_NAME_MAX) +
			stored(t->tls_cipher, TLS_NAME_MAX);
	if (texts > (uint64_t)n * REPORT_TEXT_MAX)
		texts = (uint64_t)n * REPORT_TEXT_MAX;
	return TRANSACTION_FIXED + names + texts + (uint64_t)n * OUTCOME_FIXED;
}

void report_notice_encode(const struct report_notice *n, struct buf *b)
{
	enc_u8(b, REPORT_VERSION);
	enc_var(b, n->when);
	enc_bytes(b, n->to);
	enc_bytes(b, n->subject);
	enc_bytes(b, n->text);
	enc_var(b, n->left_out);
}

int report_notice_decode(struct slice payload, struct report_notice *ret)
{
	struct dec d;
	int rc = begin(&d, payload);

	if (rc < 0)
		return rc;
	ret->when = dec_var(&d);
	ret->to = dec_bytes(&d);
	ret->subject = dec_bytes(&d);
	ret->text = dec_bytes(&d);
	ret->left_out = dec_var32(&d);
	return finish(&d);
}
