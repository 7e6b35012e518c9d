/* list, show message: from the spool, in bursts of reading with printing between them */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cli/args.h"
#include "cli/groups.h"
#include "cli/spool_open.h"
#include "cli/table.h"
#include "cli/text.h"
#include "common/base/err.h"
#include "common/base/xalloc.h"
#include "common/spool/order.h"
#include "common/spool/spool.h"

#define BURST_ROWS 1000
#define BURST_USEC (50 * USEC_PER_MSEC)
#define LIST_MAX_DEFAULT 100

static const struct column list_columns[] = {
	{"msgid", "MESSAGE", COL_NAME},
	{"recipient", "RECIPIENT", COL_NAME},
	{"queue", "QUEUE", COL_NAME},
	{"state", "STATE", COL_NAME},
	{"due", "DUE", COL_WHEN},
	{"attempts", "TRIES", COL_COUNT},
	{"size", "KB", COL_BYTES},
	{"received", "RECEIVED", COL_TIME},
	{"last_reply", "LAST REPLY", COL_TEXT},
	{NULL, NULL, COL_TEXT},
};

/* --- rows --- */

/* Bytes of the wire may be no UTF-8, which JSON must be. */
static json_t *json_slice(struct slice s)
{
	json_t *v = json_stringn(s.p ? s.p : "", s.n);
	struct buf safe = BUF_INIT;

	if (!v) {
		text_safe(&safe, s);
		v = json_stringn(buf_cstr(&safe), safe.n);
		buf_done(&safe);
	}
	return v;
}

static json_t *json_time(msec_t t)
{
	return t ? json_integer((json_int_t)t) : json_null();
}

static json_t *json_id(uint64_t id)
{
	return json_sprintf("%" PRIu64, id);
}

/* Names of a queue id; the last one is remembered, lists come in runs. */
struct queue_name {
	uint32_t id;
	struct buf text; /* "domain/vmta" */
	struct buf site; /* "NAME.rollup/vmta" where its domain belongs to a provider, else empty */
};

static struct slice queue_name(struct spool_read *r, struct queue_name *q, uint32_t id)
{
	struct spool_queue queue;
	struct spool_vmta vmta;

	if (q->id != id || q->text.n == 0) {
		q->id = id;
		buf_clear(&q->text);
		buf_clear(&q->site);
		if (spool_queue_get(r, id, &queue) == 0 &&
		    spool_vmta_get(r, queue.vmta, &vmta) == 0) {
			buf_add_slice(&q->text, queue.domain);
			buf_add_char(&q->text, '/');
			buf_add_slice(&q->text, vmta.name);
			if (queue.provider.n)
				buf_addf(&q->site, "%.*s/%.*s", SLICE_ARG(queue.provider),
					 SLICE_ARG(vmta.name));
		} else {
			buf_addf(&q->text, "unknown-queue-%" PRIu32, id);
		}
	}
	return buf_slice(&q->text);
}

static json_t *row_json(const struct spool_message *m, const struct spool_recipient *rc,
			struct slice queue)
{
	json_t *row = json_object();

	json_object_set_new(row, "msgid", json_id(m->id));
	json_object_set_new(row, "rcpt", json_integer(rc->rcpt));
	json_object_set_new(row, "queue", json_slice(queue));
	json_object_set_new(row, "recipient", json_slice(rc->address));
	json_object_set_new(row, "sender", json_slice(m->sender));
	json_object_set_new(row, "job", json_slice(m->job));
	json_object_set_new(row, "envid", json_slice(m->envid));
	json_object_set_new(row, "size", json_integer((json_int_t)m->size));
	json_object_set_new(row, "received", json_time(m->received));
	json_object_set_new(row, "state", json_string(rc->fresh ? "fresh" : "deferred"));
	json_object_set_new(row, "due", rc->fresh ? json_null() : json_time(rc->due));
	json_object_set_new(row, "attempts", json_integer(rc->attempts));
	json_object_set_new(row, "last_attempt", json_time(rc->last_attempt));
	json_object_set_new(row, "last_reply", json_slice(rc->last_reply));
	json_object_set_new(row, "expiry", json_time(rc->expiry));
	return row;
}

