/*
 * session_fake.h - a configuration and a committer for tests of the SMTP server: what the server
 * asks of common/conf and spooler/intake.h, with plain variables behind it. Included once in a
 * program.
 */
#ifndef SLUICE_TESTS_SESSION_FAKE_H
#define SLUICE_TESTS_SESSION_FAKE_H

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/base/fd.h"
#include "common/base/xalloc.h"
#include "common/conf/conf.h"
#include "spooler/intake.h"

/* ---- configuration ---- */

struct conf {
	struct conf_global global;
	struct conf_source source;
	struct conf_vmta vmta;
	struct conf_pool pool;
	struct conf_listener listener;
	bool freed;
};

/* The defaults of the directives, as far as the server uses them, for a feeder that may relay. */
static inline struct conf fake_conf(void)
{
	struct conf c = {0};

	c.global.host_name = "mta.example";
	c.global.total_max_smtp_in = 100;
	c.source.smtp_service = true;
	c.source.always_allow_relaying = true;
	c.source.reject_invalid_virtual_mta = true;
	c.source.add_received_header = true;
	c.source.allow_chunking = c.source.allow_smtputf8 = true;
	c.source.max_message_size = UINT64_MAX;
	c.source.max_message_hops = 100;
	c.source.smtp_command_timeout = c.source.smtp_data_timeout = 600 * USEC_PER_SEC;
	c.source.jobid_header = "x-job";
	c.source.default_virtual_mta = "{default}";
	c.vmta.name = "mta1";
	c.pool.name = "pool1";
	return c;
}

const struct conf_global *conf_global(const struct conf *c)
{
	return &c->global;
}
size_t conf_listener_count(const struct conf *c ATTR_UNUSED)
{
	return 1;
}
const struct conf_listener *conf_listener_at(const struct conf *c, size_t i ATTR_UNUSED)
{
	return &c->listener;
}
const struct conf_source *conf_source_for(const struct conf *c, const struct ip *ip ATTR_UNUSED,
					  const char *name ATTR_UNUSED)
{
	return &c->source;
}
const struct conf_vmta *conf_vmta_find(const struct conf *c, struct slice name)
{
	return slice_eq_str(name, c->vmta.name) || slice_eq_str(name, "{default}") ? &c->vmta
										   : NULL;
}
const struct conf_pool *conf_pool_find(const struct conf *c, struct slice name)
{
	return slice_eq_str(name, c->pool.name) ? &c->pool : NULL;
}
/* The only relay-domain. */
bool conf_patterns_match(const struct conf_patterns *p ATTR_UNUSED, struct slice domain)
{
	return slice_eq_str(domain, "relay.example");
}
void conf_free(struct conf *c)
{
	c->freed = true;
}

/* ---- committer ---- */

struct intake {
	pthread_mutex_t lock;
	struct buf log; /* a line for each message, see fake_line() */
	struct buf body; /* of the last message */
	uint32_t header_size; /* of the last message */
	uint32_t flags;
	bool big;
	unsigned count;
	int result; /* what messages get */
	bool hold; /* keep them until fake_release() */
	struct intake_message *held;
	const char *no_room; /* MAIL is refused with this */
	const char *big_dir;
	int64_t memory, budget;
	uint64_t msgid;
};

static inline void fake_intake(struct intake *in)
{
	memset(in, 0, sizeof(*in));
	pthread_mutex_init(&in->lock, NULL);
	in->budget = INT64_MAX;
	in->msgid = 0x1000;
}

static inline void fake_intake_done(struct intake *in)
{
	buf_done(&in->log);
	buf_done(&in->body);
	pthread_mutex_destroy(&in->lock);
}

/* "<sender> to=ADDRESS(DOMAIN,ROUTE,CLASS,NOTIFY,ORCPT) … job=J envid=E dsn=D\n" */
static inline void fake_line(struct buf *b, const struct intake_message *m)
{
	uint32_t i;

	buf_addf(b, "<%s>", m->sender);
	for (i = 0; i < m->recipient_count; i++) {
		const struct intake_recipient *r = &m->recipients[i];

		buf_addf(b, " to=%s(%s,%s,%u,%s)", r->address, r->domain, r->route, r->notify,
			 r->orcpt ? r->orcpt : "");
	}
	buf_addf(b, " job=%s envid=%s dsn=%s\n", m->job ? m->job : "", m->envid ? m->envid : "",
		 m->dsn_envid ? m->dsn_envid : "");
}

static inline void fake_keep(struct intake *in, const struct intake_message *m)
{
	fake_line(&in->log, m);
	buf_clear(&in->body);
	if (m->big) {
		char path[600];
		int fd;

		(void)snprintf(path, sizeof(path), "%s/%llu", in->big_dir,
			       (unsigned long long)m->msgid);
		fd = open(path, O_RDONLY);
		if (fd < 0 || fd_read_all(fd, 1U << 30, &in->body) < 0)
			abort();
		close(fd);
		unlink(path);
	} else {
		buf_add_slice(&in->body, buf_slice(&m->body));
	}
	if (in->body.n != m->size || m->header_size > m->size || m->header_size < 2)
		abort();
	in->header_size = m->header_size;
	in->flags = m->flags;
	in->big = m->big;
	in->count++;
}

void intake_post(struct intake *in, struct intake_message *m)
{
	pthread_mutex_lock(&in->lock);
	m->result = in->result;
	if (in->result == 0)
		fake_keep(in, m);
	if (in->hold) {
		m->next = in->held;
		in->held = m;
		m = NULL;
	}
	pthread_mutex_unlock(&in->lock);
	if (m)
		m->done(m);
}

static inline bool fake_release(struct intake *in)
{
	struct intake_message *m;
	bool any = false;

	pthread_mutex_lock(&in->lock);
	in->hold = false;
	while ((m = in->held)) {
		in->held = m->next;
		any = true;
		m->done(m);
	}
	pthread_mutex_unlock(&in->lock);
	return any;
}

uint64_t intake_next_msgid(struct intake *in)
{
	return __atomic_add_fetch(&in->msgid, 1, __ATOMIC_RELAXED);
}

bool intake_admit(struct intake *in, const char **ret_text)
{
	if (!in->no_room)
		return true;
	*ret_text = in->no_room;
	return false;
}

bool intake_has_room(struct intake *in ATTR_UNUSED, uint64_t bytes)
{
	return bytes <= UINT64_C(1) << 40;
}

bool intake_memory(struct intake *in, int64_t n)
{
	if (n > 0 && __atomic_load_n(&in->memory, __ATOMIC_RELAXED) + n > in->budget)
		return false;
	__atomic_add_fetch(&in->memory, n, __ATOMIC_RELAXED);
	return true;
}

#endif
