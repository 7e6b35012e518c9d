/*
 * warmup.h - how far the warm-up of an address at a site is: the row of it in table quota, and the rules
 * by which one day follows another.
 *
 * A row belongs to (virtual MTA, source address, site). Its first day is the present one: how many
 * recipients may be tried (number), how many may have been tried (granted: what the worker reserved
 * before it began, so that no death of a process or machine makes it too small), and what became of
 * those that were. The worker decides and reports, the committer stores, both and `show warmup` by the
 * functions here. Pure functions; any thread.
 */
#ifndef SLUICE_SPOOL_WARMUP_H
#define SLUICE_SPOOL_WARMUP_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/base/ip.h"
#include "common/base/macros.h"
#include "common/base/slice.h"
#include "common/spool/tables.h"

#define WARMUP_DAYS 8 /* the present one and those that are kept for operators */

struct conf_warmup;
struct spool_read;
struct spool_write;

/* WHY(id, "how the day came to its number") */
#define WARMUP_WHYS(X)                                                  \
	X(FIRST, "first day")                                           \
	X(ADVANCED, "")                                                 \
	X(LAST, "last number of the schedule")                          \
	X(FEW, "less than half of the number was tried the day before") \
	X(TRANSIENT, "too many transient replies the day before")       \
	X(POLICY, "too many bounces for policy or spam the day before") \
	X(PAUSED, "paused by an operator")                              \
	X(SET, "set by an operator")

enum warmup_why {
#define WARMUP_WHY_ENUM(id, text) WARMUP_##id,
	WARMUP_WHYS(WARMUP_WHY_ENUM)
#undef WARMUP_WHY_ENUM
		WARMUP_WHY_COUNT
};

struct warmup_day {
	uint32_t day; /* localday.h; 0: there is none */
	uint32_t step; /* index into the schedule */
	uint64_t number; /* recipients that may be tried */
	uint64_t granted; /* no more than so many have been tried */
	msec_t last; /* wall time at which more were granted; 0: never */
	uint64_t attempted, transient, policy; /* outcomes by the receiver; of these */
	enum warmup_why why;
};

struct warmup_row {
	uint64_t set; /* the operator's setting that it has heard of */
	struct warmup_day days[WARMUP_DAYS]; /* newest first */
	size_t count;
};

/* What an operator has set for an address. */
struct warmup_setting {
	uint64_t seq; /* grows with each --day; 0: never */
	uint32_t day; /* of the schedule, from 1 */
	bool paused;
};

/*
 * What the row is on `today`, by the rules of its warm-up: days that are over are judged, the number
 * follows the schedule as it is now. The day of a row never goes back. Before the warm-up's start the
 * number is 0. True: the present day is a new one, or another one than before.
 */
bool warmup_roll(struct warmup_row *row, const struct conf_warmup *rules,
		 const struct warmup_setting *set, uint32_t today);
/* The present day; of a row without any, one of zeros. */
const struct warmup_day *warmup_today(const struct warmup_row *row);
const char *warmup_why_text(enum warmup_why why);

/* A present day as the worker has it goes into the row; counts of outcomes stay those of the row. */
void warmup_take(struct warmup_row *row, const struct warmup_day *day, uint64_t set);
/* Outcomes of recipients that were tried on a day. */
void warmup_count(struct warmup_row *row, uint32_t day, uint64_t attempted, uint64_t transient,
		  uint64_t policy);

/* --- rows --- */

void warmup_row_encode(const struct warmup_row *row, struct buf *b);
int warmup_row_decode(struct slice v, struct warmup_row *ret) WARN_UNUSED;
void warmup_setting_encode(const struct warmup_setting *s, struct buf *b);
int warmup_setting_decode(struct slice v, struct warmup_setting *ret) WARN_UNUSED;

/* One that is not there is all zeros. 0, or a negative err. */
int spool_warmup_get(struct spool_read *r, uint32_t vmta, const struct ip *source,
		     struct slice site, struct warmup_row *ret) WARN_UNUSED;
int spool_warmup_setting_get(struct spool_read *r, const struct ip *source,
			     struct warmup_setting *ret) WARN_UNUSED;
/*
 * The row behind *after (n == 0: the first one) of any virtual MTA; *after is then its key. 1 = a row, 0 = no more,
 * negative err. ret_site is borrowed from the read.
 */
int spool_warmup_next(struct spool_read *r, struct spool_key *after, uint32_t *ret_vmta,
		      struct ip *ret_source, struct slice *ret_site,
		      struct warmup_row *ret) WARN_UNUSED;

/* A key and value of table quota: 0, also when it is none of a warm-up; or what is wrong with the value. */
int warmup_check(struct slice key, struct slice value) WARN_UNUSED;

/*
 * For the committer: warmup_take(), warmup_count() and a new setting, in the write transaction. A row that cannot be read
 * begins anew. 0, or an error of write.h.
 */
int spool_warmup_take(struct spool_write *w, uint32_t vmta, const struct ip *source,
		      struct slice site, const struct warmup_day *day, uint64_t set) WARN_UNUSED;
int spool_warmup_count(struct spool_write *w, uint32_t vmta, const struct ip *source,
		       struct slice site, uint32_t day, uint64_t attempted, uint64_t transient,
		       uint64_t policy) WARN_UNUSED;
int spool_warmup_set(struct spool_write *w, const struct ip *source,
		     const struct warmup_setting *set) WARN_UNUSED;

#endif