/* --- list --- */

struct listing {
	struct order_filter filter;
	struct table *table;
	uint64_t max, shown;
	bool more; /* there was one beyond max */
	bool by_job; /* along the index of jobs */
	uint64_t msgid; /* position */
	uint32_t rcpt;
	bool started, ended; /* started: by job, with the recipients of the message */
	json_t *burst; /* rows read and not yet printed */
	struct queue_name queue;
};

static void take_row(struct listing *l, struct spool_read *r, const struct spool_message *m,
		     const struct spool_recipient *rc)
{
	struct slice queue = queue_name(r, &l->queue, rc->queue);

	if (!order_filter_match(&l->filter, queue, m->job, m->sender, rc->address, m->envid,
				m->received) &&
	    (l->queue.site.n == 0 ||
	     !order_filter_match(&l->filter, buf_slice(&l->queue.site), m->job, m->sender,
				 rc->address, m->envid, m->received)))
		return;
	if (l->max && l->shown == l->max) {
		l->more = l->ended = true;
		return;
	}
	l->shown++;
	json_array_append_new(l->burst, row_json(m, rc, queue));
}

/* The next step along the recipients; 1, 0 at the end, or an error. */
static int step_recipients(struct listing *l, struct spool_read *r)
{
	struct spool_recipient rc;
	struct spool_message m;
	int got = spool_recipient_next(r, &l->msgid, &l->rcpt, &l->started, &rc);

	/* deleted between two bursts: no row */
	if (got == 1 && spool_message_get(r, rc.msgid, &m) == 0)
		take_row(l, r, &m, &rc);
	return got;
}

/* The next step along the recipients that are left of the job's messages, as above. */
static int step_job(struct listing *l, struct spool_read *r)
{
	struct spool_recipient rc;
	struct spool_message m;

	if (!l->started) {
		l->rcpt = 0;
		l->started = true;
		return spool_job_next(r, l->filter.job, &l->msgid, &l->msgid);
	}
	if (spool_message_get(r, l->msgid, &m) == 0 &&
	    spool_message_recipient(r, l->msgid, &l->rcpt, &rc) == 1)
		take_row(l, r, &m, &rc);
	else
		l->started = false;
	return 1;
}

/* Reads for a bounded time, then prints. */
static int list_burst(struct listing *l, struct spool *s)
{
	usec_t until = clock_now() + BURST_USEC;
	struct spool_read *r;
	int n, got = 1, err = spool_read_begin(s, &r);
	const json_t *row;
	size_t k;

	if (err)
		return err;
	for (n = 0; n < BURST_ROWS && got == 1 && !l->ended; n++) {
		got = l->by_job ? step_job(l, r) : step_recipients(l, r);
		if (n % 64 == 63 && clock_now() > until)
			break;
	}
	spool_read_end(r);
	if (got != 1)
		l->ended = true;
	for (k = 0; (row = json_array_get(l->burst, k)); k++)
		table_add(l->table, row);
	json_array_clear(l->burst);
	return got < 0 ? got : 0;
}

static struct slice option_slice(const struct invocation *i, enum option_id o)
{
	return slice_str(i->text[o]);
}

static void listing_init(struct listing *l, struct cli *cli, const struct invocation *i,
			 const char *queue)
{
	uint64_t older = i->number[OPTION_OLDER] * MSEC_PER_SEC;
	msec_t now = clock_wall();

	memset(l, 0, sizeof(*l));
	l->filter.queue = slice_str(queue);
	l->filter.job = option_slice(i, OPTION_JOB);
	l->filter.sender = option_slice(i, OPTION_ORIG);
	l->filter.rcpt = option_slice(i, OPTION_RCPT);
	l->filter.envid = option_slice(i, OPTION_ENVID);
	if (option_given(i, OPTION_OLDER))
		l->filter.received_before = older < now ? now - older : 1;
	l->by_job = l->filter.job.n && slice_chr(l->filter.job, '*') < 0 &&
		    slice_chr(l->filter.job, '?') < 0;
	l->max = option_given(i, OPTION_MAX) ? i->number[OPTION_MAX] : LIST_MAX_DEFAULT;
	l->table = table_new(cli, list_columns, "no recipients");
	l->burst = json_array();
}

