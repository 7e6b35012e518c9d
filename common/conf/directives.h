/*
 * directives.h - every directive, one row each, one list for each scope.
 *
 *     D(field, "keyword alias…", TYPE, "default", min, max, KIND, "documentation")
 *
 * The row makes the field of the scope's struct (settings.h), the parser with its bounds, the error
 * texts, `sluice show settings`, the generated reference and the list that tests/check-coverage holds
 * against tests/powermta-coverage.tsv. The first keyword is the one that is shown; the others are
 * accepted for it. An empty default leaves the field NULL, an empty list, or derived from another
 * directive (then the documentation says from which). The default goes through the same parser as what
 * an operator writes, bounds included.
 *
 * TYPE is a row of CONF_TYPES (settings.h). min and max bound the number of a UINT, the bytes of a SIZE
 * and the microseconds of a TIME; a max of CONF_NEVER lets TIME and SIZE also be never or unlimited.
 *
 * KIND: RELOAD takes effect with `sluice reload`, RESTART only with a new start. In the scope of
 * domains: SITE is what holds for connections to a site, MESSAGE what follows the recipient's domain.
 */
#ifndef SLUICE_CONF_DIRECTIVES_H
#define SLUICE_CONF_DIRECTIVES_H

#include <stdint.h>

#define CONF_MSEC UINT64_C(1000) /* in microseconds, as usec_t */
#define CONF_SEC (UINT64_C(1000) * CONF_MSEC)
#define CONF_MIN (UINT64_C(60) * CONF_SEC)
#define CONF_HOUR (UINT64_C(60) * CONF_MIN)
#define CONF_DAY (UINT64_C(24) * CONF_HOUR)
#define CONF_YEAR (UINT64_C(365) * CONF_DAY)
#define CONF_KIB UINT64_C(1024)
#define CONF_MIB (UINT64_C(1024) * CONF_KIB)
#define CONF_GIB (UINT64_C(1024) * CONF_MIB)
#define CONF_NEVER UINT64_MAX

/* clang-format off */

#define CONF_GLOBAL_DIRECTIVES(D) \
D(host_name, "host-name", HOST, "", 0, 0, RELOAD, \
  "name of this server in greetings, EHLO, Received and Message-ID; the system's host name if not set") \
D(postmaster, "postmaster", ADDRESSES, "", 0, 0, RELOAD, \
  "addresses that receive mail to the local postmaster and abuse; the first is the From of delivery status notifications") \
D(user, "user", NAME, "", 0, 0, RESTART, \
  "user of all processes but master; not set: sluice for the spooler and sluice-out for workers and resolver") \
D(group, "group", NAME, "", 0, 0, RESTART, \
  "group of all processes but master; not set: the user's own group") \
D(spool_dir, "spool-dir", PATH, "/var/spool/sluice", 0, 0, RESTART, \
  "directory of the spool") \
D(spool_max_size, "spool-max-size", SIZE, "unlimited", 16 * CONF_MIB, CONF_NEVER, RELOAD, \
  "live bytes in the spool beyond which new mail is answered with 452") \
D(min_free_space, "min-free-space", SIZE, "64M", 0, CONF_NEVER - 1, RELOAD, \
  "room on the spool's file system that is kept for outcomes; with less, new mail is answered with 452") \
D(runtime_dir, "runtime-dir", PATH, "/run/sluice", 0, 0, RESTART, \
  "directory of the lock, the sockets and the DNS cache") \
D(control_socket, "control-socket", PATH, "", 0, 0, RESTART, \
  "socket of the command sluice; not set: control.sock in runtime-dir") \
D(control_group, "control-group", NAME, "", 0, 0, RESTART, \
  "group that may use every command of the control socket; not set: only root and the user of the daemon") \
D(monitor_group, "monitor-group", NAME, "", 0, 0, RESTART, \
  "group that may use the commands that only show; not set: none") \
D(resolver, "resolver name-server", IP_PORTS, "", 0, 0, RELOAD, \
  "DNS resolvers, IP or IP:port; not set: those of /etc/resolv.conf") \
D(dns_timeout, "dns-timeout", TIME, "5s", 50 * CONF_MSEC, 5 * CONF_MIN, RELOAD, \
  "time for the answer to one DNS query") \
D(dns_negative_ttl_max, "dns-negative-ttl-max", TIME, "1h", 0, 7 * CONF_DAY, RELOAD, \
  "longest time that a negative DNS answer is kept") \
