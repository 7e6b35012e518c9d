#include "common/base/buf.h"
#include "common/base/macros.h"
#include "common/conf/scope.h"

/* Text for a Markdown cell. */
static void put_cell(FILE *to, const char *s)
{
	for (; *s; s++) {
		if (*s == '|' || *s == '*' || *s == '<' || *s == '_')
			fputc('\\', to);
		fputc(*s, to);
	}
}

static void put_value(FILE *to, const struct conf_directive *d)
{
	struct buf b = BUF_INIT;

	put_cell(to, conf_type_rows[d->type].text);
	conf_bounds_text(d, &b);
	if (b.n)
		fprintf(to, "; %s", buf_cstr(&b));
	buf_done(&b);
}

static void put_row(FILE *to, const struct conf_directive *d)
{
	static const char *const kinds[] = {
		[CONF_KIND_RELOAD] = "reload",
		[CONF_KIND_RESTART] = "new start",
		[CONF_KIND_SITE] = "reload; site",
		[CONF_KIND_MESSAGE] = "reload; message",
	};
	struct slice rest = slice_str(d->keywords), word;
	const char *sep = "| ";

	while (slice_next(&rest, ' ', &word)) {
		fprintf(to, "%s`%.*s`", sep, SLICE_ARG(word));
		sep = " = ";
	}
	fputs(" | ", to);
	put_value(to, d);
	if (*d->def)
		fprintf(to, " | `%s` | ", d->def);
	else
		fputs(" | | ", to);
	fprintf(to, "%s | ", kinds[d->kind]);
	put_cell(to, d->doc);
	fputs(" |\n", to);
}

void conf_print_reference(FILE *to)
{
	fputs("# Settings\n\n"
	      "Made from the table of directives by `sluiced --print-reference`; do not edit.\n"
	      "The language itself is described in [configuration.md](../configuration.md).\n"
	      "\"Changes with\" says whether a reload is enough; in `[domain]` it also says "
	      "whether the\n"
	      "directive is for the site connected to or for the message by its recipient's "
	      "domain.\n",
	      to);
	for (size_t i = 0; i < CONF_SCOPE_COUNT; i++) {
		const struct conf_scope *s = &conf_scopes[i];
		struct slice word = conf_words_first(s->words);

		fprintf(to, "\n## [%.*s%s%s]\n\n", SLICE_ARG(word), s->has_name ? " " : "",
			s->name_text);
		put_cell(to, s->doc);
		fputs(".\n", to);
		if (!s->n)
			continue;
		fputs("\n| directive | value | default | changes with | meaning |\n"
		      "|---|---|---|---|---|\n",
		      to);
		for (size_t j = 0; j < s->n; j++)
			put_row(to, &s->rows[j]);
	}
}

void conf_print_directives(FILE *to)
{
	for (size_t i = 0; i < CONF_SCOPE_COUNT; i++) {
		const struct conf_scope *s = &conf_scopes[i];
		struct slice scope = conf_words_first(s->words);

		for (size_t j = 0; j < s->n; j++) {
			struct slice rest = slice_str(s->rows[j].keywords), word;

			while (slice_next(&rest, ' ', &word))
				fprintf(to, "%.*s %.*s\n", SLICE_ARG(scope), SLICE_ARG(word));
		}
	}
}
