/*
 * commit_private.h - what the files of the engine share. Nobody else includes it.
 *
 *     commit.c          a transaction from its begin to its publication
 *     commit_cache.c    virtual MTAs, queues, pools, routes in memory
 *     commit_wake.c     touched queues: wake rows, live counts
 *     commit_intake.c   messages in
 *     commit_rings.c    rings, their positions, dispatch of reports
 *     commit_outcome.c  the ends and postponements of recipients
 *     commit_rates.c    rate clocks over restarts
 *     commit_orders.c   delete, move, schedule, pause, resume
 *     commit_orders_take.c  of these, delete and move
 *     commit_pool.c     the member of a pool that takes a recipient
 *     commit_cold.c     cold virtual MTAs
 *     commit_health.c   what is known of a virtual MTA at a destination
 *     commit_move.c     recipients that change their virtual MTA
 *     commit_recount.c  live counts after a start
 *     commit_warmup.c   counts and settings of addresses that are warmed up
 *     commit_tidy.c     queues without mail are removed
 *
 * Everything in memory that a transaction changes is put back when it fails: numbers from a copy,
 * caches by emptying them, wake times and counts by changing them only after the commit.
 */
#ifndef SLUICE_SPOOLER_COMMIT_PRIVATE_H
#define SLUICE_SPOOLER_COMMIT_PRIVATE_H

#include "common/base/hash.h"

#include "common/acct/record.h"
#include "common/base/err.h"
#include "common/base/log.h"
#include "common/base/xalloc.h"
#include "common/shm/rates.h"
#include "common/spool/report.h"
#include "common/spool/write.h"
#include "spooler/commit.h"
#include "spooler/dsn_row.h"

#define QUEUE_CACHE_MAX 131072
#define NOT_BEFORE_NOTICE (UINT64_MAX - 1)

/* A virtual MTA of the spool. */
struct commit_vmta {
	uint32_t id;
	char *name;
	const struct conf_vmta *conf; /* NULL: not configured */
	bool ring; /* its worker gets a bell after this commit */
	UT_hash_handle by_id, by_name;
};

/* A queue, or a domain that is discarded (id 0). Key: vmta u32 and domain. */
struct commit_qent {
	uint32_t id;
	uint32_t day; /* as in its row; 0: not looked up */
	char *provider; /* likewise; NULL: not looked up */
	struct commit_vmta *vmta;
	const struct conf_provider *rolled; /* whose site it is part of; NULL: of its own */
	const struct conf_domain *settings;
	struct slice domain; /* inside key */
	bool reroute_known;
	char *reroute; /* where its mail goes, as its worker has said; NULL: nowhere else */
	UT_hash_handle by_id, by_name;
	size_t key_size;
	char key[];
};

struct commit_cold;
struct commit_ill;
struct commit_pool;
struct commit_source_order;

/* What a route name means now: a virtual MTA or a pool with its turn. */
struct commit_route {
	char *name;
	struct commit_vmta *vmta;
	const struct conf_pool *pool;
	struct commit_pool *state; /* NULL: not read yet */
	UT_hash_handle hh;
};

/* What a member of a pool must be. */
struct pool_wish {
	struct slice domain;
	const uint32_t *not_in; /* ids of virtual MTAs */
	unsigned not_count;
	bool better; /* not in back-off, not being warmed up */
};

/* A queue that the transaction touches. */
struct commit_touch {
	uint32_t queue, vmta;
	int64_t recipients, bytes; /* change of the live counts */
	bool due; /* rows of table due changed, or the time that was asked for */
	msec_t old_at, old_asked; /* wake row before; UINT64_MAX: none */
	msec_t at, asked; /* after */
	UT_hash_handle hh;
};

/* Present wake rows: open addressing, queue 0 = free. */
struct wake_entry {
	uint32_t queue;
	bool guess; /* read from the spool: whether somebody asked for `at` is not known yet */
	msec_t at, asked;
};
struct wake_map {
	struct wake_entry *v;
	size_t size, used; /* size is a power of two */
};

/* How far a worker's ring has been applied. */
struct commit_ring {
	bool known;
	uint32_t forkno;
	uint64_t committed, next; /* next: applied in the transaction under way */
	uint32_t drained; /* generation that is empty for good, 0 = none */
};

