#include "worker/slots.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/err.h"
#include "common/base/hash.h"
#include "common/base/log.h"
#include "common/base/xalloc.h"
#include "common/conf/conf.h"
#include "worker/connection.h"
#include "worker/context.h"
#include "worker/hold.h"
#include "worker/probe.h"
#include "worker/queue.h"
#include "worker/shared.h"
#include "worker/site.h"
#include "worker/wants.h"

#define TURNS_AT_ONCE 200
#define AGAIN_AFTER (50 * USEC_PER_MSEC) /* when no bell has come */
#define IDLE_LOOK (25 * USEC_PER_MSEC) /* whether somebody began to wait for what is idle here */
#define RELOAD_AGAIN (10 * USEC_PER_MSEC) /* no bell says that the others have it too */
/* Between sites as between workers (limits.h): what a connection may do before it gives way. */
#define TURN_USEC (5 * USEC_PER_SEC)
#define TURN_MESSAGES 20

/* Of connections that are asked at once whether they can be interrupted. */
#define INTERRUPT_LOOKS 64

TAILQ_HEAD(site_list, site);
TAILQ_HEAD(rank_list, slots_rank);
TAILQ_HEAD(level_list, level);

/* What an urgent site without a connection may take in a row while others wait: as between classes. */
#define URGENT_TURNS 8
/* Of the places that this worker holds, while sites wait whose hosts have answered: */
#define UNREACHED_SHARE 16
#define FAILED_SHARE 32
/* Of the newest untried sites, that are looked at for one that does not wait for DNS. */
#define NEWEST_LOOKS 16

/* In the order of their turns; the last is for sites with a connection that want one more. */
enum { URGENT, UNTRIED, FAILED, WITHOUT, WITH, LISTS };

struct level {
	uint64_t priority;
	uint32_t count; /* of sites that wait */
	struct site_list of[LISTS];
	struct rank_list
		holders; /* without those on their way out and allow-priority-interruption = no */
	TAILQ_ENTRY(level) link;
};

struct cap {
	char *key; /* kind and name */
	enum limit_kind kind;
	uint32_t n; /* when it last held a site */
	uint32_t held; /* by connections of this worker */
	uint32_t leaving; /* of these were told to make room for a site that waits here */
	uint32_t waiting_count;
	uint32_t reached_waiting; /* of these, sites whose hosts have answered */
	uint32_t urgent_turns; /* in a row */
	struct level_list levels; /* the highest priority first */
	TAILQ_ENTRY(cap) link; /* among those with waiting sites */
	UT_hash_handle hh;
};

struct slots {
	struct worker *w;
	struct site_list fresh; /* want a connection and were not yet held by a cap */
	struct cap *caps; /* uthash */
	TAILQ_HEAD(, cap) waited; /* caps that hold sites */
	uint32_t waited_count, pass_left; /* not yet asked in this pass */
	uint32_t wanting_count;
	uint32_t all_waiting; /* for caps that hold everybody */
	uint32_t adopted_gen;
	struct cap *all_held_by; /* in this turn of the pump; NULL: none does */
	struct loop_timer *again;
	TAILQ_HEAD(, connection) idle;
	struct loop_timer *look; /* while one is idle */
	uint64_t waits_seen;
	uint32_t later; /* turns that wait for DNS, in this run of the pump */
	bool pump_due;
	bool said_full;
	bool held; /* the site whose turn it is has said why it waits */
};

static void on_again(void *arg)
{
	struct slots *sl = arg;

	if (sl->adopted_gen != sl->w->conf_gen)
		slots_adopt(sl->w);
	slots_pump(sl->w);
}

static void on_look(void *arg)
{
	struct slots *sl = arg;
	uint64_t waits = limits_waits(sl->w->shm);
	struct connection *c, *next;

	for (c = waits != sl->waits_seen ? TAILQ_FIRST(&sl->idle) : NULL; c; c = next) {
		next = TAILQ_NEXT(c, idle);
		connection_look(c);
	}
	sl->waits_seen = waits;
	if (!TAILQ_EMPTY(&sl->idle))
		loop_timer_set(sl->look, IDLE_LOOK);
}

