#include "spooler/session.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/base/fd.h"
#include "common/base/xalloc.h"
#include "spooler/session_private.h"

#define BEAT_EVERY USEC_PER_SEC
/* After the last session, so that its last words leave. */
#define STOP_GRACE (100 * USEC_PER_MSEC)

static const char *const going_down = "421 4.3.2 this server is going down; try again later";

/* ---- generations of the configuration ---- */

static struct session_conf *session_conf_new(const struct conf *conf)
{
	struct session_conf *c = xcalloc(1, sizeof(*c));

	atomic_init(&c->refs, 1);
	c->conf = conf;
	c->global = conf_global(conf);
	c->host = c->global->host_name;
	if (!c->host) {
		if (gethostname(c->host_buffer, sizeof(c->host_buffer) - 1) < 0)
			(void)slice_copy(slice_str("localhost"), c->host_buffer,
					 sizeof(c->host_buffer));
		c->host = c->host_buffer;
	}
	return c;
}

void session_conf_ref(struct session_conf *c)
{
	atomic_fetch_add(&c->refs, 1);
}

void session_conf_unref(struct session_conf *c)
{
	if (!c || atomic_fetch_sub(&c->refs, 1) > 1)
		return;
	/* It was lent as const; with a successor in place nobody else has it. */
	if (c->owned)
		conf_free((struct conf *)(uintptr_t)c->conf);
	free(c);
}

/* ---- in a session thread ---- */

static void take_returned(struct session_thread *t)
{
	struct intake_message *list, *m, *reversed = NULL;

	pthread_mutex_lock(&t->lock);
	list = t->returned;
	t->returned = NULL;
	for (m = list; m; m = m->next)
		t->posted--;
	pthread_mutex_unlock(&t->lock);
	while (list) {
		m = list;
		list = m->next;
		m->next = reversed;
		reversed = m;
	}
	while (reversed) {
		m = reversed;
		reversed = m->next;
		session_mail_done(container_of(m, struct session_mail, m));
	}
}

static void switch_conf(struct session_thread *t)
{
	struct smtp_server *server = t->server;
	struct session_conf *old = t->conf;
	struct session *s, *next;

	pthread_mutex_lock(&server->lock);
	if (t->generation == server->generation) {
		pthread_mutex_unlock(&server->lock);
		return;
	}
	t->conf = server->conf;
	session_conf_ref(t->conf);
	if (!t->stopping)
		session_listen(t, &server->listeners);
	pthread_mutex_unlock(&server->lock);

	for (s = LIST_FIRST(&t->sessions); s; s = next) {
		next = LIST_NEXT(s, link);
		session_adopt(s);
	}
	session_conf_unref(old);
	pthread_mutex_lock(&server->lock);
	t->generation = server->generation;
	pthread_cond_broadcast(&server->switched);
	pthread_mutex_unlock(&server->lock);
}

static void drain(struct session_thread *t)
{
	struct session *s, *next;

	t->draining = true;
	for (s = LIST_FIRST(&t->sessions); s; s = next) {
		next = LIST_NEXT(s, link);
		if (!s->mail && s->step == SESSION_COMMAND)
			(void)session_shut(s, going_down);
	}
}

static void stop(struct session_thread *t)
{
	struct session *s, *next;

	t->stopping = t->draining = true;
	session_listen_stop(t);
	for (s = LIST_FIRST(&t->sessions); s; s = next) {
		next = LIST_NEXT(s, link);
		(void)session_shut(s, going_down);
	}
	loop_timer_set(t->end, SESSION_STOP_WAIT);
}

static void on_bell(int what ATTR_UNUSED, void *arg)
{
	struct session_thread *t = arg;
	struct smtp_server *server = t->server;

	bell_quiet(t->bell);
	take_returned(t);
	switch_conf(t);
	if (!t->draining && atomic_load(&server->draining))
		drain(t);
	else if (!t->stopping)
		t->draining = atomic_load(&server->draining);
	if (!t->stopping && atomic_load(&server->stopping))
		stop(t);
	if (t->stopping && LIST_EMPTY(&t->sessions))
		loop_timer_set(t->end, STOP_GRACE);
}

static void on_end(void *arg)
{
	struct session_thread *t = arg;

	while (!LIST_EMPTY(&t->sessions))
		session_free(LIST_FIRST(&t->sessions));
	loop_stop(t->loop);
}

static void on_beat(void *arg)
{
	struct session_thread *t = arg;

	atomic_store(&t->heartbeat, clock_now());
	loop_timer_set(t->beat, BEAT_EVERY);
}

static void on_accept_again(void *arg)
{
	struct session_thread *t = arg;
	struct session_listener_set set;

	pthread_mutex_lock(&t->server->lock);
	set = t->server->listeners;
	if (!t->stopping)
		session_listen(t, &set);
	pthread_mutex_unlock(&t->server->lock);
}

static void *thread_main(void *arg)
{
	struct session_thread *t = arg;

	t->loop = loop_new();
	t->bell_io = loop_io_new(t->loop, t->bell, LOOP_READ, on_bell, t);
	t->beat = loop_timer_new(t->loop, on_beat, t);
	t->accept_again = loop_timer_new(t->loop, on_accept_again, t);
	t->end = loop_timer_new(t->loop, on_end, t);
	on_beat(t);
	switch_conf(t);
	loop_run(t->loop);
	session_listen_stop(t);
	session_conf_unref(t->conf);
	t->conf = NULL;
	loop_timer_free(t->end);
	loop_timer_free(t->accept_again);
	loop_timer_free(t->beat);
	loop_io_free(t->bell_io);
	loop_free(t->loop);
	return NULL;
}

