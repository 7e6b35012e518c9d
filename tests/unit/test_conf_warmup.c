/* links: common/base common/conf */
#include "tests/unit/conf_text.h"

#define HEAD                                                  \
	"[smtp-listener 127.0.0.1:2525]\n"                    \
	"[virtual-mta warm]\nsmtp-source-host = 192.0.2.1\n"  \
	"[virtual-mta new1]\nsmtp-source-host = 192.0.2.2\n"  \
	"[virtual-mta new2]\nsmtp-source-host = 192.0.2.3\n"  \
	"[virtual-mta-pool news]\nvirtual-mta = new1, new2\n" \
	"[virtual-mta-pool all]\nvirtual-mta = warm, new1\n"  \
	"[virtual-mta nowhere]\nmax-smtp-out = 3\n"           \
	"[provider google]\nmx = *.google.com\n"

static const struct conf_vmta *vmta(const struct conf *c, const char *name)
{
	return conf_vmta_find(c, slice_str(name));
}

Test(conf_warmup, all_that_a_section_can_say)
{
	struct conf *c =
		load_good(HEAD "[warm-up first]\nvirtual-mta = news\n"
			       "start = 2026-11-22\nschedule = 50, 100,\n 200\n"
			       "provider = GOOGLE.rollup\noverflow = warm\n"
			       "advance-if = policy<0.25%, transient<12.5%\npace = none\n");
	const struct conf_warmup *w = conf_warmup_at(c, 0);

	cr_assert_eq(conf_warmup_count(c), 1);
	cr_assert_str_eq(w->name, "first");
	cr_assert_eq(w->vmta_count, 2);
	cr_assert_eq(w->vmtas[1], vmta(c, "new2"));
	cr_assert_eq(w->start, 20779);
	cr_assert_eq(w->schedule.n, 3);
	cr_assert_eq(w->schedule.v[2], 200);
	cr_assert_str_eq(w->provider, "google");
	cr_assert_str_eq(w->overflow, "warm");
	cr_assert_eq(w->advance_if.transient, 125000);
	cr_assert_eq(w->advance_if.policy, 2500);
	cr_assert_eq(w->pace, CONF_PACE_NONE);
	conf_free(c);
}

Test(conf_warmup, what_is_not_said)
{
	struct conf *c = load_good(HEAD "[warm-up w]\nvirtual-mta = new1\nschedule = 7\n");
	const struct conf_warmup *w = conf_warmup_at(c, 0);

	cr_assert_str_eq(w->provider, "*");
	cr_assert_eq(w->start, 0);
	cr_assert_null(w->overflow, "held");
	cr_assert_eq(w->advance_if.transient, 50000);
	cr_assert_eq(w->advance_if.policy, 5000);
	cr_assert_eq(w->pace, CONF_PACE_EVEN);
	conf_free(c);
}

Test(conf_warmup, one_for_the_provider_goes_before_one_for_all)
{
	struct conf *c = load_good(HEAD "[warm-up a]\nvirtual-mta = new1\nschedule = 7\n"
					"[warm-up g]\nvirtual-mta = new1\nschedule = 7\n"
					"provider = google\nadvance-if = always\n");
	const struct conf_warmup *g = conf_warmup_at(c, 1);

	cr_assert_eq(conf_warmup_for(c, vmta(c, "new1"), "google"), g);
	cr_assert_eq(conf_warmup_for(c, vmta(c, "new1"), "other"), conf_warmup_at(c, 0));
	cr_assert_eq(conf_warmup_for(c, vmta(c, "new1"), NULL), conf_warmup_at(c, 0));
	cr_assert_null(conf_warmup_for(c, vmta(c, "new2"), "google"));
	cr_assert_eq(g->advance_if.transient, UINT32_MAX);
	cr_assert_eq(g->advance_if.policy, UINT32_MAX);
	conf_free(c);
}

#define W "[warm-up w]\nvirtual-mta = new1\nschedule = 5\n"

