/* links: common/base common/conf common/spool common/shm common/ipc common/smtp common/mail common/acct common/dns/route.c common/dns/wire.c spooler/commit.c spooler/commit_*.c spooler/dsn_row.c worker -worker/resolver.c -worker/resolver_main.c -worker/resolver_packet.c -worker/resolver_record.c -worker/resolver_route.c -worker/resolver_server.c -worker/resolver_upstream.c tests/replay/world.c tests/replay/mx.c tests/replay/fake_loop.c tests/replay/fake_stream.c tests/replay/fake_dns.c */
/*
 * Everything at random, from a seed: mail, receivers that fail in every way, dead DNS, kills of worker
 * and spooler, a slow committer, a full disk, orders. Then all is well again, and time passes: every
 * recipient that was accepted has exactly one final record, and nothing is left.
 *
 * CHAOS_SEED=n runs that one, CHAOS_SEEDS=n so many.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/macros.h"
#include "common/base/xalloc.h"
#include "tests/replay/mx.h"
#include "tests/replay/world.h"

#define SITES 6
#define PAUSED 2 /* the first of them are paused at times */
#define CHAOS (3 * HOUR)
#define HEALING (4 * HOUR)
#define MAX_RCPTS 8000
#define MAX_KILLS 64
#define SEEDS 5

#define CONF CONF_WITH("3", "4", "3")
#define CONF_WITH(out, messages, rcpts)                                                            \
	"[virtual-mta b]\nsmtp-source-host = 192.0.2.2 b.sluice.test\n"                            \
	"[virtual-mta-pool p]\nselection = weighted\nvirtual-mta = a weight 3, b weight 1\n"       \
	"[domain *]\nretry-after = 1m,5m,10m,30m\nretry-after-dns-error = 2m\nbounce-after = 4d\n" \
	"max-smtp-out = " out "\nmax-msg-per-connection = " messages                               \
	"\nmax-rcpt-per-message = " rcpts "\n"

/* What replies of flaky() and others do to sites, sources and queues. */
#define PATTERNS                                                                              \
	"[smtp-pattern-list some]\n"                                                          \
	"reply = /not now/ skip-mx\nreply = /busy/ defer-queue=2m\n"                          \
	"reply = /bye/ mode=backoff, backoff-to-normal-after=5m, defer-queue\n"               \
	"reply = /too many/ disable-source-ip reenable-after=3m\n"                            \
	"reply = /unknown/ retry-rcpt\nreply = /4\\.2\\.0 greylisted/ bounce-rcpt\n"          \
	"reply = /^local: .*closed/ skip-mx\nreply = /^local: DNS/ defer-queue=7m\n"          \
	"[smtp-pattern-list all]\nreply = /4\\.2\\.0 later/ reroute=b\n"                      \
	"reply = /5\\.3\\.2 no/ bounce-queue\nreply = /^220/ mode=normal\n"                   \
	"[domain *]\nsmtp-pattern-list = some\n[domain d4.test/a]\nsmtp-pattern-list = all, " \
	"some\n"

enum mood { WELL, DEFERS, FLAKY, GONE, MOODS };

struct place {
	struct mx mx;
	char domain[16], ip[16], hosts[48];
	enum mood mood;
};

struct rcpt {
	char address[32];
	uint64_t msgid;
	usec_t delivered_at; /* last 250 of a receiver */
};

static struct world x;
static struct place places[SITES];
static struct rcpt rcpts[MAX_RCPTS];
static size_t rcpt_count;
static usec_t kills[MAX_KILLS];
static size_t kill_count;
static uint64_t state;
static unsigned seed_now;

/* Own numbers, so that a change in the code under test does not change the story. */
static unsigned dice(unsigned n)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (unsigned)((state >> 20) % n);
}

/* --- receivers --- */

static struct rcpt *find(const char *address)
{
	return &rcpts[atoi(address + 1)];
}

static bool killed_between(usec_t from, usec_t to)
{
	for (size_t i = 0; i < kill_count; i++)
		if (kills[i] >= from && kills[i] <= to)
			return true;
	return false;
}

/* A second delivery is excused only by a kill while the first was open. */
static void on_delivered(const char *line)
{
	for (const char *p = strchr(line, '<'); p; p = strchr(p + 1, '<')) {
		struct rcpt *r = find(p + 1);

		cr_assert(!r->delivered_at || killed_between(r->delivered_at,
							     r->delivered_at + 11 * USEC_PER_SEC),
			  "seed %u: %s was delivered at %.3f s and at %.3f s", seed_now, r->address,
			  (double)r->delivered_at / 1e6, (double)fake_elapsed() / 1e6);
		r->delivered_at = fake_elapsed();
	}
}

static const char *flaky(enum mx_event what)
{
	static const char *const openings[] = {"421 4.3.2 not now", "554 5.3.2 no", "",
					       "450 4.3.2 busy"};
	static const char *const rest[] = {
		"421 4.4.2 bye", "450 4.2.0 later", "452 4.5.3 too many", "550 5.1.1 unknown", "",
		"354 what",	 "220 what"};

	if (dice(what == MX_OPEN || what == MX_EHLO ? 4 : 6))
		return NULL;
	return what == MX_OPEN || what == MX_EHLO ? openings[dice(4)] : rest[dice(7)];
}