D(total_max_smtp_out, "total-max-smtp-out", UINT, "1200", 1, 1000000, RELOAD, \
  "outbound connections in total") \
D(total_max_smtp_in, "total-max-smtp-in", UINT, "100", 1, 1000000, RELOAD, \
  "inbound connections in total") \
D(ip_connection_limit, "ip-connection-limit", IP_LIMITS, "", 0, 0, RELOAD, \
  "CIDR N [per-source-ip]: connections to each address inside CIDR over all virtual MTAs, or for each pair of source and destination; the most specific CIDR counts") \
D(mx_connection_limit, "mx-connection-limit", MX_LIMITS, "", 0, 0, RELOAD, \
  "MXPATTERN N, repeatable: connections from each local address to each mail host that the pattern matches, over all virtual MTAs; the most specific pattern counts") \
D(smtp_source_host, "smtp-source-host smtp-source-ip", SOURCE_HOSTS, "", 0, 0, RELOAD, \
  "IP [HOST]: local address and EHLO name of outbound connections of virtual MTAs that name none") \
D(log, "log", LOG, "stderr", 0, 0, RESTART, \
  "where log lines go: stderr, journald or a file") \
D(log_level, "log-level", LOG_LEVEL, "info", 0, 0, RELOAD, \
  "least important lines that are logged: error, warn, info or debug") \
D(resume_ramp, "resume-ramp", TIME, "5m", 0, CONF_DAY, RELOAD, \
  "time over which queues that an operator resumes come back to their full number of connections") \
D(shutdown_timeout, "shutdown-timeout", TIME, "30s", 0, CONF_HOUR, RELOAD, \
  "how long a stop waits for replies to messages that have been sent to their final dot") \
D(max_workers, "max-workers", UINT, "2048", 1, 16384, RESTART, \
  "worker processes, one for each virtual MTA, that there is room for") \
D(max_live_queues, "max-live-queues", UINT, "1048576", 1024, 67108864, RESTART, \
  "queues with mail that are counted live") \
D(outcome_ring_size, "outcome-ring-size", SIZE_POW2, "4M", 64 * CONF_KIB, CONF_GIB, RESTART, \
  "size of the ring in shared memory that takes a worker's outcomes; a power of two") \
D(max_body_memory, "max-body-memory", SIZE, "256M", CONF_MIB, CONF_NEVER - 1, RELOAD, \
  "memory for messages that are being received; beyond it new mail is answered with 452") \
D(session_threads, "session-threads", UINT, "0", 0, 64, RESTART, \
  "threads that serve inbound connections; 0: one for each CPU, at most 8") \
D(domain_suffix, "domain-suffix", HOST, "", 0, 0, RELOAD, \
  "domain that is appended to addresses without one; not set: host-name")

#define CONF_LISTENER_DIRECTIVES(D) \
D(source, "source", NAME, "", 0, 0, RELOAD, \
  "name of a [source] that applies to clients of this listener, over what their address gives")

#define CONF_SOURCE_DIRECTIVES(D) \
D(smtp_service, "smtp-service", BOOL, "yes", 0, 0, RELOAD, \
  "no: clients are turned away with 521") \
D(always_allow_relaying, "always-allow-relaying", BOOL, "no", 0, 0, RELOAD, \
  "accept recipients in any domain") \
D(relay_domain, "relay-domain", PATTERNS, "", 0, 0, RELOAD, \
  "domain patterns for which recipients are accepted") \
D(process_x_virtual_mta, "process-x-virtual-mta", BOOL, "no", 0, 0, RELOAD, \
  "the header X-Virtual-MTA chooses the virtual MTA or pool, and is removed") \
D(process_x_job, "process-x-job", BOOL, "no", 0, 0, RELOAD, \
  "the header X-Job (see jobid-header) names the job, and is removed") \
D(process_x_envid, "process-x-envid", BOOL, "no", 0, 0, RELOAD, \
  "the header X-Envid gives the envelope id, and is removed") \
D(retain_x_virtual_mta, "retain-x-virtual-mta", BOOL, "no", 0, 0, RELOAD, \
  "a processed X-Virtual-MTA stays in the message") \
D(retain_x_job, "retain-x-job", BOOL, "no", 0, 0, RELOAD, \
  "a processed X-Job stays in the message") \
D(default_virtual_mta, "default-virtual-mta", ROUTE, "{default}", 0, 0, RELOAD, \
  "virtual MTA or pool of messages that choose none") \
