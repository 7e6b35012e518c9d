/* links: common/base common/spool */
#include <criterion/criterion.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/err.h"
#include "common/base/rng.h"
#include "common/base/xalloc.h"
#include "common/spool/rows.h"
#include "common/spool/tables.h"
#include "common/spool/write.h"

static char dir[64];

static struct spool *open_spool(bool writer)
{
	struct spool_options o = {
		.dir = dir, .map_size = UINT64_C(1) << 30, .writer = writer, .nosync = true};
	struct spool *s = NULL;
	char *error = NULL;

	cr_assert_eq(spool_open(&o, &s, &error), 0, "%s", error);
	return s;
}

static void make_dir(void)
{
	snprintf(dir, sizeof(dir), "/tmp/sluice-spool-XXXXXX");
	cr_assert_not_null(mkdtemp(dir));
}

static void remove_dir(void)
{
	char *cmd = xasprintf("rm -rf %s", dir);

	cr_assert_eq(system(cmd), 0);
	free(cmd);
}

static struct spool_message message(void)
{
	return (struct spool_message){.sender = SLICE_LIT("a@b"),
				      .size = 1000,
				      .header_size = 100,
				      .received = 1700000000000,
				      .source_mta = SLICE_LIT("h (1.2.3.4)"),
				      .user = SLICE_LIT("u"),
				      .job = SLICE_LIT("j"),
				      .envid = SLICE_LIT("e"),
				      .dsn_envid = SLICE_LIT("d"),
				      .flags = 5,
				      .recipients = 3,
				      .recipients_left = 2,
				      .crashes = 1,
				      .body = SPOOL_BODY_BIG};
}

static struct spool_recipient recipient(void)
{
	return (struct spool_recipient){.queue = 7,
					.address = SLICE_LIT("x@y"),
					.orcpt = SLICE_LIT("rfc822;x@y"),
					.pool = SLICE_LIT("p"),
					.notify = 4,
					.class = 2,
					.job = 63,
					.fresh = true,
					.arrival = 99,
					.due = 5,
					.attempts = 3,
					.first_attempt = 11,
					.last_attempt = 12,
					.last_reply = SLICE_LIT("451 x"),
					.expiry = 1234567890123};
}

Test(spool, rows_come_back_as_they_were)
{
	struct spool_message m = message(), m2;
	struct spool_recipient r = recipient(), r2;
	struct spool_numbers n = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, n2;
	struct spool_site s = {.mode = {.mode = SITE_BACKOFF,
					.until = 9,
					.reason = SLICE_LIT("421"),
					.disabled = SLICE_LIT("d")},
			       .retry_at = 4,
			       .reason = SLICE_LIT("why")},
			  s2;
	struct order_row o = {.order = {.kind = ORDER_DELETE,
					.filter = {.queue = SLICE_LIT("q"),
						   .job = SLICE_LIT("j"),
						   .rcpt = SLICE_LIT("r")},
					.dsn = true,
					.who = SLICE_LIT("uid 0"),
					.created = 9},
			      .step = 2,
			      .done = 4,
			      .position = SLICE_LIT("pos")},
			 o2;
	struct buf b = BUF_INIT;

	row_message_encode(&m, &b);
	cr_assert_eq(row_message_decode(buf_slice(&b), &m2), 0);
	cr_assert(slice_eq(m2.sender, m.sender) && slice_eq(m2.dsn_envid, m.dsn_envid));
	cr_assert(m2.size == m.size && m2.recipients_left == 2 && m2.crashes == 1 &&
		  m2.body == m.body);
	buf_clear(&b);
	row_recipient_encode(&r, &b);
	cr_assert_eq(row_recipient_decode(buf_slice(&b), &r2), 0);
	cr_assert(slice_eq(r2.address, r.address) && slice_eq(r2.last_reply, r.last_reply));
	cr_assert(r2.queue == 7 && r2.fresh && r2.arrival == 99 && r2.expiry == r.expiry &&
		  r2.class == 2 && r2.job == 63);
	buf_clear(&b);
	row_numbers_encode(&n, &b);
	cr_assert_eq(row_numbers_decode(buf_slice(&b), &n2), 0);
	cr_assert(n2.next_arrival == 1 && n2.next_queue == 5 && n2.next_vmta == 6 &&
		  n2.bytes == 10);
	buf_clear(&b);
	row_site_encode(&s, &b);
	cr_assert_eq(row_site_decode(buf_slice(&b), &s2), 0);
	cr_assert(s2.retry_at == 4 && slice_eq(s2.reason, s.reason));
	cr_assert(s2.mode.mode == SITE_BACKOFF && s2.mode.until == 9 &&
		  slice_eq(s2.mode.reason, s.mode.reason) &&
		  slice_eq(s2.mode.disabled, s.mode.disabled) && s2.mode.tempos.n == 0);
	buf_clear(&b);
	row_order_encode(&o, &b);
	cr_assert_eq(row_order_decode(buf_slice(&b), &o2), 0);
	cr_assert(o2.order.kind == ORDER_DELETE && o2.order.dsn && !o2.order.no_accounting);
	cr_assert(slice_eq(o2.position, o.position) && o2.done == 4 && o2.step == 2);
	buf_done(&b);
}

