/*
 * commit_pool.c - which member of a pool takes a recipient.
 *
 * Weighted: smooth weighted round robin. Each choice adds its weight to every member, takes the one that has
 * most and takes the sum of all weights off it: exact in every run of so many choices as the weights
 * add up to, and evenly spread inside it. Members whose sources are all disabled for the site are
 * passed over; where all are, the mail waits in the member whose turn it is.
 *
 * Turns and counts are changed in the transaction that takes the mail, and stored by it (table quota).
 */
#include "spooler/commit_private.h"

#include <stdlib.h>

#include "common/base/localday.h"
#include "common/spool/quota_row.h"

struct member {
	int64_t current;
	uint64_t count;
	bool usable; /* for the recipient in question */
};

struct commit_pool {
	const struct conf_pool *conf;
	uint32_t day, turn;
	uint64_t used;
	bool dirty;
	struct member v[];
};

static uint32_t today(const struct commit *c, const struct conf_pool *conf)
{
	return conf->daily ? localday_of(c->now) : 0;
}

/* --- the row --- */

static size_t index_of(const struct conf_pool *p, struct slice name)
{
	size_t i = 0;

	while (i < p->member_count && !slice_ieq_str(name, p->members[i]->name))
		i++;
	return i;
}

/* Counts are kept by name. Turns go on only where the members and their shares are the same. */
static void take_row(struct commit_pool *p, const struct quota_pool *row)
{
	struct slice rest = row->members;
	bool same = row->member_count == p->conf->member_count;
	struct quota_member m;
	uint32_t n = 0;
	size_t at;

	p->day = row->day;
	for (; quota_member_next(&rest, &m); n++) {
		at = index_of(p->conf, m.name);
		same = same && at == n && m.share == p->conf->shares[at];
		if (at == p->conf->member_count)
			continue;
		p->v[at].count = m.count;
		p->v[at].current = m.current;
		if (n == row->turn) {
			p->turn = (uint32_t)at;
			p->used = row->used;
		}
	}
	for (at = 0; !same && at < p->conf->member_count; at++)
		p->v[at].current = 0;
}

static int load(struct commit *c, const struct conf_pool *conf, struct commit_pool **ret)
{
	struct commit_pool *p = xcalloc(1, sizeof(*p) + conf->member_count * sizeof(struct member));
	struct quota_pool row;
	int rc = quota_pool_get(write_read(c->w), conf->name, &row);

	p->conf = conf;
	p->day = today(c, conf);
	if (rc == 0)
		take_row(p, &row);
	if (rc < 0 && rc != ERR_NOT_FOUND) {
		free(p);
		return rc;
	}
	*ret = p;
	return 0;
}

static void encode(const struct commit_pool *p, struct buf *members, struct buf *row)
{
	struct quota_pool q = {.day = p->day,
			       .turn = p->turn,
			       .used = p->used,
			       .member_count = (uint32_t)p->conf->member_count};
	size_t i;

	buf_clear(members);
	for (i = 0; i < p->conf->member_count; i++) {
		const struct quota_member m = {.name = slice_str(p->conf->members[i]->name),
					       .share = p->conf->shares[i],
					       .current = p->v[i].current,
					       .count = p->v[i].count};

		quota_member_encode(&m, members);
	}
	q.members = buf_slice(members);
	buf_clear(row);
	quota_pool_encode(&q, row);
}

int pool_store(struct commit *c, struct commit_pool *p)
{
	struct spool_key k;

	if (!p || !p->dirty)
		return 0;
	p->dirty = false;
	k = quota_pool_key(p->conf->name);
	encode(p, &c->original, &c->value);
	return write_put(c->w, SPOOL_QUOTA, &k, buf_slice(&c->value));
}

void pool_free(struct commit_pool *p)
{
	free(p);
}

/* --- choosing --- */

/* With a new day, counts and turns begin anew. The day never goes back. */
static void turn_day(struct commit *c, struct commit_pool *p)
{
	uint32_t day = today(c, p->conf);
	size_t i;

	if (p->conf->daily ? day <= p->day : p->day == 0)
		return;
	if (p->conf->daily) {
		for (i = 0; i < p->conf->member_count; i++)
			p->v[i] = (struct member){.current = 0};
		p->turn = 0;
		p->used = 0;
	}
	p->day = day;
}

static bool is_usable(struct commit *c, const struct conf_vmta *m, const struct pool_wish *wish)
{
	struct commit_vmta *v;

	if (cache_vmta_by_name(c, slice_str(m->name), &v) < 0)
		return false;
	for (unsigned i = 0; i < wish->not_count; i++)
		if (wish->not_in[i] == v->id)
			return false;
	return !health_is_disabled(c, v, wish->domain) &&
	       !(wish->better && health_is_poor(c, v, wish->domain));
}

static size_t next_usable(const struct commit_pool *p, size_t from)
{
	size_t n = p->conf->member_count, i;

	for (i = 0; i < n; i++)
		if (p->v[(from + i) % n].usable)
			return (from + i) % n;
	return n;
}

