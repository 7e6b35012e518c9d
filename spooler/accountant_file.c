#include "spooler/accountant_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/acct/field.h"
#include "common/base/codec.h"
#include "common/base/err.h"
#include "common/base/fd.h"
#include "common/base/log.h"
#include "common/base/xalloc.h"
#include "spooler/accountant.h"
#include "spooler/accountant_filter.h"
#include "spooler/accountant_finish.h"

#define STATE_VERSION 1
#define RETRY_AFTER USEC_PER_SEC
#define COMPLAIN_EVERY (60 * USEC_PER_SEC)
#define WEEK (7 * 24 * 3600 * MSEC_PER_SEC)
#define MONDAY (4 * 24 * 3600 * MSEC_PER_SEC) /* the first one of the epoch */

static uint64_t fnv(struct slice s)
{
	uint64_t h = UINT64_C(0xcbf29ce484222325);

	for (size_t i = 0; i < s.n; i++)
		h = (h ^ (uint8_t)s.p[i]) * UINT64_C(0x100000001b3);
	return h;
}

/* --- configuration --- */

static const struct {
	unsigned record; /* enum conf_record */
	enum acct_type type;
} record_types[] = {
	{CONF_RECORD_D, ACCT_DELIVERED},
	{CONF_RECORD_B, ACCT_BOUNCED},
	{CONF_RECORD_T, ACCT_TRANSIENT},
	{CONF_RECORD_TQ, ACCT_QUEUE},
};

static struct acct_layout *layout_make(const struct conf_acct_file *c, const struct log_ctx *log)
{
	struct acct_layout_options o = {.json = c->format == CONF_ACCT_JSON,
					.iso_times = c->iso_times,
					.user_string = c->user_string,
					.conf = c->conf};
	struct acct_layout *l;
	char *error;

	for (size_t i = 0; i < ARRAY_SIZE(record_types); i++)
		if (c->records & (1u << record_types[i].record))
			o.types |= acct_type_bit(record_types[i].type);
	l = acct_layout_new(&o);
	for (size_t i = 0; i < ARRAY_SIZE(record_types); i++) {
		const struct conf_strings *f = &c->record_fields.of[record_types[i].record];

		if (!f->n || !acct_layout_select(l, record_types[i].type, f->v, f->n, &error))
			continue;
		log_error(log, "wrong list of fields; the default columns are written",
			  LOG_S("error", error));
		free(error);
		acct_layout_free(l);
		return acct_layout_new(&o);
	}
	return l;
}

void out_configure(struct out *o, const struct conf_acct_file *conf)
{
	o->conf = conf;
	acct_layout_free(o->layout);
	o->layout = layout_make(conf, &o->log);
	buf_clear(&o->header);
	acct_layout_header(o->layout, &o->header);
	o->header_hash = fnv(buf_slice(&o->header));
}

struct out *out_new(const struct conf_acct_file *conf)
{
	struct out *o = xcalloc(1, sizeof(*o));
	size_t n = strlen(conf->path);

	o->path = xstrdup(conf->path);
	o->log = (struct log_ctx){.object = "acct-file", .name = o->path};
	o->fd = o->next_fd = -1;
	if (n <= ACCOUNTANT_NAME_MAX) {
		buf_add_str(&o->name, conf->path);
	} else {
		buf_addf(&o->name, "#%016llx:", (unsigned long long)fnv(slice_str(conf->path)));
		buf_add_str(&o->name, conf->path + (n - ACCOUNTANT_NAME_MAX / 2));
	}
	out_configure(o, conf);
	return o;
}