/* The message whose recipients are being ended. */
struct commit_subject {
	bool loaded, changed;
	struct spool_message m;
	struct buf row; /* m's slices */
	struct dsn_recipient *dsn; /* recipients that the sender is told about */
	uint32_t dsn_count, dsn_cap;
	const char *dsn_vmta;
};

struct commit_order;

/* What is known of the rows of rate clocks. */
struct commit_rates {
	uint64_t boot; /* of the machine: monotonic times of another one mean nothing */
	bool opened; /* the row `rates` still says how the last run ended */
	uint64_t moves; /* rates_moves() when they were written */
	usec_t next, tidy; /* not again before; to be looked at for rows that may go */
	struct rate_row *rows; /* of the transaction under way */
	size_t count, cap;
};

struct commit {
	struct spool *spool;
	struct shm *shm;
	const struct conf *conf;
	struct shm_counters *counters;
	struct commit_options o;

	struct commit_vmta *vmta_by_id, *vmta_by_name;
	struct commit_qent *queue_by_id, *queue_by_name;
	struct commit_route *routes;
	struct commit_cold *colds, *cold_changed; /* uthash; those to be stored */
	struct commit_ill *ill; /* uthash */
	struct commit_source_order *source_orders; /* by their ids */
	size_t source_order_count;
	bool ill_known, source_orders_known;
	struct wake_map wakes;
	struct commit_ring *rings;
	uint32_t ring_turn;
	msec_t slots_warned;

	/* the transaction under way */
	struct spool_write *w;
	struct spool_numbers n, saved;
	msec_t now;
	struct commit_touch *touched;
	struct commit_subject subject;
	struct buf value, row, scratch, original;
	void **kept; /* freed at the end of the transaction */
	size_t kept_count, kept_cap;
	uint64_t *unlinks; /* big files that are not needed after the commit */
	size_t unlink_count, unlink_cap;
	uint64_t received_messages, received_recipients, received_bytes;
	uint64_t ended_delivered, ended_bounced;
	uint64_t outbox_dropped; /* accounting records up to this are in every file */
	struct commit_result result;

	struct commit_rates rates;
	struct spool_key warmup_tidied; /* rows of warm-ups: the last that was looked at */

	struct commit_order *orders;
	bool ask_again; /* after a start: what workers answered before is not known */
	bool orders_changed; /* workers must read them again after this commit */

	/* recount */
	bool counted;
	uint64_t count_until, count_msgid; /* messages above until were counted as they came */
	uint32_t count_rcpt;
	bool count_started;
};

static inline uint32_t commit_day(msec_t wall)
{
	return (uint32_t)(wall / (24 * 3600 * MSEC_PER_SEC));
}

/* commit.c */
void *commit_keep(struct commit *c, const void *p,
		  size_t n); /* a copy until the end of the transaction */
struct slice commit_keep_slice(struct commit *c, struct slice s);
void commit_unlink_later(struct commit *c, uint64_t msgid);
int commit_outbox(struct commit *c, const struct acct_record *r);

/* commit_cache.c */
int cache_vmta_by_name(struct commit *c, struct slice name, struct commit_vmta **ret);
struct commit_vmta *cache_vmta_by_id(struct commit *c, uint32_t id); /* NULL: no such row */
/* The queue of a domain; its id is 0 until queue_need_id(). */
int cache_queue(struct commit *c, struct commit_vmta *v, struct slice domain,
		struct commit_qent **ret);
int cache_queue_need_id(struct commit *c, struct commit_qent *q);
struct commit_qent *cache_queue_by_id(struct commit *c, uint32_t id); /* NULL: no such row */
/* It has mail today, or had: its row says so. Days since 1970. */
/* NAME.rollup that the domain belonged to at last, or "". */
struct slice cache_queue_provider(struct commit *c, struct commit_qent *q);
int cache_queue_stamp(struct commit *c, uint32_t id);
/* Its row has been removed. Between transactions. */
void cache_queue_drop(struct commit *c, uint32_t id);
/* ERR_NOT_FOUND: neither a virtual MTA nor a pool of the configuration. */
int cache_route(struct commit *c, const char *name, struct commit_route **ret);
/* The next virtual MTA of the route. ERR_NOT_FOUND: none that is wished for. */
int cache_route_next(struct commit *c, struct commit_route *r, const struct pool_wish *wish,
		     struct commit_vmta **ret);
