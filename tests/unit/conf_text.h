/*
 * conf_text.h - for tests: loads a configuration from a string, gives messages as text with the name of
 * the temporary file replaced by "T". Everything is static: each test file has its own copy.
 */
#ifndef SLUICE_TESTS_CONF_TEXT_H
#define SLUICE_TESTS_CONF_TEXT_H

#include <criterion/criterion.h>
#include <dirent.h>
#include <limits.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/base/buf.h"
#include "common/base/fd.h"
#include "common/base/xalloc.h"
#include "common/conf/conf.h"

static char text_dir[] = "/tmp/sluice-conf-XXXXXX";

static inline void remove_text_dir(void)
{
	DIR *d = opendir(text_dir);
	struct dirent *e;

	while (d && (e = readdir(d)))
		unlinkat(dirfd(d), e->d_name, 0);
	if (d)
		closedir(d);
	rmdir(text_dir);
}

/*
 * Writes n bytes to a file in a temporary directory, which goes at the end of the process; returns
 * its path (free it).
 */
static inline char *text_file(const char *name, const void *p, size_t n)
{
	static bool made;
	char *path;
	FILE *f;

	if (!made) {
		cr_assert_not_null(mkdtemp(text_dir));
		atexit(remove_text_dir);
	}
	made = true;
	path = xasprintf("%s/%s", text_dir, name);
	f = fopen(path, "w");
	cr_assert_not_null(f);
	cr_assert_eq(fwrite(p, 1, n, f), n);
	fclose(f);
	return path;
}

static inline void replace_all(struct buf *b, const char *from, const char *to)
{
	struct buf out = BUF_INIT;
	const char *p = buf_cstr(b), *at;

	while ((at = strstr(p, from))) {
		buf_add(&out, p, (size_t)(at - p));
		buf_add_str(&out, to);
		p = at + strlen(from);
	}
	buf_add_str(&out, p);
	buf_done(b);
	*b = out;
}

/* All messages, one a line. */
static inline char *messages_text(const struct conf_messages *m, const char *path)
{
	struct buf b = BUF_INIT;
	char *text = NULL;
	size_t n = 0;
	FILE *f = open_memstream(&text, &n);

	conf_messages_print(m, f);
	fclose(f);
	buf_add(&b, text, n);
	free(text);
	if (path)
		replace_all(&b, path, "T");
	return buf_take(&b);
}

/* Loads text; *ret_messages (free it) holds the messages. */
static inline struct conf *load_bytes(const void *p, size_t n, char **ret_messages)
{
	char *path = text_file("test.conf", p, n);
	struct conf_messages m;
	struct conf *c = conf_load(path, &m);

	*ret_messages = messages_text(&m, path);
	conf_messages_done(&m);
	unlink(path);
	free(path);
	return c;
}

static inline struct conf *load_text(const char *text, char **ret_messages)
{
	return load_bytes(text, strlen(text), ret_messages);
}

/* Loads text that must be right; warnings are allowed. */
static inline struct conf *load_good(const char *text)
{
	char *messages;
	struct conf *c = load_text(text, &messages);

	cr_assert_not_null(c, "unexpected: %s\nin:\n%s", messages, text);
	free(messages);
	return c;
}

#endif
