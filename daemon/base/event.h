/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What happens, for those who follow it (`firstlight events`): a kind and some words. One sink,
 * set once at the start; without one nothing is done. Loop thread.
 */
#ifndef FIRSTLIGHT_BASE_EVENT_H
#define FIRSTLIGHT_BASE_EVENT_H

#include <stdbool.h>

#include "base/str.h"

#define EVENT_FIELDS_MAX 8

struct event_field {
	const char *key;
	struct str value;
};

bool event_is_kind(const char *kind);

/* Must not suspend; all is valid during the call only. fn NULL = nobody. */
void event_sink(void (*fn)(void *arg, const char *kind, const struct event_field *fields, size_t n),
		void *arg);
/* kind: one that event_is_kind() knows. */
void event_emit(const char *kind, const struct event_field *fields, size_t n);

#endif