/* Every codec on every cut, every extra byte, a later version, version 0 and random damage. */
static int decode(int which, struct slice v)
{
	struct spool_message m;
	struct spool_recipient r;
	struct spool_numbers n;
	struct spool_site s;
	struct spool_reroute x;
	struct order_row o;

	switch (which) {
	case 0:
		return row_message_decode(v, &m);
	case 1:
		return row_recipient_decode(v, &r);
	case 2:
		return row_numbers_decode(v, &n);
	case 3:
		return row_site_decode(v, &s);
	case 4:
		return row_reroute_decode(v, &x);
	default:
		return row_order_decode(v, &o);
	}
}

static void encode(int which, struct buf *b)
{
	struct spool_message m = message();
	struct spool_recipient r = recipient();
	struct spool_numbers n = {.next_arrival = 1};
	struct spool_site s = {.reason = SLICE_LIT("why")};
	struct spool_reroute x = {.target = SLICE_LIT("v"), .why = SLICE_LIT("why")};
	struct order_row o = {.order = {.kind = ORDER_PAUSE, .filter = {.queue = SLICE_LIT("q")}}};

	buf_clear(b);
	switch (which) {
	case 0:
		row_message_encode(&m, b);
		break;
	case 1:
		row_recipient_encode(&r, b);
		break;
	case 2:
		row_numbers_encode(&n, b);
		break;
	case 3:
		row_site_encode(&s, b);
		break;
	case 4:
		row_reroute_encode(&x, b);
		break;
	default:
		row_order_encode(&o, b);
	}
}

Test(spool, damaged_rows_are_errors)
{
	struct buf b = BUF_INIT;
	int which, i;
	size_t n;

	rng_seed(9);
	for (which = 0; which < 6; which++) {
		char version;

		encode(which, &b);
		version = b.p[0];
		cr_assert_eq(decode(which, buf_slice(&b)), 0);
		for (n = 0; n < b.n; n++) {
			char *cut = xmemdup(b.p, n ? n : 1);

			cr_assert_eq(decode(which, slice_of(cut, n)), ERR_CORRUPT, "%d cut at %zu",
				     which, n);
			free(cut);
		}
		buf_add_char(&b, 1);
		cr_assert_eq(decode(which, buf_slice(&b)), ERR_CORRUPT);
		b.n--;
		b.p[0] = (char)(version + 1);
		cr_assert_eq(decode(which, buf_slice(&b)), ERR_VERSION);
		b.p[0] = 0;
		cr_assert_eq(decode(which, buf_slice(&b)), ERR_CORRUPT);
		b.p[0] = version;
		for (i = 0; i < 2000; i++) {
			char *copy = xmemdup(b.p, b.n);

			copy[rng_below((uint32_t)b.n)] = (char)rng_below(256);
			(void)decode(which, slice_of(copy, b.n));
			free(copy);
		}
	}
	buf_done(&b);
}

Test(spool, keys_sort_as_their_numbers)
{
	struct spool_key a = key_due(1, 3, 255, 9, 9), b = key_due(1, 3, 256, 0, 0),
			 c = key_due(1, 4, 0, 0, 0), d = key_due(2, 0, 0, 0, 0);

	cr_assert_eq(a.n, KEY_DUE_SIZE);
	cr_assert_lt(memcmp(a.b, b.b, a.n), 0);
	cr_assert_lt(memcmp(b.b, c.b, a.n), 0);
	cr_assert_lt(memcmp(c.b, d.b, a.n), 0);
	cr_assert_eq(key_fresh(1, 2, 3, 4).n, KEY_FRESH_SIZE);
	cr_assert_eq(key_wake(1, 2, 3).n, KEY_WAKE_SIZE);
	cr_assert_eq(key_recipient(1, 2).n, KEY_RECIPIENT_SIZE);
}

