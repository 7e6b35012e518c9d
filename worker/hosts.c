#include "worker/hosts.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/hash.h"

#include "common/base/xalloc.h"
#include "common/loop/loop.h"

#define NO_TLS_TIME (UINT64_C(3600) * USEC_PER_SEC)
#define REACHED_TIME (UINT64_C(3600) * USEC_PER_SEC)
#define HOSTS_MAX 50000

struct host_key {
	struct ip ip;
	uint8_t unused;
	uint16_t port;
};

struct host {
	struct host_key key;
	usec_t unreachable_since, unreachable_until, no_tls_until, reached; /* 0 = not lately */
	UT_hash_handle hh;
};

struct hosts {
	struct loop *loop;
	struct host *by_key; /* uthash, oldest first */
};

struct hosts *hosts_new(struct loop *l)
{
	struct hosts *h = xcalloc(1, sizeof(*h));

	h->loop = l;
	return h;
}

static void host_drop(struct hosts *h, struct host *x)
{
	HASH_DEL(h->by_key, x);
	free(x);
}

void hosts_free(struct hosts *h)
{
	struct host *x, *next;

	if (!h)
		return;
	HASH_ITER(hh, h->by_key, x, next)
		host_drop(h, x);
	free(h);
}

static struct host *host_find(struct hosts *h, const struct ip *ip, uint16_t port)
{
	struct host_key key;
	struct host *x;

	if (!h->by_key)
		return NULL;
	memset(&key, 0, sizeof(key));
	key.ip = *ip;
	key.port = port;
	HASH_FIND(hh, h->by_key, &key, sizeof(key), x);
	return x;
}

static struct host *host_get(struct hosts *h, const struct ip *ip, uint16_t port)
{
	struct host *x = host_find(h, ip, port);

	if (x)
		return x;
	if (HASH_COUNT(h->by_key) >= HOSTS_MAX)
		host_drop(h, h->by_key);
	x = xcalloc(1, sizeof(*x));
	x->key.ip = *ip;
	x->key.port = port;
	HASH_ADD(hh, h->by_key, key, sizeof(x->key), x);
	return x;
}

void hosts_unreachable(struct hosts *h, const struct ip *ip, uint16_t port, usec_t how_long)
{
	struct host *x = host_get(h, ip, port);

	x->reached = 0;
	x->unreachable_since = loop_now(h->loop);
	x->unreachable_until = x->unreachable_since + how_long;
}

bool hosts_is_unreachable(struct hosts *h, const struct ip *ip, uint16_t port, usec_t since)
{
	const struct host *x = host_find(h, ip, port);

	return x && x->unreachable_until > loop_now(h->loop) && x->unreachable_since > since;
}

void hosts_reachable(struct hosts *h, const struct ip *ip, uint16_t port)
{
	struct host *x = host_get(h, ip, port);

	x->unreachable_until = 0;
	x->reached = loop_now(h->loop);
}

bool hosts_is_reached(struct hosts *h, const struct ip *ip, uint16_t port, usec_t since)
{
	const struct host *x = host_find(h, ip, port);

	return x && x->reached > since && loop_now(h->loop) - x->reached < REACHED_TIME;
}

void hosts_no_tls(struct hosts *h, const struct ip *ip, uint16_t port)
{
	host_get(h, ip, port)->no_tls_until = loop_now(h->loop) + NO_TLS_TIME;
}

bool hosts_has_no_tls(struct hosts *h, const struct ip *ip, uint16_t port)
{
	const struct host *x = host_find(h, ip, port);

	return x && x->no_tls_until > loop_now(h->loop);
}

void hosts_tidy(struct hosts *h)
{
	usec_t now = loop_now(h->loop);
	struct host *x, *next;

	HASH_ITER(hh, h->by_key, x, next)
		if (x->unreachable_until <= now && x->no_tls_until <= now &&
		    (!x->reached || now - x->reached >= REACHED_TIME))
			host_drop(h, x);
}
