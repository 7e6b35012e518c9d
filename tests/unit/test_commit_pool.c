/* links: common/base common/conf common/spool common/shm common/acct spooler/commit.c spooler/commit_*.c spooler/dsn_row.c */
/* Pools and cold virtual MTAs: who takes which recipient, exactly, over crashes and days. */
#include "tests/unit/spool_fixture.h"

#include "common/spool/order.h"
#include "common/spool/quota_row.h"
#include "common/spool/site_mode.h"

#define HEAD                                                        \
	"[global]\nhost-name = mta.example\n"                       \
	"[virtual-mta a]\nsmtp-source-host = 127.0.0.1 a.example\n" \
	"[virtual-mta b]\nsmtp-source-host = 127.0.0.2 b.example\n" \
	"[virtual-mta c]\nsmtp-source-host = 127.0.0.3 c.example\n"
#define WEIGHTED                                                                             \
	"[virtual-mta-pool p]\nselection = weighted\nvirtual-mta = a weight 5, b weight 3\n" \
	"virtual-mta = c weight 2\n"
#define SEQUENTIAL                                                                \
	"[virtual-mta-pool p]\nselection = sequential\nvirtual-mta = a count 3\n" \
	"virtual-mta = b count 2\n"
#define DAY_MSEC UINT64_C(86400000)
#define NOON (UINT64_C(20779) * DAY_MSEC + DAY_MSEC / 2) /* 2026-11-22 */

static struct fix f;
static uint64_t next_id = 1;

static void start(const char *text)
{
	setenv("TZ", "UTC", 1);
	clock_fake(USEC_PER_SEC, NOON);
	fix_init(&f);
	fix_set_conf(&f, text);
}

static void finish(void)
{
	fix_check(&f);
	fix_done(&f);
	clock_real();
}

static void restart(void)
{
	fix_close(&f);
	fix_open(&f);
}

/* One message to n recipients of a domain, by way of the pool or virtual MTA. */
static void post(const char *route, const char *domain, size_t n)
{
	const char **addresses = xcalloc(n, sizeof(char *)), **domains = xcalloc(n, sizeof(char *)),
		   **routes = xcalloc(n, sizeof(char *));

	for (size_t i = 0; i < n; i++) {
		addresses[i] = "user@example";
		domains[i] = domain;
		routes[i] = route;
	}
	cr_assert_eq(fix_commit(&f, fix_message(&f, next_id++, "x: y\r\n\r\n", n, addresses,
						domains, routes)),
		     0);
	cr_assert_eq(f.last_result, 0);
	free(addresses);
	free(domains);
	free(routes);
}

/* The virtual MTA of a recipient, as one letter. */
static char vmta_of(struct spool_read *r, const struct spool_recipient *rcpt)
{
	struct spool_queue q;
	struct spool_vmta v;

	cr_assert_eq(spool_queue_get(r, rcpt->queue, &q), 0);
	cr_assert_eq(spool_vmta_get(r, q.vmta, &v), 0);
	return v.name.p[0];
}

/* Of all recipients, in the order of their coming; a letter each. */
static char *ways(void)
{
	struct buf b = BUF_INIT;
	struct spool_recipient rcpt;
	struct spool_read *r;
	uint64_t msgid = 0;
	uint32_t number = 0;
	bool started = false;
	char *text;

	cr_assert_eq(spool_read_begin(f.spool, &r), 0);
	while (spool_recipient_next(r, &msgid, &number, &started, &rcpt) > 0)
		buf_add_char(&b, vmta_of(r, &rcpt));
	spool_read_end(r);
	text = xstrdup(buf_cstr(&b));
	buf_done(&b);
	return text;
}

static unsigned count(const char *text, char letter)
{
	unsigned n = 0;

	for (; *text; text++)
		n += *text == letter;
	return n;
}

static void went(const char *want)
{
	char *got = ways();

	cr_assert_str_eq(got, want);
	free(got);
}

Test(pool, weights_are_exact_over_ten_thousand_and_smooth)
{
	char *all;

	start(HEAD WEIGHTED);
	for (int i = 0; i < 100; i++) {
		post("p", "x.example", 100);
		if (i % 33 == 7)
			restart();
	}
	all = ways();
	cr_assert_eq(strlen(all), 10000);
	cr_assert_eq(count(all, 'a'), 5000);
	cr_assert_eq(count(all, 'b'), 3000);
	cr_assert_eq(count(all, 'c'), 2000);
	all[10] = '\0';
	cr_assert_str_eq(all, "abcaabacba", "spread, not in runs: %s", all);
	free(all);
	finish();
}

