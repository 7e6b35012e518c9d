#include "common/acct/layout.h"

#include <stdlib.h>

#include "common/acct/field.h"
#include "common/base/err.h"
#include "common/base/xalloc.h"

static const enum acct_type type_order[ACCT_TYPE_COUNT] = {ACCT_DELIVERED, ACCT_BOUNCED,
							   ACCT_TRANSIENT, ACCT_QUEUE};

struct column {
	const struct acct_field *field;
	unsigned types; /* where it was selected: other types leave it empty */
};

struct acct_layout {
	struct acct_layout_options o;
	uint8_t chosen[ACCT_TYPE_COUNT][ACCT_FIELD_COUNT]; /* by type, in order, without `type` */
	size_t chosen_count[ACCT_TYPE_COUNT];
	struct column columns[ACCT_FIELD_COUNT];
	size_t column_count;
	struct acct_maker maker;
	struct buf clean;
};

/* --- columns --- */

static bool chosen_has(const struct acct_layout *l, size_t type, unsigned field)
{
	return memchr(l->chosen[type], (int)field, l->chosen_count[type]) != NULL;
}

static void chosen_add(struct acct_layout *l, size_t type, unsigned field)
{
	if (field != ACCT_FIELD_type && !chosen_has(l, type, field))
		l->chosen[type][l->chosen_count[type]++] = (uint8_t)field;
}

static void chosen_remove(struct acct_layout *l, size_t type, unsigned field)
{
	size_t kept = 0;

	for (size_t i = 0; i < l->chosen_count[type]; i++)
		if (l->chosen[type][i] != field)
			l->chosen[type][kept++] = l->chosen[type][i];
	l->chosen_count[type] = kept;
}

static void chosen_add_defaults(struct acct_layout *l, size_t type)
{
	for (unsigned i = 0; i < ACCT_FIELD_COUNT; i++) {
		const struct acct_field *f = acct_field_get((enum acct_field_id)i);

		if (f->by_default && (f->types & acct_type_bit(type_order[type])))
			chosen_add(l, type, i);
	}
}

static struct column *column_find(struct acct_layout *l, const struct acct_field *f)
{
	for (size_t i = 0; i < l->column_count; i++)
		if (l->columns[i].field == f)
			return &l->columns[i];
	return NULL;
}

static void column_add(struct acct_layout *l, const struct acct_field *f, unsigned types)
{
	struct column *c = column_find(l, f);

	if (!c) {
		c = &l->columns[l->column_count++];
		*c = (struct column){.field = f};
	}
	c->types |= types;
}

/* The columns of the file are the union of those of its types; `type` is always the first. */
static void columns_build(struct acct_layout *l)
{
	l->column_count = 0;
	column_add(l, acct_field_get(ACCT_FIELD_type), l->o.types);
	for (size_t t = 0; t < ACCT_TYPE_COUNT; t++) {
		unsigned bit = acct_type_bit(type_order[t]);

		if (!(l->o.types & bit))
			continue;
		for (size_t i = 0; i < l->chosen_count[t]; i++)
			column_add(l, acct_field_get((enum acct_field_id)l->chosen[t][i]), bit);
	}
}

struct acct_layout *acct_layout_new(const struct acct_layout_options *o)
{
	struct acct_layout *l = xcalloc(1, sizeof(*l));

	l->o = *o;
	l->maker.iso_times = o->iso_times;
	l->maker.user_string = o->user_string;
	l->maker.conf = o->conf;
	for (size_t t = 0; t < ACCT_TYPE_COUNT; t++)
		chosen_add_defaults(l, t);
	columns_build(l);
	return l;
}

void acct_layout_free(struct acct_layout *l)
{
	if (!l)
		return;
	buf_done(&l->maker.scratch);
	buf_done(&l->clean);
	free(l);
}

int acct_layout_select(struct acct_layout *l, enum acct_type type, const char *const *names,
		       size_t n, char **ret_error)
{
	size_t t = 0;

	while (type_order[t] != type)
		t++;
	l->chosen_count[t] = 0;
	if (n && names[0][0] == '!')
		chosen_add_defaults(l, t);
	for (size_t i = 0; i < n; i++) {
		struct slice name = slice_str(names[i]);
		bool without = name.n && name.p[0] == '!';
		int f;

		if (slice_eq_str(name, "*")) {
			chosen_add_defaults(l, t);
			continue;
		}
		name = slice_trim(slice_from(name, without ? 1 : 0));
		f = acct_field_find(name);
		if (f < 0) {
			*ret_error =
				xasprintf("there is no accounting field %.*s", SLICE_ARG(name));
			return ERR_CONFIG;
		}
		if (!(acct_field_get((enum acct_field_id)f)->types & acct_type_bit(type)))
			continue;
		if (without)
			chosen_remove(l, t, (unsigned)f);
		else
			chosen_add(l, t, (unsigned)f);
	}
	columns_build(l);
	return 0;
}

/* --- text --- */

/*
 * Length of the UTF-8 sequence at p (n bytes are left), 0 if it is none (RFC 3629: no surrogates,
 * shortest form).
 */
