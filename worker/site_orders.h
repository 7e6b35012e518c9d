/*
 * site_orders.h - what operators want of the mode and of the source addresses of sites: orders that
 * stay in the spool (common/spool/order.h), also for sites that are made later.
 *
 * A site obeys an order about its mode once and remembers which (mode_order()): what ends its back-off
 * later is not undone by an order of long ago. Sources are asked for each time: the last order that
 * matches decides. Used by the worker's one thread.
 */
#ifndef SLUICE_WORKER_SITE_ORDERS_H
#define SLUICE_WORKER_SITE_ORDERS_H

#include <stdbool.h>

#include "common/base/ip.h"
#include "common/spool/order.h"
#include "common/spool/site_mode.h"

struct site;
struct worker;

/* A new order: what it means for the sites that are there. */
void site_orders_obey(struct worker *w, const struct order *o);
/* A site has been made: what stands about its mode. */
void site_orders_join(struct site *s);
/* An order disables the source for the site; *ret (may be NULL) says until when and why, borrowed. */
bool site_orders_disable(const struct site *s, const struct ip *source, struct site_disabled *ret);
/* When the first source that an order disables comes back (wall), 0: none does by itself. */
msec_t site_orders_next_enabled(const struct site *s);
/* There is an order about modes: sites have to remember what they have obeyed. */
bool site_orders_about_mode(const struct worker *w);

#endif
