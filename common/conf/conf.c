/* A generation: made from items, asked by accessors, freed as a whole. */
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/regex.h"
#include "common/base/xalloc.h"
#include "common/conf/pattern.h"
#include "common/conf/private.h"

static struct conf *conf_new(void)
{
	struct conf *c = xcalloc(1, sizeof(*c));

	c->macros.arena = &c->arena;
	pthread_mutex_init(&c->lock, NULL);
	return c;
}

void conf_free(struct conf *c)
{
	if (!c)
		return;
	HASH_CLEAR(hh, c->by_key);
	conf_interned_done(&c->domain_cache);
	conf_interned_done(&c->source_cache);
	conf_rules_done(c);
	conf_macros_done(&c->macros);
	free(c->sections.v);
	free(c->listeners.v);
	free(c->vmtas.v);
	free(c->pools.v);
	free(c->sources.v);
	free(c->acct_files.v);
	free(c->providers.v);
	free(c->warmups.v);
	free(c->pattern_lists.v);
	for (size_t i = 0; i < c->regexes.n; i++)
		regex_free(c->regexes.v[i]);
	free(c->regexes.v);
	buf_done(&c->merged);
	pthread_mutex_destroy(&c->lock);
	arena_done(&c->arena);
	free(c);
}

/* The generation if nothing was wrong, else NULL. */
static struct conf *conf_build(struct conf *c, struct conf_items *items, struct conf_messages *msgs)
{
	conf_write_merged(items, &c->merged);
	conf_read_shipped(&c->arena, items, msgs);
	conf_build_sections(c, items, msgs);
	conf_build_effective(c, msgs);
	conf_build_rules(c, msgs);
	conf_check_unused(c, msgs);
	conf_items_done(items);
	conf_messages_sort(msgs);
	if (!conf_messages_have_error(msgs))
		return c;
	conf_free(c);
	return NULL;
}

struct conf *conf_load(const char *path, struct conf_messages *ret_msgs)
{
	struct conf *c = conf_new();
	struct conf_items items = {NULL, 0, 0};

	*ret_msgs = (struct conf_messages){NULL, 0};
	conf_read_file(path, &c->arena, &items, ret_msgs);
	conf_resolve_items(&items, &c->arena, ret_msgs);
	return conf_build(c, &items, ret_msgs);
}

struct slice conf_merged(const struct conf *c)
{
	return buf_slice(&c->merged);
}

struct conf *conf_parse_merged(struct slice merged, struct conf_messages *ret_msgs)
{
	struct conf *c = conf_new();
	struct conf_items items = {NULL, 0, 0};

	*ret_msgs = (struct conf_messages){NULL, 0};
	conf_read_merged(merged, &c->arena, &items, ret_msgs);
	return conf_build(c, &items, ret_msgs);
}

struct conf *conf_read_fd(int fd, struct conf_messages *ret_msgs)
{
	struct buf text = BUF_INIT;
	struct conf *c;
	ssize_t n;

	do {
		char *to = buf_reserve(&text, 65536);

		n = pread(fd, to, 65536, (off_t)text.n);
		if (n > 0)
			text.n += (size_t)n;
	} while (n > 0 || (n < 0 && errno == EINTR));
	if (n < 0) {
		*ret_msgs = (struct conf_messages){NULL, 0};
		conf_error(ret_msgs, (struct conf_origin){NULL, 0},
			   "cannot read the configuration from its descriptor: %s",
			   strerror(errno));
		c = NULL;
	} else {
		c = conf_parse_merged(buf_slice(&text), ret_msgs);
	}
	buf_done(&text);
	return c;
}

const struct conf_global *conf_global(const struct conf *c)
{
	return &c->global;
}

static const struct conf_section *section_at(const struct conf_ptrs *list, size_t i)
{
	return list->v[i];
}

size_t conf_listener_count(const struct conf *c)
{
	return c->listeners.n;
}

const struct conf_listener *conf_listener_at(const struct conf *c, size_t i)
{
	return section_at(&c->listeners, i)->listener;
}

size_t conf_vmta_count(const struct conf *c)
{
	return c->vmtas.n;
}

const struct conf_vmta *conf_vmta_at(const struct conf *c, size_t i)
{
	return section_at(&c->vmtas, i)->vmta;
}

const struct conf_vmta *conf_vmta_find(const struct conf *c, struct slice name)
{
	const struct conf_section *s = conf_section_find(c, CONF_SCOPE_VMTA, name);

	return s ? s->vmta : NULL;
}

size_t conf_pool_count(const struct conf *c)
{
	return c->pools.n;
}

const struct conf_pool *conf_pool_at(const struct conf *c, size_t i)
{
	return section_at(&c->pools, i)->pool;
}

const struct conf_pool *conf_pool_find(const struct conf *c, struct slice name)
{
	const struct conf_section *s = conf_section_find(c, CONF_SCOPE_POOL, name);

	return s ? s->pool : NULL;
}

size_t conf_acct_file_count(const struct conf *c)
{
	return c->acct_files.n;
}

const struct conf_acct_file *conf_acct_file_at(const struct conf *c, size_t i)
{
	return section_at(&c->acct_files, i)->acct_file;
}

bool conf_patterns_match(const struct conf_patterns *patterns, struct slice domain)
{
	for (size_t i = 0; i < patterns->n; i++)
		if (conf_pattern_match(&patterns->v[i], domain))
			return true;
	return false;
}

const struct conf_ip_limit *conf_ip_limit_for(const struct conf *c, const struct ip *dest,
					      bool per_source_ip)
{
	for (size_t i = 0; i < c->ip_limits.n; i++) {
		const struct conf_ip_limit *l = &c->ip_limits.v[i];

		if (l->per_source_ip == per_source_ip && cidr_has(&l->cidr, dest))
			return l;
	}
	return NULL;
}

/* A [global] directive as text: what was written, or the default. */
static const char *global_text(const struct conf *c, size_t row)
{
	const struct conf_section *s = conf_section_find(c, CONF_SCOPE_GLOBAL, slice_str(""));

	return s->own.slots[row] ? s->own.slots[row]->text : s->scope->rows[row].def;
}

size_t conf_restart_needed(const struct conf *running, const struct conf *wanted,
			   void (*each)(const char *keyword, void *arg), void *arg)
{
	const struct conf_scope *scope = &conf_scopes[CONF_SCOPE_GLOBAL];
	size_t count = 0;

	for (size_t i = 0; i < scope->n; i++) {
		const struct conf_directive *d = &scope->rows[i];
		char *keyword;

		if (d->kind != CONF_KIND_RESTART ||
		    strcmp(global_text(running, i), global_text(wanted, i)) == 0)
			continue;
		keyword = slice_dup(conf_words_first(d->keywords));
		each(keyword, arg);
		free(keyword);
		count++;
	}
	return count;
}
