/*
 * settings.h - the structs that the rows of directives.h make, and the C type of each TYPE.
 *
 * Included by conf.h; include that. Everything pointed to belongs to the struct conf and lives as long
 * as it. Fields are named like their keyword with '_' for '-'; a field's meaning is the documentation
 * in its row.
 */
#ifndef SLUICE_CONF_SETTINGS_H
#define SLUICE_CONF_SETTINGS_H

#include "common/conf/conf.h"
#include "common/conf/directives.h"

/* ip-connection-limit: every row as written; use conf_ip_limit_for(). */
struct conf_ip_limits {
	const struct conf_ip_limit *v;
	size_t n;
};

/* mx-connection-limit: every row as written; use conf_mx_limit_for(). */
struct conf_mx_limits {
	const struct conf_mx_limit *v;
	size_t n;
};

/* A list of domain patterns; use conf_patterns_match(). */
struct conf_pattern;
struct conf_patterns {
	const struct conf_pattern *v;
	size_t n;
};

/* Networks as written. */
struct conf_cidrs {
	const struct cidr *v;
	size_t n;
};

/* [mx-rollup-list] mx = HOST NAME.rollup */
struct conf_rollup {
	const struct conf_pattern *host;
	const char *provider; /* NAME */
};
struct conf_rollups {
	const struct conf_rollup *v;
	size_t n;
};

/* Lines and lists of [smtp-pattern-list] and [bounce-category-patterns]: replies.h. */
struct conf_reply;
struct conf_replies {
	const struct conf_reply *v;
	size_t n;
};
struct conf_pattern_list;
struct conf_pattern_lists { /* in the order in which they are tried */
	const struct conf_pattern_list *const *v;
	size_t n;
};
struct conf_category;
struct conf_categories {
	const struct conf_category *v;
	size_t n;
};

enum conf_date_header { CONF_DATE_NO, CONF_DATE_YES, CONF_DATE_OVERRIDE };
enum conf_domain_type { CONF_DOMAIN_SMTP, CONF_DOMAIN_DISCARD };
enum conf_selection { CONF_ROUND_ROBIN, CONF_WEIGHTED, CONF_SEQUENTIAL };
enum conf_reset_count { CONF_RESET_NEVER, CONF_RESET_DAILY };
enum conf_reselect { CONF_RESELECT_NEVER, CONF_RESELECT_BACKOFF };
enum conf_acct_format { CONF_ACCT_CSV, CONF_ACCT_JSON };
enum conf_pace { CONF_PACE_EVEN, CONF_PACE_NONE };
enum conf_compress { CONF_COMPRESS_NONE, CONF_COMPRESS_GZIP, CONF_COMPRESS_ZSTD };

/* Types of accounting record; `records` is the set of 1u << type. */
enum conf_record { CONF_RECORD_D, CONF_RECORD_B, CONF_RECORD_T, CONF_RECORD_TQ, CONF_RECORD_COUNT };

/* schedule: numbers of recipients. */
struct conf_counts {
	const uint64_t *v;
	size_t n;
};

/* BOOL_TIME: "no"; USEC_INFINITY is "never", 0 is "yes" */
#define CONF_TIME_NO (USEC_INFINITY - 1)

/* advance-if: limits in millionths of the recipients that were tried. */
#define CONF_MILLION UINT32_C(1000000)
struct conf_advance_if {
	uint32_t transient, policy; /* UINT32_MAX: does not matter */
};

/* A line of a pool, as written. */
enum conf_share { CONF_SHARE_NONE, CONF_SHARE_WEIGHT, CONF_SHARE_COUNT };
struct conf_member {
	const char *name;
	enum conf_share share;
	uint64_t n;
};
struct conf_members {
	const struct conf_member *v;
	size_t n;
};

/* Of the first, second … day; the last number repeats. */
struct conf_per_day {
	const uint64_t *v;
	size_t n;
};

/* Columns by record type as written (`*`, `!name` and names, in order); n == 0: the default columns. */
struct conf_record_fields {
	struct conf_strings of[CONF_RECORD_COUNT];
};

/*
 * T(TYPE, C type, comments allowed behind the value, list, "how it is written")
 *
 * A list may go on over several lines after a trailing comma.
 */
