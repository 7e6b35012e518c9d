/* links: common/base common/conf common/spool common/shm common/ipc common/smtp common/mail common/acct common/dns/route.c common/dns/wire.c spooler/commit.c spooler/commit_*.c spooler/dsn_row.c worker -worker/resolver.c -worker/resolver_main.c -worker/resolver_packet.c -worker/resolver_record.c -worker/resolver_route.c -worker/resolver_server.c -worker/resolver_upstream.c tests/replay/world.c tests/replay/mx.c tests/replay/fake_loop.c tests/replay/fake_stream.c tests/replay/fake_dns.c */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/log.h"
#include "tests/replay/mx.h"
#include "tests/replay/world.h"

/* 40 connections of the virtual MTA; a message takes two round trips of 100 ms. */
#define SLOTS 40
#define CONF                                             \
	"max-smtp-out = 40\n"                            \
	"[domain *]\nmax-smtp-out = 5\nsmtp-port = 25\n" \
	"retry-after = 10m,30m\nbounce-after = 4d12h\n"
#define EACH 120 /* messages to a living domain */

static struct world x;
static struct mx mx;
static unsigned living_count, dead_count;

static void start(void)
{
	const char *full = getenv("SLUICE_TORTURE");

	living_count = full ? 1000 : 100;
	dead_count = 10 * living_count;
	memset(&mx, 0, sizeof(mx));
	world_shm.max_live_queues = 32768;
	world_new(&x, CONF);
	fake_latency(50 * USEC_PER_MSEC);
}

static void finish(void)
{
	world_check(&x);
	world_free(&x);
	mx_done(&mx);
}

static void add_living(unsigned i)
{
	char ip[32], domain[32], hosts[80];

	snprintf(ip, sizeof(ip), "198.18.%u.%u", i / 200, 1 + i % 200);
	snprintf(domain, sizeof(domain), "living%u.test", i);
	snprintf(hosts, sizeof(hosts), "10 mx.%s %s", domain, ip);
	mx_listen(&mx, ip, WORLD_PORT);
	fake_dns_mx(domain, hosts);
}

static void add_dead(unsigned i)
{
	char ip[32], domain[32], hosts[80];

	snprintf(ip, sizeof(ip), "203.%u.%u.%u", 1 + i / 40000, i / 200 % 200, 1 + i % 200);
	snprintf(domain, sizeof(domain), "dead%u.test", i);
	snprintf(hosts, sizeof(hosts), "10 mx.%s %s", domain, ip);
	switch (i % 4) {
	case 0:
		fake_dns_status(domain, DNS_NXDOMAIN, "");
		return;
	case 1:
		fake_dns_status(domain, DNS_TEMPFAIL, "SERVFAIL");
		return;
	default:
		fake_host(ip, WORLD_PORT, i % 4 == 2 ? FAKE_SILENT : FAKE_REFUSING, NULL, NULL);
		fake_dns_mx(domain, hosts);
	}
}

static void send_to(const char *kind, unsigned i)
{
	char rcpt[64];

	snprintf(rcpt, sizeof(rcpt), "a@%s%u.test", kind, i);
	world_send(&x, "s@sender.test", rcpt);
}

static void send_round(unsigned round, bool dead)
{
	for (unsigned i = 0; i < living_count; i++) {
		for (unsigned k = 0; dead && k < 10 && round < 2; k++)
			send_to("dead", 10 * i + k);
		send_to("living", i);
	}
}

static bool with_dead;

static void send_flood(void *arg ATTR_UNUSED)
{
	for (unsigned r = 0; r < EACH; r++)
		send_round(r, with_dead);
}

/* From the flood until the last message to a living domain was delivered. */
static usec_t time_of_living(bool known, bool dead)
{
	usec_t last = 0, begin = known ? MINUTE : 0;

	start();
	with_dead = dead;
	for (unsigned i = 0; i < living_count; i++)
		add_living(i);
	for (unsigned i = 0; dead && i < dead_count; i++)
		add_dead(i);
	if (known)
		send_round(EACH, false);
	fake_at(begin, send_flood, NULL);
	world_run(&x, begin + 15 * MINUTE);
	for (size_t i = 0; i < x.record_count; i++)
		if (x.records[i].type == 'd' && x.records[i].at > last)
			last = x.records[i].at;
	cr_assert_eq(world_count(&x, 'd'), living_count * (EACH + known));
	cr_assert_leq(mx.peak, SLOTS);
	finish();
	return last - begin;
}

