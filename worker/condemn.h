/*
 * condemn.h - a queue all of whose mail bounces (bounce-queue): what waits in memory is given back to
 * the spool, and there all is bounced in pieces, in the bursts in which the feed reads. At a provider's site
 * these are the queues of all its domains: those that are not in memory are loaded, a few at a time.
 *
 * Meant is what had been received when the reply came. Recipients of open transactions are not touched:
 * they get what the receiver says of them. A worker that dies in between leaves the rest as it was: the
 * receiver says the same again, or takes the mail.
 */
#ifndef SLUICE_WORKER_CONDEMN_H
#define SLUICE_WORKER_CONDEMN_H

#include <stdbool.h>
#include <stdint.h>

struct condemned; /* of a queue; NULL: its mail is tried */
struct condemned_list;
struct outcome;
struct queue;
struct site;
struct spool_read;
struct worker;

struct condemned_list *condemned_list_new(void);
void condemned_list_free(struct condemned_list *l);

/* o: a bounce. Of what is condemned already, later mail is meant, too. */
void condemn_site(struct site *s, const struct outcome *o);
/* The queue goes away. */
void condemn_forget(struct queue *q);

/*
 * A recipient that the feed has come upon in the spool: true when it is meant and must not be taken.
 * One that is new (fresh) is to be parked then: it is found among what is due.
 */
bool condemn_means(struct queue *q, struct spool_read *r, uint64_t msgid, bool fresh);
/* fresh_seen: all that was committed as new has been read. True: there is more to do at once. */
bool condemn_burst(struct worker *w, struct spool_read *r, bool fresh_seen);

#endif
