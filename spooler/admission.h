/*
 * admission.h - whether new mail is welcome: size of the spool, free space of its disk, room in its map.
 *
 * Looked at by the committer thread once a second, and at once when 16 MB have come, or a quarter of the
 * room that was left, or spool-max-size is passed; sessions read the result through intake_admit(),
 * operators through shared memory (accepting, why_not). A limit that was passed must be undershot by 5 %
 * before mail is taken again.
 */
#ifndef SLUICE_SPOOLER_ADMISSION_H
#define SLUICE_SPOOLER_ADMISSION_H

#include "common/conf/conf.h"
#include "common/shm/shm.h"
#include "common/spool/spool.h"
#include "spooler/intake.h"

struct admission;

struct admission *admission_new(struct spool *spool, struct shm *shm, struct intake *in);
void admission_free(struct admission *a);
void admission_set_conf(struct admission *a, const struct conf *conf);
void admission_look(struct admission *a, uint64_t live_bytes);
/* After a commit: looks at once when enough has come that a limit may have been passed. Cheap. */
void admission_moved(struct admission *a, uint64_t live_bytes);

#endif
