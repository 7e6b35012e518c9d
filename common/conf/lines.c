#include "common/conf/lines.h"

#include <stdlib.h>

#include "common/conf/arena.h"
#include "common/conf/private.h"
#include "common/conf/scope.h"

#define MARKER "#@ "

void conf_lines_init(struct conf_lines *l, struct slice text, const char *file, bool merged,
		     struct arena *arena, struct conf_messages *msgs)
{
	*l = (struct conf_lines){
		.rest = text, .at = {file, 0}, .merged = merged, .arena = arena, .msgs = msgs};
	if (text.n >= 3 && memcmp(text.p, "\xef\xbb\xbf", 3) == 0)
		l->rest = slice_from(text, 3); /* byte order mark */
}

void conf_lines_done(struct conf_lines *l)
{
	buf_done(&l->joined);
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

/* Takes a physical line from the front of *rest. */
static bool physical_line(struct slice *rest, struct slice *ret)
{
	ptrdiff_t nl;

	if (rest->n == 0)
		return false;
	nl = slice_chr(*rest, '\n');
	*ret = nl < 0 ? *rest : slice_sub(*rest, 0, (size_t)nl);
	*rest = nl < 0 ? slice_from(*rest, rest->n) : slice_from(*rest, (size_t)nl + 1);
	if (ret->n && ret->p[ret->n - 1] == '\r')
		ret->n--;
	return true;
}

/* Length of the UTF-8 sequence at p (n > 0 bytes), 0 if it is none: RFC 3629. */
static size_t utf8_length(const unsigned char *p, size_t n)
{
	size_t len = p[0] < 0x80   ? 1
		     : p[0] < 0xc2 ? 0
		     : p[0] < 0xe0 ? 2
		     : p[0] < 0xf0 ? 3
		     : p[0] < 0xf5 ? 4
				   : 0;

	if (len == 0 || len > n)
		return 0;
	for (size_t i = 1; i < len; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) ||
	    (p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f))
		return 0;
	return len;
}

/* What a line must not hold; NULL if it is clean. */
static const char *line_fault(struct slice s)
{
	const unsigned char *p = (const unsigned char *)s.p;

	for (size_t i = 0; i < s.n;) {
		size_t len = utf8_length(p + i, s.n - i);

		if (p[i] == 0)
			return "the line holds a NUL byte";
		if ((p[i] < 0x20 && p[i] != '\t') || p[i] == 0x7f)
			return "the line holds a control character";
		if (len == 0)
			return "the line is not UTF-8";
		i += len;
	}
	return NULL;
}

static bool is_comment(struct slice trimmed)
{
	return trimmed.n && (trimmed.p[0] == '#' || trimmed.p[0] == ';');
}

static size_t indent_of(struct slice line)
{
	size_t n = 0;

	while (n < line.n && is_blank(line.p[n]))
		n++;
	return n;
}

struct slice conf_strip_comment(struct slice value, bool *ret_found)
{
	bool quoted = false;

	*ret_found = false;
	for (size_t i = 0; i < value.n; i++) {
		char c = value.p[i];

		if (c == '\\' && i + 1 < value.n) {
			i++;
		} else if (c == '"') {
			quoted = !quoted;
		} else if (!quoted && (c == '#' || c == ';') && i > 0 && is_blank(value.p[i - 1])) {
			*ret_found = true;
			value.n = i;
			break;
		}
	}
	return slice_trim(value);
}

/* "#@ LINE FLAGS FILE" before a line of merged text. */
static void read_marker(struct conf_lines *l, struct slice s)
{
	struct slice line, flags;
	uint64_t n;

	s = slice_from(s, sizeof(MARKER) - 1);
	if (!slice_next(&s, ' ', &line) || !slice_next(&s, ' ', &flags) || !s.p ||
	    !slice_u64(line, &n) || n > UINT32_MAX)
		return;
	l->marked = true;
	l->secret = slice_chr(flags, 's') >= 0;
	l->mark.line = (unsigned)n;
	if (!l->mark.file || !slice_eq_str(s, l->mark.file))
		l->mark.file = arena_dup(l->arena, s);
}

