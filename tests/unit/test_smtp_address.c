/* links: common/base common/smtp */
#include <criterion/criterion.h>
#include <string.h>

#include "common/smtp/address.h"
#include "common/smtp/xtext.h"

static const struct {
	const char *in;
	unsigned flags;
	const char *local, *domain, *rest;
} goods[] = {
	{"<a@b.example>", 0, "a", "b.example", ""},
	{"<a@b.example> SIZE=1", 0, "a", "b.example", " SIZE=1"},
	{"<>", 0, "", "", ""},
	{"<postmaster>", 0, "postmaster", "", ""},
	{"<@x.example,@y.example:a@b.example>", 0, "a", "b.example", ""},
	{"<\"a b\"@c.d>", 0, "\"a b\"", "c.d", ""},
	{"<\"a>b\"@c.d>", 0, "\"a>b\"", "c.d", ""},
	{"<\"a\\\"b\"@c.d>", 0, "\"a\\\"b\"", "c.d", ""},
	{"<\"\"@c.d>", 0, "\"\"", "c.d", ""},
	{"<a%b!c@d.e>", 0, "a%b!c", "d.e", ""},
	{"<a+b=c.d/e@f.g>", 0, "a+b=c.d/e", "f.g", ""},
	{"<a@[192.0.2.1]>", 0, "a", "[192.0.2.1]", ""},
	{"<a@[IPv6:2001:db8::1]>", 0, "a", "[IPv6:2001:db8::1]", ""},
	{"<a@my_host>", 0, "a", "my_host", ""},
	{"<\xc3\xa9@\xc3\xa9.example>", ADDRESS_UTF8, "\xc3\xa9", "\xc3\xa9.example", ""},
};

Test(smtp_address, parses_paths)
{
	size_t i, used;

	for (i = 0; i < ARRAY_SIZE(goods); i++) {
		struct slice in = slice_str(goods[i].in);
		struct address a;
		const char *why = address_parse_path(in, goods[i].flags, &a, &used);

		cr_expect(!why, "%s: %s", goods[i].in, why);
		if (why)
			continue;
		cr_expect(slice_eq_str(a.local, goods[i].local), "%s", goods[i].in);
		cr_expect(slice_eq_str(a.domain, goods[i].domain), "%s", goods[i].in);
		cr_expect(slice_eq_str(slice_from(in, used), goods[i].rest), "%s", goods[i].in);
	}
}

static const struct {
	const char *in, *says;
} bads[] = {
	{"", "angle brackets"},
	{"a@b.c", "angle brackets"},
	{"<a@b.c", "closing angle bracket"},
	{"<\"a@b.c>", "closing angle bracket"},
	{"<a b@c.d>", "must be quoted"},
	{"<@b.c>", "source route"},
	{"<@x.y:>", "no address behind"},
	{"<@x y:a@b.c>", "source route"},
	{"<a@>", "domain is empty"},
	{"<a@b.c.>", "dot at its start or end"},
	{"<a@.b>", "dot at its start or end"},
	{"<a@b..c>", "empty label"},
	{"<a@-b.c>", "begins or ends with '-'"},
	{"<a@b!c>", "not allowed"},
	{"<a@b@c>", "not allowed"},
	{"<.a@b.c>", "dot at its start"},
	{"<a.@b.c>", "dot at its start or end"},
	{"<a..b@c.d>", "two in a row"},
	{"<a\001@b.c>", "must be quoted"},
	{"<\"a\001\"@b.c>", "malformed"},
	{"<\"a\"b@c.d>", "must be quoted"},
	{"<a@[1.2.3]>", "address literal"},
	{"<a@[1.2.3.4>", "address literal"},
	{"<a@[::1]>", "address literal"},
	{"<a@[IPv6:1.2.3.4]>", "address literal"},
	{"<\xc3\xa9@b.c>", "SMTPUTF8"},
	{"<a@\xc3\xa9.c>", "SMTPUTF8"},
	{"< >", "must be quoted"},
};

Test(smtp_address, refuses_malformed_paths)
{
	size_t i, used;

	for (i = 0; i < ARRAY_SIZE(bads); i++) {
		struct address a;
		const char *why = address_parse_path(slice_str(bads[i].in), 0, &a, &used);

		cr_expect(why && strstr(why, bads[i].says), "%s: %s", bads[i].in, why ? why : "ok");
	}
}

Test(smtp_address, refuses_utf8_that_is_none)
{
	struct address a;
	size_t used;

	cr_expect(address_parse_path(slice_str("<\xc3@b.c>"), ADDRESS_UTF8, &a, &used));
	cr_expect(address_parse_path(slice_str("<a@\xff.c>"), ADDRESS_UTF8, &a, &used));
}

