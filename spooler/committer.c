#include "spooler/committer.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/err.h"
#include "common/base/fd.h"
#include "common/base/log.h"
#include "common/base/xalloc.h"
#include "common/spool/write.h"
#include "spooler/admission.h"
#include "spooler/commit_tidy.h"

#define RETRY_FULL (1 * USEC_PER_SEC)
#define FULL_LOG_EVERY (60 * USEC_PER_SEC)
#define TICK (1 * USEC_PER_SEC)
#define RECOUNT_ROWS 1000
#define BAD_OUTCOMES "bad-outcomes"

struct committer {
	struct committer_options o;
	struct commit *engine;
	struct intake *intake;
	bool own_intake;
	struct admission *admission;
	struct commit_tidy *tidy;
	pthread_t thread;
	bool started;
	_Atomic bool stop, counted;

	pthread_mutex_t lock; /* of posted and new_conf */
	struct commit_job *posted, **posted_last;
	const struct conf *new_conf; /* until the thread has taken it */
	pthread_cond_t switched;

	/* the thread's own */
	struct intake_message *messages;
	struct commit_job *jobs;
	usec_t full_until; /* the disk is full: no messages before this */
	usec_t stuck_until; /* not even outcomes have room */
	usec_t full_logged;
	usec_t next_tick;
};

/* --- records that cannot be read --- */

static int save_record(const char *path, struct slice payload)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
	int rc;

	if (fd < 0)
		return ERR_SYS;
	rc = fd_write_all(fd, payload.p, payload.n);
	if (rc == 0 && fdatasync(fd) < 0)
		rc = ERR_IO;
	close(fd);
	return rc;
}

static void on_bad_report(void *arg, uint32_t slot, uint32_t forkno, uint64_t position,
			  uint8_t type, struct slice payload, const char *why)
{
	struct committer *c = arg;
	char *dir = xasprintf("%s/" BAD_OUTCOMES, spool_dir(c->o.spool));
	char *path = xasprintf("%s/%016" PRIx64 "-%" PRIu32 "-%" PRIu64 "-%u", dir, c->o.family,
			       forkno, position, type);

	(void)mkdir(dir, 0750);
	if (save_record(path, payload) < 0)
		log_error(NULL, "cannot keep a bad record of a worker", LOG_S("file", path),
			  LOG_S("error", strerror(errno)));
	log_error(NULL,
		  "a worker's outcome ring is corrupt; the record is set aside and the "
		  "worker restarted",
		  LOG_U("slot", slot), LOG_S("file", path), LOG_S("why", why));
	if (c->o.on_bad_ring)
		c->o.on_bad_ring(c->o.arg, slot, forkno, why);
	free(path);
	free(dir);
}

/* --- start --- */

static bool has_big_row(struct spool *s, uint64_t msgid)
{
	struct spool_message m;
	struct spool_read *r;
	bool found;

	if (spool_read_begin(s, &r) < 0)
		return true;
	found = spool_message_get(r, msgid, &m) != ERR_NOT_FOUND;
	spool_read_end(r);
	return found;
}

/* Removes big bodies whose message never got its 250; returns the largest name seen. */
static uint64_t clean_big(struct spool *s, bool keep)
{
	char *dir = xasprintf("%s/big", spool_dir(s));
	DIR *d = opendir(dir);
	struct dirent *e;
	uint64_t largest = 0, msgid;
	unsigned removed = 0, kept = 0;

	while (d && (e = readdir(d)) != NULL) {
		if (!slice_u64(slice_str(e->d_name), &msgid))
			continue;
		if (msgid > largest)
			largest = msgid;
		if (keep)
			kept++;
		else if (!has_big_row(s, msgid) && unlinkat(dirfd(d), e->d_name, 0) == 0)
			removed++;
	}
	if (d)
		closedir(d);
	free(dir);
	if (kept)
		log_error(
			NULL,
			"the spool is empty, but bodies of messages lie beside it: they are kept; "
			"if data.mdb was lost, stop and restore it, else remove them",
			LOG_S("spool", spool_dir(s)), LOG_U("files", kept));
	if (removed)
		log_info(NULL, "removed bodies of messages that were never accepted",
			 LOG_U("files", removed));
	return largest;
}

static uint64_t first_msgid(struct committer *c)
{
	uint64_t row = commit_last_msgid(c->engine);
	/* a spool that never held mail knows nothing about them */
	uint64_t big = clean_big(c->o.spool, row == 0);

	return big > row ? big : row;
}

int committer_new(const struct committer_options *o, struct committer **ret, char **ret_error)
{
	struct committer *c = xcalloc(1, sizeof(*c));
	struct commit_options eo = {.spool = o->spool,
				    .shm = o->shm,
				    .conf = o->conf,
				    .family = o->family,
				    .bells = o->bells,
				    .bell_count = o->bell_count,
				    .bad_report = on_bad_report,
				    .arg = c};
	int rc;

	c->o = *o;
	c->posted_last = &c->posted;
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->switched, NULL);
	rc = commit_new(&eo, &c->engine, ret_error);
	if (rc == 0 && (rc = commit_vmtas(c->engine)) < 0)
		*ret_error = xasprintf("%s: cannot write the spool: %s", spool_dir(o->spool),
				       err_text(rc));
	if (rc < 0) {
		committer_free(c);
		return rc;
	}
	c->own_intake = !o->intake;
	c->intake = o->intake ? o->intake : intake_new(o->bell, first_msgid(c));
	c->admission = admission_new(o->spool, o->shm, c->intake);
	c->tidy = commit_tidy_new(c->engine);
	admission_set_conf(c->admission, o->conf);
	*ret = c;
	return 0;
}

