#include "master/master.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "common/base/err.h"
#include "common/base/xalloc.h"

/* A child that has not answered is asked once more, then replaced: each after so long. */
#define ANSWER_TIME (10 * USEC_PER_SEC)

/*
 * A reload in progress. The spooler switches first, since it makes the rows of new virtual MTAs and
 * knows which of those that leave still have mail; then resolver and workers.
 */
struct reload {
	uint64_t gen;
	bool spooler_done;
	usec_t began; /* or when the answers that are missing were last asked for */
	bool asked_again;
	char *notes;
	reload_done *done;
	void *arg;
};

static void note_restart(const char *keyword, void *arg)
{
	buf_addf(arg, "warning: %s is changed, but takes effect only with a restart\n", keyword);
}

static void warn_restart(const char *keyword, void *arg ATTR_UNUSED)
{
	log_warn(NULL, "changed, but takes effect only with a restart",
		 LOG_S("directive", keyword));
}

static char *messages_text(const struct conf_messages *msgs)
{
	struct buf b = BUF_INIT;
	size_t i;

	for (i = 0; i < msgs->n; i++) {
		const struct conf_message *v = &msgs->v[i];

		buf_add_str(&b, i ? "\n" : "");
		if (v->at.file)
			buf_addf(&b, "%s:%u: ", v->at.file, v->at.line);
		buf_addf(&b, "%s: %s", v->level == LOG_LEVEL_ERROR ? "error" : "warning", v->text);
	}
	return buf_take(&b);
}

static void close_unused(const struct listener *old, size_t old_count, const struct listener *now,
			 size_t count)
{
	size_t i, j;

	for (i = 0; i < old_count; i++) {
		for (j = 0; j < count; j++)
			if (old[i].fd == now[j].fd)
				break;
		if (j == count)
			close(old[i].fd);
	}
}

/* What a good configuration should still tell. */
static char *notes_text(const struct master *m, const struct conf *conf,
			const struct conf_messages *msgs)
{
	char *warnings = messages_text(msgs);
	struct buf b = BUF_INIT;

	if (msgs->n)
		buf_addf(&b, "%s\n", warnings);
	(void)conf_restart_needed(m->conf, conf, note_restart, &b);
	free(warnings);
	return buf_take(&b);
}

/*
 * What a process that is started later would find elsewhere than the others: NULL, or why this
 * configuration cannot be taken by a running daemon.
 */
static char *moved(const struct conf_global *was, const struct conf_global *is)
{
	const struct {
		const char *directive, *was, *is;
	} places[] = {{"spool-dir", was->spool_dir, is->spool_dir},
		      {"runtime-dir", was->runtime_dir, is->runtime_dir},
		      {"control-socket", was->control_socket, is->control_socket}};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(places); i++)
		if (strcmp(places[i].was, places[i].is) != 0)
			return xasprintf(
				"error: %s is changed from %s to %s, which a reload cannot do: "
				"stop the daemon and start it again",
				places[i].directive, places[i].was, places[i].is);
	return NULL;
}

static void refuse(const char *error, reload_done *done, void *arg)
{
	log_error(NULL, "the configuration was not changed", LOG_S("error", error));
	(void)sd_notify(0, "READY=1");
	done(error, "", arg);
}

/* Takes over the new generation in master itself. */
static void switch_to(struct master *m, struct conf *conf, const struct listener *listeners,
		      size_t count)
{
	(void)conf_restart_needed(m->conf, conf, warn_restart, NULL);
	setup_check_sources(conf);
	close_unused(m->listeners, m->listener_count, listeners, count);
	memcpy(m->listeners, listeners, count * sizeof(*listeners));
	m->listener_count = count;
	conf_free(m->conf);
	m->conf = conf;
	m->conf_gen++;
	close(m->conf_fd);
	m->conf_fd = setup_conf_fd(conf);
	log_set_level((enum log_level)conf_global(conf)->log_level);
}

static void log_warnings(const struct conf_messages *msgs)
{
	size_t i;

	for (i = 0; i < msgs->n; i++)
		log_warn(NULL, msgs->v[i].text, LOG_S("file", msgs->v[i].at.file),
			 LOG_U("line", msgs->v[i].at.line));
}