/* Is this unindented line a section header, where a list might go on with [10/8] or [*.]d? */
static bool looks_like_header(struct slice trimmed)
{
	size_t i = 1;

	if (trimmed.n < 2 || trimmed.p[0] != '[')
		return false;
	while (i < trimmed.n &&
	       ((ascii_lower(trimmed.p[i]) >= 'a' && ascii_lower(trimmed.p[i]) <= 'z') ||
		trimmed.p[i] == '-'))
		i++;
	return i > 1 && i < trimmed.n && (trimmed.p[i] == ']' || is_blank(trimmed.p[i]));
}

/* How the value of a line is read. */
struct value_form {
	bool comments, list, regex;
};

/* A regex may hold what begins a comment behind it. */
static struct slice strip_behind_regex(struct slice s, size_t regex)
{
	struct slice rest;
	bool found;

	if (regex >= s.n)
		return s;
	rest = conf_strip_comment(slice_from(s, regex), &found);
	return slice_sub(s, 0, rest.n ? (size_t)(rest.p + rest.n - s.p) : regex);
}

/* Appends the value of one physical line, without its comment where the type has comments. */
static void add_piece(struct conf_lines *l, struct slice piece, const struct value_form *form)
{
	struct slice s = slice_trim(piece), so_far = buf_slice(&l->joined);
	bool found;

	if (form->regex && !so_far.n && s.n && s.p[0] == '/')
		s = strip_behind_regex(s, conf_regex_length(s));
	else if (form->regex && so_far.n && so_far.p[0] == '/' &&
		 conf_regex_length(so_far) == so_far.n && so_far.p[so_far.n - 1] != '/')
		; /* it goes on inside the regex */
	else if (form->comments)
		s = conf_strip_comment(s, &found);
	buf_add_slice(&l->joined, s);
}

/*
 * Appends the lines that continue a value: those indented more than its own, and after a trailing
 * comma in a list any that is not a header. A blank line ends a value; comment lines do not.
 */
static void join_continuations(struct conf_lines *l, size_t indent, const struct value_form *form)
{
	for (;;) {
		struct slice rest = l->rest, line, t;
		bool comma = form->list && l->joined.n && l->joined.p[l->joined.n - 1] == ',';
		const char *fault;

		if (!physical_line(&rest, &line))
			return;
		t = slice_trim(line);
		if (t.n == 0)
			return;
		if (!is_comment(t)) {
			bool deeper = indent_of(line) > indent;

			if (!deeper && (!comma || looks_like_header(t)))
				return;
		}
		l->rest = rest;
		l->at.line++;
		fault = line_fault(line);
		if (fault) {
			conf_error(l->msgs, l->at, "%s", fault);
			continue;
		}
		if (is_comment(t))
			continue;
		if (l->joined.n)
			buf_add_char(&l->joined, ' ');
		add_piece(l, t, form);
	}
}

static enum conf_line_kind bad(struct conf_lines *l, struct conf_origin at, const char *text)
{
	conf_error(l->msgs, at, "%s", text);
	return CONF_LINE_BAD;
}

/* The header ends at the last ']' of the line; a comment may follow. */
static enum conf_line_kind parse_header(struct conf_lines *l, struct slice t, struct conf_line *ret)
{
	ptrdiff_t close = slice_rchr(t, ']');
	struct slice after, text;
	bool comment;
	size_t i = 0;

	l->scope = NULL;
	if (close < 0)
		return bad(l, ret->at, "a section header ends with ']'");
	after = slice_from(t, (size_t)close + 1);
	if (slice_trim(after).n && !is_comment(slice_trim(after)))
		return bad(l, ret->at, "text after the ']' of a section header");
	text = slice_trim(slice_sub(t, 1, (size_t)close - 1));
	if (slice_chr(conf_strip_comment(text, &comment), ']') >= 0 && comment)
		return bad(l, ret->at,
			   "a section header ends at the last ']' of its line: a comment behind it "
			   "must not hold one");
	while (i < text.n && !is_blank(text.p[i]))
		i++;
	if (i == 0)
		return bad(l, ret->at, "a section header without a name");
	ret->word = slice_sub(text, 0, i);
	ret->text = text;
	l->scope = conf_scope_find(ret->word);
	return CONF_LINE_HEADER;
}

/* What would be refused when it is written as it should be says so at once. */
static bool not_to_be_had(struct conf_lines *l, struct slice name, bool section,
			  struct conf_origin at)
{
	struct buf why = BUF_INIT;
	bool known = conf_known_name(name, section, &why);