Test(pool, a_sequence_goes_on_over_restarts_and_reloads_and_wraps)
{
	start(HEAD SEQUENTIAL);
	post("p", "x.example", 2);
	restart();
	post("P", "y.example", 2);
	fix_set_conf(&f, HEAD SEQUENTIAL "[domain z.example]\nmax-smtp-out = 1\n");
	post("p", "x.example", 5);
	went("aaabbaaab");
	finish();
}

static uint64_t stored_count(const char *member)
{
	struct quota_member m;
	struct quota_pool q;
	struct spool_read *r;
	uint64_t n = 0;

	cr_assert_eq(spool_read_begin(f.spool, &r), 0);
	if (quota_pool_get(r, "p", &q) == 0)
		while (quota_member_next(&q.members, &m))
			n += slice_eq_str(m.name, member) ? m.count : 0;
	spool_read_end(r);
	return n;
}

Test(pool, counts_stay_with_their_names)
{
	start(HEAD SEQUENTIAL);
	post("p", "x.example", 4);
	fix_set_conf(&f,
		     HEAD "[virtual-mta-pool p]\nselection = sequential\nvirtual-mta = c count 9\n"
			  "virtual-mta = b count 2\n");
	cr_assert_eq(stored_count("b"), 1);
	post("p", "x.example", 2);
	went("aaabbc");
	cr_assert_eq(stored_count("b"), 2, "the second of its turn");
	cr_assert_eq(stored_count("c"), 1);
	cr_assert_eq(stored_count("a"), 0, "is no member");
	finish();
}

Test(pool, daily_counts_begin_at_midnight_and_the_day_never_goes_back)
{
	start(HEAD SEQUENTIAL "reset-count = daily\n");
	post("p", "x.example", 4);
	clock_fake(USEC_PER_SEC, NOON + DAY_MSEC);
	post("p", "x.example", 2);
	clock_fake(USEC_PER_SEC, NOON);
	post("p", "x.example", 2);
	went("aaabaaab");
	cr_assert_eq(stored_count("a"), 3);
	cr_assert_eq(stored_count("b"), 1);
	finish();
}

/* The map is too small for the body: nothing of the transaction has happened. */
Test(pool, mail_that_is_refused_is_not_counted)
{
	const char *address = "user@example", *domain = "x.example", *route = "p";
	char *body = xmalloc(6 << 20);

	setenv("TZ", "UTC", 1);
	clock_fake(USEC_PER_SEC, NOON);
	fix_init_size(&f, 4 << 20);
	fix_set_conf(&f, HEAD SEQUENTIAL);
	post("p", "x.example", 2);
	memset(body, 'x', 6 << 20);
	body[(6 << 20) - 1] = '\0';
	cr_assert_lt(fix_commit(&f, fix_message(&f, next_id++, body, 1, &address, &domain, &route)),
		     0);
	cr_assert_eq(stored_count("a"), 2);
	post("p", "x.example", 3);
	went("aaabb");
	free(body);
	finish();
}

static int run_reset(struct commit *c, struct spool_write *w, struct commit_job *j ATTR_UNUSED)
{
	return commit_pool_reset(c, w, slice_str("P"));
}

Test(pool, an_operator_resets_it)
{
	struct commit_job job = {.run = run_reset}, *jobs = &job;
	struct intake_message *none = NULL;
	struct commit_result r;

	start(HEAD SEQUENTIAL);
	post("p", "x.example", 4);
	cr_assert_eq(commit_batch(f.c, &none, &jobs, &r), 0);
	cr_assert_eq(stored_count("a"), 0);
	post("p", "x.example", 1);
	went("aaaba");
	finish();
}

/* What a worker says of a site: these addresses are disabled. */
static void report_disabled(struct shm_ring *ring, const char *site, const char *ip, bool backoff)
{
	struct buf list = BUF_INIT, b = BUF_INIT;
	struct site_disabled x = {.since = NOON, .why = slice_str("blocked")};
	struct report_site s = {
		.name = slice_str(site), .queue = slice_str("q"), .text = slice_str("")};

	if (ip) {
		cr_assert(ip_parse(slice_str(ip), &x.ip));
		site_disabled_encode(&x, &list);
		s.mode.disabled = buf_slice(&list);
	}
	s.mode.mode = backoff ? SITE_BACKOFF : SITE_NORMAL;
	s.clear = !ip && !backoff;
	report_site_encode(&s, &b);
	cr_assert(ring_put(ring, REPORT_SITE, b.p, b.n));
	buf_done(&b);
	buf_done(&list);
	cr_assert_eq(fix_commit(&f, NULL), 0);
}