D(reject_invalid_virtual_mta, "reject-invalid-virtual-mta", BOOL, "yes", 0, 0, RELOAD, \
  "refuse a message whose X-Virtual-MTA names none that exists; no: default-virtual-mta takes it") \
D(add_date_header, "add-date-header", DATE_HEADER, "no", 0, 0, RELOAD, \
  "no, yes: where there is none, override: in place of what is there") \
D(add_message_id_header, "add-message-id-header", BOOL, "no", 0, 0, RELOAD, \
  "add a Message-ID where there is none") \
D(add_received_header, "add-received-header", BOOL, "yes", 0, 0, RELOAD, \
  "add a Received header") \
D(hide_message_source, "hide-message-source", BOOL, "no", 0, 0, RELOAD, \
  "leave the client's name and address out of Received") \
D(remove_received_headers, "remove-received-headers", BOOL, "no", 0, 0, RELOAD, \
  "remove Received headers that the message came with") \
D(remove_header, "remove-header", HEADERS, "", 0, 0, RELOAD, \
  "names of headers that are removed from the message") \
D(max_message_size, "max-message-size", SIZE_0, "unlimited", 0, CONF_NEVER, RELOAD, \
  "largest message that is accepted; 0 or unlimited: any") \
D(max_message_hops, "max-message-hops", UINT, "100", 1, 10000, RELOAD, \
  "most Received headers in a message that is accepted") \
D(max_rcpt_per_message, "max-rcpt-per-message", UINT, "0", 0, 1000000, RELOAD, \
  "most recipients of a message; 0: no limit") \
D(allow_chunking, "allow-chunking", BOOL, "yes", 0, 0, RELOAD, \
  "offer CHUNKING (BDAT)") \
D(allow_smtputf8, "allow-smtputf8", BOOL, "yes", 0, 0, RELOAD, \
  "offer SMTPUTF8") \
D(smtp_command_timeout, "smtp-command-timeout", TIME, "10m", CONF_SEC, CONF_DAY, RELOAD, \
  "time that a client has for its next command") \
D(smtp_data_timeout, "smtp-data-timeout", TIME, "10m", CONF_SEC, CONF_DAY, RELOAD, \
  "time without a byte of the message after which the connection is closed") \
D(suppress_local_dsn, "suppress-local-dsn", BOOL, "no", 0, 0, RELOAD, \
  "send no delivery status notifications for mail of this source") \
D(max_smtp_in, "max-smtp-in", UINT, "0", 0, 1000000, RELOAD, \
  "connections from one client address at a time; 0: no limit") \
D(jobid_header, "jobid-header", HEADER, "x-job", 0, 0, RELOAD, \
  "header that process-x-job reads")

#define CONF_VMTA_DIRECTIVES(D) \
D(smtp_source_host, "smtp-source-host smtp-source-ip", SOURCE_HOSTS, "", 0, 0, RELOAD, \
  "IP [HOST], repeatable: local addresses, used in turn, with the EHLO name of each; not set: those of [global]") \
D(host_name, "host-name helo-domain", HOST, "", 0, 0, RELOAD, \
  "EHLO name where smtp-source-host gives none; not set: host-name of [global]") \
D(max_smtp_out, "max-smtp-out", UINT, "0", 0, 1000000, RELOAD, \
  "connections of the whole virtual MTA; 0: no limit but the total") \
D(cold_virtual_mta, "cold-virtual-mta", NAMES, "", 0, 0, RELOAD, \
  "repeatable: virtual MTAs that take the first recipients of each day (max-cold-virtual-mta-msg), the one with the fewest first") \
D(max_connect_rate, "max-connect-rate max-conn-rate", RATE, "unlimited", 0, 0, RELOAD, \
  "connections that the whole virtual MTA opens per time") \
D(max_msg_rate, "max-msg-rate max-smtp-msg-rate max-msg-per-hour", RATE, "unlimited", 0, 0, RELOAD, \
  "recipients that the whole virtual MTA attempts per time, delivered or not") \
D(max_data_volume_rate, "max-data-volume-rate max-smtp-data-volume-rate", VOLUME_RATE, "unlimited", 0, 0, RELOAD, \
  "bytes of messages that the whole virtual MTA delivers per time")

#define CONF_POOL_DIRECTIVES(D) \
D(virtual_mta, "virtual-mta", MEMBERS, "", 0, 0, RELOAD, \
  "NAME [weight N | count N]: members, repeatable; recipients go through them as selection says") \
