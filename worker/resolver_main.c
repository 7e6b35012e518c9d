#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/err.h"
#include "common/base/log.h"
#include "common/base/xalloc.h"
#include "common/conf/conf.h"
#include "common/conf/rollup_judge.h"
#include "common/ipc/child.h"
#include "common/loop/loop.h"
#include "common/loop/stream.h"
#include "common/shm/shm.h"
#include "worker/resolver.h"
#include "worker/resolver_upstream.h"

#define PROCESS_MAGIC 0x7265736fu
#define RESOLV_CONF "/etc/resolv.conf"
#define TICK USEC_PER_SEC
#define TIDY_TICKS 10
#define ANSWER_TIME (10 * USEC_PER_SEC)

struct process {
	unsigned magic;
	const struct heritage *h;
	struct loop *loop;
	struct conf *conf;
	struct resolver *resolver;
	struct ipc_child *master;
	struct loop_timer *tick;
	unsigned ticks;
};

/* ---- configuration ---- */

static size_t take_servers(const struct conf_ip_ports *from, struct resolver_server *ret)
{
	size_t n = from->n < UPSTREAM_SERVERS_MAX ? from->n : UPSTREAM_SERVERS_MAX;

	if (n == 0)
		return resolver_read_resolv_conf(RESOLV_CONF, ret, UPSTREAM_SERVERS_MAX);
	for (size_t i = 0; i < n; i++)
		ret[i] = (struct resolver_server){.ip = from->v[i].ip, .port = from->v[i].port};
	return n;
}

/* False when the configuration cannot be read, which master has checked. */
static bool apply_conf(struct process *p, int fd)
{
	struct conf_messages msgs = {0};
	struct conf *c = conf_read_fd(fd, &msgs);
	struct resolver_server servers[UPSTREAM_SERVERS_MAX];
	struct resolver_conf rc = {.servers = servers};
	const struct conf_global *g;
	char *error = NULL;

	conf_messages_done(&msgs);
	if (!c)
		return false;
	g = conf_global(c);
	rc.server_count = take_servers(&g->resolver, servers);
	rc.timeout = g->dns_timeout;
	rc.negative_ttl_max = g->dns_negative_ttl_max;
	if (p->resolver)
		resolver_configure(p->resolver, &rc);
	else
		p->resolver = resolver_new(p->loop, g->runtime_dir, &rc, &error);
	if (!p->resolver)
		fatal("%s", error);
	conf_free(p->conf);
	p->conf = c;
	return true;
}

/* ---- commands ---- */

