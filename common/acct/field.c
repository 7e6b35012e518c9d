#include "common/acct/field.h"

#include "common/acct/status.h"
#include "common/base/macros.h"

/* The columns of the table that are words in the rows. */
#define WHEN_DEFAULT true
#define WHEN_NAMED false

static const struct {
	enum acct_type type;
	unsigned bit;
	const char *name;
} types[ACCT_TYPE_COUNT] = {
	{ACCT_DELIVERED, ACCT_IN_D, "d"},
	{ACCT_BOUNCED, ACCT_IN_B, "b"},
	{ACCT_TRANSIENT, ACCT_IN_T, "t"},
	{ACCT_QUEUE, ACCT_IN_TQ, "tq"},
};

unsigned acct_type_bit(enum acct_type t)
{
	for (size_t i = 0; i < ARRAY_SIZE(types); i++)
		if (types[i].type == t)
			return types[i].bit;
	return 0;
}

const char *acct_type_name(enum acct_type t)
{
	for (size_t i = 0; i < ARRAY_SIZE(types); i++)
		if (types[i].type == t)
			return types[i].name;
	return "";
}

/* --- values --- */

static const struct slice nothing = {"", 0};

/* buf_addf() per field would cost more than all of the line. */
static struct slice number_text(struct acct_maker *m, uint64_t v)
{
	char text[20], *p = text + sizeof(text);

	do
		*--p = (char)('0' + v % 10);
	while (v /= 10);
	buf_clear(&m->scratch);
	buf_add(&m->scratch, p, (size_t)(text + sizeof(text) - p));
	return buf_slice(&m->scratch);
}

static struct slice time_text(struct acct_maker *m, msec_t t)
{
	uint64_t second = t / MSEC_PER_SEC;
	size_t i = second % ACCT_TIME_CACHE;

	if (!t)
		return nothing;
	if (!m->iso_times)
		return number_text(m, second);
	if (m->times[i].second != second + 1) {
		clock_iso(t, m->times[i].text);
		m->times[i].n = (uint8_t)strlen(m->times[i].text);
		m->times[i].second = second + 1;
	}
	return slice_of(m->times[i].text, m->times[i].n);
}

static struct slice ip_value(struct acct_maker *m, const struct ip *ip)
{
	char text[IP_TEXT_MAX];

	buf_clear(&m->scratch);
	buf_add_str(&m->scratch, ip_text(ip, text));
	return buf_slice(&m->scratch);
}

#define VALUE(id)                                                               \
	static struct slice field_##id(struct acct_maker *m ATTR_UNUSED,        \
				       const struct acct_record *r ATTR_UNUSED, \
				       uint64_t seq ATTR_UNUSED)

VALUE(type)
{
	return slice_str(acct_type_name(r->type));
}
VALUE(time_logged)
{
	return time_text(m, r->time_logged);
}
VALUE(time_queued)
{
	return time_text(m, r->time_queued);
}
VALUE(time_first_attempt)
{
	return time_text(m, r->time_first_attempt);
}
VALUE(orig)
{
	return r->orig;
}
VALUE(rcpt)
{
	return r->rcpt;
}
VALUE(orcpt)
{
	return r->orcpt;
}
VALUE(dsn_action)
{
	return r->dsn_action;
}
VALUE(src_mta)
{
	return r->src_mta;
}
VALUE(dlv_type)
{
	return r->dlv_type;
}
VALUE(dlv_source_ip)
{
	return ip_value(m, &r->source_ip);
}
VALUE(dlv_destination_ip)
{
	return ip_value(m, &r->mx_ip);
}
VALUE(dlv_esmtp_available)
{
	return r->esmtp;
}
VALUE(dlv_size)
{
	return number_text(m, r->size);
}
VALUE(vmta)
{
	return r->vmta;
}
VALUE(job_id)
{
	return r->job;
}
VALUE(env_id)
{
	return r->envid;
}
VALUE(queue)
{
	return r->queue;
}
/* The queue is NAME.rollup/vmta then. */
VALUE(provider)
{
	static const char rollup[] = ".rollup";
	struct slice site = slice_sub(
		r->queue, 0, slice_rchr(r->queue, '/') < 0 ? 0 : (size_t)slice_rchr(r->queue, '/'));
	size_t n = sizeof(rollup) - 1;

	if (site.n <= n || !slice_eq_str(slice_from(site, site.n - n), rollup))
		return slice_of("", 0);
	return slice_sub(site, 0, site.n - n);
}
VALUE(vmta_pool)
{
	return r->pool;
}
VALUE(dlv_tls_protocol)
{
	return r->tls_protocol;
}
VALUE(dlv_tls_cipher)
{
	return r->tls_cipher;
}
VALUE(rcv_smtp_user)
{
	return r->user;
}
VALUE(user_string)
{
	return slice_str(m->user_string);
}
VALUE(attempt)
{
	return number_text(m, r->attempt);
}
VALUE(msg_id)
{
	return number_text(m, r->msgid);
}
VALUE(seq)
{
	return number_text(m, seq);
}

