/* links: common/base common/conf common/spool common/smtp common/shm common/acct common/mail spooler/commit.c spooler/commit_*.c spooler/dsn_row.c common/dns/route.c common/dns/wire.c cli -cli/main.c -cli/messages.c */
/* The commands that read the spool, on one that the committer's engine has written. */
#include "tests/unit/cli_fake.h"

#include "common/conf/conf.h"
#include "common/shm/shm.h"
#include "common/spool/write.h"
#include "spooler/commit.h"

/* Rows of recipients in the read that is open, and in the one that had most. */
static unsigned rows_read, rows_most;

static int begin_counted(struct spool *s, struct spool_read **ret)
{
	rows_read = 0;
	return spool_read_begin(s, ret);
}

static int recipient_counted(struct spool_read *r, uint64_t msgid, uint32_t *from,
			     struct spool_recipient *ret)
{
	rows_read++;
	rows_most = rows_read > rows_most ? rows_read : rows_most;
	return spool_message_recipient(r, msgid, from, ret);
}

#define spool_read_begin begin_counted
#define spool_message_recipient recipient_counted
#include "cli/messages.c"
#undef spool_read_begin
#undef spool_message_recipient

#define MSGID UINT64_C(1795312345678901)

static void on_done(struct intake_message *m)
{
	cr_assert_eq(m->result, 0);
}

static void on_bad(void *arg ATTR_UNUSED, uint32_t slot ATTR_UNUSED, uint32_t forkno ATTR_UNUSED,
		   uint64_t position ATTR_UNUSED, uint8_t type ATTR_UNUSED,
		   struct slice payload ATTR_UNUSED, const char *why)
{
	cr_assert_fail("%s", why);
}

static void put_message(struct commit *c, uint64_t n, const char *job, uint32_t rcpts,
			const char *body)
{
	struct intake_message m = {.msgid = MSGID + n,
				   .sender = n % 2 ? "odd@s.test" : "even@s.test",
				   .job = job,
				   .envid = n == 1 ? "e7" : NULL,
				   .received = clock_wall() - n * 3600 * MSEC_PER_SEC,
				   .source_mta = "feeder.test (127.0.0.1)",
				   .done = on_done,
				   .recipient_count = rcpts};
	struct intake_message *list = &m;
	struct commit_result result;
	uint32_t k;

	m.recipients = calloc(rcpts, sizeof(*m.recipients));
	for (k = 0; k < rcpts; k++)
		m.recipients[k] =
			(struct intake_recipient){.address = k % 2 ? "u@gmail.com" : "u@x.test",
						  .domain = k % 2 ? "gmail.com" : "x.test",
						  .route = "a",
						  .class = 1};
	buf_add_str(&m.body, body);
	m.size = m.body.n;
	m.header_size = (uint32_t)(strstr(body, "\r\n\r\n") - body) + 4;
	while (list)
		cr_assert_eq(commit_batch(c, &list, &(struct commit_job *){NULL}, &result), 0);
	buf_done(&m.body);
	free(m.recipients);
}

/* Messages 0 to 3 with 1, 2, 3 and 2,500 recipients. */
static void fill(struct fake *f)
{
	struct spool_options o = {
		.dir = f->dir, .map_size = UINT64_C(1) << 30, .writer = true, .nosync = true};
	struct shm_config sc = {.max_workers = 2, .ring_size = 65536, .max_live_queues = 64};
	struct conf_messages msgs = {0};
	struct commit_options co = {.shm = shm_new(&sc),
				    .conf = conf_load(f->conf, &msgs),
				    .family = 1,
				    .bad_report = on_bad};
	struct commit *c;
	char *error = NULL;

	cr_assert_not_null(co.conf);
	cr_assert_eq(spool_open(&o, &co.spool, &error), 0, "%s", error);
	cr_assert_eq(commit_new(&co, &c, &error), 0, "%s", error);
	cr_assert_eq(commit_vmtas(c), 0);
	put_message(c, 0, NULL, 1, "Subject: 0\r\n\r\nhello\r\n..dot\r\n");
	put_message(c, 1, "news", 2, "Subject: 1\r\n\r\n");
	put_message(c, 2, "news2", 3, "Subject: 2\r\n\r\n");
	put_message(c, 3, "bulk", 2500, "Subject: 3\r\n\r\n");
	commit_free(c);
	spool_close(co.spool);
	conf_free((struct conf *)(uintptr_t)co.conf);
	conf_messages_done(&msgs);
	shm_free(co.shm);
}

static json_t *run_json(struct fake *f, const char *line, int status)
{
	char with[300];
	json_t *doc;

	snprintf(with, sizeof(with), "--json %s", line);
	cr_assert_eq(fake_run(f, 0, with), status, "%s", line);
	doc = json_loads(f->out, 0, NULL);
	cr_assert_not_null(doc, "%s: %s", line, f->out);
	return doc;
}