Test(pool, members_without_a_usable_source_for_the_site_are_passed_over)
{
	struct shm_ring *ring;

	start(HEAD SEQUENTIAL);
	ring = fix_worker(&f, 0, "a", 1);
	report_disabled(ring, "x.example", "127.0.0.1", false);
	post("p", "x.example", 2);
	post("p", "y.example", 1);
	restart();
	post("p", "x.example", 1);
	went("bbab");
	report_disabled(ring, "x.example", NULL, false);
	post("p", "x.example", 3);
	went("bbabaab");
	finish();
}

Test(pool, a_domain_that_keeps_its_own_site_is_looked_up_under_its_own_name)
{
	struct shm_ring *ring;

	start(HEAD SEQUENTIAL "[provider big]\nmx = mx.big.example\ndomains = m1.example\n"
			      "[domain m1.example]\nsmtp-hosts = [127.0.0.9]\n");
	ring = fix_worker(&f, 0, "a", 1);
	report_disabled(ring, "m1.example", "127.0.0.1", false);
	post("p", "m1.example", 1);
	report_disabled(ring, "m1.example", NULL, false);
	report_disabled(ring, "big.rollup", "127.0.0.1", false);
	post("p", "m1.example", 1);
	went("ba");
	finish();
}

Test(pool, where_all_are_disabled_the_mail_waits)
{
	struct shm_ring *ring;

	start(HEAD "[virtual-mta-pool p]\nvirtual-mta = a, b\n");
	ring = fix_worker(&f, 0, "a", 1);
	report_disabled(ring, "x.example", "127.0.0.1", false);
	ring = fix_worker(&f, 1, "b", 2);
	report_disabled(ring, "x.example", "127.0.0.2", false);
	post("p", "x.example", 4);
	went("abab");
	finish();
}

struct told {
	struct commit_job job;
	struct order order;
};

static int run_order(struct commit *c, struct spool_write *w, struct commit_job *j)
{
	return commit_order_add(c, w, &container_of(j, struct told, job)->order, NULL, NULL);
}

/* What an operator says of a source address. */
static void tell(enum order_kind kind, const char *ip, const char *queue, msec_t until)
{
	struct told t = {.job = {.run = run_order},
			 .order = {.kind = kind,
				   .filter = {.queue = slice_str(queue)},
				   .created = clock_wall(),
				   .until = until}};
	struct commit_job *jobs = &t.job;
	struct intake_message *none = NULL;
	struct commit_result r;

	cr_assert(ip_parse(slice_str(ip), &t.order.source));
	do
		cr_assert_eq(commit_batch(f.c, &none, &jobs, &r), 0);
	while (r.more);
}

Test(pool, members_whose_sources_an_operator_has_disabled_are_passed_over)
{
	start(HEAD SEQUENTIAL);
	post("p", "x.example", 1);
	tell(ORDER_DISABLE_SOURCE, "127.0.0.1", "x.example/a", 0);
	post("p", "x.example", 2);
	post("p", "y.example", 1);
	restart();
	post("p", "x.example", 1);
	went("abbab");
	tell(ORDER_ENABLE_SOURCE, "127.0.0.1", "x.example/a", 0);
	post("p", "x.example", 3);
	went("abbababb");
	finish();
}

Test(pool, an_order_about_a_source_ends_with_its_time_and_may_be_taken_back_for_some)
{
	start(HEAD SEQUENTIAL "[provider big]\nmx = mx.big.example\ndomains = m1.example\n");
	tell(ORDER_DISABLE_SOURCE, "127.0.0.1", "*/a", NOON + 3600000);
	tell(ORDER_ENABLE_SOURCE, "127.0.0.1", "big.rollup/a", 0);
	post("p", "x.example", 1);
	post("p", "m1.example", 1);
	went("ba");
	clock_fake(USEC_PER_SEC, NOON + 3600000);
	post("p", "x.example", 2);
	went("baaa");
	finish();
}

/* --- cold ones --- */

#define COLD                                                            \
	"[global]\nhost-name = mta.example\n"                           \
	"[virtual-mta a]\ncold-virtual-mta = b\ncold-virtual-mta = c\n" \
	"[virtual-mta b]\n[virtual-mta c]\n[virtual-mta d]\n"           \
	"[virtual-mta-pool p]\nvirtual-mta = a, d\n"                    \
	"[domain x.example]\nmax-cold-virtual-mta-msg = 2/d,3/d\n"

