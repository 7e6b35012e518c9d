#include "master/limits.h"

#include <string.h>

#include "common/conf/conf.h"
#include "common/shm/limits.h"
#include "common/shm/rates.h"
#include "master/control.h"

/* --- caps --- */

static uint64_t cap_of_address(const struct conf *conf, const char *address, bool per_source_ip)
{
	const struct conf_ip_limit *l = NULL;
	struct ip ip;

	if (ip_parse(slice_str(address), &ip))
		l = conf_ip_limit_for(conf, &ip, per_source_ip);
	return l ? l->n : 0;
}

static uint64_t cap_of_pool(const struct conf *conf, const char *name)
{
	const struct conf_pool *p = conf_pool_find(conf, slice_str(name));

	return p ? p->max_smtp_out : 0;
}

static uint64_t cap_of_host(const struct conf *conf, const char *host)
{
	const struct conf_mx_limit *l = conf_mx_limit_for(conf, slice_str(host));

	return l ? l->n : 0;
}

static uint64_t cap_of_source(const struct conf_ip_limits *limits, const char *source)
{
	const struct conf_ip_limit *l = NULL;
	struct ip ip;

	if (ip_parse(slice_str(source), &ip))
		l = conf_source_limit_for(limits, &ip);
	return l ? l->n : 0;
}

/* "domain/vmta source" */
static uint64_t cap_of_site(const struct conf *conf, const char *name)
{
	struct slice all = slice_str(name), site, domain;
	ptrdiff_t space = slice_rchr(all, ' '), slash;

	if (space < 0)
		return 0;
	site = slice_sub(all, 0, (size_t)space);
	slash = slice_rchr(site, '/');
	if (slash < 0)
		return 0;
	domain = slice_sub(site, 0, (size_t)slash);
	return cap_of_source(&conf_domain_for(conf, domain, slice_from(site, (size_t)slash + 1))
				      ->source_ip_max_smtp_out,
			     name + space + 1);
}

static uint64_t cap_of_provider(const struct conf *conf, const char *name, const char *space)
{
	struct slice only = space ? slice_of(name, (size_t)(space - name)) : slice_str(name);
	const struct conf_provider *p = conf_provider_find(conf, only);

	if (!p)
		return 0;
	return space ? cap_of_source(&p->source_ip_max_smtp_out, space + 1) : p->max_smtp_out;
}

/* What the configuration says now; workers take it over with their next connection. 0: nothing any more. */
static uint64_t configured_cap(const struct conf *conf, enum limit_kind kind, const char *name)
{
	const char *space = strrchr(name, ' ');
	const struct conf_vmta *v;

	switch (kind) {
	case LIMIT_TOTAL:
		return conf_global(conf)->total_max_smtp_out;
	case LIMIT_VMTA:
		v = conf_vmta_find(conf, slice_str(name));
		return v ? v->max_smtp_out : 0;
	case LIMIT_IP:
		return cap_of_address(conf, name, false);
	case LIMIT_IP_PAIR:
		return cap_of_address(conf, space ? space + 1 : name, true);
	case LIMIT_POOL:
		return cap_of_pool(conf, name);
	case LIMIT_MX:
		return cap_of_host(conf, space ? space + 1 : name);
	case LIMIT_PROVIDER:
		return cap_of_provider(conf, name, NULL);
	case LIMIT_PROVIDER_SOURCE_IP:
		return cap_of_provider(conf, name, space);
	case LIMIT_SOURCE_IP:
		return cap_of_site(conf, name);
	case LIMIT_KIND_COUNT:
		break;
	}
	return 0;
}

static void limit_row(struct control *c, const struct limit_info *l)
{
	control_write(c,
		      json_pack("{s:{s:s, s:s, s:i, s:I, s:i}}", "data", "kind",
				limit_kind_name(l->kind), "name", l->name, "in_use", (int)l->in_use,
				"cap", (json_int_t)l->cap, "waiting", (int)l->waiting));
}