Test(spool, due_rows_are_read_lane_by_lane)
{
	static const struct {
		uint32_t queue;
		uint8_t lane;
		msec_t due;
	} rows[] = {{1, 255, 9}, {2, 0, 50}, {2, 0, 60}, {2, 70, 40}, {2, 255, 45}, {3, 0, 1}};
	struct spool_due_pos pos = {.started = false};
	struct spool_due_row got[8];
	struct spool_write *w;
	struct spool_read *r;
	struct spool *s;
	uint8_t lane = 1;
	msec_t due;

	make_dir();
	s = open_spool(true);
	cr_assert_eq(spool_write_begin(s, &w), 0);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct spool_key k = key_due(rows[i].queue, rows[i].lane, rows[i].due, 100 + i, 0);

		cr_assert_eq(write_put(w, SPOOL_DUE, &k, slice_of("", 0)), 0);
	}
	cr_assert_eq(spool_write_commit(w), 0);
	cr_assert_eq(spool_read_begin(s, &r), 0);
	cr_assert_eq(spool_due_scan(r, 2, 0, 55, &pos, got, 8), 1);
	cr_assert_eq(got[0].msgid, 101);
	cr_assert_eq(spool_due_scan(r, 2, 0, 60, &pos, got, 8), 1, "goes on");
	pos = (struct spool_due_pos){.started = false};
	cr_assert_eq(spool_due_walk(r, 2, &pos, got, 3), 3);
	cr_assert_eq(spool_due_walk(r, 2, &pos, got, 8), 1);
	cr_assert_eq(got[0].msgid, 104);
	cr_assert(spool_due_lane(r, 2, &lane, &due) && lane == 70 && due == 40);
	cr_assert_eq(spool_due_first(r, 2), 40);
	cr_assert_eq(spool_due_first(r, 1), 9);
	cr_assert_eq(spool_due_first(r, 4), UINT64_MAX);
	spool_read_end(r);
	spool_close(s);
	remove_dir();
}

Test(spool, reader_needs_a_spool_and_a_reader_slot)
{
	struct spool_options o = {.dir = "/tmp/sluice-no-such-spool", .map_size = 1 << 24};
	struct spool *s;
	char *error = NULL;

	cr_assert_eq(spool_open(&o, &s, &error), ERR_NOT_FOUND);
	cr_assert(strstr(error, "no spool here") != NULL, "%s", error);
	free(error);
}

Test(spool, files_have_the_modes_that_readers_of_another_user_need)
{
	struct stat st;
	struct spool *s;
	char *path;

	make_dir();
	s = open_spool(true);
	path = xasprintf("%s/data.mdb", dir);
	cr_assert_eq(stat(path, &st), 0);
	cr_assert_eq(st.st_mode & 0777, 0640);
	free(path);
	path = xasprintf("%s/lock.mdb", dir);
	cr_assert_eq(stat(path, &st), 0);
	cr_assert_eq(st.st_mode & 0777, 0660);
	free(path);
	spool_close(s);
	remove_dir();
}

Test(spool, newer_schema_is_refused)
{
	struct spool_options o;
	struct spool_key k = key_name(slice_str(STATE_SCHEMA));
	struct spool_write *w;
	struct buf b = BUF_INIT;
	struct spool *s;
	char *error = NULL;

	make_dir();
	s = open_spool(true);
	cr_assert_eq(spool_write_begin(s, &w), 0);
	row_number_encode(SPOOL_SCHEMA_VERSION + 1, &b);
	cr_assert_eq(write_put(w, SPOOL_STATE, &k, buf_slice(&b)), 0);
	cr_assert_eq(spool_write_commit(w), 0);
	spool_close(s);
	o = (struct spool_options){.dir = dir, .map_size = 1 << 24, .writer = true};
	cr_assert_eq(spool_open(&o, &s, &error), ERR_VERSION);
	free(error);
	buf_done(&b);
	remove_dir();
}

