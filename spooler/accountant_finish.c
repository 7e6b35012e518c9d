#include "spooler/accountant_finish.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <zlib.h>
#include <zstd.h>

#include "common/base/err.h"
#include "common/base/fd.h"
#include "common/base/log.h"
#include "common/base/xalloc.h"

#define CHUNK ((size_t)256 * 1024)
#define LOOK_EVERY_SEC 60

/* One accounting file's settings, copied from the configuration. */
struct job {
	struct finish_name name;
	char *move_to; /* NULL: beside the file */
	int compress; /* enum conf_compress */
	usec_t delete_after;
	mode_t mode;
	bool departed;
	struct job *next;
};

struct finisher {
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct job *jobs;
	bool poked, stop; /* stop is also read without the lock, between chunks */
};

static const struct log_ctx ctx = {.object = "thread", .name = "accountant"};

/* --- names --- */

void finish_name_init(struct finish_name *n, const char *path)
{
	const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path,
		   *dot = strrchr(base, '.');

	if (!slash)
		n->dir = xstrdup(".");
	else
		n->dir = slash == path ? xstrdup("/") : xstrndup(path, (size_t)(slash - path));
	if (!dot || dot == base)
		dot = base + strlen(base);
	n->stem = xstrndup(base, (size_t)(dot - base));
	n->ext = xstrdup(dot);
}

void finish_name_done(struct finish_name *n)
{
	free(n->dir);
	free(n->stem);
	free(n->ext);
	*n = (struct finish_name){0};
}

unsigned finish_day(msec_t wall)
{
	time_t t = (time_t)(wall / MSEC_PER_SEC);
	struct tm tm;

	localtime_r(&t, &tm);
	return (unsigned)((tm.tm_year + 1900) * 10000 + (tm.tm_mon + 1) * 100 + tm.tm_mday);
}

static const char *const suffixes[] = {"", ".gz", ".zst", FINISH_SUFFIX, ".tmp"};

/* Is any form of the name there? */
static bool name_taken(const char *dir, const char *name)
{
	bool taken = false;

	for (size_t i = 0; i < ARRAY_SIZE(suffixes) && !taken; i++) {
		char *path = xasprintf("%s/%s%s", dir, name, suffixes[i]);
		struct stat st;

		taken = lstat(path, &st) == 0;
		free(path);
	}
	return taken;
}

static int dir_sync(const char *dir)
{
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), rc, saved;

	if (fd < 0)
		return ERR_SYS;
	rc = fsync(fd);
	saved = errno;
	close(fd);
	errno = saved;
	return rc ? ERR_IO : 0;
}

int finish_rename(const char *path, const char *move_to, unsigned day, unsigned *counter)
{
	struct finish_name n;
	char *name = NULL, *to;
	int rc;

	finish_name_init(&n, path);
	for (;; (*counter)++) {
		name = xasprintf("%s-%04u-%02u-%02u-%04u%s", n.stem, day / 10000, day / 100 % 100,
				 day % 100, *counter, n.ext);
		if (!name_taken(n.dir, name) && !(move_to && name_taken(move_to, name)))
			break;
		free(name);
	}
	to = xasprintf("%s/%s" FINISH_SUFFIX, n.dir, name);
	rc = rename(path, to) ? ERR_SYS : dir_sync(n.dir);
	if (!rc)
		(*counter)++;
	free(name);
	free(to);
	finish_name_done(&n);
	return rc;
}

static bool digits(const char *s, const char *form)
{
	for (; *form; form++, s++)
		if (*form == '9' ? *s < '0' || *s > '9' : *s != *form)
			return false;
	return true;
}

/*
 * Is this STEM-YYYY-MM-DD-N…EXT and then one of ours? Returns what comes behind EXT, or NULL. Only
 * names that match are ever touched.
 */
static const char *name_match(const struct finish_name *n, const char *name)
{
	size_t stem = strlen(n->stem), ext = strlen(n->ext);

	if (strncmp(name, n->stem, stem) != 0)
		return NULL;
	name += stem;
	if (!digits(name, "-9999-99-99-9999"))
		return NULL;
	name += strlen("-9999-99-99-9999");
	while (*name >= '0' && *name <= '9')
		name++;
	return strncmp(name, n->ext, ext) == 0 ? name + ext : NULL;
}

