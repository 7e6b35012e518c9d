/* links: common/base common/conf */
#include "tests/unit/conf_text.h"

/* Every error and warning with its place and text. */
struct message_case {
	const char *label, *text, *want;
};

#define L "[smtp-listener 127.0.0.1:2525]\n"
#define IN_GLOBAL(line) L "[global]\n" line "\n"
#define IN_DOMAIN(line) L "[domain *]\n" line "\n"
#define IN_SOURCE(line) L "[source 0/0]\n" line "\n"
#define IN_ACCT(line) L "[acct-file /a]\n" line "\n"
#define IN_VMTA(line) L "[virtual-mta v]\n" line "\n"
#define E(text) "T:3: error: " text "\n"

static const struct message_case error_cases[] = {
	/* names */
	{"unknown directive, near", IN_DOMAIN("max-smtp-uot = 2"),
	 E("unknown directive max-smtp-uot in [domain]: did you mean max-smtp-out?")},
	{"unknown directive, far", IN_DOMAIN("completely-different = 2"),
	 E("unknown directive completely-different in [domain]")},
	{"unknown directive of a virtual MTA near a domain's", IN_VMTA("retry-aftr = 2m"),
	 E("unknown directive retry-aftr in [virtual-mta]: did you mean retry-after?")},
	{"wrong section", IN_GLOBAL("retry-after = 5m"),
	 E("retry-after has no meaning in [global]: it belongs in [domain]")},
	{"wrong section, several right ones", IN_GLOBAL("max-smtp-out = 5"),
	 E("max-smtp-out has no meaning in [global]: it belongs in [virtual-mta] or "
	   "[virtual-mta-pool] or [domain] or [provider]")},
	{"an alias in the wrong section", IN_DOMAIN("smtp-source-ip = 10.0.0.1"),
	 E("smtp-source-ip has no meaning in [domain]: it belongs in [global] or [virtual-mta]")},
	{"no limit of what is none", IN_DOMAIN("queue-priority = unlimited"),
	 E("queue-priority: 'unlimited' is not a whole number: 0 to 100")},
	{"of a later version", IN_DOMAIN("auth-username = me"),
	 E("auth-username is not supported by this version")},
	{"of a later version in this section", IN_DOMAIN("remove-header = x-a"),
	 E("remove-header in [domain] is not supported by this version")},
	{"refused with its reason", IN_GLOBAL("sync-msg-create = false"),
	 E("sync-msg-create is refused: what is accepted is always synced to disk before the 250")},
	{"known, in capitals", IN_GLOBAL("Run-As-Root = false"),
	 E("Run-As-Root is refused: write user and group")},
	{"unknown section, near", L "[domian *]\n",
	 "T:2: error: unknown section [domian]: did you mean [domain]?\n"},
	{"unknown section, far", L "[something]\nx = 1\n",
	 "T:2: error: unknown section [something]\n"},
	{"section of a later version", L "[pattern-list w]\n* = virtual-mta=a\n",
	 "T:2: error: [pattern-list] is not supported by this version\n"},
	{"section of PowerMTA", L "[spool /var]\n",
	 "T:2: error: [spool] is not a section: write spool-dir and min-free-space in [global]\n"},
	{"name missing", L "[domain]\n",
	 "T:2: error: [domain] needs a name: [domain PATTERN, PATTERN/VMTA or PATTERN/POOL]\n"},
	{"name too many", L "[global x]\n", "T:2: error: [global] has no name\n"},
	{"name not closed", L "[source \"x]\n",
	 "T:2: error: a quoted name must end with its closing quote\n"},
	{"listener without an address", "[smtp-listener mail:25]\n",
	 "T:1: error: 'mail:25' is not an address to listen on: write IP:PORT, for example "
	 "[smtp-listener 127.0.0.1:2525]\n"},
	{"source with a bad name", L "[source a b]\n",
	 "T:2: error: 'a b' is neither a network such as 10/8 nor a name of letters, digits, '.', "
	 "'_' and '-'\n"},
	{"reserved source", L "[source {auth}]\n",
	 "T:2: error: [source {auth}] is not supported by this version\n"},
	{"virtual MTA with a bad name", L "[virtual-mta a/b]\n",
	 "T:2: error: 'a/b' is not a name of letters, digits, '.', '_' and '-'\n"},
	{"reserved name of a virtual MTA", L "[virtual-mta {x}]\n",
	 "T:2: error: '{x}' is not a name of letters, digits, '.', '_' and '-'\n"},
	{"pool {default}", L "[virtual-mta-pool {default}]\nvirtual-mta = v\n",
	 "T:2: error: '{default}' is not a name of letters, digits, '.', '_' and '-'\n"},
	{"one name space", L "[virtual-mta a]\n[virtual-mta-pool A]\nvirtual-mta = a\n",
	 "T:3: error: there is a virtual MTA of this name already (T:2): virtual MTAs and pools "
	 "share one name space\n"},
	{"acct-file to a program", L "[acct-file |/bin/cat]\n",
	 "T:2: error: accounting records to a program (|COMMAND) are not supported by this "
	 "version: write a file\n"},
	/* references */
	{"unknown virtual MTA of a source", IN_SOURCE("default-virtual-mta = gone"),
	 E("default-virtual-mta: unknown virtual MTA or pool gone")},
	{"unknown virtual MTA of a domain", L "[domain a.com/gone]\n",
	 "T:2: error: [domain]: unknown virtual MTA or pool gone\n"},
	{"no virtual MTA behind the slash", L "[domain a.com/]\n",
	 "T:2: error: [domain]: a virtual MTA or pool must follow the '/'\n"},
	{"unknown member", L "[virtual-mta-pool p]\nvirtual-mta = gone\n",
	 E("virtual-mta: unknown virtual MTA gone")},
	{"pool as a member", L "[virtual-mta-pool p]\nvirtual-mta = p\n",
	 E("virtual-mta: unknown virtual MTA p: it is a pool, and pools hold virtual MTAs")},
	{"weight in a pool that has no use for it",
	 L "[virtual-mta v]\n[virtual-mta-pool p]\nvirtual-mta = v weight 3\n",
	 "T:4: error: virtual-mta: weight of v has no meaning in [virtual-mta-pool p]: it needs "
	 "selection = weighted\n"},
	{"sequence without a count",
	 L "[virtual-mta v]\n[virtual-mta-pool p]\nselection = sequential\nvirtual-mta = v\n",
	 "T:5: error: virtual-mta: v has no count: write v count N, so many recipients before the "
	 "next member\n"},
	{"weight 0", L "[virtual-mta v]\n[virtual-mta-pool p]\nvirtual-mta = v weight 0\n",
	 "T:3: error: [virtual-mta-pool p] has no member: add virtual-mta = NAME\n"
	 "T:4: error: virtual-mta: 'v weight 0' is not NAME [weight N | count N], N from 1 to "
	 "1000000000\n"},
	{"cold virtual MTA that is not there", L "[virtual-mta v]\ncold-virtual-mta = w\n",
	 E("cold-virtual-mta: unknown virtual MTA w")},
	{"cold virtual MTA of itself", L "[virtual-mta v]\ncold-virtual-mta = v\n",
	 E("cold-virtual-mta: v is this virtual MTA itself")},
	{"numbers that are not a day's", L "[domain *]\nmax-cold-virtual-mta-msg = 100/h\n",
	 E("max-cold-virtual-mta-msg: '100/h' is not a number a day such as 1000/d")},
	{"empty pool", L "[virtual-mta-pool p]\n",
	 "T:2: error: [virtual-mta-pool p] has no member: add virtual-mta = NAME\n"},
	{"two pools with domain sections",
	 L "[virtual-mta v]\n[virtual-mta-pool p]\nvirtual-mta = v\n[virtual-mta-pool "
	   "q]\nvirtual-mta = v\n"
	   "[domain a.com/p]\nmax-smtp-out = 1\n[domain b.com/q]\nmax-smtp-out = 1\n",
	 "T:5: error: virtual MTA v is in the pools p and q, which both have domain sections: only "
	 "one may\n"},
	{"unknown source of a listener", "[smtp-listener 127.0.0.1:25]\nsource = gone\n",
	 "T:2: error: source: unknown source gone: there is no [source gone]\n"},
	{"more virtual MTAs than workers",
	 L "[global]\nmax-workers = 2\n[virtual-mta a]\n[virtual-mta b]\n",
	 "error: 3 virtual MTAs ({default} among them), but max-workers is 2\n"},
	{"one path twice", L "[acct-file /a]\n[acct-file b]\npath = /a\n",
	 "T:3: error: /a is written by [acct-file /a] (T:2) already\n"},
	{"acct-file without a path", L "[acct-file b]\n",
	 "T:2: error: [acct-file b]: the name is not an absolute path and there is no path = "
	 "FILE\n"},
	/* macros */
	{"unknown macro", L "[domain $gone]\n",
	 "T:2: error: [domain]: unknown macro $gone: define it in [domain-macro]\n"},
	{"unknown macro in a value", IN_SOURCE("relay-domain = $gone"),
	 E("relay-domain: unknown macro $gone: define it in [domain-macro]")},
	{"macro loop", L "[domain-macro]\na = $b\nb = x.com, $a\n",
	 E("macro loop: $a contains itself")},
	{"macro of itself", L "[domain-macro]\na = x.$a\n", E("macro loop: $a contains itself")},
	{"unused macro that is wrong", L "[domain-macro]\na = $b\n",
	 E("unknown macro $b: define it in [domain-macro]")},
	{"macro with a bad name", L "[domain-macro]\na.b = x.com\n",
	 E("'a.b' is not the name of a macro: letters, digits, '_' and '-'")},
	{"macro that is no pattern", L "[domain-macro]\na = x..com\n[domain $a]\n",
	 "T:4: error: [domain]: 'x..com' is not a domain pattern: *, example.com, *.example.com, "
	 "[*.]example.com or [192.0.2.0/24]\n"},
	/* patterns */
	{"pattern with a wildcard inside", L "[domain a.*.com]\n",
	 "T:2: error: [domain]: 'a.*.com' is not a domain pattern: *, example.com, *.example.com, "
	 "[*.]example.com or [192.0.2.0/24]\n"},
	{"pattern that is not ASCII",
	 L "[domain b\xc3\xbc"
	   "cher.de]\n",
	 "T:2: error: [domain]: 'b\xc3\xbc"
	 "cher.de' is not ASCII: write the xn-- form of the domain\n"},
	{"bad network", L "[domain [10/99]]\n",
	 "T:2: error: [domain]: '[10/99]' is neither an address pattern such as [192.0.2.0/24] nor "
	 "[*.]domain\n"},
	{"empty pattern in a list", L "[domain a.com,,b.com]\n",
	 "T:2: error: [domain]: '' is not a domain pattern\n"},
	/* values */
	{"no value", IN_DOMAIN("max-smtp-out ="),
	 E("max-smtp-out: no value (\"\" stands for the default)")},
	{"not a number", IN_DOMAIN("max-smtp-out = many"),
	 E("max-smtp-out: 'many' is not a whole number: 1 to 1000000")},
	{"negative", IN_DOMAIN("max-smtp-out = -1"),
	 E("max-smtp-out: '-1' is not a whole number: 1 to 1000000")},
	{"too small", IN_DOMAIN("max-smtp-out = 0"),
	 E("max-smtp-out: 0 is out of range: 1 to 1000000")},
	{"too large", IN_DOMAIN("smtp-port = 65536"),
	 E("smtp-port: 65536 is out of range: 1 to 65535")},
	{"not a boolean", IN_DOMAIN("use-starttls = maybe"),
	 E("use-starttls: 'maybe' is not yes, no, true or false")},
	{"time without unit", IN_DOMAIN("bounce-after = 5"),
	 E("bounce-after: '5' is not a time such as 30s, 10m or 1d12h: a unit is missing")},
	{"time out of range", IN_DOMAIN("connection-idle-timeout = 11m"),
	 E("connection-idle-timeout: 11m is out of range: 0 to 10m")},
	{"never where it has no meaning", IN_DOMAIN("bounce-after = never"),
	 E("bounce-after: 'never' is not a time such as 30s, 10m or 1d12h")},
	{"31 times",
	 IN_DOMAIN("retry-after = "
		   "1m,1m,1m,1m,1m,1m,1m,1m,1m,1m,1m,1m,1m,1m,1m,1m,1m,1m,1m,1m,1m,1m,1m,1m,1m,1m,"
		   "1m,1m,1m,1m,1m"),
	 E("retry-after: more than 30 times")},
	{"bad time in a list", IN_DOMAIN("retry-after = 5m,x"),
	 E("retry-after: 'x' is not times such as 10m,30m,1h")},
	{"bad size", IN_GLOBAL("spool-max-size = 5X"),
	 E("spool-max-size: '5X' is not a size such as 64K, 10M or 2G")},
	{"size out of range", IN_GLOBAL("spool-max-size = 1M"),
	 E("spool-max-size: 1M is out of range: 16M or more, or unlimited")},
	{"not a power of two", IN_GLOBAL("outcome-ring-size = 3M"),
	 E("outcome-ring-size: '3M' is not a size that is a power of two, such as 4M")},
	{"relative path", IN_GLOBAL("spool-dir = spool"),
	 E("spool-dir: 'spool' is not an absolute path")},
	{"log", IN_GLOBAL("log = syslog"),
	 E("log: 'syslog' is not stderr, journald or an absolute path")},
	{"log level", IN_GLOBAL("log-level = loud"),
	 E("log-level: 'loud' is not error, warn, info or debug")},
	{"host name", IN_GLOBAL("host-name = a b"), E("host-name: 'a b' is not a host name")},
	{"mail address", IN_GLOBAL("postmaster = someone"),
	 E("postmaster: 'someone' is not a mail address")},
	{"resolver", IN_GLOBAL("resolver = dns.example.com"),
	 E("resolver: 'dns.example.com' is not an address such as 192.0.2.1, 192.0.2.1:53 or "
	   "[2001:db8::1]:53")},
	{"ip-connection-limit without a number", IN_GLOBAL("ip-connection-limit = 10/8"),
	 E("ip-connection-limit: write CIDR N [per-source-ip], for example 192.0.2.0/24 "
	   "10")},
	{"mx-connection-limit with an address", IN_GLOBAL("mx-connection-limit = [10/8] 5"),
	 E("mx-connection-limit: '[10/8]' is not the name of a host: for addresses there is "
	   "ip-connection-limit")},
	{"mx-connection-limit without a number", IN_GLOBAL("mx-connection-limit = *.example.com"),
	 E("mx-connection-limit: write MXPATTERN N, for example *.mail.example.com 10")},
	{"mx-connection-limit of none", IN_GLOBAL("mx-connection-limit = *.example.com 0"),
	 E("mx-connection-limit: 0 is out of range: 1 to 1000000")},
	{"source-ip-max-smtp-out with more", IN_DOMAIN("source-ip-max-smtp-out = 10/8 5 x"),
	 E("source-ip-max-smtp-out: 'x' after the number: write CIDR N, one a line")},
	{"source-ip-max-smtp-out without a number", IN_DOMAIN("source-ip-max-smtp-out = 5"),
	 E("source-ip-max-smtp-out: write CIDR N, for example 192.0.2.0/24 10")},
	{"pools that differ",
	 L "[virtual-mta a]\n[virtual-mta-pool p]\nvirtual-mta = a\nmax-smtp-out = 5\n"
	   "[virtual-mta-pool q]\nvirtual-mta = a\nmax-smtp-out = 6\n",
	 "T:8: error: max-smtp-out: virtual MTA a is also in [virtual-mta-pool p], which says 5 "
	 "(T:5): set max-smtp-out in [virtual-mta a]\n"},
	{"ip-connection-limit with more", IN_GLOBAL("ip-connection-limit = 10/8 5 each"),
	 E("ip-connection-limit: 'each' after the number: only per-source-ip may follow")},
	{"ip-connection-limit of 0", IN_GLOBAL("ip-connection-limit = 10/8 0"),
	 E("ip-connection-limit: 0 is out of range: 1 to 1000000")},
	{"several addresses with one host",
	 IN_VMTA("smtp-source-host = 10.0.0.1 10.0.0.2 mta.example.com"),
	 E("smtp-source-host: several addresses with one host name mta.example.com, but a PTR "
	   "matches only one: write IP HOST, one a line")},
	{"address behind the host", IN_VMTA("smtp-source-host = 10.0.0.1 mta.example.com 10.0.0.2"),
	 E("smtp-source-host: '10.0.0.2' after the host name: write IP HOST, one a line")},
	{"host alone", IN_VMTA("smtp-source-host = mta.example.com"),
	 E("smtp-source-host: 'mta.example.com' is not an IP address of this machine")},
	{"network without an own address", IN_VMTA("smtp-source-host = 203.0.113.0/24"),
	 E("smtp-source-host: no address of this machine lies in 203.0.113.0/24")},
	{"smtp-hosts", IN_DOMAIN("smtp-hosts = mx1.example.com:0"),
	 E("smtp-hosts: 'mx1.example.com:0' is not a host: write mx.example.com, "
	   "mx.example.com:2525, [192.0.2.1]:25 or lookup-mx:example.com")},
	{"type of PowerMTA", IN_DOMAIN("type = pipe"),
	 E("type: pipe is not supported by this version")},
	{"type", IN_DOMAIN("type = x"), E("type: 'x' is not smtp or discard")},
	{"by-smtp-source-ip", IN_SOURCE("default-virtual-mta = by-smtp-source-ip"),
	 E("default-virtual-mta: by-smtp-source-ip is not supported by this version")},
	{"records of a later version", IN_ACCT("records = d,r"),
	 E("records: records of type r are not supported by this version")},
	{"records", IN_ACCT("records = d,x"),
	 E("records: 'x' is not a type of record: d, b, t, tq")},
	{"record-fields without a type", IN_ACCT("record-fields = rcpt"),
	 E("record-fields: 'rcpt' is not a type of record: d, b, t, tq")},
	{"bad field", IN_ACCT("fields = a b"),
	 E("fields: 'a b': a comma is missing between the elements of the list")},
	{"unknown field", IN_ACCT("fields = rcpt, nonsense"), E("fields: unknown field nonsense")},
	{"field that the type has not", IN_ACCT("record-fields = tq rcpt"),
	 E("record-fields: records of this type have no field rcpt")},
	{"header field", IN_ACCT("record-fields = d header_From"),
	 E("record-fields: header_From: fields for headers are not supported by this version")},
	{"queue filter", IN_ACCT("queue-filter = a.com"),
	 E("queue-filter: 'a.com' is not a queue: write [!]DOMAIN/VMTA, * is a wildcard")},
	{"list with a hole", IN_GLOBAL("postmaster = a@b.com,,c@d.com"),
	 E("postmaster: the list has an empty element")},
	{"quote not closed", IN_ACCT("user-string = \"abc"),
	 E("user-string: a quoted value must end with its closing quote")},
	{"unset variable", IN_ACCT("user-string = ${SLUICE_TEST_NOT_SET}"),
	 E("user-string: environment variable SLUICE_TEST_NOT_SET is not set")},
	{"variable without }", IN_ACCT("user-string = ${X"), E("user-string: ${ without }")},
	{"missing file of a secret", IN_ACCT("user-string = file:/nonexistent/x"),
	 E("user-string: cannot read /nonexistent/x: No such file or directory")},
	/* several at once, in file order */
	{"all errors are shown",
	 L "[domain *]\nmax-smtp-out = x\n[global]\nretry-after = 5m\n[nothing]\n",
	 "T:3: error: max-smtp-out: 'x' is not a whole number: 1 to 1000000\n"
	 "T:5: error: retry-after has no meaning in [global]: it belongs in [domain]\n"
	 "T:6: error: unknown section [nothing]\n"},
};