static size_t choose_weighted(struct commit_pool *p)
{
	size_t n = p->conf->member_count, best = n, i;
	int64_t sum = 0;

	for (i = 0; i < n; i++) {
		if (!p->v[i].usable)
			continue;
		p->v[i].current += (int64_t)p->conf->shares[i];
		sum += (int64_t)p->conf->shares[i];
		if (best == n || p->v[i].current > p->v[best].current)
			best = i;
	}
	p->v[best].current -= sum;
	return best;
}

/* A recipient that its turn's member cannot take goes to the next one, and is not of the turn. */
static size_t choose_sequential(struct commit_pool *p)
{
	size_t n = p->conf->member_count, at = next_usable(p, p->turn);

	if (at == p->turn && ++p->used >= p->conf->shares[at]) {
		p->turn = (uint32_t)((at + 1) % n);
		p->used = 0;
	}
	return at;
}

static size_t choose(struct commit_pool *p)
{
	size_t n = p->conf->member_count, at;

	switch ((enum conf_selection)p->conf->selection) {
	case CONF_WEIGHTED:
		return choose_weighted(p);
	case CONF_SEQUENTIAL:
		return choose_sequential(p);
	case CONF_ROUND_ROBIN:
		break;
	}
	at = next_usable(p, p->turn);
	p->turn = (uint32_t)((at + 1) % n);
	return at;
}

int pool_pick(struct commit *c, struct commit_route *r, const struct pool_wish *wish,
	      struct commit_vmta **ret)
{
	const struct conf_pool *conf = r->pool;
	struct commit_pool *p = r->state;
	size_t i, usable = 0;
	bool plain;
	int rc = p ? 0 : load(c, conf, &r->state);

	if (rc < 0)
		return rc;
	p = r->state;
	turn_day(c, p);
	plain = !wish->not_count && !wish->better && health_all_well(c);
	for (i = 0; i < conf->member_count; i++)
		usable += p->v[i].usable = plain || is_usable(c, conf->members[i], wish);
	if (!usable && wish->not_count)
		return ERR_NOT_FOUND;
	for (i = 0; !usable && i < conf->member_count; i++)
		p->v[i].usable = true;
	i = choose(p);
	p->v[i].count++;
	p->dirty = true;
	return cache_vmta_by_name(c, slice_str(conf->members[i]->name), ret);
}

/* --- the operator --- */

bool commit_has_vmta(const struct commit *c, struct slice name)
{
	return conf_vmta_find(c->conf, name) != NULL;
}

bool commit_has_route(const struct commit *c, struct slice name)
{
	return conf_vmta_find(c->conf, name) || conf_pool_find(c->conf, name);
}

static bool is_next(const struct commit_pool *p, size_t at)
{
	const struct conf_pool *conf = p->conf;

	if (conf->selection != CONF_WEIGHTED)
		return at == p->turn;
	for (size_t i = 0; i < conf->member_count; i++) {
		int64_t mine = p->v[at].current + (int64_t)conf->shares[at];
		int64_t other = p->v[i].current + (int64_t)conf->shares[i];

		if (other > mine || (other == mine && i < at))
			return false;
	}
	return true;
}

static const char *const selections[] = {
	[CONF_ROUND_ROBIN] = "round-robin",
	[CONF_WEIGHTED] = "weighted",
	[CONF_SEQUENTIAL] = "sequential",
};

static int show(struct commit *c, const struct conf_pool *conf,
		void (*each)(const struct commit_pool_row *row, void *arg), void *arg)
{
	struct commit_route *r;
	size_t i;
	int rc = cache_route(c, conf->name, &r);

	if (rc == 0 && !r->state)
		rc = load(c, conf, &r->state);
	if (rc < 0)
		return rc == ERR_NOT_FOUND ? 0 : rc;
	turn_day(c, r->state);
	for (i = 0; i < conf->member_count; i++) {
		const struct commit_pool_row row = {
			.pool = conf->name,
			.selection = selections[conf->selection],
			.daily = conf->daily,
			.member = conf->members[i]->name,
			.share = conf->shares[i],
			.recipients = r->state->v[i].count,
			.next = is_next(r->state, i),
			.used = i == r->state->turn ? r->state->used : 0,
		};

		each(&row, arg);
	}
	return 0;
}

int commit_pools_show(struct commit *c, struct spool_write *w,
		      void (*each)(const struct commit_pool_row *row, void *arg), void *arg)
{
	int rc = 0;

	invariant(w == c->w);
	for (size_t i = 0; rc == 0 && i < conf_pool_count(c->conf); i++)
		rc = show(c, conf_pool_at(c->conf, i), each, arg);
	return rc;
}

int commit_pool_reset(struct commit *c, struct spool_write *w, struct slice pool)
{
	const struct conf_pool *conf = conf_pool_find(c->conf, pool);
	struct commit_route *r;
	struct spool_key k;
	int rc;

	invariant(w == c->w);
	if (!conf)
		return ERR_NOT_FOUND;
	rc = cache_route(c, conf->name, &r);
	if (rc < 0)
		return rc;
	pool_free(r->state);
	r->state = NULL;
	k = quota_pool_key(conf->name);
	rc = write_delete(w, SPOOL_QUOTA, &k);
	return rc == ERR_NOT_FOUND ? 0 : rc;
}
