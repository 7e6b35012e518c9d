/*
 * What the receiver is told to do wrong: limits on connections, rates, ESMTP features per address,
 * and reply rules by stage. Read from JSON (see the head of tests/e2e/peers.py), replaced as a whole at any time.
 * The first reply rule that matches at a stage decides.
 */
#ifndef TESTS_LIB_RECEIVER_RULES_H
#define TESTS_LIB_RECEIVER_RULES_H

#include <fnmatch.h>

#include <jansson.h>

#include "tests/lib/receiver/tally.h"

#define STAGES(S)               \
	S(CONNECT, "connect")   \
	S(EHLO, "ehlo")         \
	S(HELO, "helo")         \
	S(MAIL, "mail")         \
	S(RCPT, "rcpt")         \
	S(DATA, "data")         \
	S(BODY, "body")         \
	S(DOT, "dot")           \
	S(RSET, "rset")         \
	S(QUIT, "quit")         \
	S(STARTTLS, "starttls") \
	S(OTHER, "other")

enum stage {
#define S(name, text) STAGE_##name,
	STAGES(S)
#undef S
		STAGE_COUNT
};

static const char *const stage_names[STAGE_COUNT] = {
#define S(name, text) text,
	STAGES(S)
#undef S
};

enum rule_close { CLOSE_NO, CLOSE_BEFORE, CLOSE_AFTER, CLOSE_RESET, CLOSE_COUNT };
enum rule_tls { TLS_START, TLS_GARBAGE, TLS_CLOSE, TLS_HANG, TLS_COUNT };
enum rule_once { ONCE_NO, ONCE_RCPT, ONCE_CONN, ONCE_SOURCE, ONCE_LISTEN, ONCE_COUNT };

static const char *const close_names[] = {"no", "before", "after", "reset"};
static const char *const tls_names[] = {"start", "garbage", "close", "hang"};
static const char *const once_names[] = {"no", "rcpt", "conn", "source", "listen"};

struct rule {
	enum stage stage;
	const char *listen, *source, *local, *domain, *from; /* globs; NULL: any */
	uint64_t nth, every, first, after; /* 0: not asked for */
	bool per_connection; /* the four above count on the connection, not over all */
	double lo, hi; /* share of recipients by hash, percent; hi 0: all */
	enum rule_once once;
	const char *reply; /* NULL: the usual one; CRLF is added between and after lines */
	const char *raw; /* sent as it is, instead of reply */
	const char *repeat; /* line sent `times` before the reply; endless if times is 0 */
	uint64_t times;
	unsigned delay_ms, drip_ms; /* before the reply; between its single bytes */
	long cut; /* -1, or bytes of the reply that are sent, then close */
	enum rule_close close;
	enum rule_tls tls;
	bool hang; /* no reply, ever */
	size_t after_bytes; /* stage body: when that much has come in */
	uint64_t hits;
	struct seen seen;
};

enum limit_event { LIMIT_CONNECTIONS, LIMIT_CONNECT, LIMIT_MESSAGE, LIMIT_RCPT, LIMIT_EVENTS };

static const char *const limit_events[] = {"connections", "connect", "message", "rcpt"};

struct limit {
	const char *listen, *source;
	enum tally_kind per;
	enum limit_event event; /* connections: how many at a time; else: how many per window */
	unsigned max;
	double window;
	bool reset; /* refuse by RST instead of a greeting */
	bool together; /* all connections that listen and source match count as one */
	const char *reply;
};

struct window { /* times of the last `max` events of one limit and key */
	char key[128];
	double *times;
	size_t next, used;
	UT_hash_handle hh;
};

struct features {
	const char *listen;
	bool pipelining, eightbit, smtputf8, dsn, enhanced, starttls, ehlo;
	long long size; /* -1: not offered */
};

struct plan {
	json_t *json; /* owns all strings */
	struct rule *rules;
	struct limit *limits;
	struct features *features;
	struct window *windows;
	size_t rule_count, limit_count, feature_count;
	unsigned generation; /* grows with every replacement */
};

struct rule_subject {
	const char *listen, *source, *from;
	const char *local, *domain; /* of the recipient, or "" */
	size_t connection;
	uint64_t *connection_hits; /* one per rule */
};

