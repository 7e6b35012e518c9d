/* Providers: [provider NAME] and the lines of [mx-rollup-list], and what belongs to one. */
#include "common/base/xalloc.h"
#include "common/conf/pattern.h"
#include "common/conf/private.h"
#include "common/conf/values.h"

#define ROLLUP ".rollup"

bool conf_rollup_name(struct slice s, struct slice *ret)
{
	size_t n = sizeof(ROLLUP) - 1;

	if (s.n <= n || !slice_ieq_str(slice_from(s, s.n - n), ROLLUP))
		return false;
	*ret = slice_sub(s, 0, s.n - n);
	return conf_plain_name(*ret);
}

bool conf_value_cidrs(struct conf_value_ctx *c, struct slice s, const void *prev, void *ret)
{
	const struct conf_cidrs *old = prev;
	size_t n = old ? old->n : 0;
	struct cidr *v = arena_grow(c->arena, old ? old->v : NULL, n, s.n / 2 + 1, sizeof(*v));
	struct slice part, plain;

	while (conf_list_next(&s, ',', &part)) {
		if (part.n == 0 && !s.p && n)
			break; /* a trailing comma */
		if (!conf_unquote(part, c->arena, &plain) || !cidr_parse(plain, &v[n])) {
			buf_addf(c->why, "'%.*s' is not a network such as 192.0.2.0/24",
				 SLICE_ARG(part));
			return false;
		}
		n++;
	}
	*(struct conf_cidrs *)ret = (struct conf_cidrs){v, n};
	return true;
}

bool conf_value_rollups(struct conf_value_ctx *c, struct slice s, const void *prev, void *ret)
{
	const struct conf_rollups *old = prev;
	size_t n = old ? old->n : 0;
	struct conf_pattern *host = arena_alloc(c->arena, sizeof(*host));
	struct slice pattern, rollup, name, word;
	struct conf_rollup *v;

	if (!conf_word_next(&s, &pattern) || !conf_word_next(&s, &rollup) ||
	    !conf_rollup_name(rollup, &name)) {
		buf_add_str(c->why,
			    "write HOST NAME.rollup, for example *.google.com google.rollup");
		return false;
	}
	if (!conf_pattern_parse(pattern, c->arena, host, c->why))
		return false;
	if (conf_word_next(&s, &word)) {
		if (!slice_ieq_str(word, "rollup-by-ip") || slice_trim(s).n) {
			buf_addf(c->why, "'%.*s' after NAME.rollup: nothing may follow",
				 SLICE_ARG(word));
			return false;
		}
		buf_add_str(c->remark, "rollup-by-ip is not needed: mail always goes to the hosts "
				       "of its own domain");
	}
	v = arena_grow(c->arena, old ? old->v : NULL, n, 1, sizeof(*v));
	v[n] = (struct conf_rollup){.host = host, .provider = arena_dup(c->arena, name)};
	*(struct conf_rollups *)ret = (struct conf_rollups){v, n + 1};
	return true;
}

void conf_rollup_declare(struct conf *c, const struct conf_item *it)
{
	struct slice rest = it->text, pattern, rollup, name;
	struct conf_section *s;

	/* What is wrong with the line is told when its value is read. */
	if (!slice_ieq_str(it->word, "mx") || !conf_word_next(&rest, &pattern) ||
	    !conf_word_next(&rest, &rollup) || !conf_rollup_name(rollup, &name) ||
	    conf_section_find(c, CONF_SCOPE_PROVIDER, name))
		return;
	s = conf_section_add(c, CONF_SCOPE_PROVIDER, arena_dup(&c->arena, name));
	s->at = it->at;
}

/* The host patterns of [mx-rollup-list] for this provider join its own. */
static void add_rollups(struct conf *c, struct conf_provider *p, const struct conf_rollups *list)
{
	struct conf_pattern *v = arena_grow(&c->arena, p->mx.v, p->mx.n, list->n, sizeof(*v));
	size_t n = p->mx.n;

	for (size_t i = 0; i < list->n; i++)
		if (slice_ieq_str(slice_str(list->v[i].provider), p->name))
			v[n++] = *list->v[i].host;
	p->mx = (struct conf_patterns){v, n};
}

void conf_build_providers(struct conf *c, struct conf_messages *msgs)
{
	const struct conf_section *list = conf_section_find(c, CONF_SCOPE_ROLLUP, slice_str(""));
	struct conf_rollup_fields rollups = {.mx = {NULL, 0}};

	if (list)
		conf_fill(&c->arena, list->scope, (const struct conf_slot *const *)list->own.slots,
			  &rollups);
	for (size_t i = 0; i < c->providers.n; i++) {
		struct conf_section *s = c->providers.v[i];
		struct conf_provider *p = arena_alloc(&c->arena, sizeof(*p));

		conf_fill(&c->arena, s->scope, (const struct conf_slot *const *)s->own.slots, p);
		p->name = s->name;
		p->rollup = arena_printf(&c->arena, "%s" ROLLUP,
					 arena_dup_lower(&c->arena, slice_str(s->name)));
		p->index = i;
		p->at = s->at;
		s->provider = p;
		add_rollups(c, p, &rollups.mx);
		if (!p->mx.n && !p->mx_ip.n && !p->domains.n && !conf_messages_have_error(msgs))
			conf_error(msgs, s->at,
				   "%s holds no domain: add mx = HOSTS, mx-ip = NETWORKS or "
				   "domains = LIST",
				   s->display);
	}
}

size_t conf_provider_count(const struct conf *c)
{
	return c->providers.n;
}

const struct conf_provider *conf_provider_at(const struct conf *c, size_t i)
{
	return ((const struct conf_section *)c->providers.v[i])->provider;
}

const struct conf_provider *conf_provider_find(const struct conf *c, struct slice name)
{
	const struct conf_section *s = conf_section_find(c, CONF_SCOPE_PROVIDER, name);

	if (!s && conf_rollup_name(name, &name))
		s = conf_section_find(c, CONF_SCOPE_PROVIDER, name);
	return s ? s->provider : NULL;
}

const char *conf_queue_fault(const struct conf *c, struct slice domain, struct slice vmta)
{
	if (vmta.n && !conf_vmta_find(c, vmta))
		return conf_pool_find(c, vmta)
			       ? "that is a pool: name one of its virtual MTAs, see show pools"
			       : "there is no such virtual MTA: see show vmtas";
	if (slice_iends(domain, ".rollup") && !conf_provider_find(c, domain))
		return "there is no such provider: NAME.rollup is the site of a [provider NAME]";
	return NULL;
}

const struct conf_provider *conf_provider_of_domain(const struct conf *c, struct slice domain)
{
	for (size_t i = 0; i < c->providers.n; i++) {
		const struct conf_provider *p = conf_provider_at(c, i);

		if (conf_patterns_match(&p->domains, domain))
			return p;
	}
	return NULL;
}

bool conf_provider_has_host(const struct conf_provider *p, struct slice host)
{
	return conf_patterns_match(&p->mx, host);
}

bool conf_provider_has_ip(const struct conf_provider *p, const struct ip *ip)
{
	for (size_t i = 0; i < p->mx_ip.n; i++)
		if (cidr_has(&p->mx_ip.v[i], ip))
			return true;
	return false;
}

const struct conf_provider *conf_provider_of_host(const struct conf *c, struct slice host,
						  const struct ip *ip)
{
	for (size_t i = 0; i < c->providers.n; i++) {
		const struct conf_provider *p = conf_provider_at(c, i);

		if (conf_provider_has_host(p, host) || conf_provider_has_ip(p, ip))
			return p;
	}
	return NULL;
}
