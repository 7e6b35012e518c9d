/*
 * spool_fixture.h - for tests of the commit engine: a spool in a temporary directory, shared memory, a
 * configuration, messages and outcomes made in a line each. Everything is static: each test file has its
 * own copy.
 */
#ifndef SLUICE_TESTS_SPOOL_FIXTURE_H
#define SLUICE_TESTS_SPOOL_FIXTURE_H

#include <criterion/criterion.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/acct/record.h"
#include "common/base/err.h"
#include "common/base/xalloc.h"
#include "common/spool/report.h"
#include "common/spool/write.h"
#include "spooler/commit.h"
#include "tests/unit/conf_text.h"

#define FIX_FAMILY 77
#define FIX_CONF                                                                    \
	"[global]\nhost-name = mta.example\n[smtp-listener 127.0.0.1:2525]\n"       \
	"[source 127.0.0.1]\nalways-allow-relaying = yes\n"                         \
	"[virtual-mta a]\nsmtp-source-host = 127.0.0.1 a.example\n"                 \
	"[virtual-mta b]\nsmtp-source-host = 127.0.0.2 b.example\n"                 \
	"[virtual-mta c]\nsmtp-source-host = 127.0.0.3 c.example\n"                 \
	"[virtual-mta-pool p]\nvirtual-mta = a\nvirtual-mta = b\nvirtual-mta = c\n" \
	"[domain gone.example]\ntype = discard\n"                                   \
	"[domain lost.example]\ntype = discard\ndiscard-as-bounce = yes\n"

struct fix {
	char dir[64];
	struct spool *spool;
	struct shm *shm;
	struct conf *conf;
	struct commit *c;
	uint64_t map_size;
	unsigned bad; /* reports that could not be read */
	unsigned done; /* messages handed back */
	int last_result;
};

static inline void fix_bad(void *arg, uint32_t slot, uint32_t forkno, uint64_t position,
			   uint8_t type, struct slice payload, const char *why)
{
	(void)slot, (void)forkno, (void)position, (void)type, (void)payload, (void)why;
	((struct fix *)arg)->bad++;
}

static inline void fix_open(struct fix *f)
{
	struct spool_options o = {
		.dir = f->dir, .map_size = f->map_size, .writer = true, .nosync = true};
	struct commit_options co = {.shm = f->shm,
				    .conf = f->conf,
				    .family = FIX_FAMILY,
				    .bad_report = fix_bad,
				    .arg = f};
	char *error = NULL;

	cr_assert_eq(spool_open(&o, &f->spool, &error), 0, "%s", error);
	co.spool = f->spool;
	cr_assert_eq(commit_new(&co, &f->c, &error), 0, "%s", error);
}

static inline void fix_close(struct fix *f)
{
	commit_free(f->c);
	spool_close(f->spool);
	f->c = NULL;
	f->spool = NULL;
}

static inline void fix_init_size(struct fix *f, uint64_t map_size)
{
	struct shm_config sc = {.max_workers = 8, .ring_size = 65536, .max_live_queues = 1024};
	char *messages;

	*f = (struct fix){.map_size = map_size};
	snprintf(f->dir, sizeof(f->dir), "/tmp/sluice-spool-XXXXXX");
	cr_assert_not_null(mkdtemp(f->dir));
	f->shm = shm_new(&sc);
	f->conf = load_bytes(FIX_CONF, strlen(FIX_CONF), &messages);
	cr_assert_not_null(f->conf, "%s", messages);
	free(messages);
	fix_open(f);
	cr_assert_eq(commit_vmtas(f->c), 0);
}

static inline void fix_init(struct fix *f)
{
	fix_init_size(f, UINT64_C(1) << 30);
}

static inline void fix_remove(const char *dir)
{
	char *cmd = xasprintf("rm -rf %s", dir);

	cr_assert_eq(system(cmd), 0);
	free(cmd);
}

static inline void fix_done(struct fix *f)
{
	fix_close(f);
	shm_free(f->shm);
	conf_free(f->conf);
	fix_remove(f->dir);
}

/* A reload. */
static inline void fix_set_conf(struct fix *f, const char *text)
{
	struct conf *old = f->conf;
	char *messages;

	f->conf = load_bytes(text, strlen(text), &messages);
	cr_assert_not_null(f->conf, "%s", messages);
	free(messages);
	commit_set_conf(f->c, f->conf);
	cr_assert_eq(commit_vmtas(f->c), 0);
	conf_free(old);
}

/* A worker for virtual MTA `name` in a slot, as master and the worker would make it. */
static inline struct shm_ring *fix_worker(struct fix *f, uint32_t slot, const char *name,
					  uint32_t forkno)
{
	struct shm_worker *w = shm_worker(f->shm, slot);

	snprintf(w->vmta, sizeof(w->vmta), "%s", name);
	ring_reset(shm_ring(f->shm, slot));
	atomic_store(&w->forkno, forkno);
	atomic_store(&w->state, SHM_WORKER_RUNNING);
	return shm_ring(f->shm, slot);
}

