/* links: common/base common/spool */
/*
 * On a read-only file system LMDB goes on without any lock, and the writer would recycle the pages under its
 * readers. Here lock.mdb alone is on such a one: open() of this program says so, to LMDB as well.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/base/err.h"
#include "common/base/xalloc.h"
#include "common/spool/spool.h"

static bool read_only;

static int open_unless_read_only(const char *path, int flags, unsigned mode)
{
	if (read_only && strstr(path, "/lock.mdb")) {
		errno = EROFS;
		return -1;
	}
	return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

#undef open
#undef open64
int open(const char *path, int flags, ...);
int open64(const char *path, int flags, ...);

int open(const char *path, int flags, ...)
{
	va_list ap;
	int fd;

	va_start(ap, flags);
	fd = open_unless_read_only(path, flags, flags & O_CREAT ? va_arg(ap, unsigned) : 0);
	va_end(ap);
	return fd;
}

int open64(const char *path, int flags, ...)
{
	va_list ap;
	int fd;

	va_start(ap, flags);
	fd = open_unless_read_only(path, flags, flags & O_CREAT ? va_arg(ap, unsigned) : 0);
	va_end(ap);
	return fd;
}

static int try_open(const char *dir, bool writer, char **ret_error)
{
	struct spool_options o = {.dir = dir, .map_size = UINT64_C(1) << 30, .writer = writer};
	struct spool *s = NULL;
	int rc = spool_open(&o, &s, ret_error);

	if (rc == 0)
		spool_close(s);
	return rc;
}

Test(spool_readonly, a_reader_without_a_slot_is_refused)
{
	char dir[] = "/tmp/sluice-spool-XXXXXX", *error = NULL, *cmd;

	cr_assert_not_null(mkdtemp(dir));
	cr_assert_eq(try_open(dir, true, &error), 0, "%s", error);
	cr_assert_eq(try_open(dir, false, &error), 0, "%s", error);
	read_only = true;
	cr_expect_eq(try_open(dir, false, &error), ERR_PERM);
	cr_assert_not_null(error);
	cr_expect_not_null(strstr(error, "read-only file system"), "%s", error);
	read_only = false;
	free(error);
	cmd = xasprintf("rm -rf %s", dir);
	cr_assert_eq(system(cmd), 0);
	free(cmd);
}
