/* links: common/base common/conf common/spool common/shm common/ipc common/smtp common/mail common/acct common/dns/route.c common/dns/wire.c worker -worker/resolver.c -worker/resolver_main.c -worker/resolver_packet.c -worker/resolver_record.c -worker/resolver_route.c -worker/resolver_server.c -worker/resolver_upstream.c tests/replay/fake_loop.c tests/replay/fake_stream.c tests/replay/fake_dns.c */
#include <criterion/criterion.h>
#include <string.h>

#include "common/shm/shm.h"
#include "tests/replay/fake_net.h"
#include "worker/context.h"
#include "worker/duties.h"
#include "worker/events.h"
#include "worker/mode.h"
#include "worker/post.h"
#include "worker/site.h"
#include "worker/tempo.h"

#define NOW UINT64_C(1795305600000)
#define MINUTE (60 * USEC_PER_SEC)
#define HOUR (60 * MINUTE)

static const struct ip one = {IP_V4, {192, 0, 2, 1}}, two = {IP_V4, {192, 0, 2, 2}};
static struct conf_source_host hosts[] = {{.host = "a.test"}, {.host = "b.test"}};
static struct conf_vmta vmta = {.name = "a"};
static struct conf_domain set;
static struct shm_counters counters;
static struct heritage h;
static struct worker w;
static struct queue q;
static struct site s;
static char name[] = "x.test", label[] = "x.test/a";

static void setup(void)
{
	static const struct conf_rate none = {.n = UINT64_MAX, .per = USEC_PER_SEC};

	fake_time_start(NOW);
	hosts[0].ip = one;
	hosts[1].ip = two;
	vmta.smtp_source_host.v = hosts;
	vmta.smtp_source_host.n = 2;
	set = (struct conf_domain){
		.max_smtp_out = 20,
		.max_msg_rate = none,
		.backoff_reduce = 40,
		.backoff_hold = 7 * USEC_PER_SEC,
		.backoff_min_msg_rate = {.n = 2, .per = MINUTE},
		.backoff_recover_interval = 20 * USEC_PER_SEC,
		.backoff_recover_step = 10,
		.backoff_to_normal_after = USEC_INFINITY,
	};
	w = (struct worker){.h = &h, .vmta = &vmta, .vmta_name = "a", .counters = &counters};
	w.loop = loop_new();
	w.shm = shm_new(
		&(struct shm_config){.max_workers = 1, .ring_size = 65536, .max_live_queues = 16});
	w.post = post_new(&w);
	w.duties = duties_new(&w);
	q = (struct queue){.magic = QUEUE_MAGIC, .w = &w, .id = 7, .site = &s};
	s = (struct site){.magic = SITE_MAGIC, .w = &w, .name = name, .label = label, .set = &set};
	TAILQ_INIT(&s.queues);
	TAILQ_INIT(&s.connections);
	TAILQ_INSERT_TAIL(&s.queues, &q, in_site);
}

/* The loop ticks like the worker's, once a second. */
static void wait_for(usec_t time)
{
	usec_t until = fake_elapsed() + time;

	while (fake_elapsed() < until) {
		fake_loop_until(fake_elapsed() + USEC_PER_SEC);
		loop_run(w.loop);
		mode_tick(&s);
	}
}

/* Recipients a minute, rounded. */
static unsigned rate(const struct ip *source)
{
	struct conf_rate r = mode_source_msg_rate(&s, source);

	return r.n == UINT64_MAX ? 0
				 : (unsigned)((double)r.n * (double)MINUTE / (double)r.per + 0.5);
}

static void refused(const struct ip *source)
{
	const struct site_place at = {.mx_name = "mx", .source_ip = *source};

	mode_enter_backoff(&s, "421 slow down", &at, 0);
}

Test(mode, numbers_of_the_search_are_those_of_the_settings, .init = setup)
{
	mode_delivered(&s, &one, 1000, NOW);
	mode_delivered(&s, &two, 500, NOW);
	cr_assert_eq(rate(&one), 0);
	refused(&one);
	cr_assert_eq(rate(&one), 400, "backoff-reduce");
	cr_assert_eq(rate(&two), 200, "all sources are cut in proportion");
	wait_for(6 * USEC_PER_SEC);
	refused(&one);
	cr_assert_eq(rate(&one), 400, "backoff-hold");
	wait_for(2 * USEC_PER_SEC);
	refused(&one);
	cr_assert_eq(rate(&one), 160);
	cr_assert_eq(rate(&two), 200, "its own allowance");
	wait_for(12 * USEC_PER_SEC);
	cr_assert_eq(rate(&two), 220, "backoff-recover-interval and -step");
	for (int i = 0; i < 20; i++) {
		wait_for(8 * USEC_PER_SEC);
		refused(&one);
	}
	cr_assert_eq(rate(&one), 2, "backoff-min-msg-rate");
	cr_assert(mode_is_backoff(&s));
	wait_for(2 * HOUR);
	cr_assert_not(mode_is_backoff(&s), "by itself");
	cr_assert_eq(rate(&one), 0);
}

