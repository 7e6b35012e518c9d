/* links: common/base common/conf common/spool common/shm common/acct spooler/commit.c spooler/commit_*.c spooler/dsn_row.c */
/*
 * spool_bench - steady state of the spool with its whole schema, durable, through the commit engine.
 *
 *     spool_bench DIR DOMAINS BACKLOG SECONDS [BATCH [BODY]]
 *
 * A backlog of deferred 2 KiB messages lies in the spool. Then, batch after batch: BATCH new messages
 * of BODY bytes arrive (one recipient each, domains at random); what came 20 batches ago has its
 * outcome (95 % delivered, 5 % deferred); as many old deferred ones are delivered, at random; the
 * accounting records are dropped as the accountant would. Prints messages accepted and finished per
 * second, times of the commits and CPU of the process.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/err.h"
#include "common/base/log.h"
#include "common/base/rng.h"
#include "common/base/xalloc.h"
#include "common/spool/report.h"
#include "common/spool/write.h"
#include "spooler/commit.h"

#define LAG 20 /* batches between arrival and outcome */
#define DEFER_PERCENT 5
#define BACKLOG_BODY 2048
#define FILL_BATCH 500
#define DOMAIN_SIZE 24
#define TIMES_MAX 4000000

static struct {
	struct spool *spool;
	struct shm *shm;
	struct conf *conf;
	struct commit *engine;
	struct shm_ring *ring;
	const char *dir;
	uint32_t domains, batch;
	uint64_t next_id;
	uint64_t *old; /* deferred messages */
	size_t old_count;
	uint32_t *times; /* of commits, us */
	size_t time_count;
	char *body;
} b;

static void make_conf(void)
{
	static const char text[] = "[global]\nhost-name = bench.example\n[virtual-mta a]\n"
				   "smtp-source-host = 127.0.0.1 a.example\n";
	char path[] = "/tmp/spool-bench-XXXXXX";
	struct conf_messages m;
	int fd = mkstemp(path);

	if (fd < 0 || write(fd, text, sizeof(text) - 1) < 0)
		fatal("cannot write %s", path);
	close(fd);
	b.conf = conf_load(path, &m);
	if (!b.conf)
		conf_messages_print(&m, stderr);
	conf_messages_done(&m);
	unlink(path);
	if (!b.conf)
		exit(1);
}

static void open_engine(bool sync)
{
	struct spool_options o = {.dir = b.dir, .writer = true, .nosync = !sync};
	struct commit_options co = {.shm = b.shm, .conf = b.conf, .family = 1};
	char *error = NULL;

	if (spool_open(&o, &b.spool, &error) < 0)
		fatal("%s", error);
	co.spool = b.spool;
	if (commit_new(&co, &b.engine, &error) < 0)
		fatal("%s", error);
	if (commit_vmtas(b.engine) < 0)
		fatal("cannot write the spool");
	while (!commit_recount(b.engine, 10000))
		;
}

static void close_engine(void)
{
	commit_free(b.engine);
	spool_close(b.spool);
}

static void on_done(struct intake_message *m)
{
	if (m->result < 0)
		fatal("message refused: %s", err_text(m->result));
	free(m->recipients);
	free(m);
}

static char *domain_name(uint32_t i)
{
	static char *names; /* DOMAIN_SIZE bytes each */
	uint32_t k;

	if (!names) {
		names = xcalloc(b.domains, DOMAIN_SIZE);
		for (k = 0; k < b.domains; k++)
			snprintf(names + (size_t)k * DOMAIN_SIZE, DOMAIN_SIZE,
				 "d%" PRIu32 ".example", k);
	}
	return names + (size_t)i * DOMAIN_SIZE;
}

/* The body is lent to all messages: it stays as long as the program. */
static struct intake_message *new_message(size_t body)
{
	struct intake_message *m = xcalloc(1, sizeof(*m));

	m->msgid = b.next_id++;
	m->sender = "sender@bench.example";
	m->source_mta = "feeder (127.0.0.1)";
	m->received = clock_wall();
	m->recipients = xcalloc(1, sizeof(*m->recipients));
	m->recipients[0] = (struct intake_recipient){.address = "recipient@bench.example",
						     .domain = domain_name(rng_below(b.domains)),
						     .route = "a",
						     .class = SPOOL_CLASS_DEFAULT};
	m->recipient_count = 1;
	m->body = (struct buf){.p = b.body, .n = body};
	m->size = body;
	m->header_size = 500;
	m->done = on_done;
	return m;
}

static struct intake_message *new_messages(uint32_t n, size_t body)
{
	struct intake_message *list = NULL, **end = &list;

	while (n--) {
		*end = new_message(body);
		end = &(*end)->next;
	}
	return list;
}

static void report(uint64_t msgid, enum outcome_class class)
{
	struct report_outcome o = {.class = class,
				   .code = 250,
				   .attempted = true,
				   .due = clock_wall() + 600000 + rng_below(14400000),
				   .text = SLICE_LIT("250 2.0.0 Ok: queued as 4F1A2B3C4D")};
	struct report_transaction t = {.msgid = msgid,
				       .site = SLICE_LIT("d1.example/a"),
				       .mx_name = SLICE_LIT("mx1.bench.example"),
				       .mx_ip = {IP_V4, {127, 0, 0, 1}},
				       .bytes = 10240,
				       .started = clock_wall(),
				       .outcomes = &o,
				       .outcome_count = 1};
	static struct buf payload;

	buf_clear(&payload);
	report_transaction_encode(&t, &payload);
	if (!ring_put(b.ring, REPORT_TRANSACTION, payload.p, payload.n))
		fatal("the ring is full");
}

