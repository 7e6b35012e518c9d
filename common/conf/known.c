/*
 * Names that PowerMTA or a later Sluice has and this version does not take, so that a configuration
 * brought from PowerMTA is answered with a reason instead of "unknown".
 */
#include "common/conf/private.h"

struct known {
	const char *names; /* by single spaces */
	const char *why;
};

#define LATER "is not supported by this version"

static const struct known sections[] = {
	{"smtp-user "
	 "source-group pattern-list address-list rewrite-list domain-key-list proxy "
	 "bounce-processor feedback-loop-processor vault email-patterns",
	 LATER},
	{"spool", "is not a section: write spool-dir and min-free-space in [global]"},
	{"dns",
	 "is not a section: write resolver, dns-timeout and dns-negative-ttl-max in [global]"},
	{"aliases", LATER},
	{"transmissions-api transmissions-api-listener",
	 "is refused: mail is taken in over SMTP only"},
	{"signals signals-filter", "is refused: it reports to a service of PowerMTA's vendor"},
};

static const struct known directives[] = {
	/* limits, rates, back-off, providers */
	/* pools */
	{"auto-cold-virtual-mta", LATER},
	/* feeding */
	{"pattern-list source-group allow-auth require-auth allow-unencrypted-plain-auth "
	 "allow-starttls require-starttls-before-auth smtp-max-auth-failure-rate "
	 "reject-no-virtual-mta max-in-connect-rate max-in-msg-rate max-in-rcpt-rate "
	 "max-in-data-volume-rate reserved-smtp-in bcc verp-default suppression-lists "
	 "accept-invalid-recipients too-many-rcpts-fails-message disconnect-on-transient-error "
	 "allow-empty-x-virtual-mta add-x-virtual-mta-header rewrite-list process-x-dkim-options "
	 "process-x-dkim-key process-x-schedule retain-x-dkim-options retain-x-dkim-key "
	 "retain-x-schedule retain-x-envid jobid-prefix date-header-time dsn-return-default "
	 "auto-qualify-domain include-headers-from invalid-virtual-mta-fallback relay-address "
	 "smtp-await-slot await-slot immediate-tls tls-certificate tls-ca-file tls-ciphers "
	 "alias host-id",
	 LATER},
	{"check-spf-inbound check-dkim-inbound check-iprev-inbound check-mfrom-inbound "
	 "trace-spf-inbound trace-dkim-inbound trace-iprev-inbound "
	 "check-spf-inbound-max-void-lookups reject-spf-check-temperror "
	 "reject-spf-check-permerror reject-spf-check-fail reject-iprev-check-temperror "
	 "reject-iprev-check-permerror reject-iprev-check-fail",
	 "is refused: Sluice takes mail from known feeders, not from the world"},
	{"allow-mailmerge always-allow-api-submission mailmerge-expands-undefined-variables",
	 LATER},
	{"pickup pickup-remove-dot pickup-retry-interval", LATER},
	/* delivery */
	{"smtp-multiple-line-response-timeout "
	 "track-recipient-events track-time-first-attempt "
	 "notify-of-delay-every bcc-upon-delivery auth-username auth-password "
	 "use-unencrypted-plain-auth check-spf-outbound smtp-client-certificate "
	 "dsn-format custom-dsn-from-header dsn-failed-from-template "
	 "dsn-failed-subject-template dsn-failed-body-template-from edns-udp-length "
	 "file-format file-destination command macro-variables-preserve-case "
	 "http-delivery-url http-delivery-extra-headers",
	 LATER},
	{"use-dane use-mta-sts reuse-ssl-session smtp-tls-allow-tlsv1 smtp-tls-allow-tlsv1.1 "
	 "smtp-tls-allow-tlsv1.2 smtp-tls-allow-tlsv1.3 smtp-tls-ciphers smtp-tls-ca-file "
	 "smtp-tls-tlsv1.3-ciphersuites smtp-server-tls-certificate smtp-server-tls-ca-file "
	 "smtp-server-tls-ciphers smtp-server-tls-allow-tlsv1 smtp-server-tls-allow-tlsv1.1 "
	 "smtp-server-tls-allow-tlsv1.2 smtp-server-tls-allow-tlsv1.3 "
	 "smtp-server-tls-v1.3-ciphersuites smtp-server-tls-dh-key-length tls-allow-tlsv1 "
	 "tls-allow-tlsv1.1 tls-allow-tlsv1.2 tls-allow-tlsv1.3 tls-tlsv1.3-ciphersuites "
	 "tls-dh-key-length",
	 LATER},
	{"smtp-tls-allow-sslv3 smtp-server-tls-allow-sslv3 http-tls-allow-sslv3 tls-allow-sslv3",
	 "is refused: SSLv3 is broken"},
	{"domain-key dkim-sign dkim-algorithm dkim-body-canon dkim-headers-canon dkim-headers "
	 "dkim-identity dkim-identity-fallback dkim-disallow-adding-headers dkim-add-body-limit "
	 "dkim-add-timestamp dkim-expire-after dkim-query-method second-dkim-sign "
	 "second-dkim-algorithm second-dkim-body-canon second-dkim-headers-canon "
	 "second-dkim-headers second-dkim-identity second-dkim-identity-fallback "
	 "second-dkim-disallow-adding-headers second-dkim-add-body-limit "
	 "second-dkim-add-timestamp second-dkim-expire-after second-dkim-query-method",
	 LATER},
	{"smtp-proxy-source-host use-proxy proxy-protocol", LATER},
	{"log-connections log-commands log-data log-resolution log-tls log-transfer-failures "
	 "log-disabled-ips log-messages",
	 LATER},
	/* accounting */
	{"pipe map-header-to-field map-header-to-column privacy-policy sync count-moved-records "
	 "retry-interval write-timeout http-webhook-url http-webhook-extra-headers "
	 "http-webhook-certificate http-webhook-ca-file http-webhook-max-interval "
	 "http-webhook-transfer-encoding http-webhook-log-verbose http-webhook-connect-timeout "
	 "http-webhook-io-timeout",
	 LATER},
	/* management */
	{"http-mgmt-port http-access http-csrf-protection http-api-key http-redirect-to-https "
	 "http-strict-transport-security-max-age http-tls-allow-tlsv1 http-tls-allow-tlsv1.1 "
	 "http-tls-allow-tlsv1.2 http-tls-allow-tlsv1.3 http-tls-tlsv1.3-ciphersuites "
	 "http-tls-dh-key-length "
	 "http-tls-ciphers http-tls-ca-file http-log-tls http-log-data http-log-requests "
	 "http-default-max-items http-default-sort-order http-mgmt-source no-http-mgmt-source",
	 LATER},
	{"log-file", "is refused: write log = FILE"},
	{"log-rotate log-auto-rotation log-file-world-readable",
	 "is refused: logrotate or journald does that (see log)"},
	{"spool spool-min-free-space",
	 "is refused: write spool-dir and min-free-space in [global]"},
	{"spool-delete-corrupted delete-file-holders deliver-only priority spool-max-recipients "
	 "pmc-acct-min-free-space",
	 "is refused: the spool is one database, bounded by spool-max-size and min-free-space"},
	{"sync-msg-create sync-msg-update",
	 "is refused: what is accepted is always synced to disk before the 250"},
	{"run-as-root", "is refused: write user and group"},
	{"thread-min-priority thread-max-priority thread-reuse",
	 "is refused: there are no threads to tune (see session-threads)"},
	{"max-memory-usage-percent", "is refused: write max-body-memory"},
	{"relay-debug", "is refused: a recipient that may not be relayed to gets 550"},
	{"smtp-ip", "is refused: write [smtp-listener IP:PORT]"},
	{"smtp-listener", "is a section: write [smtp-listener IP:PORT]"},
	{"domain-macro", "is a section: write [domain-macro] and NAME = LIST in it"},
	{"route", "is refused: write smtp-hosts"},
	{"deliver-local-dsn", "is refused: write suppress-local-dsn in [source]"},
	{"ignore-chunking", "is refused: messages are sent with DATA, never with BDAT"},
	{"pix-bug-workaround", "is refused: body and final dot always go out in one write"},
	{"allow-cancel-during-transfer",
	 "is refused: at a stop a transfer that has begun has shutdown-timeout to end; for more "
	 "urgent mail see allow-priority-interruption-during-transfer"},
	{"dummy-smtp-ip dummy-smtp-port dummy-smtp-await-slot dummy-smtp-has-chunking "
	 "dummy-smtp-has-pipelining dummy-smtp-has-verp dummy-smtp-update-stats "
	 "dummy-smtp-latency dummy-smtp-has-mailmerge dummy-smtp-blacklist "
	 "dummy-smtp-log-blacklist dummy-smtp-blacklist-bounce-method "
	 "dummy-smtp-blacklist-bounce-percent total-max-file",
	 "is refused: use a test server such as smtp-sink, or type = discard"},
	{"volume-audit-api-key enable-signals add-x-msys-api-header sparkpost-sandbox "
	 "sparkpost-ip-pool",
	 "is refused: it belongs to a service of PowerMTA's vendor"},
	{"dk-sign check-mfrom-outbound check-pra-outbound add-gm-token broken-auth-clients "
	 "check-spf-inbound-best-guess",
	 "is refused: it is obsolete"},
	{"precached-domains-file precached-refresh-interval precached-max-domains",
	 "is refused: DNS answers are kept over restarts of the daemon's processes"},
};

/* Names that one section has and PowerMTA has in this one too. */
static const struct {
	enum conf_scope_id scope;
	const char *names;
} later_here[] = {
	{CONF_SCOPE_DOMAIN, "remove-header"},
};

bool conf_later_here(enum conf_scope_id scope, struct slice name)
{
	for (size_t i = 0; i < ARRAY_SIZE(later_here); i++)
		if (later_here[i].scope == scope && conf_words_have(later_here[i].names, name))
			return true;
	return false;
}

bool conf_known_name(struct slice name, bool section, struct buf *to)
{
	const struct known *table = section ? sections : directives;
	size_t n = section ? ARRAY_SIZE(sections) : ARRAY_SIZE(directives);

	for (size_t i = 0; i < n; i++)
		if (conf_words_have(table[i].names, name)) {
			buf_add_str(to, table[i].why);
			return true;
		}
	return false;
}
