/* links: common/base common/conf common/acct spooler/accountant.c spooler/accountant_file.c spooler/accountant_filter.c spooler/accountant_finish.c */
#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/acct/record.h"
#include "common/base/buf.h"
#include "common/base/err.h"
#include "common/base/fd.h"
#include "common/base/rng.h"
#include "common/base/xalloc.h"
#include "spooler/accountant.h"
#include "spooler/accountant_filter.h"
#include "spooler/accountant_finish.h"

/*
 * A spool in shared memory, so that it survives the death of a child as LMDB does. Rows are made
 * from their sequence. The state is double-buffered: `current` is switched in one store, as a
 * commit is.
 */
#define STATES 4
#define VALUE_MAX 128
struct state_set {
	uint64_t dropped;
	struct {
		char name[256], value[VALUE_MAX];
		size_t n;
	} v[STATES];
};
struct fake_spool {
	_Atomic uint64_t last;
	_Atomic unsigned current;
	_Atomic unsigned commits;
	_Atomic unsigned long fail_commits; /* this many commits fail */
	_Atomic bool fail_loads;
	struct state_set sets[2];
};

static struct fake_spool *spool;

/* The committer: takes a posted checkpoint, stores it a little later. */
static struct {
	pthread_t thread;
	pthread_mutex_t lock;
	struct accountant_commit *posted;
	_Atomic bool stop;
} committer;

static void commit_apply(const struct accountant_commit *c)
{
	unsigned to = !atomic_load(&spool->current);
	struct state_set *set = &spool->sets[to];

	*set = spool->sets[!to];
	for (size_t i = 0; i < c->state_count; i++) {
		size_t k = 0, free_one = STATES;

		for (k = 0; k < STATES; k++) {
			if (slice_eq_str(c->states[i].name, set->v[k].name))
				break;
			if (!set->v[k].n)
				free_one = k;
		}
		if (k == STATES)
			k = free_one;
		cr_assert_lt(k, STATES);
		cr_assert_leq(c->states[i].value.n, VALUE_MAX);
		slice_copy(c->states[i].name, set->v[k].name, sizeof(set->v[k].name));
		memcpy(set->v[k].value, c->states[i].value.p, c->states[i].value.n);
		set->v[k].n = c->states[i].value.n;
		if (!set->v[k].n)
			set->v[k].name[0] = '\0';
	}
	if (c->drop_through > set->dropped)
		set->dropped = c->drop_through;
	atomic_store(&spool->current, to);
	atomic_fetch_add(&spool->commits, 1);
}

static uint64_t dropped(void)
{
	uint64_t d;

	pthread_mutex_lock(&committer.lock);
	d = spool->sets[atomic_load(&spool->current)].dropped;
	pthread_mutex_unlock(&committer.lock);
	return d;
}

static void *committer_run(void *arg ATTR_UNUSED)
{
	while (!atomic_load(&committer.stop)) {
		struct accountant_commit *c;

		pthread_mutex_lock(&committer.lock);
		c = committer.posted;
		committer.posted = NULL;
		pthread_mutex_unlock(&committer.lock);
		usleep(500);
		if (!c)
			continue;
		if (atomic_load(&spool->fail_commits)) {
			atomic_fetch_sub(&spool->fail_commits, 1);
			c->result = ERR_DISK_FULL;
		} else {
			pthread_mutex_lock(&committer.lock);
			commit_apply(c);
			pthread_mutex_unlock(&committer.lock);
			c->result = 0;
		}
		c->done(c);
	}
	return NULL;
}

static void fake_post(void *arg ATTR_UNUSED, struct accountant_commit *c)
{
	pthread_mutex_lock(&committer.lock);
	cr_assert_null(committer.posted);
	committer.posted = c;
	pthread_mutex_unlock(&committer.lock);
}

static enum acct_type row_type(uint64_t seq)
{
	return seq % 10 == 0 ? ACCT_QUEUE : seq % 3 == 0 ? ACCT_BOUNCED : ACCT_DELIVERED;
}

