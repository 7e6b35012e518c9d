#include "cli/table.h"

#include <stdlib.h>
#include <string.h>

#include "cli/text.h"
#include "common/base/xalloc.h"

#define SAMPLE 500 /* rows that are kept back to find the widths */
#define MIN_TEXT 10
#define COLUMNS_MAX 24
#define GAP 2

struct table {
	struct cli *cli;
	const struct column *columns;
	const char *nothing;
	size_t column_count, rows;
	size_t widths[COLUMNS_MAX];
	bool filled[COLUMNS_MAX],
		hidden[COLUMNS_MAX]; /* empty ones are left out where room is short */
	bool fixed; /* widths are known, the title is out */
	char **kept; /* cells of the sample, row after row */
	size_t kept_count;
};

static bool is_number(enum column_kind k)
{
	return k == COL_COUNT || k == COL_BYTES || k == COL_SPAN;
}

struct table *table_new(struct cli *cli, const struct column *columns, const char *nothing)
{
	struct table *t = xcalloc(1, sizeof(*t));

	t->cli = cli;
	t->columns = columns;
	t->nothing = nothing;
	while (columns[t->column_count].title && t->column_count < COLUMNS_MAX) {
		t->widths[t->column_count] = strlen(columns[t->column_count].title);
		t->column_count++;
	}
	t->kept = xcalloc(SAMPLE * t->column_count, sizeof(*t->kept));
	return t;
}

static size_t total_width(const struct table *t)
{
	size_t sum = 0, i;

	for (i = 0; i < t->column_count; i++)
		if (!t->hidden[i])
			sum += t->widths[i] + GAP;
	return sum - GAP;
}

/* The widest column of this kind that may still shrink; column_count: none. */
static size_t widest(const struct table *t, enum column_kind kind)
{
	size_t best = t->column_count, i;

	for (i = 0; i < t->column_count; i++)
		if (t->columns[i].kind == kind && !t->hidden[i] && t->widths[i] > MIN_TEXT &&
		    (best == t->column_count || t->widths[i] > t->widths[best]))
			best = i;
	return best;
}

static bool too_wide(const struct table *t)
{
	return t->cli->width > 0 && total_width(t) > (size_t)t->cli->width;
}

/* The last column that is shown; 0 when only the first is left. */
static size_t last_shown(const struct table *t)
{
	size_t i = t->column_count - 1;

	while (i > 0 && t->hidden[i])
		i--;
	return i;
}

/* What is empty gives way first, then texts, then names; then whole columns, from the right. */
static void fit(struct table *t)
{
	size_t i;

	for (i = 1; i < t->column_count && too_wide(t); i++)
		t->hidden[i] = !t->filled[i];
	while (too_wide(t)) {
		i = widest(t, COL_TEXT);
		if (i == t->column_count)
			i = widest(t, COL_NAME);
		if (i < t->column_count) {
			t->widths[i]--;
			continue;
		}
		i = last_shown(t);
		if (i == 0)
			return;
		t->hidden[i] = true;
	}
}

static void spaces(FILE *out, size_t n)
{
	while (n--)
		fputc(' ', out);
}

static void print_cell(const struct table *t, size_t i, const char *text, bool last)
{
	struct slice s = slice_str(text);
	size_t width = text_width(s), pad;
	bool cut;

	if (t->hidden[i])
		return;
	cut = t->cli->width > 0 && width > t->widths[i] && !is_number(t->columns[i].kind);
	if (cut) {
		s = text_cut(s, t->widths[i] - 1);
		width = t->widths[i];
	}
	pad = width < t->widths[i] ? t->widths[i] - width : 0;
	if (is_number(t->columns[i].kind))
		spaces(t->cli->out, pad);
	fprintf(t->cli->out, "%.*s%s", SLICE_ARG(s), cut ? "~" : "");
	if (!is_number(t->columns[i].kind) && !last)
		spaces(t->cli->out, pad);
	spaces(t->cli->out, last ? 0 : GAP);
}

static void print_title(const struct table *t)
{
	size_t i, last = t->column_count - 1;

	while (t->hidden[last])
		last--;
	fputs(t->cli->color ? "\033[1m" : "", t->cli->out);
	for (i = 0; i <= last; i++)
		print_cell(t, i, t->columns[i].title, i == last);
	fputs(t->cli->color ? "\033[0m\n" : "\n", t->cli->out);
}

static void print_row(const struct table *t, char **cells)
{
	size_t i, last = t->column_count - 1;

	/* no blanks at the end of a line */
	while (last > 0 && (t->hidden[last] || !*cells[last]))
		last--;
	for (i = 0; i < t->column_count; i++) {
		if (i <= last)
			print_cell(t, i, cells[i], i == last);
		free(cells[i]);
	}
	fputc('\n', t->cli->out);
}

static void flush_sample(struct table *t)
{
	size_t i;

	if (t->fixed)
		return;
	t->fixed = true;
	fit(t);
	print_title(t);
	for (i = 0; i < t->kept_count; i++)
		print_row(t, t->kept + i * t->column_count);
	t->kept_count = 0;
}

static void add_cells(struct table *t, const json_t *row)
{
	char **cells = t->kept + t->kept_count * t->column_count;
	size_t i;

	for (i = 0; i < t->column_count; i++) {
		struct buf b = BUF_INIT;
		size_t width;

		text_value(&b, json_object_get(row, t->columns[i].key), t->columns[i].kind);
		width = text_width(buf_slice(&b));
		cells[i] = buf_take(&b);
		t->filled[i] = t->filled[i] || width;
		if (!t->fixed && width > t->widths[i])
			t->widths[i] = width;
	}
	if (t->fixed)
		print_row(t, cells);
	else if (++t->kept_count == SAMPLE)
		flush_sample(t);
}

void table_add(struct table *t, const json_t *row)
{
	if (t->cli->json) {
		fputs(t->rows ? ",\n" : "[", t->cli->out);
		json_dumpf(row, t->cli->out, JSON_COMPACT);
	} else {
		add_cells(t, row);
	}
	t->rows++;
}

size_t table_count(const struct table *t)
{
	return t->rows;
}

void table_drop(struct table *t)
{
	if (t)
		free(t->kept);
	free(t);
}

void table_end(struct table *t)
{
	if (t->cli->json)
		fputs(t->rows ? "]\n" : "[]\n", t->cli->out);
	else if (t->rows)
		flush_sample(t);
	else if (t->nothing)
		fprintf(t->cli->out, "%s\n", t->nothing);
	table_drop(t);
}

void table_fields(struct cli *cli, const json_t *object, const struct column *fields)
{
	const struct column *f;
	size_t width = 0;

	for (f = fields; f->title; f++)
		width = strlen(f->title) > width ? strlen(f->title) : width;
	for (f = fields; f->title; f++) {
		struct buf b = BUF_INIT;

		text_value(&b, json_object_get(object, f->key), f->kind);
		if (b.n)
			fprintf(cli->out, "%-*s  %s\n", (int)width, f->title, buf_cstr(&b));
		buf_done(&b);
	}
}

void table_inside(struct cli *cli, const char *title, const json_t *array,
		  const struct column *columns)
{
	struct table *t;
	const json_t *row;
	size_t i;

	if (json_array_size(array) == 0)
		return;
	fprintf(cli->out, *title ? "\n%s\n" : "%s\n", title);
	t = table_new(cli, columns, NULL);
	for (i = 0; (row = json_array_get(array, i)); i++)
		table_add(t, row);
	table_end(t);
}
