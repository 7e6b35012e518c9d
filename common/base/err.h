/*
 * err.h - the error codes of fallible functions.
 *
 * A fallible function returns 0 or a negative value of enum err. The outcome of a delivery is not an
 * error code: that is struct outcome (worker/outcome.h).
 */
#ifndef SLUICE_BASE_ERR_H
#define SLUICE_BASE_ERR_H

#define ERR_LIST(X)                                                                 \
	X(ERR_INVALID, "invalid input")                                             \
	X(ERR_RANGE, "value out of range")                                          \
	X(ERR_TRUNCATED, "input ends too early")                                    \
	X(ERR_CORRUPT, "stored data is corrupt")                                    \
	X(ERR_VERSION, "stored data has a version that this program does not know") \
	X(ERR_NOT_FOUND, "not found")                                               \
	X(ERR_EXISTS, "exists already")                                             \
	X(ERR_FULL, "no room left")                                                 \
	X(ERR_DISK_FULL, "disk is full")                                            \
	X(ERR_MAP_FULL, "spool map is full")                                        \
	X(ERR_IO, "input/output error")                                             \
	X(ERR_SYS, "system call failed")                                            \
	X(ERR_BUSY, "busy")                                                         \
	X(ERR_TIMEOUT, "timed out")                                                 \
	X(ERR_CLOSED, "peer closed the connection")                                 \
	X(ERR_REFUSED, "refused")                                                   \
	X(ERR_TOO_LONG, "too long")                                                 \
	X(ERR_PERM, "permission denied")                                            \
	X(ERR_CONFIG, "configuration error")

enum err {
	ERR_NONE = 0,
	ERR_FIRST_ = -1000, /* so that the first code is -999 */
#define ERR_ENUM(name, text) name,
	ERR_LIST(ERR_ENUM)
#undef ERR_ENUM
		ERR_END_
};

/* Text for a code; "no error" for 0, "unknown error" for others. Static storage. */
const char *err_text(int err);

#endif