D(selection, "selection", SELECTION, "round-robin", 0, 0, RELOAD, \
  "round-robin: the members in turn; weighted: in the shares that weight gives; sequential: count recipients through each, then the next") \
D(reset_count, "reset-count", RESET_COUNT, "never", 0, 0, RELOAD, \
  "daily: counts and turns begin anew at local midnight") \
D(reselect, "reselect", RESELECT, "never", 0, 0, RELOAD, \
  "backoff: recipients leave a member whose site is in back-off, or has all sources disabled, for a better one") \
D(reselect_interval, "reselect-interval", TIME, "1h", CONF_MIN, CONF_YEAR, RELOAD, \
  "least time between two such changes of a recipient") \
D(cold_virtual_mta, "cold-virtual-mta", NAMES, "", 0, 0, RELOAD, \
  "default of this directive for each member") \
D(max_smtp_out, "max-smtp-out", UINT, "0", 0, 1000000, RELOAD, \
  "max-smtp-out of each member that sets none itself") \
D(pool_max_smtp_out, "pool-max-smtp-out", UINT, "0", 0, 1000000, RELOAD, \
  "connections of all members together; 0: no limit") \
D(max_connect_rate, "max-connect-rate max-conn-rate", RATE, "unlimited", 0, 0, RELOAD, \
  "max-connect-rate of each member that sets none itself") \
D(max_msg_rate, "max-msg-rate max-smtp-msg-rate max-msg-per-hour", RATE, "unlimited", 0, 0, RELOAD, \
  "max-msg-rate of each member that sets none itself") \
D(max_data_volume_rate, "max-data-volume-rate max-smtp-data-volume-rate", VOLUME_RATE, "unlimited", 0, 0, RELOAD, \
  "max-data-volume-rate of each member that sets none itself") \
D(pool_max_msg_rate, "pool-max-msg-rate", RATE, "unlimited", 0, 0, RELOAD, \
  "recipients that all members together attempt per time, delivered or not")

#define CONF_DOMAIN_DIRECTIVES(D) \
D(type, "type", DOMAIN_TYPE, "smtp", 0, 0, MESSAGE, \
  "smtp, or discard: accept, record as delivered and drop") \
D(discard_as_bounce, "discard-as-bounce", BOOL, "no", 0, 0, MESSAGE, \
  "with type discard: record as bounced") \
D(smtp_hosts, "smtp-hosts", SMTP_HOSTS, "", 0, 0, MESSAGE, \
  "hosts to deliver to in place of what DNS says: h1,h2;[ip]:port;lookup-mx:domain; a comma joins equal preference, a semicolon goes on to the next") \
D(queue_to, "queue-to", HOST, "", 0, 0, MESSAGE, \
  "queue that the mail goes to in place of the domain's own: a name that has smtp-hosts") \
D(disable_mx_rollup, "disable-mx-rollup", BOOL, "no", 0, 0, MESSAGE, \
  "the domain belongs to no provider, whatever its MX hosts are") \
D(default_smtp_port, "default-smtp-port smtp-port", UINT, "25", 1, 65535, SITE, \
  "port to connect to") \
D(max_smtp_out, "max-smtp-out", UINT, "20", 1, 1000000, SITE, \
  "connections of a queue") \
D(source_ip_max_smtp_out, "source-ip-max-smtp-out max-smtp-out-per-source-ip", SOURCE_LIMITS, "", 0, 0, SITE, \
  "CIDR N, repeatable: connections of a queue from each local address inside CIDR; the most specific CIDR counts") \
D(smtp_out_rampup_interval, "smtp-out-rampup-interval", TIME, "0", 0, CONF_HOUR, SITE, \
  "least time between the openings of two connections of a queue") \
D(max_connect_rate, "max-connect-rate max-conn-rate", RATE, "unlimited", 0, 0, SITE, \
  "connections that a queue opens per time") \
D(max_msg_rate, "max-msg-rate max-msg-per-hour", RATE, "unlimited", 0, 0, SITE, \
  "recipients that a queue attempts per time, delivered or not; max-msg-per-hour = N is an old way to write N/h") \
D(max_data_volume_rate, "max-data-volume-rate", VOLUME_RATE, "unlimited", 0, 0, SITE, \
  "bytes of messages that a queue delivers per time") \
D(source_ip_max_connect_rate, "source-ip-max-connect-rate", IP_RATES, "", 0, 0, SITE, \
  "CIDR RATE, repeatable: max-connect-rate for each local address inside CIDR; the most specific CIDR counts") \