static int put_number(struct spool_write *w, enum spool_table t, struct spool_key k)
{
	struct buf b = BUF_INIT;
	int rc;

	row_number_encode(1, &b);
	rc = write_put(w, t, &k, buf_slice(&b));
	buf_done(&b);
	return rc;
}

struct findings {
	char text[4096];
};

static void on_problem(const char *text, void *arg)
{
	struct findings *f = arg;
	size_t n = strlen(f->text);

	snprintf(f->text + n, sizeof(f->text) - n, "%s\n", text);
}

Test(spool, check_finds_rows_that_belong_to_nothing)
{
	static const char *const expected[] = {
		"recipient 5.0: its message is missing",
		"recipient 5.0: its queue 7 is missing",
		"due row of 6.1 has no recipient",
		"queue 3 has due mail and no wake row",
		"wake row of queue 4, which has no due mail",
		"body 8 has no message",
		"job j: message 9 is missing",
		"message 10: its body is missing",
		"message 10: 0 recipients are left, not 2",
		"not in the index of jobs",
		"the index of queue names has a row without a queue",
		"warm-up:192.0.2.1 d.test: ",
	};
	struct spool_message m = message();
	struct spool_recipient r = recipient();
	struct findings f = {""};
	struct spool_write *w;
	struct buf b = BUF_INIT;
	struct spool *s;
	struct spool_key k;
	size_t i;

	make_dir();
	s = open_spool(true);
	cr_assert_eq(spool_write_begin(s, &w), 0);
	k = key_recipient(5, 0);
	row_recipient_encode(&r, &b);
	cr_assert_eq(write_put(w, SPOOL_RECIPIENT, &k, buf_slice(&b)), 0);
	k = key_due(3, 0, 1, 6, 1);
	cr_assert_eq(write_put(w, SPOOL_DUE, &k, slice_of("", 0)), 0);
	k = key_wake(1, 1, 4);
	cr_assert_eq(write_put(w, SPOOL_WAKE, &k, slice_of("", 0)), 0);
	k = key_job(slice_str("j"), 9);
	cr_assert_eq(write_put(w, SPOOL_JOB, &k, slice_of("", 0)), 0);
	cr_assert_eq(put_number(w, SPOOL_BODY, key_u64(8)), 0);
	cr_assert_eq(put_number(w, SPOOL_QUEUE_NAME, key_u32_name(1, slice_str("d"))), 0);
	k = key_quota(1, 0, slice_str("warm-up:192.0.2.1 d.test"));
	cr_assert_eq(put_number(w, SPOOL_QUOTA, k), 0);
	m.body = SPOOL_BODY_TABLE;
	buf_clear(&b);
	row_message_encode(&m, &b);
	k = key_u64(10);
	cr_assert_eq(write_put(w, SPOOL_MESSAGE, &k, buf_slice(&b)), 0);
	cr_assert_eq(spool_write_commit(w), 0);
	cr_assert_geq(spool_check(s, on_problem, &f), (long)ARRAY_SIZE(expected));
	for (i = 0; i < ARRAY_SIZE(expected); i++)
		cr_assert(strstr(f.text, expected[i]) != NULL, "not found: %s\nin: %s", expected[i],
			  f.text);
	spool_close(s);
	buf_done(&b);
	remove_dir();
}

Test(spool, big_body_is_read_from_its_file_and_a_short_one_is_corrupt)
{
	struct spool_message m = message();
	struct spool_read *r;
	struct spool *s;
	char path[128], got[64];
	size_t n;
	FILE *file;

	make_dir();
	s = open_spool(true);
	m.id = 42;
	m.size = 10;
	spool_big_path(s, 42, path, sizeof(path));
	cr_assert_eq(spool_read_begin(s, &r), 0);
	cr_assert_eq(spool_body_read(r, &m, 0, got, sizeof(got), &n), ERR_NOT_FOUND);
	file = fopen(path, "w");
	cr_assert_not_null(file);
	fputs("0123456789", file);
	fclose(file);
	cr_assert_eq(spool_body_read(r, &m, 4, got, 3, &n), 0);
	cr_assert(n == 3 && memcmp(got, "456", 3) == 0);
	cr_assert_eq(spool_body_read(r, &m, 10, got, 3, &n), 0);
	cr_assert_eq(n, 0);
	m.size = 20;
	cr_assert_eq(spool_body_read(r, &m, 4, got, 16, &n), ERR_CORRUPT);
	spool_read_end(r);
	spool_close(s);
	remove_dir();
}