Test(dead, ten_dead_domains_to_each_living_one_do_not_slow_it)
{
	usec_t alone = time_of_living(true, false), beside = time_of_living(true, true);

	cr_log_info("alone %.1f s, beside dead domains %.1f s", (double)alone / 1e6,
		    (double)beside / 1e6);
	cr_assert_leq(beside, alone + alone / 10, "alone %.1f s, beside dead domains %.1f s",
		      (double)alone / 1e6, (double)beside / 1e6);
}

/* Nothing is known of any domain: each silent one has a place for half a second, half of them at a time at first. */
Test(dead, unknown_domains_are_found_out_quickly)
{
	usec_t alone = time_of_living(false, false), beside = time_of_living(false, true);
	usec_t silent = dead_count / 4 * 800 * USEC_PER_MSEC / (SLOTS / 4);

	cr_assert_leq(beside, alone + alone / 10 + silent,
		      "alone %.1f s, beside dead domains %.1f s", (double)alone / 1e6,
		      (double)beside / 1e6);
}

/* --- when look-ups fail, none is believed that says "no such domain" --- */

#define DNS_CONF "[domain *]\nbounce-upon-nxdomain = 5m\nsmtp-port = 25\nretry-after-dns-error = "

static FILE *said; /* the log */

/* One domain that does not exist, and so many whose look-ups fail. */
static void start_failing(unsigned failing, const char *retry_after)
{
	char conf[120], domain[32];

	snprintf(conf, sizeof(conf), DNS_CONF "%s\n", retry_after);
	memset(&mx, 0, sizeof(mx));
	world_new(&x, conf);
	mx_listen(&mx, "198.51.100.1", WORLD_PORT);
	fake_dns_status("typo.test", DNS_NXDOMAIN, "");
	world_send(&x, "s@sender.test", "a@typo.test");
	for (unsigned i = 0; i < failing; i++) {
		snprintf(domain, sizeof(domain), "failing%u.test", i);
		fake_dns_status(domain, DNS_TEMPFAIL, "SERVFAIL");
		send_to("failing", i);
	}
	said = tmpfile();
	log_set_fd(fileno(said));
	log_set_level(LOG_LEVEL_WARN);
}

static unsigned warnings(void)
{
	char line[400];
	unsigned n = 0;

	rewind(said);
	while (fgets(line, sizeof(line), said))
		n += strstr(line, "no domain is declared dead") != NULL;
	return n;
}

static void finish_failing(void)
{
	log_set_fd(-1);
	fclose(said);
	finish();
}

static void mend_dns(void *arg ATTR_UNUSED)
{
	char domain[32];

	for (unsigned i = 0; i < 9; i++) {
		snprintf(domain, sizeof(domain), "failing%u.test", i);
		fake_dns_mx(domain, "10 mx.test 198.51.100.1");
	}
}

Test(dead, no_domain_is_declared_dead_while_look_ups_fail)
{
	start_failing(9, "1m");
	fake_at(30 * MINUTE + 30 * USEC_PER_SEC, mend_dns, NULL);
	world_run(&x, 30 * MINUTE);
	cr_assert_eq(world_count(&x, 'b'), 0);
	cr_assert_eq(warnings(), 1, "%u warnings", warnings());
	world_run(&x, 35 * MINUTE);
	cr_assert_eq(world_count(&x, 'd'), 9);
	cr_assert_eq(world_count(&x, 'b'), 1, "look-ups are to be believed again");
	finish_failing();
}

Test(dead, few_failing_look_ups_say_nothing_of_the_others)
{
	start_failing(3, "1m");
	world_run(&x, 6 * MINUTE);
	cr_assert_eq(world_count(&x, 'b'), 1);
	cr_assert_eq(warnings(), 0);
	finish_failing();
}

Test(dead, look_ups_that_failed_long_ago_say_nothing)
{
	start_failing(20, "1h");
	world_run(&x, 6 * MINUTE);
	cr_assert_eq(warnings(), 1);
	cr_assert_eq(world_count(&x, 'b'), 1);
	finish_failing();
}

/* A few of them are always there, and each is asked for every minute. */
Test(dead, domains_whose_look_ups_fail_for_ever_say_nothing)
{
	start_failing(20, "1m");
	world_run(&x, 2 * HOUR);
	cr_assert_eq(warnings(), 1);
	cr_assert_eq(world_count(&x, 'b'), 1);
	cr_assert_geq(world_nth(&x, 'b', 0)->at, HOUR);
	finish_failing();
}
