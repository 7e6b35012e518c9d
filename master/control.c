#include "master/control.h"

#include <errno.h>
#include <grp.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/err.h"
#include "common/base/fd.h"
#include "common/base/xalloc.h"
#include "common/loop/stream.h"
#include "common/version.h"
#include "master/limits.h"
#include "master/status.h"

#define REQUEST_MAX 65536
#define REQUEST_TIMEOUT (10 * USEC_PER_SEC)
#define ANSWER_TIMEOUT (30 * USEC_PER_SEC)

/* What a peer may do. */
enum right { RIGHT_NONE, RIGHT_READ, RIGHT_CHANGE };

struct control {
	unsigned magic;
	struct master *m;
	struct stream *stream;
	int fd; /* before the request is complete: of the stream, borrowed */
	enum right right;
	uid_t uid;
	bool reloading; /* the answer of a reload is due */
	bool dry_run; /* of a reload */
};

#define CONTROL_MAGIC 0x6374726c

/*
 * Open connections by right, so that who may do less never keeps out who may do more, nor takes the
 * descriptors of this process. Those that were handed over to another process do not count.
 */
static const unsigned open_max[] = {[RIGHT_NONE] = 16, [RIGHT_READ] = 64, [RIGHT_CHANGE] = 256};
static unsigned open_now[ARRAY_SIZE(open_max)];

/* --- answers --- */

void control_write(struct control *c, json_t *line)
{
	char *text = json_dumps(line, JSON_COMPACT);

	if (!text)
		fatal("out of memory while answering a command");
	stream_write(c->stream, text, strlen(text));
	stream_write(c->stream, "\n", 1);
	free(text);
	json_decref(line);
}

static void control_free(struct control *c)
{
	open_now[c->right]--;
	c->magic = 0;
	free(c);
}

static void finish(struct control *c)
{
	stream_close_after_flush(c->stream, ANSWER_TIMEOUT);
	control_free(c);
}

static void succeed(struct control *c)
{
	control_write(c, json_pack("{s:s}", "status", "success"));
	finish(c);
}

static void fail(struct control *c, const char *message)
{
	control_write(c, json_pack("{s:s, s:s}", "status", "error", "message", message));
	finish(c);
}

/* --- who may --- */

static bool in_group(const char *name, const gid_t *groups, size_t n)
{
	const struct group *gr = name ? getgrnam(name) : NULL;
	size_t i;

	for (i = 0; gr && i < n; i++)
		if (groups[i] == gr->gr_gid)
			return true;
	return false;
}

static enum right peer_right(const struct master *m, int fd, uid_t *ret_uid)
{
	const struct conf_global *g = conf_global(m->conf);
	struct ucred cred;
	socklen_t len = sizeof(cred), groups_len;
	gid_t groups[1025];

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0)
		return RIGHT_NONE;
	*ret_uid = cred.uid;
	if (cred.uid == 0 || cred.uid == geteuid() || (m->spool_uid && cred.uid == m->spool_uid))
		return RIGHT_CHANGE;
	groups[0] = cred.gid;
	groups_len = sizeof(groups) - sizeof(groups[0]);
	if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups + 1, &groups_len) < 0)
		groups_len = 0;
	len = groups_len / sizeof(gid_t) + 1;
	if (in_group(g->control_group, groups, len))
		return RIGHT_CHANGE;
	return in_group(g->monitor_group, groups, len) ? RIGHT_READ : RIGHT_NONE;
}

/* --- commands --- */

static const char *arg_string(const json_t *args, const char *key)
{
	const char *s = json_string_value(json_object_get(args, key));

	return s ? s : "";
}

static void do_status(struct control *c, const json_t *args ATTR_UNUSED)
{
	control_write(c, json_pack("{s:o}", "data", status_json(c->m)));
	succeed(c);
}

static void do_version(struct control *c, const json_t *args ATTR_UNUSED)
{
	control_write(c, json_pack("{s:{s:s}}", "data", "version", SLUICE_VERSION));
	succeed(c);
}