static void remember_limit(json_t *seen, const struct limit_info *l)
{
	char key[LIMIT_NAME_MAX + 24];

	snprintf(key, sizeof(key), "%s %s", limit_kind_name(l->kind), l->name);
	json_object_set_new(seen, key, json_true());
}

/* One that has a name of its own in the configuration, and that nobody has used yet. */
static void unused_limit(struct control *c, const struct conf *conf, json_t *seen,
			 enum limit_kind kind, const char *name)
{
	struct limit_info l = {.kind = kind};
	char key[LIMIT_NAME_MAX + 24];

	l.cap = (uint32_t)configured_cap(conf, kind, name);
	slice_copy(slice_str(name), l.name, sizeof(l.name));
	snprintf(key, sizeof(key), "%s %s", limit_kind_name(kind), l.name);
	if (l.cap && !json_object_get(seen, key))
		limit_row(c, &l);
}

static void unused_limits(struct control *c, const struct conf *conf, json_t *seen)
{
	size_t i;

	unused_limit(c, conf, seen, LIMIT_TOTAL, "");
	for (i = 0; i < conf_vmta_count(conf); i++)
		unused_limit(c, conf, seen, LIMIT_VMTA, conf_vmta_at(conf, i)->name);
	for (i = 0; i < conf_pool_count(conf); i++)
		unused_limit(c, conf, seen, LIMIT_POOL, conf_pool_at(conf, i)->name);
	for (i = 0; i < conf_provider_count(conf); i++)
		unused_limit(c, conf, seen, LIMIT_PROVIDER, conf_provider_at(conf, i)->name);
}

void limits_write(struct control *c, const struct master *m)
{
	struct limit_info info[64];
	json_t *seen = json_object(); /* "kind name" */
	size_t pos = 0, n, i;

	while ((n = limits_list(m->shm, &pos, info, ARRAY_SIZE(info))) > 0)
		for (i = 0; i < n; i++) {
			uint64_t cap = configured_cap(m->conf, info[i].kind, info[i].name);

			if (cap)
				info[i].cap = (uint32_t)cap;
			else if (info[i].in_use == 0 && info[i].waiting == 0)
				continue; /* a reload has taken it away */
			remember_limit(seen, &info[i]);
			limit_row(c, &info[i]);
		}
	unused_limits(c, m->conf, seen);
	json_decref(seen);
}

/* --- rates --- */

static void rate_row(struct control *c, const struct rate_info *r, usec_t now)
{
	static const char *const counts[RATE_MEASURE_COUNT] = {
		[RATE_MESSAGES] = "recipients",
		[RATE_CONNECTS] = "connections",
		[RATE_BYTES] = "bytes",
	};
	const struct conf_rate rate = {.n = r->n, .per = r->per};
	msec_t opens = r->open > now ? clock_wall() + (r->open - now) / USEC_PER_MSEC : 0;
	struct buf text = BUF_INIT;

	conf_rate_text(&rate, r->measure == RATE_BYTES, &text);
	control_write(c, json_pack("{s:{s:s, s:s, s:s, s:s, s:o}}", "data", "counts",
				   counts[r->measure], "of", rate_scope_name(r->scope), "name",
				   r->name, "rate", buf_cstr(&text), "opens",
				   opens ? json_integer((json_int_t)opens) : json_null()));
	buf_done(&text);
}

void rates_write(struct control *c, const struct master *m, uint64_t max)
{
	struct rate_info info[64];
	usec_t now = clock_now();
	size_t pos = 0, n;
	uint64_t shown = 0;

	while ((n = rates_list(m->shm, &pos, info, ARRAY_SIZE(info))) > 0)
		for (size_t i = 0; i < n && (!max || shown < max); i++) {
			/* what nobody has used for so long may be there no more */
			if (info[i].open + info[i].per < now)
				continue;
			rate_row(c, &info[i], now);
			shown++;
		}
}