int cache_store_turns(struct commit *c);
void cache_forget_routes(struct commit *c);
void cache_trim(struct commit *c); /* between transactions only */
void cache_forget(struct commit *c); /* everything: after a failure */

/* commit_wake.c */
int wake_load(struct commit *c);
struct commit_touch *touch_queue(struct commit *c, uint32_t queue, uint32_t vmta);
/* Before rows of the queue's range in table due change. */
struct commit_touch *touch_due(struct commit *c, uint32_t queue, uint32_t vmta);
void touch_count(struct commit *c, struct commit_touch *t, uint64_t msgid, uint32_t rcpt,
		 int64_t bytes, int sign);
int wake_store(struct commit *c);
void wake_publish(struct commit *c);
void touch_forget(struct commit *c);
void wake_map_done(struct wake_map *m);

/* commit_intake.c */
/* Accounted and dropped: the final record of a recipient of the subject whose domain is discarded. */
int discard_recipient(struct commit *c, const struct spool_recipient *r, struct commit_qent *q);
int intake_messages(struct commit *c, struct intake_message *list,
		    struct intake_message **ret_rest);

/* commit_rings.c */
int rings_load(struct commit *c);
int rings_collect(struct commit *c);
int rings_store(struct commit *c);
void rings_publish(struct commit *c);
void rings_abort(struct commit *c);

/* commit_outcome.c */
int subject_begin(struct commit *c, uint64_t msgid); /* ERR_NOT_FOUND: the message is gone */
int subject_end(struct commit *c);
/* Where a recipient stands now; slices in c->row until the next call. */
int subject_recipient(struct commit *c, uint32_t rcpt, struct spool_recipient *ret,
		      struct commit_qent **ret_queue);
int recipient_load(struct commit *c, uint64_t msgid, uint32_t rcpt, struct spool_recipient *ret,
		   struct commit_qent **ret_queue);
/* Of the subject. */
int recipient_remove(struct commit *c, const struct spool_recipient *r, struct commit_qent *q);
int recipient_to_due(struct commit *c, struct spool_recipient *r, struct commit_qent *q,
		     msec_t due);
/* Its row as it is, and its place in table due of the queue, at r->due; it has no other place. */
int recipient_put_due(struct commit *c, struct spool_recipient *r, const struct commit_qent *q);
int recipient_store(struct commit *c, const struct spool_recipient *r);
/* Out of fresh or due; its row is the caller's. */
int recipient_unplace(struct commit *c, const struct spool_recipient *r, struct commit_qent *q);
void subject_tell(struct commit *c, const struct spool_recipient *r, enum dsn_action action,
		  const struct report_outcome *o, struct slice mx_name, const struct ip *mx_ip);
/* disable-acct-records does not name it. settings: of the queue, or NULL. */
bool record_wanted(const struct conf_domain *settings, enum acct_type type);
void record_fill(struct commit *c, struct acct_record *a, enum acct_type type,
		 const struct spool_recipient *r, const struct commit_qent *q);
int apply_transaction(struct commit *c, const struct report_transaction *t);
/* Its outcomes, in the warm-up of the source address; whatever has become of the recipients. */
int count_warmup(struct commit *c, const struct commit_vmta *v, const struct report_transaction *t);
int apply_site(struct commit *c, struct commit_vmta *v, const struct report_site *s);
int apply_park(struct commit *c, const struct report_park *p);
int apply_member(struct commit *c, const struct report_member *m);
int apply_wake(struct commit *c, const struct report_wake *k);

/* commit_pool.c */
/*
 * The member whose turn it is, and its count. Those that `wish` excludes are passed over: ERR_NOT_FOUND when it
 * leaves none.
 */
int pool_pick(struct commit *c, struct commit_route *r, const struct pool_wish *wish,
	      struct commit_vmta **ret);