static void do_limits(struct control *c, const json_t *args ATTR_UNUSED)
{
	limits_write(c, c->m);
	succeed(c);
}

static void do_rates(struct control *c, const json_t *args)
{
	const json_t *max = json_object_get(args, "max");

	rates_write(c, c->m, max ? (uint64_t)json_integer_value(max) : RATES_SHOWN);
	succeed(c);
}

static void one_setting(const struct conf_setting *s, void *arg)
{
	struct control *c = arg;

	control_write(c, json_pack("{s:{s:s, s:s, s:s?, s:s?, s:o, s:s?}}", "data", "directive",
				   s->keyword, "value", s->value, "section", s->section, "file",
				   s->origin.line ? s->origin.file : NULL, "line",
				   s->origin.line ? json_integer(s->origin.line) : json_null(),
				   "shadowed_by", s->shadowed_by));
}

static void do_settings(struct control *c, const json_t *args)
{
	struct slice queue = slice_str(arg_string(args, "queue"));
	const char *name = arg_string(args, "provider"); /* by its mail hosts */
	ptrdiff_t slash = slice_rchr(queue, '/');
	struct slice domain = slash < 0 ? queue : slice_sub(queue, 0, (size_t)slash);
	struct slice vmta = slash < 0 ? slice_of(NULL, 0) : slice_from(queue, (size_t)slash + 1);
	const struct conf_provider *p = conf_provider_of_domain(c->m->conf, domain);
	const char *fault = conf_queue_fault(c->m->conf, domain, vmta);

	if (domain.n == 0) {
		fail(c, "name a domain or a queue: show settings gmail.com/mta1");
		return;
	}
	if (fault) {
		fail(c, fault);
		return;
	}
	if (!p && name[0])
		p = conf_provider_find(c->m->conf, slice_str(name));
	conf_show_settings(c->m->conf, p, domain, vmta, one_setting, c);
	succeed(c);
}

static void on_reload_done(const char *error, const char *notes, void *arg)
{
	struct control *c = arg;

	c->reloading = false;
	if (error) {
		fail(c, error);
		return;
	}
	control_write(c, json_pack("{s:{s:b, s:I, s:s}}", "data", "dry_run", c->dry_run,
				   "generation", (json_int_t)c->m->conf_gen, "notes", notes));
	succeed(c);
}

static void do_reload(struct control *c, const json_t *args)
{
	c->dry_run = json_is_true(json_object_get(args, "dry_run"));
	c->reloading = true;
	reload_begin(c->m, c->dry_run, on_reload_done, c);
}

static void do_shutdown(struct control *c, const json_t *args ATTR_UNUSED)
{
	struct master *m = c->m;

	succeed(c);
	supervisor_stop(m);
}

static void do_drain(struct control *c, const json_t *args)
{
	bool on = !json_is_true(json_object_get(args, "off"));

	if (!supervisor_drain_in(c->m, on)) {
		fail(c, "the spooler does not answer: try again in a moment");
		return;
	}
	c->m->draining = on;
	succeed(c);
}

/* --- commands that another process answers --- */

enum target { BY_MASTER, BY_SPOOLER, BY_RESOLVER, BY_WORKER };

static struct child *target_child(struct control *c, enum target to, const json_t *args)
{
	struct slice queue = slice_str(arg_string(args, "queue"));
	ptrdiff_t slash = slice_rchr(queue, '/');

	switch (to) {
	case BY_SPOOLER:
		return c->m->spooler;
	case BY_RESOLVER:
		return c->m->resolver;
	case BY_WORKER:
		return slash < 0 ? NULL
				 : supervisor_worker(c->m, slice_from(queue, (size_t)slash + 1));
	case BY_MASTER:
		break;
	}
	return NULL;
}

