// SPDX-License-Identifier: Apache-2.0
/* The one sink of events. */
#include "base/event.h"

#include "base/banned.h"

static void (*sink)(void *arg, const char *kind, const struct event_field *fields, size_t n);
static void *sink_arg;

void event_sink(void (*fn)(void *arg, const char *kind, const struct event_field *fields, size_t n),
		void *arg)
{
	sink = fn;
	sink_arg = arg;
}

void event_emit(const char *kind, const struct event_field *fields, size_t n)
{
	if (sink)
		sink(sink_arg, kind, fields, n);
}
