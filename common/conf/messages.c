#include "common/conf/messages.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/xalloc.h"

static void add(struct conf_messages *m, enum log_level level, struct conf_origin at,
		const char *fmt, va_list ap) ATTR_PRINTF(4, 0);

static void add(struct conf_messages *m, enum log_level level, struct conf_origin at,
		const char *fmt, va_list ap)
{
	struct conf_message *msg;
	struct buf b = BUF_INIT;
	size_t file_at;

	buf_vaddf(&b, fmt, ap);
	buf_add_char(&b, '\0');
	file_at = b.n;
	if (at.file)
		buf_add_str(&b, at.file);
	/* One allocation holds the text and, behind its NUL, the file. */
	m->v = xreallocarray(m->v, m->n + 1, sizeof(*m->v));
	msg = &m->v[m->n++];
	msg->level = level;
	msg->text = buf_take(&b);
	msg->at = at;
	if (at.file)
		msg->at.file = msg->text + file_at;
}

void conf_error(struct conf_messages *m, struct conf_origin at, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	add(m, LOG_LEVEL_ERROR, at, fmt, ap);
	va_end(ap);
}

void conf_warning(struct conf_messages *m, struct conf_origin at, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	add(m, LOG_LEVEL_WARN, at, fmt, ap);
	va_end(ap);
}

bool conf_messages_have_error(const struct conf_messages *m)
{
	for (size_t i = 0; i < m->n; i++)
		if (m->v[i].level == LOG_LEVEL_ERROR)
			return true;
	return false;
}

struct sort_key {
	size_t file, index;
	unsigned line;
};

static int by_place(const void *va, const void *vb)
{
	const struct sort_key *a = va, *b = vb;

	if (a->file != b->file)
		return a->file < b->file ? -1 : 1;
	if (a->line != b->line)
		return a->line < b->line ? -1 : 1;
	return a->index < b->index ? -1 : a->index > b->index;
}

static bool same_file(const struct conf_message *a, const struct conf_message *b)
{
	if (!a->at.file || !b->at.file)
		return a->at.file == b->at.file;
	return strcmp(a->at.file, b->at.file) == 0;
}

void conf_messages_sort(struct conf_messages *m)
{
	struct sort_key *keys;
	struct conf_message *sorted;

	if (m->n < 2)
		return;
	keys = xcalloc(m->n, sizeof(*keys));
	for (size_t i = 0; i < m->n; i++) {
		size_t first = 0;

		while (!same_file(&m->v[first], &m->v[i]))
			first++;
		keys[i] = (struct sort_key){.file = first, .index = i, .line = m->v[i].at.line};
	}
	qsort(keys, m->n, sizeof(*keys), by_place);
	sorted = xcalloc(m->n, sizeof(*sorted));
	for (size_t i = 0; i < m->n; i++)
		sorted[i] = m->v[keys[i].index];
	free(m->v);
	free(keys);
	m->v = sorted;
}

void conf_messages_done(struct conf_messages *m)
{
	for (size_t i = 0; i < m->n; i++)
		free(m->v[i].text);
	free(m->v);
	*m = (struct conf_messages){NULL, 0};
}

void conf_messages_print(const struct conf_messages *m, FILE *to)
{
	for (size_t i = 0; i < m->n; i++) {
		const struct conf_message *msg = &m->v[i];
		const char *word = msg->level == LOG_LEVEL_ERROR ? "error" : "warning";

		if (msg->at.file && msg->at.line)
			fprintf(to, "%s:%u: %s: %s\n", msg->at.file, msg->at.line, word, msg->text);
		else if (msg->at.file)
			fprintf(to, "%s: %s: %s\n", msg->at.file, word, msg->text);
		else
			fprintf(to, "%s: %s\n", word, msg->text);
	}
}
