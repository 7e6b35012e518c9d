/* links: common/base common/conf common/spool common/shm common/ipc common/smtp common/mail common/acct common/dns/route.c common/dns/wire.c spooler/commit.c spooler/commit_*.c spooler/dsn_row.c worker -worker/resolver.c -worker/resolver_main.c -worker/resolver_packet.c -worker/resolver_record.c -worker/resolver_route.c -worker/resolver_server.c -worker/resolver_upstream.c tests/replay/world.c tests/replay/mx.c tests/replay/fake_loop.c tests/replay/fake_stream.c tests/replay/fake_dns.c */
/*
 * Warm-ups: how many recipients each address tries at each site and day, over restarts and crashes, and
 * what the next day's number is made of. Receivers count with every RCPT.
 */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/base/localday.h"
#include "common/base/rng.h"
#include "tests/replay/mx.h"
#include "tests/replay/world.h"

#define ADDRESSES 50
#define SITES 2
#define DAYS 40

static struct world x;
/* One receiver for each site; its counts by day and last byte of the source address. */
static struct site {
	struct mx mx;
	unsigned seen[DAYS][256];
	unsigned transient, bounced; /* of 100 recipients so many are refused, by 4xx or for spam */
	unsigned turn;
} sites[SITES];
static uint32_t first_day;
static unsigned limit[DAYS]; /* no address may ever have more; 0: no such limit */

static unsigned today(void)
{
	return localday_of(clock_wall()) - first_day;
}

static const char *answer(struct mx *mx, enum mx_event what, unsigned c ATTR_UNUSED,
			  const char *line ATTR_UNUSED)
{
	struct site *s = mx->arg;
	unsigned *seen = &s->seen[today()][mx->source.b[3]];

	mx->entries = 1; /* nobody reads the journal */
	if (what != MX_RCPT)
		return NULL;
	++*seen;
	cr_assert(!limit[today()] || *seen <= limit[today()], "day %u: %u from .%u", today(), *seen,
		  mx->source.b[3]);
	if (s->turn++ % 100 < s->transient)
		return "451 4.7.1 try later";
	if (s->turn % 100 < s->bounced)
		return "550 5.7.1 looks like spam";
	return NULL;
}

static void start_in(const char *zone, const char *conf)
{
	world_new(&x, conf);
	setenv("TZ", zone, 1);
	tzset();
	memset(sites, 0, sizeof(sites));
	memset(limit, 0, sizeof(limit));
	first_day = localday_of(clock_wall());
	for (unsigned i = 0; i < SITES; i++) {
		char ip[32], domain[32], mx[64];

		snprintf(ip, sizeof(ip), "198.51.100.%u", i + 1);
		snprintf(domain, sizeof(domain), "site%u.test", i);
		snprintf(mx, sizeof(mx), "10 mx.site%u.test %s", i, ip);
		sites[i].mx.answer = answer;
		sites[i].mx.arg = &sites[i];
		mx_listen(&sites[i].mx, ip, WORLD_PORT);
		fake_dns_mx(domain, mx);
	}
	fake_dns_mx("also1.test", "10 mx.site1.test 198.51.100.2");
}

static void start(const char *conf)
{
	start_in("UTC0", conf);
}

static void finish(void)
{
	world_check(&x);
	world_free(&x);
	for (unsigned i = 0; i < SITES; i++)
		mx_done(&sites[i].mx);
}

static void mail_to(const char *rcpt, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		world_send(&x, "", rcpt);
}

static void mail(unsigned site, unsigned n)
{
	char to[40];

	snprintf(to, sizeof(to), "a@site%u.test", site);
	mail_to(to, n);
}

/* A while of the day; then the rest of it passes without a worker. */
static void live(usec_t a_while)
{
	usec_t began = fake_elapsed();

	world_run(&x, began + a_while);
	fake_wall_jump(24 * 3600 - (int64_t)((fake_elapsed() - began) / USEC_PER_SEC));
}

#define CONF(more)                                                                            \
	"[domain *]\nretry-after = 10m\nbounce-after = 50d\n[warm-up new]\nvirtual-mta = a\n" \
	"schedule = 3, 5, 8\n" more

Test(warmup, no_day_has_more_than_its_number_and_the_rest_waits_for_the_next)
{
	static const unsigned wanted[] = {3, 5, 8, 8, 6};

	start(CONF("pace = none\n"));
	mail(0, 30);
	mail(1, 4);
	world_run(&x, 50 * HOUR);
	for (unsigned day = 2; day < ARRAY_SIZE(wanted); day++)
		live(HOUR);
	for (unsigned day = 0; day < ARRAY_SIZE(wanted); day++)
		cr_assert_eq(sites[0].seen[day][1], wanted[day], "day %u: %u", day,
			     sites[0].seen[day][1]);
	cr_assert_eq(sites[1].seen[0][1], 3, "each site has its own count");
	cr_assert_eq(sites[1].seen[1][1], 1);
	cr_assert_eq(world_left(&x), 0);
	finish();
}