Test(cli_spool, lists_what_matches)
{
	static const struct {
		const char *line;
		size_t rows;
	} cases[] = {
		{"list", 100},
		{"list --max 0", 2506},
		{"list --max 7", 7},
		{"list --job news", 2},
		{"list --job news*", 5},
		{"list --jobId news", 2},
		{"list --envId e7", 2},
		{"list --job nothing", 0},
		{"list --job bulk --max 0", 2500},
		{"list --job bulk --queue gmail.com --max 0", 1250},
		{"list --queue gmail.com --max 0", 1252},
		{"list --queue gmail.com/b", 0},
		{"list --vmta a --max 0", 2506},
		{"list --orig even@* --max 0", 4},
		{"list --rcpt U@X.TEST --job news2", 2},
		{"list --older-than 30m --max 0", 2505},
		{"list --older-than 90m --job news2", 3},
		{"list --older-than 150m --job news2", 0},
	};
	struct fake f;
	size_t k;

	fake_init(&f, 2525);
	fill(&f);
	for (k = 0; k < sizeof(cases) / sizeof(cases[0]); k++) {
		json_t *doc = run_json(&f, cases[k].line, CLI_DONE);

		cr_assert_eq(json_array_size(doc), cases[k].rows, "%s: %zu rows", cases[k].line,
			     json_array_size(doc));
		json_decref(doc);
	}
	fake_done(&f);
}

Test(cli_spool, a_message_with_many_recipients_is_no_long_read)
{
	struct fake f;

	fake_init(&f, 2525);
	fill(&f);
	json_decref(run_json(&f, "list --job bulk --max 0", CLI_DONE));
	cr_assert(rows_most > 0 && rows_most <= 1000, "%u rows in one read", rows_most);
	fake_done(&f);
}

Test(cli_spool, rows_tell_all_of_a_recipient)
{
	struct fake f;
	json_t *doc, *row;

	fake_init(&f, 2525);
	fill(&f);
	doc = run_json(&f, "list --job news --queue gmail.com", CLI_DONE);
	row = json_array_get(doc, 0);
	cr_assert_str_eq(json_string_value(json_object_get(row, "msgid")), "1795312345678902");
	cr_assert_str_eq(json_string_value(json_object_get(row, "queue")), "gmail.com/a");
	cr_assert_str_eq(json_string_value(json_object_get(row, "recipient")), "u@gmail.com");
	cr_assert_str_eq(json_string_value(json_object_get(row, "sender")), "odd@s.test");
	cr_assert_str_eq(json_string_value(json_object_get(row, "state")), "fresh");
	cr_assert(json_is_null(json_object_get(row, "due")));
	cr_assert_eq(json_integer_value(json_object_get(row, "rcpt")), 1);
	json_decref(doc);
	fake_done(&f);
}

Test(cli_spool, shows_a_message, .init = cr_redirect_stderr)
{
	struct fake f;
	json_t *doc;

	fake_init(&f, 2525);
	fill(&f);
	doc = run_json(&f, "show message 1795312345678904", CLI_DONE);
	cr_assert_eq(json_array_size(json_object_get(doc, "recipients")), 2500);
	cr_assert_str_eq(json_string_value(json_object_get(doc, "job")), "bulk");
	json_decref(doc);
	cr_assert_eq(fake_run(&f, 0, "show message 1795312345678901 --content"), CLI_DONE);
	cr_assert_str_eq(f.out, "Subject: 0\r\n\r\nhello\r\n.dot\r\n");
	cr_assert_eq(fake_run(&f, 80, "show message 1795312345678901"), CLI_DONE);
	cr_assert(strstr(f.out, "even@s.test") && strstr(f.out, "u@x.test"), "%s", f.out);
	cr_assert_eq(fake_run(&f, 0, "show message 5"), CLI_REFUSED);
	cr_assert(strstr(fake_said(), "message 5 is not in the spool"));
	cr_assert_eq(fake_run(&f, 0, "show message x"), CLI_USAGE);
	fake_done(&f);
}

Test(cli_spool, counts_and_checks)
{
	struct spool_options o = {.writer = true, .nosync = true, .map_size = UINT64_C(1) << 30};
	struct spool_key k = key_u64(MSGID + 1);
	struct spool_write *w;
	struct spool *s;
	struct fake f;
	json_t *doc;
	char *error = NULL;

	fake_init(&f, 2525);
	fill(&f);
	doc = run_json(&f, "spool stat", CLI_DONE);
	cr_assert_eq(json_integer_value(json_object_get(doc, "recipients")), 2506);
	cr_assert_eq(json_integer_value(json_object_get(doc, "messages")), 4);
	cr_assert_str_eq(json_string_value(json_object_get(doc, "dir")), f.dir);
	json_decref(doc);
	doc = run_json(&f, "spool check", CLI_DONE);
	cr_assert_eq(json_integer_value(json_object_get(doc, "problems")), 0, "%s", f.out);
	json_decref(doc);
	o.dir = f.dir;
	cr_assert_eq(spool_open(&o, &s, &error), 0);
	cr_assert_eq(spool_write_begin(s, &w), 0);
	cr_assert_eq(write_delete(w, SPOOL_BODY, &k), 0);
	cr_assert_eq(spool_write_commit(w), 0);
	spool_close(s);
	doc = run_json(&f, "spool check", CLI_REFUSED);
	cr_assert_geq(json_integer_value(json_object_get(doc, "problems")), 1);
	cr_assert(strstr(json_string_value(json_array_get(json_object_get(doc, "list"), 0)),
			 "1795312345678902"),
		  "%s", f.out);
	json_decref(doc);
	fake_done(&f);
}

Test(cli_spool, says_when_there_is_none, .init = cr_redirect_stderr)
{
	static const char *const lines[] = {"list", "show message 1", "spool check", "spool stat"};
	struct fake f;
	size_t k;

	fake_init(&f, 2525);
	for (k = 0; k < 4; k++) {
		cr_assert_eq(fake_run(&f, 0, lines[k]), CLI_REFUSED, "%s", lines[k]);
		cr_assert(strstr(fake_said(), f.dir), "%s", lines[k]);
	}
	fake_done(&f);
}