void committer_free(struct committer *c)
{
	if (!c)
		return;
	if (c->own_intake)
		intake_free(c->intake);
	admission_free(c->admission);
	commit_tidy_free(c->tidy);
	commit_free(c->engine);
	pthread_cond_destroy(&c->switched);
	pthread_mutex_destroy(&c->lock);
	free(c);
}

struct intake *committer_intake(struct committer *c)
{
	return c->intake;
}

struct commit *committer_engine(struct committer *c)
{
	return c->engine;
}

bool committer_counted(const struct committer *c)
{
	return atomic_load(&c->counted);
}

/* --- jobs --- */

void committer_post(struct committer *c, struct commit_job *j)
{
	j->next = NULL;
	pthread_mutex_lock(&c->lock);
	*c->posted_last = j;
	c->posted_last = &j->next;
	pthread_mutex_unlock(&c->lock);
	bell_ring(c->o.bell);
}

static void take_jobs(struct committer *c)
{
	struct commit_job **end = &c->jobs;

	while (*end)
		end = &(*end)->next;
	pthread_mutex_lock(&c->lock);
	*end = c->posted;
	c->posted = NULL;
	c->posted_last = &c->posted;
	pthread_mutex_unlock(&c->lock);
}

struct drain {
	struct commit_job job;
	struct committer *c;
	uint32_t slot, forkno;
	size_t n;
	uint64_t msgids[];
};

/* The transaction that empties the ring also counts the crash. */
static int run_drain(struct commit *engine, struct spool_write *w, struct commit_job *j)
{
	struct drain *d = container_of(j, struct drain, job);
	size_t i;
	int rc = 0;

	if (!commit_slot_empty(engine, d->slot, d->forkno))
		return 1;
	for (i = 0; rc == 0 && i < d->n; i++)
		rc = commit_count_crash(engine, w, d->msgids[i]);
	return rc;
}

static void drain_done(struct commit_job *j)
{
	struct drain *d = container_of(j, struct drain, job);

	commit_slot_drained(d->c->engine, d->slot, d->forkno);
	if (d->c->o.on_drained)
		d->c->o.on_drained(d->c->o.arg, d->slot, d->forkno);
	free(d);
}

void committer_drain(struct committer *c, uint32_t slot, uint32_t forkno, const uint64_t *msgids,
		     size_t n)
{
	struct drain *d = xcalloc(1, sizeof(*d) + n * sizeof(d->msgids[0]));

	d->job = (struct commit_job){.run = run_drain, .done = drain_done};
	d->c = c;
	d->slot = slot;
	d->forkno = forkno;
	d->n = n;
	if (n)
		memcpy(d->msgids, msgids, n * sizeof(d->msgids[0]));
	committer_post(c, &d->job);
}

/* --- commits, for those who watch --- */

static void stamp(struct committer *c)
{
	atomic_store(&shm_signals(c->o.shm)->committer_heartbeat, clock_now());
}

static void commit_begins(struct committer *c)
{
	atomic_store(&shm_signals(c->o.shm)->commit_began, clock_now());
}

/* In this order: no moment in which it is in no commit and has been silent for long. */
static void commit_ended(struct committer *c)
{
	stamp(c);
	atomic_store(&shm_signals(c->o.shm)->commit_began, 0);
}

/* --- configuration --- */

static void use_conf(struct committer *c, const struct conf *conf)
{
	int rc;

	c->o.conf = conf;
	commit_set_conf(c->engine, conf);
	admission_set_conf(c->admission, conf);
	commit_begins(c);
	rc = commit_vmtas(c->engine);
	commit_ended(c);
	/* a full disk: the rows are made with the first mail */
	if (rc < 0 && rc != ERR_DISK_FULL && rc != ERR_MAP_FULL)
		fatal("%s: cannot write the spool: %s", spool_dir(c->o.spool), err_text(rc));
}

/* Between two transactions. */
static void take_conf(struct committer *c)
{
	const struct conf *conf;

	pthread_mutex_lock(&c->lock);
	conf = c->new_conf;
	pthread_mutex_unlock(&c->lock);
	if (!conf)
		return;
	use_conf(c, conf);
	pthread_mutex_lock(&c->lock);
	c->new_conf = NULL;
	pthread_cond_signal(&c->switched);
	pthread_mutex_unlock(&c->lock);
}

void committer_set_conf(struct committer *c, const struct conf *conf)
{
	pthread_mutex_lock(&c->lock);
	c->new_conf = conf;
	bell_ring(c->o.bell);
	while (c->new_conf)
		pthread_cond_wait(&c->switched, &c->lock);
	pthread_mutex_unlock(&c->lock);
}

