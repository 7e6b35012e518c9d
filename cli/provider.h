/*
 * provider.h - which provider a domain belongs to: what the configuration names, else what DNS says of its mail
 * hosts, which the daemon is asked for.
 */
#ifndef SLUICE_CLI_PROVIDER_H
#define SLUICE_CLI_PROVIDER_H

#include "cli/cli.h"
#include "common/base/slice.h"

struct conf;
struct conf_provider;

struct provider {
	const struct conf_provider *p; /* of conf; NULL: none, or it is not known */
	const char *by; /* "domains", "mx", or why there is none; NULL: nothing is to be said */
	bool unknown; /* DNS would have to say */
	json_t *hosts; /* mail hosts as `resolve` has them; NULL: not known */
};

/*
 * domain: lower-case, without a final dot; vmta: empty for settings without one. hosts: they are wanted, whether
 * or not they decide. provider_done() in each case.
 */
void provider_find(struct cli *cli, const struct conf *conf, struct slice domain, struct slice vmta,
		   bool hosts, struct provider *ret);
void provider_done(struct provider *p);

/* What the daemon's `resolve` says of a domain; NULL: it cannot be reached, or there is nothing to look up. */
json_t *provider_ask(struct cli *cli, struct slice domain);

#endif
