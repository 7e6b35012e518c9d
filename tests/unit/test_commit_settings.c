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
