/* Sections to what the accessors give: listeners, virtual MTAs, pools, files, global settings. */
#include <stdlib.h>
#include <unistd.h>

#include "common/base/xalloc.h"
#include "common/conf/pattern.h"
#include "common/conf/private.h"
#include "common/conf/replies.h"

static const struct conf_slot *const *slots_of(const struct conf_overlay *o)
{
	return (const struct conf_slot *const *)o->slots;
}

static const char *system_host_name(struct arena *a)
{
	char name[256] = "";

	if (gethostname(name, sizeof(name) - 1) != 0 || !conf_domain_valid(slice_str(name)))
		return "localhost";
	return arena_dup_lower(a, slice_str(name));
}

/* The hosts with a name each. */
static struct conf_source_hosts with_names(struct arena *a, struct conf_source_hosts hosts,
					   const char *name)
{
	struct conf_source_host *v = arena_copy(a, hosts.v, hosts.n, sizeof(*v));

	for (size_t i = 0; i < hosts.n; i++)
		if (!v[i].host)
			v[i].host = name;
	return (struct conf_source_hosts){v, hosts.n};
}

static int by_specificity(const void *va, const void *vb)
{
	const struct conf_ip_limit *a = va, *b = vb;

	if (a->cidr.bits != b->cidr.bits)
		return a->cidr.bits > b->cidr.bits ? -1 : 1;
	/* 0/0 is all of both families, so ::/0 is more specific */
	return (int)b->cidr.ip.family - (int)a->cidr.ip.family;
}

static void build_global(struct conf *c)
{
	struct conf_section *s = conf_section_find(c, CONF_SCOPE_GLOBAL, slice_str(""));
	struct conf_global *g = &c->global;
	struct conf_ip_limit *limits;

	if (!s)
		s = conf_section_add(c, CONF_SCOPE_GLOBAL, "");
	conf_fill(&c->arena, s->scope, slots_of(&s->own), g);
	if (!g->host_name)
		g->host_name = system_host_name(&c->arena);
	if (!g->domain_suffix)
		g->domain_suffix = g->host_name;
	if (!g->control_socket)
		g->control_socket = arena_printf(&c->arena, "%s/control.sock", g->runtime_dir);
	limits = arena_copy(&c->arena, g->ip_connection_limit.v, g->ip_connection_limit.n,
			    sizeof(*limits));
	qsort(limits, g->ip_connection_limit.n, sizeof(*limits), by_specificity);
	c->ip_limits = (struct conf_ip_limits){limits, g->ip_connection_limit.n};
}

static void build_listeners(struct conf *c, struct conf_messages *msgs)
{
	for (size_t i = 0; i < c->listeners.n; i++) {
		struct conf_section *s = c->listeners.v[i];
		struct conf_listener *l = arena_alloc(&c->arena, sizeof(*l));
		struct conf_listener_fields f;

		conf_fill(&c->arena, s->scope, slots_of(&s->own), &f);
		if (!ip_port_parse(slice_str(s->name), &l->ip, &l->port))
			continue; /* refused when the section was opened */
		if (l->port == 0)
			l->port = 25;
		l->source = f.source;
		l->at = s->at;
		s->listener = l;
	}
	if (c->listeners.n == 0 && !conf_messages_have_error(msgs))
		conf_warning(msgs, (struct conf_origin){NULL, 0},
			     "no [smtp-listener IP:PORT]: no mail is taken in over SMTP");
}

static void build_vmtas(struct conf *c, struct conf_messages *msgs)
{
	if (!conf_section_find(c, CONF_SCOPE_VMTA, slice_str("{default}")))
		conf_section_add(c, CONF_SCOPE_VMTA, "{default}");
	for (size_t i = 0; i < c->vmtas.n; i++) {
		struct conf_section *s = c->vmtas.v[i];
		struct conf_vmta *v = arena_alloc(&c->arena, sizeof(*v));

		conf_fill(&c->arena, s->scope, slots_of(&s->own), v);
		v->name = s->name;
		v->index = i;
		v->at = s->at;
		if (!v->host_name)
			v->host_name = c->global.host_name;
		/* an own list that was cleared with "" stays empty */
		if (!s->own.slots[conf_directive_find(s->scope, slice_str("smtp-source-host")) -
				  s->scope->rows])
			v->smtp_source_host = c->global.smtp_source_host;
		v->smtp_source_host = with_names(&c->arena, v->smtp_source_host, v->host_name);
		s->vmta = v;
	}
	c->global.smtp_source_host =
		with_names(&c->arena, c->global.smtp_source_host, c->global.host_name);
	if (c->vmtas.n > c->global.max_workers)
		conf_error(msgs, ((struct conf_section *)c->vmtas.v[c->vmtas.n - 1])->at,
			   "%zu virtual MTAs ({default} among them), but max-workers is %llu",
			   c->vmtas.n, (unsigned long long)c->global.max_workers);
}

static void build_acct_files(struct conf *c, struct conf_messages *msgs)
{
	for (size_t i = 0; i < c->acct_files.n; i++) {
		struct conf_section *s = c->acct_files.v[i];
		struct conf_acct_file *f = arena_alloc(&c->arena, sizeof(*f));

		conf_fill(&c->arena, s->scope, slots_of(&s->own), f);
		f->name = s->name;
		f->conf = c;
		f->at = s->at;
		if (!f->path && s->name[0] == '/')
			f->path = s->name;
		if (!f->path)
			conf_error(
				msgs, s->at,
				"%s: the name is not an absolute path and there is no path = FILE",
				s->display);
		s->acct_file = f;
		for (size_t j = 0; j < i && f->path; j++) {
			struct conf_section *o = c->acct_files.v[j];

			if (o->acct_file->path && strcmp(o->acct_file->path, f->path) == 0)
				conf_error(msgs, s->at, "%s is written by %s (%s:%u) already",
					   f->path, o->display, o->at.file, o->at.line);
		}
	}
}

static void build_patterns(struct conf *c)
{
	const struct conf_section *s = conf_section_find(c, CONF_SCOPE_CATEGORIES, slice_str(""));
	struct conf_category_fields categories = {{NULL, 0}};

	for (size_t i = 0; i < c->pattern_lists.n; i++) {
		struct conf_section *l = c->pattern_lists.v[i];
		struct conf_pattern_list_fields f;

		conf_fill(&c->arena, l->scope, slots_of(&l->own), &f);
		l->pattern_list->at = l->at;
		l->pattern_list->replies = f.reply;
	}
	if (s)
		conf_fill(&c->arena, s->scope, slots_of(&s->own), &categories);
	c->categories = categories.pattern;
}

void conf_build_effective(struct conf *c, struct conf_messages *msgs)
{
	build_global(c);
	build_listeners(c, msgs);
	build_vmtas(c, msgs);
	conf_build_pools(c, msgs);
	build_acct_files(c, msgs);
	conf_build_providers(c, msgs);
	conf_build_warmups(c, msgs);
	build_patterns(c);
}
