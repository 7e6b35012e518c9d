/*
 * dsn_build.h - the text of a delivery status notification: multipart/report (RFC 3462) with a
 * part for people, message/delivery-status (RFC 3464; message/global-delivery-status of RFC 6533
 * for mail with SMTPUTF8) and the original's header or all of it.
 *
 * Pure. The result is in wire form: CRLF, dot-stuffed, no line over 998 octets.
 */
#ifndef SLUICE_SPOOLER_DSN_BUILD_H
#define SLUICE_SPOOLER_DSN_BUILD_H

#include <stdint.h>

#include "common/base/buf.h"
#include "common/base/clock.h"
#include "spooler/dsn_row.h"

struct conf;

struct dsn_build_options {
	const struct conf *conf; /* for the category that the advice goes by */
	const char *host; /* host-name: Reporting-MTA, Message-ID */
	const char *from; /* address of From: */
	uint64_t msgid; /* of the notification */
	uint64_t random[2]; /* boundary, Message-ID */
	msec_t now;
};

/* Appends to `out`. *ret_flags: SPOOL_MSG_IS_DSN and what the text needs (8BITMIME, SMTPUTF8). */
void dsn_build(const struct dsn_build_options *o, const struct dsn_row *r, struct buf *out,
	       uint32_t *ret_header_size, uint32_t *ret_flags);

#endif