static const struct {
	const char *text, *want; /* a part of the messages */
} wrong[] = {
	{"[warm-up]\n", "error: [warm-up] needs a name: [warm-up NAME]"},
	{"[warm-up a/b]\n", "error: 'a/b' is not a name of letters"},
	{"[warm-up w]\nschedule = 5\n",
	 "T:16: error: [warm-up w] warms up nothing: add virtual-mta = NAME"},
	{"[warm-up w]\nvirtual-mta = new1\n",
	 "T:16: error: [warm-up w] has no schedule: add schedule = 50,100,200"},
	{"[warm-up w]\nvirtual-mta = new9\nschedule = 5\n",
	 "T:17: error: virtual-mta: unknown virtual MTA or pool new9"},
	{"[warm-up w]\nvirtual-mta = nowhere\nschedule = 5\n",
	 "T:17: error: virtual-mta: nowhere has no address of its own to warm up: add "
	 "smtp-source-host to it"},
	{W "provider = gogle\n", "T:19: error: provider: unknown provider gogle: there is no "
				 "[provider gogle]"},
	{W "overflow = nobody\n", "T:19: error: overflow: unknown virtual MTA or pool nobody"},
	{W "overflow = new1\n", "T:19: error: overflow: new1 is warmed up by [warm-up w] itself"},
	{W "overflow = all\n",
	 "T:19: error: overflow: new1 of pool all is warmed up by [warm-up w] itself"},
	{W "overflow = new2\n[warm-up v]\nvirtual-mta = new2\nschedule = 5\noverflow = new1\n",
	 "T:19: error: overflow: mail would come back: new2 goes on to where [warm-up w] is from"},
	{W "[warm-up v]\nvirtual-mta = news\nschedule = 5\n",
	 "T:20: error: virtual-mta: new1 is warmed up for provider * by [warm-up w] (T:16) "
	 "already"},
	{W "[virtual-mta same]\nsmtp-source-host = 192.0.2.2\n",
	 "T:17: error: virtual-mta: 192.0.2.2 of new1 is an address of same, too: an address that "
	 "is warmed up belongs to one virtual MTA"},
	{W "start = 22.11.2026\n", "T:19: error: start: '22.11.2026' is not a date such as"},
	{W "start = 2026-02-29\n", "T:19: error: start: '2026-02-29' is not a date"},
	{W "schedule = 5,0\n", "T:19: error: schedule: 0 is out of range: 1 to 1000000000"},
	{W "schedule = 5,,6\n", "T:19: error: schedule: '' is not numbers such as"},
	{W "schedule = 5 6\n", "T:19: error: schedule: '5 6' is not numbers such as"},
	{W "schedule = 50,100,80,70\n",
	 "T:19: warning: schedule: the schedule goes down from 100 to 80"},
	{W "pace = slow\n", "T:19: error: pace: 'slow' is not even or none"},
	{W "advance-if = transient<5\n", "T:19: error: advance-if: 'transient<5' is not always"},
	{W "advance-if = transient<101%\n", "T:19: error: advance-if: 'transient<101%'"},
	{W "advance-if = transient<5%,transient<6%\n", "T:19: error: advance-if: 'transient<6%'"},
	{W "advance-if = policy<0%\n", "T:19: error: advance-if: 'policy<0%': no share is below 0"},
	{W "advance-if = bounced<1%\n", "T:19: error: advance-if: 'bounced<1%' is not"},
	{W "advance-if = always, policy<1%\n", "T:19: error: advance-if: 'always' is not"},
};

Test(conf_warmup, what_is_wrong_is_named)
{
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		char *messages, *text = xasprintf(HEAD "%s", wrong[i].text);
		struct conf *c = load_text(text, &messages);

		cr_assert(strstr(messages, wrong[i].want), "%s\ngave: %s\nnot: %s", wrong[i].text,
			  messages, wrong[i].want);
		cr_assert_eq(c == NULL, strstr(wrong[i].want, "error: ") != NULL);
		conf_free(c);
		free(messages);
		free(text);
	}
}
