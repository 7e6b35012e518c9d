#include "worker/sources.h"

#include "common/conf/conf.h"
#include "worker/context.h"
#include "worker/site.h"

bool sources_has(const struct site *s, uint8_t family)
{
	const struct conf_source_hosts *h = &s->w->vmta->smtp_source_host;

	for (size_t i = 0; i < h->n; i++)
		if (h->v[i].ip.family == family)
			return true;
	return h->n == 0;
}

void sources_next(struct site *s, uint8_t family, struct source *ret)
{
	const struct conf_source_hosts *h = &s->w->vmta->smtp_source_host;

	*ret = (struct source){.host = s->w->vmta->host_name};
	for (size_t i = 0; i < h->n; i++) {
		const struct conf_source_host *x = &h->v[s->source_turn++ % h->n];

		if (x->ip.family == family) {
			*ret = (struct source){.ip = x->ip, .host = x->host};
			return;
		}
	}
}
