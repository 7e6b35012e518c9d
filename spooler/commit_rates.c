/*
 * commit_rates.c - rate clocks over restarts: rows of table state, written when clocks have moved, at most
 * once a second; loaded into shared memory before any worker runs.
 *
 * The row `rates` says whether the last run ended with nothing left to write. If not, what was taken in its last
 * moments is not known, and rates.h takes the worst for it.
 */
#include "spooler/commit_private.h"

#include <fcntl.h>
#include <unistd.h>

#include "common/base/fd.h"

#define STORE_EVERY (1 * USEC_PER_SEC)
#define TIDY_EVERY (60 * USEC_PER_SEC) /* rows of clocks that have passed */
#define ROWS_AT_ONCE 256

static uint64_t boot_id(void)
{
	char text[64] = "";
	int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	uint64_t h = UINT64_C(0xcbf29ce484222325);
	ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof(text));

	if (fd >= 0)
		close(fd);
	for (ssize_t i = 0; i < n; i++)
		h = (h ^ (uint8_t)text[i]) * UINT64_C(0x100000001b3);
	return h;
}

uint64_t commit_rate_ahead(const struct spool_rate *r, uint64_t boot, usec_t now, msec_t wall)
{
	uint64_t elapsed = 0;

	if (r->boot == boot && now >= r->now)
		elapsed = (now - r->now) * 1000;
	else if (wall > r->wall + 1) /* both are rounded */
		elapsed = (wall - r->wall - 1) * 1000000;
	return r->ahead > elapsed ? r->ahead - elapsed : 0;
}

static struct spool_key rate_key(enum rate_scope scope, enum rate_measure measure, const char *name)
{
	struct spool_key k = key_name(slice_str(STATE_RATE));
	const char of[2] = {(char)('a' + scope), (char)('a' + measure)};

	spool_key_name(&k, slice_of(of, 2), 2);
	spool_key_name(&k, slice_str(name), RATE_NAME_MAX);
	return k;
}

/* False: a key that no version of this program writes. */
static bool key_parts(struct slice key, struct rate_row *ret)
{
	size_t at = sizeof(STATE_RATE) - 1;
	uint8_t scope, measure;

	if (key.n < at + 2 || key.n - at - 2 >= sizeof(ret->name))
		return false;
	scope = (uint8_t)(key.p[at] - 'a');
	measure = (uint8_t)(key.p[at + 1] - 'a');
	if (scope >= RATE_SCOPE_COUNT || measure >= RATE_MEASURE_COUNT)
		return false;
	ret->scope = (enum rate_scope)scope;
	ret->measure = (enum rate_measure)measure;
	slice_copy(slice_from(key, at + 2), ret->name, sizeof(ret->name));
	return true;
}

/* --- start --- */

static int load_rows(struct commit *c, struct spool_read *r, usec_t now)
{
	struct slice prefix = slice_str(STATE_RATE), name = slice_of("", 0), v;
	int rc;

	while ((rc = spool_state_next(r, prefix, name, &name, &v)) > 0) {
		struct rate_row row;
		struct spool_rate at;

		rc = row_rate_decode(v, &at);
		if (rc < 0 || !key_parts(name, &row) || at.n == 0 || at.per == 0)
			return rc < 0 ? rc : ERR_CORRUPT;
		row.n = at.n;
		row.per = at.per;
		rates_load(c->shm, &row, commit_rate_ahead(&at, c->rates.boot, now, clock_wall()),
			   now);
	}
	return rc;
}

int commit_rates_load(struct commit *c)
{
	struct spool_read *r;
	struct slice v;
	uint64_t clean = 1; /* a new spool knows of no run */
	usec_t now = clock_now();
	int rc = spool_read_begin(c->spool, &r);

	if (rc < 0)
		return rc;
	c->rates.boot = boot_id();
	c->rates.opened = true;
	rc = spool_state_get(r, slice_str(STATE_RATES), &v);
	if (rc == 0)
		rc = row_number_decode(v, &clean);
	else if (rc == ERR_NOT_FOUND)
		rc = 0;
	if (rc == 0 && rates_begin(c->shm, clean == 0, now))
		rc = load_rows(c, r, now);
	spool_read_end(r);
	return rc;
}

/* --- the transaction under way --- */

static int store_clean(struct commit *c, bool clean)
{
	struct spool_key k = key_name(slice_str(STATE_RATES));

	buf_clear(&c->value);
	row_number_encode(clean, &c->value);
	return write_put(c->w, SPOOL_STATE, &k, buf_slice(&c->value));
}

static int store_row(struct commit *c, const struct rate_row *row, usec_t now, msec_t wall)
{
	struct spool_key k = rate_key(row->scope, row->measure, row->name);
	const struct spool_rate at = {.n = row->n,
				      .per = row->per,
				      .boot = c->rates.boot,
				      .now = now,
				      .wall = wall,
				      .ahead = row->clock - now * 1000};
	int rc;

	if (row->remove) {
		rc = write_delete(c->w, SPOOL_STATE, &k);
		return rc == ERR_NOT_FOUND ? 0 : rc;
	}
	buf_clear(&c->value);
	row_rate_encode(&at, &c->value);
	return write_put(c->w, SPOOL_STATE, &k, buf_slice(&c->value));
}

static void keep_rows(struct commit *c, const struct rate_row *rows, size_t n)
{
	struct commit_rates *x = &c->rates;

	if (x->count + n > x->cap) {
		x->cap = 2 * x->cap + n;
		x->rows = xreallocarray(x->rows, x->cap, sizeof(*x->rows));
	}
	memcpy(x->rows + x->count, rows, n * sizeof(*rows));
	x->count += n;
}

static int store_rows(struct commit *c)
{
	usec_t now = clock_now();
	msec_t wall = clock_wall();
	struct rate_row *rows = xcalloc(ROWS_AT_ONCE, sizeof(*rows));
	uint32_t pos = 0;
	size_t n, i;
	int rc = 0;

	c->rates.moves = rates_moves(c->shm);
	while (rc == 0 && (n = rates_unsaved(c->shm, &pos, rows, ROWS_AT_ONCE, now)) > 0) {
		keep_rows(c, rows, n);
		for (i = 0; rc == 0 && i < n; i++)
			rc = store_row(c, &rows[i], now, wall);
	}
	free(rows);
	c->rates.next = now + STORE_EVERY;
	c->rates.tidy = now + TIDY_EVERY;
	return rc;
}

bool commit_rates_due(const struct commit *c)
{
	return rates_moves(c->shm) != c->rates.moves && clock_now() >= c->rates.next;
}

int commit_rates_store(struct commit *c)
{
	int rc = 0;

	if (c->rates.opened)
		rc = store_clean(c, false);
	if (rc == 0 && (commit_rates_due(c) || clock_now() >= c->rates.tidy))
		rc = store_rows(c);
	return rc;
}

void commit_rates_publish(struct commit *c)
{
	c->rates.count = 0;
	c->rates.opened = false;
}

void commit_rates_abort(struct commit *c)
{
	for (size_t i = 0; i < c->rates.count; i++)
		rates_not_saved(c->shm, &c->rates.rows[i]);
	c->rates.count = 0;
}

int commit_rates_close(struct commit *c)
{
	int rc = store_rows(c);

	c->rates.opened = false;
	return rc < 0 ? rc : store_clean(c, true);
}