Test(cold, the_first_of_each_day_go_there_in_turn)
{
	start(COLD);
	post("a", "x.example", 3);
	restart();
	post("a", "y.example", 1);
	post("a", "x.example", 3);
	went("bcbacaa");
	for (unsigned day = 1; day < 4; day++) {
		char *all;

		clock_fake(USEC_PER_SEC, NOON + day * DAY_MSEC);
		post("a", "x.example", 10);
		all = ways();
		cr_assert_eq(count(all, 'b'), 2 + 3 * day, "day %u: the last number repeats", day);
		cr_assert_eq(count(all, 'c'), 2 + 3 * day);
		free(all);
	}
	finish();
}

Test(cold, days_without_mail_do_not_count_and_the_day_never_goes_back)
{
	start(COLD);
	post("a", "x.example", 5);
	clock_fake(USEC_PER_SEC, NOON - DAY_MSEC);
	post("a", "x.example", 5);
	went("bcbcaaaaaa");
	clock_fake(USEC_PER_SEC, NOON + 30 * DAY_MSEC);
	post("a", "x.example", 8);
	went("bcbcaaaaaabcbcbcaa");
	finish();
}

Test(cold, a_virtual_mta_of_a_pool_has_them_too_and_two_warm_ones_share_them)
{
	start(COLD "[virtual-mta-pool q]\nvirtual-mta = d\ncold-virtual-mta = b\n");
	post("p", "x.example", 8);
	went("bdcdbdcd");
	post("q", "x.example", 2);
	went("bdcdbdcddd");
	finish();
}

Test(cold, a_virtual_mta_may_take_back_those_of_its_pool)
{
	start(COLD "[virtual-mta e]\ncold-virtual-mta = \"\"\n"
		   "[virtual-mta-pool q]\nvirtual-mta = d, e\ncold-virtual-mta = b\n");
	post("q", "x.example", 4);
	went("bebe");
	finish();
}

Test(cold, a_provider_s_named_domains_are_one_site)
{
	start(COLD "[provider big]\nmx = mx.big.example\ndomains = m1.example, m2.example\n"
		   "[domain big.rollup]\nmax-cold-virtual-mta-msg = 1/d\n");
	post("a", "m1.example", 1);
	post("a", "m2.example", 2);
	went("bca");
	finish();
}

Test(cold, a_domain_that_keeps_its_own_site_is_no_provider_s)
{
	start(COLD
	      "[provider big]\nmx = mx.big.example\ndomains = m1.example, m2.example\n"
	      "[domain big.rollup]\nmax-cold-virtual-mta-msg = 1/d\n"
	      "[domain m1.example]\ndisable-mx-rollup = yes\nmax-cold-virtual-mta-msg = 2/d\n");
	post("a", "m2.example", 3);
	post("a", "m1.example", 5);
	went("bcabcbca");
	finish();
}

Test(cold, domains_of_a_provider_are_one_site_once_their_mx_is_known)
{
	struct spool_recipient r;

	start(COLD "[provider big]\nmx = mx.big.example\n"
		   "[domain big.rollup]\nmax-cold-virtual-mta-msg = 1/d\n");
	post("a", "m1.example", 1);
	cr_assert(fix_recipient(&f, next_id - 1, 0, &r));
	fix_report_member(&f, fix_worker(&f, 0, "a", 1), r.queue, "big.rollup");
	restart();
	post("a", "m1.example", 3);
	went("abca");
	finish();
}

Test(cold, one_without_a_usable_source_takes_none)
{
	start("[global]\nhost-name = mta.example\n"
	      "[virtual-mta a]\ncold-virtual-mta = b\n"
	      "[virtual-mta b]\nsmtp-source-host = 127.0.0.2\n"
	      "[domain *]\nmax-cold-virtual-mta-msg = 5/d\n");
	report_disabled(fix_worker(&f, 0, "b", 1), "x.example", "127.0.0.2", false);
	post("a", "x.example", 2);
	post("a", "y.example", 1);
	went("aab");
	finish();
}

Test(cold, one_whose_source_an_operator_has_disabled_takes_none)
{
	start("[global]\nhost-name = mta.example\n"
	      "[virtual-mta a]\ncold-virtual-mta = b\n"
	      "[virtual-mta b]\nsmtp-source-host = 127.0.0.2\n"
	      "[domain *]\nmax-cold-virtual-mta-msg = 5/d\n");
	tell(ORDER_DISABLE_SOURCE, "127.0.0.2", "*", 0);
	post("a", "x.example", 2);
	tell(ORDER_ENABLE_SOURCE, "127.0.0.2", "*", 0);
	post("a", "x.example", 1);
	went("aab");
	finish();
}

/* --- another member, later --- */