static int drop_outbox(struct commit *c, struct spool_write *w, struct commit_job *j)
{
	struct slice key, value;
	struct spool_key first = key_u64(0), k;
	int rc;

	(void)c;
	(void)j;
	while ((rc = write_seek(w, SPOOL_OUTBOX, &first, false, &key, &value)) > 0) {
		k = key_u64(be64_get(key.p));
		rc = write_delete(w, SPOOL_OUTBOX, &k);
		if (rc < 0)
			return rc;
	}
	return rc;
}

static void commit(struct intake_message *list)
{
	struct commit_job drop = {.run = drop_outbox}, *jobs = &drop;
	struct commit_result r;
	usec_t began;
	int rc;

	do {
		began = clock_now();
		rc = commit_batch(b.engine, &list, &jobs, &r);
		if (rc < 0)
			fatal("commit: %s", err_text(rc));
		if (b.time_count < TIMES_MAX)
			b.times[b.time_count++] = (uint32_t)(clock_now() - began);
	} while (r.more);
}

static void fill(size_t backlog)
{
	uint64_t first = b.next_id, id;

	while (b.next_id - first < backlog)
		commit(new_messages(FILL_BATCH, BACKLOG_BODY));
	for (id = first; id < b.next_id; id++) {
		report(id, OUTCOME_TRANSIENT);
		b.old[b.old_count++] = id;
		if ((id - first) % 2000 == 1999)
			commit(NULL);
	}
	commit(NULL);
}

/* The outcomes of one batch of arrivals, and as many old ones as it adds. */
static void report_batch(uint64_t first)
{
	uint64_t id;

	for (id = first; id < first + b.batch; id++) {
		if (rng_below(100) >= DEFER_PERCENT) {
			report(id, OUTCOME_DELIVERED);
			continue;
		}
		report(id, OUTCOME_TRANSIENT);
		if (b.old_count) {
			size_t i = rng_below((uint32_t)b.old_count);

			report(b.old[i], OUTCOME_DELIVERED);
			b.old[i] = id;
		}
	}
}

static uint64_t run(usec_t length, size_t body)
{
	uint64_t first = b.next_id, batches = 0;
	usec_t until = clock_now() + length;

	while (clock_now() < until) {
		if (batches >= LAG)
			report_batch(first + (batches - LAG) * b.batch);
		commit(new_messages(b.batch, body));
		batches++;
	}
	return batches * b.batch;
}

static int by_value(const void *x, const void *y)
{
	uint32_t p = *(const uint32_t *)x, q = *(const uint32_t *)y;

	return p < q ? -1 : p > q;
}

static usec_t cpu(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return (usec_t)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * USEC_PER_SEC +
	       (usec_t)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

static void measure(usec_t length, size_t body)
{
	usec_t began, used = cpu(), took;
	struct stat st;
	char *data = xasprintf("%s/data.mdb", b.dir);
	uint64_t n;
	off_t before;

	before = stat(data, &st) == 0 ? st.st_size : 0;
	b.time_count = 0;
	began = clock_now();
	n = run(length, body);
	took = clock_now() - began;
	used = cpu() - used;
	if (stat(data, &st) < 0)
		st.st_size = 0;
	qsort(b.times, b.time_count, sizeof(*b.times), by_value);
	printf("domains=%" PRIu32 " backlog=%zu batch=%" PRIu32 " body=%zu: %" PRIu64
	       " messages/s, commit p50 %.2f p99 %.2f max %.1f ms, %" PRIu64
	       " us CPU/message, file %" PRIu64 " -> %" PRIu64 " MB\n",
	       b.domains, b.old_count, b.batch, body, n * USEC_PER_SEC / took,
	       b.times[b.time_count / 2] / 1000.0, b.times[b.time_count * 99 / 100] / 1000.0,
	       b.times[b.time_count - 1] / 1000.0, used / n, (uint64_t)before >> 20,
	       (uint64_t)st.st_size >> 20);
	free(data);
}

static unsigned long number(const char *s)
{
	char *end;
	unsigned long v = strtoul(s, &end, 10);

	if (*end || end == s)
		fatal("not a number: %s", s);
	return v;
}

int main(int argc, char **argv)
{
	struct shm_config sc = {.max_workers = 1, .ring_size = 4 << 20, .max_live_queues = 1 << 20};
	size_t backlog, body;

	if (argc < 5) {
		fprintf(stderr, "usage: spool_bench DIR DOMAINS BACKLOG SECONDS [BATCH [BODY]]\n");
		return 2;
	}
	b.dir = argv[1];
	b.domains = (uint32_t)number(argv[2]);
	backlog = number(argv[3]);
	b.batch = argc > 5 ? (uint32_t)number(argv[5]) : 100;
	body = argc > 6 ? number(argv[6]) : 10240;
	b.next_id = 1;
	b.old = xcalloc(backlog + FILL_BATCH, sizeof(*b.old));
	b.times = xcalloc(TIMES_MAX, sizeof(*b.times));
	b.body = xmalloc(body > BACKLOG_BODY ? body : BACKLOG_BODY);
	memset(b.body, 'x', body > BACKLOG_BODY ? body : BACKLOG_BODY);
	b.shm = shm_new(&sc);
	make_conf();
	b.ring = shm_ring(b.shm, 0);
	snprintf(shm_worker(b.shm, 0)->vmta, SHM_NAME_MAX, "a");
	atomic_store(&shm_worker(b.shm, 0)->forkno, 1);
	atomic_store(&shm_worker(b.shm, 0)->state, SHM_WORKER_RUNNING);
	open_engine(false);
	fill(backlog);
	close_engine();
	open_engine(true);
	measure(number(argv[4]) * USEC_PER_SEC, body);
	close_engine();
	return 0;
}
