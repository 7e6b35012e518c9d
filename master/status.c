#include "master/status.h"

#include <string.h>
#include <sys/statvfs.h>

#include "common/base/xalloc.h"
#include "common/version.h"

/*
 * What `show status` gives per time, in and out, like PowerMTA: total, last hour, busiest hour, last
 * minute, busiest minute. One sample a second for a minute, one a minute for an hour.
 */
static const struct {
	const char *direction, *unit;
	enum counter counter;
} traffic[] = {
	{"in", "recipients", COUNTER_RECEIVED_RECIPIENTS},
	{"in", "messages", COUNTER_RECEIVED_MESSAGES},
	{"in", "bytes", COUNTER_RECEIVED_BYTES},
	{"out", "recipients", COUNTER_DELIVERED_RECIPIENTS},
	{"out", "messages", COUNTER_DELIVERED_MESSAGES},
	{"out", "bytes", COUNTER_DELIVERED_BYTES},
};

#define SPOOLER_FAILS 3 /* quick deaths in a row after which its start is no matter of waiting */
#define KINDS ARRAY_SIZE(traffic)
#define SLOTS 61 /* a span of 60 needs 61 samples */

struct series {
	uint64_t at[SLOTS][KINDS];
	unsigned count, head; /* head: the newest */
	uint64_t top[KINDS];
};

struct history {
	struct series seconds, minutes;
	unsigned ticks;
};

static void sample(struct series *s, const uint64_t *now)
{
	size_t k;

	s->head = s->count ? (s->head + 1) % SLOTS : 0;
	if (s->count < SLOTS)
		s->count++;
	memcpy(s->at[s->head], now, sizeof(s->at[0]));
	for (k = 0; k < KINDS; k++) {
		uint64_t oldest = s->at[(s->head + SLOTS - (s->count - 1)) % SLOTS][k];

		if (now[k] - oldest > s->top[k])
			s->top[k] = now[k] - oldest;
	}
}

/* What came since the oldest sample of the series. */
static uint64_t lately(const struct series *s, size_t k, uint64_t now)
{
	return s->count ? now - s->at[(s->head + SLOTS - (s->count - 1)) % SLOTS][k] : now;
}

void status_tick(struct master *m)
{
	uint64_t now[KINDS];
	size_t k;

	if (!m->history)
		m->history = xcalloc(1, sizeof(*m->history));
	for (k = 0; k < KINDS; k++)
		now[k] = shm_counter_sum(m->shm, traffic[k].counter);
	sample(&m->history->seconds, now);
	if (m->history->ticks++ % 60 == 0)
		sample(&m->history->minutes, now);
}

static json_t *traffic_json(struct master *m)
{
	static const char *const directions[] = {"in", "out"};
	json_t *all = json_object();
	size_t d, k;

	for (d = 0; d < ARRAY_SIZE(directions); d++) {
		json_t *dir = json_object();

		for (k = 0; k < KINDS; k++) {
			uint64_t now = shm_counter_sum(m->shm, traffic[k].counter);

			if (strcmp(traffic[k].direction, directions[d]) != 0)
				continue;
			json_object_set_new(
				dir, traffic[k].unit,
				json_pack("{s:I, s:I, s:I, s:I, s:I}", "total", (json_int_t)now,
					  "last_hour",
					  (json_int_t)lately(&m->history->minutes, k, now),
					  "top_hour", (json_int_t)m->history->minutes.top[k],
					  "last_minute",
					  (json_int_t)lately(&m->history->seconds, k, now),
					  "top_minute", (json_int_t)m->history->seconds.top[k]));
		}
		json_object_set_new(all, directions[d], dir);
	}
	return all;
}

static json_t *counters_json(const struct master *m)
{
	json_t *all = json_object();
	enum counter k;

	for (k = 0; k < COUNTER_COUNT; k++)
		json_object_set_new(all, counter_name(k),
				    json_integer((json_int_t)shm_counter_sum(m->shm, k)));
	return all;
}

static json_t *process_json(const char *role, const struct child *c, pid_t pid)
{
	return json_pack("{s:s, s:i, s:s?, s:i, s:s, s:b}", "role", role, "slot",
			 c && c->role == ROLE_WORKER ? (int)c->slot : -1, "vmta",
			 c ? c->vmta : NULL, "pid", (int)pid, "state",
			 c ? child_state_name(c->state) : "running", "orphan", c ? c->orphan : 0);
}

static json_t *processes_json(const struct master *m)
{
	json_t *all = json_array();
	const struct child *c;

	json_array_append_new(all, process_json("master", NULL, getpid()));
	LIST_FOREACH(c, &m->children, link)
		json_array_append_new(all, process_json(role_name(c->role), c, c->pid));
	return all;
}

static json_t *spool_json(const struct master *m)
{
	const char *dir = conf_global(m->conf)->spool_dir;
	struct statvfs v;
	uint64_t disk_free = 0;

	if (statvfs(dir, &v) == 0)
		disk_free = (uint64_t)v.f_bavail * v.f_frsize;
	return json_pack("{s:s, s:I, s:I, s:I, s:I}", "dir", dir, "live_bytes",
			 (json_int_t)shm_counter_sum(m->shm, COUNTER_QUEUED_BYTES), "messages",
			 (json_int_t)shm_counter_sum(m->shm, COUNTER_QUEUED_MESSAGES), "recipients",
			 (json_int_t)shm_counter_sum(m->shm, COUNTER_QUEUED_RECIPIENTS),
			 "disk_free", (json_int_t)disk_free);
}

json_t *status_json(struct master *m)
{
	const struct shm_signals *s = shm_signals(m->shm);
	bool accepting = atomic_load(&s->spooler_up) && atomic_load(&s->accepting) &&
			 !m->draining && !m->stopping;
	const char *why = accepting	  ? ""
			  : m->stopping	  ? "the server is stopping"
			  : m->draining	  ? "drain was ordered"
			  : s->why_not[0] ? s->why_not
			  : m->spooler->failures >= SPOOLER_FAILS
				  ? "the spooler does not start: the log says why"
				  : "the spooler is starting";

	return json_pack("{s:s, s:s, s:I, s:I, s:b, s:s, s:o, s:o, s:o, s:o}", "version",
			 SLUICE_VERSION, "host", conf_global(m->conf)->host_name, "uptime",
			 (json_int_t)((clock_now() - m->started) / USEC_PER_SEC), "generation",
			 (json_int_t)m->conf_gen, "accepting", accepting, "why_not", why, "traffic",
			 traffic_json(m), "counters", counters_json(m), "spool", spool_json(m),
			 "processes", processes_json(m));
}