/* clang-format off */
#define CONF_TYPES(T) \
T(BOOL, bool, true, false, "yes, no, true or false") \
T(UINT, uint64_t, true, false, "a whole number") \
T(PERCENT, uint64_t, true, false, "a percentage such as 50%") \
T(TIME, usec_t, true, false, "a time such as 30s, 10m or 1d12h") \
T(TIMES, struct conf_times, true, true, "times such as 10m,30m,1h") \
T(BOOL_TIME, usec_t, true, false, "yes, no, never, or a time such as 1h") \
T(SIZE, uint64_t, true, false, "a size such as 64K, 10M or 2G") \
T(SIZE_0, uint64_t, true, false, "a size such as 64K, 10M or 2G, or 0 or unlimited") \
T(SIZE_POW2, uint64_t, true, false, "a size that is a power of two, such as 4M") \
T(RATE, struct conf_rate, true, false, "unlimited, or a rate such as 100/h or 100/15m") \
T(VOLUME_RATE, struct conf_rate, true, false, "unlimited, or bytes per time such as 10M/m or 2G/15m") \
T(IP_RATES, struct conf_ip_rates, true, false, "CIDR and a rate, such as 192.0.2.0/24 100/h") \
T(IP_VOLUME_RATES, struct conf_ip_rates, true, false, "CIDR and bytes per time, such as 192.0.2.0/24 10M/m") \
T(STRING, const char *, false, false, "a text") \
T(PATH, const char *, false, false, "an absolute path") \
T(LOG, const char *, false, false, "stderr, journald or an absolute path") \
T(NAME, const char *, true, false, "a name") \
T(HOST, const char *, true, false, "a host name") \
T(HEADER, const char *, true, false, "the name of a header") \
T(ROUTE, const char *, true, false, "the name of a virtual MTA or pool") \
T(LOG_LEVEL, int, true, false, "error, warn, info or debug") \
T(DATE_HEADER, int, true, false, "no, yes or override") \
T(DOMAIN_TYPE, int, true, false, "smtp or discard") \
T(ACCT_FORMAT, int, true, false, "csv or json") \
T(COMPRESS, int, true, false, "none, gzip or zstd") \
T(PACE, int, true, false, "even or none") \
T(DATE, uint32_t, true, false, "a date such as 2026-11-22") \
T(COUNTS, struct conf_counts, true, true, "numbers such as 50,100,200,400") \
T(ADVANCE_IF, struct conf_advance_if, true, true, "always, or limits such as transient<5%, policy<0.5%") \
T(LIST, struct conf_strings, true, true, "a list such as a, b, c") \
T(MEMBERS, struct conf_members, true, true, "NAME [weight N | count N]") \
T(SELECTION, int, true, false, "round-robin, weighted or sequential") \
T(RESET_COUNT, int, true, false, "never or daily") \
T(RESELECT, int, true, false, "never or backoff") \
T(PER_DAY, struct conf_per_day, true, true, "numbers a day such as 1000/d,2000/d") \
T(NAMES, struct conf_strings, true, true, "a list of names") \
T(ADDRESSES, struct conf_strings, true, true, "a list of mail addresses") \
T(HEADERS, struct conf_strings, true, true, "a list of header names") \
T(PATTERNS, struct conf_patterns, true, true, "domain patterns such as example.com, *.example.org") \
T(IP_PORTS, struct conf_ip_ports, true, true, "a list of addresses such as 127.0.0.1, [::1]:5353") \
T(IP_LIMITS, struct conf_ip_limits, true, false, "CIDR N [per-source-ip]") \
T(CIDRS, struct conf_cidrs, true, true, "networks such as 192.0.2.0/24, 2001:db8::/32") \
T(ROLLUPS, struct conf_rollups, true, false, "HOST NAME.rollup") \
T(SOURCE_LIMITS, struct conf_ip_limits, true, false, "CIDR N") \
T(MX_LIMITS, struct conf_mx_limits, true, false, "MXPATTERN N") \
T(SOURCE_HOSTS, struct conf_source_hosts, true, false, "IP [HOST]") \
T(SMTP_HOSTS, struct conf_smtp_hosts, false, true, "hosts such as mx1.example.com;[192.0.2.1]:25") \
T(RECORDS, unsigned, true, true, "a list of d, b, t, tq") \
T(RECORD_FIELDS, struct conf_record_fields, true, true, "a list of fields") \
T(REPLIES, struct conf_replies, true, true, "/regex/ ACTION, ACTION…") \
T(PATTERN_LISTS, struct conf_pattern_lists, true, true, "a list of names of pattern lists") \
T(CATEGORIES, struct conf_categories, true, true, "/regex/ CATEGORY") \
T(QUEUE_FILTER, struct conf_strings, true, true, "a list such as !example.com/*, */mta1")
/* clang-format on */

enum conf_type {
#define CONF_TYPE_ENUM(type, ctype, comments, list, text) CONF_##type,
	CONF_TYPES(CONF_TYPE_ENUM)
#undef CONF_TYPE_ENUM
		CONF_TYPE_COUNT
};

#define CONF_TYPEDEF(type, ctype, comments, list, text) typedef ctype conf_ctype_##type;
CONF_TYPES(CONF_TYPEDEF)
#undef CONF_TYPEDEF

#define CONF_FIELD(field, keyword, type, def, min, max, kind, doc) conf_ctype_##type field;

/* [global] */
struct conf_global {
	CONF_GLOBAL_DIRECTIVES(CONF_FIELD)
};

/* [source X], merged */
struct conf_source {
	CONF_SOURCE_DIRECTIVES(CONF_FIELD)
};

/* [virtual-mta X]; smtp_source_host and host_name are the global ones where it has none of its own */
struct conf_vmta {
	const char *name;
	size_t index; /* conf_vmta_at(index) */
	struct conf_origin at;
	const struct conf_pool *const *pools; /* that it is a member of */
	size_t pool_count;
	struct conf_vmtas cold; /* what cold_virtual_mta names */
	CONF_VMTA_DIRECTIVES(CONF_FIELD)
};

/* [domain X]: the effective settings of one queue */
struct conf_domain {
	CONF_DOMAIN_DIRECTIVES(CONF_FIELD)
};

/* [provider X], with what [mx-rollup-list] adds */
struct conf_provider {
	const char *name;
	const char *rollup; /* "name.rollup", lower-case: the name of its sites */
	size_t index; /* conf_provider_at(index) */
	struct conf_origin at;
	CONF_PROVIDER_DIRECTIVES(CONF_FIELD)
};

/* [warm-up X] */
struct conf_warmup {
	const char *name;
	struct conf_origin at;
	const struct conf_vmta *const *vmtas; /* virtual_mta, pools resolved */
	size_t vmta_count;
	CONF_WARMUP_DIRECTIVES(CONF_FIELD)
};

/* [acct-file X]; path is never NULL */
struct conf_acct_file {
	const char *name;
	const struct conf *conf; /* that it is part of */
	struct conf_origin at;
	CONF_ACCT_FILE_DIRECTIVES(CONF_FIELD)
};

#undef CONF_FIELD

#endif