D(source_ip_max_msg_rate, "source-ip-max-msg-rate", IP_RATES, "", 0, 0, SITE, \
  "CIDR RATE, repeatable: max-msg-rate for each local address inside CIDR") \
D(source_ip_max_data_volume_rate, "source-ip-max-data-volume-rate", IP_VOLUME_RATES, "", 0, 0, SITE, \
  "CIDR RATE, repeatable: max-data-volume-rate for each local address inside CIDR") \
D(max_msg_per_connection, "max-msg-per-connection", UINT, "0", 0, 1000000, SITE, \
  "messages after which a connection is closed; 0: no limit") \
D(max_rcpt_per_message, "max-rcpt-per-message max-rcpt-per-transaction", UINT, "1000", 1, 100000, SITE, \
  "most recipients in one transaction") \
D(max_errors_per_connection, "max-errors-per-connection", UINT, "0", 0, 1000000, SITE, \
  "refused recipients after which a connection is closed; 0: no limit") \
D(retry_after, "retry-after", TIMES, "10m", CONF_SEC, CONF_YEAR, SITE, \
  "times to wait after the first, second … failure; the last repeats; at most 30") \
D(retry_recipients_after, "retry-recipients-after", TIME, "0", 0, CONF_YEAR, SITE, \
  "least time that a recipient waits after a 4xx to it") \
D(retry_upon_new_mail, "retry-upon-new-mail", BOOL, "no", 0, 0, SITE, \
  "new mail for a queue that waits for a retry has it tried at once, though not within 10s of its last failure") \
D(mx_connection_attempts, "mx-connection-attempts", UINT, "10", 1, 1000, SITE, \
  "connections that are tried, to all hosts together, before the queue waits for a retry") \
D(backoff_max_smtp_out, "backoff-max-smtp-out", UINT, "", 1, 1000000, SITE, \
  "connections of a queue in back-off; not set: found out, see backoff-reduce") \
D(backoff_max_connect_rate, "backoff-max-connect-rate backoff-max-conn-rate", RATE, "", 0, 0, SITE, \
  "max-connect-rate in back-off; not set: as in normal mode") \
D(backoff_max_msg_rate, "backoff-max-msg-rate backoff-max-msg-per-hour", RATE, "", 0, 0, SITE, \
  "max-msg-rate in back-off; not set: found out where no backoff-max-… is set, else as in normal mode") \
D(backoff_max_data_volume_rate, "backoff-max-data-volume-rate", VOLUME_RATE, "", 0, 0, SITE, \
  "max-data-volume-rate in back-off; not set: as in normal mode") \
D(backoff_retry_after, "backoff-retry-after", TIMES, "1h", CONF_SEC, CONF_YEAR, SITE, \
  "retry-after in back-off") \
D(backoff_reduce, "backoff-reduce", PERCENT, "50%", 1, 99, SITE, \
  "where no backoff-max-… is set: what is left of the rate and the connections of a source address when back-off begins, and after each further hit") \
D(backoff_hold, "backoff-hold", TIME, "15s", CONF_SEC, CONF_HOUR, SITE, \
  "time after a reduction in which hits reduce no further") \
D(backoff_min_msg_rate, "backoff-min-msg-rate", RATE, "1/m", 0, 0, SITE, \
  "the rate of a source address is never reduced below this") \
D(backoff_recover_interval, "backoff-recover-interval", TIME, "30s", CONF_SEC, CONF_DAY, SITE, \
  "time without a hit after which the rate grows by a step") \
D(backoff_recover_step, "backoff-recover-step", PERCENT, "25%", 1, 900, SITE, \
  "by how much a reduced rate grows at most in one step") \
D(backoff_to_normal_after, "backoff-to-normal-after", TIME, "never", CONF_SEC, CONF_NEVER, SITE, \
  "time after which back-off ends, or recovery begins where the rate was found out (never: at once); a pattern with a time of its own overrides it") \
D(backoff_to_normal_after_delivery, "backoff-to-normal-after-delivery", BOOL, "no", 0, 0, SITE, \
  "a delivery ends back-off, or begins recovery where the rate was found out") \
D(backoff_upon_all_sources_disabled, "backoff-upon-all-sources-disabled", BOOL, "no", 0, 0, SITE, \
  "a queue goes into back-off when all its source addresses are disabled") \
D(backoff_notify, "backoff-notify", ADDRESSES, "", 0, 0, SITE, \
  "addresses that are told when back-off begins and ends") \