/* --- 28 days, 50 addresses --- */

#define WEEKS 28

/*
 * A configuration with ADDRESSES addresses and a schedule of 1, 2, 3 …, and a provider whose domains
 * site1.test and also1.test share the number; free it.
 */
static char *many_addresses(const char *more)
{
	struct buf b = BUF_INIT;

	buf_add_str(&b, "[virtual-mta a]\n");
	for (unsigned i = 2; i <= ADDRESSES; i++)
		buf_addf(&b, "smtp-source-host = 192.0.2.%u a%u.sluice.test\n", i, i);
	buf_add_str(&b, "[domain *]\nretry-after = 10s\nbounce-after = 50d\nmax-smtp-out = 100\n"
			"[provider big]\nmx = mx.site1.test\n");
	for (unsigned i = 0; i < 2; i++) {
		buf_addf(&b,
			 "[warm-up new%u]\nprovider = %s\nvirtual-mta = a\npace = none\n"
			 "schedule = 1",
			 i, i ? "big" : "*");
		for (unsigned day = 1; day < WEEKS; day++)
			buf_addf(&b, ",%u", day + 1);
		buf_addf(&b, "\n%s", more);
	}
	return buf_take(&b);
}

static void assert_day(unsigned day, unsigned least)
{
	for (unsigned i = 0; i < SITES; i++)
		for (unsigned ip = 1; ip <= ADDRESSES; ip++)
			cr_assert(sites[i].seen[day][ip] >= least &&
					  sites[i].seen[day][ip] <= day + 1,
				  "day %u: %u to site %u from .%u", day + 1, sites[i].seen[day][ip],
				  i, ip);
}

static void live_a_day(unsigned day)
{
	usec_t began = fake_elapsed();

	for (unsigned i = 0; i < SITES; i++)
		mail(i, ADDRESSES * (day + 1) / 2 + 1);
	mail(0, ADDRESSES * (day + 1) / 2);
	mail_to("a@also1.test", ADDRESSES * (day + 1) / 2);
	limit[day] = day + 1;
	if (day % 5 == 3)
		world_run_and_kill(&x, began + 30 * USEC_PER_MSEC); /* in the middle of all */
	if (day % 5 == 4)
		world_restart_spooler(&x);
	live(10 * MINUTE);
}

Test(warmup, fifty_addresses_keep_their_counts_over_28_days_of_restarts, .timeout = 60)
{
	char *conf = many_addresses("");

	start(conf);
	free(conf);
	for (unsigned day = 0; day < WEEKS; day++) {
		live_a_day(day);
		/* what a killed worker had asked for and not used is not used any more that day */
		assert_day(day, day % 5 == 3 ? day / 2 : day + 1);
	}
	finish();
}

static const char *moody(struct mx *mx, enum mx_event what, unsigned c, const char *line)
{
	static const char *const moods[] = {"", "421 4.3.2 busy", "451 4.7.1 later",
					    "550 5.7.1 no"};
	const char *usual = answer(mx, what, c, line);

	if (what == MX_OPEN || what == MX_EHLO || rng_below(100) >= 12)
		return usual;
	return moods[rng_below(ARRAY_SIZE(moods))];
}

/* Receivers in bad moods, workers that die at any time, spoolers that begin anew: never more than the number. */
Test(warmup, no_address_has_more_whatever_breaks, .timeout = 60)
{
	char *conf = many_addresses("schedule = 4, 6, 9, 14, 20\nadvance-if = always\n");
	static const unsigned schedule[] = {4, 6, 9, 14, 20};
	unsigned total = 0;

	start(conf);
	free(conf);
	for (unsigned i = 0; i < SITES; i++)
		sites[i].mx.answer = moody;
	for (unsigned day = 0; day < 8; day++) {
		usec_t began = fake_elapsed();

		limit[day] = schedule[day < 5 ? day : 4];
		for (unsigned i = 0; i < SITES; i++)
			mail(i, 15 * ADDRESSES);
		for (unsigned life = 0; life < 2; life++) {
			world_run_and_kill(&x, fake_elapsed() + rng_below(200) * USEC_PER_MSEC);
			if (rng_below(3) == 0)
				world_restart_spooler(&x);
		}
		world_run(&x, fake_elapsed() + 10 * MINUTE);
		fake_wall_jump(24 * 3600 - (int64_t)((fake_elapsed() - began) / USEC_PER_SEC));
		for (unsigned ip = 1; ip <= ADDRESSES; ip++)
			total += sites[0].seen[day][ip];
	}
	cr_assert_gt(total, 8 * ADDRESSES * 4, "mail went all the same: %u", total);
	finish();
}

