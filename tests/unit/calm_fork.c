/*
 * fork() of test programs that have AddressSanitizer: waits until all other threads sleep.
 *
 * Criterion forks beside a thread of nanomsg. ASan of gcc 12 does not hold its allocator's locks over a
 * fork, so a child that is forked while that thread allocates finds a lock taken for ever and stands still
 * before it has run a test. Linked into the tests of MODE=asan only.
 */
#include <dirent.h>
#include <dlfcn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TRIES 1000
#define STEP 200 /* us */

/* Does thread tid of this process sleep, or is it this one, or gone? */
static bool sleeps(const char *tid)
{
	char path[64], line[512];
	const char *end = NULL;
	FILE *f;

	if (atoi(tid) == gettid())
		return true;
	snprintf(path, sizeof(path), "/proc/self/task/%.20s/stat", tid);
	f = fopen(path, "re");
	if (!f)
		return true;
	if (fgets(line, sizeof(line), f))
		end = strrchr(line, ')'); /* of its name; the state follows */
	fclose(f);
	return !end || end[1] != ' ' || end[2] == 'S';
}

static bool all_sleep(void)
{
	DIR *d = opendir("/proc/self/task");
	struct dirent *e;
	bool calm = true;

	while (d && calm && (e = readdir(d)))
		calm = e->d_name[0] == '.' || sleeps(e->d_name);
	if (d)
		closedir(d);
	return calm;
}

pid_t fork(void)
{
	void *symbol = dlsym(RTLD_NEXT, "fork");
	pid_t (*real)(void);

	memcpy(&real, &symbol, sizeof(real));
	for (int i = 0; i < TRIES && !all_sleep(); i++)
		usleep(STEP);
	return real();
}
