/*
 * table.h - rows of an answer: a table for people, an array for --json.
 *
 * Rows come one by one and go out as they come; the widths of a table are those of its first rows.
 * Numbers stand right. On a terminal a row takes one line: texts are cut to fit. Titles are bold there.
 */
#ifndef SLUICE_CLI_TABLE_H
#define SLUICE_CLI_TABLE_H

#include "cli/cli.h"

struct table;

/* columns are borrowed, to {.title = NULL}; nothing: said when no row came (NULL: nothing said). */
struct table *table_new(struct cli *cli, const struct column *columns, const char *nothing);
/* The row is borrowed; for --json it is printed as it is. */
void table_add(struct table *t, const json_t *row);
size_t table_count(const struct table *t);
/* Frees without a word: nothing was added. NULL is fine. */
void table_drop(struct table *t);
/* Prints what is left and frees. */
void table_end(struct table *t);

/* "title: value" lines, aligned, of those fields that the object has and that are not empty. */
void table_fields(struct cli *cli, const json_t *object, const struct column *fields);
/* A titled table inside an object's output, nothing when the array is missing or empty. */
void table_inside(struct cli *cli, const char *title, const json_t *array,
		  const struct column *columns);

#endif
