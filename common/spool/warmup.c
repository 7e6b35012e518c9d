#include "common/spool/warmup.h"

#include <string.h>

#include "common/base/err.h"
#include "common/conf/conf.h"
#include "common/spool/spool_private.h"
#include "common/spool/write.h"

#define PREFIX "warm-up:" /* of names in table quota */
#define ROW_VERSION 1
#define SETTING_VERSION 1

/* --- rules --- */

static const char *const why_texts[WARMUP_WHY_COUNT] = {
#define WARMUP_WHY_TEXT(id, text) [WARMUP_##id] = text,
	WARMUP_WHYS(WARMUP_WHY_TEXT)
#undef WARMUP_WHY_TEXT
};

const char *warmup_why_text(enum warmup_why why)
{
	return why < WARMUP_WHY_COUNT ? why_texts[why] : "";
}

const struct warmup_day *warmup_today(const struct warmup_row *row)
{
	static const struct warmup_day none = {.day = 0};

	return row->count ? &row->days[0] : &none;
}

static bool share_is_below(uint64_t part, uint64_t of, uint32_t limit)
{
	return limit == UINT32_MAX || part * CONF_MILLION < (uint64_t)limit * of;
}

/* Whether the day has earned the next number. */
static enum warmup_why judge(const struct warmup_day *d, const struct conf_warmup *rules)
{
	if (d->attempted < d->number - d->number / 2 || d->attempted == 0)
		return WARMUP_FEW;
	if (!share_is_below(d->transient, d->attempted, rules->advance_if.transient))
		return WARMUP_TRANSIENT;
	if (!share_is_below(d->policy, d->attempted, rules->advance_if.policy))
		return WARMUP_POLICY;
	return d->step + 1 < rules->schedule.n ? WARMUP_ADVANCED : WARMUP_LAST;
}

static struct warmup_day next_day(const struct warmup_row *row, const struct conf_warmup *rules,
				  const struct warmup_setting *set, uint32_t today)
{
	const struct warmup_day *last = warmup_today(row);
	struct warmup_day d = {.day = today, .step = last->step};

	if (last->day == 0 || last->day < rules->start) {
		d.step = 0;
		d.why = WARMUP_FIRST;
	} else if (set->paused) {
		d.why = WARMUP_PAUSED;
	} else {
		d.why = judge(last, rules);
		d.step += d.why == WARMUP_ADVANCED;
	}
	return d;
}

static void push_day(struct warmup_row *row, const struct warmup_day *d)
{
	size_t keep = row->count < WARMUP_DAYS ? row->count : WARMUP_DAYS - 1;

	memmove(&row->days[1], &row->days[0], keep * sizeof(row->days[0]));
	row->days[0] = *d;
	row->count = keep + 1;
}

bool warmup_roll(struct warmup_row *row, const struct conf_warmup *rules,
		 const struct warmup_setting *set, uint32_t today)
{
	struct warmup_day before = *warmup_today(row), *d;

	if (today < rules->start) {
		if (row->count)
			row->days[0].number = 0;
		return false;
	}
	if (today > before.day) {
		struct warmup_day next = next_day(row, rules, set, today);

		push_day(row, &next);
	}
	d = &row->days[0];
	if (set->seq > row->set) {
		row->set = set->seq;
		d->step = set->day - 1;
		d->day = today; /* an operator knows better than a clock that ran ahead */
		d->why = WARMUP_SET;
	}
	if (d->step >= rules->schedule.n)
		d->step = (uint32_t)rules->schedule.n - 1;
	d->number = rules->schedule.v[d->step];
	return d->day != before.day || d->step != before.step || d->number != before.number;
}

void warmup_take(struct warmup_row *row, const struct warmup_day *day, uint64_t set)
{
	struct warmup_day *d = &row->days[0];
	bool newer_setting = set > row->set;

	if (newer_setting)
		row->set = set;
	if (row->count && d->day > day->day && !newer_setting)
		return; /* one of a worker whose clock was wrong */
	if (row->count == 0 || d->day < day->day)
		push_day(row, &(struct warmup_day){.day = day->day});
	d->day = day->day;
	d->step = day->step;
	d->number = day->number;
	d->granted = day->granted;
	d->last = day->last;
	d->why = day->why;
}

