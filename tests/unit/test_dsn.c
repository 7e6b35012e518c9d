/* links: common/base common/conf common/acct common/mail spooler/dsn.c spooler/dsn_row.c spooler/dsn_build.c spooler/dsn_notice.c spooler/dsn_text.c */
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/base/err.h"
#include "common/base/xalloc.h"
#include "spooler/dsn.h"
#include "spooler/dsn_row.h"

/*
 * A table dsn in memory with a committer beside it: a taken message deletes its row and is
 * counted, with what there is to check.
 */
#define ROWS 1000
static struct {
	pthread_mutex_t lock;
	struct buf rows[ROWS + 1]; /* by id; empty: deleted */
	unsigned taken[ROWS + 1], dropped[ROWS + 1];
	char route[ROWS + 1][32], domain[ROWS + 1][32];
	struct intake_message *posted;
	int refuse; /* result of the next messages … */
	unsigned refuse_count; /* … of so many */
	const char *missing_route;
	uint64_t msgid;
	bool stop;
} fake;

static long fake_read(void *arg ATTR_UNUSED, uint64_t after, size_t max,
		      void (*row)(void *row_arg, uint64_t id, struct slice payload), void *row_arg)
{
	size_t n = 0;

	for (uint64_t id = after + 1; id <= ROWS && n < max; id++) {
		struct buf copy = BUF_INIT;

		pthread_mutex_lock(&fake.lock);
		buf_add_slice(&copy, buf_slice(&fake.rows[id]));
		pthread_mutex_unlock(&fake.lock);
		if (copy.n) {
			row(row_arg, id, buf_slice(&copy));
			n++;
		}
		buf_done(&copy);
	}
	return (long)n;
}

static void fake_drop(void *arg ATTR_UNUSED, uint64_t id)
{
	pthread_mutex_lock(&fake.lock);
	fake.dropped[id]++;
	buf_done(&fake.rows[id]);
	pthread_mutex_unlock(&fake.lock);
}

static void fake_post(void *arg ATTR_UNUSED, struct intake_message *m)
{
	pthread_mutex_lock(&fake.lock);
	m->next = fake.posted;
	fake.posted = m;
	pthread_mutex_unlock(&fake.lock);
}

static uint64_t fake_msgid(void *arg ATTR_UNUSED)
{
	return ++fake.msgid;
}

static void take(struct intake_message *m)
{
	const struct intake_recipient *r = &m->recipients[0];

	if (fake.refuse_count) {
		fake.refuse_count--;
		m->result = fake.refuse;
		return;
	}
	if (fake.missing_route && strcmp(r->route, fake.missing_route) == 0) {
		m->result = ERR_NOT_FOUND;
		return;
	}
	cr_assert(m->dsn_row >= 1 && m->dsn_row <= ROWS && m->recipient_count == 1);
	cr_assert(!m->sender || !*m->sender);
	cr_assert(m->flags & SPOOL_MSG_IS_DSN);
	cr_assert(m->size == m->body.n && m->header_size < m->size && !m->big);
	cr_assert_eq(r->notify, SPOOL_NOTIFY_NEVER);
	fake.taken[m->dsn_row]++;
	snprintf(fake.route[m->dsn_row], 32, "%s", r->route);
	snprintf(fake.domain[m->dsn_row], 32, "%s", r->domain);
	buf_done(&fake.rows[m->dsn_row]);
	m->result = 0;
}

static void *committer_run(void *arg ATTR_UNUSED)
{
	for (;;) {
		struct intake_message *m;
		bool stop;

		usleep(1000);
		pthread_mutex_lock(&fake.lock);
		m = fake.posted;
		fake.posted = NULL;
		stop = fake.stop;
		for (struct intake_message *i = m; i; i = i->next)
			take(i);
		pthread_mutex_unlock(&fake.lock);
		while (m) {
			struct intake_message *next = m->next;

			m->done(m);
			m = next;
		}
		if (stop)
			return NULL;
	}
}

static void row_add(uint64_t id, const char *sender, const char *vmta)
{
	struct dsn_recipient r = {.address = slice_str("b@x.example"),
				  .action = DSN_FAILED,
				  .code = 550,
				  .text = slice_str("550 no")};
	struct dsn_row d = {.msgid = 9,
			    .sender = slice_str(sender),
			    .vmta = slice_str(vmta),
			    .received = 1,
			    .original = slice_str("Subject: x\r\n\r\n"),
			    .recipients = &r,
			    .recipient_count = 1};

	pthread_mutex_lock(&fake.lock);
	dsn_row_encode(&d, &fake.rows[id]);
	pthread_mutex_unlock(&fake.lock);
}

