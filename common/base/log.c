#include "common/base/log.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LINE_MAX_BYTES 4096

struct line {
	char p[LINE_MAX_BYTES];
	size_t n;
};

static struct {
	enum log_level level;
	int fd;
	bool journal;
	char program[96];
} g = {.level = LOG_LEVEL_INFO, .fd = STDERR_FILENO, .program = "sluice"};

static const char *const level_name[] = {"error", "warn", "info", "debug"};
static const int level_priority[] = {3, 4, 6, 7}; /* syslog(3) */

bool log_enabled(enum log_level level)
{
	return level <= g.level;
}

void log_set_level(enum log_level level)
{
	g.level = level;
}

void log_set_fd(int fd)
{
	g.fd = fd < 0 ? STDERR_FILENO : fd;
}

int log_fd(void)
{
	return g.fd;
}

void log_set_journal(bool on)
{
	g.journal = on;
}

void log_set_program(const char *program, const char *instance)
{
	if (instance && *instance)
		snprintf(g.program, sizeof(g.program), "%s[%s]", program, instance);
	else
		snprintf(g.program, sizeof(g.program), "%s", program);
}

bool log_level_parse(struct slice s, enum log_level *ret)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(level_name); i++)
		if (slice_ieq_str(s, level_name[i])) {
			*ret = (enum log_level)i;
			return true;
		}
	return false;
}

static void put(struct line *l, const char *p, size_t n)
{
	size_t room = sizeof(l->p) - 2 - l->n; /* a newline always fits */

	if (n > room)
		n = room;
	memcpy(l->p + l->n, p, n);
	l->n += n;
}

static void put_str(struct line *l, const char *s)
{
	put(l, s, strlen(s));
}

static bool is_plain(unsigned char c)
{
	return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
	       (c && strchr("._:/@+-<>,=*$%[]{}()", c));
}

static void put_quoted_char(struct line *l, unsigned char c)
{
	char esc[8];

	if (c == '"' || c == '\\') {
		esc[0] = '\\';
		esc[1] = (char)c;
		put(l, esc, 2);
	} else if (c < 0x20 || c == 0x7f) {
		snprintf(esc, sizeof(esc), "\\x%02x", c);
		put_str(l, esc);
	} else {
		put(l, (const char *)&c, 1);
	}
}

static void put_value(struct line *l, struct slice s)
{
	bool plain = s.n > 0;
	size_t i;

	for (i = 0; plain && i < s.n; i++)
		plain = is_plain((unsigned char)s.p[i]);
	if (plain) {
		put(l, s.p, s.n);
		return;
	}
	put(l, "\"", 1);
	for (i = 0; i < s.n; i++)
		put_quoted_char(l, (unsigned char)s.p[i]);
	put(l, "\"", 1);
}

static void put_key(struct line *l, const char *key)
{
	put(l, " ", 1);
	put_str(l, key);
	put(l, "=", 1);
}

static void put_field(struct line *l, const struct log_field *f)
{
	char num[32];

	put_key(l, f->key);
	switch (f->kind) {
	case LOG_FIELD_STR:
	case LOG_FIELD_SLICE:
		put_value(l, f->s);
		break;
	case LOG_FIELD_U64:
		snprintf(num, sizeof(num), "%" PRIu64, f->u);
		put_str(l, num);
		break;
	case LOG_FIELD_I64:
		snprintf(num, sizeof(num), "%" PRId64, f->i);
		put_str(l, num);
		break;
	}
}

static void put_head(struct line *l, enum log_level level)
{
	char text[64];

	if (g.journal) {
		snprintf(text, sizeof(text), "<%d>", level_priority[level]);
		put_str(l, text);
	} else {
		struct timespec ts;
		struct tm tm;
		size_t n;

		clock_gettime(CLOCK_REALTIME, &ts);
		localtime_r(&ts.tv_sec, &tm);
		n = strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
		snprintf(text + n, sizeof(text) - n, ".%03ld", ts.tv_nsec / 1000000);
		put_str(l, text);
		put(l, " ", 1);
	}
	put_str(l, level_name[level]);
	put(l, " ", 1);
	put_str(l, g.program);
}

static void emit(struct line *l)
{
	size_t done = 0;

	l->p[l->n++] = '\n';
	while (done < l->n) {
		ssize_t w = write(g.fd, l->p + done, l->n - done);

		if (w <= 0)
			return; /* nobody to tell */
		done += (size_t)w;
	}
}

void log_line(enum log_level level, const struct log_ctx *ctx, const struct log_field *fields)
{
	struct line l = {.n = 0};

	put_head(&l, level);
	if (ctx && ctx->object) {
		put_key(&l, ctx->object);
		put_value(&l, slice_str(ctx->name));
	}
	for (; fields->key; fields++)
		put_field(&l, fields);
	if (ctx && ctx->doing) {
		put_key(&l, "doing");
		put_value(&l, slice_str(ctx->doing));
	}
	emit(&l);
}

static void ATTR_PRINTF(2, 0) vlast_words(const char *what, const char *fmt, va_list ap)
{
	char text[1024];

	vsnprintf(text, sizeof(text), fmt, ap);
	log_error(NULL, text, LOG_S("kind", what));
}

void panic(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vlast_words("panic", fmt, ap);
	va_end(ap);
	abort();
}

void fatal(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vlast_words("fatal", fmt, ap);
	va_end(ap);
	exit(1);
}