static void report_move(struct shm_ring *ring, uint32_t queue, bool reselect, const char *target,
			uint64_t msgid, uint32_t n)
{
	struct report_park_item items[16];
	struct report_move m = {.queue = queue,
				.reselect = reselect,
				.target = slice_str(target),
				.items = items,
				.item_count = n};
	struct buf b = BUF_INIT;

	for (uint32_t i = 0; i < n; i++)
		items[i] = (struct report_park_item){msgid, i};
	report_move_encode(&m, &b);
	cr_assert(ring_put(ring, REPORT_MOVE, b.p, b.n));
	buf_done(&b);
	cr_assert_eq(fix_commit(&f, NULL), 0);
}

static uint32_t queue_of_first(uint64_t msgid)
{
	struct spool_recipient r;

	cr_assert(fix_recipient(&f, msgid, 0, &r));
	return r.queue;
}

Test(reselect, takes_a_member_that_is_well_and_not_again_within_the_interval)
{
	struct shm_ring *a, *b;

	start(HEAD "[virtual-mta-pool p]\nvirtual-mta = a, b, c\nreselect = backoff\n");
	a = fix_worker(&f, 0, "a", 1);
	b = fix_worker(&f, 1, "b", 2);
	next_id = 100;
	post("p", "x.example", 1);
	went("a");
	report_disabled(a, "x.example", NULL, true);
	report_disabled(b, "x.example", NULL, true);
	report_move(a, queue_of_first(100), true, "p", 100, 1);
	went("c");
	report_move(a, queue_of_first(100), true, "p", 100, 1);
	went("c");
	clock_fake(USEC_PER_SEC, NOON + 3600 * 1000);
	report_disabled(b, "x.example", NULL, false);
	report_move(a, queue_of_first(100), true, "p", 100, 1);
	went("b");
	finish();
}

Test(reselect, stays_where_no_member_is_better)
{
	struct shm_ring *a, *b;

	start(HEAD "[virtual-mta-pool p]\nvirtual-mta = a, b\nreselect = backoff\n");
	a = fix_worker(&f, 0, "a", 1);
	b = fix_worker(&f, 1, "b", 2);
	next_id = 100;
	post("p", "x.example", 1);
	report_disabled(a, "x.example", NULL, true);
	report_disabled(b, "x.example", "127.0.0.2", false);
	report_move(a, queue_of_first(100), true, "p", 100, 1);
	went("a");
	finish();
}

Test(reselect, never_chooses_a_member_that_an_operator_has_disabled)
{
	struct shm_ring *a;

	start(HEAD "[virtual-mta-pool p]\nvirtual-mta = a, b, c\nreselect = backoff\n");
	a = fix_worker(&f, 0, "a", 1);
	next_id = 100;
	post("p", "x.example", 1);
	report_disabled(a, "x.example", NULL, true);
	tell(ORDER_DISABLE_SOURCE, "127.0.0.2", "*/b", 0);
	report_move(a, queue_of_first(100), true, "p", 100, 1);
	went("c");
	finish();
}

Test(reselect, never_chooses_a_member_that_is_being_warmed_up)
{
	struct shm_ring *a;

	start(HEAD "[virtual-mta-pool p]\nvirtual-mta = a, b, c\nreselect = backoff\n"
		   "[virtual-mta d]\ncold-virtual-mta = b\n"
		   "[warm-up w]\nvirtual-mta = c\nstart = 2026-11-01\nschedule = 10,20\n");
	a = fix_worker(&f, 0, "a", 1);
	next_id = 100;
	post("p", "x.example", 1);
	report_disabled(a, "x.example", NULL, true);
	report_move(a, queue_of_first(100), true, "p", 100, 1);
	went("a");
	finish();
}

Test(move, to_where_nobody_is_waits_and_to_where_mail_is_discarded_ends)
{
	struct spool_recipient r;
	struct shm_ring *a;

	start(HEAD "[domain x.example/b]\ntype = discard\n");
	a = fix_worker(&f, 0, "a", 1);
	next_id = 100;
	post("a", "x.example", 3);
	report_move(a, queue_of_first(100), false, "gone", 100, 1);
	cr_assert(fix_recipient(&f, 100, 0, &r));
	cr_assert(!r.fresh && r.due == NOON + 60000, "not at once again");
	report_move(a, r.queue + 1, false, "b", 100, 3);
	went("aaa");
	report_move(a, r.queue, false, "b", 100, 2);
	went("a");
	cr_assert_eq(fix_records(&f, ACCT_DELIVERED), 2);
	report_move(a, r.queue, false, "c", 100, 3);
	went("c");
	cr_assert(fix_recipient(&f, 100, 2, &r));
	cr_assert_eq(r.due, NOON, "since it came");
	finish();
}