int pool_store(struct commit *c, struct commit_pool *p);
void pool_free(struct commit_pool *p);

/* commit_cold.c */
/* *q becomes the queue of a cold virtual MTA, if one is to take the recipient. */
int cold_choose(struct commit *c, const struct commit_route *r, struct commit_qent **q);
int cold_store(struct commit *c);
void cold_forget(struct commit *c);
void cold_trim(struct commit *c);

/* commit_health.c */
/* The name of a domain's site row under a virtual MTA, as far as it is known here. */
struct slice health_site(struct commit *c, struct commit_vmta *v, struct slice domain);
/* No site has a disabled source, by a reply or by an order. */
bool health_all_well(struct commit *c);
/* All its sources are disabled for the destination. */
bool health_is_disabled(struct commit *c, struct commit_vmta *v, struct slice domain);
/* The destination is in back-off there, or the virtual MTA is being warmed up. */
bool health_is_poor(struct commit *c, struct commit_vmta *v, struct slice domain);
/* A site row changes: it has disabled sources, or none. */
void health_note(struct commit *c, const struct spool_key *k, bool disabled);
/* Rows of orders have come or gone. */
void health_orders_changed(struct commit *c);
void health_forget(struct commit *c);

/* commit_move.c */
/* *q becomes the queue that mail for it goes to now: itself, or where reroutes lead. */
int move_follow(struct commit *c, struct commit_qent **q);
/*
 * A recipient of the subject goes to where `target` (a virtual MTA or pool) and reroutes lead: 1, or 0: it
 * stays where it is, or a negative err.
 */
int move_recipient(struct commit *c, struct spool_recipient *r, struct commit_qent *q,
		   const char *target);
int apply_reroute(struct commit *c, const struct report_reroute *r);
int apply_notice(struct commit *c, const struct report_notice *n);
int apply_move(struct commit *c, const struct report_move *m);

/* --- commit_sites.c: orders about the mode and the sources of sites, and which orders stay --- */

/* Its row is all there is to do about it. ended: it has been carried out. */
bool sites_order_stands(const struct order *o, bool ended);
/* It has been carried out: whether its row stays. */
bool sites_order_stays(struct commit *c, const struct order *o);
/* A new order takes the place of those of its kind that it covers. Adds to *ret_removed those that it takes back. */
int sites_order_replace(struct commit *c, const struct order *o, uint64_t *ret_removed);
/* What a schedule, normal or enable order does to the row of a site that matches. 1 = changed, 0 = not, negative err. */
int sites_order_apply(struct commit *c, const struct order *o, const struct spool_key *at,
		      struct spool_site *site);

/* --- commit_orders.c --- */

/* Workers are still asked about it, or it is being carried out. */
bool commit_order_is_pending(const struct commit *c, uint64_t id);
int standing_load(struct commit *c);
int standing_run(struct commit *c);
bool standing_ready(struct commit *c); /* there is work that waits for nobody */
void standing_publish(struct commit *c);
void standing_abort(struct commit *c);
void standing_ack(struct commit *c, uint32_t slot, const struct report_order_ack *a);
void standing_free(struct commit *c);

/* commit_warmup.c */
/* Outcomes, in the warm-up of their source address; whatever has become of the recipients. */
int count_warmup(struct commit *c, const struct commit_vmta *v, const struct report_transaction *t);
int apply_warmup(struct commit *c, const struct commit_vmta *v, const struct report_warmup *r);

/* commit_rates.c */
int commit_rates_load(struct commit *c);
/* There is something to write, and a second has passed. */
bool commit_rates_due(const struct commit *c);
int commit_rates_store(struct commit *c);
void commit_rates_publish(struct commit *c);
void commit_rates_abort(struct commit *c);
/* No worker runs any more: all clocks, and that the run has ended. */
int commit_rates_close(struct commit *c);
/* How far ahead a kept clock is now, in ns. */
uint64_t commit_rate_ahead(const struct spool_rate *r, uint64_t boot, usec_t now, msec_t wall);

/* commit_recount.c */
void recount_start(struct commit *c);
bool recount_has(const struct commit *c, uint64_t msgid, uint32_t rcpt);

#endif
