/* links: common/base common/smtp common/mail */
#include <criterion/criterion.h>

#include "tests/fuzz/fuzz_headers.c"
#include "tests/fuzz/fuzz_reply.c"
#include "tests/fuzz/mutate.h"

static const char *const words[] = {"\r\n",	 "\n",
				    "\r",	 ".",
				    "\r\n.\r\n", "\r\n\r\n",
				    ":",	 " ",
				    "\t",	 "250-",
				    "550 ",	 "5.1.1 ",
				    "<",	 ">",
				    "@",	 "\"",
				    "\\",	 "[IPv6:",
				    "]",	 "\xff",
				    "\xc3\xa9",	 "\xed\xa0\x80",
				    "-"};

static void run(const char *const *seeds, size_t count, int rounds,
		void (*once)(struct slice in, size_t step))
{
	uint64_t rnd = 0x51d1ce;

	while (rounds-- > 0) {
		struct buf b = BUF_INIT;

		buf_add_str(&b, seeds[mutate_random(&rnd) % count]);
		mutate(&b, &rnd, words, ARRAY_SIZE(words));
		once(buf_slice(&b), 1 + mutate_random(&rnd) % 7);
		buf_done(&b);
	}
}

Test(smtp_fuzz, replies, .timeout = 60)
{
	static const char *const seeds[] = {
		"250 OK\r\n",
		"250-mx.example\r\n250-SIZE 1000\r\n250 8BITMIME\r\n",
		"421-4.7.28 too fast\r\n421 4.7.28 slow down \xc3\xa9\r\n",
		"550 5.1.1 <a@b.c>: no such user\n",
	};

	run(seeds, ARRAY_SIZE(seeds), 50000, fuzz_reply);
}

Test(smtp_fuzz, messages_and_addresses, .timeout = 60)
{
	static const char *const seeds[] = {
		"A: b\r\nReceived: from x\r\n\tby y\r\n\r\nbody\r\n..dot\r\n.\r\n",
		"a\r\n.\r\nb\n.\r\nc\r.\r\n",
		"<@x.example,@y.example:\"a\\\" b\"@c.example>",
		"<a@[IPv6:2001:db8::1]>",
		"<\xc3\xa9@\xc3\xa9.example>",
	};

	run(seeds, ARRAY_SIZE(seeds), 50000, fuzz_headers);
}