int messages_list_run(struct cli *cli, const struct invocation *i)
{
	char *queue = args_queue_pattern(i);
	struct listing l;
	struct spool *s;
	int rc = cli_spool_open(cli, &s), err = 0;

	if (rc) {
		free(queue);
		return rc;
	}
	listing_init(&l, cli, i, queue);
	while (!l.ended && !err)
		err = list_burst(&l, s);
	err && !table_count(l.table) ? table_drop(l.table) : table_end(l.table);
	if (err)
		rc = cli_error(CLI_REFUSED, "%s: %s: sluice spool check tells more", spool_dir(s),
			       err_text(err));
	if (l.more && !cli->json)
		fprintf(stderr, "there are more: --max 0 shows all\n");
	json_decref(l.burst);
	buf_done(&l.queue.text);
	buf_done(&l.queue.site);
	spool_close(s);
	free(queue);
	return rc;
}

/* --- show message --- */

static const struct column message_fields[] = {
	{"msgid", "message", COL_NAME},	   {"sender", "sender", COL_NAME},
	{"size", "kB", COL_BYTES},	   {"received", "received", COL_TIME},
	{"source_mta", "from", COL_NAME},  {"user", "user", COL_NAME},
	{"job", "job", COL_NAME},	   {"envid", "envelope id", COL_NAME},
	{"flags", "flags", COL_TEXT},	   {"body", "body", COL_NAME},
	{"crashes", "crashes", COL_COUNT}, {NULL, NULL, COL_TEXT},
};

static const struct column recipient_columns[] = {
	{"rcpt", "NO", COL_COUNT},	 {"recipient", "RECIPIENT", COL_NAME},
	{"queue", "QUEUE", COL_NAME},	 {"state", "STATE", COL_NAME},
	{"due", "DUE", COL_WHEN},	 {"attempts", "TRIES", COL_COUNT},
	{"expiry", "EXPIRES", COL_WHEN}, {"last_reply", "LAST REPLY", COL_TEXT},
	{NULL, NULL, COL_TEXT},
};

static void print_message(struct cli *cli, const json_t *m)
{
	table_fields(cli, m, message_fields);
	table_inside(cli, "recipients left", json_object_get(m, "recipients"), recipient_columns);
}

static json_t *flags_json(uint32_t flags)
{
	static const struct {
		uint32_t bit;
		const char *name;
	} names[] = {
		{SPOOL_MSG_8BITMIME, "8bitmime"}, {SPOOL_MSG_SMTPUTF8, "smtputf8"},
		{SPOOL_MSG_NO_DSN, "no-dsn"},	  {SPOOL_MSG_RET_FULL, "ret-full"},
		{SPOOL_MSG_RET_HDRS, "ret-hdrs"}, {SPOOL_MSG_IS_DSN, "dsn"},
	};
	json_t *list = json_array();
	size_t k;

	for (k = 0; k < ARRAY_SIZE(names); k++)
		if (flags & names[k].bit)
			json_array_append_new(list, json_string(names[k].name));
	return list;
}

static json_t *message_json(const struct spool_message *m)
{
	json_t *o = json_object();

	json_object_set_new(o, "msgid", json_id(m->id));
	json_object_set_new(o, "sender", json_slice(m->sender));
	json_object_set_new(o, "size", json_integer((json_int_t)m->size));
	json_object_set_new(o, "header_size", json_integer((json_int_t)m->header_size));
	json_object_set_new(o, "received", json_time(m->received));
	json_object_set_new(o, "source_mta", json_slice(m->source_mta));
	json_object_set_new(o, "user", json_slice(m->user));
	json_object_set_new(o, "job", json_slice(m->job));
	json_object_set_new(o, "envid", json_slice(m->envid));
	json_object_set_new(o, "flags", flags_json(m->flags));
	json_object_set_new(o, "body", json_string(m->body == SPOOL_BODY_BIG ? "file" : "table"));
	json_object_set_new(o, "crashes", json_integer(m->crashes));
	return o;
}