struct slots *slots_new(struct worker *w)
{
	struct slots *sl = xcalloc(1, sizeof(*sl));

	sl->w = w;
	sl->adopted_gen = UINT32_MAX;
	TAILQ_INIT(&sl->fresh);
	TAILQ_INIT(&sl->waited);
	TAILQ_INIT(&sl->idle);
	sl->look = loop_timer_new(w->loop, on_look, sl);
	sl->again = loop_timer_new(w->loop, on_again, sl);
	return sl;
}

static void cap_free(struct slots *sl, struct cap *cap)
{
	HASH_DEL(sl->caps, cap);
	free(cap->key);
	free(cap);
}

void slots_free(struct slots *sl)
{
	struct cap *cap, *next;

	if (!sl)
		return;
	HASH_ITER(hh, sl->caps, cap, next)
		cap_free(sl, cap);
	loop_timer_free(sl->again);
	loop_timer_free(sl->look);
	free(sl);
}

/* --- caps --- */

static struct cap *cap_get(struct slots *sl, const struct limit_want *x)
{
	char key[16 + 2 * WANTS_HOST_MAX + IP_TEXT_MAX];
	size_t n = x->name.n < sizeof(key) - 2 ? x->name.n : sizeof(key) - 2;
	struct cap *cap;

	key[0] = (char)('A' + x->kind);
	memcpy(key + 1, x->name.p, n);
	key[++n] = '\0';
	HASH_FIND(hh, sl->caps, key, n, cap);
	if (cap)
		return cap;
	cap = xcalloc(1, sizeof(*cap));
	cap->key = xstrdup(key);
	cap->kind = x->kind;
	TAILQ_INIT(&cap->levels);
	HASH_ADD_KEYPTR(hh, sl->caps, cap->key, n, cap);
	return cap;
}

static void cap_put(struct slots *sl, struct cap *cap)
{
	if (cap->held == 0 && cap->waiting_count == 0)
		cap_free(sl, cap);
}

/* No other site of this worker can connect either. */
static bool holds_everybody(enum limit_kind kind)
{
	return kind == LIMIT_TOTAL || kind == LIMIT_VMTA || kind == LIMIT_POOL;
}

/* --- who waits for a cap --- */

static bool is_unreached(int list)
{
	return list == UNTRIED || list == FAILED;
}

/* Whether sites of this list may have a place now. */
static bool may_have(const struct cap *cap, const struct worker *w, int list)
{
	if (!is_unreached(list) || !cap->reached_waiting)
		return list != URGENT || cap->urgent_turns < URGENT_TURNS;
	return probes_may(w->probes, cap->held, UNREACHED_SHARE, false) &&
	       (list == UNTRIED || probes_may(w->probes, cap->held, FAILED_SHARE, true));
}

/* Of untried sites the oldest and the newest take turns: behind many silent ones there may be living ones. */
static struct site *first_of(const struct level *l, int list)
{
	struct site *first = TAILQ_FIRST(&l->of[list]), *s;
	int looks = 0;

	if (list != UNTRIED || !first || probes_want_oldest(first->w->probes))
		return first;
	s = TAILQ_LAST(&l->of[list], site_list);
	while (s && s->query)
		s = ++looks < NEWEST_LOOKS ? TAILQ_PREV(s, site_list, want) : NULL;
	return s ? s : first;
}

static struct site *first_from(const struct cap *cap, const struct level *l, int list)
{
	for (; l; l = TAILQ_NEXT(l, link), list = 0) {
		for (; list < LISTS; list++) {
			struct site *s = first_of(l, list);

			if (s && may_have(cap, s->w, list))
				return s;
		}
	}
	return NULL;
}

static struct site *cap_first(struct cap *cap)
{
	struct site *s = first_from(cap, TAILQ_FIRST(&cap->levels), 0);