static pthread_t committer;
static struct conf *conf;
static struct dsn_helper *helper;

static struct conf *conf_make(void)
{
	char path[] = "/tmp/dsn-conf-XXXXXX";
	int fd = mkstemp(path);
	static const char text[] = "[global]\nhost-name = mail.y.example\n[virtual-mta mta1]\n"
				   "smtp-source-host = 127.0.0.1 a.example\n";
	struct conf_messages messages = {0};
	struct conf *c;

	cr_assert_eq(write(fd, text, sizeof(text) - 1), (ssize_t)sizeof(text) - 1);
	close(fd);
	c = conf_load(path, &messages);
	conf_messages_print(&messages, stderr);
	conf_messages_done(&messages);
	unlink(path);
	cr_assert_not_null(c);
	return c;
}

static void start(void)
{
	struct dsn_options o = {.source = {fake_read, fake_drop, fake_post, fake_msgid, NULL}};

	conf = conf_make();
	o.conf = conf;
	cr_assert_eq(pthread_create(&committer, NULL, committer_run, NULL), 0);
	helper = dsn_start(&o);
}

static void stop(void)
{
	dsn_stop(helper);
	pthread_mutex_lock(&fake.lock);
	fake.stop = true;
	pthread_mutex_unlock(&fake.lock);
	pthread_join(committer, NULL);
	conf_free(conf);
}

static void wait_gone(uint64_t from, uint64_t to)
{
	bool left = true;

	for (unsigned i = 0; i < 1500 && left; i++) {
		left = false;
		usleep(10000);
		pthread_mutex_lock(&fake.lock);
		for (uint64_t id = from; id <= to; id++)
			left |= fake.rows[id].n > 0;
		pthread_mutex_unlock(&fake.lock);
	}
	cr_assert_not(left);
}

static void init(void)
{
	pthread_mutex_init(&fake.lock, NULL);
}

TestSuite(dsn, .init = init, .timeout = 30);

Test(dsn, sends_each_notification_once)
{
	for (uint64_t id = 1; id <= 600; id++)
		row_add(id, "s@Y.Example", "mta1");
	start();
	wait_gone(1, 600);
	for (uint64_t id = 601; id <= 650; id++)
		row_add(id, "s@y.example", "mta1");
	dsn_wake(helper);
	wait_gone(601, 650);
	stop();
	for (uint64_t id = 1; id <= 650; id++)
		cr_assert_eq(fake.taken[id], 1, "row %d", (int)id);
	cr_assert_str_eq(fake.route[1], "mta1");
	cr_assert_str_eq(fake.domain[1], "y.example");
}

Test(dsn, leaves_by_default_when_the_virtual_mta_is_gone)
{
	row_add(1, "s@y.example", "nobody");
	fake.missing_route = "mta1";
	row_add(2, "s@y.example",
		"mta1"); /* known to the configuration, but not to the committer */
	start();
	wait_gone(1, 2);
	stop();
	cr_assert_str_eq(fake.route[1], "{default}");
	cr_assert_str_eq(fake.route[2], "{default}");
	cr_assert_eq(fake.taken[1] + fake.taken[2], 2);
}

Test(dsn, tries_again_after_a_full_disk)
{
	for (uint64_t id = 1; id <= 20; id++)
		row_add(id, "s@y.example", "mta1");
	fake.refuse = ERR_DISK_FULL;
	fake.refuse_count = 7;
	start();
	wait_gone(1, 20);
	stop();
	for (uint64_t id = 1; id <= 20; id++)
		cr_assert_eq(fake.taken[id], 1, "row %d", (int)id);
}

Test(dsn, drops_what_cannot_become_a_message_and_goes_on)
{
	buf_add_str(&fake.rows[1], "\x01garbage");
	row_add(2, "postmaster", "mta1");
	row_add(3, "s@y.example", "mta1");
	start();
	wait_gone(1, 3);
	stop();
	cr_assert_eq(fake.dropped[1], 1);
	cr_assert_eq(fake.dropped[2], 1);
	cr_assert_eq(fake.dropped[3], 0);
	cr_assert_eq(fake.taken[3], 1);
}

Test(dsn, keeps_rows_of_a_newer_version)
{
	buf_add_str(&fake.rows[1], "\x63newer");
	row_add(2, "s@y.example", "mta1");
	start();
	wait_gone(2, 2);
	stop();
	cr_assert_eq(fake.dropped[1], 0);
	cr_assert_gt(fake.rows[1].n, 0);
}
