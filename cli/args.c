#include "cli/args.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/base/buf.h"
#include "common/base/idn.h"
#include "common/base/xalloc.h"

enum value_type { VALUE_FLAG, VALUE_TEXT, VALUE_NUMBER, VALUE_TIME, VALUE_MODE, VALUE_SORT };

static const struct option_row rows[] = {
#define OPTION_ROW(id, names, type, key, arg, doc) {names, key, arg, doc},
	OPTION_LIST(OPTION_ROW)
#undef OPTION_ROW
};

static const enum value_type types[] = {
#define OPTION_KIND(id, names, type, key, arg, doc) VALUE_##type,
	OPTION_LIST(OPTION_KIND)
#undef OPTION_KIND
};

static const char *const modes[] = {"normal", "backoff", NULL};
static const char *const sorts[] = {"recipients", "bytes", "name", NULL};

const struct option_row *option_row(enum option_id id)
{
	return &rows[id];
}

bool args_time(const char *text, uint64_t *ret_seconds)
{
	static const struct {
		char unit;
		uint64_t seconds;
	} units[] = {{'w', 604800}, {'d', 86400}, {'h', 3600}, {'m', 60}, {'s', 1}};
	uint64_t sum = 0, n;
	const char *p = text;
	char *end;
	size_t u = 0;

	while (*p >= '0' && *p <= '9' && strlen(p) < 12) {
		n = strtoull(p, &end, 10);
		if (*end == '\0' && p == text && n == 0) {
			*ret_seconds = 0;
			return true;
		}
		while (u < ARRAY_SIZE(units) && units[u].unit != ascii_lower(*end))
			u++;
		if (u == ARRAY_SIZE(units) || n > UINT32_MAX)
			return false;
		sum += n * units[u++].seconds;
		p = end + 1;
	}
	*ret_seconds = sum;
	return p != text && *p == '\0';
}

/* --- options --- */

/* 2: a name exactly; 1: the beginning of one; 0: neither. */
static int name_match(const char *names, const char *word, size_t n)
{
	struct slice all = slice_str(names), name;
	int best = 0;

	while (slice_next(&all, ' ', &name)) {
		if (name.n < n || strncasecmp(name.p, word, n) != 0)
			continue;
		if (name.n == n)
			return 2;
		best = 1;
	}
	return best;
}

/* The option that a word means to a command; OPTION_COUNT: none, or more than one. */
static enum option_id option_find(const struct command *cmd, const char *word, size_t n)
{
	enum option_id o, found = OPTION_COUNT;
	unsigned hits = 0;

	for (o = 0; o < OPTION_COUNT; o++) {
		int m = cmd->options >> o & 1 ? name_match(rows[o].names, word, n) : 0;

		if (m == 2)
			return o;
		if (m == 1) {
			found = o;
			hits++;
		}
	}
	return hits == 1 ? found : OPTION_COUNT;
}

static const char *choose(const char *const *from, const char *word)
{
	const char *found = NULL;

	for (; *from; from++) {
		if (strncasecmp(*from, word, strlen(word)) != 0)
			continue;
		if (found)
			return NULL;
		found = *from;
	}
	return found;
}

static int option_value(struct invocation *i, enum option_id o, const char *value)
{
	const char *name = rows[o].names;
	bool fits = true;

	switch (types[o]) {
	case VALUE_FLAG:
		break;
	case VALUE_TEXT:
		fits = *value != '\0';
		break;
	case VALUE_NUMBER:
		fits = slice_u64(slice_str(value), &i->number[o]);
		break;
	case VALUE_TIME:
		fits = args_time(value, &i->number[o]);
		break;
	case VALUE_MODE:
		value = choose(modes, value);
		break;
	case VALUE_SORT:
		value = choose(sorts, value);
		break;
	}
	if (!fits && types[o] == VALUE_TIME && *value &&
	    strspn(value, "0123456789") == strlen(value))
		return cli_error(CLI_USAGE, "--%.*s %s: a unit is missing: %ss, %sm, %sh or %sd",
				 (int)strcspn(name, " "), name, value, value, value, value, value);
	if (!fits || !value)
		return cli_error(CLI_USAGE, "--%.*s %s: %s", (int)strcspn(name, " "), name,
				 rows[o].arg, rows[o].doc);
	i->text[o] = value;
	i->given |= UINT64_C(1) << o;
	return 0;
}

/* One option of the command at argv[*at]; *at moves over its value. */
static int option_take(struct invocation *i, int argc, char **argv, int *at)
{
	const char *word = argv[*at] + 2, *value = strchr(word, '=');
	size_t n = value ? (size_t)(value - word) : strlen(word);
	enum option_id o = option_find(i->cmd, word, n);

	if (o == OPTION_COUNT)
		return cli_error(
			CLI_USAGE,
			"%s has no option --%.*s, or more than one that begins so: sluice %s -h",
			i->cmd->name, (int)n, word, i->cmd->name);
	if (types[o] == VALUE_FLAG) {
		if (value)
			return cli_error(CLI_USAGE, "--%.*s takes no value", (int)n, word);
		return option_value(i, o, "");
	}
	if (value)
		return option_value(i, o, value + 1);
	if (*at + 1 >= argc)
		return cli_error(CLI_USAGE, "--%.*s needs a value: %s", (int)n, word, rows[o].arg);
	return option_value(i, o, argv[++*at]);
}

