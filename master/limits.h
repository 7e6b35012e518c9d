/*
 * limits.h - what `show limits` and `show rates` answer: caps and rate clocks in shared memory.
 */
#ifndef SLUICE_MASTER_LIMITS_H
#define SLUICE_MASTER_LIMITS_H

#include <stdint.h>

#define RATES_SHOWN 1000 /* rows, if nobody says how many */

struct control;
struct master;

/* A row for each cap that was used or has a name in the configuration. */
void limits_write(struct control *c, const struct master *m);
/* A row for each rate that let something go within its own time; at most max, 0: all. */
void rates_write(struct control *c, const struct master *m, uint64_t max);

#endif