Test(conf_errors, each_with_its_place_and_text)
{
	for (size_t i = 0; i < ARRAY_SIZE(error_cases); i++) {
		const struct message_case *k = &error_cases[i];
		char *messages;
		struct conf *c = load_text(k->text, &messages);

		cr_expect_null(c, "%s: it was taken", k->label);
		cr_expect_str_eq(messages, k->want, "%s: got\n%s", k->label, messages);
		conf_free(c);
		free(messages);
	}
}

static const struct message_case warning_cases[] = {
	{"nothing to say", IN_DOMAIN("max-smtp-out = 5"), ""},
	{"no listener", "[global]\n",
	 "warning: no [smtp-listener IP:PORT]: no mail is taken in over SMTP\n"},
	{"set twice in a section", IN_DOMAIN("max-smtp-out = 5\nmax-smtp-out = 6"),
	 "T:4: warning: max-smtp-out is set again: this replaces T:3\n"},
	{"set twice under two names", IN_DOMAIN("smtp-port = 5\ndefault-smtp-port = 6"),
	 "T:4: warning: default-smtp-port is set again: this replaces T:3\n"},
	{"set twice in equal sections",
	 L "[source 10/8]\nmax-message-hops = 5\n[source 10.0.0.0/8]\nmax-message-hops = 6\n",
	 "T:5: warning: max-message-hops is set again: this replaces T:3\n"},
	{"set twice for one domain",
	 L "[domain a.com]\nmax-smtp-out = 5\n[domain b.com, A.com]\nmax-smtp-out = 6\n",
	 "T:5: warning: max-smtp-out is set again for the same domain: this replaces T:3\n"},
	{"told once for all of a macro",
	 L "[domain-macro]\nm = a.com, b.com, c.com\n[domain $m]\nmax-smtp-out = 5\n[domain x.com, "
	   "$m]\nmax-smtp-out = 6\n",
	 "T:7: warning: max-smtp-out is set again for the same domain: this replaces T:5\n"},
	{"[virtual-mta] and */NAME are one place",
	 L "[virtual-mta v]\nretry-after = 5m\n[domain */v]\nretry-after = 6m\n",
	 "T:5: warning: retry-after is set again for the same domain: this replaces T:3\n"},
	{"lists add up", IN_GLOBAL("postmaster = a@b.com\npostmaster = c@d.com"), ""},
	{"written and through a macro are different places",
	 L "[domain-macro]\nm = a.com\n[domain $m]\nmax-smtp-out = 5\n[domain a.com]\nmax-smtp-out "
	   "= 6\n",
	 ""},
	{"macro twice", L "[domain-macro]\na = b.com\nA = c.com\n",
	 "T:4: warning: macro A replaces the one of T:3\n"},
	{"one network, two limits",
	 IN_GLOBAL("ip-connection-limit = 10/8 5\nip-connection-limit = 10.0.0.0/8 6"),
	 "T:4: warning: ip-connection-limit: 10.0.0.0/8 has a limit of 5 already, which this one "
	 "replaces\n"},
	{"numbers a day without a cold virtual MTA",
	 L "[virtual-mta v]\n[domain a.com/v]\nmax-cold-virtual-mta-msg = 10/d\n",
	 "T:4: warning: max-cold-virtual-mta-msg has no effect without cold-virtual-mta in "
	 "[virtual-mta] or [virtual-mta-pool]; to warm an address up without a warm one beside it, "
	 "see [warm-up]\n"},
	{"member twice", L "[virtual-mta v]\n[virtual-mta-pool p]\nvirtual-mta = v, v\n",
	 "T:4: warning: virtual-mta: v is in [virtual-mta-pool p] already\n"},
	{"'#' in a text", IN_ACCT("user-string = a #b"),
	 "T:3: warning: user-string: what follows the space and '#' or ';' is part of the value: "
	 "put it in quotes if that is meant, else remove it\n"},
	{"'#' in a quoted text", IN_ACCT("user-string = \"a #b\""), ""},
	{"a pattern list that no domain names",
	 L "[smtp-pattern-list used]\nreply = /a/ skip-mx\n[virtual-mta v]\n"
	   "smtp-pattern-list = also\n[domain a.com]\nsmtp-pattern-list = Used\n"
	   "[smtp-pattern-list lost]\nreply = /a/ skip-mx\n"
	   "[smtp-pattern-list also]\nreply = /a/ skip-mx\n",
	 "T:8: warning: [smtp-pattern-list lost] has no effect: no domain names it: add "
	 "smtp-pattern-list = lost to a [domain]\n"},
	{"looser than what it hides",
	 L "[virtual-mta v]\n[domain a.com]\nmax-smtp-out = 2\n[domain */v]\nmax-smtp-out = 5\n",
	 "T:6: warning: max-smtp-out of [domain */v] is looser than 2 of [domain a.com] (T:4), "
	 "which it hides for this virtual MTA or pool\n"},
	{"no limit is looser than any",
	 L "[virtual-mta v]\nmax-msg-per-connection = 0\n[domain a.com]\nmax-msg-per-connection = "
	   "2\n",
	 "T:3: warning: max-msg-per-connection of [virtual-mta v] is looser than 2 of [domain "
	 "a.com] (T:5), which it hides for this virtual MTA or pool\n"},
	{"TLS not required any more",
	 L "[virtual-mta v]\nrequire-starttls = no\n[domain a.com]\nrequire-starttls = yes\n",
	 "T:3: warning: require-starttls of [virtual-mta v] is looser than yes of [domain a.com] "
	 "(T:5), which it hides for this virtual MTA or pool\n"},
	{"a faster rate",
	 L "[virtual-mta v]\n[domain a.com]\nmax-connect-rate = 59/h\n[domain */v]\n"
	   "max-connect-rate = 1/m\n",
	 "T:6: warning: max-connect-rate of [domain */v] is looser than 59/h of [domain a.com] "
	 "(T:4), which it hides for this virtual MTA or pool\n"},
	{"no rate in back-off, and a volume",
	 L "[virtual-mta v]\nbackoff-max-msg-rate = unlimited\n[domain a.com]\n"
	   "backoff-max-msg-rate = 5/h\n",
	 "T:3: warning: backoff-max-msg-rate of [virtual-mta v] is looser than 5/h of [domain "
	 "a.com] (T:5), which it hides for this virtual MTA or pool\n"},
	{"more for an address",
	 L "[virtual-mta v]\nsource-ip-max-smtp-out = 10/8 2\nsource-ip-max-smtp-out = 10.1/16 5\n"
	   "[domain a.com]\nsource-ip-max-smtp-out = 10.2/16 2\n"
	   "source-ip-max-smtp-out = 10.1.1/24 4\n",
	 "T:4: warning: source-ip-max-smtp-out of [virtual-mta v] is looser than 10.2/16 2; "
	 "10.1.1/24 4 of [domain a.com] (T:7), which it hides for this virtual MTA or pool\n"},
	{"a rate for other addresses only",
	 L "[virtual-mta v]\nsource-ip-max-msg-rate = 10/8 2/h\n"
	   "[domain a.com]\nsource-ip-max-msg-rate = 11/8 3/h\n",
	 "T:3: warning: source-ip-max-msg-rate of [virtual-mta v] is looser than 11/8 3/h of "
	 "[domain a.com] (T:5), which it hides for this virtual MTA or pool\n"},
	{"looser than several: once for each line",
	 L "[virtual-mta v]\nbackoff-max-connect-rate = 9/m\nmax-msg-per-connection = 4\n"
	   "[domain a.com]\nbackoff-max-connect-rate = 1/m\nmax-msg-per-connection = 4\n"
	   "[domain b.com]\nbackoff-max-connect-rate = 2/m\n[domain "
	   "c.com]\nbackoff-max-connect-rate = 10/m\n"
	   "[domain d.com]\nbackoff-max-connect-rate = 3/m\n",
	 "T:3: warning: backoff-max-connect-rate of [virtual-mta v] is looser than 1/m of [domain "
	 "a.com] "
	 "(T:6), and 2 more, which it hides for this virtual MTA or pool\n"},
	{"equal and slower rates, and what cannot be compared",
	 L "[virtual-mta v]\nmax-connect-rate = 1/m\nsource-ip-max-msg-rate = 10/8 3/h\n"
	   "backoff-max-smtp-out = \"\"\nbackoff-max-msg-rate = \"\"\n"
	   "[domain a.com]\nmax-connect-rate = 60/h\nsource-ip-max-msg-rate = 10.1/16 4/h\n"
	   "backoff-max-smtp-out = 2\nbackoff-max-msg-rate = 2/h\n",
	 ""},
	{"stricter than what it hides",
	 L "[virtual-mta v]\n[domain a.com]\nmax-smtp-out = 5\n[domain */v]\nmax-smtp-out = 2\n",
	 ""},
	{"a provider whose hosts another one has",
	 L "[provider a]\nmx = *.a.com\n[provider b]\nmx = mx1.a.com, *.b.com, *.x.a.com\n",
	 "T:4: warning: [provider b]: its hosts mx1.a.com belong to [provider a] of T:2, since "
	 "that "
	 "stands first: move this section before it, or add to that one\n"
	 "T:4: warning: [provider b]: its hosts *.x.a.com belong to [provider a] of T:2, since "
	 "that "
	 "stands first: move this section before it, or add to that one\n"},
	{"* everywhere is not hidden in earnest",
	 L "[virtual-mta v]\n[domain *]\nmax-smtp-out = 2\n[domain */v]\nmax-smtp-out = 5\n", ""},
};