static void row_make(uint64_t seq, struct buf *b)
{
	char rcpt[64];
	struct acct_record r = {
		.type = row_type(seq),
		.time_logged = 1795311565000,
		.time_queued = 1795311560000,
		.text = slice_str("250 2.0.0 ok, \"thanks\""),
		.code = 250,
		.queue = slice_str(seq % 2 ? "odd.example/mta1" : "even.example/mta2")};

	snprintf(rcpt, sizeof(rcpt), "r%llu@x.example", (unsigned long long)seq);
	r.rcpt = slice_str(rcpt);
	buf_clear(b);
	acct_record_encode(&r, b);
}

static long fake_read(void *arg ATTR_UNUSED, uint64_t after, size_t max,
		      void (*row)(void *row_arg, uint64_t seq, struct slice payload), void *row_arg)
{
	uint64_t gone = dropped();
	struct buf b = BUF_INIT;
	size_t n = 0;

	if (after < gone)
		after = gone;
	for (uint64_t s = after + 1; s <= atomic_load(&spool->last) && n < max; s++, n++) {
		row_make(s, &b);
		row(row_arg, s, buf_slice(&b));
	}
	buf_done(&b);
	return (long)n;
}

static uint64_t fake_last(void *arg ATTR_UNUSED)
{
	return atomic_load(&spool->last);
}

static int fake_load(void *arg ATTR_UNUSED,
		     void (*each)(void *each_arg, struct slice name, struct slice value),
		     void *each_arg)
{
	struct state_set set;

	if (atomic_load(&spool->fail_loads))
		return ERR_IO;
	pthread_mutex_lock(&committer.lock);
	set = spool->sets[atomic_load(&spool->current)];
	pthread_mutex_unlock(&committer.lock);
	for (size_t i = 0; i < STATES; i++)
		if (set.v[i].n)
			each(each_arg, slice_str(set.v[i].name),
			     slice_of(set.v[i].value, set.v[i].n));
	return 0;
}

static const struct accountant_source source = {fake_read, fake_last, fake_load, fake_post, NULL};

/* --- one test's world --- */

static char dir[64];

static void world_make(void)
{
	setenv("TZ", "UTC", 1);
	tzset();
	strcpy(dir, "/tmp/accountant-XXXXXX");
	cr_assert_not_null(mkdtemp(dir));
	spool = mmap(NULL, sizeof(*spool), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		     0);
	cr_assert_neq(spool, MAP_FAILED);
}

static void world_end(void)
{
	char *command = xasprintf("chmod -R u+w %s; rm -rf %s", dir, dir);

	cr_assert_eq(system(command), 0);
	free(command);
	munmap(spool, sizeof(*spool));
}

TestSuite(accountant, .init = world_make, .fini = world_end, .timeout = 60);

static void committer_start(void)
{
	pthread_mutex_init(&committer.lock, NULL);
	atomic_store(&committer.stop, false);
	committer.posted = NULL;
	cr_assert_eq(pthread_create(&committer.thread, NULL, committer_run, NULL), 0);
}

static void committer_stop(void)
{
	atomic_store(&committer.stop, true);
	pthread_join(committer.thread, NULL);
}

static void file_write(const char *path, const char *text)
{
	FILE *f = fopen(path, "w");

	cr_assert_not_null(f);
	fputs(text, f);
	fclose(f);
}

/* Sections with %D for the test's directory. */
static struct conf *conf_of(const char *sections)
{
	char *path = xasprintf("%s/test.conf", dir);
	struct conf_messages messages = {0};
	struct buf text = BUF_INIT;
	struct conf *c;

	for (const char *p = sections; *p; p++) {
		if (p[0] == '%' && p[1] == 'D') {
			buf_add_str(&text, dir);
			p++;
		} else {
			buf_add_char(&text, *p);
		}
	}
	file_write(path, buf_cstr(&text));
	c = conf_load(path, &messages);
	if (!c)
		conf_messages_print(&messages, stderr);
	cr_assert_not_null(c);
	conf_messages_done(&messages);
	buf_done(&text);
	free(path);
	return c;
}

static struct accountant *start(const struct conf *c)
{
	struct accountant_options o = {.conf = c, .source = source};

	return accountant_start(&o);
}

static void rows_add(struct accountant *a, uint64_t n)
{
	atomic_fetch_add(&spool->last, n);
	if (a)
		accountant_wake(a);
}