/* --- the thread --- */

static void take_messages(struct committer *c)
{
	struct intake_message **end = &c->messages;

	while (*end)
		end = &(*end)->next;
	*end = intake_take(c->intake);
}

static void refuse_messages(struct committer *c)
{
	while (c->messages) {
		struct intake_message *m = c->messages;

		c->messages = m->next;
		m->next = NULL;
		m->result = ERR_DISK_FULL;
		m->done(m);
	}
}

/* Somebody waits for these, and nothing says when there is room again. */
static void refuse_jobs(struct committer *c)
{
	struct commit_job **at = &c->jobs, *j;

	while ((j = *at)) {
		if (!j->refuse) {
			at = &j->next;
			continue;
		}
		*at = j->next;
		j->refuse(j);
	}
}

static void on_full(struct committer *c, int rc, bool had_messages)
{
	usec_t now = clock_now();

	if (!c->full_logged || now > c->full_logged + FULL_LOG_EVERY) {
		log_error(NULL, "the spool cannot grow: new mail is refused, outcomes wait",
			  LOG_S("error", err_text(rc)), LOG_S("spool", spool_dir(c->o.spool)));
		c->full_logged = now;
	}
	c->full_until = now + RETRY_FULL;
	if (had_messages) /* jobs and outcomes alone may have room */
		return;
	c->stuck_until = now + RETRY_FULL;
	refuse_jobs(c);
}

static int timed_batch(struct committer *c, struct commit_result *ret)
{
	int rc;

	commit_begins(c);
	rc = commit_batch(c->engine, &c->messages, &c->jobs, ret);
	commit_ended(c);
	return rc;
}

/* True: there is more to do at once. */
static bool turn(struct committer *c)
{
	struct commit_result r = {.more = false};
	bool had_messages;
	int rc;

	if (clock_now() < c->full_until)
		refuse_messages(c);
	if (clock_now() < c->stuck_until)
		return false;
	had_messages = c->messages != NULL;
	rc = timed_batch(c, &r);
	if (rc == ERR_DISK_FULL || rc == ERR_MAP_FULL) {
		on_full(c, rc, had_messages);
		return had_messages;
	}
	if (rc < 0)
		fatal("%s: the spool cannot be written: %s", spool_dir(c->o.spool), err_text(rc));
	if (r.messages)
		admission_moved(c->admission, commit_live_bytes(c->engine));
	if (r.outbox && c->o.on_outbox)
		c->o.on_outbox(c->o.arg);
	if (r.dsn && c->o.on_dsn)
		c->o.on_dsn(c->o.arg);
	return r.more;
}

static void add_job(struct committer *c, struct commit_job *j)
{
	struct commit_job **end = &c->jobs;

	while (*end)
		end = &(*end)->next;
	*end = j;
}

static void tick(struct committer *c)
{
	usec_t now = clock_now();

	if (now < c->next_tick)
		return;
	c->next_tick = now + TICK;
	add_job(c, commit_tidy_look(c->tidy));
	(void)spool_reader_check(c->o.spool);
	admission_look(c->admission, commit_live_bytes(c->engine));
}

static void wait_for_work(struct committer *c, bool more)
{
	struct pollfd p = {.fd = c->o.bell, .events = POLLIN};
	bool counted = more || commit_recount(c->engine, RECOUNT_ROWS);
	usec_t now = clock_now();
	int timeout = 0;

	if (commit_counted(c->engine))
		atomic_store(&c->counted, true);
	if (!more && counted && now < c->next_tick)
		timeout = (int)((c->next_tick - now) / USEC_PER_MSEC) + 1;
	if (poll(&p, 1, timeout) > 0)
		bell_quiet(c->o.bell);
}

static void *run(void *arg)
{
	struct committer *c = arg;
	bool stopping = false, more;

	do {
		stamp(c);
		tick(c);
		take_conf(c);
		stopping = atomic_load(&c->stop);
		take_messages(c);
		take_jobs(c);
		more = turn(c);
		/* told to stop: what waited before that has gone in when a turn finds nothing more */
		if (!stopping || more)
			wait_for_work(c, more);
	} while (!stopping || more);
	refuse_messages(c);
	return NULL;
}

void committer_start(struct committer *c)
{
	admission_look(c->admission, commit_live_bytes(c->engine));
	stamp(c); /* what is there is its predecessor's */
	if (pthread_create(&c->thread, NULL, run, c))
		fatal("cannot start the committer: %s", strerror(errno));
	c->started = true;
}

void committer_stop(struct committer *c, bool workers_gone)
{
	int rc;

	if (!c || !c->started)
		return;
	atomic_store(&c->stop, true);
	bell_ring(c->o.bell);
	pthread_join(c->thread, NULL);
	c->started = false;
	if (!workers_gone)
		return;
	rc = commit_finish(c->engine);
	if (rc < 0)
		log_warn(NULL, "the end of this run could not be written: rates begin carefully",
			 LOG_S("why", err_text(rc)));
}
