/*
 * xtext.h - xtext (RFC 3461 4) and the values of DSN parameters. Pure functions.
 */
#ifndef SLUICE_SMTP_XTEXT_H
#define SLUICE_SMTP_XTEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/buf.h"
#include "common/base/slice.h"

#define DSN_ENVID_MAX 100
#define DSN_ORCPT_MAX 500

bool xtext_valid(struct slice s);
/* Appends the decoded text; false (with nothing appended) if s is no xtext. */
bool xtext_decode(struct slice s, struct buf *b);
void xtext_encode(struct slice s, struct buf *b);

/* Values of ENVID= and ORCPT=: syntax and length; an ENVID decodes to printable ASCII. */
bool dsn_envid_valid(struct slice s);
bool dsn_orcpt_valid(struct slice s, bool utf8);

enum { /* the same bits as in spool_recipient.notify */
       DSN_NEVER = 1,
       DSN_SUCCESS = 2,
       DSN_FAILURE = 4,
       DSN_DELAY = 8,
};
/* NEVER, or a list of SUCCESS, FAILURE, DELAY. */
bool dsn_notify_parse(struct slice s, uint8_t *ret);

#endif