/* --- what the next day has --- */

Test(warmup, a_day_with_too_many_transient_replies_repeats)
{
	start(CONF("pace = none\nadvance-if = transient<20%\n"));
	sites[0].transient = 100;
	mail(0, 100);
	live(HOUR);
	sites[0].transient = 0;
	for (unsigned day = 1; day < 4; day++)
		live(HOUR);
	cr_assert_eq(sites[0].seen[0][1], 3);
	cr_assert_eq(sites[0].seen[1][1], 3, "the first number again");
	cr_assert_eq(sites[0].seen[2][1], 5);
	cr_assert_eq(sites[0].seen[3][1], 8);
	finish();
}

Test(warmup, a_day_with_too_many_bounces_for_spam_repeats)
{
	start(CONF("pace = none\nadvance-if = policy<20%\n"));
	sites[0].bounced = 100;
	mail(0, 100);
	live(HOUR);
	sites[0].bounced = 0;
	live(HOUR);
	live(HOUR);
	cr_assert_eq(sites[0].seen[1][1], 3, "the first number again");
	cr_assert_eq(sites[0].seen[2][1], 5);
	finish();
}

Test(warmup, a_day_with_little_mail_earns_nothing)
{
	start(CONF("pace = none\n"));
	mail(0, 1);
	for (unsigned day = 0; day < 4; day++)
		live(MINUTE);
	mail(0, 100);
	live(MINUTE);
	live(MINUTE);
	cr_assert_eq(sites[0].seen[0][1], 1);
	cr_assert_eq(sites[0].seen[4][1], 3, "still the first number");
	cr_assert_eq(sites[0].seen[5][1], 5);
	finish();
}

/* --- days --- */

Test(warmup, nothing_goes_before_it_starts)
{
	start(CONF("pace = none\nstart = 2026-11-24\n"));
	mail(0, 4);
	live(HOUR);
	world_run(&x, 25 * HOUR);
	cr_assert_eq(sites[0].seen[0][1] + sites[0].seen[1][1], 0);
	world_run(&x, 26 * HOUR);
	cr_assert_eq(sites[0].seen[2][1], 3, "at midnight");
	live(MINUTE);
	live(MINUTE);
	cr_assert_eq(sites[0].seen[3][1], 1);
	finish();
}

/* The clock is set back over midnight, and over a day. */
Test(warmup, a_clock_that_goes_back_brings_no_day_back)
{
	start(CONF("pace = none\n"));
	mail(0, 20);
	fake_wall_jump(23 * 3600);
	world_run(&x, 2 * HOUR); /* from 23:00 to 01:00 */
	cr_assert_eq(sites[0].seen[0][1], 3);
	cr_assert_eq(sites[0].seen[1][1], 5);
	fake_wall_jump(-2 * 3600); /* 23:00 */
	world_run(&x, 2 * HOUR + HOUR / 2);
	cr_assert_eq(sites[0].seen[0][1], 3);
	world_run(&x, 4 * HOUR);
	fake_wall_jump(-24 * 3600); /* 01:00 the day before */
	world_run(&x, 5 * HOUR);
	fake_wall_jump(21 * 3600); /* 23:00 */
	world_run(&x, 7 * HOUR);
	cr_assert_eq(sites[0].seen[0][1], 3);
	cr_assert_eq(sites[0].seen[1][1], 5);
	cr_assert_eq(sites[0].seen[2][1], 0);
	fake_wall_jump(22 * 3600);
	world_run(&x, 9 * HOUR);
	cr_assert_eq(sites[0].seen[2][1], 8);
	finish();
}

/* Clocks are moved on 2026-11-22 by zones that are made for that; from 20:00 on the day before. */
Test(warmup, days_of_23_and_of_25_hours_have_their_number)
{
	static const char *const zones[] = {"A0B-1,M11.4.0/3,M4.1.0/3", "A0B-1,M4.1.0/3,M11.4.0/3",
					    "A0B-1,M11.4.0/0,M4.1.0/0", "A0B-1,M4.1.0/0,M11.4.0/0"};

	for (size_t i = 0; i < ARRAY_SIZE(zones); i++) {
		start_in(zones[i], CONF(""));
		fake_wall_jump(-4 * 3600);
		first_day = 20778; /* 2026-11-21 */
		limit[0] = 3;
		limit[1] = 5;
		limit[2] = 8;
		mail(0, 9);
		world_run(&x, 30 * HOUR);
		cr_assert_eq(sites[0].seen[0][1], 3, "zone %zu: %u", i, sites[0].seen[0][1]);
		cr_assert_eq(sites[0].seen[1][1], 5, "zone %zu: %u", i, sites[0].seen[1][1]);
		cr_assert_eq(sites[0].seen[2][1], 1, "zone %zu: %u", i, sites[0].seen[2][1]);
		finish();
	}
}