static size_t utf8_length(const uint8_t *p, size_t n)
{
	uint8_t low = 0x80, high = 0xbf;
	size_t length;

	if (p[0] < 0x80)
		return 1;
	if (p[0] < 0xc2 || p[0] > 0xf4)
		return 0;
	length = p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
	if (length > n)
		return 0;
	if (p[0] == 0xe0)
		low = 0xa0;
	else if (p[0] == 0xed)
		high = 0x9f;
	else if (p[0] == 0xf0)
		low = 0x90;
	else if (p[0] == 0xf4)
		high = 0x8f;
	if (p[1] < low || p[1] > high)
		return 0;
	for (size_t i = 2; i < length; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	return length;
}

/* What a byte asks for; most texts are plain and are copied in one go. */
enum { BYTE_QUOTE = 1, BYTE_JSON = 2, BYTE_CHECK = 4 };

static unsigned byte_class(uint8_t c)
{
	if (c >= 0x80 || c == 0)
		return BYTE_CHECK | BYTE_JSON;
	if (c == '"' || c == '\r' || c == '\n')
		return BYTE_QUOTE | BYTE_JSON;
	if (c == ',')
		return BYTE_QUOTE;
	return c < 0x20 || c == '\\' ? BYTE_JSON : 0;
}

static uint8_t byte_classes[256];

__attribute__((constructor)) static void byte_classes_fill(void)
{
	for (unsigned c = 0; c < 256; c++)
		byte_classes[c] = (uint8_t)byte_class((uint8_t)c);
}

static unsigned text_class(struct slice s)
{
	unsigned all = 0;

	for (size_t i = 0; i < s.n; i++)
		all |= byte_classes[(uint8_t)s.p[i]];
	return all;
}

/*
 * s with U+FFFD for what is not UTF-8, and for NUL where keep_nul is false; borrowed from l->clean
 * if changed.
 */
static struct slice text_clean(struct acct_layout *l, struct slice s, bool keep_nul)
{
	const uint8_t *p = (const uint8_t *)s.p;
	size_t i = 0;

	buf_clear(&l->clean);
	while (i < s.n) {
		size_t n = p[i] || keep_nul ? utf8_length(p + i, s.n - i) : 0;

		if (n)
			buf_add(&l->clean, p + i, n);
		else
			buf_add_str(&l->clean, "\xef\xbf\xbd");
		i += n ? n : 1;
	}
	return buf_slice(&l->clean);
}

static void csv_value(struct acct_layout *l, struct slice s, struct buf *b)
{
	unsigned class = text_class(s);

	if (class & BYTE_CHECK)
		s = text_clean(l, s, false);
	if (!(class & BYTE_QUOTE)) {
		buf_add_slice(b, s);
		return;
	}
	buf_add_char(b, '"');
	for (;;) {
		ptrdiff_t quote = slice_chr(s, '"');

		if (quote < 0)
			break;
		buf_add(b, s.p, (size_t)quote + 1);
		buf_add_char(b, '"');
		s = slice_from(s, (size_t)quote + 1);
	}
	buf_add_slice(b, s);
	buf_add_char(b, '"');
}

static void json_char(uint8_t c, struct buf *b)
{
	static const char hex[] = "0123456789abcdef";

	if (c == '"' || c == '\\') {
		buf_add_char(b, '\\');
		buf_add_char(b, (char)c);
	} else if (c < 0x20) {
		buf_add_str(b, "\\u00");
		buf_add_char(b, hex[c >> 4]);
		buf_add_char(b, hex[c & 15]);
	} else {
		buf_add_char(b, (char)c);
	}
}

static void json_value(struct acct_layout *l, struct slice s, struct buf *b)
{
	unsigned class = text_class(s);

	if (class & BYTE_CHECK)
		s = text_clean(l, s, true);
	buf_add_char(b, '"');
	if (!(class & BYTE_JSON))
		buf_add_slice(b, s);
	else
		for (size_t i = 0; i < s.n; i++)
			json_char((uint8_t)s.p[i], b);
	buf_add_char(b, '"');
}

/* --- lines --- */

void acct_layout_header(struct acct_layout *l, struct buf *b)
{
	if (l->o.json)
		return;
	for (size_t i = 0; i < l->column_count; i++) {
		if (i)
			buf_add_char(b, ',');
		buf_add_str(b, l->columns[i].field->name);
	}
	buf_add_char(b, '\n');
}

static void csv_line(struct acct_layout *l, const struct acct_record *r, unsigned bit, uint64_t seq,
		     struct buf *b)
{
	for (size_t i = 0; i < l->column_count; i++) {
		const struct column *c = &l->columns[i];

		if (i)
			buf_add_char(b, ',');
		if (!(c->types & bit))
			continue;
		if (c->field->kind == ACCT_KIND_TEXT)
			csv_value(l, c->field->value(&l->maker, r, seq), b);
		else
			buf_add_slice(b, c->field->value(&l->maker, r, seq));
	}
	buf_add_char(b, '\n');
}

static void json_line(struct acct_layout *l, const struct acct_record *r, unsigned bit,
		      uint64_t seq, struct buf *b)
{
	const char *before = "{\"";

	for (size_t i = 0; i < l->column_count; i++) {
		const struct column *c = &l->columns[i];
		struct slice v;

		if (!(c->types & bit))
			continue;
		buf_add_str(b, before);
		before = ",\"";
		buf_add_str(b, c->field->name);
		buf_add_str(b, "\":");
		v = c->field->value(&l->maker, r, seq);
		if (c->field->kind == ACCT_KIND_NUMBER)
			buf_add_slice(b, v);
		else if (c->field->kind == ACCT_KIND_TIME && !l->o.iso_times && v.n)
			buf_add_slice(b, v);
		else
			json_value(l, v, b);
	}
	buf_add_str(b, "}\n");
}

bool acct_layout_line(struct acct_layout *l, const struct acct_record *r, uint64_t seq,
		      struct buf *b)
{
	unsigned bit = acct_type_bit(r->type);

	if (!(l->o.types & bit))
		return false;
	if (l->o.json)
		json_line(l, r, bit, seq, b);
	else
		csv_line(l, r, bit, seq, b);
	return true;
}