static void fd_close(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

void out_free(struct out *o)
{
	if (!o)
		return;
	fd_close(&o->fd);
	fd_close(&o->next_fd);
	acct_layout_free(o->layout);
	buf_done(&o->name);
	buf_done(&o->header);
	buf_done(&o->lines);
	free(o->path);
	free(o);
}

/* --- checkpoints --- */

void out_state_encode(const struct out *o, struct buf *b)
{
	const struct out_state *s = o->phase == OUT_BEGINNING ? &o->next : &o->synced;

	enc_u8(b, STATE_VERSION);
	enc_var(b, s->at.inode);
	enc_var(b, s->at.offset);
	enc_var(b, s->at.seq);
	enc_u64(b, s->header_hash);
	enc_var(b, s->begun);
	enc_var(b, s->day);
	enc_var(b, s->counter);
}

int out_state_decode(struct slice value, struct out_state *ret)
{
	struct dec d = dec_of(value.p, value.n);
	struct out_state s = {0};
	uint8_t version = dec_u8(&d);

	if (dec_ok(&d) && version != STATE_VERSION)
		return ERR_VERSION;
	s.at.inode = dec_var(&d);
	s.at.offset = dec_var(&d);
	s.at.seq = dec_var(&d);
	s.header_hash = dec_u64(&d);
	s.begun = dec_var(&d);
	s.day = dec_var32(&d);
	s.counter = dec_var32(&d);
	if (!dec_end(&d))
		return ERR_CORRUPT;
	*ret = s;
	return 0;
}

void out_restore(struct out *o, const struct out_state *s)
{
	o->synced = *s;
	o->written = s->at;
	o->lines_seq = s->at.seq;
}

/* --- trouble --- */

/*
 * Back to the last synced position; what was written behind it is cut off when the file is opened
 * again.
 */
static void out_trouble(struct out *o, usec_t now, const char *what)
{
	int error = errno;

	fd_close(&o->fd);
	fd_close(&o->next_fd);
	o->phase = OUT_CLOSED;
	o->written = o->synced.at;
	o->lines_seq = o->synced.at.seq;
	buf_clear(&o->lines);
	o->retry_at = now + RETRY_AFTER;
	if (now < o->complain_at)
		return;
	o->complain_at = now + COMPLAIN_EVERY;
	log_error(&o->log,
		  "cannot write accounting records; they stay in the spool, and it is tried again "
		  "every second",
		  LOG_S("doing", what), LOG_S("error", strerror(error)));
}

static int dir_sync_of(const char *path)
{
	struct finish_name n;
	int fd, rc;

	finish_name_init(&n, path);
	fd = open(n.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	rc = fd < 0 ? -1 : fsync(fd);
	fd_close(&fd);
	finish_name_done(&n);
	return rc;
}

/* --- opening and beginning --- */

static uint64_t inode_of(const char *path)
{
	struct stat st;

	return stat(path, &st) || !S_ISREG(st.st_mode) ? 0 : st.st_ino;
}

static char *next_path(const struct out *o)
{
	return xasprintf("%s.next", o->path);
}

/* Makes PATH.next with its header; phase BEGINNING. */
static void out_begin(struct out *o, usec_t now)
{
	mode_t mode = o->conf->world_readable ? 0644 : 0640;
	char *next = next_path(o);
	struct stat st;
	bool ok;

	fd_close(&o->next_fd);
	unlink(next);
	o->next_fd = open(next, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, mode);
	ok = o->next_fd >= 0 && fchmod(o->next_fd, mode) == 0 &&
	     fd_write_all(o->next_fd, o->header.p, o->header.n) == 0 && fsync(o->next_fd) == 0 &&
	     fstat(o->next_fd, &st) == 0 && dir_sync_of(o->path) == 0;
	free(next);
	if (!ok) {
		out_trouble(o, now, "making a new file in its directory");
		return;
	}
	o->next = o->synced;
	o->next.at = (struct out_position){st.st_ino, o->header.n, o->synced.at.seq};
	o->next.header_hash = o->header_hash;
	o->next.begun = clock_wall();
	o->phase = OUT_BEGINNING;
	o->dirty = true;
	o->posted = false; /* a checkpoint under way knows nothing of the new file */
}

/*
 * PATH becomes a finished file, if it is there and holds anything. Its day is that of its
 * beginning, or, where that is not known (0), of its last change.
 */
static int path_finish(struct out *o, msec_t begun, unsigned *day, unsigned *counter)
{
	struct stat st;
	unsigned its_day;

	if (stat(o->path, &st))
		return errno == ENOENT ? 0 : ERR_SYS;
	if (!st.st_size)
		return unlink(o->path) ? ERR_SYS : 0;
	its_day = finish_day(begun ? begun : (msec_t)st.st_mtim.tv_sec * MSEC_PER_SEC);
	if (*day != its_day) {
		*day = its_day;
		*counter = 0;
	}
	return finish_rename(o->path, o->conf->move_to, its_day, counter);
}

/* PATH, begun then, is finished and PATH.next becomes PATH; `state` becomes the file's. */
static int next_rename(struct out *o, msec_t begun, struct out_state state)
{
	char *from = next_path(o);
	int rc;

	rc = path_finish(o, begun, &state.day, &state.counter);
	if (!rc && rename(from, o->path))
		rc = ERR_SYS;
	if (!rc && dir_sync_of(o->path))
		rc = ERR_IO;
	free(from);
	if (rc)
		return rc;
	o->synced = state;
	o->written = state.at;
	o->lines_seq = state.at.seq;
	o->dirty = true;
	return 0;
}

bool out_begun(struct out *o, usec_t now)
{
	if (next_rename(o, o->synced.begun, o->next)) {
		/*
		 * The stored checkpoint names PATH.next: out_open() finds it and tries the renames
		 * again.
		 */
		o->synced = o->next;
		out_trouble(o, now, "renaming PATH");
		return false;
	}
	fd_close(&o->fd);
	o->fd = o->next_fd;
	o->next_fd = -1;
	o->phase = OUT_OPEN;
	return true;
}

/* Takes up the file that the checkpoint names: cut to the stored offset. */
static void out_resume(struct out *o, usec_t now)
{
	struct stat st;

	o->fd = open(o->path, O_WRONLY | O_APPEND | O_CLOEXEC);
	if (o->fd < 0 || fstat(o->fd, &st)) {
		out_trouble(o, now, "opening");
		return;
	}
	if ((uint64_t)st.st_size < o->synced.at.offset) {
		log_error(&o->log,
			  "somebody cut an accounting file: records that were in it are lost",
			  LOG_I("size", st.st_size), LOG_U("expected", o->synced.at.offset));
		o->synced.at.offset = (uint64_t)st.st_size;
	} else if ((uint64_t)st.st_size > o->synced.at.offset &&
		   ftruncate(o->fd, (off_t)o->synced.at.offset)) {
		out_trouble(o, now, "cutting");
		return;
	}
	o->written = o->synced.at;
	o->lines_seq = o->synced.at.seq;
	o->phase = OUT_OPEN;
}

static void out_open(struct out *o, usec_t now)
{
	uint64_t inode = o->synced.at.inode;
	char *next = next_path(o);

	if (inode && inode_of(o->path) == inode) {
		out_resume(o, now);
	} else if (inode && inode_of(next) == inode) {
		if (next_rename(o, 0, o->synced))
			out_trouble(o, now, "renaming PATH.next");
		else
			out_resume(o, now);
	} else {
		out_begin(o, now);
	}
	free(next);
}

/* --- rotation --- */

/* Number of the interval, counted in local time, that t lies in. */
static uint64_t period(msec_t t, uint64_t interval)
{
	time_t s = (time_t)(t / MSEC_PER_SEC);
	struct tm tm;
	int64_t local;

	localtime_r(&s, &tm);
	local = (int64_t)t + (int64_t)tm.tm_gmtoff * (int64_t)MSEC_PER_SEC;
	if (interval % WEEK == 0)
		local -= (int64_t)MONDAY;
	return local < 0 ? 0 : (uint64_t)local / interval;
}

static bool out_due(const struct out *o)
{
	uint64_t interval = o->conf->move_interval / USEC_PER_MSEC;

	if (o->synced.header_hash != o->header_hash)
		return true;
	if (o->written.offset <= o->header.n)
		return false;
	if (o->full || o->written.offset >= o->conf->max_size)
		return true;
	return o->conf->move_interval != USEC_INFINITY && interval &&
	       period(clock_wall(), interval) > period(o->synced.begun, interval);
}

/* An empty file is not finished: its date is that of its first record. */
static void out_redate(struct out *o)
{
	if (o->written.offset > o->header.n ||
	    finish_day(o->synced.begun) == finish_day(clock_wall()))
		return;
	o->synced.begun = clock_wall();
	o->dirty = true;
}

/*
 * Somebody may have renamed or removed it: then a new one is begun, as log rotation programs
 * expect.
 */
static bool out_gone(const struct out *o)
{
	return inode_of(o->path) != o->synced.at.inode;
}

void out_prepare(struct out *o, usec_t now)
{
	if (now < o->retry_at)
		return;
	if (o->phase == OUT_CLOSED)
		out_open(o, now);
	if (o->phase == OUT_OPEN) {
		out_redate(o);
		if (out_due(o) || out_gone(o))
			out_begin(o, now);
	}
	o->full = false;
}

bool out_ready(const struct out *o, usec_t now)
{
	return o->phase == OUT_OPEN && now >= o->retry_at && !o->full;
}

/* --- lines --- */

bool out_add(struct out *o, const struct acct_record *rec, uint64_t seq)
{
	size_t before = o->lines.n;

	if (o->full)
		return false;
	if (rec && accountant_filter_takes(&o->conf->queue_filter, rec->queue))
		acct_layout_line(o->layout, rec, seq, &o->lines);
	if (o->written.offset + o->lines.n > o->conf->max_size &&
	    o->written.offset + before > o->header.n) {
		o->lines.n = before;
		o->full = true;
		return false;
	}
	o->lines_seq = seq;
	return true;
}

void out_flush(struct out *o, usec_t now)
{
	if (o->phase != OUT_OPEN || o->lines_seq <= o->synced.at.seq)
		return;
	if (o->lines.n) {
		if (fd_write_all(o->fd, o->lines.p, o->lines.n)) {
			out_trouble(o, now, "writing");
			return;
		}
		if (fdatasync(o->fd)) {
			out_trouble(o, now, "syncing");
			return;
		}
	}
	o->written.offset += o->lines.n;
	o->written.seq = o->lines_seq;
	o->synced.at = o->written;
	o->dirty = true;
	buf_clear(&o->lines);
	if (o->complain_at) {
		o->complain_at = 0;
		log_info(&o->log, "accounting records are written again");
	}
}