	if (known)
		conf_error(l->msgs, at, section ? "<%.*s> %s" : "%.*s %s", SLICE_ARG(name),
			   buf_cstr(&why));
	buf_done(&why);
	return known;
}

/* A line that is neither a header nor an entry: says what was probably meant. */
static enum conf_line_kind not_an_entry(struct conf_lines *l, struct slice t, struct conf_origin at)
{
	size_t i = 0;

	while (i < t.n && i < 60 && !is_blank(t.p[i]) && t.p[i] != '>' && t.p[i] != ':')
		i++;
	if (t.p[0] == '<' && t.n > 1 && t.p[1] == '/')
		return bad(l, at, "no end of a section is written: the next [section] ends it");
	if (not_to_be_had(l, slice_sub(t, t.p[0] == '<', i - (t.p[0] == '<')), t.p[0] == '<', at))
		return CONF_LINE_BAD;
	if (t.p[0] == '<')
		conf_error(l->msgs, at, "<%.*s …> is PowerMTA's form: write [%.*s …]", (int)i - 1,
			   t.p + 1, (int)i - 1, t.p + 1);
	else
		conf_error(l->msgs, at, "no '=' in this line: write %.*s = VALUE", (int)i, t.p);
	return CONF_LINE_BAD;
}

/* "KEYWORD = VALUE", or PowerMTA's "reply /…/ ACTION", whose first '=' is inside the value. */
static bool split_entry(const struct conf_lines *l, struct slice t, struct slice *ret_word,
			struct slice *ret_value)
{
	ptrdiff_t eq = slice_chr(t, '=');
	enum conf_type type;
	size_t i = 0;

	while (i < t.n && !is_blank(t.p[i]) && t.p[i] != '=')
		i++;
	*ret_word = slice_sub(t, 0, i);
	*ret_value = slice_trim(slice_from(t, i));
	if (ret_value->n && ret_value->p[0] == '/' && l->scope &&
	    conf_type_of(l->scope, *ret_word, &type) && conf_type_is_regex(type))
		return true;
	if (eq < 0 || t.p[0] == '<')
		return false;
	*ret_word = slice_trim(slice_sub(t, 0, (size_t)eq));
	*ret_value = slice_from(t, (size_t)eq + 1);
	return true;
}

static enum conf_line_kind parse_entry(struct conf_lines *l, struct slice line,
				       struct conf_line *ret)
{
	struct slice t = slice_trim(line), value;
	struct value_form form = {.comments = true};
	enum conf_type type;

	if (t.p[0] == '/')
		return bad(l, ret->at,
			   "no keyword before the regex: write reply = /…/ ACTION or "
			   "pattern = /…/ CATEGORY");
	if (!split_entry(l, t, &ret->word, &value))
		return not_an_entry(l, t, ret->at);
	if (ret->word.n == 0)
		return bad(l, ret->at, "no keyword before the '='");
	if (l->scope && conf_type_of(l->scope, ret->word, &type))
		form = (struct value_form){conf_type_rows[type].comments, conf_type_rows[type].list,
					   conf_type_is_regex(type)};
	buf_clear(&l->joined);
	add_piece(l, value, &form);
	if (!l->merged)
		join_continuations(l, indent_of(line), &form);
	ret->text = slice_trim(buf_slice(&l->joined));
	return CONF_LINE_ENTRY;
}

enum conf_line_kind conf_lines_next(struct conf_lines *l, struct conf_line *ret)
{
	struct slice line;

	while (physical_line(&l->rest, &line)) {
		struct slice t = slice_trim(line);
		const char *fault = line_fault(line);

		l->at.line++;
		ret->at = l->at;
		if (fault)
			return bad(l, l->at, fault);
		if (l->merged && slice_istarts(line, MARKER)) {
			read_marker(l, line);
			continue;
		}
		if (t.n == 0 || is_comment(t))
			continue;
		ret->secret = l->marked && l->secret;
		if (l->marked)
			ret->at = l->mark;
		l->marked = false;
		return t.p[0] == '[' ? parse_header(l, t, ret) : parse_entry(l, line, ret);
	}
	return CONF_LINE_END;
}