D(disabled_source_ip_notify, "disabled-source-ip-notify", ADDRESSES, "", 0, 0, SITE, \
  "addresses that are told when a source address is disabled or enabled again") \
D(reenable_source_ip_after, "reenable-source-ip-after", TIME, "never", CONF_SEC, CONF_NEVER, SITE, \
  "time after which a source address that a reply has disabled is used again; a pattern with a time of its own overrides it") \
D(retry_after_dns_error, "retry-after-dns-error", TIME, "1m", CONF_SEC, CONF_YEAR, SITE, \
  "time to wait after a DNS failure") \
D(bounce_after, "bounce-after", TIME, "4d12h", 0, CONF_YEAR, MESSAGE, \
  "age at which undelivered mail bounces") \
D(bounce_upon_no_mx, "bounce-upon-no-mx", BOOL_TIME, "no", 0, CONF_NEVER, MESSAGE, \
  "bounce mail to domains without MX: yes, no, never, or the time for which A and AAAA are tried first") \
D(bounce_upon_nxdomain, "bounce-upon-nxdomain", TIME, "5m", 0, CONF_NEVER, MESSAGE, \
  "bounce when a second look-up at least this much later agrees that the domain does not exist; never: wait for bounce-after") \
D(bounce_upon_5xx_greeting, "bounce-upon-5xx-greeting", BOOL, "yes", 0, 0, SITE, \
  "a 5xx greeting bounces the mail; no: it is tried again") \
D(backoff_reroute_to_virtual_mta, "backoff-reroute-to-virtual-mta", ROUTE, "", 0, 0, SITE, \
  "the same as reroute-to-virtual-mta, while the site is in back-off") \
D(max_cold_virtual_mta_msg, "max-cold-virtual-mta-msg", PER_DAY, "0/d", 0, 0, SITE, \
  "N/d[,N/d...]: so many recipients of the first, second ... day go to each cold-virtual-mta; the last number repeats") \
D(reroute_to_virtual_mta, "reroute-to-virtual-mta", ROUTE, "", 0, 0, SITE, \
  "virtual MTA or pool that takes the mail of these queues, what waits and what is new") \
D(smtp_421_means_mx_unavailable, "smtp-421-means-mx-unavailable", BOOL, "no", 0, 0, SITE, \
  "a 421 at any point sends the mail to the next mail host at once") \
D(replace_smtp_421_service_response, "replace-smtp-421-service-response", BOOL, "no", 0, 0, SITE, \
  "records and notifications show \"service unavailable\" in place of the text of a 421; patterns see the text") \
D(smtp_553_means_invalid_mailbox, "smtp-553-means-invalid-mailbox", BOOL, "yes", 0, 0, SITE, \
  "a 553 to RCPT without an enhanced code is 5.1.1") \
D(bounce_upon_transfer_failure, "bounce-upon-transfer-failure", BOOL, "no", 0, 0, SITE, \
  "bounce a message when the connection fails while it is sent or before its final reply: it may have arrived") \
D(bounce_upon_pix_transfer_failure, "bounce-upon-pix-transfer-failure", BOOL, "no", 0, 0, SITE, \
  "the same only where the greeting shows a Cisco PIX (ten asterisks or more)") \
D(assume_delivery_upon_data_termination_timeout, "assume-delivery-upon-data-termination-timeout", BOOL, "no", 0, 0, SITE, \
  "no reply to the final dot within smtp-data-termination-timeout is taken as a delivery") \
D(smtp_pattern_list, "smtp-pattern-list", PATTERN_LISTS, "", 0, 0, SITE, \
  "names of [smtp-pattern-list] sections that replies are tried against, in this order") \
D(connection_idle_timeout, "connection-idle-timeout", TIME, "0", 0, 10 * CONF_MIN, SITE, \
  "how long a connection without mail stays open for more") \
D(connect_timeout, "connect-timeout", TIME, "2m", CONF_SEC, CONF_HOUR, SITE, \
  "time to connect") \
D(smtp_greeting_timeout, "smtp-greeting-timeout", TIME, "5m", CONF_SEC, CONF_HOUR, SITE, \
  "time for the greeting") \
D(smtp_ehlo_timeout, "smtp-ehlo-timeout", TIME, "5m", CONF_SEC, CONF_HOUR, SITE, \
  "time for the reply to EHLO, HELO and STARTTLS") \