static void say_busy(int fd, const struct child *child)
{
	bool worker = child->role == ROLE_WORKER;
	struct buf b = BUF_INIT;

	buf_addf(&b,
		 "{\"status\":\"error\",\"message\":\"the %s%s%s, which answers this, is starting "
		 "or "
		 "busy: try again in a moment\"}\n",
		 role_name(child->role), worker ? " of " : "", worker ? child->vmta : "");
	(void)!write(fd, b.p, b.n);
	buf_done(&b);
}

/* Hands the connection over; the child answers and closes it. */
static void hand_over(struct control *c, enum target to, const char *line, const json_t *args)
{
	struct child *child = target_child(c, to, args);
	struct buf msg = BUF_INIT;
	int fd;

	if (!child) {
		fail(c, "no virtual MTA serves that queue: name it as DOMAIN/VMTA, see show vmtas");
		return;
	}
	fd = stream_release_fd(c->stream);
	ipc_begin(&msg, IPC_CONTROL);
	enc_str(&msg, line);
	enc_var(&msg, c->uid);
	/* one that hangs must not take this process with it, which is to end it */
	if (child->control_fd < 0 || ipc_try_send(child->control_fd, &msg, &fd, 1) < 0)
		say_busy(fd, child);
	buf_done(&msg);
	close(fd);
	control_free(c);
}

static const struct command {
	const char *name;
	enum right right;
	enum target to;
	void (*run)(struct control *c, const json_t *args);
} commands[] = {
	{"show status", RIGHT_READ, BY_MASTER, do_status},
	{"show version", RIGHT_READ, BY_MASTER, do_version},
	{"show limits", RIGHT_READ, BY_MASTER, do_limits},
	{"show rates", RIGHT_READ, BY_MASTER, do_rates},
	{"show settings", RIGHT_READ, BY_MASTER, do_settings},
	{"reload", RIGHT_CHANGE, BY_MASTER, do_reload},
	{"shutdown", RIGHT_CHANGE, BY_MASTER, do_shutdown},
	{"drain", RIGHT_CHANGE, BY_MASTER, do_drain},
	{"show queues", RIGHT_READ, BY_SPOOLER, NULL},
	{"show vmtas", RIGHT_READ, BY_SPOOLER, NULL},
	{"show providers", RIGHT_READ, BY_SPOOLER, NULL},
	{"show paused", RIGHT_READ, BY_SPOOLER, NULL},
	{"pause queue", RIGHT_CHANGE, BY_SPOOLER, NULL},
	{"resume queue", RIGHT_CHANGE, BY_SPOOLER, NULL},
	{"set queue", RIGHT_CHANGE, BY_SPOOLER, NULL},
	{"show disabled sources", RIGHT_READ, BY_SPOOLER, NULL},
	{"disable source", RIGHT_CHANGE, BY_SPOOLER, NULL},
	{"enable source", RIGHT_CHANGE, BY_SPOOLER, NULL},
	{"delete", RIGHT_CHANGE, BY_SPOOLER, NULL},
	{"schedule", RIGHT_CHANGE, BY_SPOOLER, NULL},
	{"move", RIGHT_CHANGE, BY_SPOOLER, NULL},
	{"show pools", RIGHT_READ, BY_SPOOLER, NULL},
	{"reset pool", RIGHT_CHANGE, BY_SPOOLER, NULL},
	{"show warmup", RIGHT_READ, BY_SPOOLER, NULL},
	{"set warmup", RIGHT_CHANGE, BY_SPOOLER, NULL},
	{"show queue", RIGHT_READ, BY_WORKER, NULL},
	{"trace", RIGHT_CHANGE, BY_WORKER, NULL},
	{"resolve", RIGHT_READ, BY_RESOLVER, NULL},
	{"clear dnscache", RIGHT_CHANGE, BY_RESOLVER, NULL},
};