	if (s || !cap->urgent_turns)
		return s;
	cap->urgent_turns = 0;
	return first_from(cap, TAILQ_FIRST(&cap->levels), 0);
}

static int list_of(const struct site *s)
{
	if (s->slots && s->reached)
		return WITH;
	if (!s->reached)
		return s->failed_at ? FAILED : UNTRIED;
	return turn_best_class(&s->turn) == 0 ? URGENT : WITHOUT;
}

static struct level *level_get(struct cap *cap, uint64_t priority)
{
	struct level *l, *new;

	TAILQ_FOREACH(l, &cap->levels, link)
		if (l->priority <= priority)
			break;
	if (l && l->priority == priority)
		return l;
	new = xcalloc(1, sizeof(*new));
	new->priority = priority;
	for (int i = 0; i < LISTS; i++)
		TAILQ_INIT(&new->of[i]);
	TAILQ_INIT(&new->holders);
	if (l)
		TAILQ_INSERT_BEFORE(l, new, link);
	else
		TAILQ_INSERT_TAIL(&cap->levels, new, link);
	return new;
}

static void level_put(struct cap *cap, struct level *l)
{
	if (l->count || !TAILQ_EMPTY(&l->holders))
		return;
	TAILQ_REMOVE(&cap->levels, l, link);
	free(l);
}

static void list_add(struct site *s, struct cap *cap)
{
	struct slots *sl = s->w->slots;

	s->held_by = cap;
	s->want_list = list_of(s);
	s->want_level = NULL;
	if (!cap) {
		TAILQ_INSERT_TAIL(&sl->fresh, s, want);
		return;
	}
	s->want_level = level_get(cap, s->set->queue_priority);
	s->want_level->count++;
	TAILQ_INSERT_TAIL(&s->want_level->of[s->want_list], s, want);
	cap->reached_waiting += !is_unreached(s->want_list);
	sl->all_waiting += holds_everybody(cap->kind);
	if (cap->waiting_count++ == 0) {
		TAILQ_INSERT_TAIL(&sl->waited, cap, link);
		sl->waited_count++;
	}
}

/* The cap stays, though perhaps with nobody: cap_left(). */
static void list_remove(struct site *s)
{
	struct slots *sl = s->w->slots;
	struct cap *cap = s->held_by;
	struct level *l = s->want_level;

	s->held_by = NULL;
	s->want_level = NULL;
	if (!cap) {
		TAILQ_REMOVE(&sl->fresh, s, want);
		return;
	}
	TAILQ_REMOVE(&l->of[s->want_list], s, want);
	l->count--;
	level_put(cap, l);
	cap->reached_waiting -= !is_unreached(s->want_list);
	sl->all_waiting -= holds_everybody(cap->kind);
	if (--cap->waiting_count == 0) {
		TAILQ_REMOVE(&sl->waited, cap, link);
		sl->waited_count--;
	}
}

bool slots_all_wait(const struct worker *w)
{
	return w->slots->all_waiting > 0;
}

/* When nobody here waits for it any more, what is kept for this worker goes to others. */
static void cap_left(struct slots *sl, struct cap *cap)
{
	if (!cap || cap->waiting_count)
		return;
	limit_unwait(sl->w->shm, sl->w->h->slot, cap->kind, slice_str(cap->key + 1));
	cap_put(sl, cap);
}

/* --- who wants --- */

void slots_want(struct site *s)
{
	struct slots *sl = s->w->slots;

	if (!s->wanting) {
		s->wanting = true;
		sl->wanting_count++;
		list_add(s, NULL);
	} else {
		slots_site_changed(s);
	}
	slots_pump(s->w);
}

void slots_unwant(struct site *s)
{
	struct cap *cap = s->held_by;

	if (!s->wanting)
		return;
	s->wanting = false;
	s->w->slots->wanting_count--;
	list_remove(s);
	if (!cap)
		return;
	cap_left(s->w->slots, cap);
	hold_clear(s);
}

