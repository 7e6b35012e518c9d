#include "common/conf/reader.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <ini.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/err.h"
#include "common/base/fd.h"
#include "common/base/xalloc.h"
#include "common/conf/lines.h"
#include "common/conf/scope.h"

/* One open file; they stack through includes. */
struct reader {
	const struct reader *parent;
	dev_t dev;
	ino_t ino;
	unsigned depth;
	struct conf_lines lines;
	struct arena *arena;
	struct conf_items *items;
	struct conf_messages *msgs;
	size_t header; /* items->v[header] opened the current section; SIZE_MAX: none yet */
	struct buf tokens; /* for inih, from token_at on */
	size_t token_at;
	struct conf_line line; /* the logical line that the last token stands for */
};

void conf_items_done(struct conf_items *items)
{
	free(items->v);
	*items = (struct conf_items){NULL, 0, 0};
}

static struct conf_item *add_item(struct conf_items *items)
{
	if (items->n == items->cap) {
		items->cap = items->cap ? items->cap * 2 : 256;
		items->v = xreallocarray(items->v, items->cap, sizeof(*items->v));
	}
	items->v[items->n] = (struct conf_item){.header = false};
	return &items->v[items->n++];
}

static struct slice keep(struct arena *a, struct slice s)
{
	return slice_of(arena_dup(a, s), s.n);
}

static void read_include(struct reader *r, struct conf_origin at, struct slice pattern);

static void take_header(struct reader *r)
{
	struct conf_item *it = add_item(r->items);

	it->header = true;
	it->word = keep(r->arena, r->line.word);
	it->text = keep(r->arena, r->line.text);
	it->scope = r->lines.scope;
	it->at = r->line.at;
	r->header = r->items->n - 1;
}

static void take_entry(struct reader *r)
{
	struct conf_item *it;

	if (slice_ieq_str(r->line.word, "include")) {
		if (r->lines.merged)
			conf_error(r->msgs, r->line.at, "include in merged text");
		else
			read_include(r, r->line.at, r->line.text);
		return;
	}
	if (r->header == SIZE_MAX) {
		conf_error(r->msgs, r->line.at, "%.*s stands before the first section header",
			   SLICE_ARG(r->line.word));
		return;
	}
	it = add_item(r->items);
	it->word = keep(r->arena, r->line.word);
	it->text = keep(r->arena, r->line.text);
	it->scope = r->lines.scope;
	it->at = r->line.at;
	it->secret = r->line.secret;
}

/*
 * inih asks for the next line: it gets "[h]" and "h=1" for a header (it reports no empty sections),
 * and "e=1" for an entry; the line itself waits in r->line.
 */
static char *next_token(char *str, int num, void *stream)
{
	struct reader *r = stream;
	enum conf_line_kind kind = CONF_LINE_BAD;
	struct slice s;
	ptrdiff_t nl;

	if (r->token_at == r->tokens.n) {
		while (kind == CONF_LINE_BAD)
			kind = conf_lines_next(&r->lines, &r->line);
		if (kind == CONF_LINE_END)
			return NULL;
		buf_clear(&r->tokens);
		r->token_at = 0;
		buf_add_str(&r->tokens, kind == CONF_LINE_HEADER ? "[h]\nh=1\n" : "e=1\n");
	}
	s = slice_from(buf_slice(&r->tokens), r->token_at);
	nl = slice_chr(s, '\n');
	s = slice_sub(s, 0, (size_t)nl + 1);
	r->token_at += s.n;
	return slice_copy(s, str, (size_t)num) ? str : NULL;
}

static int on_token(void *user, const char *section, const char *name, const char *value)
{
	struct reader *r = user;

	(void)section;
	(void)value;
	if (*name == 'h')
		take_header(r);
	else
		take_entry(r);
	return 1;
}

/* Reads all of r->lines. */
static void run(struct reader *r)
{
	int rc = ini_parse_stream(next_token, r, on_token, r);

	if (rc != 0)
		conf_error(r->msgs, r->lines.at, "inih gave up at token %d", rc);
	buf_done(&r->tokens);
	conf_lines_done(&r->lines);
}

static bool in_stack(const struct reader *r, const struct stat *st)
{
	for (; r; r = r->parent)
		if (r->dev == st->st_dev && r->ino == st->st_ino)
			return true;
	return false;
}

/* Opens and reads a whole file; on failure reports it at `at` (or at the file for the first). */
static bool slurp(const char *path, const struct reader *parent, struct conf_origin at,
		  struct conf_messages *msgs, struct buf *text, struct stat *st)
{
	int fd, rc;

	if (strchr(path, '\n')) {
		conf_error(msgs, at, "cannot read %s: its name holds a line break", path);
		return false;
	}
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0 || fstat(fd, st) < 0) {
		conf_error(msgs, at, "cannot read %s: %s", path, strerror(errno));
		if (fd >= 0)
			close(fd);
		return false;
	}
	if (S_ISDIR(st->st_mode)) {
		conf_error(msgs, at, "cannot read %s: it is a directory (write %s/*.conf)", path,
			   path);
		close(fd);
		return false;
	}
	if (in_stack(parent, st)) {
		conf_error(msgs, at, "include loop: %s includes itself", path);
		close(fd);
		return false;
	}
	rc = fd_read_all(fd, CONF_FILE_MAX, text);
	if (rc == ERR_TOO_LONG)
		conf_error(msgs, at, "%s is larger than %zu MiB", path, CONF_FILE_MAX >> 20);
	else if (rc < 0)
		conf_error(msgs, at, "cannot read %s: %s", path, strerror(errno));
	close(fd);
	return rc == 0;
}