/* Waits until all rows were dropped, that is, are in all files. */
static void wait_dropped(uint64_t through)
{
	for (unsigned i = 0; i < 1000 && dropped() < through; i++)
		usleep(10000);
	cr_assert_geq(dropped(), through);
}

static char *in_dir(const char *name)
{
	return xasprintf("%s/%s", dir, name);
}

static size_t count_files(const char *part)
{
	DIR *d = opendir(dir);
	struct dirent *e;
	size_t n = 0;

	cr_assert_not_null(d);
	while ((e = readdir(d)))
		n += strstr(e->d_name, part) != NULL;
	closedir(d);
	return n;
}

static void wait_files(const char *part, size_t n)
{
	for (unsigned i = 0; i < 500 && count_files(part) != n; i++)
		usleep(10000);
	cr_assert_eq(count_files(part), n, "%zu files with %s, not %zu", count_files(part), part,
		     n);
}

/*
 * Reads all files of a stem in order of their names (the current one last), plain or compressed,
 * through Python, and compares the sequences with from..to. Prints the first difference.
 */
static const char check_script[] =
	"import csv, glob, gzip, io, os, subprocess, sys\n"
	"d, stem, frm, to, only = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), "
	"sys.argv[5]\n"
	"files = sorted(glob.glob(f'{d}/{stem}-20*')) + [f'{d}/{stem}.csv']\n"
	"got = []\n"
	"for f in files:\n"
	"    if f.endswith('.gz'): data = gzip.open(f).read()\n"
	"    elif f.endswith('.zst'): data = subprocess.run(['zstd', '-dcq', f], check=True, "
	"stdout=-1).stdout\n"
	"    else: data = open(f, 'rb').read()\n"
	"    rows = list(csv.reader(io.StringIO(data.decode('utf-8'), newline=''), strict=True))\n"
	"    assert rows and rows[0] == ['type', 'seq', 'rcpt', 'dsnDiag'], (f, rows[:1])\n"
	"    for r in rows[1:]:\n"
	"        assert len(r) == 4 and r[2] == f'r{r[1]}@x.example', (f, r)\n"
	"        got.append(int(r[1]))\n"
	"want = [s for s in range(frm, to + 1) if s % 10 and (only == 'all' or s % 2 == (only == "
	"'odd'))]\n"
	"assert len(got) == len(want), f'{len(got)} lines, not {len(want)}, {len(set(got))} "
	"different'\n"
	"assert got == want, [x for x in zip(got, want) if x[0] != x[1]][:3]\n";

static void check_lines(const char *stem, uint64_t from, uint64_t to, const char *only)
{
	char *script = in_dir("check.py");
	char *command = xasprintf("python3 %s/check.py %s %s %llu %llu %s", dir, dir, stem,
				  (unsigned long long)from, (unsigned long long)to, only);

	file_write(script, check_script);
	cr_assert_eq(system(command), 0, "%s", command);
	free(script);
	free(command);
}

#define FIELDS "records = d,b\nfields = seq,rcpt,dsnDiag\n"

/* --- tests --- */

Test(accountant, writes_each_record_once_and_drops_it)
{
	struct conf *c = conf_of("[acct-file %D/acct.csv]\n" FIELDS);
	struct accountant *a;

	committer_start();
	a = start(c);
	rows_add(a, 2500);
	wait_dropped(2500);
	rows_add(a, 10);
	accountant_stop(a);
	cr_assert_eq(dropped(), 2510);
	check_lines("acct", 1, 2510, "all");
	a = start(c);
	rows_add(a, 100);
	accountant_stop(a);
	check_lines("acct", 1, 2610, "all");
	cr_assert_eq(count_files("acct-20"), 0);
	committer_stop();
	conf_free(c);
}

Test(accountant, drops_rows_when_there_is_no_file)
{
	struct conf *c = conf_of("[global]\nhost-name = a.example\n");
	struct accountant *a;

	committer_start();
	a = start(c);
	rows_add(a, 500);
	wait_dropped(500);
	accountant_stop(a);
	committer_stop();
	conf_free(c);
}

