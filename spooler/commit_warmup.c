/*
 * commit_warmup.c - warm-ups in the spool: what workers reserve, what became of the recipients, what
 * operators set and ask.
 */
#include "spooler/commit_private.h"

#include "common/acct/status.h"
#include "common/base/localday.h"

#define KEEP_DAYS 90 /* receivers forget an address that sends nothing, sooner than that */

static bool is_about_policy(const struct commit *c, const struct report_outcome *o)
{
	const char *category;

	if (o->class != OUTCOME_BOUNCED)
		return false;
	category = acct_category_of(c->conf, ACCT_BOUNCED, o->code, o->enhanced, o->text);
	return strcmp(category, acct_category_name(ACCT_CATEGORY_POLICY_RELATED)) == 0 ||
	       strcmp(category, acct_category_name(ACCT_CATEGORY_SPAM_RELATED)) == 0;
}

int count_warmup(struct commit *c, const struct commit_vmta *v, const struct report_transaction *t)
{
	ptrdiff_t slash = slice_rchr(t->site, '/');
	struct slice site = slash < 0 ? t->site : slice_sub(t->site, 0, (size_t)slash);
	uint64_t attempted = 0, transient = 0, policy = 0;
	uint32_t i;

	for (i = 0; i < t->outcome_count; i++) {
		const struct report_outcome *o = &t->outcomes[i];

		attempted += o->attempted;
		transient += o->attempted && o->class == OUTCOME_TRANSIENT;
		policy += o->attempted && is_about_policy(c, o);
	}
	return spool_warmup_count(c->w, v->id, &t->source_ip, site, t->warmup_day, attempted,
				  transient, policy);
}

/*
 * With every reservation one more row is looked at: what had no mail for so long goes, so that rows of
 * sites that were used once do not add up. A site that comes back begins anew.
 */
static int tidy_one(struct commit *c)
{
	struct spool_key *at = &c->warmup_tidied;
	struct warmup_row row;
	struct slice site;
	uint32_t vmta;
	struct ip ip;
	int more = spool_warmup_next(write_read(c->w), at, &vmta, &ip, &site, &row);

	if (more == 0)
		at->n = 0; /* from the first one again */
	if (more <= 0)
		return 0; /* one that cannot be read is for spool check */
	if (warmup_today(&row)->day + KEEP_DAYS >= localday_of(c->now))
		return 0;
	return write_delete(c->w, SPOOL_QUOTA, at);
}

int apply_warmup(struct commit *c, const struct commit_vmta *v, const struct report_warmup *r)
{
	int rc = tidy_one(c);

	return rc < 0 ? rc
		      : spool_warmup_take(c->w, v->id, &r->source_ip, r->site, &r->day, r->set);
}

/* --- operators --- */

/* The longest schedule that the address has; 0: it is not warmed up. */
static size_t days_of(const struct conf *conf, const struct ip *ip)
{
	size_t days = 0;

	for (size_t i = 0; i < conf_warmup_count(conf); i++) {
		const struct conf_warmup *w = conf_warmup_at(conf, i);

		for (size_t k = 0; k < w->vmta_count; k++) {
			const struct conf_source_hosts *h = &w->vmtas[k]->smtp_source_host;

			for (size_t j = 0; j < h->n; j++)
				if (ip_eq(&h->v[j].ip, ip) && w->schedule.n > days)
					days = w->schedule.n;
		}
	}
	return days;
}

int commit_warmup_set(struct commit *c, struct spool_write *w, const struct ip *ip,
		      const struct commit_warmup_change *change, struct warmup_setting *ret_set,
		      char **ret_refused)
{
	size_t days = days_of(c->conf, ip);
	struct warmup_setting set;
	char text[IP_TEXT_MAX];
	int rc;

	invariant(w == c->w);
	*ret_refused = NULL;
	if (days == 0)
		*ret_refused =
			xasprintf("no warm-up holds for %s: see show warmup", ip_text(ip, text));
	else if (change->day > days)
		*ret_refused = xasprintf("its schedule has %zu days", days);
	if (*ret_refused)
		return 0;
	rc = spool_warmup_setting_get(write_read(w), ip, &set);
	if (rc == ERR_CORRUPT || rc == ERR_VERSION)
		set = (struct warmup_setting){.seq = 0};
	else if (rc < 0)
		return rc;
	if (change->day) {
		set.seq = c->n.next_order++;
		set.day = (uint32_t)change->day;
	}
	set.paused = change->pause || (set.paused && !change->resume);
	c->orders_changed = true; /* workers look again */
	*ret_set = set;
	return spool_warmup_set(w, ip, &set);
}

/* The warm-up that a row is of; NULL: none any more. */
static const struct conf_warmup *rules_of(struct commit *c, uint32_t vmta, const struct ip *ip,
					  struct slice site)
{
	struct commit_vmta *v = cache_vmta_by_id(c, vmta);
	const struct conf_vmta *m = v ? conf_vmta_find(c->conf, slice_str(v->name)) : NULL;
	const struct conf_provider *p =
		slice_iends(site, ".rollup") ? conf_provider_find(c->conf, site) : NULL;

	for (size_t i = 0; m && i < m->smtp_source_host.n; i++)
		if (ip_eq(&m->smtp_source_host.v[i].ip, ip))
			return conf_warmup_for(c->conf, m, p ? p->name : NULL);
	return NULL;
}

static int show_row(struct commit *c, struct commit_warmup_walk *walk, uint32_t vmta,
		    struct slice site, struct commit_warmup_state *s)
{
	int rc;

	s->rules = rules_of(c, vmta, &s->ip, site);
	if (!s->rules)
		return 0;
	rc = spool_warmup_setting_get(write_read(c->w), &s->ip, &s->set);
	if (rc < 0)
		return rc;
	s->vmta = cache_vmta_by_id(c, vmta)->name;
	s->site = site;
	warmup_roll(&s->row, s->rules, &s->set, localday_of(c->now));
	walk->each(s, walk->arg);
	return 0;
}

int commit_warmup_show(struct commit *c, struct spool_write *w, struct commit_warmup_walk *walk)
{
	invariant(w == c->w);
	for (unsigned i = 0; i < COMMIT_WARMUP_ROWS; i++) {
		struct commit_warmup_state s = {.rules = NULL};
		struct slice site;
		uint32_t vmta;
		int more =
			spool_warmup_next(write_read(w), &walk->after, &vmta, &s.ip, &site, &s.row);

		if (more == ERR_CORRUPT || more == ERR_VERSION)
			continue; /* spool check says so */
		if (more > 0)
			more = show_row(c, walk, vmta, site, &s) < 0 ? ERR_CORRUPT : 1;
		if (more <= 0)
			return more;
	}
	return 1;
}

void commit_warmup_unused(struct commit *c, struct commit_warmup_walk *walk)
{
	for (size_t i = 0; i < conf_warmup_count(c->conf); i++) {
		const struct conf_warmup *rules = conf_warmup_at(c->conf, i);

		for (size_t k = 0; k < rules->vmta_count; k++) {
			const struct conf_vmta *v = rules->vmtas[k];

			for (size_t j = 0; j < v->smtp_source_host.n; j++) {
				struct commit_warmup_state s = {.rules = rules,
								.vmta = v->name,
								.ip = v->smtp_source_host.v[j].ip,
								.site = slice_str("")};

				walk->each(&s, walk->arg);
			}
		}
	}
}