static const char *answer(struct mx *mx, enum mx_event what, unsigned connection ATTR_UNUSED,
			  const char *line)
{
	const struct place *p = mx->arg;
	const char *text = NULL;

	if (p->mood == DEFERS && what == MX_RCPT && dice(2))
		text = "450 4.2.0 greylisted";
	else if (p->mood == FLAKY && what != MX_QUIT)
		text = flaky(what);
	if (what == MX_DONE && (!text || *text == '2'))
		on_delivered(line);
	return text;
}

static void set_mood(struct place *p, enum mood mood)
{
	p->mood = mood;
	if (mood != GONE)
		mx_listen(&p->mx, p->ip, WORLD_PORT);
	else
		fake_host(p->ip, WORLD_PORT, dice(3) ? FAKE_REFUSING : FAKE_SILENT, NULL, NULL);
	if (mood == GONE && dice(2))
		fake_dns_status(p->domain, DNS_TEMPFAIL, "SERVFAIL");
	else
		fake_dns_mx(p->domain, p->hosts);
}

/* --- what happens --- */

static void send_one(int site)
{
	char list[256] = "";
	size_t at = 0;
	unsigned n = 1 + dice(5);
	uint64_t id;

	if (rcpt_count + n > MAX_RCPTS)
		return;
	for (unsigned i = 0; i < n; i++) {
		struct rcpt *r = &rcpts[rcpt_count + i];

		*r = (struct rcpt){.msgid = 0};
		snprintf(r->address, sizeof(r->address), "r%zu@%s", rcpt_count + i,
			 places[site < 0 ? dice(SITES) : (unsigned)site].domain);
		at += (size_t)snprintf(list + at, sizeof(list) - at, "%s%s", i ? " " : "",
				       r->address);
	}
	id = world_send_as(&x, "", list, dice(3) ? "" : "job1", (uint8_t)dice(SPOOL_CLASSES),
			   dice(10) ? 64 : 200000);
	for (unsigned i = 0; i < n; i++)
		rcpts[rcpt_count++].msgid = id;
}

static void some_order(void)
{
	static const enum order_kind kinds[] = {ORDER_PAUSE, ORDER_RESUME, ORDER_RESUME,
						ORDER_SCHEDULE, ORDER_DELETE};
	enum order_kind kind = kinds[dice(ARRAY_SIZE(kinds))];
	char pattern[32];

	snprintf(pattern, sizeof(pattern), "%s/a",
		 kind == ORDER_PAUSE || kind == ORDER_RESUME ? places[dice(PAUSED)].domain
		 : dice(6)				     ? places[dice(SITES)].domain
							     : "*");
	world_order_at(&x, fake_elapsed(), kind, pattern, dice(2));
}

/* To and fro between the two virtual MTAs. */
static void some_move(void)
{
	char pattern[32];
	bool back = dice(3) == 0;

	snprintf(pattern, sizeof(pattern), "%s/%s", dice(4) ? places[dice(SITES)].domain : "*",
		 back ? "b" : "a");
	world_move_at(&x, fake_elapsed(), pattern, back ? "a" : dice(3) ? "b" : "p");
}

static void something(void *arg);

static void again(usec_t within)
{
	usec_t at = fake_elapsed() + 1 + (usec_t)dice((unsigned)(within / 1000)) * 1000;

	if (at < CHAOS)
		fake_at(at, something, NULL);
}

static void something(void *arg ATTR_UNUSED)
{
	static const usec_t gaps[] = {0, 0, 1000, 50000, USEC_PER_SEC, 9 * USEC_PER_SEC};
	unsigned what = dice(100);

	static const char *const confs[] = {
		CONF,
		CONF_WITH("1", "1", "1"),
		CONF_WITH("20", "0", "100"),
		CONF "[domain d2.test/a, d3.test/a]\nreroute-to-virtual-mta = b\n",
		CONF "[domain d3.test/a]\nreroute-to-virtual-mta = p\n"
		     "[domain d3.test/b, d4.test/b]\nreroute-to-virtual-mta = a\n",
		CONF PATTERNS,
		CONF_WITH("20", "0", "100") PATTERNS,
		CONF "smtp-pattern-list = away\n[smtp-pattern-list away]\n"
		     "reply = /greylisted/ mode=backoff, backoff-to-normal-after=20m\n"
		     "reply = /not now/ reroute=b\n"
		     "[domain d1.test/a, d2.test/b]\nbackoff-reroute-to-virtual-mta = p\n"
		     "[virtual-mta-pool p]\nreselect = backoff\nreselect-interval = 5m\n"};

	x.route = dice(5) ? "a" : "p";

	if (what < 49) {
		for (unsigned n = dice(4) ? 1 : 20; n; n--)
			send_one(-1);
	} else if (what < 50) { /* more than a queue holds in memory */
		for (unsigned site = dice(SITES), n = 500; n; n--)
			send_one((int)site);
	} else if (what < 70) {
		set_mood(&places[dice(SITES)], (enum mood)dice(MOODS));
	} else if (what < 78) {
		some_order();
	} else if (what < 80) {
		some_move();
	} else if (what < 86) {
		x.commit_gap = gaps[dice(ARRAY_SIZE(gaps))];
	} else if (what < 90) {
		x.fail_commits = dice(4);
	} else if (what < 93) {
		world_restart_spooler(&x);
	} else if (what < 95) {
		world_reload(&x, confs[dice(ARRAY_SIZE(confs))]);
	} else if (what < 97) {
		fake_wall_jump((int64_t)dice(2400) - 1200);
	} else {
		x.race_percent = dice(3) ? 0 : dice(100);
	}
	again(dice(3) ? 10 * USEC_PER_SEC : 5 * MINUTE);
}