void warmup_count(struct warmup_row *row, uint32_t day, uint64_t attempted, uint64_t transient,
		  uint64_t policy)
{
	for (size_t i = 0; i < row->count; i++) {
		struct warmup_day *d = &row->days[i];

		if (d->day != day)
			continue;
		d->attempted += attempted;
		d->transient += transient;
		d->policy += policy;
		return;
	}
}

/* --- rows --- */

static struct spool_key key_of(uint32_t vmta, const struct ip *source, struct slice site)
{
	char name[sizeof(PREFIX) + IP_TEXT_MAX + SPOOL_NAME_KEY_MAX], ip[IP_TEXT_MAX];
	struct slice s = slice_sub(site, 0, SPOOL_NAME_KEY_MAX);
	int n = snprintf(name, sizeof(name), PREFIX "%s%s%.*s", ip_text(source, ip), s.n ? " " : "",
			 SLICE_ARG(s));

	return key_quota(vmta, 0, slice_of(name, (size_t)n));
}

static struct spool_key setting_key(const struct ip *source)
{
	return key_of(0, source, slice_of("", 0));
}

void warmup_row_encode(const struct warmup_row *row, struct buf *b)
{
	enc_u8(b, ROW_VERSION);
	enc_var(b, row->set);
	enc_u8(b, (uint8_t)row->count);
	for (size_t i = 0; i < row->count; i++) {
		const struct warmup_day *d = &row->days[i];

		enc_var(b, d->day);
		enc_var(b, d->step);
		enc_var(b, d->number);
		enc_var(b, d->granted);
		enc_var(b, d->last);
		enc_var(b, d->attempted);
		enc_var(b, d->transient);
		enc_var(b, d->policy);
		enc_u8(b, (uint8_t)d->why);
	}
}

static void day_decode(struct dec *d, struct warmup_day *ret)
{
	uint8_t why;

	ret->day = dec_var32(d);
	ret->step = dec_var32(d);
	ret->number = dec_var(d);
	ret->granted = dec_var(d);
	ret->last = dec_var(d);
	ret->attempted = dec_var(d);
	ret->transient = dec_var(d);
	ret->policy = dec_var(d);
	why = dec_u8(d);
	if (why >= WARMUP_WHY_COUNT)
		d->bad = true;
	else
		ret->why = (enum warmup_why)why;
}

static int begin(struct dec *d, struct slice v, uint8_t version)
{
	uint8_t has;

	*d = dec_of(v.p, v.n);
	has = dec_u8(d);
	if (!dec_ok(d))
		return ERR_CORRUPT;
	return has == version ? 0 : ERR_VERSION;
}

int warmup_row_decode(struct slice v, struct warmup_row *ret)
{
	struct warmup_row row = {.count = 0};
	struct dec d;
	int rc = begin(&d, v, ROW_VERSION);

	if (rc < 0)
		return rc;
	row.set = dec_var(&d);
	row.count = dec_u8(&d);
	if (row.count > WARMUP_DAYS)
		return ERR_CORRUPT;
	for (size_t i = 0; i < row.count; i++)
		day_decode(&d, &row.days[i]);
	if (!dec_end(&d))
		return ERR_CORRUPT;
	*ret = row;
	return 0;
}

void warmup_setting_encode(const struct warmup_setting *s, struct buf *b)
{
	enc_u8(b, SETTING_VERSION);
	enc_var(b, s->seq);
	enc_var(b, s->day);
	enc_u8(b, s->paused);
}

int warmup_setting_decode(struct slice v, struct warmup_setting *ret)
{
	struct warmup_setting s;
	struct dec d;
	uint8_t paused;
	int rc = begin(&d, v, SETTING_VERSION);

	if (rc < 0)
		return rc;
	s.seq = dec_var(&d);
	s.day = dec_var32(&d);
	paused = dec_u8(&d);
	s.paused = paused;
	if (!dec_end(&d) || paused > 1 || (s.seq && !s.day))
		return ERR_CORRUPT;
	*ret = s;
	return 0;
}

int spool_warmup_get(struct spool_read *r, uint32_t vmta, const struct ip *source,
		     struct slice site, struct warmup_row *ret)
{
	struct spool_key k = key_of(vmta, source, site);
	struct slice v;
	int rc = read_get(r, SPOOL_QUOTA, &k, &v);

	if (rc == 0)
		return warmup_row_decode(v, ret);
	if (rc == ERR_NOT_FOUND)
		*ret = (struct warmup_row){.count = 0};
	return rc == ERR_NOT_FOUND ? 0 : rc;
}