Test(accountant, filters_by_queue_and_serves_several_files)
{
	struct conf *c = conf_of("[acct-file %D/odd.csv]\n" FIELDS "queue-filter = odd.*/*\n"
				 "[acct-file %D/even.csv]\n" FIELDS "queue-filter = !*/mta1\n"
				 "[acct-file %D/acct.csv]\n" FIELDS);
	struct accountant *a;

	committer_start();
	a = start(c);
	rows_add(a, 300);
	accountant_stop(a);
	check_lines("odd", 1, 300, "odd");
	check_lines("even", 1, 300, "even");
	check_lines("acct", 1, 300, "all");
	committer_stop();
	conf_free(c);
}

/* The child of a kill test: feeds rows until it is killed. */
static void feed_until_killed(const char *sections)
{
	struct conf *c = conf_of(sections);
	struct accountant *a;

	committer_start();
	a = start(c);
	for (;;) {
		rows_add(a, 1 + rng_below(400));
		usleep(rng_below(8000));
	}
}

static void kill_often(const char *sections, unsigned times)
{
	for (unsigned i = 0; i < times; i++) {
		pid_t pid = fork();
		int status;

		cr_assert_geq(pid, 0);
		if (pid == 0) {
			feed_until_killed(sections);
			_exit(0);
		}
		usleep(20000 + rng_below(400000));
		cr_assert_eq(kill(pid, SIGKILL), 0);
		cr_assert_eq(waitpid(pid, &status, 0), pid);
		cr_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	}
}

Test(accountant, writes_each_line_exactly_once_whenever_it_is_killed)
{
	static const char sections[] =
		"[acct-file %D/acct.csv]\n" FIELDS "max-size = 1M\ncompress = zstd\n"
		"[acct-file %D/odd.csv]\n" FIELDS "queue-filter = odd.*/*\n";
	struct conf *c;
	struct accountant *a;

	kill_often(sections, 25);
	c = conf_of(sections);
	committer_start();
	a = start(c);
	wait_dropped(atomic_load(&spool->last));
	wait_files(".finishing", 0);
	accountant_stop(a);
	cr_assert_eq(count_files(".tmp"), 0);
	cr_assert_eq(count_files(".next"), 0);
	check_lines("acct", 1, atomic_load(&spool->last), "all");
	check_lines("odd", 1, atomic_load(&spool->last), "odd");
	fprintf(stderr, "kill test: %llu rows, %zu finished files, %u commits\n",
		(unsigned long long)atomic_load(&spool->last), count_files(".zst"),
		atomic_load(&spool->commits));
	cr_assert_gt(count_files("acct-20"), 0);
	committer_stop();
	conf_free(c);
}

/* The three steps of beginning a new file, with a crash behind each. */
Test(accountant, finds_out_where_a_crash_interrupted_a_new_file)
{
	struct conf *c = conf_of("[acct-file %D/acct.csv]\n" FIELDS);
	char *path = in_dir("acct.csv"), *next = in_dir("acct.csv.next");
	struct accountant *a;

	committer_start();
	a = start(c);
	rows_add(a, 100);
	accountant_stop(a);
	file_write(next, "type,seq,rcpt,dsnDiag\n"); /* made, but no checkpoint names it */
	a = start(c);
	rows_add(a, 100);
	accountant_stop(a);
	check_lines("acct", 1, 200, "all");
	cr_assert_eq(count_files("acct-20"), 0);

	cr_assert_eq(rename(path, next), 0); /* the checkpoint names it; PATH is not renamed yet */
	file_write(path, "type,seq,rcpt,dsnDiag\n");
	a = start(c);
	rows_add(a, 100);
	wait_dropped(300);
	wait_files("acct-20", 1);
	accountant_stop(a);
	check_lines("acct", 1, 300, "all");
	cr_assert_eq(count_files(".next"), 0);

	cr_assert_eq(rename(path, next), 0); /* PATH is renamed, PATH.next is not */
	a = start(c);
	rows_add(a, 100);
	wait_dropped(400);
	accountant_stop(a);
	check_lines("acct", 1, 400, "all");
	cr_assert_eq(count_files("acct-20"), 1);
	cr_assert_eq(count_files(".next"), 0);
	committer_stop();
	conf_free(c);
	free(path);
	free(next);
}

