/*
 * queries_private.h - one control connection while it is being answered: queries.c has the threads and
 * the table of commands, queries_show.c what reads, queries_expiry.c when queues expire, queries_change.c
 * what gives orders, queries_pools.c pools, queries_warmup.c warm-ups,
 * queries_providers.c providers.
 */
#ifndef SLUICE_SPOOLER_QUERIES_PRIVATE_H
#define SLUICE_SPOOLER_QUERIES_PRIVATE_H

#include <jansson.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/queue.h>

#include "common/spool/order.h"
#include "spooler/queries.h"

struct queries {
	struct spool *spool;
	struct shm *shm;
	struct committer *committer;
	_Atomic bool stop;
	pthread_mutex_t lock;
	pthread_cond_t ended;
	unsigned running;
	LIST_HEAD(, query) list;
};

struct query {
	struct queries *q;
	int fd;
	char *request;
	uint32_t uid;
	bool cut; /* the client is gone */
	LIST_ENTRY(query) link;
};

/* One answer line; takes the reference. */
void query_line(struct query *y, json_t *line);
/* {"data":…}; takes the reference. */
void query_data(struct query *y, json_t *data);
void query_succeed(struct query *y);
void query_fail(struct query *y, const char *message);

const char *arg_text(const json_t *args, const char *key); /* "" when missing */
bool arg_flag(const json_t *args, const char *key);
uint64_t arg_number(const json_t *args, const char *key);
/* A queue pattern; one without '/' is of domains. Free it. "" stays "". */
char *arg_pattern(const json_t *args, const char *key);

/* Commands. */
void query_queues(struct query *y, const json_t *args);
void query_vmtas(struct query *y, const json_t *args);
void query_providers(struct query *y, const json_t *args);
void query_paused(struct query *y, const json_t *args);
void query_pause(struct query *y, const json_t *args);
void query_resume(struct query *y, const json_t *args);
void query_set_queue(struct query *y, const json_t *args);
void query_disable_source(struct query *y, const json_t *args);
void query_enable_source(struct query *y, const json_t *args);
void query_disabled(struct query *y, const json_t *args);
void query_delete(struct query *y, const json_t *args);
void query_schedule(struct query *y, const json_t *args);
void query_move(struct query *y, const json_t *args);
void query_pools(struct query *y, const json_t *args);
void query_reset_pool(struct query *y, const json_t *args);

void query_warmup(struct query *y, const json_t *args);
void query_set_warmup(struct query *y, const json_t *args);

/* The first fresh recipients of queues, by queue. Free it. */
struct fresh_expiries *fresh_expiries_read(struct query *y);
void fresh_expiries_free(struct fresh_expiries *f);
/* Wall ms; UINT64_MAX: none, or not known. */
msec_t fresh_expiry_first(const struct fresh_expiries *f, uint32_t queue);
/* The same of deferred recipients; published: by the worker. *ret_first_due: 0 for none. */
msec_t due_expiry_first(struct spool_read *r, uint32_t queue, msec_t published,
			msec_t *ret_first_due);

/* Live queues whose name matches. */
uint64_t count_live_queues(struct query *y, struct slice pattern);

#endif
