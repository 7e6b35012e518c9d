#include "worker/show.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>

#include "common/base/log.h"
#include "common/base/xalloc.h"
#include "common/conf/conf.h"
#include "common/loop/stream.h"
#include "common/shm/limits.h"
#include "common/spool/spool.h"
#include "worker/connection.h"
#include "worker/context.h"
#include "worker/queue.h"
#include "worker/site.h"

#define ANSWER_TIME (10 * USEC_PER_SEC)

static void on_stream(struct stream *s, enum stream_event what, void *arg)
{
	/* Input is off and the answer is written at the very end: nothing comes here. */
	(void)s;
	(void)what;
	(void)arg;
}

static void write_line(struct stream *s, json_t *line)
{
	char *text = json_dumps(line, JSON_COMPACT);

	if (!text)
		fatal("out of memory while answering a command");
	stream_write(s, text, strlen(text));
	stream_write(s, "\n", 1);
	free(text);
	json_decref(line);
}

/* Texts from the wire were made valid UTF-8 by the reply parser; others are our own. */
static json_t *text_or_empty(const char *s)
{
	json_t *t = json_string(s ? s : "");

	return t ? t : json_string("?");
}

static json_t *time_or_null(msec_t t)
{
	return t == 0 || t >= UINT64_MAX - 1 ? json_null() : json_integer((json_int_t)t);
}

static const char *target_state(const struct route_target *t)
{
	return t->failed ? "failed" : "ok";
}

static json_t *show_mx(const struct site *s)
{
	json_t *rows = json_array();
	char ip[IP_TEXT_MAX];

	for (uint32_t i = 0; s->route && i < s->route->count; i++) {
		const struct route_target *t = &s->route->targets[i];

		json_array_append_new(
			rows, json_pack("{s:i, s:o, s:s, s:s}", "preference",
					(int)(t->preference & 0xffff), "host", text_or_empty(t->host),
					"address", ip_text(&t->ip, ip), "state", target_state(t)));
	}
	return rows;
}

static json_t *show_replies(const struct site *s)
{
	json_t *rows = json_array();

	for (uint32_t i = 0; i < s->reply_count; i++)
		json_array_append_new(rows, json_pack("{s:o, s:I, s:o}", "text",
						      text_or_empty(s->replies[i].text), "count",
						      (json_int_t)s->replies[i].count, "last",
						      time_or_null(s->replies[i].last)));
	return rows;
}

static json_t *show_connections(const struct site *s)
{
	json_t *rows = json_array();
	const struct connection *c;
	char ip[IP_TEXT_MAX];

	TAILQ_FOREACH(c, &s->connections, link)
		json_array_append_new(rows, json_pack("{s:o, s:s, s:s, s:I}", "host",
						      text_or_empty(c->host), "address",
						      ip_text(&c->ip, ip), "doing",
						      connection_doing(c), "messages",
						      (json_int_t)c->messages));
	return rows;
}

static void add_limit(json_t *rows, const struct limit_info *l)
{
	json_array_append_new(rows,
			      json_pack("{s:s, s:o, s:i, s:i, s:i}", "kind", limit_kind_name(l->kind),
					"name", text_or_empty(l->name), "in_use", (int)l->in_use, "cap",
					(int)l->cap, "waiting", (int)l->waiting));
}

static bool limit_applies(const struct worker *w, const struct site *s, const struct limit_info *l)
{
	char ip[IP_TEXT_MAX];

	switch (l->kind) {
	case LIMIT_TOTAL:
		return true;
	case LIMIT_VMTA:
		return slice_ieq(slice_str(l->name), slice_str(w->vmta_name));
	case LIMIT_IP:
	case LIMIT_IP_PAIR:
		for (uint32_t i = 0; s->route && i < s->route->count; i++) {
			ip_text(&s->route->targets[i].ip, ip);
			if (strstr(l->name, ip))
				return true;
		}
		return false;
	case LIMIT_POOL:
	case LIMIT_PROVIDER:
	case LIMIT_MX:
	case LIMIT_SOURCE_IP:
	case LIMIT_KIND_COUNT:
		break;
	}
	return false;
}

static json_t *show_limits(const struct worker *w, const struct site *s)
{
	struct limit_info l[64];
	json_t *rows = json_array();
	size_t pos = 0, n;

	json_array_append_new(rows, json_pack("{s:s, s:o, s:i, s:I, s:i}", "kind", "queue", "name",
					      text_or_empty(s->label), "in_use", (int)s->slots, "cap",
					      (json_int_t)s->set->max_smtp_out, "waiting", 0));
	while ((n = limits_list(w->shm, &pos, l, ARRAY_SIZE(l))))
		for (size_t i = 0; i < n; i++)
			if (limit_applies(w, s, &l[i]))
				add_limit(rows, &l[i]);
	return rows;
}