/* --- compression --- */

static bool stopping(struct finisher *f)
{
	return __atomic_load_n(&f->stop, __ATOMIC_RELAXED);
}

static long read_chunk(int fd, char *to)
{
	ssize_t n;

	do
		n = read(fd, to, CHUNK);
	while (n < 0 && errno == EINTR);
	return n < 0 ? ERR_IO : (long)n;
}

static int copy_gzip(struct finisher *f, int from, int to, char *in, char *out)
{
	z_stream z = {0};
	int rc = 0, flush = Z_NO_FLUSH;

	/* 16 + 15: a gzip header around a 32 KiB window */
	if (deflateInit2(&z, 6, Z_DEFLATED, 16 + 15, 8, Z_DEFAULT_STRATEGY) != Z_OK)
		return ERR_SYS;
	while (!rc && flush != Z_FINISH) {
		long n = read_chunk(from, in);

		if (n < 0 || stopping(f)) {
			rc = n < 0 ? (int)n : ERR_CLOSED;
			break;
		}
		flush = n == 0 ? Z_FINISH : Z_NO_FLUSH;
		z.next_in = (Bytef *)in;
		z.avail_in = (uInt)n;
		do {
			z.next_out = (Bytef *)out;
			z.avail_out = CHUNK;
			deflate(&z, flush);
			rc = fd_write_all(to, out, CHUNK - z.avail_out);
		} while (!rc && z.avail_out == 0);
	}
	deflateEnd(&z);
	return rc;
}

static int copy_zstd(struct finisher *f, int from, int to, char *in, char *out)
{
	ZSTD_CCtx *z = ZSTD_createCCtx();
	bool end = false;
	int rc = 0;

	if (!z)
		return ERR_SYS;
	ZSTD_CCtx_setParameter(z, ZSTD_c_checksumFlag, 1);
	while (!rc && !end) {
		long n = read_chunk(from, in);
		ZSTD_inBuffer src = {in, n > 0 ? (size_t)n : 0, 0};
		size_t left = 1;

		if (n < 0 || stopping(f)) {
			rc = n < 0 ? (int)n : ERR_CLOSED;
			break;
		}
		end = n == 0;
		while (!rc && (end ? left > 0 : src.pos < src.size)) {
			ZSTD_outBuffer dst = {out, CHUNK, 0};

			left = ZSTD_compressStream2(z, &dst, &src,
						    end ? ZSTD_e_end : ZSTD_e_continue);
			rc = ZSTD_isError(left) ? ERR_IO : fd_write_all(to, out, dst.pos);
		}
	}
	ZSTD_freeCCtx(z);
	return rc;
}

static int copy_compressed(struct finisher *f, int compress, int from, int to)
{
	char *in = xmalloc(CHUNK), *out = xmalloc(CHUNK);
	int rc;

	if (compress == CONF_COMPRESS_GZIP)
		rc = copy_gzip(f, from, to, in, out);
	else
		rc = copy_zstd(f, from, to, in, out);
	free(in);
	free(out);
	return rc;
}

/* The file at `from`, compressed and synced, at `tmp`, with the time of its last record. */
static int compress_file(struct finisher *f, const struct job *j, const char *from, const char *tmp)
{
	int in = open(from, O_RDONLY | O_CLOEXEC), out, rc = ERR_SYS;
	struct stat st;

	if (in < 0)
		return ERR_SYS;
	out = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (out >= 0) {
		rc = copy_compressed(f, j->compress, in, out);
		if (!rc && (fstat(in, &st) || fchmod(out, j->mode) ||
			    futimens(out, (const struct timespec[]){st.st_mtim, st.st_mtim}) ||
			    fsync(out)))
			rc = ERR_IO;
		close(out);
	}
	close(in);
	return rc;
}