D(smtp_mail_timeout, "smtp-mail-timeout", TIME, "5m", CONF_SEC, CONF_HOUR, SITE, \
  "time for the reply to MAIL") \
D(smtp_rcpt_timeout, "smtp-rcpt-timeout", TIME, "5m", CONF_SEC, CONF_HOUR, SITE, \
  "time for the reply to each RCPT") \
D(smtp_data_timeout, "smtp-data-timeout", TIME, "2m", CONF_SEC, CONF_HOUR, SITE, \
  "time for the reply to DATA") \
D(data_send_timeout, "data-send-timeout", TIME, "3m", CONF_SEC, CONF_HOUR, SITE, \
  "time for each 64 KiB of the message to leave") \
D(smtp_data_termination_timeout, "smtp-data-termination-timeout", TIME, "10m", CONF_SEC, CONF_HOUR, SITE, \
  "time for the reply to the final dot") \
D(use_starttls, "use-starttls", BOOL, "yes", 0, 0, SITE, \
  "use STARTTLS where it is offered") \
D(require_starttls, "require-starttls", BOOL, "no", 0, 0, MESSAGE, \
  "deliver only over TLS") \
D(ignore_8bitmime, "ignore-8bitmime", BOOL, "no", 0, 0, SITE, \
  "ignore that 8BITMIME is offered") \
D(ignore_pipelining, "ignore-pipelining", BOOL, "no", 0, 0, SITE, \
  "ignore that PIPELINING is offered") \
D(ignore_dsn, "ignore-dsn", BOOL, "no", 0, 0, SITE, \
  "ignore that DSN is offered") \
D(queue_priority, "queue-priority delivery-priority", UINT, "50", 0, 100, SITE, \
  "with no connection free, connections of the queues with the lowest priority end for those with a higher one") \
D(allow_priority_interruption, "allow-priority-interruption", BOOL, "yes", 0, 0, SITE, \
  "no: connections of this queue go on when a queue with a higher queue-priority wants one") \
D(allow_priority_interruption_during_transfer, "allow-priority-interruption-during-transfer", BOOL, "no", 0, 0, SITE, \
  "yes: they end in the middle of a message, which is sent again; no: behind it") \
D(disable_acct_records, "disable-acct-records", RECORDS, "", 0, 0, MESSAGE, \
  "types of record that are not written: d, b, t, tq; not set: all are written") \
D(max_events_recorded, "max-events-recorded", UINT, "10", 0, 1000, SITE, \
  "distinct replies and errors of a queue that show queue remembers") \
D(recipient_priority, "recipient-priority", UINT, "50", 0, 100, MESSAGE, \
  "priority of recipients, higher first: four classes of 25 that share 8:4:2:1")

#define CONF_PROVIDER_DIRECTIVES(D) \
D(mx, "mx", PATTERNS, "", 0, 0, RELOAD, \
  "patterns of host names, repeatable: a domain all of whose MX hosts of the lowest preference match belongs to the provider") \
D(mx_ip, "mx-ip", CIDRS, "", 0, 0, RELOAD, \
  "networks, repeatable: so does a domain when all addresses of those hosts lie in them") \
D(domains, "domains", PATTERNS, "", 0, 0, RELOAD, \
  "domain patterns, repeatable: domains that belong to the provider whatever their MX hosts are") \
D(max_smtp_out, "max-smtp-out", UINT, "0", 0, 1000000, RELOAD, \
  "connections to the provider's hosts over all virtual MTAs together; 0: no limit but the others") \
D(source_ip_max_smtp_out, "source-ip-max-smtp-out", SOURCE_LIMITS, "", 0, 0, RELOAD, \
  "CIDR N, repeatable: connections to the provider's hosts from each local address inside CIDR; the most specific CIDR counts") \
D(max_connect_rate, "max-connect-rate max-conn-rate", RATE, "unlimited", 0, 0, RELOAD, \
  "connections that all virtual MTAs together open to the provider's hosts per time") \
D(max_msg_rate, "max-msg-rate max-msg-per-hour", RATE, "unlimited", 0, 0, RELOAD, \
  "recipients that all virtual MTAs together attempt at the provider's hosts per time, delivered or not") \
D(source_ip_max_msg_rate, "source-ip-max-msg-rate", IP_RATES, "", 0, 0, RELOAD, \
  "CIDR RATE, repeatable: recipients attempted at the provider's hosts from each local address inside CIDR")