void reload_begin(struct master *m, bool dry_run, reload_done *done, void *arg)
{
	struct listener listeners[MASTER_LISTENERS_MAX];
	struct conf_messages msgs = {0};
	struct conf *conf;
	size_t count = 0;
	char *error = NULL, *notes;

	if (m->reload || m->stopping) {
		done(m->stopping ? "the server is stopping"
				 : "another reload is in progress: try again",
		     "", arg);
		return;
	}
	(void)sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%llu", (unsigned long long)clock_now());
	conf = conf_load(m->conf_path, &msgs);
	if (!conf) {
		error = messages_text(&msgs);
	} else if ((error = moved(conf_global(m->conf), conf_global(conf))) != NULL) {
		conf_free(conf);
	} else if (dry_run) {
		notes = notes_text(m, conf, &msgs);
		done(NULL, notes, arg);
		free(notes);
		conf_free(conf);
		(void)sd_notify(0, "READY=1");
		conf_messages_done(&msgs);
		return;
	} else if (setup_listeners(conf, m->listeners, m->listener_count, listeners, &count,
				   &error) < 0) {
		conf_free(conf);
	}
	if (error) {
		refuse(error, done, arg);
		free(error);
		conf_messages_done(&msgs);
		return;
	}
	log_warnings(&msgs);
	notes = notes_text(m, conf, &msgs);
	conf_messages_done(&msgs);
	switch_to(m, conf, listeners, count);
	m->reload = xcalloc(1, sizeof(*m->reload));
	*m->reload = (struct reload){
		.gen = m->conf_gen, .began = clock_now(), .notes = notes, .done = done, .arg = arg};
	supervisor_send_conf(m, m->spooler);
	reload_on_conf_done(m, m->spooler, NULL, 0);
}

static void tell_others(struct master *m)
{
	struct child *c;

	LIST_FOREACH(c, &m->children, link)
		if (c->role != ROLE_SPOOLER && c->control_fd >= 0)
			supervisor_send_conf(m, c);
}

/* Serves with the new configuration, or will when it comes back. */
static bool has_switched(const struct child *c, uint64_t gen)
{
	if (c->pid <= 0 || c->state == CHILD_STOPPING)
		return true;
	return c->state != CHILD_STARTING && c->conf_gen >= gen;
}

static bool all_switched(const struct master *m)
{
	const struct child *c;

	LIST_FOREACH(c, &m->children, link)
		if (!has_switched(c, m->reload->gen))
			return false;
	return true;
}

void reload_on_conf_done(struct master *m, struct child *c, const struct slice *orphans,
			 size_t orphan_count)
{
	struct reload *r = m->reload;

	if (!r)
		return;
	if (!r->spooler_done) {
		if (c != m->spooler || !has_switched(c, r->gen))
			return;
		r->spooler_done = true;
		tell_others(m);
		/* the next one says READY with its orphans */
		if (m->spooler->pid > 0 && m->spooler->state != CHILD_STOPPING)
			supervisor_want_workers(m, orphans, orphan_count);
	}
	if (!all_switched(m))
		return;
	m->reload = NULL;
	log_info(NULL, "reloaded", LOG_U("generation", r->gen));
	(void)sd_notify(0, "READY=1");
	r->done(NULL, r->notes, r->arg);
	free(r->notes);
	free(r);
}

/*
 * The spooler takes a configuration between two commits. While one takes long it has not even looked; that a
 * commit ends at all is the supervisor's care.
 */
static bool waits_for_commit(const struct master *m)
{
	usec_t began = atomic_load(&shm_signals(m->shm)->commit_began);

	return !m->reload->spooler_done && began && clock_now() > began + COMMIT_SLOW;
}

void reload_tick(struct master *m)
{
	struct reload *r = m->reload;
	struct child *c, *next;

	if (!r)
		return;
	if (waits_for_commit(m))
		r->began = clock_now();
	if (clock_now() < r->began + ANSWER_TIME)
		return;
	r->began = clock_now();
	for (c = LIST_FIRST(&m->children); c; c = next) {
		next = LIST_NEXT(c, link);
		if (c->state != CHILD_RUNNING || has_switched(c, r->gen) ||
		    (!r->spooler_done && c != m->spooler))
			continue;
		if (!r->asked_again) {
			supervisor_send_conf(m, c);
			continue;
		}
		log_error(NULL,
			  "a process does not take the new configuration: it is started again",
			  LOG_S("child", supervisor_child_name(c)), LOG_I("pid", c->pid));
		supervisor_replace(c);
	}
	r->asked_again = true;
	reload_on_conf_done(m, m->spooler, NULL, 0);
}
