/*
 * fd.h - small helpers on descriptors. All return 0 or a negative enum err with errno kept.
 */
#ifndef SLUICE_BASE_FD_H
#define SLUICE_BASE_FD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/buf.h"
#include "common/base/macros.h"

int fd_set_nonblock(int fd, bool on) WARN_UNUSED;
int fd_set_cloexec(int fd, bool on) WARN_UNUSED;
/* Writes all, restarts after EINTR. */
int fd_write_all(int fd, const void *p, size_t n) WARN_UNUSED;
/* Reads to the end of the file, at most max bytes (more: ERR_TOO_LONG), into b. */
int fd_read_all(int fd, size_t max, struct buf *b) WARN_UNUSED;
/* eventfd as a bell: ring never blocks and never fails; quiet takes all rings. */
void bell_ring(int eventfd);
void bell_quiet(int eventfd);
/* Sends one message of n bytes (n > 0) with up to 16 descriptors over a unix socket; sends all or ERR_SYS. */
int fd_send(int sock, const void *p, size_t n, const int *fds, size_t fd_count) WARN_UNUSED;
/*
 * Receives at most n bytes and up to *fd_count descriptors (close-on-exec). Returns bytes (0 at EOF)
 * or a negative err; *fd_count becomes the number received.
 */
long fd_recv(int sock, void *p, size_t n, int *fds, size_t *fd_count) WARN_UNUSED;

#endif
