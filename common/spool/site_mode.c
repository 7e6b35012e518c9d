#include "common/spool/site_mode.h"

static void enc_address(struct buf *b, const struct ip *ip)
{
	enc_bytes(b, slice_of(ip->b, ip->family == IP_V4 ? 4 : ip->family == IP_V6 ? 16 : 0));
}

static void dec_address(struct dec *d, struct ip *ret)
{
	struct slice s = dec_bytes(d);

	*ret = (struct ip){.family = s.n == 4 ? IP_V4 : s.n == 16 ? IP_V6 : IP_NONE};
	if (s.n && ret->family == IP_NONE)
		d->bad = true;
	else if (s.n)
		memcpy(ret->b, s.p, s.n);
}

static void enc_why(struct buf *b, struct slice why)
{
	enc_bytes(b, slice_sub(why, 0, SITE_WHY_MAX));
}

void site_mode_encode(const struct site_mode *m, struct buf *b)
{
	enc_u8(b, m->mode);
	enc_var(b, m->since);
	enc_var(b, m->until);
	enc_why(b, m->reason);
	enc_var(b, m->order);
	enc_bytes(b, m->tempos);
	enc_bytes(b, m->disabled);
	enc_bytes(b, m->changes);
}

void site_mode_decode(struct dec *d, struct site_mode *ret)
{
	ret->mode = dec_u8(d);
	ret->since = dec_var(d);
	ret->until = dec_var(d);
	ret->reason = dec_bytes(d);
	ret->order = dec_var(d);
	ret->tempos = dec_bytes(d);
	ret->disabled = dec_bytes(d);
	ret->changes = dec_bytes(d);
	if (ret->mode > SITE_BACKOFF)
		d->bad = true;
}

void site_tempo_encode(const struct site_tempo *p, struct buf *b)
{
	enc_address(b, &p->ip);
	enc_u8(b, p->phase);
	enc_var(b, p->rate);
	enc_var(b, p->entry);
	enc_var(b, p->good);
	enc_var(b, p->cut);
	enc_var(b, p->next);
	enc_var(b, p->step);
	enc_var(b, p->stay);
	enc_var(b, p->patience);
	enc_var(b, p->connections);
}

void site_disabled_encode(const struct site_disabled *x, struct buf *b)
{
	enc_address(b, &x->ip);
	enc_var(b, x->since);
	enc_var(b, x->until);
	enc_why(b, x->why);
}

void site_change_encode(const struct site_change *c, struct buf *b)
{
	enc_var(b, c->at);
	enc_u8(b, c->mode);
	enc_why(b, c->why);
}

static bool taken(struct slice *list, const struct dec *d)
{
	*list = dec_ok(d) ? slice_of(d->p, (size_t)(d->end - d->p)) : slice_of("", 0);
	return dec_ok(d);
}

bool site_tempo_next(struct slice *list, struct site_tempo *ret)
{
	struct dec d = dec_of(list->p, list->n);

	if (list->n == 0)
		return false;
	dec_address(&d, &ret->ip);
	ret->phase = dec_u8(&d);
	ret->rate = dec_var(&d);
	ret->entry = dec_var(&d);
	ret->good = dec_var(&d);
	ret->cut = dec_var(&d);
	ret->next = dec_var(&d);
	ret->step = dec_var32(&d);
	ret->stay = dec_var32(&d);
	ret->patience = dec_var32(&d);
	ret->connections = dec_var32(&d);
	return taken(list, &d);
}

bool site_disabled_next(struct slice *list, struct site_disabled *ret)
{
	struct dec d = dec_of(list->p, list->n);

	if (list->n == 0)
		return false;
	dec_address(&d, &ret->ip);
	ret->since = dec_var(&d);
	ret->until = dec_var(&d);
	ret->why = dec_bytes(&d);
	return taken(list, &d);
}

bool site_change_next(struct slice *list, struct site_change *ret)
{
	struct dec d = dec_of(list->p, list->n);

	if (list->n == 0)
		return false;
	ret->at = dec_var(&d);
	ret->mode = dec_u8(&d);
	ret->why = dec_bytes(&d);
	return taken(list, &d);
}
