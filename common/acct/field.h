/*
 * field.h - the table of accounting fields.
 *
 * One row: F(ID, "name", types that have it, default or only when named, number or text,
 * "documentation"). The order of the rows is the order of the default columns, which is
 * PowerMTA's. A row's value is made by field_ID() in field.c from the record alone. The reference
 * in docs/ is made from the rows.
 */
#ifndef SLUICE_ACCT_FIELD_H
#define SLUICE_ACCT_FIELD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "common/acct/record.h"
#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/base/slice.h"

/* Sets of record types, in the order in which they are listed everywhere. */
enum {
	ACCT_IN_D = 1,
	ACCT_IN_B = 2,
	ACCT_IN_T = 4,
	ACCT_IN_TQ = 8,
	ACCT_IN_DBT = ACCT_IN_D | ACCT_IN_B | ACCT_IN_T,
	ACCT_IN_ALL = ACCT_IN_DBT | ACCT_IN_TQ,
};
#define ACCT_TYPE_COUNT 4

unsigned acct_type_bit(enum acct_type t);
const char *acct_type_name(enum acct_type t); /* "d", "b", "t", "tq" */

/* clang-format off */
#define ACCT_FIELDS(F) \
F(type, "type", ACCT_IN_ALL, DEFAULT, TEXT, \
  "d delivered, b bounced, t transient failure of a recipient, tq transient failure of a queue") \
F(time_logged, "timeLogged", ACCT_IN_ALL, DEFAULT, TIME, \
  "when it happened") \
F(time_queued, "timeQueued", ACCT_IN_DBT, DEFAULT, TIME, \
  "when the message was received") \
F(orig, "orig", ACCT_IN_DBT, DEFAULT, TEXT, \
  "sender (MAIL FROM); empty for the null sender") \
F(rcpt, "rcpt", ACCT_IN_DBT, DEFAULT, TEXT, \
  "recipient (RCPT TO)") \
F(orcpt, "orcpt", ACCT_IN_DBT, DEFAULT, TEXT, \
  "ORCPT= of the recipient, as received") \
F(dsn_action, "dsnAction", ACCT_IN_DBT, DEFAULT, TEXT, \
  "relayed, delivered, failed or delayed") \
F(dsn_status, "dsnStatus", ACCT_IN_ALL, DEFAULT, TEXT, \
  "enhanced status code with its meaning: 5.1.1 (bad destination mailbox address)") \
F(dsn_diag, "dsnDiag", ACCT_IN_ALL, DEFAULT, TEXT, \
  "smtp; and the receiver's reply, or x-sluice; and Sluice's own reason") \
F(dsn_mta, "dsnMta", ACCT_IN_ALL, DEFAULT, TEXT, \
  "MX host that answered: host (address); empty if none did") \
F(bounce_cat, "bounceCat", ACCT_IN_DBT, DEFAULT, TEXT, \
  "category of the bounce or delay; success for d") \
F(src_type, "srcType", ACCT_IN_DBT, DEFAULT, TEXT, \
  "smtp, or local for mail that Sluice made itself (delivery status notifications)") \
F(src_mta, "srcMta", ACCT_IN_DBT, DEFAULT, TEXT, \
  "client that the message came from: EHLO name (address)") \
F(dlv_type, "dlvType", ACCT_IN_ALL, DEFAULT, TEXT, \
  "smtp or discard") \
F(dlv_source_ip, "dlvSourceIp", ACCT_IN_ALL, DEFAULT, TEXT, \
  "local address of the connection") \
F(dlv_destination_ip, "dlvDestinationIp", ACCT_IN_ALL, DEFAULT, TEXT, \
  "address of the MX host") \
F(dlv_esmtp_available, "dlvEsmtpAvailable", ACCT_IN_DBT, DEFAULT, TEXT, \
  "ESMTP extensions that the receiver offered") \
F(dlv_size, "dlvSize", ACCT_IN_DBT, DEFAULT, NUMBER, \
  "bytes of the message") \
F(vmta, "vmta", ACCT_IN_ALL, DEFAULT, TEXT, \
  "virtual MTA") \