Test(mode, a_least_rate_below_one_an_hour_is_one_an_hour, .init = setup)
{
	struct conf_rate r;

	set.backoff_min_msg_rate = (struct conf_rate){.n = 1, .per = 24 * HOUR};
	refused(&one); /* nothing was accepted: straight to the least */
	r = mode_source_msg_rate(&s, &one);
	cr_assert_gt(r.per, 0);
	cr_assert_eq(r.n * HOUR, r.per);
	wait_for(10 * USEC_PER_SEC);
	cr_assert(mode_is_backoff(&s), "it is not over at once");
}

Test(mode, recovery_begins_when_the_time_is_over, .init = setup)
{
	set.backoff_to_normal_after = HOUR;
	mode_delivered(&s, &one, 1000, NOW);
	refused(&one);
	wait_for(HOUR);
	cr_assert_eq(rate(&one), 400);
	wait_for(21 * USEC_PER_SEC);
	cr_assert_eq(rate(&one), 440);
}

Test(mode, the_time_of_the_pattern_counts, .init = setup)
{
	msec_t since, until;
	const char *why;

	set.backoff_to_normal_after = HOUR;
	mode_enter_backoff(&s, "421 x", NULL, MINUTE);
	mode_describe(&s, &since, &until, &why);
	cr_assert_eq(until, NOW + MINUTE / USEC_PER_MSEC);
	cr_assert_str_eq(why, "421 x");
	mode_enter_backoff(&s, "421 y", NULL, USEC_INFINITY);
	mode_describe(&s, &since, &until, &why);
	cr_assert_eq(until, 0);
	cr_assert_str_eq(why, "421 y");
}

Test(mode, ends_at_the_configured_rate, .init = setup)
{
	set.max_msg_rate = (struct conf_rate){.n = 420, .per = MINUTE};
	mode_delivered(&s, &one, 1000, NOW);
	mode_delivered(&s, &two, 1000, NOW);
	refused(&one);
	cr_assert_eq(mode_msg_rate(&s).n, 420);
	wait_for(21 * USEC_PER_SEC);
	cr_assert_not(mode_is_backoff(&s));
}

Test(mode, finds_out_the_rate_when_a_reload_takes_the_twins_away, .init = setup)
{
	set.backoff_max_smtp_out = 2;
	mode_delivered(&s, &one, 1000, NOW);
	refused(&one);
	cr_assert_eq(rate(&one), 0);
	set.backoff_max_smtp_out = 0;
	wait_for(2 * USEC_PER_SEC);
	cr_assert_eq(rate(&one), 400);
	wait_for(HOUR);
	cr_assert_not(mode_is_backoff(&s), "it recovers");
}

Test(mode, keeps_to_twins_when_a_reload_brings_some, .init = setup)
{
	set.backoff_to_normal_after = HOUR;
	mode_delivered(&s, &one, 1000, NOW);
	refused(&one);
	cr_assert_eq(rate(&one), 400);
	set.backoff_max_smtp_out = 2;
	wait_for(2 * USEC_PER_SEC);
	cr_assert_eq(rate(&one), 0, "nothing that is found out holds beside them");
	cr_assert_eq(mode_max_smtp_out(&s), 2);
	wait_for(HOUR - MINUTE);
	cr_assert(mode_is_backoff(&s));
	wait_for(2 * MINUTE);
	cr_assert_not(mode_is_backoff(&s));
}

Test(mode, comes_back_from_the_row_as_it_was, .init = setup)
{
	struct buf scratch = BUF_INIT, stored = BUF_INIT;
	struct site_mode row;
	struct site_change c;
	struct dec d;

	mode_delivered(&s, &one, 1000, NOW);
	refused(&one);
	mode_go_normal(&s, "done");
	mode_delivered(&s, &one, 1000, NOW);
	refused(&one);
	mode_fill(&s, &scratch, &row);
	cr_assert_not(site_mode_is_plain(&row));
	site_mode_encode(&row, &stored);
	mode_free(&s);
	tempo_free(&s);
	cr_assert_not(mode_is_backoff(&s));
	d = dec_of(stored.p, stored.n);
	site_mode_decode(&d, &row);
	cr_assert(dec_end(&d));
	mode_load(&s, &row);
	cr_assert(mode_is_backoff(&s));
	cr_assert_eq(rate(&one), 800);
	cr_assert(mode_change_at(&s, 2, &c) && c.mode == SITE_BACKOFF &&
		  slice_eq_str(c.why, "421 slow down"));
	cr_assert(mode_change_at(&s, 1, &c) && c.mode == SITE_NORMAL &&
		  slice_eq_str(c.why, "done"));
	cr_assert_not(mode_change_at(&s, 3, &c));
	buf_done(&scratch);
	buf_done(&stored);
}

Test(mode, what_the_receiver_took_does_not_make_it_a_bad_host, .init = setup)
{
	cr_assert_not(mode_absorbs(&s));
	refused(&one);
	cr_assert_not(mode_absorbs(&s), "it took nothing");
	mode_delivered(&s, &one, 1, NOW);
	cr_assert(mode_absorbs(&s));
	wait_for(2 * MINUTE);
	cr_assert_not(mode_absorbs(&s));
}
