/*
 * warmup_state.h - the inside of the warm-up of a site, and the questions about it that both of its files
 * ask: warmup.c has its days, what is asked for and what begins; warmup_hold.c what waits or overflows.
 */
#ifndef SLUICE_WORKER_WARMUP_STATE_H
#define SLUICE_WORKER_WARMUP_STATE_H

#include <sys/queue.h>

#include "common/conf/conf.h"
#include "common/loop/loop.h"
#include "common/spool/warmup.h"
#include "worker/warmup.h"

struct connection;

struct warm_source {
	struct ip ip;
	struct warmup_setting set;
	struct warmup_row row; /* its first day's `granted` is what was asked for */
	uint64_t begun; /* recipients today */
	uint64_t usable; /* of granted, what is committed */
	uint64_t position; /* in the ring, behind the last report */
	bool unsaid; /* there was no room in the ring */
	usec_t next_at; /* even pace */
};

struct warmup {
	unsigned magic;
	struct site *s;
	const struct conf_warmup *rules;
	uint32_t today; /* that the rows were rolled to */
	uint32_t conf_gen; /* that rules are of */
	uint64_t orders_seen; /* 0: perhaps not all */
	struct warm_source *v;
	size_t n;
	struct loop_timer *timer; /* the first next_at */
	bool overflows; /* until a source is ready again */
	bool waiting; /* for a commit: in the list */
	TAILQ_ENTRY(warmup) link;
};

struct warmups {
	TAILQ_HEAD(, warmup) waiting;
	uint32_t today;
	msec_t begins, ends; /* of today */
};

/* When the present day of a source ends: behind that of the clock when the clock went back. */
msec_t warm_day_end(const struct warmup *m, const struct warm_source *x);
/* What its day has left. */
uint64_t warm_left(const struct warm_source *x);
bool warm_is_even(const struct warmup *m);
/* Its pace lets it go now. */
bool warm_is_time(const struct warmup *m, const struct warm_source *x);
/* A connection that could begin a transaction, or will. */
bool warm_is_free(const struct connection *c);

#endif