static void expect_messages(const struct message_case *k, const char *behind)
{
	char *text = xasprintf("%s%s", k->text, behind), *messages;
	struct conf *c = load_text(text, &messages);

	cr_expect_not_null(c, "%s: refused: %s", k->label, messages);
	cr_expect_str_eq(messages, k->want, "%s: got\n%s", k->label, messages);
	conf_free(c);
	free(messages);
	free(text);
}

Test(conf_errors, warnings_let_the_configuration_through)
{
	for (size_t i = 0; i < ARRAY_SIZE(warning_cases); i++)
		expect_messages(&warning_cases[i],
				"[source 192.0.2.9]\nalways-allow-relaying = yes\n");
}

#define NOBODY                                                                     \
	"T:1: warning: no client may relay: every recipient will be refused: set " \
	"always-allow-relaying = yes in the [source] of your feeders\n"

static const struct message_case relay_cases[] = {
	{"no source at all", L, NOBODY},
	{"sources that allow nothing", IN_SOURCE("always-allow-relaying = no\nrelay-domain = \"\""),
	 NOBODY},
	{"a name that no listener gives", L "[source feeders]\nalways-allow-relaying = yes\n",
	 NOBODY},
	{"a name that a listener gives",
	 L "source = Feeders\n[source feeders]\nalways-allow-relaying = yes\n", ""},
	{"some domains", IN_SOURCE("relay-domain = example.com"), ""},
	{"one network among others",
	 L "[source 0/0]\nalways-allow-relaying = no\n[source 10/8]\nalways-allow-relaying = yes\n",
	 ""},
};