/* --- messages --- */

static inline void fix_message_done(struct intake_message *m)
{
	struct fix *f = m->poster;

	f->done++;
	f->last_result = m->result;
	free(m->recipients);
	buf_done(&m->body);
	free(m);
}

/* Recipients are given as "user@domain route", n of them. */
static inline struct intake_message *fix_message(struct fix *f, uint64_t msgid, const char *body,
						 size_t n, const char *const *addresses,
						 const char *const *domains,
						 const char *const *routes)
{
	struct intake_message *m = xcalloc(1, sizeof(*m));
	size_t i;

	m->msgid = msgid;
	m->sender = "from@sender.example";
	m->received = clock_wall();
	m->recipients = xcalloc(n, sizeof(*m->recipients));
	m->recipient_count = (uint32_t)n;
	for (i = 0; i < n; i++)
		m->recipients[i] = (struct intake_recipient){.address = addresses[i],
							     .domain = domains[i],
							     .route = routes[i],
							     .class = SPOOL_CLASS_DEFAULT};
	buf_add_str(&m->body, body);
	m->size = m->body.n;
	m->done = fix_message_done;
	m->poster = f;
	return m;
}

static inline struct intake_message *fix_one(struct fix *f, uint64_t msgid, const char *domain,
					     const char *route)
{
	const char *address = "user@example";

	return fix_message(f, msgid, "Subject: x\r\n\r\nbody\r\n", 1, &address, &domain, &route);
}

static inline int fix_commit(struct fix *f, struct intake_message *list)
{
	struct commit_job *jobs = NULL;
	struct commit_result r;
	int rc;

	do
		rc = commit_batch(f->c, &list, &jobs, &r);
	while (rc == 0 && r.more);
	return rc;
}

/* Puts one message into the spool. */
static inline void fix_put(struct fix *f, uint64_t msgid, const char *domain, const char *route)
{
	cr_assert_eq(fix_commit(f, fix_one(f, msgid, domain, route)), 0);
	cr_assert_eq(f->last_result, 0);
}

/* --- outcomes --- */

static inline bool fix_report(struct shm_ring *ring, uint64_t msgid, uint32_t rcpt,
			      enum outcome_class class, msec_t due)
{
	struct report_outcome o = {.rcpt = rcpt,
				   .class = class,
				   .code = 250,
				   .attempted = true,
				   .due = due,
				   .text = slice_str("250 ok")};
	struct report_transaction t = {.msgid = msgid,
				       .site = slice_str("x/y"),
				       .mx_name = slice_str("mx"),
				       .outcomes = &o,
				       .started = clock_wall(),
				       .outcome_count = 1};
	struct buf b = BUF_INIT;
	bool put;

	report_transaction_encode(&t, &b);
	put = ring_put(ring, REPORT_TRANSACTION, b.p, b.n);
	buf_done(&b);
	return put;
}

/* What the worker has looked up: NAME.rollup. */
static inline void fix_report_member(struct fix *f, struct shm_ring *ring, uint32_t queue,
				     const char *provider)
{
	const struct report_member m = {.queue = queue, .provider = slice_str(provider)};
	struct buf b = BUF_INIT;

	report_member_encode(&m, &b);
	cr_assert(ring_put(ring, REPORT_MEMBER, b.p, b.n));
	buf_done(&b);
	cr_assert_eq(fix_commit(f, NULL), 0);
}

/* --- what is in the spool --- */

static inline void fix_problem(const char *text, void *arg)
{
	(void)arg;
	fprintf(stderr, "spool check: %s\n", text);
}

static inline void fix_check(struct fix *f)
{
	cr_assert_eq(spool_check(f->spool, fix_problem, NULL), 0);
}

static inline struct spool_stat fix_stat(struct fix *f)
{
	struct spool_stat st;
	struct spool_read *r;

	cr_assert_eq(spool_read_begin(f->spool, &r), 0);
	cr_assert_eq(spool_stat(r, &st), 0);
	spool_read_end(r);
	return st;
}

static inline bool fix_recipient(struct fix *f, uint64_t msgid, uint32_t rcpt,
				 struct spool_recipient *ret)
{
	struct spool_read *r;
	int rc;

	cr_assert_eq(spool_read_begin(f->spool, &r), 0);
	rc = spool_recipient_get(r, msgid, rcpt, ret);
	spool_read_end(r);
	return rc == 0;
}

/* Accounting records by type. */
static inline unsigned fix_records(struct fix *f, enum acct_type type)
{
	struct acct_record a;
	struct spool_read *r;
	struct slice v;
	uint64_t after = 0;
	unsigned n = 0;

	cr_assert_eq(spool_read_begin(f->spool, &r), 0);
	while (spool_outbox_next(r, &after, &v) > 0) {
		cr_assert_eq(acct_record_decode(v, &a), 0);
		n += a.type == type;
	}
	spool_read_end(r);
	return n;
}

#endif
