/*
 * rollup_judge.h - what DNS says of the provider of a domain. Workers, the resolver and the commands decide it
 * alike.
 */
#ifndef SLUICE_CONF_ROLLUP_JUDGE_H
#define SLUICE_CONF_ROLLUP_JUDGE_H

struct conf;
struct conf_provider;
struct dns_route;

enum rollup_result { ROLLUP_PROVIDER, ROLLUP_NONE, ROLLUP_UNKNOWN };

/*
 * What an answer says: the first provider all of whose hosts of the lowest preference it has, by `mx`, or all
 * of their addresses, by `mx-ip`. UNKNOWN: the look-up has failed, or the addresses that decide are missing.
 */
enum rollup_result rollup_judge(const struct conf *c, const struct dns_route *answer,
				const struct conf_provider **ret);

#endif