F(job_id, "jobId", ACCT_IN_DBT, DEFAULT, TEXT, \
  "job (X-Job)") \
F(env_id, "envId", ACCT_IN_DBT, DEFAULT, TEXT, \
  "envelope id (X-Envid or ENVID=)") \
F(queue, "queue", ACCT_IN_ALL, DEFAULT, TEXT, \
  "queue: domain/vmta, or provider.rollup/vmta") \
F(vmta_pool, "vmtaPool", ACCT_IN_DBT, DEFAULT, TEXT, \
  "pool that the virtual MTA was chosen from") \
F(total_seconds_queued, "totalSecondsQueued", ACCT_IN_DBT, NAMED, NUMBER, \
  "seconds from timeQueued to timeLogged") \
F(time_first_attempt, "timeFirstAttempt", ACCT_IN_DBT, NAMED, TIME, \
  "when delivery was first tried; empty if never") \
F(dlv_tls_protocol, "dlvTlsProtocol", ACCT_IN_DBT, NAMED, TEXT, \
  "TLS version of the connection; empty without TLS") \
F(dlv_tls_cipher, "dlvTlsCipher", ACCT_IN_DBT, NAMED, TEXT, \
  "TLS cipher of the connection") \
F(rcv_smtp_user, "rcvSmtpUser", ACCT_IN_DBT, NAMED, TEXT, \
  "user that the client had authenticated as") \
F(user_string, "userString", ACCT_IN_ALL, NAMED, TEXT, \
  "user-string of the file") \
F(domain, "domain", ACCT_IN_DBT, NAMED, TEXT, \
  "domain of rcpt, in lower case") \
F(provider, "provider", ACCT_IN_ALL, NAMED, TEXT, \
  "provider whose site the mail went through; empty if the domain belonged to none") \
F(attempt, "attempt", ACCT_IN_DBT, NAMED, NUMBER, \
  "number of the attempt, from 1; 0: never tried") \
F(msg_id, "msgId", ACCT_IN_DBT, NAMED, NUMBER, \
  "id of the message in the spool, as in the log and in `sluice show message`") \
F(seq, "seq", ACCT_IN_ALL, NAMED, NUMBER, \
  "sequence number of the record; never twice, grows in the order of commits")

/* A(alias, name of a field) */
#define ACCT_FIELD_ALIASES(A) \
A("time", "timeLogged") \
A("status", "dsnAction") \
A("dsn-status", "dsnStatus") \
A("size", "dlvSize")
/* clang-format on */

enum acct_field_id {
#define ACCT_FIELD_ENUM(id, name, types, when, kind, doc) ACCT_FIELD_##id,
	ACCT_FIELDS(ACCT_FIELD_ENUM)
#undef ACCT_FIELD_ENUM
		ACCT_FIELD_COUNT
};

enum acct_field_kind { ACCT_KIND_TEXT, ACCT_KIND_NUMBER, ACCT_KIND_TIME };

/*
 * What values are made with; one for each layout, used by one thread. A value is borrowed from the
 * record or from scratch, until the next value.
 */
#define ACCT_TIME_CACHE 64
struct conf;
struct acct_maker {
	bool iso_times;
	const char *user_string;
	const struct conf *conf; /* borrowed: patterns of categories */
	struct buf scratch;
	struct {
		uint64_t second; /* +1, so that 0 is empty */
		uint8_t n;
		char text[CLOCK_TEXT_MAX];
	} times[ACCT_TIME_CACHE]; /* localtime costs more than the rest of a line */
};

struct acct_field {
	const char *name;
	unsigned types; /* ACCT_IN_* */
	bool by_default;
	enum acct_field_kind kind;
	const char *doc;
	struct slice (*value)(struct acct_maker *m, const struct acct_record *r, uint64_t seq);
};

const struct acct_field *acct_field_get(enum acct_field_id id);
/* By name or alias, case-insensitive; -1: there is none. */
int acct_field_find(struct slice name);
/* The table as Markdown, for docs/reference/accounting-fields.md. */
void acct_fields_print_reference(FILE *to);

#endif
