/*
 * tables.h - the tables of the spool and their keys, byte by byte (docs/spool-format.md).
 *
 * Keys are big-endian, so that LMDB's order is the order of the numbers. No table uses DUPSORT. Used by
 * common/spool and by the committer; nobody else builds keys.
 */
#ifndef SLUICE_SPOOL_TABLES_H
#define SLUICE_SPOOL_TABLES_H

#include <stdint.h>

#include "common/base/clock.h"
#include "common/base/codec.h"
#include "common/base/slice.h"

#define SPOOL_SCHEMA_VERSION 2

#define SPOOL_TABLES(X)                                                         \
	X(MESSAGE, "message") /* msgid u64 */                                   \
	X(BODY, "body") /* msgid u64 */                                         \
	X(RECIPIENT, "recipient") /* msgid u64, rcpt u32 */                     \
	X(FRESH, "fresh") /* vmta u32, class u8, arrival u64, rcpt u32 */       \
	X(DUE, "due") /* queue u32, lane u8, due ms u64, msgid u64, rcpt u32 */ \
	X(WAKE, "wake") /* vmta u32, at ms u64, queue u32 */                    \
	X(QUEUE, "queue") /* queue u32 */                                       \
	X(QUEUE_NAME, "queue-name") /* vmta u32, domain */                      \
	X(SITE, "site") /* vmta u32, name */                                    \
	X(VMTA, "vmta") /* vmta u32 */                                          \
	X(JOB, "job") /* job (cut to 240 bytes), NUL, msgid u64 */              \
	X(OUTBOX, "outbox") /* sequence u64 */                                  \
	X(DSN, "dsn") /* sequence u64 */                                        \
	X(ORDER, "order") /* order u64 */                                       \
	X(REROUTE, "reroute") /* vmta u32, queue u32 */                         \
	X(QUOTA, "quota") /* vmta u32, local day u32, name */                   \
	X(STATE, "state") /* name */

enum spool_table {
#define SPOOL_TABLE_ENUM(id, name) SPOOL_##id,
	SPOOL_TABLES(SPOOL_TABLE_ENUM)
#undef SPOOL_TABLE_ENUM
		SPOOL_TABLE_COUNT
};

#define SPOOL_JOB_KEY_MAX 240 /* longer jobs share keys: compare with the message's job */
#define SPOOL_NAME_KEY_MAX 400 /* domains, sites, pools, state names */

struct spool_key {
	uint8_t b[SPOOL_NAME_KEY_MAX + 16];
	size_t n;
};

static inline void spool_key_u8(struct spool_key *k, uint8_t v)
{
	k->b[k->n++] = v;
}
static inline void spool_key_u32(struct spool_key *k, uint32_t v)
{
	be32_put(k->b + k->n, v);
	k->n += 4;
}
static inline void spool_key_u64(struct spool_key *k, uint64_t v)
{
	be64_put(k->b + k->n, v);
	k->n += 8;
}
static inline void spool_key_name(struct spool_key *k, struct slice s, size_t max)
{
	size_t n = s.n < max ? s.n : max;

	if (n)
		memcpy(k->b + k->n, s.p, n);
	k->n += n;
}

static inline struct spool_key key_u32(uint32_t v)
{
	struct spool_key k;

	k.n = 0;
	spool_key_u32(&k, v);
	return k;
}
static inline struct spool_key key_u64(uint64_t v)
{
	struct spool_key k;

	k.n = 0;
	spool_key_u64(&k, v);
	return k;
}
static inline struct spool_key key_name(struct slice name)
{
	struct spool_key k;

	k.n = 0;
	spool_key_name(&k, name, SPOOL_NAME_KEY_MAX);
	return k;
}
static inline struct spool_key key_u32_name(uint32_t v, struct slice name)
{
	struct spool_key k;

	k.n = 0;
	spool_key_u32(&k, v);
	spool_key_name(&k, name, SPOOL_NAME_KEY_MAX);
	return k;
}
static inline struct spool_key key_recipient(uint64_t msgid, uint32_t rcpt)
{
	struct spool_key k;

	k.n = 0;
	spool_key_u64(&k, msgid);
	spool_key_u32(&k, rcpt);
	return k;
}
static inline struct spool_key key_fresh(uint32_t vmta, uint8_t class, uint64_t arrival,
					 uint32_t rcpt)
{
	struct spool_key k;

	k.n = 0;
	spool_key_u32(&k, vmta);
	spool_key_u8(&k, class);
	spool_key_u64(&k, arrival);
	spool_key_u32(&k, rcpt);
	return k;
}
static inline struct spool_key key_due(uint32_t queue, uint8_t lane, msec_t due, uint64_t msgid,
				       uint32_t rcpt)
{
	struct spool_key k;

	k.n = 0;
	spool_key_u32(&k, queue);
	spool_key_u8(&k, lane);
	spool_key_u64(&k, due);
	spool_key_u64(&k, msgid);
	spool_key_u32(&k, rcpt);
	return k;
}
static inline struct spool_key key_wake(uint32_t vmta, msec_t at, uint32_t queue)
{
	struct spool_key k;

	k.n = 0;
	spool_key_u32(&k, vmta);
	spool_key_u64(&k, at);
	spool_key_u32(&k, queue);
	return k;
}
static inline struct spool_key key_job(struct slice job, uint64_t msgid)
{
	struct spool_key k;

	k.n = 0;
	spool_key_name(&k, job, SPOOL_JOB_KEY_MAX);
	spool_key_u8(&k, 0);
	spool_key_u64(&k, msgid);
	return k;
}
static inline struct spool_key key_reroute(uint32_t vmta, uint32_t queue)
{
	struct spool_key k;

	k.n = 0;
	spool_key_u32(&k, vmta);
	spool_key_u32(&k, queue);
	return k;
}
static inline struct spool_key key_quota(uint32_t vmta, uint32_t day, struct slice name)
{
	struct spool_key k;

	k.n = 0;
	spool_key_u32(&k, vmta);
	spool_key_u32(&k, day);
	spool_key_name(&k, name, SPOOL_NAME_KEY_MAX);
	return k;
}

/* Lengths of the keys of fixed length. */
enum {
	KEY_RECIPIENT_SIZE = 12,
	KEY_FRESH_SIZE = 17,
	KEY_DUE_SIZE = 25,
	KEY_WAKE_SIZE = 16,
};

#endif
