/*
 * site_parts.h - what the files of one site (site.c, site_dns.c) have in common. Private to them.
 */
#ifndef SLUICE_WORKER_SITE_PARTS_H
#define SLUICE_WORKER_SITE_PARTS_H

#include <stdbool.h>

struct outcome;
struct site;

/* What the site's row says of a domain that was not found, as it is read back. */
#define NO_DOMAIN_TEXT "domain does not exist"
#define NO_PLACE_TEXT "domain has neither mail hosts nor an address"

/* A pattern list may change what a failure means. True: it has been dealt with. */
bool site_judged(struct site *s, struct outcome *o);
/* What is not reached has less room (inhand.h) and fewer turns (slots.h), so that dead domains delay nobody. */
void site_set_reached(struct site *s, bool reached);
/* Something has changed: its turn will show what can be done. */
void site_want(struct site *s);

#endif