static inline int name_index(const char *const *names, int count, const char *name)
{
	for (int i = 0; i < count; i++)
		if (strcmp(names[i], name) == 0)
			return i;
	return -1;
}

static inline const char *field_text(json_t *o, const char *name)
{
	return json_string_value(json_object_get(o, name));
}

static inline double field_number(json_t *o, const char *name, double fallback)
{
	json_t *v = json_object_get(o, name);

	return json_is_number(v) ? json_number_value(v) : fallback;
}

static inline bool field_bool(json_t *o, const char *name, bool fallback)
{
	json_t *v = json_object_get(o, name);

	return json_is_boolean(v) ? json_is_true(v) : fallback;
}

static inline int field_name(json_t *o, const char *name, const char *const *names, int count,
			     const char *fallback, const char **ret_error)
{
	const char *text = field_text(o, name);
	int i = name_index(names, count, text ? text : fallback);

	if (i < 0) {
		*ret_error = name;
		return 0;
	}
	return i;
}

/* A misspelt member would make a test pass for the wrong reason. */
static inline bool known_members(json_t *o, const char *const *names, const char **ret_error)
{
	const char *name;
	json_t *v;

	json_object_foreach(o, name, v)
	{
		size_t i = 0;

		while (names[i] && strcmp(names[i], name) != 0)
			i++;
		if (!names[i]) {
			*ret_error = name;
			return false;
		}
	}
	return true;
}

static inline void rule_load(struct rule *rule, json_t *o, const char **ret_error)
{
	static const char *const members[] = {
		"stage", "listen", "source",	  "local", "domain",  "from", "nth",
		"every", "first",  "after",	  "per",   "percent", "once", "reply",
		"raw",	 "repeat", "times",	  "delay", "drip",    "cut",  "close",
		"tls",	 "hang",   "after-bytes", NULL};
	json_t *share = json_object_get(o, "percent");
	const char *per = field_text(o, "per");

	if (!known_members(o, members, ret_error))
		return;
	*rule = (struct rule){
		.stage = (enum stage)field_name(o, "stage", stage_names, STAGE_COUNT, "?",
						ret_error),
		.listen = field_text(o, "listen"),
		.source = field_text(o, "source"),
		.local = field_text(o, "local"),
		.domain = field_text(o, "domain"),
		.from = field_text(o, "from"),
		.reply = field_text(o, "reply"),
		.raw = field_text(o, "raw"),
		.repeat = field_text(o, "repeat"),
		.nth = (uint64_t)field_number(o, "nth", 0),
		.every = (uint64_t)field_number(o, "every", 0),
		.first = (uint64_t)field_number(o, "first", 0),
		.after = (uint64_t)field_number(o, "after", 0),
		.times = (uint64_t)field_number(o, "times", 1),
		.per_connection = per && strcmp(per, "connection") == 0,
		.delay_ms = (unsigned)field_number(o, "delay", 0),
		.drip_ms = (unsigned)field_number(o, "drip", 0),
		.cut = (long)field_number(o, "cut", -1),
		.close = (enum rule_close)field_name(o, "close", close_names, CLOSE_COUNT, "no",
						     ret_error),
		.tls = (enum rule_tls)field_name(o, "tls", tls_names, TLS_COUNT, "start",
						 ret_error),
		.once = (enum rule_once)field_name(o, "once", once_names, ONCE_COUNT, "no",
						   ret_error),
		.hang = field_bool(o, "hang", false),
		.after_bytes = (size_t)field_number(o, "after-bytes", 0),
	};
	if (json_is_array(share)) {
		rule->lo = json_number_value(json_array_get(share, 0));
		rule->hi = json_number_value(json_array_get(share, 1));
	} else if (json_is_number(share)) {
		rule->hi = json_number_value(share);
	}
}