static int finish_file(struct finisher *f, const struct job *j, const char *from, const char *name)
{
	static const char *const ends[] = {[CONF_COMPRESS_NONE] = "",
					   [CONF_COMPRESS_GZIP] = ".gz",
					   [CONF_COMPRESS_ZSTD] = ".zst"};
	const char *dir = j->move_to ? j->move_to : j->name.dir;
	char *to = xasprintf("%s/%s%s", dir, name, ends[j->compress]);
	char *tmp = xasprintf("%s/%s.tmp", j->name.dir, name);
	int rc, saved;

	if (j->compress == CONF_COMPRESS_NONE) {
		rc = rename(from, to) ? ERR_SYS : dir_sync(dir);
	} else {
		rc = compress_file(f, j, from, tmp);
		if (!rc)
			rc = rename(tmp, to) ? ERR_SYS : dir_sync(dir);
		if (!rc && unlink(from))
			rc = ERR_SYS;
		saved = errno;
		if (rc)
			unlink(tmp);
		errno = saved;
	}
	if (rc && rc != ERR_CLOSED)
		log_error(&ctx, "cannot finish a file of records; trying again every minute",
			  LOG_S("file", from), LOG_S("to", to), LOG_S("error", strerror(errno)));
	free(to);
	free(tmp);
	return rc;
}

/* --- directories --- */

static void entry_finish(struct finisher *f, const struct job *j, const char *entry)
{
	size_t n = strlen(entry) - strlen(FINISH_SUFFIX);
	char *from = xasprintf("%s/%s", j->name.dir, entry), *name = xstrndup(entry, n);

	if (finish_file(f, j, from, name) == 0)
		log_debug(&ctx, "finished a file of records", LOG_S("name", name));
	free(from);
	free(name);
}

static void entry_prune(const struct job *j, const char *entry)
{
	char *path;
	struct stat st;
	msec_t now = clock_wall(), age;

	if (j->departed || j->move_to || j->delete_after == USEC_INFINITY)
		return;
	path = xasprintf("%s/%s", j->name.dir, entry);
	if (lstat(path, &st) == 0 && S_ISREG(st.st_mode)) {
		msec_t written = (msec_t)st.st_mtim.tv_sec * MSEC_PER_SEC;

		age = now > written ? now - written : 0;
		if (age >= j->delete_after / USEC_PER_MSEC && unlink(path))
			log_error(&ctx, "cannot delete an old file of records", LOG_S("file", path),
				  LOG_S("error", strerror(errno)));
	}
	free(path);
}

/* Nobody compresses now, so this was left by a crash. */
static void entry_remove(const struct job *j, const char *entry)
{
	char *path = xasprintf("%s/%s", j->name.dir, entry);

	unlink(path);
	free(path);
}

