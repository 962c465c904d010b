// SPDX-License-Identifier: Apache-2.0
/* The one sink of events. */
#include "base/event.h"

#include <string.h>

#include "base/err.h"

#include "base/banned.h"

static void (*sink)(void *arg, const char *kind, const struct event_field *fields, size_t n);
static void *sink_arg;

void event_sink(void (*fn)(void *arg, const char *kind, const struct event_field *fields, size_t n),
		void *arg)
{
	sink = fn;
	sink_arg = arg;
}

bool event_is_kind(const char *kind)
{
	static const char *const kinds[] = {"layer-lazy",    "layer-ordinary", "layer-complete",
					    "layer-removed", "read-failed",    "pull-ready",
					    "pull-failed"};

	for (size_t i = 0; i < array_size(kinds); i++) {
		if (strcmp(kinds[i], kind) == 0)
			return true;
	}
	return false;
}

void event_emit(const char *kind, const struct event_field *fields, size_t n)
{
	require(event_is_kind(kind));
	if (sink)
		sink(sink_arg, kind, fields, n);
}
