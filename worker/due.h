/*
 * due.h - reading the due table of one queue: classes that have room, inside a class lanes (jobs) in
 * turns, so that no mail is behind mail of a lower class or behind a whole other job.
 *
 * A pass begins at the head of each lane; it ends when all that is due was seen or has no room.
 */
#ifndef SLUICE_WORKER_DUE_H
#define SLUICE_WORKER_DUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct due_pass;
struct queue;
struct spool_due_row;
struct spool_read;

#define DUE_ALL 0xfu /* queue.due_more: a bit for each class */

typedef void due_row_cb(struct spool_read *r, struct queue *q, const struct spool_due_row *row,
			uint8_t lane, void *arg);

/*
 * Room for a helping of this lane: the list of its class is half empty, so that one scan brings much; or
 * it has next to nothing in memory, however much of other jobs there is.
 */
bool due_lane_has_room(const struct queue *q, uint8_t lane);
/*
 * One helping of all lanes that have room: calls row() for what is due and not in hand. Returns rows
 * read; *ret_more: there is more that could be read at once. At the end of a pass q->due_more and
 * q->full name the classes of which something had no room.
 */
size_t due_helping(struct spool_read *r, struct queue *q, due_row_cb *row, void *arg,
		   bool *ret_more);
/* The next helping begins a new pass. */
void due_begin_again(struct queue *q);

#endif