Test(smtp_address, bounds_the_parts)
{
	char text[700];
	struct address a;

	memset(text, 'a', sizeof(text));
	cr_expect(!address_parse(slice_of(text, 256), 0, &a));
	cr_expect(address_parse(slice_of(text, 257), 0, &a));
	text[1] = '@';
	cr_expect(address_parse(slice_of(text, 2 + 64), 0, &a));
	cr_expect(!address_parse(slice_of(text, 2 + 63), 0, &a));
	for (size_t i = 2; i < sizeof(text); i++)
		text[i] = i % 2 ? '.' : 'x';
	cr_expect(!address_parse(slice_of(text, 2 + 255), 0, &a));
	cr_expect(address_parse(slice_of(text, 2 + 257), 0, &a));
}

Test(smtp_address, makes_domains_canonical)
{
	char text[ADDRESS_DOMAIN_TEXT_MAX];

	static const char *const cases[][2] = {
		{"Example.COM", "example.com"},
		{"_under_score.Example", "_under_score.example"},
		{"[192.0.2.1]", "[192.0.2.1]"},
		{"[IPv6:2001:0DB8::0001]", "[2001:db8::1]"},
		{"пример.рф", "xn--e1afmkfd.xn--p1ai"},
		{"ПРИМЕР.РФ", "xn--e1afmkfd.xn--p1ai"},
		{"XN--E1AFMKFD.xn--p1ai", "xn--e1afmkfd.xn--p1ai"},
		{"bücher.example", "xn--bcher-kva.example"},
		{"bu\xcc\x88"
		 "cher.example",
		 "xn--bcher-kva.example"}, /* decomposed */
		{"faß.example", "xn--fa-hia.example"},
		{"xn--nonsense.example", "xn--nonsense.example"}, /* no such domain, but a name */
	};
	static const char *const wrong[] = {
		"a\xe2\x80\x8b"
		"b\xe2\x86\x92.example", /* zero width space, arrow */
		"\xd7\x90"
		"a1\xd7\x90.example", /* both directions in a label */
		"\xe2\x99\xa5.example", /* a heart */
		"\xef\xbd\x84\xef\xbc\xaf..example", /* an empty label */
	};
	size_t i;

	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		cr_expect_null(domain_canonical(slice_str(cases[i][0]), text), "%s", cases[i][0]);
		cr_expect_str_eq(text, cases[i][1]);
	}
	for (i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		cr_expect(domain_canonical(slice_str(wrong[i]), text), "%s", wrong[i]);
}

Test(smtp_xtext, encodes_and_decodes)
{
	struct buf a = BUF_INIT, b = BUF_INIT;

	xtext_encode(slice_str("a b+c=d\xc3"), &a);
	cr_expect(slice_eq_str(buf_slice(&a), "a+20b+2Bc+3Dd+C3"));
	cr_expect(xtext_decode(buf_slice(&a), &b));
	cr_expect(slice_eq_str(buf_slice(&b), "a b+c=d\xc3"));
	cr_expect(!xtext_valid(slice_str("a+2")) && !xtext_valid(slice_str("a+2g")));
	cr_expect(!xtext_valid(slice_str("a=b")) && !xtext_valid(slice_str("a b")));
	cr_expect(!xtext_valid(slice_str("+2b")), "hexadecimal digits are upper-case");
	buf_done(&a);
	buf_done(&b);
}

Test(smtp_xtext, checks_dsn_values)
{
	uint8_t bits = 0;

	cr_expect(dsn_envid_valid(slice_str("QQ314159")));
	cr_expect(!dsn_envid_valid(slice_str("")));
	cr_expect(!dsn_envid_valid(slice_str("a+0Ab")), "no line ends in an ENVID");
	cr_expect(dsn_orcpt_valid(slice_str("rfc822;a@b.c"), false));
	cr_expect(!dsn_orcpt_valid(slice_str("a@b.c"), false));
	cr_expect(!dsn_orcpt_valid(slice_str(";a@b.c"), false));
	cr_expect(!dsn_orcpt_valid(slice_str("rfc822;"), false));
	cr_expect(dsn_orcpt_valid(slice_str("utf-8;\xc3\xa9@b.c"), true));
	cr_expect(!dsn_orcpt_valid(slice_str("utf-8;\xc3\xa9@b.c"), false));
	cr_expect(dsn_notify_parse(slice_str("never"), &bits) && bits == DSN_NEVER);
	cr_expect(dsn_notify_parse(slice_str("SUCCESS,DELAY"), &bits) &&
		  bits == (DSN_SUCCESS | DSN_DELAY));
	cr_expect(!dsn_notify_parse(slice_str("NEVER,DELAY"), &bits));
	cr_expect(!dsn_notify_parse(slice_str(""), &bits));
	cr_expect(!dsn_notify_parse(slice_str("SUCCESS,"), &bits));
}