static json_t *waiting_for(const struct queue *q)
{
	char text[SHM_QUEUE_TEXT];
	struct shm_queue *live = shm_queue_find(q->w->shm, q->id);

	if (q->paused)
		return json_string("paused");
	if (site_in_retry(q->site)) {
		char when[CLOCK_TEXT_MAX];

		clock_iso(q->site->retry_at, when);
		return json_sprintf("retry at %s", when);
	}
	if (q->site->query)
		return json_string("a DNS look-up");
	if (!q->limited || !live)
		return json_string("");
	shm_queue_get_text(live, text);
	return text_or_empty(text);
}

static void add_live(json_t *o, const struct queue *q)
{
	const struct shm_queue *live = shm_queue_find(q->w->shm, q->id);

	json_object_set_new(o, "recipients",
			    json_integer(live ? (json_int_t)atomic_load(&live->recipients) : 0));
	json_object_set_new(o, "bytes",
			    json_integer(live ? (json_int_t)atomic_load(&live->bytes) : 0));
}

static json_t *describe(const struct worker *w, const struct queue *q)
{
	const struct site *s = q->site;
	bool retry = site_in_retry(s);
	json_t *o = json_object();

	json_object_set_new(o, "queue", text_or_empty(q->name));
	add_live(o, q);
	json_object_set_new(o, "connections", json_integer((json_int_t)s->slots));
	json_object_set_new(o, "in_hand", json_integer((json_int_t)q->items));
	json_object_set_new(o, "mode", json_string("normal"));
	json_object_set_new(o, "paused", json_boolean(q->paused));
	json_object_set_new(o, "next_retry", retry ? time_or_null(s->retry_at) : json_null());
	json_object_set_new(o, "next_expiry", json_null());
	json_object_set_new(o, "last_error", text_or_empty(s->last.text));
	json_object_set_new(o, "waiting_for", waiting_for(q));
	json_object_set_new(o, "site", text_or_empty(s->name));
	json_object_set_new(o, "since", time_or_null(s->since));
	json_object_set_new(o, "reason", retry ? text_or_empty(s->last.text) : json_string(""));
	json_object_set_new(o, "retry_position", json_integer((json_int_t)s->retry_position));
	json_object_set_new(o, "mx", show_mx(s));
	json_object_set_new(o, "limits", show_limits(w, s));
	json_object_set_new(o, "errors", show_replies(s));
	json_object_set_new(o, "connection_list", show_connections(s));
	return o;
}

/* By its name; a queue that is not in memory is loaded, so that its stored state shows. */
static struct queue *find(struct worker *w, const char *name)
{
	const char *slash = strrchr(name, '/');
	struct queue *q = NULL;
	struct spool_read *r;
	char *domain;
	uint32_t id;

	if (!slash || !w->vmta_id || spool_read_begin(w->spool, &r) < 0)
		return NULL;
	domain = slice_dup_lower(slice_of(name, (size_t)(slash - name)));
	if (slice_ieq_str(slice_str(slash + 1), w->vmta_name) &&
	    spool_queue_find(r, w->vmta_id, slice_str(domain), &id) == 0)
		q = queue_get(w, r, id);
	spool_read_end(r);
	free(domain);
	return q;
}

static void answer(struct worker *w, struct stream *s, const json_t *request)
{
	const char *command = json_string_value(json_object_get(request, "command"));
	const json_t *args = json_object_get(request, "args");
	const char *name = json_string_value(json_object_get(args, "queue"));
	const struct queue *q;

	if (!command || strcmp(command, "show queue") != 0 || !name) {
		write_line(s, json_pack("{s:s, s:s}", "status", "error", "message",
					"name a queue: show queue DOMAIN/VMTA"));
		return;
	}
	q = find(w, name);
	if (!q) {
		write_line(s, json_pack("{s:s, s:s}", "status", "error", "message",
					"there is no such queue: see show queues"));
		return;
	}
	write_line(s, json_pack("{s:o}", "data", describe(w, q)));
	write_line(s, json_pack("{s:s}", "status", "success"));
}

void show_answer(struct worker *w, int fd, struct slice line)
{
	json_t *request = json_loadb(line.p, line.n, 0, NULL);
	struct stream *s = stream_accepted(w->loop, fd, on_stream, NULL);

	stream_pause_input(s, true);
	answer(w, s, request);
	json_decref(request);
	stream_close_after_flush(s, ANSWER_TIME);
}
