/*
 * groups.h - what commands.c refers to: columns and functions of the groups of subcommands, one file each.
 */
#ifndef SLUICE_CLI_GROUPS_H
#define SLUICE_CLI_GROUPS_H

#include "cli/cli.h"

/* show.c */
extern const struct column show_provider_columns[], show_queue_columns[], show_vmta_columns[],
	show_pool_columns[], show_limit_columns[], show_rate_columns[], show_warmup_columns[],
	show_setting_columns[], show_paused_columns[], show_disabled_columns[];
int show_settings_run(struct cli *cli, const struct invocation *i);
int show_version_run(struct cli *cli, const struct invocation *i);
int show_queue_run(struct cli *cli, const struct invocation *i);
void show_queue_print(struct cli *cli, const json_t *queue);

/* status.c */
void status_print(struct cli *cli, const json_t *status);

/* trace.c */
int trace_run(struct cli *cli, const struct invocation *i);

/* route.c */
int route_check_run(struct cli *cli, const struct invocation *i);

/* change.c */
void change_print_delete(struct cli *cli, const json_t *result);
void change_print_move(struct cli *cli, const json_t *result);
void change_print_reset_pool(struct cli *cli, const json_t *result);
void change_print_schedule(struct cli *cli, const json_t *result);
void change_print_pause(struct cli *cli, const json_t *result);
void change_print_resume(struct cli *cli, const json_t *result);
int change_set_queue_run(struct cli *cli, const struct invocation *i);
void change_print_set_queue(struct cli *cli, const json_t *result);
void change_print_disable(struct cli *cli, const json_t *result);
void change_print_enable(struct cli *cli, const json_t *result);
void change_print_reload(struct cli *cli, const json_t *result);
void change_print_warmup(struct cli *cli, const json_t *result);
void change_print_drain(struct cli *cli, const json_t *result);
void change_print_shutdown(struct cli *cli, const json_t *result);

/* dns.c */
void dns_print_route(struct cli *cli, const json_t *route);
void dns_print_cleared(struct cli *cli, const json_t *result);

/* messages.c */
int messages_list_run(struct cli *cli, const struct invocation *i);
int messages_show_run(struct cli *cli, const struct invocation *i);

/* spool.c */
int spool_check_run(struct cli *cli, const struct invocation *i);
int spool_stat_run(struct cli *cli, const struct invocation *i);

/* inject.c */
int inject_run(struct cli *cli, const struct invocation *i);

/* config.c */
int config_check_run(struct cli *cli, const struct invocation *i);

/* reply.c */
int reply_check_run(struct cli *cli, const struct invocation *i);

/* help.c */
int help_run(struct cli *cli, const struct invocation *i);
/* Usage, options and example of one command. */
void help_command(FILE *to, const struct command *c);
void help_all(FILE *to);
/* The manual page (man(7)), from the table. */
void help_man(FILE *to);

#endif