int spool_warmup_setting_get(struct spool_read *r, const struct ip *source,
			     struct warmup_setting *ret)
{
	struct spool_key k = setting_key(source);
	struct slice v;
	int rc = read_get(r, SPOOL_QUOTA, &k, &v);

	if (rc == 0)
		return warmup_setting_decode(v, ret);
	if (rc == ERR_NOT_FOUND)
		*ret = (struct warmup_setting){.seq = 0};
	return rc == ERR_NOT_FOUND ? 0 : rc;
}

/* Of a key behind virtual MTA and day: "warm-up:IP SITE". False: a row of something else. */
static bool parse_name(struct slice name, struct ip *ret_source, struct slice *ret_site)
{
	struct slice ip;
	ptrdiff_t space;

	if (!slice_istarts(name, PREFIX))
		return false;
	name = slice_from(name, strlen(PREFIX));
	space = slice_chr(name, ' ');
	if (space < 0)
		return false; /* a setting */
	ip = slice_sub(name, 0, (size_t)space);
	*ret_site = slice_from(name, (size_t)space + 1);
	return ip_parse(ip, ret_source);
}

int warmup_check(struct slice key, struct slice value)
{
	struct warmup_setting set;
	struct warmup_row row;
	struct slice site;
	struct ip ip;

	if (key.n < 8 || !slice_istarts(slice_from(key, 8), PREFIX))
		return 0;
	return parse_name(slice_from(key, 8), &ip, &site) ? warmup_row_decode(value, &row)
							  : warmup_setting_decode(value, &set);
}

int spool_warmup_next(struct spool_read *r, struct spool_key *after, uint32_t *ret_vmta,
		      struct ip *ret_source, struct slice *ret_site, struct warmup_row *ret)
{
	struct slice key, value;
	int more;

	while ((more = read_seek(r, SPOOL_QUOTA, after, after->n > 0, &key, &value)) > 0) {
		if (key.n > sizeof(after->b))
			return ERR_SYS;
		memcpy(after->b, key.p, key.n);
		after->n = key.n;
		if (key.n < 8 || !parse_name(slice_from(key, 8), ret_source, ret_site))
			continue;
		*ret_vmta = be32_get(key.p);
		more = warmup_row_decode(value, ret);
		return more < 0 ? more : 1;
	}
	return more;
}

/* --- writing --- */

static int load(struct spool_write *w, uint32_t vmta, const struct ip *source, struct slice site,
		struct warmup_row *ret)
{
	int rc = spool_warmup_get(write_read(w), vmta, source, site, ret);

	if (rc != ERR_CORRUPT && rc != ERR_VERSION)
		return rc;
	*ret = (struct warmup_row){.count = 0};
	return 0;
}

static int store(struct spool_write *w, const struct spool_key *k, struct buf *b)
{
	int rc = write_put(w, SPOOL_QUOTA, k, buf_slice(b));

	buf_done(b);
	return rc;
}

static int store_row(struct spool_write *w, uint32_t vmta, const struct ip *source,
		     struct slice site, const struct warmup_row *row)
{
	struct spool_key k = key_of(vmta, source, site);
	struct buf b = BUF_INIT;

	warmup_row_encode(row, &b);
	return store(w, &k, &b);
}

int spool_warmup_take(struct spool_write *w, uint32_t vmta, const struct ip *source,
		      struct slice site, const struct warmup_day *day, uint64_t set)
{
	struct warmup_row row = {.count = 0};
	int rc = load(w, vmta, source, site, &row);

	if (rc < 0)
		return rc;
	warmup_take(&row, day, set);
	return store_row(w, vmta, source, site, &row);
}

int spool_warmup_count(struct spool_write *w, uint32_t vmta, const struct ip *source,
		       struct slice site, uint32_t day, uint64_t attempted, uint64_t transient,
		       uint64_t policy)
{
	struct warmup_row row = {.count = 0};
	int rc = load(w, vmta, source, site, &row);

	if (rc < 0 || row.count == 0)
		return rc;
	warmup_count(&row, day, attempted, transient, policy);
	return store_row(w, vmta, source, site, &row);
}

int spool_warmup_set(struct spool_write *w, const struct ip *source,
		     const struct warmup_setting *set)
{
	struct spool_key k = setting_key(source);
	struct buf b = BUF_INIT;

	warmup_setting_encode(set, &b);
	return store(w, &k, &b);
}