void option_to_json(const struct invocation *i, enum option_id o, json_t *args)
{
	json_t *value = NULL;

	switch (types[o]) {
	case VALUE_FLAG:
		value = json_true();
		break;
	case VALUE_NUMBER:
	case VALUE_TIME:
		value = json_integer((json_int_t)i->number[o]);
		break;
	case VALUE_TEXT:
	case VALUE_MODE:
	case VALUE_SORT:
		value = json_string(i->text[o]);
		break;
	}
	json_object_set_new(args, rows[o].key, value);
}

/* --- the words of a command's name --- */

static struct slice nth_word(const char *name, size_t n)
{
	struct slice all = slice_str(name), word;

	while (slice_next(&all, ' ', &word))
		if (n-- == 0)
			return word;
	return slice_of("", 0);
}

static size_t word_count(const char *name)
{
	size_t n = 1;

	for (; *name; name++)
		n += *name == ' ';
	return n;
}

/* Whether the words given so far may mean this command; *ret_exact grows with exact words, the first ones most. */
static bool words_match(const char *name, const char *const *words, size_t n, size_t *ret_exact)
{
	size_t k;

	*ret_exact = 0;
	for (k = 0; k < n; k++) {
		struct slice word = nth_word(name, k);
		size_t len = strlen(words[k]);

		if (word.n < len || word.n == 0 || strncasecmp(word.p, words[k], len) != 0)
			return false;
		if (word.n == len)
			*ret_exact |= (size_t)1 << (8 - k);
	}
	return true;
}

/*
 * The command that these words name. NULL: none (*ret_hits 0) or more than one. A word that is
 * exactly one of a name beats the beginnings of others.
 */
static const struct command *command_find(const char *const *words, size_t n, size_t *ret_hits)
{
	const struct command *best = NULL;
	size_t best_exact = 0, exact, k;

	*ret_hits = 0;
	for (k = 0; k < cli_command_count; k++) {
		const struct command *c = &cli_commands[k];

		if (!words_match(c->name, words, n, &exact))
			continue;
		if (*ret_hits == 0 || exact > best_exact) {
			best = c;
			best_exact = exact;
			*ret_hits = 1;
		} else if (exact == best_exact) {
			++*ret_hits;
		}
	}
	return *ret_hits == 1 ? best : NULL;
}

static int unknown_command(const char *const *words, size_t n, size_t hits)
{
	struct buf said = BUF_INIT, known = BUF_INIT;
	size_t exact, k;

	for (k = 0; k < n; k++)
		buf_addf(&said, "%s%s", k ? " " : "", words[k]);
	for (k = 0; k < cli_command_count && hits; k++)
		if (words_match(cli_commands[k].name, words, n, &exact))
			buf_addf(&known, "%s%s", known.n ? ", " : "", cli_commands[k].name);
	if (hits)
		cli_error(CLI_USAGE, "\"%s\" may be: %s", buf_cstr(&said), buf_cstr(&known));
	else
		cli_error(CLI_USAGE, "there is no command \"%s\": sluice help", buf_cstr(&said));
	buf_done(&said);
	buf_done(&known);
	return CLI_USAGE;
}

/* Takes the command's name from the front of the plain words; *ret_used: how many it has. */
static int command_take(const char *const *words, size_t n, struct invocation *i, size_t *ret_used)
{
	size_t k, hits = 0, seen = 0;

	for (k = 1; k <= n; k++) {
		const struct command *c = command_find(words, k, &hits);

		if (c && word_count(c->name) == k) {
			i->cmd = c;
			*ret_used = k;
			return 0;
		}
		if (hits == 0)
			break;
		seen = hits;
	}
	/* what was still understood tells more than the word that was not */
	return seen ? unknown_command(words, k - 1, seen) : unknown_command(words, 1, 0);
}

/* --- all of it --- */

/* Options of the program itself, wherever they stand. 1: taken, 0: not one of them. */
static int global_option(int argc, char **argv, int *at, struct cli *cli, struct invocation *i)
{
	const char *word = argv[*at];

	if (strcmp(word, "--json") == 0) {
		cli->json = true;
	} else if (strcmp(word, "-h") == 0 || strcmp(word, "--help") == 0) {
		i->help = true;
	} else if (strcmp(word, "-c") == 0) {
		if (*at + 1 >= argc)
			return cli_error(-CLI_USAGE, "-c needs the name of a configuration file");
		cli->conf_path = argv[++*at];
		cli->conf_given = true;
	} else {
		return 0;
	}
	return 1;
}

