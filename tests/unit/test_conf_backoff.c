/* links: common/base common/conf */
#include <criterion/criterion.h>

#include "tests/unit/conf_text.h"
static const struct conf_domain *domain_of(const struct conf *c)
{
	return conf_domain_for(c, slice_str("x.test"), slice_str("{default}"));
}

Test(conf_backoff, older_names_and_percentages)
{
	char *messages;
	struct conf *c = load_text("[global]\n[domain *]\nbackoff-max-msg-per-hour = 500\n"
				   "backoff-max-conn-rate = 2/m\nbackoff-reduce = 30\n"
				   "backoff-recover-step = 10 %\n",
				   &messages);
	const struct conf_domain *d;

	cr_assert_not_null(c, "%s", messages);
	d = domain_of(c);
	cr_expect(d->backoff_max_msg_rate.n == 500 && d->backoff_max_msg_rate.per == CONF_HOUR);
	cr_expect(d->backoff_max_connect_rate.n == 2 &&
		  d->backoff_max_connect_rate.per == CONF_MIN);
	cr_expect(d->backoff_reduce == 30 && d->backoff_recover_step == 10);
	conf_free(c);
	free(messages);
}

Test(conf_backoff, nothing_is_set_by_itself_and_an_inherited_value_is_cleared)
{
	char *messages;
	struct conf *c = load_text("[global]\n[domain *]\nbackoff-max-msg-rate = 1/m\n"
				   "backoff-max-smtp-out = 3\n"
				   "[domain x.test]\nbackoff-max-msg-rate = \"\"\n"
				   "backoff-max-smtp-out = \"\"\n",
				   &messages);
	const struct conf_domain *d;

	cr_assert_not_null(c, "%s", messages);
	d = domain_of(c);
	cr_expect(d->backoff_max_msg_rate.n == 0 && d->backoff_max_smtp_out == 0);
	cr_expect(d->backoff_max_connect_rate.n == 0 && d->backoff_max_data_volume_rate.n == 0);
	conf_free(c);
	free(messages);
}

Test(conf_backoff, what_is_wrong_is_said)
{
	static const struct {
		const char *text, *want;
	} cases[] = {
		{"backoff-reduce = half", "'half' is not a percentage such as 50%"},
		{"backoff-reduce = 100%", "100% is out of range: 1% to 99%"},
		{"backoff-max-smtp-out = 0", "0 is out of range"},
		{"backoff-to-normal-after = 10", "a unit is missing"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char *text = xasprintf("[global]\n[domain *]\n%s\n", cases[i].text), *messages;
		struct conf *c = load_text(text, &messages);

		cr_expect_null(c, "%s", cases[i].text);
		cr_expect_not_null(strstr(messages, cases[i].want), "%s: %s", cases[i].text,
				   messages);
		conf_free(c);
		free(messages);
		free(text);
	}
}