void slots_site_changed(struct site *s)
{
	struct cap *cap = s->held_by;

	if (!s->wanting || !cap ||
	    (s->want_list == list_of(s) && s->want_level->priority == s->set->queue_priority))
		return;
	list_remove(s);
	list_add(s, cap);
}

bool slots_held_by(struct site *s, const struct limit_want *by)
{
	struct slots *sl = s->w->slots;
	struct cap *cap = cap_get(sl, by), *was = s->held_by;

	sl->held = true;
	cap->n = by->cap;
	if (s->wanting && cap != was) {
		list_remove(s);
		list_add(s, cap);
		cap_left(sl, was);
	}
	hold_by_cap(s, by);
	return holds_everybody(by->kind);
}

bool slots_is_newer(const struct site *s)
{
	return s->want_level && s != TAILQ_FIRST(&s->want_level->of[s->want_list]);
}

void slots_held_for(struct site *s, const char *why)
{
	s->w->slots->held = true;
	hold_set(s, false, USEC_INFINITY, "%s", why);
}

/* --- turns --- */

enum asked { TURN_DONE, TURN_LATER, TURN_HELD, TURN_ALL_HELD };

/* One site's turn: one connection. */
static enum asked ask(struct slots *sl, struct site *s)
{
	struct cap *cap = s->held_by;
	bool everybody = false;

	sl->held = false;
	if (!site_connect(s, &everybody)) {
		if (!sl->held && s->wanting) { /* by something that is not kept here */
			list_remove(s);
			list_add(s, NULL);
			cap_left(sl, cap);
		}
		return everybody ? TURN_ALL_HELD : TURN_HELD;
	}
	if (!s->wanting)
		return TURN_DONE;
	if (s->query && s->route &&
	    cap) { /* its answer has run out while it waited: it keeps its place */
		sl->later++;
		return TURN_LATER;
	}
	if (cap)
		cap->urgent_turns += s->want_list == URGENT;
	if (s->query || !site_wants_connection(s)) {
		slots_unwant(s);
		return TURN_DONE;
	}
	list_remove(s);
	list_add(s, cap);
	return TURN_DONE;
}

/* The one behind s, which may be in another list. */
static struct site *cap_next(const struct cap *cap, const struct site *s)
{
	struct site *next = TAILQ_NEXT(s, want);

	return next ? next : first_from(cap, s->want_level, s->want_list + 1);
}

static void interrupt_lowest(struct cap *cap);

/* Turns for the sites that wait for this cap, as long as it has room. False: no turns for anybody. */
static bool cap_turns(struct slots *sl, struct cap *cap, uint32_t *budget)
{
	struct site *s = cap_first(cap), *next;

	/* The cap lives while a site waits for it: the last one to leave ends the loop. */
	while (*budget && s) {
		bool last = cap->waiting_count == 1, untried = s->want_list == UNTRIED;
		enum asked t;

		next = cap_next(cap, s);
		t = ask(sl, s);
		--*budget;
		if (t == TURN_ALL_HELD) {
			sl->all_held_by = s->held_by;
			return false;
		}
		if (t == TURN_HELD && s->held_by == cap) {
			interrupt_lowest(cap);
			return true;
		}
		if (last && (t == TURN_LATER || s->held_by != cap))
			return true;
		s = t == TURN_LATER || (next && !untried) ? next : cap_first(cap);
	}
	return true;
}

static bool all_caps(struct slots *sl, uint32_t *budget)
{
	if (!sl->pass_left)
		sl->pass_left = sl->waited_count;
	while (*budget && sl->pass_left && !TAILQ_EMPTY(&sl->waited)) {
		struct cap *cap = TAILQ_FIRST(&sl->waited);

		sl->pass_left--;
		TAILQ_REMOVE(&sl->waited, cap, link);
		TAILQ_INSERT_TAIL(&sl->waited, cap, link);
		if (!cap_turns(sl, cap, budget)) {
			sl->pass_left = 0;
			return false;
		}
	}
	return true;
}

