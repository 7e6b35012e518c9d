/*
 * dsn_notice.h - a mail from us to an operator: what a row of the table dsn says (dsn_row.h), made into a
 * message. Pure.
 */
#ifndef SLUICE_SPOOLER_DSN_NOTICE_H
#define SLUICE_SPOOLER_DSN_NOTICE_H

#include <stdint.h>

#include "spooler/dsn_build.h"

/*
 * Appends the message in wire form (CRLF, dot-stuffed), *ret_header_size of it the header. *ret_flags:
 * SPOOL_MSG_IS_DSN, so that its own failure is told to nobody, and what the text needs.
 */
void dsn_notice_build(const struct dsn_build_options *o, const struct report_notice *n,
		      struct buf *out, uint32_t *ret_header_size, uint32_t *ret_flags);

#endif