/* --- pace --- */

static usec_t times[200];
static unsigned time_count;

static const char *keep_times(struct mx *mx, enum mx_event what, unsigned c, const char *line)
{
	if (what == MX_RCPT && time_count < ARRAY_SIZE(times))
		times[time_count++] = fake_elapsed();
	return answer(mx, what, c, line);
}

Test(warmup, an_even_pace_spreads_the_number_over_the_rest_of_the_day)
{
	start("[domain *]\nbounce-after = 50d\n[warm-up new]\nvirtual-mta = a\nschedule = 96\n");
	time_count = 0;
	sites[0].mx.answer = keep_times;
	fake_wall_jump(12 * 3600);
	mail(0, 150);
	world_run(&x, 12 * HOUR - MINUTE);
	cr_assert_eq(time_count, 96);
	for (unsigned i = 1; i < 96; i++)
		cr_assert(times[i] - times[i - 1] >= 7 * MINUTE &&
				  times[i] - times[i - 1] <= 8 * MINUTE,
			  "recipient %u after %.1f s", i, (double)(times[i] - times[i - 1]) / 1e6);
	cr_assert_lt(sites[0].mx.peak, 2);
	finish();
}

/* A message to more recipients than the day has left goes to them in parts. */
Test(warmup, a_transaction_takes_what_the_day_has_left)
{
	static const unsigned wanted[] = {3, 5, 2};

	start(CONF("pace = none\n"));
	world_send(&x, "",
		   "a@site0.test b@site0.test c@site0.test d@site0.test e@site0.test "
		   "f@site0.test g@site0.test h@site0.test i@site0.test j@site0.test");
	for (unsigned day = 0; day < 3; day++)
		live(HOUR);
	for (unsigned day = 0; day < ARRAY_SIZE(wanted); day++)
		cr_assert_eq(sites[0].seen[day][1], wanted[day], "day %u: %u", day,
			     sites[0].seen[day][1]);
	cr_assert_eq(sites[0].mx.transactions, 3);
	finish();
}

/* --- overflow --- */

#define OVERFLOW_CONF "[virtual-mta b]\nsmtp-source-host = 192.0.2.200\n"

/* Recipients that the other virtual MTA has. */
static size_t overflowed(void)
{
	struct spool_read *r;
	struct spool_message m;
	struct spool_recipient rcpt;
	struct spool_queue q;
	struct spool_vmta v;
	uint64_t msgid = 0;
	size_t n = 0;

	cr_assert_eq(spool_read_begin(x.spool, &r), 0);
	while (spool_message_next(r, &msgid, &m) > 0) {
		uint32_t from = 0;

		while (spool_message_recipient(r, m.id, &from, &rcpt) > 0)
			n += spool_queue_get(r, rcpt.queue, &q) == 0 &&
			     spool_vmta_get(r, q.vmta, &v) == 0 && slice_eq_str(v.name, "b");
	}
	spool_read_end(r);
	return n;
}

static void send_one(void *arg ATTR_UNUSED)
{
	mail(0, 1);
}

Test(warmup, what_is_over_the_number_goes_to_the_other_virtual_mta)
{
	start(OVERFLOW_CONF CONF("pace = none\noverflow = b\n"));
	mail(0, 10);
	mail(1, 2);
	live(MINUTE);
	cr_assert_eq(sites[0].seen[0][1], 3);
	cr_assert_eq(overflowed(), 7);
	for (unsigned i = 0; i < 6; i++) /* the next day */
		fake_at(fake_elapsed() + 2 * USEC_PER_SEC, send_one, NULL);
	live(MINUTE);
	cr_assert_eq(sites[0].seen[1][1], 5);
	cr_assert_eq(overflowed(), 8);
	cr_assert_eq(sites[1].seen[0][1], 2);
	cr_assert_eq(world_left(&x), 8);
	finish();
}

/* One an hour goes from the new address, at its time; the others do not wait for theirs. */
Test(warmup, an_even_pace_takes_what_comes_at_its_time_and_the_rest_overflows)
{
	start(OVERFLOW_CONF "[domain *]\nbounce-after = 50d\n[warm-up new]\nvirtual-mta = a\n"
			    "schedule = 24\noverflow = b\n");
	for (unsigned i = 0; i < 10 * 60; i++)
		fake_at(i * MINUTE, send_one, NULL);
	world_run(&x, 10 * HOUR);
	cr_assert(sites[0].seen[0][1] >= 9 && sites[0].seen[0][1] <= 11, "%u", sites[0].seen[0][1]);
	cr_assert_eq(world_left(&x), overflowed(), "nothing waits");
	cr_assert_eq(overflowed() + sites[0].seen[0][1], 600);
	finish();
}