/* True: a site asks again at once. */
static bool all_fresh(struct slots *sl, uint32_t *budget)
{
	struct site *last = TAILQ_LAST(&sl->fresh, site_list), *s;
	bool again = false;

	while (*budget && (s = TAILQ_FIRST(&sl->fresh))) {
		bool end = s == last;
		enum asked t = ask(sl, s);

		--*budget;
		again |= t == TURN_DONE && s->wanting;
		if (t == TURN_ALL_HELD) {
			sl->all_held_by = s->held_by;
			return false;
		}
		if (end)
			return again;
	}
	return again || !TAILQ_EMPTY(&sl->fresh);
}

/* No place is needed to look hosts up: what does not exist need not wait, nor others behind it. */
static bool look_up_first(struct site *s)
{
	if (!s->of || s->route || (!s->query && !site_wants_connection(s)))
		return false;
	if (!s->query)
		site_resolve(s);
	slots_unwant(s); /* the answer makes it want again */
	return true;
}

/* A cap holds all sites: those that did not ask need not; they wait for it, too. */
static bool fresh_join(struct slots *sl, uint32_t *budget)
{
	struct site *s;
	bool any = false;

	while (*budget && sl->all_held_by && (s = TAILQ_FIRST(&sl->fresh))) {
		const struct limit_want by = {.kind = sl->all_held_by->kind,
					      .name = slice_str(sl->all_held_by->key + 1),
					      .cap = sl->all_held_by->n};

		--*budget;
		any = true;
		if (!look_up_first(s))
			(void)slots_held_by(s, &by);
	}
	return any && sl->all_held_by && !TAILQ_EMPTY(&sl->fresh);
}

static void pump(void *arg)
{
	struct slots *sl = arg;
	uint32_t budget = TURNS_AT_ONCE;
	bool again = false;

	sl->pump_due = false;
	sl->later = 0;
	sl->all_held_by = NULL;
	if (all_caps(sl, &budget))
		again = sl->pass_left || !budget || all_fresh(sl, &budget);
	again |= fresh_join(sl, &budget);
	if (sl->all_held_by)
		interrupt_lowest(sl->all_held_by);
	if (!sl->wanting_count) {
		limit_unwait_all(sl->w->shm, sl->w->h->slot);
		loop_timer_clear(sl->again);
		return;
	}
	if (again && sl->later < TURNS_AT_ONCE)
		slots_pump(sl->w);
	else if (!loop_timer_pending(sl->again))
		loop_timer_set(sl->again, AGAIN_AFTER);
}

void slots_pump(struct worker *w)
{
	struct slots *sl = w->slots;

	if (sl->pump_due || !sl->wanting_count)
		return;
	sl->pump_due = true;
	loop_defer(w->loop, pump, sl);
}

/* --- taking and giving --- */

static void hold_caps(struct slots *sl, const struct wants *x, struct slots_hold *h)
{
	h->n = 0;
	h->leaving = false;
	for (size_t i = 0; i < x->n; i++) {
		h->caps[h->n] = cap_get(sl, &x->v[i]);
		h->ranks[h->n].level = NULL;
		h->caps[h->n++]->held++;
	}
}

/* What holds a cap of it with a higher queue-priority may have its place. */
static void ranks_join(struct connection *c)
{
	const struct conf_domain *set = c->site->set;
	struct slots_hold *h = &c->hold;

	for (uint8_t i = 0; i < h->n && set->allow_priority_interruption; i++) {
		struct slots_rank *r = &h->ranks[i];

		r->c = c;
		r->level = level_get(h->caps[i], set->queue_priority);
		TAILQ_INSERT_TAIL(&r->level->holders, r, link);
	}
}

static void ranks_leave(struct slots_hold *h)
{
	for (uint8_t i = 0; i < h->n; i++) {
		struct slots_rank *r = &h->ranks[i];

		if (!r->level)
			continue;
		TAILQ_REMOVE(&r->level->holders, r, link);
		level_put(h->caps[i], r->level);
		r->level = NULL;
	}
}

