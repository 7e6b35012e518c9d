#include "common/base/buf.h"
#include "common/base/roff.h"
#include "common/conf/scope.h"
#include "common/version.h"

static void put_directive(FILE *to, const struct conf_directive *d)
{
	struct slice rest = slice_str(d->keywords), word;
	struct buf text = BUF_INIT;
	const char *sep = "";

	while (slice_next(&rest, ' ', &word)) {
		buf_addf(&text, "%s%.*s", sep, SLICE_ARG(word));
		sep = ", ";
	}
	roff_line(to, ".TP\n.B ", buf_cstr(&text), "\n");
	roff_line(to, "", d->doc, ".\n");
	buf_clear(&text);
	conf_bounds_text(d, &text);
	roff_line(to, "Value: ", conf_type_rows[d->type].text, "");
	roff_line(to, text.n ? "; " : "", buf_cstr(&text), ".\n");
	if (*d->def)
		roff_line(to, "Default: ", d->def, ".\n");
	if (d->kind == CONF_KIND_RESTART)
		fputs("Needs a new start.\n", to);
	buf_done(&text);
}

void conf_print_manual(FILE *to)
{
	fputs(".\\\" made by: sluiced --print-manual\n.TH SLUICE.CONF 5 \"\" "
	      "\"Sluice " SLUICE_VERSION "\"\n.SH NAME\n"
	      "sluice.conf \\- configuration of the outbound mail server Sluice\n.SH SYNOPSIS\n"
	      ".I /etc/sluice/sluice.conf\n.SH DESCRIPTION\n"
	      "Sections in square brackets, and lines \"directive = value\" in them. A line that "
	      "begins "
	      "with # or ; is a comment, so is what follows one of them behind a blank. A section "
	      "may be given more than once; its lines add up.\n.PP\n.nf\n"
	      "include = /etc/sluice/providers.conf\n.fi\n.PP\n"
	      "takes in another file.\n.B sluiced \\-\\-check\n"
	      "and\n.B sluice check config\n"
	      "say what is wrong, with file and line;\n.B sluice reload\n"
	      "puts a changed file into force;\n.B sluice show settings\n"
	      "shows what holds for a queue, and which line says so.\n",
	      to);
	for (size_t i = 0; i < CONF_SCOPE_COUNT; i++) {
		const struct conf_scope *s = &conf_scopes[i];
		struct buf title = BUF_INIT;

		buf_addf(&title, "[%.*s%s%s]", SLICE_ARG(conf_words_first(s->words)),
			 s->has_name ? " " : "", s->name_text);
		roff_line(to, ".SH ", buf_cstr(&title), "\n");
		roff_line(to, "", s->doc, ".\n");
		for (size_t j = 0; j < s->n; j++)
			put_directive(to, &s->rows[j]);
		buf_done(&title);
	}
	fputs(".SH SEE ALSO\n.BR sluice (1),\n.BR sluiced (8)\n", to);
}