Test(accountant, rotates_at_size_and_compresses)
{
	static const struct {
		const char *compress, *suffix;
	} cases[] = {{"none", ".csv"}, {"gzip", ".csv.gz"}, {"zstd", ".csv.zst"}};

	committer_start();
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char *text = xasprintf("[acct-file %%D/%s.csv]\n" FIELDS
				       "max-size = 1M\ncompress = %s\n",
				       cases[i].compress, cases[i].compress);
		char *part = xasprintf("-0001%s", cases[i].suffix);
		struct conf *c = conf_of(text);
		struct accountant *a = start(c);
		uint64_t first = atomic_load(&spool->last) + 1;

		rows_add(a, 45000); /* 2 MB and more */
		wait_dropped(atomic_load(&spool->last));
		wait_files(part, 1);
		wait_files(".finishing", 0);
		accountant_stop(a);
		check_lines(cases[i].compress, first, atomic_load(&spool->last), "all");
		free(text);
		free(part);
		conf_free(c);
	}
	committer_stop();
}

static void wait_turn(struct accountant *a)
{
	accountant_wake(a);
	usleep(1300000);
}

Test(accountant, rotates_at_multiples_of_local_time)
{
	struct conf *c = conf_of("[acct-file %D/acct.csv]\n" FIELDS "rotate = 1h\n");
	struct accountant *a;

	setenv("TZ", "Asia/Kolkata", 1); /* + 5:30: hours of local time begin at half past */
	tzset();
	clock_fake(clock_now(), UINT64_C(1795311000000)); /* 2026-11-22 01:30 UTC, 07:00 there */
	committer_start();
	a = start(c);
	rows_add(a, 10);
	wait_dropped(10);
	clock_fake(clock_now(), UINT64_C(1795311000000) + 3599000);
	rows_add(a, 10);
	wait_dropped(20);
	wait_turn(a);
	cr_assert_eq(count_files("acct-20"), 0);
	clock_fake(clock_now(), UINT64_C(1795311000000) + 3600000);
	wait_turn(a);
	wait_files("acct-2026-11-22-0000.csv", 1);
	clock_fake(clock_now(), UINT64_C(1795311000000) + 7200000);
	wait_turn(a);
	cr_assert_eq(count_files("acct-20"), 1); /* an empty file is not finished */
	rows_add(a, 10);
	wait_dropped(30);
	clock_fake(clock_now(), UINT64_C(1795311000000) + 25 * UINT64_C(3600000));
	wait_turn(a);
	wait_files("acct-2026-11-22-0001.csv", 1);
	clock_real();
	accountant_stop(a);
	check_lines("acct", 1, 30, "all");
	committer_stop();
	conf_free(c);
}

Test(accountant, moves_finished_files_and_never_uses_a_name_twice)
{
	char *done = in_dir("done"), *path = in_dir("acct.csv");
	struct conf *c = conf_of("[acct-file %D/acct.csv]\n" FIELDS "move-to = %D/done\n");
	struct conf *wide = conf_of(
		"[acct-file %D/acct.csv]\nrecords = d,b\nfields = seq,rcpt\nmove-to = %D/done\n");
	struct accountant *a;

	cr_assert_eq(mkdir(done, 0755), 0);
	committer_start();
	a = start(c);
	rows_add(a, 100);
	wait_dropped(100);
	accountant_reload(a, wide); /* other columns: a new file */
	rows_add(a, 100);
	wait_dropped(200);
	accountant_reload(a, c);
	rows_add(a, 100);
	wait_dropped(300);
	usleep(300000);
	accountant_stop(a);
	strcat(dir, "/done");
	wait_files("-0000.csv", 1);
	wait_files("-0001.csv", 1);
	*strrchr(dir, '/') = '\0';
	cr_assert_eq(count_files("acct-20"), 0);
	committer_stop();
	conf_free(c);
	conf_free(wide);
	free(done);
	free(path);
}