static inline void limit_load(struct limit *limit, json_t *o, const char **ret_error)
{
	static const char *const members[] = {"listen", "source", "per",   "event",    "max",
					      "window", "reset",  "reply", "together", NULL};
	const char *reply = field_text(o, "reply");

	if (!known_members(o, members, ret_error))
		return;
	*limit = (struct limit){
		.listen = field_text(o, "listen"),
		.source = field_text(o, "source"),
		.per = (enum tally_kind)field_name(o, "per", tally_kind_names, TALLY_KINDS,
						   "listen", ret_error),
		.event = (enum limit_event)field_name(o, "event", limit_events, LIMIT_EVENTS,
						      "connections", ret_error),
		.max = (unsigned)field_number(o, "max", 0),
		.window = field_number(o, "window", 1),
		.reset = field_bool(o, "reset", false),
		.together = field_bool(o, "together", false),
		.reply = reply ? reply : "421 4.7.0 too many connections",
	};
}

static inline void features_load(struct features *features, json_t *o, const char **ret_error)
{
	static const char *const members[] = {
		"listen",   "pipelining", "8bitmime", "smtputf8", "dsn", "enhancedstatuscodes",
		"starttls", "ehlo",	  "size",     NULL};

	if (!known_members(o, members, ret_error))
		return;
	*features = (struct features){
		.listen = field_text(o, "listen"),
		.pipelining = field_bool(o, "pipelining", true),
		.eightbit = field_bool(o, "8bitmime", true),
		.smtputf8 = field_bool(o, "smtputf8", true),
		.dsn = field_bool(o, "dsn", false),
		.enhanced = field_bool(o, "enhancedstatuscodes", true),
		.starttls = field_bool(o, "starttls", false),
		.ehlo = field_bool(o, "ehlo", true),
		.size = (long long)field_number(o, "size", -1),
	};
}

static inline void plan_done(struct plan *plan)
{
	struct window *w, *next;

	for (size_t i = 0; i < plan->rule_count; i++)
		seen_free(&plan->rules[i].seen);
	HASH_ITER(hh, plan->windows, w, next) {
		HASH_DEL(plan->windows, w);
		free(w->times);
		free(w);
	}
	free(plan->rules);
	free(plan->limits);
	free(plan->features);
	json_decref(plan->json);
}

/* Replaces `plan` by what `json` says; on error `plan` stays and *ret_error names the member. */
static inline bool plan_load(struct plan *plan, json_t *json, const char **ret_error)
{
	json_t *rules = json_object_get(json, "rules");
	json_t *limits = json_object_get(json, "limits");
	json_t *features = json_object_get(json, "features");
	struct plan fresh = {
		.json = json_incref(json),
		.rule_count = json_array_size(rules),
		.limit_count = json_array_size(limits),
		.feature_count = json_array_size(features),
		.generation = plan->generation + 1,
	};

	*ret_error = NULL;
	fresh.rules = need(calloc(fresh.rule_count + 1, sizeof(struct rule)));
	fresh.limits = need(calloc(fresh.limit_count + 1, sizeof(struct limit)));
	fresh.features = need(calloc(fresh.feature_count + 1, sizeof(struct features)));
	for (size_t i = 0; i < fresh.rule_count; i++)
		rule_load(&fresh.rules[i], json_array_get(rules, i), ret_error);
	for (size_t i = 0; i < fresh.limit_count; i++)
		limit_load(&fresh.limits[i], json_array_get(limits, i), ret_error);
	for (size_t i = 0; i < fresh.feature_count; i++)
		features_load(&fresh.features[i], json_array_get(features, i), ret_error);
	if (*ret_error) {
		plan_done(&fresh);
		return false;
	}
	plan_done(plan);
	*plan = fresh;
	return true;
}

static inline bool glob_match(const char *pattern, const char *text)
{
	return !pattern || fnmatch(pattern, text, FNM_CASEFOLD) == 0;
}

static inline bool rule_first_time(struct rule *rule, const struct rule_subject *subject)
{
	char key[640];
	int n = 0;

	switch (rule->once) {
	case ONCE_NO:
		return true;
	case ONCE_RCPT:
		n = snprintf(key, sizeof(key), "%s@%s", subject->local, subject->domain);
		break;
	case ONCE_CONN:
		n = snprintf(key, sizeof(key), "%zu", subject->connection);
		break;
	case ONCE_SOURCE:
		n = snprintf(key, sizeof(key), "%s", subject->source);
		break;
	case ONCE_LISTEN:
		n = snprintf(key, sizeof(key), "%s", subject->listen);
		break;
	case ONCE_COUNT:
		break;
	}
	return seen_add(&rule->seen, hash_bytes(key, (size_t)n));
}

