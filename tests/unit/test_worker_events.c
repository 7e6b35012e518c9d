/* links: common/base worker/events.c tests/replay/fake_loop.c */
#include <criterion/criterion.h>

#include "worker/context.h"
#include "worker/events.h"

static struct worker w;
static struct events *e;

static void setup(void)
{
	w = (struct worker){.loop = loop_new()};
	e = NULL;
}

static void teardown(void)
{
	events_free(&w, &e);
	cr_assert_null(e);
	loop_free(w.loop);
}

Test(events, keep_the_last_fifty_in_order, .init = setup, .fini = teardown)
{
	msec_t began = loop_wall(w.loop);

	cr_assert_eq(events_count(e), 0);
	for (unsigned i = 0; i < 120; i++)
		events_add(&w, &e, "event %u", i);
	cr_assert_eq(events_count(e), 50);
	cr_assert_eq(w.event_count, 50);
	cr_assert_str_eq(events_at(e, 0)->text, "event 70");
	cr_assert_str_eq(events_at(e, 49)->text, "event 119");
	cr_assert_geq(events_at(e, 0)->at, began);
	cr_assert_leq(events_at(e, 0)->at, clock_wall());
	events_free(&w, &e);
	cr_assert_eq(w.event_count, 0);
}

Test(events, count_the_same_thing_in_a_row, .init = setup, .fini = teardown)
{
	for (int i = 0; i < 3; i++)
		events_add(&w, &e, "connected to %s", "mx");
	events_add(&w, &e, "closed");
	events_add(&w, &e, "connected to mx");
	cr_assert_eq(events_count(e), 3);
	cr_assert_eq(events_at(e, 0)->count, 3);
	cr_assert_eq(events_at(e, 2)->count, 1);
}

Test(events, of_very_many_sites_are_few, .init = setup, .fini = teardown)
{
	struct events *others[1000] = {NULL};

	for (int i = 0; i < 1000; i++)
		for (unsigned k = 0; k < 50; k++)
			events_add(&w, &others[i], "event %u", k);
	cr_assert_leq(w.event_count, 20000 + 4 * 1000);
	for (unsigned k = 0; k < 50; k++)
		events_add(&w, &e, "event %u", k);
	cr_assert_eq(events_count(e), 4);
	cr_assert_str_eq(events_at(e, 3)->text, "event 49");
	for (int i = 0; i < 1000; i++)
		events_free(&w, &others[i]);
}

Test(events, cut_long_texts, .init = setup, .fini = teardown)
{
	events_add(&w, &e, "%0500d", 7);
	cr_assert_eq(strlen(events_at(e, 0)->text), 200);
}
