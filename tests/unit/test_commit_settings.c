/* links: common/base common/conf common/spool common/shm common/acct spooler/commit.c spooler/commit_*.c spooler/dsn_row.c */
/* What was set for a queue, its provider or its virtual MTA, where the committer goes by it. */
#include "tests/unit/spool_fixture.h"

#define HEAD                                                        \
	"[global]\nhost-name = mta.example\n"                       \
	"[virtual-mta a]\nsmtp-source-host = 127.0.0.1 a.example\n" \
	"[domain *]\nbounce-after = 2d\n"
#define PROVIDER                                                        \
	"[provider big]\nmx = *.big.example\ndomains = named.example\n" \
	"[domain big.rollup]\nbounce-after = 1h\ndisable-acct-records = delivered, transient\n"
#define HOUR_MSEC (3600 * MSEC_PER_SEC)

static struct fix f;
static struct shm_ring *ring;

static void start(const char *text)
{
	fix_init(&f);
	fix_set_conf(&f, text);
	ring = fix_worker(&f, 0, "a", 1);
}

static void finish(void)
{
	fix_check(&f);
	fix_done(&f);
}

static struct spool_recipient stored(uint64_t msgid)
{
	struct spool_recipient r;

	cr_assert(fix_recipient(&f, msgid, 0, &r));
	return r;
}

/* How long after it came a new message to the domain is too old. */
static msec_t lifetime(uint64_t msgid, const char *domain)
{
	struct spool_message m;
	struct spool_read *r;

	fix_put(&f, msgid, domain, "a");
	cr_assert_eq(spool_read_begin(f.spool, &r), 0);
	cr_assert_eq(spool_message_get(r, msgid, &m), 0);
	spool_read_end(r);
	return stored(msgid).expiry - m.received;
}

static void deliver(uint64_t msgid)
{
	cr_assert(fix_report(ring, msgid, 0, OUTCOME_DELIVERED, 0));
	cr_assert_eq(fix_commit(&f, NULL), 0);
}

Test(settings, mail_expires_as_its_provider_says)
{
	start(HEAD PROVIDER "[domain own.example]\nbounce-after = 3h\n");
	cr_assert_eq(lifetime(1, "named.example"), HOUR_MSEC);
	cr_assert_eq(lifetime(2, "x.example"), 48 * HOUR_MSEC, "its provider is not known yet");
	fix_report_member(&f, ring, stored(2).queue, "big.rollup");
	cr_assert_eq(lifetime(3, "x.example"), HOUR_MSEC);
	cr_assert_eq(lifetime(4, "own.example"), 3 * HOUR_MSEC);
	fix_report_member(&f, ring, stored(4).queue, "big.rollup");
	cr_assert_eq(lifetime(5, "own.example"), 3 * HOUR_MSEC, "the domain's own comes first");
	fix_close(&f);
	fix_open(&f);
	cr_assert_eq(lifetime(6, "x.example"), HOUR_MSEC);
	finish();
}

Test(settings, records_are_left_out_as_the_provider_says)
{
	start(HEAD PROVIDER);
	fix_put(&f, 1, "named.example", "a");
	fix_put(&f, 2, "x.example", "a");
	fix_put(&f, 3, "other.example", "a");
	fix_report_member(&f, ring, stored(2).queue, "big.rollup");
	cr_assert(fix_report(ring, 2, 0, OUTCOME_TRANSIENT, clock_wall() + HOUR_MSEC));
	for (uint64_t id = 1; id <= 3; id++)
		deliver(id);
	cr_assert_eq(fix_records(&f, ACCT_DELIVERED), 1, "that of other.example");
	cr_assert_eq(fix_records(&f, ACCT_TRANSIENT), 0);
	finish();
}

Test(settings, a_domain_that_left_its_provider_goes_by_its_own)
{
	start(HEAD PROVIDER);
	fix_put(&f, 1, "x.example", "a");
	fix_report_member(&f, ring, stored(1).queue, "big.rollup");
	fix_report_member(&f, ring, stored(1).queue, "");
	cr_assert_eq(lifetime(2, "x.example"), 48 * HOUR_MSEC);
	fix_report_member(&f, ring, stored(1).queue, "big.rollup");
	fix_set_conf(&f, HEAD PROVIDER "[domain x.example]\ndisable-mx-rollup = yes\n");
	cr_assert_eq(lifetime(3, "x.example"), 48 * HOUR_MSEC);
	finish();
}

/* --- recipient-priority --- */

#define POOL                                                             \
	HEAD "[virtual-mta b]\nsmtp-source-host = 127.0.0.2 b.example\n" \
	     "[virtual-mta c]\nsmtp-source-host = 127.0.0.3 c.example\n" \
	     "[virtual-mta-pool p]\nvirtual-mta = a\nvirtual-mta = b\n"
#define PRIORITY "recipient-priority = "

static uint8_t class_on(const char *route, const char *domain)
{
	static uint64_t msgid;
	struct intake_message *m = fix_one(&f, ++msgid, domain, route);

	m->recipients[0].class = INTAKE_CLASS_OF_SETTINGS;
	cr_assert_eq(fix_commit(&f, m), 0);
	cr_assert_eq(f.last_result, 0);
	return stored(msgid).class;
}

Test(settings, a_priority_is_one_of_four_classes)
{
	start(HEAD "[domain d0]\n" PRIORITY "0\n[domain d24]\n" PRIORITY
		   "24\n[domain d25]\n" PRIORITY "25\n[domain d49]\n" PRIORITY
		   "49\n[domain d74]\n" PRIORITY "74\n[domain d75]\n" PRIORITY
		   "75\n[domain d100]\n" PRIORITY "100\n");
	cr_assert(class_on("a", "d0") == 3 && class_on("a", "d24") == 3);
	cr_assert(class_on("a", "d25") == 2 && class_on("a", "d49") == 2);
	cr_assert(class_on("a", "x") == 1 && class_on("a", "d74") == 1);
	cr_assert(class_on("a", "d75") == 0 && class_on("a", "d100") == 0);
	finish();
}

Test(settings, a_priority_set_for_a_pool_or_a_member_holds_for_mail_through_the_pool)
{
	start(POOL "[domain */p]\n" PRIORITY "90\n[domain x.example/b]\n" PRIORITY "10\n");
	cr_assert_eq(class_on("p", "x.example"), 0, "a: its pool's");
	cr_assert_eq(class_on("p", "x.example"), 3, "b: its own");
	cr_assert_eq(class_on("p", "x.example"), 0);
	cr_assert_eq(class_on("p", "y.example"), 0);
	cr_assert_eq(class_on("b", "x.example"), 3);
	cr_assert_eq(class_on("c", "x.example"), 1, "no member");
	finish();
}

Test(settings, a_priority_goes_by_the_recipients_domain_and_the_virtual_mta_that_takes_it)
{
	start(POOL "[domain relay.example]\nsmtp-hosts = 192.0.2.1\n" PRIORITY "10\n"
		   "[domain urgent.example]\nqueue-to = relay.example\n" PRIORITY "100\n"
		   "[virtual-mta d]\ncold-virtual-mta = c\n"
		   "[domain *]\nmax-cold-virtual-mta-msg = 1/d\n"
		   "[domain x.example/c]\n" PRIORITY "80\n");
	cr_assert_eq(class_on("a", "urgent.example"), 0);
	cr_assert_eq(class_on("d", "x.example"), 0, "c took it");
	cr_assert_eq(class_on("d", "x.example"), 1);
	finish();
}