/* Names the groups, so that the reader knows which to ask for. */
static void deny(struct control *c, enum right needed)
{
	const struct conf_global *g = conf_global(c->m->conf);
	struct buf b = BUF_INIT;

	buf_add_str(&b, "permission denied: be root");
	if (g->control_group)
		buf_addf(&b, " or in group %s", g->control_group);
	if (needed == RIGHT_READ && g->monitor_group)
		buf_addf(&b, " or in group %s", g->monitor_group);
	if (!g->control_group)
		buf_addf(&b, "%s",
			 needed == RIGHT_READ && g->monitor_group
				 ? ""
				 : ", or set control-group in [global]");
	fail(c, buf_cstr(&b));
	buf_done(&b);
}

static void dispatch(struct control *c, const char *line, const json_t *request)
{
	const char *name = json_string_value(json_object_get(request, "command"));
	const json_t *args = json_object_get(request, "args");
	const struct command *cmd = NULL;
	size_t i;

	for (i = 0; name && !cmd && i < ARRAY_SIZE(commands); i++)
		if (strcmp(commands[i].name, name) == 0)
			cmd = &commands[i];
	if (!cmd) {
		fail(c,
		     "this daemon does not know that command: are sluice and sluiced of the same "
		     "version?");
		return;
	}
	if (c->right < cmd->right) {
		log_warn(NULL, "command refused: no permission", LOG_S("command", name),
			 LOG_U("uid", c->uid));
		deny(c, cmd->right);
		return;
	}
	if (cmd->right == RIGHT_CHANGE)
		log_info(NULL, "command", LOG_S("command", line), LOG_U("uid", c->uid));
	if (cmd->run)
		cmd->run(c, args);
	else
		hand_over(c, cmd->to, line, args);
}

/* --- the connection --- */

static void on_line(struct control *c, struct slice line)
{
	char *text = slice_dup(line);
	json_error_t why;
	json_t *request;

	stream_consume(c->stream, line.n + 1);
	stream_pause_input(c->stream, true);
	stream_timeout(c->stream, 0, ANSWER_TIMEOUT);
	request = json_loads(text, 0, &why);
	if (json_is_object(request))
		dispatch(c, text, request);
	else
		fail(c, "the request is not a JSON object");
	json_decref(request);
	free(text);
}

static void on_stream(struct stream *s, enum stream_event what, void *arg)
{
	struct control *c;
	struct slice in;
	ptrdiff_t eol;

	CAST_MAGIC(c, arg, CONTROL_MAGIC);
	switch (what) {
	case STREAM_DATA:
		in = stream_input(s);
		eol = slice_chr(in, '\n');
		if (eol >= 0)
			on_line(c, slice_sub(in, 0, (size_t)eol));
		else if (in.n > REQUEST_MAX)
			fail(c, "the request is too long");
		break;
	case STREAM_EOF:
	case STREAM_ERROR:
	case STREAM_TIMEOUT:
		/* the answer of a reload needs the object; it is closed by the answer */
		if (c->reloading)
			break;
		stream_free(s);
		control_free(c);
		break;
	case STREAM_CONNECTED:
	case STREAM_TLS_READY:
	case STREAM_DRAINED:
		break;
	}
}

static void turn_away(int fd)
{
	static const char line[] = "{\"status\":\"error\",\"message\":\"too many control "
				   "connections are open: try again in a moment\"}\n";

	(void)!send(fd, line, sizeof(line) - 1, MSG_NOSIGNAL);
	close(fd);
}

void control_accept(struct master *m)
{
	int fd = accept4(m->control_listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	enum right right;
	struct control *c;
	uid_t uid = 0;

	if (fd < 0)
		return;
	right = peer_right(m, fd, &uid);
	if (open_now[right] >= open_max[right]) {
		turn_away(fd);
		return;
	}
	open_now[right]++;
	c = xcalloc(1, sizeof(*c));
	c->magic = CONTROL_MAGIC;
	c->m = m;
	c->right = right;
	c->uid = uid;
	c->stream = stream_accepted(m->loop, fd, on_stream, c);
	stream_strict_time(c->stream); /* all of the request within the time */
	stream_timeout(c->stream, REQUEST_TIMEOUT, ANSWER_TIMEOUT);
}