/* ---- any thread ---- */

void session_mail_returned(struct intake_message *m)
{
	struct session_thread *t = m->poster;

	pthread_mutex_lock(&t->lock);
	m->next = t->returned;
	t->returned = m;
	bell_ring(t->bell);
	pthread_mutex_unlock(&t->lock);
}

static void thread_start(struct smtp_server *s, struct session_thread *t)
{
	sigset_t all, before;
	int err;

	t->server = s;
	LIST_INIT(&t->sessions);
	pthread_mutex_init(&t->lock, NULL);
	atomic_init(&t->heartbeat, clock_now());
	t->bell = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (t->bell < 0)
		fatal("cannot make an eventfd: %s", strerror(errno));
	/* Signals are for the main thread. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	err = pthread_create(&t->id, NULL, thread_main, t);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (err)
		fatal("cannot start a thread: %s", strerror(err));
}

static void copy_listeners(struct session_listener_set *set, const int *fds, size_t n)
{
	set->fds = xmalloc((n ? n : 1) * sizeof(*fds));
	set->n = n;
	if (n)
		memcpy(set->fds, fds, n * sizeof(*fds));
}

static bool all_switched(const struct smtp_server *s)
{
	unsigned i;

	for (i = 0; i < s->thread_count; i++)
		if (s->threads[i].generation != s->generation)
			return false;
	return true;
}

struct smtp_server *smtp_server_start(const struct smtp_server_options *o)
{
	struct smtp_server *s = xcalloc(1, sizeof(*s));
	sigset_t all, before;
	unsigned i;

	s->intake = o->intake;
	s->counters = o->counters;
	s->big_dir = xstrdup(o->big_dir);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	s->sync = session_sync_new(o->intake, o->big_dir);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->switched, NULL);
	s->conf = session_conf_new(o->conf);
	s->generation = 1;
	for (i = 0; i < o->listener_count; i++)
		if (fd_set_nonblock(o->listeners[i], true) < 0)
			fatal("listener %u: %s", i, strerror(errno));
	copy_listeners(&s->listeners, o->listeners, o->listener_count);
	s->thread_count = o->threads ? o->threads : 1;
	s->threads = xcalloc(s->thread_count, sizeof(*s->threads));
	for (i = 0; i < s->thread_count; i++)
		thread_start(s, &s->threads[i]);
	pthread_mutex_lock(&s->lock);
	while (!all_switched(s))
		pthread_cond_wait(&s->switched, &s->lock);
	pthread_mutex_unlock(&s->lock);
	return s;
}

static void ring_all(struct smtp_server *s)
{
	unsigned i;

	for (i = 0; i < s->thread_count; i++)
		bell_ring(s->threads[i].bell);
}

static void close_left(const struct session_listener_set *old,
		       const struct session_listener_set *now)
{
	size_t i, j;

	for (i = 0; i < old->n; i++) {
		for (j = 0; j < now->n; j++)
			if (old->fds[i] == now->fds[j])
				break;
		if (j == now->n)
			close(old->fds[i]);
	}
}

void smtp_server_reload(struct smtp_server *s, const struct conf *conf, const int *listeners,
			size_t listener_count)
{
	struct session_conf *old;
	struct session_listener_set before;
	size_t i;

	for (i = 0; i < listener_count; i++)
		if (fd_set_nonblock(listeners[i], true) < 0)
			log_error(NULL, "cannot use a listener", LOG_S("error", strerror(errno)));
	pthread_mutex_lock(&s->lock);
	old = s->conf;
	old->owned = true;
	before = s->listeners;
	s->conf = session_conf_new(conf);
	copy_listeners(&s->listeners, listeners, listener_count);
	s->generation++;
	ring_all(s);
	while (!all_switched(s))
		pthread_cond_wait(&s->switched, &s->lock);
	close_left(&before, &s->listeners);
	pthread_mutex_unlock(&s->lock);
	free(before.fds);
	session_conf_unref(old);
}

void smtp_server_drain(struct smtp_server *s, bool on)
{
	atomic_store(&s->draining, on);
	ring_all(s);
}

/* False: the committer still has messages of this thread, so its memory must stay. */
static bool thread_done(struct session_thread *t)
{
	unsigned posted;

	take_returned(t);
	pthread_mutex_lock(&t->lock);
	posted = t->posted;
	pthread_mutex_unlock(&t->lock);
	if (posted) {
		log_warn(NULL, "messages were with the committer when SMTP in was stopped",
			 LOG_U("messages", posted));
		return false;
	}
	pthread_mutex_destroy(&t->lock);
	close(t->bell);
	return true;
}

void smtp_server_stop(struct smtp_server *s)
{
	bool all = true;
	unsigned i;

	atomic_store(&s->stopping, true);
	ring_all(s);
	for (i = 0; i < s->thread_count; i++)
		pthread_join(s->threads[i].id, NULL);
	session_sync_free(s->sync);
	for (i = 0; i < s->thread_count; i++)
		all = thread_done(&s->threads[i]) && all;
	session_conf_unref(s->conf);
	if (!all)
		return;
	free(s->listeners.fds);
	free(s->threads);
	free(s->big_dir);
	pthread_cond_destroy(&s->switched);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

unsigned smtp_server_sessions(const struct smtp_server *s)
{
	return atomic_load(&s->open);
}

usec_t smtp_server_heartbeat(const struct smtp_server *s)
{
	usec_t oldest = USEC_INFINITY;
	unsigned i;

	for (i = 0; i < s->thread_count; i++) {
		usec_t beat = atomic_load(&s->threads[i].heartbeat);

		if (beat < oldest)
			oldest = beat;
	}
	return oldest;
}