static int check_args(const struct invocation *i)
{
	const struct command *c = i->cmd;

	if (i->help)
		return 0;
	if (i->arg_count < c->args_min || i->arg_count > c->args_max)
		return cli_error(CLI_USAGE, "%s: sluice %s%s%s",
				 i->arg_count < c->args_min ? "something is missing"
							    : "too many arguments",
				 c->name, c->args[0] ? " " : "", c->args);
	if (c->filters && !(i->given & c->filters) && i->arg_count == 0)
		return cli_error(CLI_USAGE, "say which: sluice %s -h shows the filters", c->name);
	if (option_given(i, OPTION_VMTA) && option_given(i, OPTION_QUEUE) &&
	    strchr(i->text[OPTION_QUEUE], '/'))
		return cli_error(CLI_USAGE,
				 "--queue names a virtual MTA already: leave --vmta out");
	return 0;
}

/* Everything that is no global option, in order: words of the name, arguments, options of the command. */
static int collect(int argc, char **argv, struct cli *cli, struct invocation *i, char **rest,
		   int *ret_n)
{
	int at, taken;
	bool plain = false;

	for (at = 1; at < argc; at++) {
		plain = plain || strcmp(argv[at], "--") == 0;
		taken = plain ? 0 : global_option(argc, argv, &at, cli, i);
		if (taken < 0)
			return CLI_USAGE;
		if (!taken)
			rest[(*ret_n)++] = argv[at];
	}
	return 0;
}

/* "-f" and such, where the command has the option. */
static bool short_option(const struct invocation *i, const char *word, enum option_id *ret)
{
	static const struct {
		const char *word;
		enum option_id o;
	} known[] = {{"-f", OPTION_FROM}, {"-r", OPTION_RCPT}, {"-H", OPTION_HEADER}};

	for (size_t k = 0; k < ARRAY_SIZE(known); k++) {
		if (strcmp(word, known[k].word) != 0 ||
		    !(i->cmd->options & UINT64_C(1) << known[k].o))
			continue;
		*ret = known[k].o;
		return true;
	}
	return false;
}

static int parse_rest(char **rest, int n, struct invocation *i)
{
	enum option_id o;
	size_t words = 0, used = 0;
	bool plain = false;
	int at, err;

	while ((int)words < n && rest[words][0] != '-')
		words++;
	if (words == 0)
		return n == 0 ? 0
			      : cli_error(CLI_USAGE, "%s: name a command first: sluice help",
					  rest[0]);
	err = command_take((const char *const *)rest, words, i, &used);
	for (at = (int)used; !err && at < n; at++) {
		if (!plain && strcmp(rest[at], "--") == 0)
			plain = true;
		else if (!plain && short_option(i, rest[at], &o))
			err = at + 1 < n ? option_value(i, o, rest[++at])
					 : cli_error(CLI_USAGE, "%s needs a value: %s", rest[at],
						     rows[o].arg);
		else if (!plain && strncmp(rest[at], "--", 2) == 0)
			err = option_take(i, n, rest, &at);
		else if (!plain && rest[at][0] == '-' && rest[at][1])
			err = cli_error(CLI_USAGE, "there is no option %s: sluice %s -h", rest[at],
					i->cmd->name);
		else
			i->args[i->arg_count++] = rest[at];
	}
	return err ? err : check_args(i);
}

int args_parse(int argc, char **argv, struct cli *cli, struct invocation *ret)
{
	char **rest = xcalloc((size_t)argc + 1, sizeof(*rest));
	int n = 0, err;

	memset(ret, 0, sizeof(*ret));
	ret->args = xcalloc((size_t)argc + 1, sizeof(*ret->args));
	err = collect(argc, argv, cli, ret, rest, &n);
	if (!err)
		err = parse_rest(rest, n, ret);
	free(rest);
	return err;
}

void invocation_done(struct invocation *i)
{
	free(i->args);
	i->args = NULL;
}

/* A domain may be typed as people write it; queues are named by its A-labels. */
static char *ascii_domain(struct slice domain)
{
	char ascii[IDN_TEXT_MAX];

	if (!idn_to_ascii(domain, ascii) || slice_ieq_str(domain, ascii))
		return slice_dup(domain); /* as it was typed */
	return xstrdup(ascii);
}

static char *ascii_queue(const char *queue, const char *behind)
{
	const char *slash = strrchr(queue, '/');
	size_t n = slash ? (size_t)(slash - queue) : strlen(queue);
	char *domain = ascii_domain(slice_of(queue, n));
	char *name = xasprintf("%s%s", domain, slash ? slash : behind);

	free(domain);
	return name;
}

char *args_name(const char *name)
{
	return ascii_queue(name, "");
}

char *args_pattern(const char *queue)
{
	return ascii_queue(queue, "/*");
}

char *args_queue_pattern(const struct invocation *i)
{
	const char *queue = i->text[OPTION_QUEUE], *vmta = i->text[OPTION_VMTA];

	if (vmta)
		return xasprintf("%s/%s", queue ? queue : "*", vmta); /* --queue is a domain here */
	return queue ? args_pattern(queue) : NULL;
}