#define CONF_ROLLUP_DIRECTIVES(D) \
D(mx, "mx", ROLLUPS, "", 0, 0, RELOAD, \
  "HOST NAME.rollup, one a line: adds the host pattern to mx of [provider NAME]")
#define CONF_WARMUP_DIRECTIVES(D) \
D(virtual_mta, "virtual-mta", NAMES, "", 0, 0, RELOAD, \
  "virtual MTAs, or pools of them, whose addresses are warmed up, repeatable; each address has its own count") \
D(provider, "provider", NAME, "*", 0, 0, RELOAD, \
  "the provider whose site this holds for; *: every site for itself, but those of providers with a warm-up of their own") \
D(start, "start", DATE, "", 0, 0, RELOAD, \
  "local date as 2026-11-22: before it nothing is sent, and what was counted before it is forgotten; not set: at once") \
D(schedule, "schedule", COUNTS, "", 1, 1000000000, RELOAD, \
  "most recipients that are tried from an address at a site on its first, second … day; the last repeats; at most 366") \
D(advance_if, "advance-if", ADVANCE_IF, "transient<5%, policy<0.5%", 0, 0, RELOAD, \
  "shares of the tried recipients below which the next day gets the next number: transient replies, bounces for policy or spam; else the number repeats, as it does after a day with less than half of it; always: whatever the replies") \
D(overflow, "overflow", NAME, "hold", 0, 0, RELOAD, \
  "what becomes of mail over the day's number: hold: it waits for the next day, or the virtual MTA or pool that takes it") \
D(pace, "pace", PACE, "even", 0, 0, RELOAD, \
  "even: the day's number is spread over what is left of the day; none: it goes as fast as it may")

#define CONF_PATTERN_LIST_DIRECTIVES(D) \
D(reply, "reply", REPLIES, "", 0, 0, RELOAD, \
  "repeatable: what a reply that matches does: mode=backoff, backoff-to-normal-after=TIME, mode=normal, skip-mx, bounce-queue, bounce-rcpt, retry-rcpt, defer-queue[=TIME], disable-source-ip, reenable-after=TIME, reroute=VMTA; the first line of each kind decides")

#define CONF_CATEGORY_DIRECTIVES(D) \
D(pattern, "pattern", CATEGORIES, "", 0, 0, RELOAD, \
  "repeatable: the category of bounces and delays whose status, its text and the reply match; the first line decides, those that Sluice ships come last")

#define CONF_ACCT_FILE_DIRECTIVES(D) \
D(path, "path", PATH, "", 0, 0, RELOAD, \
  "file to write; not set: the name of the section") \
D(records, "records", RECORDS, "d,b", 0, 0, RELOAD, \
  "types of record: d delivered, b bounced, t transient for a recipient, tq transient for a queue") \
D(record_fields, "record-fields fields", RECORD_FIELDS, "", 0, 0, RELOAD, \
  "record-fields = TYPE LIST: columns of one type; fields = LIST: of all types; * stands for all, !NAME leaves one out") \
D(format, "format format-text", ACCT_FORMAT, "csv", 0, 0, RELOAD, \
  "csv or json") \
D(move_to, "move-to", PATH, "", 0, 0, RELOAD, \
  "directory on the same file system that finished files are moved to; not set: they stay beside the file") \
D(move_interval, "move-interval rotate", TIME, "1d", CONF_SEC, CONF_NEVER, RELOAD, \
  "how often a new file is begun") \
D(max_size, "max-size", SIZE, "250M", CONF_MIB, CONF_NEVER, RELOAD, \
  "size at which a new file is begun") \
D(delete_after, "delete-after", TIME, "8d", CONF_SEC, CONF_NEVER, RELOAD, \
  "age at which finished files are deleted; ignored with move-to") \
D(compress, "compress", COMPRESS, "none", 0, 0, RELOAD, \
  "none, gzip or zstd: how finished files are compressed") \
D(iso_times, "iso-times", BOOL, "yes", 0, 0, RELOAD, \
  "times as 2026-11-22 01:39:25+0000; no: seconds since 1970") \
D(user_string, "user-string", STRING, "", 0, 0, RELOAD, \
  "text of the field userString") \
D(world_readable, "world-readable", BOOL, "no", 0, 0, RELOAD, \
  "everybody on the system may read the files") \
D(queue_filter, "queue-filter", QUEUE_FILTER, "", 0, 0, RELOAD, \
  "[!]DOMAIN/VMTA with * wildcards, the first that matches decides: whose records are written; not set: all")

/* clang-format on */

#endif