static int oldest_first(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static void job_run(struct finisher *f, const struct job *j)
{
	struct dirent **list = NULL;
	int n = scandir(j->name.dir, &list, NULL, oldest_first);

	for (int i = 0; i < n; i++) {
		const char *rest = name_match(&j->name, list[i]->d_name);

		if (!stopping(f) && rest) {
			if (strcmp(rest, FINISH_SUFFIX) == 0)
				entry_finish(f, j, list[i]->d_name);
			else if (strcmp(rest, ".tmp") == 0)
				entry_remove(j, list[i]->d_name);
			else if (!*rest || strcmp(rest, ".gz") == 0 || strcmp(rest, ".zst") == 0)
				entry_prune(j, list[i]->d_name);
		}
		free(list[i]);
	}
	free(list);
}

/* --- thread --- */

static void job_free(struct job *j)
{
	finish_name_done(&j->name);
	free(j->move_to);
	free(j);
}

static void jobs_free(struct job *j)
{
	while (j) {
		struct job *next = j->next;

		job_free(j);
		j = next;
	}
}

static bool job_same(const struct job *a, const struct job *b)
{
	return strcmp(a->name.dir, b->name.dir) == 0 && strcmp(a->name.stem, b->name.stem) == 0 &&
	       strcmp(a->name.ext, b->name.ext) == 0;
}

static struct job *jobs_find(struct job *list, const struct job *like)
{
	for (; list; list = list->next)
		if (job_same(list, like))
			return list;
	return NULL;
}

static struct job *job_new(const struct conf_acct_file *c)
{
	struct job *j = xcalloc(1, sizeof(*j));

	finish_name_init(&j->name, c->path);
	j->move_to = c->move_to ? xstrdup(c->move_to) : NULL;
	j->compress = c->compress;
	j->delete_after = c->delete_after;
	j->mode = c->world_readable ? 0644 : 0640;
	return j;
}

static struct job *job_copy(const struct job *from)
{
	struct job *j = xcalloc(1, sizeof(*j));

	*j = *from;
	j->name = (struct finish_name){xstrdup(from->name.dir), xstrdup(from->name.stem),
				       xstrdup(from->name.ext)};
	j->move_to = from->move_to ? xstrdup(from->move_to) : NULL;
	j->next = NULL;
	return j;
}

void finisher_reload(struct finisher *f, const struct conf *conf)
{
	struct job *old, *next, *list = NULL;

	for (size_t i = 0; i < conf_acct_file_count(conf); i++) {
		struct job *j = job_new(conf_acct_file_at(conf, i));

		j->next = list;
		list = j;
	}
	pthread_mutex_lock(&f->lock);
	for (old = f->jobs; old; old = next) {
		next = old->next;
		if (jobs_find(list, old)) {
			job_free(old);
			continue;
		}
		old->departed = true;
		old->next = list;
		list = old;
	}
	f->jobs = list;
	f->poked = true;
	pthread_cond_signal(&f->changed);
	pthread_mutex_unlock(&f->lock);
}

/* A copy, so that compressing holds no lock. */
static struct job *jobs_copy(const struct job *list)
{
	struct job *copy = NULL;

	for (; list; list = list->next) {
		struct job *j = job_copy(list);

		j->next = copy;
		copy = j;
	}
	return copy;
}

static void wait_for_poke(struct finisher *f)
{
	struct timespec until;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += LOOK_EVERY_SEC;
	while (!f->poked && !f->stop)
		if (pthread_cond_timedwait(&f->changed, &f->lock, &until) == ETIMEDOUT)
			break;
	f->poked = false;
}

static void *finisher_run(void *arg)
{
	struct finisher *f = arg;

	setpriority(PRIO_PROCESS, (id_t)gettid(), 10);
	pthread_mutex_lock(&f->lock);
	while (!f->stop) {
		struct job *jobs = jobs_copy(f->jobs);

		pthread_mutex_unlock(&f->lock);
		for (struct job *j = jobs; j; j = j->next)
			job_run(f, j);
		jobs_free(jobs);
		pthread_mutex_lock(&f->lock);
		if (!f->stop)
			wait_for_poke(f);
	}
	pthread_mutex_unlock(&f->lock);
	return NULL;
}

struct finisher *finisher_start(const struct conf *conf)
{
	struct finisher *f = xcalloc(1, sizeof(*f));
	pthread_condattr_t attr;
	int rc;

	pthread_mutex_init(&f->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&f->changed, &attr);
	pthread_condattr_destroy(&attr);
	finisher_reload(f, conf);
	rc = pthread_create(&f->thread, NULL, finisher_run, f);
	if (rc)
		fatal("cannot start a thread: %s", strerror(rc));
	return f;
}

void finisher_poke(struct finisher *f)
{
	pthread_mutex_lock(&f->lock);
	f->poked = true;
	pthread_cond_signal(&f->changed);
	pthread_mutex_unlock(&f->lock);
}

void finisher_stop(struct finisher *f)
{
	if (!f)
		return;
	pthread_mutex_lock(&f->lock);
	__atomic_store_n(&f->stop, true, __ATOMIC_RELAXED);
	pthread_cond_signal(&f->changed);
	pthread_mutex_unlock(&f->lock);
	pthread_join(f->thread, NULL);
	jobs_free(f->jobs);
	pthread_mutex_destroy(&f->lock);
	pthread_cond_destroy(&f->changed);
	free(f);
}
