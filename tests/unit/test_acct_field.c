/* links: common/base common/conf common/acct */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/acct/field.h"
#include "common/base/buf.h"

#define REFERENCE "docs/reference/accounting-fields.md"

static void read_file(FILE *f, struct buf *b)
{
	int c;

	while ((c = getc(f)) != EOF)
		buf_add_char(b, (char)c);
}

/* Run with WRITE_REFERENCE=1 to write it anew. */
Test(acct_field, reference_is_up_to_date)
{
	struct buf want = BUF_INIT, have = BUF_INIT;
	FILE *made = tmpfile(), *there;

	if (getenv("WRITE_REFERENCE")) {
		there = fopen(REFERENCE, "w");
		cr_assert_not_null(there);
		acct_fields_print_reference(there);
		fclose(there);
	}
	cr_assert_not_null(made);
	acct_fields_print_reference(made);
	rewind(made);
	read_file(made, &want);
	fclose(made);
	there = fopen(REFERENCE, "r");
	cr_assert_not_null(there,
			   REFERENCE " is missing: run this test in the root of the sources");
	read_file(there, &have);
	fclose(there);
	cr_assert(slice_eq(buf_slice(&want), buf_slice(&have)),
		  REFERENCE " is stale: WRITE_REFERENCE=1 make unit-test_acct_field");
	buf_done(&want);
	buf_done(&have);
}

Test(acct_field, names_are_unique_and_aliases_lead_somewhere)
{
	static const char *const aliases[] = {
#define ALIAS(alias, name) alias,
		ACCT_FIELD_ALIASES(ALIAS)
#undef ALIAS
	};

	for (int i = 0; i < ACCT_FIELD_COUNT; i++)
		cr_expect_eq(
			acct_field_find(slice_str(acct_field_get((enum acct_field_id)i)->name)), i);
	for (size_t i = 0; i < ARRAY_SIZE(aliases); i++)
		cr_expect_geq(acct_field_find(slice_str(aliases[i])), 0);
	cr_expect_eq(acct_field_find(slice_str("TIMELOGGED")), ACCT_FIELD_time_logged);
	cr_expect_lt(acct_field_find(slice_str("timelog")), 0);
	cr_expect_lt(acct_field_find(slice_str("")), 0);
}