/* Up to a burst of recipients from *from on; false at the end. */
static int message_burst(struct spool *s, uint64_t msgid, uint32_t *from, json_t **ret_message,
			 json_t *rows)
{
	struct queue_name queue = {0};
	struct spool_recipient rc;
	struct spool_message m;
	struct spool_read *r;
	int n, err = spool_read_begin(s, &r), got = 1;

	if (err)
		return err;
	err = spool_message_get(r, msgid, &m);
	if (!err && !*ret_message)
		*ret_message = message_json(&m);
	for (n = 0; !err && n < BURST_ROWS && got == 1; n++) {
		got = spool_message_recipient(r, msgid, from, &rc);
		if (got == 1)
			json_array_append_new(rows,
					      row_json(&m, &rc, queue_name(r, &queue, rc.queue)));
	}
	spool_read_end(r);
	buf_done(&queue.text);
	buf_done(&queue.site);
	return err ? err : got;
}

/* The message as it is delivered, without the dots that SMTP adds. */
static int print_content(struct cli *cli, struct spool *s, uint64_t msgid)
{
	char chunk[65536];
	struct spool_message m;
	struct spool_read *r;
	uint64_t at = 0;
	bool line_start = true;
	size_t n = 1, k;
	int err = 0;

	while (!err && n) {
		err = spool_read_begin(s, &r);
		if (err)
			break;
		err = spool_message_get(r, msgid, &m);
		if (!err)
			err = spool_body_read(r, &m, at, chunk, sizeof(chunk), &n);
		spool_read_end(r);
		for (k = 0; !err && k < n; k++) {
			if (!(line_start && chunk[k] == '.'))
				fputc(chunk[k], cli->out);
			line_start = chunk[k] == '\n';
		}
		at += n;
	}
	return err;
}

static int message_show(struct cli *cli, struct spool *s, uint64_t msgid)
{
	json_t *message = NULL, *rows = json_array();
	uint32_t from = 0;
	int got = 1;

	while (got == 1)
		got = message_burst(s, msgid, &from, &message, rows);
	/* its last recipient may have ended while it was read */
	if (message && got == ERR_NOT_FOUND)
		got = 0;
	if (got == 0) {
		json_object_set(message, "recipients", rows);
		cli_show_object(cli, message, print_message);
	}
	json_decref(rows);
	json_decref(message);
	return got;
}

static int show_one(struct cli *cli, const struct invocation *i, struct spool *s, uint64_t msgid)
{
	return option_given(i, OPTION_CONTENT) ? print_content(cli, s, msgid)
					       : message_show(cli, s, msgid);
}

int messages_show_run(struct cli *cli, const struct invocation *i)
{
	struct spool *s;
	uint64_t id;
	int rc, err;

	if (!slice_u64(slice_str(i->args[0]), &id))
		return cli_error(CLI_USAGE,
				 "%s: the id of a message is a number: sluice list shows it",
				 i->args[0]);
	if (option_given(i, OPTION_CONTENT) && cli->json)
		return cli_error(CLI_USAGE,
				 "--content prints the message as it is: leave --json out");
	rc = cli_spool_open(cli, &s);
	if (rc)
		return rc;
	err = show_one(cli, i, s, id);
	if (err == ERR_NOT_FOUND)
		rc = cli_error(
			CLI_REFUSED,
			"message %s is not in the spool: it is done, see the accounting files",
			i->args[0]);
	else if (err)
		rc = cli_error(CLI_REFUSED, "message %s: %s: sluice spool check tells more",
			       i->args[0], err_text(err));
	spool_close(s);
	return rc;
}
