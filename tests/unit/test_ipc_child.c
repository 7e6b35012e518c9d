/* links: common/base common/loop common/ipc */
/* What every child of master does the same way. */
#include <criterion/criterion.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/ipc/child.h"

#define SECONDS 1

/* A process that hangs. Its parent dies when it is under way; `held` is closed when it is gone itself. */
static void hang(const int held[2], bool too_late)
{
	int ready[2];
	pid_t parent = getpid();
	char c = 0;

	cr_assert_eq(pipe(ready), 0);
	if (fork() == 0) {
		close(held[0]);
		close(ready[0]);
		if (too_late) {
			close(ready[1]);
			while (getppid() == parent)
				usleep(1000);
		}
		ipc_child_end_with(parent, SECONDS);
		if (!too_late)
			(void)!write(ready[1], &c, 1);
		(void)setrlimit(RLIMIT_CPU, &(struct rlimit){.rlim_cur = 20, .rlim_max = 20});
		for (;;)
			;
	}
	close(ready[1]);
	(void)!read(ready[0], &c, 1);
	_exit(0);
}

static void expect_end(bool too_late)
{
	int held[2], status;
	struct pollfd p;
	usec_t began;
	pid_t parent;

	cr_assert_eq(pipe(held), 0);
	parent = fork();
	if (parent == 0)
		hang(held, too_late);
	close(held[1]);
	cr_assert_eq(waitpid(parent, &status, 0), parent);
	began = clock_now();
	p = (struct pollfd){.fd = held[0], .events = POLLIN};
	cr_expect_eq(poll(&p, 1, 15000), 1, "it is still there");
	cr_expect_geq(clock_now() - began, SECONDS * USEC_PER_SEC / 2, "it had its time");
	close(held[0]);
}

Test(ipc_child, one_that_hangs_ends_soon_after_its_parent)
{
	expect_end(false);
}

Test(ipc_child, one_that_begins_after_its_parents_death_ends_too)
{
	expect_end(true);
}