static void drop_caps(struct connection *c)
{
	struct slots *sl = c->w->slots;
	struct slots_hold *h = &c->hold;

	ranks_leave(h);
	c->site->leaving -= h->leaving;
	for (uint8_t i = 0; i < h->n; i++) {
		h->caps[i]->held--;
		h->caps[i]->leaving -= h->leaving;
		cap_put(sl, h->caps[i]);
	}
	h->n = 0;
	h->leaving = false;
}

bool slots_take(struct site *s, const struct wants *x, struct slots_hold *ret,
		const struct limit_want **ret_by, const char **ret_why)
{
	struct worker *w = s->w;
	struct slots *sl = w->slots;
	size_t by = 0;
	int rc = lease_take(w->shm, w->h->slot, x->v, x->n, &ret->lease, &by);

	*ret_by = NULL;
	if (rc == 0) {
		hold_caps(sl, x, ret);
		return true;
	}
	if (rc == ERR_BUSY && by != LIMIT_RELOADING) {
		*ret_by = &x->v[by];
		return false;
	}
	loop_timer_set(sl->again, rc == ERR_BUSY ? RELOAD_AGAIN : AGAIN_AFTER);
	*ret_why = rc == ERR_BUSY ? "a reload: until all workers have the new settings"
				  : "the table of limits is full: until it has room";
	if (rc != ERR_BUSY && !sl->said_full)
		log_error(NULL, "the table of limits is full: connections wait",
			  LOG_S("why", err_text(rc)));
	sl->said_full |= rc != ERR_BUSY;
	return false;
}

void slots_opened(struct connection *c)
{
	ranks_join(c);
}

void slots_put_back(struct worker *w, struct slots_hold *h)
{
	for (uint8_t i = 0; i < h->n; i++) {
		h->caps[i]->held--;
		cap_put(w->slots, h->caps[i]);
	}
	lease_give(w->shm, w->h->slot, h->lease);
	slots_pump(w);
}

void slots_give(struct connection *c)
{
	struct worker *w = c->w;

	drop_caps(c);
	lease_give(w->shm, w->h->slot, c->hold.lease);
	slots_site_changed(c->site);
	slots_pump(w);
}

void slots_discard(struct connection *c)
{
	slots_busy(c);
	drop_caps(c);
}

/* --- giving way --- */

/* The first site but this one that waits for the cap and may have a place. */
static const struct site *waits_for(const struct cap *cap, const struct site *but)
{
	const struct site *s = first_from(cap, TAILQ_FIRST(&cap->levels), 0);

	return s == but ? cap_next(cap, s) : s;
}

/* The lowest queue-priority of which connections hold the cap that may make room. */
static struct level *lowest_holders(const struct cap *cap)
{
	struct level *l;

	TAILQ_FOREACH_REVERSE(l, &cap->levels, level_list, link)
	if (!TAILQ_EMPTY(&l->holders))
		return l;
	return NULL;
}

static bool has_had_its_turn(const struct connection *c, const struct site *first)
{
	return first->slots == 0 && c->site->slots > c->site->leaving &&
	       (c->messages >= TURN_MESSAGES || loop_now(c->w->loop) >= c->since + TURN_USEC);
}

static bool gives_way(const struct connection *c, const struct cap *cap, const struct slots_rank *r)
{
	const struct site *s = c->site, *first;

	if (cap->leaving >= cap->waiting_count)
		return false; /* one connection on its way out for each that waits is enough */
	first = waits_for(cap, s);
	if (!first || first->want_level->priority < s->set->queue_priority)
		return false;
	if (first->want_level->priority > s->set->queue_priority) /* the lowest make room first */
		return r->level && (r->level == lowest_holders(cap) || has_had_its_turn(c, first));
	if (first->want_list == URGENT && turn_best_class(&s->turn) > 0)
		return true;
	return s->slots - s->leaving >= first->slots + 2 || has_had_its_turn(c, first);
}

static void leave(struct connection *c)
{
	struct slots_hold *h = &c->hold;

	ranks_leave(h);
	h->leaving = true;
	c->site->leaving++;
	for (uint8_t i = 0; i < h->n; i++)
		h->caps[i]->leaving++;
}