static void on_command_stream(struct stream *s ATTR_UNUSED, enum stream_event what ATTR_UNUSED,
			      void *arg ATTR_UNUSED)
{
	/* Input is off and the answer is written at the very end: nothing comes here. */
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

/* Takes data; NULL: error says what is wrong. */
static void answer_command(struct stream *s, json_t *data, const char *error)
{
	if (data) {
		write_line(s, json_pack("{s:o}", "data", data));
		write_line(s, json_pack("{s:s}", "status", "success"));
	} else {
		write_line(s, json_pack("{s:s, s:s}", "status", "error", "message", error));
	}
	stream_close_after_flush(s, ANSWER_TIME);
}

struct resolve {
	struct process *p;
	struct stream *stream;
};

/* NULL: none. *ret_by: what says so, NULL where nothing is to be said. */
static const struct conf_provider *provider_of(const struct conf *c, struct slice domain,
					       const struct dns_route *route, const char **ret_by)
{
	const struct conf_provider *p = conf_provider_of_domain(c, domain);
	enum rollup_result found = p ? ROLLUP_PROVIDER : rollup_judge(c, route, &p);

	*ret_by = NULL;
	if (conf_provider_count(c) == 0)
		return NULL;
	if (found == ROLLUP_PROVIDER && conf_keeps_own_site(c, domain, slice_str(""))) {
		*ret_by = "none: it is its own site by what is set for the domain";
		return NULL;
	}
	if (found == ROLLUP_PROVIDER)
		*ret_by = conf_provider_of_domain(c, domain) ? "domains" : "mx";
	else if (found == ROLLUP_UNKNOWN)
		*ret_by = "not known: the look-up has failed";
	return p;
}

static void on_described(json_t *answer, const struct dns_route *route, void *arg)
{
	struct resolve *x = arg;
	const char *by, *domain = json_string_value(json_object_get(answer, "domain"));
	const struct conf_provider *p = provider_of(x->p->conf, slice_str(domain), route, &by);

	json_object_set_new(answer, "provider", p ? json_string(p->name) : json_null());
	json_object_set_new(answer, "provider_by", by ? json_string(by) : json_null());
	answer_command(x->stream, answer, NULL);
	free(x);
}

static void do_resolve(struct process *p, struct stream *s, struct slice domain)
{
	struct resolve *x = xcalloc(1, sizeof(*x));

	x->p = p;
	x->stream = s;
	resolver_describe(p->resolver, domain, on_described, x);
}

static void do_clear(struct process *p, struct stream *s, struct slice domain)
{
	size_t n = resolver_clear(p->resolver, domain);

	answer_command(s, json_pack("{s:I}", "cleared", (json_int_t)n), NULL);
}

static const struct command {
	const char *name;
	void (*run)(struct process *p, struct stream *s, struct slice domain);
} commands[] = {
	{"resolve", do_resolve},
	{"clear dnscache", do_clear},
};

static void run_command(struct process *p, struct stream *s, const json_t *request)
{
	const char *name = json_string_value(json_object_get(request, "command"));
	const json_t *args = json_object_get(request, "args");
	const char *domain = json_string_value(json_object_get(args, "domain"));

	if (!domain || !*domain) {
		answer_command(s, NULL, "name a domain: resolve example.com");
		return;
	}
	for (size_t i = 0; name && i < ARRAY_SIZE(commands); i++) {
		if (strcmp(commands[i].name, name) == 0) {
			commands[i].run(p, s, slice_str(domain));
			return;
		}
	}
	answer_command(s, NULL, "the resolver does not know that command");
}

/* A connection of the control socket that master has handed over with its request. */
static void on_command(struct ipc_message *m, void *arg)
{
	struct slice line = dec_bytes(&m->payload);
	struct process *p;
	json_t *request;
	struct stream *s;

	CAST_MAGIC(p, arg, PROCESS_MAGIC);
	s = stream_accepted(p->loop, m->fds[0], on_command_stream, NULL);
	m->fds[0] = -1;
	stream_pause_input(s, true);
	request = json_loadb(line.p, line.n, 0, NULL);
	if (json_is_object(request))
		run_command(p, s, request);
	else
		answer_command(s, NULL, "the request is not a JSON object");
	json_decref(request);
}

/* ---- master ---- */

static enum ipc_conf_answer on_conf(struct ipc_message *m, uint64_t generation ATTR_UNUSED,
				    void *arg)
{
	struct process *p;

	CAST_MAGIC(p, arg, PROCESS_MAGIC);
	return apply_conf(p, m->fds[0]) ? IPC_CONF_TAKEN : IPC_CONF_UNUSABLE;
}

/* Nothing in hand outlives a worker: those who wait ask the next resolver. */
static void on_stop(usec_t within ATTR_UNUSED, void *arg)
{
	struct process *p;

	CAST_MAGIC(p, arg, PROCESS_MAGIC);
	loop_stop(p->loop);
}

static void on_master_gone(void *arg)
{
	on_stop(0, arg);
}

static const struct ipc_child_role role = {.name = "resolver",
					   .conf = on_conf,
					   .control = on_command,
					   .stop = on_stop,
					   .gone = on_master_gone};

/* ---- the process ---- */

static void publish_stats(struct process *p)
{
	struct resolver_stats st;
	struct shm_counters *c;

	if (!p->h->shm)
		return;
	resolver_stats_get(p->resolver, &st);
	c = shm_resolver_counters(p->h->shm);
	counter_set(c, COUNTER_DNS_QUERIES, st.queries);
	counter_set(c, COUNTER_DNS_TIMEOUTS, st.timeouts);
	counter_set(c, COUNTER_DNS_FAILURES, st.tempfail);
	counter_set(c, COUNTER_DNS_CACHED, st.cached);
	counter_set(c, COUNTER_DNS_PENDING, st.pending);
	atomic_store_explicit(&shm_signals(p->h->shm)->resolver_heartbeat, loop_now(p->loop),
			      memory_order_relaxed);
}

static void on_tick(void *arg)
{
	struct process *p;

	CAST_MAGIC(p, arg, PROCESS_MAGIC);
	publish_stats(p);
	if (++p->ticks % TIDY_TICKS == 0)
		resolver_tidy(p->resolver);
	loop_timer_set(p->tick, TICK);
}

int resolver_main(const struct heritage *h)
{
	struct process *p = xcalloc(1, sizeof(*p));

	p->magic = PROCESS_MAGIC;
	p->h = h;
	p->loop = loop_new();
	if (!apply_conf(p, h->conf_fd))
		fatal("the configuration handed over by master cannot be read");
	p->master = ipc_child_new(p->loop, h, &role, p);
	p->tick = loop_timer_new(p->loop, on_tick, p);
	on_tick(p);
	ipc_child_ready(p->master);
	log_info(NULL, "resolver serves");
	loop_run(p->loop);
	log_info(NULL, "resolver stops");
	ipc_child_free(p->master);
	loop_timer_free(p->tick);
	resolver_free(p->resolver);
	conf_free(p->conf);
	loop_free(p->loop);
	p->magic = 0;
	free(p);
	return 0;
}