static void read_one(const char *path, struct reader *parent, struct conf_origin at,
		     struct arena *arena, struct conf_items *items, struct conf_messages *msgs)
{
	struct reader r = {.parent = parent,
			   .arena = arena,
			   .items = items,
			   .msgs = msgs,
			   .header = SIZE_MAX,
			   .depth = parent ? parent->depth + 1 : 0};
	struct buf text = BUF_INIT;
	struct stat st;

	if (slurp(path, parent, at, msgs, &text, &st)) {
		r.dev = st.st_dev;
		r.ino = st.st_ino;
		conf_lines_init(&r.lines, buf_slice(&text), arena_dup(arena, slice_str(path)),
				false, arena, msgs);
		if (parent) {
			r.header = parent->header;
			r.lines.scope = parent->lines.scope;
		}
		run(&r);
	}
	buf_done(&text);
}

static int by_byte(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The section of the including file goes on after a file that opened its own. */
static void reopen_section(struct reader *r, size_t items_before)
{
	struct conf_item *it;

	for (size_t i = items_before; i < r->items->n; i++) {
		if (!r->items->v[i].header)
			continue;
		if (r->header == SIZE_MAX)
			return;
		it = add_item(r->items);
		*it = r->items->v[r->header];
		it->reopens = it->reopens ? it->reopens : r->header + 1;
		return;
	}
}

static void read_matches(struct reader *r, struct conf_origin at, const char *pattern,
			 bool may_miss)
{
	glob_t g;
	int rc = glob(pattern, GLOB_NOSORT, NULL, &g);
	size_t before;

	if (rc == GLOB_NOMATCH && !may_miss)
		conf_error(r->msgs, at, "include: no file matches %s (include = -%s allows that)",
			   pattern, pattern);
	else if (rc != 0 && rc != GLOB_NOMATCH)
		conf_error(r->msgs, at, "include: cannot search for %s: %s", pattern,
			   strerror(errno));
	if (rc != 0)
		return;
	qsort(g.gl_pathv, g.gl_pathc, sizeof(*g.gl_pathv), by_byte);
	for (size_t i = 0; i < g.gl_pathc; i++) {
		before = r->items->n;
		read_one(g.gl_pathv[i], r, at, r->arena, r->items, r->msgs);
		reopen_section(r, before);
	}
	globfree(&g);
}

static void read_include(struct reader *r, struct conf_origin at, struct slice pattern)
{
	struct slice dir = slice_str(r->lines.at.file);
	ptrdiff_t slash = slice_rchr(dir, '/');
	bool may_miss = pattern.n && pattern.p[0] == '-';
	char *path;

	if (may_miss)
		pattern = slice_trim(slice_from(pattern, 1));
	if (pattern.n >= 2 && pattern.p[0] == '"' && pattern.p[pattern.n - 1] == '"')
		pattern = slice_sub(pattern, 1, pattern.n - 2);
	if (pattern.n == 0) {
		conf_error(r->msgs, at,
			   "include: name a file, for example include = conf.d/*.conf");
		return;
	}
	if (r->depth + 1 >= CONF_INCLUDE_DEPTH) {
		conf_error(r->msgs, at, "include: more than %d levels", CONF_INCLUDE_DEPTH);
		return;
	}
	if (pattern.p[0] == '/' || slash < 0)
		path = slice_dup(pattern);
	else
		path = xasprintf("%.*s/%.*s", (int)slash, dir.p, SLICE_ARG(pattern));
	read_matches(r, at, path, may_miss);
	free(path);
}

void conf_read_file(const char *path, struct arena *arena, struct conf_items *items,
		    struct conf_messages *msgs)
{
	read_one(path, NULL, (struct conf_origin){NULL, 0}, arena, items, msgs);
}

void conf_read_text(struct slice text, const char *name, struct arena *arena,
		    struct conf_items *items, struct conf_messages *msgs)
{
	struct reader r = {.arena = arena, .items = items, .msgs = msgs, .header = SIZE_MAX};

	conf_lines_init(&r.lines, text, name, true, arena, msgs);
	run(&r);
}

void conf_read_merged(struct slice merged, struct arena *arena, struct conf_items *items,
		      struct conf_messages *msgs)
{
	conf_read_text(merged, "merged configuration", arena, items, msgs);
}

void conf_write_merged(const struct conf_items *items, struct buf *to)
{
	for (size_t i = 0; i < items->n; i++) {
		const struct conf_item *it = &items->v[i];

		buf_addf(to, "#@ %u %c %s\n", it->at.line, it->secret ? 's' : '-', it->at.file);
		if (it->header)
			buf_addf(to, "[%.*s]\n", SLICE_ARG(it->text));
		else
			buf_addf(to, "%.*s = %.*s\n", SLICE_ARG(it->word), SLICE_ARG(it->text));
	}
}
