/*
 * values.h - the values of directives: text to the C type of the field (CONF_TYPES in settings.h).
 *
 * Results live in the arena of the load. Thread-free: only loading uses this.
 */
#ifndef SLUICE_CONF_VALUES_H
#define SLUICE_CONF_VALUES_H

#include <stdbool.h>

#include "common/base/buf.h"
#include "common/base/slice.h"
#include "common/conf/arena.h"
#include "common/conf/conf.h"
#include "common/conf/macro.h"
#include "common/conf/scope.h"

struct conf_section;

struct conf_value_ctx {
	struct arena *arena;
	struct conf_macros *macros; /* for patterns */
	struct conf *conf; /* for names and regexes; NULL: of a default */
	const struct conf_section *section; /* where it stands */
	struct conf_origin at;
	const struct conf_directive *directive;
	struct slice keyword; /* as written: aliases may be written differently */
	struct buf *why; /* what is wrong, when the answer is false */
	struct buf *remark; /* a warning about a value that is taken */
	const char
		*shown; /* the value as it is shown when that is not as written; NULL: as written */
};

/*
 * Parses text (comment already taken off) for ctx->directive into ret, which has the size of its type.
 * prev is the value so far at the same place for types that add up, or NULL. `""` gives the default.
 * False: ctx->why says what is wrong.
 */
bool conf_value_parse(struct conf_value_ctx *ctx, struct slice text, const void *prev, void *ret);
/* Parses the default of ctx->directive; panics if the table holds a bad one. */
void conf_value_default(struct conf_value_ctx *ctx, void *ret);
/* Do several lines of this type at one place add up (else the later one replaces the earlier)? */
bool conf_type_adds_up(enum conf_type type);

/* "1w2d12h30m5s", any of the parts, largest first; also ms; "0". */
bool conf_parse_time(struct slice s, usec_t *ret);
/* "64K", "10M", "2G", "1T", "512b", "512": powers of 1024. */
bool conf_parse_size(struct slice s, uint64_t *ret);
/* "unlimited", "0" (unlimited), "N/[M]unit". */
bool conf_parse_rate(struct slice s, struct conf_rate *ret);
/* The same with N in bytes: "10M/m". */
bool conf_parse_volume_rate(struct slice s, struct conf_rate *ret);

/*
 * Quotes and backslashes: "…" in front takes everything up to its end; \" \\ \$ and \space stand for
 * the character. False: a quote is not closed or text follows it.
 */
bool conf_unquote(struct slice s, struct arena *a, struct slice *ret);
/* Takes the next element of a list with commas (outside quotes); trimmed, still quoted. */
bool conf_list_next(struct slice *rest, char sep, struct slice *ret);
/* Takes the next word from the front of *rest. */
bool conf_word_next(struct slice *rest, struct slice *ret);

/* "NAME.rollup": NAME; false: it is none. */
bool conf_rollup_name(struct slice s, struct slice *ret);

/* The parsers of structured values; for values.c. */
typedef bool conf_value_parser(struct conf_value_ctx *ctx, struct slice s, const void *prev,
			       void *ret);
conf_value_parser conf_value_rate, conf_value_ip_rates;
conf_value_parser conf_value_cidrs, conf_value_rollups, conf_value_strings, conf_value_patterns,
	conf_value_ip_ports, conf_value_ip_limits, conf_value_source_limits, conf_value_mx_limits,
	conf_value_source_hosts, conf_value_smtp_hosts, conf_value_records,
	conf_value_record_fields, conf_value_queue_filter, conf_value_members, conf_value_per_day,
	conf_value_date, conf_value_counts, conf_value_advance_if;
conf_value_parser conf_value_replies, conf_value_pattern_lists, conf_value_categories;

#endif