static void heal(void *arg ATTR_UNUSED)
{
	x.commit_gap = x.fail_commits = x.race_percent = 0;
	x.commit_next = 0;
	x.h.orphan = false;
	world_reload(&x, CONF);
	for (size_t i = 0; i < SITES; i++)
		set_mood(&places[i], WELL);
	for (size_t i = 0; i < PAUSED; i++) {
		char pattern[32];

		snprintf(pattern, sizeof(pattern), "%s/a", places[i].domain);
		world_order_at(&x, fake_elapsed() + 1, ORDER_RESUME, pattern, false);
	}
}

static bool was_refused(uint64_t msgid)
{
	for (size_t i = 0; i < x.refused_count; i++)
		if (x.refused[i] == msgid)
			return true;
	return false;
}

static void assert_ended(void)
{
	for (size_t i = 0; i < rcpt_count; i++) {
		size_t n = world_count_rcpt(&x, 'd', rcpts[i].address) +
			   world_count_rcpt(&x, 'b', rcpts[i].address);

		cr_assert_eq(n, was_refused(rcpts[i].msgid) ? 0u : 1u,
			     "seed %u: %s (message %llu) has %zu final records", seed_now,
			     rcpts[i].address, (unsigned long long)rcpts[i].msgid, n);
		if (rcpts[i].delivered_at && !killed_between(0, CHAOS))
			cr_assert_eq(world_count_rcpt(&x, 'd', rcpts[i].address), 1u,
				     "seed %u: %s was delivered and recorded as bounced", seed_now,
				     rcpts[i].address);
	}
}

static void begin(unsigned seed)
{
	seed_now = seed;
	state = UINT64_C(0x9E3779B97F4A7C15) * (seed + 1);
	rcpt_count = kill_count = 0;
	world_shm.ring_size = seed % 4 ? 1 << 20 : 1 << 16;
	world_shm.max_live_queues = seed % 5 ? 4096 : 2;
	world_new(&x, CONF);
	for (unsigned i = 0; i < SITES; i++) {
		struct place *p = &places[i];

		memset(p, 0, sizeof(*p));
		p->mx.answer = answer;
		p->mx.arg = p;
		snprintf(p->domain, sizeof(p->domain), "d%u.test", i);
		snprintf(p->ip, sizeof(p->ip), "198.51.100.%u", i + 1);
		snprintf(p->hosts, sizeof(p->hosts), "10 mx.%s %s", p->domain, p->ip);
		set_mood(p, WELL);
	}
	again(USEC_PER_SEC);
}

/* The worker's lives until the end of the chaos. */
static void live(bool with_kills)
{
	usec_t until = 0;

	while (until < CHAOS) {
		until += dice(3) ? 1 + dice(60) * MINUTE : 1 + dice(90000) * 1000;
		if (until > CHAOS || kill_count == MAX_KILLS - 1)
			until = CHAOS;
		x.h.orphan = dice(10) == 0;
		x.h.vmta = dice(4) ? "a" : "b";
		if (!with_kills || dice(4) == 0) {
			world_run(&x, until);
			until = fake_elapsed();
		} else {
			kills[kill_count++] = until;
			world_run_and_kill(&x, until);
		}
	}
}

static void story(unsigned seed)
{
	begin(seed);
	live(seed % 3 != 0);
	heal(NULL);
	for (int i = 0; i < 4; i++) { /* what the one gives away, the other has to take */
		x.h.vmta = i % 2 ? "b" : "a";
		world_run(&x, fake_elapsed() + HEALING);
	}
	cr_assert(!commit_orders_pending(x.commit), "seed %u: an order is never carried out", seed);
	assert_ended();
	cr_assert_eq(world_left(&x), 0, "seed %u: %llu recipients are stuck", seed,
		     (unsigned long long)world_left(&x));
	world_check(&x);
	world_free(&x);
	for (size_t i = 0; i < SITES; i++)
		mx_done(&places[i].mx);
}

Test(chaos, everything_ends_once, .timeout = 3600)
{
	const char *one = getenv("CHAOS_SEED"), *many = getenv("CHAOS_SEEDS");
	unsigned n = many ? (unsigned)atoi(many) : SEEDS;

	if (one) {
		story((unsigned)atoi(one));
		return;
	}
	for (unsigned seed = 0; seed < n; seed++)
		story(seed);
}