bool slots_should_yield(struct connection *c, bool idle)
{
	struct worker *w = c->w;
	struct slots_hold *h = &c->hold;
	uint8_t i;

	if (h->leaving ||
	    lease_should_yield(w->shm, w->h->slot, h->lease, idle, c->since, c->messages))
		return true;
	if (!w->slots->waited_count)
		return false;
	for (i = 0; i < h->n; i++)
		if (h->caps[i]->waiting_count && gives_way(c, h->caps[i], &h->ranks[i]))
			break;
	if (i == h->n)
		return false;
	leave(c);
	return true;
}

void slots_idle(struct connection *c)
{
	struct slots *sl = c->w->slots;

	if (!c->is_idle)
		TAILQ_INSERT_TAIL(&sl->idle, c, idle);
	c->is_idle = true;
	if (!loop_timer_pending(sl->look))
		loop_timer_set(sl->look, IDLE_LOOK);
}

void slots_busy(struct connection *c)
{
	if (c->is_idle)
		TAILQ_REMOVE(&c->w->slots->idle, c, idle);
	c->is_idle = false;
}

/* --- queue-priority: connections that do not come to their end by themselves --- */

static bool may_interrupt(const struct connection *c)
{
	return !c->txn || c->site->set->allow_priority_interruption_during_transfer;
}

/* A site of a higher queue-priority waits for this cap: one of the lowest makes room. */
static void interrupt_lowest(struct cap *cap)
{
	const struct site *first = cap_first(cap);
	struct level *l = lowest_holders(cap);
	struct slots_rank *r, *last;
	int looks = 0;

	if (!first || !l || l->priority >= first->want_level->priority ||
	    cap->leaving >= cap->waiting_count)
		return;
	last = TAILQ_LAST(&l->holders, rank_list);
	do {
		r = TAILQ_FIRST(&l->holders);
		if (may_interrupt(r->c)) {
			leave(r->c);
			connection_interrupt(r->c);
			return;
		}
		TAILQ_REMOVE(&l->holders, r, link);
		TAILQ_INSERT_TAIL(&l->holders, r, link);
	} while (r != last && ++looks < INTERRUPT_LOOKS);
}

/* --- a new configuration --- */

struct adoption {
	bool full;
};

static void adopt_connection(struct connection *c, struct adoption *a)
{
	const struct wants_place at = {.host = c->host, .dest = &c->ip, .source = &c->source_ip};
	struct worker *w = c->w;
	struct wants x;

	wants_make(&x, c->site, &at);
	if (lease_adopt(w->shm, w->h->slot, c->hold.lease, x.v, x.n) < 0) {
		connection_retire(c);
		a->full = true;
		return;
	}
	drop_caps(c);
	hold_caps(w->slots, &x, &c->hold);
	ranks_join(c);
}

static void adopt_site(struct site *s, void *arg)
{
	struct connection *c, *next;

	for (c = TAILQ_FIRST(&s->connections); c; c = next) {
		next = TAILQ_NEXT(c, link);
		adopt_connection(c, arg);
	}
	if (s->wanting && s->held_by) {
		struct cap *cap = s->held_by;

		list_remove(s);
		list_add(s, NULL);
		cap_put(s->w->slots, cap);
	}
}

static void adopt_queue(struct queue *q, void *arg)
{
	adopt_site(q->home, arg);
}

void slots_adopt(struct worker *w)
{
	struct slots *sl = w->slots;
	struct adoption a = {.full = false};

	limit_unwait_all(w->shm, w->h->slot);
	queues_each(w, adopt_queue, &a);
	shared_each(w, adopt_site, &a);
	sl->pass_left = 0;
	if (a.full) { /* again, until those that do not fit have closed */
		loop_timer_set(sl->again, AGAIN_AFTER);
		return;
	}
	sl->adopted_gen = w->conf_gen;
	limits_adopted(w->shm, w->h->slot, w->conf_gen);
	slots_pump(w);
}