Test(conf_errors, a_server_that_would_refuse_every_recipient)
{
	for (size_t i = 0; i < ARRAY_SIZE(relay_cases); i++)
		expect_messages(&relay_cases[i], "");
}

Test(conf_errors, a_bad_secret_is_not_shown)
{
	char *messages;

	setenv("SLUICE_TEST_SECRET", "geheim", 1);
	cr_expect_null(load_text(IN_DOMAIN("max-smtp-out = ${SLUICE_TEST_SECRET}"), &messages));
	cr_expect_str_eq(messages,
			 "T:3: error: max-smtp-out: the value (not shown) is not a whole number\n");
	free(messages);
}

Test(conf_errors, macros_that_grow_without_bound)
{
	static const char *const texts[] = {
		/* a product of a million million */
		"[domain-macro]\na = 1,2,3,4,5,6,7,8,9,10\nb = $a$a$a$a\nc = $b.$b.$b\n[domain "
		"$c.com]\n",
		/* a chain deeper than the stack would like */
		NULL,
		/* a pattern of nothing but macros */
		NULL,
	};
	struct buf chain = BUF_INIT, longest = BUF_INIT;

	buf_add_str(&chain, "[domain-macro]\nm0 = $m1\n");
	for (int i = 1; i < 20000; i++)
		buf_addf(&chain, "m%d = $m%d\n", i, i + 1);
	buf_add_str(&chain, "m20000 = x.com\n[domain $m0]\n");
	buf_add_str(&longest, "[domain-macro]\na = b\n[domain ");
	for (int i = 0; i < 50000; i++)
		buf_add_str(&longest, "$a");
	buf_add_str(&longest, "]\n");
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		struct buf *b = i == 1 ? &chain : &longest;
		char *messages;

		cr_expect_null(load_text(texts[i] ? texts[i] : buf_cstr(b), &messages));
		cr_expect(strstr(messages, i == 0   ? "more than 1000000 patterns"
					   : i == 1 ? "deeper than 64 levels"
						    : "a pattern of more than 1024 bytes"),
			  "%zu: %s", i, messages);
		free(messages);
	}
	buf_done(&chain);
	buf_done(&longest);
}