static inline bool rule_in_share(const struct rule *rule, const struct rule_subject *subject)
{
	char key[640];
	double at;
	int n;

	if (rule->hi <= 0)
		return true;
	n = snprintf(key, sizeof(key), "%s@%s", subject->local, subject->domain);
	at = (double)(hash_bytes(key, (size_t)n) % 10000) / 100.0;
	return at >= rule->lo && at < rule->hi;
}

static inline bool rule_counts(struct rule *rule, uint64_t *hits)
{
	uint64_t n = ++*hits;

	return !(rule->nth && n != rule->nth) && !(rule->every && n % rule->every) &&
	       !(rule->first && n > rule->first) && n > rule->after;
}

static inline struct rule *plan_match(struct plan *plan, enum stage stage,
				      const struct rule_subject *subject)
{
	for (size_t i = 0; i < plan->rule_count; i++) {
		struct rule *rule = &plan->rules[i];
		uint64_t *hits = rule->per_connection ? &subject->connection_hits[i] : &rule->hits;

		if (rule->stage == stage && glob_match(rule->listen, subject->listen) &&
		    glob_match(rule->source, subject->source) &&
		    glob_match(rule->from, subject->from) &&
		    glob_match(rule->local, subject->local) &&
		    glob_match(rule->domain, subject->domain) && rule_in_share(rule, subject) &&
		    rule_counts(rule, hits) && rule_first_time(rule, subject))
			return rule;
	}
	return NULL;
}

static inline bool window_full(struct plan *plan, size_t index, const char *key)
{
	struct limit *limit = &plan->limits[index];
	double now = now_mono();
	struct window *w;
	char name[sizeof(w->key)];

	snprintf(name, sizeof(name), "%zu %s", index, key);
	HASH_FIND_STR(plan->windows, name, w);
	if (!w) {
		w = need(calloc(1, sizeof(*w)));
		memcpy(w->key, name, sizeof(name));
		w->times = need(calloc(limit->max + 1, sizeof(double)));
		HASH_ADD_STR(plan->windows, key, w);
	}
	if (limit->max == 0)
		return true;
	if (w->used == limit->max && now - w->times[w->next] < limit->window)
		return true;
	w->times[w->next] = now;
	w->next = (w->next + 1) % limit->max;
	if (w->used < limit->max)
		w->used++;
	return false;
}

/* Connections that listen and source of a limit match. */
static inline unsigned together_now(const struct limit *limit)
{
	unsigned sum = 0;

	for (struct tally *t = tallies; t; t = t->hh.next) {
		char pair[sizeof(t->key)], *space;

		if (t->kind != TALLY_PAIR)
			continue;
		memcpy(pair, t->key, sizeof(pair));
		space = strchr(pair, ' ');
		*space = '\0';
		if (glob_match(limit->listen, pair + 1) && glob_match(limit->source, space + 1))
			sum += t->current;
	}
	return sum;
}

/* The limit that forbids this event, or NULL. Events of rate limits are counted when allowed. */
static inline struct limit *plan_limit(struct plan *plan, enum limit_event event,
				       const char *listen, const char *source)
{
	for (size_t i = 0; i < plan->limit_count; i++) {
		struct limit *limit = &plan->limits[i];
		struct tally *tally;

		if (limit->event != event || !glob_match(limit->listen, listen) ||
		    !glob_match(limit->source, source))
			continue;
		tally = tally_get(limit->per, listen, source);
		if (event == LIMIT_CONNECTIONS
			    ? (limit->together ? together_now(limit) : tally->current) >= limit->max
			    : window_full(plan, i, tally->key))
			return limit;
	}
	return NULL;
}

static inline struct features plan_features(const struct plan *plan, const char *listen)
{
	static const struct features usual = {.pipelining = true,
					      .eightbit = true,
					      .smtputf8 = true,
					      .enhanced = true,
					      .ehlo = true,
					      .size = -1};

	for (size_t i = 0; i < plan->feature_count; i++)
		if (glob_match(plan->features[i].listen, listen))
			return plan->features[i];
	return usual;
}

#endif
