#include "spooler/beats.h"

#include <stddef.h>

#include "common/base/macros.h"

#define SESSIONS_MAX (20 * USEC_PER_SEC)
#define COMMITTER_MAX (120 * USEC_PER_SEC)
#define FILES_MAX (600 * USEC_PER_SEC)

const char *beats_stopped(const struct beats *b, usec_t now, usec_t *ret_silent)
{
	const struct {
		const char *thread;
		usec_t last, most;
	} threads[] = {
		{"session", b->sessions, SESSIONS_MAX},
		{"committer", b->commit_began ? now : b->committer, COMMITTER_MAX},
		{"accountant", b->accountant, FILES_MAX},
		{"dsn", b->dsn, FILES_MAX},
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(threads); i++) {
		if (now <= threads[i].last || now - threads[i].last <= threads[i].most)
			continue;
		*ret_silent = now - threads[i].last;
		return threads[i].thread;
	}
	return NULL;
}