VALUE(dsn_status)
{
	uint8_t e[3];

	acct_status_effective(r->type, r->code, r->enhanced, e);
	buf_clear(&m->scratch);
	acct_status_add(e, &m->scratch);
	return buf_slice(&m->scratch);
}

VALUE(dsn_diag)
{
	if (!r->text.n)
		return nothing;
	buf_clear(&m->scratch);
	acct_diag_add(r->text, &m->scratch);
	return buf_slice(&m->scratch);
}

VALUE(dsn_mta)
{
	char text[IP_TEXT_MAX];

	if (!r->mx_name.n && r->mx_ip.family == IP_NONE)
		return nothing;
	buf_clear(&m->scratch);
	buf_add_slice(&m->scratch, r->mx_name);
	if (r->mx_ip.family == IP_NONE)
		return buf_slice(&m->scratch);
	buf_add_str(&m->scratch, r->mx_name.n ? " (" : "(");
	buf_add_str(&m->scratch, ip_text(&r->mx_ip, text));
	buf_add_char(&m->scratch, ')');
	return buf_slice(&m->scratch);
}

VALUE(bounce_cat)
{
	if (r->type == ACCT_DELIVERED)
		return slice_str("success");
	if (!m->conf)
		return slice_str(acct_category_name(ACCT_CATEGORY_OTHER));
	return slice_str(acct_category_of(m->conf, r->type, r->code, r->enhanced, r->text));
}

VALUE(src_type)
{
	return slice_str(r->src_mta.n ? "smtp" : "local");
}

VALUE(total_seconds_queued)
{
	/* A clock that was set back must not give 584 million years. */
	msec_t ms = r->time_logged > r->time_queued ? r->time_logged - r->time_queued : 0;

	return number_text(m, ms / MSEC_PER_SEC);
}

VALUE(domain)
{
	ptrdiff_t at = slice_rchr(r->rcpt, '@');

	buf_clear(&m->scratch);
	if (at < 0)
		return nothing;
	for (size_t i = (size_t)at + 1; i < r->rcpt.n; i++)
		buf_add_char(&m->scratch, ascii_lower(r->rcpt.p[i]));
	return buf_slice(&m->scratch);
}

/* --- the table --- */

static const struct acct_field fields[] = {
#define FIELD_ROW(id, name, in, when, kind, doc) \
	[ACCT_FIELD_##id] = {name, in, WHEN_##when, ACCT_KIND_##kind, doc, field_##id},
	ACCT_FIELDS(FIELD_ROW)
#undef FIELD_ROW
};

static const struct {
	const char *alias, *name;
} aliases[] = {
#define ALIAS_ROW(alias, name) {alias, name},
	ACCT_FIELD_ALIASES(ALIAS_ROW)
#undef ALIAS_ROW
};

const struct acct_field *acct_field_get(enum acct_field_id id)
{
	return &fields[id];
}

int acct_field_find(struct slice name)
{
	for (size_t i = 0; i < ARRAY_SIZE(aliases); i++)
		if (slice_ieq_str(name, aliases[i].alias))
			name = slice_str(aliases[i].name);
	for (size_t i = 0; i < ARRAY_SIZE(fields); i++)
		if (slice_ieq_str(name, fields[i].name))
			return (int)i;
	return -1;
}

static void print_types(unsigned in, FILE *to)
{
	const char *space = "";

	for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
		if (!(in & types[i].bit))
			continue;
		fprintf(to, "%s%s", space, types[i].name);
		space = " ";
	}
}

void acct_fields_print_reference(FILE *to)
{
	fputs("# Accounting fields\n\nMade from the table in `common/acct/field.h`. Columns by "
	      "default stand "
	      "in this order;\nthe others are written when `record-fields` or `fields` names "
	      "them.\n\n"
	      "| field | records | by default | meaning |\n|---|---|---|---|\n",
	      to);
	for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
		fprintf(to, "| `%s` | ", fields[i].name);
		print_types(fields[i].types, to);
		fprintf(to, " | %s | %s |\n", fields[i].by_default ? "yes" : "", fields[i].doc);
	}
	fputs("\n| alias | field |\n|---|---|\n", to);
	for (size_t i = 0; i < ARRAY_SIZE(aliases); i++)
		fprintf(to, "| `%s` | `%s` |\n", aliases[i].alias, aliases[i].name);
	fputs("\n| bounceCat |\n|---|\n", to);
	for (unsigned i = 0; i < ACCT_CATEGORY_COUNT; i++)
		fprintf(to, "| `%s` |\n", acct_category_name((enum acct_category)i));
}
