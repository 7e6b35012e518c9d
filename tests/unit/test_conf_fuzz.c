/* links: common/base common/conf */
/* Mutated configurations: whatever comes, the parser answers, and what it takes survives its merged text. */
#include "tests/unit/conf_text.h"

#include "common/base/rng.h"

static const char seed_text[] =
	"[global]\nhost-name = mta1.example.com\npostmaster = a@b.com, "
	"c@d.com\nip-connection-limit = 10/8 5 per-source-ip\n"
	"resolver = 127.0.0.1, [::1]:53\nlog = /tmp/log # c\nmin-free-space = 64M\n[smtp-listener "
	"[::1]:2525]\nsource = feed\n"
	"[source 0/0]\nrelay-domain = $ms, *.x.com,\n  [*.]y.com\n[source "
	"feed]\ndefault-virtual-mta = pool\n"
	"[virtual-mta a]\nsmtp-source-host = 10.0.0.1 a.b.com\nretry-after = "
	"5m,10m\n[virtual-mta-pool pool]\nvirtual-mta = a\n"
	"[domain-macro]\nms = a.com, b.$tld\ntld = com, \"co.uk\"\n[domain *]\nmax-smtp-out = "
	"2\nbounce-after = 4d12h\n"
	"[domain $ms, [10/8]/a, \"q.com\"/pool]\nsmtp-hosts = "
	"a.com,b.com;[192.0.2.1]:25;lookup-mx:c.com\ntype = discard\n"
	"smtp-pattern-list = l, m\n[smtp-pattern-list l]\nreply = /^4\\d\\d (a|b)+ # c\\/d/ "
	"mode=backoff,\n  skip-mx # e\nreply /x=y/ defer-queue=5m reroute=pool\n"
	"[smtp-pattern-list m]\nreply = /[[:alpha:]]{2,}/ disable-source-ip,reenable-after=1h\n"
	"[bounce-category-patterns]\npattern = /quota/ quota-issues\n"
	"[acct-file /var/log/a.csv]\nrecords = d,b,t,tq\nrecord-fields = d rcpt, "
	"!vmta\nuser-string = \"a # b\" \nqueue-filter = !a.com/*\n";

static const char *const pieces[] = {
	"[",
	"]",
	"[domain ",
	"]\n",
	"\n",
	"\n  ",
	"\n\t",
	",",
	"=",
	"\"",
	"\\",
	"#",
	";",
	" #",
	"$",
	"$ms",
	"${",
	"${HOME}",
	"}",
	"*",
	"*.",
	"[*.]",
	"/",
	"/a",
	"/ ",
	"reply = /",
	"reply /",
	"(?-i)",
	"(",
	")*",
	"\\/",
	" mode=normal",
	"\"\"",
	"0",
	"-1",
	"99999999999999999999",
	"1w",
	"K",
	"\xff",
	"\xc3\xbc",
	"\x01",
	"\r",
	"[global]\n",
	"[domain-macro]\n",
	"include = ",
	"include = *\n",
	"ms = $ms\n",
	"file:",
	"[source ",
	"<domain>",
	"\xef\xbb\xbf",
	"#@ 1 s x\n",
	"unlimited",
	"never",
	"{default}",
	"max-smtp-out = ",
	"10/8",
	"::1",
	"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
};

/* One random change. */
static void mutate(struct buf *b)
{
	size_t at = b->n ? rng_below((uint32_t)b->n) : 0, n;
	struct buf out = BUF_INIT;
	const char *piece = pieces[rng_below(ARRAY_SIZE(pieces))];

	switch (rng_below(4)) {
	case 0: /* another byte */
		if (b->n)
			b->p[at] = (char)rng_below(256);
		return;
	case 1: /* cut some */
		n = 1 + rng_below(12);
		if (n > b->n - at)
			n = b->n - at;
		buf_add(&out, b->p, at);
		buf_add(&out, b->p + at + n, b->n - at - n);
		break;
	case 2: /* a piece of the language */
		buf_add(&out, b->p, at);
		buf_add_str(&out, piece);
		buf_add(&out, b->p + at, b->n - at);
		break;
	default: /* a part of it again */
		n = rng_below(200);
		if (n > b->n - at)
			n = b->n - at;
		buf_add(&out, b->p, b->n);
		buf_add(&out, b->p + at, n);
		break;
	}
	buf_done(b);
	*b = out;
}

static void ask(const struct conf *c)
{
	static const char *const domains[] = {"a.com", "x.y.com", "[10.0.0.1]",
					      "",      "q.com",	  "b.co.uk"};
	struct ip ip = {.family = IP_V4, .b = {10, 0, 0, 1}};

	for (size_t i = 0; i < ARRAY_SIZE(domains); i++)
		cr_assert_not_null(conf_domain_for(c, slice_str(domains[i]), slice_str("a")));
	cr_assert_not_null(conf_source_for(c, &ip, "feed"));
	cr_assert_geq(conf_vmta_count(c), 1);
}

Test(conf_fuzz, mutations_never_break_the_parser, .timeout = 60)
{
	unsigned taken = 0, refused = 0;

	for (uint64_t seed = 1; seed <= 1500; seed++) {
		struct buf b = BUF_INIT;
		struct conf_messages m;
		char *messages;
		struct conf *c, *d;

		rng_seed(seed);
		buf_add(&b, seed_text, sizeof(seed_text) - 1);
		for (uint32_t i = rng_below(6); i > 0; i--)
			mutate(&b);
		c = load_bytes(b.p, b.n, &messages);
		if (c) {
			taken++;
			ask(c);
			d = conf_parse_merged(conf_merged(c), &m);
			cr_assert_not_null(d, "seed %llu: taken, but its merged text is not:\n%.*s",
					   (unsigned long long)seed, (int)conf_merged(c).n,
					   conf_merged(c).p);
			cr_assert(slice_eq(conf_merged(c), conf_merged(d)), "seed %llu",
				  (unsigned long long)seed);
			ask(d);
			conf_messages_done(&m);
			conf_free(d);
		} else {
			refused++;
			cr_assert(strstr(messages, "error: "), "seed %llu: refused without a word",
				  (unsigned long long)seed);
		}
		conf_free(c);
		free(messages);
		buf_done(&b);
	}
	cr_expect_gt(taken, 100);
	cr_expect_gt(refused, 100);
}

Test(conf_fuzz, merged_text_from_anywhere, .timeout = 60)
{
	for (uint64_t seed = 1; seed <= 500; seed++) {
		struct conf *c = load_good(seed_text);
		struct conf_messages m;
		struct buf b = BUF_INIT;

		rng_seed(seed);
		buf_add_slice(&b, conf_merged(c));
		conf_free(c);
		for (int i = 0; i < 5; i++)
			mutate(&b);
		c = conf_parse_merged(buf_slice(&b), &m);
		if (c)
			ask(c);
		conf_free(c);
		conf_messages_done(&m);
		buf_done(&b);
	}
}

Test(conf_fuzz, only_noise, .timeout = 60)
{
	for (uint64_t seed = 1; seed <= 300; seed++) {
		char noise[2000], *messages;

		rng_seed(seed);
		rng_bytes(noise, sizeof(noise));
		conf_free(load_bytes(noise, rng_below(sizeof(noise)), &messages));
		free(messages);
	}
}
