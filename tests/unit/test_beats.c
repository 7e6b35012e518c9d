/* links: common/base spooler/beats.c */
/* Which silence of a spooler's thread is too long, and which is only a slow disk. */
#include <criterion/criterion.h>

#include "spooler/beats.h"

#define NOW (100000 * USEC_PER_SEC)
#define AGO(seconds) (NOW - (seconds)*USEC_PER_SEC)

Test(beats, each_thread_has_its_own_time)
{
	static const struct {
		const char *label;
		struct beats b;
		const char *stopped;
		usec_t silent_s;
	} cases[] = {
		{"all turn", {AGO(0), AGO(1), AGO(1), AGO(10), 0}, NULL, 0},
		{"at the edge", {AGO(20), AGO(120), AGO(600), AGO(600), 0}, NULL, 0},
		{"a session thread hangs", {AGO(21), AGO(0), AGO(0), AGO(0), 0}, "session", 21},
		{"a long commit", {AGO(0), AGO(599), AGO(0), AGO(0), AGO(599)}, NULL, 0},
		{"the committer hangs elsewhere",
		 {AGO(0), AGO(121), AGO(0), AGO(0), 0},
		 "committer",
		 121},
		{"the accountant hangs", {AGO(0), AGO(0), AGO(601), AGO(0), 0}, "accountant", 601},
		{"it hangs in a long commit, too",
		 {AGO(0), AGO(300), AGO(601), AGO(0), AGO(300)},
		 "accountant",
		 601},
		{"the DSN helper hangs", {AGO(0), AGO(0), AGO(0), AGO(700), 0}, "dsn", 700},
		{"one turned after we looked at the clock",
		 {NOW + 5, NOW + 5, NOW + 5, NOW + 5, 0},
		 NULL,
		 0},
	};
	size_t i;

	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		usec_t silent = 0;
		const char *stopped = beats_stopped(&cases[i].b, NOW, &silent);

		cr_expect_str_eq(stopped ? stopped : "", cases[i].stopped ? cases[i].stopped : "",
				 "%s: %s", cases[i].label, stopped);
		cr_expect_eq(silent, cases[i].silent_s * USEC_PER_SEC, "%s", cases[i].label);
	}
}