Test(accountant, deletes_old_finished_files_and_nothing_else)
{
	static const char *const names[] = {
		"acct-2026-11-01-0000.csv",	"acct-2026-11-01-0001.csv.gz",
		"acct-2026-11-01-0002.csv.zst", "acct-notes.csv",
		"other-2026-11-01-0000.csv",	"acct-2026-11-01-0000.csv.bak"};
	struct timespec old[2] = {{.tv_sec = 1700000000}, {.tv_sec = 1700000000}};
	struct conf *c = conf_of("[acct-file %D/acct.csv]\n" FIELDS "delete-after = 1d\n");
	struct accountant *a;

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		char *p = in_dir(names[i]);

		file_write(p, "x");
		cr_assert_eq(utimensat(AT_FDCWD, p, old, 0), 0);
		free(p);
	}
	committer_start();
	a = start(c);
	wait_files("acct-2026-11-01-0000.csv", 1); /* .bak */
	wait_files("acct-2026-11-01-0001", 0);
	wait_files("acct-2026-11-01-0002", 0);
	wait_files("acct-notes.csv", 1);
	wait_files("other-2026-11-01-0000.csv", 1);
	accountant_stop(a);
	committer_stop();
	conf_free(c);
}

Test(accountant, loses_nothing_while_a_file_cannot_be_written)
{
	char *missing = in_dir("missing");
	struct conf *c = conf_of("[acct-file %D/missing/acct.csv]\n" FIELDS
				 "[acct-file %D/good.csv]\n" FIELDS);
	struct accountant *a;

	committer_start();
	a = start(c);
	rows_add(a, 5000);
	usleep(1500000);
	check_lines("good", 1, 5000, "all");
	cr_assert_eq(dropped(), 0);
	cr_assert_eq(mkdir(missing, 0755), 0);
	wait_dropped(5000);
	accountant_stop(a);
	strcat(dir, "/missing");
	check_lines("acct", 1, 5000, "all");
	*strrchr(dir, '/') = '\0';
	committer_stop();
	conf_free(c);
	free(missing);
}

static void size_limit(rlim_t n)
{
	struct rlimit r;

	cr_assert_eq(getrlimit(RLIMIT_FSIZE, &r), 0);
	r.rlim_cur = n;
	cr_assert_eq(setrlimit(RLIMIT_FSIZE, &r), 0);
}

/*
 * A size limit of the process stands for the full disk: unlike a small file system it needs no
 * privileges.
 */
Test(accountant, goes_on_after_a_full_disk)
{
	struct conf *c = conf_of("[acct-file %D/acct.csv]\n" FIELDS);
	struct accountant *a;
	char *path = in_dir("acct.csv");
	struct stat st;

	signal(SIGXFSZ, SIG_IGN);
	committer_start();
	a = start(c);
	rows_add(a, 100);
	wait_dropped(100);
	cr_assert_eq(stat(path, &st), 0);
	size_limit((rlim_t)st.st_size + 1000);
	rows_add(a, 2000);
	usleep(1500000);
	cr_assert_eq(dropped(), 100);
	size_limit(RLIM_INFINITY);
	wait_dropped(2100);
	accountant_stop(a);
	check_lines("acct", 1, 2100, "all");
	committer_stop();
	conf_free(c);
	free(path);
}

Test(accountant, posts_again_when_a_commit_fails)
{
	struct conf *c = conf_of("[acct-file %D/acct.csv]\n" FIELDS);
	struct accountant *a;

	atomic_store(&spool->fail_commits, 2);
	committer_start();
	a = start(c);
	rows_add(a, 100);
	wait_dropped(100);
	accountant_stop(a);
	check_lines("acct", 1, 100, "all");
	committer_stop();
	conf_free(c);
}

Test(accountant, a_changed_path_takes_over_where_the_old_one_ended)
{
	struct conf *c = conf_of("[acct-file %D/old.csv]\n" FIELDS);
	struct conf *d = conf_of("[acct-file %D/acct.csv]\n" FIELDS);
	struct accountant *a;

	committer_start();
	a = start(c);
	rows_add(a, 1500);
	accountant_reload(a, d);
	rows_add(a, 500);
	wait_dropped(2000);
	accountant_stop(a);
	check_lines("old", 1, 1500, "all");
	check_lines("acct", 1501, 2000, "all");
	committer_stop();
	conf_free(c);
	conf_free(d);
}

