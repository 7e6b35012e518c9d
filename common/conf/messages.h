/*
 * messages.h - collects the errors and warnings of a load (struct conf_messages, conf.h). A message
 * owns its text and the name of its file, so that it outlives a configuration that was not made.
 */
#ifndef SLUICE_CONF_MESSAGES_H
#define SLUICE_CONF_MESSAGES_H

#include "common/base/macros.h"
#include "common/conf/conf.h"

void conf_error(struct conf_messages *m, struct conf_origin at, const char *fmt, ...)
	ATTR_PRINTF(3, 4);
void conf_warning(struct conf_messages *m, struct conf_origin at, const char *fmt, ...)
	ATTR_PRINTF(3, 4);
bool conf_messages_have_error(const struct conf_messages *m);
/* Into file order: files in the order of their first message, lines inside a file. */
void conf_messages_sort(struct conf_messages *m);

#endif
