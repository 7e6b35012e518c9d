/*
 * What only master may look up, once: secrets from ${ENV} and file:PATH, and which local address
 * lies in a CIDR of smtp-source-host. The results replace the values before the merged text is
 * written.
 */
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/base/err.h"
#include "common/base/fd.h"
#include "common/base/xalloc.h"
#include "common/conf/private.h"
#include "common/conf/values.h"

#define SECRET_FILE_MAX ((size_t)65536)

/* Text that a value may hold: one line without control characters. */
static bool is_one_line(struct slice s)
{
	for (size_t i = 0; i < s.n; i++)
		if ((unsigned char)s.p[i] < 0x20 || s.p[i] == 0x7f)
			return false;
	return true;
}

static void fail(struct conf_messages *msgs, const struct conf_item *it, const char *what,
		 struct slice name, const char *why)
{
	conf_error(msgs, it->at, "%.*s: %s%.*s%s%s", SLICE_ARG(it->word), what, SLICE_ARG(name),
		   *why ? " " : "", why);
}

/* Appends text, with a backslash where quotes would take it as something else. */
static void add_quoted(struct buf *b, struct slice s)
{
	for (size_t i = 0; i < s.n; i++) {
		if (strchr("\"\\$", s.p[i]))
			buf_add_char(b, '\\');
		buf_add_char(b, s.p[i]);
	}
}

/* How the expanded text stands in the value. */
enum quoting { QUOTE_NONE, QUOTE_IS, QUOTE_ADD };

static void add_literal(struct buf *to, char c, enum quoting quoting)
{
	if (c == '"' && quoting == QUOTE_ADD)
		buf_add_char(to, '\\');
	buf_add_char(to, c);
}

/* Replaces each ${NAME} that no backslash precedes. False: reported. */
static bool expand_env(const struct conf_item *it, enum quoting quoting, struct buf *to,
		       struct conf_messages *msgs)
{
	struct slice s = it->text;

	for (size_t i = 0; i < s.n; i++) {
		struct slice name;
		ptrdiff_t end;
		const char *value;
		char *key;

		if (s.p[i] == '\\' && i + 1 < s.n) {
			buf_add(to, s.p + i++, 2);
			continue;
		}
		if (s.p[i] != '$' || i + 1 >= s.n || s.p[i + 1] != '{') {
			add_literal(to, s.p[i], quoting);
			continue;
		}
		name = slice_from(s, i + 2);
		end = slice_chr(name, '}');
		if (end < 0) {
			fail(msgs, it, "", slice_str("${"), "without }");
			return false;
		}
		name.n = (size_t)end;
		key = slice_dup(name);
		value = getenv(key);
		free(key);
		if (!value || !is_one_line(slice_str(value))) {
			fail(msgs, it, "environment variable ", name,
			     value ? "is not one line of text" : "is not set");
			return false;
		}
		if (quoting != QUOTE_NONE)
			add_quoted(to, slice_str(value));
		else
			buf_add_str(to, value);
		i += name.n + 2;
	}
	return true;
}

static bool read_secret(const struct conf_item *it, struct slice path, struct buf *to,
			struct conf_messages *msgs)
{
	char *name = slice_dup(path);
	int fd = open(name, O_RDONLY | O_CLOEXEC | O_NONBLOCK), rc = ERR_SYS;
	struct buf text = BUF_INIT;
	struct slice s;

	free(name);
	if (fd >= 0)
		rc = fd_read_all(fd, SECRET_FILE_MAX, &text);
	if (rc == ERR_TOO_LONG)
		fail(msgs, it, "", path, "is longer than a secret may be (64 KiB)");
	else if (rc < 0)
		conf_error(msgs, it->at, "%.*s: cannot read %.*s: %s", SLICE_ARG(it->word),
			   SLICE_ARG(path), strerror(errno));
	if (fd >= 0)
		close(fd);
	s = slice_trim(buf_slice(&text));
	if (rc == 0 && !is_one_line(s)) {
		fail(msgs, it, "", path, "does not hold one line of text");
		rc = ERR_INVALID;
	}
	if (rc == 0) {
		buf_add_char(to, '"');
		add_quoted(to, s);
		buf_add_char(to, '"');
	}
	buf_done(&text);
	return rc == 0;
}

/* An address of this machine inside a network. */
static bool local_address(const struct cidr *cidr, struct ip *ret)
{
	struct ifaddrs *all = NULL;
	bool found = false;

	if (getifaddrs(&all) != 0)
		return false;
	for (struct ifaddrs *a = all; a && !found; a = a->ifa_next) {
		uint16_t port;

		if (!a->ifa_addr ||
		    (a->ifa_addr->sa_family != AF_INET && a->ifa_addr->sa_family != AF_INET6))
			continue;
		ip_from_sockaddr(a->ifa_addr, ret, &port);
		found = cidr_has(cidr, ret);
	}
	freeifaddrs(all);
	return found;
}

/* "CIDR HOST" becomes "IP HOST" for every word with a '/'. */
static bool resolve_source_host(const struct conf_item *it, struct buf *to,
				struct conf_messages *msgs)
{
	struct slice rest = it->text, word;

	while (conf_word_next(&rest, &word)) {
		char text[IP_TEXT_MAX];
		struct cidr cidr;
		struct ip ip;

		if (to->n)
			buf_add_char(to, ' ');
		if (slice_chr(word, '/') < 0 || !cidr_parse(word, &cidr)) {
			buf_add_slice(to, word);
		} else if (local_address(&cidr, &ip)) {
			buf_add_str(to, ip_text(&ip, text));
		} else {
			fail(msgs, it, "no address of this machine lies in ", word, "");
			return false;
		}
	}
	return true;
}

static void resolve_item(struct conf_item *it, enum conf_type type, struct arena *a,
			 struct conf_messages *msgs)
{
	bool env = !conf_type_is_regex(type) && memmem(it->text.p, it->text.n, "${", 2) != NULL;
	bool file = type == CONF_STRING && slice_istarts(it->text, "file:");
	bool hosts = type == CONF_SOURCE_HOSTS && slice_chr(it->text, '/') >= 0;
	enum quoting quoting = it->text.n && it->text.p[0] == '"' ? QUOTE_IS
			       : type == CONF_STRING		  ? QUOTE_ADD
								  : QUOTE_NONE;
	struct buf b = BUF_INIT;
	bool ok = false;

	if (file) {
		ok = read_secret(it, slice_trim(slice_from(it->text, 5)), &b, msgs);
	} else if (env) {
		if (quoting == QUOTE_ADD)
			buf_add_char(&b, '"');
		ok = expand_env(it, quoting, &b, msgs);
		if (quoting == QUOTE_ADD)
			buf_add_char(&b, '"');
	} else if (hosts) {
		ok = resolve_source_host(it, &b, msgs);
	} else {
		return;
	}
	if (ok) {
		it->text = slice_of(arena_dup(a, buf_slice(&b)), b.n);
		it->secret = it->secret || file || env;
	} else {
		it->scope = NULL; /* reported; the value is not looked at */
	}
	buf_done(&b);
}

void conf_resolve_items(struct conf_items *items, struct arena *a, struct conf_messages *msgs)
{
	for (size_t i = 0; i < items->n; i++) {
		struct conf_item *it = &items->v[i];
		enum conf_type type;

		if (!it->header && it->scope && it->scope->id != CONF_SCOPE_MACRO &&
		    conf_type_of(it->scope, it->word, &type))
			resolve_item(it, type, a, msgs);
	}
}