Test(accountant, begins_a_new_file_when_somebody_renamed_it)
{
	struct conf *c = conf_of("[acct-file %D/acct.csv]\n" FIELDS);
	char *path = in_dir("acct.csv"), *away = in_dir("away.csv");
	struct accountant *a;

	committer_start();
	a = start(c);
	rows_add(a, 100);
	wait_dropped(100);
	cr_assert_eq(rename(path, away), 0);
	wait_turn(a);
	rows_add(a, 100);
	wait_dropped(200);
	accountant_stop(a);
	check_lines("away", 1, 100, "all");
	check_lines("acct", 101, 200, "all");
	committer_stop();
	conf_free(c);
	free(path);
	free(away);
}

Test(accountant, keeps_a_file_that_it_does_not_know)
{
	struct conf *c = conf_of("[acct-file %D/acct.csv]\n" FIELDS);
	char *path = in_dir("acct.csv");
	struct accountant *a;

	file_write(path, "somebody's data\n");
	committer_start();
	a = start(c);
	rows_add(a, 10);
	wait_dropped(10);
	wait_files("-0000.csv", 1);
	accountant_stop(a);
	cr_assert_eq(count_files(".next"), 0);
	committer_stop();
	conf_free(c);
	free(path);
}

Test(accountant, writes_50000_records_a_second)
{
	struct conf *c = conf_of("[acct-file %D/acct.csv]\nrecords = d,b,t,tq\n");
	struct accountant *a;
	struct timespec cpu0, cpu1;
	usec_t begun;
	double seconds, cpu;

	committer_start();
	a = start(c);
	usleep(300000);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu0);
	begun = clock_now();
	rows_add(a, 200000);
	wait_dropped(200000);
	seconds = (double)(clock_now() - begun) / 1e6;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu1);
	cpu = (double)(cpu1.tv_sec - cpu0.tv_sec) * 1e6 +
	      (double)(cpu1.tv_nsec - cpu0.tv_nsec) / 1e3;
	accountant_stop(a);
	fprintf(stderr, "accountant: %.0f records/s, %.2f µs of CPU each (with making the rows)\n",
		200000 / seconds, cpu / 200000);
	cr_assert_gt(200000 / seconds, 20000);
	committer_stop();
	conf_free(c);
}

Test(accountant_filter, first_match_decides)
{
	static const struct {
		const char *patterns[3];
		size_t n;
		const char *queue;
		bool takes;
	} cases[] = {
		{{NULL}, 0, "a.example/mta1", true},
		{{"*/mta1"}, 1, "a.example/mta1", true},
		{{"*/mta1"}, 1, "a.example/mta2", false},
		{{"!a.example/*"}, 1, "a.example/mta2", false},
		{{"!a.example/*"}, 1, "b.example/mta2", true},
		{{"!x.a.example/*", "*.a.example/*"}, 2, "x.a.example/m", false},
		{{"!x.a.example/*", "*.a.example/*"}, 2, "y.a.example/m", true},
		{{"!x.a.example/*", "*.a.example/*"}, 2, "b.example/m", false},
		{{"A.Example"}, 1, "a.example/m", true},
		{{"google.rollup/*"}, 1, "google.rollup/mta1", true},
		{{"*a*b*/m"}, 1, "xxaxxbxx/m", true},
		{{"*a*b*c/m"}, 1, "xxaxxbxx/m", false},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct conf_strings p = {cases[i].patterns, cases[i].n};

		cr_expect_eq(accountant_filter_takes(&p, slice_str(cases[i].queue)), cases[i].takes,
			     "case %zu", i);
	}
}

static void wait_beat(const struct accountant *a)
{
	usec_t before = accountant_heartbeat(a);

	for (unsigned i = 0; i < 1000 && accountant_heartbeat(a) == before; i++)
		usleep(10000);
	cr_assert_neq(accountant_heartbeat(a), before);
}

/* Its heart beats while it has nothing to do, and while the spool cannot be read. */
Test(accountant, beats_while_it_waits)
{
	struct conf *c = conf_of("[acct-file %D/acct.csv]\n");
	struct accountant *a;

	committer_start();
	atomic_store(&spool->fail_loads, true);
	a = start(c);
	wait_beat(a);
	wait_beat(a);
	atomic_store(&spool->fail_loads, false);
	rows_add(a, 1);
	wait_dropped(1);
	wait_beat(a);
	accountant_stop(a);
	committer_stop();
	conf_free(c);
}
