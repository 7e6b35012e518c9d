/*
 * testdns.h - a DNS server for tests, in the loop of the test, UDP and TCP on one port of
 * 127.0.0.1. It encodes packets by itself, so that the code under test does not judge its own work.
 */
#ifndef SLUICE_TESTS_TESTDNS_H
#define SLUICE_TESTS_TESTDNS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/loop/loop.h"

enum testdns_type {
	TESTDNS_A = 1,
	TESTDNS_CNAME = 5,
	TESTDNS_SOA = 6,
	TESTDNS_MX = 15,
	TESTDNS_TXT = 16,
	TESTDNS_AAAA = 28
};

enum testdns_mood {
	TESTDNS_NORMAL,
	TESTDNS_SERVFAIL,
	TESTDNS_REFUSED,
	TESTDNS_SILENT,
	TESTDNS_TRUNCATED, /* over UDP only TC; whole over TCP */
	TESTDNS_TRUNCATED_DEAF, /* ditto, and TCP is closed at once */
	TESTDNS_WRONG_ID_FIRST, /* a lie with another id, then the truth */
	TESTDNS_WRONG_ID, /* the lie only */
	TESTDNS_WRONG_QUESTION, /* an answer to another name, nothing else */
	TESTDNS_GARBAGE, /* right header and question, then noise */
	TESTDNS_NO_EDNS, /* FORMERR while the question has EDNS */
	TESTDNS_ONE_CNAME, /* only the first CNAME, as if the rest were elsewhere */
	TESTDNS_NO_SOA /* negative answers without SOA */
};

struct testdns;

struct testdns *testdns_new(struct loop *l);
void testdns_free(struct testdns *d);
uint16_t testdns_port(const struct testdns *d);
const char *testdns_name(const struct testdns *d); /* "127.0.0.1:PORT" */
/* data: "192.0.2.1", "2001:db8::1", "10 mx.example", "target.example", text. "" is the root. */
void testdns_add(struct testdns *d, const char *name, enum testdns_type type, uint32_t ttl,
		 const char *data);
void testdns_remove(struct testdns *d, const char *name); /* all records of a name */
void testdns_set_mood(struct testdns *d, const char *name, enum testdns_mood mood); /* NULL: all */
void testdns_set_delay(struct testdns *d, const char *name, usec_t delay);
void testdns_set_ad(struct testdns *d, bool ad);
void testdns_set_negative_ttl(struct testdns *d, uint32_t ttl); /* 60 at first */
/* Questions for a name (NULL: any) and type (0: any) so far. */
unsigned testdns_asked(const struct testdns *d, const char *name, unsigned type);

#endif
